#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: layers.sh <scripts/check_layers.sh>
# The layer check must find each kind of fault in a tree that has only that one, and nothing in a tree that has none.
set -euo pipefail

check=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

header() {  # header <path under include/hoft> <line>...
  mkdir -p "$tree/include/hoft/$(dirname "$1")"
  printf '%s\n' '#pragma once' "${@:2}" >"$tree/include/hoft/$1"
}
clean_tree() {
  rm -rf "$tree/include"
  header config.hpp
  header core/index.hpp
  header memory/arena.hpp
  header view/matrix_view.hpp '#include <hoft/config.hpp>' '' '#include <cstddef>'
  header view/eigen.hpp '#include <hoft/view/matrix_view.hpp>' '' '#include <Eigen/Core>'
  header reference/apply.hpp '#include <hoft/view/eigen.hpp>'
  header cpu/policy.hpp '#include <hoft/view/eigen.hpp>' '#include <Eigen/Core>'
  header householder/apply.hpp '// As Eigen::Map would.' '/* Eigen::Map' 'Eigen::Ref */ #include <hoft/view/matrix_view.hpp>'
  header adapter/merge.hpp '#include <hoft/householder/apply.hpp>'
  header eigen/apply.hpp '#include <hoft/cpu/policy.hpp>' '#include <hoft/adapter/merge.hpp>' '#include <Eigen/Core>'
  header cuda/device/apply.cuh '#include <hoft/view/matrix_view.hpp>' '#include <cub/block/block_reduce.cuh>'
  header view/mdspan.hpp '#include <hoft/view/matrix_view.hpp>' '' '#include <cuda/std/mdspan>' '#include <dlpack/dlpack.h>'
  header hoft.hpp '#include <hoft/eigen/apply.hpp>' '#include <hoft/reference/apply.hpp>'
  header sharded/policy.hpp '#include <hoft/memory/arena.hpp>'
  header blas.hpp '#include <hoft/eigen/apply.hpp>' '#include <cblas.h>'
  header mpi.hpp '#include <hoft/sharded/policy.hpp>' '#include <hoft/adapter/merge.hpp>' '#include <mpi.h>'
  header cuda.hpp '#include <hoft/cuda/device/apply.cuh>' '#include <hoft/adapter/merge.hpp>'
  header nccl.hpp '#include <hoft/sharded/policy.hpp>' '#include <hoft/cuda.hpp>' '#include <nccl.h>'
}
finds() {  # finds <message> <path> <line>...: the clean tree with this header added
  local message=$1 output
  shift
  clean_tree
  header "$@"
  if output=$(bash "$check" "$tree"); then
    echo "not found: $message"
    failed=1
  elif [[ $output != *"include/hoft/$1"*"$message"* ]]; then
    echo "expected: $message"
    echo "got:      $output"
    failed=1
  fi
}

clean_tree
bash "$check" "$tree" || { echo "a tree without fault is refused"; failed=1; }

finds 'core may not include view/eigen.hpp' core/bad.hpp '#include <hoft/view/eigen.hpp>'
finds 'householder may not include view/eigen.hpp' householder/bad.hpp '#include <hoft/view/eigen.hpp>'
finds 'householder may not include cpu' householder/bad.hpp '  #  include <hoft/cpu/policy.hpp>'
finds 'householder may not include adapter' householder/bad.hpp '#include <hoft/adapter/merge.hpp>'
finds 'adapter may not include cpu' adapter/bad.hpp '#include <hoft/cpu/policy.hpp>'
finds 'reference may not include householder' reference/bad.hpp '#include <hoft/householder/apply.hpp>'
finds 'cpu may not include householder' cpu/bad.hpp '#include <hoft/householder/apply.hpp>'
finds 'cuda may not include view/eigen.hpp' cuda/bad.hpp '#include <hoft/view/eigen.hpp>'
finds 'eigen may not include cuda' eigen/bad.hpp '#include <hoft/cuda/device/apply.cuh>'
finds 'sharded may not include cpu' sharded/bad.hpp '#include <hoft/cpu/policy.hpp>'
finds 'eigen may not include a BLAS' eigen/bad.hpp '#include <cblas.h>'
finds 'sharded may not include MPI' sharded/bad.hpp '#include <mpi.h>'
finds 'adapter may not include sharded' adapter/bad.hpp '#include <hoft/sharded/policy.hpp>'
finds 'hoft.hpp may not include cuda' hoft.hpp '#include <hoft/cuda.hpp>'
finds 'householder may not include Eigen' householder/bad.hpp '#include <Eigen/Core>'
finds 'core may not use Eigen' core/bad.hpp 'using m = Eigen::MatrixXd;'
finds 'adapter may not use Eigen' adapter/bad.hpp '/* no use */ void f(Eigen::MatrixXd&); // of it'
finds 'view may not include memory' view/bad.hpp '#include <hoft/memory/arena.hpp>'
finds 'cpu may not include the CUDA toolkit' cpu/bad.hpp '#include <cub/block/block_reduce.cuh>'
finds 'eigen may not include the CUDA toolkit' eigen/bad.hpp '#include <cuda_runtime.h>'
finds 'householder may not include the CUDA toolkit' householder/bad.hpp '#include <cuda/std/mdspan>'
finds 'view/mdspan.hpp may not include the CUDA toolkit' view/mdspan.hpp '#include <cuda_runtime.h>'
finds 'eigen may not include view/mdspan.hpp' eigen/bad.hpp '#include <hoft/view/mdspan.hpp>'
finds 'view/dlpack.hpp may not include cpu' view/dlpack.hpp '#include <hoft/cpu/policy.hpp>'
finds 'not boost/multiprecision/cpp_bin_float.hpp' reference/bad.hpp '#include <boost/multiprecision/cpp_bin_float.hpp>'
finds 'included as <hoft/...>' householder/bad.hpp '#include "apply.hpp"'
finds 'there is no header hoft/core/vew.hpp' householder/bad.hpp '#include <hoft/core/vew.hpp>'
finds 'no layer is called util' util/bad.hpp

clean_tree
printf '%s\n' '#include <cstddef>' >"$tree/include/hoft/core/bad.hpp"
if bash "$check" "$tree" >/dev/null; then echo "a missing #pragma once is not found"; failed=1; fi

exit "$failed"
