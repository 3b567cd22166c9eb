/*
 * Framing and reading of the Postgres protocol, version 3 (Postgres manual, "Frontend/Backend Protocol", "Message
 * Formats"). Everything but the first packet of a connection (startup.h) is a frame:
 *
 *	type (1 byte) | length (4 bytes, big-endian, counts itself but not the type) | body
 *
 * Called by sessions, backends and the console on bytes they hold; nothing is copied: what a parser gives points
 * into the body it was given. Input is hostile: every read is bounded, every failure is a status.
 */
#ifndef ACTORS_PG_WIRE_H
#define ACTORS_PG_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { WIRE_HEADER = 5, WIRE_SECRET_MIN = 4, WIRE_SECRET_MAX = 256 };

/* Messages a client sends: name, type byte, text for logs. */
#define WIRE_FE_LIST(F)                                                                                      \
	F(FE_BIND, 'B', "Bind")                                                                              \
	F(FE_CLOSE, 'C', "Close")                                                                            \
	F(FE_COPY_DATA, 'd', "CopyData")                                                                     \
	F(FE_COPY_DONE, 'c', "CopyDone")                                                                     \
	F(FE_COPY_FAIL, 'f', "CopyFail")                                                                     \
	F(FE_DESCRIBE, 'D', "Describe")                                                                      \
	F(FE_EXECUTE, 'E', "Execute")                                                                        \
	F(FE_FLUSH, 'H', "Flush")                                                                            \
	F(FE_FUNCTION_CALL, 'F', "FunctionCall")                                                             \
	F(FE_PARSE, 'P', "Parse")                                                                            \
	F(FE_PASSWORD, 'p', "Password") /* also the GSS and SASL responses */                                \
	F(FE_QUERY, 'Q', "Query")                                                                            \
	F(FE_SYNC, 'S', "Sync")                                                                              \
	F(FE_TERMINATE, 'X', "Terminate")

/* Messages a server sends. */
#define WIRE_BE_LIST(B)                                                                                      \
	B(BE_AUTH, 'R', "Authentication")                                                                    \
	B(BE_BACKEND_KEY, 'K', "BackendKeyData")                                                             \
	B(BE_BIND_COMPLETE, '2', "BindComplete")                                                             \
	B(BE_CLOSE_COMPLETE, '3', "CloseComplete")                                                           \
	B(BE_COMMAND_COMPLETE, 'C', "CommandComplete")                                                       \
	B(BE_COPY_BOTH, 'W', "CopyBothResponse")                                                             \
	B(BE_COPY_DATA, 'd', "CopyData")                                                                     \
	B(BE_COPY_DONE, 'c', "CopyDone")                                                                     \
	B(BE_COPY_IN, 'G', "CopyInResponse")                                                                 \
	B(BE_COPY_OUT, 'H', "CopyOutResponse")                                                               \
	B(BE_DATA_ROW, 'D', "DataRow")                                                                       \
	B(BE_EMPTY_QUERY, 'I', "EmptyQueryResponse")                                                         \
	B(BE_ERROR, 'E', "ErrorResponse")                                                                    \
	B(BE_FUNCTION_RESULT, 'V', "FunctionCallResponse")                                                   \
	B(BE_NEGOTIATE, 'v', "NegotiateProtocolVersion")                                                     \
	B(BE_NO_DATA, 'n', "NoData")                                                                         \
	B(BE_NOTICE, 'N', "NoticeResponse")                                                                  \
	B(BE_NOTIFICATION, 'A', "NotificationResponse")                                                      \
	B(BE_PARAM_DESCRIPTION, 't', "ParameterDescription")                                                 \
	B(BE_PARAM_STATUS, 'S', "ParameterStatus")                                                           \
	B(BE_PARSE_COMPLETE, '1', "ParseComplete")                                                           \
	B(BE_PORTAL_SUSPENDED, 's', "PortalSuspended")                                                       \
	B(BE_READY, 'Z', "ReadyForQuery")                                                                    \
	B(BE_ROW_DESCRIPTION, 'T', "RowDescription")

#define WIRE_ENUM(name, byte, text) name = byte,
enum wire_fe { WIRE_FE_LIST(WIRE_ENUM) };
enum wire_be { WIRE_BE_LIST(WIRE_ENUM) };
#undef WIRE_ENUM

/* The message's name in the manual; "unknown" for bytes that are no type. Never NULL. */
const char *wire_fe_name(uint8_t type);
const char *wire_be_name(uint8_t type);

struct wire_frame {
	uint8_t type;
	uint32_t len; /* bytes of the whole frame: type, length and body */
};

/*
 * Looks at the header at p. OK fills *out; the body (out->len - WIRE_HEADER bytes) need not have come yet.
 * E_AGAIN: fewer than 5 of the n bytes are there. E_PROTOCOL: a length below 4 or negative. E_LIMIT: longer than
 * max_len as a whole; *out is filled, so that the text of the refusal can name the message.
 */
MUST_CHECK enum status wire_frame_peek(
	const uint8_t *p, uint32_t n, uint32_t max_len, struct wire_frame *out);

/*
 * A bounded cursor over a body. Failure is sticky: after a read beyond the end all reads give 0, "" or NULL, and
 * wire_cursor_end says E_PROTOCOL, so a parser reads all its fields and asks once.
 */
struct wire_cursor {
	const uint8_t *p, *end;
	bool failed;
};

static inline struct wire_cursor wire_cursor(const void *body, uint32_t n)
{
	const uint8_t *p = n ? (const uint8_t *)body : (const uint8_t *)"";

	return (struct wire_cursor){.p = p, .end = p + n};
}

static inline uint32_t wire_left(const struct wire_cursor *c)
{
	return (uint32_t)(c->end - c->p);
}

