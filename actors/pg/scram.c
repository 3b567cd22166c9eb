/*
 * SCRAM-SHA-256, both sides. See scram.h. Pure; the only user of libcrypto in this folder.
 *
 * Messages are attributes `x=value` with commas between. Each is copied into a NUL-terminated buffer of
 * SCRAM_MESSAGE_MAX + 1 bytes first, and read there by next_attribute.
 */
#include "actors/pg/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#include "actors/pg/pgerror.h"
#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

#define GS2_BOUND "p=tls-server-end-point,,"

enum { BASE64_MAX = 256, AUTH_MAX = 5 * SCRAM_MESSAGE_MAX };

void scram_clear(void *secrets, uint32_t n)
{
	OPENSSL_cleanse(secrets, n);
}

static void hmac(const uint8_t key[SCRAM_KEY], const void *text, size_t n, uint8_t out[SCRAM_KEY])
{
	unsigned len = SCRAM_KEY;

	check(HMAC(EVP_sha256(), key, SCRAM_KEY, text, n, out, &len) && len == SCRAM_KEY);
}

static void hash(const uint8_t in[SCRAM_KEY], uint8_t out[SCRAM_KEY])
{
	check(EVP_Digest(in, SCRAM_KEY, out, NULL, EVP_sha256(), NULL));
}

static void encode(const uint8_t *in, uint32_t n, char *out, uint32_t cap)
{
	check((n + 2) / 3 * 4 < cap);
	EVP_EncodeBlock((uint8_t *)out, in, (int)n);
}

static int base64_digit(char ch)
{
	if (ch >= 'A' && ch <= 'Z')
		return ch - 'A';
	if (ch >= 'a' && ch <= 'z')
		return ch - 'a' + 26;
	if (ch >= '0' && ch <= '9')
		return ch - '0' + 52;
	return ch == '+' ? 62 : ch == '/' ? 63 : -1;
}

/* Strict base64 of `len` characters: whole groups, no blanks, padding at the end only. -1, or the bytes decoded. */
static int decode(const char *text, size_t len, uint8_t *out, uint32_t cap)
{
	uint32_t n = 0;

	if (len % 4)
		return -1;
	for (size_t i = 0; i < len; i += 4) {
		uint32_t group = 0, pad = 0;

		for (size_t j = 0; j < 4; j++) {
			int digit = base64_digit(text[i + j]);

			if (text[i + j] == '=' && i + 4 == len && j >= 2)
				pad++;
			else if (digit < 0 || pad)
				return -1;
			group = group << 6 | (pad ? 0 : (uint32_t)digit);
		}
		for (uint32_t j = 0; j < 3 - pad; j++) {
			if (n == cap)
				return -1;
			out[n++] = (uint8_t)(group >> (16 - 8 * j));
		}
	}
	return (int)n;
}

static bool decode_key(const char *text, size_t len, uint8_t out[SCRAM_KEY])
{
	return decode(text, len, out, SCRAM_KEY) == SCRAM_KEY;
}

/* A decimal number up to `max` with no sign; -1 if it isn't one. */
static int64_t read_number(const char *text, size_t len, int64_t max)
{
	int64_t v = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		v = v * 10 + (text[i] - '0');
		if (v > max)
			return -1;
	}
	return len ? v : -1;
}

enum status scram_verifier_parse(const char *text, struct scram_verifier *out)
{
	static const char scheme[] = SCRAM_MECHANISM "$";
	const char *rounds = text + sizeof(scheme) - 1, *salt, *stored, *server;
	int64_t iterations;
	int salt_len;

	*out = (struct scram_verifier){0};
	if (strncmp(text, scheme, sizeof(scheme) - 1) != 0 || strlen(text) >= SCRAM_VERIFIER_MAX)
		return E_INVALID;
	salt = strchr(rounds, ':');
	stored = salt ? strchr(salt, '$') : NULL;
	server = stored ? strchr(stored, ':') : NULL;
	if (!server)
		return E_INVALID;
	iterations = read_number(rounds, (size_t)(salt - rounds), SCRAM_ITERATIONS_MAX);
	salt_len = decode(salt + 1, (size_t)(stored - salt - 1), out->salt, sizeof(out->salt));
	if (iterations < 1 || salt_len < 1 ||
		!decode_key(stored + 1, (size_t)(server - stored - 1), out->stored_key) ||
		!decode_key(server + 1, strlen(server + 1), out->server_key))
		return E_INVALID;
	out->iterations = (uint32_t)iterations;
	out->salt_len = (uint32_t)salt_len;
	return OK;
}

