/*
 * Logging in to Postgres: connect, TLS if asked for, startup, authentication, and what Postgres says of itself until
 * the first ReadyForQuery (Postgres manual, "Start-up"). Then BACKEND_READY; on any refusal BACKEND_FAILED with
 * Postgres's own error, and the actor ends.
 */
#include <stdlib.h>
#include <string.h>

#include "actors/pg/pgerror.h"
#include "actors/pg/startup.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "actors/tablet/backend_internal.h"
#include "actors/tablet/messages.h"
#include "runtime/base/bytes.h"

enum { LOGIN_BYTES_MAX = 262144, LOGIN_FRAME_MAX = 65536, TLS_PREFER = 1, TLS_REQUIRE = 2, TLS_VERIFY = 3 };

enum status backend_init(struct actor *self, const void *args, size_t size)
{
	const struct backend_args *a = args;
	struct backend *b = actor_state(self);
	struct backend_login *l = calloc(1, sizeof(*l));

	(void)size;
	check(l != NULL);
	b->login = l;
	b->member = a->member;
	b->pool = actor_parent(self);
	b->startup = slice_sub(a->startup, 0, a->startup->len);
	str_copy(b->address, sizeof(b->address), a->address);
	str_copy(l->user, sizeof(l->user), a->user);
	l->tls = a->tls;
	l->password = a->password;
	l->timeout_ms = a->connect_timeout_ms;
	l->has_keys = a->keys != NULL;
	if (a->keys) {
		memcpy(l->keys.client, a->keys, SCRAM_KEY);
		memcpy(l->keys.server, a->keys + SCRAM_KEY, SCRAM_KEY);
	}
	writer_init(&l->in, LOGIN_BYTES_MAX);
	writer_init(&l->parameters, PARAMS_MAX);
	actor_timer(self, TIMER_LOGIN, a->connect_timeout_ms);
	return io_connect(self, a->address, a->connect_timeout_ms, &b->io);
}

void backend_login_free(struct backend *b)
{
	struct backend_login *l = b->login;

	if (!l)
		return;
	b->login = NULL;
	writer_release(&l->in);
	writer_release(&l->parameters);
	scram_clear(l, sizeof(*l));
	free(l);
}

enum status backend_ignore(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return OK;
}

/* ---- refusals ----------------------------------------------------------------------------------------------- */

static enum status refuse_body(struct actor *self, const uint8_t *body, uint32_t n)
{
	struct backend *b = actor_state(self);
	struct msg *m;
	struct backend_failed *f = backend_failed_new(self, &m);

	f->member = b->member;
	f->error = slice_copy(body, n);
	actor_send(self, b->pool, &m);
	return E_NORMAL;
}

static enum status refuse(struct actor *self, const char *sqlstate, const char *fmt, ...) PRINTF_LIKE(3, 4);

static enum status refuse(struct actor *self, const char *sqlstate, const char *fmt, ...)
{
	struct pgerror e = {.severity = "FATAL", .severity_raw = "FATAL", .sqlstate = sqlstate};
	char text[ERROR_TEXT_MAX];
	struct writer w;
	enum status st;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	e.message = text;
	writer_init(&w, LOGIN_FRAME_MAX);
	pgerror_put_error(&w, &e);
	st = refuse_body(self, w.buf->data + WIRE_HEADER, w.len - WIRE_HEADER);
	writer_release(&w);
	return st;
}

enum status backend_on_login_timeout(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);

	if (timer_of(m)->key != TIMER_LOGIN || !b->login)
		return OK;
	return refuse(self, SQLSTATE_CONNECTION_FAILURE,
		"Postgres at %s did not finish the login within %u ms", b->address, b->login->timeout_ms);
}

enum status backend_on_login_closed(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);

	return refuse(self, SQLSTATE_CONNECTION_FAILURE,
		"Postgres at %s closed the connection during login: %s", b->address, io_closed_of(m)->text);
}

/* ---- connecting --------------------------------------------------------------------------------------------- */

static enum status send_startup(struct actor *self)
{
	struct backend *b = actor_state(self);
	struct slice bytes = slice_sub(&b->startup, 0, b->startup.len);

