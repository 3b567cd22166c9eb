/*
 * Records and commits above a backend: table prefixes, versions, checksums, expectations. Runs on helper threads and
 * touches nothing but its arguments and the backend.
 *
 * The version counter is itself a record (table "_store", key "version"), written once a transaction.
 */
#include "runtime/store/backend.h"

#include "runtime/base/bytes.h"
#include "runtime/store/crc32c.h"

enum {
	RECORD_FORMAT = 1,
	RECORD_HEAD = 9,
	RECORD_TAIL = 4,
	FULL_KEY_MAX = STORE_TABLE_MAX + 1 + STORE_KEY_MAX
};

static const char COUNTER_TABLE[] = "_store", COUNTER_KEY[] = "version";

struct full_key {
	uint8_t bytes[FULL_KEY_MAX];
	uint32_t n, table_len;
};

static struct store_bytes full_key_make(
	struct full_key *k, const char *table, size_t table_len, const void *key, size_t key_len)
{
	check(table_len <= STORE_TABLE_MAX && key_len <= STORE_KEY_MAX);
	memcpy(k->bytes, table, table_len);
	k->bytes[table_len] = '\0';
	if (key_len)
		memcpy(k->bytes + table_len + 1, key, key_len);
	k->table_len = (uint32_t)table_len;
	k->n = (uint32_t)(table_len + 1 + key_len);
	return (struct store_bytes){k->bytes, k->n};
}

static enum status corrupt(struct error *err, struct store_bytes key, const char *what)
{
	size_t table_len = strnlen((const char *)key.p, key.n);
	size_t rest = key.n > table_len ? key.n - table_len - 1 : 0;

	return error_set(err, E_IO, "XX001", "stored record %.*s/%.*s is damaged: %s", (int)table_len,
		(const char *)key.p, (int)(rest > 64 ? 64 : rest), (const char *)key.p + table_len + 1, what);
}

/* Checks a stored value and gives its body and version. */
static enum status record_open(struct store_bytes key, struct store_bytes value, struct store_bytes *body,
	uint64_t *version, struct error *err)
{
	uint32_t crc;

	if (value.n < RECORD_HEAD + RECORD_TAIL)
		return corrupt(err, key, "too short");
	crc = crc32c(crc32c(0, key.p, key.n), value.p, value.n - RECORD_TAIL);
	if (crc != load_be32(value.p + value.n - RECORD_TAIL))
		return corrupt(err, key, "checksum mismatch");
	if (value.p[0] != RECORD_FORMAT)
		return corrupt(err, key, "unknown format, written by a newer build?");
	*version = load_be64(value.p + 1);
	*body = (struct store_bytes){value.p + RECORD_HEAD, value.n - RECORD_HEAD - RECORD_TAIL};
	return OK;
}

static enum status record_get(struct store_backend *be, struct store_txn *txn, struct store_bytes key,
	struct store_bytes *body, uint64_t *version, struct error *err)
{
	struct store_bytes value;
	enum status st = be->ops->get(be, txn, key, &value, err);

	return st ? st : record_open(key, value, body, version, err);
}

static enum status record_put(struct store_backend *be, struct store_txn *txn, struct store_bytes key,
	const void *body, uint32_t n, uint64_t version, struct writer *scratch, struct error *err)
{
	scratch->len = 0;
	writer_u8(scratch, RECORD_FORMAT);
	writer_u64(scratch, version);
	writer_put(scratch, body, n);
	if (!scratch->failed)
		writer_u32(scratch, crc32c(crc32c(0, key.p, key.n), scratch->buf->data, scratch->len));
	if (scratch->failed)
		return error_set(err, E_LIMIT, "54000", "record is larger than %d bytes", STORE_VALUE_MAX);
	return be->ops->put(be, txn, key, (struct store_bytes){scratch->buf->data, scratch->len}, err);
}

/* ---- commits ----------------------------------------------------------------------------------------------- */

struct group {
	struct store_backend *be;
	struct store_txn *txn;
	struct writer scratch;
	uint64_t version;
};

