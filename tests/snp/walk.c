/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every operation on a page of every RMP state: what comes out, and which state is left. The expectations are data, from the
 * state machine of the SNP firmware ABI (5.3, 8.x), the checks of RMPUPDATE and friends, and APM volume 2, 15.36.
 * What came out is printed as Markdown tables as well (lines that begin with "#|").
 */
#include "snp.h"

/* What an operation gives: a number (EAX, status of the firmware) or one of these. */
enum { PF = 0x10000, GP, NPF, NPF_SHARED, NPF_SIZE, VC, EXIT_INV, UNCHANGED_CF, OTHER = 0x1ffff, UNPROVED = 0x20000 };

struct walk {
	u64 pa, gpa;
	int large;
	enum rmp_state st;
	struct guest *g;
};

struct row {
	const char *name;
	u32 (*op)(struct walk *w);
	bool running;		/* needs a guest that runs, not one in LAUNCH */
	struct { u32 result; int state; } want[9];
};

#define SAME		-1
#define OK(st)		{ 0, st }
#define STAYS		{ 0, SAME }
#define NO(r)		{ r, SAME }
#define ALL(r)		{ NO(r), NO(r), NO(r), NO(r), NO(r), NO(r), NO(r), NO(r), NO(r) }
#define ANY		{ UNPROVED, SAME }

static u32 text_of(struct gres r)
{
	if (r.how == GR_RETURNED)
		return r.value == 0x100 ? UNCHANGED_CF : r.value;
	if (r.how == GR_FAULT && r.fault.vector == VEC_VC && r.fault.error == VC_NOT_VALIDATED)
		return VC;
	if (r.how == GR_EXIT && r.code == EXIT_NPF && r.info1 & NPF_RMP)
		return r.info1 & NPF_SIZEM ? NPF_SIZE : r.info1 & NPF_ENC ? NPF : NPF_SHARED;
	note("%s", gres_text(&r));
	return OTHER;
}

static u32 fault_of(struct fault f)
{
	if (f.vector < 0)
		return 0;
	if (f.vector == VEC_GP && !f.error)
		return GP;
	if (f.vector == VEC_PF && f.error == (PF_RMP | PF_P | PF_W))
		return PF;
	note("exception %d error %#lx", f.vector, f.error);
	return OTHER;
}

#define OP(name) static u32 name(struct walk *w)
#define UPDATE(name, pa, assigned, size, immutable, asid, gpa) \
	OP(name) { return rmpupdate(pa, assigned, size, immutable, asid, gpa); }

