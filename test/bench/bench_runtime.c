/*
 * The runtime's own figures, each as a JSON line: {"name", "value", "unit", "target", "met"}. Run by
 * `scripts/bench runtime`, which puts the same programs in Erlang beside them.
 *
 * Times are CPU time of the process divided by operations, on the real drive (threads, libuv, the watchdog running):
 * what an operation costs, not how long a busy machine takes over it.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/core/actor.h"
#include "runtime/core/supervise.h"
#include "runtime/drive/drive.h"
#include "runtime/store/backend.h"
#include "runtime/store/batch.h"
#include "runtime/store/store.h"

enum { BATCH = 64, TICK_MS = 5, STOP_MS = 5000 };

#define PING_FIELDS(F, S) F(S, u64, n, 0)
#define GO_FIELDS(F, S)
#define QUESTION_FIELDS(F, S) F(S, u64, n, 0)
#define BENCH_MESSAGES(M)                                                                                    \
	M(PING, ping, 0x7f01, MSG_PLAIN)                                                                     \
	M(GO, go, 0x7f02, MSG_PLAIN)                                                                         \
	M(QUESTION, question, 0x7f03, MSG_ASK)
MSG_FOLDER(bench, BENCH_MESSAGES);
MSG_FOLDER_DEFINE(bench, BENCH_MESSAGES);

#define BENCH_STATES(S) S(RUNNING)
STATES(bench, BENCH_STATES);

static uint64_t target_n; /* operations to do */
static uint64_t result_ops;
static double result_extra; /* what isn't CPU time an operation */
static uint64_t cpu_at_start;
static double result_cpu_ns;

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void begin(void)
{
	cpu_at_start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static enum status finish(uint64_t ops)
{
	result_cpu_ns = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_at_start);
	result_ops = ops;
	return E_NORMAL;
}

#define BEHAVIOUR(var, text, state, table, start)                                                            \
	static const struct behaviour var = {.name = text,                                                   \
		.state_size = sizeof(state),                                                                 \
		.rules = table,                                                                              \
		.n_rules = ARRAY_LEN(table),                                                                 \
		.states = bench_state_names,                                                                 \
		.n_states = 1,                                                                               \
		.init = start,                                                                               \
		.mailbox_cap = 1u << 30}

struct peer {
	struct pid other;
	uint64_t n;
};

static void send_plain(struct actor *self, struct pid to, uint16_t tag)
{
	struct msg *m = actor_msg_new(self, tag);

	actor_send(self, to, &m);
}

/* ---- sink: counts; answers questions; gives credit back after each batch from elsewhere ----------------------- */

static enum status sink_ping(struct actor *self, struct msg *m)
{
	struct peer *s = actor_state(self);

	if (++s->n % (BATCH * 16) == 0 && ping_of(m)->n) /* n: the sender wants to be told */
		send_plain(self, m->from, GO);
	return OK;
}

static enum status sink_question(struct actor *self, struct msg *m)
{
	struct msg *reply = actor_msg_new(self, PING);

	actor_reply(self, m, &reply);
	return OK;
}

static enum status sink_go(struct actor *self, struct msg *m)
{
	send_plain(self, m->from, GO);
	return OK;
}

static const struct rule sink_rules[] = {
	{STATE_ANY, PING, sink_ping}, {STATE_ANY, QUESTION, sink_question}, {STATE_ANY, GO, sink_go}};
BEHAVIOUR(sink, "bench.sink", struct peer, sink_rules, NULL);

static struct pid spawn_child(struct actor *self, const struct behaviour *b)
{
	struct pid pid = PID_NONE;

	check(actor_spawn(self, &(struct spawn){.behaviour = b, .quiet = true}, &pid) == OK);
	return pid;
}

/* ---- send and dispatch ---------------------------------------------------------------------------------------- */

static enum status flood_go(struct actor *self, struct msg *m)
{
	struct peer *f = actor_state(self);

	(void)m;
	for (int i = 2; i < BATCH; i++)
		send_plain(self, f->other, PING);
	send_plain(self, f->other, GO); /* comes back when they have been handled */
	f->n += BATCH;
	return f->n >= target_n ? finish(f->n) : OK;
}

static enum status flood_init(struct actor *self, const void *args, size_t size)
{
	struct peer *f = actor_state(self);

	(void)args;
	(void)size;
	f->other = spawn_child(self, &sink);
	begin();
	send_plain(self, actor_pid(self), GO);
	return OK;
}

static const struct rule flood_rules[] = {{STATE_ANY, GO, flood_go}};
BEHAVIOUR(flood, "bench.flood", struct peer, flood_rules, flood_init);

