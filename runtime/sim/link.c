/*
 * Messages between workers and between nodes. Each is encoded where it is sent and decoded where it arrives.
 *
 * Inside a node: one FIFO for each pair of workers; a worker that runs takes a seeded part of each, in a seeded order.
 * Between nodes: a session for each pair of nodes, as the real links have. Order is kept in each direction. Silence
 * (a partition, a crash) ends the session: what was under way is lost and both sides hear worker_node_down.
 *
 *	send ──encode──> [delay, FIFO] ──arrives──> blocked or clogged? ── no ──decode──> mailbox
 *	                                                └── yes: held; flushed when healed, lost when the session ends
 */
#include <stdlib.h>

#include "runtime/sim/internal.h"

enum { RECONNECT_MIN_US = 1000, RECONNECT_MEAN_US = 20000, CLOG_MEAN_US = 100000, DRAIN_ALL_PPM = 850000 };

static struct way *way_of(const struct sim *s, uint16_t from, uint16_t to)
{
	return &s->ways[from * (s->spec.n_nodes + 1) + to];
}

static struct pair *pair_of(const struct sim *s, uint16_t a, uint16_t b)
{
	return &s->pairs[(a < b ? a : b) * (s->spec.n_nodes + 1) + (a < b ? b : a)];
}

static bool way_shut(const struct sim *s, const struct way *w)
{
	return w->blocked || w->clogged_until_us > s->now_us;
}

bool link_blocked(const struct sim *s, uint16_t from, uint16_t to)
{
	return from != to && way_shut(s, way_of(s, from, to));
}

uint64_t link_delay_us(struct sim *s, struct rand_stream *r, uint16_t from, uint16_t to)
{
	uint32_t part = from == to ? 10 : 1;

	return s->spec.net.delay_min_us / part + rand_exponential(r, s->spec.net.delay_mean_us / part);
}

/* ---- frames ------------------------------------------------------------------------------------------------- */

static void frames_push(struct frames *q, struct frame *f)
{
	f->next = NULL;
	if (q->last)
		q->last->next = f;
	else
		q->first = f;
	q->last = f;
}

static struct frame *frames_pop(struct frames *q)
{
	struct frame *f = q->first;

	if (f && !(q->first = f->next))
		q->last = NULL;
	return f;
}

void frames_free(struct frames *q)
{
	struct frame *f;

	while ((f = frames_pop(q)))
		free(f);
}

/* The message's bytes leave its worker: slices and obligation go with them, the memory goes back. */
static void message_moved(struct sim_worker *sw, struct msg *m)
{
	msg_release_body(catalog_find(m->tag), msg_body(m));
	worker_msg_moved(sw->worker, m);
}

static struct frame *frame_new(struct sim_worker *sw, struct msg *m, uint16_t to)
{
	struct writer *out = &sw->node->sim->scratch;
	struct frame *f;

	out->len = 0;
	out->failed = false;
	msg_encode(m, node_now_us(sw->node), out);
	if (out->failed)
		return NULL;
	f = malloc(sizeof(*f) + out->len);
	check(f != NULL);
	*f = (struct frame){.from = sw->node->id, .to = to, .worker = pid_worker(m->to), .len = out->len};
	memcpy(f->bytes, out->buf->data, out->len);
	return f;
}

static void frame_deliver(struct sim *s, struct sim_worker *sw, struct frame *f)
{
	struct msg *m;
	enum status st = msg_decode(sw->worker, f->bytes, f->len, node_now_us(sw->node), &m);

	if (st)
		sim_fail(s, "a message from node %u to node %u didn't decode: %s", f->from, f->to,
			status_name(st));
	sim_hash(s, (uint64_t)f->from << 32 | (uint64_t)f->to << 16 | m->tag);
	free(f);
	if (pid_worker(m->to) == sw->index)
		worker_deliver(sw->worker, m);
	else
		worker_undeliverable(sw->worker, m, E_NOPROC);
}

/* ---- inside a node ------------------------------------------------------------------------------------------- */

static void inbox_push(struct sim_worker *from, struct sim_worker *to, struct msg *m)
{
	struct frame *f = to->worker && !to->node->going ? frame_new(from, m, to->node->id) : NULL;

	message_moved(from, m);
	if (!f)
		return;
	frames_push(&to->inbox[from->index], f);
	to->inbox_n++;
}

void inbox_drain(struct sim *s, struct sim_worker *sw)
{
	uint8_t n = s->spec.n_workers, first = (uint8_t)rand_below(&s->schedule, n);

	for (uint8_t i = 0; i < n; i++) {
		struct frames *q = &sw->inbox[(first + i) % n];
		bool all = rand_chance(&s->schedule, DRAIN_ALL_PPM);
		struct frame *f;

		while (q->first && (all || rand_below(&s->schedule, 2))) {
			f = frames_pop(q);
			sw->inbox_n--;
			frame_deliver(s, sw, f);
		}
	}
}

