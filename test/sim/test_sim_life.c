/* Monitors and links across workers, nodes, crashes and partitions; names that workers race for. */
#include "test/sim/world.h"

enum { NODES = 3, WATCHERS = 6, TARGETS = 12, TARGETS_MAX = 64 };

static struct {
	struct sim *s;
	struct pid targets[TARGETS];
	bool taken[TARGETS];
	uint64_t downs, exits, by[STATUS_COUNT];
} world;

/* ---- targets end when told: TELL{n} is the status ---- */

static enum status target_told(struct actor *self, struct msg *m)
{
	return actor_fail(self, (enum status)tell_of(m)->n, "as told");
}

static const struct rule target_rules[] = {{STATE_ANY, TELL, target_told}};
BEHAVIOUR(target, 0, target_rules);

/* ---- watchers monitor all targets: exactly one DOWN each ---- */

struct watcher {
	uint64_t refs[TARGETS];
	uint32_t downs[TARGETS];
};

static enum status watcher_init(struct actor *self, const void *args, size_t size)
{
	struct watcher *w = actor_state(self);

	(void)args, (void)size;
	for (int i = 0; i < TARGETS; i++)
		w->refs[i] = actor_monitor(self, world.targets[i]);
	return OK;
}

static enum status watcher_down(struct actor *self, struct msg *m)
{
	struct watcher *w = actor_state(self);
	struct down *d = down_of(m);
	int i = 0;

	while (i < TARGETS && w->refs[i] != d->ref)
		i++;
	sim_assert(world.s, i < TARGETS);
	sim_assert(world.s, pid_equal(d->who, world.targets[i]));
	sim_assert(world.s, ++w->downs[i] == 1);
	sim_assert(world.s, d->status != E_CRASHED || strcmp(d->text, "as told") == 0);
	world.downs++;
	world.by[d->status]++;
	return OK;
}

/* TELL{n}: no longer interested in target n. */
static enum status watcher_told(struct actor *self, struct msg *m)
{
	struct watcher *w = actor_state(self);

	actor_demonitor(self, w->refs[tell_of(m)->n]);
	return OK;
}

static const struct rule watcher_rules[] = {{STATE_ANY, DOWN, watcher_down}, {STATE_ANY, TELL, watcher_told}};
BEHAVIOUR(watcher, sizeof(struct watcher), watcher_rules, .init = watcher_init);

static struct sim *start(int seed, uint8_t workers, struct sim_net net)
{
	struct sim_spec spec = {.seed = (uint64_t)seed, .n_nodes = NODES, .n_workers = workers, .net = net};

	memset(&world, 0, sizeof(world));
	world.s = sim_new(&spec);
	return world.s;
}

/* Targets on all nodes, watchers on node 1. */
static struct sim *start_watching(int seed)
{
	struct sim *s = start(seed, 2, (struct sim_net){.loss_ppm = 10000});

	for (int i = 0; i < TARGETS; i++)
		world.targets[i] = sim_spawn(s, (uint16_t)(i % NODES + 1), (uint8_t)(i / NODES % 2),
			&(struct spawn){.behaviour = &target_behaviour});
	for (int i = 0; i < WATCHERS; i++)
		sim_spawn(s, 1, (uint8_t)(i % 2), &(struct spawn){.behaviour = &watcher_behaviour});
	sim_run_for(s, 100000);
	return s;
}

static void end_target(struct sim *s, int i, enum status why)
{
	struct pid p = world.targets[i];
	struct worker *w = sim_worker(s, (uint16_t)(p.node >> 48), pid_worker(p));
	struct msg *m = worker_msg_new(w, TELL);

	tell_of(m)->n = why;
	m->to = p;
	worker_deliver(w, m);
}

START_TEST(each_monitor_hears_once_of_an_ordinary_end)
{
	struct sim *s = start_watching(_i);

	for (int i = 0; i < TARGETS; i++)
		end_target(s, i, i % 2 ? E_NORMAL : E_CRASHED);
	sim_run_for(s, 1000000);
	sim_assert(s, world.downs == WATCHERS * TARGETS);
	sim_assert(s, world.by[E_NORMAL] == WATCHERS * TARGETS / 2);
	sim_assert(s, world.by[E_CRASHED] == WATCHERS * TARGETS / 2);
	sim_run_for(s, 5000000);
	sim_crash_node(s, 2); /* nothing is left to be told twice */
	sim_run_for(s, 5000000);
	sim_assert(s, world.downs == WATCHERS * TARGETS);
	sim_free(s);
}
END_TEST

