# SPDX-License-Identifier: BSD-3-Clause
"""Compiles torch.ops.hoft for the PyTorch of this Python: for a wheel, or for a checkout that is used without one.

Environment:
    HOFT_TORCH_CXXFLAGS  replaces -O3 -march=native
    HOFT_INCLUDE_DIR     where hoft/hoft.hpp is, if neither beside this package nor installed
    EIGEN_INCLUDE_DIR    where Eigen/Core is, if not where Debian has it
    HOFT_TORCH_CACHE     a folder where compiled libraries stay and are found again; without it the build folder
    CXX                  the compiler (c++); of a C compiler its twin for C++ is taken
    MAX_JOBS             how many compilers run at once (2)
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from typing import Dict, Iterator, List

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
SOURCES = PACKAGE / "hoft_torch/csrc"
CHECKOUT = PACKAGE.parents[1]  # of hoft, if this is one

# PyTorch hides the conversions of CUDA's 16-bit types; hoft computes with them.
SHOWN = ["-U__CUDA_NO_HALF_CONVERSIONS__", "-U__CUDA_NO_BFLOAT16_CONVERSIONS__"]


class BuildError(RuntimeError):
    """What is missing, and what to do about it."""


def compiler() -> str:
    """The C++ compiler, as a path without links, so that all its names are one."""
    asked = os.environ.get("CXX", "c++")
    name = re.sub(r"(^|[-/])gcc(?=$|-)", r"\1g++", asked)  # what compiles C links no C++
    name = re.sub(r"(^|[-/])clang(?=$|-\d)", r"\1clang++", name)
    name = re.sub(r"(^|/)cc$", r"\1c++", name)
    found = shutil.which(name)
    if found is None:
        raise BuildError(
            f"hoft_torch: there is no C++ compiler {name!r}. Install one (Debian: apt install g++), or name it in CXX"
        )
    return os.path.realpath(found)


def flags() -> List[str]:
    return shlex.split(os.environ.get("HOFT_TORCH_CXXFLAGS", "-O3 -march=native"))


def hoft_headers() -> pathlib.Path:
    """Named, packed beside this package, of the checkout, or installed."""
    named = os.environ.get("HOFT_INCLUDE_DIR")
    prefixes = [*filter(None, os.environ.get("CMAKE_PREFIX_PATH", "").replace(":", ";").split(";"))]
    prefixes += [sys.prefix, str(pathlib.Path.home() / ".local"), "/usr/local", "/usr"]
    places = [named] if named else [PACKAGE / "include", CHECKOUT / "include", *(f"{p}/include" for p in prefixes)]
    for place in places:
        if (pathlib.Path(place) / "hoft/hoft.hpp").is_file():
            return pathlib.Path(place).resolve()
    raise BuildError(
        f"hoft_torch: no hoft/hoft.hpp in {', '.join(map(str, places))}. Build from a checkout of hoft, install hoft's"
        " headers (README.md), or name their folder in HOFT_INCLUDE_DIR"
    )


def eigen_headers() -> pathlib.Path:
    named = os.environ.get("EIGEN_INCLUDE_DIR")
    places = [named] if named else ["/usr/include/eigen3", "/usr/local/include/eigen3", f"{sys.prefix}/include/eigen3"]
    for place in places:
        if (pathlib.Path(place) / "Eigen/Core").is_file():
            return pathlib.Path(place).resolve()
    raise BuildError(
        f"hoft_torch: no Eigen/Core in {', '.join(map(str, places))}. Install Eigen 3.4 (Debian: apt install"
        " libeigen3-dev), or name its folder in EIGEN_INCLUDE_DIR"
    )


def version() -> str:
    """hoft's own."""
    text = (hoft_headers() / "hoft/version.hpp").read_text()
    return ".".join(re.search(rf"HOFT_VERSION_{part} (\d+)", text).group(1) for part in ("MAJOR", "MINOR", "PATCH"))


def check() -> None:
    """BuildError for whatever is missing, before minutes are spent."""
    cxx, includes = compiler(), [hoft_headers(), eigen_headers()]
    program = "#include <Eigen/Core>\n#include <concepts>\n#include <hoft/version.hpp>\nstatic_assert(std::integral<int>);\n"
    command = [cxx, "-std=c++20", *flags(), "-fsyntax-only", "-x", "c++", "-", *(f"-I{folder}" for folder in includes)]
    run = subprocess.run(command, input=program, capture_output=True, text=True)
    if run.returncode != 0:
        raise BuildError(
            f"hoft_torch: {cxx} does not compile C++20 with {shlex.join(flags())}: it takes g++ 12, clang 14 or newer."
            f" Name another in CXX. It says:\n{run.stderr}"
        )


