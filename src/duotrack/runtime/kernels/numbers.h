// Vectors of numbers, and memory for them.

#pragma once

#include <immintrin.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace {

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

template <bool FP32>  // 2 to the power of what is not positive, to 1e-7 of itself; for bfloat16 to 8e-5; NaN stays NaN
inline __m512 exp2(__m512 x) {
  const __m512 y = _mm512_max_ps(broadcast(-90.f), x), whole = _mm512_roundscale_ps(y, 8),
               part = _mm512_sub_ps(y, whole);
  __m512 p;
  if constexpr (FP32) {
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

template <bool FP32>  // 32 numbers, next to one another
inline void put(char* to, __m512 u, __m512 v) {
  if constexpr (FP32) {
    _mm512_storeu_ps(to, u);
    _mm512_storeu_ps(to + 64, v);
  } else {
    _mm512_storeu_si512(to, halves(u, v));
  }
}

template <bool FP32>  // 32 numbers, next to one another
inline void take(const char* from, __m512& u, __m512& v) {
  if constexpr (FP32) {
    u = _mm512_loadu_ps(from);
    v = _mm512_loadu_ps(from + 64);
  } else {
    const __m512i both = _mm512_loadu_si512(from);
    u = widen(_mm512_castsi512_si256(both));
    v = widen(_mm512_extracti64x4_epi64(both, 1));
  }
}

template <bool FP32>
inline void add(const char* from, __m512& u, __m512& v) {
  __m512 left, right;
  take<FP32>(from, left, right);
  u = _mm512_add_ps(u, left);
  v = _mm512_add_ps(v, right);
}

}  // namespace
