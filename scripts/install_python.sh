#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: install_python.sh FOLDER
# Makes a virtual environment in FOLDER with the packages of python_packages.txt and prints the path of its interpreter.
# An environment that the same list has made is taken as it is. PYTHON names another interpreter than Debian's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

if [[ $# -ne 1 ]]; then
  echo "install_python.sh: takes one argument, the folder of the environment; got $#" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1
list=$here/python_packages.txt
python=${PYTHON:-/usr/bin/python3}

mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock" # one at a time: others wait, and find it made
flock 9
if ! cmp --quiet "$list" "$folder/python_packages.txt"; then # copied last, so that half an environment is made again
  if [[ $python == /usr/bin/python3 ]]; then bash "$here/install_packages.sh" python >&2; fi
  rm -rf "$folder"
  "$python" -m venv "$folder"
  echo "Installing the packages of scripts/python_packages.txt into $folder" >&2
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$list" >&2
  cp "$list" "$folder/python_packages.txt"
fi
printf '%s/bin/python\n' "$(cd "$folder" && pwd)"
