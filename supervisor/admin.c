/*
 * The admin actor's frame: requests become jobs, answers find their job by correlation, steps follow one another.
 * What the verbs do is in admin_verbs.c and admin_trace.c.
 */
#include "supervisor/admin.h"

#include <stdlib.h>

#include "actors/tablet/messages.h"
#include "runtime/base/bytes.h"

enum { RULES_MAX = 120, KEY_TRACE = 1, TRACE_TICK_MS = 1000, KEY_JOB = 1000 };

#define ADMIN_STATES(X) X(SERVING)
STATES(admin, ADMIN_STATES);

struct admin {
	struct list jobs;
	uint32_t n_jobs;
	uint64_t next_job;
	struct tracer *tracer;
	struct admin_config config;
};

/* ---- jobs -------------------------------------------------------------------------------------------------- */

static void job_free(struct actor *self, struct job *job)
{
	struct admin *a = actor_state(self);

	for (uint32_t i = 0; i < job->n_parts; i++)
		slice_release(&job->parts[i].bytes);
	if (job->monitor)
		actor_demonitor(self, job->monitor);
	actor_timer_cancel(self, KEY_JOB + job->id);
	actor_drop(self, job->request, OK);
	list_remove(&job->link);
	a->n_jobs--;
	free(job);
}

static void answer(struct actor *self, struct msg *request, enum status st, const char *text,
	enum admin_body kind, struct slice *body)
{
	struct msg *m;
	struct admin_answer *r = admin_answer_new(self, &m);

	r->status = (uint8_t)st;
	r->kind = (uint8_t)kind;
	str_copy(r->text, sizeof(r->text), text);
	if (body)
		r->body = slice_take(body);
	actor_reply(self, request, &m);
}

