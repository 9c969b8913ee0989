// SPDX-License-Identifier: BSD-3-Clause
// hoft/nccl.hpp: ranks that NCCL connects, for matrices in memory of GPUs. Sources that include it are compiled by nvcc
// and linked with NCCL.
#pragma once
#include <hoft/adapter/batch.hpp>
#include <hoft/adapter/layer_batch.hpp>
#include <hoft/adapter/low_rank.hpp>
#include <hoft/adapter/scaled_low_rank.hpp>
#include <hoft/cuda.hpp>
#include <hoft/sharded/backend.hpp>
#include <hoft/sharded/rank_order.hpp>

#include <nccl.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>

namespace HOFT_TARGET_NAMESPACE::nccl {
inline namespace HOFT_ABI_ARCHITECTURES {

/// An error of NCCL as an exception, in its own words.
inline void require(ncclResult_t answer, char const* call) {
  if (answer == ncclSuccess) return;
  std::string const text = answer == ncclInProgress
                               ? "the communicator is one that does not block, of which hoft knows "
                                 "nothing: config.blocking = 1"
                               : ncclGetErrorString(answer);
  throw communication_error(std::string("hoft::nccl: ") + call + ": " + text);
}
using cuda::detail::require;

/// Bytes by NCCL's calls on one stream (sharded/rank_order.hpp).
class engine {
 public:
  engine(ncclComm_t comm, cudaStream_t stream) : comm_(comm), stream_(stream) {
    require(ncclCommUserRank(comm, &rank_), "ncclCommUserRank");
    require(ncclCommCount(comm, &size_), "ncclCommCount");
    require(cudaMallocHost(&records_, std::size_t(size_ + 1) * record), "cudaMallocHost");
  }
  engine(engine const&) = delete;
  engine& operator=(engine const&) = delete;
  ~engine() { cudaFreeHost(records_); }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }

  template <class Local>
  void all_gather(Local const& local, std::byte const* mine, std::byte* all, index_t bytes) {
    require_stream(local.stream);
    require(ncclAllGather(mine, all, std::size_t(bytes), ncclInt8, comm_, stream_), "ncclAllGather");
  }
  template <class Local>
  void scatter(Local const& local, std::byte const* data, index_t size, index_t part, std::byte* all) {
    require_stream(local.stream);
    part_of_message const mine(rank_, size, part);
    in_one_group([&](int peer) {
      part_of_message const theirs(peer, size, part);
      send(data + theirs.first, theirs.size, peer);
      receive(all + peer * mine.size, mine.size, peer);
    });
  }
  template <class Local>
  void gather(Local const& local, std::byte* data, index_t size, index_t part) {
    require_stream(local.stream);
    part_of_message const mine(rank_, size, part);
    in_one_group([&](int peer) {
      if (peer == rank_) return;
      part_of_message const theirs(peer, size, part);
      send(data + mine.first, mine.size, peer);
      receive(data + theirs.first, theirs.size, peer);
    });
  }
  /// The host waits for the stream.
  void const* gather_records(std::byte const* mine, index_t bytes, std::byte* room) {
    detail::require_at_most("nccl::communicator", "bytes of a record", bytes, record);
    cudaStreamCaptureStatus status{};
    require(cudaStreamIsCapturing(stream_, &status), "cudaStreamIsCapturing");
    if (status != cudaStreamCaptureStatusNone)
      detail::refuse<argument_error>("nccl::communicator", "stream", "one that is captured",
                                     "one whose ranks need not agree: run the calls once, then capture them with "
                                     "sharded{..., agrees = false}");
    auto* const own = static_cast<std::byte*>(records_);
    std::byte* const all = own + record;
    std::memcpy(own, mine, std::size_t(bytes));
    std::byte* const sent = room + size_ * bytes;
    require(cudaMemcpyAsync(sent, own, std::size_t(bytes), cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
    require(ncclAllGather(sent, room, std::size_t(bytes), ncclInt8, comm_, stream_), "ncclAllGather");
    require(cudaMemcpyAsync(all, room, std::size_t(size_ * bytes), cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync");
    require(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    return all;
  }

 private:
  static constexpr index_t record = 256;

  void require_stream(cudaStream_t of_policy) const {
    if (of_policy != stream_)
      detail::refuse<argument_error>("nccl::communicator", "policy.stream", "another one",
                                     "the stream that the communicator was made with");
  }
  void send(std::byte const* from, index_t bytes, int peer) const {
    if (bytes > 0) require(ncclSend(from, std::size_t(bytes), ncclInt8, peer, comm_, stream_), "ncclSend");
  }
  void receive(std::byte* to, index_t bytes, int peer) const {
    if (bytes > 0) require(ncclRecv(to, std::size_t(bytes), ncclInt8, peer, comm_, stream_), "ncclRecv");
  }
  /// f(peer) for every rank, whose messages go on together. Whoever catches an error finds the group closed: NCCL would
  /// hold back all that this thread asks of it later.
  template <class F>
  void in_one_group(F const& f) const {
    require(ncclGroupStart(), "ncclGroupStart");
    try {
      for (int peer = 0; peer < size_; ++peer) f(peer);
    } catch (...) {
      static_cast<void>(ncclGroupEnd());  // answers the same error, and submits nothing
      throw;
    }
    require(ncclGroupEnd(), "ncclGroupEnd");
  }

  ncclComm_t comm_;
  cudaStream_t stream_;
  int rank_ = 0, size_ = 1;
  void* records_ = nullptr;  ///< of the host, pinned: this rank's, and those of all ranks
};

/// Memory of the current device.
class device_memory {
 public:
  explicit device_memory(index_t bytes) : bytes_(bytes) {
    require(cudaMalloc(&data_, std::size_t(bytes)), "cudaMalloc");
  }
  device_memory(device_memory const&) = delete;
  device_memory& operator=(device_memory const&) = delete;
  ~device_memory() { cudaFree(data_); }
  operator workspace() const { return {static_cast<std::byte*>(data_), bytes_}; }

 private:
  void* data_ = nullptr;
  index_t bytes_;
};

/// The ranks of an ncclComm_t, one GPU each, for hoft::sharded (sharded/policy.hpp):
///
///   hoft::cuda::device const gpu = hoft::cuda::on(stream, blas);
///   hoft::nccl::communicator ranks(comm, stream);
///   hoft::sharded const shards(gpu, ranks, hoft::split::rows);
///
/// Made by all ranks, each in a process or thread of its own, of a communicator that blocks, which it does not own:
/// both it and the stream must outlive this object, and this object the graphs that have captured its messages.
/// Messages are submitted to the stream, which must be that of the policy, and nothing waits for them. Sums are added
/// in the order of the ranks by kernels of hoft's own, whatever algorithm NCCL would choose: calls of hoft stand
/// outside of the caller's ncclGroupStart and ncclGroupEnd, which would hold back messages that these kernels wait for.
///
/// Where ranks agree on what they exchange (sharded::agrees), the host waits for the stream before each message, and a
/// stream that is captured is refused. So a training loop runs its first step with it and the others, captured in a
/// graph or not, with `agrees = false`.
///
/// Errors of NCCL are thrown as hoft::communication_error, those of CUDA as hoft::cuda_error. A rank that ends leaves
/// the others waiting in their stream: whoever trains on several machines watches ncclCommGetAsyncError, as NCCL asks.
///
/// hoft allocates nothing after construction; NCCL may, at the first messages between two ranks. Messages larger than
/// its memory travel in pieces.
class communicator {
 public:
  static constexpr index_t default_bytes = index_t{16} << 20;

  /// With memory of its own on the current device, for messages of up to `bytes` at once.
  communicator(ncclComm_t comm, cudaStream_t stream, index_t bytes = default_bytes)
      : engine_(comm, stream),
        owned_(std::in_place, message_memory_for(bytes, engine_.size())),
        ordered_(engine_, *owned_) {}
  /// With the caller's, of the current device: message_memory_for(bytes, ranks).
  communicator(ncclComm_t comm, cudaStream_t stream, workspace memory)
      : engine_(comm, stream), ordered_(engine_, memory) {}

  [[nodiscard]] int rank() const { return engine_.rank(); }
  [[nodiscard]] int size() const { return engine_.size(); }
  [[nodiscard]] workspace message_memory() const { return ordered_.message_memory(); }
  template <class Local, class A>
  void all_reduce(Local const& local, A* data, index_t count) {
    static_assert(!sharded_backend::on_host<Local>,
                  "hoft::nccl: messages lie in memory of a GPU, which this policy does not write.");
    ordered_.all_reduce(local, data, count);
  }
  void const* all_gather(void const* record, index_t bytes) { return ordered_.all_gather(record, bytes); }

 private:
  engine engine_;
  std::optional<device_memory> owned_;
  rank_order_communicator<engine> ordered_;
};

}  // namespace HOFT_ABI_ARCHITECTURES
}  // namespace HOFT_TARGET_NAMESPACE::nccl
