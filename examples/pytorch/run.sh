#!/usr/bin/env bash
# Usage: run.sh [python3]
# Installs what is missing for Debian's PyTorch, or takes another Python's, builds the extension and runs its tests.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${1:-/usr/bin/python3}

if [[ $python == /usr/bin/python3 ]]; then bash "$root/scripts/install_packages.sh" compare; fi
"$python" -m unittest discover --start-directory "$root/examples/pytorch/tests"
