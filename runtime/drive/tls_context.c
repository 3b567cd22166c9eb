/* TLS contexts by their files. Contracts in tls_context.h. */
#include "runtime/drive/tls_context.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/bytes.h"
#include "runtime/drive/socket.h"

enum { FILES = 3, PATH_BYTES = 512 };

struct tls_context {
	SSL_CTX *ctx;
	char files[FILES][PATH_BYTES]; /* certificate, key, CA; "" for none */
	struct timespec changed[FILES];
	bool server, require_peer_cert;
};

const char *tls_error_text(char text[160])
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	str_copy(text, 160, reason ? reason : "unknown error");
	ERR_clear_error();
	return text;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
	unsigned in_len, void *arg)
{
	const struct tls_alpn *ours = SSL_get_app_data(ssl);
	unsigned char *chosen;

	(void)arg;
	if (!ours->len)
		return SSL_TLSEXT_ERR_NOACK;
	if (SSL_select_next_proto(&chosen, out_len, ours->wire, ours->len, in, in_len) !=
		OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static enum status unusable(struct error *err, const char *what, const char *file)
{
	char why[160];

	return error_set(
		err, E_INVALID, "F0000", "could not load %s \"%.200s\": %s", what, file, tls_error_text(why));
}

static enum status context_load(struct tls_context *c, struct error *err)
{
	const char *cert = c->files[0], *key = c->files[1], *ca = c->files[2];
	int verify = SSL_VERIFY_NONE;

	ERR_clear_error();
	if (cert[0] && SSL_CTX_use_certificate_chain_file(c->ctx, cert) != 1)
		return unusable(err, "certificate file", cert);
	if (key[0] && SSL_CTX_use_PrivateKey_file(c->ctx, key, SSL_FILETYPE_PEM) != 1)
		return unusable(err, "private key file", key);
	if (cert[0] && SSL_CTX_check_private_key(c->ctx) != 1)
		return unusable(err, "private key file", key);
	if (ca[0]) {
		if (SSL_CTX_load_verify_locations(c->ctx, ca, NULL) != 1)
			return unusable(err, "root certificate file", ca);
		verify = SSL_VERIFY_PEER;
		if (c->server) {
			STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca);

			if (!names)
				return unusable(err, "root certificate file", ca);
			SSL_CTX_set_client_CA_list(c->ctx, names);
		}
	}
	if (c->require_peer_cert)
		verify |= SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	SSL_CTX_set_verify(c->ctx, verify, NULL);
	return OK;
}

static enum status context_init(struct tls_context *c, struct error *err)
{
	c->ctx = SSL_CTX_new(c->server ? TLS_server_method() : TLS_client_method());
	if (!c->ctx)
		return error_set(err, E_NOMEM, "53200", "could not create a TLS context");
	SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(c->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
					    SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_num_tickets(c->ctx, 0);
	SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
	if (c->server)
		SSL_CTX_set_alpn_select_cb(c->ctx, choose_alpn, NULL);
	return context_load(c, err);
}

static enum status files_stat(struct tls_context *c, struct error *err)
{
	struct stat st;
	char why[128];

	for (int i = 0; i < FILES; i++) {
		if (!c->files[i][0])
			continue;
		if (stat(c->files[i], &st))
			return error_set(err, E_NOT_FOUND, "F0000", "could not access file \"%.200s\": %s",
				c->files[i], errno_text(errno, why));
		c->changed[i] = st.st_mtim;
	}
	return OK;
}

static bool same_files(const struct tls_context *a, const struct tls_context *b)
{
	for (int i = 0; i < FILES; i++)
		if (strcmp(a->files[i], b->files[i]))
			return false;
	return a->server == b->server && a->require_peer_cert == b->require_peer_cert;
}

static bool same_times(const struct tls_context *a, const struct tls_context *b)
{
	for (int i = 0; i < FILES; i++)
		if (a->changed[i].tv_sec != b->changed[i].tv_sec ||
			a->changed[i].tv_nsec != b->changed[i].tv_nsec)
			return false;
	return true;
}

static enum status spec_check(const struct io_tls *spec, struct error *err)
{
	if (spec->server && (!spec->cert_file || !spec->key_file))
		return error_set(err, E_INVALID, "F0000", "a TLS server needs a certificate and a key");
	if (!!spec->cert_file != !!spec->key_file)
		return error_set(err, E_INVALID, "F0000", "a certificate needs its key");
	if ((spec->verify_name || spec->require_peer_cert) && !spec->ca_file)
		return error_set(err, E_INVALID, "F0000", "verifying the peer needs a root certificate file");
	if (spec->verify_name && !spec->server_name)
		return error_set(err, E_INVALID, "F0000", "verifying the peer's name needs a name");
	return OK;
}

/* What a spec asks for: the files' names and times, nothing loaded. */
static enum status context_want(const struct io_tls *spec, struct tls_context *want, struct error *err)
{
	const char *files[FILES] = {spec->cert_file, spec->key_file, spec->ca_file};
	enum status st = spec_check(spec, err);

	*want = (struct tls_context){.server = spec->server, .require_peer_cert = spec->require_peer_cert};
	for (uint32_t i = 0; i < FILES && st == OK; i++)
		if (files[i] && !str_copy(want->files[i], PATH_BYTES, files[i]))
			st = error_set(err, E_INVALID, "F0000", "file name is too long");
	return st == OK ? files_stat(want, err) : st;
}

enum status drive_tls_check(const struct io_tls *spec, struct error *err)
{
	struct tls_context c;
	enum status st = context_want(spec, &c, err);

	if (st == OK)
		st = context_init(&c, err);
	SSL_CTX_free(c.ctx);
	return st;
}

enum status tls_context_get(struct loop *l, const struct io_tls *spec, SSL_CTX **out, struct error *err)
{
	struct tls_context want, *at;
	enum status st = context_want(spec, &want, err);
	uint32_t i;

	if (st)
		return st;
	if (!l->tls_contexts) {
		l->tls_contexts = calloc(TLS_CONTEXTS_MAX, sizeof(*l->tls_contexts));
		check(l->tls_contexts != NULL);
	}
	for (i = 0; i < l->n_tls_contexts && !same_files(&l->tls_contexts[i], &want); i++)
		;
	if (i < l->n_tls_contexts && same_times(&l->tls_contexts[i], &want)) {
		*out = l->tls_contexts[i].ctx;
		return OK;
	}
	st = context_init(&want, err);
	if (st) {
		SSL_CTX_free(want.ctx);
		return st;
	}
	if (i == TLS_CONTEXTS_MAX)
		i = (uint32_t)(l->driver.ops->ticks(&l->driver) %
			       TLS_CONTEXTS_MAX); /* any: it can be read again */
	at = &l->tls_contexts[i];
	if (i == l->n_tls_contexts)
		l->n_tls_contexts++;
	SSL_CTX_free(at->ctx);
	*at = want;
	*out = at->ctx;
	return OK;
}

void drive_tls_contexts_release(struct loop *l)
{
	for (uint32_t i = 0; i < l->n_tls_contexts; i++)
		SSL_CTX_free(l->tls_contexts[i].ctx);
	free(l->tls_contexts);
	l->tls_contexts = NULL;
	l->n_tls_contexts = 0;
}
