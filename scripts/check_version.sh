#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: check_version.sh [root]
# The version has one home, include/hoft/version.hpp. Prints it, and fails where what cannot read the header says another.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

# part <name>: the number that the header gives it.
part() { sed -n "s/^#define HOFT_VERSION_$1 \([0-9][0-9]*\)\$/\1/p" include/hoft/version.hpp; }
version=$(part MAJOR).$(part MINOR).$(part PATCH)
if [[ ! $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]; then
  echo "check_version.sh: include/hoft/version.hpp gives '$version', not three numbers" >&2
  exit 2
fi

status=0
# says <file> <expected> <sed script>: what the script prints first of the file is what was expected.
says() {
  local found
  found=$(sed -n "$3" "$1" | sed -n 1p)
  if [[ $found != "$2" ]]; then
    echo "$1: says '$found' where include/hoft/version.hpp gives '$2'" >&2
    status=1
  fi
}
says CHANGELOG.md "$version" 's/^## \([^,]*\).*/\1/p'
says CITATION.cff "$version" 's/^version: //p'
says packaging/vcpkg/hoft/vcpkg.json "$version" 's/^ *"version": "\(.*\)",$/\1/p'
says packaging/spack/packages/hoft/package.py "$version" 's/^ *version("\([0-9.]*\)".*/\1/p'
minor="${version%.*}"
# shellcheck disable=SC2016
says docs/internals/architecture.md "v${minor/./_}" 's/.*`hoft::\(v[0-9_]*\)`.*/\1/p'

if [[ $status -eq 0 ]]; then echo "$version"; fi
exit "$status"
