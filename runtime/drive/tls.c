/*
 * TLS on a socket. OpenSSL never sees the descriptor: it reads from the ciphertext just received and writes into a
 * buffer that is queued on the socket, through a BIO of our own that copies nothing it needn't.
 *
 *	recv -> cipher -> in ->  SSL_read  -> read chunk -> IO_BYTES
 *	          io_write   -> SSL_write -> out -> the socket's queue
 *
 * One recv gives at most one IO_BYTES: plaintext is shorter than its ciphertext, of which OpenSSL itself may have kept the
 * start of one record from the recv before; so PLAIN_ROOM always suffices. During the handshake reading needs no
 * credit. The handshake runs on the worker.
 *
 * A failed handshake is told by IO_TLS_UP alone: the id is dead then, no IO_CLOSED follows.
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/drive/socket.h"
#include "runtime/drive/tls_context.h"

enum {
	TLS_TIMEOUT_DEFAULT_MS = 10000,
	TLS_OUT_MAX = IO_QUEUE_MAX,
	TLS_WAITING_MAX = 64,
	PLAIN_ROOM = READ_MAX + SSL3_RT_MAX_ENCRYPTED_LENGTH
};

struct tls {
	struct tls_alpn alpn; /* first: the SSL's app data */
	SSL *ssl;
	bool server, up, broken;
	const uint8_t *in; /* ciphertext not yet read by OpenSSL */
	uint32_t in_len;
	struct slice held; /* ciphertext that came behind the handshake, before any credit */
	struct writer out; /* ciphertext not yet on the socket's queue */
	struct slice waiting[TLS_WAITING_MAX]; /* written before the handshake was over */
	uint32_t n_waiting;
};

/* ---- the BIO ------------------------------------------------------------------------------------------------- */

static int bio_read(BIO *b, char *to, int n)
{
	struct tls *t = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (!t->in_len) {
		BIO_set_retry_read(b);
		return -1;
	}
	if ((uint32_t)n > t->in_len)
		n = (int)t->in_len;
	memcpy(to, t->in, (size_t)n);
	t->in += n;
	t->in_len -= (uint32_t)n;
	return n;
}

static int bio_write(BIO *b, const char *from, int n)
{
	struct tls *t = BIO_get_data(b);

	writer_put(&t->out, from, (uint32_t)n);
	return t->out.failed ? -1 : n;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)b;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP;
}

static BIO_METHOD *bio_method;

static void bio_method_make(void)
{
	bio_method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "multigres drive");
	check(bio_method != NULL);
	BIO_meth_set_read(bio_method, bio_read);
	BIO_meth_set_write(bio_method, bio_write);
	BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

static BIO *bio_new(struct tls *t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	BIO *b;

	pthread_once(&once, bio_method_make);
	b = BIO_new(bio_method);
	check(b != NULL);
	BIO_set_data(b, t);
	BIO_set_init(b, 1);
	return b;
}

/* ---- plumbing ------------------------------------------------------------------------------------------------ */

static enum status tls_out(struct sock *s)
{
	struct slice bytes = writer_take(&s->tls->out);

	writer_init(&s->tls->out, TLS_OUT_MAX);
	return sock_queue(s, &bytes);
}

static enum status tls_encrypt(struct sock *s, struct slice *bytes)
{
	struct tls *t = s->tls;
	size_t done;
	int rc = 1;

	if (bytes->len) {
		ERR_clear_error();
		rc = SSL_write_ex(t->ssl, slice_data(bytes), bytes->len, &done);
	}
	slice_release(bytes);
	if (rc != 1) {
		t->broken = true;
		return E_IO;
	}
	return tls_out(s);
}

bool tls_handshaking(const struct sock *s)
{
	return s->tls && !s->tls->up;
}

void tls_free(struct sock *s)
{
	struct tls *t = s->tls;

	if (!t)
		return;
	SSL_free(t->ssl);
	writer_release(&t->out);
	slice_release(&t->held);
	for (uint32_t i = 0; i < t->n_waiting; i++)
		slice_release(&t->waiting[i]);
	free(t);
	s->tls = NULL;
}

/* ---- the handshake ------------------------------------------------------------------------------------------- */

/* RFC 5929 section 4.1: the hash of the certificate's signature, but SHA-256 for MD5 and SHA-1. */
static struct slice end_point_hash(X509 *cert)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	int digest = NID_undef;

	if (!cert || !X509_get_signature_info(cert, &digest, NULL, NULL, NULL) || digest == NID_undef)
		return (struct slice){0};
	if (digest == NID_md5 || digest == NID_sha1)
		digest = NID_sha256;
	if (!EVP_get_digestbynid(digest) || !X509_digest(cert, EVP_get_digestbynid(digest), hash, &n))
		return (struct slice){0};
	return slice_copy(hash, n);
}

