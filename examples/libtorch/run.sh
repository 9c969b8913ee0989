#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [--quick]
# Installs what is missing, installs hoft in build/prefix, builds this example on it in build/libtorch and trains.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build/libtorch

bash "$root/scripts/install_packages.sh" libtorch
prefix=$(bash "$root/scripts/stage.sh")
cmake -G Ninja -S "$root/examples/libtorch" -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_FLAGS_RELEASE="${CXXFLAGS:--O3 -march=native}"
cmake --build "$build"

# libtorch reads the files uncompressed.
mkdir -p "$build/data"
for file in /usr/share/datasets/fashion-mnist/*.gz; do
  gunzip --stdout "$file" >"$build/data/$(basename "$file" .gz)"
done
"$build/train" "$build/data" "$@"
