#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: check_quotes.sh
# Documents quote compiled code only: each ```cpp block of README.md and docs/ must stand, line for line and blank
# lines and indentation aside, in a source of examples/, tests/ or bench/, or in a header. README.md must quote
# examples/quickstart.cpp whole, but for the line of the licence.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
documents=$(find ./README.md ./docs -name '*.md' | LC_ALL=C sort)
sources=$(find examples tests bench include -type f \( -name '*.cpp' -o -name '*.hpp' -o -name '*.cu' \) | LC_ALL=C sort)

# Paths of this project hold no blanks.
# shellcheck disable=SC2086
awk -v documents="$documents" '
  function trimmed(line) { gsub(/^[ \t]+|[ \t\r]+$/, "", line); return line }
  function check_block(   i, found) {
    blocks++
    for (i = 1; i <= count; i++) {
      if (index(text[i], "\n" block) == 0) continue
      found = 1
      if (FILENAME == "./README.md" && names[i] == "examples/quickstart.cpp" && text[i] == "\n" block) quickstart = 1
    }
    if (!found) { printf "%s:%d: this block is in no compiled source\n", FILENAME, first; bad = 1 }
  }
  BEGIN {
    n = split(documents, is_document_list, "\n")
    for (i = 1; i <= n; i++) is_document[is_document_list[i]] = 1
  }
  FNR == 1 && !(FILENAME in is_document) { count++; names[count] = FILENAME; text[count] = "\n" }
  !(FILENAME in is_document) && /SPDX-License-Identifier/ { next }
  !(FILENAME in is_document) { line = trimmed($0); if (line != "") text[count] = text[count] line "\n"; next }
  FNR == 1 { inside = 0 }
  !inside && /^[ \t]*```(cpp|c\+\+)[ \t]*$/ { inside = 1; block = ""; first = FNR; next }
  inside && /^[ \t]*```[ \t]*$/ { inside = 0; check_block(); next }
  inside { line = trimmed($0); if (line != "") block = block line "\n" }
  END {
    for (i = 1; i <= count; i++)
      if (names[i] == "examples/quickstart.cpp" && ("./README.md" in is_document) && !quickstart) {
        print "./README.md: examples/quickstart.cpp is not quoted whole"; bad = 1
      }
    if (!bad) printf "%d blocks of code, all of them compiled\n", blocks
    exit bad
  }
' $sources $documents
