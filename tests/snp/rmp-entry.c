/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RMPUPDATE, PSMASH and the entries that they leave: APM volume 2, 15.36.3 to 15.36.7, 15.36.11; SNP firmware ABI, 5.3. That an
 * entry of Zen 3 and 4 counts the 4K pages of its 2M region in bits 3 to 11 is known from that processor only.
 */
#include "snp.h"

#define SUBPAGES(lo)	((u32)((lo) >> 3) & 0x1ff)
#define ALL_OF_VMPL0	0x1f

static struct rmp_entry entry(u64 pa)
{
	struct rmp_entry e;

	rmp_entry(pa, &e);
	return e;
}

static u64 counter(u32 asid)
{
	return read64(rmp_base + 8 * asid);
}

TEST_EARLY(rmp_before_snp)
{
	struct fault f;

	if (rdmsr(MSR_SYSCFG) & SYSCFG_SNP_EN)
		skip("SNP is enabled");
	f = FAULT(rmpupdate_shared(page_alloc_low()));
	CHECK_EQ(f.vector, VEC_UD);
	f = FAULT(psmash(0x2000000));
	CHECK_EQ(f.vector, VEC_UD);
	f = FAULT(pvalidate(0x2000000, 0, 1));
	CHECK_EQ(f.vector, VEC_UD);
	f = FAULT(rmpadjust(0x2000000, 0, 1));
	CHECK_EQ(f.vector, VEC_UD);
}

/* A VMSA that would do, but for SYSCFG.SNP_EN; if it's accepted, it's found to be busy. */
TEST_EARLY(rmp_vmsa_before_snp)
{
	static struct guest g = { .kind = GUEST_ES };
	struct vcpu v = { .g = &g };
	struct vmsa *s;
	u64 at;

	if (!rmp_base || rdmsr(MSR_SYSCFG) & SYSCFG_SNP_EN)
		skip("no SNP, or it is enabled");
	v.vmcb = (void *)sys_alloc();
	v.comm = (void *)sys_alloc();
	v.vmcb->vmsa_pa = sys_alloc();
	v.vmcb->nested_cr3 = sys_alloc();
	v.vmcb->intercept4 = BIT(INTERCEPT_VMRUN);
	v.vmcb->asid = 5;
	v.vmcb->nested_ctl = NESTED_NP | NESTED_SEV | NESTED_ES;
	v.vmcb->virt_ext = 1;
	s = (void *)v.vmcb->vmsa_pa;
	s->sev_features = 1;
	s->vintr_ctrl = BIT(63);
	at = rmp_base + 0x4000 + (v.vmcb->vmsa_pa >> 12) * 16;
	write64(at, RE_ASSIGNED | RE_VMSA | 5UL << 51);
	CHECK_EQ(vcpu_run(&v), EXIT_INVALID);
	CHECK_EQ(v.fault.vector, -1);
	write64(at, 0);
	wrmsr(MSR_VM_HSAVE_PA, 0);
}

/* SYSCFG.MEM_ENCRYPT can be cleared as long as SNP_EN isn't set. */
TEST_EARLY(rmp_sev_without_mem_encrypt)
{
	static struct guest g = { .kind = GUEST_SEV };
	struct vcpu v = { .g = &g };
	u64 syscfg = rdmsr(MSR_SYSCFG);

	if (!rmp_base || syscfg & SYSCFG_SNP_EN)
		skip("no SNP, or it is enabled");
	v.vmcb = (void *)sys_alloc();
	v.comm = (void *)sys_alloc();
	vmsa_init(&g, &v.vmcb->save, 0, guest_main);
	v.vmcb->nested_cr3 = sys_alloc();
	v.vmcb->intercept3 = BIT(INTERCEPT_INTR) | BIT(INTERCEPT_NMI) | BIT(INTERCEPT_SHUTDOWN);
	v.vmcb->intercept4 = BIT(INTERCEPT_VMRUN);
	v.vmcb->asid = asid_alloc(GUEST_SEV);
	v.vmcb->nested_ctl = NESTED_NP | NESTED_SEV;
	wrmsr(MSR_SYSCFG, syscfg & ~SYSCFG_MEM_ENCRYPT);
	point("refused");
	CHECK_EQ(vcpu_run(&v), EXIT_INVALID);
	CHECK_EQ(v.fault.vector, -1);
	wrmsr(MSR_SYSCFG, syscfg | SYSCFG_MEM_ENCRYPT);
	point("otherwise it runs");
	CHECK_EQ(vcpu_run(&v), EXIT_NPF);
	CHECK_EQ(v.fault.vector, -1);
	wrmsr(MSR_SYSCFG, syscfg);
	wrmsr(MSR_VM_HSAVE_PA, 0);
}

