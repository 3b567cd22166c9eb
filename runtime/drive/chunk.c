/*
 * Read chunks: where the bytes of all sockets of a worker are read into. There is one current chunk; a read goes to its
 * free tail and the message carries a counted slice of it. When nobody holds a slice any more the chunk starts over, so
 * the steady path allocates and copies nothing, and an idle connection holds no buffer.
 *
 *	|-- handed out, counted --|-- room for the next read --|
 *	0                         chunk_used                   CHUNK_BYTES
 */
#include "runtime/drive/internal.h"

static void chunk_give_back(struct buf_pool *pool, struct buf *b)
{
	struct loop *l = CONTAINER_OF(pool, struct loop, chunk_pool);

	if (l->n_free_chunks < CHUNKS_KEPT)
		l->free_chunks[l->n_free_chunks++] = b;
	else
		buf_free(b);
}

static struct buf *chunk_new(struct loop *l)
{
	struct buf *b;

	if (l->n_free_chunks) {
		b = l->free_chunks[--l->n_free_chunks];
		b->refs = 1;
		return b;
	}
	b = buf_new(CHUNK_BYTES);
	l->chunk_pool.give_back = chunk_give_back;
	b->pool = &l->chunk_pool;
	return b;
}

/* Room of at least `room` (at most CHUNK_BYTES) bytes at *at, *size of them; nothing is taken yet. */
struct buf *drive_chunk(struct loop *l, uint32_t room, uint8_t **at, uint32_t *size)
{
	if (l->chunk && l->chunk->refs == 1)
		l->chunk_used = 0;
	if (!l->chunk || CHUNK_BYTES - l->chunk_used < room) {
		if (l->chunk)
			buf_unref(l->chunk);
		l->chunk = chunk_new(l);
		l->chunk_used = 0;
	}
	*at = l->chunk->data + l->chunk_used;
	*size = CHUNK_BYTES - l->chunk_used;
	return l->chunk;
}

/* The first n bytes of that room as a slice. */
struct slice drive_chunk_take(struct loop *l, uint32_t n)
{
	struct slice s = {.buf = buf_ref(l->chunk), .off = l->chunk_used, .len = n};

	check(n > 0 && n <= CHUNK_BYTES - l->chunk_used);
	l->chunk_used += (n + 15) & ~15u;
	if (l->chunk_used > CHUNK_BYTES)
		l->chunk_used = CHUNK_BYTES;
	return s;
}

void drive_chunks_release(struct loop *l)
{
	if (l->chunk)
		buf_unref(l->chunk);
	l->chunk = NULL;
	while (l->n_free_chunks)
		buf_free(l->free_chunks[--l->n_free_chunks]);
}
