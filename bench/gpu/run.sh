#!/usr/bin/env bash
# Usage: run.sh [--save] [--built | --build-only] [--tests-only | --bench-only | --compare-only]
# On a machine with an NVIDIA GPU and CUDA 12.4 or newer: builds for the chip it finds, runs every test of the CUDA
# backend there with HOFT_REQUIRE_GPU=1, a part of them under compute-sanitizer's four tools, and the benchmarks, whose
# results it prints, beside the ceilings found in the same run and what each must reach, and leaves in
# build/gpu/results.json. Then the comparison of a training step with PyTorch and PEFT (compare_torch/README.md), in
# build/gpu/training.json. Nine minutes after the first compilation began nothing runs any more: the comparison makes as
# many rounds as fit, and a part that has no time left says so and fails.
#   --save   writes bench/results/gpu.json and gpu_training.json as well, with commit and date
#   --built  builds nothing: build/gpu comes from a machine with the tests' packages (there: run.sh --build-only)
#   --build-only  runs nothing; for the chips in CMAKE_CUDA_ARCHITECTURES, or else the one it finds, or else 90
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
save= build=yes tests=yes bench=yes compare=yes
for option in "$@"; do
  case $option in
    --save) save=yes ;;
    --built) build= ;;
    --build-only) tests= bench= compare= ;;
    --tests-only) bench= compare= ;;
    --bench-only) tests= compare= ;;
    --compare-only) build= tests= bench= ;; # its extension is built by PyTorch
    *)
      echo "run.sh: no option is called '$option'; see the head of bench/gpu/run.sh" >&2
      exit 2
      ;;
  esac
done

if [[ -z $build$tests$bench$compare ]]; then
  echo "run.sh: these options leave nothing to do; see the head of bench/gpu/run.sh" >&2
  exit 2
fi
if [[ -n $save ]]; then git rev-parse HEAD >/dev/null; fi # before anything is measured

# within <command>...: in what is left of nine minutes
within() {
  local left=$((540 - SECONDS)) status=0
  if ((left > 0)); then timeout --foreground --kill-after=10 "$left" "$@" || status=$?; fi
  if ((left <= 0 || status == 124 || status == 137)); then
    echo "run.sh: nine minutes were over before the end of: $*; take --built, or parts (see its head)" >&2
    exit 1
  fi
  return "$status"
}

if [[ -n $build ]]; then
  bash scripts/install_packages.sh tests
  command -v "${CUDACXX:-nvcc}" >/dev/null || { echo "run.sh: no nvcc in PATH (CUDA 12.4 or newer)" >&2; exit 1; }
  capability=${CMAKE_CUDA_ARCHITECTURES:-}
  if [[ -z $capability ]]; then
    capability=$(nvidia-smi --id=0 --query-gpu=compute_cap --format=csv,noheader 2>/dev/null) || capability=9.0
    capability=${capability//./}
  fi
  cmake --preset gpu -DCMAKE_CUDA_ARCHITECTURES="$capability"
  SECONDS=0 # what a machine lacks at first does not count
  cmake --build build/gpu --parallel "$(bash scripts/jobs.sh)" --target cuda_device_test hoft_gpu_bench hoft_gpu_shapes
fi

if [[ -n $tests ]]; then
  export HOFT_REQUIRE_GPU=1
  within build/gpu/tests/cuda_device_test
  for tool in memcheck racecheck initcheck synccheck; do
    echo "compute-sanitizer $tool"
    within compute-sanitizer --tool "$tool" --error-exitcode 9 build/gpu/tests/cuda_device_test \
      --test-case="columns of every length*,gradients of unusual*,two streams*,a batch has*"
  done
fi
if [[ -n $bench ]]; then
  within build/gpu/bench/gpu/hoft_gpu_bench build/gpu/results.json
  within python3 bench/gpu/torch_peers.py build/gpu/results.json
  python3 bench/gpu_targets.py build/gpu/results.json
  if [[ -n $save ]]; then
    python3 - build/gpu/results.json bench/results/gpu.json <<'PYTHON'
import datetime, json, subprocess, sys

with open(sys.argv[1], encoding="utf-8") as file:
    results = json.load(file)
git = lambda *arguments: subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
results = {
    "command": "bash bench/gpu/run.sh --save",
    "commit": git("rev-parse", "HEAD"),
    "uncommitted_changes": bool(git("status", "--porcelain", "--", "include", "bench")),
    "date": datetime.date.today().isoformat(),
    **results,
}
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump(results, file, indent=1)
PYTHON
  fi
fi
if [[ -n $compare ]]; then
  if ! python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    echo "run.sh: no comparison: the PyTorch of $(command -v python3) is missing or finds no GPU" >&2
    # Asked for alone, that is a failure.
    [[ -n $bench ]] || exit 1
  else
    mkdir -p build/gpu
    limit=$((540 - SECONDS - 90)) # a round, and what stands before the first, take as long
    within python3 bench/gpu/compare_torch/compare_torch.py --limit="$((limit > 30 ? limit : 30))" \
      --out=build/gpu/training.json
    if [[ -n $save ]]; then cp build/gpu/training.json bench/results/gpu_training.json; fi
  fi
fi
