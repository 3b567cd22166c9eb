/*
 * SCRAM-SHA-256 and -PLUS (RFC 5802, RFC 7677; Postgres's dialect of it in auth-scram.c: the user's name in the
 * messages is ignored, the startup packet's counts), both sides, as small state machines on text.
 *
 *	client                          server
 *	gs2header n=,r=<cnonce>    ->                          scram_client_first      scram_server_first
 *	                           <-   r=<cnonce+snonce>,s=<salt>,i=<iterations>
 *	c=<binding>,r=..,p=<proof> ->                          scram_client_final      scram_server_final
 *	                           <-   v=<server signature>                           scram_client_verify
 *
 * A proof reveals ClientKey to a server that holds StoredKey. We keep it: with (ClientKey, ServerKey) the gate logs in
 * to Postgres as the same user, with no password stored anywhere. Both are secrets, as good as the password for
 * servers with the same verifier: clear them with scram_clear.
 *
 * Nonces and secrets are passed in, so that the simulator repeats itself. The only slow step (PBKDF2, about 6 ms at 4096
 * rounds) is scram_salt_password; it is pure and runs on a helper thread. This file is the only one here that uses
 * OpenSSL.
 *
 * SASLprep: passwords are used as their bytes are. For ASCII this is what RFC 4013 gives; Postgres normalises other
 * valid UTF-8 (NFKC), so a password that isn't in that form already fails when we have to derive keys from it.
 */
#ifndef ACTORS_PG_SCRAM_H
#define ACTORS_PG_SCRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/buf.h"
#include "runtime/base/status.h"

#define SCRAM_MECHANISM "SCRAM-SHA-256"
#define SCRAM_MECHANISM_PLUS "SCRAM-SHA-256-PLUS"

enum {
	SCRAM_KEY = 32, /* bytes of a SHA-256 key */
	SCRAM_NONCE = 18, /* random bytes of one side's nonce; 24 characters in base64 */
	SCRAM_SALT_MAX = 64, /* bytes; Postgres makes 16 */
	SCRAM_ITERATIONS = 4096, /* Postgres's default */
	SCRAM_ITERATIONS_MAX = 10000000, /* we don't let a server keep a helper busy for longer (15 s) */
	SCRAM_MESSAGE_MAX = 1024, /* Postgres's PG_MAX_SASL_MESSAGE_LENGTH */
	SCRAM_BINDING_MAX = 64, /* a certificate's hash, at most SHA-512 */
	SCRAM_VERIFIER_MAX = 256, /* bytes of a verifier's text with NUL */
	SCRAM_MD5_MAX = 36, /* "md5", 32 hex digits, NUL */
};

struct scram_keys {
	uint8_t client[SCRAM_KEY], server[SCRAM_KEY];
};

/* What pg_authid.rolpassword holds: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>, in base64. */
struct scram_verifier {
	uint32_t iterations;
	uint32_t salt_len;
	uint8_t salt[SCRAM_SALT_MAX];
	uint8_t stored_key[SCRAM_KEY], server_key[SCRAM_KEY];
	bool is_mock; /* no such user, or one without a SCRAM password: every proof fails */
};

/* E_INVALID unless the text is a well-formed verifier inside the limits above. */
MUST_CHECK enum status scram_verifier_parse(const char *text, struct scram_verifier *out);
/*
 * A verifier for a user who doesn't exist: the same salt for the same name each time, derived from a secret of the
 * process (better: of the cluster), so that asking twice tells nothing.
 */
void scram_verifier_mock(
	const char *user, const uint8_t *secret, uint32_t secret_len, struct scram_verifier *out);
/* The text for a password. Slow (PBKDF2). salt_len 1..SCRAM_SALT_MAX, iterations 1..SCRAM_ITERATIONS_MAX: else E_LIMIT. */
MUST_CHECK enum status scram_verifier_build(const char *password, const uint8_t *salt, uint32_t salt_len,
	uint32_t iterations, char out[SCRAM_VERIFIER_MAX]);

/* The slow step: SaltedPassword = PBKDF2(password). E_LIMIT as above. Reentrant. */
MUST_CHECK enum status scram_salt_password(const char *password, const uint8_t *salt, uint32_t salt_len,
	uint32_t iterations, uint8_t out[SCRAM_KEY]);
