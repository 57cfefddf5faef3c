#!/usr/bin/env python3
"""Reads the console of a test machine, or the output of one program: KTAP results and kernel complaints.

usage: report.py LOG    what a console says, for a person
"""
import dataclasses
import re
import sys

SKIP = 4  # exit status of a kernel selftest that was skipped

# What a healthy kernel never says. A line of the tests themselves is not searched.
SPLAT = re.compile(
    r"WARNING: |BUG: |kernel BUG |BUG kmalloc|KASAN|UBSAN|KCSAN|KMSAN|Oops|general protection fault|Kernel panic|"
    r"Internal error|Unable to handle kernel|possible recursive locking|possible circular locking|"
    r"suspicious RCU usage|INFO: task .* blocked|stall[s]? on CPU|detected stall|soft lockup|hard LOCKUP|"
    r"unreferenced object|bad page state|Bad page|list_(add|del) corruption|"
    r"refcount_t: |HYP panic|nVHE hyp [\w -]+ at: |printk messages dropped|cannot be killed")
KERNEL_LINE = re.compile(r"^\[ *\d+\.\d+\](?:\[[^\]]*\])? (.*)$")
LEAKS_FOUND = re.compile(r"kmemleak: (\d+) new suspected")
LEAK = re.compile(r"unreferenced object \S+ (\(size \d+\)):")
LEAK_CALLER = re.compile(r"    (\S+)\+0x")
OWN_LINE = re.compile(r"^gmem([:|+])(?: (.*))?$")


@dataclasses.dataclass
class Case:
    """One result. 'place' is the line of the log where it stands, 'detail' what was said just before."""
    name: str
    status: str  # ok, fail, skip
    reason: str = ""
    place: int = 0
    detail: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Run:
    """One program that ran: its lines as (line number, text), how it ended, the kernel's complaints meanwhile."""
    command: str
    lines: list = dataclasses.field(default_factory=list)
    end: str = ""  # "exit N", "signal N", "timeout", or "" when the machine died first
    seconds: float = 0.0
    splats: list = dataclasses.field(default_factory=list)  # (line number, [text...])
    place: int = 0


@dataclasses.dataclass
class Console:
    runs: list
    splats: list  # outside of any program: while booting, or after the end
    finished: bool
    last: int
    tail: list


RESULT = re.compile(r"^( *)(not )?ok (\d+)(?: +-)? *(.*?) *(?:# *(SKIP|TODO|XFAIL|XPASS|TIMEOUT|ERROR)\b:? *(.*))?$", re.I)
PLAN = re.compile(r"^( *)1\.\.(\d+)(?: *# *SKIP\b *(.*))?$", re.I)


def parse_ktap(lines):
    """The cases of a KTAP text, each level's plan checked. Returns (cases, whether a plan was seen).

    'lines' are pairs of line number and text. A result that sums up an indented level below it is
    no case of its own, unless it fails where nothing below did.
    """
    cases, detail = [], []
    plans, seen = {}, {}  # by depth: (planned number, line number), results so far
    below = {}  # by depth: the cases since the last result of that depth
    any_plan = False

    def close(depth):
        """A level has ended: compare with its plan."""
        for level in sorted([d for d in set(plans) | set(seen) if d >= depth], reverse=True):
            planned, place = plans.pop(level, (None, 0))
            got = seen.pop(level, 0)
            if planned is None and got and not level:
                cases.append(Case("plan", "fail", f"{got} results but no plan (1..N)", place, detail[-5:]))
            elif planned is not None and planned != got:
                cases.append(Case("plan", "fail", f"{planned} results planned, {got} came", place, detail[-5:]))

    for number, text in lines:
        text = text.rstrip()
        if plan := PLAN.match(text):
            depth = len(plan[1])
            any_plan = True
            if plan[2] == "0":
                cases.append(Case("all", "skip", (plan[3] or "no reason given").strip(" -"), number))
            plans[depth] = (int(plan[2]), number)
            continue
        if result := RESULT.match(text):
            depth = len(result[1])
            close(depth + 1)
            seen[depth] = seen.get(depth, 0) + 1
            children = below.pop(depth, [])
            for level in [d for d in below if d > depth]:
                del below[level]
            directive, reason = (result[5] or "").upper(), (result[6] or "").strip()
            status = "fail" if result[2] else "ok"
            if directive == "SKIP":
                status, reason = "skip", reason or "no reason given"
            elif directive in ("TODO", "XFAIL") and status == "fail":
                status, reason = "skip", f"expected failure: {reason or 'no reason given'}"
            name = result[4] or f"case {result[3]}"
            if seen[depth] != int(result[3]):
                cases.append(Case(name, "fail", f"numbered {result[3]}, but it is result {seen[depth]}", number))
            new = []
            if not children or (status == "fail" and all(c.status != "fail" for c in children)):
                new = [Case(name, status, reason, number, detail[-6:] if status == "fail" else [])]
                cases.extend(new)
            for level in range(depth):
                below.setdefault(level, []).extend(new)
            detail = []
            continue
        if text:
            detail.append(text)
    close(0)
    return cases, any_plan


