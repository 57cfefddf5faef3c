/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands of the firmware for the platform: states, page states, ASIDs, bad addresses. */
#include "snp.h"

struct snp_status { u8 major, minor, state, rmp; u32 build, flags, guests; u64 tcb, reported; };

static u32 snp_status(u64 pa)
{
	return psp(SNP_PLATFORM_STATUS, &pa, 8);
}

static void wbinvd_here(void *arg)
{
	(void)arg;
	wbinvd();
}

TEST_EARLY(psp_before_init)
{
	static const u16 need_init[] = { SNP_DF_FLUSH, SNP_GCTX_CREATE, SNP_DECOMMISSION, SNP_LAUNCH_START, SNP_ACTIVATE,
					 SNP_LAUNCH_UPDATE, SNP_LAUNCH_FINISH, SNP_GUEST_STATUS, SNP_DBG_DECRYPT, SNP_DBG_ENCRYPT,
					 SNP_PAGE_RECLAIM, SNP_PAGE_UNSMASH, SNP_CONFIG };
	struct { u32 flags, rsvd; u64 list; u8 more[48]; } d = { 1, 0, 0, { 0 } };
	u64 pa = page_alloc_low();
	struct snp_status *s = (void *)pa;
	u8 zero[64] = { 0 };
	u32 i;

	/* ABI: in any state, and with any page before SNP is initialized */
	CHECK_EQ(snp_status(pa), PSP_SUCCESS);
	CHECK_EQ(s->state, 0);
	CHECK_EQ(s->major, 1);
	for (i = 0; i < ARRAY_SIZE(need_init); i++)
		if (psp(need_init[i], zero, sizeof(zero)) != PSP_PLATFORM_STATE)
			FAIL("command %#x before SNP_INIT", need_init[i]);
	/* not configured, SNP_EN is off */
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_CONFIG);
	d.flags = 0;
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_RMP_INIT_REQUIRED);
	d.flags = BIT(31) | 1;
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_PARAM);
	d.flags = 1;
	d.more[40] = 1;
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_PARAM);
	CHECK_EQ(psp_raw(SNP_SHUTDOWN, 0), PSP_SUCCESS);
	/* the command exists, but its buffer isn't memory */
	CHECK_EQ(psp_raw(SNP_PLATFORM_STATUS, 0xfed80000), PSP_ADDRESS);
	CHECK_EQ(psp_raw(SNP_PLATFORM_STATUS, 0xffffffffffff0000), PSP_ADDRESS);
	page_free(pa);
}

TEST(psp_init_twice)
{
	struct { u32 flags, rsvd; u64 list; u8 more[48]; } d = { 1, 0, 0, { 0 } };

	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_PLATFORM_STATE);
	CHECK_EQ(psp_raw(SNP_INIT, 0), PSP_PLATFORM_STATE);
}

TEST(psp_unknown_commands)
{
	static const u16 cmd[] = { 0x00, 0x0b, 0x34, 0x36, 0x40, 0x50, 0x7f, 0x94, 0xb2, 0xc0, 0xc3, 0xca, 0xd0, 0x3ff };
	u8 zero[64] = { 0 };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(cmd); i++)
		if (psp(cmd[i], zero, sizeof(zero)) != PSP_COMMAND)
			FAIL("command %#x", cmd[i]);
}

