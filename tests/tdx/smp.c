/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tracking while a vCPU runs on another processor. */
#include "tdx.h"
#include "oracle.h"

#define STATUS(s)	((s) & ~0xffffffffUL)
#define LAPIC		0xfee00000UL
#define VECTOR		0x50
#define GPA		0x40000000UL
#define SHARED_VA	(1UL << 39)

extern char ap_start[], ap_end[];
void ap_main(void);

static void (*volatile work)(void);
static volatile bool up;

static void lapic(u32 reg, u32 val)
{
	*(volatile u32 *)(LAPIC + reg) = val;
}

static void delay(void)
{
	int i;

	for (i = 0; i < 200000; i++)
		asm volatile("pause");
}

void vmx_on(u64 region)
{
	u64 cr4;

	asm volatile("mov %%cr4, %0; or $0x2000, %0; mov %0, %%cr4" : "=&r"(cr4));
	write64(region, (u32)rdmsr(0x480));
	asm volatile("vmxon %0" :: "m"(region) : "memory", "cc");
}

void ap_main(void)
{
	struct regs r = { 0 };
	struct { uint16_t limit; u64 base; } __attribute__((packed)) idtr;
	extern u64 idt[64];

	idtr.limit = 511;
	idtr.base = (u64)idt;
	asm volatile("lidt %0" :: "m"(idtr));
	lapic(0xf0, 0x1ff);
	vmx_on(0x1002000);
	seamcall_asm(SYS_LP_INIT, &r);
	up = r.rax == TDX_SUCCESS;
	for (;;) {
		void (*fn)(void) = work;

		if (fn) {
			fn();
			asm volatile("" ::: "memory");
			work = NULL;
		}
		asm volatile("pause");
	}
}

void ap_up(void)
{
	int i;

	memcpy((void *)0x8000, ap_start, ap_end - ap_start);
	lapic(0xf0, 0x1ff);
	lapic(0x300, 0xc4500);		/* INIT, all but this one */
	delay();
	lapic(0x300, 0xc4608);		/* SIPI, 0x8000 */
	for (i = 0; i < 2000 && !up; i++)
		delay();
	point(up, "module: SYS.LP.INIT on the other CPU");
}

void ap_call(void (*fn)(void))
{
	work = fn;
}

bool ap_done(void)
{
	return !work;
}

void ap_wait(void)
{
	while (work)
		asm volatile("pause");
}

void ap_interrupt(void)
{
	lapic(0x300, 0xc4000 | VECTOR);
}

static struct td td;
static struct regs ap_out;
static volatile u64 *shared;		/* what TD_SPIN uses */

/* Enters the TD with that order, and comes back with the first exit. */
static void ap_spin(void)
{
	ap_out = (struct regs){ .rcx = td.tdvpr };
	seamcall_asm(VP_ENTER, &ap_out);
	if (ap_out.rax != 77)
		return;
	ap_out = (struct regs){ .rcx = td.tdvpr, .rbx = TD_SPIN, .rdx = GPA, .rdi = SHARED_VA + (u64)shared };
	seamcall_asm(VP_ENTER, &ap_out);
	if (ap_out.rax == 1)
		lapic(0xb0, 0);
}

/* Goes on where it was */
static void ap_resume(void)
{
	ap_out = (struct regs){ .rcx = td.tdvpr };
	seamcall_asm(VP_ENTER, &ap_out);
	if (ap_out.rax == 1)
		lapic(0xb0, 0);
}

static void ap_flush(void)
{
	ap_out = (struct regs){ .rcx = td.tdvpr };
	seamcall_asm(VP_FLUSH, &ap_out);
}

static bool counts(void)
{
	u64 n = shared[1];
	int i;

	for (i = 0; i < 2000 && shared[1] == n; i++)
		delay();
	return shared[1] != n;
}

#define IS(what, got, want)	\
	({ u64 g_ = (got), w_ = (want);	\
	   point(STATUS(g_) == STATUS(w_) && (STATUS(w_) || g_ == w_), "smp: %s: %lx, expected %lx", what, g_, w_); })

void smp_tests(void)
{
	u64 pa;

	td_make(&td, LIFE_I, TD_GUEST);
	IS("tables", seamcall(MEM_SEPT_ADD, GPA | 2, td.tdr, page_new(), 0), TDX_SUCCESS);
	IS("tables", seamcall(MEM_SEPT_ADD, GPA | 1, td.tdr, page_new(), 0), TDX_SUCCESS);
	pa = page_new();
	shared = (u64 *)page_new();
	memset((void *)shared, 0, PAGE);
	write64(pa, 0x1234);
	IS("a page", seamcall(MEM_PAGE_ADD, GPA, td.tdr, pa, pa), TDX_SUCCESS);
	td_advance(&td, LIFE_R);
	IS("VP.FLUSH", seamcall(VP_FLUSH, td.tdvpr, 0, 0, 0), TDX_SUCCESS);
	ap_call(ap_spin);
	point(counts() && shared[0] == 0x1234, "smp: the TD runs, and reads its page");
	IS("a vCPU that runs elsewhere", td_enter(&td), TDX_VCPU_ASSOCIATED);
	IS("BLOCK", seamcall(MEM_RANGE_BLOCK, GPA, td.tdr, 0, 0), TDX_SUCCESS);
	point(counts(), "smp: its TLB still has the page");
	IS("REMOVE without TRACK", seamcall(MEM_PAGE_REMOVE, GPA, td.tdr, 0, 0), TDX_TLB_TRACKING_NOT_DONE);
	IS("TRACK", seamcall(MEM_TRACK, td.tdr, 0, 0, 0), TDX_SUCCESS);
	IS("REMOVE while it runs", seamcall(MEM_PAGE_REMOVE, GPA, td.tdr, 0, 0), TDX_TLB_TRACKING_NOT_DONE);
	IS("TRACK while it runs", seamcall(MEM_TRACK, td.tdr, 0, 0, 0), TDX_PREVIOUS_TLB_EPOCH_BUSY);
	point(counts() && !ap_done(), "smp: it has not noticed anything");
	ap_interrupt();
	ap_wait();
	IS("it leaves by the interrupt", ap_out.rax, 1);
	IS("with its vector", ap_out.r9, 0x80000000UL | VECTOR);
	IS("REMOVE", seamcall(MEM_PAGE_REMOVE, GPA, td.tdr, 0, 0), TDX_SUCCESS);
	ap_call(ap_resume);
	ap_wait();
	IS("it misses the page", ap_out.rax, 48);
	IS("at its address", ap_out.r8, GPA);
	IS("AUG of the same page", seamcall(MEM_PAGE_AUG, GPA, td.tdr, pa, 0), TDX_SUCCESS);
	IS("which is pending", (ap_call(ap_resume), ap_wait(), ap_out.rax), 48);
	point((ap_out.rdx & 0xf) == 6, "smp: as the exit says: %lx", ap_out.rdx);
	IS("two TRACKs without anybody running", seamcall(MEM_TRACK, td.tdr, 0, 0, 0) | seamcall(MEM_TRACK, td.tdr, 0, 0, 0), TDX_SUCCESS);
	ap_call(ap_flush);
	ap_wait();
	IS("VP.FLUSH there", ap_out.rax, TDX_SUCCESS);
	td_destroy(&td);
}
