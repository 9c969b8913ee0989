# SPDX-License-Identifier: BSD-3-Clause
"""Fine-tunes all-MiniLM-L6-v2 on Debian's package descriptions by nine methods and compares them.

Each method tries the same learning rates, one training each, judged on the validation split.
With the best it is trained again by every seed and judged on the test split. The head, which all
methods train, has the rate that is best when it is trained alone, of rates of its own. Then come a step's time and
memory, the exported adapters served by PEFT without hoft, and trainings on a 4-bit base.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import data
import measure
import report
import serving
import torch
from labels import LABELS
from model import model_folder
from progress import Progress
from training import Schedule, Task, run

ROOT = Path(__file__).resolve().parents[2]
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
HEAD_RATES = (3e-3, 1e-2, 3e-2, 1e-1)
# Seconds of a training relative to LoRA's, for the time left until the first have shown theirs.
COSTS = {"head": 0.5, "full": 1.6, "boft": 3.0, "hra": 3.5}
OURS = ("hoft", "shoft")  # the methods that depend on hoft's code
ALSO_DEPEND_ON = ("processor", "torch", "peft", "transformers")  # beside the data: all accuracies


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run does. The defaults are the whole comparison."""

    methods: tuple[str, ...] = tuple(LABELS)
    schedule: Schedule = Schedule()
    rates: tuple[float, ...] = RATES
    head_rates: tuple[float, ...] = HEAD_RATES
    seeds: int = 5
    rounds: int = 15  # of the times of a step
    memory_steps: int = 3
    four_bit: tuple[str, ...] = ("lora", "hoft", "shoft")
    largest: int | None = None  # examples of a split that a model is judged on; None: all


QUICK = Settings(
    methods=("head", "full", "lora", "dora", "oft", "hoft", "shoft"),
    schedule=Schedule(steps=40),
    rates=(3e-4, 3e-3),
    head_rates=(1e-2, 3e-2),
    seeds=2,
    rounds=3,
    four_bit=("lora", "hoft"),
    largest=500,
)
SMOKE = Settings(
    methods=("head", "lora", "hoft", "shoft"),
    schedule=Schedule(steps=3, batch=4),
    rates=(3e-3,),
    head_rates=(3e-2,),
    seeds=1,
    rounds=1,
    memory_steps=1,
    four_bit=("hoft",),
    largest=24,
)

_data: dict = {}  # of a worker


def start_worker(tokens: Path, largest: int | None) -> None:
    """Makes a process ready for trainings on one thread, so that their bits do not depend on how
    many run at once."""
    torch.set_num_threads(1)
    splits = torch.load(tokens)
    for name in ("validation", "test"):
        splits[name] = part_of(splits[name], largest)
    _data.update(splits)


def part_of(split: tuple, largest: int | None) -> tuple:
    """`largest` examples of all sections, always the same."""
    if largest is None:
        return split
    order = torch.randperm(len(split[2]), generator=torch.Generator().manual_seed(0))
    return tuple(part[order[:largest]] for part in split)


def work(task: Task, schedule: Schedule, folder: Path | None) -> dict:
    start = time.perf_counter()
    result = run(task, _data, schedule, folder)
    return result | {"seconds": time.perf_counter() - start}


