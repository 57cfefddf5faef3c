#!/usr/bin/env python3
"""Builds a flavour: its kernel, and the programs that run on it.

usage: kernel.py FLAVOUR...

A flavour is described in config/flavours. Everything goes to build/FLAVOUR/, the kernel's tree
is only read. The kernel is rebuilt only when its tree, its configuration or the compiler changed.
"""
import configparser
import hashlib
import os
import re
import shlex
import shutil
import sys
import time

import base
import common
from common import BUILD, JOBS, LINUX, ROOT, Fail, Step, output, rel

# The same build again gives the same bytes, and the compiler cache can tell that it does, in another
# clone as well. Not CCACHE_DEPEND: without the preprocessor's output it does not notice '.incbin', and
# puts a kernel that it compressed before into a bzImage if only the size is the same.
ENV = dict(os.environ, LC_ALL="C", KBUILD_BUILD_TIMESTAMP="2026-01-01", KBUILD_BUILD_USER="gmem",
           KBUILD_BUILD_HOST="gmem", CCACHE_SLOPPINESS="time_macros", CCACHE_MAXSIZE="10G",
           CCACHE_NAMESPACE="gmem", CCACHE_NOHASHDIR="1", CCACHE_BASEDIR=str(ROOT))
for _name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARCH", "CROSS_COMPILE", "T", "TYPE", "VMM", "O", "V", "W", "C"):
    ENV.pop(_name, None)


# Programs that only the emulated hosts can run, with the library of the KVM selftests.
OWN_TESTS = ROOT / "tests/snp/linux", ROOT / "tests/tdx/linux"
# Programs that start a real VMM, and PID 1 of its guest.
VMM_TESTS = ROOT / "tests/vmm"
VMM_PRELOADS = ("attributes2-only", "remote-ioctl")
# Firmware for the guest of a VMM: each .S in there, with the .c of that name if there is one.
OWN_FIRMWARE = VMM_TESTS / "firmware"
BARE_STRINGS = ROOT / "tests/bare/strings.c"


class Flavour:
    """One section of config/flavours."""

    _file = None

    def __init__(self, name):
        self.name = name
        values = {}
        while name:
            if not self.all().has_section(name):
                raise Fail(f"no kernel flavour '{name}'", f"config/flavours has: {' '.join(self.all().sections())}")
            section = dict(self.all()[name])
            values = {**section, **values}
            name = section.get("like")
        self.arch, self.cross = values["arch"], values["cross"]
        self.fragments = [ROOT / "config" / f"{f}.config" for f in values["fragments"].split()]
        self.image = values["image"]
        self.threads = values.get("threads", "multi")
        self.samples = values.get("samples", "").split()
        self.tools = values.get("tools", "").split()
        self.guests = {key[len("guest."):]: value for key, value in values.items() if key.startswith("guest.")}
        self.vmms = {key[len("vmm."):]: value for key, value in values.items() if key.startswith("vmm.")}
        self.objects = int(values["objects"])
        self.variables = shlex.split(values.get("make", ""))
        self.qemu, self.append = shlex.split(values["qemu"]), values["append"]
        self.boots = {key[len("boot."):]: value for key, value in values.items() if key.startswith("boot.")}
        self.emulators = {key[len("qemu."):]: shlex.split(value) for key, value in values.items() if key.startswith("qemu.")}
        self.dir = BUILD / self.name
        self.kernel = self.dir / "kernel"
        self.tests = self.dir / "selftests"
        self.headers = self.dir / "headers"
        self.programs = self.dir / "programs"

    @classmethod
    def all(cls):
        if cls._file is None:
            cls._file = configparser.ConfigParser(interpolation=None)
            cls._file.read(ROOT / "config" / "flavours")
        return cls._file

    @classmethod
    def machines(cls):
        """Each machine's name, with the flavour and the boot variant that it stands for."""
        found = {}
        for name in cls.all().sections():
            flavour = cls(name)
            for boot in flavour.boots or ["plain"]:
                found[name if boot == "plain" else f"{name}-{boot}"] = (flavour, boot)
        return found

    def compiler(self):
        """The compiler as make and as a command of its own; with its version, to notice a change."""
        gcc = self.cross + "gcc"
        if not shutil.which(gcc):
            raise Fail(f"the compiler {gcc} is missing", "run 'make tools', it installs what is missing")
        return ("ccache " if shutil.which("ccache") else "") + gcc, output(gcc, "--version", text=True).splitlines()[0]

    def make(self, src, obj):
        return ["make", "-C", src, f"O={obj}", f"ARCH={self.arch}", f"CROSS_COMPILE={self.cross}",
                f"CC={self.compiler()[0]}", f"-j{JOBS}", *self.variables]


