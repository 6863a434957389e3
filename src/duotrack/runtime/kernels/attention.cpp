// Scaled dot-product attention of any queries, keys and values, a head at a time.

#include "calls.h"
#include "head.h"

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

template <bool FP32>  // `scratch` is for 16 keys
void lay_keys(const Tokens& from, int sample, int head, int panels, int blocks, uint16_t* scratch, uint16_t* to) {
  constexpr int PARTS = FP32 ? 2 : 1;
  for (int tile = 0; tile < panels * 2; tile++) {
    lay_rows<FP32>(from, sample, head, tile * 16, blocks, scratch);
    for (int block = 0; block < blocks; block++)
      turn<FP32>(scratch + block * PARTS * TILE, tile % 2, to + (tile / 2 * blocks + block) * PARTS * 2 * TILE);
  }
}

template <bool FP32>
inline __m512 load_numbers(const Tokens& from, int sample, int head, int at, int column) {
  if (at >= from.count) return _mm512_setzero_ps();
  const char* source = token<FP32>(from, sample, head, at) + column * (FP32 ? 4 : 2);
  if constexpr (FP32) return _mm512_loadu_ps(source);
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
}

template <bool FP32>
void lay_values(const Tokens& from, int sample, int head, int blocks, int panels, uint16_t* to) {
  constexpr int PARTS = FP32 ? 2 : 1;
  for (int panel = 0; panel < panels; panel++)
    for (int line = 0; line < blocks * 32; line++) {
      const int block = line / 32, tile = line / 16 % 2, pair = line % 16, column = panel * 32 + tile * 16;
      lay_inputs<FP32>(load_numbers<FP32>(from, sample, head, block * 32 + pair * 2, column),
                       load_numbers<FP32>(from, sample, head, block * 32 + pair * 2 + 1, column), pair * 2,
                       to + ((panel * blocks + block) * PARTS * 2 + tile) * TILE);
    }
}

template <bool FP32>
void attend(const Tokens& q, const Tokens& k, const Tokens& v, const Tokens& to, const Sizes& of, int sample, int head,
            char* memory) {
  const Head here = head_in<FP32>(memory, of);
  const size_t tile = static_cast<size_t>(of.blocks()) * (FP32 ? 2 : 1) * TILE;
  lay_keys<FP32>(k, sample, head, of.panels(), of.blocks(), here.queries, here.keys);
  lay_values<FP32>(v, sample, head, of.panels(), of.blocks(), here.values);
  for (int i = 0; i < of.pairs() * 2; i++)
    lay_rows<FP32>(q, sample, head, i * 16, of.blocks(), here.queries + i * tile);
  char* out = const_cast<char*>(token<FP32>(to, sample, head, 0));
  mix<FP32>(here, of, 0, 0, nullptr, out, to.row * (FP32 ? 4 : 2));
}

}  // namespace

int tiles_ready() { return units_ready(); }

int tiles_attention(const char* query, const char* key, const char* value, char* to, const long* strides, int samples,
                    int heads, int queries, int keys, int width, int wide, int threads) {
  const auto tokens = [&](const char* start, int i, int count) {
    return Tokens{start, strides[3 * i], strides[3 * i + 1], strides[3 * i + 2], count};
  };
  const Tokens q = tokens(query, 0, queries), k = tokens(key, 1, keys), v = tokens(value, 2, keys);
  const Tokens out = tokens(to, 3, queries);
  const Sizes sizes{queries, keys, width};
  const size_t each = whole_pages((wide ? head_memory<true> : head_memory<false>)(sizes));
  char* memory = workspace.get(each * threads);
  if (!memory) return 0;
#pragma omp parallel num_threads(threads)
  {
    const Units units;
#pragma omp for schedule(dynamic)
    for (int i = 0; i < samples * heads; i++)
      (wide ? attend<true> : attend<false>)(q, k, v, out, sizes, i / heads, i % heads,
                                            memory + omp_get_thread_num() * each);
  }
  return 1;
}
