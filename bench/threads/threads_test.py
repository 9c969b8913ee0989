#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What threads.py says of walks that are small enough to follow by hand."""

import pathlib
import sys
import unittest

sys.path.append(str(pathlib.Path(__file__).resolve().parent))

import threads

# One thread: 1 s of panels, 8 s of chunks with sums of [4, 2], 1 s of its own.
CALL = {"call": "two", "m": 4, "n": 8, "r": 2, "t": 0, "ms": 10e3, "flops": 80, "bytes": 40,
        "parts": [{"tasks": 2, "ms": 1e3}, {"tasks": 4, "ms": 8e3}, {"tasks": 9, "ms": 1}]}  # fmt: skip
NAMED = (("panels", None), ("chunks", ("m", 1)))
FAST = 1e15  # bytes a second, so that merges take nothing


class Walks(unittest.TestCase):
    def test_tasks_in_order(self):
        self.assertEqual(threads.in_order(5, 2, 1.0), 3)
        self.assertEqual(threads.in_order(5, 64, 1.0), 1)

    def test_merges_one_after_another(self):
        # Three threads end together at 1 and merge until 2, 3 and 4; the fourth chunk is done at 3 and waits until 4.
        self.assertEqual(threads.in_order(3, 3, 1.0, 1.0), 4)
        self.assertEqual(threads.in_order(4, 3, 1.0, 1.0), 5)
        self.assertEqual(threads.in_order(4, 1, 1.0, 1.0), 8)

    def test_merges_are_the_limit_beyond_their_number_of_threads(self):
        # A chunk of 3 and a merge of 1: four threads are busy, and more do not help.
        self.assertEqual(threads.in_order(100, 4, 3.0, 1.0), threads.in_order(100, 64, 3.0, 1.0))
        self.assertLess(threads.in_order(100, 4, 3.0, 1.0), threads.in_order(100, 3, 3.0, 1.0))

    def test_runs(self):
        self.assertEqual(list(threads.runs(10, 2)), [2, 2, 1, 1, 1, 1, 1, 1])
        self.assertEqual(list(threads.runs(10, 1)), [10])
        self.assertEqual(threads.in_runs(10, 2, 1.0), 5)
        self.assertEqual(threads.in_runs(10, 64, 1.0), 1)


class Calls(unittest.TestCase):
    def setUp(self):
        threads.PARTS["two"] = NAMED
        self.addCleanup(threads.PARTS.pop, "two")

    def test_parts_and_what_is_in_none(self):
        self.assertAlmostEqual(threads.seconds(CALL, 1, FAST), 10)
        self.assertAlmostEqual(threads.seconds(CALL, 2, FAST), 1 + 0.5 + 4)
        self.assertAlmostEqual(threads.seconds(CALL, 64, FAST), 1 + 0.5 + 2)

    def test_merges(self):
        # 3 × 4 × 2 numbers of 4 bytes, 192 bytes a second: half of a second of the two that a chunk takes.
        self.assertEqual(threads.merge_seconds(CALL, ("m", 1), 192), 0.5)
        self.assertEqual(threads.busy_by_merges(CALL, ("m", 1), 4, 8.0, 192), 4)
        self.assertAlmostEqual(threads.seconds(CALL, 64, 192), 1 + 0.5 + 1.5 + 4 * 0.5)

    def test_large_parts_without_a_name_are_refused(self):
        threads.PARTS["two"] = NAMED[:1]
        with self.assertRaisesRegex(SystemExit, "the parts of `two`, 4 × 8, r = 2 are not what PARTS says"):
            threads.large_parts(CALL)


if __name__ == "__main__":
    unittest.main()
