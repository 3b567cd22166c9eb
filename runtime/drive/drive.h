/*
 * The drive: the real world behind runtime/core/driver.h, and the threads of a node. One worker a thread, each with
 * its own libuv loop; sockets, TLS, child processes, foreign descriptors and helper threads as messages.
 *
 *	drive_new -> drive_start -> drive_wait -> drive_stop -> drive_free		all on the program's main thread
 *
 * One drive a process at a time: signals, the crash file and the descriptor limit belong to the process.
 */
#ifndef RUNTIME_DRIVE_DRIVE_H
#define RUNTIME_DRIVE_DRIVE_H

#include "runtime/core/worker.h"

struct drive;

struct drive_spec {
	uint64_t node; /* node_make(id, incarnation) */
	uint8_t n_workers; /* 1 .. WORKERS_MAX */
	void *context; /* actor_node_context */
	/*
	 * Called once on worker 0's thread: spawns the root supervisor with worker_spawn and gives its pid. A failure
	 * makes drive_start fail.
	 */
	enum status (*boot)(struct worker *w, void *arg, struct pid *root);
	void *boot_arg;
	/*
	 * Passes a message to another node; on the sender's thread; takes m, gives what it can't send to
	 * worker_undeliverable. NULL: every other node is down.
	 */
	void (*remote)(struct worker *w, struct msg *m, void *arg);
	void *remote_arg;
	const char
		*crash_prefix; /* crash files are <prefix>-<pid>-<unix time>.txt; NULL: "crash"; borrowed */
	uint32_t stuck_warn_ms; /* a handler that runs this long is logged; 0: 100 */
	uint32_t stuck_panic_ms; /* and this long ends the process; 0: 10000 */
};

/* Blocks SIGTERM and SIGINT and ignores SIGPIPE in the caller, for the threads to inherit. */
struct drive *drive_new(const struct drive_spec *spec);
/* Starts the threads and boots. On failure nothing runs. */
enum status drive_start(struct drive *d, struct error *err) MUST_CHECK;
/* Waits for SIGTERM or SIGINT, or the end of the root actor. Gives the signal, or 0 with the reason in *why. */
int drive_wait(struct drive *d, enum status *why);
/*
 * Tells the root to shut down (E_SHUTDOWN), waits for its end at most deadline_ms (then kills it: E_TIMEOUT), ends all
 * actors, joins all threads.
 */
enum status drive_stop(struct drive *d, uint32_t deadline_ms);
/* After drive_stop, or without drive_start. */
void drive_free(struct drive *d);

/*
 * Asks a named actor from a thread that is no worker (HTTP server, library callbacks) and waits for the answer.
 * `body` is the catalog struct of `tag`, borrowed; its slices are copied. on_reply (may be NULL) is called on the
 * calling thread before the return, at most once: st is the reply's status, body is borrowed for the call. Gives OK
 * when a reply came, else E_TIMEOUT, E_NOT_FOUND (no such name), E_NOPROC, E_FULL, E_STATE (the drive isn't running).
 */
typedef void drive_reply_fn(void *arg, uint16_t tag, void *body, enum status st);
enum status drive_call(struct drive *d, const char *actor_name, uint16_t tag, const void *body,
	uint32_t timeout_ms, drive_reply_fn *on_reply, void *arg);

/*
 * Runs fn(w, arg) on a worker's thread, between turns; from any thread. For links and library callbacks. In order
 * between two threads. False, and never run, once the drive stops. fn may deliver messages; it must not block.
 */
typedef void drive_post_fn(struct worker *w, void *arg);
bool drive_post(struct drive *d, uint8_t worker, drive_post_fn *fn, void *arg);

/* Whether a TLS spec's files can be read and fit each other: for saying so at start. Any thread. */
enum status drive_tls_check(const struct io_tls *spec, struct error *err) MUST_CHECK;

#endif
