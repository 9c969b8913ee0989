// SPDX-License-Identifier: BSD-3-Clause
// The kernels of the CUDA backend on the host: what they compute, in steps forwards and backwards.
#include <hoft/cuda/dense.hpp>
#include "cuda_on_host/host.hpp"

#include "cuda/bodies.hpp"
#include "cuda/calls_of.hpp"
#include "everything.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

using namespace hoft_test;

namespace {

struct host_machine {
  template <class T>
  using Allocator = std::allocator<T>;
  hoft::cuda::host device{};
  hoft::cuda::host const& policy() const { return device; }
  host_machine limited(index_t shared, index_t cluster) const {
    return {{.reversed = shared / 1024 % 16 == 12, .shared_limit = shared, .most_blocks = 9, .most_cluster = cluster}};
  }
  void finish() const {}
};

host_machine machine() { return {}; }

}  // namespace

HOFT_CUDA_TESTS(host_machine, machine, HOFT_CUDA_SCALARS)

TEST_CASE_TEMPLATE("no step depends on the order of its parts", T, float, std::complex<float>, Eigen::half) {
  for (auto const [m, r, n, block] : {cuda_shape{70, 65, 40, 64}, {300, 33, 9, 16}, {33, 6, 70, 64}}) {
    dense_matrix<T, row_major> const U = gaussian<T, row_major>(m, r, 9100), X = gaussian<T, row_major>(m, n, 9101);
    using tests = cuda_tests<host_machine, T, row_major>;
    host_machine const forwards{}, backwards{{.reversed = true}};
    auto const a = tests{forwards}.accumulated(U, block), b = tests{backwards}.accumulated(U, block);
    for (auto part :
         {&hoft::compact_wy_view<hoft::accumulator_t<T>>::vectors,
          &hoft::compact_wy_view<hoft::accumulator_t<T>>::factor, &hoft::compact_wy_view<hoft::accumulator_t<T>>::gram})
      CHECK(same_bits(hoft::as_eigen(a.view.*part), hoft::as_eigen(b.view.*part)));
    CHECK(same_bits(tests{forwards}.applied(a, X, side::left, op::plain),
                    tests{backwards}.applied(b, X, side::left, op::plain)));
    auto const gradients = [&](host_machine const& machine) {
      using call = calls<host_machine, T, row_major>;
      std::pair<dense_matrix<T, row_major>, dense_matrix<T, row_major>> g{X, U};
      auto const x = hoft::as_view(X);
      guarded_workspace work(call::apply_backward_size(machine, a.view, x, side::left));
      call::apply_backward_from_output(machine, a.view, x, x, hoft::as_view(g.first), hoft::as_view(g.second),
                                       side::left, op::plain, work);
      return g;
    };
    auto const g = gradients(forwards), h = gradients(backwards);
    CHECK(same_bits(g.first, h.first));
    CHECK(same_bits(g.second, h.second));
  }
}

// As the manual of PTX has it for mma.m16n8k16 on bfloat16: element i of a lane, in registers of two or one.
TEST_CASE("lanes hold what the matrix instruction takes from them") {
  using namespace hoft::cuda;
  for (int lane = 0; lane < 32; ++lane) {
    int const group = lane >> 2, in_group = lane & 3;
    for (int i = 0; i < 8; i += 2) {
      place const a = place_in(left_tile{}, lane, i / 2);
      CHECK(a.row == (i < 2 || (i >= 4 && i < 6) ? group : group + 8));
      CHECK(a.column == in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0));
    }
    for (int half = 0; half < 2; ++half) {  // columns 8 half ... of B and C
      for (int i = 0; i < 4; i += 2) {
        place const b = place_in(right_tile{}, lane, 2 * half + i / 2);
        CHECK(b.row == in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0));
        CHECK(b.column == group + 8 * half);
      }
      for (int i = 0; i < 4; i += 2) {  // elements 4 half + i, + 1, as pairs of a left tile
        place const c = place_in(left_tile{}, lane, (4 * half + i) / 2);
        CHECK(c.row == (i < 2 ? group : group + 8));
        CHECK(c.column == in_group * 2 + (i & 1) + 8 * half);
      }
    }
  }
}

