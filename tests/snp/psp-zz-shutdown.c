/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SNP and SEV are shut down and come back. */
#include "snp.h"

#define MCH_ESMRAMC	0x9c	/* its byte 2 */
#define T_EN		BIT(16)

/* RAM below 4G ends there. */
static u64 low_end(void)
{
	u32 lo, hi;

	outb(0x70, 0x34);
	lo = inb(0x71);
	outb(0x70, 0x35);
	hi = inb(0x71);
	return 0x1000000 + ((u64)hi << 24 | lo << 16);
}

static void hsave(void *arg)
{
	wrmsr(MSR_VM_HSAVE_PA, (u64)arg);
}

TEST(psp_shutdown)
{
	struct { u32 len, flags; } ex = { 8, 1 };
	struct { u32 flags, rsvd; u64 list; u8 more[48]; } d = { 0, 0, 0, { 0 } };
	u64 tmr = page_alloc_2m_low(), i, save = sys_alloc(), pa = page_alloc(), log;
	struct { u32 flags, rsvd; u64 tmr; u32 len; } init = { 1, 0, tmr, SIZE_2M };
	u32 mch;
	struct guest *g = guest_new_raw(GUEST_SEV);	/* SEV is INIT */

	point("refused");
	CHECK_EQ(psp(SNP_SHUTDOWN_EX, &ex, 8), PSP_PLATFORM_STATE);
	guest_free(g);
	CHECK_EQ(psp_raw(SEV_SHUTDOWN, 0), PSP_SUCCESS);
	CHECK_EQ(snp_set_state(tmr, 1), PSP_PARAM);
	g = guest_new_raw(GUEST_SNP);
	CHECK_EQ(psp(SNP_SHUTDOWN_EX, &ex, 8), PSP_DFFLUSH);
	snp_df_flush();
	CHECK_EQ(psp(SNP_SHUTDOWN_EX, &ex, 8), PSP_DFFLUSH);	/* the guest has its ASID */
	guest_free(g);
	snp_df_flush();
	ex.len = 4;
	CHECK_EQ(psp(SNP_SHUTDOWN_EX, &ex, 8), PSP_PARAM);
	ex.len = 8, ex.flags = 4;
	CHECK_EQ(psp(SNP_SHUTDOWN_EX, &ex, 8), PSP_PARAM);
	point("without the IOMMU");

	/* without the IOMMU: the RMP stays initialized */
	CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
	ex.flags = 0;
	CHECK_EQ(psp(SNP_SHUTDOWN_EX, &ex, 8), PSP_SUCCESS);
	CHECK_EQ(snp_reclaim(pa, 0), PSP_PLATFORM_STATE);
	CHECK_EQ(snp_set_state(tmr, 1), PSP_PLATFORM_STATE);
	CHECK_EQ(rmp_state(pa), ST_FIRMWARE);
	CHECK_EQ(FAULT(write64(pa, 1)).vector, VEC_PF);		/* the RMP is in force, nevertheless */
	d.flags = 2;
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_PARAM);		/* a list, but no INIT_RMP */
	d.flags = 0;
	init.flags = 0;
	CHECK_EQ(psp(SEV_INIT, &init, 20), PSP_SUCCESS);
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_PLATFORM_STATE);	/* SEV is INIT */
	CHECK_EQ(psp_raw(SEV_SHUTDOWN, 0), PSP_SUCCESS);
	init.flags = 1;
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_SUCCESS);
	CHECK_EQ(rmp_state(pa), ST_FIRMWARE);
	CHECK_EQ(snp_reclaim(pa, 0), PSP_SUCCESS);
	CHECK_EQ(rmpupdate_shared(pa), RMP_OK);
	CHECK_EQ(psp_raw(SNP_DF_FLUSH, 0), PSP_WBINVD);
	CHECK_EQ(psp(SNP_SHUTDOWN_EX, &ex, 8), PSP_DFFLUSH);
	CHECK_EQ(snp_df_flush(), PSP_SUCCESS);
	point("with the IOMMU");

	ex.flags = 1;
	log = acpi_table("IVRS");
	if (log) {
		log = read64(log + 48 + 8);
		map_range(log, log, PAGE, PTE_W | BIT(4));
		log = read64(log + 0x10) & 0xffffffffff000UL;	/* the event log */
	}
	if (log)
		CHECK_EQ(rmp_state(log), ST_METADATA);
	CHECK_EQ(psp(SNP_SHUTDOWN_EX, &ex, 8), PSP_SUCCESS);
	if (log)
		CHECK_EQ(rmp_state(log), ST_RECLAIM);
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_RMP_INIT_REQUIRED);
	CHECK_EQ(psp(SEV_INIT, &init, 20), PSP_RMP_INIT_REQUIRED);
	on_cpu(ncpus - 1, hsave, (void *)save);
	CHECK_EQ(snp_init_ex(), PSP_CONFIG);
	on_cpu(ncpus - 1, hsave, NULL);
	on_all(hsave, NULL);
	point("bad list");
	d.flags = 3;
	d.list = save + PAGE - 4;
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_PARAM);
	d.list = save + PAGE - 16;
	write64(d.list, 1);
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_PARAM);
	d.list = save;
	write64(save, 1);
	write64(save + 8, 0x2000008);
	CHECK_EQ(psp(SNP_INIT_EX, &d, 64), PSP_PARAM);
	point("SNP_INIT");
	mch = pci_read(0, MCH_ESMRAMC);
	pci_write(0, MCH_ESMRAMC, mch | T_EN);			/* 1M at the end of RAM */
	CHECK_EQ(psp_raw(SNP_INIT, 0), PSP_SUCCESS);
	pci_write(0, MCH_ESMRAMC, mch);
	CHECK_EQ(rmp_state(hv_fixed[0]), ST_HYPERVISOR);
	CHECK_EQ(rmp_state(rmp_base), ST_FIRMWARE);
	point("TSEG");
	CHECK_EQ(rmp_state(low_end() - SIZE_2M / 2), ST_HV_FIXED);
	CHECK_EQ(rmp_state(low_end() - PAGE), ST_HV_FIXED);
	CHECK_EQ(rmp_state(low_end() - SIZE_2M / 2 - PAGE), ST_HYPERVISOR);
	CHECK_EQ(rmp_state(low_end()), ST_HV_FIXED);		/* no RAM */
	point("ASEG");
	CHECK_EQ(rmp_state(0xa0000), ST_HV_FIXED);
	CHECK_EQ(rmp_state(0xbf000), ST_HV_FIXED);
	CHECK_EQ(rmp_state(0x9f000), ST_HYPERVISOR);
	point("SNP_SHUTDOWN_EX");
	CHECK_EQ(snp_df_flush(), PSP_SUCCESS);
	CHECK_EQ(psp(SNP_SHUTDOWN_EX, &ex, 8), PSP_SUCCESS);
	point("SNP_INIT_EX");
	CHECK_EQ(snp_init_ex(), PSP_SUCCESS);
	CHECK_EQ(rmp_state(hv_fixed[0]), ST_HV_FIXED);
	CHECK_EQ(rmp_state(0xfed80000), ST_HV_FIXED);		/* not DRAM */
	CHECK_EQ(rmp_state(low_end() - PAGE), ST_HYPERVISOR);	/* no TSEG any more */
	CHECK_EQ(rmp_state(rmp_base), ST_FIRMWARE);
	CHECK_EQ(snp_df_flush(), PSP_SUCCESS);

	/* back to what the other tests expect */
	CHECK_EQ(psp(SEV_INIT, &init, 20), PSP_PAGE_STATE);
	for (i = 0; i < 512; i++)
		CHECK_EQ(rmpupdate_firmware(tmr + i * PAGE), RMP_OK);
	init.len = SIZE_2M - 1;
	CHECK_EQ(psp(SEV_INIT, &init, 20), PSP_LENGTH);
	init.len = SIZE_2M, init.tmr = tmr + PAGE;
	CHECK_EQ(psp(SEV_INIT, &init, 20), PSP_ADDRESS);
	init.tmr = tmr, init.flags = 2;
	CHECK_EQ(psp(SEV_INIT, &init, 20), PSP_PARAM);
	init.flags = 1;
	CHECK_EQ(psp(SEV_INIT, &init, 20), PSP_SUCCESS);
	CHECK_EQ(psp(SEV_INIT, &init, 20), PSP_PLATFORM_STATE);
	CHECK_EQ(snp_df_flush(), PSP_SUCCESS);
	page_free(pa);
}
