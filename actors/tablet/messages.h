/*
 * What the tablet is asked and what it says: its public face.
 *
 *	session -> pool     POOL_OPEN, EXECUTE        pool -> session     POOL_OPENED, POOL_REFUSED
 *	session -> backend  REQUEST FLOW CANCEL RELEASE   backend -> session  LEASED ROWS LEASE_LOST
 *	backend -> pool     BACKEND_READY BACKEND_FAILED BACKEND_IDLE
 *	anyone  -> tablet   TABLET_WHERE AUTH_LOOKUP  tablet -> watchers  TABLET_SERVING
 *
 * A lease is one session's use of one backend. EXECUTE is an ask that travels session -> pool -> backend; the
 * backend settles it with LEASED. From then on the session speaks to the backend itself, and the backend ends the
 * lease, in the ROWS that carries the last ReadyForQuery, when nothing is outstanding, no transaction is open, the
 * last bytes weren't EXECUTE_OPEN and the session hasn't pinned it.
 *
 * The race at the end of a lease: a session may send a REQUEST while the ROWS that ends its lease is on its way. The
 * backend sends such a REQUEST back as it is. ROWS.taken says how many REQUESTs of the lease had been taken, so that the
 * session knows how many come back; it executes their bytes anew, in order, before anything newer.
 */
#ifndef ACTORS_TABLET_MESSAGES_H
#define ACTORS_TABLET_MESSAGES_H

#include "runtime/core/catalog.h"

enum { BYTES_MAX = 1048576, PARAMS_MAX = 16384, PG_NAME_MAX = 63 };

enum execute_flags {
	EXECUTE_PIN = 1, /* keep the lease past ReadyForQuery, until RELEASE */
	EXECUTE_COPY = 2, /* the bytes may start a COPY: answers can't be counted ahead */
	EXECUTE_COMMIT = 4, /* the bytes may commit: no cancel may reach the backend meanwhile */
	EXECUTE_OPEN =
		8, /* the bytes end inside a batch or a message: the lease can't end before the rest came */
};

enum rows_flags {
	ROWS_LEASE_END = 1, /* the backend is no longer the session's */
	ROWS_PARAMETERS = 2, /* holds at least one ParameterStatus */
	ROWS_PARTIAL = 4, /* ends inside a message: nothing of anybody else's may follow */
};

enum release_how {
	RELEASE_CLEAN, /* nothing outstanding: reset and reuse */
	RELEASE_ABORT, /* close: what is open can't be finished */
	RELEASE_DRAIN, /* the client has gone: what runs goes on to its end, as Postgres has it; then close */
	RELEASE_CANCEL, /* the same, but cancelled first, unless it may be committing */
};

/*
 * A session's login: who, where, with which startup settings (name NUL value NUL ..., client's order). keys: the
 * client's SCRAM ClientKey (32 bytes) or nothing. Backends of one group are interchangeable: same database, user
 * and settings, so RESET goes back to what the client asked for at startup.
 */
#define POOL_OPEN_FIELDS(F, S)                                                                               \
	F(S, str, database, PG_NAME_MAX)                                                                     \
	F(S, str, user, PG_NAME_MAX)                                                                         \
	F(S, bin, settings, PARAMS_MAX)                                                                      \
	F(S, bin, keys, 64)
/* parameters: ParameterStatus as the backend reported them, name NUL value NUL ... */
#define POOL_OPENED_FIELDS(F, S)                                                                             \
	F(S, u64, group, 0)                                                                                  \
	F(S, bin, parameters, PARAMS_MAX)
/* error: the body of an ErrorResponse, to be passed to the client as it is. */
#define POOL_REFUSED_FIELDS(F, S) F(S, bin, error, 65536)
/*
 * expect: how many ReadyForQuery the bytes call for. prefer: the session's last backend, or none. client_pid: what the
 * client takes for its backend's pid; a notification from its own backend is told under that.
 */
#define EXECUTE_FIELDS(F, S)                                                                                 \
	F(S, u64, group, 0)                                                                                  \
	F(S, pid, prefer, 0)                                                                                 \
	F(S, u32, expect, 0)                                                                                 \
	F(S, u8, flags, 0)                                                                                   \
	F(S, bin, bytes, BYTES_MAX)                                                                          \
	F(S, u32, client_pid, 0)
#define LEASED_FIELDS(F, S)                                                                                  \
	F(S, pid, backend, 0)                                                                                \
	F(S, u64, lease, 0)
#define REQUEST_FIELDS(F, S)                                                                                 \
	F(S, u64, lease, 0)                                                                                  \
	F(S, u32, expect, 0)                                                                                 \
	F(S, u8, flags, 0)                                                                                   \
	F(S, bin, bytes, BYTES_MAX)
/* tx: the last ReadyForQuery's status I T E, 0 when there is none; ready: how many are in the bytes. */
#define ROWS_FIELDS(F, S)                                                                                    \
	F(S, u64, lease, 0)                                                                                  \
	F(S, u32, ready, 0)                                                                                  \
	F(S, u8, tx, 0)                                                                                      \
	F(S, u8, flags, 0)                                                                                   \
	F(S, u32, taken, 0) /* with ROWS_LEASE_END */                                                        \
	F(S, bin, bytes, BYTES_MAX)
