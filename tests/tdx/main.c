/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VMX and the module are set up here, and TDs are built. */
#include "tdx.h"

#define FIRST_PAGE	0x4000000UL	/* pages for TDs from here on; below are the program and the PAMT */
#define PAMT		0x2000000UL
#define TDMR_SIZE	0x40000000UL

struct regs out;
static u64 next_page = FIRST_PAGE;
static int next_hkid = 2;
const char *const life_name[LIFE_N] = { "HKID assigned", "keys configured", "uninitialised", "initialised", "runnable", "blocked",
					"teardown" };
extern u8 td_page[];
void main64(void);

u64 seamcall(u64 leaf, u64 rcx, u64 rdx, u64 r8, u64 r9)
{
	memset(&out, 0, sizeof(out));
	out.rcx = rcx;
	out.rdx = rdx;
	out.r8 = r8;
	out.r9 = r9;
	seamcall_asm(leaf, &out);
	return out.rax;
}

static void need(u64 leaf, u64 rcx, u64 rdx, u64 r8, u64 r9)
{
	u64 status = seamcall(leaf, rcx, rdx, r8, r9);

	if (status) {
		printf("Bail out! leaf %ld rcx %lx rdx %lx r8 %lx: %lx\n", leaf & 0xffff, rcx, rdx, r8, status);
		end(1);
	}
}

u64 page_new(void)
{
	u64 pa = next_page;

	next_page += PAGE;
	if (next_page > TDMR_SIZE) {
		printf("Bail out! out of memory\n");
		end(1);
	}
	return pa;
}

int page_type(u64 pa)
{
	return seamcall(PAGE_RDMD, pa, 0, 0, 0) ? -1 : (int)out.rcx;
}

/* The first GiB is a TDMR, of which the first 64 MiB are reserved. */
static void tdmr_info(u64 *info)
{
	memset(info, 0, 512);
	info[1] = TDMR_SIZE;
	info[2] = PAMT;				/* 1G */
	info[3] = PAGE;
	info[4] = PAMT + PAGE;			/* 2M */
	info[5] = 512 * 16;
	info[6] = PAMT + 0x10000;		/* 4K */
	info[7] = 512 * 512 * 16;
	info[9] = FIRST_PAGE;
}

#define TRY(what, leaf, rcx, rdx, r8, want)	\
	({ u64 got_ = seamcall(leaf, rcx, rdx, r8, 0);	\
	   point((got_ & ~0xffffffffUL) == (want), "module: %s: %lx, expected %lx", what, got_, (u64)(want)); })

#include "oracle.h"

