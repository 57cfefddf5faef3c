/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exits of guests with encrypted state: APM volume 2, 15.35.4 (automatic exits), 15.35.5 (traps), 15.35.6 (VMGEXIT), 15.35.7 (GHCB),
 * 15.35.10 (EFER), 15.36.9, 15.36.12, 15.36.23; #VC as a contributory exception.
 */
#include "snp.h"

static u64 g_cpuid(u64 leaf, u64 b, u64 c)
{
	u32 r[4];

	(void)b, (void)c;
	cpuid(leaf, 0, r);
	return r[0];
}

static u64 g_inb(u64 port, u64 b, u64 c) { (void)b, (void)c; return inb(port); }
static u64 g_outb(u64 port, u64 b, u64 c) { (void)c; outb(port, b); return 0; }
static u64 g_hlt(u64 a, u64 b, u64 c) { (void)b, (void)c; hlt(); return a; }
static u64 g_sti_hlt(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("sti; hlt; cli"); return a; }
static u64 g_sti(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("sti; nop; nop; cli"); return a; }
static u64 g_pause(u64 a, u64 b, u64 c) { (void)b, (void)c; pause(); return a; }
static u64 g_rdtsc(u64 a, u64 b, u64 c) { (void)a, (void)b, (void)c; return rdtsc() != 0; }
static u64 g_wbinvd(u64 a, u64 b, u64 c) { (void)b, (void)c; wbinvd(); return a; }
static u64 g_invlpg(u64 a, u64 b, u64 c) { (void)b, (void)c; invlpg(a); return a; }
static u64 g_vmmcall(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("vmmcall" ::: "memory"); return a; }
static u64 g_vmgexit_f2(u64 a, u64 b, u64 c)
{
	(void)c;
	if (b)
		wrmsr(MSR_GHCB, b);
	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xd9" ::: "memory");
	return a;
}
static u64 g_vmsave(u64 a, u64 b, u64 c) { (void)b, (void)c; vmsave(a); return 0; }
static u64 g_vmload(u64 a, u64 b, u64 c) { (void)b, (void)c; vmload(a); return 0; }
static u64 g_ud2(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("ud2"); return a; }
static u64 g_int(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("int $0x80"); return a; }
static u64 g_iret(u64 a, u64 b, u64 c)
{
	(void)b, (void)c;
	asm volatile("mov %%rsp, %%rax; push %%rbx; push %%rax; pushf; push %0; lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"
		     :: "i"(SEL_CODE), "b"(SEL_DATA) : "rax", "memory");
	return a;
}
static u64 g_read_cr0(u64 a, u64 b, u64 c) { (void)a, (void)b, (void)c; return read_cr0(); }
static u64 g_write_cr0(u64 a, u64 b, u64 c) { (void)b, (void)c; write_cr0(a); return read_cr0(); }
static u64 g_write_cr4(u64 a, u64 b, u64 c) { (void)b, (void)c; write_cr4(a); return read_cr4(); }
static u64 g_read_cr4(u64 a, u64 b, u64 c) { (void)a, (void)b, (void)c; return read_cr4(); }
static u64 g_write_cr3(u64 a, u64 b, u64 c) { (void)b, (void)c; write_cr3(read_cr3() | a); return 7; }
static u64 g_write_cr8(u64 a, u64 b, u64 c) { (void)b, (void)c; asm volatile("mov %0, %%cr8" :: "r"(a)); return 7; }
static u64 g_write_dr7(u64 a, u64 b, u64 c) { (void)b, (void)c; write_dr7(a); return read_dr7(); }

