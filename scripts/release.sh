#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: release.sh [--dry-run]
# Tags the commit that is checked out as a release, if it is ready for one, and says all that is missing if it is not:
#   - the tree is clean, and no such tag exists
#   - all places give one version (check_version.sh), CHANGELOG.md and CITATION.cff give the same day for it
#   - pages are what their results say (check_pages.sh)
#   - what results and documents say was measured, was measured on this code: a commit that they name is one of this
#     history, had no uncommitted changes, and include/ differs from it in comments and in the version at most; so do, for
#     results, the programs that made them (programs_of)
# It neither tests, which is .ci/run's, nor pushes. --dry-run makes no tag.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
dry_run=
for option in "$@"; do
  if [[ $option != --dry-run ]]; then
    echo "release.sh: no option is called '$option'; it knows --dry-run" >&2
    exit 2
  fi
  dry_run=yes
done

problems=0
problem() {
  echo "release.sh: $1" >&2
  problems=$((problems + 1))
}

# programs_of <results>: a pattern of what was measured beside the headers, and of what measured it. Scripts that only
# draw, judge or write pages are none of it. Nor are bench/linear.py, bench/linalg_torch.py and bench/claims/harness.py,
# which do that beside measuring: most of their changes touch no number, and would make the numbers stale.
programs_of() {
  local bench='^bench/[^/]*\.(cpp|hpp)$' package='^examples/pytorch/(hoft_torch/|build_backend/|setup\.py$)'
  case ${1#bench/results/} in
    cpu.json | cpu_avx2.json | cpu_amx.json) echo "$bench|^bench/(torch_twin\.py|run\.sh)$" ;;
    claims/* | claims_gpu/*)
      printf %s '^bench/(data|eigen_gemm)\.hpp$|^bench/methods/|^bench/(gpu/)?claims/.*\.(cu|cpp|hpp)$' \
        '|^bench/claims/(plans\.py|(models|table1)\.json)$'
      ;;
    gpu.json) echo '^bench/gpu/([^/]*\.(cu|cpp|hpp)|torch_peers\.py)$' ;;
    gpu_counts.json) echo '^bench/gpu/([^/]*\.(cu|cpp|hpp)|instructions\.py)$|^tests/ptx/[^/]*\.(cpp|hpp)$' ;;
    gpu_training.json) echo "^bench/gpu/compare_torch/|$package" ;;
    linear.json | linear_amx.json) echo "$package|^bench/plain_wy\.py$" ;;
    linalg_torch.json) echo "$package" ;;
    scaling.json) echo '^bench/scaling/scaling\.cpp$' ;;
    threads.json) echo '^bench/threads/parts\.cpp$' ;;
    finetune_images.json) echo '^examples/(finetune_images/.*\.(cpp|hpp)|npy\.hpp)$' ;;
    finetune_text.json | finetune_starts.json)
      echo "$package|^examples/finetune_text/(data|experiment|measure|methods|model|serving|starts|training)\.py$" ;;
    *) return 1 ;;
  esac
}

# code_of <commit> <pattern>: a sum of the headers and of the files that the pattern names, but for comments, blanks and
# the version. // divides in Python, and # is no comment in C++. In scripts blanks before a word count: in Python they
# say what belongs to what.
code_of() {
  local paths compiled scripts
  paths=$(git ls-tree -r --name-only "$1" | grep --extended-regexp "^include/|$2" | grep -Fvx include/hoft/version.hpp)
  compiled=$(grep --extended-regexp --invert-match '\.(py|sh|json)$' <<<"$paths")
  scripts=$(grep --extended-regexp '\.(py|sh|json)$' <<<"$paths" || true)
  {
    tr '\n' '\0' <<<"$compiled" | xargs -0 git archive "$1" | tar --extract --to-stdout | sed 's,//.*,,' |
      tr -d '[:space:]'
    if [[ -n $scripts ]]; then
      tr '\n' '\0' <<<"$scripts" | xargs -0 git archive "$1" | tar --extract --to-stdout |
        sed --regexp-extended 's,(^|[[:space:]])#.*,,; s,[[:space:]]+$,,; /^$/d'
    fi
  } | sha256sum
}

# check_measured <where> <commit> <pattern of its programs>
declare -A sums=() # by commit and pattern
check_measured() {
  local pattern=${3:-^$} commit
  if ! git merge-base --is-ancestor "$2" HEAD 2>/dev/null; then
    problem "$1: measured at $2, which is no commit of this history"
    return
  fi
  if ! git diff --no-renames --name-only "$2" HEAD | grep --extended-regexp "^include/|$pattern" >/dev/null; then return; fi
  for commit in "$2" HEAD; do
    if [[ -z ${sums[$commit $pattern]-} ]]; then sums[$commit $pattern]=$(code_of "$commit" "$pattern"); fi
  done
  if [[ ${sums[$2 $pattern]} == "${sums[HEAD $pattern]}" ]]; then return; fi
  if [[ $pattern != '^$' && ${sums[$2 ^$]:=$(code_of "$2" '^$')} == "${sums[HEAD ^$]:=$(code_of HEAD '^$')}" ]]; then
    problem "$1: measured at $2, and the programs that made it have changed since"
  else
    problem "$1: measured at $2, and include/ has changed since"
  fi
}

# The field `commit` of every file of results, and every word of a document that is the name of a commit.
check_all_measured() {
  local path word programs
  while IFS= read -r path; do
    if ! programs=$(programs_of "$path"); then
      problem "$path: programs_of of this script does not say which programs make it"
      continue
    fi
    word=$(grep --only-matching --max-count=1 --extended-regexp '"commit": *"[^"]*"' "$path" | sed -n '1s/.*"\(.*\)"$/\1/p' || true)
    if [[ -z $word ]]; then problem "$path: does not say at which commit it was measured"; continue; fi
    check_measured "$path" "${word%%,*}" "$programs"
    if grep --quiet --extended-regexp '"uncommitted_changes": *true|"commit": *"[^"]*uncommitted' "$path"; then
      problem "$path: measured with uncommitted changes"
    fi
  done < <(git ls-files 'bench/results/*.json')
  while IFS=: read -r path word; do
    if git rev-parse --quiet --verify "$word^{commit}" >/dev/null; then check_measured "$path" "$word" ''; fi
  done < <(git grep --only-matching --word-regexp --extended-regexp '[0-9a-f]{7,40}' -- '*.md' ':!CHANGELOG.md' |
    LC_ALL=C sort --unique)
}

if [[ -n $(git status --porcelain) ]]; then problem "the tree has changes that are not committed, or files not tracked"; fi

if version=$(bash scripts/check_version.sh); then
  tag=v$version
  if git rev-parse --quiet --verify "refs/tags/$tag" >/dev/null; then problem "there is a tag $tag already"; fi
  day=$(sed -n 's/^## [^,]*, *//p' CHANGELOG.md | sed -n 1p)
  if [[ ! $day =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]]; then
    problem "CHANGELOG.md: $version has '$day' where the day of its release must stand"
  elif [[ $(sed -n 's/^date-released: //p' CITATION.cff) != "$day" ]]; then
    problem "CITATION.cff: date-released is not $day, the day in CHANGELOG.md"
  fi
else
  problem "not all places give one version"
fi

bash scripts/check_pages.sh >/dev/null || problem "a page is not what its results say"
check_all_measured

if [[ $problems -gt 0 ]]; then
  echo "release.sh: nothing is tagged; to be put right: $problems" >&2
  exit 1
fi
if [[ -n $dry_run ]]; then
  echo "$tag would be the tag of $(git rev-parse --short HEAD)"
  exit 0
fi
git tag --annotate "$tag" --message "hoft $version"
echo "$tag is the tag of $(git rev-parse --short HEAD); to publish it: git push origin $tag"
