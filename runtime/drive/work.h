/*
 * Helper threads: for what takes longer than a handler may. Two for work, which get stacks of 64 MB (libpg_query's
 * parser recurses), and two for name lookups, so that a dead name server holds up nothing but lookups.
 */
#ifndef RUNTIME_DRIVE_WORK_H
#define RUNTIME_DRIVE_WORK_H

#include "runtime/base/list.h"
#include "runtime/core/driver.h"

struct work_pool;

enum {
	WORK_QUEUE_MAX = 4096,
	WORK_ARGS_MAX = 64 << 10,
	WORK_STACK_BYTES = 64 << 20,
	WORK_RESULT_MAX = 16 << 20
};

/* Runs on a helper thread, and there gives back what it holds, itself included. */
struct job {
	struct list link;
	void (*run)(struct job *j);
	uint64_t lane; /* not 0: in order, one at a time */
};

struct work_pool *work_pool_new(uint32_t n_threads, size_t stack_bytes);
/* Takes the job; false (job stays the caller's) when WORK_QUEUE_MAX wait. Any thread. */
bool work_pool_submit(struct work_pool *p, struct job *j);
/* Runs what is queued, joins the threads, frees. */
void work_pool_free(struct work_pool *p);

/* The driver's `work`. */
uint64_t drive_work(struct driver *d, struct actor *a, const struct work *what);

#endif
