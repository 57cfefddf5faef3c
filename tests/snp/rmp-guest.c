/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Accesses of SNP guests, PVALIDATE and RMPADJUST: APM volume 2, 15.36.6, 15.36.7, 15.36.10, tables 15-39 and 15-40. */
#include "snp.h"

#define NPF_READ	(NPF_P | NPF_U | NPF_RMP | NPF_GPA)
#define NPF_WRITE	(NPF_READ | NPF_W)
#define NPF_FETCH	(NPF_READ | NPF_ID)
#define OTHER_VA	0x5000000UL

/* In the guest: maps 2M at va, through the private half of its tables. */
static u64 g_map_2m(u64 va, u64 gpa, u64 writable)
{
	*pte_of(read_cr3() & PTE_ADDR & ~cbit_mask, va, NULL) = gpa | PTE_P | (writable ? PTE_W : 0) | PTE_U | PTE_A | PTE_PS | cbit_mask;
	invlpg(va);
	return 0;
}

/* The same with a table of 4K pages, which lies at the page before. */
static u64 g_map_4k(u64 va, u64 gpa, u64 table)
{
	u64 i;

	for (i = 0; i < 512; i++)
		((u64 *)table)[i] = (gpa + i * PAGE) | PTE_P | PTE_W | PTE_U | cbit_mask;
	*pte_of(read_cr3() & PTE_ADDR & ~cbit_mask, va, NULL) = table | PTE_P | PTE_W | PTE_U | PTE_A | cbit_mask;
	invlpg(va);
	return 0;
}

TEST(rmp_guest_sizes)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page_2m(g, GPA_TEST, ST_GUEST_VALID), i;

	point("2M by 2M");
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + 5 * PAGE, 0x55, 0), 0);
	point("4K mapping of the first page of 2M");
	npt_map(g, GPA_TEST, pa, 1, PTE_W);
	CHECK_EXIT(gcall(g, g_read, GPA_TEST, 0, 0), EXIT_NPF, NPF_READ | NPF_ENC, GPA_TEST);
	point("4K mapping of another page of 2M");
	npt_map(g, GPA_TEST + 5 * PAGE, pa + 5 * PAGE, 1, PTE_W);
	CHECK_EXIT(gcall(g, g_read, GPA_TEST + 5 * PAGE, 0, 0), EXIT_NPF, NPF_READ | NPF_ENC, GPA_TEST + 5 * PAGE);
	point("... until it is split");
	CHECK_EQ(psmash(pa), RMP_OK);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST + 5 * PAGE, 0, 0), 0x55);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 1, 0), 0);
	point("2M mapping of 4K pages");
	npt_map(g, GPA_TEST, pa, 2, PTE_W);
	CHECK_EXIT(gcall(g, g_read, GPA_TEST, 0, 0), EXIT_NPF, NPF_READ | NPF_ENC, GPA_TEST);
	CHECK_EXIT(gcall(g, g_write, GPA_TEST + 5 * PAGE, 0, 0), EXIT_NPF, NPF_WRITE | NPF_ENC, GPA_TEST + 5 * PAGE);
	page_free_2m(pa);
	point("size and validated: the size comes first");
	pa = guest_page_2m(g, GPA_TEST, ST_GUEST_INVALID);
	CHECK_FAULT(gcall(g, g_read, GPA_TEST, 0, 0), VEC_VC, VC_NOT_VALIDATED, GPA_TEST);
	npt_map(g, GPA_TEST, pa, 1, PTE_W);
	CHECK_EXIT(gcall(g, g_read, GPA_TEST, 0, 0), EXIT_NPF, NPF_READ | NPF_ENC, GPA_TEST);
	page_free_2m(pa);
	point("C=0 write through 2M with one assigned page");
	pa = page_alloc_2m();
	npt_map(g, GPA_TEST, pa, 2, PTE_W);
	CHECK_RETURNED(gcall(g, g_write, GUEST_SHARED_VA(GPA_TEST), 1, 0), 0);
	CHECK_EQ(rmpupdate_firmware(pa + PAGE), RMP_OK);
	CHECK_EXIT(gcall(g, g_write, GUEST_SHARED_VA(GPA_TEST), 1, 0), EXIT_NPF, NPF_WRITE, GPA_TEST);
	CHECK_RETURNED(gcall(g, g_read, GUEST_SHARED_VA(GPA_TEST), 0, 0), 1);
	page_free_2m(pa);
	point("1G mapping over a 2M entry counts as 2M");
	pa = page_alloc_2m();
	i = pa & (SIZE_1G - 1) & ~(SIZE_2M - 1);
	/* GPA [1G, 2G) is not in use; its private address is given by the guest's own tables. */
	CHECK_EQ(rmpupdate(pa, 1, 1, 0, g->asid, SIZE_1G + i), RMP_OK);
	npt_map(g, SIZE_1G, pa & ~(SIZE_1G - 1), 3, PTE_W);
	gcall(g, g_map_2m, OTHER_VA & ~(SIZE_2M - 1), SIZE_1G + i, 1);
	CHECK_FAULT(gcall(g, g_read, OTHER_VA & ~(SIZE_2M - 1), 0, 0), VEC_VC, VC_NOT_VALIDATED, OTHER_VA & ~(SIZE_2M - 1));
	CHECK_RETURNED(gcall(g, g_pvalidate, OTHER_VA & ~(SIZE_2M - 1), 1, 1), 0);
	CHECK_RETURNED(gcall(g, g_write, OTHER_VA & ~(SIZE_2M - 1), 1, 0), 0);
	point("1G mapping of 4K pages");
	CHECK_EQ(psmash(pa), RMP_OK);
	CHECK_EXIT(gcall(g, g_read, OTHER_VA & ~(SIZE_2M - 1), 0, 0), EXIT_NPF, NPF_READ | NPF_ENC, SIZE_1G + i);
	page_free_2m(pa);
	guest_free(g);
}

