# SPDX-License-Identifier: BSD-3-Clause
"""Changes of single instructions of the PTX inside a program, in place and without compiling. Used by mutants.py."""
import collections
import json
import os
import random
import re
import subprocess

# kind: (pattern, what takes its place: no longer than what it matches)
RULES = {
    "barrier of a block": (rb"bar\.sync\s+0;", rb""),
    "barrier of a cluster": (rb"barrier\.cluster\.arrive;(.{0,400}?)barrier\.cluster\.wait;", rb"\1"),
    "wait for copies": (rb"mbarrier\.try_wait\.shared::cta\.b64 p, \[%r\d+\], %rd\d+;", rb"setp.eq.u32 p, 0, 0;"),
    "wait for stores": (rb"cp\.async\.bulk\.wait_group\.read\s+0;", rb"cp.async.bulk.wait_group.read 9;"),
    "rank of a cluster": (rb"mapa\.u64\s+(%rd\d+), (%rd\d+), %r\d+;", rb"mapa.u64 \1, \2, 0;"),
    "order of two parts": (rb"cvt\.r(.)\.bf16x2\.f32\s+(%r\d+), (%f\d+), (%f\d+);", rb"cvt.r\1.bf16x2.f32 \2, \4, \3;"),
    "bound of a loop": (rb"setp\.ge\.s(32|64)", rb"setp.gt.s\1"),
    "turned matrix": (rb"ldmatrix\.sync\.aligned\.m8n8\.x4\.trans\.shared\.b16", rb"ldmatrix.sync.aligned.m8n8.x4.shared.b16"),
    "order of matrices": (
        rb"(ldmatrix\.sync\.aligned\.m8n8\.x4\.shared\.b16 \{%r\d+), (%r\d+), (%r\d+), (%r\d+\})", rb"\1, \3, \2, \4"),
    "registers of A": (rb"(\{%r\d+), (%r\d+), (%r\d+), (%r\d+\}, \{%r\d+, %r\d+\})", rb"\1, \3, \2, \4"),
    "registers of B": (rb"(\{%r\d+, %r\d+, %r\d+, %r\d+\}), \{(%r\d+), (%r\d+)\}", rb"\1, {\3, \2}"),
}


def modules(data):
    """Where each PTX text lies in a program's fat binaries: [first, last) of the bytes."""
    found, at = [], 0
    while (at := data.find(b"\x50\xed\x55\xba", at)) >= 0:
        number = lambda place, size: int.from_bytes(data[place : place + size], "little")
        place, end = at + number(at + 6, 2), at + number(at + 6, 2) + number(at + 8, 8)
        while place < end <= len(data):
            header, payload = number(place + 4, 4), number(place + 8, 8)
            if number(place, 2) == 1:
                found.append((place + header, place + header + payload))
            place += header + payload
        at += 4
    return found


def executed(program, runs, report):
    """Lines of PTX that a change of is to be seen, and the kernels that execute them."""
    lines = collections.defaultdict(set)
    for _, command, environment in runs:
        command = [str(program) if part.endswith("/cuda_device_test") else part for part in command]
        report.unlink(missing_ok=True)
        subprocess.run(["env", *environment, f"PTXEMU_REPORT={report}", "PTXEMU_REPORT_LINES=1", *command],
                       check=True, capture_output=True)
        for launch in map(json.loads, report.open() if report.exists() else []):
            for line in launch.get("sites", []):
                lines[line].add(launch["kernel"])
    return lines


def places(program, lines, sample, seed):
    """Some places of each kind: (kind, kernel, line, first byte, last byte)."""
    data = program.read_bytes()
    of_kind = collections.defaultdict(list)
    for first, last in modules(data):
        starts = [first] + [first + m.end() for m in re.finditer(rb"\n", data[first:last])]
        for line in sorted(lines):
            if line > len(starts):
                continue
            text_end = starts[line] if line < len(starts) else last
            for kind, (pattern, _) in RULES.items():
                reach = text_end + (400 if b"cluster" in pattern else 0)
                if match := re.search(pattern, data[starts[line - 1] : reach], re.S):
                    if starts[line - 1] + match.start() < text_end:
                        begin = starts[line - 1] + match.start()
                        of_kind[kind].append((kind, min(lines[line]), line, begin, begin + len(match[0])))
    choose = random.Random(seed)
    return {kind: choose.sample(all_of, min(sample, len(all_of))) for kind, all_of in of_kind.items()}, {
        kind: len(all_of) for kind, all_of in of_kind.items()
    }


def write_changed(program, place, to):
    kind, _, _, first, last = place
    data = bytearray(program.read_bytes())
    pattern, new = RULES[kind]
    changed = re.sub(pattern, new, bytes(data[first:last]), flags=re.S)
    data[first:last] = changed.ljust(last - first)
    to.unlink(missing_ok=True)
    to.write_bytes(data)
    os.chmod(to, 0o755)


def entry_before(data, first):
    """The name of the kernel whose text holds that byte, and where its text begins."""
    begin = data.rindex(b".entry ", 0, first)
    return data[begin + len(b".entry ") : data.index(b"(", begin)], begin


def instruction_lines(data, begin):
    """Where the lines of a kernel lie that hold no place in a source, and what they say whatever stands around it."""
    end = data.find(b".entry ", begin + 1)
    for line in re.finditer(rb"[^\n]*\n", data[begin : end if end >= 0 else len(data)]):
        if b".loc" not in line[0] and b"$L__tmp" not in line[0]:
            yield begin + line.start(), re.sub(rb"\$L__BB\d+_", b"$L__BB_", line[0])


def in_other(program, place, other):
    """The same instruction in another program that has the same kernel, or None."""
    kind, kernel, line, first, last = place
    data, others = program.read_bytes(), other.read_bytes()
    name, begin = entry_before(data, first)
    for begins in re.finditer(re.escape(b".entry " + name + b"("), others):
        if found := in_kernel(data, begin, first, others, begins.start(), kind):
            return (kind, kernel, line, *found)
    return None


def in_kernel(data, begin, first, others, start, kind):
    """Where that instruction of one kernel lies in another one of the same text, or None."""
    moved = None
    for (at, here), (there_at, there) in zip(instruction_lines(data, begin), instruction_lines(others, start)):
        if at > first:
            break
        if here != there:
            return None
        moved = there_at + first - at
    same = moved is not None and re.compile(RULES[kind][0], re.S).match(others, moved)
    return same.span() if same else None


def source_of(program, place):
    """The line below include/hoft/cuda that the instruction was made from, and the one where that was inlined."""
    data = program.read_bytes()
    _, begin = entry_before(data, place[3])
    module = next(first for first, last in modules(data) if first <= place[3] < last)
    names = dict(re.findall(rb'\.file\s+(\d+)\s+"([^"]*)"', data[module:]))
    locations = re.findall(rb"\.loc\s+(\d+) (\d+)[^\n]*?(?:inlined_at (\d+) (\d+)[^\n]*)?\n", data[begin : place[3]])
    file, line, outer, outer_line = locations[-1]
    named = lambda file, line: f"{names[file].decode().rsplit('/cuda/', 1)[-1]}:{int(line)}"
    return named(file, line) + (f" in {named(outer, outer_line)}" if outer else "")
