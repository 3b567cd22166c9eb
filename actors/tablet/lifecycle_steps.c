/*
 * The bring-up of our own Postgres as a durable workflow. Each step looks before it acts, so that it may be repeated
 * after a crash at any point:
 *
 *	check_binaries -> prepare_directories -> initdb -> configure -> start -> wait_ready -> check_roles
 *
 * Files are handled on helper threads (postgres_files.c); initdb is a child of this actor; Postgres itself belongs to
 * the tablet, which is asked to start it.
 */
#include "actors/tablet/lifecycle_steps.h"

#include <signal.h>
#include <unistd.h>

#include "actors/tablet/control.h"
#include "actors/tablet/lifecycle_messages.h"
#include "actors/tablet/postgres.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/core/codec.h"
#include "runtime/core/io.h"
#include "runtime/flow/flow.h"

MSG_FOLDER_DEFINE(lifecycle, LIFECYCLE_MESSAGES);

enum { ASK_MS = 10000, VERSION_TEXT_MAX = 200, OUTPUT_WAIT_MS = 300, KEY_OUTPUT = 1 };

/* Which thing a step waits for. */
enum waiting_for { NOTHING, VERSION, WORK, INSPECTION, INITDB, INITDB_TAIL, ANSWER, AGAIN, ROLES };

struct local {
	enum waiting_for waiting;
	uint64_t work, proc, corr;
	char version[VERSION_TEXT_MAX + 1]; /* what postgres --version prints */
};

/* ---- the record -------------------------------------------------------------------------------------------- */

static struct tablet_plan plan_of(const struct actor *self)
{
	struct tablet_plan plan = {0};
	const struct slice *in = &flow_self(self)->inputs;

	if (msg_decode_body(&TABLET_PLAN_desc, slice_data(in), in->len, &plan) != OK)
		memset(&plan, 0, sizeof(plan)); /* no base: prepare_directories refuses it */
	return plan;
}

static struct tablet_found found_of(const struct actor *self)
{
	struct tablet_found found = {.uid = -1, .gid = -1};
	const struct slice *in = &flow_self(self)->result;

	if (msg_decode_body(&TABLET_FOUND_desc, slice_data(in), in->len, &found) != OK)
		found = (struct tablet_found){.uid = -1, .gid = -1};
	return found;
}

static void found_set(struct actor *self, const struct tablet_found *found)
{
	struct writer w;
	struct slice bytes;

	writer_init(&w, 4096);
	msg_encode_body(&TABLET_FOUND_desc, found, &w);
	bytes = writer_take(&w);
	flow_result_set(self, &bytes);
}

enum status tablet_found_decode(const struct slice *bytes, struct tablet_found *out)
{
	memset(out, 0, sizeof(*out));
	return msg_decode_body(&TABLET_FOUND_desc, slice_data(bytes), bytes->len, out);
}

struct slice tablet_plan_encode(const struct tablet_plan *plan)
{
	struct writer w;

	writer_init(&w, 4096);
	msg_encode_body(&TABLET_PLAN_desc, plan, &w);
	return writer_take(&w);
}

void tablet_place(const struct tablet_plan *plan, const struct tablet_found *found, struct postgres_place *p)
{
	*p = (struct postgres_place){.uid = found->uid,
		.gid = found->gid,
		.major = found->major,
		.port = plan->port,
		.max_connections = plan->max_connections};
	str_copy(p->base, sizeof(p->base), plan->base);
	str_copy(p->socket_dir, sizeof(p->socket_dir), found->socket_dir);
}

static struct postgres_place place_of(const struct actor *self)
{
	struct tablet_plan plan = plan_of(self);
	struct tablet_found found = found_of(self);
	struct postgres_place p;

	tablet_place(&plan, &found, &p);
	return p;
}

/* ---- work on helper threads -------------------------------------------------------------------------------- */

static void give_error(struct writer *result, const struct error *err)
{
	writer_text(result, err->text);
	if (err->hint[0])
		writer_printf(result, " (%s)", err->hint);
}

static enum status work_find(const void *args, size_t size, struct writer *result)
{
	const struct tablet_plan *plan = args;
	struct tablet_found found = {0};
	struct error err = {0};
	enum status st;

	check(size == sizeof(*plan));
	st = postgres_find_binaries(plan->bin_dir, found.bin_dir, &err);
	if (!st)
		st = postgres_find_user(plan->run_as, &found.uid, &found.gid, &err);
	if (st)
		give_error(result, &err);
	else
		msg_encode_body(&TABLET_FOUND_desc, &found, result);
	return st;
}

