/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tables do not say: pages, keys, tracking, contents, the measurement; and VMX. */
#include "tdx.h"
#include "oracle.h"

#define STATUS(s)	((s) & ~0xffffffffUL)
#define GPA		0x40000000UL
#define VMCS_REVISION	((u32)rdmsr(0x480))
#define WANT(what, got, want)	\
	({ u64 g_ = (got), w_ = (want);	\
	   point(g_ == w_, "%s: %lx, expected %lx", what, g_, w_); })
#define STATUS_IS(what, got, want)	WANT(what, STATUS(got), want)

/* CF and ZF of a VMX instruction */
#define VMX(insn, ...)	\
	({ u64 f_; asm volatile(insn "; pushf; pop %0" : "=r"(f_) : __VA_ARGS__ : "memory", "cc"); f_ & 0x41; })
#define CF	1
#define ZF	0x40

static u64 vmread(u64 field)
{
	u64 v = 0x1234;

	asm volatile("vmread %1, %0" : "+r"(v) : "r"(field) : "cc");
	return v;
}

void vmx_tests(void)
{
	static u64 region, vmcs;
	u64 v, eptp[2] = { 0, 0 };

	region = 0x1000000;
	vmcs = 0x1001000;
	WANT("vmx: SEAMCALL without VMX", FAULT(asm volatile(".byte 0x66, 0x0f, 0x01, 0xcf" :: "a"(33) : "memory", "cc")), 6);
	WANT("vmx: VMXON without CR4.VMXE", FAULT(asm volatile("vmxon %0" :: "m"(region) : "memory")), 6);
	asm volatile("mov %%cr4, %0; or $0x2000, %0; mov %0, %%cr4" : "=&r"(v));
	WANT("vmx: firmware has enabled VMXON, and locked it", rdmsr(0x3a) & 5, 5);
	WANT("vmx: the lock of IA32_FEATURE_CONTROL", FAULT(wrmsr(0x3a, 0)), 13);
	write64(region, 0);
	WANT("vmx: VMXON, wrong revision", VMX("vmxon %1", "m"(region)), CF);
	write64(region, VMCS_REVISION);
	WANT("vmx: VMXON", VMX("vmxon %1", "m"(region)), 0);
	WANT("vmx: VMXON twice", VMX("vmxon %1", "m"(region)), CF);
	WANT("vmx: VMREAD without a VMCS", VMX("vmread %1, %%rax", "r"(0x4400UL)), CF);
	WANT("vmx: VMPTRLD, wrong revision", (write64(vmcs, 0), VMX("vmptrld %1", "m"(vmcs))), CF);
	write64(vmcs, VMCS_REVISION);
	WANT("vmx: VMCLEAR", VMX("vmclear %1", "m"(vmcs)), 0);
	WANT("vmx: VMPTRLD", VMX("vmptrld %1", "m"(vmcs)), 0);
	WANT("vmx: VMPTRLD of the VMXON region", VMX("vmptrld %1", "m"(region)), ZF);
	WANT("vmx: and its error", vmread(0x4400), 10);
	WANT("vmx: VMWRITE", VMX("vmwrite %1, %2", "r"(0x123456789abcdef0UL), "r"(0x681eUL)), 0);
	WANT("vmx: VMREAD of the same", vmread(0x681e), 0x123456789abcdef0UL);
	WANT("vmx: VMWRITE, 64 bits", VMX("vmwrite %1, %2", "r"(0x123456789abcdef0UL), "r"(0x2000UL)), 0);
	WANT("vmx: VMREAD, the high half", vmread(0x2001), 0x12345678);
	WANT("vmx: VMWRITE, 16 bits", VMX("vmwrite %1, %2", "r"(0x12345UL), "r"(0UL)), 0);
	WANT("vmx: VMREAD, 16 bits", vmread(0), 0x2345);
	WANT("vmx: VMREAD of no field", VMX("vmread %1, %%rax", "r"(0x10000UL)), ZF);
	WANT("vmx: and its error", vmread(0x4400), 12);
	WANT("vmx: VMLAUNCH", VMX("vmlaunch"), ZF);
	WANT("vmx: and its error", vmread(0x4400), 7);
	WANT("vmx: VMRESUME", VMX("vmresume"), ZF);
	WANT("vmx: and its error", vmread(0x4400), 5);
	WANT("vmx: INVEPT, global", VMX("invept %1, %2", "m"(eptp), "r"(2UL)), 0);
	WANT("vmx: INVEPT, no such type", VMX("invept %1, %2", "m"(eptp), "r"(3UL)), ZF);
	WANT("vmx: TDCALL is for TDs", FAULT(asm volatile(".byte 0x66, 0x0f, 0x01, 0xcc" ::: "memory")), 6);
	WANT("vmx: VMXOFF", VMX("vmxoff"), 0);
	WANT("vmx: VMXON again", VMX("vmxon %1", "m"(region)), 0);
}

