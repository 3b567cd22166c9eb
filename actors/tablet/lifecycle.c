/*
 * The tablet's actor. States:
 *
 *	BRINGING_UP  own: the workflow runs; attach: the control connection is on its way
 *	SERVING      Postgres answers; watchers know
 *	BACKING_OFF  Postgres ended, or the workflow failed; tries again later, each time after a longer pause
 *	STOPPING     own, told to shut down: Postgres's fast shutdown runs
 *
 * Postgres is a child process of this actor alone. The control connection is an actor of its own, a child, so that
 * its trouble never touches the process. Whether Postgres serves is computed in one place, tablet_update(). Logins are in
 * auth.c, the table for people in lifecycle_show.c.
 */
#include "actors/tablet/lifecycle.h"

#include <libpq-fe.h>
#include <signal.h>

#include "actors/tablet/control.h"
#include "actors/tablet/lifecycle_internal.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/core/io.h"

enum {
	WATCHERS_MAX = 256,
	ASK_MS = 15000,
	BACKOFF_MIN_MS = 200,
	BACKOFF_MAX_MS = 10000,
	QUIET_US = 60000000, /* serving for so long: earlier failures are forgotten */
	GRACE_MS =
		10000, /* our Postgres's process lives but doesn't answer: so long it still counts as serving */
	QUIT_MS = 5000, /* after an immediate shutdown */
	CONTROL_RETRY_MS = 200,
};

enum { KEY_BRING_UP = 1, KEY_STOP, KEY_GRACE, KEY_CONTROL };

#define TABLET_STATES(S) S(BRINGING_UP) S(SERVING) S(BACKING_OFF) S(STOPPING)
STATES(tablet, TABLET_STATES);

static void bring_up(struct actor *self, struct tablet *t);

/* ---- what watchers know ------------------------------------------------------------------------------------ */

void tablet_serving_make(const struct actor *self, const struct tablet *t, struct tablet_serving *s)
{
	memset(s, 0, sizeof(*s));
	s->serving = actor_current(self) == SERVING && !t->unresponsive &&
		     (tablet_is_own(t) ? t->proc != 0 : t->info.connected);
	if (tablet_is_own(t) && t->found.socket_dir[0])
		snprintf(s->address, sizeof(s->address), "%s/.s.PGSQL.%u", t->found.socket_dir, t->plan.port);
	else
		str_copy(s->address, sizeof(s->address), t->info.address);
	s->tls = tablet_is_own(t) ? 0 : t->info.tls;
	str_copy(s->login, sizeof(s->login), tablet_is_own(t) ? "postgres" : t->info.login);
	s->trusted = tablet_is_own(t);
	s->verifiers = t->info.verifiers;
	s->server_version = t->info.server_version;
	s->max_connections = t->info.max_connections;
	if (!s->serving)
		str_copy(s->why, sizeof(s->why), t->why[0] ? t->why : "Postgres is being brought up");
}

static void send_serving(struct actor *self, struct pid to, const struct tablet_serving *s)
{
	struct msg *m;

	*tablet_serving_new(self, &m) = *s;
	actor_send(self, to, &m);
}

/* Tells the watchers if anything changed. */
void tablet_update(struct actor *self, struct tablet *t)
{
	struct pid watchers[WATCHERS_MAX];
	struct tablet_serving s;
	uint32_t n;

	tablet_serving_make(self, t, &s);
	if (memcmp(&s, &t->told, sizeof(s)) == 0)
		return;
	if (s.serving != t->told.serving)
		log_info("tablet", "Postgres %s%s%s",
			s.serving ? "serves at " : "does not serve: ", s.serving ? s.address : s.why, "");
	if (s.serving && !t->told.serving)
		t->serving_since_us = actor_now_us(self);
	t->told = s;
	n = actor_group_members(self, "tablet.watchers", watchers, WATCHERS_MAX);
	for (uint32_t i = 0; i < n && i < WATCHERS_MAX; i++)
		send_serving(self, watchers[i], &s);
}