TEST(rmp_guest_addresses)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), va = OTHER_VA & ~(SIZE_2M - 1);

	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0xc3, 0), 0);
	point("another GPA");
	npt_map(g, GPA_TEST + PAGE, pa, 1, PTE_W);
	CHECK_EXIT(gcall(g, g_read, GPA_TEST + PAGE, 0, 0), EXIT_NPF, NPF_READ | NPF_ENC, GPA_TEST + PAGE);
	point("... for PVALIDATE and RMPADJUST");
	CHECK_EXIT(gcall(g, g_pvalidate, GPA_TEST + PAGE, 0, 0), EXIT_NPF, NPF_WRITE | NPF_ENC, GPA_TEST + PAGE);
	CHECK_EXIT(gcall(g, g_rmpadjust, GPA_TEST + PAGE, 0, 1), EXIT_NPF, NPF_WRITE | NPF_ENC, GPA_TEST + PAGE);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	point("CR2 of #VC has the linear address");
	CHECK_RETURNED(gcall(g, g_map_2m, va, GPA_TEST, 1), 0);
	CHECK_RETURNED(gcall(g, g_read, va, 0, 0), 0xc3);
	CHECK_RETURNED(gcall(g, g_pvalidate, va, 0, 0), 0);
	CHECK_FAULT(gcall(g, g_write, va + 0x18, 0, 0), VEC_VC, VC_NOT_VALIDATED, va + 0x18);
	CHECK_FAULT(gcall(g, g_exec, va, 0, 0), VEC_VC, VC_NOT_VALIDATED, va);
	point("#VC, too, if a page table isn't validated");
	u64 table = guest_page(g, GPA_TEST + 2 * PAGE, ST_GUEST_VALID);
	CHECK_RETURNED(gcall(g, g_pvalidate, va, 0, 1), 0);
	CHECK_RETURNED(gcall(g, g_map_4k, va, GPA_TEST, GPA_TEST + 2 * PAGE), 0);
	CHECK_RETURNED(gcall(g, g_read, va, 0, 0), 0xc3);
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST + 2 * PAGE, 0, 0), 0);
	CHECK_FAULT(gcall(g, g_read, va, 0, 0), VEC_VC, VC_NOT_VALIDATED, va);
	point("PVALIDATE walks that table as well");
	CHECK_FAULT(gcall(g, g_pvalidate, va, 0, 1), VEC_VC, VC_NOT_VALIDATED, va);
	point("a page table that is shared in the RMP");
	CHECK_EQ(rmpupdate_shared(table), RMP_OK);
	struct gres r = gcall(g, g_read, va, 0, 0);
	CHECK_EQ(r.how, GR_EXIT);
	CHECK_EQ(r.code, EXIT_NPF);
	CHECK_EQ(r.info1, NPF_P | NPF_W | NPF_U | NPF_RMP | NPF_ENC | NPF_GPT);
	CHECK_EQ(r.info2 & ~(PAGE - 1), GPA_TEST + 2 * PAGE);
	page_free(table);
	page_free(pa);
	point("fetch from a page that is shared");
	pa = page_alloc();
	write8(pa, 0xc3);
	npt_map(g, GPA_TEST, pa, 1, PTE_W);
	CHECK_EXIT(gcall(g, g_exec, GUEST_SHARED_VA(GPA_TEST), 0, 0), EXIT_NPF, NPF_FETCH | NPF_ENC, GPA_TEST);
	point("... also after it was read");
	CHECK_RETURNED(gcall(g, g_read, GUEST_SHARED_VA(GPA_TEST), 0, 0), 0xc3);
	CHECK_EXIT(gcall(g, g_exec, GUEST_SHARED_VA(GPA_TEST), 0, 0), EXIT_NPF, NPF_FETCH | NPF_ENC, GPA_TEST);
	page_free(pa);
	point("fetch through C=0 from a page that is private");
	pa = guest_page(g, GPA_TEST, ST_GUEST_VALID);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0xc3, 0), 0);
	CHECK_RETURNED(gcall(g, g_exec, GUEST_SHARED_VA(GPA_TEST), 0, 0), 0);
	CHECK_EXIT(gcall(g, g_write, GUEST_SHARED_VA(GPA_TEST), 0, 0), EXIT_NPF, NPF_WRITE, GPA_TEST);
	page_free(pa);
	point("a page without an entry");
	u64 top = ALIGN_UP((rmp_end + 1 - rmp_base - 0x4000) / 16 * PAGE, SIZE_2M);
	npt_map(g, GPA_TEST, top, 1, PTE_W);
	CHECK_EXIT(gcall(g, g_read, GPA_TEST, 0, 0), EXIT_NPF, NPF_READ | NPF_ENC, GPA_TEST);
	point("ordinary #NPF before the RMP's");
	pa = guest_page(g, GPA_TEST, ST_GUEST_INVALID);
	npt_map(g, GPA_TEST, pa, 1, 0);
	CHECK_EXIT(gcall(g, g_write, GPA_TEST, 0, 0), EXIT_NPF, NPF_P | NPF_W | NPF_U | NPF_GPA | NPF_ENC, GPA_TEST);
	CHECK_FAULT(gcall(g, g_read, GPA_TEST, 0, 0), VEC_VC, VC_NOT_VALIDATED, GPA_TEST);
	page_free(pa);
	guest_free(g);
}

