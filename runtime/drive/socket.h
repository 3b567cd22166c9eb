/*
 * Sockets: one object for TCP and Unix, accepted and connected, plain and TLS; a raw descriptor under a uv_poll_t.
 * socket.c moves bytes and closes, dial.c connects, listen.c accepts, tls.c wraps.
 *
 *	DIALING --connected--> OPEN --io_close, owner ended--> CLOSING --written out, or 5 s--> gone
 *	   \--failed: gone       \--io_abort, end of stream, error: gone
 *
 * An id is dead from CLOSING on; memory goes when libuv has let go of the handle.
 *
 * Writes are queued and sent at the end of the turn, in one writev: one write a turn is one system call, and so is a
 * burst. FLUSH_AT bytes are sent at once. What the kernel refuses stays queued (`blocked`) until it takes more.
 *
 * Reads: with credit, a readable socket is read. Without, nothing is stopped until bytes do arrive; then the poll
 * changes from READABLE to DISCONNECT, and to nothing when that fires too. Hence no system call a chunk.
 */
#ifndef RUNTIME_DRIVE_SOCKET_H
#define RUNTIME_DRIVE_SOCKET_H

#include <sys/socket.h>

#include "runtime/drive/internal.h"

enum { SOCKET_CLOSE_MS = 5000, FLUSH_AT = 64 << 10, ADDRESSES_MAX = 4, PEER_TEXT_MAX = 64 };

enum socket_phase { SOCKET_DIALING, SOCKET_OPEN, SOCKET_CLOSING, SOCKET_GONE };
enum read_mode { READ_OFF, READ_ON, READ_HANGUP };

struct address {
	struct sockaddr_storage storage;
	socklen_t len;
};

struct dial; /* dial.c: what a connecting socket needs and an open one doesn't */
struct tls; /* tls.c */

struct sock {
	struct object object;
	struct loop *loop;
	struct list in_loop, in_dirty;
	uv_poll_t *poll; /* NULL: not polled yet. Own memory, for libuv lets go of it late */
	int fd;
	uint8_t phase, read_mode, watching;
	bool blocked; /* dialing, or the kernel refused bytes: IO_DRAINED is due */
	bool write_dead; /* the peer takes no more; what it sent is still read */
	bool shut; /* SHUT_WR done */
	uint32_t credit;
	uint32_t queued; /* bytes in the queue */
	uint32_t first, n, cap; /* ring of slices: first, count, size (a power of two) */
	struct slice *queue;
	struct deadline deadline; /* of dialing, the TLS handshake, closing */
	struct dial *dial;
	struct tls *tls;
};

/* ---- socket.c ---------------------------------------------------------------------------------------------- */

/* Gives an OPEN or DIALING one with no fd; takes fd (may be -1). */
struct sock *sock_new(struct loop *l, int fd, enum socket_phase phase);
/* Begins polling the fd. E_IO when libuv refuses. */
enum status sock_poll_init(struct sock *s) MUST_CHECK;
void sock_poll_close(struct sock *s); /* closes fd and poll; another may follow */
void sock_watch(struct sock *s); /* makes the poll agree with the state */
enum status sock_queue(struct sock *s, struct slice *bytes); /* raw bytes; takes; E_FULL */
void sock_flush(struct sock *s);
/* Tells the owner IO_CLOSED and is gone. */
void sock_closed(struct sock *s, enum status st, const char *text);
/* Is gone, at once, without a word. */
void sock_destroy(struct sock *s);
void drive_dirty_flush(struct loop *l);
void drive_sockets_abort(struct loop *l);

enum status drive_give(struct driver *d, struct actor *a, uint64_t io, struct pid to);
void drive_credit(struct driver *d, struct actor *a, uint64_t io, uint32_t n);
enum status drive_write(struct driver *d, struct actor *a, uint64_t io, struct slice *bytes);
uint32_t drive_queued(struct driver *d, struct actor *a, uint64_t io);
void drive_close(struct driver *d, struct actor *a, uint64_t io, bool abort);

/* ---- dial.c ------------------------------------------------------------------------------------------------- */

enum status drive_connect(
	struct driver *d, struct actor *a, const char *address, uint32_t timeout_ms, uint64_t *io);
void dial_on_writable(struct sock *s);
void dial_free(struct sock *s);

/* ---- listen.c ----------------------------------------------------------------------------------------------- */

enum status drive_listen(
	struct driver *d, struct actor *a, const struct io_listen *spec, uint64_t *io, struct error *err);
bool drive_listener_close(struct loop *l, uint64_t io, const struct actor *a); /* false: not a listener */
void drive_listeners_abort(struct loop *l);

/* ---- address.c ----------------------------------------------------------------------------------------------- */

/* Fills from literal addresses and paths; E_AGAIN: `host` and `port` need a lookup; E_INVALID. */
enum status address_parse(
	const char *text, struct address *out, char host[IO_ADDRESS_MAX], char port[8]) MUST_CHECK;
/* Looks up; blocks. Gives how many were found; *text says why none. */
uint32_t address_lookup(
	const char *host, const char *port, struct address out[ADDRESSES_MAX], const char **text);
void address_format(const struct address *a, char text[PEER_TEXT_MAX]);
/* The error number as text in Postgres's style: "address already in use". */
const char *errno_text(int number, char text[128]);

/* ---- tls.c --------------------------------------------------------------------------------------------------- */

enum status drive_tls(
	struct driver *d, struct actor *a, uint64_t io, const struct io_tls *spec, struct error *err);
/* Ciphertext came. */
void tls_input(struct sock *s, const uint8_t *bytes, uint32_t n);
/* Bytes that came right behind the handshake wait for the first credit. */
bool tls_holds(const struct sock *s);
void tls_credited(struct sock *s);
enum status tls_write(struct sock *s, struct slice *bytes); /* takes */
bool tls_handshaking(const struct sock *s);
void tls_handshake_failed(struct sock *s, enum status st, const char *text);
void tls_notify_close(struct sock *s);
void tls_free(struct sock *s);
void drive_tls_contexts_release(struct loop *l);

/* Makes an IO_BYTES of it. */
void sock_deliver(struct sock *s, struct slice bytes);

#endif
