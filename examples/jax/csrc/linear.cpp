// SPDX-License-Identifier: BSD-3-Clause
// linear.cpp: HOFT and SHOFT around a product with the weight that XLA makes, as calls of XLA's.
//
// Extents, each behind the same leading ones (the batch), rows contiguous: tokens x, dx [t, n] and y, dy, base = M x
// and dbase [t, m]; product [rv, m], M V̂ of the normalised rows of v; s [m], or [0] for HOFT; a form is vectors [r, m]
// and factors [r, 2 b + 3] (householder.cpp), that of v with one triangle. What is not a token has the type that 16-bit
// tokens are computed in.
#include "buffers.hpp"
#include "pool.hpp"

#include <hoft/adapter/adapt.hpp>
#include <hoft/adapter/bind.hpp>
#include <hoft/adapter/finish.hpp>
#include <hoft/adapter/layer.hpp>
#include <hoft/cpu/backend.hpp>

#include <algorithm>

namespace hoft_jax {
namespace {

/// A base operator whose product on the reflectors of v was made before.
template <class A>
struct given_product {
  hoft::matrix_view<A const> product, adjoint_product;  // [m, rv], [n, rv]
  void apply(hoft::matrix_view<A const>, hoft::matrix_view<A> Y) const { copy(product, Y); }
  void apply_adjoint(hoft::matrix_view<A const>, hoft::matrix_view<A> Y) const { copy(adjoint_product, Y); }

 private:
  static void copy(hoft::matrix_view<A const> from, hoft::matrix_view<A> to) {
    for (index_t j = 0; j < to.cols; ++j) std::copy_n(&from.data[j * from.ld], to.rows, &to.data[j * to.ld]);
  }
};

/// The weights of a layer, in all calls: `bind` makes the layer of one problem from them.
template <class A>
struct weights {
  forms<A const> left, right;
  matrices<A const> product, scale;
  weights(buffer const& all_product, buffer const& u_vectors, buffer const& u_factors, buffer const& v_vectors,
          buffer const& v_factors, buffer const& s, batch const& problems)
      : left(u_vectors, u_factors, problems),
        right(v_vectors, v_factors, problems),
        product("product", all_product, problems),
        scale("s", s, problems, true) {}

