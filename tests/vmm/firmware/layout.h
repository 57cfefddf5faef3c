/* SPDX-License-Identifier: GPL-2.0 */
/* Where the firmwares for SNP guests have what. QEMU is told the C-bit's position; where it isn't this, they give up. */
#ifndef LAYOUT_H
#define LAYOUT_H

#define C_BIT		51
#define FW_BASE		0xffff0000
#define METADATA_SIZE	0x100			/* from there to the end of the image, as link.ld has it */
#define CS		0x08
#define DS		0x10

/* Guest physical addresses. Linux leaves FIRMWARE alone, and maps it as private memory. */
#define BOOT_PARAMS	0x10000
#define COMMAND_LINE	0x11000
#define COMMAND_LINE_SIZE 0x1000
#define FIRMWARE	0x90000
#define CC_SETUP_DATA	FIRMWARE
#define CC_BLOB		(FIRMWARE + 0x100)
#define SECRETS		(FIRMWARE + 0x1000)	/* these two are launched, by the metadata */
#define CPUID		(FIRMWARE + 0x2000)
#define ACPI		(FIRMWARE + 0x3000)
#define FIRMWARE_END	0xa0000
#define HIGH_MEMORY	0x100000
#define KERNEL		0x1000000

/* Shared with the host while Linux is loaded. The second view of the first 2 MiB is the one without the C-bit. */
#define SHARED		0x20000
#define SHARED_END	0x40000
#define SHARED_VIEW	0x100000000

#define MSR_GHCB	0xc0010130

#endif
