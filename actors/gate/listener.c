/*
 * The listener: takes clients on one worker, counts them, and finds the session a cancel key belongs to.
 *
 * Named "gate.<worker>". A cancel key is worker << 24 | slot of the session's pid, so that any listener knows whom to
 * ask; the secret is known to the session alone. Sessions are orphans: they outlive a listener that crashes, and tell
 * its successor of themselves (GATE_HELLO). One that is shut down takes them along.
 *
 * Over its share of max_clients a worker still takes connections, up to a margin: cancel requests must get through,
 * and the others must hear in their own protocol, after TLS, why they are refused.
 */
#include <stdio.h>
#include <stdlib.h>

#include "actors/gate/gate.h"
#include "actors/gate/messages.h"
#include "runtime/base/log.h"
#include "runtime/core/io.h"
#include "runtime/core/table.h"

enum { MARGIN_MIN = 64, SHOW_MAX = 4096, TABLE_FIRST = 256 };

#define LISTENER_STATES(S) S(LISTENING)
STATES(listener, LISTENER_STATES);

/* A client of ours, at the index of its slot. */
struct entry {
	struct pid session; /* none: free */
	bool admitted;
};

struct listener {
	const struct gate_config *config;
	uint64_t io;
	struct entry *entries;
	uint32_t n_entries, share, live, admitted;
	uint64_t accepted, refused, cancels;
};

static enum status listener_init(struct actor *self, const void *args, size_t size)
{
	struct listener *l = actor_state(self);
	const struct gate_config *c;
	struct io_listen spec = {0};
	struct error err = {0};
	uint32_t max, n = actor_worker_count(self);

	check(size == sizeof(c));
	memcpy(&c, args, sizeof(c));
	l->config = c;
	max = c->max_clients ? c->max_clients : GATE_CLIENTS_MAX;
	l->share = (max + n - 1) / n;
	spec.address = c->listen;
	spec.reuse_port = c->reuse_port;
	if (io_listen(self, &spec, &l->io, &err)) {
		log_error("gate", "%s", err.text);
		return actor_fail(self, err.status, "%s", err.text);
	}
	return OK;
}

static void listener_exit(struct actor *self, enum status why)
{
	struct listener *l = actor_state(self);

	actor_gauge(self, gate_metrics.clients, -(int64_t)l->live);
	if (why == E_SHUTDOWN || why == E_NORMAL)
		for (uint32_t i = 0; i < l->n_entries; i++)
			if (!pid_is_none(l->entries[i].session))
				actor_exit(self, l->entries[i].session, E_SHUTDOWN);
	free(l->entries);
}

static struct entry *entry_at(struct listener *l, uint32_t slot)
{
	uint32_t n = l->n_entries ? l->n_entries : TABLE_FIRST;

	while (n <= slot)
		n *= 2;
	if (n > l->n_entries) {
		l->entries = realloc(l->entries, n * sizeof(*l->entries));
		check(l->entries != NULL);
		memset(l->entries + l->n_entries, 0, (n - l->n_entries) * sizeof(*l->entries));
		l->n_entries = n;
	}
	return &l->entries[slot];
}

static void entry_set(struct actor *self, struct pid session, bool admitted)
{
	struct listener *l = actor_state(self);
	struct entry *e = entry_at(l, pid_slot(session));

	if (!pid_is_none(e->session)) { /* its DOWN is on the way */
		l->live--;
		l->admitted -= e->admitted;
		actor_gauge(self, gate_metrics.clients, -1);
	}
	*e = (struct entry){.session = session, .admitted = admitted};
	l->live++;
	l->admitted += admitted;
	actor_gauge(self, gate_metrics.clients, 1);
	actor_monitor(self, session);
}

static enum status on_accepted(struct actor *self, struct msg *m)
{
	struct listener *l = actor_state(self);
	struct io_accepted *a = io_accepted_of(m);
	bool admitted = l->admitted < l->share;
	struct spawn what = {.behaviour = &session_behaviour,
		.args = &l->config,
		.args_size = sizeof(l->config),
		.orphan = true,
		.quiet = true};
	struct pid session;
	struct msg *out;
	struct gate_client *c;

