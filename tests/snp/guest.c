/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small guests that are a copy of this program. */
#include "snp.h"

#define VSTACK		8192
#define MIN_SNP_ASID	1

extern char image_start[], image_end[];
extern char vmrun_insn[];
static u8 vstack[MAX_VCPUS][VSTACK] __attribute__((aligned(16)));
static int guest_kind;			/* in the guest's copy */
static u64 iopm, msrpm;

/* In the guest */

struct comm *guest_comm(void)
{
	return (struct comm *)GUEST_SHARED_VA(GPA_COMM + (this_cpu()->cpu - MAX_CPUS) * PAGE);
}

u64 ghcb_msr(u64 request)
{
	wrmsr(MSR_GHCB, request);
	vmgexit();
	return rdmsr(MSR_GHCB);
}

/* Requests of ours have 0xf01 where the GHCB MSR protocol has the kind of request. */
void guest_exit(u64 value)
{
	if (guest_kind == GUEST_PLAIN || guest_kind == GUEST_SEV)
		asm volatile("vmmcall" :: "a"(value << 12 | 0xf01) : "memory");
	else
		ghcb_msr(value << 12 | 0xf01);
}

void guest_main(void)
{
	struct comm *c = guest_comm();

	for (;;) {
		struct catch k;

		guest_exit(0xffffffffffffeUL);	/* ready, or done */
		catch_push(&k);
		if (!catch_set(&k))
			c->value = ((gfn)c->fn)(c->arg[0], c->arg[1], c->arg[2]);
		barrier();
		catch_pop(&k);
		c->fault = k.fault;
	}
}

u64 g_read(u64 va, u64 b, u64 c)
{
	(void)b, (void)c;
	return read64(va);
}

u64 g_write(u64 va, u64 value, u64 c)
{
	(void)c;
	write64(va, value);
	return 0;
}

u64 g_exec(u64 va, u64 b, u64 c)
{
	(void)b, (void)c;
	exec(va);
	return 0;
}

u64 g_pvalidate(u64 va, u64 size, u64 validate)
{
	bool cf;
	u64 r = pvalidate_cf(va, size, validate, &cf);

	return r | cf << 8;
}

u64 g_rmpadjust(u64 va, u64 size, u64 attributes)
{
	return rmpadjust(va, size, attributes);
}

u64 g_rdmsr(u64 msr, u64 b, u64 c)
{
	(void)b, (void)c;
	return rdmsr(msr);
}

u64 g_wrmsr(u64 msr, u64 v, u64 c)
{
	(void)c;
	wrmsr(msr, v);
	return 0;
}

/* In the host */

void npt_flush(struct guest *g)
{
	int i;

	for (i = 0; i < g->nvcpus; i++)
		g->vcpu[i].vmcb->tlb_ctl = 1;
}

void npt_map(struct guest *g, u64 gpa, u64 pa, int level, u64 flags)
{
	*pte_make(g->npt, gpa, level) = pa | flags | PTE_P | PTE_U | (level > 1 ? PTE_PS : 0);
	npt_flush(g);
}

void npt_unmap(struct guest *g, u64 gpa)
{
	*pte_of(g->npt, gpa, NULL) = 0;
	npt_flush(g);
}

u64 *npt_entry(struct guest *g, u64 gpa, int *level)
{
	return pte_of(g->npt, gpa, level);
}

u64 npt_pa(struct guest *g, u64 gpa)
{
	int level;
	u64 e = *pte_of(g->npt, gpa, &level), size = level == 3 ? SIZE_1G : level == 2 ? SIZE_2M : PAGE;

	return e & PTE_P ? (e & PTE_ADDR & ~(size - 1)) | (gpa & (size - 1)) : 0;
}

static u32 max_asid, min_sev_asid;

