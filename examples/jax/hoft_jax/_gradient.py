# SPDX-License-Identifier: BSD-3-Clause
"""Gives a pair of calls, forward and backward, to jax's differentiation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def with_gradient(forward: Callable, backward: Callable, plain: Callable) -> Callable:
    """y = f(*arguments) with the gradient that hoft computes.

    forward(*arguments) -> (y, saved); backward(arguments, saved, dy) -> the gradients, one for each argument, in jax's
    convention for complex numbers; plain(*arguments) -> y in jax's own operations. Second and higher derivatives, by
    either mode, are those of `plain`. Forward mode on f itself is refused by jax.custom_vjp.
    """

    @jax.custom_jvp
    def first(*arguments):
        return forward(*arguments)

    @first.defjvp
    def _(arguments, tangents):
        y, saved = first(*arguments)
        dy = jax.jvp(plain, arguments, tangents)[1]
        # What is saved depends on the arguments, and `second` differentiates with respect to these.
        return (y, saved), (dy, jax.tree.map(jnp.zeros_like, saved))

    @jax.custom_jvp
    def second(arguments, saved, dy):
        return backward(arguments, saved, dy)

    @second.defjvp
    def _(primals, tangents):
        arguments, _, dy = primals
        argument_tangents, _, dy_tangent = tangents
        gradient = lambda arguments, dy: jax.vjp(plain, *arguments)[1](dy)
        return second(*primals), jax.jvp(gradient, (arguments, dy), (argument_tangents, dy_tangent))[1]

    @jax.custom_vjp
    def f(*arguments):
        return first(*arguments)[0]

    def f_forward(*arguments):
        y, saved = first(*arguments)
        return y, (arguments, saved)

    f.defvjp(f_forward, lambda residuals, dy: second(*residuals, dy))
    return f
