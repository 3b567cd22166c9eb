/*
 * The embedded topology. All records are in memory, read from the store (table "topo", key = kind byte, name) at birth;
 * a change is committed there first, with the version expected, and told to watchers when it is on disk.
 *
 *	LOADING -> READY
 */
#include "topo/embedded.h"

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/core/table.h"
#include "runtime/store/batch.h"

MSG_FOLDER_DEFINE(topo, TOPO_MESSAGES);

enum { STORE_MS = 10000, RETRY_MS = 250, KEY_LOAD = 1, TABLE_BYTES_MAX = 1 << 20 };

#define TOPO_STATES(S) S(LOADING) S(READY)
STATES(topo, TOPO_STATES);

struct record {
	struct record *next; /* sorted by kind, then name */
	uint64_t version;
	struct slice value;
	uint8_t kind;
	char name[TOPO_NAME_MAX + 1];
};

struct watcher {
	struct pid pid;
	uint64_t ref;
	uint8_t kind;
};

struct pending {
	uint64_t corr;
	struct msg *request; /* kept TOPO_PUT */
};

struct topo {
	struct record *records;
	uint32_t n_records, n_watchers, n_pending;
	struct watcher watchers[TOPO_WATCHERS_MAX];
	struct pending pending[TOPO_PENDING_MAX];
	struct slice load_from;
};

const struct msg_desc *topo_kind_desc(uint8_t kind)
{
	static const struct msg_desc *const descs[TOPO_KINDS] = {
		NULL, &TOPO_CELL_desc, &TOPO_DATABASE_desc, &TOPO_SHARD_desc, &TOPO_TABLET_desc};

	return kind < TOPO_KINDS ? descs[kind] : NULL;
}

const char *topo_kind_name(uint8_t kind)
{
	static const char *const names[TOPO_KINDS] = {"?", "cell", "database", "shard", "tablet"};

	return kind < TOPO_KINDS ? names[kind] : "?";
}

/* ---- records ------------------------------------------------------------------------------------------------- */

/* Where the record is, or would be. */
static struct record **find(struct topo *t, uint8_t kind, const char *name, bool *found)
{
	struct record **p = &t->records;
	int c = -1;

	for (; *p; p = &(*p)->next) {
		c = (*p)->kind != kind ? (int)kind - (*p)->kind : strcmp(name, (*p)->name);
		if (c <= 0)
			break;
	}
	*found = *p && c == 0;
	return p;
}

static const struct record *get(struct topo *t, uint8_t kind, const char *name)
{
	bool found;
	struct record **p = find(t, kind, name, &found);

	return found ? *p : NULL;
}

/* Takes the value. */
static void set(struct topo *t, uint8_t kind, const char *name, uint64_t version, struct slice value)
{
	bool found;
	struct record **p = find(t, kind, name, &found), *r;

	if (!found) {
		r = calloc(1, sizeof(*r));
		if (!r)
			panic("out of memory");
		r->kind = kind;
		str_copy(r->name, sizeof(r->name), name);
		r->next = *p;
		*p = r;
		t->n_records++;
	}
	slice_release(&(*p)->value);
	(*p)->value = value;
	(*p)->version = version;
}

static void forget(struct topo *t, uint8_t kind, const char *name)
{
	bool found;
	struct record **p = find(t, kind, name, &found), *r = *p;

	if (!found)
		return;
	*p = r->next;
	slice_release(&r->value);
	free(r);
	t->n_records--;
}

static struct msg *record_msg(struct actor *self, uint8_t kind, const char *name, const struct record *r)
{
	struct msg *m;
	struct topo_record *out = topo_record_new(self, &m);

	out->kind = kind;
	str_copy(out->name, sizeof(out->name), name);
	out->version = r ? r->version : 0;
	if (r)
		out->value = slice_sub(&r->value, 0, r->value.len);
	return m;
}

/* ---- asking -------------------------------------------------------------------------------------------------- */

static enum status on_get(struct actor *self, struct msg *m)
{
	struct topo_get *g = topo_get_of(m);
	struct msg *out = record_msg(self, g->kind, g->name, get(actor_state(self), g->kind, g->name));

	actor_reply(self, m, &out);
	return OK;
}

static enum status on_watch(struct actor *self, struct msg *m)
{
	struct topo *t = actor_state(self);
	uint8_t kind = topo_watch_of(m)->kind;
	struct pid who = m->from;

