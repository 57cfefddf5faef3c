#!/usr/bin/env python3
"""Compiles commits of the series in a clone of build/linux, beside the developer's tree.

usage: commits.py bisect      every patch compiles on its own, and passes tests; goes on where it was stopped
       commits.py warnings    the series adds no warning of W=1 or sparse to the files it touches
       commits.py reports     nor one of Sphinx, kernel-doc or, for virt/kvm, Coccinelle

ARCH names the kernel flavours, separated by blanks.
"""
import collections
import hashlib
import os
import re
import shutil
import sys

import common
import kernel
import series
import test
from base import git, git_env
from common import BUILD, LINUX, Fail, Step, rel

# A sparse that does not know this operator yet would be refused by the kernel's makefiles. What the
# replacement makes of the qualifiers does not matter here: both sides of the comparison are made with it.
SPARSE = "CHECK=sparse -D__typeof_unqual__=__typeof__"

# File, line and text of a report.
COCCINELLE = r"^(virt/kvm/\S+?):(\d+):[\d-]+: (.*)$"


def clone():
    """A work tree of its own that shares the objects of build/linux."""
    tree = BUILD / "commits" / "linux"
    if not (tree / ".git" / "complete").exists():
        shutil.rmtree(tree, ignore_errors=True)
        with Step("clone build/linux", "clone.log") as step:
            step.run(["git", "clone", "-q", "--shared", "--no-checkout", LINUX, tree], env=git_env())
            common.write(tree / ".git" / "complete", "")
    return tree


def checkout(tree, commit):
    # A file that does not differ keeps its time stamp, so only what a patch touches is compiled.
    git("checkout", "-q", "--force", "--detach", commit, tree=tree)


def flavours(default):
    return [kernel.Flavour(name) for name in (os.environ.get("ARCH") or default).split()]


def keep_apart(flavour):
    """Builds its programs where those of build/linux are not in the way."""
    flavour.dir = BUILD / "commits" / flavour.name
    flavour.headers, flavour.programs, flavour.tests = (flavour.dir / name for name in ("headers", "programs", "selftests"))


def sources_of(tree, program):
    """Where a program of tests/list comes from, in the kernel's tree."""
    if program.startswith("gmem-map"):
        return [f"tools/kvm/gmem-map/{program}.c"]
    samples = [path for path in kernel.sample_sources(tree, program) if path.exists()]
    return [str(path.relative_to(tree)) for path in samples] or [f"tools/testing/selftests/kvm/{program}.c"]


def tests_at(machine, tree, changed):
    """Those that a commit adds or changes; and if it changes the kernel, the quick ones that the base has."""
    first = series.root_commit()
    in_base = set(git("ls-tree", "-r", "--name-only", first, "tools/testing/selftests/kvm").split())
    kernel_changed = any(name.split("/")[0] not in ("tools", "samples", "Documentation", "MAINTAINERS") for name in changed)
    chosen = []
    for one in test.read_list():
        if one.machine != machine or one.group in ("soak", "kcsan"):
            continue
        sources = set(sources_of(tree, one.argv[0]))
        if sources & changed or kernel_changed and sources & in_base and len(one.argv) == 1 and one.seconds <= 60:
            chosen.append(one)
    return chosen


def passes(flavour, tree, obj, number, changed):
    """Boots the kernel of a commit on each machine, with the programs of that commit; returns what failed."""
    chosen = {name: tests for name, (own, _) in kernel.Flavour.machines().items()
              if own.name == flavour.name and (tests := tests_at(name, tree, changed))}
    if not chosen:
        return []
    keep_apart(flavour)
    kernel.build_programs(flavour, [one.argv[0] for tests in chosen.values() for one in tests], tree)
    results = test.Results()
    for machine, tests in chosen.items():
        test.boot(machine, tests, test.read_known(), results, kernel_dir=obj, programs=flavour, tag=f"-bisect-{number:04d}")
    return [f"{one.name}: {case.name or case.reason}" for one, cases, _, _ in results.rows for case in cases if case.status == "fail"]


