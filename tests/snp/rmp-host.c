/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Accesses of the host, and of guests that aren't SNP guests: APM volume 2, table 15-39 and 15.36.10. */
#include "snp.h"

#define PF_WRITE	(PF_RMP | PF_P | PF_W)

static void check_pf(struct fault f, u64 error, u64 va)
{
	CHECK_EQ(f.vector, VEC_PF);
	CHECK_EQ(f.error, error);
	CHECK_EQ(f.cr2, va);
}

TEST(rmp_host_sizes)
{
	u64 pa = page_alloc_2m(), a2 = alias_2m(pa), a1 = alias_1g(pa);
	struct fault f;

	point("4K: neighbours don't matter");
	CHECK_EQ(rmpupdate_firmware(pa + PAGE), RMP_OK);
	f = FAULT(write64(pa, 1));
	CHECK_EQ(f.vector, -1);
	check_pf(FAULT(write64(pa + PAGE + 16, 1)), PF_WRITE, pa + PAGE + 16);
	f = FAULT(read64(pa + PAGE));
	CHECK_EQ(f.vector, -1);
	point("2M: one assigned page locks all of them");
	check_pf(FAULT(write64(a2 + 0x1ff008, 1)), PF_WRITE, a2 + 0x1ff008);
	f = FAULT(read64(a2 + 0x1ff008));
	CHECK_EQ(f.vector, -1);
	point("1G counts as 2M");
	check_pf(FAULT(write64(a1 + 8, 1)), PF_WRITE, a1 + 8);
	f = FAULT(write64(a1 ^ SIZE_2M, read64(a1 ^ SIZE_2M)));
	CHECK_EQ(f.vector, -1);
	point("a write after a read through the same mapping");
	f = FAULT(read64(a2));
	CHECK_EQ(f.vector, -1);
	check_pf(FAULT(write64(a2, 1)), PF_WRITE, a2);
	point("released, at once");
	CHECK_EQ(snp_reclaim(pa + PAGE, 0), 0);
	check_pf(FAULT(write64(a2, 1)), PF_WRITE, a2);
	CHECK_EQ(rmpupdate_shared(pa + PAGE), RMP_OK);
	f = FAULT(write64(a2, 1); write64(a1 + 8, 1); write64(pa + PAGE, 1));
	CHECK_EQ(f.vector, -1);
	point("assigned, at once");
	CHECK_EQ(rmpupdate_firmware(pa + 511 * PAGE), RMP_OK);
	check_pf(FAULT(write64(a2, 1)), PF_WRITE, a2);
	check_pf(FAULT(write64(a1 + 8, 1)), PF_WRITE, a1 + 8);
	check_pf(FAULT(write64(pa + 511 * PAGE, 1)), PF_WRITE, pa + 511 * PAGE);
	point("a read-modify-write that writes nothing new");
	check_pf(FAULT(asm volatile("lock; orq $0, (%0)" :: "r"(pa + 511 * PAGE) : "memory", "cc")), PF_WRITE, pa + 511 * PAGE);
	point("an access that crosses into the page");
	check_pf(FAULT(write64(pa + 511 * PAGE - 4, 1)), PF_WRITE, pa + 511 * PAGE);
	point("instruction fetch");
	write8(pa + 510 * PAGE, 0xc3);
	CHECK_EQ(rmpupdate_firmware(pa + 510 * PAGE), RMP_OK);
	f = FAULT(exec(pa + 510 * PAGE));
	CHECK_EQ(f.vector, -1);
	page_free_2m(pa);
}

#define UNUSED_VA	0x30000000000UL

