/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands of the firmware for guests: launch, digest, special pages, debugging. */
#include "snp.h"

#define POLICY_DEBUG	BIT(19)

static u64 guest_ctx(u64 policy, u32 asid)
{
	u64 ctx = page_alloc();
	u32 ret = rmp_set(ctx, ST_CONTEXT, NULL, 0, 0);

	if (!ret)
		ret = snp_launch_start(ctx, policy);
	if (!ret && asid) {
		ret = snp_activate(ctx, asid);
		if (ret == PSP_DFFLUSH) {
			snp_df_flush();
			ret = snp_activate(ctx, asid);
		}
	}
	CHECK_EQ(ret, PSP_SUCCESS);
	return ctx;
}

static u32 dbg(u32 cmd, u64 ctx, u64 src, u64 dst)
{
	struct { u64 ctx, src, dst; } d = { ctx, src, dst };

	return psp(cmd, &d, 24);
}

TEST(psp_gctx_create)
{
	u64 pa = page_alloc(), large = page_alloc_2m();

	CHECK_EQ(snp_gctx_create(pa), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	CHECK_EQ(snp_gctx_create(pa + 8), PSP_PARAM);
	CHECK_EQ(snp_gctx_create(rmp_base), PSP_PAGE_STATE);
	CHECK_EQ(snp_gctx_create(pa), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_CONTEXT);
	CHECK_EQ(snp_gctx_create(pa), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_shared(pa), RMP_FAIL_PERMISSION);
	CHECK_EQ(snp_decommission(pa + 8), PSP_PARAM);
	CHECK_EQ(snp_decommission(large), PSP_GUEST);
	CHECK_EQ(snp_decommission(pa), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_FIRMWARE);
	CHECK_EQ(rmpupdate(large, 1, 1, 1, 0, 0), RMP_OK);
	CHECK_EQ(snp_gctx_create(large), PSP_PAGE_SIZE);
	CHECK_EQ(snp_gctx_create(large + PAGE), PSP_PAGE_SIZE);
	page_free(pa);
	page_free_2m(large);
}

TEST(psp_launch_start)
{
	static const struct { u64 policy; u32 ret; } t[] = {
		{ BIT(16), PSP_POLICY },				/* bit 17 must be 1 */
		{ POLICY_DEFAULT | BIT(40), PSP_POLICY },
		{ POLICY_DEFAULT | BIT(63), PSP_POLICY },
		{ POLICY_DEFAULT | BIT(22), PSP_POLICY },		/* AES-256-XTS */
		{ POLICY_DEFAULT | BIT(24), PSP_POLICY },		/* ciphertext hiding */
		{ POLICY_DEFAULT | 0x0200, PSP_POLICY },		/* ABI 2.0 */
		{ POLICY_DEFAULT | 0x01ff, PSP_POLICY },
		{ POLICY_DEFAULT | 0x0133 | POLICY_DEBUG, PSP_SUCCESS },
	};
	struct { u64 ctx, policy, ma; u32 flags, khz; u8 gosvw[16]; } d = { .policy = POLICY_DEFAULT, .flags = 4 };
	u64 ctx = page_alloc();
	u32 i;

	CHECK_EQ(snp_launch_start(ctx, POLICY_DEFAULT), PSP_GUEST);
	CHECK_EQ(rmp_set(ctx, ST_CONTEXT, NULL, 0, 0), 0);
	CHECK_EQ(snp_activate(ctx, 1), PSP_GUEST_STATE);
	d.ctx = ctx;
	CHECK_EQ(psp(SNP_LAUNCH_START, &d, 48), PSP_PARAM);
	d.flags = 1;						/* a migration agent */
	CHECK_EQ(psp(SNP_LAUNCH_START, &d, 48), PSP_UNSUPPORTED);
	for (i = 0; i < ARRAY_SIZE(t); i++)
		if (!CHECK_EQ(snp_launch_start(ctx, t[i].policy), t[i].ret))
			note("policy %#lx", t[i].policy);
	CHECK_EQ(snp_launch_start(ctx, POLICY_DEFAULT), PSP_GUEST_STATE);
	page_free(ctx);
}

/* Of all entries of the MADT, also of processors that aren't there yet */
static u32 possible_cpus(void)
{
	u64 madt = acpi_table("APIC"), a, n = 0;

	for (a = madt + 44; madt && a < madt + read32(madt + 4); a += read8(a + 1))
		n += read8(a) == 0;
	return n;
}

/* What the policy wants of the machine. To see it refused: SMP=2,sockets=2,cores=1,threads=2,maxcpus=4 */
TEST(psp_policy_machine)
{
	u64 ctx = page_alloc();
	u32 core[4], socket[4], threads, sockets;

	cpuid(0xb, 0, core);
	cpuid(0xb, 1, socket);
	threads = core[1];
	sockets = possible_cpus() / socket[1];
	REQUIRE(threads && sockets);
	point("without SMT, of %u", threads);
	CHECK_EQ(rmp_set(ctx, ST_CONTEXT, NULL, 0, 0), 0);
	CHECK_EQ(snp_launch_start(ctx, POLICY_DEFAULT & ~BIT(16)), threads > 1 ? PSP_POLICY : PSP_SUCCESS);
	CHECK_EQ(snp_decommission(ctx), PSP_SUCCESS);
	CHECK_EQ(snp_gctx_create(ctx), PSP_SUCCESS);
	point("on one socket, of %u", sockets);
	CHECK_EQ(snp_launch_start(ctx, POLICY_DEFAULT | BIT(20)), PSP_SUCCESS);
	CHECK_EQ(snp_df_flush(), PSP_SUCCESS);
	CHECK_EQ(snp_activate(ctx, asid_alloc(GUEST_SNP)), sockets > 1 ? PSP_POLICY : PSP_SUCCESS);
	page_free(ctx);
}

TEST(psp_guest_status)
{
	u32 asid = asid_alloc(GUEST_SNP);
	u64 ctx = guest_ctx(POLICY_DEFAULT | POLICY_DEBUG, 0), pa = page_alloc();
	struct { u64 ctx, pa; } d = { ctx, pa };
	struct { u64 policy; u32 asid; u8 state; } *s = (void *)pa;
	struct { u64 ctx, id_block, id_auth, flags; u8 more[32]; } f = { 0 };

	CHECK_EQ(psp(SNP_GUEST_STATUS, &d, 16), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	CHECK_EQ(psp(SNP_GUEST_STATUS, &d, 16), PSP_SUCCESS);
	CHECK_EQ(s->policy, POLICY_DEFAULT | POLICY_DEBUG);
	CHECK_EQ(s->asid, 0);
	CHECK_EQ(s->state, 1);
	CHECK_EQ(snp_launch_finish(ctx), PSP_INACTIVE);
	CHECK_EQ(snp_launch_finish(pa), PSP_GUEST);
	f.ctx = ctx;
	f.flags = BIT(3);
	CHECK_EQ(psp(SNP_LAUNCH_FINISH, &f, 64), PSP_PARAM);
	f.flags = BIT(1);				/* an author's key without an ID block */
	CHECK_EQ(psp(SNP_LAUNCH_FINISH, &f, 64), PSP_PARAM);
	snp_df_flush();
	CHECK_EQ(snp_activate(ctx, asid), PSP_SUCCESS);
	CHECK_EQ(snp_launch_finish(ctx), PSP_SUCCESS);
	CHECK_EQ(psp(SNP_GUEST_STATUS, &d, 16), PSP_SUCCESS);
	CHECK_EQ(s->asid, asid);
	CHECK_EQ(s->state, 2);
	CHECK_EQ(snp_launch_finish(ctx), PSP_GUEST_STATE);
	d.pa = pa + PAGE - 8;
	CHECK_EQ(psp(SNP_GUEST_STATUS, &d, 16), PSP_PARAM);
	d.pa = pa;
	d.ctx = pa;
	CHECK_EQ(psp(SNP_GUEST_STATUS, &d, 16), PSP_GUEST);
	page_free(pa);
	page_free(ctx);
}

TEST(psp_launch_update_checks)
{
	static const int states[] = { ST_HYPERVISOR, ST_HV_FIXED, ST_RECLAIM, ST_FIRMWARE, ST_CONTEXT, ST_GUEST_INVALID,
				      ST_GUEST_VALID, ST_PRE_SWAP };
	struct guest *g = guest_new_raw(GUEST_SNP), *h = guest_new_raw(GUEST_SNP);
	struct { u64 ctx; u32 flags, rsvd; u64 pa; u32 vmpls, rsvd2; } d = { g->ctx, LU_NORMAL << 1, 0, 0, 0, 0 };
	u64 pa, ctx;
	struct rmp_entry e;
	u32 i;

	point("refused");
	for (i = 0; i < ARRAY_SIZE(states); i++) {
		pa = rmp_page(states[i], g, GPA_TEST, 0);
		if (!CHECK(pa))
			continue;
		if (!CHECK_EQ(snp_launch_update(g->ctx, pa, 0, LU_NORMAL), PSP_PAGE_STATE))
			note("page %s", rmp_state_name[states[i]]);
		CHECK_EQ(rmp_state(pa), states[i]);
		if (states[i] != ST_HV_FIXED)
			page_free(pa);
	}
	pa = rmp_page(ST_PRE_GUEST, g, GPA_TEST, 0);
	d.pa = pa;
	d.rsvd = 1;
	CHECK_EQ(psp(SNP_LAUNCH_UPDATE, &d, 32), PSP_PARAM);
	d.rsvd = 0, d.flags |= BIT(5);
	CHECK_EQ(psp(SNP_LAUNCH_UPDATE, &d, 32), PSP_PARAM);
	d.flags &= ~BIT(5), d.vmpls = 1;
	CHECK_EQ(psp(SNP_LAUNCH_UPDATE, &d, 32), PSP_PARAM);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 0, 0), PSP_PARAM);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 0, 7), PSP_PARAM);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 1, LU_NORMAL), PSP_PAGE_SIZE);
	CHECK_EQ(snp_launch_update(g->ctx + 8, pa, 0, LU_NORMAL), PSP_PARAM);
	CHECK_EQ(snp_launch_update(pa, pa, 0, LU_NORMAL), PSP_GUEST);
	CHECK_EQ(snp_launch_update(h->ctx, pa, 0, LU_NORMAL), PSP_PAGE_OWNER);
	ctx = guest_ctx(POLICY_DEFAULT, 0);
	CHECK_EQ(snp_launch_update(ctx, pa, 0, LU_NORMAL), PSP_INACTIVE);
	CHECK_EQ(rmp_state(pa), ST_PRE_GUEST);
	point("4K");

	CHECK_EQ(snp_launch_update_vmpl(g->ctx, pa, 0, LU_NORMAL, 1, 3, 7), PSP_SUCCESS);
	rmp_entry(pa, &e);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	CHECK_EQ(e.lo & RE_VMSA, 0);
	CHECK_EQ((u32)e.hi >> 8, 0x070301);
	CHECK_EQ((u8)e.hi & 0xf, 0xf);
	page_free(pa);
	pa = rmp_page(ST_PRE_GUEST, g, GPA_TEST, 0);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 0, LU_VMSA), PSP_SUCCESS);
	rmp_entry(pa, &e);
	CHECK_EQ(e.lo & (RE_VMSA | RE_VALIDATED | RE_IMMUTABLE), RE_VMSA | RE_VALIDATED);
	page_free(pa);
	point("2M");

	pa = rmp_page(ST_PRE_GUEST, g, GPA_TEST, 1);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 0, LU_NORMAL), PSP_PAGE_SIZE);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 1, LU_VMSA), PSP_PAGE_SIZE);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 1, LU_SECRETS), PSP_PAGE_SIZE);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 1, LU_CPUID), PSP_PAGE_SIZE);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 1, LU_ZERO), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	CHECK_EQ(rmp_state(pa + PAGE), ST_INNER);
	page_free_2m(pa);
	point("2M, an address inside of it");
	pa = rmp_page(ST_PRE_GUEST, g, GPA_TEST, 1);
	CHECK_EQ(snp_launch_update(g->ctx, pa + PAGE, 1, LU_NORMAL), PSP_ADDRESS);
	CHECK_EQ(snp_launch_update(g->ctx, pa + PAGE, 1, LU_VMSA), PSP_ADDRESS);
	CHECK_EQ(snp_launch_update(g->ctx, pa + PAGE, 1, 0), PSP_ADDRESS);
	CHECK_EQ(snp_launch_update(g->ctx, pa + PAGE, 0, LU_NORMAL), PSP_PAGE_SIZE);
	CHECK_EQ(rmp_state(pa), ST_PRE_GUEST);
	page_free_2m(pa);
	point("after LAUNCH_FINISH");

	pa = rmp_page(ST_PRE_GUEST, g, GPA_TEST, 0);
	CHECK_EQ(snp_launch_finish(g->ctx), PSP_SUCCESS);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 0, LU_NORMAL), PSP_GUEST_STATE);
	page_free(pa);
	page_free(ctx);
	guest_free(g);
	guest_free(h);
}

