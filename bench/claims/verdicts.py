# SPDX-License-Identifier: BSD-3-Clause
"""From what was measured to claims with verdicts."""

import numpy as np

import fits
import plans
from formulas import FormulaError, evaluate, letters_of, terms_of
from rows import covered_at

# How far an exponent may be from the claimed one. Counts are exact but for lower-order terms; memory is lent in whole
# panels; times bend with caches and with the length of a product's inner loop.
MARGINS = {"parameters": 0.02, "flops": 0.1, "memory": 0.15, "time": 0.25}
REACHED, MISSED = 0.05, 0.2  # of the residual, relative to the target
FAR_OFF = 1.5  # a declared formula, from what is counted at its largest size


def check_description(method, sizes):
    """Before anything is measured: all formulas can be evaluated, and depend only on what is swept."""
    for name in ("parameters", *(f"{which}_{part}" for which in plans.passes_of(method) for part in ("flops", "moved", "memory"))):
        formula = method[name]
        try:
            value = evaluate(formula, sizes)
        except FormulaError as error:
            raise ValueError(f"{method['name']}, {name}: {error}") from error
        if value < 0:
            raise ValueError(f"{method['name']}, {name}: '{formula}' is {value:g} at {sizes}, expected >= 0")
        if foreign := letters_of(formula) - {*method["variables"]}:
            raise ValueError(f"{method['name']}, {name}: '{formula}' depends on {', '.join(sorted(foreign))}, "
                             f"but the variables are '{method['variables']}', and no others are swept")


def swept_samples(data, quantity, method, which, token=False):
    """Dict from swept letters to (x, samples), of the points that were measured."""
    grid = data["grids"]["time" if quantity == "time" else "count"]
    sweeps = plans.sweeps_of(method, grid, token, which.startswith("merge"))
    table = data["times"] if quantity == "time" else data["counts"]
    found = {}
    for letters, points in sweeps.items():
        samples = []
        for x, sizes in points:
            entry = table[plans.key(method["name"], which, sizes)]
            values = entry if quantity == "time" else [entry[quantity]]
            samples.append((x, {"sizes": sizes, "values": values}))
        found[letters] = ([x for x, _ in samples], [sample for _, sample in samples])
    return found


def claim(sweeps, formulas, kind, quantity, constant):
    terms = [lambda sizes, text=text: evaluate(text, sizes) for text in formulas]
    if constant:
        terms.append(lambda sizes: 1.0)
    judged = fits.judge(sweeps, terms, kind, MARGINS[quantity])
    return {"quantity": quantity, "terms": list(formulas) + (["1"] if constant else []), **judged}


def whole(count):
    return int(count) if float(count).is_integer() else count


def parameters(data, method, formula):
    """A count must be equal at every point, which says more than its exponents."""
    swept = swept_samples(data, "parameters", method, plans.passes_of(method)[0])
    judged = claim(swept, [formula], "growth", "parameters", False)
    for _, samples in swept.values():
        for sample in samples:
            claimed, counted = evaluate(formula, sample["sizes"]), sample["values"][0]
            if claimed != counted:
                letters = {*method["variables"]} - {"t"}
                sizes = {letter: size for letter, size in sample["sizes"].items() if letter in letters}
                missed = {"sizes": sizes, "claimed": whole(claimed), "counted": whole(counted)}
                return {**judged, "verdict": fits.FAILS, "missed": missed}
    return {**judged, "verdict": fits.HOLDS}


def table1_rows(data):
    """Those whose methods exist where it was measured."""
    return [row for row in data["table1"]["rows"]
            if {*plans.methods_of(row)} <= {*data["methods"]}]


def table1(data):
    cells = []
    for row in table1_rows(data):
        method, one_token = (data["methods"][name] for name in plans.methods_of(row))
        judged = parameters(data, method, row["parameters"])
        cells.append({"row": row["name"], "cell": "parameters", "printed": row["parameters"],
                      "verdict": judged["verdict"], "claims": [judged]})
        for cell, which, token in (("one token", "forward", True), ("on the weight", "merge", False)):
            by = one_token if token else method
            claims = [
                claim(swept_samples(data, quantity, by, which, token), row["terms"], "bound", quantity,
                      quantity == "time")
                for quantity in ("flops", "time") if quantity in data["quantities"]
            ]
            # Complexities speak of operations; times stand beside them, or for them where nothing counts operations.
            cells.append({"row": row["name"], "cell": cell, "printed": row["printed"],
                          "method": by["name"], "verdict": claims[0]["verdict"], "claims": claims})
        if data["coverage"] and "covers" in row:
            cells.append(coverage_cell(data, row))
    return cells


def coverage_cell(data, row):
    runs = [run for run in data["coverage"] if run["method"] == row["method"]]
    m = data["order"]
    wanted = covered_at(row, m)
    at = [run for run in runs if all(run[letter] == value for letter, value in wanted.items())]
    if not at:
        raise ValueError(f"coverage of {row['method']} was not measured at {wanted}")
    two_sided = row["method"].startswith("hoft")
    targets = ["rotation", "reflection"] + (["two_sided"] if two_sided else [])
    residuals = {target: max(run["residual"] for run in at if run["target"] == target) for target in targets}
    best = {target: min(run["residual"] for run in at if run["target"] == target) for target in targets}
    parameters, dimension = at[0]["parameters"], m * (m - 1) // 2
    reached = [target for target in targets if residuals[target] <= REACHED]
    missed = [target for target in targets if best[target] > MISSED]
    verdict = fits.FAILS if missed else fits.HOLDS if len(reached) == len(targets) else fits.UNKNOWN
    if verdict == fits.HOLDS:
        why = "every target is reached"
    elif not two_sided and parameters < dimension:
        why = f"{parameters:.0f} parameters cannot reach the {dimension} dimensions of O({m})"
    elif missed and reached:
        why = f"{' and '.join(reached)}: reached; {' and '.join(missed)}: not"
    else:
        why = "descent ends at a distance from " + " and ".join(t for t in targets if t not in reached)
    return {"row": row["name"], "cell": "coverage", "printed": row["coverage"], "verdict": verdict, "why": why, "argument": row.get("argument", ""),
            "residuals": residuals, "parameters": parameters, "claims": []}