/* The life cycle of the module, with what is refused on the way */
void module_up(void)
{
	u64 array = page_new(), info = array + 512, next;

	TRY("no TDs before initialisation", MNG_CREATE, FIRST_PAGE, 2, 0, TDX_SYS_LP_INIT_NOT_DONE);
	TRY("CPU before the module", SYS_LP_INIT, 0, 0, 0, TDX_SYS_LP_INIT_NOT_PENDING);
	TRY("SYS.INIT", SYS_INIT, 0, 0, 0, TDX_SUCCESS);
	TRY("SYS.INIT twice", SYS_INIT, 0, 0, 0, TDX_SYS_INIT_NOT_PENDING);
	TRY("configuration before the CPUs", SYS_CONFIG, array, 1, 1, TDX_SYS_LP_INIT_NOT_DONE);
	TRY("SYS.LP.INIT", SYS_LP_INIT, 0, 0, 0, TDX_SUCCESS);
	TRY("SYS.LP.INIT twice", SYS_LP_INIT, 0, 0, 0, TDX_SYS_LP_INIT_DONE);
	TRY("configuration before all CPUs", SYS_CONFIG, array, 1, 1, TDX_SYS_CONFIG_NOT_PENDING);
	ap_up();
	TRY("SYS.RD", SYS_RD, 0, 0x9100000100000008UL, 0, TDX_SUCCESS);
	TRY("SYS.RD of nothing", SYS_RD, 0, 0x1234, 0, TDX_METADATA_FIELD_ID_INCORRECT);
	TRY("key before the configuration", SYS_KEY_CONFIG, 0, 0, 0, TDX_SYS_KEY_CONFIG_NOT_PENDING);
	TRY("no TDs before the configuration", MNG_CREATE, FIRST_PAGE, 2, 0, TDX_SYS_NOT_READY);
	write64(array, info);
	tdmr_info((u64 *)info);
	TRY("array not aligned", SYS_CONFIG, array + 8, 1, 1, TDX_OPERAND_INVALID);
	TRY("no TDMR", SYS_CONFIG, array, 0, 1, TDX_OPERAND_INVALID);
	TRY("key out of range", SYS_CONFIG, array, 1, 64, TDX_OPERAND_INVALID);
	write64(info + 8, TDMR_SIZE / 2);
	TRY("size of a TDMR", SYS_CONFIG, array, 1, 1, TDX_INVALID_TDMR);
	tdmr_info((u64 *)info);
	write64(info + 56, PAGE);
	TRY("size of a PAMT", SYS_CONFIG, array, 1, 1, TDX_INVALID_PAMT);
	tdmr_info((u64 *)info);
	write64(info + 72, PAMT);
	TRY("a PAMT in usable memory", SYS_CONFIG, array, 1, 1, TDX_PAMT_OVERLAP);
	tdmr_info((u64 *)info);
	write64(info + 32, PAMT);
	TRY("two PAMTs in one place", SYS_CONFIG, array, 1, 1, TDX_PAMT_OVERLAP);
	tdmr_info((u64 *)info);
	write64(info + 72, TDMR_SIZE + PAGE);
	TRY("reserved area outside", SYS_CONFIG, array, 1, 1, TDX_INVALID_RESERVED_IN_TDMR);
	tdmr_info((u64 *)info);
	write64(info + 80, PAGE);
	write64(info + 88, PAGE);
	TRY("reserved areas not in order", SYS_CONFIG, array, 1, 1, TDX_NON_ORDERED_RESERVED_IN_TDMR);
	tdmr_info((u64 *)info);
	write64(array + 8, info);
	TRY("a TDMR twice", SYS_CONFIG, array, 2, 1, TDX_NON_ORDERED_TDMR);
	write64(info, 0xc0000000);
	TRY("a TDMR where no memory is", SYS_CONFIG, array, 1, 1, TDX_TDMR_OUTSIDE_CMRS);
	tdmr_info((u64 *)info);
	TRY("SYS.CONFIG", SYS_CONFIG, array, 1, 1, TDX_SUCCESS);
	TRY("SYS.CONFIG twice", SYS_CONFIG, array, 1, 1, TDX_SYS_CONFIG_NOT_PENDING);
	TRY("TDMR before the key", SYS_TDMR_INIT, 0, 0, 0, TDX_SYS_NOT_READY);
	TRY("SYS.KEY.CONFIG", SYS_KEY_CONFIG, 0, 0, 0, TDX_SUCCESS);
	TRY("SYS.KEY.CONFIG twice", SYS_KEY_CONFIG, 0, 0, 0, TDX_SYS_KEY_CONFIG_NOT_PENDING);
	TRY("a page before its TDMR is initialised", MNG_CREATE, FIRST_PAGE, 2, 0, TDX_OPERAND_INVALID);
	TRY("no such TDMR", SYS_TDMR_INIT, TDMR_SIZE, 0, 0, TDX_OPERAND_INVALID);
	for (next = 0; next < TDMR_SIZE; next = out.rdx)
		need(SYS_TDMR_INIT, 0, 0, 0, 0);
	TRY("SYS.TDMR.INIT twice", SYS_TDMR_INIT, 0, 0, 0, TDX_TDMR_ALREADY_INITIALIZED);
	TRY("the global key is not free", MNG_CREATE, FIRST_PAGE, 1, 0, TDX_HKID_NOT_FREE);
	point(page_type(PAMT) == PT_RSVD && page_type(FIRST_PAGE) == PT_NDA && page_type(0x100000) == PT_RSVD,
	      "module: the PAMT and reserved areas are nobody's");
}

