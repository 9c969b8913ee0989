#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh <compiler> <work folder> <include folder of hoft> <include folder of Eigen>...
# Builds one program from two sources, one for plain x86-64 and one for wider vectors, in every order that a linker may
# meet them, and runs it. HOFT_LINK_FLAGS are further flags. Ends with 77 where there is nothing to compare.
set -euo pipefail

compiler=$1 work=$2 include=$3
shift 3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [[ $(uname -m) != x86_64 ]]; then echo "skipped: this machine is no x86-64"; exit 77; fi
if ! command -v "$compiler" >/dev/null; then echo "skipped: no $compiler"; exit 77; fi
if ! grep -q -w avx2 /proc/cpuinfo; then echo "skipped: this processor has no wider vectors (AVX2)"; exit 77; fi
rm -rf "$work"
mkdir -p "$work"

read -r -a flags <<<"${HOFT_LINK_FLAGS-}"
flags+=(-std=c++20 -fPIC -w "-I$include" -DNDEBUG)
for folder; do flags+=(-isystem "$folder"); done
failures=0
fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

# compile <role> <name of the object> <flag>...
compile() {
  local other=b
  if [[ $1 == b ]]; then other=a; fi
  "$compiler" "${flags[@]}" "-DHOFT_LINK_SELF=$1" "-DHOFT_LINK_OTHER=$other" "${@:3}" -c "$here/calls.cpp" -o "$work/$2.o"
}

# same_numbers <what> <program>: right numbers, and no crash.
same_numbers() {
  local status=0
  "$2" >"$work/output" 2>&1 || status=$?
  if [[ $status -ne 0 ]]; then
    fail "$1 (status $status)"
    head -n 6 "$work/output"
  fi
}

# link_both <object of a> <object of b>: one program, whose linker meets a first, then b.
link_both() {
  local order
  for order in "$1 $2" "$2 $1"; do
    # shellcheck disable=SC2086
    (cd "$work" && "$compiler" judge.o ${order// /.o }.o -pthread -o program)
    same_numbers "one program of $order" "$work/program"
  done
}

# shared_libraries <object of a> <object of b>: one library of each, in one process.
shared_libraries() {
  local order
  (cd "$work" && "$compiler" -shared "$1.o" -pthread -o liba.so && "$compiler" -shared "$2.o" -pthread -o libb.so)
  for order in "a b" "b a"; do
    # shellcheck disable=SC2086
    (cd "$work" && "$compiler" judge.o -Wl,--no-as-needed -L. -l${order/ / -l} '-Wl,-rpath,$ORIGIN' -pthread -o program)
    same_numbers "shared libraries $order of $1 and $2" "$work/program"
  done
}

# What both objects define and one of them would run for the other.
weak_symbols() { nm "$work/$1.o" | awk '$(NF - 1) ~ /^[WVuT]$/ { print $NF }' | LC_ALL=C sort -u; }
# Names of entities below hoft:: (functions, what is local to them, their variables, types' tables).
hoft_symbol='^_Z(T[VIST]|GV)?Z*N[VKRO]*4hoft'
vocabulary="$hoft_symbol[0-9]+v[0-9]+_[0-9]+(_checked)?[0-9]+($(paste -s -d '|' "$here/vocabulary.txt"))([^a-z_]|\$)"
shared_symbols() {
  local bad
  bad=$(comm -12 <(weak_symbols "$1") <(weak_symbols "$2") | grep -E "$hoft_symbol" | grep -v -E "$vocabulary" || true)
  if [[ -n $bad ]]; then
    fail "$1 and $2 both define what one would run for the other (tests/link/vocabulary.txt lists what may be shared)"
    head -n 6 <<<"$bad" | c++filt | cut -c 1-200
  fi
}
# Loops that Eigen made for one of them. Optimised only: at -O0 Eigen's smallest functions are left, which name vectors.
shared_loops() {
  local bad
  bad=$(comm -12 <(weak_symbols "$1") <(weak_symbols "$2") | c++filt | grep -E 'Eigen::internal::(dense_assignment_loop|redux_impl)<' || true)
  if [[ -n $bad ]]; then
    fail "$1 and $2 both define a loop of Eigen's"
    head -n 6 <<<"$bad" | cut -c 1-300
  fi
}
# Memory that Eigen allocates as the instruction set says: all of its storage but that with the option DontAlign, 2.
eigen_memory() {
  local bad
  bad=$(weak_symbols "$1" | c++filt | grep -E 'Eigen::DenseStorage<.*, [01]>::|Eigen::internal::(handmade_)?aligned_' || true)
  if [[ -n $bad ]]; then
    fail "$1 owns memory that Eigen allocates"
    head -n 6 <<<"$bad"
  fi
}

"$compiler" -std=c++20 -O1 -c "$here/judge.cpp" -o "$work/judge.o"
for level in 0 1 3; do
  everything=()
  if [[ $level == 0 ]]; then everything=(-DHOFT_LINK_EVERYTHING); fi
  compile a "plain_O$level" "-O$level" -march=x86-64 "${everything[@]}"
  compile b "native_O$level" "-O$level" -march=native "${everything[@]}"
  link_both "plain_O$level" "native_O$level"
  shared_symbols "plain_O$level" "native_O$level"
  if [[ $level != 0 ]]; then shared_loops "plain_O$level" "native_O$level"; fi
done
# What is compiled differently may also be optimised differently.
link_both plain_O0 native_O3
link_both plain_O3 native_O0
shared_libraries plain_O0 native_O0
shared_libraries plain_O3 native_O3
eigen_memory plain_O0
eigen_memory native_O0

# Where -march=native is wider still, AVX2 is a third instruction set (by one compiler, for time).
if [[ $compiler != *clang* ]] && grep -q -w avx512f /proc/cpuinfo && "$compiler" -march=x86-64-v3 -E -x c /dev/null >/dev/null 2>&1; then
  compile b v3_O1 -O1 -march=x86-64-v3
  link_both plain_O1 v3_O1
  shared_symbols plain_O1 v3_O1
fi

if [[ $failures -ne 0 ]]; then echo "$failures failures"; exit 1; fi
echo "right numbers in every order"
