/*
 * Listening: TCP, with SO_REUSEPORT so that each worker accepts by itself, and Unix sockets. Without descriptors left
 * (EMFILE) accepting pauses: the connection stays in the backlog, and polling it meanwhile would only spin.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/drive/socket.h"

enum { ACCEPTS_A_TURN = 64, ACCEPT_PAUSE_MS = 100 };

struct listener {
	struct object object;
	struct loop *loop;
	struct list in_loop;
	uv_poll_t poll;
	int fd;
	struct deadline pause;
	bool starved; /* said so already */
	char path[IO_ADDRESS_MAX]; /* of a Unix socket's file, removed at the end if it is still ours */
	dev_t dev;
	ino_t ino;
};

/* ---- accepting ----------------------------------------------------------------------------------------------- */

static void on_connection(uv_poll_t *p, int status, int events);

static void listener_accepted(struct listener *n, int fd, const struct address *peer)
{
	struct loop *l = n->loop;
	struct sock *s = sock_new(l, fd, SOCKET_OPEN);
	struct io_accepted *acc;
	struct msg *m;

	if (sock_poll_init(s) || drive_object_add(l, &s->object, OBJECT_SOCKET, n->object.handle.owner)) {
		sock_destroy(s);
		return;
	}
	m = worker_msg_new(l->worker, IO_ACCEPTED);
	m->to = n->object.handle.owner;
	acc = msg_body(m);
	acc->listener = n->object.id;
	acc->io = s->object.id;
	address_format(peer, acc->peer);
	worker_deliver(l->worker, m);
}

static void accept_resume(struct deadline *t)
{
	struct listener *n = CONTAINER_OF(t, struct listener, pause);

	uv_poll_start(&n->poll, UV_READABLE, on_connection);
}

static void accept_pause(struct listener *n, int number)
{
	char why[128];

	if (!n->starved)
		log_warn("drive", "could not accept a connection: %s; trying again in %d ms",
			errno_text(number, why), ACCEPT_PAUSE_MS);
	n->starved = true;
	uv_poll_stop(&n->poll);
	drive_deadline_set(n->loop, &n->pause, ACCEPT_PAUSE_MS, accept_resume);
}

static void on_connection(uv_poll_t *p, int status, int events)
{
	struct listener *n = p->data;

	(void)status;
	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		struct address peer = {.len = sizeof(peer.storage)};
		int fd = accept4(
			n->fd, (struct sockaddr *)&peer.storage, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			n->starved = false;
			listener_accepted(n, fd, &peer);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR && errno != ECONNABORTED && errno != EPROTO) {
			accept_pause(n, errno);
			return;
		}
	}
}

/* ---- binding ------------------------------------------------------------------------------------------------- */

static enum status refused(struct error *err, const char *what, const char *address, int number)
{
	char why[128];
	enum status st = number == EADDRINUSE ? E_EXISTS : number == EACCES ? E_DENIED : E_IO;

	return error_set(err, st, number == EADDRINUSE ? "55006" : "58030", "could not %s %.200s: %s", what,
		address, errno_text(number, why));
}

/* A socket file nobody answers on was left behind by a crash. */
static bool unix_is_stale(const struct address *a)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&a->storage;
	struct stat st;
	bool stale = false;
	int fd;

	if (lstat(un->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	if (connect(fd, (const struct sockaddr *)un, a->len) && errno == ECONNREFUSED)
		stale = true;
	close(fd);
	return stale;
}

static int bind_unix(int fd, const struct address *a, uint32_t mode)
{
	const char *path = ((const struct sockaddr_un *)&a->storage)->sun_path;
	int rc;

	fchmod(fd, mode); /* the file is born with it, less the umask: never more open than asked */
	rc = bind(fd, (const struct sockaddr *)&a->storage, a->len);
	if (rc && errno == EADDRINUSE) {
		if (!unix_is_stale(a)) {
			errno = EADDRINUSE;
			return -1;
		}
		if (unlink(path))
			return -1;
		rc = bind(fd, (const struct sockaddr *)&a->storage, a->len);
	}
	return rc ? rc : chmod(path, mode);
}

static int bind_tcp(int fd, const struct address *a, bool reuse_port)
{
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
		(reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on))) ||
		setsockopt(
			fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) || /* inherited by what is accepted */
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)))
		return -1;
	if (a->storage.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	return bind(fd, (const struct sockaddr *)&a->storage, a->len);
}

