// SPDX-License-Identifier: GPL-2.0
/*
 * Firmware that boots Linux as an SNP guest of QEMU: accepts all memory, takes the kernel, its initramfs and the ACPI
 * tables from fw_cfg, and goes to the kernel's 64-bit entry, with a CC blob. Memory is private from the start; what QEMU
 * writes to is shared as long as that lasts, and private again when Linux begins.
 *
 * The host can give this firmware another kernel than the one that was meant: only the firmware is measured. Whatever
 * goes wrong ends the guest.
 */
#include <stdbool.h>
#include <stddef.h>

#include <asm/bootparam.h>
#include <asm/setup_data.h>

#include "layout.h"

#define PAGE		4096
#define MIB		(1ULL << 20)
#define RAM_MAX		(3072 * MIB)	/* all of it is below the devices, and mapped */

/* ---- The host, by the MSR ------------------------------------------------ */

#define SEV_INFO		0x001
#define SEV_INFO_REQUEST	0x002
#define PSC_REQUEST		0x014
#define PSC_PRIVATE		(1ULL << 52)
#define PSC_SHARED		(2ULL << 52)
#define REGISTER_REQUEST	0x012
#define TERMINATE		0x100
#define GHCB_VERSION		2

/* Why it has ended, for who reads it from the exit. */
enum reason { NO_PROTOCOL = 1, NO_CONVERSION, NO_ACCEPT, NO_GHCB, NO_FW_CFG, NO_ROOM, NO_KERNEL, NO_TABLES };

static void vmgexit(__u64 value)
{
	asm volatile("wrmsr; rep; vmmcall" :: "c"(MSR_GHCB), "a"((__u32)value), "d"((__u32)(value >> 32)) : "memory");
}

static __u64 ask(__u64 request)
{
	__u32 low, high;

	vmgexit(request);
	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(MSR_GHCB) : "memory");
	return low | (__u64)high << 32;
}

static void __attribute__((noreturn)) give_up(enum reason reason)
{
	for (;;) {
		/* Set 1 is for whoever needs reasons of their own. */
		vmgexit(TERMINATE | 1 << 12 | reason << 16);
		asm volatile("hlt");
	}
}

/* Not what the host says where the C-bit is, but whether it says what this firmware is built for. */
static void negotiate(void)
{
	__u64 info = ask(SEV_INFO_REQUEST);

	if ((info & 0xfff) != SEV_INFO || (__u8)(info >> 24) != C_BIT || (__u16)(info >> 32) > GHCB_VERSION || info >> 48 < GHCB_VERSION)
		give_up(NO_PROTOCOL);
}

/* Each page once: what was accepted before can have been replaced by the host. */
static void accept(__u64 start, __u64 end)
{
	for (; start < end; start += PAGE) {
		bool unchanged;
		__u64 status;

		asm volatile("pvalidate" : "=@ccc"(unchanged), "=a"(status) : "a"(start), "c"(0), "d"(1) : "memory");
		if (status || unchanged)
			give_up(NO_ACCEPT);
	}
}

static void convert(__u64 start, __u64 end, __u64 to)
{
	for (; start < end; start += PAGE)
		if (ask(PSC_REQUEST | start | to) != (PSC_REQUEST | 1))
			give_up(NO_CONVERSION);
}

/* ---- The host, by the GHCB ----------------------------------------------- */

struct ghcb {
	__u8 reserved1[0x1f8];
	__u64 rax;
	__u8 reserved2[0x108];
	__u64 rcx, rdx, rbx;
	__u8 reserved3[0x70];
	__u64 exit_code, exit_info_1, exit_info_2, scratch;
	__u8 reserved4[0x40];
	__u64 valid[2];		/* a bit for each 8 bytes of the above */
	__u8 reserved5[0xbfa - 6];
	__u16 version;
	__u32 usage;
};

_Static_assert(offsetof(struct ghcb, rcx) == 0x308 && offsetof(struct ghcb, exit_code) == 0x390 &&
	       offsetof(struct ghcb, valid) == 0x3f0 && sizeof(struct ghcb) == PAGE, "the GHCB's layout");

#define EXIT_IO			0x7b
#define IO_32			0x40
#define IO_ADDRESS_64		0x200
#define EXIT_MSR		0x7c
#define MSR_WRITE		1

