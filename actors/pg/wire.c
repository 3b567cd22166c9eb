/* Reading the protocol: frames, the bounded cursor, bodies. See wire.h. Pure. */
#include "actors/pg/wire.h"

#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

enum status wire_frame_peek(const uint8_t *p, uint32_t n, uint32_t max_len, struct wire_frame *out)
{
	uint32_t len;

	if (n < WIRE_HEADER)
		return E_AGAIN;
	len = load_be32(p + 1);
	if (unlikely(len < 4 || len > INT32_MAX))
		return E_PROTOCOL;
	*out = (struct wire_frame){.type = p[0], .len = len + 1};
	return likely(out->len <= max_len) ? OK : E_LIMIT;
}

const uint8_t *wire_get_bytes(struct wire_cursor *c, uint32_t n)
{
	const uint8_t *p = c->p;

	if (unlikely(c->failed || n > wire_left(c))) {
		c->failed = true;
		c->p = c->end;
		return NULL;
	}
	c->p += n;
	return p;
}

uint8_t wire_get_u8(struct wire_cursor *c)
{
	const uint8_t *p = wire_get_bytes(c, 1);

	return p ? *p : 0;
}

uint16_t wire_get_u16(struct wire_cursor *c)
{
	const uint8_t *p = wire_get_bytes(c, 2);

	return p ? load_be16(p) : 0;
}

int32_t wire_get_i32(struct wire_cursor *c)
{
	const uint8_t *p = wire_get_bytes(c, 4);

	return p ? (int32_t)load_be32(p) : 0;
}

uint64_t wire_get_u64(struct wire_cursor *c)
{
	const uint8_t *p = wire_get_bytes(c, 8);

	return p ? load_be64(p) : 0;
}

const char *wire_get_cstring(struct wire_cursor *c)
{
	uint32_t left = wire_left(c);
	const uint8_t *nul = left ? memchr(c->p, 0, left) : NULL;
	const uint8_t *p = wire_get_bytes(c, nul ? (uint32_t)(nul - c->p) + 1 : left + 1);

	return p ? (const char *)p : "";
}

enum status wire_cursor_end(const struct wire_cursor *c)
{
	return c->failed || c->p != c->end ? E_PROTOCOL : OK;
}

enum status wire_read_query(const uint8_t *body, uint32_t n, const char **text, uint32_t *len)
{
	struct wire_cursor c = wire_cursor(body, n);

	*text = wire_get_cstring(&c);
	*len = c.failed ? 0 : (uint32_t)(c.p - body) - 1;
	return wire_cursor_end(&c);
}

enum status wire_read_parse(const uint8_t *body, uint32_t n, struct wire_parse *out)
{
	struct wire_cursor c = wire_cursor(body, n);
	const uint8_t *query_at;

	out->name = wire_get_cstring(&c);
	query_at = c.p;
	out->query = wire_get_cstring(&c);
	out->query_len = c.failed ? 0 : (uint32_t)(c.p - query_at) - 1;
	out->n_types = wire_get_u16(&c);
	out->types = wire_get_bytes(&c, 4 * (uint32_t)out->n_types);
	return wire_cursor_end(&c);
}

enum status wire_read_bind(const uint8_t *body, uint32_t n, struct wire_bind *out)
{
	struct wire_cursor c = wire_cursor(body, n);

	out->portal = wire_get_cstring(&c);
	out->statement = wire_get_cstring(&c);
	out->rest_off = n - wire_left(&c);
	return c.failed ? E_PROTOCOL : OK;
}

enum status wire_check_bind(const uint8_t *body, uint32_t n)
{
	struct wire_cursor c = wire_cursor(body, n);
	uint32_t n_values;

	(void)wire_get_cstring(&c);
	(void)wire_get_cstring(&c);
	(void)wire_get_bytes(&c, 2 * (uint32_t)wire_get_u16(&c));
	n_values = wire_get_u16(&c);
	for (uint32_t i = 0; i < n_values && !c.failed; i++) {
		int32_t len = wire_get_i32(&c);

		if (len < -1)
			return E_PROTOCOL;
		if (len > 0)
			(void)wire_get_bytes(&c, (uint32_t)len);
	}
	(void)wire_get_bytes(&c, 2 * (uint32_t)wire_get_u16(&c));
	return wire_cursor_end(&c);
}

enum status wire_read_target(const uint8_t *body, uint32_t n, struct wire_target *out)
{
	struct wire_cursor c = wire_cursor(body, n);

	out->kind = (char)wire_get_u8(&c);
	out->name = wire_get_cstring(&c);
	if (out->kind != 'S' && out->kind != 'P')
		return E_PROTOCOL;
	return wire_cursor_end(&c);
}

enum status wire_read_execute(const uint8_t *body, uint32_t n, struct wire_execute *out)
{
	struct wire_cursor c = wire_cursor(body, n);

