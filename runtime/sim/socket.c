/*
 * Sockets in memory. A connection has two ends; each end has three byte queues:
 *
 *	io_write -> out  --room in the other's window, partial-->  wire  --delay, in pieces-->  the other's in -> IO_BYTES
 *
 * `out` is what io_queued counts; when it had to wait and runs empty, IO_DRAINED. `in` waits for credit. At most one
 * arrival a direction is under way, so bytes keep their order. An end is CLOSING while its last bytes go out.
 */
#include <stdlib.h>

#include "runtime/base/bytes.h"
#include "runtime/sim/internal.h"

enum {
	LINGER_US = 5000000,
	RETRY_US = 5000, /* between looks at a blocked link */
	WINDOW_MIN = 1024,
	WINDOW_MAX = 131072,
	SHORT_PPM = 200000, /* of reads and writes move only a part */
	EPHEMERAL_FIRST = 32768,
	EPHEMERAL_N = 28000,
	END_POINT_BYTES = 32,
	TLS_TIMEOUT_MS = 10000,
};

enum conn_event {
	CONN_REACHES,
	CONN_IS_UP,
	CONN_TIMEOUT,
	CONN_ARRIVE,
	CONN_FLUSH,
	CONN_PUMP,
	CONN_RESET,
	CONN_LINGER,
	CONN_TLS_DONE,
	CONN_TLS_TIMEOUT
};

/* ---- bytes --------------------------------------------------------------------------------------------------- */

static void bytes_put(struct bytes *b, const uint8_t *p, uint32_t n)
{
	if (b->off && b->off + b->len + n > b->cap) {
		memmove(b->p, b->p + b->off, b->len);
		b->off = 0;
	}
	if (b->len + n > b->cap) {
		uint32_t cap = b->cap ? b->cap : 256;

		while (cap < b->len + n)
			cap *= 2;
		b->p = realloc(b->p, cap);
		check(b->p != NULL);
		b->cap = cap;
	}
	if (n)
		memcpy(b->p + b->off + b->len, p, n);
	b->len += n;
}

static void bytes_skip(struct bytes *b, uint32_t n)
{
	b->off += n;
	b->len -= n;
	if (b->len == 0)
		b->off = 0;
}

static void bytes_move(struct bytes *to, struct bytes *from, uint32_t n)
{
	if (n)
		bytes_put(to, from->p + from->off, n);
	bytes_skip(from, n);
}

static void bytes_free(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){0};
}

/* ---- addresses ------------------------------------------------------------------------------------------------ */

/* The node an address means, seen from `own`; key gets what identifies the listener there. 0: nobody's. */
static uint16_t address_node(const struct sim *s, uint16_t own, const char *address, char key[IO_ADDRESS_MAX])
{
	static const char *const local[] = {"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::]", "*"};
	const char *colon = strrchr(address, ':');
	char host[IO_ADDRESS_MAX];
	unsigned id = 0;
	int end = 0;

	if (address[0] == '/')
		return str_copy(key, IO_ADDRESS_MAX, address) ? own : 0;
	if (!colon || strlen(address) >= IO_ADDRESS_MAX)
		return 0;
	str_copy(key, IO_ADDRESS_MAX, colon + 1);
	memcpy(host, address, (size_t)(colon - address));
	host[colon - address] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(local); i++)
		if (strcmp(host, local[i]) == 0)
			return own;
	if ((sscanf(host, "10.0.0.%3u%n", &id, &end) == 1 || sscanf(host, "node%3u%n", &id, &end) == 1) &&
		host[end] == '\0' && id >= 1 && id <= s->spec.n_nodes)
		return (uint16_t)id;
	return 0;
}

static struct listener *listener_find(struct sim *s, uint16_t node, const char *key)
{
	struct listener *found = NULL;
	uint64_t n = 0;

	list_each(it, &s->listeners)
	{
		struct listener *l = LIST_ITEM(it, struct listener, link);

		if (l->node == node && strcmp(l->key, key) == 0 && rand_below(&s->io, ++n) == 0)
			found = l; /* each of several with the same chance */
	}
	return found;
}

/* ---- ids and ends ---------------------------------------------------------------------------------------------- */

static void io_add(struct sim *s, struct sim_io *io, struct sim_worker *sw, const char *kind,
	void (*drop)(struct handle *h))
{
	io->id = ++s->next_id;
	io->sw = sw;
	io->h.kind = kind;
	io->h.drop = drop;
	HASH_ADD(hh, s->ios, id, sizeof(io->id), io);
}

