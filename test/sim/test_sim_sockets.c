/* Sockets in memory: an echo in pieces, back-pressure, ends of all kinds, TLS. Bytes arrive whole and in order. */
#include "test/sim/world.h"

enum { CHUNK_MAX = 200000 };

static struct {
	struct sim *s;
	const char *address;
	uint32_t timeout_ms, total, chunk, credit;
	bool tls, tls_wrong, server_aborts, server_ends, hold_credit;
	/* what was seen */
	enum status connected, closed, server_closed, listened;
	uint32_t n_accepted, n_connected, n_closed, n_server_closed, n_tls, n_tls_failed, n_drained, n_reads;
	uint64_t sent, received, echoed;
	char peer[64], text[ERROR_TEXT_MAX];
	uint64_t server_io;
	struct pid server;
} world;

static uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 31 + (i >> 8) * 17);
}

/* ---- server: echoes; each accepted socket is handed to a session ---- */

static enum status session_bytes(struct actor *self, struct msg *m)
{
	struct io_bytes *b = io_bytes_of(m);

	world.echoed += b->bytes.len;
	sim_assert(world.s, io_write(self, b->io, &b->bytes) == OK);
	if (world.server_aborts)
		io_abort(self, b->io);
	else if (world.server_ends)
		return E_NORMAL;
	else
		io_credit(self, b->io, 1);
	return OK;
}

static enum status session_told(struct actor *self, struct msg *m)
{
	world.server_io = tell_of(m)->n;
	if (world.tls) {
		struct io_tls tls = {.server = !world.tls_wrong,
			.cert_file = "c",
			.key_file = "k",
			.alpn = "postgresql",
			.timeout_ms = 1000};
		struct error err;

		if (io_tls(self, world.server_io, &tls, &err))
			return actor_fail(self, E_PROTOCOL, "%s", err.text);
	}
	if (!world.hold_credit)
		io_credit(self, world.server_io, 1);
	return OK;
}

static enum status session_closed(struct actor *self, struct msg *m)
{
	(void)self;
	world.n_server_closed++;
	world.server_closed = (enum status)io_closed_of(m)->status;
	return E_NORMAL;
}

static enum status session_tls(struct actor *self, struct msg *m)
{
	(void)self;
	world.n_tls_failed += io_tls_up_of(m)->status != OK;
	world.n_tls += io_tls_up_of(m)->status == OK;
	return OK;
}

static enum status ignore(struct actor *self, struct msg *m)
{
	(void)self, (void)m;
	return OK;
}

static const struct rule session_rules[] = {{STATE_ANY, IO_BYTES, session_bytes},
	{STATE_ANY, TELL, session_told}, {STATE_ANY, IO_CLOSED, session_closed},
	{STATE_ANY, IO_TLS_UP, session_tls}, {STATE_ANY, IO_DRAINED, ignore}};
BEHAVIOUR(session, 0, session_rules);

static enum status server_accepted(struct actor *self, struct msg *m)
{
	struct io_accepted *a = io_accepted_of(m);
	struct pid session;
	struct msg *out;

	world.n_accepted++;
	snprintf(world.peer, sizeof(world.peer), "%s", a->peer);
	ck_assert(actor_spawn(self, &(struct spawn){.behaviour = &session_behaviour, .quiet = true},
			  &session) == OK);
	ck_assert(io_give(self, a->io, session) == OK);
	ck_assert(io_give(self, a->io, session) == E_CLOSED); /* not ours any more */
	tell_new(self, &out)->n = a->io;
	actor_send(self, session, &out);
	return OK;
}

static enum status server_init(struct actor *self, const void *args, size_t size)
{
	struct error err = {0};
	uint64_t io;

	(void)args, (void)size;
	world.listened = io_listen(self, &(struct io_listen){.address = "0.0.0.0:5432"}, &io, &err);
	snprintf(world.text, sizeof(world.text), "%s", err.text);
	return OK;
}

static const struct rule server_rules[] = {{STATE_ANY, IO_ACCEPTED, server_accepted}};
BEHAVIOUR(server, 0, server_rules, .init = server_init);

