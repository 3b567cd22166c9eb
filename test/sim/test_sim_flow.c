/*
 * Workflows under crashes: a node that dies between any two steps, actors killed at any instant, steps that fail, time
 * out, poll or ask. The outside world is an array that counts what each step did to it.
 */
#include "runtime/base/bytes.h"
#include "runtime/flow/flow.h"
#include "runtime/store/store.h"
#include "test/sim/world.h"

enum { STEPS = 5 };
enum how { GOOD, FAIL_FOR_GOOD, FAIL_TWICE, HANG_ONCE };

static struct {
	struct sim *s;
	struct store_backend *be;
	struct rand_stream rand;
	enum how how; /* of step 3 */
	uint32_t did[STEPS], undid[STEPS], attempts;
	uint32_t n_effects; /* all runs and undos that took effect */
	uint32_t top; /* highest step that took effect */
	bool known; /* the client saw the end */
	uint8_t status;
	char error[241], result[16];
} world;

/* ---- the workflow under test ------------------------------------------------------------------------------------ */

static void take_effect(uint32_t step)
{
	sim_assert(world.s, step == 0 || world.did[step - 1] > 0); /* never before the one before */
	sim_assert(world.s,
		step >= world.top || world.undid[step] == 0); /* never again once a later one ran... */
	world.did[step]++;
	world.n_effects++;
	if (step > world.top)
		world.top = step;
}

static void step_plain(struct actor *self)
{
	uint32_t step = flow_self(self)->step;
	struct slice result;

	sim_assert(world.s, flow_self(self)->inputs.len == 5);
	take_effect(step);
	result = slice_copy(&"abcde"[0], step + 1);
	if (step > 0)
		sim_assert(
			world.s, flow_self(self)->result.len >= step); /* what earlier steps left is there */
	flow_result_set(self, &result);
	flow_step_done(self, OK, NULL);
}

/* Waits for a timer of its own, then looks again twice. */
static void step_polling(struct actor *self)
{
	uint32_t *looks = flow_local(self);

	if (*looks == 0) {
		actor_timer(self, 7, 5);
		return;
	}
	if ((*looks)++ < 3) {
		flow_step_done(self, E_AGAIN, NULL);
		return;
	}
	step_plain(self);
}

static enum status on_step_timer(struct actor *self, struct msg *m)
{
	uint32_t *looks = flow_local(self);

	sim_assert(world.s, timer_of(m)->key == 7);
	(*looks)++;
	flow_step_done(self, E_AGAIN, NULL);
	return OK;
}

static void step_risky(struct actor *self)
{
	world.attempts++;
	if (world.how == FAIL_FOR_GOOD)
		flow_step_fail(self, E_DENIED, "not allowed, attempt %u", flow_self(self)->attempt);
	else if (world.how == FAIL_TWICE && world.attempts <= 2)
		flow_step_done(self, E_IO, "bad luck");
	else if (world.how == HANG_ONCE && world.attempts <= 1)
		return; /* until its timeout */
	else
		step_plain(self);
}

static void undo(struct actor *self)
{
	uint32_t step = flow_self(self)->step;

	for (uint32_t i = step + 1; i < STEPS; i++)
		sim_assert(world.s, world.did[i] == 0 || i == 2 || world.undid[i] > 0); /* in reverse */
	world.undid[step]++;
	world.n_effects++;
	flow_step_done(self, OK, NULL);
}

static const struct flow_step steps[STEPS] = {
	{.name = "one", .run = step_plain, .undo = undo},
	{.name = "two", .run = step_polling, .undo = undo, .poll_ms = 3},
	{.name = "three", .run = step_plain},
	{.name = "four", .run = step_risky, .undo = undo, .retries = 3, .timeout_ms = 500},
	{.name = "five", .run = step_plain, .undo = undo},
};
static const struct rule step_rules[] = {{STATE_ANY, TIMER, on_step_timer}};
static const struct flow_kind kind = {.name = "test",
	.steps = steps,
	.n_steps = STEPS,
	.local_size = sizeof(uint32_t),
	.rules = step_rules,
	.n_rules = ARRAY_LEN(step_rules)};

/* ---- a client that starts it and starts it again after a crash ---------------------------------------------------- */

