#!/usr/bin/env python3
"""Boots a test machine in QEMU and runs programs in it.

usage: machine.py MACHINE [SECONDS PROGRAM [ARGUMENT...]]    console on the terminal; a sample run without a program

A machine is a kernel flavour of config/flavours, with a way to boot it where it has several. It has
no disk: the initramfs is made from the list of the files that are needed. ACCEL names the
accelerator ('tcg' unless given); /dev/kvm may exist and still not run guests, so nothing is guessed.
"""
import os
import re
import shlex
import subprocess
import sys
import time

import common
import kernel
import qemu
import report
from common import LOGS, Fail, Step, end, output, rel, start

SAMPLE = "gmem-convert-vmm"
BOOT_SECONDS = 180  # with another machine and a compiler beside it


def accelerator(flavour):
    accel = os.environ.get("ACCEL") or "tcg"
    return f"tcg,thread={flavour.threads}" if accel == "tcg" else accel


def modules(flavour):
    """The kernel's modules below its object directory, each one after those that it needs."""
    order = flavour.kernel / "modules.order"
    needs = {}
    for line in order.read_text().split() if order.exists() else []:
        file = os.path.splitext(line)[0] + ".ko"
        depends = re.search(rb"\0depends=([^\0]*)\0", (flavour.kernel / file).read_bytes())
        needs[file] = depends[1].decode().split(",") if depends and depends[1] else []
    sorted_files, names = [], set()
    while len(sorted_files) < len(needs):
        ready = [file for file in needs if file not in sorted_files and names.issuperset(needs[file])]
        if not ready:
            raise Fail(f"{flavour.name}: modules that need what is not built: {needs}", f"see {rel(order)}")
        sorted_files += ready
        names.update(os.path.basename(file)[:-len(".ko")] for file in ready)
    return sorted_files


def cpio(flavour, path, lines):
    """Writes a list of files next to an initramfs, and the initramfs."""
    common.write(path.with_suffix(".list"), "\n".join(lines) + "\n")
    new = path.with_suffix(".new")
    with open(new, "wb") as file:
        file.write(output(flavour.kernel / "usr" / "gen_init_cpio", path.with_suffix(".list")))
    os.replace(new, path)
    return path


def guest(flavour, path, init):
    """The lines of an initramfs for the guest of a sample that boots Linux: the machine's own, with a PID 1 of its own."""
    inner = path.with_name(f"{path.stem}-{init}.cpio")
    cpio(flavour, inner, ["dir /dev 755 0 0", "nod /dev/console 600 0 0 c 5 1", f"file /init {kernel.program(flavour, init)} 755 0 0"])
    return ["dir /guest 755 0 0", f"file /guest/kernel {flavour.kernel / flavour.image} 644 0 0", f"file /guest/{init} {inner} 644 0 0"]


# What QEMU's machines need of the distribution's firmware.
VMM_FIRMWARE = ("bios-microvm.bin", "kvmvapic.bin", "linuxboot_dma.bin")


def vmm(flavour, name):
    """The lines of an initramfs for a VMM: QEMU from config/qemu with its libraries and firmware, and our own, below /vmm."""
    binary = qemu.build(name)
    stripped = binary.with_name(f"{name}.stripped")
    if not stripped.exists() or stripped.stat().st_mtime_ns <= binary.stat().st_mtime_ns:
        output("strip", "-o", stripped, binary)
    lines = ["dir /vmm 755 0 0", "dir /vmm/lib 755 0 0", "dir /lib64 755 0 0", f"file /vmm/{name} {stripped} 755 0 0"]
    for line in output("ldd", binary, text=True).splitlines():
        if found := re.search(r"(/\S+) \(0x", line):
            target = found[1] if "ld-linux" in found[1] else f"/vmm/lib/{os.path.basename(found[1])}"
            lines.append(f"file {target} {os.path.realpath(found[1])} 755 0 0")
    lines += [f"file /vmm/lib/{name}.so {flavour.programs / name}.so 755 0 0" for name in kernel.VMM_PRELOADS]
    lines += [f"file /vmm/{name}.bin {flavour.programs / name}.bin 644 0 0" for name in kernel.firmware_names()]
    for file in VMM_FIRMWARE:
        where = [f"{directory}/{file}" for directory in qemu.FIRMWARE if os.path.exists(f"{directory}/{file}")]
        if not where:
            raise Fail(f"the firmware {file} is missing", "run 'make tools'")
        lines.append(f"file /vmm/{file} {os.path.realpath(where[0])} 644 0 0")
    return lines


