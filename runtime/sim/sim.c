/*
 * The simulation itself: nodes and their lives, the loop that picks the next step, clocks, faults, the trace hash.
 *
 * One step is: a runnable worker handles a few messages, or the next event happens. Both are drawn from the stream
 * "schedule". When nothing is runnable and no event is due, time jumps to the next event or timer.
 */
#include "runtime/sim/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/bytes.h"
#include "runtime/sim/internal.h"

enum { CLOCK_SPREAD_US = 1000000000 };
#define WALL_AT_START_US 1700000000000000ull

static struct sim *current; /* for the fault and panic hooks, which have no argument */

/* ---- the small end of the driver ------------------------------------------------------------------------------- */

static uint64_t driver_now_us(struct driver *d)
{
	return node_now_us(worker_of_driver(d)->node);
}

static uint64_t driver_wall_us(struct driver *d)
{
	return WALL_AT_START_US + worker_of_driver(d)->node->sim->now_us;
}

static uint64_t driver_random(struct driver *d)
{
	return rand_u64(&worker_of_driver(d)->random);
}

static enum status driver_fd_watch(struct driver *d, struct actor *a, int fd, uint8_t events, uint64_t *id)
{
	(void)d, (void)a, (void)fd, (void)events, (void)id;
	return E_UNSUPPORTED;
}

static void driver_fd_arm(struct driver *d, struct actor *a, uint64_t id, uint8_t events)
{
	(void)d, (void)a, (void)id, (void)events;
}

static void driver_fd_unwatch(struct driver *d, struct actor *a, uint64_t id)
{
	(void)d, (void)a, (void)id;
}

static const struct driver_ops ops = {
	.now_us = driver_now_us,
	.wall_us = driver_wall_us,
	.ticks = driver_now_us,
	.random = driver_random,
	.forward = link_forward,
	.listen = sock_listen,
	.connect = sock_connect,
	.give = sock_give,
	.credit = sock_credit,
	.write = sock_write,
	.queued = sock_queued,
	.close = sock_close,
	.tls = sock_tls,
	.proc_start = process_start,
	.proc_adopt = process_adopt,
	.proc_signal = process_signal,
	.proc_os_pid = process_os_pid,
	.fd_watch = driver_fd_watch,
	.fd_arm = driver_fd_arm,
	.fd_unwatch = driver_fd_unwatch,
	.work = work_submit,
};

/* ---- faults, failures, the hash ---------------------------------------------------------------------------------- */

static bool fault_asked(enum fault_point point)
{
	struct fault_state *f = &current->faults[point];
	bool hit = rand_chance(&f->stream, f->ppm);

	f->asked++;
	hit |= f->nth && f->asked == f->nth;
	f->hits += hit;
	return hit;
}

void sim_fault(struct sim *s, enum fault_point point, uint32_t ppm)
{
	s->faults[point].ppm = ppm;
}

void sim_fault_nth(struct sim *s, enum fault_point point, uint64_t nth)
{
	s->faults[point].nth = s->faults[point].asked + nth;
}

uint64_t sim_fault_hits(const struct sim *s, enum fault_point point)
{
	return s->faults[point].hits;
}

static void faults_init(struct sim *s)
{
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		s->faults[i].stream = rand_fork(&s->root, fault_name((enum fault_point)i));
	fault_hook = fault_asked;
}

const char *sim_replay(const struct sim *s)
{
	return s->replay;
}

static void panicked(const char *text)
{
	(void)text;
	if (current)
		fprintf(stderr, "at %llu us, step %llu; replay: %s\n", (unsigned long long)current->now_us,
			(unsigned long long)current->steps, current->replay);
}

_Noreturn void sim_fail(const struct sim *s, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	panic("%s (replay: %s)", text, s->replay);
}

void sim_hash(struct sim *s, uint64_t v)
{
	s->hash = (s->hash ^ v) * 0x9e3779b97f4a7c15ull;
	s->hash ^= s->hash >> 29;
}

uint64_t sim_trace_hash(const struct sim *s)
{
	struct sim copy = {.hash = s->hash};

	for (uint16_t i = 1; i <= s->spec.n_nodes; i++)
		for (uint8_t k = 0; k < s->spec.n_workers && s->nodes[i].up; k++)
			sim_hash(&copy, worker_trace_hash(s->nodes[i].workers[k].worker));
	return copy.hash;
}

