/*
 * Workers: one run queue, one set of actors, one timing wheel. A driver owns the thread and calls worker_run; the
 * core itself knows no threads, no sockets and no clock.
 *
 * A node's workers share nothing but read-only configuration: each has its own copy of the names.
 */
#ifndef RUNTIME_CORE_WORKER_H
#define RUNTIME_CORE_WORKER_H

#include "runtime/core/driver.h"

/* Bounds of a turn (notes: fairness). */
enum { TURN_MESSAGES = 64, TURN_US = 200, RUN_BUDGET_US = 1000 };

struct node_spec {
	uint64_t node; /* node_make(id, incarnation) */
	uint8_t n_workers;
	void *context; /* actor_node_context */
};

/* Gives a worker whose kernel actor runs at slot 0. The driver must outlive it. */
struct worker *worker_new(const struct node_spec *spec, uint8_t index, struct driver *driver);
/* Ends all actors (E_SHUTDOWN, exit hooks run) and frees everything. */
void worker_free(struct worker *w);

/* Spawns a root actor (no parent); what, out and errors as actor_spawn. */
enum status worker_spawn(struct worker *w, const struct spawn *what, struct pid *out) MUST_CHECK;
/* Tells an actor of this worker to end, as actor_exit does. */
void worker_exit(struct worker *w, struct pid who, enum status why);

/* Advances timers to now and runs actors for at most budget_us; true when some are still runnable. */
bool worker_run(struct worker *w, uint64_t budget_us);
/* Handles at most max_messages, whatever the time: for the simulator. True when more is runnable. */
bool worker_step(struct worker *w, unsigned max_messages);
/* When the next timer comes due (monotonic us), UINT64_MAX when none. */
uint64_t worker_next_due_us(const struct worker *w);
bool worker_runnable(const struct worker *w);

struct msg *worker_msg_new(struct worker *w, uint16_t tag);
/* Frees a message: releases its slices; a request among them is settled with E_NOPROC. */
void worker_msg_free(struct worker *w, struct msg *m);
/* Frees only the memory: its slices and its obligation have moved to a copy (drives that change threads). */
void worker_msg_moved(struct worker *w, struct msg *m);
/* Puts a message into its receiver's mailbox (m->to is on this worker); takes it. Dead letter if it is gone. */
void worker_deliver(struct worker *w, struct msg *m);
/* A message that a driver couldn't forward: dead letter; a request among them is settled with `why`. Takes m. */
void worker_undeliverable(struct worker *w, struct msg *m, enum status why);
/*
 * The link to that life of a node ended (called by the driver on every worker): whoever monitors or is linked to an
 * actor there hears E_NODE_DOWN, and its watchers here are forgotten. Asks under way keep their deadline.
 */
void worker_node_down(struct worker *w, uint64_t node);
struct pid worker_whereis(const struct worker *w, const char *name);
bool worker_alive(const struct worker *w, struct pid who);
struct driver *worker_driver(const struct worker *w);
uint8_t worker_index(const struct worker *w);
uint64_t worker_node(const struct worker *w);

/* The actor and message being handled, for a watchdog on another thread (approximate, never dereferenced). */
struct worker_watch {
	volatile uint64_t since_us; /* 0: idle */
	volatile uint64_t actor_local;
	volatile uint16_t tag;
	const char *volatile behaviour;
};
const struct worker_watch *worker_watch(const struct worker *w);

/* The flight recorder: the last messages handled, newest last, as text. Async-signal-safe enough for a panic. */
void worker_flight_dump(const struct worker *w, int fd);
/* A running hash of everything handled (receiver, sender, tag, state): the simulator's trace. 0 unless enabled. */
uint64_t worker_trace_hash(const struct worker *w);
void worker_trace_hash_enable(struct worker *w);

struct worker_stats {
	uint64_t messages, sends, turns, spawned, exited, crashed, dead_letters, asks, asks_failed,
		timers_fired;
	uint64_t actors, live_messages, mailbox_full, busy_ticks;
};
void worker_stats(const struct worker *w, struct worker_stats *out);

#endif
