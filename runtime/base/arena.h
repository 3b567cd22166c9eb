/*
 * Arenas: memory by lifetime. All that is allocated lives until the arena is reset or released; nothing is freed
 * singly. Each arena has a budget, so that no input makes it grow without bound: over it, allocation gives NULL.
 */
#ifndef RUNTIME_BASE_ARENA_H
#define RUNTIME_BASE_ARENA_H

#include <stddef.h>

#include "runtime/base/status.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* newest first */
	size_t used_bytes, budget_bytes;
};

void arena_init(struct arena *a, size_t budget_bytes);
void arena_release(struct arena *a); /* frees everything; the arena may be used again */
void *arena_alloc(struct arena *a, size_t size); /* zeroed, 16-byte aligned; NULL over budget */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