def declared(data):
    claims = []
    for method in data["methods"].values():
        claims.append({"method": method["name"], "pass": "merge",
                       **parameters(data, method, method["parameters"])})
        for which in plans.passes_of(method):
            costs = {part: method[f"{which}_{part}"] for part in ("flops", "moved", "memory")}
            for quantity, formulas, kind, constant in (
                ("flops", [costs["flops"]], "growth", False),
                ("memory", terms_of(costs["memory"]), "bound", True) if data["memory_is_bounded"]
                else ("memory", [costs["memory"]], "growth", True),
                ("time", [text for text in (costs["flops"], costs["moved"]) if text != "0"], "growth", True),
            ):
                if quantity not in data["quantities"]:
                    continue
                about = {"method": method["name"], "pass": which}
                swept = swept_samples(data, quantity, method, which)
                taken = [any(sample["values"]) for _, samples in swept.values() for sample in samples]
                if not all(taken) or formulas == ["0"]:  # no exponents
                    if any(taken):  # something at some sizes only: no slope, unless nothing was declared
                        verdict = fits.FAILS if formulas == ["0"] else fits.UNKNOWN
                    else:
                        verdict = fits.HOLDS if formulas == ["0"] or kind == "bound" else fits.FAILS
                    claims.append({**about, "quantity": quantity, "terms": formulas, "rows": [], "margin": 0.0,
                                   "kind": kind, "verdict": verdict})
                    continue
                claims.append({**about, **claim(swept, formulas, kind, quantity, constant)})
    return claims


def ratios(data, quantity):
    """Counted over declared, over all points and where most is declared: how good the constants of the formulas are."""
    rows = []
    if quantity not in data["quantities"] or (quantity == "memory" and data["memory_is_bounded"]):
        return rows
    for method in data["methods"].values():
        for which in plans.passes_of(method):
            formula = method[f"{which}_{quantity}"]
            if formula == "0":
                continue
            points = [
                (evaluate(formula, sample["sizes"]), sample["values"][0])
                for _, samples in swept_samples(data, quantity, method, which).values()
                for sample in samples
            ]
            values = [counted / formed for formed, counted in points]
            declared_most, counted_there = max(points)
            rows.append({"method": method["name"], "pass": which, "least": min(values), "most": max(values),
                         "median": float(np.median(values)), "largest": counted_there / declared_most})
    return rows


def far_off(ratio):
    """Whether a formula with that ratio needs another constant."""
    return not 1 / FAR_OFF <= ratio["largest"] <= FAR_OFF


def models(data):
    """Sums over the linear layers of each model: by the formulas, and measured at the reduced scale."""
    rows, spec = [], data["models"]
    for model in spec["models"]:
        for method in filter(plans.trains, data["methods"].values()):
            row = {"model": model["name"], "method": method["name"], "parameters": 0.0, "flops": 0.0, "moved": 0.0,
                   "memory": 0.0, "reduced_parameters": 0.0, "reduced_ms": 0.0, "reduced_flops": 0.0,
                   "reduced_memory": 0.0, "reduced_formula_flops": 0.0, "reduced_formula_memory": 0.0}
            for layer in model["linear"]:
                count = layer["count"] * model["layers"]
                whole = {"m": layer["m"], "n": layer["n"], "t": spec["tokens"], **spec["sizes"]}
                small = plans.reduced(layer, spec)
                row["parameters"] += count * evaluate(method["parameters"], whole)
                # After the forward pass of a step comes its backward pass, whose peak has what the forward pass saved.
                row["memory"] += count * evaluate(method["backward_memory"], whole)
                row["reduced_formula_memory"] += count * evaluate(method["backward_memory"], small)
                for which in ("forward", "backward"):
                    key = plans.key(method["name"], which, small)
                    row["flops"] += count * evaluate(method[f"{which}_flops"], whole)
                    row["moved"] += count * evaluate(method[f"{which}_moved"], whole)
                    row["reduced_formula_flops"] += count * evaluate(method[f"{which}_flops"], small)
                    row["reduced_flops"] += count * data["counts"][key].get("flops", float("nan"))
                    row["reduced_ms"] += count * float(np.median(data["times"][key])) / 1e6
                row["reduced_memory"] += count * data["counts"][key]["memory"]
                row["reduced_parameters"] += count * data["counts"][key]["parameters"]
            rows.append(row)
    return rows


def side_by_side(data):
    """Reflections one by one beside hoft's blocks of them, on the weight; hoft has 2 r of them, r on each side."""
    rows = []
    if "hra" not in data["methods"]:
        return rows
    one = swept_samples(data, "time", data["methods"]["hra"], "merge")["r"]
    two = swept_samples(data, "time", data["methods"]["hoft_exact"], "merge")["r"]
    for r, hra, hoft in zip(one[0], one[1], two[1]):
        hra_us, hoft_us = (float(np.median(sample["values"])) / 1e3 for sample in (hra, hoft))
        rows.append({"r": r, "hra_us": hra_us, "hoft_us": hoft_us, "ratio": 2 * hra_us / hoft_us})
    return rows