/* What is shared: GHCB, fw_cfg's control block, data. */
static struct ghcb *const ghcb = (void *)(SHARED_VIEW + SHARED);
#define CONTROL			(SHARED + PAGE)
#define DATA			(SHARED + 2 * PAGE)
#define DATA_SIZE		(SHARED_END - DATA)

static void valid(const __u64 *field)
{
	unsigned int i = ((__u64)field - (__u64)ghcb) / 8;

	ghcb->valid[i / 64] |= 1ULL << i % 64;
}

static void ghcb_exit(__u64 code, __u64 info, __u64 rax, __u64 rcx, __u64 rdx)
{
	*ghcb = (struct ghcb) {
		.rax = rax,
		.rcx = rcx,
		.rdx = rdx,
		.exit_code = code,
		.exit_info_1 = info,
		.version = GHCB_VERSION,
	};
	valid(&ghcb->rax);
	valid(&ghcb->rcx);
	valid(&ghcb->rdx);
	valid(&ghcb->exit_code);
	valid(&ghcb->exit_info_1);
	valid(&ghcb->exit_info_2);
	vmgexit(SHARED);
	if ((__u32)ghcb->exit_info_1)
		give_up(NO_GHCB);
}

static void out32(__u16 port, __u32 value)
{
	ghcb_exit(EXIT_IO, port << 16 | IO_ADDRESS_64 | IO_32, value, 0, 0);
}

static void write_msr(__u32 msr, __u64 value)
{
	ghcb_exit(EXIT_MSR, MSR_WRITE, (__u32)value, msr, value >> 32);
}

/* ---- fw_cfg -------------------------------------------------------------- */

#define FW_CFG_DMA_PORT		0x514
#define FW_CFG_RAM_SIZE		0x03
#define FW_CFG_KERNEL_SIZE	0x08
#define FW_CFG_INITRD_SIZE	0x0b
#define FW_CFG_KERNEL_DATA	0x11
#define FW_CFG_INITRD_DATA	0x12
#define FW_CFG_CMDLINE_SIZE	0x14
#define FW_CFG_CMDLINE_DATA	0x15
#define FW_CFG_SETUP_SIZE	0x17
#define FW_CFG_SETUP_DATA	0x18
#define FW_CFG_FILES		0x19
#define DMA_ERROR		1
#define DMA_READ		2
#define DMA_SELECT		8

struct fw_cfg_dma {
	__u32 control, length;
	__u64 address;
};

/* The device writes to shared memory, and starts when it has the second half of the control block's address. */
static void read_part(int key, __u32 size)
{
	volatile struct fw_cfg_dma *dma = (void *)(SHARED_VIEW + CONTROL);

	dma->control = __builtin_bswap32(key < 0 ? DMA_READ : DMA_READ | DMA_SELECT | key << 16);
	dma->length = __builtin_bswap32(size);
	dma->address = __builtin_bswap64(DATA);
	out32(FW_CFG_DMA_PORT, 0);
	out32(FW_CFG_DMA_PORT + 4, __builtin_bswap32(CONTROL));
	/* It may take its time. */
	while (dma->control & ~__builtin_bswap32(DMA_ERROR))
		;
	if (dma->control)
		give_up(NO_FW_CFG);
}

/* Without a key: what follows. */
static void fw_cfg(int key, void *to, __u64 size)
{
	while (size) {
		__u32 part = size < DATA_SIZE ? size : DATA_SIZE;

		read_part(key, part);
		__builtin_memcpy(to, (void *)(SHARED_VIEW + DATA), part);
		to += part;
		size -= part;
		key = -1;
	}
}

static __u32 fw_cfg_u32(int key)
{
	__u32 value;

	fw_cfg(key, &value, sizeof(value));
	return value;
}

/* ---- ACPI tables: files, and a script that says how to link them --------- */

#define NAME_SIZE	56
#define FILES_MAX	4

struct file {
	char name[NAME_SIZE];
	__u8 *at;
	__u32 size;
};

/* Commands are 128 bytes. */
struct script {
	__u32 command;
	union {
		struct {
			char file[NAME_SIZE];
			__u32 align;
		} allocate;
		struct {
			char file[NAME_SIZE], source[NAME_SIZE];
			__u32 offset;
			__u8 size;
		} __attribute__((packed)) pointer;
		struct {
			char file[NAME_SIZE];
			__u32 offset, start, size;
		} checksum;
		char reserved[124];
	};
};

