# SPDX-License-Identifier: BSD-3-Clause
"""Loads the compiled calls and tells XLA of them."""

import ctypes
import functools
import os
import pathlib

import jax
import jax.ffi

TARGETS = (
    "hoft_jax_accumulate",
    "hoft_jax_apply",
    "hoft_jax_apply_backward",
    "hoft_jax_materialize",
    "hoft_jax_materialize_backward",
    "hoft_jax_adapt",
    "hoft_jax_adapt_backward",
    "hoft_jax_finish",
)


def library_path() -> pathlib.Path:
    """HOFT_JAX_LIBRARY, or where run.sh builds it."""
    built = pathlib.Path(__file__).resolve().parents[3] / "build" / "jax" / "libhoft_jax.so"
    return pathlib.Path(os.environ.get("HOFT_JAX_LIBRARY", built))


@functools.cache
def load() -> None:
    """Registers every call once, for the CPU.

    Raises ImportError, which says what to do, where the library is not built.
    """
    path = library_path()
    if not path.exists():
        raise ImportError(
            f"hoft_jax: {path} is not there: build it by `bash examples/jax/run.sh --build`, or say in HOFT_JAX_LIBRARY "
            "where it is"
        )
    library = ctypes.CDLL(str(path))
    for target in TARGETS:
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, target)), platform="cpu")


def call(
    target: str,
    results: tuple[jax.ShapeDtypeStruct, ...],
    *arguments: jax.Array,
    in_place: dict[int, int] | None = None,
    **attributes,
) -> tuple:
    """The results of one call. Under jax.vmap it stays one call, whose leading extents are the batch.

    in_place: which argument's memory, where nobody else needs it, becomes which result's. Both must be mapped over or
    neither.
    """
    load()
    function = jax.ffi.ffi_call(target, results, vmap_method="expand_dims", input_output_aliases=in_place)
    return function(*arguments, **attributes)