/* Launch digests by another implementation; a line without a digest starts anew. */
static const struct { int type; u64 gpa; u32 pages, seed; const char *digest; } vector[] = {
	{ 0, 0, 0, 0, "" },
	{ LU_NORMAL, 0x1000UL, 1, 0x1,
	  "432b9a795510fbf3c79647ee3af4147e697431e01873b0a7b4a4a68cd9f0d7e649c54bb70b84c23cc3a7c105bf9c8387" },
	{ 0, 0, 0, 0, "" },
	{ LU_NORMAL, 0x0UL, 3, 0x20,
	  "f179f2325f13c1cb93e4d9c8eb655210a0aacccb1a92c40873ec9ee352e2c9d43270efa91471a6128118e8b0f54c770e" },
	{ LU_ZERO, 0x10000UL, 2, 0x0,
	  "65cb79598a64b552880a84061243fda7bd7f59efcc576453d08ce7c78630f3fe1fa6df7a520c503ffd571b8746d3d708" },
	{ 0, 0, 0, 0, "" },
	{ LU_UNMEASURED, 0x200000UL, 2, 0x0,
	  "91ac7c28525e74e8911af0985052a2290a9966d84a57739d3e8770d648f0d1dd84c664d3b1d5c74d4014b843ab72208b" },
	{ LU_SECRETS, 0x80d000UL, 1, 0x0,
	  "43a80fd7a59df81372ebf1ccc3cff4ab5a51015a1cdcc9bdfdc1550a6629bd3d4d0808de30ca4e65a4c617d991dcc421" },
	{ LU_CPUID, 0x80e000UL, 1, 0x0,
	  "e6d6c206609ab54dcebf0d7116292bd828c905cabc46d39a618cb488e9541b5db10724ac197440ae6144d2fe8148b402" },
	{ LU_NORMAL, 0xffc00000UL, 4, 0x7f,
	  "f5f4138e3c292d9d2bb1e22161cbb2edc32cca69ae83754f985ca0a731a2623d6a071b2fd0b4336b031ede3a79c8cdb4" },
	{ LU_VMSA, GPA_VMSA, 1, 0xaa,
	  "fa39ef40d4e88be90ac49ba23dce706f817293318ff9dccb1242530db8da3e88885d09655b9bda568c691014b21d9f7a" },
	{ 0, 0, 0, 0, "" },
	{ LU_ZERO, 0x0UL, 1, 0x0,
	  "70c0ecaab9608f14ebf8ac6f0f07bcd8728f4e2ab30382b539b4de4de904ca9f8ebdf4b2cd3cd84dd996bd55dd794676" },
	{ LU_VMSA, GPA_VMSA, 1, 0x1,
	  "368453f2a091d4953e6cec6ab4d72fbf456b82058f78551779e90e0edef097cb7109fd00eb4f72e6e79457a120075c51" },
	{ LU_VMSA, GPA_VMSA, 1, 0x2,
	  "844c0063cecab327c147a55a97161bf805266aa91a72657b9806e1622cb324c9ae8bd67c5e4342d017eef83400960d8c" },
};

