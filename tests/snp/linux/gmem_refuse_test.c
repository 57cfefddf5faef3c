// SPDX-License-Identifier: GPL-2.0
/*
 * RMPUPDATE refuses a page that becomes shared, or that leaves the file. Each page in
 * front of it must be shared by then, and no other; nobody may ever get one that is
 * still the guest's, which is tried with nearly all memory, or as many MiB as the
 * argument says.
 */
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include "inject.h"
#include "kvm_syscalls.h"

#define NR	8
#define GPA	0x10000000ull
#define REFUSED	3	/* FAIL_INUSE; Linux tries FAIL_OVERLAP again */

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static volatile u64 *mem;
static int fd;

static void guest_code(void)
{
}

static sigjmp_buf jmp;

static void on_sigbus(int sig)
{
	siglongjmp(jmp, sig);
}

static bool host_can_write(int page)
{
	if (sigsetjmp(jmp, 1))
		return false;
	mem[page * (PAGE_SIZE / sizeof(*mem))] = 1;
	return true;
}

/* Returns the page that was refused, or -1. */
static int convert(unsigned long cmd, int first, int nr)
{
	struct kvm_gmem_convert c = { .offset = first * PAGE_SIZE, .size = nr * PAGE_SIZE };

	if (!ioctl(fd, cmd, &c))
		return -1;
	TEST_ASSERT(errno == EIO && c.error_reason == KVM_GMEM_CONVERT_REASON_BACKEND,
		    "errno %d, reason %u", errno, c.error_reason);
	return c.error_offset / PAGE_SIZE;
}

/* Has the RMP assign private pages to the guest. Returns the page that cannot be, or -1. */
static int try_assign(int first, int nr)
{
	struct kvm_pre_fault_memory r = { .gpa = GPA + first * PAGE_SIZE, .size = nr * PAGE_SIZE };
	int ret;

	do {
		ret = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &r);
	} while (!ret && r.size);
	return ret ? (r.gpa - GPA) / PAGE_SIZE : -1;
}

static void assign(int first, int nr)
{
	TEST_ASSERT_EQ(try_assign(first, nr), -1);
}

/* The first pages are shared, the others private, both for KVM and for the host. */
static void expect_shared(int nr)
{
	int i;

	for (i = 0; i < NR; i++) {
		struct kvm_gmem_query q = { .offset = i * PAGE_SIZE };

		TEST_ASSERT(!ioctl(fd, KVM_GMEM_QUERY, &q), "KVM_GMEM_QUERY");
		TEST_ASSERT((q.state == KVM_GMEM_STATE_SHARED) == (i < nr), "state of page %d, %d are shared", i, nr);
		TEST_ASSERT(host_can_write(i) == (i < nr), "host's access to page %d, %d are shared", i, nr);
	}
}

static void refuse(int page)
{
	u64 nr;

	assign(0, NR);
	nr = vm_get_stat(vm, gmem_pages_to_shared);
	arm(FAIL_RMPUPDATE, 0, REFUSED, page + 1);
	TEST_ASSERT_EQ(convert(KVM_GMEM_CONVERT_SHARED, 0, NR), page);
	TEST_ASSERT(!armed(), "not reached");
	TEST_ASSERT_EQ(vm_get_stat(vm, gmem_pages_to_shared), nr + page);
	expect_shared(page);

	/* The guest still has that page, and the next call shares it. */
	assign(page, NR - page);
	TEST_ASSERT_EQ(convert(KVM_GMEM_CONVERT_SHARED, 0, NR), -1);
	expect_shared(NR);
	TEST_ASSERT_EQ(convert(KVM_GMEM_CONVERT_PRIVATE, 0, NR), -1);
}

/* Every other page is shared already. */
static void refuse_among_runs(void)
{
	int i;

	for (i = 0; i < NR; i += 2)
		TEST_ASSERT_EQ(convert(KVM_GMEM_CONVERT_SHARED, i, 1), -1);
	for (i = 1; i < NR; i += 2)
		assign(i, 1);
	arm(FAIL_RMPUPDATE, 0, REFUSED, 2);
	TEST_ASSERT_EQ(convert(KVM_GMEM_CONVERT_SHARED, 0, NR), 3);
	TEST_ASSERT(host_can_write(1) && !host_can_write(3) && host_can_write(4) && !host_can_write(5),
		    "what became shared");
	TEST_ASSERT_EQ(convert(KVM_GMEM_CONVERT_PRIVATE, 0, NR), -1);
}

/* The guest must not map a page that it has not got; nor is it lost then. */
static void refuse_to_guest(void)
{
	arm(FAIL_RMPUPDATE, 0, REFUSED, 1);
	TEST_ASSERT_EQ(try_assign(0, NR), 0);
	TEST_ASSERT(!armed(), "not reached");
	assign(0, NR);
	TEST_ASSERT_EQ(convert(KVM_GMEM_CONVERT_SHARED, 0, NR), -1);
	expect_shared(NR);
	TEST_ASSERT_EQ(convert(KVM_GMEM_CONVERT_PRIVATE, 0, NR), -1);
}

/* The machine dies if one of the pages is used for something else. */
static void refuse_at_hole(size_t max_size)
{
	const size_t size = min_t(size_t, (sysconf(_SC_AVPHYS_PAGES) / 16 * 15 * PAGE_SIZE), max_size);
	volatile char *p;
	size_t i;

	assign(0, NR);
	arm(FAIL_RMPUPDATE, 0, REFUSED, 2);
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, NR * PAGE_SIZE);
	TEST_ASSERT(!armed(), "not reached");
	assign(0, NR);

	p = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	for (i = 0; i < size; i += PAGE_SIZE)
		p[i] = 1;
	kvm_munmap((void *)p, size);
}

int main(int argc, char *argv[])
{
	int i;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SNP_VM));
	find_psp();
	signal(SIGBUS, on_sigbus);

	vm = vm_sev_create_with_one_vcpu(KVM_X86_SNP_VM, guest_code, &vcpu);
	fd = vm_create_guest_memfd(vm, NR * PAGE_SIZE, GUEST_MEMFD_FLAG_CONVERTIBLE | GUEST_MEMFD_FLAG_MMAP);
	mem = kvm_mmap(NR * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	vm_set_user_memory_region2(vm, 10, KVM_MEM_GUEST_MEMFD, GPA, NR * PAGE_SIZE, (void *)mem, fd, 0);
	vm_sev_launch(vm, snp_default_policy(), NULL);

	for (i = 0; i < NR; i++)
		refuse(i);
	refuse_among_runs();
	refuse_to_guest();
	refuse_at_hole(argc > 1 ? (size_t)atoi_positive("Number of MiB", argv[1]) << 20 : SIZE_MAX);
	kvm_vm_free(vm);
	printf("all refusals are as they should be\n");
	return 0;
}
