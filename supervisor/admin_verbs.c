/* What the node can be asked and told, each verb as steps (admin.h). The list is at the end. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "actors/tablet/messages.h"
#include "runtime/base/bytes.h"
#include "runtime/base/metrics.h"
#include "runtime/core/supervise.h"
#include "runtime/flow/messages.h"
#include "runtime/store/messages.h"
#include "topo/messages.h"
#include "supervisor/admin.h"
#include "supervisor/version.h"

enum { BODY_BYTES = ADMIN_BODY_MAX, KILL_WAIT_MS = 3000, WORKER_NAMES_MAX = WORKERS_MAX };

/* ---- shared steps ------------------------------------------------------------------------------------------- */

/* The rows of all parts in one table, with the worker in front unless they say it themselves. */
static void step_merge(struct actor *self, struct job *job)
{
	const char *columns[TABLE_COLUMNS_MAX + 1] = {"worker"};
	char names[TABLE_COLUMNS_MAX][64];
	struct cell cells[TABLE_COLUMNS_MAX];
	struct table_writer t;
	struct slice body;
	uint32_t n_columns = 0, extra = 0;

	for (uint32_t i = 0; i < job->n_parts; i++) {
		struct part *p = &job->parts[i];
		struct table_reader r;

		if (p->tag != TABLE || table_read(&r, slice_data(&p->bytes), p->bytes.len))
			continue;
		if (n_columns == 0) {
			n_columns = r.n_columns;
			extra = !cell_is(&r.columns[0], "worker");
			for (uint32_t c = 0; c < n_columns; c++)
				columns[c + extra] = cell_text(&r.columns[c], names[c], sizeof(names[c]));
			table_begin(&t, columns, n_columns + extra, BODY_BYTES);
		}
		while (r.n_columns == n_columns && table_next(&r, cells)) {
			if (extra)
				table_u64(&t, p->worker);
			for (uint32_t c = 0; c < n_columns; c++)
				cell_copy(&t, &cells[c]);
		}
	}
	if (n_columns == 0) {
		job_answer(self, job, E_NOPROC, "nobody answered");
		return;
	}
	body = table_end(&t);
	job_answer_body(self, job, ADMIN_TABLE, &body);
}

/* Passes the one answer on as it is. */
static void step_pass(struct actor *self, struct job *job)
{
	struct part *p = &job->parts[0];

	if (p->tag == TABLE)
		job_answer_body(self, job, ADMIN_TABLE, &p->bytes);
	else if (p->tag == ASK_FAILED)
		job_answer(self, job, (enum status)p->status, "no answer (%s)",
			status_name((enum status)p->status));
	else
		job_answer(self, job, (enum status)p->status, "%s", p->text);
}

/* Asks a named actor; answers itself when there is none. */
static bool ask_named(struct actor *self, struct job *job, const char *name, struct msg **m)
{
	struct pid to = actor_whereis(self, name);

	if (pid_is_none(to)) {
		msg_discard(self, *m);
		job_answer(self, job, E_NOT_FOUND, "there is no %s on this node", name);
		return false;
	}
	job_ask(self, job, to, m, ADMIN_ASK_MS);
	return true;
}

/* ---- actors ------------------------------------------------------------------------------------------------- */

static void verb_actors(struct actor *self, struct job *job)
{
	job_ask_kernels(self, job, KERNEL_ACTORS);
}

/* Every supervisor among the rows is asked for its children: they know how often each was restarted. */
static void actors_children(struct actor *self, struct job *job)
{
	uint32_t n = job->n_parts;

	job->value = n;
	for (uint32_t i = 0; i < n; i++) {
		struct cell cells[TABLE_COLUMNS_MAX];
		struct table_reader r;
		int pid_at, behaviour_at;

		if (job->parts[i].tag != TABLE ||
			table_read(&r, slice_data(&job->parts[i].bytes), job->parts[i].bytes.len))
			continue;
		pid_at = table_column(&r, "pid");
		behaviour_at = table_column(&r, "behaviour");
		while (pid_at >= 0 && behaviour_at >= 0 && table_next(&r, cells) &&
			job->n_parts < JOB_PARTS_MAX) {
			char text[PID_TEXT_MAX];
			struct pid pid;
			struct msg *m;

			if (!cell_is(&cells[behaviour_at], supervisor_behaviour.name) ||
				pid_parse(cell_text(&cells[pid_at], text, sizeof(text)), actor_pid(self).node,
					&pid))
				continue;
			sup_children_new(self, &m);
			job_ask(self, job, pid, &m, ADMIN_ASK_MS);
		}
	}
}

