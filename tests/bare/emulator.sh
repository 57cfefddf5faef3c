# shellcheck shell=sh
# For the run.sh of a directory: builds its tests, and runs them on the emulator of config/qemu.
here=$(dirname "$(realpath "$0")")
root=$here/../..
tests=$(basename "$here")-tests
if [ -z "$QEMU" ]; then
	"$root/scripts/qemu.py" >&2 || exit 2
	QEMU=$root/build/qemu/obj/qemu-system-x86_64
fi
out=${OUTPUT:-$root/build/$tests}
make -s -C "$here" OUTPUT="$out" >&2 || exit 2

# emulator SECONDS ARGUMENT...: a boot with these arguments
emulator() {
	seconds=${T:-$1}
	shift
	# shellcheck disable=SC2086 # QX is several words
	timeout -s KILL "$seconds" "$QEMU" -L /usr/share/seabios -L /usr/share/qemu -nodefaults -nographic -no-reboot -serial stdio \
		-device isa-debug-exit,iobase=0xf4,iosize=4 -kernel "$out/$tests.elf" "$@" ${QX:-} < /dev/null
	[ $? = 1 ]
}

# KTAP of several boots, for a script that has boot(): part for each boot, then end.
n=0 status=0

# part NAME [ARGUMENT...]: a boot with these arguments is one result, those of its tests are below it
part() {
	name=$1
	shift
	[ $n != 0 ] || echo "KTAP version 1"
	n=$((n + 1))
	echo "# Subtest: $name"
	{ boot "$@"; echo $? > "$out/status"; } | sed 's/^/    /'
	if [ "$(cat "$out/status")" = 0 ]; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		status=1
	fi
}

end() {
	echo "1..$n"
	exit $status
}
