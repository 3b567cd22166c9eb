/*
 * Status codes and errors: what every fallible function here returns.
 *
 * A function that can fail returns `enum status`; OK is zero, so `if (st)` reads "if it failed". Where a person
 * will read the reason, the function also fills a `struct error`, written where the failure is born, with a
 * SQLSTATE and a text in Postgres's style (lower case, no full stop; hint says what to do).
 */
#ifndef RUNTIME_BASE_STATUS_H
#define RUNTIME_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATUS_LIST(S)                                                                                       \
	S(OK, "ok")                                                                                          \
	S(E_NORMAL, "normal") /* an actor's ordinary end */                                                  \
	S(E_SHUTDOWN, "shutdown") /* told to stop by its supervisor */                                       \
	S(E_KILLED, "killed") /* told to die at once */                                                      \
	S(E_TIMEOUT, "timeout") /* a deadline passed */                                                      \
	S(E_NOPROC, "noproc") /* no such actor, or it is gone */                                             \
	S(E_NODE_DOWN, "node_down") /* the link to its node is gone */                                       \
	S(E_FULL, "full") /* a queue is at its cap */                                                        \
	S(E_LIMIT, "limit") /* a named maximum was exceeded */                                               \
	S(E_NOMEM, "nomem")                                                                                  \
	S(E_INVALID, "invalid") /* malformed argument or input */                                            \
	S(E_PROTOCOL, "protocol") /* a peer broke its protocol */                                            \
	S(E_IO, "io") /* the system refused; see errno */                                                    \
	S(E_CLOSED, "closed") /* end of stream; peer went away */                                            \
	S(E_NOT_FOUND, "not_found")                                                                          \
	S(E_EXISTS, "exists")                                                                                \
	S(E_DENIED, "denied")                                                                                \
	S(E_STATE, "state") /* not possible in this state */                                                 \
	S(E_STALE, "stale") /* an old epoch, version or id */                                                \
	S(E_UNSUPPORTED, "unsupported")                                                                      \
	S(E_AGAIN, "again") /* not yet; more input is needed */                                              \
	S(E_CRASHED, "crashed") /* a handler failed */                                                       \
	S(E_INTENSITY, "intensity") /* restarted too often */                                                \
	S(E_INTERNAL, "internal")

#define STATUS_ENUM(name, text) name,
enum status { STATUS_LIST(STATUS_ENUM) STATUS_COUNT };
#undef STATUS_ENUM

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

enum { ERROR_TEXT_MAX = 512 };

struct error {
	enum status status;
	char sqlstate[6]; /* five characters and NUL */
	char text[ERROR_TEXT_MAX]; /* one line, Postgres's style */
	char hint[ERROR_TEXT_MAX]; /* what to do; may be empty */
};

/* The status's name, "ok", "timeout", ...; never NULL, also for numbers out of range. */
const char *status_name(enum status st);

/* Fills `err` (which may be NULL) and returns `st`, so that `return error_set(err, ...)` reads well. */
enum status error_set(struct error *err, enum status st, const char *sqlstate, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* Adds a hint to an error already set. `err` may be NULL. */
void error_hint(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
