#!/usr/bin/env python3
"""Tells which of the lines that the series adds to virt/kvm the tests reach.

usage: coverage.py

Boots the tests of the x86_64 machines on a kernel with gcov, takes its counters from the second serial
port, and lists each added line that was never executed with its reason from tests/uncovered:

    FILE: SOURCE LINE -- reason

The source line is compared without the space around it, '*' stands for any characters. A line without
a reason is a failure, and so is a reason that nothing needs.
"""
import collections
import fnmatch
import json
import re
import sys

import common
import kernel
import series
import test
from base import git
from common import BUILD, LINUX, LOGS, ROOT, Fail, Step, output, rel

FLAVOUR = "x86_64-gcov"
GOAL = 95


def tests_to_run():
    """What 'make test' runs on any x86_64 machine with a plain boot, once each."""
    chosen = {}
    for one in test.read_list():
        if one.machine.startswith("x86_64") and one.group in ("sample", "gmem", "engine"):
            chosen.setdefault(" ".join(one.argv), one._replace(machine=FLAVOUR, name=f"{FLAVOUR}/{' '.join(one.argv)}"))
    return list(chosen.values())


def added_lines():
    """By file below virt/kvm: the numbers of the lines that are new."""
    added, name = collections.defaultdict(set), None
    for line in git("diff", "-U0", "--no-color", series.root_commit(), "HEAD", "--", "virt/kvm").splitlines():
        if line.startswith("+++ "):
            name = line[6:]
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            added[name].update(range(first, first + count))
    return {name: lines for name, lines in added.items() if name.endswith((".c", ".h"))}


def unpack(data, where):
    """Takes the counters out of what came over the serial port, and puts the compiler's notes beside them."""
    where.mkdir(parents=True, exist_ok=True)
    for old in where.iterdir():
        old.unlink()
    place, found = 0, []
    while place < len(data):
        head, _, _ = data[place:place + 512].partition(b"\n")
        size, _, path = head.decode(errors="replace").partition(" ")
        if not size.isdigit():
            raise Fail("the counters from the test machine are garbled", f"see {rel(where.parent)}")
        place += len(head) + 1
        stem = path.rsplit("/", 1)[-1].removesuffix(".gcda")
        (where / f"{stem}.gcda").write_bytes(data[place:place + int(size)])
        (where / f"{stem}.gcno").write_bytes((BUILD / FLAVOUR / "kernel" / "virt/kvm" / f"{stem}.gcno").read_bytes())
        found.append(stem)
        place += int(size)
    if not found:
        raise Fail("the test machine sent no counters", f"see {rel(LOGS / f'console-{FLAVOUR}.log')}")
    return found


def executed(where, stems):
    """By file: how often each line was executed. A header is counted in every object that includes it."""
    counts = collections.defaultdict(collections.Counter)
    for stem in stems:
        report = json.loads(output("gcov", "--json-format", "--stdout", where / f"{stem}.gcda", cwd=where))
        for file in report["files"]:
            if match := re.search(r"(?:^|/)(virt/kvm/[^/]+)$", file["file"]):
                for line in file["lines"]:
                    counts[match[1]][line["line_number"]] += line["count"]
    return counts


def read_reasons():
    reasons = []
    for number, line in enumerate((ROOT / "tests/uncovered").read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            where, _, reason = line.partition(" -- ")
            name, _, text = where.partition(": ")
            if not name or not text or not reason:
                raise Fail(f"tests/uncovered:{number} is not 'FILE: SOURCE LINE -- reason'")
            reasons.append((number, name.strip(), text.strip(), reason.strip()))
    return reasons


def judge(counts, reasons):
    total = hit = bad = 0
    used = set()
    for name, lines in sorted(added_lines().items()):
        source = (LINUX / name).read_text().splitlines()
        code = sorted(lines & counts[name].keys())
        missed = [line for line in code if not counts[name][line]]
        total, hit = total + len(code), hit + len(code) - len(missed)
        if code:
            print(f"{name}: {len(code) - len(missed)} of {len(code)} added lines of code")
        for line in missed:
            text = source[line - 1].strip()
            why = [(number, reason) for number, file, pattern, reason in reasons
                   if file == name and fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))]
            used.update(number for number, _ in why)
            bad += not why
            print(f"  {line:5} {text}\n        {why[0][1] if why else 'NO REASON GIVEN in tests/uncovered'}")
    for number, name, text, _ in reasons:
        if number not in used:
            print(f"note: tests/uncovered:{number} applies to nothing: {name}: {text}")
            bad += 1
    percent = 100 * hit / total
    print(f"{hit} of {total} added lines of code in virt/kvm were executed: {percent:.1f} % (goal {GOAL} %)")
    return 1 if bad or percent < GOAL else 0


def main():
    if sys.argv[1:]:
        print(__doc__)
        return 2
    held = common.lock()
    series.tree(keep=True)
    tests = tests_to_run()
    test.build(kernel.Flavour(FLAVOUR), tests)
    port = BUILD / FLAVOUR / "coverage.serial"
    port.unlink(missing_ok=True)
    results = test.Results()
    test.boot(FLAVOUR, tests, test.read_known(), results, extra=["-serial", f"file:{port}"])
    failed = results.summary([*tests, test.machine_row(FLAVOUR)])
    where = BUILD / FLAVOUR / "coverage"
    with Step("gcov") as step:
        stems = unpack(port.read_bytes(), where)
        counts = executed(where, stems)
        step.note = " ".join(sorted(stems))
    status = judge(counts, read_reasons())
    held.close()
    return status or failed


if __name__ == "__main__":
    common.main(main)