/* The fast rest of it. */
void scram_keys_from_salted(const uint8_t salted[SCRAM_KEY], struct scram_keys *out);
/* True when a ClientKey is the one that belongs to the verifier (compared in constant time). */
bool scram_key_matches(const uint8_t client_key[SCRAM_KEY], const struct scram_verifier *v);
/* Overwrites secrets in a way no compiler removes. For any struct of this header. */
void scram_clear(void *secrets, uint32_t n);

/* The answer to AuthenticationMD5Password: "md5" || md5(md5(password || user) || salt). E_UNSUPPORTED under FIPS. */
MUST_CHECK enum status scram_md5_answer(
	const char *password, const char *user, const uint8_t salt[4], char out[SCRAM_MD5_MAX]);

/* Channel binding: the tls-server-end-point data (the hash of the server's certificate, RFC 5929). */
struct scram_binding {
	uint32_t len; /* 0: no TLS, or not to be bound */
	uint8_t data[SCRAM_BINDING_MAX];
};

enum scram_state { SCRAM_START, SCRAM_CHALLENGED, SCRAM_DONE, SCRAM_FAILED };

struct scram_server {
	enum scram_state state;
	struct scram_verifier verifier;
	struct scram_binding binding; /* len > 0: -PLUS was offered */
	bool plus; /* the client chose -PLUS */
	char gs2_flag; /* 'n', 'y', 'p' as the client sent it */
	char server_nonce[32];
	char nonce[SCRAM_MESSAGE_MAX + 32]; /* both nonces */
	char client_first[SCRAM_MESSAGE_MAX + 1]; /* bare: without the gs2 header */
	char server_first[SCRAM_MESSAGE_MAX * 2];
	struct scram_keys keys; /* DONE: both keys, to log in elsewhere with */
};

/* binding NULL or len 0: -PLUS wasn't offered. plus: the mechanism the client chose. Copies all it is given. */
void scram_server_init(struct scram_server *s, const struct scram_verifier *v,
	const uint8_t nonce[SCRAM_NONCE], const struct scram_binding *binding, bool plus);
/*
 * Reads client-first, appends server-first (for AuthenticationSASLContinue). Errors are E_PROTOCOL or E_UNSUPPORTED
 * with Postgres's SQLSTATE and text; the exchange is then over. When a SASLInitialResponse brings no data, the caller
 * answers with an empty SASLContinue and calls this with the next response.
 */
MUST_CHECK enum status scram_server_first(
	struct scram_server *s, const void *msg, uint32_t n, struct writer *out, struct error *err);
/*
 * Reads client-final. OK: the password was right, server-final (for AuthenticationSASLFinal) is appended, s->keys is
 * filled. E_DENIED: it was wrong or the user is mock; `err` is not filled, for its text names the user (28P01).
 */
MUST_CHECK enum status scram_server_final(
	struct scram_server *s, const void *msg, uint32_t n, struct writer *out, struct error *err);

struct scram_client {
	enum scram_state state;
	struct scram_binding binding;
	bool tls_unbound; /* TLS, but the server offers no -PLUS: say 'y', so that a stripped offer is noticed */
	char nonce[SCRAM_MESSAGE_MAX + 32]; /* own, then both */
	char client_first[64]; /* bare */
	char server_first[SCRAM_MESSAGE_MAX + 1];
	uint32_t iterations, salt_len; /* CHALLENGED: what scram_salt_password needs */
	uint8_t salt[SCRAM_SALT_MAX];
	uint8_t server_signature[SCRAM_KEY]; /* expected */
};

/* binding with len > 0: use -PLUS. tls_unbound: see above. */
void scram_client_init(struct scram_client *c, const uint8_t nonce[SCRAM_NONCE],
	const struct scram_binding *binding, bool tls_unbound);
void scram_client_first(const struct scram_client *c, struct writer *out);
/* Reads server-first. OK fills iterations and salt. */
MUST_CHECK enum status scram_client_challenge(
	struct scram_client *c, const void *msg, uint32_t n, struct error *err);
/* Appends client-final made with the keys (from scram_keys_from_salted, or recovered from the client's own proof). */
MUST_CHECK enum status scram_client_final(
	struct scram_client *c, const struct scram_keys *keys, struct writer *out, struct error *err);
/* Reads server-final. E_DENIED: the server doesn't know our secret; don't go on with it. */
MUST_CHECK enum status scram_client_verify(
	struct scram_client *c, const void *msg, uint32_t n, struct error *err);

#endif
