/*
 * A probe for the drive's tests: an actor that runs functions of the test in its own turn and writes down every
 * message it gets, so that a test is a straight line on the main thread:
 *
 *	probe_do(p, f, arg)  runs f(self, arg) inside the actor and waits for it
 *	probe_wait(p, TAG)   gives the next event of that tag, failing the test after 5 s
 */
#ifndef TEST_UNIT_TEST_DRIVE_H
#define TEST_UNIT_TEST_DRIVE_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "runtime/base/bytes.h"
#include "runtime/core/io.h"
#include "runtime/drive/drive.h"

enum { PROBE_WAIT_MS = 5000, PROBES_MAX = 8, HELD = 3 };

#define PROBE_DO_FIELDS(F, S) F(S, u64, fn, 0) F(S, u64, arg, 0) F(S, bin, bytes, 1 << 20)
#define PROBE_PING_FIELDS(F, S) F(S, u64, n, 0) F(S, bin, bytes, 1 << 20)
#define PROBE_MESSAGES(M)                                                                                    \
	M(PROBE_DO, probe_do_msg, 0x7f01, MSG_ASK)                                                           \
	M(PROBE_PING, probe_ping, 0x7f02, MSG_PLAIN)
MSG_FOLDER(probe, PROBE_MESSAGES);
MSG_FOLDER_DEFINE(probe, PROBE_MESSAGES);

struct event {
	struct event *next;
	uint16_t tag;
	uint64_t io, other; /* other: the listener, exit code, events */
	int64_t sig;
	enum status status;
	char text[360];
	bool taken;
	uint8_t *bytes;
	uint32_t n;
};

struct probe {
	char name[32];
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct event *first, **last;
	atomic_ulong bytes; /* of all IO_BYTES */
	atomic_uint chunks;
	struct pid pid;
	atomic_uint auto_credit; /* given back for each IO_BYTES */
	atomic_bool echo, dead;
	atomic_bool hold; /* keeps the slices of the last HELD IO_BYTES */
	struct slice held[HELD];
};

typedef void probe_fn(struct actor *self, struct probe *p, void *arg);

static void probe_record(struct probe *p, struct event e)
{
	struct event *copy = malloc(sizeof(*copy));

	*copy = e;
	copy->next = NULL;
	pthread_mutex_lock(&p->lock);
	*p->last = copy;
	p->last = &copy->next;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
}

static struct probe *probe_of(const struct actor *self)
{
	return *(struct probe **)actor_state(self);
}

static enum status probe_on_do(struct actor *self, struct msg *m)
{
	struct probe_do_msg *d = probe_do_msg_of(m);

	((probe_fn *)(uintptr_t)d->fn)(self, probe_of(self), (void *)(uintptr_t)d->arg);
	actor_reply_status(self, m, OK, NULL);
	return OK;
}

static enum status probe_on_bytes(struct actor *self, struct msg *m)
{
	struct probe *p = probe_of(self);
	struct io_bytes *b = io_bytes_of(m);
	struct event e = {.tag = IO_BYTES, .io = b->io, .n = b->bytes.len};

	e.bytes = malloc(e.n);
	memcpy(e.bytes, slice_data(&b->bytes), e.n);
	p->bytes += e.n;
	p->chunks++;
	probe_record(p, e);
	if (p->hold) {
		slice_release(&p->held[p->chunks % HELD]);
		p->held[p->chunks % HELD] = slice_sub(&b->bytes, 0, b->bytes.len);
	}
	if (p->echo)
		io_write(self, b->io, &b->bytes);
	io_credit(self, b->io, p->auto_credit);
	return OK;
}

static enum status probe_on_event(struct actor *self, struct msg *m)
{
	struct event e = {.tag = m->tag};
	void *body = msg_body(m);

