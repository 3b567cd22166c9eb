/*
 * Child processes, and processes that aren't ours, watched through a pidfd under a uv_poll_t: no SIGCHLD, no mix-up of
 * reused numbers. Output comes through pipes; what is there when the process ends is delivered before PROC_EXITED.
 *
 * A process whose owner ended stays here unowned: killed if it was to die with it, and reaped either way.
 */
#include "runtime/drive/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/log.h"

enum { OUTPUT_AT_EXIT_MAX = 1 << 20, REAP_WAIT_MS = 2000, PIPES = 2 };

struct process;

struct pipe_end {
	uv_poll_t poll;
	int fd; /* -1: closed */
	uint8_t is_stderr;
	struct process *process;
};

struct process {
	struct object object;
	struct loop *loop;
	struct list in_loop;
	uv_poll_t poll; /* of the pidfd */
	int pidfd;
	pid_t pid;
	bool ours, die_with_node; /* ours: a child, to be reaped */
	uint8_t handles; /* uv handles not yet closed; memory goes at 0 */
	struct pipe_end pipes[PIPES];
};

/* ---- end ----------------------------------------------------------------------------------------------------- */

static void process_unref(struct process *p)
{
	if (--p->handles == 0)
		free(p);
}

static void pipe_closed(uv_handle_t *h)
{
	struct pipe_end *e = h->data;

	process_unref(e->process);
}

static void pidfd_closed(uv_handle_t *h)
{
	process_unref(h->data);
}

static void pipe_close(struct pipe_end *e)
{
	if (e->fd < 0)
		return;
	uv_close((uv_handle_t *)&e->poll, pipe_closed);
	close(e->fd);
	e->fd = -1;
}

static void process_destroy(struct process *p)
{
	drive_object_remove(p->loop, &p->object);
	list_remove(&p->in_loop);
	for (int i = 0; i < PIPES; i++)
		pipe_close(&p->pipes[i]);
	uv_close((uv_handle_t *)&p->poll, pidfd_closed);
	close(p->pidfd);
}

static void process_kill(struct process *p)
{
	if (p->ours)
		kill(-p->pid, SIGKILL); /* its session too: not reaped yet, so the number is still its own */
	syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
}

static void process_drop(struct handle *h)
{
	struct process *p = CONTAINER_OF(h, struct process, object.handle);

	drive_object_remove(p->loop, &p->object);
	for (int i = 0; i < PIPES; i++)
		pipe_close(&p->pipes[i]);
	if (p->die_with_node)
		process_kill(p);
	if (!p->ours)
		process_destroy(p); /* nothing to reap */
}

/* ---- output -------------------------------------------------------------------------------------------------- */

/* Reads once; what came is a message. 0: nothing now, or the end. */
static uint32_t pipe_read(struct pipe_end *e)
{
	struct process *p = e->process;
	struct loop *l = p->loop;
	struct proc_output *o;
	struct msg *m;
	uint32_t size;
	uint8_t *at;
	ssize_t n;

	drive_chunk(l, CHUNK_ROOM_MIN, &at, &size);
	n = read(e->fd, at, size < READ_MAX ? size : READ_MAX);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		pipe_close(e);
	if (n <= 0)
		return 0;
	m = worker_msg_new(l->worker, PROC_OUTPUT);
	m->to = p->object.handle.owner;
	o = msg_body(m);
	o->proc = p->object.id;
	o->is_stderr = e->is_stderr;
	o->bytes = drive_chunk_take(l, (uint32_t)n);
	worker_deliver(l->worker, m);
	return (uint32_t)n;
}

static void on_output(uv_poll_t *h, int status, int events)
{
	(void)status;
	(void)events;
	pipe_read(h->data);
}

static void pipe_open(struct process *p, int i, int fd)
{
	struct pipe_end *e = &p->pipes[i];

	e->process = p;
	e->fd = fd;
	e->is_stderr = (uint8_t)i;
	if (fd < 0)
		return;
	if (uv_poll_init(&p->loop->uv, &e->poll, fd)) {
		close(fd);
		e->fd = -1;
		return;
	}
	e->poll.data = e;
	p->handles++;
	uv_poll_start(&e->poll, UV_READABLE, on_output);
}

/* ---- exit ---------------------------------------------------------------------------------------------------- */

static void process_tell(struct process *p, int64_t code, int64_t sig)
{
	struct worker *w = p->loop->worker;
	struct proc_exited *x;
	struct msg *m;

	if (!p->object.id)
		return;
	m = worker_msg_new(w, PROC_EXITED);
	m->to = p->object.handle.owner;
	x = msg_body(m);
	x->proc = p->object.id;
	x->code = code;
	x->signal = sig;
	worker_deliver(w, m);
}

