# SPDX-License-Identifier: BSD-3-Clause
"""The rows of table1.json: what each must say. All of it is checked before anything is measured."""

import re

from figures_names import slug
from formulas import FormulaError, evaluate, letters_of
from plans import methods_of, passes_of

# Of which type each field is.
REQUIRED = {"name": str, "method": str, "parameters": str, "terms": list, "printed": str}
OPTIONAL = {"token_method": str, "argument": str, "coverage": str, "covers": dict, "source": str}
SIZES = "rbk"  # what `covers` may name
LEAST_ORDER = 8  # of the targets of coverage


class RowError(ValueError):
    """Says which row, which field of it, and what is expected there."""


def covered_at(row, order):
    """The sizes at which a row is said to cover everything, of targets of that order."""
    return {letter: evaluate(text, {"m": order, "n": order}) for letter, text in row["covers"].items()}


def require(holds, row, field, what):
    if not holds:
        raise RowError(f"table1.json, row '{row.get('name', '?')}', {field}: {what}")


def check_fields(row):
    fields = REQUIRED | OPTIONAL
    for field in row:
        require(field in fields, row, f"'{field}'", f"no field has that name, the fields are {', '.join(fields)}")
    for field in REQUIRED:
        require(field in row, row, field, "is missing")
    for field, value in row.items():
        require(isinstance(value, fields[field]) and value, row, field,
                f"is {value!r}, expected {'a text' if fields[field] is str else f'a {fields[field].__name__}'}, not empty")
    require(re.fullmatch("[a-z0-9_]+", slug(row["name"])), row, "name",
            "plots are named after it, expected letters, digits, spaces and commas")
    require(("coverage" in row) == ("covers" in row), row, "covers",
            "coverage and covers come together: the size as printed, and for the program")


def check_formula(row, field, formula, sizes, allowed):
    """That it has a value >= 0 and depends only on what is swept."""
    require(isinstance(formula, str), row, field, f"is {formula!r}, expected formulas as texts")
    try:
        value = evaluate(formula, sizes)
    except FormulaError as error:
        raise RowError(f"table1.json, row '{row['name']}', {field}: {error}") from error
    require(value >= 0, row, field, f"'{formula}' is {value:g} at {sizes}, expected >= 0")
    if foreign := letters_of(formula) - allowed:
        require(False, row, field, f"'{formula}' depends on {', '.join(sorted(foreign))}, but only "
                                   f"{', '.join(sorted(allowed))} are swept")


def check_methods(row, methods):
    on_weight, one_token = (methods[name] for name in methods_of(row))
    for method, which in ((on_weight, "merge"), (one_token, "forward")):
        require(which in passes_of(method), row, "method", f"'{method['name']}' has no pass '{which}', which is judged")


def check_covers(row, order, measured):
    """measured: dict from methods to the sizes at which coverage is tested; empty where it is not."""
    for letter, text in row["covers"].items():
        require(letter in SIZES, row, "covers", f"there is no size '{letter}', expected of {', '.join(SIZES)}")
        check_formula(row, "covers", text, {"m": order, "n": order, "r": 0, "b": 0, "k": 0, "t": 0}, {"m", "n"})
    if not measured:
        return
    found = measured.get(row["method"])
    require(found, row, "covers", f"coverage of '{row['method']}' is not measured: its description names no `coverage`")
    wanted = covered_at(row, order)
    require(any(all(sizes[letter] == value for letter, value in wanted.items()) for sizes in found), row, "covers",
            f"is {', '.join(f'{letter} = {value:g}' for letter, value in wanted.items())} at m = {order}, measured are "
            f"{'; '.join(', '.join(f'{letter} = {size}' for letter, size in sizes.items()) for sizes in found)}")


def called(results, name):
    """What a row is called where rows of several papers stand together."""
    (row,) = (row for row in results["table1_rows"] if row["name"] == name)
    return name if "source" in row else f"Table 1, {name}"


def check(table, methods, elsewhere, sizes, order, measured):
    """A row is judged where its methods exist. `elsewhere`: names of the methods of the other program, whose rows are
    left out here. `sizes`: those that formulas are tried at."""
    names = set()
    source = table.get("source")
    if not isinstance(source, str) or not source:
        raise RowError(f"table1.json, source: is {source!r}, expected who claims the rows that name no source of their own")
    for row in table["rows"]:
        check_fields(row)
        require(slug(row["name"]) not in names, row, "name", "another row has it")
        names.add(slug(row["name"]))
        for name in methods_of(row):
            require(name in {*methods, *elsewhere}, row, "method",
                    f"no method is called '{name}'; the methods are {', '.join(methods)}")
        if not {*methods_of(row)} <= {*methods}:
            continue
        check_methods(row, methods)
        on_weight, one_token = ({*methods[name]["variables"]} - {"t"} for name in methods_of(row))
        check_formula(row, "parameters", row["parameters"], sizes, on_weight)
        for term in row["terms"]:
            check_formula(row, "terms", term, sizes, on_weight & one_token)
        if "covers" in row:
            check_covers(row, order or LEAST_ORDER, measured)
