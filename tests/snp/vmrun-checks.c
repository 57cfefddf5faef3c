/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What VMRUN, VMSAVE and VM_HSAVE_PA refuse: APM volume 2, 15.34.3, 15.35.2, 15.35.8, 15.36.12 (table 15-41), 15.36.16, 15.36.20. */
#include "snp.h"

#define INJECT(type, vector)	(BIT(31) | (type) << 8 | (vector))

static struct guest *a_guest(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);

	/* Stands in guest_main() now. */
	CHECK_RETURNED(gcall(g, g_rdmsr, MSR_SEV_STATUS, 0, 0), (1 << kind) - 1);
	return g;
}

static void still_works(struct guest *g)
{
	CHECK_RETURNED(gcall(g, g_rdmsr, MSR_SEV_STATUS, 0, 0), (1 << g->kind) - 1);
}

#define REFUSED(v, code)						\
	do {								\
		CHECK_EQ(vcpu_run(v), code);				\
		CHECK_EQ((v)->fault.vector, -1);			\
	} while (0)

static void vmcb_page(enum guest_kind kind)
{
	struct guest *g = a_guest(kind);
	u64 pa = page_alloc(), vmcb = (u64)g->vcpu[0].vmcb;
	struct vcpu v = g->vcpu[0];

	memcpy((void *)pa, (void *)vmcb, PAGE);
	REQUIRE_EQ(rmpupdate_firmware(pa), RMP_OK);
	v.fault = FAULT(vmrun_asm(pa, this_cpu()->hsave, v.vmsa ? NULL : &v.regs));
	CHECK_EQ(v.fault.vector, VEC_GP);
	CHECK_EQ(v.fault.error, 0);
	stgi();
	page_free(pa);
	still_works(g);
	guest_free(g);
}

TEST(vmrun_vmcb_snp) { vmcb_page(GUEST_SNP); }
TEST(vmrun_vmcb_es) { vmcb_page(GUEST_ES); }

TEST(vmrun_hsave)
{
	/* Before a VMRUN of other guests GS isn't the host's any more, and a fault would be the end. */
	struct guest *g = a_guest(GUEST_ES);
	struct vcpu *v = &g->vcpu[0];
	struct fault f;
	u64 pa = page_alloc();

	point("no host save area");
	vcpu_run_at(v, 0);
	CHECK_EQ(v->fault.vector, VEC_GP);
	CHECK_EQ(v->fault.error, 0);
	point("a page that isn't the hypervisor's");
	REQUIRE_EQ(rmpupdate_firmware(pa), RMP_OK);
	f = FAULT(wrmsr(MSR_VM_HSAVE_PA, pa));
	CHECK_EQ(f.vector, VEC_GP);
	CHECK_EQ(rdmsr(MSR_VM_HSAVE_PA), 0);
	point("VMSAVE");
	f = FAULT(vmsave(pa));
	CHECK_EQ(f.vector, VEC_GP);
	CHECK_EQ(f.error, 0);
	point("VMLOAD");
	page_free(pa);
	pa = page_alloc();
	vmsave(pa);
	REQUIRE_EQ(rmpupdate_firmware(pa), RMP_OK);
	f = FAULT(vmload(pa));
	CHECK_EQ(f.vector, -1);
	page_free(pa);
	point("as usual");
	still_works(g);
	guest_free(g);
}

TEST(vmrun_vmsa_snp)
{
	struct guest *g = a_guest(GUEST_SNP), *other = a_guest(GUEST_SNP);
	struct vcpu *v = &g->vcpu[0];
	u64 pa = page_alloc(), vmsa = v->vmsa;

	/* Pages with an SNP-active VMSA, as far as the host can write one: contents first, then the state. */
	point("hypervisor's");
	vmsa_init(g, (void *)pa, 0, guest_main);
	v->vmcb->vmsa_pa = pa;
	REFUSED(v, EXIT_INVALID);
	CHECK_EQ(rmp_state(pa), ST_HYPERVISOR);
	CHECK_EQ(((struct vmsa *)pa)->rip, (u64)guest_main);
	point("another guest's");
	v->vmcb->vmsa_pa = other->vcpu[0].vmsa;
	REFUSED(v, EXIT_INVALID);
	still_works(other);
	point("the guest's, without the VMSA bit");
	v->vmcb->vmsa_pa = npt_pa(g, GPA_TABLES);
	REFUSED(v, EXIT_INVALID);
	point("immutable");
	REQUIRE_EQ(rmpupdate(pa, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	v->vmcb->vmsa_pa = pa;
	REFUSED(v, EXIT_INVALID);
	point("beyond the RMP");
	v->vmcb->vmsa_pa = 0xfd00000000UL;
	REFUSED(v, EXIT_INVALID);
	point("not a page");
	v->vmcb->vmsa_pa = vmsa + 0x800;
	REFUSED(v, EXIT_INVALID);
	v->vmcb->vmsa_pa = BIT(52);
	REFUSED(v, EXIT_INVALID);
	point("as usual");
	v->vmcb->vmsa_pa = vmsa;
	still_works(g);
	page_free(pa);
	guest_free(other);
	guest_free(g);
}

/* By the guest, of a page of its own at GPA_TEST: an SNP-active one, with the VMSA bit, that says to be in use. */
static void make_busy_vmsa(struct guest *g, u64 size)
{
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + offsetof(struct vmsa, sev_features), 1, 0), 0);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + offsetof(struct vmsa, vintr_ctrl), BIT(63), 0), 0);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, size, BIT(16) | 1), RMP_OK);
}

