#!/bin/sh
# run.sh: builds the tests of the emulated TDX module, and runs them on the emulator of config/qemu.
# QEMU (another emulator), QX (more arguments), T (timeout in seconds), OUTPUT from the environment. Exit status 0: all is well.
here=$(dirname "$(realpath "$0")")
root=$here/../..
if [ -z "$QEMU" ]; then
	"$root/scripts/qemu.py" >&2 || exit 2
	QEMU=$root/build/qemu/obj/qemu-system-x86_64
fi
out=${OUTPUT:-$root/build/tdx-tests}
make -s -C "$here" OUTPUT="$out" >&2 || exit 2

# boot [MORE OF -machine [ARGUMENT...]]
boot() {
	machine=q35,tdx-host=on${1:-}
	[ $# = 0 ] || shift
	# shellcheck disable=SC2086 # QX is several words
	timeout -s KILL "${T:-300}" "$QEMU" -L /usr/share/seabios -L /usr/share/qemu -nodefaults -nographic -no-reboot -serial stdio \
		-machine "$machine" -smp 2 -m 4G -accel tcg,thread=multi \
		-cpu max,vendor=GenuineIntel,family=6,model=173,stepping=1,-svm,+vmx,-hypervisor,phys-bits=52 -device tdx-inject \
		-device isa-debug-exit,iobase=0xf4,iosize=4 -kernel "$out/tdx-tests.elf" "$@" ${QX:-} < /dev/null
	[ $? = 1 ]
}

# shellcheck source-path=SCRIPTDIR source=../bare/part.sh
. "$here/../bare/part.sh"
part module
part strict ,tdx-host-strict=on -append strict
end
