/* SPDX-License-Identifier: GPL-2.0 */
/* From the reset vector to main() in 64-bit mode. Page tables are read as private memory whatever CR3 says. */
#include "tables.h"

#define PRESENT		3			/* and writable */
#define LARGE		0x83
#define PRIVATE		(1 << C_BIT)

#define CR0		0x80010033		/* paging, write protection, protected mode */
#define CR4		0x20			/* PAE */
#define MSR_EFER	0xc0000080
#define EFER_LME	0x100

	sev_tables halt

	.section .reset, "ax"
	.code16
	jmp	start

	.text
	.code16
start:
	cli
	cld
	lgdtl	%cs:(gdtr - FW_BASE)
	mov	$CR4, %eax
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$EFER_LME, %eax
	wrmsr
	mov	$CR0, %eax
	mov	%eax, %cr0
	ljmpl	$CS, $1f

	.code64
1:	mov	$DS, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	lea	stack_end(%rip), %rsp
	call	main

	/* Other processors wait here for Linux to start them anew with a state of their own. */
	.code16
halt:	cli
1:	hlt
	jmp	1b

	.section .tables, "aw"
	.balign	4096
	/* 4 GiB that are private; above, the first 2 MiB once more as shared memory. */
pml4:	.quad	pdpt + PRESENT + PRIVATE
	.balign	4096
pdpt:	.set	i, 0
	.rept	5
	.quad	pds + i * 0x1000 + PRESENT + PRIVATE
	.set	i, i + 1
	.endr
	.balign	4096
pds:	.set	i, 0
	.rept	4 * 512
	.quad	(i << 21) + LARGE + PRIVATE
	.set	i, i + 1
	.endr
	.quad	LARGE
	.balign	4096

stack:	.skip	4096
stack_end:
gdt:	.quad	0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:	.short	. - gdt - 1
	.long	gdt