static void start(struct actor *self)
{
	struct msg *m;
	struct flow_start *f = flow_start_new(self, &m);

	str_copy(f->kind, sizeof(f->kind), "test");
	str_copy(f->id, sizeof(f->id), "the-one");
	f->inputs = slice_copy("input", 5);
	f->watch = 1;
	actor_ask(self, actor_whereis(self, "flow"), &m, 1000);
}

static enum status client_start(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	actor_timer(self, 1, 1);
	return OK;
}

static enum status client_timer(struct actor *self, struct msg *m)
{
	(void)m;
	if (!world.known)
		start(self);
	actor_timer(self, 1, 300); /* the manager may have been killed, and with it who watches */
	return OK;
}

static enum status client_changed(struct actor *self, struct msg *m)
{
	struct flow_changed *c = flow_changed_of(m);

	(void)self;
	sim_assert(world.s, c->step < STEPS);
	if (!flow_ended(c->status))
		return OK;
	world.known = true;
	world.status = c->status;
	str_copy(world.error, sizeof(world.error), c->error);
	snprintf(world.result, sizeof(world.result), "%.*s", (int)c->result.len,
		(const char *)slice_data(&c->result));
	return OK;
}

/* It ended while nobody watched. */
static enum status client_done(struct actor *self, struct msg *m)
{
	struct msg *out;

	if (done_of(m)->status != E_EXISTS)
		return OK;
	str_copy(flow_show_new(self, &out)->id, FLOW_ID_MAX, "the-one");
	actor_ask(self, actor_whereis(self, "flow"), &out, 1000);
	world.known = true;
	world.status = world.undid[0] ? FLOW_FAILED : FLOW_DONE;
	return OK;
}

static enum status client_ignore(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return OK;
}

static const struct rule client_rules[] = {
	{STATE_ANY, TIMER, client_timer},
	{STATE_ANY, FLOW_CHANGED, client_changed},
	{STATE_ANY, DONE, client_done},
	{STATE_ANY, TABLE, client_ignore},
	{STATE_ANY, ASK_FAILED, client_ignore},
};
BEHAVIOUR(client, 0, client_rules, .init = client_start);

/* ---- the node ----------------------------------------------------------------------------------------------------- */

static struct store_args store_args;
static const struct child_spec children[] = {
	{.name = "store",
		.behaviour = &store_behaviour,
		.args = &store_args,
		.args_size = sizeof(store_args),
		.worker = WORKER_SAME},
	{.name = "flow", .behaviour = &flow_behaviour, .worker = WORKER_SAME},
};
static const struct sup_spec tree = {.strategy = ONE_FOR_ONE,
	.intensity = 1000,
	.period_ms = 1000,
	.backoff_min_ms = 1,
	.backoff_max_ms = 10,
	.children = children,
	.n_children = ARRAY_LEN(children)};

static void boot(struct sim *s, uint16_t node, void *arg)
{
	const struct sup_spec *spec = &tree;

	(void)arg;
	store_args.backend = world.be;
	sim_spawn(s, node, 0,
		&(struct spawn){
			.behaviour = &supervisor_behaviour, .args = &spec, .args_size = sizeof(spec)});
	sim_spawn(s, node, 0, &(struct spawn){.behaviour = &client_behaviour});
}

static void world_begin(uint64_t seed, enum how how)
{
	memset(&world, 0, sizeof(world));
	world.how = how;
	world.be = store_open_memory();
	world.s = sim_new(&(struct sim_spec){.seed = seed, .n_nodes = 1, .n_workers = 1, .boot = boot});
	world.rand = sim_stream(world.s, "test");
}

static void world_end(void)
{
	sim_free(world.s);
	store_close(world.be);
}

static bool is_known(struct sim *s, void *arg)
{
	(void)s;
	(void)arg;
	return world.known;
}

static void crash(void)
{
	uint32_t open = store_memory_unacknowledged(world.be);

	sim_crash_node(world.s, 1);
	world.be = store_memory_crash(world.be, (uint32_t)rand_below(&world.rand, open + 1));
	sim_restart_node(world.s, 1);
}

static void run_to_end(void)
{
	sim_assert(world.s, sim_run_until(world.s, is_known, NULL, 60000000));
}

static void check_done(void)
{
	sim_assert(world.s, world.status == FLOW_DONE);
	for (int i = 0; i < STEPS; i++)
		sim_assert(world.s, world.did[i] >= 1 && world.undid[i] == 0);
}

