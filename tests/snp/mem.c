/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Page tables and page allocators. */
#include "snp.h"

/*
 * [1M, 2M)   the image
 * [2M, 32M)  sys_alloc(): never assigned, so that 2M mappings over it always work
 * [32M, ..)  and what is above 4G: page_alloc(), in units of 2M
 */
#define SYS_START	0x200000UL
#define SYS_END		0x2000000UL
#define LOW_START	0x2000000UL
#define ALIAS_2M	0x10000000000UL
#define ALIAS_1G	0x20000000000UL

u64 rmp_base, rmp_end, ram_end;
static u64 sys_next = SYS_START, sys_end = SYS_END;
static struct spinlock lock, pool_lock;
struct pool {
	u64 start, end, next, top;	/* [next, top): the 2M from which 4K pages come */
	u64 free, free_2m;		/* lists through the pages */
};
static struct pool low, high;

u64 sys_alloc(void)
{
	u64 pa;

	spin_lock(&lock);
	pa = sys_next;
	sys_next += PAGE;
	spin_unlock(&lock);
	if (pa >= sys_end) {
		printf("Bail out! sys_alloc: out of memory\n");
		end(1);
	}
	memset((void *)pa, 0, PAGE);
	return pa;
}

u64 sys_alloc_2m_aligned(void)
{
	sys_end -= SIZE_2M;
	if (sys_end < sys_next) {
		printf("Bail out! sys_alloc: out of memory\n");
		end(1);
	}
	memset((void *)sys_end, 0, SIZE_2M);
	return sys_end;
}

static int shift_of(int level)
{
	return 12 + 9 * (level - 1);
}

u64 *pte_of(u64 root, u64 va, int *level)
{
	u64 *table = (u64 *)root, *e;
	int l;

	for (l = 4;; l--) {
		e = &table[va >> shift_of(l) & 511];
		if (l == 1 || !(*e & PTE_P) || (l < 4 && *e & PTE_PS))
			break;
		table = (u64 *)(*e & PTE_ADDR & ~cbit_mask);
	}
	if (level)
		*level = l;
	return e;
}

u64 *pte_make(u64 root, u64 va, int level)
{
	u64 *table = (u64 *)root, *e, *sub;
	int l, i;

	for (l = 4;; l--) {
		e = &table[va >> shift_of(l) & 511];
		if (l == level)
			return e;
		if (!(*e & PTE_P)) {
			*e = sys_alloc() | PTE_P | PTE_W | PTE_U;
		} else if (l < 4 && *e & PTE_PS) {
			sub = (u64 *)sys_alloc();
			for (i = 0; i < 512; i++)
				sub[i] = (*e & (l == 2 ? ~PTE_PS : ~0UL)) + ((u64)i << shift_of(l - 1));
			*e = (u64)sub | PTE_P | PTE_W | PTE_U;
		}
		table = (u64 *)(*e & PTE_ADDR);
	}
}

static u64 root;

void flush_tlb(void)
{
	u64 cr4 = read_cr4();

	write_cr3(read_cr3());
	write_cr4(cr4 ^ BIT(7));	/* global pages, and whatever else */
	write_cr4(cr4);
}

void map(u64 va, u64 pa, int level, u64 flags)
{
	*pte_make(root, va, level) = pa | flags | PTE_P | (level > 1 ? PTE_PS : 0);
	invlpg(va);
}

/* By 2M where possible, without touching what is mapped. */
void map_range(u64 va, u64 pa, u64 size, u64 flags)
{
	u64 end = va + size;

	for (; va < end; va += PAGE, pa += PAGE) {
		if (!((va | pa) & (SIZE_2M - 1)) && end - va >= SIZE_2M && !(*pte_make(root, va, 2) & PTE_P)) {
			map(va, pa, 2, flags);
			va += SIZE_2M - PAGE;
			pa += SIZE_2M - PAGE;
		} else if (!(*pte_of(root, va, NULL) & PTE_P)) {
			map(va, pa, 1, flags);
		}
	}
}

void map_split(u64 va)
{
	pte_make(root, va, 1);
	flush_tlb();
}

u64 alias_2m(u64 pa)
{
	map(ALIAS_2M + (pa & ~(SIZE_2M - 1)), pa & ~(SIZE_2M - 1), 2, PTE_W);
	return ALIAS_2M + pa;
}

