/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Failures of the PSP's commands and of RMPUPDATE, armed by the registers of the
 * emulated PSP (-global amd-psp.inject=on; hw/misc/amd-psp.c of QEMU) from within
 * the booted host. For KVM selftests of the series.
 */
#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "sev.h"

#define FAIL_COMMAND		1
#define FAIL_RMPUPDATE		2
#define FAIL_NOTHING		4

static volatile uint32_t *reg;

static void find_psp(void)
{
	glob_t g;
	size_t i;

	glob("/sys/bus/pci/devices/*", 0, NULL, &g);
	for (i = 0; i < g.gl_pathc; i++) {
		char path[200], id[16] = "";
		FILE *f;
		int fd;

		snprintf(path, sizeof(path), "%s/device", g.gl_pathv[i]);
		f = fopen(path, "r");
		if (!f || !fgets(id, sizeof(id), f) || strncmp(id, "0x14ca", 6)) {
			if (f)
				fclose(f);
			continue;
		}
		fclose(f);
		snprintf(path, sizeof(path), "%s/resource2", g.gl_pathv[i]);
		fd = open(path, O_RDWR | O_SYNC);
		TEST_ASSERT(fd >= 0, "%s", path);
		reg = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0xff000);
		TEST_ASSERT(reg != MAP_FAILED, "mmap of %s", path);
		if (reg[0] != 0x31464e49)
			ksft_exit_skip("inject=off\n");
		return;
	}
	TEST_FAIL("no PSP");
}

static void arm(uint32_t what, uint32_t id, uint32_t result, uint32_t n)
{
	reg[1] = id;
	reg[2] = result;
	reg[3] = n;
	reg[6] = what;
	TEST_ASSERT(!reg[8], "refused");
}

/* Whether what was armed is still to come. */
static bool armed(void)
{
	return reg[7];
}
