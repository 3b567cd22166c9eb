/* Parcels: packing and discarding. Contracts in parcel.h. */
#include "runtime/drive/parcel.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/core/codec.h"

struct parcel *parcel_new(uint32_t cap, uint8_t origin)
{
	struct parcel *p = aligned_alloc(64, (sizeof(*p) + cap + 63) & ~(size_t)63);

	check(p != NULL);
	*p = (struct parcel){.cap = cap, .origin = origin};
	return p;
}

uint32_t parcel_message_bytes(uint16_t tag)
{
	return (uint32_t)(sizeof(struct msg) + catalog_find(tag)->size + 15) & ~15u;
}

void parcel_put(struct parcel *p, const struct msg *m)
{
	uint32_t size = catalog_find(m->tag)->size;

	check(p->cap - p->used >= parcel_message_bytes(m->tag));
	memcpy(p->data + p->used, m, sizeof(*m) + size);
	p->used += parcel_message_bytes(m->tag);
}

void parcel_free(struct parcel *p)
{
	for (uint32_t at = 0; at < p->used;) {
		struct msg *m = (struct msg *)(void *)(p->data + at);
		const struct msg_desc *desc = catalog_find(m->tag);

		if (desc->n_bins)
			msg_release_body(desc, m->body);
		at += parcel_message_bytes(m->tag);
	}
	free(p);
}