/* ---- ask and reply -------------------------------------------------------------------------------------------- */

static void ask_on(struct actor *self)
{
	struct peer *a = actor_state(self);
	struct msg *m = actor_msg_new(self, QUESTION);

	actor_ask(self, a->other, &m, 1000);
}

static enum status ask_reply(struct actor *self, struct msg *m)
{
	struct peer *a = actor_state(self);

	(void)m;
	if (++a->n >= target_n)
		return finish(a->n);
	ask_on(self);
	return OK;
}

static enum status ask_init(struct actor *self, const void *args, size_t size)
{
	struct peer *a = actor_state(self);

	(void)args;
	(void)size;
	a->other = spawn_child(self, &sink);
	begin();
	ask_on(self);
	return OK;
}

static const struct rule ask_rules[] = {{STATE_ANY, PING, ask_reply}};
BEHAVIOUR(asker, "bench.asker", struct peer, ask_rules, ask_init);

/* ---- across workers, batched ----------------------------------------------------------------------------------- */

static void cross_batch(struct actor *self)
{
	struct peer *c = actor_state(self);
	struct msg *m;

	for (int i = 0; i < BATCH * 16; i++) {
		ping_new(self, &m)->n = 1;
		actor_send(self, c->other, &m);
	}
	c->n += BATCH * 16;
}

static enum status cross_spawned(struct actor *self, struct msg *m)
{
	struct peer *c = actor_state(self);

	c->other = kernel_spawned_of(m)->pid;
	begin();
	cross_batch(self);
	cross_batch(self);
	return OK;
}

static enum status cross_go(struct actor *self, struct msg *m)
{
	struct peer *c = actor_state(self);

	(void)m;
	if (c->n >= target_n)
		return finish(c->n);
	cross_batch(self);
	return OK;
}

static enum status cross_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	actor_spawn_on(self, 1, &(struct spawn){.behaviour = &sink}, 1000);
	return OK;
}

static const struct rule cross_rules[] = {
	{STATE_ANY, KERNEL_SPAWNED, cross_spawned}, {STATE_ANY, GO, cross_go}};
BEHAVIOUR(cross, "bench.cross", struct peer, cross_rules, cross_init);

/* ---- spawn, monitor, exit --------------------------------------------------------------------------------------- */

static enum status mortal_go(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return E_NORMAL;
}

static const struct rule mortal_rules[] = {{STATE_ANY, GO, mortal_go}};
BEHAVIOUR(mortal, "bench.mortal", struct peer, mortal_rules, NULL);

static enum status life_on(struct actor *self)
{
	struct pid child = spawn_child(self, &mortal);

	actor_monitor(self, child);
	send_plain(self, child, GO);
	return OK;
}

static enum status life_down(struct actor *self, struct msg *m)
{
	struct peer *l = actor_state(self);

	(void)m;
	if (++l->n >= target_n)
		return finish(l->n);
	return life_on(self);
}

static enum status life_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	begin();
	return life_on(self);
}

static const struct rule life_rules[] = {{STATE_ANY, DOWN, life_down}};
BEHAVIOUR(life, "bench.life", struct peer, life_rules, life_init);

/* ---- memory of an idle actor ------------------------------------------------------------------------------------ */

struct nothing {
	char none[0];
};
BEHAVIOUR(idler, "bench.idler", struct nothing, mortal_rules, NULL);

static enum status idle_init(struct actor *self, const void *args, size_t size)
{
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd, after;

	(void)args;
	(void)size;
	for (uint64_t i = 0; i < target_n; i++)
		spawn_child(self, &idler);
	after = mallinfo2().uordblks + mallinfo2().hblkhd;
	result_extra = (double)(after - before) / (double)target_n;
	send_plain(self, actor_pid(self), GO);
	return OK;
}

BEHAVIOUR(idle, "bench.idle", struct peer, mortal_rules, idle_init);

/* ---- timers beside a flood --------------------------------------------------------------------------------------- */

enum { LATES_MAX = 4000 };
static uint32_t lates[LATES_MAX];

struct late {
	uint64_t due_us;
	uint32_t n;
};

static enum status self_flood_go(struct actor *self, struct msg *m)
{
	(void)m;
	send_plain(self, actor_pid(self), GO);
	return OK;
}

static enum status self_flood_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	send_plain(self, actor_pid(self), GO);
	return OK;
}

