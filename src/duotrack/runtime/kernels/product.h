// Rows of inputs times weights, as one of several threads.

#pragma once

#include <utility>

#include "layers.h"

namespace {

constexpr int SPAN = 24;  // blocks of inputs laid out at a time: they stay in the second-level cache

struct Target {
  char* start;
  long stride;
  const float* bias;
  const char* onto = nullptr;  // what is added, if anything: numbers that lie as those at `start`
  bool relu = false;
};

template <Numbers N>
void write(const float* sums, const Target& to, int row, int rows, int output) {
  const __m512 left = _mm512_loadu_ps(to.bias + output), right = _mm512_loadu_ps(to.bias + output + 16);
  for (int r = 0; r < rows; r++) {
    const long at = ((row + r) * to.stride + output) * SIZE<N>;
    __m512 u = _mm512_add_ps(_mm512_load_ps(sums + r * 32), left);
    __m512 v = _mm512_add_ps(_mm512_load_ps(sums + r * 32 + 16), right);
    if (to.onto) add<N>(to.onto + at, u, v);
    if (to.relu) {
      u = _mm512_max_ps(_mm512_setzero_ps(), u);  // NaN stays
      v = _mm512_max_ps(_mm512_setzero_ps(), v);
    }
    put<N>(to.start + at, u, v);
  }
}

template <Numbers N>
inline int blocks_of(const Source& from) {
  return blocks_of<N>(from.channels * from.side * from.side);
}

struct Share {  // of the work, one thread's: pairs of tiles of rows, and panels
  int pair, pairs, panel, panels;
};

template <Numbers N>
void product(const Source& from, const Share& share, const uint16_t* weights, const Target& to, char* memory) {
  const int inputs = from.channels * from.side * from.side, blocks = blocks_of<N>(inputs);
  const int span = std::min(SPAN, blocks);
  const int rows = std::min(share.pairs * 32, from.rows - share.pair * 32);
  const size_t row = tile_row<N>(span), panel = panel_size<N>(blocks);
  uint16_t* laid = reinterpret_cast<uint16_t*>(memory);
  float* sums = reinterpret_cast<float*>(laid + share.pairs * 2 * row);
  for (int s = 0; s < blocks; s += span) {
    const int length = std::min(span, blocks - s);
    const bool last = s + length == blocks;
    for (int i = 0; i < share.pairs * 2; i++) pack_rows<N>(from, share.pair * 32 + i * 16, s, length, laid + i * row);
    for (int j = 0; j < share.panels; j++) {
      const int output = (share.panel + j) * 32;
      const uint16_t* w = weights + (share.panel + j) * panel;
      const auto where = [&](int p) {
        const long at = ((share.pair + p) * 32) * to.stride + output;
        return last ? Written{to.start + at * (PARTS<N> * 2), to.stride * PARTS<N> * 2} : Written();
      };
      const auto done = [&](int p, const float* sum) {
        const int row = (share.pair + p) * 32;
        if (last) write<N>(sum, to, row, std::min(32, from.rows - row), output);
      };
      float* own = sums + (blocks > span ? j : 0) * static_cast<size_t>(share.pairs) * 1024;
      const uint16_t* next = w + panel + static_cast<size_t>(s) * PARTS<N> * 2 * TILE;
      pass<N>(laid, row, rows, {w, blocks, s, length, last && whole_panel<N>(w, inputs).half}, next, own, s == 0, where,
              done);
    }
  }
}

template <Numbers N>
size_t products_memory(const Source& from, int outputs) {  // bytes a thread: rows as tiles, then sums
  const int pairs = std::min((from.rows + 31) / 32, GROUP), span = std::min(SPAN, blocks_of<N>(from));
  const int panels = blocks_of<N>(from) > span ? outputs / 32 : 1;
  return tiles_size<N>(pairs, span) * 2 + static_cast<size_t>(pairs) * panels * 4096;
}

// What thread `me` of `team` does of it. Each has outputs of its own, so that weights are read once; or rows of its
// own, where outputs are few, or rows so many that weights are read again and again anyway. It lays out its rows by
// itself: tiles that another core has just written come to it no faster.
template <Numbers N>
void products(const Source& from, const uint16_t* weights, int outputs, const Target& to, int team, int me,
              char* memory) {
  const int panels = outputs / 32, pairs = (from.rows + 31) / 32;
  const bool by_rows = panels < team || pairs >= GROUP * team;
  const auto part = [&](int of) { return std::pair(of * me / team, of * (me + 1) / team); };
  const auto [first, end] = by_rows ? part(pairs) : std::pair(0, pairs);
  const auto [panel, last] = by_rows ? std::pair(0, panels) : part(panels);
  for (int pair = first; pair < end; pair += GROUP)
    product<N>(from, {pair, std::min(GROUP, end - pair), panel, last - panel}, weights, to, memory);
}

}  // namespace