TEST(rmp_host_tables)
{
	u64 page = page_alloc(), table = page_alloc_2m(), *pde, old;
	struct fault f;

	write64(page, 0x4711);
	map(UNUSED_VA, page, 1, PTE_W);
	pde = pte_make(read_cr3(), UNUSED_VA, 2);
	old = *pde;
	memcpy((void *)table, (void *)(old & PTE_ADDR), PAGE);
	*pde = (old & ~PTE_ADDR) | table;
	flush_tlb();
	CHECK_EQ(read64(UNUSED_VA), 0x4711);

	point("a table that isn't the hypervisor's: read");
	CHECK_EQ(rmpupdate_firmware(table), RMP_OK);
	check_pf(FAULT(read64(UNUSED_VA)), PF_RMP | PF_P, UNUSED_VA);
	point("write");
	check_pf(FAULT(write64(UNUSED_VA, 1)), PF_WRITE, UNUSED_VA);
	point("fetch");
	check_pf(FAULT(exec(UNUSED_VA)), PF_RMP | PF_P | PF_ID, UNUSED_VA);
	point("given back");
	CHECK_EQ(snp_reclaim(table, 0), 0);
	CHECK_EQ(rmpupdate_shared(table), RMP_OK);
	f = FAULT(write64(UNUSED_VA, 2));
	CHECK_EQ(f.vector, -1);
	point("accessed and dirty bits: only the 4K page counts");
	CHECK_EQ(rmpupdate_firmware(table + PAGE), RMP_OK);
	*(u64 *)table &= ~(PTE_A | PTE_D);
	flush_tlb();
	f = FAULT(write64(UNUSED_VA, 3));
	CHECK_EQ(f.vector, -1);
	CHECK_EQ(read64(table) & (PTE_A | PTE_D), PTE_A | PTE_D);
	*pde = old;
	*pte_of(read_cr3(), UNUSED_VA, NULL) = 0;
	flush_tlb();
	page_free_2m(table);
	page_free(page);
}

#define NPF_WRITE	(NPF_P | NPF_W | NPF_U | NPF_RMP)

static u64 g_read2(u64 a, u64 b, u64 c)
{
	(void)c;
	return read64(a) + read64(b);
}

/* The private half of a plain guest is like any memory. */
static void not_snp(enum guest_kind kind)
{
	u64 enc = kind == GUEST_PLAIN ? 0 : NPF_ENC, pa, npt, *e, old;
	struct guest *g = guest_new(kind);

	pa = page_alloc_2m();
	npt_map(g, GPA_TEST, pa, 1, PTE_W);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 5, 0), 0);
	point("kind %d: write to an assigned page", kind);
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	CHECK_EXIT(gcall(g, g_write, GPA_TEST + 8, 5, 0), EXIT_NPF, NPF_WRITE | NPF_GPA | enc, GPA_TEST + 8);
	point("kind %d: the same, C=0", kind);
	CHECK_EXIT(gcall(g, g_write, GUEST_SHARED_VA(GPA_TEST), 5, 0), EXIT_NPF, NPF_WRITE | NPF_GPA, GPA_TEST);
	point("kind %d: read", kind);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 5);
	point("kind %d: 2M mapping with an assigned page", kind);
	npt_map(g, GPA_TEST, pa, 2, PTE_W);
	CHECK_EXIT(gcall(g, g_write, GPA_TEST + 8 * PAGE, 5, 0), EXIT_NPF, NPF_WRITE | NPF_GPA | enc, GPA_TEST + 8 * PAGE);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST + 8 * PAGE, 0, 0), 0);

	point("kind %d: the guest's page tables", kind);
	u64 tables = npt_pa(g, GPA_TABLES + 2 * PAGE), copy = page_alloc_2m();
	memcpy((void *)copy, (void *)tables, PAGE);
	npt_map(g, GPA_TABLES + 2 * PAGE, copy, 1, PTE_W);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 5);
	CHECK_EQ(rmpupdate_firmware(copy), RMP_OK);
	struct gres r = gcall_hold(g, g_read, GPA_TEST, 0, 0);
	CHECK_EQ(r.how, GR_EXIT);
	CHECK_EQ(r.code, EXIT_NPF);
	CHECK_EQ(r.info1, NPF_WRITE | NPF_GPT | enc);
	CHECK_EQ(r.info2 & ~(PAGE - 1), GPA_TABLES + 2 * PAGE);
	CHECK_EQ(snp_reclaim(copy, 0), 0);
	CHECK_EQ(rmpupdate_shared(copy), RMP_OK);
	if (kind >= GUEST_SEV)
		memcpy((void *)copy, (void *)tables, PAGE);
	CHECK_RETURNED(gresume(g), 5);

	point("kind %d: the nested page tables", kind);
	pte_make(g->npt, GPA_TEST + SIZE_2M, 1);
	npt = page_alloc();
	e = pte_make(g->npt, GPA_TEST + SIZE_2M, 2);
	old = *e;
	memcpy((void *)npt, (void *)(old & PTE_ADDR), PAGE);
	*e = (old & ~PTE_ADDR) | npt;
	u64 data = page_alloc();
	npt_map(g, GPA_TEST + SIZE_2M, data, 1, PTE_W);
	CHECK_RETURNED(gcall(g, g_read2, GPA_TEST, GPA_TEST + SIZE_2M, 0), 5);
	CHECK_EQ(rmpupdate_firmware(npt), RMP_OK);
	npt_flush(g);
	CHECK_EXIT(gcall(g, g_read, GPA_TEST + SIZE_2M, 0, 0), EXIT_NPF, NPF_P | NPF_U | NPF_RMP | NPF_GPA | enc, GPA_TEST + SIZE_2M);
	*e = old;
	npt_map(g, GPA_TABLES + 2 * PAGE, tables, 1, PTE_W);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 5);
	page_free(npt);
	page_free(data);
	page_free_2m(copy);
	page_free_2m(pa);
	guest_free(g);
}

