/*
 * Twenty clients on three nodes ask a server that fails every 1000th request behind a supervisor, while links lose,
 * break, clog and part, and nodes crash. Checked for each single ask: it settles once, with its own answer or a
 * failure, within its time.
 */
#include "test/sim/world.h"

enum {
	CLIENTS = 20,
	PENDING_MAX = 64,
	ASK_MS = 200,
	FAILS_EVERY = 1000,
	SERVER_NODE = 1,
	NODES = 3,
	RUN_US = 8000000,
};

static struct {
	struct sim *s;
	struct pid front;
	bool stop;
	uint64_t asked, settled, lost_with_client, pending, answered, served, failed_by[STATUS_COUNT];
} world;

/* ---- server ---- */

static enum status server_ping(struct actor *self, struct msg *m)
{
	uint64_t *served = actor_state(self);
	struct msg *out;

	world.served++;
	if (++*served % FAILS_EVERY == 0)
		return actor_fail(self, E_INTERNAL, "the thousandth request");
	pong_new(self, &out)->n = ping_of(m)->n;
	actor_reply(self, m, &out);
	return OK;
}

static const struct rule server_rules[] = {{STATE_ANY, PING, server_ping}};
BEHAVIOUR(server, sizeof(uint64_t), server_rules);

static const struct child_spec children[] = {
	{.name = "server", .behaviour = &server_behaviour, .restart = PERMANENT, .worker = WORKER_SAME}};
static const struct sup_spec tree = {
	.intensity = 1000, .period_ms = 1000, .children = children, .n_children = 1};

/* Passes requests on to whoever is called "server" now. */
static enum status front_ping(struct actor *self, struct msg *m)
{
	struct pid to = actor_whereis(self, "server");

	if (pid_is_none(to))
		actor_reply_status(self, m, E_NOPROC, "no server");
	else
		actor_forward(self, to, m);
	return OK;
}

static const struct rule front_rules[] = {{STATE_ANY, PING, front_ping}};
BEHAVIOUR(front, 0, front_rules);

/* ---- clients ---- */

struct client {
	uint32_t n;
	uint64_t next;
	struct {
		uint64_t corr, n, until_us;
	} pending[PENDING_MAX];
};

static enum status client_tick(struct actor *self, struct msg *m)
{
	struct client *c = actor_state(self);
	uint32_t burst = 1 + (uint32_t)(actor_random(self) % 3);

	(void)m;
	for (uint32_t i = 0; i < burst && c->n < PENDING_MAX && !world.stop; i++) {
		struct msg *out;
		struct ping *p = ping_new(self, &out);
		uint64_t n = p->n = ++c->next;
		char blob[16] = "some bytes";

		p->blob = slice_copy(blob, sizeof(blob));
		c->pending[c->n].corr = actor_ask(self, world.front, &out, ASK_MS);
		c->pending[c->n].until_us = actor_now_us(self) + ASK_MS * 1000;
		c->pending[c->n++].n = n;
		world.asked++;
		world.pending++;
	}
	actor_timer(self, 1, 1 + (uint32_t)(actor_random(self) % 5));
	return OK;
}

static enum status client_settled(struct actor *self, struct msg *m)
{
	struct client *c = actor_state(self);
	uint32_t i = 0;

	while (i < c->n && c->pending[i].corr != m->corr)
		i++;
	sim_assert(world.s, i < c->n); /* ours, and not settled before */
	sim_assert(world.s, m->tag != PONG || pong_of(m)->n == c->pending[i].n);
	sim_assert(world.s, actor_now_us(self) <= c->pending[i].until_us + 2000);
	if (m->tag == ASK_FAILED)
		world.failed_by[ask_failed_of(m)->status]++;
	world.answered += m->tag == PONG;
	c->pending[i] = c->pending[--c->n];
	world.settled++;
	world.pending--;
	return OK;
}

static enum status client_init(struct actor *self, const void *args, size_t size)
{
	(void)args, (void)size;
	actor_timer(self, 1, 1);
	return OK;
}

static void client_exit(struct actor *self, enum status why)
{
	struct client *c = actor_state(self);

	(void)why;
	world.lost_with_client += c->n;
	world.pending -= c->n;
}

static const struct rule client_rules[] = {
	{STATE_ANY, TIMER, client_tick},
	{STATE_ANY, PONG, client_settled},
	{STATE_ANY, DONE, client_settled},
	{STATE_ANY, ASK_FAILED, client_settled},
};
BEHAVIOUR(client, sizeof(struct client), client_rules, .init = client_init, .exit = client_exit);

/* ---- the runs ---- */

