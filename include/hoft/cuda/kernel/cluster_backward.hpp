// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/kernel/cluster_backward.hpp: the gradients of Y = Q_U diag(s) (X − K v) by clusters: X, or what X became,
// and dY are read once. Without K and s they are those of Q_U X.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/block/slice.hpp>
#include <hoft/cuda/kernel/backward.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// As cluster_adapt_kernel, for G = ∂L/∂Y and an X at a time. A block's slice of the sums stays in its memory over all
/// columns of the cluster. For T of 16 bits or float.
///
/// X is whatever dW is to be multiplied by: the output Y, or the input of Q_U before diag(s), base − K v or the base
/// itself; gradient_part tells the terms, and whoever adds up the parts puts them together. Where blocks go by
/// themselves, somebody else has made −Z and dW, and sums dF, E and J; without −Z all that is done is
/// dX := diag(s) (G + U dW) and D := Σ X dWᴴ.
template <class T>
struct cluster_backward_kernel {
  static constexpr index_t columns = feature_slice::columns;

  matrix_view<float const> U;  ///< [m, ru]
  small_gradients<float> small_part;
  bool output;                              ///< X is the output: E is summed
  matrix_view<float const> minus_K;         ///< [m, rv] −diag(s) K, or empty
  matrix_view<float const> UK;              ///< [ru, rv] Uᴴ diag(s) (−K)
  vector_view<float const> scale;           ///< s [m], or empty for ones
  strided_matrix<T const> X, G;             ///< [m, n]
  strided_matrix<T> dX;                     ///< [m, n] := diag(s) (G + U dW), or without data
  strided_matrix<float const> W, v;         ///< [ru, n] the forward pass's projections; [rv, n]
  bool projects_X;                          ///< W is not there and made of X
  strided_matrix<float> dv;                 ///< [rv, n] := −Kᴴ dX
  bool apart;                               ///< blocks go by themselves: small_part, UK, W and dv are not used
  strided_matrix<float const> minus_Z, dW;  ///< [ru, n], if so
  gradient_shape sums;
  float* parts;  ///< of every run
  slice_shape shape{};

  static constexpr int parts_each = parts_beside<T>;
  using split_type = split_matrix<parts_each>;

