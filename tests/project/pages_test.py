#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""README.md has the numbers of the saved results, and other results would be noticed."""

import copy
import json
import pathlib
import re
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("bench", "scripts")]

import prose
import readme

README = readme.README.read_text(encoding="utf-8")
SAVED = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in readme.RESULTS.items()}


class Readme(unittest.TestCase):
    def rows(self, **changed):
        saved = {**SAVED, **changed}
        return readme.with_rows(README, saved["cpu"], saved["finetune_images"])

    def test_it_says_what_was_measured(self):
        self.assertEqual(self.rows(), README)
        self.assertEqual(prose.between_marks("bench/readme.py", readme.pytorch_step(SAVED["finetune_text"]), README), README)
        self.assertEqual(readme.missing(README, SAVED["claims/results"], SAVED["cpu"]), [])

    def test_other_results_are_other_rows(self):
        cpu, images = copy.deepcopy(SAVED["cpu"]), copy.deepcopy(SAVED["finetune_images"])
        cpu["cases"][readme.CASE]["hoft"]["median_ms"] *= 2
        self.assertNotEqual(self.rows(cpu=cpu), README)
        images["runs"][-1]["orthogonality_error"] = 0.5
        self.assertIn("| 5.0e-01, which is rounding |", self.rows(finetune_images=images))

    def test_other_results_are_another_step(self):
        text = copy.deepcopy(SAVED["finetune_text"])
        text["times"]["large"]["hoft"] = 3 * text["times"]["large"]["lora"]
        text["memory"] = [{**one, "peak": 7} for one in text["memory"]]
        said = " ".join(readme.pytorch_step(text).split())
        self.assertIn("takes 3.00 (2048 tokens)", said)
        self.assertIn("is 1.00 of what LoRA adds", said)

    def test_sentences_with_other_numbers_are_missed(self):
        slower = re.search(r"0\.\d\d of the time", README).group()  # measured, so it changes
        for number in ("0.66 GB", "(11 GB", "42 %", slower):
            self.assertIn(number, README)
            (sentence,) = readme.missing(README.replace(number, "7 GB"), SAVED["claims/results"], SAVED["cpu"])
            self.assertIn(number, sentence)


class Marks(unittest.TestCase):
    PAGE = "a\n<!-- written by b.py -->\nold\n<!-- end of what b.py writes -->\nc\n"

    def test_what_stands_between_them_is_replaced(self):
        self.assertEqual(prose.between_marks("b.py", "new\n", self.PAGE), self.PAGE.replace("old", "new"))
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "page.md"
            path.write_text(self.PAGE, encoding="utf-8")
            self.assertEqual(prose.written_between("b.py", "", path), self.PAGE.replace("old\n", ""))
            self.assertEqual(path.read_text(encoding="utf-8"), self.PAGE)

    def test_both_are_there_once_and_in_order(self):
        begin, end = "<!-- written by b.py -->", "<!-- end of what b.py writes -->"
        for page in ("", begin, end, f"{end}\n{begin}", f"{begin}\n{begin}\n{end}", self.PAGE + end):
            with self.assertRaisesRegex(RuntimeError, "^the page needs the lines <!-- written by b.py --> and"):
                prose.between_marks("b.py", "new\n", page)


if __name__ == "__main__":
    unittest.main()