START_TEST(each_monitor_hears_once_of_a_crashed_node)
{
	struct sim *s = start_watching(_i);

	end_target(s, 1, E_NORMAL); /* races with the crash of its node */
	sim_run_for(s, (uint64_t)_i * 50);
	sim_crash_node(s, 2);
	sim_run_for(s, 10000000);
	sim_assert(s, world.downs == WATCHERS * TARGETS / NODES);
	sim_assert(s, world.by[E_NODE_DOWN] >= WATCHERS * (TARGETS / NODES - 1));
	sim_restart_node(s, 2);
	sim_run_for(s, 1000000);
	sim_spawn(s, 1, 0, &(struct spawn){.behaviour = &watcher_behaviour}); /* old pids are gone for good */
	sim_run_for(s, 1000000);
	sim_assert(s, world.downs == (WATCHERS + 1) * TARGETS / NODES);
	sim_free(s);
}
END_TEST

START_TEST(each_monitor_hears_once_of_a_partition_and_a_short_one_is_not_noticed)
{
	struct sim *s = start_watching(_i);

	sim_partition(s, 1, 2);
	sim_run_for(s, 1000000);
	sim_heal(s);
	sim_run_for(s, 5000000);
	sim_assert(s, world.downs == 0);
	sim_block(s, 2, 1); /* half-open is enough */
	sim_run_for(s, 4000000);
	sim_assert(s, world.by[E_NODE_DOWN] == WATCHERS * TARGETS / NODES);
	sim_heal(s);
	sim_run_for(s, 1000000);
	end_target(s, 1, E_NORMAL);
	sim_run_for(s, 1000000);
	sim_assert(s, world.downs == WATCHERS * TARGETS / NODES);
	sim_free(s);
}
END_TEST

START_TEST(a_monitor_taken_off_hears_nothing)
{
	struct sim *s = start(_i, 2, (struct sim_net){0});
	struct pid watcher;
	struct worker *w;

	for (int i = 0; i < TARGETS; i++)
		world.targets[i] = sim_spawn(s, (uint16_t)(i % NODES + 1), (uint8_t)(i / NODES % 2),
			&(struct spawn){.behaviour = &target_behaviour});
	watcher = sim_spawn(s, 1, 0, &(struct spawn){.behaviour = &watcher_behaviour});
	w = sim_worker(s, 1, 0);
	for (int i = 0; i < TARGETS; i++) {
		struct msg *m = worker_msg_new(w, TELL);

		tell_of(m)->n = (uint64_t)i;
		m->to = watcher;
		worker_deliver(w, m);
	}
	sim_run_for(s, 1000000);
	for (int i = 0; i < TARGETS; i++)
		end_target(s, i, E_CRASHED);
	sim_run_for(s, 1000000);
	sim_crash_node(s, 3);
	sim_run_for(s, 5000000);
	sim_assert(s, world.downs == 0);
	sim_free(s);
}
END_TEST

/* ---- links: who is linked to a target ends with it; who traps hears EXIT ---- */

static enum status linked_init(struct actor *self, const void *args, size_t size)
{
	(void)size;
	actor_link(self, world.targets[world_value(args)]);
	return OK;
}

static void linked_exit(struct actor *self, enum status why)
{
	(void)self;
	world.by[why]++;
}

static enum status trapper_exit(struct actor *self, struct msg *m)
{
	(void)self;
	world.exits++;
	world.by[exit_signal_of(m)->status]++;
	return OK;
}

static const struct rule linked_rules[] = {{STATE_ANY, TELL, target_told}};
BEHAVIOUR(linked, 0, linked_rules, .init = linked_init, .exit = linked_exit);
static const struct rule trapper_rules[] = {{STATE_ANY, EXIT, trapper_exit}};
BEHAVIOUR(trapper, 0, trapper_rules, .init = linked_init, .trap_exit = true);

static struct sim *start_linked(int seed)
{
	struct sim *s = start(seed, 2, (struct sim_net){0});

	for (uint64_t i = 0; i < TARGETS; i++) {
		world.targets[i] = sim_spawn(s, (uint16_t)(i % NODES + 1), (uint8_t)(i / NODES % 2),
			&(struct spawn){.behaviour = &target_behaviour});
		sim_spawn(s, 1, 0,
			&(struct spawn){.behaviour = &linked_behaviour, .args = &i, .args_size = sizeof(i)});
		sim_spawn(s, 1, 1,
			&(struct spawn){.behaviour = &trapper_behaviour, .args = &i, .args_size = sizeof(i)});
	}
	sim_run_for(s, 100000);
	return s;
}

