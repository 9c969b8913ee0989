# SPDX-License-Identifier: BSD-3-Clause
"""Exponents of measurements with intervals, and verdicts on claims.

A sample is a dict: sizes (letters to numbers) and values (the repetitions). A sweep is a list of samples in which one
variable, or several by one factor, grows and everything else is held.

A claim O(f₁ + f₂ + …) has a constant before each term. It gets the best ones: the nonnegative cᵢ that bring
F = Σ cᵢ fᵢ nearest to the measurements y by Σ log²(F / y) over all sweeps of the claim at once, so that a constant found
in one sweep must serve in all of them. The claimed exponent of a sweep is the slope of that fit in log-log coordinates over the swept points,
and stands beside the slope of the measurements over the same points, with its interval.
"""

import math

import numpy as np

CONFIDENCE = 0.95
SHORTEST_RANGE = 4  # the factor of a sweep that separates exponents at all
FEWEST_POINTS = 3
UNSEEN = 0.01  # a term whose share stays below this everywhere is not seen

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot tell"


def slope(x, y):
    """Of the least-squares line through log y over log x. y may have rows, one for each line."""
    lx = np.log(np.asarray(x, float))
    lx -= lx.mean()
    ly = np.log(np.asarray(y, float))
    return (ly - ly.mean(axis=-1, keepdims=True)) @ lx / (lx @ lx)


def straightness(x, y):
    """R² of that line; 1 for a constant."""
    lx, ly = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    deviation = ly - ly.mean()
    total = deviation @ deviation
    if total < 1e-12 * len(ly):
        return 1.0
    residual = deviation - slope(x, y) * (lx - lx.mean())
    return float(1 - residual @ residual / total)


def medians(samples):
    return np.array([float(np.median(sample["values"])) for sample in samples])


def interval(x, samples, seed=1, draws=2000):
    """Percentiles of the slope when the repetitions of each point are drawn anew with replacement.

    n repetitions drawn from n vary less than n new ones would, by √((n − 1) / n): deviations are widened by that.
    """
    rng = np.random.default_rng(seed)
    drawn = np.empty((draws, len(samples)))
    widening = 1.0
    for i, sample in enumerate(samples):
        values = np.asarray(sample["values"], float)
        n = len(values)
        drawn[:, i] = np.median(values[rng.integers(0, n, (draws, n))], axis=1)
        if n > 1:
            widening = max(widening, math.sqrt(n / (n - 1)))
    centre = float(slope(x, medians(samples)))
    slopes = centre + widening * (slope(x, drawn) - centre)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(slopes, [tail, 1 - tail])
    return float(min(low, centre)), float(max(high, centre))


def symmetric_fit(terms, y, rounds=100):
    """c >= 0 that minimises Σ log²(F / y), F = Σ cᵢ termsᵢ: too large by a factor counts as much as too small.

    Least squares again and again with the weights for which the minimum of the squares is one of the logarithms:
    (F − y) / (F L) = log(F / y) / F with the logarithmic mean L = (F − y) / log(F / y) of the round before.
    """
    c = nonnegative_fit(terms, y, y)
    best, least = c, math.inf
    for _ in range(rounds):
        fit = c @ terms
        if not (fit > 0).all():
            break
        logarithms = np.log(fit / y)
        distance = float(logarithms @ logarithms)
        if distance < least:
            best, least = c, distance
        near = abs(logarithms) < 1e-6
        mean = np.where(near, np.sqrt(fit * y), (fit - y) / np.where(near, 1, logarithms))
        c = nonnegative_fit(terms, y, np.sqrt(fit * mean))
    return best


