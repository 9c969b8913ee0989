# SPDX-License-Identifier: BSD-3-Clause
"""Debian's package descriptions and the section that each belongs to.

The texts are the one-line descriptions that apt knows of every package; the section is what a
model shall say. The rule that makes examples of them depends on apt's lists alone:

1. Of every stanza of `apt-cache dumpavail` whose section is one of SECTIONS, the description is
   taken, unless it says transitional, dummy or metapackage.
2. Packages of one source are one family, and so are sources whose names differ in a version at
   the end (gcc-11, gcc-12). A family gives one example: its package that is called as its source,
   else the first by name.
3. Families whose descriptions have the same letters give one example, the first by name.
4. A section keeps at most LARGEST families, those with the smallest SHA-256 of their names.
5. Another part of the same hash says which split a family is in: SHARES of them.

So no family, and no text, is in two splits, and a change of one package moves no other family
between them.
"""

import dataclasses
import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

# Those with the most families, without libs, libdevel, doc and devel, which name a kind of package.
SECTIONS = (
    "gnu-r",
    "golang",
    "haskell",
    "java",
    "javascript",
    "net",
    "perl",
    "python",
    "ruby",
    "rust",
    "science",
    "utils",
)
SHARES = {"train": 0.70, "validation": 0.10, "test": 0.20}
LARGEST = 1000  # families of a section
LONGEST = 32  # tokens; longer descriptions are cut

_EMPTY = re.compile(r"\b(transitional|dummy|meta-?package)\b", re.IGNORECASE)
_VERSION = re.compile(r"[-.]?\d[\d.]*$")


class DataError(Exception):
    """What keeps the data from being made, in words for the user."""


@dataclasses.dataclass(frozen=True, order=True)
class Example:
    """A description, the section it belongs to and the family that it comes from."""

    section: str
    family: str
    text: str


def read_lists() -> str:
    """All that apt knows of packages. DataError where there is no apt or it has no lists."""
    try:
        done = subprocess.run(
            ["apt-cache", "dumpavail"], capture_output=True, encoding="utf-8", check=True
        )
    except FileNotFoundError:
        raise DataError("there is no apt-cache: the descriptions are Debian's") from None
    except subprocess.CalledProcessError as error:
        raise DataError(f"apt-cache dumpavail failed: {error.stderr.strip()}") from None
    if not done.stdout.strip():
        raise DataError("apt has no lists of packages: apt-get update fetches them")
    return done.stdout


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The fields of each package, the first line of each."""
    for block in text.split("\n\n"):
        fields = {}
        for line in block.splitlines():
            name, colon, value = line.partition(":")
            if colon and not line[0].isspace():
                fields[name] = value.strip()
        if fields:
            yield fields


def family_of(source: str) -> str:
    """The name of a source without the version at its end."""
    return _VERSION.sub("", source) or source


def letters(text: str) -> str:
    """The lower-case letters of a text: what is left when versions and punctuation are not."""
    return "".join(c for c in text.casefold() if c.isalpha())


def _hash(family: str) -> bytes:
    return hashlib.sha256(family.encode()).digest()


def split_of(family: str) -> str:
    """The split that a family is in, by bytes 8 to 15 of its hash."""
    position = int.from_bytes(_hash(family)[8:16], "big") / 2**64
    for name, share in SHARES.items():
        position -= share
        if position < 0:
            return name
    return name


def examples_of(text: str) -> list[Example]:
    """The examples that the rule above makes of `apt-cache dumpavail`, sorted."""
    best: dict[str, tuple] = {}
    for fields in stanzas(text):
        section, package = fields.get("Section", ""), fields.get("Package", "")
        description = fields.get("Description") or fields.get("Description-en", "")
        if section not in SECTIONS or not letters(description) or _EMPTY.search(description):
            continue
        source = fields.get("Source", package).split()[0]
        family = family_of(source)
        candidate = (package != source, package, description, section)
        best[family] = min(best.get(family, candidate), candidate)

    by_text: dict[str, Example] = {}
    for family, (_, _, description, section) in sorted(best.items()):
        by_text.setdefault(letters(description), Example(section, family, description))
    chosen = []
    for section in SECTIONS:
        of_section = [e for e in by_text.values() if e.section == section]
        chosen += sorted(of_section, key=lambda e: _hash(e.family)[:8])[:LARGEST]
    return sorted(chosen)


def splits_of(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """The examples of each split, in their order. DataError where a section has none in one."""
    parts: dict[str, list[Example]] = {name: [] for name in SHARES}
    for example in examples:
        parts[split_of(example.family)].append(example)
    for name, part in parts.items():
        missing = sorted(set(SECTIONS) - {example.section for example in part})
        if missing:
            raise DataError(
                f"apt's lists give no {name} example of {', '.join(missing)}: the rule is for "
                "Debian's main component"
            )
    return parts


def fingerprint(examples: Iterable[Example]) -> str:
    """The first 16 digits of a SHA-256 of the examples: equal where they are the same."""
    lines = "\n".join("\t".join(dataclasses.astuple(example)) for example in examples)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def write_tokens(parts: dict[str, list[Example]], model: Path, path: Path) -> None:
    """Saves each split as token ids [examples, LONGEST], lengths [examples] and labels
    [examples], as the tokenizer in the folder `model` cuts the texts."""
    import torch
    from quietly import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    saved = {}
    for name, part in parts.items():
        cut = tokenizer(
            [example.text for example in part],
            padding="max_length",
            truncation=True,
            max_length=LONGEST,
            return_tensors="pt",
        )
        labels = torch.tensor([SECTIONS.index(example.section) for example in part])
        saved[name] = (cut.input_ids, cut.attention_mask.sum(1), labels)
    torch.save(saved, path)


def main() -> None:
    """Prints how many examples each section has in each split, and the fingerprint."""
    examples = examples_of(read_lists())
    parts = splits_of(examples)
    print(f"{'section':10}" + "".join(f"{name:>12}" for name in parts))
    for section in SECTIONS:
        counts = (sum(e.section == section for e in part) for part in parts.values())
        print(f"{section:10}" + "".join(f"{count:12}" for count in counts))
    print(f"{'all':10}" + "".join(f"{len(part):12}" for part in parts.values()))
    print(f"fingerprint {fingerprint(examples)}")


if __name__ == "__main__":
    main()
