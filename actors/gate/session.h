/* What the session's files share: its state, and who does what. Nobody else's business. */
#ifndef ACTORS_GATE_SESSION_H
#define ACTORS_GATE_SESSION_H

#include "actors/gate/answers.h"
#include "actors/gate/frames.h"
#include "actors/gate/gate.h"
#include "actors/gate/messages.h"
#include "actors/pg/pgerror.h"
#include "actors/pg/scram.h"
#include "actors/tablet/messages.h"
#include "runtime/core/io.h"

enum {
	SESSION_FULL_BYTES = 256 << 10, /* queued for a client: above it its backend stops reading */
	SESSION_SECRET = 32,
	SESSION_ERROR_MAX = 16 << 10, /* bytes of an ErrorResponse of ours */
	SESSION_ASK_MS = 10000, /* for what isn't waited for in a queue */
	SESSION_HELLO_MS = 200,
};

enum session_timer { SESSION_TIMER_LOGIN = 1, SESSION_TIMER_HELLO };

#define SESSION_STATES(S)                                                                                    \
	S(NEW) /* spawned; the socket isn't here yet */                                                      \
	S(STARTUP) /* before the startup packet */                                                           \
	S(TLS) /* shaking hands */                                                                           \
	S(LOOKUP) /* the tablet was asked for a verifier */                                                  \
	S(AUTH) /* SASL messages */                                                                          \
	S(OPENING) /* the pool was asked for a group */                                                      \
	S(IDLE) /* no request, no backend */                                                                 \
	S(WAITING) /* EXECUTE asked, not leased yet */                                                       \
	S(REOPENING) /* the pool had forgotten us; then the EXECUTE goes again */                            \
	S(RUN) /* leased */

STATES(session, SESSION_STATES);

/* Who the client is: one block of the heap, made from the startup packet. Holds secrets. */
struct identity {
	uint8_t keys[2 * SCRAM_KEY]; /* ClientKey, ServerKey, when has_keys */
	bool has_keys, replication;
	uint16_t database_at, settings_at, settings_len; /* in text */
	uint32_t size;
	char text[]; /* user NUL database NUL, then name NUL value NUL ... */
};

/* Only while logging in; freed when the session serves. */
struct login {
	struct scram_server scram;
	struct scram_binding binding; /* of our certificate; len 0 without TLS */
	struct writer out; /* said to the client when the pool has opened */
	bool can_login, sasl_begun, first_read;
};

struct session {
	const struct gate_config *config;
	struct login *login; /* NULL once serving */
	struct identity *who; /* NULL before the startup packet */
	uint64_t io; /* 0: the client is gone */
	uint64_t group, lease, ask, started_us;
	struct pid listener, pool, backend;
	struct slice input; /* received, not yet sent on */
	struct slice pending; /* what EXECUTE carried, until it is leased: to ask again with */
	struct slice peer; /* the client's address, for people; with NUL */
	struct slice unnamed; /* the last Parse of the unnamed statement; a private copy */
	struct frames frames;
	struct answers answers;
	uint32_t outstanding; /* ReadyForQuery the client is owed */
	uint32_t pins; /* reasons; 0: the backend goes back after each transaction */
	uint8_t secret[SESSION_SECRET];
	uint8_t secret_len;
	uint8_t flags; /* of EXECUTE, for asking again */
	char tx; /* of the last ReadyForQuery */
	bool has_unnamed; /* `unnamed` holds one, and it was accepted */
	bool credited; /* the socket may bring a chunk */
	bool holding; /* the input waits for the answers to what went before */
	bool client_full, backend_full;
	bool answering; /* a part of an answer has been passed on */
	bool partial; /* and it ended inside a message: words of ours would be read as a row */
	bool risk; /* what is outstanding may have committed */
	bool leaving; /* the client said Terminate */
	bool reopened; /* this request has asked for its group again once */
	bool cancel; /* a cancel came while waiting */
	bool tls, admitted, ssl_asked, gss_asked;
};

/* Answers that will come by themselves: an open batch's comes only with its Sync. */
static inline uint32_t session_owed(const struct session *s)
{
	return s->outstanding - (s->frames.in_batch && s->outstanding > 0);
}

static inline const char *identity_user(const struct identity *who)
{
	return who ? who->text : "";
}

/* session_login.c: from the first byte to the first ReadyForQuery. */
enum status session_on_login_bytes(struct actor *self, struct msg *m);
enum status session_on_tls_up(struct actor *self, struct msg *m);
enum status session_on_login_timeout(struct actor *self);
enum status session_on_opened(struct actor *self, struct msg *m);
enum status session_on_reopened(struct actor *self, struct msg *m);
enum status session_on_open_refused(struct actor *self, struct msg *m);
enum status session_on_open_failed(struct actor *self, struct msg *m);
/* Asks the pool for the session's group; E_NOPROC without a pool. The caller changes state. */
enum status session_open(struct actor *self) MUST_CHECK;
enum status session_begin_opening(struct actor *self);
struct login *session_login(struct session *s); /* made on first use */
void session_login_free(struct session *s);
void session_identity_free(struct session *s);

/* session_auth.c: SCRAM. */
enum status session_auth_begin(struct actor *self);
enum status session_on_entry(struct actor *self, struct msg *m);
enum status session_on_lookup_failed(struct actor *self, struct msg *m);
enum status session_on_auth_bytes(struct actor *self, struct msg *m);

/* session_serve.c: bytes to the pool or backend, rows to the client. */
enum status session_on_bytes(struct actor *self, struct msg *m);
enum status session_on_leased(struct actor *self, struct msg *m);
enum status session_on_rows(struct actor *self, struct msg *m);
enum status session_feed(struct actor *self); /* sends on what can be sent of the input, gives credit */
enum status session_execute(struct actor *self); /* asks with `pending` */
void session_input_add(struct session *s, struct slice *bytes); /* takes the slice */
void session_input_use(struct session *s, uint32_t n);
void session_credit(struct actor *self);
uint32_t session_cancel_pid(const struct actor *self); /* the pid in the client's BackendKeyData */
void session_release(
	struct actor *self, enum status why); /* lets go of pool and backend, in whatever state */

/* session_fail.c: what the client is told when something can't be done. */
/* Says FATAL and ends; gives the status to return from the handler. fmt-free: texts are given whole. */
enum status session_fatal(struct actor *self, const struct pgerror *e);
enum status session_fatal_error(struct actor *self, const struct error *err);
enum status session_violation(struct actor *self, const char *fmt, ...) PRINTF_LIKE(2, 3);
enum status session_on_execute_refused(struct actor *self, struct msg *m);
enum status session_on_execute_failed(struct actor *self, struct msg *m);
enum status session_on_lost(struct actor *self, struct msg *m);
void session_last_words(struct actor *self, enum status why);

#endif
