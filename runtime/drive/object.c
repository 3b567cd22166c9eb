/* Ids of what actors own here: slot and generation, so that a stale id finds nothing. */
#include <stdlib.h>

#include "runtime/drive/internal.h"

static bool slots_grow(struct objects *t)
{
	uint32_t n = t->n ? t->n * 2 : 64;

	if (n > DRIVE_OBJECTS_MAX)
		return false;
	t->slots = realloc(t->slots, n * sizeof(*t->slots));
	check(t->slots != NULL);
	for (uint32_t i = n; i-- > t->n;) {
		t->slots[i] = (struct object_slot){.generation = 1, .next_free = t->free};
		t->free = i + 1;
	}
	t->n = n;
	return true;
}

enum status drive_object_add(struct loop *l, struct object *o, enum object_kind kind, struct pid owner)
{
	static const char *const kinds[] = {"", "socket", "listener", "process", "descriptor"};
	struct objects *t = &l->objects;
	uint32_t i;

	if (!t->free && !slots_grow(t))
		return E_LIMIT;
	o->handle.kind = kinds[kind];
	o->handle.owner = owner;
	if (handle_give(l->worker, &o->handle, owner))
		return E_NOPROC;
	i = t->free - 1;
	t->free = t->slots[i].next_free;
	t->slots[i].object = o;
	o->kind = (uint8_t)kind;
	o->id = (uint64_t)t->slots[i].generation << 32 | i;
	return OK;
}

struct object *drive_object_find(
	const struct loop *l, uint64_t id, enum object_kind kind, const struct actor *a)
{
	uint32_t i = (uint32_t)id;
	struct object *o = i < l->objects.n ? l->objects.slots[i].object : NULL;

	if (!o || o->id != id || o->kind != kind || !pid_equal(o->handle.owner, actor_pid(a)))
		return NULL;
	return o;
}

void drive_object_remove(struct loop *l, struct object *o)
{
	struct object_slot *s;

	handle_remove(&o->handle);
	if (!o->id)
		return;
	s = &l->objects.slots[(uint32_t)o->id];
	s->object = NULL;
	if (++s->generation == 0)
		s->generation = 1;
	s->next_free = l->objects.free;
	l->objects.free = (uint32_t)o->id + 1;
	o->id = 0;
}
