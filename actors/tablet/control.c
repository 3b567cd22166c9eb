/*
 * The control connection. States:
 *
 *	CONNECTING  a helper thread is in PQconnectdbParams
 *	LEARNING    connected; who and what is there is being asked
 *	IDLE, BUSY  no query, or one, under way
 *	WAITING     backs off before the next attempt
 *
 * libpq connects on a helper thread: that does name resolution, password and service files, TLS and SCRAM's 4096
 * rounds, all of which block or take milliseconds. From then on it is driven without blocking from its descriptor.
 */
#include <libpq-fe.h>
#include <stdatomic.h>

#include "actors/tablet/control.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/core/io.h"

enum { KEY_DEADLINE = 1, KEY_HEALTH, KEY_RETRY };

#define CONTROL_STATES(S) S(CONNECTING) S(LEARNING) S(IDLE) S(BUSY) S(WAITING)
STATES(control, CONTROL_STATES);

/* Shared by the actor and its helper; whoever of the two comes last frees it. */
struct attempt {
	atomic_int parties;
	PGconn *conn;
	char conninfo[CONTROL_CONNINFO_MAX + 1];
};

struct control {
	struct pid parent;
	char *conninfo;
	struct attempt *attempt;
	uint64_t work;
	PGconn *conn;
	uint64_t fd;
	struct msg *waiting[CONTROL_QUERIES_MAX]; /* ring of kept queries */
	uint32_t first, n_waiting;
	struct msg *current; /* kept; NULL: our own query */
	PGresult *result; /* of the query under way, until its end has come */
	uint32_t failures; /* attempts since the last that worked */
	bool told, connected; /* what the parent knows */
	struct control_changed info;
};

static const char LEARN[] =
	"select current_setting('server_version_num'), current_setting('max_connections'), "
	"has_table_privilege('pg_catalog.pg_authid', 'select')::int, current_user";

/* ---- the password of --attach ------------------------------------------------------------------------------ */

static _Atomic(char *) password;

const char *control_password(void)
{
	return atomic_load(&password);
}

/* Kept for the process's life, since other workers may be reading it; replaced only when it really changed. */
static void password_keep(const char *text)
{
	const char *old = atomic_load(&password);

	if (!text || !text[0] || (old && strcmp(old, text) == 0))
		return;
	atomic_store(&password, strdup(text));
}

/* ---- connecting -------------------------------------------------------------------------------------------- */

static void attempt_leave(struct attempt *a)
{
	if (atomic_fetch_sub(&a->parties, 1) > 1)
		return;
	if (a->conn)
		PQfinish(a->conn);
	explicit_bzero(a->conninfo, sizeof(a->conninfo));
	free(a);
}

static void ignore_notice(void *arg, const char *text)
{
	(void)arg;
	(void)text;
}

static enum status run_connect(const void *args, size_t size, struct writer *result)
{
	struct attempt *a;
	enum status st;

	check(size == sizeof(a));
	memcpy(&a, args, sizeof(a));
	{
		/* what comes first is overridden by the conninfo */
		const char *const names[] = {"connect_timeout", "fallback_application_name", "dbname", NULL};
		const char *const values[] = {"5", "multigres control", a->conninfo, NULL};

		a->conn = PQconnectdbParams(names, values, 1);
	}
	st = a->conn && PQstatus(a->conn) == CONNECTION_OK ? OK : E_CLOSED;
	if (st)
		writer_text(result, a->conn ? PQerrorMessage(a->conn) : "out of memory");
	attempt_leave(a);
	return st;
}

static void begin_attempt(struct actor *self, struct control *c)
{
	struct attempt *a = calloc(1, sizeof(*a));

	if (!a)
		panic("out of memory");
	atomic_init(&a->parties, 2);
	str_copy(a->conninfo, sizeof(a->conninfo), c->conninfo);
	c->attempt = a;
	c->work = work_run(self, &(struct work){.fn = run_connect, .args = &a, .args_size = sizeof(a)});
	actor_become(self, CONNECTING);
}

/* The first line of a libpq error, without a newline. */
static void one_line(char *out, size_t cap, const char *text, size_t n)
{
	size_t i = 0;

	for (; i < n && text[i] && i < cap - 1; i++)
		out[i] = text[i] == '\n' || text[i] == '\t' ? ' ' : text[i];
	while (i > 0 && out[i - 1] == ' ')
		i--;
	out[i] = '\0';
}