/* How often the child of that pid was restarted; false when no supervisor knows it. */
static bool restarts_of(const struct job *job, const struct cell *pid, uint64_t *restarts)
{
	struct cell cells[TABLE_COLUMNS_MAX];
	struct table_reader r;

	for (uint32_t i = (uint32_t)job->value; i < job->n_parts; i++) {
		const struct part *p = &job->parts[i];
		int pid_at, restarts_at;

		if (p->tag != TABLE || table_read(&r, slice_data(&p->bytes), p->bytes.len))
			continue;
		pid_at = table_column(&r, "pid");
		restarts_at = table_column(&r, "restarts");
		while (pid_at >= 0 && restarts_at >= 0 && table_next(&r, cells)) {
			const struct cell *c = &cells[pid_at];

			if (c->kind == CELL_STR && c->n == pid->n && memcmp(c->s, pid->s, c->n) == 0) {
				*restarts = cells[restarts_at].u;
				return true;
			}
		}
	}
	return false;
}

static void actors_finish(struct actor *self, struct job *job)
{
	static const char *const columns[] = {"pid", "name", "behaviour", "parent", "state", "mailbox",
		"handled", "busy_us", "restarts", "detail"};
	struct cell cells[TABLE_COLUMNS_MAX];
	struct table_writer t;
	struct slice body;

	table_begin(&t, columns, ARRAY_LEN(columns), BODY_BYTES);
	for (uint32_t i = 0; i < job->value; i++) {
		struct part *p = &job->parts[i];
		struct table_reader r;
		int at[ARRAY_LEN(columns)];

		if (p->tag != TABLE || table_read(&r, slice_data(&p->bytes), p->bytes.len))
			continue;
		for (size_t c = 0; c < ARRAY_LEN(columns); c++)
			at[c] = table_column(&r, columns[c]);
		while (at[0] >= 0 && table_next(&r, cells)) {
			/* Only named actors are asked after: sessions come in thousands and have no supervisor. */
			bool named = at[1] >= 0 && cells[at[1]].n > 0;
			uint64_t restarts;

			for (size_t c = 0; c < ARRAY_LEN(columns); c++) {
				if (at[c] >= 0)
					cell_copy(&t, &cells[at[c]]);
				else if (c == 8 && named && restarts_of(job, &cells[at[0]], &restarts))
					table_u64(&t, restarts);
				else
					table_nil(&t);
			}
		}
	}
	body = table_end(&t);
	job_answer_body(self, job, ADMIN_TABLE, &body);
}

/* ---- kill, restart ------------------------------------------------------------------------------------------- */

static bool reason_parse(const char *text, enum status *out)
{
	for (int i = 0; i < STATUS_COUNT; i++)
		if (i != OK && strcmp(text, status_name((enum status)i)) == 0) {
			*out = (enum status)i;
			return true;
		}
	return false;
}

static void verb_kill(struct actor *self, struct job *job)
{
	char reason[32] = "killed";
	enum status why;

	if (!job_target(self, job))
		return;
	if (!job_arg(job, "reason", reason, sizeof(reason)) || !reason[0])
		str_copy(reason, sizeof(reason), "killed");
	if (!reason_parse(reason, &why)) {
		job_answer(self, job, E_INVALID,
			"\"%s\" is no reason: killed, shutdown, normal, crashed, ... are", reason);
	} else if (pid_slot(job->target) == 0) {
		job_answer(self, job, E_DENIED, "a worker's kernel lives as long as its worker");
	} else if (pid_equal(job->target, actor_pid(self)) ||
		   pid_equal(job->target, actor_whereis(self, "root"))) {
		job_answer(self, job, OK, "told to end"); /* it takes us along */
		actor_exit(self, job->target, why);
	} else {
		job_watch(self, job, KILL_WAIT_MS);
		actor_exit(self, job->target, why);
	}
}

