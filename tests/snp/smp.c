/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several processors: an instruction on the RMP has taken effect everywhere when it completes (APM volume 2, 15.36.5, .6, .12), and
 * of two at once on one page one comes after the other, or fails with FAIL_INUSE.
 */
#include "snp.h"

#define ROUNDS	100

static void snp_here(void *arg)
{
	(void)arg;
	wbinvd();
	wrmsr(MSR_SYSCFG, rdmsr(MSR_SYSCFG) | SYSCFG_MFDM | SYSCFG_MEM_ENCRYPT);
	wrmsr(MSR_SYSCFG, rdmsr(MSR_SYSCFG) | SYSCFG_SNP_EN | SYSCFG_VMPL_EN);
}

static void hsave_here(void *arg)
{
	wrmsr(MSR_VM_HSAVE_PA, (u64)arg);
}

static struct {
	volatile int go, stop, at;
	volatile u64 pa, va, n, writes;
	volatile u32 result;
	struct fault fault;
	struct guest *g;
	struct gres r;
	u32 asid;
	u64 gpa;
} s;

/* What SNP_INIT wants, it wants of every processor. It can't be undone, so this is the start of the bring-up. */
TEST_EARLY(smp_snp_init)
{
	int i;

	if (ncpus < 2 || !psp_bar || !rmp_base)
		skip("one processor only, or no SNP");
	memset((void *)rmp_base, 0, rmp_end + 1 - rmp_base);
	point("SNP_EN nowhere");
	CHECK_EQ(snp_init_ex(), PSP_CONFIG);
	point("SNP_EN on one processor only");
	on_cpu(0, snp_here, NULL);
	CHECK_EQ(snp_init_ex(), PSP_CONFIG);
	for (i = 1; i < ncpus; i++)
		on_cpu(i, snp_here, NULL);
	point("VM_HSAVE_PA set on one processor");
	on_cpu(ncpus - 1, hsave_here, (void *)sys_alloc());
	CHECK_EQ(snp_init_ex(), PSP_CONFIG);
	on_cpu(ncpus - 1, hsave_here, NULL);
	point("checks don't wait for the firmware");
	s.pa = page_alloc();
	CHECK_EQ(rmpupdate(s.pa, 1, 0, 0, 5, 0x5000), RMP_OK);
	CHECK_EQ(FAULT(write64(s.pa, 1)).vector, VEC_PF);
	CHECK_EQ(rmpupdate_shared(s.pa), RMP_OK);
	CHECK_EQ(FAULT(write64(s.pa, 1)).vector, -1);
	page_free(s.pa);
}

/* SYSCFG cannot be changed once SNP_EN is set, so each of these takes a boot of its own. */
static void syscfg_here(void *arg)
{
	wbinvd();
	wrmsr(MSR_VM_HSAVE_PA, 0);
	wrmsr(MSR_SYSCFG, (u64)arg & ~(SYSCFG_SNP_EN | SYSCFG_VMPL_EN));
	wrmsr(MSR_SYSCFG, (u64)arg);
}

static void init_refused(u64 syscfg, u64 last)
{
	u64 good = SYSCFG_MFDM | SYSCFG_MEM_ENCRYPT | SYSCFG_SNP_EN | SYSCFG_VMPL_EN;
	int i;

	if (ncpus < 2 || !psp_bar || !rmp_base)
		skip("one processor only, or no SNP");
	memset((void *)rmp_base, 0, rmp_end + 1 - rmp_base);
	for (i = 0; i < ncpus; i++)
		on_cpu(i, syscfg_here, (void *)(good ^ syscfg ^ (i == ncpus - 1 ? last : 0)));
	CHECK_EQ(rdmsr(MSR_SYSCFG), good ^ syscfg);
	CHECK_EQ(snp_init_ex(), syscfg | last ? PSP_CONFIG : PSP_SUCCESS);
}

TEST_ALONE(init_complete) { init_refused(0, 0); }
TEST_ALONE(init_without_mfdm) { init_refused(SYSCFG_MFDM, 0); }
TEST_ALONE(init_without_vmpl_en) { init_refused(SYSCFG_VMPL_EN, 0); }
TEST_ALONE(init_without_mem_encrypt) { init_refused(SYSCFG_MEM_ENCRYPT, 0); }
TEST_ALONE(init_unequal) { init_refused(0, BIT(20)); }

