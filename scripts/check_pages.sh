#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: check_pages.sh
# Fails when a page or a figure that a program writes is not what it would write from the results that are kept.
# Measures nothing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
programs=(
  bench/report.py
  bench/claims/harness.py
  bench/scaling/model.py
  bench/threads/threads.py
  bench/gpu/counts.py
  bench/linear.py
  bench/linalg_torch.py
  tests/cuda/mutants/mutants.py
  bench/readme.py
  examples/finetune_images/report.py
  examples/finetune_text/report.py
  scripts/draw_transform.py
  scripts/draw_layers.py
  scripts/draw_compact_wy.py
  scripts/show_examples.py
)

status=0
for program in "${programs[@]}"; do
  if ! /usr/bin/python3 "$program" --check; then
    echo "check_pages.sh: $program --check fails" >&2
    status=1
  fi
done
if [[ $status -eq 0 ]]; then echo "${#programs[@]} programs, their pages as they would write them"; fi
exit "$status"
