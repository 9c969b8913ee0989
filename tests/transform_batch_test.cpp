// SPDX-License-Identifier: BSD-3-Clause
// Batches of adapters: the bits of the single calls, and errors before anything is written.
#include <hoft/cuda/dense.hpp>
#include "cuda_on_host/host.hpp"
#include <hoft/hoft.hpp>

#include "allocations.hpp"
#include "support.hpp"

#include <array>
#include <deque>
#include <limits>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

using namespace hoft_test;

namespace {

struct adapter_shape {
  index_t m, n, ru, rv, t;
  bool scaled;
  index_t shares = -1;  ///< the problem whose x this one has
};

// q, k and v of one layer; then odd and empty shapes. More than a GPU takes at a time; some share an x, the last that
// of one that was.
constexpr adapter_shape shapes[] = {
    {24, 20, 4, 6, 9, false},  {16, 20, 3, 2, 9, true, 0}, {24, 20, 0, 5, 9, false, 0}, {5, 70, 5, 0, 3, true},
    {0, 3, 0, 0, 4, false},    {9, 7, 12, 4, 0, true},     {33, 2, 8, 1, 40, false},    {1, 1, 1, 1, 1, true},
    {6, 1, 2, 1, 1, false, 7}, {7, 5, 2, 2, 6, false},     {70, 30, 3, 2, 20, true},    {24, 30, 1, 2, 20, false, 10}};
constexpr std::size_t count = std::size(shapes);

template <class E>
std::span<E const> all_of(std::vector<E> const& v) {
  return v;
}

/// Inputs, by shape alone, and outputs of every problem.
template <class T, class L>
struct problems {
  using A = hoft::accumulator_t<T>;
  using out = padded<T, L>;
  using gradient = padded<A, col_major>;

  std::deque<hoft::compact_wy<A>> left, right;
  std::deque<out> M, Mhat, Mback, x, y, dy, dbase, dx;
  std::deque<gradient> s, wU, wV, ws, dU, dV, ds;
  std::deque<std::vector<std::byte>> memory;
  std::vector<hoft::adapter_view<A const>> a;
  std::vector<hoft::bound_layer_view<A>> layer;
  std::vector<hoft::layer_state<A, T, L>> state;
  std::vector<hoft::layer_gradient_view<A>> sums;

  problems() {
    unsigned seed = 100;
    for (auto const& p : shapes) {
      auto const form = [&](std::deque<hoft::compact_wy<A>>& forms, index_t m, index_t r, index_t block) {
        forms.emplace_back(m, r, hoft::exact{}, block);
        dense_matrix<A> const U = gaussian<A>(m, r, ++seed);
        guarded_workspace work(hoft::accumulate_workspace<A>(hoft::cpu{}, r, block));
        hoft::accumulate(hoft::cpu{}, U, forms.back(), hoft::exact{}, work);
      };
      form(left, p.m, p.ru, 4);
      form(right, p.n, p.rv, std::max<index_t>(1, p.rv));
      index_t const scales = p.scaled ? p.m : 0;
      s.emplace_back(gaussian<A>(scales, 1, ++seed));
      M.emplace_back(gaussian<T, L>(p.m, p.n, ++seed));
      Mhat.emplace_back(p.m, p.n), Mback.emplace_back(gaussian<T, L>(p.m, p.n, ++seed));
      if (p.shares < 0) x.emplace_back(gaussian<T, L>(p.n, p.t, ++seed));
      else x.emplace_back(0, 0);
      y.emplace_back(p.m, p.t), dbase.emplace_back(p.m, p.t), dx.emplace_back(p.n, p.t);
      dy.emplace_back(gaussian<T, L>(p.m, p.t, ++seed));
      wU.emplace_back(p.m, p.ru), wV.emplace_back(p.n, p.rv), ws.emplace_back(scales, 1);
      dU.emplace_back(p.m, p.ru), dV.emplace_back(p.n, p.rv), ds.emplace_back(scales, 1);
      a.emplace_back(left.back().view(), right.back().view(), vector(s.back()));
      auto const parts = [&](hoft::arena& from) {
        return std::tuple(hoft::carve_layer(from, a.back()),
                          hoft::carve_layer_state<T, L>(from, a.back(), p.t, p.m != 16),
                          hoft::carve_layer_gradient(from, a.back()));
      };
      hoft::arena size;
      parts(size);
      memory.emplace_back(std::size_t(size.size()), std::byte(0xFF));
      hoft::arena carved(hoft::workspace{memory.back().data(), size.size()});
      auto const [bound, left_state, g] = parts(carved);
      layer.push_back(bound), state.push_back(left_state), sums.push_back(g);
      hoft::set_zero(hoft::cpu{}, g);
    }
  }

