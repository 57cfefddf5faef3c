/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Of what the other tests use: that it works. */
#include "snp.h"

TEST_EARLY(a_faults)
{
	struct fault f = FAULT(read64(0x8000000000UL));

	CHECK_EQ(f.vector, VEC_PF);
	CHECK_EQ(f.error, 0);
	CHECK_EQ(f.cr2, 0x8000000000UL);
	f = FAULT(asm volatile("ud2"));
	CHECK_EQ(f.vector, VEC_UD);
	f = FAULT(rdmsr(0xc0010fff));
	CHECK(f.vector == -1 || f.vector == VEC_GP);
	f = FAULT(write64(0x8000000000000000UL, 1));
	CHECK_EQ(f.vector, VEC_GP);
	f = FAULT(pause());
	CHECK_EQ(f.vector, -1);
}

static void set_flag(void *arg)
{
	*(volatile u64 *)arg = this_cpu()->cpu + 1;
}

TEST_EARLY(a_smp)
{
	volatile u64 flag;
	int i;

	REQUIRE(ncpus >= 2);
	for (i = 0; i < ncpus; i++) {
		flag = 0;
		on_cpu(i, set_flag, (void *)&flag);
		CHECK_EQ(flag, i + 1);
	}
}

TEST_EARLY(a_memory)
{
	u64 p = page_alloc(), q = page_alloc_low(), a;
	int level;

	CHECK(p >= 0x100000000UL);
	CHECK(q < 0x100000000UL);
	write64(p, 0x1234);
	a = alias_2m(p);
	CHECK_EQ(read64(a), 0x1234);
	CHECK_EQ(read64(alias_1g(p)), 0x1234);
	pte_of(read_cr3(), a, &level);
	CHECK_EQ(level, 2);
	pte_of(read_cr3(), p, &level);
	CHECK_EQ(level, 1);
	page_free(p);
	page_free(q);
}

TEST(a_snp_up)
{
	CHECK(rdmsr(MSR_SYSCFG) & SYSCFG_SNP_EN);
	CHECK_EQ(rmp_state(rmp_base & ~(PAGE - 1)), ST_FIRMWARE);
}

static u64 add(u64 a, u64 b, u64 c)
{
	return a + 2 * b + 4 * c;
}

static u64 catches(u64 a, u64 b, u64 c)
{
	struct fault f = FAULT(asm volatile("ud2"));

	(void)a, (void)b, (void)c;
	return f.vector;
}

static u64 prints(u64 a, u64 b, u64 c)
{
	(void)b, (void)c;
	printf("hello %lu\n", a);
	guest_exit(a + 1);
	return a;
}

static void guest_works(enum guest_kind kind)
{
	struct guest *g = guest_new(kind);
	struct gres r;

	CHECK_RETURNED(gcall(g, add, 1, 2, 3), 17);
	CHECK_RETURNED(gcall(g, catches, 0, 0, 0), VEC_UD);
	CHECK_FAULT(gcall(g, g_read, 0x8000000000UL, 0, 0), VEC_PF, 0, 0x8000000000UL);
	r = gcall(g, prints, 7, 0, 0);
	CHECK_EQ(r.how, GR_HCALL);
	CHECK_EQ(r.value, 8);
	CHECK_RETURNED(gresume(g), 7);
	r = gcall(g, g_read, GPA_TEST, 0, 0);
	CHECK_EQ(r.how, GR_EXIT);
	CHECK_EQ(r.code, EXIT_NPF);
	CHECK_EQ(r.info2, GPA_TEST);
	if (kind != GUEST_PLAIN)
		CHECK_EQ(r.info1 & ~NPF_ENC, NPF_GPA | NPF_U);
	CHECK_RETURNED(gcall(g, add, 1, 2, 3), 17);
	if (kind != GUEST_PLAIN)
		CHECK_RETURNED(gcall(g, g_rdmsr, MSR_SEV_STATUS, 0, 0), (1 << kind) - 1);
	guest_free(g);
}

TEST(a_guest_snp) { guest_works(GUEST_SNP); }
TEST(a_guest_es) { guest_works(GUEST_ES); }
TEST(a_guest_sev) { guest_works(GUEST_SEV); }
TEST(a_guest_plain) { guest_works(GUEST_PLAIN); }
