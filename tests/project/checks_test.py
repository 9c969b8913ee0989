#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The checks of licences and of YAML find what they are for, in small repositories made for it."""

import pathlib
import subprocess
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
WORKFLOW = """\
name: CI
on: push
permissions: {contents: read}
jobs:
  tests:
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    steps:
      - run: bash tests/run.sh && cmake --preset default -S examples
"""
FORM = "name: A\ndescription: B\nbody:\n  - {type: input, id: c, attributes: {label: D}}\n"


class Checks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        subprocess.run(["git", "init", "--quiet", self.root], check=True)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        subprocess.run(["git", "-C", self.root, "add", path], check=True)

    def check(self, *command):
        run = subprocess.run([*command, self.root], capture_output=True, text=True, timeout=60)
        return run.returncode, run.stdout + run.stderr


class License(Checks):
    TEXT = "BSD 3-Clause License\n"

    def check_license(self):
        return self.check("bash", SCRIPTS / "check_license.sh")

    def test_first_line_or_the_one_after_the_interpreter(self):
        self.write("LICENSE", self.TEXT)
        for path, text in (("a.hpp", "// SPDX-License-Identifier: BSD-3-Clause\n#pragma once\n"),
                           ("b/c.py", "#!/usr/bin/env python3\n# SPDX-License-Identifier: BSD-3-Clause\n"),
                           ("CMakeLists.txt", "# SPDX-License-Identifier: BSD-3-Clause\n"), ("d.md", "no source\n")):
            self.write(path, text)
        self.assertEqual(self.check_license(), (0, "3 sources name their licence\n"))

    def test_what_has_none_or_another(self):
        self.write("LICENSE", self.TEXT)
        for path, text in (("empty.py", ""), ("late.cpp", "\n// SPDX-License-Identifier: BSD-3-Clause\n"),
                           ("other.sh", "#!/bin/sh\n# SPDX-License-Identifier: MIT\n"),
                           ("script.sh", "#!/bin/sh\n"), ("wrong.cu", "# SPDX-License-Identifier: BSD-3-Clause\n")):
            with self.subTest(path=path):
                self.write(path, text)
                status, said = self.check_license()
                self.assertEqual(status, 1)
                self.assertIn(f"{path}: does not begin with", said)

    def test_another_licence_and_no_sources(self):
        self.write("LICENSE", "Other License\n")
        self.assertEqual(self.check_license()[0], 2)
        self.write("LICENSE", self.TEXT)
        self.assertEqual(self.check_license()[0], 2)


class Yaml(Checks):
    def refused(self, path, text, words):
        with self.subTest(words=words):
            self.write(path, text)
            status, said = self.check("/usr/bin/python3", SCRIPTS / "check_yaml.py")
            self.assertEqual(status, 1, said)
            self.assertIn(path, said)
            self.assertIn(words, said)

    def setUp(self):
        super().setUp()
        self.write("tests/run.sh", "")
        self.write("examples/a.cpp", "")
        self.write("CMakePresets.json", '{"configurePresets": [{"name": "default"}]}')

    def test_what_is_right(self):
        self.write(".github/workflows/ci.yml", WORKFLOW)
        self.write(".github/ISSUE_TEMPLATE/a.yml", FORM)
        self.assertEqual(self.check("/usr/bin/python3", SCRIPTS / "check_yaml.py"), (0, "2 YAML files, all of them read\n"))

    def test_no_yaml(self):
        self.refused("a.yml", "a: [1\n", "expected ',' or ']'")
        self.refused("a.yml", "a: 1\nb: 2\na: 3\n", "the key 'a' stands twice")
        self.refused("a.yml", "- a\n", "is no mapping")
        self.refused("a.yml", "a: 1\n---\nb: 2\n", "expected a single document")

    def test_workflows(self):
        for old, new, words in (("on: push", "", "has no 'on'"), ("    timeout-minutes: 10\n", "", "no 'timeout-minutes'"),
                                ("permissions: {contents: read}", "", "no 'permissions'"),
                                ("run.sh", "walk.sh", "runs tests/walk.sh, which is not tracked"),
                                ("-S examples", "-S bench", "runs bench, which is not tracked"),
                                ("default", "other", "the preset other"), ("- run:", "- with:", "either 'run' or 'uses'")):
            self.assertIn(old, WORKFLOW)
            self.refused(".github/workflows/ci.yml", WORKFLOW.replace(old, new), words)

    def test_forms_and_the_citation(self):
        self.refused(".github/ISSUE_TEMPLATE/a.yml", FORM.replace("id: c, ", ""), "part 1 of the form has no 'id'")
        self.refused(".github/ISSUE_TEMPLATE/a.yml", FORM.replace("description: B\n", ""), "no 'description'")
        self.refused("CITATION.cff", "title: A\n", "the citation has no 'authors'")


if __name__ == "__main__":
    unittest.main()
