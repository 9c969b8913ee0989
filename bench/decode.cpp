// SPDX-License-Identifier: BSD-3-Clause
// decode.cpp: a bound layer on few tokens, as decoding has them, and one base under the adapters of many users; beside
// the frozen layer and LoRA. Nothing is kept for a backward pass.
#include "layer.hpp"
#include "program.hpp"

#include <hoft/hoft.hpp>

#include <span>

namespace bench {
namespace {

template <class T>
contest<T> decode_contest(shape s) {
  using data = layer<T>;
  auto const c = std::make_shared<data>(s);
  contest<T> contest{std::max(s.m, s.n)};
  auto const enter = [&](char const* name, char const* group, hoft::cost cost, auto run) {
    contest.enter(group, {name, [c, run] { run(*c); }, cost}, {c->y});
  };
  hoft::cost const frozen = c->frozen_cost();
  enter("hoft", "hoft", c->forward_cost(), [](data& d) { d.forward_only(library::hoft); });
  enter("hoft_on_blas", "hoft", c->forward_cost(), [](data& d) { d.forward_only(library::blas); });
  enter("frozen", "frozen", frozen, [](data& d) { d.frozen_forward(library::hoft); });
  enter("frozen_on_blas", "frozen", frozen, [](data& d) { d.frozen_forward(library::blas); });
  enter("frozen_eigen", "frozen", frozen, [](data& d) { d.frozen_forward(library::eigen); });
  enter("lora", "lora", c->lora_cost(frozen, 1), [](data& d) { d.lora_forward(library::hoft); });
  enter("lora_on_blas", "lora", c->lora_cost(frozen, 1), [](data& d) { d.lora_forward(library::blas); });
  return contest;
}

/// Tokens of several adapters side by side, as many of each.
template <class T>
struct shared_case {
  layer<T> one;  ///< an adapter of all tokens
  std::vector<hoft::adapter<T>> adapters;
  std::vector<std::unique_ptr<carved<hoft::bound_layer_view<T>>>> memory_of_layers;
  std::vector<hoft::bound_layer_view<T>> layers;
  std::vector<index_t> offsets;
  memory work{0};

  shared_case(shape s, index_t count) : one(s) {
    auto base = hoft::dense(hoft::cpu{}, one.M);
    for (index_t i = 0; i < count; ++i) {
      reflectors<T> const left(s.m, s.r, unsigned(2 * i + 1)), right(s.n, s.r, unsigned(2 * i + 2));
      adapters.push_back(hoft::adapter<T>{left.U, right.U});
      offsets.push_back(i * s.t / count);
    }
    offsets.push_back(s.t);
    for (auto const& a : adapters) {
      auto const view = a.view();
      auto& made = memory_of_layers.emplace_back(std::make_unique<carved<hoft::bound_layer_view<T>>>(
          [&](hoft::arena& arena) { return hoft::carve_layer(arena, view); }));
      memory bytes(hoft::bind_workspace<T>(hoft::cpu{}, view));
      hoft::bind_layer<T>(hoft::cpu{}, view, base, made->parts, bytes);
      layers.push_back(made->parts);
    }
    work = memory(hoft::forward_shared_workspace(hoft::cpu{}, layers, std::span<index_t const>(offsets), one.tokens));
  }
  void forward() {
    auto base = hoft::dense(hoft::cpu{}, one.M);
    hoft::forward_shared(hoft::cpu{}, layers, std::span<index_t const>(offsets), base, one.tokens, one.y, work);
  }
  /// The same, range by range.
  void one_by_one() {
    auto base = hoft::dense(hoft::cpu{}, one.M);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      index_t const first = offsets[i], t = offsets[i + 1] - first;
      hoft::forward(hoft::cpu{}, layers[i], base, one.tokens.columns(first, t), one.y.columns(first, t), work);
    }
  }
};

template <class T>
contest<T> shared_contest(shape s) {
  contest<T> contest{std::max(s.m, s.n)};
  for (index_t count : {1, 8, 64}) {
    auto const c = std::make_shared<shared_case<T>>(s, count);
    std::string const group = "shared_" + std::to_string(count), prefix = count == 1 ? "hoft" : "hoft_" + group;
    hoft::cost const cost = c->one.forward_cost();
    contest.enter(group, {prefix, [c] { c->forward(); }, cost}, {c->one.y});
    contest.enter(group, {"calls_" + std::to_string(count), [c] { c->one_by_one(); }, cost}, {c->one.y});
  }
  auto const c = std::make_shared<layer<T>>(s);
  contest.enter("frozen", {"frozen", [c] { c->frozen_forward(library::hoft); }, c->frozen_cost()}, {c->y});
  return contest;
}

}  // namespace

void decode_cases(program& p) {
  for (index_t t : {1, 4, 32}) {
    shape const s = p.quick() ? shape{768, 768, 8, t} : shape{4096, 4096, 16, t};
    p.hold<float>("decode_" + std::to_string(t), s, [&] { return decode_contest<float>(s); });
  }
  shape const s = p.quick() ? shape{768, 768, 8, 256} : shape{2048, 2048, 16, 256};
  p.hold<float>("shared", s, [&] { return shared_contest<float>(s); });
}

}  // namespace bench
