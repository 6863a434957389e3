// The MLP of a block: two linear layers with a GELU between them. What is between them never leaves a core's cache.

#include "calls.h"
#include "layers.h"

namespace {

template <bool FP32>
constexpr int HIDDEN = FP32 ? 24 : 8;  // panels of hidden numbers at a time
thread_local Workspace workspace;

// With erf to 1.5e-7 (Abramowitz and Stegun, 7.1.26). For bfloat16 to 1e-4 by a fit of least squares between -4.25 and
// 4.25, and to 1e-5 of what is farther off.
template <bool FP32>
inline __m512 gelu(__m512 x) {
  if constexpr (FP32) {
    const __m512 a = _mm512_mul_ps(_mm512_abs_ps(x), broadcast(0.70710678f));
    const __m512 t = _mm512_div_ps(broadcast(1.f), _mm512_fmadd_ps(a, broadcast(0.3275911f), broadcast(1.f)));
    __m512 p = broadcast(1.061405429f);
    for (float each : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f, 0.f})
      p = _mm512_fmadd_ps(p, t, broadcast(each));
    const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(broadcast(.5f), p),
                                      exp2<true>(_mm512_mul_ps(_mm512_mul_ps(a, a), broadcast(-1.44269504f))));
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
template <bool FP32>
void feed(const Source& from, const Norm& norm, int pair, int pairs, const Layer& first, const Layer& second, int begin,
          int end, uint16_t* memory, float* sums) {
  constexpr int PARTS = FP32 ? 2 : 1;
  const int blocks = from.channels / 32, rows = std::min(pairs * 32, from.rows - pair * 32);
  const size_t row = static_cast<size_t>(blocks) * PARTS * TILE,
               hidden_row = static_cast<size_t>(HIDDEN<FP32>) * PARTS * TILE;
  uint16_t* hidden = memory + tiles_size<FP32>(pairs, blocks);
  float* scratch = reinterpret_cast<float*>(hidden + tiles_size<FP32>(pairs, HIDDEN<FP32>));
  for (int i = 0; i < pairs * 2; i++) {
    const int at = pair * 32 + i * 16;
    norm.scale ? lay_normed<FP32>(from, norm, at, memory + i * row)
               : pack_rows<FP32>(from, at, 0, blocks, memory + i * row);
  }
  if (begin == end)
    std::fill_n(sums, static_cast<size_t>(second.panels) * pairs * 1024, 0.f);  // more threads than panels
  const auto nowhere = [](int) { return Written(); };
  for (int h = begin; h < end; h += HIDDEN<FP32>) {
    const int count = std::min(HIDDEN<FP32>, end - h);
    for (int j = 0; j < count; j++) {
      const __m512 left = _mm512_loadu_ps(first.bias + (h + j) * 32);
      const __m512 right = _mm512_loadu_ps(first.bias + (h + j) * 32 + 16);
      const auto activate = [&](int p, const float* sum) {
        for (int r = 0; r < 32; r++) {
          uint16_t* line = hidden + (p * 2 + r / 16) * hidden_row + j * PARTS * TILE + r % 16 * 32;
          lay<FP32>(gelu<FP32>(_mm512_add_ps(_mm512_load_ps(sum + r * 32), left)),
                    gelu<FP32>(_mm512_add_ps(_mm512_load_ps(sum + r * 32 + 16), right)), line);
        }
      };
      const uint16_t* w = first.weights + (h + j) * row * 2;
      pass<FP32>(memory, row, rows, w, blocks, w + row * 2, scratch, true, nowhere, activate);
    }
    for (int o = 0; o < second.panels; o++) {
      const size_t panel = static_cast<size_t>(first.panels) * PARTS * 2 * TILE;
      const uint16_t* w = second.weights + o * panel + static_cast<size_t>(h) * PARTS * 2 * TILE;
      float* own = sums + static_cast<size_t>(o) * pairs * 1024;
      const auto done = [](int, const float*) {};
      pass<FP32>(hidden, hidden_row, rows, w, count, w + panel, own, h == begin, nowhere, done);
    }
  }
}

// The sums of `parts` threads, `each` numbers apart, as outputs of `panels` from `panel` on; `onto` is added
template <bool FP32>
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
      const long at = ((pair * 32L + r) * second.panels + o) * (FP32 ? 128 : 64);
      if (onto) add<FP32>(onto + at, u, v);
      put<FP32>(to + at, u, v);
    }
  }
}

// Each thread has some of what is hidden, so that weights are read once and nothing hidden goes from core to core, and
// the threads' sums are added; where rows are so many that weights are read again and again anyway, it has rows of its
// own.
template <bool FP32>
bool mlp(const Source& from, const Norm& norm, const Layer& first, const Layer& second, char* to, int threads) {
  const int pairs = (from.rows + 31) / 32, blocks = from.channels / 32;
  const int group = std::min(pairs, GROUP);
  const size_t tiles = tiles_size<FP32>(group, blocks + HIDDEN<FP32>),
               sums_each = static_cast<size_t>(second.panels) * group * 1024;
  const size_t each = whole_pages(tiles * 2 + group * 4096);
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
        feed<FP32>(from, norm, pair, count, first, second, 0, first.panels, own, own_sums);
        finish<FP32>(own_sums, 1, 0, second, 0, second.panels, pair, count, from.rows, onto, to);
      }
    } else {
      const int begin = bound(first.panels, me), end = bound(first.panels, me + 1);
      const int panel = bound(second.panels, me), panels = bound(second.panels, me + 1) - panel;
      for (int pair = 0; pair < pairs; pair += GROUP) {
        const int count = std::min(GROUP, pairs - pair);
        feed<FP32>(from, norm, pair, count, first, second, begin, end, own, own_sums);
#pragma omp barrier
        finish<FP32>(sums, team, sums_each, second, panel, panels, pair, count, from.rows, onto, to);
#pragma omp barrier
      }
    }
  }
  return true;
}

}  // namespace

int tiles_mlp(const char* from, int rows, int channels, const float* norm_scale, const float* norm_shift,
              float norm_epsilon, const uint16_t* first_weights, const float* first_bias, int hidden,
              const uint16_t* second_weights, const float* second_bias, int outputs, int wide, char* to, int threads) {
  const Source source{from, channels, rows, channels, 1, rows, 1};
  const Norm norm{norm_scale, norm_shift, norm_epsilon};
  const Layer first{first_weights, first_bias, hidden / 32}, second{second_weights, second_bias, outputs / 32};
  return (wide ? mlp<true> : mlp<false>)(source, norm, first, second, to, threads);
}