void inbox_clear(struct sim_worker *sw)
{
	for (uint8_t i = 0; i < SIM_WORKERS_MAX; i++)
		frames_free(&sw->inbox[i]);
	sw->inbox_n = 0;
}

/* ---- between nodes ------------------------------------------------------------------------------------------- */

static void pair_event(struct sim *s, uint64_t after_us, enum event_kind kind, uint16_t a, uint16_t b)
{
	events_add(s, after_us,
		(struct event){.kind = kind, .what = (uint32_t)a << 16 | b, .a = pair_of(s, a, b)->session});
}

static uint64_t reconnect_us(struct sim *s)
{
	return RECONNECT_MIN_US + rand_exponential(&s->net, RECONNECT_MEAN_US);
}

/* The session ends: both sides hear it, as far as they are alive. A new one follows when the way is free. */
static void pair_break(struct sim *s, uint16_t a, uint16_t b)
{
	struct pair *p = pair_of(s, a, b);
	uint16_t ids[2] = {a < b ? a : b, a < b ? b : a};

	if (!p->up)
		return;
	p->up = false;
	p->session++;
	frames_free(&way_of(s, a, b)->held);
	frames_free(&way_of(s, b, a)->held);
	for (int i = 0; i < 2; i++) {
		struct sim_node *n = &s->nodes[ids[i]];

		if (!n->up || n->node != p->lives[i])
			continue;
		for (uint8_t k = 0; k < s->spec.n_workers; k++)
			worker_node_down(n->workers[k].worker, p->lives[1 - i]);
	}
	pair_event(s, reconnect_us(s), EV_LINK_UP, a, b);
}

static void pair_up(struct sim *s, uint16_t a, uint16_t b)
{
	struct pair *p = pair_of(s, a, b);

	if (p->up || !s->nodes[a].up || !s->nodes[b].up || way_of(s, a, b)->blocked ||
		way_of(s, b, a)->blocked)
		return;
	p->up = true;
	p->session++;
	p->lives[0] = s->nodes[a < b ? a : b].node;
	p->lives[1] = s->nodes[a < b ? b : a].node;
	way_of(s, a, b)->last_us = way_of(s, b, a)->last_us = s->now_us;
}

static void link_faults(struct sim *s, uint16_t from, uint16_t to)
{
	if (fault(F_LINK_BREAKS))
		pair_event(s, link_delay_us(s, &s->net, from, to), EV_LINK_GONE, from, to);
	if (fault(F_LINK_CLOGS))
		sim_clog(s, from, to, rand_exponential(&s->net, CLOG_MEAN_US));
}

static void link_send(struct sim_worker *sw, struct msg *m, uint16_t to, uint32_t flags)
{
	struct sim *s = sw->node->sim;
	uint16_t from = sw->node->id;
	struct way *way = way_of(s, from, to);
	bool lost = !(flags & MSG_SYSTEM) && rand_chance(&s->net, s->spec.net.loss_ppm);
	struct frame *f = frame_new(sw, m, to);
	uint64_t at;

	if (!f) {
		worker_undeliverable(sw->worker, m, E_LIMIT);
		return;
	}
	message_moved(sw, m);
	link_faults(s, from, to);
	if (lost) {
		free(f);
		return;
	}
	f->session = pair_of(s, from, to)->session;
	at = s->now_us + link_delay_us(s, &s->net, from, to);
	if (at < way->last_us)
		at = way->last_us;
	way->last_us = at;
	events_add(s, at - s->now_us, (struct event){.kind = EV_FRAME, .p = f});
}

void link_forward(struct driver *d, struct msg *m)
{
	struct sim_worker *sw = worker_of_driver(d);
	struct sim *s = sw->node->sim;
	uint16_t to = (uint16_t)(m->to.node >> 48);
	uint32_t flags = catalog_find(m->tag)->flags;

	if (sw->node->going) {
		message_moved(sw, m);
	} else if (to == sw->node->id) {
		if (m->to.node == sw->node->node && pid_worker(m->to) < s->spec.n_workers)
			inbox_push(sw, &sw->node->workers[pid_worker(m->to)], m);
		else
			worker_undeliverable(sw->worker, m, E_NOPROC);
	} else if (flags & MSG_LOCAL) {
		worker_undeliverable(sw->worker, m, E_UNSUPPORTED);
	} else if (to == 0 || to > s->spec.n_nodes || !pair_of(s, sw->node->id, to)->up ||
		   pair_of(s, sw->node->id, to)->lives[to > sw->node->id] != m->to.node) {
		worker_undeliverable(sw->worker, m, E_NODE_DOWN);
	} else {
		link_send(sw, m, to, flags);
	}
}

