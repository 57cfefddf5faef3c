/*
 * A plugin for QEMU: which code of a kernel the instructions of its calls are in.
 *
 * A call begins where the kernel gets to ENTRY, the address of an ioctl of a file, and ends with the first
 * instruction in userspace of the process; others may run meanwhile, and their way through the kernel counts. Calls with the same command, the same second u64 of their argument, and as many
 * instructions count as one kind. For one CPU, and a kernel at the addresses that it was linked for.
 *
 * Arguments: entry=ADDRESS output=OUTPUT. The output has, for each kind, a line 'call COMMAND SIZE INSTRUCTIONS
 * CALLS', and for each block of code a line 'ADDRESS INSTRUCTIONS', those of all its calls.
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

struct block {
	uint64_t addr, nr;	/* of its first instruction; of instructions */
	uint64_t count;		/* of the current call */
};

struct kind {
	uint64_t cmd, size, nr, calls;
	GHashTable *blocks;	/* address: instructions */
};

static uint64_t entry;
static FILE *file;
static struct qemu_plugin_scoreboard *state;
static qemu_plugin_u64 active;
static const char * const names[] = { "rsi", "rdx", "cr3" };	/* the command, its argument, the process */
static struct qemu_plugin_register *regs[G_N_ELEMENTS(names)];
static GPtrArray *touched;	/* blocks of the current call */
static GHashTable *kinds;
static struct kind current;
static uint64_t process;

static uint64_t read_reg(struct qemu_plugin_register *reg)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	uint64_t val = 0;

	if (qemu_plugin_read_register(reg, bytes) == sizeof(val))
		memcpy(&val, bytes->data, sizeof(val));
	return val;
}

static void begin(unsigned int cpu, void *data)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new();

	current = (struct kind) { .cmd = (uint32_t)read_reg(regs[0]) };
	if (qemu_plugin_read_memory_vaddr(read_reg(regs[1]) + sizeof(uint64_t), bytes, sizeof(uint64_t)))
		memcpy(&current.size, bytes->data, sizeof(uint64_t));
	process = read_reg(regs[2]);
	g_ptr_array_set_size(touched, 0);
	qemu_plugin_u64_set(active, cpu, 1);
}

static void count(unsigned int cpu, void *data)
{
	struct block *block = data;

	if (!block->count)
		g_ptr_array_add(touched, block);
	block->count += block->nr;
	current.nr += block->nr;
}

static void end(unsigned int cpu, void *data)
{
	g_autofree char *name = NULL;
	struct kind *kind;

	if (read_reg(regs[2]) != process)
		return;

	name = g_strdup_printf("%" PRIx64 " %" PRIu64 " %" PRIu64, current.cmd, current.size, current.nr);
	kind = g_hash_table_lookup(kinds, name);
	qemu_plugin_u64_set(active, cpu, 0);
	if (!kind) {
		kind = g_memdup2(&current, sizeof(current));
		kind->blocks = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
		g_hash_table_insert(kinds, g_strdup(name), kind);
	}
	kind->calls++;
	for (guint i = 0; i < touched->len; i++) {
		struct block *block = touched->pdata[i];
		uint64_t *sum = g_hash_table_lookup(kind->blocks, &block->addr);

		if (!sum) {
			sum = g_new0(uint64_t, 1);
			g_hash_table_insert(kind->blocks, g_memdup2(&block->addr, sizeof(block->addr)), sum);
		}
		*sum += block->count;
		block->count = 0;
	}
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	const uint64_t addr = qemu_plugin_tb_vaddr(tb);
	struct block *block;

	if (!(addr >> 63)) {
		qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, end, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_COND_NE, active, 0, NULL);
		return;
	}
	if (addr == entry)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, begin, QEMU_PLUGIN_CB_R_REGS, NULL);

	/* Never freed, it may be among those that were touched when the code is translated anew. */
	block = g_new0(struct block, 1);
	block->addr = addr;
	block->nr = qemu_plugin_tb_n_insns(tb);
	qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, count, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_COND_NE, active, 0, block);
}

static void new_cpu(qemu_plugin_id_t id, unsigned int cpu)
{
	g_autoptr(GArray) all = qemu_plugin_get_registers();

	for (guint i = 0; i < all->len; i++) {
		qemu_plugin_reg_descriptor *reg = &g_array_index(all, qemu_plugin_reg_descriptor, i);

		for (guint j = 0; j < G_N_ELEMENTS(names); j++) {
			if (!strcmp(reg->name, names[j]))
				regs[j] = reg->handle;
		}
	}
}

static void write_all(qemu_plugin_id_t id, void *data)
{
	GHashTableIter i, j;
	struct kind *kind;
	uint64_t *addr, *sum;

	g_hash_table_iter_init(&i, kinds);
	while (g_hash_table_iter_next(&i, NULL, (void **)&kind)) {
		fprintf(file, "call %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", kind->cmd, kind->size, kind->nr, kind->calls);
		g_hash_table_iter_init(&j, kind->blocks);
		while (g_hash_table_iter_next(&j, (void **)&addr, (void **)&sum))
			fprintf(file, "%" PRIx64 " %" PRIu64 "\n", *addr, *sum);
	}
	if (fclose(file))
		perror("plugin");
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (g_str_has_prefix(argv[i], "entry="))
			entry = strtoull(argv[i] + strlen("entry="), NULL, 16);
		else if (g_str_has_prefix(argv[i], "output="))
			file = fopen(argv[i] + strlen("output="), "w");
	}
	if (!entry || !file) {
		fprintf(stderr, "plugin: entry=ADDRESS,output=OUTPUT, and OUTPUT has to be writable\n");
		return -1;
	}

	state = qemu_plugin_scoreboard_new(sizeof(uint64_t));
	active = qemu_plugin_scoreboard_u64(state);
	touched = g_ptr_array_new();
	kinds = g_hash_table_new(g_str_hash, g_str_equal);
	qemu_plugin_register_vcpu_init_cb(id, new_cpu);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, write_all, NULL);
	return 0;
}