static u8 hex(const char *s)
{
	u32 i, v = 0;

	for (i = 0; i < 2; i++)
		v = v * 16 + (s[i] <= '9' ? s[i] - '0' : s[i] - 'a' + 10);
	return v;
}

/* The digest can be asked for by an ID block: BAD_MEASUREMENT if it's another one. */
static u32 finish_with_id_of(u64 ctx, const u8 *digest, u64 policy, u32 version, u32 algorithm)
{
	static u64 block;
	struct { u64 ctx, id_block, id_auth; u64 flags; u8 host_data[32]; } d = { .ctx = ctx, .flags = 1 };

	if (!block)
		block = page_alloc_low();
	memset((void *)block, 0, PAGE);
	memcpy((void *)block, digest, 48);
	write32(block + 0x50, version);
	write64(block + 0x58, policy);
	write32(block + 0x800, algorithm);
	d.id_block = block;
	d.id_auth = block + 0x800;
	return psp(SNP_LAUNCH_FINISH, &d, 64);
}

static u32 finish_with_id(u64 ctx, const u8 *digest, u64 policy)
{
	return finish_with_id_of(ctx, digest, policy, 1, 1);
}

TEST(psp_launch_digest)
{
	u64 ctx = 0, pa, i, p;
	u32 asid = 0;
	u8 digest[48], none[48] = { 0 };

	for (i = 0; i < ARRAY_SIZE(vector); i++) {
		if (!vector[i].type) {
			if (ctx)
				page_free(ctx);
			asid = asid_alloc(GUEST_SNP);
			ctx = guest_ctx(POLICY_DEFAULT, asid);
			CHECK_EQ(finish_with_id(ctx, none, 0), PSP_POLICY);
			continue;
		}
		point("type %d, %u pages", vector[i].type, vector[i].pages);
		for (p = 0; p < vector[i].pages; p++) {
			pa = page_alloc();
			memset((void *)pa, vector[i].type == LU_CPUID ? 0 : vector[i].seed + p, PAGE);
			CHECK_EQ(rmpupdate(pa, 1, 0, 1, asid, vector[i].gpa + p * PAGE), RMP_OK);
			CHECK_EQ(snp_launch_update(ctx, pa, 0, vector[i].type), PSP_SUCCESS);
			page_free(pa);
		}
		for (p = 0; p < 48; p++)
			digest[p] = hex(vector[i].digest + 2 * p);
		CHECK_EQ(finish_with_id(ctx, digest, 0), PSP_POLICY);
		CHECK_EQ(finish_with_id(ctx, digest, POLICY_DEFAULT), PSP_SIGNATURE);
		CHECK_EQ(finish_with_id_of(ctx, digest, POLICY_DEFAULT, 2, 1), PSP_PARAM);
		CHECK_EQ(finish_with_id_of(ctx, digest, POLICY_DEFAULT, 1, 2), PSP_PARAM);
		digest[47] ^= 1;
		CHECK_EQ(finish_with_id(ctx, digest, POLICY_DEFAULT), PSP_MEASUREMENT);
	}
	page_free(ctx);
}

