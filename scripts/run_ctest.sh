#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run_ctest.sh <build directory> [ctest option...]
# Runs ctest there and ends with `N passed, N failed[, N skipped]`, where N counts test cases in doctest executables and
# one for each other test. Fails when one fails or when none passes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

build=$(cd "$1" && pwd)
report=$build/ctest.xml
shift
rm -f "$report"
status=0
# ctest would cut the output of passed tests short, and with it doctest's summary.
ctest --test-dir "$build" --output-on-failure --output-junit "$report" --test-output-size-passed 100000000 \
  --test-output-size-failed 100000000 "$@" || status=$?
[[ -f $report ]] || { echo "run_ctest.sh: ctest left no report"; exit 1; }

awk -v ctest_failed="$status" '
  function close_test() {
    if (state == "skipped") skipped++
    else if (!has_cases) { if (state == "passed") passed++; else failed++ }
    else {
      passed += case_passed; failed += case_failed; skipped += case_skipped
      # A crash, a leak at exit or a timeout fails the executable although each test case passed.
      if (state != "passed" && case_failed == 0) failed++
    }
  }
  /^\t<testcase / {
    has_cases = 0
    state = /status="run"/ ? "passed" : /status="disabled"/ ? "skipped" : "failed"
  }
  # Not run for any other reason, a missing executable for one, is a failure.
  /^\t\t<skipped message="SKIP_/ { state = "skipped" }
  /\[doctest\] test cases: / {
    has_cases = 1
    counts = $0; sub(/.*test cases:/, "", counts); gsub(/[^0-9|]/, "", counts)
    split(counts, part, "|")
    case_passed = part[2]; case_failed = part[3]; case_skipped = part[4]
  }
  /^\t<\/testcase>/ { close_test() }
  END {
    if (ctest_failed && !failed) failed++
    printf "%d passed, %d failed", passed, failed
    if (skipped) printf ", %d skipped", skipped
    printf "\n"
    exit failed > 0 || passed == 0
  }
' "$report"
