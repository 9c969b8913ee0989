// SPDX-License-Identifier: BSD-3-Clause
// hoft/sharded/agreement.hpp: ranks tell each other what they are about to exchange, and name what differs.
#pragma once
#include <hoft/householder/compact_wy.hpp>
#include <hoft/sharded/policy.hpp>
#include <hoft/view/matrix_view.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

namespace HOFT_TARGET_NAMESPACE::sharded_backend {

/// What is about to be exchanged.
enum class exchange : std::int64_t { sum, norms, gram, gradient, scale, nothing, panels, form, adapter };

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
    case exchange::panels:
      return "several panels";
    case exchange::form:
      return "reflectors to accumulate";
    case exchange::adapter:
      return "an adapter";
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
template <class T>
constexpr std::int64_t type_code() {
  bool const is_bfloat16 = sizeof(T) == 2 && significand_bits<T> == 8;
  return std::int64_t(sizeof(T)) * 4 + (is_bfloat16 ? 2 : is_complex<T> ? 1 : 0);
}
inline std::string type_name(std::int64_t code) {
  if (code / 4 == 2) return code % 4 == 2 ? "bfloat16" : "half";
  return (code % 4 == 0 ? "real numbers of " : "complex numbers of ") + std::to_string(code / 4) + " bytes";
}
inline std::int64_t inverse_code(inverse kind) { return kind.truncated ? kind.terms : 0; }
inline std::string inverse_name(std::int64_t code) {
  return code == 0 ? "exact" : "neumann{" + std::to_string(code) + "}";
}
inline std::string adapter_name(std::int64_t code) { return code == 0 ? "HOFT" : "SHOFT"; }
inline std::string layout_name(std::int64_t code) { return code == 0 ? "col_major" : "row_major"; }
inline std::string number_name(std::int64_t number) { return std::to_string(number); }
inline std::string checksum_name(std::int64_t sum) { return "checksum " + std::to_string(sum); }

/// `sum` and the numbers of X, column by column: other numbers, or another order, have another checksum but by chance.
/// A zero has no sign. Never negative.
template <class T, class L>
std::int64_t checksum(matrix_view<T, L> X, std::int64_t sum = 0) {
  using R = real_t<std::remove_const_t<T>>;
  auto const add = [&](double part) {
    std::uint64_t word;
    part += 0.0;
    std::memcpy(&word, &part, sizeof word);
    std::uint64_t const before = std::uint64_t(sum);
    sum = std::int64_t(((before ^ word ^ (before >> 29)) * 0x9E3779B97F4A7C15u) >> 1);
  };
  auto const add_real = [&](R x) {
    add(double(x));
    if constexpr (sizeof(R) > sizeof(double)) add(double(x - R(double(x))));  // its bytes hold more than its bits
  };
  for (index_t j = 0; j < X.cols; ++j)
    for (index_t i = 0; i < X.rows; ++i) {
      if constexpr (is_complex<std::remove_const_t<T>>) add_real(X(i, j).real()), add_real(X(i, j).imag());
      else add_real(X(i, j));
    }
  return sum;
}
/// Of what the caller gave as U or V: directions, norms and taus.
template <class A>
std::int64_t checksum(compact_wy_view<A> const& Q) {
  return checksum(matrix_view<A>(Q.tau.data, Q.tau.size, 1), checksum(Q.scales, checksum(Q.vectors)));
}

/// Four numbers of a matrix or of a form, or an adapter's kind: field_of says which.
using part_record = std::array<std::int64_t, 4>;

/// What a rank is about to exchange. A record has the same size whatever it says.
struct agreement {
  static constexpr std::size_t most_parts = 6, part_size = std::tuple_size_v<part_record>;
  static constexpr std::int64_t unknown = -1;  ///< agrees with everything
  std::int64_t what = 0, type = 0, of = 0, ranks = 0, memory = 0, parts = 0;
  std::array<std::int64_t, part_size * most_parts> values{};  ///< of parts, side by side