static void become(struct actor *self, struct tablet *t, uint8_t state)
{
	actor_become(self, state);
	tablet_update(self, t);
}

static enum status on_where(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	struct tablet_serving s;
	struct msg *out;

	tablet_serving_make(self, t, &s);
	*tablet_serving_new(self, &out) = s;
	actor_reply(self, m, &out);
	return OK;
}

/* ---- failure and back-off ---------------------------------------------------------------------------------- */

static void back_off(struct actor *self, struct tablet *t, const char *why)
{
	uint32_t shift, ms;

	if (t->serving_since_us && actor_now_us(self) - t->serving_since_us > QUIET_US)
		t->failures = 0;
	t->serving_since_us = 0;
	shift = t->failures > 6 ? 6 : t->failures;
	ms = (uint32_t)BACKOFF_MIN_MS << shift;
	if (ms > BACKOFF_MAX_MS)
		ms = BACKOFF_MAX_MS;
	t->failures++;
	str_copy(t->why, sizeof(t->why), why);
	log_error("tablet", "%s; next attempt in %u ms", why, ms);
	actor_timer(self, KEY_BRING_UP, ms);
	become(self, t, BACKING_OFF);
}

/* ---- the control connection -------------------------------------------------------------------------------- */

/* A value in a conninfo: in quotes, quotes and backslashes escaped. */
static void put_conninfo(struct writer *w, const char *name, const char *value)
{
	writer_printf(w, "%s='", name);
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			writer_u8(w, '\\');
		writer_u8(w, (uint8_t)*value);
	}
	writer_text(w, "' ");
}

static void control_start(struct actor *self, struct tablet *t)
{
	struct control_args args = {.parent = actor_pid(self)};
	struct spawn what = {.behaviour = &control_behaviour,
		.args = &args,
		.args_size = sizeof(args),
		.name = "tablet.control"};
	struct writer w;

	if (!pid_is_none(t->control))
		return;
	writer_init(&w, CONTROL_CONNINFO_MAX);
	if (tablet_is_own(t)) {
		char port[8];

		snprintf(port, sizeof(port), "%u", t->plan.port);
		put_conninfo(&w, "host", t->found.socket_dir);
		put_conninfo(&w, "port", port);
		put_conninfo(&w, "user", "postgres");
		put_conninfo(&w, "dbname", "postgres");
		writer_u8(&w, '\0');
		str_copy(args.conninfo, sizeof(args.conninfo), w.failed ? "" : (const char *)w.buf->data);
	} else {
		str_copy(args.conninfo, sizeof(args.conninfo), t->config->attach);
	}
	writer_release(&w);
	if (actor_spawn(self, &what, &t->control) != OK) {
		t->control = PID_NONE;
		actor_timer(self, KEY_CONTROL, CONTROL_RETRY_MS);
	}
	explicit_bzero(args.conninfo, sizeof(args.conninfo));
}

static void control_stop(struct actor *self, struct tablet *t)
{
	actor_timer_cancel(self, KEY_CONTROL);
	if (!pid_is_none(t->control))
		actor_exit(self, t->control, E_SHUTDOWN);
	t->control = PID_NONE;
	t->info.connected = 0;
}

static void attach_connected(struct actor *self, struct tablet *t)
{
	uint64_t salt[2] = {actor_random(self), actor_random(self)};

	if (!t->info.verifiers && !t->verifier[0] && control_password()) {
		t->verifier_work = work_run(self,
			&(struct work){.fn = tablet_work_verifier, .args = salt, .args_size = sizeof(salt)});
		return;
	}
	t->why[0] = '\0';
	become(self, t, SERVING);
}

static enum status on_control_changed(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);

	if (!pid_equal(m->from, t->control) || actor_current(self) == STOPPING)
		return OK;
	t->info = *control_changed_of(m);
	if (t->info.connected) {
		actor_timer_cancel(self, KEY_GRACE);
		t->unresponsive = false;
		if (tablet_is_own(t))
			tablet_update(self, t);
		else
			attach_connected(self, t);
		return OK;
	}
	log_debug("tablet", "control connection: %s", t->info.why);
	if (tablet_is_own(t)) {
		if (actor_current(self) == SERVING)
			actor_timer(self, KEY_GRACE, GRACE_MS);
		return OK;
	}
	str_copy(t->why, sizeof(t->why), t->info.why);
	become(self, t, BRINGING_UP);
	return OK;
}

