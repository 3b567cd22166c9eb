/* Batches and rows as bytes: written with the widest msgpack heads, so that counts and lengths can be patched. */
#include "runtime/store/batch.h"

#include "runtime/base/bytes.h"

MSG_FOLDER_DEFINE(store, STORE_MESSAGES);

enum {
	MP_ARRAY3 = 0x93,
	MP_ARRAY4 = 0x94,
	MP_BIN32 = 0xc6,
	MP_U64 = 0xcf,
	MP_STR8 = 0xd9,
	MP_ARRAY32 = 0xdd
};

static void put_bin(struct writer *w, const void *bytes, uint32_t n)
{
	writer_u8(w, MP_BIN32);
	writer_u32(w, n);
	writer_put(w, bytes, n);
}

static void put_u64(struct writer *w, uint64_t v)
{
	writer_u8(w, MP_U64);
	writer_u64(w, v);
}

void store_batch_begin(struct store_batch *b)
{
	writer_init(&b->out, STORE_BATCH_MAX);
	b->n = 0;
	writer_u8(&b->out, MP_ARRAY32);
	writer_u32(&b->out, 0);
}

static void put_op(
	struct store_batch *b, enum store_op op, const char *table, const void *key, uint32_t key_len)
{
	size_t table_len = strlen(table);

	if (table_len == 0 || table_len > STORE_TABLE_MAX || key_len > STORE_KEY_MAX ||
		b->n >= STORE_BATCH_OPS_MAX) {
		b->out.failed = true;
		return;
	}
	b->n++;
	writer_u8(&b->out, MP_ARRAY4);
	writer_u8(&b->out, (uint8_t)op);
	writer_u8(&b->out, MP_STR8);
	writer_u8(&b->out, (uint8_t)table_len);
	writer_put(&b->out, table, (uint32_t)table_len);
	put_bin(&b->out, key, key_len);
}

void store_batch_put(struct store_batch *b, const char *table, const void *key, uint32_t key_len,
	const void *value, uint32_t value_len)
{
	put_op(b, STORE_OP_PUT, table, key, key_len);
	if (value_len > STORE_VALUE_MAX)
		b->out.failed = true;
	put_bin(&b->out, value, value_len);
}

void store_batch_put_body(struct store_batch *b, const char *table, const void *key, uint32_t key_len,
	const struct msg_desc *desc, const void *body)
{
	uint32_t at;

	put_op(b, STORE_OP_PUT, table, key, key_len);
	writer_u8(&b->out, MP_BIN32);
	at = b->out.len;
	writer_u32(&b->out, 0);
	msg_encode_body(desc, body, &b->out);
	if (b->out.failed)
		return;
	if (b->out.len - at - 4 > STORE_VALUE_MAX)
		b->out.failed = true;
	writer_set_u32(&b->out, at, b->out.len - at - 4);
}

void store_batch_delete(struct store_batch *b, const char *table, const void *key, uint32_t key_len)
{
	put_op(b, STORE_OP_DELETE, table, key, key_len);
	put_bin(&b->out, "", 0);
}

void store_batch_expect_absent(struct store_batch *b, const char *table, const void *key, uint32_t key_len)
{
	put_op(b, STORE_OP_EXPECT_ABSENT, table, key, key_len);
	put_bin(&b->out, "", 0);
}

void store_batch_expect_version(
	struct store_batch *b, const char *table, const void *key, uint32_t key_len, uint64_t version)
{
	put_op(b, STORE_OP_EXPECT_VERSION, table, key, key_len);
	put_u64(&b->out, version);
}

struct slice store_batch_take(struct store_batch *b)
{
	if (!b->out.failed)
		writer_set_u32(&b->out, 1, b->n);
	b->n = 0;
	return writer_take(&b->out);
}

void store_batch_release(struct store_batch *b)
{
	writer_release(&b->out);
}

uint64_t store_ask_commit(struct actor *self, struct store_batch *b, uint32_t timeout_ms)
{
	struct msg *m;
	struct store_commit *commit = store_commit_new(self, &m);

	commit->ops = store_batch_take(b);
	return actor_ask(self, actor_whereis(self, "store"), &m, timeout_ms);
}

uint64_t store_ask_get(
	struct actor *self, const char *table, const void *key, uint32_t key_len, uint32_t timeout_ms)
{
	struct msg *m;
	struct store_get *get = store_get_new(self, &m);

	str_copy(get->table, sizeof(get->table), table);
	get->key = slice_copy(key, key_len);
	return actor_ask(self, actor_whereis(self, "store"), &m, timeout_ms);
}

uint64_t store_ask_scan(struct actor *self, const char *table, const void *from, uint32_t from_len,
	uint32_t limit, uint32_t timeout_ms)
{
	struct msg *m;
	struct store_scan *scan = store_scan_new(self, &m);

	str_copy(scan->table, sizeof(scan->table), table);
	scan->from = slice_copy(from, from_len);
	scan->limit = limit;
	return actor_ask(self, actor_whereis(self, "store"), &m, timeout_ms);
}

enum status store_batch_open(const struct slice *ops, struct unpack *u, uint32_t *n)
{
	enum status st;

	*u = (struct unpack){.p = slice_data(ops), .end = slice_data(ops) + ops->len};
	*n = 0;
	if (ops->len == 0)
		return E_LIMIT; /* a builder over its limits gives nothing */
	st = unpack_array(u, n);
	if (!st && *n > STORE_BATCH_OPS_MAX)
		st = E_LIMIT;
	return st;
}

enum status store_batch_next(struct unpack *u, struct store_op_view *op)
{
	uint32_t n;
	uint64_t code;
	enum status st;

	*op = (struct store_op_view){0};
	st = unpack_array(u, &n);
	if (st)
		return st;
	if (n != 4)
		return E_INVALID;
	st = unpack_u64(u, &code);
	if (!st)
		st = unpack_str(u, &op->table, &op->table_len);
	if (!st)
		st = unpack_bin(u, &op->key, &op->key_len);
	if (st)
		return st;
	if (code > STORE_OP_EXPECT_VERSION || op->table_len == 0 || memchr(op->table, '\0', op->table_len))
		return E_INVALID;
	if (op->table_len > STORE_TABLE_MAX || op->key_len > STORE_KEY_MAX)
		return E_LIMIT;
	op->op = (enum store_op)code;
	if (op->op == STORE_OP_EXPECT_VERSION)
		return unpack_u64(u, &op->version);
	st = unpack_bin(u, &op->value, &op->value_len);
	if (!st && op->value_len > STORE_VALUE_MAX)
		st = E_LIMIT;
	return st;
}

void store_rows_put(struct writer *w, const struct store_row_view *row)
{
	writer_u8(w, MP_ARRAY3);
	put_bin(w, row->key, row->key_len);
	put_u64(w, row->version);
	put_bin(w, row->value, row->value_len);
}

struct unpack store_rows_open(const struct slice *rows)
{
	return (struct unpack){.p = slice_data(rows), .end = slice_data(rows) + rows->len};
}

enum status store_rows_next(struct unpack *u, struct store_row_view *row)
{
	uint32_t n;
	enum status st;

	if (u->p == u->end)
		return E_AGAIN;
	st = unpack_array(u, &n);
	if (!st && n != 3)
		st = E_INVALID;
	if (!st)
		st = unpack_bin(u, &row->key, &row->key_len);
	if (!st)
		st = unpack_u64(u, &row->version);
	if (!st)
		st = unpack_bin(u, &row->value, &row->value_len);
	return st;
}
