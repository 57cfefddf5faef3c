/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes of devices are checked against the RMP by the IOMMU: its event 0xd, and the data doesn't arrive (public manual of the IOMMU:
 * not at hand; known from messages of Linux about such events). The device is a disk behind an AHCI controller that it identifies itself.
 */
#include "snp.h"

#define IOMMU_DEVTAB	0x00
#define IOMMU_CMDBUF	0x08
#define IOMMU_EVTLOG	0x10
#define IOMMU_CONTROL	0x18
#define IOMMU_STORE_BASE	0x20
#define IOMMU_STORE_LIMIT	0x28
#define IOMMU_PPRLOG	0x38
#define IOMMU_CMD_TAIL	0x2008
#define IOMMU_EVT_HEAD	0x2010
#define IOMMU_EVT_TAIL	0x2018
#define EVT_ENTRIES	256

static u64 iommu, evtlog, pprlog, cmdbuf, store, ahci, port, clb, fis, table;
static u32 ahci_bdf;

TEST_EARLY(iommu_enable)
{
	u64 ivrs = acpi_table("IVRS"), devtab;
	u32 i;

	if (!ivrs)
		skip("no IOMMU");
	iommu = read64(ivrs + 48 + 8);
	map_range(iommu, iommu, 0x4000, PTE_W | BIT(4));
	/* Every device: valid, no translation, may read and write */
	devtab = sys_alloc_2m_aligned();
	for (i = 0; i < 65536; i++)
		write64(devtab + 32UL * i, 3 | 3UL << 61);
	evtlog = page_alloc();
	write64(iommu + IOMMU_CONTROL, 0);
	write64(iommu + IOMMU_DEVTAB, devtab | 511);
	cmdbuf = sys_alloc();
	store = page_alloc();
	pprlog = page_alloc();
	write64(iommu + IOMMU_CMDBUF, cmdbuf | 8UL << 56);
	write64(iommu + IOMMU_PPRLOG, pprlog | 8UL << 56);
	write64(iommu + IOMMU_STORE_BASE, store);
	write64(iommu + IOMMU_STORE_LIMIT, store);
	write64(iommu + IOMMU_EVTLOG, evtlog | 8UL << 56);
	write64(iommu + IOMMU_EVT_HEAD, 0);
	write64(iommu + IOMMU_EVT_TAIL, 0);
	write64(iommu + IOMMU_CONTROL, BIT(0) | BIT(2) | BIT(12));
	CHECK_EQ(read64(iommu + IOMMU_CONTROL) & 1, 1);
}

TEST(iommu_log_page)
{
	if (!iommu)
		skip("no IOMMU");
	/* SNP_INIT gives it to the IOMMU: it can't be assigned, nor written to. */
	CHECK_EQ(rmp_state(pprlog), ST_METADATA);
	CHECK_EQ(rmp_state(evtlog), ST_METADATA);
	CHECK_EQ(rmpupdate_shared(evtlog), RMP_FAIL_PERMISSION);
	CHECK_EQ(snp_reclaim(evtlog, 0), PSP_PAGE_STATE);
	CHECK_EQ(FAULT(read64(evtlog)).vector, -1);
	CHECK_EQ(FAULT(write64(evtlog, 0)).vector, VEC_PF);
}

static u32 events(u64 *first)
{
	u64 head = read64(iommu + IOMMU_EVT_HEAD), tail = read64(iommu + IOMMU_EVT_TAIL);

	first[0] = read64(evtlog + head);
	first[1] = read64(evtlog + head + 8);
	write64(iommu + IOMMU_EVT_HEAD, tail);
	return (tail - head) / 16 % EVT_ENTRIES;
}

/* COMPLETION_WAIT with a store of data to pa */
static void completion_wait(u64 pa, u64 data)
{
	u64 tail = read64(iommu + IOMMU_CMD_TAIL);

	write64(cmdbuf + tail, pa | 1 | 1UL << 60);
	write64(cmdbuf + tail + 8, data);
	write64(iommu + IOMMU_CMD_TAIL, (tail + 16) & (PAGE - 1));
}

/* ABI 8.8: so does the memory where it stores that commands are completed. */
TEST(iommu_completion_store)
{
	u64 pa = page_alloc(), evt[2];

	if (!iommu)
		skip("no IOMMU");
	point("its page");
	CHECK_EQ(rmp_state(store), ST_METADATA);
	CHECK_EQ(rmpupdate_shared(store), RMP_FAIL_PERMISSION);
	CHECK_EQ(snp_reclaim(store, 0), PSP_PAGE_STATE);
	CHECK_EQ(FAULT(write64(store, 0)).vector, VEC_PF);
	events(evt);
	completion_wait(store + 16, 0x1234);
	CHECK_EQ(read64(store + 16), 0x1234);
	point("the hypervisor's");
	completion_wait(pa, 0x1234);
	CHECK_EQ(read64(pa), 0x1234);
	CHECK_EQ(events(evt), 0);
	point("another one");
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	completion_wait(pa, 0x5678);
	CHECK_EQ(read64(pa), 0x1234);
	CHECK_EQ(events(evt), 1);
	CHECK_EQ(evt[0] >> 60, 6);		/* COMMAND_HARDWARE_ERROR */
	CHECK_EQ(evt[1] & ~(PAGE - 1), cmdbuf);
	write64(iommu + IOMMU_CONTROL, BIT(0) | BIT(2));
	write64(iommu + IOMMU_CONTROL, BIT(0) | BIT(2) | BIT(12));
	page_free(pa);
}

