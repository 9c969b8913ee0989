# SPDX-License-Identifier: BSD-3-Clause
"""complexity.md and complexity-gpu.md of docs/reference from their results: all numbers and verdicts come from there."""

import collections

import fits
import verdicts
from figures_names import plots, slug
from formulas import printed

CPU_MEASURES = """\
- **Flops** are counted: the methods run over a number that counts each sum, difference, product and quotient. **Memory** is counted by the heap: what a pass
  has at its peak beyond inputs, outputs, parameters and gradients, in numbers of four bytes. The panels that a product packs for
  itself are not counted. Both are the same at every run.
- **Times** are processor times in float on one thread by Google Benchmark; the repetitions of all cases alternate at random, and a point is their median. Google
  Benchmark's own complexity fits know single powers without an interval, so the fits here are made apart.
"""
GPU_MEASURES = """\
- The methods run in float over memory of the device; all have the same products, by cuBLAS and never in a shorter type than float. **Flops** are not counted here: the
  CPU runs the same algorithms, and [complexity.md](complexity.md) has their counts. **Memory** is counted where the methods take it from the device: what a pass has at its peak
  beyond inputs, outputs, parameters and gradients, in numbers of four bytes. The workspace of cuBLAS, one for all sizes, is not counted. How many blocks sum apart depends on the
  device, so memory is declared as O(…) and judged as a bound.
- **Times** lie between two events of the stream. The stream is kept busy until all launches of the pass are submitted, so the time that the host takes for that is not in them. Caches are as
  the pass before has left them. The repetitions of all cases alternate at random, by Google Benchmark, and a point is their median.
"""
JUDGEMENT = """\
- A claim is a sum of terms, each with a constant of its own. It gets the constants that suit it best: nonnegative, least squares of logarithms, **the same
  constants in all sweeps at once**. With times, a constant for each call and (for the declared costs) one for each number moved stand beside the flops.
- **The claimed exponent** of a sweep is the slope of that fit in log-log coordinates, **the measured one** the slope of the measurements over the same points, with a {confidence} %
  interval from a bootstrap over the repetitions (a single value where nothing varies). A sweep of m = n grows both sides together: it tells m n from m + n.
- A claim **holds** if the interval lies within the margin around the claimed exponent, **does not hold** if it lies outside, and else we **cannot tell**, as for ranges of
  less than a factor of {shortest}. O(…) is an upper bound: growing more slowly than it says is no fault, and a term whose share stays below {unseen} % is reported as not seen. Declared formulas
  must be met from both sides. Margins: {margins}. Parameters must be as many as the formula says at every point, whatever the slopes.
"""
COVERAGE = """\
- Coverage: descent (Adam, two starts, the best of them) towards M̂ = Q M with det Q = 1 and det Q = −1 and towards M̂ = Q M P, Q and P uniform, M of order {order} with singular values
  from 1 to 2. A target is reached at a residual of {reached} % of its norm, and missed above {missed} %.
"""


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


def table1_summary(results):
    cells = {(cell["row"], cell["cell"]): cell for cell in results["table1"]}
    titles = {"parameters": "parameters", "one token": "complexity, one token", "on the weight": "complexity, on the weight",
              "coverage": "coverage"}
    names = [name for name in titles if any(name == cell["cell"] for cell in results["table1"])]
    rows = [["", *(titles[name] for name in names)]]
    for row in results["table1_rows"]:
        line = [row["name"]]
        for name in names:
            cell = cells[row["name"], name]
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
        text = f"{claim['quantity']}: the best constants miss a point by a factor of {claim['worst_ratio']:.2f}"
        if unseen:
            text += f"; not seen: {', '.join(unseen)}"
        lines.append(text + ".")
    return " ".join(line[0].upper() + line[1:] for line in lines)


def table1_details(results):
    parts = []
    for cell in results["table1"]:
        parts.append(f"### {cell['row']}, {cell['cell']}: {cell['verdict']}\n")
        if cell["cell"] == "coverage":
            residuals = ", ".join(f"{target.replace('_', '-')} {value:.2g}" for target, value in cell["residuals"].items())
            parts.append(f"{cell['printed']}, {cell['parameters']:.0f} parameters: {cell['why']}. {cell['argument']} Largest residuals: {residuals}.\n")
        else:
            by = f" By `{cell['method']}`." if "method" in cell else ""
            parts.append(f"{printed(cell['printed'])}.{by} {remarks(cell)}\n".replace(". \n", ".\n"))
            parts.append(claim_table(cell["claims"]))
        parts.append(f"![{cell['row']}, {cell['cell']}]({link(results, cell)})\n")
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
    return (f"M̂ from M [{base['m']}, {base['n']}]; HOFT applies twice as many reflectors, r on each side:\n\n" + table(rows))


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


def models(results):
    spec, parts = results["model_shapes"], []
    sizes = ", ".join(f"{letter} = {value}" for letter, value in spec["sizes"].items())
    small = ", ".join(f"{letter} = {value}" for letter, value in spec["reduced"]["sizes"].items())
    parts.append(f"One step, forward and backward on activations, over all linear layers; {spec['tokens']} tokens, {sizes}. Memory is the sum over layers of "
                 f"what a pass has at its peak, in GB of float. Measured at 1/{spec['reduced']['by']} of m and n with {spec['reduced']['tokens']} tokens, {small}: time of "
                 f"all layers, and {'what was counted over what the formulas say there' if counts_flops(results) else 'that memory'}.\n")
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
        parts += [f"### {method['name']}\n", f"{method['text']}; trains {printed(method['parameters'])} parameters ({trained(results, method['name'])}).\n", table(rows),
                  f"![{method['name']}]({plots(results)}/declared_{method['name']}.png)\n"]
    return "\n".join(parts)


