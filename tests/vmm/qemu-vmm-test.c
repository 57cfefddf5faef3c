// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU boots Linux from one guest_memfd, whose pages it converts in place as the guest asks for it. The guest is
 * qemu-vmm-guest, as an SNP guest by firmware/snp-boot; what it says about its memory is compared with what the kernel of the host says, what QEMU says, and
 * with how much memory the host has left.
 *
 * usage: qemu-vmm-test [--type snp] [--vfio] [--attributes2] [--show]
 *
 * --vfio assigns a device to the guest, whose DMA is looked at.
 * --attributes2 has QEMU find no interface of KVM but KVM_SET_MEMORY_ATTRIBUTES2, which can neither be asked for the state
 * of a page nor says why it can't be converted.
 * --show prints the state map on the way, instead of one line a case, for people who want to see it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/io_uring.h>
#include <linux/kvm.h>

#include "edu.h"
#include "firmware/layout.h"
#include "protocol.h"
#include "remote.h"

#define QEMU		"/vmm/qemu-system-x86_64"
#define VMM_FILES	"/vmm"
#define GMEM_MAP	"/bin/gmem-map"
#define MIB		(1ull << 20)
#define PAGE		4096
#define SW_RAM		(160 * MIB)
#define SNP_RAM		(64 * MIB)
#define MOVABLE		"64M"
#define BOOT_MS		600000
#define ANSWER_MS	240000
#define ROUNDS		60
#define REBINDS		10
#define ARGS_MAX	64
#define STR_(x)		#x
#define STR(x)		STR_(x)

/* What the kernel says of a guest_memfd, in fdinfo. */
struct info {
	unsigned long long size, convertible, private, shared, resident, runs, to_shared, to_private, failed_pinned;
	int fd;
};

struct vmm {
	pid_t pid;
	int qmp, disk, remote;
	/* The guest's console, and QEMU's own complaints. */
	struct stream {
		int fd;
		char line[4096];
		size_t len;
	} out, err;
	unsigned long number;
	char reply[65536];
	char said[4096];		/* the last complaint of QEMU itself */
	unsigned long long free_before, used_max;
	bool ended, stuck, heard;
	int status;
	int failed;			/* complaints of the guest */
	/* From the log of the guest's kernel. */
	bool is_snp;
	unsigned long long swiotlb, swiotlb_end, pools;
};

static bool show, attributes2, vfio;
static unsigned long long ram = SW_RAM;
static int cases, failures;
static const char *wanted;		/* a part of a line of QEMU's, see refused() */

__attribute__((format(printf, 2, 3)))
static void result(bool ok, const char *format, ...)
{
	va_list args;

	failures += !ok;
	printf("%s %d ", ok ? "ok" : "not ok", ++cases);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

__attribute__((format(printf, 1, 2), noreturn))
static void die(const char *format, ...)
{
	va_list args;

	printf("Bail out! ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(1);
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static unsigned long long mem_free(void)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file) && sscanf(line, "MemFree: %llu", &kib) != 1)
		;
	if (file)
		fclose(file);
	return kib << 10;
}

/* Anonymous memory of QEMU itself, which is not the guest's. */
static unsigned long long own_memory(pid_t pid)
{
	unsigned long long kib = 0;
	char text[128];
	FILE *file;

	snprintf(text, sizeof(text), "/proc/%d/status", pid);
	file = fopen(text, "re");
	while (file && fgets(text, sizeof(text), file) && sscanf(text, "RssAnon: %llu", &kib) != 1)
		;
	if (file)
		fclose(file);
	return kib << 10;
}

static void sample(struct vmm *vmm)
{
	unsigned long long left = mem_free();

	if (left < vmm->free_before && vmm->free_before - left > vmm->used_max)
		vmm->used_max = vmm->free_before - left;
}

/* ---- QEMU ---------------------------------------------------------------- */

static void start(struct vmm *vmm, char **argv)
{
	int qmp[2], out[2], err[2], remote[2];
	char chardev[64], number[16];
	char *more[] = { "-chardev", chardev, "-mon", "chardev=qmp,mode=control", "-nodefaults", "-no-user-config", "-nographic",
			 "-serial", "stdio", "-L", VMM_FILES, NULL };
	char *all[ARGS_MAX] = { QEMU };
	int n = 1;

	*vmm = (struct vmm) { .disk = vmm->disk };
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, qmp) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, remote) || pipe2(out, O_CLOEXEC) ||
	    pipe2(err, O_CLOEXEC))
		die("socketpair: %s", strerror(errno));
	fcntl(qmp[0], F_SETFD, FD_CLOEXEC);
	fcntl(remote[0], F_SETFD, FD_CLOEXEC);
	snprintf(number, sizeof(number), "%d", remote[1]);
	snprintf(chardev, sizeof(chardev), "socket,id=qmp,fd=%d", qmp[1]);
	for (char **arg = argv; *arg; arg++)
		all[n++] = *arg;
	for (char **arg = more; *arg; arg++)
		all[n++] = *arg;
	all[n] = NULL;

	sync();
	vmm->free_before = mem_free();
	vmm->pid = fork();
	if (vmm->pid < 0)
		die("fork: %s", strerror(errno));
	if (!vmm->pid) {
		dup2(out[1], 1);
		dup2(err[1], 2);
		setenv("LD_LIBRARY_PATH", VMM_FILES "/lib", 1);
		setenv(REMOTE_FD, number, 1);
		setenv("LD_PRELOAD", attributes2 ? VMM_FILES "/lib/attributes2-only.so" : VMM_FILES "/lib/remote-ioctl.so", 1);
		execv(QEMU, all);
		dprintf(2, "%s: %s\n", QEMU, strerror(errno));
		_exit(127);
	}
	close(qmp[1]);
	close(out[1]);
	close(err[1]);
	close(remote[1]);
	vmm->remote = remote[0];
	vmm->qmp = qmp[0];
	vmm->out.fd = out[0];
	vmm->err.fd = err[0];
}

static void line(struct vmm *vmm, const char *text)
{
	if (strstr(text, "guest: FAILED"))
		vmm->failed++;
	vmm->heard |= wanted && strstr(text, wanted);
	/* The event by which an SNP guest gives up. */
	vmm->stuck |= !strcmp(text, "KVM: unknown exit reason 24");
	if (!strncmp(text, "qemu-system", 11) || strstr(text, "not resettable"))
		snprintf(vmm->said, sizeof(vmm->said), "%s", text);
	else if (show && !strstr(text, "] guest: ") && !strstr(text, "] swp_guest: "))
		return;
	printf("# | %s\n", text);
}

/* Returns whether there is more to come. */
static bool hand_on(struct vmm *vmm, struct stream *stream)
{
	char data[1024];
	ssize_t n = read(stream->fd, data, sizeof(data));

	for (ssize_t i = 0; i < n; i++) {
		if (data[i] == '\r')
			continue;
		if (data[i] == '\n' || stream->len == sizeof(stream->line) - 1) {
			stream->line[stream->len] = 0;
			line(vmm, stream->line);
			stream->len = 0;
			continue;
		}
		stream->line[stream->len++] = data[i];
	}
	return n > 0;
}

/* Hands on what QEMU and the guest say; returns whether it is still there. */
static bool listen_to(struct vmm *vmm, int ms)
{
	struct pollfd p[] = { { .fd = vmm->out.fd, .events = POLLIN }, { .fd = vmm->err.fd, .events = POLLIN } };

	if (vmm->ended)
		return false;
	sample(vmm);
	if (poll(p, 2, ms) <= 0)
		return true;
	if (p[1].revents)
		hand_on(vmm, &vmm->err);
	if (p[0].revents && !hand_on(vmm, &vmm->out)) {
		while (hand_on(vmm, &vmm->err))
			;
		waitpid(vmm->pid, &vmm->status, 0);
		vmm->ended = true;
	}
	return !vmm->ended;
}

static void tell(struct vmm *vmm, const char *command)
{
	if (write(vmm->qmp, command, strlen(command)) < 0 || write(vmm->qmp, "\n", 1) < 0)
		die("QMP: %s", strerror(errno));
}