/* One after the other; reused only after all the others. */
u32 asid_alloc(enum guest_kind kind)
{
	static u32 next_low, next_high;
	u32 r[4];

	if (!max_asid) {
		cpuid(0x8000001f, 0, r);
		max_asid = r[2];
		min_sev_asid = r[3];
	}
	if (kind == GUEST_PLAIN)
		return max_asid + 1;
	if (kind == GUEST_SEV)
		return min_sev_asid + next_high++ % (max_asid + 1 - min_sev_asid);
	return MIN_SNP_ASID + next_low++ % (min_sev_asid - MIN_SNP_ASID);
}

static void guest_keep(struct guest *g, u64 pa)
{
	if (g->npages < ARRAY_SIZE(g->pages))
		g->pages[g->npages++] = pa;
}

/* Makes a page of private memory with these contents. */
static bool load(struct guest *g, u64 gpa, const void *from, int type)
{
	u64 pa = page_alloc();
	u32 r;

	guest_keep(g, pa);
	memcpy((void *)pa, from, PAGE);
	npt_map(g, gpa, pa, 1, PTE_W);
	if (g->kind == GUEST_SNP) {
		r = rmpupdate(pa, 1, 0, 1, g->asid, gpa);
		if (r) {
			FAIL("RMPUPDATE of a page for the guest: %u", r);
			return false;
		}
		r = snp_launch_update_vmpl(g->ctx, pa, 0, type, 15, 15, 15);
		if (r) {
			FAIL("SNP_LAUNCH_UPDATE: %#x", r);
			return false;
		}
	} else if (g->kind != GUEST_PLAIN) {
		struct { u32 handle, rsvd; u64 address; u32 len; } d = { g->handle, 0, pa, PAGE };

		/* ABI 5.3.9: the firmware writes to pages of its own. */
		r = rmpupdate_firmware(pa) ? PSP_NONE : sev(SEV_LAUNCH_UPDATE_DATA, &d, 20);
		if (!rmp_release(pa, 0))
			r = PSP_NONE;
		if (r) {
			FAIL("LAUNCH_UPDATE_DATA: %#x", r);
			return false;
		}
	}
	return true;
}

static bool sev_start(struct guest *g)
{
	static bool sev_up;
	u32 r, i;

	if (!sev_up) {
		u64 tmr = page_alloc_2m_low();
		struct { u32 flags, rsvd; u64 tmr; u32 len; } d = { 1, 0, tmr, SIZE_2M };

		for (i = 0; i < 512; i++)
			rmpupdate_firmware(tmr + i * PAGE);
		r = sev(SEV_INIT, &d, 20);
		if (r && r != PSP_PLATFORM_STATE) {
			FAIL("SEV INIT: %#x", r);
			return false;
		}
		sev_up = true;
	}
	struct { u32 handle, policy; u64 dh; u32 dh_len, rsvd; u64 session; u32 session_len; } s = { .policy = g->kind == GUEST_ES ? 4 : 0 };
	r = sev(SEV_LAUNCH_START, &s, 36);
	if (r) {
		FAIL("LAUNCH_START: %#x", r);
		return false;
	}
	g->handle = s.handle;
	struct { u32 handle, asid; } a = { g->handle, g->asid };
	r = sev(SEV_ACTIVATE, &a, 8);
	if (r == PSP_DFFLUSH) {
		snp_df_flush();		/* WBINVD is needed on all processors */
		r = sev(SEV_ACTIVATE, &a, 8);
	}
	if (r)
		FAIL("ACTIVATE: %#x", r);
	return !r;
}

static bool snp_start(struct guest *g)
{
	u32 r;

	g->ctx = page_alloc();
	r = rmp_set(g->ctx, ST_CONTEXT, NULL, 0, 0);
	if (!r)
		r = snp_launch_start(g->ctx, POLICY_DEFAULT);
	if (!r)
		r = snp_activate(g->ctx, g->asid);
	if (r == PSP_DFFLUSH) {
		snp_df_flush();
		r = snp_activate(g->ctx, g->asid);
	}
	if (r)
		FAIL("start of an SNP guest: %#x", r);
	return !r;
}

struct guest *guest_new_raw(enum guest_kind kind)
{
	_Static_assert(sizeof(struct guest) <= 2 * PAGE, "guest");
	struct guest *g = (void *)sys_alloc();
	u64 *t[4], a, i;
	bool ok = true;

