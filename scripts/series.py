#!/usr/bin/env python3
"""The series as files and as commits.

usage: series.py tree       make or update build/linux: a commit for the base, one for each patch
       series.py export     write the commits of build/linux back to patches/linux*
       series.py check      strict apply, export is a no-op, trailers, cover letter, checkpatch; KTAP
       series.py base       have BASE name the newest release that the archive has, and export
       series.py mbox       build/gmem-convert*.mbox, threaded series ready to send
       series.py clean      remove what was built; build/linux only if nothing in it would be lost

The files are the source. A patch is a mail as 'git format-patch' writes it; what its author tells
reviewers below the '---' line is kept as a git note of the commit. The cover letter is written by
hand and no commit; 'mbox' adds its shortlog and diffstat.

There are two series: patches/linux is the core, and patches/linux-tools what uses it, so that
maintainers can take the core alone. The last commits, as far as TOOLS says, are the latter.
"""
import concurrent.futures
import difflib
import email
import email.header
import email.utils
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import base
import common
from base import git, git_env
from common import BUILD, JOBS, LINUX, PATCHES, ROOT, Fail, Step, output, rel

COVER = "0000-cover-letter.patch"
SERIES = {PATCHES: BUILD / "gmem-convert.mbox", PATCHES.with_name("linux-tools"): BUILD / "gmem-convert-tools.mbox"}
CORE_DIR, TOOLS_DIR = SERIES
TOOLS = re.compile(r"(samples|tools/kvm): ")  # subjects of the second series
EXPORTED = "refs/gmem/exported"  # what was last applied from, or exported to, patches/linux*

# Every option that a git configuration could change is given, so that all people export the same bytes.
FORMAT = ["format-patch", "-N", "--zero-commit", "--full-index", "--no-signature", "--no-thread", "--no-attach",
          "--no-base", "--no-cover-letter", "--no-cc", "--no-to", "--no-add-header", "--subject-prefix=PATCH",
          "--filename-max-length=64", "--src-prefix=a/", "--dst-prefix=b/", "-U3", "--inter-hunk-context=0",
          "--diff-algorithm=histogram", "-M", "--no-ext-diff", "--no-textconv", "-O/dev/null", "--stat=72", "--summary",
          "--notes", "--no-encode-email-headers", "--start-number=1", "-q"]


def patch_files(directories=tuple(SERIES)):
    return [p for d in directories for p in sorted(d.glob("[0-9][0-9][0-9][0-9]-*.patch")) if p.name != COVER]


def name_of(path):
    """A patch file by its series and name, wherever the series is."""
    return f"{path.parent.name}/{path.name}"