/* Returns the answer, which is a line; events are skipped. */
static const char *qmp(struct vmm *vmm, const char *command)
{
	long long limit = now_ms() + ANSWER_MS;
	size_t len = 0;

	if (command)
		tell(vmm, command);
	while (now_ms() < limit) {
		struct pollfd p = { .fd = vmm->qmp, .events = POLLIN };

		if (!listen_to(vmm, 0))
			die("QEMU is gone");
		if (poll(&p, 1, 20) <= 0)
			continue;
		if (read(vmm->qmp, vmm->reply + len, 1) != 1)
			die("QMP has ended");
		if (vmm->reply[len] != '\n') {
			len += len < sizeof(vmm->reply) - 1;
			continue;
		}
		vmm->reply[len] = 0;
		len = 0;
		if (!strstr(vmm->reply, "\"event\""))
			return vmm->reply;
	}
	die("no answer to %s", command);
}

static void hello(struct vmm *vmm)
{
	qmp(vmm, NULL);
	qmp(vmm, "{\"execute\":\"qmp_capabilities\"}");
}

static void stop(struct vmm *vmm)
{
	if (!vmm->ended) {
		kill(vmm->pid, SIGTERM);
		for (int i = 0; i < 500 && listen_to(vmm, 20); i++)
			;
		if (!vmm->ended) {
			kill(vmm->pid, SIGKILL);
			while (listen_to(vmm, 20))
				;
		}
	}
	close(vmm->qmp);
	close(vmm->out.fd);
	close(vmm->err.fd);
	close(vmm->remote);
	if (vmm->disk >= 0)
		close(vmm->disk);
}

/* ---- The memory, as the kernel sees it ----------------------------------- */

/* Finds the largest convertible guest_memfd of QEMU, and counts them. */
static int read_info(pid_t pid, struct info *found)
{
	char path[300], text[128];
	int count = 0;
	DIR *dir;

	memset(found, 0, sizeof(*found));
	snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
	dir = opendir(path);
	if (!dir)
		return 0;
	for (struct dirent *entry; (entry = readdir(dir));) {
		struct info info = { .fd = atoi(entry->d_name) };
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", pid, entry->d_name);
		file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		while (file && fgets(text, sizeof(text), file)) {
			sscanf(text, "gmem-size: %llu", &info.size);
			sscanf(text, "gmem-convertible: %llu", &info.convertible);
			sscanf(text, "gmem-private: %llu", &info.private);
			sscanf(text, "gmem-shared: %llu", &info.shared);
			sscanf(text, "gmem-resident: %llu", &info.resident);
			sscanf(text, "gmem-runs: %llu", &info.runs);
			sscanf(text, "gmem-to-shared: %llu", &info.to_shared);
			sscanf(text, "gmem-to-private: %llu", &info.to_private);
			sscanf(text, "gmem-failed-pinned: %llu", &info.failed_pinned);
		}
		if (file)
			fclose(file);
		count += info.size > 0;
		if (info.size > found->size)
			*found = info;
	}
	closedir(dir);
	return count;
}

/* Mappings of QEMU as large as half of the guest's memory: there must be one. */
static int large_mappings(pid_t pid)
{
	char text[512];
	int count = 0;
	FILE *file;

	snprintf(text, sizeof(text), "/proc/%d/maps", pid);
	file = fopen(text, "re");
	while (file && fgets(text, sizeof(text), file)) {
		unsigned long start, end;
		char mode[8];

		if (sscanf(text, "%lx-%lx %7s", &start, &end, mode) == 3 && end - start >= ram / 2 && mode[1] == 'w')
			count++;
	}
	if (file)
		fclose(file);
	return count;
}

static void show_map(pid_t pid, const char *when)
{
	char number[16], text[512];
	pid_t child;
	FILE *out;
	int p[2];

	printf("# gmem-map, %s:\n", when);
	snprintf(number, sizeof(number), "%d", pid);
	fflush(stdout);
	if (pipe2(p, O_CLOEXEC))
		return;
	child = fork();
	if (!child) {
		dup2(p[1], 1);
		dup2(p[1], 2);
		execl(GMEM_MAP, GMEM_MAP, "--picture", number, NULL);
		_exit(127);
	}
	close(p[1]);
	out = fdopen(p[0], "r");
	while (out && fgets(text, sizeof(text), out))
		printf("#   %s", text);
	if (out)
		fclose(out);
	waitpid(child, NULL, 0);
}

/* ---- The guest ----------------------------------------------------------- */

/* The guest's next report, if there is one. */
static const char *reported(struct vmm *vmm)
{
	static char text[SECTOR + 1];
	unsigned long number = 0;
	int n;

	return pread(vmm->disk, text, SECTOR, REPORT_SECTOR * SECTOR) == SECTOR && sscanf(text, "%lu %n", &number, &n) == 1 &&
	       number == vmm->number + 1 ? text + n : NULL;
}

/* Waits for the guest's next report, and has the guest wait for an answer. */
static const char *report(struct vmm *vmm, const char *prefix)
{
	long long limit = now_ms() + BOOT_MS;
	const char *text;

	while (now_ms() < limit && listen_to(vmm, 50) && !vmm->stuck) {
		text = reported(vmm);
		if (!text)
			continue;
		vmm->number++;
		if (strncmp(text, prefix, strlen(prefix)))
			die("the guest says '%s' instead of '%s'", text, prefix);
		return text + strlen(prefix);
	}
	die("%s before '%s'", vmm->ended ? "QEMU ended" : vmm->stuck ? "the guest gave up" : "the guest says nothing", prefix);
}

static void answer(struct vmm *vmm, const char *command)
{
	char text[SECTOR] = "";

	snprintf(text, sizeof(text), "%lu %s", vmm->number, command);
	if (pwrite(vmm->disk, text, SECTOR, ANSWER_SECTOR * SECTOR) != SECTOR)
		die("disk: %s", strerror(errno));
}

static void clear_disk(struct vmm *vmm)
{
	char text[SECTOR] = "";

	vmm->number = 0;
	if (pwrite(vmm->disk, text, SECTOR, REPORT_SECTOR * SECTOR) != SECTOR ||
	    pwrite(vmm->disk, text, SECTOR, ANSWER_SECTOR * SECTOR) != SECTOR)
		die("disk: %s", strerror(errno));
}