UPDATE(to_shared, w->pa, 0, w->large, 0, 0, 0)
UPDATE(to_firmware, w->pa, 1, w->large, 1, 0, 0)
UPDATE(to_pre_guest, w->pa, 1, w->large, 1, w->g->asid, w->gpa)
UPDATE(to_guest, w->pa, 1, w->large, 0, w->g->asid, w->gpa)
UPDATE(to_other_gpa, w->pa, 1, w->large, 0, w->g->asid, w->gpa + SIZE_2M)
UPDATE(to_other_asid, w->pa, 1, w->large, 0, w->g->asid + 7, w->gpa)
UPDATE(to_other_gpa_immutable, w->pa, 1, w->large, 1, w->g->asid, w->gpa + SIZE_2M)
UPDATE(to_reclaim, w->pa, 1, w->large, 0, 0, 0)
UPDATE(to_fixed, w->pa, 0, w->large, 1, 0, 0)
UPDATE(shared_with_asid, w->pa, 0, w->large, 0, w->g->asid, 0)
UPDATE(large_unaligned, w->pa | PAGE, 1, 1, 1, 0, 0)
UPDATE(small_firmware_first, w->pa, 1, 0, 1, 0, 0)
UPDATE(small_firmware_inner, w->pa + PAGE, 1, 0, 1, 0, 0)
UPDATE(small_shared_inner, w->pa + 511 * PAGE, 0, 0, 0, 0, 0)
OP(do_psmash) { return psmash(w->pa); }
OP(do_reclaim) { return snp_reclaim(w->pa, w->large); }
OP(do_reclaim_small) { return snp_reclaim(w->pa, 0); }
OP(do_gctx_create) { return snp_gctx_create(w->pa); }
OP(do_launch_update) { return snp_launch_update(w->g->ctx, w->pa, w->large, LU_NORMAL); }
OP(do_launch_update_small) { return snp_launch_update(w->g->ctx, w->pa, 0, LU_NORMAL); }
OP(do_launch_update_vmsa) { return snp_launch_update(w->g->ctx, w->pa, w->large, LU_VMSA); }
OP(do_decommission) { return snp_decommission(w->pa); }
OP(do_launch_start) { return snp_launch_start(w->pa, POLICY_DEFAULT); }
OP(do_activate) { return snp_activate(w->pa, w->g->asid + 11); }
OP(do_platform_status) { return psp(SNP_PLATFORM_STATUS, &w->pa, 8); }
OP(do_guest_status) { u64 d[2] = { w->g->ctx, w->pa }; return psp(SNP_GUEST_STATUS, d, 16); }
OP(do_set_state) { return snp_set_state(w->pa, w->large ? 512 : 1); }
static u32 in_guest_do(struct walk *w, gfn fn, bool shared, u64 a, u64 b)
{
	npt_map(w->g, w->gpa, w->pa, w->large ? 2 : 1, PTE_W);
	return text_of(gcall(w->g, fn, shared ? GUEST_SHARED_VA(w->gpa) : w->gpa, a, b));
}
static u64 g_touch(u64 va, u64 b, u64 c)
{
	read64(va);
	return b + c;
}
OP(do_pvalidate) { return in_guest_do(w, g_pvalidate, false, w->large, 1); }
OP(do_rescind) { return in_guest_do(w, g_pvalidate, false, w->large, 0); }
OP(do_pvalidate_small) { return in_guest_do(w, g_pvalidate, false, 0, 1); }
OP(do_rmpadjust) { return in_guest_do(w, g_rmpadjust, false, w->large, 1 | 0xf << 8); }
OP(guest_read) { return in_guest_do(w, g_touch, false, 0, 0); }
OP(guest_write) { return in_guest_do(w, g_write, false, 0x9090909090c3c3c3, 0); }
OP(guest_read_shared) { return in_guest_do(w, g_touch, true, 0, 0); }
OP(guest_write_shared) { return in_guest_do(w, g_write, true, 1, 0); }
OP(host_read) { return fault_of(FAULT(read64(w->pa + 8))); }
OP(host_write) { return fault_of(FAULT(write64(w->pa + 8, 1))); }
OP(host_write_inner) { return fault_of(FAULT(write64(w->pa + 5 * PAGE, 1))); }
OP(host_write_2m) { return fault_of(FAULT(write64(alias_2m(w->pa + 8), 1))); }
OP(do_vmsave) { return fault_of(FAULT(vmsave(w->pa))); }
OP(do_hsave)
{
	u64 old = rdmsr(MSR_VM_HSAVE_PA);
	u32 r = fault_of(FAULT(wrmsr(MSR_VM_HSAVE_PA, w->pa)));

	wrmsr(MSR_VM_HSAVE_PA, old);
	return r;
}
OP(do_vmrun)
{
	static u64 hsave;
	u32 r;

	if (!hsave)
		hsave = sys_alloc();
	wrmsr(MSR_VM_HSAVE_PA, hsave);
	r = fault_of(FAULT(vmrun_asm(w->pa, hsave, NULL)));
	stgi();
	return r ? r : ((struct vmcb *)w->pa)->exit_code == EXIT_INVALID ? EXIT_INV : OTHER;
}

