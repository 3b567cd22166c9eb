/*
 * Actors: what a behaviour is, and all that a handler may do.
 *
 * An actor is a struct and a table of (state, message) -> handler. Everything it sees is a message: bytes read, a
 * timer, a death, a reply, a commit done. A handler runs to completion, never blocks, and returns a status:
 * anything but OK ends the actor. When it ends, in whatever state, the runtime gives back what it held: sockets,
 * children, timers, monitors, kept messages (whose askers are told), its arena.
 *
 * Worker-local: an actor lives and dies on one worker; every function here is called on that worker, by the actor
 * itself (`self` is the actor whose handler is running).
 */
#ifndef RUNTIME_CORE_ACTOR_H
#define RUNTIME_CORE_ACTOR_H

#include "runtime/base/arena.h"
#include "runtime/core/messages.h"
#include "runtime/core/msg.h"
#include "runtime/core/pid.h"

enum { STATE_ANY = 255, ACTOR_NAME_MAX = 63, MAILBOX_CAP_DEFAULT = 10000, ACTOR_ARENA_BUDGET = 16 << 20 };

/* Borrows the message: the runtime frees it afterwards unless the handler moved it on (keep, forward, reply). */
typedef enum status handler_fn(struct actor *self, struct msg *m);

struct rule {
	uint8_t state; /* or STATE_ANY, which a rule for the state itself overrides */
	uint16_t tag;
	handler_fn *handle;
};

struct behaviour {
	const char *name; /* "gate.session" */
	uint32_t state_size; /* bytes of the actor's own struct, zeroed at spawn */
	const struct rule *rules;
	uint32_t n_rules;
	const char *const *states; /* names; the first is the state an actor is born in */
	uint32_t n_states;
	enum status (*init)(struct actor *self, const void *args, size_t size); /* may be NULL */
	void (*exit)(struct actor *self, enum status why); /* may be NULL; may send; can't stop the end */
	void (*show)(const struct actor *self, struct writer *text); /* one line for people; may be NULL */
	uint32_t mailbox_cap; /* user messages; 0: MAILBOX_CAP_DEFAULT. Over it asks get E_FULL */
	bool trap_exit; /* gets EXIT and DOWN of links and children as messages */
};

/* States by X-macro, so that tools print their names:  #define S(X) X(IDLE) X(RUN)   STATES(session, S) */
#define STATE_ENUM(name) name,
#define STATE_TEXT(name) #name,
#define STATES(prefix, LIST)                                                                                 \
	enum prefix##_states{LIST(STATE_ENUM)};                                                              \
	static const char *const prefix##_state_names[] = {LIST(STATE_TEXT)}

/* ---- self -------------------------------------------------------------------------------------------------- */

/* The actor's own struct. */
static inline void *actor_state(const struct actor *self);
struct pid actor_pid(const struct actor *self);
struct pid actor_parent(const struct actor *self); /* PID_NONE: an orphan */
uint8_t actor_current(const struct actor *self); /* its state */
/* Changes state; deferred messages are looked at again. */
void actor_become(struct actor *self, uint8_t state);
/* The actor's arena, lives as long as the actor; budget ACTOR_ARENA_BUDGET. */
struct arena *actor_arena(struct actor *self);
/* Notes why, for the crash report and monitors' DOWN.text; gives `st`:  return actor_fail(self, E_IO, "..."); */
enum status actor_fail(struct actor *self, enum status st, const char *fmt, ...) PRINTF_LIKE(3, 4);
uint64_t actor_now_us(const struct actor *self); /* monotonic, microseconds; taken once a turn */
uint64_t actor_wall_us(const struct actor *self); /* since 1970; never for decisions */
uint64_t actor_random(struct actor *self); /* seeded in the simulator, the kernel's otherwise */
uint8_t actor_worker_index(const struct actor *self);
uint8_t actor_worker_count(const struct actor *self);
struct pid actor_kernel(const struct actor *self, uint8_t worker); /* the kernel of that worker */
/* The node's context pointer, set by the program that made the node (read-only after start). */
void *actor_node_context(const struct actor *self);

/* ---- messages ---------------------------------------------------------------------------------------------- */

/* Sends; takes *m and sets it NULL. In order between two actors, at most once; a dead receiver makes it a dead letter. */
void actor_send(struct actor *self, struct pid to, struct msg **m);
/*
 * Asks; takes *m. Exactly one answer follows: a message with bits MSG_IS_REPLY and this corr (any tag the replier
 * chose), or ASK_FAILED with this corr. timeout_ms must be positive.
 */
