// The first half of a block: tokens are normalised, attend to one another, and get what they saw added.

#include "calls.h"
#include "head.h"
#include "product.h"

namespace {

thread_local Workspace workspace;

struct Half {
  Norm norm;
  Layer qkv, proj;
  int samples, tokens, heads, skip, look;
};

// Queries, keys and values of one head, from all tokens of a sample; `sums`: 1024 for each pair of a group
template <Numbers N>
void lay_head(const uint16_t* rows, int channels, const Layer& qkv, int head, const Sizes& of, const Head& to,
              float* sums) {
  alignas(64) uint16_t scratch[2 * TILE];
  const int blocks = of.blocks();
  const int inputs = blocks_of<N>(channels);
  const size_t row = tile_row<N>(inputs), size = panel_size<N>(inputs);
  const auto panel = [&](int i) { return i / blocks * (qkv.panels / 3) + head * blocks + i % blocks; };
  const auto nowhere = [](int) { return Written(); };
  for (int group = 0; group < of.pairs(); group += GROUP) {
    const int taken = std::min(GROUP * 32, of.queries - group * 32);
    for (int i = 0; i < 3 * blocks; i++) {
      const auto done = [&](int p, const float* sum) {
        for (int half = 0; half < 2; half++)
          lay_part<ATTENDED<N>>(sum + half * 512, qkv.bias + panel(i) * 32, i / blocks, i % blocks,
                                (group + p) * 2 + half, of, to, scratch);
      };
      const int next = i + 1 < 3 * blocks ? panel(i + 1) : panel(0) + blocks;  // the next head's
      pass<N>(rows + group * 2 * row, row, taken, whole_panel<N>(qkv.weights + panel(i) * size, channels),
              qkv.weights + next * size, sums, true, nowhere, done);
    }
  }
}

template <Numbers N>
bool attend(const char* from, int channels, const Half& half, const char* onto, char* to, float* looks, int threads) {
  const Sizes of{half.tokens, half.tokens, channels / half.heads};
  const int kept = half.tokens - half.skip;
  const size_t row = tile_row<N>(blocks_of<N>(channels));
  const size_t rows_size = whole_pages(of.pairs() * 2 * row * 2), sums_size = GROUP * 4096;
  const Source source{nullptr, channels, half.samples * kept, channels, 1, half.samples * kept, 1};
  const size_t head_size = whole_pages(head_memory<ATTENDED<N>>(of));
  const size_t each = std::max(rows_size + head_size + sums_size, whole_pages(products_memory<N>(source, channels)));
  char* memory = workspace.get(each * threads + static_cast<size_t>(half.samples) * kept * channels * SIZE<N>);
  if (!memory) return false;
  char* mixed = memory + each * threads;
#pragma omp parallel num_threads(threads)
  {
    const int team = omp_get_num_threads(), me = omp_get_thread_num(), all = half.samples * half.heads;
    char* own = memory + me * each;
    uint16_t* rows = reinterpret_cast<uint16_t*>(own);
    const Head room = head_in<ATTENDED<N>>(own + rows_size, of);
    const Units units;
    for (int i = all * me / team, laid = -1; i < all * (me + 1) / team; i++) {
      const int sample = i / half.heads, head = i % half.heads;
      if (sample != laid) {
        const char* start = from + static_cast<long>(sample) * half.tokens * channels * SIZE<N>;
        const Source tokens{start, channels, half.tokens, channels, 1, half.tokens, 1};
        for (int tile = 0; tile < of.pairs() * 2; tile++)
          lay_normed<N>(tokens, half.norm, tile * 16, rows + tile * row);
        laid = sample;
      }
      lay_head<N>(rows, channels, half.qkv, head, of, room, reinterpret_cast<float*>(own + rows_size + head_size));
      float* look = looks ? looks + static_cast<long>(i) * half.tokens : nullptr;
      mix<ATTENDED<N>>(room, of, half.skip, half.look, look,
                       mixed + (static_cast<long>(sample) * kept * channels + head * of.width) * SIZE<N>,
                       channels * SIZE<N>);
    }
#pragma omp barrier
    Source seen = source;
    seen.start = mixed;
    products<N>(seen, half.proj.weights, half.proj.panels * 32, {to, channels, half.proj.bias, onto}, team, me, own);
  }
  return true;
}

}  // namespace

int tiles_attend(const char* from, int samples, int tokens, const Block* block, int skip, int look, int numbers,
                 const char* onto, char* to, float* looks, int threads) {
  const int channels = block->channels;
  const Half half{{block->scale, block->shift, block->epsilon},
                  {block->qkv, block->qkv_bias, channels / 32 * 3},
                  {block->proj, block->proj_bias, channels / 32},
                  samples,
                  tokens,
                  block->heads,
                  skip,
                  look};
  return chosen(numbers, attend<BF16>, attend<FP32>, attend<INT8>)(from, channels, half, onto, to, looks, threads);
}
