#!/usr/bin/env python3
"""Tests of scripts/, without a kernel build: on a small repository with a small "kernel" of its own.

usage: scripts_test.py [NAME...]     prints KTAP
"""
import contextlib
import fcntl
import io
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest
import unittest.mock
import xml.dom.minidom

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import bench  # noqa: E402  (the modules under test)
import commits  # noqa: E402
import kernel  # noqa: E402
import report  # noqa: E402
import test as runner  # noqa: E402

CLEAN = {key: value for key, value in os.environ.items()
         if key not in ("LINUX", "SIGNOFF", "REVISION", "T", "TYPE", "VMM", "ARCH", "ACCEL", "APPEND", "MAKEFLAGS", "GMEM_LOCK_HELD") and
         not key.startswith("GIT_")}
NAMES = ["First change of the small kernel", "Second, by Jörg"]

# What the small kernel understands of kbuild: code.c is compiled unless it has the word 'broken', the
# configuration is what was asked for less CONFIG_LOST, and W=1 warns of each WARN in virt/kvm/a.c.
KBUILD = r"""
allnoconfig:
	@mkdir -p $(O)/arch/x86/boot; grep -v CONFIG_LOST $(KCONFIG_ALLCONFIG) > $(O)/.config
bzImage:
	@echo "  CC      code.o"; if grep -n broken code.c; then echo "code.c:1: error: broken"; exit 1; fi
	@cp code.c $(O)/arch/x86/boot/bzImage
arch/x86/kvm/:
	@echo "  CHECK   a.c"
	@grep -n WARN virt/kvm/a.c | sed 's|^\([0-9]*\):|$(CURDIR)/virt/kvm/a.c:\1:5: warning: |'
"""


