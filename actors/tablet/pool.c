/*
 * Groups, members, waiting requests. Contract in pool.h; the messages in messages.h.
 *
 * A member is the pool's view of one backend. It is in exactly one list: its group's idle list, or the busy list; a
 * backend that died is known by its DOWN. A request waits in its group's queue until a member is free or the request's
 * own deadline has passed; the ask that carries it settles either way.
 */
#include "actors/tablet/pool.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "actors/pg/pgerror.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "actors/tablet/backend.h"
#include "actors/tablet/messages.h"
#include "runtime/base/bytes.h"
#include "runtime/base/list.h"
#include "runtime/base/log.h"
#include "runtime/base/metrics.h"
#include "runtime/base/slab.h"
#include "runtime/core/io.h"
#include "runtime/core/table.h"

enum {
	TIMER_WHERE = 1,
	TIMER_RETRY = 2,
	TIMER_IDLE = 3,
	WHERE_MS = 100,
	WHERE_DEADLINE_MS = 1000,
	IDLE_CHECK_MS = 10000
};
enum { SHOW_BYTES = 1 << 20, STARTUP_MAX = 32768 };

#define POOL_STATES(S) S(SEEKING) S(SERVING) S(PAUSED)
STATES(pool, POOL_STATES);

enum member_state { MEMBER_OPENING, MEMBER_IDLE, MEMBER_BUSY };
static const char *const member_state_names[] = {"opening", "idle", "busy"};

struct member {
	struct list in_group; /* idle list (most recent first) or busy list of its group */
	UT_hash_handle hh;
	uint64_t id;
	struct group *group;
	struct pid backend, session; /* session: whose lease it is or was last */
	uint64_t since_us;
	uint8_t state;
};

struct waiter {
	struct list link;
	uint64_t number; /* in order of coming, over all groups */
	struct msg *m; /* POOL_OPEN or EXECUTE, kept */
};

struct group {
	UT_hash_handle hh; /* by key */
	uint64_t id;
	char database[PG_NAME_MAX + 1], user[PG_NAME_MAX + 1];
	uint8_t keys[BACKEND_KEYS];
	bool has_keys;
	struct slice startup, parameters; /* parameters: empty until a first backend logged in */
	struct list idle, busy, waiting; /* waiting: EXECUTEs, oldest first */
	struct list opening; /* POOL_OPENs that wait for the first login */
	uint32_t n_members, n_opening, n_idle, n_waiting;
	uint32_t key_len;
	uint8_t key[]; /* database NUL user NUL settings */
};

struct pool {
	const struct pool_config *config;
	struct group *groups;
	struct member *members; /* by id */
	struct group **by_id; /* id - 1 */
	uint32_t n_groups, n_members, n_waiting;
	uint64_t next_member, next_waiter;
	struct slab waiters;
	struct tablet_serving where;
	uint32_t retry_ms;
	bool retrying;
};

static struct {
	uint32_t executes, waits, wait_us, opened, failed, members, waiting;
} metric;

void pool_metrics_declare(void)
{
	metric.executes = metric_declare(
		"multigres_pool_requests_total", "requests given to a backend", METRIC_COUNTER, NULL);
	metric.waits = metric_declare("multigres_pool_waits_total", "requests that had to wait for a backend",
		METRIC_COUNTER, NULL);
	metric.wait_us = metric_declare(
		"multigres_pool_wait_microseconds", "how long they waited", METRIC_HISTOGRAM, NULL);
	metric.opened =
		metric_declare("multigres_pool_logins_total", "logins to Postgres", METRIC_COUNTER, NULL);
	metric.failed = metric_declare(
		"multigres_pool_login_failures_total", "failed logins to Postgres", METRIC_COUNTER, NULL);
	metric.members =
		metric_declare("multigres_pool_backends", "connections to Postgres", METRIC_GAUGE, NULL);
	metric.waiting = metric_declare("multigres_pool_waiting", "requests waiting now", METRIC_GAUGE, NULL);
}

