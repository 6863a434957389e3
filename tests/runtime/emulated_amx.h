// The instructions of Intel's matrix units, in vectors: included before `kernels/`, on processors that have no such
// units.

#pragma once

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_dpbusd
#define syscall(...) 0  // the system lets programs use them

namespace {

struct Tile {
  alignas(64) char lines[16][64];
};
thread_local Tile tiles[8];
thread_local bool configured = false;

inline Tile& tile(int number) {
  if (!configured) __builtin_trap();  // as the units do
  return tiles[number];
}

inline void _tile_loadconfig(const void*) { configured = true; }

inline void _tile_release() { configured = false; }

inline void _tile_zero(int to) { tile(to) = Tile(); }

inline void _tile_loadd(int to, const void* from, long stride) {
  for (int r = 0; r < 16; r++) std::memcpy(tile(to).lines[r], static_cast<const char*>(from) + r * stride, 64);
}

inline void _tile_stored(int from, void* to, long stride) {
  for (int r = 0; r < 16; r++) std::memcpy(static_cast<char*>(to) + r * stride, tile(from).lines[r], 64);
}

template <class Add>
inline void multiply(int sums, int rows, int weights, const Add& add) {
  for (int r = 0; r < 16; r++) {
    __m512i sum = _mm512_load_si512(tile(sums).lines[r]);
    for (int k = 0; k < 16; k++) {
      int inputs;
      std::memcpy(&inputs, tile(rows).lines[r] + 4 * k, 4);
      sum = add(sum, _mm512_set1_epi32(inputs), _mm512_load_si512(tile(weights).lines[k]));
    }
    _mm512_store_si512(tile(sums).lines[r], sum);
  }
}

inline void _tile_dpbf16ps(int sums, int rows, int weights) {
  multiply(sums, rows, weights, [](__m512i sum, __m512i pair, __m512i line) {
    return (__m512i)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pair, (__m512bh)line);
  });
}

inline void _tile_dpbusd(int sums, int rows, int weights) {
  multiply(sums, rows, weights,
           [](__m512i sum, __m512i four, __m512i line) { return _mm512_dpbusd_epi32(sum, four, line); });
}

}  // namespace
