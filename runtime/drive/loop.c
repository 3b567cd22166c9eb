/*
 * The loop of a worker, on its own thread:
 *
 *	   .--> inbox -> worker_run (1 ms at most) -> sockets' writes -> outboxes --.
 *	   |                                                                        |
 *	   '--- events <- uv_run: NOWAIT while runnable, else until the next timer <'
 *
 * Wakes come through an eventfd of our own: in libuv 1.44.2 uv_async_send's receiver spins while the sender is still
 * inside the call (notes, finding 3).
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "runtime/drive/fd.h"
#include "runtime/drive/proc.h"
#include "runtime/drive/socket.h"

enum { CALIBRATE_US = 5000, LINGER_AT_END_MS = 500 };

/* ---- clocks and chance --------------------------------------------------------------------------------------- */

static uint64_t clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t drive_now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

static uint64_t op_now_us(struct driver *d)
{
	(void)d;
	return clock_us(CLOCK_MONOTONIC);
}

static uint64_t op_wall_us(struct driver *d)
{
	(void)d;
	return clock_us(CLOCK_REALTIME);
}

static uint64_t op_ticks(struct driver *d)
{
	(void)d;
#if defined(__x86_64__)
	return __rdtsc();
#else
	return clock_us(CLOCK_MONOTONIC);
#endif
}

/* How many ticks a microsecond has; measured once, on the main thread. */
static uint64_t ticks_calibrate(void)
{
	static uint64_t per_us;
	uint64_t t0, t1, from, to;

	if (per_us)
		return per_us;
	t0 = drive_now_us();
	from = op_ticks(NULL);
	while ((t1 = drive_now_us()) - t0 < CALIBRATE_US)
		;
	to = op_ticks(NULL);
	per_us = (to - from) / (t1 - t0);
	if (!per_us)
		per_us = 1;
	return per_us;
}

static uint64_t op_random(struct driver *d)
{
	struct loop *l = loop_of(d);

	if (!l->n_entropy) {
		check(getrandom(l->entropy, sizeof(l->entropy), 0) == (ssize_t)sizeof(l->entropy));
		l->n_entropy = ARRAY_LEN(l->entropy);
	}
	return l->entropy[--l->n_entropy];
}

static const struct driver_ops drive_ops = {
	.now_us = op_now_us,
	.wall_us = op_wall_us,
	.ticks = op_ticks,
	.random = op_random,
	.forward = drive_forward,
	.listen = drive_listen,
	.connect = drive_connect,
	.give = drive_give,
	.credit = drive_credit,
	.write = drive_write,
	.queued = drive_queued,
	.close = drive_close,
	.tls = drive_tls,
	.proc_start = drive_proc_start,
	.proc_adopt = drive_proc_adopt,
	.proc_signal = drive_proc_signal,
	.proc_os_pid = drive_proc_os_pid,
	.fd_watch = drive_fd_watch,
	.fd_arm = drive_fd_arm,
	.fd_unwatch = drive_fd_unwatch,
	.work = drive_work,
};

/* ---- waiting ------------------------------------------------------------------------------------------------- */

static void on_wake(uv_poll_t *h, int status, int events)
{
	struct loop *l = h->data;
	uint64_t count;

	(void)status;
	(void)events;
	if (read(l->sleeper.event_fd, &count, sizeof(count)) < 0)
		check(errno == EAGAIN || errno == EINTR);
}

static void on_timer(uv_timer_t *t)
{
	struct loop *l = t->data;

	l->timer_due_us = UINT64_MAX; /* worker_run looks at the clock */
	uv_stop(&l->uv); /* uv_run runs timers before it polls: it must not block now that there is work */
}