/* ABI, table 70: of permissions there is no vector by others; this is SHA-384 of the bytes as the table has them. */
TEST(psp_launch_digest_vmpl)
{
	static const char want[] = "0dcf77ed83e0e6cd7567211c630770d335d1ccc4872141c68de2f35ca2a2acdabb6568836e531464b6fdf1b59adb9e15";
	u32 asid = asid_alloc(GUEST_SNP), i;
	u64 ctx = guest_ctx(POLICY_DEFAULT, asid), pa = page_alloc();
	u8 digest[48];

	memset((void *)pa, 0x11, PAGE);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, asid, 0x1000), RMP_OK);
	CHECK_EQ(snp_launch_update_vmpl(ctx, pa, 0, LU_NORMAL, 1, 3, 7), PSP_SUCCESS);
	for (i = 0; i < 48; i++)
		digest[i] = hex(want + 2 * i);
	CHECK_EQ(finish_with_id(ctx, digest, 0), PSP_POLICY);
	page_free(pa);
	page_free(ctx);
}

/* The same of the flag for initial migration images, which is in the secrets page, too. */
TEST(psp_launch_imi)
{
	static const char want[] = "b3e45515142ccb14ea8cc1f1df8f100067d4deb931fc68b5c5418cd5c53f0e013dd60e7e5af7aefadae742f6174c07a7";
	struct { u64 ctx, policy, ma; u32 flags, khz; u8 gosvw[16]; } d = { 0, POLICY_DEFAULT | POLICY_DEBUG, 0, 2, 0, { 0x5a, 0xa5 } };
	struct { u64 ctx; u32 flags, rsvd; u64 pa; u32 vmpls, rsvd2; } u = { 0, LU_NORMAL << 1 | BIT(4), 0, 0, 0, 0 };
	u32 asid = asid_alloc(GUEST_SNP), i, r[4];
	u64 other = guest_ctx(POLICY_DEFAULT, asid), ctx = page_alloc(), pa = page_alloc(), to = page_alloc();
	u8 digest[48];

	point("a guest without one");
	memset((void *)pa, 0x11, PAGE);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, asid, 0x1000), RMP_OK);
	u.ctx = other, u.pa = pa;
	CHECK_EQ(psp(SNP_LAUNCH_UPDATE, &u, 32), PSP_PARAM);
	CHECK_EQ(rmp_state(pa), ST_PRE_GUEST);
	page_free(pa);
	page_free(other);
	point("digest");
	CHECK_EQ(rmp_set(ctx, ST_CONTEXT, NULL, 0, 0), 0);
	d.ctx = u.ctx = ctx;
	CHECK_EQ(psp(SNP_LAUNCH_START, &d, 48), PSP_SUCCESS);
	CHECK_EQ(snp_activate(ctx, asid), PSP_SUCCESS);
	pa = page_alloc();
	memset((void *)pa, 0x11, PAGE);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, asid, 0x1000), RMP_OK);
	u.pa = pa;
	CHECK_EQ(psp(SNP_LAUNCH_UPDATE, &u, 32), PSP_SUCCESS);
	for (i = 0; i < 48; i++)
		digest[i] = hex(want + 2 * i);
	CHECK_EQ(finish_with_id(ctx, digest, 0), PSP_POLICY);
	page_free(pa);
	point("secrets page");
	pa = page_alloc();
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, asid, 0x2000), RMP_OK);
	CHECK_EQ(snp_launch_update(ctx, pa, 0, LU_SECRETS), PSP_SUCCESS);
	CHECK_EQ(rmpupdate_firmware(to), RMP_OK);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa, to), PSP_SUCCESS);
	cpuid(1, 0, r);
	CHECK_EQ(read32(to), 3);
	CHECK_EQ(read32(to + 4), 1);
	CHECK_EQ(read32(to + 8), r[0]);
	CHECK_EQ(read32(to + 12), 0);
	CHECK_EQ(read64(to + 16), 0xa55a);
	page_free(pa);
	page_free(to);
	page_free(ctx);
}