u64 alias_1g(u64 pa)
{
	map(ALIAS_1G + (pa & ~(SIZE_1G - 1)), pa & ~(SIZE_1G - 1), 3, PTE_W);
	return ALIAS_1G + pa;
}

static void add_ram(u64 start, u64 end)
{
	struct pool *p = start < 0x100000000UL ? &low : &high;

	if (p == &low && start < LOW_START)
		start = LOW_START;
	if (rmp_base && start <= rmp_end && end > rmp_base)
		end = start < rmp_base ? rmp_base : start;
	start = ALIGN_UP(start, SIZE_2M);
	end &= ~(SIZE_2M - 1);
	if (end <= start || end - start < p->end - p->start)
		return;		/* the largest range is enough */
	*p = (struct pool){ .start = start, .end = end, .next = start, .top = start };
}

void mem_init(void)
{
	u64 mb = multiboot_info, m, mend;
	struct fault f;

	f = FAULT(rmp_base = rdmsr(MSR_RMP_BASE); rmp_end = rdmsr(MSR_RMP_END));
	if (f.vector >= 0 || !(rmp_base >> 13) || !(rmp_end >> 13) || rmp_base > rmp_end)
		rmp_base = rmp_end = 0;
	if (!(read32(mb) & BIT(6))) {
		printf("Bail out! no memory map\n");
		end(1);
	}
	m = read32(mb + 48);
	mend = m + read32(mb + 44);
	for (u64 e = m; e < mend; e += read32(e) + 4)
		if (read32(e + 20) == 1)
			add_ram(read64(e + 4), read64(e + 4) + read64(e + 12));
	ram_end = high.end ? high.end : low.end;

	root = sys_alloc();
	map_range(0, 0, LOW_START, PTE_W);
	map_range(low.start, low.start, low.end - low.start, PTE_W);
	if (high.end)
		map_range(high.start, high.start, high.end - high.start, PTE_W);
	if (rmp_base)
		map_range(rmp_base, rmp_base, rmp_end + 1 - rmp_base, PTE_W);
	write_cr3(root);
}

bool in_ram(u64 pa)
{
	return (pa >= low.start && pa < low.end) || (pa >= high.start && pa < high.end);
}

static u64 pool_2m(struct pool *p)
{
	u64 pa = p->free_2m;

	if (pa) {
		p->free_2m = read64(pa);
		return pa;
	}
	if (p->next + SIZE_2M > p->end) {
		printf("Bail out! page_alloc: out of memory\n");
		end(1);
	}
	pa = p->next;
	p->next += SIZE_2M;
	pte_make(root, pa, 1);
	return pa;
}

static u64 pool_4k(struct pool *p)
{
	u64 pa = p->free;

	if (pa) {
		p->free = read64(pa);
		return pa;
	}
	if (!(p->top & (SIZE_2M - 1))) {
		p->top = pool_2m(p);
		p->top += PAGE;		/* the first one of 2M stays free: it would be special */
	}
	pa = p->top;
	p->top += PAGE;
	return pa;
}

static u64 from(u64 (*take)(struct pool *), struct pool *p, u64 size)
{
	u64 pa;

	spin_lock(&pool_lock);
	pa = take(p);
	spin_unlock(&pool_lock);
	memset((void *)pa, 0, size);
	return pa;
}

u64 page_alloc(void) { return from(pool_4k, high.end ? &high : &low, PAGE); }
u64 page_alloc_low(void) { return from(pool_4k, &low, PAGE); }
u64 page_alloc_2m(void) { return from(pool_2m, high.end ? &high : &low, SIZE_2M); }
u64 page_alloc_2m_low(void) { return from(pool_2m, &low, SIZE_2M); }

void page_free(u64 pa)
{
	struct pool *p = pa < 0x100000000UL ? &low : &high;

	if (!pa || !rmp_release(pa, 0))
		return;
	spin_lock(&pool_lock);
	write64(pa, p->free);
	p->free = pa;
	spin_unlock(&pool_lock);
}

void page_free_2m(u64 pa)
{
	struct pool *p = pa < 0x100000000UL ? &low : &high;

	if (!pa || !rmp_release(pa, 1))
		return;
	spin_lock(&pool_lock);
	write64(pa, p->free_2m);
	p->free_2m = pa;
	spin_unlock(&pool_lock);
}