/* A page of each type can be taken by nobody else. */
static void page_tests(void)
{
	static const char *const name[] = { "TDR", "TDCS", "TDVPR", "table", "data", "PAMT" };
	struct td td;
	unsigned int i;

	td_make(&td, LIFE_I, TD_GUEST);
	for (i = 0; i < ARRAY_SIZE(name); i++) {
		u64 pa[] = { td.tdr, td.tdcs[0], td.tdvpr, td.sept[0], td.pages[td.nr_pages - 1], 0x2000000 };
		static const int type[] = { PT_TDR, PT_TDCX, PT_TDVPR, PT_EPT, PT_REG, PT_RSVD };

		WANT(name[i], page_type(pa[i]), type[i]);
		STATUS_IS(name[i], seamcall(MNG_CREATE, pa[i], 60, 0, 0), TDX_PAGE_METADATA_INCORRECT);
		STATUS_IS(name[i], seamcall(MEM_SEPT_ADD, 0x80000000UL | 2, td.tdr, pa[i], 0), TDX_PAGE_METADATA_INCORRECT);
		STATUS_IS(name[i], seamcall(VP_CREATE, pa[i], td.tdr, 0, 0), TDX_PAGE_METADATA_INCORRECT);
		STATUS_IS(name[i], seamcall(PAGE_RECLAIM, pa[i], 0, 0, 0),
			  type[i] == PT_RSVD ? TDX_PAGE_METADATA_INCORRECT : TDX_LIFECYCLE_STATE_INCORRECT);
		if (type[i] != PT_TDR)
			STATUS_IS(name[i], seamcall(MEM_TRACK, pa[i], 0, 0, 0), TDX_PAGE_METADATA_INCORRECT);
	}
	STATUS_IS("page not aligned", seamcall(MNG_CREATE, td.tdr + 8, 60, 0, 0), TDX_OPERAND_INVALID);
	STATUS_IS("page outside of RAM", seamcall(MNG_CREATE, BIT(45), 60, 0, 0), TDX_OPERAND_INVALID);
	STATUS_IS("HKID in use", seamcall(MNG_CREATE, page_new(), td.hkid, 0, 0), TDX_HKID_NOT_FREE);
	STATUS_IS("a shared GPA", seamcall(MEM_SEPT_ADD, BIT(47) | 2, td.tdr, page_new(), 0), TDX_OPERAND_INVALID);
	STATUS_IS("no table above", seamcall(MEM_PAGE_ADD, 0x80000000UL, td.tdr, page_new(), page_new()), TDX_EPT_WALK_FAILED);
	td_advance(&td, LIFE_TEARDOWN);
	STATUS_IS("the TDR is the last one", seamcall(PAGE_RECLAIM, td.tdr, 0, 0, 0), TDX_TD_ASSOCIATED_PAGES_EXIST);
	td_destroy(&td);
}

