/* Arenas: chunks that double in size, newest first. */
#include "runtime/base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_FIRST = 1024, CHUNK_LARGEST = 65536, ALIGN = 16 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t cap, used;
	_Alignas(ALIGN) uint8_t data[];
};

void arena_init(struct arena *a, size_t budget_bytes)
{
	*a = (struct arena){.budget_bytes = budget_bytes};
}

void arena_release(struct arena *a)
{
	struct arena_chunk *c = a->chunks, *next;

	for (; c; c = next) {
		next = c->next;
		free(c);
	}
	a->chunks = NULL;
	a->used_bytes = 0;
}

static struct arena_chunk *arena_grow(struct arena *a, size_t size)
{
	size_t cap = a->chunks ? a->chunks->cap * 2 : CHUNK_FIRST;
	struct arena_chunk *c;

	if (cap > CHUNK_LARGEST)
		cap = CHUNK_LARGEST;
	if (cap < size)
		cap = size;
	c = malloc(sizeof(*c) + cap);
	if (!c)
		return NULL;
	c->next = a->chunks;
	c->cap = cap;
	c->used = 0;
	a->chunks = c;
	return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_chunk *c = a->chunks;
	void *p;

	if (size > a->budget_bytes)
		return NULL;
	size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (a->used_bytes + size > a->budget_bytes)
		return NULL;
	if ((!c || c->cap - c->used < size) && !(c = arena_grow(a, size)))
		return NULL;
	p = c->data + c->used;
	c->used += size;
	a->used_bytes += size;
	return memset(p, 0, size);
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	char *p = arena_alloc(a, n + 1);

	return p ? memcpy(p, s, n) : NULL;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	int n;
	char *p;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !(p = arena_alloc(a, (size_t)n + 1)))
		return NULL;
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return p;
}
