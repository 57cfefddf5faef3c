/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What VMPLs other than 0 may do: APM volume 2, 15.36.7, 15.36.10, table 15-36. */
#include "snp.h"

enum { R = 1, W = 2, UX = 4, SX = 8, ALL = 15 };

extern char image_start[], image_end[];

/* Gives the image and the page tables to a VMPL. */
static u64 g_give_image(u64 vmpl, u64 b, u64 c)
{
	u64 a, r = 0;

	(void)b, (void)c;
	for (a = (u64)image_start; a < (u64)image_end; a += PAGE)
		r |= rmpadjust(a, 0, vmpl | ALL << 8);
	for (a = GPA_TABLES; a < GPA_TABLES + 4 * PAGE; a += PAGE)
		r |= rmpadjust(a, 0, vmpl | ALL << 8);
	return r;
}

static struct vcpu *with_vmpl(struct guest **g, int vmpl)
{
	struct vcpu *v;

	*g = guest_new_raw(GUEST_SNP);
	guest_vcpu(*g, guest_main);
	v = guest_vcpu_vmpl(*g, guest_main, vmpl);
	if (!guest_launch(*g))
		test_abort();
	CHECK_RETURNED(gcall(*g, g_give_image, vmpl, 0, 0), 0);
	return v;
}

/* Goes to user mode at va; #UD is the way back. */
static u64 g_exec_user(u64 va, u64 b, u64 c)
{
	static u8 stack[4096] __attribute__((aligned(16))), user_stack[256] __attribute__((aligned(16)));
	struct percpu *p = this_cpu();
	struct fault f;

	(void)b, (void)c;
	((u32 *)p->tss)[1] = (u64)(stack + sizeof(stack));
	((u32 *)p->tss)[2] = 0;
	f = FAULT(asm volatile("pushq %0; pushq %1; pushq $2; pushq %2; pushq %3; iretq"
			       :: "i"(SEL_USER_DATA), "r"((u64)(user_stack + 256)), "i"(SEL_USER_CODE), "r"(va) : "memory"));
	return f.vector == VEC_UD && f.rip == va ? 0 : 0x1000 + f.vector;
}

static u64 g_exec_kernel(u64 va, u64 b, u64 c)
{
	struct fault f = FAULT(exec(va));

	(void)b, (void)c;
	return f.vector == VEC_UD && f.rip == va ? 0 : 0x1000 + f.vector;
}

TEST(rmp_vmpl_permissions)
{
	struct guest *g;
	struct vcpu *v = with_vmpl(&g, 1);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), npf = NPF_P | NPF_U | NPF_RMP | NPF_GPA | NPF_ENC | NPF_VMPL;
	u32 perms;

	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0x0b0f, 0), 0);	/* ud2 */
	point("a fresh page is VMPL0's");
	CHECK_EXIT(vcall(v, g_read, GPA_TEST, 0, 0), EXIT_NPF, npf, GPA_TEST);
	for (perms = 0; perms < 16; perms++) {
		point("%s%s%s%s", perms & R ? "R" : "-", perms & W ? "W" : "-", perms & UX ? "U" : "-", perms & SX ? "S" : "-");
		CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1 | perms << 8), 0);
		if (perms & R)
			CHECK_RETURNED(vcall(v, g_read, GPA_TEST, 0, 0), 0x0b0f);
		else
			CHECK_EXIT(vcall(v, g_read, GPA_TEST, 0, 0), EXIT_NPF, npf, GPA_TEST);
		if ((perms & (R | W)) == (R | W))
			CHECK_RETURNED(vcall(v, g_write, GPA_TEST, 0x0b0f, 0), 0);
		else
			CHECK_EXIT(vcall(v, g_write, GPA_TEST + 8, 1, 0), EXIT_NPF, npf | NPF_W, GPA_TEST + 8);
		if (perms & SX)
			CHECK_RETURNED(vcall(v, g_exec_kernel, GPA_TEST, 0, 0), 0);
		else
			CHECK_EXIT(vcall(v, g_exec_kernel, GPA_TEST, 0, 0), EXIT_NPF, npf | NPF_ID, GPA_TEST);
		if (perms & UX)
			CHECK_RETURNED(vcall(v, g_exec_user, GPA_TEST, 0, 0), 0);
		else
			CHECK_EXIT(vcall(v, g_exec_user, GPA_TEST, 0, 0), EXIT_NPF, npf | NPF_ID, GPA_TEST);
		/* VMPL0 isn't concerned. */
		CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0x0b0f, 0), 0);
		CHECK_RETURNED(gcall(g, g_exec_user, GPA_TEST, 0, 0), 0);
	}
	point("validated comes before VMPL");
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 0), 0);
	CHECK_FAULT(vcall(v, g_read, GPA_TEST, 0, 0), VEC_VC, VC_NOT_VALIDATED, GPA_TEST);
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 1), 0);
	point("RMP comes before VMPL");
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1), 0);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	CHECK_EXIT(vcall(v, g_read, GPA_TEST, 0, 0), EXIT_NPF, npf & ~NPF_VMPL, GPA_TEST);
	page_free(pa);
	point("shared pages have no VMPL");
	pa = page_alloc();
	npt_map(g, GPA_TEST, pa, 1, PTE_W);
	CHECK_RETURNED(vcall(v, g_write, GUEST_SHARED_VA(GPA_TEST), 1, 0), 0);
	page_free(pa);
	point("2M");
	pa = guest_page_2m(g, GPA_TEST, ST_GUEST_VALID);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + 77 * PAGE, 0x77, 0), 0);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 1, 1 | R << 8), 0);
	CHECK_RETURNED(vcall(v, g_read, GPA_TEST + 77 * PAGE, 0, 0), 0x77);
	CHECK_EXIT(vcall(v, g_write, GPA_TEST + 77 * PAGE, 0, 0), EXIT_NPF, npf | NPF_W, GPA_TEST + 77 * PAGE);
	page_free_2m(pa);
	point("page tables");
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TABLES + 2 * PAGE, 0, 1), 0);
	struct gres r = vcall_hold(v, g_read, GPA_TEST, 0, 0);
	CHECK_EQ(r.how, GR_EXIT);
	CHECK_EQ(r.code, EXIT_NPF);
	CHECK_EQ(r.info1, NPF_P | NPF_W | NPF_U | NPF_RMP | NPF_GPT | NPF_ENC | NPF_VMPL);
	CHECK_EQ(r.info2 & ~(PAGE - 1), GPA_TABLES + 2 * PAGE);
	guest_free(g);
}