static void on_exit_event(uv_poll_t *h, int status, int events)
{
	struct process *p = h->data;
	siginfo_t info = {0};
	int64_t code = -1, sig = 0;

	(void)status;
	(void)events;
	if (waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG) == 0) {
		if (info.si_pid == 0)
			return; /* not yet */
		if (info.si_code == CLD_EXITED)
			code = info.si_status;
		else
			sig = info.si_status;
	} /* else not our child, or another handle has reaped it: the code is unknown */
	for (int i = 0; i < PIPES && p->object.id; i++)
		for (uint32_t got = 0, n; p->pipes[i].fd >= 0 && got < OUTPUT_AT_EXIT_MAX; got += n) {
			n = pipe_read(&p->pipes[i]);
			if (!n)
				break;
		}
	process_tell(p, code, sig);
	process_destroy(p);
}

/* ---- the driver's operations --------------------------------------------------------------------------------- */

/* Takes the pidfd. */
static enum status process_new(
	struct loop *l, struct actor *a, pid_t pid, int pidfd, bool die, struct process **out)
{
	struct process *p = calloc(1, sizeof(*p));
	enum status st;

	check(p != NULL);
	*out = NULL;
	p->loop = l;
	p->pid = pid;
	p->pidfd = pidfd;
	p->die_with_node = die;
	p->object.handle.drop = process_drop;
	list_init(&p->in_loop);
	for (int i = 0; i < PIPES; i++)
		p->pipes[i].fd = -1;
	if (uv_poll_init(&l->uv, &p->poll, pidfd)) {
		close(pidfd);
		free(p);
		return E_IO;
	}
	p->poll.data = p;
	p->handles = 1;
	list_push_back(&l->processes, &p->in_loop);
	st = drive_object_add(l, &p->object, OBJECT_PROCESS, actor_pid(a));
	if (st) {
		process_destroy(p); /* closes the pidfd */
		return st;
	}
	uv_poll_start(&p->poll, UV_READABLE, on_exit_event);
	*out = p;
	return OK;
}

enum status drive_proc_start(
	struct driver *d, struct actor *a, const struct proc_start *spec, uint64_t *proc, struct error *err)
{
	struct loop *l = loop_of(d);
	struct process *p;
	int out[PIPES], pidfd;
	pid_t pid;
	enum status st;

	if (!spec->argv || !spec->argv[0])
		return error_set(err, E_INVALID, "22023", "no program to start");
	st = drive_spawn(spec, &pid, out, err);
	if (st)
		return st;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 || (st = process_new(l, a, pid, pidfd, spec->die_with_node, &p)) != OK) {
		kill(-pid, SIGKILL);
		waitpid(pid, NULL, 0);
		for (int i = 0; i < PIPES; i++)
			if (out[i] >= 0)
				close(out[i]);
		return error_set(err, st ? st : E_IO, "58000", "could not watch process %d", (int)pid);
	}
	p->ours = true;
	for (int i = 0; i < PIPES; i++)
		pipe_open(p, i, out[i]);
	*proc = p->object.id;
	return OK;
}

enum status drive_proc_adopt(struct driver *d, struct actor *a, int32_t os_pid, uint64_t *proc)
{
	struct process *p;
	int pidfd = os_pid > 0 ? (int)syscall(SYS_pidfd_open, os_pid, 0) : -1;
	enum status st;

	if (pidfd < 0)
		return os_pid <= 0 || errno == ESRCH || errno == EINVAL ? E_NOT_FOUND : E_IO;
	st = process_new(loop_of(d), a, os_pid, pidfd, false, &p);
	if (st)
		return st;
	*proc = p->object.id;
	return OK;
}

static struct process *process_find(struct driver *d, struct actor *a, uint64_t proc)
{
	struct object *o = drive_object_find(loop_of(d), proc, OBJECT_PROCESS, a);

	return o ? CONTAINER_OF(o, struct process, object) : NULL;
}

enum status drive_proc_signal(struct driver *d, struct actor *a, uint64_t proc, int sig)
{
	struct process *p = process_find(d, a, proc);

	if (!p)
		return E_CLOSED;
	if (syscall(SYS_pidfd_send_signal, p->pidfd, sig, NULL, 0) == 0)
		return OK;
	return errno == ESRCH ? E_NOT_FOUND : errno == EPERM ? E_DENIED : E_INVALID;
}

int32_t drive_proc_os_pid(struct driver *d, struct actor *a, uint64_t proc)
{
	struct process *p = process_find(d, a, proc);

	return p ? p->pid : 0;
}

void drive_processes_abort(struct loop *l)
{
	list_each(it, &l->processes)
	{
		struct process *p = LIST_ITEM(it, struct process, in_loop);
		struct pollfd ended = {.fd = p->pidfd, .events = POLLIN};

		if (p->ours && p->die_with_node) {
			process_kill(p);
			if (poll(&ended, 1, REAP_WAIT_MS) == 1)
				waitid(P_PIDFD, (id_t)p->pidfd, &(siginfo_t){0}, WEXITED | WNOHANG);
			else
				log_warn("drive", "process %d was killed but hasn't ended", (int)p->pid);
		}
		process_destroy(p);
	}
}
