#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every script that anybody may call prints the comment at its head when asked for --help, and does nothing else: here
it finds no program but those that print it."""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASH = shutil.which("bash")
# What tests call, with arguments of their own.
INTERNAL = ("tests/claims", "tests/consumer", "tests/cuda", "tests/interop", "tests/link", "tests/ptx", "tests/refusals",
            "tests/sharded", "scripts/help.sh")  # fmt: skip


def scripts():
    found = subprocess.run(["git", "-C", ROOT, "ls-files", "*.sh", ".ci/run"], capture_output=True, text=True, check=True)
    return [path for path in found.stdout.split() if not path.startswith(INTERNAL)]


def head(path):
    """The comment behind the lines of the interpreter and of the licence."""
    lines = (ROOT / path).read_text(encoding="utf-8").split("\n")[2:]
    return "".join(line[2:] + "\n" for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


class Help(unittest.TestCase):
    def test_prints_the_head_and_does_nothing(self):
        self.assertGreater(len(scripts()), 20)
        with tempfile.TemporaryDirectory() as folder:
            for program in ("dirname", "sed"):
                (pathlib.Path(folder) / program).symlink_to(shutil.which(program))
            for path in scripts():
                for option in ("--help", "-h"):
                    with self.subTest(script=path, option=option):
                        run = subprocess.run([BASH, ROOT / path, "--quick", option], capture_output=True, text=True,
                                             env={"PATH": folder}, cwd=folder, timeout=20)  # fmt: skip
                        self.assertEqual((run.returncode, run.stderr), (0, ""))
                        self.assertEqual(run.stdout, head(path))
                        self.assertTrue(run.stdout.startswith("Usage: "))


if __name__ == "__main__":
    unittest.main()