def sh(*argv, cwd, **options):
    done = subprocess.run([str(a) for a in argv], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        raise AssertionError(f"{argv}: {done.stdout}")
    return done.stdout


class Sandbox(unittest.TestCase):
    """A copy of the scripts, a small base as a tarball, and a series of two patches."""

    def setUp(self):
        # Below build/: on the file system that the real work happens on, and gone with it.
        (ROOT / "build").mkdir(exist_ok=True)
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="scripts-test-", dir=ROOT / "build"))
        self.addCleanup(shutil.rmtree, self.top, ignore_errors=True)
        self.repo = self.top / "repo"
        self.repo.mkdir()
        for name in ("scripts", "config", "tests", "guest"):
            shutil.copytree(ROOT / name, self.repo / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Makefile", self.repo)
        shutil.rmtree(self.repo / "tests/mutants")
        self.env = dict(CLEAN, HOME=str(self.top), GIT_CONFIG_NOSYSTEM="1", GIT_AUTHOR_NAME="Jörg Ä",
                        GIT_AUTHOR_EMAIL="j@example.org", GIT_COMMITTER_NAME="c", GIT_COMMITTER_EMAIL="c@example.org")
        kernel = self.top / "linux-small"
        (kernel / "scripts").mkdir(parents=True)
        (kernel / "Makefile").write_text("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION =\n" + KBUILD)
        (kernel / "virt/kvm").mkdir(parents=True)
        (kernel / "virt/kvm/a.c").write_text("old WARN\n")
        # The real base ignores its own top level as well.
        (kernel / ".gitignore").write_text("*.o\n/*\n")
        (kernel / "ignored.o").write_text("the tarball has a file that is ignored\n")
        (kernel / "code.c").write_text("".join(f"line {n}\n" for n in range(200)))
        (kernel / "scripts/checkpatch.pl").write_text("#!/bin/sh\nexit 0\n")
        (kernel / "scripts/checkpatch.pl").chmod(0o755)
        self.tarball = self.top / "linux-small.tar.xz"
        sh("tar", "-cJf", self.tarball, "-C", self.top, "linux-small", cwd=self.top)
        self.git("init", "-q", tree=kernel)
        self.git("add", "-A", "-f", tree=kernel)
        self.base = self.git("write-tree", tree=kernel).strip()
        shutil.rmtree(kernel / ".git")
        self.write_base(self.base)
        self.env["LINUX"] = str(self.tarball)

    def write_base(self, series):
        text = (ROOT / "BASE").read_text()
        text = re.sub(r"^(base-tree +)\w+", rf"\g<1>{self.base}", text, flags=re.M)
        text = re.sub(r"^(series-tree +)\w+", rf"\g<1>{series}", text, flags=re.M)
        (self.repo / "BASE").write_text(text)

    def git(self, *args, tree=None):
        return sh("git", "-C", tree or self.repo / "build/linux", *args, cwd=self.top, env=self.env)

    def run_script(self, *argv, **env):
        done = subprocess.run([self.repo / "scripts" / argv[0], *argv[1:]], cwd=self.repo, env={**self.env, **env},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=120, check=False)
        self.out, self.err = done.stdout, done.stderr
        return done.returncode

    def works(self, *argv, **env):
        status = self.run_script(*argv, **env)
        self.assertEqual(status, 0, self.out + self.err)

    def fails(self, pattern, *argv, status=1, **env):
        """One message: it matches, it says what to do next, and there is no Python traceback."""
        got = self.run_script(*argv, **env)
        self.assertEqual(got, status, self.out + self.err)
        self.assertRegex(self.err, pattern)
        self.assertEqual(len(re.findall(r"^error: ", self.err, re.M)), 1, self.err)
        self.assertIn("next: ", self.err)
        self.assertNotIn("Traceback", self.err)

    def change(self, line, text, subject, note=""):
        file = self.repo / "build/linux/code.c"
        lines = file.read_text().splitlines()
        lines[line] = text
        file.write_text("\n".join(lines) + "\n")
        self.git("commit", "-q", "-a", "-m", f"{subject}\n\nWhy: ümlaut.\n\nAssisted-by: LLM\n")
        if note:
            self.git("notes", "add", "-m", note)

    def make_series(self):
        self.works("series.py", "tree")
        self.change(10, "changed", NAMES[0], note="For reviewers:\n\n  an indented line\ncheckpatch: X: why")
        self.change(100, "changed too", NAMES[1])
        self.works("series.py", "export")
        (self.repo / "patches/linux/0000-cover-letter.patch").write_text(
            "From: A <a@example.org>\nSubject: [PATCH] A small series\n\nIt changes code.c and scripts/checkpatch.pl.\n"
            "From here on it is text.\n")
        self.files = self.series_files()

    def series_files(self):
        return {p.name: p.read_bytes() for p in (self.repo / "patches/linux").iterdir()}

    def patch(self, number):
        return next((self.repo / "patches/linux").glob(f"{number:04}-*"))

    def head(self):
        return self.git("rev-parse", "HEAD").strip()


class Series(Sandbox):
    def test_apply_and_export_change_no_byte(self):
        self.make_series()
        first = self.files
        shutil.rmtree(self.repo / "build/linux")
        self.works("series.py", "tree")
        self.assertIn("2 patches", self.out)
        self.works("series.py", "export")
        self.assertIn("nothing changed", self.out)
        self.assertEqual(self.series_files(), first)
        text = self.patch(1).read_text()
        self.assertIn("Notes:\n    For reviewers:\n    \n      an indented line\n", text)
        self.assertRegex(text, r"\AFrom 0{40} ")
        self.assertRegex(text, r"\nindex [0-9a-f]{40}\.\.[0-9a-f]{40} ")
        self.assertNotRegex(text, r"\n-- \n")

    def test_export_ignores_the_git_configuration_of_its_user(self):
        self.make_series()
        (self.top / ".gitconfig").write_text(
            "[diff]\n\tnoprefix = true\n\tcontext = 9\n\tmnemonicPrefix = true\n\talgorithm = patience\n[format]\n"
            "\tnumbered = true\n\tsignature = me\n\tsubjectPrefix = RFC\n\tthread = true\n[core]\n\tabbrev = 9\n")
        self.works("series.py", "export")
        self.assertEqual(self.series_files(), self.files)

    def test_export_removes_the_file_of_a_dropped_commit(self):
        self.make_series()
        self.git("reset", "-q", "--hard", "HEAD^")
        self.works("series.py", "export")
        self.assertEqual(len(self.series_files()), 2)

    def test_export_refuses_a_fixup_commit(self):
        self.make_series()
        self.change(20, "x", "fixup! " + NAMES[0])
        self.fails("fixup! ", "series.py", "export")
        self.assertEqual(self.series_files(), self.files)

    def test_a_note_survives_a_rebase(self):
        self.make_series()
        self.git("commit", "-q", "--amend", "-m", NAMES[1] + ", reworded\n\nAssisted-by: LLM\n")
        self.git("rebase", "-q", "--force-rebase", self.git("rev-list", "--max-parents=0", "HEAD").strip())
        self.works("series.py", "export")
        self.assertIn("For reviewers", self.patch(1).read_text())

    def test_patch_that_does_not_apply(self):
        self.make_series()
        before, path = self.head(), self.patch(2)
        good = path.read_bytes()
        path.write_bytes(good.replace(b"-line 100", b"-line one hundred"))
        self.fails(r"0002-.* does not apply after 1 of 2", "series.py", "tree")
        self.assertEqual(self.head(), before)
        self.assertEqual(self.git("status", "--porcelain"), "")
        path.write_bytes(good)
        self.works("series.py", "tree")

    def test_patch_at_an_offset_is_refused(self):
        self.make_series()
        path = self.patch(2)
        text = path.read_text().replace("@@ -98,7 +98,7 @@", "@@ -95,7 +95,7 @@")
        self.assertNotEqual(text, path.read_text())
        path.write_text(text.replace("index ", "index 1", 1).replace("index 1", "index ", 1))
        # Same blobs: git finds the place, the result is right, only the export differs.
        self.fails_check("apply and export change no byte")
        # Other blobs: it was made for another file.
        path.write_text(re.sub(r"(\nindex \w+\.\.)\w{4}", r"\g<1>0000", path.read_text()))
        self.fails("not in the place it was made for", "series.py", "tree")

    def fails_check(self, name):
        self.assertEqual(self.run_script("series.py", "check"), 1, self.out + self.err)
        self.assertRegex(self.out, rf"(?m)^not ok \d+ .*{name}")

    def test_tree_hash_of_another_series(self):
        self.make_series()
        self.write_base("1" * 40)
        shutil.rmtree(self.repo / "build/linux")
        self.fails("after the last patch the git tree is", "series.py", "tree")

    def test_work_that_is_not_exported_is_kept(self):
        self.make_series()
        self.change(50, "new work", "Third")
        head = self.head()
        self.fails("commits that are not in patches/linux", "series.py", "tree")
        self.git("reset", "-q", "--hard", "HEAD^")
        new = self.repo / "build/linux/new.c"
        new.write_text("a new file\n")
        self.fails("a new file that is not committed, new.c", "series.py", "tree")
        new.unlink()
        self.works("series.py", "tree")
        self.git("reset", "-q", "--hard", head)
        (self.repo / "build/linux/code.c").write_text("half done\n")
        self.fails("uncommitted changes", "series.py", "tree")
        self.works("series.py", "clean")
        self.assertIn("build/linux was kept", self.out)
        self.assertEqual(self.head(), head)
        self.assertEqual((self.repo / "build/linux/code.c").read_text(), "half done\n")

    def test_work_on_another_branch_is_kept(self):
        self.make_series()
        self.git("checkout", "-q", "-b", "idea")
        self.change(50, "new work", "Third")
        self.git("checkout", "-q", "-")
        self.works("series.py", "tree")
        self.works("series.py", "clean")
        self.assertIn("another branch with commits of its own, idea", self.out)
        self.assertTrue((self.repo / "build/linux/code.c").exists())

    def test_a_rebase_in_the_middle_is_left_alone(self):
        self.make_series()
        self.git("-c", "sequence.editor=sed -i 1s/pick/edit/", "rebase", "-q", "-i", "HEAD~2")
        self.fails("a rebase that is not finished", "series.py", "tree")
        self.fails("rebase of build/linux is not finished", "series.py", "export")

    def test_clean_removes_what_is_exported(self):
        self.make_series()
        self.works("series.py", "clean")
        self.assertEqual([p.name for p in (self.repo / "build").iterdir()], [".lock"])

    def test_tree_follows_the_patches(self):
        self.make_series()
        second = self.patch(2)
        text = second.read_bytes()
        second.unlink()
        tree = self.git("rev-parse", "HEAD^^{tree}").strip()
        self.write_base(tree)
        self.works("series.py", "tree")
        self.assertEqual(self.git("rev-parse", "HEAD^{tree}").strip(), tree)
        second.write_bytes(text)

    def test_check_passes_a_good_series(self):
        self.make_series()
        self.patch(1).write_text(self.patch(1).read_text().replace("    checkpatch: X: why\n", ""))
        self.works("series.py", "tree")
        self.works("series.py", "check")
        self.assertEqual(len(re.findall(r"^ok ", self.out, re.M)), 8, self.out)

    def test_check_wants_the_trailers(self):
        self.make_series()
        path = self.patch(2)
        text = path.read_text()
        path.write_text(text.replace("Assisted-by: LLM\n", ""))
        self.fails_check("0002")
        path.write_text(text.replace("Assisted-by: LLM\n", "Assisted-by: LLM\nSigned-off-by: A <a@example.org>\n"))
        self.fails_check("0002")

    def test_check_finds_a_checkpatch_exception_without_use(self):
        self.make_series()
        self.fails_check("0001")
        self.assertIn("argues for checkpatch X, which does not occur", self.out)

    def test_check_reads_the_cover_letter(self):
        self.make_series()
        cover = self.repo / "patches/linux/0000-cover-letter.patch"
        cover.write_text(cover.read_text() + "\nSee scripts/gone.c.\n")
        self.fails_check("cover letter")

    def test_tools_are_a_series_of_their_own(self):
        self.make_series()
        first = self.git("rev-list", "--max-parents=0", "HEAD").strip()
        self.patch(1).write_text(self.patch(1).read_text().replace("    checkpatch: X: why\n", ""))
        self.works("series.py", "tree")
        self.change(30, "a sample", "samples: Third")
        self.change(40, "a tool", "tools/kvm: Fourth")
        tip = self.git("rev-parse", "HEAD^{tree}")
        self.works("series.py", "export")
        tools = self.repo / "patches/linux-tools"
        self.assertEqual([p.name for p in sorted(tools.iterdir())], ["0001-samples-Third.patch", "0002-tools-kvm-Fourth.patch"])
        self.assertEqual(len(self.series_files()), 3)
        self.fails("linux-tools/0000-cover-letter.patch is missing", "series.py", "mbox")
        (tools / "0000-cover-letter.patch").write_text(
            "From: A <a@example.org>\nSubject: [PATCH] Tools\n\nThey change code.c.\n")
        self.works("series.py", "check")
        self.assertEqual(len(re.findall(r"^ok ", self.out, re.M)), 12, self.out)
        text = (self.repo / "build/gmem-convert-tools.mbox").read_text()
        self.assertIn("Subject: [PATCH 2/2] tools/kvm: Fourth\n", text)
        self.assertIn("base: the core series, git tree " + self.git("rev-parse", "HEAD~2^{tree}"), text)
        core = (self.repo / "build/gmem-convert.mbox").read_text()
        self.assertIn("Subject: [PATCH 1/2] " + NAMES[0], core)
        self.assertNotIn("Fourth", core)
        # Both make the tree, in this order.
        shutil.rmtree(self.repo / "build/linux")
        self.works("series.py", "tree")
        self.assertEqual(self.git("rev-parse", "HEAD^{tree}"), tip)
        # The core must not need what comes after it.
        self.change(50, "core", "Fifth")
        self.fails("the core needs the commit '[0-9a-f]+ samples: Third'", "series.py", "export")
        self.git("reset", "-q", "--hard", first)
        self.works("series.py", "export")
        self.assertEqual([p.name for p in tools.iterdir()], ["0000-cover-letter.patch"])

    def test_another_stable_release_is_merged_three_way(self):
        self.make_series()
        other = self.top / "linux-other"
        shutil.copytree(self.top / "linux-small", other)
        text = (other / "code.c").read_text()
        (other / "code.c").write_text("a new first line\n" + text)
        (other / "Makefile").write_text((other / "Makefile").read_text().replace("= 4", "= 5"))
        self.git("init", "-q", tree=other)
        self.git("fetch", "-q", self.repo / "build/linux", "HEAD", tree=other)
        self.git("add", "-A", "-f", tree=other)
        self.git("commit", "-q", "-m", "another", tree=other)
        shutil.rmtree(self.repo / "build/linux")
        self.works("series.py", "tree", LINUX=str(other))
        self.assertIn("the base is Linux 7.3.5, not the pinned 7.3.4", self.out)
        self.assertEqual((self.repo / "build/linux/code.c").read_text().splitlines()[11], "changed")

    def test_another_kernel_is_refused(self):
        (self.top / "linux-small/Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n")
        sh("tar", "-cJf", self.tarball, "-C", self.top, "linux-small", cwd=self.top)
        self.fails(r"is Linux 6\.1\.0; the series is for 7\.3\.y", "series.py", "tree")
        self.assertFalse((self.repo / "build/linux").exists())

    def test_mbox_goes_through_b4(self):
        self.make_series()
        self.works("series.py", "mbox", SIGNOFF="Ann Bé <ann@example.org>", REVISION="2")
        text = (self.repo / "build/gmem-convert.mbox").read_text()
        self.assertIn("Subject: [PATCH v2 0/2] A small series\n", text)
        self.assertIn("\n>From here on", text)
        self.assertRegex(text, r"code.c \| 4 \+\+--")
        tree = self.top / "applied"
        self.git("clone", "-q", self.repo / "build/linux", tree, tree=self.top)
        self.git("checkout", "-q", "--detach", self.git("rev-list", "--max-parents=0", "HEAD").strip(), tree=tree)
        # b4 takes for granted that its user has told git a name.
        (self.top / ".gitconfig").write_text("[user]\n\tname = c\n\temail = c@example.org\n")
        env = dict(self.env, XDG_CACHE_HOME=str(self.top / "cache"), XDG_DATA_HOME=str(self.top / "data"))
        (self.top / "am").mkdir()
        sh("b4", "--offline-mode", "-n", "am", "-m", self.repo / "build/gmem-convert.mbox", "-o", self.top / "am",
           cwd=tree, env=env)
        self.git("am", "-q", *(self.top / "am").glob("*.mbx"), tree=tree)
        self.assertEqual(self.git("rev-parse", "HEAD^{tree}", tree=tree), self.git("rev-parse", "HEAD^{tree}"))
        self.assertEqual(self.git("log", "-2", "--format=%s", tree=tree).splitlines(), NAMES[::-1])
        for message in self.git("log", "-2", "--format=%B%x00", tree=tree).split("\0")[:2]:
            self.assertIn("Assisted-by: LLM\nSigned-off-by: Ann Bé <ann@example.org>\n", message)

    def test_mbox_wants_a_whole_address(self):
        self.make_series()
        self.fails("is not of the form", "series.py", "mbox", SIGNOFF="Ann")


class Build(Sandbox):
    """kernel.py and commits.py, on the makefile of the small kernel."""

    def setUp(self):
        super().setUp()
        self.works("series.py", "tree")

    def test_header_dependencies(self):
        """A selftest is compiled again if a header changed, though ccache shortens paths."""
        with tempfile.TemporaryDirectory() as directory:
            output = pathlib.Path(directory, "out")
            output.mkdir()
            source = pathlib.Path(directory, "a", "b")
            dep = output / "x.d"
            dep.write_text("../../out/x.o: x.c include/y.h\n")
            for _ in range(2):
                kernel.absolute_targets(output, source)
                self.assertEqual(dep.read_text(), f"{output}/x.o: x.c include/y.h\n")

    def test_library_objects(self):
        """A selftest's library file that got another name leaves an object behind, which isn't linked."""
        with tempfile.TemporaryDirectory() as directory:
            output, source = pathlib.Path(directory, "out"), pathlib.Path(directory, "kvm")
            for path in (output / "lib", source / "lib"):
                path.mkdir(parents=True)
            for name in ("old", "new", "asm"):
                (output / f"lib/{name}.o").touch()
            for name in ("old", "new"):
                (output / f"lib/{name}.d").write_text(f"{output}/lib/{name}.o: \\\n lib/{name}.c include/x.h\n")
            (source / "lib/new.c").touch()
            self.assertEqual([path.name for path in kernel.library_objects(output, source)], ["asm.o", "new.o"])

    def test_nothing_is_built_twice(self):
        self.works("kernel.py", "x86_64")
        self.assertIn("compile x86_64", self.out)
        self.works("kernel.py", "x86_64")
        self.assertNotIn("compile x86_64", self.out)

    def test_built_again_after_a_change(self):
        self.works("kernel.py", "x86_64")
        for path in ("code.c", "new.c"):
            with open(self.repo / "build/linux" / path, "a", encoding="ascii") as file:
                file.write("more\n")
            self.works("kernel.py", "x86_64")
            self.assertIn("compile x86_64", self.out, path)
        with open(self.repo / "config/x86_64.config", "a", encoding="ascii") as file:
            file.write("CONFIG_MORE=y\n")
        self.works("kernel.py", "x86_64")
        self.assertIn("compile x86_64", self.out)

    def test_a_build_that_failed_is_not_taken_for_done(self):
        code = self.repo / "build/linux/code.c"
        good = code.read_text()
        self.works("kernel.py", "x86_64")
        code.write_text("broken\n")
        self.fails("code.c:1: error: broken", "kernel.py", "x86_64")
        self.fails("code.c:1: error: broken", "kernel.py", "x86_64")
        code.write_text(good)
        self.works("kernel.py", "x86_64")
        self.assertIn("compile x86_64", self.out)

    def test_a_symbol_that_kconfig_drops(self):
        config = self.repo / "config/x86_64.config"
        text = config.read_text()
        config.write_text(text + "CONFIG_LOST=y\n")
        self.fails("CONFIG_LOST=y, got n", "kernel.py", "x86_64")
        config.write_text(text + "CONFIG_LOST=y\n# may differ: CONFIG_LOST because it is a test\n")
        self.works("kernel.py", "x86_64")

    def test_unknown_flavour(self):
        self.fails("no kernel flavour 'vax'", "kernel.py", "vax")

    def test_bisect(self):
        self.change(1, "one", "First")
        self.change(2, "broken", "Second")
        self.change(2, "mended", "Third")
        self.fails("patch 2 of 3 does not compile for x86_64: Second", "commits.py", "bisect", ARCH="x86_64")
        self.git("reset", "-q", "--soft", "HEAD^")
        self.git("commit", "-q", "--amend", "--no-edit")
        self.works("commits.py", "bisect", ARCH="x86_64")
        self.assertIn("known to compile: First", self.out)
        self.assertIn("each of 2 patches compiles", self.out)

    def test_new_warning(self):
        file = self.repo / "build/linux/virt/kvm/a.c"
        file.write_text("moved\nold WARN\n")
        self.git("commit", "-q", "-a", "-m", "First")
        self.works("commits.py", "warnings", ARCH="x86_64")
        self.assertIn("no new warnings", self.out)
        file.write_text("new WARN\nold WARN\n")
        self.git("commit", "-q", "-a", "-m", "Second")
        self.assertEqual(self.run_script("commits.py", "warnings", ARCH="x86_64"), 1)
        self.assertIn("new: virt/kvm/a.c:1: new WARN\n", self.out)
        self.assertNotIn("old WARN", self.out)


def make_deb(pool, root, name, version):
    """Makes a package of what is below a directory."""
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
                                         "Maintainer: a <a@example.org>\nDescription: small\n")
    pool.mkdir(parents=True, exist_ok=True)
    sh("dpkg-deb", "-b", root, pool, cwd=pool)
    return pool / f"{name}_{version.partition(':')[2] or version}_all.deb"