static enum status bind_and_listen(
	const struct io_listen *spec, const struct address *a, int *out, struct error *err)
{
	bool unix_socket = a->storage.ss_family == AF_UNIX;
	int fd = socket(a->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	enum status st;

	if (fd < 0)
		return refused(err, "create a socket for", spec->address, errno);
	if (unix_socket ? bind_unix(fd, a, spec->mode ? spec->mode : 0600)
			: bind_tcp(fd, a, spec->reuse_port)) {
		st = refused(err, "bind", spec->address, errno);
	} else if (listen(fd, IO_BACKLOG)) {
		st = refused(err, "listen on", spec->address, errno);
	} else {
		*out = fd;
		return OK;
	}
	close(fd);
	return st;
}

/* ---- the driver's operations --------------------------------------------------------------------------------- */

static void listener_memory_free(uv_handle_t *h)
{
	free(h->data);
}

static void listener_close(struct listener *n)
{
	struct stat st;

	drive_object_remove(n->loop, &n->object);
	drive_deadline_clear(&n->pause);
	list_remove(&n->in_loop);
	if (n->path[0] && !lstat(n->path, &st) && st.st_dev == n->dev && st.st_ino == n->ino)
		unlink(n->path);
	uv_close((uv_handle_t *)&n->poll, listener_memory_free);
	close(n->fd);
}

static void listener_drop(struct handle *h)
{
	listener_close(CONTAINER_OF(h, struct listener, object.handle));
}

/* A literal, or a name: a listener's name is looked up here and now, which is at a node's start. */
static enum status listen_address(const char *text, struct address *out, struct error *err)
{
	char host[IO_ADDRESS_MAX], port[8];
	struct address found[ADDRESSES_MAX];
	const char *why;
	enum status st = address_parse(text, out, host, port);
	uint32_t n;

	if (st == E_INVALID)
		return error_set(err, st, "22023", "invalid address to listen on: \"%.200s\"", text);
	if (st == OK)
		return OK;
	n = address_lookup(host, port, found, &why);
	if (!n)
		return error_set(err, E_NOT_FOUND, "22023", "could not resolve \"%.200s\": %s", host, why);
	*out = found[0];
	for (uint32_t i = 0; i < n; i++)
		if (found[i].storage.ss_family == AF_INET) { /* what people mean by localhost */
			*out = found[i];
			break;
		}
	return OK;
}

enum status drive_listen(
	struct driver *d, struct actor *a, const struct io_listen *spec, uint64_t *io, struct error *err)
{
	struct loop *l = loop_of(d);
	struct address address;
	struct listener *n;
	struct stat file;
	enum status st = listen_address(spec->address, &address, err);
	int fd = -1;

	if (st == OK)
		st = bind_and_listen(spec, &address, &fd, err);
	if (st)
		return st;
	n = calloc(1, sizeof(*n));
	check(n != NULL);
	n->loop = l;
	n->fd = fd;
	n->object.handle.drop = listener_drop;
	list_init(&n->in_loop);
	list_init(&n->pause.link);
	if (address.storage.ss_family == AF_UNIX && !lstat(spec->address, &file)) {
		str_copy(n->path, sizeof(n->path), spec->address);
		n->dev = file.st_dev;
		n->ino = file.st_ino;
	}
	if (uv_poll_init(&l->uv, &n->poll, fd)) {
		close(fd);
		free(n);
		return error_set(err, E_IO, "58030", "could not poll %.200s", spec->address);
	}
	n->poll.data = n;
	list_push_back(&l->listeners, &n->in_loop);
	st = drive_object_add(l, &n->object, OBJECT_LISTENER, actor_pid(a));
	if (st) {
		listener_close(n);
		return error_set(
			err, st, "53000", "could not listen on %.200s: too many descriptors", spec->address);
	}
	*io = n->object.id;
	uv_poll_start(&n->poll, UV_READABLE, on_connection);
	return OK;
}

bool drive_listener_close(struct loop *l, uint64_t io, const struct actor *a)
{
	struct object *o = drive_object_find(l, io, OBJECT_LISTENER, a);

	if (o)
		listener_close(CONTAINER_OF(o, struct listener, object));
	return o != NULL;
}

void drive_listeners_abort(struct loop *l)
{
	list_each(it, &l->listeners) listener_close(LIST_ITEM(it, struct listener, in_loop));
}