/* #VC for everything that isn't automatic. */
static void vc(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);
	struct vmcb *c = g->vcpu[0].vmcb;
	u32 i3 = c->intercept3, i4 = c->intercept4;

	point("CPUID");
	CHECK_FAULT(gcall(g, g_cpuid, 0, 0, 0), VEC_VC, EXIT_CPUID, 0);
	point("CPUID without intercept");
	c->intercept3 &= ~BIT(INTERCEPT_CPUID);
	CHECK_FAULT(gcall(g, g_cpuid, 0, 0, 0), VEC_VC, EXIT_CPUID, 0);
	point("IN");
	CHECK_FAULT(gcall(g, g_inb, 0x61, 0, 0), VEC_VC, EXIT_IOIO, 0);
	point("OUT without intercept");
	c->intercept3 &= ~BIT(INTERCEPT_IO);
	CHECK_FAULT(gcall(g, g_outb, 0x80, 1, 0), VEC_VC, EXIT_IOIO, 0);
	c->intercept3 = i3;
	point("RDMSR");
	CHECK_FAULT(gcall(g, g_rdmsr, 0x10, 0, 0), VEC_VC, EXIT_MSR, 0);
	point("RDMSR without intercept");
	c->intercept3 &= ~BIT(INTERCEPT_MSR);
	CHECK_RETURNED(gcall(g, g_rdmsr, 0xc0000082, 0, 0), 0);
	point("SEV_STATUS is read only");
	CHECK_FAULT(gcall(g, g_wrmsr, MSR_SEV_STATUS, 0, 0), VEC_GP, 0, 0);
	c->intercept3 = i3;
	point("SEV_STATUS is never intercepted");
	CHECK_RETURNED(gcall(g, g_rdmsr, MSR_SEV_STATUS, 0, 0), (1 << kind) - 1);
	point("RDTSC");
	c->intercept3 |= BIT(14);
	CHECK_FAULT(gcall(g, g_rdtsc, 0, 0, 0), VEC_VC, 0x6e, 0);
	c->intercept3 = i3;
	CHECK_RETURNED(gcall(g, g_rdtsc, 0, 0, 0), 1);
	point("INVLPG");
	c->intercept3 |= BIT(INTERCEPT_INVLPG);
	CHECK_FAULT(gcall(g, g_invlpg, 0x1234, 0, 0), VEC_VC, 0x79, 0);
	point("INTn");
	c->intercept3 = i3 | BIT(21);
	CHECK_FAULT(gcall(g, g_int, 0, 0, 0), VEC_VC, 0x75, 0);
	c->intercept3 = i3;
	point("INTn without intercept");
	CHECK_RETURNED(gcall(g, g_int, 5, 0, 0), 5);
	point("IRET");
	CHECK_RETURNED(gcall(g, g_iret, 5, 0, 0), 5);
	point("WBINVD");
	c->intercept4 |= BIT(9);
	CHECK_FAULT(gcall(g, g_wbinvd, 0, 0, 0), VEC_VC, 0x89, 0);
	c->intercept4 = i4;
	point("VMMCALL");
	CHECK_FAULT(gcall(g, g_vmmcall, 0, 0, 0), VEC_VC, EXIT_VMMCALL, 0);
	point("VMSAVE, VMLOAD");
	c->intercept4 &= ~(BIT(INTERCEPT_VMSAVE) | BIT(INTERCEPT_VMLOAD));
	CHECK_FAULT(gcall(g, g_vmsave, 0x100000, 0, 0), VEC_VC, 0x83, 0);
	CHECK_FAULT(gcall(g, g_vmload, 0x100000, 0, 0), VEC_VC, 0x82, 0);
	c->intercept4 = i4;
	point("exception");
	CHECK_FAULT(gcall(g, g_ud2, 0, 0, 0), VEC_UD, 0, 0);
	c->intercept_excp = BIT(VEC_UD);
	CHECK_FAULT(gcall(g, g_ud2, 0, 0, 0), VEC_VC, EXIT_EXCP + VEC_UD, 0);
	point("#VC itself cannot be intercepted");
	c->intercept_excp = ~0U & ~BIT(VEC_MC);
	CHECK_FAULT(gcall(g, g_ud2, 0, 0, 0), VEC_VC, EXIT_EXCP + VEC_UD, 0);
	c->intercept_excp = 0;
	point("reads and writes of CR0");
	c->intercept_cr = BIT(0) | BIT(16);
	CHECK_FAULT(gcall(g, g_read_cr0, 0, 0, 0), VEC_VC, EXIT_CR0_READ, 0);
	CHECK_FAULT(gcall(g, g_write_cr0, 0x80010033, 0, 0), VEC_VC, EXIT_CR0_WRITE, 0);
	c->intercept_cr = 0;
	point("DR7");
	c->intercept_dr = BIT(7) | BIT(23);
	CHECK_FAULT(gcall(g, g_write_dr7, 0x400, 0, 0), VEC_VC, 0x37, 0);
	c->intercept_dr = 0;
	CHECK_RETURNED(gcall(g, g_write_dr7, 0x400, 0, 0), 0x400);
	point("MMIO");
	npt_map(g, GPA_TEST, 0, 1, PTE_W);
	*npt_entry(g, GPA_TEST, NULL) |= BIT(50);
	CHECK_FAULT(gcall(g, g_read, GUEST_SHARED_VA(GPA_TEST), 0, 0), VEC_VC, EXIT_NPF, 0);
	CHECK_EQ(c->exit_info_2, 0);
	guest_free(g);
}

