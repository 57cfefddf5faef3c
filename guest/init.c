// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1 of the test machine: runs the programs listed in /tests one after the
 * other, each with a time limit, reports on the console and powers off.
 *
 * A line of /tests:  SECONDS<space>PROGRAM [ARGUMENT...]
 *
 * All output goes through the kernel's log (/dev/kmsg), which writes it to the
 * console line by line in one order with the kernel's own messages.  Written to
 * the console device instead, a kernel message could land in the middle of a
 * line of a test, and a WARNING could not be told to belong to that test.
 *
 *   gmem: begin N PROGRAM ARGUMENTS
 *   gmem| a line of the program
 *   gmem+ ... continued, the log's records are short
 *   gmem: end N exit STATUS | signal NUMBER | timeout, MILLISECONDS ms
 *   gmem: finished            (without it the machine hung or died)
 *
 * Before, it loads the modules listed in /modules, in that order, if there are
 * any, and reports each that the kernel refuses: one for another processor is
 * no error, and if it was, the tests will not find what they need.
 *
 * At the end the kernel looks for memory that was leaked, if it can
 * (kmemleak), and the counters of a kernel with gcov go to the second serial
 * port, each file as a line "SIZE PATH" and SIZE bytes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define RECORD_MAX	800	/* a record of the kernel's log holds about 1000 bytes */
#define ARGS_MAX	32

static int kmsg = -1;

static void record(const char *mark, const char *text, size_t len)
{
	char buf[RECORD_MAX + 32];
	int n = snprintf(buf, sizeof(buf), "<6>gmem%s %.*s\n", mark, (int)len, text);

	while (write(kmsg, buf, n) < 0 && errno == EINTR)
		;
}

__attribute__((format(printf, 1, 2)))
static void say(const char *format, ...)
{
	char text[RECORD_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	record(":", text, strlen(text));
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* Collects the bytes of a program into lines. */
struct lines {
	char buf[RECORD_MAX];
	size_t len;
	bool continued;
};

static void lines_flush(struct lines *l, bool newline)
{
	if (l->len || newline)
		record(l->continued ? "+" : "|", l->buf, l->len);
	l->continued = !newline;
	l->len = 0;
}

static void lines_add(struct lines *l, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n') {
			/* A line that just filled the buffer has been written. */
			if (l->len || !l->continued)
				lines_flush(l, true);
			l->continued = false;
			continue;
		}
		l->buf[l->len++] = data[i] ? data[i] : '?';
		if (l->len == sizeof(l->buf))
			lines_flush(l, false);
	}
}

/* Where each thread of a program that takes too long is waiting. */
static void show_file(pid_t pid, const char *tid, const char *name)
{
	char path[300], data[2000];
	struct lines l = { 0 };
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", pid, tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, data, sizeof(data) - 1);
	close(fd);
	if (n <= 0)
		return;
	say("thread %s %s:", tid, name);
	lines_add(&l, data, n);
	lines_flush(&l, false);
}

static void show_threads(pid_t pid)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		show_file(pid, entry->d_name, "wchan");
		show_file(pid, entry->d_name, "syscall");
		show_file(pid, entry->d_name, "stack");
	}
	closedir(dir);
}

/*
 * The program writes to a terminal, not to a pipe: the C library then writes
 * each line at once, nothing is lost when the program dies, and nothing is
 * written twice when it forks.
 */
static int open_terminal(char *name, size_t size)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 || grantpt(fd) || unlockpt(fd) || ptsname_r(fd, name, size))
		return -1;
	return fd;
}

