# SPDX-License-Identifier: BSD-3-Clause
"""Compares the losses of 1, 2 and 4 ranks and draws them: compare.py FOLDER reads FOLDER/losses_*.csv."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from plot_names import BLUE, GREEN, ORANGE
from plot_style import plt, save

STYLES = {1: (BLUE, "-"), 2: (ORANGE, "--"), 4: (GREEN, ":")}
# Ranks round differently: by some ε in a step, 1.2e-7 in float, which hundreds of steps of Adam multiply.
MOST_DIFFERENCE = 5e-3
LEAST_GAIN = 20


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    losses = {ranks: [float(line) for line in (folder / f"losses_{ranks}.csv").read_text().split()]
              for ranks in (1, 2, 4)}
    alone = losses[1]
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
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
        colour, dashes = STYLES[ranks]
        axis.semilogy(of_ranks, color=colour, linestyle=dashes, label="1 rank" if ranks == 1 else f"{ranks} ranks")
    axis.set_title("Training with weights split over ranks")
    axis.set_xlabel("step of Adam")
    axis.set_ylabel("loss")
    axis.legend()
    save(figure, folder / "losses.png")
    print(f"wrote {folder / 'losses.png'}")
    print(f"passed: all losses fall by a factor of {LEAST_GAIN} or more, along one curve")


main()
