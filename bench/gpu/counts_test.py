#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What counts.py makes of the emulator's reports."""

import unittest

import counts


SPACE = "hoft::v0_1::sse2::cuda::sm_900::"


def launch(columns):
    """of a kernel with 100 instructions once, and 7 for each column"""
    copies = {"bytes": 512 * columns, "sectors": 16 * columns, "wavefronts": 5, "conflicts": 1}
    classes = {
        "integer": {"issued": 90 + 3 * columns},
        "copy_async": {"issued": 10 + columns, **copies},
        "matrix": {"issued": 2 * columns},
        "barrier": {"issued": columns},
    }
    return {
        "kernel": f"void {SPACE}detail::run_cluster<{SPACE}apply_kernel<float> >({SPACE}apply_kernel<float>, long)",
        **{"grid": 4, "threads": 256, "cluster": 2, "shared": 1000},
        "all": {"issued": 100 + 7 * columns},
        "classes": classes,
    }


def case(columns):
    return {"case": "apply", "size": columns, "full": 64, "bytes": 1024, "elements": 64 * 4096}


class Counts(unittest.TestCase):
    def test_counted(self):
        sums = counts.counted(launch(8))
        # of SUMS: instructions, sectors, requests, bytes asked for, passes, conflicts, mma, ldmatrix, barriers
        self.assertEqual([sums[name] for name in counts.SUMS], [156, 128, 18, 4096, 5, 1, 16, 0, 8])

    def test_full_size(self):
        kernel = counts.kernels_of((case(8), [launch(8)]), (case(16), [launch(16)]))
        (one,) = kernel["launches"]
        self.assertEqual(one["kernel"], "apply_kernel<float>")
        self.assertEqual(one["instructions"], 100 + 7 * 64)
        self.assertEqual(one["classes"], {"barrier": 64, "copy_async": 74, "integer": 90 + 3 * 64, "matrix": 128})
        self.assertEqual((one["sectors"], one["passes"], kernel["tiles"]), (16 * 64, 5, 1024))

    def test_whole(self):
        both = (case(64), [launch(64)])
        self.assertEqual(counts.kernels_of(both, both)["launches"][0]["instructions"], 100 + 7 * 64)

    def test_not_the_same_for_each(self):
        with self.assertRaises(SystemExit):
            counts.at_full_size({"instructions": 10}, {"instructions": 11}, (8, 16), 20)

    def test_other_launches(self):
        with self.assertRaises(SystemExit):
            counts.kernels_of((case(8), [launch(8)]), (case(16), [launch(16), launch(16)]))

    def test_repeated(self):
        runs = [{"apply": (case(8), [launch(8)])}, {"apply": (case(8), [launch(9)])}]
        counts.compare_runs(runs[0], runs[0], 8)
        with self.assertRaises(SystemExit):
            counts.compare_runs(*runs, 8)

    def test_label(self):
        name = f"void {SPACE}detail::run<{SPACE}elements<{SPACE}backend::fill_element<float> > >(long)"
        self.assertEqual(counts.label(name), "elements<fill_element>")

    def test_prediction(self):
        a_second = {"instructions": 132 * 4 * 1.75e9}
        self.assertEqual(counts.prediction({"bytes": 4.3e12, "launches": [a_second, a_second]}), (2, 1))


if __name__ == "__main__":
    unittest.main()
