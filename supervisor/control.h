/*
 * The control link of a node: nng req/rep over TCP, one msgpack ADMIN_REQUEST there, one ADMIN_ANSWER back
 * (supervisor/messages.h). The only users of nng's req/rep; the server hands requests to the actor "admin".
 */
#ifndef SUPERVISOR_CONTROL_H
#define SUPERVISOR_CONTROL_H

#include "runtime/drive/drive.h"
#include "supervisor/messages.h"

struct control;

enum { CONTROL_THREADS = 4, CONTROL_CALL_MS = 20000, CONTROL_CONNECT_MS = 2000 };

/* Listens on HOST:PORT and answers from its own threads, each request within CONTROL_CALL_MS. */
enum status control_start(
	const char *address, struct drive *drive, struct control **out, struct error *err) MUST_CHECK;
void control_stop(struct control *c); /* NULL is fine; no request is answered after it returns */

/* ---- the other side: mgctl ---------------------------------------------------------------------------------- */

struct control_client;

/* E_NODE_DOWN: nobody listens there. */
enum status control_client_open(
	const char *address, struct control_client **out, struct error *err) MUST_CHECK;
void control_client_close(struct control_client *c);
/*
 * Asks; gives an answer whose body is to be released with slice_release. args may be empty (n 0). E_NODE_DOWN: no
 * answer came; the request is never sent twice.
 */
enum status control_client_call(struct control_client *c, const char *verb, const void *args, size_t n,
	struct admin_answer *answer, struct error *err) MUST_CHECK;

#endif