static void tell(struct actor *self, struct control *c, bool connected, const char *why)
{
	struct msg *m;
	struct control_changed *out;

	str_copy(c->info.why, sizeof(c->info.why), why);
	c->info.connected = connected;
	c->told = true;
	c->connected = connected;
	out = control_changed_new(self, &m);
	*out = c->info;
	actor_send(self, c->parent, &m);
}

static void answer(
	struct actor *self, struct msg *request, enum status st, const char *sqlstate, const char *text)
{
	struct msg *m;
	struct control_rows *rows = control_rows_new(self, &m);

	rows->status = (uint8_t)st;
	str_copy(rows->sqlstate, sizeof(rows->sqlstate), sqlstate);
	str_copy(rows->text, sizeof(rows->text), text);
	actor_reply(self, request, &m);
	actor_drop(self, request, st);
}

/* Gives the connection up, tells all who wait, and tries again later. */
static void lose(struct actor *self, struct control *c, const char *why)
{
	uint32_t shift = c->failures > 8 ? 8 : c->failures, ms = (uint32_t)CONTROL_BACKOFF_MIN_MS << shift;

	if (c->conn) {
		fd_unwatch(self, c->fd);
		PQclear(c->result);
		c->result = NULL;
		PQfinish(c->conn);
		c->conn = NULL;
	}
	if (c->current) {
		answer(self, c->current, E_IO, "08006", why);
		c->current = NULL;
	}
	for (; c->n_waiting > 0; c->n_waiting--) {
		answer(self, c->waiting[c->first], E_IO, "08006", why);
		c->first = (c->first + 1) % CONTROL_QUERIES_MAX;
	}
	c->failures++;
	actor_timer_cancel(self, KEY_DEADLINE);
	actor_timer_cancel(self, KEY_HEALTH);
	actor_timer(self, KEY_RETRY, ms > CONTROL_BACKOFF_MAX_MS ? CONTROL_BACKOFF_MAX_MS : ms);
	actor_become(self, WAITING);
	if (!c->told || c->connected || strcmp(c->info.why, why) != 0)
		tell(self, c, false, why);
}

/* ---- queries ----------------------------------------------------------------------------------------------- */

/* Sends what libpq holds back; waits for reading, and for writing while something is left. */
static bool pump(struct actor *self, struct control *c)
{
	int left = PQflush(c->conn);

	if (left < 0)
		return false;
	fd_arm(self, c->fd, left ? FD_READABLE | FD_WRITABLE : FD_READABLE);
	return true;
}

static bool begin_query(struct actor *self, struct control *c, const char *sql, const char *parameter)
{
	const char *const values[] = {parameter};

	actor_timer(self, KEY_DEADLINE, CONTROL_DEADLINE_MS);
	return PQsendQueryParams(
		       c->conn, sql, parameter ? 1 : 0, NULL, parameter ? values : NULL, NULL, NULL, 0) &&
	       pump(self, c);
}

static void lose_conn(struct actor *self, struct control *c)
{
	char why[240];

	one_line(why, sizeof(why), PQerrorMessage(c->conn), SIZE_MAX);
	lose(self, c, why[0] ? why : "connection lost");
}

static void next_query(struct actor *self, struct control *c)
{
	struct control_query *q;

	if (c->n_waiting == 0) {
		actor_become(self, IDLE);
		actor_timer(self, KEY_HEALTH, CONTROL_HEALTH_MS);
		return;
	}
	c->current = c->waiting[c->first];
	c->first = (c->first + 1) % CONTROL_QUERIES_MAX;
	c->n_waiting--;
	actor_timer_cancel(self, KEY_HEALTH);
	actor_become(self, BUSY);
	q = control_query_of(c->current);
	if (!begin_query(self, c, q->sql, strstr(q->sql, "$1") ? q->parameter : NULL))
		lose_conn(self, c);
}

static enum status on_query(struct actor *self, struct msg *m)
{
	struct control *c = actor_state(self);

