#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: check_tidy.sh
# clang-tidy (.clang-tidy) over the headers, as the examples instantiate them: both forms of the calls, and the
# reference. About a minute of processor time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
eigen=${EIGEN_INCLUDE_DIR:-/usr/include/eigen3}
# The header filter wants whole paths.
printf '%s\n' examples/two_forms.cpp examples/tutorial.cpp |
  xargs -P "$(bash scripts/jobs.sh)" -I {} clang-tidy --quiet {} -- -std=c++20 "-I$PWD/include" -isystem "$eigen"
