#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: check_license.sh [root]
# Each tracked source must name the licence of LICENSE in an SPDX line: its first, or the second after a #! line.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
read -r title <LICENSE
if [[ $title != "BSD 3-Clause License" ]]; then
  echo "check_license.sh: LICENSE begins with '$title'; which SPDX name that has is not known here" >&2
  exit 2
fi
named="SPDX-License-Identifier: BSD-3-Clause"

status=0 count=0
while IFS= read -r -d '' path; do
  [[ -f $path ]] || continue # deleted, but not yet from the index
  case $path in
    *.hpp | *.cpp | *.cuh | *.cu | *.h) wanted="// $named" ;;
    *) wanted="# $named" ;;
  esac
  line=
  {
    IFS= read -r line || true
    if [[ $line == '#!'* ]]; then IFS= read -r line || true; fi
  } <"$path"
  count=$((count + 1))
  if [[ $line != "$wanted" ]]; then
    echo "$path: does not begin with the line '$wanted'"
    status=1
  fi
done < <(git ls-files -z -- '*.hpp' '*.cpp' '*.cuh' '*.cu' '*.h' '*.py' '*.sh' '*.cmake' '*CMakeLists.txt' .ci/run)

if [[ $count -eq 0 ]]; then
  echo "check_license.sh: no sources found" >&2
  exit 2
fi
if [[ $status -eq 0 ]]; then echo "$count sources name their licence"; fi
exit "$status"
