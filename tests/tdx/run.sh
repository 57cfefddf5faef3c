#!/bin/sh
# run.sh: builds the tests of the emulated TDX module, and runs them on the emulator of config/qemu.
# QEMU (another emulator), QX (more arguments), T (timeout in seconds), OUTPUT from the environment. Exit status 0: all is well.
# shellcheck source-path=SCRIPTDIR source=../bare/emulator.sh
. "$(dirname "$(realpath "$0")")/../bare/emulator.sh"

# boot [MORE OF -machine [ARGUMENT...]]
boot() {
	machine=q35,tdx-host=on${1:-}
	[ $# = 0 ] || shift
	emulator 300 -machine "$machine" -smp 2 -m 4G -accel tcg,thread=multi \
		-cpu max,vendor=GenuineIntel,family=6,model=173,stepping=1,-svm,+vmx,-hypervisor,phys-bits=52 -device tdx-inject "$@"
}

part module
part strict ,tdx-host-strict=on -append strict
end