TEST(psp_status_pages)
{
	u64 pa = page_alloc(), beyond = ((rmp_end + 1 - rmp_base - 0x4000) / 16) << 12;
	struct snp_status *s = (void *)pa;

	CHECK_EQ(snp_status(pa), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	CHECK_EQ(snp_status(pa + PAGE - 31), PSP_PARAM);
	CHECK_EQ(snp_status(pa + PAGE - 32), PSP_SUCCESS);
	CHECK_EQ(snp_status(pa), PSP_SUCCESS);
	CHECK_EQ(s->state, 1);
	CHECK_EQ(s->rmp & 1, 1);
	CHECK_EQ(rmp_state(pa), ST_FIRMWARE);		/* stays what it was */
	CHECK_EQ(snp_status(rmp_base + 0x10000), PSP_PAGE_STATE);
	CHECK_EQ(snp_status(beyond), PSP_ADDRESS);	/* a Default page, but there's no memory */
	page_free(pa);
	CHECK_EQ(rmp_state(pa), ST_HYPERVISOR);
}

TEST(psp_feature_info)
{
	u64 pa = page_alloc();
	struct { u32 len, ecx; u64 pa; } d = { 16, 0, pa };

	CHECK_EQ(psp(SNP_FEATURE_INFO, &d, 16), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	CHECK_EQ(psp(SNP_FEATURE_INFO, &d, 16), PSP_SUCCESS);
	d.pa = pa + PAGE - 8;
	CHECK_EQ(psp(SNP_FEATURE_INFO, &d, 16), PSP_PARAM);
	d.pa = pa;
	d.ecx = 1;
	CHECK_EQ(psp(SNP_FEATURE_INFO, &d, 16), PSP_PARAM);
	d.ecx = 0;
	d.len = 12;
	CHECK_EQ(psp(SNP_FEATURE_INFO, &d, 16), PSP_PARAM);
	page_free(pa);
}

TEST(psp_config)
{
	struct { u64 tcb; u32 flags; u8 rsvd[52]; } d = { 0, 1, { 0 } };
	u64 pa = page_alloc();
	struct snp_status *s = (void *)pa;
	u32 len = 4;

	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	CHECK_EQ(psp(SNP_CONFIG, &d, 64), PSP_SUCCESS);
	CHECK_EQ(snp_status(pa), PSP_SUCCESS);
	CHECK_EQ(s->flags & 3, 1);
	d.flags = 4;
	CHECK_EQ(psp(SNP_CONFIG, &d, 64), PSP_PARAM);
	d.flags = 0;
	d.rsvd[51] = 1;
	CHECK_EQ(psp(SNP_CONFIG, &d, 64), PSP_PARAM);
	d.rsvd[51] = 0;
	d.tcb = 1;					/* more than is committed */
	CHECK_EQ(psp(SNP_CONFIG, &d, 64), PSP_PARAM);
	d.tcb = 0;
	CHECK_EQ(psp(SNP_CONFIG, &d, 64), PSP_SUCCESS);
	CHECK_EQ(psp(SNP_COMMIT, &len, 4), PSP_SUCCESS);
	page_free(pa);
}

TEST(psp_reclaim_states)
{
	static const struct { int state; u32 ret; int left; } t[] = {
		{ ST_HYPERVISOR, PSP_SUCCESS, ST_HYPERVISOR },
		{ ST_RECLAIM, PSP_SUCCESS, ST_RECLAIM },
		{ ST_FIRMWARE, PSP_SUCCESS, ST_RECLAIM },
		{ ST_CONTEXT, PSP_PAGE_STATE, ST_CONTEXT },
		{ ST_HV_FIXED, PSP_PAGE_STATE, ST_HV_FIXED },
		{ ST_PRE_GUEST, PSP_SUCCESS, ST_GUEST_INVALID },
		{ ST_GUEST_INVALID, PSP_SUCCESS, ST_GUEST_INVALID },
		{ ST_PRE_SWAP, PSP_SUCCESS, ST_GUEST_VALID },
		{ ST_GUEST_VALID, PSP_SUCCESS, ST_GUEST_VALID },
	};
	struct guest *g = guest_new_raw(GUEST_SNP);
	struct rmp_entry before, after;
	u64 pa, large;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(t); i++) {
		point("4K %s", rmp_state_name[t[i].state]);
		pa = rmp_page(t[i].state, g, GPA_TEST, 0);
		if (!CHECK(pa))
			continue;
		rmp_entry(pa, &before);
		CHECK_EQ(snp_reclaim(pa + 2, 0), PSP_PARAM);
		CHECK_EQ(snp_reclaim(pa & ~(SIZE_2M - 1), 1), PSP_PAGE_SIZE);
		CHECK_EQ(snp_reclaim(pa, 0), t[i].ret);
		rmp_entry(pa, &after);
		if (!CHECK_EQ(rmp_state(pa), t[i].left))
			note("state %s, left %s", rmp_state_name[t[i].state], rmp_name(pa));
		if (RE_ASID(before.lo)) {
			/* owner, address and permissions are kept */
			CHECK_EQ(after.lo & ~BIT(63), before.lo & ~(BIT(63) | RE_IMMUTABLE));
			CHECK_EQ(after.hi, before.hi);
		}
		if (t[i].state != ST_HV_FIXED)
			page_free(pa);
	}
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		if (t[i].state == ST_HYPERVISOR || t[i].state == ST_CONTEXT || t[i].state == ST_HV_FIXED)
			continue;
		point("2M %s", rmp_state_name[t[i].state]);
		large = rmp_page(t[i].state, g, GPA_TEST, 1);
		if (!CHECK(large))
			continue;
		CHECK_EQ(snp_reclaim(large, 0), PSP_PAGE_SIZE);
		CHECK_EQ(snp_reclaim(large + PAGE, 0), PSP_PAGE_SIZE);
		CHECK_EQ(snp_reclaim(large + PAGE, 1), PSP_ADDRESS);
		CHECK_EQ(snp_reclaim(large, 1), t[i].ret);
		CHECK_EQ(rmp_state(large), t[i].left);
		page_free_2m(large);
	}
	point("no page");
	CHECK_EQ(snp_reclaim(rmp_base, 0), PSP_ADDRESS);
	CHECK_EQ(snp_reclaim(0x7ffffff000, 0), PSP_ADDRESS);
	guest_free(g);
}

