/* Slabs: objects cut from pages, free ones linked through their first word. */
#include "runtime/base/slab.h"

#include <stdlib.h>

#include "runtime/base/check.h"

#if !defined(__has_feature)
#define __has_feature(x) 0 /* gcc says __SANITIZE_ADDRESS__ instead */
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { PAGE_BYTES = 32768, PAGE_HEAD = 64, MIN_PER_PAGE = 8 };

void slab_init(struct slab *s, uint32_t object_size)
{
	uint32_t size = (object_size + 15u) & ~15u;

	*s = (struct slab){.object_size = size, .per_page = (PAGE_BYTES - PAGE_HEAD) / size};
	if (s->per_page < MIN_PER_PAGE)
		s->per_page = MIN_PER_PAGE;
}

void slab_release(struct slab *s)
{
	void *page = s->pages, *next;

	for (; page; page = next) {
		next = *(void **)page;
		ASAN_UNPOISON_MEMORY_REGION(page, PAGE_HEAD + (size_t)s->per_page * s->object_size);
		free(page);
	}
	s->pages = s->free = NULL;
}

static void slab_add_page(struct slab *s)
{
	size_t bytes = PAGE_HEAD + (size_t)s->per_page * s->object_size;
	char *page = aligned_alloc(64, (bytes + 63) & ~(size_t)63);

	check(page != NULL);
	*(void **)(void *)page = s->pages;
	s->pages = page;
	for (uint32_t i = s->per_page; i-- > 0;) {
		void *o = page + PAGE_HEAD + (size_t)i * s->object_size;

		*(void **)o = s->free;
		s->free = o;
		ASAN_POISON_MEMORY_REGION(o, s->object_size);
	}
}

void *slab_alloc(struct slab *s)
{
	void *o;

	if (unlikely(!s->free))
		slab_add_page(s);
	o = s->free;
	ASAN_UNPOISON_MEMORY_REGION(o, s->object_size);
	s->free = *(void **)o;
	s->live++;
	return o;
}

void slab_free(struct slab *s, void *object)
{
	*(void **)object = s->free;
	s->free = object;
	s->live--;
	ASAN_POISON_MEMORY_REGION(object, s->object_size);
}
