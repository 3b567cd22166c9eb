/*
 * Work: its function runs at a later virtual time, work of one lane in order; the result comes in the same instant.
 * A crash doesn't undo work that was submitted: it runs, and its result is nobody's (what it owns by pointer is freed
 * by it, as in the real world). What a crash loses of a commit is the store's model to decide.
 */
#include <stdlib.h>

#include "runtime/sim/internal.h"

enum { WORK_MEAN_US = 300, SLOW_FACTOR = 100, RESULT_MAX = 16 << 20, ARGS_MAX = 65536 };

struct piece {
	uint64_t id;
	struct pid owner;
	work_fn *fn;
	bool fails;
	size_t args_size;
	_Alignas(16) uint8_t args[];
};

/* When the lane is free: lanes are kept by number and life of the node; 0 is no lane. */
static uint64_t *lane_free_us(struct sim *s, uint64_t node, uint64_t lane)
{
	struct lane *l = NULL;

	for (l = s->lanes; l; l = l->next)
		if (l->id == lane && l->node == node)
			return &l->free_us;
	l = calloc(1, sizeof(*l));
	check(l != NULL);
	*l = (struct lane){.next = s->lanes, .id = lane, .node = node};
	s->lanes = l;
	return &l->free_us;
}

uint64_t work_submit(struct driver *d, struct actor *a, const struct work *what)
{
	struct sim_worker *sw = worker_of_driver(d);
	struct sim *s = sw->node->sim;
	struct piece *p = malloc(sizeof(*p) + what->args_size);
	uint64_t takes_us = 1 + rand_exponential(&s->work, WORK_MEAN_US), at = s->now_us;

	check(p && what->args_size <= ARGS_MAX);
	*p = (struct piece){
		.id = ++s->next_id, .owner = actor_pid(a), .fn = what->fn, .args_size = what->args_size};
	if (what->args_size)
		memcpy(p->args, what->args, what->args_size);
	p->fails = fault(F_WORK_FAILS);
	if (fault(F_WORK_SLOW))
		takes_us *= SLOW_FACTOR;
	if (what->lane) {
		uint64_t *free_us = lane_free_us(s, sw->node->node, what->lane);

		at = *free_us > at ? *free_us : at;
		*free_us = at + takes_us;
	}
	s->works++;
	events_add(s, at + takes_us - s->now_us, (struct event){.kind = EV_WORK, .p = p});
	return p->id;
}

void work_event(struct sim *s, const struct event *e)
{
	struct piece *p = e->p;
	struct sim_worker *sw = sim_worker_at(s, p->owner);
	struct writer out;
	enum status st;

	writer_init(&out, RESULT_MAX);
	st = p->fails ? E_IO : p->fn(p->args, p->args_size, &out);
	if (sw) {
		struct msg *m = worker_msg_new(sw->worker, WORK_DONE);
		struct work_done *w = work_done_of(m);

		m->from = m->to = p->owner;
		w->work = p->id;
		w->status = (uint8_t)(out.failed ? E_LIMIT : st);
		w->result = writer_take(&out);
		worker_deliver(sw->worker, m);
	}
	writer_release(&out);
	free(p);
	s->works--;
}

/* The simulation ends with the work undone: it runs for what it owns. */
void work_discard(struct event *e)
{
	struct piece *p = e->p;
	struct writer out;

	writer_init(&out, RESULT_MAX);
	if (!p->fails)
		(void)p->fn(p->args, p->args_size, &out);
	writer_release(&out);
	free(p);
}
