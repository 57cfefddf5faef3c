#!/usr/bin/env python3
"""What conversions and faults cost with the series and without it: the numbers of docs/performance.md.

usage: bench.py             all of them; writes the generated parts of docs/performance.md, and what they show
       bench.py --guard     a few of them must be those of tests/instructions; KTAP
       bench.py --update    writes them there, and shows what has changed
       bench.py --profile   in which functions the instructions of some conversions are; writes that part of docs/performance.md

Boots the kernel of the base and that of the series, with the same configuration, and runs guest_memfd_perf_test in both. The
emulator counts instructions. How long others wait is a matter of time, and measured with two CPUs. With T=GROUP[,GROUP...]
those numbers are printed, and nothing is written; the same holds for ACCEL=kvm, which measures all of them in time.
"""
import bisect
import collections
import concurrent.futures
import os
import re
import sys

import commits
import common
import kernel
import machine
import qemu
import report
import series
import test
from base import git
from common import BUILD, LINUX, ROOT, Fail, Step, rel

MACHINE, PROGRAM = "x86_64", "guest_memfd_perf_test"
# An instruction is a nanosecond of the machine's time. One CPU, or else the counter runs while another one works. An emulated
# 'rep stosb' would count as one instruction for each byte, and make whoever clears pages look worse than he is.
COUNTING = ("-cpu", "max,erms=off,fsrm=off", "-smp", "1", "-icount", "shift=0,sleep=off", "-rtc", "clock=vm")
# The arguments of the program. What it did before costs a fault some instructions, so that faults have a process of their own.
RUNS = "-t fault", "-s 1024 -t conv,pattern,runs,threads,refuse,sparse,boot"
WAITS = "-s 1024 -t stall"
KEPT = ROOT / "tests" / "instructions"
PAGE, CSV = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.csv"
TOLERANCE = 0.05
# What is profiled: in words, the row, and what its number is to be multiplied with to get a call; a call has the command and size.
PROFILED = (
    ("to shared, the guest maps it: 64 MiB, a page", "conv,in-place,shared,guest,contiguous,65536,1,convert", 1 << 14),
    ("to shared, the guest maps it: one page", "conv,in-place,shared,guest,contiguous,4,1,convert", 1),
    ("all of a checkerboard of 262,144 runs, a run", "runs,in-place,private,none,checkerboard,1048576,1,all-runs", 1 << 18),
    ("4 KiB of a sparse file", "sparse,in-place,private,none,no-slot,1073741824,1,one-page", 1),
)
COMMANDS = {"shared": 0x41, "private": 0x42}
HEAD = "group,model,state,mapped,pattern,KiB,T,metric"
NAMES = "A: two memories", "B: this series", "C: attributes of the file"

# A line of the table of targets: the numbers of the systems, in words what is wanted, and whether one number of B is that.
# Where it is not, 'because' may tell why that is accepted.
Row = collections.namedtuple("Row", "what a b c target holds because", defaults=("",))
# A conversion of 1 GiB while somebody faults elsewhere: ns that it takes alone, and how many times that; faults, and ns that they wait.
Waits = collections.namedtuple("Waits", "what who alone times faults most longest")


def base_kernel(flavour):
    tree = commits.clone()
    git("fetch", "-q", "--force", LINUX, "HEAD", tree=tree)
    commits.checkout(tree, git("rev-list", "--max-parents=0", "FETCH_HEAD", tree=tree).split()[-1])
    obj = BUILD / "commits" / flavour.name / "base"
    kernel.build_kernel(flavour, tree, obj, "bench-base.log", f"compile {flavour.name} without the series", strict=False)
    return obj


def measure(what, kernel_dir, *runs, counting=True, more=()):
    """What the program says in one boot, if it is run with each of these arguments: {row: number}, the least one.

    'more' are arguments of QEMU."""
    log, said = machine.boot(MACHINE, [(3600, [PROGRAM, "--csv", *run.split()]) for run in runs], kernel_dir=kernel_dir,
                             tag=f"-bench-{what}", extra=[*(COUNTING if counting else ()), *more])
    console = report.read_console(log)
    found, per_us = {}, 1000
    for run in console.runs:
        for _, line in run.lines:
            words = line.split(",")
            if len(words) == 11 and words[9].isdigit():
                # Numbers of something are no time.
                scale = 1 if counting or re.search("-(number|bytes|ratio|ns)$", words[7]) else 1000 / per_us
                key = ",".join(words[:8])
                found[key] = min(found.get(key, float("inf")), float(words[10]) * scale)
            elif line.startswith("# ticks per us: "):
                per_us = float(line.split()[-1])
    if said or not found or len(console.runs) != len(runs) or any(run.end != "exit 0" for run in console.runs):
        raise Fail(said or f"{PROGRAM} did not end well", f"see {rel(log)}")
    return found


