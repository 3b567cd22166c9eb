/*
 * The manager: begins workflows, brings unfinished ones back after any crash, shows them. Named "flow".
 *
 *	LOADING  scans the store and starts an actor for each unfinished record
 *	READY    serves; a workflow's actor that crashed is started again from its record, with back-off
 *
 * What a request waits for is a `pending` with a phase; a watcher is one (workflow, pid).
 */
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/flow/internal.h"
#include "runtime/store/batch.h"

enum {
	PENDING_MAX = 64,
	WATCHERS_MAX = 64,
	LOAD_RETRY_MS = 250,
	REVIVE_MIN_MS = 50,
	REVIVE_MAX_MS = 5000,
	TABLE_BYTES_MAX = 1 << 20,
	KEY_LOAD = 1,
	KEY_REVIVE = 0x10000, /* + index into runs */
};

#define FLOW_STATES(S) S(LOADING) S(READY)
STATES(flow, FLOW_STATES);

enum phase { READING, ENDING_OLD, SAVING_NEW, REVIVING };

struct pending {
	enum phase phase;
	uint64_t corr; /* READING, REVIVING: of the ask to the store */
	struct msg *request; /* kept; NULL when REVIVING */
	char id[FLOW_ID_MAX + 1];
	struct pid run; /* ENDING_OLD, SAVING_NEW */
};

struct running {
	char id[FLOW_ID_MAX + 1]; /* empty: free */
	struct pid pid; /* PID_NONE: waits to be started again */
	uint32_t crashes;
};

struct watcher {
	char id[FLOW_ID_MAX + 1];
	struct pid pid;
	uint64_t ref;
};

struct manager {
	struct running runs[FLOW_RUNNING_MAX];
	struct pending pending[PENDING_MAX];
	struct watcher watchers[WATCHERS_MAX];
	uint32_t n_pending, n_watchers;
	uint64_t load_corr;
	struct slice load_from;
};

/* ---- runs -------------------------------------------------------------------------------------------------- */

static struct running *run_find(struct manager *g, const char *id)
{
	for (uint32_t i = 0; i < FLOW_RUNNING_MAX; i++) {
		if (g->runs[i].id[0] && strcmp(g->runs[i].id, id) == 0)
			return &g->runs[i];
	}
	return NULL;
}

static struct running *run_of_pid(struct manager *g, struct pid pid)
{
	for (uint32_t i = 0; i < FLOW_RUNNING_MAX; i++) {
		if (g->runs[i].id[0] && pid_equal(g->runs[i].pid, pid))
			return &g->runs[i];
	}
	return NULL;
}

static enum status run_spawn(
	struct actor *self, struct manager *g, const struct flow_record *rec, bool resumed)
{
	struct flow_spawn args = {flow_kind_find(rec->kind), rec, actor_pid(self), resumed};
	struct running *r = run_find(g, rec->id);
	struct spawn what = {.args = &args, .args_size = sizeof(args)};
	enum status st;

	if (!args.kind)
		return E_NOT_FOUND;
	for (uint32_t i = 0; !r && i < FLOW_RUNNING_MAX; i++) {
		if (!g->runs[i].id[0])
			r = &g->runs[i];
	}
	if (!r)
		return E_FULL;
	what.behaviour = flow_behaviour_of(args.kind);
	st = actor_spawn(self, &what, &r->pid);
	if (!st)
		str_copy(r->id, sizeof(r->id), rec->id);
	return st;
}

/* ---- watchers ---------------------------------------------------------------------------------------------- */

static bool watch(struct actor *self, struct manager *g, const char *id, struct pid who)
{
	struct watcher *w;

	for (uint32_t i = 0; i < g->n_watchers; i++) {
		if (pid_equal(g->watchers[i].pid, who) && strcmp(g->watchers[i].id, id) == 0)
			return true;
	}
	if (g->n_watchers == WATCHERS_MAX)
		return false;
	w = &g->watchers[g->n_watchers++];
	str_copy(w->id, sizeof(w->id), id);
	w->pid = who;
	w->ref = actor_monitor(self, who);
	return true;
}

