/*
 * Durable procedures: step tables that go on where they were after any crash.
 *
 * A kind of workflow is a table of steps. A running one is an actor, child of the manager "flow". Before a step acts,
 * (id, step, attempt) is on disk; a step's result and the step after it are one commit. A crash can therefore only
 * repeat the step it hit: steps must be idempotent.
 *
 *	run fails ------ retries left? -- yes --> back off, same step, attempt + 1
 *	                      no
 *	                      v
 *	UNDOING: undo of this step, then of each before it, in reverse --> FAILED
 */
#ifndef RUNTIME_FLOW_FLOW_H
#define RUNTIME_FLOW_FLOW_H

#include "runtime/core/actor.h"
#include "runtime/flow/messages.h"

enum {
	FLOW_KINDS_MAX = 32,
	FLOW_RULES_MAX = 32, /* of a kind's own */
	FLOW_RUNNING_MAX = 64,
	FLOW_TIMEOUT_MS = 60000, /* of a step that names none */
	FLOW_POLL_MS = 200,
	FLOW_BACKOFF_MIN_MS = 100,
	FLOW_BACKOFF_MAX_MS = 5000,
	FLOW_CRASHES_MAX = 10, /* resumptions of one step beyond its retries */
};

/*
 * Begins a step. It ends with exactly one flow_step_done or flow_step_fail, inside the call or in the handler of any
 * later message. Until then it may ask, spawn, start children and run work, as any actor.
 */
typedef void flow_step_fn(struct actor *self);

struct flow_step {
	const char *name;
	flow_step_fn *run;
	flow_step_fn *undo; /* NULL: nothing to undo */
	uint32_t poll_ms; /* after E_AGAIN; 0: FLOW_POLL_MS */
	uint32_t retries; /* attempts after the first */
	uint32_t timeout_ms; /* of an attempt, its polls included; 0: FLOW_TIMEOUT_MS */
};

struct flow_kind {
	const char *name; /* "tablet.bring_up" */
	const struct flow_step *steps;
	uint32_t n_steps;
	uint32_t local_size; /* bytes of flow_local, lost in a crash */
	const struct rule *rules; /* messages its steps wait for; states are ignored */
	uint32_t n_rules;
	void (*abandon)(struct actor
			*self); /* an attempt is given up (timeout): let go of what it began; may be NULL */
};

/* Once for each kind, before any worker starts; borrows it. */
void flow_kind_register(const struct flow_kind *kind);
const struct flow_kind *flow_kind_find(const char *name);

/* Ends the running step: OK goes on, E_AGAIN looks again after poll_ms, all else is a failure with that text. */
void flow_step_done(struct actor *self, enum status st, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Ends the running step with a failure that no retry can mend. */
void flow_step_fail(struct actor *self, enum status st, const char *fmt, ...) PRINTF_LIKE(3, 4);

const struct flow_record *flow_self(const struct actor *self);
/* The kind's own struct, zeroed when the actor is born. */
void *flow_local(struct actor *self);
/* What the step leaves to later ones and to watchers; takes the slice. Kept with the step's end. */
void flow_result_set(struct actor *self, struct slice *result);
bool flow_ended(uint8_t status);
const char *flow_status_name(uint8_t status);

/* The manager; name it "flow". Needs the actor "store". No args. */
extern const struct behaviour flow_behaviour;

#endif
