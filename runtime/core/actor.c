/*
 * One actor: birth, what its handlers may do, and its end, in which everything it held goes back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/core/internal.h"

/* ---- slots ------------------------------------------------------------------------------------------------- */

static bool slot_take(struct worker *w, struct actor *a)
{
	uint32_t i;

	if (!w->free_slot) {
		uint32_t n = w->n_slots ? w->n_slots * 2 : 64;

		if (n > SLOTS_MAX)
			return false;
		w->slots = realloc(w->slots, n * sizeof(*w->slots));
		check(w->slots != NULL);
		for (i = n; i-- > w->n_slots;) {
			w->slots[i] = (struct actor_slot){.generation = 1, .next_free = w->free_slot};
			w->free_slot = i + 1;
		}
		w->n_slots = n;
	}
	i = w->free_slot - 1;
	w->free_slot = w->slots[i].next_free;
	w->slots[i].actor = a;
	a->pid = pid_make(w->node, w->index, i, w->slots[i].generation);
	return true;
}

static void slot_give_back(struct worker *w, struct pid p)
{
	struct actor_slot *s = &w->slots[pid_slot(p)];

	s->actor = NULL;
	if (++s->generation == 0)
		s->generation = 1;
	s->next_free = w->free_slot;
	w->free_slot = pid_slot(p) + 1;
}

/* ---- edges ------------------------------------------------------------------------------------------------- */

struct edge *edge_add(
	struct worker *w, struct pid source, struct pid target, uint64_t ref, enum edge_kind kind)
{
	struct actor *s = pid_is_local(w, source) ? actor_find(w, source) : NULL;
	struct actor *t = pid_is_local(w, target) ? actor_find(w, target) : NULL;
	struct edge *e = slab_alloc(&w->edge_slab);

	*e = (struct edge){.source = source, .target = target, .ref = ref, .kind = (uint8_t)kind};
	if (s) {
		e->ref = idtab_add(&w->edges, e);
		hlist_push(&s->watching, &e->in_watching);
	}
	if (t)
		hlist_push(&t->watchers, &e->in_watchers);
	return e;
}

void edge_free(struct worker *w, struct edge *e)
{
	hlist_remove(&e->in_watchers);
	hlist_remove(&e->in_watching);
	if (idtab_get(&w->edges, e->ref) == e)
		idtab_remove(&w->edges, e->ref);
	slab_free(&w->edge_slab, e);
}

static void send_from(struct worker *w, struct pid from, struct pid to, struct msg *m)
{
	m->from = from;
	m->to = to;
	worker_route(w, m);
}

static void send_down(
	struct worker *w, struct pid who, struct pid to, uint64_t ref, enum status why, const char *text)
{
	struct msg *m = worker_msg_new(w, DOWN);
	struct down *d = down_of(m);

	d->who = who;
	d->ref = ref;
	d->status = (uint8_t)why;
	str_copy(d->text, sizeof(d->text), text);
	send_from(w, who, to, m);
}

static void send_exit(struct worker *w, struct pid from, struct pid to, enum status why)
{
	struct msg *m = worker_msg_new(w, EXIT);
	struct exit_signal *e = exit_signal_of(m);

	e->who = from;
	e->status = (uint8_t)why;
	send_from(w, from, to, m);
}

static void send_demonitor(struct worker *w, const struct edge *e)
{
	struct msg *m = worker_msg_new(w, KERNEL_DEMONITOR);
	struct kernel_demonitor *k = kernel_demonitor_of(m);

	k->target = e->target;
	k->ref = e->ref;
	send_from(w, e->source, pid_make(e->target.node, pid_worker(e->target), 0, 1), m);
}

/* ---- birth ------------------------------------------------------------------------------------------------- */

enum status actor_create(struct worker *w, struct actor *parent, struct pid parent_pid,
	const struct spawn *what, struct pid *out)
{
	const struct dispatch *d = dispatch_get(w, what->behaviour);
	const struct behaviour *b = what->behaviour;
	struct actor *a = slab_alloc((struct slab *)(uintptr_t)&d->slab), *running = w->running;
	enum status st = OK;

	memset(a, 0, ACTOR_HEAD_BYTES + b->state_size);
	a->worker = w;
	a->dispatch = d;
	a->parent = parent_pid;
	if (what->quiet)
		a->bits |= ACTOR_QUIET;
	if (!slot_take(w, a)) {
		slab_free((struct slab *)(uintptr_t)&d->slab, a);
		return E_LIMIT;
	}
	w->stats.actors++;
	w->stats.spawned++;
	*out = a->pid;
	if (parent)
		hlist_push(&parent->children, &a->sibling);
	if (what->name)
		st = actor_register(a, what->name);
	if (st == OK && b->init) {
		a->bits |= ACTOR_RUNNING;
		w->running = a;
		st = b->init(a, what->args, what->args_size);
		w->running = running;
		a->bits &= (uint8_t)~ACTOR_RUNNING;
	}
	if (st != OK) {
		a->bits |= ACTOR_QUIET;
		actor_terminate(a, st);
		*out = PID_NONE;
	}
	return st;
}

