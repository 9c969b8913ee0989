#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [--cpu] [--quick] [--save] [--only=REGEX] [--benchmark_<option>...]
# Installs what the benchmarks need, builds them in build/bench, runs them and prints ratios of medians, raw results in
# build/bench/results.
#   --cpu         the default
#   --quick       the smallest shapes and few repetitions: that everything runs and all contestants agree
#   --save        writes bench/results/cpu.json, its plots and docs/reference/performance.md
#   --avx2        without AVX-512: hoft, Eigen, OpenBLAS and PyTorch with the vectors of x86-64-v3, in build/bench-avx2.
#                 --save writes bench/results/cpu_avx2.json and docs/reference/performance-avx2.md
#   --amx         as --cpu on a processor with AMX, whose results are kept apart: --save writes
#                 bench/results/cpu_amx.json and docs/reference/performance-amx.md
#   --claims      measures instead what docs/reference/complexity.md says of complexity, orthogonality and coverage
#                 (minutes; --quick: the smallest sizes), results in build/bench/results/claims; --save writes
#                 bench/results/claims and docs/reference/complexity.md. --gpu: for the methods that exist on a GPU,
#                 there, with CUDA 12.4 or newer; --save writes bench/results/claims_gpu and
#                 docs/reference/complexity-gpu.md. Where there is no GPU it ends with 77, or with 1 if
#                 HOFT_REQUIRE_GPU is 1
#   --only=REGEX  only cases whose name (operation/type/m/n/r) matches, without PyTorch
# Google Benchmark's options go to the program, for example --benchmark_filter=/hoft: then without PyTorch, too.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
command="bash bench/run.sh${*:+ $*}"
quick=()
save=
claims=
avx2=
amx=
gpu=
partial=
options=()
for option in "$@"; do
  case $option in
    --cpu) ;;
    --quick) quick=(--quick) ;;
    --save) save=yes ;;
    --avx2) avx2=yes ;;
    --amx) amx=yes ;;
    --claims) claims=yes ;;
    --gpu) gpu=yes ;;
    --only=* | --benchmark_*) partial=yes options+=("$option") ;;
    *)
      echo "run.sh: no option is called '$option'; --help lists them" >&2
      exit 2
      ;;
  esac
done
if [[ -n $save && (-n $partial || ${#quick[@]} -gt 0) ]]; then
  echo "run.sh: --save keeps whole runs only" >&2
  exit 2
fi

if [[ -n $avx2 && -n $amx ]]; then
  echo "run.sh: --avx2 and --amx are two runs" >&2
  exit 2
fi
has_amx=
if grep -qw amx_bf16 /proc/cpuinfo; then has_amx=yes; fi
if [[ -n $amx && -z $has_amx ]]; then
  echo "run.sh: --amx: this processor has no AMX for bfloat16" >&2
  exit 2
fi
if [[ -n $save && -n $has_amx && -z $amx$avx2$claims ]]; then
  echo "run.sh: --save: results of this processor, which has AMX for bfloat16, are kept apart: add --amx" >&2
  exit 2
fi
if [[ -n $claims && -n $partial$avx2$amx ]]; then
  echo "run.sh: --claims knows --quick, --save and --gpu only" >&2
  exit 2
fi
if [[ -n $gpu && -z $claims ]]; then
  echo "run.sh: --gpu goes with --claims; the other benchmarks of a GPU are bench/gpu/run.sh" >&2
  exit 2
fi
if [[ -n $gpu ]] && ! nvidia-smi >/dev/null 2>&1; then
  echo "run.sh: --gpu: there is no GPU here (nvidia-smi finds none)" >&2
  if [[ ${HOFT_REQUIRE_GPU:-} == 1 ]]; then exit 1; else exit 77; fi
fi

# OpenBLAS takes the kernels that it finds best for the processor, whatever the environment says of others; without
# AVX-512 those of the last processors that had none.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE ATEN_CPU_CAPABILITY
folder=build/bench name=cpu${amx:+_amx}
vectors=()
if [[ -n $avx2 ]]; then
  folder=build/bench-avx2 name=cpu_avx2
  vectors=(-DHOFT_NATIVE=OFF -DCMAKE_CXX_FLAGS=-march=x86-64-v3)
  export OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2
fi

# build <target> <set of packages> [options of CMake]: the machine's own optimised binary of that name.
# HOFT_BENCH_CXXFLAGS: other flags than those of Release, where no time counts.
build() {
  bash scripts/install_packages.sh "$2"
  cmake --preset bench -B "$folder" -DCMAKE_CXX_FLAGS_RELEASE="${HOFT_BENCH_CXXFLAGS:--O3 -DNDEBUG}" "${vectors[@]}" "${@:3}"
  cmake --build "$folder" --parallel "$(bash scripts/jobs.sh)" --target "$1"
}

# hoft runs on one thread unless told otherwise; so do its peers, and the small products of the statistics.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1

if [[ -n $claims ]]; then
  level=full results=build/bench/results/claims program=build/bench/bench/claims/hoft_claims
  [[ ${#quick[@]} -eq 0 ]] || level=quick
  if [[ -n $gpu ]]; then
    results=build/bench/results/claims_gpu program=build/gpu/bench/gpu/claims/hoft_gpu_claims
    bash scripts/install_packages.sh tests
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
    cmake --preset gpu -DCMAKE_CUDA_ARCHITECTURES="$capability"
    cmake --build build/gpu --parallel "$(bash scripts/jobs.sh)" --target hoft_gpu_claims
  else
    build hoft_claims claims -DHOFT_BUILD_BENCH=OFF -DHOFT_BUILD_CLAIMS=ON
  fi
  rm -rf "$results"
  exec nice -n 5 /usr/bin/python3 bench/claims/harness.py --program="$program" --out="$results" --level="$level" \
    --command="$command" ${gpu:+--gpu} ${save:+--save}
fi

build hoft_bench bench

results=$folder/results
rm -rf "$results"
mkdir -p "$results"
"$folder/bench/hoft_bench" "${quick[@]}" "${options[@]}" --out="$results/all.json"

# PyTorch has processes of its own: rounds of all alternate. A second twin keeps its memory between steps, which the
# system would otherwise take back and clear again each time. Beside Debian's PyTorch runs that of PyPI, where
# scripts/install_python.sh has made build/venv.
twin() { # twin <round> <name> <python> [suffix]
  "$3" bench/torch_twin.py "${quick[@]}" --suffix="${4:-}" --out="$results/$2_$1.json"
}
twins() { # twins <round> <name> <python> [suffix]
  twin "$@"
  MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 twin "$1" "$2_kept_memory" "$3" "${4:-}_kept_memory"
}
if [[ -z $partial ]]; then
  rounds=5
  [[ ${#quick[@]} -eq 0 ]] || rounds=2
  for ((round = 1; round <= rounds; ++round)); do
    echo "Beside PyTorch, round $round of $rounds"
    "$folder/bench/hoft_bench" --training "${quick[@]}" --out="$results/training_$round.json"
    twins "$round" torch /usr/bin/python3
    [[ ! -x build/venv/bin/python ]] || twins "$round" torch_pypi build/venv/bin/python _pypi
  done
fi

# Debian's Python, whose packages the script installs.
if [[ -n $save ]]; then
  /usr/bin/python3 bench/ratios.py "$results"/*.json --save="bench/results/$name.json" --command="$command"
  /usr/bin/python3 bench/report.py
  /usr/bin/python3 bench/readme.py
else
  /usr/bin/python3 bench/ratios.py "$results"/*.json
  [[ ! -f bench/results/$name.json ]] || /usr/bin/python3 bench/report.py --check
fi