void scram_verifier_mock(
	const char *user, const uint8_t *secret, uint32_t secret_len, struct scram_verifier *out)
{
	uint8_t digest[SCRAM_KEY];
	unsigned len = sizeof(digest);

	check(HMAC(EVP_sha256(), secret, (int)secret_len, (const uint8_t *)user, strlen(user), digest, &len));
	*out = (struct scram_verifier){.iterations = SCRAM_ITERATIONS, .salt_len = 16, .is_mock = true};
	memcpy(out->salt, digest, out->salt_len);
}

enum status scram_salt_password(const char *password, const uint8_t *salt, uint32_t salt_len,
	uint32_t iterations, uint8_t out[SCRAM_KEY])
{
	size_t len = strlen(password);

	if (salt_len < 1 || salt_len > SCRAM_SALT_MAX || iterations < 1 ||
		iterations > SCRAM_ITERATIONS_MAX || len > INT32_MAX)
		return E_LIMIT;
	check(PKCS5_PBKDF2_HMAC(
		password, (int)len, salt, (int)salt_len, (int)iterations, EVP_sha256(), SCRAM_KEY, out));
	return OK;
}

void scram_keys_from_salted(const uint8_t salted[SCRAM_KEY], struct scram_keys *out)
{
	static const char client[] = "Client Key", server[] = "Server Key";

	hmac(salted, client, sizeof(client) - 1, out->client);
	hmac(salted, server, sizeof(server) - 1, out->server);
}

bool scram_key_matches(const uint8_t client_key[SCRAM_KEY], const struct scram_verifier *v)
{
	uint8_t stored[SCRAM_KEY];

	hash(client_key, stored);
	return CRYPTO_memcmp(stored, v->stored_key, SCRAM_KEY) == 0 && !v->is_mock;
}

enum status scram_verifier_build(const char *password, const uint8_t *salt, uint32_t salt_len,
	uint32_t iterations, char out[SCRAM_VERIFIER_MAX])
{
	char salt64[BASE64_MAX], stored64[BASE64_MAX], server64[BASE64_MAX];
	uint8_t salted[SCRAM_KEY], stored[SCRAM_KEY];
	struct scram_keys keys;
	enum status st;

	st = scram_salt_password(password, salt, salt_len, iterations, salted);
	if (st)
		return st;
	scram_keys_from_salted(salted, &keys);
	hash(keys.client, stored);
	encode(salt, salt_len, salt64, sizeof(salt64));
	encode(stored, SCRAM_KEY, stored64, sizeof(stored64));
	encode(keys.server, SCRAM_KEY, server64, sizeof(server64));
	snprintf(out, SCRAM_VERIFIER_MAX, SCRAM_MECHANISM "$%u:%.88s$%.44s:%.44s", iterations, salt64,
		stored64, server64);
	scram_clear(salted, sizeof(salted));
	scram_clear(&keys, sizeof(keys));
	return OK;
}

static enum status malformed(struct error *err, const char *why)
{
	return error_set(err, E_PROTOCOL, SQLSTATE_PROTOCOL_VIOLATION, "malformed SCRAM message (%s)", why);
}

/* Copies a message to a buffer of SCRAM_MESSAGE_MAX + 1 bytes and ends it with NUL; it must hold none itself. */
static enum status copy_message(const void *msg, uint32_t n, char *out, struct error *err)
{
	out[0] = '\0';
	if (n == 0)
		return malformed(err, "the message is empty");
	if (n > SCRAM_MESSAGE_MAX)
		return malformed(err, "the message is too long");
	if (memchr(msg, 0, n))
		return malformed(err, "message length does not match input length");
	memcpy(out, msg, n);
	out[n] = '\0';
	return OK;
}

