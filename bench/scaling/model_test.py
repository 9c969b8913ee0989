#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What model.py says of weights that are small enough to count by hand."""

import math
import pathlib
import sys
import unittest
from unittest import mock

sys.path.append(str(pathlib.Path(__file__).resolve().parent))

import model

# One layer of hidden 2, feed-forward 3, one key feature; one token, rank 1. By rows q [2, 2], k and v [1, 2], gate and
# up [3, 2]; by columns o [2, 2] and down [2, 3].
TINY = {"MODELS": {"tiny": (2, 3, 1, 1)}, "TOKENS": 1, "RANK": 1}
FREE = {"FLOPS": math.inf, "LATENCY": 0, "PART": 0, "BANDWIDTH": math.inf}


def seconds(method, ranks, **given):
    """Of a step, and of these in messages, where nothing but what is given takes any."""
    with mock.patch.multiple(model, **{**TINY, **FREE, **given}):
        return model.step("tiny", method, ranks)


class Sums(unittest.TestCase):
    def test_two_ranks(self):
        with mock.patch.multiple(model, LATENCY=1, PART=0.25, BANDWIDTH=2):
            self.assertEqual(model.carried(8, 2), 4)  # half to the other, and half a sum
            self.assertEqual(model.framework_sum(8, 2), 2 + 4)
            self.assertEqual(model.ordered_sum(8, 2), 2 + 2 * 0.25 + 4)

    def test_steps_of_many_ranks(self):
        with mock.patch.multiple(model, **{**FREE, "LATENCY": 1, "PART": 0.25}):
            self.assertEqual([model.framework_sum(8, ranks) for ranks in (1, 5, 8, 9)], [0, 6, 6, 8])
            self.assertEqual([model.ordered_sum(8, ranks) for ranks in (5, 9)], [2 + 2, 2 + 4])

    def test_bytes_a_token(self):
        with mock.patch.multiple(model, BYTES=2, SUM_BYTES=4, RANK=5):
            by_rows = [model.sums_a_token("rows", 300, 100, method) for method in model.METHODS]
            by_columns = [model.sums_a_token("columns", 300, 100, method) for method in model.METHODS]
        self.assertEqual(by_rows, [200, 200 + 10, 200 + 60])
        self.assertEqual(by_columns, [600, 600 + 10, 600 + 20])


class Models(unittest.TestCase):
    def test_weights_are_those_of_the_models(self):
        for name, numbers in (("LLaMA-3.1-70B", 70_553_706_496), ("LLaMA-3.1-405B", 405_853_388_800)):
            d, _, _, layers = model.MODELS[name]
            in_layers = layers * sum(m * n for _, m, n in model.linears(model.MODELS[name]))
            words, norms = 2 * 128_256 * d, (2 * layers + 1) * d
            self.assertEqual(in_layers + words + norms, numbers)


class Hidden(unittest.TestCase):
    def test_the_shorter_of_projection_and_message(self):
        # Rows of q, k, v, gate and up: 2 + 1 + 1 + 3 + 3, three products of 2 m each.
        with mock.patch.multiple(model, **{**TINY, **FREE, "FLOPS": 1, "LATENCY": 100}):
            self.assertEqual(model.hidden_at_most("tiny", 1), 3 * 2 * 10)
            self.assertEqual(model.hidden_at_most("tiny", 2), 3 * 10)
        with mock.patch.multiple(model, **{**TINY, **FREE, "FLOPS": 1, "LATENCY": 0.25}):
            self.assertEqual(model.hidden_at_most("tiny", 1), 3 * 5 * 0.5)


class Step(unittest.TestCase):
    def test_flops(self):
        # Of m n: 4 + 2 + 2 + 6 + 6 by rows, 4 + 6 by columns. Of m: 10 and 4. Of n: 10 and 5.
        self.assertEqual(seconds("frozen", 1, FLOPS=1), (4 * 30, 0))
        self.assertEqual(seconds("lora", 1, FLOPS=1), (4 * 30 + 6 * (14 + 15), 0))
        self.assertEqual(seconds("hoft", 1, FLOPS=1), (4 * 30 + 18 * 14 + 6 * 15, 0))
        self.assertEqual(seconds("hoft", 2, FLOPS=1), (4 * 15 + 18 * (5 + 4) + 6 * (10 + 2.5), 0))

    def test_messages(self):
        # The framework's are 4, of two steps each; hoft's 3 for each of 5 weights by rows and 1 for each of 2 by columns.
        for method, expected in (("frozen", 8), ("lora", 8), ("hoft", 8 + 2 * 17)):
            self.assertEqual(seconds(method, 2, LATENCY=1), (expected, expected))
        self.assertEqual(seconds("hoft", 4, PART=1), (17 * 2 * 3,) * 2)

    def test_bytes(self):
        for method, expected in (("frozen", 4 * 2 * 2), ("lora", 16 + 7 * 2), ("hoft", 16 + 17 * 4)):
            self.assertEqual(seconds(method, 2, BANDWIDTH=1), (expected, expected))

    def test_layers(self):
        self.assertEqual(seconds("frozen", 1, FLOPS=1, MODELS={"tiny": (2, 3, 1, 7)}), (7 * 4 * 30, 0))


class Page(unittest.TestCase):
    def test_rows_of_tables_have_their_columns(self):
        for text in (model.bytes_of_messages(), model.modelled()):
            self.assertEqual(len({line.count("|") for line in text.splitlines()}), 1)


if __name__ == "__main__":
    unittest.main()
