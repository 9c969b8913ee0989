#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: new_method.sh <source root> <compiler> <Eigen's -I> <objects of hoft_claims, with ;> <library of benchmark>
# Adds a method to a copy of bench/methods by one header and one line, links hoft_claims with it and looks for it.
set -euo pipefail

root=$1 compiler=$2 eigen=$3 library=$5
IFS=';' read -ra objects <<<"$4"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/bench"
cp -r "$root/bench/methods" "$root/bench/claims" "$root/bench"/*.hpp "$scratch/bench"

# The header and the line.
cp "$root/tests/claims/row_scale.hpp" "$scratch/bench/methods"
list=$scratch/bench/methods/all.hpp
echo '#include "row_scale.hpp"' >>"$list"
# The methods by hoft and those with blocks take long to compile, and say nothing more here.
sed -i '/hoft_\|shoft\|oft\|dora\|hra/d' "$list"

others=()
for object in "${objects[@]}"; do [[ $object == *methods.cpp* ]] || others+=("$object"); done
for scalar in float double bench::counted; do
  "$compiler" -std=c++20 -O0 "-DBENCH_SCALAR=$scalar" "-I$root/include" -isystem "${eigen#-I}" \
    -c "$scratch/bench/claims/methods.cpp" -o "$scratch/${scalar#bench::}.o"
done
"$compiler" "${others[@]}" "$scratch"/*.o "$library" -pthread -o "$scratch/hoft_claims"

"$scratch/hoft_claims" describe --out="$scratch/methods.tsv"
grep -q '^row_scale' "$scratch/methods.tsv" || { echo "new_method.sh: row_scale is not on the list" >&2; exit 1; }
for pass in merge merge_backward forward backward; do echo "row_scale $pass 24 16 1 2 1 8"; done >"$scratch/plan"
"$scratch/hoft_claims" count --plan="$scratch/plan" --out="$scratch/counts.tsv"
"$scratch/hoft_claims" time --plan="$scratch/plan" --out="$scratch/times.json" --repetitions=2 --min-time=0.0001
awk -F'\t' 'NR == 2 && $9 == 24 && $10 == 24 * 16 { found = 1 } END { exit !(found && NR == 5) }' "$scratch/counts.tsv" ||
  { echo "new_method.sh: the counts are wrong:" >&2; cat "$scratch/counts.tsv" >&2; exit 1; }
grep -q 'row_scale/backward/24/16/1/2/1/8' "$scratch/times.json"
# Bad input is refused by name.
for words in "count --plan=$scratch/none --out=$scratch/x" "tell --out=$scratch/x" "time --plan=$scratch/bad --out=$scratch/x"; do
  echo "no_such_method merge 8 8 1 2 1 8" >"$scratch/bad"
  # shellcheck disable=SC2086
  if "$scratch/hoft_claims" $words >"$scratch/said" 2>&1; then echo "new_method.sh: '$words' was taken" >&2; exit 1; fi
done
grep -q "no method is called 'no_such_method'" "$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
