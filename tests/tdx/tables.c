/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every leaf in every state, against the tables of Intel's module in oracle/. Operands are such that nothing but the state can be
 * the reason of a failure.
 */
#include "tdx.h"
#include "oracle.h"

#define STATUS(s)	((s) & ~0xffffffffUL)
#define GPA		0x40000000UL	/* of the entries that are looked at: 4K and 2M */
#define GPA_2M		0x40200000UL

enum { S_FREE, S_NL_MAPPED, S_NL_BLOCKED, S_MAPPED, S_BLOCKED, S_PENDING, S_PENDING_BLOCKED, S_N };
static const char *const sept_name[S_N] = { "FREE", "NL_MAPPED", "NL_BLOCKED", "MAPPED", "BLOCKED", "PENDING", "PENDING_BLOCKED" };
/* TDH.MEM.SEPT.RD's state */
static const int sept_code[S_N] = { 0, 4, 1, 4, 1, 2, 3 };

static bool implemented(int leaf)
{
	return seamcall(leaf, 1, 1, 0, 0) != TDX_OPERAND_INVALID;	/* of RAX */
}

/* Makes the call that succeeds in the right state. */
static u64 call(struct td *td, int leaf)
{
	u64 page = page_new(), source = page_new();

	switch (leaf) {
	case VP_ENTER:
		return seamcall(VP_ENTER, td->tdvpr, 0, 0, 0);
	case MNG_ADDCX:
		return seamcall(leaf, page, td->tdr, 0, 0);
	case MEM_PAGE_ADD:
		return seamcall(leaf, GPA, td->tdr, page, source);
	case MEM_SEPT_ADD:
		return seamcall(leaf, GPA_2M | 1, td->tdr, page, 0);
	case VP_ADDCX:
		return seamcall(leaf, page, td->tdvpr, 0, 0);
	case MEM_PAGE_AUG:
		return seamcall(leaf, GPA + 0x1000, td->tdr, page, 0);
	case MEM_RANGE_BLOCK:
	case MEM_RANGE_UNBLOCK:
	case MEM_PAGE_REMOVE:
	case MEM_SEPT_RD:
	case MR_EXTEND:
		return seamcall(leaf, GPA + 0x2000, td->tdr, 0, 0);
	case MEM_SEPT_REMOVE:
		return seamcall(leaf, (GPA + 0x400000) | 1, td->tdr, 0, 0);
	case VP_CREATE:
		return seamcall(leaf, page, td->tdr, 0, 0);
	case MNG_RD:
		return seamcall(leaf, td->tdr, 0x110000000000000aUL, 0, 0);
	case MNG_INIT:
		return seamcall(leaf, td->tdr, td_params(), 0, 0);
	case VP_RD:
	case VP_WR:
		return seamcall(leaf, td->tdvpr, 2, 0, 0);
	case VP_INIT:
		return seamcall(leaf | BIT(16), td->tdvpr, 0, 0, 0);
	case VP_FLUSH:
		return seamcall(leaf, td->tdvpr, 0, 0, 0);
	default:	/* MR_FINALIZE, MEM_TRACK */
		return seamcall(leaf, td->tdr, 0, 0, 0);
	}
}

static bool needs_vcpu(int leaf)
{
	return leaf == VP_ENTER || leaf == VP_ADDCX || leaf == VP_RD || leaf == VP_WR || leaf == VP_INIT || leaf == VP_FLUSH;
}

static void need_ok(u64 status)
{
	if (status)
		point(false, "preparation: %lx", status);
}

/* Tables down to 4K, a mapped page at +0x2000, an empty table at +0x400000 */
static void prepare_memory(struct td *td)
{
	need_ok(seamcall(MEM_SEPT_ADD, 0 | 3, td->tdr, page_new(), 0));
	need_ok(seamcall(MEM_SEPT_ADD, GPA | 2, td->tdr, page_new(), 0));
	need_ok(seamcall(MEM_SEPT_ADD, GPA | 1, td->tdr, page_new(), 0));
	need_ok(seamcall(MEM_SEPT_ADD, (GPA + 0x400000) | 1, td->tdr, page_new(), 0));
	need_ok(seamcall(MEM_PAGE_ADD, GPA + 0x2000, td->tdr, page_new(), page_new()));
}

