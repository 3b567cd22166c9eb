/*
 * The worker: message memory, routing, mailboxes, the run queue. What happens to one actor is in actor.c.
 *
 * The hot path is worker_run -> turn -> handler; it touches no atomics, no malloc and no clock but one reading of
 * ticks a turn.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/core/codec.h"
#include "runtime/core/internal.h"

enum { TICKS_EVERY = 16 }; /* messages between looks at the clock inside a turn */

static const uint32_t body_sizes[MSG_SIZE_CLASSES] = {64, 128, 192, 320, 576, 1088, 2112, 4160};

static uint8_t size_class(uint32_t size)
{
	for (uint8_t i = 0; i < MSG_SIZE_CLASSES; i++)
		if (size <= body_sizes[i])
			return i;
	panic("a message of %u bytes: raise the largest class or use a bin field", size);
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

struct msg *worker_msg_new(struct worker *w, uint16_t tag)
{
	const struct msg_desc *d = catalog_find(tag);
	struct msg *m;
	uint8_t class;

	check(d != NULL);
	class = size_class(d->size);
	m = slab_alloc(&w->msg_slabs[class]);
	memset(m, 0, sizeof(*m) + d->size);
	m->tag = tag;
	m->bits = class;
	w->stats.live_messages++;
	return m;
}

void worker_msg_moved(struct worker *w, struct msg *m)
{
	w->stats.live_messages--;
	slab_free(&w->msg_slabs[m->bits & MSG_CLASS_MASK], m);
}

void worker_msg_free(struct worker *w, struct msg *m)
{
	const struct msg_desc *d = catalog_find(m->tag);

	if (unlikely(m->bits & MSG_IS_REQUEST))
		worker_settle(w, m, E_NOPROC);
	if (d->n_bins)
		msg_release_body(d, m->body);
	worker_msg_moved(w, m);
}

struct msg *actor_msg_new(struct actor *self, uint16_t tag)
{
	return worker_msg_new(self->worker, tag);
}

void msg_discard(struct actor *self, struct msg *m)
{
	worker_msg_free(self->worker, m);
}

/* ---- circular queues: the pointer is to the last, whose next is the first ----------------------------------- */

static void queue_push(struct msg **q, struct msg *m)
{
	if (*q) {
		m->next = (*q)->next;
		(*q)->next = m;
	} else {
		m->next = m;
	}
	*q = m;
}

static struct msg *queue_pop(struct msg **q)
{
	struct msg *last = *q, *m;

	if (!last)
		return NULL;
	m = last->next;
	if (m == last)
		*q = NULL;
	else
		last->next = m->next;
	m->next = NULL;
	return m;
}

/* ---- delivery ---------------------------------------------------------------------------------------------- */

static void run_queue_push(struct worker *w, struct actor *a)
{
	if (a->bits & ACTOR_QUEUED)
		return;
	a->bits |= ACTOR_QUEUED;
	a->run_next = NULL;
	if (w->run_tail)
		w->run_tail->run_next = a;
	else
		w->run_head = a;
	w->run_tail = a;
}

void worker_settle(struct worker *w, struct msg *request, enum status st)
{
	struct msg *m = worker_msg_new(w, ASK_FAILED);
	struct ask_failed *f = ask_failed_of(m);

	f->status = (uint8_t)st;
	f->tag = request->tag;
	m->status = (uint8_t)st;
	m->from = request->to;
	m->to = request->from;
	m->corr = request->corr;
	m->bits |= MSG_IS_REPLY;
	request->bits &= (uint8_t)~MSG_IS_REQUEST;
	worker_route(w, m);
}

void worker_dead_letter(struct worker *w, struct msg *m, enum status why)
{
	struct dead_letter *d = &w->dead[w->n_dead++ % DEAD_LETTERS_KEPT];

	*d = (struct dead_letter){
		.at_us = w->now_us, .from = m->from, .to = m->to, .tag = m->tag, .why = (uint8_t)why};
	w->dead_by[why]++;
	w->stats.dead_letters++;
	if (m->bits & MSG_IS_REQUEST)
		worker_settle(w, m, why);
	if (m->tag == KERNEL_SPAWNED) /* who asked for this child is gone */
		worker_exit(w, kernel_spawned_of(m)->pid, E_SHUTDOWN);
	worker_msg_free(w, m);
}

/* The kernel that should have watched can't be reached: what it would have said of an actor that is gone. */
static void monitor_failed(struct worker *w, const struct kernel_monitor *k, enum status why)
{
	struct msg *m = worker_msg_new(w, k->kind == EDGE_LINK ? EXIT : DOWN);

	if (m->tag == EXIT) {
		exit_signal_of(m)->who = k->target;
		exit_signal_of(m)->status = (uint8_t)why;
	} else {
		down_of(m)->who = k->target;
		down_of(m)->ref = k->ref;
		down_of(m)->status = (uint8_t)why;
	}
	m->from = k->target;
	m->to = k->source;
	worker_route(w, m);
}

void worker_undeliverable(struct worker *w, struct msg *m, enum status why)
{
	if (m->tag == KERNEL_MONITOR)
		monitor_failed(w, kernel_monitor_of(m), why);
	worker_dead_letter(w, m, why);
}

/* A reply settles its ask once; without one it is late, or was cancelled. */
static bool reply_settles(struct worker *w, const struct actor *a, const struct msg *m)
{
	struct ask *k = idtab_get(&w->asks, m->corr);

	if (!k || k->owner != a)
		return false;
	if (m->tag == ASK_FAILED)
		w->stats.asks_failed++;
	ask_free(w, k);
	return true;
}

/* The mailbox is full: the runtime's own messages pass, state replaces state, asks are refused. */
static bool mailbox_admits(struct worker *w, struct actor *a, struct msg *m, uint32_t flags)
{
	if ((m->bits & MSG_IS_REPLY) || m->tag >> 8 == 0x01)
		return true;
	w->stats.mailbox_full++;
	if (flags & MSG_STATE) {
		struct msg *oldest = queue_pop(&a->mail);

		a->mail_len--;
		worker_dead_letter(w, oldest, E_FULL);
		return true;
	}
	worker_dead_letter(w, m, E_FULL);
	return false;
}

void worker_deliver(struct worker *w, struct msg *m)
{
	struct actor *a = actor_find(w, m->to);
	const struct msg_desc *d = catalog_find(m->tag);

	if (unlikely(!a)) {
		worker_dead_letter(w, m, E_NOPROC);
		return;
	}
	if ((m->bits & MSG_IS_REPLY) && !reply_settles(w, a, m)) {
		worker_dead_letter(w, m, E_STALE);
		return;
	}
	if (d->flags & MSG_SYSTEM) {
		queue_push(&a->sys, m);
	} else {
		if (unlikely(a->mail_len >= a->dispatch->cap) && !mailbox_admits(w, a, m, d->flags))
			return;
		queue_push(&a->mail, m);
		a->mail_len++;
	}
	run_queue_push(w, a);
}

#ifdef RUNTIME_DEBUG
/* Passes a message through its wire form, so that what works here works across nodes. */
static struct msg *through_the_wire(struct worker *w, struct msg *m)
{
	struct writer out;
	struct msg *copy = NULL;

	writer_init(&out, MSG_WIRE_MAX);
	msg_encode(m, w->now_us, &out);
	check(!out.failed);
	check(msg_decode(w, out.buf->data, out.len, w->now_us, &copy) == OK);
	writer_release(&out);
	copy->deadline_us = m->deadline_us;
	m->bits &= (uint8_t)~MSG_IS_REQUEST; /* the copy carries the obligation */
	worker_msg_free(w, m);
	return copy;
}
#endif

void worker_route(struct worker *w, struct msg *m)
{
	if (likely(m->to.node == w->node && pid_worker(m->to) == w->index)) {
#ifdef RUNTIME_DEBUG
		m = through_the_wire(w, m);
#endif
		worker_deliver(w, m);
	} else if (pid_is_none(m->to)) {
		worker_dead_letter(w, m, E_NOPROC);
	} else {
		w->driver->ops->forward(w->driver, m);
	}
}

/* ---- running ----------------------------------------------------------------------------------------------- */

static void flight_record(struct worker *w, const struct actor *a, const struct msg *m)
{
	struct flight *f = &w->flight[w->flight_at++ & (FLIGHT_ENTRIES - 1)];

	f->at_us = w->now_us;
	f->to = a->pid.local;
	f->from = m->from.local;
	f->tag = m->tag;
	f->state = a->state;
	f->status = m->status;
}

static void hash_mix(struct worker *w, uint64_t v)
{
	w->hash = (w->hash ^ v) * 0x9e3779b97f4a7c15ull;
	w->hash ^= w->hash >> 29;
}

/* Our half of the edge that a DOWN from another worker answers: by its ref, or, for a child, by who it is. */
static struct edge *down_edge(struct worker *w, struct actor *a, const struct down *d)
{
	struct edge *e = d->ref ? idtab_get(&w->edges, d->ref) : NULL;

	if (d->ref)
		return e && pid_equal(e->source, a->pid) ? e : NULL;
	for (struct hnode *n = a->watching.first; n; n = n->next) {
		e = CONTAINER_OF(n, struct edge, in_watching);
		if (e->kind == EDGE_CHILD && pid_equal(e->target, d->who))
			return e;
	}
	return NULL;
}

/* What the runtime itself does with a message before, or instead of, a handler. True: it is used up. */
static bool runtime_handles(struct worker *w, struct actor *a, struct msg *m)
{
	if (m->tag == TIMER && !timer_take_fired(a, timer_of(m)->seq)) {
		worker_msg_free(w, m);
		return true;
	}
	if (m->tag == EXIT) {
		struct exit_signal *e = exit_signal_of(m);
		enum status why = e->status;

		if (why != E_KILLED && a->dispatch->behaviour->trap_exit)
			return false;
		worker_msg_free(w, m);
		actor_terminate(a, why);
		return true;
	}
	if (m->tag == DOWN && !pid_is_local(w, m->from)) { /* our half of the edge goes */
		struct edge *e = down_edge(w, a, down_of(m));

		if (e)
			edge_free(w, e);
	}
	if (m->tag == KERNEL_SPAWNED)
		edge_add(w, a->pid, kernel_spawned_of(m)->pid, 0, EDGE_CHILD);
	return false;
}

static void handle(struct worker *w, struct actor *a, struct msg *m)
{
	const struct dispatch *d = a->dispatch;
	handler_fn *fn = NULL;
	enum status st;
	uint32_t i;
	struct msg *traced = NULL;

	for (i = (m->tag * 0x9e3779b1u) >> 24; d->tags[i] != 0xffff; i = (i + 1) % DISPATCH_SLOTS)
		if (d->tags[i] == m->tag) {
			fn = d->table[(size_t)d->rows[i] * d->n_states + a->state];
			break;
		}
	a->handled++;
	w->stats.messages++;
	flight_record(w, a, m);
	if (w->hash_enabled) {
		hash_mix(w, a->pid.local ^ (uint64_t)m->tag << 40);
		hash_mix(w, m->from.local ^ (uint64_t)a->state << 56 ^ m->corr);
	}
	if (unlikely(!fn)) {
		if (m->tag == EXIT) {
			enum status why = exit_signal_of(m)->status;

			worker_msg_free(w, m);
			actor_terminate(a, why);
		} else {
			worker_dead_letter(w, m, E_STATE);
		}
		return;
	}
	if (unlikely(a->bits & ACTOR_TRACED))
		traced = trace_begin(a, m);
	w->current = m;
	w->trace = m->trace;
	w->watch.tag = m->tag;
	w->reason[0] = '\0';
	a->bits |= ACTOR_RUNNING;
	st = fn(a, m);
	a->bits &= (uint8_t)~ACTOR_RUNNING;
	if (likely(w->current == m)) {
		if (unlikely(m->bits & MSG_IS_REQUEST))
			worker_settle(w, m, st == OK ? E_INTERNAL : E_NOPROC);
		worker_msg_free(w, m);
	}
	w->current = NULL;
	w->trace = 0;
	if (unlikely(traced))
		trace_end(a, traced);
	if (unlikely(st != OK))
		actor_terminate(a, st);
}

/* After a change of state what was deferred goes first, in its old order. */
static void unstash(struct actor *a)
{
	struct msg *first;

	a->bits &= (uint8_t)~ACTOR_UNSTASH;
	if (!a->stash)
		return;
	if (a->mail) {
		first = a->stash->next;
		a->stash->next = a->mail->next;
		a->mail->next = first;
	} else {
		a->mail = a->stash;
	}
	a->stash = NULL;
	a->mail_len += a->stash_len;
	a->stash_len = 0;
}

static bool expired(struct worker *w, struct msg *m)
{
	if (likely(!m->deadline_us || m->deadline_us > w->now_us))
		return false;
	worker_dead_letter(w, m, E_TIMEOUT);
	return true;
}

/* One actor's turn: at most `budget` messages or TURN_US. Gives how many it handled. */
static unsigned turn(struct worker *w, struct actor *a, unsigned budget, uint64_t start)
{
	uint64_t limit = start + TURN_US * w->driver->ticks_per_us;
	unsigned n = 0;

	w->running = a;
	w->watch.since_us = w->now_us ? w->now_us : 1;
	w->watch.actor_local = a->pid.local;
	w->watch.behaviour = a->dispatch->behaviour->name;
	while (n < budget && !(a->bits & ACTOR_DEAD)) {
		struct msg *m = queue_pop(&a->sys);
		bool system = m != NULL;

		if (unlikely(a->bits & ACTOR_UNSTASH))
			unstash(a);
		if (!m && (m = queue_pop(&a->mail)))
			a->mail_len--;
		if (!m)
			break;
		n++;
		if (system && runtime_handles(w, a, m))
			continue;
		if (expired(w, m))
			continue;
		handle(w, a, m);
		if (n % TICKS_EVERY == 0 && w->driver->ops->ticks(w->driver) >= limit)
			break;
	}
	w->running = NULL;
	w->watch.since_us = 0;
	return n;
}

static void actor_memory_free(struct actor *a)
{
	const struct dispatch *d = a->dispatch;
	struct slab *slab = (struct slab *)(uintptr_t)&d->slab; /* the table is constant, its slab isn't */

	slab_free(slab, a);
}

static unsigned run_one(struct worker *w, unsigned budget, uint64_t *ticks)
{
	struct actor *a = w->run_head;
	uint64_t now;
	unsigned n = 0;

	w->run_head = a->run_next;
	if (!w->run_head)
		w->run_tail = NULL;
	a->bits &= (uint8_t)~ACTOR_QUEUED;
	if (likely(!(a->bits & ACTOR_DEAD))) {
		n = turn(w, a, budget, *ticks);
		w->stats.turns++;
	}
	now = w->driver->ops->ticks(w->driver);
	if (a->bits & ACTOR_DEAD) {
		if (!(a->bits & ACTOR_QUEUED))
			actor_memory_free(a);
	} else {
		a->ticks += now - *ticks;
		if (a->mail || a->sys || (a->bits & ACTOR_UNSTASH && a->stash))
			run_queue_push(w, a);
	}
	w->stats.busy_ticks += now - *ticks;
	*ticks = now;
	return n;
}

static void worker_refresh_time(struct worker *w)
{
	w->now_us = w->driver->ops->now_us(w->driver);
	timers_fire(w);
}

bool worker_run(struct worker *w, uint64_t budget_us)
{
	struct driver *d = w->driver;
	uint64_t start, ticks, looked;

	worker_refresh_time(w);
	if (!w->run_head)
		return false;
	start = ticks = looked = d->ops->ticks(d);
	while (w->run_head && ticks - start < budget_us * d->ticks_per_us) {
		run_one(w, TURN_MESSAGES, &ticks);
		if (ticks - looked > TURN_US * d->ticks_per_us) {
			looked = ticks;
			worker_refresh_time(w);
		}
	}
	return w->run_head != NULL;
}

bool worker_step(struct worker *w, unsigned max_messages)
{
	uint64_t ticks;

	worker_refresh_time(w);
	ticks = w->driver->ops->ticks(w->driver);
	while (w->run_head && max_messages > 0) {
		unsigned n = run_one(w, max_messages < TURN_MESSAGES ? max_messages : TURN_MESSAGES, &ticks);

		max_messages -= n ? n : 1;
	}
	return w->run_head != NULL;
}

bool worker_runnable(const struct worker *w)
{
	return w->run_head != NULL;
}

uint64_t worker_next_due_us(const struct worker *w)
{
	uint64_t ms = wheel_next_ms(&w->wheel);

	return ms == UINT64_MAX ? UINT64_MAX : ms * 1000;
}

/* ---- birth and end of a worker ------------------------------------------------------------------------------ */

struct worker *worker_new(const struct node_spec *spec, uint8_t index, struct driver *driver)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct pid kernel;

	check(w && index < spec->n_workers && spec->n_workers <= WORKERS_MAX);
	catalog_add_core();
	core_metrics_declare();
	w->driver = driver;
	w->node = spec->node;
	w->index = index;
	w->n_workers = spec->n_workers;
	w->context = spec->context;
	driver->worker = w;
	if (!driver->ticks_per_us)
		driver->ticks_per_us = 1;
	for (int i = 0; i < MSG_SIZE_CLASSES; i++)
		slab_init(&w->msg_slabs[i], (uint32_t)sizeof(struct msg) + body_sizes[i]);
	slab_init(&w->ask_slab, sizeof(struct ask));
	slab_init(&w->edge_slab, sizeof(struct edge));
	slab_init(&w->timer_slab, sizeof(struct timer_entry));
	w->now_us = driver->ops->now_us(driver);
	wheel_init(&w->wheel, w->now_us / 1000);
	check(actor_create(w, NULL, PID_NONE, &(struct spawn){.behaviour = &kernel_behaviour}, &kernel) ==
		OK);
	check(pid_slot(kernel) == 0);
	return w;
}

