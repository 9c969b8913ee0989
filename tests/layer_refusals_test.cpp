// SPDX-License-Identifier: BSD-3-Clause
// What the calls on bound layers refuse, by name, before they write anything or call the base operator.
#include "activations.hpp"

#include <hoft/adapter/layer_batch.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <tuple>

namespace {

using namespace hoft_test;
using hoft::argument_error;
using hoft::shape_error;
using hoft::workspace;
using hoft::workspace_error;

/// All arguments of the calls with views, right; a test spoils one. Weight [6, 5], 4 tokens, ranks 3 and 2.
struct arguments {
  problem<double> p{{6, 5, 4, 3, 2}, true, {}, 130};
  adapter<double> a = p.make();
  hoft::compact_wy<double> split = hoft::accumulate(p.V, inverse{}, 1);  // two triangles
  counted<double> base = counted<double>(p.M);
  counted<double, row_major> rows_base = counted<double, row_major>(p.M);
  dense_matrix<double> x = gaussian<double>(5, 4, 131), y = gaussian<double>(6, 4, 132),
                       dy = gaussian<double>(6, 4, 133), dbase = gaussian<double>(6, 4, 134),
                       dx = gaussian<double>(5, 4, 135), dU = gaussian<double>(6, 3, 136),
                       dV = gaussian<double>(5, 2, 137), B = gaussian<double>(6, 2, 138),
                       K = gaussian<double>(6, 2, 139), sK = gaussian<double>(6, 2, 140),
                       UK = gaussian<double>(3, 2, 141), v = gaussian<double>(2, 4, 142),
                       w = gaussian<double>(3, 4, 143), q = gaussian<double>(6, 4, 144),
                       dv = gaussian<double>(2, 4, 145), D_U = gaussian<double>(6, 3, 146),
                       dF_U = gaussian<double>(3, 3, 147), E_U = gaussian<double>(3, 3, 148),
                       minus_dK = gaussian<double>(6, 2, 149), D_V = gaussian<double>(5, 2, 150);
  vector<double> ds = gaussian<double>(6, 1, 151), sum_ds = gaussian<double>(6, 1, 152);

  hoft::adapter_view<double const> view = a.view();
  matrix_view<double> x_ = hoft::as_view(x), y_ = hoft::as_view(y), dy_ = hoft::as_view(dy), dx_ = hoft::as_view(dx),
                      dbase_ = hoft::as_view(dbase), dv_ = hoft::as_view(dv), dU_ = hoft::as_view(dU),
                      dV_ = hoft::as_view(dV);
  hoft::vector_view<double> ds_ = hoft::as_vector_view(ds);
  hoft::bound_layer_view<double> layer = of(view);
  hoft::layer_state<double, double, col_major> state{hoft::as_view(v), hoft::as_view(w), hoft::as_view(q)};
  hoft::layer_gradient_view<double> g{hoft::as_view(D_U),      hoft::as_view(dF_U), hoft::as_view(E_U),
                                      hoft::as_view(minus_dK), hoft::as_view(D_V),  hoft::as_vector_view(sum_ds)};
  std::vector<std::byte> memory = std::vector<std::byte>(100000);
  workspace work{memory.data(), index_t(memory.size())};

