#!/bin/sh
# Looks for the tools that a command needs and installs the missing ones with apt.
#
# usage: tools.sh PURPOSE...     purposes: tree build x86_64 arm64 test check mbox all
set -eu

# purpose, program or file that tells, Debian package
list() {
	cat <<'EOF'
tree	git	git
tree	xz	xz-utils
tree	tar	tar
tree	dpkg-deb	dpkg
build	make	make
build	gcc	gcc
build	/usr/include/stdio.h	libc6-dev
build	flex	flex
build	bison	bison
build	bc	bc
build	perl	perl
build	rsync	rsync
build	/usr/include/libelf.h	libelf-dev
build	/usr/include/openssl/ssl.h	libssl-dev
build	ccache	ccache
build	/usr/include/libfdt.h	libfdt-dev
build	/usr/include/glib-2.0/glib.h	libglib2.0-dev
build	/usr/include/zlib.h	zlib1g-dev
build	/usr/include/numaif.h	libnuma-dev
build	pkg-config	pkg-config
build	ninja	ninja-build
build	/usr/share/doc/python3-venv	python3-venv
x86_64	/usr/share/seabios/bios-256k.bin	seabios
x86_64	/usr/share/qemu/linuxboot_dma.bin	qemu-system-data
arm64	aarch64-linux-gnu-gcc	gcc-aarch64-linux-gnu
arm64	/usr/aarch64-linux-gnu/include/stdio.h	libc6-dev-arm64-cross
test	/usr/share/doc/liburcu-dev	liburcu-dev
test	shellcheck	shellcheck
test	b4	b4
test	perl	perl
test	/usr/lib/python3/dist-packages/ply	python3-ply
test	/usr/lib/python3/dist-packages/git	python3-git
test	codespell	codespell
test	clang	clang
test	/usr/lib/llvm-14/lib/clang	libclang-rt-14-dev
check	sparse	sparse
check	codespell	codespell
check	sphinx-build	python3-sphinx
check	spatch	coccinelle
check	b4	b4
check	shellcheck	shellcheck
check	perl	perl
check	/usr/lib/python3/dist-packages/ply	python3-ply
check	/usr/lib/python3/dist-packages/git	python3-git
mbox	b4	b4
EOF
}

missing() {
	list | while read -r purpose tell package; do
		case " $purposes " in
		*" $purpose "* | *" all "*) ;;
		*) continue ;;
		esac
		case $tell in
		/*) [ -e "$tell" ] || echo "$package" ;;
		*) command -v "$tell" >/dev/null 2>&1 || echo "$package" ;;
		esac
	done | sort -u | tr '\n' ' '
}

purposes=$*
[ -n "$purposes" ] || purposes=all
packages=$(missing)
[ -n "$packages" ] || exit 0

here=$(dirname "$0")/..
log=build/log/tools.log
mkdir -p "$here/build/log"

if ! command -v apt-get >/dev/null 2>&1; then
	echo "error: tools are missing, and this distribution has no apt-get" >&2
	echo "  next: install what it calls (Debian's names): $packages" >&2
	exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "error: these packages are missing, and installing them needs root: $packages" >&2
		echo "  next: as root, run: apt-get update && apt-get install $packages" >&2
		exit 1
	fi
	as_root=sudo
	echo "-- these packages are missing, sudo may ask for your password: $packages"
fi
echo "-- install $packages(log: $log)"
began=$(date +%s)
# The list is words on purpose; a package's own questions have nobody to answer them.
# shellcheck disable=SC2086
if ! { $as_root apt-get update &&
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } \
	>"$here/$log" 2>&1 </dev/null; then
	grep '^E: ' "$here/$log" >&2 || tail -n 5 "$here/$log" >&2
	echo "error: installing the missing tools failed" >&2
	echo "  next: see $log; check the network, then run the same command again" >&2
	exit 1
fi
packages=$(missing)
if [ -n "$packages" ]; then
	echo "error: still missing after the installation: $packages" >&2
	echo "  next: see $log" >&2
	exit 1
fi
echo "   install: done in $(($(date +%s) - began)) s"