static void run_queue_clear(struct worker *w)
{
	struct actor *a;

	while ((a = w->run_head)) {
		w->run_head = a->run_next;
		a->bits &= (uint8_t)~ACTOR_QUEUED;
		if (a->bits & ACTOR_DEAD)
			actor_memory_free(a);
	}
	w->run_tail = NULL;
}

void worker_free(struct worker *w)
{
	w->closing = true;
	for (uint32_t i = w->n_slots; i-- > 0;)
		if (w->slots[i].actor)
			actor_terminate(w->slots[i].actor, E_SHUTDOWN);
	run_queue_clear(w);
	names_release(w);
	dispatch_release(w);
	metric_values_release(&w->metrics);
	for (int i = 0; i < MSG_SIZE_CLASSES; i++)
		slab_release(&w->msg_slabs[i]);
	slab_release(&w->ask_slab);
	slab_release(&w->edge_slab);
	slab_release(&w->timer_slab);
	idtab_release(&w->asks);
	idtab_release(&w->edges);
	free(w->slots);
	free(w);
}

/* ---- looking in from outside -------------------------------------------------------------------------------- */

struct pid worker_whereis(const struct worker *w, const char *name)
{
	struct name_entry *e = NULL;

	HASH_FIND_STR(w->names, name, e);
	return e ? e->claims[0] : PID_NONE;
}

