/* What the client is told when something can't be done. The decision is lost.h's; here are its words. */
#include "actors/gate/session.h"

#include <stdarg.h>
#include <stdio.h>

#include "actors/gate/lost.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "runtime/base/log.h"

static enum status say(struct actor *self, struct writer *w)
{
	struct session *s = actor_state(self);
	struct slice bytes = writer_take(w);

	if (!s->io || !bytes.len) {
		slice_release(&bytes);
		return OK;
	}
	return io_write(self, s->io, &bytes);
}

enum status session_fatal(struct actor *self, const struct pgerror *e)
{
	struct session *s = actor_state(self);
	struct pgerror fatal = *e;
	struct writer w;

	if (s->partial)
		return E_NORMAL;
	fatal.severity = fatal.severity_raw = "FATAL";
	writer_init(&w, SESSION_ERROR_MAX);
	pgerror_put_error(&w, &fatal);
	return say(self, &w) == OK ? E_NORMAL : E_CLOSED; /* the exit hook closes */
}

enum status session_fatal_error(struct actor *self, const struct error *err)
{
	struct pgerror e = pgerror_from(err, "FATAL");

	if (err->status == E_PROTOCOL)
		actor_count(self, gate_metrics.violations, 1);
	return session_fatal(self, &e);
}

enum status session_violation(struct actor *self, const char *fmt, ...)
{
	char text[ERROR_TEXT_MAX];
	struct pgerror e = {.sqlstate = SQLSTATE_PROTOCOL_VIOLATION, .message = text};
	va_list ap;

	actor_count(self, gate_metrics.violations, 1);
	if (!fmt) /* doesn't speak our language at all: nothing to say */
		return E_NORMAL;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return session_fatal(self, &e);
}

/* One error and ReadyForQuery for each unit that is owed one; then the session serves on. */
static enum status refuse_units(struct actor *self, const struct pgerror *e)
{
	struct session *s = actor_state(self);
	struct pgerror error = *e;
	struct writer w;

	error.severity = error.severity_raw = "ERROR";
	writer_init(&w, 1 << 20);
	for (; s->outstanding > 0; s->outstanding--) {
		pgerror_put_error(&w, &error);
		wire_put_ready(&w, 'I');
	}
	if (w.failed) {
		writer_release(&w);
		return session_fatal(self, e);
	}
	if (say(self, &w) != OK)
		return E_CLOSED;
	slice_release(&s->pending);
	s->tx = 'I';
	s->lease = 0;
	s->has_unnamed = s->has_unnamed && s->answers.parses == 0;
	s->answers = (struct answers){0};
	s->frames.here = s->cancel = s->risk = s->answering = s->partial = s->reopened = false;
	s->backend_full = s->client_full = false;
	actor_become(self, IDLE);
	return session_feed(self);
}

static enum status settle(struct actor *self, const struct pgerror *e, const struct lost_verdict *v)
{
	return v->close ? session_fatal(self, e) : refuse_units(self, e);
}

static struct lost_facts facts_of(const struct session *s, bool leased, bool sent)
{
	return (struct lost_facts){.sent = sent,
		.answering = s->answering,
		.in_batch = s->frames.in_batch || s->frames.remain > 0,
		.in_transaction = s->tx != 'I',
		.pinned = leased && s->pins != 0,
		.may_commit = s->risk,
		.outstanding = s->outstanding};
}

/* ---- not leased: nothing has reached Postgres ---------------------------------------------------------------- */

static enum status refuse_request(struct actor *self, const struct pgerror *e)
{
	struct session *s = actor_state(self);
	struct lost_facts facts = facts_of(s, false, false);
	struct lost_verdict v = lost_decide(&facts);

	return settle(self, e, &v);
}

/* The pool's own words. A FATAL one (the login at Postgres failed) ends the session, as it does in Postgres. */
enum status session_on_execute_refused(struct actor *self, struct msg *m)
{
	struct pool_refused *r = pool_refused_of(m);
	struct pgerror e;

	if (pgerror_read(slice_data(&r->error), r->error.len, &e))
		e = (struct pgerror){
			.sqlstate = SQLSTATE_CONNECTION_FAILURE, .message = "Postgres can't be reached"};
	return pgerror_is_fatal(&e) ? session_fatal(self, &e) : refuse_request(self, &e);
}

