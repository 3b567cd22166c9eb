/*
 *	WAITING ── gates listen, tablet serves ──> SERVING
 *	   │
 *	   └─ the tablet ended READY_FAILURES_MAX times ──> the process is told to end, failed
 *
 * After a restart of this actor in a node that serves, nothing is said again.
 */
#include "supervisor/ready.h"

#include <ctype.h>
#include <signal.h>
#include <unistd.h>

#include "actors/tablet/messages.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"

enum { LOOK_MS = 10, ASK_MS = 2000, KEY_LOOK = 1, LINE_BYTES = 1024 };

#define READY_STATES(X) X(WAITING) X(SERVING)
STATES(ready, READY_STATES);

struct ready {
	struct ready_state *shared;
	struct pid tablet; /* monitored */
	uint64_t ask; /* 0: none under way */
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

/* A role's name inside a URL. */
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
	writer_printf(&line, "@%s/postgres\n", s->listen);
	if (line.failed || write(s->notify_fd, line.buf->data, line.len) != (ssize_t)line.len)
		log_warn("ready", "could not tell that the node serves");
	writer_release(&line);
}

static void ask_tablet(struct actor *self)
{
	struct ready *r = actor_state(self);
	struct pid tablet = actor_whereis(self, "tablet");
	struct msg *m;

	if (pid_is_none(tablet) || r->ask)
		return;
	if (!pid_equal(tablet, r->tablet)) {
		r->tablet = tablet;
		actor_monitor(self, tablet);
	}
	tablet_where_new(self, &m);
	r->ask = actor_ask(self, tablet, &m, ASK_MS);
}

static enum status on_look(struct actor *self, struct msg *m)
{
	struct ready *r = actor_state(self);

	(void)m;
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

	if (m->bits & MSG_IS_REPLY)
		r->ask = 0;
	r->serving = tablet_serving_of(m)->serving;
	str_copy(r->login, sizeof(r->login), tablet_serving_of(m)->login);
	if (actor_current(self) == WAITING && r->serving && gates_listen(self))
		announce(self);
	return OK;
}

static enum status on_no_answer(struct actor *self, struct msg *m)
{
	(void)m;
	((struct ready *)actor_state(self))->ask = 0;
	return OK;
}

static enum status on_down(struct actor *self, struct msg *m)
{
	struct ready *r = actor_state(self);
	const struct down *d = down_of(m);

	if (!pid_equal(d->who, r->tablet))
		return OK;
	r->tablet = PID_NONE;
	r->serving = false;
	if (actor_current(self) == SERVING || r->shared->announced || d->status == E_KILLED ||
		d->status == E_SHUTDOWN)
		return OK;
	if (++r->shared->failures < READY_FAILURES_MAX)
		return OK;
	log_error("ready", "the node could not start: %s",
		d->text[0] ? d->text : status_name((enum status)d->status));
	r->shared->failed = true;
	kill(getpid(), SIGTERM);
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
	{STATE_ANY, DOWN, on_down},
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
