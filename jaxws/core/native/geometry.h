// The window of a layer, and which part of the image a block of positions sees.
#pragma once

#include <algorithm>
#include <cstdint>

namespace jaxws {

// Three spatial axes: (D, H, W). Layers with fewer have leading axes of size one.
struct Geometry {
  int64_t in[3], out[3], kernel[3], stride[3], low[3], dilation[3];
  int64_t filters[3];  // per axis; they repeat over the positions
  int64_t groups;

  static constexpr int kSize = 22;
  explicit Geometry(const int64_t* v) {
    int64_t* fields[] = {in, out, kernel, stride, low, dilation, filters};
    for (int64_t* field : fields)
      for (int axis = 0; axis < 3; ++axis) field[axis] = *v++;
    groups = *v;
  }

  int64_t offsets() const { return kernel[0] * kernel[1] * kernel[2]; }

  // The index of a position's filter.
  int64_t filter(int64_t d, int64_t h, int64_t w) const {
    return (d % filters[0] * filters[1] + h % filters[1]) * filters[2] + w % filters[2];
  }

  // The pixel that kernel offset o shows to output position p, or -1 for padding.
  int64_t pixel(int axis, int64_t p, int64_t o) const {
    const int64_t q = p * stride[axis] + o * dilation[axis] - low[axis];
    return q >= 0 && q < in[axis] ? q : -1;
  }

  // The output position to which kernel offset o shows pixel q, or -1 if there is none.
  int64_t position(int axis, int64_t q, int64_t o) const {
    const int64_t t = q + low[axis] - o * dilation[axis];
    if (t < 0 || t % stride[axis]) return -1;
    return t / stride[axis] < out[axis] ? t / stride[axis] : -1;
  }
};

// A half-open range of rows or columns.
struct Range {
  int64_t begin, end;
  int64_t size() const { return std::max<int64_t>(end - begin, 0); }
};

inline Range clip(int64_t begin, int64_t end, int64_t size) {
  return {std::clamp<int64_t>(begin, 0, size), std::clamp<int64_t>(end, 0, size)};
}

// Pixels that positions [p.begin, p.end) see.
inline Range pixels_of(const Geometry& g, int axis, Range p) {
  const int64_t span = (g.kernel[axis] - 1) * g.dilation[axis];
  return clip(p.begin * g.stride[axis] - g.low[axis],
              (p.end - 1) * g.stride[axis] - g.low[axis] + span + 1, g.in[axis]);
}

// Positions that see pixels [q.begin, q.end).
inline Range positions_of(const Geometry& g, int axis, Range q) {
  const int64_t span = (g.kernel[axis] - 1) * g.dilation[axis], s = g.stride[axis];
  const int64_t first = q.begin + g.low[axis] - span;
  return clip(first <= 0 ? 0 : (first + s - 1) / s, (q.end - 1 + g.low[axis]) / s + 1, g.out[axis]);
}

}  // namespace jaxws