/* A large page counts as 512 small ones. */
TEST(psp_launch_digest_2m)
{
	u32 a = asid_alloc(GUEST_SNP), b = asid_alloc(GUEST_SNP);
	u64 small = guest_ctx(POLICY_DEFAULT, a), large = guest_ctx(POLICY_DEFAULT, b), pa = page_alloc_2m(), i;
	u8 none[48] = { 0 };

	for (i = 0; i < 512; i++)
		CHECK_EQ(rmpupdate(pa + i * PAGE, 1, 0, 1, a, i * PAGE), RMP_OK);
	for (i = 0; i < 512; i++)
		CHECK_EQ(snp_launch_update(small, pa + i * PAGE, 0, LU_ZERO), PSP_SUCCESS);
	page_free_2m(pa);
	pa = page_alloc_2m();
	CHECK_EQ(rmpupdate(pa, 1, 1, 1, b, 0), RMP_OK);
	CHECK_EQ(snp_launch_update(large, pa, 1, LU_ZERO), PSP_SUCCESS);
	page_free_2m(pa);
	for (i = 0; i < 2; i++) {
		static const u8 want[48] = {
			0xf3, 0x2e, 0x7c, 0xb5, 0x36, 0x06, 0x08, 0x1b, 0x39, 0xac, 0x09, 0x37, 0xce, 0xfb, 0x00, 0x35, 0xac, 0xc5,
			0x77, 0x43, 0x16, 0x5d, 0xc9, 0x27, 0xff, 0x32, 0xc0, 0x79, 0xde, 0x25, 0xe4, 0xb8, 0x0a, 0xe9, 0x55, 0x9a,
			0x2c, 0xe0, 0xa4, 0xa5, 0x2c, 0x38, 0x03, 0x35, 0xb0, 0xf9, 0x42, 0x3a
		};

		CHECK_EQ(finish_with_id(i ? large : small, none, 0), PSP_MEASUREMENT);
		CHECK_EQ(finish_with_id(i ? large : small, want, 0), PSP_POLICY);
	}
	page_free(small);
	page_free(large);
}

