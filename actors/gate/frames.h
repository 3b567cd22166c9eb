/*
 * What a client's bytes mean for the one who passes them on. Pure: bytes in, a cut out; nothing is copied.
 *
 * A client's stream is a row of *units*, each answered with one ReadyForQuery: a Query, a FunctionCall, or a batch of
 * extended messages up to its Sync. A unit is counted where it begins, so that whoever counts units against
 * ReadyForQuery knows that an open batch is owed one (a backend must not be given away in the middle of it).
 *
 *	bytes   | Q ........ | P B D E S | P B (no Sync yet)
 *	units       1            1         1                    -> cut.units 3, in_batch stays true
 *
 * frames_scan says how many of the given bytes may go on now (cut.len, after cut.skip that are to be dropped), and what
 * they do: units, execute flags, reasons to pin, what becomes of the unnamed statement. It stops before a message that
 * has not wholly come when its contents matter, and before one that begins a unit when none may begin. Large messages
 * are passed on in parts; `remain` counts what is still to come.
 *
 * A backend must never be given away with a part of a message in it, or the next session's bytes would be read as the
 * rest. So parts are passed on only inside a unit that is still owed its ReadyForQuery, or with a pin. Copy data is
 * neither (its COPY may have failed already): up to FRAMES_KEEP_MAX it goes on whole, above it pins.
 *
 * The same stream cut into chunks in any way gives the same sums: that is the property tested.
 */
#ifndef ACTORS_GATE_FRAMES_H
#define ACTORS_GATE_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/pg/sqlclass.h"

enum {
	FRAMES_MESSAGE_MAX = 0x3fffffff + 1, /* Postgres's PQ_LARGE_MESSAGE_LIMIT, plus the type byte */
	FRAMES_SMALL_MAX = 10000 + 1, /* PQ_SMALL_MESSAGE_LIMIT, plus the type byte */
	FRAMES_KEEP_MAX = 256 << 10, /* a text up to this is collected to be classified */
	FRAMES_SCAN_MAX = 640 << 10, /* bytes looked at in one go; more than KEEP_MAX */
	FRAMES_UNNAMED_MAX = 64 << 10, /* a Parse up to this is kept to be repeated */
	FRAMES_COMMITTERS = 4,
};

/* The gate's own reasons to pin, after those of sqlclass.h. */
#define FRAMES_PIN_LIST(P)                                                                                   \
	P(PIN_NAMED_STATEMENT, "named_statement")                                                            \
	P(PIN_UNNAMED_STATEMENT, "unnamed_statement") /* too large to be kept */                             \
	P(PIN_LARGE, "large_statement") /* too large to be looked at */                                      \
	P(PIN_FUNCTION_CALL, "function_call") /* the FunctionCall message */                                 \
	P(PIN_COPY_EXTENDED, "copy_extended") /* Sync is ignored in COPY: units can't be counted */          \
	P(PIN_MIXED, "mixed_protocols") /* a Query inside an open batch: the same */                         \
	P(PIN_REPLICATION, "replication")                                                                    \
	P(PIN_PARAMETER, "parameter_status") /* a setting changed that no text announced */                  \
	P(PIN_TEXT, "text_encoding") /* an encoding or string syntax the scanner can't read */

#define FRAMES_PIN_BIT(name, text) name##_BIT,
enum frames_pin_bit { FRAMES_PIN_BASE = SQLCLASS_REASONS - 1, FRAMES_PIN_LIST(FRAMES_PIN_BIT) FRAMES_PINS };
#undef FRAMES_PIN_BIT
#define FRAMES_PIN_MASK(name, text) name = 1 << name##_BIT,
enum frames_pin { FRAMES_PIN_LIST(FRAMES_PIN_MASK) };
#undef FRAMES_PIN_MASK

/* What is remembered of a session's stream between chunks. Zeroed at start. */
struct frames {
	uint32_t remain; /* bytes still to come of a message passed on in part */
	uint32_t committers[FRAMES_COMMITTERS]; /* hashes of named statements that may commit */
	uint8_t n_committers; /* over FRAMES_COMMITTERS: any may */
	uint8_t unnamed_flags; /* what executing the unnamed statement adds to cut.flags */
	bool unnamed_writes;
	bool in_batch; /* a unit of extended messages has begun and its Sync hasn't come */
	bool here; /* the leased backend's unnamed statement is the session's */
	bool copy_ended; /* CopyDone or CopyFail came since the last Query */
	bool discard; /* `remain` is to be dropped */
};

enum frames_end {
	FRAMES_ALL, /* everything was used */
	FRAMES_MORE, /* the rest is the beginning of a message; come again with more */
	FRAMES_HOLD, /* the rest begins a unit, and none may begin */
	FRAMES_TERMINATE, /* the rest begins with Terminate */
	FRAMES_BAD_TYPE, /* the rest begins with a message that doesn't exist (bad_type) */
	FRAMES_BAD_LENGTH,
};

struct frames_cut {
	uint32_t skip, len; /* bytes to drop, then bytes to pass on */
	uint32_t units; /* begun in them */
	uint32_t pins; /* reasons seen */
	uint32_t parses; /* Parses of the unnamed statement */
	uint32_t parse_off, parse_len; /* the last of them, in the bytes given; len 0: none */
	uint8_t flags; /* EXECUTE_COPY, EXECUTE_COMMIT */
	uint8_t bad_type;
	bool unnamed_dropped; /* the unnamed statement is gone, unless parse_len */
	bool needs_unnamed; /* uses the unnamed statement, which this backend doesn't have */
	bool writes; /* may change something */
	bool rolls_back;
	enum frames_end end;
};

enum frames_how {
	FRAMES_LEASED = 1, /* a backend is there: copy data and Flush have a receiver */
	FRAMES_MAY_BEGIN = 2, /* units may begin */
};

/* Looks at n bytes that follow what was used before. n at most FRAMES_SCAN_MAX. */
void frames_scan(struct frames *f, unsigned how, const uint8_t *p, uint32_t n, struct frames_cut *out);

#endif
