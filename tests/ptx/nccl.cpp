// SPDX-License-Identifier: BSD-3-Clause
// NCCL's calls that hoft makes, between processes of one machine: each is a rank, and has an emulated device of its
// own. Every message is cut into pieces that travel through a mailbox of shared memory, one for each pair of ranks.
#include "memory.hpp"
#include "streams.hpp"

#include <nccl.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>
#include <vector>

using namespace emu;

namespace {

constexpr int most_ranks = 8;
constexpr std::chrono::seconds patience{60};

/// From one rank to another. What the receiver expects is compared with what comes.
struct mailbox {
  std::atomic<u32> full;
  u32 kind;   ///< of the call
  u64 total;  ///< bytes of the message
  u32 bytes;  ///< of this piece
  u8 data[32768];
};
struct shared_memory {
  std::atomic<int> joined;
  mailbox boxes[most_ranks][most_ranks];  ///< [from][to]
};

enum call_kind : u32 { of_all_gather, of_send };
char const* const names[] = {"ncclAllGather", "ncclSend and ncclRecv"};

}  // namespace

struct ncclComm {
  shared_memory* shared;
  int rank, ranks;
};

namespace {

/// One message, in one direction.
struct transfer {
  bool sends;
  int peer;
  call_kind kind;
  u8* at;
  u64 bytes, done = 0;
};

[[noreturn]] void give_up(ncclComm const& c, std::string const& what) {
  std::fprintf(stderr, "ptxemu: nccl: rank %d: %s\n", c.rank, what.c_str());
  std::_Exit(86);
}
/// Sends or takes a piece, if the mailbox is ready.
bool advance(ncclComm const& c, transfer& t) {
  mailbox& box = t.sends ? c.shared->boxes[c.rank][t.peer] : c.shared->boxes[t.peer][c.rank];
  if ((box.full.load(std::memory_order_acquire) != 0) == t.sends) return false;
  if (t.sends) {
    box.kind = t.kind, box.total = t.bytes, box.bytes = u32(std::min<u64>(sizeof box.data, t.bytes - t.done));
    std::memcpy(box.data, t.at + t.done, box.bytes);
  } else {
    if (box.kind != t.kind || box.total != t.bytes)
      give_up(c, format("%s of %lu bytes, and rank %d calls %s of %lu", names[t.kind], t.bytes, t.peer, names[box.kind],
                        box.total));
    std::memcpy(t.at + t.done, box.data, box.bytes);
  }
  t.done += box.bytes;
  box.full.store(t.sends ? 1 : 0, std::memory_order_release);
  return true;
}
/// All transfers of a group go on together, as NCCL promises.
void exchange(ncclComm const& c, std::vector<transfer> all) {
  auto last = std::chrono::steady_clock::now();
  while (!all.empty()) {
    bool moved = false;
    for (auto t = all.begin(); t != all.end(); ++t) {
      auto const same = [&](transfer const& other) { return other.peer == t->peer && other.sends == t->sends; };
      if (std::none_of(all.begin(), t, same)) moved = advance(c, *t) || moved;  // those between two ranks have an order
    }
    std::erase_if(all, [](transfer const& t) { return t.done == t.bytes; });
    if (moved) {
      last = std::chrono::steady_clock::now();
    } else if (std::chrono::steady_clock::now() - last > patience) {
      give_up(c, format("waits for rank %d, which does not come (%s)", all[0].peer, names[all[0].kind]));
    } else {
      std::this_thread::yield();
    }
  }
}

void check_written(transfer const& t) {
  if (!options::get().global_uninitialised) return;
  auto const* const a = memory_space::get().find(u64(t.at));
  if (a == nullptr || a->kind != memory_kind::device) return;
  for (u64 at = u64(t.at); at < u64(t.at) + t.bytes; at += 2)
    if (shadow_of(at)->written == 0)
      return findings::get().add("uninitialised device memory is read", names[t.kind],
                                 memory_space::get().describe(at));
}
void run(ncclComm const& c, std::vector<transfer> const& all) {
  for (transfer const& t : all)
    if (!usable(t.at, t.bytes, names[t.kind])) return;
  for (transfer const& t : all)
    if (t.sends) check_written(t);
  exchange(c, all);
  for (transfer const& t : all)
    if (!t.sends) memory_space::get().mark_written(t.at, t.bytes);
}

struct group {
  int depth = 0;
  ncclResult_t error = ncclSuccess;
  ncclComm* comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<transfer> transfers;
};
thread_local group open_group;

ncclResult_t submit_transfers(ncclComm* c, cudaStream_t stream, std::vector<transfer> all) {
  std::erase_if(all, [](transfer const& t) { return t.bytes == 0; });
  ncclComm const of = *c;
  auto const work = [of, all] { run(of, all); };
  return submit(stream, work, "nccl") == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}
ncclResult_t check(ncclComm const* c, cudaStream_t stream, std::vector<transfer> const& all) {
  if (c == nullptr || !is_stream(stream)) return ncclInvalidArgument;
  for (transfer const& t : all)
    if (t.peer < 0 || t.peer >= c->ranks || (t.bytes > 0 && t.at == nullptr)) return ncclInvalidArgument;
  group const& g = open_group;
  if (g.comm != nullptr && (g.comm != c || g.stream != stream)) return ncclInvalidUsage;  // this tool knows no more
  return ncclSuccess;
}
/// Submits transfers, or keeps them for the end of the group. A group in which a call has failed submits none.
ncclResult_t add(ncclComm* c, cudaStream_t stream, std::vector<transfer> const& all) {
  group& g = open_group;
  if (ncclResult_t const error = check(c, stream, all); error != ncclSuccess) {
    if (g.depth > 0) g.error = error;
    return error;
  }
  if (g.depth == 0) return submit_transfers(c, stream, all);
  g.comm = c, g.stream = stream;
  g.transfers.insert(g.transfers.end(), all.begin(), all.end());
  return ncclSuccess;
}
u64 bytes_of(ncclDataType_t type, std::size_t count) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return count;
    case ncclFloat16:
    case ncclBfloat16:
      return 2 * count;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8 * count;
    default:
      return 4 * count;
  }
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> made{0};
  *id = {};
  std::snprintf(id->internal, sizeof id->internal, "/ptxemu-nccl-%d-%d", int(getpid()), ++made);
  int const file = shm_open(id->internal, O_CREAT | O_EXCL | O_RDWR, 0600);
  if (file < 0) return ncclSystemError;
  int const sized = ftruncate(file, sizeof(shared_memory));
  close(file);
  return sized == 0 ? ncclSuccess : ncclSystemError;
}
ncclResult_t ncclCommInitRank(ncclComm_t* to, int ranks, ncclUniqueId id, int rank) {
  if (ranks < 1 || ranks > most_ranks || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  int const file = shm_open(id.internal, O_RDWR, 0600);
  if (file < 0) return ncclSystemError;
  void* const at = mmap(nullptr, sizeof(shared_memory), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (at == MAP_FAILED) return ncclSystemError;
  *to = new ncclComm{static_cast<shared_memory*>(at), rank, ranks};
  auto const begun = std::chrono::steady_clock::now();
  for (++(*to)->shared->joined; (*to)->shared->joined < ranks; std::this_thread::yield())
    if (std::chrono::steady_clock::now() - begun > patience) give_up(**to, "not all ranks come");
  if (rank == 0) shm_unlink(id.internal);
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t c) {
  if (c == nullptr) return ncclInvalidArgument;
  finish_everything();
  munmap(c->shared, sizeof(shared_memory));
  delete c;
  return ncclSuccess;
}
ncclResult_t ncclCommCount(ncclComm_t c, int* ranks) {
  if (c == nullptr) return ncclInvalidArgument;
  *ranks = c->ranks;
  return ncclSuccess;
}
ncclResult_t ncclCommUserRank(ncclComm_t c, int* rank) {
  if (c == nullptr) return ncclInvalidArgument;
  *rank = c->rank;
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t* error) {
  if (c == nullptr) return ncclInvalidArgument;
  *error = ncclSuccess;
  return ncclSuccess;
}
char const* ncclGetErrorString(ncclResult_t code) {
  switch (code) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    default:
      return "another error";
  }
}

ncclResult_t ncclGroupStart() {
  ++open_group.depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  group& g = open_group;
  if (g.depth == 0) return ncclInvalidUsage;
  if (--g.depth > 0) return ncclSuccess;
  group const now = std::exchange(g, {});
  if (now.error != ncclSuccess || now.comm == nullptr) return now.error;
  return submit_transfers(now.comm, now.stream, now.transfers);
}
ncclResult_t ncclSend(void const* from, size_t count, ncclDataType_t type, int peer, ncclComm_t c,
                      cudaStream_t stream) {
  return add(c, stream, {{true, peer, of_send, static_cast<u8*>(const_cast<void*>(from)), bytes_of(type, count)}});
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t stream) {
  return add(c, stream, {{false, peer, of_send, static_cast<u8*>(to), bytes_of(type, count)}});
}
ncclResult_t ncclAllGather(void const* from, void* to, size_t count, ncclDataType_t type, ncclComm_t c,
                           cudaStream_t stream) {
  if (c == nullptr) return ncclInvalidArgument;
  std::vector<transfer> all;
  u64 const bytes = bytes_of(type, count);
  // In place is this rank's part of the result, and nothing else.
  auto const* const begin = static_cast<u8 const*>(to);
  auto const* const sent = static_cast<u8 const*>(from);
  bool const is_in_place = sent == begin + u64(c->rank) * bytes;
  if (!is_in_place && sent < begin + u64(c->ranks) * bytes && begin < sent + bytes) return ncclInvalidArgument;
  for (int peer = 0; peer < c->ranks; ++peer) {
    all.push_back({true, peer, of_all_gather, static_cast<u8*>(const_cast<void*>(from)), bytes});
    all.push_back({false, peer, of_all_gather, static_cast<u8*>(to) + u64(peer) * bytes, bytes});
  }
  return add(c, stream, all);
}

}  // extern "C"
