#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: check_format.sh
# Fails when clang-format would change a tracked C++ or CUDA file.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
git ls-files -z -- '*.hpp' '*.cpp' '*.cuh' '*.cu' | xargs --null --no-run-if-empty clang-format --dry-run -Werror
