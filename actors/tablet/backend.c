/*
 * Serving leases: bytes to Postgres, bytes back to the session, and knowing when a lease ends. Logging in is in
 * backend_login.c. Contract in backend.h.
 *
 * Postgres's bytes are framed, never decoded: five header bytes a message, and the status of ReadyForQuery. They go
 * to the session as they came, in the slice they came in.
 */
#include "actors/tablet/backend_internal.h"

#include <string.h>

#include "actors/pg/pgerror.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "actors/tablet/messages.h"
#include "actors/tablet/pidmap.h"
#include "runtime/base/bytes.h"
#include "runtime/core/io.h"

enum { TIMER_RESET = 2, RESET_BYTES_MAX = 128, ERROR_BYTES_MAX = 4096 };

static void tell_pool_idle(struct actor *self)
{
	struct backend *b = actor_state(self);
	struct msg *m;

	backend_idle_new(self, &m)->member = b->member;
	actor_send(self, b->pool, &m);
}

static void go_idle(struct actor *self)
{
	struct backend *b = actor_state(self);

	b->session = PID_NONE;
	b->pinned = b->committing = false;
	b->stopped = b->full = false; /* that was between us and the last client */
	if (b->owed)
		io_credit(self, b->io, b->owed);
	b->owed = 0;
	actor_become(self, IDLE);
	if (b->cancels == 0)
		tell_pool_idle(self); /* else when the last canceller has ended */
}

static enum status write_to_postgres(struct actor *self, struct slice *bytes)
{
	struct backend *b = actor_state(self);
	enum status st = io_write(self, b->io, bytes);
	struct msg *m;

	if (st != OK)
		return actor_fail(self, st, "writing to Postgres");
	if (!b->full && io_queued(self, b->io) > BACKEND_QUEUE_MARK) {
		struct flow *f = flow_new(self, &m);

		f->lease = b->lease;
		f->stop = 1;
		b->full = true;
		actor_send(self, b->session, &m);
	}
	return OK;
}

static void take_flags(struct backend *b, uint8_t flags, uint32_t expect)
{
	b->outstanding += expect;
	if (flags & EXECUTE_PIN)
		b->pinned = true;
	if (flags & EXECUTE_COMMIT)
		b->committing = true;
	b->open = flags & EXECUTE_OPEN;
}

static enum status on_execute(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct execute *x = execute_of(m);
	struct msg *reply;
	struct leased *l = leased_new(self, &reply);

	b->session = m->from;
	b->lease = ++b->leases << 24 | pid_slot(actor_pid(self));
	b->tx = 'I';
	b->outstanding = b->taken = 0;
	if (b->client_pid != x->client_pid) {
		b->client_pid = x->client_pid;
		pidmap_set(b->os_pid, b->client_pid);
	}
	take_flags(b, x->flags, x->expect);
	l->backend = actor_pid(self);
	l->lease = b->lease;
	actor_reply(self, m, &reply);
	actor_become(self, ON_LEASE);
	return write_to_postgres(self, &x->bytes);
}

/* The lease had ended when this came: back to the session, which executes it anew. */
static enum status bounce(struct actor *self, struct msg *m)
{
	struct request *r = request_of(m);
	struct msg *back;
	struct request *copy = request_new(self, &back);

	*copy = *r;
	r->bytes = (struct slice){0};
	actor_send(self, m->from, &back);
	return OK;
}

static enum status on_request(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct request *r = request_of(m);

	if (r->lease != b->lease)
		return bounce(self, m);
	take_flags(b, r->flags, r->expect);
	b->taken++;
	return r->bytes.len ? write_to_postgres(self, &r->bytes) : OK;
}

/* ---- bytes from Postgres ------------------------------------------------------------------------------------ */

struct seen {
	uint32_t ready;
	uint32_t cut; /* from here on the bytes are held back; the length when nothing is */
	bool parameters;
};

enum { NOTIFICATION_HEAD = WIRE_HEADER + 4 }; /* NotificationResponse up to and with the pid */

/*
 * A notification at p names the backend that sent it: it is told under the pid that its client knows. False when the
 * pid hasn't wholly come.
 */
static bool map_notification(uint8_t *p, uint32_t n)
{
	uint32_t client_pid;

	if (n < NOTIFICATION_HEAD)
		return false;
	client_pid = pidmap_get(load_be32(p + WIRE_HEADER));
	if (client_pid)
		store_be32(p + WIRE_HEADER, client_pid);
	return true;
}

