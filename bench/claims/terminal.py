# SPDX-License-Identifier: BSD-3-Clause
"""What the terminal shows of results."""

import verdicts
from rows import called

JUDGED = ("name", "method", "token_method", "parameters", "terms", "covers")  # of a row of table1.json


def claim_rows(results):
    """One row a claim and swept variable, as the terminal and claims.csv show them."""
    rows = []

    def add(what, claim, printed):
        for row in claim["rows"]:
            rows.append({"claim": what, "quantity": claim["quantity"], "formula": printed, "variable": row["variable"],
                         "from": row["from"], "to": row["to"], "claimed": row["claimed"], "measured": row["measured"],
                         "low": row["low"], "high": row["high"], "r2": row["r2"], "verdict": row["verdict"]})

    for cell in results["table1"]:
        for claim in cell["claims"]:
            add(f"{called(results, cell['row'])}, {cell['cell']}", claim, cell["printed"])
    for claim in results["declared"]:
        add(f"{claim['method']}, {claim['pass']}", claim, " + ".join(claim["terms"]))
    return rows


def exponents(results):
    """Lines of the exponents, which are judged."""
    for row in claim_rows(results):
        yield (f"{row['claim']:<38} {row['quantity']:<10} {row['variable']:<2} {row['from']:>5g}–{row['to']:<5g} claimed "
               f"{row['claimed'] if row['claimed'] is not None else float('nan'):5.2f}  measured {row['measured']:5.2f} "
               f"[{row['low']:5.2f}, {row['high']:5.2f}]  R² {row['r2']:.3f}  {row['verdict']}")


def constants(results):
    """Lines of the constants, which are shown: counted over declared."""
    for quantity in ("flops", "memory"):
        for row in results[f"{quantity}_ratios"]:
            warning = ""
            if verdicts.far_off(row):
                warning = f"  WARNING: the formula is off by more than a factor of {verdicts.FAR_OFF:g}"
            yield (f"{row['method'] + ', ' + row['pass']:<38} {quantity:<10} counted / declared {row['largest']:5.2f} at the "
                   f"largest size, {row['least']:5.2f} to {row['most']:.2f} over all sizes{warning}")


def cells(results):
    for cell in results["table1"]:
        yield f"{called(results, cell['row'])}, {cell['cell']}: {cell['printed']}: {cell['verdict']}{missed(cell['claims'])}"


def declared_parameters(results):
    """Numbers of parameters, whose verdict is not that of their exponents: each has to be equal."""
    for claim in results["declared"]:
        if claim["quantity"] == "parameters":
            yield f"{claim['method']}, parameters: {claim['terms'][0]}: {claim['verdict']}{missed([claim])}"


def missed(claims):
    """Where a number of parameters is not the formula's."""
    for claim in claims:
        if point := claim.get("missed"):
            sizes = ", ".join(f"{letter} = {size}" for letter, size in point["sizes"].items())
            return f" (the formula gives {point['claimed']}, counted {point['counted']} at {sizes})"
    return ""


def lines(results):
    return [*exponents(results), "", *constants(results), "", *declared_parameters(results), *cells(results)]


def only(results, methods, names):
    """The results of these methods and of the rows of these names."""
    ours = {quantity: [row for row in results[quantity] if row["method"] in methods]
            for quantity in ("declared", "flops_ratios", "memory_ratios")}
    return {**ours, "table1": [cell for cell in results["table1"] if cell["row"] in names],
            "table1_rows": results["table1_rows"]}


def new_since(results, saved):
    """Names of the methods, and of the rows, that the saved results do not have as they are now."""
    known = {method["name"]: method for method in saved["methods"]}
    judged = [[row.get(field) for field in JUDGED] for row in saved["table1_rows"]]
    return ([method["name"] for method in results["methods"] if known.get(method["name"]) != method],
            [row["name"] for row in results["table1_rows"] if [row.get(field) for field in JUDGED] not in judged])


def show(results, saved, file):
    """saved: the results of that file, which are kept, or None. What they do not have comes last, once more."""
    print(*lines(results), sep="\n")
    methods, names = new_since(results, saved) if saved else ([], [])
    if methods or names:
        print(f"\nNew, or changed, since {file}: {', '.join([*methods, *(called(results, name) for name in names)])}\n")
        print(*lines(only(results, methods, names)), sep="\n")