TEST_CASE("a float is the sum of its parts") {
  std::mt19937 generator(5);
  std::uniform_int_distribution<std::uint32_t> any;
  auto const part = [](hoft::cuda::bfloat16_pair two, int which) {
    return std::bit_cast<float>(which == 0 ? two << 16 : two & 0xFFFF0000u);
  };
  auto const sum = [&](auto const& s, int which) {
    double total = 0;
    for (auto const two : s.part) total += double(part(two, which));
    return total;
  };
  for (int i = 0; i < 20000; ++i) {
    float const a = std::bit_cast<float>(any(generator)), b = std::bit_cast<float>(any(generator));
    for (int which = 0; which < 2; ++which) {
      double const whole = which == 0 ? a : b, three = sum(hoft::cuda::split<3>(a, b), which),
                   two = sum(hoft::cuda::split<2>(a, b), which);
      if (std::isfinite(whole)) CHECK(std::abs(three - whole) <= 0x1p-133);
      else CHECK(std::isnan(three) == (std::isnan(whole) || std::isinf(whole)));
      if (std::abs(whole) < 0x1p127) CHECK(std::abs(two - whole) <= std::max(0x1p-17 * std::abs(whole), 0x1p-134));
      if (!std::isfinite(whole)) CHECK(!std::isfinite(two));
    }
    float const of_16_bits = std::bit_cast<float>(any(generator) & 0xFFFFFF00u);
    if (std::abs(of_16_bits) < 0x1p127f && std::abs(of_16_bits) > 0x1p-110f)
      CHECK(sum(hoft::cuda::split<2>(0.0f, of_16_bits), 1) == double(of_16_bits));
  }
}

// One product for each element, so that nothing but what parts leave out is lost, beside a sum of 8 products in float.
TEST_CASE("a product of floats is that of their parts") {
  using namespace hoft::cuda;
  host_warp const warp;
  auto const check = [&]<int P, int Q>(unsigned seed, double allowed) {
    dense_matrix<float> const a = gaussian<float>(16, 1, seed), b = gaussian<float>(1, 16, seed + 1);
    host_warp::held<left_tile> left[P] = {};
    host_warp::held<right_tile> right[Q] = {};
    host_warp::held<sum_tile> sums = {};
    warp.each_lane([&](int lane) {
      for (int e = 0; e < 4; ++e) {
        place const in_left = place_in(left_tile{}, lane, e), in_right = place_in(right_tile{}, lane, e);
        auto const of_a = split<P>(in_left.column == 0 ? a(in_left.row) : 0.0f, 0.0f);
        auto const of_b = split<Q>(in_right.row == 0 ? b(in_right.column) : 0.0f, 0.0f);
        for (int p = 0; p < P; ++p) left[p][lane].pair[e] = of_a.part[p];
        for (int q = 0; q < Q; ++q) right[q][lane].pair[e] = of_b.part[q];
      }
    });
    multiply_add(warp, left, right, sums);
    each_element(warp, sums, [&](int i, int j, float c) {
      double const exact = double(a(i)) * double(b(j));
      CHECK(std::abs(c - exact) <= allowed * std::abs(exact));
    });
  };
  for (unsigned seed = 9500; seed < 9540; seed += 2) {
    check.operator()<1, 2>(seed, 0x1.01p-8);  // the left one is rounded to 8 bits
    check.operator()<2, 2>(seed, 0x1p-15);
    check.operator()<3, 3>(seed, 0x1p-23);
  }
}

