// SPDX-License-Identifier: BSD-3-Clause
// activations.cpp: forward and backward passes of one adapted layer on t tokens, as a step of training does them,
// beside the frozen layer and LoRA; and the memory that they take beyond x, y, the parameters and all of their
// gradients.
#include "layer.hpp"
#include "program.hpp"

#include <hoft/cpu/thread_pool.hpp>
#include <hoft/hoft.hpp>

#include <memory_resource>

namespace bench {
namespace {

template <class T>
contest<T> step_contest(shape s) {
  using data = layer<T>;
  auto const c = std::make_shared<data>(s);
  contest<T> contest{std::max({s.m, s.n, s.t})};
  // Repeated, hoft's backward pass works on the gradient that it left itself: of the same length, since Q_U is
  // orthogonal.
  auto const prepare = [c] { c->clear(); };
  auto const& g = c->sums.parts;
  std::vector<matrix_view<T const>> const summed{c->y, c->dx, g.D_U, g.minus_dK, g.D_V};
  matrix_view<T const> const y = c->y, dx = c->dx, dU = as_view(c->dU), dV = as_view(c->dV), dA = as_view(c->dA),
                             dB = as_view(c->dB);
  hoft::cost const frozen = c->frozen_cost() + c->frozen_backward_cost();
  hoft::cost const adapted = c->forward_cost() + c->backward_cost(), lora = c->lora_cost(frozen, 3);
  auto const enter = [&](std::string name, char const* group, hoft::cost cost,
                         std::vector<matrix_view<T const>> results, auto run) {
    contest.enter(group, {std::move(name), [c, run] { run(*c); }, cost, prepare}, std::move(results));
  };
  for (auto [by, suffix] : {std::pair{library::hoft, ""}, std::pair{library::blas, "_on_blas"}}) {
    enter(std::string("hoft") + suffix, "hoft", adapted, summed, [by = by](data& d) {
      d.forward(by);
      d.backward(by);
    });
    enter(std::string("hoft_micro_4") + suffix, "hoft", adapted, summed,
          [by = by](data& d) { d.micro_batches(by, 4); });
    enter(std::string("hoft_once") + suffix, "once", c->once_cost(), {}, [by = by](data& d) {
      d.accumulate();
      d.bind(by);
      d.finish(by);
      hoft::set_zero(hoft::cpu{}, d.sums.parts);
    });
    enter(std::string("hoft_step") + suffix, "step", adapted + c->once_cost(), {y, dx, dU, dV}, [by = by](data& d) {
      d.accumulate();
      d.bind(by);
      d.forward(by);
      d.backward(by);
      d.finish(by);
      hoft::set_zero(hoft::cpu{}, d.sums.parts);
    });
    enter(std::string("frozen") + suffix, "frozen", frozen, {y, dx}, [by = by](data& d) {
      d.frozen_forward(by);
      d.frozen_backward(by);
    });
    enter(std::string("lora") + suffix, "lora", lora, {y, dx, dA, dB}, [by = by](data& d) {
      d.lora_forward(by);
      d.lora_backward(by);
    });
  }
  return contest;
}

/// hoft, the frozen layer and LoRA on two threads of one pool, by the wall clock.
template <class T>
contest<T> step_threads_contest(shape s) {
  using data = layer<T>;
  auto const pool = std::make_shared<hoft::thread_pool>(2);
  hoft::cpu const two{.threads = 2, .executor = pool.get()};
  auto const c = std::make_shared<data>(s, two);
  contest<T> contest{std::max({s.m, s.n, s.t})};
  auto const enter = [&](char const* name, hoft::cpu policy, char const* group, hoft::cost cost, auto run) {
    auto const on = [c, pool, policy, run] {
      c->policy = policy;
      run(*c);
    };
    contest.enter(group, {name, on, cost, [c] { c->clear(); }, true}, {c->y, c->dx});
  };
  auto const by = library::hoft;
  hoft::cost const frozen = c->frozen_cost() + c->frozen_backward_cost(),
                   adapted = c->forward_cost() + c->backward_cost(), lora = c->lora_cost(frozen, 3);
  auto const step = [by](data& d) {
    d.forward(by);
    d.backward(by);
  };
  enter("hoft", two, "hoft", adapted, step);
  enter("hoft_1_thread", {}, "hoft", adapted, step);
  enter("frozen", two, "frozen", frozen, [by](data& d) {
    d.frozen_forward(by);
    d.frozen_backward(by);
  });
  enter("lora", two, "lora", lora, [by](data& d) {
    d.lora_forward(by);
    d.lora_backward(by);
  });
  return contest;
}

/// Memory that knows how much of it was lent at most.
class counted_memory : public std::pmr::memory_resource {
 public:
  std::size_t peak() const { return peak_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    lent_ += bytes;
    peak_ = std::max(peak_, lent_);
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
    lent_ -= bytes;
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(memory_resource const& other) const noexcept override { return this == &other; }

  std::size_t lent_ = 0, peak_ = 0;
};

/// Bytes for as long as it lives, from a counted memory.
class lent {
 public:
  lent(counted_memory& from, index_t bytes) : bytes_(std::size_t(bytes), &from) {}
  operator hoft::workspace() const { return {bytes_.data(), index_t(bytes_.size())}; }

