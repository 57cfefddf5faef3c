/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The secure processor: PCI, mailbox, commands; bring-up of SNP. */
#include "snp.h"

#define R_CMDRESP	0x10980
#define R_ADDR_LO	0x109e0
#define R_ADDR_HI	0x109e4

u64 psp_bar, cbit_mask;
u64 hv_fixed[8];
static u64 cmd_page, sev_page, list_page;
static bool up;

u32 pci_read(u32 bdf, u32 reg)
{
	outl(0xcf8, BIT(31) | bdf << 8 | reg);
	return inl(0xcfc);
}

void pci_write(u32 bdf, u32 reg, u32 v)
{
	outl(0xcf8, BIT(31) | bdf << 8 | reg);
	outl(0xcfc, v);
}

void psp_find(void)
{
	u32 bdf, r[4], fn_step;

	cpuid(0x80000000, 0, r);
	if (r[0] >= 0x8000001f) {
		cpuid(0x8000001f, 0, r);
		if (r[0] & 2)
			cbit_mask = BIT(r[1] & 0x3f);
	}
	for (bdf = 0; bdf < 0x10000; bdf += fn_step) {
		u32 id = pci_read(bdf, 0);

		/* function 0 says whether there are more */
		fn_step = (bdf & 7) || (id != ~0U && pci_read(bdf, 0xc) & BIT(23)) ? 1 : 8;
		if (id != 0x14ca1022)
			continue;
		psp_bar = pci_read(bdf, 0x18) & ~0xfU;
		if ((pci_read(bdf, 0x18) & 6) == 4)
			psp_bar |= (u64)pci_read(bdf, 0x1c) << 32;
		pci_write(bdf, 4, pci_read(bdf, 4) | 6);
		break;
	}
	if (psp_bar)
		map_range(psp_bar, psp_bar, 0x100000, PTE_W | BIT(4));
}

u32 psp_raw(u32 cmd, u64 buf)
{
	u32 i, v;

	if (!psp_bar)
		return PSP_NONE;
	write32(psp_bar + R_ADDR_LO, buf);
	write32(psp_bar + R_ADDR_HI, buf >> 32);
	write32(psp_bar + R_CMDRESP, cmd << 16);
	for (i = 0; i < 10000000; i++) {
		v = read32(psp_bar + R_CMDRESP);
		if (v & BIT(31))
			return v & 0xffff;
		pause();
	}
	return PSP_TIMEOUT;
}

u32 psp(u32 cmd, const void *data, size_t n)
{
	if (!cmd_page)
		cmd_page = sys_alloc();
	memset((void *)cmd_page, 0, PAGE);
	memcpy((void *)cmd_page, data, n);
	return psp_raw(cmd, cmd_page);
}

u32 sev(u32 cmd, void *data, size_t n)
{
	u32 ret;

	if (!sev_page)
		sev_page = page_alloc_low();
	memset((void *)sev_page, 0, PAGE);
	memcpy((void *)sev_page, data, n);
	if (up && rmpupdate_firmware(sev_page))
		return PSP_NONE;
	ret = psp_raw(cmd, sev_page);
	if (up && !rmp_release(sev_page, 0)) {
		sev_page = 0;
		return PSP_NONE;
	}
	memcpy(data, (void *)sev_page, n);
	return ret;
}

static void do_wbinvd(void *arg)
{
	(void)arg;
	wbinvd();
}

static void set_mfdm(void *arg)
{
	(void)arg;
	wbinvd();
	wrmsr(MSR_SYSCFG, rdmsr(MSR_SYSCFG) | SYSCFG_MFDM | SYSCFG_MEM_ENCRYPT);
	wrmsr(MSR_VM_HSAVE_PA, 0);
}

static void set_snp(void *arg)
{
	(void)arg;
	if (rdmsr(MSR_SYSCFG) & SYSCFG_SNP_EN)
		return;		/* for good */
	wrmsr(MSR_SYSCFG, rdmsr(MSR_SYSCFG) | SYSCFG_SNP_EN | SYSCFG_VMPL_EN);
}

void snp_enable_cpus(void)
{
	static bool once;

	/* After the first SNP_INIT it's the firmware's, until the next reset. */
	if (!once)
		memset((void *)rmp_base, 0, rmp_end + 1 - rmp_base);
	once = true;
	on_all(set_mfdm, NULL);
	on_all(set_snp, NULL);
}

