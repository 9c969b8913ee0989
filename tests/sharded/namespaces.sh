#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: namespaces.sh <mpirun of OpenMPI> <program>
# Two ranks in two network namespaces, which meet over a virtual cable by TCP alone, as two machines do. Ends with 77, and
# says why, where this machine cannot have namespaces: that takes root and `ip`.
set -euo pipefail

if [[ ${1-} == --agent ]]; then # what mpirun starts its helper on the other side with: <address> <command>
  shift
  while [[ $1 == -* ]]; do shift; done
  shift
  exec ip netns exec "$HOFT_FAR_NAMESPACE" sh -c "$*"
fi

mpirun=$1 program=$2
skip() { echo "skipped: $1"; exit 77; }
[[ $(id -u) -eq 0 ]] || skip "network namespaces take root"
command -v ip >/dev/null || skip "there is no ip (iproute2)"
near=hoft_near_$$ far=hoft_far_$$
cleanup() {
  ip netns del "$near" 2>/dev/null || true
  ip netns del "$far" 2>/dev/null || true
}
trap cleanup EXIT
ip netns add "$near" 2>/dev/null && ip netns add "$far" || skip "this machine makes no network namespaces"
ip -n "$near" link add cable type veth peer name cable netns "$far" 2>/dev/null || skip "this machine has no virtual cables"
ip -n "$near" address add 10.77.0.1/24 dev cable
ip -n "$far" address add 10.77.0.2/24 dev cable
for side in "$near" "$far"; do
  ip -n "$side" link set lo up
  ip -n "$side" link set cable up
done

export HOFT_FAR_NAMESPACE=$far
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
agent="bash $(realpath "${BASH_SOURCE[0]}") --agent"
ip netns exec "$near" "$mpirun" --mca plm_rsh_agent "$agent" --mca plm_rsh_no_tree_spawn 1 \
  --mca oob_tcp_if_include cable --mca btl tcp,self --mca btl_tcp_if_include cable --mca mpi_yield_when_idle 1 \
  --mca hwloc_base_binding_policy none --host 10.77.0.1:1,10.77.0.2:1 -n 2 "$program"
sent=$(ip netns exec "$near" cat /sys/class/net/cable/statistics/tx_bytes)
echo "$sent bytes went through the cable"
[[ $sent -gt 100000 ]] || { echo "namespaces.sh: the ranks have met elsewhere"; exit 1; }
