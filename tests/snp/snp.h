/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bare-metal tests of an AMD SEV-SNP host.
 *
 * ./run.sh [FILTER...]      FILTER: parts of test names; "list" only lists them
 *
 * How to add a test: write a .c file here (it's found by the Makefile) with
 *
 *	#include "snp.h"
 *
 *	TEST(my_test)                           // runs after SNP_INIT, in the order of file names
 *	{
 *		u64 pa = page_alloc();          // 4K, hypervisor state, mapped by 4K in the host (identity: va = pa)
 *		struct fault f;
 *
 *		CHECK_EQ(rmpupdate_firmware(pa), RMP_OK);
 *		f = FAULT(write64(pa, 1));      // any statement; f.vector is -1 if it didn't fault
 *		CHECK_EQ(f.vector, VEC_PF);
 *		CHECK_EQ(f.error, PF_P | PF_W | PF_RMP);
 *		page_free(pa);                  // gives it back to the hypervisor whatever its state
 *	}
 *
 * TEST_EARLY(name) runs before anything of SNP was set up (the test may do it itself, but has to leave things as they were).
 * TEST_ALONE(name) is such a test, too, but nothing can run after it: it has a boot of its own, run.sh alone_NAME.
 * One TEST gives one TAP line; with point("name %d", n) each point gives a line of its own. A CHECK that fails goes on, a
 * REQUIRE leaves the test, and so does skip("why").
 *
 * Guests: the whole image [1M, 2M) is copied into the guest's private memory at the same addresses, GDT, IDT and exception handling
 * included, so guest code is any function of this program (its variables are the guest's own copies as of guest_new()):
 *
 *	static u64 in_guest(u64 a, u64 b, u64 c)       // FAULT() works here, too; printf() goes to the host's console
 *	{
 *		return pvalidate(a, 0, 1);
 *	}
 *	...
 *	struct guest *g = guest_new(GUEST_SNP);         // or GUEST_ES, GUEST_SEV, GUEST_PLAIN
 *	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_INVALID);   // an RMP state, and an NPT entry
 *	struct gres r = gcall(g, in_guest, GPA_TEST, 0, 0);
 *	CHECK_EQ(r.how, GR_RETURNED); CHECK_EQ(r.value, 0);
 *	guest_free(g);
 *
 * gcall() comes back with GR_RETURNED (r.value), GR_FAULT (an exception that the function didn't catch: r.fault) or GR_EXIT (any
 * other #VMEXIT: r.code, r.info1, r.info2; the call was then aborted by an injected #UD, unless gcall_hold() was used: that one
 * leaves the guest where it is, so that the test can repair things and gresume(), or gabort()). guest_exit(v) in a
 * guest gives GR_HCALL with r.value = v, and gresume() goes on behind it.
 * For more than that: guest_new_raw(), vcpu_run() and the VMCB are all there.
 *
 * Guest-physical = guest-virtual for [0, 1G), private; GUEST_SHARED_VA(gpa) is the same memory through shared mappings (2M entries).
 */
#ifndef SNP_H
#define SNP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long u64;
typedef int64_t s64;

#define PAGE		4096UL
#define SIZE_2M		0x200000UL
#define SIZE_1G		0x40000000UL
#define BIT(n)		(1UL << (n))
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define ALIGN_UP(x, a)	(((x) + (a) - 1) & ~((a) - 1))
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#define barrier()	asm volatile("" ::: "memory")

/* lib.c */
void printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void vprintf(const char *fmt, va_list ap);
void snprintf(char *to, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void vsnprintf(char *to, size_t n, const char *fmt, va_list ap);
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memmove(void *to, const void *from, size_t n);
size_t strlen(const char *s);
char *strstr(const char *s, const char *what);
void end(int status) __attribute__((noreturn));

struct spinlock { int v; };
static inline void spin_lock(struct spinlock *l)
{
	while (__atomic_exchange_n(&l->v, 1, __ATOMIC_ACQUIRE))
		asm volatile("pause");
}
static inline void spin_unlock(struct spinlock *l)
{
	__atomic_store_n(&l->v, 0, __ATOMIC_RELEASE);
}

/* Tests: main.c */
struct test {
	const char *name;
	void (*fn)(void);
	u64 when;		/* with SNP, TEST_IS_* */
};
enum { TEST_IS_EARLY = 1, TEST_IS_ALONE };
#define TEST_(n, when)								\
	static void test_##n(void);						\
	static const struct test test_entry_##n						\
		__attribute__((used, section(".tests"), aligned(8))) = { #n, test_##n, when };	\
	static void test_##n(void)
#define TEST(n)		TEST_(n, 0)
#define TEST_EARLY(n)	TEST_(n, TEST_IS_EARLY)
#define TEST_ALONE(n)	TEST_(alone_##n, TEST_IS_ALONE)

void point(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* ends a TAP line, begins another one */
void fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void test_abort(void) __attribute__((noreturn));
void skip(const char *why) __attribute__((noreturn));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* a "# " line */

#define FAIL(...)	fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond)	({ bool ok_ = (cond);	\
	   if (!ok_)		\
		FAIL("%s", #cond);	\
	   ok_; })
#define CHECK_EQ(got, want)								\
	({ u64 got_ = (u64)(got), want_ = (u64)(want);					\
	   if (got_ != want_)								\
		FAIL("%s: expected %#lx, got %#lx", #got, want_, got_);			\
	   got_ == want_; })
#define REQUIRE(cond)	({ if (!CHECK(cond)) test_abort(); })
#define REQUIRE_EQ(got, want)	({ if (!CHECK_EQ(got, want)) test_abort(); })

/* Processors and exceptions: cpu.c */
enum { VEC_DE, VEC_DB, VEC_NMI, VEC_BP, VEC_OF, VEC_BR, VEC_UD, VEC_NM, VEC_DF, VEC_TS = 10, VEC_NP, VEC_SS, VEC_GP, VEC_PF,
       VEC_MF = 16, VEC_AC, VEC_MC, VEC_XM, VEC_VC = 29 };
#define PF_P		BIT(0)
#define PF_W		BIT(1)
#define PF_U		BIT(2)
#define PF_RSV		BIT(3)
#define PF_ID		BIT(4)
#define PF_RMP		BIT(31)

struct fault {
	int vector;		/* -1: none */
	u64 error, cr2, rip;
};
struct catch {
	u64 regs[8];		/* known to start.S */
	struct catch *prev;
	struct fault fault;
};
struct regs {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax, vector, error, rip, cs, rflags, rsp, ss;
};
int catch_set(struct catch *c) __attribute__((returns_twice));
void catch_resume(struct catch *c) __attribute__((noreturn));
void catch_push(struct catch *c);
void catch_pop(struct catch *c);

/* Does something that may fault. Don't leave it by return or goto. Variables that it changes had better be volatile. */
#define FAULT(stmt)							\
	({ struct catch c_; catch_push(&c_);				\
	   if (!catch_set(&c_)) { stmt; }				\
	   barrier(); catch_pop(&c_); c_.fault; })
struct fault expect_fault(void (*fn)(void *), void *arg);

#define MAX_CPUS	16
#define MAX_VCPUS	4
struct percpu {
	struct percpu *self;	/* at GS:0 */
	int cpu;		/* number; MAX_CPUS and more: virtual processors, which have them in their copy of the image */
	bool guest;
	u32 apic_id;
	struct catch *catch;
	bool (*hook)(struct regs *r, u64 cr2);	/* for exceptions outside FAULT(): true if execution shall go on as *r says */
	u64 vectors;		/* counts exceptions and interrupts */
	void (*volatile work)(void *);
	void *work_arg;
	volatile int busy, up;
	u64 hsave;		/* VM_HSAVE_PA while it runs guests */
	u64 tss[26];
};
extern struct percpu percpu[MAX_CPUS + MAX_VCPUS];
extern int ncpus;
static inline struct percpu *this_cpu(void)
{
	struct percpu *p;
	asm volatile("mov %%gs:0, %0" : "=r"(p));
	return p;
}
static inline bool in_guest(void) { return this_cpu()->guest; }
void start_on(int cpu, void (*fn)(void *), void *arg);	/* returns at once */
void wait_for(int cpu);
void on_cpu(int cpu, void (*fn)(void *), void *arg);	/* waits; runs it here if it's this one */
void on_all(void (*fn)(void *), void *arg);
void cpu_init(void);
void smp_init(void);
u64 acpi_table(const char *name);	/* mapped; 0: there is none */
bool cpu_restart_last(void);	/* the last one, after an INIT */
void cpu_setup(int cpu);	/* GDT, IDT, TSS, GS of the processor that runs it */
u64 rdtsc(void);
void delay(u64 cycles);
extern u64 ap_cr3, ap_stack, multiboot_info;
#define SEL_CODE	0x08
#define SEL_DATA	0x10
#define SEL_USER_DATA	0x1b
#define SEL_USER_CODE	0x23
#define SEL_TSS(cpu)	(0x30 + 16 * (cpu))
struct dtr { u16 limit; u64 base; } __attribute__((packed));
void get_dtrs(struct dtr *gdtr, struct dtr *idtr);

/* Instructions */
static inline u64 read64(u64 va) { return *(volatile u64 *)va; }
static inline void write64(u64 va, u64 v) { *(volatile u64 *)va = v; }
static inline u32 read32(u64 va) { return *(volatile u32 *)va; }
static inline void write32(u64 va, u32 v) { *(volatile u32 *)va = v; }
static inline void write8(u64 va, u8 v) { *(volatile u8 *)va = v; }
static inline u8 read8(u64 va) { return *(volatile u8 *)va; }
static inline void exec(u64 va) { ((void (*)(void))va)(); }	/* put a 0xc3 there */
#define RD(n, insn) static inline u64 n(void) { u64 v; asm volatile(insn : "=r"(v) :: "memory"); return v; }
#define WR(n, insn) static inline void n(u64 v) { asm volatile(insn :: "r"(v) : "memory"); }
RD(read_cr0, "mov %%cr0, %0") RD(read_cr2, "mov %%cr2, %0") RD(read_cr3, "mov %%cr3, %0") RD(read_cr4, "mov %%cr4, %0")
WR(write_cr0, "mov %0, %%cr0") WR(write_cr2, "mov %0, %%cr2") WR(write_cr3, "mov %0, %%cr3") WR(write_cr4, "mov %0, %%cr4")
RD(read_dr7, "mov %%dr7, %0") WR(write_dr7, "mov %0, %%dr7") RD(read_rflags, "pushf; pop %0")
static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;
	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return lo | (u64)hi << 32;
}
static inline void wrmsr(u32 msr, u64 v)
{
	asm volatile("wrmsr" :: "a"((u32)v), "d"((u32)(v >> 32)), "c"(msr) : "memory");
}
static inline void xsetbv(u32 i, u64 v)
{
	asm volatile("xsetbv" :: "a"((u32)v), "d"((u32)(v >> 32)), "c"(i) : "memory");
}
static inline void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub) : "memory");
}
static inline void invlpg(u64 va) { asm volatile("invlpg (%0)" :: "r"(va) : "memory"); }
static inline void wbinvd(void) { asm volatile("wbinvd" ::: "memory"); }
static inline void hlt(void) { asm volatile("hlt" ::: "memory"); }
static inline void pause(void) { asm volatile("pause" ::: "memory"); }
static inline void vmgexit(void) { asm volatile("rep; vmmcall" ::: "memory"); }
static inline void vmload(u64 pa) { asm volatile("vmload" :: "a"(pa) : "memory"); }
static inline void vmsave(u64 pa) { asm volatile("vmsave" :: "a"(pa) : "memory"); }
static inline void clgi(void) { asm volatile("clgi" ::: "memory"); }
static inline void stgi(void) { asm volatile("stgi" ::: "memory"); }
static inline void outb(u16 port, u8 v) { asm volatile("outb %0, %1" :: "a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { asm volatile("outl %0, %1" :: "a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 inl(u16 port) { u32 v; asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

#define MSR_EFER	0xc0000080
#define MSR_GS_BASE	0xc0000101
#define MSR_SYSCFG	0xc0010010
#define MSR_HWCR	0xc0010015
#define MSR_VM_CR	0xc0010114
#define MSR_VM_HSAVE_PA	0xc0010117
#define MSR_GHCB	0xc0010130
#define MSR_SEV_STATUS	0xc0010131
#define MSR_RMP_BASE	0xc0010132
#define MSR_RMP_END	0xc0010133
#define SYSCFG_MFDM	BIT(19)
#define SYSCFG_MEM_ENCRYPT BIT(23)
#define SYSCFG_SNP_EN	BIT(24)
#define SYSCFG_VMPL_EN	BIT(25)

/* Memory: mem.c. All of RAM is mapped at va = pa; what page_alloc() gives by 4K, the rest by 2M. */
#define PTE_P		BIT(0)
#define PTE_W		BIT(1)
#define PTE_U		BIT(2)
#define PTE_A		BIT(5)
#define PTE_D		BIT(6)
#define PTE_PS		BIT(7)
#define PTE_NX		BIT(63)
#define PTE_ADDR	0x000ffffffffff000UL
void mem_init(void);
u64 sys_alloc(void);			/* zeroed, below 32M, in 2M regions of which no page is ever assigned; isn't freed */
u64 sys_alloc_2m_aligned(void);
u64 page_alloc(void);			/* zeroed, above 4G if there is memory */
u64 page_alloc_low(void);		/* below 4G */
u64 page_alloc_2m(void);		/* 2M aligned; mapped by 4K */
u64 page_alloc_2m_low(void);
void page_free(u64 pa);			/* makes it the hypervisor's and writable first */
void page_free_2m(u64 pa);
bool in_ram(u64 pa);
extern u64 rmp_base, rmp_end;		/* as in the MSRs: 0 if there is none */
extern u64 ram_end;			/* end of usable RAM above (or below) 4G */
u64 *pte_of(u64 root, u64 va, int *level);	/* the entry that maps va, or the one that isn't present; level 1: 4K, 2: 2M, 3: 1G */
u64 *pte_make(u64 root, u64 va, int level);	/* the entry of that level, tables above it are made (splitting larger pages) */
void map(u64 va, u64 pa, int level, u64 flags);	/* in the host's tables; flushes this processor's TLB entry only */
void map_range(u64 va, u64 pa, u64 size, u64 flags);
void map_split(u64 va);			/* the 2M around va by 4K pages */
u64 alias_2m(u64 pa);			/* another address for pa, by a 2M page */
u64 alias_1g(u64 pa);			/* by a 1G page */
void flush_tlb(void);			/* this processor */

/* PSP: psp.c */
enum { PSP_SUCCESS, PSP_PLATFORM_STATE, PSP_GUEST_STATE, PSP_CONFIG, PSP_LENGTH, PSP_ALREADY_OWNED, PSP_CERTIFICATE, PSP_POLICY,
       PSP_INACTIVE, PSP_ADDRESS, PSP_SIGNATURE, PSP_MEASUREMENT, PSP_ASID_OWNED, PSP_ASID, PSP_WBINVD, PSP_DFFLUSH, PSP_GUEST,
       PSP_COMMAND, PSP_ACTIVE, PSP_HWERROR, PSP_HWUNSAFE, PSP_UNSUPPORTED, PSP_PARAM, PSP_RESOURCE, PSP_SECURE_DATA,
       PSP_PAGE_SIZE, PSP_PAGE_STATE, PSP_MDATA, PSP_PAGE_OWNER, PSP_RMP_INIT_REQUIRED = 0x20, PSP_RMP_INIT_FAILED = 0x26,
       PSP_NONE = 0xfff0 /* no PSP */, PSP_TIMEOUT = 0xfff1 };
enum { SEV_INIT = 0x01, SEV_SHUTDOWN, SEV_PLATFORM_STATUS = 0x04, SEV_DF_FLUSH = 0x0a, SEV_DECOMMISSION = 0x20, SEV_ACTIVATE,
       SEV_DEACTIVATE, SEV_GUEST_STATUS, SEV_LAUNCH_START = 0x30, SEV_LAUNCH_UPDATE_DATA, SEV_LAUNCH_UPDATE_VMSA, SEV_LAUNCH_MEASURE,
       SEV_LAUNCH_FINISH = 0x35, SEV_DBG_DECRYPT = 0x60, SEV_DBG_ENCRYPT,
       SNP_INIT = 0x81, SNP_SHUTDOWN, SNP_PLATFORM_STATUS, SNP_DF_FLUSH, SNP_INIT_EX, SNP_SHUTDOWN_EX, SNP_DECOMMISSION = 0x90,
       SNP_ACTIVATE, SNP_GUEST_STATUS, SNP_GCTX_CREATE, SNP_GUEST_REQUEST, SNP_ACTIVATE_EX, SNP_LAUNCH_START = 0xa0,
       SNP_LAUNCH_UPDATE, SNP_LAUNCH_FINISH, SNP_DBG_DECRYPT = 0xb0, SNP_DBG_ENCRYPT, SNP_PAGE_SET_STATE = 0xc6,
       SNP_PAGE_RECLAIM, SNP_PAGE_UNSMASH, SNP_CONFIG, SNP_COMMIT = 0xcb, SNP_FEATURE_INFO = 0xce };
extern u64 psp_bar;			/* 0: there is none */
void psp_find(void);
u32 pci_read(u32 bdf, u32 reg);		/* bus << 8 | device << 3 | function */
void pci_write(u32 bdf, u32 reg, u32 v);
u32 psp_raw(u32 cmd, u64 buf);		/* status by polling; buf is a physical address, nothing is done to it */
u32 psp(u32 cmd, const void *data, size_t n);	/* copies data to a page of its own, so that data may lie anywhere */
u32 sev(u32 cmd, void *data, size_t n);	/* legacy commands while SNP is on: gives the buffer to the firmware and takes it back */
/* SNP bring-up in steps, for tests that want to leave one out; snp_up() does them all, once. Each returns a PSP status. */
void snp_enable_cpus(void);		/* RMP zeroed, WBINVD, SYSCFG, VM_HSAVE_PA 0 on all processors */
u32 snp_init_ex(void);			/* RMP initialised, HV-fixed pages: hv_fixed[] */
u32 snp_df_flush(void);			/* WBINVD everywhere, then DF_FLUSH */
u32 snp_up(void);
extern u64 hv_fixed[8];
u32 snp_gctx_create(u64 ctx);
u32 snp_launch_start(u64 ctx, u64 policy);
u32 snp_activate(u64 ctx, u32 asid);
u32 snp_launch_update(u64 ctx, u64 pa, int size_2m, int type);
u32 snp_launch_update_vmpl(u64 ctx, u64 pa, int size_2m, int type, u32 vmpl1, u32 vmpl2, u32 vmpl3);
u32 snp_launch_finish(u64 ctx);
u32 snp_decommission(u64 ctx);
u32 snp_reclaim(u64 pa, int size_2m);
u32 snp_unsmash(u64 pa);
u32 snp_set_state(u64 pa, u64 pages);	/* firmware -> HV-fixed */
#define POLICY_DEFAULT	(BIT(17) | BIT(16))
enum { LU_NORMAL = 1, LU_VMSA, LU_ZERO, LU_UNMEASURED, LU_SECRETS, LU_CPUID };

/* RMP: rmp.c */
enum { RMP_OK, RMP_FAIL_INPUT, RMP_FAIL_PERMISSION, RMP_FAIL_INUSE, RMP_FAIL_OVERLAP, RMP_FAIL_SIZEMISMATCH = 6, RMP_FAIL_STATE };
struct rmp_record {			/* operand of RMPUPDATE */
	u64 gpa;
	u8 assigned, size, immutable, rsvd;
	u32 asid;
};
u32 rmpupdate_raw(u64 pa, const struct rmp_record *r);
u32 rmpupdate(u64 pa, int assigned, int size_2m, int immutable, u32 asid, u64 gpa);
static inline u32 rmpupdate_shared(u64 pa) { return rmpupdate(pa, 0, 0, 0, 0, 0); }
static inline u32 rmpupdate_firmware(u64 pa) { return rmpupdate(pa, 1, 0, 1, 0, 0); }
u32 psmash(u64 pa);
u32 pvalidate_cf(u64 va, u64 size, u64 validate, bool *cf);	/* guest */
u32 pvalidate(u64 va, u64 size, u64 validate);
u32 rmpadjust(u64 va, u64 size, u64 attributes);		/* guest: target VMPL | permissions << 8 | VMSA << 16 */
u32 rmpread(u64 pa, struct rmp_record *r);
struct rmp_entry { u64 lo, hi; };
bool rmp_entry(u64 pa, struct rmp_entry *e);	/* as in memory (Zen 3, Zen 4); false: no entry */
#define RE_ASSIGNED	BIT(0)
#define RE_2M		BIT(1)
#define RE_IMMUTABLE	BIT(2)
#define RE_GPA(lo)	((lo) & 0x7fffffffff000UL)
#define RE_ASID(lo)	((u32)((lo) >> 51) & 0x3ff)
#define RE_VMSA		BIT(61)
#define RE_VALIDATED	BIT(62)
enum rmp_state { ST_HYPERVISOR, ST_HV_FIXED, ST_RECLAIM, ST_FIRMWARE, ST_CONTEXT, ST_METADATA, ST_PRE_GUEST, ST_GUEST_INVALID,
		 ST_PRE_SWAP, ST_GUEST_VALID, ST_DEFAULT, ST_INNER /* not the first page of a 2M entry */, ST_OTHER, ST_N };
extern const char *const rmp_state_name[ST_N];
enum rmp_state rmp_state(u64 pa);
const char *rmp_name(u64 pa);
struct guest;
/* A page (4K or 2M) of that state; guest states need g, with its context in LAUNCH for guest-valid and pre-swap. 0: can't. */
u64 rmp_page(enum rmp_state st, struct guest *g, u64 gpa, int size_2m);
u32 rmp_set(u64 pa, enum rmp_state st, struct guest *g, u64 gpa, int size_2m);	/* the same for a hypervisor page; 0: done */
bool rmp_release(u64 pa, int size_2m);	/* whatever it is, to the hypervisor */

/* Guests: guest.c */
struct gregs { u64 rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15; };
struct vmcb_seg { u16 selector, attrib; u32 limit; u64 base; };
struct vmsa {				/* also the save area of a VMCB, of which it is longer */
	struct vmcb_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u64 pl_ssp[4], u_cet; u8 rsvd0c8[2], vmpl, cpl, rsvd0cc[4];
	u64 efer; u8 rsvd0d8[0x68]; u64 xss, cr4, cr3, cr0, dr7, dr6, rflags, rip, dr[4], dr_mask[4]; u8 rsvd1c0[24];
	u64 rsp, s_cet, ssp, isst, rax, star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	u8 rsvd248[32]; u64 g_pat, dbgctl, br_from, br_to, excp_from, excp_to; u8 rsvd298[80]; u32 pkru, tsc_aux;
	u64 tsc_scale, tsc_offset, nonce, rcx, rdx, rbx, rsvd320, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15; u8 rsvd380[16];
	u64 guest_exit_info_1, guest_exit_info_2, guest_exit_int_info, guest_nrip, sev_features, vintr_ctrl, guest_exit_code, vtom,
	    tlb_id, pcpu_id, event_inj, xcr0; u8 rsvd3f0[16];
	u64 x87_dp; u32 mxcsr; u16 x87_ftw, x87_fsw, x87_fcw, x87_fop, x87_ds, x87_cs; u64 x87_rip; u8 x87[80], xmm[256], ymm[256];
} __attribute__((packed));
struct vmcb {
	u32 intercept_cr, intercept_dr, intercept_excp, intercept3, intercept4, intercept5; u8 rsvd018[0x28];
	u64 iopm_pa, msrpm_pa, tsc_offset; u32 asid; u8 tlb_ctl, rsvd05d[3]; u32 int_ctl, int_vector; u64 int_state;
	u64 exit_code, exit_info_1, exit_info_2; u32 exit_int_info, exit_int_info_err; u64 nested_ctl, avic_bar, ghcb_gpa;
	u32 event_inj, event_inj_err; u64 nested_cr3, virt_ext; u32 clean, rsvd0c4; u64 next_rip; u8 insn_len, insn_bytes[15];
	u64 avic_backing, rsvd0e8, avic_logical, avic_physical, rsvd100, vmsa_pa; u8 rsvd110[0x28];
	u64 allowed_sev_features, guest_sev_features; u8 rsvd148[0x2b8];
	union { struct vmsa save; u8 rsvd400[0xc00]; };
} __attribute__((packed));
_Static_assert(sizeof(struct vmcb) == 4096, "VMCB");
_Static_assert(offsetof(struct vmsa, cr3) == 0x150 && offsetof(struct vmsa, cr2) == 0x240 && offsetof(struct vmsa, rcx) == 0x308 &&
	       offsetof(struct vmsa, sev_features) == 0x3b0 && offsetof(struct vmsa, xcr0) == 0x3e8 && offsetof(struct vmsa, ymm) == 0x570,
	       "VMSA");
_Static_assert(offsetof(struct vmcb, asid) == 0x58 && offsetof(struct vmcb, nested_cr3) == 0xb0 && offsetof(struct vmcb, vmsa_pa) == 0x108 &&
	       offsetof(struct vmcb, allowed_sev_features) == 0x138, "VMCB");

enum { INTERCEPT_INTR = 0, INTERCEPT_NMI, INTERCEPT_SMI, INTERCEPT_INIT, INTERCEPT_VINTR, INTERCEPT_CPUID = 18, INTERCEPT_PAUSE = 23,
       INTERCEPT_HLT, INTERCEPT_INVLPG, INTERCEPT_INVLPGA, INTERCEPT_IO, INTERCEPT_MSR, INTERCEPT_TASK, INTERCEPT_FERR,
       INTERCEPT_SHUTDOWN };		/* bits of intercept3 */
enum { INTERCEPT_VMRUN = 0, INTERCEPT_VMMCALL, INTERCEPT_VMLOAD, INTERCEPT_VMSAVE, INTERCEPT_STGI, INTERCEPT_CLGI,
       INTERCEPT_EFER_TRAP = 15, INTERCEPT_CR0_TRAP = 16 };	/* bits of intercept4 */
enum { EXIT_CR0_READ = 0, EXIT_CR0_WRITE = 0x10, EXIT_EXCP = 0x40, EXIT_INTR = 0x60, EXIT_NMI, EXIT_SMI, EXIT_INIT, EXIT_VINTR,
       EXIT_CPUID = 0x72, EXIT_PAUSE = 0x77, EXIT_HLT = 0x78, EXIT_IOIO = 0x7b, EXIT_MSR, EXIT_SHUTDOWN = 0x7f, EXIT_VMRUN, EXIT_VMMCALL,
       EXIT_EFER_TRAP = 0x8f, EXIT_CR0_TRAP = 0x90, EXIT_NPF = 0x400, EXIT_VMGEXIT = 0x403 };
#define EXIT_INVALID	(~0UL)
#define EXIT_BUSY	(~1UL)
#define NPF_P		BIT(0)
#define NPF_W		BIT(1)
#define NPF_U		BIT(2)
#define NPF_RSV		BIT(3)
#define NPF_ID		BIT(4)
#define NPF_RMP		BIT(31)
#define NPF_GPA		BIT(32)		/* at the final address */
#define NPF_GPT		BIT(33)		/* at the guest's page tables */
#define NPF_ENC		BIT(34)
#define NPF_SIZEM	BIT(35)
#define NPF_VMPL	BIT(36)
#define NPF_SSS		BIT(37)
#define VC_NOT_VALIDATED 0x404
#define NESTED_NP	BIT(0)
#define NESTED_SEV	BIT(1)
#define NESTED_ES	BIT(2)

enum guest_kind { GUEST_PLAIN, GUEST_SEV, GUEST_ES, GUEST_SNP };
/* Guest-physical addresses that are in use; the rest of [2M, 1G) belongs to the test. */
#define GPA_TABLES	0x400000UL	/* 4 pages: PML4, PDPT, private PD, shared PD */
#define GPA_COMM	0x600000UL	/* 1 page per vCPU, shared */
#define GPA_TEST	0x2000000UL
#define GPA_VMSA	0xfffffffff000UL
#define GUEST_SHARED_VA(gpa)	(SIZE_1G + (gpa))
#define COMM_LOG	2048
struct comm {				/* between a guest and its host */
	u64 fn, arg[3], value;
	struct fault fault;
	u64 data[64];			/* for the test */
	u32 log_len;
	char log[COMM_LOG];
};
struct vcpu {
	struct guest *g;
	int n;
	struct vmcb *vmcb;		/* identity mapped: its address is its physical address */
	u64 vmsa;			/* page; 0 if the kind of guest has none */
	int vmpl;
	bool busy;
	struct comm *comm;
	struct gregs regs;		/* if it has none */
	/* after vcpu_run() */
	struct fault fault;		/* of VMRUN itself */
	u64 code, info1, info2, ghcb, runs;
};
struct guest {
	enum guest_kind kind;
	u32 asid, handle;
	u64 ctx;			/* context page, SNP */
	u64 npt;			/* root of the nested page tables */
	u64 image, tables;		/* host addresses of the copies, one page after the other in pages[] */
	struct comm *comm;		/* of vcpu[0] */
	struct vcpu vcpu[MAX_VCPUS];
	int nvcpus;
	bool launched;
	u32 npages;
	u64 pages[512];			/* what guest_free() gives back */
};
extern u64 cbit_mask;			/* from CPUID, 0 without SEV */
struct guest *guest_new(enum guest_kind kind);	/* launched, stands before the first gcall() */
struct guest *guest_new_raw(enum guest_kind kind);	/* image, tables and comm page are in, SNP: activated, in LAUNCH; no vCPU */
struct vcpu *guest_vcpu(struct guest *g, void (*entry)(void));	/* one more; before guest_launch() for SNP and ES */
struct vcpu *guest_vcpu_vmpl(struct guest *g, void (*entry)(void), int vmpl);	/* SNP; launched pages give all rights to all VMPLs */
bool guest_launch(struct guest *g);
void guest_free(struct guest *g);
void vmsa_init(struct guest *g, struct vmsa *s, int vcpu, void (*entry)(void));	/* what guest_vcpu() fills in */
u32 asid_alloc(enum guest_kind kind);
void guest_main(void);			/* the usual entry: waits for gcall() */

void npt_map(struct guest *g, u64 gpa, u64 pa, int level, u64 flags);	/* flags: PTE_W etc.; PTE_P | PTE_U are added. Flushes */
void npt_unmap(struct guest *g, u64 gpa);
u64 *npt_entry(struct guest *g, u64 gpa, int *level);
u64 npt_pa(struct guest *g, u64 gpa);
void npt_flush(struct guest *g);	/* at the next VMRUN */
u64 guest_page(struct guest *g, u64 gpa, enum rmp_state st);	/* a fresh page of that state, mapped at gpa by 4K; its pa; 0: can't */
u64 guest_page_2m(struct guest *g, u64 gpa, enum rmp_state st);	/* 2M RMP entry and NPT entry */

u64 vcpu_run(struct vcpu *v);		/* one VMRUN; exit code */
u64 vcpu_run_at(struct vcpu *v, u64 hsave);	/* with another host save area */
void vmrun_asm(u64 vmcb, u64 hsave, struct gregs *regs);
void vcpu_inject(struct vcpu *v, int vector, bool has_error, u32 error);

enum { GR_RETURNED, GR_FAULT, GR_EXIT, GR_HCALL, GR_VMRUN_FAULT };
struct gres {
	int how;
	u64 value;
	struct fault fault;
	u64 code, info1, info2;
};
typedef u64 (*gfn)(u64, u64, u64);
struct gres gcall(struct guest *g, gfn fn, u64 a, u64 b, u64 c);
struct gres gcall_hold(struct guest *g, gfn fn, u64 a, u64 b, u64 c);
struct gres gresume(struct guest *g);
struct gres gabort(struct guest *g);
struct gres vcall(struct vcpu *v, gfn fn, u64 a, u64 b, u64 c);	/* the same with any vCPU (whose entry is guest_main) */
struct gres vcall_hold(struct vcpu *v, gfn fn, u64 a, u64 b, u64 c);
struct gres vresume(struct vcpu *v);
struct gres vabort(struct vcpu *v);
#define CHECK_RETURNED(r, v)								\
	({ struct gres r_ = (r);							\
	   if (r_.how != GR_RETURNED || r_.value != (u64)(v))	\
		FAIL("%s: expected return of %#lx, got %s", #r, (u64)(v), gres_text(&r_)); })
#define CHECK_EXIT(r, c, i1, i2)							\
	({ struct gres r_ = (r);							\
	   if (r_.how != GR_EXIT || r_.code != (u64)(c) || r_.info1 != (u64)(i1) || r_.info2 != (u64)(i2)) \
		FAIL("%s: expected exit %#lx info %#lx %#lx, got %s", #r, (u64)(c), (u64)(i1), (u64)(i2), gres_text(&r_)); })
#define CHECK_FAULT(r, v, e, addr)							\
	({ struct gres r_ = (r);							\
	   if (r_.how != GR_FAULT || r_.fault.vector != (int)(v) || r_.fault.error != (u64)(e) || r_.fault.cr2 != (u64)(addr)) \
		FAIL("%s: expected exception %d error %#lx cr2 %#lx, got %s", #r, (int)(v), (u64)(e), (u64)(addr), gres_text(&r_)); })
const char *gres_text(const struct gres *r);
/* Guest functions for gcall() */
u64 g_read(u64 va, u64 b, u64 c);
u64 g_write(u64 va, u64 value, u64 c);
u64 g_exec(u64 va, u64 b, u64 c);
u64 g_pvalidate(u64 va, u64 size, u64 validate);	/* result | CF << 8 */
u64 g_rmpadjust(u64 va, u64 size, u64 attributes);
u64 g_rdmsr(u64 msr, u64 b, u64 c);
u64 g_wrmsr(u64 msr, u64 v, u64 c);
/* In a guest */
void guest_exit(u64 value);		/* up to 52 bits; VMMCALL in guests without GHCB */
struct comm *guest_comm(void);
u64 ghcb_msr(u64 request);		/* MSR protocol: the answer */

#endif
