/*
 * Serving: client bytes to the pool or the leased backend, rows back to the client.
 *
 *	IDLE --EXECUTE--> WAITING --LEASED--> RUN --ROWS(LEASE_END)--> IDLE
 *
 * Bytes go on in the slices they came in. What a chunk means is said by frames.h; here it is sent, and credit is given
 * for the next chunk only when this one could be used. On the steady path (a chunk of whole messages, a free backend)
 * nothing is copied and nothing allocated.
 *
 * The unnamed statement outlives its batch, its backend doesn't stay. So the last Parse of it is kept, and a batch that
 * uses it on another backend gets that Parse put in front, whose answer is taken out again (answers.h). Where there is
 * none, a Close is put in front instead, lest the batch finds another session's.
 */
#include "actors/gate/session.h"

#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "runtime/base/log.h"

enum { CLOSE_MAX = 64 };

/* ---- input and credit ---------------------------------------------------------------------------------------- */

void session_input_add(struct session *s, struct slice *bytes)
{
	struct slice joined = {0};

	if (s->input.len == 0) {
		s->input = slice_take(bytes);
		return;
	}
	joined.len = s->input.len + bytes->len;
	joined.buf = buf_new(joined.len);
	memcpy(joined.buf->data, slice_data(&s->input), s->input.len);
	memcpy(joined.buf->data + s->input.len, slice_data(bytes), bytes->len);
	slice_release(&s->input);
	slice_release(bytes);
	s->input = joined;
}

void session_input_use(struct session *s, uint32_t n)
{
	check(n <= s->input.len);
	s->input.off += n;
	s->input.len -= n;
	if (s->input.len == 0)
		slice_release(&s->input);
}

void session_credit(struct actor *self)
{
	struct session *s = actor_state(self);
	uint8_t state = actor_current(self);

	if (s->credited || !s->io || s->leaving)
		return;
	if (state == RUN ? s->backend_full || s->holding : state != IDLE && state != STARTUP && state != AUTH)
		return;
	s->credited = true;
	io_credit(self, s->io, 1);
}

/* ---- towards Postgres ---------------------------------------------------------------------------------------- */

static void add_pins(struct actor *self, uint32_t pins)
{
	struct session *s = actor_state(self);
	uint32_t fresh = pins & ~s->pins;

	if (!fresh)
		return;
	for (unsigned i = 0; i < FRAMES_PINS; i++)
		if (fresh & 1u << i)
			actor_count(self, gate_metrics.pins[i], 1);
	s->pins |= fresh;
}

static void keep_parse(struct session *s, const uint8_t *p, uint32_t n)
{
	struct slice *u = &s->unnamed;

	s->has_unnamed = true;
	if (u->len == n && memcmp(slice_data(u), p, n) == 0)
		return;
	if (u->buf && u->buf->refs == 1 && u->buf->cap >= n) {
		memcpy(u->buf->data, p, n);
		u->off = 0;
		u->len = n;
		return;
	}
	slice_release(u);
	*u = slice_copy(p, n);
}

/* The batch with the unnamed statement, or its removal, put in front. Gives the type of answer to take out. */
static uint8_t put_in_front(struct session *s, struct slice *bytes)
{
	struct writer w;
	struct slice joined;

	writer_init(&w, BYTES_MAX);
	if (s->has_unnamed)
		writer_put(&w, slice_data(&s->unnamed), s->unnamed.len);
	else
		wire_put_close(&w, 'S', "");
	writer_put(&w, slice_data(bytes), bytes->len);
	joined = writer_take(&w);
	check(joined.len > bytes->len); /* FRAMES_SCAN_MAX + FRAMES_UNNAMED_MAX < BYTES_MAX */
	slice_release(bytes);
	*bytes = joined;
	return s->has_unnamed ? BE_PARSE_COMPLETE : BE_CLOSE_COMPLETE;
}

/* Nothing is outstanding, and now something will be. */
static void begin_answers(struct actor *self, const struct frames_cut *cut, uint8_t swallow)
{
	struct session *s = actor_state(self);
	bool copy = (cut->flags & EXECUTE_COPY) && !s->pins;

	s->started_us = actor_now_us(self);
	s->answers = (struct answers){0};
	if (!swallow && !copy && (s->pins || (!cut->parses && !s->frames.in_batch)))
		return;
	answers_begin(&s->answers, swallow);
	s->answers.copy = copy;
	s->answers.parses = cut->parses + (swallow == BE_PARSE_COMPLETE);
}

