/*
 * The session and the listener in the simulator: real sockets' behaviour (random chunks, delays), a client actor that
 * follows a script, and a stand-in for pool, backend and Postgres that keeps the lease protocol and knows just enough
 * SQL: begin, commit, fail, sleep, and the unnamed statement.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "actors/gate/gate.h"
#include "actors/gate/messages.h"
#include "actors/pg/scram.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "actors/pg/pgerror.h"
#include "actors/tablet/messages.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/base/metrics.h"
#include "runtime/core/io.h"
#include "runtime/core/supervise.h"
#include "runtime/sim/sim.h"

#define ADDRESS "127.0.0.1:5432"

enum { OUT_MAX = 4 << 20, CLIENTS = 3 };

/* ---- the world ----------------------------------------------------------------------------------------------- */

static struct gate_config config;
static struct pid pool_pid;
static struct {
	uint32_t opens, executes, requests, forgets, releases, aborts, cancels, unnamed_at_end;
	uint8_t flags; /* of all EXECUTEs and REQUESTs */
	bool forgetful; /* answers the next EXECUTE with E_NOT_FOUND */
	bool silent; /* never leases */
	bool sleeps; /* "sleep" gets no answer */
	bool lose; /* loses the lease at the next bytes */
	uint32_t expect; /* of the last EXECUTE */
} pool;

/* ---- pool, backend and Postgres in one actor ------------------------------------------------------------------- */

#define POOL_STATES(S) S(POOL_UP)
STATES(fake_pool, POOL_STATES);

struct fake {
	struct pid session;
	uint64_t lease, leases;
	uint32_t outstanding;
	bool pinned, skipping, has_unnamed;
	char tx;
	struct writer in;
};

static enum status on_pool_open(struct actor *self, struct msg *m)
{
	static const char parameters[] = "server_version\00015.4\0standard_conforming_strings\0on";
	struct msg *reply;
	struct pool_opened *o = pool_opened_new(self, &reply);

	pool.opens++;
	o->group = 7;
	o->parameters = slice_copy(parameters, sizeof(parameters));
	actor_reply(self, m, &reply);
	return OK;
}

static void answer_error(struct writer *w, const char *sqlstate)
{
	struct pgerror e = {.sqlstate = sqlstate, .message = "it failed"};

	pgerror_put_error(w, &e);
}

static void answer_query(struct fake *f, struct writer *w, const char *text)
{
	f->has_unnamed = false;
	if (strcmp(text, "begin") == 0)
		f->tx = 'T';
	if (strcmp(text, "commit") == 0)
		f->tx = 'I';
	if (strcmp(text, "select 1/0") == 0)
		answer_error(w, "22012");
	else
		wire_put_command_complete(w, text);
}

/* Answers one message; true when it brings a ReadyForQuery. */
static bool answer(struct fake *f, struct writer *w, uint8_t type, const uint8_t *body)
{
	const char *name = (const char *)body;

	if (type == FE_SYNC) {
		f->skipping = false;
		return true;
	}
	if (f->skipping)
		return false;
	switch (type) {
	case FE_QUERY:
		if (pool.sleeps && strcmp(name, "sleep") == 0)
			return false;
		answer_query(f, w, name);
		return true;
	case FE_PARSE:
		f->has_unnamed |= !*name;
		wire_put_empty(w, BE_PARSE_COMPLETE);
		break;
	case FE_CLOSE:
		f->has_unnamed = f->has_unnamed && name[1];
		wire_put_empty(w, BE_CLOSE_COMPLETE);
		break;
	case FE_BIND:
		name += strlen(name) + 1;
		f->skipping = !*name && !f->has_unnamed;
		if (f->skipping)
			answer_error(w, "26000");
		else
			wire_put_empty(w, BE_BIND_COMPLETE);
		break;
	case FE_EXECUTE:
		wire_put_command_complete(w, "SELECT 1");
		break;
	default:
		break;
	}
	return false;
}

static void send_rows(struct actor *self, struct writer *w, uint32_t ready)
{
	struct fake *f = actor_state(self);
	bool end = ready && f->outstanding == 0 && f->tx == 'I' && !f->pinned;
	struct msg *m;
	struct rows *r = rows_new(self, &m);

	r->lease = f->lease;
	r->ready = ready;
	r->tx = ready ? (uint8_t)f->tx : 0;
	r->flags = end ? ROWS_LEASE_END : 0;
	r->bytes = writer_take(w);
	actor_send(self, f->session, &m);
	if (end) {
		f->lease = 0;
		pool.unnamed_at_end += f->has_unnamed;
		f->has_unnamed = true; /* another session's, from now on */
	}
}

