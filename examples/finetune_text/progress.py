# SPDX-License-Identifier: BSD-3-Clause
"""How far a list of jobs is, and how long the rest will take."""

import time
from collections.abc import Mapping, Sequence


class Progress:
    """Prints a line for each job that ends, with the time left.

    The time left is that of the jobs to come, each as long as those of its kind were so far. A
    kind of which none has ended is estimated by the others, from `costs`, its seconds relative to
    theirs.
    """

    def __init__(self, costs: Mapping[str, float], jobs: Sequence[str], at_a_time: int = 1):
        self._costs, self._at_a_time = dict(costs), at_a_time
        self._left = {kind: list(jobs).count(kind) for kind in costs}
        self._all = len(jobs)
        self._seconds: dict[str, list[float]] = {}
        self._last = time.perf_counter()

    def since_last(self) -> float:
        """Seconds since the last job ended, for jobs that run one after another."""
        return time.perf_counter() - self._last

    def done(self, kind: str, seconds: float, text: str) -> None:
        """A job of this kind has ended."""
        self._last = time.perf_counter()
        self._left[kind] -= 1
        self._seconds.setdefault(kind, []).append(seconds)
        ended = self._all - sum(self._left.values())
        print(f"[{ended}/{self._all}] {text}; {words(self.seconds_left())} left", flush=True)

    def seconds_left(self) -> float:
        """An estimate."""
        relative = [
            second / self._costs[kind] for kind, all_ in self._seconds.items() for second in all_
        ]
        unit = sum(relative) / len(relative)
        total = 0.0
        for kind, left in self._left.items():
            known = self._seconds.get(kind)
            each = sum(known) / len(known) if known else unit * self._costs[kind]
            total += left * each
        return total / self._at_a_time


def words(seconds: float) -> str:
    """The time in the unit that people would say it in."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