/* EAX | flags << 16, of those that arithmetic sets; all are set before. */
static u64 g_pvalidate_flags(u64 va, u64 size, u64 validate)
{
	u64 flags;

	asm volatile("pushq $0x8d7; popf; .byte 0xf2, 0x0f, 0x01, 0xff; pushf; pop %1"
		     : "+a"(va), "=r"(flags) : "c"(size), "d"(validate) : "memory", "cc");
	return va | (flags & 0x8d5) << 16;
}

TEST(rmp_pvalidate)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_INVALID), va = OTHER_VA & ~(SIZE_2M - 1);
	struct gres r;

	point("not aligned");
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST + 8, 0, 1), RMP_FAIL_INPUT);
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST + PAGE, 1, 1), RMP_FAIL_INPUT);
	point("no such size");
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 2, 1), RMP_FAIL_INPUT);
	point("2M asked, 4K there");
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 1, 1), RMP_FAIL_SIZEMISMATCH);
	CHECK_EQ(rmp_state(pa), ST_GUEST_INVALID);
	point("the guest has no mapping");
	CHECK_FAULT(gcall(g, g_pvalidate, 0x8000000000UL, 0, 1), VEC_GP, 0, 0);
	CHECK_FAULT(gcall(g, g_pvalidate, BIT(63), 0, 1), VEC_GP, 0, 0);
	point("not in the nested table");
	npt_unmap(g, GPA_TEST);
	r = gcall_hold(g, g_pvalidate, GPA_TEST, 0, 1);
	CHECK_EQ(r.how, GR_EXIT);
	CHECK_EQ(r.code, EXIT_NPF);
	CHECK_EQ(r.info1 & ~NPF_W, NPF_U | NPF_GPA | NPF_ENC);
	CHECK_EQ(r.info2, GPA_TEST);
	npt_map(g, GPA_TEST, pa, 1, PTE_W);
	CHECK_RETURNED(gresume(g), 0);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	point("carry");
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 1), 0x100);
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 0), 0);
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 0), 0x100);
	point("rescinded, at once");
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 1), 0);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 1, 0), 0);
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 0), 0);
	CHECK_FAULT(gcall(g, g_write, GPA_TEST, 1, 0), VEC_VC, VC_NOT_VALIDATED, GPA_TEST);
	point("permissions of the mapping don't matter");
	npt_map(g, GPA_TEST, pa, 1, PTE_W);
	CHECK_RETURNED(gcall(g, g_map_2m, va, GPA_TEST, 0), 0);
	CHECK_RETURNED(gcall(g, g_pvalidate, va, 0, 1), 0);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	point("the C-bit of the mapping doesn't matter (unproved)");
	CHECK_RETURNED(gcall(g, g_pvalidate, GUEST_SHARED_VA(GPA_TEST), 0, 0), 0);
	CHECK_EQ(rmp_state(pa), ST_GUEST_INVALID);
	CHECK_RETURNED(gcall(g, g_pvalidate, GUEST_SHARED_VA(GPA_TEST), 0, 1), 0);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	point("flags: ZF and PF as EAX is, no others but the carry (unproved)");
	CHECK_RETURNED(gcall(g, g_pvalidate_flags, GPA_TEST, 0, 1), (BIT(6) | BIT(2) | BIT(0)) << 16);
	CHECK_RETURNED(gcall(g, g_pvalidate_flags, GPA_TEST, 0, 0), (BIT(6) | BIT(2)) << 16);
	CHECK_RETURNED(gcall(g, g_pvalidate_flags, GPA_TEST, 2, 1), RMP_FAIL_INPUT);
	CHECK_EQ(rmp_state(pa), ST_GUEST_INVALID);
	page_free(pa);

	point("4K asked, 2M there");
	pa = guest_page_2m(g, GPA_TEST, ST_GUEST_INVALID);
	CHECK_EXIT(gcall_hold(g, g_pvalidate, GPA_TEST + 3 * PAGE, 0, 1), EXIT_NPF, NPF_WRITE | NPF_ENC | NPF_SIZEM, GPA_TEST + 3 * PAGE);
	point("... then it was split, and is mapped by 4K");
	CHECK_EQ(psmash(pa), RMP_OK);
	npt_map(g, GPA_TEST + 3 * PAGE, pa + 3 * PAGE, 1, PTE_W);
	CHECK_RETURNED(gresume(g), 0);
	CHECK_EQ(rmp_state(pa + 3 * PAGE), ST_GUEST_VALID);
	CHECK_EQ(rmp_state(pa + 2 * PAGE), ST_GUEST_INVALID);
	CHECK_EQ(rmp_state(pa), ST_GUEST_INVALID);
	point("4K asked, 4K there, mapped by 2M");
	npt_map(g, GPA_TEST, pa, 2, PTE_W);
	CHECK_EXIT(gcall(g, g_pvalidate, GPA_TEST, 0, 1), EXIT_NPF, NPF_WRITE | NPF_ENC | NPF_SIZEM, GPA_TEST);
	page_free_2m(pa);
	point("2M asked, 2M there, mapped by 4K");
	pa = guest_page_2m(g, GPA_TEST, ST_GUEST_INVALID);
	npt_map(g, GPA_TEST, pa, 1, PTE_W);
	CHECK_EXIT(gcall(g, g_pvalidate, GPA_TEST, 1, 1), EXIT_NPF, NPF_WRITE | NPF_ENC, GPA_TEST);
	point("2M");
	npt_map(g, GPA_TEST, pa, 2, PTE_W);
	CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 1, 1), 0);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + 511 * PAGE, 1, 0), 0);
	page_free_2m(pa);
	guest_free(g);
}