	out->portal = wire_get_cstring(&c);
	out->max_rows = wire_get_i32(&c);
	return wire_cursor_end(&c);
}

enum status wire_read_sasl_initial(const uint8_t *body, uint32_t n, struct wire_sasl_initial *out)
{
	struct wire_cursor c = wire_cursor(body, n);
	int32_t len;

	*out = (struct wire_sasl_initial){.mechanism = wire_get_cstring(&c)};
	len = wire_get_i32(&c);
	if (len < -1)
		return E_PROTOCOL;
	if (len >= 0) {
		out->len = (uint32_t)len;
		out->data = wire_get_bytes(&c, out->len);
	}
	return wire_cursor_end(&c);
}

enum status wire_read_parameter(const uint8_t *body, uint32_t n, struct wire_parameter *out)
{
	struct wire_cursor c = wire_cursor(body, n);

	out->name = wire_get_cstring(&c);
	out->value = wire_get_cstring(&c);
	return wire_cursor_end(&c);
}

enum status wire_read_key(const uint8_t *body, uint32_t n, struct wire_key *out)
{
	struct wire_cursor c = wire_cursor(body, n);

	out->pid = (uint32_t)wire_get_i32(&c);
	out->secret_len = wire_left(&c);
	out->secret = wire_get_bytes(&c, out->secret_len);
	if (c.failed || out->secret_len < WIRE_SECRET_MIN)
		return E_PROTOCOL;
	return out->secret_len > WIRE_SECRET_MAX ? E_LIMIT : OK;
}

enum status wire_read_ready(const uint8_t *body, uint32_t n, char *out)
{
	*out = n == 1 ? (char)body[0] : '\0';
	return *out == 'I' || *out == 'T' || *out == 'E' ? OK : E_PROTOCOL;
}

enum status wire_read_auth(const uint8_t *body, uint32_t n, struct wire_auth *out)
{
	struct wire_cursor c = wire_cursor(body, n);

	out->kind = wire_get_i32(&c);
	out->len = wire_left(&c);
	out->data = wire_get_bytes(&c, out->len);
	if (c.failed)
		return E_PROTOCOL;
	if (out->kind == WIRE_AUTH_MD5 && out->len != 4)
		return E_PROTOCOL;
	/* the list of mechanisms ends with an empty name: checked here, so that wire_auth_offers can trust it */
	if (out->kind == WIRE_AUTH_SASL &&
		(out->len < 2 || out->data[out->len - 1] || out->data[out->len - 2]))
		return E_PROTOCOL;
	return OK;
}

bool wire_auth_offers(const struct wire_auth *a, const char *mechanism)
{
	struct wire_cursor c = wire_cursor(a->data, a->len);

	if (a->kind != WIRE_AUTH_SASL)
		return false;
	for (;;) {
		const char *name = wire_get_cstring(&c);

		if (!*name) /* the end of the list, or of the body */
			return false;
		if (strcmp(name, mechanism) == 0)
			return true;
	}
}

enum status wire_read_tag(const uint8_t *body, uint32_t n, struct wire_tag *out)
{
	struct wire_cursor c = wire_cursor(body, n);
	const char *last;

	*out = (struct wire_tag){.text = wire_get_cstring(&c)};
	last = strrchr(out->text, ' ');
	if (last && last[1]) {
		uint64_t v = 0;

		for (last++; *last >= '0' && *last <= '9' && v <= UINT64_MAX / 10 - 1; last++)
			v = v * 10 + (uint64_t)(*last - '0');
		out->has_rows = *last == '\0';
		out->rows = out->has_rows ? v : 0;
	}
	return wire_cursor_end(&c);
}

enum status wire_read_copy(const uint8_t *body, uint32_t n, struct wire_copy *out)
{
	struct wire_cursor c = wire_cursor(body, n);
	uint8_t format = wire_get_u8(&c);

	out->binary = format == 1;
	out->n_columns = wire_get_u16(&c);
	(void)wire_get_bytes(&c, 2 * (uint32_t)out->n_columns);
	return format > 1 ? E_PROTOCOL : wire_cursor_end(&c);
}

enum status wire_read_notification(const uint8_t *body, uint32_t n, struct wire_notification *out)
{
	struct wire_cursor c = wire_cursor(body, n);

	out->pid = (uint32_t)wire_get_i32(&c);
	out->channel = wire_get_cstring(&c);
	out->payload = wire_get_cstring(&c);
	return wire_cursor_end(&c);
}

const char *wire_fe_name(uint8_t type)
{
	switch (type) {
#define WIRE_CASE(name, byte, text)                                                                          \
	case byte:                                                                                           \
		return text;
		WIRE_FE_LIST(WIRE_CASE)
	default:
		return "unknown";
	}
}

const char *wire_be_name(uint8_t type)
{
	switch (type) {
		WIRE_BE_LIST(WIRE_CASE)
#undef WIRE_CASE
	default:
		return "unknown";
	}
}
