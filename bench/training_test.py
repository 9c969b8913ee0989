#!/usr/bin/env python3
"""What training.py and report.py make of results, on results whose ratios are known."""

import copy
import unittest

import report
import training


def contestant(milliseconds, mebibytes):
    return {
        "parameters": 5,
        "adapters": "float",
        "difference": None,
        "peak_bytes": mebibytes * 2**20,
        "calls": 1,
        "ms": [milliseconds] * 3,
        "median_ms": milliseconds,
    }


RESULTS = {
    "command": "made up",
    "commit": "0123456789abcdef",
    "uncommitted_changes": False,
    "date": "2000-01-01",
    "dry_run": False,
    "machine": {"device": "none", "driver": "none", "toolkit": "none", "torch": "none", "peft": "none"},
    "dtype": "bfloat16",
    "tokens": 8,
    "rank": 2,
    "contestants": {name: name for name in ("hoft", "shoft", "lora_r", "hra_r", "oft")},
    "cases": {
        "8x8": {
            "hoft": contestant(1.0, 10),
            "shoft": contestant(1.5, 30),
            "lora_r": contestant(2.0, 10),
            "hra_r": contestant(10.0, 99),
            "oft": {"cannot_run": "a | reason"},
        },
        "8x16": {
            "hoft": contestant(3.0, 30),
            "shoft": contestant(3.5, 50),
            "lora_r": contestant(2.0, 20),
            "hra_r": contestant(34.0, 99),
            "oft": contestant(9.0, 9),
        },
    },
    "merge": {"copy": {"median_ms": 3.0}, "hoft": {"median_ms": 5.0}},
}


def rows(results):
    return {row[0]: row[1:] for row in training.target_table(results)}


class Targets(unittest.TestCase):
    def test_ratios_are_of_sums(self):
        found = rows(RESULTS)
        self.assertEqual(found["step time, HOFT / LoRA of as many parameters"][0], "1.00")  # 4 / 4, not (0.5 + 1.5) / 2
        self.assertEqual(found["step time, SHOFT / LoRA"], ["1.25", "≤ 1.20", "≤ 1.05", "1.73", "falls short"])
        self.assertEqual(found["peak memory, HOFT / LoRA"][0], "1.33")
        self.assertEqual(found["step time, HRA / HOFT"], ["11.00", "10.00", "20.00", "8.30", "met"])
        self.assertEqual(found["merge of one weight, of a device copy of it"][0], "60.0 %")

    def test_one_missing_shape_leaves_no_ratio(self):
        self.assertEqual(rows(RESULTS)["step time, OFT / HOFT"], ["-", "2.00", "4.00", "1.70", "not measured"])
        self.assertEqual(
            dict(training.ratios_to_lora(RESULTS, "median_ms")), {"hoft": 1, "shoft": 1.25, "lora_r": 1, "hra_r": 11}
        )

    def test_a_dry_run_judges_nothing(self):
        results = copy.deepcopy(RESULTS)
        results["dry_run"], results["merge"] = True, None
        for case in results["cases"].values():
            for one in case.values():
                one["peak_bytes"] = None
        verdicts = {row[-1] for row in rows(results).values()}
        self.assertEqual(verdicts, {"", "a dry run", "not measured"})
        self.assertEqual(training.ratios_to_lora(results, "peak_bytes"), [])


class Page(unittest.TestCase):
    def test_every_row_of_a_table_has_its_columns(self):
        for table in (
            training.target_table(RESULTS),
            *(training.case_table(*item) for item in RESULTS["cases"].items()),
        ):
            self.assertEqual({len(row) for row in table}, {len(table[0])})

    def test_the_page_tells_what_could_not_run(self):
        text = report.training_lines(RESULTS)
        self.assertIn("oft cannot run: a | reason", text)
        self.assertIn("0123456789ab", text)
        self.assertIn("No results yet", report.training_lines(None))


if __name__ == "__main__":
    unittest.main()