TEST_CASE("a quotient by the inverse is rounded as a division, but for rare last bits") {
  dense_matrix<float> const a = gaussian<float>(20000, 1, 9701), b = gaussian<float>(20000, 1, 9702);
  int others = 0;
  for (index_t i = 0; i < a.rows(); ++i) {
    float const s = std::abs(b(i)) + 0x1p-40f, exact = a(i) / s, got = hoft::cuda::divided(a(i), s, 1.0f / s);
    CHECK(std::abs(got - exact) <= 0x1p-23f * std::abs(exact));
    if (got != exact) ++others;
  }
  CHECK(others <= 4);
}

// What two blocks of a processor share is half of it, with what the system keeps; one that needs more has more threads.
TEST_CASE("a block that is alone on its processor has 512 threads") {
  using namespace hoft::cuda;
  host const device{.most_cluster = 1};
  for (index_t m : {32, 512, 1024}) {
    cluster_adapt_kernel<Eigen::bfloat16> kernel{};
    kernel.U = {nullptr, m, 32};
    kernel.shape = shape_whole(device, m, 64, kernel);
    REQUIRE(kernel.shape.size > 0);
    bool const two_fit = 2 * (kernel.shared_bytes() + 1024) <= device.shared_limit + 1024;
    CHECK(kernel.shape.threads == (two_fit ? 256 : 512));
    CHECK(two_fit == (m < 1024));  // both are seen
  }
}

// Small and huge, NaN and infinite: columns share tiles of products, and nothing else.
TEST_CASE_TEMPLATE("columns keep to themselves, at any scale", T, float, Eigen::bfloat16) {
  index_t const m = 511, n = 33, of_nan = 3, of_infinity = 20;
  dense_matrix<T> const X = gaussian<T>(m, n, 9601), known = gaussian<T>(m, n, 9602);
  auto const scale = [](index_t j) { return j % 3 == 0 ? 1.0f : j % 3 == 1 ? 0x1p-90f : 0x1p110f; };
  dense_matrix<T> scaled(m, n);
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) scaled(i, j) = static_cast<T>(static_cast<float>(X(i, j)) * scale(j));
  scaled(100, of_nan) = static_cast<T>(std::numeric_limits<float>::quiet_NaN());
  scaled(7, of_infinity) = static_cast<T>(std::numeric_limits<float>::infinity());
  auto const is_right = [&](dense_matrix<T> const& plain, dense_matrix<T> const& got) {
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < m; ++i) {
        float const value = static_cast<float>(got(i, j));
        if (j == of_nan || j == of_infinity ? std::isfinite(value)
                                            : value != static_cast<float>(plain(i, j)) * scale(j))
          return false;
      }
    return true;
  };
  for (index_t r : {17, 48}) {
    hoft::compact_wy<float> const Q = hoft::accumulate(gaussian<float>(m, r, 9600));
    for (hoft::cuda::host const& device :
         {hoft::cuda::host{}, hoft::cuda::host{.shared_limit = 64 * 1024, .most_blocks = 9}}) {
      auto const results = [&](dense_matrix<T> const& of) {
        std::array<dense_matrix<T>, 3> out{dense_matrix<T>(m, n), dense_matrix<T>(m, n), dense_matrix<T>(m, n)};
        auto const x = hoft::as_view(of);
        guarded_workspace apply_work(hoft::apply_workspace(device, Q.view(), x));
        hoft::apply(device, Q.view(), x, hoft::as_view(out[0]), side::left, op::adjoint, apply_work);
        guarded_workspace work(hoft::apply_backward_workspace(device, Q.view(), x));
        dense_matrix<T> dU(m, r);
        hoft::apply_backward(device, Q.view(), hoft::as_view(known), x, hoft::as_view(out[1]), hoft::as_view(dU),
                             hoft::vector_view<float>{}, side::left, op::plain, work);
        hoft::apply_backward_from_output(device, Q.view(), hoft::as_view(known), x, hoft::as_view(out[2]),
                                         hoft::as_view(dU), hoft::vector_view<float>{}, side::left, op::adjoint, work);
        return out;
      };
      auto const plain = results(X), got = results(scaled);
      for (std::size_t i = 0; i < plain.size(); ++i) CHECK(is_right(plain[i], got[i]));
    }
  }
}