	switch (m->tag) {
	case IO_ACCEPTED:
		e.io = ((struct io_accepted *)body)->io;
		e.other = ((struct io_accepted *)body)->listener;
		str_copy(e.text, sizeof(e.text), ((struct io_accepted *)body)->peer);
		break;
	case IO_CONNECTED:
		e.io = ((struct io_connected *)body)->io;
		e.status = ((struct io_connected *)body)->status;
		str_copy(e.text, sizeof(e.text), ((struct io_connected *)body)->text);
		break;
	case IO_DRAINED:
		e.io = ((struct io_drained *)body)->io;
		break;
	case IO_CLOSED:
		e.io = ((struct io_closed *)body)->io;
		e.status = ((struct io_closed *)body)->status;
		str_copy(e.text, sizeof(e.text), ((struct io_closed *)body)->text);
		break;
	case IO_TLS_UP: {
		struct io_tls_up *up = body;

		e.io = up->io;
		e.status = up->status;
		snprintf(e.text, sizeof(e.text), "%s|%s|%s|%s", up->text, up->version, up->alpn, up->peer_cn);
		e.n = up->end_point.len;
		e.bytes = malloc(e.n + 1);
		memcpy(e.bytes, slice_data(&up->end_point), e.n);
		break;
	}
	case PROC_EXITED:
		e.io = ((struct proc_exited *)body)->proc;
		e.other = (uint64_t)((struct proc_exited *)body)->code;
		e.sig = ((struct proc_exited *)body)->signal;
		break;
	case PROC_OUTPUT: {
		struct proc_output *o = body;

		e.io = o->proc;
		e.other = o->is_stderr;
		e.n = o->bytes.len;
		e.bytes = malloc(e.n + 1);
		memcpy(e.bytes, slice_data(&o->bytes), e.n);
		e.bytes[e.n] = '\0';
		break;
	}
	case FD_READY:
		e.io = ((struct fd_ready *)body)->fd;
		e.other = ((struct fd_ready *)body)->events;
		break;
	case WORK_DONE: {
		struct work_done *w = body;

		e.io = w->work;
		e.status = w->status;
		e.n = w->result.len;
		e.bytes = malloc(e.n + 1);
		memcpy(e.bytes, slice_data(&w->result), e.n);
		break;
	}
	case ASK_FAILED:
		e.status = ((struct ask_failed *)body)->status;
		e.io = m->corr;
		break;
	case DONE:
		e.status = ((struct done *)body)->status;
		e.io = m->corr;
		break;
	default:
		break;
	}
	probe_record(probe_of(self), e);
	return OK;
}

static enum status probe_init(struct actor *self, const void *args, size_t size)
{
	struct probe *p;

	ck_assert_uint_eq(size, sizeof(p));
	memcpy(&p, args, sizeof(p));
	memcpy(actor_state(self), args, sizeof(p));
	p->pid = actor_pid(self);
	return OK;
}

static void probe_exit(struct actor *self, enum status why)
{
	struct probe *p = probe_of(self);

	(void)why;
	for (int i = 0; i < HELD; i++)
		slice_release(&p->held[i]);
	p->dead = true;
}

static const struct rule probe_rules[] = {
	{STATE_ANY, PROBE_DO, probe_on_do},
	{STATE_ANY, PROBE_PING, probe_on_event},
	{STATE_ANY, IO_BYTES, probe_on_bytes},
	{STATE_ANY, IO_ACCEPTED, probe_on_event},
	{STATE_ANY, IO_CONNECTED, probe_on_event},
	{STATE_ANY, IO_DRAINED, probe_on_event},
	{STATE_ANY, IO_CLOSED, probe_on_event},
	{STATE_ANY, IO_TLS_UP, probe_on_event},
	{STATE_ANY, PROC_EXITED, probe_on_event},
	{STATE_ANY, PROC_OUTPUT, probe_on_event},
	{STATE_ANY, FD_READY, probe_on_event},
	{STATE_ANY, WORK_DONE, probe_on_event},
	{STATE_ANY, ASK_FAILED, probe_on_event},
	{STATE_ANY, DONE, probe_on_event},
};
static const char *const probe_states[] = {"PROBING"};
static const struct behaviour probe_behaviour = {.name = "test.probe",
	.state_size = sizeof(struct probe *),
	.rules = probe_rules,
	.n_rules = ARRAY_LEN(probe_rules),
	.states = probe_states,
	.n_states = 1,
	.init = probe_init,
	.exit = probe_exit};

