# SPDX-License-Identifier: BSD-3-Clause
"""One figure a claim: measurements, the claim with the constants that suit it best, in log-log coordinates; and maps."""

import concurrent.futures
import os
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

from figures_names import slug
from formulas import printed
from plot_names import BLUE, GREEN, ORANGE, PINK, SKY, VERMILLION, is_ours, method_colour, method_label
from plot_style import WIDTH, bold_ours, legend_below, plain_ticks, plt, save, ticks_at, value_ticks

COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PINK, SKY)
VERDICT = {"holds": GREEN, "does not hold": VERMILLION, "cannot tell": ORANGE}
UNITS = {"flops": "flops", "memory": "numbers", "time": "time, ns", "parameters": "parameters"}
PASSES = ("merge", "merge_backward", "forward", "backward")
MARKERS = "osd^vP*X"


def sweep_ticks(axis, values):
    """Every second of many sizes, so that the numbers do not touch."""
    ticks_at(axis.xaxis, sorted(values)[:: 2 if len(values) > 3 else 1])


def letters(text):
    return "m = n" if text == "mn" else text


def panel(axis, row, colour, label):
    axis.loglog(row["x"], row["y"], "o", color=colour, markersize=4.5, label=label)
    if all(row["fit"]):
        axis.loglog(row["x"], row["fit"], "-", color=colour, linewidth=1.2, alpha=0.8)
    sweep_ticks(axis, row["x"])
    axis.set_xlabel(letters(row["variable"]))
    value_ticks(axis.yaxis, *axis.get_ylim())


def claim_figure(title, claims, path):
    claims = [claim for claim in claims if claim["rows"]]
    rows, cols = len(claims), max(len(claim["rows"]) for claim in claims)
    figure, axes = plt.subplots(rows, cols, figsize=(max(1.6 * cols + 0.4, 4), 2 * rows + 0.6), layout="constrained",
                                squeeze=False)
    figure.suptitle(title)
    for claim, line in zip(claims, axes):
        for axis in line[len(claim["rows"]):]:
            axis.set_axis_off()
        for axis, row in zip(line, claim["rows"]):
            panel(axis, row, VERDICT[row["verdict"]], "")
            axis.set_title(f"claimed {row['claimed']:.2f}\nmeasured {row['measured']:.2f}", fontsize=9)
        line[0].set_ylabel(UNITS[claim["quantity"]])
    save(figure, path)


def declared_figure(method, claims, path):
    quantities = [quantity for quantity in UNITS if quantity != "parameters"
                  and any(claim["rows"] for claim in claims if claim["quantity"] == quantity)]
    swept = sorted({row["variable"] for claim in claims for row in claim["rows"]},
                   key=["m", "n", "mn", "r", "b", "k", "t"].index)
    figure, axes = plt.subplots(len(quantities), len(swept), layout="constrained", squeeze=False,
                                figsize=(1.45 * len(swept) + 0.4, 0.9 + 1.9 * len(quantities)))
    figure.suptitle(f"{method_label(method)}: points measured, lines declared")
    for quantity, line in zip(quantities, axes):
        line[0].set_ylabel(f"memory, {UNITS[quantity]}" if quantity == "memory" else UNITS[quantity])
        for axis, variable in zip(line, swept):
            for claim in claims:
                if claim["quantity"] != quantity:
                    continue
                for row in claim["rows"]:
                    if row["variable"] == variable:
                        panel(axis, row, COLOURS[PASSES.index(claim["pass"])], claim["pass"].replace("_", " "))
    # All passes are timed over m.
    legend_below(figure, axes[-1][0], len(PASSES))
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
        axis.loglog(*zip(*line), MARKERS[i] + "-", color=COLOURS[i], markersize=4, linewidth=1.2, label=f"{m:g}")
    sweep_ticks(axis, {r for _, r in points})


def orthogonality_map(rows, path):
    medians = grouped(rows, ("vectors", "terms", "m", "r"), "error")
    figure, axes = plt.subplots(4, 2, figsize=(WIDTH, 9), layout="constrained", sharex=True, sharey=True)
    figure.suptitle("Orthogonality error, ‖I − QᵀQ‖_F/√m")
    for vectors, column in zip(("random", "paired"), axes.T):
        for terms, axis in zip((2, 3, 4, 0), column):
            points = {(m, r): value for (v, t, m, r), value in medians.items() if (v, t) == (vectors, terms)}
            lines_over_r(axis, points, 1e-18)
            axis.set_title(f"{kind(terms)}, {vectors} vectors")
        column[-1].set_xlabel("number of reflectors, r")
    axes[0][0].legend(title="order m", loc="lower right", ncols=2)
    save(figure, path)


