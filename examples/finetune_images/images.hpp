// SPDX-License-Identifier: BSD-3-Clause
// images.hpp: labelled images as the columns of a matrix.
#pragma once
#include "idx.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <filesystem>
#include <span>
#include <vector>

namespace finetune {

using Eigen::Index;
using Matrix = Eigen::MatrixXf;  ///< column-major: activations are [features, images], each image contiguous
using Vector = Eigen::VectorXf;

constexpr Index image_side = 28;
constexpr Index pixels = image_side * image_side;
constexpr Index classes = 10;

struct labelled_images {
  Matrix x;                ///< [pixels, count], in [0, 1]
  std::vector<int> label;  ///< [count], in [0, classes)

  Index size() const { return x.cols(); }
};

/// Reads `<prefix>-images-idx3-ubyte.gz` and `<prefix>-labels-idx1-ubyte.gz`. @throws data_error
inline labelled_images read_images(std::filesystem::path const& folder, std::string const& prefix) {
  auto const image_path = folder / (prefix + "-images-idx3-ubyte.gz");
  auto const label_path = folder / (prefix + "-labels-idx1-ubyte.gz");
  idx_array const image = read_idx(image_path, 3);
  idx_array const label = read_idx(label_path, 1);
  if (image.extents[1] != image_side || image.extents[2] != image_side)
    throw data_error(image_path, "holds images of another size than 28 by 28");
  if (label.extents[0] != image.extents[0]) throw data_error(label_path, "has another length than the images have");
  if (std::ranges::any_of(label.bytes, [](int c) { return c >= classes; }))
    throw data_error(label_path, "is damaged: a label is not below 10");

  auto const count = static_cast<Index>(image.extents[0]);
  using Bytes = Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic>;
  return {Eigen::Map<Bytes const>(image.bytes.data(), pixels, count).cast<float>() / 255.0f,
          {label.bytes.begin(), label.bytes.end()}};
}

/// The chosen images, in the order of `chosen`.
inline labelled_images select(labelled_images const& from, std::span<Index const> chosen) {
  labelled_images to{Matrix(pixels, static_cast<Index>(chosen.size())), {}};
  to.label.reserve(chosen.size());
  for (Index j = 0; Index const i : chosen) {
    to.x.col(j++) = from.x.col(i);
    to.label.push_back(from.label[static_cast<std::size_t>(i)]);
  }
  return to;
}

/// The images turned by 180 degrees: rows and columns reversed, that is, the pixels in reverse order.
inline labelled_images upside_down(labelled_images const& images) {
  return {images.x.colwise().reverse(), images.label};
}

}  // namespace finetune