static struct sim_io *io_find(struct driver *d, struct actor *a, uint64_t id)
{
	struct sim *s = worker_of_driver(d)->node->sim;
	struct sim_io *io = NULL;

	HASH_FIND(hh, s->ios, &id, sizeof(id), io);
	return io && pid_equal(io->h.owner, actor_pid(a)) ? io : NULL;
}

static struct sock *sock_find(struct driver *d, struct actor *a, uint64_t id)
{
	struct sim_io *io = io_find(d, a, id);

	return io && !io->is_listener ? CONTAINER_OF(io, struct sock, io) : NULL;
}

static struct sim *sim_of(const struct sock *k)
{
	return k->io.sw->node->sim;
}

static struct sock *other(struct sock *k)
{
	return &k->conn->ends[k == &k->conn->ends[0]];
}

static struct rand_stream *draws(const struct sock *k)
{
	return &sim_of(k)->io;
}

static void conn_event(
	struct sim *s, uint64_t after_us, const struct conn *c, const struct sock *k, enum conn_event what)
{
	events_add(s, after_us,
		(struct event){.kind = EV_CONN, .what = what, .a = c->id, .b = k == &c->ends[1]});
}

static uint64_t sock_delay_us(struct sock *k)
{
	return link_delay_us(sim_of(k), draws(k), k->node, other(k)->node);
}

static struct msg *io_msg(const struct sim_io *io, uint16_t tag)
{
	struct msg *m = worker_msg_new(io->sw->worker, tag);

	m->from = m->to = io->h.owner;
	return m;
}

static void deliver_closed(struct sock *k, enum status st, const char *text)
{
	struct msg *m = io_msg(&k->io, IO_CLOSED);
	struct io_closed *c = io_closed_of(m);

	c->io = k->io.id;
	c->status = (uint8_t)st;
	str_copy(c->text, sizeof(c->text), text);
	worker_deliver(k->io.sw->worker, m);
}

/* No owner and no id any more. */
static void sock_disown(struct sim *s, struct sock *k)
{
	if (pid_is_none(k->io.h.owner))
		return;
	HASH_DELETE(hh, s->ios, &k->io);
	handle_remove(&k->io.h);
	k->io.h.owner = PID_NONE;
}

/* The end is over. The connection goes with its second end. */
static void sock_gone(struct sim *s, struct sock *k)
{
	struct conn *c = k->conn;

	sock_disown(s, k);
	k->state = SOCK_GONE;
	bytes_free(&k->out);
	bytes_free(&k->in);
	if (other(k)->state != SOCK_GONE)
		return;
	bytes_free(&c->ends[0].wire);
	bytes_free(&c->ends[1].wire);
	HASH_DEL(s->conns, c);
	free(c);
}

/* The answer to io_connect; a failure ends the id. */
static void deliver_connected(struct sim *s, struct sock *k, enum status st, const char *text)
{
	struct msg *m = io_msg(&k->io, IO_CONNECTED);
	struct io_connected *c = io_connected_of(m);

	c->io = k->io.id;
	c->status = (uint8_t)st;
	str_copy(c->text, sizeof(c->text), text);
	worker_deliver(k->io.sw->worker, m);
	if (st)
		sock_gone(s, k);
	else
		k->state = SOCK_OPEN;
}

static void deliver_tls(struct sock *k, enum status st, const char *text)
{
	struct msg *m = io_msg(&k->io, IO_TLS_UP);
	struct io_tls_up *t = io_tls_up_of(m);
	uint8_t end_point[END_POINT_BYTES];

	t->io = k->io.id;
	t->status = (uint8_t)st;
	str_copy(t->text, sizeof(t->text), text);
	if (!st) {
		memset(end_point, (int)(k->conn->id & 0xff), sizeof(end_point));
		str_copy(t->version, sizeof(t->version), "TLSv1.3");
		str_copy(t->cipher, sizeof(t->cipher), "SIM_NULL_NULL");
		if (strcmp(k->alpn, other(k)->alpn) == 0)
			str_copy(t->alpn, sizeof(t->alpn), k->alpn);
		t->end_point = slice_copy(end_point, sizeof(end_point));
	}
	worker_deliver(k->io.sw->worker, m);
}

/* Ends the end at once; the other hears of it. */
static void sock_abort(struct sim *s, struct sock *k)
{
	if (other(k)->state != SOCK_GONE)
		conn_event(s, sock_delay_us(k), k->conn, other(k), CONN_RESET);
	sock_gone(s, k);
}

