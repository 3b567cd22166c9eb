/*
 * Calls from threads that are no workers, and the actor that watches the root.
 *
 * A call needs no actor of its own: the request says it is from a pid on worker FOREIGN_WORKER, which no node has, so
 * its answer comes out of the core at the driver's forward(), on whatever worker the answerer lives.
 *
 *	caller -- drive_post --> worker 0 -- request --> the named actor
 *	   ^---- condition <---- drive_foreign_reply <-- reply or ASK_FAILED --'
 *
 * The call itself lies on its caller's stack, in a list under one lock, and is found by its number only: an answer that
 * comes after its caller gave up finds nothing. Bodies are copied, slices too: counts belong to one thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/bytes.h"
#include "runtime/core/codec.h"
#include "runtime/drive/internal.h"

enum { CALLS_MAX = 1024, GRACE_MS = 1000 }; /* the caller waits a little longer than the request lives */

/* Waits in d->calls until somebody takes it out. */
struct call {
	struct list link;
	pthread_cond_t changed;
	uint64_t corr;
	bool done;
	enum status result, reply_status;
	uint16_t tag;
	void *reply;
};

/* On its way to worker 0; nobody else sees it. */
struct request {
	struct drive *drive;
	uint64_t corr, deadline_us;
	char name[ACTOR_NAME_MAX + 1];
	uint16_t tag;
	void *body;
};

/* ---- bodies outside messages --------------------------------------------------------------------------------- */

static void *body_copy(const struct msg_desc *desc, const void *body)
{
	char *copy = malloc(desc->size ? desc->size : 1);

	check(copy != NULL);
	memcpy(copy, body, desc->size);
	for (uint32_t i = 0; i < desc->n_fields; i++)
		if (desc->fields[i].type == FIELD_bin) {
			struct slice *s = (struct slice *)(void *)(copy + desc->fields[i].offset);

			*s = slice_copy(slice_data(s), s->len);
		}
	return copy;
}

static void body_free(uint16_t tag, void *body)
{
	if (body)
		msg_release_body(catalog_find(tag), body);
	free(body);
}

/* ---- answers: on any worker ---------------------------------------------------------------------------------- */

/* Ends the call of that number, if it still waits. Gives false, and leaves `reply` with its giver, when not. */
static bool call_settle(
	struct drive *d, uint64_t corr, enum status result, uint16_t tag, void *reply, enum status st)
{
	bool found = false;

	pthread_mutex_lock(&d->lock);
	list_each(it, &d->calls)
	{
		struct call *c = LIST_ITEM(it, struct call, link);

		if (c->corr != corr)
			continue;
		list_remove(it);
		c->result = result;
		c->tag = tag;
		c->reply = reply;
		c->reply_status = st;
		c->done = found = true;
		pthread_cond_signal(&c->changed);
		break;
	}
	pthread_mutex_unlock(&d->lock);
	return found;
}

void drive_foreign_reply(struct loop *l, struct msg *m)
{
	const struct msg_desc *desc = catalog_find(m->tag);
	void *body;

	if (!(m->bits & MSG_IS_REPLY)) {
		worker_undeliverable(l->worker, m, E_NOPROC);
		return;
	}
	if (m->tag == ASK_FAILED) {
		call_settle(l->drive, m->corr, ask_failed_of(m)->status, 0, NULL, OK);
		worker_msg_free(l->worker, m);
		return;
	}
	body = body_copy(desc, msg_body(m));
	if (!call_settle(l->drive, m->corr, OK, m->tag, body, m->status))
		body_free(m->tag, body);
	worker_msg_free(l->worker, m);
}

void drive_foreign_stop(struct drive *d)
{
	struct list *it;

	pthread_mutex_lock(&d->lock);
	while ((it = list_pop_front(&d->calls))) {
		struct call *c = LIST_ITEM(it, struct call, link);

		c->result = E_NOPROC;
		c->done = true;
		pthread_cond_signal(&c->changed);
	}
	pthread_mutex_unlock(&d->lock);
}

/* ---- requests ------------------------------------------------------------------------------------------------ */