u64 td_params(void)
{
	u64 pa = page_new();

	memset((void *)pa, 0, PAGE);
	write64(pa, BIT(28));			/* SEPT_VE_DISABLE */
	write64(pa + 8, 3);			/* XFAM */
	write64(pa + 16, 8);			/* vCPUs */
	write64(pa + 24, 3 << 3 | 6);		/* 4 levels, write-back */
	write64(pa + 40, 84);			/* the TSC's frequency: 2100 MHz */
	return pa;
}

static const u64 code_gpa = 0xfffff000UL;

static void add_sept(struct td *td, u64 gpa, int level)
{
	u64 pa = page_new();

	need(MEM_SEPT_ADD, gpa | level, td->tdr, pa, 0);
	td->sept[td->nr_sept++] = pa;
}

static void add_page(struct td *td, u64 gpa, u64 source)
{
	u64 pa = page_new();

	need(MEM_PAGE_ADD, gpa, td->tdr, pa, source);
	td->pages[td->nr_pages++] = pa;
}

/* Memory and a vCPU for start.S's td_page */
static void add_guest(struct td *td)
{
	u64 source = page_new(), eptp, table, i;

	add_sept(td, 0, 3);
	add_sept(td, 0, 2);
	add_sept(td, 0, 1);
	add_sept(td, code_gpa & ~0x3fffffffUL, 2);
	add_sept(td, code_gpa & ~0x1fffffUL, 1);
	memcpy((void *)source, td_page, PAGE);
	add_page(td, code_gpa, source);
	memset((void *)source, 0, PAGE);
	write64(source, 0x2003);
	write64(source + 8, 0x3003);
	add_page(td, 0x1000, source);
	for (i = 0; i < 4; i++)
		write64(source + 8 * i, i << 30 | 0x83);
	add_page(td, 0x2000, source);
	for (i = 0; i < 4; i++)
		write64(source + 8 * i, i << 30 | 0x83 | BIT(47));
	add_page(td, 0x3000, source);
	/* The shared half is the host's memory, one to one. */
	eptp = page_new();
	table = page_new();
	memset((void *)eptp, 0, PAGE);
	memset((void *)table, 0, PAGE);
	write64(eptp + 8 * (BIT(47) >> 39), table | 7);
	for (i = 0; i < 4; i++)
		write64(table + 8 * i, i << 30 | 0x87);
	need(VP_WR, td->tdvpr, 0x203c, eptp | 0x1e, -1UL);
}

static void add_vcpu(struct td *td)
{
	int i;

	td->tdvpr = page_new();
	need(VP_CREATE, td->tdvpr, td->tdr, 0, 0);
	for (i = 0; i < 5; i++) {
		td->pages[td->nr_pages] = page_new();
		need(VP_ADDCX, td->pages[td->nr_pages++], td->tdvpr, 0, 0);
	}
	need(VP_INIT | BIT(16), td->tdvpr, 0x1234, 0, 0);
}

/* To any later state */
void td_advance(struct td *td, enum life life)
{
	int i;

	while (td->life < life) {
		switch (++td->life) {
		case LIFE_CONFIGURED:
			need(MNG_KEY_CONFIG, td->tdr, 0, 0, 0);
			break;
		case LIFE_U:
			for (i = 0; i < 4; i++) {
				td->tdcs[i] = page_new();
				need(MNG_ADDCX, td->tdcs[i], td->tdr, 0, 0);
			}
			break;
		case LIFE_I:
			need(MNG_INIT, td->tdr, td_params(), 0, 0);
			if (td->vcpu)
				add_vcpu(td);
			if (td->guest)
				add_guest(td);
			break;
		case LIFE_R:
			need(MR_FINALIZE, td->tdr, 0, 0, 0);
			break;
		case LIFE_BLOCKED:
			if (td->tdvpr)
				seamcall(VP_FLUSH, td->tdvpr, 0, 0, 0);
			need(MNG_VPFLUSHDONE, td->tdr, 0, 0, 0);
			break;
		case LIFE_TEARDOWN:
			need(CACHE_WB, 0, 0, 0, 0);
			need(MNG_KEY_FREEID, td->tdr, 0, 0, 0);
			break;
		default:
			break;
		}
	}
}