	l->accepted++;
	actor_count(self, gate_metrics.accepted, 1);
	if (!admitted) {
		l->refused++;
		actor_count(self, gate_metrics.refused, 1);
	}
	if (l->live >= l->share + l->share / 8 + MARGIN_MIN || actor_spawn(self, &what, &session) != OK) {
		io_abort(self, a->io);
		return OK;
	}
	if (io_give(self, a->io, session) != OK) {
		actor_exit(self, session, E_NORMAL);
		return OK;
	}
	c = gate_client_new(self, &out);
	c->io = a->io;
	c->admitted = admitted;
	memcpy(c->peer, a->peer, sizeof(c->peer));
	actor_send(self, session, &out);
	entry_set(self, session, admitted);
	return OK;
}

static enum status on_hello(struct actor *self, struct msg *m)
{
	entry_set(self, m->from, gate_hello_of(m)->admitted);
	return OK;
}

static enum status on_down(struct actor *self, struct msg *m)
{
	struct listener *l = actor_state(self);
	struct pid who = down_of(m)->who;
	struct entry *e;

	if (pid_slot(who) >= l->n_entries)
		return OK;
	e = &l->entries[pid_slot(who)];
	if (!pid_equal(e->session, who))
		return OK;
	l->live--;
	l->admitted -= e->admitted;
	actor_gauge(self, gate_metrics.clients, -1);
	*e = (struct entry){0};
	return OK;
}

static enum status on_cancel(struct actor *self, struct msg *m)
{
	struct listener *l = actor_state(self);
	uint32_t key = gate_cancel_of(m)->key, slot = key & 0xffffff;

	l->cancels++;
	if (key >> 24 != actor_worker_index(self) || slot >= l->n_entries ||
		pid_is_none(l->entries[slot].session))
		return OK; /* not a key of ours: as silent as Postgres */
	actor_forward(self, l->entries[slot].session, m);
	return OK;
}

static enum status on_show(struct actor *self, struct msg *m)
{
	static const char *const columns[] = {
		"worker", "address", "clients", "admitted", "share", "accepted", "refused", "cancels"};
	struct listener *l = actor_state(self);
	struct table_writer t;
	struct msg *out;

	table_begin(&t, columns, ARRAY_LEN(columns), SHOW_MAX);
	table_u64(&t, actor_worker_index(self));
	table_str(&t, l->config->listen);
	table_u64(&t, l->live);
	table_u64(&t, l->admitted);
	table_u64(&t, l->share);
	table_u64(&t, l->accepted);
	table_u64(&t, l->refused);
	table_u64(&t, l->cancels);
	table_new(self, &out)->rows = table_end(&t);
	actor_reply(self, m, &out);
	return OK;
}

static enum status on_closed(struct actor *self, struct msg *m)
{
	return actor_fail(self, E_IO, "the listening socket failed: %s", io_closed_of(m)->text);
}

static void listener_show(const struct actor *self, struct writer *text)
{
	const struct listener *l = actor_state(self);

	writer_printf(text, "%s clients %u of %u", l->config->listen, l->admitted, l->share);
}

static const struct rule listener_rules[] = {
	{LISTENING, IO_ACCEPTED, on_accepted},
	{LISTENING, GATE_HELLO, on_hello},
	{LISTENING, GATE_CANCEL, on_cancel},
	{LISTENING, GATE_SHOW, on_show},
	{LISTENING, DOWN, on_down},
	{LISTENING, IO_CLOSED, on_closed},
};

const struct behaviour listener_behaviour = {
	.name = "gate.listener",
	.state_size = sizeof(struct listener),
	.rules = listener_rules,
	.n_rules = ARRAY_LEN(listener_rules),
	.states = listener_state_names,
	.n_states = ARRAY_LEN(listener_state_names),
	.init = listener_init,
	.exit = listener_exit,
	.show = listener_show,
	.mailbox_cap = 100000,
};