// Rows are whole multiples of 16 bytes, and do not begin at one: nothing may be fetched (the host refuses it).
TEST_CASE_TEMPLATE("matrices that begin anywhere", T, float, Eigen::half, Eigen::bfloat16) {
  index_t const m = 64, r = 7, n = 40;
  dense_matrix<T> const U = gaussian<T>(m, r, 9400), X = gaussian<T>(m, n, 9401);
  hoft::compact_wy<float> const Q = hoft::accumulate(U);
  hoft::cuda::host const device;
  padded<T, col_major> x(m + 1, n, 7);
  auto const shifted = x.view().block(1, 0, m, n);
  hoft::as_eigen(shifted) = X;
  dense_matrix<T> Y(m, n);
  guarded_workspace work(hoft::apply_workspace(device, Q.view(), shifted));
  hoft::apply(device, Q.view(), hoft::as_view(X), hoft::as_view(Y), side::left, op::plain, work);
  hoft::apply(device, Q.view(), shifted, shifted, side::left, op::plain, work);
  CHECK(same_bits(hoft::as_eigen(shifted), Y));
}

// 20 KB hold what a block of apply sums, and not the columns; 13 KB not even that, nor what accumulate and the
// gradients take: then everything goes through primitives.
TEST_CASE_TEMPLATE("where a block shares little memory", T, float, Eigen::bfloat16) {
  for (index_t limit : {20 * 1024, 13 * 1024}) {
    host_machine const small{{.shared_limit = limit, .most_cluster = 0}};
    using tests = cuda_tests<host_machine, T, row_major>;
    tests{small}.check_unusual_gradients();
    for (auto const [m, r, n] : {std::array<index_t, 3>{300, 5, 40}, {300, 16, 17}}) {
      dense_matrix<T, row_major> const U = gaussian<T, row_major>(m, r, 9200), X = gaussian<T, row_major>(m, n, 9201);
      auto const Y = reference_apply(U, X);
      CHECK(within(tests{small}.applied(tests{small}.accumulated(U, 64), X, side::left, op::plain), Y,
                   per_line<T>(X, Y, side::left, kernel_line_bound<T>(m, r))));
    }
  }
}

TEST_CASE("more reflectors than a block has threads") {
  using T = float;
  index_t const m = 320, r = 300;
  dense_matrix<T> const U = gaussian<T>(m, r, 9300), X = gaussian<T>(m, 3, 9301);
  using tests = cuda_tests<host_machine, T, col_major>;
  auto const Y = reference_apply(U, X);
  CHECK(within(tests{host_machine{}}.applied(tests{host_machine{}}.accumulated(U, 64), X, side::left, op::plain), Y,
               per_line<T>(X, Y, side::left, line_bound<T>(m, r))));
}