static void unwatch(struct actor *self, struct manager *g, uint32_t i)
{
	actor_demonitor(self, g->watchers[i].ref);
	g->watchers[i] = g->watchers[--g->n_watchers];
}

static void tell(struct actor *self, struct pid who, const struct flow_changed *c)
{
	struct msg *m;
	struct flow_changed *out = flow_changed_new(self, &m);

	*out = *c;
	out->result = slice_sub(&c->result, 0, c->result.len);
	actor_send(self, who, &m);
}

static void tell_of_record(struct actor *self, struct pid who, const struct flow_record *rec)
{
	const struct flow_kind *kind = flow_kind_find(rec->kind);
	struct flow_changed c = {.status = rec->status, .step = rec->step, .attempt = rec->attempt};

	str_copy(c.id, sizeof(c.id), rec->id);
	str_copy(c.error, sizeof(c.error), rec->error);
	if (kind && rec->step < kind->n_steps)
		str_copy(c.step_name, sizeof(c.step_name), kind->steps[rec->step].name);
	c.result = rec->result;
	tell(self, who, &c);
}

/* ---- requests ---------------------------------------------------------------------------------------------- */

static struct pending *pending_add(struct actor *self, struct manager *g, struct msg *m, const char *id)
{
	struct pending *p;

	if (g->n_pending == PENDING_MAX) {
		if (m)
			actor_reply_status(self, m, E_FULL, "too many requests about workflows at once");
		return NULL;
	}
	p = &g->pending[g->n_pending++];
	*p = (struct pending){.request = m ? actor_keep(self, m) : NULL};
	str_copy(p->id, sizeof(p->id), id);
	return p;
}

static void pending_remove(struct manager *g, struct pending *p)
{
	*p = g->pending[--g->n_pending];
}

static void pending_end(
	struct actor *self, struct manager *g, struct pending *p, enum status st, const char *text)
{
	struct msg *request = p->request;

	pending_remove(g, p);
	if (!request)
		return;
	actor_reply_status(self, request, st, "%s", text);
	actor_drop(self, request, st);
}

static enum status on_start(struct actor *self, struct msg *m)
{
	struct manager *g = actor_state(self);
	struct flow_start *s = flow_start_of(m);
	struct pending *p;

	if (!s->id[0] || !flow_kind_find(s->kind)) {
		actor_reply_status(self, m, E_NOT_FOUND,
			s->id[0] ? "no such kind of workflow: %s" : "a workflow needs an id", s->kind);
		return OK;
	}
	for (uint32_t i = 0; i < g->n_pending; i++) {
		if (strcmp(g->pending[i].id, s->id) == 0 && g->pending[i].request &&
			g->pending[i].request->tag == FLOW_START) {
			actor_reply_status(self, m, E_AGAIN, "workflow %s is just being started", s->id);
			return OK;
		}
	}
	p = pending_add(self, g, m, s->id);
	if (p)
		p->corr = store_ask_get(self, "flow", s->id, (uint32_t)strlen(s->id), FLOW_STORE_TIMEOUT_MS);
	return OK;
}

static void begin(struct actor *self, struct manager *g, struct pending *p)
{
	struct flow_start *s = flow_start_of(p->request);
	struct flow_record rec = {.status = FLOW_RUNNING, .attempt = 1, .inputs = s->inputs};
	enum status st;

	str_copy(rec.id, sizeof(rec.id), s->id);
	str_copy(rec.kind, sizeof(rec.kind), s->kind);
	rec.started_us = actor_wall_us(self);
	st = run_spawn(self, g, &rec, false);
	if (st) {
		pending_end(self, g, p, st, "could not start the workflow");
		return;
	}
	p->phase = SAVING_NEW;
	p->run = run_find(g, rec.id)->pid;
}

static bool slices_equal(const struct slice *a, const struct slice *b)
{
	return a->len == b->len && memcmp(slice_data(a), slice_data(b), a->len) == 0;
}

static void join(struct actor *self, struct manager *g, struct pending *p, const struct flow_record *rec)
{
	struct pid asker = p->request->from;
	bool room = !flow_start_of(p->request)->watch || watch(self, g, rec->id, asker);

	if (room && flow_start_of(p->request)->watch)
		tell_of_record(self, asker, rec);
	pending_end(self, g, p, room ? OK : E_FULL, room ? "" : "too many watchers of workflows");
}

