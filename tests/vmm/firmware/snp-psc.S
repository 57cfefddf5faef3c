/* SPDX-License-Identifier: GPL-2.0 */
/*
 * In real mode all memory is private, and what is needed of the GHCB protocol fits into an MSR. Shares some pages, takes
 * back half of them, and halts.
 */
#include "../protocol.h"
#include "tables.h"

	sev_tables 0xfffffff0

	.text
	.code16
start:
	mov	$MSR_GHCB, %ecx
	mov	$PSC_PAGES, %esi
	mov	$PSC_START, %edi
1:	mov	$2 << 20, %edx			/* to shared */
	mov	%edi, %eax
	or	$0x14, %eax			/* page state change */
	wrmsr
	rep; vmmcall				/* VMGEXIT */
	add	$0x1000, %edi
	dec	%esi
	jnz	1b
	mov	$PSC_TAKEN_BACK, %esi
	mov	$PSC_START, %edi
2:	mov	$1 << 20, %edx			/* to private */
	mov	%edi, %eax
	or	$0x14, %eax
	wrmsr
	rep; vmmcall
	add	$0x1000, %edi
	dec	%esi
	jnz	2b
3:	hlt
	jmp	3b

	.section .reset, "ax"
	.code16
	jmp	start
