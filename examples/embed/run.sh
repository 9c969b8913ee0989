#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh
# Installs what is missing, installs hoft in build/prefix, builds this example on it in build/embed and runs it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build/embed

bash "$root/scripts/install_packages.sh" embed
prefix=$(bash "$root/scripts/stage.sh")
cmake -G Ninja -S "$root/examples/embed" -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_FLAGS_RELEASE="${CXXFLAGS:--O3 -march=native}"
cmake --build "$build"
"$build/procrustes"
