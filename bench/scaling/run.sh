#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [--quick] [--save]
# Measures messages and split layers on 1 to as many ranks as this machine has cores, models more, and writes
# build/scaling/scaling.md with a plot; --save writes docs/reference/scaling.md. --quick: small sizes, times count for
# nothing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build/scaling
quick=() save=()
for option in "$@"; do
  case $option in
    --quick) quick=(--quick) ;;
    --save) save=(--save) ;;
    *) echo "run.sh: no option is called '$option'; --help lists them" >&2; exit 2 ;;
  esac
done

bash "$root/scripts/install_packages.sh" tensor_parallel
mkdir -p "$build"
# -isystem: MPI's headers and Eigen's warn.
mapfile -t flags < <(mpicxx.openmpi -show | grep -oE -- ' -[ILl][^ ]+' | grep -v 'cxx$' | sed 's/^ //; s/^-I/-isystem/')
# shellcheck disable=SC2086
g++ -std=c++20 ${CXXFLAGS:--O3 -march=native} -Wno-uninitialized -Wno-maybe-uninitialized -DOMPI_SKIP_MPICXX \
  -I "$root/include" -isystem /usr/include/eigen3 "$root/bench/scaling/scaling.cpp" "${flags[@]}" -pthread -o "$build/scaling"
rm -f "$build"/ranks_*.jsonl
for ((ranks = 1; ranks <= $(nproc); ranks *= 2)); do
  bash "$root/tests/sharded/mpirun.sh" mpirun.openmpi "$ranks" "$build/scaling" "${quick[@]}" >"$build/ranks_$ranks.jsonl"
done
/usr/bin/python3 "$root/bench/scaling/model.py" "$build" "${save[@]}"
