/*
 * What the cluster knows, and how to ask for it: the actor named "topo".
 *
 *	TOPO_PUT -> TOPO_STORED		compare-and-swap on a record's version
 *	TOPO_GET -> TOPO_RECORD
 *	TOPO_WATCH -> DONE, then TOPO_RECORD for each record of the kind there is, then for each change
 *	TOPO_SHOW -> TABLE
 *
 * A value is the catalog encoding of the kind's own message (TOPO_CELL ...), so records evolve as messages do.
 */
#ifndef TOPO_MESSAGES_H
#define TOPO_MESSAGES_H

#include "runtime/core/catalog.h"

enum { TOPO_NAME_MAX = 255, TOPO_VALUE_MAX = 16384 };
enum topo_kind { TOPO_KIND_CELL = 1, TOPO_KIND_DATABASE, TOPO_KIND_SHARD, TOPO_KIND_TABLET, TOPO_KINDS };

#define TOPO_CELL_FIELDS(F, S) F(S, str, name, 63)
#define TOPO_DATABASE_FIELDS(F, S)                                                                           \
	F(S, str, name, 63)                                                                                  \
	F(S, str, table_group, 63) /* the default one */
/* name: database/table_group/shard. Key range [from, to) of 64-bit keys, as hexadecimal prefixes; empty: open. */
#define TOPO_SHARD_FIELDS(F, S)                                                                              \
	F(S, str, name, TOPO_NAME_MAX)                                                                       \
	F(S, str, from, 16)                                                                                  \
	F(S, str, to, 16)                                                                                    \
	F(S, str, primary, 63) /* a tablet's name */                                                         \
	F(S, u64, term, 0)
#define TOPO_TABLET_FIELDS(F, S)                                                                             \
	F(S, str, name, 63)                                                                                  \
	F(S, str, cell, 63)                                                                                  \
	F(S, str, shard, TOPO_NAME_MAX)                                                                      \
	F(S, str, address, 159)

/* version: of the record; 0: it doesn't exist (any more). */
#define TOPO_RECORD_FIELDS(F, S)                                                                             \
	F(S, u8, kind, 0)                                                                                    \
	F(S, str, name, TOPO_NAME_MAX)                                                                       \
	F(S, u64, version, 0)                                                                                \
	F(S, bin, value, TOPO_VALUE_MAX)
/* expect: the version that must be there; 0: none may be. remove: delete it. */
#define TOPO_PUT_FIELDS(F, S)                                                                                \
	F(S, u8, kind, 0)                                                                                    \
	F(S, str, name, TOPO_NAME_MAX)                                                                       \
	F(S, u64, expect, 0)                                                                                 \
	F(S, u8, remove, 0)                                                                                  \
	F(S, bin, value, TOPO_VALUE_MAX)
/* status E_STALE: somebody else was first; version is then the present one. */
#define TOPO_STORED_FIELDS(F, S)                                                                             \
	F(S, u8, status, 0)                                                                                  \
	F(S, u64, version, 0)                                                                                \
	F(S, str, text, 240)
#define TOPO_GET_FIELDS(F, S)                                                                                \
	F(S, u8, kind, 0)                                                                                    \
	F(S, str, name, TOPO_NAME_MAX)
#define TOPO_WATCH_FIELDS(F, S) F(S, u8, kind, 0)
#define TOPO_SHOW_FIELDS(F, S)

#define TOPO_MESSAGES(M)                                                                                     \
	M(TOPO_CELL, topo_cell, 0x1501, MSG_PLAIN)                                                           \
	M(TOPO_DATABASE, topo_database, 0x1502, MSG_PLAIN)                                                   \
	M(TOPO_SHARD, topo_shard, 0x1503, MSG_PLAIN)                                                         \
	M(TOPO_TABLET, topo_tablet, 0x1504, MSG_PLAIN)                                                       \
	M(TOPO_RECORD, topo_record, 0x1510, MSG_PLAIN)                                                       \
	M(TOPO_PUT, topo_put, 0x1511, MSG_ASK)                                                               \
	M(TOPO_STORED, topo_stored, 0x1512, MSG_PLAIN)                                                       \
	M(TOPO_GET, topo_get, 0x1513, MSG_ASK)                                                               \
	M(TOPO_WATCH, topo_watch, 0x1514, MSG_ASK)                                                           \
	M(TOPO_SHOW, topo_show, 0x1515, MSG_ASK)

MSG_FOLDER(topo, TOPO_MESSAGES);

#endif
