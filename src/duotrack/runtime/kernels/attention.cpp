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

template <Numbers N>
inline const char* token(const Tokens& of, int sample, int head, int at) {
  return of.start + (sample * of.sample + head * of.head + at * of.row) * SIZE<N>;
}

template <Numbers N>  // 16 tokens from `first`, all of their width
void lay_rows(const Tokens& from, int sample, int head, int first, int blocks, uint16_t* to) {
  for (int r = 0; r < 16; r++)
    for (int block = 0; block < blocks; block++) {
      uint16_t* line = to + block * PARTS<N> * TILE + r * 32;
      if (first + r < from.count)
        lay<N>(token<N>(from, sample, head, first + r) + block * (32 * SIZE<N>), line);
      else
        lay_nothing<N>(line);
    }
}

template <Numbers N>  // `scratch` is for 16 keys
void lay_keys(const Tokens& from, int sample, int head, int panels, int blocks, uint16_t* scratch, uint16_t* to) {
  for (int tile = 0; tile < panels * 2; tile++) {
    lay_rows<N>(from, sample, head, tile * 16, blocks, scratch);
    for (int block = 0; block < blocks; block++)
      turn<N>(scratch + block * PARTS<N> * TILE, tile % 2, to + (tile / 2 * blocks + block) * PARTS<N> * 2 * TILE);
  }
}

template <Numbers N>
inline __m512 load_numbers(const Tokens& from, int sample, int head, int at, int column) {
  if (at >= from.count) return _mm512_setzero_ps();
  const char* source = token<N>(from, sample, head, at) + column * SIZE<N>;
  if constexpr (N == FP32) return _mm512_loadu_ps(source);
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
}

template <Numbers N>
void lay_values(const Tokens& from, int sample, int head, int blocks, int panels, uint16_t* to) {
  for (int panel = 0; panel < panels; panel++)
    for (int line = 0; line < blocks * 32; line++) {
      const int block = line / 32, tile = line / 16 % 2, pair = line % 16, column = panel * 32 + tile * 16;
      lay_inputs<N>(load_numbers<N>(from, sample, head, block * 32 + pair * 2, column),
                    load_numbers<N>(from, sample, head, block * 32 + pair * 2 + 1, column), pair * 2,
                    to + ((panel * blocks + block) * PARTS<N> * 2 + tile) * TILE);
    }
}

template <Numbers N>
void attend(const Tokens& q, const Tokens& k, const Tokens& v, const Tokens& to, const Sizes& of, int sample, int head,
            char* memory) {
  const Head here = head_in<N>(memory, of);
  const size_t tile = static_cast<size_t>(of.blocks()) * PARTS<N> * TILE;
  lay_keys<N>(k, sample, head, of.panels(), of.blocks(), here.queries, here.keys);
  lay_values<N>(v, sample, head, of.panels(), of.blocks(), here.values);
  for (int i = 0; i < of.pairs() * 2; i++) lay_rows<N>(q, sample, head, i * 16, of.blocks(), here.queries + i * tile);
  char* out = const_cast<char*>(token<N>(to, sample, head, 0));
  mix<N>(here, of, 0, 0, nullptr, out, to.row * SIZE<N>);
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
  const size_t each = whole_pages((wide ? head_memory<FP32> : head_memory<BF16>)(sizes));
  char* memory = workspace.get(each * threads);
  if (!memory) return 0;
#pragma omp parallel num_threads(threads)
  {
    const Units units;
#pragma omp for schedule(dynamic)
    for (int i = 0; i < samples * heads; i++)
      (wide ? attend<FP32> : attend<BF16>)(q, k, v, out, sizes, i / heads, i % heads,
                                           memory + omp_get_thread_num() * each);
  }
  return 1;
}