static bool is_risky(const struct session *s, const struct frames_cut *cut)
{
	return (cut->flags & EXECUTE_COMMIT) || (cut->writes && (s->tx == 'I' || cut->rolls_back));
}

enum status session_execute(struct actor *self)
{
	struct session *s = actor_state(self);
	struct msg *m;
	struct execute *x = execute_new(self, &m);

	x->group = s->group;
	x->client_pid = session_cancel_pid(self);
	x->prefer = s->backend;
	x->expect = s->outstanding;
	x->flags = s->flags;
	x->bytes = slice_sub(&s->pending, 0, s->pending.len);
	s->ask = actor_ask(self, s->pool, &m,
		s->config->queue_timeout_ms ? s->config->queue_timeout_ms : GATE_QUEUE_TIMEOUT_MS);
	actor_become(self, WAITING);
	return OK;
}

static enum status send_request(struct actor *self, struct slice *bytes, uint32_t units, uint8_t flags)
{
	struct session *s = actor_state(self);
	struct msg *m;
	struct request *r = request_new(self, &m);

	r->lease = s->lease;
	r->expect = units;
	r->flags = flags;
	r->bytes = slice_take(bytes);
	actor_send(self, s->backend, &m);
	return OK;
}

static enum status dispatch(struct actor *self, const struct frames_cut *cut)
{
	struct session *s = actor_state(self);
	struct slice bytes = slice_sub(&s->input, cut->skip, cut->len);
	bool idle = actor_current(self) == IDLE;
	uint8_t swallow = 0;

	if (idle && (cut->needs_unnamed || (!s->frames.here && (s->pins || s->frames.in_batch))))
		swallow = put_in_front(s, &bytes);
	if (cut->parse_len && !s->pins)
		keep_parse(s, slice_data(&s->input) + cut->parse_off, cut->parse_len);
	else if (cut->unnamed_dropped)
		s->has_unnamed = false;
	session_input_use(s, cut->skip + cut->len);
	if (s->outstanding == 0)
		begin_answers(self, cut, swallow);
	else
		s->answers.parses += s->answers.on ? cut->parses : 0;
	s->risk |= is_risky(s, cut);
	s->outstanding += cut->units;
	s->flags = (uint8_t)(cut->flags | (s->pins ? EXECUTE_PIN : 0));
	actor_count(self, gate_metrics.queries, cut->units);
	if (!idle)
		return send_request(self, &bytes, cut->units, s->flags);
	s->frames.here = true;
	s->pending = bytes;
	return session_execute(self);
}

static enum status terminate(struct actor *self)
{
	struct session *s = actor_state(self);

	if (session_owed(s) == 0)
		return E_NORMAL;
	s->leaving = true;
	slice_release(&s->input);
	return OK;
}

/* It would wait for the COPY to end, and Postgres waits for the client to end it. */
static enum status query_in_copy(struct actor *self, uint8_t type)
{
	struct session *s = actor_state(self);

	s->answering = false; /* Postgres has said CopyInResponse, and no more */
	return session_violation(self, "unexpected message type 0x%02X during COPY from stdin", type);
}

/* What stopped the scan, with nothing in front of it that could be sent. */
static enum status on_stop(struct actor *self, const struct frames_cut *cut)
{
	struct session *s = actor_state(self);

	switch (cut->end) {
	case FRAMES_HOLD:
		if (s->answers.copy_in && !s->frames.copy_ended)
			return query_in_copy(self, cut->bad_type);
		s->holding = true;
		slice_compact(&s->input);
		return OK;
	case FRAMES_TERMINATE:
		return terminate(self);
	case FRAMES_BAD_TYPE:
		return session_violation(self, "invalid frontend message type %d", cut->bad_type);
	case FRAMES_BAD_LENGTH:
		return session_violation(self, "invalid message length");
	default:
		slice_compact(&s->input);
		return OK;
	}
}