static void open_disk(struct vmm *vmm)
{
	vmm->disk = open("/tmp/disk", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (vmm->disk < 0 || ftruncate(vmm->disk, DISK_SIZE))
		die("/tmp/disk: %s", strerror(errno));
}

static const char *after(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? at + strlen(key) : NULL;
}

/* Takes from a line of the guest's kernel what is wanted; returns whether it had any. */
static bool linux_says(struct vmm *vmm, const char *text)
{
	const char *pool = after(text, "DMA: preallocated "), *swiotlb = after(text, "software IO TLB: mapped [mem ");
	bool encryption = strstr(text, "] Memory Encryption Features active: ");

	if (encryption)
		vmm->is_snp = strstr(text, ": AMD SEV SEV-ES SEV-SNP");
	if (swiotlb)
		sscanf(swiotlb, "%llx-%llx", &vmm->swiotlb, &vmm->swiotlb_end);
	if (pool)
		vmm->pools += strtoull(pool, NULL, 10) << 10;
	return encryption || pool || swiotlb;
}

/* What the guest has written to the disk. */
static void read_log(struct vmm *vmm)
{
	static char log[LOG_SIZE];
	char *rest = log, *text;

	if (pread(vmm->disk, log, LOG_SIZE - 1, DATA_START) < 0)
		die("disk: %s", strerror(errno));
	while ((text = strsep(&rest, "\n")))
		if (linux_says(vmm, text))
			printf("# | %s\n", text);
}

/* ---- The cases ----------------------------------------------------------- */

#define COMMON	"-accel", "kvm", "-smp", "2", "-kernel", "/guest/kernel", "-initrd", "/guest/qemu-vmm-guest", \
		"-drive", "if=none,id=disk,format=raw,file=/tmp/disk"
/* On an emulated host XSAVE has another size than a guest expects. */
#define SW_PROTECTED \
	COMMON, "-cpu", "max,-xsave", "-M", "microvm,memory-backend=ram,confidential-guest-support=cgs", \
	"-object", "sw-protected-guest,id=cgs", \
	"-object", "memory-backend-guest-memfd,id=ram,size=160M,host-nodes=1,policy=bind", "-m", "160M", \
	"-global", "virtio-mmio.force-legacy=off", "-device", "virtio-blk-device,drive=disk,iommu_platform=on", \
	"-append", APPEND "ignore_loglevel rootfstype=ramfs movablecore=" MOVABLE " swp_guest.private=1"

/*
 * Until it has a better clock than ticks, Linux 7.3 checks the TSC of another CPU with its own interrupts off, and if that
 * CPU doesn't answer in time, which it may not on a busy host, then there are no more ticks to tell.
 */
#define APPEND	"console=ttyS0 panic=-1 printk.time=1 swiotlb=2048,force nokaslr tsc=reliable "

/* The second disk has a driver that is a program of the guest. */
static char *sw_args[] = {
	SW_PROTECTED, "-object", "iothread,id=io", "-drive", "if=none,id=raw,format=raw,file=/tmp/raw",
	"-device", "virtio-blk-device,id=rawdev,drive=raw,iothread=io", NULL
};

/*
 * The firmware of the host refuses to promise an SNP guest what an emulated CPU has not. And with what KVM has instead of
 * hardware, but for its clock, such a guest hangs in one of five to ten boots: a CPU waits for a lock of its own timers, the
 * other one for the first.
 */
#define NO_PV	"-kvm-asyncpf,-kvm-asyncpf-int,-kvm-steal-time,-kvm-pv-eoi,-kvm-pv-unhalt,-kvm-poll-control,-kvm-pv-tlb-flush," \
		"-kvm-pv-ipi,-kvm-pv-sched-yield,"
#define SNP_CPU	"-cpu", "host," NO_PV "-xsave,-avx,-avx2,-fma,-f16c,-la57,-tsc-deadline,level=0xc,xlevel=0x8000001f"
#define SNP	"sev-snp-guest,id=cgs,cbitpos=" STR(C_BIT) ",reduced-phys-bits=1"

static char *snp_pages_args[] = {
	"-accel", "kvm", SNP_CPU, "-M", "q35,memory-backend=ram,confidential-guest-support=cgs,kernel-irqchip=split", "-object", SNP,
	"-object", "memory-backend-guest-memfd,id=ram,size=64M", "-m", "64M", "-bios", VMM_FILES "/snp-psc.bin", NULL
};

static char *snp_implicit_args[] = {
	"-accel", "kvm", SNP_CPU, "-M", "q35,memory-backend=ram,confidential-guest-support=cgs,kernel-irqchip=split", "-object", SNP,
	"-object", "memory-backend-guest-memfd,id=ram,size=64M", "-m", "64M", "-bios", VMM_FILES "/snp-implicit.bin", NULL
};

static char *snp_old_args[] = {
	"-accel", "kvm", SNP_CPU, "-M", "q35,confidential-guest-support=cgs,kernel-irqchip=split", "-object", SNP, "-m", "64M",
	"-bios", VMM_FILES "/snp-implicit.bin", NULL
};

static char *snp_in_place_args[] = {
	"-accel", "kvm", SNP_CPU, "-M", "q35,confidential-guest-support=cgs,kernel-irqchip=split", "-object", SNP ",convert-in-place=on",
	"-m", "64M", NULL
};

static char *snp_linux_args[] = {
	COMMON, SNP_CPU, "-M", "microvm,memory-backend=ram,confidential-guest-support=cgs", "-object", SNP ",convert-in-place=on",
	"-object", "memory-backend-guest-memfd,id=ram,size=64M", "-m", "64M", "-bios", VMM_FILES "/snp-boot.bin",
	"-global", "virtio-mmio.force-legacy=off", "-device", "virtio-blk-device,drive=disk,iommu_platform=on",
	"-append", APPEND "loglevel=6", "-S", NULL
};

static unsigned long long number_after(const char *text, const char *key)
{
	const char *at = after(text, key);

	return at ? strtoull(at, NULL, 10) : ~0ull;
}

/* QEMU's own view, of all its blocks, is the kernel's of the files. */
static void query(struct vmm *vmm, const struct info *info, const char *when)
{
	const char *reply = qmp(vmm, "{\"execute\":\"query-guest-memfd\"}");
	unsigned long long private = number_after(reply, "\"private\": "), shared = number_after(reply, "\"shared\": ");

	result(private == info->private && shared == info->shared, "query-guest-memfd %s: private %llu KiB, shared %llu KiB", when,
	       private >> 10, shared >> 10);
	if (private != info->private || shared != info->shared)
		printf("# the kernel says %llu and %llu; %s\n", info->private >> 10, info->shared >> 10, reply);
}

/* All pages that QEMU has mapped are of node 1. */
static void policy(struct vmm *vmm)
{
	char text[512], *at;
	bool found = false, elsewhere = false;
	FILE *file;

	snprintf(text, sizeof(text), "/proc/%d/numa_maps", vmm->pid);
	file = fopen(text, "re");
	while (file && fgets(text, sizeof(text), file)) {
		if (!strstr(text, "bind:1"))
			continue;
		at = strstr(text, " N1=");
		if (at && strtoull(at + 4, NULL, 10) > 1000)
			found = true;
		if (strstr(text, " N0="))
			elsewhere = true;
		printf("# %s", text);
	}
	if (file)
		fclose(file);
	result(found && !elsewhere, "memory is of the host node that the backend names");
}

/* The state of each page, by a copy of QEMU's file descriptor: whoever has the file may ask. */
static void read_states(int fd, bool *shared)
{
	struct kvm_gmem_query query = { 0 };

	for (unsigned long long at = 0; at < ram;) {
		query.offset = at;
		if (ioctl(fd, KVM_GMEM_QUERY, &query))
			die("KVM_GMEM_QUERY: %s", strerror(errno));
		for (; at < query.offset + query.size; at += PAGE)
			shared[at / PAGE] = query.state == KVM_GMEM_STATE_SHARED;
	}
}

static int copy_of(struct vmm *vmm, int fd)
{
	int pidfd = syscall(SYS_pidfd_open, vmm->pid, 0);
	int copy = syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	if (copy < 0)
		die("pidfd_getfd: %s", strerror(errno));
	close(pidfd);
	return copy;
}

/* Waits until QEMU complains, or the guest has nothing to complain about; returns of which page. */
static unsigned long long complaint(struct vmm *vmm)
{
	struct pollfd p = { .fd = vmm->err.fd, .events = POLLIN };
	bool done = false;

	for (long long limit = now_ms() + ANSWER_MS; !vmm->said[0] && !done && now_ms() < limit && listen_to(vmm, 50);) {
		done = reported(vmm);
		/* What QEMU has said before that may not be read yet. */
		while (poll(&p, 1, 0) > 0 && listen_to(vmm, 0))
			;
	}
	return strstr(vmm->said, "page at ") ? strtoull(strstr(vmm->said, "page at ") + 8, NULL, 16) : ~0ull;
}

static const char *ask(struct vmm *vmm, const char *command, const char *prefix)
{
	answer(vmm, command);
	return report(vmm, prefix);
}

/* A page can't become private as long as this is open. */
static int use(char *addr, bool pin)
{
	struct iovec iov = { addr, PAGE };
	int fd, pipes[2];

	if (pin) {
		struct io_uring_params params = { 0 };

		fd = syscall(SYS_io_uring_setup, 1, &params);
		if (fd < 0 || syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1))
			die("io_uring: %s", strerror(errno));
		return fd;
	}
	if (pipe2(pipes, O_CLOEXEC) || vmsplice(pipes[1], &iov, 1, 0) != PAGE)
		die("vmsplice: %s", strerror(errno));
	close(pipes[1]);
	return pipes[0];
}