  template <class Column>
  static hoft::vector_view<A> vector(Column& c) {
    return {c.view().data, c.view().rows};
  }
  template <class Padded>
  static auto views(std::deque<Padded>& all) {
    std::vector<decltype(all.front().view())> v;
    for (auto& one : all) v.push_back(one.view());
    return v;
  }
  template <class View>
  static auto constant(std::vector<View> const& all) {
    std::vector<hoft::matrix_view<T const, L>> v;
    for (auto const& one : all) v.push_back(one);
    return v;
  }
  static auto vectors(std::deque<gradient>& all) {
    std::vector<hoft::vector_view<A>> v;
    for (auto& one : all) v.push_back(vector(one));
    return v;
  }
  std::vector<hoft::matrix_view<T const, L>> tokens() const {
    std::vector<hoft::matrix_view<T const, L>> v;
    for (auto const& p : shapes) v.push_back(x[p.shares < 0 ? v.size() : std::size_t(p.shares)].view());
    return v;
  }
  template <class Policy>
  auto bases(Policy const& policy) {
    auto const weight = [&](std::size_t i) { return hoft::matrix_view<T const, L>(M[i].view()); };
    if constexpr (std::is_same_v<Policy, hoft::cpu>) {
      std::vector<hoft::dense_operator<T, L>> v;
      for (std::size_t i = 0; i < count; ++i) v.emplace_back(policy, weight(i));
      return v;
    } else {
      std::vector<decltype(dense(policy, weight(0)))> v;
      for (std::size_t i = 0; i < count; ++i) v.push_back(dense(policy, weight(i)));
      return v;
    }
  }

  /// f(call of each problem, call of the batch) for every call.
  template <class Policy, class Base, class F>
  void for_each_call(Policy const& policy, std::vector<Base> const& base, F const& f) {
    using hoft::workspace;
    auto const adapters = all_of(a);
    auto const weights = constant(views(M)), gradients = constant(views(dy));
    auto const merged = views(Mhat), back = views(Mback), out_ = views(y), dbase_ = views(dbase), dx_ = views(dx);
    auto const wU_ = views(wU), wV_ = views(wV), dU_ = views(dU), dV_ = views(dV);
    auto const ws_ = vectors(ws), ds_ = vectors(ds);
    auto const inputs = tokens();
    auto const outputs = constant(out_), g = constant(views(dy)), dMhat = constant(merged);
    std::span<Base const> const bases(base);
    f(
        hoft::merge_workspace(policy, adapters, all_of(weights)),
        [&](std::size_t i) { return hoft::merge_workspace(policy, a[i], weights[i]); },
        [&](std::size_t i, workspace w) { hoft::merge(policy, a[i], weights[i], merged[i], w); },
        [&](workspace w) { hoft::merge(policy, adapters, all_of(weights), all_of(merged), w); });
    f(
        hoft::unmerge_workspace(policy, adapters, all_of(back)),
        [&](std::size_t i) { return hoft::unmerge_workspace(policy, a[i], back[i]); },
        [&](std::size_t i, workspace w) { hoft::unmerge(policy, a[i], back[i], w); },
        [&](workspace w) { hoft::unmerge(policy, adapters, all_of(back), w); });
    f(
        hoft::merge_backward_workspace(policy, adapters, all_of(weights)),
        [&](std::size_t i) { return hoft::merge_backward_workspace(policy, a[i], weights[i]); },
        [&](std::size_t i, workspace w) {
          hoft::merge_backward(policy, a[i], weights[i], dMhat[i], wU_[i], wV_[i], ws_[i], w);
        },
        [&](workspace w) {
          hoft::merge_backward(policy, adapters, all_of(weights), all_of(dMhat), all_of(wU_), all_of(wV_), all_of(ws_),
                               w);
        });
    f(
        hoft::bind_workspace<T, L>(policy, adapters),
        [&](std::size_t i) { return hoft::bind_workspace<T, L>(policy, a[i]); },
        [&](std::size_t i, workspace w) { hoft::bind_layer<T, L>(policy, a[i], base[i], layer[i], w); },
        [&](workspace w) { hoft::bind_layer<T, L>(policy, adapters, bases, layer, w); });
    f(
        hoft::forward_workspace(policy, layer, inputs),
        [&](std::size_t i) { return hoft::forward_workspace(policy, layer[i], inputs[i]); },
        [&](std::size_t i, workspace w) { hoft::forward(policy, layer[i], base[i], inputs[i], out_[i], state[i], w); },
        [&](workspace w) { hoft::forward(policy, layer, bases, inputs, out_, state, w); });
    auto const in_place = views(dy);
    for (bool again : {false, true})  // a second micro-batch, whose ∂L/∂(M x) takes the place of dy
      f(
          hoft::backward_workspace(policy, layer, state),
          [&](std::size_t i) { return hoft::backward_workspace(policy, layer[i], state[i]); },
          [&](std::size_t i, workspace w) {
            hoft::backward(policy, layer[i], base[i], inputs[i], outputs[i], state[i], g[i],
                           again ? dy[i].view() : dbase_[i], dx_[i], sums[i], w);
          },
          [&](workspace w) {
            hoft::backward(policy, layer, bases, inputs, outputs, state, g, again ? in_place : dbase_, dx_, sums, w);
          });
    f(
        hoft::finish_workspace<T, L>(policy, layer),
        [&](std::size_t i) { return hoft::finish_workspace<T, L>(policy, layer[i]); },
        [&](std::size_t i, workspace w) {
          hoft::finish<T, L>(policy, layer[i], base[i], sums[i], dU_[i], dV_[i], ds_[i], w);
        },
        [&](workspace w) { hoft::finish<T, L>(policy, layer, bases, sums, dU_, dV_, ds_, w); });
  }