enum status actor_spawn(struct actor *self, const struct spawn *what, struct pid *out)
{
	struct pid none;

	return actor_create(self->worker, what->orphan ? NULL : self, what->orphan ? PID_NONE : self->pid,
		what, out ? out : &none);
}

enum status worker_spawn(struct worker *w, const struct spawn *what, struct pid *out)
{
	struct pid none;

	return actor_create(w, NULL, PID_NONE, what, out ? out : &none);
}

uint64_t actor_spawn_on(struct actor *self, uint8_t worker, const struct spawn *what, uint32_t timeout_ms)
{
	struct msg *m;
	struct kernel_spawn *k = kernel_spawn_new(self, &m);

	k->behaviour = (uint64_t)(uintptr_t)what->behaviour;
	k->parent = what->orphan ? PID_NONE : self->pid;
	if (what->name)
		str_copy(k->name, sizeof(k->name), what->name);
	k->args = slice_copy(what->args, (uint32_t)what->args_size);
	return actor_ask(self, actor_kernel(self, worker), &m, timeout_ms);
}

/* ---- end --------------------------------------------------------------------------------------------------- */

static void end_children(struct actor *a)
{
	struct hnode *n;

	while ((n = a->children.first)) {
		struct actor *child = CONTAINER_OF(n, struct actor, sibling);

		hlist_remove(n);
		child->bits |= ACTOR_QUIET;
		child->parent = PID_NONE;
		send_exit(a->worker, a->pid, child->pid, E_SHUTDOWN);
	}
}

static void end_edges(struct actor *a, enum status why, const char *reason)
{
	struct worker *w = a->worker;
	struct hnode *n;

	while ((n = a->watchers.first)) {
		struct edge e = *CONTAINER_OF(n, struct edge, in_watchers);

		edge_free(w, CONTAINER_OF(n, struct edge, in_watchers));
		if (e.kind == EDGE_MONITOR)
			send_down(w, a->pid, e.source, e.ref, why, reason);
		else if (e.kind == EDGE_LINK && why != E_NORMAL)
			send_exit(w, a->pid, e.source, why);
	}
	while ((n = a->watching.first)) {
		struct edge *e = CONTAINER_OF(n, struct edge, in_watching);

		if (e->kind == EDGE_CHILD)
			send_exit(w, a->pid, e->target, E_SHUTDOWN);
		else if (!pid_is_local(w, e->target))
			send_demonitor(w, e);
		edge_free(w, e);
	}
}

static void end_queue(struct worker *w, struct msg **q, enum status why)
{
	struct msg *last = *q, *m, *next;

	*q = NULL;
	for (m = last ? last->next : NULL; m; m = next) {
		next = m == last ? NULL : m->next;
		if (m->bits & MSG_IS_REQUEST)
			worker_settle(w, m, why);
		worker_msg_free(w, m);
	}
}

static void end_holdings(struct actor *a)
{
	struct worker *w = a->worker;
	struct hnode *n;
	struct msg *m;

	while ((n = a->handles.first)) {
		struct handle *h = CONTAINER_OF(n, struct handle, link);

		hlist_remove(n);
		h->drop(h);
	}
	while ((n = a->timers.first))
		timer_entry_free(CONTAINER_OF(n, struct timer_entry, in_owner));
	while ((n = a->asks.first))
		ask_free(w, CONTAINER_OF(n, struct ask, in_owner));
	while ((m = a->kept)) {
		a->kept = m->next;
		worker_msg_free(w, m);
	}
	end_queue(w, &a->sys, E_NOPROC);
	end_queue(w, &a->mail, E_NOPROC);
	end_queue(w, &a->stash, E_NOPROC);
}

static void end_parent(struct actor *a, enum status why, const char *reason)
{
	bool tell = !(a->bits & ACTOR_QUIET) && !pid_is_none(a->parent);

	hlist_remove(&a->sibling);
	if (tell)
		send_down(a->worker, a->pid, a->parent, 0, why, reason);
}

static bool is_ordinary(enum status why)
{
	return why == E_NORMAL || why == E_SHUTDOWN || why == E_KILLED || why == E_CLOSED;
}