enum { ALLOCATE = 1, ADD_POINTER, ADD_CHECKSUM };

static struct file files[FILES_MAX];
static unsigned int nr_files;
static __u8 *next_table;

static bool same(const char *a, const char *b)
{
	for (int i = 0; i < NAME_SIZE; i++)
		if (a[i] != b[i] || !a[i])
			return a[i] == b[i];
	return true;
}

static void read_file(struct file *file, const char *name, __u32 align, __u64 end)
{
	struct {
		__u32 size;
		__u16 key, reserved;
		char name[NAME_SIZE];
	} entry;
	__u32 left = __builtin_bswap32(fw_cfg_u32(FW_CFG_FILES));
	__u64 at = ((__u64)next_table + align - 1) & -(__u64)align;

	do {
		if (!left--)
			give_up(NO_TABLES);
		fw_cfg(-1, &entry, sizeof(entry));
	} while (!same(entry.name, name));
	__builtin_memcpy(file->name, entry.name, NAME_SIZE);
	file->at = (void *)at;
	file->size = __builtin_bswap32(entry.size);
	if (!align || at > end || file->size > end - at)
		give_up(NO_ROOM);
	fw_cfg(__builtin_bswap16(entry.key), file->at, file->size);
	next_table = file->at + file->size;
}

/* A range of it that is there. */
static struct file *part_of(const char *name, __u32 offset, __u32 size)
{
	for (unsigned int i = 0; i < nr_files; i++)
		if (same(files[i].name, name) && offset <= files[i].size && size <= files[i].size - offset)
			return &files[i];
	give_up(NO_TABLES);
}

static void run(const struct script *s)
{
	__u64 pointer = 0;
	struct file *file;
	__u8 sum = 0;

	switch (s->command) {
	case ALLOCATE:
		if (nr_files == FILES_MAX)
			give_up(NO_TABLES);
		read_file(&files[nr_files++], s->allocate.file, s->allocate.align, FIRMWARE_END);
		break;
	case ADD_POINTER:
		if (s->pointer.size > sizeof(pointer))
			give_up(NO_TABLES);
		file = part_of(s->pointer.file, s->pointer.offset, s->pointer.size);
		__builtin_memcpy(&pointer, file->at + s->pointer.offset, s->pointer.size);
		pointer += (__u64)part_of(s->pointer.source, 0, 0)->at;
		__builtin_memcpy(file->at + s->pointer.offset, &pointer, s->pointer.size);
		break;
	case ADD_CHECKSUM:
		file = part_of(s->checksum.file, s->checksum.start, s->checksum.size);
		part_of(s->checksum.file, s->checksum.offset, 1);
		for (__u32 i = 0; i < s->checksum.size; i++)
			sum += file->at[s->checksum.start + i];
		file->at[s->checksum.offset] -= sum;
		break;
	default:
		give_up(NO_TABLES);
	}
}

/* Returns the address of the root. The script is done with when the kernel is loaded to where it is. */
static __u64 load_tables(__u64 ram)
{
	struct file script;

	next_table = (void *)KERNEL;
	read_file(&script, "etc/table-loader", 1, ram);
	next_table = (void *)ACPI;
	for (__u32 at = 0; at + sizeof(struct script) <= script.size; at += sizeof(struct script))
		run((const struct script *)(script.at + at));
	return (__u64)part_of("etc/acpi/rsdp", 0, 20)->at;
}

/* ---- Linux --------------------------------------------------------------- */

#define CC_BLOB_MAGIC	0x45444d41

struct cc_blob {
	__u32 magic;
	__u16 version, reserved;
	__u64 secrets;
	__u32 secrets_len, reserved1;
	__u64 cpuid;
	__u32 cpuid_len, reserved2;
};

static void e820_add(struct boot_params *bp, __u64 start, __u64 end, __u32 type)
{
	bp->e820_table[bp->e820_entries++] = (struct boot_e820_entry) { start, end - start, type };
}