uint8_t wire_get_u8(struct wire_cursor *c);
uint16_t wire_get_u16(struct wire_cursor *c);
int32_t wire_get_i32(struct wire_cursor *c);
uint64_t wire_get_u64(struct wire_cursor *c);
/* The next n bytes, or NULL. n == 0 gives a pointer that must not be read. */
const uint8_t *wire_get_bytes(struct wire_cursor *c, uint32_t n);
/* A string with its NUL inside the body; "" on failure, never NULL. */
const char *wire_get_cstring(struct wire_cursor *c);
/* OK when no read failed and nothing is left over. */
MUST_CHECK enum status wire_cursor_end(const struct wire_cursor *c);

/*
 * Parsers of bodies (without the 5-byte header). All give OK or E_PROTOCOL, and E_LIMIT where a named maximum is
 * passed. On failure *out is unspecified but safe to read. Pointers borrow the body.
 */
struct wire_parse { /* Parse */
	const char *name, *query;
	uint32_t query_len; /* bytes, without NUL */
	uint16_t n_types; /* at most 65535 */
	const uint8_t *types; /* n_types big-endian OIDs */
};

struct wire_bind { /* Bind */
	const char *portal, *statement;
	uint32_t rest_off; /* where formats and values begin in the body; checked by wire_check_bind only */
};

struct wire_target { /* Describe and Close */
	char kind; /* 'S' statement, 'P' portal */
	const char *name;
};

struct wire_execute {
	const char *portal;
	int32_t max_rows; /* <= 0: all */
};

struct wire_parameter { /* ParameterStatus */
	const char *name, *value;
};

struct wire_key { /* BackendKeyData */
	uint32_t pid;
	const uint8_t *secret;
	uint32_t secret_len; /* 4 up to protocol 3.0, up to 256 from 3.2 on */
};

struct wire_copy { /* CopyInResponse, CopyOutResponse, CopyBothResponse */
	bool binary;
	uint16_t n_columns;
};

struct wire_tag { /* CommandComplete */
	const char *text;
	uint64_t rows; /* the last number of the tag */
	bool has_rows;
};

struct wire_notification {
	uint32_t pid;
	const char *channel, *payload;
};

#define WIRE_AUTH_LIST(A)                                                                                    \
	A(WIRE_AUTH_OK, 0, "ok")                                                                             \
	A(WIRE_AUTH_KERBEROS, 2, "kerberos")                                                                 \
	A(WIRE_AUTH_CLEARTEXT, 3, "cleartext password")                                                      \
	A(WIRE_AUTH_MD5, 5, "md5 password")                                                                  \
	A(WIRE_AUTH_GSS, 7, "gss")                                                                           \
	A(WIRE_AUTH_GSS_CONTINUE, 8, "gss continue")                                                         \
	A(WIRE_AUTH_SSPI, 9, "sspi")                                                                         \
	A(WIRE_AUTH_SASL, 10, "sasl")                                                                        \
	A(WIRE_AUTH_SASL_CONTINUE, 11, "sasl continue")                                                      \
	A(WIRE_AUTH_SASL_FINAL, 12, "sasl final")

#define WIRE_ENUM(name, number, text) name = number,
enum wire_auth_kind { WIRE_AUTH_LIST(WIRE_ENUM) };
#undef WIRE_ENUM

struct wire_auth {
	int32_t kind; /* enum wire_auth_kind, or a number we don't know */
	const uint8_t
		*data; /* MD5: 4 bytes of salt. SASL: the mechanisms. SASL_CONTINUE, _FINAL: SCRAM's text */
	uint32_t len;
};

struct wire_sasl_initial { /* SASLInitialResponse */
	const char *mechanism;
	const uint8_t *data; /* NULL when the client sent none (length -1) */
	uint32_t len;
};

MUST_CHECK enum status wire_read_query(const uint8_t *body, uint32_t n, const char **text, uint32_t *len);
MUST_CHECK enum status wire_read_parse(const uint8_t *body, uint32_t n, struct wire_parse *out);
MUST_CHECK enum status wire_read_bind(const uint8_t *body, uint32_t n, struct wire_bind *out);
/* Walks formats and values to the end: E_PROTOCOL unless the whole Bind is well formed. O(values). */
MUST_CHECK enum status wire_check_bind(const uint8_t *body, uint32_t n);
MUST_CHECK enum status wire_read_target(const uint8_t *body, uint32_t n, struct wire_target *out);
MUST_CHECK enum status wire_read_execute(const uint8_t *body, uint32_t n, struct wire_execute *out);
MUST_CHECK enum status wire_read_sasl_initial(const uint8_t *body, uint32_t n, struct wire_sasl_initial *out);
MUST_CHECK enum status wire_read_parameter(const uint8_t *body, uint32_t n, struct wire_parameter *out);
MUST_CHECK enum status wire_read_key(const uint8_t *body, uint32_t n, struct wire_key *out);
/* 'I' idle, 'T' in a transaction, 'E' in a failed one; anything else is E_PROTOCOL. */
MUST_CHECK enum status wire_read_ready(const uint8_t *body, uint32_t n, char *out);
MUST_CHECK enum status wire_read_auth(const uint8_t *body, uint32_t n, struct wire_auth *out);
/* True when a SASL request (kind WIRE_AUTH_SASL) offers the mechanism. */
bool wire_auth_offers(const struct wire_auth *a, const char *mechanism);
MUST_CHECK enum status wire_read_tag(const uint8_t *body, uint32_t n, struct wire_tag *out);
MUST_CHECK enum status wire_read_copy(const uint8_t *body, uint32_t n, struct wire_copy *out);
MUST_CHECK enum status wire_read_notification(const uint8_t *body, uint32_t n, struct wire_notification *out);

#endif
