#!/usr/bin/env bash
# Usage: run.sh [-D<option>=<value>...]
# Installs what the tests need, builds them in build/tests, runs them and ends with `N passed, N failed`.
# Options go to CMake.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
trap 'status=$?; [[ $status -eq 0 || -n ${ran-} ]] || echo "tests/run.sh failed"' EXIT

bash scripts/install_packages.sh tests
jobs=$(bash scripts/jobs.sh)
cmake --preset default "$@"
cmake --build build/tests --parallel "$jobs"

ran=yes
bash scripts/run_ctest.sh build/tests --parallel "$jobs"
