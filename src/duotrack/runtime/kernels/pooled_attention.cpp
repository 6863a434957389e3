// The first half of a block that keeps one of four tokens: windows of normalised tokens attend to themselves with
// queries that are the largest of four, and what they saw is added to the largest of what a layer of its own makes of
// them.

#include <cstring>

#include "calls.h"
#include "head.h"
#include "product.h"

namespace {

thread_local Workspace workspace;
constexpr int UNIT = 192;  // tokens whose windows go through all layers together

struct Pooling {
  Norm norm;
  Layer qkv, shortcut, proj;
  int tokens, heads;  // tokens of a window: of four quarters, a query is the largest of one in each
  int kept() const { return tokens / 4; }
  int together() const { return std::max(1, UNIT / tokens); }  // windows
};

struct Room {  // a thread's
  uint16_t* rows;
  float* sums;
  char* heads;  // one of each window
  size_t each;
};

// The largest of query `at` of a window whose sums begin at `sums`, with the bias: 16 numbers from `column`
inline __m512 largest(const float* sums, int at, int kept, int column, __m512 bias) {
  __m512 top = _mm512_load_ps(sums + at * 32 + column);
  for (int quarter = 1; quarter < 4; quarter++)
    top = _mm512_max_ps(top, _mm512_load_ps(sums + (quarter * kept + at) * 32 + column));
  return _mm512_add_ps(top, bias);
}

template <Numbers N>  // `windows` of them from `first` on; what is seen goes to `mixed`, the shortcut to `to`
void see(const char* from, int channels, const Pooling& block, int first, int windows, const Sizes& of,
         const Room& room, char* mixed, char* to) {
  const int kept = block.kept(), rows = windows * block.tokens, pairs = (rows + 31) / 32, blocks = of.blocks();
  const long width = block.proj.panels * 32L * SIZE<N>;  // bytes of a token that is made
  const int inputs = blocks_of<N>(channels);
  const size_t row = tile_row<N>(inputs), size = panel_size<N>(inputs);
  alignas(64) uint16_t scratch[2 * TILE];
  const Source source{
      from + static_cast<long>(first) * block.tokens * channels * SIZE<N>, channels, rows, channels, 1, rows, 1};
  for (int tile = 0; tile < pairs * 2; tile++) lay_normed<N>(source, block.norm, tile * 16, room.rows + tile * row);
  // `done(window, sums, bias)` for each window, with a panel's sums of its tokens
  const auto product = [&](const Layer& layer, int panel, const auto& done) {
    const uint16_t* w = layer.weights + panel * size;
    const auto nowhere = [](int) { return Written(); };
    const auto all = [&](int p, const float*) {
      if (p + 1 < pairs) return;
      for (int window = 0; window < windows; window++)
        done(window, room.sums + static_cast<size_t>(window) * block.tokens * 32, layer.bias + panel * 32);
    };
    pass<N>(room.rows, row, rows, whole_panel<N>(w, channels), w + size, room.sums, true, nowhere, all);
  };
  for (int panel = 0; panel < block.shortcut.panels; panel++)
    product(block.shortcut, panel, [&](int window, const float* sums, const float* bias) {
      char* made = to + (first + window) * kept * width + panel * 32 * SIZE<N>;
      for (int at = 0; at < kept; at++, made += width)
        put<N>(made, largest(sums, at, kept, 0, _mm512_loadu_ps(bias)),
               largest(sums, at, kept, 16, _mm512_loadu_ps(bias + 16)));
    });
  for (int head = 0; head < block.heads; head++) {
    const auto of_window = [&](int window) { return head_in<ATTENDED<N>>(room.heads + window * room.each, of); };
    for (int i = 0; i < 3 * blocks; i++) {
      const int kind = i / blocks, part = i % blocks, panel = kind * block.proj.panels + head * blocks + part;
      product(block.qkv, panel, [&](int window, const float* sums, const float* bias) {
        const Head to = of_window(window);
        for (int tile = 0; kind > 0 && tile < block.tokens / 16; tile++)
          lay_part<ATTENDED<N>>(sums + tile * 512, bias, kind, part, tile, of, to, scratch);
        for (int at = 0; kind == 0 && at < kept; at++)
          lay<ATTENDED<N>>(
              largest(sums, at, kept, 0, _mm512_loadu_ps(bias)),
              largest(sums, at, kept, 16, _mm512_loadu_ps(bias + 16)),
              to.queries + (static_cast<size_t>(at / 16) * blocks + part) * PARTS<ATTENDED<N>> * TILE + at % 16 * 32);
      });
    }
    for (int window = 0; window < windows; window++)
      mix<ATTENDED<N>>(of_window(window), of, 0, 0, nullptr,
                       mixed + (first + window) * kept * width + head * of.width * SIZE<N>, width);
  }
}

template <Numbers N>
bool attend(const char* from, int windows, int channels, const Pooling& block, char* to, int threads) {
  const int outputs = block.proj.panels * 32, kept = block.kept(), together = block.together();
  const Sizes of{kept, block.tokens, outputs / block.heads};
  const int pairs = (together * block.tokens + 31) / 32;
  const size_t rows_size = tiles_size<N>(pairs, blocks_of<N>(channels)) * 2, sums_size = pairs * 4096;
  const size_t head_size = head_memory<ATTENDED<N>>(of);
  const Source seen{nullptr, outputs, windows * kept, outputs, 1, windows * kept, 1};
  const size_t each =
      whole_pages(std::max(rows_size + sums_size + head_size * together, products_memory<N>(seen, outputs)));
  char* memory = workspace.get(each * threads + static_cast<size_t>(windows) * kept * outputs * SIZE<N>);
  if (!memory) return false;
  char* mixed = memory + each * threads;
#pragma omp parallel num_threads(threads)
  {
    const int team = omp_get_num_threads(), me = omp_get_thread_num();
    char* own = memory + me * each;
    char* heads = own + rows_size + sums_size;
    const Room room{reinterpret_cast<uint16_t*>(own), reinterpret_cast<float*>(own + rows_size), heads, head_size};
    const Units units;
    // of a window of 16 tokens half a block of values is never written, and is multiplied by zeros
    if (block.tokens % 32) std::memset(heads, 0, head_size * together);
    const int end = windows * (me + 1) / team;
    for (int first = windows * me / team; first < end; first += together)
      see<N>(from, channels, block, first, std::min(together, end - first), of, room, mixed, to);
#pragma omp barrier
    Source source = seen;
    source.start = mixed;
    products<N>(source, block.proj.weights, outputs, {to, outputs, block.proj.bias, to}, team, me, own);
  }
  return true;
}

}  // namespace

int tiles_pool(const char* from, int samples, int tokens, const Block* block, int numbers, char* to, int threads) {
  const int panels = block->outputs / 32;
  const Pooling pooling{{block->scale, block->shift, block->epsilon},
                        {block->qkv, block->qkv_bias, panels * 3},
                        {block->shortcut, block->shortcut_bias, panels},
                        {block->proj, block->proj_bias, panels},
                        tokens,
                        block->heads};
  return chosen(numbers, attend<BF16>, attend<FP32>, attend<INT8>)(from, samples, block->channels, pooling, to,
                                                                   threads);
}