static const enum rmp_state states_4k[] = {
	ST_HYPERVISOR, ST_HV_FIXED, ST_RECLAIM, ST_FIRMWARE, ST_CONTEXT, ST_PRE_GUEST, ST_GUEST_INVALID, ST_PRE_SWAP, ST_GUEST_VALID
};
#define HV OK(ST_HYPERVISOR)
#define FX OK(ST_HV_FIXED)
#define RC OK(ST_RECLAIM)
#define FW OK(ST_FIRMWARE)
#define CX OK(ST_CONTEXT)
#define PG OK(ST_PRE_GUEST)
#define GI OK(ST_GUEST_INVALID)
#define PS OK(ST_PRE_SWAP)
#define GV OK(ST_GUEST_VALID)
#define CF NO(UNCHANGED_CF)
#define IN NO(RMP_FAIL_INPUT)
#define PERM NO(RMP_FAIL_PERMISSION)
#define OVER NO(RMP_FAIL_OVERLAP)
#define STATE NO(PSP_PAGE_STATE)
#define SIZE NO(PSP_PAGE_SIZE)
#define GUEST NO(PSP_GUEST)
static const struct row rows_4k[] = {
	/*                                                     hyperv fixed  reclaim firmw context pre-g  g-inv  pre-sw g-valid */
	{ "RMPUPDATE to hypervisor", to_shared, 0,		{ HV,    PERM,  HV,    PERM,  PERM,  PERM,  HV,    PERM,  HV } },
	{ "RMPUPDATE to firmware", to_firmware, 0,		{ FW,    PERM,  FW,    PERM,  PERM,  PERM,  FW,    PERM,  FW } },
	{ "RMPUPDATE asid, immutable", to_pre_guest, 0,		{ PG,    PERM,  PG,    PERM,  PERM,  PERM,  PG,    PERM,  PS } },
	{ "RMPUPDATE asid", to_guest, 0,			{ GI,    PERM,  GI,    PERM,  PERM,  PERM,  GI,    PERM,  GV } },
	{ "RMPUPDATE other GPA", to_other_gpa, 0,		{ GI,    PERM,  GI,    PERM,  PERM,  PERM,  GI,    PERM,  GI } },
	{ "RMPUPDATE other GPA, immutable", to_other_gpa_immutable, 0, { PG, PERM, PG, PERM,  PERM,  PERM,  PG,    PERM,  PG } },
	{ "RMPUPDATE other ASID", to_other_asid, 0,		{ GI,    PERM,  GI,    PERM,  PERM,  PERM,  GI,    PERM,  GI } },
	{ "RMPUPDATE assigned, ASID 0, mutable", to_reclaim, 0,	{ ANY,   ANY,   ANY,   ANY,   ANY,   ANY,   ANY,   ANY,   ANY } },
	{ "RMPUPDATE unassigned, immutable", to_fixed, 0,	ALL(RMP_FAIL_INPUT) },
	{ "RMPUPDATE unassigned, ASID", shared_with_asid, 0,	ALL(RMP_FAIL_INPUT) },
	{ "RMPUPDATE 2M, not aligned", large_unaligned, 0,	ALL(RMP_FAIL_INPUT) },
	{ "PSMASH, not aligned", do_psmash, 0,			ALL(RMP_FAIL_INPUT) },
	{ "PVALIDATE", do_pvalidate, 1, { NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), GV, NO(NPF), CF } },
	{ "PVALIDATE, rescind", do_rescind, 1, { NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), CF, NO(NPF), GI } },
	{ "RMPADJUST for VMPL1", do_rmpadjust, 1, { NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(VC), NO(NPF), STAYS } },
	{ "SNP_PAGE_RECLAIM", do_reclaim, 0,			{ STAYS, STATE, STAYS, RC,    STATE, GI,    STAYS, GV,    STAYS } },
	{ "SNP_GCTX_CREATE", do_gctx_create, 0,			{ STATE, STATE, STATE, CX,    STATE, STATE, STATE, STATE, STATE } },
	{ "SNP_LAUNCH_START", do_launch_start, 0,		{ GUEST, GUEST, GUEST, GUEST, STAYS, GUEST, GUEST, GUEST, GUEST } },
	{ "SNP_ACTIVATE before LAUNCH_START", do_activate, 0,	{ GUEST, GUEST, GUEST, GUEST, NO(PSP_GUEST_STATE), GUEST, GUEST, GUEST, GUEST } },
	{ "SNP_DECOMMISSION", do_decommission, 0,		{ GUEST, GUEST, GUEST, GUEST, FW,    GUEST, GUEST, GUEST, GUEST } },
	{ "SNP_LAUNCH_UPDATE", do_launch_update, 0,		{ STATE, STATE, STATE, STATE, STATE, GV,    STATE, STATE, STATE } },
	{ "SNP_LAUNCH_UPDATE (VMSA)", do_launch_update_vmsa, 0,	{ STATE, STATE, STATE, STATE, STATE, GV,    STATE, STATE, STATE } },
	{ "SNP_PLATFORM_STATUS", do_platform_status, 0,		{ STATE, STATE, STATE, STAYS, STATE, STATE, STATE, STATE, STATE } },
	{ "SNP_GUEST_STATUS", do_guest_status, 0,		{ STATE, STATE, STATE, STAYS, STATE, STATE, STATE, STATE, STATE } },
	{ "host's read", host_read, 0,				ALL(0) },
	{ "host's write", host_write, 0,	{ STAYS, STAYS, NO(PF), NO(PF), NO(PF), NO(PF), NO(PF), NO(PF), NO(PF) } },
	{ "guest's read, C=1", guest_read, 1, { NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(VC), NO(NPF), STAYS } },
	{ "guest's write, C=1", guest_write, 1, { NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(VC), NO(NPF), STAYS } },
	{ "guest's read, C=0", guest_read_shared, 1,		ALL(0) },
	{ "guest's write, C=0", guest_write_shared, 1, { STAYS, STAYS, NO(NPF_SHARED), NO(NPF_SHARED), NO(NPF_SHARED), NO(NPF_SHARED),
							 NO(NPF_SHARED), NO(NPF_SHARED), NO(NPF_SHARED) } },
	{ "VMRUN (as VMCB)", do_vmrun, 0, { NO(EXIT_INV), NO(EXIT_INV), NO(GP), NO(GP), NO(GP), NO(GP), NO(GP), NO(GP), NO(GP) } },
	{ "VMSAVE", do_vmsave, 0,		{ STAYS, STAYS, NO(GP), NO(GP), NO(GP), NO(GP), NO(GP), NO(GP), NO(GP) } },
	{ "WRMSR VM_HSAVE_PA", do_hsave, 0,	{ STAYS, STAYS, NO(GP), NO(GP), NO(GP), NO(GP), NO(GP), NO(GP), NO(GP) } },
};

