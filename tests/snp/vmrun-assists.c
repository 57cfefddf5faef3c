/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Next RIP (APM volume 2, 15.7.1, 15.20), decode assists (15.8), and TLB_CONTROL (15.16.2), which SEV guests need, but which ordinary
 * guests have as well.
 */
#include "snp.h"

static u64 g_cpuid(u64 leaf, u64 b, u64 c)
{
	u32 r[4];

	(void)b, (void)c;
	cpuid(leaf, 0, r);
	return 0;
}

static u64 g_cr4(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("mov %0, %%r13; mov %%r13, %%cr4" :: "r"(a) : "r13"); return 0; }
static u64 g_rd_cr4(u64 a, u64 b, u64 c) { (void)a, (void)b, (void)c; asm volatile("mov %%cr4, %%rbx" ::: "rbx"); return 0; }
static u64 g_wr_cr2(u64 a, u64 b, u64 c) { (void)b, (void)c; write_cr2(a); return 0; }
static u64 g_clts(u64 a, u64 b, u64 c) { (void)a, (void)b, (void)c; asm volatile("clts"); return 0; }
static u64 g_dr7(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("mov %0, %%r9; mov %%r9, %%dr7" :: "r"(a) : "r9"); return 0; }
static u64 g_cr0(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("mov %0, %%rdx; mov %%rdx, %%cr0" :: "r"(a) : "rdx"); return 0; }
static u64 g_invlpg(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("invlpg 0x10(%0)" :: "r"(a)); return 0; }
static u64 g_int(u64 a, u64 b, u64 c) { (void)a, (void)b, (void)c; asm volatile("int $0x90"); return 0; }
static u64 g_int3(u64 a, u64 b, u64 c) { (void)a, (void)b, (void)c; asm volatile("int3"); return 0; }
static u64 g_ud2(u64 a, u64 b, u64 c) { (void)a, (void)b, (void)c; asm volatile("ud2"); return 0; }
static u64 g_rdmsr_(u64 a, u64 b, u64 c) { (void)b, (void)c; return rdmsr(a); }
static u64 g_out(u64 a, u64 b, u64 c) { (void)b, (void)c; outb(a, 1); return 0; }

static void nrip(struct guest *g, gfn fn, u64 a, u64 code, u64 len, u64 info1, const char *what)
{
	struct vmcb *c = g->vcpu[0].vmcb;

	point("%s", what);
	c->next_rip = 0x5555;
	gcall_hold(g, fn, a, 0, 0);
	CHECK_EQ(c->exit_code, code);
	CHECK_EQ(c->next_rip, len ? c->save.rip + len : 0);
	CHECK_EQ(c->exit_info_1, info1);
	gabort(g);
}

#define CR_VALID BIT(63)

TEST(vmrun_next_rip)
{
	struct guest *g = guest_new(GUEST_PLAIN);
	struct vmcb *c = g->vcpu[0].vmcb;

	CHECK_RETURNED(gcall(g, g_wr_cr2, 0, 0, 0), 0);
	c->intercept_cr = BIT(0 + 4) | BIT(16 + 0) | BIT(16 + 4);
	c->intercept_dr = BIT(16 + 7);
	c->intercept3 |= BIT(INTERCEPT_INVLPG) | BIT(21);
	nrip(g, g_cpuid, 0, EXIT_CPUID, 2, 0, "CPUID");
	nrip(g, g_cr4, 0x620, EXIT_CR0_WRITE + 4, 4, CR_VALID | 13, "write of CR4");
	nrip(g, g_rd_cr4, 0, EXIT_CR0_READ + 4, 3, CR_VALID | 3, "read of CR4");
	nrip(g, g_clts, 0, EXIT_CR0_WRITE, 2, 0, "CLTS");
	nrip(g, g_dr7, 0x400, 0x37, 4, 9, "write of DR7");
	nrip(g, g_invlpg, 0x12340, 0x79, 4, 0x12350, "INVLPG");
	nrip(g, g_int, 0, 0x75, 2, 0x90, "INTn");
	nrip(g, g_rdmsr_, 0x10, EXIT_MSR, 2, 0, "RDMSR");
	nrip(g, g_out, 0x80, EXIT_IOIO, 1, 0x800010 | 0, "OUT");
	c->intercept_excp = BIT(VEC_BP) | BIT(VEC_UD);
	nrip(g, g_int3, 0, EXIT_EXCP + VEC_BP, 1, 0, "INT3 is an exception");
	c->intercept_excp = BIT(VEC_UD);
	point("#UD has none");
	c->next_rip = 0x5555;
	gcall_hold(g, g_ud2, 0, 0, 0);
	CHECK_EQ(c->exit_code, EXIT_EXCP + VEC_UD);
	CHECK_EQ(c->next_rip, 0);
	c->intercept_excp = 0;
	gabort(g);
	c->intercept_cr = 0;
	c->intercept3 |= BIT(5);
	nrip(g, g_cr0, 0x80010033 ^ BIT(5), 0x65, 3, CR_VALID | 2, "selective write of CR0");
	c->intercept3 &= ~BIT(5);
	guest_free(g);
}

