/* Packing with msgpack-c, decoding with the bounded cursor. Formats in codec.h. */
#include "runtime/core/codec.h"

#include <inttypes.h>
#include <msgpack.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/core/internal.h"

enum { ENVELOPE_FIELDS = 9, PID_BYTES = 16, SKIP_DEPTH_MAX = 16, PRINT_FIELD_MAX = 64 };

/* ---- packing ----------------------------------------------------------------------------------------------- */

static int pack_write(void *data, const char *bytes, size_t n)
{
	struct writer *out = data;

	if (n > UINT32_MAX) {
		out->failed = true;
		return -1;
	}
	writer_put(out, bytes, (uint32_t)n);
	return out->failed ? -1 : 0;
}

static void pack_pid(msgpack_packer *pk, struct pid p)
{
	uint8_t b[PID_BYTES];

	store_be64(b, p.node);
	store_be64(b + 8, p.local);
	msgpack_pack_bin(pk, sizeof(b));
	msgpack_pack_bin_body(pk, b, sizeof(b));
}

static void pack_field(msgpack_packer *pk, const struct msg_field *f, const uint8_t *body)
{
	const void *p = body + f->offset;
	const struct slice *s = p;
	size_t n;

	switch (f->type) {
	case FIELD_u8:
		msgpack_pack_uint8(pk, *(const uint8_t *)p);
		break;
	case FIELD_u16:
		msgpack_pack_uint16(pk, *(const uint16_t *)p);
		break;
	case FIELD_u32:
		msgpack_pack_uint32(pk, *(const uint32_t *)p);
		break;
	case FIELD_u64:
		msgpack_pack_uint64(pk, *(const uint64_t *)p);
		break;
	case FIELD_i64:
		msgpack_pack_int64(pk, *(const int64_t *)p);
		break;
	case FIELD_pid:
		pack_pid(pk, *(const struct pid *)p);
		break;
	case FIELD_str:
		n = strlen(p);
		msgpack_pack_str(pk, n);
		msgpack_pack_str_body(pk, p, n);
		break;
	case FIELD_bin:
		msgpack_pack_bin(pk, s->len);
		msgpack_pack_bin_body(pk, slice_data(s), s->len);
		break;
	}
}

void msg_encode_body(const struct msg_desc *d, const void *body, struct writer *out)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, out, pack_write);
	msgpack_pack_array(&pk, d->n_fields);
	for (uint32_t i = 0; i < d->n_fields; i++)
		pack_field(&pk, &d->fields[i], body);
}

void msg_encode(struct msg *m, uint64_t now_us, struct writer *out)
{
	uint64_t left = !m->deadline_us ? 0 : m->deadline_us > now_us ? m->deadline_us - now_us : 1;
	msgpack_packer pk;

	msgpack_packer_init(&pk, out, pack_write);
	msgpack_pack_array(&pk, ENVELOPE_FIELDS);
	msgpack_pack_uint16(&pk, m->tag);
	msgpack_pack_uint8(&pk, m->bits & (MSG_IS_REQUEST | MSG_IS_REPLY | MSG_TRACED));
	msgpack_pack_uint8(&pk, m->status);
	pack_pid(&pk, m->from);
	pack_pid(&pk, m->to);
	msgpack_pack_uint64(&pk, m->corr);
	msgpack_pack_uint64(&pk, left);
	msgpack_pack_uint32(&pk, m->trace);
	msg_encode_body(catalog_find(m->tag), m->body, out);
}

/* ---- the cursor -------------------------------------------------------------------------------------------- */

static bool take(struct unpack *u, size_t n, const uint8_t **p)
{
	if ((size_t)(u->end - u->p) < n)
		return false;
	*p = u->p;
	u->p += n;
	return true;
}

/* A big-endian number of 1, 2, 4 or 8 bytes. */
static bool take_be(struct unpack *u, uint32_t n, uint64_t *v)
{
	const uint8_t *p;

	if (!take(u, n, &p))
		return false;
	*v = 0;
	for (uint32_t i = 0; i < n; i++)
		*v = *v << 8 | p[i];
	return true;
}

/* Heads of the families that have a short form and lengths of 1, 2 and 4 bytes. */
static enum status take_length(
	struct unpack *u, uint8_t fix, uint8_t fix_mask, uint8_t len8, uint8_t len16, uint64_t *n)
{
	const uint8_t *head;