/* What is allowed in which part of the life of the key */
static void key_tests(void)
{
	static const struct { int leaf; const char *name; u64 status[LIFE_N]; } t[] = {
		{ MNG_KEY_CONFIG, "MNG.KEY.CONFIG", { 0, TDX_LIFECYCLE_STATE_INCORRECT, TDX_LIFECYCLE_STATE_INCORRECT, TDX_LIFECYCLE_STATE_INCORRECT,
		  TDX_LIFECYCLE_STATE_INCORRECT, TDX_LIFECYCLE_STATE_INCORRECT, TDX_LIFECYCLE_STATE_INCORRECT } },
		{ MNG_VPFLUSHDONE, "MNG.VPFLUSHDONE", { 0, 0, 0, 0, 0, TDX_LIFECYCLE_STATE_INCORRECT, TDX_LIFECYCLE_STATE_INCORRECT } },
		{ MNG_KEY_FREEID, "MNG.KEY.FREEID", { TDX_LIFECYCLE_STATE_INCORRECT, TDX_LIFECYCLE_STATE_INCORRECT,
		  TDX_LIFECYCLE_STATE_INCORRECT, TDX_LIFECYCLE_STATE_INCORRECT, TDX_LIFECYCLE_STATE_INCORRECT,
		  TDX_WBCACHE_NOT_COMPLETE, TDX_LIFECYCLE_STATE_INCORRECT } },
		{ MNG_INIT, "MNG.INIT", { TDX_TD_KEYS_NOT_CONFIGURED, TDX_TDCS_NOT_ALLOCATED, 0, TDX_OP_STATE_INCORRECT,
		  TDX_OP_STATE_INCORRECT, TDX_TD_KEYS_NOT_CONFIGURED, TDX_TD_KEYS_NOT_CONFIGURED } },
		{ MEM_TRACK, "MEM.TRACK", { TDX_TD_KEYS_NOT_CONFIGURED, TDX_TDCS_NOT_ALLOCATED, TDX_OP_STATE_INCORRECT, 0, 0,
		  TDX_TD_KEYS_NOT_CONFIGURED, TDX_TD_KEYS_NOT_CONFIGURED } },
	};
	unsigned int i, life;
	struct td td;
	u64 status;

	for (i = 0; i < ARRAY_SIZE(t); i++)
		for (life = 0; life < LIFE_N; life++) {
			td_make(&td, life, 0);
			status = seamcall(t[i].leaf, td.tdr, td_params(), 0, 0);
			point(STATUS(status) == t[i].status[life], "life: %s, %s: %lx, expected %lx", t[i].name, life_name[life], status,
			      t[i].status[life]);
			if (t[i].leaf == MNG_VPFLUSHDONE && life < LIFE_BLOCKED)
				td.life = LIFE_BLOCKED;
			else if (t[i].leaf == MNG_KEY_CONFIG && life == LIFE_ASSIGNED)
				td.life = LIFE_CONFIGURED;
			else if (t[i].leaf == MNG_INIT && life == LIFE_U)
				td.life = LIFE_I;
			td_destroy(&td);
		}
	/* A vCPU that isn't flushed */
	td_make(&td, LIFE_I, TD_VCPU);
	STATUS_IS("life: a vCPU is not flushed", seamcall(MNG_VPFLUSHDONE, td.tdr, 0, 0, 0), TDX_FLUSHVP_NOT_DONE);
	STATUS_IS("life: VP.FLUSH", seamcall(VP_FLUSH, td.tdvpr, 0, 0, 0), TDX_SUCCESS);
	STATUS_IS("life: VP.FLUSH twice", seamcall(VP_FLUSH, td.tdvpr, 0, 0, 0), TDX_VCPU_NOT_ASSOCIATED);
	td_destroy(&td);
	STATUS_IS("life: nothing to write back", seamcall(CACHE_WB, 0, 0, 0, 0), TDX_NO_HKID_READY_TO_WBCACHE);
}

