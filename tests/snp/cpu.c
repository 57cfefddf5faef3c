/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptor tables, exceptions, other processors. */
#include "snp.h"

#define LAPIC		0xfee00000UL
#define AP_TRAMPOLINE	0x6000UL
#define IPI_VECTOR	0x40
#define STACK		16384

struct percpu percpu[MAX_CPUS + MAX_VCPUS];
int ncpus = 1;

static u64 gdt[6 + 2 * (MAX_CPUS + MAX_VCPUS)] = {
	0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff,
};
static u64 idt[512];
static u8 df_stack[MAX_CPUS + MAX_VCPUS][2048] __attribute__((aligned(16)));
extern char vmrun_insn[], vector_entries[], ap_trampoline[], ap_trampoline_end[];

u64 rdtsc(void)
{
	u32 lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | (u64)hi << 32;
}

void delay(u64 cycles)
{
	u64 t = rdtsc();

	while (rdtsc() - t < cycles)
		pause();
}

void get_dtrs(struct dtr *gdtr, struct dtr *idtr)
{
	*gdtr = (struct dtr){ sizeof(gdt) - 1, (u64)gdt };
	*idtr = (struct dtr){ sizeof(idt) - 1, (u64)idt };
}

void catch_push(struct catch *c)
{
	struct percpu *p = this_cpu();

	c->fault = (struct fault){ .vector = -1 };
	c->prev = p->catch;
	p->catch = c;
}

void catch_pop(struct catch *c)
{
	this_cpu()->catch = c->prev;
}

struct fault expect_fault(void (*fn)(void *), void *arg)
{
	return FAULT(fn(arg));
}

void exception(struct regs *r);
void exception(struct regs *r)
{
	struct percpu *p;
	struct catch *c;
	u64 cr2 = read_cr2(), *sp = (u64 *)r->rsp;

	/* VMRUN itself failed: GS and TR may be those of the guest. See vmrun_asm(). */
	if (r->rip == (u64)vmrun_insn && sp[2])
		vmload(sp[1]);
	p = this_cpu();
	c = p->catch;

	p->vectors++;
	if (r->vector >= 32) {
		if (!p->guest)
			write32(LAPIC + 0xb0, 0);
		return;
	}
	if (p->hook && p->hook(r, cr2))
		return;
	if (c) {
		c->fault = (struct fault){ r->vector, r->error, r->vector == VEC_PF || r->vector == VEC_VC ? cr2 : 0, r->rip };
		r->rip = (u64)catch_resume;
		r->rdi = (u64)c;
		r->cs = SEL_CODE;
		r->ss = SEL_DATA;
		r->rflags = 2;
		r->rsp = c->regs[7];
		return;
	}
	if (p->guest) {
		guest_comm()->fault = (struct fault){ r->vector, r->error, cr2, r->rip };
		for (;;)
			guest_exit(~0UL);
	}
	printf("Bail out! CPU %d: exception %lu error %#lx rip %#lx cr2 %#lx rsp %#lx\n", p->cpu, r->vector, r->error, r->rip, cr2, r->rsp);
	end(1);
}

