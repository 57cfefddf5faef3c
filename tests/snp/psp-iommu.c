/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes of a device to memory of every kind. Needs a device that does DMA, EDU. */
#include "snp.h"

#define IOMMU		0xfed80000UL
#define R_DEV_TABLE	0x00
#define R_EVENT_BASE	0x10
#define R_CONTROL	0x18
#define R_EVENT_HEAD	0x2010
#define R_EVENT_TAIL	0x2018
#define R_STATUS	0x2020

static u64 edu, events, devtab;
static u32 edu_id;

static void setup(void)
{
	u32 i;

	for (i = 0; !edu && i < 32; i++)
		if (pci_read(i << 3, 0) == 0x11e81234) {
			edu_id = i << 3;
			edu = pci_read(edu_id, 0x10) & ~0xfU;
			pci_write(edu_id, 4, pci_read(edu_id, 4) | 6);
			map_range(edu, edu, 0x100000, PTE_W | BIT(4));
		}
	if (!edu)
		skip("no DMA device");
	map_range(IOMMU, IOMMU, 0x4000, PTE_W | BIT(4));
	if (!devtab) {
		devtab = page_alloc_2m_low();
		events = page_alloc_low();	/* becomes the IOMMU's with the next SNP_INIT */
	}
	memset((void *)devtab, 0, SIZE_2M);	/* no device is translated */
	write64(IOMMU + R_DEV_TABLE, devtab | 0x1ff);
	write64(IOMMU + R_EVENT_BASE, events | 8UL << 56);
	write64(IOMMU + R_EVENT_HEAD, 0);
	write64(IOMMU + R_EVENT_TAIL, 0);
	write64(IOMMU + R_CONTROL, 1 | BIT(2));
}

/* The device's buffer is at 0x40000 of its own address space. One access at a time: each has its event. */
static void dma(u64 src, u64 dst, u64 n, u64 cmd)
{
	write64(edu + 0x80, src);
	write64(edu + 0x88, dst);
	write64(edu + 0x90, n);
	write64(edu + 0x98, cmd | 1);
	while (read64(edu + 0x98) & 1)
		pause();
}

static void dma_read(u64 pa) { dma(pa, 0x40000, 4, 0); }
static void dma_write(u64 pa) { dma(0x40000, pa, 4, 2); }

static u64 take_event(u64 *addr)
{
	u64 head = read64(IOMMU + R_EVENT_HEAD), evt;

	*addr = 0;
	if (head == read64(IOMMU + R_EVENT_TAIL))
		return 0;
	evt = read64(events + head);
	*addr = read64(events + head + 8);
	write64(IOMMU + R_EVENT_HEAD, (head + 16) & 0xfff);
	return evt;
}

TEST(psp_dma)
{
	static const struct { int state; bool ok; } t[] = {
		{ ST_HYPERVISOR, 1 }, { ST_HV_FIXED, 1 }, { ST_RECLAIM, 0 }, { ST_FIRMWARE, 0 }, { ST_CONTEXT, 0 }, { ST_PRE_GUEST, 0 },
		{ ST_GUEST_INVALID, 0 }, { ST_GUEST_VALID, 0 }, { ST_PRE_SWAP, 0 },
	};
	struct guest *g;
	u64 src = page_alloc_low(), copy = page_alloc_low(), pa, was, addr, evt, i;

	setup();
	g = guest_new_raw(GUEST_SNP);
	write64(src, 0x1111222233334444);
	dma_read(src);
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		point("%s", rmp_state_name[t[i].state]);
		pa = rmp_page(t[i].state, g, GPA_TEST, 0);
		if (!CHECK(pa))
			continue;
		was = read64(pa);
		dma_write(pa);
		evt = take_event(&addr);
		if (t[i].ok) {
			CHECK_EQ(read32(pa), 0x33334444);
			CHECK_EQ(evt, 0);
		} else {
			CHECK_EQ(read64(pa), was);
			CHECK_EQ(evt >> 60, 0xd);
			CHECK_EQ(evt & 0xffff, edu_id);
			CHECK_EQ(addr, pa);
			/* Reads are free, but the device has no key either. */
			dma_read(pa);
			CHECK_EQ(take_event(&addr), 0);
			dma_write(copy);
			CHECK_EQ(read32(copy), (u32)was);
			dma_read(src);
		}
		if (t[i].state != ST_HV_FIXED)
			page_free(pa);
	}
	guest_free(g);
	page_free(src);
	page_free(copy);
	write64(IOMMU + R_CONTROL, 0);
}

