// Overlapping patches of pictures times weights, with positions added: the first tokens of a stem, by windows of 8 x 8.

#include "calls.h"
#include "product.h"

namespace {

thread_local Workspace workspace;
constexpr int WIDE = 8;  // numbers that a line of a patch takes: as many, or fewer and zeros

struct Patches {  // of pictures (pictures, channels, height, width), numbers in float32 or bfloat16
  const char* start;
  int channels, height, width, side, stride;
  int rows() const { return height / stride * (width / stride); }  // patches of a picture
  int blocks() const { return (channels * side * WIDE + 31) / 32; }
};

template <Numbers N>
inline void copy_line(const char* from, int begin, int end, char* to) {  // `to` has no number before and after these
  const auto there = static_cast<__mmask8>((1u << end) - (1u << begin));
  if constexpr (N == FP32)
    _mm256_store_ps(reinterpret_cast<float*>(to), _mm256_maskz_loadu_ps(there, from));
  else
    _mm_store_si128(reinterpret_cast<__m128i*>(to), _mm_maskz_loadu_epi16(there, from));
}

// Which patch of a picture row `row` is: in a window first those apart by 4, then by 2, then next to one another
inline std::pair<int, int> place(int row, int across) {
  const int window = row / 64, bit[6] = {row & 1, row >> 1 & 1, row >> 2 & 1, row >> 3 & 1, row >> 4 & 1, row >> 5 & 1};
  return {window / across * 8 + bit[1] * 4 + bit[3] * 2 + bit[5],
          window % across * 8 + bit[0] * 4 + bit[2] * 2 + bit[4]};
}

template <Numbers N>  // 16 rows of a picture, from `first`; `line` has room for one, and zeros behind it
void lay_patches(const Patches& of, long picture, int first, char* line, uint16_t* to) {
  for (int r = 0; r < 16; r++) {
    const auto [down, right] = place(first + r, of.width / of.stride / 8);
    const int y = down * of.stride - of.side / 2, x = right * of.stride - of.side / 2;
    const int begin = std::max(-x, 0), end = std::clamp(of.width - x, begin, of.side);
    char* piece = line;
    for (int channel = 0; channel < of.channels; channel++)
      for (int dy = 0; dy < of.side; dy++, piece += WIDE * SIZE<N>) {
        const bool inside = y + dy >= 0 && y + dy < of.height;
        const long at = ((picture * of.channels + channel) * of.height + y + dy) * of.width + x;
        copy_line<N>(of.start + at * SIZE<N>, begin, inside ? end : begin, piece);
      }
    for (int block = 0; block < of.blocks(); block++)
      lay<N>(line + block * 32 * SIZE<N>, to + block * PARTS<N> * TILE + r * 32);
  }
}

template <Numbers N>
bool embed(const Patches& from, int pictures, const Layer& layer, const char* positions, char* to, int threads) {
  const int blocks = from.blocks(), pairs = from.rows() / 32, outputs = layer.panels * 32;
  const size_t row = tile_row<N>(blocks), size = panel_size<N>(blocks), line_size = whole(blocks * 32 * SIZE<N>, 64);
  const size_t tiles = tiles_size<N>(GROUP, blocks) * 2;
  const size_t each = whole_pages(tiles + GROUP * 4096 + line_size);
  char* memory = workspace.get(each * threads);
  if (!memory) return false;
#pragma omp parallel num_threads(threads)
  {
    const int team = omp_get_num_threads(), me = omp_get_thread_num();
    char* own = memory + me * each;
    uint16_t* laid = reinterpret_cast<uint16_t*>(own);
    float* sums = reinterpret_cast<float*>(own + tiles);
    char* line = own + tiles + GROUP * 4096;
    std::fill_n(line, line_size, 0);
    const Units units;
    const long all = static_cast<long>(pictures) * pairs, end = all * (me + 1) / team;
    for (long pair = all * me / team; pair < end; pair += GROUP) {
      const int count = static_cast<int>(std::min<long>(GROUP, end - pair));
      for (int i = 0; i < count * 2; i++) {
        const long tile = pair * 2 + i;
        lay_patches<N>(from, tile / (pairs * 2), tile % (pairs * 2) * 16, line, laid + i * row);
      }
      for (int panel = 0; panel < layer.panels; panel++) {
        const auto nowhere = [](int) { return Written(); };
        const auto done = [&](int p, const float* sum) {
          const long at = (pair + p) * 32, within = (pair + p) % pairs * 32;
          const Target target{to + at * outputs * SIZE<N>, outputs, layer.bias, positions + within * outputs * SIZE<N>};
          write<N>(sum, target, 0, 32, panel * 32);
        };
        const uint16_t* w = layer.weights + panel * size;
        pass<N>(laid, row, count * 32, {w, blocks, 0, blocks, false}, w + size, sums, true, nowhere, done);
      }
    }
  }
  return true;
}

}  // namespace

int tiles_window_patches(const char* from, int pictures, int channels, int height, int width, int side, int stride,
                         const uint16_t* weights, const float* bias, int outputs, const char* positions, int wide,
                         char* to, int threads) {
  const Patches patches{from, channels, height, width, side, stride};
  const Layer layer{weights, bias, outputs / 32};
  return (wide ? embed<FP32> : embed<BF16>)(patches, pictures, layer, positions, to, threads);
}
