/*
 * The outside world as actors see it: sockets, TLS, child processes, foreign descriptors, work on helper threads.
 * Everything that happens comes back as a message of messages.h; everything an actor opened is closed when it ends.
 *
 * Ids are checked: one that is closed, or another actor's, gives E_CLOSED. Calls are on the owner's worker.
 */
#ifndef RUNTIME_CORE_IO_H
#define RUNTIME_CORE_IO_H

#include "runtime/base/buf.h"
#include "runtime/core/actor.h"

enum { IO_ADDRESS_MAX = 160, IO_BACKLOG = 1024, IO_QUEUE_MAX = 64 << 20 };

/* "127.0.0.1:5432", "[::1]:5432", "localhost:5432", or a path "/run/x/.s.PGSQL.5432" for a Unix socket. */
struct io_listen {
	const char *address;
	bool reuse_port; /* every worker listens by itself; the kernel spreads connections */
	uint32_t mode; /* of a Unix socket's file; 0: 0600 */
};

/*
 * Listens; IO_ACCEPTED{listener, io, peer} for each connection, owned by `self`, not reading yet. A failure's
 * reason is in `err` ("could not bind 127.0.0.1:15432: address already in use").
 */
enum status io_listen(
	struct actor *self, const struct io_listen *spec, uint64_t *io, struct error *err) MUST_CHECK;
/* Connects; IO_CONNECTED{io, status} within timeout_ms. Names are resolved on a helper thread. */
enum status io_connect(struct actor *self, const char *address, uint32_t timeout_ms, uint64_t *io) MUST_CHECK;
/* Hands a socket to another actor of this worker; later messages go to it. Nothing may be unread. */
enum status io_give(struct actor *self, uint64_t io, struct pid to) MUST_CHECK;
/*
 * Allows n more IO_BYTES. Reading stops only where a turn ends without credit. After the last byte comes
 * IO_CLOSED{status: E_CLOSED at end of stream, else E_IO}, once, credit or not; then the id is dead.
 */
void io_credit(struct actor *self, uint64_t io, uint32_t n);
/*
 * Writes; takes the slice. Sent at once as far as the kernel takes it, the rest is queued, up to IO_QUEUE_MAX
 * (then E_FULL and the socket is closed). When a queue has been written out, IO_DRAINED{io}.
 */
enum status io_write(struct actor *self, uint64_t io, struct slice *bytes);
enum status io_write_copy(struct actor *self, uint64_t io, const void *bytes, uint32_t len);
uint32_t io_queued(struct actor *self, uint64_t io); /* bytes accepted but not yet given to the kernel */
/* Closes after what is queued has been written (bounded by 5 s). No IO_CLOSED comes. */
void io_close(struct actor *self, uint64_t io);
void io_abort(struct actor *self, uint64_t io); /* at once, by reset */

struct io_tls {
	bool server;
	const char *cert_file, *key_file; /* server: needed; client: own certificate or NULL */
	const char *ca_file; /* verify the peer against it; NULL: don't */
	bool require_peer_cert; /* server side */
	const char *server_name; /* client side: SNI, and checked when verify_name */
	bool verify_name;
	const char
		*alpn; /* e.g. "postgresql"; NULL: none. A server requires it only if the client offers any */
	uint32_t timeout_ms;
};

/*
 * Starts TLS on a socket; IO_TLS_UP{status,...}. Until it comes nothing is delivered; bytes written wait. end_point
 * is the RFC 5929 tls-server-end-point hash of the server's certificate. Unreadable files: error here.
 */
enum status io_tls(struct actor *self, uint64_t io, const struct io_tls *spec, struct error *err) MUST_CHECK;

/* ---- child processes --------------------------------------------------------------------------------------- */

struct proc_start {
	const char *const *argv; /* argv[0] is the path; NULL-terminated */
	const char *const *env; /* NULL: inherited; else whole, NULL-terminated */
	const char *cwd; /* NULL: inherited */
	int64_t uid, gid; /* -1: unchanged. Supplementary groups are dropped when set */
	const char *output_file; /* stdout and stderr appended there; NULL: PROC_OUTPUT messages */
	const char *input; /* given on stdin; NULL: /dev/null */
	bool die_with_node; /* killed when the actor or node ends; else it lives on */
};

/* Starts a child; PROC_EXITED{proc, code, signal} once. */
enum status proc_start(
	struct actor *self, const struct proc_start *spec, uint64_t *proc, struct error *err) MUST_CHECK;
/* Watches a process that isn't our child (pidfd); PROC_EXITED{code -1}. E_NOT_FOUND when there is none. */
enum status proc_adopt(struct actor *self, int32_t os_pid, uint64_t *proc) MUST_CHECK;
enum status proc_signal(struct actor *self, uint64_t proc, int signal);
int32_t proc_os_pid(struct actor *self, uint64_t proc); /* 0 when gone */

/* ---- foreign descriptors (libpq, curl) --------------------------------------------------------------------- */

enum fd_events { FD_READABLE = 1, FD_WRITABLE = 2 };

/* Watches fd (not owned) for events, once: FD_READY{fd id, events}, then arm again. */
enum status fd_watch(struct actor *self, int fd, uint8_t events, uint64_t *id) MUST_CHECK;
void fd_arm(struct actor *self, uint64_t id, uint8_t events);
void fd_unwatch(struct actor *self, uint64_t id); /* call before the library closes the descriptor */

/* ---- work on helper threads -------------------------------------------------------------------------------- */

/*
 * Runs fn(copy of args) on a helper thread: for what takes longer than a handler may (key derivation, file system,
 * LMDB commits). WORK_DONE{work, status, result} comes back, also if the actor wants to end meanwhile (then it is
 * a dead letter). Work of one lane (not 0) runs in order, one at a time. fn touches only its arguments.
 */
typedef enum status work_fn(const void *args, size_t size, struct writer *result);

struct work {
	work_fn *fn;
	const void *args;
	size_t args_size; /* at most 64 KiB; larger things by pointer, owned by the work */
	uint64_t lane;
};

uint64_t work_run(struct actor *self, const struct work *what);

#endif