static enum status serve(struct actor *self, const struct slice *bytes)
{
	struct fake *f = actor_state(self);
	struct wire_frame frame;
	struct writer w;
	uint32_t at = 0, ready = 0;

	writer_init(&w, OUT_MAX);
	writer_put(&f->in, slice_data(bytes), bytes->len);
	while (wire_frame_peek(f->in.buf->data + at, f->in.len - at, UINT32_MAX, &frame) == OK &&
		frame.len <= f->in.len - at) {
		if (answer(f, &w, frame.type, f->in.buf->data + at + WIRE_HEADER)) {
			wire_put_ready(&w, f->tx);
			ready++;
		}
		at += frame.len;
	}
	memmove(f->in.buf->data, f->in.buf->data + at, f->in.len - at);
	f->in.len -= at;
	ck_assert_uint_le(ready, f->outstanding);
	f->outstanding -= ready;
	if (w.len)
		send_rows(self, &w, ready);
	writer_release(&w);
	return OK;
}

static enum status lose(struct actor *self)
{
	struct fake *f = actor_state(self);
	struct pgerror e = {.sqlstate = "08006", .message = "the connection to Postgres was lost"};
	struct writer w;
	struct msg *m;
	struct lease_lost *l = lease_lost_new(self, &m);

	writer_init(&w, 1000);
	pgerror_put_error(&w, &e);
	l->lease = f->lease;
	l->sent = 1;
	l->error = slice_copy(w.buf->data + WIRE_HEADER, w.len - WIRE_HEADER);
	writer_release(&w);
	pool.lose = false;
	f->lease = 0;
	actor_send(self, f->session, &m);
	return OK;
}

static enum status on_pool_execute(struct actor *self, struct msg *m)
{
	struct fake *f = actor_state(self);
	struct execute *x = execute_of(m);
	struct msg *reply;
	struct leased *l;

	pool.executes++;
	pool.expect = x->expect;
	pool.flags |= x->flags;
	if (pool.forgetful) {
		pool.forgetful = false;
		actor_reply_status(self, m, E_NOT_FOUND, NULL);
		return OK;
	}
	if (pool.silent) {
		actor_keep(self, m);
		return OK;
	}
	ck_assert_uint_eq(x->group, 7);
	ck_assert_uint_gt(x->expect, 0);
	ck_assert_uint_eq(f->lease, 0);
	f->session = m->from;
	f->lease = ++f->leases;
	f->outstanding = x->expect;
	f->pinned = x->flags & EXECUTE_PIN;
	f->tx = 'I';
	l = leased_new(self, &reply);
	l->backend = actor_pid(self);
	l->lease = f->lease;
	actor_reply(self, m, &reply);
	return pool.lose ? lose(self) : serve(self, &x->bytes);
}

static enum status on_pool_request(struct actor *self, struct msg *m)
{
	struct fake *f = actor_state(self);
	struct request *r = request_of(m);

	pool.requests++;
	pool.flags |= r->flags;
	ck_assert_uint_eq(r->lease, f->lease); /* no request meets the end of its lease */
	f->outstanding += r->expect;
	f->pinned |= r->flags & EXECUTE_PIN;
	return pool.lose ? lose(self) : serve(self, &r->bytes);
}

static enum status on_pool_forget(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	pool.forgets++;
	return OK;
}

static enum status on_pool_release(struct actor *self, struct msg *m)
{
	struct fake *f = actor_state(self);

	if (release_of(m)->lease != f->lease)
		return OK;
	pool.releases++;
	pool.aborts += release_of(m)->how == RELEASE_ABORT;
	f->lease = 0;
	f->in.len = 0;
	return OK;
}

static enum status on_pool_cancel(struct actor *self, struct msg *m)
{
	struct fake *f = actor_state(self);
	struct writer w;

