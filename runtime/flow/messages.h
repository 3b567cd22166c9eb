/*
 * What workflows are asked and what they say. Ask the actor named "flow".
 *
 *	FLOW_START -> DONE, once the workflow is on disk; then FLOW_CHANGED to who watches, at each change
 *	FLOW_CANCEL -> DONE: the workflow undoes what it did
 *	FLOW_LIST, FLOW_SHOW -> TABLE
 */
#ifndef RUNTIME_FLOW_MESSAGES_H
#define RUNTIME_FLOW_MESSAGES_H

#include "runtime/core/catalog.h"

enum { FLOW_ID_MAX = 63, FLOW_KIND_MAX = 31, FLOW_BYTES_MAX = 16384 };

enum flow_status { FLOW_RUNNING, FLOW_DONE, FLOW_UNDOING, FLOW_FAILED };

/* What is kept of a workflow: store table "flow", key = id. Times are wall clock, for people. */
#define FLOW_RECORD_FIELDS(F, S)                                                                             \
	F(S, str, id, FLOW_ID_MAX)                                                                           \
	F(S, str, kind, FLOW_KIND_MAX)                                                                       \
	F(S, u8, status, 0)                                                                                  \
	F(S, u32, step, 0)                                                                                   \
	F(S, u32, attempt, 0)                                                                                \
	F(S, bin, inputs, FLOW_BYTES_MAX)                                                                    \
	F(S, bin, result, FLOW_BYTES_MAX)                                                                    \
	F(S, str, error, 240)                                                                                \
	F(S, u64, started_us, 0)                                                                             \
	F(S, u64, changed_us, 0)
/*
 * Begins the workflow `id`, unless it runs already with the same inputs; then it is joined. One that ended, or runs
 * with other inputs, is E_EXISTS; with `anew` set it is begun again from its first step, the old run ended.
 * watch: the asker gets FLOW_CHANGED from now on, first of the present state, until it ends.
 */
#define FLOW_START_FIELDS(F, S)                                                                              \
	F(S, str, kind, FLOW_KIND_MAX)                                                                       \
	F(S, str, id, FLOW_ID_MAX)                                                                           \
	F(S, bin, inputs, FLOW_BYTES_MAX)                                                                    \
	F(S, u8, anew, 0)                                                                                    \
	F(S, u8, watch, 0)
/* In the system lane, so that the last one isn't overtaken by the DOWN of the workflow's actor. */
#define FLOW_CHANGED_FIELDS(F, S)                                                                            \
	F(S, str, id, FLOW_ID_MAX)                                                                           \
	F(S, u8, status, 0)                                                                                  \
	F(S, u32, step, 0)                                                                                   \
	F(S, str, step_name, 31)                                                                             \
	F(S, u32, attempt, 0)                                                                                \
	F(S, str, error, 240)                                                                                \
	F(S, bin, result, FLOW_BYTES_MAX)
#define FLOW_CANCEL_FIELDS(F, S) F(S, str, id, FLOW_ID_MAX)
#define FLOW_LIST_FIELDS(F, S)
#define FLOW_SHOW_FIELDS(F, S) F(S, str, id, FLOW_ID_MAX)

#define FLOW_MESSAGES(M)                                                                                     \
	M(FLOW_RECORD, flow_record, 0x0301, MSG_PLAIN)                                                       \
	M(FLOW_START, flow_start, 0x0302, MSG_ASK)                                                           \
	M(FLOW_CHANGED, flow_changed, 0x0303, MSG_SYSTEM)                                                    \
	M(FLOW_CANCEL, flow_cancel, 0x0304, MSG_ASK)                                                         \
	M(FLOW_LIST, flow_list, 0x0305, MSG_ASK)                                                             \
	M(FLOW_SHOW, flow_show, 0x0306, MSG_ASK)

MSG_FOLDER(flow, FLOW_MESSAGES);

#endif
