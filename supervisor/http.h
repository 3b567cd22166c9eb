/*
 * HTTP for people and monitors, read-only: / (a page), /metrics (Prometheus), /healthz (the process lives and its admin
 * actor answers), /readyz (gates listen and the tablet serves). libmicrohttpd lives here only.
 */
#ifndef SUPERVISOR_HTTP_H
#define SUPERVISOR_HTTP_H

#include "runtime/drive/drive.h"

struct http;

enum { HTTP_THREADS = 2, HTTP_CONNECTIONS_MAX = 64, HTTP_TIMEOUT_S = 10, HTTP_CALL_MS = 3000 };

/* Listens on HOST:PORT; answers from its own threads. */
enum status http_start(
	const char *address, struct drive *drive, struct http **out, struct error *err) MUST_CHECK;
void http_stop(struct http *h); /* NULL is fine */

#endif
