#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Usage: check_yaml.py [root]

Each tracked YAML file is one document without a key twice. A workflow has what its jobs need, and the files, presets and
folders of this repository that it runs are there; forms of issues and CITATION.cff have the fields without which a host
ignores them."""

import json
import pathlib
import re
import subprocess
import sys

import yaml


class Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which PyYAML would take the last."""


def mapping(loader, node):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def lacking(what, fields, where):
    return [f"{where} has no '{field}'" for field in fields if not (isinstance(what, dict) and what.get(field))]


def of_command(command, tracked, presets, where):
    """What a command of a workflow names must be there: scripts, sources, folders, and presets of CMake."""
    folders = {str(parent) for path in tracked for parent in pathlib.PurePath(path).parents}
    for word in re.findall(r"(?<![\w/.$-])(?:\.ci|bench|examples|include|packaging|scripts|tests)(?:/[\w.-]+)*", command):
        if word not in tracked and word not in folders:
            yield f"{where} runs {word}, which is not tracked"
    for preset in re.findall(r"--preset[ =](\S+)", command):
        if preset not in presets:
            yield f"{where} takes the preset {preset}, which CMakePresets.json does not have"


def of_workflow(text, tracked, presets):
    yield from lacking(text, ["name", "jobs", "permissions"], "the workflow")
    if "on" not in text and True not in text:  # YAML 1.1 reads `on` as true
        yield "the workflow has no 'on'"
    for name, job in (text.get("jobs") or {}).items():
        yield from lacking(job, ["runs-on", "steps", "timeout-minutes"], f"the job {name}")
        for number, step in enumerate(job.get("steps") or [], 1):
            where = f"step {number} of the job {name}"
            if ("run" in step) == ("uses" in step):
                yield f"{where} must have either 'run' or 'uses'"
            yield from of_command(step.get("run", ""), tracked, presets, where)


def of_form(text):
    yield from lacking(text, ["name", "description", "body"], "the form")
    for number, part in enumerate(text.get("body") or [], 1):
        wanted = ["type", "attributes"] if part.get("type") == "markdown" else ["type", "attributes", "id"]
        yield from lacking(part, wanted, f"part {number} of the form")


def problems(path, text, tracked, presets):
    if not isinstance(text, dict):
        return ["is no mapping"]
    if path.startswith(".github/workflows/"):
        return of_workflow(text, tracked, presets)
    if path.startswith(".github/ISSUE_TEMPLATE/") and not path.endswith("/config.yml"):
        return of_form(text)
    if path == "CITATION.cff":
        return lacking(text, ["cff-version", "message", "title", "authors", "version", "license"], "the citation")
    return []


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[1])
    tracked = set(subprocess.run(["git", "-C", root, "ls-files", "-z"], check=True, capture_output=True,
                                 text=True).stdout.split("\0")) - {""}
    settings = root / "CMakePresets.json"
    presets = [p["name"] for p in json.loads(settings.read_text(encoding="utf-8"))["configurePresets"]] \
        if settings.exists() else []
    files = sorted(path for path in tracked if re.search(r"\.(ya?ml|cff)$", path) or path in (".clang-format", ".clang-tidy"))
    found = 0
    for path in files:
        try:
            text = yaml.load((root / path).read_text(encoding="utf-8"), Loader)
            these = list(problems(path, text, tracked, presets))
        except yaml.YAMLError as error:
            these = [" ".join(str(error).split())]
        for problem in these:
            print(f"{path}: {problem}")
        found += len(these)
    if not files:
        sys.exit("check_yaml.py: no YAML files found")
    if found:
        sys.exit(1)
    print(f"{len(files)} YAML files, all of them read")


if __name__ == "__main__":
    main()