TEST(psp_reclaim_keeps_contents)
{
	struct guest *g = guest_new_raw(GUEST_SNP);
	u64 pa = page_alloc(), was;

	write64(pa, 0x1122334455667788);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	was = read64(pa);
	CHECK_EQ(snp_reclaim(pa, 0), PSP_SUCCESS);
	CHECK_EQ(read64(pa), was);
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	CHECK_EQ(read64(pa), 0x1122334455667788);	/* there and back without anybody writing */
	page_free(pa);
	guest_free(g);
}

static u64 bare_guest(u32 asid, u32 *ret)
{
	u64 ctx = page_alloc();

	*ret = rmp_set(ctx, ST_CONTEXT, NULL, 0, 0);
	if (!*ret)
		*ret = snp_launch_start(ctx, POLICY_DEFAULT);
	if (!*ret && asid)
		*ret = snp_activate(ctx, asid);
	return ctx;
}

TEST(psp_asid_clean)
{
	u32 asid = asid_alloc(GUEST_SNP), ret, r[4];
	u64 a, b;

	snp_df_flush();
	a = bare_guest(asid, &ret);
	CHECK_EQ(ret, PSP_SUCCESS);
	b = bare_guest(asid, &ret);
	CHECK_EQ(ret, PSP_ASID_OWNED);
	CHECK_EQ(snp_activate(b, 0), PSP_ASID);
	CHECK_EQ(snp_activate(b, 4096), PSP_ASID);
	cpuid(0x8000001f, 0, r);
	CHECK_EQ(snp_activate(b, r[3]), PSP_ASID);		/* of SEV guests */
	CHECK_EQ(snp_activate(a, asid), PSP_ACTIVE);
	CHECK_EQ(snp_decommission(a), PSP_SUCCESS);
	CHECK_EQ(rmp_state(a), ST_FIRMWARE);
	/* never run with: it's clean */
	CHECK_EQ(snp_activate(b, asid), PSP_SUCCESS);
	CHECK_EQ(snp_decommission(b), PSP_SUCCESS);
	CHECK_EQ(snp_decommission(b), PSP_GUEST);
	page_free(a);
	page_free(b);
}

static u64 nothing(u64 a, u64 b, u64 c)
{
	return a + b + c;
}

TEST(psp_asid_dirty)
{
	struct guest *g = guest_new(GUEST_SNP);
	u32 asid = g->asid, ret;
	u64 ctx, pa = guest_page(g, GPA_TEST, ST_GUEST_INVALID);

	CHECK_RETURNED(gcall(g, nothing, 1, 1, 1), 3);
	CHECK_EQ(snp_decommission(g->ctx), PSP_SUCCESS);
	ctx = bare_guest(asid, &ret);
	CHECK_EQ(ret, PSP_CONFIG);			/* pages have that ASID */
	guest_free(g);
	CHECK_EQ(snp_activate(ctx, asid), PSP_CONFIG);	/* one still has */
	page_free(pa);
	CHECK_EQ(snp_activate(ctx, asid), PSP_DFFLUSH);
	CHECK_EQ(psp_raw(SNP_DF_FLUSH, 0), PSP_WBINVD);
	wbinvd();
	if (ncpus > 1)
		CHECK_EQ(psp_raw(SNP_DF_FLUSH, 0), PSP_WBINVD);
	CHECK_EQ(snp_activate(ctx, asid), PSP_DFFLUSH);
	on_all(wbinvd_here, NULL);
	CHECK_EQ(snp_activate(ctx, asid), PSP_DFFLUSH);
	CHECK_EQ(psp_raw(SNP_DF_FLUSH, 0), PSP_SUCCESS);
	CHECK_EQ(snp_activate(ctx, asid), PSP_SUCCESS);
	CHECK_EQ(snp_decommission(ctx), PSP_SUCCESS);
	page_free(ctx);
}