	if (cancel_of(m)->lease != f->lease)
		return OK;
	pool.cancels++;
	writer_init(&w, 1000);
	answer_error(&w, SQLSTATE_QUERY_CANCELED);
	wire_put_ready(&w, f->tx);
	f->outstanding--;
	send_rows(self, &w, 1);
	return OK;
}

static enum status fake_init(struct actor *self, const void *args, size_t size)
{
	struct fake *f = actor_state(self);

	(void)args;
	(void)size;
	writer_init(&f->in, OUT_MAX);
	return OK;
}

static void fake_exit(struct actor *self, enum status why)
{
	struct fake *f = actor_state(self);

	(void)why;
	writer_release(&f->in);
}

static enum status ignore(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return OK;
}

static const struct rule fake_rules[] = {
	{POOL_UP, POOL_OPEN, on_pool_open},
	{POOL_UP, EXECUTE, on_pool_execute},
	{POOL_UP, REQUEST, on_pool_request},
	{POOL_UP, POOL_FORGET, on_pool_forget},
	{POOL_UP, RELEASE, on_pool_release},
	{POOL_UP, CANCEL, on_pool_cancel},
	{POOL_UP, FLOW, ignore},
};

static const struct behaviour fake_pool_behaviour = {.name = "test.pool",
	.state_size = sizeof(struct fake),
	.rules = fake_rules,
	.n_rules = ARRAY_LEN(fake_rules),
	.states = fake_pool_state_names,
	.n_states = ARRAY_LEN(fake_pool_state_names),
	.init = fake_init,
	.exit = fake_exit};

/* ---- the tablet: one user, alice, password "secret" ------------------------------------------------------------ */

#define TABLET_STATES(S) S(TABLET_UP)
STATES(fake_tablet, TABLET_STATES);

static enum status on_lookup(struct actor *self, struct msg *m)
{
	static const uint8_t salt[16] = "0123456789abcde";
	struct msg *reply;
	struct auth_entry *e = auth_entry_new(self, &reply);
	char verifier[SCRAM_VERIFIER_MAX];

	e->found = strcmp(auth_lookup_of(m)->user, "alice") == 0;
	e->can_login = 1;
	ck_assert_int_eq(scram_verifier_build("secret", salt, sizeof(salt), 16, verifier), OK);
	if (e->found)
		str_copy(e->verifier, sizeof(e->verifier), verifier);
	actor_reply(self, m, &reply);
	return OK;
}

static const struct rule tablet_rules[] = {{TABLET_UP, AUTH_LOOKUP, on_lookup}};
static const struct behaviour fake_tablet_behaviour = {.name = "test.tablet",
	.rules = tablet_rules,
	.n_rules = ARRAY_LEN(tablet_rules),
	.states = fake_tablet_state_names,
	.n_states = ARRAY_LEN(fake_tablet_state_names)};

/* ---- clients --------------------------------------------------------------------------------------------------- */

/* What a client is to send, and what it got. */
static struct side {
	struct writer say; /* written at once, when connected and whenever it is woken */
	uint8_t *got;
	uint32_t n_got;
	bool connected, closed, hang_up;
	struct pid pid;
	const char *password; /* answers SASL with it */
} sides[CLIENTS];

#define CLIENT_STATES(S) S(CLIENT_UP)
STATES(client, CLIENT_STATES);

struct client {
	struct side *side;
	uint64_t io;
	uint32_t sasl_seen;
	struct scram_client scram;
};

static enum status client_say(struct actor *self)
{
	struct client *c = actor_state(self);
	struct slice s = writer_take(&c->side->say);

	if (s.len && io_write(self, c->io, &s) != OK)
		return E_CLOSED;
	return OK;
}

static enum status client_init(struct actor *self, const void *args, size_t size)
{
	struct client *c = actor_state(self);

	memcpy(&c->side, args, size);
	c->side->pid = actor_pid(self);
	return io_connect(self, ADDRESS, 1000, &c->io);
}

static enum status client_connected(struct actor *self, struct msg *m)
{
	struct client *c = actor_state(self);

	ck_assert_int_eq(io_connected_of(m)->status, OK);
	c->side->connected = true;
	io_credit(self, c->io, 1000000);
	return client_say(self);
}

