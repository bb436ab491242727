#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What each BPF program costs the kernel's verifier, held against docs/verifier.md: a program that is refused where it
was accepted, or that grew by more than a quarter, fails. With --update the table with that kernel's lines written anew
is $HPTRACE_OUT/verifier.md."""

import argparse
import os
import subprocess
import sys

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)

from lib.report import Report  # noqa: E402

TABLE = os.path.join(here, "..", "..", "docs", "verifier.md")
MODULES = ("nf_nat", "ip_vs", "ip_tables", "nf_tables")
# Small numbers grow by more than a quarter at once.
SLACK = 40


def measure(program):
    """{(object, program): cells}"""
    for module in MODULES:
        subprocess.run(["modprobe", module], check=True)
    output = subprocess.run(["prlimit", "--memlock=unlimited", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {}
    for line in output.splitlines():
        bpf_object, name, verdict, *rest = line.split(maxsplit=3)
        found[(bpf_object, name)] = tuple(rest[0].split()) if verdict == "accepted" else ("refused", rest[0])
    return found


def read_table():
    """{kernel: {(object, program): (instructions, states)}}"""
    table = {}
    with open(TABLE, encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) == 5 and cells[0].startswith("debian-"):
                table.setdefault(cells[0], {})[(cells[1], cells[2])] = (cells[3], cells[4])
    return table


def write_table(table):
    with open(TABLE, encoding="utf-8") as file:
        head = file.read().split("| kernel |")[0]
    lines = ["| kernel | object | program | instructions | states |", "|---|---|---|---|---|"]
    lines += [f"| {kernel} | {' | '.join((*key, *cells))} |" for kernel in sorted(table) for key, cells in table[kernel].items()]
    with open(os.path.join(os.environ["HPTRACE_OUT"], "verifier.md"), "w", encoding="utf-8") as file:
        file.write(head + "\n".join(lines) + "\n")


def problem(known, now):
    if known is None:
        return "not in docs/verifier.md"
    if (known[0] == "refused") != (now[0] == "refused"):
        return f"was {' '.join(known)}"
    if now[0] != "refused" and int(now[0]) > int(known[0]) * 1.25 + SLACK:
        return f"grew from {known[0]} instructions"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="tests/verifier")
    parser.add_argument("--kernel", required=True, help="its name in the table")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    found = measure(options.program)
    table = read_table()
    if options.update:
        table[options.kernel] = found
        write_table(table)
    known = table.get(options.kernel, {})
    report = Report("verifier: " + os.uname().release, (("OBJECT", 7), ("PROGRAM", 28), ("COST", 24)))
    for key, now in found.items():
        wrong = problem(known.get(key), now)
        report.check([*key, " ".join(now)], [wrong] if wrong else [])
    for key in known.keys() - found.keys():
        report.check([*key, "gone"], ["in docs/verifier.md only"])
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