struct attribute {
	char name; /* '\0': there is none, or it is malformed */
	const char *value; /* not ended by NUL */
	size_t len;
};

/* Reads one `x=value` at *p and goes beyond the comma that follows it. */
static struct attribute next_attribute(const char **p)
{
	const char *s = *p, *end;
	struct attribute a = {0};

	if (!((s[0] >= 'a' && s[0] <= 'z') || (s[0] >= 'A' && s[0] <= 'Z')) || s[1] != '=')
		return a;
	end = strchrnul(s + 2, ',');
	a = (struct attribute){.name = s[0], .value = s + 2, .len = (size_t)(end - s - 2)};
	*p = *end ? end + 1 : end;
	return a;
}

static bool is_nonce(const struct attribute *a)
{
	for (size_t i = 0; i < a->len; i++)
		if (a->value[i] < 0x21 || a->value[i] > 0x7e)
			return false;
	return a->len > 0;
}

/* AuthMessage = client-first-bare , server-first , client-final-without-proof. All three are bounded by 5 messages. */
static size_t auth_message(char out[AUTH_MAX], const char *client_first, const char *server_first,
	const char *client_final, size_t client_final_len)
{
	int n = snprintf(
		out, AUTH_MAX, "%s,%s,%.*s", client_first, server_first, (int)client_final_len, client_final);

	check(n > 0 && n < AUTH_MAX);
	return (size_t)n;
}

static void xor_keys(const uint8_t *a, const uint8_t *b, uint8_t *out)
{
	for (int i = 0; i < SCRAM_KEY; i++)
		out[i] = a[i] ^ b[i];
}

/* What `c=` must say: base64 of the gs2 header and the binding data. */
static void binding_text(char flag, const struct scram_binding *binding, char out[BASE64_MAX])
{
	uint8_t raw[sizeof(GS2_BOUND) + SCRAM_BINDING_MAX];
	uint32_t n = sizeof(GS2_BOUND) - 1;

	if (flag != 'p') {
		encode((const uint8_t *)(flag == 'y' ? "y,," : "n,,"), 3, out, BASE64_MAX);
		return;
	}
	memcpy(raw, GS2_BOUND, n);
	memcpy(raw + n, binding->data, binding->len);
	encode(raw, n + binding->len, out, BASE64_MAX);
}

static void copy_binding(struct scram_binding *to, const struct scram_binding *from)
{
	if (!from)
		return;
	check(from->len <= SCRAM_BINDING_MAX);
	*to = *from;
}

void scram_server_init(struct scram_server *s, const struct scram_verifier *v,
	const uint8_t nonce[SCRAM_NONCE], const struct scram_binding *binding, bool plus)
{
	*s = (struct scram_server){.verifier = *v, .plus = plus};
	copy_binding(&s->binding, binding);
	encode(nonce, SCRAM_NONCE, s->server_nonce, sizeof(s->server_nonce));
}

/* The gs2 header: `n,,` `y,,` or `p=tls-server-end-point,,`; gives where the bare message begins. */
static enum status read_gs2(struct scram_server *s, const char *msg, const char **bare, struct error *err)
{
	const char *p = msg + 1;

	s->gs2_flag = msg[0];
	switch (msg[0]) {
	case 'y':
		if (s->binding.len > 0 && !s->plus) {
			error_set(err, E_PROTOCOL, SQLSTATE_INVALID_AUTHORIZATION_SPECIFICATION,
				"SCRAM channel binding negotiation error");
			return E_PROTOCOL;
		}
		/* fall through */
	case 'n':
		if (s->plus)
			return malformed(err, "SCRAM-SHA-256-PLUS without channel binding data");
		break;
	case 'p':
		if (!s->plus || s->binding.len == 0)
			return malformed(err, "channel binding data without SCRAM-SHA-256-PLUS");
		p = msg + sizeof(GS2_BOUND) - 3;
		if (strncmp(msg, GS2_BOUND, sizeof(GS2_BOUND) - 3) != 0 || *p != ',')
			return error_set(err, E_UNSUPPORTED, SQLSTATE_PROTOCOL_VIOLATION,
				"unsupported SCRAM channel-binding type");
		break;
	default:
		return malformed(err, "unexpected channel-binding flag");
	}
	if (*p++ != ',')
		return malformed(err, "comma expected");
	if (*p == 'a')
		return error_set(err, E_UNSUPPORTED, SQLSTATE_FEATURE_NOT_SUPPORTED,
			"client uses authorization identity, but it is not supported");
	if (*p++ != ',')
		return malformed(err, "comma expected");
	*bare = p;
	return OK;
}

