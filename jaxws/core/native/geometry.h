// The window of a layer, and which part of the image a block of positions sees.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace jaxws {

// Three spatial axes: (D, H, W). Layers with fewer have leading axes of size one.
struct Geometry {
  int64_t in[3], out[3], kernel[3], stride[3], low[3], dilation[3];
  int64_t filters[3];  // per axis; they repeat over the blocks
  int64_t block[3];    // positions along each axis that have one filter
  int64_t groups;

  static constexpr int kSize = 25;
  explicit Geometry(const int64_t* v) {
    int64_t* fields[] = {in, out, kernel, stride, low, dilation, filters, block};
    for (int64_t* field : fields)
      for (int axis = 0; axis < 3; ++axis) field[axis] = *v++;
    groups = *v;
  }

  int64_t offsets() const { return kernel[0] * kernel[1] * kernel[2]; }

  // The index of the filter of output position p.
  int64_t filter(int axis, int64_t p) const { return p / block[axis] % filters[axis]; }

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

// Along one axis, from positions to pixels or back: where a kernel offset leads from a place of the
// destination, and whose filter it takes. Looked up, as the innermost loops ask and divisions cost.
class Axis {
 public:
  Axis(const Geometry& g, int axis, bool to_positions)
      : kernel_(g.kernel[axis]), seen_(to_positions ? g.out[axis] : g.in[axis]) {
    const int64_t places = to_positions ? g.in[axis] : g.out[axis];
    for (int64_t place = 0; place < places; ++place)
      for (int64_t o = 0; o < kernel_; ++o) {
        const int64_t source = to_positions ? g.position(axis, place, o) : g.pixel(axis, place, o);
        const int64_t position = to_positions ? source : place;
        source_.push_back(source);
        filter_.push_back(position < 0 ? 0 : g.filter(axis, position));
        if (source >= 0) seen_[source] = true;
      }
  }

  // The place of the source that offset o leads to, or -1 if there is none.
  int64_t source(int64_t place, int64_t o) const { return source_[place * kernel_ + o]; }

  // The index of the filter that belongs to it.
  int64_t filter(int64_t place, int64_t o) const { return filter_[place * kernel_ + o]; }

  // Whether any offset leads to a place of the source: strides pass by some.
  bool seen(int64_t source) const { return seen_[source]; }

 private:
  int64_t kernel_;
  std::vector<int64_t> source_, filter_;
  std::vector<bool> seen_;
};

}  // namespace jaxws