static const enum rmp_state states_2m[] = {
	ST_HYPERVISOR, ST_RECLAIM, ST_FIRMWARE, ST_PRE_GUEST, ST_GUEST_INVALID, ST_PRE_SWAP, ST_GUEST_VALID
};
static const struct row rows_2m[] = {
	/*                                                     hyperv reclaim firmw pre-g  g-inv  pre-sw g-valid */
	{ "RMPUPDATE to hypervisor, 2M", to_shared, 0,		{ HV,    HV,    PERM,  PERM,  HV,    PERM,  HV } },
	{ "RMPUPDATE to firmware, 2M", to_firmware, 0,		{ FW,    FW,    PERM,  PERM,  FW,    PERM,  FW } },
	{ "RMPUPDATE asid, immutable, 2M", to_pre_guest, 0,	{ PG,    PG,    PERM,  PERM,  PG,    PERM,  PS } },
	{ "RMPUPDATE asid, 2M", to_guest, 0,			{ GI,    GI,    PERM,  PERM,  GI,    PERM,  GV } },
	{ "RMPUPDATE other GPA, 2M", to_other_gpa, 0,		{ GI,    GI,    PERM,  PERM,  GI,    PERM,  GI } },
	{ "RMPUPDATE to firmware, first 4K", small_firmware_first, 0, { FW, OVER, PERM, PERM,  OVER,  PERM,  OVER } },
	{ "RMPUPDATE to firmware, second 4K", small_firmware_inner, 0, { STAYS, OVER, OVER, OVER, OVER, OVER, OVER } },
	{ "RMPUPDATE to hypervisor, last 4K", small_shared_inner, 0, { STAYS, OVER, OVER, OVER, OVER, OVER, OVER } },
	{ "PSMASH", do_psmash, 0,				{ NO(RMP_FAIL_STATE), ANY, ANY, ANY, STAYS, ANY, STAYS } },
	{ "PVALIDATE 2M", do_pvalidate, 1,	{ NO(NPF), NO(NPF), NO(NPF), NO(NPF), GV, NO(NPF), CF } },
	{ "PVALIDATE 2M, rescind", do_rescind, 1, { NO(NPF), NO(NPF), NO(NPF), NO(NPF), CF, NO(NPF), GI } },
	{ "PVALIDATE 4K", do_pvalidate_small, 1, { NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(NPF_SIZE), NO(NPF), NO(NPF_SIZE) } },
	{ "RMPADJUST for VMPL1, 2M", do_rmpadjust, 1, { NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(VC), NO(NPF), STAYS } },
	{ "SNP_PAGE_RECLAIM, 2M", do_reclaim, 0,		{ ANY,   STAYS, RC,    GI,    STAYS, GV,    STAYS } },
	{ "SNP_PAGE_RECLAIM, 4K", do_reclaim_small, 0,		{ STAYS, ANY,   SIZE,  SIZE,  ANY,   SIZE,  ANY } },
	{ "SNP_GCTX_CREATE", do_gctx_create, 0,			{ STATE, STATE, SIZE,  STATE, STATE, STATE, STATE } },
	{ "SNP_LAUNCH_UPDATE, 2M", do_launch_update, 0,		{ STATE, STATE, STATE, GV,    STATE, STATE, STATE } },
	{ "SNP_LAUNCH_UPDATE, 4K", do_launch_update_small, 0,	{ STATE, STATE, STATE, SIZE,  STATE, STATE, STATE } },
	{ "SNP_LAUNCH_UPDATE (VMSA), 2M", do_launch_update_vmsa, 0, { STATE, STATE, STATE, SIZE, STATE, STATE, STATE } },
	{ "SNP_PAGE_SET_STATE", do_set_state, 0,		{ STATE, STATE, FX,    STATE, STATE, STATE, STATE } },
	{ "host's read", host_read, 0,				ALL(0) },
	{ "host's write by 4K, first", host_write, 0,	{ STAYS, NO(PF), NO(PF), NO(PF), NO(PF), NO(PF), NO(PF) } },
	{ "host's write by 4K, inside", host_write_inner, 0, { STAYS, NO(PF), NO(PF), NO(PF), NO(PF), NO(PF), NO(PF) } },
	{ "host's write by 2M", host_write_2m, 0,	{ STAYS, NO(PF), NO(PF), NO(PF), NO(PF), NO(PF), NO(PF) } },
	{ "guest's read, C=1", guest_read, 1,	{ NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(VC), NO(NPF), STAYS } },
	{ "guest's write, C=1", guest_write, 1,	{ NO(NPF), NO(NPF), NO(NPF), NO(NPF), NO(VC), NO(NPF), STAYS } },
	{ "guest's read, C=0", guest_read_shared, 1,		ALL(0) },
	{ "guest's write, C=0", guest_write_shared, 1, { STAYS, NO(NPF_SHARED), NO(NPF_SHARED), NO(NPF_SHARED), NO(NPF_SHARED),
							 NO(NPF_SHARED), NO(NPF_SHARED) } },
};

