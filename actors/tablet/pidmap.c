/* One atomic a slot holds both pids, so a reader never sees halves of two entries. Slots are taken over on collision. */
#include "actors/tablet/pidmap.h"

#include <stdatomic.h>

enum { PIDMAP_SLOTS = 1 << 16 };

static _Atomic uint64_t slots[PIDMAP_SLOTS];

void pidmap_set(uint32_t os_pid, uint32_t client_pid)
{
	atomic_store_explicit(
		&slots[os_pid % PIDMAP_SLOTS], (uint64_t)os_pid << 32 | client_pid, memory_order_relaxed);
}

uint32_t pidmap_get(uint32_t os_pid)
{
	uint64_t both = atomic_load_explicit(&slots[os_pid % PIDMAP_SLOTS], memory_order_relaxed);

	return both >> 32 == os_pid ? (uint32_t)both : 0;
}
