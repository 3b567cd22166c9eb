/* The tablet's state, shared by the files of its actor: lifecycle.c, auth.c, lifecycle_show.c. */
#ifndef ACTORS_TABLET_LIFECYCLE_INTERNAL_H
#define ACTORS_TABLET_LIFECYCLE_INTERNAL_H

#include "actors/pg/scram.h"
#include "actors/tablet/lifecycle.h"
#include "actors/tablet/lifecycle_steps.h"

enum { TABLET_LOOKUPS_MAX = 1024 };

struct lookup {
	uint64_t corr;
	struct msg *request; /* kept */
};

struct tablet {
	const struct tablet_config *config;
	struct tablet_plan plan; /* own */
	struct tablet_found found; /* own: what the workflow found out, once it got to `start` */
	uint64_t proc; /* own: Postgres's process; 0: none */
	uint64_t start_work, tail_work, verifier_work;
	struct msg *start_request; /* kept, while start_work runs */
	uint64_t flow_corr, flow_ref;
	struct pid control;
	struct control_changed info; /* what the control connection says */
	bool adopted, exited, unresponsive, quitting;
	uint32_t failures;
	uint64_t serving_since_us, restarts;
	char why[240]; /* the last failure */
	char verifier[SCRAM_VERIFIER_MAX]; /* attach: of our own role, made from its password */
	struct tablet_serving told;
	struct lookup lookups[TABLET_LOOKUPS_MAX];
	uint32_t n_lookups;
	uint64_t refused_us; /* when reading verifiers was last refused; 0: never */
};

static inline bool tablet_is_own(const struct tablet *t)
{
	return t->config->mode == TABLET_OWN;
}

/* What watchers are told, as things are now. */
void tablet_serving_make(const struct actor *self, const struct tablet *t, struct tablet_serving *s);
/* Tells the watchers if anything changed. */
void tablet_update(struct actor *self, struct tablet *t);

/* auth.c: handlers of AUTH_LOOKUP and of the control connection's answers. */
enum status tablet_on_lookup(struct actor *self, struct msg *m);
enum status tablet_on_rows(struct actor *self, struct msg *m);
/* The kept AUTH_LOOKUP that waits for this ask; NULL: none does. */
struct msg *tablet_lookup_take(struct tablet *t, uint64_t corr);
/* Work: args a salt; result the verifier of the password of --attach. */
enum status tablet_work_verifier(const void *args, size_t size, struct writer *result);

/* lifecycle_show.c */
struct slice tablet_table(struct actor *self, const struct tablet *t, const char *state);
const char *tablet_mode_name(const struct tablet *t);

#endif
