#!/usr/bin/env bash
# Usage: run.sh [--quick]
# Installs what is missing, then installs hoft in build/libtorch/prefix, builds this example on it and trains.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/build/libtorch

bash "$root/scripts/install_packages.sh" libtorch
cmake -G Ninja -S "$root" -B "$here/hoft" -DHOFT_BUILD_TESTS=OFF -DCMAKE_INSTALL_MESSAGE=LAZY \
  -DCMAKE_INSTALL_PREFIX="$here/prefix"
cmake --install "$here/hoft"
cmake -G Ninja -S "$root/examples/libtorch" -B "$here/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$here/prefix" \
  -DCMAKE_CXX_FLAGS_RELEASE="${CXXFLAGS:--O3 -march=native}"
cmake --build "$here/build"

# libtorch reads the files uncompressed.
mkdir -p "$here/data"
for file in /usr/share/datasets/fashion-mnist/*.gz; do
  gunzip --stdout "$file" >"$here/data/$(basename "$file" .gz)"
done
"$here/build/train" "$here/data" "$@"
