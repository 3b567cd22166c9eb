/* Behaviours made ready: from a list of rules to one lookup of the tag and one of the state. */
#include <stdlib.h>

#include "runtime/core/internal.h"

enum { TAG_EMPTY = 0xffff };

static uint32_t tag_hash(uint16_t tag)
{
	return (tag * 0x9e3779b1u) >> 24; /* 8 bits: DISPATCH_SLOTS */
}

/* The row of a tag; adds it when `add`. n_rows when there is none. */
static uint32_t dispatch_row(struct dispatch *d, uint16_t tag, uint32_t *n_rows)
{
	uint32_t i = tag_hash(tag);

	for (; d->tags[i] != TAG_EMPTY; i = (i + 1) % DISPATCH_SLOTS)
		if (d->tags[i] == tag)
			return d->rows[i];
	check(*n_rows < DISPATCH_SLOTS / 2);
	d->tags[i] = tag;
	d->rows[i] = (uint16_t)*n_rows;
	return (*n_rows)++;
}

static struct dispatch *dispatch_new(const struct behaviour *b)
{
	struct dispatch *d = calloc(1, sizeof(*d));
	uint32_t n_rows = 0;

	check(d && b->n_states > 0 && b->n_states < STATE_ANY);
	d->behaviour = b;
	d->n_states = b->n_states;
	d->cap = b->mailbox_cap ? b->mailbox_cap : MAILBOX_CAP_DEFAULT;
	for (int i = 0; i < DISPATCH_SLOTS; i++)
		d->tags[i] = TAG_EMPTY;
	for (uint32_t i = 0; i < b->n_rules; i++)
		dispatch_row(d, b->rules[i].tag, &n_rows);
	d->table = calloc((size_t)n_rows * b->n_states + 1, sizeof(handler_fn *));
	check(d->table != NULL);
	for (int any = 1; any >= 0; any--) /* rules for a state override those for any */
		for (uint32_t i = 0; i < b->n_rules; i++) {
			const struct rule *r = &b->rules[i];
			handler_fn **row = d->table + (size_t)dispatch_row(d, r->tag, &n_rows) * b->n_states;

			check(r->state == STATE_ANY || r->state < b->n_states);
			for (uint32_t s = 0; s < b->n_states; s++)
				if (any ? r->state == STATE_ANY : r->state == s)
					row[s] = r->handle;
		}
	slab_init(&d->slab, ACTOR_HEAD_BYTES + b->state_size);
	return d;
}

const struct dispatch *dispatch_get(struct worker *w, const struct behaviour *b)
{
	uint32_t i = (uint32_t)(((uintptr_t)b >> 4) * 0x9e3779b1u) % BEHAVIOURS_MAX;

	for (uint32_t tries = 0; tries < BEHAVIOURS_MAX; tries++, i = (i + 1) % BEHAVIOURS_MAX) {
		if (!w->behaviours[i])
			w->behaviours[i] = dispatch_new(b);
		if (w->behaviours[i]->behaviour == b)
			return w->behaviours[i];
	}
	panic("more than %d behaviours on a worker", BEHAVIOURS_MAX);
}

void dispatch_release(struct worker *w)
{
	for (uint32_t i = 0; i < BEHAVIOURS_MAX; i++) {
		struct dispatch *d = w->behaviours[i];

		if (!d)
			continue;
		slab_release(&d->slab);
		free(d->table);
		free(d);
		w->behaviours[i] = NULL;
	}
}
