/* `mgctl send`: a message of the catalog from named fields, driven by the catalog's descriptors. */
#include <inttypes.h>

#include "runtime/base/bytes.h"
#include "supervisor/admin.h"

static const struct msg_field *find_field(const struct msg_desc *d, const char *name, uint32_t n)
{
	for (uint32_t i = 0; i < d->n_fields; i++)
		if (strlen(d->fields[i].name) == n && memcmp(d->fields[i].name, name, n) == 0)
			return &d->fields[i];
	return NULL;
}

static enum status bad(const struct msg_field *f, struct error *err, const char *expected)
{
	return error_set(err, E_INVALID, "22023", "field \"%s\": expected %s", f->name, expected);
}

static enum status fill_unsigned(
	const struct msg_field *f, void *at, struct unpack *u, uint64_t max, struct error *err)
{
	char expected[64];
	uint64_t v;

	if (unpack_u64(u, &v) || v > max) {
		snprintf(expected, sizeof(expected), "a whole number from 0 to %" PRIu64, max);
		return bad(f, err, expected);
	}
	switch (f->type) {
	case FIELD_u8:
		*(uint8_t *)at = (uint8_t)v;
		break;
	case FIELD_u16:
		*(uint16_t *)at = (uint16_t)v;
		break;
	case FIELD_u32:
		*(uint32_t *)at = (uint32_t)v;
		break;
	default:
		*(uint64_t *)at = v;
		break;
	}
	return OK;
}

static enum status fill_pid(
	struct actor *self, const struct msg_field *f, struct pid *out, struct unpack *u, struct error *err)
{
	char text[PID_TEXT_MAX];
	const char *s;
	uint32_t n;

	if (unpack_str(u, &s, &n) || n >= sizeof(text))
		return bad(f, err, "an actor's name or pid");
	memcpy(text, s, n);
	text[n] = '\0';
	if (text[0] == '<' ? pid_parse(text, actor_pid(self).node, out) != OK
			   : pid_is_none(*out = actor_whereis(self, text)))
		return bad(f, err, "an actor's name or pid");
	return OK;
}

static enum status fill_field(
	struct actor *self, const struct msg_field *f, void *body, struct unpack *u, struct error *err)
{
	void *at = (char *)body + f->offset;
	struct unpack again = *u;
	const uint8_t *bytes;
	const char *s;
	uint32_t n;
	char expected[64];

	snprintf(expected, sizeof(expected), "a text of at most %u bytes", f->max);
	switch (f->type) {
	case FIELD_u8:
		return fill_unsigned(f, at, u, UINT8_MAX, err);
	case FIELD_u16:
		return fill_unsigned(f, at, u, UINT16_MAX, err);
	case FIELD_u32:
		return fill_unsigned(f, at, u, UINT32_MAX, err);
	case FIELD_u64:
		return fill_unsigned(f, at, u, UINT64_MAX, err);
	case FIELD_i64:
		return unpack_i64(u, at) ? bad(f, err, "a whole number") : OK;
	case FIELD_pid:
		return fill_pid(self, f, at, u, err);
	case FIELD_str:
		if (unpack_str(u, &s, &n) || n > f->max || memchr(s, '\0', n))
			return bad(f, err, expected);
		memcpy(at, s, n);
		return OK;
	case FIELD_bin:
		if (unpack_bin(u, &bytes, &n)) {
			*u = again;
			if (unpack_str(u, &s, &n))
				return bad(f, err, "a text, or {\"hex\": \"...\"}");
			bytes = (const uint8_t *)s;
		}
		if (n > f->max)
			return bad(f, err, expected);
		slice_release(at);
		*(struct slice *)at = slice_copy(bytes, n);
		return OK;
	}
	return E_INTERNAL;
}

enum status inject_fill(
	struct actor *self, const struct msg_desc *d, void *body, struct unpack *map, struct error *err)
{
	uint32_t entries, n;
	const char *name;

	if (unpack_map(map, &entries))
		return error_set(
			err, E_INVALID, "22023", "the fields of %s are expected as a JSON object", d->name);
	for (uint32_t i = 0; i < entries; i++) {
		const struct msg_field *f;
		enum status st;

		if (unpack_str(map, &name, &n))
			return error_set(err, E_INVALID, "22023", "a field's name is expected to be a text");
		f = find_field(d, name, n);
		if (!f)
			return error_set(err, E_NOT_FOUND, "22023", "%s has no field \"%.*s\"", d->name,
				(int)(n > 60 ? 60 : n), name);
		st = fill_field(self, f, body, map, err);
		if (st)
			return st;
	}
	return OK;
}
