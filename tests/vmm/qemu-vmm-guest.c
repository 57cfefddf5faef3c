// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the guest that qemu-vmm-test boots by QEMU. Processes with private memory compute checksums of it, while
 * another one shares a buffer, uses it, and takes it back, as often as the test says.
 *
 * What the guest's processes have is private because the kernel has made all movable memory private. Their code
 * isn't, it is in the initramfs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/swp-guest.h>

#include "protocol.h"

#define PAGE		4096
#define WORKERS		2
#define WORKER_SIZE	(6 << 20)

static int disk, driver, kmsg;
static unsigned long number;
static char *sector;

__attribute__((format(printf, 1, 2)))
static void say(const char *format, ...)
{
	char text[512];
	va_list args;
	int n = snprintf(text, sizeof(text), "<6>guest: ");

	va_start(args, format);
	n += vsnprintf(text + n, sizeof(text) - n - 1, format, args);
	va_end(args);
	text[n++] = '\n';
	if (write(kmsg, text, n) < 0)
		return;
}

static void off(void)
{
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void die(const char *what)
{
	say("FAILED: %s: %s", what, strerror(errno));
	off();
}

/* Returns the test's command. */
__attribute__((format(printf, 1, 2)))
static const char *report(const char *format, ...)
{
	unsigned long answered = 0;
	va_list args;
	int n;

	number++;
	memset(sector, 0, SECTOR);
	n = snprintf(sector, SECTOR, "%lu ", number);
	va_start(args, format);
	vsnprintf(sector + n, SECTOR - n, format, args);
	va_end(args);
	say("%s", sector);
	if (pwrite(disk, sector, SECTOR, REPORT_SECTOR * SECTOR) != SECTOR)
		die("write of the report");
	for (;;) {
		if (pread(disk, sector, SECTOR, ANSWER_SECTOR * SECTOR) != SECTOR)
			die("read of the answer");
		sector[SECTOR - 1] = 0;
		if (sscanf(sector, "%lu %n", &answered, &n) == 1 && answered == number)
			return sector + n;
		usleep(POLL_US);
	}
}

static void *allocate(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		die("memory");
	return mem;
}

static uint64_t word(uint64_t key, uint64_t i)
{
	return (key + i) * 0x9e3779b97f4a7c15;
}

static void fill(uint64_t *mem, size_t size, uint64_t key)
{
	for (size_t i = 0; i < size / 8; i++)
		mem[i] = word(key, i);
}

static size_t count_bad(const volatile uint64_t *mem, size_t size, uint64_t key)
{
	size_t bad = 0;

	for (size_t i = 0; i < size / 8; i++)
		bad += mem[i] != word(key, i);
	return bad;
}

/* Ends with the number of rounds that it found all as it should be, or 0. */
static int worker(int n, const volatile bool *stop)
{
	uint64_t *mem = allocate(WORKER_SIZE);
	int round = 0;

	for (; !*stop; round++) {
		fill(mem, WORKER_SIZE, n * 1000 + round);
		if (count_bad(mem, WORKER_SIZE, n * 1000 + round)) {
			say("FAILED: worker %d, round %d: wrong content", n, round);
			return 1;
		}
	}
	say("worker %d: %d rounds of %d MiB", n, round, WORKER_SIZE >> 20);
	return 0;
}

static void convert(unsigned long cmd, void *mem, size_t size)
{
	struct swp_guest_range range = { .addr = (uintptr_t)mem, .size = size };
	int tries = 0;

	while (ioctl(driver, cmd, &range)) {
		if (errno != EAGAIN || tries++ == 10)
			die(cmd == SWP_GUEST_SHARE ? "share" : "take back");
		say("the host says EAGAIN");
	}
}

/* A page, or a few, or all; content survives, as nothing is encrypted. */
static void rounds(uint64_t *mem, int n)
{
	for (int i = 0; i < n; i++) {
		size_t size = i % 3 == 0 ? PAGE : i % 3 == 1 ? 16 * PAGE : SHARED_SIZE;
		size_t offset = (i * 7 * PAGE) % (SHARED_SIZE - size + 1) & -PAGE;
		uint64_t *part = mem + offset / 8;

		fill(part, size, i);
		convert(SWP_GUEST_SHARE, part, size);
		if (count_bad(part, size, i))
			die("content after sharing");
		fill(part, size, i + 1);
		convert(SWP_GUEST_UNSHARE, part, size);
		if (count_bad(part, size, i + 1))
			die("content after taking back");
	}
}

/* I/O goes through memory that is shared, wherever the process has its own. */
static void check_disk(unsigned int key)
{
	size_t size = DISK_SIZE - DATA_START;
	uint64_t *mem = allocate(size);

	fill(mem, size, key);
	if (pwrite(disk, mem, size, DATA_START) != (ssize_t)size)
		die("write of the disk");
	memset(mem, 0, size);
	if (pread(disk, mem, size, DATA_START) != (ssize_t)size)
		die("read of the disk");
	if (count_bad(mem, size, key))
		die("what the disk contains");
	munmap(mem, size);
}

static unsigned long parameter(const char *path)
{
	unsigned long value = 0;
	FILE *file = fopen(path, "re");

	if (file && fscanf(file, "%lu", &value) != 1)
		value = 0;
	if (file)
		fclose(file);
	return value;
}

static void software_protected(void)
{
	unsigned long private = parameter("/sys/module/swp_guest/parameters/private_pages");
	volatile bool *stop = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t *mem = allocate(SHARED_SIZE);
	int failed = 0, n = 0, status;
	const char *command;

	driver = open("/dev/swp_guest", O_RDWR | O_CLOEXEC);
	if (driver < 0)
		die("/dev/swp_guest");
	fill(mem, SHARED_SIZE, 0);
	command = report("booted private %lu", private * PAGE);
	for (int i = 0; i < WORKERS; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (!pid)
			_exit(worker(i, stop));
	}
	while (strcmp(command, "end")) {
		if (sscanf(command, "rounds %d", &n) == 1) {
			rounds(mem, n);
			check_disk(n);
			command = report("rounds %d", n);
		} else if (!strcmp(command, "share")) {
			convert(SWP_GUEST_SHARE, mem, SHARED_SIZE);
			command = report("shared %u", SHARED_SIZE);
		} else if (!strcmp(command, "unshare")) {
			convert(SWP_GUEST_UNSHARE, mem, SHARED_SIZE);
			command = report("unshared");
		} else {
			die("unknown command");
		}
	}
	*stop = true;
	for (int i = 0; i < WORKERS; i++) {
		wait(&status);
		failed += status != 0;
	}
	report("end failed %d", failed);
}

int main(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("none", "/dev", "devtmpfs", 0, NULL);
	mount("none", "/proc", "proc", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	disk = open("/dev/vda", O_RDWR | O_DIRECT | O_SYNC | O_CLOEXEC);
	if (disk < 0)
		die("/dev/vda");
	sector = allocate(PAGE);
	software_protected();
	off();
}
