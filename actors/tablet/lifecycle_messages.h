/*
 * The tablet's messages among its own actors, and the records of its bring-up. Nobody else sends them.
 *
 *	bring-up workflow -> tablet   POSTGRES_START POSTGRES_READY -> DONE
 *	tablet -> control             CONTROL_QUERY -> CONTROL_ROWS
 *	control -> tablet             CONTROL_CHANGED
 */
#ifndef ACTORS_TABLET_LIFECYCLE_MESSAGES_H
#define ACTORS_TABLET_LIFECYCLE_MESSAGES_H

#include "actors/tablet/messages.h"

/* Inputs of the workflow "tablet.bring_up". No secret is in it: it is kept in the store. */
#define TABLET_PLAN_FIELDS(F, S)                                                                             \
	F(S, str, base, 511)                                                                                 \
	F(S, str, bin_dir, 511)                                                                              \
	F(S, str, run_as, 31)                                                                                \
	F(S, u32, port, 0)                                                                                   \
	F(S, u32, max_connections, 0)
/* What its steps found out; its result. */
#define TABLET_FOUND_FIELDS(F, S)                                                                            \
	F(S, str, bin_dir, 511)                                                                              \
	F(S, u32, major, 0)                                                                                  \
	F(S, u32, version, 0)                                                                                \
	F(S, i64, uid, 0)                                                                                    \
	F(S, i64, gid, 0)                                                                                    \
	F(S, str, socket_dir, 100)
/* Start Postgres, or adopt the one that runs. found: TABLET_FOUND's encoding. */
#define POSTGRES_START_FIELDS(F, S) F(S, bin, found, 4096)
/* E_AGAIN: not yet; E_CRASHED with the log's end: it ended. */
#define POSTGRES_READY_FIELDS(F, S)
/* At most one parameter ($1). */
#define CONTROL_QUERY_FIELDS(F, S)                                                                           \
	F(S, str, sql, 1000)                                                                                 \
	F(S, str, parameter, 255)
/* The first row's cells, as text, each with its NUL; a NULL is empty. status E_IO: no connection; E_INVALID: SQL error. */
#define CONTROL_ROWS_FIELDS(F, S)                                                                            \
	F(S, u8, status, 0)                                                                                  \
	F(S, str, sqlstate, 5)                                                                               \
	F(S, str, text, 240)                                                                                 \
	F(S, u32, rows, 0)                                                                                   \
	F(S, u32, columns, 0)                                                                                \
	F(S, bin, cells, 65536)
#define CONTROL_CHANGED_FIELDS(F, S)                                                                         \
	F(S, u8, connected, 0)                                                                               \
	F(S, str, why, 240)                                                                                  \
	F(S, str, address, 159)                                                                              \
	F(S, str, login, PG_NAME_MAX)                                                                        \
	F(S, u8, tls, 0)                                                                                     \
	F(S, u8, verifiers, 0)                                                                               \
	F(S, u32, server_version, 0)                                                                         \
	F(S, u32, max_connections, 0)

#define LIFECYCLE_MESSAGES(M)                                                                                \
	M(TABLET_PLAN, tablet_plan, 0x1180, MSG_PLAIN)                                                       \
	M(TABLET_FOUND, tablet_found, 0x1181, MSG_PLAIN)                                                     \
	M(POSTGRES_START, postgres_start, 0x1182, MSG_ASK)                                                   \
	M(POSTGRES_READY, postgres_ready, 0x1183, MSG_ASK)                                                   \
	M(CONTROL_QUERY, control_query, 0x1184, MSG_ASK)                                                     \
	M(CONTROL_ROWS, control_rows, 0x1185, MSG_PLAIN)                                                     \
	M(CONTROL_CHANGED, control_changed, 0x1186, MSG_PLAIN)

MSG_FOLDER(lifecycle, LIFECYCLE_MESSAGES);

#endif