/* Waits until cond, or until something must be wrong. */
#define WAIT(cond)							\
	({ u64 t_ = rdtsc();						\
	   while (!(cond) && rdtsc() - t_ < 20000000000UL)		\
		pause();						\
	   (cond); })

static bool two_cpus(void)
{
	memset(&s, 0, sizeof(s));
	if (ncpus < 2)
		skip("one processor only");
	return true;
}

/* Both sides call it: leaves when the other one has come, too. Each for the n-th time. */
static void meet(int n)
{
	__atomic_add_fetch(&s.at, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&s.at, __ATOMIC_SEQ_CST) < 2 * n)
		pause();
}

static void update_loop(void *arg)
{
	int i;

	(void)arg;
	for (i = 1; i <= ROUNDS; i++) {
		meet(2 * i - 1);
		s.result = rmpupdate(s.pa, 1, 0, 1, 9, 0x9000);
		meet(2 * i);
	}
}

/* Pre-guest pages are immutable: only the first of two can make one. */
TEST(smp_rmpupdate_rmpupdate)
{
	int i, mine = 0, both = 0, none = 0, wrong = 0;

	two_cpus();
	s.pa = page_alloc();
	start_on(1, update_loop, NULL);
	for (i = 1; i <= ROUNDS; i++) {
		struct rmp_entry e;
		u32 r, theirs;

		meet(2 * i - 1);
		delay(i % 10 * 3000);
		r = rmpupdate(s.pa, 1, 0, 1, 5, 0x5000);
		meet(2 * i);
		theirs = s.result;
		rmp_entry(s.pa, &e);
		mine += !r;
		both += !r && !theirs;
		none += r && theirs;
		if (!r || !theirs)
			wrong += RE_ASID(e.lo) != (!r ? 5 : 9) || RE_GPA(e.lo) != (!r ? 0x5000 : 0x9000);
		if (r && r != RMP_FAIL_PERMISSION && r != RMP_FAIL_INUSE)
			FAIL("RMPUPDATE: expected 0, 2 or 3, got %u", r);
		if (theirs && theirs != RMP_FAIL_PERMISSION && theirs != RMP_FAIL_INUSE)
			FAIL("RMPUPDATE: expected 0, 2 or 3, got %u", theirs);
		rmp_release(s.pa, 0);
	}
	wait_for(1);
	note("%d of %d won by this processor, %d by none", mine, ROUNDS, none);
	CHECK_EQ(both, 0);
	CHECK_EQ(wrong, 0);
	page_free(s.pa);
}

static void psmash_loop(void *arg)
{
	int i;

	(void)arg;
	for (i = 1; i <= 20; i++) {
		meet(2 * i - 1);
		s.result = psmash(s.pa);
		meet(2 * i);
	}
}

TEST(smp_psmash_psmash)
{
	int i;
	u64 a;

	two_cpus();
	s.pa = page_alloc_2m();
	start_on(1, psmash_loop, NULL);
	for (i = 1; i <= 20; i++) {
		u32 r, t;

		CHECK_EQ(rmpupdate(s.pa, 1, 1, 0, 5, SIZE_2M), 0);
		meet(2 * i - 1);
		r = psmash(s.pa);
		meet(2 * i);
		t = s.result;
		/* The second one finds pages of 4K. */
		if (r)
			CHECK_EQ(t, 0);
		r = r ? r : t;
		if (r != RMP_FAIL_STATE && r != RMP_FAIL_INUSE)
			FAIL("PSMASH of what was smashed: expected 7 or 3, got %u", r);
		for (a = 0; a < SIZE_2M; a += PAGE) {
			struct rmp_entry e;

			rmp_entry(s.pa + a, &e);
			if (e.lo & RE_2M || RE_GPA(e.lo) != SIZE_2M + a || RE_ASID(e.lo) != 5) {
				FAIL("entry of +%#lx after both: %#lx", a, e.lo);
				break;
			}
		}
		rmp_release(s.pa, 1);
	}
	wait_for(1);
	page_free_2m(s.pa);
}

