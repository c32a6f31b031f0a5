// Copies of a few rows and columns of an image, laid out so that tiles read them in order.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "geometry.h"
#include "tiles.h"

namespace jaxws {

// Scratch memory of one thread, kept between calls.
class Scratch {
 public:
  float* get(int64_t floats) {
    if (static_cast<int64_t>(data_.size()) < floats + 16) data_.resize(floats + 16);
    const auto address = reinterpret_cast<uintptr_t>(data_.data());
    return data_.data() + (64 - address % 64) % 64 / sizeof(float);
  }

 private:
  std::vector<float> data_;
};

// An array (D, H, W, channels, n), read only.
template <typename Number>
struct Image {
  const Number* data;
  int64_t height, width, channels, batch;

  const Number* at(int64_t d, int64_t h, int64_t w) const {
    return data + ((d * height + h) * width + w) * channels * batch;
  }
};

// out[block][word][lane] of one pixel, for columns [n, n + lanes) of the batch; block `b` starts at
// out + b * stride. Words hold channels of one group. Columns past the batch are zeros.
template <typename Format, typename Number = typename Format::Number>
void pack_pixel(const Image<Number>& x, int64_t groups, const Number* pixel, int64_t n,
                int64_t lanes, float* out, int64_t stride) {
  const int64_t per_group = x.channels / groups;
  for (int64_t group = 0; group < groups; ++group, pixel += per_group * x.batch)
    for (int64_t c = 0; c < per_group; c += Format::kPerWord, out += kLanes)
      for (int64_t b = 0; b < lanes; b += kLanes) {
        const Number* row = pixel + c * x.batch + n + b;
        const Number* next = c + 1 < per_group ? row + x.batch : nullptr;
        float* to = out + b / kLanes * stride;
        const int64_t valid = std::min<int64_t>(kLanes, x.batch - n - b);
        if (valid >= kLanes) {
          Format::interleave(row, next, to);
        } else {
          for (int64_t i = 0; i < kLanes; ++i)
            to[i] = i < valid ? Format::word(row, next, i) : 0.0f;
        }
      }
}

// out[word][column] of the rows of a matrix with ld numbers from row to row.
template <typename Format, typename Number = typename Format::Number>
void pack_weights(const Number* matrix, int64_t rows, int64_t columns, int64_t ld, float* out) {
  for (int64_t r = 0; r < rows; r += Format::kPerWord, out += columns) {
    const Number* row = matrix + r * ld;
    const Number* next = r + 1 < rows ? row + ld : nullptr;
    for (int64_t i = 0; i < columns; ++i) out[i] = Format::word(row, next, i);
  }
}

// out[channel][lane] of one pixel for columns [n, n + lanes), `ld` words from channel to channel.
inline void pack_rows(const Image<float>& x, const float* pixel, int64_t n, int64_t lanes,
                      float* out, int64_t ld) {
  for (int64_t c = 0; c < x.channels; ++c)
    std::memcpy(out + c * ld, pixel + c * x.batch + n, lanes * sizeof(float));
}

typedef float Vector8 __attribute__((vector_size(32)));
typedef float Unaligned8 __attribute__((vector_size(32), aligned(4)));

// An 8 x 8 block, transposed in registers.
inline void transpose8(const float* from, int64_t ld_from, float* to, int64_t ld_to) {
  Vector8 r[8], s[8];
  for (int i = 0; i < 8; ++i) r[i] = *reinterpret_cast<const Unaligned8*>(from + i * ld_from);
  for (int i = 0; i < 8; i += 2) {
    s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      r[i + j] = __builtin_shufflevector(s[i + j], s[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      r[i + j + 2] = __builtin_shufflevector(s[i + j], s[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int j = 0; j < 4; ++j) {
    const Vector8 low = __builtin_shufflevector(r[j], r[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    const Vector8 high = __builtin_shufflevector(r[j], r[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    *reinterpret_cast<Unaligned8*>(to + j * ld_to) = low;
    *reinterpret_cast<Unaligned8*>(to + (j + 4) * ld_to) = high;
  }
}

// out[lane][channel] of one pixel for columns [n, n + lanes), `ld` words from lane to lane.
inline void pack_transposed(const Image<float>& x, const float* pixel, int64_t n, int64_t lanes,
                            float* out, int64_t ld) {
  const int64_t whole_c = x.channels / 8 * 8, whole_n = lanes / 8 * 8;
  for (int64_t c = 0; c < whole_c; c += 8)
    for (int64_t i = 0; i < whole_n; i += 8)
      transpose8(pixel + c * x.batch + n + i, x.batch, out + i * ld + c, ld);
  for (int64_t c = 0; c < x.channels; ++c)
    for (int64_t i = c < whole_c ? whole_n : 0; i < lanes; ++i)
      out[i * ld + c] = pixel[c * x.batch + n + i];
}

}  // namespace jaxws
