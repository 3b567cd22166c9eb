/*
 * The first packet of a connection, which has no type byte (Postgres manual, "SSLRequest", "CancelRequest",
 * "StartupMessage"; what Postgres does with it: ProcessStartupPacket in backend_startup.c):
 *
 *	length (4 bytes, counts itself) | code or version (4) | rest
 *
 * Called by sessions for each packet before authentication. Limits, checks and error texts are Postgres's. Nothing is
 * copied but user and database; the rest borrows the packet, and settings are walked in place.
 */
#ifndef ACTORS_PG_STARTUP_H
#define ACTORS_PG_STARTUP_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/arena.h"
#include "runtime/base/status.h"

enum {
	STARTUP_PACKET_MAX =
		10000 + 4, /* Postgres's MAX_STARTUP_PACKET_LENGTH, which doesn't count the length */
	STARTUP_NAME_MAX = 64, /* NAMEDATALEN: longer names are cut to 63 bytes, as Postgres does */
	STARTUP_NEWEST_MINOR = 2, /* we speak 3.0 to 3.2 */
};

enum startup_kind {
	STARTUP_SSL, /* answer 'S' or 'N', then another first packet */
	STARTUP_GSSENC, /* answer 'N', then another first packet */
	STARTUP_CANCEL, /* pid and secret are filled; no answer, ever */
	STARTUP_SESSION, /* a StartupMessage */
};

enum startup_replication {
	STARTUP_NO_REPLICATION,
	STARTUP_PHYSICAL, /* replication=true */
	STARTUP_LOGICAL, /* replication=database: SQL and replication commands */
};

struct startup {
	enum startup_kind kind;

	/* CANCEL */
	uint32_t pid;
	const uint8_t *secret;
	uint32_t secret_len; /* 4 to 256 */

	/* SESSION */
	uint32_t version; /* as asked for: major << 16 | minor */
	uint32_t minor; /* what we speak then: the lesser of theirs and STARTUP_NEWEST_MINOR */
	uint32_t n_pq_options; /* `_pq_.` parameters, all of them unknown to us */
	bool negotiate; /* NegotiateProtocolVersion must be sent: newer minor, or n_pq_options > 0 */
	enum startup_replication replication;
	char user[STARTUP_NAME_MAX];
	char database[STARTUP_NAME_MAX]; /* the user's name by default; empty for physical replication */
	const char *options; /* command-line options, for startup_split_options; NULL: none */
	const char *application_name; /* NULL: none; it is among the settings too */
	const char *pairs, *pairs_end; /* for startup_next */
};

/* OK fills *len with the packet's bytes; E_AGAIN below 4 bytes; E_PROTOCOL when shorter than 8 or longer than the
 * maximum (Postgres closes such connections without an answer). */
MUST_CHECK enum status startup_peek(const uint8_t *p, uint32_t n, uint32_t *len);

/* Reads a whole packet of n bytes (from startup_peek). The error is what a FATAL ErrorResponse should say. */
MUST_CHECK enum status startup_read(
	const uint8_t *packet, uint32_t n, struct startup *out, struct error *err);

/*
 * Walks the settings in the client's order (all parameters but user, database, options, replication and `_pq_.`), or,
 * with pq_options, the `_pq_.` ones. *pos starts at 0; false at the end.
 */
bool startup_next(
	const struct startup *s, bool pq_options, uint32_t *pos, const char **name, const char **value);

struct startup_setting {
	const char *name, *value; /* dashes in the name are turned into underscores */
};

/*
 * The settings in an `options` parameter, split as pg_split_opts does (blanks separate, a backslash takes the next
 * character as it is) and read as process_postgres_switches does: -c name=value, --name=value and the one-letter
 * switches that stand for settings. Array and strings are the arena's.
 */
MUST_CHECK enum status startup_split_options(const char *options, struct arena *a,
	struct startup_setting **out, uint32_t *n_out, struct error *err);

/* Postgres's parse_bool: unique prefixes of true, false, yes, no, and on, off, 1, 0, in any case. */
bool startup_parse_bool(const char *text, bool *out);

#endif
