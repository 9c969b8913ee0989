#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh <folder of the libraries> <program> [<argument>...]
# Runs a CUDA program on the emulator, or says why it cannot be run there (README.md).
set -euo pipefail

libraries=$(cd "$1" && pwd)
program=$2
shift 2
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
linked=$(ldd "$program")
for library in "$libraries"/libcudart.so.*; do
  name=$(basename "$library")
  [[ $linked == *"$name => $libraries/"* ]] && exec "$program" "$@"
done
other=$(grep -o 'libcudart[^ ]* => [^ ]*' <<<"$linked" || true)
echo "run.sh: $program does not take $name from $libraries: ${other:-it has no shared CUDA runtime (nvcc -cudart shared)}" >&2
exit 2