/* 512 pages of 4K in that state */
static void small_pages(u64 pa, enum rmp_state st, struct guest *g, u64 gpa)
{
	u64 i;

	for (i = 0; i < 512; i++)
		if (!CHECK_EQ(rmp_set(pa + i * PAGE, st, g, gpa + i * PAGE, 0), 0))
			break;
}

TEST(psp_unsmash)
{
	struct guest *g = guest_new_raw(GUEST_SNP);
	u64 pa = page_alloc_2m(), i, odd, odd_pa = pa + 7 * PAGE, odd_gpa = GPA_TEST + 7 * PAGE;
	static const char *const odd_name[] = { "owner", "address", "state", "permissions", "VMSA" };
	struct rmp_entry e;

	point("pre-guest");
	for (i = 0; i < 512; i++)
		rmpupdate(pa + i * PAGE, 1, 0, 1, g->asid, GPA_TEST + i * PAGE);
	CHECK_EQ(snp_unsmash(pa + 1), PSP_PARAM);
	CHECK_EQ(snp_unsmash(pa + PAGE), PSP_ADDRESS);
	CHECK_EQ(snp_reclaim(pa + 5 * PAGE, 0), PSP_SUCCESS);
	CHECK_EQ(snp_unsmash(pa), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate(pa + 5 * PAGE, 1, 0, 1, g->asid, GPA_TEST + 5 * PAGE), RMP_OK);
	CHECK_EQ(snp_unsmash(pa), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_PRE_GUEST);
	CHECK_EQ(rmp_state(pa + PAGE), ST_INNER);
	CHECK_EQ(snp_unsmash(pa), PSP_PAGE_STATE);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 1, LU_NORMAL), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	CHECK_EQ(psmash(pa), RMP_OK);
	CHECK_EQ(rmp_state(pa + PAGE), ST_GUEST_VALID);
	page_free_2m(pa);
	point("firmware");
	CHECK_EQ(page_alloc_2m(), pa);
	small_pages(pa, ST_FIRMWARE, g, 0);
	CHECK_EQ(snp_unsmash(pa), PSP_PAGE_STATE);
	page_free_2m(pa);
	point("guest-valid");
	CHECK_EQ(page_alloc_2m(), pa);
	small_pages(pa, ST_GUEST_VALID, g, GPA_TEST);
	CHECK_EQ(snp_unsmash(pa), PSP_PAGE_STATE);
	page_free_2m(pa);
	point("an address that isn't one of 2M");
	CHECK_EQ(page_alloc_2m(), pa);
	small_pages(pa, ST_PRE_GUEST, g, GPA_TEST + PAGE);
	CHECK_EQ(snp_unsmash(pa), PSP_PAGE_STATE);
	page_free_2m(pa);
	CHECK_EQ(page_alloc_2m(), pa);
	small_pages(pa, ST_PRE_SWAP, g, GPA_TEST);
	for (odd = 0; odd < ARRAY_SIZE(odd_name); odd++) {
		point("one of another %s", odd_name[odd]);
		CHECK(rmp_release(odd_pa, 0));
		CHECK_EQ(rmpupdate(odd_pa, 1, 0, 1, g->asid + (odd == 0), odd_gpa + PAGE * (odd == 1)), RMP_OK);
		if (odd != 2) {
			if (odd)
				CHECK_EQ(snp_launch_update_vmpl(g->ctx, odd_pa, 0, odd == 4 ? LU_VMSA : LU_NORMAL, odd == 3, 0, 0), PSP_SUCCESS);
			else
				CHECK_EQ(snp_reclaim(odd_pa, 0), PSP_SUCCESS);
			CHECK_EQ(rmpupdate(odd_pa, 1, 0, 1, g->asid + (odd == 0), odd_gpa + PAGE * (odd == 1)), RMP_OK);
		}
		CHECK_EQ(snp_unsmash(pa), PSP_PAGE_STATE);
		rmp_entry(pa, &e);
		CHECK_EQ(e.lo & RE_2M, 0);
	}
	point("pre-swap");
	CHECK(rmp_release(odd_pa, 0));
	CHECK_EQ(rmp_set(odd_pa, ST_PRE_SWAP, g, odd_gpa, 0), 0);
	CHECK_EQ(snp_unsmash(pa), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_PRE_SWAP);
	CHECK_EQ(rmp_state(odd_pa), ST_INNER);
	CHECK_EQ(snp_reclaim(pa, 1), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	page_free_2m(pa);
	guest_free(g);
}

