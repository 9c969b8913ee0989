// hoft/sharded/agreement.hpp: ranks tell each other what they are about to exchange, and name what differs.
#pragma once
#include <hoft/sharded/policy.hpp>
#include <hoft/view/matrix_view.hpp>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

namespace HOFT_TARGET_NAMESPACE::sharded_backend {

/// What is about to be exchanged.
enum class exchange : std::int64_t { sum, norms, gram, gradient, scale, nothing };

inline char const* name_of(exchange what) {
  switch (what) {
    case exchange::sum:
      return "a sum over ranks";
    case exchange::norms:
      return "norms of reflectors";
    case exchange::gram:
      return "the Gram matrix of reflectors";
    case exchange::gradient:
      return "the gradient of reflectors";
    case exchange::scale:
      return "a look at the scale";
    case exchange::nothing:
      return "nothing, of no columns";
  }
  return "something else";
}
inline char const* name_of(split what) {
  switch (what) {
    case split::tall:
      return "split::tall";
    case split::rows:
      return "split::rows";
    case split::columns:
      return "split::columns";
    case split::none:
      return "split::none";
  }
  return "no split";
}

/// The element type as a number, and its name.
template <class A>
constexpr std::int64_t type_code() {
  return std::int64_t(sizeof(A)) * 2 + (is_complex<A> ? 1 : 0);
}
inline std::string type_name(std::int64_t code) {
  std::int64_t const bytes = code / 2;
  return code % 2 == 0 ? "real numbers of " + std::to_string(bytes) + " bytes"
                       : "complex numbers of " + std::to_string(bytes) + " bytes";
}

/// What a rank is about to exchange. A record has the same size whatever it says.
struct agreement {
  static constexpr std::size_t most_parts = 6;
  std::int64_t what = 0, type = 0, of = 0, ranks = 0, memory = 0, parts = 0;
  std::array<std::int64_t, 3 * most_parts> extents{};  ///< rows, columns, layout

  template <class T, class L>
  void add(matrix_view<T, L> part) {
    auto* const to = extents.data() + 3 * parts++;
    to[0] = part.rows, to[1] = part.cols, to[2] = part.is_col_major ? 0 : 1;
  }
  bool operator==(agreement const&) const = default;
};
static_assert(sizeof(agreement) <= 256, "hoft: message_memory_for counts 256 bytes for each rank's record.");

/// What differs between a record and that of rank 0.
inline std::string difference(agreement const& here, agreement const& first, int rank) {
  auto const differs = [rank](std::string const& what, std::string const& of_first, std::string const& of_here) {
    return what + ": " + of_first + " on rank 0, " + of_here + " on rank " + std::to_string(rank);
  };
  if (here.ranks != first.ranks)
    return differs("the number of ranks", std::to_string(first.ranks), std::to_string(here.ranks));
  if (here.of != first.of) return differs("what is split", name_of(split(first.of)), name_of(split(here.of)));
  if (here.what != first.what)
    return differs("what is exchanged", name_of(exchange(first.what)), name_of(exchange(here.what)));
  if (here.type != first.type) return differs("the element type", type_name(first.type), type_name(here.type));
  if (here.memory != first.memory)
    return differs("the bytes of message memory", std::to_string(first.memory), std::to_string(here.memory));
  std::string const of = std::string(" of ") + name_of(exchange(first.what));
  auto const part = [&](std::size_t i) { return first.parts > 1 ? of + ", part " + std::to_string(i / 3 + 1) : of; };
  if (here.parts != first.parts)
    return differs("the number of parts" + of, std::to_string(first.parts), std::to_string(here.parts));
  static constexpr char const* names[] = {"the rows", "the columns"};
  for (std::size_t i = 0; i < here.extents.size(); ++i) {
    if (here.extents[i] == first.extents[i]) continue;
    if (i % 3 == 2)
      return differs("the layout" + part(i), first.extents[i] == 0 ? "col_major" : "row_major",
                     here.extents[i] == 0 ? "col_major" : "row_major");
    return differs(names[i % 3] + part(i), std::to_string(first.extents[i]), std::to_string(here.extents[i]));
  }
  return {};
}

/// Every rank is about to exchange the same parts. @throws hoft::shape_error on every rank, which names the first rank
/// that differs from rank 0 and in what.
template <class A, class Policy, class... Views>
void agree(Policy const& policy, exchange what, Views const&... parts) {
  static_assert(sizeof...(Views) <= agreement::most_parts);
  if (!policy.agrees) return;
  agreement mine;
  mine.what = std::int64_t(what), mine.type = type_code<A>(), mine.of = std::int64_t(policy.declared);
  mine.ranks = policy.ranks->size(), mine.memory = policy.ranks->message_memory().size;
  (mine.add(parts), ...);
  auto const* const all = static_cast<agreement const*>(policy.ranks->all_gather(&mine, index_t(sizeof mine)));
  for (int rank = 1; rank < policy.ranks->size(); ++rank)
    if (all[rank] != all[0])  // texts are memory that is allocated: for errors alone
      throw shape_error("hoft::sharded: ranks do not agree on " + difference(all[rank], all[0], rank));
}

}  // namespace HOFT_TARGET_NAMESPACE::sharded_backend
