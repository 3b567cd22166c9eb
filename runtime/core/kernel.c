/*
 * The kernel: slot 0 of each worker. It spawns for other workers, keeps the half edges of remote watchers, takes in
 * names and groups, and answers who looks in: actors, dead letters, metrics, traces.
 */
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/core/codec.h"
#include "runtime/core/internal.h"
#include "runtime/core/table.h"

enum { TABLE_BYTES = 8 << 20, SHOW_MAX = 400 };

#define KERNEL_STATES(S) S(RUNNING)
STATES(kernel, KERNEL_STATES);

static enum status on_spawn(struct actor *self, struct msg *m)
{
	struct kernel_spawn *k = kernel_spawn_of(m);
	struct worker *w = self->worker;
	struct spawn what = {.behaviour = (const struct behaviour *)(uintptr_t)k->behaviour,
		.args = slice_data(&k->args),
		.args_size = k->args.len,
		.name = k->name[0] ? k->name : NULL};
	struct pid pid;
	enum status st = actor_create(w, NULL, k->parent, &what, &pid);
	struct msg *out;

	if (st != OK) {
		actor_reply_status(self, m, st, "%s", w->reason);
		return OK;
	}
	kernel_spawned_new(self, &out)->pid = pid;
	actor_reply(self, m, &out);
	return OK;
}

static enum status on_monitor(struct actor *self, struct msg *m)
{
	struct kernel_monitor *k = kernel_monitor_of(m);
	struct worker *w = self->worker;
	struct msg *out;

	if (actor_find(w, k->target)) {
		edge_add(w, k->source, k->target, k->ref, k->kind);
		return OK;
	}
	if (k->kind == EDGE_LINK) {
		struct exit_signal *e = exit_signal_new(self, &out);

		e->who = k->target;
		e->status = E_NOPROC;
	} else {
		struct down *d = down_new(self, &out);

		d->who = k->target;
		d->ref = k->ref;
		d->status = E_NOPROC;
	}
	actor_send(self, k->source, &out);
	return OK;
}

static enum status on_demonitor(struct actor *self, struct msg *m)
{
	struct kernel_demonitor *k = kernel_demonitor_of(m);
	struct actor *a = actor_find(self->worker, k->target);

	for (struct hnode *n = a ? a->watchers.first : NULL; n; n = n->next) {
		struct edge *e = CONTAINER_OF(n, struct edge, in_watchers);

		if (e->ref == k->ref && pid_equal(e->source, m->from)) {
			edge_free(self->worker, e);
			break;
		}
	}
	return OK;
}

static enum status on_name(struct actor *self, struct msg *m)
{
	struct kernel_name *k = kernel_name_of(m);

	if (m->status == OK)
		(void)!names_add(self->worker, k->name, k->pid, false); /* a crossing is dealt with inside */
	else
		names_remove(self->worker, k->name, k->pid, false);
	return OK;
}

static enum status on_group(struct actor *self, struct msg *m)
{
	struct kernel_group *k = kernel_group_of(m);

	groups_change(self->worker, k->name, k->pid, k->join, false);
	return OK;
}

static void answer_table(struct actor *self, struct msg *m, struct table_writer *t)
{
	struct msg *out;

	table_new(self, &out)->rows = table_end(t);
	actor_reply(self, m, &out);
}

static void show_actor(struct table_writer *t, const struct actor *a)
{
	const struct behaviour *b = a->dispatch->behaviour;
	char text[PID_TEXT_MAX];
	struct writer show;

	table_str(t, pid_format(a->pid, text));
	table_str(t, a->name ? a->name : "");
	table_str(t, b->name);
	table_str(t, pid_is_none(a->parent) ? "" : pid_format(a->parent, text));
	table_str(t, b->states[a->state]);
	table_u64(t, a->mail_len);
	table_u64(t, a->handled);
	table_u64(t, a->ticks / a->worker->driver->ticks_per_us);
	writer_init(&show, SHOW_MAX);
	if (b->show)
		b->show(a, &show);
	writer_u8(&show, 0);
	table_str(t, show.failed || !show.buf ? "" : (const char *)show.buf->data);
	writer_release(&show);
}

static enum status on_actors(struct actor *self, struct msg *m)
{
	static const char *const columns[] = {
		"pid", "name", "behaviour", "parent", "state", "mailbox", "handled", "busy_us", "detail"};
	struct worker *w = self->worker;
	struct table_writer t;

	table_begin(&t, columns, ARRAY_LEN(columns), TABLE_BYTES);
	for (uint32_t i = 0; i < w->n_slots; i++)
		if (w->slots[i].actor)
			show_actor(&t, w->slots[i].actor);
	answer_table(self, m, &t);
	return OK;
}

static enum status on_dead_letters(struct actor *self, struct msg *m)
{
	static const char *const columns[] = {"age_us", "message", "from", "to", "why"};
	struct worker *w = self->worker;
	uint64_t first = w->n_dead > DEAD_LETTERS_KEPT ? w->n_dead - DEAD_LETTERS_KEPT : 0;
	struct table_writer t;
	char text[PID_TEXT_MAX];

	table_begin(&t, columns, ARRAY_LEN(columns), TABLE_BYTES);
	for (uint64_t i = first; i < w->n_dead; i++) {
		const struct dead_letter *d = &w->dead[i % DEAD_LETTERS_KEPT];

		table_u64(&t, w->now_us - d->at_us);
		table_str(&t, catalog_name(d->tag));
		table_str(&t, pid_format(d->from, text));
		table_str(&t, pid_format(d->to, text));
		table_str(&t, status_name(d->why));
	}
	answer_table(self, m, &t);
	return OK;
}