static void serve_waiting(struct actor *self, struct group *g);
static void member_free_for_work(struct actor *self, struct member *b);

/* ---- waiting requests ---------------------------------------------------------------------------------------- */

static void waiter_add(struct actor *self, struct list *queue, struct msg *m)
{
	struct pool *p = actor_state(self);
	struct waiter *w = slab_alloc(&p->waiters);

	w->m = actor_keep(self, m);
	w->number = ++p->next_waiter;
	list_push_back(queue, &w->link);
	p->n_waiting++;
	actor_gauge(self, metric.waiting, 1);
}

/* Takes the waiter out; its message is the caller's to forward, reply to or drop. */
static struct msg *waiter_take(struct actor *self, struct waiter *w)
{
	struct pool *p = actor_state(self);
	struct msg *m = w->m;

	list_remove(&w->link);
	slab_free(&p->waiters, w);
	p->n_waiting--;
	actor_gauge(self, metric.waiting, -1);
	return m;
}

static bool is_late(struct actor *self, const struct msg *m)
{
	return m->deadline_us && m->deadline_us <= actor_now_us(self);
}

static void refuse(struct actor *self, struct msg *m, const struct slice *error)
{
	struct msg *reply;

	pool_refused_new(self, &reply)->error = slice_copy(slice_data(error), error->len);
	actor_reply(self, m, &reply);
}

static void refuse_all(struct actor *self, struct list *queue, const struct slice *error)
{
	struct list *n;

	while ((n = list_first(queue))) {
		struct msg *m = waiter_take(self, LIST_ITEM(n, struct waiter, link));

		refuse(self, m, error);
		actor_drop(self, m, OK);
	}
}

/* ---- groups -------------------------------------------------------------------------------------------------- */

static struct slice startup_packet(const char *database, const char *user, const struct slice *settings)
{
	const char *s = (const char *)slice_data(settings), *end = s + settings->len;
	struct writer w;
	uint32_t at;

	writer_init(&w, STARTUP_MAX);
	at = wire_begin(&w, 0);
	writer_u32(&w, WIRE_VERSION_3_0);
	writer_str(&w, "user");
	writer_str(&w, user);
	writer_str(&w, "database");
	writer_str(&w, database);
	if (s < end)
		writer_put(&w, s, (uint32_t)(end - s));
	writer_u8(&w, 0);
	wire_end(&w, at);
	return writer_take(&w);
}

static struct group *group_get(struct actor *self, const struct pool_open *o)
{
	struct pool *p = actor_state(self);
	uint32_t db = (uint32_t)strlen(o->database) + 1, user = (uint32_t)strlen(o->user) + 1;
	uint32_t len = db + user + o->settings.len;
	struct group *g = NULL, *made = calloc(1, sizeof(*made) + len);

	check(made != NULL);
	memcpy(made->key, o->database, db);
	memcpy(made->key + db, o->user, user);
	memcpy(made->key + db + user, slice_data(&o->settings), o->settings.len);
	HASH_FIND(hh, p->groups, made->key, len, g);
	if (g || p->n_groups >= POOL_GROUPS_MAX) {
		free(made);
		return g;
	}
	made->key_len = len;
	str_copy(made->database, sizeof(made->database), o->database);
	str_copy(made->user, sizeof(made->user), o->user);
	made->startup = startup_packet(o->database, o->user, &o->settings);
	list_init(&made->idle);
	list_init(&made->busy);
	list_init(&made->waiting);
	list_init(&made->opening);
	HASH_ADD_KEYPTR(hh, p->groups, made->key, len, made);
	p->by_id[p->n_groups] = made;
	made->id = ++p->n_groups;
	return made;
}

static struct group *group_find(const struct pool *p, uint64_t id)
{
	return id > 0 && id <= p->n_groups ? p->by_id[id - 1] : NULL;
}

/* ---- members ------------------------------------------------------------------------------------------------- */

