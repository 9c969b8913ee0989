# SPDX-License-Identifier: BSD-3-Clause
"""Where the plots of the page are, without what draws them."""


def folder_of(gpu):
    """Of bench/results."""
    return "claims_gpu" if gpu else "claims"


def plots(results):
    return f"../../bench/results/{folder_of('device' in results)}"


def slug(text):
    return text.lower().replace(",", "").replace(" ", "_")
