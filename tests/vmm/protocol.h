/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the guest and the test talk: by the first sectors of a disk. The guest writes a report and waits for the
 * answer to it; what the test looks at meanwhile stands still, but for what the guest's other processes do.
 */
#define SECTOR		512
#define REPORT_SECTOR	0	/* "NUMBER TEXT", by the guest */
#define ANSWER_SECTOR	1	/* "NUMBER COMMAND", by the test */
#define DISK_SIZE	(1 << 20)
#define POLL_US		20000

/* What the guest shares and takes back again. */
#define SHARED_SIZE	(1 << 20)

/* From here on the disk is the guest's to write and read back; when it says that it has booted, its kernel's log is there. */
#define DATA_START	(64 << 10)
#define LOG_SIZE	(256 << 10)

/* What the firmware of an SNP guest without Linux shares, and the part of it that it takes back. */
#define PSC_START	0x1000000
#define PSC_PAGES	16
#define PSC_TAKEN_BACK	8

/* What that which doesn't ask says in the page that it shares, the test there, and it in the next one. */
#define IMPLICIT_SHARED		0x11
#define IMPLICIT_GO		0x22
#define IMPLICIT_PRIVATE	0x33
#define IMPLICIT_FAILED		0x44

/* A second disk, that a program of the guest drives itself. Each of its words has the number of its page. */
#define RAW_SIZE	(2 << 20)