/* What the leaf wants to find, if the TD's state lets that be done */
static void prepare_leaf(struct td *td, int leaf)
{
	if (td->life != LIFE_R)
		return;
	if (leaf == MEM_PAGE_REMOVE || leaf == MEM_RANGE_UNBLOCK)
		need_ok(seamcall(MEM_RANGE_BLOCK, GPA + 0x2000, td->tdr, 0, 0));
	if (leaf == MEM_SEPT_REMOVE)
		need_ok(seamcall(MEM_RANGE_BLOCK, (GPA + 0x400000) | 1, td->tdr, 0, 0));
	if (leaf == MEM_PAGE_REMOVE || leaf == MEM_RANGE_UNBLOCK || leaf == MEM_SEPT_REMOVE)
		need_ok(seamcall(MEM_TRACK, td->tdr, 0, 0, 0));
}

void state_tables(void)
{
	static const enum life life[] = { LIFE_U, LIFE_I, LIFE_R };
	unsigned int i, s;
	struct td td;
	int left_out = 0;

	for (i = 0; i < ARRAY_SIZE(oracle_op); i++) {
		const struct oracle_op *o = &oracle_op[i];

		if (!implemented(o->leaf)) {
			left_out++;
			continue;
		}
		for (s = 0; s < ARRAY_SIZE(life); s++) {
			bool fresh_vcpu = o->leaf == VP_INIT || o->leaf == VP_ADDCX;
			u64 status;

			if (needs_vcpu(o->leaf) && life[s] == LIFE_U)
				continue;	/* there can be no vCPU */
			td_make(&td, life[s] == LIFE_R ? LIFE_I : life[s], needs_vcpu(o->leaf) && !fresh_vcpu ? TD_GUEST : 0);
			if (fresh_vcpu) {
				int n = o->leaf == VP_INIT ? 5 : 4;

				td.tdvpr = page_new();
				need_ok(seamcall(VP_CREATE, td.tdvpr, td.tdr, 0, 0));
				while (n--)
					need_ok(seamcall(VP_ADDCX, page_new(), td.tdvpr, 0, 0));
			}
			if (life[s] != LIFE_U && !td.guest)
				prepare_memory(&td);
			td_advance(&td, life[s]);
			prepare_leaf(&td, o->leaf);
			if (o->leaf == MEM_RANGE_UNBLOCK && life[s] == LIFE_I)
				need_ok(seamcall(MEM_RANGE_BLOCK, GPA + 0x2000, td.tdr, 0, 0));
			status = call(&td, o->leaf);
			if (o->leaf == MR_FINALIZE && !status)
				td.life = LIFE_R;
			if (o->leaf == MNG_INIT && !status)
				td.life = LIFE_I;
			if (o->leaf == VP_ENTER && o->allowed[s])
				status = status == 77 ? TDX_SUCCESS : status;
			/* With four TDCX pages already a fifth is one too many, which says that the state is right. */
			if (o->leaf == MNG_ADDCX && o->allowed[s] && STATUS(status) == TDX_TDCX_NUM_INCORRECT)
				status = TDX_SUCCESS;
			if (o->leaf == MNG_ADDCX && !o->allowed[s] && STATUS(status) == TDX_TDCX_NUM_INCORRECT)
				status = TDX_OP_STATE_INCORRECT;	/* is what it says here */
			point(o->allowed[s] ? status == TDX_SUCCESS : STATUS(status) == TDX_OP_STATE_INCORRECT,
			      "state: %s in %s: %lx, %s", o->name, life_name[life[s]], status, o->allowed[s] ? "allowed" : "not allowed");
			td_destroy(&td);
		}
	}
	printf("# %d leaves of the table do not exist here\n", left_out);
}

static u64 entry_gpa(int state)
{
	return state == S_NL_MAPPED || state == S_NL_BLOCKED ? GPA_2M | 1 : GPA;
}

/* The entry comes into that state; tracked if it is blocked. */
static void make_entry(struct td *td, int state)
{
	u64 gpa = entry_gpa(state);

	switch (state) {
	case S_NL_MAPPED:
	case S_NL_BLOCKED:
		need_ok(seamcall(MEM_SEPT_ADD, gpa, td->tdr, page_new(), 0));
		break;
	case S_MAPPED:
	case S_BLOCKED:
		if (td->life == LIFE_I) {
			need_ok(seamcall(MEM_PAGE_ADD, gpa, td->tdr, page_new(), page_new()));
			break;
		}
		need_ok(seamcall(MEM_PAGE_AUG, gpa, td->tdr, page_new(), 0));
		if (td_order(td, TDG_ACCEPT, gpa, 0) != 77 || out.rbx)
			point(false, "preparation: ACCEPT %lx, %lx", out.rax, out.rbx);
		break;
	case S_PENDING:
	case S_PENDING_BLOCKED:
		need_ok(seamcall(MEM_PAGE_AUG, gpa, td->tdr, page_new(), 0));
		break;
	}
	if (state == S_NL_BLOCKED || state == S_BLOCKED || state == S_PENDING_BLOCKED) {
		need_ok(seamcall(MEM_RANGE_BLOCK, gpa, td->tdr, 0, 0));
		need_ok(seamcall(MEM_TRACK, td->tdr, 0, 0, 0));
	}
}