/*
 * The guest shares a buffer. While somebody uses a page of it the guest can't take it back, and is told EAGAIN; QEMU
 * says which page it is, and how it is used. Afterwards it can.
 */
static void share_and_take_back(struct vmm *vmm, struct info *info, bool pin)
{
	static bool before[SW_RAM / PAGE], after[SW_RAM / PAGE];
	unsigned long long page = ram, at, named;
	int fd = copy_of(vmm, info->fd), user;
	struct info now;
	char *map = mmap(NULL, ram, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	read_states(fd, before);
	ask(vmm, "share", "shared");
	read_info(vmm->pid, &now);
	read_states(fd, after);
	result(now.shared == info->shared + SHARED_SIZE, "the guest shares %u KiB, and %llu KiB become shared", SHARED_SIZE >> 10,
	       (now.shared - info->shared) >> 10);
	query(vmm, &now, "with a buffer shared");
	if (show)
		show_map(vmm->pid, "with a buffer shared");

	for (at = 0; at < ram && page == ram; at += PAGE)
		if (after[at / PAGE] && !before[at / PAGE])
			page = at;
	if (page == ram)
		die("no page of it");
	user = use(map + page, pin);
	munmap(map, ram);
	vmm->said[0] = 0;
	answer(vmm, "unshare");
	named = complaint(vmm);
	result(named == page && strstr(vmm->said, attributes2 ? "not known why" : pin ? "pinned" : "referenced"),
	       "a page that is %s, at %#llx, can't become private, and QEMU says which it is", pin ? "pinned" : "in use", page);
	close(user);
	close(fd);
	report(vmm, "unshared");
	read_info(vmm->pid, &now);
	result(now.shared == info->shared, "the guest takes all of it back once nobody uses it");
}

/*
 * What the host has lost since QEMU was started is the guest's memory once, not twice. The lists of free pages that each
 * CPU has aren't free memory to the kernel, which makes a difference of 20 MiB between one run and the next.
 */
static void one_copy(struct vmm *vmm)
{
	unsigned long long own = own_memory(vmm->pid), own_max = 40 * MIB, slack = 40 * MIB;
	struct info info;

	read_info(vmm->pid, &info);
	sample(vmm);
	result(vmm->used_max <= info.resident + own + slack && own <= own_max && large_mappings(vmm->pid) == 1,
	       "one copy: the host has used %llu MiB at most, of which the guest's memory is %llu MiB, and QEMU's own %llu MiB",
	       vmm->used_max >> 20, info.resident >> 20, own >> 20);
}

static void ends_well(struct vmm *vmm)
{
	answer(vmm, "end");
	result(!strcmp(report(vmm, "end failed "), "0") && !vmm->failed, "the guest's processes have found all their memory as it should be");
}

/* ---- Devices ------------------------------------------------------------- */

static void open_raw_disk(void)
{
	static uint64_t data[RAW_SIZE / 8];
	int fd = open("/tmp/raw", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	for (size_t i = 0; i < RAW_SIZE / 8; i++)
		data[i] = i * 8 / PAGE;
	if (fd < 0 || write(fd, data, RAW_SIZE) != RAW_SIZE)
		die("/tmp/raw: %s", strerror(errno));
	close(fd);
}

/* What a device of QEMU uses can't become private, and what is private it can't use. */
static void devices(struct vmm *vmm)
{
	unsigned long long data = strtoull(ask(vmm, "raw start", "raw started "), NULL, 10), named;
	unsigned long long in_use = 0;

	/* A byte a second: one request is more than that allows for an hour. */
	qmp(vmm, "{\"execute\":\"block_set_io_throttle\",\"arguments\":{\"device\":\"raw\",\"bps\":1,\"bps_rd\":0,\"bps_wr\":0,"
	    "\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}}");
	ask(vmm, "raw hold", "raw held");
	for (long long limit = now_ms() + ANSWER_MS; in_use != 1 && now_ms() < limit;)
		in_use = number_after(qmp(vmm, "{\"execute\":\"x-query-virtio-queue-status\",\"arguments\":{\"path\":"
					  "\"/machine/peripheral/rawdev\",\"queue\":0}}"), "\"inuse\": ");
	vmm->said[0] = 0;
	answer(vmm, "raw take");
	named = complaint(vmm);
	result(in_use == 1 && named == data && strstr(vmm->said, "mapped by a device of QEMU"),
	       "a page that a device has mapped, at %#llx, can't become private, and QEMU says which it is", data);
	qmp(vmm, "{\"execute\":\"block_set_io_throttle\",\"arguments\":{\"device\":\"raw\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,"
	    "\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}}");
	report(vmm, "raw taken");
	result(!strcmp(ask(vmm, "raw wait", "raw complete "), "0, 512 words read"), "the guest takes it back once the request is complete");
	result(!strcmp(ask(vmm, "raw private", "raw private "), "512 words left"),
	       "a device that is told to use a private page neither reads nor writes it");
	result(!strcmp(ask(vmm, "raw ring", "raw ring "), "given up"),
	       "a device whose ring becomes private gives up, and works again after a reset of it");
	ask(vmm, "raw race 200", "raw raced");
	result(!vmm->ended, "200 times taken back while a device reads to it");
	ask(vmm, "raw ring race 50", "raw ring raced");
	result(!vmm->ended, "50 times a ring taken back while a device looks at it");
}

/* ---- Memory errors ------------------------------------------------------- */

#define HWPOISON	"/sys/kernel/debug/hwpoison/"
#define PFN(entry)	((entry) & ((1ull << 55) - 1))

/* Where the host has a page that is shared. */
static unsigned long pfn_of(int fd, unsigned long long offset)
{
	volatile char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, offset);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (map == MAP_FAILED || pagemap < 0)
		die("pagemap: %s", strerror(errno));
	(void)*map;
	if (pread(pagemap, &entry, sizeof(entry), (uintptr_t)map / PAGE * sizeof(entry)) != sizeof(entry) || !PFN(entry))
		die("pagemap has no page at %#llx", offset);
	close(pagemap);
	munmap((void *)map, PAGE);
	return PFN(entry);
}

static void hwpoison(const char *what, unsigned long pfn)
{
	int fd = open(what, O_WRONLY | O_CLOEXEC);
	char text[32];

	/* EBUSY is that the page is still in the file, which is what guest_memfd wants. */
	snprintf(text, sizeof(text), "%lu", pfn);
	if (fd < 0 || (write(fd, text, strlen(text)) < 0 && errno != EBUSY))
		die("%s: %s", what, strerror(errno));
	close(fd);
}

/*
 * The guest is told of a memory error by a machine check once it accesses the page, and by an error if it wants to
 * convert it. Other pages are as they were, and after a reset there is another page.
 */
static void memory_error(struct vmm *vmm, bool shared, unsigned long *pfn)
{
	unsigned long long page = strtoull(ask(vmm, "poison share", "poison shared "), NULL, 10), named;
	const char *state = shared ? "shared" : "private";
	struct info info;
	char text[256];
	int fd;

	read_info(vmm->pid, &info);
	fd = copy_of(vmm, info.fd);
	*pfn = pfn_of(fd, page);
	close(fd);
	if (shared) {
		/* QEMU has it mapped, and is told at once. */
		snprintf(text, sizeof(text), "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":%llu,\"size\":%d,"
			 "\"filename\":\"/tmp/page\"}}", page, PAGE);
		qmp(vmm, text);
	} else {
		ask(vmm, "poison unshare", "poison unshared");
	}
	vmm->said[0] = 0;
	hwpoison(HWPOISON "corrupt-pfn", *pfn);
	if (shared) {
		complaint(vmm);
		result(strstr(vmm->said, "Guest MCE Memory Error"), "QEMU is told of a memory error in a shared page");
		vmm->said[0] = 0;
	}
	answer(vmm, shared ? "poison try unshare" : "poison try share");
	named = complaint(vmm);
	result(!strcmp(report(vmm, "poison told "), "1") && named == page &&
	       strstr(vmm->said, "has a memory error"), "the guest can't convert a %s page with a memory error", state);
	result(!strcmp(ask(vmm, "poison touch", "poison touched "), "0 -1 0"),
	       "a process of the guest gets SIGBUS at a %s page with a memory error, and nowhere else", state);
}

/* ---- A reset, whatever the guest does at the moment ---------------------- */

static void reset(struct vmm *vmm, unsigned long long private, const char *when)
{
	struct info info;

	qmp(vmm, "{\"execute\":\"stop\"}");
	clear_disk(vmm);
	qmp(vmm, "{\"execute\":\"system_reset\"}");
	for (long long limit = now_ms() + ANSWER_MS; now_ms() < limit && listen_to(vmm, 50);) {
		read_info(vmm->pid, &info);
		if (!info.private)
			break;
	}
	result(!info.private && info.shared == ram, "a reset %s makes all %llu MiB shared", when, info.shared >> 20);
	qmp(vmm, "{\"execute\":\"cont\"}");
	result(strtoull(report(vmm, "booted private "), NULL, 10) == private, "after it the guest boots again");
}

static void errors(struct vmm *vmm, unsigned long long private)
{
	unsigned long pfn[2];

	memory_error(vmm, false, &pfn[0]);
	memory_error(vmm, true, &pfn[1]);
	reset(vmm, private, "with memory errors");
	hwpoison(HWPOISON "unpoison-pfn", pfn[0]);
	hwpoison(HWPOISON "unpoison-pfn", pfn[1]);
}

/* ---- Chaos --------------------------------------------------------------- */

#define CHAOS_SEED	1
#define CHAOS_OPS	100	/* between resets */
#define CHAOS_PAGES	64
#define PIN_OPS		3	/* how long a page remains in use */

static uint64_t seed = CHAOS_SEED;

static unsigned int any(unsigned int n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 16) % n;
}