def with_accelerator(name, function):
    before = os.environ.get("ACCEL")
    os.environ["ACCEL"] = name
    try:
        return function()
    finally:
        del os.environ["ACCEL"]
        if before is not None:
            os.environ["ACCEL"] = before


def both(what, kernels, *runs, counting=True):
    """The numbers of the base, and of the series. Where instructions are counted, what else the CPUs do does not matter."""
    def one(name, where):
        return measure(f"{what}-{name}", where, *runs, counting=counting)

    with Step(f"{what}: {PROGRAM} {', '.join(runs)}"):
        if not counting:
            return [one(*each) for each in zip(("base", "series"), kernels)]
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            return with_accelerator("tcg,thread=single", lambda: list(pool.map(one, ("base", "series"), kernels)))


def build(with_base):
    flavour, _ = kernel.Flavour.machines()[MACHINE]
    kernel.build_kernel(flavour)
    # The same list as that of make test, or else each of them would build what the other one did not.
    kernel.build_programs(flavour, [one.argv[0] for one in test.read_list() if one.machine == MACHINE])
    return flavour, base_kernel(flavour) if with_base else None


def rows(base, series):
    """The table of targets."""
    def pair(key, *wheres):
        """The same of A and of B."""
        return [[numbers[key.format(model, where)] for where in wheres]
                for numbers, model in ((base, "two-memory"), (series, "in-place"))]

    def conv(state_mapped, *sizes):
        return pair(f"conv,{{}},{state_mapped},contiguous,{{}},1,convert", *sizes)

    def faults(numbers, *keys):
        return [numbers[f"fault,{key}"] for key in keys]

    def of(numbers, others):
        return [number / other for number, other in zip(numbers, others)]

    def sparse(where):
        return series[f"sparse,in-place,private,none,{where},1,all"] / series[f"sparse,in-place,private,none,{where},1,one-page"]

    def less(_a, b, c):
        return b < c

    def less_by_tenth(_a, b, c):
        return b <= 0.9 * c

    def as_a(_a, b, _c):
        return b <= 1.005

    one = [x + y for x, y in zip(conv("private,both", 4), conv("shared,guest", 4))]
    private = "private,none,one-run,256,1,guest-first"
    a_private = faults(base, f"two-memory,{private}")
    host = "shared,none,none,256,1,host-first", "shared,present,none,256,1,host-existing"
    a_host = faults(base, *(f"plain,{key}" for key in host))
    ordinary = [key for key in base if re.match("fault,(anonymous|plain),", key)]
    return [
        Row("to private, host and guest map it: 2 MiB / 64 MiB / 1 GiB", *conv("private,both", 2048, 65536, 1048576),
            (825, 818, 857), "10 % less than C", less_by_tenth),
        Row("to private, the host maps it: 2 MiB / 64 MiB", *conv("private,host", 2048, 65536), (671, 664), "10 % less than C",
            less_by_tenth),
        Row("to private, the guest maps it: 2 MiB / 64 MiB", *conv("private,guest", 2048, 65536), (487, 481), "10 % less than C",
            less_by_tenth),
        Row("to shared, the guest maps it: 2 MiB / 64 MiB / 1 GiB", *conv("shared,guest", 2048, 65536, 1048576),
            (212, 207, 206), "C at most", lambda a, b, c: b <= c,
            "207 of them are KVM's MMU, which takes away one SPTE after the other; the rest counts the pages"),
        Row("to shared, present but not mapped: 64 MiB", *conv("shared,present", 65536), (52,), "60 at most",
            lambda a, b, c: b <= 60),
        Row("one page that is mapped: to private / to shared", *one, (6971, 3358), "less than C", less,
            "what a call costs whatever its size: bindings, the store, counters"),
        Row("one page of a checkerboard in the making: 1 GiB without pages / 64 MiB with pages",
            *pair("runs,{},private,{},1,one-page", "none,checkerboard,1048576", "both,checkerboard,65536"), (8012, 10598),
            "less than C", less),
        Row("all of a checkerboard of 262,144 runs, a run", *pair("runs,{},private,none,checkerboard,{},1,all-runs", 1048576),
            (None,), "100 at most", lambda a, b, c: b <= 100,
            "a step over each run, to know what will be stored, and the tree's nodes are freed"),
        Row("private fault of a VM with two memories", a_private, of(faults(series, f"two-memory,{private}"), a_private),
            (None,), "A + 0.5 % at most", as_a),
        Row("private fault, convertible file: empty store / one run", a_private * 2, of(faults(
            series, f"in-place,{private.replace('one-run', 'empty')}", f"in-place,{private}"), a_private * 2),
            (4956 / 4888, 4998 / 4888), "less than A and C", lambda a, b, c: b < min(1, c)),
        Row("host fault, plain file: first touch / the page exists", a_host, of(faults(series, *(f"plain,{key}" for key in host)),
            a_host), (4517 / 4362, 2558 / 2403), "A + 0.5 % at most", as_a),
        Row("host fault, convertible file against A's plain one: empty store / one run", a_host[:1] * 2, of(faults(
            series, *(f"in-place,shared,none,{store},256,1,host-first" for store in ("empty", "one-run"))), a_host[:1] * 2),
            (1.042, 1.045), "less than C", less),
        Row("sparse file, against 4 KiB of it: 1 TiB without a slot / 512 GiB in a slot / 1 GiB in a slot", (None,) * 3,
            [sparse("no-slot,1073741824"), sparse("slot,536870912"), sparse("slot,1048576")], (2.44, 2.9, None),
            "1.3 times at most", lambda a, b, c: b <= 1.3,
            "the call for 4 KiB is what became cheaper"),
        Row(f"the dearest of {len(ordinary)} kinds of fault of default VMs", (None,),
            [max(series[key] / base[key] for key in ordinary)], (None,), "not one instruction more", lambda a, b, c: b <= 1),
    ]


