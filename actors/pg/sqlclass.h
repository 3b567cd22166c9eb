/*
 * The conservative classifier of SQL text: may the session give its backend back after this, or may the text leave (or
 * need) state in the backend that only a pin keeps? It looks at tokens (sqlscan.h), not at a parse tree: below 1 us for
 * an ordinary statement, any text, no limits.
 *
 * It errs to one side. A reason given in vain costs speed. It can't see what a view, trigger, default, operator or a
 * user's function with a built-in's name does: for these there is the second line of defence (DESIGN, Session state).
 *
 * Text comes as the client sent it; see sqlscan.h for encodings. standard_conforming_strings must be the session's: when
 * it isn't known, classify both ways and join the answers.
 */
#ifndef ACTORS_PG_SQLCLASS_H
#define ACTORS_PG_SQLCLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/pg/sqlscan.h"

/* Why a session must keep its backend: name, text shown to operators. */
#define SQLCLASS_REASON_LIST(R)                                                                              \
	R(PIN_SET, "set") /* SET, RESET (not SET LOCAL, TRANSACTION, CONSTRAINTS) */                         \
	R(PIN_PREPARE, "prepare") /* SQL's PREPARE, EXECUTE, DEALLOCATE */                                   \
	R(PIN_LISTEN, "listen") /* LISTEN, UNLISTEN */                                                       \
	R(PIN_TEMP, "temp") /* a temporary object is made or named */                                        \
	R(PIN_HOLD_CURSOR, "hold_cursor") /* DECLARE ... WITH HOLD */                                        \
	R(PIN_DISCARD, "discard")                                                                            \
	R(PIN_LOAD, "load")                                                                                  \
	R(PIN_DO, "do")                                                                                      \
	R(PIN_CALL, "call")                                                                                  \
	R(PIN_ADVISORY_LOCK, "advisory_lock") /* session-level; those of a transaction end with it */        \
	R(PIN_SEQUENCE_STATE,                                                                                \
		"sequence_state") /* nextval, setval (seen by currval, lastval), currval, lastval */         \
	R(PIN_SEED, "seed") /* setseed */                                                                    \
	R(PIN_SET_CONFIG, "set_config") /* also a write to pg_settings */                                    \
	R(PIN_BACKEND_MEMORY, "backend_memory") /* asks what only the backend's own memory can answer */     \
	R(PIN_FUNCTION, "function") /* a call of a function not known to leave nothing behind */             \
	R(PIN_UNKNOWN, "unknown") /* a statement or a token we don't know; text that doesn't end */

/* What else a router wants to know of the text. */
#define SQLCLASS_FACT_LIST(F)                                                                                 \
	F(SQL_EMPTY, "empty") /* no statement at all: EmptyQueryResponse */                                   \
	F(SQL_MULTIPLE, "multiple") /* more than one statement */                                             \
	F(SQL_READS,                                                                                          \
		"reads") /* each statement begins with SELECT, VALUES, SHOW, TABLE; no INTO, no FOR UPDATE */ \
	F(SQL_BEGINS, "begins") /* BEGIN, START TRANSACTION */                                                \
	F(SQL_MAY_COMMIT, "may_commit") /* COMMIT, END, PREPARE TRANSACTION, COMMIT PREPARED */               \
	F(SQL_ROLLS_BACK, "rolls_back") /* ROLLBACK, ABORT (not ROLLBACK TO) */                               \
	F(SQL_COPIES, "copies") /* COPY */                                                                    \
	F(SQL_CREATES_DATABASE, "creates_database") /* CREATE or DROP DATABASE */

#define SQLCLASS_ENUM(name, text) name##_BIT,
enum sqlclass_reason_bit { SQLCLASS_REASON_LIST(SQLCLASS_ENUM) SQLCLASS_REASONS };
enum sqlclass_fact_bit { SQLCLASS_FACT_LIST(SQLCLASS_ENUM) SQLCLASS_FACTS };
#undef SQLCLASS_ENUM
#define SQLCLASS_ENUM(name, text) name = 1 << name##_BIT,
enum sqlclass_reason { SQLCLASS_REASON_LIST(SQLCLASS_ENUM) };
enum sqlclass_fact { SQLCLASS_FACT_LIST(SQLCLASS_ENUM) };
#undef SQLCLASS_ENUM

struct sqlclass {
	uint32_t reasons; /* of enum sqlclass_reason; 0: nothing pins */
	uint32_t facts; /* of enum sqlclass_fact */
	uint32_t n_statements; /* empty ones don't count */
};

/* Classifies a whole text under standard_conforming_strings = on. Never fails. */
void sqlclass_text(const char *sql, uint32_t len, struct sqlclass *out);

/*
 * One statement of a scan, up to and with its `;`: fills *out for it alone (n_statements 1; SQL_EMPTY and SQL_MULTIPLE
 * are not set) and *off, *len with its place from its first token to before the `;`. False at the end of the text.
 */
bool sqlclass_statement(struct sqlscan *scan, struct sqlclass *out, uint32_t *off, uint32_t *len);

/* Names of one bit number each; "unknown" beyond the list. */
const char *sqlclass_reason_name(unsigned bit);
const char *sqlclass_fact_name(unsigned bit);

/* A name (lower case, unqualified) in the list of built-in functions, types and keywords that pin nothing. */
bool sqlclass_safe_name(const char *name, uint32_t len);

#endif
