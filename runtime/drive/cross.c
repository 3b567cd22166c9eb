/*
 * Messages between workers. forward() packs a message into the open parcel for its worker; once a turn all open parcels
 * are pushed, one exchange and at most one eventfd write a worker. The receiver makes messages of its own from them, so
 * that no slab and no count is shared, and sends the empty parcels home.
 *
 * Bound: OUTBOX_BYTES_MAX under way from one worker; over it, user messages come back as E_FULL. The runtime's own
 * (MSG_SYSTEM) and replies pass: they are as many as what they answer.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/drive/internal.h"

/* ---- sending ----------------------------------------------------------------------------------------------- */

static void returns_take(struct loop *l)
{
	struct parcel *p = inbox_take(&l->returns), *next;

	for (; p; p = next) {
		next = p->next;
		l->out_bytes -= p->weight;
		if (p->cap > PARCEL_BYTES || l->n_spare >= PARCELS_KEPT) {
			free(p);
			continue;
		}
		p->next = l->spare;
		l->spare = p;
		l->n_spare++;
	}
}

static struct parcel *parcel_get(struct loop *l, uint32_t bytes)
{
	struct parcel *p;

	returns_take(l);
	if (bytes > PARCEL_BYTES || !l->spare)
		return parcel_new(bytes > PARCEL_BYTES ? bytes : PARCEL_BYTES, l->index);
	p = l->spare;
	l->spare = p->next;
	l->n_spare--;
	p->used = 0;
	p->weight = 0;
	return p;
}

static struct parcel *outbox_room(struct loop *l, struct outbox *o, uint32_t bytes)
{
	struct parcel *p = o->newest;

	if (likely(p && p->cap - p->used >= bytes))
		return p;
	p = parcel_get(l, bytes);
	p->next = o->newest;
	o->newest = p;
	if (!o->oldest)
		o->oldest = p;
	return p;
}

static uint64_t slices_privatise(const struct msg_desc *desc, struct msg *m)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < desc->n_fields; i++)
		if (desc->fields[i].type == FIELD_bin) {
			struct slice *s = (struct slice *)(void *)(m->body + desc->fields[i].offset);

			slice_privatise(s);
			bytes += s->len;
		}
	return bytes;
}

void drive_forward(struct driver *d, struct msg *m)
{
	struct loop *l = loop_of(d);
	const struct msg_desc *desc = catalog_find(m->tag);
	uint8_t to = pid_worker(m->to);
	struct parcel *p;
	uint64_t bytes;

	if (m->to.node != l->drive->spec.node) {
		if (l->drive->spec.remote)
			l->drive->spec.remote(l->worker, m, l->drive->spec.remote_arg);
		else
			worker_undeliverable(l->worker, m, E_NODE_DOWN);
		return;
	}
	if (to == FOREIGN_WORKER) {
		drive_foreign_reply(l, m);
		return;
	}
	if (to >= l->drive->n_loops || to == l->index) {
		worker_undeliverable(l->worker, m, E_NOPROC);
		return;
	}
	if (l->out_bytes > OUTBOX_BYTES_MAX && !(desc->flags & MSG_SYSTEM) && !(m->bits & MSG_IS_REPLY)) {
		returns_take(l);
		if (l->out_bytes > OUTBOX_BYTES_MAX) {
			worker_undeliverable(l->worker, m, E_FULL);
			return;
		}
	}
	bytes = parcel_message_bytes(m->tag);
	p = outbox_room(l, &l->out[to], (uint32_t)bytes);
	if (desc->n_bins)
		bytes += slices_privatise(desc, m);
	parcel_put(p, m);
	p->weight += bytes;
	l->out_bytes += bytes;
	worker_msg_moved(l->worker, m);
}

void drive_outboxes_flush(struct loop *l)
{
	for (uint8_t i = 0; i < l->drive->n_loops; i++) {
		struct outbox *o = &l->out[i];
		struct loop *to = l->drive->loops[i];

		if (!o->newest)
			continue;
		inbox_push(&to->inbox, o->newest, o->oldest);
		*o = (struct outbox){0};
		sleeper_wake(&to->sleeper);
	}
}

/* ---- receiving --------------------------------------------------------------------------------------------- */

static void parcel_deliver(struct loop *l, struct parcel *p)
{
	for (uint32_t at = 0; at < p->used;) {
		const struct msg *m = (const struct msg *)(const void *)(p->data + at);
		struct msg *own = worker_msg_new(l->worker, m->tag);
		uint8_t class = own->bits & MSG_CLASS_MASK;

		memcpy(own, m, sizeof(*m) + catalog_find(m->tag)->size);
		own->next = NULL;
		own->bits = (uint8_t)((m->bits & ~MSG_CLASS_MASK) | class);
		at += parcel_message_bytes(m->tag);
		worker_deliver(l->worker, own);
	}
	p->used = 0;
}

void drive_inbox_drain(struct loop *l)
{
	struct parcel *home[WORKERS_MAX], *last[WORKERS_MAX], *p = inbox_take(&l->inbox), *next;
	uint64_t senders = 0;

	for (; p; p = next) {
		uint8_t from = p->origin;

		next = p->next;
		if (p->fn) {
			p->fn(l->worker, p->arg);
			free(p);
			continue;
		}
		parcel_deliver(l, p);
		if (from == PARCEL_NOBODYS) {
			free(p);
			continue;
		}
		if (senders & 1ull << from) {
			p->next = home[from];
		} else {
			senders |= 1ull << from;
			last[from] = p;
		}
		home[from] = p;
	}
	for (; senders; senders &= senders - 1) {
		unsigned i = (unsigned)__builtin_ctzll(senders);

		inbox_push(&l->drive->loops[i]->returns, home[i], last[i]);
	}
}

/* ---- from threads that are no workers ------------------------------------------------------------------------ */

static void parcel_push_one(struct loop *l, struct parcel *p)
{
	inbox_push(&l->inbox, p, p);
	sleeper_wake(&l->sleeper);
}

void drive_post_message(struct drive *d, uint8_t worker, const struct msg *m)
{
	struct parcel *p = parcel_new(parcel_message_bytes(m->tag), PARCEL_NOBODYS);

	parcel_put(p, m);
	parcel_push_one(d->loops[worker], p);
}

static void loop_stop(struct worker *w, void *arg)
{
	(void)w;
	((struct loop *)arg)->stopping = true;
}

void drive_loop_stop(struct loop *l)
{
	struct parcel *p = parcel_new(0, PARCEL_NOBODYS);

	p->fn = loop_stop;
	p->arg = l;
	parcel_push_one(l, p);
}

bool drive_post(struct drive *d, uint8_t worker, drive_post_fn *fn, void *arg)
{
	struct parcel *p;
	bool ok;

	check(worker < d->n_loops);
	atomic_fetch_add(&d->posting, 1); /* seq_cst both: drive_stop waits for us, or we see that it stops */
	ok = atomic_load(&d->accepting);
	if (ok) {
		p = parcel_new(0, PARCEL_NOBODYS);
		p->fn = fn;
		p->arg = arg;
		parcel_push_one(d->loops[worker], p);
	}
	atomic_fetch_sub(&d->posting, 1);
	return ok;
}