def sides_map(rows, value, title, path):
    rows = [{**row, "size": max(row["m"], row["n"]),
             "shown": abs(row["change"]) / row["energy"] if value == "change" else row["drift"]} for row in rows]
    medians = grouped(rows, ("columns", "side", "terms", "size", "r"), "shown")
    figure, axes = plt.subplots(4, 3, figsize=(WIDTH, 9), layout="constrained", sharex=True, sharey=True)
    figure.suptitle(title)
    cases = [(columns, terms) for columns in ("gaussian", "correlated") for terms in (0, 2)]
    for (columns, terms), line in zip(cases, axes):
        for side, axis in zip(("left", "right", "both"), line):
            points = {(m, r): v for (c, s, t, m, r), v in medians.items() if (c, s, t) == (columns, side, terms)}
            if points:
                lines_over_r(axis, points, 1e-18)
            axis.set_title(f"{columns}, {side},\n{kind(terms)}")
    for axis in axes[-1]:
        axis.set_xlabel("reflectors, r")
    legend_below(figure, axes[0][0], 6, title="longer side of M")
    save(figure, path)


def coverage_map(runs, path):
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 4.2), layout="constrained", sharey=True)
    figure.suptitle("Residual after descent (0.001 and less: at the bottom)")
    names = list(dict.fromkeys(run["method"] for run in runs))
    for target, axis in zip(("rotation", "reflection", "two_sided"), axes):
        medians = grouped([run for run in runs if run["target"] == target], ("method", "parameters"), "residual")
        for i, name in enumerate(names):
            line = sorted((p, max(value, 1e-3)) for (method, p), value in medians.items() if method == name)
            axis.loglog(*zip(*line), MARKERS[i % len(MARKERS)] + ("--" if "two_terms" in name else "-"), markersize=5,
                        color=method_colour(name), linewidth=1.8 if is_ours(name) else 1.1, label=method_label(name))
        axis.set_title({"rotation": "target Q M, det Q = 1", "reflection": "target Q M, det Q = −1",
                        "two_sided": "target Q M P"}[target])
        axis.set_xlabel("trained parameters")
        plain_ticks(axis.xaxis, (1,))
        plain_ticks(axis.yaxis, (1,))
        one_sided = grouped([run for run in runs if run["target"] == target], (), "one_sided")[()]
        if one_sided > 1e-3:
            axis.axhline(one_sided, color="black", linewidth=1, linestyle=":", label="best possible Q M")
    axes[0].set_ylabel("residual, relative")
    legend_below(figure, axes[-1], 5, lines=2)
    save(figure, path)


def coverage_cell(cell, runs, path):
    figure, axis = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for i, target in enumerate(("rotation", "reflection", "two_sided")):
        chosen = grouped([run for run in runs if run["target"] == target], ("parameters",), "residual")
        axis.loglog(*zip(*sorted((p, max(v, 1e-3)) for (p,), v in chosen.items())), MARKERS[i], color=COLOURS[i],
                    markersize=6, label=target.replace("_", "-"))
    axis.axvline(cell["parameters"], color="black", linewidth=1, linestyle=":", label=f"claimed: {cell['printed']}")
    axis.set_title(f"{cell['row']}: {cell['verdict']}")
    axis.set_xlabel("trained parameters")
    axis.set_ylabel("residual, relative")
    plain_ticks(axis.xaxis)
    plain_ticks(axis.yaxis, (1,))
    axis.legend(loc="best")
    save(figure, path)


def models_figure(rows, path):
    names = list(dict.fromkeys(row["model"] for row in rows))
    # Memory is a formula where flops are counted, and measured at the reduced scale elsewhere.
    memory = (("memory", "extra numbers of a step") if all(row["reduced_flops"] for row in rows)
              else ("reduced_memory", "extra numbers of a step,\nreduced scale"))
    quantities = (("parameters", "trained parameters"), ("flops", "flops of a step"), memory)
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 4.6), layout="constrained", sharey=True)
    figure.suptitle("Fine-tuning all linear layers of a model (logarithmic axes)")
    for (quantity, title), axis in zip(quantities, axes):
        for i, model in enumerate(names):
            mine = [row for row in rows if row["model"] == model]
            axis.barh([j + 0.4 * i for j in range(len(mine))], [max(row[quantity], 1) for row in mine], height=0.38,
                      color=COLOURS[i], label=model)
        axis.set_yticks([j + 0.2 for j in range(len(mine))], [method_label(row["method"]) for row in mine])
        bold_ours(axis, [is_ours(row["method"]) for row in mine])
        axis.set_xscale("log")
        axis.set_xlabel(title)
        axis.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    legend_below(figure, axes[0], len(names))
    save(figure, path)


def figures_of(results, folder):
    """(function, arguments...) of each figure."""
    for cell in results["table1"]:
        path = folder / f"table1_{slug(cell['row'])}_{slug(cell['cell'])}.png"
        if cell["cell"] == "coverage":
            method = next(row["method"] for row in results["table1_rows"] if row["name"] == cell["row"])
            yield coverage_cell, cell, [run for run in results["coverage"] if run["method"] == method], path
        else:
            title = f"{cell['row']}, {cell['cell']}: {printed(cell['printed'])} {cell['verdict']}"
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
