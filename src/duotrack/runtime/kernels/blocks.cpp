// Whole blocks, one after the other: tokens stay in the caches, and nobody has to be asked in between.

#include <algorithm>

#include "calls.h"
#include "tiles.h"

namespace {

thread_local Workspace workspace;

int feed(const Block& block, int rows, int numbers, char* tokens, int threads) {
  return tiles_mlp(tokens, rows, block.outputs, block.mlp_scale, block.mlp_shift, block.mlp_epsilon, block.first,
                   block.first_bias, block.hidden, block.second, block.second_bias, block.outputs, numbers, tokens,
                   threads);
}

// Tokens from `skip` on of each sample, next to one another
void leave_out(const char* from, int samples, int tokens, int skip, size_t size, char* to) {
  for (int sample = 0; sample < samples; sample++)
    std::copy_n(from + (static_cast<size_t>(sample) * tokens + skip) * size, (tokens - skip) * size,
                to + static_cast<size_t>(sample) * (tokens - skip) * size);
}

}  // namespace

int tiles_blocks(const char* from, int samples, int tokens, const Block* blocks, int count, int skip, int numbers,
                 char* to, int threads) {
  size_t largest = 0;  // what comes of a block, in bytes
  int kept = tokens;
  for (int i = 0; i < count; i++) {
    if (blocks[i].shortcut) kept /= 4;
    largest = std::max(largest,
                       whole(static_cast<size_t>(samples) * kept * blocks[i].outputs * (numbers == FP32 ? 4 : 2), 64));
  }
  char* memory = count > 1 || skip ? workspace.get(2 * largest) : nullptr;
  if (!memory && (count > 1 || skip)) return 0;
  for (int i = 0; i < count; i++) {
    const Block& block = blocks[i];
    const bool last = i + 1 == count;
    char* made = last ? to : memory + i % 2 * largest;
    const int left = last ? skip : 0;
    const char* onto = from;
    if (left) {
      char* some = memory + i % 2 * largest;
      leave_out(from, samples, tokens, left, static_cast<size_t>(block.channels) * (numbers == FP32 ? 4 : 2), some);
      onto = some;
    }
    const int done = block.shortcut
                         ? tiles_pool(from, samples, tokens, &block, numbers, made, threads)
                         : tiles_attend(from, samples, tokens, &block, left, -1, numbers, onto, made, nullptr, threads);
    tokens = block.shortcut ? tokens / 4 : tokens - left;
    if (!done || !feed(block, samples * tokens, numbers, made, threads)) return 0;
    from = made;
  }
  return 1;
}
