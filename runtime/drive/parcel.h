/*
 * Parcels: what travels between threads. Messages are packed one behind the other, header and body, so that a batch
 * costs one push, one cache miss a line in the order the prefetcher likes, and no allocation a message: parcels go
 * back to the worker that filled them. Slices in them are private (slice_privatise), so no count is ever shared.
 */
#ifndef RUNTIME_DRIVE_PARCEL_H
#define RUNTIME_DRIVE_PARCEL_H

#include "runtime/drive/drive.h"

enum { PARCEL_BYTES = 16384, PARCEL_NOBODYS = 255 };

struct parcel {
	struct parcel *next;
	drive_post_fn *fn; /* a call instead of messages */
	void *arg;
	uint64_t weight; /* bytes incl. those of slices, against OUTBOX_BYTES_MAX */
	uint32_t used, cap; /* bytes of data */
	uint8_t origin; /* the worker it goes back to; PARCEL_NOBODYS: free it */
	_Alignas(64) uint8_t data[];
};

/* Gives one with room for cap bytes. */
struct parcel *parcel_new(uint32_t cap, uint8_t origin);
/* Releases what is in it, undelivered, and frees it. */
void parcel_free(struct parcel *p);
/* Bytes a message takes in a parcel. */
uint32_t parcel_message_bytes(uint16_t tag);
/* Appends header and body; the caller's copy of the slices is no longer its own. There must be room (checked). */
void parcel_put(struct parcel *p, const struct msg *m);

#endif
