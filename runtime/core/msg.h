/*
 * Messages: a header of one cache line, then the struct of the catalog. Sending moves a message; whoever holds it
 * owns it and the slices in it.
 *
 * A request is a message with a correlation. Its obligation to be answered travels with it: it is settled by
 * actor_reply, and if it is freed, dropped or dies with its holder instead, the asker is told so. Hence every ask
 * settles exactly once.
 */
#ifndef RUNTIME_CORE_MSG_H
#define RUNTIME_CORE_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/core/pid.h"

struct actor;

enum { MSG_SIZE_CLASSES = 8 };

enum msg_bits {
	MSG_CLASS_MASK = 7, /* which slab the message came from */
	MSG_IS_REQUEST = 8, /* corr names the asker's ask; somebody owes an answer */
	MSG_IS_REPLY = 16, /* corr names the receiver's own ask */
	MSG_TRACED = 32, /* handling it is reported to the tracer */
};

struct msg {
	struct msg *next; /* of whatever queue holds it */
	struct pid from, to;
	uint64_t corr;
	uint64_t
		deadline_us; /* absolute, this node's monotonic clock; 0: none. Expired ones aren't handled */
	uint16_t tag;
	uint8_t status; /* enum status of a reply */
	uint8_t bits;
	uint32_t trace; /* inherited by what is sent while it is handled; 0: none */
	_Alignas(16) uint8_t body[];
};

_Static_assert(sizeof(struct msg) == 64, "a message header is one cache line");

static inline void *msg_body(struct msg *m)
{
	return m->body;
}

/* Gives a zeroed message of that tag from the actor's worker. The tag must be in the catalog (checked). */
struct msg *actor_msg_new(struct actor *self, uint16_t tag);

#endif