/* ---- lives of nodes ---------------------------------------------------------------------------------------------- */

static struct sim_node *node_of(const struct sim *s, uint16_t id)
{
	check(id >= 1 && id <= s->spec.n_nodes);
	return &s->nodes[id];
}

static void node_start(struct sim *s, struct sim_node *n)
{
	struct node_spec spec = {.n_workers = s->spec.n_workers, .context = s->spec.context};

	spec.node = n->node = node_make(n->id, ++n->incarnation);
	for (uint8_t i = 0; i < spec.n_workers; i++) {
		struct sim_worker *sw = &n->workers[i];

		sw->driver = (struct driver){.ops = &ops, .ticks_per_us = 1};
		sw->ticked = false;
		sw->worker = worker_new(&spec, i, &sw->driver);
		worker_trace_hash_enable(sw->worker);
	}
	n->up = true;
}

static void node_stop(struct sim *s, struct sim_node *n)
{
	n->going = true;
	for (uint8_t i = 0; i < s->spec.n_workers; i++) {
		struct sim_worker *sw = &n->workers[i];
		struct worker_stats stats;

		worker_stats(sw->worker, &stats);
		s->dead_messages += stats.messages;
		sim_hash(s, worker_trace_hash(sw->worker));
		worker_free(sw->worker);
		sw->worker = NULL;
		inbox_clear(sw);
	}
	for (uint8_t i = 0; i < s->spec.n_workers; i++)
		inbox_clear(&n->workers[i]);
	n->up = n->going = false;
}

void sim_crash_node(struct sim *s, uint16_t node)
{
	struct sim_node *n = node_of(s, node);

	check(n->up);
	sim_hash(s, node);
	node_stop(s, n);
	sock_node_crashed(s, node);
	process_node_crashed(s, node);
	link_node_crashed(s, node);
}

void sim_restart_node(struct sim *s, uint16_t node)
{
	struct sim_node *n = node_of(s, node);

	check(!n->up);
	node_start(s, n);
	link_node_started(s, node);
	if (s->spec.boot)
		s->spec.boot(s, node, s->spec.arg);
}

bool sim_node_up(const struct sim *s, uint16_t node)
{
	return node_of(s, node)->up;
}

struct worker *sim_worker(struct sim *s, uint16_t node, uint8_t worker)
{
	check(worker < s->spec.n_workers);
	return node_of(s, node)->workers[worker].worker;
}

struct sim_worker *sim_worker_at(struct sim *s, struct pid p)
{
	uint16_t id = (uint16_t)(p.node >> 48);

	if (id == 0 || id > s->spec.n_nodes || s->nodes[id].node != p.node ||
		pid_worker(p) >= s->spec.n_workers)
		return NULL;
	return s->nodes[id].up ? &s->nodes[id].workers[pid_worker(p)] : NULL;
}

struct pid sim_spawn(struct sim *s, uint16_t node, uint8_t worker, const struct spawn *what)
{
	struct worker *w = sim_worker(s, node, worker);
	struct pid pid;
	enum status st;

	check(w != NULL);
	worker_step(w, 0); /* its clock may stand at its last step */
	st = worker_spawn(w, what, &pid);
	if (st)
		sim_fail(s, "could not start %s: %s", what->behaviour->name, status_name(st));
	return pid;
}

