// Products on processors that multiply vectors of bfloat16 and sum in float32 (AVX-512 BF16), and bytes and sum in 32
// bits (VNNI): AMD's since Zen 4.
//
// float32 is multiplied as it is: of the two parts of a tile, the first are 16 inputs of each row, the second the other
// 16. Where bfloat16 has a pair of inputs, float32 has one.

#pragma once

#include <cstring>

#include "numbers.h"

namespace {

struct Units {  // a thread's, for as long as it multiplies: there is nothing to be set
  Units() {}
};

inline bool units_ready() { return true; }

template <Numbers N>
constexpr int CHUNK = 24;  // blocks of a panel at a time
constexpr int AHEAD = 32;  // of 32 lines of the next panel

template <Numbers N>  // 32 numbers as one line of a tile; of float32 the second half as one of the tile after it
inline void lay(__m512 u, __m512 v, uint16_t* line) {
  if constexpr (N == FP32) {
    _mm512_store_ps(line, u);
    _mm512_store_ps(line + TILE, v);
  } else {
    _mm512_store_si512(line, halves(u, v));
  }
}

template <Numbers N>  // 16 numbers of inputs `input` (even) and the next, of a block of what is multiplied with
inline void lay_inputs(__m512 even, __m512 odd, int input, uint16_t* tile) {
  if constexpr (N == FP32) {
    uint16_t* line = tile + input / 16 * 2 * TILE + input % 16 * 32;
    _mm512_store_ps(line, even);
    _mm512_store_ps(line + 32, odd);
  } else {
    const __m512i pairs = halves(even, odd);
    const __m512i first = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(pairs));
    const __m512i second = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(pairs, 1));
    _mm512_store_si512(tile + input * 16, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
  }
}

template <Numbers N>
inline __m512 multiply_add(__m512 sum, __m512i x, __m512i w) {
  if constexpr (N == FP32) return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sum);
  if constexpr (N == INT8) return _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), x, w));
  return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

constexpr int STRIP = 8;  // rows whose sums are in registers: 16 of 32, in which no product waits for the one before

// `count` blocks, the last a whole or half one, of `STRIP` rows from `row` times those of a panel, onto `begin(row,
// left, right)`; `end(row, left, right)` has what comes of it. Inlined, it once had sums in memory: a quarter slower.
// `between` is called with each `every`th block, from `first` on.
template <Numbers N, class Between, class Begin, class End>
__attribute__((noinline)) void multiply_strip(const uint16_t* a, const uint16_t* w, int count, bool half, int row,
                                              int first, int every, const Between& between, const Begin& begin,
                                              const End& end) {
  __m512 left[STRIP], right[STRIP];
#pragma GCC unroll 8
  for (int r = 0; r < STRIP; r++) begin(row + r, left[r], right[r]);
  for (int i = 0; i < count; i++) {
    if (i % every == first) between();
    for (int part = 0; part < PARTS<N>; part++, a += TILE, w += 2 * TILE)
      for (int k = 0; k < (N == INT8 && half && i + 1 == count ? 16 : 32); k += 2) {
        const __m512i u = _mm512_load_si512(w + k * 16), v = _mm512_load_si512(w + TILE + k * 16);
#pragma GCC unroll 8
        for (int r = 0; r < STRIP; r++) {
          int inputs;
          std::memcpy(&inputs, a + r * 32 + k, 4);
          const __m512i x = _mm512_set1_epi32(inputs);
          left[r] = multiply_add<N>(left[r], x, u);
          right[r] = multiply_add<N>(right[r], x, v);
        }
      }
  }
#pragma GCC unroll 8
  for (int r = 0; r < STRIP; r++) end(row + r, left[r], right[r]);
}

template <Numbers N, class Between, class Begin, class End>
inline void multiply_strips(const uint16_t* a, size_t tile_row, int rows, const uint16_t* w, int count, bool half,
                            const Between& between, const Begin& begin, const End& end) {
  const int strips = (rows + STRIP - 1) / STRIP;
  for (int strip = 0; strip < strips; strip++)
    multiply_strip<N>(a + strip / 2 * tile_row + strip % 2 * STRIP * 32, w, count, half, strip * STRIP, strip, strips,
                      between, begin, end);
  for (int row = strips * STRIP; row < 32; row++) {  // those that are not there
    __m512 left, right;
    begin(row, left, right);
    end(row, left, right);
  }
}

// `count` blocks of up to 32 rows, the tiles `a` and those `tile_row` after them, times those of a panel; sums of
// others are zeros. `between` is called with each block. The products are added to `sums`, whose rows are `stride`
// bytes apart, if these are not `fresh`.
template <Numbers N, class Between>
inline void multiply(const uint16_t* a, size_t tile_row, int rows, const uint16_t* w, int count, float* sums,
                     long stride, bool fresh, const Between& between) {
  const long step = stride / 4;
  const auto begin = [=](int row, __m512& left, __m512& right) {
    left = fresh ? _mm512_setzero_ps() : _mm512_load_ps(sums + row * step);
    right = fresh ? _mm512_setzero_ps() : _mm512_load_ps(sums + row * step + 16);
  };
  const auto end = [=](int row, __m512 left, __m512 right) {
    _mm512_store_ps(sums + row * step, left);
    _mm512_store_ps(sums + row * step + 16, right);
  };
  multiply_strips<N>(a, tile_row, rows, w, count, false, between, begin, end);
}

// The same of bytes, of the last block only a half if the other is zeros; `done(row, left, right)` has each row's sums.
template <class Between, class Done>
inline void multiply_bytes(const uint16_t* a, size_t tile_row, int rows, const uint16_t* w, int count, bool half,
                           const Between& between, const Done& done) {
  const auto begin = [](int, __m512& left, __m512& right) { left = right = _mm512_setzero_ps(); };
  const auto end = [&](int row, __m512 left, __m512 right) {
    done(row, _mm512_castps_si512(left), _mm512_castps_si512(right));
  };
  multiply_strips<INT8>(a, tile_row, rows, w, count, half, between, begin, end);
}

}  // namespace