START_TEST(links_end_the_others_on_abnormal_ends_only)
{
	struct sim *s = start_linked(_i);

	for (int i = 0; i < TARGETS; i++)
		end_target(s, i, i < TARGETS / 2 ? E_NORMAL : E_CRASHED);
	sim_run_for(s, 1000000);
	sim_assert(s, world.by[E_CRASHED] == TARGETS); /* half linked, half trapped */
	sim_assert(s, world.exits == TARGETS / 2);
	sim_assert(s, world.by[E_NORMAL] == 0);
	sim_assert(s, sim_actors(s) == TARGETS / 2 + TARGETS);
	sim_free(s);
}
END_TEST

START_TEST(links_break_with_their_node)
{
	struct sim *s = start_linked(_i);

	sim_crash_node(s, 3);
	sim_run_for(s, 5000000);
	sim_assert(s, world.exits == TARGETS / NODES);
	sim_assert(s, world.by[E_NODE_DOWN] == 2 * TARGETS / NODES);
	sim_crash_node(s, 1); /* targets elsewhere die with those linked to them, trapping or not */
	sim_run_for(s, 5000000);
	sim_assert(s, sim_actors(s) == 0);
	sim_free(s);
}
END_TEST

/* ---- names: actors on all workers of one node want the same few; never two have one for long ---- */

enum { NAMES = 4, RACERS = 24 };
static const char *const names[NAMES] = {"red", "green", "blue", "grey"};

static enum status racer_tick(struct actor *self, struct msg *m)
{
	uint64_t *name = actor_state(self);

	(void)m;
	if (*name != NAMES) /* a moment later no two think they have it */
		for (uint8_t k = 0; k < 4; k++)
			sim_assert(world.s, pid_equal(worker_whereis(sim_worker(world.s, 1, k), names[*name]),
						    actor_pid(self)));
	if (actor_random(self) % 4 == 0)
		return E_NORMAL;
	if (*name == NAMES) {
		uint64_t want = actor_random(self) % NAMES;

		if (actor_register(self, names[want]) == OK) {
			*name = want;
			if (actor_random(self) % 2)
				return E_NORMAL; /* gone before the others hear of it */
		}
	}
	actor_timer(self, 1, 1 + (uint32_t)(actor_random(self) % 3));
	return OK;
}

static enum status racer_init(struct actor *self, const void *args, size_t size)
{
	uint64_t *name = actor_state(self);

	(void)args, (void)size;
	*name = NAMES;
	actor_timer(self, 1, 1);
	return OK;
}

static const struct rule racer_rules[] = {{STATE_ANY, TIMER, racer_tick}};
BEHAVIOUR(racer, sizeof(uint64_t), racer_rules, .init = racer_init);

static void more_racers(struct sim *s, void *arg)
{
	(void)arg;
	for (uint8_t i = 0; i < RACERS; i++)
		sim_spawn(s, 1, i % 4, &(struct spawn){.behaviour = &racer_behaviour});
	if (sim_now_us(s) < 500000)
		sim_after(s, 2000, more_racers, NULL);
}

START_TEST(a_name_that_workers_race_for_is_settled)
{
	struct sim *s = start(_i, 4, (struct sim_net){0});

	more_racers(s, NULL);
	sim_run_for(s, 2000000);
	sim_assert(s, sim_actors(s) == 0);
	for (int n = 0; n < NAMES; n++)
		for (uint8_t k = 0; k < 4; k++)
			sim_assert(s, pid_is_none(worker_whereis(sim_worker(s, 1, k), names[n])));
	sim_free(s);
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {
		{each_monitor_hears_once_of_an_ordinary_end, 30},
		{each_monitor_hears_once_of_a_crashed_node, 60},
		{each_monitor_hears_once_of_a_partition_and_a_short_one_is_not_noticed, 30},
		{a_monitor_taken_off_hears_nothing, 30},
		{links_end_the_others_on_abnormal_ends_only, 30},
		{links_break_with_their_node, 30},
		{a_name_that_workers_race_for_is_settled, 30},
	};

	return world_main("sim life", tests, ARRAY_LEN(tests));
}
