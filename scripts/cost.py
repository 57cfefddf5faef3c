#!/usr/bin/env python3
"""What a fault costs a VM that has nothing to do with conversions, in instructions, with the series and without it.

usage: cost.py

Boots the kernel of the base and that of the series, with the same configuration, in an emulator that counts instructions,
and runs guest/cost.c in both. Exit status 1 if any fault of an ordinary VM takes more instructions than in the base.
"""
import os
import sys

import commits
import common
import kernel
import machine
import report
from base import git
from common import BUILD, ROOT, Fail, Step, rel

MACHINE = "x86_64"
SOURCE = ROOT / "guest" / "cost.c"
# One CPU, or else the counter runs while another one works. An instruction is one nanosecond of the machine's time.
COUNTING = ("-smp", "1", "-icount", "shift=0,sleep=off")
# May cost more: looks at the memslot, too. Everything else may not.
WITH_PRIVATE_MEMORY = "attributes/"


def base_kernel(flavour):
    tree = commits.clone()
    git("fetch", "-q", "--force", common.LINUX, "HEAD", tree=tree)
    commits.checkout(tree, git("rev-list", "--max-parents=0", "FETCH_HEAD", tree=tree).split()[-1])
    obj = BUILD / "commits" / flavour.name / "base"
    kernel.build_kernel(flavour, tree, obj, "cost-base.log", f"compile {flavour.name} without the series", strict=False)
    return obj


def build_program(flavour):
    """Beside the selftests, with the headers of the series; it uses nothing that the base does not have."""
    kernel.build_programs(flavour, [])
    with Step("compile guest/cost.c", "cost-program.log") as step:
        step.run([*flavour.compiler()[0].split(), "-static", "-O2", "-Wall", "-Wextra", "-isystem", flavour.headers / "include",
                  "-o", flavour.programs / SOURCE.stem, SOURCE], env=kernel.ENV)


def measured(name, what, kernel_dir):
    """The instructions of each kind of fault: the median, and the lowest."""
    with Step(f"count with {what}", f"count-{what}.log"):
        os.environ["ACCEL"] = "tcg,thread=single"  # it counts instructions with one thread only
        log, said = machine.boot(name, [(600, [SOURCE.stem])], kernel_dir=kernel_dir, tag=f"-cost-{what}", extra=COUNTING)
    console = report.read_console(log)
    found = {}
    for run in console.runs:
        for _, line in run.lines:
            words = line.split()
            if len(words) == 5 and words[0] == "cost:":
                found[words[1]] = (int(words[2]), int(words[3]))
    if said or not found or any(run.end != "exit 0" for run in console.runs):
        raise Fail(said or "guest/cost.c did not end well", f"see {rel(log)}")
    return found


def main():
    if len(sys.argv) > 1:
        print(__doc__)
        return 2
    held = common.lock()
    flavour, _ = kernel.Flavour.machines()[MACHINE]
    kernel.build_kernel(flavour)
    without = base_kernel(flavour)
    build_program(flavour)
    series = flavour.kernel
    before, after = measured(MACHINE, "base", without), measured(MACHINE, "series", series)
    if before.keys() != after.keys():
        raise Fail("the two kernels were not measured alike", "see build/log/console-*-cost-*.log")
    held.close()
    dearer = 0
    print(f"{'instructions of a fault, median (lowest)':42} {'base':>16} {'series':>16}")
    for name, (median, lowest) in before.items():
        more = after[name][0] - median
        bad = more > 0 and not name.startswith(WITH_PRIVATE_MEMORY)
        dearer += bad
        print(f"{name:42} {f'{median} ({lowest})':>16} {f'{after[name][0]} ({after[name][1]})':>16} {more:+6}{'  MORE' if bad else ''}")
    print(f"{dearer} of {len(before)} kinds of fault cost an ordinary VM more than without the series")
    return 1 if dearer else 0


if __name__ == "__main__":
    common.main(main)