  template <class Policy>
  void run_single(Policy const& policy) {
    for_each_call(policy, bases(policy), [](index_t, auto const& size, auto const& one, auto const&) {
      for (std::size_t i = 0; i < count; ++i) {
        guarded_workspace work(size(i));
        one(i, work);
        CHECK(work.intact());
      }
    });
  }
  template <class Policy>
  void run_batch(Policy const& policy) {
    for_each_call(policy, bases(policy), [&](index_t bytes, auto const&, auto const&, auto const& batch) {
      guarded_workspace work(bytes);
      long const before = allocations;
      batch(work);
      long const made = allocations - before;
      // Threads that start, what a GPU notes on the host, and the copies of dense() in 16 bits are allocations.
      if constexpr (std::is_same_v<Policy, hoft::cpu> && !is_stored_in_16_bits<T>)
        if (policy.threads == 1) CHECK(made == 0);
      CHECK(work.intact());
    });
  }

  void check_same(problems const& other) const {
    auto const same = [&](auto problems::*what, char const* name) {
      for (std::size_t i = 0; i < count; ++i) {
        std::string const label = std::string(name) + " of problem " + std::to_string(i);
        CHECK_MESSAGE(same_bits((this->*what)[i].map(), (other.*what)[i].map()), label);
        CHECK_MESSAGE((this->*what)[i].intact(), label);
      }
    };
    same(&problems::Mhat, "Mhat"), same(&problems::Mback, "M"), same(&problems::x, "x"), same(&problems::y, "y");
    same(&problems::dy, "dy"), same(&problems::dbase, "dbase"), same(&problems::dx, "dx");
    same(&problems::wU, "merged dU"), same(&problems::wV, "merged dV"), same(&problems::ws, "merged ds");
    same(&problems::dU, "dU"), same(&problems::dV, "dV"), same(&problems::ds, "ds");
    for (std::size_t i = 0; i < count; ++i)
      CHECK(same_bits(hoft::as_eigen(state[i].w), hoft::as_eigen(other.state[i].w)));
  }
};

}  // namespace

TEST_CASE_TEMPLATE("a batch of adapters has the bits of its single calls, for any number of threads", T, float,
                   Eigen::bfloat16) {
  problems<T, row_major> alone;
  alone.run_single(hoft::cpu{});
  for (int threads : {1, 3}) {
    problems<T, row_major> together;
    together.run_batch(hoft::cpu{.threads = threads});
    together.check_same(alone);
  }
}

