#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes Doxygen's layout: write_layout.py DOXYGEN TARGET PAGE.md... The navigation of the site has the sections of
docs/README.md with the pages that they list, then all other pages, then the API."""
import pathlib
import re
import subprocess
import sys
from xml.sax.saxutils import quoteattr

from finish_site import html_name

ROOT = pathlib.Path(__file__).resolve().parent.parent
INDEX = ROOT / "docs/README.md"
API = """
    <tab type="namespaces" visible="yes" title="Namespaces and functions"/>
    <tab type="classes" visible="yes" title="Classes"/>
    <tab type="files" visible="yes" title="Headers"/>
    <tab type="pages" visible="no"/>
"""


def sections():
    """[(title, [(title, html)])] of docs/README.md: its headings, and the pages that begin a line of their lists."""
    found = []
    for line in INDEX.read_text(encoding="utf-8").split("\n"):
        if heading := re.match(r"## ([^:]*)", line):
            found.append((heading[1], []))
        elif page := re.match(r"- \[([^\]]*)\]\(((?!\.\.)[^)#]*\.md)\)", line):
            found[-1][1].append((page[1], html_name(f"docs/{page[2]}")))
    return found


def others(pages, listed):
    """[(title, html)] of the pages that no section lists."""
    known = {name for _, section in listed for _, name in section} | {html_name("README.md")}
    rest = [page for page in pages if html_name(page) not in known]
    titles = [(ROOT / page).read_text(encoding="utf-8").split("\n")[0].removeprefix("# ") for page in rest]
    return list(zip(titles, map(html_name, rest)))


def navigation(pages):
    listed = sections()
    parts = ['<navindex>\n    <tab type="mainpage" visible="yes" title="Overview"/>']
    for title, section in [*listed, ("Examples and project", others(pages, listed))]:
        tabs = "".join(f'\n      <tab type="user" visible="yes" url={quoteattr(url)} title={quoteattr(name)}/>'
                       for name, url in section)
        parts.append(f'    <tab type="usergroup" visible="yes" title={quoteattr(title)}>{tabs}\n    </tab>')
    return "\n".join(parts) + API + "  </navindex>"


def main():
    doxygen, target = sys.argv[1], pathlib.Path(sys.argv[2])
    subprocess.run([doxygen, "-l", target], check=True, stdout=subprocess.DEVNULL)
    layout = target.read_text(encoding="utf-8")
    ours = re.sub(r"<navindex>.*</navindex>", lambda _: navigation(sys.argv[3:]), layout, flags=re.S)
    target.write_text(ours, encoding="utf-8")


if __name__ == "__main__":
    main()