	if (!c->conn) {
		answer(self, actor_keep(self, m), E_IO, "08003",
			c->info.why[0] ? c->info.why : "not connected yet");
		return OK;
	}
	if (c->n_waiting == CONTROL_QUERIES_MAX) {
		answer(self, actor_keep(self, m), E_FULL, "53400", "too many control queries are waiting");
		return OK;
	}
	c->waiting[(c->first + c->n_waiting) % CONTROL_QUERIES_MAX] = actor_keep(self, m);
	c->n_waiting++;
	if (actor_current(self) == IDLE)
		next_query(self, c);
	return OK;
}

static void answer_result(struct actor *self, struct msg *request, const PGresult *r)
{
	struct msg *m;
	struct control_rows *rows = control_rows_new(self, &m);
	ExecStatusType st = PQresultStatus(r);
	struct writer w;

	writer_init(&w, 65536);
	if (st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK) {
		rows->rows = (uint32_t)PQntuples(r);
		rows->columns = (uint32_t)PQnfields(r);
		for (int i = 0; rows->rows > 0 && i < PQnfields(r); i++)
			writer_str(&w, PQgetvalue(r, 0, i));
		rows->status = w.failed ? E_LIMIT : OK;
	} else {
		const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
		const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);

		rows->status = E_INVALID;
		str_copy(rows->sqlstate, sizeof(rows->sqlstate), state ? state : "XX000");
		one_line(rows->text, sizeof(rows->text), text ? text : "unknown error", SIZE_MAX);
	}
	rows->cells = writer_take(&w);
	writer_release(&w);
	actor_reply(self, request, &m);
	actor_drop(self, request, OK);
}

static uint8_t tls_of(const char *sslmode)
{
	if (strcmp(sslmode, "disable") == 0 || strcmp(sslmode, "allow") == 0)
		return 0;
	if (strcmp(sslmode, "prefer") == 0)
		return 1;
	return strcmp(sslmode, "require") == 0 ? 2 : 3;
}

/* Where we are connected to, in the form of io_connect, and with which sslmode. */
static void learn_address(struct control *c)
{
	const char *host = PQhost(c->conn), *port = PQport(c->conn), *dir = NULL;
	PQconninfoOption *options = PQconninfo(c->conn);

	if (!host || !host[0])
		host = "/var/run/postgresql";
	if (host[0] == '/')
		dir = host;
	if (dir)
		snprintf(c->info.address, sizeof(c->info.address), "%s/.s.PGSQL.%s", dir, port);
	else
		snprintf(c->info.address, sizeof(c->info.address), strchr(host, ':') ? "[%s]:%s" : "%s:%s",
			host, port);
	c->info.tls = 0;
	for (PQconninfoOption *o = options; !dir && o && o->keyword; o++) {
		if (strcmp(o->keyword, "sslmode") == 0 && o->val)
			c->info.tls = tls_of(o->val);
	}
	PQconninfoFree(options);
	str_copy(c->info.login, sizeof(c->info.login), PQuser(c->conn));
}

static void learned(struct actor *self, struct control *c, const PGresult *r)
{
	if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1) {
		char why[240];

		one_line(why, sizeof(why), PQresultErrorMessage(r), SIZE_MAX);
		lose(self, c, why);
		return;
	}
	c->info.server_version = (uint32_t)strtoul(PQgetvalue(r, 0, 0), NULL, 10);
	c->info.max_connections = (uint32_t)strtoul(PQgetvalue(r, 0, 1), NULL, 10);
	c->info.verifiers = PQgetvalue(r, 0, 2)[0] == '1';
	c->failures = 0;
	tell(self, c, true, "");
	next_query(self, c);
}

/* The query's end came. */
static void finish_query(struct actor *self, struct control *c)
{
	struct msg *request = c->current;
	PGresult *r = c->result;

	actor_timer_cancel(self, KEY_DEADLINE);
	c->current = NULL;
	c->result = NULL;
	if (actor_current(self) == LEARNING) {
		learned(self, c, r);
	} else {
		if (request)
			answer_result(self, request, r);
		next_query(self, c);
	}
	PQclear(r);
}

static enum status on_ready(struct actor *self, struct msg *m)
{
	struct control *c = actor_state(self);
	bool asked = actor_current(self) == LEARNING || actor_current(self) == BUSY;

	if (!c->conn || fd_ready_of(m)->fd != c->fd)
		return OK;
	if (!PQconsumeInput(c->conn) || !pump(self, c)) {
		lose_conn(self, c);
		return OK;
	}
	while (asked && !PQisBusy(c->conn)) {
		PGresult *r = PQgetResult(c->conn);

		if (!r) {
			finish_query(self, c);
			break;
		}
		PQclear(c->result);
		c->result = r;
	}
	return OK;
}