namespace counted {

/// The host in a GPU's place, with its launches counted, and with a library that makes some of the products.
struct device : hoft::cuda::host {
  index_t* launches;
  index_t* products;
  index_t deepest = std::numeric_limits<index_t>::max();  ///< of the products that are kernels
};
template <class Kernel>
void launch_blocks(device const& on, index_t blocks, Kernel const& kernel) {
  ++*on.launches;
  launch_blocks(static_cast<hoft::cuda::host const&>(on), blocks, kernel);
}
template <class Kernel>
void launch_clusters(device const& on, index_t clusters, hoft::cuda::cluster_size size, Kernel const& kernel) {
  ++*on.launches;
  launch_clusters(static_cast<hoft::cuda::host const&>(on), clusters, size, kernel);
}
template <class A, class B, class C>
bool multiplies(device const& on, A const& a, bool, B const&, bool, C const&) {
  return a.cols > on.deepest;
}
template <class T, class LA, class LB, class LC>
bool multiply_matrices(device const& on, T alpha, hoft::matrix_view<T const, LA> A, bool conjugate_a,
                       hoft::matrix_view<T const, LB> B, bool conjugate_b, hoft::matrix_view<T const, LC> S,
                       hoft::matrix_view<T, LC> C) {
  if (!multiplies(on, A, conjugate_a, B, conjugate_b, C)) return false;
  ++*on.products;
  hoft::cuda::tile_product<T, LA, LB, LC> const kernel{alpha, A, conjugate_a, B, conjugate_b, S, C};
  launch_blocks(static_cast<hoft::cuda::host const&>(on), kernel.tiles(), kernel);
  return true;
}

}  // namespace counted

TEST_CASE_TEMPLATE("a batch of adapters through the kernels of a GPU has the bits of its single calls", T, float,
                   double, Eigen::bfloat16) {
  using L = std::conditional_t<std::is_same_v<T, Eigen::bfloat16>, row_major, col_major>;
  index_t launches = 0, products = 0;
  for (index_t shared : {index_t{227} << 10, index_t{24} << 10})  // with little, clusters of different sizes
    for (bool reversed : {false, true}) {
      counted::device device;
      device.launches = &launches, device.products = &products;
      if (reversed) device.deepest = 2;
      device.shared_limit = shared, device.most_blocks = 3, device.reversed = reversed;
      problems<T, L> alone, together;
      alone.run_single(device);
      index_t const single = std::exchange(products, 0);
      CHECK((single > 0) == reversed);
      together.run_batch(device);
      CHECK(std::exchange(products, 0) == single);
      together.check_same(alone);
    }
}

