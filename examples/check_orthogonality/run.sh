#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [option...] FILE
# Installs what is missing, builds check_orthogonality in build/examples and measures the matrix in FILE, which
# numpy.save wrote.
#   --before=FILE         the matrix before it was transformed, to measure what has changed
#   --rows                rows in place of columns
#   --tolerance=X         fails where the orthogonality error is larger
#   --drift-tolerance=X   fails where the singular value drift is larger; with --before
#   --json                prints JSON
# Exit status: 0, or 1 beyond a tolerance, or 2 if the input cannot be used.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"
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
