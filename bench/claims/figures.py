# SPDX-License-Identifier: BSD-3-Clause
"""One figure a claim: measurements, the claim with the constants that suit it best, in log-log coordinates; and maps."""

import concurrent.futures
import io
import os
import sys

try:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
    from PIL import Image
except ImportError:
    sys.exit("figures.py: matplotlib is missing for this Python: apt-get install python3-matplotlib, and use /usr/bin/python3")

from figures_names import slug

# Okabe and Ito's.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
VERDICT = {"holds": GREEN, "does not hold": RED, "cannot tell": ORANGE}
UNITS = {"flops": "flops", "memory": "numbers", "time": "ns", "parameters": "parameters"}
PASSES = ("merge", "merge_backward", "forward", "backward")

plt.rcParams.update({
    "figure.dpi": 80, "font.size": 7.5, "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.3,
    "grid.linewidth": 0.5, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "axes.titlesize": 8,
})


def save(figure, path):
    """In a palette: lines and letters need few colours, and the file a third of the bytes."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png")
    plt.close(figure)
    memory.seek(0)
    Image.open(memory).convert("RGB").quantize(48, dither=Image.Dither.NONE).save(path, optimize=True)


def plain_x(axis, values):
    axis.xaxis.set_major_locator(FixedLocator(values))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


def letters(text):
    return "m = n" if text == "mn" else text


def panel(axis, row, colour, label):
    axis.loglog(row["x"], row["y"], "o", color=colour, markersize=3.5, label=label)
    if all(row["fit"]):
        axis.loglog(row["x"], row["fit"], "-", color=colour, linewidth=1, alpha=0.8)
    plain_x(axis, row["x"])


def claim_figure(title, claims, path):
    claims = [claim for claim in claims if claim["rows"]]
    rows, cols = len(claims), max(len(claim["rows"]) for claim in claims)
    figure, axes = plt.subplots(rows, cols, figsize=(1.9 * cols + 0.4, 1.75 * rows + 0.35), layout="constrained",
                                squeeze=False)
    figure.suptitle(title, fontsize=9)
    for claim, line in zip(claims, axes):
        for axis in line[len(claim["rows"]):]:
            axis.set_axis_off()
        for axis, row in zip(line, claim["rows"]):
            panel(axis, row, VERDICT[row["verdict"]], "")
            axis.set_title(f"{letters(row['variable'])}: claimed {row['claimed']:.2f}\nmeasured {row['measured']:.2f} "
                           f"[{row['low']:.2f}, {row['high']:.2f}]")
        line[0].set_ylabel(f"{claim['quantity']}, {UNITS[claim['quantity']]}" if claim["quantity"] == "time"
                           else UNITS[claim["quantity"]])
    save(figure, path)


def declared_figure(method, claims, path):
    quantities = [quantity for quantity in UNITS if any(claim["quantity"] == quantity != "parameters" for claim in claims)]
    swept = sorted({row["variable"] for claim in claims for row in claim["rows"]},
                   key=["m", "n", "mn", "r", "b", "k", "t"].index)
    figure, axes = plt.subplots(len(quantities), len(swept), layout="constrained", squeeze=False,
                                figsize=(1.9 * len(swept) + 0.4, 0.5 + 1.5 * len(quantities)))
    figure.suptitle(f"{method}: points measured, lines declared", fontsize=9)
    for quantity, line in zip(quantities, axes):
        line[0].set_ylabel(f"{quantity}, {UNITS[quantity]}" if quantity != UNITS[quantity] else quantity)
        for axis, variable in zip(line, swept):
            axis.set_title(letters(variable))
            for claim in claims:
                if claim["quantity"] != quantity:
                    continue
                for row in claim["rows"]:
                    if row["variable"] == variable:
                        panel(axis, row, COLOURS[PASSES.index(claim["pass"])], claim["pass"].replace("_", " "))
    # All passes are timed over m; the last panel, which the legend stands beside, may be over t.
    axes[-1][-1].legend(*axes[-1][0].get_legend_handles_labels(), bbox_to_anchor=(1.02, 1), loc="upper left")
    save(figure, path)


def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def grouped(rows, names, value):
    """Medians over what is not named."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row[value])
    return {key: median(values) for key, values in found.items()}


def kind(terms):
    return "exact inverse" if terms == 0 else f"{terms} terms"


def lines_over_r(axis, points, least):
    """points: dict from (m, r) to a value; below `least` it is shown there."""
    for i, m in enumerate(sorted({m for m, _ in points})):
        line = sorted((r, max(value, least)) for (mm, r), value in points.items() if mm == m)
        axis.loglog(*zip(*line), "o-", color=COLOURS[i], markersize=3, linewidth=1, label=f"{m:g}")
    plain_x(axis, sorted({r for _, r in points}))


def orthogonality_map(rows, path):
    medians = grouped(rows, ("vectors", "terms", "m", "r"), "error")
    figure, axes = plt.subplots(2, 4, figsize=(9.5, 4.6), layout="constrained", sharey=True)
    figure.suptitle("‖I − QQᵀ‖_F/√m over r, one line for each m", fontsize=9)
    for vectors, line in zip(("random", "paired"), axes):
        for terms, axis in zip((2, 3, 4, 0), line):
            points = {(m, r): value for (v, t, m, r), value in medians.items() if (v, t) == (vectors, terms)}
            lines_over_r(axis, points, 1e-18)
            axis.set_title(f"{kind(terms)}, {vectors} vectors")
    axes[0][0].legend(title="m", loc="lower right")
    save(figure, path)