	if (!take(u, 1, &head))
		return E_INVALID;
	if (fix_mask && (*head & (uint8_t)~fix_mask) == fix) {
		*n = *head & fix_mask;
		return OK;
	}
	if (len8 && *head == len8)
		return take_be(u, 1, n) ? OK : E_INVALID;
	if (*head == len16)
		return take_be(u, 2, n) ? OK : E_INVALID;
	if (*head == len16 + 1)
		return take_be(u, 4, n) ? OK : E_INVALID;
	return E_INVALID;
}

static enum status take_count(struct unpack *u, uint8_t fix, uint8_t len16, uint32_t each, uint32_t *n)
{
	uint64_t v;
	enum status st = take_length(u, fix, 0x0f, 0, len16, &v);

	if (st != OK || v * each > (uint64_t)(u->end - u->p))
		return E_INVALID;
	*n = (uint32_t)v;
	return OK;
}

enum status unpack_array(struct unpack *u, uint32_t *n)
{
	return take_count(u, 0x90, 0xdc, 1, n);
}

enum status unpack_map(struct unpack *u, uint32_t *n)
{
	return take_count(u, 0x80, 0xde, 2, n);
}

enum status unpack_i64(struct unpack *u, int64_t *v)
{
	const uint8_t *head;
	uint64_t raw = 0;

	if (!take(u, 1, &head))
		return E_INVALID;
	if (*head <= 0x7f || *head >= 0xe0) {
		*v = (int8_t)*head;
		return OK;
	}
	if (*head >= 0xcc && *head <= 0xcf) {
		if (!take_be(u, 1u << (*head - 0xcc), &raw) || raw > INT64_MAX)
			return E_INVALID;
		*v = (int64_t)raw;
		return OK;
	}
	if (*head < 0xd0 || *head > 0xd3 || !take_be(u, 1u << (*head - 0xd0), &raw))
		return E_INVALID;
	*v = *head == 0xd0   ? (int8_t)raw
	     : *head == 0xd1 ? (int16_t)raw
	     : *head == 0xd2 ? (int32_t)raw
			     : (int64_t)raw;
	return OK;
}

enum status unpack_u64(struct unpack *u, uint64_t *v)
{
	struct unpack start = *u;
	int64_t i;

	if (u->p < u->end && *u->p == 0xcf) {
		u->p++;
		return take_be(u, 8, v) ? OK : E_INVALID;
	}
	if (unpack_i64(u, &i) != OK || i < 0) {
		*u = start;
		return E_INVALID;
	}
	*v = (uint64_t)i;
	return OK;
}

enum status unpack_str(struct unpack *u, const char **s, uint32_t *n)
{
	const uint8_t *p;
	uint64_t len;

	if (take_length(u, 0xa0, 0x1f, 0xd9, 0xda, &len) != OK || !take(u, len, &p))
		return E_INVALID;
	*s = (const char *)p;
	*n = (uint32_t)len;
	return OK;
}

enum status unpack_bin(struct unpack *u, const uint8_t **p, uint32_t *n)
{
	uint64_t len;

	if (take_length(u, 0, 0, 0xc4, 0xc5, &len) != OK || !take(u, len, p))
		return E_INVALID;
	*n = (uint32_t)len;
	return OK;
}

/* Bytes that follow the head of a value with a fixed size; -1 when it isn't one. */
static int fixed_size(uint8_t head)
{
	if (head <= 0x7f || head >= 0xe0 || head == 0xc0 || head == 0xc2 || head == 0xc3)
		return 0;
	if (head == 0xca)
		return 4;
	if (head == 0xcb)
		return 8;
	if (head >= 0xcc && head <= 0xcf)
		return 1 << (head - 0xcc);
	if (head >= 0xd0 && head <= 0xd3)
		return 1 << (head - 0xd0);
	if (head >= 0xd4 && head <= 0xd8)
		return 1 + (1 << (head - 0xd4));
	return -1;
}

static enum status skip_ext(struct unpack *u, uint8_t head)
{
	const uint8_t *p;
	uint64_t len;

	if (!take_be(u, 1u << (head - 0xc7), &len) || !take(u, len + 1, &p))
		return E_INVALID;
	return OK;
}

enum status unpack_skip(struct unpack *u)
{
	const uint8_t *p;
	uint8_t head;
	uint32_t n;
	int size;

