#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: run.sh [option...]
# Installs what is missing, compares methods of fine-tuning on a text task, which takes an hour or two, and draws the
# results.
#   --quick       fewer steps, rates and seeds, without BOFT and HRA
#   --smoke       the tests of this folder, then all stages, each as short as it can be: under a minute; its numbers say
#                 nothing
#   --hoft        instead: HOFT and SHOFT anew, into the results of --out, and all times and memory; accuracies of the
#                 other methods, which need nothing of hoft, stay: a quarter of an hour
#   --starts      instead: HOFT from reflectors of several lengths, each with all learning rates
#   --measure     instead: times and memory anew, into the results of --out
#   --jobs=N      trainings at a time, one for each core unless told
#   --out=FOLDER  for the results, build/finetune_text unless told
#   --save        writes the results, the plots and README.md's table into the repository
# PYTHON names an interpreter that has the packages of scripts/python_packages.txt, in place of the environment that is
# made of them in build/venv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/help.sh"
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
    --starts) plots=no ;;
    --smoke) tests=yes ;;
    *) [[ $previous != --out ]] || out=$argument ;;
  esac
  previous=$argument
done

[[ $tests == no ]] || "$python" "$here/test_finetune_text.py"
"$python" "$here/experiment.py" "$@"
[[ $plots == no ]] || "$python" "$here/plot.py" "$out"
