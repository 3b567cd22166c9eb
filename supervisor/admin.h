/*
 * The admin actor: whoever asks about the node, or tells it something, asks this one. Registered as "admin" on
 * worker 0. A request becomes a job: steps, each of which may ask other actors; when all of a step's answers are in,
 * the next one runs; the last one answers.
 */
#ifndef SUPERVISOR_ADMIN_H
#define SUPERVISOR_ADMIN_H

#include "supervisor/messages.h"
#include "supervisor/reader.h"

/* Args of the admin actor; strings are borrowed for its life. */
struct admin_config {
	const char *listen, *data, *attach;
	uint64_t started_wall_us;
};

extern const struct behaviour admin_behaviour;
/* Once, after all catalogs were added: makes admin understand every reply there is. */
void admin_prepare(void);

/* ---- inside: what verbs are made of -------------------------------------------------------------------------- */

enum { JOB_PARTS_MAX = 160, JOBS_MAX = 64, JOB_STEPS_MAX = 3, ADMIN_ASK_MS = 2000, ADMIN_LONG_MS = 15000 };

struct part { /* one ask of a job and its answer */
	uint64_t corr;
	uint8_t worker;
	bool settled;
	uint8_t status; /* of the answer */
	uint16_t tag; /* of the answer */
	struct slice bytes; /* TABLE's rows, KERNEL_SNAPSHOT's values */
	char text[240]; /* DONE's, or the answer printed */
};

struct job {
	struct list link;
	struct msg *request; /* kept */
	const struct verb *verb;
	uint32_t pending, n_parts, step;
	uint64_t id, monitor; /* monitor: a DOWN that settles one pending */
	uint64_t value; /* the verb's own */
	struct pid target;
	char actor[ACTOR_NAME_MAX + 1];
	struct part parts[JOB_PARTS_MAX];
};

typedef void step_fn(struct actor *self, struct job *job);

struct verb {
	const char *name;
	step_fn *steps[JOB_STEPS_MAX];
};

const struct verb *admin_verb_find(const char *name);

/* Asks for the job; takes *m. */
void job_ask(struct actor *self, struct job *job, struct pid to, struct msg **m, uint32_t timeout_ms);
/* Asks the kernel of every worker. */
void job_ask_kernels(struct actor *self, struct job *job, uint16_t tag);
/* Answer and end the job. Bodies are taken. */
void job_answer(struct actor *self, struct job *job, enum status st, const char *fmt, ...) PRINTF_LIKE(4, 5);
void job_answer_body(struct actor *self, struct job *job, enum admin_body kind, struct slice *body);
/* An argument of the request as text; false when it is missing. */
bool job_arg(const struct job *job, const char *name, char *out, size_t cap);
/* Fills job->target from the argument "actor", a name or a pid; false: already answered why not. */
bool job_target(struct actor *self, struct job *job);

/* Answers when job->target ends (DOWN), or after timeout_ms that it hasn't. */
void job_watch(struct actor *self, struct job *job, uint32_t timeout_ms);
const struct admin_config *admin_config(struct actor *self);

/* Tracing (admin_trace.c) lives in the admin actor's state. */
struct tracer;
struct tracer *admin_tracer(struct actor *self);
struct tracer *tracer_new(void);
void tracer_free(struct tracer *t);
void tracer_take(struct tracer *t, const struct traced *ev);
/* Ends sessions nobody polls; true while there are some. */
bool tracer_expire(struct actor *self, struct tracer *t);
step_fn verb_trace, verb_trace_ready, verb_trace_poll, verb_trace_stop;
void admin_trace_timer(struct actor *self);

/*
 * Fills a message's struct from a msgpack map of field names; pids as "<...>" or names. What isn't named stays zero.
 * err says which field and why.
 */
enum status inject_fill(struct actor *self, const struct msg_desc *d, void *body, struct unpack *map,
	struct error *err) MUST_CHECK;

#endif