/*
 * The backend died under the lease. error: ErrorResponse body, empty when Postgres's own last words were passed on; sent:
 * whether anything had reached Postgres.
 */
#define LEASE_LOST_FIELDS(F, S)                                                                              \
	F(S, u64, lease, 0)                                                                                  \
	F(S, u8, sent, 0)                                                                                    \
	F(S, bin, error, 65536)
/* The client is full (stop 1) or drained (stop 0): the backend stops or goes on reading. */
#define FLOW_FIELDS(F, S)                                                                                    \
	F(S, u64, lease, 0)                                                                                  \
	F(S, u8, stop, 0)
#define CANCEL_FIELDS(F, S) F(S, u64, lease, 0)
/* The session is done with the lease; how: enum release_how. */
#define RELEASE_FIELDS(F, S)                                                                                 \
	F(S, u64, lease, 0)                                                                                  \
	F(S, u8, how, 0)
/* member: the pool's name for the backend. */
#define BACKEND_READY_FIELDS(F, S)                                                                           \
	F(S, u64, member, 0)                                                                                 \
	F(S, bin, parameters, PARAMS_MAX)
#define BACKEND_FAILED_FIELDS(F, S)                                                                          \
	F(S, u64, member, 0)                                                                                 \
	F(S, bin, error, 65536)
#define BACKEND_IDLE_FIELDS(F, S) F(S, u64, member, 0)
/* A session that ended forgets its waiting requests and leases. */
#define POOL_FORGET_FIELDS(F, S) F(S, pid, session, 0)
#define POOL_SHOW_FIELDS(F, S)

/* Where Postgres is and whether it serves; answered with TABLET_SERVING, also sent to group "tablet.watchers". */
#define TABLET_WHERE_FIELDS(F, S)
#define TABLET_SERVING_FIELDS(F, S)                                                                          \
	F(S, u8, serving, 0)                                                                                 \
	F(S, str, address, 159)                                                                              \
	F(S, u8, tls, 0) /* 0 none, 1 prefer, 2 require, 3 verify-full: as sslmode of --attach */            \
	F(S, str, login, PG_NAME_MAX) /* the role of --attach, or the superuser of our own Postgres */       \
	F(S, u8, trusted, 0) /* any user may log in over that address without a password (our own socket) */ \
	F(S, u8, verifiers, 0) /* SCRAM verifiers can be read */                                             \
	F(S, u32, server_version, 0)                                                                         \
	F(S, u32, max_connections, 0)                                                                        \
	F(S, str, why, 240) /* when not serving: why */
/* The SCRAM verifier of a user, as pg_authid has it. */
#define AUTH_LOOKUP_FIELDS(F, S) F(S, str, user, PG_NAME_MAX)
#define AUTH_ENTRY_FIELDS(F, S)                                                                              \
	F(S, u8, found, 0)                                                                                   \
	F(S, u8, can_login, 0)                                                                               \
	F(S, str, verifier, 255) /* empty: no password set */                                                \
	F(S, str, why, 240) /* when verifiers can't be read: what is missing */
#define TABLET_SHOW_FIELDS(F, S)

#define TABLET_MESSAGES(M)                                                                                   \
	M(POOL_OPEN, pool_open, 0x1101, MSG_ASK)                                                             \
	M(POOL_OPENED, pool_opened, 0x1102, MSG_PLAIN)                                                       \
	M(POOL_REFUSED, pool_refused, 0x1103, MSG_PLAIN)                                                     \
	M(EXECUTE, execute, 0x1104, MSG_ASK)                                                                 \
	M(LEASED, leased, 0x1105, MSG_PLAIN)                                                                 \
	M(REQUEST, request, 0x1106, MSG_PLAIN)                                                               \
	M(ROWS, rows, 0x1107, MSG_PLAIN)                                                                     \
	M(LEASE_LOST, lease_lost, 0x1108, MSG_PLAIN)                                                         \
	M(FLOW, flow, 0x1109, MSG_PLAIN)                                                                     \
	M(CANCEL, cancel, 0x110a, MSG_PLAIN)                                                                 \
	M(RELEASE, release, 0x110b, MSG_PLAIN)                                                               \
	M(BACKEND_READY, backend_ready, 0x110c, MSG_SYSTEM)                                                  \
	M(BACKEND_FAILED, backend_failed, 0x110d, MSG_SYSTEM)                                                \
	M(BACKEND_IDLE, backend_idle, 0x110e, MSG_PLAIN)                                                     \
	M(POOL_FORGET, pool_forget, 0x110f, MSG_PLAIN)                                                       \
	M(POOL_SHOW, pool_show, 0x1110, MSG_ASK)                                                             \
	M(TABLET_WHERE, tablet_where, 0x1120, MSG_ASK)                                                       \
	M(TABLET_SERVING, tablet_serving, 0x1121, MSG_STATE)                                                 \
	M(AUTH_LOOKUP, auth_lookup, 0x1122, MSG_ASK)                                                         \
	M(AUTH_ENTRY, auth_entry, 0x1123, MSG_PLAIN)                                                         \
	M(TABLET_SHOW, tablet_show, 0x1124, MSG_ASK)

MSG_FOLDER(tablet, TABLET_MESSAGES);

#endif
