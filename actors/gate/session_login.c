/*
 * Logging in: SSLRequest and the others, the startup packet, TLS, opening a group at the pool, the greeting.
 *
 *	STARTUP -> [TLS -> STARTUP] -> [LOOKUP -> AUTH] -> OPENING -> IDLE
 *
 * One chunk is read at a time, and only where one is expected. Bytes that come with the startup packet wait in the
 * input; bytes that come with an SSLRequest are refused, for they could be an intruder's.
 */
#include "actors/gate/session.h"

#include <stdlib.h>
#include <strings.h>

#include "actors/pg/startup.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"

enum { GREETING_MAX = 64 << 10, PQ_OPTIONS_MAX = 1024 };

static uint32_t login_ms(const struct gate_config *c)
{
	return c->login_timeout_ms ? c->login_timeout_ms : GATE_LOGIN_TIMEOUT_MS;
}

struct login *session_login(struct session *s)
{
	if (!s->login) {
		s->login = calloc(1, sizeof(*s->login));
		check(s->login != NULL);
		writer_init(&s->login->out, GREETING_MAX);
	}
	return s->login;
}

void session_login_free(struct session *s)
{
	if (!s->login)
		return;
	writer_release(&s->login->out);
	scram_clear(s->login, sizeof(*s->login));
	free(s->login);
	s->login = NULL;
}

void session_identity_free(struct session *s)
{
	if (!s->who)
		return;
	scram_clear(s->who, s->who->size);
	free(s->who);
	s->who = NULL;
}

/* ---- the startup packet ------------------------------------------------------------------------------------- */

static void put_setting(struct writer *w, const char *name, const char *value)
{
	writer_str(w, name);
	writer_str(w, value);
}

static void put_identity(struct writer *w, const struct startup *p, struct identity *head)
{
	const char *name, *value;
	uint32_t pos = 0;

	writer_str(w, p->user);
	head->database_at = (uint16_t)w->len;
	writer_str(w, p->database);
	head->settings_at = (uint16_t)w->len;
	while (startup_next(p, false, &pos, &name, &value))
		put_setting(w, name, value);
	if (p->options)
		put_setting(w, "options", p->options);
	if (p->replication != STARTUP_NO_REPLICATION)
		put_setting(w, "replication", p->replication == STARTUP_LOGICAL ? "database" : "true");
	head->settings_len = (uint16_t)(w->len - head->settings_at);
}

static void make_identity(struct session *s, const struct startup *p)
{
	struct identity head = {.replication = p->replication != STARTUP_NO_REPLICATION};
	struct writer w;

	writer_init(&w, PARAMS_MAX); /* a startup packet is smaller */
	put_identity(&w, p, &head);
	check(!w.failed);
	head.size = (uint32_t)sizeof(head) + w.len;
	s->who = malloc(head.size);
	check(s->who != NULL);
	memcpy(s->who, &head, sizeof(head));
	memcpy(s->who->text, w.buf->data, w.len);
	writer_release(&w);
}

/* NegotiateProtocolVersion goes out at once, before anything about authentication. */
static enum status negotiate(struct actor *self, const struct startup *p)
{
	struct session *s = actor_state(self);
	const char *names[PQ_OPTIONS_MAX], *name, *value;
	uint32_t pos = 0, n = 0;
	struct writer w;
	struct slice bytes;

	while (n < PQ_OPTIONS_MAX && startup_next(p, true, &pos, &name, &value))
		names[n++] = name;
	writer_init(&w, GREETING_MAX);
	wire_put_negotiate(&w, STARTUP_NEWEST_MINOR, names, n);
	bytes = writer_take(&w);
	return io_write(self, s->io, &bytes);
}

static void make_secret(struct actor *self, uint32_t minor)
{
	struct session *s = actor_state(self);

	s->secret_len = minor >= 2 ? SESSION_SECRET : 4;
	for (unsigned i = 0; i < SESSION_SECRET; i += 8)
		store_be64(s->secret + i, actor_random(self));
}

static enum status check_admission(struct session *s, struct error *err)
{
	if (!s->admitted)
		return error_set(
			err, E_LIMIT, SQLSTATE_TOO_MANY_CONNECTIONS, "sorry, too many clients already");
	if (s->config->tls_required && !s->tls) {
		error_set(err, E_DENIED, SQLSTATE_INVALID_AUTHORIZATION_SPECIFICATION,
			"this server takes encrypted connections only");
		error_hint(err, "Connect with sslmode=require or stronger.");
		return E_DENIED;
	}
	return OK;
}

static enum status on_session_packet(struct actor *self, const struct startup *p)
{
	struct session *s = actor_state(self);
	struct error err = {0};