/* Plays the client's half of SCRAM on whatever Authentication messages have come. */
static void client_sasl(struct client *c)
{
	struct side *d = c->side;
	struct wire_frame f;
	uint32_t at = c->sasl_seen;
	uint8_t nonce[SCRAM_NONCE] = "abcdefghijklmnopq";

	while (wire_frame_peek(d->got + at, d->n_got - at, OUT_MAX, &f) == OK && f.len <= d->n_got - at) {
		struct wire_auth a;
		struct writer w;
		struct error err;
		uint8_t salted[SCRAM_KEY];
		struct scram_keys keys;

		writer_init(&w, 2000);
		if (f.type == BE_AUTH && wire_read_auth(d->got + at + 5, f.len - 5, &a) == OK) {
			if (a.kind == WIRE_AUTH_SASL) {
				scram_client_init(&c->scram, nonce, NULL, false);
				scram_client_first(&c->scram, &w);
				wire_put_sasl_initial(&d->say, SCRAM_MECHANISM, w.buf->data, w.len);
			} else if (a.kind == WIRE_AUTH_SASL_CONTINUE) {
				ck_assert_int_eq(scram_client_challenge(&c->scram, a.data, a.len, &err), OK);
				ck_assert_int_eq(scram_salt_password(d->password, c->scram.salt,
							 c->scram.salt_len, c->scram.iterations, salted),
					OK);
				scram_keys_from_salted(salted, &keys);
				ck_assert_int_eq(scram_client_final(&c->scram, &keys, &w, &err), OK);
				wire_put_sasl_response(&d->say, w.buf->data, w.len);
			}
		}
		writer_release(&w);
		at += f.len;
	}
	c->sasl_seen = at;
}

static enum status client_bytes(struct actor *self, struct msg *m)
{
	struct client *c = actor_state(self);
	struct slice *b = &io_bytes_of(m)->bytes;
	struct side *d = c->side;

	ck_assert_uint_le(d->n_got + b->len, OUT_MAX);
	memcpy(d->got + d->n_got, slice_data(b), b->len);
	d->n_got += b->len;
	if (d->password)
		client_sasl(c);
	return client_say(self);
}

static enum status client_closed(struct actor *self, struct msg *m)
{
	(void)m;
	((struct client *)actor_state(self))->side->closed = true;
	return E_NORMAL;
}

/* Woken by the test: says what is there, or hangs up. */
static enum status client_woken(struct actor *self, struct msg *m)
{
	struct client *c = actor_state(self);

	(void)m;
	if (c->side->hang_up)
		return E_NORMAL;
	return client_say(self);
}

static const struct rule client_rules[] = {
	{CLIENT_UP, IO_CONNECTED, client_connected},
	{CLIENT_UP, IO_BYTES, client_bytes},
	{CLIENT_UP, IO_CLOSED, client_closed},
	{CLIENT_UP, EXIT, client_woken},
};

static const struct behaviour client_behaviour = {.name = "test.client",
	.state_size = sizeof(struct client),
	.rules = client_rules,
	.n_rules = ARRAY_LEN(client_rules),
	.states = client_state_names,
	.n_states = ARRAY_LEN(client_state_names),
	.init = client_init,
	.trap_exit = true};

/* ---- the stage --------------------------------------------------------------------------------------------------- */

static struct sim *sim;

static struct pid spawn(const char *name, const struct behaviour *b, const void *args, size_t size)
{
	return sim_spawn(
		sim, 1, 0, &(struct spawn){.behaviour = b, .args = args, .args_size = size, .name = name});
}

static void nothing(struct sim *s, uint16_t node, void *arg)
{
	(void)s;
	(void)node;
	(void)arg;
}

static struct pid listener_pid;

static void open_stage(uint64_t seed)
{
	static const struct gate_config *c = &config;

	memset(&pool, 0, sizeof(pool));
	for (int i = 0; i < CLIENTS; i++) {
		writer_release(&sides[i].say);
		free(sides[i].got);
		sides[i] = (struct side){.got = malloc(OUT_MAX)};
		writer_init(&sides[i].say, OUT_MAX);
	}
	sim = sim_new(&(struct sim_spec){.seed = seed, .n_nodes = 1, .n_workers = 1, .boot = nothing});
	pool_pid = spawn("pool.0", &fake_pool_behaviour, NULL, 0);
	spawn("tablet", &fake_tablet_behaviour, NULL, 0);
	listener_pid = spawn("gate.0", &listener_behaviour, &c, sizeof(c));
}