static enum status read_client_first(struct scram_server *s, const char *msg, struct error *err)
{
	const char *p = msg;
	struct attribute a;
	enum status st;

	st = read_gs2(s, msg, &p, err);
	if (st)
		return st;
	str_copy(s->client_first, sizeof(s->client_first), p);
	if (*p == 'm')
		return error_set(err, E_UNSUPPORTED, SQLSTATE_FEATURE_NOT_SUPPORTED,
			"client requires an unsupported SCRAM extension");
	a = next_attribute(&p);
	if (a.name != 'n')
		return malformed(err, "attribute \"n\" expected");
	a = next_attribute(&p);
	if (a.name != 'r')
		return malformed(err, "attribute \"r\" expected");
	if (!is_nonce(&a))
		return error_set(err, E_PROTOCOL, SQLSTATE_PROTOCOL_VIOLATION,
			"non-printable characters in SCRAM nonce");
	/* extensions that follow are optional ones: ignored, but they must be well-formed */
	snprintf(s->nonce, sizeof(s->nonce), "%.*s%s", (int)a.len, a.value, s->server_nonce);
	while (*p)
		if (!next_attribute(&p).name)
			return malformed(err, "attribute expected");
	return OK;
}

enum status scram_server_first(
	struct scram_server *s, const void *msg, uint32_t n, struct writer *out, struct error *err)
{
	char text[SCRAM_MESSAGE_MAX + 1], salt[BASE64_MAX];
	enum status st = E_STATE;

	if (s->state != SCRAM_START)
		goto fail;
	st = copy_message(msg, n, text, err);
	if (!st)
		st = read_client_first(s, text, err);
	if (st)
		goto fail;
	encode(s->verifier.salt, s->verifier.salt_len, salt, sizeof(salt));
	snprintf(s->server_first, sizeof(s->server_first), "r=%s,s=%s,i=%u", s->nonce, salt,
		s->verifier.iterations);
	writer_text(out, s->server_first);
	s->state = SCRAM_CHALLENGED;
	return OK;
fail:
	s->state = SCRAM_FAILED;
	return st;
}

/* Reads c=, r= and p= (which is last); *unproved_len is the length of all before ",p=". */
static enum status read_client_final(const struct scram_server *s, const char *msg, uint8_t proof[SCRAM_KEY],
	size_t *unproved_len, struct error *err)
{
	char binding[BASE64_MAX];
	const char *p = msg, *before;
	struct attribute a = next_attribute(&p);

	binding_text(s->gs2_flag, &s->binding, binding);
	if (a.name != 'c')
		return malformed(err, "attribute \"c\" expected");
	if (a.len != strlen(binding) || memcmp(a.value, binding, a.len) != 0)
		return error_set(err, E_PROTOCOL, SQLSTATE_INVALID_AUTHORIZATION_SPECIFICATION,
			s->gs2_flag == 'p'
				? "SCRAM channel binding check failed"
				: "unexpected SCRAM channel-binding attribute in client-final-message");
	a = next_attribute(&p);
	if (a.name != 'r')
		return malformed(err, "attribute \"r\" expected");
	if (a.len != strlen(s->nonce) || memcmp(a.value, s->nonce, a.len) != 0)
		return error_set(err, E_PROTOCOL, SQLSTATE_PROTOCOL_VIOLATION,
			"invalid SCRAM response (nonce does not match)");
	do {
		before = p;
		a = next_attribute(&p);
	} while (a.name && a.name != 'p');
	if (!a.name)
		return malformed(err, "attribute \"p\" expected");
	if (*p || a.value[a.len] || !decode_key(a.value, a.len, proof))
		return malformed(err, "malformed proof in client-final-message");
	*unproved_len = (size_t)(before - msg) - 1;
	return OK;
}

