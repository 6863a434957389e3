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

template <bool FP32>
void write(const float* sums, const Target& to, int row, int rows, int output) {
  const __m512 left = _mm512_loadu_ps(to.bias + output), right = _mm512_loadu_ps(to.bias + output + 16);
  for (int r = 0; r < rows; r++) {
    const long at = ((row + r) * to.stride + output) * (FP32 ? 4 : 2);
    __m512 u = _mm512_add_ps(_mm512_load_ps(sums + r * 32), left);
    __m512 v = _mm512_add_ps(_mm512_load_ps(sums + r * 32 + 16), right);
    if (to.onto) add<FP32>(to.onto + at, u, v);
    if (to.relu) {
      u = _mm512_max_ps(_mm512_setzero_ps(), u);  // NaN stays
      v = _mm512_max_ps(_mm512_setzero_ps(), v);
    }
    put<FP32>(to.start + at, u, v);
  }
}

inline int inputs_of(const Source& from) { return from.channels / 32 * from.side * from.side; }  // in blocks

struct Share {  // of the work, one thread's: pairs of tiles of rows, and panels
  int pair, pairs, panel, panels;
};

template <bool FP32>
void product(const Source& from, const Share& share, const uint16_t* weights, const Target& to, char* memory) {
  constexpr int PARTS = FP32 ? 2 : 1;
  const int blocks = inputs_of(from), span = std::min(SPAN, blocks);
  const int rows = std::min(share.pairs * 32, from.rows - share.pair * 32);
  const size_t tile_row = static_cast<size_t>(span) * PARTS * TILE, panel = blocks * PARTS * 2 * TILE;
  uint16_t* laid = reinterpret_cast<uint16_t*>(memory);
  float* sums = reinterpret_cast<float*>(laid + share.pairs * 2 * tile_row);
  for (int s = 0; s < blocks; s += span) {
    const int length = std::min(span, blocks - s);
    const bool last = s + length == blocks;
    for (int i = 0; i < share.pairs * 2; i++)
      pack_rows<FP32>(from, share.pair * 32 + i * 16, s, length, laid + i * tile_row);
    for (int j = 0; j < share.panels; j++) {
      const int output = (share.panel + j) * 32;
      const uint16_t* w = weights + (share.panel + j) * panel + static_cast<size_t>(s) * PARTS * 2 * TILE;
      const auto where = [&](int p) {
        const long at = ((share.pair + p) * 32) * to.stride + output;
        return last ? Written{to.start + at * (PARTS * 2), to.stride * PARTS * 2} : Written();
      };
      const auto done = [&](int p, const float* sum) {
        const int row = (share.pair + p) * 32;
        if (last) write<FP32>(sum, to, row, std::min(32, from.rows - row), output);
      };
      float* own = sums + (blocks > span ? j : 0) * static_cast<size_t>(share.pairs) * 1024;
      pass<FP32>(laid, tile_row, rows, w, length, w + panel, own, s == 0, where, done);
    }
  }
}

template <bool FP32>
size_t products_memory(const Source& from, int outputs) {  // bytes a thread: rows as tiles, then sums
  const int pairs = std::min((from.rows + 31) / 32, GROUP), span = std::min(SPAN, inputs_of(from));
  const int panels = inputs_of(from) > span ? outputs / 32 : 1;
  return tiles_size<FP32>(pairs, span) * 2 + static_cast<size_t>(pairs) * panels * 4096;
}

// What thread `me` of `team` does of it. Each has outputs of its own, so that weights are read once; or rows of its
// own, where outputs are few, or rows so many that weights are read again and again anyway. It lays out its rows by
// itself: tiles that another core has just written come to it no faster.
template <bool FP32>
void products(const Source& from, const uint16_t* weights, int outputs, const Target& to, int team, int me,
              char* memory) {
  const int panels = outputs / 32, pairs = (from.rows + 31) / 32;
  const bool by_rows = panels < team || pairs >= GROUP * team;
  const auto part = [&](int of) { return std::pair(of * me / team, of * (me + 1) / team); };
  const auto [first, end] = by_rows ? part(pairs) : std::pair(0, pairs);
  const auto [panel, last] = by_rows ? std::pair(0, panels) : part(panels);
  for (int pair = first; pair < end; pair += GROUP)
    product<FP32>(from, {pair, std::min(GROUP, end - pair), panel, last - panel}, weights, to, memory);
}

}  // namespace
