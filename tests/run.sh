#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [--all] [-D<option>=<value>...]
# Installs what the tests need, builds them in build/tests, runs them and ends with `N passed, N failed`.
#   --all  without a GPU: every test of the CUDA backend on the emulator (tests/ptx), for every scalar and in every order,
#          instead of a part of them; 20 minutes of processor time
# Options go to CMake.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
trap 'status=$?; [[ $status -eq 0 || -n ${ran-} ]] || echo "tests/run.sh failed"' EXIT

all=OFF
options=()
for option in "$@"; do
  if [[ $option == --all ]]; then all=ON; else options+=("$option"); fi
done

bash scripts/install_packages.sh tests
jobs=$(bash scripts/jobs.sh)
cmake --preset default "-DHOFT_TEST_CUDA_ALL=$all" "${options[@]}"
cmake --build build/tests --parallel "$jobs"

ran=yes
bash scripts/run_ctest.sh build/tests --parallel "$jobs"
