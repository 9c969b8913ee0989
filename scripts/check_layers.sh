#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: check_layers.sh [root]
# Fails when a header under include/hoft breaks the layers: see the table `may` below and docs/internals/architecture.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

root=${1:-$(dirname "${BASH_SOURCE[0]}")/..}
cd "$root"
[[ -d include/hoft ]] || { echo "check_layers.sh: $root has no include/hoft" >&2; exit 2; }

list=$(mktemp)
trap 'rm -f "$list"' EXIT
find include/hoft -type f \( -name '*.hpp' -o -name '*.cuh' \) | LC_ALL=C sort >"$list"

awk -v list="$list" '
  function fail(message) { printf "%s:%d: %s\n", file, line_number, message; bad = 1 }
  function may_include(from, to) { return index(" " may[from] " ", " " to " ") > 0 }
  function uses_eigen(from) { return index(" view/eigen.hpp reference cpu eigen ", " " from " ") > 0 }
  function is_optional(from) { return from == "view/dlpack.hpp" || from == "view/mdspan.hpp" }
  # A header that is a layer by itself, else its folder under hoft/, or its name where it stands in none.
  function layer_of(path) {
    sub(/^hoft\//, "", path)
    if (path in may) return path
    sub(/\/.*$/, "", path)
    sub(/\..*$/, "", path)
    return path
  }

  function check_include(target,   quoted, to) {
    quoted = substr(target, 1, 1) == "\""
    gsub(/[<>"]/, "", target)
    if (quoted) { fail("headers are included as <hoft/...>, not \"" target "\""); return }
    if (target ~ /^hoft\//) {
      to = layer_of(target)
      if (!(target in exists)) fail("there is no header " target)
      else if (!may_include(from, to)) fail(from " may not include " to)
    } else if (target ~ /^(Eigen|unsupported\/Eigen)(\/|$)/) {
      if (!uses_eigen(from)) fail(from " may not include Eigen")
    } else if (target ~ /^(cub|cuda|cuda_runtime|cuda_runtime_api|cublas[a-z_0-9]*|cooperative_groups|thrust|nv)([.\/]|$)/ \
               || target ~ /^cuda_[a-z0-9_]*\.h/) {
      if (from != "cuda" && !(is_optional(from) && target ~ /^cuda\/std\//)) fail(from " may not include the CUDA toolkit")
    } else if (target == "cblas.h") {
      if (from != "blas.hpp") fail(from " may not include a BLAS")
    } else if (target == "mpi.h") {
      if (from != "mpi.hpp") fail(from " may not include MPI")
    } else if (target == "nccl.h") {
      if (from != "nccl.hpp") fail(from " may not include NCCL")
    } else if (target ~ /[\/.]/ && !is_optional(from)) {
      fail("only the standard library, Eigen and hoft itself, not " target)
    }
  }

  BEGIN {
    may["version"] = ""
    may["abi"] = "version"
    may["config"] = "abi"
    may["fwd.hpp"] = "config core"
    may["core"] = "config core"
    may["view"] = "config core view"
    may["view/eigen.hpp"] = may["view/dlpack.hpp"] = may["view/mdspan.hpp"] = "config core view"
    may["memory"] = "config core view memory"
    may["backend"] = "config core view memory backend"
    may["reference"] = "config core view view/eigen.hpp reference"
    may["cpu"] = "config core view view/eigen.hpp memory backend cpu"
    may["cuda"] = "config core view memory backend cuda"
    may["householder"] = "config core view memory backend householder"
    may["adapter"] = "config core view memory backend householder adapter"
    may["sharded"] = "config core view memory backend householder adapter sharded"
    may["eigen"] = "config core view view/eigen.hpp memory backend reference cpu householder adapter eigen"
    may["hoft.hpp"] = may["eigen"]
    may["blas.hpp"] = may["eigen"]
    may["mpi.hpp"] = may["sharded"]
    may["cuda.hpp"] = "config core view memory backend cuda householder adapter"
    may["nccl.hpp"] = may["sharded"] " cuda.hpp"

    while ((getline file < list) > 0) { name = file; sub(/^include\//, "", name); exists[name] = 1; files[++count] = file }
    for (i = 1; i <= count; i++) {
      file = files[i]; line_number = 0; once = 0; in_comment = 0
      from = layer_of(substr(file, length("include/") + 1))
      if (!(from in may)) fail("no layer is called " from)
      while ((getline line < file) > 0) {
        line_number++
        sub(/\r$/, "", line)
        if (line ~ /^[ \t]*#[ \t]*pragma[ \t]+once/) once = 1
        if (line ~ /^[ \t]*#[ \t]*include/) {
          target = line
          sub(/^[ \t]*#[ \t]*include[ \t]*/, "", target)
          if (match(target, /^(<[^>]*>|"[^"]*")/)) check_include(substr(target, RSTART, RLENGTH))
          else fail("an include that is no file name")
          continue
        }
        # What is said of Eigen in comments is no use of it.
        code = line
        if (in_comment) { if (sub(/^.*\*\//, "", code)) in_comment = 0; else continue }
        gsub(/\/\*[^*]*\*\//, "", code)
        sub(/\/\/.*$/, "", code)
        if (sub(/\/\*.*$/, "", code)) in_comment = 1
        if (code ~ /(^|[^A-Za-z0-9_])Eigen::/ && !uses_eigen(from)) fail(from " may not use Eigen")
      }
      close(file)
      if (!once) { line_number = 1; fail("no #pragma once") }
    }
    if (count == 0) { print "check_layers.sh: no headers found"; bad = 1 }
    exit bad
  }
'
