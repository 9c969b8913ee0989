# SPDX-License-Identifier: BSD-3-Clause
"""Formulas in m, n, r, b, k and t, written as Python expressions with + - * / **, min, max and log2."""

import ast
import math
import operator
import re

VARIABLES = "mnrbkt"
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
FUNCTIONS = {"min": min, "max": max, "log2": math.log2}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class FormulaError(ValueError):
    """Says which formula and what in it is not allowed."""


def evaluate(formula, sizes):
    """The value of the formula for the sizes, a dict from letters to numbers."""

    def value(node):
        if isinstance(node, ast.Expression):
            return value(node.body)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return node.value
        if isinstance(node, ast.Name) and node.id in VARIABLES:
            return sizes[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in FUNCTIONS and not node.keywords:
            return FUNCTIONS[node.func.id](*map(value, node.args))
        raise FormulaError(
            f"formula '{formula}': '{ast.unparse(node)}' is none of the letters {', '.join(VARIABLES)}, a number, "
            "+ - * / **, min, max or log2"
        )

    try:
        tree = ast.parse(formula, mode="eval")
    except SyntaxError as error:
        raise FormulaError(f"formula '{formula}' is no expression: {error.msg}") from error
    try:
        return float(value(tree))
    except FormulaError:
        raise
    except (ArithmeticError, TypeError, ValueError) as error:
        raise FormulaError(f"formula '{formula}' has no value at {sizes}: {error}") from error


def letters_of(formula):
    """Those that the formula, one that `evaluate` takes, depends on."""
    return {node.id for node in ast.walk(ast.parse(formula, mode="eval")) if isinstance(node, ast.Name)} & {*VARIABLES}


def terms_of(formula):
    """The terms of the sum that the formula is, as formulas."""

    def terms(node):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return terms(node.left) + terms(node.right)
        return [ast.unparse(node)]

    return terms(ast.parse(formula, mode="eval").body)


def printed(formula):
    """As the page shows it."""
    text = re.sub(r"\*\*(\d+)", lambda power: power[1].translate(SUPERSCRIPTS), formula)
    return text.replace(" * ", " ").replace("*", " ")