static void close_stage(void)
{
	sim_free(sim);
	config = (struct gate_config){.listen = ADDRESS};
}

static void run_ms(uint64_t ms)
{
	sim_run_for(sim, ms * 1000);
}

static void enter(int i)
{
	struct side *d = &sides[i];

	spawn(NULL, &client_behaviour, &d, sizeof(d));
	run_ms(200);
}

static void wake(int i)
{
	sim_exit(sim, sides[i].pid, E_STATE);
	run_ms(200);
}

static void put_login(int i, uint32_t version, const char *user)
{
	const char *pairs[] = {"user", user, "database", "db", "application_name", "test", NULL};

	wire_put_startup(&sides[i].say, version, pairs);
}

static void log_in(int i)
{
	put_login(i, WIRE_VERSION_3_0, "alice");
	enter(i);
}

/* The types of all whole messages got so far. */
static const char *types(int i)
{
	static char text[4096];
	struct side *d = &sides[i];
	struct wire_frame f;
	uint32_t at = 0, n = 0;

	while (wire_frame_peek(d->got + at, d->n_got - at, UINT32_MAX, &f) == OK && f.len <= d->n_got - at &&
		n < sizeof(text) - 1) {
		text[n++] = (char)f.type;
		at += f.len;
	}
	ck_assert_uint_eq(at, d->n_got);
	text[n] = '\0';
	return text;
}

static void forget_got(int i)
{
	sides[i].n_got = 0;
}

static void query(int i, const char *text)
{
	wire_put_query(&sides[i].say, text, (uint32_t)strlen(text));
}

static bool got_state(int i, const char *sqlstate)
{
	char field[7] = "C";

	memcpy(field + 1, sqlstate, 6);
	return memmem(sides[i].got, sides[i].n_got, field, 7) != NULL;
}

/* ---- logging in -------------------------------------------------------------------------------------------------- */

START_TEST(a_client_is_greeted_as_postgres_would)
{
	open_stage(1);
	log_in(0);
	ck_assert_str_eq(types(0), "RSSKZ");
	ck_assert_uint_eq(pool.opens, 1);
	close_stage();
}
END_TEST

START_TEST(ssl_and_gss_requests_are_answered_first)
{
	open_stage(2);
	wire_put_ssl_request(&sides[0].say);
	enter(0);
	ck_assert_uint_eq(sides[0].n_got, 1);
	ck_assert_int_eq(sides[0].got[0], 'N');
	forget_got(0);
	put_login(0, WIRE_VERSION_3_0, "alice");
	wake(0);
	ck_assert_str_eq(types(0), "RSSKZ");
	close_stage();
}
END_TEST

START_TEST(a_newer_protocol_is_negotiated_down)
{
	const char *pairs[] = {"user", "alice", "_pq_.what", "1", NULL};

	open_stage(3);
	wire_put_startup(&sides[0].say, 3 << 16 | 9, pairs);
	enter(0);
	ck_assert_str_eq(types(0), "vRSSKZ");
	close_stage();
}
END_TEST

START_TEST(the_right_password_lets_in_and_a_wrong_one_does_not)
{
	static const struct {
		const char *user, *password;
		bool in;
	} cases[] = {{"alice", "secret", true}, {"alice", "wrong", false}, {"bob", "secret", false}};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		config.auth = GATE_SCRAM;
		open_stage(10 + i);
		sides[0].password = cases[i].password;
		put_login(0, WIRE_VERSION_3_0, cases[i].user);
		enter(0);
		run_ms(500);
		ck_assert_str_eq(types(0), cases[i].in ? "RRRRSSKZ" : "RRE");
		ck_assert_int_eq(sides[0].closed, !cases[i].in);
		ck_assert_int_eq(got_state(0, "28P01"), !cases[i].in);
		close_stage();
	}
}
END_TEST

START_TEST(one_client_too_many_hears_why)
{
	config.max_clients = 1;
	open_stage(4);
	log_in(0);
	log_in(1);
	ck_assert_str_eq(types(1), "E");
	ck_assert(got_state(1, "53300"));
	ck_assert(sides[1].closed);
	sides[0].hang_up = true;
	wake(0);
	log_in(2);
	ck_assert_str_eq(types(2), "RSSKZ");
	close_stage();
}
END_TEST

