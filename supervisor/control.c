/*
 * The control link over nng, both sides. Server: CONTROL_THREADS threads, each with a context of one rep0 socket, so
 * that a slow verb keeps up one of them only. The traps this avoids: an unlimited receive size (NNG_OPT_RECVMAXSZ is 0
 * by default), a req0 that sends again after a minute, a busy aio used twice (each belongs to one thread).
 */
#include "supervisor/control.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/core/codec.h"

enum {
	REQUEST_BYTES_MAX = ADMIN_ARGS_MAX + 4096,
	URL_MAX = 1100,
	SEND_MS = 5000,
	STACK_BYTES = 512 << 10,
	LINGER_MS = 30,
	LINGER_TRIES = 30
};

struct responder {
	struct control *control;
	nng_ctx ctx;
	nng_aio *aio;
	pthread_t thread;
	bool running;
};

struct control {
	nng_socket socket;
	struct drive *drive;
	_Atomic int busy; /* requests taken and not yet answered */
	struct responder responders[CONTROL_THREADS];
};

/* ---- server ------------------------------------------------------------------------------------------------- */

static void encode_answer(const struct admin_answer *a, struct writer *out)
{
	msg_encode_body(catalog_find(ADMIN_ANSWER), a, out);
}

static void on_admin_reply(void *arg, uint16_t tag, void *body, enum status st)
{
	struct admin_answer failed = {.status = (uint8_t)(st ? st : E_INTERNAL)};

	if (tag == ADMIN_ANSWER) {
		encode_answer(body, arg);
		return;
	}
	snprintf(failed.text, sizeof(failed.text), "the admin actor did not answer (%s)",
		status_name((enum status)failed.status));
	encode_answer(&failed, arg);
}

/* Asks the admin actor what came in; always fills `out` with an answer. */
static void serve(struct drive *drive, const void *bytes, size_t n, struct writer *out)
{
	const struct msg_desc *d = catalog_find(ADMIN_REQUEST);
	struct admin_request request = {0};
	struct admin_answer failed = {0};
	enum status st = msg_decode_body(d, bytes, n, &request);

	if (st) {
		failed.status = (uint8_t)st;
		snprintf(failed.text, sizeof(failed.text), "this is no request a node understands");
	} else {
		st = drive_call(
			drive, "admin", ADMIN_REQUEST, &request, CONTROL_CALL_MS, on_admin_reply, out);
		failed.status = (uint8_t)st;
		snprintf(failed.text, sizeof(failed.text), "the admin actor did not answer (%s)",
			status_name(st));
	}
	msg_release_body(d, &request);
	if (out->len == 0)
		encode_answer(&failed, out);
}

static bool receive(struct responder *r, nng_msg **m)
{
	nng_aio_set_timeout(r->aio, NNG_DURATION_INFINITE);
	nng_ctx_recv(r->ctx, r->aio);
	nng_aio_wait(r->aio);
	if (nng_aio_result(r->aio))
		return false;
	*m = nng_aio_get_msg(r->aio);
	return true;
}

static void reply(struct responder *r, struct writer *out)
{
	nng_msg *m;

	if (!out->buf || out->failed || nng_msg_alloc(&m, 0))
		return;
	if (nng_msg_append(m, out->buf->data, out->len)) {
		nng_msg_free(m);
		return;
	}
	nng_aio_set_msg(r->aio, m);
	nng_aio_set_timeout(r->aio, SEND_MS);
	nng_ctx_send(r->ctx, r->aio);
	nng_aio_wait(r->aio);
	if (nng_aio_result(r->aio))
		nng_msg_free(nng_aio_get_msg(r->aio));
}

static void *respond(void *arg)
{
	struct responder *r = arg;
	nng_msg *m;

	while (receive(r, &m)) {
		struct writer out;

		atomic_fetch_add(&r->control->busy, 1);
		writer_init(&out, CONTROL_MESSAGE_MAX);
		serve(r->control->drive, nng_msg_body(m), nng_msg_len(m), &out);
		nng_msg_free(m);
		reply(r, &out);
		writer_release(&out);
		atomic_fetch_sub(&r->control->busy, 1);
	}
	return NULL; /* the socket was closed */
}

static enum status responder_start(struct responder *r)
{
	pthread_attr_t attr;
	int failed;

	if (nng_ctx_open(&r->ctx, r->control->socket) || nng_aio_alloc(&r->aio, NULL, NULL))
		return E_NOMEM;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	failed = pthread_create(&r->thread, &attr, respond, r);
	pthread_attr_destroy(&attr);
	r->running = !failed;
	return failed ? E_LIMIT : OK;
}

enum status control_start(const char *address, struct drive *drive, struct control **out, struct error *err)
{
	struct control *c = calloc(1, sizeof(*c));
	char url[URL_MAX];
	int rv;