/* Real mode of a VMSA guest isn't needed for that: compatibility mode has no CS.L, either. */
extern char pvalidate32[];
asm(".pushsection .text\n"
    "pvalidate32: .code32\n"
    "	.byte 0xf2, 0x0f, 0x01, 0xff\n"
    "	lret\n"
    ".code64\n"
    ".popsection");

/* Calls code in compatibility mode, with these values in EAX, EBX, ECX and EDX; returns EAX. It may change EDI, too. */
static u64 call_32bit(const char *code, u64 a, u64 b, u64 c, u64 d)
{
	static u64 table[8];
	struct dtr old, idt, new = { sizeof(table) - 1, (u64)table };
	struct { u32 offset; u16 selector; } to = { (u64)code, 0x28 };

	get_dtrs(&old, &idt);
	memcpy(table, (void *)old.base, 5 * 8);
	table[5] = 0x00cf9b000000ffff;
	asm volatile("lgdt %0" :: "m"(new));
	asm volatile("lcall *%3" : "+a"(a), "+c"(c), "+d"(d) : "m"(to), "b"(b) : "rdi", "memory", "cc");
	asm volatile("lgdt %0" :: "m"(old));
	return (u32)a;
}

static u64 g_pvalidate32(u64 va, u64 size, u64 validate)
{
	return call_32bit(pvalidate32, va | BIT(40), 0, size, validate);	/* 32-bit code knows nothing of that bit */
}

