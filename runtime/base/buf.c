/* Ref-counted chunks, slices and the writer. Contracts in buf.h. */
#include "runtime/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

enum { WRITER_FIRST = 256, COMPACT_SLACK = 4 };

struct buf *buf_new(uint32_t cap)
{
	struct buf *b = malloc(sizeof(*b) + cap);

	check(b != NULL);
	*b = (struct buf){.refs = 1, .cap = cap};
	return b;
}

void buf_free(struct buf *b)
{
	free(b);
}

void buf_unref(struct buf *b)
{
	check(b->refs > 0);
	if (--b->refs > 0)
		return;
	if (b->pool)
		b->pool->give_back(b->pool, b);
	else
		free(b);
}

struct slice slice_sub(const struct slice *s, uint32_t off, uint32_t len)
{
	check((uint64_t)off + len <= s->len);
	if (len == 0)
		return (struct slice){0};
	return (struct slice){.buf = buf_ref(s->buf), .off = s->off + off, .len = len};
}

struct slice slice_copy(const void *bytes, uint32_t len)
{
	struct slice s = {0};

	if (len == 0)
		return s;
	s.buf = buf_new(len);
	s.len = len;
	memcpy(s.buf->data, bytes, len);
	return s;
}

void slice_release(struct slice *s)
{
	if (s->buf)
		buf_unref(s->buf);
	*s = (struct slice){0};
}

static void slice_replace_by_copy(struct slice *s)
{
	struct slice copy = slice_copy(slice_data(s), s->len);

	slice_release(s);
	*s = copy;
}

void slice_compact(struct slice *s)
{
	if (s->buf && (s->buf->pool || s->buf->cap / COMPACT_SLACK > s->len))
		slice_replace_by_copy(s);
}

void slice_privatise(struct slice *s)
{
	if (s->buf && (s->buf->pool || s->buf->refs > 1))
		slice_replace_by_copy(s);
}

void writer_init(struct writer *w, uint32_t max)
{
	*w = (struct writer){.max = max};
}

void writer_release(struct writer *w)
{
	if (w->buf)
		buf_unref(w->buf);
	w->buf = NULL;
	w->len = 0;
}

static bool writer_grow(struct writer *w, uint32_t n)
{
	uint64_t need = (uint64_t)w->len + n, cap = w->buf ? w->buf->cap : WRITER_FIRST;
	struct buf *b;

	if (w->failed || need > w->max) {
		w->failed = true;
		return false;
	}
	while (cap < need)
		cap *= 2;
	if (cap > w->max)
		cap = w->max;
	b = buf_new((uint32_t)cap);
	if (w->buf) {
		memcpy(b->data, w->buf->data, w->len);
		buf_unref(w->buf);
	}
	w->buf = b;
	return true;
}

uint8_t *writer_reserve(struct writer *w, uint32_t n)
{
	uint8_t *p;

	if (unlikely(w->failed || !w->buf || n > w->buf->cap - w->len) && !writer_grow(w, n))
		return NULL;
	p = w->buf->data + w->len;
	w->len += n;
	return p;
}

void writer_put(struct writer *w, const void *bytes, uint32_t n)
{
	uint8_t *p = n ? writer_reserve(w, n) : NULL;

	if (p)
		memcpy(p, bytes, n);
}

void writer_u8(struct writer *w, uint8_t v)
{
	writer_put(w, &v, 1);
}

void writer_u16(struct writer *w, uint16_t v)
{
	uint8_t b[2];

	store_be16(b, v);
	writer_put(w, b, sizeof(b));
}

void writer_u32(struct writer *w, uint32_t v)
{
	uint8_t b[4];

	store_be32(b, v);
	writer_put(w, b, sizeof(b));
}

void writer_u64(struct writer *w, uint64_t v)
{
	uint8_t b[8];

	store_be64(b, v);
	writer_put(w, b, sizeof(b));
}

void writer_str(struct writer *w, const char *s)
{
	writer_put(w, s, (uint32_t)strlen(s) + 1);
}

void writer_text(struct writer *w, const char *s)
{
	writer_put(w, s, (uint32_t)strlen(s));
}

void writer_printf(struct writer *w, const char *fmt, ...)
{
	va_list ap;
	int n;
	uint8_t *p;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !(p = writer_reserve(w, (uint32_t)n + 1))) {
		w->failed = true;
		return;
	}
	va_start(ap, fmt);
	vsnprintf((char *)p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	w->len--; /* the NUL isn't part of the text */
}

void writer_set_u32(struct writer *w, uint32_t at, uint32_t v)
{
	if (w->failed)
		return;
	check((uint64_t)at + 4 <= w->len);
	store_be32(w->buf->data + at, v);
}

struct slice writer_take(struct writer *w)
{
	struct slice s = {0};

	if (!w->failed && w->len > 0) {
		s = (struct slice){.buf = w->buf, .len = w->len};
		w->buf = NULL;
	}
	writer_release(w);
	return s;
}
