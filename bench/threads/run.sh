#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [--save]
# Counts and times the parallel parts of calls on one thread, and prints how they may scale over more, by the model of
# docs/internals/threads.md; --save writes the tables of that page and bench/results/threads.json. Under a minute.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build/threads
save=()
for option in "$@"; do
  case $option in
    --save) save=(--save) ;;
    *) echo "run.sh: no option is called '$option'; --help lists them" >&2; exit 2 ;;
  esac
done

bash "$root/scripts/install_packages.sh" tests
mkdir -p "$build"
# shellcheck disable=SC2086
g++ -std=c++20 ${CXXFLAGS:--O3 -DNDEBUG -march=native} -Wno-uninitialized -Wno-maybe-uninitialized -I "$root/include" \
  -isystem /usr/include/eigen3 "$root/bench/threads/parts.cpp" -pthread -o "$build/parts"
"$build/parts" >"$build/parts.jsonl"
/usr/bin/python3 "$root/bench/threads/threads.py" "$build/parts.jsonl" "${save[@]}"
