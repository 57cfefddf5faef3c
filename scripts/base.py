"""The pinned base: fetches it, verifies it, and makes the first commit of build/linux from it.

LINUX=<tarball or git tree> replaces the download. What counts is the content: a tree with the
pinned hash is the pinned base wherever it came from; another 7.3.y is taken as 'another base'.
"""
import os
import pathlib
import re
import shutil
import subprocess
import time

import common
from common import BUILD, LINUX, Fail, Step, output, rel, start

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Commits that the scripts make have this committer, so that the same input gives the same commit.
IDENTITY = "gmem-convert", "gmem-convert@localhost"
DATE = "2026-01-01T00:00:00+0000"


def git_env(**more):
    """An environment in which git behaves the same for everybody."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null", LC_ALL="C",
               GIT_AUTHOR_NAME=IDENTITY[0], GIT_AUTHOR_EMAIL=IDENTITY[1], GIT_AUTHOR_DATE=DATE,
               GIT_COMMITTER_NAME=IDENTITY[0], GIT_COMMITTER_EMAIL=IDENTITY[1], GIT_COMMITTER_DATE=DATE, **more)
    return env


def git(*args, tree=LINUX, env=None, **options):
    options.setdefault("text", True)
    return output("git", "-C", tree, *args, env=env or git_env(), **options)


def uncommitted(tree=LINUX):
    """What a work tree has that its last commit has not: (changes as git status names them, new files).

    git's own idea of a new file is of no use here: the .gitignore that the distribution put into the
    base ignores the whole top level. Nothing is built inside the tree, so whatever is new counts.
    """
    changed = git("status", "--porcelain", "--untracked-files=no", tree=tree)
    litter = [f"--exclude={pattern}" for pattern in ("*.o", "*.orig", "*.rej", "*~", ".*.swp", "__pycache__")]
    new = git("ls-files", "-z", "--others", *litter, tree=tree)
    return changed, [name for name in new.split("\0") if name]


def verify(path, want):
    got = common.sha256(path)
    if got != want:
        bad = path.with_name(path.name + ".bad")
        os.replace(path, bad)
        raise Fail(f"{rel(path)} has the wrong checksum\n    sha256 {got}\n    BASE   {want}",
                   f"it was moved to {rel(bad)}; run the same command again to fetch it anew")


def site():
    """The archive's address comes from the machine's own apt configuration, none is written here."""
    try:
        lines = output("apt-get", "indextargets", "--format", "$(SITE)", "COMPONENT: main", text=True).splitlines()
    except Fail:
        lines = []
    for line in lines:
        if "security" not in line:
            return line.strip()
    raise Fail("this machine's apt names no archive to fetch the kernel source from",
               "on another distribution: make ... LINUX=<tarball or git tree of Linux "
               f"{common.base()['version']}>")


def fetch():
    """Returns the verified source tarball. Only the last rename makes a file count."""
    pin = common.base()
    downloads = BUILD / "dl"
    tarball = downloads / pathlib.Path(pin["tarball"]).name
    deb = downloads / f"{pin['package']}_{pin['package-version']}_all.deb"
    downloads.mkdir(parents=True, exist_ok=True)
    if tarball.exists():
        verify(tarball, pin["tarball-sha256"])
        return tarball
    if not deb.exists():
        with Step(f"fetch {pin['package']} {pin['package-version']}", "fetch.log") as step:
            download(pin, downloads, deb, step)
    verify(deb, pin["deb-sha256"])
    new = tarball.with_name(tarball.name + ".new")
    with Step("unpack the package", "unpack-package.log") as step:
        step.run(["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -xO "./$2" >"$3"', "sh", deb, pin["tarball"], new])
    os.replace(new, tarball)
    verify(tarball, pin["tarball-sha256"])
    return tarball


def download(pin, downloads, deb, step):
    todo = (f"see {rel(step.log)}; check the network and run the same command again, "
            f"or give the source yourself: LINUX=<tarball or git tree of Linux {pin['version']}>")
    apt = Apt(downloads / "apt", pin, step, todo)
    os.replace(apt.get(int(pin["deb-size"]), "download", f"{pin['package']}={pin['package-version']}")[0], deb)


class Apt:
    """An apt of its own for one suite of the archive, which leaves the machine's apt as it is."""

    def __init__(self, own, pin, step, todo):
        self.own, self.step, self.todo = own, step, todo
        for name in ("lists/partial", "cache/archives/partial", "new"):
            (own / name).mkdir(parents=True, exist_ok=True)
        common.write(own / "sources.list", "".join(
            f"{kind} [signed-by={KEYRING}] {site()} {pin['suite']} {pin['component']}\n" for kind in ("deb", "deb-src")))
        common.write(own / "apt.conf", f'Dir::Etc::SourceList "{own}/sources.list";\nDir::Etc::SourceParts "-";\n'
                     f'Dir::State::Lists "{own}/lists";\nDir::Cache "{own}/cache";\n'
                     'Acquire::Retries "2";\nAcquire::http::Timeout "30";\nAPT::Sandbox::User "root";\n')
        self.env = dict(os.environ, APT_CONFIG=str(own / "apt.conf"), LC_ALL="C")
        # apt-get update ends with 0 even where it fetched nothing, if told not to be strict.
        step.run(["apt-get", "-o", "APT::Update::Error-Mode=any", "update"], todo=todo, env=self.env)

    def get(self, total, *argv):
        """Runs apt-get for something that it puts into the current directory; returns the files."""
        new = self.own / "new"
        for old in new.iterdir():
            old.unlink()
        with open(self.step.log, "ab") as log:
            child = start(["apt-get", *argv], cwd=new, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                while child.poll() is None:
                    got = sum(f.stat().st_size for f in new.glob("*"))
                    self.step.progress(f"{got >> 20}/{total >> 20} MB {100 * got // total}%")
                    time.sleep(0.1)
            finally:
                common.end(child)
        if child.returncode:
            raise Fail(f"{self.step.title} failed:\n{self.step.why()}", self.todo)
        return sorted(new.iterdir())


def unpack(tarball, target, step, *options):
    """Unpacks a tarball without its top directory, with a progress figure from the packed size."""
    target.mkdir(parents=True)
    kind = {".xz": "-J", ".gz": "-z", ".bz2": "-j", ".zst": "--zstd"}.get(tarball.suffix, "")
    size, done = tarball.stat().st_size or 1, 0
    with open(step.log, "ab") as log, open(tarball, "rb") as source:
        child = start(list(filter(None, ["tar", "-x", kind, "--strip-components=1", "-C", str(target), *options, "-f", "-"])),
                      stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            while block := source.read(1 << 18):
                child.stdin.write(block)
                done += len(block)
                step.progress(f"{100 * done // size}%")
            child.stdin.close()
            status = child.wait()
        except BrokenPipeError:
            status = child.wait()
        finally:
            common.end(child)
    if status:
        raise Fail(f"{step.title} failed:\n{step.why()}", f"see {rel(step.log)}")


def version(tree, commit="HEAD"):
    text = git("show", f"{commit}:Makefile", tree=tree)
    part = {name: (re.search(rf"^{name} = *(\S*)$", text, re.M) or ["", ""])[1]
            for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION")}
    return f"{part['VERSION']}.{part['PATCHLEVEL']}.{part['SUBLEVEL']}{part['EXTRAVERSION']}"


def create():
    """Makes build/linux with its one commit. It appears under that name only when it is complete."""
    pin = common.base()
    given = os.environ.get("LINUX")
    new = LINUX.with_name("linux.new")
    shutil.rmtree(new, ignore_errors=True)
    if given and not pathlib.Path(given).exists():
        raise Fail(f"LINUX={given} does not exist", "give a tarball or a git tree of the kernel")
    if given and pathlib.Path(given).is_dir():
        with Step(f"take the base from {given}", "unpack.log") as step:
            source = pathlib.Path(given).resolve()
            objects = git("rev-parse", "--path-format=absolute", "--git-common-dir", tree=source).strip() + "/objects"
            git("init", "-q", "-b", "series", new, tree=BUILD)
            # Objects are shared, not copied: with its history at hand a three-way merge finds its blobs.
            common.write(new / ".git/objects/info/alternates", objects + "\n")
            root = git("rev-parse", "HEAD^{tree}", tree=source).strip()
            commit_base(new, root, f"Linux {version(source)}")
            step.run(["git", "-C", new, "reset", "-q", "--hard"], env=git_env())
    else:
        tarball = pathlib.Path(given).resolve() if given else fetch()
        with Step(f"unpack {tarball.name}", "unpack.log") as step:
            unpack(tarball, new, step)
        with Step("make the base commit", "base-commit.log") as step:
            step.run(["git", "-C", new, "init", "-q", "-b", "series"], env=git_env())
            count = 0

            def watch(_line):
                nonlocal count
                count += 1
                step.progress(f"{count} files")

            # -f: the tarball holds files that the kernel's own .gitignore names.
            step.run(["git", "-C", new, "add", "-A", "-f", "-v"], watch, env=git_env())
            commit_base(new, git("write-tree", tree=new).strip(), "")
    root = git("rev-parse", "HEAD^{tree}", tree=new).strip()
    if root != pin["base-tree"]:
        found = version(new)
        wanted = pin["version"].rsplit(".", 1)[0]
        if not found.startswith(wanted + "."):
            raise Fail(f"{given or 'the base'} is Linux {found}; the series is for {wanted}.y",
                       f"give LINUX=<tarball or git tree of Linux {pin['version']}>")
        if not given:
            raise Fail(f"the unpacked base has the git tree {root}, BASE pins {pin['base-tree']}",
                       "BASE is inconsistent with the package it names: it needs mending")
    os.replace(new, LINUX)


def commit_base(tree, root, message):
    message = message or f"Linux {common.base()['version']}"
    commit = git("commit-tree", root, "-m", message, tree=tree).strip()
    git("update-ref", "HEAD", commit, tree=tree)