START_TEST(nonsense_is_closed_and_disturbs_nobody)
{
	open_stage(5);
	log_in(0);
	writer_text(&sides[1].say, "GET / HTTP/1.1\r\n\r\n");
	enter(1);
	ck_assert(sides[1].closed);
	ck_assert_uint_eq(sides[1].n_got, 0);
	log_in(2);
	forget_got(2);
	writer_text(&sides[2].say, "nonsense");
	wake(2);
	ck_assert_str_eq(types(2), "E");
	ck_assert(got_state(2, "08P01"));
	ck_assert(sides[2].closed);
	query(0, "select");
	forget_got(0);
	wake(0);
	ck_assert_str_eq(types(0), "CZ");
	close_stage();
}
END_TEST

START_TEST(a_client_that_says_nothing_is_closed)
{
	config.login_timeout_ms = 1000;
	open_stage(6);
	enter(0);
	ck_assert(!sides[0].closed);
	run_ms(1500);
	ck_assert(sides[0].closed);
	close_stage();
}
END_TEST

/* ---- serving ------------------------------------------------------------------------------------------------------ */

START_TEST(queries_are_answered_in_order_under_any_chunking)
{
	for (uint64_t seed = 1; seed <= 30; seed++) {
		open_stage(seed);
		log_in(0);
		forget_got(0);
		for (int i = 0; i < 50; i++) {
			query(0, i % 10 == 3   ? "begin"
				 : i % 10 == 7 ? "commit"
				 : i % 10 == 5 ? "select 1/0"
					       : "select");
			if (i % 5 == 0)
				wake(0);
		}
		wake(0);
		run_ms(1000);
		for (int i = 0; i < 50; i++)
			ck_assert_msg(
				types(0)[2 * i + 1] == 'Z' && types(0)[2 * i] == (i % 10 == 5 ? 'E' : 'C'),
				"seed %u, answer %d: %s", (unsigned)seed, i, types(0));
		ck_assert_uint_eq(strlen(types(0)), 100);
		ck_assert_uint_eq(pool.flags & EXECUTE_PIN, 0);
		close_stage();
	}
}
END_TEST

static void put_batch(int i, bool parse, bool sync)
{
	struct writer *w = &sides[i].say;

	if (parse)
		wire_put_parse(w, "", "select 1", 8, NULL, 0);
	wire_put_bind(w, "", "", NULL, 0);
	wire_put_execute(w, "", 0);
	if (sync)
		wire_put_sync(w);
}

START_TEST(the_unnamed_statement_outlives_its_backend)
{
	for (uint64_t seed = 1; seed <= 30; seed++) {
		open_stage(seed);
		log_in(0);
		forget_got(0);
		put_batch(0, true, true);
		wake(0);
		ck_assert_str_eq(types(0), "12CZ");
		put_batch(0, false, true);
		wake(0);
		put_batch(0, false, true);
		wake(0);
		ck_assert_str_eq(types(0), "12CZ2CZ2CZ");
		ck_assert_uint_eq(pool.executes, 3);
		query(0, "select"); /* ends its life */
		wake(0);
		forget_got(0);
		put_batch(0, false, true); /* and another session's must not be found in its place */
		wake(0);
		ck_assert_str_eq(types(0), "EZ");
		ck_assert(got_state(0, "26000"));
		ck_assert_uint_eq(pool.flags & EXECUTE_PIN, 0);
		close_stage();
	}
}
END_TEST

START_TEST(an_open_batch_keeps_its_backend)
{
	open_stage(7);
	log_in(0);
	forget_got(0);
	put_batch(0, true, false);
	wire_put_flush(&sides[0].say);
	wake(0);
	ck_assert_str_eq(types(0), "12C");
	ck_assert_uint_eq(pool.expect, 1);
	put_batch(0, false, true);
	wake(0);
	ck_assert_str_eq(types(0), "12C2CZ");
	ck_assert_uint_eq(pool.executes, 1);
	close_stage();
}
END_TEST

