/* Sockets of the drive: bytes, credit, queues, every way to connect and to close, TLS. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "test/unit/test_drive.h"

enum { BIG = 8 << 20 };

/* ---- what the probe is told to do ------------------------------------------------------------------------------ */

struct io_args {
	const char *address;
	uint64_t io;
	uint32_t n, timeout_ms;
	bool abort;
	enum status st;
	struct error err;
	const struct io_tls *tls;
	uint64_t out;
};

static void do_listen(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;

	(void)p;
	a->st = io_listen(self, &(struct io_listen){.address = a->address}, &a->io, &a->err);
}

static void do_connect(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;

	(void)p;
	a->st = io_connect(self, a->address, a->timeout_ms ? a->timeout_ms : 3000, &a->io);
}

static void do_credit(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;

	(void)p;
	io_credit(self, a->io, a->n);
}

static void do_write(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;

	(void)p;
	a->st = io_write_copy(self, a->io, a->address, a->n ? a->n : (uint32_t)strlen(a->address));
}

static uint8_t pattern(uint32_t i)
{
	return (uint8_t)(i * 2654435761u >> 24);
}

static void do_write_big(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;
	struct slice s = {.buf = buf_new(BIG), .len = BIG};

	(void)p;
	for (uint32_t i = 0; i < BIG; i++)
		s.buf->data[i] = pattern(i);
	a->st = io_write(self, a->io, &s);
}

static void do_write_many(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;

	(void)p;
	for (uint32_t i = 0; i < a->n; i++) {
		uint8_t b = pattern(i);

		ck_assert_int_eq(io_write_copy(self, a->io, &b, 1), OK);
	}
}

static void do_queued(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;

	(void)p;
	a->out = io_queued(self, a->io);
}

static void do_close(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;

	(void)p;
	if (a->abort)
		io_abort(self, a->io);
	else
		io_close(self, a->io);
}

static void do_connect_and_close(struct actor *self, struct probe *p, void *arg)
{
	do_connect(self, p, arg);
	do_close(self, p, arg);
}

static void do_write_and_close(struct actor *self, struct probe *p, void *arg)
{
	do_write(self, p, arg);
	do_close(self, p, arg);
}

static void do_write_big_and_close(struct actor *self, struct probe *p, void *arg)
{
	do_write_big(self, p, arg);
	do_close(self, p, arg);
}

static void do_tls(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;

	(void)p;
	a->st = io_tls(self, a->io, a->tls, &a->err);
}

static void do_give(struct actor *self, struct probe *p, void *arg)
{
	struct io_args *a = arg;

	(void)p;
	a->st = io_give(self, a->io, probes[a->n].pid);
}

static void credit(struct probe *p, uint64_t io, uint32_t n)
{
	probe_do(p, do_credit, &(struct io_args){.io = io, .n = n});
}

/* ---- the test's own end ----------------------------------------------------------------------------------------- */

static uint16_t free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, len), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	close(fd);
	return ntohs(in.sin_port);
}

static uint16_t port;
static char tcp_address[64], unix_address[64];

static int tcp_dial(void)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static int unix_dial(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	str_copy(un.sun_path, sizeof(un.sun_path), unix_address);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

static uint64_t listen_on(struct probe *p, const char *address)
{
	struct io_args a = {.address = address};

	probe_do(p, do_listen, &a);
	ck_assert_msg(a.st == OK, "%s", a.err.text);
	return a.io;
}

static struct probe *up(void)
{
	port = free_port();
	snprintf(tcp_address, sizeof(tcp_address), "127.0.0.1:%u", port);
	snprintf(unix_address, sizeof(unix_address), "/tmp/test_drive_io.%d", (int)getpid());
	return drive_up(1);
}

/* An accepted connection: the test's end in *fd, gives the probe's. */
static uint64_t pair(struct probe *p, int *fd)
{
	listen_on(p, tcp_address);
	*fd = tcp_dial();
	return probe_wait(p, IO_ACCEPTED).io;
}

static void read_exactly(int fd, void *to, size_t n)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = read(fd, (char *)to + got, n - got);

		ck_assert_msg(r > 0, "read gave %zd after %zu of %zu bytes: %s", r, got, n, strerror(errno));
		got += (size_t)r;
	}
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