class Experiment:
    """The stages of a comparison, which add to `results`."""

    def __init__(self, settings: Settings, out: Path, jobs: int):
        self.settings, self.out, self.jobs = settings, out, jobs
        self.results: dict = {}
        self.trained = settings.methods  # by this run; the results may have others already
        self.tokens = out / "tokens.pt"

    def prepare(self) -> None:
        """Makes the data and says what it is."""
        examples = data.examples_of(data.read_lists())
        parts = data.splits_of(examples)
        data.write_tokens(parts, model_folder(), self.tokens)
        print(
            f"{len(examples)} descriptions of {len(data.SECTIONS)} sections: "
            + ", ".join(f"{len(part)} {name}" for name, part in parts.items()),
            flush=True,
        )
        self.results["data"] = {
            "fingerprint": data.fingerprint(examples),
            "sections": len(data.SECTIONS),
            **{name: len(part) for name, part in parts.items()},
        }
        self.results["settings"] = dataclasses.asdict(self.settings)

    def compile(self) -> None:
        """In a checkout the first use of an operator compiles all; here, so that no time and no
        two workers do."""
        if set(OURS) & set(self.settings.methods):
            import hoft_torch

            hoft_torch.householder_apply(torch.ones(1, 2), torch.ones(1, 2))

    def trainings(self, tasks: Sequence[Task], progress: Progress) -> Iterator[dict]:
        """Their results as they end; the longest begin first. Of the first seed on the test
        split, what was trained is kept."""
        ready = (start_worker, (self.tokens, self.settings.largest))
        with concurrent.futures.ProcessPoolExecutor(
            self.jobs, measure.processes(), *ready
        ) as pool:
            jobs = [
                pool.submit(work, task, self.settings.schedule, self.folder(task))
                for task in sorted(tasks, key=cost, reverse=True)
            ]
            for job in concurrent.futures.as_completed(jobs):
                result = job.result()
                progress.done(result["method"], result.pop("seconds"), describe(result))
                yield result

    def folder(self, task: Task) -> Path | None:
        if task.split != "test" or task.seed != 1:
            return None
        return self.out / "trained" / (task.method + ("_4_bit" if task.four_bit else ""))

    def choose(self, progress: Progress) -> None:
        """Tries the head's rates, then with the best of them the rates of every method."""
        settings = self.settings
        if "head" in self.trained:
            heads = [Task("head", rate, rate, 1, "validation") for rate in settings.head_rates]
            self.results["trials"] += self.trainings(heads, progress)
        head = self.rate("head")
        tasks = [
            Task(name, rate, head, 1, "validation")
            for name in self.trained
            for rate in settings.rates
            if name != "head"
        ]
        self.results["trials"] += self.trainings(tasks, progress)

    def rate(self, name: str) -> float:
        return report.best_rate(self.results["trials"], name)

    def judge(self, progress: Progress) -> None:
        """Trains each method with its rate by every seed; on a 4-bit base by the first seed."""
        head = self.rate("head")
        seeds = range(1, self.settings.seeds + 1)
        tasks = [
            Task(name, self.rate(name), head, seed, "test")
            for name in self.trained
            for seed in seeds
        ]
        tasks += [
            Task(name, self.rate(name), head, 1, "test", four_bit=True)
            for name in self.settings.four_bit
            if name in self.trained
        ]
        self.results["runs"] += self.trainings(tasks, progress)
        self.results["runs"].sort(
            key=lambda r: (r["four_bit"], list(LABELS).index(r["method"]), r["seed"]),
        )

    def measure(self) -> None:
        """Times and memory, which depend on the machine and on the commit."""
        self.results["measured"] = machine()
        self.memory()
        self.times()

    def times(self) -> None:
        self.results["times"] = {}
        for shape, size in measure.SHAPES.items():
            rounds = self.settings.rounds
            progress = Progress({"round": 1.0}, ["round"] * (rounds + 1))
            text = f"a step of {size[0]} texts of {size[1]} tokens, each method once"

            def done(progress=progress, text=text):
                progress.done("round", progress.since_last(), text)

            self.results["times"][shape] = measure.step_times(
                self.settings.methods, size, rounds, done
            )

    def memory(self) -> None:
        """The peak of each method, and of some on a 4-bit base."""
        wanted = [(name, False) for name in self.settings.methods]
        wanted += [(name, True) for name in self.settings.four_bit]
        progress = Progress({"process": 1.0}, ["process"] * len(wanted))
        self.results["memory"] = []
        for name, four_bit in wanted:
            conditions = name, four_bit, self.settings.memory_steps
            found = measure.alone(measure.peak_memory, *conditions)
            found["process"] = measure.alone(measure.process_peak, *conditions)
            self.results["memory"].append({"method": name, "four_bit": four_bit, **found})
            text = f"{LABELS[name]}{', 4-bit base' if four_bit else ''}"
            progress.done(
                "process",
                progress.since_last(),
                f"{text}: {found['peak'] / 2**20:.0f} MiB above the frozen model, the process "
                f"{found['process'] / 2**20:.0f} MiB",
            )

    def serve(self) -> None:
        """Exports the adapters of the first seed and reads them where hoft cannot be imported."""
        start_worker(self.tokens, self.settings.largest)
        self.results["served"] = []
        for name in self.settings.methods:
            if name not in serving.SERVED_AS:
                continue
            trained, exported = self.out / "trained" / name, self.out / "exported" / name
            serving.export(trained, exported)
            ours = serving.scores_of(trained, _data["test"])
            theirs = measure.alone(serving.scores_without_hoft, exported, _data["test"])
            found = serving.compare(name, ours, theirs, _data["test"])
            self.results["served"].append(found)
            print(
                f"{LABELS[name]} served by PEFT as {found['served_as']}: "
                f"{found['accuracy_served']:.1f} % (before: {found['accuracy']:.1f} %), scores "
                f"differ by {found['difference']:.1e}",
                flush=True,
            )


def cost(task: Task) -> float:
    return COSTS.get(task.method, 1.0)


def describe(result: dict) -> str:
    base = ", 4-bit base" if result["four_bit"] else ""
    start = f", started with {result['std']:g}" if result["std"] else ""
    return (
        f"{LABELS[result['method']]}{base}{start}, rate {result['rate']:.0e}, "
        f"seed {result['seed']}: {result['split']} {result['accuracy']:.1f} %"
    )


def trainings_of(settings: Settings, trained: Sequence[str]) -> list[str]:
    """The method of each training of a run."""
    trials = ["head"] * len(settings.head_rates) if "head" in trained else []
    trials += [name for name in trained if name != "head"] * len(settings.rates)
    four_bit = [name for name in settings.four_bit if name in trained]
    return trials + list(trained) * settings.seeds + four_bit