/* Past the end of the RMP. */
static const enum rmp_state states_none[] = { ST_DEFAULT };
static const struct row rows_none[] = {
	{ "RMPUPDATE to hypervisor", to_shared, 0,		{ IN } },
	{ "RMPUPDATE to firmware", to_firmware, 0,		{ IN } },
	{ "RMPUPDATE asid, immutable", to_pre_guest, 0,		{ IN } },
	{ "RMPUPDATE asid", to_guest, 0,			{ IN } },
	{ "PSMASH", do_psmash, 0,				{ IN } },
	{ "PVALIDATE", do_pvalidate, 1,				{ NO(NPF) } },
	{ "PVALIDATE, rescind", do_rescind, 1,			{ NO(NPF) } },
	{ "RMPADJUST for VMPL1", do_rmpadjust, 1,		{ NO(NPF) } },
	{ "SNP_PAGE_RECLAIM", do_reclaim, 0,			{ NO(PSP_ADDRESS) } },
	{ "SNP_GCTX_CREATE", do_gctx_create, 0,			{ STATE } },
	{ "SNP_LAUNCH_START", do_launch_start, 0,		{ GUEST } },
	{ "SNP_DECOMMISSION", do_decommission, 0,		{ GUEST } },
	{ "SNP_LAUNCH_UPDATE", do_launch_update, 0,		{ STATE } },
	{ "guest's read, C=1", guest_read, 1,			{ NO(NPF) } },
	{ "guest's write, C=1", guest_write, 1,			{ NO(NPF) } },
};

static const char *result_text(u32 r, char *buf)
{
	static const char *const special[] = { "#PF RMP", "#GP", "#NPF RMP+ENC", "#NPF RMP", "#NPF RMP+ENC+SIZEM", "#VC 404", "INVALID", "0, CF" };

	if (r >= PF && r <= UNCHANGED_CF)
		return special[r - PF];
	if (r == OTHER)
		return "other";
	snprintf(buf, 16, "%x", r);
	return buf;
}

static char cells[9][80];

