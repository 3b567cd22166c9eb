/* Supervision in virtual time: strategies, restart types, intensity, escalation, back-off, children on other workers. */
#include "test/sim/world.h"

enum { CHILDREN = 3, LOG_MAX = 4096 };

/* What happened, in order: "+a" a started, "-a" it ended. */
static struct {
	struct sim *s;
	char log[LOG_MAX];
	uint64_t at_us[LOG_MAX];
	uint32_t n_log, fail_init;
	enum status top_why;
	bool top_ended, stubborn;
} world;

static void note(char what, char who)
{
	sim_assert(world.s, world.n_log + 3 < LOG_MAX);
	world.at_us[world.n_log] = sim_now_us(world.s);
	world.log[world.n_log++] = what;
	world.log[world.n_log++] = who;
}

static void log_clear(void)
{
	memset(world.log, 0, sizeof(world.log));
	world.n_log = 0;
}

/* ---- a child is named by a letter, ends as TELL says ---- */

static enum status child_init(struct actor *self, const void *args, size_t size)
{
	char *letter = actor_state(self);

	ck_assert_uint_eq(size, 1);
	*letter = *(const char *)args;
	if (world.fail_init == (uint32_t)(unsigned char)*letter)
		return actor_fail(self, E_IO, "told not to start");
	note('+', *letter);
	return OK;
}

static enum status child_told(struct actor *self, struct msg *m)
{
	return actor_fail(self, (enum status)tell_of(m)->n, "as told");
}

static void child_exit(struct actor *self, enum status why)
{
	(void)why;
	if (world.fail_init != (uint32_t)(unsigned char)*(char *)actor_state(self))
		note('-', *(char *)actor_state(self));
}

static const struct rule child_rules[] = {{STATE_ANY, TELL, child_told}};
BEHAVIOUR(child, 1, child_rules, .init = child_init, .exit = child_exit);

/* Doesn't end when told to; only when killed. */
static enum status child_ignores(struct actor *self, struct msg *m)
{
	(void)self, (void)m;
	return OK;
}
static const struct rule stubborn_rules[] = {{STATE_ANY, EXIT, child_ignores}, {STATE_ANY, TELL, child_told}};
BEHAVIOUR(stubborn, 1, stubborn_rules, .init = child_init, .exit = child_exit, .trap_exit = true);

/* ---- the top watches the supervisor under test ---- */

static enum status top_down(struct actor *self, struct msg *m)
{
	(void)self;
	world.top_ended = true;
	world.top_why = (enum status)down_of(m)->status;
	return OK;
}

static enum status top_init(struct actor *self, const void *args, size_t size)
{
	struct pid pid;

	return actor_spawn(self,
		&(struct spawn){
			.behaviour = &supervisor_behaviour, .args = args, .args_size = size, .name = "sup"},
		&pid);
}

static const struct rule top_rules[] = {{STATE_ANY, DOWN, top_down}};
BEHAVIOUR(top, 0, top_rules, .init = top_init, .trap_exit = true);

static struct child_spec specs[CHILDREN];
static struct sup_spec sup;

static struct sim *start(int seed, enum sup_strategy strategy, uint8_t workers)
{
	struct sim_spec spec = {.seed = (uint64_t)seed, .n_nodes = 1, .n_workers = workers};
	static const char *const names[CHILDREN] = {"a", "b", "c"};

	memset(&world, 0, sizeof(world));
	for (int i = 0; i < CHILDREN; i++)
		specs[i] = (struct child_spec){.name = names[i],
			.behaviour = &child_behaviour,
			.args = names[i],
			.args_size = 1,
			.restart = PERMANENT,
			.shutdown_ms = 100,
			.worker = (uint8_t)(workers > 1 ? i % workers : WORKER_SAME)};
	sup = (struct sup_spec){.strategy = strategy,
		.intensity = 3,
		.period_ms = 1000,
		.backoff_min_ms = 10,
		.backoff_max_ms = 100,
		.children = specs,
		.n_children = CHILDREN};
	world.s = sim_new(&spec);
	return world.s;
}

