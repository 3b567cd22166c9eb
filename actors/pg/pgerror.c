/* Postgres's error and notice fields. See pgerror.h. Pure. */
#include "actors/pg/pgerror.h"

#include <string.h>

#include "actors/pg/wire.h"
#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

#define PGERROR_STATE(name, code) const char SQLSTATE_##name[6] = code;
PGERROR_SQLSTATE_LIST(PGERROR_STATE)
#undef PGERROR_STATE

struct field {
	char code;
	uint32_t off; /* of the member in struct pgerror */
};

static const struct field fields[] = {
#define PGERROR_FIELD(code, member) {code, offsetof(struct pgerror, member)},
	PGERROR_FIELD_LIST(PGERROR_FIELD)
#undef PGERROR_FIELD
};

static const char **member_of(struct pgerror *e, const struct field *f)
{
	return (const char **)(void *)((char *)e + f->off);
}

static const char *value_of(const struct pgerror *e, const struct field *f)
{
	return *(const char *const *)(const void *)((const char *)e + f->off);
}

enum status pgerror_read(const uint8_t *body, uint32_t n, struct pgerror *out)
{
	struct wire_cursor c = wire_cursor(body, n);
	char code;

	*out = (struct pgerror){0};
	while ((code = (char)wire_get_u8(&c)) != '\0') {
		const char *value = wire_get_cstring(&c);

		for (uint32_t i = 0; i < ARRAY_LEN(fields); i++)
			if (fields[i].code == code)
				*member_of(out, &fields[i]) = value;
	}
	if (!out->sqlstate || strlen(out->sqlstate) != 5 || !out->message)
		return E_PROTOCOL;
	return wire_cursor_end(&c);
}

static void put_fields(struct writer *w, uint8_t type, const char *severity, const struct pgerror *e)
{
	struct pgerror full = *e;
	uint32_t at;

	full.severity = e->severity ? e->severity : severity;
	full.severity_raw = e->severity_raw ? e->severity_raw : full.severity;
	full.sqlstate = e->sqlstate ? e->sqlstate : SQLSTATE_INTERNAL_ERROR;
	full.message = e->message ? e->message : "unknown error";
	writer_u8(w, type);
	at = w->len;
	writer_u32(w, 0);
	for (uint32_t i = 0; i < ARRAY_LEN(fields); i++) {
		const char *value = value_of(&full, &fields[i]);

		if (value) {
			writer_u8(w, (uint8_t)fields[i].code);
			writer_str(w, value);
		}
	}
	writer_u8(w, 0);
	writer_set_u32(w, at, w->len - at);
}

void pgerror_put_error(struct writer *w, const struct pgerror *e)
{
	put_fields(w, BE_ERROR, "ERROR", e);
}

void pgerror_put_notice(struct writer *w, const struct pgerror *e)
{
	put_fields(w, BE_NOTICE, "NOTICE", e);
}

struct pgerror pgerror_from(const struct error *err, const char *severity)
{
	return (struct pgerror){
		.severity = severity,
		.severity_raw = severity,
		.sqlstate = err->sqlstate[0] ? err->sqlstate : SQLSTATE_INTERNAL_ERROR,
		.message = err->text[0] ? err->text : status_name(err->status),
		.hint = err->hint[0] ? err->hint : NULL,
	};
}

enum status pgerror_to_error(const struct pgerror *e, enum status st, struct error *err)
{
	error_set(err, st, e->sqlstate ? e->sqlstate : SQLSTATE_INTERNAL_ERROR, "%s",
		e->message ? e->message : "unknown error");
	if (e->hint)
		error_hint(err, "%s", e->hint);
	return st;
}

/* Servers before 9.6 send no 'V'; the translated severity is then the best there is. */
static const char *severity_of(const struct pgerror *e)
{
	if (e->severity_raw)
		return e->severity_raw;
	return e->severity ? e->severity : "";
}

bool pgerror_is_fatal(const struct pgerror *e)
{
	const char *s = severity_of(e);

	return strcmp(s, "FATAL") == 0 || strcmp(s, "PANIC") == 0;
}

/*
 * The warning of SyncRepWaitForLSN (syncrep.c) has SQLSTATE 01000 on a cancel and 57P01 on a terminate, and a text that
 * lc_messages may translate; the routine's name is not translated.
 */
bool pgerror_is_unreplicated_commit(const struct pgerror *e)
{
	if (strcmp(severity_of(e), "WARNING") != 0)
		return false;
	if (e->routine)
		return strcmp(e->routine, "SyncRepWaitForLSN") == 0;
	return e->message && strstr(e->message, "wait for synchronous replication");
}

const char *pgerror_state_name(const char *sqlstate)
{
	static const struct {
		const char code[6];
		const char *name;
	} names[] = {
#define PGERROR_STATE(name, code) {code, #name},
		PGERROR_SQLSTATE_LIST(PGERROR_STATE)
#undef PGERROR_STATE
	};

	for (uint32_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(names[i].code, sqlstate) == 0)
			return names[i].name;
	return "UNKNOWN";
}