/* ---- client: writes `total` bytes in chunks, reads them back ---- */

static enum status client_init(struct actor *self, const void *args, size_t size)
{
	uint64_t *io = actor_state(self);

	(void)args, (void)size;
	return io_connect(self, world.address, world.timeout_ms, io);
}

static enum status client_write(struct actor *self, uint64_t io)
{
	static uint8_t bytes[CHUNK_MAX];

	while (world.sent < world.total) {
		uint32_t n = world.total - (uint32_t)world.sent;
		enum status st;

		n = n < world.chunk ? n : world.chunk;
		for (uint32_t i = 0; i < n; i++)
			bytes[i] = pattern(world.sent + i);
		st = io_write_copy(self, io, bytes, n);
		if (st)
			return st;
		world.sent += n;
		if (io_queued(self, io))
			break; /* IO_DRAINED brings us back */
	}
	return OK;
}

static enum status client_connected(struct actor *self, struct msg *m)
{
	struct io_connected *c = io_connected_of(m);

	world.n_connected++;
	world.connected = (enum status)c->status;
	snprintf(world.text, sizeof(world.text), "%s", c->text);
	if (c->status)
		return OK;
	io_credit(self, c->io, world.credit);
	if (world.tls) {
		struct io_tls tls = {.alpn = "postgresql", .timeout_ms = 1000};
		struct error err;

		return io_tls(self, c->io, &tls, &err);
	}
	return client_write(self, c->io);
}

static enum status client_drained(struct actor *self, struct msg *m)
{
	world.n_drained++;
	sim_assert(world.s, io_queued(self, io_drained_of(m)->io) == 0);
	return client_write(self, io_drained_of(m)->io);
}

static enum status client_bytes(struct actor *self, struct msg *m)
{
	struct io_bytes *b = io_bytes_of(m);
	const uint8_t *p = slice_data(&b->bytes);

	sim_assert(world.s, b->bytes.len > 0);
	for (uint32_t i = 0; i < b->bytes.len; i++)
		sim_assert(world.s, p[i] == pattern(world.received + i));
	world.received += b->bytes.len;
	world.n_reads++;
	if (!world.hold_credit)
		io_credit(self, b->io, 1);
	if (world.received == world.total && !world.hold_credit) {
		io_close(self, b->io);
		sim_assert(world.s, io_write_copy(self, b->io, "x", 1) == E_CLOSED);
	}
	return OK;
}

static enum status client_closed(struct actor *self, struct msg *m)
{
	(void)self;
	world.n_closed++;
	world.closed = (enum status)io_closed_of(m)->status;
	return OK;
}

static enum status client_tls(struct actor *self, struct msg *m)
{
	struct io_tls_up *t = io_tls_up_of(m);

	if (t->status) {
		world.n_tls_failed++;
		return OK;
	}
	world.n_tls++;
	sim_assert(world.s, strcmp(t->alpn, "postgresql") == 0 && t->end_point.len == 32);
	return client_write(self, t->io);
}

static const struct rule client_rules[] = {{STATE_ANY, IO_CONNECTED, client_connected},
	{STATE_ANY, IO_BYTES, client_bytes}, {STATE_ANY, IO_DRAINED, client_drained},
	{STATE_ANY, IO_CLOSED, client_closed}, {STATE_ANY, IO_TLS_UP, client_tls}, {STATE_ANY, TELL, ignore}};
BEHAVIOUR(client, sizeof(uint64_t), client_rules, .init = client_init);

/* ---- runs ---- */

static struct sim *start(int seed, bool with_server)
{
	struct sim_spec spec = {.seed = (uint64_t)seed, .n_nodes = 2, .n_workers = 2};

	memset(&world, 0, sizeof(world));
	world.address = seed % 2 ? "10.0.0.2:5432" : "node2:5432";
	world.timeout_ms = 2000;
	world.total = 300000;
	world.chunk = 7000;
	world.credit = 1;
	world.s = sim_new(&spec);
	if (with_server)
		world.server = sim_spawn(world.s, 2, 1, &(struct spawn){.behaviour = &server_behaviour});
	return world.s;
}

