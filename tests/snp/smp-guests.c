/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guests at the same time, on changing processors, many of them. */
#include "snp.h"

static u64 g_add_loop(u64 va, u64 n, u64 c)
{
	u64 i;

	for (i = 0; i < n; i++) {
		__atomic_fetch_add((u64 *)va, 1, __ATOMIC_SEQ_CST);
		if (c && !(i & 1023))
			guest_exit(i);
	}
	return i;
}

static struct {
	struct vcpu *v;
	u64 va, n;
	struct gres r;
	u64 exits;
} job;

static void run_job(void *arg)
{
	(void)arg;
	job.r = vcall_hold(job.v, g_add_loop, job.va, job.n, 1);
	while (job.r.how == GR_HCALL) {
		job.exits++;
		job.r = vresume(job.v);
	}
}

/* Two virtual processors of one guest add to one variable in private memory. */
static void two_vcpus(enum guest_kind kind)
{
	struct guest *g;
	u64 pa;

	if (ncpus < 2)
		skip("one processor only");
	g = guest_new_raw(kind);
	guest_vcpu(g, guest_main);
	job.v = guest_vcpu(g, guest_main);
	REQUIRE(guest_launch(g));
	pa = guest_page(g, GPA_TEST, kind == GUEST_SNP ? ST_GUEST_VALID : ST_HYPERVISOR);
	REQUIRE(pa);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0, 0), 0);
	job.va = GPA_TEST;
	job.n = 20000;
	job.exits = 0;
	start_on(1, run_job, NULL);
	CHECK_RETURNED(gcall(g, g_add_loop, GPA_TEST, 50000, 0), 50000);
	wait_for(1);
	CHECK_RETURNED(job.r, 20000);
	CHECK_EQ(job.exits, 20);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 70000);
	guest_free(g);
	page_free(pa);
}

TEST(smp_vcpus_snp) { two_vcpus(GUEST_SNP); }
TEST(smp_vcpus_es) { two_vcpus(GUEST_ES); }
TEST(smp_vcpus_sev) { two_vcpus(GUEST_SEV); }

/* Keeps values in registers over exits. */
static u64 g_registers(u64 a, u64 b, u64 c)
{
	u64 i, bad = 0;

	(void)c;
	for (i = 0; i < a; i++) {
		u64 x = b ^ i * 0x0101010101010101, r8 = 0, r15 = 0, rbx = 0;

		asm volatile("mov %3, %%r8; mov %3, %%r15; mov %3, %%rbx; not %%r15; bswap %%rbx\n"
			     "wrmsr; rep; vmmcall\n"
			     "mov %%r8, %0; mov %%r15, %1; mov %%rbx, %2"
			     : "=&m"(r8), "=&m"(r15), "=&m"(rbx)
			     : "D"(x), "a"((u32)(i << 12 | 0xf01)), "d"(0), "c"(MSR_GHCB) : "r8", "r15", "rbx", "memory");
		bad += r8 != x || r15 != ~x || rbx != __builtin_bswap64(x);
	}
	return bad;
}

static struct vcpu *moving;
static struct gres moved;

static void run_moving(void *arg)
{
	moved = arg ? vcall_hold(moving, g_registers, 50, 0x1122334455667788, 0) : vresume(moving);
}

/* A virtual processor that runs on another processor after each exit. */
static void migrate(enum guest_kind kind)
{
	struct guest *g;
	int i;

	if (ncpus < 2)
		skip("one processor only");
	g = guest_new(kind);
	moving = &g->vcpu[0];
	run_moving(g);
	for (i = 0; moved.how == GR_HCALL; i++) {
		if (moved.value != (u64)i) {
			FAIL("hypercall %d has the value %#lx", i, moved.value);
			break;
		}
		on_cpu((i + 1) % ncpus, run_moving, NULL);
	}
	CHECK_EQ(i, 50);
	CHECK_RETURNED(moved, 0);
	guest_free(g);
}

TEST(smp_migrate_snp) { migrate(GUEST_SNP); }
TEST(smp_migrate_es) { migrate(GUEST_ES); }

/* Converts a page there and back all the time. */
static u64 g_convert(u64 va, u64 n, u64 seed)
{
	u64 i, bad = 0;

	for (i = 0; i < n; i++) {
		write64(va, seed + i);
		bad += pvalidate(va, 0, 0) != 0;
		guest_exit(1);
		write64(GUEST_SHARED_VA(va), ~(seed + i));
		guest_exit(2);
		bad += pvalidate(va, 0, 1) != 0;
		write64(va, seed * i);
		bad += read64(va) != seed * i;
	}
	return bad;
}

