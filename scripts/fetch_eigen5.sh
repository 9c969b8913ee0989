#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: fetch_eigen5.sh
# Puts the headers of Eigen 5 in build/eigen-5, with a package for CMake (-DEigen3_DIR=build/eigen-5). Debian 12 has
# Eigen 3.4; PyPI's eigency, a binding of Eigen to NumPy, ships the headers as they are. They are all that is taken from
# the wheel: nothing of it is installed or run, so that it matters little which platform's wheel it is.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=5.0.1
out=build/eigen-5
if [[ -f $out/Eigen3Config.cmake ]] && grep -q "\"$version\"" "$out/include/Eigen/Version"; then exit 0; fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo "eigency==$version.1 --hash=sha256:5a34a04a6039e067b7fe5ed4b876522fdbab81383b2f9286e94e45e15ae50676" >"$scratch/wanted"
/usr/bin/python3 -m pip download --quiet --no-deps --require-hashes --requirement "$scratch/wanted" --dest "$scratch" \
  --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64
/usr/bin/python3 -m zipfile --extract "$scratch"/eigency-*.whl "$scratch/wheel"

rm -rf "$out"
mkdir -p "$out/include"
cp -r "$scratch/wheel/eigency/eigen/Eigen" "$scratch"/wheel/eigency/eigen/COPYING* "$out/include"
grep -q "\"$version\"" "$out/include/Eigen/Version" || { echo "fetch_eigen5.sh: the wheel has another Eigen" >&2; exit 1; }
cat >"$out/Eigen3ConfigVersion.cmake" <<EOF
set(PACKAGE_VERSION $version)
set(PACKAGE_VERSION_COMPATIBLE TRUE)
EOF
cat >"$out/Eigen3Config.cmake" <<'EOF'
if(NOT TARGET Eigen3::Eigen)
  add_library(Eigen3::Eigen INTERFACE IMPORTED)
  target_include_directories(Eigen3::Eigen INTERFACE "${CMAKE_CURRENT_LIST_DIR}/include")
endif()
EOF