static struct pid connect_client(struct sim *s)
{
	return sim_spawn(s, 1, 0, &(struct spawn){.behaviour = &client_behaviour});
}

START_TEST(an_echo_comes_back_whole_through_short_reads_and_partial_writes)
{
	struct sim *s = start(_i, true);

	world.chunk = 1 + (uint32_t)_i * 997;
	connect_client(s);
	sim_run_for(s, 60000000);
	sim_assert(s, world.n_accepted == 1 && world.n_connected == 1 && world.connected == OK);
	sim_assert(s, world.received == world.total && world.echoed == world.total);
	sim_assert(s, strncmp(world.peer, "10.0.0.1:", 9) == 0);
	sim_assert(s, world.n_server_closed == 1 && world.server_closed == E_CLOSED);
	sim_assert(s, world.n_closed == 0); /* who closes hears nothing */
	sim_assert(s, sim_handles(s) == 1); /* the listener */
	sim_free(s);
}
END_TEST

START_TEST(without_credit_nothing_is_delivered_and_the_writer_is_held)
{
	struct sim *s = start(_i, true);

	world.hold_credit = true;
	world.total = 4000000;
	world.chunk = CHUNK_MAX;
	connect_client(s);
	sim_run_for(s, 60000000);
	sim_assert(s, world.echoed == 0 && world.received == 0);
	sim_assert(s, world.sent < world.total); /* window and queue are full */
	sim_free(s);
}
END_TEST

START_TEST(each_read_uses_one_credit)
{
	struct sim *s = start(_i, true);

	world.credit = 3;
	world.total = 100000;
	connect_client(s);
	sim_run_for(s, 1000000);
	sim_assert(s, world.received == world.total);
	sim_free(s);
	s = start(_i, true);
	world.credit = 0;
	world.total = 1000;
	connect_client(s);
	sim_run_for(s, 1000000);
	sim_assert(s, world.echoed == 1000 && world.n_reads == 0);
	sim_free(s);
}
END_TEST

START_TEST(a_connection_to_nobody_is_refused)
{
	struct sim *s = start(_i, false);

	connect_client(s);
	sim_run_for(s, 5000000);
	sim_assert(s, world.n_connected == 1 && world.connected == E_IO);
	sim_assert(s, strcmp(world.text, "connection refused") == 0);
	sim_assert(s, sim_handles(s) == 0);
	sim_free(s);
}
END_TEST

START_TEST(a_connection_across_a_partition_times_out)
{
	struct sim *s = start(_i, true);
	uint64_t at = sim_now_us(s);

	if (_i % 2)
		sim_partition(s, 1, 2);
	else
		sim_crash_node(s, 2);
	connect_client(s);
	while (!world.n_connected)
		sim_run_for(s, 10000);
	sim_assert(s, world.connected == E_TIMEOUT);
	sim_assert(s, sim_now_us(s) - at >= 2000000 && sim_now_us(s) - at <= 2020000);
	sim_free(s);
}
END_TEST

START_TEST(a_short_partition_only_delays_the_bytes)
{
	struct sim *s = start(_i, true);

	connect_client(s);
	sim_run_for(s, 3000);
	sim_partition(s, 1, 2);
	sim_run_for(s, 500000);
	sim_assert(s, world.received < world.total);
	sim_heal(s);
	sim_run_for(s, 60000000);
	sim_assert(s, world.received == world.total || world.connected != OK);
	sim_free(s);
}
END_TEST

START_TEST(two_listeners_on_an_address_are_refused_but_on_two_nodes_are_not)
{
	struct sim *s = start(_i, true);

	sim_assert(s, world.listened == OK);
	sim_spawn(s, 1, 0, &(struct spawn){.behaviour = &server_behaviour});
	sim_assert(s, world.listened == OK);
	sim_spawn(s, 2, 0, &(struct spawn){.behaviour = &server_behaviour});
	sim_assert(s, world.listened == E_EXISTS);
	sim_assert(s, strcmp(world.text, "could not bind 0.0.0.0:5432: address already in use") == 0);
	sim_exit(s, world.server, E_SHUTDOWN); /* free again */
	sim_run_for(s, 1000);
	sim_spawn(s, 2, 0, &(struct spawn){.behaviour = &server_behaviour});
	sim_assert(s, world.listened == OK);
	sim_free(s);
}
END_TEST