/* Logs in, makes a request that pins, hangs up; gives how many backends were aborted rather than reset. */
static uint32_t aborts_after(uint64_t seed, const char *sql)
{
	uint32_t aborts;

	open_stage(seed);
	log_in(0);
	query(0, sql);
	wake(0);
	query(0, "select");
	wake(0);
	ck_assert_uint_eq(pool.executes, 1);
	ck_assert_uint_eq(pool.requests, 1);
	ck_assert(pool.flags & EXECUTE_PIN);
	sides[0].hang_up = true;
	wake(0);
	ck_assert_uint_eq(pool.releases, 1);
	ck_assert_uint_eq(pool.forgets, 1);
	aborts = pool.aborts;
	close_stage();
	return aborts;
}

START_TEST(a_pinned_session_that_hangs_up_gives_back_what_a_reset_cleans)
{
	ck_assert_uint_eq(aborts_after(8, "listen x"), 0);
}
END_TEST

START_TEST(a_pinned_session_that_hangs_up_closes_what_no_reset_cleans)
{
	ck_assert_uint_eq(aborts_after(8, "set x.y = 1"), 1);
}
END_TEST

START_TEST(a_client_that_leaves_a_transaction_aborts_it)
{
	open_stage(9);
	log_in(0);
	query(0, "begin");
	wake(0);
	sides[0].hang_up = true;
	wake(0);
	ck_assert_uint_eq(pool.aborts, 1);
	close_stage();
}
END_TEST

START_TEST(a_goodbye_waits_for_what_was_asked_before_it)
{
	open_stage(19);
	log_in(0);
	query(0, "begin");
	query(0, "commit");
	wire_put_terminate(&sides[0].say);
	wake(0);
	ck_assert(sides[0].closed);
	ck_assert_uint_eq(pool.aborts, 0);
	ck_assert_uint_eq(pool.executes, 1);
	close_stage();
}
END_TEST

/* ---- cancelling --------------------------------------------------------------------------------------------------- */

/* Where the BackendKeyData of a greeting is. */
static const uint8_t *key_of(int i)
{
	struct wire_frame f;
	uint32_t at = 0;

	while (wire_frame_peek(sides[i].got + at, sides[i].n_got - at, OUT_MAX, &f) == OK &&
		f.type != BE_BACKEND_KEY)
		at += f.len;
	return sides[i].got + at + WIRE_HEADER;
}

START_TEST(a_cancel_needs_the_right_secret)
{
	uint8_t secret[4];
	uint32_t key;

	open_stage(11);
	pool.sleeps = true;
	log_in(0);
	key = load_be32(key_of(0));
	memcpy(secret, key_of(0) + 4, 4);
	ck_assert_int_gt((int32_t)key, 0);
	query(0, "sleep");
	wake(0);
	forget_got(0);
	secret[0] ^= 1;
	wire_put_cancel_request(&sides[1].say, key, secret, 4);
	enter(1);
	ck_assert(sides[1].closed);
	ck_assert_uint_eq(sides[1].n_got, 0);
	ck_assert_uint_eq(sides[0].n_got, 0);
	secret[0] ^= 1;
	wire_put_cancel_request(&sides[2].say, key, secret, 4);
	enter(2);
	ck_assert(sides[2].closed);
	ck_assert_uint_eq(pool.cancels, 1);
	ck_assert_str_eq(types(0), "EZ");
	close_stage();
}
END_TEST

/* ---- failing ------------------------------------------------------------------------------------------------------- */

START_TEST(a_full_queue_is_an_error_and_the_session_goes_on)
{
	config.queue_timeout_ms = 300;
	open_stage(12);
	log_in(0);
	forget_got(0);
	pool.silent = true;
	query(0, "select");
	query(0, "select");
	wake(0);
	run_ms(1500);
	ck_assert_str_eq(types(0), "EZEZ");
	ck_assert(got_state(0, "53300"));
	pool.silent = false;
	forget_got(0);
	query(0, "select");
	wake(0);
	ck_assert_str_eq(types(0), "CZ");
	close_stage();
}
END_TEST

START_TEST(a_pool_that_forgot_the_group_is_told_again)
{
	open_stage(13);
	log_in(0);
	forget_got(0);
	pool.forgetful = true;
	query(0, "select");
	wake(0);
	ck_assert_str_eq(types(0), "CZ");
	ck_assert_uint_eq(pool.opens, 2);
	close_stage();
}
END_TEST

START_TEST(a_restarted_pool_is_found)
{
	open_stage(14);
	log_in(0);
	forget_got(0);
	sim_exit(sim, pool_pid, E_KILLED);
	run_ms(10);
	pool_pid = spawn("pool.0", &fake_pool_behaviour, NULL, 0);
	query(0, "select");
	wake(0);
	ck_assert_str_eq(types(0), "CZ");
	close_stage();
}
END_TEST

