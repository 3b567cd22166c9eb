/*
 * The control connection: the tablet's own line to its Postgres, for looking after it. An actor, child of the tablet;
 * the only connection through libpq here. It connects, reconnects with back-off, asks for a sign of life every second, and tells
 * its parent of every change with CONTROL_CHANGED. Answers CONTROL_QUERY.
 */
#ifndef ACTORS_TABLET_CONTROL_H
#define ACTORS_TABLET_CONTROL_H

#include "actors/tablet/lifecycle_messages.h"
#include "runtime/core/actor.h"

enum {
	CONTROL_CONNINFO_MAX = 4095,
	CONTROL_QUERIES_MAX = 64, /* waiting; over it E_FULL */
	CONTROL_DEADLINE_MS = 5000, /* of one query; then the connection is given up */
	CONTROL_HEALTH_MS = 1000,
	CONTROL_BACKOFF_MIN_MS = 100,
	CONTROL_BACKOFF_MAX_MS = 2000,
};

struct control_args {
	struct pid parent;
	char conninfo[CONTROL_CONNINFO_MAX + 1]; /* may hold a password: never logged, never sent */
};

extern const struct behaviour control_behaviour;

/* Cell i of the first row of an answer; "" past the end. */
const char *control_cell(const struct control_rows *rows, uint32_t i);
/* The password the last connection was made with (from the conninfo, PGPASSWORD or a password file); NULL: none. */
const char *control_password(void);

#endif
