/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bare-metal tests of an emulated TDX module: what they share. */
#ifndef TDX_H
#define TDX_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef unsigned long u64;

#define PAGE		4096UL
#define BIT(n)		(1UL << (n))
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* lib.c */
void printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void point(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));	/* a line of TAP */
void end(int status) __attribute__((noreturn));
void sha384(const void *data, size_t size, u8 *digest);
extern int lines, failures;

static inline u64 read64(u64 pa) { return *(volatile u64 *)pa; }
static inline void write64(u64 pa, u64 v) { *(volatile u64 *)pa = v; }
static inline void outb(uint16_t port, u8 v) { asm volatile("outb %0, %1" :: "a"(v), "Nd"(port)); }
static inline void outl(uint16_t port, u32 v) { asm volatile("outl %0, %1" :: "a"(v), "Nd"(port)); }
static inline u32 inl(uint16_t port) { u32 v; asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u8 inb(uint16_t port) { u8 v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;
	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return lo | (u64)hi << 32;
}
static inline __attribute__((always_inline)) void wrmsr(u32 msr, u64 v)
{
	asm volatile("wrmsr" :: "a"((u32)v), "d"((u32)(v >> 32)), "c"(msr) : "memory");
}

/* Executes one instruction, an asm statement, that may fault: its vector, or -1 */
extern u64 catch_ip, catch_vector;
#define FAULT(stmt)							\
	({ catch_vector = -1UL;						\
	   asm volatile("movq $1f, catch_ip" ::: "memory");		\
	   stmt;							\
	   asm volatile("1: movq $0, catch_ip" ::: "memory", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc");	\
	   (int)catch_vector; })

/* Leaves */
enum { VP_ENTER, MNG_ADDCX, MEM_PAGE_ADD, MEM_SEPT_ADD, VP_ADDCX, MEM_PAGE_AUG = 6, MEM_RANGE_BLOCK, MNG_KEY_CONFIG, MNG_CREATE,
       VP_CREATE, MNG_RD, MR_EXTEND = 16, MR_FINALIZE, VP_FLUSH, MNG_VPFLUSHDONE, MNG_KEY_FREEID, MNG_INIT, VP_INIT, PAGE_RDMD = 24,
       MEM_SEPT_RD, VP_RD, PAGE_RECLAIM = 28, MEM_PAGE_REMOVE, MEM_SEPT_REMOVE, SYS_KEY_CONFIG, SYS_INIT = 33, SYS_RD, SYS_LP_INIT,
       SYS_TDMR_INIT, MEM_TRACK = 38, MEM_RANGE_UNBLOCK, CACHE_WB, PAGE_WBINVD, VP_WR = 43, SYS_CONFIG = 45, SYS_DISABLE = 69 };
enum { TDG_INFO = 1, TDG_REPORT = 4, TDG_ACCEPT = 6, TDG_VM_RD, TDG_VM_WR, TD_READ = 0x100, TD_WRITE, TD_SPIN, TD_CPUID, TD_RDMSR };

struct regs { u64 rcx, rdx, r8, r9, r10, r11, r12, r13, r14, r15, rbx, rsi, rdi, rax; u8 cf; };
void seamcall_asm(u64 leaf, struct regs *r);
u64 seamcall(u64 leaf, u64 rcx, u64 rdx, u64 r8, u64 r9);	/* RAX; the others are in 'out' */
extern struct regs out;

/* PAMT types */
enum { PT_NDA, PT_RSVD, PT_REG = 3, PT_TDR, PT_TDCX, PT_TDVPR, PT_EPT = 8 };
int page_type(u64 pa);

/* TDs: built as far as is asked for, from pages that are taken one after the other */
enum life { LIFE_ASSIGNED, LIFE_CONFIGURED, LIFE_U, LIFE_I, LIFE_R, LIFE_BLOCKED, LIFE_TEARDOWN, LIFE_N };
extern const char *const life_name[LIFE_N];
struct td { u64 tdr, tdcs[4], tdvpr, sept[16], pages[64]; int hkid, nr_sept, nr_pages; enum life life; bool vcpu, guest; };
#define TD_VCPU		BIT(0)	/* with a vCPU */
#define TD_GUEST	BIT(1)	/* that can run */
void td_make(struct td *td, enum life life, int flags);
void td_advance(struct td *td, enum life life);
void td_destroy(struct td *td);		/* reclaims everything, checks that nothing is left */
u64 page_new(void);
u64 td_params(void);	/* of an ordinary TD, in a page */
/* An exit's reason; td_order() takes back an order's result in out.rbx, out.rsi */
u64 td_enter(struct td *td);
u64 td_order(struct td *td, u64 what, u64 rdx, u64 rdi);
u64 td_order_more(struct td *td, u64 what, u64 rdx, u64 rdi, u64 r8, u64 r9);
void module_up(void);
/* The other processor does it; ap_done() says whether it's through. */
void ap_up(void);
void ap_call(void (*fn)(void));
bool ap_done(void);
void ap_wait(void);
void ap_interrupt(void);		/* vector 0x50 */
void vmx_tests(void), state_tables(void), sept_tables(void), rule_tests(void), smp_tests(void);
void strict_tests(void), inject_tests(void);
void vmx_on(u64 region);
void unexpected(u64 vector, u64 rip);
#endif
