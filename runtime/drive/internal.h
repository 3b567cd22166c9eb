/*
 * What the files of runtime/drive share: the loop of a worker, ids, deadlines. Worker-local unless it says otherwise.
 *
 *	struct drive -- n --> struct loop (a thread: driver, worker, uv loop) -- ids --> struct object (socket, process, ...)
 */
#ifndef RUNTIME_DRIVE_INTERNAL_H
#define RUNTIME_DRIVE_INTERNAL_H

#include <pthread.h>
#include <signal.h>
#include <uv.h>

#include "runtime/base/list.h"
#include "runtime/drive/drive.h"
#include "runtime/drive/inbox.h"
#include "runtime/drive/parcel.h"
#include "runtime/drive/work.h"

enum {
	CHUNK_BYTES = 256 << 10, /* of a read chunk */
	CHUNK_ROOM_MIN = 16 << 10, /* a read has at least this much room */
	READ_MAX = 64 << 10, /* and reads at most this much: fairness */
	CHUNKS_KEPT = 32,
	DEADLINE_TICK_MS = 25,
	DRIVE_OBJECTS_MAX = 1 << 22,
	OUTBOX_BYTES_MAX = 256 << 20, /* a worker's bytes under way to others, then E_FULL */
	PARCELS_KEPT = 256,
	FOREIGN_WORKER = 255, /* in the pids of askers that are no actors: foreign.c */
};

/* ---- ids --------------------------------------------------------------------------------------------------- */

enum object_kind { OBJECT_SOCKET = 1, OBJECT_LISTENER, OBJECT_PROCESS, OBJECT_FD };

/* First member of everything an actor can own here. */
struct object {
	struct handle handle;
	uint64_t id; /* generation << 32 | slot; 0: no id (any more) */
	uint8_t kind;
};

struct object_slot {
	struct object *object;
	uint32_t generation, next_free;
};

struct objects {
	struct object_slot *slots;
	uint32_t n, free; /* free: index + 1, 0 none */
};

struct loop;

/* Gives it an id and hangs it on the owner. E_LIMIT, E_NOPROC (then it has neither). */
enum status drive_object_add(
	struct loop *l, struct object *o, enum object_kind kind, struct pid owner) MUST_CHECK;
/* By id, if it is the actor's; NULL otherwise. */
struct object *drive_object_find(
	const struct loop *l, uint64_t id, enum object_kind kind, const struct actor *a);
/* Takes id and owner away; harmless twice. Memory stays the caller's. */
void drive_object_remove(struct loop *l, struct object *o);

/* ---- deadlines: few at a time, looked at every DEADLINE_TICK_MS ----------------------------------------------- */

struct deadline {
	struct list link;
	uint64_t at_us;
	void (*expired)(struct deadline *t); /* already unlinked */
};

void drive_deadline_set(
	struct loop *l, struct deadline *t, uint64_t in_ms, void (*expired)(struct deadline *t));
static inline void drive_deadline_clear(struct deadline *t)
{
	list_remove(&t->link);
}

/* ---- the loop of a worker ------------------------------------------------------------------------------------ */

struct outbox {
	struct parcel *newest, *oldest; /* chain, newest first; the newest is being filled */
};

struct tls_context;

struct loop {
	struct driver driver; /* first: the core hands us a struct driver */
	struct drive *drive;
	struct worker *worker;
	uint8_t index;
	bool stopping;
	atomic_bool started; /* `thread` is valid */
	pthread_t thread;
	const struct worker *watched; /* the watchdog's look; under the drive's lock */
	void *signal_stack;

	uv_loop_t uv;
	uv_poll_t wake;
	uv_timer_t timer, ticker; /* the core's next timer; deadlines */
	uint64_t timer_due_us;
	struct list deadlines;

	struct objects objects;
	struct list sockets, listeners, processes, fds; /* all that hold a uv handle, with an id or closing */
	struct list dirty; /* sockets with something to send at the end of the turn */

	struct buf_pool chunk_pool;
	struct buf *chunk, *free_chunks[CHUNKS_KEPT];
	uint32_t chunk_used, n_free_chunks;
	uint8_t *cipher; /* READ_MAX bytes read from a TLS socket, before decryption; NULL until needed */
	struct tls_context *tls_contexts;
	uint32_t n_tls_contexts;

	struct outbox *out; /* [n_workers] */
	struct parcel *spare;
	uint32_t n_spare;
	uint64_t out_bytes; /* under way, not yet given back */

	uint64_t work_id;
	uint64_t entropy[32];
	uint32_t n_entropy;

	/* Shared. */
	struct inbox inbox, returns; /* parcels for us; our own ones, emptied */
	struct sleeper sleeper;
};

struct drive {
	struct drive_spec spec;
	struct loop **loops;
	uint8_t n_loops;
	struct work_pool *helpers, *resolvers;
	struct watchdog *watchdog;
	int signal_fd, ended_fd; /* ended_fd: an eventfd written when the root has ended */
	sigset_t old_mask;
	struct sigaction old_pipe;
	bool started;
	struct pid root; /* set at boot */
	atomic_bool accepting; /* drive_post is allowed */
	atomic_uint posting; /* threads inside drive_post */
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	bool booted, root_ended;
	enum status boot_status, root_status;
	struct list calls; /* of drive_call, waiting */
	uint64_t call_seq;
};

static inline struct loop *loop_of(struct driver *d)
{
	return (struct loop *)(void *)d;
}

uint64_t drive_now_us(void);

/* loop.c */
struct loop *drive_loop_new(struct drive *d, uint8_t index);
void *drive_loop_thread(void *loop);
void drive_loop_stop(struct loop *l); /* from another thread; it ends soon */
void drive_loop_free(struct loop *l); /* after its thread has ended; undelivered parcels go */

/* cross.c */
void drive_forward(struct driver *d, struct msg *m);
void drive_outboxes_flush(struct loop *l);
void drive_inbox_drain(struct loop *l);
/* Takes m's contents to another thread's worker; for what isn't a worker. `m` is in malloc memory, borrowed. */
void drive_post_message(struct drive *d, uint8_t worker, const struct msg *m);

/* chunk.c: where bytes are read into */
struct buf *drive_chunk(struct loop *l, uint32_t room, uint8_t **at, uint32_t *size);
struct slice drive_chunk_take(struct loop *l, uint32_t n);
void drive_chunks_release(struct loop *l);

/* foreign.c */
void drive_foreign_reply(struct loop *l, struct msg *m); /* an answer to FOREIGN_WORKER; takes m */
void drive_foreign_stop(struct drive *d);
enum status drive_watcher_start(struct drive *d, struct worker *w) MUST_CHECK;

/* drive.c */
void drive_root_ended(struct drive *d, enum status why);
struct timespec drive_after_ms(uint64_t ms); /* CLOCK_MONOTONIC, as drive_cond_init's */
void drive_cond_init(pthread_cond_t *c);

/* crash.c, watchdog.c */
void drive_crash_install(struct drive *d);
void drive_crash_remove(void);
void *drive_crash_stack_install(void); /* an alternate signal stack for this thread */
void drive_crash_stack_remove(void *stack);
struct watchdog *drive_watchdog_start(struct drive *d);
void drive_watchdog_stop(struct watchdog *g);

#endif