TEST(rmp_bounds)
{
	u64 pages = (rmp_end + 1 - rmp_base - 0x4000) / 16;
	struct fault f;

	point("the firmware wants 1M");
	CHECK_EQ((rmp_base | (rmp_end + 1)) & 0xfffff, 0);
	CHECK_EQ((rmp_base | rmp_end) & cbit_mask, 0);
	point("covers RAM, and itself");
	CHECK(ram_end <= rmp_base);
	CHECK(pages * PAGE > rmp_end);
	point("can't be moved");
	f = FAULT(wrmsr(MSR_RMP_BASE, rmp_base));
	CHECK_EQ(f.vector, VEC_GP);
	f = FAULT(wrmsr(MSR_RMP_END, rmp_end));
	CHECK_EQ(f.vector, VEC_GP);
	point("what the firmware writes");
	CHECK_EQ(entry(rmp_base).lo & ~0xff8UL, BIT(63) | RE_ASSIGNED | RE_IMMUTABLE);
	CHECK_EQ(entry(rmp_base).hi, 0);
	CHECK_EQ(entry(hv_fixed[0]).lo & ~0xff8UL, RE_IMMUTABLE);
	CHECK_EQ(entry(hv_fixed[0]).hi, 0);
}

TEST(rmp_layout)
{
	struct guest *g = guest_new_raw(GUEST_SNP);
	u64 pa = page_alloc(), gpa = 0x7fffffffff000UL & ~PAGE;

	point("firmware");
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, 0, 0), RMP_OK);
	CHECK_EQ(entry(pa).lo & ~BIT(63), RE_ASSIGNED | RE_IMMUTABLE);
	snp_reclaim(pa, 0);
	point("shared");
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	CHECK_EQ(entry(pa).lo, 0);
	CHECK_EQ(entry(pa).hi, 0);
	point("firmware's pages can't be given a GPA");
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, 0, GPA_TEST), RMP_OK);
	CHECK_EQ(rmp_state(pa), ST_FIRMWARE);
	snp_reclaim(pa, 0);
	point("guest");
	CHECK_EQ(rmpupdate(pa, 1, 0, 0, g->asid, gpa), RMP_OK);
	CHECK_EQ(entry(pa).lo, RE_ASSIGNED | gpa | (u64)g->asid << 51);
	CHECK_EQ(entry(pa).hi, ALL_OF_VMPL0);
	point("size of an unassigned page");
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	page_free(pa);
	pa = page_alloc_2m();
	CHECK_EQ(rmpupdate(pa, 0, 1, 0, 0, 0), RMP_OK);
	CHECK_EQ(entry(pa).lo, 0);
	point("2M");
	CHECK_EQ(rmpupdate(pa, 1, 1, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(entry(pa).lo, RE_ASSIGNED | RE_2M | GPA_TEST | (u64)g->asid << 51);
	CHECK_EQ(entry(pa + PAGE).lo, RE_ASSIGNED);
	CHECK_EQ(entry(pa + PAGE).hi, 0);
	CHECK_EQ(entry(pa + 511 * PAGE).lo, RE_ASSIGNED);
	point("context");
	CHECK(entry(g->ctx).lo & RE_VMSA);
	page_free_2m(pa);
	guest_free(g);
}

TEST(rmp_counts)
{
	struct guest *g = guest_new_raw(GUEST_SNP);
	u64 pa = page_alloc_2m(), n = counter(g->asid), i;

	point("sub-pages");
	CHECK_EQ(rmpupdate(pa, 1, 0, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(SUBPAGES(entry(pa).lo), 0);
	for (i = 1; i < 4; i++)
		CHECK_EQ(rmpupdate(pa + i * PAGE, 1, 0, 0, g->asid, GPA_TEST + i * PAGE), RMP_OK);
	CHECK_EQ(SUBPAGES(entry(pa).lo), 3);
	CHECK_EQ(rmpupdate(pa + 3 * PAGE, 1, 0, 1, 0, 0), RMP_OK);
	CHECK_EQ(SUBPAGES(entry(pa).lo), 3);
	CHECK_EQ(snp_reclaim(pa + 3 * PAGE, 0), 0);
	CHECK_EQ(SUBPAGES(entry(pa).lo), 3);
	CHECK_EQ(rmpupdate_shared(pa + 3 * PAGE), RMP_OK);
	CHECK_EQ(SUBPAGES(entry(pa).lo), 2);
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	CHECK_EQ(entry(pa).lo, 2 << 3);
	CHECK_EQ(rmp_state(pa), ST_HYPERVISOR);
	point("pages of an ASID, 4K");
	CHECK_EQ(counter(g->asid) - n, 2);
	CHECK_EQ(rmpupdate(pa + PAGE, 1, 0, 0, g->asid + 1, 0), RMP_OK);
	CHECK_EQ(counter(g->asid) - n, 1);
	CHECK_EQ(rmpupdate_shared(pa + PAGE), RMP_OK);
	CHECK_EQ(rmpupdate_shared(pa + 2 * PAGE), RMP_OK);
	CHECK_EQ(counter(g->asid) - n, 0);
	CHECK_EQ(entry(pa).lo, 0);
	point("2M");
	CHECK_EQ(rmpupdate(pa, 1, 1, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(SUBPAGES(entry(pa).lo), 0);
	CHECK_EQ(counter(g->asid) - n, 512);
	point("PSMASH");
	CHECK_EQ(psmash(pa), RMP_OK);
	CHECK_EQ(SUBPAGES(entry(pa).lo), 511);
	CHECK_EQ(counter(g->asid) - n, 512);
	CHECK_EQ(rmpupdate_shared(pa + 7 * PAGE), RMP_OK);
	CHECK_EQ(SUBPAGES(entry(pa).lo), 510);
	CHECK_EQ(counter(g->asid) - n, 511);
	page_free_2m(pa);
	CHECK_EQ(counter(g->asid) - n, 0);
	guest_free(g);
}

TEST(rmp_order)
{
	struct guest *g = guest_new_raw(GUEST_SNP);
	u64 pa = page_alloc_2m(), top = (rmp_end + 1 - rmp_base - 0x4000) / 16 * PAGE, fixed;
	struct rmp_record r = { GPA_TEST, 1, 0, 0, 0, g->asid };
	struct fault f;

	point("immutable before overlap, 2M");
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	CHECK_EQ(rmpupdate(pa + PAGE, 1, 0, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(rmpupdate(pa, 1, 1, 0, g->asid, GPA_TEST), RMP_FAIL_PERMISSION);
	CHECK_EQ(snp_reclaim(pa, 0), 0);
	CHECK_EQ(rmpupdate(pa, 1, 1, 0, g->asid, GPA_TEST), RMP_FAIL_OVERLAP);
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	point("overlap, 2M, with any 4K page");
	CHECK_EQ(rmpupdate(pa, 1, 1, 0, g->asid, GPA_TEST), RMP_FAIL_OVERLAP);
	CHECK_EQ(rmpupdate(pa, 0, 1, 0, 0, 0), RMP_FAIL_OVERLAP);
	CHECK_EQ(rmpupdate_shared(pa + PAGE), RMP_OK);
	CHECK_EQ(rmpupdate(pa + 511 * PAGE, 1, 0, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(rmpupdate(pa, 1, 1, 0, g->asid, GPA_TEST), RMP_FAIL_OVERLAP);
	CHECK_EQ(rmpupdate_shared(pa + 511 * PAGE), RMP_OK);
	CHECK_EQ(rmpupdate(pa, 1, 0, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(rmpupdate(pa, 1, 1, 0, g->asid, GPA_TEST), RMP_FAIL_OVERLAP);
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	point("2M, with an HV-fixed page (unproved)");
	fixed = hv_fixed[7] & ~(SIZE_2M - 1);
	CHECK_EQ(rmp_state(fixed), ST_HYPERVISOR);
	CHECK_EQ(rmpupdate(fixed, 1, 1, 1, 0, 0), RMP_FAIL_PERMISSION);
	CHECK_EQ(rmpupdate(fixed, 0, 1, 0, 0, 0), RMP_FAIL_PERMISSION);
	CHECK_EQ(rmp_state(fixed), ST_HYPERVISOR);
	CHECK_EQ(rmp_state(hv_fixed[7]), ST_HV_FIXED);
	point("overlap before that");
	CHECK_EQ(rmpupdate_firmware(fixed + 9 * PAGE), RMP_OK);
	CHECK_EQ(rmpupdate(fixed, 1, 1, 1, 0, 0), RMP_FAIL_OVERLAP);
	CHECK_EQ(snp_reclaim(fixed + 9 * PAGE, 0), 0);
	CHECK_EQ(rmpupdate_shared(fixed + 9 * PAGE), RMP_OK);
	point("input before permission");
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	CHECK_EQ(rmpupdate(pa, 0, 0, 1, 0, 0), RMP_FAIL_INPUT);
	CHECK_EQ(rmpupdate(pa, 0, 0, 0, 1, 0), RMP_FAIL_INPUT);
	CHECK_EQ(rmpupdate(pa + PAGE, 1, 1, 1, 0, 0), RMP_FAIL_INPUT);
	CHECK_EQ(snp_reclaim(pa, 0), 0);
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	point("no entry");
	CHECK_EQ(rmpupdate_firmware(top), RMP_FAIL_INPUT);
	CHECK_EQ(rmpupdate(top & ~(SIZE_2M - 1), 1, 1, 1, 0, 0), RMP_FAIL_INPUT);
	CHECK_EQ(rmpupdate_firmware(0xffffffffff000UL), RMP_FAIL_INPUT);
	CHECK_EQ(rmpupdate_firmware(~0UL), RMP_FAIL_INPUT);
	CHECK_EQ(psmash(ALIGN_UP(top, SIZE_2M)), RMP_FAIL_INPUT);
	point("the last entry");
	/* It's of no RAM, thus HV-fixed since SNP_INIT; without an entry it would be FAIL_INPUT. */
	CHECK_EQ(rmp_state(top - PAGE), ST_HV_FIXED);
	CHECK_EQ(rmpupdate_firmware(top - PAGE), RMP_FAIL_PERMISSION);
	point("the table itself");
	CHECK_EQ(rmpupdate_shared(rmp_base & ~(PAGE - 1)), RMP_FAIL_PERMISSION);
	CHECK_EQ(rmpupdate_shared(rmp_end & ~(PAGE - 1)), RMP_FAIL_PERMISSION);
	point("operand isn't mapped");
	f = FAULT(rmpupdate_raw(pa, (void *)0x8000000000UL));
	CHECK_EQ(f.vector, VEC_PF);
	CHECK_EQ(f.cr2, 0x8000000000UL);
	CHECK_EQ(entry(pa).lo, 0);
	point("operand crosses a page");
	u64 two = page_alloc_2m();
	memcpy((void *)(two + PAGE - 8), &r, sizeof(r));
	CHECK_EQ(rmpupdate_raw(pa, (void *)(two + PAGE - 8)), RMP_OK);
	CHECK_EQ(rmp_state(pa), ST_GUEST_INVALID);
	page_free_2m(two);
	point("flags");
	u64 flags, a = pa;
	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xfe; pushf; pop %1" : "+a"(a), "=r"(flags) : "c"(&r) : "memory", "cc");
	CHECK_EQ(a, RMP_OK);
	CHECK(flags & BIT(6));
	a = pa | SIZE_2M / 2;
	r.size = 1;
	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xfe; pushf; pop %1" : "+a"(a), "=r"(flags) : "c"(&r) : "memory", "cc");
	CHECK_EQ(a, RMP_FAIL_INPUT);
	CHECK(!(flags & BIT(6)));
	rmpupdate_shared(pa);
	page_free_2m(pa);
	guest_free(g);
}

/* What an RMPUPDATE keeps, and what it takes away. */
TEST(rmp_kept)
{
	struct guest *g = guest_new(GUEST_SNP);
	struct rmp_entry e;
	u64 pa, i;

	point("Immutable only: validated, VMSA and permissions stay");
	pa = guest_page(g, GPA_TEST, ST_GUEST_VALID);
	write64((u64)&g->comm->data[0], 0);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0x1234567, 0), 0);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1 | 5 << 8 | BIT(16)), RMP_OK);
	e = entry(pa);
	CHECK_EQ(e.hi, ALL_OF_VMPL0 | 5 << 8);
	CHECK(e.lo & RE_VMSA);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(entry(pa).lo, e.lo | RE_IMMUTABLE);
	CHECK_EQ(entry(pa).hi, e.hi);
	CHECK_EQ(rmp_state(pa), ST_PRE_SWAP);
	CHECK_EXIT(gcall(g, g_read, GPA_TEST, 0, 0), EXIT_NPF, NPF_P | NPF_U | NPF_RMP | NPF_GPA | NPF_ENC, GPA_TEST);
	point("back by SNP_PAGE_RECLAIM, with the data");
	CHECK_EQ(snp_reclaim(pa, 0), 0);
	CHECK_EQ(entry(pa).lo & ~BIT(63), e.lo);
	CHECK_EQ(entry(pa).hi, e.hi);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 0x1234567);
	point("nothing changed");
	CHECK_EQ(rmpupdate(pa, 1, 0, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(entry(pa).hi, e.hi);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 0x1234567);
	point("other GPA: all lost");
	CHECK_EQ(rmpupdate(pa, 1, 0, 0, g->asid, GPA_TEST + PAGE), RMP_OK);
	CHECK_EQ(entry(pa).lo, RE_ASSIGNED | (GPA_TEST + PAGE) | (u64)g->asid << 51);
	CHECK_EQ(entry(pa).hi, ALL_OF_VMPL0);
	point("there and back: not validated");
	CHECK_EQ(rmpupdate(pa, 1, 0, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 1), 0);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0xabcdef, 0), 0);
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	CHECK(read64(pa) != 0xabcdef);
	CHECK_EQ(rmpupdate(pa, 1, 0, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_FAULT(gcall(g, g_read, GPA_TEST, 0, 0), VEC_VC, VC_NOT_VALIDATED, GPA_TEST);
	point("the guest's data comes back if nobody wrote");
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 1), 0);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 0xabcdef);
	page_free(pa);

	point("PSMASH copies all fields");
	pa = guest_page_2m(g, GPA_TEST, ST_GUEST_VALID);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 1, 2 | 3 << 8), RMP_OK);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + 9 * PAGE, 0x77, 0), 0);
	CHECK_EQ(psmash(pa), RMP_OK);
	for (i = 0; i < 512; i++) {
		e = entry(pa + i * PAGE);
		if (!CHECK_EQ(e.lo & ~0xff8UL, RE_ASSIGNED | RE_VALIDATED | (GPA_TEST + i * PAGE) | (u64)g->asid << 51) ||
		    !CHECK_EQ(e.hi, ALL_OF_VMPL0 | 3 << 16))
			break;
	}
	CHECK_EXIT(gcall(g, g_read, GPA_TEST, 0, 0), EXIT_NPF, NPF_P | NPF_U | NPF_RMP | NPF_GPA | NPF_ENC, GPA_TEST);
	npt_map(g, GPA_TEST + 9 * PAGE, pa + 9 * PAGE, 1, PTE_W);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST + 9 * PAGE, 0, 0), 0x77);
	point("PSMASH twice");
	CHECK_EQ(psmash(pa), RMP_FAIL_STATE);
	page_free_2m(pa);
	guest_free(g);
}