  arguments() = default;
  arguments(arguments const&) = delete;
  hoft::bound_layer_view<double> of(hoft::adapter_view<double const> const& adapted) {
    hoft::bound_layer_view<double> result;
    result.adapter = adapted, result.bound = true;
    result.B = hoft::as_view(B), result.minus_K = hoft::as_view(K);
    result.minus_scaled_K = hoft::as_view(sK), result.minus_UK = hoft::as_view(UK);
    return result;
  }
  auto everything() const {
    return std::tie(x, y, dy, dbase, dx, dU, dV, B, K, sK, UK, v, w, q, dv, D_U, dF_U, E_U, minus_dK, D_V, ds, sum_ds);
  }
};

/// A call on the arguments, and the workspace that it asks for.
struct call {
  char const* name;
  void (*run)(arguments&);
  index_t (*bytes)(arguments&);
};
using args = arguments;
call const bind{"bind_layer", [](args& s) { hoft::bind_layer<double>(cpu{}, s.view, s.base, s.layer, s.work); },
                [](args& s) { return hoft::bind_workspace<double>(cpu{}, s.view); }};
/// Workspace is for what the base operator takes otherwise than it is stored.
call const bind_rows{"bind_layer",
                     [](args& s) { hoft::bind_layer<double, row_major>(cpu{}, s.view, s.rows_base, s.layer, s.work); },
                     [](args& s) { return hoft::bind_workspace<double, row_major>(cpu{}, s.view); }};
call const project{"project", [](args& s) { hoft::project(cpu{}, s.layer, s.x_, s.state.v, s.work); },
                   [](args& s) { return hoft::project_workspace(cpu{}, s.layer, s.x_); }};
call const adapt{"adapt", [](args& s) { hoft::adapt(cpu{}, s.layer, s.dbase_, s.y_, s.state, s.work); },
                 [](args& s) { return hoft::adapt_workspace(cpu{}, s.layer, s.dbase_); }};
call const adapt_backward{
    "adapt_backward",
    [](args& s) { hoft::adapt_backward(cpu{}, s.layer, s.y_, s.state, s.dy_, s.dbase_, s.dv_, s.g, s.work); },
    [](args& s) { return hoft::adapt_backward_workspace(cpu{}, s.layer, s.state); }};
call const project_backward{"project_backward",
                            [](args& s) { hoft::project_backward(cpu{}, s.layer, s.x_, s.dv_, s.dx_, s.g, s.work); },
                            [](args& s) { return hoft::project_backward_workspace(cpu{}, s.layer, s.x_); }};
call const forward{"forward", [](args& s) { hoft::forward(cpu{}, s.layer, s.base, s.x_, s.y_, s.state, s.work); },
                   [](args& s) { return hoft::forward_workspace(cpu{}, s.layer, s.x_); }};
call const forward_alone{"forward", [](args& s) { hoft::forward(cpu{}, s.layer, s.base, s.x_, s.y_, s.work); },
                         [](args& s) { return hoft::forward_workspace(cpu{}, s.layer, s.x_, false); }};
call const backward{
    "backward",
    [](args& s) { hoft::backward(cpu{}, s.layer, s.base, s.x_, s.y_, s.state, s.dy_, s.dbase_, s.dx_, s.g, s.work); },
    [](args& s) { return hoft::backward_workspace(cpu{}, s.layer, s.state); }};
call const finish{"finish",
                  [](args& s) { hoft::finish<double>(cpu{}, s.layer, s.base, s.g, s.dU_, s.dV_, s.ds_, s.work); },
                  [](args& s) { return hoft::finish_workspace<double>(cpu{}, s.layer); }};
/// All that read a layer.
call const* const readers[] = {&project, &adapt,         &adapt_backward, &project_backward,
                               &forward, &forward_alone, &backward,       &finish};

template <class Error = shape_error, class Spoil>
void refuses(call const& c, std::string const& message, Spoil const& spoil) {
  arguments spoilt;
  spoil(spoilt);
  bool const bound = spoilt.layer.bound;
  arguments const before;
  CHECK_THROWS_WITH_AS(c.run(spoilt), (std::string("hoft::") + c.name + ": " + message).c_str(), Error);
  CHECK(spoilt.everything() == before.everything());
  CHECK((spoilt.base.applied.empty() && spoilt.base.applied_adjoint.empty() && spoilt.rows_base.applied.empty()));
  CHECK(spoilt.layer.bound == bound);
}
void refuses_little_work(call const& c) {
  arguments sizes;
  index_t const needed = c.bytes(sizes);
  CHECK(needed > 0);
  for (index_t const little : {index_t{0}, needed / 4, needed / 2, needed - 1})
    refuses<workspace_error>(
        c, "work.size is " + std::to_string(little) + ", must be >= " + std::to_string(needed) + " bytes",
        [&](args& s) { s.work.size = little; });
  sizes.work.size = needed;
  CHECK_NOTHROW(c.run(sizes));
}
/// The parts of a layer, of the adapter of the call.
void refuses_wrong_parts(call const& c) {
  CAPTURE(c.name);
  refuses(c, "layer is of 5 outputs (layer.B.rows), must be of 6", [](args& s) { s.layer.B.rows = 5; });
  refuses(c, "layer is of 1 reflectors on the right (layer.minus_K.cols), must be of 2",
          [](args& s) { s.layer.minus_K.cols = 1; });
  refuses(c, "layer.minus_scaled_K.ld is 5, must be >= 6", [](args& s) { s.layer.minus_scaled_K.ld = 5; });
  refuses(c, "layer is of 2 reflectors in a single block on the left (layer.minus_UK.rows), must be of 3",
          [](args& s) { s.layer.minus_UK.rows = 2; });
}

}  // namespace

