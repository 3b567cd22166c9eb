/*
 * The store under crashes: what was acknowledged is there after any number of them, batches are whole, versions grow,
 * expectations let exactly one of several racing writers win.
 */
#include "runtime/base/bytes.h"
#include "runtime/store/store.h"
#include "test/sim/world.h"

enum { WRITERS = 5, CRASHES = 6 };

static struct {
	struct sim *s;
	struct store_backend *be;
	uint64_t sent[WRITERS], acked[WRITERS], commits, version, races_won;
	struct rand_stream rand;
} world;

/* ---- writers put growing numbers under their own key in two tables --------------------------------------------- */

struct writing {
	uint32_t id;
	uint64_t corr;
};

static void write_next(struct actor *self)
{
	struct writing *w = actor_state(self);
	uint64_t n = ++world.sent[w->id];
	struct store_batch b;

	store_batch_begin(&b);
	store_batch_put(&b, "t", &w->id, sizeof(w->id), &n, sizeof(n));
	store_batch_put(&b, "u", &w->id, sizeof(w->id), &n, sizeof(n));
	w->corr = store_ask_commit(self, &b, 1000);
}

static enum status writer_start(struct actor *self, const void *args, size_t size)
{
	struct writing *w = actor_state(self);

	(void)size;
	w->id = (uint32_t)world_value(args);
	write_next(self);
	return OK;
}

static enum status writer_committed(struct actor *self, struct msg *m)
{
	struct writing *w = actor_state(self);
	struct store_committed *c = store_committed_of(m);

	sim_assert(world.s, m->corr == w->corr);
	if (c->status == OK) {
		world.acked[w->id] = world.sent[w->id];
		world.commits++;
		sim_assert(world.s, c->version > 0);
		world.version = c->version > world.version ? c->version : world.version;
		write_next(self);
		return OK;
	}
	sim_assert(world.s, c->text[0] != '\0');
	actor_timer(self, 1, 10);
	return OK;
}

static enum status writer_failed(struct actor *self, struct msg *m)
{
	(void)m;
	actor_timer(self, 1, 10);
	return OK;
}

static enum status writer_timer(struct actor *self, struct msg *m)
{
	(void)m;
	write_next(self);
	return OK;
}

static const struct rule writer_rules[] = {
	{STATE_ANY, STORE_COMMITTED, writer_committed},
	{STATE_ANY, ASK_FAILED, writer_failed},
	{STATE_ANY, TIMER, writer_timer},
};
BEHAVIOUR(writer, sizeof(struct writing), writer_rules, .init = writer_start);

static void spawn_store(struct sim *s)
{
	struct store_args args = {world.be};

	sim_spawn(s, 1, 0,
		&(struct spawn){.behaviour = &store_behaviour,
			.args = &args,
			.args_size = sizeof(args),
			.name = "store"});
}

static void boot(struct sim *s, uint16_t node, void *arg)
{
	(void)arg;
	(void)node;
	spawn_store(s);
	for (uint64_t i = 0; i < WRITERS; i++)
		sim_spawn(s, 1, 0,
			&(struct spawn){.behaviour = &writer_behaviour, .args = &i, .args_size = sizeof(i)});
}

static uint64_t value_of(const char *table, uint32_t id)
{
	struct error err = {0};
	uint64_t version, n = 0;
	struct writer w;
	enum status st;

	writer_init(&w, 64);
	st = store_read(world.be, table, &id, sizeof(id), &w, &version, &err);
	if (!st)
		memcpy(&n, w.buf->data, sizeof(n));
	sim_assert(world.s, st == OK || st == E_NOT_FOUND);
	writer_release(&w);
	return n;
}

static void check_disk(void)
{
	for (uint32_t i = 0; i < WRITERS; i++) {
		uint64_t n = value_of("t", i);

		sim_assert(world.s, n == value_of("u", i)); /* whole */
		sim_assert(world.s, n >= world.acked[i] && n <= world.sent[i]); /* kept what was promised */
	}
}

static void crash(void)
{
	uint32_t open = store_memory_unacknowledged(world.be);

	sim_crash_node(world.s, 1);
	world.be = store_memory_crash(world.be, (uint32_t)rand_below(&world.rand, open + 1));
	check_disk();
	sim_restart_node(world.s, 1);
}