static void frame_arrives(struct sim *s, struct frame *f)
{
	struct pair *p = pair_of(s, f->from, f->to);
	struct way *way = way_of(s, f->from, f->to);
	struct sim_node *n = &s->nodes[f->to];

	if (!p->up || p->session != f->session || !n->up) {
		free(f);
	} else if (way_shut(s, way) || way->held.first) {
		frames_push(&way->held, f);
	} else {
		frame_deliver(s, &n->workers[f->worker < s->spec.n_workers ? f->worker : 0], f);
	}
}

static void way_flush(struct sim *s, uint16_t from, uint16_t to)
{
	struct way *way = way_of(s, from, to);
	struct frames held = way->held;
	struct frame *f;

	if (way_shut(s, way))
		return;
	way->held = (struct frames){0};
	while ((f = frames_pop(&held)))
		frame_arrives(s, f);
}

void link_event(struct sim *s, const struct event *e)
{
	uint16_t a = (uint16_t)(e->what >> 16), b = (uint16_t)e->what;

	if (e->kind == EV_FRAME) {
		frame_arrives(s, e->p);
		return;
	}
	if (e->kind == EV_LINK_FLUSH) {
		way_flush(s, a, b);
		return;
	}
	if (pair_of(s, a, b)->session != e->a)
		return;
	if (e->kind == EV_LINK_UP)
		pair_up(s, a, b);
	else if (e->kind == EV_LINK_GONE || way_of(s, a, b)->blocked || way_of(s, b, a)->blocked)
		pair_break(s, a, b);
}

/* The others notice after anything between a reset connection and the full silence. */
void link_node_crashed(struct sim *s, uint16_t node)
{
	for (uint16_t i = 1; i <= s->spec.n_nodes; i++)
		if (i != node && pair_of(s, i, node)->up)
			pair_event(
				s, rand_between(&s->net, 100, s->spec.net.timeout_us), EV_LINK_GONE, i, node);
}

/* All nodes have just started: connected at once. */
void link_init(struct sim *s)
{
	for (uint16_t a = 1; a <= s->spec.n_nodes; a++)
		for (uint16_t b = (uint16_t)(a + 1); b <= s->spec.n_nodes; b++)
			pair_up(s, a, b);
}

void link_node_started(struct sim *s, uint16_t node)
{
	for (uint16_t i = 1; i <= s->spec.n_nodes; i++) {
		if (i == node)
			continue;
		if (pair_of(s, i, node)->up)
			pair_break(s, i, node);
		else
			pair_event(s, reconnect_us(s), EV_LINK_UP, i, node);
	}
}

/* ---- trouble on demand ---------------------------------------------------------------------------------------- */

void sim_block(struct sim *s, uint16_t from, uint16_t to)
{
	check(from >= 1 && to >= 1 && from <= s->spec.n_nodes && to <= s->spec.n_nodes && from != to);
	way_of(s, from, to)->blocked = true;
	pair_event(s, s->spec.net.timeout_us, EV_LINK_CHECK, from, to);
}

void sim_partition(struct sim *s, uint16_t a, uint16_t b)
{
	sim_block(s, a, b);
	sim_block(s, b, a);
}

void sim_isolate(struct sim *s, uint16_t node)
{
	for (uint16_t i = 1; i <= s->spec.n_nodes; i++)
		if (i != node)
			sim_partition(s, i, node);
}

void sim_clog(struct sim *s, uint16_t from, uint16_t to, uint64_t us)
{
	struct way *way = way_of(s, from, to);

	if (way->clogged_until_us < s->now_us + us)
		way->clogged_until_us = s->now_us + us;
	pair_event(s, way->clogged_until_us - s->now_us, EV_LINK_FLUSH, from, to);
	if (us > s->spec.net.timeout_us)
		pair_event(s, s->spec.net.timeout_us, EV_LINK_GONE, from, to);
}

void sim_heal(struct sim *s)
{
	for (uint16_t a = 1; a <= s->spec.n_nodes; a++)
		for (uint16_t b = 1; b <= s->spec.n_nodes; b++) {
			if (a == b)
				continue;
			way_of(s, a, b)->blocked = false;
			way_of(s, a, b)->clogged_until_us = 0;
			way_flush(s, a, b);
			if (a < b && !pair_of(s, a, b)->up)
				pair_event(s, reconnect_us(s), EV_LINK_UP, a, b);
		}
}
