#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""bench/run.sh refuses what would mix the results of two processors, before it installs or builds anything: here it
finds no program for that."""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HAS_AMX = "amx_bf16" in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()


class Refusals(unittest.TestCase):
    def refused(self, *options):
        """What it says to these options."""
        with tempfile.TemporaryDirectory() as folder:
            for program in ("dirname", "grep", "sed"):
                (pathlib.Path(folder) / program).symlink_to(shutil.which(program))
            run = subprocess.run([shutil.which("bash"), ROOT / "bench/run.sh", *options], capture_output=True, text=True,
                                 env={"PATH": folder}, timeout=20)  # fmt: skip
        self.assertEqual((run.returncode, run.stdout), (2, ""), run.stderr)
        return run.stderr

    def test_two_runs_at_once(self):
        self.assertIn("--avx2 and --amx are two runs", self.refused("--avx2", "--amx"))

    def test_results_of_another_processor(self):
        if HAS_AMX:
            self.assertIn("add --amx", self.refused("--cpu", "--save"))
        else:
            self.assertIn("this processor has no AMX", self.refused("--amx"))

    def test_parts_are_not_kept(self):
        kept = ("--save", "--amx") if HAS_AMX else ("--save",)
        for part in ("--quick", "--only=apply"):
            self.assertIn("--save keeps whole runs only", self.refused(*kept, part))


if __name__ == "__main__":
    unittest.main()