struct cpuid_fn { u32 eax_in, ecx_in; u64 xcr0, xss; u32 r[4]; u64 rsvd; };
struct cpuid_table { u32 count, rsvd; u64 rsvd2; struct cpuid_fn fn[64]; };

TEST(psp_cpuid_page)
{
	struct guest *g = guest_new_raw(GUEST_SNP);
	u64 pa = page_alloc(), old;
	struct cpuid_table *t = (void *)pa;
	struct rmp_entry e;

	point("refused");
	/* more than the processor has */
	t->count = 1;
	t->fn[0].eax_in = 0x80000008;
	cpuid(0x80000008, 0, t->fn[0].r);
	old = t->fn[0].r[1];
	t->fn[0].r[1] |= BIT(25);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 0, LU_CPUID), PSP_PARAM);
	CHECK_EQ(rmp_state(pa), ST_PRE_GUEST);
	CHECK_EQ(snp_reclaim(pa, 0), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_GUEST_INVALID);
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	CHECK_EQ(t->count, 1);
	CHECK_EQ(t->fn[0].eax_in, 0x80000008);
	CHECK_EQ(t->fn[0].r[1], old & ~BIT(25));	/* as it should have been */
	point("accepted");

	CHECK_EQ(rmpupdate(pa, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 0, LU_CPUID), PSP_SUCCESS);
	rmp_entry(pa, &e);
	CHECK_EQ(e.lo & (RE_VALIDATED | RE_IMMUTABLE), RE_VALIDATED);
	page_free(pa);

	pa = page_alloc();
	t = (void *)pa;
	t->count = 65;
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(snp_launch_update(g->ctx, pa, 0, LU_CPUID), PSP_PARAM);
	page_free(pa);
	guest_free(g);
}

TEST(psp_dbg)
{
	u32 asid = asid_alloc(GUEST_SNP);
	u64 ctx = guest_ctx(POLICY_DEFAULT | POLICY_DEBUG, asid), other = guest_ctx(POLICY_DEFAULT, asid_alloc(GUEST_SNP));
	u64 pa = page_alloc(), to = page_alloc(), from = page_alloc(), secrets = page_alloc(), i;

	point("states");
	write64(pa, 0x1234567812345678);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa, to), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, asid, GPA_TEST), RMP_OK);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa, to), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_firmware(to), RMP_OK);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa, to), PSP_SUCCESS);
	CHECK(read64(to) != 0x1234567812345678);	/* what the guest's key makes of it */
	write64(from, 0x8765432187654321);
	CHECK_EQ(dbg(SNP_DBG_ENCRYPT, ctx, from, pa), PSP_SUCCESS);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa, to), PSP_SUCCESS);
	CHECK_EQ(read64(to), 0x8765432187654321);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, other, pa, to), PSP_PAGE_OWNER);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa + 16, to), PSP_PARAM);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, to, pa, to), PSP_GUEST);
	CHECK_EQ(snp_reclaim(pa, 0), PSP_SUCCESS);
	CHECK_EQ(dbg(SNP_DBG_ENCRYPT, ctx, from, pa), PSP_PAGE_STATE);	/* guest-invalid */
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa, to), PSP_SUCCESS);
	point("contents");

	/* What launch put there: the plain data, a page of zeroes, and secrets */
	page_free(pa);
	pa = page_alloc();
	memset((void *)pa, 0x5a, PAGE);
	memset((void *)secrets, 0x5a, PAGE);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, asid, GPA_TEST), RMP_OK);
	CHECK_EQ(snp_launch_update(ctx, pa, 0, LU_UNMEASURED), PSP_SUCCESS);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa, to), PSP_SUCCESS);
	CHECK_EQ(read64(to), 0x5a5a5a5a5a5a5a5a);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, asid, GPA_TEST + PAGE), RMP_OK);
	CHECK_EQ(snp_launch_update(ctx, pa, 0, LU_ZERO), PSP_SUCCESS);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa, to), PSP_SUCCESS);
	for (i = 0; i < PAGE; i += 8)
		if (read64(to + i)) {
			FAIL("a zero page isn't zero at %#lx", i);
			break;
		}
	CHECK_EQ(rmpupdate(secrets, 1, 0, 1, asid, GPA_TEST + 2 * PAGE), RMP_OK);
	CHECK_EQ(snp_launch_update(ctx, secrets, 0, LU_SECRETS), PSP_SUCCESS);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, secrets, to), PSP_SUCCESS);
	CHECK_EQ(read32(to), 3);
	CHECK(read64(to + 0x20) && read64(to + 0x20) != 0x5a5a5a5a5a5a5a5a);
	CHECK_EQ(read64(to + 0xff8), 0);
	page_free(secrets);
	page_free(pa);
	point("4K of 2M");
	pa = page_alloc_2m();
	write64(pa + 3 * PAGE, 0x3333);
	CHECK_EQ(rmpupdate(pa, 1, 1, 1, asid, GPA_TEST), RMP_OK);
	CHECK_EQ(snp_launch_update(ctx, pa, 1, LU_UNMEASURED), PSP_SUCCESS);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, ctx, pa + 3 * PAGE, to), PSP_SUCCESS);
	CHECK_EQ(read64(to), 0x3333);
	page_free_2m(pa);
	page_free(to);
	point("refused");

	/* without the policy's consent, or an ASID */
	to = page_alloc();
	rmpupdate_firmware(to);
	pa = page_alloc();
	page_free(other);
	asid = asid_alloc(GUEST_SNP);
	other = guest_ctx(POLICY_DEFAULT, asid);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, asid, GPA_TEST), RMP_OK);
	CHECK_EQ(dbg(SNP_DBG_DECRYPT, other, pa, to), PSP_POLICY);
	page_free(pa);
	page_free(to);
	page_free(from);
	page_free(ctx);
	page_free(other);
}