void actor_terminate(struct actor *a, enum status why)
{
	struct worker *w = a->worker;
	const struct behaviour *b = a->dispatch->behaviour;
	char reason[REASON_MAX + 1], text[PID_TEXT_MAX];

	if (a->bits & (ACTOR_EXITING | ACTOR_DEAD))
		return;
	a->bits |= ACTOR_EXITING;
	str_copy(reason, sizeof(reason), w->reason);
	w->reason[0] = '\0';
	if (!is_ordinary(why)) {
		w->stats.crashed++;
		log_warn("actor", "%s %s %s ended: %s%s%s", b->name, a->name ? a->name : "",
			pid_format(a->pid, text), status_name(why), reason[0] ? ": " : "", reason);
	}
	if (b->exit)
		b->exit(a, why);
	end_children(a);
	end_edges(a, why, reason);
	end_holdings(a);
	if (a->name) {
		names_remove(w, a->name, a->pid, !w->closing);
		free((void *)(uintptr_t)a->name);
	}
	if (a->bits & ACTOR_GROUPED)
		groups_forget(w, a->pid);
	end_parent(a, why, reason);
	if (a->arena) {
		arena_release(a->arena);
		free(a->arena);
	}
	slot_give_back(w, a->pid);
	w->stats.actors--;
	w->stats.exited++;
	a->bits |= ACTOR_DEAD;
	if (!(a->bits & ACTOR_QUEUED) && w->running != a)
		slab_free((struct slab *)(uintptr_t)&a->dispatch->slab, a);
}

void actor_exit(struct actor *self, struct pid who, enum status why)
{
	send_exit(self->worker, self->pid, who, why);
}

void worker_exit(struct worker *w, struct pid who, enum status why)
{
	send_exit(w, PID_NONE, who, why);
}

enum status actor_fail(struct actor *self, enum status st, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(self->worker->reason, sizeof(self->worker->reason), fmt, ap);
	va_end(ap);
	return st;
}

/* ---- monitors and links ------------------------------------------------------------------------------------- */

static uint64_t watch(struct actor *self, struct pid who, enum edge_kind kind)
{
	struct worker *w = self->worker;
	struct edge *e = edge_add(w, self->pid, who, 0, kind);
	uint64_t ref = e->ref;

	if (!pid_is_local(w, who)) {
		struct msg *m;
		struct kernel_monitor *k = kernel_monitor_new(self, &m);

		k->target = who;
		k->source = self->pid;
		k->ref = ref;
		k->kind = (uint8_t)kind;
		send_from(w, self->pid, pid_make(who.node, pid_worker(who), 0, 1), m);
	} else if (!actor_find(w, who)) {
		edge_free(w, e);
		if (kind == EDGE_MONITOR)
			send_down(w, who, self->pid, ref, E_NOPROC, "");
		else
			send_exit(w, who, self->pid, E_NOPROC);
	}
	return ref;
}

uint64_t actor_monitor(struct actor *self, struct pid who)
{
	return watch(self, who, EDGE_MONITOR);
}

void actor_demonitor(struct actor *self, uint64_t ref)
{
	struct worker *w = self->worker;
	struct edge *e = idtab_get(&w->edges, ref);

	if (!e || !pid_equal(e->source, self->pid))
		return;
	if (!pid_is_local(w, e->target))
		send_demonitor(w, e);
	edge_free(w, e);
}

void actor_link(struct actor *self, struct pid other)
{
	struct worker *w = self->worker;

	watch(self, other, EDGE_LINK);
	if (!pid_is_local(w, other) || actor_find(w, other))
		edge_add(w, other, self->pid, 0, EDGE_LINK);
}

/* ---- messages ---------------------------------------------------------------------------------------------- */

static void stamp(struct actor *self, struct pid to, struct msg *m)
{
	m->from = self->pid;
	m->to = to;
	m->trace = self->worker->trace;
}

void actor_send(struct actor *self, struct pid to, struct msg **m)
{
	struct msg *out = *m;

	*m = NULL;
	stamp(self, to, out);
	self->worker->stats.sends++;
	worker_route(self->worker, out);
}

uint64_t actor_ask(struct actor *self, struct pid to, struct msg **m, uint32_t timeout_ms)
{
	struct worker *w = self->worker;
	struct ask *k = slab_alloc(&w->ask_slab);
	struct msg *out = *m;
	uint64_t corr;

	check(timeout_ms > 0);
	*m = NULL;
	*k = (struct ask){.owner = self, .tag = out->tag, .due.kind = DUE_ASK};
	k->corr = corr = idtab_add(&w->asks, k);
	hlist_push(&self->asks, &k->in_owner);
	stamp(self, to, out);
	out->corr = corr;
	out->bits |= MSG_IS_REQUEST;
	out->deadline_us = w->now_us + (uint64_t)timeout_ms * 1000;
	wheel_add(&w->wheel, &k->due, (out->deadline_us + 999) / 1000);
	w->stats.asks++;
	worker_route(w, out);
	return corr;
}