def tree_state(src):
    """Names the content of a work tree, uncommitted and new files included."""
    state = base.git("rev-parse", "HEAD^{tree}", tree=src).strip()
    changed, new = base.uncommitted(src)
    if changed or new:
        digest = hashlib.sha256(base.git("diff", "--binary", "HEAD", tree=src, text=False))
        for name in new:
            digest.update(f"{name} {common.sha256(src / name)}\n".encode())
        state += "+" + digest.hexdigest()[:16]
    return state


def wanted_config(flavour):
    """The fragments as one text, the symbols they ask for, and those that may come out otherwise."""
    text, wanted, lost = "", {}, set()
    for fragment in flavour.fragments:
        content = fragment.read_text()
        text += content
        for line in content.splitlines():
            words = line.split()
            if line.startswith("CONFIG_"):
                name, value = line.strip().split("=", 1)
                wanted[name] = value
            elif words[:3] == ["#", "may", "differ:"] and len(words) > 4:
                lost.add(words[3])
    return text, wanted, lost


def configure(flavour, src, obj, step, strict=True):
    """Runs allnoconfig plus fragments, and looks whether every symbol came out as asked for.

    Kconfig drops a symbol whose dependencies are not met without a word; a kernel without the
    feature under test would then skip its tests. Not strict: for a commit before a symbol's own.
    """
    text, wanted, lost = wanted_config(flavour)
    obj.mkdir(parents=True, exist_ok=True)
    common.write(obj / "frag", text)
    step.run([*flavour.make(src, obj), f"KCONFIG_ALLCONFIG={obj / 'frag'}", "allnoconfig"], env=ENV)
    got = {}
    for line in (obj / ".config").read_text().splitlines():
        if line.startswith("CONFIG_"):
            name, value = line.split("=", 1)
            got[name] = value
    wrong = [f"{name}={value}, got {got.get(name, 'n')}" for name, value in wanted.items()
             if got.get(name, "n") != value and name not in lost]
    if wrong and strict:
        raise Fail(f"{flavour.name}: these symbols did not come out as the fragments ask:\n    " + "\n    ".join(wrong),
                   f"add what they depend on to {', '.join(rel(f) for f in flavour.fragments)}, "
                   "or a line '# may differ: CONFIG_X reason'")


def build_kernel(flavour, src=LINUX, obj=None, log=None, title=None, strict=True):
    """Brings a flavour's kernel up to date. The stamp makes the usual 'nothing to do' take no time."""
    obj = obj or flavour.kernel
    title = title or f"compile {flavour.name}"
    stamp = obj / "gmem-stamp"
    image = obj / flavour.image
    text, _, _ = wanted_config(flavour)
    key = "\n".join([tree_state(src), hashlib.sha256(text.encode()).hexdigest(), flavour.compiler()[1],
                     *flavour.variables])
    if image.exists() and stamp.exists() and stamp.read_text() == f"{key}\n{image.stat().st_mtime_ns}\n":
        return image
    stamp.unlink(missing_ok=True)
    # The total is known only for a first build; a later one compiles what depends on the change.
    total = 0 if (obj / "vmlinux.o").exists() else flavour.objects
    count = 0

    def watch(line):
        nonlocal count
        words = line.split()
        if len(words) >= 2 and words[0] in ("CC", "AS", "HYPCC", "HYPAS"):
            count += 1
            if total:
                step.progress(f"{count}/{max(total, count)} objects {min(99, 100 * count // total)}%")
            else:
                step.progress(f"{count} objects")

    with Step(title, log or f"compile-{flavour.name}.log") as step:
        configure(flavour, src, obj, step, strict)
        modules = ["modules"] if "m" in wanted_config(flavour)[1].values() else []
        step.run([*flavour.make(src, obj), os.path.basename(flavour.image), *modules], watch, env=ENV)
        step.note = f"{count} objects"
    common.write(stamp, f"{key}\n{image.stat().st_mtime_ns}\n")
    return image


