// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a fault costs a VM that has nothing to do with conversions, in instructions of the host.
 *
 * For an emulator that counts instructions ('-icount shift=0'): its time stamp counter is then the number of instructions that were
 * executed, here and in the kernel. Each page is timed on its own, and the median is printed, so that a timer interrupt does not matter.
 * Uses nothing that Linux 7.3 does not have. scripts/cost.py runs it on two kernels, and compares.
 *
 *   cost: NAME MEDIAN LOWEST HIGHEST
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES 384UL /* within one page table, the first page of which makes the table */
#define GPA 0x40000000UL
#define SIZE (2UL << 20)
#define TABLE 0x4000UL /* where the guest writes its results */

enum memory {
	ANONYMOUS,
	PLAIN_FILE, /* a guest_memfd that is all shared */
	ATTRIBUTES, /* a VM with private memory, all of it private by the VM's attributes */
};

static const char *const names[] = { "anonymous", "plain-file", "attributes" };

struct vm {
	int fd, vcpu, file;
	struct kvm_run *run;
	uint8_t *low, *memory;
};

#define CHECK(condition)                                                                          \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			printf("cost: line %d: " #condition ": %s\n", __LINE__, strerror(errno)); \
			exit(1);                                                                  \
		}                                                                                 \
	} while (0)

static inline uint64_t instructions(void)
{
	uint32_t low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
	return (uint64_t)high << 32 | low;
}

static void set_memory(struct vm *v, bool exists, enum memory memory)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = 1,
		.flags = memory == ANONYMOUS ? 0 : KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = GPA,
		.memory_size = exists ? SIZE : 0,
		.userspace_addr = (uint64_t)v->memory,
		.guest_memfd = v->file,
	};

	CHECK(!ioctl(v->fd, KVM_SET_USER_MEMORY_REGION2, &region));
}

