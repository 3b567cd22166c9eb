/*
 * Foreign descriptors under a uv_poll_t of our own duplicate: a library that closes its descriptor without telling us
 * then can't make libuv poll a number that means something else, and two may watch one.
 *
 * Watching is one-shot for the owner, but the poll goes on until an event comes that nobody armed: an owner that arms
 * again in the same turn costs no system call.
 */
#include "runtime/drive/fd.h"

#include <fcntl.h>
#include <unistd.h>

struct watched {
	struct object object;
	struct loop *loop;
	struct list in_loop;
	uv_poll_t poll;
	int fd; /* our duplicate */
	uint8_t polled, armed; /* enum fd_events */
};

static void watched_closed(uv_handle_t *h)
{
	free(h->data);
}

static void watched_close(struct watched *w)
{
	drive_object_remove(w->loop, &w->object);
	list_remove(&w->in_loop);
	uv_close((uv_handle_t *)&w->poll, watched_closed);
	close(w->fd);
}

static void watched_drop(struct handle *h)
{
	watched_close(CONTAINER_OF(h, struct watched, object.handle));
}

static void on_event(uv_poll_t *p, int status, int events);

static void watched_poll(struct watched *w, uint8_t events)
{
	if (events == w->polled)
		return;
	w->polled = events;
	if (events)
		uv_poll_start(&w->poll,
			(events & FD_READABLE ? UV_READABLE : 0) | (events & FD_WRITABLE ? UV_WRITABLE : 0),
			on_event);
	else
		uv_poll_stop(&w->poll);
}

static void on_event(uv_poll_t *p, int status, int events)
{
	struct watched *w = p->data;
	uint8_t ready = (uint8_t)((events & UV_READABLE ? FD_READABLE : 0) |
				  (events & UV_WRITABLE ? FD_WRITABLE : 0));
	struct fd_ready *r;
	struct msg *m;

	if (status < 0) { /* libuv has stopped the poll: an error waits for the library to find */
		w->polled = 0;
		ready = w->armed;
	}
	ready &= w->armed;
	if (!ready) {
		watched_poll(w, w->armed);
		return;
	}
	w->armed = 0;
	m = worker_msg_new(w->loop->worker, FD_READY);
	m->to = w->object.handle.owner;
	r = msg_body(m);
	r->fd = w->object.id;
	r->events = ready;
	worker_deliver(w->loop->worker, m);
}

enum status drive_fd_watch(struct driver *d, struct actor *a, int fd, uint8_t events, uint64_t *id)
{
	struct loop *l = loop_of(d);
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct watched *w;
	enum status st;

	if (copy < 0)
		return E_IO;
	w = calloc(1, sizeof(*w));
	check(w != NULL);
	w->loop = l;
	w->fd = copy;
	list_init(&w->in_loop);
	w->object.handle.drop = watched_drop;
	if (uv_poll_init(&l->uv, &w->poll, copy)) {
		close(copy);
		free(w);
		return E_IO;
	}
	w->poll.data = w;
	list_push_back(&l->fds, &w->in_loop);
	st = drive_object_add(l, &w->object, OBJECT_FD, actor_pid(a));
	if (st) {
		watched_close(w);
		return st;
	}
	w->armed = events;
	watched_poll(w, events);
	*id = w->object.id;
	return OK;
}

void drive_fd_arm(struct driver *d, struct actor *a, uint64_t id, uint8_t events)
{
	struct object *o = drive_object_find(loop_of(d), id, OBJECT_FD, a);
	struct watched *w = CONTAINER_OF(o, struct watched, object);

	if (!o)
		return;
	w->armed = events;
	watched_poll(w, events);
}

void drive_fd_unwatch(struct driver *d, struct actor *a, uint64_t id)
{
	struct object *o = drive_object_find(loop_of(d), id, OBJECT_FD, a);

	if (o)
		watched_close(CONTAINER_OF(o, struct watched, object));
}

void drive_fds_abort(struct loop *l)
{
	list_each(it, &l->fds) watched_close(LIST_ITEM(it, struct watched, in_loop));
}