/* Bytes held back of the last chunk go in front of this one. */
static void join_held(struct backend *b, struct slice *bytes)
{
	struct slice joined;

	if (likely(!b->held.len))
		return;
	joined = (struct slice){.buf = buf_new(b->held.len + bytes->len), .len = b->held.len + bytes->len};
	memcpy(joined.buf->data, slice_data(&b->held), b->held.len);
	memcpy(joined.buf->data + b->held.len, slice_data(bytes), bytes->len);
	slice_release(&b->held);
	slice_release(bytes);
	*bytes = joined;
}

static enum status frame_end(struct actor *self, struct backend *b, struct seen *seen)
{
	if (b->frame_type == BE_PARAM_STATUS)
		seen->parameters = true;
	if (b->frame_type != BE_READY)
		return OK;
	b->tx = b->last_byte;
	seen->ready++;
	if (b->outstanding == 0)
		return actor_fail(self, E_PROTOCOL, "Postgres answered more than it was asked");
	b->outstanding--;
	return OK;
}

/* Walks the frames of a chunk; what is cut goes on with the next one. */
static enum status walk_frames(
	struct actor *self, struct backend *b, uint8_t *p, uint32_t n, struct seen *seen)
{
	uint8_t *start = p, *end = p + n;
	enum status st = OK;

	seen->cut = n;
	while (p < end && st == OK) {
		if (b->frame_left == 0 && b->header_len == 0 && *p == BE_NOTIFICATION &&
			!map_notification(p, (uint32_t)(end - p))) {
			seen->cut = (uint32_t)(p - start);
			break;
		}
		if (b->frame_left == 0) {
			uint32_t take = WIRE_HEADER - b->header_len;
			uint32_t len;

			if (take > (uint32_t)(end - p))
				take = (uint32_t)(end - p);
			memcpy(b->header + b->header_len, p, take);
			b->header_len = (uint8_t)(b->header_len + take);
			p += take;
			if (b->header_len < WIRE_HEADER)
				break;
			len = load_be32(b->header + 1);
			b->frame_type = b->header[0];
			b->header_len = 0;
			if (len < 4 || len > INT32_MAX)
				return actor_fail(self, E_PROTOCOL, "Postgres sent a frame of %u bytes", len);
			b->frame_left = len - 4;
		} else {
			uint32_t take =
				b->frame_left < (uint32_t)(end - p) ? b->frame_left : (uint32_t)(end - p);

			p += take;
			b->frame_left -= take;
			b->last_byte = p[-1];
		}
		if (b->frame_left == 0)
			st = frame_end(self, b, seen);
	}
	return st;
}

static void send_rows(struct actor *self, struct slice *bytes, const struct seen *seen, bool lease_end)
{
	struct backend *b = actor_state(self);
	struct msg *m;
	struct rows *r = rows_new(self, &m);

	r->lease = b->lease;
	r->ready = seen->ready;
	r->tx = seen->ready ? b->tx : 0;
	r->taken = b->taken;
	r->flags = (uint8_t)((lease_end ? ROWS_LEASE_END : 0) | (seen->parameters ? ROWS_PARAMETERS : 0) |
			     (b->frame_left || b->header_len ? ROWS_PARTIAL : 0));
	r->bytes = slice_take(bytes);
	actor_send(self, b->session, &m);
}

static enum status on_bytes_leased(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct io_bytes *in = io_bytes_of(m);
	struct seen seen = {0};
	bool at_rest, lease_end;
	enum status st;

	if (!in->bytes.len)
		return OK;
	join_held(b, &in->bytes);
	st = walk_frames(self, b, in->bytes.buf->data + in->bytes.off, in->bytes.len, &seen);
	if (st != OK)
		return st;
	at_rest = b->outstanding == 0 && b->frame_left == 0 && b->header_len == 0;
	if (unlikely(seen.cut < in->bytes.len)) {
		b->held = slice_copy(slice_data(&in->bytes) + seen.cut, in->bytes.len - seen.cut);
		in->bytes.len = seen.cut;
		at_rest = false;
	}
	if (at_rest)
		b->committing = false;
	if (seen.parameters && b->tx == 'I')
		b->pinned = true; /* a setting changed that the session didn't announce: it stays with it */
	lease_end = at_rest && seen.ready && b->tx == 'I' && !b->pinned && !b->open;
	send_rows(self, &in->bytes, &seen, lease_end);
	if (!b->stopped)
		io_credit(self, b->io, 1);
	else
		b->owed++;
	if (lease_end)
		go_idle(self);
	return OK;
}