static void go(struct sim *s)
{
	const struct sup_spec *spec = &sup;

	sim_spawn(s, 1, 0,
		&(struct spawn){.behaviour = &top_behaviour, .args = &spec, .args_size = sizeof(spec)});
	sim_run_for(s, 100000);
}

static struct pid find(struct sim *s, const char *name)
{
	return worker_whereis(sim_worker(s, 1, 0), name);
}

static void tell(struct sim *s, const char *name, enum status why)
{
	struct pid p = find(s, name);
	struct worker *w = sim_worker(s, 1, pid_worker(p));
	struct msg *m = worker_msg_new(w, TELL);

	sim_assert(s, !pid_is_none(p));
	tell_of(m)->n = why;
	m->to = p;
	worker_deliver(w, m);
}

#define expect_log(s, text)                                                                                  \
	do {                                                                                                 \
		sim_assert(s, strcmp(world.log, text) == 0 || (fprintf(stderr, "log: %s\n", world.log), 0)); \
		log_clear();                                                                                 \
	} while (0)

START_TEST(children_start_in_order_and_end_in_reverse)
{
	struct sim *s = start(_i, ONE_FOR_ONE, 1 + (uint8_t)(_i % 2));

	go(s);
	expect_log(s, "+a+b+c");
	sim_exit(s, find(s, "sup"), E_SHUTDOWN);
	sim_run_for(s, 1000000);
	expect_log(s, "-c-b-a");
	sim_assert(s, world.top_ended && world.top_why == E_SHUTDOWN);
	sim_free(s);
}
END_TEST

START_TEST(one_for_one_restarts_only_the_one)
{
	struct sim *s = start(_i, ONE_FOR_ONE, 1 + (uint8_t)(_i % 3));

	go(s);
	log_clear();
	tell(s, "b", E_CRASHED);
	sim_run_for(s, 500000);
	expect_log(s, "-b+b");
	sim_free(s);
}
END_TEST

START_TEST(rest_for_one_restarts_what_started_later)
{
	struct sim *s = start(_i, REST_FOR_ONE, 1 + (uint8_t)(_i % 3));

	go(s);
	log_clear();
	tell(s, "b", E_CRASHED);
	sim_run_for(s, 500000);
	expect_log(s, "-b-c+b+c");
	sim_free(s);
}
END_TEST

START_TEST(one_for_all_restarts_all)
{
	struct sim *s = start(_i, ONE_FOR_ALL, 1 + (uint8_t)(_i % 3));

	go(s);
	log_clear();
	tell(s, "b", E_CRASHED);
	sim_run_for(s, 500000);
	expect_log(s, "-b-c-a+a+b+c");
	sim_free(s);
}
END_TEST

START_TEST(transient_and_temporary_children_stay_down_as_they_should)
{
	struct sim *s = start(_i, ONE_FOR_ONE, 1);

	specs[0].restart = TRANSIENT;
	specs[1].restart = TEMPORARY;
	specs[2].restart = TRANSIENT;
	go(s);
	log_clear();
	tell(s, "a", E_NORMAL);
	tell(s, "b", E_CRASHED);
	sim_run_for(s, 500000);
	tell(s, "c", E_CRASHED);
	sim_run_for(s, 500000);
	sim_assert(s, pid_is_none(find(s, "a")) && pid_is_none(find(s, "b")) && !pid_is_none(find(s, "c")));
	sim_assert(s, strcmp(world.log + 4, "-c+c") == 0);
	sim_free(s);
}
END_TEST

START_TEST(too_many_restarts_end_the_supervisor_and_escalate)
{
	struct sim *s = start(_i, ONE_FOR_ONE, 1);
	uint64_t at;

	go(s);
	at = sim_now_us(s);
	for (int i = 0; i < 4; i++) {
		sim_assert(s, !world.top_ended);
		tell(s, "b", E_CRASHED);
		sim_run_for(s, 200000);
	}
	sim_assert(s, sim_now_us(s) - at < 1000000);
	sim_assert(s, world.top_ended && world.top_why == E_INTENSITY);
	sim_assert(s, sim_actors(s) == 1); /* the top */
	sim_free(s);
}
END_TEST

