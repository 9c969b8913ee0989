# SPDX-License-Identifier: BSD-3-Clause
"""How all plots look: the settings of matplotlib, and what several plots do alike."""

import io
import sys

try:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
    from PIL import Image
except ImportError:
    sys.exit("plot_style.py: matplotlib is missing for this Python: apt-get install python3-matplotlib, "
             "and use /usr/bin/python3")

from plot_names import is_ours, method_colour

DASHES = {"frozen": (0, (1, 2)), "head": (0, (1, 2)), "full": "-", "lora": (0, (5, 2)), "dora": (0, (3, 1, 1, 1)),
          "oft": (0, (4, 1)), "boft": (0, (2, 1)), "hra": (0, (7, 2)), "hoft": "-", "shoft": (0, (6, 2, 1, 2))}

# A figure is at most 8 inches wide, 1200 pixels: at half of that, letters of 9 points are still 9 pixels high.
WIDTH = 8
plt.rcParams.update({"figure.dpi": 150, "font.size": 9, "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.3,
                     "grid.linewidth": 0.5, "axes.spines.top": False, "axes.spines.right": False,
                     "legend.frameon": False, "axes.titlesize": 10, "figure.titlesize": 11, "lines.linewidth": 1.6})


def save(figure, path):
    """In a palette: lines and letters need few colours, and the file a third of the bytes."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png")
    plt.close(figure)
    memory.seek(0)
    Image.open(memory).convert("RGB").quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)


def style(method):
    """Colour and dashes of a line: ours are the thickest."""
    name = method if method in DASHES else method.split("_")[0]
    return {"color": method_colour(method), "linestyle": DASHES.get(name, "-"),
            "linewidth": 2.2 if is_ours(method) else 1.4}


def bold_ours(axis, ours):
    for tick, mine in zip(axis.get_yticklabels(), ours):
        if mine:
            tick.set_fontweight("bold")


def bars(axis, labels, values, colours, texts, ours=()):
    """Horizontal bars, the last on top, a text at the end of each; the names of ours are bold."""
    drawn = axis.barh(range(len(values)), values, color=colours, height=0.72)
    axis.set_yticks(range(len(values)), labels)
    bold_ours(axis, ours)
    axis.bar_label(drawn, texts, padding=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axis.grid(axis="y", visible=False)


def plain(value, _=None):
    """1000 as it is, larger and very small numbers by their power of ten."""
    if value == 0 or 1e-4 < abs(value) < 1e4:
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"$10^{{{int(exponent)}}}$" if mantissa == "1" else f"${mantissa}\\cdot10^{{{int(exponent)}}}$"


def plain_ticks(axis, subs=(1, 2, 5)):
    """1, 2, 5, 10, …: for ranges too short for powers of ten alone."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())


def value_ticks(axis, least, most):
    """At least two numbers on a logarithmic axis, and not many."""
    plain_ticks(axis, (1,) if most > 30 * least else (1, 2, 5))


def ticks_at(axis, values):
    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(NullLocator())


def legend_below(figure, axis, columns, title=None, lines=1):
    """One legend for all panels, that of `axis`, under them; `lines` are those that it takes."""
    height = 0.26 * (lines + (title is not None)) / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, height, 1, 1 - height))
    figure.legend(*axis.get_legend_handles_labels(), loc="lower center", ncols=columns, title=title)