static void check_undone(void)
{
	sim_assert(world.s, world.status == FLOW_FAILED);
	for (int i = 0; i < STEPS; i++)
		sim_assert(world.s,
			(world.undid[i] > 0) == (i != 2 && i != 4)); /* three has no undo, five never ran */
	sim_assert(world.s, world.did[4] == 0);
}

START_TEST(a_workflow_runs_each_step_once_in_order)
{
	world_begin((uint64_t)_i, GOOD);
	run_to_end();
	check_done();
	for (int i = 0; i < STEPS; i++)
		sim_assert(world.s, world.did[i] == 1);
	sim_assert(world.s, strcmp(world.result, "abcde") == 0 && world.error[0] == '\0');
	world_end();
}
END_TEST

START_TEST(a_failing_step_is_tried_again_and_then_goes_on)
{
	world_begin((uint64_t)_i, FAIL_TWICE);
	run_to_end();
	check_done();
	sim_assert(world.s, world.attempts == 3);
	world_end();
}
END_TEST

START_TEST(a_step_that_hangs_is_given_up_and_tried_again)
{
	world_begin((uint64_t)_i, HANG_ONCE);
	run_to_end();
	check_done();
	sim_assert(world.s, world.attempts == 2);
	world_end();
}
END_TEST

START_TEST(a_step_that_fails_for_good_undoes_the_rest_in_reverse)
{
	world_begin((uint64_t)_i, FAIL_FOR_GOOD);
	run_to_end();
	check_undone();
	sim_assert(world.s, world.attempts == 1);
	sim_assert(world.s, strcmp(world.error, "four: not allowed, attempt 1") == 0);
	world_end();
}
END_TEST

struct crash_point {
	uint64_t steps;
};

static bool is_reached(struct sim *s, void *arg)
{
	return world.known || sim_steps(s) >= ((struct crash_point *)arg)->steps;
}

/* The seed is the instant too: one crash after each single step of the simulator, until the workflow outruns it. */
START_TEST(a_crash_between_any_two_events_loses_and_skips_nothing)
{
	for (uint64_t at = 1; at < 400; at += 1 + (uint64_t)_i % 3) {
		struct crash_point point = {at};

		world_begin((uint64_t)_i, at % 2 ? GOOD : FAIL_FOR_GOOD);
		sim_run_until(world.s, is_reached, &point, 60000000);
		if (world.known) {
			world_end();
			continue;
		}
		crash();
		run_to_end();
		if (at % 2)
			check_done();
		else
			check_undone();
		world_end();
	}
}
END_TEST

START_TEST(many_crashes_in_a_row_end_well)
{
	world_begin((uint64_t)_i, FAIL_TWICE);
	for (int i = 0; i < 8 && !world.known; i++) {
		sim_run_for(world.s, rand_below(&world.rand, 20000));
		crash();
	}
	run_to_end();
	check_done();
	world_end();
}
END_TEST

static void kill_one(const char *name)
{
	struct pid pid = worker_whereis(sim_worker(world.s, 1, 0), name);

	if (!pid_is_none(pid))
		sim_exit(world.s, pid, E_KILLED);
}

START_TEST(killing_the_store_and_the_manager_ends_well)
{
	world_begin((uint64_t)_i, FAIL_TWICE);
	for (int i = 0; i < 10 && !world.known; i++) {
		sim_run_for(world.s, rand_below(&world.rand, 8000));
		kill_one(rand_below(&world.rand, 2) ? "flow" : "store");
	}
	run_to_end();
	check_done();
	world_end();
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {
		{a_workflow_runs_each_step_once_in_order, 10},
		{a_failing_step_is_tried_again_and_then_goes_on, 10},
		{a_step_that_hangs_is_given_up_and_tried_again, 10},
		{a_step_that_fails_for_good_undoes_the_rest_in_reverse, 10},
		{a_crash_between_any_two_events_loses_and_skips_nothing, 6},
		{many_crashes_in_a_row_end_well, 40},
		{killing_the_store_and_the_manager_ends_well, 40},
	};

	catalog_add_store();
	catalog_add_flow();
	flow_kind_register(&kind);
	return world_main("sim flow", tests, ARRAY_LEN(tests));
}
