#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh
# Installs what is missing, installs hoft in build/prefix, builds this example on it in build/tensor_parallel, runs
# one_weight on 2 ranks, trains on 1, 2 and 4 ranks and compares their losses; draws them to
# build/tensor_parallel/losses.png.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build/tensor_parallel

bash "$root/scripts/install_packages.sh" tensor_parallel
prefix=$(bash "$root/scripts/stage.sh")
cmake -G Ninja -S "$root/examples/tensor_parallel" -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" \
  -DMPI_CXX_COMPILER=mpicxx.openmpi -DCMAKE_CXX_FLAGS_RELEASE="${CXXFLAGS:--O3 -march=native}"
cmake --build "$build"
echo "one_weight.cpp on 2 ranks: ‖dx‖ and ‖dV‖ are whole, so alike on both; ‖dU‖ is 0 but for rounding"
bash "$root/tests/sharded/mpirun.sh" mpirun.openmpi 2 "$build/one_weight"
echo "main.cpp: two layers, trained on 1, 2 and 4 ranks"
for ranks in 1 2 4; do
  bash "$root/tests/sharded/mpirun.sh" mpirun.openmpi "$ranks" "$build/tensor_parallel" "$build/losses_$ranks.csv"
done
/usr/bin/python3 "$root/examples/tensor_parallel/compare.py" "$build"
