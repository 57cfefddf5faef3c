// SPDX-License-Identifier: GPL-2.0
/*
 * The TDX module refuses to remove a page of a TD. The conversion fails, the TD is dead, all pages
 * stay private, and nobody ever gets the one that's still the TD's: not by a conversion after
 * its memslot is gone, nor from the allocator, which is tried with nearly all memory. And how
 * often TLBs are flushed, which is counted by what would have been refused.
 *
 * Or it refuses to add one, after which the TD is dead as well, but has got no page to be kept.
 */
#include <linux/falloc.h>
#include <glob.h>
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "gmem_util.h"
#include "tdx.h"

#define NR	8

/* Failures of leaves, ordered by the registers of the emulator's device tdx-inject. */
static volatile uint32_t *reg;

static void find_device(void)
{
	char path[300], id[16];
	glob_t g;
	size_t i;
	int fd;

	glob("/sys/bus/pci/devices/*", 0, NULL, &g);
	for (i = 0; i < g.gl_pathc; i++) {
		snprintf(path, sizeof(path), "%s/device", g.gl_pathv[i]);
		read_file(path, id, sizeof(id));
		if (strncmp(id, "0x7d01", 6))
			continue;

		snprintf(path, sizeof(path), "%s/enable", g.gl_pathv[i]);
		write_file(path, "1");
		snprintf(path, sizeof(path), "%s/resource0", g.gl_pathv[i]);
		fd = open_path_or_exit(path, O_RDWR | O_SYNC);
		reg = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
		TEST_ASSERT_EQ(reg[0], 0x49584454);
		return;
	}
	ksft_exit_skip("no device tdx-inject\n");
}

static void arm(int leaf, int nth)
{
	reg[1] = leaf;
	/* TDX_OPERAND_INVALID */
	reg[2] = 0;
	reg[3] = 0xc0000100;
	reg[4] = nth;
	reg[5] = 1;
	TEST_ASSERT(!reg[7], "refused");
}

static bool armed(void)
{
	return reg[6];
}

static void disarm(void)
{
	reg[5] = 2;
}

static void use_all_memory(size_t max)
{
	const size_t size = min_t(size_t, sysconf(_SC_AVPHYS_PAGES) / 16 * 15 * PAGE_SIZE, max);
	volatile char *p;
	size_t i;

	p = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	for (i = 0; i < size; i += PAGE_SIZE)
		p[i] = 1;
	kvm_munmap((void *)p, size);
}

static struct gmem *create_pages(u64 nr_pages, u64 step)
{
	struct gmem *g = gmem_create(nr_pages, INIT_PRIVATE);
	u64 i;

	tdx_launch(g->vm);
	for (i = 0; i < nr_pages; i += step)
		TEST_ASSERT_EQ(gmem_pre_fault(g, 0, i, 1), 0);
	return g;
}

static struct gmem *create(void)
{
	return create_pages(NR, 1);
}

/*
 * A batch needs a single TDH.MEM.TRACK, and none if nothing is removed: the next one would
 * be refused.
 */
static void expect_tracks(struct gmem *g, int nr, u64 nr_pages)
{
	arm(38, nr + 1);
	gmem_to_shared(g, 0, nr_pages);
	TEST_ASSERT(armed(), "more than %d TRACK for %lu pages", nr, nr_pages);
	disarm();
	gmem_host_fill(g, 0, 1, 0x11);
	gmem_to_private(g, 0, nr_pages);
}

static void check_tracks(void)
{
	const u64 nr_pages = 64 * 512;
	struct gmem *g;
	u64 i;

	printf("one TRACK\n");
	g = create_pages(512, 1);
	for (i = 0; i < 512; i += 2)
		gmem_to_shared(g, i, 1);
	expect_tracks(g, 1, 512);
	expect_tracks(g, 0, 512);
	TEST_ASSERT_EQ(gmem_pre_fault(g, 0, 0, 512), 0);
	expect_tracks(g, 1, 512);
	TEST_ASSERT_EQ(gmem_pre_fault(g, 0, 0, 512), 0);
	arm(38, 2);
	gmem_punch_hole(g, 0, 512);
	TEST_ASSERT(armed(), "more than one TRACK for a hole");
	disarm();
	gmem_free(g);

	/* All by themselves. */
	g = create_pages(nr_pages, 512);
	expect_tracks(g, 1, nr_pages);
	gmem_free(g);
}

