# SPDX-License-Identifier: BSD-3-Clause
"""The statistics of the harness on synthetic measurements whose exponents are known."""

import math
import pathlib
import sys
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench/claims"))

import fits
import formulas
import plans

M = (64, 128, 256, 512, 1024)
R = (2, 4, 8, 16, 32, 64)
BASE = {"m": 256, "n": 256, "r": 16, "b": 16, "k": 3, "t": 32}


def sweep(letters, values, law, rng=None, repetitions=9, noise=0.0):
    """Repetitions of law(sizes) with noise, now and then a large outlier, as another process would make."""
    samples = []
    for value in values:
        sizes = {**BASE, **dict.fromkeys(letters, value)}
        exact = law(**sizes)
        drawn = np.full(repetitions, float(exact))
        if rng is not None:
            drawn = exact * np.exp(noise * rng.standard_normal(repetitions))
            drawn *= np.where(rng.random(repetitions) < 0.03, 3.0, 1.0)
        samples.append({"sizes": sizes, "values": drawn.tolist()})
    return list(values), samples


def sweeps(law, rng=None, **noise):
    return {"m": sweep("m", M, law, rng, **noise), "n": sweep("n", M, law, rng, **noise),
            "mn": sweep("mn", M, law, rng, **noise), "r": sweep("r", R, law, rng, **noise)}


def terms(*texts):
    return [lambda sizes, text=text: formulas.evaluate(text, sizes) for text in texts]


def judge(law, claimed, kind="bound", margin=0.1, rng=None, **noise):
    return fits.judge(sweeps(law, rng, **noise), terms(*claimed), kind, margin)


class Exponents(unittest.TestCase):
    def test_slopes_of_powers_are_exact(self):
        for exponent in (-1.5, 0.0, 1.0, 2.0, 3.0):
            x, samples = sweep("m", M, lambda m, **_: 7.0 * m**exponent)
            self.assertAlmostEqual(float(fits.slope(x, fits.medians(samples))), exponent, places=12)
            self.assertAlmostEqual(fits.straightness(x, fits.medians(samples)), 1.0, places=12)

    def test_intervals_cover_the_true_exponent_as_often_as_they_say(self):
        rng = np.random.default_rng(5)
        for repetitions in (5, 9):
            covered, trials = 0, 400
            for trial in range(trials):
                x, samples = sweep("m", M, lambda m, **_: m**2, rng, repetitions=repetitions, noise=0.05)
                low, high = fits.interval(x, samples, seed=trial, draws=400)
                covered += low <= 2 <= high
            # 95 % of 400 has a standard deviation of 1.1 %; medians of few draws err a little towards too wide.
            self.assertGreater(covered / trials, 0.91)
            self.assertLess(covered / trials, 0.995)

    def test_intervals_shrink_with_the_noise(self):
        widths = []
        for noise in (0.2, 0.02):
            x, samples = sweep("m", M, lambda m, **_: m, np.random.default_rng(1), noise=noise)
            low, high = fits.interval(x, samples)
            widths.append(high - low)
        self.assertGreater(widths[0], 5 * widths[1])

    def test_constants_are_found_again_and_never_negative(self):
        rng = np.random.default_rng(2)
        for _ in range(20):
            f = rng.uniform(1, 10, (3, 30))
            constants = np.where(rng.random(3) < 0.4, 0, rng.uniform(0.5, 2, 3))
            if not constants.any():
                continue
            np.testing.assert_allclose(fits.symmetric_fit(f, constants @ f), constants, atol=1e-8)
        for _ in range(200):  # whatever is measured: no better constants in any allowed direction
            f, y = rng.uniform(0.1, 10, (4, 12)), rng.uniform(0.5, 2, 12)
            found = fits.nonnegative_fit(f, y, y)
            relative = (f / y).T
            gradient = relative.T @ (1 - relative @ found)
            self.assertTrue((found >= 0).all())
            self.assertLess(gradient.max(), 1e-6)
            self.assertLess(abs(gradient[found > 0]).max(), 1e-6)

    def test_intervals_are_those_of_the_normal_distribution_where_there_are_many_repetitions(self):
        # A median of n has the deviation 1.2533 σ / √n, and 95 % lie within 1.96 deviations on either side.
        rng, n, noise, widths = np.random.default_rng(8), 401, 0.05, []
        for trial in range(20):
            x, samples = sweep("m", M, lambda m, **_: m, repetitions=n)
            for sample in samples:
                sample["values"] = np.array(sample["values"]) * np.exp(noise * rng.standard_normal(n))
            low, high = fits.interval(x, samples, seed=trial, draws=400)
            widths.append(high - low)
        lx = np.log(M) - np.log(M).mean()
        expected = 2 * 1.96 * 1.2533 * noise / math.sqrt(n * (lx @ lx))
        self.assertAlmostEqual(np.mean(widths) / expected, 1, delta=0.08)

    def test_intervals_are_widened_for_few_repetitions(self):
        # Two repetitions of one point: a quarter of the draws is at either end, and the widening is √2.
        samples = [{"sizes": {}, "values": values} for values in ([1.0, 1.0], [1.0, 1.0], [1.0, math.e])]
        low, high = fits.interval((1, 2, 4), samples)
        per_log = 1 / (2 * math.log(2))
        centre = per_log * math.log((1 + math.e) / 2)
        self.assertAlmostEqual(low, centre - math.sqrt(2) * centre, places=9)
        self.assertAlmostEqual(high, centre + math.sqrt(2) * (per_log - centre), places=9)

    def test_too_large_and_too_small_count_alike(self):
        y = np.array([1.0, 100.0])
        np.testing.assert_allclose(fits.symmetric_fit(np.ones((1, 2)), y), [10.0], rtol=1e-6)
        rng = np.random.default_rng(9)
        for _ in range(20):  # with several terms: no constants near by have less squares of logarithms
            f, y = rng.uniform(1, 10, (2, 12)), np.exp(rng.uniform(0, 3, 12))
            found = fits.symmetric_fit(f, y)
            squares = lambda c: np.sum(np.log(c @ f / y) ** 2)
            for i in np.flatnonzero(found):
                for step in (-1e-3, 1e-3):
                    changed = found.copy()
                    changed[i] *= 1 + step
                    self.assertGreater(squares(changed), squares(found))

    def test_what_has_no_logarithm_is_refused(self):
        for bad in (0.0, -1.0, math.nan, math.inf):  # one of the repetitions, which the median would not show
            samples = [{"sizes": {**BASE, "m": m}, "values": [1.0, 1.0, y]} for m, y in ((1, 1.0), (2, bad))]
            with self.assertRaisesRegex(ValueError, "a measurement is"):
                fits.judge({"m": ((1, 2), samples)}, terms("1"), "bound", 0.1)

    def test_the_worst_point_is_named(self):
        samples = [{"sizes": {**BASE, "m": m}, "values": [y]} for m, y in ((1, 1.0), (2, 100.0))]
        judged = fits.judge({"m": ((1, 2), samples)}, terms("1"), "bound", 0.1)
        self.assertAlmostEqual(judged["worst_ratio"], 10, places=6)


