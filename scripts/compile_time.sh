#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: compile_time.sh [repetitions]
# Processor seconds to compile `#include <hoft/hoft.hpp>` beside `#include <Eigen/Dense>`, interleaved; prints the
# medians and fails when hoft takes 1.5 times as long as Eigen or more.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
repetitions=${1:-9}
compiler=${CXX:-g++}
eigen=${EIGEN_INCLUDE_DIR:-/usr/include/eigen3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo '#include <hoft/hoft.hpp>' >"$scratch/hoft.cpp"
echo '#include <Eigen/Dense>' >"$scratch/eigen.cpp"

compile() {  # compile <name>: the user and system seconds it took
  local TIMEFORMAT='%U %S'
  { time "$compiler" -std=c++20 -O2 -Iinclude -isystem "$eigen" -c "$scratch/$1.cpp" -o "$scratch/$1.o" >&2; } 2>"$scratch/time" ||
    { cat "$scratch/time" >&2; return 1; }
  awk 'END {print $1 + $2}' "$scratch/time"
}
median() { sort -n "$1" | awk '{a[NR] = $1} END {print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2}'; }

compile hoft >/dev/null # the files come from memory afterwards
compile eigen >/dev/null
for ((i = 0; i < repetitions; ++i)); do
  compile hoft >>"$scratch/hoft.times"
  compile eigen >>"$scratch/eigen.times"
done

awk -v hoft="$(median "$scratch/hoft.times")" -v eigen="$(median "$scratch/eigen.times")" -v n="$repetitions" 'BEGIN {
  printf "#include <hoft/hoft.hpp> %.2f s, <Eigen/Dense> %.2f s, ratio %.2f (medians of %d)\n", hoft, eigen, hoft / eigen, n
  exit !(hoft < 1.5 * eigen)
}'
