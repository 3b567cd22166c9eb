/*
 * The tablet: the actor that owns one Postgres. Named "tablet".
 *
 *	own     makes a cluster in data_dir if there is none, runs Postgres on it, restarts it, stops it when told to
 *		shut down. When the node merely dies Postgres lives on and is adopted by the next one
 *	attach  serves a Postgres that others run: connects by a conninfo and watches
 *
 * Bring-up is the durable workflow "tablet.bring_up" (lifecycle_steps.c); it needs the actors "store" and "flow".
 * What the tablet answers and tells stands in actors/tablet/messages.h.
 *
 *	{ .name = "tablet", .behaviour = &tablet_behaviour, .args = &config_pointer, .args_size = sizeof(config_pointer),
 *	  .shutdown_ms = 30000 }
 */
#ifndef ACTORS_TABLET_LIFECYCLE_H
#define ACTORS_TABLET_LIFECYCLE_H

#include "runtime/core/actor.h"

enum tablet_mode { TABLET_OWN, TABLET_ATTACH };

enum { TABLET_MAX_CONNECTIONS = 100, TABLET_STOP_MS = 20000 };

/* Filled by the program; borrowed for the node's life, read only. */
struct tablet_config {
	enum tablet_mode mode;
	const char *data_dir; /* own: absolute path; holds the cluster (pgdata), its socket and its log */
	const char *pg_bin_dir; /* own: where postgres and initdb are; NULL: searched */
	const char *run_as; /* own, as root: the user; NULL: "postgres" if there is one, else "nobody" */
	uint16_t pg_port; /* own: on 127.0.0.1, and in the private socket's name */
	uint32_t max_connections; /* own; 0: TABLET_MAX_CONNECTIONS */
	const char *attach; /* attach: libpq conninfo or URL */
};

/* An actor's args are a `const struct tablet_config *` (the pointer, size sizeof(void *)). */
extern const struct behaviour tablet_behaviour;

/* Adds the tablet's inner messages and its workflow; once, before workers start, after catalog_add_{store,flow,tablet}. */
void tablet_setup(void);

/* E_INVALID with a text when the conninfo can't be parsed, or a path can't be used. Doesn't block. */
enum status tablet_config_check(const struct tablet_config *config, struct error *err) MUST_CHECK;

/*
 * The password that the role of --attach logs in with, for backends; NULL: none known (yet). Stays valid. Never in a
 * message, a log or the store. Any thread.
 */
const char *tablet_attach_password(void);

#endif
