/* Every reader of the protocol on any bytes; what a reader accepts must be safe to use, and a frame's limits hold. */
#include <stdint.h>
#include <string.h>

#include "actors/pg/pgerror.h"
#include "actors/pg/wire.h"
#include "runtime/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink;

static void use(const char *s)
{
	sink += strlen(s);
}

static void read_frontend(const uint8_t *p, uint32_t n)
{
	struct wire_parse parse;
	struct wire_bind bind;
	struct wire_target target;
	struct wire_execute execute;
	struct wire_sasl_initial sasl;
	const char *text;
	uint32_t len;

	if (wire_read_query(p, n, &text, &len) == OK)
		check(strlen(text) == len);
	if (wire_read_parse(p, n, &parse) == OK) {
		check(strlen(parse.query) == parse.query_len);
		use(parse.name);
		for (uint32_t i = 0; i < 4U * parse.n_types; i++)
			sink += parse.types[i];
	}
	if (wire_read_bind(p, n, &bind) == OK) {
		use(bind.portal);
		use(bind.statement);
		check(bind.rest_off <= n);
	} else {
		check(wire_check_bind(p, n) != OK);
	}
	if (wire_read_target(p, n, &target) == OK)
		use(target.name);
	if (wire_read_execute(p, n, &execute) == OK)
		use(execute.portal);
	if (wire_read_sasl_initial(p, n, &sasl) == OK)
		for (uint32_t i = 0; i < sasl.len; i++)
			sink += sasl.data[i];
}

static void read_backend(const uint8_t *p, uint32_t n)
{
	struct wire_parameter parameter;
	struct wire_key key;
	struct wire_auth auth;
	struct wire_tag tag;
	struct wire_copy copy;
	struct wire_notification note;
	char ready;

	if (wire_read_parameter(p, n, &parameter) == OK)
		use(parameter.value);
	if (wire_read_key(p, n, &key) == OK)
		check(key.secret_len >= WIRE_SECRET_MIN && key.secret_len <= WIRE_SECRET_MAX);
	if (wire_read_ready(p, n, &ready) == OK)
		check(ready == 'I' || ready == 'T' || ready == 'E');
	if (wire_read_auth(p, n, &auth) == OK)
		sink += wire_auth_offers(&auth, "SCRAM-SHA-256");
	if (wire_read_tag(p, n, &tag) == OK)
		use(tag.text);
	if (wire_read_copy(p, n, &copy) == OK)
		check(n >= 3U + 2U * copy.n_columns);
	if (wire_read_notification(p, n, &note) == OK)
		use(note.payload);
}

/* What was read is written again and read back the same. */
static void read_error(const uint8_t *p, uint32_t n)
{
	struct pgerror e, again;
	struct writer w;

	if (pgerror_read(p, n, &e))
		return;
	writer_init(&w, 1 << 20);
	pgerror_put_error(&w, &e);
	check(!w.failed);
	check(pgerror_read(w.buf->data + WIRE_HEADER, w.len - WIRE_HEADER, &again) == OK);
	check(strcmp(e.message, again.message) == 0 && strcmp(e.sqlstate, again.sqlstate) == 0);
	sink += pgerror_is_fatal(&e) + pgerror_is_unreplicated_commit(&e);
	writer_release(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_frame f;
	uint32_t n = (uint32_t)size;

	if (wire_frame_peek(data, n, 1 << 20, &f) == OK)
		check(f.len >= WIRE_HEADER && f.len <= 1 << 20);
	read_frontend(data, n);
	read_backend(data, n);
	read_error(data, n);
	return 0;
}
