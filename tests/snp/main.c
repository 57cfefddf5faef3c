/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs the tests, says what came out of them (TAP). */
#include "snp.h"

extern const struct test tests_start[], tests_end[];
void main64(void);

static const struct test *now;
static char label[96], message[256], cmdline[512];
static bool failed, skipped, open_line, any_point;
static int line, bad;
static struct catch *out;

static void end_line(void)
{
	if (!open_line)
		return;
	open_line = false;
	line++;
	printf("%sok %d %s%s%s", failed ? "not " : "", line, now->name, label[0] ? ": " : "", label);
	if (skipped)
		printf(" # SKIP %s", message);
	else if (failed)
		printf(" # %s", message);
	printf("\n");
	bad += failed;
}

static void begin_line(void)
{
	failed = skipped = false;
	message[0] = label[0] = 0;
	open_line = true;
}

void point(const char *fmt, ...)
{
	va_list ap;

	/* What went before the first point has no line of its own, unless it failed. */
	if (any_point || failed)
		end_line();
	any_point = true;
	begin_line();
	va_start(ap, fmt);
	vsnprintf(label, sizeof(label), fmt, ap);
	va_end(ap);
}

void note(const char *fmt, ...)
{
	char buf[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	printf("# %s\n", buf);
}

void fail(const char *file, int l, const char *fmt, ...)
{
	char buf[224];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if (in_guest()) {
		printf("%s:%d: %s\n", file, l, buf);
		return;
	}
	if (failed)
		printf("# also %s:%d: %s\n", file, l, buf);
	else
		snprintf(message, sizeof(message), "%s:%d: %s", file, l, buf);
	failed = true;
}

void test_abort(void)
{
	struct percpu *p = this_cpu();

	p->catch = out;
	catch_resume(out);
}

void skip(const char *why)
{
	if (!failed) {
		skipped = true;
		snprintf(message, sizeof(message), "%s", why);
	}
	test_abort();
}

static void run_one(const struct test *t)
{
	struct catch c;

	now = t;
	any_point = false;
	begin_line();
	catch_push(&c);
	out = &c;
	if (!catch_set(&c))
		t->fn();
	barrier();
	catch_pop(&c);
	if (c.fault.vector >= 0)
		FAIL("unexpected exception %d error %#lx cr2 %#lx rip %#lx", c.fault.vector, c.fault.error, c.fault.cr2, c.fault.rip);
	end_line();
}

static bool wanted(const struct test *t)
{
	char word[64];
	const char *s = cmdline;
	bool any = false;
	size_t n;

	while (*s) {
		while (*s == ' ')
			s++;
		for (n = 0; *s && *s != ' '; s++)
			if (n < sizeof(word) - 1)
				word[n++] = *s;
		word[n] = 0;
		if (!n || strstr(word, "/") || strstr(word, ".elf"))	/* the name of the image */
			continue;
		any = true;
		if (strstr(t->name, word))
			return true;
	}
	return !any;
}

static void run_all(u64 when)
{
	const struct test *t;

	for (t = tests_start; t < tests_end; t++)
		if (t->when == when && wanted(t))
			run_one(t);
}

void main64(void)
{
	static const char *const when[] = { "", " (early)", " (alone)" };
	const struct test *t;
	u64 flags;
	u32 r = 0;

	flags = read32(multiboot_info);
	if (flags & BIT(2))
		snprintf(cmdline, sizeof(cmdline), "%s", (char *)(u64)read32(multiboot_info + 16));
	cpu_init();
	printf("TAP version 13\n");
	if (strstr(cmdline, "list")) {
		for (t = tests_start; t < tests_end; t++)
			printf("# %s%s\n", t->name, when[t->when]);
		printf("1..0\n");
		end(0);
	}
	mem_init();
	smp_init();
	psp_find();
	printf("# processors %d, RAM to %#lx, RMP %#lx-%#lx, PSP %#lx, C-bit %#lx\n", ncpus, ram_end, rmp_base, rmp_end, psp_bar, cbit_mask);
	if (strstr(cmdline, "alone_")) {
		run_all(TEST_IS_ALONE);
	} else {
		run_all(TEST_IS_EARLY);
		r = snp_up();
		if (r)
			printf("Bail out! SNP can't be initialised: %#x\n", r);
		else
			run_all(0);
	}
	printf("1..%d\n# failed %d\n", line, bad);
	end(bad || r ? 1 : 0);
}