def holds(row):
    return all(row.holds(a, b, c) for a, b, c in zip(row.a, row.b, row.c, strict=True))


def show(numbers):
    """Instructions, or else factors; those that are close to 1 are shown as what there is more."""
    def one(n):
        return "–" if n is None else f"{n:,.0f}" if n >= 100 else f"{n:.1f}" if n >= 10 else \
            f"{100 * (n - 1):+.1f} %" if 0.5 < n < 1.25 else f"{n:.2f}"

    return " / ".join(map(one, numbers)) if any(numbers) else "–"


def table(head, lines):
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in (head, ["---"] * len(head), *lines))


def targets(listed):
    return table(["instructions, of a page where nothing else is said", "A", "B", "C", "target", "reached"], (
        [row.what, show(row.a), show(row.b), show(row.c), row.target,
         "holds" if holds(row) else "**does not**" + (f": {row.because}" if row.because else "")] for row in listed))


def waits_of(numbers, model):
    """For each conversion, and each kind of fault meanwhile."""
    for mapped, what in (("private,host", "to private, host maps it"), ("private,both", "to private, host and guest map it"),
                         ("shared,guest", "to shared, guest maps it")):
        rows_of = {tuple(key.split(",")[4::3]): number for key, number in numbers.items() if key.startswith(f"stall,{model},{mapped},")}
        for who in ("guest", "host"):
            def get(metric, pattern=f"{who}-faults"):
                return rows_of[pattern, metric]

            # Of a page, the others are whole numbers.
            alone = get("convert", "alone") * (1 << 18)
            yield Waits(what, who, alone, get("slowdown-ratio"), get("faults-number"), get("fault-p99.9"), get("fault-longest"))


def stalls(base, series):
    lines = []
    for name, numbers, model in (("A", base, "two-memory"), ("B", series, "in-place")):
        for w in waits_of(numbers, model):
            good = w.times <= 1.5 and w.longest <= w.alone / 50
            lines.append([w.what, w.who, name, f"{w.alone / 1e6:.0f} ms", f"{w.times:.2f}", f"{w.faults:,.0f}", f"{w.most / 1e3:,.0f} µs",
                          f"{w.longest / 1e3:,.0f} µs", f"1/{w.alone / w.longest:.0f}", "holds" if good else "does not"])
    return table(["1 GiB", "who faults", "", "alone", "with faults, times", "faults", "99.9 % wait at most", "longest wait",
                  "of the time alone", "1.5 times, 1/50"], lines)


