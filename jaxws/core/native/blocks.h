// How the work on an image is cut into tasks, each of which copies what it needs.
#pragma once

#include <algorithm>
#include <cstdint>

#include "geometry.h"
#include "numbers.h"

namespace jaxws {

// Of packed pixels per task: with AVX-512 640 KiB, else 320; most of an L2.
constexpr int64_t kCacheWords = kVector * 10 * 1024;

// Splits [0, size) into blocks; the b-th one.
inline Range block_of(int64_t size, int64_t block, int64_t b) {
  return {b * block, std::min(size, (b + 1) * block)};
}

// Rows of the source per task, given what one row of the destination needs and costs.
inline int64_t rows_per_task(int64_t rows, int64_t row_words, int64_t kernel, int64_t tasks_per_row,
                             int64_t threads) {
  const int64_t fit = kCacheWords / std::max<int64_t>(row_words, 1) - (kernel - 1);
  const int64_t share = rows * tasks_per_row / (4 * std::max<int64_t>(threads, 1));
  return std::clamp<int64_t>(std::min(fit, share), 1, rows);
}

}  // namespace jaxws