/* Recovers ClientKey from the proof and compares. The work is the same for mock users. */
static bool proof_is_right(struct scram_server *s, const uint8_t proof[SCRAM_KEY], const char *auth, size_t n)
{
	uint8_t signature[SCRAM_KEY], client_key[SCRAM_KEY];
	bool right;

	hmac(s->verifier.stored_key, auth, n, signature);
	xor_keys(proof, signature, client_key);
	right = scram_key_matches(client_key, &s->verifier);
	if (right) {
		memcpy(s->keys.client, client_key, SCRAM_KEY);
		memcpy(s->keys.server, s->verifier.server_key, SCRAM_KEY);
	}
	scram_clear(client_key, sizeof(client_key));
	return right;
}

enum status scram_server_final(
	struct scram_server *s, const void *msg, uint32_t n, struct writer *out, struct error *err)
{
	char text[SCRAM_MESSAGE_MAX + 1], auth[AUTH_MAX], signature64[BASE64_MAX];
	uint8_t proof[SCRAM_KEY], signature[SCRAM_KEY];
	enum status st = E_STATE;
	size_t unproved_len = 0, auth_len;

	if (s->state != SCRAM_CHALLENGED)
		goto fail;
	st = copy_message(msg, n, text, err);
	if (!st)
		st = read_client_final(s, text, proof, &unproved_len, err);
	if (st)
		goto fail;
	auth_len = auth_message(auth, s->client_first, s->server_first, text, unproved_len);
	st = E_DENIED;
	if (!proof_is_right(s, proof, auth, auth_len))
		goto fail;
	hmac(s->verifier.server_key, auth, auth_len, signature);
	encode(signature, SCRAM_KEY, signature64, sizeof(signature64));
	writer_text(out, "v=");
	writer_text(out, signature64);
	s->state = SCRAM_DONE;
	return OK;
fail:
	s->state = SCRAM_FAILED;
	return st;
}

void scram_client_init(struct scram_client *c, const uint8_t nonce[SCRAM_NONCE],
	const struct scram_binding *binding, bool tls_unbound)
{
	*c = (struct scram_client){.tls_unbound = tls_unbound};
	copy_binding(&c->binding, binding);
	encode(nonce, SCRAM_NONCE, c->nonce, sizeof(c->nonce));
	snprintf(c->client_first, sizeof(c->client_first), "n=,r=%.32s", c->nonce);
}

static char client_flag(const struct scram_client *c)
{
	if (c->binding.len > 0)
		return 'p';
	return c->tls_unbound ? 'y' : 'n';
}

void scram_client_first(const struct scram_client *c, struct writer *out)
{
	char flag = client_flag(c);

	writer_text(out, flag == 'p' ? GS2_BOUND : flag == 'y' ? "y,," : "n,,");
	writer_text(out, c->client_first);
}

static enum status read_server_first(struct scram_client *c, struct error *err)
{
	const char *p = c->server_first;
	size_t own = strlen(c->nonce);
	struct attribute a = next_attribute(&p);
	int64_t iterations;
	int salt_len;

	if (a.name != 'r' || !is_nonce(&a) || a.len <= own || memcmp(a.value, c->nonce, own) != 0)
		return error_set(err, E_PROTOCOL, SQLSTATE_PROTOCOL_VIOLATION,
			"invalid SCRAM response (nonce mismatch)");
	snprintf(c->nonce, sizeof(c->nonce), "%.*s", (int)a.len, a.value);
	a = next_attribute(&p);
	salt_len = a.name == 's' ? decode(a.value, a.len, c->salt, sizeof(c->salt)) : -1;
	if (salt_len < 1)
		return malformed(err, "invalid salt");
	a = next_attribute(&p);
	iterations = a.name == 'i' ? read_number(a.value, a.len, SCRAM_ITERATIONS_MAX) : -1;
	if (iterations < 1)
		return malformed(err, "invalid iteration count");
	if (*p || a.value[a.len])
		return malformed(err, "garbage at end of server-first-message");
	c->salt_len = (uint32_t)salt_len;
	c->iterations = (uint32_t)iterations;
	return OK;
}