	if (check_admission(s, &err)) {
		actor_count(self, gate_metrics.login_failures, 1);
		return session_fatal_error(self, &err);
	}
	make_identity(s, p);
	make_secret(self, p->minor);
	if (s->who->replication)
		s->pins |= PIN_REPLICATION;
	if (p->negotiate && negotiate(self, p) != OK)
		return E_CLOSED;
	if (s->config->auth == GATE_SCRAM)
		return session_auth_begin(self);
	return session_begin_opening(self);
}

/* ---- the requests that may come before it -------------------------------------------------------------------- */

static enum status answer_byte(struct actor *self, char answer)
{
	struct session *s = actor_state(self);

	return io_write_copy(self, s->io, &answer, 1) == OK ? OK : E_CLOSED;
}

static enum status on_ssl_request(struct actor *self)
{
	struct session *s = actor_state(self);
	const struct gate_config *c = s->config;
	struct io_tls spec = {.server = true,
		.cert_file = c->tls_cert,
		.key_file = c->tls_key,
		.ca_file = c->tls_ca,
		.require_peer_cert = c->tls_ca != NULL,
		.timeout_ms = login_ms(c)};
	struct error err = {0};

	if (s->ssl_asked)
		return session_violation(self, "SSLRequest came twice");
	s->ssl_asked = true;
	if (!c->tls_cert)
		return answer_byte(self, 'N');
	if (s->input.len > 0) {
		struct pgerror e = {.sqlstate = SQLSTATE_PROTOCOL_VIOLATION,
			.message = "received unencrypted data after SSL request",
			.detail = "This could be either a client-software bug or evidence of an attempted "
				  "man-in-the-middle attack."};

		actor_count(self, gate_metrics.violations, 1);
		return session_fatal(self, &e);
	}
	if (answer_byte(self, 'S'))
		return E_CLOSED;
	if (io_tls(self, s->io, &spec, &err)) {
		log_error("gate", "TLS: %s", err.text);
		return actor_fail(self, E_CLOSED, "TLS: %s", err.text);
	}
	actor_become(self, TLS);
	return OK;
}

static enum status on_gss_request(struct actor *self)
{
	struct session *s = actor_state(self);

	if (s->gss_asked)
		return session_violation(self, "GSSENCRequest came twice");
	s->gss_asked = true;
	return answer_byte(self, 'N');
}

/* Never answered: the connection is closed whether the key was right or not. */
static enum status on_cancel_request(struct actor *self, const struct startup *p)
{
	char name[ACTOR_NAME_MAX + 1];
	struct pid to;
	struct msg *m;
	struct gate_cancel *c;

	snprintf(name, sizeof(name), "gate.%u", p->pid >> 24);
	to = actor_whereis(self, name);
	if (pid_is_none(to))
		return E_NORMAL;
	c = gate_cancel_new(self, &m);
	c->key = p->pid;
	c->secret = slice_copy(p->secret, p->secret_len);
	actor_send(self, to, &m);
	return E_NORMAL;
}

static enum status on_packet(struct actor *self, const struct startup *p)
{
	switch (p->kind) {
	case STARTUP_SSL:
		return on_ssl_request(self);
	case STARTUP_GSSENC:
		return on_gss_request(self);
	case STARTUP_CANCEL:
		return on_cancel_request(self, p);
	case STARTUP_SESSION:
		return on_session_packet(self, p);
	}
	return E_INTERNAL;
}

enum status session_on_login_bytes(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);

	s->credited = false;
	session_input_add(s, &io_bytes_of(m)->bytes);
	while (actor_current(self) == STARTUP && s->input.len > 0) {
		struct startup p;
		struct error err = {0};
		struct slice packet;
		uint32_t len;
		enum status st = startup_peek(slice_data(&s->input), s->input.len, &len);

		if (st == E_AGAIN || (st == OK && len > s->input.len))
			break;
		if (st != OK) /* not Postgres's protocol; Postgres doesn't answer either */
			return session_violation(self, NULL);
		packet = slice_sub(&s->input, 0, len);
		session_input_use(s, len);
		st = startup_read(slice_data(&packet), len, &p, &err);
		st = st == OK ? on_packet(self, &p) : session_fatal_error(self, &err);
		slice_release(&packet);
		if (st != OK)
			return st;
	}
	if (actor_current(self) == STARTUP)
		session_credit(self);
	return OK;
}

enum status session_on_tls_up(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct io_tls_up *t = io_tls_up_of(m);
	struct login *l;

	if (t->status != OK) {
		log_info("gate", "TLS with %s: %s", (const char *)slice_data(&s->peer), t->text);
		return E_CLOSED;
	}
	s->tls = true;
	l = session_login(s);
	if (t->end_point.len <= sizeof(l->binding.data)) {
		l->binding.len = t->end_point.len;
		memcpy(l->binding.data, slice_data(&t->end_point), t->end_point.len);
	}
	actor_become(self, STARTUP);
	session_credit(self);
	return OK;
}

enum status session_on_login_timeout(struct actor *self)
{
	struct session *s = actor_state(self);