static void world_begin(uint64_t seed, void (*boot_fn)(struct sim *, uint16_t, void *))
{
	memset(&world, 0, sizeof(world));
	world.be = store_open_memory();
	world.s = sim_new(&(struct sim_spec){.seed = seed, .n_nodes = 1, .n_workers = 2, .boot = boot_fn});
	world.rand = sim_stream(world.s, "test");
}

static void world_end(void)
{
	sim_free(world.s);
	store_close(world.be);
}

START_TEST(nothing_acknowledged_is_lost_by_crashes)
{
	world_begin((uint64_t)_i, boot);
	for (int i = 0; i < CRASHES; i++) {
		sim_run_for(world.s, 1000 + rand_below(&world.rand, 30000));
		crash();
	}
	sim_run_for(world.s, 50000);
	check_disk();
	sim_assert(world.s, world.commits > 20);
	world_end();
}
END_TEST

START_TEST(failing_work_is_told_and_nothing_half_done_stays)
{
	world_begin((uint64_t)_i, boot);
	sim_fault(world.s, F_WORK_FAILS, 200000);
	sim_fault(world.s, F_WORK_SLOW, 50000);
	for (int i = 0; i < CRASHES; i++) {
		sim_run_for(world.s, 20000);
		store_memory_fail(world.be, 1);
		sim_run_for(world.s, 20000);
		check_disk();
	}
	sim_fault(world.s, F_WORK_FAILS, 0);
	sim_run_for(world.s, 200000);
	sim_assert(world.s, world.commits > 20);
	world_end();
}
END_TEST

/* ---- racing: read, then write on the version read; each success is one increment --------------------------------- */

struct racer {
	uint64_t value;
};

static void race(struct actor *self)
{
	store_ask_get(self, "t", "race", 4, 1000);
}

static enum status racer_start(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	race(self);
	return OK;
}

static enum status racer_value(struct actor *self, struct msg *m)
{
	struct store_value *v = store_value_of(m);
	struct racer *r = actor_state(self);
	struct store_batch b;

	r->value = 0;
	store_batch_begin(&b);
	if (v->found) {
		memcpy(&r->value, slice_data(&v->value), sizeof(r->value));
		store_batch_expect_version(&b, "t", "race", 4, v->version);
	} else {
		store_batch_expect_absent(&b, "t", "race", 4);
	}
	r->value++;
	store_batch_put(&b, "t", "race", 4, &r->value, sizeof(r->value));
	store_ask_commit(self, &b, 1000);
	return OK;
}

static enum status racer_committed(struct actor *self, struct msg *m)
{
	enum status st = (enum status)store_committed_of(m)->status;

	sim_assert(world.s, st == OK || st == E_STALE);
	world.races_won += st == OK;
	race(self);
	return OK;
}

static const struct rule racer_rules[] = {
	{STATE_ANY, STORE_VALUE, racer_value},
	{STATE_ANY, STORE_COMMITTED, racer_committed},
};
BEHAVIOUR(racer, sizeof(struct racer), racer_rules, .init = racer_start);

static void boot_racers(struct sim *s, uint16_t node, void *arg)
{
	(void)node;
	(void)arg;
	spawn_store(s);
	for (uint8_t i = 0; i < 4; i++)
		sim_spawn(s, 1, 0, &(struct spawn){.behaviour = &racer_behaviour});
}

START_TEST(of_racing_writers_one_wins_each_version)
{
	struct error err = {0};
	uint64_t version, n = 0;
	struct writer w;

	world_begin((uint64_t)_i, boot_racers);
	sim_run_for(world.s, 100000);
	sim_crash_node(world.s, 1);
	writer_init(&w, 64);
	sim_assert(world.s, store_read(world.be, "t", "race", 4, &w, &version, &err) == OK);
	memcpy(&n, w.buf->data, sizeof(n));
	writer_release(&w);
	sim_assert(world.s,
		n >= world.races_won && n <= world.races_won + 1); /* the last may be unacknowledged */
	sim_assert(world.s, n > 10);
	world_end();
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {
		{nothing_acknowledged_is_lost_by_crashes, 60},
		{failing_work_is_told_and_nothing_half_done_stays, 30},
		{of_racing_writers_one_wins_each_version, 20},
	};

	catalog_add_store();
	return world_main("sim store", tests, ARRAY_LEN(tests));
}
