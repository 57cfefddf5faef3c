#!/usr/bin/env python3
"""Breaks the series on purpose, one way at a time, and looks whether a test notices.

usage: mutants.py            each patch of tests/mutants, or with T=PATTERN those with that in their name
       mutants.py --curve    the size of a batch instead: what a conversion costs, and how long others wait

A mutant is a patch on top of the series. The text above it says what is broken, and each of its lines
'Test: MACHINE PROGRAM [ARGUMENT...]' names a test that has to fail, as in tests/list. It is compiled in
a clone of build/linux, so the developer's tree is never touched.
"""
import fnmatch
import os
import re
import sys

import commits
import common
import kernel
import machine
import report
import series
import test
from base import git, git_env
from common import BUILD, LOGS, ROOT, Fail, Step, rel

MUTANTS = ROOT / "tests" / "mutants"
CURVE = ("x86_64", "guest_memfd_stall_test", "-t", "convert")
SIZES = (32, 128, 512, 2048, 8192, 32768)


def work_tree():
    """The clone, at the last patch of the series."""
    tree = commits.clone()
    git("fetch", "-q", "--force", common.LINUX, "HEAD", tree=tree)
    commits.checkout(tree, git("rev-parse", "HEAD").strip())
    git("clean", "-q", "-d", "-f", tree=tree)
    return tree


def read_mutant(path, every):
    """What is broken, and the tests that must notice."""
    head = path.read_text().partition("\ndiff --git ")[0]
    listed = {(one.machine, one.argv[0]): one for one in every}
    chosen = []
    for words in map(str.split, re.findall(r"^Test: (.+)$", head, re.M)):
        one = listed.get(tuple(words[:2]))
        if not one:
            raise Fail(f"{rel(path)} names the test '{' '.join(words)}'", "tests/list has no such program for that machine")
        chosen.append(one._replace(name=f"{words[0]}/{' '.join(words[1:])}", argv=words[1:]))
    what = " ".join(re.sub(r"^Test: .*$", "", head, flags=re.M).split())
    if not chosen or not what:
        raise Fail(f"{rel(path)} has no line 'Test: MACHINE PROGRAM', or no text")
    return what, chosen


def failures(name, tests, tree, tag):
    """Runs the tests of one machine on the mutant; what failed, as (test, case)."""
    results = test.Results()
    known = test.read_known()
    if name == "host":
        for one in tests:
            argv = [word.replace("build/linux/", f"{rel(tree)}/").replace("/store/", f"/store-{tag}/") for word in one.argv]
            test.on_host(one._replace(argv=argv), known, results)
    else:
        flavour, _ = kernel.Flavour.machines()[name]
        obj = BUILD / "commits" / flavour.name / "mutants"
        kernel.build_kernel(flavour, tree, obj, f"mutant-{tag}.log", f"compile {flavour.name} with {tag}")
        test.boot(name, tests, known, results, kernel_dir=obj, tag=f"-{tag}")
    return [(one.name, case.name or case.reason) for one, cases, _, _ in results.rows
            for case in cases if case.status == "fail"]


def mutants():
    every = test.read_list()
    pattern = os.environ.get("T", "")
    paths = [path for path in sorted(MUTANTS.glob("*.patch"))
             if pattern in path.stem or fnmatch.fnmatchcase(path.stem, pattern)]
    if not paths:
        raise Fail(f"tests/mutants has no patch with '{pattern}' in its name")
    listed = [(path, *read_mutant(path, every)) for path in paths]
    for name in dict.fromkeys(one.machine for _, _, tests in listed for one in tests if one.machine != "host"):
        flavour, _ = kernel.Flavour.machines()[name]
        kernel.build_programs(flavour, [one.argv[0] for one in every if one.machine == name])
    survived = []
    for path, what, tests in listed:
        tree = work_tree()
        print(f"-- mutant {path.stem}: {what}")
        with Step(f"apply {path.stem}", f"mutant-{path.stem}.log") as step:
            step.run(["git", "-C", tree, "apply", "--whitespace=nowarn", path], env=git_env(),
                     todo=f"bring {rel(path)} up to date with the series")
        for one in tests:
            noticed = failures(one.machine, [one], tree, path.stem)
            print(f"   {path.stem}: " + (f"noticed by {noticed[0][0]}: {noticed[0][1]}"
                                         + (f", and {len(noticed) - 1} more" if len(noticed) > 1 else "")
                                         if noticed else f"NOT NOTICED by {one.name}"), flush=True)
            if not noticed:
                survived.append(f"{path.stem}: {one.name}")
    work_tree()
    print(f"{len(paths)} mutants, {len(survived)} not noticed" + "".join(f"\n  {line}" for line in survived))
    return 1 if survived else 0


def curve():
    """A kernel for each size of the batch; the numbers are what the test prints about itself."""
    name, *argv = CURVE
    flavour, _ = kernel.Flavour.machines()[name]
    kernel.build_programs(flavour, argv[:1])
    rows = []
    for size in SIZES:
        tree = work_tree()
        source = tree / "virt/kvm/guest_memfd.h"
        text, count = re.subn(r"(#define KVM_GMEM_BATCH_PAGES\s+)\d+", rf"\g<1>{size}", source.read_text())
        if count != 1:
            raise Fail("virt/kvm/guest_memfd.h does not define KVM_GMEM_BATCH_PAGES")
        common.write(source, text)
        obj = BUILD / "commits" / flavour.name / "mutants"
        kernel.build_kernel(flavour, tree, obj, f"curve-{size}.log", f"compile with batches of {size} pages")
        log, said = machine.boot(name, [(600, argv)], kernel_dir=obj, tag=f"-curve-{size}")
        for run in report.read_console(log).runs:
            rows += [(size, line.removeprefix("# stall: ")) for _, line in run.lines if line.startswith("# stall: ")]
        if said or not rows or rows[-1][0] != size:
            raise Fail(said or "the test printed no line '# stall:'", f"see {rel(log)}")
    work_tree()
    print("batch  result")
    for size, text in rows:
        print(f"{size:5}  {text}")
    return 0


def main():
    if sys.argv[1:] not in ([], ["--curve"]):
        print(__doc__)
        return 2
    held = common.lock()
    series.tree(keep=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    status = curve() if sys.argv[1:] else mutants()
    held.close()
    return status


if __name__ == "__main__":
    common.main(main)
