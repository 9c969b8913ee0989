#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [--emulated] [--save] [--built[=<folder>] | --build-only] [--tests-only | --bench-only | --compare-only]
# On a machine with an NVIDIA GPU and CUDA 12.4 or newer: builds for the chip it finds, runs every test of the CUDA
# backend there with HOFT_REQUIRE_GPU=1, a part of them under compute-sanitizer's four tools, and the benchmarks, whose
# results it prints, beside the ceilings found in the same run and what each must reach, and leaves in
# build/gpu/results.json. Then the comparison of a training step with PyTorch and PEFT (compare_torch/README.md), in
# build/gpu/training.json. Nine minutes after the first compilation began nothing runs any more: the comparison makes as
# many rounds as fit, and a part that has no time left says so and fails.
#   --save   writes bench/results/gpu.json and gpu_training.json as well, with commit and date
#   --built  builds nothing: the folder, build/gpu, comes from a machine with the tests' packages (there: run.sh
#            --build-only)
#   --build-only  runs nothing; for the chips in CMAKE_CUDA_ARCHITECTURES, or else the one it finds, or else 90
#   --emulated  on a machine with CUDA 13 and no GPU: the same on the emulator of tests/ptx, in build/tests, with a part
#            of the tests and small sizes, so that what is wrong in here shows before there is a GPU. No time is one:
#            results.json says "emulated": true, no page or plot takes it, and --save is refused. compute-sanitizer and
#            the comparison with PyTorch cannot run there
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

refuse() {
  echo "run.sh: $1" >&2
  exit "${2:-2}"
}

folder= emulated= save= build=yes tests=yes bench=yes compare=yes
for option in "$@"; do
  case $option in
    --emulated) emulated=yes ;;
    --save) save=yes ;;
    --built) build= ;;
    --built=?*) build= folder=${option#*=} ;;
    --build-only) tests= bench= compare= ;;
    --tests-only) bench= compare= ;;
    --bench-only) tests= compare= ;;
    --compare-only) build= tests= bench= ;; # its extension is built by PyTorch
    *) refuse "no option is called '$option'; --help lists them" ;;
  esac
done

if [[ -z $build$tests$bench$compare ]]; then
  refuse "these options leave nothing to do; --help says what each does"
fi
if [[ -n $emulated && -n $save ]]; then refuse "--save keeps what a GPU was measured to do, and --emulated measures nothing"; fi
if [[ -n $emulated && -z $build$tests$bench ]]; then
  refuse "PyTorch cannot run on the emulator; compare_torch.py --device cpu is the dry run of the comparison"
fi
if [[ -n $save ]]; then git rev-parse HEAD >/dev/null; fi # before anything is measured


if [[ -n $emulated ]]; then
  preset=default folder=${folder:-build/tests} limit=3600 repetitions=(1)
  on=(bash tests/ptx/run.sh "$folder/tests/ptx/lib")
  python=/usr/bin/python3 # Debian's, as for everything that needs no GPU
else
  preset=gpu folder=${folder:-build/gpu} limit=540 repetitions=() on=() python=python3
fi

# within <command>...: in what is left of the time
within() {
  local left=$((limit - SECONDS)) status=0
  if ((left > 0)); then timeout --foreground --kill-after=10 "$left" "$@" || status=$?; fi
  if ((left <= 0 || status == 124 || status == 137)); then
    refuse "$((limit / 60)) minutes were over before the end of: $*; take --built, or parts (see its head)" 1
  fi
  return "$status"
}

if [[ -n $build ]]; then
  bash scripts/install_packages.sh tests
  command -v "${CUDACXX:-nvcc}" >/dev/null || refuse "no nvcc in PATH (CUDA 12.4 or newer)" 1
  architectures=()
  if [[ -z $emulated ]]; then
    capability=${CMAKE_CUDA_ARCHITECTURES:-}
    if [[ -z $capability ]]; then
      capability=$(nvidia-smi --id=0 --query-gpu=compute_cap --format=csv,noheader 2>/dev/null) || capability=9.0
      capability=${capability//./}
    fi
    architectures=(-DCMAKE_CUDA_ARCHITECTURES="$capability")
  fi
  cmake --preset "$preset" -B "$folder" "${architectures[@]}"
  SECONDS=0 # what a machine lacks at first does not count
  cmake --build "$folder" --parallel "$(bash scripts/jobs.sh)" --target cuda_device_test hoft_gpu_bench hoft_gpu_shapes
fi
if [[ -n $emulated && ! -d $folder/tests/ptx/lib ]]; then
  refuse "no emulator in $folder: it is built where there are CUDA 13 and no GPU" 1
fi

if [[ -n $tests ]]; then
  export HOFT_REQUIRE_GPU=1
  program=$folder/tests/cuda_device_test
  part="columns of every length*,gradients of unusual*,two streams*,a batch has*"
  IFS=, read -ra names <<<"$part"
  for name in "${names[@]}"; do # a filter that finds nothing would pass
    found=$("${on[@]}" "$program" --count --test-case="$name")
    [[ $found =~ filters:\ [1-9] ]] || refuse "no test case is called '$name'" 1
  done
  if [[ -n $emulated ]]; then
    within "${on[@]}" "$program" --no-skipped-summary --test-case="$part"
    echo "run.sh: no compute-sanitizer, which needs a GPU; the emulator checks every access itself"
  else
    within "$program"
    for tool in memcheck racecheck initcheck synccheck; do
      echo "compute-sanitizer $tool"
      within compute-sanitizer --tool "$tool" --error-exitcode 9 "$program" --no-skipped-summary --test-case="$part"
    done
  fi
fi
if [[ -n $bench ]]; then
  results=$folder/results.json
  within "${on[@]}" "$folder/bench/gpu/hoft_gpu_bench" "$results" "${repetitions[@]}" ${emulated:+--small}
  within "$python" bench/gpu/torch_peers.py "$results" "${repetitions[@]}"
  "$python" bench/gpu_targets.py ${emulated:+--emulated} "$results"
  if [[ -n $save ]]; then "$python" bench/gpu/save.py "$results" bench/results/gpu.json "bash bench/gpu/run.sh --save"; fi
fi
if [[ -n $compare && -n $emulated ]]; then
  echo "run.sh: no comparison: PyTorch cannot run on the emulator; compare_torch.py --device cpu is its dry run"
elif [[ -n $compare ]]; then
  if ! "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    echo "run.sh: no comparison: the PyTorch of $(command -v "$python") is missing or finds no GPU" >&2
    # Asked for alone, that is a failure.
    [[ -n $bench ]] || exit 1
  else
    mkdir -p "$folder"
    left=$((limit - SECONDS - 90)) # a round, and what stands before the first, take as long
    within "$python" bench/gpu/compare_torch/compare_torch.py --limit="$((left > 30 ? left : 30))" \
      --out="$folder/training.json"
    if [[ -n $save ]]; then cp "$folder/training.json" bench/results/gpu_training.json; fi
  fi
fi