/* Arms the uv timer for the core's next one; touches it only when that changed. */
static void timer_arm(struct loop *l)
{
	uint64_t due = worker_next_due_us(l->worker), due_ms, now_ms;

	if (due == l->timer_due_us)
		return;
	l->timer_due_us = due;
	if (due == UINT64_MAX) {
		uv_timer_stop(&l->timer);
		return;
	}
	due_ms = (due + 999) / 1000;
	now_ms = uv_now(&l->uv); /* the same clock, as old as this turn; uv adds it again */
	uv_timer_start(&l->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void on_tick(uv_timer_t *t)
{
	struct loop *l = t->data;
	uint64_t now = drive_now_us();
	struct list due;

	uv_stop(&l->uv); /* as in on_timer */
	list_init(&due);
	list_each(it, &l->deadlines)
	{
		if (LIST_ITEM(it, struct deadline, link)->at_us > now)
			continue;
		list_remove(it);
		list_push_back(&due, it);
	}
	for (struct list *it; (it = list_pop_front(&due));) {
		struct deadline *d = LIST_ITEM(it, struct deadline, link);

		d->expired(d);
	}
	if (list_empty(&l->deadlines))
		uv_timer_stop(&l->ticker);
}

void drive_deadline_set(
	struct loop *l, struct deadline *t, uint64_t in_ms, void (*expired)(struct deadline *t))
{
	list_remove(&t->link);
	t->at_us = drive_now_us() + in_ms * 1000;
	t->expired = expired;
	list_push_back(&l->deadlines, &t->link);
	if (!uv_is_active((uv_handle_t *)&l->ticker))
		uv_timer_start(&l->ticker, on_tick, DEADLINE_TICK_MS, DEADLINE_TICK_MS);
}

/* ---- running ------------------------------------------------------------------------------------------------- */

static void loop_run(struct loop *l)
{
	for (;;) {
		drive_inbox_drain(l);
		if (l->stopping)
			return;
		worker_run(l->worker, RUN_BUDGET_US);
		drive_dirty_flush(l);
		drive_outboxes_flush(l);
		if (worker_runnable(l->worker) || !list_empty(&l->dirty)) {
			uv_run(&l->uv, UV_RUN_NOWAIT);
			continue;
		}
		timer_arm(l);
		sleeper_announce(&l->sleeper);
		if (inbox_empty(&l->inbox)) /* between announcing and blocking: see inbox.c */
			uv_run(&l->uv, UV_RUN_ONCE);
		sleeper_awake(&l->sleeper);
	}
}

/* What actors closed as they ended may still have something to say. */
static void loop_linger(struct loop *l)
{
	uint64_t until = drive_now_us() + LINGER_AT_END_MS * 1000;

	drive_dirty_flush(l);
	while (!list_empty(&l->sockets) && drive_now_us() < until) {
		uv_timer_start(&l->timer, on_timer, DEADLINE_TICK_MS, 0);
		uv_run(&l->uv, UV_RUN_ONCE);
		drive_dirty_flush(l);
	}
}

static void loop_end(struct loop *l)
{
	struct worker *w = l->worker;

	pthread_mutex_lock(&l->drive->lock);
	l->watched = NULL;
	pthread_mutex_unlock(&l->drive->lock);
	drive_inbox_drain(l);
	drive_listeners_abort(l);
	drive_fds_abort(l);
	worker_free(w);
	l->worker = NULL;
	drive_outboxes_flush(l);
	loop_linger(l);
	drive_sockets_abort(l);
	drive_processes_abort(l);
	uv_close((uv_handle_t *)&l->wake, NULL);
	uv_close((uv_handle_t *)&l->timer, NULL);
	uv_close((uv_handle_t *)&l->ticker, NULL);
	uv_run(&l->uv, UV_RUN_DEFAULT);
	check(uv_loop_close(&l->uv) == 0);
	drive_tls_contexts_release(l);
	drive_chunks_release(l);
}

void *drive_loop_thread(void *arg)
{
	struct loop *l = arg;
	char name[16];

	snprintf(name, sizeof(name), "worker %u", (unsigned)l->index);
	pthread_setname_np(pthread_self(), name);
	l->signal_stack = drive_crash_stack_install();
	loop_run(l);
	loop_end(l);
	drive_crash_stack_remove(l->signal_stack);
	return NULL;
}

struct loop *drive_loop_new(struct drive *d, uint8_t index)
{
	struct loop *l = aligned_alloc(64, (sizeof(*l) + 63) & ~(size_t)63);

	check(l != NULL);
	memset(l, 0, sizeof(*l));
	l->driver = (struct driver){.ops = &drive_ops, .ticks_per_us = ticks_calibrate()};
	l->drive = d;
	l->index = index;
	l->timer_due_us = UINT64_MAX;
	list_init(&l->deadlines);
	list_init(&l->sockets);
	list_init(&l->listeners);
	list_init(&l->processes);
	list_init(&l->fds);
	list_init(&l->dirty);
	l->out = calloc(d->n_loops, sizeof(*l->out));
	l->sleeper.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(l->out && l->sleeper.event_fd >= 0);
	check(uv_loop_init(&l->uv) == 0);
	check(uv_timer_init(&l->uv, &l->timer) == 0 && uv_timer_init(&l->uv, &l->ticker) == 0);
	check(uv_poll_init(&l->uv, &l->wake, l->sleeper.event_fd) == 0);
	l->timer.data = l->ticker.data = l->wake.data = l;
	check(uv_poll_start(&l->wake, UV_READABLE, on_wake) == 0);
	l->worker = worker_new(
		&(struct node_spec){
			.node = d->spec.node, .n_workers = d->n_loops, .context = d->spec.context},
		index, &l->driver);
	l->watched = l->worker;
	return l;
}

void drive_loop_free(struct loop *l)
{
	struct parcel *p, *next;
	struct inbox *both[] = {&l->inbox, &l->returns};

	for (unsigned i = 0; i < ARRAY_LEN(both); i++)
		for (p = inbox_take(both[i]); p; p = next) {
			next = p->next;
			parcel_free(p);
		}
	for (p = l->spare; p; p = next) {
		next = p->next;
		p->used = 0;
		parcel_free(p);
	}
	for (uint8_t i = 0; i < l->drive->n_loops; i++)
		for (p = l->out[i].newest; p; p = next) {
			next = p->next;
			parcel_free(p);
		}
	close(l->sleeper.event_fd);
	free(l->objects.slots);
	free(l->cipher);
	free(l->out);
	free(l);
}
