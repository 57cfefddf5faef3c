#!/usr/bin/env python3
"""Runs the tests of tests/list: builds what they need, boots the machines, sums up.

usage: test.py          all tests, or with T=PATTERN in the environment those with that in their name
       test.py --run    a sample VMM, its output on the terminal; ARCH and TYPE in the environment say which
       test.py --soak   the tests of the group 'soak', for S seconds in all
       test.py --kcsan  the tests of the group 'kcsan'

While one flavour is compiled, the machines of those before it run; at most two at a time.
"""
import collections
import concurrent.futures
import fnmatch
import os
import re
import subprocess
import sys
import time

import common
import kernel
import machine
import report
import series
from common import LOGS, ROOT, Fail, Step, rel

# The sample VMMs of 'make run', by ARCH and TYPE: in which machine, its time limit, its arguments.
GUEST = ["/guest/kernel", "/guest/gmem-boot-guest"]
SAMPLES = {"x86_64": {"software-protected": ("x86_64", 60, ["gmem-convert-vmm"]),
                      "swp-linux": ("x86_64", 600, ["gmem-boot-swp", "-c", "2", *GUEST]),
                      "snp": ("x86_64-snp", 60, ["gmem-convert-vmm", "--type", "snp"]),
                      "tdx": ("x86_64-tdx", 60, ["gmem-convert-vmm", "--type", "tdx"]),
                      "snp-linux": ("x86_64-snp", 1200, ["gmem-boot-snp", "-c", "2", *GUEST]),
                      "tdx-linux": ("x86_64-tdx", 600, ["gmem-boot-tdx", "-c", "2", *GUEST])},
           "arm64": {"pkvm-linux": ("arm64-protected", 600, ["gmem-boot-vmm", *GUEST])}}
# The same with VMM=, where Linux is the guest.
VMMS = {"qemu": {"software-protected": ("x86_64", 900, ["qemu-vmm-test", "--show"]),
                 "snp": ("x86_64-snp", 300, ["qemu-vmm-test", "--show", "--type", "snp"])}}
OWN_TARGET = ("soak", "kcsan")  # groups that are no part of 'make test'
RESULT = "test-result"
Test = collections.namedtuple("Test", "name machine group seconds ktap argv")
Known = collections.namedtuple("Known", "line name pattern reason used")


