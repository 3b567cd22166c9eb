/*
 * Writing the Postgres protocol, version 3: one function for each message a proxy makes itself. All append to a
 * struct writer, whose overflow is sticky: build all messages of an answer, then look at `failed` once. Texts come from
 * us or were read from a wire as C strings, so they hold no NUL. ErrorResponse and NoticeResponse are in pgerror.h.
 */
#ifndef ACTORS_PG_WIRE_BUILD_H
#define ACTORS_PG_WIRE_BUILD_H

#include <stdint.h>

#include "runtime/base/buf.h"

enum {
	WIRE_VERSION_3_0 = 3 << 16,
	WIRE_VERSION_3_2 = 3 << 16 | 2,
	WIRE_CANCEL_CODE = 1234 << 16 | 5678,
	WIRE_SSL_CODE = 1234 << 16 | 5679,
	WIRE_GSSENC_CODE = 1234 << 16 | 5680,
};

/*
 * For messages not below: wire_begin writes type and a place for the length and gives where; wire_end fills it in.
 * Type 0 writes no type byte (the first packet of a connection).
 */
uint32_t wire_begin(struct writer *w, uint8_t type);
void wire_end(struct writer *w, uint32_t at);
void wire_put_empty(
	struct writer *w, uint8_t type); /* a message without a body: Sync, ParseComplete, NoData, ... */

/* From a server. */
void wire_put_auth(struct writer *w, int32_t kind, const void *data, uint32_t n); /* enum wire_auth_kind */
void wire_put_auth_ok(struct writer *w);
void wire_put_auth_sasl(struct writer *w, const char *const *mechanisms, uint32_t n_mechanisms);
void wire_put_auth_md5(struct writer *w, const uint8_t salt[4]);
void wire_put_parameter_status(struct writer *w, const char *name, const char *value);
void wire_put_backend_key(struct writer *w, uint32_t pid, const uint8_t *secret, uint32_t secret_len);
void wire_put_ready(struct writer *w, char status); /* 'I', 'T', 'E' */
/* newest: the newest minor version we speak; options: the `_pq_.` names we don't know. */
void wire_put_negotiate(struct writer *w, uint32_t newest, const char *const *options, uint32_t n_options);
void wire_put_command_complete(struct writer *w, const char *tag);
void wire_put_notification(struct writer *w, uint32_t pid, const char *channel, const char *payload);
/* Columns of type text (OID 25) and text format, for answers of our own. A NULL value is SQL's NULL. */
void wire_put_row_description(struct writer *w, const char *const *names, uint16_t n);
void wire_put_data_row(struct writer *w, const char *const *values, uint16_t n);

/* From a client. */
/* pairs: name, value, name, value, ... NULL. version: WIRE_VERSION_3_0 or later. */
void wire_put_startup(struct writer *w, uint32_t version, const char *const *pairs);
void wire_put_ssl_request(struct writer *w);
void wire_put_cancel_request(struct writer *w, uint32_t pid, const uint8_t *secret, uint32_t secret_len);
void wire_put_query(struct writer *w, const char *text, uint32_t len);
void wire_put_parse(struct writer *w, const char *name, const char *text, uint32_t len, const uint32_t *types,
	uint16_t n_types);
/* All parameters and results in text format. A NULL value is SQL's NULL. */
void wire_put_bind(struct writer *w, const char *portal, const char *statement, const char *const *values,
	uint16_t n_values);
void wire_put_describe(struct writer *w, char kind, const char *name); /* 'S' statement, 'P' portal */
void wire_put_close(struct writer *w, char kind, const char *name);
void wire_put_execute(struct writer *w, const char *portal, int32_t max_rows); /* 0: all */
void wire_put_sync(struct writer *w);
void wire_put_flush(struct writer *w);
void wire_put_terminate(struct writer *w);
void wire_put_password(struct writer *w, const char *password); /* clear text, or "md5..." */
void wire_put_sasl_initial(struct writer *w, const char *mechanism, const void *data, uint32_t n);
void wire_put_sasl_response(struct writer *w, const void *data, uint32_t n);

#endif