TEST(rmp_pvalidate_32bit)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_INVALID);

	CHECK_RETURNED(gcall(g, g_pvalidate32, GPA_TEST, 0, 1), 0);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	page_free(pa);
	guest_free(g);
}

/*
 * Without paging there is no C-bit: everything is private (15.34.4). PVALIDATE of the page at EAX, a write to it, and a read at EBX; no
 * exception may happen, as there are no vectors for that mode.
 */
extern char unpaged[];
asm(".pushsection .text\n"
    "unpaged: .code32\n"
    "	pushl %edx\n"
    "	movl %cr0, %edx\n"
    "	andl $0x7fffffff, %edx\n"
    "	movl %edx, %cr0\n"
    "	movl (%esp), %edx\n"
    "	pushl %eax\n"
    "	.byte 0xf2, 0x0f, 0x01, 0xff\n"
    "	popl %edi\n"
    "	movl $0x12345678, (%edi)\n"
    "	addl (%ebx), %eax\n"
    "	movl %cr0, %edx\n"
    "	orl $0x80000000, %edx\n"
    "	movl %edx, %cr0\n"
    "	popl %edx\n"
    "	lret\n"
    ".code64\n"
    ".popsection");

static u64 g_unpaged(u64 gpa, u64 other, u64 c)
{
	(void)c;
	return call_32bit(unpaged, gpa, other, 0, 1);
}

/*
 * Out of long mode: a read at EBX, a write at EAX, with ECX as CR3 and EDX as CR4; back again. What was read. The C-bit of CR3
 * gets lost, which doesn't matter.
 */
extern char legacy_paging[];
asm(".pushsection .text\n"
    "legacy_paging: .code32\n"
    "	pushl %esi\n"
    "	pushl %eax\n"
    "	movl %ecx, %edi\n"
    "	movl %cr0, %esi\n"
    "	andl $0x7fffffff, %esi\n"
    "	movl %esi, %cr0\n"
    "	movl %cr3, %esi\n"
    "	pushl %esi\n"
    "	movl %cr4, %esi\n"
    "	pushl %esi\n"
    "	movl %edi, %cr3\n"
    "	movl %edx, %cr4\n"
    "	movl $0xc0000080, %ecx\n"
    "	rdmsr\n"
    "	andl $~0x100, %eax\n"		/* LME */
    "	wrmsr\n"
    "	movl %cr0, %esi\n"
    "	orl $0x80000000, %esi\n"
    "	movl %esi, %cr0\n"
    "	movl (%ebx), %edi\n"
    "	movl 8(%esp), %esi\n"
    "	movl $0x12345678, (%esi)\n"
    "	movl %cr0, %esi\n"
    "	andl $0x7fffffff, %esi\n"
    "	movl %esi, %cr0\n"
    "	popl %esi\n"
    "	movl %esi, %cr4\n"
    "	popl %esi\n"
    "	movl %esi, %cr3\n"
    "	rdmsr\n"
    "	orl $0x100, %eax\n"
    "	wrmsr\n"
    "	movl %cr0, %esi\n"
    "	orl $0x80000000, %esi\n"
    "	movl %esi, %cr0\n"
    "	popl %esi\n"
    "	popl %esi\n"
    "	movl %edi, %eax\n"
    "	lret\n"
    ".code64\n"
    ".popsection");

