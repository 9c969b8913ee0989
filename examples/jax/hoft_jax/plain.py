# SPDX-License-Identifier: BSD-3-Clause
"""What hoft computes, by its formulas in jax's own operations: differentiable any number of times, in every mode.

Second derivatives of this package come from here. Shapes as in `householder` and `linear`.
"""

import jax
import jax.numpy as jnp

from ._types import accumulator_dtype


def unit_rows(u: jax.Array) -> jax.Array:
    """Rows of norm 1, of any length that the type holds; rows of zeros stay what they are."""
    # The result does not depend on the length, so neither does its derivative on the first division.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(u), axis=-1, keepdims=True, initial=0))
    u = u / jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(jnp.real(u) ** 2 + jnp.imag(u) ** 2, axis=-1, keepdims=True)
    return u / jnp.sqrt(jnp.where(squares > 0, squares, 1))


def compact_wy(u: jax.Array, tau: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """(vectors [r, m], T [r, r]) with Q = I − vectorsᵀ T conj(vectors), from rows u [r, m]; with tau [r] LAPACK's.

    T = (I + D A)⁻¹ D with D = diag(tau) and A the strictly upper part of the Gram matrix: no division by tau.
    """
    rank, size = u.shape
    if tau is None:
        u = unit_rows(u)
        tau = jnp.full((rank,), 2, u.dtype)
    else:
        u = jnp.triu(u, 1) + jnp.eye(rank, size, dtype=u.dtype)
    upper = jnp.triu(jnp.conj(u) @ u.T, 1)
    identity = jnp.eye(rank, dtype=u.dtype)
    T = jax.scipy.linalg.solve_triangular(identity + tau[:, None] * upper, jnp.diag(tau), lower=False)
    return u, T


def householder_apply(x: jax.Array, u: jax.Array, tau: jax.Array | None = None, *, adjoint: bool = False) -> jax.Array:
    """Q x for every row of x [t, m], or Qᴴ x."""
    vectors, T = compact_wy(u, tau)
    projections = x.astype(vectors.dtype) @ jnp.conj(vectors).T
    projections = projections @ (jnp.conj(T) if adjoint else T.T)
    return (x - projections @ vectors).astype(x.dtype)


def householder_product(a: jax.Array, tau: jax.Array | None, columns: int) -> jax.Array:
    """The first columns of Q, from the columns of a [m, r]."""
    vectors, T = compact_wy(a.T, tau)
    return jnp.eye(len(a), columns, dtype=a.dtype) - vectors.T @ (T @ jnp.conj(vectors[:, :columns]))


def hoft_linear(x: jax.Array, weight: jax.Array, u: jax.Array, v: jax.Array, s: jax.Array | None = None) -> jax.Array:
    """Q_U diag(s) M Q_V x for every row of x [t, n]."""
    A = accumulator_dtype(x.dtype)
    x_turned = householder_apply(x.astype(A), v)
    y = x_turned @ weight.astype(A).T
    return householder_apply(y if s is None else y * s, u).astype(x.dtype)
