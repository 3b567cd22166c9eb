/* The event queue: a binary heap by (time, sequence), so that what is equal in time stays in order of adding. */
#include <stdlib.h>

#include "runtime/sim/internal.h"

static bool earlier(const struct event *a, const struct event *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

void events_add(struct sim *s, uint64_t after_us, struct event e)
{
	struct events *q = &s->events;
	uint32_t i;

	if (q->n == q->cap) {
		q->cap = q->cap ? q->cap * 2 : 256;
		q->heap = realloc(q->heap, q->cap * sizeof(*q->heap));
		check(q->heap != NULL);
	}
	e.at_us = s->now_us + after_us;
	e.seq = q->seq++;
	for (i = q->n++; i > 0 && earlier(&e, &q->heap[(i - 1) / 2]); i = (i - 1) / 2)
		q->heap[i] = q->heap[(i - 1) / 2];
	q->heap[i] = e;
}

bool events_take(struct events *q, uint64_t up_to_us, struct event *out)
{
	struct event last;
	uint32_t i = 0;

	if (q->n == 0 || q->heap[0].at_us > up_to_us)
		return false;
	*out = q->heap[0];
	last = q->heap[--q->n];
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= q->n)
			break;
		if (child + 1 < q->n && earlier(&q->heap[child + 1], &q->heap[child]))
			child++;
		if (!earlier(&q->heap[child], &last))
			break;
		q->heap[i] = q->heap[child];
		i = child;
	}
	q->heap[i] = last;
	return true;
}

uint64_t events_next_us(const struct events *q)
{
	return q->n ? q->heap[0].at_us : UINT64_MAX;
}
