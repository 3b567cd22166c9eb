/*
 * The timing wheel and the id tables.
 *
 * Six levels of 64 slots of 1 ms. An entry stands at the level of the highest 6-bit digit in which its time differs
 * from now; when the wheel comes to a slot of a higher level its entries move down. Adding and removing is O(1), and
 * the next slot is found by a bit scan.
 */
#include <stdlib.h>

#include "runtime/core/internal.h"

void wheel_init(struct wheel *wh, uint64_t now_ms)
{
	*wh = (struct wheel){.now_ms = now_ms};
}

static void wheel_place(struct wheel *wh, struct due *d)
{
	uint64_t differs = (d->at_ms ^ wh->now_ms) | (WHEEL_SLOTS - 1);
	uint32_t level = (63u - (uint32_t)__builtin_clzll(differs)) / WHEEL_BITS;

	if (level >= WHEEL_LEVELS)
		level = WHEEL_LEVELS - 1;
	d->level = (uint8_t)level;
	d->slot = (uint8_t)(d->at_ms >> (level * WHEEL_BITS) & (WHEEL_SLOTS - 1));
	hlist_push(&wh->slots[level][d->slot], &d->link);
	wh->occupied[level] |= 1ull << d->slot;
}

void wheel_add(struct wheel *wh, struct due *d, uint64_t at_ms)
{
	d->at_ms = at_ms > wh->now_ms ? at_ms : wh->now_ms + 1;
	wheel_place(wh, d);
}

void wheel_remove(struct wheel *wh, struct due *d)
{
	if (!d->link.pprev)
		return;
	hlist_remove(&d->link);
	if (!wh->slots[d->level][d->slot].first)
		wh->occupied[d->level] &= ~(1ull << d->slot);
}

/* The next occupied slot: its level, index and the time at which the wheel comes to it. */
static bool wheel_next(const struct wheel *wh, uint32_t *level, uint32_t *slot, uint64_t *at_ms)
{
	for (uint32_t l = 0; l < WHEEL_LEVELS; l++) {
		uint32_t shift = l * WHEEL_BITS, here = (uint32_t)(wh->now_ms >> shift) & (WHEEL_SLOTS - 1);
		uint64_t bits = wh->occupied[l], rotated;
		uint32_t ahead;

		if (!bits)
			continue;
		rotated = here ? bits >> here | bits << (WHEEL_SLOTS - here) : bits;
		ahead = (uint32_t)__builtin_ctzll(rotated);
		*level = l;
		*slot = (here + ahead) & (WHEEL_SLOTS - 1);
		*at_ms = ((wh->now_ms >> shift) + ahead) << shift;
		return true;
	}
	return false;
}

uint64_t wheel_next_ms(const struct wheel *wh)
{
	uint32_t level, slot;
	uint64_t at_ms;

	return wheel_next(wh, &level, &slot, &at_ms) ? at_ms : UINT64_MAX;
}

void wheel_advance(struct wheel *wh, uint64_t now_ms, due_fn *fire, void *arg)
{
	uint32_t level, slot;
	uint64_t at_ms;

	while (wheel_next(wh, &level, &slot, &at_ms) && at_ms <= now_ms) {
		struct hlist batch = {0};
		struct hnode *n;

		if (at_ms > wh->now_ms)
			wh->now_ms = at_ms;
		while ((n = wh->slots[level][slot]
				    .first)) { /* reversed, so that it comes out in order of adding */
			hlist_remove(n);
			hlist_push(&batch, n);
		}
		wh->occupied[level] &= ~(1ull << slot);
		while ((n = batch.first)) {
			struct due *d = CONTAINER_OF(n, struct due, link);

			hlist_remove(n);
			if (d->at_ms <= wh->now_ms)
				fire(d, arg);
			else
				wheel_place(wh, d);
		}
	}
	if (now_ms > wh->now_ms)
		wh->now_ms = now_ms;
}

uint64_t idtab_add(struct idtab *t, void *object)
{
	uint32_t i;

	if (!t->free) {
		uint32_t n = t->n ? t->n * 2 : 64;

		t->slots = realloc(t->slots, n * sizeof(*t->slots));
		check(t->slots != NULL);
		for (i = n; i-- > t->n;) {
			t->slots[i] = (struct idtab_slot){.generation = 1, .next_free = t->free};
			t->free = i + 1;
		}
		t->n = n;
	}
	i = t->free - 1;
	t->free = t->slots[i].next_free;
	t->slots[i].object = object;
	return (uint64_t)t->slots[i].generation << 32 | i;
}

void *idtab_get(const struct idtab *t, uint64_t id)
{
	uint32_t i = (uint32_t)id;

	return i < t->n && t->slots[i].generation == (uint32_t)(id >> 32) ? t->slots[i].object : NULL;
}

void idtab_remove(struct idtab *t, uint64_t id)
{
	uint32_t i = (uint32_t)id;

	check(i < t->n && t->slots[i].object);
	t->slots[i].object = NULL;
	if (++t->slots[i].generation == 0)
		t->slots[i].generation = 1;
	t->slots[i].next_free = t->free;
	t->free = i + 1;
}

void idtab_release(struct idtab *t)
{
	free(t->slots);
	*t = (struct idtab){0};
}
