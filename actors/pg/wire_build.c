/* Writing the protocol. See wire_build.h. Pure. */
#include "actors/pg/wire_build.h"

#include <string.h>

#include "actors/pg/wire.h"

uint32_t wire_begin(struct writer *w, uint8_t type)
{
	uint32_t at;

	if (type)
		writer_u8(w, type);
	at = w->len;
	writer_u32(w, 0);
	return at;
}

void wire_end(struct writer *w, uint32_t at)
{
	writer_set_u32(w, at, w->len - at);
}

void wire_put_empty(struct writer *w, uint8_t type)
{
	wire_end(w, wire_begin(w, type));
}

/* The many messages whose body is nothing but strings; NULL ends the list early. */
static void put_strings(struct writer *w, uint8_t type, const char *a, const char *b)
{
	uint32_t at = wire_begin(w, type);

	writer_str(w, a);
	if (b)
		writer_str(w, b);
	wire_end(w, at);
}

/* A length-prefixed value; NULL is length -1. */
static void put_value(struct writer *w, const char *value)
{
	uint32_t len = value ? (uint32_t)strlen(value) : UINT32_MAX;

	writer_u32(w, len);
	if (value)
		writer_put(w, value, len);
}

void wire_put_auth(struct writer *w, int32_t kind, const void *data, uint32_t n)
{
	uint32_t at = wire_begin(w, BE_AUTH);

	writer_u32(w, (uint32_t)kind);
	writer_put(w, data, n);
	wire_end(w, at);
}

void wire_put_auth_ok(struct writer *w)
{
	wire_put_auth(w, WIRE_AUTH_OK, NULL, 0);
}

void wire_put_auth_md5(struct writer *w, const uint8_t salt[4])
{
	wire_put_auth(w, WIRE_AUTH_MD5, salt, 4);
}

void wire_put_auth_sasl(struct writer *w, const char *const *mechanisms, uint32_t n_mechanisms)
{
	uint32_t at = wire_begin(w, BE_AUTH);

	writer_u32(w, WIRE_AUTH_SASL);
	for (uint32_t i = 0; i < n_mechanisms; i++)
		writer_str(w, mechanisms[i]);
	writer_u8(w, 0);
	wire_end(w, at);
}

void wire_put_parameter_status(struct writer *w, const char *name, const char *value)
{
	put_strings(w, BE_PARAM_STATUS, name, value);
}

void wire_put_backend_key(struct writer *w, uint32_t pid, const uint8_t *secret, uint32_t secret_len)
{
	uint32_t at = wire_begin(w, BE_BACKEND_KEY);

	writer_u32(w, pid);
	writer_put(w, secret, secret_len);
	wire_end(w, at);
}

void wire_put_ready(struct writer *w, char status)
{
	uint32_t at = wire_begin(w, BE_READY);

	writer_u8(w, (uint8_t)status);
	wire_end(w, at);
}

void wire_put_negotiate(struct writer *w, uint32_t newest, const char *const *options, uint32_t n_options)
{
	uint32_t at = wire_begin(w, BE_NEGOTIATE);

	writer_u32(w, newest);
	writer_u32(w, n_options);
	for (uint32_t i = 0; i < n_options; i++)
		writer_str(w, options[i]);
	wire_end(w, at);
}

void wire_put_command_complete(struct writer *w, const char *tag)
{
	put_strings(w, BE_COMMAND_COMPLETE, tag, NULL);
}

void wire_put_notification(struct writer *w, uint32_t pid, const char *channel, const char *payload)
{
	uint32_t at = wire_begin(w, BE_NOTIFICATION);

	writer_u32(w, pid);
	writer_str(w, channel);
	writer_str(w, payload);
	wire_end(w, at);
}

void wire_put_row_description(struct writer *w, const char *const *names, uint16_t n)
{
	enum { TEXT_OID = 25, NO_TYPMOD = -1, VARIABLE = -1 };
	uint32_t at = wire_begin(w, BE_ROW_DESCRIPTION);

	writer_u16(w, n);
	for (uint16_t i = 0; i < n; i++) {
		writer_str(w, names[i]);
		writer_u32(w, 0); /* no table */
		writer_u16(w, 0); /* no column of it */
		writer_u32(w, TEXT_OID);
		writer_u16(w, (uint16_t)VARIABLE);
		writer_u32(w, (uint32_t)NO_TYPMOD);
		writer_u16(w, 0); /* text format */
	}
	wire_end(w, at);
}