static enum status work_prepare(const void *args, size_t size, struct writer *result)
{
	struct error err = {0};
	enum status st;

	check(size == sizeof(struct postgres_place));
	st = postgres_prepare(args, &err);
	if (st)
		give_error(result, &err);
	return st;
}

static enum status work_inspect(const void *args, size_t size, struct writer *result)
{
	struct error err = {0};
	enum status st;
	bool exists;

	check(size == sizeof(struct postgres_place));
	st = postgres_inspect(args, &exists, &err);
	if (st)
		give_error(result, &err);
	else
		writer_u8(result, exists);
	return st;
}

static enum status work_install(const void *args, size_t size, struct writer *result)
{
	struct error err = {0};
	enum status st;

	check(size == sizeof(struct postgres_place));
	st = postgres_install(args, &err);
	if (st)
		give_error(result, &err);
	return st;
}

static enum status work_configure(const void *args, size_t size, struct writer *result)
{
	struct error err = {0};
	enum status st;

	check(size == sizeof(struct postgres_place));
	st = postgres_configure(args, &err);
	if (st)
		give_error(result, &err);
	return st;
}

enum status tablet_work_log_tail(const void *args, size_t size, struct writer *result)
{
	char text[POSTGRES_LOG_TAIL + 1];

	check(size == sizeof(struct postgres_place));
	postgres_log_tail(args, text, sizeof(text));
	writer_text(result, text);
	return OK;
}

static void run_work(struct actor *self, enum waiting_for waiting, work_fn *fn, const void *args, size_t size)
{
	struct local *l = flow_local(self);

	l->waiting = waiting;
	l->work = work_run(
		self, &(struct work){.fn = fn, .args = args, .args_size = size, .lane = TABLET_LANE});
}

/* ---- the steps --------------------------------------------------------------------------------------------- */

static void check_binaries(struct actor *self)
{
	struct tablet_plan plan = plan_of(self);

	run_work(self, WORK, work_find, &plan, sizeof(plan));
}

/* The programs are there: which version are they? */
static void ask_version(struct actor *self, const struct slice *result)
{
	struct local *l = flow_local(self);
	struct tablet_found found;
	char path[POSTGRES_PATH_MAX + 16];
	const char *argv[] = {path, "--version", NULL};
	struct error err = {0};

	if (tablet_found_decode(result, &found)) {
		flow_step_fail(self, E_INTERNAL, "could not read what was found");
		return;
	}
	found_set(self, &found);
	snprintf(path, sizeof(path), "%s/postgres", found.bin_dir);
	l->version[0] = '\0';
	l->waiting = VERSION;
	if (proc_start(self, &(struct proc_start){.argv = argv, .uid = -1, .gid = -1, .die_with_node = true},
		    &l->proc, &err))
		flow_step_done(self, E_IO, "%s", err.text);
}

static void version_known(struct actor *self)
{
	struct local *l = flow_local(self);
	struct tablet_found found = found_of(self);
	struct tablet_plan plan = plan_of(self);

	if (postgres_version_parse(l->version, &found.major, &found.version)) {
		flow_step_fail(self, E_INVALID,
			"\"%s/postgres --version\" says \"%s\", which is no version of Postgres",
			found.bin_dir, l->version);
		return;
	}
	if (found.major < POSTGRES_OLDEST_MAJOR) {
		flow_step_fail(self, E_UNSUPPORTED,
			"Postgres %u in \"%s\" is too old, version %d or later is needed", found.major,
			found.bin_dir, POSTGRES_OLDEST_MAJOR);
		return;
	}
	postgres_socket_dir(plan.base, found.uid >= 0 ? (uid_t)found.uid : geteuid(), found.socket_dir);
	found_set(self, &found);
	flow_step_done(self, OK, NULL);
}

static void prepare_directories(struct actor *self)
{
	struct postgres_place p = place_of(self);

	run_work(self, WORK, work_prepare, &p, sizeof(p));
}

static void initdb(struct actor *self)
{
	struct postgres_place p = place_of(self);

	run_work(self, INSPECTION, work_inspect, &p, sizeof(p));
}

