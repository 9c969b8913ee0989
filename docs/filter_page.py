#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Prints a Markdown page as Doxygen understands it: filter_page.py FILE. Doxygen takes folded parts apart at their
paragraphs, a link to a heading by GitHub's name for a reference of its own (finish_site.py resolves that), and loses
what follows a link whose text goes over two lines."""
import pathlib
import re
import sys

page = pathlib.Path(sys.argv[1])
text = re.sub(r"\[([^\[\]\n]*)\n *([^\[\]\n]*\]\()", r"[\1 \2", page.read_text(encoding="utf-8"))
for line in text.split("\n"):
    line = re.sub(r"^(</?details>|<summary>.*</summary>)$", r"\\htmlonly[block]\1\\endhtmlonly", line)
    print(re.sub(r"\]\(#", f"]({page.name}#", line))
