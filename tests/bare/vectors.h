/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries of exceptions and interrupts, 16 bytes each: push an error code if the CPU didn't, and the vector. */
	.macro VECTOR_ENTRIES nr
	v = 0
	.rept \nr
	.align 16
	.if v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21 || v == 29 || v == 30
	.else
	pushq $0
	.endif
	pushq $v
	jmp vector_common
	v = v + 1
	.endr
	.endm
