# SPDX-License-Identifier: BSD-3-Clause
"""What the harness makes of measurements, on measurements that are known."""

import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench/claims"))

import fits
import harness
import plans
import terminal
import verdicts
from formulas import evaluate

GRID = {"base": {"m": 64, "n": 48, "r": 8, "b": 4, "k": 2, "t": 16},
        "sweeps": {"m": (32, 64, 128, 256), "r": (2, 4, 8, 16), "b": (2, 4, 8), "k": (1, 2, 4), "t": (8, 16, 32)}}
FLOPS = {"merge": "4*m*n*r", "merge_backward": "8*m*n*r", "forward": "2*m*n*t + 4*m*r*t", "backward": "4*m*n*t"}
MODELS = {"tokens": 100, "sizes": {"r": 4, "b": 2, "k": 1}, "reduced": {"by": 4, "tokens": 10, "sizes": {"r": 2, "b": 2, "k": 1}},
          "models": [{"name": "one", "layers": 3, "linear": [{"name": "q", "m": 64, "n": 32, "count": 2}]}]}
TABLE = {"rows": [{"name": "HRA", "method": "hra", "token_method": "in_turn", "parameters": "m * r",
                   "terms": ["m * n", "m * r"], "printed": "O(mn + mr)", "coverage": "r = m - 1", "covers": {"r": "m - 1"}},
                  {"name": "absent", "method": "absent", "parameters": "m", "terms": ["m"]}]}


def method(name, passes=plans.PASSES):
    about = {"name": name, "variables": "mnrt", "parameters": "m*r"}
    for which in plans.PASSES:
        about |= {f"{which}_flops": FLOPS[which] if which in passes else "", f"{which}_moved": "m*n", f"{which}_memory": "m*r"}
    return about


def runs(rotation, reflection, two_sided, name="hra"):
    return [{"method": name, "r": 7, "b": 2, "k": 1, "parameters": 56, "target": target, "residual": residual}
            for target, residuals in (("rotation", rotation), ("reflection", reflection), ("two_sided", two_sided))
            for residual in residuals]


TIMED = {"base": {**GRID["base"], "m": 128}, "sweeps": {**GRID["sweeps"], "m": (64, 128, 256, 512)}}


def made(flops=FLOPS, time=lambda flops, sizes: 3.0 * flops, extra=0):
    """Measurements of two methods, of which in_turn has a forward pass for 2 m n t + 4 m r t only."""
    methods = {name: about for name, about in (("hra", method("hra")), ("in_turn", method("in_turn", ("forward",))))}
    data = {"methods": methods, "quantities": ("flops", "memory", "time"), "memory_is_bounded": False, "table1": TABLE,
            "models": MODELS, "grids": {"count": GRID, "time": TIMED}, "counts": {}, "times": {}, "order": 8,
            "coverage": runs([1e-3], [1e-3], [1.0])}
    counts, times = (plans.cases(methods, grid, {"rows": TABLE["rows"][:1]}, MODELS) for grid in (GRID, TIMED))
    for key in counts:
        sizes = dict(zip(plans.LETTERS, key[2:]))
        counted = evaluate(flops[key[1]], sizes)
        data["counts"][key] = {"parameters": sizes["m"] * sizes["r"] + extra, "flops": counted,
                               "memory": 1.25 * sizes["m"] * sizes["r"]}
    for key in times:
        sizes = dict(zip(plans.LETTERS, key[2:]))
        data["times"][key] = [time(evaluate(flops[key[1]], sizes), sizes)] * 3
    return data


def cells(data):
    return {(cell["row"], cell["cell"]): cell for cell in verdicts.table1(data)}


