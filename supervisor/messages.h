/*
 * What the admin actor is asked, by mgctl (through control.c), by HTTP, by tests. The same struct travels on the
 * control link: msgpack of ADMIN_REQUEST's fields there, of ADMIN_ANSWER's back.
 *
 *	verb            args (msgpack map of str -> str, but fields)   answer
 *	status                                                         table: what, value
 *	actors                                                         table: pid name behaviour parent state ...
 *	kill            actor, reason                                  text
 *	restart         actor                                          text
 *	send            actor, type, fields (a map)                    the receiver's answer
 *	trace           actor                                          text: the session's number
 *	trace-poll      session, after (number of the last seen)       table: seq at_us actor state message ...
 *	trace-stop      session                                        text
 *	dead-letters                                                   table
 *	workflows       id (may be missing)                            table
 *	store           table, key (each may be missing)               table
 *	pools                                                          table
 *	metrics                                                        text, Prometheus's format
 *	ready                                                          ok, or state and why not
 *	stop                                                           text; then the node ends
 */
#ifndef SUPERVISOR_MESSAGES_H
#define SUPERVISOR_MESSAGES_H

#include "runtime/core/catalog.h"

enum {
	ADMIN_ARGS_MAX = 65536,
	ADMIN_BODY_MAX = 8388608,
	ADMIN_TEXT_MAX = 500,
	CONTROL_MESSAGE_MAX = 9 << 20
};
enum admin_body { ADMIN_NOTHING, ADMIN_TABLE, ADMIN_TEXT };

#define ADMIN_REQUEST_FIELDS(F, S)                                                                           \
	F(S, str, verb, 31)                                                                                  \
	F(S, bin, args, ADMIN_ARGS_MAX)
/* status: an enum status; text: for people; body: what kind says. */
#define ADMIN_ANSWER_FIELDS(F, S)                                                                            \
	F(S, u8, status, 0)                                                                                  \
	F(S, str, text, ADMIN_TEXT_MAX)                                                                      \
	F(S, u8, kind, 0)                                                                                    \
	F(S, bin, body, ADMIN_BODY_MAX)

#define ADMIN_MESSAGES(M)                                                                                    \
	M(ADMIN_REQUEST, admin_request, 0x0410, MSG_ASK | MSG_LOCAL)                                         \
	M(ADMIN_ANSWER, admin_answer, 0x0411, MSG_LOCAL)

MSG_FOLDER(admin, ADMIN_MESSAGES);

#endif
