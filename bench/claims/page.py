# SPDX-License-Identifier: BSD-3-Clause
"""complexity.md and complexity-gpu.md of docs/reference from their results: all numbers and verdicts come from there."""

import collections
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

import fits
import page_words as words
import verdicts
from figures_names import folder_of, plots, slug
from formulas import printed
from plot_names import method_label
from prose import bullets, paragraph

def folded(summary, *parts):
    """Shown by a click; GitHub wants empty lines around what is inside."""
    return "\n".join([f"<details>\n<summary>{summary}</summary>\n", *parts, "</details>\n"])


def table(rows):
    head, *body = [[str(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body]) + "\n"


def number(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share):
    return f"{100 * share:g}"


def short(value):
    """Three digits with a suffix."""
    for suffix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {suffix}"
    return f"{value:.3g}"


def power(value):
    return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def emphasised(verdict):
    return f"**{verdict}**" if verdict != "holds" else verdict


def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def letters(text):
    return "m = n" if text == "mn" else text


def link(results, cell):
    return f"{plots(results)}/table1_{slug(cell['row'])}_{slug(cell['cell'])}.png"


def head(results):
    changed = ", with uncommitted changes" if results["uncommitted_changes"] else ""
    load = ", ".join(f"{value:.2f}" for value in results["load_at_start"])
    return table([
        ["", ""],
        ["command", f"`{results['command']}`"],
        ["date", results["date"]],
        ["commit", f"`{results['commit'][:12]}`{changed}"],
        ["processor", results["processor"]],
        *([["device", results["device"]]] if "device" in results else []),
        ["load at the start of the timings", load],
        ["repetitions", results["repetitions"]],
        ["duration", f"{results['seconds']} s"],
    ])


def papers_rows(results):
    """Those of Table 1 itself; the others name a source of their own."""
    return [row for row in results["table1_rows"] if "source" not in row]


def other_rows(results):
    return [row for row in results["table1_rows"] if "source" in row]


PAPERS_COLUMNS = {"parameters": "parameters", "one token": "complexity, one token, as the paper counts",
                  "on the weight": "complexity, on the weight, which it does not count", "coverage": "coverage"}
COLUMNS = {"parameters": "parameters", "one token": "complexity, one token", "on the weight": "complexity, on the weight",
           "coverage": "coverage"}


def summary_table(results, claimed, titles):
    """The verdicts on these rows."""
    cells = {(cell["row"], cell["cell"]): cell for cell in results["table1"]}
    names = [name for name in titles if any(name == cell["cell"] for cell in results["table1"])]
    rows = [["", *(titles[name] for name in names)]]
    for row in claimed:
        line = [row["name"]]
        for name in names:
            cell = cells.get((row["name"], name))  # a row may say nothing of coverage
            if cell is None:
                line.append("–")
                continue
            text = printed(cell["printed"]) if name == "parameters" else cell["printed"]
            line.append(f"{text}: [{emphasised(cell['verdict'])}]({link(results, cell)})")
        rows.append(line)
    return table(rows)


def claim_table(claims):
    rows = [["measured by", "variable", "range", "claimed", "measured", "interval", "R²", "verdict"]]
    for claim in claims:
        for row in claim["rows"]:
            rows.append([claim["quantity"], letters(row["variable"]), f"{row['from']:g}–{row['to']:g}",
                         number(row["claimed"]), number(row["measured"]), f"{row['low']:.2f} … {row['high']:.2f}",
                         number(row["r2"], 3), emphasised(row["verdict"])])
    return table(rows)


def remarks(cell):
    lines = []
    for claim in cell["claims"]:
        if claim["quantity"] == "parameters":
            continue
        terms = [printed(term) for term in claim["terms"]]
        unseen = [terms[i] for i in claim["unseen"] if terms[i] != "1"]
        text = f"{claim['quantity']}: the best constants miss a point by up to a factor of {claim['worst_ratio']:.2f}"
        if unseen:
            text += f"; terms not seen: {', '.join(unseen)}"
        lines.append(text + ".")
    return " ".join(line[0].upper() + line[1:] for line in lines)


def seeds_of_coverage(results):
    return max(run["seed"] for run in results["coverage"])


def coverage_text(cell, seeds):
    residuals = ", ".join(f"{target.replace('_', '-')} {value:.2g}" for target, value in cell["residuals"].items())
    return (f"{cell['printed']}, {cell['parameters']:.0f} parameters: {cell['why']}. {cell['argument']} "
            f"Largest residuals of {seeds} seeds: {residuals}.")


def details(results, claimed):
    parts, named = [], {row["name"]: row for row in claimed}
    for cell in (cell for cell in results["table1"] if cell["row"] in named):
        what = f"{cell['row']}, {cell['cell']}"
        if cell["cell"] == "coverage":
            said = [paragraph(coverage_text(cell, seeds_of_coverage(results)))]
        else:
            by = f"Measured with `{cell['method']}`. " if "method" in cell else ""
            said = [paragraph(f"Claimed: {printed(cell['printed'])}. {by}{remarks(cell)}".strip()), claim_table(cell["claims"])]
        if source := named[cell["row"]].get("source"):
            said.insert(0, paragraph(f"Source: {source}."))
        parts.append(folded(f"{what}: {cell['verdict']}", *said, f"![{what}]({link(results, cell)})\n"))
    return "\n".join(parts)


def ratio(counted, formula):
    return f"{counted / formula:.2f}" if counted is not None and formula else "–"


def used(results):
    return {"parameters"} | {claim["quantity"] for claim in results["declared"]}


def counts_flops(results):
    """On the CPU, where memory is declared with constants, too."""
    return "flops" in used(results)


def one_by_one(results):
    rows = [["r", "HRA, one by one, µs", "HOFT, both sides, µs", "ratio for one reflector"]]
    rows += [[row["r"], f"{row['hra_us']:.0f}", f"{row['hoft_us']:.0f}", f"{row['ratio']:.2f}"]
             for row in results["one_by_one"]]
    base = results["grids"]["time"]["base"]
    return f"M̂ from M [{base['m']}, {base['n']}]; HOFT applies twice as many reflectors, r on each side:\n\n" + table(rows)


def orthogonality(results):
    found = collections.defaultdict(list)
    for row in results["orthogonality"]:
        found[row["vectors"], row["m"], row["r"], row["terms"]].append(row["error"])
    largest = {m: max(r for _, mm, r, _ in found if mm == m) for _, m, _, _ in found}
    rows = [["vectors", "m", "r", "exact", "2 terms", "3 terms", "4 terms"]]
    for vectors in ("random", "paired"):
        for m in sorted(largest):
            for r in sorted({8, 16, 64, largest[m]}):
                if (vectors, m, r, 0) in found:
                    rows.append([vectors, m, r] + [power(median(found[vectors, m, r, terms])) for terms in (0, 2, 3, 4)])
    return table(rows)


def sides(results):
    found = collections.defaultdict(list)
    for row in results["sides"]:
        key = (row["columns"], row["side"], max(row["m"], row["n"]), row["r"], row["terms"])
        found[key].append((abs(row["change"]) / row["energy"], row["drift"]))
    rows = [["columns", "side", "longer side", "r", "energy, exact", "energy, 2 terms", "singular values, exact",
             "singular values, 2 terms"]]
    for columns in ("gaussian", "correlated"):
        for side in ("left", "right", "both"):
            sizes = sorted({key[2] for key in found if key[:2] == (columns, side)})
            for size in {sizes[0], sizes[-1]} if sizes else ():
                ranks = sorted({key[3] for key in found if key[:3] == (columns, side, size)})
                for r in (r for r in (1, 16, 64) if r in ranks):
                    values = {terms: found[columns, side, size, r, terms] for terms in (0, 2)}
                    rows.append([columns, side, size, r] + [power(median([value[part] for value in values[terms]]))
                                                            for part in (0, 1) for terms in (0, 2)])
    body = sorted(rows[1:], key=lambda row: (row[0] != "gaussian", ["left", "right", "both"].index(row[1]), row[2], row[3]))
    return table([rows[0], *body])


def coverage(results):
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for run in results["coverage"]:
        size = ", ".join(f"{letter} = {run[letter]}" for letter in "rbk" if uses(results, run["method"], letter))
        found[run["method"], size, run["parameters"]][run["target"]].append(run)
    rows = [["method", "size", "parameters", "det Q = 1", "det Q = −1", "two-sided", "s to 1 %, det Q = 1"]]
    for (method, size, parameters), targets in found.items():
        line = [method, size, f"{parameters:.0f}"]
        line += [f"{median([run['residual'] for run in targets[target]]):.2g}"
                 for target in ("rotation", "reflection", "two_sided")]
        times = [run["seconds_to_reach"] for run in targets["rotation"]]
        known = all(isinstance(value, float) and value == value for value in times)
        rows.append(line + [f"{median(times):.3f}" if known else "not reached"])
    bound = median([run["one_sided"] for run in results["coverage"] if run["target"] == "two_sided"])
    return table(rows) + f"\nThe best any Q M can do for the two-sided target (Procrustes): {bound:.2g} (median).\n"


def uses(results, method, letter):
    about = next(one for one in results["methods"] if one["name"] == method)
    return letter in about["variables"]


def kept_by_hoft(spec):
    """What the layers of HOFT keep between their passes, without triangles of r² numbers: forms, M V, K, sums and state."""
    r, t = spec["sizes"]["r"], spec["tokens"]
    numbers = {model["name"]: model["layers"] * sum(one["count"] * ((5 * one["m"] + 2 * one["n"]) * r + 2 * r * t)
                                                    for one in model["linear"]) for model in spec["models"]}
    return " and ".join(f"{4 * kept / 1e9:.2g} GB for {model}" for model, kept in numbers.items())


def models(results):
    spec = results["model_shapes"]
    reduced = spec["reduced"]
    sizes, small = (", ".join(f"{letter} = {value}" for letter, value in of.items()) for of in (spec["sizes"], reduced["sizes"]))
    measured = "counted numbers over what the formulas say there" if counts_flops(results) else "that memory"
    parts = [
        paragraph(
            f"One step is forward and backward on activations of {spec['tokens']} tokens, through all linear layers, with "
            f"{sizes}. Memory is the sum over the layers of the peak of a pass, in GB of float."
        ),
        paragraph(
            f"Measurements are made at 1/{reduced['by']} of m and n with {reduced['tokens']} tokens and {small}: the time of "
            f"all layers, and {measured}."
        ),
    ]
    if counts_flops(results):
        small, full = (of["sizes"]["r"] / of["tokens"] for of in (reduced, spec))
        parts += [paragraph(f"{words.IN_TURN} {words.REDUCED.format(small=small, full=full)}"), paragraph(words.MODEL_MEMORY.format(kept=kept_by_hoft(spec)))]
    parts += [paragraph(words.METHODS), bullets(f"`{about['name']}`: {about['text']}" for about in results["methods"])]
    for model in dict.fromkeys(row["model"] for row in results["models"]):
        mine = [row for row in results["models"] if row["model"] == model]
        columns = {
            "method": lambda row: row["method"],
            "parameters": lambda row: short(row["parameters"]),
            "flops": lambda row: short(row["flops"]),
            "numbers moved": lambda row: short(row["moved"]),
        }
        ms = {"measured at the reduced scale, ms": lambda row: f"{row['reduced_ms']:.1f}"}
        if counts_flops(results):
            columns |= {"extra memory, GB": lambda row: f"{4 * row['memory'] / 1e9:.3g}", **ms,
                        "flops, counted / declared": lambda row: ratio(row["reduced_flops"], row["reduced_formula_flops"]),
                        "memory, counted / declared": lambda row: ratio(row["reduced_memory"], row["reduced_formula_memory"])}
        else:
            columns |= {**ms, "extra memory there, GB": lambda row: f"{4 * row['reduced_memory'] / 1e9:.3g}"}
        parts += [f"### {model}\n", table([list(columns), *([show(row) for show in columns.values()] for row in mine)])]
    return "\n".join(parts)


def declared(results):
    ratios = {(q, row["method"], row["pass"]): row for q in ("flops", "memory") for row in results[f"{q}_ratios"]}
    parts = []
    for method in results["methods"]:
        rows = [["pass", "", "declared", "counted / declared", *(letters(v) for v in swept(results, method["name"])), "verdict"]]
        for claim in results["declared"]:
            if claim["method"] != method["name"] or claim["quantity"] == "parameters":
                continue
            which, quantity = claim["pass"], claim["quantity"]
            by_variable = {row["variable"]: row for row in claim["rows"]}
            ratio = ratios.get((quantity, method["name"], which))
            text = "" if quantity == "time" else printed(method[f"{which}_{quantity}"])
            exponents = [
                f"{by_variable[v]['measured']:.2f} / {number(by_variable[v]['claimed'])}" if v in by_variable else ""
                for v in swept(results, method["name"])
            ]
            rows.append([which.replace("_", " "), quantity, text,
                         f"{ratio['least']:.2f} … {ratio['most']:.2f}" if ratio else "", *exponents,
                         emphasised(claim["verdict"])])
        said = f"{method['text']}; trains {printed(method['parameters'])} parameters ({trained(results, method['name'])})."
        parts.append(folded(f"{method_label(method['name'])}: {declared_verdicts(results, method['name'])}", paragraph(said),
                            table(rows), f"![{method['name']}]({plots(results)}/declared_{method['name']}.png)\n"))
    return "\n".join(parts)


def declared_verdicts(results, method):
    return counts(claim["verdict"] for claim in results["declared"] if claim["method"] == method)


def trained(results, method):
    found = [claim["verdict"] for claim in results["declared"]
             if claim["method"] == method and claim["quantity"] == "parameters"]
    return "counted: " + ", ".join(found)


def swept(results, method):
    found = {row["variable"] for claim in results["declared"] if claim["method"] == method for row in claim["rows"]}
    return [v for v in ("m", "n", "mn", "r", "b", "k", "t") if v in found]


def counts(verdicts):
    found = collections.Counter(verdicts)
    names = (("holds", "hold"), ("does not hold", "do not hold"), ("cannot tell", "cannot be told"))
    return ", ".join(f"{found[name]} {word}" for name, word in names if found[name])


def title(results):
    gpu = "device" in results
    folder, option = folder_of(gpu), " --gpu" if gpu else ""
    more = (
        "[complexity.md](complexity.md) has all methods, orthogonality and coverage, on the CPU." if gpu
        else "With `--quick` it measures the smallest sizes."
    )
    return (
        f"# Complexity{' on a GPU' if gpu else ''}: claims and what became of them\n\n"
        + paragraph(
            "Papers on orthogonal fine-tuning claim costs; here they are measured. `bench/claims/harness.py` writes this "
            f"page from [bench/results/{folder}/results.json](../../bench/results/{folder}/results.json). "
            f"`bash bench/run.sh --claims{option}` measures everything again. {more}"
        )
    )


def how_judged(results):
    margins = ", ".join(f"{value:g} for {name}" for name, value in results["margins"].items()
                        if name in used(results) and name != "parameters")
    items = [
        *(words.CPU_MEASURES if counts_flops(results) else words.GPU_MEASURES),
        *(item.format(shortest=fits.SHORTEST_RANGE, margins=margins, confidence=percent(fits.CONFIDENCE),
                      unseen=percent(fits.UNSEEN)) for item in words.JUDGEMENT),
    ]
    if results["coverage"]:
        items += [item.format(order=results["order"], reached=percent(verdicts.REACHED), missed=percent(verdicts.MISSED))
                  for item in words.COVERAGE]
    return bullets(items)


def verdict_parts(results):
    """What the page opens with."""
    who = words.WHO_MEASURES_FLOPS if counts_flops(results) else words.WHO_MEASURES_TIME
    declared_counts = counts(claim["verdict"] for claim in results["declared"])
    return [
        "## Verdicts\n",
        paragraph(f"Table 1 of the HOFT paper, judged. Each verdict is a link to its plot. Source: {results['source']}."),
        paragraph(words.LETTERS),
        paragraph(f"{words.ROWS_AND_COLUMNS} {words.COVERAGE_COLUMN if results['coverage'] else ''}"),
        summary_table(results, papers_rows(results), PAPERS_COLUMNS),
        paragraph(f"{words.READINGS} {who}"),
        *one_token_of_its_own(results),
        paragraph(f"Of the formulas that the methods in bench/methods declare for themselves, {declared_counts}: see "
                  "[below](#what-the-methods-declare)."),
    ]


def verdicts_on_others(results):
    """Rows with a source of their own."""
    claimed = other_rows(results)
    if not claimed:
        return []
    return [
        "## Claims of other papers\n",
        bullets(f"{row['name']}: {row['source']}" for row in claimed),
        summary_table(results, claimed, COLUMNS),
        details(results, claimed),
    ]


def one_token_of_its_own(results):
    """Which methods stand for another one in the column of one token."""
    methods = [f"`{row['token_method']}`" for row in papers_rows(results) if "token_method" in row]
    if not methods:
        return []
    return [paragraph(words.ONE_TOKEN.format(methods=" and ".join(methods), apply="apply" if methods[1:] else "applies"))]


def text(results):
    parts = [
        title(results),
        *verdict_parts(results),
        "## How a verdict is made\n",
        how_judged(results),
        head(results),
        "## Table 1, claim by claim\n",
        details(results, papers_rows(results)),
        *verdicts_on_others(results),
        *(measured_on_the_cpu(results) if results["coverage"] else []),
        "## Whole models\n",
        models(results),
        plot(results, "Models", "models"),
        "## What the methods declare\n",
        paragraph(words.DECLARED.format(counts="Of them, " + counts(claim["verdict"] for claim in results["declared"]))),
        declared(results),
    ]
    return "\n".join(parts)


def plot(results, name, file):
    return folded(f"Plot: {name.lower()}", f"![{name}]({plots(results)}/{file}.png)\n")


def measured_on_the_cpu(results):
    """The sections that need all methods, or dense arithmetic that has no place on a GPU."""
    return [
        "## Reflections one by one, or in blocks\n",
        paragraph(words.ONE_BY_ONE),
        one_by_one(results),
        "## Orthogonality of the truncated inverse\n",
        paragraph(words.ORTHOGONALITY.format(seeds=max(row["seed"] for row in results["orthogonality"]))),
        orthogonality(results),
        plot(results, "Orthogonality", "orthogonality"),
        "## What each side keeps\n",
        *map(paragraph, words.SIDES),
        sides(results),
        plot(results, "Energy", "energy"),
        plot(results, "Singular values", "singular_values"),
        "## Coverage\n",
        paragraph(words.DESCENT.format(order=results["order"], seeds=seeds_of_coverage(results))),
        coverage(results),
        plot(results, "Coverage", "coverage"),
    ]
