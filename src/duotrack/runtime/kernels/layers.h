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

template <Numbers N>
inline int blocks_of(int inputs) {
  return (inputs + INPUTS<N> - 1) / INPUTS<N>;
}

// What lies in memory, as 16-bit numbers: 16 rows of so many blocks (of INT8 the rows' steps behind them), and what a
// panel of 32 outputs multiplies them with (of INT8 `Outputs` behind it).
template <Numbers N>
inline size_t tile_row(int blocks) {
  return static_cast<size_t>(blocks) * PARTS<N> * TILE + (N == INT8 ? 32 : 0);
}

template <Numbers N>
inline size_t panel_size(int blocks) {
  return static_cast<size_t>(blocks) * PARTS<N> * 2 * TILE + (N == INT8 ? 64 + blocks * 64 : 0);
}

template <Numbers N>  // of so many pairs of tiles of rows
size_t tiles_size(int pairs, int blocks) {
  return pairs * 2 * tile_row<N>(blocks);
}

// Row `r` of a tile of `count` blocks, in bytes: pieces of 32 numbers from `begin` to `end`, which `piece(i, u, v)`
// gives. Those of long rows it is asked for twice.
template <class Piece>
inline void lay_in_steps(int begin, int end, uint16_t* to, int r, int count, int zero, const Piece& piece) {
  constexpr int KEPT = 48;
  __m512 kept[KEPT][2];
  __m512i top = _mm512_setzero_si512();
  for (int i = begin; i < end; i++) {
    auto& [u, v] = kept[(i - begin) % KEPT];
    piece(i, u, v);
    top = larger(larger(top, u), v);
  }
  const Step step = step_of(top, zero);
  reinterpret_cast<float*>(to + static_cast<size_t>(count) * TILE)[r] = step.size;
  for (int i = begin; i < end; i++) {
    auto& [u, v] = kept[(i - begin) % KEPT];
    if (end - begin > KEPT) piece(i, u, v);
    uint16_t* line = to + (i - begin) / 2 * TILE + r * 32 + (i - begin) % 2 * 16;
    lay_bytes(u, v, step.inverse, step.zero, reinterpret_cast<char*>(line));
  }
}

// Places of pictures (pictures, height, width, channels), a row each; `stride` numbers from one place to the next. The
// inputs of a row are the channels of the side x side places around it, zero outside of the picture.
struct Source {
  const char* start;
  long stride;
  int rows, channels, height, width, side;
};

template <Numbers N>  // 16 rows from `first`, `count` blocks of their inputs from `block`; `zero` is for INT8
void pack_rows(const Source& from, int first, int block, int count, uint16_t* to, int zero = MIDDLE) {
  const int pieces = from.channels / 32, area = from.height * from.width, reach = from.side / 2;  // of 32 inputs
  const int begin = block * INPUTS<N> / 32;
  const int end = std::min(begin + count * INPUTS<N> / 32, pieces * from.side * from.side);
  for (int r = 0; r < 16; r++) {
    const int row = first + r, y = row % area / from.width, x = row % from.width;
    const auto piece = [&](int i) -> const char* {  // null: zeros
      if (from.side == 1)                           // no divisions
        return row < from.rows ? from.start + (row * from.stride + i * 32) * SIZE<N> : nullptr;
      const int place = i / pieces, dy = place / from.side - reach, dx = place % from.side - reach;
      if (row >= from.rows || y + dy < 0 || y + dy >= from.height || x + dx < 0 || x + dx >= from.width) return nullptr;
      return from.start + ((row + dy * from.width + dx) * from.stride + i % pieces * 32) * SIZE<N>;
    };
    if constexpr (N == INT8) {
      lay_in_steps(begin, end, to, r, count, zero, [&](int i, __m512& u, __m512& v) {
        const char* start = piece(i);
        if (start)
          take<BF16>(start, u, v);
        else
          u = v = _mm512_setzero_ps();
      });
    } else {
      for (int i = begin; i < end; i++) {
        uint16_t* line = to + (i - begin) * PARTS<N> * TILE + r * 32;
        const char* start = piece(i);
        start ? lay<N>(start, line) : lay_nothing<N>(line);
      }
    }
  }
}

struct Norm {  // of a row over its channels; without a scale there is none
  const float* scale;
  const float* shift;
  float epsilon;
};

