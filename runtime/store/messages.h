/*
 * What the store is asked. It is one actor a node, named "store".
 *
 *	STORE_COMMIT -> STORE_COMMITTED		a batch (runtime/store/batch.h), all of it or nothing, durable when told
 *	STORE_GET    -> STORE_VALUE		sees everything that was acknowledged before it was asked
 *	STORE_SCAN   -> STORE_ROWS		keys of one table in byte order, from a key on
 *	STORE_LIST, STORE_PRINT, STORE_SHOW -> TABLE		for people
 *
 * A request that couldn't be carried out is answered with DONE{status, text}, only STORE_COMMIT always with
 * STORE_COMMITTED. A commit that ends in ASK_FAILED has an unknown outcome: it may be on disk.
 */
#ifndef RUNTIME_STORE_MESSAGES_H
#define RUNTIME_STORE_MESSAGES_H

#include "runtime/core/catalog.h"

enum {
	STORE_TABLE_MAX = 31, /* bytes of a table's name, no NUL in it */
	STORE_KEY_MAX = 470, /* bytes; LMDB takes 511 with the table's name */
	STORE_VALUE_MAX = 1 << 20, /* bytes */
	STORE_BATCH_MAX = 2 << 20, /* bytes of one batch */
	STORE_BATCH_OPS_MAX = 1024,
	STORE_ROWS_BYTES_MAX = 4 << 20, /* bytes of one answer to a scan */
	STORE_SCAN_MAX = 1000, /* rows of one answer to a scan */
};

#define STORE_COMMIT_FIELDS(F, S) F(S, bin, ops, STORE_BATCH_MAX)
/*
 * status E_STALE: an expectation wasn't met and nothing was changed; E_FULL: too much is waiting, or the map is full.
 * version: of everything written by this commit; grows with each commit, over restarts too.
 */
#define STORE_COMMITTED_FIELDS(F, S)                                                                         \
	F(S, u8, status, 0)                                                                                  \
	F(S, u64, version, 0)                                                                                \
	F(S, str, text, 240)
#define STORE_GET_FIELDS(F, S)                                                                               \
	F(S, str, table, STORE_TABLE_MAX)                                                                    \
	F(S, bin, key, STORE_KEY_MAX)
#define STORE_VALUE_FIELDS(F, S)                                                                             \
	F(S, u8, found, 0)                                                                                   \
	F(S, u64, version, 0)                                                                                \
	F(S, bin, value, STORE_VALUE_MAX)
/* limit 0: STORE_SCAN_MAX. from: the first key wanted, inclusive; empty: from the start. */
#define STORE_SCAN_FIELDS(F, S)                                                                              \
	F(S, str, table, STORE_TABLE_MAX)                                                                    \
	F(S, bin, from, STORE_KEY_MAX)                                                                       \
	F(S, u32, limit, 0)
/* rows: read with store_rows_next. more: the scan ended by its limits; go on after the last key. */
#define STORE_ROWS_FIELDS(F, S)                                                                              \
	F(S, u32, n, 0)                                                                                      \
	F(S, u8, more, 0)                                                                                    \
	F(S, bin, rows, STORE_ROWS_BYTES_MAX + 65536)
/* table empty: of all tables. Columns: table key version bytes value. */
#define STORE_LIST_FIELDS(F, S)                                                                              \
	F(S, str, table, STORE_TABLE_MAX)                                                                    \
	F(S, str, from, STORE_KEY_MAX)                                                                       \
	F(S, u32, limit, 0)
#define STORE_PRINT_FIELDS(F, S)                                                                             \
	F(S, str, table, STORE_TABLE_MAX)                                                                    \
	F(S, str, key, STORE_KEY_MAX)
#define STORE_SHOW_FIELDS(F, S)

#define STORE_MESSAGES(M)                                                                                    \
	M(STORE_COMMIT, store_commit, 0x0201, MSG_ASK)                                                       \
	M(STORE_COMMITTED, store_committed, 0x0202, MSG_PLAIN)                                               \
	M(STORE_GET, store_get, 0x0203, MSG_ASK)                                                             \
	M(STORE_VALUE, store_value, 0x0204, MSG_PLAIN)                                                       \
	M(STORE_SCAN, store_scan, 0x0205, MSG_ASK)                                                           \
	M(STORE_ROWS, store_rows, 0x0206, MSG_PLAIN)                                                         \
	M(STORE_LIST, store_list, 0x0207, MSG_ASK)                                                           \
	M(STORE_PRINT, store_print, 0x0208, MSG_ASK)                                                         \
	M(STORE_SHOW, store_show, 0x0209, MSG_ASK)

MSG_FOLDER(store, STORE_MESSAGES);

#endif