def bisect():
    tree = clone()
    commits = series.commits_of()
    for flavour in flavours("x86_64 arm64"):
        obj = BUILD / "commits" / flavour.name / "kernel"
        config = hashlib.sha256(kernel.wanted_config(flavour)[0].encode()).hexdigest()[:12]
        for number, commit in enumerate(commits, 1):
            subject = git("log", "-1", "--format=%s", commit).strip()
            # By content, not by commit: a patch that was only reworded need not be compiled again.
            stamp = obj / "compiles" / f"{config}-{git('rev-parse', commit + '^{tree}').strip()}"
            if stamp.exists():
                print(f"   {flavour.name} {number}/{len(commits)} known to compile: {subject}")
                continue
            checkout(tree, commit)
            try:
                kernel.build_kernel(flavour, tree, obj, f"bisect-{flavour.name}-{number:04d}.log",
                                    f"{flavour.name} {number}/{len(commits)} {subject}", strict=False)
            except Fail as err:
                raise Fail(f"patch {number} of {len(commits)} does not compile for {flavour.name}: {subject}\n{err.what}",
                           "mend the patch in build/linux (git rebase -i), then run the same command again") from None
            changed = set(git("diff", "--name-only", f"{commit}^", commit).split())
            failed = passes(flavour, tree, obj, number, changed)
            if failed:
                raise Fail(f"patch {number} of {len(commits)} fails tests on {flavour.name}: {subject}\n"
                           + "\n".join(f"    {line}" for line in failed[:8]), "see build/log/console-*-bisect-*.log")
            common.write(stamp, "")
        print(f"{flavour.name}: each of {len(commits)} patches compiles on its own, and passes its tests")
    return 0


def touched(first, last):
    """The C files of the kernel proper between two commits; tools and samples have no W=1 build of their own."""
    names = git("diff", "--name-only", "--diff-filter=d", first, last, "--", "*.c", "*.h").split()
    return [name for name in names if name.split("/")[0] not in ("tools", "samples", "Documentation", "scripts")]


def targets_of(flavour, names):
    """What to give to make for these files. KVM's files are built from the directory of the architecture."""
    targets = set()
    for name in names:
        if name.startswith(("virt/kvm/", "include/")) or name.startswith(f"arch/{flavour.arch}/kvm/"):
            targets.add(f"arch/{flavour.arch}/kvm/")
        elif name.endswith(".c") and (not name.startswith("arch/") or name.startswith(f"arch/{flavour.arch}/")):
            targets.add(name[:-2] + ".o")
    return sorted(targets)


def left_out(target, tree, config):
    """Whether the configuration leaves out a file, which then may lack what it needs."""
    path = tree / target
    rules = re.findall(r"^[\w-]+-\$\((CONFIG_\w+)\)[ \t]*[+:]?=(.*)$", (path.parent / "Makefile").read_text(), re.M)
    symbols = {symbol for symbol, objects in rules if path.name in objects.split()}
    return bool(symbols) and not any(re.search(rf"^{symbol}=", config, re.M) for symbol in symbols)


def of_module(path, number, said):
    """sparse says so of each module_param() and MODULE_LICENSE(), in the base as well."""
    return said == "bad constant expression" and \
        path.read_text().splitlines()[number - 1].startswith(("module_param", "MODULE_"))


def warnings_at(flavour, tree, obj, commit, names, label):
    """Compiles the targets anew at a commit and counts their warnings, without line numbers."""
    checkout(tree, commit)
    targets = [t for t in targets_of(flavour, names) if t.endswith("/") or (tree / t).with_suffix(".c").exists()]
    found, places = collections.Counter(), {}
    for directory in (f"arch/{flavour.arch}/kvm", "virt/kvm"):
        shutil.rmtree(obj / directory, ignore_errors=True)
    for target in targets:
        if not target.endswith("/"):
            (obj / target).unlink(missing_ok=True)
    with Step(f"warnings {flavour.name} {label}", f"warnings-{flavour.name}-{label}.log") as step:
        kernel.configure(flavour, tree, obj, step, strict=False)
        config = (obj / ".config").read_text()
        if out := [t for t in targets if t.endswith(".o") and left_out(t, tree, config)]:
            targets = [t for t in targets if t not in out]
            print(f"   not compiled in this configuration: {' '.join(out)}")
        count = checked = 0

        def watch(line):
            nonlocal count, checked
            if re.match(r"  (CC|CHECK) ", line):
                count += 1
                checked += line.startswith("  CHECK ")
                step.progress(f"{count} files")
            match = re.match(r"(\S+?):(\d+)(?::\d+)?: (warning|error): (.*)", line)
            if match and not of_module(obj / match[1], int(match[2]), match[4]):
                name = os.path.relpath(os.path.normpath(obj / match[1]), tree)
                key = f"{name}: {match[4]}"
                found[key] += 1
                places[key] = f"{name}:{match[2]}: {match[4]}"

        step.run([*flavour.make(tree, obj), "W=1", "C=1", SPARSE, *targets], watch, env=kernel.ENV)
        if not checked:
            raise Fail("sparse did not look at any file", f"see {rel(step.log)}")
        step.note = f"{sum(found.values())} warnings"
    return found, places