static void write_loop(void *arg)
{
	(void)arg;
	while (s.go != 2) {
		while (!s.go)
			pause();
		if (s.go == 2)
			break;
		s.fault = FAULT(
			while (!s.stop) {
				write64(s.va, s.n + 1);
				s.n++;
			});
		__atomic_store_n(&s.go, 0, __ATOMIC_SEQ_CST);
	}
}

/* At va lies pa, or a neighbour of pa in the same 2M. */
static void writes_stop(u64 pa, u64 va, u64 read_at, bool asid)
{
	int i, late = 0, missed = 0, wrong = 0;
	u64 v, w;

	s.pa = pa;
	s.va = va;
	s.go = 0;
	start_on(1, write_loop, NULL);
	for (i = 0; i < ROUNDS && !missed; i++) {
		s.stop = 0;
		s.n = 0;
		s.fault.vector = -1;
		write64(read_at, 0);
		s.go = 1;
		if (!WAIT(s.n || !s.go) || !s.go) {
			FAIL("round %d: the writer doesn't write: %lu, exception %d error %#lx", i, s.n, s.fault.vector, s.fault.error);
			break;
		}
		if (rmpupdate(pa, 1, 0, 1, asid ? 5 : 0, asid ? 0x5000 : 0)) {
			FAIL("RMPUPDATE failed");
			break;
		}
		v = read64(read_at);
		if (!WAIT(!s.go)) {
			missed++;
			s.stop = 1;
			WAIT(!s.go);
		}
		w = read64(read_at);
		late += v != w;
		barrier();
		if (s.fault.vector != VEC_PF || s.fault.error != (PF_RMP | PF_P | PF_W) || s.fault.cr2 != va) {
			note("exception %d error %#lx cr2 %#lx", s.fault.vector, s.fault.error, s.fault.cr2);
			wrong++;
		}
		if (!asid && v != s.n)
			late++;		/* what the other one counts, it wrote before */
		rmp_release(pa, 0);
	}
	s.stop = 1;
	__atomic_store_n(&s.go, 2, __ATOMIC_SEQ_CST);
	wait_for(1);
	CHECK_EQ(late, 0);
	CHECK_EQ(missed, 0);
	if (!missed)
		CHECK_EQ(wrong, 0);
}

TEST(smp_write_rmpupdate)
{
	u64 pa = page_alloc();

	two_cpus();
	point("firmware");
	writes_stop(pa, pa, pa, false);
	point("guest");
	writes_stop(pa, pa, pa, true);
	page_free(pa);
}

/* One page that is assigned makes the other 511 read-only through a mapping of 2M. */
TEST(smp_write_2m_rmpupdate)
{
	u64 pa = page_alloc_2m();

	two_cpus();
	writes_stop(pa + 7 * PAGE, alias_2m(pa + 99 * PAGE), pa + 99 * PAGE, false);
	page_free_2m(pa);
}

/* Guests on the other processor. */

static u64 g_write_loop(u64 va, u64 b, u64 c)
{
	struct comm *comm = guest_comm();
	u64 n = 0;

	(void)b, (void)c;
	for (;;) {
		write64(va, ++n);
		*(volatile u64 *)&comm->data[0] = n;
		if (*(volatile u64 *)&comm->data[1])
			return n;
	}
}

static void guest_write_loop(void *arg)
{
	(void)arg;
	s.r = gcall_hold(s.g, g_write_loop, s.gpa, 0, 0);
	__atomic_store_n(&s.go, 2, __ATOMIC_SEQ_CST);
}

static void wait_change(volatile u64 *p, u64 old)
{
	WAIT(*p != old);
}

/* A guest with a page of its own at GPA_TEST, for another CPU to run it. */
static struct guest *guest_for_other_cpu(u64 *pa)
{
	two_cpus();
	s.g = guest_new(GUEST_SNP);
	s.gpa = GPA_TEST;
	*pa = guest_page(s.g, GPA_TEST, ST_GUEST_VALID);
	REQUIRE(*pa);
	return s.g;
}

/* Takes the page from the guest while it loops on the other CPU; how far it had got. */
static u64 take_while_running(struct guest *g, u64 pa, void (*loop)(void *))
{
	g->comm->data[0] = g->comm->data[1] = 0;
	s.go = 1;
	start_on(1, loop, NULL);
	wait_change(&g->comm->data[0], 0);
	CHECK_EQ(rmpupdate_shared(pa), 0);
	return *(volatile u64 *)&g->comm->data[0];
}