void wire_put_data_row(struct writer *w, const char *const *values, uint16_t n)
{
	uint32_t at = wire_begin(w, BE_DATA_ROW);

	writer_u16(w, n);
	for (uint16_t i = 0; i < n; i++)
		put_value(w, values[i]);
	wire_end(w, at);
}

void wire_put_startup(struct writer *w, uint32_t version, const char *const *pairs)
{
	uint32_t at = wire_begin(w, 0);

	writer_u32(w, version);
	for (; pairs[0]; pairs += 2) {
		writer_str(w, pairs[0]);
		writer_str(w, pairs[1]);
	}
	writer_u8(w, 0);
	wire_end(w, at);
}

void wire_put_ssl_request(struct writer *w)
{
	uint32_t at = wire_begin(w, 0);

	writer_u32(w, WIRE_SSL_CODE);
	wire_end(w, at);
}

void wire_put_cancel_request(struct writer *w, uint32_t pid, const uint8_t *secret, uint32_t secret_len)
{
	uint32_t at = wire_begin(w, 0);

	writer_u32(w, WIRE_CANCEL_CODE);
	writer_u32(w, pid);
	writer_put(w, secret, secret_len);
	wire_end(w, at);
}

void wire_put_query(struct writer *w, const char *text, uint32_t len)
{
	uint32_t at = wire_begin(w, FE_QUERY);

	writer_put(w, text, len);
	writer_u8(w, 0);
	wire_end(w, at);
}

void wire_put_parse(struct writer *w, const char *name, const char *text, uint32_t len, const uint32_t *types,
	uint16_t n_types)
{
	uint32_t at = wire_begin(w, FE_PARSE);

	writer_str(w, name);
	writer_put(w, text, len);
	writer_u8(w, 0);
	writer_u16(w, n_types);
	for (uint16_t i = 0; i < n_types; i++)
		writer_u32(w, types[i]);
	wire_end(w, at);
}

void wire_put_bind(struct writer *w, const char *portal, const char *statement, const char *const *values,
	uint16_t n_values)
{
	uint32_t at = wire_begin(w, FE_BIND);

	writer_str(w, portal);
	writer_str(w, statement);
	writer_u16(w, 0); /* parameters: all text */
	writer_u16(w, n_values);
	for (uint16_t i = 0; i < n_values; i++)
		put_value(w, values[i]);
	writer_u16(w, 0); /* results: all text */
	wire_end(w, at);
}

static void put_target(struct writer *w, uint8_t type, char kind, const char *name)
{
	uint32_t at = wire_begin(w, type);

	writer_u8(w, (uint8_t)kind);
	writer_str(w, name);
	wire_end(w, at);
}

void wire_put_describe(struct writer *w, char kind, const char *name)
{
	put_target(w, FE_DESCRIBE, kind, name);
}

void wire_put_close(struct writer *w, char kind, const char *name)
{
	put_target(w, FE_CLOSE, kind, name);
}

void wire_put_execute(struct writer *w, const char *portal, int32_t max_rows)
{
	uint32_t at = wire_begin(w, FE_EXECUTE);

	writer_str(w, portal);
	writer_u32(w, (uint32_t)max_rows);
	wire_end(w, at);
}

void wire_put_sync(struct writer *w)
{
	wire_put_empty(w, FE_SYNC);
}

void wire_put_flush(struct writer *w)
{
	wire_put_empty(w, FE_FLUSH);
}

void wire_put_terminate(struct writer *w)
{
	wire_put_empty(w, FE_TERMINATE);
}

void wire_put_password(struct writer *w, const char *password)
{
	put_strings(w, FE_PASSWORD, password, NULL);
}

void wire_put_sasl_initial(struct writer *w, const char *mechanism, const void *data, uint32_t n)
{
	uint32_t at = wire_begin(w, FE_PASSWORD);

	writer_str(w, mechanism);
	writer_u32(w, n);
	writer_put(w, data, n);
	wire_end(w, at);
}

void wire_put_sasl_response(struct writer *w, const void *data, uint32_t n)
{
	uint32_t at = wire_begin(w, FE_PASSWORD);

	writer_put(w, data, n);
	wire_end(w, at);
}