/* TRACK after BLOCK, and what is left of the content */
static void tracking_tests(void)
{
	struct td td;
	u64 pa;

	td_make(&td, LIFE_I, TD_GUEST);
	STATUS_IS("tracking: tables", seamcall(MEM_SEPT_ADD, GPA | 2, td.tdr, page_new(), 0), TDX_SUCCESS);
	STATUS_IS("tracking: tables", seamcall(MEM_SEPT_ADD, GPA | 1, td.tdr, page_new(), 0), TDX_SUCCESS);
	td_advance(&td, LIFE_R);
	pa = page_new();
	write64(pa, 0x1111);
	STATUS_IS("tracking: AUG", seamcall(MEM_PAGE_AUG, GPA, td.tdr, pa, 0), TDX_SUCCESS);
	WANT("content: the host reads zero", read64(pa), 0);
	WANT("content: ACCEPT", td_order(&td, TDG_ACCEPT, GPA, 0) == 77 ? out.rbx : -1UL, 0);
	WANT("content: an accepted page is zero", td_order(&td, TD_READ, GPA, 0) == 77 ? out.rsi : -1UL, 0);
	WANT("content: the TD writes", td_order(&td, TD_WRITE, GPA, 0x2222), 77);
	WANT("content: and reads it", td_order(&td, TD_READ, GPA, 0) == 77 ? out.rsi : -1UL, 0x2222);
	WANT("content: the host reads zero", read64(pa), 0);
	STATUS_IS("tracking: BLOCK", seamcall(MEM_RANGE_BLOCK, GPA, td.tdr, 0, 0), TDX_SUCCESS);
	STATUS_IS("tracking: REMOVE without TRACK", seamcall(MEM_PAGE_REMOVE, GPA, td.tdr, 0, 0), TDX_TLB_TRACKING_NOT_DONE);
	STATUS_IS("tracking: UNBLOCK without TRACK", seamcall(MEM_RANGE_UNBLOCK, GPA, td.tdr, 0, 0), TDX_TLB_TRACKING_NOT_DONE);
	WANT("tracking: a blocked page is an EPT violation", td_order(&td, TD_READ, GPA, 0), 48);
	WANT("tracking: at its address", out.r8, GPA);
	STATUS_IS("tracking: TRACK", seamcall(MEM_TRACK, td.tdr, 0, 0, 0), TDX_SUCCESS);
	STATUS_IS("tracking: REMOVE", seamcall(MEM_PAGE_REMOVE, GPA, td.tdr, 0, 0), TDX_SUCCESS);
	WANT("tracking: of that page", out.rcx, pa);
	WANT("tracking: which is nobody's", page_type(pa), PT_NDA);
	point(read64(pa) != 0x2222, "content: nothing is left for the host");
	write64(pa, 0x3333);
	WANT("content: the host uses it", read64(pa), 0x3333);
	td_destroy(&td);

	/* A TD finds out that its memory was written to. */
	td_make(&td, LIFE_I, TD_GUEST);
	STATUS_IS("poison: tables", seamcall(MEM_SEPT_ADD, GPA | 2, td.tdr, page_new(), 0), TDX_SUCCESS);
	STATUS_IS("poison: tables", seamcall(MEM_SEPT_ADD, GPA | 1, td.tdr, page_new(), 0), TDX_SUCCESS);
	pa = page_new();
	STATUS_IS("poison: ADD", seamcall(MEM_PAGE_ADD, GPA, td.tdr, pa, page_new()), TDX_SUCCESS);
	td_advance(&td, LIFE_R);
	WANT("poison: the TD reads", td_order(&td, TD_READ, GPA, 0), 77);
	write64(pa, 1);
	STATUS_IS("poison: the TD dies of the host's write", td_order(&td, TD_READ, GPA, 0), TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE);
	STATUS_IS("poison: and is not entered again", td_enter(&td), TDX_TD_FATAL);
	td_destroy(&td);
}

static void measure_page(u8 **p, u64 gpa, u64 content)
{
	int i;

	memset(*p, 0, 128);
	memcpy(*p, "MEM.PAGE.ADD", 12);
	memcpy(*p + 16, &gpa, 8);
	*p += 128;
	for (i = 0; content && i < 16; i++) {
		u64 chunk = gpa + 256 * i;

		memset(*p, 0, 128);
		memcpy(*p, "MR.EXTEND", 9);
		memcpy(*p + 16, &chunk, 8);
		memcpy(*p + 128, (void *)(content + 256 * i), 256);
		*p += 384;
	}
}

/* MRTD by its definition; the guest's own pages are added without their content. */
static void measurement_tests(void)
{
	static u8 log[16384], digest[48], got[48];
	u64 page = page_new(), report, i, status = 0;
	static const u64 gpas[] = { 0xfffff000UL, 0x1000, 0x2000, 0x3000 };
	struct td td;
	u8 *p = log;

	for (i = 0; i < 512; i++)
		write64(page + 8 * i, i * 0x0123456789abcdefUL);
	for (i = 0; i < ARRAY_SIZE(gpas); i++)
		measure_page(&p, gpas[i], 0);
	measure_page(&p, 0x5000, page);
	measure_page(&p, 0x6000, 0);
	sha384(log, p - log, digest);
	td_make(&td, LIFE_I, TD_GUEST);
	report = page_new();
	status |= seamcall(MEM_PAGE_ADD, 0x5000, td.tdr, page_new(), page);
	for (i = 0; i < 16; i++)
		status |= seamcall(MR_EXTEND, 0x5000 + 256 * i, td.tdr, 0, 0);
	/* The report goes to this page, in place: the source is the page itself. */
	status |= seamcall(MEM_PAGE_ADD, 0x6000, td.tdr, report, report);
	WANT("measurement: pages added", status, 0);
	td_advance(&td, LIFE_R);
	WANT("measurement: TDG.MR.REPORT", td_order(&td, TDG_REPORT, 0x6000, 0x5000) == 77 ? out.rbx : -1UL, 0);
	for (i = 0; i < 6; i++)
		((u64 *)got)[i] = td_order(&td, TD_READ, 0x6000 + 528 + 8 * i, 0) == 77 ? out.rsi : 0;
	point(!memcmp(got, digest, 48), "measurement: MRTD is what its definition says (%016lx, %016lx)",
	      __builtin_bswap64(*(u64 *)got), __builtin_bswap64(*(u64 *)digest));
	td_destroy(&td);
}