static void verb_restart(struct actor *self, struct job *job)
{
	if (job_target(self, job))
		job_ask_kernels(self, job, KERNEL_ACTORS);
}

/* Finds the target's row, and with it its supervisor, which is asked to restart it by name. */
static void restart_ask(struct actor *self, struct job *job)
{
	char target[PID_TEXT_MAX], text[PID_TEXT_MAX];
	struct pid parent = PID_NONE;

	pid_format(job->target, target);
	for (uint32_t i = 0; i < job->n_parts; i++) {
		struct part *p = &job->parts[i];
		struct cell cells[TABLE_COLUMNS_MAX];
		struct table_reader r;
		int pid_at, parent_at, name_at;

		if (p->tag != TABLE || table_read(&r, slice_data(&p->bytes), p->bytes.len))
			continue;
		pid_at = table_column(&r, "pid");
		parent_at = table_column(&r, "parent");
		name_at = table_column(&r, "name");
		while (pid_at >= 0 && parent_at >= 0 && name_at >= 0 && table_next(&r, cells)) {
			if (!cell_is(&cells[pid_at], target))
				continue;
			cell_text(&cells[name_at], job->actor, sizeof(job->actor));
			if (pid_parse(cell_text(&cells[parent_at], text, sizeof(text)), actor_pid(self).node,
				    &parent))
				parent = PID_NONE;
		}
	}
	if (pid_is_none(parent) || !job->actor[0]) {
		job_answer(self, job, E_STATE, "%s has no supervisor that could restart it", target);
	} else {
		struct msg *m;

		str_copy(sup_restart_child_new(self, &m)->name, sizeof(((struct sup_restart_child *)0)->name),
			job->actor);
		job->value = job->n_parts;
		job_ask(self, job, parent, &m, ADMIN_LONG_MS);
	}
}

static void restart_finish(struct actor *self, struct job *job)
{
	const struct part *p = &job->parts[job->value];

	if (p->tag == DONE && p->status == OK)
		job_answer(self, job, OK, "restarted");
	else if (p->tag == DONE)
		job_answer(self, job, (enum status)p->status, "%s", p->text);
	else
		job_answer(self, job, (enum status)p->status,
			"its parent is no supervisor, or did not answer (%s)",
			status_name((enum status)p->status));
}

/* ---- send --------------------------------------------------------------------------------------------------- */

static void verb_send(struct actor *self, struct job *job)
{
	const struct slice *args = &admin_request_of(job->request)->args;
	const struct msg_desc *d;
	struct error err = {0};
	struct unpack fields;
	char type[64];
	struct msg *m;

	if (!job_target(self, job))
		return;
	if (!job_arg(job, "type", type, sizeof(type)) || !(d = catalog_find_name(type))) {
		job_answer(self, job, E_NOT_FOUND, "no message is called \"%s\"", type);
		return;
	}
	if (d->tag == KERNEL_SPAWN || d->tag == WORK_DONE) {
		job_answer(self, job, E_DENIED,
			"%s holds addresses of this process and can't be sent by hand", type);
		return;
	}
	m = actor_msg_new(self, d->tag);
	if (map_find(slice_data(args), args->len, "fields", &fields) &&
		inject_fill(self, d, msg_body(m), &fields, &err)) {
		msg_discard(self, m);
		job_answer(self, job, err.status, "%s", err.text);
	} else if (d->flags & MSG_ASK) {
		job_ask(self, job, job->target, &m, ADMIN_LONG_MS);
	} else {
		actor_send(self, job->target, &m);
		job_answer(self, job, OK, "sent");
	}
}

/* ---- looking ------------------------------------------------------------------------------------------------- */

static void verb_dead_letters(struct actor *self, struct job *job)
{
	job_ask_kernels(self, job, KERNEL_DEAD_LETTERS);
}

