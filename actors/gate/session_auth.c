/*
 * SCRAM-SHA-256 with the client, against the verifier that Postgres has. The exchange also gives us the client's key,
 * with which the pool logs in to Postgres as the same user; no password is stored anywhere.
 *
 * A user who doesn't exist, or has no SCRAM password, goes through the same exchange with a made-up verifier and fails
 * at its end, so that nobody learns which users there are.
 */
#include "actors/gate/session.h"

#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"

enum { SASL_MESSAGE_MAX = 4096 };

static enum status refuse(
	struct actor *self, const char *sqlstate, const char *message, const char *detail, const char *hint)
{
	struct pgerror e = {.sqlstate = sqlstate, .message = message, .detail = detail, .hint = hint};

	actor_count(self, gate_metrics.login_failures, 1);
	return session_fatal(self, &e);
}

enum status session_auth_begin(struct actor *self)
{
	struct session *s = actor_state(self);
	struct pid tablet = actor_whereis(self, "tablet");
	struct msg *m;
	struct auth_lookup *l;

	if (pid_is_none(tablet))
		return refuse(
			self, SQLSTATE_CANNOT_CONNECT_NOW, "the database system is starting up", NULL, NULL);
	l = auth_lookup_new(self, &m);
	str_copy(l->user, sizeof(l->user), s->who->text);
	s->ask = actor_ask(self, tablet, &m, SESSION_ASK_MS);
	actor_become(self, LOOKUP);
	return OK;
}

enum status session_on_lookup_failed(struct actor *self, struct msg *m)
{
	bool told = m->tag == DONE && done_of(m)->text[0];

	return refuse(self, SQLSTATE_CANNOT_CONNECT_NOW, "the database system is not accepting connections",
		told ? done_of(m)->text : "The password can't be checked now.", NULL);
}

static enum status write_and_wait(struct actor *self, struct writer *w)
{
	struct session *s = actor_state(self);
	struct slice bytes = writer_take(w);

	if (io_write(self, s->io, &bytes) != OK)
		return E_CLOSED;
	session_credit(self);
	return OK;
}

static enum status offer(struct actor *self)
{
	static const char *const mechanisms[] = {SCRAM_MECHANISM_PLUS, SCRAM_MECHANISM};
	struct session *s = actor_state(self);
	bool plus = session_login(s)->binding.len > 0;
	struct writer w;

	writer_init(&w, SASL_MESSAGE_MAX);
	wire_put_auth_sasl(&w, mechanisms + !plus, 1 + plus);
	actor_become(self, AUTH);
	return write_and_wait(self, &w);
}

enum status session_on_entry(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct auth_entry *e = auth_entry_of(m);
	struct login *l = session_login(s);
	const struct gate_config *c = s->config;

	if (e->why[0])
		return refuse(self, SQLSTATE_INVALID_AUTHORIZATION_SPECIFICATION,
			"passwords can't be checked: the SCRAM verifiers of Postgres can't be read", e->why,
			"Let the gate's role read pg_authid, or start the gate with trust authentication.");
	l->can_login = e->can_login;
	if (!e->found || scram_verifier_parse(e->verifier, &l->scram.verifier)) {
		if (e->found)
			log_info("gate", "user %s has no valid SCRAM password", identity_user(s->who));
		scram_verifier_mock(s->who->text, c->mock_secret, sizeof(c->mock_secret), &l->scram.verifier);
	}
	return offer(self);
}

/* The client's first SASL message: which mechanism, perhaps with the first text of the exchange. */
static enum status begin_sasl(
	struct actor *self, const uint8_t *body, uint32_t n, const uint8_t **text, uint32_t *len)
{
	struct session *s = actor_state(self);
	struct login *l = s->login;
	struct scram_verifier verifier = l->scram.verifier;
	uint8_t nonce[SCRAM_NONCE + 8];
	struct wire_sasl_initial first;
	bool plus;

	if (wire_read_sasl_initial(body, n, &first))
		return E_PROTOCOL;
	plus = strcmp(first.mechanism, SCRAM_MECHANISM_PLUS) == 0;
	if ((plus && !l->binding.len) || (!plus && strcmp(first.mechanism, SCRAM_MECHANISM) != 0))
		return E_PROTOCOL;
	for (unsigned i = 0; i < SCRAM_NONCE; i += 8) {
		uint64_t r = actor_random(self);

		memcpy(nonce + i, &r, sizeof(r));
	}
	scram_server_init(&l->scram, &verifier, nonce, &l->binding, plus);
	scram_clear(&verifier, sizeof(verifier));
	l->sasl_begun = true;
	*text = first.data;
	*len = first.len;
	return OK;
}

