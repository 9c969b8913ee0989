#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Usage: dlpack_judges.py <library made from tensors.cpp>
NumPy's tensors (and PyTorch's in bfloat16, where it is installed) as hoft's views, and hoft's as NumPy's arrays. Which
strides are a layout is judged from NumPy's own strides, and elements are compared bit by bit. NumPy 2 also exchanges
versioned tensors, which say whether they may be written to."""

import ctypes
import gc
import itertools
import random
import sys

import numpy as np

hoft = ctypes.CDLL(sys.argv[1])
hoft.make_matrix.restype = ctypes.c_void_p
capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
capsule_pointer.restype, capsule_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype, new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

PLAIN, VERSIONED, READ_ONLY = 0, 1, 2  # how tensors are handed over
KINDS = (PLAIN, VERSIONED, READ_ONLY) if np.lib.NumpyVersion(np.__version__) >= "2.1.0" else (PLAIN,)
CAPSULES = {PLAIN: b"dltensor", VERSIONED: b"dltensor_versioned", READ_ONLY: b"dltensor_versioned"}
TYPES = ["float32", "float64", "complex64", "complex128", "float16"]


def read(capsule, kind, shape, col, dtype, how=PLAIN):
    """Elements through hoft's view, or the message of its refusal. Asked for VERSIONED, it must be writable."""
    to = np.zeros(shape, dtype)
    message = ctypes.create_string_buffer(1000)
    tensor = ctypes.c_void_p(capsule_pointer(capsule, CAPSULES[how]))
    buffer = to.ctypes.data_as(ctypes.c_void_p)
    if len(shape) == 1:
        hoft.read_vector(tensor, how, kind.encode(), buffer, message, ctypes.c_size_t(1000))
    else:
        hoft.read_matrix(tensor, how, kind.encode(), int(col), buffer, message, ctypes.c_size_t(1000))
    return to, message.value.decode()


def is_layout(a, col):
    """Unit inner stride and an outer one that holds the inner extent, where a dimension has more than one element."""
    inner, outer = (0, 1) if col else (1, 0)
    size = a.itemsize
    if a.size == 0:
        return True
    return (a.shape[inner] == 1 or a.strides[inner] == size) and (
        a.shape[outer] == 1 or a.strides[outer] >= size * a.shape[inner])


def numbers(shape, kind):
    bits = np.random.default_rng(7).integers(0, 256, (*shape[:-1], shape[-1] * np.dtype(kind).itemsize), np.uint8)
    return bits.view(kind)


def random_slices(source):
    """Every kind of slice: padded, reversed, with steps, of one element and of none."""
    def part(n):
        if random.random() < 0.1:
            return slice(None, None, -1)
        start = random.randrange(n)
        return slice(start, random.choice([start, start + 1, n, n]), random.choice([1, 1, 1, 2]))
    a = source[part(source.shape[0]), part(source.shape[1])]
    return a.T if random.random() < 0.5 else a


def numpy_to_hoft():
    accepted = refused = 0
    for kind in TYPES:
        base = numbers((7, 9), kind)
        overlapping = np.lib.stride_tricks.as_strided(base, (3, 4), (2 * base.itemsize, base.itemsize))
        broadcast = np.lib.stride_tricks.as_strided(base, (3, 4), (0, base.itemsize))
        for a in [base, base.T, overlapping, broadcast] + [random_slices(base) for _ in range(150)]:
            for col in (False, True):
                got, message = read(a.__dlpack__(), kind, a.shape, col, kind)
                if is_layout(a, col):
                    assert message == "", f"{kind} {a.shape} {a.strides}, col {col}: {message}"
                    assert got.tobytes() == np.ascontiguousarray(a).tobytes(), f"{kind} {a.shape} {a.strides}"
                    accepted += 1
                else:
                    assert "hoft::dlpack::as_matrix: tensor.strides" in message, f"{kind} {a.strides}: '{message}'"
                    refused += 1
        for a in [base[2], base[2, 1:5], base[:1, 3], base[0, :0]]:
            got, message = read(a.__dlpack__(), kind, a.shape, False, kind)
            assert message == "" and got.tobytes() == a.tobytes(), message
        for a in [base[:, 0], base[0, ::-1]]:
            assert "strides[0]" in read(a.__dlpack__(), kind, a.shape, False, kind)[1]
        for a, other in itertools.product([base.reshape(7, 3, 3)], TYPES):
            assert (".ndim is 3" if other == kind else ".dtype") in read(a.__dlpack__(), other, a.shape, False, kind)[1]
        # An array of integers and one of no dimension are no matrices either.
        assert ".dtype is int32" in read(np.zeros((2, 2), np.int32).__dlpack__(), kind, (2, 2), False, kind)[1]
    return accepted, refused