static void boot(struct sim *s, uint16_t node, void *arg)
{
	const struct sup_spec *spec = &tree;

	(void)arg;
	if (node == SERVER_NODE) {
		sim_spawn(s, node, 0,
			&(struct spawn){.behaviour = &supervisor_behaviour,
				.args = &spec,
				.args_size = sizeof(spec)});
		world.front = sim_spawn(s, node, 0, &(struct spawn){.behaviour = &front_behaviour});
	}
	for (int i = 0; i < CLIENTS; i++)
		if (i % NODES + 1 == node)
			sim_spawn(s, node, (uint8_t)(i % 2), &(struct spawn){.behaviour = &client_behaviour});
}

static struct sim *start(int seed, const struct sim_net *net)
{
	struct sim_spec spec = {
		.seed = (uint64_t)seed, .n_nodes = NODES, .n_workers = 2, .boot = boot, .net = *net};

	memset(&world, 0, sizeof(world));
	return world.s = sim_new(&spec);
}

/* Nothing is asked any more: all that is open must settle within its time. */
static void finish(struct sim *s)
{
	world.stop = true;
	sim_run_for(s, 2 * ASK_MS * 1000);
	sim_assert(s, world.pending == 0);
	sim_assert(s, world.asked == world.settled + world.lost_with_client);
	sim_assert(s, sim_handles(s) == 0);
	sim_free(s);
}

START_TEST(every_ask_is_answered_when_nothing_goes_wrong_but_the_server)
{
	struct sim *s = start(_i, &(struct sim_net){0});

	sim_run_for(s, RUN_US / 2);
	world.stop = true;
	sim_run_for(s, 2 * ASK_MS * 1000);
	sim_assert(s, world.asked > 8000);
	sim_assert(s, world.failed_by[E_TIMEOUT] == 0);
	sim_assert(s, world.served / FAILS_EVERY >= 5);
	sim_assert(
		s, world.settled - world.answered >= world.served / FAILS_EVERY); /* those and some queued */
	finish(s);
}
END_TEST

START_TEST(asks_settle_once_when_links_lose_and_break)
{
	struct sim *s = start(_i, &(struct sim_net){.loss_ppm = 50000});

	sim_fault(s, F_LINK_BREAKS, 200);
	sim_fault(s, F_LINK_CLOGS, 200);
	sim_run_for(s, RUN_US / 2);
	sim_assert(s, world.failed_by[E_TIMEOUT] > 0);
	sim_assert(s, world.failed_by[E_NODE_DOWN] > 0);
	sim_assert(s, world.answered > 4000);
	finish(s);
}
END_TEST

static void crash_or_restart(struct sim *s, void *arg)
{
	struct rand_stream *r = arg;
	uint16_t node = (uint16_t)rand_between(r, 1, NODES);

	if (sim_node_up(s, node))
		sim_crash_node(s, node);
	else
		sim_restart_node(s, node);
	if (!world.stop)
		sim_after(s, rand_between(r, 1000, 2000000), crash_or_restart, r);
}

START_TEST(asks_settle_once_when_nodes_crash_and_come_back)
{
	struct sim *s = start(_i, &(struct sim_net){.loss_ppm = 1000});
	struct rand_stream r = sim_stream(s, "test");

	sim_after(s, 1000000, crash_or_restart, &r);
	sim_run_for(s, RUN_US);
	world.stop = true;
	sim_run_for(s, 4000000);
	finish(s);
}
END_TEST

static void part_or_heal(struct sim *s, void *arg)
{
	struct rand_stream *r = arg;
	uint16_t a = (uint16_t)rand_between(r, 1, NODES), b = (uint16_t)(a % NODES + 1);

	switch (rand_below(r, 5)) {
	case 0:
		sim_partition(s, a, b);
		break;
	case 1:
		sim_block(s, a, b);
		break;
	case 2:
		sim_clog(s, a, b, rand_below(r, 5000000));
		break;
	default:
		sim_heal(s);
	}
	sim_after(s, rand_between(r, 1000, 3000000), part_or_heal, r);
}

START_TEST(asks_settle_once_when_the_network_parts_and_heals)
{
	struct sim *s = start(_i, &(struct sim_net){0});
	struct rand_stream r = sim_stream(s, "test");
	uint64_t before;

	sim_after(s, 1000000, part_or_heal, &r);
	sim_run_for(s, RUN_US);
	sim_heal(s);
	before = world.answered;
	sim_run_for(s, 1000000);
	sim_assert(s, world.answered > before);
	finish(s);
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {
		{every_ask_is_answered_when_nothing_goes_wrong_but_the_server, 5},
		{asks_settle_once_when_links_lose_and_break, 10},
		{asks_settle_once_when_nodes_crash_and_come_back, 10},
		{asks_settle_once_when_the_network_parts_and_heals, 10},
	};

	return world_main("sim asks", tests, ARRAY_LEN(tests));
}
