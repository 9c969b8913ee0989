# SPDX-License-Identifier: BSD-3-Clause
"""Checks of arguments, which name function, argument, value and expectation."""

import jax
import jax.numpy as jnp

REAL = (jnp.float32, jnp.float64, jnp.bfloat16)
COMPLEX = (jnp.complex64, jnp.complex128)


def accumulator_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The type in which numbers of that type are computed."""
    return jnp.dtype(jnp.float32) if dtype == jnp.bfloat16 else jnp.dtype(dtype)


def require_array(function: str, name: str, value, dimensions: int, at_least: bool = False) -> jax.Array:
    """An array with so many dimensions, or at least so many."""
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        raise TypeError(f"{function}: {name} is a {type(value).__name__}, must be an array")
    value = jnp.asarray(value)
    if value.ndim != dimensions and not (at_least and value.ndim > dimensions):
        words = f"{'at least ' if at_least else ''}{dimensions} dimension{'' if dimensions == 1 else 's'}"
        raise ValueError(f"{function}: {name} has the shape {value.shape}, must have {words}")
    return value


def require_dtype(function: str, name: str, value: jax.Array, allowed: tuple) -> None:
    if not any(value.dtype == dtype for dtype in allowed):
        words = ", ".join(jnp.dtype(dtype).name for dtype in allowed)
        raise TypeError(f"{function}: {name} holds {value.dtype}, must hold one of {words}")


def require_parameter(function: str, name: str, value, dimensions: int, like: jax.Array, of: str) -> jax.Array:
    """An array of the type that `like` is computed in. 16-bit numbers become that type; nothing else is converted."""
    value = require_array(function, name, value, dimensions)
    wanted = accumulator_dtype(like.dtype)
    if accumulator_dtype(value.dtype) != wanted:
        raise TypeError(f"{function}: {name} holds {value.dtype}, must hold {wanted} beside {of} of {like.dtype}")
    return value.astype(wanted)


def require_size(function: str, what: str, got: int, expected: int) -> None:
    if got != expected:
        raise ValueError(f"{function}: {what} is {got}, must be {expected}")
