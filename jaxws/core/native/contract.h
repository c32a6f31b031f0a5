// The layer and its input's gradient: patches times the filters of their positions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "blocks.h"
#include "geometry.h"
#include "pack.h"
#include "parallel.h"
#include "tiles.h"

namespace jaxws {

constexpr int64_t kStreamedBytes = 4 << 20;  // of a result, which is more than an L2 keeps
constexpr int64_t kDepth = 256;              // rows of a panel per tile: 16 KiB, half of an L1

// y of x, or, if Transposed, dx of dy: the same loops from positions to pixels or from pixels to
// positions. `from` and `to` are the spatial sizes of source and destination. Features of a group
// are a whole number of words if Transposed.
template <typename Format, bool Transposed, typename Number = typename Format::Number>
void contract(xla::ffi::ThreadPool& pool, const Geometry& g, const Image<Number>& source,
              const Number* kernel, Number* destination, int64_t features) {
  const int64_t* to = Transposed ? g.in : g.out;
  const int64_t* from = Transposed ? g.out : g.in;
  const int64_t n = source.batch;
  const int64_t in_rows = source.channels / g.groups;  // contracted channels per group
  const int64_t out_rows = features / g.groups;        // rows of the result per group
  const int64_t c = Transposed ? out_rows : in_rows;   // c / groups of the kernel
  const int64_t f = Transposed ? source.channels : features;
  const int64_t filter = c * f;
  const int64_t group_words = words<Format>(in_rows), pixel_words = group_words * g.groups;
  // Numbers that make a word follow each other in the kernel only if features are summed over.
  const bool packs_weights = Format::kPerWord > 1 && !Transposed;
  const int64_t ld = packs_weights ? out_rows : f / (Transposed ? Format::kPerWord : 1);
  auto needed = [&](int axis, Range r) {
    return Transposed ? positions_of(g, axis, r) : pixels_of(g, axis, r);
  };
  const Axis ds(g, 0, Transposed), hs(g, 1, Transposed), ws(g, 2, Transposed);
  auto filter_index = [&](int64_t d, int64_t h, int64_t w, int64_t a, int64_t i, int64_t j) {
    return (ds.filter(d, a) * g.filters[1] + hs.filter(h, i)) * g.filters[2] + ws.filter(w, j);
  };

  const int64_t bytes = to[0] * to[1] * to[2] * features * n * sizeof(Number);
  const auto address = reinterpret_cast<uintptr_t>(destination);
  const bool aligned = n * sizeof(Number) % sizeof(Vector) == 0 && address % sizeof(Vector) == 0;
  const bool streams = aligned && bytes >= kStreamedBytes;

  int64_t lanes = 2 * Format::kPerWord * kLanes;
  const int64_t seen_words = from[2] * pixel_words * g.kernel[0] * g.kernel[1];
  while (lanes > kLanes && seen_words * lanes > kCacheWords) lanes /= 2;
  const int64_t chunks = ceil_div(n, lanes);
  const int64_t row_words = from[2] * pixel_words * lanes * g.kernel[0];
  const int64_t rows =
      rows_per_task(to[1], row_words, g.kernel[1], chunks * to[0], pool.num_threads());
  const int64_t row_blocks = ceil_div(to[1], rows);

  parallel_for(pool, to[0] * row_blocks * chunks, [&](int64_t task) {
    static thread_local Scratch packed, packed_weights, partial;
    static thread_local std::vector<Run> runs;
    static thread_local std::vector<int64_t> depths;
    const int64_t n0 = task % chunks * lanes, d = task / chunks / row_blocks;
    const Range h_range = block_of(to[1], rows, task / chunks % row_blocks);
    const Range slab = needed(1, h_range);
    const int64_t slots = g.kernel[0] * slab.size();
    const int64_t stride = slots * from[2] * pixel_words * kLanes;  // between batch blocks
    float* panel = packed.get(stride * (lanes / kLanes));
    float* sums = partial.get(out_rows * kLanes);
    const int64_t offset_words = packs_weights ? group_words * out_rows : 0;
    float* own_weights = packed_weights.get(g.offsets() * offset_words);

    for (int64_t a = 0; a < g.kernel[0]; ++a) {
      const int64_t depth = ds.source(d, a);
      if (depth < 0) continue;
      for (int64_t h = slab.begin; h < slab.end; ++h)
        for (int64_t w = 0; w < from[2]; ++w) {
          if (!hs.seen(h) || !ws.seen(w)) continue;
          const int64_t slot = (a * slab.size() + h - slab.begin) * from[2] + w;
          pack_pixel<Format>(source, g.groups, source.at(depth, h, w), n0, lanes,
                             panel + slot * pixel_words * kLanes, stride);
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
                const Number* given =
                    kernel + (filter_index(d, h, w, a, i, j) * g.offsets() + offset) * filter +
                    group * (f / g.groups);
                const float* weights = reinterpret_cast<const float*>(given);
                if (packs_weights) {
                  float* own = own_weights + offset * offset_words;
                  pack_weights<Format>(given, in_rows, out_rows, f, own);
                  weights = own;
                }
                const int64_t slot = (a * slab.size() + sh - slab.begin) * from[2] + sw;
                if (rows_so_far + group_words > kDepth && rows_so_far) {
                  depths.push_back(runs.size());
                  rows_so_far = 0;
                }
                runs.push_back({slot * pixel_words + group * group_words, group_words, weights});
                rows_so_far += group_words;
              }
          depths.push_back(runs.size());

          const int64_t place = (d * to[1] + h) * to[2] + w;
          for (int64_t b = 0; b < lanes && n0 + b < n; b += kLanes) {
            for (size_t k = 0; k + 1 < depths.size(); ++k)
              for (int64_t m = 0; m < out_rows; m += kRows)
                with_rows(std::min<int64_t>(kRows, out_rows - m), [&](auto height) {
                  multiply_tile<Format, height.value, Transposed>(
                      runs.data() + depths[k], depths[k + 1] - depths[k],
                      panel + b / kLanes * stride, ld, m, k > 0, sums + m * kLanes);
                });
            const int64_t valid = std::min<int64_t>(kLanes, n - n0 - b);
            for (int64_t m = 0; m < out_rows; ++m) {
              Number* out = destination + (place * features + group * out_rows + m) * n + n0 + b;
              if (valid == kLanes) {
                Format::write(sums + m * kLanes, out, streams);
              } else {
                Number row[kLanes];
                Format::write(sums + m * kLanes, row, false);
                std::memcpy(out, row, valid * sizeof(Number));
              }
            }
          }
        }
    streams_done();
  });
}

}  // namespace jaxws
