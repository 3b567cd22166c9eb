/*
 * Names and groups. Each worker has its own copy; changes are told to the other kernels.
 *
 * Two workers that take the same name in the same instant both think they have it, until the telling crosses: then
 * the actor of the higher worker ends, with E_EXISTS. Only its own worker says so, and every worker keeps all claims
 * until each is taken back: what one worker tells reaches the others in order, what two tell may come either way
 * round (an old holder's claim and end even after a new holder's claim), and all copies still come out equal.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/core/internal.h"

enum { GROUP_MEMBERS_MAX = 1 << 16 };

static void tell_others(struct worker *w, struct msg *m)
{
	const struct msg_desc *d = catalog_find(m->tag);

	for (uint8_t i = 0; i < w->n_workers; i++) {
		struct msg *copy;

		if (i == w->index)
			continue;
		copy = worker_msg_new(w, m->tag);
		memcpy(copy->body, m->body, d->size);
		copy->status = m->status;
		copy->from = pid_make(w->node, w->index, 0, 1);
		copy->to = pid_make(w->node, i, 0, 1);
		worker_route(w, copy);
	}
	worker_msg_free(w, m);
}

static void tell_name(struct worker *w, const char *name, struct pid pid, enum status how)
{
	struct msg *m;
	struct kernel_name *k;

	if (w->n_workers == 1)
		return;
	m = worker_msg_new(w, KERNEL_NAME);
	k = kernel_name_of(m);
	str_copy(k->name, sizeof(k->name), name);
	k->pid = pid;
	m->status = (uint8_t)how;
	tell_others(w, m);
}

static void claim_add(struct worker *w, struct name_entry *e, const char *name, struct pid pid)
{
	uint32_t i = 0;

	if (!e) {
		e = calloc(1, sizeof(*e));
		check(e != NULL);
		str_copy(e->name, sizeof(e->name), name);
		HASH_ADD_STR(w->names, name, e);
	}
	e->claims = realloc(e->claims, (e->n + 1) * sizeof(*e->claims));
	check(e->claims != NULL);
	while (i < e->n && pid_worker(e->claims[i]) < pid_worker(pid))
		i++;
	memmove(&e->claims[i + 1], &e->claims[i], (e->n - i) * sizeof(*e->claims));
	e->claims[i] = pid;
	e->n++;
}

/* A lower worker claims it too: what we gave it to ends. */
static void end_ours(struct worker *w, const struct name_entry *e, struct pid other)
{
	for (uint32_t i = 0; i < e->n; i++)
		if (pid_is_local(w, e->claims[i]) && pid_worker(other) < w->index)
			worker_exit(w, e->claims[i], E_EXISTS);
}

enum status names_add(struct worker *w, const char *name, struct pid pid, bool tell)
{
	struct name_entry *e = NULL;

	HASH_FIND_STR(w->names, name, e);
	if (e && tell)
		return pid_equal(e->claims[0], pid) ? OK : E_EXISTS;
	if (e)
		end_ours(w, e, pid);
	claim_add(w, e, name, pid);
	if (tell)
		tell_name(w, name, pid, OK);
	return OK;
}

static void name_free(struct worker *w, struct name_entry *e)
{
	HASH_DEL(w->names, e);
	free(e->claims);
	free(e);
}

void names_remove(struct worker *w, const char *name, struct pid pid, bool tell)
{
	struct name_entry *e = NULL;
	uint32_t i = 0;

	if (tell)
		tell_name(w, name, pid, E_NOT_FOUND);
	HASH_FIND_STR(w->names, name, e);
	while (e && i < e->n && !pid_equal(e->claims[i], pid))
		i++;
	if (!e || i == e->n)
		return;
	memmove(&e->claims[i], &e->claims[i + 1], (e->n - i - 1) * sizeof(*e->claims));
	if (--e->n == 0)
		name_free(w, e);
}

enum status actor_register(struct actor *self, const char *name)
{
	struct worker *w = self->worker;
	enum status st;

	if (self->name || !name[0] || strlen(name) > ACTOR_NAME_MAX)
		return E_INVALID;
	st = names_add(w, name, self->pid, true);
	if (st != OK)
		return st;
	self->name = strdup(name);
	check(self->name != NULL);
	return OK;
}

struct pid actor_whereis(const struct actor *self, const char *name)
{
	return worker_whereis(self->worker, name);
}

/* ---- groups ------------------------------------------------------------------------------------------------- */

static struct group_entry *group_get(struct worker *w, const char *name)
{
	struct group_entry *g = NULL;

	HASH_FIND_STR(w->groups, name, g);
	if (!g) {
		g = calloc(1, sizeof(*g));
		check(g != NULL);
		str_copy(g->name, sizeof(g->name), name);
		HASH_ADD_STR(w->groups, name, g);
	}
	return g;
}

static void group_drop(struct group_entry *g, uint32_t i)
{
	memmove(&g->members[i], &g->members[i + 1], (g->n - i - 1) * sizeof(*g->members));
	g->n--;
}

void groups_change(struct worker *w, const char *group, struct pid pid, bool join, bool tell)
{
	struct group_entry *g = group_get(w, group);
	uint32_t i = 0;

	while (i < g->n && !pid_equal(g->members[i], pid))
		i++;
	if (join && i == g->n && g->n < GROUP_MEMBERS_MAX) {
		if (g->n == g->cap) {
			g->cap = g->cap ? g->cap * 2 : 4;
			g->members = realloc(g->members, g->cap * sizeof(*g->members));
			check(g->members != NULL);
		}
		g->members[g->n++] = pid;
	} else if (!join && i < g->n) {
		group_drop(g, i);
	} else {
		return;
	}
	if (tell && w->n_workers > 1) {
		struct msg *m = worker_msg_new(w, KERNEL_GROUP);
		struct kernel_group *k = kernel_group_of(m);

		str_copy(k->name, sizeof(k->name), group);
		k->pid = pid;
		k->join = join;
		tell_others(w, m);
	}
}

void actor_group_join(struct actor *self, const char *group)
{
	self->bits |= ACTOR_GROUPED;
	groups_change(self->worker, group, self->pid, true, true);
}

void actor_group_leave(struct actor *self, const char *group)
{
	groups_change(self->worker, group, self->pid, false, true);
}

void groups_forget(struct worker *w, struct pid pid)
{
	for (struct group_entry *g = w->groups; g; g = g->hh.next)
		groups_change(w, g->name, pid, false, !w->closing);
}

uint32_t actor_group_members(const struct actor *self, const char *group, struct pid *out, uint32_t cap)
{
	struct group_entry *g = NULL;
	uint32_t n = 0;

	HASH_FIND_STR(self->worker->groups, group, g);
	if (!g)
		return 0;
	for (int own = 1; own >= 0; own--)
		for (uint32_t i = 0; i < g->n && n < cap; i++)
			if ((pid_worker(g->members[i]) == self->worker->index) == own)
				out[n++] = g->members[i];
	return g->n;
}

void names_release(struct worker *w)
{
	struct name_entry *e, *next;
	struct group_entry *g, *next_group;

	HASH_ITER(hh, w->names, e, next)
	name_free(w, e);
	HASH_ITER(hh, w->groups, g, next_group)
	{
		HASH_DEL(w->groups, g);
		free(g->members);
		free(g);
	}
}