TEST_SUITE_BEGIN("refusals of layers");

TEST_CASE("bind_layer refuses what does not fit") {
  refuses_wrong_parts(bind);
  refuses_little_work(bind_rows);
  refuses(bind, "a.right.block is 1, must be >= 2", [](args& s) { s.view.right = s.split.view(); });
  refuses(bind, "a.scale.size is 5, must be == 6", [](args& s) { s.view.scale.size = 5; });
  refuses(bind, "a.left.factor.cols is 2, must be == 3", [](args& s) { s.view.left.factor.cols = 2; });
  refuses<argument_error>(bind, "a.left is built with explicit tau, must be built from reflectors alone",
                          [](args& s) { s.view.left.explicit_tau = true; });
  refuses<argument_error>(bind, "a.right is built with explicit tau, must be built from reflectors alone",
                          [](args& s) { s.view.right.explicit_tau = true; });
  refuses<argument_error>(bind, "a.right is memory that has not been accumulated, must be filled by accumulate first",
                          [](args& s) { s.view.right.filled = false; });
  // A layer that was cut for another adapter: the rank of U decides whether Ûᴴ K is kept.
  refuses(bind, "layer is of 3 reflectors in a single block on the left (layer.minus_UK.rows), must be of 0",
          [](args& s) { s.view.left.block = 1, s.view.left.factor.rows = 1, s.view.left.gram.rows = 1; });
  // One that was bound stays so.
  refuses(bind, "layer is of 3 reflectors on the right (layer.B.cols), must be of 2",
          [](args& s) { s.layer.bound = false, s.layer.B.cols = 3; });
}

TEST_CASE("every call that reads a layer asks whether it fits and is bound") {
  for (call const* c : readers) {
    refuses_wrong_parts(*c);
    refuses_little_work(*c);
    refuses<argument_error>(
        *c, "layer is memory that has not been bound, must be filled by bind_layer first, and not a copy from before",
        [](args& s) { s.layer.bound = false; });
    refuses<argument_error>(*c, "a.left is built with explicit tau, must be built from reflectors alone",
                            [](args& s) { s.layer.adapter.left.explicit_tau = true; });
    refuses<argument_error>(*c, "a.right is built with explicit tau, must be built from reflectors alone",
                            [](args& s) { s.layer.adapter.right.explicit_tau = true; });
    refuses(*c, "a.right.block is 1, must be >= 2", [](args& s) { s.layer.adapter.right = s.split.view(); });
    refuses(*c, "a.scale.size is 5, must be == 6", [](args& s) { s.layer.adapter.scale.size = 5; });
  }
}

TEST_CASE("project and project_backward refuse what does not fit") {
  for (call const* c : {&project, &project_backward}) {
    refuses(*c, "x.rows is 4, must be == 5", [](args& s) { s.x_.rows = 4; });
    refuses(*c, "x.ld is 4, must be >= 5", [](args& s) { s.x_.ld = 4; });
  }
  refuses(project, "v.rows is 1, must be == 2", [](args& s) { s.state.v.rows = 1; });
  refuses(project, "v.cols is 3, must be == 4", [](args& s) { s.state.v.cols = 3; });
  refuses(project_backward, "dv.rows is 3, must be == 2", [](args& s) { s.dv_.rows = 3; });
  refuses(project_backward, "dv.cols is 3, must be == 4", [](args& s) { s.dv_.cols = 3; });
  refuses(project_backward, "dx.rows is 4, must be == 5", [](args& s) { s.dx_.rows = 4; });
  refuses(project_backward, "dx.cols is 3, must be == 4", [](args& s) { s.dx_.cols = 3; });
  refuses(project_backward, "g is of 4 inputs (g.D_V.rows), must be of 5", [](args& s) { s.g.D_V.rows = 4; });
}