static void verb_metrics(struct actor *self, struct job *job)
{
	job_ask_kernels(self, job, KERNEL_METRICS);
}

static bool metrics_sum(const struct job *job, struct metric_values *sum)
{
	bool all = true;

	memset(sum, 0, sizeof(*sum));
	for (uint32_t i = 0; i < job->n_parts; i++) {
		const struct part *p = &job->parts[i];

		if (p->tag == KERNEL_SNAPSHOT)
			all &= metric_decode(slice_data(&p->bytes), p->bytes.len, sum) == OK;
	}
	return all;
}

static void metrics_finish(struct actor *self, struct job *job)
{
	struct metric_values *sum = malloc(sizeof(*sum));
	struct writer out;
	struct slice body;

	check(sum != NULL);
	writer_init(&out, BODY_BYTES);
	if (metrics_sum(job, sum))
		metric_render(sum, &out);
	body = writer_take(&out);
	job_answer_body(self, job, ADMIN_TEXT, &body);
	metric_values_release(sum);
	free(sum);
}

static void verb_pools(struct actor *self, struct job *job)
{
	for (uint8_t i = 0; i < actor_worker_count(self); i++) {
		struct pid pool;
		char name[16];
		struct msg *m;

		snprintf(name, sizeof(name), "pool.%u", i);
		pool = actor_whereis(self, name);
		if (pid_is_none(pool))
			continue;
		pool_show_new(self, &m);
		job_ask(self, job, pool, &m, ADMIN_ASK_MS);
	}
	if (job->n_parts == 0)
		job_answer(self, job, E_NOT_FOUND, "there are no pools on this node");
}

static void verb_store(struct actor *self, struct job *job)
{
	char table[STORE_TABLE_MAX + 1], key[STORE_KEY_MAX + 1];
	struct msg *m;

	job_arg(job, "table", table, sizeof(table));
	if (job_arg(job, "key", key, sizeof(key))) {
		struct store_print *p = store_print_new(self, &m);

		str_copy(p->table, sizeof(p->table), table);
		str_copy(p->key, sizeof(p->key), key);
	} else {
		str_copy(store_list_new(self, &m)->table, sizeof(table), table);
	}
	ask_named(self, job, "store", &m);
}

static void verb_topo(struct actor *self, struct job *job)
{
	struct msg *m;

	topo_show_new(self, &m);
	ask_named(self, job, "topo", &m);
}

static void verb_workflows(struct actor *self, struct job *job)
{
	char id[128];
	struct msg *m;

	if (job_arg(job, "id", id, sizeof(id)))
		str_copy(flow_show_new(self, &m)->id, sizeof(((struct flow_show *)0)->id), id);
	else
		flow_list_new(self, &m);
	ask_named(self, job, "flow", &m);
}

/* ---- status ------------------------------------------------------------------------------------------------- */

static void verb_status(struct actor *self, struct job *job)
{
	struct pid tablet = actor_whereis(self, "tablet");
	struct msg *m;

	job_ask_kernels(self, job, KERNEL_METRICS);
	if (pid_is_none(tablet))
		return;
	tablet_where_new(self, &m);
	job_ask(self, job, tablet, &m, ADMIN_ASK_MS);
}