void sim_exit(struct sim *s, struct pid who, enum status why)
{
	struct sim_worker *sw = sim_worker_at(s, who);

	if (sw)
		worker_exit(sw->worker, who, why);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void event_happens(struct sim *s, const struct event *e)
{
	sim_hash(s, e->at_us ^ (uint64_t)e->kind << 56);
	switch (e->kind) {
	case EV_CALL:
		e->call(s, e->p);
		break;
	case EV_FRAME:
	case EV_LINK_CHECK:
	case EV_LINK_UP:
	case EV_LINK_GONE:
	case EV_LINK_FLUSH:
		link_event(s, e);
		break;
	case EV_CONN:
		sock_event(s, e);
		break;
	case EV_PROC:
		process_event(s, e);
		break;
	case EV_WORK:
		work_event(s, e);
		break;
	}
}

static bool worker_wants_to_run(const struct sim_worker *sw)
{
	return sw->ticked || sw->inbox_n || worker_runnable(sw->worker);
}

/* All that may happen in this instant: workers with something to do, and the next event if it is due. */
static uint32_t choices(struct sim *s, struct sim_worker **out)
{
	uint32_t n = 0;

	for (uint16_t i = 1; i <= s->spec.n_nodes; i++)
		for (uint8_t k = 0; k < s->spec.n_workers && s->nodes[i].up; k++)
			if (worker_wants_to_run(&s->nodes[i].workers[k]))
				out[n++] = &s->nodes[i].workers[k];
	if (events_next_us(&s->events) <= s->now_us)
		out[n++] = NULL;
	return n;
}

static uint64_t worker_due_us(const struct sim_worker *sw)
{
	uint64_t due = worker_next_due_us(sw->worker), lead = sw->node->clock_us;

	return due == UINT64_MAX ? due : due > lead ? due - lead : 0;
}

/* Moves time to the next event or timer, at most to end_us; false when there is none before it. */
static bool time_jumps(struct sim *s, uint64_t end_us)
{
	uint64_t due[(SIM_NODES_MAX + 1) * SIM_WORKERS_MAX], next = events_next_us(&s->events);
	uint32_t n = 0;

	for (uint16_t i = 1; i <= s->spec.n_nodes; i++)
		for (uint8_t k = 0; k < s->spec.n_workers && s->nodes[i].up; k++, n++) {
			due[n] = worker_due_us(&s->nodes[i].workers[k]);
			next = due[n] < next ? due[n] : next;
		}
	s->steps_at_now = 0;
	if (next > end_us) {
		s->now_us = end_us;
		return false;
	}
	s->now_us = next > s->now_us ? next : s->now_us;
	n = 0;
	for (uint16_t i = 1; i <= s->spec.n_nodes; i++)
		for (uint8_t k = 0; k < s->spec.n_workers && s->nodes[i].up; k++, n++)
			s->nodes[i].workers[k].ticked = due[n] <= s->now_us;
	return true;
}

/* One step before end_us; false when time is up. */
static bool step(struct sim *s, uint64_t end_us)
{
	struct sim_worker *ready[(SIM_NODES_MAX + 1) * SIM_WORKERS_MAX + 1], *sw;
	uint32_t n;
	struct event e;

	while ((n = choices(s, ready)) == 0)
		if (!time_jumps(s, end_us))
			return false;
	s->steps++;
	if (++s->steps_at_now > LIVELOCK_STEPS)
		sim_fail(s, "%d steps and time stands still: an actor spins", LIVELOCK_STEPS);
	sw = n == 1 ? ready[0] : ready[rand_below(&s->schedule, n)];
	if (sw) {
		sw->ticked = false;
		if (sw->inbox_n)
			inbox_drain(s, sw);
		worker_step(sw->worker, (unsigned)rand_between(&s->schedule, 1, STEP_MESSAGES_MAX));
	} else if (events_take(&s->events, s->now_us, &e)) {
		event_happens(s, &e);
	}
	return true;
}

bool sim_run_until(struct sim *s, sim_done_fn *done, void *arg, uint64_t limit_us)
{
	uint64_t end_us = s->now_us + limit_us;

	for (;;) {
		if (done && done(s, arg))
			return true;
		if (!step(s, end_us))
			return !done || done(s, arg);
	}
}

void sim_run_for(struct sim *s, uint64_t us)
{
	(void)sim_run_until(s, NULL, NULL, us);
}

void sim_after(struct sim *s, uint64_t after_us, void (*fn)(struct sim *s, void *arg), void *arg)
{
	events_add(s, after_us, (struct event){.kind = EV_CALL, .call = fn, .p = arg});
}

/* ---- looking in ---------------------------------------------------------------------------------------------------- */

uint64_t sim_now_us(const struct sim *s)
{
	return s->now_us;
}

uint64_t sim_steps(const struct sim *s)
{
	return s->steps;
}

static void stats_sum(const struct sim *s, uint64_t *messages, uint64_t *actors)
{
	*messages = s->dead_messages;
	*actors = 0;
	for (uint16_t i = 1; i <= s->spec.n_nodes; i++)
		for (uint8_t k = 0; k < s->spec.n_workers && s->nodes[i].up; k++) {
			struct worker_stats stats;

			worker_stats(s->nodes[i].workers[k].worker, &stats);
			*messages += stats.messages;
			*actors += stats.actors - 1;
		}
}

uint64_t sim_messages(const struct sim *s)
{
	uint64_t messages, actors;

	stats_sum(s, &messages, &actors);
	return messages;
}

uint64_t sim_actors(const struct sim *s)
{
	uint64_t messages, actors;

	stats_sum(s, &messages, &actors);
	return actors;
}

uint64_t sim_handles(const struct sim *s)
{
	return HASH_COUNT(s->ios) + HASH_COUNT(s->watches) + s->works;
}

struct rand_stream sim_stream(const struct sim *s, const char *label)
{
	return rand_fork(&s->root, label);
}

/* ---- birth and end ------------------------------------------------------------------------------------------------- */

void sim_net_set(struct sim *s, const struct sim_net *net)
{
	s->spec.net = *net;
	if (!net->delay_min_us)
		s->spec.net.delay_min_us = 50;
	if (!net->delay_mean_us)
		s->spec.net.delay_mean_us = 500;
	if (!net->timeout_us)
		s->spec.net.timeout_us = 3000000;
}

static void streams_init(struct sim *s)
{
	s->root = rand_init(s->spec.seed);
	s->schedule = rand_fork(&s->root, "schedule");
	s->net = rand_fork(&s->root, "net");
	s->io = rand_fork(&s->root, "io");
	s->proc = rand_fork(&s->root, "proc");
	s->work = rand_fork(&s->root, "work");
}

static void nodes_init(struct sim *s)
{
	struct rand_stream clocks = rand_fork(&s->root, "clocks");

	for (uint16_t i = 1; i <= s->spec.n_nodes; i++) {
		struct sim_node *n = &s->nodes[i];

		n->sim = s;
		n->id = i;
		n->clock_us = rand_below(&clocks, CLOCK_SPREAD_US) + 1;
		for (uint8_t k = 0; k < SIM_WORKERS_MAX; k++) {
			char label[32];

			snprintf(label, sizeof(label), "worker %u.%u", i, k);
			n->workers[k].node = n;
			n->workers[k].index = k;
			n->workers[k].random = rand_fork(&s->root, label);
		}
		node_start(s, n);
	}
}

struct sim *sim_new(const struct sim_spec *spec)
{
	struct sim *s = calloc(1, sizeof(*s));
	size_t ways = (size_t)(spec->n_nodes + 1) * (spec->n_nodes + 1u);

	check(s && !current);
	check(spec->n_nodes >= 1 && spec->n_nodes <= SIM_NODES_MAX);
	check(spec->n_workers >= 1 && spec->n_workers <= SIM_WORKERS_MAX);
	s->spec = *spec;
	s->next_os_pid = 1000;
	list_init(&s->listeners);
	writer_init(&s->scratch, MSG_WIRE_MAX);
	s->nodes = calloc(spec->n_nodes + 1u, sizeof(*s->nodes));
	s->ways = calloc(ways, sizeof(*s->ways));
	s->pairs = calloc(ways, sizeof(*s->pairs));
	check(s->nodes && s->ways && s->pairs);
	snprintf(s->replay, sizeof(s->replay), "SIM_SEED=%llu %s", (unsigned long long)spec->seed,
		program_invocation_name);
	current = s;
	panic_hook = panicked;
	sim_net_set(s, &spec->net);
	streams_init(s);
	faults_init(s);
	nodes_init(s);
	link_init(s);
	for (uint16_t i = 1; spec->boot && i <= spec->n_nodes; i++)
		spec->boot(s, i, spec->arg);
	return s;
}

static void events_release(struct sim *s)
{
	struct event e;

	while (events_take(&s->events, UINT64_MAX, &e)) {
		if (e.kind == EV_FRAME)
			free(e.p);
		else if (e.kind == EV_WORK)
			work_discard(&e);
	}
	free(s->events.heap);
}

void sim_free(struct sim *s)
{
	size_t ways = (size_t)(s->spec.n_nodes + 1) * (s->spec.n_nodes + 1u);
	struct lane *lane;

	for (uint16_t i = 1; i <= s->spec.n_nodes; i++)
		if (s->nodes[i].up)
			node_stop(s, &s->nodes[i]);
	sock_release(s);
	process_release(s);
	events_release(s);
	for (size_t i = 0; i < ways; i++)
		frames_free(&s->ways[i].held);
	while ((lane = s->lanes)) {
		s->lanes = lane->next;
		free(lane);
	}
	writer_release(&s->scratch);
	free(s->nodes);
	free(s->ways);
	free(s->pairs);
	current = NULL;
	fault_hook = NULL;
	panic_hook = NULL;
	free(s);
}
