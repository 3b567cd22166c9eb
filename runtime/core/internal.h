/* What the files of runtime/core share: the actor's head, the worker, edges, asks, timers. Nobody else's business. */
#ifndef RUNTIME_CORE_INTERNAL_H
#define RUNTIME_CORE_INTERNAL_H

#include <uthash.h>

#include "runtime/base/list.h"
#include "runtime/base/metrics.h"
#include "runtime/base/slab.h"
#include "runtime/core/worker.h"

enum {
	WHEEL_LEVELS = 6,
	WHEEL_BITS = 6,
	WHEEL_SLOTS = 1 << WHEEL_BITS,
	FLIGHT_ENTRIES = 4096, /* a power of two */
	DEAD_LETTERS_KEPT = 64,
	REASON_MAX = 160,
	DISPATCH_SLOTS = 256, /* distinct tags of a behaviour: at most half of it */
	BEHAVIOURS_MAX = 256,
};

/* ---- timers: a hierarchical wheel of 1 ms (Varghese and Lauck 1987, scheme 7) ------------------------------- */

enum due_kind { DUE_TIMER, DUE_ASK };

struct due {
	struct hnode link; /* in its wheel slot */
	uint64_t at_ms;
	uint8_t kind, level, slot;
	bool fired; /* its TIMER message is in the mailbox */
};