static void fact(struct table_writer *t, const char *what, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void fact(struct table_writer *t, const char *what, const char *fmt, ...)
{
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	table_str(t, what);
	table_str(t, text);
}

static void fact_gates(struct actor *self, struct table_writer *t)
{
	uint32_t up = 0;

	for (uint8_t i = 0; i < actor_worker_count(self); i++) {
		char name[16];

		snprintf(name, sizeof(name), "gate.%u", i);
		up += !pid_is_none(actor_whereis(self, name));
	}
	fact(t, "gate", "%s, %u of %u listening", admin_config(self)->listen, up, actor_worker_count(self));
}

static void fact_metrics(struct table_writer *t, const struct job *job)
{
	static const struct {
		const char *metric, *what;
	} shown[] = {
		{"multigres_gate_clients", "clients"},
		{"multigres_runtime_actors", "actors"},
		{"multigres_runtime_messages_total", "messages handled"},
		{"multigres_runtime_crashed_total", "actors failed"},
		{"multigres_runtime_dead_letters_total", "dead letters"},
	};
	struct metric_values *sum = malloc(sizeof(*sum));

	check(sum != NULL);
	if (metrics_sum(job, sum))
		for (size_t s = 0; s < ARRAY_LEN(shown); s++)
			for (uint32_t i = 0; i < metric_n(); i++)
				if (strcmp(metric_info(i)->name, shown[s].metric) == 0)
					fact(t, shown[s].what, "%lld", (long long)sum->values[i]);
	metric_values_release(sum);
	free(sum);
}

static void status_finish(struct actor *self, struct job *job)
{
	static const char *const columns[] = {"what", "value"};
	const struct admin_config *c = admin_config(self);
	const struct part *last = &job->parts[job->n_parts - 1];
	char pid[PID_TEXT_MAX];
	struct table_writer t;
	struct slice body;

	table_begin(&t, columns, ARRAY_LEN(columns), BODY_BYTES);
	fact(&t, "version", "%s", MULTIGRES_VERSION);
	fact(&t, "process", "%d", (int)getpid());
	fact(&t, "node", "%s", pid_format(actor_pid(self), pid));
	fact(&t, "up", "%llu s", (unsigned long long)(actor_wall_us(self) - c->started_wall_us) / 1000000);
	fact(&t, "data", "%s", c->data);
	fact(&t, "workers", "%u", actor_worker_count(self));
	fact_gates(self, &t);
	if (last->tag == TABLET_SERVING)
		fact(&t, "tablet", "%s", last->text);
	else
		fact(&t, "tablet", "does not answer");
	fact_metrics(&t, job);
	body = table_end(&t);
	job_answer_body(self, job, ADMIN_TABLE, &body);
}

/* ---- ready, stop --------------------------------------------------------------------------------------------- */

static void verb_ready(struct actor *self, struct job *job)
{
	struct msg *m;

	for (uint8_t i = 0; i < actor_worker_count(self); i++) {
		char name[16];

		snprintf(name, sizeof(name), "gate.%u", i);
		if (pid_is_none(actor_whereis(self, name))) {
			job_answer(self, job, E_STATE, "%s is not listening", name);
			return;
		}
	}
	tablet_where_new(self, &m);
	ask_named(self, job, "tablet", &m);
}

static void ready_finish(struct actor *self, struct job *job)
{
	const struct part *p = &job->parts[0];

	if (p->tag == TABLET_SERVING && p->status == OK)
		job_answer(self, job, OK, "ready");
	else
		job_answer(self, job, E_STATE, "the tablet is not serving: %s", p->text);
}

static void verb_stop(struct actor *self, struct job *job)
{
	job_answer(self, job, OK, "stopping");
	kill(getpid(), SIGTERM); /* drive_wait gets it, as when an operator sends it */
}

static void verb_version(struct actor *self, struct job *job)
{
	job_answer(self, job, OK, "%s", MULTIGRES_VERSION);
}

static const struct verb verbs[] = {
	{"status", {verb_status, status_finish}},
	{"actors", {verb_actors, actors_children, actors_finish}},
	{"kill", {verb_kill}},
	{"restart", {verb_restart, restart_ask, restart_finish}},
	{"send", {verb_send, step_pass}},
	{"trace", {verb_trace, verb_trace_ready}},
	{"trace-poll", {verb_trace_poll}},
	{"trace-stop", {verb_trace_stop}},
	{"dead-letters", {verb_dead_letters, step_merge}},
	{"metrics", {verb_metrics, metrics_finish}},
	{"pools", {verb_pools, step_merge}},
	{"store", {verb_store, step_pass}},
	{"workflows", {verb_workflows, step_pass}},
	{"topo", {verb_topo, step_pass}},
	{"ready", {verb_ready, ready_finish}},
	{"stop", {verb_stop}},
	{"version", {verb_version}},
};

const struct verb *admin_verb_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}
