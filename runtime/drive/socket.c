/* Sockets: bytes in and out, and the ways to close. The picture is in socket.h. */
#include "runtime/drive/socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/base/bytes.h"

enum {
	IOV_MAX_HERE = 64,
	FLUSH_ROUNDS = 16, /* writev calls in a row: fairness */
	COMPACT_BELOW = 16 << 10, /* a smaller rest is copied, so that it doesn't pin a read chunk */
	QUEUE_FIRST = 8,
	DISCARD_BYTES = 64 << 10,
};

/* ---- birth and end ------------------------------------------------------------------------------------------- */

static void sock_drop(struct handle *h);
static void sock_close_gracefully(struct sock *s);

struct sock *sock_new(struct loop *l, int fd, enum socket_phase phase)
{
	struct sock *s = calloc(1, sizeof(*s));

	check(s != NULL);
	s->loop = l;
	s->fd = fd;
	s->phase = (uint8_t)phase;
	s->blocked = phase == SOCKET_DIALING;
	s->object.handle.drop = sock_drop;
	list_init(&s->in_dirty);
	list_init(&s->deadline.link);
	list_init(&s->in_loop);
	list_push_back(&l->sockets, &s->in_loop);
	return s;
}

static void poll_free(uv_handle_t *h)
{
	free(h);
}

static void poll_and_sock_free(uv_handle_t *h)
{
	free(h->data);
	free(h);
}

void sock_poll_close(struct sock *s)
{
	uv_close((uv_handle_t *)s->poll, poll_free);
	close(s->fd); /* allowed at once: uv_close has taken it out of the poll set */
	s->poll = NULL;
	s->fd = -1;
	s->watching = 0;
}

void sock_destroy(struct sock *s)
{
	if (s->phase == SOCKET_GONE)
		return;
	s->phase = SOCKET_GONE;
	drive_object_remove(s->loop, &s->object);
	drive_deadline_clear(&s->deadline);
	list_remove(&s->in_dirty);
	list_remove(&s->in_loop);
	for (; s->n; s->n--, s->first++)
		slice_release(&s->queue[s->first & (s->cap - 1)]);
	free(s->queue);
	s->queue = NULL;
	tls_free(s);
	dial_free(s);
	if (s->poll)
		uv_close((uv_handle_t *)s->poll, poll_and_sock_free);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	if (!s->poll)
		free(s);
}

static void sock_drop(struct handle *h)
{
	sock_close_gracefully(CONTAINER_OF(h, struct sock, object.handle));
}

void sock_closed(struct sock *s, enum status st, const char *text)
{
	if (tls_handshaking(s)) {
		tls_handshake_failed(s, st, text);
		return;
	}
	if (s->object.id) {
		struct msg *m = worker_msg_new(s->loop->worker, IO_CLOSED);
		struct io_closed *c = msg_body(m);

		m->to = s->object.handle.owner;
		c->io = s->object.id;
		c->status = (uint8_t)st;
		str_copy(c->text, sizeof(c->text), text);
		worker_deliver(s->loop->worker, m);
	}
	sock_destroy(s);
}

static void sock_failed(struct sock *s, const char *what, int number)
{
	char why[128], text[160];

	snprintf(text, sizeof(text), "%s: %s", what, errno_text(number, why));
	sock_closed(s, E_IO, text);
}

/* ---- polling ------------------------------------------------------------------------------------------------- */

static void on_poll(uv_poll_t *p, int status, int events);

enum status sock_poll_init(struct sock *s)
{
	uv_poll_t *p = malloc(sizeof(*p));

	check(p != NULL);
	if (uv_poll_init(&s->loop->uv, p, s->fd)) {
		free(p);
		return E_IO;
	}
	p->data = s;
	s->poll = p;
	return OK;
}

void sock_watch(struct sock *s)
{
	static const uint8_t reads[] = {[READ_ON] = UV_READABLE, [READ_HANGUP] = UV_DISCONNECT};
	uint8_t want = reads[s->read_mode];

	if (s->blocked)
		want |= UV_WRITABLE;
	if (want == s->watching)
		return;
	s->watching = want;
	if (want)
		check(uv_poll_start(s->poll, want, on_poll) == 0);
	else
		uv_poll_stop(s->poll);
}