static void tables_init(void)
{
	int i;

	for (i = 0; i < 256; i++) {
		u64 to = (u64)vector_entries + i * 16;
		u64 ist = i == VEC_DF;

		idt[2 * i] = (to & 0xffff) | SEL_CODE << 16 | ist << 32 | 0x8eUL << 40 | (to >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = to >> 32;
	}
	for (i = 0; i < MAX_CPUS + MAX_VCPUS; i++) {
		u64 tss = (u64)percpu[i].tss, limit = sizeof(percpu[i].tss) - 1;
		u64 df = (u64)(df_stack[i] + sizeof(df_stack[i]));
		u32 *t = (u32 *)percpu[i].tss;

		percpu[i].self = &percpu[i];
		percpu[i].cpu = i;
		percpu[i].guest = i >= MAX_CPUS;
		gdt[6 + 2 * i] = limit | (tss & 0xffffff) << 16 | 0x89UL << 40 | (tss >> 24 & 0xff) << 56;
		gdt[7 + 2 * i] = tss >> 32;
		t[9] = df;	/* IST1 */
		t[10] = df >> 32;
		t[25] = sizeof(percpu[i].tss) << 16;
	}
}

void cpu_setup(int cpu)
{
	struct dtr gdtr, idtr;
	u32 r[4];

	get_dtrs(&gdtr, &idtr);
	asm volatile("lgdt %0; lidt %1" :: "m"(gdtr), "m"(idtr));
	gdt[6 + 2 * cpu] &= ~BIT(41);	/* not busy */
	asm volatile("ltr %w0" :: "r"(SEL_TSS(cpu)));
	wrmsr(MSR_GS_BASE, (u64)&percpu[cpu]);
	cpuid(1, 0, r);
	if (r[2] & BIT(26)) {
		write_cr4(read_cr4() | BIT(18));
		cpuid(0xd, 0, r);
		xsetbv(0, r[0] & 7);
	}
}

static void lapic_on(void)
{
	write32(LAPIC + 0xf0, 0x1ff);
}

void cpu_init(void)
{
	tables_init();
	cpu_setup(0);
	percpu[0].up = 1;
}

static void icr(u32 apic_id, u32 what)
{
	write32(LAPIC + 0x310, apic_id << 24);
	write32(LAPIC + 0x300, what);
	while (read32(LAPIC + 0x300) & BIT(12))
		pause();
}

void ap_main(void);
void ap_main(void)
{
	struct percpu *p;
	int cpu = ncpus;

	cpu_setup(cpu);
	lapic_on();
	p = this_cpu();
	p->up = 1;
	for (;;) {
		asm volatile("cli");
		if (p->work) {
			p->work(p->work_arg);
			p->work = NULL;
			__atomic_store_n(&p->busy, 0, __ATOMIC_RELEASE);
			continue;
		}
		asm volatile("sti; hlt");
	}
}

static bool start_cpu(u32 apic_id)
{
	struct percpu *p = &percpu[ncpus];
	u64 stack = sys_alloc();
	int i;

	for (i = 1; i < (int)(STACK / PAGE); i++)
		sys_alloc();	/* they follow one another */
	ap_stack = stack + STACK;
	ap_cr3 = read_cr3();
	p->apic_id = apic_id;
	icr(apic_id, 0x4500);
	delay(20000000);
	for (i = 0; i < 2 && !p->up; i++) {
		icr(apic_id, 0x4600 | AP_TRAMPOLINE >> 12);
		for (int n = 0; n < 1000 && !p->up; n++)
			delay(1000000);
	}
	if (p->up)
		ncpus++;
	return p->up;
}

bool cpu_restart_last(void)
{
	struct percpu *p = &percpu[ncpus - 1];

	p->up = p->busy = 0;
	p->work = NULL;
	p->catch = NULL;
	p->hook = NULL;
	ncpus--;
	return start_cpu(p->apic_id);
}

/* RSDP -> RSDT -> the table; 0 if there is none */
u64 acpi_table(const char *name)
{
	u64 a;
	u32 i, n, rsdt = 0;

	for (a = 0xe0000; a < 0x100000 && !rsdt; a += 16)
		if (!memcmp((void *)a, "RSD PTR ", 8))
			rsdt = read32(a + 16);
	if (!rsdt)
		return 0;
	map_range(rsdt & ~(PAGE - 1), rsdt & ~(PAGE - 1), 2 * PAGE, PTE_W);
	n = (read32(rsdt + 4) - 36) / 4;
	for (i = 0; i < n; i++) {
		a = read32(rsdt + 36 + 4 * i);
		map_range(a & ~(PAGE - 1), a & ~(PAGE - 1), 2 * PAGE, PTE_W);
		if (!memcmp((void *)a, name, 4))
			return a;
	}
	return 0;
}

void smp_init(void)
{
	u64 a, madt, end, id;

	map_range(LAPIC, LAPIC, PAGE, PTE_W | BIT(4));
	lapic_on();
	id = read32(LAPIC + 0x20) >> 24;
	percpu[0].apic_id = id;
	memcpy((void *)AP_TRAMPOLINE, ap_trampoline, ap_trampoline_end - ap_trampoline);
	madt = acpi_table("APIC");
	if (!madt)
		return;
	end = madt + read32(madt + 4);
	for (a = madt + 44; a < end && ncpus < MAX_CPUS; a += read8(a + 1)) {
		if (read8(a) != 0 || !(read32(a + 4) & 1) || read8(a + 3) == id)
			continue;
		if (!start_cpu(read8(a + 3)))
			printf("# processor with APIC ID %u doesn't start\n", read8(a + 3));
	}
}

void start_on(int cpu, void (*fn)(void *), void *arg)
{
	struct percpu *p = &percpu[cpu];

	wait_for(cpu);
	p->work_arg = arg;
	p->busy = 1;
	__atomic_store_n(&p->work, fn, __ATOMIC_RELEASE);
	icr(p->apic_id, 0x4000 | IPI_VECTOR);
}

void wait_for(int cpu)
{
	u64 t = rdtsc();

	while (__atomic_load_n(&percpu[cpu].busy, __ATOMIC_ACQUIRE)) {
		pause();
		if (rdtsc() - t > 100000000000UL) {
			printf("Bail out! CPU %d doesn't come back\n", cpu);
			end(1);
		}
	}
}

void on_cpu(int cpu, void (*fn)(void *), void *arg)
{
	if (cpu == this_cpu()->cpu) {
		fn(arg);
		return;
	}
	start_on(cpu, fn, arg);
	wait_for(cpu);
}

void on_all(void (*fn)(void *), void *arg)
{
	int i;

	for (i = 0; i < ncpus; i++)
		on_cpu(i, fn, arg);
}