void ask_free(struct worker *w, struct ask *k)
{
	wheel_remove(&w->wheel, &k->due);
	hlist_remove(&k->in_owner);
	idtab_remove(&w->asks, k->corr);
	slab_free(&w->ask_slab, k);
}

void actor_ask_cancel(struct actor *self, uint64_t corr)
{
	struct ask *k = idtab_get(&self->worker->asks, corr);

	if (k && k->owner == self)
		ask_free(self->worker, k);
}

void actor_reply(struct actor *self, struct msg *request, struct msg **m)
{
	struct msg *out = *m;

	*m = NULL;
	if (!(request->bits & MSG_IS_REQUEST)) {
		worker_msg_free(self->worker, out);
		return;
	}
	request->bits &= (uint8_t)~MSG_IS_REQUEST;
	stamp(self, request->from, out);
	out->corr = request->corr;
	out->bits |= MSG_IS_REPLY;
	out->trace = request->trace;
	self->worker->stats.sends++;
	worker_route(self->worker, out);
}

void actor_reply_status(struct actor *self, struct msg *request, enum status st, const char *fmt, ...)
{
	struct msg *m;
	struct done *d = done_new(self, &m);
	va_list ap;

	d->status = (uint8_t)st;
	m->status = (uint8_t)st;
	if (fmt) {
		va_start(ap, fmt);
		vsnprintf(d->text, sizeof(d->text), fmt, ap);
		va_end(ap);
	}
	actor_reply(self, request, &m);
}

/* Kept messages form a list whose back pointer stands in to.node: the address is known, it is ours. */
struct msg *actor_keep(struct actor *self, struct msg *m)
{
	struct worker *w = self->worker;

	check(w->current == m && w->running == self);
	w->current = NULL;
	m->next = self->kept;
	m->to.node = 0;
	if (self->kept)
		self->kept->to.node = (uint64_t)(uintptr_t)m;
	self->kept = m;
	return m;
}

static void unkeep(struct actor *self, struct msg *m)
{
	struct msg *prev = (struct msg *)(uintptr_t)m->to.node;

	if (prev)
		prev->next = m->next;
	else
		self->kept = m->next;
	if (m->next)
		m->next->to.node = m->to.node;
	m->next = NULL;
	m->to = self->pid;
}

/* Takes a message out of the actor's hands, wherever it is: being handled, or kept. */
static void claim(struct actor *self, struct msg *m)
{
	if (self->worker->current == m)
		self->worker->current = NULL;
	else
		unkeep(self, m);
}

void actor_forward(struct actor *self, struct pid to, struct msg *m)
{
	claim(self, m);
	m->to = to;
	self->worker->stats.sends++;
	worker_route(self->worker, m);
}

void actor_drop(struct actor *self, struct msg *m, enum status st)
{
	claim(self, m);
	if (m->bits & MSG_IS_REQUEST)
		worker_settle(self->worker, m, st);
	worker_msg_free(self->worker, m);
}

enum status actor_defer(struct actor *self, struct msg *m)
{
	if (self->stash_len >= self->dispatch->cap)
		return actor_fail(self, E_FULL, "too many deferred messages");
	check(self->worker->current == m);
	self->worker->current = NULL;
	if (self->stash) {
		m->next = self->stash->next;
		self->stash->next = m;
	} else {
		m->next = m;
	}
	self->stash = m;
	self->stash_len++;
	return OK;
}

void actor_become(struct actor *self, uint8_t state)
{
	check(state < self->dispatch->n_states);
	if (state == self->state)
		return;
	self->state = state;
	if (self->stash)
		self->bits |= ACTOR_UNSTASH;
}

/* ---- time -------------------------------------------------------------------------------------------------- */

static struct timer_entry *timer_find(struct actor *a, uint64_t key)
{
	for (struct hnode *n = a->timers.first; n; n = n->next) {
		struct timer_entry *t = CONTAINER_OF(n, struct timer_entry, in_owner);

		if (t->key == key)
			return t;
	}
	return NULL;
}

void timer_entry_free(struct timer_entry *t)
{
	struct worker *w = t->owner->worker;

	wheel_remove(&w->wheel, &t->due);
	hlist_remove(&t->in_owner);
	slab_free(&w->timer_slab, t);
}

