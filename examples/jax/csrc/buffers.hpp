// SPDX-License-Identifier: BSD-3-Clause
// buffers.hpp: XLA's buffers as batches of hoft's views, without a copy.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/householder/compact_wy.hpp>
#include <hoft/view/eigen.hpp>
#include <hoft/view/matrix_view.hpp>

#include <xla/ffi/api/ffi.h>

#include <complex>
#include <exception>
#include <stdexcept>
#include <string>

namespace hoft_jax {

namespace ffi = xla::ffi;
using hoft::index_t;
using buffer = ffi::AnyBuffer;
using result = ffi::Result<ffi::AnyBuffer>;

[[noreturn]] inline void refuse(std::string const& what) { throw std::invalid_argument("hoft_jax: " + what); }

template <class T>
constexpr ffi::DataType type_of() {
  using value = std::remove_const_t<T>;
  if constexpr (std::same_as<value, Eigen::bfloat16>) return ffi::BF16;
  else if constexpr (std::same_as<value, float>) return ffi::F32;
  else if constexpr (std::same_as<value, double>) return ffi::F64;
  else if constexpr (std::same_as<value, std::complex<float>>) return ffi::C64;
  else return ffi::C128;
}

/// The batch of a call: the leading extents of its results. Those of an argument are as many, and each is that of the
/// results or 1, which is what jax.vmap makes of an argument that it does not map over (vmap_method="expand_dims").
class batch {
 public:
  /// Of a result whose last `own` extents are those of one problem.
  batch(buffer const& result, std::size_t own) : extents_(leading(result, own)) {
    for (std::int64_t const extent : extents_) count_ *= extent;
  }
  [[nodiscard]] index_t count() const { return count_; }

  static ffi::Span<std::int64_t const> leading(buffer const& a, std::size_t own) {
    auto const all = a.dimensions();
    if (all.size() < own) refuse("a buffer has too few dimensions");
    return all.first(all.size() - own);
  }
  /// Which of the matrices of a buffer with these leading extents belongs to problem i.
  [[nodiscard]] index_t place(ffi::Span<std::int64_t const> of, index_t i) const {
    index_t place = 0, stride = 1;
    for (std::size_t d = extents_.size(); d-- > 0; i /= extents_[d]) {
      if (of[d] == 1) continue;
      place += i % extents_[d] * stride;
      stride *= extents_[d];
    }
    return place;
  }
  void require(char const* name, ffi::Span<std::int64_t const> of) const {
    bool fits = of.size() == extents_.size();
    for (std::size_t d = 0; fits && d < of.size(); ++d) fits = of[d] == 1 || of[d] == extents_[d];
    if (!fits) refuse(std::string("the leading extents of ") + name + " do not fit those of the results");
  }

 private:
  ffi::Span<std::int64_t const> extents_;
  index_t count_ = 1;
};

/// A buffer [*batch, rows, columns] of T as the matrix of each problem; [*batch, columns] with `one_row`.
template <class T>
class matrices {
 public:
  matrices(char const* name, buffer const& a, batch const& problems, bool one_row = false)
      : problems_(problems), leading_(batch::leading(a, one_row ? 1 : 2)) {
    if (a.element_type() != type_of<T>()) refuse(std::string(name) + " has elements of another type");
    problems.require(name, leading_);
    auto const all = a.dimensions();
    rows_ = one_row ? 1 : all[all.size() - 2];
    columns_ = all[all.size() - 1];
    data_ = static_cast<T*>(a.untyped_data());
  }
  [[nodiscard]] T* data(index_t i) const { return data_ + problems_.place(leading_, i) * rows_ * columns_; }
  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t columns() const { return columns_; }

  /// Tokens or reflectors in rows: the column-major view [columns, rows] of the same memory.
  [[nodiscard]] hoft::matrix_view<T> transposed(index_t i) const { return {data(i), columns_, rows_}; }
  [[nodiscard]] hoft::matrix_view<T, hoft::row_major> matrix(index_t i) const { return {data(i), rows_, columns_}; }
  [[nodiscard]] hoft::vector_view<T> vector(index_t i) const { return {data(i), rows_ * columns_}; }
  /// The rows of all problems as those of one.
  [[nodiscard]] hoft::matrix_view<T> joined() const { return {data_, columns_, rows_ * count()}; }
  [[nodiscard]] index_t count() const {
    index_t all = 1;
    for (std::int64_t const extent : leading_) all *= extent;
    return all;
  }

 private:
  batch problems_;
  ffi::Span<std::int64_t const> leading_;
  index_t rows_ = 0, columns_ = 0;
  T* data_ = nullptr;
};

/// Products of reflectors in compact WY form: vectors [*batch, r, m] and factors [*batch, r, 2 b + 3], which hold, one
/// after another, what a form has beside its vectors. Not carved from an arena, since that aligns its pieces by their
/// addresses, and XLA moves buffers between calls.
template <class A>
class forms {
 public:
  forms(buffer const& vectors, buffer const& factors, batch const& problems, bool explicit_tau = false)
      : vectors_("vectors", vectors, problems), factors_("factors", factors, problems), explicit_tau_(explicit_tau) {
    if (factors_.rows() != vectors_.rows() || factors_.columns() < 5 || factors_.columns() % 2 == 0)
      refuse("factors do not fit vectors");
  }
  [[nodiscard]] index_t rank() const { return vectors_.rows(); }
  [[nodiscard]] index_t size() const { return vectors_.columns(); }
  [[nodiscard]] index_t block() const { return (factors_.columns() - 3) / 2; }

  /// All problems have the same form.
  [[nodiscard]] bool shared() const { return vectors_.count() == 1 && factors_.count() == 1; }

  /// Filled, where `accumulate` has run before.
  [[nodiscard]] hoft::compact_wy_view<A> operator()(index_t i) const {
    using real = typename hoft::compact_wy_view<A>::real;
    index_t const r = rank(), b = block();
    A* const factors = factors_.data(i);
    hoft::compact_wy_view<A> q;
    q.vectors = vectors_.transposed(i);
    q.factor = {factors, b, r};
    q.gram = {factors + b * r, b, r};
    q.tau = {factors + 2 * b * r, r};
    q.scales = {reinterpret_cast<real*>(factors + (2 * b + 1) * r), 2, r};
    q.block = b;
    q.explicit_tau = explicit_tau_;
    q.filled = true;
    return q;
  }

 private:
  matrices<A> vectors_, factors_;
  bool explicit_tau_;
};

/// Runs body(), and makes an error of XLA's of what it throws.
template <class Body>
ffi::Error guarded(Body const& body) {
  try {
    body();
    return ffi::Error::Success();
  } catch (std::exception const& error) {
    return ffi::Error::InvalidArgument(error.what());
  }
}

/// body(T{}) for the type of real numbers that the buffer holds.
template <class Body>
ffi::Error dispatch_real(buffer const& a, Body const& body) {
  return guarded([&] {
    switch (a.element_type()) {
      case ffi::F32:
        return body(float{});
      case ffi::F64:
        return body(double{});
      case ffi::BF16:
        return body(Eigen::bfloat16{});
      default:
        refuse("elements must be float32, float64 or bfloat16");
    }
  });
}
/// The same with complex numbers.
template <class Body>
ffi::Error dispatch(buffer const& a, Body const& body) {
  if (a.element_type() == ffi::C64) return guarded([&] { body(std::complex<float>{}); });
  if (a.element_type() == ffi::C128) return guarded([&] { body(std::complex<double>{}); });
  return dispatch_real(a, body);
}

}  // namespace hoft_jax
