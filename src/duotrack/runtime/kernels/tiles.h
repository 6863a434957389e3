// Products on the matrix units of Intel's processors (AMX), which multiply bfloat16 and sum in float32.
//
// float32 is multiplied as three such products. A number is the sum of two bfloat16 halves to 2^-17 of itself, and
// x w = xh wh + xl wh + xh wl; what is left out, xl wl, is as small as that. `duotrack.runtime.tile_library`
// compiles these files, `tile_ops`, `tile_block_ops`, `tile_scan` and `tile_adapters` hand in the pointers.
//
// A tile is 16 lines of 32 numbers. Rows to be multiplied lie as tiles (blocks of 32 inputs, parts, 16 rows, 32
// inputs); what they are multiplied with as (panels of 32 outputs, blocks, parts, 2, 16 pairs of inputs, 16 outputs,
// 2). Parts are one, or for float32 (`FP32`) the high halves and then the low ones.

#pragma once

#include <immintrin.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace {

constexpr int TILE = 512;  // bfloat16 numbers in a tile

// What `_tile_loadconfig` reads. In memory that is never written: some versions of g++ take it for reading 8 bytes
// only, and leave out what fills the rest.
struct Config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
alignas(64) constexpr Config CONFIG;

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

template <bool FP32>  // 32 numbers as one line of a tile, and what they lack of float32 as one of the tile after it
inline void lay(__m512 u, __m512 v, uint16_t* line) {
  const __m512i high = halves(u, v);
  _mm512_store_si512(line, high);
  if constexpr (FP32) {
    const __m512 rest = _mm512_sub_ps(u, widen(_mm512_castsi512_si256(high)));
    _mm512_store_si512(line + TILE, halves(rest, _mm512_sub_ps(v, widen(_mm512_extracti64x4_epi64(high, 1)))));
  }
}

template <bool FP32>
inline void lay(const char* from, uint16_t* line) {
  if constexpr (FP32) {
    const float* source = reinterpret_cast<const float*>(from);
    lay<true>(_mm512_loadu_ps(source), _mm512_loadu_ps(source + 16), line);
  } else {
    _mm512_store_si512(line, _mm512_loadu_si512(from));
  }
}

template <bool FP32>
inline void lay_nothing(uint16_t* line) {
  for (int part = 0; part < (FP32 ? 2 : 1); part++) _mm512_store_si512(line + part * TILE, _mm512_setzero_si512());
}

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

inline void multiply_tiles() {
  _tile_dpbf16ps(0, 6, 4);
  _tile_dpbf16ps(1, 6, 5);
  _tile_dpbf16ps(2, 7, 4);
  _tile_dpbf16ps(3, 7, 5);
}

template <bool FP32>  // add one block's products: `a` and `b` are tiles of rows, `w` one panel's tiles
inline void multiply(const uint16_t* a, const uint16_t* b, const uint16_t* w) {
  _tile_loadd(4, w, 64);
  _tile_loadd(5, w + TILE, 64);
  if constexpr (FP32) {
    _tile_loadd(6, a + TILE, 64);
    _tile_loadd(7, b + TILE, 64);
    multiply_tiles();
  }
  _tile_loadd(6, a, 64);
  _tile_loadd(7, b, 64);
  multiply_tiles();
  if constexpr (FP32) {
    _tile_loadd(4, w + 2 * TILE, 64);
    _tile_loadd(5, w + 3 * TILE, 64);
    multiply_tiles();
  }
}

}  // namespace