static void create(struct vm *v, enum memory memory)
{
	/* 1: rdtsc; mov %eax,%esi; mov %rax,(%rdi); rdtsc; sub %esi,%eax; mov %eax,(%rbx); add $4,%rbx; add $4096,%rdi; dec %rcx; jnz 1b; hlt */
	static const uint8_t code[] = { 0x0f, 0x31, 0x89, 0xc6, 0x48, 0x89, 0x07, 0x0f, 0x31, 0x29, 0xf0, 0x89, 0x03, 0x48, 0x83, 0xc3, 0x04,
					0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x48, 0xff, 0xc9, 0x75, 0xe3, 0xf4 };
	struct kvm_userspace_memory_region2 low = { .memory_size = 64 << 10 };
	struct kvm_create_guest_memfd create = { .size = SIZE };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	struct kvm_sregs sregs;
	uint64_t *table;
	int kvm, size;

	CHECK((kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)) >= 0);
	CHECK((v->fd = ioctl(kvm, KVM_CREATE_VM, memory == ATTRIBUTES ? KVM_X86_SW_PROTECTED_VM : 0)) >= 0);

	v->low = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	CHECK(v->low != MAP_FAILED);
	table = (uint64_t *)(v->low + 0x1000);
	table[0] = 0x2000 | 0x67;
	table = (uint64_t *)(v->low + 0x2000);
	for (int i = 0; i < 4; i++)
		table[i] = (uint64_t)i << 30 | 0xe7; /* 1 GiB, accessed and dirty */
	memcpy(v->low + 0x3000, code, sizeof(code));
	low.userspace_addr = (uint64_t)v->low;
	CHECK(!ioctl(v->fd, KVM_SET_USER_MEMORY_REGION2, &low));

	v->file = -1;
	if (memory != ANONYMOUS) {
		create.flags = memory == PLAIN_FILE ? GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED : 0;
		CHECK((v->file = ioctl(v->fd, KVM_CREATE_GUEST_MEMFD, &create)) >= 0);
	}
	if (memory == PLAIN_FILE)
		v->memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, v->file, 0);
	else
		v->memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(v->memory != MAP_FAILED);
	if (memory != PLAIN_FILE)
		madvise(v->memory, SIZE, MADV_NOHUGEPAGE);
	set_memory(v, true, memory);
	if (memory == ATTRIBUTES) {
		struct kvm_memory_attributes attributes = { .address = GPA, .size = SIZE, .attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE };

		CHECK(!ioctl(v->fd, KVM_SET_MEMORY_ATTRIBUTES, &attributes));
	}

	CHECK((v->vcpu = ioctl(v->fd, KVM_CREATE_VCPU, 0)) >= 0);
	CHECK((size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)) > 0);
	v->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, v->vcpu, 0);
	CHECK(v->run != MAP_FAILED);
	cpuid->nent = 256;
	CHECK(!ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid));
	CHECK(!ioctl(v->vcpu, KVM_SET_CPUID2, cpuid));
	CHECK(!ioctl(v->vcpu, KVM_GET_SREGS, &sregs));
	sregs.cr0 = 0x80010033;
	sregs.cr3 = 0x1000;
	sregs.cr4 = 0x20;
	sregs.efer = 0x500;
	sregs.cs = (struct kvm_segment){ .limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1 };
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs =
		(struct kvm_segment){ .limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
	CHECK(!ioctl(v->vcpu, KVM_SET_SREGS, &sregs));
	free(cpuid);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void show(enum memory memory, const char *what, const uint32_t *spent)
{
	uint32_t sorted[PAGES - 1];

	memcpy(sorted, spent + 1, sizeof(sorted));
	qsort(sorted, PAGES - 1, sizeof(sorted[0]), compare);
	printf("cost: %s/%s %u %u %u\n", names[memory], what, sorted[PAGES / 2], sorted[0], sorted[PAGES - 2]);
}

/* The VM forgets the memory, which stays where it is. */
static void unmap_from_guest(struct vm *v, enum memory memory)
{
	set_memory(v, false, memory);
	set_memory(v, true, memory);
}

static void touch_by_host(struct vm *v, uint32_t *spent)
{
	for (unsigned long i = 0; i < PAGES; i++) {
		uint64_t before = instructions();

		*(volatile uint64_t *)(v->memory + i * PAGE) = i;
		spent[i] = instructions() - before;
	}
}

static void prefault(struct vm *v, uint32_t *spent)
{
	for (unsigned long i = 0; i < PAGES; i++) {
		struct kvm_pre_fault_memory range = { .gpa = GPA + i * PAGE, .size = PAGE };
		uint64_t before = instructions();
		int r = ioctl(v->vcpu, KVM_PRE_FAULT_MEMORY, &range);

		spent[i] = instructions() - before;
		CHECK(!r && !range.size);
	}
}

static void touch_by_guest(struct vm *v, uint32_t *spent)
{
	struct kvm_regs regs = { .rip = 0x3000, .rflags = 2, .rdi = GPA, .rcx = PAGES, .rbx = TABLE };

	CHECK(!ioctl(v->vcpu, KVM_SET_REGS, &regs));
	CHECK(!ioctl(v->vcpu, KVM_RUN, 0));
	CHECK(v->run->exit_reason == KVM_EXIT_HLT);
	memcpy(spent, v->low + TABLE, PAGES * sizeof(*spent));
}

static void measure(enum memory memory)
{
	uint32_t spent[PAGES];
	struct vm v;

	create(&v, memory);

	if (memory == PLAIN_FILE) {
		touch_by_host(&v, spent);
		show(memory, "host-allocates", spent);
		madvise(v.memory, SIZE, MADV_DONTNEED);
		touch_by_host(&v, spent);
		show(memory, "host", spent);
	} else {
		/* By now the caches of the allocators are filled. */
		touch_by_host(&v, spent);
	}

	/* The code and the table of results. */
	touch_by_guest(&v, spent);

	if (memory != ANONYMOUS) {
		CHECK(!fallocate(v.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE));
		touch_by_guest(&v, spent);
		show(memory, "guest-allocates", spent);
	}

	unmap_from_guest(&v, memory);
	touch_by_guest(&v, spent);
	show(memory, "guest", spent);
	unmap_from_guest(&v, memory);
	prefault(&v, spent);
	show(memory, "prefault", spent);
	prefault(&v, spent);
	show(memory, "prefault-again", spent);
	fflush(stdout);
}

int main(void)
{
	for (enum memory memory = ANONYMOUS; memory <= ATTRIBUTES; memory++)
		measure(memory);
	return 0;
}
