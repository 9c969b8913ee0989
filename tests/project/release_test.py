#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""scripts/release.sh refuses for each of its reasons, in a clone of this repository that it would else tag."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DAY = "2031-02-03"
IDENTITY = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "A tester"), ("EMAIL", "tester@example.org"))}


def git(folder, *arguments):
    run = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=60,
                         env={**os.environ, **IDENTITY})
    if run.returncode != 0:
        raise RuntimeError(f"git {' '.join(arguments)}: {run.stderr}")
    return run.stdout.strip()


class Release(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.clone = pathlib.Path(folder.name) / "clone"
        git(ROOT, "clone", "--quiet", "--shared", "--no-tags", str(ROOT), str(cls.clone))
        git(cls.clone, "config", "commit.gpgSign", "false")
        git(cls.clone, "config", "tag.gpgSign", "false")
        for name in ("release.sh", "check_version.sh", "help.sh"):  # as they are here, committed or not
            shutil.copy(ROOT / "scripts" / name, cls.clone / "scripts" / name)
        # The pages have their own tests. Here they are right unless the environment says that they are stale.
        (cls.clone / "scripts/check_pages.sh").write_text('[[ -z ${STALE_PAGES-} ]]\n', encoding="utf-8")
        cls.version = subprocess.run(["bash", ROOT / "scripts/check_version.sh"], capture_output=True, text=True,
                                     check=True).stdout.strip()
        cls.edit("CHANGELOG.md", r"^## [^,]*, .*", f"## {cls.version}, {DAY}", once=True)
        cls.edit("CITATION.cff", r"^(version: .*)", rf"\1\ndate-released: {DAY}", once=True)
        cls.commit("what is measured")
        cls.measure(git(cls.clone, "rev-parse", "HEAD"))
        cls.ready = cls.commit("measured")

    @classmethod
    def edit(cls, name, pattern, replacement, once=False):
        path = cls.clone / name
        text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), count=int(once),
                              flags=re.MULTILINE)
        assert count, f"{name} has no {pattern}"
        path.write_text(text, encoding="utf-8")

    @classmethod
    def commit(cls, message):
        git(cls.clone, "add", "--all")
        git(cls.clone, "commit", "--quiet", "--message", message)
        return git(cls.clone, "rev-parse", "HEAD")

    @classmethod
    def measure(cls, commit):
        """Every result and every document names that commit."""
        for name in git(cls.clone, "ls-files", "bench/results/*.json").splitlines():
            cls.edit(name, r'"commit": *"[^"]*"', f'"commit": "{commit}"', once=True)
        named = r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{7,40}\b"  # digits alone may be a number
        for name in git(cls.clone, "ls-files", "--", "*.md", ":!CHANGELOG.md").splitlines():
            if re.search(named, (cls.clone / name).read_text(encoding="utf-8")):
                cls.edit(name, named, commit[:12])

    def setUp(self):
        git(self.clone, "checkout", "--quiet", "--force", "--detach", self.ready)
        git(self.clone, "clean", "--quiet", "--force", "-d")
        for tag in git(self.clone, "tag").splitlines():
            git(self.clone, "tag", "--delete", tag)

    def release(self, *options, **more):
        return subprocess.run(["bash", self.clone / "scripts/release.sh", *options], capture_output=True, text=True,
                              timeout=120, env={**os.environ, **IDENTITY, **more})

    def refused(self, *words, tags=(), **more):
        """For these reasons and no other, as a dry run and in earnest."""
        for options in ([], ["--dry-run"]):
            run = self.release(*options, **more)
            self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
            for word in words:
                self.assertIn(word, run.stderr)
            self.assertIn(f"to be put right: {len(words)}\n", run.stderr)
            self.assertEqual(git(self.clone, "tag").split(), list(tags))

    def test_a_dry_run_tags_nothing(self):
        run = self.release("--dry-run")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(f"v{self.version} would be the tag", run.stdout)
        self.assertEqual(git(self.clone, "tag"), "")

    def test_what_is_ready_is_tagged(self):
        run = self.release()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(git(self.clone, "rev-parse", f"v{self.version}^{{commit}}"), self.ready)
        self.assertEqual(git(self.clone, "cat-file", "-t", f"v{self.version}"), "tag")  # annotated
        self.refused("there is a tag", tags=[f"v{self.version}"])

    def test_a_comment_and_the_version_are_not_measured(self):
        self.edit("include/hoft/hoft.hpp", r"\A(.*\n)", r"\1// A line more.\n")
        self.edit("include/hoft/memory/workspace.hpp", r"///< bytes$", "///< bytes that are lent", once=True)
        self.commit("a comment")
        self.assertEqual(self.release("--dry-run").returncode, 0)

    def test_a_tree_that_is_not_clean(self):
        (self.clone / "untracked").touch()
        self.refused("not committed, or files not tracked")
        (self.clone / "untracked").unlink()
        self.edit("README.md", r"\A", "\n")
        self.refused("not committed, or files not tracked")

    def test_versions_that_differ(self):
        for name, pattern in (("CHANGELOG.md", r"^## [^,]*"), ("CITATION.cff", r"^version: .*"),
                              ("packaging/vcpkg/hoft/vcpkg.json", r'^  "version": "[^"]*'),
                              ("packaging/spack/packages/hoft/package.py", r'version\("\d[^"]*')):
            with self.subTest(name=name):
                self.setUp()
                self.edit(name, pattern, lambda found: re.sub(r"[\d.]+$", "9.9.9", found[0]), once=True)
                self.commit("another version")
                self.refused("not all places give one version")
                self.assertIn(f"{name}: says '9.9.9'", self.release().stderr)

    def test_the_header_of_another_version(self):
        self.edit("include/hoft/version.hpp", r"^(#define HOFT_VERSION_MINOR) .*", r"\1 98")
        self.commit("another version")
        self.refused("not all places give one version")
        self.assertIn("docs/internals/architecture.md: says", self.release().stderr)

    def test_no_day(self):
        self.edit("CHANGELOG.md", rf"^(## .*), {DAY}", r"\1, unreleased")
        self.commit("no day")
        self.refused("has 'unreleased' where the day of its release must stand")

    def test_another_day(self):
        self.edit("CITATION.cff", f"^date-released: {DAY}", "date-released: 2031-02-04")
        self.commit("another day")
        self.refused("date-released is not")

    def test_stale_pages(self):
        self.refused("a page is not what its results say", STALE_PAGES="yes")

    def test_headers_that_were_not_measured(self):
        self.edit("include/hoft/hoft.hpp", r"\Z", "#define HOFT_ANOTHER_LINE\n")
        self.commit("a change")
        run = self.release("--dry-run")
        self.assertEqual(run.returncode, 1)
        for name in ("README.md", "bench/results/cpu.json", "docs/reference/performance.md"):
            self.assertRegex(run.stderr, rf"{name}: measured at [0-9a-f]+, and include/ has changed since")

    def test_a_header_that_was_not_there(self):
        (self.clone / "include/hoft/core/more.hpp").write_text("#pragma once\n", encoding="utf-8")
        self.commit("a header")
        self.assertIn("include/ has changed since", self.release("--dry-run").stderr)

    def changed(self, name, line):
        """The results that are refused after a line more in that file, by the programs that made them."""
        self.setUp()
        with (self.clone / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
        self.commit("a line")
        run = self.release("--dry-run")
        found = re.findall(r"bench/results/(\S+)\.json: measured at \w+, and the programs", run.stderr)
        self.assertIn(f"to be put right: {len(found)}\n" if found else "", run.stderr)
        self.assertEqual(run.returncode, 1 if found else 0, run.stderr)
        return sorted(found)

    def test_programs_that_were_not_measured(self):
        cpu, claims, text = ["cpu", "cpu_amx", "cpu_avx2"], ["claims/results", "claims_gpu/results"], ["finetune_starts", "finetune_text"]
        package = ["gpu_training", "linalg_torch", "linear", "linear_amx", *text]
        for name, results in (("bench/apply.cpp", cpu), ("bench/contest.hpp", cpu), ("bench/run.sh", cpu),
                              ("bench/data.hpp", [*claims, *cpu]), ("bench/eigen_gemm.hpp", [*claims, *cpu]),
                              ("bench/methods/lora.hpp", claims), ("bench/claims/time.cpp", claims),
                              ("bench/gpu/claims/device.cu", claims), ("bench/claims/plans.py", claims),
                              ("bench/claims/harness.py", []), ("bench/claims/models.json", claims),
                              ("bench/claims/table1.json", claims), ("bench/gpu/torch_peers.py", ["gpu"]),
                              ("bench/gpu/counts.cu", ["gpu", "gpu_counts"]), ("tests/ptx/memory.cpp", ["gpu_counts"]),
                              ("bench/scaling/scaling.cpp", ["scaling"]), ("bench/threads/parts.cpp", ["threads"]),
                              ("examples/finetune_images/layers.cpp", ["finetune_images"]),
                              ("examples/npy.hpp", ["finetune_images"]),
                              ("examples/finetune_text/training.py", text), ("bench/plain_wy.py", ["linear", "linear_amx"]),
                              ("examples/pytorch/hoft_torch/module.py", package),
                              ("examples/pytorch/hoft_torch/csrc/cpu.cpp", package),
                              ("bench/report.py", []), ("examples/finetune_text/plot.py", []),
                              ("bench/claims/page.py", []), ("examples/pytorch/tests/test_linear.py", [])):
            with self.subTest(name=name):
                expected = [which for which in sorted(results) if (self.clone / f"bench/results/{which}.json").exists()]
                self.assertEqual(self.changed(name, "another_line = 1" if name.endswith(".py") else "int another_line;"),
                                 expected)

    def test_comments_of_programs_are_not_measured(self):
        self.assertEqual(self.changed("bench/apply.cpp", "// A line more."), [])
        self.assertEqual(self.changed("examples/pytorch/hoft_torch/module.py", "# A line more."), [])

    def test_the_indentation_of_a_script_is_measured(self):
        self.edit("examples/finetune_text/training.py", r"^( {8,})(\w.* = .*)$", r"\1    \2", once=True)
        self.commit("a line belongs elsewhere")
        self.assertIn("bench/results/finetune_text.json: measured at", self.release("--dry-run").stderr)

    def test_what_stands_behind_a_hash_in_a_word_is_measured(self):
        self.edit("bench/run.sh", r"\$\{#quick\[@\]\} -gt 0", "${#quick[@]} -gt 1", once=True)
        self.commit("no comment")
        self.assertIn("bench/results/cpu.json: measured at", self.release("--dry-run").stderr)

    def test_results_that_nobody_says_how_to_make(self):
        (self.clone / "bench/results/more.json").write_text("{}", encoding="utf-8")
        self.commit("results")
        self.refused("bench/results/more.json: programs_of of this script does not say")

    def test_results_of_another_history(self):
        self.edit("bench/results/linear.json", r'"commit": *"[^"]*"', f'"commit": "{"0123456789" * 4}"', once=True)
        self.commit("from elsewhere")
        self.refused("bench/results/linear.json: measured at 0123456789")

    def test_results_without_a_commit(self):
        self.edit("bench/results/linear.json", r'"commit"', '"comment"', once=True)
        self.commit("no commit")
        self.refused("bench/results/linear.json: does not say at which commit")

    def test_uncommitted_changes_when_measured(self):
        for name, pattern, replacement in (("cpu", r'"uncommitted_changes": *false', '"uncommitted_changes": true'),
                                           ("scaling", r'("commit": *"[^"]*)"', r'\1, with uncommitted changes"')):
            with self.subTest(name=name):
                self.setUp()
                self.edit(f"bench/results/{name}.json", pattern, replacement, once=True)
                self.commit("changes")
                self.refused(f"bench/results/{name}.json: measured with uncommitted changes")

    def test_unknown_options(self):
        run = self.release("--force")
        self.assertEqual(run.returncode, 2)
        self.assertIn("no option is called '--force'", run.stderr)


if __name__ == "__main__":
    if subprocess.run(["git", "-C", ROOT, "rev-parse", "--git-dir"], capture_output=True).returncode != 0:
        print("this is no checkout: there is nothing to clone")
        sys.exit(77)
    unittest.main()