/* Without a lease: notices and parameter changes that nobody waits for; an error here is Postgres ending us. */
static enum status on_bytes_idle(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct io_bytes *in = io_bytes_of(m);
	struct seen seen = {0};
	enum status st;

	if (!in->bytes.len)
		return OK;
	join_held(b, &in->bytes);
	st = walk_frames(self, b, in->bytes.buf->data + in->bytes.off, in->bytes.len, &seen);
	if (st == OK && seen.cut < in->bytes.len)
		b->held = slice_copy(slice_data(&in->bytes) + seen.cut, in->bytes.len - seen.cut);
	if (st == OK)
		io_credit(self, b->io, 1);
	return st;
}

static enum status on_bytes_resetting(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	enum status st = on_bytes_idle(self, m);

	if (st != OK || b->outstanding > 0)
		return st;
	actor_timer_cancel(self, TIMER_RESET);
	if (b->tx != 'I')
		return actor_fail(self, E_STATE, "DISCARD ALL left a transaction open");
	go_idle(self);
	return OK;
}

/*
 * The client has gone and its last request runs on. Its answer ends us; so does anything else that Postgres wants to
 * tell a client, for then Postgres itself would notice that there is none, and stop.
 */
static enum status on_bytes_draining(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return E_NORMAL;
}

static enum status drain(struct actor *self, bool cancel)
{
	struct backend *b = actor_state(self);

	b->session = PID_NONE;
	b->lease = 0;
	if (cancel && !b->committing && backend_cancel_start(self) == OK)
		b->cancels++;
	actor_become(self, DRAINING);
	if (b->owed)
		io_credit(self, b->io, b->owed);
	b->owed = 0;
	return OK;
}

static enum status on_closed(struct actor *self, struct msg *m)
{
	struct io_closed *c = io_closed_of(m);

	return c->status == E_CLOSED ? E_CLOSED : actor_fail(self, E_IO, "%s", c->text);
}

/* ---- what sessions ask besides ------------------------------------------------------------------------------ */

static enum status on_flow(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct flow *f = flow_of(m);

	if (f->lease != b->lease)
		return OK;
	b->stopped = f->stop;
	if (!b->stopped && b->owed) {
		io_credit(self, b->io, b->owed);
		b->owed = 0;
	}
	return OK;
}

static enum status on_drained(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);
	struct msg *out;

	(void)m;
	if (b->full) {
		b->full = false;
		flow_new(self, &out)->lease = b->lease;
		actor_send(self, b->session, &out);
	}
	return OK;
}

static enum status on_release(struct actor *self, struct msg *m)
{
	static const char reset[] = "DISCARD ALL";
	struct backend *b = actor_state(self);
	struct release *r = release_of(m);
	struct writer w;
	struct slice bytes;

	if (r->lease != b->lease && r->lease != 0)
		return OK;
	if ((r->how == RELEASE_DRAIN || r->how == RELEASE_CANCEL) && b->outstanding > 0)
		return drain(self, r->how == RELEASE_CANCEL);
	if (r->how != RELEASE_CLEAN || b->outstanding > 0 || b->tx != 'I' || b->frame_left || b->header_len ||
		b->held.len)
		return E_NORMAL; /* Postgres rolls back when the connection closes */
	b->session = PID_NONE;
	b->lease = 0;
	b->stopped = b->full = false;
	if (b->owed)
		io_credit(self, b->io, b->owed);
	b->owed = 0;
	writer_init(&w, RESET_BYTES_MAX);
	wire_put_query(&w, reset, sizeof(reset) - 1);
	bytes = writer_take(&w);
	b->outstanding = 1;
	actor_become(self, RESETTING);
	actor_timer(self, TIMER_RESET, BACKEND_RESET_MS);
	return io_write(self, b->io, &bytes);
}

static enum status on_reset_timeout(struct actor *self, struct msg *m)
{
	(void)m;
	return actor_fail(self, E_TIMEOUT, "DISCARD ALL took too long");
}

static enum status on_cancel(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);

	if (cancel_of(m)->lease != b->lease || b->committing || b->outstanding == 0)
		return OK;
	if (b->cancels < BACKEND_CANCELS_MAX && backend_cancel_start(self) == OK)
		b->cancels++;
	return OK;
}

/* A canceller ended: Postgres has signalled the backend by now, so the next lease is safe from it. */
static enum status on_canceller_down(struct actor *self, struct msg *m)
{
	struct backend *b = actor_state(self);

	(void)m;
	if (b->cancels > 0)
		b->cancels--;
	if (b->cancels == 0 && actor_current(self) == IDLE)
		tell_pool_idle(self);
	return OK;
}

