// Rows of inputs times weights, a block at a time: 32 rows, 32 inputs (of bytes 64), 32 outputs.
//
// `duotrack.runtime.tile_library` compiles these files for the processor that is here, `tile_ops`, `tile_block_ops`,
// `tile_scan` and `tile_adapters` hand in the pointers.
//
// A tile is 16 lines of 64 bytes. Rows to be multiplied lie as tiles (blocks of 32 inputs, parts, 16 rows, 64 bytes);
// what they are multiplied with as (panels of 32 outputs, blocks, parts, 2, 16 lines of inputs, 16 outputs, 4 bytes).
// bfloat16 has one part, its lines of inputs are pairs; float32 (`FP32`) has two, which `amx.h` and `avx512.h` explain.
// Bytes (`INT8`) have one, their lines of inputs are fours; behind a tile's blocks lie the steps of its 16 rows, behind
// a panel's what `Outputs` says (`int8.h`).

#pragma once

#include "int8.h"

#ifdef __AMX_BF16__
#include "amx.h"
#else
#include "avx512.h"
#endif

namespace {

template <Numbers N>
inline void lay(const char* from, uint16_t* line) {
  if constexpr (N == FP32) {
    const float* source = reinterpret_cast<const float*>(from);
    lay<FP32>(_mm512_loadu_ps(source), _mm512_loadu_ps(source + 16), line);
  } else {
    _mm512_store_si512(line, _mm512_loadu_si512(from));
  }
}

template <Numbers N>
inline void lay_nothing(uint16_t* line) {
  for (int part = 0; part < PARTS<N>; part++) _mm512_store_si512(line + part * TILE, _mm512_setzero_si512());
}

}  // namespace
