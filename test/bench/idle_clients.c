/*
 * Many Postgres clients in one process: the load of scripts/bench idle. Plain sockets and one epoll; protocol v3, trust.
 *
 *   idle_clients HOST PORT USER DATABASE
 *
 * Commands are lines on stdin, each answered by a line of JSON on stdout:
 *   open N            connect until N idle clients are held; each logs in and runs one query
 *   active N SECONDS  N more clients that query without pause for so long, then leave
 *   check             every idle client runs one more query
 * End of input ends it. A client that isn't answered within ANSWER_S, is closed or sent an error counts as failed; the first
 * failure's reason is in the answer. Single-threaded.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_CLIENTS = 20000,
	MAX_STARTING = 64, /* log-ins under way at once: fewer than a listen backlog */
	MAX_LATENCIES = 1 << 22,
	MAX_EVENTS = 256,
	ANSWER_S = 30,
	REASON_BYTES = 160,
	INT_BYTES = 4,
	HEAD_BYTES = 5, /* type and length */
};

enum client_state { CLOSED, CONNECTING, LOGIN, QUERY, IDLE };

struct client {
	int fd;
	enum client_state state;
	bool active;
	uint8_t head[HEAD_BYTES]; /* the message being read: its header so far, */
	uint32_t head_len;
	uint32_t body_left; /* and what is to come of its body */
	uint64_t asked_ns;
};

/* One command's progress. */
struct work {
	uint32_t pending; /* clients that are still to get to IDLE or CLOSED */
	uint64_t answered;
	uint32_t failed;
	uint64_t stop_ns; /* active clients ask again until then */
	char reason[REASON_BYTES];
};

static struct client clients[MAX_CLIENTS];
static uint32_t latencies_us[MAX_LATENCIES];
static uint32_t latency_count;
static struct work work;
static struct sockaddr_in server;
static uint8_t startup[512];
static uint32_t startup_len;
static int epoll_fd;

static const uint8_t question[] = {'Q', 0, 0, 0, 13, 's', 'e', 'l', 'e', 'c', 't', ' ', '1', 0};
static_assert(sizeof(question) == 13 + 1, "the length counts itself and the text, not the type");

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "idle_clients: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void client_fail(struct client *c, const char *reason)
{
	if (work.failed++ == 0)
		snprintf(work.reason, sizeof(work.reason), "%s", reason);
	if (c->state != IDLE && work.pending > 0)
		work.pending--;
	close(c->fd);
	c->state = CLOSED;
}

static void client_send(struct client *c, const uint8_t *bytes, size_t len, enum client_state next)
{
	c->state = next;
	if (send(c->fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len) /* far smaller than a socket's buffer */
		client_fail(c, errno ? strerror(errno) : "short send");
}

static void client_ask(struct client *c)
{
	c->asked_ns = now_ns();
	client_send(c, question, sizeof(question), QUERY);
}

static void client_connect(struct client *c, bool active)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
	int on = 1;

	*c = (struct client){.state = CONNECTING, .active = active, .asked_ns = now_ns()};
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		die("epoll_ctl");
	if (connect(c->fd, (struct sockaddr *)&server, sizeof(server)) < 0 && errno != EINPROGRESS)
		client_fail(c, strerror(errno));
}

static void client_connected(struct client *c)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		client_fail(c, strerror(error));
		return;
	}
	if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev) < 0)
		die("epoll_ctl");
	client_send(c, startup, startup_len, LOGIN);
}

/* ReadyForQuery: a log-in is followed by one query, an active client's query by the next. */
static void client_ready(struct client *c)
{
	uint64_t now;

	if (c->state == LOGIN) {
		client_ask(c);
		return;
	}
	if (c->state != QUERY)
		return;
	now = now_ns();
	work.answered++;
	if (c->active && latency_count < MAX_LATENCIES)
		latencies_us[latency_count++] = (uint32_t)((now - c->asked_ns) / 1000);
	if (c->active && now < work.stop_ns) {
		client_ask(c);
		return;
	}
	c->state = IDLE;
	work.pending--;
}

/* An ErrorResponse, as much of it as has come: its fields in a line, fit for JSON. */
static void client_refused(struct client *c, const uint8_t *body, size_t len)
{
	char text[REASON_BYTES] = "ErrorResponse, not read whole";
	size_t n = len < sizeof(text) - 1 ? len : sizeof(text) - 1;

	for (size_t i = 0; i < n; i++)
		text[i] = body[i] < ' ' || body[i] > '~' || body[i] == '"' || body[i] == '\\' ? ' '
											      : (char)body[i];
	if (n > 0)
		text[n] = 0;
	client_fail(c, text);
}

/* A whole header has come, and the `rest` bytes at `body`. False: the client has failed. */
static bool client_header(struct client *c, const uint8_t *body, size_t rest)
{
	uint32_t len;

	memcpy(&len, c->head + 1, INT_BYTES);
	len = ntohl(len);
	if (len < INT_BYTES) {
		client_fail(c, "malformed message");
		return false;
	}
	c->body_left = len - INT_BYTES;
	if (c->head[0] == 'E') {
		client_refused(c, body, rest < c->body_left ? rest : c->body_left);
		return false;
	}
	return true;
}

