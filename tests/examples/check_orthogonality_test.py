#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Usage: check_orthogonality_test.py <check_orthogonality>
The program's numbers against NumPy's, for every type, order and version of .npy files, and its messages for files that
are none. It reads nothing that NumPy would not."""

import io
import json
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np

program = sys.argv[1]
folder = tempfile.TemporaryDirectory()
rng = np.random.default_rng(5)
eps = np.finfo(float).eps


def path(name):
    return os.path.join(folder.name, name)


def run(*arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def measured(*arguments):
    done = run(*arguments, "--json")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout), done.returncode


def saved(name, a, version=(1, 0)):
    with open(path(name), "wb") as file:
        np.lib.format.write_array(file, a, version=version)
    return path(name)


def close(got, expected, bound, what):
    assert abs(got - expected) <= bound, f"{what}: {got}, NumPy says {expected}, allowed {bound}"


def energy(a):
    """Over ordered pairs of columns."""
    a = a / np.linalg.norm(a, axis=0)
    return sum(1 / np.linalg.norm(a[:, i] - a[:, j]) for i in range(a.shape[1]) for j in range(a.shape[1]) if i != j)


def agrees(a, got, rows=False):
    a = a.astype(float)
    a = a.T if rows else a
    m, n = a.shape
    assert (got["rows"], got["cols"], got["transposed"]) == (m, n, rows)
    sigma = np.linalg.svd(a, compute_uv=False)
    gram = a.T @ a
    # A Gram element is off by m ε |a_i| |a_j|, on both sides.
    assert got["determinant_sign"] == (None if m != n else int(np.linalg.slogdet(a)[0]))
    close(got["orthogonality_error"], np.linalg.norm(np.eye(n) - gram) / np.sqrt(n),
          2 * m * eps * np.linalg.norm(a) ** 2 / np.sqrt(n), "orthogonality error")
    # σ_i are off by n ε σ_1.
    condition = sigma[0] / sigma[-1]
    close(got["condition"], condition, 4 * max(m, n) * eps * condition**2, "condition")


def numbers_agree():
    orthogonal = [np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (1, 7, 8, 30)]
    mirrored = orthogonal[3].copy()
    mirrored[:, 0] *= -1  # of both signs one is positive
    tall, wide = rng.standard_normal((20, 6)), rng.standard_normal((5, 9))
    count = 0
    for a in [*orthogonal, mirrored, orthogonal[3][:, :11], tall, wide, 1e60 * rng.standard_normal((7, 7))]:
        for dtype in ["f2", "f4", "f8"]:
            if a.max() > 1e9 and dtype != "f8":
                continue
            for order, version, rows in [("C", 1, False), ("C", 1, True), ("F", 1, False), ("C", 2, False), ("F", 3, False)]:
                b = np.array(a, dtype, order=order)
                got, status = measured(saved("a.npy", b, (version, 0)), *(["--rows"] if rows else []))
                assert status == 0 and got["type"] == b.dtype.name
                agrees(b, got, rows)
                count += 1
    return count


def changes_agree():
    w = rng.standard_normal((12, 8))
    turned, other = np.linalg.qr(rng.standard_normal((12, 12)))[0] @ w, w + 0.1 * rng.standard_normal(w.shape)
    for after in (turned, other):
        for rows in (False, True):
            b, a = (x.T if rows else x for x in (w, after))
            got, _ = measured(saved("after.npy", after), "--before", saved("w.npy", w), *(["--rows"] if rows else []))
            s = np.linalg.svd(b, compute_uv=False)
            drift = np.max(np.abs(s - np.linalg.svd(a, compute_uv=False))) / s[0]
            close(got["singular_value_drift"], drift, 100 * eps, "drift")
            close(got["hyperspherical_energy_change"], energy(a) - energy(b), 1e4 * eps * energy(b), "energy")
    assert got["singular_value_drift"] > 1e-3  # the last was no rotation


def statuses():
    q = saved("q.npy", np.linalg.qr(rng.standard_normal((9, 9)))[0].astype("f4"))
    off = saved("off.npy", 1.01 * np.eye(9))  # error 0.0201
    eye = saved("eye.npy", np.eye(9))
    nan = saved("nan.npy", np.full((9, 9), np.nan))
    zero = saved("zero.npy", np.zeros((3, 3)))
    for arguments, status in [([q, "--tolerance", "1.2e-7"], 0), ([q, "--tolerance", "0"], 1), ([off], 0),
                              ([off, "--tolerance", "0.0202"], 0), ([off, "--tolerance", "0.0200"], 1),
                              ([eye, "--tolerance", "0"], 0), ([nan], 0), ([nan, "--tolerance", "1e300"], 1),
                              ([off, "--before", eye, "--drift-tolerance", "0.0101"], 0),
                              ([off, "--before", eye, "--drift-tolerance", "0.0099"], 1),
                              ([nan, "--before", eye, "--drift-tolerance", "1e300"], 1)]:
        done, (got, json_status) = run(*arguments), measured(*arguments)
        assert done.returncode == json_status == status, f"{arguments}: {done.returncode}, {json_status}"
        assert ("beyond the tolerance" in done.stdout) == (status == 1), done.stdout
        assert got["within_tolerance"] == (status == 0)
    assert measured(nan)[0]["determinant_sign"] is None and measured(nan)[0]["orthogonality_error"] is None
    assert measured(zero)[0]["determinant_sign"] == 0 and measured(zero)[0]["condition"] is None
    infinite = saved("infinite.npy", np.full((9, 9), np.inf))
    for arguments in ([infinite], [infinite, "--before", eye]):
        assert "orthogonality error  nan" in run(*arguments).stdout, run(*arguments).stdout
    assert run(infinite, "--tolerance", "inf").returncode == 1
    for singular in (zero, saved("flat.npy", np.diag([1.0, 0.0]))):
        assert "condition number     inf\n" in run(singular).stdout, run(singular).stdout
    assert "condition number     nan\n" in run(nan).stdout, run(nan).stdout
    assert "+1" in run(eye).stdout and "singular to rounding" in run(zero).stdout
    wide = saved("wide.npy", np.eye(3)[:2])
    assert "3 columns of length 2 cannot be orthonormal: try --rows" in run(wide).stdout, run(wide).stdout
    assert "cannot be orthonormal" not in run(wide, "--rows").stdout + run(eye).stdout
    # What the command line or a pair of files cannot mean.
    for option in (["--tolerance"], ["--before", eye, "--drift-tolerance"]):
        for value in ("-1", "nan", "-nan", "-inf", "1x", ""):
            done = run(off, *option, value)
            assert done.returncode == 2 and option[-1] in done.stderr and done.stdout == "", (value, done.stderr)
        assert run(off, *option, "inf").returncode == 0
    for arguments, text in [([], "file is required"), ([eye, "--tolerance", "-1"], "--tolerance: '-1' is no number"),
                            ([eye, "--drift-tolerance", "1"], "--drift-tolerance requires --before"),
                            ([eye, "--before", zero], "they must have one shape"),
                            ([path("missing.npy")], "missing.npy: cannot be opened: No such file"),
                            ([folder.name], "is a directory"), ([saved("none.npy", np.zeros((0, 3)))], "no elements")]:
        done = run(*arguments)
        assert done.returncode == 2 and text in done.stderr and done.stdout == "", (arguments, done.stderr)


def header(text, version=1, length=None):
    length = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + length.to_bytes(2 if version == 1 else 4, "little") + text


def dictionary(descr="'<f8'", order="False", shape="(2, 2)", rest=""):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {rest}}}\n".encode()


def malformed():
    data = bytes(32)
    good = header(dictionary()) + data
    written = io.BytesIO()
    np.save(written, np.zeros(3, dtype=[("a", "f4"), ("b", "f8")]))
    array = io.BytesIO()
    np.save(array, np.eye(2) * 1j)
    cases = [
        (b"", "its start should have 8 bytes and has 0"),
        (b"PK\3\4 no array at all", "is no .npy file"),
        (good[:7], "its start should have 8 bytes and has 7"),
        (good[:9], "its header's length should have 2 bytes and has 1"),
        (good[:40], "its header should have"),
        (good[:-1], "its elements should have 32 bytes and has 31"),
        (good + b"\0", "goes on behind its last element"),
        (good.replace(b"NUMPY\x01", b"NUMPY\x04"), "has version 4.0"),
        (good.replace(b"NUMPY\x01\x00", b"NUMPY\x01\x07"), "has version 1.7"),
        (header(dictionary(), 2, 2**32 - 1) + data, "a header of 4294967295 bytes"),
        (header(dictionary("'>f8'")) + data, "elements of type '>f8'"),
        (header(dictionary("'<i8'")) + data, "elements of type '<i8'"),
        (header(dictionary("'|V2'")) + data, "elements of type '|V2'"),
        (header(dictionary("'<f16'")) + data, "elements of type '<f16'"),
        (array.getvalue(), "elements of type '<c16'"),
        (written.getvalue(), "holds records"),
        (header(dictionary(shape="()")) + data[:8], "has 0 dimensions"),
        (header(dictionary(shape="(4,)")) + data, "has 1 dimension;"),
        (header(dictionary(shape="(1, 2, 2)")) + data, "has 3 dimensions"),
        (header(dictionary(shape="(-2, 2)")) + data, "a negative extent"),
        (header(dictionary(shape="(2, 99999999999999999999)")) + data, "an extent that no memory can hold"),
        (header(dictionary(shape="(4294967296, 4294967296)")) + data, "more than memory can hold"),
        (header(dictionary(shape="(1000000000, 1000000000)")) + data, "should have 8000000000000000000 bytes and has 32"),
        (header(dictionary(shape="(2 2)")) + data, "not understood"),
        (header(dictionary(shape="(02, 2)")) + data, "not understood"),
        (header(dictionary(shape="(2, 2")) + data, "not understood"),
        (header(dictionary(shape="(2, x)")) + data, "not understood"),
        (header(dictionary(shape="[2, 2]")) + data, "not understood"),
        (header(dictionary(shape="(,)")) + data, "not understood"),
        (header(dictionary(order="Maybe")) + data, "not understood"),
        (header(dictionary(rest="'more': 1")) + data, "not understood"),
        (header(dictionary(rest="'shape': (2, 2)")) + data, "the same key twice"),
        (header(dictionary(descr="'\x1b[31m'")) + data, "not understood"),
        (header(dictionary(descr="'<f8")) + data, "not understood"),
        (header(dictionary(descr=f"'{'f' * 60}'")) + data, "not understood"),
        (header(b"{'descr': '<f8', 'fortran_order': False}\n") + data, "not understood"),
        (header(dictionary() + b"import os") + data, "not understood"),
        (header(b"") + data, "not understood"),
    ]
    for content, text in cases:
        with open(path("bad.npy"), "wb") as file:
            file.write(content)
        done = run(path("bad.npy"))
        assert done.returncode == 2 and text in done.stderr and "bad.npy: " in done.stderr, (content[:90], done.stderr)
        assert done.stdout == "" and "\x1b" not in done.stderr
        if text in ("a negative extent", "the same key twice"):
            continue  # NumPy takes these for something
        with open(path("bad.npy"), "rb") as file:
            try:
                a = np.lib.format.read_array(file)
                read = file.read() == b"" and a.dtype in (np.float16, np.float32, np.float64) and a.ndim == 2
            except Exception:  # what NumPy raises is not documented
                read = False
        assert not read, f"NumPy reads this as a matrix: {content[:90]}"
    return len(cases)


def read_by_numpy(content):
    """The matrix of floating-point numbers in native order that NumPy finds in the file, or none."""
    with open(path("form.npy"), "wb") as file:
        file.write(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python 2's numbers
            a = np.load(path("form.npy"))
    except Exception:  # what NumPy raises is not documented
        return None
    return a if a.dtype in (np.float16, np.float32, np.float64) and a.dtype.isnative and a.ndim == 2 else None


def forms():
    """Every way to write a type or an extent: what NumPy reads is read, with the same elements, and nothing else."""
    names = ["f2", "f4", "f8", "e", "f", "d", "float16", "float32", "float64", "half", "single", "double", "float"]
    others = ["g", "f16", "i8", "Float64", "c8", "d8", ""]
    extents = ["(2L, 2L)", "(2L,2)", "(2 L, 2)", "(2l, 2)", "(2LL, 2)", "(L, 2)", "(2, 2)L", "(2L)"]
    headers = [(dictionary(f"'{order}{name}'"), 1) for order in ["", "<", ">", "=", "|", "!"] for name in names + others]
    headers += [(dictionary(shape=shape), version) for shape in extents for version in (1, 2, 3)]
    headers += [(dictionary(shape="(2,2,)"), 1), (dictionary("u'<f8'").replace(b"'shape'", b"u'shape'"), 1),
                (dictionary("u '<f8'"), 1),
                (b"  { 'shape':(2,2) ,\"fortran_order\":True, 'descr' : \"<f8\"}  \n", 1)]
    known = 0
    for text, version in headers:
        a = read_by_numpy(header(text, version) + bytes(32))
        content = header(text, version) + (3 * np.eye(2)).astype(a.dtype if a is not None else "f8").tobytes()
        a = read_by_numpy(content)
        done = run(path("form.npy"), "--json")
        if a is None:
            assert done.returncode == 2 and "form.npy: " in done.stderr, (text, version, done.stdout)
        else:
            assert done.returncode == 0, f"NumPy reads this, version {version}: {text}: {done.stderr}"
            assert json.loads(done.stdout)["type"] == a.dtype.name and (a == 3 * np.eye(2)).all()
            assert json.loads(done.stdout)["orthogonality_error"] == 8
            known += 1
    assert known > 35, known
    return known


agreed = numbers_agree()
changes_agree()
statuses()
print(f"{agreed} matrices as NumPy sees them, {forms()} headers as NumPy reads them, "
      f"{malformed()} malformed files refused")
