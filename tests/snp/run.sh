#!/bin/sh
# run.sh QEMU_DIR [FILTER...]: builds the tests and runs them on QEMU_DIR/obj/qemu-system-x86_64 (or on the program QEMU_DIR)
# SMP, MEM, THREADS, CPU, QX (more arguments), T (timeout in seconds), OUTPUT from the environment. Exit status 0: all is well.
here=$(dirname "$(realpath "$0")"); q=$1; shift
[ -d "$q" ] && q=$q/obj/qemu-system-x86_64
out=${OUTPUT:-/tmp/snp-tests.$(id -u).$(basename "$(dirname "$here")")}
make -s -C "$here" OUTPUT="$out" >&2 || exit 2
timeout -s KILL "${T:-300}" "$q" -L /usr/share/seabios -L /usr/share/qemu -nodefaults -nographic -no-reboot -monitor none -serial stdio \
	-machine q35,snp-host=on -smp "${SMP:-2}" -m "${MEM:-4G}" -accel tcg,thread="${THREADS:-multi}" \
	-cpu "${CPU:-max,vendor=AuthenticAMD,family=25,model=17,stepping=1,-hypervisor,phys-bits=48}" \
	-device amd-iommu,snpsup=on,intremap=on -device amd-psp -blockdev null-co,node-name=d,read-zeroes=on,size=1048576 -device ide-hd,drive=d,bus=ide.0 -device isa-debug-exit,iobase=0xf4,iosize=4 \
	-kernel "$out/snp-tests.elf" -append "$*" ${QX:-} < /dev/null
r=$?
[ $r = 1 ]
