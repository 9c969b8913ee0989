#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [option...]
# Installs what is missing, builds finetune_images in build/examples, runs it with the given options and draws its
# results.
#   --quick            shorter trainings, fewer rates, 2 seeds: under 3 minutes on 2 cores
#   --rank=N           of LoRA, and the reflectors on each side of HOFT and SHOFT; even
#   --std=X            the standard deviation that reflectors start with
#   --method=NAME      full, lora, hoft or shoft alone; repeat it for several
#   --seeds=N          repetitions, with seeds 1, 2, ...
#   --threads=N        trainings at a time; the results do not depend on it
#   --data=FOLDER      of the gzip IDX files of Fashion-MNIST
#   --out=FOLDER       for the results, build/finetune_images unless told
#   --save             alone: writes bench/results/finetune_images.json and the tables of finetune_images/README.md
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/help.sh"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

save=
if [[ " $* " == *" --save "* ]]; then
  if [[ $# -gt 1 ]]; then
    echo "run.sh: --save keeps whole runs only, without other options" >&2
    exit 2
  fi
  save=yes
  shift
fi

bash "$root/scripts/install_packages.sh" examples
cmake -G Ninja -S "$root" -B "$root/build/examples" -DCMAKE_BUILD_TYPE=Release \
  -DHOFT_BUILD_EXAMPLES=ON -DHOFT_BUILD_TESTS=OFF -DHOFT_NATIVE=ON
cmake --build "$root/build/examples" --target finetune_images --parallel "$(bash "$root/scripts/jobs.sh")"

# Where the results will be, which the plots must know too.
out=
previous=
for argument in "$@"; do
  case $argument in
    --out=*) out=${argument#--out=} ;;
    *) [[ $previous != --out ]] || out=$argument ;;
  esac
  previous=$argument
done
if [[ -z $out ]]; then
  out=$root/build/finetune_images
  set -- --out "$out" "$@"
fi

"$root/build/examples/examples/finetune_images" "$@"
/usr/bin/python3 "$root/examples/plot_finetune.py" "$out"
if [[ -n $save ]]; then /usr/bin/python3 "$root/examples/finetune_images/report.py" "$out"; fi
