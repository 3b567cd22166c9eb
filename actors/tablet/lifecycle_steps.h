/* Between the tablet (lifecycle.c) and its bring-up workflow (lifecycle_steps.c). */
#ifndef ACTORS_TABLET_LIFECYCLE_STEPS_H
#define ACTORS_TABLET_LIFECYCLE_STEPS_H

#include "actors/tablet/lifecycle_messages.h"
#include "actors/tablet/postgres.h"
#include "runtime/flow/flow.h"

enum { TABLET_LANE = 0x5441424c }; /* the tablet's work on files, one at a time */

extern const struct flow_kind tablet_bring_up;

struct slice tablet_plan_encode(const struct tablet_plan *plan);
enum status tablet_found_decode(const struct slice *bytes, struct tablet_found *out) MUST_CHECK;
void tablet_place(const struct tablet_plan *plan, const struct tablet_found *found, struct postgres_place *p);
/* Work: args a struct postgres_place; result the log's last lines as one. */
enum status tablet_work_log_tail(const void *args, size_t size, struct writer *result);

#endif
