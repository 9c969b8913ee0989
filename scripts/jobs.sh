#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: jobs.sh
# Prints how many compilers may run at once: one for each core, or HOFT_JOBS, as long as each has 2 GiB of memory.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cores=${HOFT_JOBS:-$(nproc)}
by_memory=$(awk '/^MemAvailable:/ {print int($2 / (2 * 1024 * 1024))}' /proc/meminfo)
jobs=$((by_memory < cores ? by_memory : cores))
echo $((jobs < 1 ? 1 : jobs))