START_TEST(an_abort_is_a_reset_and_the_owners_end_is_a_close)
{
	struct sim *s = start(_i, true);

	world.server_aborts = true;
	connect_client(s);
	sim_run_for(s, 10000000);
	sim_assert(s, world.n_closed == 1 && world.closed == E_IO);
	sim_free(s);
	s = start(_i, true);
	world.server_ends = true;
	world.total = 50;
	connect_client(s);
	sim_run_for(s, 20000000);
	sim_assert(s, world.received > 0 && world.received == world.echoed); /* what was written still came */
	sim_assert(s, world.n_closed <= 1 && (world.n_closed == 1 || world.received == world.total));
	sim_free(s);
}
END_TEST

START_TEST(a_crashed_node_resets_its_connections)
{
	struct sim *s = start(_i, true);

	world.hold_credit = true;
	connect_client(s);
	sim_run_for(s, 100000);
	sim_crash_node(s, 2);
	sim_run_for(s, 1000000);
	sim_assert(s, world.n_closed == 1 && world.closed == E_IO);
	sim_assert(s, sim_handles(s) == 0);
	sim_free(s);
}
END_TEST

START_TEST(faults_reset_and_refuse_but_nothing_is_lost_silently)
{
	struct sim *s = start(_i, true);

	sim_fault(s, F_IO_RESET, 20000);
	sim_fault(s, F_IO_CONNECT_REFUSED, 100000);
	sim_fault(s, F_IO_CONNECT_HANGS, 100000);
	connect_client(s);
	sim_run_for(s, 60000000);
	sim_assert(s, world.n_connected == 1);
	sim_assert(s, world.connected != OK || world.received == world.total ||
			      (world.n_closed == 1 && world.closed == E_IO));
	sim_assert(s, world.n_accepted == world.n_server_closed);
	sim_free(s);
}
END_TEST

START_TEST(tls_comes_up_on_both_sides_before_any_byte)
{
	struct sim *s = start(_i, true);

	world.tls = true;
	connect_client(s);
	sim_run_for(s, 60000000);
	sim_assert(s, world.n_tls == 2 && world.n_tls_failed == 0);
	sim_assert(s, world.received == world.total);
	sim_free(s);
}
END_TEST

START_TEST(a_failed_handshake_is_told_once_and_ends_the_socket)
{
	struct sim *s = start(_i, true);

	world.tls = true;
	world.tls_wrong = _i % 2;
	sim_fault(s, F_TLS_FAILS, _i % 2 ? 0 : RAND_MILLION);
	connect_client(s);
	sim_run_for(s, 60000000);
	sim_assert(s, world.n_tls == 0 && world.n_tls_failed == 2);
	sim_assert(s, world.n_closed == 0 && world.n_server_closed == 0);
	sim_assert(s, sim_handles(s) == 1);
	sim_free(s);
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {
		{an_echo_comes_back_whole_through_short_reads_and_partial_writes, 60},
		{without_credit_nothing_is_delivered_and_the_writer_is_held, 10},
		{each_read_uses_one_credit, 10},
		{a_connection_to_nobody_is_refused, 10},
		{a_connection_across_a_partition_times_out, 20},
		{a_short_partition_only_delays_the_bytes, 20},
		{two_listeners_on_an_address_are_refused_but_on_two_nodes_are_not, 3},
		{an_abort_is_a_reset_and_the_owners_end_is_a_close, 20},
		{a_crashed_node_resets_its_connections, 20},
		{faults_reset_and_refuse_but_nothing_is_lost_silently, 60},
		{tls_comes_up_on_both_sides_before_any_byte, 20},
		{a_failed_handshake_is_told_once_and_ends_the_socket, 20},
	};

	return world_main("sim sockets", tests, ARRAY_LEN(tests));
}