TEST_CASE("accumulate of a batch has the bits of single calls") {
  using T = float;
  hoft::cuda::host const policy;
  // Runs of one shape: few, one, more than a launch has room for, and an empty problem.
  std::vector<dense_matrix<T>> U;
  std::vector<index_t> blocks;
  auto const append = [&](int count, index_t m, index_t r, index_t block = 8) {
    for (int i = 0; i < count; ++i) U.push_back(gaussian<T>(m, r, unsigned(U.size()))), blocks.push_back(block);
  };
  append(3, 40, 6), append(1, 41, 6), append(650, 9, 3), append(1, 5, 0), append(10, 30, 20), append(2, 30, 20, 4);
  form_memory memory;
  std::vector<hoft::compact_wy_view<T>> together, alone;
  for (std::size_t i = 0; i < U.size(); ++i)
    for (auto* forms : {&together, &alone}) forms->push_back(memory.cut<T>(U[i].rows(), U[i].cols(), blocks[i]));
  std::vector<hoft::matrix_view<T const>> views;
  for (std::size_t i = 0; i < U.size(); ++i) {
    views.push_back(hoft::as_view(std::as_const(U[i])));
    auto& q = alone[i];
    guarded_workspace work(hoft::accumulate_workspace<T>(policy, q.rank(), q.block));
    hoft::accumulate(policy, views[i], q, hoft::exact{}, work);
  }
  std::span const Q(together);
  guarded_workspace work(hoft::accumulate_workspace(policy, Q));
  hoft::accumulate(policy, std::span<hoft::matrix_view<T const> const>(views), Q, hoft::exact{}, work);
  bool same = true;
  for (std::size_t i = 0; i < U.size(); ++i) {
    auto const &a = together[i], &b = alone[i];
    same = same && same_bits(hoft::as_eigen(a.vectors), hoft::as_eigen(b.vectors)) &&
           same_bits(hoft::as_eigen(a.factor), hoft::as_eigen(b.factor)) &&
           same_bits(hoft::as_eigen(a.scales), hoft::as_eigen(b.scales));
  }
  CHECK(same);
}

TEST_CASE_TEMPLATE("every call, series and transforms too, agrees with the CPU's", T, double, std::complex<double>) {
  bool reversed = false;
  check_everything<T>([&](shape const& s, bool scaled, bool keep_q, unsigned seed) {
    everything<T, row_major, hoft::cuda::host> kernels(s, scaled, keep_q, seed);
    kernels.run({.reversed = reversed = !reversed});
    CHECK(kernels.intact());
    return results_of<T>(kernels);
  });
}

TEST_CASE_TEMPLATE("the inverse of a triangle by one block, of orders around its blocks", T, double,
                   std::complex<float>) {
  for (index_t r : {1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65, 100, 128, 129, 200, 256, 300}) {
    std::string const label = text_of({{"r", r}});
    INFO(label);
    dense_matrix<T> A =
        gaussian<T>(r, r, unsigned(r), 0.3 / std::sqrt(double(r))).template triangularView<Eigen::StrictlyUpper>();
    Eigen::Matrix<T, Eigen::Dynamic, 1> tau = gaussian<T>(r, 1, unsigned(r + 1));
    if (r > 3) tau(3) = T(0);
    dense_matrix<T> F(r, r);
    for (bool reversed : {false, true}) {
      F.setConstant(scalar_of<T>(std::numeric_limits<double>::quiet_NaN()));
      hoft::ops<hoft::cuda::host>::form_factor(hoft::cuda::host{reversed}, hoft::as_view(std::as_const(A)),
                                               hoft::as_vector_view(std::as_const(tau)), hoft::as_view(F),
                                               static_cast<T*>(nullptr));
      // (I + D A) F = D, each sum to λ √k u of its terms' magnitudes.
      auto const f = widen(F), a = widen(A);
      wide_matrix<T> D = wide_matrix<T>::Zero(r, r), residual(r, r);
      for (index_t j = 0; j < r; ++j) D(j, j) = widened(tau(j));
      residual = f + times(D, times(a, f)) - D;
      bound_matrix const size = f.cwiseAbs() + times(bound_matrix(D.cwiseAbs()),
                                                     times(bound_matrix(a.cwiseAbs()), bound_matrix(f.cwiseAbs())));
      long double const factor = 4 * (std::sqrt(static_cast<long double>(r)) + 8) * eps_of<T>();
      CHECK(within(residual, wide_matrix<T>::Zero(r, r),
                   bound_matrix((bound_matrix::Identity(r, r) + size * (1 + f.cwiseAbs().maxCoeff())) * factor)));
      for (index_t j = 0; j < r; ++j)
        for (index_t i = j + 1; i < r; ++i) CHECK(F(i, j) == T(0));
    }
  }
}