void actor_timer(struct actor *self, uint64_t key, uint32_t after_ms)
{
	struct worker *w = self->worker;
	struct timer_entry *t = timer_find(self, key);

	if (t) {
		wheel_remove(&w->wheel, &t->due);
	} else {
		t = slab_alloc(&w->timer_slab);
		*t = (struct timer_entry){.owner = self, .key = key};
		hlist_push(&self->timers, &t->in_owner);
	}
	t->seq = ++w->timer_seq;
	t->due = (struct due){.kind = DUE_TIMER};
	wheel_add(&w->wheel, &t->due, (w->now_us + (uint64_t)after_ms * 1000 + 999) / 1000);
}

void actor_timer_cancel(struct actor *self, uint64_t key)
{
	struct timer_entry *t = timer_find(self, key);

	if (t)
		timer_entry_free(t);
}

bool timer_take_fired(struct actor *a, uint64_t seq)
{
	for (struct hnode *n = a->timers.first; n; n = n->next) {
		struct timer_entry *t = CONTAINER_OF(n, struct timer_entry, in_owner);

		if (t->seq == seq) {
			timer_entry_free(t);
			return true;
		}
	}
	return false;
}

static void fire(struct due *d, void *arg)
{
	struct worker *w = arg;
	struct msg *m;

	if (d->kind == DUE_ASK) {
		struct ask *k = CONTAINER_OF(d, struct ask, due);
		struct ask_failed *f;

		m = worker_msg_new(w, ASK_FAILED);
		f = ask_failed_of(m);
		f->status = m->status = E_TIMEOUT;
		f->tag = k->tag;
		m->corr = k->corr;
		m->from = m->to = k->owner->pid;
		m->bits |= MSG_IS_REPLY;
	} else {
		struct timer_entry *t = CONTAINER_OF(d, struct timer_entry, due);
		struct timer *body;

		t->due.fired = true;
		m = worker_msg_new(w, TIMER);
		body = timer_of(m);
		body->key = t->key;
		body->seq = t->seq;
		m->from = m->to = t->owner->pid;
		w->stats.timers_fired++;
	}
	worker_deliver(w, m);
}

void timers_fire(struct worker *w)
{
	wheel_advance(&w->wheel, w->now_us / 1000, fire, w);
}

/* ---- small answers ------------------------------------------------------------------------------------------ */

struct pid actor_pid(const struct actor *self)
{
	return self->pid;
}

struct pid actor_parent(const struct actor *self)
{
	return self->parent;
}

uint8_t actor_current(const struct actor *self)
{
	return self->state;
}

struct arena *actor_arena(struct actor *self)
{
	if (!self->arena) {
		self->arena = malloc(sizeof(*self->arena));
		check(self->arena != NULL);
		arena_init(self->arena, ACTOR_ARENA_BUDGET);
	}
	return self->arena;
}

uint64_t actor_now_us(const struct actor *self)
{
	return self->worker->now_us;
}

uint64_t actor_wall_us(const struct actor *self)
{
	return self->worker->driver->ops->wall_us(self->worker->driver);
}

uint64_t actor_random(struct actor *self)
{
	return self->worker->driver->ops->random(self->worker->driver);
}

uint8_t actor_worker_index(const struct actor *self)
{
	return self->worker->index;
}

uint8_t actor_worker_count(const struct actor *self)
{
	return self->worker->n_workers;
}

struct pid actor_kernel(const struct actor *self, uint8_t worker)
{
	return pid_make(self->worker->node, worker, 0, 1);
}

void *actor_node_context(const struct actor *self)
{
	return self->worker->context;
}

void actor_count(struct actor *self, uint32_t metric, uint64_t n)
{
	metric_add(&self->worker->metrics, metric, (int64_t)n);
}

void actor_gauge(struct actor *self, uint32_t metric, int64_t delta)
{
	metric_add(&self->worker->metrics, metric, delta);
}

void actor_observe_us(struct actor *self, uint32_t metric, uint64_t us)
{
	metric_observe(&self->worker->metrics, metric, us);
}

/* ---- handles: what drivers hang on actors -------------------------------------------------------------------- */

void actor_handle_add(struct actor *a, struct handle *h)
{
	h->owner = a->pid;
	hlist_push(&a->handles, &h->link);
}

void handle_remove(struct handle *h)
{
	hlist_remove(&h->link);
}

enum status handle_give(struct worker *w, struct handle *h, struct pid to)
{
	struct actor *a = pid_is_local(w, to) ? actor_find(w, to) : NULL;

	if (!a)
		return E_NOPROC;
	hlist_remove(&h->link);
	actor_handle_add(a, h);
	return OK;
}
