#!/usr/bin/env bash
# Usage: run.sh [-D<option>=<value>...]
# Installs what the tests need, builds them in build/tests, runs them and ends with `N passed, N failed`.
# Options go to CMake.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
trap 'status=$?; [[ $status -eq 0 ]] || { echo "tests/run.sh failed"; [[ -n ${counts-} ]] && echo "$counts"; }' EXIT

bash scripts/install_packages.sh tests
jobs=$(bash scripts/jobs.sh)
cmake --preset default "$@"
cmake --build build/tests --parallel "$jobs"

log=build/tests/Testing/Temporary/LastTest.log
rm -f "$log"
ran=0
ctest --test-dir build/tests --output-on-failure --parallel "$jobs" || ran=$?
counted=0
counts=$(bash scripts/count_tests.sh "$log") || counted=$?
[[ $ran -eq 0 && $counted -eq 0 ]]
echo "$counts"