  void add(part_record const& part) { std::copy(part.begin(), part.end(), values.begin() + part_size * parts++); }
  template <class T, class L>
  void add(matrix_view<T, L> X) {
    add({X.rows, X.cols, X.is_col_major ? 0 : 1, type_code<std::remove_const_t<T>>()});
  }
  bool knows_all() const { return std::find(values.begin(), values.end(), unknown) == values.end(); }
};
static_assert(sizeof(agreement) <= 256, "hoft: message_memory_for counts 256 bytes for each rank's record.");

/// A number of a part: what it is called, and how it is printed.
struct part_field {
  char const* name;
  std::string (*text)(std::int64_t);
};
inline part_field const& field_of(exchange what, std::size_t i) {
  static constexpr part_field matrix[] = {{"the rows", number_name},
                                          {"the columns", number_name},
                                          {"the layout", layout_name},
                                          {"the element type", type_name}};
  static constexpr part_field form[] = {{"the rows", number_name},
                                        {"the columns", number_name},
                                        {"the block", number_name},
                                        {"the inverse", inverse_name}};
  static constexpr part_field adapter[] = {{"the kind", adapter_name},  // behind U and V
                                           {"the numbers of U, whole under this split,", checksum_name},
                                           {"the numbers of V, whole under this split,", checksum_name},
                                           {"the scale, whole under this split,", checksum_name}};
  static constexpr part_field whole_rows{"the rows, whole under this split,", number_name};
  std::size_t const field = i % agreement::part_size;
  if (what != exchange::adapter) return (what == exchange::form ? form : matrix)[field];
  if (i >= 2 * agreement::part_size) return adapter[field];
  return field == 0 ? whole_rows : form[field];
}
/// The name of value number i.
inline std::string name_of(agreement const& record, std::size_t i) {
  auto const what = exchange(record.what);
  std::size_t const part = i / agreement::part_size;
  std::string text = std::string(field_of(what, i).name) + " of ";
  if (what == exchange::adapter) return text + (part == 0 ? "U of " : part == 1 ? "V of " : "") + name_of(what);
  text += name_of(what);
  return record.parts > 1 ? text + ", part " + std::to_string(part + 1) : text;
}

/// What of a record differs from the first one, which knows all that any other knows; or nothing.
class agreement_difference {
 public:
  agreement_difference(agreement const& first, int first_rank, agreement const& other, int other_rank)
      : first_(first), other_(other), first_rank_(first_rank), other_rank_(other_rank) {}

  std::string text() const {
    if (first_.ranks != other_.ranks) return differs("the number of ranks", number_name, &agreement::ranks);
    if (first_.of != other_.of)
      return differs(
          "what is split", [](auto of) { return std::string(name_of(split(of))); }, &agreement::of);
    if (first_.what != other_.what)
      return differs(
          "what is exchanged", [](auto of) { return std::string(name_of(exchange(of))); }, &agreement::what);
    if (first_.type != other_.type) return differs("the element type", type_name, &agreement::type);
    if (first_.memory != other_.memory) return differs("the bytes of message memory", number_name, &agreement::memory);
    if (first_.parts != other_.parts)
      return differs(std::string("the number of parts of ") + name_of(exchange(first_.what)), number_name,
                     &agreement::parts);
    std::size_t const i = first_that_differs();
    return i < first_.values.size() ? differs(name_of(first_, i), field_of(exchange(first_.what), i).text,
                                              first_.values[i], other_.values[i])
                                    : std::string();
  }
  /// Without a text, which is memory that is allocated: for errors alone.
  explicit operator bool() const {
    auto const head = [](agreement const& a) { return std::array{a.what, a.type, a.of, a.ranks, a.memory, a.parts}; };
    return head(first_) != head(other_) || first_that_differs() < first_.values.size();
  }

 private:
  std::size_t first_that_differs() const {
    auto const same = [](std::int64_t a, std::int64_t b) { return a == b || b == agreement::unknown; };
    auto const found = std::mismatch(first_.values.begin(), first_.values.end(), other_.values.begin(), same).first;
    return std::size_t(found - first_.values.begin());
  }
  template <class Text>
  std::string differs(std::string const& what, Text const& name, std::int64_t here, std::int64_t there) const {
    return what + ": " + name(here) + " on rank " + std::to_string(first_rank_) + ", " + name(there) + " on rank " +
           std::to_string(other_rank_);
  }
  template <class Text>
  std::string differs(std::string const& what, Text const& name, std::int64_t agreement::*field) const {
    return differs(what, name, first_.*field, other_.*field);
  }

  agreement const &first_, &other_;
  int first_rank_, other_rank_;
};

/// Every rank is about to exchange the same parts: matrices, or what a record holds of something else.
/// @throws hoft::shape_error on every rank, which names two ranks that differ, and in what
template <class A, class Policy, class... Parts>
void agree(Policy const& policy, exchange what, Parts const&... parts) {
  static_assert(sizeof...(Parts) <= agreement::most_parts);
  if (!policy.agrees) return;
  agreement mine;
  mine.what = std::int64_t(what), mine.type = type_code<A>(), mine.of = std::int64_t(policy.declared);
  mine.ranks = policy.ranks->size(), mine.memory = policy.ranks->message_memory().size;
  (mine.add(parts), ...);
  auto const* const all = static_cast<agreement const*>(policy.ranks->all_gather(&mine, index_t(sizeof mine)));
  int const ranks = policy.ranks->size();
  int first = 0;  // to compare the others with
  while (first + 1 < ranks && !all[first].knows_all()) ++first;
  for (int rank = 0; rank < ranks; ++rank)
    if (agreement_difference const difference(all[first], first, all[rank], rank); difference)
      throw shape_error("hoft::sharded: ranks do not agree on " + difference.text());
}

}  // namespace HOFT_TARGET_NAMESPACE::sharded_backend