	if (u->p >= u->end || u->depth >= SKIP_DEPTH_MAX)
		return E_INVALID;
	head = *u->p;
	size = fixed_size(head);
	if (size >= 0)
		return take(u, 1 + (size_t)size, &p) ? OK : E_INVALID;
	if ((head & 0xe0) == 0xa0 || (head >= 0xd9 && head <= 0xdb))
		return unpack_str(u, (const char **)&p, &n);
	if (head >= 0xc4 && head <= 0xc6)
		return unpack_bin(u, &p, &n);
	if (head >= 0xc7 && head <= 0xc9) {
		u->p++;
		return skip_ext(u, head);
	}
	if ((head & 0xf0) == 0x80 || head == 0xde || head == 0xdf) {
		if (unpack_map(u, &n) != OK)
			return E_INVALID;
		n *= 2;
	} else if (unpack_array(u, &n) != OK) {
		return E_INVALID;
	}
	u->depth++;
	for (; n > 0; n--)
		if (unpack_skip(u) != OK)
			return E_INVALID;
	u->depth--;
	return OK;
}

/* ---- decoding ---------------------------------------------------------------------------------------------- */

static enum status unpack_pid(struct unpack *u, struct pid *out)
{
	const uint8_t *p;
	uint32_t n;

	if (unpack_bin(u, &p, &n) != OK || n != PID_BYTES)
		return E_INVALID;
	*out = (struct pid){load_be64(p), load_be64(p + 8)};
	return OK;
}

static enum status unpack_uint_max(struct unpack *u, uint64_t max, uint64_t *v)
{
	enum status st = unpack_u64(u, v);

	return st != OK ? st : *v > max ? E_LIMIT : OK;
}

static enum status decode_str(struct unpack *u, uint32_t max, char *out)
{
	const char *s;
	uint32_t n;

	if (unpack_str(u, &s, &n) != OK || memchr(s, '\0', n))
		return E_INVALID;
	if (n > max)
		return E_LIMIT;
	memcpy(out, s, n);
	out[n] = '\0';
	return OK;
}

static enum status decode_bin(struct unpack *u, uint32_t max, struct slice *out)
{
	const uint8_t *p;
	uint32_t n;

	if (unpack_bin(u, &p, &n) != OK)
		return E_INVALID;
	if (n > max)
		return E_LIMIT;
	*out = slice_copy(p, n);
	return OK;
}

static enum status decode_field(struct unpack *u, const struct msg_field *f, uint8_t *body)
{
	void *p = body + f->offset;
	enum status st = OK;
	uint64_t v = 0;

	switch (f->type) {
	case FIELD_u8:
		st = unpack_uint_max(u, UINT8_MAX, &v);
		*(uint8_t *)p = (uint8_t)v;
		return st;
	case FIELD_u16:
		st = unpack_uint_max(u, UINT16_MAX, &v);
		*(uint16_t *)p = (uint16_t)v;
		return st;
	case FIELD_u32:
		st = unpack_uint_max(u, UINT32_MAX, &v);
		*(uint32_t *)p = (uint32_t)v;
		return st;
	case FIELD_u64:
		return unpack_u64(u, p);
	case FIELD_i64:
		return unpack_i64(u, p);
	case FIELD_pid:
		return unpack_pid(u, p);
	case FIELD_str:
		return decode_str(u, f->max, p);
	case FIELD_bin:
		return decode_bin(u, f->max, p);
	}
	return E_INTERNAL;
}

static enum status decode_body(const struct msg_desc *d, struct unpack *u, void *body)
{
	uint32_t n;
	enum status st;

	memset(body, 0, d->size);
	if (unpack_array(u, &n) != OK)
		return E_INVALID;
	for (uint32_t i = 0; i < n; i++) {
		st = i < d->n_fields ? decode_field(u, &d->fields[i], body) : unpack_skip(u);
		if (st != OK) {
			msg_release_body(d, body);
			return st;
		}
	}
	return OK;
}

enum status msg_decode_body(const struct msg_desc *d, const uint8_t *p, size_t n, void *body)
{
	struct unpack u = {.p = p, .end = p + n};

	return decode_body(d, &u, body);
}

void msg_release_body(const struct msg_desc *d, void *body)
{
	for (uint32_t i = 0; i < d->n_fields; i++)
		if (d->fields[i].type == FIELD_bin)
			slice_release((struct slice *)(void *)((uint8_t *)body + d->fields[i].offset));
}

static enum status decode_envelope(struct unpack *u, struct msg *head, uint64_t *left_us)
{
	uint64_t tag, bits, status, trace;
	uint32_t n;