START_TEST(restarts_far_apart_are_forgiven)
{
	struct sim *s = start(_i, ONE_FOR_ONE, 1);

	go(s);
	for (int i = 0; i < 20; i++) {
		tell(s, "b", E_CRASHED);
		sim_run_for(s, 400000);
	}
	sim_assert(s, !world.top_ended);
	sim_free(s);
}
END_TEST

START_TEST(restarts_back_off)
{
	struct sim *s = start(_i, ONE_FOR_ONE, 1);
	uint64_t waited, before = 0;

	sup.intensity = 100;
	go(s);
	for (int i = 0; i < 8; i++) {
		log_clear();
		tell(s, "b", E_CRASHED);
		sim_run_for(s, 150000);
		sim_assert(s, strcmp(world.log, "-b+b") == 0);
		waited = world.at_us[2] - world.at_us[0];
		sim_assert(s, i == 0 ? waited < 2000 : waited >= 10000 && waited <= 122000);
		sim_assert(s,
			i < 2 || i > 4 || waited > before + before / 3); /* doubles, with jitter of a fifth */
		before = waited;
	}
	sim_run_for(s, 2000000); /* quiet: anew */
	log_clear();
	tell(s, "b", E_CRASHED);
	sim_run_for(s, 150000);
	sim_assert(s, world.at_us[2] - world.at_us[0] < 2000);
	sim_free(s);
}
END_TEST

START_TEST(a_child_that_does_not_end_in_time_is_killed)
{
	struct sim *s = start(_i, ONE_FOR_ONE, 1 + (uint8_t)(_i % 2));
	uint64_t at;

	specs[1].behaviour = &stubborn_behaviour;
	go(s);
	log_clear();
	at = sim_now_us(s);
	sim_exit(s, find(s, "sup"), E_SHUTDOWN);
	sim_run_for(s, 1000000);
	sim_assert(s, world.at_us[2] - at >= 100000 && world.at_us[2] - at < 110000);
	expect_log(s, "-c-b-a");
	sim_assert(s, sim_actors(s) == 1);
	sim_free(s);
}
END_TEST

START_TEST(a_supervisor_whose_child_does_not_start_ends_with_its_reason)
{
	struct sim *s = start(_i, ONE_FOR_ONE, 2);

	world.fail_init = 'b';
	specs[1].worker = 1;
	go(s);
	sim_run_for(s, 1000000);
	sim_assert(s, world.top_ended && world.top_why == E_IO);
	expect_log(s, "+a-a");
	sim_free(s);
}
END_TEST

START_TEST(a_tree_of_supervisors_escalates_to_its_top_and_comes_back)
{
	static const struct child_spec leaf[] = {{.name = "x",
		.behaviour = &child_behaviour,
		.args = "x",
		.args_size = 1,
		.worker = WORKER_SAME}};
	static const struct sup_spec subtree = {
		.intensity = 1, .period_ms = 1000, .children = leaf, .n_children = 1};
	struct sim *s = start(_i, ONE_FOR_ONE, 1);

	specs[1].behaviour = &supervisor_behaviour;
	specs[1].subtree = &subtree;
	go(s);
	log_clear();
	tell(s, "x", E_CRASHED);
	sim_run_for(s, 100000);
	expect_log(s, "-x+x");
	tell(s, "x", E_CRASHED); /* once too often: the subtree ends, and is started again */
	sim_run_for(s, 100000);
	expect_log(s, "-x+x");
	sim_assert(s, !world.top_ended);
	sim_free(s);
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {
		{children_start_in_order_and_end_in_reverse, 20},
		{one_for_one_restarts_only_the_one, 20},
		{rest_for_one_restarts_what_started_later, 20},
		{one_for_all_restarts_all, 20},
		{transient_and_temporary_children_stay_down_as_they_should, 20},
		{too_many_restarts_end_the_supervisor_and_escalate, 20},
		{restarts_far_apart_are_forgiven, 20},
		{restarts_back_off, 20},
		{a_child_that_does_not_end_in_time_is_killed, 20},
		{a_supervisor_whose_child_does_not_start_ends_with_its_reason, 20},
		{a_tree_of_supervisors_escalates_to_its_top_and_comes_back, 20},
	};

	return world_main("sim supervisors", tests, ARRAY_LEN(tests));
}
