/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the test has the VMM make an ioctl: packets on a socket, whose number is in the environment, forth and back.
 */
#define REMOTE_FD	"REMOTE_IOCTL_FD"

struct remote {
	int fd, err;
	unsigned long request;
	char arg[64] __attribute__((aligned(8)));
};