class Cells(unittest.TestCase):
    def test_each_has_the_verdict_of_what_it_is_about(self):
        found = cells(made())
        self.assertEqual({key: cell["verdict"] for key, cell in found.items()}, {
            ("HRA", "parameters"): fits.HOLDS, ("HRA", "one token"): fits.HOLDS,
            ("HRA", "on the weight"): fits.FAILS, ("HRA", "coverage"): fits.HOLDS})
        self.assertEqual(found["HRA", "one token"]["method"], "in_turn")
        self.assertEqual(found["HRA", "on the weight"]["method"], "hra")

    def test_flops_decide_and_times_stand_beside_them(self):
        cell = cells(made(time=lambda flops, sizes: 1e3 * sizes["m"] ** 3))["HRA", "one token"]
        self.assertEqual([claim["quantity"] for claim in cell["claims"]], ["flops", "time"])
        self.assertEqual([claim["verdict"] for claim in cell["claims"]], [fits.HOLDS, fits.FAILS])
        self.assertEqual(cell["verdict"], fits.HOLDS)

    def test_without_flops_times_decide(self):
        data = made(time=lambda flops, sizes: 1e3 * sizes["m"] ** 3)
        data["quantities"] = ("memory", "time")
        data["coverage"] = []
        found = cells(data)
        self.assertEqual(found["HRA", "one token"]["verdict"], fits.FAILS)
        self.assertNotIn(("HRA", "coverage"), found)

    def test_times_have_a_constant_for_each_call(self):
        claims = cells(made(time=lambda flops, sizes: flops + 1e5))["HRA", "one token"]["claims"]
        self.assertEqual([claim["verdict"] for claim in claims], [fits.HOLDS, fits.HOLDS])
        self.assertEqual(claims[1]["terms"][-1], "1")
        self.assertLess(claims[1]["worst_ratio"], 1.1)

    def test_o_is_an_upper_bound(self):
        fewer = made({**FLOPS, "merge": "m*r"})
        fewer["table1"] = {"rows": [{**TABLE["rows"][0], "terms": ["m * n * r"]}]}
        self.assertEqual(cells(fewer)["HRA", "on the weight"]["verdict"], fits.HOLDS)

    def test_parameters_are_equal_or_wrong(self):
        for extra, verdict in ((0, fits.HOLDS), (1, fits.FAILS), (-1, fits.FAILS)):
            data = made(extra=extra)
            self.assertEqual(cells(data)["HRA", "parameters"]["verdict"], verdict)
            self.assertEqual(next(claim for claim in verdicts.declared(data))["verdict"], verdict)
            found = {"table1": verdicts.table1(data), "table1_rows": TABLE["rows"], "declared": verdicts.declared(data)}
            counted = f" (the formula gives 256, counted {256 + extra} at m = 32, n = 48, r = 8)" if extra else ""
            self.assertIn(f"Table 1, HRA, parameters: m * r: {verdict}{counted}", [*terminal.cells(found)])
            self.assertIn(f"hra, parameters: m*r: {verdict}{counted}", [*terminal.declared_parameters(found)])

    def coverage(self, *residuals, name="hra"):
        row = {**TABLE["rows"][0], "method": name}
        return verdicts.coverage_cell({"coverage": runs(*residuals, name=name), "order": 8}, row)

    def test_coverage_needs_every_target_by_every_seed(self):
        good, between, bad = 1e-3, 0.1, 0.3
        for rotation, reflection, verdict in (([good], [good], fits.HOLDS), ([good], [bad], fits.FAILS),
                                              ([good], [between], fits.UNKNOWN), ([good, between], [good], fits.UNKNOWN),
                                              ([good, bad], [good], fits.UNKNOWN), ([bad, bad], [good], fits.FAILS)):
            self.assertEqual(self.coverage(rotation, reflection, [bad])["verdict"], verdict, (rotation, reflection))
        # What has two sides has to reach the two-sided target as well.
        self.assertEqual(self.coverage([good], [good], [bad], name="hoft_exact")["verdict"], fits.FAILS)
        self.assertEqual(self.coverage([good], [good], [good], name="hoft_exact")["verdict"], fits.HOLDS)
        self.assertEqual(self.coverage([good, between], [good], [bad])["residuals"]["rotation"], between)

    def test_sizes_of_coverage_are_read(self):
        found = [{**run, "b": b, "k": k, "r": 1} for b, k in ((2, 3), (8, 1)) for run in runs([1e-3 * b], [1e-3], [1.0])]
        for covers, residual in (({"b": "2", "k": "log2(m)"}, 2e-3), ({"b": "m"}, 8e-3)):
            cell = verdicts.coverage_cell({"coverage": found, "order": 8}, {**TABLE["rows"][0], "covers": covers})
            self.assertEqual(cell["residuals"]["rotation"], residual)

    def test_coverage_that_was_not_measured_is_no_verdict(self):
        with self.assertRaisesRegex(ValueError, "was not measured"):
            verdicts.coverage_cell({"coverage": runs([0], [0], [0]), "order": 16}, TABLE["rows"][0])


