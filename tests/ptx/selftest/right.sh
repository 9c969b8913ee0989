#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: right.sh <folder of the libraries> <program right>: it must pass in every mode of the emulator.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
failed=0
for settings in PTXEMU_SCHEDULE=forward PTXEMU_SCHEDULE=reverse PTXEMU_SCHEDULE=random:3 PTXEMU_LANES=thread \
  "PTXEMU_LANES=thread PTXEMU_SCHEDULE=reverse" PTXEMU_MMA=truncate PTXEMU_STREAMS=eager PTXEMU_THREADS=2; do
  # shellcheck disable=SC2086
  if out=$(env $settings bash "$here/../run.sh" "$1" "$2" 2>&1); then
    echo "$settings: $out"
  else
    echo "FAILED: $settings: $out"
    failed=1
  fi
done
exit "$failed"