def read_list():
    """The tests of tests/list in its order."""
    tests = []
    machines = {"host", *kernel.Flavour.machines()}
    for number, line in enumerate((ROOT / "tests/list").read_text().splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 5 or not words[2].isdigit() or words[3] not in ("ktap", "exit"):
            raise Fail(f"tests/list:{number} is not 'MACHINES GROUP SECONDS ktap|exit PROGRAM [ARGUMENT...]'")
        for name in words[0].split(","):
            if name not in machines:
                raise Fail(f"tests/list:{number} names the machine '{name}'", f"there are: {' '.join(sorted(machines))}")
            tests.append(Test(f"{name}/{' '.join(words[4:])}", name, words[1], int(words[2]), words[3] == "ktap", words[4:]))
    return tests


def read_known():
    known = []
    for number, line in enumerate((ROOT / "tests/known-failures").read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split(" -- ")]
        if len(parts) != 3 or ": " not in parts[0] or not all(parts):
            raise Fail(f"tests/known-failures:{number} is not 'NAME: CASE -- reason -- when this line goes'")
        name, _, pattern = parts[0].partition(": ")
        known.append(Known(number, name.strip(), pattern.strip(), parts[1], []))
    return known


def allowed(known, name):
    """Tells complaints of a machine's kernel that tests/known-failures argues for."""
    def check(line):
        for entry in known:
            kind, _, where = entry.name.partition(" ")
            if kind == "console" and fnmatch.fnmatchcase(name, where) and re.search(entry.pattern, line):
                entry.used.append(line)
                return True
        return False
    return check


def excuse(known, test, cases):
    """Known failures become skips; one that passes is told, its line has to go."""
    for case in cases:
        for entry in known:
            if fnmatch.fnmatchcase(test.name, entry.name) and fnmatch.fnmatchcase(case.name, entry.pattern):
                entry.used.append(case.name)
                if case.status == "fail":
                    case.status, case.reason = "skip", f"known failure: {entry.reason}"
                elif case.status == "ok":
                    print(f"note: {test.name}: {case.name} passes now, see tests/known-failures:{entry.line}")
    return cases


class Results:
    def __init__(self):
        self.rows = []  # (test, cases, seconds, log)

    def add(self, test, cases, seconds, log):
        self.rows.append((test, cases, seconds, log))

    def summary(self, order):
        """One line a program, the reasons below it; the last line is the count."""
        count = collections.Counter()
        self.rows.sort(key=lambda row: order.index(row[0]))
        print("\n-- results")
        for test, cases, seconds, log in self.rows:
            kinds = collections.Counter(case.status for case in cases)
            count += kinds
            word = "not ok" if kinds["fail"] else "ok" if kinds["ok"] else "skip"
            detail = ", ".join(f"{kinds[kind]} {text}" for kind, text in
                               (("ok", "passed"), ("fail", "failed"), ("skip", "skipped")) if kinds[kind])
            print(f"{word:7}{test.name:58} {seconds:7.1f} s" + (f"  {detail}" if len(cases) > 1 else ""))
            reasons = collections.defaultdict(list)
            for case in cases:
                if case.status == "skip":
                    reasons[case.reason].append(case.name)
            for reason, names in reasons.items():
                title = f"{len(names)} cases" if len(names) > 3 else ", ".join(filter(None, names))
                print(f"         skip {title + ': ' if title else ''}{reason}")
            for case in cases:
                if case.status == "fail":
                    print(f"         FAIL {case.name + ': ' if case.name else ''}{case.reason}"
                          + (f"  at {rel(log)}:{case.place}" if case.place else ""))
                    for line in case.detail:
                        print(f"              | {line[:160]}")
        last = f"{count['ok']} passed, {count['fail']} failed, {count['skip']} skipped"
        common.write(LOGS / RESULT, last + "\n")
        print(last, flush=True)
        return 0 if count["ok"] and not count["fail"] else 1


def on_host(test, known, results):
    """A program that needs no machine; what it prints is its log."""
    log = LOGS / f"host-{re.sub(r'[^A-Za-z0-9]+', '-', ' '.join(test.argv)).strip('-')}.log"
    with Step(test.name, log.name) as step:
        run = report.Run(" ".join(test.argv))
        began = time.monotonic()
        with open(log, "wb") as file:
            child = common.start(test.argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                 env={**kernel.ENV, common.HELD: str(common.BUILD)})
            try:
                while child.poll() is None and time.monotonic() < began + test.seconds:
                    step.progress(f"{sum(1 for _ in open(log, 'rb'))} lines")
                    time.sleep(0.05)
                run.end = "timeout" if child.poll() is None else \
                    f"signal {-child.returncode}" if child.returncode < 0 else f"exit {child.returncode}"
            finally:
                common.end(child)
        run.seconds = time.monotonic() - began
        run.lines = list(enumerate(log.read_text(errors="replace").splitlines(), 1))
        cases = excuse(known, test, report.judge(run, test.ktap))
        step.note = verdict(cases)
    results.add(test, cases, run.seconds, log)


def verdict(cases):
    kinds = collections.Counter(case.status for case in cases)
    return f"{kinds['ok']} passed, {kinds['fail']} failed, {kinds['skip']} skipped"


def on_machine(name, tests, known, results):
    try:
        boot(name, tests, known, results)
    except Fail as err:
        broken(tests, f"{name} could not be booted", err, results)


def boot(name, tests, known, results, **options):
    """Boots one machine for all its tests, and judges what its console says."""
    with Step(f"boot {name}: {len(tests)} tests") as step:
        seen = ""

        def watch(text):
            nonlocal seen
            seen = (seen + text)[-4000:]
            begun = re.findall(r"gmem: begin (\d+) (.*)", seen)
            if begun:
                step.progress(f"test {begun[-1][0]}/{len(tests)} {begun[-1][1].strip()}")

        log, said = machine.boot(name, [(test.seconds, test.argv) for test in tests], watch, **options)
        console = report.read_console(log, allowed(known, name))
        total = []
        for number, test in enumerate(tests):
            if number < len(console.runs):
                run = console.runs[number]
                cases = excuse(known, test, report.judge(run, test.ktap))
                results.add(test, cases, run.seconds, log)
            else:
                cases = [report.Case("", "fail", "not run: the machine had died", console.last)]
                results.add(test, cases, 0.0, log)
            total += cases
        problems = [report.Case("kernel log", "fail", lines[0].strip(), place, lines[1:6]) for place, lines in console.splats]
        if said or not console.finished:
            tail = [line for _, line in console.tail[-6:]]
            problems.append(report.Case("machine", "fail", said or "it stopped before its tests were finished",
                                        console.last, tail))
        if problems:
            results.add(machine_row(name), problems, 0.0, log)
        step.note = f"{verdict(total + problems)} (log: {rel(log)})"


def machine_row(name):
    """Stands for the machine itself in the results: what happened outside of any test."""
    return Test(f"{name}", name, "", 0, False, [])


def build(flavour, tests):
    kernel.build_kernel(flavour)
    kernel.build_programs(flavour, [test.argv[0] for test in tests])


def broken(tests, reason, err, results):
    """Tests that could not even be started fail, each of them."""
    print(f"error: {err.what}\n  next: {err.todo}")
    detail = err.what.splitlines()
    for test in tests:
        results.add(test, [report.Case("", "fail", reason, detail=detail)], 0.0, LOGS)
        detail = []


def run_all(tests, known):
    results = Results()
    machines = kernel.Flavour.machines()
    flavours = list(dict.fromkeys(machines[test.machine][0].name for test in tests if test.machine != "host"))
    for test in tests:
        if test.machine == "host":
            on_host(test, known, results)
    boots = []
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=2)
    try:
        for name in flavours:
            mine = [test for test in tests if test.machine != "host" and machines[test.machine][0].name == name]
            try:
                build(kernel.Flavour(name), mine)
            except Fail as err:
                # The other machines still have something to tell.
                broken(mine, f"{name} could not be built", err, results)
                continue
            for where in dict.fromkeys(test.machine for test in mine):
                boots.append(pool.submit(on_machine, where, [t for t in mine if t.machine == where], known, results))
        for future in boots:
            future.result()
    except BaseException:
        common.end_all()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    for entry in known:
        where = entry.name.removeprefix("console ").partition("/")[0]
        met = any(fnmatch.fnmatchcase(test.machine, where) for test in tests)
        if met and not entry.used and not os.environ.get("T"):
            print(f"note: tests/known-failures:{entry.line} applied to nothing")
    return results.summary(tests + [machine_row(name) for name in machines])