static enum status on_first(struct actor *self, const uint8_t *text, uint32_t len)
{
	struct session *s = actor_state(self);
	struct error err = {0};
	struct writer w, answer;

	writer_init(&answer, SASL_MESSAGE_MAX);
	if (text) {
		enum status st = scram_server_first(&s->login->scram, text, len, &answer, &err);

		if (st != OK) {
			writer_release(&answer);
			actor_count(self, gate_metrics.login_failures, 1);
			return session_fatal_error(self, &err);
		}
		s->login->first_read = true;
	}
	writer_init(&w, SASL_MESSAGE_MAX);
	wire_put_auth(&w, WIRE_AUTH_SASL_CONTINUE, answer.buf ? answer.buf->data : NULL, answer.len);
	writer_release(&answer);
	return write_and_wait(self, &w);
}

static enum status wrong_password(struct actor *self)
{
	struct session *s = actor_state(self);
	char text[PG_NAME_MAX + 64];

	snprintf(text, sizeof(text), "password authentication failed for user \"%s\"", s->who->text);
	log_info("gate", "%s from %s", text, (const char *)slice_data(&s->peer));
	return refuse(self, SQLSTATE_INVALID_PASSWORD, text, NULL, NULL);
}

static enum status accepted(struct actor *self)
{
	struct session *s = actor_state(self);
	const struct scram_keys *keys = &s->login->scram.keys;
	char text[PG_NAME_MAX + 64];

	if (!s->login->can_login) {
		snprintf(text, sizeof(text), "role \"%s\" is not permitted to log in", s->who->text);
		return refuse(self, SQLSTATE_INVALID_AUTHORIZATION_SPECIFICATION, text, NULL, NULL);
	}
	memcpy(s->who->keys, keys->client, SCRAM_KEY);
	memcpy(s->who->keys + SCRAM_KEY, keys->server, SCRAM_KEY);
	s->who->has_keys = true;
	return session_begin_opening(self);
}

static enum status on_final(struct actor *self, const uint8_t *text, uint32_t len)
{
	struct session *s = actor_state(self);
	struct error err = {0};
	struct writer answer;
	enum status st;

	writer_init(&answer, SASL_MESSAGE_MAX);
	st = scram_server_final(&s->login->scram, text, len, &answer, &err);
	if (st == OK) /* goes out with the greeting, in one write */
		wire_put_auth(&s->login->out, WIRE_AUTH_SASL_FINAL, answer.buf->data, answer.len);
	writer_release(&answer);
	if (st == OK)
		return accepted(self);
	if (st == E_DENIED)
		return wrong_password(self);
	actor_count(self, gate_metrics.login_failures, 1);
	return session_fatal_error(self, &err);
}

static enum status on_sasl(struct actor *self, const uint8_t *body, uint32_t n)
{
	struct session *s = actor_state(self);
	const uint8_t *text = body;
	uint32_t len = n;

	if (!s->login->sasl_begun) {
		if (begin_sasl(self, body, n, &text, &len))
			return session_violation(self, "malformed SASLInitialResponse message");
		return on_first(self, text, len);
	}
	if (!s->login->first_read)
		return on_first(self, text, len);
	return on_final(self, text, len);
}

enum status session_on_auth_bytes(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct wire_frame frame;
	struct slice message;
	enum status st;

	s->credited = false;
	session_input_add(s, &io_bytes_of(m)->bytes);
	if (*slice_data(&s->input) != FE_PASSWORD)
		return session_violation(
			self, "expected SASL response, got message type %d", *slice_data(&s->input));
	st = wire_frame_peek(slice_data(&s->input), s->input.len, FRAMES_SMALL_MAX, &frame);
	if (st == E_AGAIN || (st == OK && frame.len > s->input.len)) {
		session_credit(self);
		return OK;
	}
	if (st != OK)
		return session_violation(self, "invalid message length");
	message = slice_sub(&s->input, 0, frame.len);
	session_input_use(s, frame.len);
	st = on_sasl(self, slice_data(&message) + WIRE_HEADER, frame.len - WIRE_HEADER);
	slice_release(&message);
	return st;
}
