/* Between two actors messages keep their order and come at most once: across workers, nodes, clogs, breaks, crashes. */
#include "test/sim/world.h"

enum { NODES = 3, WORKERS = 3, SENDERS = NODES * WORKERS, RUN_US = 1000000 };

static struct {
	struct sim *s;
	struct pid receivers[SENDERS];
	uint64_t sent, received, gaps;
} world;

/* ---- a receiver remembers the last number of each sender's life ---- */

struct receiver {
	struct pid from[64];
	uint64_t last[64];
	uint32_t n;
};

static enum status receiver_told(struct actor *self, struct msg *m)
{
	struct receiver *r = actor_state(self);
	uint64_t n = tell_of(m)->n;
	uint32_t i = 0;

	while (i < r->n && !pid_equal(r->from[i], m->from))
		i++;
	sim_assert(world.s, i < ARRAY_LEN(r->from));
	if (i == r->n)
		r->from[r->n++] = m->from;
	sim_assert(world.s, n > r->last[i]);
	world.gaps += n != r->last[i] + 1;
	r->last[i] = n;
	world.received++;
	return OK;
}

static const struct rule receiver_rules[] = {{STATE_ANY, TELL, receiver_told}};
BEHAVIOUR(receiver, sizeof(struct receiver), receiver_rules);

/* ---- a sender counts up to each receiver ---- */

static enum status sender_tick(struct actor *self, struct msg *m)
{
	uint64_t *n = actor_state(self);

	(void)m;
	for (int burst = 0; burst < 5; burst++) {
		++*n;
		for (int i = 0; i < SENDERS; i++) {
			struct msg *out;

			tell_new(self, &out)->n = *n;
			actor_send(self, world.receivers[i], &out);
			world.sent++;
		}
	}
	actor_timer(self, 1, 1 + (uint32_t)(actor_random(self) % 10));
	return OK;
}

static enum status sender_init(struct actor *self, const void *args, size_t size)
{
	(void)args, (void)size;
	actor_timer(self, 1, 1);
	return OK;
}

static const struct rule sender_rules[] = {{STATE_ANY, TIMER, sender_tick}};
BEHAVIOUR(sender, sizeof(uint64_t), sender_rules, .init = sender_init);

static void boot(struct sim *s, uint16_t node, void *arg)
{
	(void)arg;
	for (uint8_t k = 0; k < WORKERS; k++) {
		world.receivers[(node - 1) * WORKERS + k] =
			sim_spawn(s, node, k, &(struct spawn){.behaviour = &receiver_behaviour});
		sim_spawn(s, node, k, &(struct spawn){.behaviour = &sender_behaviour});
	}
}

static struct sim *start(int seed, uint32_t loss_ppm)
{
	struct sim_spec spec = {.seed = (uint64_t)seed,
		.n_nodes = NODES,
		.n_workers = WORKERS,
		.boot = boot,
		.net = {.loss_ppm = loss_ppm, .delay_mean_us = 20000}};

	memset(&world, 0, sizeof(world));
	return world.s = sim_new(&spec);
}

START_TEST(all_messages_come_once_and_in_order_when_nothing_is_lost)
{
	struct sim *s = start(_i, 0);

	sim_run_for(s, RUN_US);
	sim_assert(s, world.gaps == 0);
	sim_assert(s, world.received > world.sent * 8 / 10); /* the rest is under way */
	sim_free(s);
}
END_TEST

START_TEST(a_clogged_link_delays_and_loses_nothing)
{
	struct sim *s = start(_i, 0);

	sim_fault(s, F_LINK_CLOGS, 5000);
	for (int i = 0; i < 10; i++) {
		sim_partition(s, 1, 2);
		sim_run_for(s, RUN_US / 20);
		sim_heal(s);
		sim_run_for(s, RUN_US / 20);
	}
	sim_assert(s, world.gaps == 0);
	sim_assert(s, sim_fault_hits(s, F_LINK_CLOGS) > 10);
	sim_free(s);
}
END_TEST

START_TEST(what_is_not_lost_keeps_its_order)
{
	struct sim *s = start(_i, 20000);

	sim_fault(s, F_LINK_BREAKS, 50);
	sim_run_for(s, RUN_US / 2);
	sim_crash_node(s, 3);
	sim_run_for(s, RUN_US / 10);
	sim_restart_node(s, 3);
	sim_run_for(s, RUN_US / 2);
	sim_assert(s, world.gaps > 20);
	sim_assert(s, world.received > world.sent / 2);
	sim_free(s);
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {
		{all_messages_come_once_and_in_order_when_nothing_is_lost, 10},
		{a_clogged_link_delays_and_loses_nothing, 10},
		{what_is_not_lost_keeps_its_order, 20},
	};

	return world_main("sim order", tests, ARRAY_LEN(tests));
}