TEST_CASE("adapt refuses what does not fit") {
  refuses(adapt, "base_output.rows is 5, must be == 6", [](args& s) { s.dbase_.rows = 5; });
  refuses(adapt, "y.cols is 4, must be == 3", [](args& s) { s.dbase_.cols = 3; });
  refuses(adapt, "y.rows is 5, must be == 6", [](args& s) { s.y_.rows = 5; });
  refuses(adapt, "state is of 1 reflectors on the right (state.v.rows), must be of 2",
          [](args& s) { s.state.v.rows = 1; });
  refuses(adapt, "state is of 3 tokens (state.v.cols), must be of 4", [](args& s) { s.state.v.cols = 3; });
  refuses(adapt, "state is of 2 reflectors on the left (state.w.rows), must be of 3",
          [](args& s) { s.state.w.rows = 2; });
  refuses(adapt, "state is of 3 tokens (state.q.cols), must be of 4", [](args& s) { s.state.q.cols = 3; });
}

TEST_CASE("forward refuses what does not fit") {
  for (call const* c : {&forward, &forward_alone}) {
    refuses(*c, "x.rows is 4, must be == 5", [](args& s) { s.x_.rows = 4; });
    refuses(*c, "x.ld is 4, must be >= 5", [](args& s) { s.x_.ld = 4; });
    refuses(*c, "y.rows is 5, must be == 6", [](args& s) { s.y_.rows = 5; });
    refuses(*c, "y.cols is 3, must be == 4", [](args& s) { s.y_.cols = 3; });
    refuses(*c, "y.cols is 4, must be == 3", [](args& s) { s.x_.cols = 3; });
  }
  refuses(forward, "state is of 3 tokens (state.v.cols), must be of 4", [](args& s) { s.state.v.cols = 3; });
  refuses(forward, "state is of 1 reflectors on the right (state.v.rows), must be of 2",
          [](args& s) { s.state.v.rows = 1; });
  refuses(forward, "state is of 2 reflectors on the left (state.w.rows), must be of 3",
          [](args& s) { s.state.w.rows = 2; });
  refuses(forward, "state is of 0 tokens (state.w.cols), must be of 4",
          [](args& s) { s.state.w.cols = 0; });  // backward needs it
  refuses(forward, "state is of 3 tokens (state.q.cols), must be of 4", [](args& s) { s.state.q.cols = 3; });
}

TEST_CASE("backward and adapt_backward refuse what does not fit") {
  refuses(backward, "x.rows is 4, must be == 5", [](args& s) { s.x_.rows = 4; });
  refuses(backward, "dy.cols is 4, must be == 3", [](args& s) { s.x_.cols = 3; });
  refuses(backward, "dx.rows is 4, must be == 5", [](args& s) { s.dx_.rows = 4; });
  refuses(backward, "dx.cols is 3, must be == 4", [](args& s) { s.dx_.cols = 3; });
  refuses(backward, "dx.ld is 3, must be >= 5", [](args& s) { s.dx_.ld = 3; });
  refuses(adapt_backward, "dv.rows is 3, must be == 2", [](args& s) { s.dv_.rows = 3; });
  refuses(adapt_backward, "dv.cols is 3, must be == 4", [](args& s) { s.dv_.cols = 3; });
  for (call const* c : {&backward, &adapt_backward}) {
    refuses(*c, "y.rows is 5, must be == 6", [](args& s) { s.y_.rows = 5; });
    refuses(*c, "y.cols is 3, must be == 4", [](args& s) { s.y_.cols = 3; });
    refuses(*c, "dy.rows is 5, must be == 6", [](args& s) { s.dy_.rows = 5; });
    refuses(*c, "dbase.rows is 5, must be == 6", [](args& s) { s.dbase_.rows = 5; });
    refuses(*c, "dbase.cols is 3, must be == 4", [](args& s) { s.dbase_.cols = 3; });
    refuses(*c, "state is of 3 tokens (state.w.cols), must be of 4", [](args& s) { s.state.w.cols = 3; });
    refuses(*c, "state is of 0 reflectors on the left (state.w.rows), must be of 3", [](args& s) { s.state.w = {}; });
    refuses(*c, "state is of 5 outputs (state.q.rows), must be of 6", [](args& s) { s.state.q.rows = 5; });
    refuses(*c, "state is of SHOFT, must be of HOFT", [](args& s) { s.layer.adapter.scale.size = 0; });
    refuses(*c, "g is of SHOFT, must be of HOFT", [](args& s) { s.layer.adapter.scale.size = 0, s.state.q = {}; });
  }
}