/* ABI 5.3.9: legacy commands while SNP is initialized */
TEST(psp_legacy)
{
	struct { u32 handle, policy; u64 dh; u32 dh_len, rsvd; u64 session; u32 session_len; } s = { .policy = 0 };
	struct guest *g = guest_new_raw(GUEST_SEV);	/* makes sure of SEV INIT */
	u64 buf = page_alloc_low(), data = page_alloc(), copy = page_alloc();
	struct { u32 handle, rsvd; u64 pa; u32 len; } u = { 0, 0, data, PAGE }, m;
	struct { u32 handle, asid; } a;
	u32 asid = asid_alloc(GUEST_SEV);
	struct { u32 handle, policy, asid; u8 state; } st = { 0 };

	point("command buffer");
	/* the buffer that is written to */
	CHECK_EQ(psp_raw(SEV_PLATFORM_STATUS, buf), PSP_PAGE_STATE + 64);
	CHECK_EQ(rmpupdate_firmware(buf), RMP_OK);
	CHECK_EQ(psp_raw(SEV_PLATFORM_STATUS, buf), PSP_SUCCESS);
	CHECK_EQ(rmp_state(buf), ST_RECLAIM);
	CHECK_EQ(read8(buf + 2), 2);			/* WORKING */
	CHECK_EQ(rmpupdate_shared(buf), RMP_OK);

	CHECK_EQ(sev(SEV_LAUNCH_START, &s, 36), PSP_SUCCESS);
	u.handle = a.handle = st.handle = s.handle;
	a.asid = asid;
	CHECK_EQ(psp(SEV_LAUNCH_UPDATE_DATA, &u, 20), PSP_INACTIVE);
	a.asid = 1;
	CHECK_EQ(psp(SEV_ACTIVATE, &a, 8), PSP_ASID);	/* not an SEV-ES guest */
	a.asid = g->asid;
	CHECK_EQ(psp(SEV_ACTIVATE, &a, 8), PSP_ASID_OWNED);
	a.asid = asid;
	if (psp(SEV_ACTIVATE, &a, 8) == PSP_DFFLUSH) {
		snp_df_flush();
		CHECK_EQ(psp(SEV_ACTIVATE, &a, 8), PSP_SUCCESS);
	}
	CHECK_EQ(psp(SEV_ACTIVATE, &a, 8), PSP_ACTIVE);
	CHECK_EQ(psp(SEV_LAUNCH_UPDATE_DATA, &u, 20), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_firmware(data), RMP_OK);
	CHECK_EQ(psp(SEV_LAUNCH_UPDATE_DATA, &u, 20), PSP_SUCCESS);
	u.len = 8;
	CHECK_EQ(psp(SEV_LAUNCH_UPDATE_DATA, &u, 20), PSP_LENGTH);
	u.len = ~15U;
	CHECK_EQ(psp(SEV_LAUNCH_UPDATE_DATA, &u, 20), PSP_PAGE_STATE);
	u.len = 16, u.pa = data + 8;
	CHECK_EQ(psp(SEV_LAUNCH_UPDATE_DATA, &u, 20), PSP_ADDRESS);
	CHECK_EQ(psp(SEV_LAUNCH_FINISH, &a, 4), PSP_GUEST_STATE);
	m = u;
	m.pa = data, m.len = 0;
	CHECK_EQ(sev(SEV_LAUNCH_MEASURE, &m, 20), PSP_LENGTH);
	CHECK_EQ(m.len, 48);
	CHECK_EQ(sev(SEV_LAUNCH_MEASURE, &m, 20), PSP_SUCCESS);
	CHECK_EQ(sev(SEV_GUEST_STATUS, &st, 13), PSP_SUCCESS);
	CHECK_EQ(st.state, 2);
	CHECK_EQ(st.asid, asid);
	CHECK_EQ(psp(SEV_LAUNCH_FINISH, &a, 4), PSP_SUCCESS);
	CHECK_EQ(psp(SEV_LAUNCH_UPDATE_DATA, &u, 20), PSP_GUEST_STATE);
	point("DBG_DECRYPT");
	struct { u32 handle, rsvd; u64 src, dst; u32 len; } dbg = { a.handle, 0, data, copy, 16 };
	CHECK_EQ(psp(SEV_DBG_DECRYPT, &dbg, 28), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_firmware(copy), RMP_OK);
	CHECK_EQ(psp(SEV_DBG_DECRYPT, &dbg, 28), PSP_SUCCESS);
	CHECK_EQ(read64(copy), read64(data));
	page_free(copy);
	point("LAUNCH_UPDATE_VMSA");
	copy = page_alloc();
	s.policy = 4, s.handle = 0;
	CHECK_EQ(sev(SEV_LAUNCH_START, &s, 36), PSP_SUCCESS);
	a.handle = s.handle, a.asid = asid_alloc(GUEST_ES);
	CHECK_EQ(snp_df_flush(), PSP_SUCCESS);
	CHECK_EQ(psp(SEV_ACTIVATE, &a, 8), PSP_SUCCESS);
	u = (typeof(u)){ a.handle, 0, copy, PAGE };
	CHECK_EQ(psp(SEV_LAUNCH_UPDATE_VMSA, &u, 20), PSP_PAGE_STATE);
	CHECK_EQ(rmpupdate_firmware(copy), RMP_OK);
	CHECK_EQ(psp(SEV_LAUNCH_UPDATE_VMSA, &u, 20), PSP_SUCCESS);
	CHECK_EQ(psp(SEV_DEACTIVATE, &a, 4), PSP_SUCCESS);
	CHECK_EQ(psp(SEV_DECOMMISSION, &a, 4), PSP_SUCCESS);
	page_free(copy);
	a.handle = dbg.handle;
	point("end");
	CHECK_EQ(psp(SEV_DECOMMISSION, &a, 4), PSP_ACTIVE);
	CHECK_EQ(psp(SEV_DEACTIVATE, &a, 4), PSP_SUCCESS);
	CHECK_EQ(psp(SEV_DECOMMISSION, &a, 4), PSP_SUCCESS);
	CHECK_EQ(psp(SEV_DECOMMISSION, &a, 4), PSP_GUEST);
	page_free(data);
	page_free(buf);
	guest_free(g);
}

