# SPDX-License-Identifier: BSD-3-Clause
"""What pyproject.toml cannot say: the version, the PyTorch that is compiled for, the operators, hoft's headers."""

import atexit
import importlib.util
import pathlib
import shutil
import sys
import tempfile

import setuptools
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "build_backend"))
import toolchain  # noqa: E402


class BuildOperators(build_ext):
    """One library without Python in it, hoft_torch/_C.so."""

    def get_ext_filename(self, name: str) -> str:
        return name.replace(".", "/") + ".so"

    def build_extension(self, extension: setuptools.Extension) -> None:
        import torch

        library = pathlib.Path(self.get_ext_fullpath(extension.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(toolchain.build_once(torch.cuda.is_available()), library)


class PackHeaders(sdist):
    """hoft's headers go into the source package, which has no checkout around it."""

    def make_release_tree(self, base_dir: str, files: list) -> None:
        super().make_release_tree(base_dir, files)
        shutil.copytree(toolchain.hoft_headers() / "hoft", pathlib.Path(base_dir) / "include/hoft", dirs_exist_ok=True)


def requirements() -> list:
    """PyTorch's libraries fit no other minor version."""
    if "sdist" in sys.argv or importlib.util.find_spec("torch") is None:  # a source package fits all
        return ["torch>=1.13"]
    import torch

    return [f"torch=={'.'.join(torch.__version__.split('.')[:2])}.*"]


# Nothing is left in the folder of the sources, and nothing that an earlier build left comes into the package.
scratch = tempfile.mkdtemp(prefix="hoft_torch-")
atexit.register(shutil.rmtree, scratch, ignore_errors=True)

setuptools.setup(
    options={"build": {"build_base": scratch}, "egg_info": {"egg_base": scratch}},
    version=toolchain.version(),
    install_requires=requirements(),
    ext_modules=[setuptools.Extension("hoft_torch._C", sources=[])],
    cmdclass={"build_ext": BuildOperators, "sdist": PackHeaders},
)
