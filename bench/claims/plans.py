# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: a base size and sweeps of one variable, or of m and n together, with the others held."""

PASSES = ("merge", "merge_backward", "forward", "backward")
LETTERS = "mnrbkt"

# Flops are counted one by one, which takes nanoseconds each, so that sizes are smaller than those that are timed.
LEVELS = {
    "full": {
        "count": {
            "base": {"m": 256, "n": 256, "r": 16, "b": 16, "k": 3, "t": 32},
            "sweeps": {"m": (64, 128, 256, 512, 1024), "r": (2, 4, 8, 16, 32, 64), "b": (4, 8, 16, 32, 64),
                       "k": (1, 2, 3, 4, 5), "t": (8, 16, 32, 64, 128)},
        },
        "time": {
            "base": {"m": 512, "n": 512, "r": 16, "b": 16, "k": 3, "t": 128},
            "sweeps": {"m": (128, 256, 512, 1024, 2048), "r": (2, 4, 8, 16, 32, 64), "b": (4, 8, 16, 32, 64),
                       "k": (1, 2, 3, 4, 5), "t": (32, 64, 128, 256, 512)},
        },
        "repetitions": 9, "min_time": 0.004,
        "orthogonality": ("--largest-m=4096", "--largest-r=128", "--seeds=5"),
        "sides": ("--largest-m=4096", "--largest-r=128", "--seeds=3"),
        "coverage": ("--order=16", "--steps=6000", "--seeds=3"),
        "seconds": {"count": 60, "time": 150, "orthogonality": 60, "sides": 60, "coverage": 80},
    },
    "quick": {
        "count": {
            "base": {"m": 128, "n": 128, "r": 8, "b": 8, "k": 3, "t": 16},
            "sweeps": {"m": (64, 128, 256), "r": (4, 8, 16, 32), "b": (4, 8, 16), "k": (1, 2, 4), "t": (8, 16, 32)},
        },
        "time": {
            "base": {"m": 256, "n": 256, "r": 8, "b": 8, "k": 3, "t": 64},
            "sweeps": {"m": (128, 256, 512), "r": (4, 8, 16, 32), "b": (4, 8, 16), "k": (1, 2, 4), "t": (32, 64, 128)},
        },
        "repetitions": 3, "min_time": 0.001,
        "orthogonality": ("--largest-m=1024", "--largest-r=64", "--seeds=2"),
        "sides": ("--largest-m=256", "--largest-r=32", "--seeds=1"),
        "coverage": ("--order=8", "--steps=2000", "--seeds=1"),
        "seconds": {"count": 3, "time": 12, "orthogonality": 3, "sides": 3, "coverage": 4},
    },
    "tiny": {
        "count": {
            "base": {"m": 32, "n": 32, "r": 4, "b": 4, "k": 2, "t": 8},
            "sweeps": {"m": (16, 32, 64), "r": (2, 4, 8), "b": (2, 4, 8), "k": (1, 2, 3), "t": (4, 8, 16)},
        },
        "time": {
            "base": {"m": 32, "n": 32, "r": 4, "b": 4, "k": 2, "t": 8},
            "sweeps": {"m": (16, 32, 64), "r": (2, 4, 8), "b": (2, 4, 8), "k": (1, 2, 3), "t": (4, 8, 16)},
        },
        "repetitions": 2, "min_time": 0.0001,
        "orthogonality": ("--largest-m=64", "--largest-r=8", "--seeds=1"),
        "sides": ("--largest-m=64", "--largest-r=8", "--seeds=1"),
        "coverage": ("--order=8", "--steps=200", "--seeds=1"),
        "seconds": {"count": 1, "time": 1, "orthogonality": 1, "sides": 1, "coverage": 1},
    },
}

# On a GPU there is no count of flops and no descent. Sizes are such that its processors have work and its second-level
# cache does not hold the weight; a size of the whole models is divided by less.
GPU_LEVELS = {
    "full": {
        "time": {
            "base": {"m": 4096, "n": 4096, "r": 16, "b": 16, "k": 3, "t": 2048},
            "sweeps": {"m": (512, 1024, 2048, 4096, 8192), "r": (4, 8, 16, 32, 64), "t": (512, 1024, 2048, 4096, 8192)},
        },
        "reduced": {"by": 2, "tokens": 2048, "sizes": {"r": 16, "b": 16, "k": 2}},
        "repetitions": 9, "min_time": 0.01,
        "seconds": {"count": 60, "time": 300},
    },
    "quick": {
        "time": {
            "base": {"m": 1024, "n": 1024, "r": 8, "b": 16, "k": 3, "t": 512},
            "sweeps": {"m": (512, 1024, 2048), "r": (4, 8, 16), "t": (256, 512, 1024)},
        },
        "reduced": {"by": 8, "tokens": 512, "sizes": {"r": 8, "b": 16, "k": 2}},
        "repetitions": 3, "min_time": 0.002,
        "seconds": {"count": 10, "time": 30},
    },
    "tiny": {
        "time": {
            "base": {"m": 32, "n": 32, "r": 4, "b": 4, "k": 2, "t": 8},
            "sweeps": {"m": (16, 32, 64), "r": (2, 4, 8), "t": (4, 8, 16)},
        },
        "reduced": {"by": 256, "tokens": 8, "sizes": {"r": 2, "b": 4, "k": 2}},
        "repetitions": 2, "min_time": 0.0001,
        "seconds": {"count": 1, "time": 1},
    },
}
for level in GPU_LEVELS.values():
    level["count"] = level["time"]


def passes_of(method):
    """Those that the method has."""
    return [which for which in PASSES if method[f"{which}_flops"]]


def methods_of(row):
    """The method that a row measures on the weight, and the one that it measures for one token."""
    return row["method"], row.get("token_method", row["method"])


def trains(method):
    """On activations, so that models can be summed up."""
    return {"forward", "backward"} <= {*passes_of(method)}


def sweeps_of(method, grid, token=False, on_weight=False):
    """Dict from the swept letters to [(x, sizes), …] for the variables that the method has."""
    base = dict(grid["base"], **({"t": 1} if token else {}))
    swept = {}
    for letters in ("m", "n", "mn", "r", "b", "k", "t"):
        if letters != "mn" and letters not in method["variables"]:
            continue
        if letters == "t" and (token or on_weight):
            continue
        values = grid["sweeps"]["m" if letters in ("n", "mn") else letters]
        swept[letters] = [(value, {**base, **dict.fromkeys(letters, value)}) for value in values]
    return swept


def key(method, which, sizes):
    return (method, which, *(sizes[letter] for letter in LETTERS))


def cases(methods, grid, table1, models):
    """All cases of a grid, each once, and those of the reduced models."""
    found = {}
    one_token = {methods_of(row)[1] for row in table1["rows"]}
    for method in methods.values():
        for which in passes_of(method):
            on_weight = which.startswith("merge")
            for points in sweeps_of(method, grid, on_weight=on_weight).values():
                for _, sizes in points:
                    found[key(method["name"], which, sizes)] = None
        if method["name"] in one_token:
            for points in sweeps_of(method, grid, token=True).values():
                for _, sizes in points:
                    found[key(method["name"], "forward", sizes)] = None
        for sizes in reduced_shapes(models) if trains(method) else ():
            for which in ("forward", "backward"):
                found[key(method["name"], which, sizes)] = None
    return list(found)


def reduced(layer, models):
    small = models["reduced"]
    return {"m": layer["m"] // small["by"], "n": layer["n"] // small["by"], "t": small["tokens"], **small["sizes"]}


def reduced_shapes(models):
    return [reduced(layer, models) for model in models["models"] for layer in model["linear"]]