static enum status group_begin(struct group *g, struct error *err)
{
	struct full_key k;
	struct store_bytes key, body;
	uint64_t version;
	enum status st = g->be->ops->begin(g->be, true, &g->txn, err);

	if (st)
		return st;
	g->version = 0;
	key = full_key_make(&k, COUNTER_TABLE, strlen(COUNTER_TABLE), COUNTER_KEY, strlen(COUNTER_KEY));
	st = record_get(g->be, g->txn, key, &body, &version, err);
	if (st == OK)
		g->version = version;
	else if (st != E_NOT_FOUND)
		g->be->ops->abort(g->be, g->txn);
	return st == E_NOT_FOUND ? OK : st;
}

static enum status group_commit(struct group *g, struct error *err)
{
	struct full_key k;
	struct store_bytes key;
	enum status st;

	key = full_key_make(&k, COUNTER_TABLE, strlen(COUNTER_TABLE), COUNTER_KEY, strlen(COUNTER_KEY));
	st = record_put(g->be, g->txn, key, "", 0, g->version, &g->scratch, err);
	if (st) {
		g->be->ops->abort(g->be, g->txn);
		return st;
	}
	return g->be->ops->commit(g->be, g->txn, err);
}

static enum status expect(
	struct group *g, const struct store_op_view *op, struct store_bytes key, struct error *err)
{
	struct store_bytes body;
	uint64_t version = 0;
	enum status st = record_get(g->be, g->txn, key, &body, &version, err);

	if (st && st != E_NOT_FOUND)
		return st;
	if (op->op == STORE_OP_EXPECT_ABSENT)
		return st == E_NOT_FOUND
			       ? OK
			       : error_set(err, E_STALE, "55000", "record %.*s/%.*s exists already",
					 (int)op->table_len, op->table,
					 (int)(op->key_len > 64 ? 64 : op->key_len), (const char *)op->key);
	if (st == OK && version == op->version)
		return OK;
	return error_set(err, E_STALE, "55000", "record %.*s/%.*s has version %llu, not %llu",
		(int)op->table_len, op->table, (int)(op->key_len > 64 ? 64 : op->key_len),
		(const char *)op->key, (unsigned long long)version, (unsigned long long)op->version);
}

static enum status op_malformed(enum status st, struct error *err)
{
	return error_set(err, st, st == E_LIMIT ? "54000" : "22023",
		st == E_LIMIT ? "batch exceeds a limit of the store" : "malformed batch");
}

/* One walk over a unit's operations: reading only (expectations, syntax), or writing. */
static enum status unit_walk(struct group *g, struct store_unit *unit, bool write, struct error *err)
{
	struct unpack u;
	struct store_op_view op;
	struct full_key k;
	struct store_bytes key;
	uint32_t n;
	enum status st = store_batch_open(&unit->ops, &u, &n);

	if (st)
		return op_malformed(st, err);
	for (uint32_t i = 0; i < n; i++) {
		bool is_write;

		st = store_batch_next(&u, &op);
		if (st)
			return op_malformed(st, err);
		key = full_key_make(&k, op.table, op.table_len, op.key, op.key_len);
		is_write = op.op == STORE_OP_PUT || op.op == STORE_OP_DELETE;
		if (is_write != write)
			continue;
		if (op.op == STORE_OP_PUT)
			st = record_put(
				g->be, g->txn, key, op.value, op.value_len, g->version, &g->scratch, err);
		else if (op.op == STORE_OP_DELETE)
			st = g->be->ops->del(g->be, g->txn, key, err);
		else
			st = expect(g, &op, key, err);
		if (st && !(st == E_NOT_FOUND && op.op == STORE_OP_DELETE))
			return st;
	}
	return OK;
}

static void unit_settle(struct store_unit *unit, enum status st, const struct error *err)
{
	unit->status = st;
	if (st)
		str_copy(unit->text, sizeof(unit->text), err->text);
}

/* Gives OK when the transaction was committed; then every unit is settled. */
static enum status run_group(
	struct store_backend *be, struct store_unit *units, uint32_t n, struct error *err)
{
	struct group g = {.be = be};
	enum status st;