struct wheel {
	uint64_t now_ms;
	uint64_t occupied[WHEEL_LEVELS];
	struct hlist slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

typedef void due_fn(struct due *d, void *arg);
void wheel_init(struct wheel *wh, uint64_t now_ms);
void wheel_add(struct wheel *wh, struct due *d, uint64_t at_ms);
void wheel_remove(struct wheel *wh, struct due *d);
void wheel_advance(struct wheel *wh, uint64_t now_ms, due_fn *fire, void *arg);
uint64_t wheel_next_ms(const struct wheel *wh); /* UINT64_MAX when empty */

struct timer_entry {
	struct due due;
	struct hnode in_owner;
	struct actor *owner;
	uint64_t key, seq;
};

/* ---- id tables: index with generation, so that a stale id finds nothing ------------------------------------- */

struct idtab_slot {
	void *object;
	uint32_t generation, next_free;
};

struct idtab {
	struct idtab_slot *slots;
	uint32_t n, free; /* free: index + 1, 0 none */
};

uint64_t idtab_add(struct idtab *t, void *object);
void *idtab_get(const struct idtab *t, uint64_t id);
void idtab_remove(struct idtab *t, uint64_t id);
void idtab_release(struct idtab *t);

struct ask {
	struct due due;
	struct hnode in_owner;
	struct actor *owner;
	uint64_t corr;
	uint16_t tag;
};

/*
 * An edge: source wants to know when target ends. Both on this worker: one edge in both lists. Else each worker
 * holds its half, and in the other list it is unlinked (pprev NULL).
 */
enum edge_kind { EDGE_MONITOR, EDGE_LINK, EDGE_CHILD };

struct edge {
	struct hnode in_watchers; /* of target */
	struct hnode in_watching; /* of source */
	struct pid source, target;
	uint64_t ref; /* given by the source's worker */
	uint8_t kind;
};

/* ---- actors ------------------------------------------------------------------------------------------------ */

/* A behaviour made ready for this worker: its rules as a table, its actors' slab. */
struct dispatch {
	const struct behaviour *behaviour;
	uint16_t tags[DISPATCH_SLOTS]; /* 0xffff: empty. Open addressing */
	uint16_t rows[DISPATCH_SLOTS];
	handler_fn **table; /* [row][state] */
	uint32_t n_states, cap;
	struct slab slab;
};

enum actor_bits {
	ACTOR_QUEUED = 1, /* in the run queue */
	ACTOR_DEAD = 2, /* ended; memory goes when the run queue lets go of it */
	ACTOR_QUIET = 4,
	ACTOR_TRACED = 8,
	ACTOR_GROUPED = 16, /* in some group */
	ACTOR_UNSTASH = 32, /* state changed: the stash goes first */
	ACTOR_EXITING = 64,
	ACTOR_RUNNING = 128, /* on the stack: a handler, init or exit hook */
};

struct actor {
	struct worker *worker;
	const struct dispatch *dispatch;
	struct pid pid, parent;
	struct msg *mail, *sys, *stash; /* last of a circular list; NULL: empty */
	struct msg *kept; /* doubly linked: next, and prev in to.node */
	struct actor *run_next;
	struct hlist watchers, watching, children, handles, timers, asks;
	struct hnode sibling;
	struct arena *arena;
	const char *name; /* owned; NULL: nameless */
	uint64_t handled, ticks;
	uint32_t mail_len, stash_len;
	uint8_t state, bits;
};

_Static_assert(sizeof(struct actor) <= ACTOR_HEAD_BYTES, "ACTOR_HEAD_BYTES holds the actor's head");
_Static_assert(ACTOR_HEAD_BYTES % 16 == 0, "the state behind it is aligned");

struct actor_slot {
	struct actor *actor;
	uint32_t generation, next_free;
};

/* Who says it has the name, by worker, at most one each; the first is it. More than one only while workers cross. */
struct name_entry {
	char name[ACTOR_NAME_MAX + 1];
	struct pid *claims;
	uint32_t n;
	UT_hash_handle hh;
};

struct group_entry {
	char name[ACTOR_NAME_MAX + 1];
	struct pid *members;
	uint32_t n, cap;
	UT_hash_handle hh;
};

struct flight {
	uint64_t at_us, to, from;
	uint16_t tag;
	uint8_t state, status;
};

struct dead_letter {
	uint64_t at_us;
	struct pid from, to;
	uint16_t tag;
	uint8_t why;
};

struct worker {
	/* hot */
	struct driver *driver;
	uint64_t node;
	uint8_t index, n_workers;
	bool hash_enabled;
	struct actor *run_head, *run_tail;
	struct msg *current; /* being handled; NULL when its handler moved it on */
	struct actor *running;
	uint32_t trace;
	uint64_t now_us;
	struct actor_slot *slots;
	uint32_t n_slots, free_slot; /* index + 1 */
	struct slab msg_slabs[MSG_SIZE_CLASSES];
	struct worker_stats stats;
	uint64_t hash;
	uint32_t flight_at;
	struct worker_watch watch;
	struct wheel wheel;
	struct idtab asks, edges;
	struct slab ask_slab, edge_slab, timer_slab;
	uint64_t timer_seq;
	/* cold */
	struct dispatch *behaviours[BEHAVIOURS_MAX];
	struct name_entry *names;
	struct group_entry *groups;
	struct pid tracer;
	uint32_t last_trace;
	struct metric_values metrics;
	struct dead_letter dead[DEAD_LETTERS_KEPT];
	uint64_t n_dead, dead_by[STATUS_COUNT];
	char reason[REASON_MAX + 1];
	void *context;
	bool closing;
	struct flight flight[FLIGHT_ENTRIES];
};

static inline struct actor *actor_find(const struct worker *w, struct pid p)
{
	uint32_t slot = pid_slot(p);

	if (slot >= w->n_slots || w->slots[slot].generation != pid_generation(p))
		return NULL;
	return w->slots[slot].actor;
}

static inline bool pid_is_local(const struct worker *w, struct pid p)
{
	return p.node == w->node && pid_worker(p) == w->index;
}

extern const struct behaviour kernel_behaviour;

enum status actor_create(struct worker *w, struct actor *parent, struct pid parent_pid,
	const struct spawn *what, struct pid *out);
void actor_terminate(struct actor *a, enum status why);
void worker_route(struct worker *w, struct msg *m); /* m->to decides: here or forward; takes m */
void worker_dead_letter(struct worker *w, struct msg *m, enum status why);
void worker_settle(struct worker *w, struct msg *request, enum status st); /* tells the asker; m stays */
struct edge *edge_add(
	struct worker *w, struct pid source, struct pid target, uint64_t ref, enum edge_kind kind);
void edge_free(struct worker *w, struct edge *e);
enum status names_add(struct worker *w, const char *name, struct pid pid, bool tell);
void names_remove(struct worker *w, const char *name, struct pid pid, bool tell);
void groups_change(struct worker *w, const char *group, struct pid pid, bool join, bool tell);
void groups_forget(struct worker *w, struct pid pid);
void names_release(struct worker *w);
const struct dispatch *dispatch_get(struct worker *w, const struct behaviour *b);
void dispatch_release(struct worker *w);
void timers_fire(struct worker *w);
void timer_entry_free(struct timer_entry *t);
bool timer_take_fired(struct actor *a, uint64_t seq); /* false: cancelled meanwhile */
void ask_free(struct worker *w, struct ask *k);
struct msg *trace_begin(struct actor *a, struct msg *m);
void trace_end(struct actor *a, struct msg *report);
void core_metrics_declare(void);
void core_metrics_store(struct worker *w);

#endif