def initramfs(flavour, path, runs):
    """Writes the initramfs: PID 1, the list of what to run as (seconds, argument list), the programs."""
    lines = ["dir /dev 755 0 0", "dir /proc 755 0 0", "dir /sys 755 0 0", "dir /tmp 1777 0 0", "dir /bin 755 0 0",
             # PID 1 has its standard files before it mounts /dev.
             "nod /dev/console 600 0 0 c 5 1", "nod /dev/null 666 0 0 c 1 3",
             f"file /init {flavour.programs / 'init'} 755 0 0"]
    tests, known = "", {}
    # The test of a tool starts the tool.
    tools = [(0, [name]) for name in flavour.tools if (flavour.programs / name).exists()]
    for seconds, argv in [*tools, *runs]:
        name = argv[0]
        if name not in known:
            known[name] = "/bin/" + name.replace("/", "-")
            lines.append(f"file {known[name]} {kernel.program(flavour, name)} 755 0 0")
            if name in flavour.guests:
                lines += [line for line in guest(flavour, path, flavour.guests[name]) if line not in lines]
            if name in flavour.vmms:
                lines += vmm(flavour, flavour.vmms[name])
        if seconds:
            tests += f"{seconds} {' '.join([known[name], *argv[1:]])}\n"
    common.write(path.with_suffix(".tests"), tests)
    lines.append(f"file /tests {path.with_suffix('.tests')} 644 0 0")
    # Where a distribution has them as well. PID 1 loads them in this order.
    listed, base = "", f"/lib/modules/{(flavour.kernel / 'include/config/kernel.release').read_text().strip()}/kernel/"
    for file in modules(flavour):
        listed += f"{base}{file}\n"
        parts = f"{base}{file}".split("/")
        for i in range(2, len(parts)):
            if (line := f"dir {'/'.join(parts[:i])} 755 0 0") not in lines:
                lines.append(line)
        lines.append(f"file {base}{file} {flavour.kernel / file} 644 0 0")
    if listed:
        common.write(path.with_suffix(".modules"), listed)
        lines.append(f"file /modules {path.with_suffix('.modules')} 644 0 0")
    return cpio(flavour, path, lines)


def command(flavour, boot, initrd):
    append = " ".join(filter(None, [flavour.append, flavour.boots.get(boot, ""),
                                    "panic=-1 oops=panic printk.time=1 printk.devkmsg=on ignore_loglevel log_buf_len=16M",
                                    os.environ.get("APPEND", "")]))
    return [*qemu.command(flavour.emulators.get(boot, flavour.qemu)), "-accel", accelerator(flavour), "-kernel", flavour.kernel / flavour.image, "-initrd", initrd,
            "-append", append, "-no-reboot", "-nographic", "-nodefaults", "-serial", "stdio", "-monitor", "none"]


def boot(name, runs, watch=None, tag="", kernel_dir=None, programs=None, extra=()):
    """Boots a machine, runs the programs, returns the console's log and what QEMU said if it failed.

    The time limits of the programs are kept in the guest; the one here is for a guest that hangs.
    'kernel_dir' is the kernel to boot if it is not the flavour's own, 'programs' a flavour whose programs to take
    instead, 'extra' more of QEMU's arguments.
    """
    machines = kernel.Flavour.machines()
    if name not in machines:
        raise Fail(f"no machine '{name}'", f"there are: {' '.join(machines)}")
    flavour, variant = machines[name]
    flavour.kernel = kernel_dir or flavour.kernel
    if programs:
        flavour.programs, flavour.tests = programs.programs, programs.tests
    log = LOGS / f"console-{name}{tag}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = [*command(flavour, variant, initramfs(flavour, flavour.dir / f"initramfs-{name}{tag}.cpio", runs)), *extra]
    limit = time.monotonic() + BOOT_SECONDS + sum(seconds + 12 for seconds, _ in runs)
    said = None
    with open(log, "wb", buffering=0) as file:
        try:
            child = start(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        except FileNotFoundError:
            raise Fail(f"the emulator {argv[0]} is missing", "run 'make tools'") from None
        try:
            with open(log, "rb") as reader:
                while child.poll() is None:
                    if watch:
                        watch(reader.read().decode(errors="replace"))
                    if time.monotonic() > limit:
                        said = f"no end after {BOOT_SECONDS} s for booting and the programs' own limits"
                        break
                    time.sleep(0.05)
                if watch:
                    watch(reader.read().decode(errors="replace"))
        finally:
            end(child)
    if not said and child.returncode:
        said = f"{argv[0]} ended with exit status {child.returncode}"
    built = re.search(r'"(#.*)"', (flavour.kernel / "include/generated/utsversion.h").read_text())[1]
    if booted := re.search(r"Linux version .*(#\d+ .*?)\s*$", log.read_text(errors="replace"), re.M):
        if booted[1] != built:
            said = f"the machine booted the kernel {booted[1]}, but {built} was built: remove {rel(flavour.kernel)}"
    common.write(log.with_suffix(".command"), shlex.join(str(a) for a in argv) + "\n")
    return log, said


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    name, rest = sys.argv[1], sys.argv[2:]
    machines = kernel.Flavour.machines()
    if name not in machines:
        raise Fail(f"no machine '{name}'", f"there are: {' '.join(machines)}")
    if len(rest) == 1:
        raise Fail("a time limit, but no program", "machine.py MACHINE SECONDS PROGRAM [ARGUMENT...]")
    flavour = machines[name][0]
    if not rest and SAMPLE not in flavour.samples:
        raise Fail(f"a machine, but no program; {name} has not {SAMPLE}", "machine.py MACHINE SECONDS PROGRAM [ARGUMENT...]")
    runs = [(int(rest[0]), rest[1:])] if rest else [(60, [SAMPLE])]
    held = common.lock()
    kernel.build_kernel(flavour)
    kernel.build_programs(flavour, [argv[0] for _, argv in runs])
    with Step(f"boot {name}", f"boot-{name}.log") as step:
        log, said = boot(name, runs, watch=lambda text: print(text, end="", flush=True), tag="-one")
        step.note = f"console in {rel(log)}"
    console = report.read_console(log)
    if said or not console.finished:
        raise Fail(said or "the machine did not finish", f"see {rel(log)}")
    held.close()
    return 0 if console.runs and all(run.end == "exit 0" for run in console.runs) and not console.splats else 1


if __name__ == "__main__":
    common.main(main)