def machine() -> dict:
    """What the results depend on, as far as the system says."""
    from quietly import peft, transformers

    return {
        "processor": report.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "peft": peft.__version__,
        "transformers": transformers.__version__,
        "date": datetime.date.today().isoformat(),
        "commit": report.commit(ROOT),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        action="store_true",
        help="fewer steps, rates and seeds, without BOFT and HRA",
    )
    size.add_argument(
        "--smoke",
        action="store_true",
        help="all stages, each as short as it can be: under a minute; its numbers say nothing",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--hoft",
        action="store_true",
        help="instead: HOFT and SHOFT anew, into the results of --out; accuracies of others stay",
    )
    instead.add_argument(
        "--starts",
        action="store_true",
        help="instead: HOFT from reflectors of several lengths, each with all learning rates",
    )
    instead.add_argument(
        "--measure",
        action="store_true",
        help="instead: times and memory anew, into the results of --out",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count(),
        help="trainings at a time; accuracies do not depend on it (default: one a core)",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build/finetune_text", help="folder for the results"
    )
    parser.add_argument(
        "--save",
        action="store_true",
        help="writes the results, the plots and README.md's table into the repository",
    )
    parsed = parser.parse_args()
    if parsed.jobs < 1:
        parser.error(f"--jobs is {parsed.jobs}, must be at least 1")
    if parsed.save and (parsed.quick or parsed.smoke):
        parser.error("--save takes all sizes: without --quick and --smoke")
    return parsed


def compare(experiment: Experiment) -> None:
    """All stages, one after another."""
    settings = experiment.settings
    for part in ("trials", "runs"):
        experiment.results.setdefault(part, [])
    costs = {name: COSTS.get(name, 1.0) for name in settings.methods}
    trainings = trainings_of(settings, experiment.trained)
    progress = Progress(costs, trainings, experiment.jobs)
    experiment.choose(progress)
    experiment.judge(progress)
    experiment.serve()
    experiment.measure()


def compare_starts(experiment: Experiment, save: bool) -> None:
    """In place of all stages: HOFT from reflectors of several lengths."""
    import starts

    results = experiment.results
    results["starts"] = starts.compare(experiment)
    report.write(experiment.out / "starts.json", results)
    print("\n" + report.starts_page(results))
    if save:
        report.write(ROOT / report.RESULTS / "finetune_starts.json", results)
        report.fill_readme(report.STARTS_COMMAND, report.starts_page(results))


def main() -> None:
    options = arguments()
    settings = SMOKE if options.smoke else QUICK if options.quick else Settings()
    options.out.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(settings, options.out, options.jobs)
    path = options.out / "results.json"
    if options.measure:
        experiment.results = results_of(settings, path, "--measure")
        experiment.compile()
        experiment.measure()
    else:
        before = results_of(settings, path, "--hoft") if options.hoft else None
        start = time.perf_counter()
        try:
            experiment.prepare()
        except data.DataError as error:
            sys.exit(f"finetune_text: {error}")
        experiment.results["machine"] = machine()
        if before:
            keep_others(experiment, before)
        experiment.compile()
        if options.starts:
            compare_starts(experiment, options.save)
            return
        compare(experiment)
        experiment.results["minutes"] = (time.perf_counter() - start) / 60
    path.write_text(json.dumps(experiment.results, indent=1) + "\n", encoding="utf-8")
    print("\n" + report.page(experiment.results))
    print(f"Results: {path}")
    if options.save:
        report.save(experiment.results, ROOT)


def results_of(settings: Settings, path: Path, option: str) -> dict:
    """What a file has of an earlier run, which has to be of the same settings."""
    if not path.exists():
        sys.exit(f"finetune_text: {option} needs the results of a run, {path} does not exist")
    results = json.loads(path.read_text(encoding="utf-8"))
    if results["settings"] != json.loads(json.dumps(dataclasses.asdict(settings))):
        sys.exit(
            f"finetune_text: {option}: {path} is of a run with other options (--quick, --smoke)"
        )
    return results


def keep_others(experiment: Experiment, before: dict) -> None:
    """The accuracies of methods that need nothing of hoft stay as an earlier run found them, which
    has to be on the same data and with the same packages."""
    others = before.get("others", before["machine"])
    for what, earlier, now in (
        ("data", before["data"], experiment.results["data"]),
        *((what, others[what], experiment.results["machine"][what]) for what in ALSO_DEPEND_ON),
    ):
        if earlier != now:
            sys.exit(f"finetune_text: --hoft: {what} of the earlier run is {earlier}, now {now}")
    experiment.trained = tuple(name for name in experiment.settings.methods if name in OURS)
    for part in ("trials", "runs"):
        experiment.results[part] = [r for r in before[part] if r["method"] not in OURS]
    experiment.results["others"] = others


if __name__ == "__main__":
    main()