/* The store's answer to a FLOW_START; rec is NULL when there is no such workflow. */
static void start_decide(
	struct actor *self, struct manager *g, struct pending *p, const struct flow_record *rec)
{
	struct flow_start *s = flow_start_of(p->request);
	struct running *r = run_find(g, s->id);
	bool active = rec && !flow_ended(rec->status);

	if (active && strcmp(rec->kind, s->kind) == 0 && slices_equal(&rec->inputs, &s->inputs)) {
		join(self, g, p, rec);
	} else if (rec && !s->anew) {
		pending_end(self, g, p, E_EXISTS, "a workflow with this id exists");
	} else if (r && !pid_is_none(r->pid)) {
		p->phase = ENDING_OLD;
		p->run = r->pid;
		actor_exit(self, r->pid, E_KILLED);
	} else {
		begin(self, g, p);
	}
}

static enum status on_show(struct actor *self, struct msg *m)
{
	struct manager *g = actor_state(self);
	const char *id = flow_show_of(m)->id;
	struct pending *p = pending_add(self, g, m, id);

	if (p)
		p->corr = store_ask_get(self, "flow", p->id, (uint32_t)strlen(p->id), FLOW_STORE_TIMEOUT_MS);
	return OK;
}

static enum status on_list(struct actor *self, struct msg *m)
{
	struct manager *g = actor_state(self);
	struct pending *p = pending_add(self, g, m, "");

	if (p)
		p->corr = store_ask_scan(self, "flow", "", 0, 0, FLOW_STORE_TIMEOUT_MS);
	return OK;
}

static enum status on_cancel(struct actor *self, struct msg *m)
{
	struct manager *g = actor_state(self);
	struct running *r = run_find(g, flow_cancel_of(m)->id);

	if (!r || pid_is_none(r->pid))
		actor_reply_status(self, m, E_NOT_FOUND, "no such workflow is running");
	else
		actor_forward(self, r->pid, m);
	return OK;
}

/* ---- the store's answers ----------------------------------------------------------------------------------- */

static void answer_table(struct actor *self, struct manager *g, struct pending *p, struct slice rows)
{
	struct msg *request = p->request, *m;

	pending_remove(g, p);
	table_new(self, &m)->rows = rows;
	actor_reply(self, request, &m);
	actor_drop(self, request, OK);
}

static struct pending *pending_of(struct manager *g, uint64_t corr)
{
	for (uint32_t i = 0; corr && i < g->n_pending; i++) {
		if (g->pending[i].corr == corr)
			return &g->pending[i];
	}
	return NULL;
}

static void revive_later(struct actor *self, struct manager *g, struct running *r)
{
	uint32_t shift = r->crashes > 7 ? 7 : r->crashes, ms = (uint32_t)REVIVE_MIN_MS << shift;

	r->pid = PID_NONE;
	r->crashes++;
	actor_timer(self, KEY_REVIVE + (uint64_t)(r - g->runs), ms > REVIVE_MAX_MS ? REVIVE_MAX_MS : ms);
}

static void revive(struct actor *self, struct manager *g, struct pending *p, const struct flow_record *rec)
{
	struct running *r = run_find(g, p->id);

	pending_remove(g, p);
	if (!r || !pid_is_none(r->pid))
		return; /* begun anew meanwhile */
	if (!rec || flow_ended(rec->status)) {
		*r = (struct running){0};
		return;
	}
	if (run_spawn(self, g, rec, true))
		revive_later(self, g, r);
}

static enum status on_value(struct actor *self, struct msg *m)
{
	struct manager *g = actor_state(self);
	struct store_value *v = store_value_of(m);
	struct pending *p = pending_of(g, m->corr);
	struct flow_record rec;
	bool found = v->found && flow_record_read(slice_data(&v->value), v->value.len, &rec) == OK;