	writer_init(&g.scratch, STORE_VALUE_MAX + RECORD_HEAD + RECORD_TAIL);
	st = group_begin(&g, err);
	for (uint32_t i = 0; !st && i < n; i++) {
		struct error unit_err = {0};
		enum status unit_st = unit_walk(&g, &units[i], false, &unit_err);

		if (!unit_st) {
			g.version++;
			units[i].version = g.version;
			st = unit_walk(&g, &units[i], true, err); /* fails: the transaction is unusable */
			if (st)
				be->ops->abort(be, g.txn);
		}
		unit_settle(&units[i], unit_st, &unit_err);
	}
	if (!st)
		st = group_commit(&g, err);
	writer_release(&g.scratch);
	return st;
}

void store_run_units(struct store_backend *be, struct store_unit *units, uint32_t n)
{
	struct error err = {0};
	enum status st = run_group(be, units, n, &err);

	for (uint32_t i = 0; st && i < n; i++) {
		enum status alone = n == 1 ? st : run_group(be, &units[i], 1, &err);

		if (alone)
			unit_settle(&units[i], alone, &err);
	}
}

/* ---- reads ------------------------------------------------------------------------------------------------- */

enum status store_read(struct store_backend *be, const char *table, const void *key, uint32_t key_len,
	struct writer *value, uint64_t *version, struct error *err)
{
	struct full_key k;
	struct store_bytes body;
	struct store_txn *txn;
	enum status st;

	if (strlen(table) > STORE_TABLE_MAX || key_len > STORE_KEY_MAX)
		return error_set(err, E_LIMIT, "54000", "key is longer than %d bytes", STORE_KEY_MAX);
	st = be->ops->begin(be, false, &txn, err);
	if (st)
		return st;
	st = record_get(be, txn, full_key_make(&k, table, strlen(table), key, key_len), &body, version, err);
	if (!st)
		writer_put(value, body.p, (uint32_t)body.n);
	be->ops->abort(be, txn);
	return st;
}

struct scan_state {
	struct store_read_rows *q;
	struct error *err;
	size_t prefix; /* bytes of table NUL, cut off the keys; 0 for all tables */
	enum status status;
	struct full_key start;
};

static bool scan_each(void *arg, struct store_bytes key, struct store_bytes value)
{
	struct scan_state *s = arg;
	struct store_bytes body;
	struct store_row_view row;
	uint32_t before = s->q->rows->len;

	if (key.n < s->prefix || memcmp(key.p, s->start.bytes, s->prefix) != 0)
		return false;
	if (s->q->n >= s->q->limit) {
		s->q->more = true;
		return false;
	}
	s->status = record_open(key, value, &body, &row.version, s->err);
	if (s->status)
		return false;
	row.key = key.p + s->prefix;
	row.key_len = (uint32_t)(key.n - s->prefix);
	row.value = body.p;
	row.value_len = (uint32_t)body.n;
	store_rows_put(s->q->rows, &row);
	if (s->q->rows->failed) { /* no room for this one: it comes first next time */
		s->q->rows->failed = false;
		s->q->rows->len = before;
		s->q->more = true;
		return false;
	}
	s->q->n++;
	return true;
}

enum status store_read_many(struct store_backend *be, struct store_read_rows *q, struct error *err)
{
	struct scan_state s = {.q = q, .err = err};
	struct store_txn *txn;
	struct store_bytes from;
	size_t table_len = strlen(q->table);
	enum status st;

	if (table_len > STORE_TABLE_MAX || q->from_len > STORE_KEY_MAX)
		return error_set(err, E_LIMIT, "54000", "key is longer than %d bytes", STORE_KEY_MAX);
	q->n = 0;
	q->more = false;
	from = full_key_make(&s.start, q->table, table_len, q->from, q->from_len);
	s.prefix = table_len ? table_len + 1 : 0;
	st = be->ops->begin(be, false, &txn, err);
	if (st)
		return st;
	st = be->ops->scan(be, txn, from, scan_each, &s, err);
	be->ops->abort(be, txn);
	return st ? st : s.status;
}
