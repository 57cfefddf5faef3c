#!/usr/bin/env python3
"""Builds the emulator of the x86 machines: a pinned QEMU with patches/qemu.

usage: qemu.py         builds build/qemu/obj/qemu-system-x86_64 unless it is up to date

Nested guests go wrong in unpatched versions if each CPU has a thread. config/qemu says what is
built; build/qemu/src is a git tree with a commit for the base and one for each patch.
"""
import hashlib
import os
import re
import shutil
import threading

import base
import common
import kernel
import series
from base import git, git_env
from common import BUILD, JOBS, ROOT, Fail, Step, output, rel

PROGRAM = "qemu-system-x86_64"
HOME = BUILD / "qemu"
SOURCE, OBJ, TOOLS, STAMP = HOME / "src", HOME / "obj", HOME / "tools", HOME / "stamp"
PYTHON = "/usr/bin/python3"  # the distribution's, which has what its packages need
FIRMWARE = ("/usr/share/seabios", "/usr/share/qemu")
_lock = threading.Lock()  # machines are booted by threads


def command(argv):
    """A machine's emulator and arguments; built, and in place of the distribution's, if it is the one from here."""
    if argv[0] != PROGRAM:
        return argv
    with _lock:
        return [build(), *(word for path in FIRMWARE for word in ("-L", path)), *argv[1:]]


def patch_files():
    return sorted((ROOT / "patches/qemu").glob("*.patch"))


def key(pin):
    """What the result depends on. How it is configured is in config/qemu as well."""
    text = repr(sorted(pin.items())) + series.digest(patch_files()) + output("gcc", "--version", text=True)
    return hashlib.sha256(text.encode()).hexdigest()


def build():
    pin = common.settings(ROOT / "config/qemu")
    program = OBJ / PROGRAM
    want = key(pin)
    if program.exists() and STAMP.exists() and STAMP.read_text() == f"{want}\n{program.stat().st_mtime_ns}\n":
        return program
    STAMP.unlink(missing_ok=True)
    fetch(pin)
    source(pin)
    env = {**kernel.ENV, "PYTHONPATH": str(TOOLS / "usr/lib/python3/dist-packages")}
    cc = "ccache gcc" if shutil.which("ccache") else "gcc"
    shutil.rmtree(OBJ, ignore_errors=True)
    OBJ.mkdir(parents=True)
    with Step("configure QEMU", "qemu-configure.log") as step:
        step.run([SOURCE / "configure", f"--python={PYTHON}", f"--cc={cc}", *pin["configure"].split()], cwd=OBJ, env=env)

    def watch(line):
        if done := re.match(r"\[(\d+)/(\d+)\]", line):
            step.progress(f"{done[1]}/{done[2]} steps {100 * int(done[1]) // int(done[2])}%")

    with Step("compile QEMU", "qemu-compile.log") as step:
        step.run(["ninja", f"-j{JOBS}", PROGRAM], watch, cwd=OBJ, env=env)
    common.write(STAMP, f"{want}\n{program.stat().st_mtime_ns}\n")
    return program


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


def source(pin):
    """Makes build/qemu/src. Nobody works in it: what it was is thrown away."""
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


def main():
    held = common.lock()
    print(f"{rel(command([PROGRAM])[0])} is up to date")
    held.close()
    return 0


if __name__ == "__main__":
    common.main(main)
