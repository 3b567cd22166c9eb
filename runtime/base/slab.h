/*
 * Slabs: pools of equal objects. Freed objects are poisoned under ASan, so that a pool hides no use after free.
 * Worker-local.
 */
#ifndef RUNTIME_BASE_SLAB_H
#define RUNTIME_BASE_SLAB_H

#include <stddef.h>
#include <stdint.h>

struct slab {
	void *free; /* singly linked through the objects */
	void *pages; /* all pages, linked */
	uint32_t object_size, per_page;
	uint32_t live; /* objects handed out */
};

void slab_init(struct slab *s, uint32_t object_size);
void slab_release(struct slab *s); /* frees the pages, whatever is still out */
void *slab_alloc(struct slab *s); /* contents undefined; panics when memory is gone */
void slab_free(struct slab *s, void *object);

#endif