static void member_move(struct actor *self, struct member *b, enum member_state to)
{
	struct group *g = b->group;

	if (b->state == MEMBER_IDLE)
		g->n_idle--;
	if (b->state == MEMBER_OPENING)
		g->n_opening--;
	list_remove(&b->in_group);
	b->state = (uint8_t)to;
	b->since_us = actor_now_us(self);
	if (to == MEMBER_IDLE) {
		g->n_idle++;
		list_push_front(&g->idle, &b->in_group);
	} else {
		list_push_back(&g->busy, &b->in_group);
	}
}

static void member_free(struct actor *self, struct member *b)
{
	struct pool *p = actor_state(self);
	struct group *g = b->group;

	if (b->state == MEMBER_IDLE)
		g->n_idle--;
	if (b->state == MEMBER_OPENING)
		g->n_opening--;
	list_remove(&b->in_group);
	HASH_DEL(p->members, b);
	free(b);
	g->n_members--;
	p->n_members--;
	actor_gauge(self, metric.members, -1);
}

static struct member *member_find(const struct pool *p, uint64_t id)
{
	struct member *b = NULL;

	HASH_FIND(hh, p->members, &id, sizeof(id), b);
	return b;
}

static void close_backend(struct actor *self, struct member *b)
{
	actor_exit(self, b->backend, E_SHUTDOWN);
	member_free(self, b); /* its DOWN will find nobody */
}

/* The total is reached: the idle backend of another group that has been idle longest makes room. */
static bool make_room(struct actor *self, const struct group *wanting)
{
	struct pool *p = actor_state(self);
	struct member *oldest = NULL;

	for (struct group *g = p->groups; g; g = g->hh.next) {
		struct list *last = g->idle.prev;

		if (g == wanting || last == &g->idle)
			continue;
		if (!oldest || LIST_ITEM(last, struct member, in_group)->since_us < oldest->since_us)
			oldest = LIST_ITEM(last, struct member, in_group);
	}
	if (!oldest)
		return false;
	close_backend(self, oldest);
	return true;
}

static void open_backend(struct actor *self, struct group *g)
{
	struct pool *p = actor_state(self);
	bool own_password = p->config->password && strcmp(g->user, p->where.login) == 0;
	struct backend_args args = {.member = ++p->next_member,
		.address = p->where.address,
		.tls = p->where.tls,
		.startup = &g->startup,
		.keys = g->has_keys && !own_password ? g->keys : NULL, /* its verifier may be our own */
		.password = own_password ? p->config->password : NULL,
		.user = g->user,
		.connect_timeout_ms = p->config->connect_timeout_ms};
	struct member *b = calloc(1, sizeof(*b));

	check(b != NULL);
	if (actor_spawn(self,
		    &(struct spawn){
			    .behaviour = &backend_behaviour, .args = &args, .args_size = sizeof(args)},
		    &b->backend) != OK) {
		free(b);
		return;
	}
	b->id = args.member;
	b->group = g;
	b->since_us = actor_now_us(self);
	list_push_back(&g->busy, &b->in_group);
	HASH_ADD(hh, p->members, id, sizeof(b->id), b);
	g->n_members++;
	g->n_opening++;
	p->n_members++;
	actor_gauge(self, metric.members, 1);
}

/* Opens as many backends as requests wait for, within the sizes. */
static void grow(struct actor *self, struct group *g)
{
	struct pool *p = actor_state(self);
	uint32_t wanted = g->n_waiting + (list_empty(&g->opening) || g->parameters.len ? 0 : 1);

	if (actor_current(self) != SERVING || p->retrying)
		return;
	while (g->n_opening < wanted && g->n_members < p->config->group_size) {
		uint32_t before = g->n_members;

		if (p->n_members >= p->config->total_size && !make_room(self, g))
			return;
		open_backend(self, g);
		if (g->n_members == before)
			return;
	}
}

/* ---- requests ------------------------------------------------------------------------------------------------ */

static void give(struct actor *self, struct member *b, struct msg *m)
{
	member_move(self, b, MEMBER_BUSY);
	b->session = m->from;
	actor_count(self, metric.executes, 1);
	actor_forward(self, b->backend, m);
}

