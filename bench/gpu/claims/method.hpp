// SPDX-License-Identifier: BSD-3-Clause
// method.hpp: what a method is to the sweeps on a GPU: bench/methods/method.hpp over memory of a machine, in float.
#pragma once
#include "../../methods/description.hpp"
#include "machine.hpp"

#include <deque>
#include <vector>

namespace bench::gpu {

using methods::description;
using methods::sizes;

struct parameter {
  matrix value, gradient;
};

/// A method on one weight. What a pass needs beyond its arguments it takes from its machine; backward passes follow the
/// forward pass of the same arguments. All work is in the machine's stream.
class method {
 public:
  explicit method(machine& owner) : machine_(owner) {}
  method(method const&) = delete;
  method& operator=(method const&) = delete;
  virtual ~method() = default;

  std::deque<parameter>& parameters() { return parameters_; }
  /// Passes without a cost in the method's description have no body here.
  virtual void merge(matrix_view<float const>, matrix_view<float>) {}
  virtual void merge_backward(matrix_view<float const>, matrix_view<float>) {}
  virtual void forward(matrix_view<float const> M, matrix_view<float const> x, matrix_view<float> y) = 0;
  /// dy may be overwritten.
  virtual void backward(matrix_view<float const>, matrix_view<float const>, matrix_view<float const>,
                        matrix_view<float>, matrix_view<float>) {}

 protected:
  parameter& make(index_t rows, index_t cols) {
    return parameters_.emplace_back(parameter{matrix(machine_, rows, cols), matrix(machine_, rows, cols)});
  }
  machine& machine_;

 private:
  std::deque<parameter> parameters_;
};

struct entry {
  description about;
  /// Parameters as training starts. The machine is one of make_machine's.
  std::function<std::unique_ptr<method>(machine&, sizes const&)> make;
};
std::vector<entry> const& list();

}  // namespace bench::gpu