TEST_CASE("sums of another adapter are refused") {
  for (call const* c : {&backward, &adapt_backward, &project_backward, &finish}) {
    refuses(*c, "g is of 2 reflectors on the left (g.D_U.cols), must be of 3", [](args& s) { s.g.D_U.cols = 2; });
    refuses(*c, "g is of 2 reflectors in a block on the left (g.dF_U.rows), must be of 3",
            [](args& s) { s.g.dF_U.rows = 2; });
    refuses(*c, "g.E_U.ld is 2, must be >= 3", [](args& s) { s.g.E_U.ld = 2; });
    refuses(*c, "g is of 5 outputs (g.minus_dK.rows), must be of 6", [](args& s) { s.g.minus_dK.rows = 5; });
    refuses(*c, "g is of 1 reflectors on the right (g.D_V.cols), must be of 2", [](args& s) { s.g.D_V.cols = 1; });
    refuses(*c, "g is of 5 outputs (g.ds.size), must be of 6", [](args& s) { s.g.ds.size = 5; });
  }
}

TEST_CASE("set_zero refuses sums that cannot be") {
  call const zero{"set_zero", [](args& s) { hoft::set_zero(cpu{}, s.g); }, nullptr};
  refuses(zero, "g.D_U.rows is -1, must be >= 0", [](args& s) { s.g.D_U.rows = -1; });
  refuses(zero, "g.dF_U.cols is -1, must be >= 0", [](args& s) { s.g.dF_U.cols = -1; });
  refuses(zero, "g.E_U.ld is 2, must be >= 3", [](args& s) { s.g.E_U.ld = 2; });
  refuses(zero, "g.minus_dK.ld is 5, must be >= 6", [](args& s) { s.g.minus_dK.ld = 5; });
  refuses(zero, "g.D_V.ld is 4, must be >= 5", [](args& s) { s.g.D_V.ld = 4; });
  refuses(zero, "g.ds.size is -1, must be >= 0", [](args& s) { s.g.ds.size = -1; });
  call const two{"set_zero",
                 [](args& s) {
                   std::vector g{s.g, s.g};
                   g[1].D_V.ld = 4;
                   hoft::set_zero(cpu{}, g);
                 },
                 nullptr};
  refuses(two, "g.D_V.ld is 4, must be >= 5 (problem 1)", [](args&) {});
}

TEST_CASE("finish refuses what does not fit") {
  refuses(finish, "dU.cols is 2, must be == 3", [](args& s) { s.dU_.cols = 2; });
  refuses(finish, "dU.rows is 5, must be == 6", [](args& s) { s.dU_.rows = 5; });
  refuses(finish, "dV.rows is 6, must be == 5", [](args& s) { s.dV_.rows = 6; });
  refuses(finish, "dV.ld is 4, must be >= 5", [](args& s) { s.dV_.ld = 4; });
  refuses(finish, "ds.size is 0, must be == 6", [](args& s) { s.ds_.size = 0; });
}

TEST_CASE("a base operator that knows its extents is asked for them") {
  dense_matrix<double> const wider = gaussian<double>(6, 7, 160), taller = gaussian<double>(8, 5, 161);
  auto const of_wider = hoft::dense(wider), of_taller = hoft::dense(taller);
  arguments s, before;
  auto const refused = [&](char const* name, auto const& run) {
    CHECK_THROWS_WITH_AS(run(of_wider),
                         (std::string("hoft::") + name + ": base.cols is 7, must be == 5, the rows of V").c_str(),
                         shape_error);
    CHECK_THROWS_WITH_AS(run(of_taller),
                         (std::string("hoft::") + name + ": base.rows is 8, must be == 6, the rows of U").c_str(),
                         shape_error);
    CHECK(s.everything() == before.everything());
  };
  refused("bind_layer", [&](auto& b) { hoft::bind_layer<double>(cpu{}, s.view, b, s.layer, s.work); });
  refused("forward", [&](auto& b) { hoft::forward(cpu{}, s.layer, b, s.x_, s.y_, s.state, s.work); });
  refused("forward", [&](auto& b) { hoft::forward(cpu{}, s.layer, b, s.x_, s.y_, s.work); });
  refused("backward", [&](auto& b) {
    hoft::backward(cpu{}, s.layer, b, s.x_, s.y_, s.state, s.dy_, s.dbase_, s.dx_, s.g, s.work);
  });
  refused("finish", [&](auto& b) { hoft::finish<double>(cpu{}, s.layer, b, s.g, s.dU_, s.dV_, s.ds_, s.work); });
}

