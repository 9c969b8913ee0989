#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What training.py, gpu_targets.py and report.py make of results, on results whose ratios are known, and that none of
them takes for measured what is not."""

import copy
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE / "gpu"))

import gpu_targets
import plots
import report  # before what lies in scripts/, where it looks
import save
import tables
import training

import contestants


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


def timed(us, gigabytes=0.0):
    return {"median_us": us, "bytes": gigabytes * 1e9, "us": [us]}


GPU = {
    "device": "none",
    "emulated": False,
    "small": False,
    "driver": 0,
    "runtime": 0,
    "sizes": {"features": 4096, "tokens": 8192, "matrices": 224, "product": 8192},
    "left_out": ["torch_householder_product"],
    "date": "2000-01-01",
    "commit": "0123456789abcdef",
    "command": "made up",
    "cases": {
        "product bfloat16 8192 x 8192 x 8192": {"cublas": timed(2199.023255552, 0.4)},
        "apply bfloat16 4096 x 8192, r = 16": {
            "hoft": timed(40.0, 0.1),
            "copy": timed(34.0, 0.1),
            "cublas_products": timed(50.0, 0.1),
        },
        "apply float 4096 x 8192, r = 16": {
            "hoft": timed(100.0, 0.2),
            "copy": timed(95.0, 0.2),
            "torch_ormqr": timed(6000.0, 0.2),
        },
        "apply_backward bfloat16 4096 x 8192, r = 16": {"hoft": timed(75.0, 0.15), "copy": timed(34.0, 0.1)},
        "accumulate 224 of 4096 x 16": {"hoft": timed(61.0, 0.1), "hoft_one_by_one": timed(1220.0, 0.1)},
    },
}


class Gpu(unittest.TestCase):
    def test_each_figure_stands_beside_what_it_must_be(self):
        found = {row[0]: row[1:] for row in gpu_targets.target_table(GPU)}
        self.assertEqual(found["device copy, read + written"][0], "2941.18 GB/s")
        self.assertEqual(found["cuBLAS's product of bfloat16 matrices of 8192²"][0], "500.00 TFLOP/s")
        self.assertEqual(found["apply, bfloat16, of the copy's bandwidth"], ["85.0 %", "80.0 %", "92.0 %", "met"])
        self.assertEqual(found["apply, float, of the copy's bandwidth"][3], "reached")
        self.assertEqual(found["three cuBLAS products / apply, bfloat16"], ["1.25", "1.40", "1.80", "falls short"])
        self.assertEqual(found["torch.ormqr / apply, float"][3], "reached")
        self.assertEqual(found["apply_backward, bfloat16, of the copy's bandwidth"][0], "68.0 %")  # three passes, not two
        self.assertEqual(found["accumulate, 224 of 4096 × 16"], ["61.00 µs", "≤ 60.00 µs", "≤ 25.00 µs", "falls short"])
        self.assertEqual(found["the same, one call each / one call"][3], "met")
        self.assertEqual(len(found), 10)  # with the head, without the peer that did not run

    def test_a_figure_that_nobody_left_out_is_missed(self):
        self.assertEqual(gpu_targets.without_figure(GPU), [])
        self.assertEqual(
            gpu_targets.without_figure({**GPU, "left_out": []}),
            ["torch.linalg.householder_product and a product / apply, float: there is no 'torch_householder_product'"],
        )

    def test_the_page_has_figures_and_cases(self):
        text = report.gpu_lines(GPU)
        self.assertIn("| apply, bfloat16, of the copy's bandwidth | 85.0 % | 80.0 % | 92.0 % | met |", text)
        self.assertIn("| product bfloat16 8192 x 8192 x 8192 | cublas | 2199.0 | - | 182 | - |", text)
        self.assertIn("| apply bfloat16 4096 x 8192, r = 16 | hoft | 40.0 | 1.00 | 2500 | 85 |", text)

    def test_the_plot_is_drawn(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "gpu.png"
            plots.draw_gpu(GPU, path)
            self.assertGreater(path.stat().st_size, 10000)


class NotMeasured(unittest.TestCase):
    """Results of an emulator, of small sizes, and of a dry run."""

    def refused(self, call, *arguments):
        with self.assertRaisesRegex(SystemExit, "no time in it is measured"):
            call(*arguments)

    def test_no_page_and_no_plot_takes_them(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "plot.png"
            for field in ("emulated", "small"):
                self.refused(report.gpu_lines, {**GPU, field: True})
                self.refused(plots.draw_gpu, {**GPU, field: True}, path)
            self.refused(report.training_lines, {**RESULTS, "dry_run": True})
            self.refused(plots.draw_training, {**RESULTS, "dry_run": True}, path)
            self.assertFalse(path.exists())

    def test_only_measurements_are_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            source, target = (pathlib.Path(folder) / name for name in ("results.json", "kept.json"))
            source.write_text(json.dumps({**GPU, "emulated": True}), encoding="utf-8")
            self.refused(save.save, source, target, "made up")
            self.assertFalse(target.exists())
            source.write_text(json.dumps({name: GPU[name] for name in GPU if name not in ("commit", "date", "command")}))
            save.save(source, target, "made up")
            kept = json.loads(target.read_text(encoding="utf-8"))
            self.assertRegex(kept["commit"], "^[0-9a-f]{40}$")
            self.assertEqual((kept["command"], kept["cases"]), ("made up", GPU["cases"]))
            self.assertIn(f"`{kept['commit'][:12]}`", report.gpu_lines(kept))

    def test_a_table_says_that_it_is_emulated(self):
        table = gpu_targets.target_table({**GPU, "emulated": True})
        self.assertEqual(table[0][1], "emulated: no times")
        self.assertEqual({row[-1] for row in table}, {""})

    def test_the_table_of_a_file_is_of_what_it_is_asked_for(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "results.json"
            for emulated in (False, True):
                path.write_text(json.dumps({**GPU, "emulated": emulated}), encoding="utf-8")
                for option in ([], ["--emulated"]):
                    command = [sys.executable, str(HERE / "gpu_targets.py"), *option, str(path)]
                    done = subprocess.run(command, capture_output=True, text=True)
                    self.assertEqual(done.returncode, int(emulated != bool(option)), done.stderr)


class Digits(unittest.TestCase):
    def test_a_value_is_printed_on_its_side_of_its_bounds(self):
        def printed(value, must, reach=None, unit="×"):
            return tables.value_beside_bounds({"value": value, "unit": unit, "must": must, "reach": reach})

        self.assertEqual(printed(1.11335, 1.11), "1.113")
        self.assertEqual(printed(1.0961, 1.11, 1.1), "1.096")
        self.assertEqual(printed(1.12104, 1.11), "1.12")
        self.assertEqual(printed(1.11, 1.11), "1.11")
        self.assertEqual(printed(74.96, 75, unit="%"), "74.96 %")
        self.assertEqual(printed(1.5, None), "1.50")

    def test_every_contestant_is_described(self):
        with self.assertRaisesRegex(SystemExit, "does not say what new_peer is"):
            contestants.lines({"hoft", "hoft_out", "lapack_larfb", "blas_products_out", "new_peer_on_blas"}, str)


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
