// The MLP of a block: two linear layers with a GELU between them. What is between them never leaves a core's cache.

#include "calls.h"
#include "layers.h"

namespace {

template <Numbers N>
constexpr int HIDDEN = N == FP32   ? 24
                       : N == INT8 ? 16
                                   : 8;  // panels of hidden numbers at a time
thread_local Workspace workspace;

// With erf to 1.5e-7 (Abramowitz and Stegun, 7.1.26). For bfloat16 to 1e-4 by a fit of least squares between -4.25 and
// 4.25, and to 1e-5 of what is farther off.
template <Numbers N>
inline __m512 gelu(__m512 x) {
  if constexpr (N == FP32) {
    const __m512 a = _mm512_mul_ps(_mm512_abs_ps(x), broadcast(0.70710678f));
    const __m512 t = _mm512_div_ps(broadcast(1.f), _mm512_fmadd_ps(a, broadcast(0.3275911f), broadcast(1.f)));
    __m512 p = broadcast(1.061405429f);
    for (float each : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f, 0.f})
      p = _mm512_fmadd_ps(p, t, broadcast(each));
    const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(broadcast(.5f), p),
                                      exp2<FP32>(_mm512_mul_ps(_mm512_mul_ps(a, a), broadcast(-1.44269504f))));
    const __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
    return _mm512_mul_ps(x, _mm512_mask_sub_ps(tail, positive, broadcast(1.f), tail));
  } else {
    const __m512 near = _mm512_max_ps(broadcast(-4.25f), _mm512_min_ps(broadcast(4.25f), x));
    const __m512 square = _mm512_mul_ps(near, near);
    __m512 p = broadcast(-8.46029519e-10f);
    for (float each : {7.57075172e-8f, -2.93877922e-6f, 6.55267516e-5f, -9.40444881e-4f, 9.25781198e-3f,
                       -6.54534788e-2f, 3.98420031e-1f})
      p = _mm512_fmadd_ps(p, square, broadcast(each));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(near, p, broadcast(.5f)));
  }
}

// Sums (outputs' panels, pairs, 32, 32) of the hidden panels from `begin` to `end`, for pairs of tiles of rows from
// `pair`
template <Numbers N>
void feed(const Source& from, const Norm& norm, int pair, int pairs, const Layer& first, const Layer& second, int begin,
          int end, uint16_t* memory, float* sums) {
  const int blocks = blocks_of<N>(from.channels), rows = std::min(pairs * 32, from.rows - pair * 32);
  const int hidden_blocks = blocks_of<N>(first.panels * 32);
  const size_t row = tile_row<N>(blocks), hidden_row = tile_row<N>(blocks_of<N>(HIDDEN<N> * 32));
  uint16_t* hidden = memory + tiles_size<N>(pairs, blocks);
  float* scratch = reinterpret_cast<float*>(hidden + pairs * 2 * hidden_row);
  char* activated = reinterpret_cast<char*>(scratch + pairs * 1024);  // in INT8, until a row's largest number is known
  for (int i = 0; i < pairs * 2; i++) {
    const int at = pair * 32 + i * 16;
    norm.scale ? lay_normed<N>(from, norm, at, memory + i * row) : pack_rows<N>(from, at, 0, blocks, memory + i * row);
  }
  if (begin == end)
    std::fill_n(sums, static_cast<size_t>(second.panels) * pairs * 1024, 0.f);  // more threads than panels
  const auto nowhere = [](int) { return Written(); };
  for (int h = begin; h < end; h += HIDDEN<N>) {
    const int count = std::min(HIDDEN<N>, end - h);
    for (int j = 0; j < count; j++) {
      const __m512 left = _mm512_loadu_ps(first.bias + (h + j) * 32);
      const __m512 right = _mm512_loadu_ps(first.bias + (h + j) * 32 + 16);
      const auto activate = [&](int p, const float* sum) {
        for (int r = 0; r < 32; r++) {
          const __m512 u = gelu<N>(_mm512_add_ps(_mm512_load_ps(sum + r * 32), left));
          const __m512 v = gelu<N>(_mm512_add_ps(_mm512_load_ps(sum + r * 32 + 16), right));
          if constexpr (N == INT8)
            put<N>(activated + ((p * 32 + r) * HIDDEN<N> + j) * 32 * SIZE<N>, u, v);
          else
            lay<N>(u, v, hidden + (p * 2 + r / 16) * hidden_row + j * PARTS<N> * TILE + r % 16 * 32);
        }
      };
      const uint16_t* w = first.weights + (h + j) * panel_size<N>(blocks);
      pass<N>(memory, row, rows, whole_panel<N>(w, from.channels), w + panel_size<N>(blocks), scratch, true, nowhere,
              activate);
    }
    const Source all{activated, HIDDEN<N> * 32, pairs * 32, count * 32, 1, pairs * 32, 1};
    for (int i = 0; N == INT8 && i < pairs * 2; i++)
      pack_rows<N>(all, i * 16, 0, blocks_of<N>(count * 32), hidden + i * hidden_row, LOW);
    for (int o = 0; o < second.panels; o++) {
      const int at = h * 32 / INPUTS<N>;
      const uint16_t* w = second.weights + o * panel_size<N>(hidden_blocks);
      const uint16_t* next = w + panel_size<N>(hidden_blocks) + static_cast<size_t>(at) * PARTS<N> * 2 * TILE;
      float* own = sums + static_cast<size_t>(o) * pairs * 1024;
      const auto done = [](int, const float*) {};
      pass<N>(hidden, hidden_row, rows, {w, hidden_blocks, at, blocks_of<N>(count * 32), false}, next, own, h == begin,
              nowhere, done, LOW);
    }
  }
}

