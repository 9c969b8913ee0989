#!/usr/bin/env bash
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
  header core/view.hpp '#include <hoft/config.hpp>' '' '#include <cstddef>'
  header eigen/as_eigen.hpp '#include <hoft/core/view.hpp>' '' '#include <Eigen/Core>'
  header reference/apply.hpp '#include <hoft/eigen/as_eigen.hpp>'
  header cpu/policy.hpp '#include <hoft/eigen/as_eigen.hpp>' '#include <Eigen/Core>'
  header wy/apply.hpp '// As Eigen::Map would.' '/* Eigen::Map' 'Eigen::Ref */ #include <hoft/core/view.hpp>'
  header transform/merge.hpp '#include <hoft/wy/apply.hpp>'
  header api/apply.hpp '#include <hoft/cpu/policy.hpp>' '#include <hoft/transform/merge.hpp>' '#include <Eigen/Core>'
  header cuda/device/apply.cuh '#include <hoft/core/view.hpp>' '#include <cub/block/block_reduce.cuh>'
  header interop/mdspan.hpp '#include <hoft/core/view.hpp>' '' '#include <cuda/std/mdspan>' '#include <dlpack/dlpack.h>'
  header hoft.hpp '#include <hoft/api/apply.hpp>' '#include <hoft/reference/apply.hpp>'
  header cuda.hpp '#include <hoft/cuda/device/apply.cuh>' '#include <hoft/transform/merge.hpp>'
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

finds 'core may not include eigen' core/bad.hpp '#include <hoft/eigen/as_eigen.hpp>'
finds 'wy may not include eigen' wy/bad.hpp '#include <hoft/eigen/as_eigen.hpp>'
finds 'wy may not include cpu' wy/bad.hpp '  #  include <hoft/cpu/policy.hpp>'
finds 'wy may not include transform' wy/bad.hpp '#include <hoft/transform/merge.hpp>'
finds 'transform may not include cpu' transform/bad.hpp '#include <hoft/cpu/policy.hpp>'
finds 'reference may not include wy' reference/bad.hpp '#include <hoft/wy/apply.hpp>'
finds 'cpu may not include wy' cpu/bad.hpp '#include <hoft/wy/apply.hpp>'
finds 'cuda may not include eigen' cuda/bad.hpp '#include <hoft/eigen/as_eigen.hpp>'
finds 'api may not include cuda' api/bad.hpp '#include <hoft/cuda/device/apply.cuh>'
finds 'hoft.hpp may not include cuda' hoft.hpp '#include <hoft/cuda.hpp>'
finds 'wy may not include Eigen' wy/bad.hpp '#include <Eigen/Core>'
finds 'core may not use Eigen' core/bad.hpp 'using m = Eigen::MatrixXd;'
finds 'transform may not use Eigen' transform/bad.hpp '/* no use */ void f(Eigen::MatrixXd&); // of it'
finds 'cpu may not include the CUDA toolkit' cpu/bad.hpp '#include <cub/block/block_reduce.cuh>'
finds 'api may not include the CUDA toolkit' api/bad.hpp '#include <cuda_runtime.h>'
finds 'wy may not include the CUDA toolkit' wy/bad.hpp '#include <cuda/std/mdspan>'
finds 'interop may not include the CUDA toolkit' interop/bad.hpp '#include <cuda_runtime.h>'
finds 'api may not include interop' api/bad.hpp '#include <hoft/interop/mdspan.hpp>'
finds 'interop may not include cpu' interop/bad.hpp '#include <hoft/cpu/policy.hpp>'
finds 'not boost/multiprecision/cpp_bin_float.hpp' reference/bad.hpp '#include <boost/multiprecision/cpp_bin_float.hpp>'
finds 'included as <hoft/...>' wy/bad.hpp '#include "apply.hpp"'
finds 'there is no header hoft/core/vew.hpp' wy/bad.hpp '#include <hoft/core/vew.hpp>'
finds 'no layer is called util' util/bad.hpp

clean_tree
printf '%s\n' '#include <cstddef>' >"$tree/include/hoft/core/bad.hpp"
if bash "$check" "$tree" >/dev/null; then echo "a missing #pragma once is not found"; failed=1; fi

exit "$failed"
