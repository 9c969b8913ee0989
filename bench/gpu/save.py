#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Keeps what bench/gpu/run.sh measured, with commit and date. Refuses what is no measurement.

  save.py <file> <file to write> <what it was made by>
"""

import datetime
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))

from measured import require_measured


def git(*arguments):
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def save(source, target, command):
    results = json.loads(source.read_text(encoding="utf-8"))
    require_measured(results, source)
    about = {
        "command": command,
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--", "include", "bench")),
        "date": datetime.date.today().isoformat(),
    }
    target.write_text(json.dumps({**about, **results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    save(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3])