/* From where the kernel knows that it is an SNP guest. */
static void describe(struct boot_params *bp)
{
	struct setup_data *data = (void *)CC_SETUP_DATA;
	__u32 address = CC_BLOB;

	*data = (struct setup_data) { .type = SETUP_CC_BLOB, .len = sizeof(address) };
	__builtin_memcpy(data + 1, &address, sizeof(address));
	*(struct cc_blob *)CC_BLOB = (struct cc_blob) {
		.magic = CC_BLOB_MAGIC,
		.version = 1,
		.secrets = SECRETS,
		.secrets_len = PAGE,
		.cpuid = CPUID,
		.cpuid_len = PAGE,
	};
	bp->hdr.setup_data = CC_SETUP_DATA;
}

static void load_linux(__u64 ram)
{
	struct boot_params *bp = (void *)BOOT_PARAMS, *file = (void *)KERNEL;
	__u32 setup = fw_cfg_u32(FW_CFG_SETUP_SIZE), kernel = fw_cfg_u32(FW_CFG_KERNEL_SIZE);
	__u32 initrd = fw_cfg_u32(FW_CFG_INITRD_SIZE), line = fw_cfg_u32(FW_CFG_CMDLINE_SIZE);
	__u64 at;

	if (line > COMMAND_LINE_SIZE || setup > ram - KERNEL || kernel > ram - KERNEL)
		give_up(NO_ROOM);
	fw_cfg(FW_CFG_SETUP_DATA, file, setup);
	if (setup < sizeof(*bp) || file->hdr.header != 0x53726448 || !(file->hdr.xloadflags & XLF_KERNEL_64))
		give_up(NO_KERNEL);
	bp->hdr = file->hdr;
	/* Behind what the kernel needs to unpack itself. */
	at = (KERNEL + (__u64)bp->hdr.init_size + 2 * MIB - 1) & -(2 * MIB);
	if (kernel > bp->hdr.init_size || at > ram || initrd > ram - at)
		give_up(NO_ROOM);
	fw_cfg(FW_CFG_KERNEL_DATA, (void *)KERNEL, kernel);
	fw_cfg(FW_CFG_INITRD_DATA, (void *)at, initrd);
	fw_cfg(FW_CFG_CMDLINE_DATA, (void *)COMMAND_LINE, line);
	bp->hdr.type_of_loader = 0xff;
	bp->hdr.cmd_line_ptr = COMMAND_LINE;
	bp->hdr.ramdisk_image = at;
	bp->hdr.ramdisk_size = initrd;
	e820_add(bp, 0, FIRMWARE, 1);
	/* Memory of ACPI's type is mapped as private. */
	e820_add(bp, FIRMWARE, FIRMWARE_END, 3);
	e820_add(bp, HIGH_MEMORY, ram, 1);
}

/* ---- Other processors ---------------------------------------------------- */

#define MSR_APIC_BASE	0x1b
#define APIC_BASE_X2APIC 0xfee00d00	/* enabled, of the first processor */
#define MSR_X2APIC_ICR	0x830
#define ICR_INIT	0xc4500		/* to all others */
#define ICR_STARTUP	0xc4600

/* They halt. KVM leaves those alone that never were started. */
static void start_others(void)
{
	write_msr(MSR_APIC_BASE, APIC_BASE_X2APIC);
	write_msr(MSR_X2APIC_ICR, ICR_INIT);
	write_msr(MSR_X2APIC_ICR, ICR_STARTUP);
}

void main(void)
{
	struct boot_params *bp = (void *)BOOT_PARAMS;
	__u64 ram = 0;

	negotiate();
	convert(SHARED, SHARED_END, PSC_SHARED);
	if (ask(REGISTER_REQUEST | SHARED) != (SHARED | REGISTER_REQUEST | 1))
		give_up(NO_GHCB);
	fw_cfg(FW_CFG_RAM_SIZE, &ram, sizeof(ram));
	if (ram <= KERNEL || ram > RAM_MAX || ram % PAGE)
		give_up(NO_ROOM);
	accept(0, SHARED);
	accept(SHARED_END, SECRETS);
	accept(CPUID + PAGE, ram);
	*bp = (struct boot_params) { .acpi_rsdp_addr = load_tables(ram) };
	load_linux(ram);
	describe(bp);
	start_others();
	convert(SHARED, SHARED_END, PSC_PRIVATE);
	accept(SHARED, SHARED_END);
	asm volatile("jmp *%0" :: "r"(KERNEL + 0x200ULL), "S"(bp) : "memory");
	__builtin_unreachable();
}