void job_answer(struct actor *self, struct job *job, enum status st, const char *fmt, ...)
{
	char text[ADMIN_TEXT_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	answer(self, job->request, st, text, ADMIN_NOTHING, NULL);
	job->verb = NULL;
}

void job_answer_body(struct actor *self, struct job *job, enum admin_body kind, struct slice *body)
{
	answer(self, job->request, OK, "", kind, body);
	job->verb = NULL;
}

bool job_arg(const struct job *job, const char *name, char *out, size_t cap)
{
	const struct slice *args = &((struct admin_request *)msg_body(job->request))->args;

	return map_str(slice_data(args), args->len, name, out, cap);
}

void job_ask(struct actor *self, struct job *job, struct pid to, struct msg **m, uint32_t timeout_ms)
{
	struct part *p;

	check(job->n_parts < JOB_PARTS_MAX);
	p = &job->parts[job->n_parts++];
	*p = (struct part){.worker = pid_worker(to)};
	p->corr = actor_ask(self, to, m, timeout_ms);
	job->pending++;
}

void job_ask_kernels(struct actor *self, struct job *job, uint16_t tag)
{
	for (uint8_t i = 0; i < actor_worker_count(self); i++) {
		struct msg *m = actor_msg_new(self, tag);

		job_ask(self, job, actor_kernel(self, i), &m, ADMIN_ASK_MS);
	}
}

bool job_target(struct actor *self, struct job *job)
{
	char text[PID_TEXT_MAX + ACTOR_NAME_MAX];

	if (!job_arg(job, "actor", text, sizeof(text)) || !text[0]) {
		job_answer(self, job, E_INVALID, "which actor? name it, or give its pid");
		return false;
	}
	if (text[0] == '<') {
		if (pid_parse(text, actor_pid(self).node, &job->target) == OK)
			return true;
		job_answer(self, job, E_INVALID, "\"%s\" is not a pid of this node", text);
		return false;
	}
	job->target = actor_whereis(self, text);
	str_copy(job->actor, sizeof(job->actor), text);
	if (!pid_is_none(job->target))
		return true;
	job_answer(self, job, E_NOT_FOUND, "no actor is called \"%.100s\"", text);
	return false;
}

/* Runs steps for as long as none of them waits; frees the job when it is answered. */
static void job_run(struct actor *self, struct job *job)
{
	while (job->verb && job->pending == 0) {
		step_fn *step = job->step < JOB_STEPS_MAX ? job->verb->steps[job->step] : NULL;

		if (!step) {
			job_answer(self, job, E_INTERNAL, "%s ended without an answer", job->verb->name);
			break;
		}
		job->step++;
		step(self, job);
	}
	if (!job->verb)
		job_free(self, job);
}

/* ---- messages ---------------------------------------------------------------------------------------------- */

static enum status on_request(struct actor *self, struct msg *m)
{
	struct admin *a = actor_state(self);
	const struct verb *verb = admin_verb_find(admin_request_of(m)->verb);
	struct job *job;

	if (!verb) {
		char text[128];

		snprintf(text, sizeof(text), "this node doesn't know \"%s\"", admin_request_of(m)->verb);
		answer(self, m, E_UNSUPPORTED, text, ADMIN_NOTHING, NULL);
		return OK;
	}
	job = a->n_jobs < JOBS_MAX ? calloc(1, sizeof(*job)) : NULL;
	if (!job) {
		answer(self, m, E_FULL, "too many requests at once, try again", ADMIN_NOTHING, NULL);
		return OK;
	}
	job->request = actor_keep(self, m);
	job->verb = verb;
	job->id = a->next_job++;
	list_push_back(&a->jobs, &job->link);
	a->n_jobs++;
	job_run(self, job);
	return OK;
}

static void part_fill(struct part *p, struct msg *m, bool as_it_is)
{
	struct writer line;

	p->tag = m->tag;
	p->status = m->status;
	if (m->tag == TABLE) {
		p->bytes = slice_take(&table_of(m)->rows);
	} else if (m->tag == KERNEL_SNAPSHOT) {
		p->bytes = slice_take(&kernel_snapshot_of(m)->values);
	} else if (m->tag == DONE) {
		p->status = done_of(m)->status;
		str_copy(p->text, sizeof(p->text), done_of(m)->text);
	} else if (m->tag == ASK_FAILED) {
		p->status = ask_failed_of(m)->status;
	} else if (m->tag == TABLET_SERVING && !as_it_is) {
		const struct tablet_serving *t = tablet_serving_of(m);

		p->status = t->serving ? OK : E_STATE;
		if (t->serving)
			snprintf(p->text, sizeof(p->text), "serving %s", t->address);
		else
			str_copy(p->text, sizeof(p->text), t->why);
	} else {
		writer_init(&line, 4096);
		msg_print(m, &line);
		writer_u8(&line, 0);
		if (line.buf && !line.failed)
			str_copy(p->text, sizeof(p->text), (const char *)line.buf->data);
		writer_release(&line);
	}
}

/* Any reply to an ask of ours. */
static enum status on_reply(struct actor *self, struct msg *m)
{
	struct admin *a = actor_state(self);

	if (!(m->bits & MSG_IS_REPLY))
		return OK;
	list_each(it, &a->jobs)
	{
		struct job *job = LIST_ITEM(it, struct job, link);

		for (uint32_t i = 0; i < job->n_parts; i++) {
			struct part *p = &job->parts[i];

			if (p->settled || p->corr != m->corr)
				continue;
			p->settled = true;
			part_fill(p, m, strcmp(job->verb->name, "send") == 0);
			job->pending--;
			job_run(self, job);
			return OK;
		}
	}
	return OK;
}

/* The end of an actor that `kill` waits for. */
static enum status on_down(struct actor *self, struct msg *m)
{
	struct admin *a = actor_state(self);
	const struct down *d = down_of(m);

	list_each(it, &a->jobs)
	{
		struct job *job = LIST_ITEM(it, struct job, link);

		if (!job->monitor || job->monitor != d->ref)
			continue;
		job->monitor = 0;
		if (d->status == E_NOPROC)
			job_answer(self, job, E_NOPROC, "no such actor, or it is gone already");
		else
			job_answer(self, job, OK, "ended (%s)", status_name((enum status)d->status));
		job_free(self, job);
		return OK;
	}
	return OK;
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	struct admin *a = actor_state(self);
	uint64_t key = timer_of(m)->key;

	if (key == KEY_TRACE) {
		if (tracer_expire(self, a->tracer))
			actor_timer(self, KEY_TRACE, TRACE_TICK_MS);
		return OK;
	}
	list_each(it, &a->jobs)
	{
		struct job *job = LIST_ITEM(it, struct job, link);

		if (KEY_JOB + job->id != key)
			continue;
		job_answer(self, job, E_TIMEOUT, "it was told to end, but has not ended yet");
		job_free(self, job);
		return OK;
	}
	return OK;
}

static enum status on_traced(struct actor *self, struct msg *m)
{
	tracer_take(admin_tracer(self), traced_of(m));
	return OK;
}

void job_watch(struct actor *self, struct job *job, uint32_t timeout_ms)
{
	job->pending++;
	job->monitor = actor_monitor(self, job->target);
	actor_timer(self, KEY_JOB + job->id, timeout_ms);
}

struct tracer *admin_tracer(struct actor *self)
{
	return ((struct admin *)actor_state(self))->tracer;
}

const struct admin_config *admin_config(struct actor *self)
{
	return &((struct admin *)actor_state(self))->config;
}

void admin_trace_timer(struct actor *self)
{
	actor_timer(self, KEY_TRACE, TRACE_TICK_MS);
}

/* ---- life -------------------------------------------------------------------------------------------------- */

static enum status admin_init(struct actor *self, const void *args, size_t size)
{
	struct admin *a = actor_state(self);

	check(size == sizeof(a->config));
	memcpy(&a->config, args, sizeof(a->config));
	list_init(&a->jobs);
	a->next_job = 1;
	a->tracer = tracer_new();
	return a->tracer ? OK : E_NOMEM;
}

static void admin_exit(struct actor *self, enum status why)
{
	struct admin *a = actor_state(self);

	(void)why;
	while (a->jobs.next && !list_empty(&a->jobs)) {
		struct job *job = LIST_ITEM(a->jobs.next, struct job, link);

		if (job->verb)
			job_answer(self, job, E_NOPROC, "the admin actor ended meanwhile, try again");
		job_free(self, job);
	}
	tracer_free(a->tracer);
}

static void admin_show(const struct actor *self, struct writer *text)
{
	writer_printf(text, "%u requests under way", ((struct admin *)actor_state(self))->n_jobs);
}

/* Fixed ones first, then every message that may be an answer; the rest of the table repeats the first. */
static struct rule admin_rules[RULES_MAX] = {
	{STATE_ANY, ADMIN_REQUEST, on_request},
	{STATE_ANY, DOWN, on_down},
	{STATE_ANY, TIMER, on_timer},
	{STATE_ANY, TRACED, on_traced},
	{STATE_ANY, ASK_FAILED, on_reply},
};
static uint32_t n_fixed = 5, n_rules;

static void add_rule(const struct msg_desc *d, void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < n_fixed; i++)
		if (admin_rules[i].tag == d->tag)
			return;
	if ((d->flags & MSG_ASK) || d->tag >> 8 == 0x01 || n_rules == RULES_MAX)
		return;
	admin_rules[n_rules++] = (struct rule){STATE_ANY, d->tag, on_reply};
}

void admin_prepare(void)
{
	n_rules = n_fixed;
	catalog_each(add_rule, NULL);
	for (uint32_t i = n_rules; i < RULES_MAX; i++)
		admin_rules[i] = admin_rules[0];
}

const struct behaviour admin_behaviour = {
	.name = "supervisor.admin",
	.state_size = sizeof(struct admin),
	.rules = admin_rules,
	.n_rules = RULES_MAX,
	.states = admin_state_names,
	.n_states = ARRAY_LEN(admin_state_names),
	.init = admin_init,
	.exit = admin_exit,
	.show = admin_show,
};

MSG_FOLDER_DEFINE(admin, ADMIN_MESSAGES);
