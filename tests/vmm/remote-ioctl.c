// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded to a VMM: a thread that makes ioctls for the test, as only the process of a VM may convert its memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "remote.h"

static void *serve(void *arg)
{
	int fd = (long)arg;
	struct remote remote;

	while (read(fd, &remote, sizeof(remote)) == sizeof(remote)) {
		remote.err = syscall(SYS_ioctl, remote.fd, remote.request, remote.arg) ? errno : 0;
		if (write(fd, &remote, sizeof(remote)) != sizeof(remote))
			break;
	}
	return NULL;
}

__attribute__((constructor)) static void start(void)
{
	const char *fd = getenv(REMOTE_FD);
	sigset_t all, old;
	pthread_t thread;

	if (!fd)
		return;
	/* Signals are for the VMM's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_create(&thread, NULL, serve, (void *)atol(fd));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}
