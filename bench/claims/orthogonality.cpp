// SPDX-License-Identifier: BSD-3-Clause
// orthogonality.cpp: how far the truncated inverse is from an orthogonal Q, and what each side of HOFT keeps.
#include "measures.hpp"
#include "departure.hpp"
#include "progress.hpp"

#include <hoft/hoft.hpp>

#include <cmath>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace bench::claims {
namespace {

using hoft::index_t;
using matrix = Eigen::MatrixXd;

matrix gaussian(index_t m, index_t n, std::mt19937_64& rng) {
  std::normal_distribution<double> normal;
  matrix A(m, n);
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) A(i, j) = normal(rng);
  return A;
}

matrix reflectors(bool paired, index_t m, index_t r, std::mt19937_64& rng) {
  return paired ? matrix(hoft::paired_gaussian<double>(m, r, rng())) : gaussian(m, r, rng);
}

constexpr int all_terms[] = {2, 3, 4, 0};  // 0: the exact inverse
hoft::inverse kind_of(int terms) {
  return terms == 0 ? hoft::inverse(hoft::exact{}) : hoft::inverse(hoft::neumann{terms});
}

/// Columns that share a direction: c + g / 2, g Gaussian.
matrix correlated(index_t m, index_t n, std::mt19937_64& rng) {
  matrix const common = gaussian(m, 1, rng);
  return 0.5 * gaussian(m, n, rng) + common.replicate(1, n);
}

double drift(Eigen::VectorXd const& before, matrix const& after) {
  return (hoft::singular_values(after) - before).cwiseAbs().maxCoeff() / before(0);
}

template <class Body>
void each_size(int largest_m, int largest_r, Body const& body) {
  for (index_t m = 64; m <= largest_m; m *= 4)
    for (index_t r = 1; r <= std::min<index_t>(largest_r, m); r *= 2) body(m, r);
}

}  // namespace

void orthogonality(int largest_m, int largest_r, int seeds, std::ostream& out) {
  out << "m\tr\tterms\tvectors\tseed\terror\n";
  std::size_t total = 0;
  each_size(largest_m, largest_r, [&](index_t, index_t) { total += 2 * std::size_t(seeds); });
  progress shown("orthogonality", total);
  each_size(largest_m, largest_r, [&](index_t m, index_t r) {
    for (bool paired : {false, true})
      for (int seed = 1; seed <= seeds; ++seed) {
        std::mt19937_64 rng(static_cast<unsigned long>(seed));
        matrix const U = reflectors(paired, m, r, rng);
        for (int terms : all_terms) {
          auto const Q = hoft::accumulate(U, kind_of(terms), std::max<index_t>(r, 1));
          out << m << '\t' << r << '\t' << terms << '\t' << (paired ? "paired" : "random") << '\t' << seed << '\t'
              << double(departure(Q) / std::sqrt((long double)(m))) << '\n';
        }
        shown.step();
      }
  });
}

void sides(int largest_m, int largest_r, int seeds, std::ostream& out) {
  constexpr index_t short_side = 64;
  constexpr index_t most_columns = 1024;  // the energy of n columns takes n² m
  out << "columns\tside\tm\tn\tr\tterms\tseed\tenergy\tchange\tdrift\n";
  std::size_t total = 0;
  each_size(largest_m, largest_r, [&](index_t, index_t) { total += 6 * std::size_t(seeds); });
  progress shown("sides", total);
  each_size(largest_m, largest_r, [&](index_t m, index_t r) {
    for (bool related : {false, true})
      for (std::string side : {"left", "right", "both"})
        for (int seed = 1; seed <= seeds; ++seed) {
          shown.step();
          bool const left = side != "right", right = side != "left";
          // The transform that is swept stands on the long side; both: Q_V is of order 64.
          index_t const rows = left ? m : short_side, cols = left ? short_side : m;
          if ((right && r > cols) || cols > most_columns) continue;
          std::mt19937_64 rng(static_cast<unsigned long>(seed));
          matrix const M = related ? correlated(rows, cols, rng) : gaussian(rows, cols, rng);
          matrix const U = reflectors(false, rows, left ? r : 0, rng), V = reflectors(false, cols, right ? r : 0, rng);
          double const energy = hoft::hyperspherical_energy(M);
          Eigen::VectorXd const singular = hoft::singular_values(M);
          for (int terms : all_terms) {
            matrix Mhat = M;
            hoft::merge(hoft::adapter<double>(U, V, kind_of(terms)), Mhat);
            double const change = hoft::hyperspherical_energy(Mhat) - energy;
            out << (related ? "correlated" : "gaussian") << '\t' << side << '\t' << rows << '\t' << cols << '\t' << r
                << '\t' << terms << '\t' << seed << '\t' << energy << '\t' << change << '\t' << drift(singular, Mhat)
                << '\n';
          }
        }
  });
}

}  // namespace bench::claims
