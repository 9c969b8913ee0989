#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [option...]
# Installs what is missing, compares methods of fine-tuning on a text task with the given options (--help lists them),
# and draws the results. Without --out they go to build/finetune_text. PYTHON names an interpreter that has the packages
# of scripts/python_packages.txt, in place of the environment that is made of them in build/venv. With --smoke the tests
# of this folder run first.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

python=${PYTHON:-$(bash "$root/scripts/install_python.sh" "$root/build/venv")}
export HF_HUB_OFFLINE=1 # the model comes with a package
export PYTHONPATH=$here:$root/examples/pytorch${PYTHONPATH:+:$PYTHONPATH}

# Where the results will be, which the plots must know too.
out=$root/build/finetune_text
plots=yes
tests=no
previous=
for argument in "$@"; do
  case $argument in
    --out=*) out=${argument#--out=} ;;
    -h | --help | --starts) plots=no ;;
    --smoke) tests=yes ;;
    *) [[ $previous != --out ]] || out=$argument ;;
  esac
  previous=$argument
done

[[ $tests == no ]] || "$python" "$here/test_finetune_text.py"
"$python" "$here/experiment.py" "$@"
[[ $plots == no ]] || "$python" "$here/plot.py" "$out"
