// SPDX-License-Identifier: BSD-3-Clause
// hoft/sharded/rank_order.hpp: sums over ranks in the order of the ranks, on top of an engine that only moves bytes.
// No engine promises the bits of its own reductions.
#pragma once
#include <hoft/backend/concept.hpp>
#include <hoft/backend/scalar_math.hpp>
#include <hoft/core/error.hpp>
#include <hoft/memory/arena.hpp>

#include <algorithm>
#include <concepts>

namespace HOFT_NAMESPACE {

/// An engine moves bytes between ranks, in memory of a local policy and in the order of its work.
///
///   e.all_gather(local, mine, all, bytes)    all := the `bytes` bytes of every rank, side by side
///   e.scatter(local, data, size, part, all)  data [size] is cut into parts of `part` bytes (part_of_message); all :=
///                                            part number rank() of every rank, side by side
///   e.gather(local, data, size, part)        part i of data := that of rank i, in place
///   e.gather_records(mine, bytes, room)      the records of all ranks side by side in memory of the host; room: memory
///                                            for them where messages lie
template <class E, class Local>
concept byte_engine = requires(E& e, Local const& local, std::byte const* from, std::byte* to, index_t n) {
  { e.rank() } -> std::convertible_to<int>;
  { e.size() } -> std::convertible_to<int>;
  e.all_gather(local, from, to, n);
  e.scatter(local, from, n, n, to);
  e.gather(local, to, n, n);
  { e.gather_records(from, n, to) } -> std::same_as<void const*>;
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

/// Memory with which messages of up to `bytes` are sent between `ranks` ranks in one piece: room for what this rank
/// assembles, and as much for what arrives.
[[nodiscard]] inline index_t message_memory_for(index_t bytes, int ranks) {
  constexpr index_t record = 256;  // bytes of a record that ranks compare
  index_t const each = (std::max)(bytes, record) + index_t(ranks) * record;
  return 2 * ((each + arena::alignment - 1) / arena::alignment + 1) * arena::alignment;
}

/// Where part number `rank` lies in a message of `size` bytes or elements, cut into parts of `part`: the last ones are
/// shorter, or empty.
struct part_of_message {
  index_t first, size;
  part_of_message(int rank, index_t size_, index_t part)
      : first((std::min)(size_, rank * part)), size((std::min)(part, size_ - first)) {}
};

/// to[i] := Σ over ranks of arrived[rank][i], from rank 0 upwards. A function object of columns: pieces of `width`
/// elements, which stay in the nearest cache while ranks are added.
template <class A>
struct add_ranks {
  static constexpr index_t width = 1024;
  using scalar = A;
  A const* arrived;  ///< [ranks][count]
  A* to;
  index_t count;
  int ranks;

  index_t pieces() const { return (count + width - 1) / width; }
  template <class Team>
  HOFT_HOST_DEVICE void operator()(Team const& team, index_t j) const {
    index_t const first = j * width, rest = count - first, n = rest < width ? rest : width;
    A* const sums = to + first;
    for (int rank = 0; rank < ranks; ++rank) {
      A const* const part = arrived + rank * count + first;
      if (rank == 0) team.each(n, [&](index_t i) { sums[i] = part[i]; });
      else team.each(n, [&](index_t i) { sums[i] = scalar_math::sum(sums[i], part[i]); });
    }
  }
};

/// A communicator (sharded/communicator.hpp) on an engine. Elements are added from rank 0 upwards in every case, so
/// bits depend on the number of ranks alone.
///
/// A short message goes to every rank, and each adds all of them. A long message is divided into parts: each rank adds
/// one part and sends the sum to the others. Each of p ranks then sends 2 (p − 1) / p times the message, the least
/// possible.
template <class Engine>
class rank_order_communicator {
 public:
  /// @throws hoft::workspace_error if memory is smaller than message_memory_for(0, size)
  rank_order_communicator(Engine& engine, workspace memory) : engine_(&engine) {
    detail::require_bytes("communicator", "memory.size", memory.size, message_memory_for(0, engine.size()));
    arena pieces(memory);
    index_t const each = (memory.size / 2 - arena::alignment) / arena::alignment * arena::alignment;
    message_ = {pieces.array<std::byte>(each), each};
    arrived_ = {pieces.array<std::byte>(each), each};
  }

  [[nodiscard]] int rank() const { return engine_->rank(); }
  [[nodiscard]] int size() const { return engine_->size(); }
  [[nodiscard]] workspace message_memory() const { return message_; }

  template <class Local, class A>
  requires byte_engine<Engine, Local>
  void all_reduce(Local const& local, A* data, index_t count) {
    index_t const ranks = size(), fits = (std::min)(arrived_.size, most_bytes) / index_t(sizeof(A));
    if (ranks == 1) return;
    for (index_t first = 0; first < count;) {
      index_t const rest = count - first;
      bool const short_message = rest * ranks <= (std::min)(fits, most_gathered / index_t(sizeof(A)));
      index_t const now = short_message ? rest : (std::min)(rest, fits - ranks);  // parts are rounded up
      if (short_message) gather_and_add(local, data + first, now);
      else add_parts(local, data + first, now);
      first += now;
    }
  }
  void const* all_gather(void const* record, index_t bytes) {
    return engine_->gather_records(static_cast<std::byte const*>(record), bytes, arrived_.data);
  }

 private:
  static constexpr index_t most_bytes = index_t{1} << 30;  ///< of one message: engines count in int
  static constexpr index_t most_gathered = 32768;          ///< bytes that arrive: up to this size latency dominates

  template <class A>
  static std::byte* bytes_of(A* data) {
    return reinterpret_cast<std::byte*>(data);
  }
  template <class Local, class A>
  void add_arrived(Local const& local, A* data, index_t count) const {
    add_ranks<A> const sum{reinterpret_cast<A const*>(arrived_.data), data, count, size()};
    ops<Local>::for_each_column(local, add_ranks<A>::width, sum.pieces(), sum);
  }
  template <class Local, class A>
  void gather_and_add(Local const& local, A* data, index_t count) {
    engine_->all_gather(local, bytes_of(data), arrived_.data, count * index_t(sizeof(A)));
    add_arrived(local, data, count);
  }
  template <class Local, class A>
  void add_parts(Local const& local, A* data, index_t count) {
    index_t const part = (count + size() - 1) / size(), bytes = index_t(sizeof(A));
    part_of_message const mine(rank(), count, part);
    engine_->scatter(local, bytes_of(data), count * bytes, part * bytes, arrived_.data);
    if (mine.size > 0) add_arrived(local, data + mine.first, mine.size);
    engine_->gather(local, bytes_of(data), count * bytes, part * bytes);
  }

  Engine* engine_;
  workspace message_, arrived_;
};

}  // namespace HOFT_TARGET_NAMESPACE
