/*
 * The actor "ready": says, once, that the node serves: all gates listen and the tablet is up. Until then it also
 * watches for a start that will never succeed, and ends the process with the reason rather than trying for ever.
 */
#ifndef SUPERVISOR_READY_H
#define SUPERVISOR_READY_H

#include "runtime/core/actor.h"

/* A start is given up when bringing Postgres up failed, and, that long afterwards, has failed again. */
enum { READY_PATIENCE_MS = 3000, READY_WHY_MAX = 240 };

/* Shared with the program; it outlives the actor, whose lives may be many. */
struct ready_state {
	const char *listen; /* HOST:PORT of the gate, for the URL */
	const char *database; /* for the URL */
	const char **pool_password; /* filled in once the tablet knows it, before clients are invited */
	bool own; /* Postgres is ours: what keeps it from starting will not go away by itself */
	int notify_fd; /* the parent's pipe, or stdout */
	bool announced;
	uint64_t failed_at_us; /* the first failed attempt; 0: none */
	char why[READY_WHY_MAX + 1];
	volatile bool failed; /* read by the main thread after the actor raised SIGTERM */
};

/* Args: a `struct ready_state *` (the pointer). */
extern const struct behaviour ready_behaviour;

#endif