def digest(files):
    total = hashlib.sha256()
    for path in files:
        total.update(name_of(path).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


class Patch:
    """A patch file taken apart: author, message, the note below '---', and the blobs it makes."""

    def __init__(self, path, tree=LINUX):
        self.path = path
        with tempfile.TemporaryDirectory() as directory:
            message, diff = pathlib.Path(directory, "m"), pathlib.Path(directory, "d")
            with open(path, "rb") as file:
                head = git("mailinfo", "-b", "--no-scissors", "--encoding=UTF-8", message, diff, tree=tree, stdin=file)
            fields = dict(re.findall(r"^(\w+): (.*)$", head, re.M))
            body, text = message.read_text(), diff.read_text(errors="surrogateescape")
        for field in ("Author", "Email", "Subject", "Date"):
            if field not in fields:
                raise Fail(f"{rel(path)} has no {field.lower()}", "it has to be a mail as git format-patch writes it")
        self.subject = fields["Subject"]
        self.author = {"GIT_AUTHOR_NAME": fields["Author"], "GIT_AUTHOR_EMAIL": fields["Email"],
                       "GIT_AUTHOR_DATE": fields["Date"]}
        self.message = self.subject + "\n\n" + body if body.strip() else self.subject + "\n"
        before = text.split("\ndiff --git ", 1)[0]
        note = re.search(r"^Notes:\n((?:(?:    .*)?\n)+)", before, re.M)
        self.note = re.sub(r"^    ", "", note[1], flags=re.M).strip() + "\n" if note else ""
        # {file: blob after the patch}; a patch in the wrong place makes another blob.
        self.blobs = {}
        for part in re.split(r"^diff --git ", text, flags=re.M)[1:]:
            index = re.search(r"^index [0-9a-f]{40}\.\.([0-9a-f]{40})", part, re.M)
            name = re.match(r"a/.* b/(.*)", part)
            if name and index:
                self.blobs[name[1]] = index[1]
        self.files = re.findall(r"^diff --git a/.* b/(.*)$", text, re.M)

    def note_trailers(self, key):
        return re.findall(rf"^{key}: *(.*)$", self.note, re.M)


def apply(commit, files, strict, show=lambda text: None, tree=LINUX):
    """Makes a commit of each patch, on top of a commit; touches neither branch nor work tree.

    Strict: a patch may not even apply at an offset, each file has to come out with exactly the
    content that the patch was made with.
    """
    commits = []
    with tempfile.TemporaryDirectory() as directory:
        env = git_env(GIT_INDEX_FILE=str(pathlib.Path(directory, "index")))
        git("read-tree", commit, tree=tree, env=env)
        for number, path in enumerate(files, 1):
            show(f"{number}/{len(files)} {path.name}")
            patch = Patch(path, tree)
            try:
                git("apply", "--cached", "--whitespace=nowarn", *([] if strict else ["--3way"]), path, tree=tree, env=env)
            except Fail as err:
                raise Fail(f"{rel(path)} does not apply after {number - 1} of {len(files)} patches:\n"
                           + "\n".join("    " + line for line in err.what.splitlines()[1:7]),
                           "mend the patch, or restore it from git; build/linux is unchanged" if strict else
                           f"this base is not the pinned one; use Linux {common.base()['version']}, "
                           "or port the patch by hand with git am -3") from None
            root = git("write-tree", tree=tree, env=env).strip()
            if strict:
                check_blobs(patch, root, tree)
            author = {**git_env(), **patch.author, "GIT_COMMITTER_DATE": patch.author["GIT_AUTHOR_DATE"]}
            commit = git("commit-tree", root, "-p", commit, tree=tree, env=author, input=patch.message).strip()
            if patch.note:
                git("notes", "add", "-f", "-F", "-", commit, tree=tree, input=patch.note)
            commits.append(commit)
    return commits


def check_blobs(patch, root, tree):
    gone = "0" * 40
    names = sorted(patch.blobs)
    listing = git("ls-tree", "-r", "-z", "--full-tree", root, "--", *names, tree=tree) if names else ""
    got = {line.split("\t", 1)[1]: line.split()[2] for line in listing.split("\0") if line}
    for name in names:
        if got.get(name, gone) != patch.blobs[name]:
            raise Fail(f"{rel(patch.path)} applies to {name}, but not in the place it was made for",
                       "the base or an earlier patch is not the one it was exported with; nothing was changed")


def root_commit(tree=LINUX):
    return git("rev-list", "--max-parents=0", "HEAD", tree=tree).split()[0]


def commits_of(tree=LINUX):
    """The commits of the series in build/linux, oldest first."""
    first = root_commit(tree)
    if git("rev-list", "--merges", f"{first}..HEAD", tree=tree).strip():
        raise Fail("build/linux has a merge commit", "the series is a line of commits: rebase it")
    return git("rev-list", "--reverse", f"{first}..HEAD", tree=tree).split()


def is_pinned(tree=LINUX):
    return git("rev-parse", root_commit(tree) + "^{tree}", tree=tree).strip() == common.base()["base-tree"]


def last_of_core(first, last, tree=LINUX):
    """The last commit of the core in a range; what comes after it is the second series."""
    lines = [line.split(" ", 1) for line in git("log", "--reverse", "--format=%H %s", f"{first}..{last}", tree=tree).splitlines()]
    core = [commit for commit, subject in lines if not TOOLS.match(subject)]
    cut = core[-1] if core else first
    for commit, subject in lines[:len(core)]:
        if TOOLS.match(subject):
            raise Fail(f"the core needs the commit '{commit[:12]} {subject}', which is of the second series",
                       "move it to the end: git rebase -i")
    return cut


def format_to(directory, first, last, tree=LINUX):
    """Writes the patches of a range of commits as files, below a directory for each series."""
    directory = pathlib.Path(directory)
    if first != last:
        # How hunks are headed depends on .gitattributes, which git does not look for without a work tree.
        if git("ls-tree", "--name-only", first, ".gitattributes", tree=tree).strip():
            where = pathlib.Path(tree, git("rev-parse", "--git-common-dir", tree=tree).strip(), "info", "attributes")
            common.write(where, git("show", f"{first}:.gitattributes", tree=tree))
        cut = last_of_core(first, last, tree)
        for series, start, end in ((CORE_DIR, first, cut), (TOOLS_DIR, cut, last)):
            git(*FORMAT, "-o", directory / series.name, f"{start}..{end}", tree=tree)
    return patch_files([directory / series.name for series in SERIES])


def same(files, others):
    return ([name_of(p) for p in files] == [name_of(p) for p in others]
            and all(a.read_bytes() == b.read_bytes() for a, b in zip(files, others)))


def ref(name, tree=LINUX):
    return git("for-each-ref", "--format=%(objectname)", name, tree=tree).strip()


def record(commit, tree=LINUX):
    """Notes that the patches and this commit are the same series; rebase and amend keep notes."""
    git("update-ref", EXPORTED, commit, tree=tree)
    git("config", "notes.rewriteRef", "refs/notes/commits", tree=tree)
    common.write(pathlib.Path(tree, ".git", "gmem-patches"), digest(patch_files()))


def rebasing(tree=LINUX):
    return any((tree / ".git" / name).exists() for name in ("rebase-merge", "rebase-apply"))


def work_of_its_own(tree=LINUX):
    """What is in build/linux but not in patches/linux, in words; '' where nothing is."""
    if rebasing(tree):
        return "a rebase that is not finished"
    changed, new = base.uncommitted(tree)
    if changed or new:
        # git add and git status overlook a new file, see base.uncommitted().
        return f"a new file that is not committed, {new[0]} (git add -f)" if new else "uncommitted changes"
    head = git("rev-parse", "HEAD", tree=tree).strip()
    if head in (ref(EXPORTED, tree), root_commit(tree)):
        return ""
    with tempfile.TemporaryDirectory() as directory:
        if same(format_to(directory, root_commit(tree), head, tree), patch_files()):
            record(head, tree)
            return ""
    return "commits that are not in patches/linux*"


def current(tree=LINUX):
    """Whether build/linux stands where patches/linux says; must be fast, every command asks."""
    known = tree / ".git" / "gmem-patches"
    return (known.exists() and known.read_text() == digest(patch_files())
            and git("rev-parse", "HEAD", tree=tree).strip() == ref(EXPORTED, tree))


def tree(keep=False):
    """Brings build/linux up to date with patches/linux, without ever losing work in it.

    keep: a command that only builds takes a tree with work of its own as it is, and says so.
    """
    if not (LINUX / ".git").exists():
        base.create()
    own = work_of_its_own()
    if own:
        if keep:
            print(f"-- build/linux has {own}: taken as it is")
            return
        raise Fail(f"build/linux has {own}",
                   "run 'make export' to keep the work, or throw it away yourself: "
                   "git -C build/linux reset --hard " + (ref(EXPORTED) or root_commit())[:12]
                   + " && git -C build/linux clean -fd")
    if current():
        return
    strict = is_pinned()
    if not strict:
        print(f"-- the base is Linux {base.version(LINUX, root_commit())}, not the pinned {common.base()['version']}: "
              "applying with a three-way merge; the result is not compared with BASE, 'make base' moves the pin")
    with Step("apply the series", "apply.log") as step:
        commits = apply(root_commit(), patch_files(), strict, step.progress)
        tip = commits[-1] if commits else root_commit()
        if strict:
            compare_tree(tip)
        # Only the files that differ are written, so only they are compiled again.
        step.run(["git", "-C", LINUX, "reset", "-q", "--hard", tip], env=git_env())
        record(tip)
        step.note = f"{len(commits)} patches"


def move_base():
    """Moves the series to the newest release of the archive.  Nothing changes unless all patches apply."""
    pin = common.base()
    tree()
    deb = base.download(pin, BUILD / "dl", "")
    if base.deb_version(deb) == pin["package-version"]:
        print(f"BASE names the newest there is, {pin['package']} {pin['package-version']}: nothing to do")
        return
    tarball = base.take_out(deb, pin)
    new = LINUX.with_name("base.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        # Into the same repository: with what the patches were made from at hand, they can be merged.
        root = base.add(tarball, new, LINUX / ".git")
    finally:
        shutil.rmtree(new, ignore_errors=True)
    base.check_release(LINUX, root, deb.name)
    release = base.version(LINUX, root)
    first = git("commit-tree", root, "-m", f"Linux {release}").strip()
    with Step(f"apply the series to Linux {release}", "apply.log") as step:
        tip = (apply(first, patch_files(), False, step.progress) or [first])[-1]
        step.run(["git", "-C", LINUX, "reset", "-q", "--hard", tip], env=git_env())
    base.move_pin(deb, tarball, release, root)
    export()
    print(f"the base is Linux {release}, {pin['package']} {base.deb_version(deb)}: run 'make check' and 'make test'")


def compare_tree(commit, tree=LINUX):
    got, want = git("rev-parse", commit + "^{tree}", tree=tree).strip(), common.base()["series-tree"]
    if got != want:
        raise Fail(f"after the last patch the git tree is {got}, BASE says {want}",
                   "patches/linux and BASE do not belong together: restore them from git, or run 'make export' "
                   "in the tree that they were made from")


def export():
    if not (LINUX / ".git").exists():
        raise Fail("there is no build/linux to export", "run 'make tree' first")
    if not is_pinned():
        raise Fail("build/linux is not based on the pinned release", "port the work to a tree made with 'make tree'")
    if rebasing():
        raise Fail("a rebase of build/linux is not finished", "finish it (git -C build/linux rebase --continue), then export")
    commits = commits_of()
    for line in git("log", "--format=%h %s", f"{root_commit()}..HEAD").splitlines():
        if re.search(r"^\w+ (fixup|squash|amend)! ", line):
            raise Fail(f"build/linux has the commit '{line}'", "run: git -C build/linux rebase -i --autosquash "
                       + root_commit()[:12])
    changed, new = base.uncommitted()
    if changed or new:
        print("note: not committed in build/linux, so not exported:\n"
              + "\n".join("  " + name for name in [*changed.splitlines(), *("?? " + name for name in new)][:20]))
    changed, written = 0, []
    with tempfile.TemporaryDirectory() as directory:
        new = format_to(directory, root_commit(), "HEAD")
        keep = {name_of(path) for path in new}
        for path in new:
            target = PATCHES.parent / name_of(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != path.read_bytes():
                common.write(target, path.read_bytes())
                print(f"  wrote {rel(target)}")
                changed += 1
                written.append(target)
        for path in patch_files():
            if name_of(path) not in keep:
                path.unlink()
                print(f"  removed {rel(path)}")
                changed += 1
    text = (ROOT / "BASE").read_text()
    root = git("rev-parse", "HEAD^{tree}").strip()
    common.write(ROOT / "BASE", re.sub(r"^(series-tree +)[0-9a-f]+", rf"\g<1>{root}", text, flags=re.M))
    record(git("rev-parse", "HEAD").strip())
    print(f"{len(commits)} patches, {changed} files changed" if changed else
          f"{len(commits)} patches, nothing changed")
    # 'make test' refuses these; better to hear of them while the patch is in mind.
    with concurrent.futures.ThreadPoolExecutor(max_workers=JOBS) as pool:
        for path, problems in zip(written, pool.map(check_patch, written)):
            for problem in problems:
                print(f"warning: {name_of(path)}: {problem}")


# ------------------------------------------------------------------- check

class Ktap:
    """Prints results as KTAP, so that 'make test' counts them like those of any other test."""

    def __init__(self, planned):
        self.number = self.failed = 0
        print(f"KTAP version 1\n1..{planned}", flush=True)

    def result(self, name, problems, skip=""):
        self.number += 1
        self.failed += bool(problems)
        for problem in problems:
            print("\n".join("# " + line for line in problem.splitlines()))
        print(f"{'not ok' if problems else 'ok'} {self.number} {name}" + (f" # SKIP {skip}" if skip else ""), flush=True)


def check():
    """Everything about the series that needs no compiler."""
    if not (LINUX / ".git").exists():
        base.create()
    files = patch_files()
    used = [series for series in SERIES if patch_files([series])]
    ktap = Ktap(4 + 2 * len(used) + len(files))
    # In a clone that is thrown away: what is checked are the files, build/linux may have work of its own.
    with tempfile.TemporaryDirectory() as directory:
        clone = pathlib.Path(directory, "linux")
        git("clone", "-q", "--bare", "--shared", LINUX, clone, tree=BUILD)
        tip = check_apply(ktap, files, clone, pathlib.Path(directory, "export"))
        ktap.result("each patch of tests/mutants applies", check_mutants(tip, clone))
        own = work_of_its_own()
        made = root_commit(clone)
        if not own:
            mbox()
        for series in used:
            ktap.result(f"the cover letter of {rel(series)} names files that exist", check_cover(series, tip, clone))
            made, problems = (made, []) if own else check_mbox(series, made, clone, pathlib.Path(directory, f"b4-{series.name}"))
            if not own and not problems and series is used[-1]:
                problems = compare_mails(made, tip, clone)
            ktap.result(f"b4 takes {rel(SERIES[series])}, and it makes the same tree", problems,
                        skip="build/linux has work that is not exported" if own else "")

    with concurrent.futures.ThreadPoolExecutor(max_workers=JOBS) as pool:
        for path, problems in zip(files, pool.map(check_patch, files)):
            ktap.result(name_of(path), problems)
    return 1 if ktap.failed else 0


def check_apply(ktap, files, clone, directory):
    """Applies and exports once more; returns the last commit."""
    names = ("the series applies strictly to the pinned base", "the tree after the last patch is the one in BASE",
             "apply and export change no byte")
    tip = first = root_commit(clone)
    if not is_pinned(clone):
        for name in names:
            ktap.result(name, [], skip="the base is not the pinned one")
        return "HEAD"
    problems = []
    try:
        tip = (apply(first, files, strict=True, tree=clone) or [first])[-1]
    except Fail as err:
        problems = [err.what]
    ktap.result(names[0], problems)
    if problems:
        for name in names[1:]:
            ktap.result(name, ["the series does not apply"])
        return "HEAD"
    problems = []
    try:
        compare_tree(tip, clone)
    except Fail as err:
        problems = [err.what]
    ktap.result(names[1], problems)
    ktap.result(names[2], difference(files, format_to(directory, first, tip, clone)))
    return tip


def check_mutants(commit, tree):
    """They have to follow the series, and are seldom run as a whole."""
    problems = []
    with tempfile.TemporaryDirectory() as directory:
        env = git_env(GIT_INDEX_FILE=str(pathlib.Path(directory, "index")))
        git("read-tree", commit, tree=tree, env=env)
        for path in sorted((ROOT / "tests/mutants").glob("*.patch")):
            try:
                git("apply", "--check", "--cached", path, tree=tree, env=env)
            except Fail as err:
                problems.append(f"{rel(path)}: {err.what.splitlines()[-1]}")
    return problems


def difference(files, others):
    ours, theirs = {name_of(p): p for p in files}, {name_of(p): p for p in others}
    found = []
    for name in sorted(set(ours) | set(theirs)):
        if name not in theirs or name not in ours:
            found.append(f"{name}: only {'in patches' if name in ours else 'in a fresh export'}")
            continue
        a, b = ours[name].read_bytes(), theirs[name].read_bytes()
        if a != b:
            lines = difflib.unified_diff(a.decode(errors="replace").splitlines(), b.decode(errors="replace").splitlines(),
                                         "patches/" + name, "fresh export", lineterm="", n=0)
            found.append("\n".join(list(lines)[:12]))
    return found


def check_patch(path):
    patch = Patch(path)
    return check_trailers(patch) + checkpatch(patch)


def check_trailers(patch):
    problems = []
    if re.search(r"^Signed-off-by:", patch.message, re.M | re.I):
        problems.append("has a Signed-off-by; only the person who sends it adds one (make mbox SIGNOFF=...)")
    if not re.search(r"^Assisted-by: LLM( \S+)*$", patch.message, re.M):
        problems.append("has no 'Assisted-by: LLM' line (Documentation/process/coding-assistants.rst)")
    return problems


def checkpatch(patch):
    """checkpatch --strict. A note line 'checkpatch: TYPE: reason' argues an exception to reviewers."""
    argued = {}
    for line in patch.note_trailers("checkpatch"):
        kind, _, reason = line.partition(":")
        if not reason.strip():
            return [f"the note 'checkpatch: {line}' gives no reason; it has to read 'checkpatch: TYPE: reason'"]
        argued[kind.strip()] = reason.strip()
    # The sign-off comes with the person who sends the series.
    text = subprocess.run([str(LINUX / "scripts/checkpatch.pl"), "--strict", "--show-types", "--terse", "--no-summary",
                           "--color=never", "--ignore", "MISSING_SIGN_OFF", "--codespell",
                           str(patch.path.resolve())], cwd=LINUX,
                          # The distribution's Python has the modules that checkpatch's helper needs.
                          env=dict(os.environ, PATH="/usr/bin:/bin:" + os.environ["PATH"]),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False).stdout
    for cache in LINUX.glob(".checkpatch-camelcase.*"):
        cache.unlink()
    problems, used = [], set()
    for line in text.splitlines():
        kind = re.search(r"(?:ERROR|WARNING|CHECK):([A-Z_]+): ", line)
        if kind and kind[1] in argued:
            used.add(kind[1])
        elif line.strip():
            problems.append("checkpatch: " + line.replace(str(patch.path.resolve()), patch.path.name))
    problems += [f"its note argues for checkpatch {kind}, which does not occur" for kind in sorted(set(argued) - used)]
    return problems


def check_cover(series, commit, tree):
    """A cover letter rots silently: each path in it has to exist after the last patch."""
    path = series / COVER
    if not path.exists():
        return [f"{rel(path)} is missing"]
    text = cover_text(path)[1]
    tops = git("ls-tree", "--name-only", commit, tree=tree).split()
    words = {word.rstrip(".,:;)") for word in re.findall(r"[\w.+-]+(?:/[\w.+*-]+)+", text)}
    problems = []
    for word in sorted(words):
        if word.split("/")[0] in tops and "*" not in word:
            if not git("ls-tree", "--name-only", commit, "--", word.rstrip("/"), tree=tree).strip():
                problems.append(f"{rel(path)} names {word}, which is not in the tree")
    return problems


def check_mbox(series, start, tree, directory):
    """What a reviewer does: b4 am, git am. Returns the commit that the mails make on top of another one, and problems."""
    directory.mkdir()
    # b4 takes for granted that its user has told git a name.
    common.write(directory / ".gitconfig", "[user]\n\tname = c\n\temail = c@example.org\n")
    try:
        output("b4", "--offline-mode", "-n", "am", "-m", SERIES[series], "-o", directory, cwd=LINUX,
               env=dict(os.environ, HOME=str(directory), XDG_CACHE_HOME=str(directory), XDG_DATA_HOME=str(directory)))
        mails = list(directory.glob("*.mbx"))
        if len(mails) != 1:
            return start, [f"b4 wrote {len(mails)} files instead of 1"]
        (directory / "split").mkdir()
        git("mailsplit", f"-o{directory / 'split'}", *mails, tree=tree)
        return apply(start, sorted((directory / "split").iterdir()), strict=True, tree=tree)[-1], []
    except Fail as err:
        return start, [err.what]


def compare_mails(commit, tip, tree):
    made, wanted = (git("rev-parse", one + "^{tree}", tree=tree).strip() for one in (commit, tip))
    return [] if made == wanted else [f"the mails make the tree {made}, the patches {wanted}"]


# -------------------------------------------------------------------- mbox

def cover_text(path):
    message = email.message_from_string(path.read_text())
    subject = str(email.header.make_header(email.header.decode_header(message["Subject"] or "")))
    return re.sub(r"^(\[[^\]]*\] *)+", "", " ".join(subject.split())), message.get_payload()


def mbox():
    """Each series as a thread."""
    signoff, revision = os.environ.get("SIGNOFF", ""), os.environ.get("REVISION", "")
    if signoff and not re.fullmatch(r"[^<>]+ <[^<>@ ]+@[^<>@ ]+>", signoff):
        raise Fail(f"SIGNOFF='{signoff}' is not of the form 'Name <address>'", 'for example SIGNOFF="A B <a@b.org>"')
    if revision and not revision.isdigit():
        raise Fail(f"REVISION={revision} is not a number", "for example REVISION=2")
    used = [series for series in SERIES if patch_files([series])]
    for series in used or [CORE_DIR]:
        if not (series / COVER).exists():
            raise Fail(f"{rel(series / COVER)} is missing", "a series is sent with a cover letter")
    tree(keep=False)
    first = root_commit()
    cut = last_of_core(first, "HEAD")
    for series, start, end in ((CORE_DIR, first, cut), (TOOLS_DIR, cut, "HEAD")):
        if series in used:
            write_mbox(series, start, end, signoff, revision)


def write_mbox(series, first, last, signoff, revision):
    """A thread: the cover letter with shortlog and diffstat, then the patches as replies to it."""
    files, commits = patch_files([series]), git("rev-list", "--reverse", f"{first}..{last}").split()
    mark = f"[PATCH{' v' + revision if revision else ''} %0{len(str(len(files)))}d/{len(files)}]"
    thread = digest([series / COVER, *files])[:16]

    def ident(number):
        return f"<{thread}.{revision or 1}.{number}@gmem-convert.invalid>"

    def head(number, sender, date, subject):
        # Headers are ASCII; bodies are sent as they are.
        sender = email.utils.formataddr(email.utils.parseaddr(sender))
        if not subject.isascii():
            subject = email.header.Header(subject, "utf-8", header_name="Subject: [PATCH vNN NN/NN]").encode()
        lines = ["From git-send-email Mon Sep 17 00:00:00 2001", f"From: {sender}", f"Date: {date}",
                 f"Subject: {mark % number} {subject}", f"Message-Id: {ident(number)}"]
        if number:
            lines += [f"In-Reply-To: {ident(0)}", f"References: {ident(0)}"]
        return "\n".join([*lines, "MIME-Version: 1.0", "Content-Type: text/plain; charset=UTF-8",
                          "Content-Transfer-Encoding: 8bit", ""])

    def body(text):
        # A line that starts with "From " would end the mail.
        return re.sub(r"^(>*From )", r">\1", text.rstrip("\n"), flags=re.M) + "\n\n"

    subject, prose = cover_text(series / COVER)
    log = git("shortlog", "-w72,2,4", f"{first}..{last}")
    stat = git("diff", "--stat=72", "--summary", "-M", first, last)
    below = f"Linux {base.version(LINUX, root_commit())}, git tree" if first == root_commit() else "the core series, git tree"
    mails = []
    for number, (path, commit) in enumerate(zip(files, commits), 1):
        patch = Patch(path)
        text = path.read_text(errors="surrogateescape").split("\n\n", 1)[1]
        if signoff:
            message, rest = re.split(r"^---\n", text, maxsplit=1, flags=re.M)
            text = f"{message.rstrip()}\nSigned-off-by: {signoff}\n---\n{rest}".lstrip("\n")
        sender = signoff or f"{patch.author['GIT_AUTHOR_NAME']} <{patch.author['GIT_AUTHOR_EMAIL']}>"
        mails.append(head(number, sender, patch.author["GIT_AUTHOR_DATE"], patch.subject) + "\n" + body(text))
    date = git("log", "-1", "--format=%aD", last).strip()
    sender = signoff or git("log", "-1", "--format=%an <%ae>", last).strip()
    mails.insert(0, head(0, sender, date, subject) + "\n"
                 + body(prose.rstrip("\n") + f"\n\n{log}\n{stat}\nbase: {below} "
                        + git("rev-parse", first + "^{tree}").strip() + "\n"))
    common.write(SERIES[series], "".join(mails).encode(errors="surrogateescape"))
    print(f"{rel(SERIES[series])}: {len(mails)} mails" + (f", signed off by {signoff}" if signoff else
          "; to send it, give SIGNOFF=\"Name <address>\""))


def clean():
    own = ""
    if (LINUX / ".git").exists():
        # Removing the repository would take its other branches along.
        others = git("for-each-ref", "--no-merged=HEAD", "--format=%(refname:short)", "refs/heads", "refs/stash").split()
        own = work_of_its_own() or (f"another branch with commits of its own, {others[0]}" if others else "")
    for path in sorted(BUILD.iterdir()) if BUILD.exists() else []:
        if path.name == ".lock" or path == LINUX and own:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if own:
        print(f"build/linux was kept: it has {own}. Export or remove that, then clean again.")


def main():
    commands = {"tree": tree, "export": export, "base": move_base, "check": check, "mbox": mbox, "clean": clean}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print(__doc__)
        return 2
    held = common.lock()
    status = commands[sys.argv[1]]()
    if sys.argv[1] == "tree":
        print(f"build/linux is up to date: {len(commits_of())} patches on Linux {base.version(LINUX, root_commit())}")
    held.close()
    return status


if __name__ == "__main__":
    common.main(main)
