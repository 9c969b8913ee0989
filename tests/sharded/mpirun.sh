#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: mpirun.sh [--fails <text>] <mpirun> <ranks> <program> [argument...]
# Starts the ranks on this machine, more of them than it has cores where that is asked for. With --fails, they must print
# the text and end by themselves, and mpirun must say that they failed.
set -euo pipefail

fails=
if [[ $1 == --fails ]]; then fails=$2; shift 2; fi
mpirun=$1 ranks=$2
shift 2

# OpenMPI: as many ranks as are wanted, by root too, which waits without keeping a core, and copies through shared
# memory by means that containers allow. MPICH reads none of it.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_MCA_hwloc_base_binding_policy=none

if [[ -z $fails ]]; then exec "$mpirun" -n "$ranks" "$@"; fi
status=0
output=$("$mpirun" -n "$ranks" "$@" 2>&1) || status=$?
printf '%s\n' "$output"
if [[ $status -eq 0 || $output != *"$fails"* ]]; then
  echo "mpirun.sh: ended with $status, expected a failure behind '$fails'"
  exit 1
fi