static void child(const char *terminal, char **argv)
{
	struct termios mode;
	int fd;

	setsid();
	fd = open(terminal, O_RDWR | O_NOCTTY);
	if (fd < 0)
		_exit(126);
	if (!tcgetattr(fd, &mode)) {
		cfmakeraw(&mode);
		tcsetattr(fd, TCSANOW, &mode);
	}
	dup2(fd, 1);
	dup2(fd, 2);
	close(fd);
	fd = open("/dev/null", O_RDONLY);
	dup2(fd, 0);
	close(fd);
	execv(argv[0], argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* One program from start to end; orphans that it leaves are ended with it. */
static void run(int number, int seconds, char **argv)
{
	long long start = now_ms(), limit = start + seconds * 1000LL, left;
	bool ended = false, late = false;
	struct lines l = { 0 };
	char terminal[64], data[4096];
	int fd, status = 0;
	pid_t pid;

	fd = open_terminal(terminal, sizeof(terminal));
	pid = fd < 0 ? -1 : fork();
	if (pid < 0) {
		say("end %d exit 126, 0 ms", number);
		return;
	}
	if (!pid)
		child(terminal, argv);

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = 0;

		/* What was written before the end is still to be read. */
		if (poll(&p, 1, ended ? 0 : 20) > 0)
			n = read(fd, data, sizeof(data));
		if (n > 0) {
			lines_add(&l, data, n);
			continue;
		}
		if (ended)
			break;
		if (waitpid(pid, &status, WNOHANG) == pid) {
			ended = true;
			continue;
		}
		left = limit - now_ms();
		if (left <= 0 && !late) {
			late = true;
			say("no end after %d s", seconds);
			show_threads(pid);
			kill(-pid, SIGKILL);
		}
		/* A process that even SIGKILL does not end is stuck in the kernel. */
		if (left <= -10000) {
			say("process %d cannot be killed", pid);
			show_threads(pid);
			break;
		}
		if (n < 0 && !ended)
			usleep(5000);	/* the terminal is not open yet, or no more */
	}
	lines_flush(&l, false);
	close(fd);
	/* All that is left of it: a test's own children may be in other groups. */
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	if (late)
		say("end %d timeout, %lld ms", number, now_ms() - start);
	else if (WIFSIGNALED(status))
		say("end %d signal %d, %lld ms", number, WTERMSIG(status), now_ms() - start);
	else
		say("end %d exit %d, %lld ms", number, WEXITSTATUS(status), now_ms() - start);
}

/* A kernel without one of these file systems is fine: the test that needs it says so. */
static void mount_all(void)
{
	static const struct {
		const char *type, *dir, *data;
	} table[] = {
		{ "devtmpfs", "/dev", NULL },
		{ "proc", "/proc", NULL },
		{ "sysfs", "/sys", NULL },
		{ "tmpfs", "/tmp", "size=50%" },
		{ "tmpfs", "/dev/shm", NULL },
		{ "devpts", "/dev/pts", "ptmxmode=0666" },
		{ "debugfs", "/sys/kernel/debug", NULL },
		{ "cgroup2", "/sys/fs/cgroup", NULL },
		{ "hugetlbfs", "/dev/hugepages", NULL },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		mkdir(table[i].dir, 0755);
		mount("none", table[i].dir, table[i].type, 0, table[i].data);
	}
}

/* What the kernel's command line has for a module, which is for who loads it to pass. */
static const char *module_options(const char *path)
{
	static char line[4096], options[512];
	char name[64], *word, *dot, *rest = line;
	FILE *file = fopen("/proc/cmdline", "re");

	snprintf(name, sizeof(name), "%s", strrchr(path, '/') + 1);
	name[strcspn(name, ".")] = 0;
	for (char *c = name; *c; c++)
		*c = *c == '-' ? '_' : *c;

	options[0] = 0;
	if (file && fgets(line, sizeof(line), file)) {
		while ((word = strsep(&rest, " \n"))) {
			dot = strchr(word, '.');
			if (!dot || strncmp(word, name, dot - word) || name[dot - word] ||
			    strlen(options) + strlen(dot) >= sizeof(options))
				continue;
			strcat(strcat(options, dot + 1), " ");
		}
	}
	if (file)
		fclose(file);
	return options;
}

static void load_modules(void)
{
	FILE *list = fopen("/modules", "re");
	char path[512];
	int fd;

	while (list && fgets(path, sizeof(path), list)) {
		path[strcspn(path, "\n")] = 0;
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, module_options(path), 0))
			say("module %s not loaded: %s", path, strerror(errno));
		else
			say("module %s loaded", path);
		if (fd >= 0)
			close(fd);
	}
	if (list)
		fclose(list);
}

/* The second scan reports what was too young for the first one. */
static void find_leaks(void)
{
	char data[4096];
	struct lines l = { 0 };
	ssize_t n;
	int fd, i;

	for (i = 0; i < 2; i++) {
		fd = open("/sys/kernel/debug/kmemleak", O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		if (write(fd, "scan", 4) != 4)
			say("kmemleak: %s", strerror(errno));
		close(fd);
		if (!i)
			sleep(6);
	}
	fd = open("/sys/kernel/debug/kmemleak", O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, data, sizeof(data))) > 0)
		lines_add(&l, data, n);
	lines_flush(&l, false);
	close(fd);
}

static int serial = -1;

static void send(const char *data, size_t len)
{
	ssize_t n;

	for (; len; data += n, len -= n) {
		n = write(serial, data, len);
		if (n < 0) {
			say("second serial port: %s", strerror(errno));
			return;
		}
	}
}

static int send_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	static char data[1 << 20];
	char head[512];
	size_t len = 0;
	ssize_t n;
	int fd;

	(void)st;
	(void)ftw;
	/* The kernel's size of such a file is that of its page, not of its content. */
	if (type != FTW_F || !strstr(path, ".gcda"))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	while (len < sizeof(data) && (n = read(fd, data + len, sizeof(data) - len)) > 0)
		len += n;
	close(fd);
	send(head, snprintf(head, sizeof(head), "%zu %s\n", len, path));
	send(data, len);
	return 0;
}

static void send_coverage(void)
{
	static const char dir[] = "/sys/kernel/debug/gcov";
	struct termios mode;

	if (access(dir, F_OK))
		return;
	serial = open("/dev/ttyS1", O_WRONLY | O_NOCTTY | O_CLOEXEC);
	if (serial < 0 || tcgetattr(serial, &mode)) {
		say("second serial port: %s", strerror(errno));
		return;
	}
	cfmakeraw(&mode);
	tcsetattr(serial, TCSANOW, &mode);
	nftw(dir, send_file, 16, FTW_PHYS);
	tcdrain(serial);
	close(serial);
}

int main(void)
{
	char line[1024], *argv[ARGS_MAX + 1], *word, *rest;
	int number = 0;
	FILE *list;

	mount_all();
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	list = fopen("/tests", "re");
	if (kmsg >= 0 && !list)
		say("no list of tests");

	if (kmsg >= 0)
		load_modules();

	setenv("PATH", "/bin", 1);
	setenv("HOME", "/tmp", 1);
	if (chdir("/tmp"))
		say("no /tmp");
	while (kmsg >= 0 && list && fgets(line, sizeof(line), list)) {
		int seconds, argc = 0;

		line[strcspn(line, "\n")] = 0;
		word = strtok_r(line, " ", &rest);
		seconds = word ? atoi(word) : 0;
		if (seconds <= 0)
			continue;
		number++;
		say("begin %d %s", number, rest);
		while (argc < ARGS_MAX && (word = strtok_r(NULL, " ", &rest)))
			argv[argc++] = word;
		argv[argc] = NULL;
		if (argc)
			run(number, seconds, argv);
	}
	find_leaks();
	send_coverage();
	say("finished");
	/* The log is written to a slow console by whoever holds it: let it catch up. */
	usleep(100000);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