/* PAGE.ADD and MR.EXTEND before the TD is finalized, SEPT.ADD and PAGE.AUG after that. */
static void refuse_to_add(int leaf, bool finalized)
{
	struct kvm_tdx_init_mem_region region;
	struct gmem *g = gmem_create(NR, INIT_PRIVATE);
	int err;

	printf("leaf %d: %s\n", leaf, finalized ? "fault" : "load");
	if (finalized)
		tdx_launch(g->vm);
	arm(leaf, leaf == 3 ? 1 : 3);
	if (finalized) {
		gmem_guest_prepare(g, 0, GUEST_TOUCH, 0, NR, 1);
		err = _vcpu_run(gmem_vcpu(g)) ? errno : 0;
	} else {
		region = (struct kvm_tdx_init_mem_region) { .gpa = g->gpa, .nr_pages = NR };
		err = tdx_init_mem(gmem_vcpu(g), &region, KVM_TDX_MEASURE_MEMORY_REGION);
	}
	TEST_ASSERT_EQ(err, EIO);
	TEST_ASSERT(!armed(), "not reached");
	ASSERT_REFUSED(g, TO_SHARED, 0, NR, EIO, 0, BACKEND);
	gmem_expect_run(g, 0, 0, NR, KVM_GMEM_STATE_PRIVATE);
	gmem_host_expect_sigbus(g, 0, NR);
	gmem_free(g);
}

int main(int argc, char *argv[])
{
	const int leaves[] = { 29, 7, 38, 41 };
	struct gmem *g;
	int i;

	setenv(GMEM_VM_TYPE_ENV, "tdx", 1);
	gmem_require();
	find_device();
	check_tracks();

	for (i = 0; i < ARRAY_SIZE(leaves); i++) {
		const bool track = leaves[i] == 38;

		printf("leaf %d: conversion\n", leaves[i]);
		g = create();
		arm(leaves[i], track ? 1 : 3);
		ASSERT_REFUSED(g, TO_SHARED, 0, NR, EIO, 0, BACKEND);
		TEST_ASSERT(!armed(), "not reached");
		gmem_expect_run(g, 0, 0, NR, KVM_GMEM_STATE_PRIVATE);
		gmem_host_expect_sigbus(g, 0, NR);
		TEST_ASSERT(gmem_pre_fault(g, 0, 0, NR) == EIO, "the TD is alive");
		ASSERT_REFUSED(g, TO_SHARED, 0, NR, EIO, 0, BACKEND);
		gmem_punch_hole(g, 0, NR);
		TEST_ASSERT_EQ(gmem_fdinfo(g->fd, "gmem-resident"), 0);
		gmem_free(g);

		printf("leaf %d: hole\n", leaves[i]);
		g = create();
		arm(leaves[i], track ? 1 : 3);
		gmem_punch_hole(g, 0, NR);
		TEST_ASSERT(!armed(), "not reached");
		ASSERT_REFUSED(g, TO_SHARED, 0, NR, EIO, 0, BACKEND);
		gmem_free(g);

		printf("leaf %d: memslot\n", leaves[i]);
		g = create();
		arm(leaves[i], track ? 1 : 3);
		gmem_unbind(g, g->slot);
		TEST_ASSERT(!armed(), "not reached");
		/* The file isn't bound to the TD that's dead any more. */
		if (track) {
			ASSERT_REFUSED(g, TO_SHARED, 0, NR, EIO, 0, BACKEND);
		} else {
			ASSERT_REFUSED(g, TO_SHARED, 0, NR, EIO, 2, BACKEND);
			gmem_host_fill(g, 0, 2, 0x11);
			gmem_expect_run(g, 2, 2, NR - 2, KVM_GMEM_STATE_PRIVATE);
			gmem_host_expect_sigbus(g, 2, NR - 2);
			gmem_to_shared(g, 3, NR - 3);
			ASSERT_REFUSED(g, TO_SHARED, 0, NR, EIO, 2, BACKEND);
		}
		gmem_free(g);

		printf("leaf %d: file\n", leaves[i]);
		g = create();
		arm(leaves[i], track ? 1 : 3);
		gmem_free(g);
		TEST_ASSERT(!armed(), "not reached");
	}

	refuse_to_add(2, false);
	refuse_to_add(16, false);
	refuse_to_add(3, true);
	refuse_to_add(6, true);

	use_all_memory(argc > 1 ? atoi(argv[1]) * (size_t)SZ_1M : -1ul);
	printf("done\n");
	return 0;
}
