// SPDX-License-Identifier: BSD-3-Clause
// hoft/sharded/communicator.hpp: what hoft requires of a communicator, which sends messages between ranks.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/memory/workspace.hpp>

#include <concepts>
#include <stdexcept>

namespace HOFT_NAMESPACE {

/// A message did not arrive. The text is that of the engine (MPI, NCCL).
struct communication_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The ranks that hold the parts of one problem, seen from one of them. Every rank makes the same calls in the same
/// order.
///
///   c.rank(), c.size()             the number of this rank, and the number of ranks
///   c.message_memory()             memory of the local policy in which messages are assembled. A message that does not
///                                  fit is sent in pieces, so the memory has the same size on every rank
///   c.all_reduce(local, data, n)   data[i] := the sum of data[i] over all ranks for i < n, in place, in the order of
///                                  the local policy's work. Every rank, and every run with the same number of ranks,
///                                  gets the same bits
///   c.all_gather(record, bytes)    the records of all ranks side by side in memory of the host, until the next call.
///                                  They are small: ranks compare them before they exchange anything else
///
/// Calls throw communication_error, or what the engine throws. hoft::mpi::communicator is one (hoft/mpi.hpp), for GPUs
/// hoft::nccl::communicator (hoft/nccl.hpp).
template <class C, class Local, class A = float>
concept communicator = accumulating<A> && requires(C& c, Local const& local, A* data, index_t n, void const* record) {
  { c.rank() } -> std::convertible_to<int>;
  { c.size() } -> std::convertible_to<int>;
  { c.message_memory() } -> std::same_as<workspace>;
  c.all_reduce(local, data, n);
  { c.all_gather(record, n) } -> std::same_as<void const*>;
};

/// The messages that a communicator was asked to send.
struct message_counts {
  index_t sums = 0;        ///< all-reduces
  index_t numbers = 0;     ///< elements that they summed
  index_t bytes = 0;       ///< of these elements
  index_t agreements = 0;  ///< records that ranks compared
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

/// A communicator that counts the messages of another one, which must outlive it.
template <class Communicator>
class counting_communicator {
 public:
  explicit counting_communicator(Communicator& carrier) : carrier_(&carrier) {}

  [[nodiscard]] int rank() const { return carrier_->rank(); }
  [[nodiscard]] int size() const { return carrier_->size(); }
  [[nodiscard]] workspace message_memory() const { return carrier_->message_memory(); }
  template <class Local, class A>
  void all_reduce(Local const& local, A* data, index_t count) {
    counts_.sums += 1;
    counts_.numbers += count;
    counts_.bytes += count * index_t(sizeof(A));
    carrier_->all_reduce(local, data, count);
  }
  void const* all_gather(void const* record, index_t bytes) {
    counts_.agreements += 1;
    return carrier_->all_gather(record, bytes);
  }

  [[nodiscard]] message_counts const& counts() const { return counts_; }
  void reset() { counts_ = {}; }

 private:
  Communicator* carrier_;
  message_counts counts_;
};

}  // namespace HOFT_TARGET_NAMESPACE
