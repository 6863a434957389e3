// Vectors of numbers, and memory for them.

#pragma once

#include <immintrin.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace {

enum Numbers { BF16, FP32, INT8 };  // as `duotrack.runtime.tile_ops` counts them

template <Numbers N>
constexpr int PARTS = N == FP32 ? 2 : 1;  // tiles that a block takes
template <Numbers N>
constexpr int SIZE = N == FP32 ? 4 : 2;  // bytes of a number that comes in and goes out
template <Numbers N>
constexpr int INPUTS = N == INT8 ? 64 : 32;  // of a block
template <Numbers N>
constexpr Numbers ATTENDED = N == INT8 ? BF16 : N;  // what queries, keys and values are multiplied in

// Of a function for each kind of numbers the one for these
template <class Function>
inline Function chosen(int numbers, Function bf16, Function fp32, Function int8) {
  return numbers == INT8 ? int8 : numbers == FP32 ? fp32 : bf16;
}

constexpr int TILE = 512;  // bfloat16 numbers in a tile

inline size_t whole(size_t bytes, size_t page) { return (bytes + page - 1) / page * page; }
inline size_t whole_pages(size_t bytes) { return whole(bytes, 4096); }

constexpr size_t LARGE = 1 << 21;  // bytes in a large page: the processor finds them faster

class Workspace {  // a thread's memory: the next call needs about as much
 public:
  ~Workspace() { std::free(start); }
  char* get(size_t wanted) {  // null without memory
    if (wanted > size) {
      std::free(start);
      const size_t page = wanted < LARGE ? 4096 : LARGE;
      size = whole(wanted, page);
      start = static_cast<char*>(std::aligned_alloc(page, size));
      if (!start) size = 0;
      if (start && page == LARGE) madvise(start, size, MADV_HUGEPAGE);  // where there are none, pages are ordinary
    }
    return start;
  }

 private:
  char* start = nullptr;
  size_t size = 0;
};

inline __m512 broadcast(float x) { return _mm512_set1_ps(x); }

template <Numbers N>  // 2 to the power of what is not positive, to 1e-7 of itself; for bfloat16 to 8e-5; NaN stays NaN
inline __m512 exp2(__m512 x) {
  const __m512 y = _mm512_max_ps(broadcast(-90.f), x), whole = _mm512_roundscale_ps(y, 8),
               part = _mm512_sub_ps(y, whole);
  __m512 p;
  if constexpr (N == FP32) {
    p = broadcast(1.327647166e-3f);
    for (float each : {9.675541332e-3f, 5.550713275e-2f, 2.402211972e-1f, 6.931469671e-1f, 1.000000072f})
      p = _mm512_fmadd_ps(p, part, broadcast(each));
  } else {
    p = broadcast(5.517165765e-2f);
    for (float each : {2.426111213e-1f, 6.932609876e-1f, 9.999280736e-1f})
      p = _mm512_fmadd_ps(p, part, broadcast(each));
  }
  return _mm512_scalef_ps(p, whole);
}

inline __m512i halves(__m512 first, __m512 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }

inline __m512 widen(__m256i half) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)); }

template <Numbers N>  // 32 numbers, next to one another
inline void put(char* to, __m512 u, __m512 v) {
  if constexpr (N == FP32) {
    _mm512_storeu_ps(to, u);
    _mm512_storeu_ps(to + 64, v);
  } else {
    _mm512_storeu_si512(to, halves(u, v));
  }
}

template <Numbers N>  // 32 numbers, next to one another
inline void take(const char* from, __m512& u, __m512& v) {
  if constexpr (N == FP32) {
    u = _mm512_loadu_ps(from);
    v = _mm512_loadu_ps(from + 64);
  } else {
    const __m512i both = _mm512_loadu_si512(from);
    u = widen(_mm512_castsi512_si256(both));
    v = widen(_mm512_extracti64x4_epi64(both, 1));
  }
}

template <Numbers N>
inline void add(const char* from, __m512& u, __m512& v) {
  __m512 left, right;
  take<N>(from, left, right);
  u = _mm512_add_ps(u, left);
  v = _mm512_add_ps(v, right);
}

}  // namespace
