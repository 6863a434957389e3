// Scaled dot-product attention of one head: whole rows of its scores fit in a cache.

#pragma once

#include "tiles.h"

namespace {

struct Sizes {
  int queries, keys, width;
  int pairs() const { return (queries + 31) / 32; }
  int panels() const { return (keys + 31) / 32; }  // of keys
  int blocks() const { return width / 32; }
};

struct Head {         // its tokens as tiles, and room for weights and scores of 32 queries
  uint16_t* queries;  // (pairs, 2, blocks)
  uint16_t* keys;     // what is multiplied with: outputs are keys, inputs their numbers
  uint16_t* values;   // outputs are their numbers, inputs the keys
  uint16_t* weights;
  float* scores;
};

template <Numbers N>
size_t head_memory(const Sizes& of) {  // bytes
  const size_t tiles = 2 * of.pairs() * of.blocks() + 4 * of.panels() * of.blocks() + 2 * of.panels();
  return tiles * PARTS<N> * TILE * 2 + static_cast<size_t>(of.panels()) * 4096;
}

template <Numbers N>
Head head_in(char* memory, const Sizes& of) {
  uint16_t* queries = reinterpret_cast<uint16_t*>(memory);
  uint16_t* keys = queries + of.pairs() * 2 * of.blocks() * PARTS<N> * TILE;
  uint16_t* values = keys + of.panels() * 2 * of.blocks() * PARTS<N> * TILE;
  uint16_t* weights = values + of.panels() * 2 * of.blocks() * PARTS<N> * TILE;
  return {queries, keys, values, weights, reinterpret_cast<float*>(weights + of.panels() * 2 * PARTS<N> * TILE)};
}

template <Numbers N>  // 16 keys by 32 numbers, tiles of rows, as the tile `half` of what is multiplied with
inline void turn(const uint16_t* rows, int half, uint16_t* to) {
  const __m512i lines =
      _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(16));
  for (int part = 0; part < PARTS<N>; part++)
    for (int pair = 0; pair < 16; pair++)
      _mm512_store_si512(to + (part * 2 + half) * TILE + pair * 32,
                         _mm512_i32gather_epi32(lines, rows + part * TILE + pair * 2, 4));
}

inline __mmask16 before(int end) { return static_cast<__mmask16>((1u << std::clamp(end, 0, 16)) - 1); }

inline float highest_of(const float* scores, int count) {
  __m512 top = broadcast(-3e38f);
  for (int at = 0; at < count; at += 16)
    top = _mm512_mask_max_ps(top, before(count - at), top, _mm512_load_ps(scores + at));
  return _mm512_reduce_max_ps(top);
}

template <Numbers N>  // a row of scores as a line of tiles of weights that are not normalised yet; returns their sum
float softmax_row(const float* scores, int count, int blocks, float scale, uint16_t* line) {
  const __m512 highest = broadcast(highest_of(scores, count)), factor = broadcast(scale * 1.44269504f);
  __m512 sum = _mm512_setzero_ps();
  for (int block = 0; block < blocks; block++) {
    __m512 weights[2];
    for (int i = 0; i < 2; i++) {
      const int at = block * 32 + i * 16;
      const __m512 below = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(scores + at), highest), factor);
      weights[i] = _mm512_maskz_mov_ps(before(count - at), exp2<N>(below));
      sum = _mm512_add_ps(sum, weights[i]);
    }
    lay<N>(weights[0], weights[1], line + block * PARTS<N> * TILE);
  }
  return _mm512_reduce_add_ps(sum);
}

// The same row as it is, normalised.
inline void softmax_exactly(const float* scores, int count, float scale, float* to) {
  const __m512 highest = broadcast(highest_of(scores, count)), factor = broadcast(scale * 1.44269504f);
  __m512 sum = _mm512_setzero_ps();
  const auto weights = [&](int at) {
    return exp2<FP32>(_mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(scores + at), highest), factor));
  };
  for (int at = 0; at < count; at += 16) sum = _mm512_mask_add_ps(sum, before(count - at), sum, weights(at));
  const __m512 share = broadcast(1.f / _mm512_reduce_add_ps(sum));
  for (int at = 0; at < count; at += 16)
    _mm512_mask_storeu_ps(to + at, before(count - at), _mm512_mul_ps(weights(at), share));
}

