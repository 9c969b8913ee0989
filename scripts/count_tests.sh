#!/usr/bin/env bash
# Usage: count_tests.sh <ctest's LastTest.log>
# Prints `N passed, N failed[, N skipped]`: test cases where a test is a doctest executable, the test itself otherwise.
# Fails when one failed or when none passed.
set -euo pipefail

awk '
  function close_test() {
    if (!open) return
    if (state == "skipped") skipped++
    else if (!cases) { if (state == "passed") passed++; else failed++ }
    else {
      passed += case_passed; failed += case_failed; skipped += case_skipped
      # A crash, a leak at exit or a timeout fails the executable although each test case passed.
      if (state != "passed" && case_failed == 0) failed++
    }
    open = 0
  }
  /^[0-9]+\/[0-9]+ Testing: / { close_test(); open = 1; cases = 0; state = "failed" }
  open && /^\[doctest\] test cases: / {
    cases = 1
    counts = $0; gsub(/[^0-9|]/, "", counts)
    split(counts, part, "|")
    case_passed = part[2]; case_failed = part[3]; case_skipped = part[4]
  }
  open && /^Test Passed\.$/ { state = "passed" }
  open && /^Test (Skipped|Not Run)/ { state = "skipped" }
  END {
    close_test()
    printf "%d passed, %d failed", passed, failed
    if (skipped) printf ", %d skipped", skipped
    printf "\n"
    exit failed > 0 || passed == 0
  }
' "$1"
