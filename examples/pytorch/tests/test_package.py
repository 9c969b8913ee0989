# SPDX-License-Identifier: BSD-3-Clause
"""The package, and how reflectors begin."""

import ctypes
import importlib
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
import unittest.mock

import torch

from common import DOUBLE, Case
import hoft_torch
from hoft_torch import householder_apply, paired_gaussian

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "build_backend"
CHECKOUT = FOLDER.parents[2]

# What the test of real builds compiles: it says by itself whether all of its flags came through.
MARKED = """
#include <two words.hpp>
static_assert(SEEN == 1 && NUMBER_59 == 59);
extern "C" const char* text() { return TEXT; }
"""


class Start(Case):
    def test_pairs(self):
        u = paired_gaussian(5, 8, dtype=DOUBLE)
        self.assertTrue(torch.equal(u[0], u[1]) and torch.equal(u[2], u[3]) and not torch.equal(u[1], u[2]))
        self.assertTrue(torch.equal(u[4], torch.zeros(8, dtype=DOUBLE)))
        x = torch.randn(3, 8, dtype=DOUBLE)
        self.assertClose(householder_apply(x, u), x, x.norm(), 5)

    def test_is_a_leaf(self):
        for rank in (4, 5):
            u = paired_gaussian(rank, 8, requires_grad=True)
            self.assertTrue(u.is_leaf and u.requires_grad)
            self.assertFalse(paired_gaussian(rank, 8).requires_grad)
        self.assertEqual(tuple(paired_gaussian(0, 8).shape), (0, 8))
        for rank in (-1, -2):
            with self.assertRaisesRegex(ValueError, f"paired_gaussian: the rank is {rank}, must be at least 0"):
                paired_gaussian(rank, 8)

    def test_names(self):
        for name in hoft_torch.__all__:
            self.assertTrue(callable(getattr(hoft_torch, name)))


