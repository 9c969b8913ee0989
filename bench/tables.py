# SPDX-License-Identifier: BSD-3-Clause
"""The tables of ratios, for the terminal and for the page."""

from series import bandwidth, fraction_of_peak, fraction_of_roofline, over_hoft, speed

MACHINE = ("fma_peak", "copy", "copy_streaming", "copy_1_thread", "copy_2_threads", "peak_1_thread", "peak_2_threads")


def peers_of(case):
    return [name for name in case if name != "hoft" and name not in MACHINE]


def by_operation(cases):
    """{operation: {case: contestants}}, float before double, small before large; only cases with hoft in them."""
    operations = {}
    for name, case in cases.items():
        if "hoft" in case:
            operations.setdefault(name.split("/")[0], {})[name] = case

    def order(item):
        scalar, m, n, r = item[0].split("/")[1:]
        return scalar != "float", int(m) * int(n) * int(r), int(m)

    return {operation: dict(sorted(table.items(), key=order)) for operation, table in operations.items()}


def ratio_table(operation, cases):
    """Rows of text: hoft's own numbers, then each peer's median time / hoft's for the same job."""
    peers = sorted({peer for case in cases.values() for peer in peers_of(case)})
    rows = [[operation, "m", "n", "r", "hoft ms", "±%", "GFLOP/s", "% of peak", "% of roofline"] + peers]
    for name, case in cases.items():
        hoft = case["hoft"]
        row = name.split("/")[1:] + [
            f"{hoft['median_ms']:.3f}",
            f"{100 * hoft['spread']:.1f}",
            f"{speed(hoft) / 1e6:.1f}" if hoft["flops"] else "-",
        ]
        row += (
            [f"{100 * fraction_of_peak(case):.0f}", f"{100 * fraction_of_roofline(case):.0f}"]
            if hoft["flops"] and "fma_peak" in case and "copy" in case
            else ["-", "-"]
        )
        row += [f"{over_hoft(case, p):.2f}" if p in case else "-" for p in peers]
        rows.append(row)
    return rows


def machine_table(cases):
    """What the machine was found to do at most, over all cases: a clock that drifts shows in the range."""
    rows = [["", "median", "least", "most"]]
    for scalar in ("float", "double"):
        mine = [case for name, case in cases.items() if name.split("/")[1] == scalar and "fma_peak" in case]
        mine = [case for case in mine if "copy" in case]
        if not mine:
            continue
        for what, values in (
            (f"FMA peak, {scalar}, GFLOP/s", [speed(case["fma_peak"]) / 1e6 for case in mine]),
            (f"copy of {scalar}s, read + written, GB/s", [bandwidth(case) / 1e6 for case in mine]),
        ):
            values.sort()
            rows.append([what] + [f"{v:.1f}" for v in (values[len(values) // 2], values[0], values[-1])])
    return rows


def bound_text(bound, row):
    return "" if bound is None else ("≤ " if row["at_most"] else "") + value_text(bound, row["unit"])


def value_text(value, unit, more=0):
    """With `more` digits than usual."""
    digits = more + (2 if unit != "%" or value < 10 else 1)
    if 0 < value < 0.1:
        return f"{value:.{2 + more}g} {unit}"
    return f"{value:.{digits}f} {unit}" if unit != "×" else f"{value:.{digits}f}"


def value_beside_bounds(row):
    """With as many digits as show on which side of its bounds the value is."""
    for more in range(4):
        text = value_text(row["value"], row["unit"], more)
        shown = float(text.split()[0])
        bounds = [bound for bound in (row["must"], row["reach"]) if bound is not None]
        if all((shown > bound, shown < bound) == (row["value"] > bound, row["value"] < bound) for bound in bounds):
            break
    return text


def target_table(targets, head="measured"):
    rows = [["", head, "must", "reach for", ""]]
    rows += [
        [
            row["what"],
            value_beside_bounds(row),
            bound_text(row["must"], row),
            bound_text(row["reach"], row),
            row["verdict"],
        ]
        for row in targets
    ]
    return rows


def as_text(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]).rstrip()
        for row in rows
    )


def as_markdown(rows, align="right"):
    """The first column is text; align says which side the others keep."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + ("|---:" if align == "right" else "|---") * (len(rows[0]) - 1) + "|")
    return "\n".join(lines)