u32 snp_init_ex(void)
{
	struct { u32 flags, rsvd; u64 list; u8 more[48]; } d = { 2 | 1, 0, 0, { 0 } };
	struct { u32 n, rsvd; struct { u64 base; u32 pages, rsvd; } r[8]; } *l;
	u32 i;

	if (!list_page) {
		list_page = sys_alloc();
		for (i = 0; i < ARRAY_SIZE(hv_fixed) - 1; i++)
			hv_fixed[i] = page_alloc();
		/* The only one of its 2M that is anybody's */
		hv_fixed[7] = page_alloc_2m() + 5 * PAGE;
	}
	l = (void *)list_page;
	l->n = ARRAY_SIZE(hv_fixed);
	for (i = 0; i < l->n; i++) {
		l->r[i].base = hv_fixed[i];
		l->r[i].pages = 1;
	}
	d.list = list_page;
	return psp(SNP_INIT_EX, &d, sizeof(d));
}

u32 snp_df_flush(void)
{
	on_all(do_wbinvd, NULL);
	return psp_raw(SNP_DF_FLUSH, 0);
}

u32 snp_up(void)
{
	u32 ret;

	if (up)
		return PSP_SUCCESS;
	if (!rmp_base || !psp_bar)
		return PSP_NONE;
	snp_enable_cpus();
	ret = snp_init_ex();
	if (!ret)
		ret = snp_df_flush();
	up = !ret;
	return ret;
}

u32 snp_gctx_create(u64 ctx)
{
	return psp(SNP_GCTX_CREATE, &ctx, 8);
}

u32 snp_launch_start(u64 ctx, u64 policy)
{
	struct { u64 ctx, policy, ma; u32 flags; u8 gosvw[16]; } d = { .ctx = ctx, .policy = policy };

	return psp(SNP_LAUNCH_START, &d, 0x2c);
}

u32 snp_activate(u64 ctx, u32 asid)
{
	struct { u64 ctx; u32 asid; } d = { ctx, asid };

	return psp(SNP_ACTIVATE, &d, 12);
}

u32 snp_launch_update_vmpl(u64 ctx, u64 pa, int size_2m, int type, u32 vmpl1, u32 vmpl2, u32 vmpl3)
{
	struct { u64 ctx; u32 flags, rsvd; u64 pa; u32 vmpls, rsvd2; } d = {
		ctx, (size_2m ? 1 : 0) | type << 1, 0, pa, vmpl1 << 8 | vmpl2 << 16 | vmpl3 << 24, 0
	};

	return psp(SNP_LAUNCH_UPDATE, &d, sizeof(d));
}

u32 snp_launch_update(u64 ctx, u64 pa, int size_2m, int type)
{
	return snp_launch_update_vmpl(ctx, pa, size_2m, type, 0, 0, 0);
}

u32 snp_launch_finish(u64 ctx)
{
	struct { u64 ctx, id_block, id_auth; u32 flags, rsvd; u8 host_data[32], more[24]; } d = { .ctx = ctx };

	return psp(SNP_LAUNCH_FINISH, &d, sizeof(d));
}

u32 snp_decommission(u64 ctx)
{
	return psp(SNP_DECOMMISSION, &ctx, 8);
}

u32 snp_reclaim(u64 pa, int size_2m)
{
	pa |= size_2m ? 1 : 0;
	return psp(SNP_PAGE_RECLAIM, &pa, 8);
}

u32 snp_unsmash(u64 pa)
{
	return psp(SNP_PAGE_UNSMASH, &pa, 8);
}

u32 snp_set_state(u64 pa, u64 pages)
{
	struct { u32 n, rsvd; struct { u64 base; u32 pages, rsvd; } r; } *l;
	struct { u32 len, rsvd; u64 list; } d = { 16, 0, 0 };
	static u64 list;

	if (!list)
		list = sys_alloc();
	l = (void *)list;
	l->n = 1;
	l->r.base = pa;
	l->r.pages = pages;
	d.list = list;
	return psp(SNP_PAGE_SET_STATE, &d, sizeof(d));
}