class Verdicts(unittest.TestCase):
    def test_true_claims_hold(self):
        law = lambda m, n, r, **_: 2 * m * n + 3 * (m + n) * r * r
        self.assertEqual(judge(law, ["m * n", "(m + n) * r**2", "(m + n) * r"])["verdict"], fits.HOLDS)
        self.assertEqual(judge(law, ["2 * m * n + 3 * (m + n) * r**2"], "growth")["verdict"], fits.HOLDS)
        noisy = judge(law, ["m * n", "(m + n) * r**2"], margin=0.25, rng=np.random.default_rng(3), noise=0.05)
        self.assertEqual(noisy["verdict"], fits.HOLDS)

    def test_wrong_claims_do_not(self):
        law = lambda m, n, r, **_: 4 * m * n * r
        for wrong in (["m * n"], ["m * n", "m * r"], ["m * n", "(m + n) * r**2", "(m + n) * r"], ["r**2"]):
            self.assertEqual(judge(law, wrong)["verdict"], fits.FAILS, wrong)
            noisy = judge(law, wrong, margin=0.25, rng=np.random.default_rng(4), noise=0.05)
            self.assertEqual(noisy["verdict"], fits.FAILS, wrong)

    def test_a_bound_may_be_loose_and_a_growth_may_not(self):
        law = lambda m, n, **_: m * n
        self.assertEqual(judge(law, ["m * n * r"], "bound")["verdict"], fits.HOLDS)
        self.assertEqual(judge(law, ["m * n * r"], "growth")["verdict"], fits.FAILS)
        loose = judge(law, ["m * n", "m * n * r**2"])
        self.assertEqual((loose["verdict"], loose["unseen"]), (fits.HOLDS, [1]))

    def test_noise_and_short_ranges_tell_nothing(self):
        law = lambda m, **_: m
        noisy = sweep("m", M, law, np.random.default_rng(6), repetitions=3, noise=1.5)
        self.assertEqual(fits.judge({"m": noisy}, terms("m"), "growth", 0.1)["verdict"], fits.UNKNOWN)
        for values in ((64, 96, 128), (64, 1024)):
            short = sweep("m", values, law)
            self.assertEqual(fits.judge({"m": short}, terms("m"), "growth", 0.1)["verdict"], fits.UNKNOWN)

    def test_a_range_of_the_shortest_factor_tells(self):
        self.assertEqual(fits.judge({"m": sweep("m", (16, 32, 64), lambda m, **_: m)}, terms("m"), "growth", 0.1)["verdict"],
                         fits.HOLDS)

    def test_a_term_is_seen_where_its_share_is_greatest(self):
        law = lambda m, n, r, **_: m * n + 4 * (m + n) * r * r
        found = judge(law, ["m * n", "(m + n) * r**2"])
        self.assertEqual(found["unseen"], [])
        greatest = [max(part / law(**sample["sizes"]) for _, samples in sweeps(law).values() for sample in samples
                        for part in [formulas.evaluate(text, sample["sizes"])]) for text in ("m * n", "4*(m + n)*r**2")]
        for share, expected in zip(found["shares"], greatest):
            self.assertAlmostEqual(share, expected, places=6)
        less = judge(lambda m, n, r, **_: m * n + (m + n) * r / 8, ["m * n", "(m + n) * r"])  # at most 6 %
        self.assertEqual(less["unseen"], [])

    def test_an_interval_across_a_margin_tells_nothing(self):
        decide = lambda low, high, kind: fits.decide(1.0, low, high, kind, 0.1, 16, 5)
        for kind in ("bound", "growth"):
            self.assertEqual(decide(0.95, 1.05, kind), fits.HOLDS)
            self.assertEqual(decide(1.05, 1.2, kind), fits.UNKNOWN)
            self.assertEqual(decide(1.11, 1.2, kind), fits.FAILS)
        for low, high, growth in ((0.8, 0.95, fits.UNKNOWN), (0.5, 0.89, fits.FAILS)):
            self.assertEqual(decide(low, high, "growth"), growth)
            self.assertEqual(decide(low, high, "bound"), fits.HOLDS)

    def test_what_is_not_finite_holds_nothing(self):
        for bad in (math.nan, math.inf, -math.inf):
            self.assertEqual(fits.decide(bad, 1, 1, "growth", 0.1, 16, 5), fits.UNKNOWN)
            self.assertEqual(fits.decide(1, bad, bad, "bound", 0.1, 16, 5), fits.UNKNOWN)

    def test_the_worst_verdict_speaks_for_a_claim(self):
        self.assertEqual(fits.worst([fits.HOLDS, fits.UNKNOWN]), fits.UNKNOWN)
        self.assertEqual(fits.worst([fits.UNKNOWN, fits.FAILS, fits.HOLDS]), fits.FAILS)
        self.assertEqual(fits.worst([]), fits.UNKNOWN)


