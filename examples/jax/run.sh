#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [--build|--quick]
# Installs what is missing, installs hoft in build/prefix, builds the calls in build/jax, runs the tests and trains.
# --build: no more than builds. --quick: trains for fewer steps. PYTHON names an interpreter that has jax and is taken
# as it is.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$root/build/jax

bash "$root/scripts/install_packages.sh" jax
python=${PYTHON:-$(bash "$root/scripts/install_python.sh" "$root/build/venv")}
prefix=$(bash "$root/scripts/stage.sh")
cmake -G Ninja -S "$root/examples/jax" -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_FLAGS_RELEASE="${CXXFLAGS:--O3 -march=native}" \
  -DJAX_FFI_INCLUDE_DIR="$("$python" -c 'import jax.ffi; print(jax.ffi.include_dir())')"
cmake --build "$build" --parallel "$(bash "$root/scripts/jobs.sh")"
if [[ ${1-} == --build ]]; then exit; fi

"$python" -m unittest discover --start-directory "$root/examples/jax/tests"
"$python" "$root/examples/jax/train.py" "$@"