	if (!c)
		return error_set(err, E_NOMEM, "53200", "out of memory");
	c->drive = drive;
	snprintf(url, sizeof(url), "tcp://%s", address);
	rv = nng_rep0_open(&c->socket);
	if (rv) {
		free(c);
		return error_set(err, E_IO, "58000", "could not open the control link: %s", nng_strerror(rv));
	}
	nng_socket_set_size(c->socket, NNG_OPT_RECVMAXSZ, REQUEST_BYTES_MAX);
	rv = nng_listen(c->socket, url, NULL, 0);
	if (rv) {
		error_set(err, E_IO, "58000", "could not bind %s: %s; choose another with --control", address,
			rv == NNG_EADDRINUSE ? "address already in use" : nng_strerror(rv));
		control_stop(c);
		return E_IO;
	}
	for (int i = 0; i < CONTROL_THREADS; i++) {
		c->responders[i].control = c;
		if (responder_start(&c->responders[i])) {
			control_stop(c);
			return error_set(err, E_LIMIT, "53000", "could not start the control link's threads");
		}
	}
	*out = c;
	return OK;
}

void control_stop(struct control *c)
{
	if (!c)
		return;
	/* `mgctl stop` wants its answer: nng drops what is on its way when it closes. */
	for (int i = 0; i < LINGER_TRIES && (i == 0 || atomic_load(&c->busy)); i++)
		nanosleep(&(struct timespec){.tv_nsec = LINGER_MS * 1000000L}, NULL);
	nng_close(c->socket);
	for (int i = 0; i < CONTROL_THREADS; i++) {
		struct responder *r = &c->responders[i];

		if (r->running)
			pthread_join(r->thread, NULL);
		if (r->aio)
			nng_aio_free(r->aio);
	}
	free(c);
}

/* ---- client ------------------------------------------------------------------------------------------------- */

struct control_client {
	nng_socket socket;
};

enum status control_client_open(const char *address, struct control_client **out, struct error *err)
{
	struct control_client *c = calloc(1, sizeof(*c));
	char url[URL_MAX];
	int rv;

	if (!c)
		return error_set(err, E_NOMEM, "53200", "out of memory");
	snprintf(url, sizeof(url), "tcp://%s", address);
	rv = nng_req0_open(&c->socket);
	if (rv) {
		free(c);
		return error_set(
			err, E_INTERNAL, "58000", "could not open a control link: %s", nng_strerror(rv));
	}
	nng_socket_set_size(c->socket, NNG_OPT_RECVMAXSZ, CONTROL_MESSAGE_MAX);
	nng_socket_set_ms(c->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
	nng_socket_set_ms(c->socket, NNG_OPT_SENDTIMEO, CONTROL_CONNECT_MS);
	nng_socket_set_ms(c->socket, NNG_OPT_RECVTIMEO, CONTROL_CALL_MS + 5000);
	rv = nng_dial(c->socket, url, NULL, 0); /* waits for the connection; the first refusal is final */
	if (rv) {
		control_client_close(c);
		return error_set(err, E_NODE_DOWN, "08001",
			"no node answers at %s: start one with `multigres dev`, or name it with --node (%s)",
			address, nng_strerror(rv));
	}
	*out = c;
	return OK;
}

void control_client_close(struct control_client *c)
{
	if (!c)
		return;
	nng_close(c->socket);
	free(c);
}

enum status control_client_call(struct control_client *c, const char *verb, const void *args, size_t n,
	struct admin_answer *answer, struct error *err)
{
	struct admin_request request = {.args = slice_copy(args, (uint32_t)n)};
	struct writer out;
	void *bytes;
	size_t got;
	enum status st;
	int rv;

	str_copy(request.verb, sizeof(request.verb), verb);
	writer_init(&out, REQUEST_BYTES_MAX);
	msg_encode_body(catalog_find(ADMIN_REQUEST), &request, &out);
	slice_release(&request.args);
	if (out.failed || !out.buf) {
		writer_release(&out);
		return error_set(
			err, E_LIMIT, "54000", "the request is larger than %d bytes", ADMIN_ARGS_MAX);
	}
	rv = nng_send(c->socket, out.buf->data, out.len, 0);
	writer_release(&out);
	if (!rv)
		rv = nng_recv(c->socket, &bytes, &got, NNG_FLAG_ALLOC);
	if (rv)
		return error_set(err, E_NODE_DOWN, "08006", "the node did not answer: %s", nng_strerror(rv));
	memset(answer, 0, sizeof(*answer));
	st = msg_decode_body(catalog_find(ADMIN_ANSWER), bytes, got, answer);
	nng_free(bytes, got);
	if (st)
		return error_set(err, E_PROTOCOL, "08P01",
			"the node's answer makes no sense: it may be of another version");
	return OK;
}
