#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: wrong.sh <folder of the libraries> <program wrong>: each of its cases must be reported, in these words.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
libraries=$1 program=$2 failed=0 cases=0

# expect <case> <words, a basic regular expression>
expect() {
  local name=$1 words=$2 out status=0
  cases=$((cases + 1))
  out=$(bash "$here/../run.sh" "$libraries" "$program" "$name" 2>&1) || status=$?
  if [[ $status -eq 86 ]] && grep -q -- "$words" <<<"$out"; then return; fi
  echo "FAILED: $name: it ended with $status, or other words than \"$words\": $out"
  failed=1
}

expect race_in_block "threads of a block without a barrier"
expect race_in_warp "lanes of a warp without a sync"
expect race_of_blocks "blocks of a launch that nothing orders"
expect race_write_after_read "writes after a read\|reads after a write"
expect unwaited "is read that nobody waited for"
expect overwritten_copy "is overwritten that nobody waited for"
expect unsynchronised_copy "race"
expect bulk_0 "nobody waited for"
expect bulk_1 "would not end"
expect bulk_2 "race"
expect bulk_3 "ends before its bulk copies"
expect bulk_4 "multiples of 16"
expect bulk_5 "no fence .*where it comes from"
expect bulk_6 "no fence .*its barrier"
expect bulk_7 "no fence .*where it goes"
expect bulk_8 "has been written over"
expect unsynchronised_bulk "arrives at an mbarrier after a copy"
expect beyond "a store of 4 bytes"
expect beyond_shared "a store of 4 bytes of shared memory"
expect misaligned "no multiple"
expect uninitialised "uninitialised shared memory"
expect uninitialised_global "uninitialised device memory"
expect divergent "a barrier that lanes\|different barriers"
expect missing_warp "deadlock\|several barriers"
expect cluster_too_early "before it is known to have begun"
expect cluster_left "ends while others may still\|has exited"
expect ldmatrix_misaligned "no multiple"
expect of_freed "freed"
[[ $failed -eq 0 ]] && echo "$cases faults, all of them found"
exit "$failed"
