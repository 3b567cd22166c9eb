/* Timers and virtual time; that a seed decides everything. */
#include <errno.h>
#include <unistd.h>

#include "test/sim/world.h"

enum { TIMERS = 40, NODES = 3, CHATTERS = 12 };

static struct {
	struct sim *s;
	uint64_t fired, last_ms, cancelled, began_us;
} world;

/* ---- timers ---- */

struct clock {
	uint64_t due_ms[TIMERS];
};

static enum status clock_init(struct actor *self, const void *args, size_t size)
{
	struct clock *c = actor_state(self);

	(void)args, (void)size;
	for (uint64_t i = 0; i < TIMERS; i++) {
		uint64_t after = actor_random(self) % 100000;

		c->due_ms[i] = after;
		actor_timer(self, i, (uint32_t)after);
	}
	for (uint64_t i = 0; i < TIMERS; i += 8) {
		actor_timer_cancel(self, i);
		world.cancelled++;
	}
	return OK;
}

static enum status clock_timer(struct actor *self, struct msg *m)
{
	struct clock *c = actor_state(self);
	uint64_t key = timer_of(m)->key, now_ms = (sim_now_us(world.s) - world.began_us) / 1000;

	sim_assert(world.s, key % 8 != 0); /* cancelled */
	sim_assert(world.s, now_ms >= c->due_ms[key] && now_ms <= c->due_ms[key] + 2);
	sim_assert(world.s, c->due_ms[key] + 1 >= world.last_ms); /* in order, to the wheel's millisecond */
	world.last_ms = c->due_ms[key];
	world.fired++;
	return OK;
}

static const struct rule clock_rules[] = {{STATE_ANY, TIMER, clock_timer}};
BEHAVIOUR(clock, sizeof(struct clock), clock_rules, .init = clock_init);

START_TEST(timers_come_in_order_and_in_virtual_time)
{
	struct sim_spec spec = {.seed = (uint64_t)_i, .n_nodes = 2, .n_workers = 2};
	struct sim *s = sim_new(&spec);

	memset(&world, 0, sizeof(world));
	world.s = s;
	sim_run_for(s, (uint64_t)_i * 777);
	world.began_us = sim_now_us(s);
	sim_spawn(s, 2, 1, &(struct spawn){.behaviour = &clock_behaviour});
	sim_run_for(s, 200000000);
	sim_assert(s, sim_now_us(s) == world.began_us + 200000000);
	sim_assert(s, world.fired == TIMERS - world.cancelled);
	sim_free(s);
}
END_TEST

static bool never(struct sim *s, void *arg)
{
	(void)s;
	++*(uint64_t *)arg;
	return false;
}

START_TEST(an_idle_year_takes_no_time)
{
	struct sim_spec spec = {.seed = (uint64_t)_i, .n_nodes = 9, .n_workers = 4};
	struct sim *s = sim_new(&spec);
	uint64_t asked = 0;

	ck_assert(!sim_run_until(s, never, &asked, 365ull * 86400 * 1000000));
	ck_assert(asked < 10);
	ck_assert_uint_eq(sim_now_us(s), 365ull * 86400 * 1000000);
	sim_free(s);
}
END_TEST

/* ---- the same seed, the same trace ---- */

static struct pid chatters[CHATTERS];

static enum status chatter_tick(struct actor *self, struct msg *m)
{
	struct msg *out;

	(void)m;
	ping_new(self, &out)->n = actor_random(self);
	(void)actor_ask(self, chatters[actor_random(self) % CHATTERS], &out, 50);
	actor_timer(self, 1, 1 + (uint32_t)(actor_random(self) % 10));
	return OK;
}

static enum status chatter_init(struct actor *self, const void *args, size_t size)
{
	chatters[world_value(args)] = actor_pid(self);
	(void)size;
	actor_timer(self, 1, 1);
	return OK;
}

static enum status chatter_ping(struct actor *self, struct msg *m)
{
	struct msg *out;

	if (actor_random(self) % 100 == 0)
		return OK; /* no answer: the runtime's */
	pong_new(self, &out)->n = ping_of(m)->n;
	actor_reply(self, m, &out);
	return OK;
}

static enum status chatter_heard(struct actor *self, struct msg *m)
{
	(void)self, (void)m;
	return OK;
}

static const struct rule chatter_rules[] = {{STATE_ANY, TIMER, chatter_tick}, {STATE_ANY, PING, chatter_ping},
	{STATE_ANY, PONG, chatter_heard}, {STATE_ANY, ASK_FAILED, chatter_heard}};
BEHAVIOUR(chatter, 0, chatter_rules, .init = chatter_init);

static void boot(struct sim *s, uint16_t node, void *arg)
{
	(void)arg;
	for (uint64_t i = 0; i < CHATTERS; i++)
		if (i % NODES + 1 == node)
			sim_spawn(s, node, (uint8_t)(i % 2),
				&(struct spawn){
					.behaviour = &chatter_behaviour, .args = &i, .args_size = sizeof(i)});
}

static void crash(struct sim *s, void *arg)
{
	(void)arg;
	sim_crash_node(s, 2);
}

static void restart(struct sim *s, void *arg)
{
	(void)arg;
	sim_restart_node(s, 2);
}

static uint64_t chat(uint64_t seed)
{
	struct sim_spec spec = {
		.seed = seed, .n_nodes = NODES, .n_workers = 2, .boot = boot, .net = {.loss_ppm = 10000}};
	struct sim *s = sim_new(&spec);
	uint64_t hash;

	sim_fault(s, F_LINK_BREAKS, 1000);
	sim_after(s, 500000, crash, NULL);
	sim_after(s, 900000, restart, NULL);
	sim_run_for(s, 3000000);
	hash = sim_trace_hash(s);
	check(sim_messages(s) > 5000);
	sim_free(s);
	return hash;
}

START_TEST(the_same_seed_gives_the_same_hash_twice_in_a_process)
{
	void *shift = malloc(4096 * (size_t)(_i % 7 + 1)); /* addresses are of no account */
	uint64_t first = chat((uint64_t)_i);

	ck_assert_uint_eq(first, chat((uint64_t)_i));
	free(shift);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_hash_in_another_process)
{
	char command[256], text[64] = "";
	FILE *child;

	snprintf(command, sizeof(command), "SIM_HASH_OF=%d '%s'", _i, program_invocation_name);
	child = popen(command, "r");
	ck_assert(child && fgets(text, sizeof(text), child));
	ck_assert_int_eq(pclose(child), 0);
	ck_assert_uint_eq(strtoull(text, NULL, 10), chat((uint64_t)_i));
}
END_TEST

START_TEST(different_seeds_give_different_hashes)
{
	ck_assert_uint_ne(chat((uint64_t)_i), chat((uint64_t)_i + 1));
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {
		{timers_come_in_order_and_in_virtual_time, 50},
		{an_idle_year_takes_no_time, 2},
		{the_same_seed_gives_the_same_hash_twice_in_a_process, 20},
		{the_same_seed_gives_the_same_hash_in_another_process, 5},
		{different_seeds_give_different_hashes, 10},
	};
	int hash_of = world_env("SIM_HASH_OF", -1);

	if (hash_of >= 0) {
		log_set_level((enum log_level) - 1);
		catalog_add_world();
		printf("%llu\n", (unsigned long long)chat((uint64_t)hash_of));
		return 0;
	}
	return world_main("sim time", tests, ARRAY_LEN(tests));
}
