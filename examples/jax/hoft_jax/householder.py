# SPDX-License-Identifier: BSD-3-Clause
"""Products of Householder reflectors, Q = H(u₁) ⋯ H(u_r) with H(u) = I − 2 u uᴴ/(uᴴu) and H(0) = I."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import plain
from ._extension import call
from ._gradient import with_gradient
from ._types import COMPLEX, REAL, accumulator_dtype, require_array, require_dtype, require_parameter, require_size

TRIANGLE = 64  # reflectors that share one triangle, as hoft::default_block


class Form(NamedTuple):
    """Q in compact WY form: the normalised reflectors [*, r, m], and the triangles of blocks of b and what else hoft
    keeps [*, r, 2 b + 3]. It is hoft's; its numbers are differentiated by nobody."""

    vectors: jax.Array
    factors: jax.Array


def accumulate(u: jax.Array, tau: jax.Array, *, columns: bool = False, one_triangle: bool = False) -> Form:
    """The form of the rows of u [*, r, m], or of its columns [*, m, r]. tau [*, r], or [*, 0]: not given."""
    *batch, rank, size = u.shape
    if columns:
        rank, size = size, rank
    block = max(1, rank if one_triangle else min(rank, TRIANGLE))
    shapes = (*batch, rank, size), (*batch, rank, 2 * block + 3)
    results = tuple(jax.ShapeDtypeStruct(shape, u.dtype) for shape in shapes)
    return Form(*call("hoft_jax_accumulate", results, u, tau, columns=columns))


def like(*arrays: jax.Array) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays)


def conjugate(a: jax.Array) -> jax.Array:
    """Between hoft's gradients, dL = Re tr(Gᴴ dY), and jax's, dL = Re tr(Gᵀ dY)."""
    return jnp.conj(a) if jnp.iscomplexobj(a) else a


def _conjugated(gradients: tuple) -> tuple:
    return tuple(conjugate(a) for a in gradients)


def _given(tau: jax.Array) -> jax.Array | None:
    return tau if tau.shape[-1] > 0 else None


@functools.cache
def _apply(adjoint: bool):
    """Rows x [t, m], u [r, m], tau [r] or [0]."""

    def forward(x, u, tau):
        form = accumulate(u, tau)
        (y,) = call("hoft_jax_apply", like(x), x, *form, adjoint=adjoint)
        return y, form

    def backward(arguments, form, dy):
        x = arguments[0]
        gradients = call("hoft_jax_apply_backward", like(*arguments), x, conjugate(dy), *form, adjoint=adjoint)
        return _conjugated(gradients)

    return with_gradient(
        forward, backward, lambda x, u, tau: plain.householder_apply(x, u, _given(tau), adjoint=adjoint)
    )


@functools.cache
def _product(columns: int):
    """a [*, m, r], tau [*, r] or [*, 0]; the first columns of Q."""

    def forward(a, tau):
        form = accumulate(a, tau, columns=True)
        result = jax.ShapeDtypeStruct((*a.shape[:-1], columns), a.dtype)
        (product,) = call("hoft_jax_materialize", (result,), *form)
        return product, form

    def backward(arguments, form, dproduct):
        gradients = call("hoft_jax_materialize_backward", like(*arguments), conjugate(dproduct), *form)
        return _conjugated(gradients)

    def formula(a, tau):
        one = lambda a, tau: plain.householder_product(a, _given(tau), columns)
        for _ in range(a.ndim - 2):
            one = jax.vmap(one)
        return one(a, tau)

    return with_gradient(forward, backward, formula)


def householder_apply(x: jax.Array, u: jax.Array, tau: jax.Array | None = None, *, adjoint: bool = False) -> jax.Array:
    """y = Q x for every token x [..., m]; Qᴴ x if `adjoint`.

    u [r, m]: a reflector in each row, of any length; a row of zeros is the identity. With tau [r], H_i = I − tau_i v_i
    v_iᴴ as LAPACK's geqrf leaves them: v_i is zero before element i, one there, and row i of u behind it.

    x: float32, float64, bfloat16, complex64 or complex128. u and tau: the same, float32 beside bfloat16, which may be
    bfloat16 as well. Under jax.vmap all problems are one call, on XLA's threads.

    Cost: 4 m r flops a token, backward 10 m r (14 m r if r > 64). Raises TypeError and ValueError, which name the
    argument.
    """
    name = "householder_apply"
    x = require_array(name, "x", x, 1, at_least=True)
    require_dtype(name, "x", x, REAL + COMPLEX)
    u = require_parameter(name, "u", u, 2, x, "x")
    require_size(name, "the number of features of u", u.shape[1], x.shape[-1])
    if tau is None:
        tau = jnp.zeros((0,), u.dtype)
    else:
        tau = require_parameter(name, "tau", tau, 1, x, "x")
        require_size(name, "the length of tau", len(tau), len(u))
        if len(u) > u.shape[1]:
            raise ValueError(f"{name}: u has {len(u)} rows of {u.shape[1]}, with tau at most as many as features")
    return _apply(adjoint)(_rows(x), u, tau).reshape(x.shape)


def _rows(x: jax.Array) -> jax.Array:
    """Tokens [..., features] as [t, features]."""
    tokens = 1
    for extent in x.shape[:-1]:
        tokens *= extent
    return x.reshape(tokens, x.shape[-1])


def householder_product(a: jax.Array, tau: jax.Array | None = None, *, columns: int | None = None) -> jax.Array:
    """The first columns of Q [*, m, columns], Q = H₁ ⋯ H_r of the columns of a [*, m, r], for a whole batch in one call.

    Without tau the columns of a are reflectors of any length, and zero columns the identity: Q is orthogonal (unitary)
    for every a, and `columns` is m if it is not given. With tau [*, k] it is jax.lax.linalg.householder_product, with
    a gradient: column i of the first k of a [*, m, n], k <= n <= m, is read below its diagonal, and `columns` is n.

    a and tau: float32, float64, complex64 or complex128.

    Cost: 4 m r columns + 2 m r² flops each, backward about three times as many. Raises TypeError and ValueError, which
    name the argument.
    """
    name = "householder_product"
    a = require_array(name, "a", a, 2, at_least=True)
    require_dtype(name, "a", a, (jnp.float32, jnp.float64, *COMPLEX))
    *batch, m, n = a.shape
    if columns is None:
        columns = m if tau is None else n
    if not 0 <= columns <= m:
        raise ValueError(f"{name}: columns is {columns}, must be 0 to {m}, as many as rows of a")
    if tau is None:
        return _product(columns)(a, jnp.zeros((*batch, 0), a.dtype))
    tau = require_parameter(name, "tau", tau, a.ndim - 1, a, "a")
    if tau.shape[:-1] != a.shape[:-2] or tau.shape[-1] > n or n > m:
        raise ValueError(
            f"{name}: tau has the shape {tau.shape} beside a of {a.shape}, must be [*, k] beside [*, m, n], k <= n <= m"
        )
    return _product(columns)(a[..., : tau.shape[-1]], tau)
