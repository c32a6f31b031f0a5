// Register tiles: the two small matrix products that the layer and its gradients are made of.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "numbers.h"

namespace jaxws {

// Consecutive rows of words of a packed panel, and the weights that multiply them.
struct Run {
  int64_t panel;  // first row, counted from the panel's start
  int64_t rows;
  const float* weights;  // of the first row, tile row 0
};

// sums[m][lane] (+)= sum over runs and rows r of weight(r, m) * panel[r][lane]. Weights are words
// w[r * ld + m], or w[m * ld + r] if Transposed.
template <typename Format, int M, bool Transposed>
void multiply_tile(const Run* runs, int count, const float* panel, int64_t ld, int64_t m0, bool add,
                   float* sums) {
  Vector acc[M][2];
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < 2; ++v) acc[m][v] = add ? load(sums + m * kLanes + v * kVector) : Vector{};
  for (int i = 0; i < count; ++i) {
    const float* b = panel + runs[i].panel * kLanes;
    const float* w = runs[i].weights + (Transposed ? m0 * ld : m0);
    for (int64_t r = 0; r < runs[i].rows; ++r, b += kLanes) {
      const Vector b0 = load(b), b1 = load(b + kVector);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const float a = Transposed ? w[m * ld + r] : w[r * ld + m];
        acc[m][0] = Format::add_product(acc[m][0], a, b0);
        acc[m][1] = Format::add_product(acc[m][1], a, b1);
      }
    }
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < 2; ++v) store(sums + m * kLanes + v * kVector, acc[m][v]);
}

// out[m * ldo + f] (+)= sum over r of a[m * lda + r] * b[r * ldb + f], words, for M by V registers'
// width of b; of the columns of the result, `width` are stored.
template <typename Format, int M, int V>
void outer_tile(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t rows, bool add,
                float* out, int64_t ldo, int64_t width) {
  Vector acc[M][V] = {};
  for (int64_t r = 0; r < rows; ++r, b += ldb) {
    Vector columns[V];
    for (int v = 0; v < V; ++v) columns[v] = load(b + v * kVector);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < V; ++v)
        acc[m][v] = Format::add_product(acc[m][v], a[m * lda + r], columns[v]);
  }
  for (int m = 0; m < M; ++m, out += ldo)
    for (int v = 0; v < V; ++v) {
      float* to = out + v * kVector;
      const int64_t stored = std::min<int64_t>(width - v * kVector, kVector);
      if (stored == kVector) {
        store(to, add ? load(to) + acc[m][v] : acc[m][v]);
      } else {
        for (int64_t q = 0; q < stored; ++q) to[q] = (add ? to[q] : 0.0f) + acc[m][v][q];
      }
    }
}

// Calls f.template operator()<M>() for the tile height M in 1 .. kRows that is `rows`.
template <int M = kRows, typename F>
void with_rows(int64_t rows, F&& f) {
  if constexpr (M > 1) {
    if (rows < M) return with_rows<M - 1>(rows, f);
  }
  f(std::integral_constant<int, M>{});
}

}  // namespace jaxws
