/* Tables as msgpack maps. The number of rows is patched in at the end, as an array32 head. */
#include "runtime/core/table.h"

#include <msgpack.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

enum { ARRAY32 = 0xdd };

static int table_write(void *data, const char *bytes, size_t n)
{
	writer_put(data, bytes, (uint32_t)n);
	return 0;
}

static void pack_text(msgpack_packer *pk, const char *s)
{
	size_t n = strlen(s);

	msgpack_pack_str(pk, n);
	msgpack_pack_str_body(pk, s, n);
}

void table_begin(struct table_writer *t, const char *const *columns, uint32_t n, uint32_t max_bytes)
{
	msgpack_packer pk;

	*t = (struct table_writer){.n_columns = n};
	writer_init(&t->out, max_bytes);
	msgpack_packer_init(&pk, &t->out, table_write);
	msgpack_pack_map(&pk, 2);
	pack_text(&pk, "columns");
	msgpack_pack_array(&pk, n);
	for (uint32_t i = 0; i < n; i++)
		pack_text(&pk, columns[i]);
	pack_text(&pk, "rows");
	writer_u8(&t->out, ARRAY32);
	t->rows_at = t->out.len;
	writer_u32(&t->out, 0);
}

/* The head of a row goes before its first cell. False: the table is full, the row is left out. */
static bool cell_begin(struct table_writer *t, msgpack_packer *pk)
{
	bool first = t->cells++ % t->n_columns == 0;

	if (first && t->full)
		t->left_out++;
	if (t->full)
		return false;
	msgpack_packer_init(pk, &t->out, table_write);
	if (first) {
		t->row_at = t->out.len;
		msgpack_pack_array(pk, t->n_columns);
		t->n_rows++;
	}
	return true;
}

/* A row that doesn't fit is taken back whole, and none comes after it. */
static void cell_end(struct table_writer *t)
{
	if (likely(!t->out.failed))
		return;
	t->out.failed = false;
	t->out.len = t->row_at;
	t->full = true;
	t->n_rows--;
	t->left_out++;
}

void table_str(struct table_writer *t, const char *s)
{
	msgpack_packer pk;

	if (!cell_begin(t, &pk))
		return;
	pack_text(&pk, s);
	cell_end(t);
}

void table_u64(struct table_writer *t, uint64_t v)
{
	msgpack_packer pk;

	if (!cell_begin(t, &pk))
		return;
	msgpack_pack_uint64(&pk, v);
	cell_end(t);
}

void table_i64(struct table_writer *t, int64_t v)
{
	msgpack_packer pk;

	if (!cell_begin(t, &pk))
		return;
	msgpack_pack_int64(&pk, v);
	cell_end(t);
}

void table_nil(struct table_writer *t)
{
	msgpack_packer pk;

	if (!cell_begin(t, &pk))
		return;
	msgpack_pack_nil(&pk);
	cell_end(t);
}

struct slice table_end(struct table_writer *t)
{
	check(t->cells % t->n_columns == 0 && t->row_at <= t->out.len);
	writer_set_u32(&t->out, t->rows_at, t->n_rows);
	return writer_take(&t->out);
}
