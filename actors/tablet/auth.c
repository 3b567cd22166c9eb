/*
 * Logins: the SCRAM verifier of a user, read from pg_authid by the control connection; or, when the role of --attach may
 * not read it, of that role alone, made from its own password. Part of the tablet's actor.
 */
#include "actors/tablet/control.h"
#include "actors/tablet/lifecycle_internal.h"
#include "runtime/base/bytes.h"

/* PBKDF2 takes milliseconds, so it runs on a helper thread. The password itself is read there, in no message. */
enum status tablet_work_verifier(const void *args, size_t size, struct writer *result)
{
	const char *password = control_password();
	char text[SCRAM_VERIFIER_MAX];
	enum status st;

	if (!password)
		return E_NOT_FOUND;
	st = scram_verifier_build(password, args, (uint32_t)size, SCRAM_ITERATIONS, text);
	if (!st)
		writer_text(result, text);
	return st;
}

static void answer_entry(struct actor *self, struct msg *request, const struct auth_entry *entry)
{
	struct msg *m;

	*auth_entry_new(self, &m) = *entry;
	actor_reply(self, request, &m);
}

/* A role that may not read pg_authid is tried again after this: the right may be granted any time. */
enum { REFUSED_AGAIN_US = 2000000 };

/* Without the right to read pg_authid only the role of --attach itself can be checked. */
static void lookup_local(struct actor *self, struct tablet *t, struct msg *m)
{
	struct auth_entry entry = {0};

	if (t->verifier[0] && strcmp(auth_lookup_of(m)->user, t->info.login) == 0) {
		entry.found = entry.can_login = 1;
		str_copy(entry.verifier, sizeof(entry.verifier), t->verifier);
	} else {
		snprintf(entry.why, sizeof(entry.why),
			"role \"%.63s\" may not read password verifiers; "
			"GRANT SELECT ON pg_catalog.pg_authid TO \"%.63s\" is missing",
			t->info.login, t->info.login);
	}
	answer_entry(self, m, &entry);
}

enum status tablet_on_lookup(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	struct control_query *q;
	struct msg *out;

	if (!t->info.connected) {
		actor_reply_status(self, m, E_STATE, "%s", t->why[0] ? t->why : "Postgres is not connected");
		return OK;
	}
	if (!t->info.verifiers && t->refused_us && actor_now_us(self) - t->refused_us < REFUSED_AGAIN_US) {
		lookup_local(self, t, m);
		return OK;
	}
	if (t->n_lookups == TABLET_LOOKUPS_MAX) {
		actor_reply_status(self, m, E_FULL, "too many logins at once");
		return OK;
	}
	q = control_query_new(self, &out);
	str_copy(q->sql, sizeof(q->sql),
		"select rolcanlogin::int, case when rolvaliduntil < now() then null else rolpassword end "
		"from pg_catalog.pg_authid where rolname = $1");
	str_copy(q->parameter, sizeof(q->parameter), auth_lookup_of(m)->user);
	t->lookups[t->n_lookups].corr = actor_ask(self, t->control, &out, CONTROL_DEADLINE_MS + 1000);
	t->lookups[t->n_lookups++].request = actor_keep(self, m);
	return OK;
}

struct msg *tablet_lookup_take(struct tablet *t, uint64_t corr)
{
	for (uint32_t i = 0; i < t->n_lookups; i++) {
		struct msg *request = t->lookups[i].request;

		if (t->lookups[i].corr != corr)
			continue;
		t->lookups[i] = t->lookups[--t->n_lookups];
		return request;
	}
	return NULL;
}

enum status tablet_on_rows(struct actor *self, struct msg *m)
{
	struct tablet *t = actor_state(self);
	struct control_rows *rows = control_rows_of(m);
	struct msg *request = tablet_lookup_take(t, m->corr);
	struct auth_entry entry = {0};

	if (!request)
		return OK;
	if (rows->status == OK) {
		if (!t->info.verifiers) { /* granted meanwhile */
			t->info.verifiers = 1;
			tablet_update(self, t);
		}
		entry.found = rows->rows == 1;
		entry.can_login = strcmp(control_cell(rows, 0), "1") == 0;
		str_copy(entry.verifier, sizeof(entry.verifier), control_cell(rows, 1));
		answer_entry(self, request, &entry);
	} else if (strcmp(rows->sqlstate, "42501") == 0) {
		t->info.verifiers = 0;
		t->refused_us = actor_now_us(self);
		lookup_local(self, t, request);
		tablet_update(self, t);
	} else {
		actor_reply_status(self, request, (enum status)rows->status, "%s", rows->text);
	}
	actor_drop(self, request, E_INTERNAL);
	return OK;
}