TEST_CASE("a batch of small adapters takes the launches of the one that takes most of them") {
  using T = Eigen::bfloat16;
  using L = row_major;
  // As many as are taken at a time, of two shapes for which the same is done.
  constexpr std::size_t many = hoft::cuda::most_together;
  index_t launches = 0, products = 0;
  counted::device device;
  device.launches = &launches, device.products = &products;
  device.shared_limit = index_t{24} << 10;  // so little that there are clusters of several blocks
  // HOFT, SHOFT, or both by turns: some take steps then that others do not, and more of them.
  for (auto const [even, odd] : {std::array{false, false}, {true, true}, {false, true}}) {
    std::deque<padded<T, L>> M, Mhat, y, dx;
    std::deque<padded<float, col_major>> s, dU, dV, ds;
    std::deque<hoft::compact_wy<float>> left, right;
    std::vector<hoft::adapter_view<float const>> a;
    std::vector<hoft::matrix_view<T const, L>> M_, gradients;
    std::vector<hoft::matrix_view<T const, L>> x_;
    std::vector<hoft::matrix_view<T, L>> Mhat_, y_, dx_;
    std::vector<hoft::matrix_view<float>> dU_, dV_;
    std::vector<hoft::cuda::dense_operator<hoft::cuda::host, T, L>> base;
    std::deque<std::vector<std::byte>> memory;
    std::vector<hoft::bound_layer_view<float>> layer;
    std::vector<hoft::layer_state<float, T, L>> state;
    std::vector<hoft::layer_gradient_view<float>> sums;
    padded<T, L> x(gaussian<T, L>(40, 9, 501));
    std::vector<hoft::vector_view<float>> ds_;
    for (std::size_t i = 0; i < many; ++i) {
      index_t const m = 120 + 8 * index_t(i % 2), n = 40, ru = 3, rv = 2;
      bool const scaled = i % 2 == 0 ? even : odd;
      auto const form = [&](std::deque<hoft::compact_wy<float>>& forms, index_t rows, index_t r, unsigned seed) {
        forms.emplace_back(rows, r, hoft::exact{}, r);
        dense_matrix<float> const U = gaussian<float>(rows, r, seed);
        guarded_workspace work(hoft::accumulate_workspace<float>(hoft::cpu{}, r, r));
        hoft::accumulate(hoft::cpu{}, U, forms.back(), hoft::exact{}, work);
      };
      form(left, m, ru, unsigned(i) + 1), form(right, n, rv, unsigned(i) + 101);
      s.emplace_back(gaussian<float>(scaled ? m : 0, 1, unsigned(i) + 201));
      a.emplace_back(left.back().view(), right.back().view(),
                     hoft::vector_view<float const>(s.back().view().data, s.back().view().rows));
      M.emplace_back(gaussian<T, L>(m, n, unsigned(i) + 301)), M_.push_back(M.back().view());
      Mhat.emplace_back(gaussian<T, L>(m, n, unsigned(i) + 401)), Mhat_.push_back(Mhat.back().view());
      gradients.push_back(Mhat.back().view());
      dU.emplace_back(m, ru), dU_.push_back(dU.back().view());
      dV.emplace_back(n, rv), dV_.push_back(dV.back().view());
      ds.emplace_back(scaled ? m : 0, 1), ds_.push_back({ds.back().view().data, ds.back().view().rows});
      base.push_back(dense(hoft::cuda::host{}, M.back().view()));
      x_.push_back(x.view()), y.emplace_back(gaussian<T, L>(m, 9, unsigned(i) + 601)), y_.push_back(y.back().view());
      dx.emplace_back(n, 9), dx_.push_back(dx.back().view());
      memory.emplace_back(std::size_t{1} << 15);
      hoft::arena carved(hoft::workspace{memory.back().data(), index_t(memory.back().size())});
      layer.push_back(hoft::carve_layer(carved, a.back()));
      state.push_back(hoft::carve_layer_state<T, L>(carved, a.back(), 9));
      sums.push_back(hoft::carve_layer_gradient(carved, a.back()));
      hoft::set_zero(hoft::cpu{}, sums.back());
    }
    auto const launches_of = [&](index_t bytes, auto const& call) {
      guarded_workspace work(bytes);
      launches = 0;
      call(work);
      return launches;
    };
    index_t const bytes = hoft::merge_workspace(device, a[1], M_[1]);  // of the largest
    for (std::size_t some : {std::size_t{0}, std::size_t{2}, many})
      CHECK(hoft::merge_workspace(device, all_of(a).first(some), all_of(M_).first(some)) == index_t(some) * bytes);
    index_t const merge = launches_of(hoft::merge_workspace(device, all_of(a), all_of(M_)), [&](hoft::workspace w) {
      hoft::merge(device, all_of(a), all_of(M_), all_of(Mhat_), w);
    });
    CHECK(merge == launches_of(hoft::merge_workspace(device, a[1], M_[1]),
                               [&](hoft::workspace w) { hoft::merge(device, a[1], M_[1], Mhat_[1], w); }));
    CHECK(merge > 0);
    index_t const backward =
        launches_of(hoft::merge_backward_workspace(device, all_of(a), all_of(M_)), [&](hoft::workspace w) {
          hoft::merge_backward(device, all_of(a), all_of(M_), all_of(gradients), all_of(dU_), all_of(dV_), all_of(ds_),
                               w);
        });
    std::vector<dense_matrix<float>> of_batch;
    for (auto const& gradient : dU) of_batch.push_back(gradient.map());
    index_t one = 0;
    for (std::size_t i = 0; i < many; ++i) {
      index_t const alone = launches_of(hoft::merge_backward_workspace(device, a[i], M_[i]), [&](hoft::workspace w) {
        hoft::merge_backward(device, a[i], M_[i], gradients[i], dU_[i], dV_[i], ds_[i], w);
      });
      one = std::max(one, alone);
      CHECK(same_bits(dU[i].map(), of_batch[i]));
    }
    CHECK(backward >= one);
    CHECK(backward <= one + 2);  // eight of the largest kernels have no room in the arguments of a launch
    // They share their x, which nobody writes: all that one does is done once for all, beside the base operators.
    std::span<typename decltype(base)::value_type const> const bases(base);
    auto const most_alone = [&](auto const& size, auto const& call) {
      index_t most = 0;
      for (std::size_t i = 0; i < 2; ++i)
        most = std::max(most, launches_of(size(i), [&](hoft::workspace w) { call(i, w); }));
      return most;
    };
    index_t const bind_alone = most_alone(
        [&](std::size_t i) { return hoft::bind_workspace<T, L>(device, a[i]); },
        [&](std::size_t i, hoft::workspace w) { hoft::bind_layer<T, L>(device, a[i], bases[i], layer[i], w); });
    index_t const bind = launches_of(hoft::bind_workspace<T, L>(device, all_of(a)), [&](hoft::workspace w) {
      hoft::bind_layer<T, L>(device, all_of(a), bases, layer, w);
    });
    index_t const forward_alone =
        most_alone([&](std::size_t i) { return hoft::forward_workspace(device, layer[i], x_[i]); },
                   [&](std::size_t i, hoft::workspace w) {
                     hoft::forward(device, layer[i], bases[i], x_[i], y_[i], state[i], w);
                   });
    index_t const forward = launches_of(hoft::forward_workspace(device, layer, x_), [&](hoft::workspace w) {
      hoft::forward(device, layer, bases, x_, y_, state, w);
    });
    index_t const backward_alone = most_alone(
        [&](std::size_t i) { return hoft::backward_workspace(device, layer[i], state[i]); },
        [&](std::size_t i, hoft::workspace w) {
          hoft::backward(device, layer[i], bases[i], x_[i], y_[i], state[i], y_[i], y_[i], dx_[i], sums[i], w);
        });
    index_t const layer_backward = launches_of(hoft::backward_workspace(device, layer, state), [&](hoft::workspace w) {
      hoft::backward(device, layer, bases, x_, y_, state, y_, y_, dx_, sums, w);
    });
    index_t const finish_alone =
        most_alone([&](std::size_t i) { return hoft::finish_workspace<T, L>(device, layer[i]); },
                   [&](std::size_t i, hoft::workspace w) {
                     hoft::finish<T, L>(device, layer[i], bases[i], sums[i], dU_[i], dV_[i], ds_[i], w);
                   });
    index_t const finish = launches_of(hoft::finish_workspace<T, L>(device, layer), [&](hoft::workspace w) {
      hoft::finish<T, L>(device, layer, bases, sums, dU_, dV_, ds_, w);
    });
    index_t const clear_alone = launches_of(0, [&](hoft::workspace) { hoft::set_zero(device, sums[1]); });
    index_t const clear = launches_of(0, [&](hoft::workspace) { hoft::set_zero(device, sums); });
    MESSAGE("merge ", merge, ", merge_backward ", backward, ", bind ", bind, ", forward ", forward, ", set_zero ",
            clear, ", backward ", layer_backward, ", finish ", finish);
    CHECK(bind == bind_alone);  // a staging copy, K, s K for SHOFT, −Ûᴴ s K, and a copy of the base's output
    CHECK(forward >= forward_alone);
    CHECK(forward <= forward_alone + (even == odd ? 0 : 1));  // SHOFT's clusters may be of more blocks
    CHECK(layer_backward >= backward_alone);
    CHECK(layer_backward <= backward_alone + 3);  // as of merge_backward
    CHECK(finish == finish_alone);
    CHECK((clear == 1 && clear_alone == 1));
    // What depends on weights alone is not made again for each x: as few as can be for HOFT, one for x and one for y.
    if (!odd) CHECK(forward == 2);
  }
}

