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

inline void _tile_dpbf16ps(int sums, int rows, int weights) {
  for (int r = 0; r < 16; r++) {
    __m512 sum = _mm512_load_ps(tile(sums).lines[r]);
    for (int k = 0; k < 16; k++) {
      int pair;
      std::memcpy(&pair, tile(rows).lines[r] + 4 * k, 4);
      const __m512i line = _mm512_load_si512(tile(weights).lines[k]);
      sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)line);
    }
    _mm512_store_ps(tile(sums).lines[r], sum);
  }
}

}  // namespace