/* The pool that knew us is gone, or has forgotten us: ask its successor, once. Nothing was sent. */
static bool try_reopen(struct actor *self, enum status why)
{
	struct session *s = actor_state(self);

	if (s->reopened || (why != E_NOPROC && why != E_NOT_FOUND && why != E_STALE))
		return false;
	s->reopened = true;
	s->backend = PID_NONE;
	if (session_open(self) != OK)
		return false;
	actor_become(self, REOPENING);
	return true;
}

static void words_for(enum status why, uint32_t waited_ms, struct error *err)
{
	switch (why) {
	case E_TIMEOUT:
		error_set(err, why, SQLSTATE_TOO_MANY_CONNECTIONS,
			"no connection to Postgres became free within %u s", waited_ms / 1000);
		error_hint(err, "Raise the pool's size, or make transactions shorter.");
		return;
	case E_FULL:
	case E_LIMIT:
		error_set(err, why, SQLSTATE_TOO_MANY_CONNECTIONS,
			"too many requests are waiting for a connection to Postgres");
		error_hint(err, "Raise the pool's size, or send fewer requests at once.");
		return;
	default:
		error_set(err, why, SQLSTATE_CANNOT_CONNECT_NOW, "Postgres can't be reached: %s",
			status_name(why));
	}
}

static uint32_t queue_ms(const struct session *s)
{
	return s->config->queue_timeout_ms ? s->config->queue_timeout_ms : GATE_QUEUE_TIMEOUT_MS;
}

enum status session_on_execute_failed(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct error err = {0};
	struct pgerror e;
	struct msg *forget;
	enum status why = m->tag == DONE ? done_of(m)->status : ask_failed_of(m)->status;

	if (try_reopen(self, why))
		return OK;
	if (why == E_TIMEOUT) { /* the pool may still hold it */
		pool_forget_new(self, &forget)->session = actor_pid(self);
		actor_send(self, s->pool, &forget);
	}
	words_for(why, queue_ms(s), &err);
	e = pgerror_from(&err, "ERROR");
	if (m->tag == DONE && done_of(m)->text[0])
		e.detail = done_of(m)->text;
	return refuse_request(self, &e);
}

/* ---- leased, and the backend died ---------------------------------------------------------------------------- */

static void say_unknown(struct pgerror *e)
{
	e->detail = e->message;
	e->sqlstate = SQLSTATE_TRANSACTION_RESOLUTION_UNKNOWN;
	e->message = "the connection to Postgres was lost while a change was being made: "
		     "it is not known whether it was committed";
	e->hint = "Look whether the change is there before making it again.";
}

enum status session_on_lost(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct lease_lost *l = lease_lost_of(m);
	struct lost_facts facts = facts_of(s, true, l->sent);
	struct lost_verdict v = lost_decide(&facts);
	struct pgerror e;

	if (l->lease != s->lease)
		return OK;
	actor_count(self, gate_metrics.lost, 1);
	if (!l->error.len) { /* Postgres has said why, and the client has read it */
		s->lease = 0;
		return E_NORMAL;
	}
	if (pgerror_read(slice_data(&l->error), l->error.len, &e))
		e = (struct pgerror){.sqlstate = SQLSTATE_CONNECTION_FAILURE,
			.message = "the connection to Postgres was lost"};
	if (v.unknown)
		say_unknown(&e);
	s->lease = 0; /* nothing to give back */
	s->backend = PID_NONE;
	return settle(self, &e, &v);
}

/* ---- the end -------------------------------------------------------------------------------------------------- */

/* Called by the exit hook. Where the client is in the middle of a message nothing can be said. */
void session_last_words(struct actor *self, enum status why)
{
	struct session *s = actor_state(self);
	struct pgerror e = {.sqlstate = SQLSTATE_ADMIN_SHUTDOWN,
		.message = "terminating connection due to administrator command"};

	if (!s->io || s->partial || actor_current(self) <= TLS)
		return;
	if (why == E_NORMAL || why == E_CLOSED || why == E_IO)
		return;
	if (why != E_SHUTDOWN && why != E_KILLED) {
		e.sqlstate = SQLSTATE_INTERNAL_ERROR;
		e.message = "terminating connection because its session failed";
		e.detail = status_name(why);
	}
	if (s->outstanding > 0 && s->risk)
		say_unknown(&e);
	(void)session_fatal(self, &e);
}
