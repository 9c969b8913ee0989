// activations.cpp: forward and backward passes of one adapted layer on t tokens, as a step of training does them,
// beside the frozen layer and LoRA; and the memory that they take beyond x, y, the parameters and all of their
// gradients.
#include "layer.hpp"
#include "program.hpp"

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
  auto const prepare = [c] {
    assign(c->gradient, c->dy.columns(0, c->s.t));
    assign(c->tokens, c->x_tokens());
  };
  matrix_view<T const> const y = c->y_tokens(), dx = c->dx_tokens(), dU = as_view(c->dU), dV = as_view(c->dV),
                             dA = as_view(c->dA), dB = as_view(c->dB);
  auto const both = [](hoft::cost a, hoft::cost b) { return hoft::cost{a.flops + b.flops, a.bytes + b.bytes}; };
  hoft::cost const frozen = both(c->frozen_cost(), c->frozen_backward_cost());
  hoft::cost const adapted = both(c->forward_cost(), c->backward_cost()), lora = c->lora_cost(frozen, 3);
  auto const enter = [&](std::string name, char const* group, hoft::cost cost,
                         std::vector<matrix_view<T const>> results, auto run) {
    contest.enter(group, {std::move(name), [c, run] { run(*c); }, cost, prepare}, std::move(results));
  };
  for (auto [by, suffix] : {std::pair{library::hoft, ""}, std::pair{library::blas, "_on_blas"}}) {
    enter(std::string("hoft") + suffix, "hoft", adapted, {y, dx, dU, dV}, [by = by](data& d) {
      d.forward(by);
      d.backward(by);
    });
    enter(std::string("hoft_accumulate") + suffix, "hoft", adapted, {y, dx, dU, dV}, [by = by](data& d) {
      d.accumulate();
      d.forward(by);
      d.backward(by);
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
  operator hoft::workspace() { return {bytes_.data(), index_t(bytes_.size())}; }

 private:
  std::pmr::vector<std::byte> bytes_;
};

struct footprint {
  counted_memory passes;    ///< what is saved for the backward pass, and workspace
  counted_memory standing;  ///< compact WY forms, and the spare columns of x, y, dx and dy
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
  hoft::arena form_size;
  carve_forms(form_size);
  lent forms(memory.standing, form_size.size()), spare(memory.standing, 2 * (m + n) * r * index_t(sizeof(T)));
  hoft::arena form_carver{hoft::workspace(forms)};
  carve_forms(form_carver);
  {
    lent work(memory.passes,
              std::max(hoft::accumulate_workspace<T>(policy, r, left), hoft::accumulate_workspace<T>(policy, r, r)));
    hoft::accumulate(policy, as_view(std::as_const(d.left.U)), a.left, hoft::exact{}, work);
    hoft::accumulate(policy, as_view(std::as_const(d.right.U)), a.right, hoft::exact{}, work);
  }
  hoft::vector_view<T> gradient_of_scale;
  if (which != kind::hoft) {
    a.scale = hoft::as_vector_view(scale);
    gradient_of_scale = hoft::as_vector_view(ds);
  }
  auto const carve_saved = [&](hoft::arena& arena) {
    return hoft::carve_saved<T, hoft::col_major>(arena, a, t, which == kind::shoft);
  };
  hoft::arena saved_size;
  carve_saved(saved_size);
  lent saved_bytes(memory.passes, saved_size.size());
  hoft::arena saved_carver{hoft::workspace(saved_bytes)};
  auto const saved = carve_saved(saved_carver);
  auto base = hoft::dense(policy, d.M);
  {
    lent work(memory.passes, hoft::forward_workspace(policy, a, d.x));
    hoft::forward(policy, a, base, d.x, d.y, saved, work);
  }
  lent work(memory.passes, hoft::backward_workspace(policy, a, saved));
  hoft::backward(policy, a, base, d.x_tokens(), d.y_tokens(), saved, d.dy, d.dx, as_view(d.dU), as_view(d.dV),
                 gradient_of_scale, work);
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
  gemm(by, false, false, 1, B, h, 1, d.y_tokens());
  lent work(memory.passes, bytes + hoft::arena::alignment);
  auto const dh = matrix(work);
  gemm(by, false, true, 1, d.gradient, h, 0, dB);
  gemm(by, true, false, 1, B, d.gradient, 0, dh);
  gemm(by, false, true, 1, dh, d.tokens, 0, dA);
  d.frozen_backward(by);
  gemm(by, true, false, 1, A, dh, 1, d.dx_tokens());
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
    contest.enter(group,
                  {name, [=] { run(*c, *memory); }, cost,
                   [c] {
                     assign(c->gradient, c->dy.columns(0, c->s.t));
                     assign(c->tokens, c->x_tokens());
                   },
                   false, [memory] { return memory->measures(); }},
                  std::move(results));
  };
  hoft::cost const forward = c->forward_cost(), backward = c->backward_cost();
  hoft::cost const adapted{forward.flops + backward.flops, forward.bytes + backward.bytes};
  matrix_view<T const> const y = c->y_tokens(), dx = c->dx_tokens(), dU = as_view(c->dU), dV = as_view(c->dV);
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
  p.hold<float>("memory", one, [&] { return memory_contest<float>(one); });
}

}  // namespace bench
