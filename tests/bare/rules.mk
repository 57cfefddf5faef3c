# SPDX-License-Identifier: GPL-2.0-or-later
# How a program without an operating system is built: NAME.elf, a multiboot kernel, from OBJS. What all of them share is here.
OUTPUT ?= out
CC ?= gcc
BARE := $(dir $(lastword $(MAKEFILE_LIST)))
CFLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Werror -ffreestanding -nostdlib -fno-pic -no-pie -mno-red-zone -mgeneral-regs-only \
	-mcmodel=small -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing -I$(BARE) \
	$(MORE_CFLAGS)
OBJS += $(OUTPUT)/strings.o
vpath strings.c $(BARE)

$(OUTPUT)/$(NAME).elf: $(OUTPUT)/$(NAME).elf64
	objcopy -O elf32-i386 $< $@
$(OUTPUT)/$(NAME).elf64: $(OBJS) link.ld
	$(CC) $(CFLAGS) -Wl,-T,link.ld -Wl,--build-id=none -Wl,--no-warn-rwx-segments -Wl,-z,noexecstack -o $@ $(OBJS)
$(OUTPUT)/%.o: %.c $(HEADERS) Makefile $(BARE)rules.mk
	@mkdir -p $(OUTPUT)
	$(CC) $(CFLAGS) -c -o $@ $<
$(OUTPUT)/%.o: %.S Makefile $(BARE)rules.mk $(BARE)vectors.h
	@mkdir -p $(OUTPUT)
	$(CC) $(CFLAGS) -c -o $@ $<
clean:
	rm -rf $(OUTPUT)
.PHONY: clean