	if (sys_alloc() != (u64)g + PAGE)
		test_abort();
	g->kind = kind;
	g->asid = asid_alloc(kind);
	g->npt = sys_alloc();
	for (i = 0; i < MAX_VCPUS; i++) {
		struct comm *c = (void *)page_alloc();

		c->fault.vector = -1;
		guest_keep(g, (u64)c);
		npt_map(g, GPA_COMM + i * PAGE, (u64)c, 1, PTE_W);
		g->vcpu[i].comm = c;
	}
	g->comm = g->vcpu[0].comm;
	if (kind == GUEST_SNP)
		ok = snp_start(g);
	else if (kind != GUEST_PLAIN)
		ok = sev_start(g);
	if (!ok) {
		guest_free(g);
		test_abort();
	}
	guest_kind = kind;
	for (a = (u64)image_start; ok && a < (u64)image_end; a += PAGE)
		ok = load(g, a, (void *)a, LU_NORMAL);

	/* [0, 1G) private, [1G, 2G) the same shared, by 2M */
	for (i = 0; i < 4; i++)
		t[i] = (void *)page_alloc();
	u64 c = kind == GUEST_PLAIN ? 0 : cbit_mask, f = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
	t[0][0] = (GPA_TABLES + PAGE) | f | c;
	t[1][0] = (GPA_TABLES + 2 * PAGE) | f | c;
	t[1][1] = (GPA_TABLES + 3 * PAGE) | f | c;
	for (i = 0; i < 512; i++) {
		t[2][i] = i * SIZE_2M | f | PTE_PS | c;
		t[3][i] = i * SIZE_2M | f | PTE_PS;
	}
	for (i = 0; ok && i < 4; i++)
		ok = load(g, GPA_TABLES + i * PAGE, t[i], LU_NORMAL);
	for (i = 0; i < 4; i++)
		page_free((u64)t[i]);
	if (!ok) {
		guest_free(g);
		test_abort();
	}
	return g;
}

void vmsa_init(struct guest *g, struct vmsa *s, int vcpu, void (*entry)(void))
{
	struct percpu *p = &percpu[MAX_CPUS + vcpu];
	struct vmcb_seg data = { SEL_DATA, 0xc93, ~0U, 0 };
	struct dtr gdtr, idtr;
	u64 c = g->kind == GUEST_PLAIN ? 0 : cbit_mask;
	u32 r[4];

	get_dtrs(&gdtr, &idtr);
	memset(s, 0, g->kind >= GUEST_ES ? sizeof(*s) : 0x300);
	s->cs = (struct vmcb_seg){ SEL_CODE, 0xa9b, ~0U, 0 };
	s->es = s->ss = s->ds = s->fs = s->gs = data;
	s->gs.base = (u64)p;
	s->gdtr = (struct vmcb_seg){ 0, 0, gdtr.limit, gdtr.base };
	s->idtr = (struct vmcb_seg){ 0, 0, idtr.limit, idtr.base };
	s->ldtr = (struct vmcb_seg){ 0, 0x82, 0xffff, 0 };
	s->tr = (struct vmcb_seg){ SEL_TSS(MAX_CPUS + vcpu), 0x8b, sizeof(p->tss) - 1, (u64)p->tss };
	s->efer = 0x1d01;
	s->cr0 = 0x80010033;
	s->cr3 = GPA_TABLES | c;
	s->cr4 = 0x620;
	cpuid(1, 0, r);
	if (r[2] & BIT(26))
		s->cr4 |= BIT(18);
	s->dr6 = 0xffff0ff0;
	s->dr7 = 0x400;
	s->rflags = 2;
	s->rip = (u64)entry;
	s->rsp = (u64)(vstack[vcpu] + VSTACK) - 8;
	s->g_pat = 0x0007040600070406;
	if (g->kind < GUEST_ES)
		return;
	s->sev_features = g->kind == GUEST_SNP;
	s->xcr0 = 1;
	s->mxcsr = 0x1f80;
	s->x87_fcw = 0x37f;
}