def versioned_to_hoft():
    """Writable and read-only arrays, as tensors that say which they are."""
    count = 0
    for kind, writable in itertools.product(TYPES, (True, False)):
        a = numbers((5, 4), kind)
        a.flags.writeable = writable
        for how in (VERSIONED, READ_ONLY):
            got, message = read(a.__dlpack__(max_version=(1, 0)), kind, a.shape, False, kind, how)
            assert got.tobytes() == a.tobytes(), message
            assert ("read-only" in message) == (how == VERSIONED and not writable), message
            assert read(a[2].__dlpack__(max_version=(1, 0)), kind, (4,), False, kind, how)[0].tobytes() == a[2].tobytes()
            count += 1
        assert "strides" in read(a[:, ::2].__dlpack__(max_version=(1, 0)), kind, (5, 2), False, kind, READ_ONLY)[1]
    return count


class Handed:
    """What numpy.from_dlpack takes: an object that gives a capsule."""

    def __init__(self, tensor, how):
        self.tensor, self.how = tensor, how

    def __dlpack__(self, max_version=None, **_):
        assert self.how == PLAIN or max_version >= (1, 0)
        return new_capsule(self.tensor, CAPSULES[self.how], None)

    def __dlpack_device__(self):
        return (1, 0)


def hoft_to_numpy():
    count = 0
    for how, kind, col, padding in itertools.product(KINDS, TYPES, (False, True), (0, 3)):
        for shape in [(5, 4), (1, 4), (5, 1), (1, 1), (0, 3), (3, 0)]:
            a = numbers(shape, kind)
            tensor = hoft.make_matrix(how, kind.encode(), int(col), ctypes.c_long(shape[0]), ctypes.c_long(shape[1]),
                                      ctypes.c_long(padding), a.ctypes.data_as(ctypes.c_void_p))
            assert hoft.matrices_alive() == 1
            b = np.from_dlpack(Handed(tensor, how))
            assert b.shape == shape and b.dtype == a.dtype and is_layout(b, col)
            assert np.ascontiguousarray(b).tobytes() == a.tobytes(), f"{kind} {shape} col {col}"
            # Plain tensors say nothing (NumPy 2 writes to no array of one), and empty ones have no memory.
            if how != PLAIN and a.size > 0:
                assert b.flags.writeable == (how == VERSIONED), f"{kind} {shape}, handed over in way {how}"
            if how == VERSIONED:
                b[...] = 1
                assert (b == 1).all()
            part = b[1:]
            del b
            gc.collect()
            assert hoft.matrices_alive() == 1, "the array's memory went before the array"
            del part
            gc.collect()
            assert hoft.matrices_alive() == 0, "the array went before its memory"
            count += 1
    return count


def torch_to_hoft():
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    base = torch.arange(-30, 33).reshape(7, 9).to(torch.bfloat16) / 7
    for a in [base, base.T, base[1:4, 2:5], base[1:4, 2:5].T]:
        col = a.stride(1) != 1
        got, message = read(torch.utils.dlpack.to_dlpack(a), "bfloat16", a.shape, col, np.uint16)
        assert message == "", message
        assert (got == a.contiguous().view(torch.int16).numpy().view(np.uint16)).all()
        assert "strides" in read(torch.utils.dlpack.to_dlpack(a), "bfloat16", a.shape, not col, np.uint16)[1]
    assert "bfloat16" in read(torch.utils.dlpack.to_dlpack(base), "float16", base.shape, False, np.uint16)[1]
    return "PyTorch's bfloat16 agrees"


random.seed(1)
taken, turned_away = numpy_to_hoft()
assert taken > 1000 and turned_away > 50, (taken, turned_away)
said = versioned_to_hoft() if VERSIONED in KINDS else 0
print(f"NumPy {np.__version__}: {said} versioned tensors, {taken} of NumPy's matrices taken, {turned_away} refused; {hoft_to_numpy()} of hoft's taken by NumPy; "
      f"{torch_to_hoft()}")