def key(cuda: bool) -> str:
    """A name that is new whenever what is compiled, how, or for what, is: this file, compiler, flags, sources, headers and
    PyTorch."""
    import torch

    said = subprocess.run([compiler(), "--version"], capture_output=True, text=True).stdout
    hashed = hashlib.sha256(json.dumps([compiler(), said, flags(), str(eigen_headers()), torch.version.git_version]).encode())
    hashed.update(pathlib.Path(__file__).read_bytes())
    if cuda:
        hashed.update(json.dumps([torch.version.cuda, os.environ.get("TORCH_CUDA_ARCH_LIST")]).encode())
    for folder in (hoft_headers() / "hoft", SOURCES):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                hashed.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return f"{torch.__version__}-{'cuda' if cuda else 'cpu'}-{hashed.hexdigest()[:16]}"


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[None]:
    """One process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cache() -> pathlib.Path:
    """Where compiled libraries stay: named, or below the checkout or the source package."""
    named = os.environ.get("HOFT_TORCH_CACHE")
    if named:
        return pathlib.Path(named).resolve()
    return (CHECKOUT if PACKAGE == CHECKOUT / "examples/pytorch" else PACKAGE) / "build/pytorch"


def build_once(cuda: bool, verbose: bool = False) -> pathlib.Path:
    """The library in the cache, compiled if that has not been done for the same `key`."""
    folder = cache() / key(cuda)
    library = folder / "hoft_torch.so"
    if not library.is_file():
        with alone(folder):
            if not library.is_file():
                print("hoft_torch: compiling its operators, two minutes of processor time for two compilers, once (MAX_JOBS=1: one at a time)", file=sys.stderr)
                build(library, cuda, verbose)
    return library


def build(library: pathlib.Path, cuda: bool, verbose: bool = False) -> None:
    """Compiles torch.ops.hoft into the file `library`. In a process of its own, which loads what it has compiled."""
    check()
    with tempfile.TemporaryDirectory(prefix="hoft_torch-") as scratch:
        environment: Dict[str, str] = {"MAX_JOBS": "2", **os.environ, "CXX": compiler()}
        # -I and a path that is handed over: pip's environment for builds would take PyTorch out of PYTHONPATH.
        wanted = {"path": sys.path, "folder": scratch, "cuda": cuda, "verbose": verbose}
        command = [sys.executable, "-I", __file__, json.dumps(wanted)]
        run = subprocess.run(command, env=environment, stdout=None if verbose else subprocess.PIPE, stderr=subprocess.STDOUT)
        made = pathlib.Path(scratch) / "hoft_torch.so"
        if run.returncode != 0 or not made.is_file():
            said = (run.stdout or b"").decode(errors="replace")
            raise BuildError(f"hoft_torch: its operators do not compile with {compiler()}:\n{said[-8000:]}")
        library.parent.mkdir(parents=True, exist_ok=True)
        part = library.with_name(f"{library.name}.{os.getpid()}")
        shutil.copyfile(made, part)
        os.replace(part, library)  # all of it or nothing, whoever looks


def quoted(flag: str) -> str:
    """As a shell takes it, behind ninja."""
    return shlex.quote(flag).replace("$", "$$")


def compile_here(folder: str, cuda: bool, verbose: bool) -> None:
    import torch.utils.cpp_extension

    sources = ["cpu.cpp", "cpu_linalg.cpp"] + cuda * ["cuda.cu"]
    # Not as include paths of torch's, which are not quoted in all its versions.
    includes = [quoted(f"-I{folder}") for folder in (hoft_headers(), eigen_headers())]
    torch.utils.cpp_extension.load(
        name="hoft_torch",
        sources=[str(SOURCES / source) for source in sources],
        # Without OpenMP at::parallel_for, a template, uses one thread. Linking with it would bring a second runtime
        # beside PyTorch's.
        extra_cflags=["-std=c++20", "-fopenmp", *includes, *map(quoted, flags())],
        extra_cuda_cflags=["-std=c++20", "-O3", "--extended-lambda", "--expt-relaxed-constexpr", *SHOWN, *includes],
        build_directory=folder,
        with_cuda=cuda,
        is_python_module=False,
        verbose=verbose,
    )


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    sys.path[:] = given.pop("path")
    compile_here(**given)
