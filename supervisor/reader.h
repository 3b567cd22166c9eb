/* Reading what tables and requests hold: msgpack from outside, through the core's bounded cursor. Borrows the input. */
#ifndef SUPERVISOR_READER_H
#define SUPERVISOR_READER_H

#include "runtime/core/codec.h"
#include "runtime/core/table.h"

enum { TABLE_COLUMNS_MAX = 32 };
enum cell_kind { CELL_NIL, CELL_STR, CELL_U64, CELL_I64 };

struct cell {
	enum cell_kind kind;
	const char *s; /* not NUL-terminated */
	uint32_t n;
	uint64_t u;
	int64_t i;
};

struct table_reader {
	struct unpack u;
	uint32_t n_columns, rows_left;
	struct cell columns[TABLE_COLUMNS_MAX];
};

/* E_INVALID on anything but a table (runtime/core/table.h). */
enum status table_read(struct table_reader *r, const void *bytes, size_t n) MUST_CHECK;
/* The next row's cells, n_columns of them; false at the end, or where the table is broken. */
bool table_next(struct table_reader *r, struct cell cells[TABLE_COLUMNS_MAX]);
/* The column's index, or -1. */
int table_column(const struct table_reader *r, const char *name);
bool cell_is(const struct cell *c, const char *text);
/* The cell as text; gives out. */
const char *cell_text(const struct cell *c, char *out, size_t cap);
void cell_copy(struct table_writer *t, const struct cell *c);

/* A value of a msgpack map with string keys; false when it isn't there. `at` then stands on the value. */
bool map_find(const void *bytes, size_t n, const char *key, struct unpack *at);
/* The same, a string (or an integer, as text) that fits into cap; empty and false otherwise. */
bool map_str(const void *bytes, size_t n, const char *key, char *out, size_t cap);

#endif
