// Scaled dot-product attention, a head at a time: whole rows of its scores fit in a cache.

#include <sys/syscall.h>
#include <unistd.h>

#include "tiles.h"

namespace {

thread_local Workspace workspace;

struct Tokens {  // (samples, heads, count, width), the last next to one another; strides in numbers
  const char* start;
  long sample, head, row;
  int count;
};

template <bool FP32>
inline const char* token(const Tokens& of, int sample, int head, int at) {
  return of.start + (sample * of.sample + head * of.head + at * of.row) * (FP32 ? 4 : 2);
}

template <bool FP32>  // 16 tokens from `first`, all of their width
void lay_rows(const Tokens& from, int sample, int head, int first, int blocks, uint16_t* to) {
  constexpr int PARTS = FP32 ? 2 : 1;
  for (int r = 0; r < 16; r++)
    for (int block = 0; block < blocks; block++) {
      uint16_t* line = to + block * PARTS * TILE + r * 32;
      if (first + r < from.count)
        lay<FP32>(token<FP32>(from, sample, head, first + r) + block * (FP32 ? 128 : 64), line);
      else
        lay_nothing<FP32>(line);
    }
}

template <bool FP32>  // keys as what is multiplied with: outputs are keys, inputs their numbers
void lay_keys(const Tokens& from, int sample, int head, int panels, int blocks, uint16_t* scratch, uint16_t* to) {
  constexpr int PARTS = FP32 ? 2 : 1;
  const __m512i lines =
      _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(16));
  for (int tile = 0; tile < panels * 2; tile++) {
    lay_rows<FP32>(from, sample, head, tile * 16, blocks, scratch);
    for (int block = 0; block < blocks; block++)
      for (int part = 0; part < PARTS; part++) {
        const uint16_t* rows = scratch + (block * PARTS + part) * TILE;
        uint16_t* out = to + (((tile / 2 * blocks + block) * PARTS + part) * 2 + tile % 2) * TILE;
        for (int pair = 0; pair < 16; pair++)
          _mm512_store_si512(out + pair * 32, _mm512_i32gather_epi32(lines, rows + pair * 2, 4));
      }
  }
}

template <bool FP32>
inline __m512 load_numbers(const Tokens& from, int sample, int head, int at, int column) {
  if (at >= from.count) return _mm512_setzero_ps();
  const char* source = token<FP32>(from, sample, head, at) + column * (FP32 ? 4 : 2);
  if constexpr (FP32) return _mm512_loadu_ps(source);
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
}

inline __m512i high_half(__m512 x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)); }

template <bool FP32>  // values: outputs are their numbers, inputs the keys
void lay_values(const Tokens& from, int sample, int head, int blocks, int panels, uint16_t* to) {
  constexpr int PARTS = FP32 ? 2 : 1;
  for (int panel = 0; panel < panels; panel++)
    for (int line = 0; line < blocks * 32; line++) {
      const int block = line / 32, tile = line / 16 % 2, pair = line % 16, column = panel * 32 + tile * 16;
      __m512 even = load_numbers<FP32>(from, sample, head, block * 32 + pair * 2, column);
      __m512 odd = load_numbers<FP32>(from, sample, head, block * 32 + pair * 2 + 1, column);
      for (int part = 0; part < PARTS; part++) {
        const __m512i first = high_half(even), second = _mm512_slli_epi32(high_half(odd), 16);
        uint16_t* out = to + (((panel * blocks + block) * PARTS + part) * 2 + tile) * TILE + pair * 32;
        _mm512_store_si512(out, _mm512_or_si512(first, second));
        even = _mm512_sub_ps(even, _mm512_castsi512_ps(_mm512_slli_epi32(first, 16)));
        odd = _mm512_sub_ps(odd, _mm512_castsi512_ps(second));
      }
    }
}

template <bool FP32>  // a row of scores as a line of tiles of weights that are not normalised yet; returns their sum
float softmax_row(const float* scores, int count, int blocks, float scale, uint16_t* line) {
  constexpr int PARTS = FP32 ? 2 : 1;
  const auto mask = [&](int at) { return static_cast<__mmask16>((1u << std::clamp(count - at, 0, 16)) - 1); };
  __m512 top = broadcast(-3e38f);
  for (int at = 0; at < count; at += 16) top = _mm512_mask_max_ps(top, mask(at), top, _mm512_load_ps(scores + at));
  const __m512 highest = broadcast(_mm512_reduce_max_ps(top)), factor = broadcast(scale * 1.44269504f);
  __m512 sum = _mm512_setzero_ps();
  for (int block = 0; block < blocks; block++) {
    __m512 weights[2];
    for (int i = 0; i < 2; i++) {
      const int at = block * 32 + i * 16;
      const __m512 below = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(scores + at), highest), factor);
      weights[i] = _mm512_maskz_mov_ps(mask(at), exp2<FP32>(below));
      sum = _mm512_add_ps(sum, weights[i]);
    }
    lay<FP32>(weights[0], weights[1], line + block * PARTS * TILE);
  }
  return _mm512_reduce_add_ps(sum);
}