static const struct rule self_flood_rules[] = {{STATE_ANY, GO, self_flood_go}};
BEHAVIOUR(self_flood, "bench.self_flood", struct peer, self_flood_rules, self_flood_init);

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void late_arm(struct actor *self)
{
	struct late *l = actor_state(self);

	l->due_us = clock_ns(CLOCK_MONOTONIC) / 1000 + TICK_MS * 1000;
	actor_timer(self, 1, TICK_MS);
}

static enum status late_timer(struct actor *self, struct msg *m)
{
	struct late *l = actor_state(self);
	uint64_t now = clock_ns(CLOCK_MONOTONIC) / 1000;

	(void)m;
	lates[l->n++] = now > l->due_us ? (uint32_t)(now - l->due_us) : 0;
	if (l->n < target_n) {
		late_arm(self);
		return OK;
	}
	qsort(lates, l->n, sizeof(lates[0]), compare_u32);
	result_extra = lates[l->n * 99 / 100];
	return E_NORMAL;
}

static enum status late_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	spawn_child(self, &self_flood);
	late_arm(self);
	return OK;
}

static const struct rule late_rules[] = {{STATE_ANY, TIMER, late_timer}};
BEHAVIOUR(late, "bench.late", struct late, late_rules, late_init);

/* ---- restart by a supervisor --------------------------------------------------------------------------------------- */

static enum status fragile_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	send_plain(self, actor_whereis(self, "bench.boss"), GO);
	return OK;
}

static enum status fragile_ping(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return E_KILLED; /* abnormal for a permanent child, and not logged a thousand times */
}

static const struct rule fragile_rules[] = {{STATE_ANY, PING, fragile_ping}};
BEHAVIOUR(fragile, "bench.fragile", struct peer, fragile_rules, fragile_init);

enum { PERIOD_MS = 2, RESTARTS_A_PERIOD = 400 };

static const struct child_spec fragile_children[] = {
	{.name = "bench.child", .behaviour = &fragile, .worker = WORKER_SAME}};
static const struct sup_spec fragile_tree = {.strategy = ONE_FOR_ONE,
	.intensity = 1000,
	.period_ms = PERIOD_MS,
	.children = fragile_children,
	.n_children = 1};

static enum status boss_go(struct actor *self, struct msg *m)
{
	struct peer *b = actor_state(self);

	if (b->n == 0)
		begin();
	if (b->n++ >= target_n)
		return finish(b->n - 1);
	b->other = m->from;
	if (b->n % RESTARTS_A_PERIOD == 0) /* stay below the supervisor's intensity */
		actor_timer(self, 1, 2 * PERIOD_MS);
	else
		send_plain(self, m->from, PING);
	return OK;
}

static enum status boss_timer(struct actor *self, struct msg *m)
{
	struct peer *b = actor_state(self);

	(void)m;
	send_plain(self, b->other, PING);
	return OK;
}

static enum status boss_init(struct actor *self, const void *args, size_t size)
{
	const struct sup_spec *tree = &fragile_tree;

	(void)args;
	(void)size;
	return actor_spawn(self,
		&(struct spawn){.behaviour = &supervisor_behaviour,
			.args = &tree,
			.args_size = sizeof(tree),
			.quiet = true},
		NULL);
}

static const struct rule boss_rules[] = {{STATE_ANY, GO, boss_go}, {STATE_ANY, TIMER, boss_timer}};
BEHAVIOUR(boss, "bench.boss", struct peer, boss_rules, boss_init);

/* ---- durable records: 256 askers of 100 bytes each, as the Erlang program beside it ----------------------------------- */

enum { STORERS = 256, RECORD_BYTES = 100, WATCH_MS = 1 };

static struct store_backend *backend;
static uint64_t stored, store_began_ns, longest_gap_us;

static void store_one(struct actor *self)
{
	char record[RECORD_BYTES] = "record";
	uint64_t key = actor_random(self);
	struct store_batch b;

	store_batch_begin(&b);
	store_batch_put(&b, "bench", &key, sizeof(key), record, sizeof(record));
	store_ask_commit(self, &b, 10000);
}

static enum status storer_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	store_one(self);
	return OK;
}

static enum status storer_committed(struct actor *self, struct msg *m)
{
	check(store_committed_of(m)->status == OK);
	if (++stored < target_n) {
		store_one(self);
		return OK;
	}
	if (stored == target_n) {
		result_extra = (double)stored * 1e9 / (double)(clock_ns(CLOCK_MONOTONIC) - store_began_ns);
		send_plain(self, actor_whereis(self, "bench.boss"), GO);
	}
	return OK;
}

static const struct rule storer_rules[] = {{STATE_ANY, STORE_COMMITTED, storer_committed}};
BEHAVIOUR(storer, "bench.storer", struct peer, storer_rules, storer_init);

