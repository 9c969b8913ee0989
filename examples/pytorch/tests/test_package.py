# SPDX-License-Identifier: BSD-3-Clause
"""The package, and how reflectors begin."""

import importlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

import torch

from common import DOUBLE, Case
import hoft_torch
from hoft_torch import householder_apply, paired_gaussian

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "build_backend"


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
        """As many as one likes, with spaces and what shells read in them; others give another library."""
        many = " ".join(f"-DNUMBER_{i}={i}" for i in range(60)) + """ '-DTEXT="two words, $HOME"'"""
        with self.environment(HOFT_TORCH_CXXFLAGS=many):
            self.toolchain.check()
            key = self.toolchain.key(False)
            self.assertLess(len(key), 100)
            written = [self.toolchain.quoted(flag).replace("$$", "$") for flag in self.toolchain.flags()]  # as by ninja
        said = subprocess.check_output(["sh", "-c", "printf '%s\\n' " + " ".join(written)], text=True).splitlines()
        self.assertEqual(said[-1], '-DTEXT="two words, $HOME"')
        self.assertEqual(len(said), 61)
        with self.environment(HOFT_TORCH_CXXFLAGS=many + " -O1"):
            self.assertNotEqual(self.toolchain.key(False), key)

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


if __name__ == "__main__":
    unittest.main()
