# SPDX-License-Identifier: BSD-3-Clause
"""torch.ops.hoft: the library beside this file, which installing the package compiles, or, in a checkout of hoft that is
used without installing, one that is compiled on first use."""

import importlib.util
import pathlib
import types
from typing import Any

import torch

HERE = pathlib.Path(__file__).resolve().parent
INSTALLED = HERE / "_C.so"
TOOLCHAIN = HERE.parent / "build_backend/toolchain.py"

AGAIN = "pip install --force-reinstall --no-deps --no-cache-dir, from a checkout of hoft, the folder examples/pytorch"


def _toolchain() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("hoft_toolchain", TOOLCHAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load() -> Any:
    """torch.ops.hoft, for every device that this machine has.

    Raises:
        ImportError: there is no library that this PyTorch can load.
    """
    if INSTALLED.is_file():
        library = INSTALLED
    elif TOOLCHAIN.is_file():
        library = _toolchain().build_once(torch.cuda.is_available())
    else:
        raise ImportError(f"hoft_torch: its compiled operators, {INSTALLED}, are not there. Install it again: {AGAIN}")
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise ImportError(
            f"hoft_torch: PyTorch {torch.__version__} cannot load {library}, which was compiled for another one. Install it"
            f" again: {AGAIN}. The loader says: {error}"
        ) from error
    return torch.ops.hoft
