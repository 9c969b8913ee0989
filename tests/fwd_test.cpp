// SPDX-License-Identifier: BSD-3-Clause
// hoft/fwd.hpp declares what the other headers define: the same templates, in the same namespaces.
#include <hoft/fwd.hpp>

// Uses that need no definition.
hoft::index_t rows_of(hoft::matrix_view<float, hoft::row_major> const& X);
hoft::index_t size_of(hoft::vector_view<float> const& x, hoft::workspace const& work);
bool throws(hoft::shape_error*, hoft::workspace_error*, hoft::argument_error*, hoft::cuda_error*);
bool is_default(hoft::side s, hoft::op o, hoft::exact*, hoft::neumann*, hoft::inverse const& kind);
hoft::index_t rank_of(hoft::compact_wy_view<float const> const& Q, hoft::adapter_view<float const> const& a);
hoft::index_t tokens_of(hoft::layer_state<float, float, hoft::col_major> const& state);
hoft::index_t rows_of(hoft::bound_layer_view<float const> const& layer, hoft::layer_gradient_view<float> const& g);
bool lends(hoft::executor const* lender, hoft::thread_pool const* pool, hoft::cpu const& policy);
hoft::index_t count_of(hoft::dense_matrix<float, hoft::col_major, -1> const& X);

#include <hoft/hoft.hpp>

#include <doctest/doctest.h>

#include <type_traits>

// A declaration in another namespace than the definition makes these names ambiguous.
hoft::index_t rows_of(hoft::matrix_view<float, hoft::row_major> const& X) { return X.rows; }
hoft::index_t size_of(hoft::vector_view<float> const& x, hoft::workspace const& work) { return x.size + work.size; }
bool is_default(hoft::side s, hoft::op o, hoft::exact*, hoft::neumann*, hoft::inverse const& kind) {
  return s == hoft::side::left && o == hoft::op::plain && !kind.truncated;
}
hoft::index_t rank_of(hoft::compact_wy_view<float const> const& Q, hoft::adapter_view<float const> const&) {
  return Q.rank();
}
hoft::index_t tokens_of(hoft::layer_state<float, float, hoft::col_major> const& state) { return state.v.cols; }
hoft::index_t rows_of(hoft::bound_layer_view<float const> const& layer, hoft::layer_gradient_view<float> const& g) {
  return layer.rows() + g.D_U.rows;
}
bool lends(hoft::executor const* lender, hoft::thread_pool const* pool, hoft::cpu const& policy) {
  return lender == pool && policy.threads == 1;
}
hoft::index_t count_of(hoft::dense_matrix<float, hoft::col_major, -1> const& X) { return X.size(); }

TEST_CASE("forward declarations are those of what is defined") {
  static_assert(std::is_base_of_v<std::exception, hoft::shape_error>);
  static_assert(std::is_base_of_v<std::exception, hoft::workspace_error>);
  static_assert(std::is_base_of_v<std::exception, hoft::argument_error>);
  static_assert(std::is_base_of_v<hoft::executor, hoft::thread_pool>);
  float number = 0;
  CHECK(rows_of(hoft::matrix_view<float, hoft::row_major>(&number, 1, 1)) == 1);
  CHECK(size_of(hoft::vector_view<float>(&number, 1), hoft::workspace{}) == 1);
  hoft::exact exact;
  hoft::neumann neumann;
  CHECK(is_default(hoft::side::left, hoft::op::plain, &exact, &neumann, exact));
  CHECK(rank_of({}, {}) == 0);
  CHECK(tokens_of({}) == 0);
  CHECK(rows_of({}, {}) == 0);
  CHECK(lends(nullptr, nullptr, hoft::cpu{}));
  CHECK(count_of(hoft::dense_matrix<float>(2, 3)) == 6);
}
