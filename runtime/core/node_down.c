/* What a worker does when the link to a node is gone: nobody there will tell us of a death any more. */
#include "runtime/core/internal.h"

/* As the node's kernel would have said it. A DOWN frees our half of the edge when it is handled. */
static void tell(struct worker *w, const struct edge *e)
{
	struct msg *m = worker_msg_new(w, e->kind == EDGE_LINK ? EXIT : DOWN);

	if (e->kind == EDGE_LINK) {
		struct exit_signal *x = exit_signal_of(m);

		x->who = e->target;
		x->status = E_NODE_DOWN;
	} else {
		struct down *d = down_of(m);

		d->who = e->target;
		d->ref = e->ref;
		d->status = E_NODE_DOWN;
	}
	m->from = e->target;
	m->to = e->source;
	worker_deliver(w, m);
}

static void actor_node_down(struct worker *w, struct actor *a, uint64_t node)
{
	struct hnode *n, *next;

	for (n = a->watching.first; n; n = next) {
		struct edge *e = CONTAINER_OF(n, struct edge, in_watching);

		next = n->next;
		if (e->target.node != node)
			continue;
		tell(w, e);
		if (e->kind == EDGE_LINK)
			edge_free(w, e);
	}
	for (n = a->watchers.first; n; n = next) {
		struct edge *e = CONTAINER_OF(n, struct edge, in_watchers);

		next = n->next;
		if (e->source.node == node)
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
