// AdamW of one locally connected layer, and mean and variance of its weights over every pool, in
// one pass over memory: gradient and moments are read once, and moments (and weights, where there
// is one for each position) written over once. XLA makes a pass of each of these results.
//
// Gradient, moments and weights are (d, h, w, rest); shared weights are one row for every pool,
// (p, q, r, rest). Position (d, h, w) belongs to pool (d mod p, h mod q, w mod r).

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "pack.h"
#include "parallel.h"

namespace jaxws {
namespace {

namespace ffi = xla::ffi;

// Weights of a position at a time: long stretches of memory, but enough tasks for all threads.
constexpr int64_t kLeast = 512, kMost = 4096, kTasksPerThread = 8;

struct AdamW {
  float b1, b2, eps, decay;    // as optax.adamw names them
  float rate, scale1, scale2;  // the learning rate, and 1 / (1 - b^step)

  // The weight after the step; moments are written over.
  float operator()(float g, float& m, float& v, float w) const {
    m = (1 - b1) * g + b1 * m;
    v = (1 - b2) * (g * g) + b2 * v;
    const float step = (m * scale1) / (std::sqrt(v * scale2) + eps) + decay * w;
    return w - rate * step;
  }
};

// What is known of the weights of a pool: the first of them, and sums of the distances of all from
// it and of their squares. Weights that are equal have exactly their mean, and no variance.
struct Pool {
  float *first, *sum, *squares;
};

// A layer, or the part of it that belongs to one position.
struct Layer {
  const float* g;
  float *m, *v;
  const float* w;
  float* w_after;  // null where weights are shared

