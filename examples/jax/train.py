# SPDX-License-Identifier: BSD-3-Clause
"""A network learns Fashion-MNIST, and then the same images upside down by HOFT alone: its weights are frozen and turned.
By hoft's calls and by the same formulas in jax's own operations: the losses must be the same.

Usage: train.py [--quick]
"""

import argparse
import functools
import gzip
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from hoft_jax import hoft_linear, paired_gaussian, plain

FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
WIDTHS = (784, 256, 10)
COUNT, BATCH, RANK, MOMENTUM = 20_000, 128, 8, 0.9  # images, images of a step
# Two runs in double that round differently part by rounding, which training may multiply; half of the digits are left.
SAME = float(np.sqrt(np.finfo(np.float64).eps))


def read(kind):
    """(images [count, 784] in [0, 1], labels [count])."""
    with gzip.open(FOLDER / f"{kind}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(FOLDER / f"{kind}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images / np.float32(255), labels.astype(np.int32)


def network(layers, x):
    *hidden, last = layers
    for layer in hidden:
        x = jax.nn.relu(layer(x))
    return last(x)


def dense(weights, parameters):
    """The layers while all of the weights are trained."""
    return [lambda x, w=w: x @ w["M"].T + w["b"] for w in parameters]


def by_hoft(weights, parameters):
    return [lambda x, w=w, p=p: hoft_linear(x, w["M"], p["u"], p["v"], bias=w["b"]) for w, p in zip(weights, parameters)]


def by_formula(weights, parameters):
    return [
        lambda x, w=w, p=p: plain.hoft_linear(x, w["M"], p["u"], p["v"]) + w["b"] for w, p in zip(weights, parameters)
    ]


def cross_entropy(layers, weights, parameters, x, labels):
    scores = jax.nn.log_softmax(network(layers(weights, parameters), x))
    return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], 1))


@functools.partial(jax.jit, static_argnums=0)
def step(layers, weights, parameters, momentum, x, labels, rate):
    """One step of stochastic gradient descent with momentum: (loss, parameters, momentum)."""
    loss, gradients = jax.value_and_grad(cross_entropy, 2)(layers, weights, parameters, x, labels)
    momentum = jax.tree.map(lambda a, g: MOMENTUM * a + g, momentum, gradients)
    return loss, jax.tree.map(lambda p, a: p - rate * a, parameters, momentum), momentum


def train(layers, weights, parameters, images, labels, steps, rate):
    """(parameters, losses, milliseconds of a step)."""
    random = np.random.default_rng(1)
    momentum = jax.tree.map(jnp.zeros_like, parameters)
    losses, times = [], []
    for _ in range(steps):
        chosen = random.integers(0, len(images), BATCH)
        start = time.perf_counter()
        loss, parameters, momentum = step(
            layers, weights, parameters, momentum, images[chosen], labels[chosen], rate
        )
        losses.append(float(loss))
        times.append(1000 * (time.perf_counter() - start))
    return parameters, np.array(losses), statistics.median(times)


def start(dtype):
    """Weights as for a ReLU behind them, and reflectors whose products are the identity."""
    keys = iter(jax.random.split(jax.random.key(0), 6))
    weights, adapters = [], []
    for n, m in zip(WIDTHS, WIDTHS[1:]):
        M = jax.random.normal(next(keys), (m, n), dtype) * (2 / n) ** 0.5
        weights.append({"M": M, "b": jnp.zeros(m, dtype)})
        adapters.append({"u": paired_gaussian(next(keys), RANK, m, dtype), "v": paired_gaussian(next(keys), RANK, n, dtype)})
    return weights, adapters


def right(layers, weights, parameters, images, labels):
    scores = jax.jit(lambda w, p, x: network(layers(w, p), x))(weights, parameters, images)
    return 100 * float(jnp.mean(jnp.argmax(scores, 1) == labels))


def experiment(dtype, steps):
    """Losses by hoft and by the formula, in that type; prints what came out."""
    (images, labels), (test, test_labels) = read("train"), read("t10k")
    images, labels, test = images[:COUNT].astype(dtype), labels[:COUNT], test.astype(dtype)
    upside_down, test_upside_down = (a.reshape(-1, 28, 28)[:, ::-1].reshape(-1, 784) for a in (images, test))
    weights, adapters = start(dtype)
    weights, losses, _ = train(dense, [], weights, images, labels, steps, 0.05)
    print(f"{np.dtype(dtype).name}: trained on upright images, loss {losses[0]:.3f} to {losses[-20:].mean():.3f}")
    before = right(by_hoft, weights, adapters, test_upside_down, test_labels)
    found = {}
    for name, layers in (("hoft", by_hoft), ("formula", by_formula)):
        turned, losses, milliseconds = train(layers, weights, adapters, upside_down, labels, steps, 0.3)
        found[name] = losses
        after = right(layers, weights, turned, test_upside_down, test_labels)
        print(f"  upside down, by {name:7}: loss {losses[:20].mean():.3f} to {losses[-20:].mean():.3f}, "
              f"{before:.1f} % to {after:.1f} % right, {milliseconds:.2f} ms a step")  # fmt: skip
    return found["hoft"], found["formula"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--quick", action="store_true", help="200 steps instead of 1000")
    steps = 200 if arguments.parse_args().quick else 1000
    jax.config.update("jax_enable_x64", True)
    failed = False
    for dtype in (np.float32, np.float64):
        hoft, formula = experiment(dtype, steps)
        part = np.max(np.abs(hoft - formula) / formula)
        print(f"  the losses of {steps} steps differ by at most {part:.1e} of themselves")
        failed |= not hoft[-20:].mean() < 0.7 * hoft[:20].mean()
        failed |= dtype == np.float64 and not part <= SAME
    if failed:
        sys.exit("train.py: the loss did not fall, or the two ways part")


if __name__ == "__main__":
    main()