#define GPA_LEGACY	(GPA_TEST + 2 * PAGE)	/* page tables: 3 pages */

/* 4M pages: there is no C-bit. */
static u64 g_paging_32bit(u64 gpa, u64 other, u64 c)
{
	u64 i, cr3 = read_cr3(), v;

	(void)c;
	for (i = 0; i < 1024; i++)
		write32(GPA_LEGACY + 4 * i, i << 22 | PTE_P | PTE_W | PTE_PS);
	v = call_32bit(legacy_paging, gpa, other, GPA_LEGACY, 0x610);
	write_cr3(cr3);
	return v;
}

/* 2M pages: [0, 1G) private, [1G, 2G) the same shared */
static u64 g_paging_pae(u64 gpa, u64 other, u64 c)
{
	u64 i, cr3 = read_cr3(), v;

	(void)c;
	memset((void *)GPA_LEGACY, 0, PAGE);
	write64(GPA_LEGACY, (GPA_LEGACY + PAGE) | PTE_P);
	write64(GPA_LEGACY + 8, (GPA_LEGACY + 2 * PAGE) | PTE_P);
	for (i = 0; i < 512; i++) {
		write64(GPA_LEGACY + PAGE + 8 * i, i * SIZE_2M | PTE_P | PTE_W | PTE_PS | cbit_mask);
		write64(GPA_LEGACY + 2 * PAGE + 8 * i, i * SIZE_2M | PTE_P | PTE_W | PTE_PS);
	}
	v = call_32bit(legacy_paging, gpa, other, GPA_LEGACY, 0x620);
	write_cr3(cr3);
	return v;
}

static u64 g_read32(u64 va, u64 b, u64 c)
{
	(void)b, (void)c;
	return read32(va);
}

/* The code of @fn reads what is private only, and what it writes is. */
static void private_only(struct guest *g, const char *how, gfn fn, u64 pa, u64 other, u64 shared)
{
	npt_map(g, GPA_TEST + PAGE, shared, 1, PTE_W);
	point("%s: a shared page can't be read", how);
	CHECK_EXIT(gcall_hold(g, fn, GPA_TEST, GPA_TEST + PAGE, 0), EXIT_NPF, NPF_READ | NPF_ENC, GPA_TEST + PAGE);
	point("%s: a private one can be", how);
	npt_map(g, GPA_TEST + PAGE, other, 1, PTE_W);
	CHECK_RETURNED(gresume(g), 0x777);
	point("%s: what was written is private", how);
	CHECK_RETURNED(gcall(g, g_read32, GPA_TEST, 0, 0), 0x12345678);
	CHECK(read32(pa) != 0x12345678);
}

TEST(rmp_guest_no_paging)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_INVALID), other = guest_page(g, GPA_TEST + PAGE, ST_GUEST_VALID), shared = page_alloc();

	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + PAGE, 0x777, 0), 0);
	private_only(g, "no paging", g_unpaged, pa, other, shared);
	point("PVALIDATE without paging");
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	page_free(pa);
	page_free(other);
	page_free(shared);
	guest_free(g);
}

