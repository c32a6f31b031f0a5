// Register tiles: the two small matrix products that the layer and its gradients are made of.
#pragma once

#include <cstdint>
#include <cstring>

namespace jaxws {

#if defined(__AVX512F__)
constexpr int kVector = 16;   // floats in a register
constexpr int kRows = 12;     // rows of a tile: 24 of 32 registers hold sums
#else
constexpr int kVector = 8;    // AVX2; compilers split it in two on NEON
constexpr int kRows = 6;      // 12 of 16 registers hold sums
#endif
constexpr int kLanes = 2 * kVector;  // columns of a tile

typedef float Vector __attribute__((vector_size(4 * kVector)));
typedef float Unaligned __attribute__((vector_size(4 * kVector), aligned(4)));

inline Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

// Consecutive rows of a packed panel, and the weights that multiply them.
struct Run {
  int64_t panel;         // first row, counted from the panel's start
  int64_t rows;
  const float* weights;  // of the first row, tile row 0
};

// sums[m][lane] (+)= sum over runs and rows r of weight(r, m) * panel[r][lane]. Weights are
// w[r * ld + m], or w[m * ld + r] if Transposed.
template <int M, bool Transposed>
void multiply_tile(const Run* runs, int count, const float* panel, int64_t ld, int64_t m0,
                   bool add, float* sums) {
  Vector acc[M][2];
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < 2; ++v)
      acc[m][v] = add ? load(sums + m * kLanes + v * kVector) : Vector{};
  for (int i = 0; i < count; ++i) {
    const float* b = panel + runs[i].panel * kLanes;
    const float* w = runs[i].weights + (Transposed ? m0 * ld : m0);
    for (int64_t r = 0; r < runs[i].rows; ++r, b += kLanes) {
      const Vector b0 = load(b), b1 = load(b + kVector);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const float a = Transposed ? w[m * ld + r] : w[r * ld + m];
        acc[m][0] += a * b0;
        acc[m][1] += a * b1;
      }
    }
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < 2; ++v) store(sums + m * kLanes + v * kVector, acc[m][v]);
}

// out[m][f] = sum over rows r of a[r * lda + m] * b[r * ldb + f] for M by kLanes.
template <int M>
void outer_tile(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t rows,
                float* out) {
  Vector acc[M][2] = {};
  for (int64_t r = 0; r < rows; ++r, a += lda, b += ldb) {
    const Vector b0 = load(b), b1 = load(b + kVector);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      acc[m][0] += a[m] * b0;
      acc[m][1] += a[m] * b1;
    }
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < 2; ++v) store(out + m * kLanes + v * kVector, acc[m][v]);
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
