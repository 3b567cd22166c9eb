/* What backend.c, backend_login.c and backend_cancel.c share: the backend's state and handlers. */
#ifndef ACTORS_TABLET_BACKEND_INTERNAL_H
#define ACTORS_TABLET_BACKEND_INTERNAL_H

#include "actors/pg/scram.h"
#include "actors/tablet/backend.h"
#include "runtime/core/actor.h"
#include "runtime/core/io.h"

enum { BACKEND_CANCELS_MAX = 4, BACKEND_SECRET_MAX = 256, TIMER_LOGIN = 1 };

#define BACKEND_STATES(S)                                                                                    \
	S(CONNECTING) S(TLS_ASKED) S(TLS_STARTING) S(LOGIN) S(IDLE) S(ON_LEASE) S(RESETTING) S(DRAINING)
STATES(backend, BACKEND_STATES);

/* Only while logging in; freed when done. */
struct backend_login {
	struct scram_client scram;
	struct scram_keys keys;
	bool has_keys, salting;
	struct scram_binding binding;
	const char *password;
	char user[64];
	uint8_t tls;
	uint32_t timeout_ms;
	struct writer in; /* bytes of an incomplete frame */
	struct writer parameters;
};

struct backend {
	struct pid pool, session;
	uint64_t member, io, lease, leases;
	uint32_t outstanding; /* ReadyForQuery still to come */
	uint32_t frame_left, owed; /* owed: credit withheld while the client is full */
	uint32_t client_pid;
	uint8_t header[5], header_len, frame_type, last_byte, tx;
	bool pinned, committing, open, stopped, full;
	uint32_t taken; /* REQUESTs of this lease */
	uint8_t cancels; /* cancellers on their way */
	struct slice startup, held; /* held: the beginning of a notification whose pid is cut */
	struct backend_login *login;
	uint32_t os_pid, secret_len;
	uint8_t secret[BACKEND_SECRET_MAX];
	char address[IO_ADDRESS_MAX];
};

enum status backend_init(struct actor *self, const void *args, size_t size);
void backend_exit(struct actor *self, enum status why);
void backend_login_free(struct backend *b);
enum status backend_on_connected(struct actor *self, struct msg *m);
enum status backend_on_tls_answer(struct actor *self, struct msg *m);
enum status backend_on_tls_up(struct actor *self, struct msg *m);
enum status backend_on_login_bytes(struct actor *self, struct msg *m);
enum status backend_on_login_closed(struct actor *self, struct msg *m);
enum status backend_on_login_timeout(struct actor *self, struct msg *m);
enum status backend_on_salted(struct actor *self, struct msg *m);
enum status backend_ignore(struct actor *self, struct msg *m);
/* Starts a canceller as a child; its DOWN says that Postgres has been told. */
enum status backend_cancel_start(struct actor *self) MUST_CHECK;

#endif