	actor_become(self, LOGIN);
	io_credit(self, b->io, 1);
	return io_write(self, b->io, &bytes);
}

enum status backend_on_connected(struct actor *self, struct msg *m)
{
	struct io_connected *c = io_connected_of(m);
	struct backend *b = actor_state(self);
	struct writer w;
	struct slice bytes;

	if (c->status != OK)
		return refuse(self, SQLSTATE_CONNECTION_FAILURE, "could not connect to Postgres at %s: %s",
			b->address, c->text);
	if (!b->login->tls || b->address[0] == '/')
		return send_startup(self);
	writer_init(&w, 64);
	wire_put_ssl_request(&w);
	bytes = writer_take(&w);
	actor_become(self, TLS_ASKED);
	io_credit(self, b->io, 1);
	return io_write(self, b->io, &bytes);
}

enum status backend_on_tls_answer(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct slice *s = &io_bytes_of(m)->bytes;
	struct io_tls spec = {.timeout_ms = b->login->timeout_ms, .verify_name = b->login->tls == TLS_VERIFY};
	struct error err;

	if (s->len != 1)
		return refuse(self, SQLSTATE_PROTOCOL_VIOLATION,
			"Postgres sent unencrypted data after the TLS request");
	if (slice_data(s)[0] == 'N' && b->login->tls == TLS_PREFER)
		return send_startup(self);
	if (slice_data(s)[0] != 'S')
		return refuse(
			self, SQLSTATE_CONNECTION_FAILURE, "Postgres at %s does not offer TLS", b->address);
	if (io_tls(self, b->io, &spec, &err) != OK)
		return refuse(self, SQLSTATE_CONNECTION_FAILURE, "TLS: %s", err.text);
	actor_become(self, TLS_STARTING);
	return OK;
}

enum status backend_on_tls_up(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct io_tls_up *up = io_tls_up_of(m);

	if (up->status != OK)
		return refuse(self, SQLSTATE_CONNECTION_FAILURE, "TLS with Postgres at %s: %s", b->address,
			up->text);
	if (up->end_point.len <= SCRAM_BINDING_MAX) {
		b->login->binding.len = up->end_point.len;
		memcpy(b->login->binding.data, slice_data(&up->end_point), up->end_point.len);
	}
	return send_startup(self);
}

/* ---- authentication ----------------------------------------------------------------------------------------- */

static enum status write_now(struct actor *self, struct writer *w)
{
	struct backend *b = actor_state(self);
	struct slice bytes = writer_take(w);

	return io_write(self, b->io, &bytes);
}

static enum status sasl_start(struct actor *self, const struct wire_auth *auth)
{
	struct backend *b = actor_state(self);
	struct backend_login *l = b->login;
	bool plus = l->binding.len && wire_auth_offers(auth, SCRAM_MECHANISM_PLUS);
	uint8_t nonce[SCRAM_NONCE + 6];
	struct writer first, w;

	if (!l->has_keys && !l->password)
		return refuse(self, SQLSTATE_INVALID_PASSWORD,
			"Postgres asks for the password of user \"%s\", which Multigres does not have",
			l->user);
	if (!plus && !wire_auth_offers(auth, SCRAM_MECHANISM))
		return refuse(self, SQLSTATE_FEATURE_NOT_SUPPORTED,
			"Postgres offers no SASL mechanism that is known here");
	for (uint32_t i = 0; i < sizeof(nonce); i += 8) {
		uint64_t r = actor_random(self);

		memcpy(nonce + i, &r, 8);
	}
	scram_client_init(&l->scram, nonce, plus ? &l->binding : NULL,
		l->binding.len && !wire_auth_offers(auth, SCRAM_MECHANISM_PLUS) ? true : false);
	writer_init(&first, LOGIN_FRAME_MAX);
	writer_init(&w, LOGIN_FRAME_MAX);
	scram_client_first(&l->scram, &first);
	wire_put_sasl_initial(&w, plus ? SCRAM_MECHANISM_PLUS : SCRAM_MECHANISM, first.buf->data, first.len);
	writer_release(&first);
	return write_now(self, &w);
}

static enum status sasl_final(struct actor *self)
{
	struct backend *b = actor_state(self);
	struct writer final, w;
	struct error err;

