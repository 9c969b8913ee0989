// SPDX-License-Identifier: BSD-3-Clause
// hoft/backend/prefetch_hint.hpp: what a panel's product is told of the whole walk, so that a backend can schedule its
// memory.
#pragma once
#include <hoft/view/matrix_view.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// The panels around the one at hand. Hints only: results do not depend on them.
template <class T, class Layout>
struct prefetch_hint {
  matrix_view<T const, Layout> next, also_next;  ///< read after this panel; without data if not known
  index_t written = 0;                           ///< elements of the whole output; 0 if it is also read
  bool early = false;  ///< `next` is fetched while the panel is projected, not while it is updated

  matrix_view<T const, Layout> for_projection() const { return early ? next : matrix_view<T const, Layout>{}; }
  prefetch_hint for_update() const { return early ? prefetch_hint{also_next, {}, written} : *this; }
};

}  // namespace HOFT_TARGET_NAMESPACE
