# SPDX-License-Identifier: BSD-3-Clause
"""HOFT and SHOFT on activations: Q_U diag(s) M Q_V x, the adapted weight and its gradient never formed."""

import jax
import jax.numpy as jnp

from . import plain
from ._extension import call
from ._gradient import with_gradient
from ._types import REAL, require_array, require_dtype, require_parameter, require_size
from .householder import _rows, accumulate, householder_apply, like


def _forward(x, weight, u, v, s):
    """x [t, n], weight [m, n], u [ru, m], v [rv, n], s [m] or [0]. XLA multiplies with the weight; hoft does the rest,
    in one pass over x and one over M x."""
    left, right = accumulate(u, s[:0]), accumulate(v, s[:0], one_triangle=True)
    base = x @ weight.T
    product = right.vectors @ weight.astype(u.dtype).T
    tokens = len(x)
    results = (
        *like(base),
        jax.ShapeDtypeStruct((tokens, len(v)), u.dtype),
        jax.ShapeDtypeStruct((tokens, len(u)), u.dtype),
        jax.ShapeDtypeStruct((tokens, len(s)), x.dtype),
    )
    y, *state = call("hoft_jax_adapt", results, x, base, product, *left, *right, s)
    return y, (y, tuple(state), product, left, right)


def _backward(arguments, saved, dy):
    x, weight, u, v, s = arguments
    y, state, product, left, right = saved
    width = u.shape[1] + left.factors.shape[1] - 3
    sum_shapes = (
        jax.ShapeDtypeStruct((len(u), width), u.dtype),
        jax.ShapeDtypeStruct((len(v), u.shape[1]), u.dtype),
        *like(s),
    )
    dbase, dprojected, *sums = call(
        "hoft_jax_adapt_backward", (*like(y, state[0]), *sum_shapes), y, dy, *state, product, *left, *right, s
    )
    # dB = dK T_Vᵀ, whose product with the weight the gradient of v needs; T_V lies first in its factors.
    rank = len(v)
    triangle = right.factors.reshape(-1)[: rank * rank].reshape(rank, rank)
    adjoint_product = -(triangle.T @ sums[1]) @ weight.astype(u.dtype)
    of_weights = product, *left, *right, s
    of_tokens = x, dbase @ weight, dprojected  # the second becomes dx, and is mapped over whenever an argument is
    dx, du, dv, ds = call(
        "hoft_jax_finish", like(x, u, v, s), *of_tokens, adjoint_product, *sums, *of_weights, in_place={1: 0}
    )
    # Nobody pays for this where the weight is frozen: XLA leaves out what is not used.
    dweight = dbase.T @ householder_apply(x, v)
    return dx, dweight, du, dv, ds


_linear = with_gradient(
    _forward, _backward, lambda x, weight, u, v, s: plain.hoft_linear(x, weight, u, v, s if len(s) > 0 else None)
)


def hoft_linear(
    x: jax.Array,
    weight: jax.Array,
    u: jax.Array,
    v: jax.Array,
    s: jax.Array | None = None,
    bias: jax.Array | None = None,
) -> jax.Array:
    """y = Q_U M Q_V x + bias for every token x [..., n] (HOFT); Q_U diag(s) M Q_V x + bias with s [m] (SHOFT).

    weight M [m, n], u [ru, m] and v [rv, n]: a reflector in each row, of any length; bias [m]. x, weight and bias:
    float32, float64 or bfloat16, all the same. u, v and s: that type, float32 beside bfloat16, which may be bfloat16
    as well.

    All arguments have gradients; what is not asked for costs nothing under jax.jit, but for that of x. Without s and
    u = v = `paired_gaussian` it is x Mᵀ + bias.

    Cost beside x Mᵀ: 4 m ru + 4 n rv flops a token and 2 m n rv once; backward about twice as many. Raises TypeError
    and ValueError, which name the argument.
    """
    name = "hoft_linear"
    x = require_array(name, "x", x, 1, at_least=True)
    require_dtype(name, "x", x, REAL)
    weight = require_array(name, "weight", weight, 2)
    if weight.dtype != x.dtype:
        raise TypeError(f"{name}: weight holds {weight.dtype}, must hold {x.dtype} as x does")
    require_size(name, "the number of features of x", x.shape[-1], weight.shape[1])
    m = len(weight)
    u = require_parameter(name, "u", u, 2, x, "x")
    v = require_parameter(name, "v", v, 2, x, "x")
    require_size(name, "the number of features of u", u.shape[1], m)
    require_size(name, "the number of features of v", v.shape[1], weight.shape[1])
    if s is None:
        s = jnp.zeros((0,), u.dtype)
    else:
        s = require_parameter(name, "s", s, 1, x, "x")
        require_size(name, "the length of s", len(s), m)
    y = _linear(_rows(x), weight, u, v, s).reshape(*x.shape[:-1], m)
    if bias is None:
        return y
    bias = require_array(name, "bias", bias, 1)
    require_size(name, "the length of bias", len(bias), m)
    if bias.dtype != x.dtype:
        raise TypeError(f"{name}: bias holds {bias.dtype}, must hold {x.dtype} as x does")
    return y + bias


def paired_gaussian(key: jax.Array, rank: int, features: int, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Reflectors [rank, features] as Gaussian rows, each twice, so that their product is the identity. The last row of
    an odd rank is zero, and never trains. Raises ValueError for a rank below 0."""
    if rank < 0:
        raise ValueError(f"paired_gaussian: rank is {rank}, must be at least 0")
    pairs = jnp.repeat(jax.random.normal(key, (rank // 2, features), dtype), 2, axis=0)
    return jnp.concatenate([pairs, jnp.zeros((rank % 2, features), dtype)])