enum status session_feed(struct actor *self)
{
	struct session *s = actor_state(self);
	enum status st = OK;

	s->holding = false;
	while (s->input.len > 0 && !s->leaving) {
		uint32_t n = s->input.len < FRAMES_SCAN_MAX ? s->input.len : FRAMES_SCAN_MAX;
		bool run = actor_current(self) == RUN;
		unsigned how = (run ? FRAMES_LEASED : 0) |
			       (!run || s->pins || s->outstanding == 0 ? FRAMES_MAY_BEGIN : 0);
		struct frames_cut cut;

		if (!run && actor_current(self) != IDLE)
			break;
		frames_scan(&s->frames, how, slice_data(&s->input), n, &cut);
		add_pins(self, cut.pins);
		if (cut.len > 0) {
			st = dispatch(self, &cut);
		} else if (cut.skip > 0) {
			session_input_use(s, cut.skip);
		} else {
			st = on_stop(self, &cut);
			break;
		}
		if (st != OK)
			break;
	}
	if (st == OK)
		session_credit(self);
	return st;
}

/* The bytes that complete the message of which the input is the beginning; 0 when that can't be said. */
static uint32_t missing(const struct session *s, uint32_t n)
{
	struct wire_frame frame;

	if (s->frames.remain || wire_frame_peek(slice_data(&s->input), s->input.len, UINT32_MAX, &frame) ||
		frame.len <= s->input.len || frame.len - s->input.len >= n)
		return 0;
	return frame.len - s->input.len;
}

/* A message cut by the end of a chunk is put together by itself, so that the rest of the chunk isn't copied. */
enum status session_on_bytes(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct slice *in = &io_bytes_of(m)->bytes, part;
	uint32_t n = missing(s, in->len);

	s->credited = false;
	actor_count(self, gate_metrics.bytes_in, in->len);
	if (s->leaving)
		return OK;
	if (n) {
		enum status st;

		part = slice_sub(in, 0, n);
		in->off += n;
		in->len -= n;
		session_input_add(s, &part);
		s->credited = true; /* not before the rest is there too */
		st = session_feed(self);
		s->credited = false;
		if (st != OK || s->leaving)
			return st;
	}
	session_input_add(s, in);
	return session_feed(self);
}

enum status session_on_leased(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct leased *l = leased_of(m);
	uint64_t waited_us = actor_now_us(self) - s->started_us;
	struct msg *out;

	s->backend = l->backend;
	s->lease = l->lease;
	s->reopened = false;
	slice_release(&s->pending);
	actor_become(self, RUN);
	if (waited_us > 0) {
		actor_count(self, gate_metrics.waits, 1);
		actor_observe_us(self, gate_metrics.wait_us, waited_us);
	}
	if (s->cancel) {
		s->cancel = false;
		cancel_new(self, &out)->lease = s->lease;
		actor_send(self, s->backend, &out);
	}
	return session_feed(self);
}

/* ---- towards the client -------------------------------------------------------------------------------------- */

/* Writes an answer that is being followed: without what is to be taken out of it. */
static enum status write_followed(struct actor *self, struct slice *bytes)
{
	struct session *s = actor_state(self);
	struct answers *a = &s->answers;
	struct answers_cut cut;
	struct slice part;
	enum status st = OK;

	answers_scan(a, slice_data(bytes), bytes->len, &cut);
	if (!a->swallow && !a->copy && (s->pins || (a->parsed >= a->parses && !s->frames.in_batch)))
		a->on = false;
	if (cut.n_head)
		st = io_write_copy(self, s->io, cut.head, cut.n_head);
	if (st == OK && cut.before > 0) {
		part = slice_sub(bytes, 0, cut.before);
		st = io_write(self, s->io, &part);
	}
	if (st == OK && cut.to > cut.from) {
		part = slice_sub(bytes, cut.from, cut.to - cut.from);
		st = io_write(self, s->io, &part);
	}
	return st;
}

static enum status write_rows(struct actor *self, struct slice *bytes)
{
	struct session *s = actor_state(self);

	if (!s->io || bytes->len == 0)
		return OK;
	actor_count(self, gate_metrics.bytes_out, bytes->len);
	s->answering = true;
	return s->answers.on ? write_followed(self, bytes) : io_write(self, s->io, bytes);
}

