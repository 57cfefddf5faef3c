#!/usr/bin/env python3
"""Builds the emulators of the machines: a pinned QEMU with patches/qemu.

usage: qemu.py         builds qemu-system-x86_64 and qemu-system-aarch64 in build/qemu/obj unless they are up to date
       qemu.py tree    makes build/qemu/src, a git tree with a commit for the base and one for each patch
       qemu.py export  writes its commits back to patches/qemu
       qemu.py check   strict apply, export is a no-op, trailers, QEMU's checkpatch; KTAP
       qemu.py test    runs those of QEMU's own tests that the patches add; KTAP
       qemu.py bisect  every patch compiles on its own

Nested guests of x86 go wrong in unpatched versions if each CPU has a thread, and none has a host for SNP guests;
pKVM goes wrong in that of Debian 12. config/qemu says what is built.
"""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading

import base
import common
import kernel
import series
from base import git, git_env
from common import BUILD, JOBS, ROOT, Fail, Step, output, rel

PROGRAMS = ("qemu-system-x86_64", "qemu-system-aarch64")
PATCHES = ROOT / "patches/qemu"
HOME = BUILD / "qemu"
SOURCE, OBJ, TOOLS = HOME / "src", HOME / "obj", HOME / "tools"
CONFIGURED = HOME / "stamp"  # says for what
PYTHON = "/usr/bin/python3"  # the distribution's, which has what its packages need
DEVICES = "configs/devices/aarch64-softmmu/gmem.mak"  # that config/qemu asks for; that of x86 comes with the same patch
FIRMWARE = ("/usr/share/seabios", "/usr/share/qemu")
UNIT_TESTS = ["tests/unit/test-ram-conversion"]
FUNCTIONAL_TESTS = ["tests/functional/test_convert_in_place.py"]
_lock = threading.Lock()  # machines are booted by threads


def command(argv):
    """A machine's emulator and arguments; built, and in place of the distribution's, if it is the one from here."""
    if argv[0] not in PROGRAMS:
        return argv
    with _lock:
        return [build(argv[0]), *(word for path in FIRMWARE for word in ("-L", path)), *argv[1:]]


def patch_files():
    return sorted(PATCHES.glob("*.patch"))


def key(pin):
    """What the result depends on. How it is configured is in config/qemu as well."""
    text = repr(sorted(pin.items())) + series.digest(patch_files()) + output("gcc", "--version", text=True)
    return hashlib.sha256(text.encode()).hexdigest()


def build(name=PROGRAMS[0]):
    """Both are configured together and share most objects; only what is asked for is compiled."""
    pin = common.settings(ROOT / "config/qemu")
    program, stamp = OBJ / name, HOME / f"{name}.stamp"
    want = key(pin)
    if program.exists() and stamp.exists() and stamp.read_text() == f"{want}\n{program.stat().st_mtime_ns}\n":
        return program
    stamp.unlink(missing_ok=True)
    tree(pin)
    if not CONFIGURED.exists() or CONFIGURED.read_text() != want:
        CONFIGURED.unlink(missing_ok=True)
        configure(OBJ, SOURCE, pin)
        common.write(CONFIGURED, want)
    program.unlink(missing_ok=True)  # whoever made it: ninja goes by the time
    compile_in(OBJ, [name], f"compile {name}", f"{name}-compile.log")
    common.write(stamp, f"{want}\n{program.stat().st_mtime_ns}\n")
    return program


def environment():
    return {**kernel.ENV, "PYTHONPATH": str(TOOLS / "usr/lib/python3/dist-packages")}


def configure(obj, src, pin):
    cc = "ccache gcc" if shutil.which("ccache") else "gcc"
    shutil.rmtree(obj, ignore_errors=True)
    obj.mkdir(parents=True)
    with Step("configure QEMU", "qemu-configure.log") as step:
        step.run([src / "configure", f"--python={PYTHON}", f"--cc={cc}", *pin["configure"].split()], cwd=obj, env=environment())


