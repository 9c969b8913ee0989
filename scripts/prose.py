# SPDX-License-Identifier: BSD-3-Clause
"""Prose of the pages that programs write, wrapped as all pages are."""

import textwrap

WIDTH = 100


def wrapped(text, first="", later=""):
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent=first, subsequent_indent=later,
                         break_long_words=False, break_on_hyphens=False) + "\n"


def paragraph(text):
    return wrapped(text)


def bullets(items):
    return "".join(wrapped(item, "- ", "  ") for item in items)