	if (!topo_kind_desc(kind) || t->n_watchers == TOPO_WATCHERS_MAX) {
		actor_reply_status(self, m, topo_kind_desc(kind) ? E_FULL : E_INVALID, "can't watch that");
		return OK;
	}
	t->watchers[t->n_watchers++] = (struct watcher){who, actor_monitor(self, who), kind};
	actor_reply_status(self, m, OK, NULL);
	for (const struct record *r = t->records; r; r = r->next) {
		struct msg *out;

		if (r->kind != kind)
			continue;
		out = record_msg(self, kind, r->name, r);
		actor_send(self, who, &out);
	}
	return OK;
}

static enum status on_down(struct actor *self, struct msg *m)
{
	struct topo *t = actor_state(self);

	(void)self;
	for (uint32_t i = t->n_watchers; i > 0; i--) {
		if (t->watchers[i - 1].ref == down_of(m)->ref)
			t->watchers[i - 1] = t->watchers[--t->n_watchers];
	}
	return OK;
}

static enum status on_show(struct actor *self, struct msg *m)
{
	static const char *const columns[] = {"kind", "name", "version", "bytes"};
	const struct topo *t = actor_state(self);
	struct table_writer w;
	struct msg *out;

	table_begin(&w, columns, ARRAY_LEN(columns), TABLE_BYTES_MAX);
	for (const struct record *r = t->records; r; r = r->next) {
		table_str(&w, topo_kind_name(r->kind));
		table_str(&w, r->name);
		table_u64(&w, r->version);
		table_u64(&w, r->value.len);
	}
	table_new(self, &out)->rows = table_end(&w);
	actor_reply(self, m, &out);
	return OK;
}

/* ---- changing ------------------------------------------------------------------------------------------------ */

static void stored(
	struct actor *self, struct msg *request, enum status st, uint64_t version, const char *text)
{
	struct msg *m;
	struct topo_stored *s = topo_stored_new(self, &m);

	s->status = m->status = (uint8_t)st;
	s->version = version;
	str_copy(s->text, sizeof(s->text), text);
	actor_reply(self, request, &m);
}

static enum status put_check(struct topo *t, const struct topo_put *p, const char **why)
{
	*why = "somebody else was first";
	if (!topo_kind_desc(p->kind) || !p->name[0]) {
		*why = "no such kind of record, or no name";
		return E_INVALID;
	}
	if (t->n_records + t->n_pending >= TOPO_RECORDS_MAX || t->n_pending == TOPO_PENDING_MAX) {
		*why = "too many records, or changes at once";
		return E_FULL;
	}
	return OK;
}

static uint32_t key_make(uint8_t key[TOPO_NAME_MAX + 1], uint8_t kind, const char *name)
{
	key[0] = kind;
	memcpy(key + 1, name, strlen(name));
	return (uint32_t)strlen(name) + 1;
}

static enum status on_put(struct actor *self, struct msg *m)
{
	struct topo *t = actor_state(self);
	struct topo_put *p = topo_put_of(m);
	uint8_t key[TOPO_NAME_MAX + 1];
	struct store_batch b;
	const char *why;
	uint32_t n;
	enum status st = put_check(t, p, &why);

	if (st) {
		stored(self, m, st, 0, why);
		return OK;
	}
	n = key_make(key, p->kind, p->name);
	store_batch_begin(&b);
	if (p->expect)
		store_batch_expect_version(&b, "topo", key, n, p->expect);
	else
		store_batch_expect_absent(&b, "topo", key, n);
	if (p->remove)
		store_batch_delete(&b, "topo", key, n);
	else
		store_batch_put(&b, "topo", key, n, slice_data(&p->value), p->value.len);
	t->pending[t->n_pending].corr = store_ask_commit(self, &b, STORE_MS);
	t->pending[t->n_pending++].request = actor_keep(self, m);
	return OK;
}

static struct msg *pending_take(struct topo *t, uint64_t corr)
{
	for (uint32_t i = 0; i < t->n_pending; i++) {
		struct msg *request = t->pending[i].request;

		if (t->pending[i].corr != corr)
			continue;
		t->pending[i] = t->pending[--t->n_pending];
		return request;
	}
	return NULL;
}