TEST(rmp_vmpl_instructions)
{
	struct guest *g;
	struct vcpu *v = with_vmpl(&g, 1);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID);
	struct rmp_entry e;

	point("PVALIDATE is for VMPL0 (the kind of failure is unproved)");
	CHECK_FAULT(vcall(v, g_pvalidate, GPA_TEST, 0, 1), VEC_GP, 0, 0);
	point("RMPADJUST of the own VMPL, and of a better one");
	CHECK_RETURNED(vcall(v, g_rmpadjust, GPA_TEST, 0, 1), RMP_FAIL_PERMISSION);
	CHECK_RETURNED(vcall(v, g_rmpadjust, GPA_TEST, 0, 0), RMP_FAIL_PERMISSION);
	point("nobody gives away what they don't have");
	CHECK_RETURNED(vcall(v, g_rmpadjust, GPA_TEST, 0, 2 | R << 8), RMP_FAIL_PERMISSION);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1 | (R | UX) << 8), 0);
	CHECK_RETURNED(vcall(v, g_rmpadjust, GPA_TEST, 0, 2 | R << 8), 0);
	CHECK_RETURNED(vcall(v, g_rmpadjust, GPA_TEST, 0, 3 | (R | UX) << 8), 0);
	CHECK_RETURNED(vcall(v, g_rmpadjust, GPA_TEST, 0, 3 | (R | W) << 8), RMP_FAIL_PERMISSION);
	rmp_entry(pa, &e);
	CHECK_EQ(e.hi, 0x1f | (R | UX) << 8 | R << 16 | (R | UX) << 24);
	point("the VMSA bit is VMPL0's");
	CHECK_RETURNED(vcall(v, g_rmpadjust, GPA_TEST, 0, 2 | BIT(16)), 0);
	rmp_entry(pa, &e);
	CHECK(!(e.lo & RE_VMSA));
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 2 | BIT(16)), 0);
	CHECK_RETURNED(vcall(v, g_rmpadjust, GPA_TEST, 0, 2), 0);
	rmp_entry(pa, &e);
	CHECK(e.lo & RE_VMSA);
	page_free(pa);
	guest_free(g);
}

/* These instructions are for the kernel (the kind of failure is that of others). */
TEST(rmp_user_mode)
{
	static const struct { const char *name; u8 code[4]; } insn[] = {
		{ "PVALIDATE", { 0xf2, 0x0f, 0x01, 0xff } }, { "RMPADJUST", { 0xf3, 0x0f, 0x01, 0xfe } },
		{ "RMPUPDATE", { 0xf2, 0x0f, 0x01, 0xfe } }, { "PSMASH", { 0xf3, 0x0f, 0x01, 0xff } },
	};
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), i;

	for (i = 0; i < ARRAY_SIZE(insn); i++) {
		point("%s", insn[i].name);
		CHECK_RETURNED(gcall(g, g_write, GPA_TEST, *(u32 *)insn[i].code | 0x0b0fUL << 32, 0), 0);
		CHECK_RETURNED(gcall(g, g_exec_user, GPA_TEST, 0, 0), 0x1000 + VEC_GP);
	}
	page_free(pa);
	guest_free(g);
}