static void echo_over(struct probe *p, int fd, const char *peer_prefix)
{
	struct event e = probe_wait(p, IO_ACCEPTED);
	char back[6];

	ck_assert_msg(!strncmp(e.text, peer_prefix, strlen(peer_prefix)), "peer is %s", e.text);
	p->echo = true;
	p->auto_credit = 1;
	credit(p, e.io, 1);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(write(fd, "hello", 6), 6);
		read_exactly(fd, back, 6);
		ck_assert_str_eq(back, "hello");
	}
	close(fd);
	e = probe_wait(p, IO_CLOSED);
	ck_assert_int_eq(e.status, E_CLOSED);
}

START_TEST(bytes_are_echoed_over_tcp)
{
	struct probe *p = up();

	listen_on(p, tcp_address);
	echo_over(p, tcp_dial(), "127.0.0.1:");
	drive_down();
}
END_TEST

START_TEST(bytes_are_echoed_over_a_unix_socket_and_its_file_is_removed)
{
	struct probe *p = up();
	struct stat st;

	listen_on(p, unix_address);
	ck_assert_int_eq(stat(unix_address, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	echo_over(p, unix_dial(), "unix");
	drive_down();
	ck_assert_int_ne(stat(unix_address, &st), 0);
}
END_TEST

START_TEST(many_small_writes_of_a_turn_arrive_in_order)
{
	struct probe *p = up();
	uint8_t got[1000];
	int fd;
	uint64_t io = pair(p, &fd);

	probe_do(p, do_write_many, &(struct io_args){.io = io, .n = sizeof(got)});
	read_exactly(fd, got, sizeof(got));
	for (uint32_t i = 0; i < sizeof(got); i++)
		ck_assert_uint_eq(got[i], pattern(i));
	close(fd);
	drive_down();
}
END_TEST

START_TEST(nothing_is_delivered_without_credit)
{
	struct probe *p = up();
	static char block[1 << 16];
	size_t sent = 0;
	ssize_t n;
	int fd;
	uint64_t io = pair(p, &fd);

	credit(p, io, 1);
	while ((n = send(fd, block, sizeof(block), MSG_DONTWAIT)) > 0 || sent < 1 << 20) {
		sent += n > 0 ? (size_t)n : 0;
		if (n < 0)
			usleep(1000);
	}
	usleep(50000);
	ck_assert_uint_eq(p->chunks, 1); /* the kernel holds the rest, not we */
	credit(p, io, 2);
	usleep(50000);
	ck_assert_uint_eq(p->chunks, 3);
	p->auto_credit = 1;
	credit(p, io, 1);
	while (p->bytes < sent)
		usleep(1000);
	close(fd);
	ck_assert_int_eq(probe_wait(p, IO_CLOSED).status, E_CLOSED);
	ck_assert_uint_eq(p->bytes, sent);
	drive_down();
}
END_TEST

START_TEST(the_end_is_told_without_credit_but_after_the_last_byte)
{
	struct probe *p = up();
	int fd;
	uint64_t io = pair(p, &fd);

	credit(p, io, 1);
	ck_assert_int_eq(write(fd, "a", 1), 1);
	probe_wait(p, IO_BYTES);
	ck_assert_int_eq(write(fd, "b", 1), 1);
	close(fd);
	probe_wait_none(p, IO_CLOSED, 100); /* "b" is unread */
	credit(p, io, 1);
	ck_assert_uint_eq(probe_wait(p, IO_BYTES).bytes[0], 'b');
	ck_assert_int_eq(probe_wait(p, IO_CLOSED).status, E_CLOSED); /* the second credit is used up */
	drive_down();
}
END_TEST

START_TEST(a_slow_reader_gets_every_byte_and_the_writer_hears_drained_once)
{
	struct probe *p = up();
	static uint8_t got[BIG];
	struct io_args a;
	int fd;
	uint64_t io = pair(p, &fd);

	a = (struct io_args){.io = io};
	probe_do(p, do_write_big, &a);
	ck_assert_int_eq(a.st, OK);
	usleep(20000);
	probe_do(p, do_queued, &a);
	ck_assert_uint_gt(a.out, 0);
	ck_assert_uint_lt(a.out, BIG);
	probe_wait_none(p, IO_DRAINED, 50);
	read_exactly(fd, got, BIG);
	for (uint32_t i = 0; i < BIG; i++)
		if (got[i] != pattern(i))
			ck_abort_msg("byte %u is wrong", i);
	probe_wait(p, IO_DRAINED);
	probe_wait_none(p, IO_DRAINED, 50);
	probe_do(p, do_queued, &a);
	ck_assert_uint_eq(a.out, 0);
	close(fd);
	drive_down();
}
END_TEST

START_TEST(a_queue_over_its_maximum_closes_the_socket)
{
	struct probe *p = up();
	struct io_args a;
	int fd;
	uint64_t io = pair(p, &fd);

	a = (struct io_args){.io = io};
	for (int i = 0; i < IO_QUEUE_MAX / BIG + 2 && a.st == OK; i++)
		probe_do(p, do_write_big, &a);
	ck_assert_int_eq(a.st, E_FULL);
	ck_assert_int_eq(probe_wait(p, IO_CLOSED).status, E_FULL);
	close(fd);
	drive_down();
}
END_TEST

START_TEST(a_given_socket_talks_to_its_new_owner)
{
	struct probe *p = up(), *q = probe_add(0);
	struct io_args a;
	int fd;
	uint64_t io = pair(p, &fd);

	a = (struct io_args){.io = io, .n = 1};
	probe_do(p, do_give, &a);
	ck_assert_int_eq(a.st, OK);
	credit(p, io, 1); /* not the owner any more: nothing happens */
	ck_assert_int_eq(write(fd, "x", 1), 1);
	probe_wait_none(q, IO_BYTES, 50);
	credit(q, io, 1);
	probe_wait(q, IO_BYTES);
	ck_assert_uint_eq(p->chunks, 0);
	a = (struct io_args){.io = io, .address = "no"};
	probe_do(p, do_write, &a);
	ck_assert_int_eq(a.st, E_CLOSED);
	close(fd);
	drive_down();
}
END_TEST

/* ---- connecting and listening ------------------------------------------------------------------------------------ */

static struct event dial(struct probe *p, const char *address, uint32_t timeout_ms, enum status *st)
{
	struct io_args a = {.address = address, .timeout_ms = timeout_ms};

	probe_do(p, do_connect, &a);
	*st = a.st;
	return a.st ? (struct event){0} : probe_wait(p, IO_CONNECTED);
}

START_TEST(a_refused_connect_says_where_and_why)
{
	struct probe *p = up();
	enum status st;
	struct event e = dial(p, tcp_address, 0, &st);
	char want[160];

	ck_assert_int_eq(st, OK);
	ck_assert_int_eq(e.status, E_IO);
	snprintf(want, sizeof(want), "could not connect to %s: connection refused", tcp_address);
	ck_assert_str_eq(e.text, want);
	dial(p, "nonsense", 0, &st);
	ck_assert_int_eq(st, E_INVALID);
	e = dial(p, "/tmp/no/such/socket", 0, &st);
	ck_assert_str_eq(e.text, "could not connect to /tmp/no/such/socket: no such file or directory");
	e = dial(p, "no-such-host.invalid:5432", 0, &st);
	ck_assert_int_eq(e.status, E_NOT_FOUND);
	drive_down();
}
END_TEST

START_TEST(a_name_is_looked_up_and_its_addresses_tried_in_turn)
{
	struct probe *p = up();
	char name[64];
	enum status st;

	listen_on(p, tcp_address); /* only IPv4, while localhost may be ::1 first */
	snprintf(name, sizeof(name), "localhost:%u", port);
	ck_assert_int_eq(dial(p, name, 0, &st).status, OK);
	drive_down();
}
END_TEST

START_TEST(a_connect_that_nobody_answers_times_out)
{
	struct probe *p = up();
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), hog[4];
	enum status st;
	struct event e;

	str_copy(un.sun_path, sizeof(un.sun_path), unix_address);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	ck_assert_int_eq(listen(fd, 0), 0);
	for (int i = 0; i < 4; i++) {
		hog[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(hog[i], (struct sockaddr *)&un, sizeof(un)))
			ck_assert_int_eq(errno, EAGAIN);
	}
	e = dial(p, unix_address, 200, &st);
	ck_assert_int_eq(e.status, E_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(e.text, "timed out"));
	for (int i = 0; i < 4; i++)
		close(hog[i]);
	close(fd);
	unlink(unix_address);
	drive_down();
}
END_TEST

START_TEST(what_is_written_while_dialing_is_sent_when_connected)
{
	struct probe *p = up();
	struct io_args a = {.address = tcp_address};
	struct event srv;

	listen_on(p, tcp_address);
	probe_do(p, do_connect, &a);
	a.address = "early";
	probe_do(p, do_write, &a);
	ck_assert_int_eq(probe_wait(p, IO_CONNECTED).status, OK);
	srv = probe_wait(p, IO_ACCEPTED);
	credit(p, srv.io, 1);
	ck_assert_mem_eq(probe_wait(p, IO_BYTES).bytes, "early", 5);
	drive_down();
}
END_TEST

START_TEST(a_taken_address_is_refused_with_its_name)
{
	struct probe *p = up();
	struct io_args a = {.address = tcp_address};
	char want[160];

	listen_on(p, tcp_address);
	probe_do(p, do_listen, &a);
	ck_assert_int_ne(a.st, OK);
	snprintf(want, sizeof(want), "could not bind %s: address already in use", tcp_address);
	ck_assert_str_eq(a.err.text, want);
	listen_on(p, unix_address);
	a.address = unix_address;
	probe_do(p, do_listen, &a);
	ck_assert_int_ne(a.st, OK);
	ck_assert_ptr_nonnull(strstr(a.err.text, "already in use"));
	drive_down();
}
END_TEST

START_TEST(a_stale_unix_socket_file_is_replaced_and_another_file_is_not)
{
	struct probe *p = up();
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct io_args a = {.address = unix_address};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	uint64_t io;

	str_copy(un.sun_path, sizeof(un.sun_path), unix_address);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	close(fd); /* the file stays */
	io = listen_on(p, unix_address);
	close(unix_dial());
	probe_do(p, do_close, &(struct io_args){.io = io});
	fd = open(unix_address, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	probe_do(p, do_listen, &a);
	ck_assert_int_ne(a.st, OK);
	ck_assert_int_eq(access(unix_address, F_OK), 0);
	unlink(unix_address);
	drive_down();
}
END_TEST

START_TEST(without_descriptors_accepting_pauses_and_goes_on)
{
	struct rlimit r, old;
	struct rusage before, after;
	struct probe *p;
	int hog[512], n = 0, fd;
	long ms;

	p = up();
	getrlimit(RLIMIT_NOFILE, &old);
	listen_on(p, tcp_address);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	r = old;
	r.rlim_cur = 256;
	setrlimit(RLIMIT_NOFILE, &r);
	while (n < 512 && (hog[n] = dup(0)) >= 0)
		n++;
	ck_assert_int_eq(connect(fd,
				 (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET,
					 .sin_port = htons(port),
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
				 sizeof(struct sockaddr_in)),
		0);
	getrusage(RUSAGE_SELF, &before);
	probe_wait_none(p, IO_ACCEPTED, 400);
	getrusage(RUSAGE_SELF, &after);
	ms = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
		     before.ru_stime.tv_sec) *
		     1000 +
	     (after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
		     before.ru_stime.tv_usec) /
		     1000;
	ck_assert_msg(ms < 200, "%ld ms of CPU while it should have waited", ms);
	while (n)
		close(hog[--n]);
	probe_wait(p, IO_ACCEPTED);
	setrlimit(RLIMIT_NOFILE, &old);
	close(fd);
	drive_down();
}
END_TEST

/* ---- closing ------------------------------------------------------------------------------------------------------ */

START_TEST(closing_while_dialing_tells_nothing)
{
	struct probe *p = up();
	struct io_args a = {.address = "localhost:1"};

	probe_do(p, do_connect_and_close, &a); /* before the name is found */
	a.address = tcp_address;
	listen_on(p, tcp_address);
	probe_do(p, do_connect_and_close, &a); /* before it is connected */
	probe_wait_none(p, IO_CONNECTED, 100);
	probe_wait_none(p, IO_CLOSED, 0);
	drive_down();
}
END_TEST

START_TEST(close_sends_what_is_queued_first)
{
	struct probe *p = up();
	static uint8_t got[BIG];
	struct io_args a;
	char more;
	int fd;
	uint64_t io = pair(p, &fd);

	a = (struct io_args){.io = io};
	probe_do(p, do_write_big_and_close, &a);
	probe_do(p, do_write, &(struct io_args){.io = io, .address = "late"}); /* the id is dead */
	usleep(20000);
	read_exactly(fd, got, BIG);
	ck_assert_uint_eq(got[BIG - 1], pattern(BIG - 1));
	ck_assert_int_eq(read(fd, &more, 1), 0);
	probe_wait_none(p, IO_CLOSED, 50);
	close(fd);
	drive_down();
}
END_TEST

START_TEST(last_words_survive_unread_bytes)
{
	struct probe *p = up();
	static char flood[4096];
	char got[4];
	int fd;
	uint64_t io = pair(p, &fd);

	ck_assert_int_eq(write(fd, flood, sizeof(flood)), sizeof(flood)); /* nobody will read it */
	probe_do(p, do_write_and_close, &(struct io_args){.io = io, .address = "bye"});
	usleep(20000);
	read_exactly(fd, got, 3); /* a reset would have taken it away */
	ck_assert_mem_eq(got, "bye", 3);
	ck_assert_int_eq(read(fd, got, 1), 0);
	close(fd);
	drive_down();
}
END_TEST

START_TEST(abort_resets_the_connection)
{
	struct probe *p = up();
	char byte;
	int fd;
	uint64_t io = pair(p, &fd);

	probe_do(p, do_close, &(struct io_args){.io = io, .abort = true});
	ck_assert_int_eq(read(fd, &byte, 1), -1);
	ck_assert_int_eq(errno, ECONNRESET);
	close(fd);
	drive_down();
}
END_TEST

START_TEST(a_reset_by_the_peer_is_an_io_error)
{
	struct linger now = {1, 0};
	struct probe *p = up();
	struct event e;
	int fd;
	uint64_t io = pair(p, &fd);

	credit(p, io, 1);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
	e = probe_wait(p, IO_CLOSED);
	ck_assert_int_eq(e.status, E_IO);
	ck_assert_str_eq(e.text, "could not receive: connection reset by peer");
	drive_down();
}
END_TEST

START_TEST(a_peers_last_words_are_read_after_a_failed_write)
{
	struct probe *p = up();
	struct io_args a;
	int fd;
	uint64_t io = pair(p, &fd);

	ck_assert_int_eq(write(fd, "fatal", 5), 5);
	close(fd);
	a = (struct io_args){.io = io, .address = "query"};
	probe_do(p, do_write, &a); /* answered by a reset */
	usleep(20000);
	probe_do(p, do_write, &a); /* fails */
	usleep(20000);
	credit(p, io, 1);
	ck_assert_mem_eq(probe_wait(p, IO_BYTES).bytes, "fatal", 5);
	probe_wait(p, IO_CLOSED);
	drive_down();
}
END_TEST

struct kill_args {
	struct pid who;
};

static void do_kill(struct actor *self, struct probe *p, void *arg)
{
	(void)p;
	actor_exit(self, ((struct kill_args *)arg)->who, E_KILLED);
}

START_TEST(an_owner_killed_in_the_middle_leaves_nothing_open)
{
	struct probe *p = up(), *q = probe_add(0);
	enum { N = 20 };
	int fds[N], before = open_files();
	struct kill_args k = {q->pid};
	uint64_t io;

	listen_on(q, tcp_address);
	q->auto_credit = 1;
	for (int i = 0; i < N; i++) {
		fds[i] = tcp_dial();
		io = probe_wait(q, IO_ACCEPTED).io;
		credit(q, io, 1);
		if (i % 2)
			probe_do(q, do_write_big, &(struct io_args){.io = io});
		ck_assert_int_eq(write(fds[i], "x", 1), 1);
	}
	probe_do(p, do_kill, &k);
	while (!q->dead)
		usleep(100);
	for (int i = 0; i < N; i++)
		close(fds[i]);
	for (int i = 0; i < 300 && open_files() > before; i++)
		usleep(10000);
	ck_assert_int_eq(open_files(), before);
	drive_down();
}
END_TEST

START_TEST(stopping_closes_everything)
{
	struct probe *p;
	static char got[BIG];
	int before, fd;
	uint64_t io;

	up(); /* libuv keeps two descriptors of its own from the first loop on */
	drive_down();
	before = open_files();
	p = up();
	io = pair(p, &fd);
	probe_do(p, do_write_big, &(struct io_args){.io = io});
	drive_down(); /* with bytes that nobody reads */
	ck_assert_int_ge(read(fd, got, sizeof(got)), 0);
	close(fd);
	ck_assert_int_eq(open_files(), before);
}
END_TEST

/* ---- TLS ----------------------------------------------------------------------------------------------------------- */

static char cert[64], key[64], other_cert[64], other_key[64];

static void make_cert(const char *cert_file, const char *key_file, const char *cn)
{
	char command[512];

	snprintf(command, sizeof(command),
		"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=%s "
		"-addext subjectAltName=DNS:%s -keyout %s -out %s 2>/dev/null",
		cn, cn, key_file, cert_file);
	ck_assert_int_eq(system(command), 0);
}

static void certs_make(void)
{
	int pid = (int)getpid();

	snprintf(cert, sizeof(cert), "/tmp/test_drive_%d.crt", pid);
	snprintf(key, sizeof(key), "/tmp/test_drive_%d.key", pid);
	snprintf(other_cert, sizeof(other_cert), "/tmp/test_drive_%d.other.crt", pid);
	snprintf(other_key, sizeof(other_key), "/tmp/test_drive_%d.other.key", pid);
	make_cert(cert, key, "node.test");
	make_cert(other_cert, other_key, "node.test");
}

static void certs_remove(void)
{
	unlink(cert);
	unlink(key);
	unlink(other_cert);
	unlink(other_key);
}

static void start_tls(struct probe *p, uint64_t io, const struct io_tls *spec)
{
	struct io_args a = {.io = io, .tls = spec};

	probe_do(p, do_tls, &a);
	ck_assert_msg(a.st == OK, "%s", a.err.text);
}

/* A connection of the probe `c` to the probe `s`; both ends in *client, *server. */
static void tls_pair(struct probe *s, struct probe *c, uint64_t *server, uint64_t *client)
{
	struct io_args a = {.address = tcp_address};

	probe_do(c, do_connect, &a);
	ck_assert_int_eq(probe_wait(c, IO_CONNECTED).status, OK);
	*client = a.io;
	*server = probe_wait(s, IO_ACCEPTED).io;
}

START_TEST(bytes_are_echoed_over_verified_tls)
{
	struct io_tls srv, cli;
	struct probe *s = up(), *c;
	struct event up_s, up_c, e;
	uint64_t server, client, total = 0;

	certs_make();
	c = probe_add(0);
	srv = (struct io_tls){.server = true, .cert_file = cert, .key_file = key, .alpn = "postgresql"};
	cli = (struct io_tls){
		.ca_file = cert, .server_name = "node.test", .verify_name = true, .alpn = "postgresql"};
	listen_on(s, tcp_address);
	tls_pair(s, c, &server, &client);
	start_tls(s, server, &srv);
	probe_do(c, do_write, &(struct io_args){.io = client, .address = ""});
	start_tls(c, client, &cli);
	probe_do(c, do_write,
		&(struct io_args){.io = client, .address = "early"}); /* waits for the handshake */
	up_s = probe_wait(s, IO_TLS_UP);
	up_c = probe_wait(c, IO_TLS_UP);
	ck_assert_msg(up_s.status == OK && up_c.status == OK, "%s %s", up_s.text, up_c.text);
	ck_assert_str_eq(up_c.text, "|TLSv1.3|postgresql|node.test");
	ck_assert_uint_eq(up_s.n, 32);
	ck_assert_uint_eq(up_c.n, 32);
	ck_assert_mem_eq(up_s.bytes, up_c.bytes, 32);
	probe_wait_none(s, IO_BYTES, 50); /* no credit yet */
	s->echo = true;
	s->auto_credit = c->auto_credit = 1;
	credit(s, server, 1);
	credit(c, client, 1);
	e = probe_wait(c, IO_BYTES);
	ck_assert_mem_eq(e.bytes, "early", 5);
	probe_do(c, do_write_big, &(struct io_args){.io = client});
	while (total < BIG) {
		e = probe_wait(c, IO_BYTES);
		for (uint32_t i = 0; i < e.n; i++)
			if (e.bytes[i] != pattern((uint32_t)total + i))
				ck_abort_msg("byte %u is wrong", (uint32_t)total + i);
		total += e.n;
	}
	ck_assert_uint_eq(total, BIG);
	probe_do(c, do_close, &(struct io_args){.io = client});
	ck_assert_int_eq(probe_wait(s, IO_CLOSED).status, E_CLOSED);
	certs_remove();
	drive_down();
}
END_TEST

START_TEST(no_tls_byte_is_lost_when_the_read_chunk_is_nearly_full)
{
	struct io_tls srv, cli = {.server = false};
	struct probe *s = up(), *c;
	uint64_t server, client, total = 0;
	struct event e;

	certs_make();
	c = probe_add(0);
	srv = (struct io_tls){.server = true, .cert_file = cert, .key_file = key};
	listen_on(s, tcp_address);
	tls_pair(s, c, &server, &client);
	start_tls(s, server, &srv);
	start_tls(c, client, &cli);
	ck_assert_int_eq(probe_wait(c, IO_TLS_UP).status, OK);
	c->hold = true; /* so that the chunk doesn't start over, and its room shrinks read by read */
	c->auto_credit = 1;
	credit(c, client, 1);
	for (int round = 0; round < 3; round++) {
		probe_do(s, do_write_big, &(struct io_args){.io = server});
		while (total < (uint64_t)(round + 1) * BIG) {
			e = probe_wait(c, IO_BYTES);
			for (uint32_t i = 0; i < e.n; i++)
				if (e.bytes[i] != pattern((uint32_t)((total + i) % BIG)))
					ck_abort_msg("byte %u is wrong", (uint32_t)total + i);
			total += e.n;
		}
	}
	certs_remove();
	drive_down();
}
END_TEST

START_TEST(a_wrong_certificate_or_name_fails_the_handshake)
{
	struct probe *s = up(), *c;
	struct io_tls srv, bad[2];
	uint64_t server, client;
	struct event e;

	certs_make();
	c = probe_add(0);
	srv = (struct io_tls){.server = true, .cert_file = cert, .key_file = key};
	bad[0] = (struct io_tls){.ca_file = other_cert};
	bad[1] = (struct io_tls){.ca_file = cert, .server_name = "other.test", .verify_name = true};
	listen_on(s, tcp_address);
	for (int i = 0; i < 2; i++) {
		tls_pair(s, c, &server, &client);
		start_tls(s, server, &srv);
		start_tls(c, client, &bad[i]);
		e = probe_wait(c, IO_TLS_UP);
		ck_assert_int_eq(e.status, E_DENIED);
		ck_assert_msg(!strncmp(e.text, "certificate verify failed: ", 27), "%s", e.text);
		e = probe_wait(s, IO_TLS_UP);
		ck_assert_int_eq(e.status, E_PROTOCOL); /* the client's alert */
	}
	certs_remove();
	drive_down();
}
END_TEST

START_TEST(what_is_not_tls_and_who_is_silent_fail_the_handshake)
{
	struct probe *p = up();
	struct io_tls srv;
	struct event e;
	uint64_t io;
	int fd;

	certs_make();
	srv = (struct io_tls){.server = true, .cert_file = cert, .key_file = key, .timeout_ms = 150};
	io = pair(p, &fd);
	start_tls(p, io, &srv);
	ck_assert_int_eq(write(fd, "GET / HTTP/1.0\r\n\r\n", 18), 18);
	e = probe_wait(p, IO_TLS_UP);
	ck_assert_int_eq(e.status, E_PROTOCOL);
	ck_assert_msg(!strncmp(e.text, "TLS handshake failed: ", 22), "%s", e.text);
	close(fd);
	fd = tcp_dial();
	start_tls(p, probe_wait(p, IO_ACCEPTED).io, &srv);
	e = probe_wait(p, IO_TLS_UP);
	ck_assert_int_eq(e.status, E_TIMEOUT);
	close(fd);
	fd = tcp_dial();
	io = probe_wait(p, IO_ACCEPTED).io;
	start_tls(p, io, &srv);
	close(fd);
	e = probe_wait(p, IO_TLS_UP);
	ck_assert_int_eq(e.status, E_CLOSED);
	probe_wait_none(p, IO_CLOSED, 50);
	certs_remove();
	drive_down();
}
END_TEST

START_TEST(a_renewed_certificate_is_used_and_a_missing_one_is_named)
{
	struct io_tls srv, cli;
	struct probe *s = up(), *c;
	struct io_args a;
	uint64_t server, client;
	struct event e;

	certs_make();
	c = probe_add(0);
	srv = (struct io_tls){.server = true, .cert_file = cert, .key_file = key};
	cli = (struct io_tls){.ca_file = other_cert};
	listen_on(s, tcp_address);
	for (int i = 0; i < 2; i++) {
		tls_pair(s, c, &server, &client);
		start_tls(s, server, &srv);
		start_tls(c, client, &cli);
		e = probe_wait(c, IO_TLS_UP);
		ck_assert_int_eq(e.status, i ? OK : E_DENIED);
		e = probe_wait(s, IO_TLS_UP);
		ck_assert_int_eq(rename(other_key, key) | rename(other_cert, cert), i ? -1 : 0);
		cli.ca_file = cert;
	}
	tls_pair(s, c, &server, &client);
	unlink(cert);
	a = (struct io_args){.io = server, .tls = &srv};
	probe_do(s, do_tls, &a);
	ck_assert_int_eq(a.st, E_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(a.err.text, cert));
	certs_remove();
	drive_down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("drive io");
	TCase *t = tcase_create("io");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, bytes_are_echoed_over_tcp);
	tcase_add_test(t, bytes_are_echoed_over_a_unix_socket_and_its_file_is_removed);
	tcase_add_test(t, many_small_writes_of_a_turn_arrive_in_order);
	tcase_add_test(t, nothing_is_delivered_without_credit);
	tcase_add_test(t, the_end_is_told_without_credit_but_after_the_last_byte);
	tcase_add_test(t, a_slow_reader_gets_every_byte_and_the_writer_hears_drained_once);
	tcase_add_test(t, a_queue_over_its_maximum_closes_the_socket);
	tcase_add_test(t, a_given_socket_talks_to_its_new_owner);
	tcase_add_test(t, a_refused_connect_says_where_and_why);
	tcase_add_test(t, a_name_is_looked_up_and_its_addresses_tried_in_turn);
	tcase_add_test(t, a_connect_that_nobody_answers_times_out);
	tcase_add_test(t, what_is_written_while_dialing_is_sent_when_connected);
	tcase_add_test(t, a_taken_address_is_refused_with_its_name);
	tcase_add_test(t, a_stale_unix_socket_file_is_replaced_and_another_file_is_not);
	tcase_add_test(t, without_descriptors_accepting_pauses_and_goes_on);
	tcase_add_test(t, closing_while_dialing_tells_nothing);
	tcase_add_test(t, close_sends_what_is_queued_first);
	tcase_add_test(t, last_words_survive_unread_bytes);
	tcase_add_test(t, abort_resets_the_connection);
	tcase_add_test(t, a_reset_by_the_peer_is_an_io_error);
	tcase_add_test(t, a_peers_last_words_are_read_after_a_failed_write);
	tcase_add_test(t, an_owner_killed_in_the_middle_leaves_nothing_open);
	tcase_add_test(t, stopping_closes_everything);
	tcase_add_test(t, bytes_are_echoed_over_verified_tls);
	tcase_add_test(t, no_tls_byte_is_lost_when_the_read_chunk_is_nearly_full);
	tcase_add_test(t, a_wrong_certificate_or_name_fails_the_handshake);
	tcase_add_test(t, what_is_not_tls_and_who_is_silent_fail_the_handshake);
	tcase_add_test(t, a_renewed_certificate_is_used_and_a_missing_one_is_named);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