static struct member *idle_member(struct group *g, struct pid prefer)
{
	struct list *first = list_first(&g->idle);

	if (!pid_is_none(prefer) && first)
		list_each(it, &g->idle)
		{
			struct member *b = LIST_ITEM(it, struct member, in_group);

			if (pid_equal(b->backend, prefer))
				return b;
			if (b->since_us + 1000000 < LIST_ITEM(first, struct member, in_group)->since_us)
				break; /* long idle ones aren't searched */
		}
	return first ? LIST_ITEM(first, struct member, in_group) : NULL;
}

static enum status on_execute(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);
	struct execute *x = execute_of(m);
	struct group *g = group_find(p, x->group);
	struct member *b;

	if (!g) {
		actor_reply_status(self, m, E_NOT_FOUND, "the pool doesn't know that group any more");
		return OK;
	}
	b = list_empty(&g->waiting) ? idle_member(g, x->prefer) : NULL;
	if (b) {
		give(self, b, m);
		return OK;
	}
	if (p->n_waiting >= POOL_WAITING_MAX) {
		actor_reply_status(
			self, m, E_FULL, "%u requests are waiting for a connection already", p->n_waiting);
		return OK;
	}
	slice_compact(&x->bytes);
	actor_count(self, metric.waits, 1);
	waiter_add(self, &g->waiting, m);
	g->n_waiting++;
	grow(self, g);
	return OK;
}

static void serve_waiting(struct actor *self, struct group *g)
{
	struct list *n;

	while (!list_empty(&g->idle) && (n = list_first(&g->waiting))) {
		struct msg *m = waiter_take(self, LIST_ITEM(n, struct waiter, link));

		g->n_waiting--;
		if (is_late(self, m))
			actor_drop(self, m, E_TIMEOUT);
		else
			give(self, LIST_ITEM(list_first(&g->idle), struct member, in_group), m);
	}
}

static void answer_open(struct actor *self, struct group *g, struct msg *m)
{
	struct msg *reply;
	struct pool_opened *o = pool_opened_new(self, &reply);

	o->group = g->id;
	o->parameters = slice_sub(&g->parameters, 0, g->parameters.len);
	actor_reply(self, m, &reply);
}

/* Logins are told at once, as Postgres does while it starts; requests of sessions that are in wait for it. */
static void refuse_not_serving(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);
	struct pgerror e = {.severity = "FATAL",
		.severity_raw = "FATAL",
		.sqlstate = SQLSTATE_CANNOT_CONNECT_NOW,
		.message = "the database system is not available now",
		.detail = p->where.why[0] ? p->where.why : NULL,
		.hint = "Try again in a moment."};
	struct writer w;
	struct slice frame, body;

	writer_init(&w, STARTUP_MAX);
	pgerror_put_error(&w, &e);
	frame = writer_take(&w);
	body = slice_sub(&frame, WIRE_HEADER, frame.len - WIRE_HEADER);
	refuse(self, m, &body);
	slice_release(&body);
	slice_release(&frame);
}

static enum status on_open(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);
	struct pool_open *o = pool_open_of(m);
	struct group *g;

	g = group_get(self, o);
	if (!g) {
		actor_reply_status(self, m, E_LIMIT,
			"more than %d combinations of database, user and settings", POOL_GROUPS_MAX);
		return OK;
	}
	if (o->keys.len == BACKEND_KEYS) { /* the newest proof counts: passwords change */
		memcpy(g->keys, slice_data(&o->keys), BACKEND_KEYS);
		g->has_keys = true;
	}
	if (g->parameters.len) {
		answer_open(self, g, m);
		return OK;
	}
	if (actor_current(self) == PAUSED) {
		refuse_not_serving(self, m);
		return OK;
	}
	if (p->n_waiting >= POOL_WAITING_MAX) {
		actor_reply_status(
			self, m, E_FULL, "%u requests are waiting for a connection already", p->n_waiting);
		return OK;
	}
	waiter_add(self, &g->opening, m);
	grow(self, g);
	return OK;
}

