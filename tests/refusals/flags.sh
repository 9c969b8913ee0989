#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: flags.sh <compiler> <work folder> <include folder of hoft> <include folder of Eigen>...
# Flags under which hoft would be silently wrong end in its own words; without run-time type information it works.
set -euo pipefail

compiler=$1 work=$2 include=$3
shift 3
if ! command -v "$compiler" >/dev/null; then echo "skipped: no $compiler"; exit 77; fi
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$work"
flags=(-std=c++20 "-I$include")
for folder; do flags+=(-isystem "$folder"); done
failures=0

# refuses <words> <file> <flag>...: the flags end in an error with these words, and without them there is none.
refuses() {
  local words=$1 file=$2
  shift 2
  if "$compiler" "${flags[@]}" "$@" -fsyntax-only "$work/$file" 2>"$work/errors"; then
    echo "FAILED: $file compiles with $*"
    failures=$((failures + 1))
  elif ! grep -q -F "$words" "$work/errors"; then
    echo "FAILED: $file with $* is refused without the words '$words':"
    head -n 5 "$work/errors"
    failures=$((failures + 1))
  fi
}

echo '#include <hoft/view/matrix_view.hpp>' >"$work/view.cpp"
echo '#include <hoft/fwd.hpp>' >"$work/fwd.cpp"
echo '#include <hoft/hoft.hpp>' >"$work/all.cpp"
"$compiler" "${flags[@]}" -fsyntax-only "$work/view.cpp"
for file in view.cpp fwd.cpp all.cpp; do
  refuses "hoft needs C++20" "$file" -std=c++17
  refuses "hoft needs exceptions" "$file" -fno-exceptions
  refuses "hoft needs IEEE arithmetic" "$file" -ffast-math
  if [[ $file == all.cpp ]]; then continue; fi
  refuses "hoft needs IEEE arithmetic" "$file" -ffinite-math-only
  refuses "hoft needs IEEE arithmetic" "$file" -Ofast
done

"$compiler" "${flags[@]}" -O0 -fno-rtti -pthread "$sources/consumer/main.cpp" -o "$work/no_rtti"
"$work/no_rtti"

if [[ $failures -ne 0 ]]; then exit 1; fi
