/*
 * Connecting: look the name up on a helper thread if it is one, then try its addresses in turn until one answers or
 * the time is over. A Unix socket whose backlog is full (EAGAIN) is tried again every DEADLINE_TICK_MS.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/bytes.h"
#include "runtime/drive/socket.h"

struct dial {
	char name[IO_ADDRESS_MAX]; /* as it was given, for error texts */
	struct address addresses[ADDRESSES_MAX];
	uint32_t n, next;
	uint64_t until_us;
	int last_error;
};

void dial_free(struct sock *s)
{
	free(s->dial);
	s->dial = NULL;
}

static void dial_done(struct sock *s, enum status st, const char *text)
{
	struct msg *m = worker_msg_new(s->loop->worker, IO_CONNECTED);
	struct io_connected *c = msg_body(m);

	m->to = s->object.handle.owner;
	c->io = s->object.id;
	c->status = (uint8_t)st;
	str_copy(c->text, sizeof(c->text), text);
	worker_deliver(s->loop->worker, m);
	drive_deadline_clear(&s->deadline);
	if (st) {
		sock_destroy(s);
		return;
	}
	dial_free(s);
	s->phase = SOCKET_OPEN;
	s->read_mode = s->credit ? READ_ON : READ_OFF;
	if (s->n) {
		sock_flush(s); /* what was written meanwhile; tells IO_DRAINED */
		return;
	}
	s->blocked = false;
	sock_watch(s);
}

static void dial_failed(struct sock *s)
{
	char text[160], why[128];

	snprintf(text, sizeof(text), "could not connect to %.60s: %s", s->dial->name,
		errno_text(s->dial->last_error, why));
	dial_done(s, E_IO, text);
}

static void dial_expired(struct deadline *t)
{
	struct sock *s = CONTAINER_OF(t, struct sock, deadline);
	char text[160];

	snprintf(text, sizeof(text), "could not connect to %.60s: timed out", s->dial->name);
	dial_done(s, E_TIMEOUT, text);
}

static void dial_next(struct sock *s);

static void dial_again(struct deadline *t)
{
	struct sock *s = CONTAINER_OF(t, struct sock, deadline);
	uint64_t now = drive_now_us();

	if (now >= s->dial->until_us) {
		dial_expired(t);
		return;
	}
	drive_deadline_set(s->loop, t, (s->dial->until_us - now) / 1000, dial_expired);
	dial_next(s);
}

static enum status dial_try(struct sock *s, const struct address *a)
{
	int on = 1;

	s->fd = socket(a->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return E_IO;
	if (a->storage.ss_family != AF_UNIX) {
		setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	if (connect(s->fd, (const struct sockaddr *)&a->storage, a->len) && errno != EINPROGRESS)
		return E_IO;
	return OK;
}

/* Begins with the next address; on failure goes on until none is left. */
static void dial_next(struct sock *s)
{
	struct dial *dial = s->dial;

	while (dial->next < dial->n) {
		const struct address *a = &dial->addresses[dial->next++];

		if (dial_try(s, a) == OK) {
			if (sock_poll_init(s) == OK) {
				sock_watch(s); /* writable: connected, or failed */
				return;
			}
			errno = EBUSY;
		}
		dial->last_error = errno;
		if (s->fd >= 0)
			close(s->fd);
		s->fd = -1;
		if (dial->last_error == EAGAIN && a->storage.ss_family == AF_UNIX) {
			dial->next--;
			drive_deadline_set(s->loop, &s->deadline, 1, dial_again);
			return;
		}
	}
	dial_failed(s);
}

void dial_on_writable(struct sock *s)
{
	socklen_t len = sizeof(int);
	int number = 0;

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &number, &len))
		number = errno;
	if (!number) {
		dial_done(s, OK, "");
		return;
	}
	s->dial->last_error = number;
	sock_poll_close(s);
	dial_next(s);
}

/* ---- looking up ---------------------------------------------------------------------------------------------- */

struct lookup {
	struct job job;
	struct drive *drive;
	struct pid owner;
	uint64_t io;
	char host[IO_ADDRESS_MAX], port[8];
	struct address found[ADDRESSES_MAX];
	uint32_t n;
	const char *text; /* static */
};

/* Back on the worker. The socket may be gone meanwhile, or its id another's. */
static void lookup_done(struct worker *w, void *arg)
{
	struct loop *l = loop_of(worker_driver(w));
	struct lookup *k = arg;
	uint32_t slot = (uint32_t)k->io;
	struct object *o = slot < l->objects.n ? l->objects.slots[slot].object : NULL;
	char text[160];

	if (o && o->id == k->io) {
		struct sock *s = CONTAINER_OF(o, struct sock, object);

		s->dial->n = k->n;
		for (uint32_t i = 0; i < k->n; i++)
			s->dial->addresses[i] = k->found[i];
		if (k->n) {
			dial_next(s);
		} else {
			snprintf(text, sizeof(text), "could not resolve \"%.60s\": %.60s", k->host, k->text);
			dial_done(s, E_NOT_FOUND, text);
		}
	}
	free(k);
}

static void lookup_run(struct job *j)
{
	struct lookup *k = CONTAINER_OF(j, struct lookup, job);

	k->n = address_lookup(k->host, k->port, k->found, &k->text);
	if (!drive_post(k->drive, pid_worker(k->owner), lookup_done, k))
		free(k);
}

enum status drive_connect(
	struct driver *d, struct actor *a, const char *address, uint32_t timeout_ms, uint64_t *io)
{
	struct loop *l = loop_of(d);
	struct lookup *k = NULL;
	struct address literal;
	char host[IO_ADDRESS_MAX], port[8];
	enum status parsed = address_parse(address, &literal, host, port), st;
	struct sock *s;

	if (parsed == E_INVALID || !timeout_ms)
		return E_INVALID;
	s = sock_new(l, -1, SOCKET_DIALING);
	st = drive_object_add(l, &s->object, OBJECT_SOCKET, actor_pid(a));
	if (st)
		goto fail;
	s->dial = calloc(1, sizeof(*s->dial));
	check(s->dial != NULL);
	str_copy(s->dial->name, sizeof(s->dial->name), address);
	s->dial->until_us = drive_now_us() + (uint64_t)timeout_ms * 1000;
	drive_deadline_set(l, &s->deadline, timeout_ms, dial_expired);
	*io = s->object.id;
	if (parsed == OK) {
		s->dial->addresses[0] = literal;
		s->dial->n = 1;
		dial_next(s);
		return OK;
	}
	k = calloc(1, sizeof(*k));
	check(k != NULL);
	*k = (struct lookup){.job = {.run = lookup_run}, .drive = l->drive, .owner = actor_pid(a), .io = *io};
	str_copy(k->host, sizeof(k->host), host);
	str_copy(k->port, sizeof(k->port), port);
	if (work_pool_submit(l->drive->resolvers, &k->job))
		return OK; /* `k` is the job's now */
	st = E_FULL;
fail:
	free(k);
	sock_destroy(s);
	return st;
}
