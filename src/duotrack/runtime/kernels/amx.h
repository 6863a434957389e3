// Products on the matrix units of Intel's processors, which multiply bfloat16 and sum in float32, or bytes and sum in
// 32 bits.
//
// float32 is multiplied as three such products. A number is the sum of two bfloat16 halves to 2^-17 of itself, and
// x w = xh wh + xl wh + xh wl; what is left out, xl wl, is as small as that. So of the two parts of a tile the first
// are high halves, the second low ones; each is pairs of inputs.

#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include "numbers.h"

namespace {

// What `_tile_loadconfig` reads. In memory that is never written: some versions of g++ take it for reading 8 bytes
// only, and leave out what fills the rest.
struct Config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
alignas(64) constexpr Config CONFIG;

struct Units {  // a thread's, for as long as it multiplies
  Units() { _tile_loadconfig(&CONFIG); }
  ~Units() { _tile_release(); }
};

// Whether this process may use them: Linux wants to be asked (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
inline bool units_ready() { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

template <Numbers N>
constexpr int CHUNK = N == FP32 ? 24 : 8;  // blocks of a panel at a time: so few that a first-level cache holds them
                                           // help bfloat16
constexpr int AHEAD = 16;                  // of 32 lines of the next panel: the rest comes in time by itself

template <Numbers N>  // 32 numbers as one line of a tile, and what they lack of float32 as one of the tile after it
inline void lay(__m512 u, __m512 v, uint16_t* line) {
  const __m512i high = halves(u, v);
  _mm512_store_si512(line, high);
  if constexpr (N == FP32) {
    const __m512 rest = _mm512_sub_ps(u, widen(_mm512_castsi512_si256(high)));
    _mm512_store_si512(line + TILE, halves(rest, _mm512_sub_ps(v, widen(_mm512_extracti64x4_epi64(high, 1)))));
  }
}

inline __m512i high_half(__m512 x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)); }

template <Numbers N>  // 16 numbers of inputs `input` (even) and the next, of a block of what is multiplied with
inline void lay_inputs(__m512 even, __m512 odd, int input, uint16_t* tile) {
  for (int part = 0; part < PARTS<N>; part++) {
    const __m512i first = high_half(even), second = _mm512_slli_epi32(high_half(odd), 16);
    _mm512_store_si512(tile + part * 2 * TILE + input * 16, _mm512_or_si512(first, second));
    even = _mm512_sub_ps(even, _mm512_castsi512_ps(_mm512_slli_epi32(first, 16)));
    odd = _mm512_sub_ps(odd, _mm512_castsi512_ps(second));
  }
}

// The sums of 32 rows and 32 outputs are in four tile registers, and lie in memory as 32 rows `stride` bytes apart.
// To the compiler a tile's load reads no memory: what is stored before it has to be kept there.
inline void stored() { asm volatile("" ::: "memory"); }

inline void sums_zero() {
  stored();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline void sums_load(const float* from, long stride) {
  stored();
  _tile_loadd(0, from, stride);
  _tile_loadd(1, from + 16, stride);
  _tile_loadd(2, from + 4 * stride, stride);
  _tile_loadd(3, from + 4 * stride + 16, stride);
}

inline void sums_store(float* to, long stride) {
  _tile_stored(0, to, stride);
  _tile_stored(1, to + 16, stride);
  _tile_stored(2, to + 4 * stride, stride);
  _tile_stored(3, to + 4 * stride + 16, stride);
}

template <Numbers N>
inline void multiply_tiles() {
  if constexpr (N == INT8) {
    _tile_dpbusd(0, 6, 4);
    _tile_dpbusd(1, 6, 5);
    _tile_dpbusd(2, 7, 4);
    _tile_dpbusd(3, 7, 5);
  } else {
    _tile_dpbf16ps(0, 6, 4);
    _tile_dpbf16ps(1, 6, 5);
    _tile_dpbf16ps(2, 7, 4);
    _tile_dpbf16ps(3, 7, 5);
  }
}

template <Numbers N>
inline void multiply_block(const uint16_t* a, const uint16_t* b, const uint16_t* w) {
  _tile_loadd(4, w, 64);
  _tile_loadd(5, w + TILE, 64);
  if constexpr (N == FP32) {
    _tile_loadd(6, a + TILE, 64);
    _tile_loadd(7, b + TILE, 64);
    multiply_tiles<N>();
  }
  _tile_loadd(6, a, 64);
  _tile_loadd(7, b, 64);
  multiply_tiles<N>();
  if constexpr (N == FP32) {
    _tile_loadd(4, w + 2 * TILE, 64);
    _tile_loadd(5, w + 3 * TILE, 64);
    multiply_tiles<N>();
  }
}

// `count` blocks of 32 rows, the tiles `a` and those `tile_row` after them, times those of a panel; those that are
// not there cost as much. `between` is called with each block. The products are added to `sums`, whose rows
// are `stride` bytes apart, if these are not `fresh`.
template <Numbers N, class Between>
inline void multiply(const uint16_t* a, size_t tile_row, int, const uint16_t* w, int count, float* sums, long stride,
                     bool fresh, const Between& between) {
  if (fresh)
    sums_zero();
  else
    sums_load(sums, stride);
  for (int i = 0; i < count; i++, a += PARTS<N> * TILE, w += PARTS<N> * 2 * TILE) {
    between();
    multiply_block<N>(a, a + tile_row, w);
  }
  sums_store(sums, stride);
}

// The same of bytes; `done(row, left, right)` has each row's sums. Half a block costs as much as a whole one.
template <class Between, class Done>
inline void multiply_bytes(const uint16_t* a, size_t tile_row, int rows, const uint16_t* w, int count, bool,
                           const Between& between, const Done& done) {
  alignas(64) float sums[1024];
  multiply<INT8>(a, tile_row, rows, w, count, sums, 128, true, between);
  for (int row = 0; row < 32; row++)
    done(row, _mm512_load_si512(sums + row * 32), _mm512_load_si512(sums + row * 32 + 16));
}

}  // namespace