/* ---- Postgres's process ------------------------------------------------------------------------------------ */

static enum status work_find_running(const void *args, size_t size, struct writer *result)
{
	struct error err = {0};
	int32_t pid;
	enum status st;

	check(size == sizeof(struct postgres_place));
	st = postgres_find_running(args, &pid, &err);
	if (st)
		writer_text(result, err.text);
	else
		writer_u32(result, (uint32_t)pid);
	return st;
}

/* E_AGAIN: it went away meanwhile. */
static enum status start_or_adopt(struct actor *self, struct tablet *t, int32_t running, struct error *err)
{
	struct postgres_place p;
	char path[POSTGRES_PATH_MAX + 16], pgdata[POSTGRES_PATH_MAX + 16], log[POSTGRES_PATH_MAX + 16];
	const char *argv[] = {path, "-D", pgdata, NULL};
	enum status st;

	t->adopted = running > 0;
	if (running > 0) {
		st = proc_adopt(self, running, &t->proc);
		if (st)
			return error_set(err, st == E_NOT_FOUND ? E_AGAIN : st, "58000",
				"could not watch process %d", running);
		log_info("tablet", "adopted the Postgres that runs already, process %d", running);
		return OK;
	}
	tablet_place(&t->plan, &t->found, &p);
	snprintf(path, sizeof(path), "%s/postgres", t->found.bin_dir);
	snprintf(pgdata, sizeof(pgdata), "%s/pgdata", p.base);
	snprintf(log, sizeof(log), "%s/postgres.log", p.base);
	return proc_start(self,
		&(struct proc_start){
			.argv = argv, .cwd = pgdata, .uid = p.uid, .gid = p.gid, .output_file = log},
		&t->proc, err);
}

static void start_found(struct actor *self, struct tablet *t, const struct work_done *w)
{
	struct msg *request = t->start_request;
	struct error err = {0};
	enum status st = (enum status)w->status;

	t->start_work = 0;
	t->start_request = NULL;
	if (st) {
		error_set(
			&err, st, "58000", "%.*s", (int)w->result.len, (const char *)slice_data(&w->result));
	} else {
		st = start_or_adopt(self, t, (int32_t)load_be32(slice_data(&w->result)), &err);
		if (st)
			t->proc = 0;
		else
			control_start(self, t);
	}
	actor_reply_status(self, request, st, "%s", err.text);
	actor_drop(self, request, st);
}

static enum status on_start(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	struct postgres_place p;

	if (actor_current(self) == STOPPING || !tablet_is_own(t)) {
		actor_reply_status(self, m, E_STATE, "the tablet is not bringing up a Postgres");
	} else if (t->proc) {
		control_start(self, t);
		actor_reply_status(self, m, OK, NULL);
	} else if (t->start_request || t->tail_work) {
		actor_reply_status(self, m, E_AGAIN, NULL);
	} else if (tablet_found_decode(&postgres_start_of(m)->found, &t->found)) {
		actor_reply_status(self, m, E_INVALID, "malformed request");
	} else {
		t->exited = false;
		tablet_place(&t->plan, &t->found, &p);
		t->start_work = work_run(self, &(struct work){.fn = work_find_running,
						       .args = &p,
						       .args_size = sizeof(p),
						       .lane = TABLET_LANE});
		t->start_request = actor_keep(self, m);
	}
	return OK;
}

static enum status on_ready(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);

	if (t->exited && !t->tail_work)
		actor_reply_status(self, m, E_CRASHED, "%s", t->why);
	else if (t->proc && t->info.connected)
		actor_reply_status(self, m, OK, NULL);
	else if (!t->proc && !t->start_request && !t->tail_work)
		actor_reply_status(self, m, E_STALE, "not started in this life of the tablet");
	else
		actor_reply_status(self, m, E_AGAIN, NULL);
	return OK;
}