TEST(es_vc_es) { vc(GUEST_ES); }
TEST(es_vc_snp) { vc(GUEST_SNP); }

/* Automatic exits, of which those for instructions come after them. */
static void automatic(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);
	struct vcpu *v = &g->vcpu[0];
	struct vmcb *c = v->vmcb;
	struct vmsa *s = kind == GUEST_ES ? (void *)v->vmsa : NULL;	/* otherwise it's ciphertext */
	u32 i3 = c->intercept3;
	struct gres r;

	point("HLT");
	CHECK_EXIT(gcall_hold(g, g_hlt, 5, 0, 0), EXIT_HLT, 0, 0);
	if (s)
		CHECK_EQ(((u8 *)s->rip)[-1], 0xf4);
	CHECK_EQ(c->int_state & 3, 0);
	CHECK_RETURNED(gresume(g), 5);
	point("HLT behind STI: no shadow is left, and RFLAGS.IF is seen");
	CHECK_EXIT(gcall_hold(g, g_sti_hlt, 6, 0, 0), EXIT_HLT, 0, 0);
	CHECK_EQ(c->int_state & 3, 2);
	CHECK_RETURNED(gresume(g), 6);
	point("PAUSE");
	c->intercept3 |= BIT(INTERCEPT_PAUSE);
	CHECK_EXIT(gcall_hold(g, g_pause, 7, 0, 0), EXIT_PAUSE, 0, 0);
	if (s)
		CHECK_EQ(((u8 *)s->rip)[-1], 0x90);
	c->intercept3 = i3;
	CHECK_RETURNED(gresume(g), 7);
	point("VINTR");
	c->int_ctl |= BIT(8) | 15 << 16 | BIT(20);
	c->intercept3 |= BIT(INTERCEPT_VINTR);
	CHECK_EXIT(gcall_hold(g, g_sti, 9, 0, 0), EXIT_VINTR, 0, 0);
	CHECK_EQ(c->int_state & 3, 2);
	c->int_ctl &= ~(BIT(8) | 15 << 16 | BIT(20));
	c->intercept3 = i3;
	CHECK_RETURNED(gresume(g), 9);
	point("VMGEXIT");
	CHECK_EXIT(gcall_hold(g, g_vmgexit_f2, 8, 0x1234, 0), EXIT_VMGEXIT, 0, 0);
	CHECK_EQ(c->ghcb_gpa, 0x1234);
	if (s)
		CHECK_EQ(((u8 *)s->rip)[-1], 0xd9);
	CHECK_RETURNED(gresume(g), 8);
	point("CR0 trap");
	c->intercept4 |= BIT(INTERCEPT_CR0_TRAP) | BIT(INTERCEPT_CR0_TRAP + 3) | BIT(INTERCEPT_CR0_TRAP + 4) | BIT(INTERCEPT_CR0_TRAP + 8);
	CHECK_EXIT(gcall_hold(g, g_write_cr0, 0x80010031, 0, 0), EXIT_CR0_TRAP, 0x80010031, 0);
	if (s)
		CHECK_EQ(s->cr0, 0x80010031);
	CHECK_RETURNED(gresume(g), 0x80010031);
	point("CR4 trap");
	r = gcall(g, g_read_cr4, 0, 0, 0);
	CHECK_EXIT(gcall_hold(g, g_write_cr4, r.value | BIT(7), 0, 0), EXIT_CR0_TRAP + 4, r.value | BIT(7), 0);
	if (s)
		CHECK_EQ(s->cr4, r.value | BIT(7));
	CHECK_RETURNED(gresume(g), r.value | BIT(7));
	point("no CR4 trap of a write that faults");
	CHECK_FAULT(gcall(g, g_write_cr4, r.value | BIT(31), 0, 0), VEC_GP, 0, 0);
	point("CR3 trap");
	r = gcall_hold(g, g_write_cr3, 0, 0, 0);
	CHECK_EQ(r.code, EXIT_CR0_TRAP + 3);
	if (s)
		CHECK_EQ(r.info1, s->cr3);
	CHECK_RETURNED(gresume(g), 7);
	point("CR8 trap");
	CHECK_EXIT(gcall_hold(g, g_write_cr8, 3, 0, 0), EXIT_CR0_TRAP + 8, 3, 0);
	CHECK_EQ(c->int_ctl & 15, 3);
	CHECK_RETURNED(gresume(g), 7);
	c->int_ctl &= ~15;
	point("EFER trap, and SVME is not to be cleared");
	c->intercept3 &= ~BIT(INTERCEPT_MSR);
	r = gcall(g, g_rdmsr, MSR_EFER, 0, 0);
	CHECK(r.value & BIT(12));
	c->intercept4 |= BIT(INTERCEPT_EFER_TRAP);
	CHECK_EXIT(gcall_hold(g, g_wrmsr, MSR_EFER, (r.value & ~BIT(12)) ^ BIT(0), 0), EXIT_EFER_TRAP, r.value ^ BIT(0), 0);
	if (s)
		CHECK_EQ(s->efer, r.value ^ BIT(0));
	CHECK_RETURNED(gresume(g), 0);
	guest_free(g);
}

