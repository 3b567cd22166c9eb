/*
 * The shared stack and the sleeper's flag. This is all the lock-free code there is; why each order is what it is:
 *
 * push: release, so that who takes the parcel sees what was written into it. A failed exchange may be relaxed: its
 *	value is only stored into our own parcel's `next`.
 * take: acquire, the counterpart. The exchange also takes parcels whose heads were overwritten by later pushes; their
 *	contents are visible because each push is a read-modify-write and so continues the release sequence.
 * sleep and wake are Dekker's protocol:
 *
 *	producer			consumer
 *	P1 push parcel			C1 asleep = true
 *	P2 read asleep			C2 read head
 *
 * A wake-up is lost only if P2 reads false (before C1) and C2 reads an empty head (before P1). That needs a store to
 * pass a later load on both sides, which release and acquire allow and sequential consistency forbids: so all four are
 * seq_cst. On x86-64 push and announce are locked instructions anyway; it costs nothing more.
 *
 * Of several producers that see asleep only the one whose exchange takes the flag writes the eventfd: one write a
 * sleep. A wake that comes after the consumer woke by itself leaves the eventfd readable: one turn for nothing.
 */
#include "runtime/drive/inbox.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/drive/parcel.h"

void inbox_push(struct inbox *in, struct parcel *newest, struct parcel *oldest)
{
	struct parcel *head = atomic_load_explicit(&in->head, memory_order_relaxed);

	do
		oldest->next = head;
	while (!atomic_compare_exchange_weak_explicit(
		&in->head, &head, newest, memory_order_seq_cst, memory_order_relaxed));
}

struct parcel *inbox_take(struct inbox *in)
{
	struct parcel *newest, *oldest = NULL;

	if (!atomic_load_explicit(
		    &in->head, memory_order_relaxed)) /* spares the exchange in the usual turn */
		return NULL;
	newest = atomic_exchange_explicit(&in->head, NULL, memory_order_acquire);
	while (newest) {
		struct parcel *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

bool inbox_empty(struct inbox *in)
{
	return atomic_load_explicit(&in->head, memory_order_seq_cst) == NULL;
}

void sleeper_wake(struct sleeper *s)
{
	const uint64_t one = 1;

	if (!atomic_load_explicit(&s->asleep, memory_order_seq_cst) ||
		!atomic_exchange_explicit(&s->asleep, false, memory_order_seq_cst))
		return;
	while (write(s->event_fd, &one, sizeof(one)) < 0)
		check(errno == EINTR);
}

void sleeper_announce(struct sleeper *s)
{
	atomic_store_explicit(&s->asleep, true, memory_order_seq_cst);
}

void sleeper_awake(struct sleeper *s)
{
	atomic_store_explicit(&s->asleep, false, memory_order_relaxed);
}
