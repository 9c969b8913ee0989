// SPDX-License-Identifier: BSD-3-Clause
// Ranks that are threads of one process: an engine for hoft::rank_order_communicator (sharded/rank_order.hpp), with
// which tests need no MPI and sanitizers see every access.
#pragma once
#include <hoft/sharded/communicator.hpp>
#include <hoft/sharded/rank_order.hpp>

#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hoft_test {

using hoft::index_t;

/// What the ranks share.
class meeting_place {
 public:
  explicit meeting_place(int ranks) : parts_(std::size_t(ranks)) {}

  int size() const { return int(parts_.size()); }
  /// One for each rank, written by it between two meetings.
  std::byte const*& part(int rank) { return parts_[std::size_t(rank)]; }
  /// Returns when all ranks are here. @throws hoft::communication_error if one has left for good
  void meet() {
    std::unique_lock lock(mutex_);
    require_all();
    unsigned const round = round_;
    if (++here_ == size()) {
      here_ = 0, ++round_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return round_ != round || left_ >= 0; });
    if (round_ == round) require_all();
  }
  void leave(int rank) {
    std::lock_guard const lock(mutex_);
    if (left_ < 0) left_ = rank;
    changed_.notify_all();
  }

 private:
  void require_all() const {
    if (left_ >= 0) throw hoft::communication_error("rank " + std::to_string(left_) + " has left");
  }

  std::vector<std::byte const*> parts_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int here_ = 0, left_ = -1;
  unsigned round_ = 0;
};

/// One rank's engine.
class thread_engine {
 public:
  thread_engine(meeting_place& place, int rank) : place_(&place), rank_(rank) {}

  int rank() const { return rank_; }
  int size() const { return place_->size(); }
  template <class Local>
  void all_gather(Local const&, std::byte const* mine, std::byte* all, index_t bytes) {
    exchange(mine, [&](std::byte const* theirs, int rank) { copy(theirs, all + rank * bytes, bytes); });
  }
  void const* gather_records(std::byte const* mine, index_t bytes, std::byte* room) {
    all_gather(*this, mine, room, bytes);
    return room;
  }
  template <class Local>
  void scatter(Local const&, std::byte const* data, index_t size_, index_t part, std::byte* all) {
    hoft::part_of_message const mine(rank_, size_, part);
    exchange(data,
             [&](std::byte const* theirs, int rank) { copy(theirs + mine.first, all + rank * mine.size, mine.size); });
  }
  template <class Local>
  void gather(Local const&, std::byte* data, index_t size_, index_t part) {
    exchange(data, [&](std::byte const* theirs, int rank) {
      hoft::part_of_message const of(rank, size_, part);
      if (rank != rank_) copy(theirs + of.first, data + of.first, of.size);
    });
  }

 private:
  static void copy(std::byte const* from, std::byte* to, index_t bytes) {
    if (bytes > 0) std::memcpy(to, from, std::size_t(bytes));
  }
  template <class Take>
  void exchange(std::byte const* mine, Take const& take) {
    place_->part(rank_) = mine;
    place_->meet();
    for (int rank = 0; rank < size(); ++rank) take(place_->part(rank), rank);
    place_->meet();
  }

  meeting_place* place_;
  int rank_;
};

using thread_communicator = hoft::rank_order_communicator<thread_engine>;

/// body(communicator) on `ranks` threads, each with memory for messages of `bytes`. Answers what each threw, as text,
/// or an empty string. A rank that has ended leaves: those that wait for it get a communication_error.
template <class Body>
std::vector<std::string> on_ranks(int ranks, index_t bytes, Body const& body) {
  meeting_place place(ranks);
  std::vector<std::string> thrown(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      thread_engine engine(place, rank);
      std::vector<std::byte> memory(std::size_t(hoft::message_memory_for(bytes, ranks)));
      try {
        thread_communicator communicator(engine, {memory.data(), index_t(memory.size())});
        body(communicator);
      } catch (std::exception const& error) {
        thrown[std::size_t(rank)] = error.what();
      }
      place.leave(rank);
    });
  for (auto& thread : threads) thread.join();
  return thrown;
}

}  // namespace hoft_test