static void sock_reading(struct sock *s, enum read_mode mode)
{
	s->read_mode = (uint8_t)mode;
	sock_watch(s);
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

void sock_deliver(struct sock *s, struct slice bytes)
{
	struct worker *w = s->loop->worker;
	struct msg *m = worker_msg_new(w, IO_BYTES);
	struct io_bytes *b = msg_body(m);

	m->to = s->object.handle.owner;
	b->io = s->object.id;
	b->bytes = bytes;
	if (s->credit)
		s->credit--;
	worker_deliver(w, m);
}

/* Readable, but nobody wants it now: is it bytes, which wait, or the end, which is told? */
static void sock_peek(struct sock *s, bool hangup)
{
	uint8_t byte;
	ssize_t n = tls_holds(s) ? 1 : recv(s->fd, &byte, 1, MSG_PEEK);

	if (n == 0)
		sock_closed(s, E_CLOSED, "connection closed by peer");
	else if (n > 0)
		sock_reading(s, hangup ? READ_OFF : READ_HANGUP);
	else if (errno != EAGAIN && errno != EINTR)
		sock_failed(s, "could not receive", errno);
}

static void sock_read(struct sock *s)
{
	struct loop *l = s->loop;
	uint32_t size;
	uint8_t *at;
	ssize_t n;

	if (s->tls) {
		if (!l->cipher) {
			l->cipher = malloc(READ_MAX);
			check(l->cipher != NULL);
		}
		at = l->cipher;
		size = READ_MAX;
	} else {
		drive_chunk(l, CHUNK_ROOM_MIN, &at, &size);
	}
	n = recv(s->fd, at, size < READ_MAX ? size : READ_MAX, 0);
	if (n > 0 && s->tls)
		tls_input(s, at, (uint32_t)n);
	else if (n > 0)
		sock_deliver(s, drive_chunk_take(l, (uint32_t)n));
	else if (n == 0)
		sock_closed(s, E_CLOSED, "connection closed by peer");
	else if (errno != EAGAIN && errno != EINTR)
		sock_failed(s, "could not receive", errno);
}

/* Closing, and waiting for the peer to take note: what it still sends is thrown away. */
static void sock_discard(struct sock *s)
{
	static _Thread_local uint8_t waste[DISCARD_BYTES];
	ssize_t n = recv(s->fd, waste, sizeof(waste), 0);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		sock_destroy(s);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct sock *s = p->data;

	if (status < 0) { /* EPOLLERR: libuv has stopped the poll; reading and writing find out why */
		s->watching = 0;
		events = UV_READABLE | UV_WRITABLE | UV_DISCONNECT;
	}
	if (s->phase == SOCKET_DIALING) {
		dial_on_writable(s);
		return;
	}
	if ((events & UV_WRITABLE) && s->n)
		sock_flush(s);
	if (s->phase == SOCKET_CLOSING && (events & (UV_READABLE | UV_DISCONNECT)))
		sock_discard(s);
	else if (s->phase == SOCKET_OPEN && (events & (UV_READABLE | UV_DISCONNECT))) {
		if (s->credit || tls_handshaking(s))
			sock_read(s);
		else
			sock_peek(s, events & UV_DISCONNECT);
	}
	if (status < 0 && s->phase != SOCKET_GONE && s->read_mode == READ_ON)
		sock_watch(s);
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

static void queue_grow(struct sock *s)
{
	uint32_t cap = s->cap ? s->cap * 2 : QUEUE_FIRST;
	struct slice *q = malloc(cap * sizeof(*q));

	check(q != NULL);
	for (uint32_t i = 0; i < s->n; i++)
		q[i] = s->queue[(s->first + i) & (s->cap - 1)];
	free(s->queue);
	s->queue = q;
	s->cap = cap;
	s->first = 0;
}

static void queue_drop_all(struct sock *s)
{
	for (; s->n; s->n--, s->first++)
		slice_release(&s->queue[s->first & (s->cap - 1)]);
	s->queued = 0;
	list_remove(&s->in_dirty);
}

enum status sock_queue(struct sock *s, struct slice *bytes)
{
	if (bytes->len == 0 || s->write_dead) {
		slice_release(bytes);
		return s->write_dead ? E_CLOSED : OK;
	}
	if ((uint64_t)s->queued + bytes->len > IO_QUEUE_MAX) {
		slice_release(bytes);
		return E_FULL;
	}
	if (s->n == s->cap)
		queue_grow(s);
	s->queued += bytes->len;
	s->queue[(s->first + s->n++) & (s->cap - 1)] = slice_take(bytes);
	if (s->blocked) { /* it will lie for a while */
		struct slice *last = &s->queue[(s->first + s->n - 1) & (s->cap - 1)];

		if (last->len < COMPACT_BELOW)
			slice_compact(last);
	} else if (list_empty(&s->in_dirty)) {
		list_push_back(&s->loop->dirty, &s->in_dirty);
	}
	if (!s->blocked && s->queued >= FLUSH_AT)
		sock_flush(s);
	return OK;
}

static void queue_advance(struct sock *s, uint32_t sent)
{
	s->queued -= sent;
	while (sent) {
		struct slice *head = &s->queue[s->first & (s->cap - 1)];

		if (sent < head->len) {
			head->off += sent;
			head->len -= sent;
			return;
		}
		sent -= head->len;
		slice_release(head);
		s->first++;
		s->n--;
	}
}

static ssize_t queue_send(struct sock *s)
{
	struct iovec iov[IOV_MAX_HERE];
	struct msghdr msg = {.msg_iov = iov};
	uint32_t n = s->n < IOV_MAX_HERE ? s->n : IOV_MAX_HERE;
	const struct slice *one = &s->queue[s->first & (s->cap - 1)];

	if (n == 1)
		return send(s->fd, slice_data(one), one->len, MSG_NOSIGNAL);
	for (uint32_t i = 0; i < n; i++) {
		const struct slice *q = &s->queue[(s->first + i) & (s->cap - 1)];

		iov[i].iov_base = q->buf->data + q->off;
		iov[i].iov_len = q->len;
	}
	msg.msg_iovlen = n;
	return sendmsg(s->fd, &msg, MSG_NOSIGNAL);
}

static void tell_drained(struct sock *s)
{
	struct msg *m;
	struct io_drained *d;

	if (!s->object.id)
		return;
	m = worker_msg_new(s->loop->worker, IO_DRAINED);
	m->to = s->object.handle.owner;
	d = msg_body(m);
	d->io = s->object.id;
	worker_deliver(s->loop->worker, m);
}

static void sock_finish_close(struct sock *s);

/* The peer takes no more. What it sent before may matter (Postgres's last words), so reading goes on to its end. */
static void sock_write_failed(struct sock *s)
{
	queue_drop_all(s);
	s->write_dead = true;
	s->blocked = false;
	if (s->phase == SOCKET_CLOSING) {
		sock_destroy(s);
		return;
	}
	if (s->read_mode == READ_OFF) /* else the poll tells, when it is its turn */
		s->read_mode = s->credit ? READ_ON : READ_HANGUP;
	sock_watch(s);
}

static void sock_blocked(struct sock *s)
{
	for (uint32_t i = 0; !s->blocked && i < s->n; i++) {
		struct slice *q = &s->queue[(s->first + i) & (s->cap - 1)];

		if (q->len < COMPACT_BELOW)
			slice_compact(q);
	}
	s->blocked = true;
	list_remove(&s->in_dirty);
	sock_watch(s);
}

void sock_flush(struct sock *s)
{
	for (int round = 0; s->n && round < FLUSH_ROUNDS; round++) {
		ssize_t n = queue_send(s);

		if (n >= 0) {
			queue_advance(s, (uint32_t)n);
		} else if (errno == EAGAIN) {
			sock_blocked(s);
			return;
		} else if (errno != EINTR) {
			sock_write_failed(s);
			return;
		}
	}
	if (s->n) { /* more next turn */
		if (!s->blocked && list_empty(&s->in_dirty))
			list_push_back(&s->loop->dirty, &s->in_dirty);
		return;
	}
	list_remove(&s->in_dirty);
	if (s->blocked) {
		s->blocked = false;
		sock_watch(s);
		tell_drained(s);
	}
	if (s->cap > QUEUE_FIRST) {
		free(s->queue);
		s->queue = NULL;
		s->cap = 0;
	}
	if (s->phase == SOCKET_CLOSING)
		sock_finish_close(s);
}

void drive_dirty_flush(struct loop *l)
{
	struct list now, *it;

	if (list_empty(&l->dirty))
		return;
	list_init(&now); /* who stays dirty goes to the next turn */
	while ((it = list_pop_front(&l->dirty)))
		list_push_back(&now, it);
	while ((it = list_pop_front(&now)))
		sock_flush(LIST_ITEM(it, struct sock, in_dirty));
}

/* ---- closing ------------------------------------------------------------------------------------------------- */

static void close_expired(struct deadline *t)
{
	sock_destroy(CONTAINER_OF(t, struct sock, deadline));
}

/*
 * All is written. Closing now with unread bytes in the kernel would send a reset, which can destroy our last words in
 * the peer's hands; so then the peer is given until the deadline to close first.
 */
static void sock_finish_close(struct sock *s)
{
	uint8_t byte;

	if (recv(s->fd, &byte, 1, MSG_PEEK) <= 0) {
		sock_destroy(s);
		return;
	}
	if (!s->shut) {
		s->shut = true;
		shutdown(s->fd, SHUT_WR);
		sock_reading(s, READ_ON);
	}
}

static void sock_close_gracefully(struct sock *s)
{
	if (s->phase == SOCKET_DIALING || s->write_dead) {
		sock_destroy(s);
		return;
	}
	if (s->phase != SOCKET_OPEN)
		return;
	tls_notify_close(s);
	drive_object_remove(s->loop, &s->object);
	s->phase = SOCKET_CLOSING;
	s->read_mode = READ_OFF;
	drive_deadline_set(s->loop, &s->deadline, SOCKET_CLOSE_MS, close_expired);
	if (s->blocked)
		sock_watch(s);
	else
		sock_flush(s); /* finishes when all is out */
}

static void sock_reset(struct sock *s)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (s->fd >= 0)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	sock_destroy(s);
}

void drive_sockets_abort(struct loop *l)
{
	list_each(it, &l->sockets) sock_destroy(LIST_ITEM(it, struct sock, in_loop));
}

/* ---- the driver's operations --------------------------------------------------------------------------------- */

static struct sock *sock_find(struct driver *d, struct actor *a, uint64_t io)
{
	struct object *o = drive_object_find(loop_of(d), io, OBJECT_SOCKET, a);

	return o ? CONTAINER_OF(o, struct sock, object) : NULL;
}

enum status drive_give(struct driver *d, struct actor *a, uint64_t io, struct pid to)
{
	struct sock *s = sock_find(d, a, io);
	enum status st;

	if (!s)
		return E_CLOSED;
	st = handle_give(loop_of(d)->worker, &s->object.handle, to);
	if (st == OK)
		s->object.handle.owner = to;
	return st;
}

void drive_credit(struct driver *d, struct actor *a, uint64_t io, uint32_t n)
{
	struct sock *s = sock_find(d, a, io);

	if (!s || !n)
		return;
	s->credit = s->credit > UINT32_MAX - n ? UINT32_MAX : s->credit + n;
	if (s->phase == SOCKET_OPEN && (s->read_mode != READ_ON || !s->watching))
		sock_reading(s, READ_ON);
	if (tls_holds(s))
		tls_credited(s);
}

enum status drive_write(struct driver *d, struct actor *a, uint64_t io, struct slice *bytes)
{
	struct sock *s = sock_find(d, a, io);
	enum status st;

	if (!s) {
		slice_release(bytes);
		return E_CLOSED;
	}
	st = s->tls ? tls_write(s, bytes) : sock_queue(s, bytes);
	if (st == E_FULL)
		sock_closed(s, E_FULL, "too many bytes are waiting to be sent");
	else if (st == E_IO)
		sock_closed(s, E_IO, "could not encrypt");
	return st;
}

uint32_t drive_queued(struct driver *d, struct actor *a, uint64_t io)
{
	struct sock *s = sock_find(d, a, io);

	return s && s->blocked ? s->queued : 0;
}

void drive_close(struct driver *d, struct actor *a, uint64_t io, bool abort)
{
	struct sock *s = sock_find(d, a, io);

	if (!s)
		drive_listener_close(loop_of(d), io, a);
	else if (abort)
		sock_reset(s);
	else
		sock_close_gracefully(s);
}