START_TEST(a_lost_backend_is_told_and_what_may_have_committed_is_unknown)
{
	static const struct {
		const char *first, *text, *sqlstate;
		bool closes;
	} cases[] = {
		{NULL, "select 1", "08006", false},
		{NULL, "insert into t values (1)", "08007", false},
		{"begin", "insert into t values (1)", "08006", true},
		{"begin", "commit", "08007", true},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		open_stage(20 + i);
		log_in(0);
		if (cases[i].first) {
			query(0, cases[i].first);
			wake(0);
		}
		forget_got(0);
		pool.lose = true;
		query(0, cases[i].text);
		wake(0);
		ck_assert_str_eq(types(0), cases[i].closes ? "E" : "EZ");
		ck_assert_msg(got_state(0, cases[i].sqlstate), "case %u", i);
		ck_assert_int_eq(sides[0].closed, cases[i].closes);
		close_stage();
	}
}
END_TEST

START_TEST(sessions_outlive_a_listener_that_dies_and_not_one_that_stops)
{
	static const struct gate_config *c = &config;
	uint8_t secret[4];
	uint32_t key;

	open_stage(15);
	pool.sleeps = true;
	log_in(0);
	key = load_be32(key_of(0));
	memcpy(secret, key_of(0) + 4, 4);
	sim_exit(sim, listener_pid, E_KILLED);
	run_ms(50);
	listener_pid = spawn("gate.0", &listener_behaviour, &c, sizeof(c));
	run_ms(1000);
	forget_got(0);
	query(0, "sleep");
	wake(0);
	wire_put_cancel_request(&sides[1].say, key, secret, 4);
	enter(1);
	ck_assert_str_eq(types(0), "EZ");
	forget_got(0);
	sim_exit(sim, listener_pid, E_SHUTDOWN);
	run_ms(500);
	ck_assert(sides[0].closed);
	ck_assert_str_eq(types(0), "E");
	ck_assert(got_state(0, "57P01"));
	close_stage();
}
END_TEST

static void keep_quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

int main(void)
{
	Suite *s = suite_create("gate session");
	TCase *c = tcase_create("session");
	SRunner *r;
	int failed;

	log_set_sink(keep_quiet);
	config.listen = ADDRESS;
	catalog_add_core();
	catalog_add_sup();
	catalog_add_tablet();
	catalog_add_gate();
	gate_metrics_declare();
	tcase_set_timeout(c, 60);
	tcase_add_test(c, a_client_is_greeted_as_postgres_would);
	tcase_add_test(c, ssl_and_gss_requests_are_answered_first);
	tcase_add_test(c, a_newer_protocol_is_negotiated_down);
	tcase_add_test(c, the_right_password_lets_in_and_a_wrong_one_does_not);
	tcase_add_test(c, one_client_too_many_hears_why);
	tcase_add_test(c, nonsense_is_closed_and_disturbs_nobody);
	tcase_add_test(c, a_client_that_says_nothing_is_closed);
	tcase_add_test(c, queries_are_answered_in_order_under_any_chunking);
	tcase_add_test(c, the_unnamed_statement_outlives_its_backend);
	tcase_add_test(c, an_open_batch_keeps_its_backend);
	tcase_add_test(c, a_pinned_session_that_hangs_up_gives_back_what_a_reset_cleans);
	tcase_add_test(c, a_pinned_session_that_hangs_up_closes_what_no_reset_cleans);
	tcase_add_test(c, a_client_that_leaves_a_transaction_aborts_it);
	tcase_add_test(c, a_goodbye_waits_for_what_was_asked_before_it);
	tcase_add_test(c, a_cancel_needs_the_right_secret);
	tcase_add_test(c, a_full_queue_is_an_error_and_the_session_goes_on);
	tcase_add_test(c, a_pool_that_forgot_the_group_is_told_again);
	tcase_add_test(c, a_restarted_pool_is_found);
	tcase_add_test(c, a_lost_backend_is_told_and_what_may_have_committed_is_unknown);
	tcase_add_test(c, sessions_outlive_a_listener_that_dies_and_not_one_that_stops);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