static enum status on_exited(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	struct proc_exited *e = proc_exited_of(m);
	struct postgres_place p;

	if (e->proc != t->proc)
		return OK;
	t->proc = 0;
	t->exited = true;
	control_stop(self, t);
	if (actor_current(self) == STOPPING) {
		log_info("tablet", "Postgres has stopped");
		return E_SHUTDOWN;
	}
	if (e->signal)
		snprintf(t->why, sizeof(t->why), "Postgres was ended by signal %lld", (long long)e->signal);
	else if (e->code >= 0)
		snprintf(t->why, sizeof(t->why), "Postgres ended with code %lld", (long long)e->code);
	else
		str_copy(t->why, sizeof(t->why), "Postgres ended");
	tablet_update(self, t);
	tablet_place(&t->plan, &t->found, &p);
	t->tail_work = work_run(self,
		&(struct work){
			.fn = tablet_work_log_tail, .args = &p, .args_size = sizeof(p), .lane = TABLET_LANE});
	return OK;
}

static void tail_read(struct actor *self, struct tablet *t, const struct work_done *w)
{
	const char *text = (const char *)slice_data(&w->result);
	int len = (int)w->result.len, shown = (int)(sizeof(t->why) - strlen(t->why) - sizeof("; its log: "));
	char why[sizeof(t->why)];

	t->tail_work = 0;
	if (w->status == OK && len > 0) {
		size_t n = strlen(t->why);

		log_error("tablet", "%s; its log ends: %.*s", t->why, len, text);
		if (shown > 0 && len > shown)
			text += len - shown; /* the last words matter most */
		snprintf(t->why + n, sizeof(t->why) - n, "; its log: %.*s", len > shown ? shown : len, text);
	}
	if (actor_current(self) != SERVING)
		return; /* the workflow asks with POSTGRES_READY and fails with this text */
	t->restarts++;
	str_copy(why, sizeof(why), t->why);
	back_off(self, t, why);
}

/* ---- bring-up ---------------------------------------------------------------------------------------------- */

static void bring_up(struct actor *self, struct tablet *t)
{
	struct pid flow = actor_whereis(self, "flow");
	struct flow_start *s;
	struct msg *m;

	if (!tablet_is_own(t)) {
		control_start(self, t);
		return;
	}
	become(self, t, BRINGING_UP);
	actor_demonitor(self, t->flow_ref);
	t->flow_ref = 0;
	if (pid_is_none(flow)) {
		actor_timer(self, KEY_BRING_UP, BACKOFF_MIN_MS);
		return;
	}
	t->flow_ref = actor_monitor(self, flow);
	s = flow_start_new(self, &m);
	str_copy(s->kind, sizeof(s->kind), tablet_bring_up.name);
	str_copy(s->id, sizeof(s->id), "tablet.bring_up");
	s->inputs = tablet_plan_encode(&t->plan);
	s->anew = 1;
	s->watch = 1;
	t->flow_corr = actor_ask(self, flow, &m, ASK_MS);
}

static enum status flow_refused(struct actor *self, struct tablet *t, const char *why)
{
	t->flow_corr = 0;
	if (actor_current(self) == BRINGING_UP) {
		log_warn("tablet", "could not begin the bring-up: %s", why);
		actor_timer(self, KEY_BRING_UP, BACKOFF_MIN_MS);
	}
	return OK;
}

static enum status on_changed(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	struct flow_changed *c = flow_changed_of(m);

	if (actor_current(self) != BRINGING_UP || strcmp(c->id, "tablet.bring_up") != 0)
		return OK;
	if (c->status == FLOW_FAILED) {
		back_off(self, t, c->error);
	} else if (c->status == FLOW_DONE && t->proc) {
		t->why[0] = '\0';
		become(self, t, SERVING);
	} else if (c->status == FLOW_DONE && !t->tail_work) {
		back_off(self, t, t->why[0] ? t->why : "Postgres ended while it was being brought up");
	}
	return OK;
}

