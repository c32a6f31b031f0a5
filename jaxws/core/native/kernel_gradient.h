// The gradient of the filters: for each of them, what its position saw times what came back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "blocks.h"
#include "geometry.h"
#include "pack.h"
#include "parallel.h"
#include "tiles.h"

namespace jaxws {

constexpr int64_t kFoldingThreads = 8;  // that blocks are made for, whatever there are

// out[m * ldo + f] (+)= sum over r of x[m * ldx + r] * dy[r * ldy + f], for c rows and f columns.
// Rows of dy go on to a whole number of registers and no further: the last tile may be one wide.
template <typename Format>
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
          outer_tile<Format, height.value, 2>(a, ldx, b, ldy, rows, add, to, ldo, width);
        else
          outer_tile<Format, height.value, 1>(a, ldx, b, ldy, rows, add, to, ldo, width);
      }
    });
  }
}

// The kernel's gradient of x and dy: per position and offset a (c x n) by (n x f) product.
//
// Where filters repeat over positions, they get the sum over theirs, in `parts`: arrays of all
// filters one after the other, each the sum over some of the positions. Which ones does not depend
// on the number of threads, and nor do the sums. Without parts, positions that share a filter are
// neighbours (g.block, one along the first axis), and one task has them all. Images n are counted
// in words: two that follow each other are multiplied at once in bfloat16.
template <typename Format>
void kernel_gradient(xla::ffi::ThreadPool& pool, const Geometry& g, const Image<float>& x,
                     const Image<float>& dy, float* out, int64_t parts) {
  const int64_t n = x.batch, c = x.channels / g.groups, f = dy.channels, fg = f / g.groups;
  const int64_t f_padded = ceil_div(fg, kVector) * kVector * g.groups;
  // Whole blocks of positions that have one filter, unless parts keep tasks apart.
  const int64_t across = parts ? 1 : g.block[2], down = parts ? 1 : g.block[1];
  const int64_t columns = std::min<int64_t>(g.out[2], ceil_div(4, across) * across);
  const int64_t column_blocks = ceil_div(g.out[2], columns);
  const int64_t seen =
      std::min((columns - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1, g.in[2]);
  // Images at a time: the more, the less often are sums in `out` read and written again.
  const int64_t image_words = seen * x.channels * g.kernel[0] * g.kernel[1] + columns * f_padded;
  int64_t lanes = 256;
  while (lanes > 32 && lanes * image_words > 2 * kCacheWords) lanes /= 2;
  lanes = std::min(n, lanes);
  const int64_t threads = parts ? kFoldingThreads : pool.num_threads();
  const int64_t fitting =
      rows_per_task(g.out[1], (seen * x.channels * g.kernel[0] + columns * f_padded) * lanes,
                    g.kernel[1], column_blocks * g.out[0], threads);
  const int64_t rows = ceil_div(fitting, down) * down;
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
            const Image<float> part{dy.data, dy.height, dy.width, fg, n};
            pack_transposed(part, dy.at(d, h, w) + group * fg * n, n0, depth,
                            dyp + group * (f_padded / g.groups), f_padded);
          }
          // Of position d, h, w, whatever the offset.
          const int64_t filter_index =
              (g.filter(0, d) * g.filters[1] + g.filter(1, h)) * g.filters[2] + g.filter(2, w);
          const bool adds = n0 > 0 || parts || h % down || w % across;
          for (int64_t a = 0; a < g.kernel[0]; ++a)
            for (int64_t i = 0; i < g.kernel[1]; ++i)
              for (int64_t j = 0; j < g.kernel[2]; ++j) {
                const int64_t xd = axis_d.source(d, a), ph = axis_h.source(h, i);
                const int64_t pw = axis_w.source(w, j);
                const int64_t offset = (a * g.kernel[1] + i) * g.kernel[2] + j;
                float* filter = result + (filter_index * g.offsets() + offset) * c * f;
                if (xd < 0 || ph < 0 || pw < 0) {
                  if (!adds) std::memset(filter, 0, c * f * sizeof(float));
                  continue;
                }
                for (int64_t group = 0; group < g.groups; ++group)
                  outer_product<Format>(pixel(a, ph, pw) + group * c * lanes, lanes, c,
                                        dyp + group * (f_padded / g.groups), f_padded, fg, depth,
                                        adds, filter + group * fg, f);
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

}  // namespace jaxws