TEST(es_automatic_es) { automatic(GUEST_ES); }
TEST(es_automatic_snp) { automatic(GUEST_SNP); }

TEST(es_insn_bytes)
{
	struct guest *g = guest_new(GUEST_ES);
	struct vmcb *c = g->vcpu[0].vmcb;

	c->insn_len = 9;
	gcall_hold(g, g_read, GUEST_SHARED_VA(GPA_TEST), 0, 0);
	CHECK_EQ(g->vcpu[0].code, EXIT_NPF);
	CHECK_EQ(c->insn_len, 0);
	gabort(g);
	guest_free(g);
}

/* #VC is contributory: if it can't be delivered because of #GP, a #DF comes of it. */
static u64 g_vc_double_fault(u64 a, u64 b, u64 c)
{
	struct dtr gdtr, idtr, small;
	struct fault f;
	u32 r[4];

	(void)a, (void)b, (void)c;
	get_dtrs(&gdtr, &idtr);
	small = idtr;
	small.limit = VEC_VC * 16 - 1;
	asm volatile("lidt %0" :: "m"(small));
	f = FAULT(cpuid(0, 0, r));
	asm volatile("lidt %0" :: "m"(idtr));
	return f.vector | f.error << 8;
}

TEST(es_vc_contributory)
{
	struct guest *g = guest_new(GUEST_SNP);

	CHECK_RETURNED(gcall(g, g_vc_double_fault, 0, 0, 0), VEC_DF);
	guest_free(g);
}

static u64 g_triple_fault(u64 a, u64 b, u64 c)
{
	struct dtr none = { 0, 0 };
	u32 r[4];

	(void)a, (void)b, (void)c;
	asm volatile("lidt %0" :: "m"(none));
	cpuid(0, 0, r);
	return 0;
}

TEST(es_shutdown)
{
	struct guest *g = guest_new(GUEST_ES);

	CHECK_EXIT(gcall_hold(g, g_triple_fault, 0, 0, 0), EXIT_SHUTDOWN, 0, 0);
	guest_free(g);
}

