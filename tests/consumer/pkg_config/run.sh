#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh <installed prefix> <compiler>
# A user without CMake: the installed package is moved, found by pkg-config where it is now, compiled against and run.
set -euo pipefail

prefix=$1 compiler=$2
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
moved=$(mktemp -d)
trap 'rm -rf "$moved"' EXIT
cp -r "$prefix/include" "$prefix/share" "$moved"

export PKG_CONFIG_PATH=$moved/share/pkgconfig
pkg-config --validate hoft
read -ra flags <<<"$(pkg-config --cflags hoft)"
read -ra libraries <<<"$(pkg-config --libs hoft)"
include=$(realpath "$(pkg-config --variable=includedir hoft)")
[[ $include == "$(realpath "$moved/include")" ]] || { echo "pkg-config says that the headers are in $include"; exit 1; }

"$compiler" -std=c++20 "${flags[@]}" "$sources/main.cpp" -o "$moved/consumer" "${libraries[@]}"
said=$("$moved/consumer")
echo "$said"
[[ $said == "hoft $(pkg-config --modversion hoft): "* ]] || { echo "pkg-config has another version"; exit 1; }