static void run_initdb(struct actor *self)
{
	struct local *l = flow_local(self);
	struct tablet_found found = found_of(self);
	struct postgres_place p = place_of(self);
	char path[POSTGRES_PATH_MAX + 16], fresh[POSTGRES_PATH_MAX + 16], log[POSTGRES_PATH_MAX + 16];
	const char *argv[] = {path, "--pgdata", fresh, "--username=postgres", "--auth-local=trust",
		"--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums",
		"--no-instructions", NULL};
	struct error err = {0};

	snprintf(path, sizeof(path), "%s/initdb", found.bin_dir);
	snprintf(fresh, sizeof(fresh), "%s/pgdata.new", p.base);
	snprintf(log, sizeof(log), "%s/postgres.log", p.base);
	l->waiting = INITDB;
	if (proc_start(self,
		    &(struct proc_start){.argv = argv,
			    .cwd = p.base,
			    .uid = p.uid,
			    .gid = p.gid,
			    .output_file = log,
			    .die_with_node = true},
		    &l->proc, &err))
		flow_step_done(self, E_IO, "%s", err.text);
}

static void configure(struct actor *self)
{
	struct postgres_place p = place_of(self);

	run_work(self, WORK, work_configure, &p, sizeof(p));
}

static void ask_tablet(struct actor *self, struct msg **m, enum waiting_for waiting)
{
	struct local *l = flow_local(self);
	struct pid tablet = actor_whereis(self, "tablet");

	l->waiting = waiting;
	if (pid_is_none(tablet)) {
		msg_discard(self, *m);
		flow_step_done(self, E_AGAIN, NULL);
		return;
	}
	l->corr = actor_ask(self, tablet, m, ASK_MS);
}

static void ask_start(struct actor *self, enum waiting_for waiting)
{
	struct msg *m;
	struct postgres_start *s = postgres_start_new(self, &m);
	const struct slice *result = &flow_self(self)->result;

	s->found = slice_sub(result, 0, result->len);
	ask_tablet(self, &m, waiting);
}

static void start(struct actor *self)
{
	ask_start(self, ANSWER);
}

static void wait_ready(struct actor *self)
{
	struct msg *m;

	postgres_ready_new(self, &m);
	ask_tablet(self, &m, ANSWER);
}

static void check_roles(struct actor *self)
{
	struct local *l = flow_local(self);
	struct pid control = actor_whereis(self, "tablet.control");
	struct control_query *q;
	struct msg *m;

	l->waiting = ROLES;
	if (pid_is_none(control)) { /* a new life of the tablet: it starts, or adopts, Postgres again */
		ask_start(self, AGAIN);
		return;
	}
	q = control_query_new(self, &m);
	str_copy(q->sql, sizeof(q->sql),
		"select rolsuper::int, (select count(*) from pg_database where datname = 'postgres') "
		"from pg_roles where rolname = 'postgres'");
	l->corr = actor_ask(self, control, &m, ASK_MS);
}

/* ---- what comes back --------------------------------------------------------------------------------------- */

static enum status on_work_done(struct actor *self, struct msg *m)
{
	struct local *l = flow_local(self);
	struct work_done *w = work_done_of(m);
	const char *text = (const char *)slice_data(&w->result);
	enum waiting_for waiting = l->waiting;
	enum status st = (enum status)w->status;

	if (w->work != l->work || (waiting != WORK && waiting != INSPECTION && waiting != INITDB_TAIL))
		return OK;
	l->waiting = NOTHING;
	if (waiting == INITDB_TAIL)
		flow_step_done(self, E_IO, "initdb failed: %.*s", (int)w->result.len, text);
	else if (st == E_IO || st == E_FULL)
		flow_step_done(self, st, "%.*s", (int)w->result.len, text); /* may mend */
	else if (st)
		flow_step_fail(self, st, "%.*s", (int)w->result.len, text);
	else if (flow_self(self)->step == 0)
		ask_version(self, &w->result);
	else if (waiting == INSPECTION && w->result.len == 1 && text[0] == 0)
		run_initdb(self);
	else
		flow_step_done(self, OK, NULL);
	return OK;
}

static enum status on_output(struct actor *self, struct msg *m)
{
	struct local *l = flow_local(self);
	struct proc_output *o = proc_output_of(m);
	size_t have = strlen(l->version), n = o->bytes.len;

	if (l->waiting != VERSION || o->proc != l->proc || o->is_stderr)
		return OK;
	n = n > VERSION_TEXT_MAX - have ? VERSION_TEXT_MAX - have : n;
	memcpy(l->version + have, slice_data(&o->bytes), n);
	l->version[have + n] = '\0';
	l->version[strcspn(l->version, "\n")] = '\0';
	return OK;
}

static void initdb_ended(struct actor *self, struct local *l, const struct proc_exited *e)
{
	struct postgres_place p = place_of(self);

	if (e->code == 0)
		run_work(self, WORK, work_install, &p, sizeof(p));
	else
		run_work(self, INITDB_TAIL, tablet_work_log_tail, &p, sizeof(p));
	l->proc = 0;
}