struct vcpu *guest_vcpu(struct guest *g, void (*entry)(void))
{
	return guest_vcpu_vmpl(g, entry, 0);
}

struct vcpu *guest_vcpu_vmpl(struct guest *g, void (*entry)(void), int vmpl)
{
	struct vcpu *v = &g->vcpu[g->nvcpus];
	struct vmcb *c = (void *)page_alloc();
	u32 r;

	if (!iopm) {
		/* Every port and every MSR is intercepted, but for that of the GHCB; they follow one another. */
		iopm = sys_alloc();
		sys_alloc(), sys_alloc();
		msrpm = sys_alloc();
		sys_alloc();
		memset((void *)iopm, 0xff, 3 * PAGE);
		memset((void *)msrpm, 0xff, 2 * PAGE);
		((u8 *)msrpm)[0x1000 + (MSR_GHCB & 0xffff) / 4] &= ~3;
	}
	guest_keep(g, (u64)c);
	v->g = g;
	v->n = g->nvcpus++;
	v->vmcb = c;
	c->intercept_excp = 0;
	c->intercept3 = BIT(INTERCEPT_INTR) | BIT(INTERCEPT_NMI) | BIT(INTERCEPT_SMI) | BIT(INTERCEPT_INIT) | BIT(INTERCEPT_CPUID) |
			BIT(INTERCEPT_HLT) | BIT(INTERCEPT_IO) | BIT(INTERCEPT_MSR) | BIT(INTERCEPT_SHUTDOWN);
	c->intercept4 = BIT(INTERCEPT_VMRUN) | BIT(INTERCEPT_VMMCALL) | BIT(INTERCEPT_VMLOAD) | BIT(INTERCEPT_VMSAVE) |
			BIT(INTERCEPT_STGI) | BIT(INTERCEPT_CLGI);
	c->iopm_pa = iopm;
	c->msrpm_pa = msrpm;
	c->asid = g->asid;
	c->tlb_ctl = 1;
	c->int_ctl = BIT(24);
	c->nested_ctl = NESTED_NP | (g->kind >= GUEST_SEV ? NESTED_SEV : 0) | (g->kind >= GUEST_ES ? NESTED_ES : 0);
	c->nested_cr3 = g->npt;
	c->virt_ext = g->kind >= GUEST_ES;
	if (g->kind < GUEST_ES) {
		vmsa_init(g, &c->save, v->n, entry);
		return v;
	}
	v->vmsa = page_alloc();
	guest_keep(g, v->vmsa);
	vmsa_init(g, (void *)v->vmsa, v->n, entry);
	((struct vmsa *)v->vmsa)->vmpl = v->vmpl = vmpl;
	c->vmsa_pa = v->vmsa;
	if (g->kind == GUEST_SNP) {
		r = rmpupdate(v->vmsa, 1, 0, 1, g->asid, GPA_VMSA);
		if (!r)
			r = snp_launch_update(g->ctx, v->vmsa, 0, LU_VMSA);
	} else {
		struct { u32 handle, rsvd; u64 address; u32 len; } d = { g->handle, 0, v->vmsa, PAGE };

		r = rmpupdate_firmware(v->vmsa) ? PSP_NONE : sev(SEV_LAUNCH_UPDATE_VMSA, &d, 20);
		if (!rmp_release(v->vmsa, 0))
			r = PSP_NONE;
	}
	if (r)
		FAIL("VMSA: %#x", r);
	return v;
}

bool guest_launch(struct guest *g)
{
	u32 r = 0;

	if (g->kind == GUEST_SNP) {
		r = snp_launch_finish(g->ctx);
	} else if (g->kind != GUEST_PLAIN) {
		struct { u32 handle, rsvd; u64 address; u32 len; } m = { g->handle, 0, 0, 0 };
		u64 pa = page_alloc();

		/* The order that the firmware wants: measure, finish. */
		m.address = pa;
		m.len = 48;
		rmpupdate_firmware(pa);
		r = sev(SEV_LAUNCH_MEASURE, &m, 20);
		page_free(pa);
		if (!r)
			r = sev(SEV_LAUNCH_FINISH, &g->handle, 4);
	}
	if (r)
		FAIL("LAUNCH_FINISH: %#x", r);
	g->launched = true;
	return !r;
}