/* A page is taken from a guest that writes to it: #NPF; given back without PVALIDATE: #VC. */
TEST(smp_guest_write_rmpupdate)
{
	struct guest *g;
	u64 pa, v, n;
	int i;

	g = guest_for_other_cpu(&pa);
	for (i = 0; i < 20; i++) {
		n = take_while_running(g, pa, guest_write_loop);
		v = read64(pa);
		WAIT(s.go != 1);
		CHECK_EQ(read64(pa), v);
		if (*(volatile u64 *)&g->comm->data[0] > n + 1)
			FAIL("the guest went on, from %#lx to %#lx", n, g->comm->data[0]);
		if (s.go == 1) {
			FAIL("the guest still runs");
			g->comm->data[1] = 1;
			i = ROUNDS;
		}
		wait_for(1);
		CHECK_EXIT(s.r, EXIT_NPF, NPF_RMP | NPF_ENC | NPF_GPA | NPF_P | NPF_W | NPF_U, GPA_TEST);
		CHECK_EQ(rmpupdate(pa, 1, 0, 0, g->asid, GPA_TEST), 0);
		CHECK_EQ(rmp_state(pa), ST_GUEST_INVALID);
		CHECK_FAULT(gresume(g), VEC_VC, VC_NOT_VALIDATED, GPA_TEST);
		CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 1), 0);
	}
	guest_free(g);
	page_free(pa);
}

static u64 g_pvalidate_loop(u64 va, u64 b, u64 c)
{
	struct comm *comm = guest_comm();
	u64 n = 0, bad = 0;

	(void)b, (void)c;
	while (!*(volatile u64 *)&comm->data[1]) {
		if (pvalidate(va, 0, n++ & 1))
			bad++;
		*(volatile u64 *)&comm->data[0] = n;
	}
	return bad;
}

static void guest_pvalidate_loop(void *arg)
{
	(void)arg;
	s.r = gcall_hold(s.g, g_pvalidate_loop, s.gpa, 0, 0);
	/* Every fault because of a page that isn't the guest's is taken again. */
	while (s.r.how == GR_EXIT && s.r.code == EXIT_NPF) {
		s.n++;
		s.r = gresume(s.g);
	}
	__atomic_store_n(&s.go, 2, __ATOMIC_SEQ_CST);
}

TEST(smp_pvalidate_rmpupdate)
{
	struct guest *g;
	struct rmp_entry e;
	int i, k, bad = 0, valid = 0;
	u32 r;

	two_cpus();
	s.g = g = guest_new(GUEST_SNP);
	s.gpa = GPA_TEST;
	s.pa = guest_page(g, GPA_TEST, ST_GUEST_VALID);
	REQUIRE(s.pa);
	s.go = 1;
	start_on(1, guest_pvalidate_loop, NULL);
	wait_change(&g->comm->data[0], 0);
	for (i = 0; i < ROUNDS; i++) {
		while ((r = rmpupdate_shared(s.pa)) == RMP_FAIL_INUSE)
			;
		if (r)
			FAIL("RMPUPDATE: %u", r);
		/* The guest tries to validate it all the time. */
		for (k = 0; k < 20; k++) {
			rmp_entry(s.pa, &e);
			bad += !!e.lo;
			pause();
		}
		while ((r = rmpupdate(s.pa, 1, 0, 0, g->asid, GPA_TEST)) == RMP_FAIL_INUSE)
			;
		if (r)
			FAIL("RMPUPDATE: %u", r);
		if (i < 10)
			valid += WAIT(({ rmp_entry(s.pa, &e); e.lo & RE_VALIDATED; })) != 0;
		else
			delay(i * 10000);
	}
	g->comm->data[1] = 1;
	wait_for(1);
	note("%lu faults, %lu PVALIDATEs, found validated %d times", s.n, g->comm->data[0], valid);
	CHECK_EQ(bad, 0);
	CHECK_RETURNED(s.r, 0);
	CHECK(valid > 0);
	guest_free(g);
	page_free(s.pa);
}