template <Numbers N>  // 16 rows from `first`, all of their channels, normalised; places of side 1
void lay_normed(const Source& from, const Norm& norm, int first, uint16_t* to) {
  const int blocks = from.channels / 32;
  const float share = 1.f / static_cast<float>(from.channels);
  for (int r = 0; r < 16; r++) {
    const char* row = from.start + (first + r) * from.stride * SIZE<N>;
    uint16_t* line = to + r * 32;
    if (first + r >= from.rows) {
      if constexpr (N == INT8)
        reinterpret_cast<float*>(to + blocks_of<N>(from.channels) * TILE)[r] = 0.f;
      else
        for (int block = 0; block < blocks; block++) lay_nothing<N>(line + block * PARTS<N> * TILE);
      continue;
    }
    const auto over = [&](const auto& each) {  // the sum over a row
      __m512 sums[4] = {};
      for (int block = 0; block < blocks; block++) {
        __m512 u, v;
        take<N>(row + block * (32 * SIZE<N>), u, v);
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
    const auto piece = [&](int block, __m512& u, __m512& v) {
      take<N>(row + block * (32 * SIZE<N>), u, v);
      u = normed(u, block * 32);
      v = normed(v, block * 32 + 16);
    };
    if constexpr (N == INT8) {
      lay_in_steps(0, blocks, to, r, blocks_of<N>(from.channels), MIDDLE, piece);
    } else {
      for (int block = 0; block < blocks; block++) {
        __m512 u, v;
        piece(block, u, v);
        lay<N>(u, v, line + block * PARTS<N> * TILE);
      }
    }
  }
}

struct Written {  // what is written after a panel was multiplied, fetched meanwhile: lines of 32 numbers, `stride`
                  // bytes apart
  const char* start = nullptr;
  long stride = 0;
};

struct Panel {  // `count` of its `blocks`, from `first` on; the last may be filled up from the middle on (INT8)
  const uint16_t* start;
  int blocks, first, count;
  bool half;
};

template <Numbers N>
inline Panel whole_panel(const uint16_t* start, int inputs) {
  const int blocks = blocks_of<N>(inputs);
  return {start, blocks, 0, blocks, inputs < blocks * INPUTS<N>};
}

// `rows`, in pairs of tiles, with a panel: `done(p, sums)` has each pair's, of 32 x 32 numbers. They are added to what
// `sums` has, 1024 numbers a pair, if they are not `fresh`. `next` is what is multiplied with after it; `zero` is what
// rows of INT8 were laid out with.
template <Numbers N, class Where, class Done>
inline void pass(const uint16_t* laid, size_t tile_row, int rows, const Panel& w, const uint16_t* next, float* sums,
                 bool fresh, const Where& where, const Done& done, int zero = MIDDLE) {
  const int pairs = (rows + 31) / 32;
  const int lines = std::max(4, PARTS<N> * AHEAD / std::max(pairs, 1));  // with each block
  for (int c = 0; c < w.count; c += CHUNK<N>) {
    const int count = std::min(CHUNK<N>, w.count - c);
    const bool last = c + count == w.count;
    const uint16_t* chunk = w.start + static_cast<size_t>(w.first + c) * PARTS<N> * 2 * TILE;
    const char* ahead = reinterpret_cast<const char*>(last ? next : chunk + count * PARTS<N> * 2 * TILE);
    Measure measure;
    if constexpr (N == INT8)
      measure = Measure(outputs_of(w.start, w.blocks), w.first + c, count, zero, fresh && c == 0);
    for (int p = 0; p < pairs; p++) {
      float* sum = sums + p * 1024;
      const uint16_t* tiles = laid + p * 2 * tile_row;
      const Written out = last ? where(p) : Written();
      const int written = out.start ? (31 + count) / count : 0;  // 32 over the blocks
      const char* to = out.start;
      const auto fetch = [&] {
        for (int line = 0; line < lines; line++, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T1);
        for (int row = 0; row < written; row++, to += out.stride)
          for (int part = 0; part < PARTS<N>; part++) __builtin_prefetch(to + part * 64, 1);
      };
      const uint16_t* rows_at = tiles + static_cast<size_t>(c) * PARTS<N> * TILE;
      const int present = std::min(32, rows - p * 32);
      if constexpr (N == INT8) {
        const float* steps = reinterpret_cast<const float*>(tiles + static_cast<size_t>(w.count) * TILE);
        measure.rows[0] = steps;
        measure.rows[1] = steps + tile_row / 2;
        measure.sums = sum;
        multiply_bytes(rows_at, tile_row, present, chunk, count, w.half && last, fetch, measure);
      } else {
        multiply<N>(rows_at, tile_row, present, chunk, count, sum, 128, fresh && c == 0, fetch);
      }
      if (last) done(p, sum);
    }
  }
}

}  // namespace
