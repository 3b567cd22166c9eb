/* The HTTP server: a few routes, each one question to the admin actor. Bounded threads, connections and times. */
#include "supervisor/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <sys/socket.h>

#include "runtime/base/options.h"
#include "supervisor/messages.h"
#include "supervisor/reader.h"

enum { PAGE_BYTES_MAX = 16 << 20, CONNECTION_BYTES = 32 << 10, ACTORS_SHOWN_MAX = 500 };

struct http {
	struct MHD_Daemon *daemon;
	struct drive *drive;
};

/* What the admin actor said, copied out of the call. */
struct said {
	enum status status;
	char text[ADMIN_TEXT_MAX + 1];
	struct slice body;
};

/* ---- asking -------------------------------------------------------------------------------------------------- */

static void on_reply(void *arg, uint16_t tag, void *body, enum status st)
{
	struct said *said = arg;
	struct admin_answer *a = body;

	said->status = st ? st : E_INTERNAL;
	if (tag != ADMIN_ANSWER)
		return;
	said->status = (enum status)a->status;
	snprintf(said->text, sizeof(said->text), "%s", a->text);
	said->body = slice_copy(slice_data(&a->body), a->body.len);
}

static struct said ask(struct http *h, const char *verb)
{
	struct admin_request request = {0};
	struct said said = {.status = E_TIMEOUT};
	enum status st;

	snprintf(request.verb, sizeof(request.verb), "%s", verb);
	st = drive_call(h->drive, "admin", ADMIN_REQUEST, &request, HTTP_CALL_MS, on_reply, &said);
	if (st)
		said.status = st;
	if (said.status && !said.text[0])
		snprintf(said.text, sizeof(said.text), "the admin actor does not answer (%s)",
			status_name(said.status));
	return said;
}

/* ---- pages --------------------------------------------------------------------------------------------------- */

static void html_text(struct writer *out, const char *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (s[i] == '<')
			writer_text(out, "&lt;");
		else if (s[i] == '>')
			writer_text(out, "&gt;");
		else if (s[i] == '&')
			writer_text(out, "&amp;");
		else if (s[i] == '"')
			writer_text(out, "&quot;");
		else
			writer_u8(out, (uint8_t)s[i]);
	}
}

static void html_cell(struct writer *out, const char *element, const struct cell *c)
{
	char text[32];

	writer_printf(out, "<%s%s>", element, c->kind == CELL_STR || c->kind == CELL_NIL ? "" : " class=n");
	if (c->kind == CELL_STR)
		html_text(out, c->s, c->n);
	else
		writer_text(out, cell_text(c, text, sizeof(text)));
}

static void html_table(struct writer *out, const struct said *said)
{
	struct cell cells[TABLE_COLUMNS_MAX];
	struct table_reader r;
	uint32_t n = 0;

	if (said->status || table_read(&r, slice_data(&said->body), said->body.len)) {
		writer_text(out, "<p>");
		html_text(out, said->text, (uint32_t)strlen(said->text));
		return;
	}
	writer_text(out, "<table><tr>");
	for (uint32_t i = 0; i < r.n_columns; i++)
		html_cell(out, "th", &r.columns[i]);
	while (table_next(&r, cells)) {
		if (n++ == ACTORS_SHOWN_MAX) {
			writer_printf(out,
				"</table><p>The first %d are shown; <code>mgctl actors</code> lists all.",
				ACTORS_SHOWN_MAX);
			return;
		}
		writer_text(out, "\n<tr>");
		for (uint32_t i = 0; i < r.n_columns; i++)
			html_cell(out, "td", &cells[i]);
	}
	writer_text(out, "</table>");
}

static unsigned page_home(struct http *h, struct writer *out)
{
	struct said status = ask(h, "status"), actors = ask(h, "actors");

	writer_text(out,
		"<!doctype html><html lang=en><meta charset=utf-8><title>Multigres node</title>\n"
		"<meta name=viewport content=\"width=device-width\">\n"
		"<style>body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 "
		"1em;color:#222}"
		"table{border-collapse:collapse;font-size:13px}th,td{text-align:left;padding:.2em .7em;"
		"border-bottom:1px solid #ddd;vertical-align:top}.n{text-align:right}</style>\n"
		"<h1>Multigres node</h1><p><a href=/metrics>metrics</a> · <a href=/healthz>health</a> · "
		"<a href=/readyz>readiness</a> · <code>mgctl --help</code> for all "
		"else</p>\n<h2>Status</h2>");
	html_table(out, &status);
	writer_text(out, "\n<h2>Actors</h2>");
	html_table(out, &actors);
	writer_text(out, "\n</html>\n");
	slice_release(&status.body);
	slice_release(&actors.body);
	return MHD_HTTP_OK;
}