struct guest *guest_new(enum guest_kind kind)
{
	struct guest *g = guest_new_raw(kind);

	guest_vcpu(g, guest_main);
	if (!guest_launch(g))
		test_abort();
	return g;
}

void guest_free(struct guest *g)
{
	u32 i;

	if (g->kind == GUEST_SNP && g->ctx) {
		snp_decommission(g->ctx);
		page_free(g->ctx);
	} else if (g->handle) {
		sev(SEV_DEACTIVATE, &g->handle, 4);
		sev(SEV_DECOMMISSION, &g->handle, 4);
	}
	g->ctx = g->handle = 0;
	for (i = 0; i < g->npages; i++)
		page_free(g->pages[i]);
	g->npages = 0;
}

u64 guest_page(struct guest *g, u64 gpa, enum rmp_state st)
{
	u64 pa = rmp_page(st, g, gpa, 0);

	if (pa)
		npt_map(g, gpa, pa, 1, PTE_W);
	return pa;
}

u64 guest_page_2m(struct guest *g, u64 gpa, enum rmp_state st)
{
	u64 pa = rmp_page(st, g, gpa, 1);

	if (pa)
		npt_map(g, gpa, pa, 2, PTE_W);
	return pa;
}

static void print_log(struct vcpu *v)
{
	struct comm *c = v->comm;
	u32 i = 0, n = MIN(c->log_len, COMM_LOG), j;

	if (!n || rmp_state((u64)c) != ST_HYPERVISOR)
		return;
	while (i < n) {
		printf("# guest: ");
		for (j = i; j < n && c->log[j] != '\n'; j++)
			printf("%c", c->log[j]);
		printf("\n");
		i = j + 1;
	}
	c->log_len = 0;
}

u64 vcpu_run_at(struct vcpu *v, u64 hsave)
{
	struct vmcb *c = v->vmcb;
	struct vmsa *h = (void *)(hsave + 0x400);
	bool es = v->g->kind >= GUEST_ES;
	u32 r[4];

	if (rdmsr(MSR_VM_HSAVE_PA) != hsave)
		wrmsr(MSR_VM_HSAVE_PA, hsave);
	if (hsave) {
		/* What VMRUN of a guest with encrypted state doesn't save, but #VMEXIT loads. */
		cpuid(1, 0, r);
		h->xcr0 = 1;
		if (r[2] & BIT(26)) {
			u32 lo, hi;

			asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
			h->xcr0 = lo;
		}
		h->xss = 0;
		h->pkru = 0;
	}
	v->runs++;
	v->fault = FAULT(vmrun_asm((u64)c, hsave, es ? NULL : &v->regs));
	if (v->fault.vector >= 0) {
		stgi();
		v->code = v->info1 = v->info2 = 0;
		return v->code;
	}
	c->tlb_ctl = 0;
	c->event_inj = 0;
	v->code = c->exit_code;
	v->info1 = c->exit_info_1;
	v->info2 = c->exit_info_2;
	v->ghcb = es ? c->ghcb_gpa : c->save.rax;
	print_log(v);
	return v->code;
}

u64 vcpu_run(struct vcpu *v)
{
	struct percpu *p = this_cpu();

	if (!p->hsave)
		p->hsave = sys_alloc();
	return vcpu_run_at(v, p->hsave);
}

void vcpu_inject(struct vcpu *v, int vector, bool has_error, u32 error)
{
	v->vmcb->event_inj = BIT(31) | has_error << 11 | 3 << 8 | vector;
	v->vmcb->event_inj_err = error;
}

static bool our_exit(struct vcpu *v)
{
	return (v->code == EXIT_VMGEXIT || v->code == EXIT_VMMCALL) && (v->ghcb & 0xfff) == 0xf01;
}

static struct gres go(struct vcpu *v, bool hold)
{
	struct gres r = { 0 };
	int i;