void td_make(struct td *td, enum life life, int flags)
{
	memset(td, 0, sizeof(*td));
	td->tdr = page_new();
	td->hkid = next_hkid;
	next_hkid = next_hkid == 63 ? 2 : next_hkid + 1;
	td->guest = flags & TD_GUEST;
	td->vcpu = flags & (TD_VCPU | TD_GUEST);
	need(MNG_CREATE, td->tdr, td->hkid, 0, 0);
	td_advance(td, life);
}

static bool reclaim(u64 pa)
{
	return seamcall(PAGE_RECLAIM, pa, 0, 0, 0) == TDX_SUCCESS;
}

/* Whatever pages it has: those that were taken for it lie behind its TDR. */
void td_destroy(struct td *td)
{
	bool ok = true;
	u64 pa;

	td_advance(td, LIFE_TEARDOWN);
	for (pa = td->tdr + PAGE; pa < next_page; pa += PAGE)
		if (page_type(pa) > PT_RSVD && out.rdx == td->tdr)
			ok &= reclaim(pa);
	ok &= reclaim(td->tdr) && page_type(td->tdr) == PT_NDA;
	if (!ok)
		point(false, "a TD leaves pages behind");
}

u64 td_enter(struct td *td)
{
	return seamcall(VP_ENTER, td->tdvpr, 0, 0, 0);
}

/* It's waiting for an order, or starts with asking for one. */
u64 td_order_more(struct td *td, u64 what, u64 rdx, u64 rdi, u64 r8, u64 r9)
{
	static struct td *started;
	static u64 tdr;

	if (started != td || tdr != td->tdr) {
		if (td_enter(td) != 77)
			return out.rax;
		started = td;
		tdr = td->tdr;
	}
	memset(&out, 0, sizeof(out));
	out.rcx = td->tdvpr;
	out.rdx = rdx;
	out.rbx = what;
	out.rdi = rdi;
	out.r8 = r8;
	out.r9 = r9;
	seamcall_asm(VP_ENTER, &out);
	return out.rax;
}

u64 td_order(struct td *td, u64 what, u64 rdx, u64 rdi)
{
	return td_order_more(td, what, rdx, rdi, 0, 0);
}

/* -append strict: on a machine with tdx-host-strict=on */
static bool strict(void)
{
	extern u64 multiboot_info;
	u32 *info = (u32 *)multiboot_info;
	const char *s = info[0] & BIT(2) ? (const char *)(u64)info[4] : "";

	for (; *s; s++)
		if (!memcmp(s, "strict", 6))
			return true;
	return false;
}

extern u64 idt[64];
u64 idt[64];
extern char vector_entries[];

void main64(void)
{
	struct { uint16_t limit; u64 base; } __attribute__((packed)) idtr = { sizeof(idt) - 1, (u64)idt };
	int i;

	for (i = 0; i < 32; i++) {
		u64 to = (u64)vector_entries + i * 16;

		idt[2 * i] = (to & 0xffff) | 8 << 16 | 0x8eUL << 40 | (to >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = to >> 32;
	}
	asm volatile("lidt %0" :: "m"(idtr));
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	printf("TAP version 13\n");
	vmx_tests();
	module_up();
	if (strict()) {
		strict_tests();
	} else {
		state_tables();
		sept_tables();
		rule_tests();
		smp_tests();
		inject_tests();
	}
	point(seamcall(SYS_DISABLE, 0, 0, 0, 0) == TDX_SUCCESS && seamcall(SYS_RD, 0, 0, 0, 0) == TDX_SYS_SHUTDOWN,
	      "module: nothing works after SYS.DISABLE");
	printf("1..%d\n# failed %d\n", lines, failures);
	end(failures ? 1 : 0);
}
