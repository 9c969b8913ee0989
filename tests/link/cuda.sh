#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: cuda.sh <nvcc> <work folder> <include folder of hoft> [<libraries of the emulator>]
# Compiles two sources of one program for different GPU architectures and compares their symbols: a kernel, and what the
# host knows of it, must not be shared. With an emulator (ptx/README.md) the program runs, too.
set -euo pipefail

nvcc=$1 work=$2 include=$3 emulator=${4-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rm -rf "$work"
mkdir -p "$work"

# PTX will do: names are what counts, and an emulator reads it.
compile() {
  "$nvcc" -std=c++20 --extended-lambda -O0 -Xcompiler=-O0,-w -w --no-compress "-I$include" "-DHOFT_LINK_SELF=$1" "${@:2}" \
    -c "$here/calls.cu" -o "$work/$1.o"
  nm "$work/$1.o" | awk '$(NF - 1) ~ /^[WVuT]$/ { print $NF }' | LC_ALL=C sort -u >"$work/$1.symbols"
}
compile a -gencode arch=compute_80,code=compute_80
compile b -gencode arch=compute_90,code=compute_90

gpu=$(grep -c -E '4hoft.*4cuda' "$work/a.symbols" || true)
if [[ $gpu -lt 10 ]]; then echo "FAILED: only $gpu symbols of hoft::cuda, is this a test?"; exit 1; fi
shared=$(comm -12 "$work/a.symbols" "$work/b.symbols" | c++filt | grep -E 'hoft::([a-z0-9_]+::)*cuda::' || true)
if [[ -n $shared ]]; then
  echo "FAILED: both sources define"
  head -n 10 <<<"$shared" | cut -c 1-200
  exit 1
fi
echo "$gpu symbols of hoft::cuda, none shared"

if [[ -z $emulator ]]; then exit 0; fi
"$nvcc" -std=c++20 -O0 -cudart shared "-I$include" "$here/device.cpp" "$work/a.o" "$work/b.o" -lcublas -o "$work/device"
bash "$here/../ptx/run.sh" "$emulator" "$work/device"
