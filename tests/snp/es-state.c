/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What VMRUN and #VMEXIT swap for a guest with a VMSA: APM volume 2, 15.35.8, 15.35.9. */
#include "snp.h"

static void xmm0_set(u64 v) { asm volatile("movq %0, %%xmm0" :: "r"(v)); }
static u64 xmm0_get(void) { u64 v; asm volatile("movq %%xmm0, %0" : "=r"(v)); return v; }
static u32 mxcsr_get(void) { u32 v; asm volatile("stmxcsr %0" : "=m"(v)); return v; }
static void mxcsr_set(u32 v) { asm volatile("ldmxcsr %0" :: "m"(v)); }
static u16 fcw_get(void) { u16 v; asm volatile("fnstcw %0" : "=m"(v)); return v; }
static void fcw_set(u16 v) { asm volatile("fldcw %0" :: "m"(v)); }
static u64 xgetbv(u32 i)
{
	u32 lo, hi;

	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(i));
	return lo | (u64)hi << 32;
}

/* Leaves by guest_exit() in between. Returns a bit for each thing that has changed. */
static u64 g_fpu(u64 a, u64 b, u64 c)
{
	u64 bad = 0;
	double x = 0;

	(void)b, (void)c;
	xmm0_set(a);
	mxcsr_set(0x1f00);
	asm volatile("fninit; fldpi; fld1");
	fcw_set(0x27f);
	guest_exit(1);
	bad |= (xmm0_get() != a) | (mxcsr_get() != 0x1f00) << 1 | (fcw_get() != 0x27f) << 2;
	asm volatile("fstpl %0" : "=m"(x));
	bad |= (*(u64 *)&x != 0x3ff0000000000000UL) << 3;
	asm volatile("fstpl %0" : "=m"(x));
	bad |= (*(u64 *)&x != 0x400921fb54442d18UL) << 4;
	asm volatile("fninit");
	mxcsr_set(0x1f80);
	return bad;
}

static void fpu(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);
	struct gres r;

	CHECK_RETURNED(gcall(g, g_rdmsr, MSR_SEV_STATUS, 0, 0), (1 << kind) - 1);
	mxcsr_set(0x1fa0);
	fcw_set(0x37e);
	xmm0_set(0x1111);
	r = gcall(g, g_fpu, 0x2222, 0, 0);
	point("the guest doesn't get at the host's");
	CHECK_EQ(r.how, GR_HCALL);
	point("the host gets the initial state");
	CHECK_EQ(xmm0_get(), 0);
	CHECK_EQ(mxcsr_get(), 0x1f80);
	CHECK_EQ(fcw_get(), 0x37f);
	xmm0_set(0x3333);
	point("the guest finds its own");
	CHECK_RETURNED(gresume(g), 0);
	guest_free(g);
}

TEST(es_fpu_es) { fpu(GUEST_ES); }
TEST(es_fpu_snp) { fpu(GUEST_SNP); }

static u64 g_xcr0(u64 a, u64 b, u64 c)
{
	u64 before = xgetbv(0);

	(void)b, (void)c;
	xsetbv(0, a);
	guest_exit(before);
	return xgetbv(0);
}

TEST(es_xcr0)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 mine = xgetbv(0);
	struct gres r;

	r = gcall(g, g_xcr0, 3, 0, 0);
	CHECK_EQ(r.how, GR_HCALL);
	CHECK_EQ(r.value, 1);
	CHECK_EQ(xgetbv(0), mine);
	CHECK_RETURNED(gresume(g), 3);
	CHECK_EQ(xgetbv(0), mine);
	guest_free(g);
}