def sample_sources(src, name):
    """The C files of a sample: those of its NAME-objs in the makefile, or NAME.c."""
    makefile = src / "samples/kvm/Makefile"
    text = makefile.read_text().replace("\\\n", " ") if makefile.exists() else ""
    objects = re.search(rf"^{re.escape(name)}-objs\s*:=\s*(.*)$", text, re.M)
    return [makefile.parent / f"{os.path.splitext(word)[0]}.c" for word in objects[1].split()] if objects else [makefile.parent / f"{name}.c"]


def absolute_targets(output, directory):
    """ccache makes the targets in dependency files relative, and make, which is told absolute ones, takes no notice of a changed header."""
    relative = os.path.relpath(output, directory) + "/"
    for path in output.rglob("*.d"):
        text = path.read_text()
        if text.startswith(relative):
            path.write_text(f"{output}/" + text.removeprefix(relative))


def library_objects(output, directory):
    """Of the selftests' library. An object stays when its source gets another name; two of them would define the same."""
    found = []
    for path in sorted((output / "lib").rglob("*.o")):
        rule = path.with_suffix(".d")
        source = rule.read_text().replace("\\\n", " ").partition(":")[2].split()[0] if rule.exists() else ""
        if (directory / source).exists():
            found.append(path)
    return found


def firmware_names():
    return sorted(path.stem for path in OWN_FIRMWARE.glob("*.S"))


def build_firmware(flavour, step):
    """Runs below 4 GiB, at addresses that only code relative to itself reaches."""
    compiler = [*shlex.split(flavour.compiler()[0]), "-std=gnu11", "-O2", "-Wall", "-Wextra", "-ffreestanding", "-nostdlib", "-fpie",
                "-fvisibility=hidden", "-mno-red-zone", "-mgeneral-regs-only", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
                "-fcf-protection=none", "-fno-strict-aliasing", "-isystem", str(flavour.headers / "include")]
    link = ["-static", "-no-pie", f"-Wl,-T,{OWN_FIRMWARE / 'link.ld'}", "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments", "-Wl,-z,noexecstack"]
    for name in firmware_names():
        source = OWN_FIRMWARE / f"{name}.c"
        elf = flavour.programs / f"{name}.elf"
        step.run([*compiler, *link, "-o", elf, OWN_FIRMWARE / f"{name}.S", *[source, BARE_STRINGS] * source.exists()], env=ENV)
        step.run(["objcopy", "-O", "binary", elf, flavour.programs / f"{name}.bin"], env=ENV)