/* Through a large mapping, all of it has to be the hypervisor's. */
TEST(psp_dma_large)
{
	u64 l3 = sys_alloc(), l2 = sys_alloc(), pa = page_alloc_2m(), addr, ir_iw = BIT(61) | BIT(62);
	u64 *dte;

	setup();
	dte = (void *)(devtab + edu_id * 32UL);
	write64(l2 + 5 * 8, pa | 1 | ir_iw);
	write64(l3, l2 | 1 | 2UL << 9 | ir_iw);
	dte[1] = 1;
	dte[0] = l3 | 3UL << 9 | 3 | ir_iw;
	write64(pa + 8 * PAGE, 0x5555);
	dma_read(5 * SIZE_2M + 8 * PAGE);
	dma_write(5 * SIZE_2M);
	CHECK_EQ(read64(pa), 0x5555);
	CHECK_EQ(take_event(&addr), 0);
	CHECK_EQ(rmpupdate_firmware(pa + 77 * PAGE), RMP_OK);
	dma_write(5 * SIZE_2M + PAGE);
	CHECK_EQ(read64(pa + PAGE), 0);
	CHECK_EQ(take_event(&addr) >> 60, 0xd);
	CHECK_EQ(addr, 5 * SIZE_2M + PAGE);
	CHECK(rmp_release(pa + 77 * PAGE, 0));
	dma_write(5 * SIZE_2M + PAGE);
	CHECK_EQ(read64(pa + PAGE), 0x5555);
	page_free_2m(pa);
	write64(IOMMU + R_CONTROL, 0);
}

/*
 * Where nothing is mapped, or not for writing, an event says so; and the status, which says that there are events, can
 * be cleared. The addresses are those of no other test, as the IOMMU's TLB isn't flushed.
 */
TEST(psp_dma_fault)
{
	u64 l3 = sys_alloc(), l2 = sys_alloc(), pa = page_alloc_2m(), addr, evt, ir = BIT(61), iw = BIT(62);
	const struct { u64 at; bool write, ok; } t[] = {
		{ 7 * SIZE_2M, 0, 1 }, { 7 * SIZE_2M + PAGE, 1, 0 }, { 8 * SIZE_2M, 0, 0 }, { 8 * SIZE_2M + PAGE, 1, 0 },
		{ 512 * SIZE_2M, 0, 0 },
	};
	u64 *dte, i;

	setup();
	dte = (void *)(devtab + edu_id * 32UL);
	write64(l2 + 7 * 8, pa | 1 | ir);
	write64(l3, l2 | 1 | 2UL << 9 | ir | iw);
	dte[1] = 1;
	dte[0] = l3 | 3UL << 9 | 3 | ir | iw;
	write64(pa + PAGE, 0x5555);
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		point("%lx %s", t[i].at, t[i].write ? "write" : "read");
		if (t[i].write)
			dma_write(t[i].at);
		else
			dma_read(t[i].at);
		evt = take_event(&addr);
		CHECK_EQ(evt >> 60, t[i].ok ? 0 : 2);
		if (t[i].ok)
			continue;
		CHECK_EQ(evt & 0xffff, edu_id);
		CHECK_EQ(evt >> 48 & 0xfff, t[i].write ? BIT(5) : 0);
		CHECK_EQ(addr, t[i].at);
		CHECK_EQ(take_event(&addr), 0);
		CHECK_EQ(read64(IOMMU + R_STATUS) & 3, 2);
		write64(IOMMU + R_STATUS, 2);
		CHECK_EQ(read64(IOMMU + R_STATUS) & 3, 0);
	}
	CHECK_EQ(read64(pa + PAGE), 0x5555);
	page_free_2m(pa);
	write64(IOMMU + R_CONTROL, 0);
}
