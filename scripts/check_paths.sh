#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: check_paths.sh
# Fails when a tracked file names a path of one machine or the host of a package registry: what is built here must
# build elsewhere. /usr and /etc are the system's and the same everywhere.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
start='(^|[^[:alnum:]_.~})/-])'
paths="$start/(home|root|work|workspace|mnt|media|opt|srv|tmp|Users)(/|[[:space:]\"']|\$)"
hosts='(deb|security|ftp)[.]debian[.]org|(pypi|conda|npmjs|rubygems)[.]org|pythonhosted[.]org|anaconda[.]com|crates[.]io'
hosts+='|(ghcr|quay|docker)[.]io|hub[.]docker[.]com|proxy[.]golang[.]org|(artifactory|nexus|jfrog)[.]'

status=0
git grep -nIE "$paths|$hosts" -- . || status=$?
# The checkout's own place, wherever that is.
git grep -nIF -e "$PWD" -- . && status=0
case $status in
  0) echo "check_paths.sh: the lines above hold for one machine only" >&2; exit 1 ;;
  1) exit 0 ;;
  *) exit "$status" ;;
esac