TEST(psp_set_state)
{
	u64 pa = page_alloc_2m(), zero[2] = { 0 }, i;

	for (i = 0; i < 512; i++)
		CHECK_EQ(rmpupdate_firmware(pa + i * PAGE), RMP_OK);
	CHECK_EQ(psp(SNP_PAGE_SET_STATE, zero, 16), PSP_LENGTH);
	CHECK_EQ(snp_set_state(pa, 1), PSP_PARAM);
	CHECK_EQ(snp_reclaim(pa + PAGE, 0), PSP_SUCCESS);
	CHECK_EQ(snp_set_state(pa, 512), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_shared(pa + PAGE), RMP_OK);
	CHECK_EQ(rmpupdate_firmware(pa + PAGE), RMP_OK);
	CHECK_EQ(snp_set_state(pa, 512), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_HV_FIXED);
	CHECK_EQ(rmp_state(pa + 511 * PAGE), ST_HV_FIXED);
	write64(pa, 1);					/* still the hypervisor's */
	CHECK_EQ(rmpupdate_firmware(pa), RMP_FAIL_PERMISSION);
	/* for good: it isn't freed */
}

/* Every command with addresses that make no sense: nothing but status codes may come of it. */
TEST(psp_garbage)
{
	static const u64 addr[] = { 0, 1, ~0UL, 0xfffffffffffff000UL, 0xfed80000, 0xfee00000, 0xb8000, 0xffff0000, 0x7ffffff000UL,
				    0x8000000000000UL };
	static const u16 never[] = { SEV_SHUTDOWN, SNP_SHUTDOWN, SNP_SHUTDOWN_EX, SEV_INIT, 0x0d };
	u64 buf[8], seed = 12345, i, j, k;
	u64 fw = page_alloc();

	CHECK_EQ(rmpupdate_firmware(fw), RMP_OK);
	for (i = 0; i < 4000; i++) {
		u32 cmd, ret;

		seed = seed * 6364136223846793005UL + 1442695040888963407UL;
		cmd = seed >> 56;
		for (j = 0; j < ARRAY_SIZE(never) && never[j] != cmd; j++)
			;
		if (j < ARRAY_SIZE(never))
			continue;
		for (j = 0; j < 8; j++) {
			seed = seed * 6364136223846793005UL + 1442695040888963407UL;
			k = seed >> 60;
			buf[j] = k < ARRAY_SIZE(addr) ? addr[k] : k == 11 ? rmp_base : k == 12 ? fw : k == 13 ? 16 :
				 k == 14 ? seed >> 40 : 0;
		}
		ret = psp(cmd, buf, sizeof(buf));
		if (ret > 0x60) {
			FAIL("command %#x: %#x", cmd, ret);
			break;
		}
		if (rmp_state(fw) != ST_FIRMWARE) {
			rmp_release(fw, 0);
			rmpupdate_firmware(fw);
		}
	}
	page_free(fw);
	{
		u64 zero[8] = { 0 };

		CHECK_EQ(psp(SNP_CONFIG, zero, 64), PSP_SUCCESS);
	}
	for (i = 0; i < 256; i++) {
		for (j = 0; j < ARRAY_SIZE(never) && never[j] != i; j++)
			;
		if (j == ARRAY_SIZE(never))
			psp_raw(i, addr[i % ARRAY_SIZE(addr)]);
	}
}
