// Rows of inputs times weights: linear layers, and convolutions that keep their grid.

#include "product.h"

namespace {

thread_local Workspace workspace;

template <bool FP32>
bool all_products(const Source& from, const uint16_t* weights, int outputs, const Target& to, int threads) {
  const size_t each = whole_pages(products_memory<FP32>(from, outputs));
  char* memory = workspace.get(each * threads);
  if (!memory) return false;
#pragma omp parallel num_threads(threads)
  {
    const int me = omp_get_thread_num();
    _tile_loadconfig(&CONFIG);
    products<FP32>(from, weights, outputs, to, omp_get_num_threads(), me, memory + me * each);
    _tile_release();
  }
  return true;
}

}  // namespace

// Whether it was done; otherwise there is no memory for it. `wide`: float32 rather than bfloat16, on both sides.
extern "C" int tiles_product(const char* from, long from_stride, int rows, int channels, int height, int width,
                             int side, const uint16_t* weights, const float* bias, int outputs, int wide, char* to,
                             long to_stride, int threads) {
  const Source source{from, from_stride, rows, channels, height, width, side};
  const Target target{to, to_stride, bias};
  return (wide ? all_products<true> : all_products<false>)(source, weights, outputs, target, threads);
}
