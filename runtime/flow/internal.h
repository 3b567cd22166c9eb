/* Between the manager (flow.c) and the actors of single workflows (run.c). */
#ifndef RUNTIME_FLOW_INTERNAL_H
#define RUNTIME_FLOW_INTERNAL_H

#include "runtime/flow/flow.h"

enum { FLOW_STORE_TIMEOUT_MS = 10000 };

extern const struct msg_desc *flow_record_desc(void);

/* Args of a workflow's actor; `record` is borrowed during the spawn. */
struct flow_spawn {
	const struct flow_kind *kind;
	const struct flow_record *record;
	struct pid manager;
	bool resumed;
};

/* The behaviour that runs a kind: the engine's rules and the kind's own. NULL when unknown. */
const struct behaviour *flow_behaviour_of(const struct flow_kind *kind);

/* Reads a stored record; OK: release it with msg_release_body. */
enum status flow_record_read(const void *p, size_t n, struct flow_record *rec) MUST_CHECK;
/* The name of the record's step; "?" when this build doesn't know it. */
const char *flow_step_name(const struct flow_record *rec);
/* rows: of a STORE_ROWS. */
struct slice flow_table_of_list(const struct slice *rows);
struct slice flow_table_of_record(const struct flow_record *rec);

#endif
