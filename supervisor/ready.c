/*
 *	WAITING ── gates listen, tablet serves ──> SERVING
 *	   │
 *	   └─ bringing up a Postgres of ours fails for READY_PATIENCE_MS ──> the process is told to end, failed
 *
 * After a restart of this actor in a node that serves, nothing is said again.
 */
#include "supervisor/ready.h"

#include <ctype.h>
#include <signal.h>
#include <unistd.h>

#include "actors/tablet/lifecycle.h"
#include "actors/tablet/messages.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "supervisor/reader.h"

enum { LOOK_MS = 10, ASK_MS = 2000, SHOW_EVERY = 5, KEY_LOOK = 1, LINE_BYTES = 1024 };

#define READY_STATES(X) X(WAITING) X(SERVING)
STATES(ready, READY_STATES);

struct ready {
	struct ready_state *shared;
	uint64_t ask, show; /* under way; 0: none */
	uint32_t looks;
	bool serving;
	char login[PG_NAME_MAX + 1];
};

static bool gates_listen(struct actor *self)
{
	for (uint8_t i = 0; i < actor_worker_count(self); i++) {
		char name[16];

		snprintf(name, sizeof(name), "gate.%u", i);
		if (pid_is_none(actor_whereis(self, name)))
			return false;
	}
	return true;
}

/* A name inside a URL. */
static void url_text(struct writer *out, const char *s)
{
	for (; *s; s++) {
		if (isalnum((unsigned char)*s) || strchr("-._~", *s))
			writer_u8(out, (uint8_t)*s);
		else
			writer_printf(out, "%%%02X", (unsigned char)*s);
	}
}

static void announce(struct actor *self)
{
	struct ready *r = actor_state(self);
	struct ready_state *s = r->shared;
	struct writer line;

	actor_timer_cancel(self, KEY_LOOK);
	actor_become(self, SERVING);
	if (s->announced)
		return;
	s->announced = true;
	writer_init(&line, LINE_BYTES);
	writer_text(&line, "ready postgresql://");
	url_text(&line, r->login[0] ? r->login : "postgres");
	writer_printf(&line, "@%s/", s->listen);
	url_text(&line, s->database);
	writer_u8(&line, '\n');
	if (line.failed || write(s->notify_fd, line.buf->data, line.len) != (ssize_t)line.len)
		log_warn("ready", "could not tell that the node serves");
	writer_release(&line);
}

/* Serves it? And every few looks: how is it doing? Its states are for people; BACKING_OFF is a failed attempt. */
static void ask_tablet(struct actor *self)
{
	struct ready *r = actor_state(self);
	struct pid tablet = actor_whereis(self, "tablet");
	struct msg *m;

	if (pid_is_none(tablet))
		return;
	if (!r->ask) {
		tablet_where_new(self, &m);
		r->ask = actor_ask(self, tablet, &m, ASK_MS);
	}
	if (r->shared->own && !r->show && r->looks % SHOW_EVERY == 0) {
		tablet_show_new(self, &m);
		r->show = actor_ask(self, tablet, &m, ASK_MS);
	}
}

static enum status on_look(struct actor *self, struct msg *m)
{
	struct ready *r = actor_state(self);

	(void)m;
	r->looks++;
	if (r->serving && gates_listen(self)) {
		announce(self);
		return OK;
	}
	if (!r->serving)
		ask_tablet(self);
	actor_timer(self, KEY_LOOK, LOOK_MS);
	return OK;
}

/* Both the answer to our ask and what the tablet tells its watchers. */
static enum status on_serving(struct actor *self, struct msg *m)
{
	struct ready *r = actor_state(self);
	const struct tablet_serving *t = tablet_serving_of(m);

	if (m->corr == r->ask)
		r->ask = 0;
	r->serving = t->serving;
	str_copy(r->login, sizeof(r->login), t->login);
	if (r->serving)
		__atomic_store_n(r->shared->pool_password, tablet_attach_password(), __ATOMIC_RELEASE);
	if (actor_current(self) != WAITING)
		return OK;
	if (!t->serving && strcmp(t->why, r->shared->why) != 0) {
		str_copy(r->shared->why, sizeof(r->shared->why), t->why);
		if (!r->shared->own)
			log_info("ready", "not serving yet: %s", t->why);
	}
	if (r->serving && gates_listen(self))
		announce(self);
	return OK;
}

static void attempt_failed(struct actor *self)
{
	struct ready_state *s = ((struct ready *)actor_state(self))->shared;
	uint64_t now = actor_now_us(self);

	if (!s->failed_at_us)
		s->failed_at_us = now;
	if (s->failed || s->announced || now - s->failed_at_us < READY_PATIENCE_MS * 1000ull)
		return;
	s->failed = true;
	kill(getpid(), SIGTERM);
}

/* TABLET_SHOW's answer: a table of what and value. */
static enum status on_shown(struct actor *self, struct msg *m)
{
	struct ready *r = actor_state(self);
	const struct slice *rows = &table_of(m)->rows;
	struct cell cells[TABLE_COLUMNS_MAX];
	struct table_reader t;
	bool backing_off = false;

	r->show = 0;
	if (table_read(&t, slice_data(rows), rows->len) || t.n_columns < 2)
		return OK;
	while (table_next(&t, cells))
		if (cell_is(&cells[0], "state"))
			backing_off = cell_is(&cells[1], "BACKING_OFF");
	if (backing_off)
		attempt_failed(self);
	return OK;
}

static enum status on_no_answer(struct actor *self, struct msg *m)
{
	struct ready *r = actor_state(self);

	if (m->corr == r->ask)
		r->ask = 0;
	if (m->corr == r->show)
		r->show = 0;
	return OK;
}

static enum status ready_init(struct actor *self, const void *args, size_t size)
{
	struct ready *r = actor_state(self);

	check(size == sizeof(struct ready_state *));
	memcpy(&r->shared, args, size);
	actor_group_join(self, "tablet.watchers");
	if (r->shared->announced)
		actor_become(self, SERVING);
	else
		actor_timer(self, KEY_LOOK, 1);
	return OK;
}

static const struct rule ready_rules[] = {
	{WAITING, TIMER, on_look},
	{STATE_ANY, TABLET_SERVING, on_serving},
	{STATE_ANY, ASK_FAILED, on_no_answer},
	{STATE_ANY, TABLE, on_shown},
};

const struct behaviour ready_behaviour = {
	.name = "supervisor.ready",
	.state_size = sizeof(struct ready),
	.rules = ready_rules,
	.n_rules = ARRAY_LEN(ready_rules),
	.states = ready_state_names,
	.n_states = ARRAY_LEN(ready_state_names),
	.init = ready_init,
};
