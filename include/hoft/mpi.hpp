// SPDX-License-Identifier: BSD-3-Clause
// hoft/mpi.hpp: ranks that MPI connects. Sources that include it are compiled with MPI's flags (mpicxx, or
// CMake's MPI::MPI_CXX).
#pragma once
#include <hoft/adapter/batch.hpp>
#include <hoft/adapter/layer_batch.hpp>
#include <hoft/adapter/low_rank.hpp>
#include <hoft/adapter/scaled_low_rank.hpp>
#include <hoft/sharded/backend.hpp>
#include <hoft/sharded/orthogonality.hpp>
#include <hoft/sharded/rank_order.hpp>

#include <mpi.h>

#include <limits>
#include <string>
#include <vector>

namespace HOFT_TARGET_NAMESPACE::mpi {

/// An error of MPI as an exception, in its own words.
inline void require(int code, char const* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw communication_error(std::string("hoft::mpi: ") + call + ": " + std::string(text, std::size_t(length)));
}

/// Bytes by MPI's collective calls (sharded/rank_order.hpp), over a communicator of its own.
class engine {
 public:
  explicit engine(MPI_Comm parent) {
    int begun = 0, ended = 0;
    if (MPI_Initialized(&begun) != MPI_SUCCESS || MPI_Finalized(&ended) != MPI_SUCCESS || begun == 0 || ended != 0)
      throw communication_error("hoft::mpi: communicator: made before MPI_Init or after MPI_Finalize");
    require(MPI_Comm_dup(parent, &comm_), "MPI_Comm_dup");
    require(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    require(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    require(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
    for (auto* numbers : {&counts_, &begins_, &arriving_, &arrivals_}) numbers->resize(std::size_t(size_));
  }
  engine(engine const&) = delete;
  engine& operator=(engine const&) = delete;
  ~engine() {
    int finalized = 0;
    if (MPI_Finalized(&finalized) == MPI_SUCCESS && finalized == 0) MPI_Comm_free(&comm_);
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }

  template <class Local>
  void all_gather(Local const&, std::byte const* mine, std::byte* all, index_t bytes) {
    int const count = number(bytes);
    require(MPI_Allgather(mine, count, MPI_BYTE, all, count, MPI_BYTE, comm_), "MPI_Allgather");
  }
  void const* gather_records(std::byte const* mine, index_t bytes, std::byte* room) {
    all_gather(*this, mine, room, bytes);
    return room;
  }
  template <class Local>
  void scatter(Local const&, std::byte const* data, index_t size, index_t part, std::byte* all) {
    cut(size, part);
    int const mine = counts_[std::size_t(rank_)];
    for (int r = 0; r < size_; ++r) arriving_[std::size_t(r)] = mine, arrivals_[std::size_t(r)] = r * mine;
    require(MPI_Alltoallv(data, counts_.data(), begins_.data(), MPI_BYTE, all, arriving_.data(), arrivals_.data(),
                          MPI_BYTE, comm_),
            "MPI_Alltoallv");
  }
  template <class Local>
  void gather(Local const&, std::byte* data, index_t size, index_t part) {
    cut(size, part);
    require(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_BYTE, data, counts_.data(), begins_.data(), MPI_BYTE, comm_),
            "MPI_Allgatherv");
  }

 private:
  static int number(index_t bytes) {
    detail::require_at_most("mpi::communicator", "bytes of one message", bytes, (std::numeric_limits<int>::max)());
    return int(bytes);
  }
  void cut(index_t size, index_t part) {
    number(size);
    for (int r = 0; r < size_; ++r) {
      part_of_message const of(r, size, part);
      begins_[std::size_t(r)] = int(of.first), counts_[std::size_t(r)] = int(of.size);
    }
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  std::vector<int> counts_, begins_, arriving_, arrivals_;
};

/// The ranks of an MPI_Comm, for hoft::sharded (sharded/policy.hpp):
///
///   hoft::mpi::communicator ranks(MPI_COMM_WORLD);
///   hoft::sharded const shards(hoft::cpu{}, ranks, hoft::split::rows);
///
/// Made and destroyed by all ranks together. It exchanges messages through a duplicate of the MPI_Comm, so that they
/// never meet the caller's, by calls of the thread that calls hoft (MPI_THREAD_FUNNELED is enough). Sums are added in
/// the order of the ranks, whatever MPI would do. Errors of MPI are thrown as hoft::communication_error, if MPI
/// returns at all; a rank that ends without MPI_Finalize is ended by mpirun, and the others with it.
///
/// Nothing is allocated after construction. Messages larger than its memory travel in pieces, as those above 1 GiB
/// do.
class communicator {
 public:
  static constexpr index_t default_bytes = index_t{16} << 20;

  /// With memory of its own, for messages of up to `bytes` at once.
  explicit communicator(MPI_Comm parent, index_t bytes = default_bytes)
      : engine_(parent),
        owned_(std::size_t(message_memory_for(bytes, engine_.size()))),
        ordered_(engine_, {owned_.data(), index_t(owned_.size())}) {}
  /// With the caller's: message_memory_for(bytes, ranks).
  communicator(MPI_Comm parent, workspace memory) : engine_(parent), ordered_(engine_, memory) {}

  [[nodiscard]] int rank() const { return engine_.rank(); }
  [[nodiscard]] int size() const { return engine_.size(); }
  [[nodiscard]] workspace message_memory() const { return ordered_.message_memory(); }
  template <class Local, class A>
  void all_reduce(Local const& local, A* data, index_t count) {
    static_assert(sharded_backend::on_host<Local>,
                  "hoft::mpi: messages lie in memory of the host, which a GPU's policy does not write.");
    ordered_.all_reduce(local, data, count);
  }
  void const* all_gather(void const* record, index_t bytes) { return ordered_.all_gather(record, bytes); }

 private:
  engine engine_;
  std::vector<std::byte> owned_;
  rank_order_communicator<engine> ordered_;
};

}  // namespace HOFT_TARGET_NAMESPACE::mpi
