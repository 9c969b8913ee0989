#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: stage.sh
# Installs hoft in build/prefix, as a package for examples that look for one, and prints that path.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake -G Ninja -S . -B build/stage -DHOFT_BUILD_TESTS=OFF -DCMAKE_INSTALL_PREFIX="$PWD/build/prefix" \
  -DCMAKE_INSTALL_MESSAGE=LAZY >&2
cmake --install build/stage >&2
echo "$PWD/build/prefix"
