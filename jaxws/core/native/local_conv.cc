// The locally connected layer and its two gradients on a CPU, as XLA custom calls.
//
// Arrays have the batch last: x (D, H, W, c, n), kernel (d, h, w, a, i, j, c / groups, f) and
// y (d, h, w, f, n), all float32; a kernel that is read may have fewer positions, over which its
// filters repeat. No patches are written to main memory: a task packs the few rows
// and columns of the image that a block of positions sees, which fit into a core's cache, and every
// patch is then a list of runs of that copy. Border positions have shorter lists, so that no image
// is padded.

#include <cstdint>
#include <vector>

#include "geometry.h"
#include "pack.h"
#include "parallel.h"
#include "tiles.h"

namespace jaxws {
namespace {

namespace ffi = xla::ffi;

// Of packed pixels per task: with AVX-512 640 KiB, else 320; most of an L2.
constexpr int64_t kCacheFloats = kVector * 10 * 1024;
constexpr int64_t kStreamedBytes = 4 << 20;  // of a result, which is more than an L2 keeps
constexpr int64_t kFoldingThreads = 8;       // that blocks are made for, whatever there are
constexpr int64_t kDepth = 256;              // rows of a panel per tile: 16 KiB, half of an L1

// Splits [0, size) into blocks; the b-th one.
Range block_of(int64_t size, int64_t block, int64_t b) {
  return {b * block, std::min(size, (b + 1) * block)};
}

// Rows of the source per task, given what one row of the destination needs and costs.
int64_t rows_per_task(int64_t rows, int64_t row_floats, int64_t kernel, int64_t tasks_per_row,
                      int64_t threads) {
  const int64_t fit = kCacheFloats / std::max<int64_t>(row_floats, 1) - (kernel - 1);
  const int64_t share = rows * tasks_per_row / (4 * std::max<int64_t>(threads, 1));
  return std::clamp<int64_t>(std::min(fit, share), 1, rows);
}

// y of x, or, if Transposed, dx of dy: the same loops from positions to pixels or from pixels to
// positions. `from` and `to` are the spatial sizes of source and destination.
template <bool Transposed>
void contract(ffi::ThreadPool& pool, const Geometry& g, const Image& source, const float* kernel,
              float* destination, int64_t features) {
  const int64_t* to = Transposed ? g.in : g.out;
  const int64_t* from = Transposed ? g.out : g.in;
  const int64_t n = source.batch;
  const int64_t in_rows = source.channels / g.groups;   // contracted channels per group
  const int64_t out_rows = features / g.groups;         // rows of the result per group
  const int64_t c = Transposed ? out_rows : in_rows;    // c / groups of the kernel
  const int64_t f = Transposed ? source.channels : features;
  const int64_t filter = c * f;
  auto needed = [&](int axis, Range r) {
    return Transposed ? positions_of(g, axis, r) : pixels_of(g, axis, r);
  };
  const Axis ds(g, 0, Transposed), hs(g, 1, Transposed), ws(g, 2, Transposed);
  auto filter_index = [&](int64_t d, int64_t h, int64_t w, int64_t a, int64_t i, int64_t j) {
    return (ds.filter(d, a) * g.filters[1] + hs.filter(h, i)) * g.filters[2] + ws.filter(w, j);
  };

  const int64_t bytes = to[0] * to[1] * to[2] * features * n * sizeof(float);
  const auto address = reinterpret_cast<uintptr_t>(destination);
  const bool aligned = n % kVector == 0 && address % sizeof(Vector) == 0;
  const bool streams = aligned && bytes >= kStreamedBytes;
  auto put = [&](float* p, Vector v) { streams ? stream(p, v) : store(p, v); };

  int64_t lanes = 2 * kLanes;
  if (from[2] * source.channels * lanes * g.kernel[0] * g.kernel[1] > kCacheFloats) lanes = kLanes;
  const int64_t chunks = ceil_div(n, lanes);
  const int64_t row_floats = from[2] * source.channels * lanes * g.kernel[0];
  const int64_t rows =
      rows_per_task(to[1], row_floats, g.kernel[1], chunks * to[0], pool.num_threads());
  const int64_t row_blocks = ceil_div(to[1], rows);

  parallel_for(pool, to[0] * row_blocks * chunks, [&](int64_t task) {
    static thread_local Scratch packed, partial;
    static thread_local std::vector<Run> runs;
    static thread_local std::vector<int64_t> depths;
    const int64_t n0 = task % chunks * lanes, d = task / chunks / row_blocks;
    const Range h_range = block_of(to[1], rows, task / chunks % row_blocks);
    const Range slab = needed(1, h_range);
    const int64_t slots = g.kernel[0] * slab.size();
    const int64_t stride = slots * from[2] * source.channels * kLanes;  // between batch blocks
    float* panel = packed.get(stride * (lanes / kLanes));
    float* sums = partial.get(out_rows * kLanes);

    for (int64_t a = 0; a < g.kernel[0]; ++a) {
      const int64_t depth = ds.source(d, a);
      if (depth < 0) continue;
      for (int64_t h = slab.begin; h < slab.end; ++h)
        for (int64_t w = 0; w < from[2]; ++w) {
          if (!hs.seen(h) || !ws.seen(w)) continue;
          const int64_t slot = (a * slab.size() + h - slab.begin) * from[2] + w;
          pack_pixel(source, source.at(depth, h, w), n0, lanes,
                     panel + slot * source.channels * kLanes, stride);
        }
    }

    for (int64_t h = h_range.begin; h < h_range.end; ++h)
      for (int64_t w = 0; w < to[2]; ++w)
        for (int64_t group = 0; group < g.groups; ++group) {
          // The runs of this position, cut into stretches of at most about kDepth rows.
          runs.clear();
          depths.assign(1, 0);
          int64_t rows_so_far = 0;
          for (int64_t a = 0; a < g.kernel[0]; ++a)
            for (int64_t i = 0; i < g.kernel[1]; ++i)
              for (int64_t j = 0; j < g.kernel[2]; ++j) {
                const int64_t sh = hs.source(h, i), sw = ws.source(w, j);
                if (ds.source(d, a) < 0 || sh < 0 || sw < 0) continue;
                const int64_t offset = (a * g.kernel[1] + i) * g.kernel[2] + j;
                const float* weights =
                    kernel + (filter_index(d, h, w, a, i, j) * g.offsets() + offset) * filter +
                    group * (f / g.groups);
                const int64_t slot = (a * slab.size() + sh - slab.begin) * from[2] + sw;
                if (rows_so_far + in_rows > kDepth && rows_so_far) {
                  depths.push_back(runs.size());
                  rows_so_far = 0;
                }
                runs.push_back({slot * source.channels + group * in_rows, in_rows, weights});
                rows_so_far += in_rows;
              }
          depths.push_back(runs.size());

          const int64_t place = (d * to[1] + h) * to[2] + w;
          for (int64_t b = 0; b < lanes && n0 + b < n; b += kLanes) {
            for (size_t k = 0; k + 1 < depths.size(); ++k)
              for (int64_t m = 0; m < out_rows; m += kRows)
                with_rows(std::min<int64_t>(kRows, out_rows - m), [&](auto height) {
                  multiply_tile<height.value, Transposed>(
                      runs.data() + depths[k], depths[k + 1] - depths[k],
                      panel + b / kLanes * stride, f, m, k > 0, sums + m * kLanes);
                });
            const int64_t valid = std::min<int64_t>(kLanes, n - n0 - b);
            for (int64_t m = 0; m < out_rows; ++m) {
              float* out = destination + (place * features + group * out_rows + m) * n + n0 + b;
              if (valid == kLanes) {
                put(out, load(sums + m * kLanes));
                put(out + kVector, load(sums + m * kLanes + kVector));
              } else {
                std::memcpy(out, sums + m * kLanes, valid * sizeof(float));
              }
            }
          }
        }
    streams_done();
  });
}

// out[m * ldo + f] (+)= sum over r of x[m * ldx + r] * dy[r * ldy + f], for c rows and f columns.
// Rows of dy go on to a whole number of registers and no further: the last tile may be one wide.
void outer_product(const float* x, int64_t ldx, int64_t c, const float* dy, int64_t ldy, int64_t f,
                   int64_t rows, bool add, float* out, int64_t ldo) {
  const int64_t tiles = ceil_div(c, kRows);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t m = c * tile / tiles;  // tiles of about equal height
    with_rows(c * (tile + 1) / tiles - m, [&](auto height) {
      for (int64_t f0 = 0; f0 < f; f0 += kLanes) {
        const int64_t width = std::min<int64_t>(kLanes, f - f0);
        const float *a = x + m * ldx, *b = dy + f0;
        float* to = out + m * ldo + f0;
        if (width > kVector)
          outer_tile<height.value, 2>(a, ldx, b, ldy, rows, add, to, ldo, width);
        else
          outer_tile<height.value, 1>(a, ldx, b, ldy, rows, add, to, ldo, width);
      }
    });
  }
}

// The kernel's gradient of x and dy: per position and offset a (c x n) by (n x f) product.
//
// Where filters repeat over positions, they get the sum over theirs, in `parts`: arrays of all
// filters one after the other, each the sum over some of the positions. Which ones does not depend
// on the number of threads, and nor do the sums.
void kernel_gradient(ffi::ThreadPool& pool, const Geometry& g, const Image& x, const Image& dy,
                     float* out, int64_t parts) {
  const int64_t n = x.batch, c = x.channels / g.groups, f = dy.channels, fg = f / g.groups;
  const int64_t f_padded = ceil_div(fg, kVector) * kVector * g.groups;
  const int64_t columns = std::min<int64_t>(g.out[2], 4);
  const int64_t column_blocks = ceil_div(g.out[2], columns);
  const int64_t seen =
      std::min((columns - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1, g.in[2]);
  // Images at a time: the more, the less often are sums in `out` read and written again.
  const int64_t image_floats = seen * x.channels * g.kernel[0] * g.kernel[1] + columns * f_padded;
  int64_t lanes = 256;
  while (lanes > 32 && lanes * image_floats > 2 * kCacheFloats) lanes /= 2;
  lanes = std::min(n, lanes);
  const int64_t threads = parts ? kFoldingThreads : pool.num_threads();
  const int64_t rows =
      rows_per_task(g.out[1], (seen * x.channels * g.kernel[0] + columns * f_padded) * lanes,
                    g.kernel[1], column_blocks * g.out[0], threads);
  const int64_t row_blocks = ceil_div(g.out[1], rows);
  const int64_t blocks = g.out[0] * row_blocks * column_blocks;
  const Axis axis_d(g, 0, false), axis_h(g, 1, false), axis_w(g, 2, false);

  auto add_block = [&](int64_t task, float* result) {
    static thread_local Scratch packed_x, packed_dy;
    const int64_t d = task / column_blocks / row_blocks;
    const Range ws = block_of(g.out[2], columns, task % column_blocks);
    const Range hs = block_of(g.out[1], rows, task / column_blocks % row_blocks);
    const Range xh = pixels_of(g, 1, hs), xw = pixels_of(g, 2, ws);
    float* xs = packed_x.get(g.kernel[0] * xh.size() * xw.size() * lanes * x.channels);
    float* dys = packed_dy.get(hs.size() * ws.size() * lanes * f_padded);
    auto pixel = [&](int64_t a, int64_t h, int64_t w) {
      return xs + ((a * xh.size() + h - xh.begin) * xw.size() + w - xw.begin) * lanes * x.channels;
    };

    for (int64_t n0 = 0; n0 < n; n0 += lanes) {
      const int64_t depth = std::min(lanes, n - n0);
      for (int64_t a = 0; a < g.kernel[0]; ++a) {
        const int64_t xd = axis_d.source(d, a);
        if (xd < 0) continue;
        for (int64_t h = xh.begin; h < xh.end; ++h)
          for (int64_t w = xw.begin; w < xw.end; ++w)
            if (axis_h.seen(h) && axis_w.seen(w))
              pack_rows(x, x.at(xd, h, w), n0, depth, pixel(a, h, w), lanes);
      }
      for (int64_t h = hs.begin; h < hs.end; ++h)
        for (int64_t w = ws.begin; w < ws.end; ++w) {
          float* dyp = dys;
          // Features of each group are padded to whole tiles; what is there is not stored.
          for (int64_t group = 0; group < g.groups; ++group) {
            const Image part{dy.data, dy.height, dy.width, fg, n};
            pack_transposed(part, dy.at(d, h, w) + group * fg * n, n0, depth,
                            dyp + group * (f_padded / g.groups), f_padded);
          }
          const int64_t filter_index =
              parts ? (axis_d.filter(d, 0) * g.filters[1] + axis_h.filter(h, 0)) * g.filters[2] +
                          axis_w.filter(w, 0)
                    : (d * g.out[1] + h) * g.out[2] + w;
          for (int64_t a = 0; a < g.kernel[0]; ++a)
            for (int64_t i = 0; i < g.kernel[1]; ++i)
              for (int64_t j = 0; j < g.kernel[2]; ++j) {
                const int64_t xd = axis_d.source(d, a), ph = axis_h.source(h, i);
                const int64_t pw = axis_w.source(w, j);
                const int64_t offset = (a * g.kernel[1] + i) * g.kernel[2] + j;
                float* filter = result + (filter_index * g.offsets() + offset) * c * f;
                if (xd < 0 || ph < 0 || pw < 0) {
                  if (n0 == 0 && !parts) std::memset(filter, 0, c * f * sizeof(float));
                  continue;
                }
                for (int64_t group = 0; group < g.groups; ++group)
                  outer_product(pixel(a, ph, pw) + group * c * lanes, lanes, c,
                                dyp + group * (f_padded / g.groups), f_padded, fg, depth,
                                n0 > 0 || parts, filter + group * fg, f);
              }
        }
    }
  };
  if (!parts) {
    parallel_for(pool, blocks, [&](int64_t block) { add_block(block, out); });
    return;
  }
  const int64_t size = g.filters[0] * g.filters[1] * g.filters[2] * g.offsets() * c * f;
  parallel_for(pool, parts, [&](int64_t part) {
    float* result = out + part * size;
    std::memset(result, 0, size * sizeof(float));
    for (int64_t block = part * blocks / parts; block < (part + 1) * blocks / parts; ++block)
      add_block(block, result);
  });
}

using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

// The last five axes of (D, H, W, channels, n).
Image image(const Array& array) {
  const auto s = array.dimensions();
  return {array.typed_data(), s[1], s[2], s[3], s[4]};
}

ffi::Error forward(ffi::ThreadPool pool, Array x, Array kernel, Result y,
                   ffi::Span<const int64_t> geometry) {
  contract<false>(pool, Geometry(geometry.begin()), image(x), kernel.typed_data(), y->typed_data(),
                  y->dimensions()[3]);
  return ffi::Error::Success();
}

ffi::Error input_gradient(ffi::ThreadPool pool, Array dy, Array kernel, Result dx,
                          ffi::Span<const int64_t> geometry) {
  contract<true>(pool, Geometry(geometry.begin()), image(dy), kernel.typed_data(),
                 dx->typed_data(), dx->dimensions()[3]);
  return ffi::Error::Success();
}

ffi::Error kernel_gradient_call(ffi::ThreadPool pool, Array x, Array dy, Result out,
                                ffi::Span<const int64_t> geometry) {
  // (d, h, w, a, i, j, c / groups, f), or parts of such arrays.
  const auto shape = out->dimensions();
  kernel_gradient(pool, Geometry(geometry.begin()), image(x), image(dy), out->typed_data(),
                  shape.size() > 8 ? shape[0] : 0);
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jaxws

#define JAXWS_MAP(name, function)                                                \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, function,                                  \
                                xla::ffi::Ffi::Bind()                            \
                                    .Ctx<xla::ffi::ThreadPool>()                 \
                                    .Arg<xla::ffi::Buffer<xla::ffi::F32>>()      \
                                    .Arg<xla::ffi::Buffer<xla::ffi::F32>>()      \
                                    .Ret<xla::ffi::Buffer<xla::ffi::F32>>()      \
                                    .Attr<xla::ffi::Span<const int64_t>>("geometry"))

JAXWS_MAP(jaxws_forward, jaxws::forward);
JAXWS_MAP(jaxws_input_gradient, jaxws::input_gradient);
JAXWS_MAP(jaxws_kernel_gradient, jaxws::kernel_gradient_call);