	if (unpack_array(u, &n) != OK || n != ENVELOPE_FIELDS || unpack_uint_max(u, UINT16_MAX, &tag) != OK ||
		unpack_uint_max(u, UINT8_MAX, &bits) != OK ||
		unpack_uint_max(u, STATUS_COUNT - 1, &status) != OK || unpack_pid(u, &head->from) != OK ||
		unpack_pid(u, &head->to) != OK || unpack_u64(u, &head->corr) != OK ||
		unpack_u64(u, left_us) != OK || unpack_uint_max(u, UINT32_MAX, &trace) != OK)
		return E_INVALID;
	head->tag = (uint16_t)tag;
	head->bits = (uint8_t)(bits & (MSG_IS_REQUEST | MSG_IS_REPLY | MSG_TRACED));
	head->status = (uint8_t)status;
	head->trace = (uint32_t)trace;
	if ((head->bits & MSG_IS_REQUEST) && (head->bits & MSG_IS_REPLY))
		return E_INVALID;
	return OK;
}

enum status msg_decode(struct worker *w, const uint8_t *p, size_t n, uint64_t now_us, struct msg **out)
{
	struct unpack u = {.p = p, .end = p + n};
	struct msg head = {0};
	uint64_t left_us = 0;
	struct msg *m;
	enum status st;

	if (n > MSG_WIRE_MAX)
		return E_LIMIT;
	st = decode_envelope(&u, &head, &left_us);
	if (st != OK || !catalog_find(head.tag))
		return E_INVALID;
	m = worker_msg_new(w, head.tag);
	m->from = head.from;
	m->to = head.to;
	m->corr = head.corr;
	m->status = head.status;
	m->trace = head.trace;
	m->bits |= head.bits;
	if (left_us)
		m->deadline_us = left_us > UINT64_MAX - now_us ? UINT64_MAX : now_us + left_us;
	st = decode_body(catalog_find(head.tag), &u, m->body);
	if (st == OK && u.p != u.end) {
		msg_release_body(catalog_find(head.tag), m->body);
		st = E_INVALID;
	}
	if (st != OK) {
		worker_msg_moved(w, m);
		return st;
	}
	*out = m;
	return OK;
}

/* ---- printing ---------------------------------------------------------------------------------------------- */

static void print_bytes(struct writer *out, const uint8_t *p, uint32_t n)
{
	uint32_t shown = n < PRINT_FIELD_MAX ? n : PRINT_FIELD_MAX;

	writer_u8(out, '"');
	for (uint32_t i = 0; i < shown; i++) {
		if (p[i] >= ' ' && p[i] < 0x7f && p[i] != '"' && p[i] != '\\')
			writer_u8(out, p[i]);
		else
			writer_printf(out, "\\x%02x", p[i]);
	}
	writer_u8(out, '"');
	if (shown < n)
		writer_printf(out, "... (%u bytes)", n);
}

static void print_field(struct writer *out, const struct msg_field *f, const uint8_t *body)
{
	const void *p = body + f->offset;
	const struct slice *s = p;
	char text[PID_TEXT_MAX];

	writer_printf(out, "%s: ", f->name);
	switch (f->type) {
	case FIELD_u8:
		writer_printf(out, "%u", *(const uint8_t *)p);
		break;
	case FIELD_u16:
		writer_printf(out, "%u", *(const uint16_t *)p);
		break;
	case FIELD_u32:
		writer_printf(out, "%u", *(const uint32_t *)p);
		break;
	case FIELD_u64:
		writer_printf(out, "%" PRIu64, *(const uint64_t *)p);
		break;
	case FIELD_i64:
		writer_printf(out, "%" PRId64, *(const int64_t *)p);
		break;
	case FIELD_pid:
		writer_text(out, pid_format(*(const struct pid *)p, text));
		break;
	case FIELD_str:
		print_bytes(out, p, (uint32_t)strlen(p));
		break;
	case FIELD_bin:
		print_bytes(out, slice_data(s), s->len);
		break;
	}
}

void msg_print(const struct msg *m, struct writer *out)
{
	const struct msg_desc *d = catalog_find(m->tag);

	writer_printf(out, "%s{", d->name);
	for (uint32_t i = 0; i < d->n_fields; i++) {
		if (i)
			writer_text(out, ", ");
		print_field(out, &d->fields[i], m->body);
	}
	writer_u8(out, '}');
}
