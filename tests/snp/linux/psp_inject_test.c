// SPDX-License-Identifier: GPL-2.0
/*
 * Failures of the PSP's commands and of RMPUPDATE, armed by the registers of the
 * emulated PSP (-global amd-psp.inject=on; hw/misc/amd-psp.c of QEMU) from within
 * the booted host. For try.py, by its absolute path.
 */
#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "sev.h"

static volatile uint32_t *reg;

static void find(void)
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

static void guest_code(void)
{
	wrmsr(MSR_AMD64_SEV_ES_GHCB, GHCB_MSR_TERM_REQ);
	vmgexit();
}

static void run(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	vm_sev_launch(vm, snp_default_policy(), NULL);
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_SYSTEM_EVENT);
	kvm_vm_free(vm);
}

int main(void)
{
	struct kvm_sev_snp_launch_start start = { .policy = snp_default_policy() };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int r;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SNP_VM));
	find();
	if (reg[0] != 0x31464e49)
		ksft_exit_skip("inject=off\n");

	/* LAUNCH_START fails: the context is decommissioned. */
	vm = vm_sev_create_with_one_vcpu(KVM_X86_SNP_VM, guest_code, &vcpu);
	arm(1, 0xa0, 0x07, 1);
	r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_START, &start);
	TEST_ASSERT(r, "LAUNCH_START succeeded");
	TEST_ASSERT_EQ(reg[7], 0);
	/* ... so does ACTIVATE, and then the same guest can be started. */
	arm(1, 0x91, 0x0c, 1);
	r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_START, &start);
	TEST_ASSERT(r, "ACTIVATE succeeded");
	TEST_ASSERT_EQ(reg[7], 0);
	run(vm, vcpu);
	printf("context: ok\n");

	/* The 3rd LAUNCH_UPDATE fails: the page is reclaimed. */
	vm = vm_sev_create_with_one_vcpu(KVM_X86_SNP_VM, guest_code, &vcpu);
	arm(1, 0xa1, 0x16, 3);
	snp_vm_launch_start(vm, snp_default_policy());
	{
		struct kvm_sev_snp_launch_update u = {
			.uaddr = (unsigned long)addr_gpa2hva(vm, 0), .gfn_start = 0, .len = 4 * PAGE_SIZE,
			.type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
		};

		vm_set_memory_attributes(vm, 0, 4 * PAGE_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
		r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_UPDATE, &u);
		TEST_ASSERT(!r && u.gfn_start == 2 && !reg[7], "r %d, gfn %llu, pending %x", r, u.gfn_start, reg[7]);
		printf("LAUNCH_UPDATE: ok\n");
	}
	kvm_vm_free(vm);
	arm(4, 0, 0, 0);

	/* The 2nd RMPUPDATE fails. */
	vm = vm_sev_create_with_one_vcpu(KVM_X86_SNP_VM, guest_code, &vcpu);
	snp_vm_launch_start(vm, snp_default_policy());
	arm(2, 0, 3, 2);	/* not 4, OVERLAP: Linux tries that again */
	{
		struct kvm_sev_snp_launch_update u = {
			.uaddr = (unsigned long)addr_gpa2hva(vm, 0), .gfn_start = 0, .len = 4 * PAGE_SIZE,
			.type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
		};

		vm_set_memory_attributes(vm, 0, 4 * PAGE_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
		r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_UPDATE, &u);
		TEST_ASSERT(!r && u.gfn_start == 1 && !reg[7], "r %d, gfn %llu, pending %x", r, u.gfn_start, reg[7]);
		printf("RMPUPDATE: ok\n");
	}
	kvm_vm_free(vm);
	arm(4, 0, 0, 0);

	vm = vm_sev_create_with_one_vcpu(KVM_X86_SNP_VM, guest_code, &vcpu);
	run(vm, vcpu);
	printf("all is well again\n");
	return 0;
}
