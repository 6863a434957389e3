// What linear layers, convolutions and blocks' MLPs have in common: rows laid out as tiles, panels of weights passing
// by.

#pragma once

#include <cmath>

#include "tiles.h"

namespace {

constexpr int GROUP = 12;  // pairs of tiles of rows multiplied at a time

struct Layer {
  const uint16_t* weights;
  const float* bias;
  int panels;  // of 32 outputs
};

template <bool FP32>  // numbers in tiles of so many pairs of tiles of rows and blocks of inputs
size_t tiles_size(int pairs, int blocks) {
  return static_cast<size_t>(pairs) * 2 * blocks * (FP32 ? 2 : 1) * TILE;
}

// Places of pictures (pictures, height, width, channels), a row each; `stride` numbers from one place to the next. The
// inputs of a row are the channels of the side x side places around it, zero outside of the picture.
struct Source {
  const char* start;
  long stride;
  int rows, channels, height, width, side;
};

template <bool FP32>  // 16 rows from `first`, `count` blocks of their inputs from `block`
void pack_rows(const Source& from, int first, int block, int count, uint16_t* to) {
  constexpr int PARTS = FP32 ? 2 : 1, SIZE = FP32 ? 4 : 2;
  const int blocks = from.channels / 32, area = from.height * from.width, reach = from.side / 2;
  for (int r = 0; r < 16; r++) {
    const int row = first + r, y = row % area / from.width, x = row % from.width;
    for (int i = 0; i < count; i++) {
      const int place = (block + i) / blocks, dy = place / from.side - reach, dx = place % from.side - reach;
      uint16_t* line = to + i * PARTS * TILE + r * 32;
      if (row < from.rows && y + dy >= 0 && y + dy < from.height && x + dx >= 0 && x + dx < from.width) {
        const long at = (row + dy * from.width + dx) * from.stride + (block + i) % blocks * 32;
        lay<FP32>(from.start + at * SIZE, line);
      } else {
        lay_nothing<FP32>(line);
      }
    }
  }
}

struct Norm {  // of a row over its channels; without a scale there is none
  const float* scale;
  const float* shift;
  float epsilon;
};

template <bool FP32>  // 16 rows from `first`, all of their channels, normalised; places of side 1
void lay_normed(const Source& from, const Norm& norm, int first, uint16_t* to) {
  constexpr int PARTS = FP32 ? 2 : 1;
  const int blocks = from.channels / 32;
  const float share = 1.f / static_cast<float>(from.channels);
  for (int r = 0; r < 16; r++) {
    const char* row = from.start + (first + r) * from.stride * (FP32 ? 4 : 2);
    uint16_t* line = to + r * 32;
    if (first + r >= from.rows) {
      for (int block = 0; block < blocks; block++) lay_nothing<FP32>(line + block * PARTS * TILE);
      continue;
    }
    const auto over = [&](const auto& each) {  // the sum over a row
      __m512 sums[4] = {};
      for (int block = 0; block < blocks; block++) {
        __m512 u, v;
        take<FP32>(row + block * (FP32 ? 128 : 64), u, v);
        each(u, sums[block % 2 * 2]);
        each(v, sums[block % 2 * 2 + 1]);
      }
      return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
    };
    const __m512 mean = broadcast(share * over([](__m512 x, __m512& sum) { sum = _mm512_add_ps(sum, x); }));
    const float spread = share * over([&](__m512 x, __m512& sum) {
                           const __m512 off = _mm512_sub_ps(x, mean);
                           sum = _mm512_fmadd_ps(off, off, sum);
                         });
    // squares may be too large for float32: that is to be seen
    const __m512 factor = broadcast(spread < INFINITY ? 1.f / __builtin_sqrtf(spread + norm.epsilon) : NAN);
    const auto normed = [&](__m512 x, int channel) {
      const __m512 scale = _mm512_loadu_ps(norm.scale + channel), shift = _mm512_loadu_ps(norm.shift + channel);
      return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_sub_ps(x, mean), factor), scale, shift);
    };
    for (int block = 0; block < blocks; block++) {
      __m512 u, v;
      take<FP32>(row + block * (FP32 ? 128 : 64), u, v);
      lay<FP32>(normed(u, block * 32), normed(v, block * 32 + 16), line + block * PARTS * TILE);
    }
  }
}

struct Written {  // what is written after a panel was multiplied, fetched meanwhile: lines of 32 numbers, `stride`
                  // bytes apart
  const char* start = nullptr;
  long stride = 0;
};

// `rows`, in pairs of tiles, with `length` blocks of a panel: `done(p, sums)` has each pair's, of 32 x 32 numbers. They
// are added to what `sums` has, 1024 numbers a pair, if they are not `fresh`. `next` is the panel that comes after it.
template <bool FP32, class Where, class Done>
inline void pass(const uint16_t* laid, size_t tile_row, int rows, const uint16_t* w, int length, const uint16_t* next,
                 float* sums, bool fresh, const Where& where, const Done& done) {
  constexpr int PARTS = FP32 ? 2 : 1;
  const int pairs = (rows + 31) / 32;
  const int lines = std::max(4, PARTS * AHEAD / std::max(pairs, 1));  // with each block
  for (int c = 0; c < length; c += CHUNK<FP32>) {
    const int count = std::min(CHUNK<FP32>, length - c);
    const bool last = c + count == length;
    const uint16_t* chunk = w + static_cast<size_t>(c) * PARTS * 2 * TILE;
    const char* ahead = reinterpret_cast<const char*>(last ? next : chunk + count * PARTS * 2 * TILE);
    for (int p = 0; p < pairs; p++) {
      float* sum = sums + p * 1024;
      const Written out = last ? where(p) : Written();
      const int written = out.start ? (31 + count) / count : 0;  // 32 over the blocks
      const char* to = out.start;
      const auto fetch = [&] {
        for (int line = 0; line < lines; line++, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T1);
        for (int row = 0; row < written; row++, to += out.stride)
          for (int part = 0; part < PARTS; part++) __builtin_prefetch(to + part * 64, 1);
      };
      multiply<FP32>(laid + p * 2 * tile_row + static_cast<size_t>(c) * PARTS * TILE, tile_row,
                     std::min(32, rows - p * 32), chunk, count, sum, 128, fresh && c == 0, fetch);
      if (last) done(p, sum);
    }
  }
}

}  // namespace