static void changed(struct actor *self, struct topo *t, struct topo_put *p, uint64_t version)
{
	const struct record *r;

	if (p->remove)
		forget(t, p->kind, p->name);
	else
		set(t, p->kind, p->name, version, slice_take(&p->value));
	r = get(t, p->kind, p->name);
	for (uint32_t i = 0; i < t->n_watchers; i++) {
		struct msg *m;

		if (t->watchers[i].kind != p->kind)
			continue;
		m = record_msg(self, p->kind, p->name, r);
		actor_send(self, t->watchers[i].pid, &m);
	}
}

static enum status on_committed(struct actor *self, struct msg *m)
{
	struct topo *t = actor_state(self);
	struct store_committed *c = store_committed_of(m);
	struct msg *request = pending_take(t, m->corr);
	struct topo_put *p;

	if (!request)
		return OK;
	p = topo_put_of(request);
	if (c->status == OK) {
		changed(self, t, p, c->version);
		stored(self, request, OK, p->remove ? 0 : c->version, "");
	} else {
		const struct record *r = get(t, p->kind, p->name);

		stored(self, request, (enum status)c->status, r ? r->version : 0, c->text);
	}
	actor_drop(self, request, OK);
	return OK;
}

/* ---- loading ------------------------------------------------------------------------------------------------- */

static enum status load(struct actor *self)
{
	struct topo *t = actor_state(self);

	store_ask_scan(self, "topo", slice_data(&t->load_from), t->load_from.len, 0, STORE_MS);
	return OK;
}

static enum status on_rows(struct actor *self, struct msg *m)
{
	struct topo *t = actor_state(self);
	struct unpack u = store_rows_open(&store_rows_of(m)->rows);
	struct store_row_view row = {0};

	while (store_rows_next(&u, &row) == OK) {
		char name[TOPO_NAME_MAX + 1];

		if (row.key_len < 2 || row.key_len > TOPO_NAME_MAX + 1)
			continue;
		memcpy(name, row.key + 1, row.key_len - 1);
		name[row.key_len - 1] = '\0';
		set(t, row.key[0], name, row.version, slice_copy(row.value, row.value_len));
	}
	slice_release(&t->load_from);
	if (!store_rows_of(m)->more || !row.key) {
		actor_become(self, READY);
		return OK;
	}
	t->load_from = slice_copy(row.key, row.key_len); /* comes again, which harms nothing */
	return load(self);
}

/*
 * The store didn't answer. While loading: again. A change whose outcome is unknown: what is in memory may be old, so
 * this life ends and the next one reads the truth; the asker is told by the runtime.
 */
static enum status on_failed(struct actor *self, struct msg *m)
{
	struct topo *t = actor_state(self);

	if (actor_current(self) == LOADING) {
		actor_timer(self, KEY_LOAD, RETRY_MS);
		return OK;
	}
	if (!pending_take(t, m->corr))
		return OK;
	return actor_fail(self, E_IO, "the outcome of a change is unknown");
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	(void)m;
	return load(self);
}

static enum status topo_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	return load(self);
}

static void topo_exit(struct actor *self, enum status why)
{
	struct topo *t = actor_state(self);

	(void)why;
	while (t->records)
		forget(t, t->records->kind, t->records->name);
	slice_release(&t->load_from);
}

static const struct rule topo_rules[] = {
	{LOADING, TOPO_GET, actor_defer},
	{LOADING, TOPO_WATCH, actor_defer},
	{LOADING, TOPO_PUT, actor_defer},
	{LOADING, TOPO_SHOW, actor_defer},
	{LOADING, STORE_ROWS, on_rows},
	{LOADING, TIMER, on_timer},
	{READY, TOPO_GET, on_get},
	{READY, TOPO_WATCH, on_watch},
	{READY, TOPO_PUT, on_put},
	{READY, TOPO_SHOW, on_show},
	{READY, STORE_COMMITTED, on_committed},
	{STATE_ANY, ASK_FAILED, on_failed},
	{STATE_ANY, DONE, on_failed},
	{STATE_ANY, DOWN, on_down},
};

const struct behaviour topo_embedded_behaviour = {
	.name = "topo",
	.state_size = sizeof(struct topo),
	.rules = topo_rules,
	.n_rules = ARRAY_LEN(topo_rules),
	.states = topo_state_names,
	.n_states = ARRAY_LEN(topo_state_names),
	.init = topo_init,
	.exit = topo_exit,
};
