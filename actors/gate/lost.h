/*
 * What a client is told when its request can't be answered: pure decisions, from what is known to what is said.
 *
 * A connection goes on only where the client can't be misled: it is at the start of an answer, outside a transaction,
 * and owns no state in the backend that is gone. Otherwise it is closed, as Postgres itself does.
 */
#ifndef ACTORS_GATE_LOST_H
#define ACTORS_GATE_LOST_H

#include <stdbool.h>
#include <stdint.h>

struct lost_facts {
	bool sent; /* something had reached Postgres */
	bool answering; /* a part of an answer has been passed on */
	bool in_batch; /* the client hasn't sent its Sync */
	bool in_transaction; /* the last ReadyForQuery said T or E */
	bool pinned; /* the session had state in the backend */
	bool may_commit; /* what was outstanding may have committed */
	uint32_t outstanding; /* ReadyForQuery owed */
};

struct lost_verdict {
	bool close; /* FATAL and the end; else one ERROR and ReadyForQuery for each unit owed */
	bool unknown; /* the outcome is unknown: 08007 */
};

struct lost_verdict lost_decide(const struct lost_facts *f);

#endif
