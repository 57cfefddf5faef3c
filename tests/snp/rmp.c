/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Instructions on the RMP, states of its pages. */
#include "snp.h"

const char *const rmp_state_name[ST_N] = {
	"hypervisor", "HV-fixed", "reclaim", "firmware", "context", "metadata", "pre-guest", "guest-invalid", "pre-swap", "guest-valid",
	"default", "(inside 2M)", "?",
};

u32 rmpupdate_raw(u64 pa, const struct rmp_record *r)
{
	u64 a = pa;

	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xfe" : "+a"(a) : "c"(r) : "memory", "cc");
	return a;
}

u32 rmpupdate(u64 pa, int assigned, int size_2m, int immutable, u32 asid, u64 gpa)
{
	struct rmp_record r = { gpa, assigned, size_2m, immutable, 0, asid };

	return rmpupdate_raw(pa, &r);
}

u32 psmash(u64 pa)
{
	u64 a = pa;

	asm volatile(".byte 0xf3, 0x0f, 0x01, 0xff" : "+a"(a) :: "memory", "cc");
	return a;
}

u32 pvalidate_cf(u64 va, u64 size, u64 validate, bool *cf)
{
	u64 a = va;
	u8 c;

	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xff; setc %1" : "+a"(a), "=q"(c) : "c"(size), "d"(validate) : "memory", "cc");
	*cf = c;
	return a;
}

u32 pvalidate(u64 va, u64 size, u64 validate)
{
	bool cf;

	return pvalidate_cf(va, size, validate, &cf);
}

u32 rmpadjust(u64 va, u64 size, u64 attributes)
{
	u64 a = va;

	asm volatile(".byte 0xf3, 0x0f, 0x01, 0xfe" : "+a"(a) : "c"(size), "d"(attributes) : "memory", "cc");
	return a;
}

u32 rmpread(u64 pa, struct rmp_record *r)
{
	u64 a = pa;

	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xfd" : "+a"(a) : "c"(r) : "memory", "cc");
	return a;
}

bool rmp_entry(u64 pa, struct rmp_entry *e)
{
	u64 at = rmp_base + 0x4000 + (pa >> 12) * 16;

	*e = (struct rmp_entry){ 0, 0 };
	if (!rmp_base || at + 15 > rmp_end)
		return false;
	e->lo = read64(at);
	e->hi = read64(at + 8);
	return true;
}

enum rmp_state rmp_state(u64 pa)
{
	struct rmp_entry e, first;
	bool a, v, i;
	u32 asid;

	if (!rmp_entry(pa, &e))
		return ST_DEFAULT;
	rmp_entry(pa & ~(SIZE_2M - 1), &first);
	if ((first.lo & (RE_ASSIGNED | RE_2M)) == (RE_ASSIGNED | RE_2M) && pa & (SIZE_2M - 1))
		return ST_INNER;
	a = e.lo & RE_ASSIGNED;
	v = e.lo & RE_VALIDATED;
	i = e.lo & RE_IMMUTABLE;
	asid = RE_ASID(e.lo);
	if (!a)
		return v || asid ? ST_OTHER : i ? ST_HV_FIXED : ST_HYPERVISOR;
	if (!asid) {
		if (v)
			return ST_OTHER;
		if (!i)
			return ST_RECLAIM;
		if (RE_GPA(e.lo))
			return ST_METADATA;
		return e.lo & RE_VMSA ? ST_CONTEXT : ST_FIRMWARE;
	}
	return v ? i ? ST_PRE_SWAP : ST_GUEST_VALID : i ? ST_PRE_GUEST : ST_GUEST_INVALID;
}

const char *rmp_name(u64 pa)
{
	return rmp_state_name[rmp_state(pa)];
}

u32 rmp_set(u64 pa, enum rmp_state st, struct guest *g, u64 gpa, int size_2m)
{
	u32 ret;

	switch (st) {
	case ST_HYPERVISOR:
		return 0;
	case ST_FIRMWARE:
		return rmpupdate(pa, 1, size_2m, 1, 0, 0);
	case ST_RECLAIM:
		ret = rmpupdate(pa, 1, size_2m, 1, 0, 0);
		return ret ? ret : snp_reclaim(pa, size_2m);
	case ST_CONTEXT:
		ret = rmpupdate(pa, 1, 0, 1, 0, 0);
		return ret ? ret : snp_gctx_create(pa);
	case ST_PRE_GUEST:
		return rmpupdate(pa, 1, size_2m, 1, g->asid, gpa);
	case ST_GUEST_INVALID:
		return rmpupdate(pa, 1, size_2m, 0, g->asid, gpa);
	case ST_GUEST_VALID:
		if (g->launched) {
			/* The guest has to do it. */
			struct gres r;

			ret = rmpupdate(pa, 1, size_2m, 0, g->asid, gpa);
			if (ret)
				return ret;
			npt_map(g, gpa, pa, size_2m ? 2 : 1, PTE_W);
			r = gcall(g, g_pvalidate, gpa, !!size_2m, 1);
			return r.how == GR_RETURNED ? r.value : 0xff;
		}
		ret = rmpupdate(pa, 1, size_2m, 1, g->asid, gpa);
		return ret ? ret : snp_launch_update(g->ctx, pa, size_2m, LU_NORMAL);
	case ST_PRE_SWAP:
		ret = rmp_set(pa, ST_GUEST_VALID, g, gpa, size_2m);
		return ret ? ret : rmpupdate(pa, 1, size_2m, 1, g->asid, gpa);
	default:
		return 0xff;
	}
}

u64 rmp_page(enum rmp_state st, struct guest *g, u64 gpa, int size_2m)
{
	static u32 next_fixed;
	u64 pa;
	u32 ret;

	if (st == ST_HV_FIXED)
		return !size_2m && hv_fixed[0] ? hv_fixed[next_fixed++ % ARRAY_SIZE(hv_fixed)] : 0;
	if (st == ST_DEFAULT)
		return 0;
	pa = size_2m ? page_alloc_2m() : page_alloc();
	ret = rmp_set(pa, st, g, gpa, size_2m);
	if (ret)
		note("page in state %s: %#x", rmp_state_name[st], ret);
	return ret ? 0 : pa;
}

/* Of a context page: the guest is decommissioned. */
bool rmp_release(u64 pa, int size_2m)
{
	struct rmp_entry e;
	u64 i;

	if (!rmp_entry(pa, &e) || !(rdmsr(MSR_SYSCFG) & SYSCFG_SNP_EN))
		return true;
	if (size_2m && !(e.lo & RE_2M)) {
		bool ok = true;

		for (i = 0; i < SIZE_2M; i += PAGE)
			ok &= rmp_release(pa + i, 0);
		return ok;
	}
	if (!size_2m && (e.lo & (RE_ASSIGNED | RE_2M)) == (RE_ASSIGNED | RE_2M))
		return false;
	switch (rmp_state(pa)) {
	case ST_HYPERVISOR:
		return true;
	case ST_HV_FIXED:
	case ST_METADATA:
	case ST_INNER:
	case ST_OTHER:
		return false;
	case ST_CONTEXT:
		if (snp_decommission(pa))
			return false;
		break;
	default:
		break;
	}
	rmp_entry(pa, &e);
	if (e.lo & RE_IMMUTABLE && snp_reclaim(pa, size_2m))
		return false;
	return !rmpupdate(pa, 0, size_2m, 0, 0, 0);
}