	actor_count(self, gate_metrics.login_failures, 1);
	log_info("gate", "login of %s from %s timed out", identity_user(s->who),
		(const char *)slice_data(&s->peer));
	return E_CLOSED; /* as Postgres: without a word */
}

/* ---- the group ---------------------------------------------------------------------------------------------- */

enum status session_open(struct actor *self)
{
	struct session *s = actor_state(self);
	const struct identity *who = s->who;
	char name[ACTOR_NAME_MAX + 1];
	struct msg *m;
	struct pool_open *o;

	snprintf(name, sizeof(name), "pool.%u", actor_worker_index(self));
	s->pool = actor_whereis(self, name);
	if (pid_is_none(s->pool))
		return E_NOPROC;
	o = pool_open_new(self, &m);
	str_copy(o->user, sizeof(o->user), who->text);
	str_copy(o->database, sizeof(o->database), who->text + who->database_at);
	o->settings = slice_copy(who->text + who->settings_at, who->settings_len);
	if (who->has_keys)
		o->keys = slice_copy(who->keys, sizeof(who->keys));
	s->ask = actor_ask(self, s->pool, &m, login_ms(s->config) / 4 * 3 + 1); /* in time to say why */
	return OK;
}

enum status session_begin_opening(struct actor *self)
{
	struct pgerror e = {.sqlstate = SQLSTATE_CANNOT_CONNECT_NOW,
		.message = "the database system is starting up",
		.detail = "No pool of connections to Postgres is running."};

	if (session_open(self) == OK) {
		actor_become(self, OPENING);
		return OK;
	}
	actor_count(self, gate_metrics.login_failures, 1);
	return session_fatal(self, &e);
}

enum status session_on_open_refused(struct actor *self, struct msg *m)
{
	struct pool_refused *r = pool_refused_of(m);
	struct pgerror e;

	actor_count(self, gate_metrics.login_failures, 1);
	if (pgerror_read(slice_data(&r->error), r->error.len, &e))
		e = (struct pgerror){
			.sqlstate = SQLSTATE_CONNECTION_FAILURE, .message = "Postgres refused the login"};
	return session_fatal(self, &e);
}

enum status session_on_open_failed(struct actor *self, struct msg *m)
{
	struct pgerror e = {.sqlstate = SQLSTATE_CANNOT_CONNECT_NOW,
		.message = "could not open a connection to Postgres",
		.detail = m->tag == DONE && done_of(m)->text[0] ? done_of(m)->text : status_name(m->status)};

	actor_count(self, gate_metrics.login_failures, 1);
	return session_fatal(self, &e);
}

/* The classifier reads SQL as it is with standard strings, in encodings whose bytes mean what they seem to mean. */
static bool is_readable(const char *name, const char *value)
{
	static const char *const unreadable[] = {
		"SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"};

	if (strcmp(name, "standard_conforming_strings") == 0)
		return strcmp(value, "on") == 0;
	if (strcmp(name, "client_encoding") != 0)
		return true;
	for (unsigned i = 0; i < ARRAY_LEN(unreadable); i++)
		if (strcasecmp(value, unreadable[i]) == 0)
			return false;
	return true;
}

static void put_parameters(struct session *s, struct writer *w, const struct slice *parameters)
{
	struct wire_cursor c = wire_cursor(slice_data(parameters), parameters->len);

	while (wire_left(&c) > 0) {
		const char *name = wire_get_cstring(&c), *value = wire_get_cstring(&c);

		if (c.failed)
			break;
		wire_put_parameter_status(w, name, value);
		if (!is_readable(name, value))
			s->pins |= PIN_TEXT;
	}
}

uint32_t session_cancel_pid(const struct actor *self)
{
	return (uint32_t)actor_worker_index(self) << 24 | pid_slot(actor_pid(self));
}

/* Everything from AuthenticationOk to ReadyForQuery in one write. */
enum status session_on_opened(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct pool_opened *o = pool_opened_of(m);
	struct writer *w = &session_login(s)->out;
	struct slice bytes;

	s->group = o->group;
	wire_put_auth_ok(w);
	put_parameters(s, w, &o->parameters);
	wire_put_backend_key(w, session_cancel_pid(self), s->secret, s->secret_len);
	wire_put_ready(w, 'I');
	bytes = writer_take(w);
	if (io_write(self, s->io, &bytes) != OK)
		return E_CLOSED;
	actor_timer_cancel(self, SESSION_TIMER_LOGIN);
	session_login_free(s);
	actor_count(self, gate_metrics.logins, 1);
	for (unsigned i = 0; i < FRAMES_PINS; i++)
		if (s->pins & 1u << i)
			actor_count(self, gate_metrics.pins[i], 1);
	actor_become(self, IDLE);
	return session_feed(self);
}

/* The pool had forgotten us (it was restarted); now it knows us again. Nothing of the request had been sent. */
enum status session_on_reopened(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);

	s->group = pool_opened_of(m)->group;
	return session_execute(self);
}
