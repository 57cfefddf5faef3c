/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Boot into 64-bit mode with 4 GiB mapped, exceptions, SEAMCALL, and what a TD executes. */

#include "vectors.h"

	.section .text.boot, "ax"
	.align 4
	.long 0x1badb002, 0x00000003, -(0x1badb002 + 0x00000003)

	.text
	.code32
	.global _start
_start:
	cli
	cld
	movl $stack_end, %esp
	movl %ebx, multiboot_info
	movl $0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax		/* LME */
	wrmsr
	movl $0x80010033, %eax		/* PG, WP, NE, ET, MP, PE */
	movl %eax, %cr0
	lgdt gdtr
	ljmp $8, $1f
	.code64
1:	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	leaq stack_end(%rip), %rsp
	xorl %ebp, %ebp
	call main64
2:	hlt
	jmp 2b

/* void seamcall_asm(u64 leaf, u64 *regs): rcx, rdx, r8, r9, r10-r15, rbx, rsi, rdi in and out; rax in the last one */
	.global seamcall_asm
seamcall_asm:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rsi
	movq %rdi, %rax
	movq %rsi, %rbp
	movq 0(%rbp), %rcx
	movq 8(%rbp), %rdx
	movq 16(%rbp), %r8
	movq 24(%rbp), %r9
	movq 32(%rbp), %r10
	movq 40(%rbp), %r11
	movq 48(%rbp), %r12
	movq 56(%rbp), %r13
	movq 64(%rbp), %r14
	movq 72(%rbp), %r15
	movq 80(%rbp), %rbx
	movq 88(%rbp), %rsi
	movq 96(%rbp), %rdi
	.byte 0x66, 0x0f, 0x01, 0xcf
	movq (%rsp), %rbp
	movq %rax, 104(%rbp)
	setc 112(%rbp)
	movq %rcx, 0(%rbp)
	movq %rdx, 8(%rbp)
	movq %r8, 16(%rbp)
	movq %r9, 24(%rbp)
	movq %r10, 32(%rbp)
	movq %r11, 40(%rbp)
	movq %r12, 48(%rbp)
	movq %r13, 56(%rbp)
	movq %r14, 64(%rbp)
	movq %r15, 72(%rbp)
	movq %rbx, 80(%rbp)
	movq %rsi, 88(%rbp)
	movq %rdi, 96(%rbp)
	cld
	popq %rsi
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

/* The other processor starts here, in a copy at 0x8000. */
	.code16
	.global ap_start, ap_end
ap_start:
	cli
	xorw %ax, %ax
	movw %ax, %ds
	lgdtl 0x8000 + (ap_gdtr - ap_start)
	movl $0x620, %eax
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl $0x80010033, %eax
	movl %eax, %cr0
	ljmpl $8, $ap_long
ap_gdtr: .word 23
	.long gdt
ap_end:
	.code64
ap_long:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	leaq ap_stack_end(%rip), %rsp
	xorl %ebp, %ebp
	call ap_main
1:	hlt
	jmp 1b

/* One entry of 16 bytes per vector; exceptions of tests end up in catch_ip. */
	.align 16
	.global vector_entries
vector_entries:
	VECTOR_ENTRIES 32
vector_common:
	movq (%rsp), %rdi
	movq 16(%rsp), %rsi
	movq catch_ip(%rip), %rax
	testq %rax, %rax
	jz 1f
	movq $0, catch_ip(%rip)
	movq %rdi, catch_vector(%rip)
	addq $16, %rsp
	movq %rax, (%rsp)
	iretq
1:	call unexpected

	.data
	.align 16
	.global catch_ip, catch_vector, multiboot_info
catch_ip: .quad 0
catch_vector: .quad 0
multiboot_info: .quad 0
gdt:	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:	.word 23
	.quad gdt
	.align 4096
pml4:	.quad pdpt + 3
	.fill 511, 8, 0
pdpt:	.quad 0x83, 0x40000083, 0x80000083, 0xc0000083
	.fill 508, 8, 0

	.bss
	.align 16
	.fill 32768
stack_end:
	.fill 16384
ap_stack_end:

/*
 * The code of TDs: a page at 0xfffff000. Page tables at 0x1000 (PML4), 0x2000 (private, 4 GiB), 0x3000 (the same, shared, at 512 GiB).
 * It asks the host for orders by TDG.VP.VMCALL: RBX is a leaf of TDCALL for RCX = RDX, RDX = RDI; or 0x100, read RDX to RSI; 0x101,
 * write RDI to RDX; 0x102, do not stop to copy what is at RDX to RDI, and to count at RDI + 8, until RDI + 16 is not zero; 0x103,
 * CPUID of leaf RDX and subleaf RDI to R8-R11; 0x104, RDMSR of RDX to R8 and R9. RAX of the leaf goes back in RBX.
 */
	.text
	.align 4096
	.global td_page
	.code32
td_page:
	movl $0x1000, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x20, %eax
	movl %eax, %cr4
	lgdtl %cs:(0xfffff000 + td_gdtr - td_page)
	movl %cr0, %eax
	orl $0x80000000, %eax
	movl %eax, %cr0
	ljmp $8, $(0xfffff000 + td_long - td_page)
	.code64
td_long:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
td_loop:
	xorl %eax, %eax
	movl $0xffcc, %ecx
	.byte 0x66, 0x0f, 0x01, 0xcc
	cmpq $0x100, %rbx
	je 1f
	cmpq $0x101, %rbx
	je 2f
	cmpq $0x103, %rbx
	je 4f
	ja 5f
	cmpq $0x102, %rbx
	je 3f
	movq %rbx, %rax
	movq %rdx, %rcx
	movq %rdi, %rdx
	.byte 0x66, 0x0f, 0x01, 0xcc
	movq %rax, %rbx
	movq %rcx, %rsi
	jmp td_loop
1:	movq (%rdx), %rsi
	jmp td_loop
2:	movq %rdi, (%rdx)
	jmp td_loop
3:	movq (%rdx), %rsi
	movq %rsi, (%rdi)
	incq 8(%rdi)
	cmpq $0, 16(%rdi)
	je 3b
	jmp td_loop
4:	movl %edx, %eax
	movl %edi, %ecx
	cpuid
	movl %eax, %r8d
	movl %ebx, %r9d
	movl %ecx, %r10d
	movl %edx, %r11d
	jmp td_loop
5:	movl %edx, %ecx
	rdmsr
	movl %eax, %r8d
	movl %edx, %r9d
	jmp td_loop
	.align 16
td_gdt:	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
td_gdtr: .word 23
	.long 0xfffff000 + td_gdt - td_page
	. = td_page + 0xff0
	.code32
	.byte 0xe9
	.long -0xff5
	. = td_page + 0x1000

	.section .note.GNU-stack, "", @progbits
