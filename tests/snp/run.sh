#!/bin/sh
# run.sh [FILTER...]: builds the tests, and runs those with one of the filters in their name on the emulator of config/qemu; without
# filters all of them, in as many boots as that takes.
# QEMU (another emulator), SMP, MEM, THREADS, CPU, QX (more arguments), T (timeout in seconds), OUTPUT from the environment.
# Exit status 0: all is well.
# shellcheck source-path=SCRIPTDIR source=../bare/emulator.sh
. "$(dirname "$(realpath "$0")")/../bare/emulator.sh"
zen4=max,vendor=AuthenticAMD,family=25,model=17,stepping=1,-hypervisor,phys-bits=48

# boot [FILTER...]
boot() {
	emulator 1400 \
		-chardev "socket,id=mon,path=snp-tests-$$,abstract=on,server=on,wait=off" -mon mon \
		-chardev "socket,id=com2,path=snp-tests-$$,abstract=on" -serial chardev:com2 \
		-machine q35,snp-host=on -smp "${SMP:-2}" -m "${MEM:-4G}" -accel tcg,thread="${THREADS:-multi}" -cpu "${CPU:-$zen4}" \
		-device amd-iommu,snpsup=on,intremap=on -device amd-psp -global amd-psp.inject=on \
		-device edu,dma_mask=0xffffffffffff \
		-blockdev null-co,node-name=d,read-zeroes=on,size=1048576 -device ide-hd,drive=d,bus=ide.0 -append "$*"
}

if [ $# != 0 ]; then
	boot "$@"
	exit
fi

part all
alone=$(sed -n 's/^TEST_ALONE(\([a-z0-9_]*\)).*/\1/p' "$here"/*.c)
for name in $alone; do
	part "$name" "alone_$name"
done
CPU=${CPU:-$zen4},rmpread=on part rmpread rmp_
SMP=2,sockets=2,cores=1,threads=2,maxcpus=4 part sockets_and_threads psp_policy
end
