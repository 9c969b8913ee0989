# SPDX-License-Identifier: BSD-3-Clause
"""Compares the losses of 1, 2 and 4 ranks and draws them: compare.py FOLDER reads FOLDER/losses_*.csv."""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Ranks round differently: by some ε in a step, 1.2e-7 in float, which hundreds of steps of Adam multiply.
MOST_DIFFERENCE = 5e-3
LEAST_GAIN = 20


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    losses = {ranks: [float(line) for line in (folder / f"losses_{ranks}.csv").read_text().split()]
              for ranks in (1, 2, 4)}
    alone = losses[1]
    for ranks, of_ranks in losses.items():
        worst = max(abs(a - b) for a, b in zip(of_ranks, alone, strict=True)) / alone[0]
        curve = f"the loss falls from {of_ranks[0]:.4f} to {of_ranks[-1]:.6f}"
        print(f"1 rank:  {curve}" if ranks == 1 else
              f"{ranks} ranks: {curve}; away from one rank's curve by {worst:.1e} of its first loss at most, where "
              f"{MOST_DIFFERENCE:.0e} is allowed (Adam multiplies rounding)")
        if not worst <= MOST_DIFFERENCE:
            sys.exit(f"{ranks} ranks leave the curve of one rank")
        if not of_ranks[-1] * LEAST_GAIN <= of_ranks[0]:
            sys.exit(f"{ranks} ranks miss the target")
        plt.semilogy(of_ranks, label=f"{ranks} ranks", linestyle={1: "-", 2: "--", 4: ":"}[ranks])
    plt.xlabel("step")
    plt.ylabel("loss")
    plt.legend()
    plt.savefig(folder / "losses.png", dpi=150)
    print(f"wrote {folder / 'losses.png'}")
    print(f"passed: all losses fall by a factor of {LEAST_GAIN} or more, along one curve")


main()