static void tls_describe(const struct tls *t, struct io_tls_up *up)
{
	X509 *peer = SSL_get1_peer_certificate(t->ssl);
	const unsigned char *alpn = NULL;
	unsigned alpn_len = 0;

	str_copy(up->version, sizeof(up->version), SSL_get_version(t->ssl));
	str_copy(up->cipher, sizeof(up->cipher), SSL_get_cipher_name(t->ssl));
	SSL_get0_alpn_selected(t->ssl, &alpn, &alpn_len);
	if (alpn_len < sizeof(up->alpn))
		memcpy(up->alpn, alpn ? (const void *)alpn : "", alpn_len);
	if (peer) {
		X509_NAME *subject = X509_get_subject_name(peer);
		char cn[sizeof(up->peer_cn)] = "";
		int n = X509_NAME_get_text_by_NID(subject, NID_commonName, cn, sizeof(cn));

		if (n > 0 && strlen(cn) == (size_t)n) /* a NUL inside is an attack: then no name */
			str_copy(up->peer_cn, sizeof(up->peer_cn), cn);
	}
	up->end_point = end_point_hash(t->server ? SSL_get_certificate(t->ssl) : peer);
	X509_free(peer);
}

static void tls_tell(struct sock *s, enum status st, const char *text)
{
	struct msg *m = worker_msg_new(s->loop->worker, IO_TLS_UP);
	struct io_tls_up *up = msg_body(m);

	m->to = s->object.handle.owner;
	up->io = s->object.id;
	up->status = (uint8_t)st;
	str_copy(up->text, sizeof(up->text), text);
	if (st == OK)
		tls_describe(s->tls, up);
	worker_deliver(s->loop->worker, m);
}

void tls_handshake_failed(struct sock *s, enum status st, const char *text)
{
	if (s->object.id)
		tls_tell(s, st, text);
	sock_flush(s); /* the alert, as far as it goes */
	sock_destroy(s);
}

static void tls_expired(struct deadline *d)
{
	tls_handshake_failed(CONTAINER_OF(d, struct sock, deadline), E_TIMEOUT, "TLS handshake timed out");
}

static enum status tls_established(struct sock *s)
{
	struct tls *t = s->tls;
	enum status st = OK;

	t->up = true;
	drive_deadline_clear(&s->deadline);
	tls_tell(s, OK, "");
	for (uint32_t i = 0; i < t->n_waiting && st == OK; i++)
		st = tls_encrypt(s, &t->waiting[i]);
	t->n_waiting = 0;
	return st;
}

static void tls_refused(struct sock *s)
{
	long verify = SSL_get_verify_result(s->tls->ssl);
	char why[160], text[160];

	if (verify != X509_V_OK) {
		ERR_clear_error();
		snprintf(text, sizeof(text), "certificate verify failed: %s",
			X509_verify_cert_error_string(verify));
		tls_handshake_failed(s, E_DENIED, text);
		return;
	}
	snprintf(text, sizeof(text), "TLS handshake failed: %.120s", tls_error_text(why));
	tls_handshake_failed(s, E_PROTOCOL, text);
}

/* A step of the handshake. False: the socket is gone. */
static bool tls_step(struct sock *s)
{
	struct tls *t = s->tls;
	int rc, why;

	ERR_clear_error();
	rc = SSL_do_handshake(t->ssl);
	why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rc);
	if (tls_out(s) == E_FULL || (rc != 1 && why != SSL_ERROR_WANT_READ)) {
		tls_refused(s);
		return false;
	}
	if (rc == 1 && tls_established(s)) {
		sock_closed(s, E_IO, "could not encrypt");
		return false;
	}
	return true;
}

/* ---- bytes --------------------------------------------------------------------------------------------------- */

static void tls_read_failed(struct sock *s, int why)
{
	char reason[160], text[160];

	if (why == SSL_ERROR_ZERO_RETURN) {
		sock_closed(s, E_CLOSED, "connection closed by peer");
		return;
	}
	s->tls->broken = true;
	snprintf(text, sizeof(text), "TLS error: %.140s", tls_error_text(reason));
	sock_closed(s, E_IO, text);
}

