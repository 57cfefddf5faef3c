// SPDX-License-Identifier: GPL-2.0
/*
 * An SNP guest that asks for nothing: it stores to a page as shared memory, and accepts it as private memory once the
 * host has said so there. The host has to find out, by the exits of these accesses, what is meant.
 */
#include <asm/types.h>

#include "../protocol.h"
#include "layout.h"

void main(void)
{
	volatile __u64 *page = (void *)(SHARED_VIEW + SHARED), *next = page + 4096 / sizeof(*page);
	unsigned char unchanged;
	__u64 status;

	*page = IMPLICIT_SHARED;
	while (*page != IMPLICIT_GO)
		;
	asm volatile("pvalidate" : "=@ccc"(unchanged), "=a"(status) : "a"(SHARED), "c"(0), "d"(1) : "memory");
	*next = status || unchanged ? IMPLICIT_FAILED : IMPLICIT_PRIVATE;
	for (;;)
		asm volatile("hlt");
}