/* ---- everything else --------------------------------------------------------------------------------------- */

static enum status on_work_done(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	struct work_done *w = work_done_of(m);

	if (w->work == t->start_work && t->start_request) {
		start_found(self, t, w);
	} else if (t->tail_work && w->work == t->tail_work) {
		tail_read(self, t, w);
	} else if (t->verifier_work && w->work == t->verifier_work) {
		size_t n = w->status == OK && w->result.len < sizeof(t->verifier) ? w->result.len : 0;

		memcpy(t->verifier, slice_data(&w->result), n);
		t->verifier[n] = '\0';
		t->verifier_work = 0;
		if (t->info.connected) {
			t->why[0] = '\0';
			become(self, t, SERVING);
		}
	}
	return OK;
}

static enum status on_done(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);

	if (m->corr != t->flow_corr)
		return OK;
	return done_of(m)->status ? flow_refused(self, t, done_of(m)->text) : OK;
}

static enum status on_ask_failed(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	struct msg *request = tablet_lookup_take(t, m->corr);
	enum status st = (enum status)ask_failed_of(m)->status;

	if (request) {
		actor_reply_status(self, request, st, "no answer from the control connection");
		actor_drop(self, request, st);
		return OK;
	}
	return m->corr == t->flow_corr ? flow_refused(self, t, status_name(st)) : OK;
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);

	switch (timer_of(m)->key) {
	case KEY_BRING_UP:
		bring_up(self, t);
		return OK;
	case KEY_CONTROL:
		control_start(self, t);
		return OK;
	case KEY_GRACE:
		t->unresponsive = true;
		snprintf(t->why, sizeof(t->why), "Postgres does not answer: %.200s", t->info.why);
		tablet_update(self, t);
		return OK;
	case KEY_STOP:
		if (t->quitting)
			return actor_fail(self, E_TIMEOUT, "Postgres did not stop");
		log_warn("tablet", "Postgres did not stop within %d ms, ending it at once", TABLET_STOP_MS);
		t->quitting = true;
		(void)proc_signal(self, t->proc, SIGQUIT);
		actor_timer(self, KEY_STOP, QUIT_MS);
		return OK;
	default:
		return OK;
	}
}

static enum status on_down(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	struct down *d = down_of(m);

	if (pid_equal(d->who, t->control)) {
		t->control = PID_NONE;
		t->info.connected = 0;
		actor_timer(self, KEY_CONTROL, CONTROL_RETRY_MS);
		if (!tablet_is_own(t)) {
			str_copy(t->why, sizeof(t->why), "the control connection's actor ended");
			become(self, t, BRINGING_UP);
		}
	} else if (t->flow_ref && d->ref == t->flow_ref) {
		t->flow_ref = 0;
		if (actor_current(self) == BRINGING_UP)
			actor_timer(self, KEY_BRING_UP, BACKOFF_MIN_MS);
	}
	return OK;
}

/* Only a shutdown stops Postgres. Any other end of this actor leaves it to be adopted by the next. */
static enum status on_exit_signal(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	enum status why = (enum status)exit_signal_of(m)->status;

	if (why != E_SHUTDOWN || !tablet_is_own(t) || !t->proc)
		return why == E_NORMAL ? E_SHUTDOWN : why;
	if (actor_current(self) == STOPPING)
		return OK;
	str_copy(t->why, sizeof(t->why), "the tablet is shutting down");
	become(self, t, STOPPING);
	control_stop(self, t);
	log_info("tablet", "stopping Postgres");
	(void)proc_signal(self, t->proc, SIGINT); /* fast shutdown: sessions end, a checkpoint is written */
	actor_timer(self, KEY_STOP, TABLET_STOP_MS);
	return OK;
}

static enum status on_show(struct actor *self, struct msg *m)
{
	struct msg *out;

	table_new(self, &out)->rows =
		tablet_table(self, actor_state(self), tablet_state_names[actor_current(self)]);
	actor_reply(self, m, &out);
	return OK;
}

