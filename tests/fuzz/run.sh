#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [seconds [seed]]
# Builds the fuzz targets of this folder with clang under its sanitizers and runs them for so many seconds of processor
# time in all, 60 unless told: half for npy, a quarter each for idx and dlpack, side by side on two cores. Fails on a
# crash, a leak, 10 s spent on one input, or an answer that a target knows to be wrong; its input is then in build/fuzz.
# What is found of interest is kept there too, and the next run goes on from it. One seed, from an empty build/fuzz,
# tries one sequence of inputs, as far as the time allows; without it, or with 0, every run tries others.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-60} seed=${2:-0}
bash scripts/install_packages.sh fuzz
out=build/fuzz
mkdir -p "$out"

build() {  # build <target> [option...]
  clang++ -std=c++20 -O1 -g1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Wall -Wextra "${@:2}" \
    -Iinclude -isystem /usr/include/eigen3 "tests/fuzz/$1.cpp" -o "$out/$1" -lz
}
fuzz() {  # fuzz <target> <seconds>
  mkdir -p "$out/$1.corpus"
  local log=$out/$1.log status=0 corpora=("$out/$1.corpus")
  if [[ -d tests/fuzz/seeds/$1 ]]; then corpora+=("tests/fuzz/seeds/$1"); fi
  "$out/$1" -seed="$seed" -max_total_time="$2" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 \
    -artifact_prefix="$out/$1-" -print_final_stats=1 "${corpora[@]}" >"$log" 2>&1 || status=$?
  if [[ $status -ne 0 ]]; then
    grep --invert-match '^#\|NEW_FUNC' "$log" | tail -n 40
    echo "fuzz target $1 failed; its input is $out/$1-*"
    return 1
  fi
  awk -v name="$1" -v seconds="$2" '/^stat::number_of_executed_units/ {units = $2} / cov: / {split($0, part, "cov: "); cov = part[2] + 0}
    END {printf "%s: no crash in %d inputs, %d s, %d edges\n", name, units, seconds, cov; exit units < 100}' "$log"
}
wait_for() {  # waits for all, so that none is left behind
  local status=0 process
  for process in "$@"; do wait "$process" || status=$?; done
  return "$status"
}

# Eigen 3.4 offsets the null pointer of an empty matrix in its Block.
build npy -fno-sanitize=pointer-overflow & first=$!
{ build idx && build dlpack; } & second=$!
wait_for "$first" "$second"
fuzz npy "$((seconds / 2))" & first=$!
{ fuzz idx "$((seconds / 4))" && fuzz dlpack "$((seconds / 4))"; } & second=$!
wait_for "$first" "$second"