class Declared(unittest.TestCase):
    def verdict(self, data, which, quantity):
        found = [claim for claim in verdicts.declared(data)
                 if (claim["method"], claim["pass"], claim["quantity"]) == ("hra", which, quantity)]
        self.assertEqual(len(found), 1)
        return found[0]["verdict"]

    def test_formulas_must_be_met_from_both_sides(self):
        self.assertEqual(self.verdict(made(), "merge_backward", "flops"), fits.HOLDS)
        for other in ("m*r", "8*m*n*r**2"):
            self.assertEqual(self.verdict(made({**FLOPS, "merge_backward": other}), "merge_backward", "flops"), fits.FAILS)

    def test_times_that_grow_less_than_declared_do_not_hold(self):
        data = made(time=lambda flops, sizes: 1e6 * sizes["m"] * sizes["n"] * sizes["r"] ** 0.4)
        data["methods"]["hra"]["merge_moved"] = "m*n*r"
        self.assertEqual(self.verdict(data, "merge", "time"), fits.FAILS)

    def test_memory_may_be_wrong_by_less_than_a_fifth_of_an_exponent(self):
        for excess, verdict in ((0.1, fits.HOLDS), (0.2, fits.FAILS)):
            data = made()
            for key, found in data["counts"].items():
                found["memory"] = key[2] ** (1 + excess) * key[4]
            self.assertEqual(self.verdict(data, "merge", "memory"), verdict)

    def test_times_may_be_those_of_numbers_moved(self):
        data = made(time=lambda flops, sizes: flops + 1e3 * sizes["m"] * sizes["n"])
        self.assertEqual(self.verdict(data, "merge", "time"), fits.HOLDS)

    def test_memory_on_a_gpu_is_a_bound_with_terms_of_its_own(self):
        data = made()
        self.assertEqual(self.verdict(data, "merge", "memory"), fits.HOLDS)
        data["methods"]["hra"]["merge_memory"] = "m*n*r"
        self.assertEqual(self.verdict(data, "merge", "memory"), fits.FAILS)
        data["memory_is_bounded"] = True
        data["methods"]["hra"]["merge_memory"] = "9*m*r + n*r"
        self.assertEqual(self.verdict(data, "merge", "memory"), fits.HOLDS)
        data["methods"]["hra"]["merge_memory"] = "m + r"
        self.assertEqual(self.verdict(data, "merge", "memory"), fits.FAILS)

    def test_no_memory_is_none(self):
        data = made()
        data["methods"]["hra"]["merge_memory"] = "0"
        self.assertEqual(self.verdict(data, "merge", "memory"), fits.FAILS)
        for found in data["counts"].values():
            found["memory"] = 0
        self.assertEqual(self.verdict(data, "merge", "memory"), fits.HOLDS)
        self.assertEqual(self.verdict(data, "forward", "memory"), fits.FAILS)  # declares some and takes none
        data["memory_is_bounded"] = True
        self.assertEqual(self.verdict(data, "forward", "memory"), fits.HOLDS)

    def test_memory_at_some_sizes_only_cannot_be_told(self):
        data = made()
        for key, found in data["counts"].items():
            if key[2] == 32:
                found["memory"] = 0
        self.assertEqual(self.verdict(data, "merge", "memory"), fits.UNKNOWN)
        data["methods"]["hra"]["merge_memory"] = "0"
        self.assertEqual(self.verdict(data, "merge", "memory"), fits.FAILS)

    def test_descriptions_are_checked_before_anything_is_measured(self):
        verdicts.check_description(method("hra"), GRID["base"])
        for name, formula, said in (("parameters", "m*rr", "hra, parameters: .*'rr' is none of"),
                                    ("merge_flops", "m*b", "hra, merge_flops: 'm.b' depends on b, but .* 'mnrt'"),
                                    ("merge_memory", "m/(r - 8)", "hra, merge_memory: .*division by zero"),
                                    ("backward_moved", "n - m", "is -16 at .*expected >= 0")):
            with self.assertRaisesRegex(ValueError, said):
                verdicts.check_description({**method("hra"), name: formula}, GRID["base"])

    def test_ratios_are_counted_over_declared(self):
        row = next(row for row in verdicts.ratios(made(), "memory") if row["pass"] == "merge")
        self.assertEqual((row["least"], row["median"], row["most"]), (1.25, 1.25, 1.25))