def compile_in(obj, names, title, log, strict=False):
    def watch(line):
        if done := re.match(r"\[(\d+)/(\d+)\]", line):
            step.progress(f"{done[1]}/{done[2]} steps {100 * int(done[1]) // int(done[2])}%")

    with Step(title, log) as step:
        step.run(["ninja", f"-j{JOBS}", *names], watch, cwd=obj, env=environment())
        if strict and (warnings := re.findall(r"^.* warning: .*$", step.log.read_text(errors="replace"), re.M)):
            raise Fail(f"{title}: {len(warnings)} warnings\n    " + "\n    ".join(warnings[:6]), f"see {rel(step.log)}")


def fetch(pin):
    """Puts the tarball into build/dl, and unpacks the tools that build it."""
    tarball = BUILD / "dl" / pin["tarball"]
    if tarball.exists():
        base.verify(tarball, pin["tarball-sha256"])
    if TOOLS.exists() and (tarball.exists() or later()):
        return
    with Step(f"fetch {pin['package']} {pin['version']} and what builds it", "qemu-fetch.log") as step:
        apt = base.Apt(BUILD / "dl/apt-qemu", pin, step, f"see {rel(step.log)}; check the network and run it again")
        if not tarball.exists():
            only = ["source", "--download-only", "--tar-only"]
            size = int(pin["tarball-size"])
            try:
                os.replace(apt.get(size, *only, f"{pin['package']}={pin['source-version']}")[0], tarball)
            except Fail:
                # The archive's signature vouches for it instead of the checksum.
                got = apt.get(size, *only, pin["package"])[0]
                if not got.name.startswith(prefix(pin)):
                    raise
                os.replace(got, BUILD / "dl" / got.name)
        new = TOOLS.with_name("tools.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)  # dpkg-deb makes no parents
        for package in apt.get(1 << 20, "download", *pin["tools"].split()):
            step.run(["dpkg-deb", "-x", package, new])
        shutil.rmtree(TOOLS, ignore_errors=True)
        os.replace(new, TOOLS)
    if tarball.exists():
        base.verify(tarball, pin["tarball-sha256"])


def prefix(pin):
    """How the names of the tarballs begin that may stand in for the pinned one."""
    return f"{pin['package']}_{pin['version'].rpartition('.')[0]}."


def later():
    return next(reversed(sorted((BUILD / "dl").glob(prefix(common.settings(ROOT / "config/qemu")) + "*.orig.tar.xz"))), None)


def own_work():
    """What is in build/qemu/src but not in patches/qemu, in words; '' where nothing is."""
    if not (SOURCE / ".git").exists():
        return ""
    if any((SOURCE / ".git" / name).exists() for name in ("rebase-merge", "rebase-apply")):
        return "a rebase that is not finished"
    changed, new = base.uncommitted(SOURCE)
    if changed or new:
        return "uncommitted changes"
    head, known = git("rev-parse", "HEAD", tree=SOURCE).strip(), series.ref(series.EXPORTED, SOURCE)
    # A tree without that ref is from before there was one, when nobody worked in it.
    return "" if not known or head in (known, series.root_commit(SOURCE)) else "commits that are not in patches/qemu"


def tree(pin):
    """Brings build/qemu/src up to date with patches/qemu, without losing work in it."""
    known = SOURCE / ".git" / "gmem-patches"
    if work := own_work():
        raise Fail(f"build/qemu/src has {work}", "run 'scripts/qemu.py export' to keep the work, or throw it away yourself: rm -r build/qemu/src")
    fetch(pin)
    if known.exists() and known.read_text() == series.digest(patch_files()):
        return
    tarball = BUILD / "dl" / pin["tarball"]
    strict = tarball.exists()
    tarball = tarball if strict else later()
    if not strict:
        print(f"-- the archive has {tarball.name} instead of the pinned {pin['tarball']}: applying with a three-way merge")
    new = SOURCE.with_name("src.new")
    shutil.rmtree(new, ignore_errors=True)
    with Step(f"unpack {tarball.name}", "qemu-unpack.log") as step:
        base.unpack(tarball, new, step, "--exclude=*/roms/*")
        step.run(["git", "-C", new, "init", "-q", "-b", "series"], env=git_env())
        step.run(["git", "-C", new, "add", "-A", "-f"], env=git_env())
        root = git("write-tree", tree=new).strip()
        if strict and root != pin["base-tree"]:
            raise Fail(f"the unpacked QEMU has the git tree {root}, config/qemu pins {pin['base-tree']}",
                       "config/qemu is inconsistent: it needs mending")
        base.commit_base(new, root, f"QEMU {pin['version']}")
        files = patch_files()
        tip = (series.apply(series.root_commit(new), files, strict, step.progress, tree=new) or ["HEAD"])[-1]
        got = git("rev-parse", tip + "^{tree}", tree=new).strip()
        if strict and got != pin["series-tree"]:
            raise Fail(f"after the last patch QEMU's git tree is {got}, config/qemu says {pin['series-tree']}",
                       "patches/qemu and config/qemu do not belong together: restore them from git")
        step.run(["git", "-C", new, "reset", "-q", "--hard", tip], env=git_env())
        step.note = f"{len(files)} patches"
    shutil.rmtree(SOURCE, ignore_errors=True)
    os.replace(new, SOURCE)
    record()


def record():
    """Notes that the patches and the commits of build/qemu/src are the same series; rebase and amend keep notes."""
    git("update-ref", series.EXPORTED, "HEAD", tree=SOURCE)
    git("config", "notes.rewriteRef", "refs/notes/commits", tree=SOURCE)
    common.write(SOURCE / ".git" / "gmem-patches", series.digest(patch_files()))


def format_to(directory, first, last):
    git(*series.FORMAT, "-o", directory, f"{first}..{last}", tree=SOURCE)
    return sorted(pathlib.Path(directory).glob("*.patch"))


def export():
    if not (SOURCE / ".git").exists():
        raise Fail("there is no build/qemu/src to export", "run 'scripts/qemu.py tree' first")
    if (work := own_work()) and "commits" not in work:
        raise Fail(f"build/qemu/src has {work}", "commit it, or finish the rebase, then export")
    if git("rev-parse", series.root_commit(SOURCE) + "^{tree}", tree=SOURCE).strip() != common.settings(ROOT / "config/qemu")["base-tree"]:
        raise Fail("build/qemu/src is not based on the pinned QEMU", "port the work to a tree of the pinned one")
    with tempfile.TemporaryDirectory() as directory:
        files = format_to(directory, series.root_commit(SOURCE), "HEAD")
        for path in patch_files():
            path.unlink()
        for path in files:
            common.write(PATCHES / path.name, path.read_bytes())
    config = ROOT / "config/qemu"
    root = git("rev-parse", "HEAD^{tree}", tree=SOURCE).strip()
    common.write(config, re.sub(r"^(series-tree +)[0-9a-f]+", rf"\g<1>{root}", config.read_text(), flags=re.M))
    record()
    print(f"{len(files)} patches")


def check():
    pin, files, problems = common.settings(ROOT / "config/qemu"), patch_files(), []
    tree(pin)
    first, tip = series.root_commit(SOURCE), ""
    ktap = series.Ktap(2 + len(files))
    if git("rev-parse", first + "^{tree}", tree=SOURCE).strip() != pin["base-tree"]:
        for name in ("the series applies strictly", "apply and export change no byte"):
            ktap.result(name, [], skip="the base is not the pinned one")
    else:
        try:
            tip = series.apply(first, files, True, tree=SOURCE)[-1]
            if git("rev-parse", tip + "^{tree}", tree=SOURCE).strip() != pin["series-tree"]:
                problems = ["it does not make the tree that config/qemu names"]
        except Fail as err:
            problems = [err.what]
        ktap.result("the series applies strictly to the pinned QEMU, and makes the tree in config/qemu", problems)
        with tempfile.TemporaryDirectory() as directory:
            again = format_to(pathlib.Path(directory, PATCHES.name), first, tip) if tip else []
            ktap.result("apply and export change no byte", series.difference(files, again))
    for path in files:
        ktap.result(f"qemu/{path.name}", series.check_trailers(series.Patch(path, SOURCE)) + checkpatch(path))
    return 1 if ktap.failed else 0


def test():
    """Unit tests and functional tests, in QEMU's own style, as far as they need no guest."""
    program = build(PROGRAMS[0])
    compile_in(OBJ, UNIT_TESTS, "compile QEMU's unit tests", "qemu-unit-compile.log")
    python = [PYTHON, "-B"]
    paths = [str(SOURCE / "python"), str(SOURCE / "tests/functional"), environment()["PYTHONPATH"]]
    env = {**environment(), "PYTHONPATH": ":".join(paths), "QEMU_TEST_QEMU_BINARY": str(program), "QEMU_BUILD_ROOT": str(OBJ)}
    commands = [([OBJ / name], name) for name in UNIT_TESTS] + [([*python, SOURCE / name], name) for name in FUNCTIONAL_TESTS]
    results = []
    for argv, name in commands:
        done = subprocess.run(argv, cwd=OBJ, env=env, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        found = re.findall(r"^(not )?ok \d+ (?:- )?(.*?)(?: # SKIP (.*))?$", done.stdout, re.M)
        if done.returncode or not found:
            found.append(("not ", f"{name} ends with exit status {done.returncode}", ""))
        results += [(title, [done.stdout[-1500:]] if failed else [], skip) for failed, title, skip in found]
    ktap = series.Ktap(len(results))
    for title, problems, skip in results:
        ktap.result(title, problems, skip)
    return 1 if ktap.failed else 0


def checkpatch(path):
    """That of QEMU, which knows no exceptions: what it says of a patch is argued in a note 'checkpatch: TEXT: reason'."""
    argued = [line.partition(": ")[0] for line in series.Patch(path, SOURCE).note_trailers("checkpatch")]
    done = subprocess.run(["perl", "scripts/checkpatch.pl", "--no-signoff", "--terse", "--no-summary", path], cwd=SOURCE, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [f"checkpatch: {line.replace(str(path), path.name)}" for line in done.stdout.splitlines()
            if re.search(r": (ERROR|WARNING): ", line) and not any(text in line for text in argued)]


def bisect():
    """In a tree of its own; by content, so that what is known to compile is not compiled again."""
    pin = common.settings(ROOT / "config/qemu")
    tree(pin)
    home = BUILD / "commits/qemu"
    src, obj, stamps = home / "src", home / "obj", home / "compiles"
    if not (src / ".git").exists():
        git("clone", "-q", "--shared", "--no-checkout", SOURCE, src, tree=BUILD)
    git("fetch", "-q", "--force", SOURCE, "HEAD", tree=src)
    commits = git("rev-list", "--reverse", f"{series.root_commit(SOURCE)}..FETCH_HEAD", tree=src).split()
    how, configured, compiled = hashlib.sha256(pin["configure"].encode()).hexdigest()[:12], False, 0
    for number, commit in enumerate(commits, 1):
        subject = git("log", "-1", "--format=%s", commit, tree=src).strip()
        stamp = stamps / f"{how}-{git('rev-parse', commit + '^{tree}', tree=src).strip()}"
        if stamp.exists():
            print(f"   qemu {number}/{len(commits)} known to compile: {subject}")
            compiled += 1
            continue
        git("checkout", "-q", "--force", "--detach", commit, tree=src)
        if not (src / DEVICES).exists():
            print(f"   qemu {number}/{len(commits)} cannot be configured before {DEVICES} is there: {subject}")
            continue
        if not configured:
            configure(obj, src, pin)
            configured = True
        compile_in(obj, PROGRAMS, f"qemu {number}/{len(commits)} {subject}", f"bisect-qemu-{number:04d}.log", strict=True)
        common.write(stamp, "")
        compiled += 1
    print(f"qemu: {compiled} of {len(commits)} patches compile on their own, the others cannot be configured alone")


def main():
    commands = {"": None, "tree": lambda: tree(common.settings(ROOT / "config/qemu")), "export": export, "check": check, "test": test, "bisect": bisect}
    if len(sys.argv) > 2 or "".join(sys.argv[1:]) not in commands:
        print(__doc__)
        return 2
    held, status = common.lock(), 0
    if function := commands["".join(sys.argv[1:])]:
        status = function()
    else:
        for name in PROGRAMS:
            print(f"{rel(build(name))} is up to date")
    held.close()
    return status or 0


if __name__ == "__main__":
    common.main(main)