uint64_t actor_ask(struct actor *self, struct pid to, struct msg **m, uint32_t timeout_ms);
/* Answers a request (borrowed: it is settled, then freed as usual); takes *m. Not a request: dropped. */
void actor_reply(struct actor *self, struct msg *request, struct msg **m);
/* Answers with DONE. fmt NULL: no text. */
void actor_reply_status(struct actor *self, struct msg *request, enum status st, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
/* No answer is wanted any more; a late one is dropped. Harmless when already settled. */
void actor_ask_cancel(struct actor *self, uint64_t corr);
/* The message being handled stays with the actor, until it is forwarded, dropped, or the actor ends. */
struct msg *actor_keep(struct actor *self, struct msg *m);
/* Passes a message on (the one being handled, or one kept), with its sender and obligation as they are. */
void actor_forward(struct actor *self, struct pid to, struct msg *m);
/* Frees a kept message; a request among them is settled with `st`. */
void actor_drop(struct actor *self, struct msg *m, enum status st);
/* Frees a message that was made but not sent. */
void msg_discard(struct actor *self, struct msg *m);
/* Puts the message aside until the actor changes state; then it is handled before anything newer. */
enum status actor_defer(struct actor *self, struct msg *m);

/* ---- time -------------------------------------------------------------------------------------------------- */

/* TIMER{key} once, after_ms from now. An actor has at most one timer a key: setting replaces. */
void actor_timer(struct actor *self, uint64_t key, uint32_t after_ms);
/* No TIMER{key} is seen after this returns. */
void actor_timer_cancel(struct actor *self, uint64_t key);

/* ---- life and death ---------------------------------------------------------------------------------------- */

struct spawn {
	const struct behaviour *behaviour;
	const void *args; /* copied; passed to init */
	size_t args_size;
	const char *name; /* registered node-wide; NULL: nameless */
	bool orphan; /* not a child: outlives its spawner */
	bool quiet; /* the parent gets no DOWN when it ends */
};

/*
 * Makes an actor on this worker and runs its init. It is a child: it ends (E_SHUTDOWN) when its parent ends, and
 * the parent gets DOWN (ref 0) when it ends. Fails with init's status, E_EXISTS (the name), E_LIMIT (slots).
 */
enum status actor_spawn(struct actor *self, const struct spawn *what, struct pid *out) MUST_CHECK;
/*
 * The same on another worker; the answer to the ask (corr given) is KERNEL_SPAWNED, DONE with the failure, or
 * ASK_FAILED. The child is a child of `self`.
 */
uint64_t actor_spawn_on(struct actor *self, uint8_t worker, const struct spawn *what, uint32_t timeout_ms);
/* Tells an actor to end. E_KILLED can't be trapped. */
void actor_exit(struct actor *self, struct pid who, enum status why);
/* DOWN{who, ref} when it ends, at once with E_NOPROC if it is gone. Gives ref, never 0. */
uint64_t actor_monitor(struct actor *self, struct pid who);
void actor_demonitor(struct actor *self, uint64_t ref);
/* If either ends with anything but E_NORMAL, the other is told to end too (or gets EXIT when it traps). */
void actor_link(struct actor *self, struct pid other);

/* ---- names ------------------------------------------------------------------------------------------------- */

/* A name is unique in the node; looked up on each worker's own copy, so a fresh one may take a turn to be seen. */
enum status actor_register(struct actor *self, const char *name) MUST_CHECK;
struct pid actor_whereis(const struct actor *self, const char *name); /* PID_NONE when unknown */
/* Groups: an actor may be in many; leaving is automatic at its end. */
void actor_group_join(struct actor *self, const char *group);
void actor_group_leave(struct actor *self, const char *group);
/* Fills up to cap members, own worker's first; gives how many there are. */
uint32_t actor_group_members(const struct actor *self, const char *group, struct pid *out, uint32_t cap);

/* ---- measures ---------------------------------------------------------------------------------------------- */

/* Adds to a counter made with metric_counter (runtime/base/metrics.h); worker-local, no atomics. */
void actor_count(struct actor *self, uint32_t metric, uint64_t n);
/* Sets a gauge of this worker; the node's value is the sum over workers. */
void actor_gauge(struct actor *self, uint32_t metric, int64_t delta);
/* Records a duration in a histogram. */
void actor_observe_us(struct actor *self, uint32_t metric, uint64_t us);

/* ---- inside ------------------------------------------------------------------------------------------------ */

enum { ACTOR_HEAD_BYTES = 208 }; /* of runtime per actor, checked against the struct in internal.h */

static inline void *actor_state(const struct actor *self)
{
	return (void *)((uintptr_t)self + ACTOR_HEAD_BYTES);
}

#endif
