# SPDX-License-Identifier: BSD-3-Clause
"""How the plots of the examples look: the settings of matplotlib, and a style for each method."""

import sys

try:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
except ImportError:
    sys.exit("plot_style.py: matplotlib is missing for this Python: apt-get install python3-matplotlib, "
             "and use /usr/bin/python3")

# Okabe and Ito's colours, which colour-blind readers can tell apart, with a brown and a grey; each method has its own
# dashes too.
COLOURS = {"frozen": "#000000", "head": "#000000", "full": "#009E73", "lora": "#E69F00", "dora": "#A6761D",
           "oft": "#CC79A7", "boft": "#56B4E9", "hra": "#999999", "hoft": "#0072B2", "shoft": "#D55E00"}
DASHES = {"frozen": (0, (1, 2)), "head": (0, (1, 2)), "full": "-", "lora": (0, (5, 2)), "dora": (0, (3, 1, 1, 1)),
          "oft": (0, (4, 1)), "boft": (0, (2, 1)), "hra": (0, (7, 2)), "hoft": "-", "shoft": (0, (6, 2, 1, 2))}

plt.rcParams.update({"figure.dpi": 150, "font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "grid.linewidth": 0.5,
                     "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
                     "axes.titlesize": 10, "lines.linewidth": 1.6})


def style(method):
    return {"color": COLOURS[method], "linestyle": DASHES[method]}
