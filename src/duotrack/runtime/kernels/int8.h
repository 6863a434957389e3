// 8 bits: the numbers of a row are whole multiples of a step of its own, the weights of an output of another. Whole
// numbers are multiplied and summed exactly; what comes in and goes out is bfloat16. A row has a step for as many of
// its inputs as are laid out at a time.

#pragma once

#include <cmath>

#include "numbers.h"

namespace {

constexpr int MIDDLE = 128;  // what zero is stored as, where numbers have either sign: bytes have none
constexpr int LOW = 16;      // and in rows of what comes of a GELU, which is not below -`LOWEST`, unless they are small
constexpr float LOWEST = .17f;

// The step of a row, negative where it differs from others in that its zero is in the middle.
struct Step {
  float size, inverse;
  int zero;
};

inline __m512i larger(__m512i top, __m512 x) {  // than its bits: NaN is the largest of all
  return _mm512_max_epi32(top, _mm512_castps_si512(_mm512_abs_ps(x)));
}

inline Step step_of(__m512i top, int zero) {
  const float highest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(top))));
  const bool small = zero == LOW && highest < LOWEST / LOW * 127.f;  // then 127 steps up and down are the finer ones
  const float size = zero == MIDDLE || small ? highest / 127.f : std::max(highest / (255 - LOW), LOWEST / LOW);
  return {small ? -size : size, size > 1e-30f ? 1.f / size : 0.f, small ? MIDDLE : zero};  // NaN stays
}

inline void lay_bytes(__m512 u, __m512 v, float inverse, int zero, char* line) {  // 32 numbers
  const auto bytes = [&](__m512 x) {
    const __m512i whole =
        _mm512_cvtps_epi32(_mm512_fmadd_ps(x, broadcast(inverse), broadcast(static_cast<float>(zero))));
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(_mm512_setzero_si512(), whole));
  };
  _mm_store_si128(reinterpret_cast<__m128i*>(line), bytes(u));
  _mm_store_si128(reinterpret_cast<__m128i*>(line + 16), bytes(v));
}

// Behind a panel's blocks lie the steps of its 32 outputs, then for each block the sums of their weights.
struct Outputs {
  const float* steps;
  const int* sums;
};

inline Outputs outputs_of(const uint16_t* panel, int blocks) {
  const uint16_t* end = panel + static_cast<size_t>(blocks) * 2 * TILE;
  return {reinterpret_cast<const float*>(end), reinterpret_cast<const int*>(end + 64)};
}

// What becomes of a panel's sums of whole numbers: numbers, 32 x 32 of them, added to those at `sums` unless `fresh`.
struct Measure {
  __m512 steps[2];        // of outputs
  __m512i offsets[2][2];  // what comes of `zero`, and where that is in the middle
  const float* rows[2];   // the steps of 16 rows each
  float* sums;
  bool fresh;

  Measure() = default;
  Measure(const Outputs& of, int first, int count, int zero, bool fresh) : fresh(fresh) {  // blocks that are summed
    for (int side = 0; side < 2; side++) {
      steps[side] = _mm512_load_ps(of.steps + side * 16);
      __m512i sum = _mm512_setzero_si512();
      for (int block = first; block < first + count; block++)
        sum = _mm512_add_epi32(sum, _mm512_load_si512(of.sums + block * 32 + side * 16));
      offsets[0][side] = _mm512_mullo_epi32(sum, _mm512_set1_epi32(zero));
      offsets[1][side] = _mm512_mullo_epi32(sum, _mm512_set1_epi32(MIDDLE));
    }
  }

  void operator()(int row, __m512i left, __m512i right) const {
    const float size = rows[row / 16][row % 16];
    const __m512 by = broadcast(std::fabs(size));
    const __m512i whole[2] = {left, right};
    for (int side = 0; side < 2; side++) {
      float* to = sums + row * 32 + side * 16;
      const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(whole[side], offsets[size < 0.f][side]));
      const __m512 onto = fresh ? _mm512_setzero_ps() : _mm512_load_ps(to);
      _mm512_store_ps(to, _mm512_fmadd_ps(exact, _mm512_mul_ps(steps[side], by), onto));
    }
  }
};

}  // namespace