@unittest.skipUnless((FOLDER / "toolchain.py").is_file(), "these tests stand in no checkout")
class Build(unittest.TestCase):
    """What the extension is compiled by, and what is said where something is missing."""

    @classmethod
    def setUpClass(cls):
        sys.path.insert(0, str(FOLDER))
        cls.addClassCleanup(sys.path.remove, str(FOLDER))
        cls.toolchain, cls.hooks = (importlib.import_module(name) for name in ("toolchain", "hoft_build"))

    def toolchain_at(self, package):
        """toolchain.py of another copy of the package."""
        spec = importlib.util.spec_from_file_location("other_toolchain", package / "build_backend/toolchain.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def environment(self, **variables):
        return unittest.mock.patch.dict(os.environ, variables)

    def test_the_compiler_of_cpp(self):
        """A C compiler's name gives its twin, and all names of one compiler the same library."""
        with self.environment(CXX="g++"):
            expected, key = self.toolchain.compiler(), self.toolchain.key(False)
        self.assertIn("g++", expected)
        for name in ("gcc", shutil.which("gcc"), shutil.which("g++")):
            with self.environment(CXX=name):
                self.assertEqual(self.toolchain.compiler(), expected)
                self.assertEqual(self.toolchain.key(False), key)

    def test_any_flags(self):
        """As many as one likes, with spaces and what shells read in them, through a build of small sources in the place
        of the operators; hoft's and Eigen's headers too may lie where there are spaces. Others give another library."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch, "two words")
            sources, named, cache = folder / "package/hoft_torch/csrc", folder / "named", folder / "cache"
            for path in (sources, named, folder / "hoft", folder / "eigen"):
                path.mkdir(parents=True)
            shutil.copytree(FOLDER, folder / "package/build_backend")
            (sources / "cpu.cpp").write_text(MARKED)
            (sources / "cpu_linalg.cpp").write_text("#include <Eigen/Core>\n#include <hoft/version.hpp>\n")
            (named / "two words.hpp").write_text("#define SEEN 1\n")
            # The folders that are named are no links, which would be resolved.
            (folder / "hoft/hoft").symlink_to(self.toolchain.hoft_headers() / "hoft")
            (folder / "eigen/Eigen").symlink_to(self.toolchain.eigen_headers() / "Eigen")
            many = f"""-O0 {" ".join(f"-DNUMBER_{i}={i}" for i in range(60))} '-I{named}' '-DTEXT="two words, $HOME"'"""
            self.assertGreater(len(many), 300)
            variables = {
                "HOFT_TORCH_CXXFLAGS": many,
                "HOFT_TORCH_CACHE": str(cache),
                "HOFT_INCLUDE_DIR": str(folder / "hoft"),
                "EIGEN_INCLUDE_DIR": str(folder / "eigen"),
            }
            toolchain = self.toolchain_at(folder / "package")
            with self.environment(**variables):
                library = toolchain.build_once(False)
                self.assertEqual(toolchain.build_once(False), library)
                key = toolchain.key(False)
            text = ctypes.CDLL(str(library)).text
            text.restype = ctypes.c_char_p
            self.assertEqual(text(), b"two words, $HOME")
            self.assertEqual(library.parent, cache / key)
            self.assertLess(len(key), 100)
            for changed in (variables["HOFT_TORCH_CXXFLAGS"] + " -DMORE", "-O0"):
                with self.environment(**{**variables, "HOFT_TORCH_CXXFLAGS": changed}):
                    self.assertNotEqual(toolchain.key(False), key)

    def test_what_is_missing_is_named(self):
        cases = [
            ({"CXX": "no-compiler"}, "no C\\+\\+ compiler 'no-compiler'.*apt install g\\+\\+"),
            ({"EIGEN_INCLUDE_DIR": "/none"}, "no Eigen/Core in /none.*libeigen3-dev"),
            ({"HOFT_INCLUDE_DIR": "/none"}, "no hoft/hoft.hpp in /none"),
            ({"HOFT_TORCH_CXXFLAGS": "-std=c++11"}, "does not compile C\\+\\+20 with -std=c\\+\\+11"),
        ]
        for variables, message in cases:
            with self.subTest(message), self.environment(**variables):
                with self.assertRaisesRegex(self.toolchain.BuildError, message):
                    self.toolchain.check()

    def test_without_pytorch(self):
        nothing = unittest.mock.patch.object(importlib.util, "find_spec", lambda name: None)
        outside = unittest.mock.patch.object(subprocess, "check_output", lambda command: b"[false, []]")
        with nothing, outside, self.assertRaisesRegex(SystemExit, "finds no PyTorch.*Install torch"):
            self.hooks.get_requires_for_build_wheel()

    def test_a_library_of_another_pytorch(self):
        extension = importlib.import_module("hoft_torch._extension")
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            with unittest.mock.patch.object(extension, "INSTALLED", pathlib.Path(file.name)):
                with self.assertRaisesRegex(ImportError, "compiled for another one. Install it again: pip install"):
                    extension.load()

    def unpacked(self, scratch):
        """The source package, made as any builder makes it."""
        make = "import sys; sys.path.insert(0, 'build_backend'); import hoft_build; print(hoft_build.build_sdist(sys.argv[1]))"
        command = [sys.executable, "-c", make, scratch]
        said = subprocess.run(command, cwd=FOLDER.parent, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        name = said.stdout.splitlines()[-1]
        with tarfile.open(pathlib.Path(scratch, name)) as archive:
            archive.extractall(scratch)
        return pathlib.Path(scratch, name[: -len(".tar.gz")])

    def test_source_package(self):
        """It holds all that is compiled, fits any PyTorch, and without its headers takes those of an installed hoft."""
        sources = [path for kind in ("py", "hpp", "cpp", "cu") for path in FOLDER.parent.rglob(f"*.{kind}")]
        sources = [path.relative_to(FOLDER.parent) for path in sources if "build" not in path.parts]
        headers = [path.relative_to(CHECKOUT) for path in (CHECKOUT / "include/hoft").rglob("*.hpp")]
        self.assertIn(pathlib.Path("include/hoft/hoft.hpp"), headers)
        nowhere = {"HOFT_INCLUDE_DIR": "", "CMAKE_PREFIX_PATH": ""}
        with tempfile.TemporaryDirectory() as scratch, self.environment(**nowhere):
            package = self.unpacked(scratch)
            held = {path.relative_to(package) for path in package.rglob("*") if path.is_file()}
            self.assertFalse({*sources, *headers, pathlib.Path("LICENSE")} - held)
            wanted = re.findall(r"(?m)^Requires-Dist: (torch.*)$", (package / "PKG-INFO").read_text())
            self.assertIn(wanted, (["torch>=1.13"], []))  # setuptools of Debian 12 leaves requirements out of this file
            toolchain = self.toolchain_at(package)
            self.assertEqual(toolchain.hoft_headers(), package.resolve() / "include")
            self.assertEqual(toolchain.key(False), self.toolchain.key(False))  # one library for both

            (package / "include").rename(pathlib.Path(scratch, "include"))
            with self.environment(CMAKE_PREFIX_PATH=scratch):
                self.assertEqual(toolchain.hoft_headers(), pathlib.Path(scratch, "include").resolve())
            somewhere = [pathlib.Path(p, "include/hoft") for p in (sys.prefix, pathlib.Path.home() / ".local", "/usr/local", "/usr")]
            if not any(map(pathlib.Path.exists, somewhere)):
                with self.assertRaisesRegex(toolchain.BuildError, "no hoft/hoft.hpp in .*checkout.*install.*HOFT_INCLUDE_DIR"):
                    toolchain.check()


if __name__ == "__main__":
    unittest.main()
