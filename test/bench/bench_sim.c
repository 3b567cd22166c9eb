/*
 * How much faster than life the simulator is: nine nodes of fifty actors, each asking another, on its own node or
 * elsewhere, about 24 times a second: 33,000 events a second, as many as a busy cluster's control
 * traffic. Prints a JSON line a figure. --quick: a tenth.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/base/log.h"
#include "runtime/sim/sim.h"

enum {
	NODES = 9,
	ACTORS = 50,
	TICK_MS = 42,
	ASK_TIMEOUT_MS = 1000,
	TARGET_TIMES = 100,
	SIM_SECONDS = 60,
	HASH_SECONDS = 5,
};

#define BENCH_ASK_FIELDS(F, S) F(S, u64, n, 0) F(S, str, text, 40)
#define BENCH_MESSAGES(M) M(BENCH_ASK, bench_ask, 0x7f20, MSG_ASK)
MSG_FOLDER(bench, BENCH_MESSAGES);
MSG_FOLDER_DEFINE(bench, BENCH_MESSAGES);

#define PEER_STATES(X) X(ALIVE)
STATES(peer, PEER_STATES);

static struct pid peers[NODES][ACTORS];
static uint64_t settled;

static enum status peer_tick(struct actor *self, struct msg *m)
{
	uint64_t draw = actor_random(self);
	uint64_t node = draw % 4 ? (actor_pid(self).node >> 48) - 1 : draw / 4 % NODES;
	struct msg *out;
	struct bench_ask *a = bench_ask_new(self, &out);

	(void)m;
	a->n = draw;
	memcpy(a->text, "a short text", 13);
	(void)actor_ask(self, peers[node][draw / 64 % ACTORS], &out, ASK_TIMEOUT_MS);
	actor_timer(self, 1, TICK_MS / 2 + (uint32_t)(draw >> 40) % TICK_MS);
	return OK;
}

static enum status peer_asked(struct actor *self, struct msg *m)
{
	actor_reply_status(self, m, OK, NULL);
	return OK;
}

static enum status peer_answered(struct actor *self, struct msg *m)
{
	(void)self, (void)m;
	settled++;
	return OK;
}

static enum status peer_init(struct actor *self, const void *args, size_t size)
{
	(void)args, (void)size;
	actor_timer(self, 1, 1 + (uint32_t)(actor_random(self) % TICK_MS));
	return OK;
}

static const struct rule peer_rules[] = {
	{STATE_ANY, TIMER, peer_tick},
	{STATE_ANY, BENCH_ASK, peer_asked},
	{STATE_ANY, DONE, peer_answered},
	{STATE_ANY, ASK_FAILED, peer_answered},
};

static const struct behaviour peer_behaviour = {.name = "peer",
	.rules = peer_rules,
	.n_rules = ARRAY_LEN(peer_rules),
	.states = peer_state_names,
	.n_states = 1,
	.init = peer_init};

static void boot(struct sim *s, uint16_t node, void *arg)
{
	(void)arg;
	for (int i = 0; i < ACTORS; i++)
		peers[node - 1][i] = sim_spawn(s, node, 0, &(struct spawn){.behaviour = &peer_behaviour});
}

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct run {
	double took_s;
	uint64_t hash, messages, steps;
};

static struct run run(uint64_t seed, uint64_t seconds)
{
	struct sim *s =
		sim_new(&(struct sim_spec){.seed = seed, .n_nodes = NODES, .n_workers = 1, .boot = boot});
	double start = seconds_now();
	struct run out;

	sim_run_for(s, seconds * 1000000);
	out = (struct run){.took_s = seconds_now() - start,
		.hash = sim_trace_hash(s),
		.messages = sim_messages(s),
		.steps = sim_steps(s)};
	sim_free(s);
	return out;
}

static void print(const char *name, double value, const char *unit, double target)
{
	if (target > 0)
		printf("{\"name\":\"%s\",\"value\":%.1f,\"unit\":\"%s\",\"target\":%.0f,\"met\":%s}\n", name,
			value, unit, target, value >= target ? "true" : "false");
	else
		printf("{\"name\":\"%s\",\"value\":%.1f,\"unit\":\"%s\"}\n", name, value, unit);
}

int main(int argc, char **argv)
{
	bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
	uint64_t seconds = quick ? SIM_SECONDS / 10 : SIM_SECONDS;
	struct run r, a, b, other;

	log_set_level(LOG_ERROR_LEVEL);
	catalog_add_core();
	catalog_add_bench();
	r = run(1, seconds);
	a = run(7, HASH_SECONDS);
	b = run(7, HASH_SECONDS);
	other = run(8, HASH_SECONDS);
	print("sim_times_real_time", (double)seconds / r.took_s, "x", TARGET_TIMES);
	print("sim_events_per_s", (double)r.messages / r.took_s, "1/s", 0);
	print("sim_events_per_simulated_s", (double)r.messages / (double)seconds, "1/s", 0);
	print("sim_steps_per_s", (double)r.steps / r.took_s, "1/s", 0);
	print("sim_same_seed_same_hash", a.hash == b.hash && a.hash != other.hash, "bool", 1);
	return settled > 0 && a.hash == b.hash ? 0 : 1;
}