def index(archive, suite, sources=""):
    """What apt looks into: the packages in pool/, for all architectures, and the paragraphs of the sources."""
    def digest(path):
        return f"{sh('sha256sum', path, cwd=archive).split()[0]} {path.stat().st_size}"

    dist = archive / "dists" / suite
    binary = dist / f"main/binary-{sh('dpkg', '--print-architecture', cwd=archive).strip()}/Packages"
    source = dist / "main/source/Sources"
    text = ""
    for deb in sorted((archive / "pool").glob("*.deb")):
        sha, size = digest(deb).split()
        text += f"{sh('dpkg-deb', '-f', deb, cwd=archive)}Filename: pool/{deb.name}\nSize: {size}\nSHA256: {sha}\n\n"
    for path, content in ((binary, text), (source, sources)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (dist / "Release").write_text(f"Suite: {suite}\nCodename: {suite}\nComponents: main\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
                                  "SHA256:\n" + "".join(f" {digest(path)} {path.relative_to(dist)}\n" for path in (binary, source)))


class Emulator(Sandbox):
    """scripts/qemu.py, with a small "QEMU": its configure writes a build.ninja that copies a file."""

    def setUp(self):
        super().setUp()
        self.pin = self.repo / "config/qemu"
        small = self.top / "qemu-small"
        (small / "roms").mkdir(parents=True)
        (small / "roms/big").write_text("not unpacked\n")
        (small / "program").write_text("first\n")
        (small / "configure").write_text("#!/bin/sh\necho configured >>../configured\ncat >build.ninja <<EOF\n"
                                         "rule cp\n  command = cp \\$in \\$out\n"
                                         "build qemu-system-x86_64: cp $(dirname $0)/program\n"
                                         "build qemu-system-aarch64: cp $(dirname $0)/program\nEOF\n")
        (small / "configure").chmod(0o755)
        self.dl = self.repo / "build/dl"
        self.dl.mkdir(parents=True)
        self.tarball = self.dl / "qemu_10.0.13+ds.orig.tar.xz"
        sh("tar", "-cJf", self.tarball, "-C", self.top, "qemu-small", cwd=self.top)
        shutil.rmtree(small / "roms")
        for name in ("program", "patched"):
            if name == "patched":
                (small / "program").write_text("patched\n")
            else:
                self.git("init", "-q", tree=small)
            self.git("add", "-A", "-f", tree=small)
            self.git("commit", "-q", "-m", f"{name}\n\nAssisted-by: LLM\n", tree=small)
        base, series = (self.git("rev-parse", f"{name}^{{tree}}", tree=small).strip() for name in ("HEAD^", "HEAD"))
        self.patches = self.repo / "patches/qemu"
        self.git("format-patch", "-q", "--full-index", "-o", self.patches, "HEAD^", tree=small)
        # With the tools in place there is nothing to fetch.
        (self.repo / "build/qemu/tools").mkdir(parents=True)
        sha = sh("sha256sum", self.tarball, cwd=self.top).split()[0]
        self.write_pin("tarball-sha256", sha, "base-tree", base, "series-tree", series)

    def write_pin(self, *pairs):
        text = self.pin.read_text()
        for name, value in zip(pairs[::2], pairs[1::2]):
            text = re.sub(rf"^({name} +).*", rf"\g<1>{value}", text, flags=re.M)
        self.pin.write_text(text)

    def built(self):
        return len((self.repo / "build/qemu/configured").read_text().splitlines())

    def test_built_with_the_patches_and_not_twice(self):
        self.works("qemu.py")
        for name in ("qemu-system-x86_64", "qemu-system-aarch64"):
            self.assertEqual((self.repo / "build/qemu/obj" / name).read_text(), "patched\n")
        self.assertFalse((self.repo / "build/qemu/src/roms/big").exists())
        self.works("qemu.py")
        self.assertEqual(self.built(), 1)
        self.write_pin("configure", "--another-option")
        self.works("qemu.py")
        self.assertEqual(self.built(), 2)

    def test_a_build_that_failed_is_not_taken_for_done(self):
        self.works("qemu.py")
        (self.repo / "build/qemu/obj/qemu-system-x86_64").write_text("half\n")
        self.works("qemu.py")
        self.assertEqual((self.repo / "build/qemu/obj/qemu-system-x86_64").read_text(), "patched\n")

    def test_all_of_it_comes_from_an_archive(self):
        archive = self.top / "archive"
        for name in ("meson", "python3-distlib", "python3-pycotap"):
            (self.top / name / "usr/share").mkdir(parents=True)
            (self.top / name / "usr/share" / name).write_text("tool\n")
            make_deb(archive / "pool", self.top / name, name, "1.2-3")
        self.tarball.rename(archive / "pool" / self.tarball.name)
        (archive / "pool/qemu.dsc").write_text("")
        files = "".join(f" {sh('sha256sum', path, cwd=archive).split()[0]} {path.stat().st_size} {path.name}\n"
                        for path in sorted((archive / "pool").glob("qemu*")))
        index(archive, "trixie", "Package: qemu\nFormat: 3.0 (quilt)\nBinary: qemu\nArchitecture: any\n"
                                 f"Version: 1:10.0.13+ds-0+deb13u1\nDirectory: pool\nChecksums-Sha256:\n{files}")
        shutil.rmtree(self.repo / "build/qemu")
        self.works("qemu.py", MIRROR=str(archive))
        self.assertEqual((self.repo / "build/qemu/obj/qemu-system-x86_64").read_text(), "patched\n")
        self.assertTrue((self.repo / "build/qemu/tools/usr/share/meson").exists())

    def test_patches_of_another_version(self):
        patch = next(self.patches.glob("*.patch"))
        patch.write_text(patch.read_text().replace("-first", "-second"))
        self.fails("does not apply", "qemu.py")

    def test_a_changed_patch(self):
        self.write_pin("series-tree", "0" * 40)
        self.fails("config/qemu says", "qemu.py")

    def test_wrong_checksum(self):
        self.tarball.write_bytes(b"something else")
        self.fails("wrong checksum", "qemu.py")

    def test_a_later_point_release(self):
        self.tarball.rename(self.dl / "qemu_10.0.14+ds.orig.tar.xz")
        self.works("qemu.py")
        self.assertIn("instead of the pinned", self.out)
        self.assertEqual((self.repo / "build/qemu/obj/qemu-system-x86_64").read_text(), "patched\n")


class Archive(Sandbox):
    """Where the base comes from: a small archive of packages in a directory."""

    def setUp(self):
        super().setUp()
        self.make_series()
        self.archive = self.top / "archive"
        self.env.update(LINUX="", MIRROR=str(self.archive))

    def package(self, release, change=""):
        """Makes the package of a kernel, and the directory hold it."""
        source = self.top / "linux-small"
        (source / "Makefile").write_text(re.sub(r"SUBLEVEL = .*", f"SUBLEVEL = {release.split('.')[2]}",
                                                (source / "Makefile").read_text()))
        if change:
            (source / "code.c").write_text(change + (source / "code.c").read_text())
        root = self.top / "package"
        shutil.rmtree(root, ignore_errors=True)
        (root / "usr/src").mkdir(parents=True)
        sh("tar", "-cJf", root / "usr/src/linux-source-7.3.tar.xz", "-C", self.top, "linux-small", cwd=self.top)
        return make_deb(self.archive / "pool", root, "linux-source-7.3", f"{release}-1~bpo13+1")

    def pin(self, deb):
        """Has BASE name a package as the one that the series was made for."""
        text = (self.repo / "BASE").read_text()
        tarball = self.top / "package/usr/src/linux-source-7.3.tar.xz"
        for name, path in (("deb", deb), ("tarball", tarball)):
            text = re.sub(rf"^({name}-sha256 +)\w+", rf"\g<1>{sh('sha256sum', path, cwd=self.top).split()[0]}", text, flags=re.M)
        (self.repo / "BASE").write_text(text)
        shutil.rmtree(self.repo / "build")

    def index(self):
        index(self.archive, "trixie-backports")

    def changed_line(self):
        return (self.repo / "build/linux/code.c").read_text().splitlines().index("changed")

    def test_the_pinned_package(self):
        self.pin(self.package("7.3.4"))
        self.package("7.3.5", "one more\n")
        self.index()
        self.works("series.py", "tree")
        self.assertEqual(self.changed_line(), 10)

    def test_the_pinned_package_is_gone(self):
        self.package("7.3.5", "another\n")
        self.package("7.3.10", "one more\n")
        self.index()
        shutil.rmtree(self.repo / "build")
        self.works("series.py", "tree")
        self.assertIn("the archive has linux-source-7.3_7.3.10-1~bpo13+1_all.deb, and no longer the pinned", self.out)
        self.assertIn("the base is Linux 7.3.10, not the pinned 7.3.4", self.out)
        self.assertEqual(self.changed_line(), 12)

    def test_a_directory_with_the_package(self):
        deb = self.package("7.3.4")
        self.pin(deb)
        self.package("7.3.5", "one more\n")
        self.works("series.py", "tree", MIRROR=str(self.archive / "pool"))
        self.assertEqual(self.changed_line(), 10)
        deb.unlink()
        shutil.rmtree(self.repo / "build")
        self.works("series.py", "tree", MIRROR=str(self.archive / "pool"))
        self.assertEqual(self.changed_line(), 11)

    def test_another_kernel_is_refused(self):
        makefile = self.top / "linux-small/Makefile"
        makefile.write_text(makefile.read_text().replace("PATCHLEVEL = 3", "PATCHLEVEL = 2"))
        self.package("7.2.9")
        self.index()
        shutil.rmtree(self.repo / "build")
        self.fails(r"is Linux 7\.2\.9; the series is for 7\.3\.y", "series.py", "tree")
        self.assertFalse((self.repo / "build/linux").exists())

    def test_a_suite_without_the_package(self):
        self.package("7.3.5").unlink()
        self.index()
        shutil.rmtree(self.repo / "build")
        self.fails("fetch linux-source-7.3 .* failed", "series.py", "tree")

    def test_no_archive(self):
        shutil.rmtree(self.repo / "build")
        self.fails("is no directory and no address", "series.py", "tree", MIRROR="nowhere")
        self.archive.mkdir()
        self.fails("holds neither", "series.py", "tree")

    def test_the_pin_moves(self):
        self.pin(self.package("7.3.4"))
        self.package("7.3.5", "one more\n")
        self.index()
        self.works("series.py", "base")
        pin = (self.repo / "BASE").read_text()
        self.assertRegex(pin, r"(?m)^version +7\.3\.5$")
        self.assertRegex(pin, r"(?m)^package-version +7\.3\.5-1~bpo13\+1$")
        self.assertEqual(self.changed_line(), 11)
        # It is the pinned one from now on, on another machine as well.
        shutil.rmtree(self.repo / "build")
        self.works("series.py", "tree")
        self.assertNotIn("not the pinned", self.out)
        self.works("series.py", "export")
        self.assertIn("nothing changed", self.out)
        self.works("series.py", "base")
        self.assertIn("nothing to do", self.out)

    def test_the_pin_stays_if_a_patch_does_not_apply(self):
        self.pin(self.package("7.3.4"))
        self.index()
        self.works("series.py", "tree")
        before, head = (self.repo / "BASE").read_text(), self.head()
        code = self.top / "linux-small/code.c"
        code.write_text(code.read_text().replace("line 10\n", "line ten\n"))
        self.package("7.3.5")
        self.index()
        self.fails("does not apply", "series.py", "base")
        self.assertEqual((self.repo / "BASE").read_text(), before)
        self.assertEqual(self.series_files(), self.files)
        self.assertEqual(self.head(), head)


class Trouble(Sandbox):
    def test_wrong_checksum(self):
        deb = self.repo / "build/dl/linux-source-7.3_7.3.4-1~bpo13+1_all.deb"
        deb.parent.mkdir(parents=True)
        deb.write_text("not the package")
        self.fails("wrong checksum", "series.py", "tree", LINUX="")
        self.assertFalse(deb.exists())
        self.assertFalse((self.repo / "build/linux").exists())

    def test_no_network(self):
        # Nothing listens on the discard port: every connection is refused at once.
        proxy = "http://127.0.0.1:9"
        self.fails("fetch linux-source-7.3 .* failed", "series.py", "tree", LINUX="", http_proxy=proxy, https_proxy=proxy)
        self.assertIn("check the network", self.err)
        self.works("series.py", "tree")

    def test_full_disk(self):
        (self.repo / "build").mkdir()
        big = self.top / "linux-small/big"
        big.write_bytes(os.urandom(3 << 20))
        sh("tar", "-cJf", self.tarball, "-C", self.top, "linux-small", cwd=self.top)
        inside = (f'mount -t tmpfs -o size=2m none "{self.repo}/build" || exit 77; cd "{self.repo}"; '
                  'scripts/series.py tree; echo "status $?"')
        done = subprocess.run(["unshare", *([] if os.getuid() == 0 else ["-r"]), "-m", "sh", "-c", inside],
                              env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60, check=False)
        if done.returncode:
            self.skipTest(f"no mount namespace here: {done.stdout.strip()[-100:]}")
        self.assertRegex(done.stdout, "error: the disk is full")
        self.assertIn("status 1\n", done.stdout)
        self.assertNotIn("Traceback", done.stdout)
        big.unlink()
        sh("tar", "-cJf", self.tarball, "-C", self.top, "linux-small", cwd=self.top)
        self.works("series.py", "tree")

    def tools_without(self, *names):
        """A PATH with the usual programs, but not these."""
        directory = self.top / "bin"
        directory.mkdir()
        for source in ("/bin", "/usr/bin"):
            for path in pathlib.Path(source).iterdir():
                if path.name not in names and not (directory / path.name).exists():
                    (directory / path.name).symlink_to(path)
        return str(directory)

    def test_missing_compiler(self):
        self.works("series.py", "tree")
        self.fails("the compiler gcc is missing", "kernel.py", "x86_64", PATH=self.tools_without("gcc"))

    def test_missing_tools_on_another_distribution(self):
        path = self.tools_without("flex", "bison", "apt-get")
        self.fails("no apt-get", "tools.sh", "build", PATH=path)
        self.assertRegex(self.err, r"install what it calls .*: bison flex")

    def test_interrupt(self):
        # A pipe that nobody fills stands for a step that takes long.
        pipe = self.top / "slow.tar"
        os.mkfifo(pipe)
        child = subprocess.Popen([self.repo / "scripts/series.py", "tree"], cwd=self.repo,
                                 env=dict(self.env, LINUX=str(pipe)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True,
                                 # Whoever started the tests in the background may have them ignore it.
                                 preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        with open(pipe, "wb"):
            child.stdout.readline()
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=10)
        self.assertEqual(child.returncode, 130)
        self.assertRegex(err, "error: interrupted")
        self.assertNotIn("Traceback", err)
        self.assertFalse((self.repo / "build/linux").exists())
        self.works("series.py", "tree")

    def test_two_commands_at_once(self):
        (self.repo / "build").mkdir()
        with open(self.repo / "build/.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.fails("another command is at work", "series.py", "tree")
        self.works("series.py", "tree")

    def test_source_that_does_not_exist(self):
        self.fails("does not exist", "series.py", "tree", LINUX="/nowhere")

    def test_unknown_test(self):
        self.fails("no test in tests/list", "test.py", T="no-such-test")

    def test_unknown_type_of_vm(self):
        self.fails("no type of VM 'sev' for x86_64\n.*there are: software-protected swp-linux snp tdx snp-linux tdx-linux", "test.py", "--run", TYPE="sev")
        self.fails("no type of VM 'snp' for arm64\n.*there are: pkvm-linux", "test.py", "--run", TYPE="snp", ARCH="arm64")

    def test_unknown_vmm(self):
        self.fails("no VMM 'xen' for x86_64\n.*there are: qemu, for x86_64", "test.py", "--run", VMM="xen")
        self.fails("no type of VM 'tdx' for qemu\n.*there are: software-protected snp", "test.py", "--run", VMM="qemu", TYPE="tdx")

    def test_no_sample_for_architecture(self):
        self.fails("no sample VMM for 'x86_64-debug'\n.*there are those for: x86_64 arm64", "test.py", "--run", ARCH="x86_64-debug")


class Ktap(unittest.TestCase):
    def judge(self, text, end="exit 0", ktap=True, splats=()):
        run = report.Run("x", lines=list(enumerate(text.splitlines(), 1)), end=end, splats=list(splats))
        return [(case.name, case.status) for case in report.judge(run, ktap)]

    def test_plain(self):
        self.assertEqual(self.judge("TAP version 13\n1..2\n# RUN a\nok 1 a\nok 2 b # SKIP no hardware\n"),
                         [("a", "ok"), ("b", "skip")])

    def test_reason_of_a_skip(self):
        cases, _ = report.parse_ktap([(1, "1..2"), (2, "ok 1 a: #VC b"), (3, "not ok 2 #PF c # SKIP no #d")])
        self.assertEqual([(case.name, case.status, case.reason) for case in cases], [("a: #VC b", "ok", ""), ("#PF c", "skip", "no #d")])
        cases, _ = report.parse_ktap([(1, "1..1"), (2, "ok 1 - b # SKIP no hardware")])
        self.assertEqual((cases[0].name, cases[0].reason), ("b", "no hardware"))

    def test_failure_has_its_place_and_detail(self):
        cases, _ = report.parse_ktap([(7, "1..1"), (8, "# x.c:3: expected 1"), (9, "not ok 1 b")])
        self.assertEqual((cases[0].place, cases[0].detail), (9, ["# x.c:3: expected 1"]))

    def test_plan_not_fulfilled(self):
        self.assertIn(("plan", "fail"), self.judge("1..3\nok 1 a\nok 2 b\n"))

    def test_missing_plan(self):
        self.assertIn(("plan", "fail"), self.judge("ok 1 a\n"))
        self.assertEqual(self.judge("hello\n"), [("output", "fail")])

    def test_wrong_number(self):
        self.assertIn(("b", "fail"), self.judge("1..2\nok 1 a\nok 3 b\n"))

    def test_exit_status_must_agree(self):
        self.assertEqual(self.judge("1..1\nok 1 a\n", "exit 1"), [("a", "ok"), ("exit status", "fail")])
        self.assertEqual(self.judge("1..1\nnot ok 1 a\n", "exit 0"), [("a", "fail"), ("exit status", "fail")])
        self.assertEqual(self.judge("1..1\nnot ok 1 a\n", "exit 1"), [("a", "fail")])
        self.assertIn(("exit status", "fail"), self.judge("1..1\nok 1 a\n", "exit 4"))

    def test_signal_and_timeout(self):
        self.assertIn(("end", "fail"), self.judge("1..1\nok 1 a\n", "signal 11"))
        self.assertIn(("end", "fail"), self.judge("1..1\nok 1 a\n", "timeout"))
        self.assertIn(("end", "fail"), self.judge("1..1\nok 1 a\n", ""))

    def test_whole_program_skipped(self):
        self.assertEqual(self.judge("1..0 # SKIP no KVM\n", "exit 4"), [("all", "skip")])
        self.assertEqual(self.judge("Requirement not met: cap\n", "exit 4", ktap=False), [("", "skip")])

    def test_program_without_ktap(self):
        self.assertEqual(self.judge("hello\n", "exit 0", ktap=False), [("", "ok")])
        self.assertEqual(self.judge("hello\n", "exit 254", ktap=False), [("", "fail")])

    def test_levels(self):
        text = "1..2\n    1..2\n    ok 1 x\n    not ok 2 y\nnot ok 1 a\n    1..1\n    ok 1 z\nok 2 b\n"
        self.assertEqual(self.judge(text, "exit 1"), [("x", "ok"), ("y", "fail"), ("z", "ok")])
        self.assertIn(("plan", "fail"), self.judge("1..1\n    1..2\n    ok 1 x\nok 1 a\n"))

    def test_failed_parent_of_good_cases(self):
        self.assertIn(("a", "fail"), self.judge("1..1\n    1..1\n    ok 1 x\nnot ok 1 a\n", "exit 1"))

    def test_kernel_complaint_fails_a_good_test(self):
        self.assertIn(("kernel log", "fail"), self.judge("1..1\nok 1 a\n", splats=[(5, ["WARNING: x", "at y"])]))


class Console(unittest.TestCase):
    HEAD = "SeaBIOS\n[    0.0] Linux version 7.3.4\n"
    FIRST = "[    1.0] gmem: begin 1 /bin/a -x\n[    1.1] gmem| 1..1\n[    1.2] gmem| ok 1 c\n"
    END = "[    1.3] gmem: end 1 exit 0, 300 ms\n"
    DONE = "[    2.0] gmem: finished\n[    2.1] reboot: Power down\n"

    def read(self, text, allowed=lambda line: False):
        with tempfile.NamedTemporaryFile("w", suffix=".log") as file:
            file.write(text.replace("\n", "\r\n"))
            file.flush()
            return report.read_console(file.name, allowed)

    def test_good(self):
        console = self.read(self.HEAD + self.FIRST + self.END + self.DONE)
        self.assertTrue(console.finished)
        self.assertEqual(console.splats, [])
        run, = console.runs
        self.assertEqual((run.command, run.end, run.seconds, run.splats), ("/bin/a -x", "exit 0", 0.3, []))
        self.assertEqual(run.lines, [(4, "1..1"), (5, "ok 1 c")])

    def test_warning_belongs_to_the_test_that_runs(self):
        warning = "[    1.25] WARNING: CPU: 0 PID: 1 at virt/kvm/x.c:1\n[    1.25] Call Trace:\n"
        console = self.read(self.HEAD + self.FIRST + warning + self.END + self.DONE)
        self.assertEqual(len(console.runs[0].splats), 1)
        self.assertEqual(console.runs[0].splats[0][0], 6)
        self.assertEqual(console.runs[0].splats[0][1][1], "Call Trace:")
        console = self.read(self.HEAD + warning + self.FIRST + self.END + self.DONE)
        self.assertEqual((len(console.runs[0].splats), len(console.splats)), (0, 1))

    def test_every_kind_of_complaint(self):
        for text in ("BUG: KASAN: slab-out-of-bounds in x", "WARNING: possible circular locking dependency detected",
                     "INFO: task x:1 blocked for more than 120 seconds.", "BUG: sleeping function called from invalid",
                     "kernel BUG: at x", "Kernel panic - not syncing: x", "Oops: 0000 [#1] SMP", "UBSAN: shift",
                     "rcu: INFO: rcu_sched detected stalls on CPUs/tasks", "Internal error: Oops: 1",
                     "watchdog: BUG: soft lockup - CPU#0 stuck", "kvm [1]: nVHE hyp BUG at: x.c:1!",
                     "kvm [40]: nVHE hyp panic at: [<x>] x!", "Kernel panic - not syncing: HYP panic:", "** 9 printk messages dropped **",
                     "kernel BUG at virt/kvm/guest_memfd.c:1!"):
            console = self.read(self.HEAD + f"[    1.0] {text}\n" + self.DONE)
            self.assertEqual(len(console.splats), 1, text)

    def test_words_of_a_test_are_no_complaint(self):
        console = self.read(self.HEAD + self.FIRST.replace("ok 1 c", "WARNING: I am a test") + self.END + self.DONE)
        self.assertEqual((console.runs[0].splats, console.splats), ([], []))

    def test_known_complaint(self):
        text = self.HEAD + "[    0.5] WARNING: old friend\n" + self.DONE
        self.assertEqual(self.read(text, lambda line: "old friend" in line).splats, [])

    FOUND = "[    1.6] kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n"
    LEAK = ("[    1.7] gmem| unreferenced object 0xffff8880052ba280 (size 32):\n[    1.7] gmem|   comm \"swapper/0\", pid 1\n"
            "[    1.7] gmem|   backtrace (crc 948c44e6):\n[    1.7] gmem|     kmalloc+0x417/0x6e0\n[    1.7] gmem|     old_friend+0xe5/0x230\n")

    def leaks(self, text):
        """Complaints of a machine on which one kind of leak is known."""
        return [lines[0] for _, lines in self.read(self.HEAD + self.FIRST + self.END + text + self.DONE,
                                                   lambda line: "object (size 32): kmalloc old_friend" in line).splats]

    def test_known_leaks(self):
        self.assertEqual(self.leaks(self.FOUND + self.LEAK * 2), [])
        self.assertEqual(self.leaks(self.FOUND + self.LEAK.replace("kmalloc", "init") + self.LEAK),
                         ["kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
                          "unreferenced object (size 32): init old_friend"])

    def test_a_leak_that_nobody_tells_about(self):
        self.assertEqual(len(self.leaks(self.FOUND)), 1)
        self.assertEqual(len(self.leaks(self.FOUND + self.LEAK)), 1)

    def test_leaks_that_are_found_while_a_test_runs(self):
        console = self.read(self.HEAD + self.FIRST + self.FOUND + self.END + self.LEAK + self.DONE)
        self.assertEqual((len(console.runs[0].splats), len(console.splats)), (1, 1))

    def test_hang(self):
        console = self.read(self.HEAD + self.FIRST)
        self.assertFalse(console.finished)
        self.assertEqual(console.runs[0].end, "")

    def test_panic(self):
        console = self.read(self.HEAD + self.FIRST + "[    1.5] Kernel panic - not syncing: x\n")
        self.assertFalse(console.finished)
        self.assertEqual(len(console.runs[0].splats), 1)

    def test_long_lines_are_joined(self):
        text = self.FIRST.replace("ok 1 c", "ok 1 ab") + "[    1.2] gmem+ cd\n"
        self.assertEqual(self.read(self.HEAD + text + self.END + self.DONE).runs[0].lines[1][1], "ok 1 abcd")


class Reports(unittest.TestCase):
    """What commits.py takes for new."""

    def new(self, before, after):
        before, after = (commits.messages(ROOT, commits.COCCINELLE, text)[0] for text in (before, after))
        return sum((after - before).values())

    def test_only_what_is_new(self):
        one, other = "virt/kvm/a.c:9:1-7: preceding lock on line 3\n", "virt/kvm/a.c:5:1-2: Unneeded semicolon\n"
        moved = one.replace("a.c:9", "a.c:19").replace("line 3", "line 13")
        self.assertEqual(self.new("", one), 1)
        self.assertEqual(self.new(one, moved), 0)
        self.assertEqual(self.new(one, one + moved), 1)
        self.assertEqual(self.new(one, moved + other), 1)
        self.assertEqual(self.new(one, moved.replace("a.c", "b.c")), 1)
        self.assertEqual(self.new(one + other, ""), 0)


class Guard(unittest.TestCase):
    """scripts/bench.py and tests/instructions."""

    def setUp(self):
        self.path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "instructions"
        self.path.write_text("# how it is made\n\ncompiler gcc 1\na,4,convert 1000\nb,4,convert 200\n")

    def run_it(self, command, compiler="gcc 1", **counted):
        """What it prints, and its exit status; names are without what cannot be one in Python."""
        counted = {f"{name},4,convert": float(number) for name, number in counted.items()}
        with unittest.mock.patch.object(bench, "count", lambda: (compiler, counted)), \
                contextlib.redirect_stdout(io.StringIO()) as out:
            status = command(self.path)
        return out.getvalue(), status

    def cases(self, **counted):
        text, status = self.run_it(bench.guard, **counted)
        run = report.Run("guard", list(enumerate(text.splitlines(), 1)), f"exit {status}")
        return [case.status for case in report.judge(run, ktap=True)]

    def test_within_the_tolerance(self):
        self.assertEqual(self.cases(a=1050, b=190), ["ok", "ok"])

    def test_dearer_or_cheaper(self):
        self.assertEqual(self.cases(a=1051, b=200), ["fail", "ok"])
        self.assertEqual(self.cases(a=1000, b=189), ["ok", "fail"])

    def test_a_case_is_missing(self):
        self.assertEqual(self.cases(a=1000), ["ok", "fail"])

    def test_another_compiler(self):
        self.assertEqual(self.cases(compiler="gcc 2", a=1, b=1), ["skip"])

    def test_update(self):
        text, _ = self.run_it(bench.update, compiler="gcc 2", a=900.4, b=200, c=5)
        self.assertRegex(text, r"a,4,convert +1000 +900 +-10.0 %")
        self.assertEqual(self.path.read_text(), "# how it is made\n\ncompiler gcc 2\na,4,convert 900\nb,4,convert 200\n")
        self.assertEqual(self.cases(compiler="gcc 2", a=900, b=200), ["ok", "ok"])

    def test_update_of_a_case_that_is_gone(self):
        with self.assertRaisesRegex(bench.Fail, "no row b,4,convert"):
            self.run_it(bench.update, a=900)
        self.assertIn("a,4,convert 1000\n", self.path.read_text())

    def test_a_line_that_is_none(self):
        self.path.write_text("a,4,convert many\n")
        with self.assertRaisesRegex(bench.Fail, ":1 is not"):
            self.run_it(bench.guard)


class Performance(unittest.TestCase):
    """What scripts/bench.py writes."""

    def test_a_target_holds_if_each_number_does(self):
        row = bench.Row("what", [9, 9], [5, 8], (6, 7), "less than C", lambda a, b, c: b < c)
        self.assertFalse(bench.holds(row))
        self.assertIn("| 9.00 / 9.00 | 5.00 / 8.00 | 6.00 / 7.00 | less than C | **does not** |", bench.targets([row]))
        self.assertIn("| holds |", bench.targets([row._replace(c=(6, 9))]))
        self.assertIn("**does not**: so be it |", bench.targets([row._replace(because="so be it")]))

    def test_parts_are_filled_in(self):
        page = "text\n<!-- begin a: x -->\nold\n<!-- end a -->\nmore\n"
        self.assertEqual(bench.fill(page, {"a": "new \\1\n"}), page.replace("old", "new \\1"))
        with self.assertRaisesRegex(bench.Fail, "no place for the part 'b'"):
            bench.fill(page, {"b": ""})

    def test_the_page_has_its_parts(self):
        text = (ROOT / "docs/performance.md").read_text()
        for name in re.findall(r'"(\w+)": bars\(', (ROOT / "scripts/bench.py").read_text()):
            self.assertIn(f"(performance-{name}.svg)", text)
            xml.dom.minidom.parse(str(ROOT / f"docs/performance-{name}.svg"))


class Repository(unittest.TestCase):
    def test_lists_can_be_read(self):
        for test in runner.read_list():
            if test.machine == "host" and "/" in test.argv[0]:
                self.assertTrue(os.access(ROOT / test.argv[0], os.X_OK), test.argv[0])
        runner.read_known()

    def test_shell_is_clean(self):
        scripts = [*ROOT.glob("scripts/*.sh"), *ROOT.glob("tests/*/*.sh"), ROOT / ".ci/run"]
        sh("shellcheck", "-x", *scripts, cwd=ROOT)

    def test_help_names_every_target(self):
        text = sh("make", "help", cwd=ROOT, env=CLEAN)
        for target in re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split():
            self.assertRegex(text, rf"(?m)^  make {target} ")

    def test_patches_have_one_author(self):
        for patch in ROOT.glob("patches/*/*.patch"):
            self.assertRegex(patch.read_text(), r"(?m)\AFrom [^\n]*\n?From: gmem-convert developers <|\AFrom: gmem-convert developers <", patch)


class KtapResult(unittest.TestResult):
    """Prints each result as a KTAP line; the text of a failure goes before it as comments."""

    def __init__(self, total):
        super().__init__()
        print(f"KTAP version 1\n1..{total}", flush=True)

    def line(self, test, word, tail=""):
        print(f"{word} {self.testsRun} {test.id().split('.', 1)[-1]}{tail}", flush=True)

    def addSuccess(self, test):
        self.line(test, "ok")

    def addSkip(self, test, reason):
        self.line(test, "ok", f" # SKIP {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        for line in "".join(traceback.format_exception(*err)).splitlines():
            print("# " + line)
        self.line(test, "not ok")

    addError = addFailure


def main():
    loader = unittest.defaultTestLoader
    loader.testNamePatterns = [f"*{name}*" for name in sys.argv[1:]] or None
    suite = loader.loadTestsFromModule(sys.modules[__name__])
    result = KtapResult(suite.countTestCases())
    suite.run(result)
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