def compile_tests(flavour, tree, names):
    """The selftests that the series touches, those that this architecture has."""
    top = "tools/testing/selftests/kvm/"
    touched_tests = [name.removeprefix(top)[:-2] for name in names if name.startswith(top) and name.endswith("_test.c")]
    if not touched_tests:
        return
    keep_apart(flavour)
    listed = (tree / top / "Makefile.kvm").read_text().splitlines()
    kernel.build_programs(flavour, [name for name in touched_tests if f"TEST_GEN_PROGS_{flavour.arch} += {name}" in listed], tree)


def warnings():
    first, last = series.root_commit(), git("rev-parse", "HEAD").strip()
    names = touched(first, last)
    if not names:
        print("the series touches no file of the kernel proper")
        return 0
    tree, bad = clone(), 0
    for flavour in flavours("x86_64 arm64"):
        obj = BUILD / "commits" / flavour.name / "warnings"
        before, _ = warnings_at(flavour, tree, obj, first, names, "base")
        after, places = warnings_at(flavour, tree, obj, last, names, "series")
        compile_tests(flavour, tree, git("diff", "--name-only", "--diff-filter=d", first, last).split())
        for key, count in sorted((after - before).items()):
            bad += count
            print(f"   new: {places[key]}" + (f" ({count} times)" if count > 1 else ""))
    print(f"{bad} new warnings" if bad else "no new warnings")
    return 1 if bad else 0


def messages(tree, pattern, text):
    """What a tool says about files, without line numbers, which move; where the first one is."""
    found, places = collections.Counter(), {}
    for name, line, said in re.findall(pattern, text, re.M):
        key = f"{os.path.relpath(os.path.normpath(tree / name), tree)}: {re.sub(r'line [0-9]+', 'line N', said)}"
        found[key] += 1
        places.setdefault(key, f"{name}:{line}: {said}")
    return found, places


def reports_at(tree, commit, names, label):
    checkout(tree, commit)
    names = [name for name in names if (tree / name).exists()]
    found, places = collections.Counter(), {}

    def take(step, pattern):
        more, where = messages(tree, pattern, step.log.read_text(errors="replace"))
        found.update(more)
        places.update(where)
        step.note = f"{sum(more.values())} warnings"

    # A page is built with its directory; the directory is the one that has an index.
    pages = sorted({os.path.dirname(name).removeprefix("Documentation/") for name in names if name.endswith(".rst")})
    if pages:
        with Step(f"Sphinx {label}", f"sphinx-{label}.log") as step:
            step.run(["make", "-C", tree, f"O={BUILD / 'commits' / 'docs'}", f"SPHINXDIRS={' '.join(pages)}", "SPHINXOPTS=-E",
                      "htmldocs"], env=kernel.ENV, todo="'make tools' installs Sphinx")
            take(step, r"^(?:WARNING: )?(\S+\.rst):(\d+): (?:WARNING|ERROR|SEVERE): (.*)$")
    sources = [name for name in names if name.endswith((".c", ".h"))]
    with Step(f"kernel-doc {label}", f"kernel-doc-{label}.log") as step:
        step.run([sys.executable, tree / "tools/docs/kernel-doc", "-none", "-Wall", *(tree / name for name in sources)], env=kernel.ENV)
        take(step, r"^(?:Warning|Error): (\S+?):(\d+) (.*)$")
    ours = [name for name in sources if name.startswith("virt/kvm/")]
    rules = [path for path in sorted((tree / "scripts/coccinelle").rglob("*.cocci"))
             if "virtual report" in (text := path.read_text()) and "script:ocaml" not in text]
    with Step(f"Coccinelle {label}", f"coccinelle-{label}.log") as step:
        for number, rule in enumerate(rules, 1):
            step.progress(f"{number}/{len(rules)} {rule.name}")
            options = re.search(r"^// Options: *(.*)$", rule.read_text(), re.M)
            step.run(["spatch", "-D", "report", "--very-quiet", "--no-show-diff", "--cocci-file", rule,
                      *(options[1].split() if options else []), *ours], cwd=tree, env=kernel.ENV)
        take(step, COCCINELLE)
    return found, places


def reports():
    first, last = series.root_commit(), git("rev-parse", "HEAD").strip()
    names = touched(first, last) + git("diff", "--name-only", "--diff-filter=d", first, last, "--", "*.rst").split()
    tree = clone()
    before, _ = reports_at(tree, first, names, "base")
    after, places = reports_at(tree, last, names, "series")
    new = after - before
    for key in sorted(new):
        print(f"   new: {places[key]}")
    print(f"{sum(new.values())} new reports" if new else "no new reports of Sphinx, kernel-doc and Coccinelle")
    return 1 if new else 0


def main():
    commands = {"bisect": bisect, "warnings": warnings, "reports": reports}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print(__doc__)
        return 2
    held = common.lock()
    series.tree(keep=True)
    status = commands[sys.argv[1]]()
    held.close()
    return status


if __name__ == "__main__":
    common.main(main)
