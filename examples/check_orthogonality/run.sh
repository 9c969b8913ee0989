#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [option...] file
# Installs what is missing, builds check_orthogonality in build/examples and runs it (--help lists its options).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# What is said on the way is shown where it fails, on stderr: stdout is the program's.
build() {
  bash "$root/scripts/install_packages.sh" examples &&
    cmake -G Ninja -S "$root" -B "$root/build/examples" -DCMAKE_BUILD_TYPE=Release \
      -DHOFT_BUILD_EXAMPLES=ON -DHOFT_BUILD_TESTS=OFF -DHOFT_NATIVE=ON &&
    cmake --build "$root/build/examples" --target check_orthogonality
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
build >"$log" 2>&1 || status=$?
if [[ $status -ne 0 ]]; then
  cat "$log" >&2
  exit "$status"
fi
rm -f "$log"

exec "$root/build/examples/examples/check_orthogonality/check_orthogonality" "$@"