static u64 g_spin(u64 a, u64 b, u64 c)
{
	struct comm *comm = guest_comm();

	(void)b, (void)c;
	*(volatile u64 *)&comm->data[0] = 1;
	while (!*(volatile u64 *)&comm->data[1])
		;
	return a;
}

static void guest_spin(void *arg)
{
	(void)arg;
	s.r = gcall(s.g, g_spin, 33, 0, 0);
}

/* VMSA and VMCB are in use from VMRUN to #VMEXIT. */
static void in_use(enum guest_kind kind)
{
	struct guest *g;
	struct vcpu *v;
	struct rmp_entry before, after;

	two_cpus();
	s.g = g = guest_new(kind);
	v = &g->vcpu[0];
	g->comm->data[0] = g->comm->data[1] = 0;
	start_on(1, guest_spin, NULL);
	wait_change(&g->comm->data[0], 0);
	CHECK_EQ(g->comm->data[0], 1);
	rmp_entry(v->vmsa, &before);
	CHECK_EQ(rmpupdate(v->vmsa, 0, 0, 0, 0, 0), RMP_FAIL_INUSE);
	CHECK_EQ(rmpupdate(v->vmsa, 1, 0, 1, 0, 0), RMP_FAIL_INUSE);
	rmp_entry(v->vmsa, &after);
	CHECK_EQ(after.lo, before.lo);
	CHECK_EQ(rmpupdate((u64)v->vmcb, 1, 0, 0, 5, 0x5000), RMP_FAIL_INUSE);
	g->comm->data[1] = 1;
	wait_for(1);
	CHECK_RETURNED(s.r, 33);
	/* The same page, when nobody uses it any more. */
	CHECK_EQ(rmpupdate(v->vmsa, 1, 0, 0, 5, 0x5000), 0);
	CHECK_EQ(rmpupdate((u64)v->vmcb, 1, 0, 0, 5, 0x5000), 0);
	CHECK_EQ(rmpupdate_shared((u64)v->vmcb), 0);
	guest_free(g);
}

TEST(smp_in_use_snp) { in_use(GUEST_SNP); }
TEST(smp_in_use_es) { in_use(GUEST_ES); }

/* The second serial port is a monitor of QEMU. */
static void monitor(const char *line)
{
	for (; *line; line++) {
		while (!(inb(0x2fd) & BIT(5)))
			pause();
		outb(0x2f8, *line);
	}
}

static u64 g_spin_mce(u64 a, u64 b, u64 c)
{
	write_cr4(read_cr4() | BIT(6));
	return g_spin(a, b, c);
}

static void guest_spin_mce(void *arg)
{
	(void)arg;
	s.r = gcall_hold(s.g, g_spin_mce, 33, 0, 0);
	__atomic_store_n(&s.go, 2, __ATOMIC_SEQ_CST);
}

/* A machine check while a guest runs */
static void exit_mc(enum guest_kind kind)
{
	struct guest *g;

	two_cpus();
	if (inb(0x2fd) == 0xff)
		skip("no monitor at the second serial port");
	s.g = g = guest_new(kind);
	g->vcpu[0].vmcb->intercept_excp = BIT(VEC_MC);
	g->comm->data[0] = g->comm->data[1] = 0;
	start_on(1, guest_spin_mce, NULL);
	wait_change(&g->comm->data[0], 0);
	monitor("mce 1 0 0xb200000000000000 0 0 0\n");
	if (!CHECK(WAIT(s.go == 2)))
		g->comm->data[1] = 1;
	wait_for(1);
	CHECK_EXIT(s.r, EXIT_EXCP + VEC_MC, 0, 0);
	g->comm->data[1] = 1;
	CHECK_RETURNED(gresume(g), 33);
	guest_free(g);
}

TEST(smp_exit_mc_es) { exit_mc(GUEST_ES); }
TEST(smp_exit_mc_snp) { exit_mc(GUEST_SNP); }

static void check_syscfg(void *arg)
{
	*(u64 *)arg = rdmsr(MSR_SYSCFG);
}

