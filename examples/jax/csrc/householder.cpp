// SPDX-License-Identifier: BSD-3-Clause
// householder.cpp: products of reflectors as calls of XLA's.
//
// Extents, each behind the same leading ones (the batch), rows contiguous: reflectors u [r, m] or, as columns, [m, r];
// tau [r], or [0] where it is not given; a form is vectors [r, m] and factors [r, 2 b + 3]; tokens x [t, m].
// Reflectors, tau and forms have the type that 16-bit tokens are computed in.
#include "buffers.hpp"
#include "pool.hpp"

#include <hoft/cpu/backend.hpp>
#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

namespace hoft_jax {
namespace {

hoft::op operation(bool adjoint) { return adjoint ? hoft::op::adjoint : hoft::op::plain; }

/// Whether tau is given, where there are reflectors.
bool has_tau(buffer const& tau) { return tau.dimensions().size() > 0 && tau.dimensions().back() > 0; }

/// body(U, i) with the reflectors of each problem in columns, as views that differ in their layout.
template <class A, class Body>
void in_columns(matrices<A> const& u, bool columns, index_t i, Body const& body) {
  if (columns) body(u.matrix(i));
  else body(u.transposed(i));
}

/// vectors, factors := the compact WY form of the reflectors.
template <class A>
void accumulate(hoft::cpu const& threads, buffer const& all_u, buffer const& taall_u, buffer const& vectors,
                buffer const& factors, bool columns) {
  batch const problems(vectors, 2);
  forms<A> const Q(vectors, factors, problems);
  matrices<A const> const u("u", all_u, problems), tau("tau", taall_u, problems, true);
  auto const bytes = [&](hoft::cpu const& policy) {
    return hoft::accumulate_workspace<A>(policy, Q.rank(), Q.block());
  };
  for_each_problem(threads, problems.count(), bytes, [&](hoft::cpu const& policy, index_t i, hoft::workspace work) {
    auto form = Q(i);
    in_columns(u, columns, i, [&](auto U) {
      if (has_tau(taall_u)) hoft::accumulate(policy, U, tau.vector(i), form, work);
      else hoft::accumulate(policy, U, form, hoft::exact{}, work);
    });
  });
}

/// y := Q x for every row of x, or Qᴴ x.
template <class T>
void apply(hoft::cpu const& threads, buffer const& all_x, buffer const& vectors, buffer const& factors,
           buffer const& all_y, bool adjoint) {
  using A = hoft::accumulator_t<T>;
  batch const problems(all_y, 2);
  forms<A const> const Q(vectors, factors, problems);
  matrices<T const> const x("x", all_x, problems);
  matrices<T> const y("y", all_y, problems);
  bool const joined = Q.shared();
  auto const X = [&](index_t i) { return joined ? x.joined() : x.transposed(i); };
  auto const Y = [&](index_t i) { return joined ? y.joined() : y.transposed(i); };
  index_t const count = joined && problems.count() > 0 ? 1 : problems.count();
  auto const bytes = [&](hoft::cpu const& policy) { return hoft::apply_workspace(policy, Q(0), X(0)); };
  for_each_problem(threads, count, bytes, [&](hoft::cpu const& policy, index_t i, hoft::workspace work) {
    hoft::apply(policy, Q(i), X(i), Y(i), hoft::side::left, operation(adjoint), work);
  });
}

/// dx, du and dtau from x and dy.
template <class T>
void apply_backward(hoft::cpu const& threads, buffer const& all_x, buffer const& all_dy, buffer const& vectors,
                    buffer const& factors, buffer const& all_dx, buffer const& all_du, buffer const& dtaall_u,
                    bool adjoint) {
  using A = hoft::accumulator_t<T>;
  batch const problems(all_dx, 2);
  forms<A const> const Q(vectors, factors, problems, has_tau(dtaall_u));
  matrices<T const> const x("x", all_x, problems), dy("dy", all_dy, problems);
  matrices<T> const dx("dx", all_dx, problems);
  matrices<A> const du("du", all_du, problems), dtau("dtau", dtaall_u, problems, true);
  auto const bytes = [&](hoft::cpu const& policy) {
    return hoft::apply_backward_workspace(policy, Q(0), x.transposed(0));
  };
  for_each_problem(threads, problems.count(), bytes, [&](hoft::cpu const& policy, index_t i, hoft::workspace work) {
    hoft::apply_backward(policy, Q(i), x.transposed(i), dy.transposed(i), dx.transposed(i), du.transposed(i),
                         dtau.vector(i), hoft::side::left, operation(adjoint), work);
  });
}

/// E := the first columns of Q [m, k].
template <class A>
void materialize(hoft::cpu const& threads, buffer const& vectors, buffer const& factors, buffer const& product) {
  batch const problems(product, 2);
  forms<A const> const Q(vectors, factors, problems);
  matrices<A> const E("the product", product, problems);
  auto const bytes = [&](hoft::cpu const& policy) { return hoft::materialize_workspace(policy, Q(0), E.matrix(0)); };
  for_each_problem(threads, problems.count(), bytes, [&](hoft::cpu const& policy, index_t i, hoft::workspace work) {
    hoft::materialize(policy, Q(i), E.matrix(i), work);
  });
}

/// An identity [m, k] and the gradient with respect to it, which nobody asks for.
template <class A>
struct product_backward_pieces {
  hoft::matrix_view<A, hoft::row_major> E, dE;
  product_backward_pieces(hoft::arena& memory, index_t m, index_t k)
      : E(memory.matrix<A, hoft::row_major>(m, k)), dE(memory.matrix<A, hoft::row_major>(m, k)) {}
};

/// da and dtau from dE = ∂L/∂E, reflectors in the columns of a [m, r].
template <class A>
void materialize_backward(hoft::cpu const& threads, buffer const& dproduct, buffer const& vectors,
                          buffer const& factors, buffer const& all_da, buffer const& dtaall_u) {
  batch const problems(all_da, 2);
  forms<A const> const Q(vectors, factors, problems, has_tau(dtaall_u));
  matrices<A const> const dE("the gradient of the product", dproduct, problems);
  matrices<A> const da("da", all_da, problems), dtau("dtau", dtaall_u, problems, true);
  index_t const m = dE.rows(), k = dE.columns();
  hoft::arena count;
  product_backward_pieces<A>(count, m, k);
  auto const bytes = [&](hoft::cpu const& policy) {
    return count.size() + hoft::apply_backward_workspace(policy, Q(0), dE.matrix(0));
  };
  for_each_problem(threads, problems.count(), bytes, [&](hoft::cpu const& policy, index_t i, hoft::workspace work) {
    hoft::arena memory({work.data, count.size()});
    product_backward_pieces<A> const pieces(memory, m, k);
    std::fill_n(pieces.E.data, m * k, A(0));
    for (index_t j = 0; j < k; ++j) pieces.E(j, j) = A(1);
    hoft::apply_backward(policy, Q(i), pieces.E, dE.matrix(i), pieces.dE, da.matrix(i), dtau.vector(i),
                         hoft::side::left, hoft::op::plain, {work.data + count.size(), work.size - count.size()});
  });
}

ffi::Error call_accumulate(ffi::ThreadPool pool, buffer u, buffer tau, result vectors, result factors, bool columns) {
  xla_threads threads(pool);
  return dispatch(u, [&]<class A>(A) {
    if constexpr (hoft::accumulating<A>) accumulate<A>(threads.policy(), u, tau, *vectors, *factors, columns);
    else refuse("accumulate: reflectors must not be in 16 bits");
  });
}
ffi::Error call_apply(ffi::ThreadPool pool, buffer x, buffer vectors, buffer factors, result y, bool adjoint) {
  xla_threads threads(pool);
  return dispatch(x, [&]<class T>(T) { apply<T>(threads.policy(), x, vectors, factors, *y, adjoint); });
}
ffi::Error call_apply_backward(ffi::ThreadPool pool, buffer x, buffer dy, buffer vectors, buffer factors, result dx,
                               result du, result dtau, bool adjoint) {
  xla_threads threads(pool);
  return dispatch(
      x, [&]<class T>(T) { apply_backward<T>(threads.policy(), x, dy, vectors, factors, *dx, *du, *dtau, adjoint); });
}
ffi::Error call_materialize(ffi::ThreadPool pool, buffer vectors, buffer factors, result product) {
  xla_threads threads(pool);
  return dispatch(vectors, [&]<class A>(A) {
    if constexpr (hoft::accumulating<A>) materialize<A>(threads.policy(), vectors, factors, *product);
    else refuse("materialize: a form must not be in 16 bits");
  });
}
ffi::Error call_materialize_backward(ffi::ThreadPool pool, buffer dproduct, buffer vectors, buffer factors, result da,
                                     result dtau) {
  xla_threads threads(pool);
  return dispatch(vectors, [&]<class A>(A) {
    if constexpr (hoft::accumulating<A>)
      materialize_backward<A>(threads.policy(), dproduct, vectors, factors, *da, *dtau);
    else refuse("materialize's gradient: a form must not be in 16 bits");
  });
}

}  // namespace
}  // namespace hoft_jax

// clang-format off
XLA_FFI_DEFINE_HANDLER_SYMBOL(hoft_jax_accumulate, hoft_jax::call_accumulate,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()
        .Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>().Attr<bool>("columns"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(hoft_jax_apply, hoft_jax::call_apply,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()
        .Ret<hoft_jax::buffer>().Attr<bool>("adjoint"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(hoft_jax_apply_backward, hoft_jax::call_apply_backward,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()
        .Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>().Attr<bool>("adjoint"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(hoft_jax_materialize, hoft_jax::call_materialize,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>().Ret<hoft_jax::buffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(hoft_jax_materialize_backward, hoft_jax::call_materialize_backward,
    xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()
        .Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>().Arg<hoft_jax::buffer>()
        .Ret<hoft_jax::buffer>().Ret<hoft_jax::buffer>());
// clang-format on