static bool ahci_find(void)
{
	u32 i, c;

	for (i = 0; i < 0x10000 && !ahci_bdf; i++)
		if (pci_read(i, 8) >> 8 == 0x010601)
			ahci_bdf = i;
	if (!ahci_bdf)
		return false;
	ahci = pci_read(ahci_bdf, 0x24) & ~0xfffU;
	map_range(ahci, ahci, 2 * PAGE, PTE_W | BIT(4));
	pci_write(ahci_bdf, 4, (pci_read(ahci_bdf, 4) & 0xffff) | 6);
	write32(ahci + 4, read32(ahci + 4) | BIT(31));
	for (i = 0; i < 32 && !port; i++) {
		c = ahci + 0x100 + 0x80 * i;
		if (read32(ahci + 0xc) & BIT(i) && (read32(c + 0x28) & 0xf) == 3)
			port = c;
	}
	if (!port)
		return false;
	/* Stop, give it memory, start. */
	write32(port + 0x18, read32(port + 0x18) & ~(BIT(0) | BIT(4)));
	for (i = 0; i < 1000000 && read32(port + 0x18) & (BIT(15) | BIT(14)); i++)
		pause();
	clb = sys_alloc();
	fis = sys_alloc();
	table = sys_alloc();
	write32(port + 0x00, clb);
	write32(port + 0x04, 0);
	write32(port + 0x08, fis);
	write32(port + 0x0c, 0);
	write32(port + 0x30, ~0U);
	write32(port + 0x18, read32(port + 0x18) | BIT(4));
	write32(port + 0x18, read32(port + 0x18) | BIT(0));
	return true;
}

/* IDENTIFY DEVICE: 512 bytes to pa. Whatever comes of it, it ends. */
static void identify(u64 pa)
{
	static const u8 command[] = { 0x27, 0x80, 0xec, 0 };
	u32 i;

	memset((void *)table, 0, PAGE);
	memcpy((void *)table, command, sizeof(command));
	write64(table + 0x80, pa);
	write32(table + 0x8c, 511);
	memset((void *)clb, 0, 32);
	write32(clb, 5 | 1 << 16);
	write64(clb + 8, table);
	write32(port + 0x10, ~0U);
	write32(port + 0x38, 1);
	for (i = 0; i < 10000000 && read32(port + 0x38) & 1; i++)
		pause();
	CHECK_EQ(read32(port + 0x38) & 1, 0);
}

TEST(iommu_dma_write)
{
	static const enum rmp_state st[] = {
		ST_HYPERVISOR, ST_HV_FIXED, ST_FIRMWARE, ST_RECLAIM, ST_CONTEXT, ST_PRE_GUEST, ST_GUEST_INVALID, ST_GUEST_VALID,
		ST_PRE_SWAP, ST_HYPERVISOR,
	};
	struct guest *g;
	u64 evt[2], words[64];
	u32 i, k, n;

	if (!iommu || !ahci_find())
		skip("no IOMMU, or no disk at an AHCI controller");
	g = guest_new_raw(GUEST_SNP);
	events(evt);
	for (i = 0; i < ARRAY_SIZE(st); i++) {
		u64 pa;
		bool same = true;

		point("%s", rmp_state_name[st[i]]);
		pa = rmp_page(st[i], g, GPA_TEST, 0);
		REQUIRE(pa);
		/* Another page of the same 2M is of no importance. */
		memcpy(words, (void *)pa, sizeof(words));
		identify(pa);
		for (k = 0; k < 64; k++)
			same &= words[k] == read64(pa + 8 * k);
		n = events(evt);
		if (st[i] == ST_HYPERVISOR || st[i] == ST_HV_FIXED) {
			CHECK_EQ(n, 0);
			CHECK(!same);
		} else {
			CHECK(n > 0);
			CHECK_EQ(evt[0] >> 60, 0xd);
			CHECK_EQ(evt[0] & 0xffff, ahci_bdf);
			CHECK_EQ(evt[1] & ~(PAGE - 1), pa);
			CHECK(same);
		}
		if (st[i] == ST_HV_FIXED)
			memset((void *)pa, 0, PAGE);
		else
			page_free(pa);
		CHECK_EQ(events(evt), 0);
	}
	point("assigned after it was written to");
	{
		u64 pa = page_alloc();

		identify(pa);
		CHECK(read64(pa) != 0);
		CHECK_EQ(rmpupdate_firmware(pa), 0);
		events(evt);
		identify(pa);
		CHECK(events(evt) > 0);
		CHECK(rmp_release(pa, 0));
		memset((void *)pa, 0, PAGE);
		identify(pa);
		CHECK_EQ(events(evt), 0);
		CHECK(read64(pa) != 0);
		page_free(pa);
	}
	guest_free(g);
}