	writer_init(&final, LOGIN_FRAME_MAX);
	if (scram_client_final(&b->login->scram, &b->login->keys, &final, &err) != OK) {
		writer_release(&final);
		return refuse(self, err.sqlstate, "%s", err.text);
	}
	writer_init(&w, LOGIN_FRAME_MAX);
	wire_put_sasl_response(&w, final.buf->data, final.len);
	writer_release(&final);
	return write_now(self, &w);
}

/* The slow step, on a helper thread: its arguments are copied, and cleared when used. */
struct salt_job {
	char password[1024];
	uint8_t salt[SCRAM_SALT_MAX];
	uint32_t salt_len, iterations;
};

static enum status salt_work(const void *args, size_t size, struct writer *result)
{
	const struct salt_job *job = args;
	uint8_t salted[SCRAM_KEY];
	enum status st =
		scram_salt_password(job->password, job->salt, job->salt_len, job->iterations, salted);

	(void)size;
	if (st == OK)
		writer_put(result, salted, sizeof(salted));
	scram_clear(salted, sizeof(salted));
	return st;
}

static enum status sasl_continue(struct actor *self, const struct wire_auth *auth)
{
	struct backend *b = actor_state(self);
	struct backend_login *l = b->login;
	struct salt_job job = {0};
	struct error err;

	if (scram_client_challenge(&l->scram, auth->data, auth->len, &err) != OK)
		return refuse(self, err.sqlstate, "%s", err.text);
	if (l->has_keys)
		return sasl_final(self);
	if (!str_copy(job.password, sizeof(job.password), l->password))
		return refuse(self, SQLSTATE_INVALID_PASSWORD, "the password for Postgres is too long");
	memcpy(job.salt, l->scram.salt, l->scram.salt_len);
	job.salt_len = l->scram.salt_len;
	job.iterations = l->scram.iterations;
	l->salting = true;
	work_run(self, &(struct work){.fn = salt_work, .args = &job, .args_size = sizeof(job)});
	scram_clear(&job, sizeof(job));
	return OK;
}

enum status backend_on_salted(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct work_done *w = work_done_of(m);

	if (!b->login || !b->login->salting)
		return OK;
	if (w->status != OK || w->result.len != SCRAM_KEY)
		return refuse(self, SQLSTATE_INTERNAL_ERROR, "could not derive the SCRAM keys");
	b->login->salting = false;
	scram_keys_from_salted(slice_data(&w->result), &b->login->keys);
	return sasl_final(self);
}

static enum status send_password(struct actor *self, const struct wire_auth *auth)
{
	struct backend *b = actor_state(self);
	struct backend_login *l = b->login;
	char md5[SCRAM_MD5_MAX];
	struct writer w;

	if (!l->password)
		return refuse(self, SQLSTATE_INVALID_PASSWORD,
			"Postgres asks for the password of user \"%s\", which Multigres does not have",
			l->user);
	writer_init(&w, LOGIN_FRAME_MAX);
	if (auth->kind == WIRE_AUTH_CLEARTEXT) {
		wire_put_password(&w, l->password);
	} else {
		if (scram_md5_answer(l->password, l->user, auth->data, md5) != OK)
			return refuse(self, SQLSTATE_FEATURE_NOT_SUPPORTED, "MD5 is not available here");
		wire_put_password(&w, md5);
	}
	return write_now(self, &w);
}

static enum status on_auth(struct actor *self, const uint8_t *body, uint32_t n)
{
	struct backend *b = actor_state(self);
	struct wire_auth auth;
	struct error err;

	if (wire_read_auth(body, n, &auth) != OK)
		return refuse(self, SQLSTATE_PROTOCOL_VIOLATION,
			"Postgres sent a malformed authentication request");
	switch (auth.kind) {
	case WIRE_AUTH_OK:
		return OK;
	case WIRE_AUTH_CLEARTEXT:
	case WIRE_AUTH_MD5:
		return send_password(self, &auth);
	case WIRE_AUTH_SASL:
		return sasl_start(self, &auth);
	case WIRE_AUTH_SASL_CONTINUE:
		return sasl_continue(self, &auth);
	case WIRE_AUTH_SASL_FINAL:
		if (scram_client_verify(&b->login->scram, auth.data, auth.len, &err) != OK)
			return refuse(self, SQLSTATE_CONNECTION_FAILURE,
				"Postgres could not prove that it knows the password");
		return OK;
	}
	return refuse(self, SQLSTATE_FEATURE_NOT_SUPPORTED,
		"Postgres asks for authentication method %d, unknown here", auth.kind);
}

