/*
 * Messages as bytes: msgpack, driven by the catalog. Packing uses msgpack-c; decoding uses a bounded cursor of our
 * own, since msgpack-c's unpacker reserves gigabytes for five hostile bytes (notes, finding 6).
 *
 *	envelope = [tag, bits, status, from, to, corr, deadline_left_us, trace, body]     body = [field, ...]
 *	pid = 16-byte bin, big-endian node then local; str, bin, unsigned and signed integers as msgpack has them
 */
#ifndef RUNTIME_CORE_CODEC_H
#define RUNTIME_CORE_CODEC_H

#include "runtime/base/buf.h"
#include "runtime/core/worker.h"

enum { MSG_WIRE_MAX = 20 << 20 }; /* bytes of one encoded message */

/* Appends the message; writer's `failed` is set when it doesn't fit. now_us turns the deadline into time left. */
void msg_encode(struct msg *m, uint64_t now_us, struct writer *out);
/* Reads one message; gives it from the worker's slabs. E_INVALID: not ours; E_LIMIT: a field over its maximum. */
enum status msg_decode(
	struct worker *w, const uint8_t *p, size_t n, uint64_t now_us, struct msg **out) MUST_CHECK;
/* Only the body, for stores: the array of fields. */
void msg_encode_body(const struct msg_desc *d, const void *body, struct writer *out);
enum status msg_decode_body(const struct msg_desc *d, const uint8_t *p, size_t n, void *body) MUST_CHECK;
/* Releases the slices of a body. */
void msg_release_body(const struct msg_desc *d, void *body);
/* One line for people: TIMER{key: 1, seq: 2}; long fields are cut. */
void msg_print(const struct msg *m, struct writer *out);

/* The bounded cursor, for other msgpack input from outside (mgctl, store). Every get fails with E_INVALID on type or end. */
struct unpack {
	const uint8_t *p, *end;
	uint32_t depth;
};

enum status unpack_array(struct unpack *u, uint32_t *n) MUST_CHECK; /* n is at most the bytes left */
enum status unpack_map(struct unpack *u, uint32_t *n) MUST_CHECK;
enum status unpack_u64(struct unpack *u, uint64_t *v) MUST_CHECK;
enum status unpack_i64(struct unpack *u, int64_t *v) MUST_CHECK;
enum status unpack_str(struct unpack *u, const char **s, uint32_t *n) MUST_CHECK; /* points into the input */
enum status unpack_bin(struct unpack *u, const uint8_t **p, uint32_t *n) MUST_CHECK;
enum status unpack_skip(struct unpack *u) MUST_CHECK; /* depth and length bounded */

#endif
