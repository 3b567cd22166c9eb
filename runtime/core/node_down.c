/* What a worker does when the link to a node is gone: nobody there will tell us of a death any more. */
#include "runtime/core/internal.h"

/* As `gone`'s kernel would have said it. */
static void tell_down(struct worker *w, struct pid gone, struct pid to, uint64_t ref)
{
	struct msg *m = worker_msg_new(w, DOWN);
	struct down *d = down_of(m);

	d->who = gone;
	d->ref = ref;
	d->status = E_NODE_DOWN;
	m->from = gone;
	m->to = to;
	worker_deliver(w, m);
}

static void tell_exit(struct worker *w, struct pid gone, struct pid to)
{
	struct msg *m = worker_msg_new(w, EXIT);
	struct exit_signal *x = exit_signal_of(m);

	x->who = gone;
	x->status = E_NODE_DOWN;
	m->from = gone;
	m->to = to;
	worker_deliver(w, m);
}

/* A link made here stands in both lists; one made there only among the watchers. Either way it is told once. */
static void actor_node_down(struct worker *w, struct actor *a, uint64_t node)
{
	struct hnode *n, *next;

	for (n = a->watching.first; n; n = next) {
		struct edge *e = CONTAINER_OF(n, struct edge, in_watching);

		next = n->next;
		if (e->target.node != node)
			continue;
		if (e->kind == EDGE_MONITOR)
			tell_down(w, e->target, a->pid, e->ref);
		edge_free(w, e);
	}
	for (n = a->watchers.first; n; n = next) {
		struct edge *e = CONTAINER_OF(n, struct edge, in_watchers);

		next = n->next;
		if (e->source.node != node)
			continue;
		if (e->kind == EDGE_LINK)
			tell_exit(w, e->source, a->pid);
		edge_free(w, e);
	}
}

void worker_node_down(struct worker *w, uint64_t node)
{
	w->now_us = w->driver->ops->now_us(w->driver);
	for (uint32_t i = 0; i < w->n_slots; i++)
		if (w->slots[i].actor)
			actor_node_down(w, w->slots[i].actor, node);
}