	if (!p)
		goto out;
	p->corr = 0;
	if (p->phase == REVIVING)
		revive(self, g, p, found ? &rec : NULL);
	else if (p->request->tag == FLOW_START)
		start_decide(self, g, p, found ? &rec : NULL);
	else if (found)
		answer_table(self, g, p, flow_table_of_record(&rec));
	else
		pending_end(
			self, g, p, E_NOT_FOUND, v->found ? "its record can't be read" : "no such workflow");
out:
	if (found)
		msg_release_body(flow_record_desc(), &rec);
	return OK;
}

static enum status load(struct actor *self, struct manager *g)
{
	g->load_corr = store_ask_scan(
		self, "flow", slice_data(&g->load_from), g->load_from.len, 0, FLOW_STORE_TIMEOUT_MS);
	return OK;
}

static enum status loaded(struct actor *self, struct manager *g, const struct store_rows *rows)
{
	struct unpack u = store_rows_open(&rows->rows);
	struct store_row_view row = {0};

	while (store_rows_next(&u, &row) == OK) {
		struct flow_record rec;

		if (flow_record_read(row.value, row.value_len, &rec)) {
			log_error("flow", "workflow record %.*s can't be read", (int)row.key_len,
				(const char *)row.key);
			continue;
		}
		if (!flow_ended(rec.status) && !run_find(g, rec.id)) {
			enum status st = run_spawn(self, g, &rec, true);

			log_info("flow", "%s: resumed at step %s%s%s", rec.id, flow_step_name(&rec),
				st ? ", failed: " : "", st ? status_name(st) : "");
		}
		msg_release_body(flow_record_desc(), &rec);
	}
	if (!rows->more || !row.key) {
		slice_release(&g->load_from);
		actor_become(self, READY);
		return OK;
	}
	slice_release(&g->load_from); /* the last key comes again, and is known by then */
	g->load_from = slice_copy(row.key, row.key_len);
	return load(self, g);
}

static enum status on_rows(struct actor *self, struct msg *m)
{
	struct manager *g = actor_state(self);
	struct pending *p = pending_of(g, m->corr);

	if (m->corr == g->load_corr && actor_current(self) == LOADING)
		return loaded(self, g, store_rows_of(m));
	if (p)
		answer_table(self, g, p, flow_table_of_list(&store_rows_of(m)->rows));
	return OK;
}

/* An ask of the store's that failed, by DONE or ASK_FAILED. */
static enum status store_failed(struct actor *self, struct msg *m, enum status st, const char *text)
{
	struct manager *g = actor_state(self);
	struct pending *p = pending_of(g, m->corr);

	if (m->corr == g->load_corr && actor_current(self) == LOADING) {
		log_warn("flow", "could not read the workflows: %s", text);
		actor_timer(self, KEY_LOAD, LOAD_RETRY_MS);
	} else if (p && p->phase == REVIVING) {
		struct running *r = run_find(g, p->id);

		pending_remove(g, p);
		if (r)
			revive_later(self, g, r);
	} else if (p) {
		pending_end(self, g, p, st, text);
	}
	return OK;
}

static enum status on_done(struct actor *self, struct msg *m)
{
	return store_failed(self, m, (enum status)done_of(m)->status, done_of(m)->text);
}

static enum status on_ask_failed(struct actor *self, struct msg *m)
{
	enum status st = (enum status)ask_failed_of(m)->status;

	return store_failed(self, m, st, st == E_NOPROC ? "the store isn't running" : status_name(st));
}

/* ---- workflows' actors ------------------------------------------------------------------------------------- */

static enum status on_changed(struct actor *self, struct msg *m)
{
	struct manager *g = actor_state(self);
	struct flow_changed *c = flow_changed_of(m);
	struct running *r = run_of_pid(g, m->from);

	if (!r)
		return OK; /* of a run that was replaced */
	r->crashes = 0;
	for (uint32_t i = 0; i < g->n_pending; i++) {
		struct pending *p = &g->pending[i];

		if (p->phase != SAVING_NEW || !pid_equal(p->run, m->from))
			continue;
		if (flow_start_of(p->request)->watch && !watch(self, g, c->id, p->request->from))
			log_warn("flow", "%s: too many watchers", c->id);
		pending_end(self, g, p, OK, "");
		break;
	}
	for (uint32_t i = g->n_watchers; i > 0; i--) {
		if (strcmp(g->watchers[i - 1].id, c->id) != 0)
			continue;
		tell(self, g->watchers[i - 1].pid, c);
		if (flow_ended(c->status))
			unwatch(self, g, i - 1);
	}
	return OK;
}