def judge(run, ktap):
    """The cases of one program. 'ktap': it has to print KTAP; else its exit status is its one case.

    A plan is believed wherever there is one, and the exit status has to agree with the results.
    """
    cases, planned = parse_ktap(run.lines)
    text = [line for _, line in run.lines if line.strip()]
    last = run.lines[-1][0] if run.lines else run.place
    failed = any(case.status == "fail" for case in cases)
    skipped = cases and all(case.status == "skip" for case in cases)
    if not run.end:
        cases.append(Case("end", "fail", "the machine died or hung here", last, text[-6:]))
    elif run.end.startswith("signal"):
        cases.append(Case("end", "fail", f"killed by {run.end}", last, text[-6:]))
    elif run.end == "timeout":
        cases.append(Case("end", "fail", f"no end after {run.seconds:.0f} s", last, text[-6:]))
    else:
        status = int(run.end.split()[1])
        if ktap and not planned:
            if status == SKIP:
                cases.append(Case("all", "skip", skip_reason(text), last))
            else:
                cases.append(Case("output", "fail", f"no KTAP plan in the output, exit status {status}", last, text[-6:]))
        elif status == SKIP:
            if not skipped:
                if planned or cases:
                    cases.append(Case("exit status", "fail", "exit status says skipped, the results do not", last))
                else:
                    cases.append(Case("", "skip", skip_reason(text), last))
        elif status and not failed:
            cases.append(Case("exit status" if cases else "", "fail", f"exit status {status}", last, text[-6:]))
        elif not status and failed and planned:
            cases.append(Case("exit status", "fail", "exit status 0 although a case failed", last))
        elif not status and not cases:
            cases.append(Case("", "ok", "", last))
    for place, lines in run.splats:
        cases.append(Case("kernel log", "fail", lines[0].strip(), place, lines[1:6]))
    return cases


def skip_reason(text):
    """Older selftests say why they skip in a line of their own."""
    for line in reversed(text):
        if re.search(r"skip|not met|not supported|require", line, re.I):
            return re.sub(r"^(1\.\.0 )?(# *)?(ok \d+ )?(SKIP(PED)?\b:?)?[ -]*", "", line.strip(), flags=re.I) or line.strip()
    return text[-1].strip() if text else "no reason given"


def read_leaks(lines):
    """The objects of kmemleak's report, as a line that says by which functions each was allocated; its place and text."""
    leaks = []
    for number, text in lines:
        if leak := LEAK.match(text):
            leaks.append([f"unreferenced object {leak[1]}:", number, [text]])
        elif leaks:
            leaks[-1][2].append(text)
            if caller := LEAK_CALLER.match(text):
                leaks[-1][0] += f" {caller[1]}"
    return leaks


def read_console(path, allowed=lambda line: False):
    """Takes a console apart. 'allowed' tells complaints of the kernel that are known and argued.

    How many objects kmemleak found is a complaint, unless the report at the end has as many that are allowed.
    """
    runs, splats, tail = [], [], []
    current, splat, finished, number = None, None, False, 0
    at_end, found = [], []  # lines of PID 1; what kmemleak said, with the list of complaints that it belongs to
    with open(path, errors="replace", newline="") as file:
        text = file.read()
    for number, line in enumerate(re.split(r"\r*\n", text), 1):
        match = KERNEL_LINE.match(line)
        body = match[1] if match else line
        if body.strip():
            tail.append((number, line.rstrip()))
        own = OWN_LINE.match(body) if match else None
        if own and own[1] == ":":
            words = (own[2] or "").split()
            if words[:1] == ["begin"]:
                current = Run(" ".join(words[2:]), place=number)
                runs.append(current)
            elif words[:1] == ["end"] and current:
                current.end, _, took = " ".join(words[2:]).partition(",")
                current.seconds = int(took.split()[0]) / 1000
                current = None
            elif words[:1] == ["finished"]:
                finished = True
            elif current:
                current.lines.append((number, "# " + (own[2] or "")))
        elif own and current:
            if own[1] == "+" and current.lines:
                first, so_far = current.lines[-1]
                current.lines[-1] = (first, so_far + (own[2] or ""))
            else:
                current.lines.append((number, own[2] or ""))
        elif own:
            at_end.append((number, own[2] or ""))
        elif leaks := LEAKS_FOUND.search(body):
            found.append((int(leaks[1]), (number, [body]), current.splats if current else splats))
        else:
            # One complaint is many lines, some of which match again.
            if splat and number <= splat[0] + 40:
                if len(splat[1]) < 12 and not own:
                    splat[1].append(body)
                if not re.search(r"Kernel panic|Oops|BUG: KASAN", body):
                    continue
            if SPLAT.search(body) and not own and not allowed(body):
                splat = (number, [body])
                (current.splats if current else splats).append(splat)
    leaks = read_leaks(at_end)
    bad = [(number, [line, *text]) for line, number, text in leaks if not allowed(line)]
    if len(leaks) - len(bad) < sum(count for count, _, _ in found):
        for _, complaint, where in found:
            where.append(complaint)
    splats.extend(bad)
    return Console(runs, splats, finished, number, tail[-12:])


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    console = read_console(sys.argv[1])
    for run in console.runs:
        print(f"{run.command}: {run.end or 'no end'}, {run.seconds:.1f} s")
        for case in judge(run, ktap=False):
            print(f"  {case.status:4} {case.name} {case.reason} ({sys.argv[1]}:{case.place})")
    for place, lines in console.splats:
        print(f"  {sys.argv[1]}:{place}: {lines[0]}")
    print("finished" if console.finished else "the machine did not finish")
    return 0 if console.finished else 1


if __name__ == "__main__":
    sys.exit(main())
