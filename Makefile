# The only entry point. Each target is one line of glue; the work is in scripts/.
MAKEFLAGS += --no-print-directory --no-builtin-rules
export LINUX MIRROR ACCEL APPEND SIGNOFF REVISION T ARCH S TYPE VMM

.DEFAULT_GOAL := help
.PHONY: help run test soak fuzz kcsan coverage mutants curve bench profile instructions tree export base check bisect mbox tools clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1	/p' Makefile | while IFS='	' read -r t h; do printf '  make %-12s %s\n' "$$t" "$$h"; done
	@printf '\n%s\n' 'Variables:'
	@printf '  %s\n' 'T=PATTERN        test, mutants: only those with that in their name; test: or of that group; bench: groups of rows' \
	  'S=SECONDS        soak, fuzz: for how long' \
	  'TYPE=NAME        run: software-protected unless given; swp-linux; snp, snp-linux, tdx, tdx-linux: on an emulated host' \
	  'VMM=qemu         run: with QEMU as the VMM, which boots Linux, instead of a sample; TYPE as above, without -linux' \
	  'LINUX=PATH       tree: a tarball or git tree of the base instead of the download' \
	  'MIRROR=PLACE     tree, base, run, test: the address of a package archive, or a directory that holds one, or the package' \
	  'ACCEL=NAME       run, test, bench: the accelerator of the emulator; tcg unless given' \
	  'ARCH="NAME..."   bisect, check: the kernel flavours to compile; run: x86_64 unless given, or arm64' \
	  'SIGNOFF="N <A>"  mbox: the person who certifies and sends the series' \
	  'REVISION=N       mbox: the number of this posting'

run: ## build everything, boot a test machine and convert pages in it with a sample VMM; ARCH=arm64: boot Linux as a protected VM
	@scripts/tools.sh tree build $(or $(ARCH),x86_64)
	@scripts/test.py --run

test: ## run all tests; the last line is 'N passed, N failed, N skipped'
	@scripts/tools.sh tree build x86_64 arm64 test
	@scripts/test.py

soak: ## S=SECONDS of random load on the kernel with all checks; prints the seeds
	@scripts/tools.sh tree build x86_64
	@scripts/test.py --soak

fuzz: ## S=SECONDS of libFuzzer on the store, in userspace
	@scripts/tools.sh tree build test
	@scripts/series.py tree
	@$(MAKE) -s -C build/linux/tools/testing/gmem OUTPUT=$(CURDIR)/build/store/ fuzz

kcsan: ## look for data races
	@scripts/tools.sh tree build x86_64
	@scripts/test.py --kcsan

coverage: ## which of the added lines in virt/kvm the tests reach
	@scripts/tools.sh tree build x86_64
	@scripts/coverage.py

mutants: ## break the kernel in each way of tests/mutants: a test has to notice
	@scripts/tools.sh tree build x86_64 arm64 test
	@scripts/mutants.py

curve: ## what a conversion costs, and how long others wait, by the size of the batch
	@scripts/tools.sh tree build x86_64
	@scripts/mutants.py --curve

bench: ## what conversions and faults cost with the series and without it: writes docs/performance.md's numbers
	@scripts/tools.sh tree build x86_64
	@scripts/bench.py

profile: ## in which functions of the kernel the instructions are of what missed a target: writes that part of docs/performance.md
	@scripts/tools.sh tree build x86_64
	@scripts/bench.py --profile

instructions: ## count the instructions of tests/instructions anew, and show what has changed
	@scripts/tools.sh tree build x86_64
	@scripts/bench.py --update

tree: ## make build/linux: a git tree with a commit for the base and one for each patch
	@scripts/tools.sh tree
	@scripts/series.py tree

export: ## write the commits of build/linux back to patches/linux*; scripts/qemu.py export does it for QEMU's
	@scripts/series.py export

base: ## have BASE name the newest release that the archive has, and export the series on top of it
	@scripts/tools.sh tree
	@scripts/series.py base

check: ## prove the series: strict apply, export is a no-op, trailers, checkpatch, no new warnings of any tool
	@scripts/tools.sh tree build arm64 check
	@scripts/series.py check
	@shellcheck -x scripts/*.sh tests/bare/*.sh tests/snp/*.sh tests/tdx/*.sh .ci/run
	@scripts/commits.py warnings
	@scripts/commits.py reports

bisect: ## compile every patch of the series on its own, and run tests with each
	@scripts/tools.sh tree build x86_64 arm64
	@scripts/commits.py bisect
	@scripts/qemu.py bisect

mbox: ## write build/gmem-convert*.mbox, each series as mails that b4 takes
	@scripts/tools.sh tree mbox
	@scripts/series.py mbox

tools: ## install whatever tool is missing
	@scripts/tools.sh all

clean: ## remove what was built; work in build/linux that is not exported is kept
	@scripts/series.py clean