TEST(rmp_not_snp)
{
	not_snp(GUEST_PLAIN);
	not_snp(GUEST_SEV);
	not_snp(GUEST_ES);
}

/* Only the 4K page of a guest's page table has to be the hypervisor's, whatever maps it. */
TEST(rmp_not_snp_tables_2m)
{
	struct guest *g = guest_new(GUEST_PLAIN);
	u64 pa = page_alloc_2m(), i;

	for (i = 0; i < 4; i++)
		memcpy((void *)(pa + i * PAGE), (void *)npt_pa(g, GPA_TABLES + i * PAGE), PAGE);
	for (i = 0; i < 512; i++)
		((u64 *)(pa + 2 * PAGE))[i] &= ~(PTE_A | PTE_D);
	CHECK_EQ(rmpupdate_firmware(pa + 100 * PAGE), RMP_OK);
	npt_map(g, GPA_TABLES & ~(SIZE_2M - 1), pa, 2, PTE_W);
	CHECK_RETURNED(gcall(g, g_read, GPA_TABLES, 0, 0), read64(pa));
	CHECK(((u64 *)(pa + 2 * PAGE))[GPA_TABLES >> 21] & PTE_A);
	CHECK_EXIT(gcall(g, g_write, GPA_TABLES + 9 * PAGE, 1, 0), EXIT_NPF, NPF_WRITE | NPF_GPA, GPA_TABLES + 9 * PAGE);
	page_free_2m(pa);
	guest_free(g);
}

/* Memory encryption: whoever hasn't the key sees something else, which RMPUPDATE doesn't change. */
TEST(rmp_ciphertext)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), seen, seen2;

	point("the host's view");
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0x1234, 0), 0);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + 8, 0x1234, 0), 0);
	seen = read64(pa);
	CHECK(seen != 0x1234);
	CHECK(read64(pa + 8) != 0x1234);
	CHECK(read64(pa + 8) != seen);
	CHECK_EQ(read64(pa), seen);
	CHECK_EQ(read64(alias_2m(pa)), seen);
	point("parts of it");
	CHECK_EQ(read8(pa + 3), (u8)(seen >> 24));
	CHECK_EQ(read32(pa + 4), seen >> 32);
	CHECK_EQ(read32(pa + 6), (u32)(seen >> 48 | read64(pa + 8) << 16));
	seen2 = read64(pa + 4);
	CHECK_EQ(seen2, seen >> 32 | read64(pa + 8) << 32);
	point("changes with the data");
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0x1235, 0), 0);
	CHECK(read64(pa) != seen);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0x1234, 0), 0);
	CHECK_EQ(read64(pa), seen);
	point("C=0");
	CHECK_RETURNED(gcall(g, g_read, GUEST_SHARED_VA(GPA_TEST), 0, 0), seen);
	point("after RMPUPDATE");
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	CHECK_EQ(read64(pa), seen);
	point("pre-guest: what the host has written");
	write64(pa, 0x4711);
	CHECK_EQ(rmpupdate(pa, 1, 0, 1, g->asid, GPA_TEST), RMP_OK);
	CHECK_EQ(read64(pa), 0x4711);
	page_free(pa);
	point("2M");
	pa = guest_page_2m(g, GPA_TEST, ST_GUEST_VALID);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + 5 * PAGE, 0x1234, 0), 0);
	seen = read64(pa + 5 * PAGE);
	CHECK(seen != 0x1234);
	CHECK_EQ(psmash(pa), RMP_OK);
	CHECK_EQ(read64(pa + 5 * PAGE), seen);
	page_free_2m(pa);
	guest_free(g);
}
