#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: release.sh [--dry-run]
# Tags the commit that is checked out as a release, if it is ready for one, and says all that is missing if it is not:
#   - the tree is clean, and no such tag exists
#   - all places give one version (check_version.sh), CHANGELOG.md and CITATION.cff give the same day for it
#   - pages are what their results say (check_pages.sh)
#   - what results and documents say was measured, was measured on these headers: a commit that they name is one of this
#     history, had no uncommitted changes, and include/ differs from it in comments and in the version at most
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

# code_of <commit>: a sum of its headers, but for comments, blanks and the version.
code_of() {
  git archive "$1" include ':!include/hoft/version.hpp' | tar --extract --to-stdout | sed 's,//.*,,' | tr -d '[:space:]' |
    sha256sum
}
code_of_head=$(code_of HEAD)

# check_measured <where> <commit>
declare -A wrong # with a commit, once it has been looked at; empty where it is right
check_measured() {
  if [[ -z ${wrong[$2]+seen} ]]; then
    wrong[$2]=
    if ! git merge-base --is-ancestor "$2" HEAD 2>/dev/null; then
      wrong[$2]="which is no commit of this history"
    elif [[ $(code_of "$2") != "$code_of_head" ]]; then
      wrong[$2]="and include/ has changed since"
    fi
  fi
  if [[ -n ${wrong[$2]} ]]; then problem "$1: measured at $2, ${wrong[$2]}"; fi
}

# The field `commit` of every file of results, and every word of a document that is the name of a commit.
check_all_measured() {
  local path word
  while IFS= read -r path; do
    word=$(grep --only-matching --max-count=1 --extended-regexp '"commit": *"[^"]*"' "$path" | sed -n '1s/.*"\(.*\)"$/\1/p' || true)
    if [[ -z $word ]]; then problem "$path: does not say at which commit it was measured"; continue; fi
    check_measured "$path" "${word%%,*}"
    if grep --quiet --extended-regexp '"uncommitted_changes": *true|"commit": *"[^"]*uncommitted' "$path"; then
      problem "$path: measured with uncommitted changes"
    fi
  done < <(git ls-files 'bench/results/*.json')
  while IFS=: read -r path word; do
    if git rev-parse --quiet --verify "$word^{commit}" >/dev/null; then check_measured "$path" "$word"; fi
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
