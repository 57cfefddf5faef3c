/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Boot of the first and of the other processors, exception entries, VMRUN. */

#include "vectors.h"

	.section .multiboot, "ax"
	.align 4
	.long 0x1badb002, 0x00000003, -(0x1badb002 + 0x00000003)

	.text
	.code32
	.global _start
_start:
	cli
	cld
	movl $boot_stack_end, %esp
	movl %ebx, multiboot_info
	movl $boot_pdpt + 3, boot_pml4
	movl $boot_pml4, %eax
	movl %eax, %cr3
	call long_mode
	lgdt boot_gdtr
	ljmp $8, $1f
	.code64
1:	call load_data_segments
	leaq boot_stack_end(%rip), %rsp
	xorl %ebp, %ebp
	call main64
2:	hlt
	jmp 2b

	.code32
/* CR3 is set. Returns in compatibility mode. */
long_mode:
	movl $0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x1901, %eax		/* SVME, NXE, LME, SCE */
	wrmsr
	movl $0x80010033, %eax		/* PG, WP, NE, ET, MP, PE */
	movl %eax, %cr0
	ret

	.code64
load_data_segments:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	ret

/* Copied to 0x6000. */
	.code16
	.global ap_trampoline, ap_trampoline_end
ap_trampoline:
	cli
	cld
	xorw %ax, %ax
	movw %ax, %ds
	lgdtl 0x6000 + (ap_gdtr - ap_trampoline)
	movl $0x11, %eax
	movl %eax, %cr0
	ljmpl $0x18, $ap_entry32
ap_gdtr:
	.word 6 * 8 - 1
	.long boot_gdt
ap_trampoline_end:

	.code32
ap_entry32:
	movl $0x20, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl ap_stack, %esp
	movl ap_cr3, %eax
	movl %eax, %cr3
	call long_mode
	ljmp $8, $1f
	.code64
1:	call load_data_segments
	movq ap_stack, %rsp		/* may lie anywhere */
	xorl %ebp, %ebp
	call ap_main
2:	hlt
	jmp 2b

	.data
	.align 16
	.global boot_gdt
boot_gdt:
	.quad 0
	.quad 0x00af9b000000ffff	/* 08: 64-bit code */
	.quad 0x00cf93000000ffff	/* 10: data */
	.quad 0x00cf9b000000ffff	/* 18: 32-bit code */
	.quad 0x00cf93000000ffff	/* 20: data */
	.quad 0
boot_gdtr:
	.word 6 * 8 - 1
	.quad boot_gdt
	.align 4
	.global multiboot_info, ap_stack, ap_cr3
multiboot_info:
	.quad 0
ap_stack:
	.quad 0
ap_cr3:
	.quad 0
	.align 4096
boot_pdpt:				/* 4 GiB by pages of 1 GiB, until main() has its own tables */
	.quad 0x00000083, 0x40000083, 0x80000083, 0xc0000083
	.fill 508, 8, 0

	.bss
	.align 4096
boot_pml4:
	.fill 4096
boot_stack:
	.fill 16384
boot_stack_end:

	.text
/* One entry of 16 bytes per vector. */
	.align 16
	.global vector_entries
vector_entries:
	VECTOR_ENTRIES 256

vector_common:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rbx
	pushq %rbp
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	cld
	movq %rsp, %rdi
	movq %rsp, %rbp
	andq $-16, %rsp
	call exception
	movq %rbp, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rbp
	popq %rbx
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

/* int catch_set(struct catch *c): like setjmp */
	.global catch_set, catch_resume
catch_set:
	movq %rbx, 0(%rdi)
	movq %rbp, 8(%rdi)
	movq %r12, 16(%rdi)
	movq %r13, 24(%rdi)
	movq %r14, 32(%rdi)
	movq %r15, 40(%rdi)
	movq (%rsp), %rax
	movq %rax, 48(%rdi)
	leaq 8(%rsp), %rax
	movq %rax, 56(%rdi)
	xorl %eax, %eax
	ret
/* void catch_resume(struct catch *c): like longjmp */
catch_resume:
	movq 0(%rdi), %rbx
	movq 8(%rdi), %rbp
	movq 16(%rdi), %r12
	movq 24(%rdi), %r13
	movq 32(%rdi), %r14
	movq 40(%rdi), %r15
	movq 56(%rdi), %rsp
	movl $1, %eax
	jmpq *48(%rdi)

/*
 * void vmrun_asm(u64 vmcb, u64 hsave, struct gregs *regs): regs is NULL for a guest whose registers are in its VMSA.
 * After an exit of such a guest only RSP, and what VMLOAD of the host save area gives back, is known.
 */
	.global vmrun_asm, vmrun_insn
vmrun_asm:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rdx
	pushq %rsi
	pushq %rdi
	clgi
	movq %rsi, %rax
	vmsave
	movq %rdi, %rax
	testq %rdx, %rdx
	jz vmrun_insn
	vmload
	movq 0x00(%rdx), %rbx
	movq 0x08(%rdx), %rcx
	movq 0x18(%rdx), %rsi
	movq 0x20(%rdx), %rdi
	movq 0x28(%rdx), %rbp
	movq 0x30(%rdx), %r8
	movq 0x38(%rdx), %r9
	movq 0x40(%rdx), %r10
	movq 0x48(%rdx), %r11
	movq 0x50(%rdx), %r12
	movq 0x58(%rdx), %r13
	movq 0x60(%rdx), %r14
	movq 0x68(%rdx), %r15
	movq 0x10(%rdx), %rdx
vmrun_insn:
	vmrun
	movq 0(%rsp), %rax
	pushq %rdx
	movq 24(%rsp), %rdx
	testq %rdx, %rdx
	jz 1f
	vmsave
	movq %rbx, 0x00(%rdx)
	movq %rcx, 0x08(%rdx)
	movq %rsi, 0x18(%rdx)
	movq %rdi, 0x20(%rdx)
	movq %rbp, 0x28(%rdx)
	movq %r8, 0x30(%rdx)
	movq %r9, 0x38(%rdx)
	movq %r10, 0x40(%rdx)
	movq %r11, 0x48(%rdx)
	movq %r12, 0x50(%rdx)
	movq %r13, 0x58(%rdx)
	movq %r14, 0x60(%rdx)
	movq %r15, 0x68(%rdx)
	popq %rcx
	movq %rcx, 0x10(%rdx)
	pushq %rcx
1:	movq 16(%rsp), %rax
	vmload
	cld
	stgi
	addq $32, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret

	.section .note.GNU-stack, "", @progbits
