// The selective scan of `duotrack.models.scan`, 16 channels at a time.

#include "calls.h"
#include "tiles.h"

namespace {

constexpr int LANES = 16, STATES = 64;  // at most

// One sample's channels from `first`: h = exp(delta a) h + delta u b, y = c h, from h = 0
void scan(const float* u, const float* delta, const float* a, const float* b, const float* c, int length, int channels,
          int states, int first, float* to) {
  __m512 rates[STATES], h[STATES];
  for (int n = 0; n < states; n++) {
    rates[n] = _mm512_mul_ps(_mm512_loadu_ps(a + static_cast<long>(n) * channels + first), broadcast(1.44269504f));
    h[n] = _mm512_setzero_ps();
  }
  for (long t = 0; t < length; t++) {
    const __m512 step = _mm512_loadu_ps(delta + t * channels + first);
    const __m512 drive = _mm512_mul_ps(step, _mm512_loadu_ps(u + t * channels + first));
    __m512 sums[2] = {};
    for (int n = 0; n < states; n++) {
      const __m512 kept = _mm512_mul_ps(exp2<FP32>(_mm512_mul_ps(step, rates[n])), h[n]);
      h[n] = _mm512_fmadd_ps(drive, broadcast(b[t * states + n]), kept);
      sums[n % 2] = _mm512_fmadd_ps(h[n], broadcast(c[t * states + n]), sums[n % 2]);
    }
    _mm512_storeu_ps(to + t * channels + first, _mm512_add_ps(sums[0], sums[1]));
  }
}

}  // namespace

int tiles_scan(const float* u, const float* delta, const float* a, const float* b, const float* c, int samples,
               int length, int channels, int states, float* to, int threads) {
  const int groups = channels / LANES;
#pragma omp parallel for num_threads(threads)
  for (int i = 0; i < samples * groups; i++) {
    const long rows = static_cast<long>(i / groups) * length;
    scan(u + rows * channels, delta + rows * channels, a, b + rows * states, c + rows * states, length, channels,
         states, i % groups * LANES, to + rows * channels);
  }
  return 1;
}