static int entry_state(struct td *td, u64 gpa)
{
	return seamcall(MEM_SEPT_RD, gpa, td->tdr, 0, 0) ? -1 : (int)(out.rdx >> 8 & 0xff);
}

static void sept_one(const struct oracle_sept *o, enum life life, int s)
{
	bool nl = s == S_NL_MAPPED || s == S_NL_BLOCKED, allowed = o->allowed[s], ok;
	u64 status, gpa = entry_gpa(s), page, source;
	const char *why = "";
	struct td td;

	/* A table's entry is not one of a 4K page, which is all that these can name. */
	if (nl && (o->leaf == MEM_PAGE_ADD || o->leaf == MR_EXTEND || o->tdcall))
		return;
	if (o->leaf == MEM_SEPT_ADD && s == S_FREE)
		gpa = GPA_2M | 1;
	td_make(&td, LIFE_I, TD_GUEST);
	page = page_new();
	source = page_new();
	need_ok(seamcall(MEM_SEPT_ADD, GPA | 2, td.tdr, page_new(), 0));
	need_ok(seamcall(MEM_SEPT_ADD, GPA | 1, td.tdr, page_new(), 0));
	if (life == LIFE_R)
		td_advance(&td, LIFE_R);
	make_entry(&td, s);
	if (o->leaf == MEM_SEPT_ADD && !nl && s != S_FREE)
		goto out;	/* an entry of 4K has no table */
	if (o->leaf == MEM_SEPT_REMOVE && !nl)
		goto out;
	if (o->tdcall)
		status = td_order(&td, o->leaf, gpa, 0) == 77 ? out.rbx : out.rax;
	else
		status = seamcall(o->leaf, gpa, td.tdr, page, source);
	if (o->leaf == MEM_SEPT_ADD && s == S_NL_MAPPED) {
		/* There it adds the tables of nested VMs, which do not exist here. */
		why = " (deviates: no nested VMs)";
		allowed = false;
	}
	if (life == LIFE_R && ((o->leaf == MEM_PAGE_REMOVE && (s == S_MAPPED || s == S_PENDING)) ||
			       (o->leaf == MEM_SEPT_REMOVE && s == S_NL_MAPPED))) {
		/* The table is about the state only; when the TD can run, tracking needs that it is blocked. */
		why = " (not tracked)";
		ok = STATUS(status) == TDX_TLB_TRACKING_NOT_DONE;
	} else if (allowed) {
		ok = status == TDX_SUCCESS;
	} else if (o->tdcall) {
		/* The TD leaves with an EPT violation, or the page is there already. */
		ok = s == S_MAPPED ? STATUS(status) == TDX_PAGE_ALREADY_ACCEPTED : status == 48;
	} else {
		ok = STATUS(status) == TDX_EPT_ENTRY_STATE_INCORRECT || STATUS(status) == TDX_GPA_RANGE_ALREADY_BLOCKED;
		ok &= entry_state(&td, gpa) == sept_code[s];	/* and nothing happens */
	}
	point(ok, "sept: %s, %s TD, on %s: %lx, %s%s", o->name, life_name[life], sept_name[s], status,
	      allowed ? "allowed" : "not allowed", why);
out:
	td_destroy(&td);
}

void sept_tables(void)
{
	unsigned int i;
	int s, left_out = 0;

	for (i = 0; i < ARRAY_SIZE(oracle_sept); i++) {
		const struct oracle_sept *o = &oracle_sept[i];

		if (o->tdcall ? o->leaf != TDG_ACCEPT : !implemented(o->leaf)) {
			left_out++;
			continue;
		}
		for (s = 0; s < S_N; s++) {
			if (!o->tdcall)
				sept_one(o, LIFE_I, s);
			/* These two are refused because of the TD's state. */
			if (o->leaf != MEM_PAGE_ADD && o->leaf != MR_EXTEND)
				sept_one(o, LIFE_R, s);
		}
	}
	printf("# %d leaves of the table do not exist here\n", left_out);
}