template <Numbers N>  // one panel's sums of 16 tokens, the tile `tile` of queries (`kind` 0), keys or values; `scratch`
                      // is for two tiles
void lay_part(const float* sums, const float* bias, int kind, int block, int tile, const Sizes& of, const Head& to,
              uint16_t* scratch) {
  const int blocks = of.blocks(), half = tile % 2;
  const __m512 left = _mm512_loadu_ps(bias), right = _mm512_loadu_ps(bias + 16);
  const auto numbers = [&](int r, int side) {
    return _mm512_add_ps(_mm512_load_ps(sums + r * 32 + side * 16), side ? right : left);
  };
  if (kind == 2) {
    uint16_t* panel = to.values + (static_cast<size_t>(block) * of.panels() + tile / 2) * PARTS<N> * 2 * TILE;
    for (int r = 0; r < 16; r += 2)
      for (int side = 0; side < 2; side++)
        lay_inputs<N>(numbers(r, side), numbers(r + 1, side), half * 16 + r, panel + side * TILE);
    return;
  }
  uint16_t* query = to.queries + (static_cast<size_t>(tile) * blocks + block) * PARTS<N> * TILE;
  uint16_t* rows = kind == 0 ? query : scratch;
  for (int r = 0; r < 16; r++) lay<N>(numbers(r, 0), numbers(r, 1), rows + r * 32);
  if (kind == 1) turn<N>(rows, half, to.keys + (static_cast<size_t>(tile / 2) * blocks + block) * PARTS<N> * 2 * TILE);
}

// What queries from `skip` on get of the values, rows `stride` bytes apart; how query `look` weighs the keys is written
// to `row`, if there is one.
template <Numbers N>
void mix(const Head& head, const Sizes& of, int skip, int look, float* row, char* out, long stride) {
  const int blocks = of.blocks(), panels = of.panels();
  const size_t query_tile = static_cast<size_t>(blocks) * PARTS<N> * TILE, weight_tile = panels * PARTS<N> * TILE;
  const float scale = 1.f / __builtin_sqrtf(static_cast<float>(of.width));
  const auto nothing = [] {};
  for (int first = skip / 32 * 32; first < of.queries; first += 32) {
    const uint16_t* queries = head.queries + first / 16 * query_tile;
    const int begin = std::max(skip - first, 0), rows = std::min(32, of.queries - first);
    for (int panel = 0; panel < panels; panel++)
      multiply<N>(queries, query_tile, rows, head.keys + static_cast<size_t>(panel) * blocks * PARTS<N> * 2 * TILE,
                  blocks, head.scores + panel * 32, panels * 128, true, nothing);
    float sums[32];
    for (int r = begin; r < rows; r++) {
      const float* scores = head.scores + static_cast<size_t>(r) * panels * 32;
      uint16_t* line = head.weights + r / 16 * weight_tile + r % 16 * 32;
      sums[r] = softmax_row<N>(scores, of.keys, panels, scale, line);
      if (row && first + r == look) softmax_exactly(scores, of.keys, scale, row);
    }
    for (int panel = 0; panel < blocks; panel++) {
      alignas(64) float mixed[1024];
      multiply<N>(head.weights, weight_tile, rows,
                  head.values + static_cast<size_t>(panel) * panels * PARTS<N> * 2 * TILE, panels, mixed, 128, true,
                  nothing);
      for (int r = begin; r < rows; r++) {
        const __m512 share = broadcast(1.f / sums[r]);
        put<N>(out + (first + r - skip) * stride + panel * (32 * SIZE<N>),
               _mm512_mul_ps(_mm512_load_ps(mixed + r * 32), share),
               _mm512_mul_ps(_mm512_load_ps(mixed + r * 32 + 16), share));
      }
    }
  }
}

}  // namespace