static u64 g_rmpupdate(u64 pa, u64 b, u64 c)
{
	(void)b, (void)c;
	return rmpupdate_shared(pa);
}

static u64 g_psmash(u64 pa, u64 b, u64 c)
{
	(void)b, (void)c;
	return psmash(pa);
}

static u64 g_rmpread(u64 pa, u64 b, u64 c)
{
	struct rmp_record r;

	(void)b, (void)c;
	return rmpread(pa, &r);
}

static void refused_in(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);
	u64 pa = page_alloc_2m();
	u32 r[4];

	CHECK_EQ(rmpupdate(pa, 1, 1, 0, 5, 0), RMP_OK);
	CHECK_RETURNED(gcall(g, g_rmpupdate, pa, 0, 0), RMP_FAIL_PERMISSION);
	CHECK_RETURNED(gcall(g, g_psmash, pa, 0, 0), RMP_FAIL_PERMISSION);
	CHECK_EQ(rmp_state(pa), ST_GUEST_INVALID);
	page_free_2m(pa);
	cpuid(0x8000001f, 0, r);
	if (r[0] & BIT(21))
		CHECK_RETURNED(gcall(g, g_rmpread, pa, 0, 0), RMP_FAIL_PERMISSION);
	else
		CHECK_FAULT(gcall(g, g_rmpread, pa, 0, 0), VEC_UD, 0, 0);
	if (kind != GUEST_SNP) {
		CHECK_FAULT(gcall(g, g_pvalidate, GPA_TEST, 0, 1), VEC_UD, 0, 0);
		CHECK_FAULT(gcall(g, g_rmpadjust, GPA_TEST, 0, 1), VEC_UD, 0, 0);
	}
	guest_free(g);
}

