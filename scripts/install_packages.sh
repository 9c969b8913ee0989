#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: install_packages.sh [--yes] <set>...
# Installs what is missing of Debian's packages for the named sets: tests, examples, bench, claims, compare, python,
# libtorch, jax, embed, tensor_parallel, docs, fuzz, ci.
# Says nothing and needs no rights when nothing is missing. Else it names the packages and the command, and at a terminal
# asks first, unless told --yes or the environment has CI.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

build=(g++ cmake ninja-build libeigen3-dev)
mpi=(openmpi-bin libopenmpi-dev mpich libmpich-dev iproute2) # both side by side; networks between ranks
wanted=()
agreed=${CI:+yes}
for set_name in "$@"; do
  case $set_name in
    --yes) agreed=yes ;;
    tests) wanted+=("${build[@]}" doctest-dev liblapacke-dev libopenblas-dev libboost-dev
      libbenchmark-dev libcli11-dev python3-matplotlib libdlpack-dev
      nlohmann-json3-dev pkg-config python3-yaml "${mpi[@]}") ;;
    examples) wanted+=("${build[@]}" zlib1g-dev libcli11-dev dataset-fashion-mnist python3-matplotlib
      liblapacke-dev libopenblas-dev nlohmann-json3-dev) ;;
    bench) wanted+=("${build[@]}" libbenchmark-dev liblapacke-dev libopenblas-dev libcli11-dev
      python3-torch python3-matplotlib) ;;
    claims) wanted+=("${build[@]}" libbenchmark-dev libcli11-dev python3-matplotlib) ;;
    compare) wanted+=("${build[@]}" python3-torch python3-dev python3-pip python3-venv python3-setuptools python3-wheel
      libtorch-dev pybind11-dev) ;;
    python) wanted+=("${build[@]}" python3-dev python3-venv) ;;
    libtorch) wanted+=("${build[@]}" libtorch-dev dataset-fashion-mnist) ;;
    tensor_parallel) wanted+=("${build[@]}" openmpi-bin libopenmpi-dev python3-matplotlib) ;;
    jax) wanted+=("${build[@]}" dataset-fashion-mnist) ;;
    embed) wanted+=("${build[@]}" libceres-dev) ;;
    docs) wanted+=("${build[@]}" doxygen python3) ;;
    fuzz) wanted+=(clang libclang-rt-dev libeigen3-dev libdlpack-dev zlib1g-dev) ;;
    ci)
      wanted+=(git clang clang-tidy clang-format libclang-rt-dev python3-pip)
      if [[ $(uname -m) != aarch64 ]]; then wanted+=(g++-aarch64-linux-gnu qemu-user-static); fi
      ;;
    *)
      echo "install_packages.sh: no set is called '$set_name'; the sets are tests, examples, bench, claims, compare, python, libtorch, jax, embed, tensor_parallel, docs, fuzz and ci" >&2
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

install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
  apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}")
# Nobody sees the output of a script that keeps it: what is asked goes to the terminal itself.
if [[ -z $agreed && -t 0 ]] && { : >/dev/tty; } 2>/dev/null; then
  printf 'These Debian packages are missing: %s\nTo install them, this will run\n  %s\n  %s\nGo on? [y/N] ' \
    "${missing[*]}" "${as_root[*]:+${as_root[*]} }apt-get update" "${install[*]}" >/dev/tty
  answer=
  read -r answer || true
  if [[ ! $answer =~ ^[Yy]([Ee][Ss])?$ ]]; then
    echo "install_packages.sh: nothing is installed; missing are ${missing[*]} (--yes or CI=yes: no question)" >&2
    exit 1
  fi
fi

echo "Installing ${missing[*]}"
"${as_root[@]}" apt-get update --quiet=2
"${install[@]}"