static void bytes(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);
	struct vmcb *c = g->vcpu[0].vmcb;
	u64 at = kind == GUEST_PLAIN ? GPA_TEST : GUEST_SHARED_VA(GPA_TEST);

	point("of a nested page fault");
	gcall_hold(g, g_write, at, 1, 0);
	CHECK_EQ(c->exit_code, EXIT_NPF);
	CHECK_EQ(c->insn_len, 15);
	CHECK_EQ(memcmp(c->insn_bytes, (void *)c->save.rip, 15), 0);
	CHECK_EQ(c->next_rip, 0);
	gabort(g);
	point("not for fetches");
	gcall_hold(g, g_exec, at, 0, 0);
	CHECK_EQ(c->exit_code, EXIT_NPF);
	CHECK_EQ(c->insn_len, 0);
	gabort(g);
	point("of a page fault");
	c->intercept_excp = BIT(VEC_PF);
	gcall_hold(g, g_read, 0x8000000000UL, 0, 0);
	CHECK_EQ(c->exit_code, EXIT_EXCP + VEC_PF);
	CHECK_EQ(c->exit_info_2, 0x8000000000UL);
	CHECK_EQ(c->insn_len, 15);
	CHECK_EQ(memcmp(c->insn_bytes, (void *)c->save.rip, 15), 0);
	c->intercept_excp = 0;
	gabort(g);
	guest_free(g);
}

TEST(vmrun_insn_bytes_plain) { bytes(GUEST_PLAIN); }
TEST(vmrun_insn_bytes_sev) { bytes(GUEST_SEV); }

/* The return address of injected software exceptions is that of the VMCB. */
static u64 g_injected(u64 a, u64 b, u64 c)
{
	struct fault f = FAULT(guest_exit(1));

	(void)a, (void)b, (void)c;
	return f.vector == VEC_BP ? f.rip : 0;
}

TEST(vmrun_inject_next_rip)
{
	struct guest *g = guest_new(GUEST_PLAIN);
	struct vmcb *c = g->vcpu[0].vmcb;
	struct gres r;

	r = gcall_hold(g, g_injected, 0, 0, 0);
	CHECK_EQ(r.how, GR_HCALL);
	c->event_inj = BIT(31) | 3 << 8 | VEC_BP;
	c->next_rip = 0x123456;
	CHECK_RETURNED(gresume(g), 0x123456);
	r = gcall_hold(g, g_injected, 0, 0, 0);
	CHECK_EQ(r.how, GR_HCALL);
	c->event_inj = BIT(31) | 4 << 8 | VEC_BP;
	c->next_rip = 0x234567;
	CHECK_RETURNED(gresume(g), 0x234567);
	guest_free(g);
}

TEST(vmrun_tlb_control)
{
	static const u8 how[] = { 1, 3, 7 };
	struct guest *g = guest_new(GUEST_PLAIN);
	u64 p = page_alloc(), q = page_alloc(), i;

	write64(p, 1);
	write64(q, 2);
	for (i = 0; i < ARRAY_SIZE(how); i++) {
		point("%u", how[i]);
		npt_map(g, GPA_TEST, p, 1, PTE_W);
		CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 1);
		npt_map(g, GPA_TEST, q, 1, PTE_W);
		g->vcpu[0].vmcb->tlb_ctl = how[i];
		CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 2);
	}
	guest_free(g);
	page_free(p);
	page_free(q);
}