	for (;;) {
		vcpu_run(v);
		if (v->fault.vector >= 0) {
			r.how = GR_VMRUN_FAULT;
			r.fault = v->fault;
			return r;
		}
		if (v->code == EXIT_INTR || v->code == EXIT_NMI)
			continue;
		if (v->code == EXIT_VMMCALL)
			v->vmcb->save.rip += 3;
		if (!our_exit(v)) {
			r.how = GR_EXIT;
			r.code = v->code;
			r.info1 = v->info1;
			r.info2 = v->info2;
			break;
		}
		r.value = v->ghcb >> 12;
		if (r.value == 0xffffffffffffeUL) {
			v->busy = false;
			r.value = v->comm->value;
			r.fault = v->comm->fault;
			r.how = r.fault.vector >= 0 ? GR_FAULT : GR_RETURNED;
			return r;
		}
		if (r.value == 0xfffffffffffffUL) {
			r.how = GR_FAULT;
			r.fault = v->comm->fault;
			FAIL("guest died of exception %d error %#lx cr2 %#lx rip %#lx", r.fault.vector, r.fault.error, r.fault.cr2, r.fault.rip);
			return r;
		}
		r.how = GR_HCALL;
		return r;
	}
	/* Out of the function by an exception, which guest_main() catches. */
	for (i = 0; !hold && i < 3 && v->busy; i++) {
		vcpu_inject(v, VEC_UD, false, 0);
		vcpu_run(v);
		if (v->code == EXIT_VMMCALL)
			v->vmcb->save.rip += 3;
		if (our_exit(v) && v->ghcb >> 12 == 0xffffffffffffeUL)
			v->busy = false;
	}
	return r;
}

static struct gres call(struct vcpu *v, gfn fn, u64 a, u64 b, u64 c, bool hold)
{
	struct gres r = { .how = GR_RETURNED };

	if (!v->runs) {
		v->busy = true;
		r = go(v, false);
	}
	if (r.how != GR_RETURNED || v->busy) {
		FAIL("guest isn't ready: %s", gres_text(&r));
		return r;
	}
	v->comm->fn = (u64)fn;
	v->comm->arg[0] = a;
	v->comm->arg[1] = b;
	v->comm->arg[2] = c;
	v->busy = true;
	return go(v, hold);
}

struct gres vcall(struct vcpu *v, gfn fn, u64 a, u64 b, u64 c) { return call(v, fn, a, b, c, false); }
struct gres vcall_hold(struct vcpu *v, gfn fn, u64 a, u64 b, u64 c) { return call(v, fn, a, b, c, true); }
struct gres vresume(struct vcpu *v) { return go(v, true); }
struct gres gcall(struct guest *g, gfn fn, u64 a, u64 b, u64 c) { return call(&g->vcpu[0], fn, a, b, c, false); }
struct gres gcall_hold(struct guest *g, gfn fn, u64 a, u64 b, u64 c) { return call(&g->vcpu[0], fn, a, b, c, true); }
struct gres gresume(struct guest *g) { return go(&g->vcpu[0], true); }
struct gres gabort(struct guest *g) { return vabort(&g->vcpu[0]); }

struct gres vabort(struct vcpu *v)
{
	vcpu_inject(v, VEC_UD, false, 0);
	return go(v, false);
}

const char *gres_text(const struct gres *r)
{
	static char buf[4][128];
	static int n;
	char *b = buf[n++ & 3];

	switch (r->how) {
	case GR_RETURNED:
		snprintf(b, 128, "return of %#lx", r->value);
		break;
	case GR_FAULT:
	case GR_VMRUN_FAULT:
		snprintf(b, 128, "%s %d error %#lx cr2 %#lx", r->how == GR_FAULT ? "exception" : "VMRUN's exception", r->fault.vector,
			 r->fault.error, r->fault.cr2);
		break;
	case GR_EXIT:
		snprintf(b, 128, "exit %#lx info %#lx %#lx", r->code, r->info1, r->info2);
		break;
	default:
		snprintf(b, 128, "hypercall %#lx", r->value);
	}
	return b;
}