/* All general registers, over an automatic exit that tells nothing of them. */
static u64 g_gprs(u64 a, u64 b, u64 c)
{
	u64 ok;

	(void)a, (void)b, (void)c;
	asm volatile("mov $0x11, %%ebx; mov $0x22, %%ecx; mov $0x33, %%edx; mov $0x44, %%esi; mov $0x55, %%edi; mov $0x88, %%r8d;"
		     "mov $0x99, %%r9d; mov $0xaa, %%r10d; mov $0xbb, %%r11d; mov $0xcc, %%r12d; mov $0xdd, %%r13d; mov $0xee, %%r14d;"
		     "mov $0xff, %%r15d; mov $0x77, %%eax; push %%rbp; mov $0x66, %%ebp; hlt;"
		     "xor $0x77, %%eax; xor $0x11, %%ebx; or %%rbx, %%rax; xor $0x22, %%ecx; or %%rcx, %%rax; xor $0x33, %%edx;"
		     "or %%rdx, %%rax; xor $0x44, %%esi; or %%rsi, %%rax; xor $0x55, %%edi; or %%rdi, %%rax; xor $0x66, %%ebp;"
		     "or %%rbp, %%rax; pop %%rbp; xor $0x88, %%r8d; or %%r8, %%rax; xor $0x99, %%r9d; or %%r9, %%rax; xor $0xaa, %%r10d;"
		     "or %%r10, %%rax; xor $0xbb, %%r11d; or %%r11, %%rax; xor $0xcc, %%r12d; or %%r12, %%rax; xor $0xdd, %%r13d;"
		     "or %%r13, %%rax; xor $0xee, %%r14d; or %%r14, %%rax; xor $0xff, %%r15d; or %%r15, %%rax"
		     : "=a"(ok) :: "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
	return ok;
}

TEST(es_gprs)
{
	struct guest *g = guest_new(GUEST_ES);
	struct vmsa *s = (void *)g->vcpu[0].vmsa;

	CHECK_EXIT(gcall_hold(g, g_gprs, 0, 0, 0), EXIT_HLT, 0, 0);
	CHECK_EQ(s->rax, 0x77);
	CHECK_EQ(s->rbx, 0x11);
	CHECK_EQ(s->r15, 0xff);
	CHECK_RETURNED(gresume(g), 0);
	guest_free(g);
}

static u64 g_clean(u64 a, u64 b, u64 c)
{
	u64 dr6;

	(void)b, (void)c;
	asm volatile("mov %%dr6, %0" : "=r"(dr6));
	return read_cr2() == a && rdmsr(0xc0000100) == a + 1 && dr6 == 0xffff4ff0;
}

/* 15.35.8: clean bits for what is in the VMSA, 5 to 10, don't keep VMRUN from loading it. */
TEST(es_clean_bits)
{
	struct guest *g = guest_new(GUEST_ES);
	struct vmcb *c = g->vcpu[0].vmcb;
	struct vmsa *s = (void *)g->vcpu[0].vmsa;

	c->intercept3 &= ~BIT(INTERCEPT_MSR);
	CHECK_RETURNED(gcall(g, g_clean, 0x7000, 0, 0), 0);
	c->clean = 0x7e0;
	s->cr2 = 0x7000;
	s->fs.base = 0x7001;
	s->dr6 = 0xffff4ff0;
	CHECK_RETURNED(gcall(g, g_clean, 0x7000, 0, 0), 1);
	guest_free(g);
}

/* What VMLOAD loads for other guests, and the host's after the exit. */
static u64 g_msrs(u64 a, u64 b, u64 c)
{
	(void)b, (void)c;
	wrmsr(0xc0000081, a);
	wrmsr(0xc0000082, a + 1);
	wrmsr(0xc0000102, a + 2);
	wrmsr(0x174, 0x10);
	wrmsr(0x175, a + 3);
	wrmsr(0x277, 0x0606060606060606);
	guest_exit(1);
	return rdmsr(0xc0000081) == a && rdmsr(0xc0000082) == a + 1 && rdmsr(0xc0000102) == a + 2 && rdmsr(0x174) == 0x10 &&
	       rdmsr(0x175) == a + 3 && rdmsr(0x277) == 0x0606060606060606;
}

TEST(es_msrs)
{
	struct guest *g = guest_new(GUEST_ES);
	u64 pat = rdmsr(0x277);
	struct gres r;

	g->vcpu[0].vmcb->intercept3 &= ~BIT(INTERCEPT_MSR);
	wrmsr(0xc0000082, 0x1234);
	wrmsr(0x175, 0x2345);
	r = gcall(g, g_msrs, 0x5000, 0, 0);
	CHECK_EQ(r.how, GR_HCALL);
	CHECK_EQ(rdmsr(0xc0000082), 0x1234);
	CHECK_EQ(rdmsr(0x175), 0x2345);
	CHECK_EQ(rdmsr(0x277), pat);
	wrmsr(0xc0000082, 0);
	CHECK_RETURNED(gresume(g), 1);
	guest_free(g);
}

/* 15.36.9: the VMSA of an SNP guest says which exit was the last one. */
static u64 g_map_vmsa(u64 va, u64 b, u64 c)
{
	(void)b, (void)c;
	*pte_of(read_cr3() & PTE_ADDR & ~cbit_mask, va, NULL) = (GPA_VMSA & ~(SIZE_2M - 1)) | PTE_P | PTE_U | PTE_A | PTE_PS | cbit_mask;
	invlpg(va);
	return 0;
}

static u64 g_exit_record(u64 va, u64 vmsa, u64 field)
{
	read64(va);
	return read64(vmsa + field);
}

TEST(es_exit_record)
{
	static const u32 field[] = {
		offsetof(struct vmsa, guest_exit_code), offsetof(struct vmsa, guest_exit_info_1), offsetof(struct vmsa, guest_exit_info_2),
	};
	static const u64 want[] = { EXIT_NPF, NPF_U | NPF_GPA | NPF_ENC, GPA_TEST };
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), va = 0x5000000, vmsa = va + (GPA_VMSA & (SIZE_2M - 1)), i;

	CHECK_RETURNED(gcall(g, g_map_vmsa, va, 0, 0), 0);
	npt_map(g, GPA_VMSA, g->vcpu[0].vmsa, 1, PTE_W);
	point("VMGEXIT");
	CHECK_RETURNED(gcall(g, g_read, vmsa + field[0], 0, 0), EXIT_VMGEXIT);
	for (i = 0; i < ARRAY_SIZE(field); i++) {
		point("#NPF, field %#x", field[i]);
		npt_unmap(g, GPA_TEST);
		CHECK_EXIT(gcall_hold(g, g_exit_record, GPA_TEST, vmsa, field[i]), EXIT_NPF, want[1], GPA_TEST);
		npt_map(g, GPA_TEST, pa, 1, PTE_W);
		CHECK_RETURNED(gresume(g), want[i]);
	}
	page_free(pa);
	guest_free(g);
}