void tls_input(struct sock *s, const uint8_t *bytes, uint32_t n)
{
	struct tls *t = s->tls;
	uint32_t size, got = 0;
	uint8_t *at;
	size_t part;
	int rc;

	t->in = bytes;
	t->in_len = n;
	if (!t->up && (!tls_step(s) || !t->up))
		return;
	if (!s->credit) {
		t->held = slice_copy(t->in, t->in_len);
		return;
	}
	drive_chunk(s->loop, PLAIN_ROOM, &at, &size);
	do {
		ERR_clear_error();
		rc = SSL_read_ex(t->ssl, at + got, size - got, &part);
		if (rc == 1)
			got += (uint32_t)part;
	} while (rc == 1 && got < size);
	check(rc != 1); /* room was left, or bytes would be lost */
	rc = SSL_get_error(t->ssl, rc);
	t->in = NULL;
	t->in_len = 0;
	if (got)
		sock_deliver(s, drive_chunk_take(s->loop, got));
	if (tls_out(s) == E_FULL) /* an answer to a key update */
		sock_closed(s, E_FULL, "too many bytes are waiting to be sent");
	else if (rc != SSL_ERROR_WANT_READ)
		tls_read_failed(s, rc);
}

bool tls_holds(const struct sock *s)
{
	return s->tls && s->tls->held.len;
}

void tls_credited(struct sock *s)
{
	struct slice held = slice_take(&s->tls->held);

	tls_input(s, slice_data(&held), held.len);
	slice_release(&held);
}

enum status tls_write(struct sock *s, struct slice *bytes)
{
	struct tls *t = s->tls;

	if (t->up)
		return tls_encrypt(s, bytes);
	if (t->n_waiting == TLS_WAITING_MAX) {
		slice_release(bytes);
		return E_FULL;
	}
	t->waiting[t->n_waiting] = slice_take(bytes);
	slice_compact(&t->waiting[t->n_waiting++]);
	return OK;
}

void tls_notify_close(struct sock *s)
{
	if (!s->tls || !s->tls->up || s->tls->broken)
		return;
	ERR_clear_error();
	SSL_shutdown(s->tls->ssl);
	tls_out(s);
}

/* ---- starting ------------------------------------------------------------------------------------------------ */

/* What the client says it wants, and checks: name and protocol. */
static bool tls_client_setup(struct tls *t, const struct io_tls *spec)
{
	struct in6_addr ip;
	const char *name = spec->server_name;
	bool literal = name && (inet_pton(AF_INET, name, &ip) == 1 || inet_pton(AF_INET6, name, &ip) == 1);

	SSL_set_connect_state(t->ssl);
	if (t->alpn.len && SSL_set_alpn_protos(t->ssl, t->alpn.wire, t->alpn.len))
		return false;
	/* SSL_set_tlsext_host_name, whose macro casts const away. No addresses: RFC 6066 */
	if (name && !literal &&
		SSL_ctrl(t->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
			(void *)(uintptr_t)name) != 1)
		return false;
	if (!spec->verify_name)
		return true;
	if (literal)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), name) == 1;
	return SSL_set1_host(t->ssl, name) == 1;
}

static bool tls_setup(struct sock *s, SSL_CTX *ctx, const struct io_tls *spec)
{
	struct tls *t = calloc(1, sizeof(*t));
	size_t alpn = spec->alpn ? strlen(spec->alpn) : 0;
	BIO *bio;

	check(t != NULL);
	s->tls = t;
	t->server = spec->server;
	writer_init(&t->out, TLS_OUT_MAX);
	if (alpn > TLS_ALPN_MAX)
		return false;
	if (alpn) {
		t->alpn.wire[0] = (uint8_t)alpn;
		memcpy(t->alpn.wire + 1, spec->alpn, alpn);
		t->alpn.len = (uint8_t)(alpn + 1);
	}
	t->ssl = SSL_new(ctx);
	if (!t->ssl)
		return false;
	bio = bio_new(t);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_app_data(t->ssl, &t->alpn);
	if (!spec->server)
		return tls_client_setup(t, spec);
	SSL_set_accept_state(t->ssl);
	return true;
}

enum status drive_tls(
	struct driver *d, struct actor *a, uint64_t io, const struct io_tls *spec, struct error *err)
{
	struct loop *l = loop_of(d);
	struct object *o = drive_object_find(l, io, OBJECT_SOCKET, a);
	struct sock *s = CONTAINER_OF(o, struct sock, object);
	SSL_CTX *ctx;
	enum status st;

	if (!o)
		return error_set(err, E_CLOSED, "08003", "the connection is closed");
	if (s->tls || s->phase != SOCKET_OPEN)
		return error_set(err, E_STATE, "55000", "TLS can be started once, on an open connection");
	st = tls_context_get(l, spec, &ctx, err);
	if (st)
		return st;
	if (!tls_setup(s, ctx, spec)) {
		ERR_clear_error();
		tls_free(s);
		return error_set(err, E_INVALID, "F0000", "could not set up TLS");
	}
	drive_deadline_set(
		l, &s->deadline, spec->timeout_ms ? spec->timeout_ms : TLS_TIMEOUT_DEFAULT_MS, tls_expired);
	s->read_mode = READ_ON;
	sock_watch(s);
	if (!spec->server)
		tls_step(s); /* a failure is told by message */
	return OK;
}
