// What kernels read: float32, or bfloat16 where the processor multiplies it.
//
// Copies are made of words of 32 bits: one float, or two bfloat16 that follow each other along the
// axis that is summed over. Sums are float32. A number format says how many numbers a word holds,
// how two registers of words are multiplied and added up, and how sums are written.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace jaxws {

#if defined(__AVX512F__)
constexpr int kVector = 16;  // words in a register
constexpr int kRows = 12;    // rows of a tile: 24 of 32 registers hold sums
#else
constexpr int kVector = 8;  // AVX2; compilers split it in two on NEON
constexpr int kRows = 6;    // 12 of 16 registers hold sums
#endif
constexpr int kLanes = 2 * kVector;  // columns of a tile

typedef float Vector __attribute__((vector_size(4 * kVector)));
typedef float Unaligned __attribute__((vector_size(4 * kVector), aligned(4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

// A store past the caches, which spares reading what it overwrites; p is aligned to a register.
// Others may read it once this thread has called streams_done().
inline void stream(float* p, Vector v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, reinterpret_cast<__m512>(v));
#elif defined(__AVX__)
  _mm256_stream_ps(p, reinterpret_cast<__m256>(v));
#else
  store(p, v);
#endif
}

inline void streams_done() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

// How many words hold `count` numbers.
template <typename Format>
int64_t words(int64_t count) {
  return (count + Format::kPerWord - 1) / Format::kPerWord;
}

struct Float32 {
  using Number = float;
  static constexpr int kPerWord = 1;

  static Vector add_product(Vector sum, float a, Vector b) { return sum + a * b; }

  // kLanes words, of the rows that make a word: of one, so that the second is not asked for.
  static void interleave(const float* row, const float*, float* to) {
    store(to, load(row));
    store(to + kVector, load(row + kVector));
  }
  static float word(const float* row, const float*, int64_t i) { return row[i]; }

  // Writes kLanes sums; `past` the caches if both agree.
  static void write(const float* sums, float* to, bool past) {
    for (int v = 0; v < kLanes; v += kVector)
      past ? stream(to + v, load(sums + v)) : store(to + v, load(sums + v));
  }
};

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#define JAXWS_BFLOAT16 1

// The two products of a word are added to the sum one after the other, each sum rounded to float32;
// numbers below 1.2e-38 count as zero.
struct BFloat16 {
  using Number = uint16_t;
  static constexpr int kPerWord = 2;
  typedef uint16_t Numbers __attribute__((vector_size(64)));
  typedef uint16_t UnalignedNumbers __attribute__((vector_size(64), aligned(2), may_alias));

  static Vector add_product(Vector sum, float a, Vector b) {
    return reinterpret_cast<Vector>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum),
                                                     reinterpret_cast<__m512bh>(_mm512_set1_ps(a)),
                                                     reinterpret_cast<__m512bh>(b)));
  }

  // Words (row[i], next[i]); zeros in place of a next row, where there is none.
  static void interleave(const Number* row, const Number* next, float* to) {
    const Numbers a = *reinterpret_cast<const UnalignedNumbers*>(row);
    const Numbers b = next ? *reinterpret_cast<const UnalignedNumbers*>(next) : Numbers{};
    const Numbers low =
        __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40,
                                9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47);
    const Numbers high =
        __builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23,
                                55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63);
    store(to, reinterpret_cast<Vector>(low));
    store(to + kVector, reinterpret_cast<Vector>(high));
  }
  static float word(const Number* row, const Number* next, int64_t i) {
    const uint32_t bits = row[i] | static_cast<uint32_t>(next ? next[i] : 0) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof(result));
    return result;
  }

  static void write(const float* sums, Number* to, bool past) {
    const __m512i rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(
        reinterpret_cast<__m512>(load(sums + kVector)), reinterpret_cast<__m512>(load(sums))));
    if (past)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to), rounded);
    else
      _mm512_storeu_si512(to, rounded);
  }
};
#endif

}  // namespace jaxws
