#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [option...]
# Installs what is missing, builds finetune_images in build/examples, runs it with the given options (--help lists them)
# and draws its results. Without --out they go to build/finetune_images. `run.sh --quick` is the short form.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

bash "$root/scripts/install_packages.sh" examples
cmake -G Ninja -S "$root" -B "$root/build/examples" -DCMAKE_BUILD_TYPE=Release \
  -DHOFT_BUILD_EXAMPLES=ON -DHOFT_BUILD_TESTS=OFF -DHOFT_NATIVE=ON
cmake --build "$root/build/examples" --target finetune_images --parallel "$(bash "$root/scripts/jobs.sh")"

# Where the results will be, which the plots must know too.
out=
plots=yes
previous=
for argument in "$@"; do
  case $argument in
    --out=*) out=${argument#--out=} ;;
    -h | --help) plots=no ;;
    *) [[ $previous != --out ]] || out=$argument ;;
  esac
  previous=$argument
done
if [[ -z $out ]]; then
  out=$root/build/finetune_images
  set -- --out "$out" "$@"
fi

"$root/build/examples/examples/finetune_images" "$@"
[[ $plots == no ]] || /usr/bin/python3 "$root/examples/plot_finetune.py" "$out"