static void inject(u32 what, u32 id, u32 result, u32 count, u64 page)
{
	u64 r = psp_bar + 0xff000;

	write32(r + 4, id);
	write32(r + 8, result);
	write32(r + 12, count);
	write32(r + 16, page);
	write32(r + 20, page >> 32);
	write32(r + 24, what);
	CHECK_EQ(read32(r + 32), 0);
}

/* Needs -global amd-psp.inject=on. */
TEST(psp_inject)
{
	u64 pa = page_alloc(), other = page_alloc();

	if (read32(psp_bar + 0xff000) != 0x31464e49)
		skip("no failure injection: -global amd-psp.inject=on");
	inject(1, SNP_PAGE_RECLAIM, 0x1a, 2, 0);
	inject(3, 0, RMP_FAIL_INUSE, 1, pa);
	inject(2, 0, RMP_FAIL_OVERLAP, 3, 0);
	CHECK_EQ(read32(psp_bar + 0xff01c), 1 | 2 << 16);
	CHECK_EQ(rmpupdate_firmware(other), RMP_OK);
	CHECK_EQ(rmpupdate_firmware(pa), RMP_FAIL_INUSE);
	CHECK_EQ(rmp_state(pa), ST_HYPERVISOR);
	CHECK_EQ(rmpupdate_firmware(pa), RMP_FAIL_OVERLAP);
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	CHECK_EQ(snp_reclaim(pa, 0), PSP_SUCCESS);
	CHECK_EQ(snp_reclaim(other, 0), PSP_PAGE_STATE);
	CHECK_EQ(rmp_state(other), ST_FIRMWARE);
	CHECK_EQ(snp_reclaim(other, 0), PSP_SUCCESS);
	CHECK_EQ(read32(psp_bar + 0xff01c), 0);
	inject(1, SNP_PAGE_RECLAIM, 0x1a, 1, 0);
	inject(4, 0, 0, 0, 0);
	CHECK_EQ(snp_reclaim(other, 0), PSP_SUCCESS);
	write32(psp_bar + 0xff018, 9);
	CHECK_EQ(read32(psp_bar + 0xff020), 1);
	page_free(pa);
	page_free(other);
}
