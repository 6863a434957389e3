// What `duotrack.runtime.tile_library` calls, but for `tiles_pool`, and what it hands in. Each says whether it was
// done; otherwise there is no memory for it. `numbers`: which of `Numbers`; with INT8 only layers multiply in 8 bits,
// and what comes in and goes out is bfloat16. `wide`: float32 rather than bfloat16, on all sides.

#pragma once

#include <cstdint>

extern "C" {

// A linear layer or a convolution that keeps its grid: inputs are the `channels`, of all groups, of each of the side x
// side places around; `relu` after it.
struct Conv {
  const uint16_t* weights;
  const float* bias;
  int groups, channels, outputs, side, relu;
};

// A transformer block. With a shortcut it pools: it keeps one of four tokens, and `outputs` are not its `channels`.
struct Block {
  const float *scale, *shift;
  const uint16_t* qkv;
  const float* qkv_bias;
  const uint16_t* shortcut;
  const float* shortcut_bias;
  const uint16_t* proj;
  const float* proj_bias;
  const float *mlp_scale, *mlp_shift;
  const uint16_t* first;
  const float* first_bias;
  const uint16_t* second;
  const float* second_bias;
  float epsilon, mlp_epsilon;
  int channels, outputs, heads, hidden;
};

// PATrack's frequency mixer, in float32: `channels` (multiples of 32) to `hidden` (of 4), to half as many again, to
// `channels`. The norm's numbers are in `down`.
struct Mixer {
  const float *down, *down_bias;    // (hidden, channels)
  const float* filter;              // (hidden / 2, hidden / 4, 3, 3): a convolution of the first quarter
  const float *peaks, *peaks_bias;  // (hidden / 2, hidden / 4): a layer of the largest of the second quarter
  const float* fuse;                // (3 hidden / 2, 3, 3): of each channel by itself, itself added
  const float *up, *up_bias;        // (3 hidden / 2, channels)
  float epsilon;
  int channels, hidden;
};

// Whether this process may use the units.
int tiles_ready();

// (pictures, height, width, inputs) -> (pictures, height, width, outputs), one after the other.
int tiles_convs(const char* from, int pictures, int height, int width, const Conv* convs, int count, int numbers,
                char* to, int threads);

// (pictures, channels, height, width) -> (pictures, windows, 64, outputs), `positions` (windows, 64, outputs) added.
int tiles_window_patches(const char* from, int pictures, int channels, int height, int width, int side, int stride,
                         const uint16_t* weights, const float* bias, int outputs, const char* positions, int wide,
                         char* to, int threads);

// (rows, channels) -> (rows, outputs). With a norm's numbers it is a block's half: rows are normalised, and what comes
// of them is added to them; then `to` may be `from`.
int tiles_mlp(const char* from, int rows, int channels, const float* norm_scale, const float* norm_shift,
              float norm_epsilon, const uint16_t* first_weights, const float* first_bias, int hidden,
              const uint16_t* second_weights, const float* second_bias, int outputs, int numbers, char* to,
              int threads);

// The first half of a block that does not pool: (samples, tokens, channels) -> (samples, tokens - skip, channels),
// added to as many of `onto`. `looks`, if not null, gets how token `look` weighs all: (samples, heads, tokens) of
// float32.
int tiles_attend(const char* from, int samples, int tokens, const Block* block, int skip, int look, int numbers,
                 const char* onto, char* to, float* looks, int threads);

// The first half of a block that pools: (samples, tokens, channels) -> (samples, tokens / 4, outputs).
int tiles_pool(const char* from, int samples, int tokens, const Block* block, int numbers, char* to, int threads);

// (samples, tokens, channels) through whole blocks; of the last, which does not pool then, tokens from `skip` on.
int tiles_blocks(const char* from, int samples, int tokens, const Block* blocks, int count, int skip, int numbers,
                 char* to, int threads);

// u, delta and the result (samples, length, channels), a (states, channels), b and c (samples, length, states), all of
// float32; channels in multiples of 16, states up to 64.
int tiles_scan(const float* u, const float* delta, const float* a, const float* b, const float* c, int samples,
               int length, int channels, int states, float* to, int threads);

// Tokens (samples, tokens, channels) of square grids with these even `sides`, one after the other, normalised and
// mixed; what comes of it is added to `to`, if `crossed` to the other half of the samples.
int tiles_mix(const char* from, int samples, int tokens, const int* sides, const Mixer* mixer, int crossed, int wide,
              char* to, int threads);

// The four are (samples, heads, queries or keys, width); strides are of samples, heads and tokens, for each of them.
int tiles_attention(const char* query, const char* key, const char* value, char* to, const long* strides, int samples,
                    int heads, int queries, int keys, int width, int wide, int threads);
}
