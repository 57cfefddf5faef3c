// SPDX-License-Identifier: GPL-2.0
/* What 7.3's KVM does if the firmware, or RMPUPDATE, refuses. */
#include "inject.h"

static void guest_code(void)
{
	wrmsr(MSR_AMD64_SEV_ES_GHCB, GHCB_MSR_TERM_REQ);
	vmgexit();
}

static void run_to_end(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	vm_sev_launch(vm, snp_default_policy(), NULL);
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_SYSTEM_EVENT);
	kvm_vm_free(vm);
}

/* Loads four pages, of which only some can be. */
static void load_until(struct kvm_vm *vm, u64 gfn)
{
	struct kvm_sev_snp_launch_update u = {
		.uaddr = (unsigned long)addr_gpa2hva(vm, 0), .gfn_start = 0, .len = 4 * PAGE_SIZE,
		.type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
	};
	int r;

	vm_set_memory_attributes(vm, 0, 4 * PAGE_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
	r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_UPDATE, &u);
	TEST_ASSERT(!r && u.gfn_start == gfn && !armed(), "r %d, gfn %llu, armed %d", r, u.gfn_start, armed());
}

int main(void)
{
	struct kvm_sev_snp_launch_start start = { .policy = snp_default_policy() };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int r;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SNP_VM));
	find_psp();

	/* LAUNCH_START fails: the context is decommissioned. */
	vm = vm_sev_create_with_one_vcpu(KVM_X86_SNP_VM, guest_code, &vcpu);
	arm(FAIL_COMMAND, 0xa0, 0x07, 1);
	r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_START, &start);
	TEST_ASSERT(r, "LAUNCH_START succeeded");
	TEST_ASSERT(!armed(), "not reached");
	/* ... so does ACTIVATE, and then the same guest can be started. */
	arm(FAIL_COMMAND, 0x91, 0x0c, 1);
	r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_START, &start);
	TEST_ASSERT(r, "ACTIVATE succeeded");
	TEST_ASSERT(!armed(), "not reached");
	run_to_end(vm, vcpu);
	printf("context: ok\n");

	/* The 3rd LAUNCH_UPDATE fails: the page is reclaimed. */
	vm = vm_sev_create_with_one_vcpu(KVM_X86_SNP_VM, guest_code, &vcpu);
	arm(FAIL_COMMAND, 0xa1, 0x16, 3);
	snp_vm_launch_start(vm, snp_default_policy());
	load_until(vm, 2);
	printf("LAUNCH_UPDATE: ok\n");
	kvm_vm_free(vm);
	arm(FAIL_NOTHING, 0, 0, 0);

	/* The 2nd RMPUPDATE fails. */
	vm = vm_sev_create_with_one_vcpu(KVM_X86_SNP_VM, guest_code, &vcpu);
	snp_vm_launch_start(vm, snp_default_policy());
	arm(FAIL_RMPUPDATE, 0, 3, 2);	/* not 4, OVERLAP: Linux tries that again */
	load_until(vm, 1);
	printf("RMPUPDATE: ok\n");
	kvm_vm_free(vm);
	arm(FAIL_NOTHING, 0, 0, 0);

	vm = vm_sev_create_with_one_vcpu(KVM_X86_SNP_VM, guest_code, &vcpu);
	run_to_end(vm, vcpu);
	printf("all is well again\n");
	return 0;
}