static void drop_waiting_of(struct actor *self, struct list *queue, struct pid session, uint32_t *n)
{
	list_each(it, queue)
	{
		struct waiter *w = LIST_ITEM(it, struct waiter, link);

		if (pid_equal(w->m->from, session)) {
			actor_drop(self, waiter_take(self, w), E_NORMAL);
			(*n)--;
		}
	}
}

/* A session ended or gave up: its waiting request goes, and a lease it never heard of is ended. */
static enum status on_forget(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);
	struct pid session = pool_forget_of(m)->session;
	uint32_t openings = 0;
	struct msg *out;

	for (struct group *g = p->n_waiting ? p->groups : NULL; g; g = g->hh.next) {
		drop_waiting_of(self, &g->waiting, session, &g->n_waiting);
		drop_waiting_of(self, &g->opening, session, &openings);
	}
	for (struct member *b = p->members; b; b = b->hh.next)
		if (b->state == MEMBER_BUSY && pid_equal(b->session, session)) {
			release_new(self, &out)->how = RELEASE_ABORT;
			actor_send(self, b->backend, &out);
		}
	return OK;
}

/* ---- what backends say --------------------------------------------------------------------------------------- */

static enum status on_ready(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);
	struct backend_ready *r = backend_ready_of(m);
	struct member *b = member_find(p, r->member);
	struct group *g;
	struct list *n;

	if (!b)
		return OK;
	g = b->group;
	p->retry_ms = POOL_RETRY_MS;
	actor_count(self, metric.opened, 1);
	slice_release(&g->parameters);
	g->parameters = slice_take(&r->parameters);
	while ((n = list_first(&g->opening))) {
		struct msg *open = waiter_take(self, LIST_ITEM(n, struct waiter, link));

		answer_open(self, g, open);
		actor_drop(self, open, OK);
	}
	member_free_for_work(self, b);
	return OK;
}

static uint64_t first_waiting(const struct list *queue)
{
	struct list *n = list_first(queue);

	return n ? LIST_ITEM(n, struct waiter, link)->number : UINT64_MAX;
}

/* When the group's oldest request came, in order of coming; UINT64_MAX: none waits. */
static uint64_t waits_since(const struct group *g)
{
	uint64_t request = first_waiting(&g->waiting), login = first_waiting(&g->opening);

	return request < login ? request : login;
}

/*
 * The group that has waited longest of those without any backend, because others fill the total; NULL when there is
 * none, or when `rather` has waited longer. Only groups without any: changing groups costs a login at Postgres.
 */
static struct group *starving_group(struct pool *p, const struct group *rather)
{
	uint64_t since = rather ? waits_since(rather) : UINT64_MAX;
	struct group *found = NULL;

	if (!p->n_waiting)
		return NULL;
	for (struct group *g = p->groups; g; g = g->hh.next)
		if (g->n_members == 0 && waits_since(g) < since) {
			found = g;
			since = waits_since(g);
		}
	return found;
}

/* A member has nothing to do: it serves its own group's next request, or makes place for a group that starves. */
static void member_free_for_work(struct actor *self, struct member *b)
{
	struct pool *p = actor_state(self);
	struct group *g = b->group, *starving = NULL;

	if (unlikely(p->n_members >= p->config->total_size))
		starving = starving_group(p, g);
	member_move(self, b, MEMBER_IDLE);
	if (starving) {
		close_backend(self, b);
		grow(self, starving);
	} else if (g->n_waiting) {
		serve_waiting(self, g);
	}
}

/* A member is gone: its place goes to who has waited longest. */
static void place_free(struct actor *self, struct group *g)
{
	struct group *starving = starving_group(actor_state(self), g);

	grow(self, starving ? starving : g);
}

static enum status on_idle(struct actor *self, struct msg *m)
{
	struct member *b = member_find(actor_state(self), backend_idle_of(m)->member);