TEST(rmp_refused_to_guests)
{
	struct fault f;
	u32 r[4];

	point("SNP");
	refused_in(GUEST_SNP);
	point("ES");
	refused_in(GUEST_ES);
	point("SEV");
	refused_in(GUEST_SEV);
	point("plain");
	refused_in(GUEST_PLAIN);
	point("PVALIDATE in the host");
	f = FAULT(pvalidate(0x2000000, 0, 1));
	CHECK_EQ(f.vector, VEC_UD);
	point("RMPADJUST in the host");
	f = FAULT(rmpadjust(0x2000000, 0, 1));
	CHECK_EQ(f.vector, VEC_UD);
	point("RMPQUERY, which CPUID doesn't offer");
	cpuid(0x8000001f, 0, r);
	CHECK(!(r[0] & BIT(6)));
	f = FAULT(asm volatile(".byte 0xf3, 0x0f, 0x01, 0xfd" :: "a"(0x2000000), "c"(0), "d"(0) : "memory", "cc"));
	CHECK_EQ(f.vector, VEC_UD);
}

/* -cpu ...,rmpread=on: Zen 5. Raw entries: those inside of a 2M page have nothing in them. */
TEST(rmp_rmpread)
{
	struct guest *g = guest_new_raw(GUEST_SNP);
	u64 pa = page_alloc_2m(), top = (rmp_end + 1 - rmp_base - 0x4000) / 16 * PAGE;
	struct rmp_record r;
	struct fault f;
	u32 c[4];

	cpuid(0x8000001f, 0, c);
	if (!(c[0] & BIT(21))) {
		f = FAULT(rmpread(pa, &r));
		CHECK_EQ(f.vector, VEC_UD);
		page_free_2m(pa);
		guest_free(g);
		return;
	}
	point("hypervisor");
	memset(&r, 0xff, sizeof(r));
	CHECK_EQ(rmpread(pa, &r), RMP_OK);
	CHECK_EQ(r.gpa | r.assigned | r.size | r.immutable | r.rsvd | r.asid, 0);
	point("4K");
	CHECK_EQ(rmpupdate(pa + PAGE, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(rmpread(pa + PAGE, &r), RMP_OK);
	CHECK_EQ(r.gpa, GPA_TEST);
	CHECK_EQ(r.assigned, 1);
	CHECK_EQ(r.size & 1, 0);
	CHECK_EQ(r.immutable, 1);
	CHECK_EQ(r.asid, g->asid);
	point("4K pages in the region");
	CHECK_EQ(rmpread(pa, &r), RMP_OK);
	CHECK_EQ(r.assigned, 0);
	CHECK_EQ(r.size, 2);
	CHECK_EQ(snp_reclaim(pa + PAGE, 0), 0);
	CHECK_EQ(rmpupdate_shared(pa + PAGE), RMP_OK);
	point("2M");
	CHECK_EQ(rmpupdate(pa, 1, 1, 0, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(rmpread(pa, &r), RMP_OK);
	CHECK_EQ(r.size, 1);
	CHECK_EQ(r.gpa, GPA_TEST);
	CHECK_EQ(rmpread(pa + PAGE, &r), RMP_OK);
	CHECK_EQ(r.assigned, 1);
	CHECK_EQ(r.gpa | r.size | r.asid, 0);
	point("no entry");
	CHECK_EQ(rmpread(top, &r), RMP_FAIL_INPUT);
	page_free_2m(pa);
	guest_free(g);
}
