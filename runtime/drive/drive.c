/*
 * The node's threads: start, wait, stop. Contracts in drive.h.
 *
 * Stopping goes from the outside in: the root ends its tree while everything still works; then nobody may post any
 * more; then the loops end, each its own actors and sockets; then the helpers finish what was queued.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/drive/internal.h"

enum { HELPERS = 2, RESOLVERS = 2, RESOLVER_STACK_BYTES = 1 << 20, KILL_WAIT_MS = 1000 };

struct timespec drive_after_ms(uint64_t ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ms += (uint64_t)ts.tv_nsec / 1000000;
	ts.tv_sec += (time_t)(ms / 1000);
	ts.tv_nsec = (long)(ms % 1000) * 1000000;
	return ts;
}

void drive_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

/* ---- birth and end ------------------------------------------------------------------------------------------- */

struct drive *drive_new(const struct drive_spec *spec)
{
	struct drive *d = calloc(1, sizeof(*d));
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t stops;

	check(d && spec->n_workers > 0 && spec->n_workers <= WORKERS_MAX && spec->boot);
	d->spec = *spec;
	d->n_loops = spec->n_workers;
	pthread_mutex_init(&d->lock, NULL);
	drive_cond_init(&d->changed);
	list_init(&d->calls);
	sigemptyset(&stops);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGINT);
	pthread_sigmask(SIG_BLOCK, &stops, &d->old_mask);
	sigaction(SIGPIPE, &ignore, &d->old_pipe);
	d->signal_fd = signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK);
	d->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(d->signal_fd >= 0 && d->ended_fd >= 0);
	return d;
}

void drive_free(struct drive *d)
{
	if (!d)
		return;
	check(!d->started);
	close(d->signal_fd);
	close(d->ended_fd);
	sigaction(SIGPIPE, &d->old_pipe, NULL);
	pthread_sigmask(SIG_SETMASK, &d->old_mask, NULL);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* ---- start --------------------------------------------------------------------------------------------------- */

static void descriptors_raise(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r))
		log_warn("drive", "could not raise the limit of open files");
}

/* On worker 0's thread. */
static void boot(struct worker *w, void *arg)
{
	struct drive *d = arg;
	enum status st = d->spec.boot(w, d->spec.boot_arg, &d->root);

	if (st == OK)
		st = drive_watcher_start(d, w);
	pthread_mutex_lock(&d->lock);
	d->boot_status = st;
	d->booted = true;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

void drive_root_ended(struct drive *d, enum status why)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&d->lock);
	d->root_ended = true;
	d->root_status = why;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
	if (write(d->ended_fd, &one, sizeof(one)) < 0)
		log_warn("drive", "could not tell that the root has ended");
}

/* Ends loops and helpers; what stands before is the caller's. */
static void threads_stop(struct drive *d)
{
	atomic_store(&d->accepting, false);
	while (atomic_load(&d->posting)) /* a few instructions long */
		sched_yield();
	for (uint8_t i = 0; i < d->n_loops; i++)
		drive_loop_stop(d->loops[i]);
	for (uint8_t i = 0; i < d->n_loops; i++)
		pthread_join(d->loops[i]->thread, NULL);
	drive_watchdog_stop(d->watchdog);
	work_pool_free(d->helpers);
	work_pool_free(d->resolvers);
	drive_foreign_stop(d);
	drive_crash_remove();
	for (uint8_t i = 0; i < d->n_loops; i++)
		drive_loop_free(d->loops[i]);
	free(d->loops);
	d->loops = NULL;
	d->helpers = d->resolvers = NULL;
	d->watchdog = NULL;
	d->started = false;
}

enum status drive_start(struct drive *d, struct error *err)
{
	check(!d->started && !d->booted);
	descriptors_raise();
	d->loops = calloc(d->n_loops, sizeof(struct loop *));
	check(d->loops != NULL);
	for (uint8_t i = 0; i < d->n_loops; i++)
		d->loops[i] = drive_loop_new(d, i);
	drive_crash_install(d);
	d->helpers = work_pool_new(HELPERS, WORK_STACK_BYTES);
	d->resolvers = work_pool_new(RESOLVERS, RESOLVER_STACK_BYTES);
	d->started = true;
	atomic_store(&d->accepting, true);
	check(drive_post(d, 0, boot, d));
	for (uint8_t i = 0; i < d->n_loops; i++) {
		check(pthread_create(&d->loops[i]->thread, NULL, drive_loop_thread, d->loops[i]) == 0);
		atomic_store(&d->loops[i]->started, true);
	}
	d->watchdog = drive_watchdog_start(d);
	pthread_mutex_lock(&d->lock);
	while (!d->booted)
		pthread_cond_wait(&d->changed, &d->lock);
	pthread_mutex_unlock(&d->lock);
	if (d->boot_status == OK)
		return OK;
	threads_stop(d);
	return error_set(
		err, d->boot_status, "58000", "could not start the node: %s", status_name(d->boot_status));
}

/* ---- wait and stop ------------------------------------------------------------------------------------------- */

int drive_wait(struct drive *d, enum status *why)
{
	struct pollfd fds[] = {{.fd = d->signal_fd, .events = POLLIN}, {.fd = d->ended_fd, .events = POLLIN}};
	struct signalfd_siginfo info;

	for (;;) {
		if (poll(fds, ARRAY_LEN(fds), -1) < 0)
			check(errno == EINTR);
		if (read(d->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
			return (int)info.ssi_signo;
		pthread_mutex_lock(&d->lock);
		if (d->root_ended) {
			if (why)
				*why = d->root_status;
			pthread_mutex_unlock(&d->lock);
			return 0;
		}
		pthread_mutex_unlock(&d->lock);
	}
}

struct root_exit {
	struct drive *drive;
	enum status why;
};

static void root_exit(struct worker *w, void *arg)
{
	struct root_exit *x = arg;

	worker_exit(w, x->drive->root, x->why);
	free(x);
}

/* Tells the root to end and waits; true when it has. */
static bool root_end(struct drive *d, enum status why, uint32_t wait_ms)
{
	struct timespec deadline = drive_after_ms(wait_ms);
	struct root_exit *x = malloc(sizeof(*x));
	int rc = 0;
	bool ended;

	check(x != NULL);
	*x = (struct root_exit){d, why};
	check(drive_post(d, 0, root_exit, x));
	pthread_mutex_lock(&d->lock);
	while (!d->root_ended && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&d->changed, &d->lock, &deadline);
	ended = d->root_ended;
	pthread_mutex_unlock(&d->lock);
	return ended;
}

enum status drive_stop(struct drive *d, uint32_t deadline_ms)
{
	enum status st = OK;

	if (!d->started)
		return E_STATE;
	if (!root_end(d, E_SHUTDOWN, deadline_ms)) {
		log_warn("drive", "the root didn't shut down in %u ms and is killed", deadline_ms);
		root_end(d, E_KILLED, KILL_WAIT_MS);
		st = E_TIMEOUT;
	}
	threads_stop(d);
	return st;
}