static void client_bytes(struct client *c, const uint8_t *p, size_t len)
{
	while (len > 0 && c->state != CLOSED) {
		if (c->head_len < HEAD_BYTES) {
			c->head[c->head_len++] = *p++;
			len--;
			if (c->head_len == HEAD_BYTES && !client_header(c, p, len))
				return;
		} else {
			size_t n = len < c->body_left ? len : c->body_left;

			p += n;
			len -= n;
			c->body_left -= (uint32_t)n;
		}
		if (c->head_len == HEAD_BYTES && c->body_left == 0) {
			c->head_len = 0;
			if (c->head[0] == 'Z')
				client_ready(c);
		}
	}
}

static void client_event(struct client *c)
{
	uint8_t buf[16384];
	ssize_t n;

	if (c->state == CONNECTING) {
		client_connected(c);
		return;
	}
	if (c->state == CLOSED)
		return;
	n = recv(c->fd, buf, sizeof(buf), 0);
	if (n > 0)
		client_bytes(c, buf, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		client_fail(c, n == 0 ? "connection closed" : strerror(errno));
}

static void turn(void)
{
	struct epoll_event events[MAX_EVENTS];
	int n = epoll_wait(epoll_fd, events, MAX_EVENTS, 100);

	if (n < 0 && errno != EINTR)
		die("epoll_wait");
	for (int i = 0; i < n; i++)
		client_event(events[i].data.ptr);
}

/* Whoever hasn't been answered by deadline_ns has failed. */
static void finish(uint64_t deadline_ns)
{
	while (work.pending > 0 && now_ns() < deadline_ns)
		turn();
	for (struct client *c = clients; c < clients + MAX_CLIENTS && work.pending > 0; c++)
		if (c->state != CLOSED && c->state != IDLE)
			client_fail(c, "no answer in time");
}

static uint64_t after(uint64_t ns, uint32_t seconds)
{
	return ns + seconds * 1000000000ull;
}

/* Connects up to `upto` clients from slot `from`, at most MAX_STARTING of them not yet answered. */
static void start(uint32_t from, uint32_t upto, bool active)
{
	uint64_t deadline = after(now_ns(), ANSWER_S);
	uint32_t busy_before = work.pending;

	for (uint32_t i = from; i < upto; i++) {
		if (clients[i].state != CLOSED)
			continue;
		while (!active && work.pending - busy_before >= MAX_STARTING && now_ns() < deadline)
			turn();
		work.pending++;
		client_connect(&clients[i], active);
	}
	finish(active ? after(work.stop_ns, ANSWER_S) : after(now_ns(), ANSWER_S));
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void report(uint64_t began_ns)
{
	double seconds = (double)(now_ns() - began_ns) / 1e9;
	uint32_t n = latency_count;

	qsort(latencies_us, n, sizeof(latencies_us[0]), compare);
	printf("{\"answered\": %llu, \"failed\": %u, \"per_s\": %.0f, \"p50_us\": %u, \"p99_us\": %u, "
	       "\"error\": \"%s\"}\n",
		(unsigned long long)work.answered, work.failed, (double)work.answered / seconds,
		n ? latencies_us[n / 2] : 0, n ? latencies_us[(uint64_t)n * 99 / 100] : 0, work.reason);
	fflush(stdout);
}

static void run(const char *line)
{
	static uint32_t idle; /* slots below are idle clients */
	uint64_t began = now_ns();
	unsigned n, seconds;

	work = (struct work){0};
	latency_count = 0;
	if (sscanf(line, "open %u", &n) == 1 && n <= MAX_CLIENTS) {
		idle = n > idle ? n : idle;
		start(0, idle, false);
	} else if (sscanf(line, "active %u %u", &n, &seconds) == 2 && n <= MAX_CLIENTS - idle) {
		work.stop_ns = after(began, seconds);
		start(idle, idle + n, true);
		for (struct client *c = clients + idle; c < clients + idle + n; c++) {
			if (c->state != CLOSED)
				close(c->fd);
			c->state = CLOSED;
		}
	} else if (strncmp(line, "check", 5) == 0) {
		for (struct client *c = clients; c < clients + idle; c++) {
			if (c->state != IDLE) {
				work.failed++;
				continue;
			}
			work.pending++;
			client_ask(c);
		}
		finish(after(began, ANSWER_S));
	} else {
		work.failed = 1;
		snprintf(work.reason, sizeof(work.reason), "unknown command, or more than %d clients",
			MAX_CLIENTS);
	}
	report(began);
}

static void startup_build(const char *user, const char *database)
{
	int n = snprintf((char *)startup + 8, sizeof(startup) - 8, "user%c%s%cdatabase%c%s%c", 0, user, 0, 0,
		database, 0);
	uint32_t version = htonl(196608), len;

	if (n < 0 || (size_t)n + 9 > sizeof(startup)) {
		fprintf(stderr, "idle_clients: user or database too long\n");
		exit(2);
	}
	startup_len = (uint32_t)n + 9; /* the list ends with one more zero */
	len = htonl(startup_len);
	memcpy(startup, &len, INT_BYTES);
	memcpy(startup + INT_BYTES, &version, INT_BYTES);
}

int main(int argc, char **argv)
{
	struct rlimit files;
	char line[128];

	if (argc != 5) {
		fprintf(stderr, "usage: idle_clients HOST PORT USER DATABASE\n");
		return 2;
	}
	server.sin_family = AF_INET;
	server.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
	if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) {
		fprintf(stderr, "idle_clients: not an IPv4 address: %s\n", argv[1]);
		return 2;
	}
	startup_build(argv[3], argv[4]);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1");
	while (fgets(line, sizeof(line), stdin))
		run(line);
	return 0;
}
