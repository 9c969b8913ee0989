#!/usr/bin/env bash
# Usage: run.sh [--quick] [--benchmark_<option>...]
# Installs what the benchmarks need, builds them in build/bench, runs them and prints ratios of medians.
# Options go to the programs: --quick takes the smallest shape only; the others are Google Benchmark's, for example
# --benchmark_filter=/float/.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/install_packages.sh bench
cmake --preset bench
cmake --build --preset bench --parallel "$(bash scripts/jobs.sh)"

# hoft runs on one thread unless told otherwise; so do its peers.
export OPENBLAS_NUM_THREADS=1
results=build/bench/results
rm -rf "$results"
mkdir -p "$results"
for program in build/bench/bench/bench_*; do
  [[ -f $program && -x $program ]] || continue
  "$program" "$@" --benchmark_out="$results/$(basename "$program").json" --benchmark_out_format=json
done
python3 bench/ratios.py "$results"/*.json