static u64 convert(struct guest *g, u64 seed)
{
	u64 pa = npt_pa(g, GPA_TEST), bad = 0, n = 0;
	struct gres r = gcall_hold(g, g_convert, GPA_TEST, 30, seed);

	for (; r.how == GR_HCALL; r = gresume(g)) {
		u32 e;

		if (r.value == 1) {
			e = rmpupdate_shared(pa);
		} else {
			bad += read64(pa) != ~(seed + n++);
			e = rmpupdate(pa, 1, 0, 0, g->asid, GPA_TEST);
		}
		bad += e != 0;
	}
	return r.how != GR_RETURNED || r.value || n != 30 ? ~0UL : bad;
}

static struct guest *others;
static u64 others_result;

static void convert_others(void *arg)
{
	others_result = convert(others, (u64)arg);
}

/* Guests convert pages on all processors. */
TEST(smp_convert)
{
	struct guest *g;
	u64 a, b;

	if (ncpus < 2)
		skip("one processor only");
	g = guest_new(GUEST_SNP);
	others = guest_new(GUEST_SNP);
	a = guest_page(g, GPA_TEST, ST_GUEST_VALID);
	b = guest_page(others, GPA_TEST, ST_GUEST_VALID);
	REQUIRE(a && b);
	start_on(1, convert_others, (void *)0x123457);
	CHECK_EQ(convert(g, 0x7654321), 0);
	wait_for(1);
	CHECK_EQ(others_result, 0);
	guest_free(g);
	guest_free(others);
	page_free(a);
	page_free(b);
}

/* Private memory below and above 4G. */
TEST(guests_low_memory)
{
	struct guest *g = guest_new(GUEST_SNP);
	u64 pa[2] = { page_alloc_low(), page_alloc() };
	int i;

	for (i = 0; i < 2; i++) {
		npt_map(g, GPA_TEST, pa[i], 1, PTE_W);
		CHECK_EQ(rmpupdate(pa[i], 1, 0, 0, g->asid, GPA_TEST), 0);
		CHECK_EQ(FAULT(write64(pa[i], 1)).vector, VEC_PF);
		CHECK_FAULT(gcall(g, g_read, GPA_TEST, 0, 0), VEC_VC, VC_NOT_VALIDATED, GPA_TEST);
		CHECK_RETURNED(gcall(g, g_pvalidate, GPA_TEST, 0, 1), 0);
		CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 77 + i, 0), 0);
	}
	for (i = 0; i < 2; i++) {
		npt_map(g, GPA_TEST, pa[i], 1, PTE_W);
		CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 77 + i);
	}
	guest_free(g);
	page_free(pa[0]);
	page_free(pa[1]);
}

/* More guests than there are ASIDs for them: each ASID has to be clean before it is used again. */
TEST(guests_many)
{
	u64 first = page_alloc(), last;
	int i;

	page_free(first);
	for (i = 0; i < 110; i++) {
		struct guest *g = guest_new(GUEST_SNP);

		CHECK_RETURNED(gcall(g, g_rdmsr, MSR_SEV_STATUS, 0, 0), 7);
		guest_free(g);
	}
	/* All their pages came back. */
	last = page_alloc();
	CHECK_EQ(rmp_state(last), ST_HYPERVISOR);
	CHECK(last < first + 16 * SIZE_2M);
	page_free(last);
}

/* One guest's page in another guest's nested tables, at the same guest-physical address. */
TEST(guests_owner)
{
	struct guest *g = guest_new(GUEST_SNP), *thief = guest_new(GUEST_SNP);
	u64 pa = guest_page(g, GPA_TEST, ST_GUEST_VALID), e = NPF_RMP | NPF_ENC | NPF_GPA | NPF_P | NPF_U;

	REQUIRE(pa);
	CHECK_RETURNED(gcall(g, g_write, GPA_TEST, 0x1234, 0), 0);
	npt_map(thief, GPA_TEST, pa, 1, PTE_W);
	CHECK_EXIT(gcall(thief, g_read, GPA_TEST, 0, 0), EXIT_NPF, e, GPA_TEST);
	CHECK_EXIT(gcall(thief, g_write, GPA_TEST, 1, 0), EXIT_NPF, e | NPF_W, GPA_TEST);
	CHECK_EXIT(gcall(thief, g_exec, GPA_TEST, 0, 0), EXIT_NPF, e | NPF_ID, GPA_TEST);
	CHECK_EQ(gcall(thief, g_pvalidate, GPA_TEST, 0, 0).how, GR_EXIT);
	CHECK_EQ(gcall(thief, g_rmpadjust, GPA_TEST, 0, 1).how, GR_EXIT);
	CHECK_EQ(rmp_state(pa), ST_GUEST_VALID);
	CHECK_RETURNED(gcall(g, g_read, GPA_TEST, 0, 0), 0x1234);
	guest_free(g);
	guest_free(thief);
	page_free(pa);
}
