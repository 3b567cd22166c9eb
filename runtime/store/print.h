/* Records as tables for people: mgctl store list, mgctl store get. Pure. */
#ifndef RUNTIME_STORE_PRINT_H
#define RUNTIME_STORE_PRINT_H

#include "runtime/store/batch.h"

/* Rows of a scan; table "": keys are table NUL key. */
struct slice store_table_of_rows(const char *table, const struct slice *rows);
/* One value: its version, its size, and its fields when it is a msgpack array. */
struct slice store_table_of_value(uint64_t version, const struct slice *value);

#endif