class Formulas(unittest.TestCase):
    def test_values(self):
        self.assertEqual(formulas.evaluate("m * (b - 1) / 2 + min(r, k)**2", BASE), 256 * 15 / 2 + 9)
        self.assertEqual(formulas.evaluate("max(r, k)", BASE), 16)

    def test_terms_of_a_sum(self):
        self.assertEqual(formulas.terms_of("(m + n)*r + r*t + 1"), ["(m + n) * r", "r * t", "1"])
        self.assertEqual(formulas.terms_of("m*n"), ["m * n"])

    def test_powers_are_printed_whole(self):
        self.assertEqual(formulas.printed("2**17/m + m * b**2 + r**13"), "2¹⁷/m + m b² + r¹³")

    def test_letters_are_those_of_the_formula(self):
        self.assertEqual(formulas.letters_of("(m + n)*min(r, 2**4) + max(m, 3)"), set("mnr"))

    def test_everything_else_is_refused(self):
        for text in ("x", "m.real", "open('x')", "m if r else n", "m *", "max(m, key=n)", "'m'", "True"):
            with self.assertRaisesRegex(formulas.FormulaError, "formula"):
                formulas.evaluate(text, BASE)


class Plans(unittest.TestCase):
    def test_each_case_is_there_once_and_only_what_is_swept_varies(self):
        method = {"name": "a", "variables": "mnrt"}
        for level in (*plans.LEVELS.values(), *plans.GPU_LEVELS.values()):
            for grid in (level["count"], level["time"]):
                for letters, points in plans.sweeps_of(method, grid).items():
                    wanted = grid["sweeps"]["m" if letters in ("n", "mn") else letters]
                    self.assertEqual([x for x, _ in points], list(wanted))
                    for x, sizes in points:
                        changed = {letter for letter in sizes if sizes[letter] != grid["base"][letter]}
                        self.assertLessEqual(changed, set(letters))
                        self.assertTrue(all(sizes[letter] == x for letter in letters))

    def test_tokens_vary_on_activations_only(self):
        method, grid = {"name": "a", "variables": "mnrt"}, plans.LEVELS["full"]["count"]
        self.assertIn("t", plans.sweeps_of(method, grid))
        self.assertNotIn("t", plans.sweeps_of(method, grid, on_weight=True))

    def test_one_token_is_one(self):
        grid = plans.LEVELS["full"]["time"]
        swept = plans.sweeps_of({"name": "a", "variables": "mnrt"}, grid, token=True)
        self.assertEqual(set(swept), {"m", "n", "mn", "r"})
        self.assertEqual({sizes["t"] for points in swept.values() for _, sizes in points}, {1})


if __name__ == "__main__":
    unittest.main()
