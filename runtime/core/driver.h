/*
 * The seam: all that the core needs of the outside world. runtime/drive implements it with libuv and threads,
 * runtime/sim with a seed and virtual time. One driver a worker; calls are on that worker's thread.
 *
 * A driver reports through worker_deliver (worker.h): it makes a message with worker_msg_new, fills it, and
 * delivers it to the pid that owns the thing. What an actor owns hangs on it as a `struct handle`; when the actor
 * ends, the core calls handle->drop, after which no message for it may be delivered.
 */
#ifndef RUNTIME_CORE_DRIVER_H
#define RUNTIME_CORE_DRIVER_H

#include "runtime/base/list.h"
#include "runtime/core/io.h"

struct worker;

/* What an actor owns in the outside world. Embedded in the driver's own object. */
struct handle {
	struct hnode link; /* in the owner's list */
	struct pid owner;
	const char *kind; /* "socket", "process": for listings */
	void (*drop)(struct handle *h); /* the owner ended: close, tell nobody. h is already unlinked */
};

struct driver;

struct driver_ops {
	uint64_t (*now_us)(struct driver *d); /* monotonic */
	uint64_t (*wall_us)(struct driver *d);
	uint64_t (*ticks)(struct driver *d); /* cheap clock for accounting, see ticks_per_us */
	uint64_t (*random)(struct driver *d);
	/* To another worker of this node, or another node; takes m. What can't be sent goes to worker_undeliverable. */
	void (*forward)(struct driver *d, struct msg *m);

	enum status (*listen)(struct driver *d, struct actor *a, const struct io_listen *spec, uint64_t *io,
		struct error *err);
	enum status (*connect)(
		struct driver *d, struct actor *a, const char *address, uint32_t timeout_ms, uint64_t *io);
	enum status (*give)(struct driver *d, struct actor *a, uint64_t io, struct pid to);
	void (*credit)(struct driver *d, struct actor *a, uint64_t io, uint32_t n);
	enum status (*write)(struct driver *d, struct actor *a, uint64_t io, struct slice *bytes);
	uint32_t (*queued)(struct driver *d, struct actor *a, uint64_t io);
	void (*close)(struct driver *d, struct actor *a, uint64_t io, bool abort);
	enum status (*tls)(
		struct driver *d, struct actor *a, uint64_t io, const struct io_tls *spec, struct error *err);

	enum status (*proc_start)(struct driver *d, struct actor *a, const struct proc_start *spec,
		uint64_t *proc, struct error *err);
	enum status (*proc_adopt)(struct driver *d, struct actor *a, int32_t os_pid, uint64_t *proc);
	enum status (*proc_signal)(struct driver *d, struct actor *a, uint64_t proc, int signal);
	int32_t (*proc_os_pid)(struct driver *d, struct actor *a, uint64_t proc);

	enum status (*fd_watch)(struct driver *d, struct actor *a, int fd, uint8_t events, uint64_t *id);
	void (*fd_arm)(struct driver *d, struct actor *a, uint64_t id, uint8_t events);
	void (*fd_unwatch)(struct driver *d, struct actor *a, uint64_t id);

	uint64_t (*work)(struct driver *d, struct actor *a, const struct work *what);
};

struct driver {
	const struct driver_ops *ops;
	struct worker *worker;
	uint64_t ticks_per_us;
};

/* Hangs a handle on an actor of this worker, and takes it off. */
void actor_handle_add(struct actor *a, struct handle *h);
void handle_remove(struct handle *h);
/* Moves a handle to another actor of the same worker; E_NOPROC when there is none. */
enum status handle_give(struct worker *w, struct handle *h, struct pid to);

#endif
