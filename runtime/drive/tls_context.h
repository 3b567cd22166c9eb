/*
 * TLS contexts: certificates, keys and rules read from files, kept per worker and read again when a file has changed,
 * so that a renewed certificate needs no restart. The only other user of OpenSSL here is tls.c.
 */
#ifndef RUNTIME_DRIVE_TLS_CONTEXT_H
#define RUNTIME_DRIVE_TLS_CONTEXT_H

#include <openssl/ssl.h>

#include "runtime/drive/internal.h"

enum { TLS_CONTEXTS_MAX = 16, TLS_ALPN_MAX = 31 };

/* Gives a context, borrowed until the next call; SSL_new counts it. err says which file and why. */
enum status tls_context_get(
	struct loop *l, const struct io_tls *spec, SSL_CTX **out, struct error *err) MUST_CHECK;
/* What a server's ALPN callback compares with: set as the SSL's app data before the handshake. */
struct tls_alpn {
	uint8_t wire[TLS_ALPN_MAX + 1]; /* length and name */
	uint8_t len; /* of wire; 0: none */
};
/* The newest error of this thread's queue as text; empties the queue. */
const char *tls_error_text(char text[160]);

#endif