/* In a guest without encrypted state VMGEXIT is VMMCALL. */
TEST(es_vmgexit_otherwise)
{
	struct guest *g = guest_new(GUEST_SEV);

	CHECK_EXIT(gcall_hold(g, g_vmgexit_f2, 8, 0, 0), EXIT_VMMCALL, 0, 0);
	gabort(g);
	g->vcpu[0].vmcb->intercept3 &= ~BIT(INTERCEPT_MSR);
	CHECK_FAULT(gcall(g, g_rdmsr, MSR_GHCB, 0, 0), VEC_GP, 0, 0);
	guest_free(g);
}

/* Interrupts of the host, while a guest is about to run. */
static volatile u64 nmis;

static bool count_nmi(struct regs *r, u64 cr2)
{
	(void)cr2;
	nmis += r->vector == VEC_NMI;
	return r->vector == VEC_NMI;
}

static void host_interrupts(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);
	struct vcpu *v = &g->vcpu[0];
	struct vmsa *s = kind == GUEST_ES ? (void *)v->vmsa : NULL;
	struct percpu *p = this_cpu();
	u64 rip = 0, n;

	CHECK_RETURNED(gcall(g, g_read_cr0, 0, 0, 0), 0x80010033);
	if (s)
		rip = s->rip;
	point("NMI");
	p->hook = count_nmi;
	nmis = 0;
	clgi();
	write32(0xfee00310, p->apic_id << 24);
	write32(0xfee00300, 0x4400);
	CHECK_EQ(vcpu_run(v), EXIT_NMI);
	CHECK_EQ(nmis, 1);
	p->hook = NULL;
	if (s)
		CHECK_EQ(s->rip, rip);
	point("interrupt");
	outb(0x21, 0xff);	/* the timer, on vector 8 */
	outb(0xa1, 0xff);
	n = p->vectors;
	clgi();
	write32(0xfee00310, p->apic_id << 24);
	write32(0xfee00300, 0x4041);
	asm volatile("sti");
	CHECK_EQ(vcpu_run(v), EXIT_INTR);
	asm volatile("cli");
	CHECK_EQ(p->vectors - n, 1);
	if (s)
		CHECK_EQ(s->rip, rip);
	point("the guest goes on");
	CHECK_RETURNED(gcall(g, g_read_cr0, 0, 0, 0), 0x80010033);
	guest_free(g);
}

#define MSR_SMI_COUNT	0x34

/* Exits whatever the VMCB says, and waits for STGI. */
static void smi(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);
	struct vcpu *v = &g->vcpu[0];
	struct vmsa *s = kind == GUEST_ES ? (void *)v->vmsa : NULL;
	u64 rip = 0, n;

	CHECK_RETURNED(gcall(g, g_read_cr0, 0, 0, 0), 0x80010033);
	if (s)
		rip = s->rip;
	v->vmcb->intercept3 &= ~BIT(INTERCEPT_SMI);
	clgi();
	n = rdmsr(MSR_SMI_COUNT);
	write32(0xfee00310, this_cpu()->apic_id << 24);
	write32(0xfee00300, 0x4200);
	delay(1000000);
	point("waits while GIF is 0");
	CHECK_EQ(rdmsr(MSR_SMI_COUNT), n);
	point("exit without intercept");
	CHECK_EQ(vcpu_run(v), EXIT_SMI);
	if (s)
		CHECK_EQ(s->rip, rip);
	point("taken by the host after STGI");
	CHECK_EQ(rdmsr(MSR_SMI_COUNT), n + 1);
	point("the guest goes on");
	CHECK_RETURNED(gcall(g, g_read_cr0, 0, 0, 0), 0x80010033);
	guest_free(g);
}

TEST(es_smi_es) { smi(GUEST_ES); }
TEST(es_smi_snp) { smi(GUEST_SNP); }
TEST(es_interrupts_es) { host_interrupts(GUEST_ES); }
TEST(es_interrupts_snp) { host_interrupts(GUEST_SNP); }