/* As QEMU itself, but without its knowledge. */
static int convert(struct vmm *vmm, int fd, unsigned long long page, unsigned long long pages, bool to_private)
{
	struct remote remote = { .fd = fd, .request = to_private ? KVM_GMEM_CONVERT_PRIVATE : KVM_GMEM_CONVERT_SHARED };
	struct kvm_gmem_convert *convert = (void *)remote.arg;

	*convert = (struct kvm_gmem_convert) { .offset = page * PAGE, .size = pages * PAGE };
	if (write(vmm->remote, &remote, sizeof(remote)) != sizeof(remote) ||
	    read(vmm->remote, &remote, sizeof(remote)) != sizeof(remote))
		die("QEMU makes no ioctl");
	if (remote.err && remote.err != EAGAIN)
		die("page %llu, %llu pages: %s", page, pages, strerror(remote.err));
	return remote.err;
}

/* The first of the pages from there on that may be private, and how many there are. */
static unsigned long long run_of(const bool *shared, unsigned long long *page)
{
	unsigned long long pages = 0;

	while (*page < ram / PAGE && shared[*page])
		++*page;
	while (*page + pages < ram / PAGE && !shared[*page + pages])
		pages++;
	return pages;
}

/* What is private by what the guest has asked for, and nothing else. */
static void put_right(struct vmm *vmm, int fd, const bool *shared)
{
	unsigned long long pages;

	for (unsigned long long page = 0; (pages = run_of(shared, &page)); page += pages)
		if (convert(vmm, fd, page, pages, true))
			die("page %llu, %llu pages are in use", page, pages);
}

struct chaos {
	unsigned int conversions, refused, references, all;
};

/*
 * Programs of the guest compute, share memory and take it back. Meanwhile somebody converts what they have, at random;
 * the guest notices nothing, as a software-protected VM has no opinion.
 */