// The sums of `parts` threads, `each` numbers apart, as outputs of `panels` from `panel` on; `onto` is added
template <Numbers N>
void finish(const float* sums, int parts, size_t each, const Layer& second, int panel, int panels, int pair, int pairs,
            int rows, const char* onto, char* to) {
  for (int o = panel; o < panel + panels; o++) {
    const __m512 left = _mm512_loadu_ps(second.bias + o * 32), right = _mm512_loadu_ps(second.bias + o * 32 + 16);
    for (int r = 0; r < std::min(pairs * 32, rows - pair * 32); r++) {
      const float* sum = sums + (static_cast<size_t>(o) * pairs * 32 + r) * 32;
      __m512 u = left, v = right;
      for (int part = 0; part < parts; part++) {
        u = _mm512_add_ps(u, _mm512_load_ps(sum + part * each));
        v = _mm512_add_ps(v, _mm512_load_ps(sum + part * each + 16));
      }
      const long at = ((pair * 32L + r) * second.panels + o) * (32 * SIZE<N>);
      if (onto) add<N>(onto + at, u, v);
      put<N>(to + at, u, v);
    }
  }
}

// Each thread has some of what is hidden, so that weights are read once and nothing hidden goes from core to core, and
// the threads' sums are added; where rows are so many that weights are read again and again anyway, it has rows of its
// own.
template <Numbers N>
bool mlp(const Source& from, const Norm& norm, const Layer& first, const Layer& second, char* to, int threads) {
  const int pairs = (from.rows + 31) / 32;
  const int group = std::min(pairs, GROUP);
  const size_t tiles =
      tiles_size<N>(group, blocks_of<N>(from.channels)) + tiles_size<N>(group, blocks_of<N>(HIDDEN<N> * 32));
  const size_t activated = N == INT8 ? static_cast<size_t>(group) * HIDDEN<N> * 1024 * SIZE<N> : 0;
  const size_t sums_each = static_cast<size_t>(second.panels) * group * 1024;
  const size_t each = whole_pages(tiles * 2 + group * 4096 + activated);
  char* memory = workspace.get((each + sums_each * 4) * threads);
  if (!memory) return false;
  float* sums = reinterpret_cast<float*>(memory + each * threads);
  const char* onto = norm.scale ? from.start : nullptr;
#pragma omp parallel num_threads(threads)
  {
    const int team = omp_get_num_threads(), me = omp_get_thread_num();
    const auto bound = [&](int of, int at) { return of * at / team; };
    const Units units;
    uint16_t* own = reinterpret_cast<uint16_t*>(memory + me * each);
    float* own_sums = sums + me * sums_each;
    if (pairs >= GROUP * team) {
      const int end = bound(pairs, me + 1);
      for (int pair = bound(pairs, me); pair < end; pair += GROUP) {
        const int count = std::min(GROUP, end - pair);
        feed<N>(from, norm, pair, count, first, second, 0, first.panels, own, own_sums);
        finish<N>(own_sums, 1, 0, second, 0, second.panels, pair, count, from.rows, onto, to);
      }
    } else {
      constexpr int STEP = INPUTS<N> / 32;  // panels of hidden numbers that become a block
      const int begin = bound(first.panels / STEP, me) * STEP, end = bound(first.panels / STEP, me + 1) * STEP;
      const int panel = bound(second.panels, me), panels = bound(second.panels, me + 1) - panel;
      for (int pair = 0; pair < pairs; pair += GROUP) {
        const int count = std::min(GROUP, pairs - pair);
        feed<N>(from, norm, pair, count, first, second, begin, end, own, own_sums);
#pragma omp barrier
        finish<N>(sums, team, sums_each, second, panel, panels, pair, count, from.rows, onto, to);
#pragma omp barrier
      }
    }
  }
  return true;
}

}  // namespace

int tiles_mlp(const char* from, int rows, int channels, const float* norm_scale, const float* norm_shift,
              float norm_epsilon, const uint16_t* first_weights, const float* first_bias, int hidden,
              const uint16_t* second_weights, const float* second_bias, int outputs, int numbers, char* to,
              int threads) {
  const Source source{from, channels, rows, channels, 1, rows, 1};
  const Norm norm{norm_scale, norm_shift, norm_epsilon};
  const Layer first{first_weights, first_bias, hidden / 32}, second{second_weights, second_bias, outputs / 32};
  return chosen(numbers, mlp<BF16>, mlp<FP32>, mlp<INT8>)(source, norm, first, second, to, threads);
}
