/*
 * The session: one client, from its first byte to its last. This file holds the table of states, birth and end; the
 * parts are session_login.c, session_auth.c, session_serve.c and session_fail.c (session.h says who does what).
 *
 * Worker-local, nameless. Its pool and its backends are on the same worker. Invariants:
 *
 *   - `lease` and `backend` are meant in RUN only, `pending` is held in WAITING and REOPENING only;
 *   - outstanding counts the units sent whose ReadyForQuery hasn't been passed on (frames.h);
 *   - without a pin a unit begins only where none is outstanding, so that no request meets the end of its lease;
 *   - at most one chunk of client bytes is on its way here, and none while the input can't be used.
 */
#include "actors/gate/session.h"

#include <stdlib.h>

#include "runtime/base/bytes.h"

static enum status session_init(struct actor *self, const void *args, size_t size)
{
	struct session *s = actor_state(self);

	check(size == sizeof(s->config));
	memcpy(&s->config, args, sizeof(s->config));
	s->tx = 'I';
	actor_timer(self, SESSION_TIMER_LOGIN,
		s->config->login_timeout_ms ? s->config->login_timeout_ms : GATE_LOGIN_TIMEOUT_MS);
	return OK;
}

static void session_exit(struct actor *self, enum status why)
{
	struct session *s = actor_state(self);

	session_last_words(self, why);
	session_release(self, why);
	if (s->io)
		io_close(self, s->io);
	slice_release(&s->input);
	slice_release(&s->pending);
	slice_release(&s->unnamed);
	slice_release(&s->peer);
	session_login_free(s);
	session_identity_free(s);
}

static void session_show(const struct actor *self, struct writer *text)
{
	const struct session *s = actor_state(self);

	if (!s->who)
		return;
	writer_printf(text, "%s@%s from %s tx %c owed %u", s->who->text, s->who->text + s->who->database_at,
		(const char *)slice_data(&s->peer), s->tx, s->outstanding);
	for (unsigned i = 0; i < FRAMES_PINS; i++)
		if (s->pins & 1u << i)
			writer_printf(text, "%s%s", s->pins & ((1u << i) - 1) ? "," : " pinned by ",
				gate_pin_name(i));
}

static enum status on_client(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct gate_client *c = gate_client_of(m);

	s->io = c->io;
	s->admitted = c->admitted;
	s->listener = m->from;
	s->peer = slice_copy(c->peer, (uint32_t)strlen(c->peer) + 1);
	actor_monitor(self, s->listener);
	actor_become(self, STARTUP);
	session_credit(self);
	return OK;
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	char name[ACTOR_NAME_MAX + 1];
	struct msg *hello;

	if (timer_of(m)->key == SESSION_TIMER_LOGIN)
		return session_on_login_timeout(self);
	snprintf(name, sizeof(name), "gate.%u", actor_worker_index(self));
	s->listener = actor_whereis(self, name);
	if (pid_is_none(s->listener)) {
		actor_timer(self, SESSION_TIMER_HELLO, SESSION_HELLO_MS);
		return OK;
	}
	actor_monitor(self, s->listener);
	gate_hello_new(self, &hello)->admitted = s->admitted;
	actor_send(self, s->listener, &hello);
	return OK;
}

/* The listener died: clients stay, and tell its successor, which must know them for counting and cancelling. */
static enum status on_down(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);

	if (pid_equal(down_of(m)->who, s->listener))
		actor_timer(self, SESSION_TIMER_HELLO, SESSION_HELLO_MS);
	return OK;
}

static bool secret_is_right(const struct session *s, const struct slice *given)
{
	const uint8_t *p = slice_data(given);
	uint8_t differs = 0;

	if (!s->secret_len || given->len != s->secret_len)
		return false;
	for (uint32_t i = 0; i < s->secret_len; i++)
		differs |= p[i] ^ s->secret[i];
	return differs == 0;
}