static enum status on_metrics(struct actor *self, struct msg *m)
{
	struct worker *w = self->worker;
	struct writer out;
	struct msg *reply;

	core_metrics_store(w);
	writer_init(&out, 1 << 20);
	metric_encode(&w->metrics, &out);
	kernel_snapshot_new(self, &reply)->values = writer_take(&out);
	actor_reply(self, m, &reply);
	return OK;
}

static enum status on_trace(struct actor *self, struct msg *m)
{
	struct kernel_trace *k = kernel_trace_of(m);
	struct worker *w = self->worker;
	struct actor *a = actor_find(w, k->who);

	if (!a) {
		actor_reply_status(self, m, E_NOPROC, "no such actor");
		return OK;
	}
	w->tracer = k->tracer;
	if (pid_is_none(k->tracer))
		a->bits &= (uint8_t)~ACTOR_TRACED;
	else
		a->bits |= ACTOR_TRACED;
	actor_reply_status(self, m, OK, NULL);
	return OK;
}

/* Makes the report while the message is still there; trace_end adds the state that followed and sends it. */
struct msg *trace_begin(struct actor *a, struct msg *m)
{
	struct worker *w = a->worker;
	struct writer line;
	struct msg *out;
	struct traced *t;

	if (pid_is_none(w->tracer) || pid_equal(w->tracer, a->pid) || m->tag == TRACED)
		return NULL;
	out = worker_msg_new(w, TRACED);
	t = traced_of(out);
	t->who = a->pid;
	t->from = m->from;
	t->at_us = w->now_us;
	t->tag = m->tag;
	str_copy(t->state, sizeof(t->state), a->dispatch->behaviour->states[a->state]);
	writer_init(&line, 1 << 16);
	msg_print(m, &line);
	writer_u8(&line, 0);
	if (!line.failed)
		str_copy(t->message, sizeof(t->message), (const char *)line.buf->data);
	writer_release(&line);
	return out;
}

void trace_end(struct actor *a, struct msg *report)
{
	struct worker *w = a->worker;
	struct traced *t = traced_of(report);

	str_copy(t->next_state, sizeof(t->next_state), a->dispatch->behaviour->states[a->state]);
	report->from = pid_make(w->node, w->index, 0, 1);
	report->to = w->tracer;
	worker_route(w, report);
}

/* ---- the worker's own counters as metrics -------------------------------------------------------------------- */

#define CORE_METRICS(M)                                                                                      \
	M(messages, "multigres_runtime_messages_total", "messages handled by actors", METRIC_COUNTER)        \
	M(turns, "multigres_runtime_turns_total", "turns given to actors", METRIC_COUNTER)                   \
	M(spawned, "multigres_runtime_spawned_total", "actors started", METRIC_COUNTER)                      \
	M(exited, "multigres_runtime_exited_total", "actors ended", METRIC_COUNTER)                          \
	M(crashed, "multigres_runtime_crashed_total", "actors ended by a failure", METRIC_COUNTER)           \
	M(dead_letters, "multigres_runtime_dead_letters_total", "messages nobody handled", METRIC_COUNTER)   \
	M(asks, "multigres_runtime_asks_total", "asks sent", METRIC_COUNTER)                                 \
	M(asks_failed, "multigres_runtime_asks_failed_total", "asks that got no answer", METRIC_COUNTER)     \
	M(timers_fired, "multigres_runtime_timers_fired_total", "timers that came due", METRIC_COUNTER)      \
	M(mailbox_full, "multigres_runtime_mailbox_full_total", "messages that met a full mailbox",          \
		METRIC_COUNTER)                                                                              \
	M(actors, "multigres_runtime_actors", "actors alive", METRIC_GAUGE)                                  \
	M(live_messages, "multigres_runtime_live_messages", "messages in mailboxes or held", METRIC_GAUGE)

#define METRIC_ID(field, name, help, kind) uint32_t field;
static struct {
	CORE_METRICS(METRIC_ID)
	uint32_t busy_us;
} ids;

void core_metrics_declare(void)
{
	static bool done;

	if (done)
		return;
	done = true;
#define METRIC_DECLARE(field, name, help, kind) ids.field = metric_declare(name, help, kind, NULL);
	CORE_METRICS(METRIC_DECLARE)
	ids.busy_us = metric_declare(
		"multigres_runtime_busy_microseconds_total", "time spent in actors", METRIC_COUNTER, NULL);
}

void core_metrics_store(struct worker *w)
{
#define METRIC_STORE(field, name, help, kind) w->metrics.values[ids.field] = (int64_t)w->stats.field;
	CORE_METRICS(METRIC_STORE)
	w->metrics.values[ids.busy_us] = (int64_t)(w->stats.busy_ticks / w->driver->ticks_per_us);
}

static const struct rule kernel_rules[] = {
	{STATE_ANY, KERNEL_SPAWN, on_spawn},
	{STATE_ANY, KERNEL_MONITOR, on_monitor},
	{STATE_ANY, KERNEL_DEMONITOR, on_demonitor},
	{STATE_ANY, KERNEL_NAME, on_name},
	{STATE_ANY, KERNEL_GROUP, on_group},
	{STATE_ANY, KERNEL_ACTORS, on_actors},
	{STATE_ANY, KERNEL_DEAD_LETTERS, on_dead_letters},
	{STATE_ANY, KERNEL_METRICS, on_metrics},
	{STATE_ANY, KERNEL_TRACE, on_trace},
};

const struct behaviour kernel_behaviour = {.name = "kernel",
	.rules = kernel_rules,
	.n_rules = ARRAY_LEN(kernel_rules),
	.states = kernel_state_names,
	.n_states = ARRAY_LEN(kernel_state_names)};
