#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: compile_time.sh [repetitions]
# Processor seconds to compile `#include <hoft/hoft.hpp>` beside `#include <Eigen/Dense>`, interleaved, and README's
# quickstart as README says. Prints the medians; fails when the header takes 1.5 times as long as Eigen or more, or the
# quickstart ten times.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
repetitions=${1:-9}
compiler=${CXX:-g++}
eigen=${EIGEN_INCLUDE_DIR:-/usr/include/eigen3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo '#include <hoft/hoft.hpp>' >"$scratch/hoft.cpp"
echo '#include <Eigen/Dense>' >"$scratch/eigen.cpp"
cp examples/quickstart.cpp "$scratch"

compile() {  # compile <name> <option>...: the user and system seconds it took
  local TIMEFORMAT='%U %S'
  { time "$compiler" -std=c++20 "${@:2}" -Iinclude -isystem "$eigen" "$scratch/$1.cpp" -o "$scratch/$1.o" >&2; } 2>"$scratch/time" ||
    { cat "$scratch/time" >&2; return 1; }
  awk 'END {print $1 + $2}' "$scratch/time"
}
median() { sort -n "$1" | awk '{a[NR] = $1} END {print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2}'; }

compile hoft -O2 -c >/dev/null # the files come from memory afterwards
compile eigen -O2 -c >/dev/null
for ((i = 0; i < repetitions; ++i)); do
  compile hoft -O2 -c >>"$scratch/hoft.times"
  compile eigen -O2 -c >>"$scratch/eigen.times"
  if ((i % 3 == 0)); then compile quickstart -O3 -pthread >>"$scratch/quickstart.times"; fi
done

awk -v hoft="$(median "$scratch/hoft.times")" -v eigen="$(median "$scratch/eigen.times")" -v n="$repetitions" \
  -v quickstart="$(median "$scratch/quickstart.times")" 'BEGIN {
  printf "#include <hoft/hoft.hpp> %.2f s, <Eigen/Dense> %.2f s, ratio %.2f (medians of %d)\n", hoft, eigen, hoft / eigen, n
  printf "examples/quickstart.cpp with -O3 %.2f s\n", quickstart
  exit !(hoft < 1.5 * eigen && quickstart < 10 * eigen)
}'