static enum status on_cancel(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct msg *out;

	if (!secret_is_right(s, &gate_cancel_of(m)->secret))
		return OK;
	actor_count(self, gate_metrics.cancels, 1);
	if (actor_current(self) == WAITING || actor_current(self) == REOPENING) {
		s->cancel = true; /* passed on as soon as there is somebody to cancel */
	} else if (actor_current(self) == RUN && s->outstanding > 0) {
		cancel_new(self, &out)->lease = s->lease;
		actor_send(self, s->backend, &out);
	}
	return OK;
}

/* A client that said goodbye may hang up at once; what it had sent runs to its end, as in Postgres. */
static enum status on_closed(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	uint8_t state = actor_current(self);

	(void)m;
	s->io = 0;
	if (s->leaving && session_owed(s) > 0 && (state == WAITING || state == RUN))
		return OK;
	return E_NORMAL;
}

static enum status on_drained(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct msg *out;

	(void)m;
	if (!s->client_full)
		return OK;
	s->client_full = false;
	if (actor_current(self) == RUN) {
		flow_new(self, &out)->lease = s->lease;
		actor_send(self, s->backend, &out);
	}
	return OK;
}

static enum status on_flow(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);

	if (flow_of(m)->lease != s->lease)
		return OK;
	s->backend_full = flow_of(m)->stop;
	session_credit(self);
	return OK;
}

/* Late words of a lease or an ask that is no longer ours. */
static enum status on_stale(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return OK;
}

static const struct rule session_rules[] = {
	{NEW, GATE_CLIENT, on_client},
	{STARTUP, IO_BYTES, session_on_login_bytes},
	{TLS, IO_TLS_UP, session_on_tls_up},
	{LOOKUP, AUTH_ENTRY, session_on_entry},
	{LOOKUP, DONE, session_on_lookup_failed},
	{LOOKUP, ASK_FAILED, session_on_lookup_failed},
	{AUTH, IO_BYTES, session_on_auth_bytes},
	{OPENING, POOL_OPENED, session_on_opened},
	{OPENING, POOL_REFUSED, session_on_open_refused},
	{OPENING, DONE, session_on_open_failed},
	{OPENING, ASK_FAILED, session_on_open_failed},
	{IDLE, IO_BYTES, session_on_bytes},
	{WAITING, IO_BYTES, session_on_bytes},
	{WAITING, LEASED, session_on_leased},
	{WAITING, POOL_REFUSED, session_on_execute_refused},
	{WAITING, DONE, session_on_execute_failed},
	{WAITING, ASK_FAILED, session_on_execute_failed},
	{REOPENING, IO_BYTES, session_on_bytes},
	{REOPENING, POOL_OPENED, session_on_reopened},
	{REOPENING, POOL_REFUSED, session_on_execute_refused},
	{REOPENING, DONE, session_on_execute_failed},
	{REOPENING, ASK_FAILED, session_on_execute_failed},
	{RUN, IO_BYTES, session_on_bytes},
	{RUN, ROWS, session_on_rows},
	{RUN, LEASE_LOST, session_on_lost},
	{RUN, FLOW, on_flow},
	{STATE_ANY, IO_CLOSED, on_closed},
	{STATE_ANY, IO_DRAINED, on_drained},
	{STATE_ANY, GATE_CANCEL, on_cancel},
	{STATE_ANY, TIMER, on_timer},
	{STATE_ANY, DOWN, on_down},
	{STATE_ANY, ROWS, on_stale},
	{STATE_ANY, FLOW, on_stale},
	{STATE_ANY, LEASE_LOST, on_stale},
};

const struct behaviour session_behaviour = {
	.name = "gate.session",
	.state_size = sizeof(struct session),
	.rules = session_rules,
	.n_rules = ARRAY_LEN(session_rules),
	.states = session_state_names,
	.n_states = ARRAY_LEN(session_state_names),
	.init = session_init,
	.exit = session_exit,
	.show = session_show,
};
