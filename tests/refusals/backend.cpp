// SPDX-License-Identifier: BSD-3-Clause
// refused among others: ops<P>::project(policy, C, C, M)
// refused: hoft: a backend's algorithm must have run(...) const with the arguments of Panels::run
// refused: hoft: the constructor of a backend's algorithm must take what the constructor of Panels takes
// refused: hoft: a backend's algorithm must have run(...) const with the arguments of Panels::run
// refused: hoft: a backend's algorithm must have run(...) const with the arguments of Panels::run
#include "../../examples/backend/naive.hpp"

#include <hoft/hoft.hpp>

using naive_backend::naive_operations;

struct good;
struct bad;

/// The algorithm by panels with a run of its own, that takes what it has to; project_panels has a template of it.
template <class Panels>
struct own_apply : Panels {
  using Panels::Panels;
  template <class Form, class X, class Y, class W>
  void run(good const& policy, Form const& Q, hoft::op o, X x, Y y, W w, X after) const {
    Panels::run(policy, Q, o, x, y, w, after);
  }
};
template <class Panels>
struct own_project : Panels {
  using Panels::Panels;
  template <class U, class X, class W>
  void run(good const& policy, U u, X x, W w, bool conjugated = false) const {
    Panels::run(policy, u, x, w, conjugated);
  }
};

struct good_operations : naive_operations {
  template <class Panels>
  using apply_algorithm = own_apply<Panels>;
  template <class Panels>
  using project_algorithm = own_project<Panels>;
};
struct good : naive_backend::naive {
  using backend = good_operations;
};

template <class Panels>
struct without_op : Panels {
  using Panels::Panels;
  template <class Form, class X, class Y, class W>
  void run(bad const& policy, Form const& Q, X x, Y y, W w, X after) const {
    Panels::run(policy, Q, hoft::op::plain, x, y, w, after);
  }
};
template <class Panels>
struct without_constructor : Panels {};
template <class Panels>
struct nothing_const : Panels {
  using Panels::Panels;
  template <class... Args>
  void run(Args const&... args) {
    Panels::run(args...);
  }
};

struct bad_operations : naive_operations {
#if REFUSED == 1
  static void project() = delete;
#elif REFUSED == 2
  template <class Panels>
  using apply_algorithm = without_op<Panels>;
#elif REFUSED == 3
  template <class Panels>
  using apply_algorithm = without_constructor<Panels>;
#elif REFUSED == 4
  template <class Panels>
  using adapt_algorithm = nothing_const<Panels>;
#elif REFUSED == 5
  template <class Panels>
  using project_algorithm = nothing_const<Panels>;
#endif
};
struct bad : naive_backend::naive {
  using backend = bad_operations;
};

static_assert(hoft::backend::complete<good> && hoft::backend::complete<bad>,
              "bad is no complete backend: the compiler names the operation that is missing, below.");

template <class Policy>
void f(Policy const& policy, hoft::compact_wy_view<float> Q, hoft::matrix_view<float> X,
       hoft::adapter_view<float const> a, hoft::workspace work) {
  hoft::apply(policy, Q, X, X, hoft::side::left, hoft::op::plain, work);
  hoft::merge(policy, a, X, X, work);
}
template void f(good const&, hoft::compact_wy_view<float>, hoft::matrix_view<float>, hoft::adapter_view<float const>,
                hoft::workspace);
template void f(bad const&, hoft::compact_wy_view<float>, hoft::matrix_view<float>, hoft::adapter_view<float const>,
                hoft::workspace);