static void request_deliver(struct worker *w, void *arg)
{
	struct request *r = arg;
	struct pid to = worker_whereis(w, r->name);
	struct msg *m;

	if (pid_is_none(to)) {
		call_settle(r->drive, r->corr, E_NOT_FOUND, 0, NULL, OK);
		body_free(r->tag, r->body);
		free(r);
		return;
	}
	m = worker_msg_new(w, r->tag);
	m->from = pid_make(worker_node(w), FOREIGN_WORKER, 0, 1);
	m->to = to;
	m->corr = r->corr;
	m->deadline_us = r->deadline_us;
	m->bits |= MSG_IS_REQUEST;
	memcpy(msg_body(m), r->body, catalog_find(r->tag)->size); /* the slices move */
	free(r->body);
	free(r);
	if (to.node == worker_node(w) && pid_worker(to) == worker_index(w))
		worker_deliver(w, m);
	else
		drive_forward(worker_driver(w), m);
}

static enum status call_begin(struct drive *d, struct call *c)
{
	enum status st = OK;
	uint32_t n = 0;

	pthread_mutex_lock(&d->lock);
	list_each(it, &d->calls) n++;
	if (n >= CALLS_MAX)
		st = E_FULL;
	else
		list_push_back(&d->calls, &c->link);
	c->corr = ++d->call_seq;
	pthread_mutex_unlock(&d->lock);
	return st;
}

static void call_wait(struct drive *d, struct call *c, const struct timespec *deadline)
{
	int rc = 0;

	pthread_mutex_lock(&d->lock);
	while (!c->done && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&c->changed, &d->lock, deadline);
	if (!c->done) {
		list_remove(&c->link);
		c->result = E_TIMEOUT;
	}
	pthread_mutex_unlock(&d->lock);
}

enum status drive_call(struct drive *d, const char *actor_name, uint16_t tag, const void *body,
	uint32_t timeout_ms, drive_reply_fn *on_reply, void *arg)
{
	const struct msg_desc *desc = catalog_find(tag);
	struct timespec deadline = drive_after_ms((uint64_t)timeout_ms + GRACE_MS);
	struct call c = {.done = false};
	struct request *r;

	if (!desc || !timeout_ms || strlen(actor_name) > ACTOR_NAME_MAX)
		return E_INVALID;
	if (call_begin(d, &c))
		return E_FULL;
	drive_cond_init(&c.changed);
	r = malloc(sizeof(*r));
	check(r != NULL);
	*r = (struct request){.drive = d, .corr = c.corr, .tag = tag, .body = body_copy(desc, body)};
	r->deadline_us = drive_now_us() + (uint64_t)timeout_ms * 1000;
	str_copy(r->name, sizeof(r->name), actor_name);
	if (drive_post(d, 0, request_deliver, r)) {
		call_wait(d, &c, &deadline);
	} else {
		body_free(tag, r->body);
		free(r);
		call_settle(d, c.corr, E_STATE, 0, NULL, OK);
		c.result = E_STATE;
	}
	pthread_cond_destroy(&c.changed);
	if (c.result == OK && on_reply)
		on_reply(arg, c.tag, c.reply, c.reply_status);
	body_free(c.tag, c.reply);
	return c.result;
}

/* ---- the root's end ------------------------------------------------------------------------------------------ */

#define WATCHER_STATES(X) X(WATCHING)
STATES(watcher, WATCHER_STATES);

struct watcher {
	struct drive *drive;
};

static enum status watcher_init(struct actor *self, const void *args, size_t size)
{
	struct watcher *s = actor_state(self);

	check(size == sizeof(*s));
	memcpy(s, args, size);
	actor_monitor(self, s->drive->root);
	return OK;
}

static enum status on_root_down(struct actor *self, struct msg *m)
{
	struct watcher *s = actor_state(self);

	drive_root_ended(s->drive, down_of(m)->status);
	return OK;
}

static const struct rule watcher_rules[] = {{STATE_ANY, DOWN, on_root_down}};
static const struct behaviour watcher_behaviour = {.name = "drive.watcher",
	.state_size = sizeof(struct watcher),
	.rules = watcher_rules,
	.n_rules = ARRAY_LEN(watcher_rules),
	.states = watcher_state_names,
	.n_states = ARRAY_LEN(watcher_state_names),
	.init = watcher_init};

enum status drive_watcher_start(struct drive *d, struct worker *w)
{
	struct watcher args = {d};

	return worker_spawn(w,
		&(struct spawn){.behaviour = &watcher_behaviour, .args = &args, .args_size = sizeof(args)},
		NULL);
}