def build_programs(flavour, programs, src=LINUX):
    """Builds what runs on the kernel: PID 1, KVM selftests, and the samples and tools that are for this architecture."""
    cc, version = flavour.compiler()
    init = ROOT / "guest" / "init.c"
    samples = {name: sample_sources(src, name) for name in flavour.samples}
    names = sorted(set(programs).difference(flavour.samples, flavour.tools, (f"{tool}-test" for tool in flavour.tools)))
    # The test of a tool may be for some architectures only.
    tool_tests = sorted(set(programs).intersection(f"{tool}-test" for tool in flavour.tools))
    own = [path / f"{name}.c" for name in names for path in OWN_TESTS if (path / f"{name}.c").exists()]
    vmm = [VMM_TESTS / f"{name}.c" for name in names if name in flavour.vmms]
    vmm += [VMM_TESTS / f"{flavour.guests[path.stem]}.c" for path in vmm]
    names = [name for name in names if name not in [path.stem for path in (*own, *vmm)]]
    stamp = flavour.programs / "stamp"
    key = "\n".join([tree_state(src), common.sha256(init), version, " ".join([*names, *tool_tests]),
                     *(f"{path.name} {common.sha256(path)}" for path in (*own, *sorted(header for path in OWN_TESTS for header in path.glob("*.h")) * bool(own),
                                                             *vmm, *sorted(VMM_TESTS.glob("*.h")) * bool(vmm),
                                                             *[VMM_TESTS / f"{name}.c" for name in VMM_PRELOADS] * bool(vmm),
                                                             *sorted(OWN_FIRMWARE.iterdir()) * bool(vmm), *[BARE_STRINGS] * bool(vmm)))])
    if stamp.exists() and stamp.read_text() == key:
        return
    stamp.unlink(missing_ok=True)
    flavour.programs.mkdir(parents=True, exist_ok=True)
    uapi = flavour.headers / "include"
    done = 0

    def watch(line):
        nonlocal done
        if " -c " in line and "gcc" in line:
            done += 1
            step.progress(f"{done} files")

    with Step(f"programs {flavour.name}", f"programs-{flavour.name}.log") as step:
        step.run([*flavour.make(src, flavour.dir / "headers-obj"), f"INSTALL_HDR_PATH={flavour.headers}",
                  "headers_install"], env=ENV)
        compiler = [*shlex.split(cc), "-static", "-O2", "-g", "-Wall", "-Wextra", "-isystem", str(uapi)]
        step.run([*compiler, "-o", flavour.programs / "init", init], env=ENV)
        for path in vmm:
            step.run([*compiler, "-o", flavour.programs / path.stem, path], env=ENV)
        if vmm:
            build_firmware(flavour, step)
        for name in VMM_PRELOADS * bool(vmm):
            step.run([*(word for word in compiler if word != "-static"), "-shared", "-fPIC", "-o", flavour.programs / f"{name}.so",
                      VMM_TESTS / f"{name}.c"], env=ENV)
        for name, sources in samples.items():
            if sources[0].exists():
                step.run([*compiler, "-pthread", "-o", flavour.programs / name, *sources], env=ENV)
        for tool in flavour.tools:
            if (src / "tools/kvm" / tool).exists():
                step.run(["make", "-C", src / "tools/kvm" / tool, f"OUTPUT={flavour.programs}/", f"CC={cc}",
                          f"KHDR_INCLUDES=-isystem {uapi}", "LDFLAGS=-static",
                          *(str(flavour.programs / name) for name in (tool, f"{tool}-test")
                            if (name == tool or name in tool_tests) and (src / "tools/kvm" / tool / f"{name}.c").exists())], env=ENV)
        if names:
            # arm64 generates a header below tools/, which has to exist.
            (flavour.tests / "tools").mkdir(parents=True, exist_ok=True)
            absolute_targets(flavour.tests, src / "tools/testing/selftests/kvm")
            step.run(["make", "-C", src / "tools/testing/selftests/kvm", f"-j{JOBS}", f"OUTPUT={flavour.tests}",
                      f"ARCH={flavour.arch}", f"CROSS_COMPILE={flavour.cross}", f"CC={cc}",
                      f"KHDR_INCLUDES=-isystem {uapi}", "LDFLAGS=-static",
                      # Unset, that header would be generated in the kernel's tree.
                      f"abs_objdir={flavour.tests}",
                      *(str(flavour.tests / name) for name in names)], watch, env=ENV,
                     todo=f"see {rel(step.log)}; a test named in tests/list must exist in the kernel tree")
        selftests = src / "tools/testing/selftests"
        for path in own:
            # As the selftests' own makefile does, which builds nothing outside of its directory.
            include = [selftests / "kvm/include", selftests / f"kvm/include/{flavour.arch}", selftests,
                       src / "tools/include", src / f"tools/arch/{flavour.arch}/include"]
            step.run([*shlex.split(cc), "-static", "-pthread", "-no-pie", "-O2", "-g", "-std=gnu99", "-Wall", "-fno-strict-aliasing",
                      "-fno-stack-protector", "-U_FORTIFY_SOURCE", "-DCONFIG_64BIT", *(f"-I{path}" for path in include),
                      "-isystem", uapi, "-o", flavour.programs / path.stem, path, *library_objects(flavour.tests, selftests / "kvm")],
                     env=ENV)
    common.write(stamp, key)


def program(flavour, name):
    """Where a program of a test list is: a sample or a tool, or a selftest by its name in the kernel tree."""
    own = flavour.programs / name
    return own if own.exists() else flavour.tests / name


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    began = time.monotonic()
    held = common.lock()
    for name in sys.argv[1:]:
        image = build_kernel(Flavour(name))
        print(f"{rel(image)} is up to date ({time.monotonic() - began:.1f} s)")
    held.close()
    return 0


if __name__ == "__main__":
    common.main(main)
