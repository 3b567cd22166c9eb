/*
 * A record's body is mostly the msgpack array of a message's fields; anything else is shown with dots for what can't
 * be printed. Output is bounded, whatever is stored.
 */
#include "runtime/store/print.h"

#include "runtime/core/table.h"

enum { SHORT_MAX = 100, WIDE_MAX = 4000, TABLE_BYTES_MAX = 4 << 20, FIELDS_MAX = 256 };

static void print_bytes(struct writer *w, const void *bytes, uint32_t n, uint32_t max)
{
	const uint8_t *p = bytes;
	uint32_t shown = n < max ? n : max;

	for (uint32_t i = 0; i < shown; i++)
		writer_u8(w, p[i] >= 0x20 && p[i] < 0x7f ? p[i] : '.');
	if (shown < n)
		writer_printf(w, "... (%u bytes)", n);
}

/* One value of msgpack at the cursor. E_INVALID: it isn't one. */
static enum status print_field(struct writer *w, struct unpack *u, uint32_t max)
{
	struct unpack start = *u;
	const uint8_t *bin;
	const char *str;
	uint64_t v;
	int64_t i;
	uint32_t n;

	if (unpack_u64(u, &v) == OK) {
		writer_printf(w, "%llu", (unsigned long long)v);
		return OK;
	}
	*u = start;
	if (unpack_i64(u, &i) == OK) {
		writer_printf(w, "%lld", (long long)i);
		return OK;
	}
	*u = start;
	if (unpack_str(u, &str, &n) == OK) {
		writer_u8(w, '"');
		print_bytes(w, str, n, max);
		writer_u8(w, '"');
		return OK;
	}
	*u = start;
	if (unpack_bin(u, &bin, &n) == OK) {
		print_bytes(w, bin, n, max);
		return OK;
	}
	*u = start;
	writer_text(w, "...");
	return unpack_skip(u);
}

static enum status print_array(struct writer *w, const uint8_t *p, uint32_t len, uint32_t max)
{
	struct unpack u = {.p = p, .end = p + len};
	uint32_t n;
	enum status st = unpack_array(&u, &n);

	for (uint32_t i = 0; !st && i < n && w->len < max; i++) {
		if (i)
			writer_text(w, ", ");
		st = print_field(w, &u, max);
	}
	return !st && w->len < max && u.p != u.end ? E_INVALID : st;
}

static void put_value(struct table_writer *t, const uint8_t *p, uint32_t len, uint32_t max)
{
	struct writer w;

	writer_init(&w, 2 * WIDE_MAX + SHORT_MAX);
	if (print_array(&w, p, len, max)) {
		w.len = 0;
		w.failed = false;
		print_bytes(&w, p, len, max);
	}
	writer_u8(&w, '\0');
	table_str(t, w.failed ? "" : (const char *)w.buf->data);
	writer_release(&w);
}

struct slice store_table_of_rows(const char *table, const struct slice *rows)
{
	static const char *const columns[] = {"table", "key", "version", "bytes", "value"};
	struct unpack u = store_rows_open(rows);
	struct store_row_view row;
	struct table_writer t;

	table_begin(&t, columns, ARRAY_LEN(columns), TABLE_BYTES_MAX);
	while (store_rows_next(&u, &row) == OK) {
		char name[STORE_TABLE_MAX + 1];
		uint32_t at = 0;

		if (table[0] == '\0') {
			uint32_t n = (uint32_t)strnlen((const char *)row.key, row.key_len);

			n = n > STORE_TABLE_MAX ? STORE_TABLE_MAX : n;
			memcpy(name, row.key, n);
			name[n] = '\0';
			at = n < row.key_len ? n + 1 : n;
		}
		table_str(&t, table[0] ? table : name);
		put_value(&t, row.key + at, row.key_len - at, SHORT_MAX);
		table_u64(&t, row.version);
		table_u64(&t, row.value_len);
		put_value(&t, row.value, row.value_len, SHORT_MAX);
	}
	return table_end(&t);
}

struct slice store_table_of_value(uint64_t version, const struct slice *value)
{
	static const char *const columns[] = {"what", "value"};
	struct unpack u = {.p = slice_data(value), .end = slice_data(value) + value->len};
	struct table_writer t;
	uint32_t n;

	table_begin(&t, columns, ARRAY_LEN(columns), TABLE_BYTES_MAX);
	table_str(&t, "version");
	table_u64(&t, version);
	table_str(&t, "bytes");
	table_u64(&t, value->len);
	if (unpack_array(&u, &n) != OK || n > FIELDS_MAX) {
		table_str(&t, "value");
		put_value(&t, slice_data(value), value->len, WIDE_MAX);
		return table_end(&t);
	}
	for (uint32_t i = 0; i < n; i++) {
		struct writer w;
		char name[32];

		writer_init(&w, 2 * WIDE_MAX);
		if (print_field(&w, &u, WIDE_MAX))
			n = i;
		writer_u8(&w, '\0');
		snprintf(name, sizeof(name), "field %u", i);
		table_str(&t, name);
		table_str(&t, w.failed ? "" : (const char *)w.buf->data);
		writer_release(&w);
	}
	return table_end(&t);
}