	if (b)
		member_free_for_work(self, b);
	return OK;
}

/* Refusals that trying again can't mend: wrong password, no such database, not allowed, bad settings. */
static bool is_final(const struct slice *error)
{
	static const char *const classes[] = {"28", "3D", "42", "22", "0A", "26", "08P"};
	struct pgerror e;

	if (pgerror_read(slice_data(error), error->len, &e) != OK)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		if (strncmp(e.sqlstate, classes[i], strlen(classes[i])) == 0)
			return true;
	return false;
}

static void retry_later(struct actor *self)
{
	struct pool *p = actor_state(self);

	if (p->retrying)
		return;
	p->retrying = true;
	actor_timer(self, TIMER_RETRY, p->retry_ms);
	p->retry_ms = p->retry_ms * 2 > POOL_RETRY_MAX_MS ? POOL_RETRY_MAX_MS : p->retry_ms * 2;
}

static enum status on_failed(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);
	struct backend_failed *f = backend_failed_of(m);
	struct member *b = member_find(p, f->member);
	struct group *g = b ? b->group : NULL;

	if (!g)
		return OK;
	member_free(self, b);
	actor_count(self, metric.failed, 1);
	if (is_final(&f->error)) {
		refuse_all(self, &g->opening, &f->error);
		if (g->n_members == 0) {
			refuse_all(self, &g->waiting, &f->error);
			g->n_waiting = 0;
		}
		g->has_keys = false;
		place_free(self, g);
		return OK;
	}
	retry_later(self);
	return OK;
}

static enum status on_down(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);
	struct pid who = down_of(m)->who;
	struct member *b, *next;

	HASH_ITER(hh, p->members, b, next)
	if (pid_equal(b->backend, who)) {
		struct group *g = b->group;
		bool was_opening = b->state == MEMBER_OPENING;

		member_free(self, b);
		if (was_opening)
			retry_later(self);
		else
			place_free(self, g);
		break;
	}
	return OK;
}

static enum status on_retry(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);

	(void)m;
	p->retrying = false;
	for (struct group *g = p->groups; g; g = g->hh.next)
		grow(self, g);
	return OK;
}

static enum status on_idle_check(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);
	uint64_t now = actor_now_us(self), limit = (uint64_t)p->config->idle_timeout_ms * 1000;
	struct member *b, *next;

	(void)m;
	HASH_ITER(hh, p->members, b, next)
	if (b->state == MEMBER_IDLE && limit && now - b->since_us > limit)
		close_backend(self, b);
	actor_timer(self, TIMER_IDLE, IDLE_CHECK_MS);
	return OK;
}

/* ---- where Postgres is ---------------------------------------------------------------------------------------- */

static void ask_where(struct actor *self)
{
	struct pid tablet = actor_whereis(self, "tablet");
	struct msg *m;

	if (pid_is_none(tablet)) {
		actor_timer(self, TIMER_WHERE, WHERE_MS);
		return;
	}
	tablet_where_new(self, &m);
	actor_ask(self, tablet, &m, WHERE_DEADLINE_MS);
}

static enum status on_where_failed(struct actor *self, struct msg *m)
{
	(void)m;
	actor_timer(self, TIMER_WHERE, WHERE_MS);
	return OK;
}

static enum status on_serving(struct actor *self, struct msg *m)
{
	struct pool *p = actor_state(self);
	struct tablet_serving *s = tablet_serving_of(m);
	struct member *b, *next;

	if (p->where.address[0] && strcmp(p->where.address, s->address) != 0)
		HASH_ITER(hh, p->members, b, next)
	if (b->state != MEMBER_BUSY)
		close_backend(self, b);
	p->where = *s;
	actor_become(self, s->serving ? SERVING : PAUSED);
	if (s->serving) {
		p->retry_ms = POOL_RETRY_MS;
		for (struct group *g = p->groups; g; g = g->hh.next)
			grow(self, g);
	}
	return OK;
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	switch (timer_of(m)->key) {
	case TIMER_WHERE:
		if (actor_current(self) == SEEKING)
			ask_where(self);
		return OK;
	case TIMER_RETRY:
		return on_retry(self, m);
	case TIMER_IDLE:
		return on_idle_check(self, m);
	}
	return OK;
}

