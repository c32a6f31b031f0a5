// What BatchNorm and its gradient sum over images and positions, in one pass over memory each, as
// XLA custom calls. XLA makes a pass of each of two sums, and of what it multiplies for one of
// them.
//
// Arrays are (..., c, n), with the batch last; results are one float for each channel.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "numbers.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace jaxws {
namespace {

namespace ffi = xla::ffi;

// Positions are summed over in so many parts, whatever number of threads there is: the same sums.
constexpr int64_t kParts = 64;

// kVector numbers as floats, or one.
template <typename V>
V read(const float* p) {
  if constexpr (std::is_same_v<V, float>)
    return *p;
  else
    return load(p);
}

template <typename V>
V read(const uint16_t* p) {  // bfloat16: the upper half of a float
  if constexpr (std::is_same_v<V, float>) {
    const uint32_t bits = static_cast<uint32_t>(*p) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof(result));
    return result;
  } else {
    typedef uint16_t Halves __attribute__((vector_size(2 * kVector), aligned(2), may_alias));
    typedef uint32_t Bits __attribute__((vector_size(4 * kVector)));
    const Bits bits = __builtin_convertvector(*reinterpret_cast<const Halves*>(p), Bits) << 16;
    return reinterpret_cast<Vector>(bits);
  }
}

// The distance of a channel's numbers from its first one, and its square.
template <typename Number>
struct FromFirst {
  const Number* x;
  const std::vector<float>& first;

  template <typename V>
  void operator()(int64_t i, int64_t c, V* a, V* b) const {
    *a = read<V>(x + i) - first[c];
    *b = *a * *a;
  }
};

// A gradient, and its product with x - mean.
template <typename Number>
struct Gradient {
  const Number *x, *dy;
  const float* mean;

  template <typename V>
  void operator()(int64_t i, int64_t c, V* a, V* b) const {
    *a = read<V>(dy + i);
    *b = *a * (read<V>(x + i) - mean[c]);
  }
};

// sums[c], sums[channels + c] = sums over positions and images of the two terms of a channel.
template <typename Terms>
std::vector<double> sum_channels(ffi::ThreadPool& pool, int64_t positions, int64_t channels,
                                 int64_t n, const Terms& terms) {
  const int64_t parts = std::min(positions, kParts), size = 2 * channels * kVector;
  // Per part, term and channel one of each lane; kept, as memory that is returned comes in new
  // pages.
  static thread_local std::vector<float> partial;
  partial.assign(parts * size, 0.0f);
  float* all_lanes = partial.data();  // of this thread, for others
  parallel_for(pool, parts, [&](int64_t part) {
    float* lanes = all_lanes + part * size;
    const int64_t end = (part + 1) * positions / parts;
    for (int64_t position = part * positions / parts; position < end; ++position)
      for (int64_t c = 0; c < channels; ++c) {
        float *of_a = lanes + c * kVector, *of_b = of_a + channels * kVector;
        const int64_t row = (position * channels + c) * n, whole = n / kVector * kVector;
        Vector sum_a = load(of_a), sum_b = load(of_b), a, b;
        for (int64_t i = 0; i < whole; i += kVector) {
          terms(row + i, c, &a, &b);
          sum_a += a;
          sum_b += b;
        }
        store(of_a, sum_a);
        store(of_b, sum_b);
        for (int64_t i = whole; i < n; ++i) {
          float one, other;
          terms(row + i, c, &one, &other);
          of_a[i - whole] += one;
          of_b[i - whole] += other;
        }
      }
  });
  std::vector<double> sums(2 * channels, 0.0);
  for (int64_t i = 0; i < parts * size; ++i) sums[i % size / kVector] += partial[i];
  return sums;
}

struct Shape {
  int64_t positions, channels, n;
};

template <typename Array>
Shape shape_of(const Array& x) {
  const auto s = x.dimensions();
  const int64_t channels = s[s.size() - 2], n = s[s.size() - 1];
  return {static_cast<int64_t>(x.element_count()) / (channels * n), channels, n};
}

using Floats = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

template <ffi::DataType kType>
ffi::Error moments(ffi::ThreadPool pool, ffi::Buffer<kType> x, Result mean, Result variance) {
  const auto [positions, channels, n] = shape_of(x);
  const auto* data = x.typed_data();
  std::vector<float> first(channels);
  for (int64_t c = 0; c < channels; ++c) first[c] = read<float>(data + c * n);
  const auto sums = sum_channels(pool, positions, channels, n,
                                 FromFirst<std::decay_t<decltype(*data)>>{data, first});
  const double count = static_cast<double>(positions) * n;
  for (int64_t c = 0; c < channels; ++c) {
    const double distance = sums[c] / count;
    mean->typed_data()[c] = first[c] + distance;
    variance->typed_data()[c] = std::max(sums[channels + c] / count - distance * distance, 0.0);
  }
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error gradient_sums(ffi::ThreadPool pool, ffi::Buffer<kType> x, ffi::Buffer<kType> dy,
                         Floats mean, Result sum, Result product) {
  const auto [positions, channels, n] = shape_of(x);
  using Number = std::decay_t<decltype(*x.typed_data())>;
  const auto sums =
      sum_channels(pool, positions, channels, n,
                   Gradient<Number>{x.typed_data(), dy.typed_data(), mean.typed_data()});
  std::copy_n(sums.begin(), channels, sum->typed_data());
  std::copy_n(sums.begin() + channels, channels, product->typed_data());
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jaxws

#define JAXWS_CALL() xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
#define JAXWS_ARRAY(type) Arg<xla::ffi::Buffer<xla::ffi::type>>()
#define JAXWS_RESULTS() Ret<jaxws::Floats>().Ret<jaxws::Floats>()

#define JAXWS_CHANNEL_SUMS(suffix, type)                                               \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxws_moments##suffix, jaxws::moments<xla::ffi::type>, \
                                JAXWS_CALL().JAXWS_ARRAY(type).JAXWS_RESULTS());       \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                       \
      jaxws_gradient_sums##suffix, jaxws::gradient_sums<xla::ffi::type>,               \
      JAXWS_CALL().JAXWS_ARRAY(type).JAXWS_ARRAY(type).JAXWS_ARRAY(F32).JAXWS_RESULTS())

JAXWS_CHANNEL_SUMS(, F32);
JAXWS_CHANNEL_SUMS(_bfloat16, BF16);