static void run_down(struct actor *self, struct manager *g, struct running *r, enum status why)
{
	struct pid pid = r->pid;

	for (uint32_t i = 0; i < g->n_pending; i++) {
		struct pending *p = &g->pending[i];

		if (!pid_equal(p->run, pid))
			continue;
		if (p->phase == ENDING_OLD) {
			*r = (struct running){0};
			begin(self, g, p);
			return;
		}
		if (p->phase == SAVING_NEW) {
			*r = (struct running){0};
			pending_end(self, g, p, why, "the workflow could not be saved");
			return;
		}
	}
	if (why == E_NORMAL)
		*r = (struct running){0};
	else
		revive_later(self, g, r);
}

static enum status on_down(struct actor *self, struct msg *m)
{
	struct manager *g = actor_state(self);
	struct down *d = down_of(m);
	struct running *r = d->ref == 0 ? run_of_pid(g, d->who) : NULL;

	if (r) {
		run_down(self, g, r, (enum status)d->status);
		return OK;
	}
	for (uint32_t i = g->n_watchers; i > 0; i--) {
		if (g->watchers[i - 1].ref == d->ref)
			unwatch(self, g, i - 1);
	}
	return OK;
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	struct manager *g = actor_state(self);
	uint64_t key = timer_of(m)->key;
	struct running *r;
	struct pending *p;

	if (key == KEY_LOAD)
		return load(self, g);
	check(key - KEY_REVIVE < FLOW_RUNNING_MAX);
	r = &g->runs[key - KEY_REVIVE];
	if (!r->id[0] || !pid_is_none(r->pid))
		return OK;
	p = pending_add(self, g, NULL, r->id);
	if (!p) {
		revive_later(self, g, r);
		return OK;
	}
	p->phase = REVIVING;
	p->corr = store_ask_get(self, "flow", r->id, (uint32_t)strlen(r->id), FLOW_STORE_TIMEOUT_MS);
	return OK;
}

static enum status defer(struct actor *self, struct msg *m)
{
	return actor_defer(self, m);
}

static enum status flow_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	return load(self, actor_state(self));
}

static void flow_exit(struct actor *self, enum status why)
{
	struct manager *g = actor_state(self);

	(void)why;
	slice_release(&g->load_from);
}

static void flow_show_line(const struct actor *self, struct writer *text)
{
	const struct manager *g = actor_state(self);
	uint32_t n = 0;

	for (uint32_t i = 0; i < FLOW_RUNNING_MAX; i++)
		n += g->runs[i].id[0] != '\0';
	writer_printf(text, "%u running, %u watchers", n, g->n_watchers);
}

static const struct rule flow_rules[] = {
	{LOADING, FLOW_START, defer},
	{LOADING, FLOW_CANCEL, defer},
	{READY, FLOW_START, on_start},
	{READY, FLOW_CANCEL, on_cancel},
	{STATE_ANY, FLOW_LIST, on_list},
	{STATE_ANY, FLOW_SHOW, on_show},
	{STATE_ANY, FLOW_CHANGED, on_changed},
	{STATE_ANY, STORE_VALUE, on_value},
	{STATE_ANY, STORE_ROWS, on_rows},
	{STATE_ANY, DONE, on_done},
	{STATE_ANY, ASK_FAILED, on_ask_failed},
	{STATE_ANY, DOWN, on_down},
	{STATE_ANY, TIMER, on_timer},
};

const struct behaviour flow_behaviour = {
	.name = "flow",
	.state_size = sizeof(struct manager),
	.rules = flow_rules,
	.n_rules = ARRAY_LEN(flow_rules),
	.states = flow_state_names,
	.n_states = ARRAY_LEN(flow_state_names),
	.init = flow_init,
	.exit = flow_exit,
	.show = flow_show_line,
	.mailbox_cap = 1000,
};
