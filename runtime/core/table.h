/*
 * Tables: the one form in which actors answer people and programs (mgctl, the console, HTTP). A msgpack map
 * {"columns": [name, ...], "rows": [[cell, ...], ...]}; cells are str, integers or nil. Built here, rendered by
 * whoever shows it.
 */
#ifndef RUNTIME_CORE_TABLE_H
#define RUNTIME_CORE_TABLE_H

#include "runtime/base/buf.h"

struct table_writer {
	struct writer out;
	uint32_t n_columns, n_rows, rows_at, row_at, cells;
	uint32_t left_out; /* rows that didn't fit */
	bool full;
};

void table_begin(struct table_writer *t, const char *const *columns, uint32_t n, uint32_t max_bytes);
/* A row is n_columns cells, in order (checked). The first that doesn't fit into max_bytes and all after it are left out. */
void table_str(struct table_writer *t, const char *s);
void table_u64(struct table_writer *t, uint64_t v);
void table_i64(struct table_writer *t, int64_t v);
void table_nil(struct table_writer *t);
struct slice table_end(struct table_writer *t);

#endif