class Sums(unittest.TestCase):
    def test_models_are_sums_over_all_layers(self):
        data = made()
        data["methods"]["hra"]["forward_memory"] = "m*n"  # what is summed is the backward pass's
        (row,) = verdicts.models(data)  # in_turn does not train
        whole = {"m": 64, "n": 32, "t": 100, **MODELS["sizes"]}
        small = {"m": 16, "n": 8, "t": 10, **MODELS["reduced"]["sizes"]}
        flops = lambda sizes: sum(evaluate(FLOPS[which], sizes) for which in ("forward", "backward"))
        self.assertEqual(row["parameters"], 6 * 64 * 4)
        self.assertEqual(row["flops"], 6 * flops(whole))
        self.assertEqual(row["moved"], 6 * 2 * 64 * 32)
        self.assertEqual(row["memory"], 6 * 64 * 4)
        self.assertEqual(row["reduced_flops"], 6 * flops(small))
        self.assertEqual(row["reduced_formula_flops"], 6 * flops(small))
        self.assertEqual(row["reduced_memory"], 6 * 1.25 * 16 * 2)
        self.assertAlmostEqual(row["reduced_ms"], 6 * 3 * flops(small) / 1e6)

    def test_hoft_has_two_reflectors_for_each_of_hra(self):
        data = made()
        data["methods"]["hoft_exact"] = method("hoft_exact")
        for key, values in list(data["times"].items()):
            if key[0] == "hra":
                data["times"]["hoft_exact", *key[1:]] = [2 * value for value in values]
        self.assertEqual([row["r"] for row in verdicts.side_by_side(data)], list(GRID["sweeps"]["r"]))
        for row in verdicts.side_by_side(data):
            self.assertAlmostEqual(row["ratio"], 1)


class Files(unittest.TestCase):
    def read(self, reader, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "file"
            path.write_text(text, encoding="utf-8")
            return reader(path)

    def test_times_are_those_of_repetitions_by_the_clock_that_was_meant(self):
        name = "lora/merge/8/8/1/2/1/4/iterations:5/repeats:2"
        run = lambda name, kind, cpu, real: {"run_name": name, "run_type": kind, "cpu_time": cpu, "real_time": real}
        times, _ = self.read(harness.read_times, json.dumps({"context": {}, "benchmarks": [
            run(name, "iteration", 1, 7), run(name, "iteration", 2, 8), run(name, "aggregate", 99, 99),
            run(name.replace("lora", "full") + "/manual_time", "iteration", 3, 9)]}))
        self.assertEqual(times, {("lora", "merge", 8, 8, 1, 2, 1, 4): [1, 2], ("full", "merge", 8, 8, 1, 2, 1, 4): [9]})

    def test_memory_is_in_numbers_of_four_bytes(self):
        head = "method\tpass\tm\tn\tr\tb\tk\tt\tparameters\t"
        row = "lora\tmerge\t8\t6\t1\t2\t1\t4\t14\t"
        key = ("lora", "merge", 8, 6, 1, 2, 1, 4)
        self.assertEqual(self.read(harness.read_counts, head + "flops\tbytes\n" + row + "30\t400\n"),
                         {key: {"parameters": 14, "flops": 30, "memory": 100}})
        self.assertEqual(self.read(harness.read_counts, head + "bytes\n" + row + "400\n"),
                         {key: {"parameters": 14, "memory": 100}})


if __name__ == "__main__":
    unittest.main()
