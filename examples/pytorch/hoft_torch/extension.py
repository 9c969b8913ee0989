"""The operators torch.ops.hoft.*, compiled on first use for the PyTorch of this Python."""

import functools
import os
import pathlib
import shlex

import torch
import torch.utils.cpp_extension

ROOT = pathlib.Path(__file__).resolve().parents[3]  # of hoft
SOURCES = pathlib.Path(__file__).resolve().parent / "csrc"

# PyTorch hides the conversions of CUDA's 16-bit types; hoft computes with them.
SHOWN = ["-U__CUDA_NO_HALF_CONVERSIONS__", "-U__CUDA_NO_BFLOAT16_CONVERSIONS__"]


@functools.lru_cache(maxsize=None)
def build(cuda, verbose=False):
    """torch.ops.hoft for the CPU, and for CUDA if wanted. HOFT_TORCH_CXXFLAGS replaces the optimisation for this
    machine, EIGEN_INCLUDE_DIR says where Eigen is, MAX_JOBS how many compilers run at once (2)."""
    flags = shlex.split(os.environ.get("HOFT_TORCH_CXXFLAGS", "-O3 -march=native"))
    name = "hoft_cuda" if cuda else "hoft_cpu"
    folder = ROOT / "build/pytorch" / f"{torch.__version__}_{name}{''.join(flags)}"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MAX_JOBS", "2")
    torch.utils.cpp_extension.load(
        name=name,
        sources=[str(SOURCES / source) for source in ["cpu.cpp", "cpu_linalg.cpp"] + cuda * ["cuda.cu"]],
        extra_include_paths=[str(ROOT / "include"), os.environ.get("EIGEN_INCLUDE_DIR", "/usr/include/eigen3")],
        # Without OpenMP at::parallel_for, a template, uses one thread. Linking with it would bring a second runtime
        # beside PyTorch's.
        extra_cflags=["-std=c++20", "-fopenmp", *flags],
        extra_cuda_cflags=["-std=c++20", "-O3", "--extended-lambda", "--expt-relaxed-constexpr", *SHOWN],
        build_directory=str(folder),
        with_cuda=cuda,
        is_python_module=False,
        verbose=verbose,
    )
    return torch.ops.hoft


def operators():
    """torch.ops.hoft for every device that this machine has."""
    return build(cuda=torch.cuda.is_available())
