# SPDX-License-Identifier: BSD-3-Clause
"""setuptools' build hooks, for the PyTorch of the environment that the package is installed into.

pip builds in an environment of its own, and would fill that with another PyTorch, for which the operators would then
be compiled. So PyTorch is no requirement of the build: it is looked for where the package goes.
"""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from typing import Any, List

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import toolchain  # noqa: E402


def _find_torch() -> None:
    """Puts the PyTorch outside of pip's environment behind what is in that."""
    if importlib.util.find_spec("torch") is None:
        look = "import importlib.util, json, sys; print(json.dumps([bool(importlib.util.find_spec('torch')), sys.path]))"
        # -I leaves out PYTHONPATH, by which pip keeps the environment away.
        found, path = json.loads(subprocess.check_output([sys.executable, "-I", "-c", look]))
        if not found:
            sys.exit(
                f"hoft-torch: {sys.executable} finds no PyTorch, for which the operators are compiled. Install torch into"
                " the same environment first; where it is there and yet not found, build with --no-build-isolation"
            )
        sys.path.extend(folder for folder in path if folder not in sys.path)


def _look() -> None:
    """Stops with the reason where something is missing."""
    _find_torch()
    try:
        toolchain.check()
    except toolchain.BuildError as error:
        sys.exit(str(error))


def _setuptools() -> Any:
    _look()
    import setuptools.build_meta

    return setuptools.build_meta


def _requirements() -> List[str]:
    _look()
    # PyTorch 1 asks setuptools for what newer ones no longer have.
    old = importlib.metadata.version("torch").startswith("1.")
    return ["setuptools>=61,<80" if old else "setuptools>=61", "wheel", "ninja"]


def get_requires_for_build_wheel(config_settings: Any = None) -> List[str]:
    return _requirements()


def get_requires_for_build_editable(config_settings: Any = None) -> List[str]:
    return _requirements()


def get_requires_for_build_sdist(config_settings: Any = None) -> List[str]:
    return ["setuptools>=61"]


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Any = None) -> str:
    return _setuptools().prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Any = None) -> str:
    return _setuptools().prepare_metadata_for_build_editable(metadata_directory, config_settings)


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    return _setuptools().build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    return _setuptools().build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    import setuptools.build_meta

    return setuptools.build_meta.build_sdist(sdist_directory, config_settings)
