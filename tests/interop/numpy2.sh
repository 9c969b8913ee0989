#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: numpy2.sh <folder> <script> [argument...]
# Runs a Python script with NumPy 2, installed from PyPI into a virtual environment in the folder. Ends with 77 (skipped)
# where it cannot be had.
set -euo pipefail
folder=$1
shift
skip() {
  echo "NumPy 2 cannot be had ($1): skipped"
  exit 77
}
if ! "$folder/bin/python" -c 'import numpy' 2>/dev/null; then
  python3 -m venv "$folder" || skip "no venv"
  timeout 200 "$folder/bin/pip" install --quiet --disable-pip-version-check 'numpy>=2.1,<3' || skip "pip failed"
fi
exec "$folder/bin/python" "$@"