/* ---- the drive under test -------------------------------------------------------------------------------------- */

static struct drive *the;
static struct probe probes[PROBES_MAX];
static int n_probes;

static enum status probe_spawn(struct worker *w, struct probe *p, const char *name, struct pid *out)
{
	memset(p, 0, sizeof(*p));
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	p->last = &p->first;
	str_copy(p->name, sizeof(p->name), name);
	return worker_spawn(w,
		&(struct spawn){
			.behaviour = &probe_behaviour, .args = &p, .args_size = sizeof(p), .name = name},
		out);
}

static enum status probe_boot(struct worker *w, void *arg, struct pid *root)
{
	(void)arg;
	return probe_spawn(w, &probes[0], "probe", root);
}

static struct probe *drive_up(uint8_t n_workers)
{
	struct error err = {0};

	catalog_add_core();
	catalog_add_probe();
	the = drive_new(
		&(struct drive_spec){.node = node_make(1, 7), .n_workers = n_workers, .boot = probe_boot});
	n_probes = 1;
	ck_assert_msg(drive_start(the, &err) == OK, "%s", err.text);
	return &probes[0];
}

static void drive_down(void)
{
	ck_assert_int_eq(drive_stop(the, 5000), OK);
	drive_free(the);
	for (int i = 0; i < n_probes; i++)
		for (struct event *e = probes[i].first, *next; e; e = next) {
			next = e->next;
			free(e->bytes);
			free(e);
		}
}

struct probe_more {
	struct probe *p;
	enum status st;
	atomic_bool done;
};

static void probe_more_fn(struct worker *w, void *arg)
{
	struct probe_more *m = arg;
	char name[32];

	snprintf(name, sizeof(name), "probe%d", (int)(m->p - probes));
	m->st = probe_spawn(w, m->p, name, NULL);
	atomic_store(&m->done, true);
}

/* Another probe, "probe1", ..., on a worker of choice; no child of anybody. */
__attribute__((unused)) static struct probe *probe_add(uint8_t worker)
{
	struct probe_more m = {.p = &probes[n_probes++]};

	ck_assert(drive_post(the, worker, probe_more_fn, &m));
	while (!atomic_load(&m.done))
		usleep(100);
	ck_assert_int_eq(m.st, OK);
	usleep(2000); /* its name travels to the other workers */
	return m.p;
}

static void probe_do(struct probe *p, probe_fn *fn, void *arg)
{
	struct probe_do_msg d = {.fn = (uintptr_t)fn, .arg = (uintptr_t)arg};

	ck_assert_int_eq(drive_call(the, p->name, PROBE_DO, &d, PROBE_WAIT_MS, NULL, NULL), OK);
}

/* The next event of that tag within wait_ms; its bytes live until drive_down. tag 0xffff for false. */
static struct event probe_wait_ms(struct probe *p, uint16_t tag, uint32_t wait_ms)
{
	struct event out = {.tag = 0xffff};
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += wait_ms / 1000;
	until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&p->lock);
	while (out.tag == 0xffff && rc != ETIMEDOUT) {
		for (struct event *e = p->first; e; e = e->next) {
			if (e->tag != tag || e->taken)
				continue;
			e->taken = true;
			out = *e;
			break;
		}
		if (out.tag == 0xffff)
			rc = pthread_cond_timedwait(&p->more, &p->lock, &until);
	}
	pthread_mutex_unlock(&p->lock);
	return out;
}

__attribute__((unused)) static struct event probe_wait(struct probe *p, uint16_t tag)
{
	struct event e = probe_wait_ms(p, tag, PROBE_WAIT_MS);

	ck_assert_msg(e.tag == tag, "no %s in time", catalog_name(tag));
	return e;
}

__attribute__((unused)) static void probe_wait_none(struct probe *p, uint16_t tag, uint32_t wait_ms)
{
	struct event e = probe_wait_ms(p, tag, wait_ms);

	ck_assert_msg(e.tag != tag, "an unexpected %s: %s", catalog_name(tag), e.text);
}

__attribute__((unused)) static int open_files(void)
{
	int n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

#endif