  /// A block's memory, and what it knows of its slice.
  struct shared {
    feature_slice slice;
    int member;
    int down, across;  ///< tiles of 16 reflectors of U and of K
    int projected;     ///< tiles of the projections of a turn: of G on U, on −K, of X on U
    int small_tiles;   ///< of dF, E and J, in this order, by rows
    int small_each;    ///< that each member of a cluster has of them; none where blocks go by themselves
    int x_chunks, g_chunks, dx_chunks, set_bits;
    split_type u, k, f, uk, over;  ///< over: what makes W of Z, if X is the output
    split_type w, v, p, minus_z, dw;
    float *s, *dots;
    sum_tiles projections, D, X_dW, G_v, small_sums, scratch;
    T* tiles;  ///< of X and of G for each buffer
    HOFT_HOST_DEVICE shared(shared_arena memory, cluster_backward_kernel const& kernel, index_t which, index_t member_)
        : slice(kernel.U.rows, kernel.shape.rows, kernel.U.cols, which),
          member(int(member_)),
          down(slice.groups()),
          across(int(kernel.sums.rv + 15) / 16),
          projected((kernel.projects_X ? 2 : 1) * down + across),
          small_tiles(down * (2 * down + across)),
          small_each(kernel.apart ? 0 : (small_tiles + int(kernel.shape.size) - 1) / int(kernel.shape.size)),
          x_chunks(slice.chunks_of(kernel.X)),
          g_chunks(slice.chunks_of(kernel.G)),
          dx_chunks(slice.chunks_of(kernel.dX)),
          set_bits(feature_slice::set_bits(16 * projected, int(kernel.shape.threads))),
          u(memory, slice.rank, slice.rows),
          k(memory, kernel.whole(kernel.sums.rv), slice.rows),
          f(memory, kernel.whole(slice.rank), slice.rank),
          uk(memory, kernel.whole(slice.rank), kernel.sums.rv),
          over(memory, kernel.whole(slice.rank), slice.rank),
          w(memory, columns, kernel.whole(slice.rank)),
          v(memory, columns, kernel.sums.rv),
          s(kernel.scale.size > 0 ? memory.template array<float>(slice.rows) : nullptr),
          dots(kernel.sums.dots ? memory.template array<float>(slice.rows) : nullptr),
          projections(memory, kernel.whole(2 * projected)),
          D(memory, slice.sums_of(kernel.sums.ru)),
          X_dW(memory, kernel.sums.split_D ? slice.sums_of(kernel.sums.ru) : 0),
          G_v(memory, slice.sums_of(kernel.sums.rv)),
          small_sums(memory, small_each),
          tiles(memory.template array<T>(2 * kernel.shape.buffers * slice.tile_size())) {
      // Sums of projections go where later what is made of them is.
      shared_arena made(memory), shared_with(memory);
      p = split_type(made, columns, kernel.whole(slice.rank));
      minus_z = split_type(made, columns, slice.rank);
      dw = split_type(made, columns, slice.rank);
      scratch = sum_tiles(shared_with,
                          kernel.whole(feature_slice::projection_scratch(16 * projected, int(kernel.shape.threads))));
      bytes = made.size() > shared_with.size() ? made.size() : shared_with.size();
    }
    index_t bytes;
    HOFT_HOST_DEVICE T* tile_x(int buffer) const { return buffer == 0 ? tiles : tiles + 2 * slice.tile_size(); }
    HOFT_HOST_DEVICE T* tile_g(int buffer) const { return tile_x(buffer) + slice.tile_size(); }
  };
  index_t shared_bytes() const { return shared({}, *this, 0, 0).bytes; }

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    index_t const which = cluster.x % shape.slices, run = cluster.x / shape.slices;
    auto const held = cluster.hold([&](auto const& block, index_t member) {
      return shared(shared_arena(block.memory), *this, which * cluster.size + member, member);
    });
    int const turns = shape.turns(run, X.cols);
    cluster.members(held, [&](auto const& block, shared const& s) {
      begin(block, s, run);
      fetch(block, s, run * columns, 0);
    });
    index_t first = run * columns;
    index_t const step = shape.runs * columns;  // to the columns of the next turn
    int const last = int(shape.buffers) - 1;
    for (int turn = 0; turn < turns; ++turn, first += step) {
      bool const more = turn + 1 < turns;
      int const here = turn & last;
      cluster.members(held, [&](auto const& block, shared const& s) {
        start_set_columns(block, s.v, v, first);
        if (apart) {
          start_set_columns(block, s.dw, dW, first);
          if (minus_Z.data != nullptr) start_set_columns(block, s.minus_z, minus_Z, first);
        } else if (!projects_X) {
          start_set_columns(block, s.w, W, first);
        }
        block.fetched();
        if (last > 0 && more) fetch(block, s, first + step, 1 - here);
        if (!apart) project(block, s, here, turn);
      });
      cluster.barrier();
      cluster.members(held, [&](auto const& block, shared const& s) {
        if (!apart) form(cluster, block, s, first, turn);
        add_columns(block, s, here);
        if (dX.data != nullptr) s.slice.store_tile(block, s.tile_g(here), dX, s.dx_chunks, first);
        if (last > 0 || !more) return;
        block.stored();
        fetch(block, s, first + step, 0);
      });
    }
    cluster.members(held, [&](auto const& block, shared const& s) { write_sums(block, s, run); });
    cluster.barrier();  // no block leaves while others read its memory
  }

 private:
  /// Nothing where blocks go by themselves.
  HOFT_HOST_DEVICE index_t whole(index_t n) const { return apart ? 0 : n; }
  /// Two in turn: others may still read the projections of the turn before.
  HOFT_HOST_DEVICE static sum_tiles projections(shared const& s, int turn) {
    return s.projections.from((turn & 1) * s.projected);
  }
  /// f(warp, n, kind, g, h) for the n-th small tile of a member: (g, h) of dF, E or J. No barrier behind it.
  template <class Block, class F>
  HOFT_HOST_DEVICE void start_each_small_tile(Block const& block, shared const& s, F const& f) const {
    int const size = int(shape.size), rows = s.down, J = 2 * rows * rows;
    block.start_each_warp(s.small_each, [&](auto const& warp, int n) {
      int const tile = n * size + s.member;
      if (tile >= s.small_tiles) return;
      if (tile < J) f(warp, n, tile / (rows * rows), tile / rows % rows, tile % rows);
      else f(warp, n, 2, (tile - J) / s.across, (tile - J) % s.across);
    });
  }

  /// What a block holds for all columns.
  template <class Block>
  HOFT_HOST_DEVICE void begin(Block const& block, shared const& s, index_t run) const {
    int const r = int(U.cols), rv = int(sums.rv);
    auto const clear = [&](sum_tiles of, index_t tiles) {
      block.each(int(tiles) * sum_tiles::size, [&](int e) { of.data[e] = {}; });
    };
    s.slice.load_reflectors(block, U, s.u);
    clear(s.D, s.slice.sums_of(r));
    if (sums.split_D) clear(s.X_dW, s.slice.sums_of(r));
    clear(s.G_v, s.slice.sums_of(rv));
    if (s.dots != nullptr) block.each(s.slice.rows, [&](int i) { s.dots[i] = 0.0f; });
    if (s.s != nullptr) s.slice.load_vector(block, scale, s.s);
    if (apart) {
      float* const of_run = parts + run * sums.size();  // dF, E and J of gradient_part, which somebody else adds up
      if (s.slice.first == 0) block.each(2 * r * r + r * rv, [&](int e) { of_run[e] = 0.0f; });
      return;
    }
    clear(s.small_sums, s.small_each);
    s.slice.load_reflectors(block, minus_K, s.k);
    set_split(block, s.f, r, r, [&](int k, int l) { return small_part.F(k, l); });
    set_split(block, s.uk, r, rv, [&](int k, int l) { return UK(k, l); });
    if (small_part.from_output) set_split(block, s.over, r, r, [&](int k, int l) { return small_part.over(k, l); });
  }
  template <class Block>
  HOFT_HOST_DEVICE void fetch(Block const& block, shared const& s, index_t first, int buffer) const {
    s.slice.fetch_tile(block, X, s.x_chunks, first, s.tile_x(buffer));
    s.slice.fetch_tile(block, G, s.g_chunks, first, s.tile_g(buffer));
  }
  template <class Block>
  HOFT_HOST_DEVICE void project(Block const& block, shared const& s, int buffer, int turn) const {
    using term = projection_of<T>;
    term const G_on_U{s.u, s.tile_g(buffer)}, G_on_K{s.k, s.tile_g(buffer)}, X_on_U{s.u, s.tile_x(buffer), s.s};
    sum_tiles const to = projections(s, turn);
    if (projects_X) s.slice.project(block, s.set_bits, s.scratch, to, G_on_U, G_on_K, X_on_U);
    else s.slice.project(block, s.set_bits, s.scratch, to, G_on_U, G_on_K);
  }

  /// What is made of the projections of columns [first, first + 16): P, W, dW, −Z and dv; and what is summed of them.
  template <class Cluster, class Block>
  HOFT_HOST_DEVICE void form(Cluster const& cluster, Block const& block, shared const& s, index_t first,
                             int turn) const {
    using warp_type = typename Block::warp_type;
    using sum_type = typename warp_type::template held<sum_tile>;
    sum_tiles const projected = projections(s, turn);
    bool const from_output = small_part.from_output;
    block.each_warp((projects_X ? 2 : 1) * s.down, [&](warp_type const& warp, int task) {
      bool const of_G = task < s.down;
      int const g = of_G ? task : task - s.down;
      sum_type sum = total_of_members(warp, cluster, block, projected, of_G ? g : s.down + s.across + g);
      if (!of_G) add_product<stored::by_columns>(warp, s.v, s.uk, g, sum);
      set_tile(warp, sum, g, either(of_G, s.p, s.w), [](float a) { return a; });
    });
    // From here on W is UᴴX, also where it is to become something else.
    bool const plain = small_part.o == op::plain;
    block.each_warp(2 * s.down, [&](warp_type const& warp, int task) {
      bool const of_G = task < s.down;
      int const g = of_G ? task : task - s.down;
      sum_type sum = {};
      // dW := −op(F)ᴴ P; −Z := −op(F) W or, from the output, op(F)ᴴ W
      auto const from = either(of_G, s.p, s.w);
      if (plain == (of_G || from_output)) add_product<stored::by_rows>(warp, from, s.f, g, sum);
      else add_product<stored::by_columns>(warp, from, s.f, g, sum);
      float const sign = of_G || !from_output ? -1.0f : 1.0f;
      set_tile(warp, sum, g, either(of_G, s.dw, s.minus_z), [=](float a) { return sign * a; });
    });
    if (from_output)
      block.each_warp(s.down, [&](warp_type const& warp, int g) {
        sum_type sum = {};
        add_product<stored::by_columns>(warp, s.minus_z, s.over, g, sum);
        set_tile(warp, sum, g, s.w, [](float a) { return -a; });
      });
    if (s.slice.first == 0)
      block.start_each_warp(s.across, [&](warp_type const& warp, int g) {
        sum_type sum = total_of_members(warp, cluster, block, projected, s.down + g);
        add_product<stored::by_rows>(warp, s.dw, s.uk, g, sum);
        each_element(warp, sum, [&](int c, int l, float d) {
          if (g * 16 + l < int(sums.rv) && first + c < X.cols) *dv.at(g * 16 + l, first + c) = d;
        });
      });
    start_each_small_tile(block, s, [&](warp_type const& warp, int n, int kind, int g, int h) {
      if (kind == 1 && !output) return;
      sum_type sum;
      s.small_sums.load(warp, sum, n);
      auto const left = either(kind == 0, s.p, either(kind == 1, s.minus_z, s.dw));
      auto const right = either(kind == 0, s.w, either(kind == 1, s.dw, s.v));
      add_outer(warp, left, g, right, h, sum);
      s.small_sums.store(warp, sum, n);
    });
  }

  /// The columns of a buffer are added to the sums, and those of G become those of dX.
  template <class Block>
  HOFT_HOST_DEVICE void add_columns(Block const& block, shared const& s, int buffer) const {
    T* const tile_x = s.tile_x(buffer);
    T* const tile_g = s.tile_g(buffer);
    if (s.dots != nullptr) add_dots(block, s, tile_g, tile_x);
    outer_term<T> const of_X_dW{tile_x, s.dw}, of_G_Z{tile_g, s.minus_z}, of_G_v{tile_g, s.v};
    block.each_warp(s.slice.strips(), [&](auto const& warp, int strip) {
      if (apart && minus_Z.data == nullptr) {
        s.slice.outer(warp, strip, s.D, of_X_dW);
      } else if (!sums.split_D) {
        s.slice.outer(warp, strip, s.D, of_G_Z, of_X_dW);
      } else {
        s.slice.outer(warp, strip, s.D, of_G_Z);
        s.slice.outer(warp, strip, s.X_dW, of_X_dW);
      }
      if (sums.rv > 0) s.slice.outer(warp, strip, s.G_v, of_G_v);
      if (dX.data != nullptr) s.slice.combine(warp, strip, {s.u, s.dw}, s.s, {}, tile_g, static_cast<T*>(nullptr));
    });
  }
  /// dots += the sums along rows of G ∘ X.
  template <class Block>
  HOFT_HOST_DEVICE void add_dots(Block const& block, shared const& s, T const* tile_g, T const* tile_x) const {
    block.each(s.slice.rows / 2, [&](int half) {
      int const i = 2 * half;
      float a = s.dots[i], b = s.dots[i + 1];
      HOFT_UNROLL
      for (int c = 0; c < columns; ++c) {
        int const at = c * s.slice.stride() + i;
        auto const of_g = load_pair(tile_g + at), of_x = load_pair(tile_x + at);
        a += of_g.first * of_x.first, b += of_g.second * of_x.second;
      }
      s.dots[i] = a, s.dots[i + 1] = b;
    });
  }

  template <class Block>
  HOFT_HOST_DEVICE void write_sums(Block const& block, shared const& s, index_t run) const {
    gradient_part<float> const part(parts, run, sums);
    int const r = int(U.cols), rv = int(sums.rv);
    index_t const first = s.slice.first;
    s.slice.each_sum(block, s.D, r, [&](int i, int k, float d) { part.D(first + i, k) = d; });
    if (sums.split_D) s.slice.each_sum(block, s.X_dW, r, [&](int i, int k, float d) { part.X_dW(first + i, k) = d; });
    s.slice.each_sum(block, s.G_v, rv, [&](int i, int l, float d) { part.G_v(first + i, l) = d; });
    if (s.dots != nullptr) block.each(s.slice.height, [&](int i) { part.dots[first + i] = s.dots[i]; });
    start_each_small_tile(block, s, [&](auto const& warp, int n, int kind, int g, int h) {
      typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sum;
      s.small_sums.load(warp, sum, n);
      // dF = −Σ P Wᴴ, E = Σ Z dWᴴ, J = Σ dW vᴴ, one behind the other, each of r rows
      float* const to = part.dF.data + kind * r * r;
      each_element(warp, sum, [&](int row, int column, float a) {
        int const k = g * 16 + row, l = h * 16 + column;
        if (k < r && l < (kind == 2 ? rv : r)) to[l * r + k] = kind == 2 ? a : -a;
      });
    });
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
