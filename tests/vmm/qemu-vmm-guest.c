// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the guest that qemu-vmm-test boots by QEMU.
 *
 * In a software-protected VM, processes with private memory compute checksums of it, while another one shares a buffer,
 * uses it, and takes it back, as often as the test says. What the guest's processes have is private because the kernel
 * has made all movable memory private. Their code isn't, it is in the initramfs.
 *
 * In other VMs it is the kernel alone that converts memory: for the rings of a disk, whose driver comes and goes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/swp-guest.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "edu.h"
#include "protocol.h"

#define PAGE		4096
#define SWP_DEVICE	"/dev/swp_guest"
#define DRIVER		"/sys/bus/virtio/drivers/virtio_blk/"
#define DEVICE		"virtio0"
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
	int n = snprintf(text, sizeof(text), "<5>guest: ");

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

static int try_convert(unsigned long cmd, void *mem, size_t size)
{
	struct swp_guest_range range = { .addr = (uintptr_t)mem, .size = size };

	return ioctl(driver, cmd, &range) ? errno : 0;
}

static void convert(unsigned long cmd, void *mem, size_t size)
{
	int tries = 0;

	while ((errno = try_convert(cmd, mem, size))) {
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

/* The guest has the device on a bus where nobody else enables it. */
static volatile uint8_t *open_edu(void)
{
	static volatile uint8_t *regs;
	const uint16_t memory_and_master = 6;
	char path[160];
	int fd;

	if (regs)
		return regs;
	snprintf(path, sizeof(path), "%s/config", edu_find());
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (pwrite(fd, &memory_and_master, 2, 4) != 2)
		die("the device's configuration");
	close(fd);
	regs = edu_map(edu_find());
	if (!regs)
		die("the device's registers");
	return regs;
}

static uint64_t guest_physical(const void *mem)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry;

	if (pread(fd, &entry, 8, (uintptr_t)mem / PAGE * 8) != 8 || !(entry & 1ull << 63))
		die("pagemap");
	close(fd);
	return (entry & ((1ull << 55) - 1)) * PAGE;
}

static void dma(bool to_memory, const void *mem, size_t size)
{
	if (!edu_dma(open_edu(), to_memory, guest_physical(mem), size))
		die("DMA");
}

/* The device reads a page, and writes it back where something else is by then. Returns whether both worked. */
static bool dma_works(uint64_t *page, uint64_t key)
{
	fill(page, PAGE, key);
	dma(false, page, PAGE);
	fill(page, PAGE, ~key);
	dma(true, page, PAGE);
	return !count_bad(page, PAGE, key);
}

/* Returns the number of pages that the device could not read or write while they were shared. */
static int dma_rounds(uint64_t *mem, int n)
{
	int bad = 0;

	for (int i = 0; i < n; i++) {
		size_t size = i % 3 == 0 ? PAGE : i % 3 == 1 ? 16 * PAGE : SHARED_SIZE;
		size_t offset = (i * 7 * PAGE) % (SHARED_SIZE - size + 1) & -PAGE;
		uint64_t *first = mem + offset / 8, *last = first + (size - PAGE) / 8;

		convert(SWP_GUEST_SHARE, first, size);
		bad += !dma_works(first, i + 1);
		if (last != first)
			bad += !dma_works(last, i + 2);
		convert(SWP_GUEST_UNSHARE, first, size);
		if (count_bad(last, PAGE, last != first ? i + 2 : i + 1))
			die("content after taking back");
	}
	return bad;
}

/*
 * The device is told to read a private page, and to write it. What it has read, it writes to a page that is shared.
 */
static const char *dma_private(uint32_t *mem)
{
	const uint32_t secret = 0x5ec7e700, marker = 0x0a11600d;
	uint32_t *private = mem, *landing = mem + PAGE / sizeof(*mem);
	bool leaked, changed;
	uint64_t at;

	private[0] = secret;
	convert(SWP_GUEST_SHARE, landing, PAGE);
	landing[0] = marker;
	dma(false, landing, FAULT_BYTES);
	at = guest_physical(private);
	dma(false, private, FAULT_BYTES);
	dma(true, landing, FAULT_BYTES);
	leaked = landing[0] == secret;

	landing[0] = marker;
	dma(false, landing, FAULT_BYTES);
	dma(true, private, FAULT_BYTES);
	changed = private[0] != secret;
	convert(SWP_GUEST_UNSHARE, landing, PAGE);
	return report("dma-private leaked %d changed %d at %lu", leaked, changed, at);
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

/* ---- A virtio disk, driven by a program whose memory is private unless it shares it ---- */

#define VIRTIO_BASE	0xfeb00000
#define VIRTIO_STEP	0x200
#define VIRTIO_SLOTS	24
#define QUEUE_SIZE	8
#define FEATURES	(1ull << VIRTIO_F_VERSION_1)

struct request {
	struct virtio_blk_outhdr header;
	uint8_t status;
};

/* A page each, as each is shared and taken back on its own. */
struct ring {
	struct vring_desc desc[QUEUE_SIZE];
	struct vring_avail avail;
	uint16_t heads[QUEUE_SIZE + 1];
	struct vring_used used __attribute__((aligned(64)));
	struct vring_used_elem elems[QUEUE_SIZE];
};

static struct {
	volatile uint8_t *regs;
	volatile struct ring *ring;
	struct request *request;
	uint64_t *data;
	uint16_t submitted;
} raw;

static uint64_t physical(void *mem)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (pread(fd, &entry, sizeof(entry), (uintptr_t)mem / PAGE * sizeof(entry)) != sizeof(entry) || !(entry << 9))
		die("pagemap");
	close(fd);
	return (entry & ((1ull << 55) - 1)) * PAGE + (uintptr_t)mem % PAGE;
}

static uint32_t get(unsigned int reg)
{
	return *(volatile uint32_t *)(raw.regs + reg);
}

static void put(unsigned int reg, uint32_t value)
{
	*(volatile uint32_t *)(raw.regs + reg) = value;
}

static void put64(unsigned int low, uint64_t value)
{
	put(low, value);
	put(low + 4, value >> 32);
}

static void raw_reset(void)
{
	uint64_t ring = physical((void *)raw.ring);

	put(VIRTIO_MMIO_STATUS, 0);
	memset((void *)raw.ring, 0, sizeof(*raw.ring));
	raw.submitted = 0;
	put(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (int i = 0; i < 2; i++) {
		put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		put(VIRTIO_MMIO_DRIVER_FEATURES, FEATURES >> 32 * i);
	}
	put(VIRTIO_MMIO_STATUS, get(VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_FEATURES_OK);
	put(VIRTIO_MMIO_QUEUE_SEL, 0);
	put(VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE);
	put64(VIRTIO_MMIO_QUEUE_DESC_LOW, ring);
	put64(VIRTIO_MMIO_QUEUE_AVAIL_LOW, ring + offsetof(struct ring, avail));
	put64(VIRTIO_MMIO_QUEUE_USED_LOW, ring + offsetof(struct ring, used));
	put(VIRTIO_MMIO_QUEUE_READY, 1);
	put(VIRTIO_MMIO_STATUS, get(VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void raw_submit(unsigned int page)
{
	volatile struct ring *ring = raw.ring;
	uint64_t request = physical(raw.request);

	raw.request->header = (struct virtio_blk_outhdr) { .type = VIRTIO_BLK_T_IN, .sector = page * (PAGE / SECTOR) };
	raw.request->status = 0xff;
	ring->desc[0] = (struct vring_desc) { request, sizeof(raw.request->header), VRING_DESC_F_NEXT, 1 };
	ring->desc[1] = (struct vring_desc) { physical(raw.data), PAGE, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2 };
	ring->desc[2] = (struct vring_desc) { request + offsetof(struct request, status), 1, VRING_DESC_F_WRITE, 0 };
	ring->avail.ring[raw.submitted++ % QUEUE_SIZE] = 0;
	__sync_synchronize();
	ring->avail.idx = raw.submitted;
	__sync_synchronize();
	put(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

/* Waits for the device to be done, or to give up. */
static bool raw_wait(void)
{
	while (raw.ring->used.idx != raw.submitted) {
		if (get(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET)
			return false;
		usleep(1000);
	}
	return true;
}

static size_t count_words(uint64_t value)
{
	size_t count = 0;

	for (size_t i = 0; i < PAGE / sizeof(value); i++)
		count += ((volatile uint64_t *)raw.data)[i] == value;
	return count;
}

static void raw_read(unsigned int page)
{
	memset(raw.data, 0xee, PAGE);
	raw_submit(page);
	if (!raw_wait() || *(volatile uint8_t *)&raw.request->status || count_words(page) != PAGE / 8)
		die("read of the raw disk");
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

/* The name of the disk of that size. */
static const char *disk_of(unsigned long size)
{
	static char name[16];

	for (char c = 'a'; c < 'c'; c++) {
		char path[64];

		snprintf(name, sizeof(name), "vd%c", c);
		snprintf(path, sizeof(path), "/sys/block/%s/size", name);
		if (parameter(path) == size / SECTOR)
			return name;
	}
	return NULL;
}

/* The kernel's driver lets go of the device. */
static void raw_start(void)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	const char *name = disk_of(RAW_SIZE);
	char path[64], link[256], *device;
	ssize_t n;

	if (!name)
		die("the raw disk");
	snprintf(path, sizeof(path), "/sys/block/%s", name);
	n = readlink(path, link, sizeof(link) - 1);
	link[n > 0 ? n : 0] = 0;
	/* .../DEVICE/virtioN/block/vdX */
	for (int i = 0; i < 3; i++)
		*(strrchr(link, '/') ?: link) = 0;
	device = (strrchr(link, '/') ?: link - 1) + 1;
	write_file("/sys/bus/platform/drivers/virtio-mmio/unbind", device);

	raw.regs = mmap(NULL, VIRTIO_STEP * VIRTIO_SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, VIRTIO_BASE);
	if (fd < 0 || raw.regs == MAP_FAILED)
		die("/dev/mem");
	for (int i = 0; get(VIRTIO_MMIO_DEVICE_ID) != VIRTIO_ID_BLOCK || get(VIRTIO_MMIO_CONFIG) != RAW_SIZE / SECTOR; i++) {
		if (i == VIRTIO_SLOTS - 1)
			die("the raw disk's registers");
		raw.regs += VIRTIO_STEP;
	}
	raw.ring = allocate(PAGE);
	raw.request = allocate(PAGE);
	raw.data = allocate(PAGE);
	memset((void *)raw.ring, 0, PAGE);
	memset(raw.request, 0, PAGE);
	memset(raw.data, 0, PAGE);
	convert(SWP_GUEST_SHARE, (void *)raw.ring, PAGE);
	convert(SWP_GUEST_SHARE, raw.request, PAGE);
	convert(SWP_GUEST_SHARE, raw.data, PAGE);
	raw_reset();
	raw_read(1);
}

/* Takes back what a request is about without waiting for it. It gets all of the data, or none. */
static void raw_race(int rounds)
{
	int got = 0;

	for (int i = 0; i < rounds; i++) {
		unsigned int page = 1 + i % (RAW_SIZE / PAGE - 1);

		convert(SWP_GUEST_SHARE, raw.data, PAGE);
		memset(raw.data, 0, PAGE);
		raw_submit(page);
		for (volatile int spin = 0; spin < i * 50; spin++)
			;
		convert(SWP_GUEST_UNSHARE, raw.data, PAGE);
		if (!raw_wait())
			die("the raw disk has given up");
		if (count_words(page) == PAGE / 8)
			got++;
		else if (count_words(0) != PAGE / 8)
			die("a part of a page was read");
	}
	say("%d of %d pages were read", got, rounds);
}

/* Takes the ring back while the device looks at it. It may have lost a request then, but must not be lost itself. */
static void ring_race(int rounds)
{
	convert(SWP_GUEST_SHARE, raw.data, PAGE);
	for (int i = 0; i < rounds; i++) {
		raw_submit(1 + i);
		for (volatile int spin = 0; spin < i * 50; spin++)
			;
		convert(SWP_GUEST_UNSHARE, (void *)raw.ring, PAGE);
		convert(SWP_GUEST_SHARE, (void *)raw.ring, PAGE);
		raw_reset();
	}
	raw_read(7);
	convert(SWP_GUEST_UNSHARE, raw.data, PAGE);
}

static const char *raw_command(const char *command)
{
	unsigned int n;

	if (!strcmp(command, "start")) {
		raw_start();
		return report("raw started %lu", physical(raw.data));
	}
	if (!strcmp(command, "hold")) {
		/* What it is allowed to do at once, and then what it isn't. */
		raw_read(2);
		memset(raw.data, 0xee, PAGE);
		raw_submit(3);
		return report("raw held");
	}
	if (!strcmp(command, "take")) {
		convert(SWP_GUEST_UNSHARE, raw.data, PAGE);
		return report("raw taken");
	}
	if (!strcmp(command, "wait")) {
		if (!raw_wait())
			die("the raw disk has given up");
		return report("raw complete %u, %zu words read", *(volatile uint8_t *)&raw.request->status, count_words(3));
	}
	if (!strcmp(command, "private")) {
		memset(raw.data, 0xee, PAGE);
		raw_submit(4);
		if (!raw_wait())
			return report("raw private: given up");
		return report("raw private %zu words left", count_words(0xeeeeeeeeeeeeeeee));
	}
	if (!strcmp(command, "ring")) {
		bool done;

		convert(SWP_GUEST_UNSHARE, (void *)raw.ring, PAGE);
		raw_submit(5);
		done = raw_wait();
		convert(SWP_GUEST_SHARE, (void *)raw.ring, PAGE);
		convert(SWP_GUEST_SHARE, raw.data, PAGE);
		raw_reset();
		raw_read(6);
		convert(SWP_GUEST_UNSHARE, raw.data, PAGE);
		return report("raw ring %s", done ? "used" : "given up");
	}
	if (sscanf(command, "ring race %u", &n) == 1) {
		ring_race(n);
		return report("raw ring raced");
	}
	if (sscanf(command, "race %u", &n) == 1) {
		raw_race(n);
		return report("raw raced");
	}
	die("unknown command");
	return NULL;
}

/* ---- Memory errors ------------------------------------------------------- */

#define POISON_PAGES	3	/* the one in the middle gets it */

static uint64_t *poison;
static sigjmp_buf bus_error;

static void on_bus_error(int sig)
{
	(void)sig;
	siglongjmp(bus_error, 1);
}

static int touch(int page)
{
	volatile uint64_t *mem = poison + page * (PAGE / 8);

	if (sigsetjmp(bus_error, 1))
		return -1;
	return count_bad((void *)mem, PAGE, page);
}

static const char *poison_command(const char *command)
{
	uint64_t where[POISON_PAGES];
	int err;

	if (!strcmp(command, "share")) {
		poison = allocate(POISON_PAGES * PAGE);
		for (int i = 0; i < POISON_PAGES; i++) {
			fill(poison + i * (PAGE / 8), PAGE, i);
			convert(SWP_GUEST_SHARE, poison + i * (PAGE / 8), PAGE);
			where[i] = physical(poison + i * (PAGE / 8));
		}
		return report("poison shared %lu", where[1]);
	}
	if (!strcmp(command, "unshare")) {
		for (int i = 0; i < POISON_PAGES; i++)
			convert(SWP_GUEST_UNSHARE, poison + i * (PAGE / 8), PAGE);
		return report("poison unshared");
	}
	if (!strcmp(command, "try share") || !strcmp(command, "try unshare")) {
		err = try_convert(command[4] == 's' ? SWP_GUEST_SHARE : SWP_GUEST_UNSHARE, poison + PAGE / 8, PAGE);
		return report("poison told %d", err == EINVAL ? 1 : err ? -err : 0);
	}
	if (!strcmp(command, "touch")) {
		signal(SIGBUS, on_bus_error);
		return report("poison touched %d %d %d", touch(0), touch(1), touch(2));
	}
	die("unknown command");
	return NULL;
}

/* In the middle of all. */
static void restart(void *mem)
{
	pid_t pid = fork();

	if (!pid)
		for (;;)
			rounds(mem, 20);
	usleep(100000);
	say("reboot");
	reboot(RB_AUTOBOOT);
	die("reboot");
}

static void software_protected(void)
{
	unsigned long private = parameter("/sys/module/swp_guest/parameters/private_pages");
	volatile bool *stop = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t *mem = allocate(SHARED_SIZE);
	int failed = 0, n = 0, status;
	const char *command;

	driver = open(SWP_DEVICE, O_RDWR | O_CLOEXEC);
	if (driver < 0)
		die(SWP_DEVICE);
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
		} else if (sscanf(command, "dma %d", &n) == 1) {
			command = report("dma bad %d", dma_rounds(mem, n));
		} else if (!strcmp(command, "dma-private")) {
			command = dma_private((uint32_t *)mem);
		} else if (!strcmp(command, "share")) {
			convert(SWP_GUEST_SHARE, mem, SHARED_SIZE);
			command = report("shared %u", SHARED_SIZE);
		} else if (!strcmp(command, "unshare")) {
			convert(SWP_GUEST_UNSHARE, mem, SHARED_SIZE);
			command = report("unshared");
		} else if (!strncmp(command, "raw ", 4)) {
			command = raw_command(command + 4);
		} else if (!strncmp(command, "poison ", 7)) {
			command = poison_command(command + 7);
		} else if (!strcmp(command, "reboot")) {
			restart(mem);
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

static void open_disk(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", disk_of(DISK_SIZE) ?: "vda");
	disk = open(path, O_RDWR | O_DIRECT | O_SYNC | O_CLOEXEC);
	if (disk < 0)
		die(path);
}

static void tell_driver(const char *what)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), DRIVER "%s", what);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, DEVICE, strlen(DEVICE)) != (ssize_t)strlen(DEVICE))
		die(path);
	close(fd);
}

/* The kernel takes the rings back, and shares others. */
static void rebind(int n)
{
	for (int i = 0; i < n; i++) {
		close(disk);
		tell_driver("unbind");
		tell_driver("bind");
		open_disk();
		check_disk(i);
	}
}

/* By the disk, as a console is slow that exits for each byte. */
static void write_log(void)
{
	char *log = allocate(LOG_SIZE);

	if (klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, LOG_SIZE - 1) < 0)
		die("the kernel's log");
	if (pwrite(disk, log, LOG_SIZE, DATA_START) != LOG_SIZE)
		die("write of the log");
	munmap(log, LOG_SIZE);
}

static void confidential(void)
{
	const char *command;
	int n;

	write_log();
	command = report("booted cpus %ld", sysconf(_SC_NPROCESSORS_ONLN));
	while (strcmp(command, "end")) {
		if (sscanf(command, "rebind %d", &n) == 1) {
			rebind(n);
			command = report("rebound %d", n);
		} else if (!strcmp(command, "reboot")) {
			reboot(RB_AUTOBOOT);
			die("reboot");
		} else {
			die("unknown command");
		}
	}
	report("end");
}

int main(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("none", "/dev", "devtmpfs", 0, NULL);
	mount("none", "/proc", "proc", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	open_disk();
	sector = allocate(PAGE);
	if (!access(SWP_DEVICE, F_OK))
		software_protected();
	else
		confidential();
	off();
}
