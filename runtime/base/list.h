/*
 * Intrusive doubly linked circular list. A node that is in no list points at itself, so that removing twice is
 * harmless and membership can be asked. Not thread-safe; the owner's worker only.
 */
#ifndef RUNTIME_BASE_LIST_H
#define RUNTIME_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/check.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert_between(struct list *n, struct list *prev, struct list *next)
{
	n->prev = prev;
	n->next = next;
	prev->next = n;
	next->prev = n;
}

static inline void list_push_front(struct list *l, struct list *n)
{
	list_insert_between(n, l, l->next);
}

static inline void list_push_back(struct list *l, struct list *n)
{
	list_insert_between(n, l->prev, l);
}

static inline void list_remove(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

static inline struct list *list_first(const struct list *l)
{
	return list_empty(l) ? NULL : l->next;
}

static inline struct list *list_pop_front(struct list *l)
{
	struct list *n = list_first(l);

	if (n)
		list_remove(n);
	return n;
}

/* `it` may be removed (but no other node) inside the loop. */
#define list_each(it, l)                                                                                     \
	for (struct list *it = (l)->next, *it##_next = it->next; it != (l);                                  \
		it = it##_next, it##_next = it->next)

#define LIST_ITEM(node, type, member) CONTAINER_OF(node, type, member)

/* A list whose head is one pointer: for heads that stand in every actor and are mostly empty. */
struct hnode {
	struct hnode *next, **pprev;
};

struct hlist {
	struct hnode *first;
};

static inline void hlist_push(struct hlist *l, struct hnode *n)
{
	n->next = l->first;
	n->pprev = &l->first;
	if (l->first)
		l->first->pprev = &n->next;
	l->first = n;
}

static inline void hlist_remove(struct hnode *n)
{
	if (!n->pprev)
		return;
	*n->pprev = n->next;
	if (n->next)
		n->next->pprev = n->pprev;
	n->next = NULL;
	n->pprev = NULL;
}

#endif