  Layer at(int64_t position, int64_t pool) const {
    return w_after
               ? Layer{g + position, m + position, v + position, w + position, w_after + position}
               : Layer{g + position, m + position, v + position, w + pool, nullptr};
  }
};

// `size` weights of one position, which is its pool's first or not; `Keep` leaves them as they are.
template <bool First, bool Keep>
void update(const AdamW& adamw, const Layer& layer, const Pool& pool, int64_t size) {
  const float* __restrict g = layer.g, *w = layer.w;
  float* __restrict m = layer.m, * __restrict v = layer.v, *w_after = layer.w_after;
  float* __restrict first = pool.first;
  float* __restrict sum = pool.sum, * __restrict squares = pool.squares;
#pragma GCC ivdep
  for (int64_t i = 0; i < size; ++i) {
    const float after = Keep ? w[i] : adamw(g[i], m[i], v[i], w[i]);
    if (w_after && !Keep) w_after[i] = after;
    if (First) first[i] = after;
    const float d = after - first[i];
    sum[i] = First ? 0 : sum[i] + d;
    squares[i] = First ? 0 : squares[i] + d * d;
  }
}

// geometry: positions and pools per axis.
template <bool Keep>
void update_layer(ffi::ThreadPool& threads, const AdamW& adamw, const Layer& layer,
                  const int64_t* geometry, int64_t rest, float* mean, float* variance) {
  const int64_t *positions = geometry, *pools = geometry + 3;
  const int64_t pool_count = pools[0] * pools[1] * pools[2];
  const int64_t wanted = ceil_div(kTasksPerThread * threads.num_threads(), pool_count);
  const int64_t chunk = std::clamp(ceil_div(rest, 16 * wanted) * 16, kLeast, kMost);
  const int64_t chunks = ceil_div(rest, chunk);
  parallel_for(threads, pool_count * chunks, [&](int64_t task) {
    static thread_local Scratch scratch;
    float* sums = scratch.get(2 * chunk);
    const int64_t index = task / chunks, from = task % chunks * chunk;
    const int64_t d0 = index / pools[2] / pools[1], h0 = index / pools[2] % pools[1];
    const int64_t size = std::min(rest - from, chunk), at_pool = index * rest + from;
    const Pool pool{mean + at_pool, sums, sums + chunk};
    int64_t count = 0;
    for (int64_t d = d0; d < positions[0]; d += pools[0])
      for (int64_t h = h0; h < positions[1]; h += pools[1])
        for (int64_t w = index % pools[2]; w < positions[2]; w += pools[2]) {
          const int64_t at = ((d * positions[1] + h) * positions[2] + w) * rest + from;
          (count++ ? update<false, Keep> : update<true, Keep>)(adamw, layer.at(at, at_pool), pool,
                                                               size);
        }
    for (int64_t i = 0; i < size; ++i) {
      const float offset = pool.sum[i] / count;
      pool.first[i] += offset;  // to the mean
      variance[at_pool + i] = std::max(pool.squares[i] / count - offset * offset, 0.0f);
    }
  });
}

using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;
using Numbers = ffi::Span<const float>;
using Sizes = ffi::Span<const int64_t>;

// Copies what XLA has not put into the result's place already.
float* in_place(const Array& before, Result& after) {
  if (before.typed_data() != after->typed_data())
    std::copy_n(before.typed_data(), before.element_count(), after->typed_data());
  return after->typed_data();
}

// coefficients: b1, b2, eps, decay. rates: the learning rate, both scales, and whether to keep all.
ffi::Error run(ffi::ThreadPool& threads, const Layer& layer, const Array& rates, Result& mean,
               Result& variance, int64_t size, Sizes geometry, Numbers coefficients) {
  const float *c = coefficients.begin(), *r = rates.typed_data();
  const int64_t* positions = geometry.begin();
  const int64_t rest = size / (positions[0] * positions[1] * positions[2]);
  (r[3] ? update_layer<true>
        : update_layer<false>)(threads, {c[0], c[1], c[2], c[3], r[0], r[1], r[2]}, layer,
                               positions, rest, mean->typed_data(), variance->typed_data());
  return ffi::Error::Success();
}

ffi::Error adamw(ffi::ThreadPool threads, Array g, Array m, Array v, Array w, Array rates,
                 Result m_after, Result v_after, Result w_after, Result mean, Result variance,
                 Sizes geometry, Numbers coefficients) {
  float* weights = in_place(w, w_after);
  const Layer layer{g.typed_data(), in_place(m, m_after), in_place(v, v_after), weights, weights};
  return run(threads, layer, rates, mean, variance, g.element_count(), geometry, coefficients);
}

ffi::Error adamw_shared(ffi::ThreadPool threads, Array g, Array m, Array v, Array filters,
                        Array rates, Result m_after, Result v_after, Result mean, Result variance,
                        Sizes geometry, Numbers coefficients) {
  const Layer layer{g.typed_data(), in_place(m, m_after), in_place(v, v_after),
                    filters.typed_data(), nullptr};
  return run(threads, layer, rates, mean, variance, g.element_count(), geometry, coefficients);
}

}  // namespace
}  // namespace jaxws

using JaxwsArray = xla::ffi::Buffer<xla::ffi::F32>;

// Gradient, moments, weights and rates; moments, mean and variance.
#define JAXWS_ARGUMENTS            \
  xla::ffi::Ffi::Bind()            \
      .Ctx<xla::ffi::ThreadPool>() \
      .Arg<JaxwsArray>()           \
      .Arg<JaxwsArray>()           \
      .Arg<JaxwsArray>()           \
      .Arg<JaxwsArray>()           \
      .Arg<JaxwsArray>()
#define JAXWS_RESULTS                                  \
  .Ret<JaxwsArray>()                                   \
      .Ret<JaxwsArray>()                               \
      .Ret<JaxwsArray>()                               \
      .Ret<JaxwsArray>()                               \
      .Attr<xla::ffi::Span<const int64_t>>("geometry") \
      .Attr<xla::ffi::Span<const float>>("coefficients")

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxws_adamw, jaxws::adamw,
                              JAXWS_ARGUMENTS.Ret<JaxwsArray>() JAXWS_RESULTS);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxws_adamw_shared, jaxws::adamw_shared,
                              JAXWS_ARGUMENTS JAXWS_RESULTS);