static enum status on_work_done(struct actor *self, struct msg *m)
{
	struct control *c = actor_state(self);
	struct work_done *w = work_done_of(m);
	char why[240];

	if (!c->attempt || w->work != c->work)
		return OK;
	if (w->status == OK) {
		c->conn = c->attempt->conn;
		c->attempt->conn = NULL;
	}
	if (w->status != OK && w->status != E_CLOSED)
		attempt_leave(c->attempt); /* it never ran: leave for the helper too */
	attempt_leave(c->attempt);
	c->attempt = NULL;
	if (!c->conn) {
		one_line(why, sizeof(why), (const char *)slice_data(&w->result), w->result.len);
		lose(self, c, why[0] ? why : status_name((enum status)w->status));
		return OK;
	}
	PQsetNoticeProcessor(c->conn, ignore_notice, NULL);
	if (PQsetnonblocking(c->conn, 1) != 0 ||
		fd_watch(self, PQsocket(c->conn), FD_READABLE, &c->fd) != OK) {
		PQfinish(c->conn);
		c->conn = NULL;
		lose(self, c, "could not watch the connection");
		return OK;
	}
	password_keep(PQconnectionUsedPassword(c->conn) || PQpass(c->conn) ? PQpass(c->conn) : NULL);
	learn_address(c);
	actor_become(self, LEARNING);
	if (!begin_query(self, c, LEARN, NULL))
		lose_conn(self, c);
	return OK;
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	struct control *c = actor_state(self);

	switch (timer_of(m)->key) {
	case KEY_RETRY:
		begin_attempt(self, c);
		break;
	case KEY_DEADLINE:
		lose(self, c, "no answer from Postgres within 5 s");
		break;
	case KEY_HEALTH:
		if (actor_current(self) != IDLE)
			break;
		actor_become(self, BUSY);
		if (!begin_query(self, c, "select 1", NULL))
			lose_conn(self, c);
		break;
	default:
		break;
	}
	return OK;
}

const char *control_cell(const struct control_rows *rows, uint32_t i)
{
	const char *p = (const char *)slice_data(&rows->cells), *end = p + rows->cells.len;

	for (; i > 0 && p < end; i--)
		p += strnlen(p, (size_t)(end - p)) + 1;
	return p < end && memchr(p, '\0', (size_t)(end - p)) ? p : "";
}

static enum status control_init(struct actor *self, const void *args, size_t size)
{
	const struct control_args *a = args;
	struct control *c = actor_state(self);

	check(size == sizeof(*a));
	c->parent = a->parent;
	c->conninfo = arena_strdup(actor_arena(self), a->conninfo);
	if (!c->conninfo)
		return E_NOMEM;
	begin_attempt(self, c);
	return OK;
}

static void control_exit(struct actor *self, enum status why)
{
	struct control *c = actor_state(self);

	(void)why;
	if (c->conn) {
		fd_unwatch(self, c->fd);
		PQclear(c->result);
		PQfinish(c->conn);
	}
	if (c->attempt)
		attempt_leave(c->attempt);
	if (c->conninfo)
		explicit_bzero(c->conninfo, strlen(c->conninfo));
}

static void control_show(const struct actor *self, struct writer *text)
{
	const struct control *c = actor_state(self);

	writer_printf(text, "%s %s, %u waiting", c->conn ? "connected to" : "not connected to",
		c->info.address, c->n_waiting);
}

static const struct rule control_rule_list[] = {
	{STATE_ANY, CONTROL_QUERY, on_query},
	{STATE_ANY, FD_READY, on_ready},
	{STATE_ANY, WORK_DONE, on_work_done},
	{STATE_ANY, TIMER, on_timer},
};

const struct behaviour control_behaviour = {
	.name = "tablet.control",
	.state_size = sizeof(struct control),
	.rules = control_rule_list,
	.n_rules = ARRAY_LEN(control_rule_list),
	.states = control_state_names,
	.n_states = ARRAY_LEN(control_state_names),
	.init = control_init,
	.exit = control_exit,
	.show = control_show,
	.mailbox_cap = 1000,
};
