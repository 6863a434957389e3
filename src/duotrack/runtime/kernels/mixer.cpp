// The frequency mixer of `duotrack.models.adapters` with the norm before it, in float32 whatever the tokens are.

#include <cmath>

#include "calls.h"
#include "tiles.h"

namespace {

thread_local Workspace workspace;

float gelu(float x) { return .5f * x * (1.f + std::erf(x * .70710678f)); }

struct Place {  // of a token in the grids of its sample
  int side, y, x;
  long first;  // row of the grid's first cell
};

Place place(long row, int tokens, const int* sides) {
  long cell = row % tokens;
  while (cell >= static_cast<long>(*sides) * *sides) cell -= static_cast<long>(*sides) * *sides, sides++;
  return {*sides, static_cast<int>(cell / *sides), static_cast<int>(cell % *sides), row - cell};
}

template <typename F>  // call for each cell around (itself too) that the grid has: its row, and its place in the kernel
void around(const Place& at, F&& visit) {
  for (int dy = -1; dy <= 1; dy++)
    for (int dx = -1; dx <= 1; dx++) {
      const int y = at.y + dy, x = at.x + dx;
      if (y >= 0 && y < at.side && x >= 0 && x < at.side)
        visit(at.first + static_cast<long>(y) * at.side + x, (dy + 1) * 3 + dx + 1);
    }
}

template <Numbers N>  // a token, normalised, to a few channels; `line` is memory for its numbers
void narrow(const char* from, const Mixer& mixer, float* line, float* to) {
  const int channels = mixer.channels, size = 32 * SIZE<N>;
  __m512 u, v, sums[2] = {};
  for (int block = 0; block < channels / 32; block++) {
    take<N>(from + block * size, u, v);
    _mm512_storeu_ps(line + block * 32, u);
    _mm512_storeu_ps(line + block * 32 + 16, v);
    sums[0] = _mm512_add_ps(sums[0], u);
    sums[1] = _mm512_add_ps(sums[1], v);
  }
  const __m512 mean = broadcast(_mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) / channels);
  __m512 squares = _mm512_setzero_ps();
  for (int channel = 0; channel < channels; channel += 16) {
    const __m512 apart = _mm512_sub_ps(_mm512_loadu_ps(line + channel), mean);
    _mm512_storeu_ps(line + channel, apart);
    squares = _mm512_fmadd_ps(apart, apart, squares);
  }
  const float spread = _mm512_reduce_add_ps(squares) / channels;
  const float factor = spread < INFINITY ? 1.f / std::sqrt(spread + mixer.epsilon) : NAN;
  for (int i = 0; i < mixer.hidden; i++) {
    const float* weights = mixer.down + static_cast<long>(i) * channels;
    __m512 products[2] = {};
    for (int channel = 0; channel < channels; channel += 32)
      for (int part = 0; part < 2; part++)
        products[part] = _mm512_fmadd_ps(_mm512_loadu_ps(line + channel + 16 * part),
                                         _mm512_loadu_ps(weights + channel + 16 * part), products[part]);
    to[i] = _mm512_reduce_add_ps(_mm512_add_ps(products[0], products[1])) * factor + mixer.down_bias[i];
  }
}

// Of a cell, from the few channels of all: high frequencies by a filter and by maxima, then low ones. `peaks` is memory
void mix(const float* cells, long row, const Place& at, const Mixer& mixer, float* peaks, float* to) {
  const int hidden = mixer.hidden, half = hidden / 2, quarter = hidden / 4;
  for (int i = 0; i < half; i++) to[i] = 0;
  std::copy_n(cells + row * hidden + quarter, quarter, peaks);
  around(at, [&](long other, int tap) {
    const float* cell = cells + other * hidden;
    for (int i = 0; i < half; i++)
      for (int j = 0; j < quarter; j++) to[i] += cell[j] * mixer.filter[(i * quarter + j) * 9 + tap];
    for (int j = 0; j < quarter; j++)
      peaks[j] = std::max(peaks[j], cell[quarter + j]);  // where one is no number, nor is what the filter makes
  });
  for (int i = 0; i < half; i++) {
    float sum = mixer.peaks_bias[i];
    for (int j = 0; j < quarter; j++) sum += peaks[j] * mixer.peaks[i * quarter + j];
    to[i] = gelu(to[i]);
    to[half + i] = gelu(sum);
  }
  const float* corner = cells + (at.first + static_cast<long>(at.y / 2 * 2) * at.side + at.x / 2 * 2) * hidden + half;
  const long below = static_cast<long>(at.side) * hidden;
  for (int i = 0; i < half; i++)
    to[hidden + i] = .25f * (corner[i] + corner[hidden + i] + corner[below + i] + corner[below + hidden + i]);
}

template <Numbers N>  // of a cell, its surroundings joined, to all channels, which are added to `to`
void widen_onto(const float* mixed, const Place& at, const Mixer& mixer, float* joined, char* to) {
  const int count = mixer.hidden / 2 * 3, channels = mixer.channels, size = 32 * SIZE<N>;
  for (int i = 0; i < count; i++) joined[i] = 0;
  around(at, [&](long other, int tap) {
    for (int i = 0; i < count; i++) joined[i] += mixed[other * count + i] * mixer.fuse[i * 9 + tap];
  });
  for (int block = 0; block < channels / 32; block++) {
    const float *bias = mixer.up_bias + block * 32, *weights = mixer.up + block * 32;
    __m512 u = _mm512_loadu_ps(bias), v = _mm512_loadu_ps(bias + 16);
    for (int i = 0; i < count; i++, weights += channels) {
      u = _mm512_fmadd_ps(broadcast(joined[i]), _mm512_loadu_ps(weights), u);
      v = _mm512_fmadd_ps(broadcast(joined[i]), _mm512_loadu_ps(weights + 16), v);
    }
    add<N>(to + block * size, u, v);
    put<N>(to + block * size, u, v);
  }
}

template <Numbers N>
int run(const char* from, int samples, int tokens, const int* sides, const Mixer& mixer, int crossed, char* to,
        int threads) {
  const int hidden = mixer.hidden, count = hidden / 2 * 3, most = mixer.channels + count;
  const long rows = static_cast<long>(samples) * tokens, size = mixer.channels * SIZE<N>;
  const long shift = crossed ? rows / 2 : 0;  // each half of the samples speaks to the other
  float* cells = reinterpret_cast<float*>(
      workspace.get(sizeof(float) * (rows * (hidden + count) + static_cast<long>(threads) * most)));
  if (!cells) return 0;
  float *mixed = cells + rows * hidden, *lines = mixed + rows * count;
#pragma omp parallel num_threads(threads)
  {
    float* line = lines + static_cast<long>(omp_get_thread_num()) * most;
#pragma omp for
    for (long row = 0; row < rows; row++) narrow<N>(from + row * size, mixer, line, cells + row * hidden);
#pragma omp for
    for (long row = 0; row < rows; row++) mix(cells, row, place(row, tokens, sides), mixer, line, mixed + row * count);
#pragma omp for
    for (long row = 0; row < rows; row++)
      widen_onto<N>(mixed, place(row, tokens, sides), mixer, line, to + (row + shift) % rows * size);
  }
  return 1;
}

}  // namespace

int tiles_mix(const char* from, int samples, int tokens, const int* sides, const Mixer* mixer, int crossed, int wide,
              char* to, int threads) {
  return (wide ? run<FP32> : run<BF16>)(from, samples, tokens, sides, *mixer, crossed, to, threads);
}