static enum status on_exited(struct actor *self, struct msg *m)
{
	struct local *l = flow_local(self);
	struct proc_exited *e = proc_exited_of(m);

	if (e->proc != l->proc)
		return OK;
	if (l->waiting == INITDB)
		initdb_ended(self, l, e);
	else if (l->waiting == VERSION && e->code == 0 && l->version[0])
		version_known(self);
	else if (l->waiting == VERSION)
		actor_timer(self, KEY_OUTPUT, OUTPUT_WAIT_MS); /* its output may come after its end */
	return OK;
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	struct local *l = flow_local(self);

	if (timer_of(m)->key == KEY_OUTPUT && l->waiting == VERSION)
		version_known(self);
	return OK;
}

static enum status on_done(struct actor *self, struct msg *m)
{
	struct local *l = flow_local(self);
	struct done *d = done_of(m);
	enum waiting_for waiting = l->waiting;

	if (m->corr != l->corr || (waiting != ANSWER && waiting != AGAIN))
		return OK;
	l->waiting = NOTHING;
	if (d->status == E_STALE)
		ask_start(self, AGAIN);
	else if (waiting == AGAIN && d->status == OK)
		flow_step_done(self, E_AGAIN, NULL);
	else if (d->status == E_CRASHED)
		flow_step_fail(self, E_CRASHED, "%s", d->text);
	else
		flow_step_done(self, (enum status)d->status, "%s", d->text);
	return OK;
}

static enum status on_rows(struct actor *self, struct msg *m)
{
	struct local *l = flow_local(self);
	struct control_rows *rows = control_rows_of(m);

	if (m->corr != l->corr || l->waiting != ROLES)
		return OK;
	l->waiting = NOTHING;
	if (rows->status)
		flow_step_done(self, (enum status)rows->status, "%s", rows->text);
	else if (rows->rows != 1 || strcmp(control_cell(rows, 0), "1") != 0)
		flow_step_fail(self, E_STATE, "the cluster has no superuser \"postgres\"");
	else if (strcmp(control_cell(rows, 1), "1") != 0)
		flow_step_fail(self, E_STATE, "the cluster has no database \"postgres\"");
	else
		flow_step_done(self, OK, NULL);
	return OK;
}

static enum status on_ask_failed(struct actor *self, struct msg *m)
{
	struct local *l = flow_local(self);
	enum status st = (enum status)ask_failed_of(m)->status;

	if (m->corr != l->corr || (l->waiting != ANSWER && l->waiting != AGAIN && l->waiting != ROLES))
		return OK;
	l->waiting = NOTHING;
	flow_step_done(self, st == E_NOPROC ? E_AGAIN : st, NULL); /* the tablet is just being restarted */
	return OK;
}

static void abandon(struct actor *self)
{
	struct local *l = flow_local(self);

	if ((l->waiting == INITDB || l->waiting == VERSION) && l->proc)
		(void)proc_signal(self, l->proc, SIGKILL);
	if (l->waiting == ANSWER || l->waiting == AGAIN || l->waiting == ROLES)
		actor_ask_cancel(self, l->corr);
	l->waiting = NOTHING;
	l->proc = l->work = l->corr = 0;
}

static const struct flow_step steps[] = {
	{.name = "check_binaries", .run = check_binaries, .retries = 2, .timeout_ms = 10000},
	{.name = "prepare_directories", .run = prepare_directories, .retries = 2},
	{.name = "initdb", .run = initdb, .retries = 2, .timeout_ms = 300000},
	{.name = "configure", .run = configure, .retries = 2},
	{.name = "start", .run = start, .poll_ms = 50, .retries = 3},
	{.name = "wait_ready", .run = wait_ready, .poll_ms = 50, .timeout_ms = 600000},
	{.name = "check_roles", .run = check_roles, .poll_ms = 50, .retries = 3},
};

static const struct rule step_rules[] = {
	{STATE_ANY, WORK_DONE, on_work_done},
	{STATE_ANY, PROC_OUTPUT, on_output},
	{STATE_ANY, PROC_EXITED, on_exited},
	{STATE_ANY, TIMER, on_timer},
	{STATE_ANY, DONE, on_done},
	{STATE_ANY, CONTROL_ROWS, on_rows},
	{STATE_ANY, ASK_FAILED, on_ask_failed},
};

const struct flow_kind tablet_bring_up = {
	.name = "tablet.bring_up",
	.steps = steps,
	.n_steps = ARRAY_LEN(steps),
	.local_size = sizeof(struct local),
	.rules = step_rules,
	.n_rules = ARRAY_LEN(step_rules),
	.abandon = abandon,
};