/* INIT while a guest runs: an exit, then the processor takes it. What makes it a host of SNP guests is as before. */
TEST(smp_exit_init)
{
	struct guest *g;
	struct vmcb *c;
	int cpu = ncpus - 1;
	u64 syscfg;

	two_cpus();
	s.g = g = guest_new(GUEST_SNP);
	c = g->vcpu[0].vmcb;
	g->comm->data[0] = g->comm->data[1] = 0;
	start_on(cpu, guest_spin, NULL);
	wait_change(&g->comm->data[0], 0);
	point("exit");
	write32(0xfee00310, percpu[cpu].apic_id << 24);
	write32(0xfee00300, 0x4500);
	WAIT(*(volatile u64 *)&c->exit_code == EXIT_INIT);
	CHECK_EQ(c->exit_code, EXIT_INIT);
	CHECK_EQ(c->exit_info_1, 0);
	point("the processor comes back");
	REQUIRE(cpu_restart_last());
	on_cpu(cpu, check_syscfg, &syscfg);
	CHECK_EQ(syscfg, rdmsr(MSR_SYSCFG));
	point("the guest goes on");
	g->comm->data[1] = 1;
	CHECK_RETURNED(gresume(g), 33);
	guest_free(g);
}

/* Two processors can't run one VMSA. */
TEST(smp_vmsa_busy)
{
	struct guest *g;
	struct vcpu other;

	two_cpus();
	s.g = g = guest_new(GUEST_SNP);
	g->comm->data[0] = g->comm->data[1] = 0;
	other = g->vcpu[0];
	other.vmcb = (void *)page_alloc();
	memcpy(other.vmcb, g->vcpu[0].vmcb, PAGE);
	start_on(1, guest_spin, NULL);
	wait_change(&g->comm->data[0], 0);
	other.vmcb->ghcb_gpa = 0;
	vcpu_run(&other);
	CHECK_EQ(other.fault.vector, -1);
	CHECK_EQ(other.code, EXIT_BUSY);
	g->comm->data[1] = 1;
	wait_for(1);
	CHECK_RETURNED(s.r, 33);
	guest_free(g);
}

/* loop: incq (rdi); cmpq $0, (rsi); je loop; ret */
static const u8 loop_code[] = { 0x48, 0xff, 0x07, 0x48, 0x83, 0x3e, 0x00, 0x74, 0xf7, 0xc3 };

static u64 g_loop_at(u64 va, u64 b, u64 c)
{
	struct comm *comm = guest_comm();

	(void)b, (void)c;
	memcpy((void *)va, loop_code, sizeof(loop_code));
	((void (*)(u64 *, u64 *))va)(&comm->data[0], &comm->data[1]);
	return 0;
}

static void guest_exec_loop(void *arg)
{
	(void)arg;
	s.r = gcall_hold(s.g, g_loop_at, s.gpa, 0, 0);
	__atomic_store_n(&s.go, 2, __ATOMIC_SEQ_CST);
}

/* The page is taken away in which the guest's instructions lie, while it executes them. */
TEST(smp_guest_exec_rmpupdate)
{
	struct guest *g;
	u64 pa, n;
	int i;

	g = guest_for_other_cpu(&pa);
	for (i = 0; i < 10; i++) {
		n = take_while_running(g, pa, guest_exec_loop);
		if (!WAIT(s.go == 2)) {
			FAIL("the guest still runs");
			g->comm->data[1] = 1;
			i = ROUNDS;
		}
		wait_for(1);
		CHECK_EQ(g->comm->data[0], n);
		CHECK_EXIT(s.r, EXIT_NPF, NPF_RMP | NPF_ENC | NPF_GPA | NPF_P | NPF_ID | NPF_U, s.r.info2);
		CHECK_EQ(s.r.info2 & ~(PAGE - 1), GPA_TEST);
		gabort(g);
		CHECK_EQ(rmpupdate(pa, 1, 0, 0, g->asid, GPA_TEST), 0);
		CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 1), 0);
	}
	guest_free(g);
	page_free(pa);
}

static void vmpl1_write_loop(void *arg)
{
	(void)arg;
	s.r = vcall_hold(&s.g->vcpu[1], g_write_loop, s.gpa, 0, 0);
	__atomic_store_n(&s.go, 2, __ATOMIC_SEQ_CST);
}

