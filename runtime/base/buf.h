/*
 * Buffers: ref-counted chunks of bytes, slices of them, and a growing bounded writer.
 *
 * A `struct buf` is a chunk with a plain (not atomic) count: it belongs to one worker. A slice is a view that
 * holds one count. Sending a slice in a message moves the count. Before a message leaves its worker the runtime
 * calls slice_privatise, so that no count is ever shared between threads.
 *
 * A small slice of a big read chunk keeps the whole chunk alive: who keeps bytes beyond the turn in which they
 * came calls slice_compact first.
 */
#ifndef RUNTIME_BASE_BUF_H
#define RUNTIME_BASE_BUF_H

#include <stdint.h>

#include "runtime/base/status.h"

struct buf;

/* Where chunks come from and go back to. `give_back` takes a chunk whose count fell to zero. NULL pool: the heap. */
struct buf_pool {
	void (*give_back)(struct buf_pool *pool, struct buf *b);
};

struct buf {
	uint32_t refs;
	uint32_t cap; /* bytes in data */
	struct buf_pool *pool;
	uint8_t data[];
};

struct slice {
	struct buf *buf; /* NULL: the empty slice */
	uint32_t off, len; /* bytes */
};

/* Gives a chunk with one count, from the heap; panics when memory is gone. */
struct buf *buf_new(uint32_t cap);
void buf_free(struct buf *b); /* heap chunks only; used by pools at their own end */

static inline struct buf *buf_ref(struct buf *b)
{
	b->refs++;
	return b;
}

void buf_unref(struct buf *b);

static inline const uint8_t *slice_data(const struct slice *s)
{
	return s->buf ? s->buf->data + s->off : (const uint8_t *)"";
}

/* A new slice of the same chunk, counted. `off + len` must lie inside `s` (checked). */
struct slice slice_sub(const struct slice *s, uint32_t off, uint32_t len);

/* Gives a slice on a fresh chunk that holds a copy of the bytes. len 0 gives the empty slice. */
struct slice slice_copy(const void *bytes, uint32_t len);

/* Drops the slice's count and empties it. Harmless on the empty slice. */
void slice_release(struct slice *s);

/* Moves `s` out: gives what it held and leaves it empty. */
static inline struct slice slice_take(struct slice *s)
{
	struct slice out = *s;

	*s = (struct slice){0};
	return out;
}

/* Replaces a slice of a pooled or much larger chunk by a private copy of just its bytes. */
void slice_compact(struct slice *s);

/* Makes sure that no other slice shares the chunk and that it is not pooled, so that it may change threads. */
void slice_privatise(struct slice *s);

/*
 * A writer: bytes appended to a chunk that grows up to `max`. Overflow is remembered, so a message can be built
 * without looking at each step and the failure asked for once at the end.
 */
struct writer {
	struct buf *buf;
	uint32_t len, max;
	bool failed;
};

void writer_init(struct writer *w, uint32_t max);
void writer_release(struct writer *w);
/* Room for n more bytes, or NULL (and failed is set). Valid until the next call. */
uint8_t *writer_reserve(struct writer *w, uint32_t n);
void writer_put(struct writer *w, const void *bytes, uint32_t n);
void writer_u8(struct writer *w, uint8_t v);
void writer_u16(struct writer *w, uint16_t v); /* big-endian, as on Postgres's wire */
void writer_u32(struct writer *w, uint32_t v);
void writer_u64(struct writer *w, uint64_t v);
void writer_str(struct writer *w, const char *s); /* with its NUL */
void writer_text(struct writer *w, const char *s); /* without NUL */
void writer_printf(struct writer *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
void writer_set_u32(struct writer *w, uint32_t at, uint32_t v); /* patches a length written earlier */
/* Gives the bytes written as a slice and resets the writer. The empty slice when it failed or holds nothing. */
struct slice writer_take(struct writer *w);

#endif
