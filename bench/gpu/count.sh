#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: count.sh [--save | --check] [--lines=<how many>] [--case=<part of a name>]
# Counts what the kernels of docs/internals/gpu-notes.md execute, on the emulator of tests/ptx, which takes CUDA 13's
# nvcc and no GPU: instructions of warps, bytes and sectors, bank conflicts, matrix instructions, barriers. Prints them
# beside the ratio to what bench/results/gpu_counts.json has. Every count is made twice, with blocks in two orders, and
# must be the same.
#   --save   writes bench/results/gpu_counts.json, and from it the tables of the page
#   --check  counts nothing: fails when the page is not what --save would write
#   --lines  the lines of the source that issue most instructions, instead
#   --case   of the cases whose name has this
# With cuobjdump, nvdisasm and ptxas in PATH (CUDA's; or PyPI's nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm), --save
# looks at the machine code too.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=/usr/bin/python3
for option in "$@"; do
  if [[ $option == --check ]]; then exec "$python" bench/gpu/counts.py --check; fi
done

command -v "${CUDACXX:-nvcc}" >/dev/null || { echo "count.sh: no nvcc in PATH (CUDA 13)" >&2; exit 1; }
bash scripts/install_packages.sh tests
build=build/tests
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{
  cmake --preset default &&
    cmake --build "$build" --parallel "$(bash scripts/jobs.sh)" --target ptxemu_cublas hoft_gpu_counts
} >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
"$python" bench/gpu/counts.py --run="$build/tests/ptx/lib" --program="$build/bench/gpu/hoft_gpu_counts" "$@"