def nonnegative_fit(terms, y, weights, steps=20000):
    """c >= 0 that minimises ‖(y − Σ cᵢ termsᵢ) / weights‖ (Lawson and Hanson's active sets)."""
    weights = np.asarray(weights, float)
    A = np.asarray(terms, float).T / weights[:, None]
    sizes = np.linalg.norm(A, axis=0)
    scale = np.where(sizes > 0, sizes, 1.0)
    A = A / scale
    b = np.asarray(y, float) / weights
    active = np.zeros(A.shape[1], bool)
    c = np.zeros(A.shape[1])
    for _ in range(steps):
        gradient = A.T @ (b - A @ c)
        gradient[active] = -np.inf
        if gradient.max(initial=-np.inf) <= 1e-10 * len(b):
            break
        active[int(np.argmax(gradient))] = True
        while True:
            trial = np.zeros_like(c)
            trial[active] = np.linalg.lstsq(A[:, active], b, rcond=None)[0]
            if (trial[active] > 0).all():
                c = trial
                break
            falling = active & (trial <= 0)
            if not (c[falling] > 0).any():  # what was taken in last falls at once
                active &= ~falling
                break
            step = np.min(c[falling] / (c[falling] - trial[falling]))
            c = c + step * (trial - c)
            active &= c > 1e-14
            c[~active] = 0
    return c / scale


def decide(claimed, low, high, kind, margin, factor, points):
    """kind: "bound", an upper bound as O(…) is; "growth", the growth itself."""
    if not all(map(math.isfinite, (claimed, low, high))):
        return UNKNOWN
    if points < FEWEST_POINTS or factor < SHORTEST_RANGE:
        return UNKNOWN
    if low > claimed + margin or (kind == "growth" and high < claimed - margin):
        return FAILS
    if high <= claimed + margin and (kind == "bound" or low >= claimed - margin):
        return HOLDS
    return UNKNOWN


def worst(verdicts):
    verdicts = list(verdicts)
    return next((v for v in (FAILS, UNKNOWN) if v in verdicts), HOLDS if verdicts else UNKNOWN)


def judge(sweeps, terms, kind, margin, seed=1):
    """The claim that measurements grow as a sum of `terms`, functions of sizes, with constants of their own.

    sweeps: dict from the swept letters to (x, samples). Returns the verdict, a row for each sweep, the constants, the
    share of each term at its greatest, and the fit at every point.
    """
    if kind not in ("bound", "growth"):
        raise ValueError(f"the kind of a claim is bound or growth, not '{kind}'")
    everything = [sample for _, samples in sweeps.values() for sample in samples]
    for sample in everything:
        for value in sample["values"]:
            if not 0 < value < math.inf:
                raise ValueError(f"a measurement is {value} at {sample['sizes']}, expected a positive number: no others have exponents")
    y = medians(everything)
    values = np.array([[term(sample["sizes"]) for sample in everything] for term in terms])
    constants = symmetric_fit(values, y)
    parts = constants[:, None] * values
    fit = parts.sum(axis=0)
    shares = (parts / np.where(fit > 0, fit, 1)).max(axis=1)
    rows, at = [], 0
    for letters, (x, samples) in sweeps.items():
        fitted = fit[at : at + len(samples)]
        at += len(samples)
        usable = (fitted > 0).all()
        claimed = float(slope(x, fitted)) if usable else math.nan
        measured = float(slope(x, medians(samples)))
        low, high = interval(x, samples, seed)
        rows.append(
            {
                "variable": letters,
                "from": float(min(x)),
                "to": float(max(x)),
                "claimed": claimed,
                "measured": measured,
                "low": low,
                "high": high,
                "r2": straightness(x, medians(samples)),
                "verdict": decide(claimed, low, high, kind, margin, max(x) / min(x), len(x)),
                "x": [float(v) for v in x],
                "y": medians(samples).tolist(),
                "fit": fitted.tolist(),
            }
        )
    return {
        "verdict": worst(row["verdict"] for row in rows),
        "kind": kind,
        "margin": margin,
        "rows": rows,
        "constants": constants.tolist(),
        "shares": shares.tolist(),
        "unseen": [i for i, share in enumerate(shares) if share < UNSEEN],
        "worst_ratio": float(np.max(np.maximum(fit / y, y / np.where(fit > 0, fit, np.nan)))),
    }