 private:
  mutable std::pmr::vector<std::byte> bytes_;
};

/// Bytes of what `carve` cuts.
template <class Carve>
index_t size_of(Carve const& carve) {
  hoft::arena count;
  carve(count);
  return count.size();
}

struct footprint {
  counted_memory passes;    ///< what is saved for the backward pass, and workspace
  counted_memory standing;  ///< compact WY forms, bound layers and the sums of gradients: O((m + n) r), for any t
  std::map<std::string, double> measures() const {
    return {{"pass_bytes", double(passes.peak())}, {"standing_bytes", double(standing.peak())}};
  }
};

enum class kind { hoft, shoft, shoft_from_output };

/// A step in which everything that hoft asks for is lent from `memory`. SHOFT has s = 1, so that all must agree.
template <class T>
void counted_step(layer<T>& d, kind which, footprint& memory, hoft::dense_vector<T>& scale, hoft::dense_vector<T>& ds) {
  hoft::cpu const policy;
  index_t const m = d.s.m, n = d.s.n, r = d.s.r, t = d.s.t, left = hoft::block_for(r, hoft::exact{});
  hoft::adapter_view<T> a;
  auto const carve_forms = [&](hoft::arena& arena) {
    a = {hoft::carve_compact_wy<T>(arena, m, r, left), hoft::carve_compact_wy<T>(arena, n, r, r)};
  };
  lent const forms(memory.standing, size_of(carve_forms));
  hoft::arena form_arena{forms};
  carve_forms(form_arena);
  auto const left_U = as_view(std::as_const(d.left.U)), right_U = as_view(std::as_const(d.right.U));
  {
    lent const work(memory.passes, std::max(hoft::accumulate_workspace<T>(policy, r, left),
                                            hoft::accumulate_workspace<T>(policy, r, r)));
    hoft::accumulate(policy, left_U, a.left, hoft::exact{}, work);
    hoft::accumulate(policy, right_U, a.right, hoft::exact{}, work);
  }
  hoft::vector_view<T> gradient_of_scale;
  if (which != kind::hoft) {
    a.scale = hoft::as_vector_view(scale);
    gradient_of_scale = hoft::as_vector_view(ds);
  }
  hoft::bound_layer_view<T> bound;
  hoft::layer_gradient_view<T> g;
  auto const carve_step = [&](hoft::arena& arena) {
    bound = hoft::carve_layer(arena, a);
    g = hoft::carve_layer_gradient(arena, a);
  };
  lent const of_step(memory.standing, size_of(carve_step));
  hoft::arena step_arena{of_step};
  carve_step(step_arena);
  auto base = hoft::dense(policy, d.M);
  hoft::bind_layer<T>(policy, a, base, bound, lent(memory.passes, hoft::bind_workspace<T>(policy, a)));
  hoft::set_zero(policy, g);
  {
    hoft::layer_state<T, T, hoft::col_major> state;
    auto const carve_state = [&](hoft::arena& arena) {
      state = hoft::carve_layer_state<T, hoft::col_major>(arena, a, t, which == kind::shoft);
    };
    lent const saved(memory.passes, size_of(carve_state));
    hoft::arena state_arena{saved};
    carve_state(state_arena);
    hoft::forward(policy, bound, base, d.tokens, d.y, state,
                  lent(memory.passes, hoft::forward_workspace(policy, bound, d.tokens)));
    hoft::backward(policy, bound, base, d.tokens, d.y, state, d.dy, d.dy, d.dx, g,
                   lent(memory.passes, hoft::backward_workspace(policy, bound, state)));
  }
  hoft::finish<T>(policy, bound, base, g, as_view(d.dU), as_view(d.dV), gradient_of_scale,
                  lent(memory.passes, hoft::finish_workspace<T>(policy, bound)));
}

/// LoRA of another rank than the layer's: its h and dh are all that it asks for.
template <class T>
void counted_lora_step(layer<T>& d, footprint& memory, matrix_view<T const> A, matrix_view<T const> B,
                       matrix_view<T> dA, matrix_view<T> dB) {
  auto const by = library::hoft;
  index_t const r = A.rows, t = d.s.t, bytes = r * t * index_t(sizeof(T));
  auto const matrix = [&](lent& room) { return hoft::arena(room).template matrix<T>(r, t); };
  lent saved(memory.passes, bytes + hoft::arena::alignment);
  auto const h = matrix(saved);
  d.frozen_forward(by);
  gemm(by, false, false, 1, A, d.tokens, 0, h);
  gemm(by, false, false, 1, B, h, 1, d.y);
  lent work(memory.passes, bytes + hoft::arena::alignment);
  auto const dh = matrix(work);
  gemm(by, false, true, 1, d.gradient, h, 0, dB);
  gemm(by, true, false, 1, B, d.gradient, 0, dh);
  gemm(by, false, true, 1, dh, d.tokens, 0, dA);
  d.frozen_backward(by);
  gemm(by, true, false, 1, A, dh, 1, d.dx);
}

template <class T>
contest<T> memory_contest(shape s) {
  using matrix = hoft::dense_matrix<T>;
  struct data : layer<T> {
    using layer<T>::layer;
    hoft::dense_vector<T> scale, ds;
    matrix A2, B2, dA2, dB2;  // LoRA of rank 2 r
  };
  auto const c = std::make_shared<data>(s);
  c->scale = hoft::dense_vector<T>::Ones(s.m);
  c->ds.resize(s.m);
  c->A2 = matrix::Random(2 * s.r, s.n);
  c->B2 = matrix::Random(s.m, 2 * s.r);
  c->dA2.resize(2 * s.r, s.n);
  c->dB2.resize(s.m, 2 * s.r);
  contest<T> contest{std::max({s.m, s.n, s.t})};
  auto const enter = [&](char const* name, char const* group, hoft::cost cost,
                         std::vector<matrix_view<T const>> results, auto run) {
    auto const memory = std::make_shared<footprint>();
    contest.enter(
        group,
        {name, [=] { run(*c, *memory); }, cost, [c] { c->clear(); }, false, [memory] { return memory->measures(); }},
        std::move(results));
  };
  hoft::cost const adapted = c->forward_cost() + c->backward_cost() + c->once_cost();
  matrix_view<T const> const y = c->y, dx = c->dx, dU = as_view(c->dU), dV = as_view(c->dV);
  for (auto [which, name] : {std::pair{kind::hoft, "hoft"}, std::pair{kind::shoft, "shoft"},
                             std::pair{kind::shoft_from_output, "shoft_from_output"}})
    enter(name, "hoft", adapted, {y, dx, dU, dV},
          [which = which](data& d, footprint& memory) { counted_step(d, which, memory, d.scale, d.ds); });
  hoft::cost const frozen = c->frozen_cost();
  enter("lora_2r", "lora", c->lora_cost({2 * frozen.flops, 2 * frozen.bytes}, 6), {y, dx},
        [](data& d, footprint& memory) {
          counted_lora_step<T>(d, memory, as_view(d.A2), as_view(d.B2), as_view(d.dA2), as_view(d.dB2));
        });
  return contest;
}

}  // namespace

void activation_cases(program& p) {
  shape const one = p.quick() ? smallest : middle;
  p.hold<float>("step", one, [&] { return step_contest<float>(one); });
  p.hold<float>("step_2_threads", one, [&] { return step_threads_contest<float>(one); });
  p.hold<float>("memory", one, [&] { return memory_contest<float>(one); });
}

}  // namespace bench