template <bool FP32>
void attend(const Tokens& q, const Tokens& k, const Tokens& v, const Tokens& to, int sample, int head, int width,
            char* memory) {
  constexpr int PARTS = FP32 ? 2 : 1;
  const int blocks = width / 32, panels = (k.count + 31) / 32;
  const size_t each = static_cast<size_t>(panels) * blocks * PARTS * 2 * TILE;
  uint16_t* keys = reinterpret_cast<uint16_t*>(memory);
  uint16_t* values = keys + each;
  uint16_t* queries = values + each;
  uint16_t* weights = queries + static_cast<size_t>(2) * blocks * PARTS * TILE;
  float* scores = reinterpret_cast<float*>(weights + static_cast<size_t>(2) * panels * PARTS * TILE);
  lay_keys<FP32>(k, sample, head, panels, blocks, queries, keys);
  lay_values<FP32>(v, sample, head, panels, blocks, values);
  const size_t query_tile = static_cast<size_t>(blocks) * PARTS * TILE, weight_tile = panels * PARTS * TILE;
  const float scale = 1.f / __builtin_sqrtf(static_cast<float>(width));
  for (int first = 0; first < q.count; first += 32) {
    lay_rows<FP32>(q, sample, head, first, blocks, queries);
    lay_rows<FP32>(q, sample, head, first + 16, blocks, queries + query_tile);
    for (int panel = 0; panel < panels; panel++) {
      sums_zero();
      for (int block = 0; block < blocks; block++) {
        const uint16_t* a = queries + block * PARTS * TILE;
        multiply<FP32>(a, a + query_tile, keys + (panel * blocks + block) * PARTS * 2 * TILE);
      }
      sums_store(scores + panel * 32, panels * 128);
    }
    float sums[32];
    const int rows = std::min(32, q.count - first);
    for (int r = 0; r < rows; r++) {
      uint16_t* line = weights + r / 16 * weight_tile + r % 16 * 32;
      sums[r] = softmax_row<FP32>(scores + static_cast<size_t>(r) * panels * 32, k.count, panels, scale, line);
    }
    for (int panel = 0; panel < blocks; panel++) {
      sums_zero();
      for (int block = 0; block < panels; block++) {
        const uint16_t* a = weights + block * PARTS * TILE;
        multiply<FP32>(a, a + weight_tile, values + (panel * panels + block) * PARTS * 2 * TILE);
      }
      alignas(64) float mixed[1024];
      sums_store(mixed, 128);
      for (int r = 0; r < rows; r++) {
        const __m512 share = broadcast(1.f / sums[r]);
        char* out = const_cast<char*>(token<FP32>(to, sample, head, first + r)) + panel * (FP32 ? 128 : 64);
        put<FP32>(out, _mm512_mul_ps(_mm512_load_ps(mixed + r * 32), share),
                  _mm512_mul_ps(_mm512_load_ps(mixed + r * 32 + 16), share));
      }
    }
  }
}

}  // namespace

extern "C" {

// Whether this process may use the units: Linux wants to be asked (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
int tiles_ready() { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

// Whether it was done; otherwise there is no memory for it. Strides are of samples, heads and tokens, for each of the
// four.
int tiles_attention(const char* query, const char* key, const char* value, char* to, const long* strides, int samples,
                    int heads, int queries, int keys, int width, int wide, int threads) {
  const auto tokens = [&](const char* start, int i, int count) {
    return Tokens{start, strides[3 * i], strides[3 * i + 1], strides[3 * i + 2], count};
  };
  const Tokens q = tokens(query, 0, queries), k = tokens(key, 1, keys), v = tokens(value, 2, keys);
  const Tokens out = tokens(to, 3, queries);
  const int blocks = width / 32, panels = (keys + 31) / 32, parts = wide ? 2 : 1;
  const size_t tiles = static_cast<size_t>(parts) * (4 * panels * blocks + 2 * blocks + 2 * panels);
  const size_t each = (tiles * TILE * 2 + static_cast<size_t>(32) * panels * 32 * 4 + 4095) / 4096 * 4096;
  char* memory = workspace.get(each * threads);
  if (!memory) return 0;
#pragma omp parallel num_threads(threads)
  {
    _tile_loadconfig(&CONFIG);
#pragma omp for schedule(dynamic)
    for (int i = 0; i < samples * heads; i++)
      (wide ? attend<true> : attend<false>)(q, k, v, out, i / heads, i % heads, width,
                                            memory + omp_get_thread_num() * each);
    _tile_release();
  }
  return 1;
}
}