TEST(vmrun_vmsa_not_validated)
{
	struct guest *g = a_guest(GUEST_SNP);
	struct vcpu *v = &g->vcpu[0];

	/* Made by the guest: a page of its own with the VMSA bit; then validated no more. Its contents are no state that could run. */
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), vmsa = v->vmsa;

	make_busy_vmsa(g, 0);
	v->vmcb->vmsa_pa = pa;
	point("BUSY");
	REFUSED(v, EXIT_BUSY);
	v->vmcb->vmsa_pa = vmsa;
	point("not validated is no reason");
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 0), 0);
	v->vmcb->vmsa_pa = pa;
	REFUSED(v, EXIT_BUSY);
	v->vmcb->vmsa_pa = vmsa;
	point("as usual");
	still_works(g);
	guest_free(g);
	page_free(pa);
}

/* Mutable, and the size: of a VMSA that would do otherwise, and is found to be busy then. */
TEST(vmrun_vmsa_entry)
{
	struct guest *g = a_guest(GUEST_SNP);
	struct vcpu *v = &g->vcpu[0];
	u64 pa = guest_page_2m(g, GPA_TEST, ST_GUEST_VALID), vmsa = v->vmsa;

	make_busy_vmsa(g, 1);
	v->vmcb->vmsa_pa = pa;
	point("2M");
	REFUSED(v, EXIT_INVALID);
	point("4K");
	CHECK_EQ(psmash(pa), RMP_OK);
	REFUSED(v, EXIT_BUSY);
	point("immutable");
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	REFUSED(v, EXIT_INVALID);
	point("mutable again");
	CHECK_EQ(snp_reclaim(pa, 0), PSP_SUCCESS);
	REFUSED(v, EXIT_BUSY);
	v->vmcb->vmsa_pa = vmsa;
	still_works(g);
	guest_free(g);
	page_free_2m(pa);
}

/* What else could be asked for by SEV_FEATURES isn't implemented, and must not be ignored. */
TEST(vmrun_features_snp)
{
	struct guest *g = a_guest(GUEST_SNP);
	struct vcpu *v = &g->vcpu[0];
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), vmsa = v->vmsa, i;

	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + offsetof(struct vmsa, vintr_ctrl), BIT(63), 0), 0);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, BIT(16) | 1), RMP_OK);
	for (i = 0; i < 20; i++) {
		point("SEV_FEATURES %#lx", BIT(i) | 1);
		CHECK_RETURNED(gcall(g, g_write, GPA_TEST + offsetof(struct vmsa, sev_features), BIT(i) | 1, 0), 0);
		v->vmcb->vmsa_pa = pa;
		REFUSED(v, i ? EXIT_INVALID : EXIT_BUSY);
		v->vmcb->vmsa_pa = vmsa;
	}
	still_works(g);
	guest_free(g);
	page_free(pa);
}

/* Of what VMRUN reads, the bitmaps aren't checked. */
TEST(vmrun_bitmaps)
{
	struct guest *g = a_guest(GUEST_ES);
	struct vmcb *c = g->vcpu[0].vmcb;
	u64 pa = page_alloc_2m(), iopm = c->iopm_pa, msrpm = c->msrpm_pa, i;

	memcpy((void *)pa, (void *)iopm, 3 * PAGE);
	memcpy((void *)(pa + 3 * PAGE), (void *)msrpm, 2 * PAGE);
	for (i = 0; i < 5; i++)
		CHECK_EQ(rmpupdate_firmware(pa + i * PAGE), RMP_OK);
	c->iopm_pa = pa;
	c->msrpm_pa = pa + 3 * PAGE;
	still_works(g);
	c->iopm_pa = iopm;
	c->msrpm_pa = msrpm;
	page_free_2m(pa);
	guest_free(g);
}

