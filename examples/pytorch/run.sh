#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [python3]
# Installs the package into an environment of its own below build/, on the PyTorch of Debian's Python or of the one
# given, and runs the tests on what was installed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${1:-/usr/bin/python3}

if [[ $python == /usr/bin/python3 ]]; then bash "$root/scripts/install_packages.sh" compare; fi
environment=$root/build/pytorch/environment-$("$python" -c 'import torch; print(torch.__version__)')
if [[ ! -x $environment/bin/python ]]; then
  "$python" -m venv --without-pip "$environment"
  # It sees what the given Python sees, behind what is installed into it.
  "$python" -c 'import sys; print(*filter(None, sys.path[1:]), sep="\n")' \
    >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/seen.pth"
fi
# The setuptools that is there builds, so that nothing is fetched.
"$environment/bin/python" -m pip install --quiet --no-build-isolation --no-deps --force-reinstall "$root/examples/pytorch"
cd "$root/build" # not beside the sources: what is tested is what was installed
"$environment/bin/python" -m unittest discover --start-directory "$root/examples/pytorch/tests"
