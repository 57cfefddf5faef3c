"""The pinned base: fetches it, verifies it, and makes the first commit of build/linux from it.

LINUX=<tarball or git tree> replaces the download, MIRROR=<address of a package archive, or a directory>
the archive that it comes from. What counts is the content: a tree with the pinned hash is the pinned
base wherever it came from; another 7.3.y is taken as 'another base'. The archive's newest one is, where
it doesn't have the pinned one any more.
"""
import functools
import os
import pathlib
import re
import shutil
import subprocess
import time

import common
from common import BUILD, LINUX, ROOT, Fail, Step, output, rel, start

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
    """The archive's address comes from MIRROR or the machine's own apt configuration, none is written here.

    Returns it with apt's options. A directory is trusted as it is, what comes from elsewhere has a signature.
    """
    mirror = os.environ.get("MIRROR", "")
    if (path := pathlib.Path(mirror)).is_dir() and mirror:
        if (path / "dists").is_dir():
            return f"[trusted=yes] copy:{path.resolve()}"
    elif re.match(r"[a-z]+://", mirror):
        return f"[signed-by={KEYRING}] {mirror}"
    elif mirror:
        raise Fail(f"MIRROR={mirror} is no directory and no address",
                   "give the address of an archive of Debian's packages, or a directory that holds one, or the package")
    try:
        lines = output("apt-get", "indextargets", "--format", "$(SITE)", "COMPONENT: main", text=True).splitlines()
    except Fail:
        lines = []
    for line in lines:
        if "security" not in line:
            return f"[signed-by={KEYRING}] {line.strip()}"
    raise Fail("this machine's apt names no archive to fetch the kernel source from",
               "on another distribution: make ... LINUX=<tarball or git tree of Linux "
               f"{common.base()['version']}>")


def fetch():
    """Returns the source tarball, the pinned and verified one if there is one. Only the last rename makes a file count."""
    pin = common.base()
    downloads = BUILD / "dl"
    tarball = downloads / pathlib.Path(pin["tarball"]).name
    downloads.mkdir(parents=True, exist_ok=True)
    if tarball.exists():
        verify(tarball, pin["tarball-sha256"])
        return tarball
    deb = downloads / f"{pin['package']}_{pin['package-version']}_all.deb"
    if not deb.exists():
        found = download(pin, downloads, pin["package-version"])
        if found.name != deb.name:
            print(f"-- the archive has {found.name}, and no longer the pinned {deb.name}")
            return take_out(found, pin)
    verify(deb, pin["deb-sha256"])
    os.replace(take_out(deb, pin), tarball)
    verify(tarball, pin["tarball-sha256"])
    return tarball


