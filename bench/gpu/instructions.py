#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What ptxas made of the kernels in an executable or object file: a line for each kernel, and for each innermost loop with
matrix instructions. Takes cuobjdump and nvdisasm of CUDA (or of PyPI's nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm)
from PATH.

  instructions.py <file> [<part of a kernel's name> ...]   by default cluster_
"""

import collections
import re
import shutil
import subprocess
import sys

Loop = collections.namedtuple("Loop", "size opcodes around")  # around: size of the next larger loop, or 0
Kernel = collections.namedtuple("Kernel", "name registers stack size loops")


def innermost_loops(lines):
    """of the lines of one function: (opcodes, loops)"""
    opcodes, places, jumps = [], {}, []
    for line in lines:
        if instruction := re.match(r"\s*/\*([0-9a-f]{4,5})\*/\s+(?:@!?U?P\w+\s+)?(\w+)(.*?)\s*;", line):
            address, opcode, operands = instruction.groups()
            places[int(address, 16)] = len(opcodes)
            if opcode == "BRA" and (target := re.search(r"0x([0-9a-f]+)\s*$", operands)):
                jumps.append((int(target[1], 16), len(opcodes)))
            opcodes.append(opcode)
    spans = [(places[target], end) for target, end in jumps if places.get(target, end) < end]


    def within(a, b):
        return a != b and b[0] <= a[0] and a[1] <= b[1]

    loops = []
    for begin, end in sorted(a for a in spans if not any(within(b, a) for b in spans)):
        around = [b[1] - b[0] + 1 for b in spans if within((begin, end), b)]
        loops.append(Loop(end - begin + 1, collections.Counter(opcodes[begin : end + 1]), min(around, default=0)))
    return opcodes, loops


def functions(disassembly):
    """name: lines of each"""
    found, lines = {}, []
    for line in disassembly.splitlines():
        if name := re.match(r"\s*Function : (\w+)$", line):
            lines = found[name[1]] = []  # of the last architecture
        lines.append(line)
    return found


def short_name(name):
    """hoft::v0_1::sse2::cuda::sm_900::detail::run_cluster<hoft::...::apply_kernel<float> >(...): apply_kernel<float>"""
    plain = re.sub(r"hoft::(v\d+_\w+::)?(?:\w+::)?(cuda::)?(sm_\d+::)?(detail::)?", "", name)
    inside = re.match(r"void run(?:_cluster)?<(.*)>\(", plain)
    return (inside[1] if inside else plain).strip()


def kernels(file, wanted):
    def run(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    resources = {}
    for name, registers, stack in re.findall(
        r"Function (\w+):\s+REG:(\d+) STACK:(\d+)", run("cuobjdump", "--dump-resource-usage", file)
    ):
        resources[name] = (int(registers), int(stack))
    for name, lines in functions(run("cuobjdump", "-sass", file)).items():
        if name in resources and any(part in name for part in wanted):
            opcodes, loops = innermost_loops(lines)
            yield Kernel(short_name(run("c++filt", name).strip()), *resources[name], len(opcodes), loops)


def main(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.exit(__doc__)
    for tool in ("cuobjdump", "nvdisasm", "c++filt"):
        if shutil.which(tool) is None:
            sys.exit(f"instructions.py: no {tool} in PATH")
    for kernel in kernels(arguments[0], arguments[1:] or ["cluster_"]):
        print(f"{kernel.name}: {kernel.registers} registers, {kernel.stack} bytes of stack, {kernel.size} instructions")
        for loop in kernel.loops:
            if matrix := loop.opcodes["HMMA"]:
                most = ", ".join(f"{count} {opcode}" for opcode, count in loop.opcodes.most_common(6))
                print(f"  {matrix} matrix instructions in a loop of {loop.size}, in one of {loop.around}: {most}")


if __name__ == "__main__":
    main(sys.argv[1:])
