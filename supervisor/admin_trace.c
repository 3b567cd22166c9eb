/*
 * Tracing: who looks on polls. A session follows one actor; the events of all sessions share one ring, in which each
 * has a number, so that a reader asks for what came after the last one it saw. A session nobody polls ends by itself.
 *
 * A worker has one tracer at a time (KERNEL_TRACE), which is this actor; ending a session clears it, so the other
 * sessions on that worker are announced again.
 */
#include <stdlib.h>

#include "runtime/base/bytes.h"
#include "supervisor/admin.h"

enum { SESSIONS_MAX = 8, RING = 2048, EXPIRE_US = 5000000, POLL_ROWS_MAX = 500, POLL_BYTES_MAX = 1 << 20 };

struct session {
	uint64_t id, polled_us, first; /* id 0: free; first: older events aren't its own */
	struct pid who;
};

struct tracer {
	struct session sessions[SESSIONS_MAX];
	uint64_t next_id, n_events;
	struct traced ring[RING];
};

struct tracer *tracer_new(void)
{
	struct tracer *t = calloc(1, sizeof(*t));

	if (t)
		t->next_id = 1;
	return t;
}

void tracer_free(struct tracer *t)
{
	free(t);
}

void tracer_take(struct tracer *t, const struct traced *ev)
{
	t->ring[t->n_events++ % RING] = *ev;
}

static struct msg *trace_msg(struct actor *self, struct pid who, struct pid tracer)
{
	struct msg *m;
	struct kernel_trace *k = kernel_trace_new(self, &m);

	k->who = who;
	k->tracer = tracer;
	return m;
}

static void session_end(struct actor *self, struct tracer *t, struct session *s)
{
	struct pid who = s->who;
	struct msg *m = trace_msg(self, who, PID_NONE);

	s->id = 0;
	actor_ask(self, actor_kernel(self, pid_worker(who)), &m, ADMIN_ASK_MS);
	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		if (!t->sessions[i].id || pid_worker(t->sessions[i].who) != pid_worker(who))
			continue;
		m = trace_msg(self, t->sessions[i].who, actor_pid(self));
		actor_ask(self, actor_kernel(self, pid_worker(who)), &m, ADMIN_ASK_MS);
	}
}

bool tracer_expire(struct actor *self, struct tracer *t)
{
	bool some = false;

	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		struct session *s = &t->sessions[i];

		if (s->id && actor_now_us(self) - s->polled_us > EXPIRE_US)
			session_end(self, t, s);
		some |= s->id != 0;
	}
	return some;
}

static struct session *find(struct actor *self, struct job *job)
{
	struct tracer *t = admin_tracer(self);
	char text[24];
	uint64_t id = job_arg(job, "session", text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;

	for (uint32_t i = 0; id && i < SESSIONS_MAX; i++)
		if (t->sessions[i].id == id)
			return &t->sessions[i];
	job_answer(self, job, E_NOT_FOUND, "no such trace; it ends when it is not polled for 5 s");
	return NULL;
}

void verb_trace(struct actor *self, struct job *job)
{
	struct tracer *t = admin_tracer(self);
	struct msg *m;

	if (!job_target(self, job))
		return;
	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		struct session *s = &t->sessions[i];

		if (s->id)
			continue;
		*s = (struct session){.id = t->next_id++,
			.polled_us = actor_now_us(self),
			.first = t->n_events,
			.who = job->target};
		job->value = s->id;
		m = trace_msg(self, job->target, actor_pid(self));
		job_ask(self, job, actor_kernel(self, pid_worker(job->target)), &m, ADMIN_ASK_MS);
		admin_trace_timer(self);
		return;
	}
	job_answer(self, job, E_FULL, "%d traces are running already", SESSIONS_MAX);
}

void verb_trace_ready(struct actor *self, struct job *job)
{
	struct tracer *t = admin_tracer(self);

	if (job->parts[0].status == OK) {
		job_answer(self, job, OK, "%llu", (unsigned long long)job->value);
		return;
	}
	for (uint32_t i = 0; i < SESSIONS_MAX; i++)
		if (t->sessions[i].id == job->value)
			t->sessions[i].id = 0;
	job_answer(self, job, E_NOPROC, "%s", job->parts[0].text[0] ? job->parts[0].text : "no such actor");
}

void verb_trace_poll(struct actor *self, struct job *job)
{
	static const char *const columns[] = {
		"seq", "at_us", "pid", "from", "state", "next_state", "message"};
	struct tracer *t = admin_tracer(self);
	struct session *s = find(self, job);
	struct table_writer w;
	struct slice rows;
	uint64_t after, first;
	char text[PID_TEXT_MAX];

	if (!s)
		return;
	s->polled_us = actor_now_us(self);
	after = job_arg(job, "after", text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
	first = t->n_events > RING ? t->n_events - RING : 0;
	first = s->first > first ? s->first : first;
	table_begin(&w, columns, ARRAY_LEN(columns), POLL_BYTES_MAX);
	for (uint64_t i = after > first ? after : first, n = 0; i < t->n_events && n < POLL_ROWS_MAX; i++) {
		const struct traced *e = &t->ring[i % RING];

		if (!pid_equal(e->who, s->who))
			continue;
		table_u64(&w, i + 1);
		table_u64(&w, e->at_us);
		table_str(&w, pid_format(e->who, text));
		table_str(&w, pid_format(e->from, text));
		table_str(&w, e->state);
		table_str(&w, e->next_state);
		table_str(&w, e->message);
		n++;
	}
	rows = table_end(&w);
	job_answer_body(self, job, ADMIN_TABLE, &rows);
}

void verb_trace_stop(struct actor *self, struct job *job)
{
	struct session *s = find(self, job);

	if (!s)
		return;
	session_end(self, admin_tracer(self), s);
	job_answer(self, job, OK, "stopped");
}