/* VMPL0 takes a page's rights from VMPL1, which writes to it on another processor. */
TEST(smp_vmpl_write_rmpadjust)
{
	struct guest *g;
	u64 pa, v;
	int i;

	two_cpus();
	s.g = g = guest_new_raw(GUEST_SNP);
	guest_vcpu(g, guest_main);
	guest_vcpu_vmpl(g, guest_main, 1);
	REQUIRE(guest_launch(g));
	s.gpa = GPA_TEST;
	pa = guest_page(g, GPA_TEST, ST_GUEST_VALID);
	REQUIRE(pa);
	for (i = 0; i < 10; i++) {
		CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1 | 3 << 8), 0);
		g->vcpu[1].comm->data[0] = g->vcpu[1].comm->data[1] = 0;
		s.go = 1;
		start_on(1, vmpl1_write_loop, NULL);
		wait_change(&g->vcpu[1].comm->data[0], 0);
		CHECK_RETURNED(gcall(g, g_rmpadjust, GPA_TEST, 0, 1 | 1 << 8), 0);
		v = gcall(g, g_read, GPA_TEST, 0, 0).value;
		if (!WAIT(s.go == 2)) {
			FAIL("VMPL1 still runs");
			g->vcpu[1].comm->data[1] = 1;
			i = ROUNDS;
		}
		wait_for(1);
		CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), v);
		CHECK_EXIT(s.r, EXIT_NPF, NPF_RMP | NPF_ENC | NPF_VMPL | NPF_GPA | NPF_P | NPF_W | NPF_U, GPA_TEST);
		REQUIRE_EQ(vabort(&g->vcpu[1]).how, GR_FAULT);
		/* It may still read. */
		CHECK_RETURNED(vcall(&g->vcpu[1], g_read, GPA_TEST, 0, 0), v);
	}
	guest_free(g);
	page_free(pa);
}

static void pvalidate_once(void *arg)
{
	int i;

	(void)arg;
	for (i = 1; i <= 20; i++) {
		meet(2 * i - 1);
		s.r = vcall(&s.g->vcpu[1], g_pvalidate, s.gpa, 0, 1);
		meet(2 * i);
	}
}

/* Of two virtual processors that validate one page, one is told that nothing changed. */
TEST(smp_pvalidate_pvalidate)
{
	struct guest *g;
	struct gres r;
	u64 pa;
	int i;

	two_cpus();
	s.g = g = guest_new_raw(GUEST_SNP);
	guest_vcpu(g, guest_main);
	guest_vcpu(g, guest_main);
	REQUIRE(guest_launch(g));
	s.gpa = GPA_TEST;
	pa = guest_page(g, GPA_TEST, ST_GUEST_INVALID);
	start_on(1, pvalidate_once, NULL);
	for (i = 1; i <= 20; i++) {
		meet(2 * i - 1);
		r = gcall(g, g_pvalidate, GPA_TEST, 0, 1);
		meet(2 * i);
		if (r.how != GR_RETURNED || s.r.how != GR_RETURNED || r.value + s.r.value != 0x100)
			FAIL("expected 0 and 0 with carry, got %s and %s", gres_text(&r), gres_text((struct gres *)&s.r));
		CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
		CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 0), 0);
	}
	wait_for(1);
	guest_free(g);
	page_free(pa);
}

static void release_loop(void *arg)
{
	u32 r;

	(void)arg;
	do {
		r = rmpupdate_shared(s.pa);
		s.n++;
		if (r && r != RMP_FAIL_PERMISSION && r != RMP_FAIL_INUSE && r != RMP_FAIL_OVERLAP)
			s.result = r;
	} while (r && !s.stop);
	__atomic_store_n(&s.go, 2, __ATOMIC_SEQ_CST);
}

/* A page that belongs to the firmware can't be taken before the firmware gives it back. */
TEST(smp_firmware_rmpupdate)
{
	struct guest *g;
	int i;

	two_cpus();
	g = guest_new_raw(GUEST_SNP);
	for (i = 0; i < 20; i++) {
		bool launch = i & 1;
		u64 n;

		s.pa = page_alloc();
		REQUIRE_EQ(rmp_set(s.pa, launch ? ST_PRE_GUEST : ST_FIRMWARE, g, GPA_TEST, 0), 0);
		s.go = s.n = s.stop = s.result = 0;
		start_on(1, release_loop, NULL);
		CHECK(WAIT(s.n > 3));
		CHECK_EQ(s.go, 0);
		n = s.n;
		if (launch)
			CHECK_EQ(snp_launch_update(g->ctx, s.pa, 0, LU_NORMAL), 0);
		else
			CHECK_EQ(snp_reclaim(s.pa, 0), 0);
		if (!WAIT(s.go == 2))
			FAIL("RMPUPDATE fails, after %lu of %lu tries the page was released", n, s.n);
		s.stop = 1;
		wait_for(1);
		CHECK_EQ(s.result, 0);
		CHECK_EQ(rmp_state(s.pa), ST_HYPERVISOR);
		page_free(s.pa);
	}
	guest_free(g);
}