TEST_CASE("the calls that own their results refuse by the same names") {
  arguments s;
  auto const& p = s.p;
  dense_matrix<double> const wider = gaussian<double>(6, 7, 160), taller = gaussian<double>(8, 5, 161),
                             fewer_dy = p.g.leftCols(3), more_x = gaussian<double>(5, 7, 162),
                             more_dy = gaussian<double>(6, 7, 163);
  auto const f = hoft::forward(s.a, s.base, p.x);
  auto const refused = [](char const* message, auto const& run) { CHECK_THROWS_WITH_AS(run(), message, shape_error); };
  refused("hoft::forward: base.cols is 7, must be == 5, the rows of V",
          [&] { static_cast<void>(hoft::forward(s.a, hoft::dense(wider), p.x)); });
  refused("hoft::bind_layer: base.rows is 8, must be == 6, the rows of U",
          [&] { static_cast<void>(hoft::bind_layer(s.a, hoft::dense(taller))); });
  refused("hoft::backward: base.rows is 8, must be == 6, the rows of U",
          [&] { static_cast<void>(hoft::backward(s.a, hoft::dense(taller), p.x, f, p.g)); });
  // U and V in each other's place: x fits the weight, the adapter does not.
  hoft::adapter<double> const swapped(p.V, p.U);
  dense_matrix<double> const M = gaussian<double>(6, 5, 164);
  refused("hoft::forward: base.rows is 6, must be == 5, the rows of U; U and V look swapped, or M transposed",
          [&] { static_cast<void>(hoft::forward(swapped, hoft::dense(M), p.x)); });
  refused("hoft::backward: base.rows is 6, must be == 5, the rows of U; U and V look swapped, or M transposed",
          [&] { static_cast<void>(hoft::backward(swapped, hoft::dense(M), p.x, f, p.g)); });
  // A reflector in each row, as it is in other libraries: the weight is not to blame.
  hoft::adapter<double> const rows_left(p.U.transpose().eval(), p.V), rows_right(p.U, p.V.transpose().eval());
  auto const looks_transposed = [&](std::string const& name, auto const& call) {
    std::string const transposed = "); it looks transposed: reflectors are columns";
    refused(("hoft::" + name + ": U is [3, 6], must be of 6 rows (base.rows" + transposed).c_str(),
            [&] { call(rows_left); });
    refused(("hoft::" + name + ": V is [2, 5], must be of 5 rows (base.cols" + transposed).c_str(),
            [&] { call(rows_right); });
  };
  looks_transposed("forward", [&](auto const& a) { static_cast<void>(hoft::forward(a, hoft::dense(M), p.x)); });
  looks_transposed("backward",
                   [&](auto const& a) { static_cast<void>(hoft::backward(a, hoft::dense(M), p.x, f, p.g)); });
  looks_transposed("bind_layer", [&](auto const& a) { static_cast<void>(hoft::bind_layer(a, hoft::dense(M))); });
  refused("hoft::forward: x.rows is 6, must be == 5", [&] { static_cast<void>(hoft::forward(s.a, s.base, p.g)); });
  refused("hoft::backward: x.rows is 6, must be == 5",
          [&] { static_cast<void>(hoft::backward(s.a, s.base, p.g, f, p.g)); });
  refused("hoft::backward: dy.rows is 5, must be == 6",
          [&] { static_cast<void>(hoft::backward(s.a, s.base, p.x, f, p.x)); });
  refused("hoft::backward: dy.cols is 3, must be == 4",
          [&] { static_cast<void>(hoft::backward(s.a, s.base, p.x, f, fewer_dy)); });
  refused("hoft::backward: f is of 4 tokens, must be of 7",
          [&] { static_cast<void>(hoft::backward(s.a, s.base, more_x, f, more_dy)); });

  auto const layer = hoft::bind_layer(s.a, s.base);
  auto const of_layer = hoft::forward(layer, p.x);
  hoft::adapter<double> const narrower(p.U, p.V.leftCols(1), p.s);
  hoft::layer_gradient<double> g(layer), other(narrower.view());
  // What forward returned of another adapter. p.V has 2 columns and p.U has 3.
  hoft::adapter<double> const fewer_left(p.U.leftCols(2), p.V, p.s), hoft_adapter(p.U, p.V);
  auto const of_hoft = hoft::forward(hoft_adapter, s.base, p.x);
  hoft::one_call_result<double, double, hoft::col_major> const never;
  auto const backward_of = [&](auto const& a, auto const& result) {
    static_cast<void>(hoft::backward(a, s.base, p.x, result, p.g));
  };
  refused("hoft::backward: f is of 3 reflectors on the left, must be of 2", [&] { backward_of(fewer_left, f); });
  refused("hoft::backward: f is of 2 reflectors on the right, must be of 1", [&] { backward_of(narrower, f); });
  refused("hoft::backward: f is of HOFT, must be of SHOFT", [&] { backward_of(s.a, of_hoft); });
  refused("hoft::backward: f is of SHOFT, must be of HOFT", [&] { backward_of(hoft_adapter, f); });
  refused("hoft::backward: f is of 0 outputs, must be of 6", [&] { backward_of(s.a, never); });
  refused("hoft::backward: f is of 4 tokens, must be of 3",
          [&] { static_cast<void>(hoft::backward(s.a, s.base, p.x.leftCols(3), f, p.g)); });
  auto const layer_of_hoft = hoft::bind_layer(hoft_adapter, s.base),
             layer_of_fewer = hoft::bind_layer(fewer_left, s.base);
  hoft::layer_gradient<double> of_kind(layer_of_hoft), of_rank(layer_of_fewer);
  refused("hoft::backward: f is of SHOFT, must be of HOFT",
          [&] { static_cast<void>(hoft::backward(layer_of_hoft, p.x, of_layer, p.g, of_kind)); });
  auto const of_layer_of_hoft = hoft::forward(layer_of_hoft, p.x);
  refused("hoft::backward: f is of HOFT, must be of SHOFT",
          [&] { static_cast<void>(hoft::backward(layer, p.x, of_layer_of_hoft, p.g, g)); });
  refused("hoft::backward: f is of 3 reflectors on the left, must be of 2",
          [&] { static_cast<void>(hoft::backward(layer_of_fewer, p.x, of_layer, p.g, of_rank)); });
  s.base.forget();
  refused("hoft::forward: x.rows is 6, must be == 5", [&] { static_cast<void>(hoft::forward(layer, p.g)); });
  refused("hoft::backward: x.rows is 6, must be == 5",
          [&] { static_cast<void>(hoft::backward(layer, p.g, of_layer, p.g, g)); });
  refused("hoft::backward: dy.rows is 5, must be == 6",
          [&] { static_cast<void>(hoft::backward(layer, p.x, of_layer, p.x, g)); });
  refused("hoft::backward: dy.cols is 3, must be == 4",
          [&] { static_cast<void>(hoft::backward(layer, p.x, of_layer, fewer_dy, g)); });
  refused("hoft::backward: f is of 4 tokens, must be of 7",
          [&] { static_cast<void>(hoft::backward(layer, more_x, of_layer, more_dy, g)); });
  refused("hoft::backward: g is of 1 reflectors on the right (g.minus_dK.cols), must be of 2",
          [&] { static_cast<void>(hoft::backward(layer, p.x, of_layer, p.g, other)); });
  refused("hoft::finish: g is of 1 reflectors on the right (g.minus_dK.cols), must be of 2",
          [&] { static_cast<void>(hoft::finish(layer, other)); });
  CHECK((s.base.applied.empty() && s.base.applied_adjoint.empty()));
}

TEST_SUITE_END();