def take_out(deb, pin):
    """The tarball in the package."""
    tarball = deb.with_suffix(pathlib.Path(pin["tarball"]).suffix)
    new = tarball.with_name(tarball.name + ".new")
    with Step(f"unpack the package {deb.name}", "unpack-package.log") as step:
        step.run(["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -xO "./$2" >"$3"', "sh", deb, pin["tarball"], new])
    os.replace(new, tarball)
    return tarball


def newest(names):
    """Of packages' files the one with the highest version, or None."""
    def compare(a, b):
        older = subprocess.run(["dpkg", "--compare-versions", deb_version(a), "lt", deb_version(b)], check=False)
        return 1 if older.returncode else -1

    return max(names, key=functools.cmp_to_key(compare), default=None)


def deb_version(path):
    return path.name.split("_")[1].replace("%3a", ":")


def download(pin, downloads, want):
    """Fetches the package in the version 'want', or the newest one where there is none of it or want is ''."""
    name = pin["package"]
    todo = (f"see build/log/fetch.log; check the network and run the same command again, or give the source yourself: "
            f"LINUX=<tarball or git tree of Linux {pin['version']}>, MIRROR=<an archive, or a directory with the package>")
    mirror = pathlib.Path(os.environ.get("MIRROR") or "/dev/null")
    if mirror.is_dir() and not (mirror / "dists").is_dir() and not any(mirror.glob(f"{name}_*_all.deb")):
        raise Fail(f"MIRROR={mirror} holds neither {name}_*_all.deb nor an archive of packages, i.e. dists/",
                   "give another directory, or the address of an archive")
    with Step(f"fetch {name} {want or '(the newest)'}", "fetch.log") as step:
        # Without an index there is only what the names of the files say.
        here = list(mirror.glob(f"{name}_*_all.deb"))
        if here:
            got = newest([deb for deb in here if deb_version(deb) == want] or here)
            new = downloads / (got.name + ".new")
            shutil.copyfile(got, new)
        else:
            apt = Apt(downloads / "apt", pin, step, todo)
            if want not in apt.versions(name):
                want = ""
            new = apt.get(int(pin["deb-size"]), "download", name + (f"={want}" if want else ""))[0]
    deb = downloads / new.name.removesuffix(".new")
    os.replace(new, deb)
    return deb


class Apt:
    """An apt of its own for one suite of the archive, which leaves the machine's apt as it is."""

    def __init__(self, own, pin, step, todo):
        self.own, self.step, self.todo = own, step, todo
        for name in ("lists/partial", "cache/archives/partial", "new"):
            (own / name).mkdir(parents=True, exist_ok=True)
        common.write(own / "sources.list", "".join(
            f"{kind} {site()} {pin['suite']} {pin['component']}\n" for kind in ("deb", "deb-src")))
        common.write(own / "apt.conf", f'Dir::Etc::SourceList "{own}/sources.list";\nDir::Etc::SourceParts "-";\n'
                     f'Dir::State::Lists "{own}/lists";\nDir::Cache "{own}/cache";\n'
                     'Acquire::Retries "2";\nAcquire::http::Timeout "30";\nAPT::Sandbox::User "root";\n')
        self.env = dict(os.environ, APT_CONFIG=str(own / "apt.conf"), LC_ALL="C")
        # apt-get update ends with 0 even where it fetched nothing, if told not to be strict.
        step.run(["apt-get", "-o", "APT::Update::Error-Mode=any", "update"], todo=todo, env=self.env)

    def versions(self, package):
        """All that the suite has of a package."""
        text = output("apt-cache", "madison", package, text=True, env=self.env)
        return [line.split("|")[1].strip() for line in text.splitlines() if "Packages" in line]

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
    tarball = None
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
        root = add(tarball, new, new / ".git")
        commit_base(new, root, "")
    if root != pin["base-tree"]:
        check_release(new, root, given or tarball.name)
        if not given and tarball.name == pathlib.Path(pin["tarball"]).name:
            raise Fail(f"the unpacked base has the git tree {root}, BASE pins {pin['base-tree']}",
                       "BASE is inconsistent with the package it names: it needs mending")
    os.replace(new, LINUX)


def add(tarball, target, repository):
    """Unpacks a tarball into a new directory and adds it all to a git repository; returns the tree."""
    with Step(f"unpack {tarball.name}", "unpack.log") as step:
        unpack(tarball, target, step)
    with Step("make the base commit", "base-commit.log") as step:
        if not repository.exists():
            step.run(["git", "-C", target, "init", "-q", "-b", "series"], env=git_env())
        count = 0

        def watch(_line):
            nonlocal count
            count += 1
            step.progress(f"{count} files")

        env = git_env(GIT_DIR=str(repository), GIT_WORK_TREE=str(target))
        if repository.parent != target:
            env["GIT_INDEX_FILE"] = str(repository / "gmem-index")
        try:
            # -f: the tarball holds files that the kernel's own .gitignore names.
            step.run(["git", "add", "-A", "-f", "-v", "."], watch, env=env, cwd=target)
            return git("write-tree", tree=target, env=env).strip()
        finally:
            (repository / "gmem-index").unlink(missing_ok=True)


def check_release(tree, commit, name):
    """The series is for the releases of one kernel only."""
    pin, found = common.base(), version(tree, commit)
    wanted = pin["version"].rsplit(".", 1)[0]
    if not found.startswith(wanted + "."):
        raise Fail(f"{name} is Linux {found}; the series is for {wanted}.y",
                   f"give LINUX=<tarball or git tree of Linux {pin['version']}>")


def commit_base(tree, root, message):
    message = message or f"Linux {version(tree, root)}"
    commit = git("commit-tree", root, "-m", message, tree=tree).strip()
    git("update-ref", "HEAD", commit, tree=tree)


def move_pin(deb, tarball, release, root):
    """Has BASE name another package, and the tree that was made from it."""
    values = {"version": release, "package-version": deb_version(deb), "deb-size": deb.stat().st_size,
              "deb-sha256": common.sha256(deb), "tarball-sha256": common.sha256(tarball), "base-tree": root}
    text = (ROOT / "BASE").read_text()
    for name, value in values.items():
        text = re.sub(rf"^({name} +)\S+$", rf"\g<1>{value}", text, flags=re.M)
    common.write(ROOT / "BASE", text)
    # Now it is the pinned one, and looked for under that name.
    os.replace(tarball, tarball.with_name(pathlib.Path(common.base()["tarball"]).name))
