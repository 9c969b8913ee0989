# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Sourced by every script that anybody may call. Where --help or -h is among its arguments, prints the comment at the head
# of that script and ends it, before it has done anything.
for argument in "$@"; do
  case $argument in
    -h | --help)
      sed -n '3,${/^#/!q;s/^# \{0,1\}//p;}' "${BASH_SOURCE[1]}"
      exit 0
      ;;
  esac
done
