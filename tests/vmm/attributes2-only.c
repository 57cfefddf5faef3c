// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded to a VMM: a KVM that has KVM_SET_MEMORY_ATTRIBUTES2 for conversions, and nothing else.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == KVM_CHECK_EXTENSION && (long)arg == KVM_CAP_GMEM_CONVERSION)
		return 0;
	if (request == KVM_GMEM_CONVERT_SHARED || request == KVM_GMEM_CONVERT_PRIVATE || request == KVM_GMEM_QUERY) {
		errno = ENOTTY;
		return -1;
	}
	return syscall(SYS_ioctl, fd, request, arg);
}
