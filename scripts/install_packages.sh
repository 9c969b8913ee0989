#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Installs what is missing of Debian's packages for the named sets: tests, examples, bench, compare, python, libtorch,
# jax, embed, tensor_parallel, docs, fuzz, ci.
# Says nothing and needs no rights when nothing is missing.
set -euo pipefail

build=(g++ cmake ninja-build libeigen3-dev)
mpi=(openmpi-bin libopenmpi-dev mpich libmpich-dev iproute2) # both side by side; networks between ranks
wanted=()
for set_name in "$@"; do
  case $set_name in
    tests) wanted+=("${build[@]}" doctest-dev liblapacke-dev libopenblas-dev libboost-dev
      libbenchmark-dev libcli11-dev python3-matplotlib libdlpack-dev
      nlohmann-json3-dev pkg-config "${mpi[@]}") ;;
    examples) wanted+=("${build[@]}" zlib1g-dev libcli11-dev dataset-fashion-mnist python3-matplotlib
      liblapacke-dev libopenblas-dev nlohmann-json3-dev) ;;
    bench) wanted+=("${build[@]}" libbenchmark-dev liblapacke-dev libopenblas-dev libcli11-dev
      python3-torch python3-matplotlib) ;;
    compare) wanted+=("${build[@]}" python3-torch python3-dev python3-pip python3-venv python3-setuptools python3-wheel
      libtorch-dev pybind11-dev) ;;
    python) wanted+=("${build[@]}" python3-dev python3-venv) ;;
    libtorch) wanted+=("${build[@]}" libtorch-dev dataset-fashion-mnist) ;;
    tensor_parallel) wanted+=("${build[@]}" openmpi-bin libopenmpi-dev python3-matplotlib) ;;
    jax) wanted+=("${build[@]}" dataset-fashion-mnist) ;;
    embed) wanted+=("${build[@]}" libceres-dev) ;;
    docs) wanted+=("${build[@]}" doxygen) ;;
    fuzz) wanted+=(clang libclang-rt-dev libeigen3-dev libdlpack-dev zlib1g-dev) ;;
    ci)
      wanted+=(git clang clang-tidy clang-format libclang-rt-dev python3-pip)
      if [[ $(uname -m) != aarch64 ]]; then wanted+=(g++-aarch64-linux-gnu qemu-user-static); fi
      ;;
    *)
      echo "install_packages.sh: no set is called '$set_name'; the sets are tests, examples, bench, compare, python, libtorch, jax, embed, tensor_parallel, docs, fuzz and ci" >&2
      exit 2
      ;;
  esac
done

missing=()
if command -v dpkg-query >/dev/null; then
  for package in "${wanted[@]}"; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $state == installed ]] || missing+=("$package")
  done
else
  echo "install_packages.sh: this system has no dpkg; hoft needs its equivalents of ${wanted[*]}" >&2
fi
[[ ${#missing[@]} -gt 0 ]] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "install_packages.sh: these packages are missing, and installing them takes root or sudo: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing ${missing[*]}"
"${as_root[@]}" apt-get update --quiet=2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
