#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run_emulated.sh <build folder>
# bench/gpu/run.sh on the emulator, from the tests to the table, and that nobody takes what it leaves for measured.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../.. folder=$1
fail() { echo "FAILED: $1"; exit 1; }

rm -f "$folder/results.json"
bash "$root/bench/gpu/run.sh" --emulated --built="$folder" 2>&1 | tee "$folder/run_emulated.txt"
printed=$(<"$folder/run_emulated.txt")
[[ $printed =~ test\ cases:\ +[1-9] ]] || fail "no test ran"
[[ $printed == *"emulated: no times"* ]] || fail "the table does not say that its times are none"

python=/usr/bin/python3
$python - "$folder/results.json" <<'PYTHON' || fail "the results are not what the emulator gives"
import json, sys

with open(sys.argv[1], encoding="utf-8") as file:
    results = json.load(file)
assert results["emulated"] is True and results["small"] is True and results["device"].startswith("emulated")
assert "cusolver_ormqr" in results["left_out"]
assert len(results["cases"]) == 8 and all(min(one["us"]) > 0 for case in results["cases"].values() for one in case.values())
PYTHON
if refusal=$($python "$root/bench/gpu_targets.py" "$folder/results.json" 2>&1); then fail "gpu_targets.py took them"; fi
[[ $refusal == *"no time in it is measured"* ]] || fail "gpu_targets.py says: $refusal"