def sample():
    """make run: the shortest way to a page that is converted in place."""
    arch = os.environ.get("ARCH") or next(iter(SAMPLES))
    if arch not in SAMPLES:
        raise Fail(f"no sample VMM for '{arch}'", f"there are those for: {' '.join(SAMPLES)}")
    vmm = os.environ.get("VMM")
    if vmm and (vmm not in VMMS or arch != "x86_64"):
        raise Fail(f"no VMM '{vmm}' for {arch}", f"there are: {' '.join(VMMS)}, for x86_64, and the samples without VMM=")
    kinds = VMMS[vmm] if vmm else SAMPLES[arch]
    kind = os.environ.get("TYPE") or next(iter(kinds))
    if kind not in kinds:
        raise Fail(f"no type of VM '{kind}' for {vmm or arch}", f"there are: {' '.join(kinds)}")
    name, seconds, argv = kinds[kind]
    flavour = kernel.Flavour.machines()[name][0]
    series.tree(keep=True)
    kernel.build_kernel(flavour)
    kernel.build_programs(flavour, [argv[0]] * bool(vmm))
    if not (flavour.programs / argv[0]).exists():
        raise Fail(f"the series has no samples/kvm/{argv[0]}.c yet", "this command needs it")
    print(f"-- boot {name} and run the sample VMM in it")
    began = time.monotonic()
    partial = ""

    def watch(text):
        # Only what the sample says; the rest is in the log.
        nonlocal partial
        *lines, partial = (partial + text).split("\n")
        for line in lines:
            own = re.search(r"\] gmem([|:]) ?(.*)", line.rstrip("\r"))
            if own and own[1] == "|":
                print("   | " + own[2], flush=True)
            elif own and own[2].startswith("begin"):
                print(f"   in the guest after {time.monotonic() - began:.1f} s", flush=True)

    log, said = machine.boot(name, [(seconds, argv)], watch, tag="-run")
    console = report.read_console(log)
    cases = [case for run in console.runs for case in report.judge(run, ktap=False)]
    splats = [lines[0] for _, lines in console.splats]
    bad = [f"{case.reason} (at {rel(log)}:{case.place})" for case in cases if case.status != "ok"] + splats
    if said or not console.finished:
        bad.append(said or "the machine stopped before the sample was finished")
    if bad or not cases:
        raise Fail("the sample VMM failed: " + "; ".join(bad or ["it did not run"]), f"see {rel(log)}")
    print(f"   boot: done in {time.monotonic() - began:.1f} s (log: {rel(log)})")
    return 0


def soak(tests):
    """The tests with their share of the time: an argument '30%' stands for that part of S."""
    text = os.environ.get("S", "")
    if not text.isdigit() or int(text) < 60:
        raise Fail("how long? S is not a number of seconds, 60 or more", "for example: make soak S=3600")

    def share(word):
        return str(int(text) * int(word[:-1]) // 100) if re.fullmatch(r"\d+%", word) else word

    return [test._replace(seconds=test.seconds + int(text), argv=[share(word) for word in test.argv])
            for test in tests]


def main():
    held = common.lock()
    if sys.argv[1:] == ["--run"]:
        return sample()
    if sys.argv[1:] in ([f"--{group}"] for group in OWN_TARGET):
        tests = [test for test in read_list() if f"--{test.group}" == sys.argv[1]]
        tests = soak(tests) if sys.argv[1] == "--soak" else tests
        series.tree(keep=True)
        return run_all(tests, read_known())
    if sys.argv[1:]:
        print(__doc__)
        return 2
    began = time.monotonic()
    known, every = read_known(), [test for test in read_list() if test.group not in OWN_TARGET]
    pattern = os.environ.get("T", "")
    tests = [test for test in every if pattern in test.name or fnmatch.fnmatchcase(test.name, pattern)
             or pattern == test.group]
    if not tests:
        raise Fail(f"no test in tests/list has '{pattern}' in its name or group", "tests/list has the names")
    (LOGS / RESULT).unlink(missing_ok=True)
    series.tree(keep=True)
    status = 1
    try:
        status = run_all(tests, known)
    finally:
        LOGS.mkdir(parents=True, exist_ok=True)
        common.write(LOGS / "test-time", f"{time.monotonic() - began:.0f} s\n")
    held.close()
    return status


if __name__ == "__main__":
    common.main(main)
