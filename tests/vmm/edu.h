/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The device that is assigned to the guest: QEMU's 'edu', which copies up to a page between memory and a buffer of its
 * own. It is driven by the guest, and by the test, for what the guest can't be asked to do.
 */
#define EDU_SRC		0x80
#define EDU_DST		0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98
#define EDU_START	1
#define EDU_TO_MEMORY	2
#define EDU_BUFFER	0x40000
#define EDU_MS		60000
/* Of memory that the device can't access. Each word is a fault, and the host's kernel reports ten in five seconds. */
#define FAULT_BYTES	4

/* Where it is below /sys, or "". */
static const char *edu_find(void)
{
	const char *devices = "/sys/bus/pci/devices";
	static char path[128];
	DIR *dir = opendir(devices);

	path[0] = 0;
	for (struct dirent *entry; dir && !path[0] && (entry = readdir(dir));) {
		char text[300];
		FILE *file;

		snprintf(text, sizeof(text), "%s/%s/modalias", devices, entry->d_name);
		file = fopen(text, "re");
		if (file && fgets(text, sizeof(text), file) && strstr(text, "v00001234d000011E8"))
			snprintf(path, sizeof(path), "%s/%.32s", devices, entry->d_name);
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
	return path;
}

static volatile uint8_t *edu_map(const char *path)
{
	char text[160];
	void *regs;
	int fd;

	snprintf(text, sizeof(text), "%s/resource0", path);
	fd = open(text, O_RDWR | O_CLOEXEC);
	regs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	return regs == MAP_FAILED ? NULL : regs;
}

static void edu_set(volatile uint8_t *regs, int reg, uint64_t value)
{
	*(volatile uint64_t *)(regs + reg) = value;
}

/* Copies; returns false if it doesn't end. It doesn't say whether the memory could be accessed. */
static bool edu_dma(volatile uint8_t *regs, bool to_memory, uint64_t addr, size_t size)
{
	edu_set(regs, EDU_SRC, to_memory ? EDU_BUFFER : addr);
	edu_set(regs, EDU_DST, to_memory ? addr : EDU_BUFFER);
	edu_set(regs, EDU_COUNT, size);
	edu_set(regs, EDU_COMMAND, EDU_START | (to_memory ? EDU_TO_MEMORY : 0));
	for (int i = 0; i < EDU_MS; i++) {
		if (!(*(volatile uint64_t *)(regs + EDU_COMMAND) & EDU_START))
			return true;
		usleep(1000);
	}
	return false;
}