TEST_CASE("a bad adapter stops its batch before anything is written, by name") {
  using T = float;
  using L = col_major;
  hoft::cpu const policy;
  problems<T, L> p;
  problems<T, L> const untouched;
  auto const adapters = all_of(p.a);
  auto const weights = p.constant(p.views(p.M));
  auto const merged = p.views(p.Mhat), back = p.views(p.Mback), out = p.views(p.y), g = p.views(p.dy),
             dx = p.views(p.dx);
  auto const in = p.tokens();
  auto const dU = p.views(p.dU), dV = p.views(p.dV);
  auto const ds = p.vectors(p.ds);
  auto const base = p.bases(policy);
  std::span<typename decltype(base)::value_type const> const bases(base);
  std::vector<std::byte> memory(1 << 20);
  hoft::workspace const work{memory.data(), index_t(memory.size())}, little{memory.data(), 8};
  auto const changed = [](auto v, std::size_t i, auto const& change) {
    change(v[i]);
    return v;
  };
  auto const shorter = [](auto v) {
    v.pop_back();
    return v;
  };
  auto const one_row_more = [](auto& view) { view.rows += 1, view.ld += 1; };
  auto const one_more = [](auto& vector) { vector.size += 1; };

  auto const merge = [&](auto const& a, auto const& M, auto const& Mhat, hoft::workspace w) {
    hoft::merge(policy, all_of(a), all_of(M), all_of(Mhat), w);
  };
  CHECK_THROWS_WITH_AS(merge(p.a, changed(weights, 7, one_row_more), merged, work),
                       "hoft::merge: M.rows is 2, must be == 1, the rows of U (problem 7)", hoft::shape_error);
  CHECK_THROWS_WITH_AS(merge(p.a, weights, changed(merged, 6, one_row_more), work),
                       "hoft::merge: Mhat.rows is 34, must be == 33 (problem 6)", hoft::shape_error);
  CHECK_THROWS_WITH_AS(merge(p.a, shorter(weights), merged, work), "hoft::merge: M.size() is 11, must be == 12",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(merge(p.a, weights, shorter(merged), work), "hoft::merge: Mhat.size() is 11, must be == 12",
                       hoft::shape_error);
  CHECK_THROWS_AS(merge(p.a, weights, merged, little), hoft::workspace_error);
  auto const explicit_tau = changed(p.a, 7, [](auto& a) { a.left.explicit_tau = true; });
  CHECK_THROWS_WITH_AS(
      merge(explicit_tau, weights, merged, work),
      "hoft::merge: a.left is built with explicit tau, must be built from reflectors alone (problem 7)",
      hoft::argument_error);

  auto const unmerge = [&](auto const& a, auto const& M, hoft::workspace w) {
    hoft::unmerge(policy, all_of(a), all_of(M), w);
  };
  std::vector<T> zeros(9);
  auto const singular = changed(p.a, 5, [&](auto& a) { a.scale = {zeros.data(), 9}; });
  CHECK_THROWS_WITH_AS(unmerge(singular, back, work), "hoft::unmerge: a.scale[0] is 0, must be != 0 (problem 5)",
                       hoft::argument_error);
  CHECK_THROWS_WITH_AS(unmerge(p.a, shorter(back), work), "hoft::unmerge: M.size() is 11, must be == 12",
                       hoft::shape_error);
  CHECK_THROWS_AS(unmerge(p.a, back, little), hoft::workspace_error);

  auto const merge_backward = [&](auto const& M, auto const& dMhat, auto const& U, auto const& V, auto const& s,
                                  hoft::workspace w) {
    hoft::merge_backward(policy, adapters, all_of(M), all_of(dMhat), all_of(U), all_of(V), all_of(s), w);
  };
  CHECK_THROWS_WITH_AS(merge_backward(weights, weights, dU, dV, changed(ds, 7, one_more), work),
                       "hoft::merge_backward: ds.size is 2, must be == 1 (problem 7)", hoft::shape_error);
  CHECK_THROWS_WITH_AS(merge_backward(weights, shorter(weights), dU, dV, ds, work),
                       "hoft::merge_backward: dMhat.size() is 11, must be == 12", hoft::shape_error);
  CHECK_THROWS_WITH_AS(merge_backward(weights, weights, dU, dV, shorter(ds), work),
                       "hoft::merge_backward: ds.size() is 11, must be == 12", hoft::shape_error);
  CHECK_THROWS_AS(merge_backward(weights, weights, dU, dV, ds, little), hoft::workspace_error);

  auto layers = p.layer;
  auto const bind = [&](auto const& a, auto& layer, hoft::workspace w) {
    hoft::bind_layer<T, L>(policy, a, bases, layer, w);
  };
  CHECK_THROWS_WITH_AS(bind(explicit_tau, layers, work),
                       "hoft::bind_layer: a.left is built with explicit tau, must be built from reflectors alone "
                       "(problem 7)",
                       hoft::argument_error);
  auto of_another = changed(layers, 7, [](auto& l) { l.B.rows = 2, l.B.ld = 2; });
  CHECK_THROWS_WITH_AS(bind(p.a, of_another, work),
                       "hoft::bind_layer: layer is of 2 outputs (layer.B.rows), must be of 1 (problem 7)",
                       hoft::shape_error);
  auto fewer = shorter(layers);
  CHECK_THROWS_WITH_AS(bind(p.a, fewer, work), "hoft::bind_layer: layer.size() is 11, must be == 12",
                       hoft::shape_error);

  auto const forward = [&](auto const& x, auto const& y, auto const& state, hoft::workspace w) {
    hoft::forward(policy, layers, bases, x, y, state, w);
  };
  CHECK_THROWS_WITH_AS(forward(in, out, p.state, work),
                       "hoft::forward: layer is memory that has not been bound, must be filled by bind_layer first, "
                       "and not a copy from before "
                       "(problem 0)",
                       hoft::argument_error);
  for (auto& layer : layers) layer.bound = true;
  CHECK_THROWS_WITH_AS(forward(changed(in, 3, one_row_more), out, p.state, work),
                       "hoft::forward: x.rows is 71, must be == 70 (problem 3)", hoft::shape_error);
  CHECK_THROWS_WITH_AS(forward(in, out, changed(p.state, 7, [](auto& s) { s.v.rows = 2, s.v.ld = 2; }), work),
                       "hoft::forward: state is of 2 reflectors on the right (state.v.rows), must be of 1 (problem 7)",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(forward(in, shorter(out), p.state, work), "hoft::forward: y.size() is 11, must be == 12",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(forward(in, out, shorter(p.state), work), "hoft::forward: state.size() is 11, must be == 12",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::forward(policy, layers, bases.first(11), in, out, p.state, work),
                       "hoft::forward: base.size() is 11, must be == 12", hoft::shape_error);
  CHECK_THROWS_AS(forward(in, out, p.state, little), hoft::workspace_error);

  auto const backward = [&](auto const& dy, auto const& dx_, auto const& sums, hoft::workspace w) {
    hoft::backward(policy, layers, bases, in, out, p.state, dy, g, dx_, sums, w);
  };
  CHECK_THROWS_WITH_AS(backward(g, changed(dx, 6, one_row_more), p.sums, work),
                       "hoft::backward: dx.rows is 3, must be == 2 (problem 6)", hoft::shape_error);
  CHECK_THROWS_WITH_AS(backward(g, dx, changed(p.sums, 7, [](auto& sums) { sums.ds.size = 2; }), work),
                       "hoft::backward: g is of 2 outputs (g.ds.size), must be of 1 (problem 7)", hoft::shape_error);
  CHECK_THROWS_WITH_AS(backward(shorter(g), dx, p.sums, work), "hoft::backward: dy.size() is 11, must be == 12",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(backward(g, dx, shorter(p.sums), work), "hoft::backward: g.size() is 11, must be == 12",
                       hoft::shape_error);
  CHECK_THROWS_AS(backward(g, dx, p.sums, little), hoft::workspace_error);

  auto const finish = [&](auto const& U, auto const& V, hoft::workspace w) {
    hoft::finish<T, L>(policy, layers, bases, p.sums, U, V, ds, w);
  };
  CHECK_THROWS_WITH_AS(finish(changed(dU, 7, one_row_more), dV, work),
                       "hoft::finish: dU.rows is 2, must be == 1 (problem 7)", hoft::shape_error);
  CHECK_THROWS_WITH_AS(finish(dU, shorter(dV), work), "hoft::finish: dV.size() is 11, must be == 12",
                       hoft::shape_error);
  CHECK_THROWS_AS(finish(dU, dV, little), hoft::workspace_error);
  p.check_same(untouched);
}