TEST(vmrun_vmsa_es)
{
	struct guest *g = a_guest(GUEST_ES);
	struct vcpu *v = &g->vcpu[0];
	struct vmsa *s = (void *)v->vmsa;
	u64 pa = page_alloc(), before;
	static const u64 features[] = { 1, 2, 4, 8, 16, 32, BIT(9), BIT(14), BIT(16), BIT(62) };
	u64 i;

	point("assigned page");
	memcpy((void *)pa, s, PAGE);
	REQUIRE_EQ(rmpupdate_firmware(pa), RMP_OK);
	v->vmcb->vmsa_pa = pa;
	REFUSED(v, EXIT_INVALID);
	v->vmcb->vmsa_pa = v->vmsa;
	for (i = 0; i < ARRAY_SIZE(features); i++) {
		point("SEV_FEATURES %#lx", features[i]);
		s->sev_features = features[i];
		REFUSED(v, EXIT_INVALID);
		s->sev_features = 0;
	}
	point("without LBR virtualisation");
	v->vmcb->virt_ext = 0;
	REFUSED(v, EXIT_INVALID);
	v->vmcb->virt_ext = 1;
	point("illegal CR0 in the VMSA, which stays as it is");
	before = s->rcx;
	s->cr0 ^= BIT(32);
	REFUSED(v, EXIT_INVALID);
	s->cr0 ^= BIT(32);
	CHECK_EQ(s->rcx, before);
	point("as usual");
	still_works(g);
	guest_free(g);
	page_free(pa);
}

TEST(vmrun_sev)
{
	struct guest *g = a_guest(GUEST_SEV);
	struct vcpu *v = &g->vcpu[0];
	u32 asid = v->vmcb->asid, r[4];
	u64 rip = v->vmcb->save.rip;

	cpuid(0x8000001f, 0, r);
	point("no nested paging");
	v->vmcb->nested_ctl &= ~NESTED_NP;
	REFUSED(v, EXIT_INVALID);
	v->vmcb->nested_ctl |= NESTED_NP;
	point("ASID too large");
	v->vmcb->asid = r[2] + 1;
	REFUSED(v, EXIT_INVALID);
	point("ASID 0");
	v->vmcb->asid = 0;
	REFUSED(v, EXIT_INVALID);
	point("the save area stays as it is");
	CHECK_EQ(v->vmcb->save.rip, rip);
	v->vmcb->asid = asid;
	still_works(g);
	guest_free(g);
}

TEST(vmrun_allowed_features)
{
	struct guest *g = a_guest(GUEST_SNP);
	struct vcpu *v = &g->vcpu[0];
	u32 r[4];

	cpuid(0x8000001f, 0, r);
	if (!(r[0] & BIT(27)))
		skip("no ALLOWED_SEV_FEATURES");
	point("SNP allowed");
	v->vmcb->allowed_sev_features = BIT(63) | 1;
	still_works(g);
	CHECK_EQ(v->vmcb->guest_sev_features, 1);
	point("SNP not allowed");
	v->vmcb->guest_sev_features = 0;
	v->vmcb->allowed_sev_features = BIT(63) | 2;
	REFUSED(v, EXIT_INVALID);
	CHECK_EQ(v->vmcb->guest_sev_features, 1);
	point("not enabled");
	v->vmcb->allowed_sev_features = 2;
	still_works(g);
	guest_free(g);
}

static void injection(enum guest_kind kind)
{
	struct guest *g = a_guest(kind);
	struct vcpu *v = &g->vcpu[0];
	static const struct { u32 event; const char *name; } bad[] = {
		{ INJECT(4, 0x80), "software interrupt" }, { INJECT(3, VEC_BP), "#BP" }, { INJECT(3, VEC_OF), "#OF" },
		{ INJECT(3, VEC_NMI), "exception 2" }, { INJECT(1, 0x80), "reserved type" },
	};
	u64 i, before;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		point("%s", bad[i].name);
		v->vmcb->event_inj = bad[i].event;
		REFUSED(v, EXIT_INVALID);
	}
	point("external interrupt");
	before = percpu[0].vectors;
	v->vmcb->event_inj = INJECT(0, 0x41);
	still_works(g);
	CHECK_EQ(percpu[0].vectors, before);	/* counted in the guest's copy */
	guest_free(g);
}

TEST(vmrun_injection_es) { injection(GUEST_ES); }
TEST(vmrun_injection_snp) { injection(GUEST_SNP); }

