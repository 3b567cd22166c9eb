/*
 * Supervisors: trees as data (Erlang/OTP's supervisor behaviour, "Supervision Principles"). A supervisor starts its
 * children in order, restarts them by its strategy, and gives up (ends, with E_INTENSITY) when there were more than
 * `intensity` restarts in `period_ms`; then its own supervisor acts. Restarts after the first are delayed by a
 * back-off that doubles up to backoff_max_ms and resets after a quiet period.
 */
#ifndef RUNTIME_CORE_SUPERVISE_H
#define RUNTIME_CORE_SUPERVISE_H

#include "runtime/core/actor.h"

enum sup_strategy { ONE_FOR_ONE, REST_FOR_ONE, ONE_FOR_ALL };
enum sup_restart { PERMANENT, TRANSIENT, TEMPORARY }; /* always; after abnormal ends only; never */

enum { SUP_CHILDREN_MAX = 64, WORKER_SAME = 255 };

struct sup_spec;

struct child_spec {
	const char *name; /* registered; unique in the node */
	const struct behaviour *behaviour; /* &supervisor_behaviour for a subtree, with `subtree` */
	const struct sup_spec *subtree;
	const void *args; /* borrowed for the supervisor's life */
	size_t args_size;
	enum sup_restart restart;
	uint32_t shutdown_ms; /* time to end by itself before it is killed; 0: 5000 */
	uint8_t worker; /* WORKER_SAME, or another worker's index */
};

struct sup_spec {
	enum sup_strategy strategy;
	uint32_t intensity, period_ms; /* more than intensity restarts in period_ms: give up */
	uint32_t backoff_min_ms, backoff_max_ms;
	const struct child_spec *children; /* borrowed for the supervisor's life */
	uint32_t n_children;
};

/* A supervisor's args are a `const struct sup_spec *` (the pointer, size sizeof(void *)). */
extern const struct behaviour supervisor_behaviour;

#define SUP_CHILDREN_FIELDS(F, S) /* answered with TABLE: name, pid, restarts, restart type */
#define SUP_RESTART_FIELDS(F, S) F(S, str, name, 63) /* end and start a child again; answered with DONE */
#define SUP_MESSAGES(M)                                                                                      \
	M(SUP_CHILDREN, sup_children, 0x0401, MSG_ASK)                                                       \
	M(SUP_RESTART, sup_restart_child, 0x0402, MSG_ASK)

MSG_FOLDER(sup, SUP_MESSAGES);

#endif