/* ---- what Postgres says of itself ---------------------------------------------------------------------------- */

static enum status on_parameter(struct actor *self, const uint8_t *body, uint32_t n)
{
	struct backend *b = actor_state(self);
	struct wire_parameter p;

	if (wire_read_parameter(body, n, &p) != OK)
		return refuse(self, SQLSTATE_PROTOCOL_VIOLATION, "Postgres sent a malformed ParameterStatus");
	writer_str(&b->login->parameters, p.name);
	writer_str(&b->login->parameters, p.value);
	return OK;
}

static enum status on_key(struct actor *self, const uint8_t *body, uint32_t n)
{
	struct backend *b = actor_state(self);
	struct wire_key k;

	if (wire_read_key(body, n, &k) != OK || k.secret_len > BACKEND_SECRET_MAX)
		return refuse(self, SQLSTATE_PROTOCOL_VIOLATION, "Postgres sent a malformed BackendKeyData");
	b->os_pid = k.pid;
	b->secret_len = k.secret_len;
	memcpy(b->secret, k.secret, k.secret_len);
	return OK;
}

static enum status on_ready(struct actor *self)
{
	struct backend *b = actor_state(self);
	struct msg *m;
	struct backend_ready *r = backend_ready_new(self, &m);

	r->member = b->member;
	r->parameters = writer_take(&b->login->parameters);
	b->tx = 'I';
	backend_login_free(b);
	actor_timer_cancel(self, TIMER_LOGIN);
	actor_become(self, IDLE);
	actor_send(self, b->pool, &m);
	return OK;
}

static enum status on_frame(struct actor *self, uint8_t type, const uint8_t *body, uint32_t n)
{
	switch (type) {
	case BE_AUTH:
		return on_auth(self, body, n);
	case BE_PARAM_STATUS:
		return on_parameter(self, body, n);
	case BE_BACKEND_KEY:
		return on_key(self, body, n);
	case BE_READY:
		return on_ready(self);
	case BE_ERROR:
		return refuse_body(self, body, n);
	case BE_NOTICE:
	case BE_NEGOTIATE:
		return OK;
	}
	return refuse(self, SQLSTATE_PROTOCOL_VIOLATION, "Postgres sent %s during login", wire_be_name(type));
}

/* Login is rare and small: its bytes are gathered until frames are whole. */
enum status backend_on_login_bytes(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct slice *in = &io_bytes_of(m)->bytes;
	struct writer w = b->login->in;
	struct wire_frame f;
	uint32_t at = 0;
	enum status st = OK;

	writer_put(&w, slice_data(in), in->len);
	b->login->in = w;
	if (w.failed)
		return refuse(self, SQLSTATE_PROTOCOL_VIOLATION, "Postgres sent too much during login");
	while (st == OK && b->login) {
		st = wire_frame_peek(w.buf->data + at, w.len - at, LOGIN_FRAME_MAX, &f);
		if (st == E_AGAIN || (st == OK && f.len > w.len - at))
			break;
		if (st != OK)
			return refuse(self, SQLSTATE_PROTOCOL_VIOLATION,
				"Postgres sent a malformed frame during login");
		if (f.type == BE_READY)
			writer_init(&b->login->in, 0); /* w owns the bytes from here on */
		st = on_frame(self, f.type, w.buf->data + at + WIRE_HEADER, f.len - WIRE_HEADER);
		at += f.len;
	}
	if (!b->login) {
		writer_release(&w);
		if (st == OK)
			io_credit(self, b->io, 1);
		return st;
	}
	if (st != OK && st != E_AGAIN)
		return st;
	if (at > 0 && w.buf) {
		memmove(w.buf->data, w.buf->data + at, w.len - at);
		b->login->in.len = w.len - at;
	}
	io_credit(self, b->io, 1);
	return OK;
}