enum status scram_client_challenge(struct scram_client *c, const void *msg, uint32_t n, struct error *err)
{
	enum status st = E_STATE;

	if (c->state == SCRAM_START)
		st = copy_message(msg, n, c->server_first, err);
	if (!st)
		st = read_server_first(c, err);
	c->state = st ? SCRAM_FAILED : SCRAM_CHALLENGED;
	return st;
}

enum status scram_client_final(
	struct scram_client *c, const struct scram_keys *keys, struct writer *out, struct error *err)
{
	char binding[BASE64_MAX], unproved[2 * SCRAM_MESSAGE_MAX], auth[AUTH_MAX], proof64[BASE64_MAX];
	uint8_t stored[SCRAM_KEY], signature[SCRAM_KEY], proof[SCRAM_KEY];
	size_t auth_len;

	if (c->state != SCRAM_CHALLENGED)
		return error_set(
			err, E_STATE, SQLSTATE_INTERNAL_ERROR, "SCRAM proof asked for before the challenge");
	binding_text(client_flag(c), &c->binding, binding);
	snprintf(unproved, sizeof(unproved), "c=%s,r=%s", binding, c->nonce);
	auth_len = auth_message(auth, c->client_first, c->server_first, unproved, strlen(unproved));
	hash(keys->client, stored);
	hmac(stored, auth, auth_len, signature);
	xor_keys(keys->client, signature, proof);
	hmac(keys->server, auth, auth_len, c->server_signature);
	encode(proof, SCRAM_KEY, proof64, sizeof(proof64));
	writer_text(out, unproved);
	writer_text(out, ",p=");
	writer_text(out, proof64);
	c->state = SCRAM_DONE;
	return OK;
}

enum status scram_client_verify(struct scram_client *c, const void *msg, uint32_t n, struct error *err)
{
	char text[SCRAM_MESSAGE_MAX + 1];
	uint8_t signature[SCRAM_KEY];
	const char *p = text;
	struct attribute a;
	enum status st;

	if (c->state != SCRAM_DONE)
		return error_set(
			err, E_STATE, SQLSTATE_INTERNAL_ERROR, "SCRAM answer read before the proof was sent");
	c->state = SCRAM_FAILED;
	st = copy_message(msg, n, text, err);
	if (st)
		return st;
	a = next_attribute(&p);
	if (a.name == 'e')
		return error_set(err, E_DENIED, SQLSTATE_INVALID_PASSWORD,
			"error received from server in SCRAM exchange: %.*s", (int)a.len, a.value);
	if (a.name != 'v' || !decode_key(a.value, a.len, signature))
		return malformed(err, "invalid server signature");
	if (*p || a.value[a.len])
		return malformed(err, "garbage at end of server-final-message");
	if (CRYPTO_memcmp(signature, c->server_signature, SCRAM_KEY) != 0)
		return error_set(err, E_DENIED, SQLSTATE_INVALID_PASSWORD, "incorrect server signature");
	c->state = SCRAM_DONE;
	return OK;
}

/* Hex of md5(a || b). */
static enum status md5_hex(const void *a, size_t a_len, const void *b, size_t b_len, char out[33])
{
	uint8_t digest[16];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool done = ctx && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) && EVP_DigestUpdate(ctx, a, a_len) &&
		    EVP_DigestUpdate(ctx, b, b_len) && EVP_DigestFinal_ex(ctx, digest, NULL);

	EVP_MD_CTX_free(ctx);
	if (!done)
		return E_UNSUPPORTED;
	for (int i = 0; i < 16; i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
	return OK;
}

enum status scram_md5_answer(
	const char *password, const char *user, const uint8_t salt[4], char out[SCRAM_MD5_MAX])
{
	char inner[33];
	enum status st = md5_hex(password, strlen(password), user, strlen(user), inner);

	if (st)
		return st;
	memcpy(out, "md5", 3);
	return md5_hex(inner, 32, salt, 4, out + 3);
}
