#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Finishes what Doxygen wrote: finish_site.py HTML_FOLDER PAGE.md...

Links of Markdown pages lead to other pages, to headings by GitHub's names, and to files and pictures of the repository.
Doxygen leaves them as they are. Here pages and headings get the names that Doxygen gave them, and files are copied beside
the site. Small screens have no room for the navigation at the side: every page gets a link to the list of all pages, which
site.css shows there. Then every link of every page must lead somewhere: the program names those that do not, and fails.
"""
import html
import pathlib
import re
import shutil
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = "repository"  # folder of the site for files of the repository
CONTENT = '<div id="doc-content">'  # as Doxygen begins what stands beside the navigation
LINK = re.compile(r'(?P<name>href|src)="(?P<to>[^"]*)"')
HEADING = re.compile(r'<h\d[^>]*><a class="anchor" id="(?P<id>[^"]*)"></a>\s*(?P<text>.*?)</h\d>', re.S)


def slug(heading):
    """GitHub's name for a heading."""
    text = html.unescape(re.sub(r"<[^>]*>", "", heading)).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def html_name(page):
    if page == "README.md":
        return "index.html"
    return "md_" + re.sub(r"[^\w]", "_", page.removesuffix(".md")) + ".html"


class Site:
    def __init__(self, folder, pages):
        self.folder = folder
        self.pages = {page: html_name(page) for page in pages}
        if missing := [page for page, name in self.pages.items() if not (folder / name).exists()]:
            sys.exit(f"finish_site.py: Doxygen made no page of {', '.join(missing)}")
        self.headings = {name: self.headings_of(name) for name in self.pages.values()}

    def headings_of(self, name):
        """{GitHub's name: Doxygen's}, that of the page's title empty: it stands at the top."""
        text = (self.folder / name).read_text(encoding="utf-8")
        titles = {slug(title): "" for title in re.findall(r'<div class="title">(.*?)</div>', text, re.S)}
        return titles | {slug(found["text"]): found["id"] for found in HEADING.finditer(text)}

    def repaired(self, page, link):
        """The link as the site has it; as it is where it needs no change."""
        to = html.unescape(link).replace(".md::", ".md#")  # Doxygen takes a # in a table for C++'s scope
        if re.match(r"[a-z]+:", to) or (self.folder / to.partition("#")[0]).exists():
            return link
        path, _, fragment = to.partition("#")
        target = (ROOT / page).parent / urllib.parse.unquote(path)
        if not target.resolve().is_relative_to(ROOT) or not target.exists():
            return link
        target = target.resolve().relative_to(ROOT).as_posix()
        if target == ".":
            return "index.html"
        if (ROOT / target).is_dir():
            target = f"{target}/README.md" if f"{target}/README.md" in self.pages else target
        if target in self.pages:
            name = self.pages[target]
            fragment = self.headings[name].get(fragment, fragment)
            return f"{name}#{fragment}" if fragment else name
        return self.copied(target)

    def copied(self, target):
        """Beside the site; of a folder, a list of what it holds."""
        copy = self.folder / FILES / target
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / target).is_dir():
            names = sorted(path.name + ("/" if path.is_dir() else "") for path in (ROOT / target).iterdir())
            copy = copy.with_name(copy.name + ".txt")
            copy.write_text(f"{target}/ holds\n\n" + "\n".join(names) + "\n", encoding="utf-8")
        else:
            shutil.copyfile(ROOT / target, copy)
        return copy.relative_to(self.folder).as_posix()

    def finish(self):
        for page, name in self.pages.items():
            path = self.folder / name
            text = path.read_text(encoding="utf-8")
            repaired = LINK.sub(lambda link: f'{link["name"]}="{self.repaired(page, link["to"])}"', text)
            path.write_text(repaired, encoding="utf-8")
        self.link_contents()

    def link_contents(self):
        link = f'{CONTENT}\n<p class="to-contents"><a href="{html_name("docs/README.md")}">All pages</a></p>'
        found = 0
        for path in self.folder.glob("*.html"):
            text = path.read_text(encoding="utf-8")
            found += text.count(CONTENT)
            path.write_text(text.replace(CONTENT, link), encoding="utf-8")
        if found < len(self.pages):
            sys.exit(f"finish_site.py: not every page has {CONTENT}, where small screens get their link to all pages")

    def broken(self):
        """(page, link) of each link of the site that leads nowhere."""
        anchors = {}
        for path in sorted(self.folder.glob("*.html")):
            text = path.read_text(encoding="utf-8")
            anchors[path.name] = (text, set(re.findall(r'\b(?:id|name)="([^"]*)"', text)))
        for name, (text, _) in anchors.items():
            if command := re.search(r"@(?:section autotoc|ref /)\S*", text):  # Doxygen has lost its way in the page
                yield name, command.group()
            for link in LINK.finditer(text):
                to, _, fragment = html.unescape(link["to"]).partition("#")
                if re.match(r"[a-z]+:", to) or to.startswith("$"):  # another site; a template of Doxygen's
                    continue
                to = to.partition("?")[0] or name
                if not (self.folder / to).exists():
                    yield name, link["to"]
                elif fragment and to in anchors and fragment not in anchors[to][1]:
                    yield name, link["to"]


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: finish_site.py HTML_FOLDER PAGE.md...")
    site = Site(pathlib.Path(sys.argv[1]), sys.argv[2:])
    site.finish()
    broken = list(site.broken())
    for page, link in broken:
        print(f"finish_site.py: {page} has a link to {link}, which is not there", file=sys.stderr)
    if broken:
        sys.exit(1)
    print(f"{len(site.pages)} pages, no broken link")


if __name__ == "__main__":
    main()