/* In a 2M page only ASSIGNED is set in the entries behind the first one; PSMASH gives them all that the first one has. */
static bool inner_good(u64 pa, const struct rmp_entry *before)
{
	struct rmp_entry first, e;
	u64 i, want;

	rmp_entry(pa, &first);
	for (i = PAGE; i < SIZE_2M; i += PAGE) {
		rmp_entry(pa + i, &e);
		if (!(first.lo & RE_ASSIGNED))
			want = first.lo;
		else if (first.lo & RE_2M)
			want = RE_ASSIGNED;
		else if (before->lo & RE_2M)
			want = first.lo + i;
		else
			continue;
		if ((e.lo ^ want) & ~0xff8UL) {
			FAIL("entry of +%#lx: expected %#lx, got %#lx", i, want, e.lo);
			return false;
		}
	}
	return true;
}

static void walk(const struct row *row, int n, const enum rmp_state *states, int nstates, int large)
{
	struct guest *launch = guest_new_raw(GUEST_SNP), *run = guest_new(GUEST_SNP);
	char a[16], b[16];
	int i, j;

	printf("#| |");
	for (i = 0; i < nstates; i++)
		printf(" %s |", rmp_state_name[states[i]]);
	printf("\n#|-|");
	for (i = 0; i < nstates; i++)
		printf("-|");
	printf("\n");
	for (j = 0; j < n; j++) {
		for (i = 0; i < nstates; i++) {
			struct walk w = { .gpa = GPA_TEST, .large = large, .st = states[i], .g = row[j].running ? run : launch };
			u32 result, want = row[j].want[i].result;
			int want_st = row[j].want[i].state;
			struct rmp_entry before, after;
			enum rmp_state st;
			bool good;

			point("%s: %s", rmp_state_name[w.st], row[j].name);
			snprintf(cells[i], sizeof(cells[i]), "-");
			w.pa = w.st == ST_DEFAULT ? BIT(40) : rmp_page(w.st, w.g, w.gpa, large);
			if (!w.pa) {
				FAIL("no such page can be made");
				continue;
			}
			st = rmp_state(w.pa);
			if (st != w.st) {
				FAIL("made a page of state %s", rmp_state_name[st]);
				goto next;
			}
			rmp_entry(w.pa, &before);
			result = row[j].op(&w);
			rmp_entry(w.pa, &after);
			st = rmp_state(w.pa);
			if (want == UNPROVED) {
				good = true;
			} else {
				good = result == want && st == (enum rmp_state)(want_st == SAME ? (int)w.st : want_st);
				/* Without success nothing may change. */
				if (result && (before.lo ^ after.lo) & ~0xff8UL) {
					FAIL("entry %#lx became %#lx", before.lo, after.lo);
					good = false;
				}
				if (large && (before.lo | after.lo) & RE_2M && (!result || result == UNCHANGED_CF))
					good &= inner_good(w.pa, &before);
			}
			if (st == w.st)
				snprintf(cells[i], sizeof(cells[i]), "%s%s%s", result_text(result, a), want == UNPROVED ? " (unproved)" : "",
					 good ? "" : " **wrong**");
			else
				snprintf(cells[i], sizeof(cells[i]), "%s -> %s%s%s", result_text(result, a), rmp_state_name[st],
					 want == UNPROVED ? " (unproved)" : "", good ? "" : " **wrong**");
			if (!good)
				FAIL("expected %s, %s, got %s, %s", result_text(want, a), rmp_state_name[want_st == SAME ? (int)w.st : want_st],
				     result_text(result, b), rmp_state_name[st]);
next:
			if (w.st == ST_HV_FIXED || w.st == ST_DEFAULT)
				continue;
			if (large)
				page_free_2m(w.pa);
			else
				page_free(w.pa);
		}
		printf("#| %s |", row[j].name);
		for (i = 0; i < nstates; i++)
			printf(" %s |", cells[i]);
		printf("\n");
	}
	guest_free(launch);
	guest_free(run);
}

TEST(walk_4k)
{
	walk(rows_4k, ARRAY_SIZE(rows_4k), states_4k, ARRAY_SIZE(states_4k), 0);
}

TEST(walk_2m)
{
	walk(rows_2m, ARRAY_SIZE(rows_2m), states_2m, ARRAY_SIZE(states_2m), 1);
}

TEST(walk_none)
{
	walk(rows_none, ARRAY_SIZE(rows_none), states_none, ARRAY_SIZE(states_none), 0);
}
