# SPDX-License-Identifier: BSD-3-Clause
"""Which results are measurements, and which only show that everything runs."""

import sys

NO_MEASUREMENT = {"emulated": "on an emulated device", "small": "at small sizes", "dry_run": "in a dry run"}


def require_measured(results, where):
    """Ends the program, with `where` in front, when these results are not to be shown as measured."""
    made = [how for field, how in NO_MEASUREMENT.items() if results.get(field)]
    if made:
        device = results.get("device") or results["machine"]["device"]
        sys.exit(f"{where}: made {' and '.join(made)} ({device}), to see that everything runs: no time in it is measured")