  [[nodiscard]] bool shared() const {
    return left.shared() && right.shared() && product.count() == 1 && scale.count() == 1;
  }
  [[nodiscard]] bool scaled() const { return scale.columns() > 0; }
  [[nodiscard]] hoft::adapter_view<A const> adapter(index_t i) const { return {left(i), right(i), scale.vector(i)}; }
};

/// body(policy, i, layer, work) with the bound layer of each problem; sizes(policy, layer) is what body takes of
/// `work`.
template <class A, class Sizes, class Body>
void for_each_layer(hoft::cpu const& threads, weights<A> const& w, index_t problems, Sizes const& sizes,
                    Body const& body) {
  hoft::arena count;
  auto const extents = hoft::carve_layer(count, w.adapter(0));
  index_t const layer_size = count.size();
  auto const bytes = [&](hoft::cpu const& policy) {
    return layer_size + std::max(hoft::bind_workspace<A>(policy, w.adapter(0)), sizes(policy, extents));
  };
  for_each_problem(threads, problems, bytes, [&](hoft::cpu const& policy, index_t i, hoft::workspace memory) {
    hoft::arena carve({memory.data, layer_size});
    auto layer = hoft::carve_layer(carve, w.adapter(i));
    hoft::workspace const work{memory.data + layer_size, memory.size - layer_size};
    hoft::bind_layer<A>(policy, w.adapter(i), given_product<A>{w.product.transposed(i), {}}, layer, work);
    body(policy, i, layer, work);
  });
}

/// y := Q_U diag(s) M Q_V x for every row of x, from base = M x; what `adapt_backward` needs beside y: projected
/// [t, rv], w [t, ru], and for SHOFT q [t, m], else [t, 0].
template <class T>
void adapt(hoft::cpu const& threads, weights<hoft::accumulator_t<T>> const& weight, batch const& problems,
           matrices<T const> const& x, matrices<T const> const& base, matrices<T> const& y,
           matrices<hoft::accumulator_t<T>> const& projected, matrices<hoft::accumulator_t<T>> const& w,
           matrices<T> const& q) {
  using A = hoft::accumulator_t<T>;
  bool const joined = weight.shared();  // all tokens meet the same weights
  auto const rows = [joined](auto const& of, index_t i) { return joined ? of.joined() : of.transposed(i); };
  auto const sizes = [&](hoft::cpu const& policy, hoft::bound_layer_view<A> const& layer) {
    return std::max(hoft::project_workspace(policy, layer, rows(x, 0)),
                    hoft::adapt_workspace(policy, layer, rows(base, 0)));
  };
  index_t const count = joined ? std::min<index_t>(1, problems.count()) : problems.count();
  for_each_layer<A>(threads, weight, count, sizes,
                    [&](hoft::cpu const& policy, index_t i, auto const& layer, hoft::workspace work) {
                      hoft::layer_state<A, T, hoft::col_major> state{rows(projected, i), rows(w, i), {}};
                      if (weight.scaled()) state.q = rows(q, i);
                      hoft::project(policy, layer, rows(x, i), state.v, work);
                      hoft::adapt(policy, layer, rows(base, i), rows(y, i), state, work);
                    });
}

/// Sums of a gradient but for those that x goes into: left [ru, m + 2 b] holds, one after another, what belongs to U;
/// minus_dK [rv, m]; ds [m] or [0].
template <class A>
struct sums {
  matrices<A> left, minus_dK, ds;
  sums(buffer const& all_left, buffer const& all_minus_dK, buffer const& all_ds, batch const& problems)
      : left("the sums of u", all_left, problems),
        minus_dK("the sum of K", all_minus_dK, problems),
        ds("the sum of s", all_ds, problems, true) {}
  [[nodiscard]] hoft::layer_gradient_view<A> operator()(index_t i) const {
    index_t const m = minus_dK.columns(), ru = left.rows(), b = (left.columns() - m) / 2;
    A* const u = left.data(i);
    hoft::layer_gradient_view<A> g;
    g.D_U = {u, m, ru};
    g.dF_U = {u + m * ru, b, ru};
    g.E_U = {u + (m + b) * ru, b, ru};
    g.minus_dK = minus_dK.transposed(i);
    g.ds = ds.vector(i);
    return g;
  }
};

/// dbase, dprojected [t, rv] and the sums from dy and what `adapt` gave.
template <class T>
void adapt_backward(hoft::cpu const& threads, weights<hoft::accumulator_t<T>> const& weight, batch const& problems,
                    matrices<T const> const& y, matrices<T const> const& dy,
                    matrices<hoft::accumulator_t<T> const> const& projected,
                    matrices<hoft::accumulator_t<T> const> const& w, matrices<T const> const& q,
                    matrices<T> const& dbase, matrices<hoft::accumulator_t<T>> const& dprojected,
                    sums<hoft::accumulator_t<T>> const& gradient) {
  using A = hoft::accumulator_t<T>;
  auto const state = [&](index_t i) {
    hoft::layer_state<A const, T const, hoft::col_major> kept{projected.transposed(i), w.transposed(i), {}};
    if (weight.scaled()) kept.q = q.transposed(i);
    return kept;
  };
  auto const sizes = [&](hoft::cpu const& policy, hoft::bound_layer_view<A> const& layer) {
    return hoft::adapt_backward_workspace(policy, layer, state(0));
  };
  for_each_layer<A>(threads, weight, problems.count(), sizes,
                    [&](hoft::cpu const& policy, index_t i, auto const& layer, hoft::workspace work) {
                      auto g = gradient(i);
                      hoft::set_zero(policy, g);
                      g.D_V = {nullptr, layer.cols(), weight.right.rank()};  // not added to here
                      hoft::adapt_backward(policy, layer, y.transposed(i), state(i), dy.transposed(i),
                                           dbase.transposed(i), dprojected.transposed(i), g, work);
                    });
}

/// dx, du, dv and ds from the sums, from dbase_product [t, n], Mᵀ dbase, and from adjoint_product [rv, n], Mᵀ dB.
template <class T>
struct finish_arguments {
  using A = hoft::accumulator_t<T>;
  matrices<T const> x, dbase_product;
  matrices<A const> dprojected, adjoint_product;
  sums<A> given;
  matrices<T> dx;
  matrices<A> du, dv, ds;
};

template <class T>
void copy(hoft::matrix_view<T const> from, hoft::matrix_view<T> to) {
  if (from.data != to.data) std::copy_n(from.data, from.rows * from.cols, to.data);
}

template <class T>
void finish(hoft::cpu const& threads, weights<hoft::accumulator_t<T>> const& weight, batch const& problems,
            finish_arguments<T> const& a) {
  using A = hoft::accumulator_t<T>;
  hoft::arena count;
  hoft::carve_layer_gradient(count, weight.adapter(0));
  index_t const sums_size = count.size();
  auto const sizes = [&](hoft::cpu const& policy, hoft::bound_layer_view<A> const& layer) {
    return sums_size + std::max(hoft::project_backward_workspace(policy, layer, a.x.transposed(0)),
                                hoft::finish_workspace<A>(policy, layer));
  };
  for_each_layer<A>(
      threads, weight, problems.count(), sizes,
      [&](hoft::cpu const& policy, index_t i, auto const& layer, hoft::workspace memory) {
        hoft::arena carve({memory.data, sums_size});
        hoft::workspace const work{memory.data + sums_size, memory.size - sums_size};
        auto const g = hoft::carve_layer_gradient(carve, weight.adapter(i)), given = a.given(i);
        hoft::set_zero(policy, g);
        // finish overwrites the sums, XLA's arguments must stay as they are.
        copy<A>(given.D_U, g.D_U), copy<A>(given.dF_U, g.dF_U), copy<A>(given.E_U, g.E_U);
        copy<A>(given.minus_dK, g.minus_dK), std::copy_n(given.ds.data, given.ds.size, g.ds.data);
        copy<T>(a.dbase_product.transposed(i), a.dx.transposed(i));  // nothing where XLA lends the same memory
        hoft::project_backward(policy, layer, a.x.transposed(i), a.dprojected.transposed(i), a.dx.transposed(i), g,
                               work);
        given_product<A> const base{{}, a.adjoint_product.transposed(i)};
        hoft::finish<A>(policy, layer, base, g, a.du.transposed(i), a.dv.transposed(i), a.ds.vector(i), work);
      });
}

ffi::Error call_adapt(ffi::ThreadPool pool, buffer x, buffer base, buffer product, buffer u_vectors, buffer u_factors,
                      buffer v_vectors, buffer v_factors, buffer s, result y, result projected, result w, result q) {
  xla_threads threads(pool);
  return dispatch_real(x, [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    batch const problems(*y, 2);
    weights<A> const weight(product, u_vectors, u_factors, v_vectors, v_factors, s, problems);
    adapt<T>(threads.policy(), weight, problems, {"x", x, problems}, {"base", base, problems}, {"y", *y, problems},
             {"projected", *projected, problems}, {"w", *w, problems}, {"q", *q, problems});
  });
}

ffi::Error call_adapt_backward(ffi::ThreadPool pool, buffer y, buffer dy, buffer projected, buffer w, buffer q,
                               buffer product, buffer u_vectors, buffer u_factors, buffer v_vectors, buffer v_factors,
                               buffer s, result dbase, result dprojected, result left, result minus_dK, result ds) {
  xla_threads threads(pool);
  return dispatch_real(y, [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    batch const problems(*dbase, 2);
    weights<A> const weight(product, u_vectors, u_factors, v_vectors, v_factors, s, problems);
    adapt_backward<T>(threads.policy(), weight, problems, {"y", y, problems}, {"dy", dy, problems},
                      {"projected", projected, problems}, {"w", w, problems}, {"q", q, problems},
                      {"dbase", *dbase, problems}, {"dprojected", *dprojected, problems},
                      {*left, *minus_dK, *ds, problems});
  });
}

ffi::Error call_finish(ffi::ThreadPool pool, buffer x, buffer dbase_product, buffer dprojected, buffer adjoint_product,
                       buffer left, buffer minus_dK, buffer sum_of_s, buffer product, buffer u_vectors,
                       buffer u_factors, buffer v_vectors, buffer v_factors, buffer s, result dx, result du, result dv,
                       result ds) {
  xla_threads threads(pool);
  return dispatch_real(x, [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    batch const problems(*dx, 2);
    weights<A> const weight(product, u_vectors, u_factors, v_vectors, v_factors, s, problems);
    finish<T>(threads.policy(), weight, problems,
              {{"x", x, problems},
               {"the product of dbase", dbase_product, problems},
               {"dprojected", dprojected, problems},
               {"the product of dB", adjoint_product, problems},
               {left, minus_dK, sum_of_s, problems},
               {"dx", *dx, problems},
               {"du", *du, problems},
               {"dv", *dv, problems},
               {"ds", *ds, problems, true}});
  });
}

}  // namespace
}  // namespace hoft_jax

// clang-format off
XLA_FFI_DEFINE_HANDLER_SYMBOL(hoft_jax_adapt, hoft_jax::call_adapt,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()  // x, base, product
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()                          // the form of u
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()                          // the form of v
        .Arg<hoft_jax::buffer>()                                                  // s
        .Ret<hoft_jax::buffer>()                                                  // y
        .Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>());  // projected, w, q
XLA_FFI_DEFINE_HANDLER_SYMBOL(hoft_jax_adapt_backward, hoft_jax::call_adapt_backward,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()                            // y, dy
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()    // projected, w, q
        .Arg<hoft_jax::buffer>()                                                    // product
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()                            // the form of u
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()                            // the form of v
        .Arg<hoft_jax::buffer>()                                                    // s
        .Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>()                            // dbase, dprojected
        .Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>());  // sums
XLA_FFI_DEFINE_HANDLER_SYMBOL(hoft_jax_finish, hoft_jax::call_finish,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()                          // x, Mᵀ dbase
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()                          // dprojected, Mᵀ dB
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()  // sums
        .Arg<hoft_jax::buffer>()                                                  // product
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()                          // the form of u
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()                          // the form of v
        .Arg<hoft_jax::buffer>()                                                  // s
        .Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>());
// clang-format on
