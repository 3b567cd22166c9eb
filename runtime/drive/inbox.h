/*
 * Inboxes: the only structure that threads share on the message path. A stack of parcels with many producers and one
 * consumer (R. K. Treiber, "Systems Programming: Coping with Parallelism", 1986), and the sleeper's flag.
 *
 * Ownership: a parcel belongs to its producer until the push, to the consumer after the take. There is no ABA
 * problem: the consumer takes all with one exchange and never pops one.
 */
#ifndef RUNTIME_DRIVE_INBOX_H
#define RUNTIME_DRIVE_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct parcel;

struct inbox {
	_Alignas(64) _Atomic(struct parcel *) head; /* newest first */
};

struct sleeper {
	_Alignas(64) atomic_bool asleep;
	int event_fd; /* written to wake */
};

/* Pushes a chain, newest first (`oldest` is its last). Any thread. */
void inbox_push(struct inbox *in, struct parcel *newest, struct parcel *oldest);
/* Takes everything, oldest first. The consumer only. NULL: empty. */
struct parcel *inbox_take(struct inbox *in);
bool inbox_empty(struct inbox *in);

/* Wakes the sleeper if it sleeps or is about to. After a push. Any thread. */
void sleeper_wake(struct sleeper *s);
/* Announces sleep. The consumer must look at its inbox again before it blocks. */
void sleeper_announce(struct sleeper *s);
void sleeper_awake(struct sleeper *s);

#endif