static void send_lease_lost(struct actor *self, struct backend *b, enum status why)
{
	struct pgerror e = {.severity = "FATAL",
		.severity_raw = "FATAL",
		.sqlstate = SQLSTATE_CONNECTION_FAILURE,
		.message = "the connection to Postgres was lost"};
	struct writer w;
	struct slice frame;
	struct msg *m;
	struct lease_lost *l = lease_lost_new(self, &m);

	if (why == E_SHUTDOWN || why == E_KILLED) {
		e.sqlstate = SQLSTATE_ADMIN_SHUTDOWN;
		e.message = "terminating connection due to administrator command";
	}
	l->lease = b->lease;
	l->sent = 1;
	if ((why != E_CLOSED && why != E_IO) || b->frame_type != BE_ERROR || b->frame_left || b->header_len) {
		writer_init(&w, ERROR_BYTES_MAX);
		pgerror_put_error(&w, &e);
		frame = writer_take(&w);
		l->error = slice_sub(&frame, WIRE_HEADER, frame.len - WIRE_HEADER);
		slice_release(&frame);
	}
	actor_send(self, b->session, &m);
}

void backend_exit(struct actor *self, enum status why)
{
	struct backend *b = actor_state(self);

	if (actor_current(self) == ON_LEASE)
		send_lease_lost(self, b, why);
	if (b->io && (actor_current(self) == IDLE || actor_current(self) == RESETTING || why == E_NORMAL)) {
		struct writer w;
		struct slice bytes;

		writer_init(&w, RESET_BYTES_MAX);
		wire_put_terminate(&w);
		bytes = writer_take(&w);
		(void)!io_write(self, b->io, &bytes); /* a courtesy; the close says the same */
		io_close(self, b->io);
	}
	slice_release(&b->startup);
	slice_release(&b->held);
	backend_login_free(b);
}

static void backend_show(const struct actor *self, struct writer *text)
{
	const struct backend *b = actor_state(self);
	char pid[PID_TEXT_MAX];

	writer_printf(text, "postgres pid %u leases %llu tx %c%s%s", b->os_pid, (unsigned long long)b->leases,
		b->tx ? b->tx : '-', b->pinned ? " pinned" : "", pid_is_none(b->session) ? "" : " session ");
	if (!pid_is_none(b->session))
		writer_text(text, pid_format(b->session, pid));
}

static const struct rule backend_rules[] = {
	{CONNECTING, IO_CONNECTED, backend_on_connected},
	{TLS_ASKED, IO_BYTES, backend_on_tls_answer},
	{TLS_STARTING, IO_TLS_UP, backend_on_tls_up},
	{LOGIN, IO_BYTES, backend_on_login_bytes},
	{LOGIN, WORK_DONE, backend_on_salted},
	{STATE_ANY, TIMER, backend_on_login_timeout},
	{STATE_ANY, IO_CLOSED, on_closed},
	{CONNECTING, IO_CLOSED, backend_on_login_closed},
	{TLS_ASKED, IO_CLOSED, backend_on_login_closed},
	{TLS_STARTING, IO_CLOSED, backend_on_login_closed},
	{LOGIN, IO_CLOSED, backend_on_login_closed},
	{IDLE, EXECUTE, on_execute},
	{IDLE, IO_BYTES, on_bytes_idle},
	{ON_LEASE, REQUEST, on_request},
	{ON_LEASE, IO_BYTES, on_bytes_leased},
	{ON_LEASE, FLOW, on_flow},
	{ON_LEASE, CANCEL, on_cancel},
	{ON_LEASE, RELEASE, on_release},
	{ON_LEASE, IO_DRAINED, on_drained},
	{RESETTING, IO_BYTES, on_bytes_resetting},
	{RESETTING, TIMER, on_reset_timeout},
	{DRAINING, IO_BYTES, on_bytes_draining},
	{STATE_ANY, DOWN, on_canceller_down},
	/* late words of a session whose lease has ended */
	{STATE_ANY, FLOW, backend_ignore},
	{STATE_ANY, CANCEL, backend_ignore},
	{STATE_ANY, RELEASE, backend_ignore},
	{STATE_ANY, REQUEST, bounce},
	{STATE_ANY, IO_DRAINED, backend_ignore},
};

const struct behaviour backend_behaviour = {.name = "tablet.backend",
	.state_size = sizeof(struct backend),
	.rules = backend_rules,
	.n_rules = ARRAY_LEN(backend_rules),
	.states = backend_state_names,
	.n_states = ARRAY_LEN(backend_state_names),
	.init = backend_init,
	.exit = backend_exit,
	.show = backend_show};
