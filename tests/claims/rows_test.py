# SPDX-License-Identifier: BSD-3-Clause
"""What is refused of a row of table1.json, by name and before anything is measured; and what may be left out."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench/claims"))

import page
import plans
import rows
import terminal
import verdicts
from formulas import evaluate

SIZES = {"m": 64, "n": 48, "r": 8, "b": 4, "k": 2, "t": 16}
ROW = {"name": "HRA, mine", "method": "hra", "parameters": "m * r", "terms": ["m * n", "m * r"], "printed": "O(mn + mr)",
       "coverage": "r = m - 1", "covers": {"r": "m - 1"}}
MEASURED = {"hra": [{"r": 1, "b": 2, "k": 1}, {"r": 7, "b": 2, "k": 1}]}


def method(name, passes=plans.PASSES, variables="mnrt"):
    return {"name": name, "variables": variables, **{f"{which}_flops": "m" if which in passes else "" for which in plans.PASSES}}


METHODS = {name: method(name, passes) for name, passes in
           (("hra", plans.PASSES), ("in_turn", ("forward",)), ("weight", ("merge", "merge_backward")))}


def check(*changed, elsewhere=(), measured=MEASURED):
    rows.check({"source": "a paper", "rows": list(changed)}, METHODS, elsewhere, SIZES, 8 if measured else 0, measured)


def without(*fields):
    return {field: value for field, value in ROW.items() if field not in fields}


class Rows(unittest.TestCase):
    def refused(self, said, *changed, **options):
        with self.assertRaisesRegex(ValueError, f"^table1.json, row '.*', {said}"):
            check(*changed, **options)

    def test_a_whole_row_is_taken(self):
        check(ROW)
        check({**ROW, "token_method": "in_turn", "argument": "Reflections.", "source": "a paper"})

    def test_methods_are_of_this_program_or_the_other(self):
        self.refused("method: no method is called 'hraa'; the methods are hra, in_turn, weight", {**ROW, "method": "hraa"})
        self.refused("method: no method is called 'turn'", {**ROW, "token_method": "turn"})
        check({**ROW, "method": "hraa"}, elsewhere={"hraa"})
        self.refused("method: no method is called 'turn'", {**ROW, "method": "hraa", "token_method": "turn"},
                     elsewhere={"hraa"})

    def test_methods_have_the_passes_that_are_judged(self):
        self.refused("method: 'in_turn' has no pass 'merge'", {**ROW, "method": "in_turn"})
        self.refused("method: 'weight' has no pass 'forward'", {**ROW, "token_method": "weight"})

    def test_coverage_may_be_left_out_as_a_whole(self):
        check(without("coverage", "covers"))
        self.refused("covers: coverage and covers come together", without("covers"))
        self.refused("covers: coverage and covers come together", without("coverage"))

    def test_a_row_without_coverage_has_no_verdict_on_it(self):
        data = {"table1": {"rows": [without("coverage", "covers")]}, "coverage": [{"method": "hra"}], "methods": METHODS}
        saved, verdicts.parameters, verdicts.claim = (verdicts.parameters, verdicts.claim), lambda *_: {"verdict": ""}, \
            lambda *_: {"verdict": ""}
        swept, verdicts.swept_samples = verdicts.swept_samples, lambda *_: {}
        self.addCleanup(lambda: vars(verdicts).update(parameters=saved[0], claim=saved[1], swept_samples=swept))
        data["quantities"] = ("flops", "time")
        self.assertEqual([cell["cell"] for cell in verdicts.table1(data)], ["parameters", "one token", "on the weight"])

    def test_sizes_of_coverage_are_formulas_whose_values_are_measured(self):
        for text in ("m - 1", "7", "log2(m) + 4", "max(m, n) - 1"):
            check({**ROW, "covers": {"r": text}})
        self.refused("covers: is r = 6 at m = 8, measured are r = 1, .*; r = 7", {**ROW, "covers": {"r": "m - 2"}})
        self.refused("covers: formula 'log2 m' is no expression", {**ROW, "covers": {"r": "log2 m"}})
        self.refused("covers: 'r' depends on r", {**ROW, "covers": {"r": "r"}})
        self.refused("covers: is 7, expected formulas as texts", {**ROW, "covers": {"r": 7}})
        self.refused("covers: there is no size 'm', expected of r, b, k", {**ROW, "covers": {"m": "m"}})
        self.refused("covers: coverage of 'hra' is not measured", ROW, measured={"oft": MEASURED["hra"]})
        self.refused("covers: formula 'm !' is no expression", {**ROW, "covers": {"r": "m !"}}, measured={})
        check({**ROW, "covers": {"r": "m - 2"}}, measured={})  # on a GPU nothing descends

    def test_formulas_depend_on_what_is_swept(self):
        self.refused("parameters: formula 'm r' is no expression", {**ROW, "parameters": "m r"})
        self.refused("parameters: 'm . b' depends on b, but only m, n, r are swept", {**ROW, "parameters": "m * b"})
        self.refused("terms: 'm . t' depends on t", {**ROW, "terms": ["m * t"]})
        self.refused("terms: 'n - m' is -16", {**ROW, "terms": ["m", "n - m"]})
        self.refused("terms: formula 'm . o': 'o' is none of", {**ROW, "terms": ["m * o"]})
        self.refused("terms: is 3, expected formulas as texts", {**ROW, "terms": [3]})
        self.refused("terms: formula 'log2.m - 64.' has no value at ", {**ROW, "terms": ["log2(m - 64)"]})

    def test_fields_are_known_whole_and_of_their_type(self):
        for field in rows.REQUIRED:
            self.refused(f"{field}: is missing", without(field))
        self.refused("'cover': no field has that name, the fields are name, method", {**ROW, "cover": "all"})
        self.refused("terms: is 'm', expected a list", {**ROW, "terms": "m"})
        self.refused("terms: is \\[\\], expected a list, not empty", {**ROW, "terms": []})
        self.refused("printed: is 3, expected a text", {**ROW, "printed": 3})
        self.refused("name: plots are named after it", {**ROW, "name": "a/b"})
        self.refused("name: another row has it", ROW, {**ROW, "name": "HRA mine"})

    def test_the_table_itself_says_what_it_must(self):
        path = pathlib.Path(rows.__file__).with_name("table1.json")
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            rows.check_fields(row)

    def test_every_claim_has_a_source(self):
        for source in ({}, {"source": ""}, {"source": 3}):
            with self.assertRaisesRegex(rows.RowError, "^table1.json, source: is (None|''|3), expected who claims"):
                rows.check({"rows": [ROW], **source}, METHODS, (), SIZES, 8, MEASURED)
        self.refused("source: is '', expected a text, not empty", {**ROW, "source": ""})

    def test_log2_is_a_function_of_formulas(self):
        self.assertEqual(evaluate("k * log2(m)", SIZES), 12)


class OfAnotherPaper(unittest.TestCase):
    CELL = {"cell": "parameters", "printed": "m * r", "verdict": "holds", "claims": []}
    RESULTS = {"table1_rows": [ROW, {**ROW, "name": "Mine", "source": "another paper"}],
               "table1": [{**CELL, "row": ROW["name"]}, {**CELL, "row": "Mine"}]}

    def test_the_terminal_does_not_call_it_table_1(self):
        self.assertEqual(list(terminal.cells(self.RESULTS)), ["Table 1, HRA, mine, parameters: m * r: holds",
                                                              "Mine, parameters: m * r: holds"])

    def test_the_page_has_it_apart_and_under_its_source(self):
        table1 = page.details(self.RESULTS, page.papers_rows(self.RESULTS))
        others = "\n".join(page.verdicts_on_others(self.RESULTS))
        self.assertIn("HRA, mine, parameters: holds", table1)
        self.assertNotIn("Mine", table1)
        self.assertIn("- Mine: another paper\n", others)
        self.assertIn("Source: another paper.\n", others)
        self.assertIn("| Mine | m r: [holds](", others)
        self.assertNotIn("HRA, mine", others)
        alone = {**self.RESULTS, "table1_rows": [ROW]}
        self.assertEqual(page.verdicts_on_others(alone), [])


class Terminal(unittest.TestCase):
    def test_constants_far_off_are_warned_of(self):
        ratio = {"method": "mine", "pass": "merge", "least": 0.5, "most": 3.0, "largest": 1.0}
        for largest, warned in ((1.0, False), (1.5, False), (1.51, True), (0.67, False), (0.66, True)):
            results = {"flops_ratios": [{**ratio, "largest": largest}], "memory_ratios": []}
            (line,) = terminal.constants(results)
            self.assertEqual("WARNING: the formula is off by more than a factor of 1.5" in line, warned, line)
            self.assertIn(f"{largest:5.2f} at the largest size,  0.50 to 3.00", line)

    def test_what_the_saved_results_lack_is_new(self):
        saved = {"methods": [method("hra"), method("lora")], "table1_rows": [ROW]}
        results = {"methods": [method("hra"), method("lora", variables="mnr"), method("mine")],
                   "table1_rows": [ROW, {**ROW, "name": "Mine"}]}
        self.assertEqual(terminal.new_since(results, saved), (["lora", "mine"], ["Mine"]))
        self.assertEqual(terminal.new_since(saved, saved), ([], []))
        for field, changed in (("terms", ["m"]), ("parameters", "m"), ("token_method", "lora"), ("covers", {"r": "m"})):
            changed = {**saved, "table1_rows": [{**ROW, field: changed}]}
            self.assertEqual(terminal.new_since(changed, saved), ([], [ROW["name"]]))
        printed = {**saved, "table1_rows": [{**ROW, "coverage": "r = m − 1"}]}  # is not judged
        self.assertEqual(terminal.new_since(printed, saved), ([], []))


if __name__ == "__main__":
    unittest.main()