/* Ends the end and tells its owner, if it has one. */
static void sock_fail(struct sim *s, struct sock *k, enum status st, const char *text)
{
	if (k->state == SOCK_GONE)
		return;
	if (k->state == SOCK_CONNECTING) {
		deliver_connected(s, k, st, text);
		return;
	}
	if (k->state == SOCK_OPEN && k->tls == TLS_STARTED)
		deliver_tls(k, st, text);
	else if (k->state == SOCK_OPEN)
		deliver_closed(k, st, text);
	sock_gone(s, k);
}

/* ---- moving bytes ---------------------------------------------------------------------------------------------- */

static uint32_t some_of(struct sock *k, uint32_t n)
{
	return n > 1 && rand_chance(draws(k), SHORT_PPM) ? (uint32_t)rand_between(draws(k), 1, n - 1) : n;
}

static void sock_arrange_arrival(struct sim *s, struct sock *from)
{
	if (from->arriving)
		return;
	from->arriving = true;
	conn_event(s, sock_delay_us(from), from->conn, other(from), CONN_ARRIVE);
}

/* Bytes of `out` go on their way, as far as the other end's window has room. */
static void sock_flush(struct sim *s, struct sock *k)
{
	uint32_t used = k->wire.len + other(k)->in.len, room = k->window > used ? k->window - used : 0;
	uint32_t want = k->tls == TLS_STARTED ? k->plain : k->out.len, n;

	if (k->state != SOCK_OPEN && k->state != SOCK_CLOSING)
		return;
	n = some_of(k, want < room ? want : room);
	k->plain -= n < k->plain ? n : k->plain;
	bytes_move(&k->wire, &k->out, n);
	if (n)
		sock_arrange_arrival(s, k);
	if (n < want && n < room)
		conn_event(s, sock_delay_us(k), k->conn, k, CONN_FLUSH);
	if (k->out.len == 0 && k->state == SOCK_CLOSING)
		sock_arrange_arrival(s, k); /* the end itself */
	if (k->out.len) {
		k->had_queue = true;
	} else if (k->had_queue && k->state == SOCK_OPEN) {
		struct msg *m = io_msg(&k->io, IO_DRAINED);

		k->had_queue = false;
		io_drained_of(m)->io = k->io.id;
		worker_deliver(k->io.sw->worker, m);
	}
}

/* What arrived goes to the owner, against credit. */
static void sock_pump(struct sim *s, struct sock *k)
{
	struct sock *from = other(k);

	if (k->state != SOCK_OPEN || k->tls == TLS_STARTED)
		return;
	while (k->credit && k->in.len) {
		uint32_t n = some_of(k, k->in.len < READ_MAX ? k->in.len : READ_MAX);
		struct msg *m = io_msg(&k->io, IO_BYTES);
		struct io_bytes *b = io_bytes_of(m);

		b->io = k->io.id;
		b->bytes = slice_copy(k->in.p + k->in.off, n);
		bytes_skip(&k->in, n);
		k->credit--;
		worker_deliver(k->io.sw->worker, m);
		if (from->out.len)
			conn_event(s, sock_delay_us(k), k->conn, from, CONN_FLUSH);
	}
	if (k->eof && k->in.len == 0)
		sock_fail(s, k, E_CLOSED, "");
}

static void conn_reset(struct sim *s, struct conn *c, const char *text)
{
	struct sock *b = &c->ends[1];
	bool second = b->state != SOCK_GONE;

	sock_fail(s, &c->ends[0], E_IO, text); /* frees c if the other was gone */
	if (second)
		sock_fail(s, b, E_IO, text);
}