TEST(rmp_guest_legacy_paging)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), other = guest_page(g, GPA_TEST + PAGE, ST_GUEST_VALID), shared = page_alloc();
	u64 tables[3], i;

	for (i = 0; i < 3; i++)
		tables[i] = guest_page(g, GPA_LEGACY + i * PAGE, ST_GUEST_VALID);
	g->vcpu[0].vmcb->intercept3 &= ~BIT(INTERCEPT_MSR);	/* EFER */
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST + PAGE, 0x777, 0), 0);
	write32(shared, 0x555);
	private_only(g, "32-bit paging", g_paging_32bit, pa, other, shared);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0, 0), 0);
	private_only(g, "PAE, C=1", g_paging_pae, pa, other, shared);
	point("PAE, C=0: a shared page can be read");
	npt_map(g, GPA_TEST + PAGE, shared, 1, PTE_W);
	CHECK_RETURNED(gcall(g, g_paging_pae, GPA_TEST, GUEST_SHARED_VA(GPA_TEST + PAGE), 0), 0x555);
	CHECK_RETURNED(gcall(g, g_paging_pae, GUEST_SHARED_VA(GPA_TEST + PAGE), GUEST_SHARED_VA(GPA_TEST + PAGE), 0), 0x555);
	CHECK_EQ(read32(shared), 0x12345678);
	for (i = 0; i < 3; i++)
		page_free(tables[i]);
	page_free(pa);
	page_free(other);
	page_free(shared);
	guest_free(g);
}

TEST(rmp_rmpadjust)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), vmsa;
	struct rmp_entry e;

	point("target VMPL");
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 0 | 0xf << 8), RMP_FAIL_PERMISSION);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 4), RMP_FAIL_INPUT);		/* unproved */
	point("each VMPL has its own byte");
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1 | 1 << 8), RMP_OK);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 2 | 3 << 8), RMP_OK);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 3 | 9 << 8), RMP_OK);
	rmp_entry(pa, &e);
	CHECK_EQ(e.hi, 0x0903011f);
	point("SSS is stored");
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 3 | 0x19 << 8), RMP_OK);
	rmp_entry(pa, &e);
	CHECK_EQ(e.hi, 0x1903011f);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 3 | 9 << 8), RMP_OK);
	point("permissions that don't exist");
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1 | 0xff << 8), RMP_FAIL_PERMISSION);
	point("write without read can be asked for");
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1 | 2 << 8), RMP_OK);
	point("size, alignment, mapping");
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 2, 1), RMP_FAIL_INPUT);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST + 8, 0, 1), RMP_FAIL_INPUT);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 1, 1), RMP_FAIL_SIZEMISMATCH);
	CHECK_FAULT(gcall(g, g_rmpadjust, 0x8000000000UL, 0, 1), VEC_GP, 0, 0);
	point("VMSA");
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1 | BIT(16)), RMP_OK);
	rmp_entry(pa, &e);
	CHECK(e.lo & RE_VMSA);
	point("a VMSA that isn't in use can be written");
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0x99, 0), 0);
	CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1), RMP_OK);
	rmp_entry(pa, &e);
	CHECK(!(e.lo & RE_VMSA));
	CHECK_EQ(e.hi, 0x0903001f);
	point("one that runs keeps its bit");
	/* Its own: this maps the page where the VMSA's GPA can be reached. */
	vmsa = g->vcpu[0].vmsa;
	CHECK_RETURNED(gcall(g, g_map_2m, OTHER_VA & ~(SIZE_2M - 1), GPA_VMSA & ~(SIZE_2M - 1), 1), 0);
	npt_map(g, GPA_VMSA, vmsa, 1, PTE_W);
	CHECK_RETURNED(gcall(g, g_rmpadjust, OTHER_VA + SIZE_2M - PAGE - (OTHER_VA & (SIZE_2M - 1)), 0, 1), RMP_FAIL_INUSE);
	rmp_entry(vmsa, &e);
	CHECK(e.lo & RE_VMSA);
	page_free(pa);
	point("4K in 2M");
	pa = guest_page_2m(g, GPA_TEST, ST_GUEST_VALID);
	CHECK_EXIT(gcall(g, g_rmpadjust, GPA_TEST + PAGE, 0, 1), EXIT_NPF, NPF_WRITE | NPF_ENC | NPF_SIZEM, GPA_TEST + PAGE);
	page_free_2m(pa);
	guest_free(g);
}