/* Ticks each millisecond: a gap between two ticks is time the worker was blocked, or not given the core. */
static enum status storage_tick(struct actor *self, struct msg *m)
{
	struct late *l = actor_state(self);
	uint64_t now = clock_ns(CLOCK_MONOTONIC) / 1000;

	(void)m;
	if (l->due_us && now - l->due_us > longest_gap_us)
		longest_gap_us = now - l->due_us;
	l->due_us = now;
	actor_timer(self, 1, WATCH_MS);
	return OK;
}

static enum status storage_init(struct actor *self, const void *args, size_t size)
{
	struct store_args store = {backend};

	(void)args;
	(void)size;
	check(actor_spawn(self,
		      &(struct spawn){.behaviour = &store_behaviour,
			      .args = &store,
			      .args_size = sizeof(store),
			      .name = "store"},
		      NULL) == OK);
	store_began_ns = clock_ns(CLOCK_MONOTONIC);
	for (int i = 0; i < STORERS; i++)
		spawn_child(self, &storer);
	actor_timer(self, 1, WATCH_MS);
	return OK;
}

static const struct rule storage_rules[] = {{STATE_ANY, GO, mortal_go}, {STATE_ANY, TIMER, storage_tick}};
BEHAVIOUR(storage, "bench.storage", struct late, storage_rules, storage_init);

/* ---- running one ------------------------------------------------------------------------------------------------- */

static enum status boot(struct worker *w, void *arg, struct pid *root)
{
	const struct behaviour *b = arg;

	return worker_spawn(w, &(struct spawn){.behaviour = b, .name = "bench.boss"}, root);
}

static void run(const struct behaviour *b, uint8_t workers, uint64_t n)
{
	struct drive_spec spec = {.node = node_make(1, 1),
		.n_workers = workers,
		.boot = boot,
		.boot_arg = (void *)(uintptr_t)b};
	struct drive *d = drive_new(&spec);
	enum status why = OK;
	struct error err;

	target_n = n;
	if (drive_start(d, &err) != OK) {
		fprintf(stderr, "could not start: %s\n", err.text);
		exit(1);
	}
	drive_wait(d, &why);
	drive_stop(d, STOP_MS);
	drive_free(d);
}

static void report(const char *name, double value, const char *unit, double target, bool at_least)
{
	printf("{\"name\": \"%s\", \"value\": %.1f, \"unit\": \"%s\", \"target\": %.0f, \"met\": %s}\n", name,
		value, unit, target, (at_least ? value >= target : value <= target) ? "true" : "false");
	fflush(stdout);
}

static double ns_each(void)
{
	return result_cpu_ns / (double)result_ops;
}

static void run_store(uint64_t n)
{
	char dir[] = "/tmp/multigres-bench-XXXXXX", command[64];
	struct error err;

	if (!mkdtemp(dir) || store_open_lmdb(dir, 0, &backend, &err) != OK) {
		fprintf(stderr, "could not open a store in %s\n", dir);
		exit(1);
	}
	run(&storage, 1, n);
	backend->ops->close(backend);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command) != 0)
		fprintf(stderr, "%s is left behind\n", dir);
	report("store_records_per_s", result_extra, "1/s", 10000, true);
}

int main(int argc, char **argv)
{
	uint64_t scale = argc > 1 && strcmp(argv[1], "--quick") == 0 ? 1 : 8;

	catalog_add_bench();
	catalog_add_sup();
	catalog_add_store();
	log_set_level(LOG_ERROR_LEVEL);
	run(&flood, 1, 4000000 * scale);
	report("send_dispatch_ns", ns_each(), "ns CPU", 60, false);
	report("messages_per_s", 1e9 / ns_each(), "per CPU second", 15e6, true);
	run(&asker, 1, 1000000 * scale);
	report("ask_reply_ns", ns_each(), "ns CPU", 250, false);
	run(&cross, 2, 2000000 * scale);
	report("cross_worker_ns", ns_each(), "ns CPU", 150, false);
	run(&life, 1, 400000 * scale);
	report("spawn_exit_monitor_ns", ns_each(), "ns CPU", 1000, false);
	run(&idle, 1, 200000);
	report("idle_actor_bytes", result_extra, "bytes", 256, false);
	run(&late, 1, 200 * scale);
	report("timer_late_p99_us", result_extra, "us", 2000, false);
	run(&boss, 1, 20000 * scale);
	report("actor_restart_us", ns_each() / 1000, "us CPU", 20, false);
	run_store(50000 * scale);
	return 0;
}