def trained(results, method):
    found = [claim["verdict"] for claim in results["declared"]
             if claim["method"] == method and claim["quantity"] == "parameters"]
    return "counted: " + ", ".join(found)


def swept(results, method):
    found = {row["variable"] for claim in results["declared"] if claim["method"] == method for row in claim["rows"]}
    return [v for v in ("m", "n", "mn", "r", "b", "k", "t") if v in found]


def counts(verdicts):
    found = collections.Counter(verdicts)
    return ", ".join(f"{found[name]} {word}" for name, word in
                     (("holds", "hold"), ("does not hold", "do not hold"), ("cannot tell", "cannot be told")))


def title(results):
    if "device" not in results:
        return ("# Complexity: claims and what became of them\n\n"
                "Written by `bench/claims/harness.py` from [bench/results/claims/results.json](../../bench/results/claims/results.json); no number here is typed by hand. "
                "`bash bench/run.sh --claims` measures all of it anew, and `--claims --quick` the smallest sizes.\n")
    return ("# Complexity on a GPU: claims and what became of them\n\n"
            "Written by `bench/claims/harness.py` from [bench/results/claims_gpu/results.json](../../bench/results/claims_gpu/results.json); no number here is typed by hand. "
            "`bash bench/run.sh --claims --gpu` measures all of it anew. [complexity.md](complexity.md) has all methods, orthogonality and coverage, on the CPU.\n")


def what_judges(results):
    if counts_flops(results):
        return "The verdict of a complexity is that of the counted flops; times stand beside it."
    return "The verdict of a complexity is that of the times, of the methods that exist here."


def text(results):
    margins = ", ".join(f"{value:g} for {name}" for name, value in results["margins"].items()
                        if name in used(results) and name != "parameters")
    parts = [
        title(results),
        head(results),
        "## How a verdict comes about\n\n" + (CPU_MEASURES if counts_flops(results) else GPU_MEASURES)
        + JUDGEMENT.format(shortest=fits.SHORTEST_RANGE, margins=margins, confidence=percent(fits.CONFIDENCE),
                           unseen=percent(fits.UNSEEN))
        + (COVERAGE.format(order=results["order"], reached=percent(verdicts.REACHED), missed=percent(verdicts.MISSED)) if results["coverage"] else ""),
        "## Table 1 of the HOFT paper\n",
        f"Source: {results['source']}. A weight is adapted by its product with M as well, so each complexity is judged in both readings: "
        "**one token**, y = M̂ x for one x with the rotation made from its parameters, as the paper derives it, and **on the weight**, M̂ formed from M, as the "
        f"formula M̂ = Q_U M Q_V reads. {what_judges(results)} Each verdict leads to its plot.\n",
        table1_summary(results),
        table1_details(results),
        *(measured_on_the_cpu(results) if results["coverage"] else []),
        "## Whole models\n",
        models(results),
        f"![Models]({plots(results)}/models.png)\n",
        "## What the methods declare\n",
        f"Exponents: measured / declared. {counts(claim['verdict'] for claim in results['declared'])}. Numbers moved are declared, not measured; the times are judged by flops and numbers moved together. "
        "Formulas hold for ranks up to 64, one block of hoft's reflectors.\n",
        declared(results),
    ]
    return "\n".join(parts)


def measured_on_the_cpu(results):
    """The sections that need all methods, or dense arithmetic that has no place on a GPU."""
    return [
        "## One by one\n",
        "HRA applies its reflections one after another; hoft takes blocks of them. Time on the weight, and the time of HRA for one reflector over that of hoft:\n",
        one_by_one(results),
        "## Orthogonality of the truncated inverse\n",
        "‖I − QQᵀ‖_F/√m without a product of order m: I − QQᵀ = U S Uᵀ with S = T + Tᵀ − T G Tᵀ, G = UᵀU, so its norm is √tr(G S G S), in long double from U and T as they are stored, in double; what products with Q round comes on top. Medians over seeds; an exact 0 is a trace below zero by rounding.\n",
        orthogonality(results),
        f"![Orthogonality]({plots(results)}/orthogonality.png)\n",
        "## What each side keeps\n",
        "The change of the hyperspherical energy, relative, and the largest change of a singular value, relative to the largest one. Left: Q_U M, M [longer, 64]; right: M Q_V, M [64, longer], up to 1024 "
        "columns, since the energy of n columns takes n² m; both: Q_U M Q_V, M [longer, 64]. Correlated columns share a direction. An orthogonal factor on the left "
        "keeps all distances between columns and so their energy; one on the right mixes columns; singular values are what all three forms keep when Q is orthogonal.\n",
        sides(results),
        f"![Energy]({plots(results)}/energy.png)\n\n![Singular values]({plots(results)}/singular_values.png)\n",
        "## Coverage\n",
        f"Residuals relative to the target after descent, medians over seeds, order {results['order']}. The last column: processor time of the better start until its residual is below 1 %, "
        "if it is for every seed.\n",
        coverage(results),
        f"![Coverage]({plots(results)}/coverage.png)\n",
    ]