bool worker_alive(const struct worker *w, struct pid who)
{
	return pid_is_local(w, who) && actor_find(w, who) != NULL;
}

struct driver *worker_driver(const struct worker *w)
{
	return w->driver;
}

uint8_t worker_index(const struct worker *w)
{
	return w->index;
}

uint64_t worker_node(const struct worker *w)
{
	return w->node;
}

const struct worker_watch *worker_watch(const struct worker *w)
{
	return &w->watch;
}

void worker_trace_hash_enable(struct worker *w)
{
	w->hash_enabled = true;
	w->hash = 0x243f6a8885a308d3ull;
}

uint64_t worker_trace_hash(const struct worker *w)
{
	return w->hash;
}

void worker_stats(const struct worker *w, struct worker_stats *out)
{
	*out = w->stats;
}

void worker_flight_dump(const struct worker *w, int fd)
{
	for (uint32_t i = 0; i < FLIGHT_ENTRIES; i++) {
		const struct flight *f = &w->flight[(w->flight_at + i) & (FLIGHT_ENTRIES - 1)];
		char line[160];
		int n;

		if (!f->at_us)
			continue;
		n = snprintf(line, sizeof(line), "%" PRIu64 " us  %u.%u <- %u.%u  %s  state %u status %u\n",
			f->at_us, (unsigned)(f->to >> 56), (unsigned)(f->to >> 32 & 0xffffff),
			(unsigned)(f->from >> 56), (unsigned)(f->from >> 32 & 0xffffff), catalog_name(f->tag),
			f->state, f->status);
		if (n > 0 && write(fd, line, (size_t)n) < 0)
			return;
	}
}