/* ---- birth, end, looking in ------------------------------------------------------------------------------------ */

static enum status pool_init(struct actor *self, const void *args, size_t size)
{
	struct pool *p = actor_state(self);

	check(size == sizeof(p->config));
	memcpy(&p->config, args, size);
	p->retry_ms = POOL_RETRY_MS;
	p->by_id = calloc(POOL_GROUPS_MAX, sizeof(struct group *));
	check(p->by_id != NULL);
	slab_init(&p->waiters, sizeof(struct waiter));
	actor_group_join(self, "tablet.watchers");
	actor_timer(self, TIMER_IDLE, IDLE_CHECK_MS);
	ask_where(self);
	return OK;
}

static void pool_exit(struct actor *self, enum status why)
{
	struct pool *p = actor_state(self);
	struct group *g, *next_group;
	struct member *b, *next;

	(void)why;
	HASH_ITER(hh, p->members, b, next)
	member_free(self, b);
	actor_gauge(self, metric.waiting, -(int64_t)p->n_waiting);
	HASH_ITER(hh, p->groups, g, next_group)
	{
		HASH_DEL(p->groups, g);
		slice_release(&g->startup);
		slice_release(&g->parameters);
		free(g);
	}
	free(p->by_id);
	slab_release(&p->waiters);
}

static enum status on_show(struct actor *self, struct msg *m)
{
	static const char *const columns[] = {
		"worker", "database", "user", "backend", "state", "session", "since_ms", "waiting"};
	struct pool *p = actor_state(self);
	struct table_writer t;
	char text[PID_TEXT_MAX];
	struct msg *reply;

	table_begin(&t, columns, ARRAY_LEN(columns), SHOW_BYTES);
	for (struct member *b = p->members; b; b = b->hh.next) {
		table_u64(&t, actor_worker_index(self));
		table_str(&t, b->group->database);
		table_str(&t, b->group->user);
		table_str(&t, pid_format(b->backend, text));
		table_str(&t, member_state_names[b->state]);
		table_str(&t, b->state != MEMBER_BUSY ? "" : pid_format(b->session, text));
		table_u64(&t, (actor_now_us(self) - b->since_us) / 1000);
		table_u64(&t, b->group->n_waiting);
	}
	table_new(self, &reply)->rows = table_end(&t);
	actor_reply(self, m, &reply);
	return OK;
}

static void pool_show(const struct actor *self, struct writer *text)
{
	const struct pool *p = actor_state(self);

	writer_printf(text, "%u groups, %u backends, %u waiting", p->n_groups, p->n_members, p->n_waiting);
}

static const struct rule pool_rules[] = {
	{STATE_ANY, EXECUTE, on_execute},
	{STATE_ANY, BACKEND_IDLE, on_idle},
	{STATE_ANY, POOL_OPEN, on_open},
	{STATE_ANY, POOL_FORGET, on_forget},
	{STATE_ANY, BACKEND_READY, on_ready},
	{STATE_ANY, BACKEND_FAILED, on_failed},
	{STATE_ANY, DOWN, on_down},
	{STATE_ANY, TIMER, on_timer},
	{STATE_ANY, TABLET_SERVING, on_serving},
	{STATE_ANY, ASK_FAILED, on_where_failed},
	{STATE_ANY, DONE, on_where_failed},
	{STATE_ANY, POOL_SHOW, on_show},
};

const struct behaviour pool_behaviour = {.name = "tablet.pool",
	.state_size = sizeof(struct pool),
	.rules = pool_rules,
	.n_rules = ARRAY_LEN(pool_rules),
	.states = pool_state_names,
	.n_states = ARRAY_LEN(pool_state_names),
	.init = pool_init,
	.exit = pool_exit,
	.show = pool_show,
	.mailbox_cap = 100000};
