// Rows of inputs times weights: linear layers, and convolutions that keep their grid.

#include "product.h"

#include "calls.h"

namespace {

thread_local Workspace workspace;

template <Numbers N>
bool convs(const char* from, int pictures, int height, int width, const Conv* each, int count, char* to, int threads) {
  const int rows = pictures * height * width;
  const auto source = [&](const char* start, const Conv& conv, int group) {
    const int inputs = conv.channels / conv.groups;
    return Source{start + group * inputs * SIZE<N>, conv.channels, rows, inputs, height, width, conv.side};
  };
  size_t own = 0, between = 0;  // bytes
  for (int i = 0; i < count; i++) {
    const int outputs = each[i].outputs / each[i].groups;
    own = std::max(own, whole_pages(products_memory<N>(source(from, each[i], 0), outputs)));
    if (i + 1 < count) between = std::max(between, whole_pages(static_cast<size_t>(rows) * each[i].outputs * SIZE<N>));
  }
  char* memory = workspace.get(own * threads + 2 * between);
  if (!memory) return false;
  char* passed = memory + own * threads;
#pragma omp parallel num_threads(threads)
  {
    const int me = omp_get_thread_num();
    const Units units;
    const char* given = from;
    for (int i = 0; i < count; i++) {
      const Conv& conv = each[i];
      char* made = i + 1 == count ? to : passed + i % 2 * between;
      const int outputs = conv.outputs / conv.groups;
      const size_t panels = outputs / 32 * panel_size<N>(blocks_of<N>(source(given, conv, 0)));
      for (int group = 0; group < conv.groups; group++) {
        Target target{made + group * outputs * SIZE<N>, conv.outputs, conv.bias + group * outputs};
        target.relu = conv.relu;
        products<N>(source(given, conv, group), conv.weights + group * panels, outputs, target, omp_get_num_threads(),
                    me, memory + me * own);
      }
      given = made;
#pragma omp barrier
    }
  }
  return true;
}

}  // namespace

int tiles_convs(const char* from, int pictures, int height, int width, const Conv* each, int count, int numbers,
                char* to, int threads) {
  return chosen(numbers, convs<BF16>, convs<FP32>, convs<INT8>)(from, pictures, height, width, each, count, to,
                                                                threads);
}
