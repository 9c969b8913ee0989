# SPDX-License-Identifier: BSD-3-Clause
"""Prose of the pages that programs write, wrapped as all pages are; and where in a page a program writes."""

import textwrap

WIDTH = 100


def wrapped(text, first="", later=""):
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent=first, subsequent_indent=later,
                         break_long_words=False, break_on_hyphens=False) + "\n"


def paragraph(text):
    return wrapped(text)


def bullets(items):
    return "".join(wrapped(item, "- ", "  ") for item in items)


def between_marks(writer, text, page):
    """The text of a page with `text` between the two lines that name the writer. RuntimeError where it has not one of
    each."""
    marks = f"<!-- written by {writer} -->", f"<!-- end of what {writer} writes -->"
    begin, end = (page.find(mark) for mark in marks)
    if any(page.count(mark) != 1 for mark in marks) or end < begin:
        raise RuntimeError(f"the page needs the lines {marks[0]} and {marks[1]}, one of each and in this order")
    return f"{page[:begin]}{marks[0]}\n{text}{page[end:]}"


def written_between(writer, text, path):
    """The same of the page at that path."""
    return between_marks(writer, text, path.read_text(encoding="utf-8"))
