#!/usr/bin/env bash
# Usage: run.sh [--save] [--built] [--tests-only | --bench-only | --compare-only]
# On a machine with an NVIDIA GPU and CUDA 12.4 or newer: builds for the chip it finds, runs every test of the CUDA
# backend there with HOFT_REQUIRE_GPU=1, a part of them under compute-sanitizer's four tools, and the benchmarks, whose
# results it prints, beside the ceilings found in the same run and what each must reach, and leaves in
# build/gpu/results.json. Then, within nine minutes, the comparison of a training step with PyTorch and PEFT
# (compare_torch/README.md), in build/gpu/training.json.
#   --save   writes bench/results/gpu.json and gpu_training.json as well, with commit and date
#   --built  builds nothing: build/gpu comes from a machine with the tests' packages (there: run.sh --build-only)
#   --build-only  for the chips in CMAKE_CUDA_ARCHITECTURES, by default 90
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

if [[ -n $build ]]; then
  bash scripts/install_packages.sh tests
  capability=${CMAKE_CUDA_ARCHITECTURES:-90}
  if command -v nvidia-smi >/dev/null; then
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
  fi
  cmake --preset gpu -DCMAKE_CUDA_ARCHITECTURES="$capability"
  cmake --build build/gpu --parallel "$(bash scripts/jobs.sh)" --target cuda_device_test hoft_gpu_bench
fi

if [[ -n $tests ]]; then
  HOFT_REQUIRE_GPU=1 build/gpu/tests/cuda_device_test
  for tool in memcheck racecheck initcheck synccheck; do
    echo "compute-sanitizer $tool"
    HOFT_REQUIRE_GPU=1 compute-sanitizer --tool "$tool" --error-exitcode 9 build/gpu/tests/cuda_device_test \
      --test-case="columns of every length*,gradients of unusual*,two streams*"
  done
fi
if [[ -n $bench ]]; then
  build/gpu/bench/gpu/hoft_gpu_bench build/gpu/results.json
  python3 bench/gpu/torch_peers.py build/gpu/results.json
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
    timeout 540 python3 bench/gpu/compare_torch/compare_torch.py --limit=420 --out=build/gpu/training.json
    if [[ -n $save ]]; then cp build/gpu/training.json bench/results/gpu_training.json; fi
  fi
fi