static void chaos(struct vmm *vmm, bool *shared, struct chaos *done)
{
	unsigned long long page, pages;
	struct info info;
	int fd, pipes[2], pinned = 0;
	char *map;

	read_info(vmm->pid, &info);
	fd = copy_of(vmm, info.fd);
	map = mmap(NULL, ram, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	read_states(fd, shared);
	answer(vmm, "rounds 20");
	for (int i = 0; i < CHAOS_OPS; i++) {
		struct iovec iov = { .iov_len = PAGE };
		unsigned int what = any(20);

		if (pinned && !--pinned) {
			close(pipes[0]);
			close(pipes[1]);
		}
		if (reported(vmm)) {
			report(vmm, "rounds ");
			answer(vmm, "rounds 20");
		}
		if (!listen_to(vmm, 0))
			die("QEMU is gone");
		do {
			page = any(ram / PAGE);
			pages = run_of(shared, &page);
		} while (!pages);
		if (pages > CHAOS_PAGES)
			pages = 1 + any(CHAOS_PAGES);
		if (what < 16) {
			done->conversions++;
			done->refused += convert(vmm, info.fd, page, pages, what % 2) == EAGAIN;
		} else if (what < 18 && !pinned) {
			/* Somebody uses a page, if it isn't private by then. */
			convert(vmm, info.fd, page, 1, false);
			iov.iov_base = map + page * PAGE;
			if (pipe2(pipes, O_CLOEXEC))
				die("pipe: %s", strerror(errno));
			done->references += vmsplice(pipes[1], &iov, 1, 0) == PAGE;
			pinned = PIN_OPS;
		} else if (what < 19) {
			done->all++;
			convert(vmm, info.fd, 0, ram / PAGE, false);
		} else {
			qmp(vmm, "{\"execute\":\"query-guest-memfd\"}");
		}
	}
	if (pinned) {
		close(pipes[0]);
		close(pipes[1]);
	}
	munmap(map, ram);
	close(fd);
}

/* The guest's program that converts is done, and what was done behind its back is undone. */
static void settle(struct vmm *vmm, int fd, const bool *shared)
{
	report(vmm, "rounds ");
	put_right(vmm, fd, shared);
}

static void chaos_and_resets(struct vmm *vmm, unsigned long long private)
{
	static bool shared[SW_RAM / PAGE], now[SW_RAM / PAGE];
	struct chaos done = { 0 };
	unsigned int lines = 0;
	struct info info;
	char text[512];
	pid_t watcher;
	int fd;
	FILE *out;

	read_info(vmm->pid, &info);
	fd = copy_of(vmm, info.fd);
	fflush(stdout);
	out = tmpfile();
	watcher = fork();
	if (!watcher) {
		snprintf(text, sizeof(text), "%d", vmm->pid);
		dup2(fileno(out), 1);
		execl(GMEM_MAP, GMEM_MAP, "--watch=0.2", text, NULL);
		_exit(127);
	}
	printf("# seed %llu\n", (unsigned long long)seed);
	chaos(vmm, shared, &done);
	reset(vmm, private, "in the middle of chaos");
	chaos(vmm, shared, &done);
	settle(vmm, info.fd, shared);
	/* The guest's own reset. It begins to count anew. */
	answer(vmm, "reboot");
	vmm->number = 0;
	result(strtoull(report(vmm, "booted private "), NULL, 10) == private, "the guest reboots while its programs convert");
	chaos(vmm, shared, &done);
	reset(vmm, private, "in the middle of chaos, once more");
	chaos(vmm, shared, &done);
	settle(vmm, info.fd, shared);
	read_states(fd, now);
	read_info(vmm->pid, &info);
	result(!memcmp(shared, now, sizeof(now)) && info.private == private && done.references && done.all,
	       "all is as the guest wants it after %u conversions, of which %u were refused, %u of all memory, %u references",
	       done.conversions, done.refused, done.all, done.references);
	query(vmm, &info, "after chaos");
	kill(watcher, SIGTERM);
	waitpid(watcher, NULL, 0);
	rewind(out);
	while (fgets(text, sizeof(text), out))
		lines++;
	fclose(out);
	result(lines > 10, "gmem-map --watch has printed %u lines meanwhile", lines);
	close(fd);
}

static void software_protected(void)
{
	unsigned long long private;
	struct info info, now;
	struct vmm vmm;
	int count;

	open_disk(&vmm);
	open_raw_disk();
	start(&vmm, sw_args);
	hello(&vmm);
	private = strtoull(report(&vmm, "booted private "), NULL, 10);
	count = read_info(vmm.pid, &info);
	result(count == 1 && info.convertible && info.size == ram,
	       "the guest's memory is one convertible guest_memfd of %llu MiB", info.size >> 20);
	result(private > 0 && info.private == private, "the guest has made %llu KiB private, and %llu KiB are", private >> 10,
	       info.private >> 10);
	query(&vmm, &info, "after boot");
	policy(&vmm);
	show_map(vmm.pid, "after boot");

	share_and_take_back(&vmm, &info, false);
	share_and_take_back(&vmm, &info, true);
	read_info(vmm.pid, &info);
	for (int i = 0; i < ROUNDS; i += 20) {
		answer(&vmm, "rounds 20");
		report(&vmm, "rounds ");
	}
	read_info(vmm.pid, &now);
	result(now.to_private > info.to_private && now.private == private &&
	       now.to_private - info.to_private == now.to_shared - info.to_shared,
	       "%d rounds: %llu times shared, %llu times taken back, while others compute", ROUNDS, now.to_shared - info.to_shared,
	       now.to_private - info.to_private);
	show_map(vmm.pid, "after all rounds");
	one_copy(&vmm);
	ends_well(&vmm);

	/* The guest is waiting. All is shared again before the first instruction. */
	qmp(&vmm, "{\"execute\":\"stop\"}");
	clear_disk(&vmm);
	read_info(vmm.pid, &info);
	qmp(&vmm, "{\"execute\":\"system_reset\"}");
	for (int i = 0; i < 20; i++)
		listen_to(&vmm, 50);
	read_info(vmm.pid, &now);
	result(info.private == private && !now.private && now.shared == ram, "a reset makes all %llu MiB shared", now.shared >> 20);
	query(&vmm, &now, "after the reset");
	qmp(&vmm, "{\"execute\":\"cont\"}");
	private = strtoull(report(&vmm, "booted private "), NULL, 10);
	read_info(vmm.pid, &now);
	result(private > 0 && now.private == private, "after it the guest boots again");
	if (!attributes2 && !show) {
		devices(&vmm);
		errors(&vmm, private);
		chaos_and_resets(&vmm, private);
	}
	ends_well(&vmm);
	stop(&vmm);
}

/* A guest whose state only it knows can't be reset: QEMU says so, and ends. */
static void not_resettable(struct vmm *vmm, const char *who)
{
	while (listen_to(vmm, 50))
		;
	result(WIFEXITED(vmm->status) && !WEXITSTATUS(vmm->status) && strstr(vmm->said, "not resettable"),
	       "QEMU ends well when %s wants a reset: %s", who, vmm->said);
	stop(vmm);
}

/* An SNP guest is launched from one guest_memfd, where it is, and converts. */
static void snp_pages(void)
{
	const int launched = 2;		/* pages in memory, for secrets and CPUID */
	struct info info = { 0 };
	struct vmm vmm = { .disk = -1 };

	ram = 64 * MIB;
	start(&vmm, snp_pages_args);
	hello(&vmm);
	for (long long limit = now_ms() + BOOT_MS; now_ms() < limit && listen_to(&vmm, 50);) {
		read_info(vmm.pid, &info);
		if (info.to_shared == PSC_PAGES && info.shared == (PSC_PAGES - PSC_TAKEN_BACK) * PAGE)
			break;
	}
	result(!vmm.ended && info.convertible && info.size == ram && large_mappings(vmm.pid) == 1,
	       "an SNP guest is launched from one convertible guest_memfd of %llu MiB", info.size >> 20);
	/* QEMU has made private what the firmware of the host loads, and then the rest by one conversion. */
	result(info.to_private == launched + 1 + PSC_TAKEN_BACK && info.private == ram - info.shared && info.to_shared == PSC_PAGES,
	       "all is private but for what the guest shares: %llu pages shared, %u of them taken back", info.to_shared, PSC_TAKEN_BACK);
	if (!vmm.ended)
		query(&vmm, &info, "of the SNP guest");
	show_map(vmm.pid, "of the SNP guest");
	/* The answer may not come any more. */
	if (!vmm.ended)
		tell(&vmm, "{\"execute\":\"system_reset\"}");
	not_resettable(&vmm, "the user");
}

/* Waits until the guest has shared a page and said something there; returns what. */
static uint64_t said_in(struct vmm *vmm, int fd, volatile uint64_t *page, unsigned long long at)
{
	static bool shared[SNP_RAM / PAGE];

	for (long long limit = now_ms() + BOOT_MS; now_ms() < limit && listen_to(vmm, 20);) {
		read_states(fd, shared);
		if (shared[at / PAGE] && *page)
			return *page;
	}
	return 0;
}

/*
 * The guest doesn't ask: QEMU converts what it accesses in another way than before. Nobody can be told to come back
 * later, so while somebody uses the page the guest stands still, and QEMU says why.
 */
static void snp_implicit(void)
{
	static bool shared[SNP_RAM / PAGE];
	struct vmm vmm = { .disk = -1 };
	volatile uint64_t *page, *next;
	unsigned long long named;
	struct info info;
	int fd, user;
	char *map;

	ram = SNP_RAM;
	start(&vmm, snp_implicit_args);
	hello(&vmm);
	read_info(vmm.pid, &info);
	fd = copy_of(&vmm, info.fd);
	map = mmap(NULL, ram, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	page = (void *)(map + SHARED);
	next = (void *)(map + SHARED + PAGE);
	result(said_in(&vmm, fd, page, SHARED) == IMPLICIT_SHARED, "a page that the guest uses as shared memory becomes that");

	user = use((char *)page, false);
	vmm.said[0] = 0;
	*page = IMPLICIT_GO;
	named = complaint(&vmm);
	read_states(fd, shared);
	result(named == SHARED && strstr(vmm.said, "can't be made private") && strstr(vmm.said, "referenced") && shared[SHARED / PAGE],
	       "and not private as long as somebody uses it; QEMU says which it is, and why");
	close(user);
	result(said_in(&vmm, fd, next, SHARED + PAGE) == IMPLICIT_PRIVATE, "the guest goes on once nobody does");
	read_states(fd, shared);
	result(!shared[SHARED / PAGE] && shared[SHARED / PAGE + 1], "what it has accepted is private then");
	munmap(map, ram);
	close(fd);
	stop(&vmm);
}

static bool readable(const char *page)
{
	struct iovec to = { .iov_base = (char[1]) { 0 }, .iov_len = 1 }, from = { .iov_base = (char *)page, .iov_len = 1 };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

/* The state of each page, who may read it, and the guest's own account of what it shares. */
static void account(struct vmm *vmm, const struct info *info)
{
	static bool shared[SNP_RAM / PAGE];
	int fd = copy_of(vmm, info->fd), wrong = 0, not_shared = 0;
	char *map = mmap(NULL, ram, PROT_READ, MAP_SHARED, fd, 0);
	unsigned long long others_max = 64 * PAGE, size = vmm->swiotlb_end - vmm->swiotlb;

	if (map == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	read_states(fd, shared);
	for (unsigned long long i = 0; i < ram / PAGE; i += shared[i] ? 1 : 61)
		wrong += readable(map + i * PAGE) != shared[i];
	for (unsigned long long at = vmm->swiotlb; at < vmm->swiotlb_end && at < ram; at += PAGE)
		not_shared += !shared[at / PAGE];
	result(!wrong, "the host reads what is shared, and nothing that is private");
	result(size && vmm->swiotlb_end <= ram && !not_shared, "all of the guest's swiotlb is shared, %llu KiB at %#llx", size >> 10,
	       vmm->swiotlb);
	/* Linux shares rings, variables of kvmclock, and a few pages of each CPU for talking to the host. */
	result(info->shared > size + vmm->pools && info->shared <= size + vmm->pools + others_max,
	       "the guest shares %llu KiB: swiotlb, %llu KiB of other pools, and %llu KiB", info->shared >> 10, vmm->pools >> 10,
	       (info->shared - size - vmm->pools) >> 10);
	munmap(map, ram);
	close(fd);
}

/* An unmodified Linux as an SNP guest. Its firmware takes it from QEMU by way of memory that it shares, and takes back. */
static void snp_linux(void)
{
	unsigned long long cpus, left, slack = 24 * MIB;
	struct info info, now;
	struct vmm vmm;

	ram = SNP_RAM;
	open_disk(&vmm);
	start(&vmm, snp_linux_args);
	hello(&vmm);
	read_info(vmm.pid, &info);
	result(info.convertible && info.size == ram && !info.private, "before the launch all %llu MiB are shared", info.size >> 20);
	show_map(vmm.pid, "before the launch");
	qmp(&vmm, "{\"execute\":\"cont\"}");
	cpus = strtoull(report(&vmm, "booted cpus "), NULL, 10);
	read_log(&vmm);
	result(vmm.is_snp && cpus == 2 && large_mappings(vmm.pid) == 1, "Linux runs as an SNP guest, with %llu CPUs", cpus);
	read_info(vmm.pid, &info);
	query(&vmm, &info, "after boot");
	account(&vmm, &info);
	show_map(vmm.pid, "after boot");

	answer(&vmm, "rebind " STR(REBINDS));
	report(&vmm, "rebound ");
	read_info(vmm.pid, &now);
	result(now.to_shared >= info.to_shared + REBINDS && now.to_private >= info.to_private + REBINDS,
	       "the disk's driver comes and goes %d times: %llu times shared, %llu times taken back", REBINDS,
	       now.to_shared - info.to_shared, now.to_private - info.to_private);
	account(&vmm, &now);
	show_map(vmm.pid, "after that");
	one_copy(&vmm);
	answer(&vmm, "reboot");
	not_resettable(&vmm, "the guest");
	/* The host has its memory back. */
	for (int i = 0; (left = mem_free()) + slack < vmm.free_before && i < 500; i++)
		usleep(20000);
	result(left + slack >= vmm.free_before, "after that the host has %llu MiB free, it had %llu MiB before", left >> 20,
	       vmm.free_before >> 20);
}

/* ---- A device of the host, assigned to the guest ------------------------- */

#define VFIO_RAM	"96M"	/* edu has 28 address lines, and each page is mapped on its own */
#define FAULT_MS	60000

/* Memory of QEMU that the kernel has pinned for devices: VFIO's container and iommufd count it in two places. */
static unsigned long long pinned(pid_t pid)
{
	unsigned long long locked = 0, pinned = 0;
	char text[128];
	FILE *file;

	snprintf(text, sizeof(text), "/proc/%d/status", pid);
	file = fopen(text, "re");
	while (file && fgets(text, sizeof(text), file)) {
		sscanf(text, "VmLck: %llu", &locked);
		sscanf(text, "VmPin: %llu", &pinned);
	}
	if (file)
		fclose(file);
	return (locked + pinned) << 10;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die("%s: %s", path, strerror(errno));
	close(fd);
}

/* Has VFIO drive the device; returns its name. */
static const char *give_to_vfio(void)
{
	const char *path = edu_find();
	char text[300];

	if (!path[0])
		die("there is no device to assign");
	snprintf(text, sizeof(text), "%s/driver_override", path);
	write_file(text, "vfio-pci");
	write_file("/sys/bus/pci/drivers_probe", strrchr(path, '/') + 1);
	return strrchr(path, '/') + 1;
}

static int kernel_log(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || lseek(fd, 0, SEEK_END) < 0)
		die("/dev/kmsg: %s", strerror(errno));
	return fd;
}

/* What the IOMMU has refused since the last call. */
struct faults {
	int reads, writes;	/* of one page */
	int elsewhere;
};

#define IO_PAGE_FAULT_RW	0x20

/* Waits until there is a read of the page, or a write, or there are both, if @reads or @writes say so. */
static struct faults read_faults(int kmsg, unsigned long long page, bool reads, bool writes)
{
	long long limit = now_ms() + FAULT_MS;
	struct faults faults = { 0 };

	for (;;) {
		const char *at, *flags;
		char text[8192];
		ssize_t n = read(kmsg, text, sizeof(text) - 1);

		if (n < 0 && errno == EAGAIN) {
			if ((faults.reads >= reads && faults.writes >= writes) || now_ms() >= limit)
				return faults;
			usleep(10000);
			continue;
		}
		if (n < 0)
			continue;	/* some of the log is lost, the next message isn't */
		text[n] = 0;
		at = strstr(text, "IO_PAGE_FAULT");
		at = at ? strstr(at, "address=0x") : NULL;
		flags = at ? strstr(at, "flags=0x") : NULL;
		if (!flags)
			continue;
		if ((strtoull(at + 8, NULL, 16) & -PAGE) != page)
			faults.elsewhere++;
		else if (strtoull(flags + 6, NULL, 16) & IO_PAGE_FAULT_RW)
			faults.writes++;
		else
			faults.reads++;
	}
}

static bool no_faults(int kmsg)
{
	struct faults faults = read_faults(kmsg, ram, false, false);

	return !faults.reads && !faults.writes && !faults.elsewhere;
}

/* What is pinned is what is shared, and what isn't memory of the guest that is converted. */
static void pinned_is_shared(struct vmm *vmm, unsigned long long other, const char *when)
{
	unsigned long long now = pinned(vmm->pid);
	struct info info;

	read_info(vmm->pid, &info);
	result(now == info.shared + other, "%s: pinned are %llu KiB, shared %llu KiB, and %llu KiB of the device's memory are no RAM",
	       when, now >> 10, info.shared >> 10, other >> 10);
}

/* The device, driven from here, reads a page and writes it back where something else is by then; what was there remains. */
static bool device_works(volatile uint8_t *edu, char *map, unsigned long long at)
{
	char saved[PAGE], other[PAGE];

	memcpy(saved, map + at, PAGE);
	for (int i = 0; i < PAGE; i++)
		map[at + i] = other[i] = i * 7 + at / PAGE;
	if (!edu_dma(edu, false, at, PAGE))
		die("DMA doesn't end");
	memcpy(map + at, saved, PAGE);
	if (!edu_dma(edu, true, at, PAGE))
		die("DMA doesn't end");
	if (memcmp(map + at, other, PAGE))
		return false;
	memcpy(map + at, saved, PAGE);
	return true;
}

/*
 * The guest can't have back a page that somebody uses, nor those that it wants back along with it. QEMU has had VFIO
 * unmap all of them before it asked; the device has them again afterwards. The VM stands still when that is looked at, as
 * the guest would be trying again.
 */
static void refused_with_device(struct vmm *vmm, int kmsg, unsigned long long other)
{
	static bool before[SW_RAM / PAGE], after[SW_RAM / PAGE];
	volatile uint8_t *edu = edu_map(edu_find());
	unsigned long long used = ram, last = ram, named = 0, size = 0;
	struct iovec iov = { .iov_len = PAGE };
	struct info info, now;
	struct faults faults;
	const char *at;
	int fd, pipes[2];
	bool works;
	char *map;

	read_info(vmm->pid, &info);
	fd = copy_of(vmm, info.fd);
	map = mmap(NULL, ram, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!edu || map == MAP_FAILED || pipe2(pipes, O_CLOEXEC))
		die("mmap: %s", strerror(errno));
	read_states(fd, before);
	answer(vmm, "share");
	report(vmm, "shared");
	read_states(fd, after);
	for (unsigned long long at = 0; at < ram; at += PAGE) {
		if (!after[at / PAGE] || before[at / PAGE])
			continue;
		if (used == ram)
			used = at;
		last = at;
	}
	if (used == ram)
		die("nothing has become shared");
	pinned_is_shared(vmm, other, "with a buffer shared");
	result(device_works(edu, map, used) && device_works(edu, map, last), "the device reads and writes it, at %#llx and %#llx", used,
	       last);

	iov.iov_base = map + used;
	if (vmsplice(pipes[1], &iov, 1, 0) != PAGE)
		die("vmsplice: %s", strerror(errno));
	vmm->said[0] = 0;
	answer(vmm, "unshare");
	for (long long limit = now_ms() + ANSWER_MS; !(at = strstr(vmm->said, "ram: 0x")) && now_ms() < limit && listen_to(vmm, 50);)
		;
	qmp(vmm, "{\"execute\":\"stop\"}");
	if (at)
		sscanf(at, "ram: 0x%llx+0x%llx can't be made private", &named, &size);
	read_info(vmm->pid, &now);
	read_states(fd, before);
	result(size && named <= used && used < named + size && before[used / PAGE],
	       "the guest can't take back %llu KiB with a page, at %#llx, that is in use", size >> 10, used);
	pinned_is_shared(vmm, other, "after that");
	works = size && device_works(edu, map, used) && device_works(edu, map, named) && device_works(edu, map, named + size - PAGE);
	result(works && no_faults(kmsg), "and the device still reads and writes all of it");

	close(pipes[0]);
	close(pipes[1]);
	munmap(map, ram);
	close(fd);
	qmp(vmm, "{\"execute\":\"cont\"}");
	report(vmm, "unshared");
	pinned_is_shared(vmm, other, "taken back once nobody uses it");
	if (!edu_dma(edu, false, used, FAULT_BYTES))
		die("DMA doesn't end");
	faults = read_faults(kmsg, used, true, false);
	result(faults.reads && !faults.writes && !faults.elsewhere, "the device has lost it: %d faults at %#llx, %d elsewhere",
	       faults.reads, used, faults.elsewhere);
	munmap((void *)edu, PAGE);
}

static void assigned_device(const char *name, int rounds, const char *iommufd)
{
	char device[64], command[32];
	char *args[] = {
		COMMON, "-cpu", "max,-xsave", "-M", "microvm,pcie=on,memory-backend=ram,confidential-guest-support=cgs",
		"-object", "sw-protected-guest,id=cgs", "-object", "memory-backend-guest-memfd,id=ram,size=" VFIO_RAM, "-m", VFIO_RAM,
		"-global", "virtio-mmio.force-legacy=off", "-device", "virtio-blk-device,drive=disk,iommu_platform=on",
		"-append", APPEND "rootfstype=ramfs movablecore=32M swp_guest.private=1", "-S", "-device", device,
		iommufd ? "-object" : NULL, (char *)iommufd, NULL
	};
	unsigned long long other, private, at = 0, leaked, changed;
	int kmsg = kernel_log();
	struct faults faults;
	struct info info, now;
	const char *said;
	struct vmm vmm;

	snprintf(device, sizeof(device), "vfio-pci,host=%s%s", name, iommufd ? ",iommufd=iommufd" : "");
	printf("# %s\n", device);
	open_disk(&vmm);
	start(&vmm, args);
	hello(&vmm);
	read_info(vmm.pid, &info);
	/* What is no RAM of the guest: its firmware. */
	other = pinned(vmm.pid) - ram;
	result(info.shared == ram && pinned(vmm.pid) >= ram && other <= MIB,
	       "%s: all is shared, and pinned: %llu KiB, and %llu KiB that can't be converted", iommufd ? "iommufd" : "container",
	       ram >> 10, other >> 10);
	qmp(&vmm, "{\"execute\":\"cont\"}");
	private = strtoull(report(&vmm, "booted private "), NULL, 10);
	read_info(vmm.pid, &info);
	result(private > 0 && info.private == private, "the guest has made %llu KiB private", private >> 10);
	pinned_is_shared(&vmm, other, "after boot");

	snprintf(command, sizeof(command), "dma %d", rounds);
	answer(&vmm, command);
	said = report(&vmm, "dma bad ");
	read_info(vmm.pid, &now);
	result(!strcmp(said, "0") && now.to_private - info.to_private == now.to_shared - info.to_shared && now.to_shared > info.to_shared &&
	       now.private == private && no_faults(kmsg),
	       "%d times shared, used by the device, and taken back: %s pages that the device couldn't read and write", rounds, said);
	/* QEMU tries again, and would succeed if VFIO has let go by then. */
	result(!now.failed_pinned, "and QEMU never asked for a page that the device still had: %llu times", now.failed_pinned);
	pinned_is_shared(&vmm, other, "after that");

	answer(&vmm, "dma-private");
	said = report(&vmm, "dma-private ");
	leaked = number_after(said, "leaked ");
	changed = number_after(said, "changed ");
	at = number_after(said, "at ");
	faults = read_faults(kmsg, at, true, true);
	result(!leaked && !changed && faults.reads && faults.writes && !faults.elsewhere,
	       "the device can't read and write the private page at %#llx: %d and %d faults, %d elsewhere", at, faults.reads,
	       faults.writes, faults.elsewhere);

	refused_with_device(&vmm, kmsg, other);
	ends_well(&vmm);

	qmp(&vmm, "{\"execute\":\"stop\"}");
	qmp(&vmm, "{\"execute\":\"system_reset\"}");
	for (int i = 0; i < 20; i++)
		listen_to(&vmm, 50);
	read_info(vmm.pid, &now);
	result(now.shared == ram, "a reset makes all shared");
	pinned_is_shared(&vmm, other, "for the device as well");
	stop(&vmm);
	close(kmsg);
}

static void assigned_devices(void)
{
	const char *name = give_to_vfio();

	ram = 96 * MIB;
	assigned_device(name, 9, NULL);
	assigned_device(name, 3, "iommufd,id=iommufd");
}

/* QEMU refuses, and says why. */
static void refused(char **argv, const char *why)
{
	struct vmm vmm = { .disk = -1 };

	wanted = why;
	start(&vmm, argv);
	while (listen_to(&vmm, 50))
		;
	wanted = NULL;
	result(vmm.heard && vmm.status, "refused: %s", why);
	close(vmm.qmp);
	close(vmm.out.fd);
	close(vmm.err.fd);
	close(vmm.remote);
}

static void refusals(void)
{
	static char *no_vm[] = { "-accel", "kvm", "-M", "microvm,memory-backend=ram", "-m", "64M", "-object",
				 "memory-backend-guest-memfd,id=ram,size=64M", NULL };
	static char *no_share[] = { "-accel", "kvm", "-M", "microvm,memory-backend=ram,confidential-guest-support=cgs", "-m", "64M",
				    "-object", "sw-protected-guest,id=cgs", "-object",
				    "memory-backend-guest-memfd,id=ram,size=64M,share=off", NULL };

	refused(no_vm, "can't convert guest_memfd in place");
	refused(no_share, "can't be mapped with share=off");
}

/* The same QEMU on a kernel that can't convert in place: a library hides that this one can. */
static void snp_two_memories(void)
{
	struct vmm vmm = { .disk = -1 };
	bool shared = false;
	struct info info;
	char text[128];

	attributes2 = true;
	start(&vmm, snp_old_args);
	hello(&vmm);
	snprintf(text, sizeof(text), "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"xp /gx %#x\"}}", SHARED);
	for (long long limit = now_ms() + BOOT_MS; !shared && now_ms() < limit;) {
		const char *word = strstr(qmp(&vmm, text), ": 0x");

		shared = word && strtoull(word + 2, NULL, 16) == IMPLICIT_SHARED;
	}
	read_info(vmm.pid, &info);
	result(shared && !info.convertible && strstr(vmm.said, "two memories"),
	       "where KVM can't convert in place there are two memories, and QEMU says so");
	stop(&vmm);
	refused(snp_in_place_args, "can't convert memory of SEV-SNP guests in place");
	attributes2 = false;
}

int main(int argc, char **argv)
{
	const char *type = "sw";

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--show"))
			show = true;
		else if (!strcmp(argv[i], "--vfio"))
			vfio = true;
		else if (!strcmp(argv[i], "--attributes2"))
			attributes2 = true;
		else if (!strcmp(argv[i], "--type") && i + 1 < argc)
			type = argv[++i];
		else
			die("usage: %s [--type snp] [--vfio] [--attributes2] [--show]", argv[0]);
	}
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
	if (vfio) {
		assigned_devices();
	} else if (!strcmp(type, "snp")) {
		snp_pages();
		snp_implicit();
		snp_two_memories();
		snp_linux();
	} else {
		software_protected();
		refusals();
	}
	printf("1..%d\n", cases);
	return failures ? 1 : 0;
}