#define TD_CTLS			0x1110000300000017UL
#define TOPOLOGY_CONFIGURED	0x9100000000000019UL
#define ENUM_TOPOLOGY		BIT(1)

/* What it answers in the host's stead; without a handler, #VE kills the vCPU. */
static void answer_tests(void)
{
	struct td td;

	td_make(&td, LIFE_R, TD_GUEST);
	WANT("cpuid: a TD", td_order(&td, TD_CPUID, 0x21, 0) == 77 ? out.r9 : 0, 0x65746e49);
	WANT("cpuid: the last leaf", td_order(&td, TD_CPUID, 0, 0) == 77 ? out.r8 : 0, 0x21);
	WANT("cpuid: the last one of the others", td_order(&td, TD_CPUID, 0x80000000, 0) == 77 ? out.r8 : 0, 0x80000008);
	WANT("cpuid: GPAs", td_order(&td, TD_CPUID, 0x80000008, 0) == 77 ? out.r8 & 0xff : 0, 48);
	WANT("cpuid: the crystal's frequency", td_order(&td, TD_CPUID, 0x15, 0) == 77 ? out.r10 : 0, 25000000);
	WANT("cpuid: and the TSC's", out.r8 ? out.r9 / out.r8 : 0, 84);
	WANT("cpuid: what the TD can enable by XSETBV", td_order(&td, TD_CPUID, 0xd, 0) == 77 ? out.r8 : 0, 3);
	WANT("cpuid: no VMX, no MONITOR, no 5 levels", (td_order(&td, TD_CPUID, 1, 0) == 77 ? out.r10 & 0x28 : 1) |
	     (td_order(&td, TD_CPUID, 7, 0) == 77 ? out.r10 & BIT(16) : 1), 0);
	WANT("msr: IA32_MISC_ENABLE can be read", td_order(&td, TD_RDMSR, 0x1a0, 0) == 77 ? out.r8 & 1 : 0, 1);
	td_order(&td, TDG_VM_RD, 0, TOPOLOGY_CONFIGURED);
	WANT("topology: the host has configured it", out.rbx ?: out.r8, 1);
	td_order(&td, TDG_VM_RD, 0, TD_CTLS);
	WANT("topology: it's off", out.rbx ?: out.r8, 0);
	td_order_more(&td, TDG_VM_WR, 0, TD_CTLS, 0xff, 0xff);
	STATUS_IS("topology: what cannot be switched on", out.rbx, TDX_METADATA_FIELD_NOT_WRITABLE);
	td_order_more(&td, TDG_VM_WR, 0, TD_CTLS, ENUM_TOPOLOGY, ENUM_TOPOLOGY);
	WANT("topology: the TD switches it on", out.rbx, 0);
	td_order(&td, TDG_VM_RD, 0, TD_CTLS);
	WANT("topology: it's on", out.rbx ?: out.r8, ENUM_TOPOLOGY);
	td_order(&td, TD_CPUID, 0x1f, 0);
	point(!out.r8 && out.r9 == 1 && out.r10 == 0x100 && !out.r11, "topology: threads: %lx %lx %lx %lx", out.r8, out.r9, out.r10, out.r11);
	td_order(&td, TD_CPUID, 0x1f, 1);
	point(!out.r8 && out.r9 == 1 && out.r10 == 0x201 && !out.r11, "topology: cores: %lx %lx %lx %lx", out.r8, out.r9, out.r10, out.r11);
	WANT("topology: the APIC's number", td_order(&td, TD_RDMSR, 0x802, 0) == 77 ? out.r8 : -1UL, 0);
	td_destroy(&td);

	td_make(&td, LIFE_R, TD_GUEST);
	STATUS_IS("topology: #VE if it's off", td_order(&td, TD_CPUID, 0x1f, 0), TDX_NON_RECOVERABLE_VCPU);
	td_destroy(&td);
	td_make(&td, LIFE_R, TD_GUEST);
	STATUS_IS("msr: #VE for the APIC's number, too", td_order(&td, TD_RDMSR, 0x802, 0), TDX_NON_RECOVERABLE_VCPU);
	td_destroy(&td);
}

