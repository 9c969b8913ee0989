// SPDX-License-Identifier: BSD-3-Clause
// trial.hpp: one method at one size, and its passes by name.
#pragma once
#include "../data.hpp"
#include "../methods/method.hpp"
#include "plan.hpp"

#include <string>

namespace bench::claims {

using hoft::matrix_view;

/// @throws std::invalid_argument if no method is called so
template <class T>
methods::entry<T> const& find(std::string const& name) {
  std::string known;
  for (auto const& e : methods::list<T>()) {
    if (e.about->name == name) return e;
    known += (known.empty() ? "" : ", ") + std::string(e.about->name);
  }
  throw std::invalid_argument("no method is called '" + name + "'; the methods are " + known);
}

/// The method with all arguments of its passes. Numbers are uniform in [-1, 1), parameters as training starts.
template <class T>
class trial {
 public:
  explicit trial(planned const& p) : pass_(p.pass), s_(p.s) {
    // Rooms have a fixed size.
    index_t const most = index_t{1} << 24, columns = std::max(s_.n, s_.t);
    methods::require(std::max(s_.m, s_.n) * columns <= most, p.name() + " is too large");
    std::mt19937_64 rng(1);
    method_ = find<T>(p.method).make(s_, rng);
    M_ = numbers<T>("M", s_.m, s_.n);
    if (on_weight()) {
      Mhat_ = room<T>("Mhat", s_.m, s_.n);
    } else {
      y_ = room<T>("y", s_.m, s_.t);
      x_ = numbers<T>("x", s_.n, s_.t);
    }
    if (pass_ == "merge_backward") dMhat_ = room<T>("dMhat", s_.m, s_.n);
    if (pass_ == "backward") {
      dy_ = room<T>("dy", s_.m, s_.t);
      dx_ = room<T>("dx", s_.n, s_.t);
    }
  }

  methods::method<T>& method() { return *method_; }
  bool on_weight() const { return pass_ == "merge" || pass_ == "merge_backward"; }
  bool is_backward() const { return pass_ == "merge_backward" || pass_ == "backward"; }

  /// The forward pass, if the pass is a backward one.
  void prepare() {
    if (is_backward()) run_forward();
  }
  /// What the pass may have overwritten.
  void refresh() {
    if (pass_ == "merge_backward") assign(numbers<T>("dMhat", s_.m, s_.n), dMhat_);
    if (pass_ == "backward") assign(numbers<T>("dy", dy_.rows, dy_.cols), dy_);
  }
  void run() {
    if (pass_ == "merge_backward") method_->merge_backward(M_, Mhat_, dMhat_);
    else if (pass_ == "backward") method_->backward(M_, x_, y_, dy_, dx_);
    else run_forward();
  }

  double trained() const {
    double count = 0;
    for (auto const& p : method_->parameters()) count += double(p.value.size());
    return count;
  }

 private:
  void run_forward() {
    if (on_weight()) method_->merge(M_, Mhat_);
    else method_->forward(M_, x_, y_);
  }

  std::string pass_;
  sizes s_;
  std::unique_ptr<methods::method<T>> method_;
  matrix_view<T const> M_, x_;
  matrix_view<T> Mhat_, dMhat_, y_, dy_, dx_;
};

}  // namespace bench::claims