/* Everything that was asked has been answered. */
static void on_clean(struct actor *self)
{
	struct session *s = actor_state(self);

	if (s->started_us)
		actor_observe_us(self, gate_metrics.query_us, actor_now_us(self) - s->started_us);
	if (s->answers.parsed < s->answers.parses)
		s->has_unnamed = false;
	s->started_us = 0;
	s->answers = (struct answers){0};
	s->answering = s->risk = false;
}

static void on_lease_end(struct actor *self)
{
	struct session *s = actor_state(self);

	if (s->outstanding > 0) {
		log_error("gate", "a lease ended with %u answers owed", s->outstanding);
		s->outstanding = 0;
		on_clean(self);
	}
	s->lease = 0;
	s->frames.here = false;
	s->client_full = s->backend_full = false;
	actor_become(self, IDLE);
}

static void stop_if_full(struct actor *self)
{
	struct session *s = actor_state(self);
	struct msg *m;
	struct flow *f;

	if (s->client_full || !s->io || io_queued(self, s->io) <= SESSION_FULL_BYTES)
		return;
	s->client_full = true;
	f = flow_new(self, &m);
	f->lease = s->lease;
	f->stop = 1;
	actor_send(self, s->backend, &m);
}

enum status session_on_rows(struct actor *self, struct msg *m)
{
	struct session *s = actor_state(self);
	struct rows *r = rows_of(m);
	bool ended = r->flags & ROWS_LEASE_END;

	if (r->lease != s->lease)
		return OK;
	s->partial = r->flags & ROWS_PARTIAL;
	if (write_rows(self, &r->bytes) != OK)
		return E_CLOSED;
	if (r->ready) {
		s->outstanding -= r->ready < s->outstanding ? r->ready : s->outstanding;
		s->tx = (char)r->tx;
		if (s->outstanding == 0)
			on_clean(self);
		if ((r->flags & ROWS_PARAMETERS) && s->tx == 'I' && !ended)
			add_pins(self, PIN_PARAMETER);
	}
	if (ended)
		on_lease_end(self);
	else
		stop_if_full(self);
	if (s->leaving && session_owed(s) == 0)
		return E_NORMAL;
	return ended || s->holding ? session_feed(self) : OK;
}

/* ---- letting go ---------------------------------------------------------------------------------------------- */

/*
 * What DISCARD ALL doesn't wholly undo: a custom setting stays known (as '' instead of NULL), a seed stays sown, a
 * library stays loaded, and functions may keep what they like in a language's memory. Such a backend is closed.
 */
#define SESSION_DIRTY                                                                                        \
	(PIN_SET | PIN_SET_CONFIG | PIN_SEED | PIN_LOAD | PIN_DO | PIN_CALL | PIN_FUNCTION | PIN_UNKNOWN |   \
		PIN_LARGE | PIN_FUNCTION_CALL | PIN_MIXED | PIN_REPLICATION | PIN_TEXT | PIN_PARAMETER)

/* What runs when its client goes: to its end, if it has one that comes by itself; a killed session's is cancelled. */
static enum release_how release_how(const struct session *s, enum status why)
{
	bool whole = s->outstanding > 0 && session_owed(s) == s->outstanding && !s->frames.remain &&
		     !s->answers.copy_in;

	if (s->outstanding == 0 && s->tx == 'I' && !(s->pins & SESSION_DIRTY))
		return RELEASE_CLEAN;
	if (!whole || (s->pins & PIN_REPLICATION))
		return RELEASE_ABORT;
	return why == E_NORMAL || why == E_CLOSED || why == E_IO ? RELEASE_DRAIN : RELEASE_CANCEL;
}

void session_release(struct actor *self, enum status why)
{
	struct session *s = actor_state(self);
	struct msg *m;
	struct release *r;

	if (actor_current(self) == RUN && s->lease) {
		r = release_new(self, &m);
		r->lease = s->lease;
		r->how = (uint8_t)release_how(s, why);
		actor_send(self, s->backend, &m);
	}
	if (pid_is_none(s->pool))
		return;
	pool_forget_new(self, &m)->session = actor_pid(self);
	actor_send(self, s->pool, &m);
}