def sides_map(rows, value, title, path):
    rows = [{**row, "size": max(row["m"], row["n"]),
             "shown": abs(row["change"]) / row["energy"] if value == "change" else row["drift"]} for row in rows]
    medians = grouped(rows, ("columns", "side", "terms", "size", "r"), "shown")
    figure, axes = plt.subplots(4, 3, figsize=(8, 7.4), layout="constrained", sharey=True)
    figure.suptitle(title, fontsize=9)
    cases = [(columns, terms) for columns in ("gaussian", "correlated") for terms in (0, 2)]
    for (columns, terms), line in zip(cases, axes):
        for side, axis in zip(("left", "right", "both"), line):
            points = {(m, r): v for (c, s, t, m, r), v in medians.items() if (c, s, t) == (columns, side, terms)}
            if points:
                lines_over_r(axis, points, 1e-18)
            axis.set_title(f"{columns} columns, {side}, {kind(terms)}")
    axes[0][0].legend(title="longer side", loc="upper left")
    save(figure, path)


def coverage_map(runs, path):
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.2), layout="constrained", sharey=True)
    figure.suptitle("Residual after descent over trained parameters (the lower end: 0.001)", fontsize=9)
    names = list(dict.fromkeys(run["method"] for run in runs))
    for target, axis in zip(("rotation", "reflection", "two_sided"), axes):
        medians = grouped([run for run in runs if run["target"] == target], ("method", "parameters"), "residual")
        for i, name in enumerate(names):
            line = sorted((p, max(value, 1e-3)) for (method, p), value in medians.items() if method == name)
            axis.loglog(*zip(*line), "os^"[i // 6] + "-", color=COLOURS[i % 6], markersize=3.5, linewidth=0.8, label=name)
        axis.set_title({"rotation": "Q M, det Q = 1", "reflection": "Q M, det Q = −1", "two_sided": "Q M P"}[target])
        axis.set_xlabel("parameters")
        one_sided = grouped([run for run in runs if run["target"] == target], (), "one_sided")[()]
        if one_sided > 1e-3:
            axis.axhline(one_sided, color="black", linewidth=0.8, linestyle=":")
    axes[0].set_ylabel("residual")
    axes[-1].legend(bbox_to_anchor=(1.02, 1), loc="upper left")
    save(figure, path)


def coverage_cell(cell, runs, path):
    figure, axis = plt.subplots(figsize=(3.6, 2.6), layout="constrained")
    for i, target in enumerate(("rotation", "reflection", "two_sided")):
        chosen = grouped([run for run in runs if run["target"] == target], ("parameters",), "residual")
        axis.loglog(*zip(*sorted((p, max(v, 1e-3)) for (p,), v in chosen.items())), "o", color=COLOURS[i], markersize=4,
                    label=target.replace("_", "-"))
    axis.axvline(cell["parameters"], color="black", linewidth=0.8, linestyle=":")
    axis.set_title(f"{cell['row']}: {cell['printed']} (dotted): {cell['verdict']}")
    axis.set_xlabel("parameters")
    axis.set_ylabel("residual")
    axis.legend()
    save(figure, path)


def models_figure(rows, path):
    names = list(dict.fromkeys(row["model"] for row in rows))
    # Memory is a formula where flops are counted, and measured at the reduced scale elsewhere.
    memory = (("memory", "extra numbers of a step") if all(row["reduced_flops"] for row in rows)
              else ("reduced_memory", "extra numbers of a step at the reduced scale"))
    quantities = (("parameters", "trained parameters"), ("flops", "flops of a step"), memory)
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 3), layout="constrained", sharey=True)
    for (quantity, title), axis in zip(quantities, axes):
        for i, model in enumerate(names):
            mine = [row for row in rows if row["model"] == model]
            axis.barh([j + 0.4 * i for j in range(len(mine))], [max(row[quantity], 1) for row in mine], height=0.38,
                      color=COLOURS[i], label=model)
        axis.set_yticks(range(len(mine)), [row["method"] for row in mine])
        axis.set_xscale("log")
        axis.set_title(title)
        axis.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    axes[0].legend(loc="lower right")
    save(figure, path)


def figures_of(results, folder):
    """(function, arguments...) of each figure."""
    for cell in results["table1"]:
        path = folder / f"table1_{slug(cell['row'])}_{slug(cell['cell'])}.png"
        if cell["cell"] == "coverage":
            method = next(row["method"] for row in results["table1_rows"] if row["name"] == cell["row"])
            yield coverage_cell, cell, [run for run in results["coverage"] if run["method"] == method], path
        else:
            title = f"Table 1, {cell['row']}, {cell['cell']}, {cell['printed']}: {cell['verdict']}"
            yield claim_figure, title, cell["claims"], path
    for method in results["methods"]:
        claims = [claim for claim in results["declared"] if claim["method"] == method["name"]]
        yield declared_figure, method["name"], claims, folder / f"declared_{method['name']}.png"
    if results["coverage"]:
        yield orthogonality_map, results["orthogonality"], folder / "orthogonality.png"
        yield (sides_map, results["sides"], "change", "Change of the hyperspherical energy, relative",
               folder / "energy.png")
        yield (sides_map, results["sides"], "drift", "Largest change of a singular value, relative to the largest one",
               folder / "singular_values.png")
        yield coverage_map, results["coverage"], folder / "coverage.png"
    yield models_figure, results["models"], folder / "models.png"


def draw(results, folder):
    """On all cores: each figure lays itself out, which takes a second."""
    with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for drawn in [pool.submit(*figure) for figure in figures_of(results, folder)]:
            drawn.result()
