#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: check_names.sh [root]
# Every file and folder that README.md, docs/ or another document of the root, of packaging/ or of bench/ names in
# `code font` must be tracked: `cuda/kernel/apply.hpp` is the end of a path, `view/` a folder somewhere. What is built
# (build/...) and the text of code blocks is not looked at.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
documents=$(git ls-files README.md CODE_OF_CONDUCT.md CONTRIBUTING.md SECURITY.md bench/README.md 'docs/*.md' 'packaging/*.md')

# Paths of this project hold no blanks.
# shellcheck disable=SC2086
git ls-files | awk '
  function check(name,   folder) {
    if (name !~ /^[[:alnum:]_.\/-]+$/ || name ~ /^(\/|build\/)/) return
    folder = name ~ /\/$/
    if (!folder && name !~ /[[:alnum:]_]\.(hpp|cpp|h|cu|cuh|sh|py|md|json|svg|cmake|dox)$/) return
    sub(/^(\.\.?\/)+/, "", name)
    names++
    if (name in known) return
    printf "%s:%d: no file or folder of the repository is called %s\n", FILENAME, FNR, name
    bad = 1
  }
  FILENAME == "-" {  # every end of every path, with the folders above it
    count = split($0, part, "/")
    for (i = 1; i <= count; i++) {
      end = ""
      for (j = i; j <= count; j++) {
        end = end part[j] (j < count ? "/" : "")
        if (j < count || end != "") known[end] = 1
      }
    }
    next
  }
  FNR == 1 { inside = 0 }
  /^[ \t]*```/ { inside = !inside; next }
  inside { next }
  {
    count = split($0, piece, "`")
    for (i = 2; i <= count; i += 2) check(piece[i])
  }
  END {
    if (!bad) printf "%d files and folders named, all of them there\n", names
    exit bad
  }
' - $documents
