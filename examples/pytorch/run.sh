#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [python3]
# Builds the package for the PyTorch of Debian's Python or of the one given: a wheel of the checkout and a wheel of the
# source package, which must be the same. Installs it into a new environment that sees that PyTorch and nothing of the
# checkout, trains a layer there, and runs the tests on what was installed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
package=$root/examples/pytorch
python=${1:-/usr/bin/python3}
unset PYTHONPATH

if [[ $python == /usr/bin/python3 ]]; then bash "$root/scripts/install_packages.sh" compare; fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv --without-pip "$scratch/environment"
# PyTorch has gigabytes and is not copied: what the given Python sees stands behind what is installed here.
"$python" -c 'import sys; print(*filter(None, sys.path[1:]), sep="\n")' \
  >"$("$scratch/environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/seen.pth"
python=$scratch/environment/bin/python

# Nothing is fetched: the setuptools that is there builds.
pip() { "$python" -m pip "$1" --quiet --disable-pip-version-check --no-cache-dir --no-index --no-deps "${@:2}"; }
pip wheel --no-build-isolation --wheel-dir "$scratch/of_checkout" "$package"
(cd "$package" && "$python" - "$scratch/source" >"$scratch/log" 2>&1) <<'BUILD' || { cat "$scratch/log" >&2; exit 1; }
import sys
sys.path.insert(0, "build_backend")
import hoft_build
hoft_build.build_sdist(sys.argv[1])
BUILD
# From the same sources, so that nothing is compiled again; whatever the source package lacks would be.
HOFT_TORCH_CACHE=$root/build/pytorch pip wheel --no-build-isolation --wheel-dir "$scratch/of_source" "$scratch"/source/*.tar.gz
pip install "$scratch"/of_source/*.whl

mkdir "$scratch/empty"
cd "$scratch/empty"
"$python" "$package/tests/installed.py" "$scratch"/of_*/*.whl
"$python" -m unittest discover --start-directory "$package/tests"