def pairs(base, series):
    """Each row that A and B have in common, with the number of either."""
    for key, number in series.items():
        before = base.get(key) or base.get(key.replace(",in-place,", ",two-memory,"))
        if before:
            yield key, before, number


def other(base, series):
    """What no figure or target shows."""
    lines = []
    for key, number in series.items():
        group, model, *_, metric = key.split(",")
        if model == "in-place" and (group in ("pattern", "threads", "boot") and metric == "convert" or group == "refuse"
                                    or metric == "store-bytes"):
            before = base.get(key.replace(",in-place,", ",two-memory,"))
            lines.append([key.replace(",in-place", "").replace(",contiguous", "").replace(",", " "),
                          "–" if before is None else f"{before:,.1f}", f"{number:,.1f}",
                          f"{before / number:.1f}" if before and number else ""])
    return table(["group, state, who maps it, pattern, KiB, threads, metric", "A", "B", "A/B"], lines)


# --- figures

COLOURS = ("#9aa5b1", "#1f6feb", "#e08a1e")


def bars(title, unit, names, groups):
    """A figure: for each group, i.e. (title, numbers), a bar for each system that has one."""
    y, parts = 64, [f'<text x="16" y="26" font-size="15" font-weight="bold">{title}</text>']
    for i, name in enumerate(names):
        parts.append(f'<rect x="{16 + i * 200}" y="38" width="11" height="11" fill="{COLOURS[i]}"/>'
                     f'<text x="{32 + i * 200}" y="48">{name}</text>')
    most = max(number for _, numbers in groups for number in numbers if number is not None)
    for what, numbers in groups:
        there = [(i, number) for i, number in enumerate(numbers) if number is not None]
        parts.append(f'<text x="304" y="{y + 8 + 9 * len(there)}" text-anchor="end">{what}</text>')
        for i, number in there:
            width = max(1, 330 * number / most)
            parts.append(f'<rect x="312" y="{y}" width="{width:.1f}" height="15" fill="{COLOURS[i]}"/>'
                         f'<text x="{318 + width:.1f}" y="{y + 12}">{number:,.{0 if number >= 10 else 2}f}</text>')
            y += 18
        y += 12
    parts.append(f'<text x="312" y="{y + 6}">{unit}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y + 20}" font-family="sans-serif" font-size="12">\n'
            f'<rect width="720" height="{y + 20}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")


def figures(listed, stalls_base, stalls_series):
    """Those of docs/, by name."""
    sizes = "2 MiB", "64 MiB", "1 GiB"

    def groups(*chosen):
        return [(f"{what}{size}", numbers) for row, what, labels in chosen
                for size, numbers in zip(labels, zip(row.a, row.b, row.c, strict=True))]

    waits = [(f"{a.what}; {a.who} waits", (100 * a.longest / a.alone, 100 * b.longest / b.alone))
             for a, b in zip(waits_of(stalls_base, "two-memory"), waits_of(stalls_series, "in-place"), strict=True)]
    return {
        "size": bars("A conversion, by size", "instructions a page", NAMES, groups(
            (listed[0], "to private, host and guest map it, ", sizes), (listed[3], "to shared, guest maps it, ", sizes))),
        "page": bars("Single pages", "instructions a page; a checkerboard: each call converts one page", NAMES, groups(
            (listed[5], "", ("one page to private", "one page to shared")),
            (listed[6], "checkerboard, ", ("1 GiB without pages", "64 MiB with pages")))),
        "stall": bars("Longest wait of an unrelated fault while 1 GiB is converted",
                      "% of the time that the conversion takes alone (C: all of it)", NAMES[:2], waits),
    }


# --- commands

def conditions(flavour):
    pin, options = common.base(), " ".join(flavour.qemu[1:])
    return (f"Linux {pin['version']} ({pin['package']} {pin['package-version']}), series {pin['series-tree'][:12]}, "
            f"configuration {' + '.join(rel(path) for path in flavour.fragments)}, {flavour.compiler()[1]}. "
            f"QEMU {common.settings(ROOT / 'config/qemu')['version']} with patches/qemu, `{options}`; "
            f"then `{' '.join(COUNTING)}` where instructions are counted, and else a thread for each CPU.\n")


def fill(text, parts):
    """Puts the generated parts between their marks."""
    for name, part in parts.items():
        found = re.search(rf"<!-- begin {name}\b[^\n]*-->\n(.*?)<!-- end {name} -->\n", text, re.S)
        if not found:
            raise Fail(f"{rel(PAGE)} has no place for the part '{name}'", f"it is between <!-- begin {name} --> and <!-- end {name} -->")
        text = text[:found.start(1)] + part + text[found.end(1):]
    return text


def bench():
    groups, real = os.environ.get("T", ""), os.environ.get("ACCEL", "tcg") not in ("", "tcg")
    flavour, without = build(with_base=True)
    kernels = without, flavour.kernel
    if groups or real:
        runs = [f"-s 1024 -t {groups}"] if groups else [*RUNS, WAITS]
        base, after = both("bench", kernels, *runs, counting=not real)
        print(f"{'ns' if real else 'instructions':70}{'base':>14}{'series':>14}")
        for key, a, b in pairs(base, after):
            print(f"{key:70}{a:14,.2f}{b:14,.2f}{100 * (b - a) / a:+8.1f} %")
        return 0
    return publish(flavour, *both("count", kernels, *RUNS), both("waits", kernels, *[WAITS] * 2, counting=False))


def publish(flavour, base, after, waits):
    """Writes all of it, and says whether the targets hold."""
    listed = rows(base, after)
    shown = targets(listed)
    common.write(PAGE, fill(PAGE.read_text(), {
        "conditions": conditions(flavour), "targets": shown, "stalls": stalls(*waits), "other": other(base, after)}))
    common.write(CSV, f"kernel,{HEAD},each\n" + "".join(
        f"{name},{key},{number:.2f}\n" for name, numbers in (("base", base), ("series", after)) for key, number in numbers.items()))
    for name, text in figures(listed, *waits).items():
        common.write(PAGE.with_name(f"performance-{name}.svg"), text)
    print(shown, end="")
    missed = sum(not holds(row) for row in listed)
    argued = sum(not holds(row) and bool(row.because) for row in listed)
    print(f"{len(listed) - missed} of {len(listed)} targets hold, {argued} others are argued; {rel(PAGE)} and what it shows are written")
    return 1 if missed > argued else 0


def build_plugin():
    """The plugin of the emulator that profiles."""
    source, target = ROOT / "scripts/profile.c", BUILD / "profile.so"
    with Step("compile the plugin", "profile-plugin.log") as step:
        flags = common.output("pkg-config", "--cflags", "glib-2.0", text=True).split()
        step.run(["gcc", "-Wall", "-Wextra", "-Wno-unused-parameter", "-O2", "-shared", "-fPIC", f"-I{qemu.SOURCE}/include/qemu",
                  *flags, "-o", target, source])
    return target


def symbols(kernel_dir):
    """The addresses of the kernel's functions, sorted, and their names."""
    found = sorted((int(address, 16), name) for address, kind, name in
                   map(str.split, common.output("nm", kernel_dir / "vmlinux", text=True).splitlines()) if kind in "tTwW")
    return [address for address, _ in found], [name for _, name in found]


def read_profile(path, addresses, names):
    """What the plugin wrote: {(command, size, instructions): (calls, {function: instructions})}."""
    kinds, functions, key = {}, None, None
    for line in path.read_text().splitlines():
        words = line.split()
        if words[0] == "call":
            functions = collections.Counter()
            key = int(words[1], 16) & 0xff, int(words[2]), int(words[3])
            kinds[key] = int(words[4]), functions
        else:
            functions[names[bisect.bisect(addresses, int(words[0], 16)) - 1]] += int(words[1])
    return kinds


def profile():
    """Which functions of the kernel the instructions of a few conversions are in, for what missed its target."""
    flavour, _ = build(with_base=False)
    qemu.build()
    plugin, output = build_plugin(), BUILD / "profile.out"
    addresses, names = symbols(flavour.kernel)
    entry = addresses[names.index("kvm_gmem_ioctl")]
    # The same arguments as those of the numbers: what a call takes depends on what was before.
    with Step(f"profile {PROGRAM}"):
        output.unlink(missing_ok=True)
        numbers = with_accelerator("tcg,thread=single", lambda: measure(
            "profile", flavour.kernel, "-s 64 -t conv,runs,sparse -m in-place",
            more=["-plugin", f"{plugin},entry={entry:x},output={output}"]))
    kinds, lines = read_profile(output, addresses, names), []
    for what, row, pages in PROFILED:
        _, _, state, _, _, kib, *_, metric = row.split(",")
        size = (4 if metric == "one-page" else int(kib)) << 10
        calls = [key for key in kinds if key[:2] == (COMMANDS[state], size)]
        if not calls:
            raise Fail(f"the profile has no call like {row}", f"see {rel(output)}")
        # The program's number has the way into the kernel in it, the profile does not.
        key = min(calls, key=lambda one: abs(one[2] - numbers[row] * pages))
        count, functions = kinds[key]
        # GCC's copies of a function have a suffix.
        most = [f"`{name.split('.')[0]}` {number / count / pages:,.1f}" for name, number in functions.most_common(8)]
        lines.append([what, f"{numbers[row]:,.0f}", f"{key[2] / pages:,.0f}", ", ".join(most)])
    text = f"Series {common.base()['series-tree'][:12]}.\n\n" + table(["", "instructions", "in the call", "of them"], lines)
    common.write(PAGE, fill(PAGE.read_text(), {"profile": text}))
    print(text, end="")
    return 0


def read_kept(path=KEPT):
    """The compiler that the numbers are of, and they: {case: instructions}."""
    compiler, kept = "", {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if line.startswith("compiler "):
            compiler = line.split(None, 1)[1]
        elif len(words) == 2 and words[1].isdigit():
            kept[words[0]] = int(words[1])
        elif words and not line.startswith("#"):
            raise Fail(f"{rel(path)}:{number} is not 'CASE INSTRUCTIONS'", "make instructions writes the numbers")
    return compiler, kept


def count():
    """The compiler, and the numbers that tests/instructions chooses from."""
    flavour, _ = build(with_base=False)
    with Step(f"count instructions of {PROGRAM}"):
        counted = with_accelerator("tcg,thread=single", lambda: measure(
            "guard", flavour.kernel, "-s 2 -t conv,runs,sparse -m in-place", "-t fault -m in-place,two-memory,plain"))
    return flavour.compiler()[1], counted


def guard(path=KEPT):
    (compiler, kept), (now, counted) = read_kept(path), count()
    if compiler != now:
        print(f"1..0 # SKIP {rel(path)} is of {compiler}, this is {now}")
        return report.SKIP
    print(f"KTAP version 1\n1..{len(kept)}")
    bad = 0
    for number, (case, want) in enumerate(kept.items(), 1):
        got = counted.get(case)
        good = got is not None and abs(got - want) <= TOLERANCE * want
        bad += not good
        if got is None:
            print(f"# {PROGRAM} has no row {case}")
        else:
            print(f"# {case}: {got:.0f} instructions, kept are {want}: {100 * (got - want) / want:+.1f} %"
                  + ("" if good else "; if that is meant: make instructions"))
        print(f"{'ok' if good else 'not ok'} {number} {case}", flush=True)
    return 1 if bad else 0


def update(path=KEPT):
    (_, kept), (compiler, counted) = read_kept(path), count()
    missing = [case for case in kept if case not in counted]
    if missing:
        raise Fail(f"{PROGRAM} has no row {', '.join(missing)}", f"correct the names in {rel(path)}")
    for case, want in kept.items():
        more = f"{100 * (counted[case] - want) / want:+8.1f} %" if want else "     new"
        print(f"{case:62}{want:12}{counted[case]:12.0f}{more}")
    text = re.sub(r"^compiler .*$", f"compiler {compiler}", path.read_text(), flags=re.M)
    for case in kept:
        text = re.sub(rf"^{re.escape(case)}\s.*$", f"{case} {counted[case]:.0f}", text, flags=re.M)
    common.write(path, text)
    return 0


def main():
    commands = {(): bench, ("--guard",): guard, ("--update",): update, ("--profile",): profile}
    if tuple(sys.argv[1:]) not in commands:
        print(__doc__)
        return 2
    held = common.lock()
    series.tree(keep=True)
    status = commands[tuple(sys.argv[1:])]()
    held.close()
    return status


if __name__ == "__main__":
    common.main(main)
