/*
 * A backend: one connection to Postgres, speaking the protocol itself. It logs in, serves one lease after another,
 * and ends when Postgres closes or the pool tells it to.
 *
 *	CONNECTING -> [TLS_ASKED -> TLS_UP] -> LOGIN -> IDLE <-> ON_LEASE -> RESETTING -> IDLE
 *	                                                           └─────> DRAINING -> end
 *
 * Worker-local to its pool, whose child it is. Invariant: it says BACKEND_IDLE only with nothing outstanding, no
 * transaction open, no cancel on its way, and its session's state known to be gone.
 */
#ifndef ACTORS_TABLET_BACKEND_H
#define ACTORS_TABLET_BACKEND_H

#include "runtime/core/actor.h"

enum { BACKEND_KEYS = 64, BACKEND_QUEUE_MARK = 262144, BACKEND_RESET_MS = 5000 };

struct backend_args {
	uint64_t member; /* the pool's name for it */
	const char *address;
	uint8_t tls; /* as TABLET_SERVING.tls */
	const struct slice *startup; /* the StartupMessage, shared by the group */
	const uint8_t *keys; /* SCRAM ClientKey and ServerKey, BACKEND_KEYS bytes; NULL: none */
	const char *password; /* NULL: none. Borrowed for the node's life */
	const char *user;
	uint32_t connect_timeout_ms;
};

extern const struct behaviour backend_behaviour;

#endif
