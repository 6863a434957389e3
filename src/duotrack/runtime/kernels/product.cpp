// Rows of inputs times weights: linear layers, and convolutions that keep their grid.

#include <utility>

#include "layers.h"

namespace {

constexpr int SPAN = 24;   // blocks of inputs laid out at a time: they stay in the second-level cache
constexpr int GROUP = 12;  // pairs of tiles of rows multiplied at a time
thread_local Workspace workspace;

struct Target {
  char* start;
  long stride;
  const float* bias;
};

template <bool FP32>
void finish(const float* sums, const Target& to, int row, int rows, int output) {
  const __m512 left = _mm512_loadu_ps(to.bias + output), right = _mm512_loadu_ps(to.bias + output + 16);
  for (int r = 0; r < rows; r++) {
    const __m512 u = _mm512_add_ps(_mm512_load_ps(sums + r * 32), left);
    const __m512 v = _mm512_add_ps(_mm512_load_ps(sums + r * 32 + 16), right);
    put<FP32>(to.start + ((row + r) * to.stride + output) * (FP32 ? 4 : 2), u, v);
  }
}

struct Share {  // of the work, one thread's: pairs of tiles of rows, and panels
  int pair, pairs, panel, panels;
};

template <bool FP32>
size_t memory_for(int blocks, const Share& of) {  // bytes: rows as tiles, then sums
  const int span = std::min(SPAN, blocks), sums = blocks > span ? of.panels : 1;
  return of.pairs * (static_cast<size_t>(span) * (FP32 ? 4 : 2) * TILE * 2 + static_cast<size_t>(sums) * 4096);
}

template <bool FP32>
void product(const Source& from, const Share& share, const uint16_t* weights, const Target& to, char* memory) {
  constexpr int PARTS = FP32 ? 2 : 1;
  const int blocks = from.channels / 32 * from.side * from.side, span = std::min(SPAN, blocks);
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
        if (last) finish<FP32>(sum, to, row, std::min(32, from.rows - row), output);
      };
      float* own = sums + (blocks > span ? j : 0) * static_cast<size_t>(share.pairs) * 1024;
      pass<FP32>(laid, tile_row, share.pairs, w, length, w + panel, own, s == 0, where, done);
    }
  }
}

// Each thread has outputs of its own, so that weights are read once; or rows of its own, where outputs are few, or rows
// so many that weights are read again and again anyway. It lays out its rows by itself: tiles that another core has
// just written come to it no faster.
template <bool FP32>
bool products(const Source& from, const uint16_t* weights, int outputs, const Target& to, int threads) {
  const int blocks = from.channels / 32 * from.side * from.side, panels = outputs / 32;
  const int pairs = (from.rows + 31) / 32;
  const size_t each = (memory_for<FP32>(blocks, {0, std::min(pairs, GROUP), 0, panels}) + 4095) / 4096 * 4096;
  char* memory = workspace.get(each * threads);
  if (!memory) return false;
#pragma omp parallel num_threads(threads)
  {
    const int team = omp_get_num_threads(), me = omp_get_thread_num();
    _tile_loadconfig(&CONFIG);
    const bool by_rows = panels < team || pairs >= GROUP * team;
    const auto part = [&](int of) { return std::pair(of * me / team, of * (me + 1) / team); };
    const auto [first, end] = by_rows ? part(pairs) : std::pair(0, pairs);
    const auto [panel, last] = by_rows ? std::pair(0, panels) : part(panels);
    for (int pair = first; pair < end; pair += GROUP)
      product<FP32>(from, {pair, std::min(GROUP, end - pair), panel, last - panel}, weights, to, memory + me * each);
    _tile_release();
  }
  return true;
}

}  // namespace

// Whether it was done; otherwise there is no memory for it. `wide`: float32 rather than bfloat16, on both sides.
extern "C" int tiles_product(const char* from, long from_stride, int rows, int channels, int height, int width,
                             int side, const uint16_t* weights, const float* bias, int outputs, int wide, char* to,
                             long to_stride, int threads) {
  const Source source{from, from_stride, rows, channels, height, width, side};
  const Target target{to, to_stride, bias};
  return (wide ? products<true> : products<false>)(source, weights, outputs, target, threads);
}