/* SNP_DF_FLUSH wants a WBINVD of every processor. */
TEST(smp_df_flush_wbinvd)
{
	struct guest *g;

	two_cpus();
	CHECK_EQ(snp_df_flush(), PSP_SUCCESS);
	g = guest_new(GUEST_SNP);
	CHECK_RETURNED(gcall(g, g_rdmsr, MSR_SEV_STATUS, 0, 0), 7);
	guest_free(g);
	wbinvd();
	CHECK_EQ(psp_raw(SNP_DF_FLUSH, 0), PSP_WBINVD);
	CHECK_EQ(snp_df_flush(), PSP_SUCCESS);
	CHECK_EQ(psp_raw(SNP_DF_FLUSH, 0), PSP_SUCCESS);
}

static u32 random(u32 *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	return *x ^= *x << 5;
}

/* Any operation at once on the same few pages of one 2M: no entry may ever be of a state that doesn't exist. */
static void stress(void *arg)
{
	u32 x = (u64)arg, i;

	for (i = 0; i < 3000; i++) {
		u64 pa = s.pa + (random(&x) >> 8) % 4 * PAGE;
		u32 asid = 5 + (random(&x) >> 9) % 2;
		struct fault f;

		switch ((random(&x) >> 7) % 8) {
		case 0:
		case 1:
			rmpupdate_shared(pa);
			break;
		case 2:
		case 3:
			rmpupdate(pa, 1, 0, 0, asid, pa);
			break;
		case 4:
			rmpupdate(s.pa, 1, 1, 0, asid, SIZE_2M);
			break;
		case 5:
			psmash(s.pa);
			break;
		case 6:
			rmpupdate(s.pa, 0, 1, 0, 0, 0);
			break;
		case 7:
			f = FAULT(write64(pa + 8, 1));
			if (f.vector >= 0 && f.vector != VEC_PF)
				s.n++;
		}
	}
}

TEST(smp_stress)
{
	struct rmp_entry e, first;
	int i, k;
	u64 a;

	two_cpus();
	s.pa = page_alloc_2m();
	for (i = 0; i < 3; i++) {
		for (k = 1; k < ncpus; k++)
			start_on(k, stress, (void *)(77UL * k + i));
		stress((void *)(1234567UL + i));
		for (k = 1; k < ncpus; k++)
			wait_for(k);
		CHECK_EQ(s.n, 0);
		rmp_entry(s.pa, &first);
		for (a = 0; a < SIZE_2M; a += PAGE) {
			enum rmp_state st = rmp_state(s.pa + a);

			rmp_entry(s.pa + a, &e);
			if (st != ST_HYPERVISOR && st != ST_GUEST_INVALID && st != ST_INNER) {
				FAIL("+%#lx has the entry %#lx, the first page %#lx", a, e.lo, first.lo);
				break;
			}
			if (st == ST_INNER && (e.lo & ~0xff8UL) != RE_ASSIGNED) {
				FAIL("+%#lx has the entry %#lx, the first page %#lx", a, e.lo, first.lo);
				break;
			}
		}
		/* A large mapping can be written to while nobody has a page of it, and only then. */
		for (k = a = 0; a < SIZE_2M; a += PAGE)
			k += rmp_state(s.pa + a) != ST_HYPERVISOR;
		CHECK_EQ(FAULT(write64(alias_2m(s.pa + 5 * PAGE), 1)).vector, k ? VEC_PF : -1);
		CHECK(rmp_release(s.pa, 1));
		CHECK_EQ(FAULT(write64(alias_2m(s.pa + 5 * PAGE), 1)).vector, -1);
	}
	page_free_2m(s.pa);
}
