/*
 * The pool: which backend serves which session. One a worker, named "pool.<worker>"; its backends are its children.
 *
 * Backends come in groups: same database, user and startup settings, hence interchangeable. A request takes the
 * session's last backend if it is free, else the one freed most recently, else a new one, else it waits its turn
 * (first come, first served) until its ask's deadline.
 */
#ifndef ACTORS_TABLET_POOL_H
#define ACTORS_TABLET_POOL_H

#include "runtime/core/actor.h"

enum { POOL_WAITING_MAX = 20000, POOL_GROUPS_MAX = 4096, POOL_RETRY_MS = 50, POOL_RETRY_MAX_MS = 1000 };

struct pool_config {
	uint32_t group_size; /* backends a group may have on this worker */
	uint32_t total_size; /* backends this worker may have in all */
	uint32_t connect_timeout_ms;
	uint32_t idle_timeout_ms; /* an idle backend is closed after that; 0: never */
	const char *password; /* of the role of --attach; NULL: none */
};

/* args: a `const struct pool_config *` (the pointer, size sizeof(void *)), borrowed for the pool's life. */
extern const struct behaviour pool_behaviour;

void pool_metrics_declare(void); /* once, before workers start */

#endif
