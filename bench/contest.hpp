// SPDX-License-Identifier: BSD-3-Clause
// contest.hpp: hoft beside its peers in one case. Those who do the same job are compared before any is timed.
#pragma once
#include "data.hpp"

#include <hoft/core/cost.hpp>
#include <hoft/eigen/dense_matrix.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// What is timed, without the type of its numbers.
struct task {
  std::string name;
  std::function<void()> run;              ///< timed
  hoft::cost work;                        ///< of one run, by hoft/core/cost.hpp
  std::function<void()> prepare = [] {};  ///< before the first run of a series, not timed
  bool wall = false;                      ///< by the wall clock: several threads; else processor time of the only one
  std::function<std::map<std::string, double>()> measures = {};  ///< further numbers of a run, after the last
};

/// One way to do the job. Those of one group do the same job: their results are compared with the first of the group.
template <class T>
struct contestant {
  task job;
  std::vector<matrix_view<T const>> results;  ///< what run leaves
  std::string group = "hoft";
  std::function<void()> widen = [] {};  ///< after a run whose results are compared: fills them from 16-bit storage
  double storage_epsilon = 0;           ///< of that storage; 0 where results are stored as T
};

/// The contestants of one operation on one shape.
template <class T>
struct contest {
  index_t longest_sum = 1;  ///< terms in the longest inner product of the operation
  std::vector<contestant<T>> contestants = {};

  void enter(std::string group, task job, std::vector<matrix_view<T const>> results) {
    contestants.push_back({std::move(job), std::move(results), std::move(group)});
  }
};

/// Results of the first of a group, kept to compare the others with.
template <class T>
class kept_results {
 public:
  explicit kept_results(contestant<T> const& first) : name_(first.job.name) {
    for (auto const& result : first.results) values_.emplace_back(as_eigen(result));
  }
  std::string const& name() const { return name_; }

  /// max over results of ‖a − b‖_F / ‖b‖_F, NaN if there is one.
  double relative_error(std::vector<matrix_view<T const>> const& a) const {
    if (a.size() != values_.size()) return std::numeric_limits<double>::infinity();
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      double square = 0, total = 0;
      for (index_t j = 0; j < values_[i].cols(); ++j) {
        square += double((as_eigen(a[i]).col(j) - values_[i].col(j)).squaredNorm());
        total += double(values_[i].col(j).squaredNorm());
      }
      double const error = std::sqrt(square / total);
      if (!(error <= worst)) worst = error;
    }
    return worst;
  }

 private:
  std::string name_;
  std::vector<hoft::dense_matrix<T>> values_;
};

/// A sum of k products carries a relative error of at most k ε to first order, in random data about √k ε. Two results
/// are compared, and each operation chains sums. In 16-bit storage operands, results and what lies between the parts of
/// a layer are rounded besides, by ε/2 each: no result depends on more than eight of them.
template <class T>
double allowed_error(contest<T> const& c, contestant<T> const& entry) {
  return 4 * double(c.longest_sum) * double(std::numeric_limits<T>::epsilon()) + 4 * entry.storage_epsilon;
}

}  // namespace bench
