/*
 * Following a backend's answer, only as far as the gate's own doings need it: to take out the one answer to a message
 * that the gate, not the client, put in front of a batch; to know whether the client's Parses of the unnamed statement
 * succeeded; and to know that Postgres waits for copy data. Pure: only 5-byte headers are read, nothing is copied.
 * Most answers are never followed at all.
 *
 *	sent      | Parse (ours) | Bind D E Sync        <- client's batch
 *	answered  | 1 (taken out)| 2 T D C Z
 *
 * A swallowed answer ('1' ParseComplete, '3' CloseComplete) is a bare header, so it is taken out as five bytes. Where
 * a chunk ends inside a header while one is still to be swallowed, the part is held back until its type is decided.
 */
#ifndef ACTORS_GATE_ANSWERS_H
#define ACTORS_GATE_ANSWERS_H

#include <stdbool.h>
#include <stdint.h>

struct answers {
	uint32_t skip; /* bytes of a message's body still to come */
	uint32_t parses, parsed; /* Parses sent, ParseCompletes seen */
	uint8_t head[5]; /* a header that came in part */
	uint8_t n_head;
	uint8_t swallow; /* '1', '3', or 0 */
	bool copy; /* a COPY may begin: what its first answer is, is awaited */
	bool copy_in; /* it was CopyInResponse: Postgres reads the client's copy data */
	bool on; /* being followed */
};

/* What to pass on: head bytes held back before, then bytes [0, before) and [from, to) of what was given. */
struct answers_cut {
	uint8_t head[5];
	uint8_t n_head;
	uint32_t before, from, to;
};

/* Begins at the start of a message. swallow: the type of the answer that is to be taken out, 0: none. */
void answers_begin(struct answers *a, uint8_t swallow);
void answers_scan(struct answers *a, const uint8_t *p, uint32_t n, struct answers_cut *out);

#endif