/* With IF=0: CR8 is set to a, then to b; the interrupts that arrive after each, 8 bits each. */
static u64 g_write_cr8(u64 a, u64 b, u64 c)
{
	struct percpu *p = this_cpu();
	u64 n = p->vectors, r;

	(void)c;
	asm volatile("mov %0, %%cr8; sti; nop; nop; cli" :: "r"(a) : "memory");
	r = p->vectors - n;
	n = p->vectors;
	asm volatile("mov %0, %%cr8; sti; nop; nop; cli" :: "r"(b) : "memory");
	return r | (p->vectors - n) << 8;
}

/* APM 15.21.4: a virtual interrupt, and writes of CR8 that keep it waiting, or not */
static void virtual_interrupt(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);
	struct vmcb *c = g->vcpu[0].vmcb;

	c->int_vector = 0x41;
	point("kind %d: none", kind);
	CHECK_RETURNED(gcall(g, g_write_cr8, 8, 3, 0), 0);
	point("kind %d: its priority is too low", kind);
	c->int_ctl |= BIT(8) | 5 << 16;
	CHECK_RETURNED(gcall(g, g_write_cr8, 8, 3, 0), 1 << 8);
	CHECK_EQ(c->int_ctl & BIT(8), 0);
	point("kind %d: is high enough", kind);
	c->int_ctl |= BIT(8) | 5 << 16;
	CHECK_RETURNED(gcall(g, g_write_cr8, 4, 3, 0), 1);
	point("kind %d: doesn't matter", kind);
	c->int_ctl |= BIT(8) | BIT(20);
	CHECK_RETURNED(gcall(g, g_write_cr8, 8, 3, 0), 1);
	guest_free(g);
}

TEST(vmrun_virtual_interrupt)
{
	virtual_interrupt(GUEST_PLAIN);
	virtual_interrupt(GUEST_SNP);
}

TEST(vmrun_msrs)
{
	struct fault f;
	u64 v;
	static const u32 locked[] = { 0x250, 0x258, 0x259, 0x268, 0x26f, 0xc0010016, 0xc0010019, 0xc001001a, 0xc001001d, 0xc0010119 };
	u64 i;

	point("SYSCFG doesn't change any more");
	v = rdmsr(MSR_SYSCFG);
	f = FAULT(wrmsr(MSR_SYSCFG, v & ~SYSCFG_SNP_EN));
	CHECK_EQ(f.vector, -1);
	f = FAULT(wrmsr(MSR_SYSCFG, 0));
	CHECK_EQ(f.vector, -1);
	CHECK_EQ(rdmsr(MSR_SYSCFG), v);
	for (i = 0; i < ARRAY_SIZE(locked); i++) {
		point("MSR %#x", locked[i]);
		f = FAULT(wrmsr(locked[i], 0));
		CHECK_EQ(f.vector, VEC_GP);
	}
	point("GHCB in the host");
	f = FAULT(rdmsr(MSR_GHCB));
	CHECK_EQ(f.vector, VEC_GP);
	f = FAULT(wrmsr(MSR_GHCB, 0));
	CHECK_EQ(f.vector, VEC_GP);
	point("SEV_STATUS in the host");
	CHECK_EQ(rdmsr(MSR_SEV_STATUS), 0);
	f = FAULT(wrmsr(MSR_SEV_STATUS, 1));
	CHECK_EQ(f.vector, VEC_GP);
	point("SmmLock");
	CHECK(rdmsr(MSR_HWCR) & 1);
}

TEST(vmrun_cpuid)
{
	u32 r[4], s[4];

	cpuid(0x80000000, 0, r);
	CHECK(r[0] >= 0x8000001f);
	cpuid(0x8000001f, 0, r);
	CHECK_EQ(r[0] & (BIT(1) | BIT(3) | BIT(4) | BIT(5)), BIT(1) | BIT(3) | BIT(4) | BIT(5));
	CHECK((r[1] & 63) >= 32);
	CHECK_EQ(1UL << (r[1] & 63), cbit_mask);
	CHECK_EQ(r[1] >> 12 & 15, 4);
	CHECK(r[2] > r[3] && r[3] > 1);
	cpuid(0x8000000a, 0, s);
	CHECK(s[1] > r[2]);
	/* NPT, LBR virtualisation, NRIPS, FlushByAsid, decode assists */
	CHECK_EQ(s[3] & (BIT(0) | BIT(1) | BIT(3) | BIT(6) | BIT(7)), BIT(0) | BIT(1) | BIT(3) | BIT(6) | BIT(7));
}