static void plan_make(const struct tablet_config *config, struct tablet_plan *plan)
{
	str_copy(plan->base, sizeof(plan->base), config->data_dir ? config->data_dir : "");
	str_copy(plan->bin_dir, sizeof(plan->bin_dir), config->pg_bin_dir ? config->pg_bin_dir : "");
	str_copy(plan->run_as, sizeof(plan->run_as), config->run_as ? config->run_as : "");
	plan->port = config->pg_port;
	plan->max_connections = config->max_connections ? config->max_connections : TABLET_MAX_CONNECTIONS;
}

static enum status tablet_init(struct actor *self, const void *args, size_t size)
{
	struct tablet *t = actor_state(self);

	check(size == sizeof(t->config));
	memcpy(&t->config, args, sizeof(t->config));
	plan_make(t->config, &t->plan);
	bring_up(self, t);
	return OK;
}

static void tablet_show_line(const struct actor *self, struct writer *text)
{
	const struct tablet *t = actor_state(self);

	writer_printf(text, "%s, %s", tablet_mode_name(t), t->told.serving ? t->told.address : t->why);
}

static const struct rule tablet_rules[] = {
	{STATE_ANY, TABLET_WHERE, on_where},
	{STATE_ANY, TABLET_SHOW, on_show},
	{STATE_ANY, AUTH_LOOKUP, tablet_on_lookup},
	{STATE_ANY, POSTGRES_START, on_start},
	{STATE_ANY, POSTGRES_READY, on_ready},
	{STATE_ANY, CONTROL_CHANGED, on_control_changed},
	{STATE_ANY, CONTROL_ROWS, tablet_on_rows},
	{STATE_ANY, FLOW_CHANGED, on_changed},
	{STATE_ANY, PROC_EXITED, on_exited},
	{STATE_ANY, WORK_DONE, on_work_done},
	{STATE_ANY, DONE, on_done},
	{STATE_ANY, ASK_FAILED, on_ask_failed},
	{STATE_ANY, DOWN, on_down},
	{STATE_ANY, EXIT, on_exit_signal},
	{STATE_ANY, TIMER, on_timer},
};

const struct behaviour tablet_behaviour = {
	.name = "tablet",
	.state_size = sizeof(struct tablet),
	.rules = tablet_rules,
	.n_rules = ARRAY_LEN(tablet_rules),
	.states = tablet_state_names,
	.n_states = ARRAY_LEN(tablet_state_names),
	.init = tablet_init,
	.show = tablet_show_line,
	.trap_exit = true,
};

void tablet_setup(void)
{
	catalog_add_lifecycle();
	flow_kind_register(&tablet_bring_up);
}

const char *tablet_attach_password(void)
{
	return control_password();
}

enum status tablet_config_check(const struct tablet_config *config, struct error *err)
{
	PQconninfoOption *options;
	char *text = NULL;

	if (config->mode == TABLET_ATTACH) {
		if (strlen(config->attach) > CONTROL_CONNINFO_MAX)
			return error_set(err, E_LIMIT, "22023",
				"the connection string is longer than %d bytes", CONTROL_CONNINFO_MAX);
		options = PQconninfoParse(config->attach, &text);
		if (!options) {
			error_set(err, E_INVALID, "22023", "connection string is not valid: %.*s",
				text ? (int)strcspn(text, "\n") : 0, text ? text : "");
			PQfreemem(text);
			return E_INVALID;
		}
		PQconninfoFree(options);
		return OK;
	}
	if (!config->data_dir || config->data_dir[0] != '/')
		return error_set(err, E_INVALID, "22023", "data directory \"%s\" is not an absolute path",
			config->data_dir ? config->data_dir : "");
	if (strlen(config->data_dir) > POSTGRES_PATH_MAX ||
		(config->pg_bin_dir && strlen(config->pg_bin_dir) > POSTGRES_PATH_MAX))
		return error_set(err, E_LIMIT, "22023", "a path is longer than %d bytes", POSTGRES_PATH_MAX);
	if (config->pg_port == 0)
		return error_set(err, E_INVALID, "22023", "Postgres needs a port other than 0");
	return OK;
}
