#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: compile_time.sh [repetitions]
# Processor seconds to compile `#include <hoft/hoft.hpp>` beside `#include <Eigen/Dense>`, interleaved, and README's
# quickstart as README says: medians, which depend on the machine and its hour and decide nothing. Fails when what takes
# the time has grown, which depends on the compiler alone: the header's text beside Eigen's, or what the quickstart has
# of machine code and constants.
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

with_headers() { "$compiler" -std=c++20 -Iinclude -isystem "$eigen" "$@"; }
compile() {  # compile <name> <option>...: the user and system seconds it took
  local TIMEFORMAT='%U %S'
  { time with_headers "${@:2}" -c "$scratch/$1.cpp" -o "$scratch/$1.o" >&2; } 2>"$scratch/time" ||
    { cat "$scratch/time" >&2; return 1; }
  awk 'END {print $1 + $2}' "$scratch/time"
}
text() { with_headers -E -P "$scratch/$1.cpp" | wc -c; }
median() { sort -n "$1" | awk '{a[NR] = $1} END {print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2}'; }

compile hoft -O2 >/dev/null # the files come from memory afterwards
compile eigen -O2 >/dev/null
for ((i = 0; i < repetitions; ++i)); do
  compile hoft -O2 >>"$scratch/hoft.times"
  compile eigen -O2 >>"$scratch/eigen.times"
  if ((i % 3 == 0)); then compile quickstart -O3 -pthread >>"$scratch/quickstart.times"; fi
done

# Assigned by themselves, so that a command that fails ends the script.
hoft_text=$(text hoft)
eigen_text=$(text eigen)
code=$(size "$scratch/quickstart.o" | awk 'END {print $1}')
awk -v hoft="$(median "$scratch/hoft.times")" -v eigen="$(median "$scratch/eigen.times")" -v n="$repetitions" \
  -v hoft_text="$hoft_text" -v eigen_text="$eigen_text" -v quickstart="$(median "$scratch/quickstart.times")" \
  -v code="$code" 'BEGIN {
  printf "#include <hoft/hoft.hpp> %.2f s, <Eigen/Dense> %.2f s, ratio %.2f (medians of %d)\n", hoft, eigen, hoft / eigen, n
  printf "examples/quickstart.cpp with -O3 %.2f s\n", quickstart
  printf "<hoft/hoft.hpp> has %.2f of the text of <Eigen/Dense>, must be < 1.2\n", hoft_text / eigen_text
  printf "examples/quickstart.cpp has %d bytes of machine code and constants, must be < 400000\n", code
  exit !(hoft_text > 0 && hoft_text < 1.2 * eigen_text && code > 0 && code < 400000)
}'