/* A piece comes in at `k`; what was under way arrives in order, perhaps not all at once. */
static void sock_arrive(struct sim *s, struct sock *k)
{
	struct sock *from = other(k);

	if (link_blocked(s, from->node, k->node)) {
		conn_event(s, RETRY_US, k->conn, k, CONN_ARRIVE);
		return;
	}
	from->arriving = false;
	if (k->state == SOCK_GONE) { /* nobody there: the sender hears of it */
		sock_fail(s, from, E_IO, "connection reset by peer");
		return;
	}
	if (from->wire.len && fault(F_IO_RESET)) {
		conn_reset(s, k->conn, "connection reset by peer");
		return;
	}
	bytes_move(&k->in, &from->wire, some_of(k, from->wire.len));
	if (from->wire.len) {
		sock_arrange_arrival(s, from);
	} else if (from->state == SOCK_CLOSING && from->out.len == 0) {
		k->eof = true;
		sock_gone(s, from); /* k isn't gone, so the connection stays */
	}
	sock_pump(s, k);
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

static void listener_drop(struct handle *h)
{
	struct listener *l = CONTAINER_OF(h, struct listener, io.h);
	struct sim *s = l->io.sw->node->sim;

	list_remove(&l->link);
	HASH_DELETE(hh, s->ios, &l->io);
	free(l);
}

enum status sock_listen(
	struct driver *d, struct actor *a, const struct io_listen *spec, uint64_t *io, struct error *err)
{
	struct sim_worker *sw = worker_of_driver(d);
	struct sim *s = sw->node->sim;
	struct listener *l, *before;
	char key[IO_ADDRESS_MAX];
	uint16_t node = address_node(s, sw->node->id, spec->address, key);

	if (node != sw->node->id)
		return error_set(err, E_IO, "58030", "could not bind %s: cannot assign requested address",
			spec->address);
	before = listener_find(s, node, key);
	if (before && !(spec->reuse_port && before->reuse_port))
		return error_set(
			err, E_EXISTS, "55006", "could not bind %s: address already in use", spec->address);
	if (fault(F_IO_LISTEN_FAILS))
		return error_set(err, E_IO, "58030", "could not bind %s: injected", spec->address);
	l = calloc(1, sizeof(*l));
	check(l != NULL);
	l->io.is_listener = true;
	l->node = node;
	l->reuse_port = spec->reuse_port;
	str_copy(l->key, sizeof(l->key), key);
	list_push_back(&s->listeners, &l->link);
	io_add(s, &l->io, sw, "listener", listener_drop);
	actor_handle_add(a, &l->io.h);
	*io = l->io.id;
	return OK;
}

/* The owner ended: what it wrote still goes out, as after io_close. */
static void sock_drop(struct handle *h)
{
	struct sock *k = CONTAINER_OF(h, struct sock, io.h);
	struct sim *s = sim_of(k);
	bool flushes = k->state == SOCK_OPEN && !k->io.sw->node->going;

	sock_disown(s, k);
	if (!flushes) {
		sock_abort(s, k);
		return;
	}
	k->state = SOCK_CLOSING;
	conn_event(s, LINGER_US, k->conn, k, CONN_LINGER);
	sock_flush(s, k);
}

static void end_init(struct conn *c, struct sock *k, uint16_t node)
{
	k->conn = c;
	k->node = node;
	k->state = SOCK_GONE;
}

enum status sock_connect(
	struct driver *d, struct actor *a, const char *address, uint32_t timeout_ms, uint64_t *io)
{
	struct sim_worker *sw = worker_of_driver(d);
	struct sim *s = sw->node->sim;
	struct conn *c = calloc(1, sizeof(*c));
	struct sock *k = &c->ends[0];

	check(c != NULL);
	c->id = ++s->next_id;
	end_init(c, k, sw->node->id);
	end_init(c, &c->ends[1], address_node(s, sw->node->id, address, c->key));
	HASH_ADD(hh, s->conns, id, sizeof(c->id), c);
	k->state = SOCK_CONNECTING;
	k->window = (uint32_t)rand_between(&s->io, WINDOW_MIN, WINDOW_MAX);
	io_add(s, &k->io, sw, "socket", sock_drop);
	actor_handle_add(a, &k->io.h);
	*io = k->io.id;
	conn_event(s, (uint64_t)timeout_ms * 1000, c, k, CONN_TIMEOUT);
	if (!fault(F_IO_CONNECT_HANGS))
		conn_event(s, link_delay_us(s, &s->io, k->node, c->ends[1].node), c, k, CONN_REACHES);
	return OK;
}

static void conn_accept(struct sim *s, struct conn *c, struct listener *l)
{
	struct sock *k = &c->ends[1];
	struct msg *m;
	struct io_accepted *acc;

	io_add(s, &k->io, l->io.sw, "socket", sock_drop);
	if (handle_give(l->io.sw->worker, &k->io.h, l->io.h.owner))
		sim_fail(s, "a listener outlived its owner");
	k->state = SOCK_OPEN;
	k->window = (uint32_t)rand_between(&s->io, WINDOW_MIN, WINDOW_MAX);
	m = io_msg(&k->io, IO_ACCEPTED);
	acc = io_accepted_of(m);
	acc->listener = l->io.id;
	acc->io = k->io.id;
	if (c->key[0] == '/')
		str_copy(acc->peer, sizeof(acc->peer), "unix");
	else
		snprintf(acc->peer, sizeof(acc->peer), "10.0.0.%u:%u", c->ends[0].node,
			(unsigned)(EPHEMERAL_FIRST + c->id % EPHEMERAL_N));
	worker_deliver(l->io.sw->worker, m);
}

/* The first packet is at the other node, or nowhere. */
static void conn_reaches(struct sim *s, struct conn *c)
{
	struct sock *k = &c->ends[0];
	uint16_t to = c->ends[1].node;
	struct listener *l;

	if (to == 0) {
		deliver_connected(s, k, E_NOT_FOUND, "could not resolve the address");
		return;
	}
	if (link_blocked(s, k->node, to) || link_blocked(s, to, k->node)) {
		conn_event(s, RETRY_US, c, k, CONN_REACHES);
		return;
	}
	if (!s->nodes[to].up)
		return; /* no answer: the timeout will tell */
	l = listener_find(s, to, c->key);
	if (!l || fault(F_IO_CONNECT_REFUSED)) {
		deliver_connected(s, k, E_IO, "connection refused");
		return;
	}
	conn_accept(s, c, l);
	conn_event(s, sock_delay_us(k), c, k, CONN_IS_UP);
}

static void conn_is_up(struct sim *s, struct sock *k)
{
	deliver_connected(s, k, OK, "");
	sock_flush(s, k);
	sock_pump(s, k);
}

/* ---- TLS: both ends must ask for it, one as server ------------------------------------------------------------------ */

/* The handshake failed: IO_TLS_UP says so and the id is dead, as with any end of a socket during it. */
static void tls_fail(struct sim *s, struct sock *k, enum status st, const char *text)
{
	if (k->state == SOCK_OPEN && k->tls == TLS_STARTED)
		sock_fail(s, k, st, text);
}

enum status sock_tls(
	struct driver *d, struct actor *a, uint64_t io, const struct io_tls *spec, struct error *err)
{
	struct sock *k = sock_find(d, a, io);

	if (!k)
		return error_set(err, E_CLOSED, "08006", "the connection is closed");
	if (k->state != SOCK_OPEN || k->tls != TLS_NONE)
		return error_set(err, E_STATE, "08P01", "TLS can't be started now");
	k->tls = TLS_STARTED;
	k->tls_server = spec->server;
	k->plain = k->out.len;
	str_copy(k->alpn, sizeof(k->alpn), spec->alpn ? spec->alpn : "");
	conn_event(sim_of(k), (uint64_t)(spec->timeout_ms ? spec->timeout_ms : TLS_TIMEOUT_MS) * 1000,
		k->conn, k, CONN_TLS_TIMEOUT);
	if (other(k)->tls == TLS_STARTED)
		conn_event(sim_of(k), 2 * sock_delay_us(k), k->conn, k, CONN_TLS_DONE);
	return OK;
}

static void tls_done(struct sim *s, struct conn *c)
{
	bool paired = c->ends[0].tls_server != c->ends[1].tls_server;

	if (!paired || fault(F_TLS_FAILS)) {
		bool second = c->ends[1].state == SOCK_OPEN;

		tls_fail(s, &c->ends[0], E_PROTOCOL, "TLS handshake failed");
		if (second)
			tls_fail(s, &c->ends[1], E_PROTOCOL, "TLS handshake failed");
		return;
	}
	for (int i = 0; i < 2; i++) {
		struct sock *k = &c->ends[i];

		if (k->state != SOCK_OPEN || k->tls != TLS_STARTED)
			continue;
		k->tls = TLS_UP;
		deliver_tls(k, OK, "");
		conn_event(s, 0, c, k, CONN_FLUSH);
		conn_event(s, 0, c, k, CONN_PUMP);
	}
}

/* ---- what owners do ------------------------------------------------------------------------------------------------ */

enum status sock_give(struct driver *d, struct actor *a, uint64_t io, struct pid to)
{
	struct sim_io *i = io_find(d, a, io);

	return i ? handle_give(d->worker, &i->h, to) : E_CLOSED;
}

void sock_credit(struct driver *d, struct actor *a, uint64_t io, uint32_t n)
{
	struct sock *k = sock_find(d, a, io);

	if (!k)
		return;
	k->credit += n;
	if (k->in.len)
		conn_event(sim_of(k), 0, k->conn, k, CONN_PUMP);
}

enum status sock_write(struct driver *d, struct actor *a, uint64_t io, struct slice *bytes)
{
	struct sock *k = sock_find(d, a, io);
	struct slice s = slice_take(bytes);
	enum status st = OK;

	if (!k || k->io.sw->node->going) {
		st = E_CLOSED;
	} else if (k->out.len + s.len > IO_QUEUE_MAX) {
		struct sock *peer = other(k);

		if (peer->state != SOCK_GONE)
			conn_event(sim_of(k), sock_delay_us(k), k->conn, peer, CONN_RESET);
		sock_fail(sim_of(k), k, E_FULL, "too many bytes are waiting to be sent");
		st = E_FULL;
	} else {
		bytes_put(&k->out, slice_data(&s), s.len);
		sock_flush(sim_of(k), k);
	}
	slice_release(&s);
	return st;
}

uint32_t sock_queued(struct driver *d, struct actor *a, uint64_t io)
{
	struct sock *k = sock_find(d, a, io);

	return k ? k->out.len : 0;
}

void sock_close(struct driver *d, struct actor *a, uint64_t io, bool abort)
{
	struct sim_io *i = io_find(d, a, io);
	struct sock *k;

	if (!i)
		return;
	handle_remove(&i->h);
	if (i->is_listener) {
		listener_drop(&i->h);
		return;
	}
	k = CONTAINER_OF(i, struct sock, io);
	if (!abort) {
		sock_drop(&i->h);
		return;
	}
	sock_abort(sim_of(k), k);
}

/* ---- events --------------------------------------------------------------------------------------------------------- */

static void conn_timeout(struct sim *s, struct sock *k)
{
	if (k->state != SOCK_CONNECTING)
		return;
	if (other(k)->state != SOCK_GONE)
		conn_event(s, sock_delay_us(k), k->conn, other(k), CONN_RESET);
	deliver_connected(s, k, E_TIMEOUT, "connection timed out");
}

void sock_event(struct sim *s, const struct event *e)
{
	struct conn *c = NULL;
	struct sock *k;

	HASH_FIND(hh, s->conns, &e->a, sizeof(e->a), c);
	if (!c)
		return;
	k = &c->ends[e->b];
	switch ((enum conn_event)e->what) {
	case CONN_REACHES:
		if (k->state == SOCK_CONNECTING)
			conn_reaches(s, c);
		break;
	case CONN_IS_UP:
		if (k->state == SOCK_CONNECTING)
			conn_is_up(s, k);
		break;
	case CONN_TIMEOUT:
		conn_timeout(s, k);
		break;
	case CONN_ARRIVE:
		sock_arrive(s, k);
		break;
	case CONN_FLUSH:
		sock_flush(s, k);
		break;
	case CONN_PUMP:
		sock_pump(s, k);
		break;
	case CONN_RESET:
		sock_fail(s, k, E_IO, "connection reset by peer");
		break;
	case CONN_LINGER:
		if (k->state == SOCK_CLOSING)
			sock_abort(s, k);
		break;
	case CONN_TLS_DONE:
		tls_done(s, c);
		break;
	case CONN_TLS_TIMEOUT:
		tls_fail(s, k, E_TIMEOUT, "TLS handshake timed out");
		break;
	}
}

/* After a crash the node's kernel, or the next one to use its address, answers with a reset. */
void sock_node_crashed(struct sim *s, uint16_t node)
{
	struct conn *c, *next;

	HASH_ITER(hh, s->conns, c, next)
	{
		for (int i = 0; i < 2; i++) {
			struct sock *k = &c->ends[i];
			bool last = other(k)->state == SOCK_GONE;

			if (k->state == SOCK_GONE || k->node != node)
				continue;
			sock_abort(s, k);
			if (last)
				break; /* c is freed */
		}
	}
}

/* At the end: nothing may have an owner; what was still closing goes. */
void sock_release(struct sim *s)
{
	struct conn *c, *next;

	if (s->ios || !list_empty(&s->listeners))
		sim_fail(s, "%u sockets or listeners are left without their owner", HASH_COUNT(s->ios));
	HASH_ITER(hh, s->conns, c, next)
	{
		for (int i = 0; i < 2; i++) {
			bool last = other(&c->ends[i])->state == SOCK_GONE;

			if (c->ends[i].state == SOCK_GONE)
				continue;
			sock_gone(s, &c->ends[i]);
			if (last)
				break;
		}
	}
}
