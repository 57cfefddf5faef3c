/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Strings, console, end of the machine. */
#include "snp.h"

void *memmove(void *to, const void *from, size_t n)
{
	char *d = to;
	const char *s = from;

	if (d <= s)
		return memcpy(to, from, n);
	while (n--)
		d[n] = s[n];
	return to;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

char *strstr(const char *s, const char *what)
{
	size_t n = strlen(what);

	for (; *s; s++)
		if (strlen(s) >= n && !memcmp(s, what, n))
			return (char *)s;
	return n ? NULL : (char *)s;
}

#define COM1	0x3f8

static void put_char(char c)
{
	int i;

	if (in_guest()) {
		struct comm *comm = guest_comm();

		if (comm->log_len < COMM_LOG)
			comm->log[comm->log_len++] = c;
		return;
	}
	for (i = 0; i < 100000 && !(inb(COM1 + 5) & 0x20); i++)
		;
	outb(COM1, c);
}

struct out {
	char *to;
	size_t n, len;
};

static void put(struct out *o, char c)
{
	if (!o->to)
		put_char(c);
	else if (o->len + 1 < o->n)
		o->to[o->len++] = c;
}

static void number(struct out *o, u64 v, int base, bool minus, bool prefix, int width, char pad)
{
	char buf[24];
	int n = 0, extra = minus + (prefix ? 2 : 0);

	do {
		buf[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (pad == ' ' && n + extra < width--)
		put(o, ' ');
	if (minus)
		put(o, '-');
	if (prefix) {
		put(o, '0');
		put(o, 'x');
	}
	while (pad == '0' && n + extra < width--)
		put(o, '0');
	while (n)
		put(o, buf[--n]);
}

static void format(struct out *o, const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		bool prefix = false, l = false, left = false;
		int width = 0;
		char pad = ' ';

		if (*fmt != '%') {
			put(o, *fmt);
			continue;
		}
		for (fmt++; *fmt == '#' || *fmt == '0' || *fmt == '-'; fmt++) {
			prefix |= *fmt == '#';
			left |= *fmt == '-';
			if (*fmt == '0')
				pad = '0';
		}
		if (*fmt == '*') {
			width = va_arg(ap, int);
			fmt++;
		}
		for (; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + *fmt - '0';
		for (; *fmt == 'l' || *fmt == 'z'; fmt++)
			l = true;
		switch (*fmt) {
		case 'd': {
			s64 v = l ? va_arg(ap, long) : va_arg(ap, int);

			number(o, v < 0 ? -(u64)v : (u64)v, 10, v < 0, false, width, pad);
			break;
		}
		case 'u':
			number(o, l ? va_arg(ap, u64) : va_arg(ap, u32), 10, false, false, width, pad);
			break;
		case 'x':
			number(o, l ? va_arg(ap, u64) : va_arg(ap, u32), 16, false, prefix, width, pad);
			break;
		case 'p':
			number(o, va_arg(ap, u64), 16, false, true, width, pad);
			break;
		case 'c':
			put(o, va_arg(ap, int));
			break;
		case 's': {
			const char *s = va_arg(ap, const char *);
			int n;

			for (n = strlen(s); !left && n < width; n++)
				put(o, ' ');
			for (n = 0; s[n]; n++)
				put(o, s[n]);
			for (; n < width; n++)
				put(o, ' ');
			break;
		}
		default:
			put(o, *fmt);
		}
	}
}

static struct spinlock console;

void vprintf(const char *fmt, va_list ap)
{
	struct out o = { 0 };
	bool lock = !in_guest();

	if (lock)
		spin_lock(&console);
	format(&o, fmt, ap);
	if (lock)
		spin_unlock(&console);
}

void printf(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
}

void vsnprintf(char *to, size_t n, const char *fmt, va_list ap)
{
	struct out o = { to, n, 0 };

	format(&o, fmt, ap);
	to[o.len] = 0;
}

void snprintf(char *to, size_t n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(to, n, fmt, ap);
	va_end(ap);
}

/* QEMU's isa-debug-exit (its exit status is status * 2 + 1), or a triple fault. */
void end(int status)
{
	struct dtr none = { 0, 0 };

	outl(0xf4, status);
	asm volatile("lidt %0; int3" :: "m"(none));
	for (;;)
		hlt();
}