static unsigned page_metrics(struct http *h, struct writer *out)
{
	struct said said = ask(h, "metrics");

	if (said.status)
		writer_printf(out, "%s\n", said.text);
	else
		writer_put(out, slice_data(&said.body), said.body.len);
	slice_release(&said.body);
	return said.status ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK;
}

static unsigned page_of_text(struct http *h, const char *verb, const char *good, struct writer *out)
{
	struct said said = ask(h, verb);

	writer_printf(out, "%s\n", said.status ? said.text : good);
	slice_release(&said.body);
	return said.status ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK;
}

static unsigned page_health(struct http *h, struct writer *out)
{
	return page_of_text(h, "version", "ok", out);
}

static unsigned page_ready(struct http *h, struct writer *out)
{
	return page_of_text(h, "ready", "ready", out);
}

static const struct {
	const char *path, *type;
	unsigned (*page)(struct http *h, struct writer *out);
} routes[] = {
	{"/", "text/html; charset=utf-8", page_home},
	{"/metrics", "text/plain; version=0.0.4; charset=utf-8", page_metrics},
	{"/healthz", "text/plain; charset=utf-8", page_health},
	{"/readyz", "text/plain; charset=utf-8", page_ready},
};

/* ---- the server ---------------------------------------------------------------------------------------------- */

static enum MHD_Result send_page(
	struct MHD_Connection *c, unsigned code, const char *type, struct writer *out)
{
	struct MHD_Response *r;
	enum MHD_Result sent;

	if (out->failed)
		code = MHD_HTTP_INTERNAL_SERVER_ERROR;
	r = MHD_create_response_from_buffer(
		out->len, out->buf ? out->buf->data : NULL, MHD_RESPMEM_MUST_COPY);
	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	sent = MHD_queue_response(c, code, r);
	MHD_destroy_response(r);
	return sent;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
	const char *version, const char *upload, size_t *upload_size, void **per_request)
{
	static int seen;
	const char *type = "text/plain; charset=utf-8";
	unsigned code = MHD_HTTP_NOT_FOUND;
	struct writer out;
	enum MHD_Result sent;

	(void)version;
	(void)upload;
	if (!*per_request) { /* headers are in; answer when the (ignored) body is too */
		*per_request = &seen;
		return MHD_YES;
	}
	if (*upload_size) {
		*upload_size = 0;
		return MHD_YES;
	}
	writer_init(&out, PAGE_BYTES_MAX);
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		code = MHD_HTTP_METHOD_NOT_ALLOWED;
		writer_text(&out, "this server is read-only\n");
	}
	for (size_t i = 0; code == MHD_HTTP_NOT_FOUND && i < ARRAY_LEN(routes); i++)
		if (strcmp(url, routes[i].path) == 0) {
			type = routes[i].type;
			code = routes[i].page(arg, &out);
		}
	if (code == MHD_HTTP_NOT_FOUND)
		writer_text(&out, "there are / /metrics /healthz /readyz\n");
	sent = send_page(c, code, type, &out);
	writer_release(&out);
	return sent;
}

static enum status resolve(const char *address, struct sockaddr_storage *sa, struct error *err)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE},
			*found;
	char host[256], service[8];
	uint16_t port;
	int rv;

	if (options_address(address, host, sizeof(host), &port))
		return error_set(err, E_INVALID, "22023", "\"%s\" is not HOST:PORT", address);
	snprintf(service, sizeof(service), "%u", port);
	rv = getaddrinfo(host, service, &hints, &found);
	if (rv)
		return error_set(err, E_IO, "58000", "could not resolve %s: %s", address, gai_strerror(rv));
	memcpy(sa, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return OK;
}

enum status http_start(const char *address, struct drive *drive, struct http **out, struct error *err)
{
	struct sockaddr_storage sa = {0};
	struct http *h;
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL;
	enum status st = resolve(address, &sa, err);

	if (st)
		return st;
	if (sa.ss_family == AF_INET6)
		flags |= MHD_USE_IPv6;
	h = calloc(1, sizeof(*h));
	if (!h)
		return error_set(err, E_NOMEM, "53200", "out of memory");
	h->drive = drive;
	errno = 0;
	h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_SOCK_ADDR,
		(struct sockaddr *)&sa, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)HTTP_THREADS,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)HTTP_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
		MHD_OPTION_END);
	if (!h->daemon) {
		int e = errno;

		free(h);
		return error_set(err, E_IO, "58000", "could not bind %s: %s; choose another with --http",
			address,
			e == EADDRINUSE ? "address already in use"
			: e		? strerror(e)
					: "the HTTP server did not start");
	}
	*out = h;
	return OK;
}

void http_stop(struct http *h)
{
	if (!h)
		return;
	MHD_stop_daemon(h->daemon);
	free(h);
}