void rule_tests(void)
{
	answer_tests();
	page_tests();
	key_tests();
	tracking_tests();
	measurement_tests();
}

/* The host's store is a machine check, which leaves the address behind. */
void strict_tests(void)
{
	struct td td;
	u64 pa, cr4;

	asm volatile("mov %%cr4, %0; or $0x40, %0; mov %0, %%cr4" : "=&r"(cr4));	/* MCE */
	td_make(&td, LIFE_I, TD_GUEST);
	pa = td.pages[td.nr_pages - 1];
	WANT("strict: the host reads zero", read64(pa), 0);
	WANT("strict: the host's store", FAULT(asm volatile("movq $1, (%0)" :: "r"(pa) : "memory")), 18);
	WANT("strict: its address", rdmsr(0x406), pa);
	point(rdmsr(0x405) >> 63, "strict: its status");
	wrmsr(0x17a, 0);
	wrmsr(0x405, 0);
	td_destroy(&td);
	write64(pa, 0x5555);
	WANT("strict: a page that was given back", read64(pa), 0x5555);
}

static u32 pci_read(u32 slot, u32 reg)
{
	outl(0xcf8, BIT(31) | slot << 11 | reg);
	return inl(0xcfc);
}

/* -device tdx-inject */
void inject_tests(void)
{
	enum { MAGIC, LEAF, STATUS_LO, STATUS_HI, COUNT, ARM, PENDING, ERROR, BUSY };
	volatile u32 *reg = NULL;
	struct td td;
	u64 a, b, c;
	u32 slot;

	for (slot = 0; slot < 32; slot++)
		if (pci_read(slot, 0) == 0x7d011234)
			reg = (u32 *)(u64)(pci_read(slot, 0x10) & ~0xfU);
	if (!reg) {
		point(false, "inject: there is no device");
		return;
	}
	WANT("inject: the registers", reg[MAGIC], 0x49584454);
	td_make(&td, LIFE_R, 0);
	reg[LEAF] = MEM_TRACK;
	reg[STATUS_LO] = 0x77;
	reg[STATUS_HI] = 0xc0001234;
	reg[COUNT] = 2;
	reg[ARM] = 1;
	WANT("inject: a rule is pending", reg[PENDING], 1);
	a = seamcall(MEM_TRACK, td.tdr, 0, 0, 0);
	b = seamcall(MEM_TRACK, td.tdr, 0, 0, 0);
	c = seamcall(MEM_TRACK, td.tdr, 0, 0, 0);
	WANT("inject: the first call", a, 0);
	WANT("inject: the second one fails", b, 0xc000123400000077UL);
	WANT("inject: the third one", c, 0);
	WANT("inject: nothing is pending", reg[PENDING], 0);
	reg[LEAF] = 1000;
	reg[ARM] = 1;
	WANT("inject: no such leaf", reg[ERROR], 1);
	reg[LEAF] = MEM_TRACK;
	reg[ARM] = 1;
	reg[ARM] = 2;
	WANT("inject: rules are removed", reg[PENDING], 0);
	reg[BUSY] = 2;
	a = seamcall(MEM_TRACK, td.tdr, 0, 0, 0);
	b = seamcall(MEM_TRACK, td.tdr, 0, 0, 0);
	c = seamcall(MEM_TRACK, td.tdr, 0, 0, 0);
	reg[BUSY] = 0;
	point((STATUS(a) == TDX_OPERAND_BUSY) + (STATUS(b) == TDX_OPERAND_BUSY) + (STATUS(c) == TDX_OPERAND_BUSY) == 1 &&
	      !(a && b) && !(b && c), "inject: one of three is busy: %lx, %lx, %lx", a, b, c);
	td_destroy(&td);
}
