// The locally connected layer and its two gradients on a CPU, as XLA custom calls.
//
// Arrays have the batch last: x (D, H, W, c, n), kernel (d, h, w, a, i, j, c / groups, f) and
// y (d, h, w, f, n), all float32, or all bfloat16 but the kernel's gradient; a kernel that is read
// may have fewer positions, over which its filters repeat. No patches are written to main memory: a
// task packs the few rows and columns of the image that a block of positions sees, which fit into a
// core's cache, and every patch is then a list of runs of that copy. Border positions have shorter
// lists, so that no image is padded.

#include <cstdint>

#include "contract.h"
#include "geometry.h"
#include "kernel_gradient.h"
#include "numbers.h"
#include "pack.h"
#include "xla/ffi/api/ffi.h"

namespace jaxws {
namespace {

namespace ffi = xla::ffi;

template <typename Format>
constexpr ffi::DataType kType = ffi::F32;
#if defined(JAXWS_BFLOAT16)
template <>
constexpr ffi::DataType kType<BFloat16> = ffi::BF16;
#endif

template <typename Format>
using Array = ffi::Buffer<kType<Format>>;
template <typename Format>
using Result = ffi::Result<Array<Format>>;

// The last five axes of (D, H, W, channels, n).
template <typename Format>
Image<typename Format::Number> image(const Array<Format>& array) {
  const auto s = array.dimensions();
  return {array.typed_data(), s[1], s[2], s[3], s[4]};
}

// The same in words of images that follow each other.
template <typename Format>
Image<float> image_of_words(const Array<Format>& array) {
  const auto s = array.dimensions();
  return {reinterpret_cast<const float*>(array.typed_data()), s[1], s[2], s[3],
          s[4] / Format::kPerWord};
}

template <typename Format>
ffi::Error forward(ffi::ThreadPool pool, Array<Format> x, Array<Format> kernel, Result<Format> y,
                   ffi::Span<const int64_t> geometry) {
  contract<Format, false>(pool, Geometry(geometry.begin()), image<Format>(x), kernel.typed_data(),
                          y->typed_data(), y->dimensions()[3]);
  return ffi::Error::Success();
}

template <typename Format>
ffi::Error input_gradient(ffi::ThreadPool pool, Array<Format> dy, Array<Format> kernel,
                          Result<Format> dx, ffi::Span<const int64_t> geometry) {
  contract<Format, true>(pool, Geometry(geometry.begin()), image<Format>(dy), kernel.typed_data(),
                         dx->typed_data(), dx->dimensions()[3]);
  return ffi::Error::Success();
}

template <typename Format>
ffi::Error kernel_gradient_call(ffi::ThreadPool pool, Array<Format> x, Array<Format> dy,
                                Result<Float32> out, ffi::Span<const int64_t> geometry) {
  // (d, h, w, a, i, j, c / groups, f), or parts of such arrays.
  const auto shape = out->dimensions();
  kernel_gradient<Format>(pool, Geometry(geometry.begin()), image_of_words<Format>(x),
                          image_of_words<Format>(dy), out->typed_data(),
                          shape.size() > 8 ? shape[0] : 0);
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jaxws

#define JAXWS_MAP(name, function, input, result)                        \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, function,                         \
                                xla::ffi::Ffi::Bind()                   \
                                    .Ctx<xla::ffi::ThreadPool>()        \
                                    .Arg<jaxws::Array<jaxws::input>>()  \
                                    .Arg<jaxws::Array<jaxws::input>>()  \
                                    .Ret<jaxws::Array<jaxws::result>>() \
                                    .Attr<xla::ffi::Span<const int64_t>>("geometry"))

JAXWS_MAP(jaxws_forward, jaxws::forward<jaxws::Float32>, Float32, Float32);
JAXWS_MAP(jaxws_input_gradient, jaxws::input_gradient<jaxws::Float32>, Float32, Float32);
JAXWS_MAP(jaxws_kernel_gradient, jaxws::kernel_gradient_call<jaxws::Float32>, Float32, Float32);
#if defined(JAXWS_BFLOAT16)
JAXWS_MAP(jaxws_forward_bfloat16, jaxws::forward<jaxws::BFloat16>, BFloat16, BFloat16);
JAXWS_MAP(jaxws_input_gradient_bfloat16, jaxws::input_gradient<jaxws::BFloat16>, BFloat16,
          BFloat16);
JAXWS_MAP(jaxws_kernel_gradient_bfloat16, jaxws::kernel_gradient_call<jaxws::BFloat16>, BFloat16,
          Float32);
#endif
