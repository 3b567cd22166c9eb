/*
 * Supervisors on a driver of a few lines: one or two workers in one thread, virtual time, messages between workers
 * through their msgpack form. A child is told what to do by its args and by messages.
 */
#include <check.h>

#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/core/codec.h"
#include "runtime/core/supervise.h"
#include "runtime/core/table.h"

enum { STEPS_MAX = 200000, N_CHILDREN = 3 };

/* ---- the world ------------------------------------------------------------------------------------------------ */

static uint64_t clock_us;
static struct driver drivers[2];
static struct worker *workers[2];
static uint8_t n_workers;

static uint64_t world_now(struct driver *d)
{
	(void)d;
	return clock_us;
}

static uint64_t world_random(struct driver *d)
{
	(void)d;
	return 0;
}

static void world_forward(struct driver *d, struct msg *m)
{
	struct writer out;
	struct msg *copy;
	uint8_t to = pid_worker(m->to);

	writer_init(&out, MSG_WIRE_MAX);
	msg_encode(m, clock_us, &out);
	ck_assert_uint_lt(to, n_workers);
	ck_assert_int_eq(msg_decode(workers[to], out.buf->data, out.len, clock_us, &copy), OK);
	writer_release(&out);
	m->bits &= (uint8_t)~MSG_IS_REQUEST; /* its obligation went with the copy */
	worker_msg_free(d->worker, m);
	worker_deliver(workers[to], copy);
}

static const struct driver_ops ops = {.now_us = world_now,
	.wall_us = world_now,
	.ticks = world_now,
	.random = world_random,
	.forward = world_forward};

static void keep_quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static void world_new(uint8_t n)
{
	struct node_spec spec = {.node = node_make(1, 7), .n_workers = n};

	log_set_sink(keep_quiet);
	clock_us = 1000000;
	n_workers = n;
	for (uint8_t i = 0; i < n; i++) {
		drivers[i] = (struct driver){.ops = &ops, .ticks_per_us = 1};
		workers[i] = worker_new(&spec, i, &drivers[i]);
		drivers[i].worker = workers[i];
	}
}

static void world_free(void)
{
	for (uint8_t i = 0; i < n_workers; i++)
		worker_free(workers[i]);
}

/* Runs for that long: whoever can, else time goes on to the next timer. */
static void run_ms(uint64_t ms)
{
	uint64_t end = clock_us + ms * 1000;

	for (int i = 0; i < STEPS_MAX; i++) {
		bool busy = false;
		uint64_t due = UINT64_MAX;

		for (uint8_t w = 0; w < n_workers; w++)
			worker_run(workers[w], 1000);
		for (uint8_t w = 0; w < n_workers; w++)
			busy |= worker_runnable(workers[w]);
		if (busy)
			continue;
		for (uint8_t w = 0; w < n_workers; w++)
			due = worker_next_due_us(workers[w]) < due ? worker_next_due_us(workers[w]) : due;
		if (due > end) {
			clock_us = end;
			return;
		}
		clock_us = due > clock_us ? due : clock_us;
	}
	ck_abort_msg("the world doesn't come to rest");
}

/* ---- a child ---------------------------------------------------------------------------------------------------- */

/* What happened, in order: "+a" a started, "-a" it ended. */
static char story[4096];
static uint32_t fail_next[N_CHILDREN]; /* inits that will fail, by child */

static void tell(char sign, char who)
{
	size_t n = strlen(story);

	if (n + 3 < sizeof(story))
		snprintf(story + n, sizeof(story) - n, "%c%c ", sign, who);
}

#define CHILD_STATES(X) X(ALIVE)
STATES(child, CHILD_STATES);

struct child_args {
	char who;
	uint32_t dies_after_ms; /* 0: lives */
	bool stubborn; /* doesn't end when told to */
};

static enum status child_init(struct actor *self, const void *args, size_t size)
{
	struct child_args *a = actor_state(self);

	(void)size;
	memcpy(a, args, sizeof(*a));
	if (fail_next[a->who - 'a']) {
		fail_next[a->who - 'a']--;
		tell('!', a->who);
		return actor_fail(self, E_IO, "no luck");
	}
	tell('+', a->who);
	if (a->dies_after_ms)
		actor_timer(self, 1, a->dies_after_ms);
	return OK;
}

static void child_exit(struct actor *self, enum status why)
{
	(void)why;
	if (strchr("abc", ((struct child_args *)actor_state(self))->who))
		tell('-', ((struct child_args *)actor_state(self))->who);
}

static enum status child_on_timer(struct actor *self, struct msg *m)
{
	(void)m;
	return actor_fail(self, E_CRASHED, "time to go");
}

static enum status child_on_exit(struct actor *self, struct msg *m)
{
	const struct child_args *a = actor_state(self);

	return a->stubborn ? OK : (enum status)exit_signal_of(m)->status;
}

static const struct rule child_rules[] = {
	{STATE_ANY, TIMER, child_on_timer},
	{STATE_ANY, EXIT, child_on_exit},
};

static const struct behaviour child_behaviour = {.name = "test.child",
	.state_size = sizeof(struct child_args),
	.rules = child_rules,
	.n_rules = ARRAY_LEN(child_rules),
	.states = child_state_names,
	.n_states = ARRAY_LEN(child_state_names),
	.init = child_init,
	.exit = child_exit,
	.trap_exit = true};

/* ---- a supervisor over a, b, c ------------------------------------------------------------------------------------ */

static struct child_args args[N_CHILDREN];
static struct child_spec children[N_CHILDREN];
static struct sup_spec spec;

static struct pid start(enum sup_strategy strategy)
{
	static const struct sup_spec *const pointer = &spec;
	struct spawn what = {.behaviour = &supervisor_behaviour,
		.args = &pointer,
		.args_size = sizeof(pointer),
		.name = "sup"};
	struct pid pid;

	spec.strategy = strategy;
	if (!spec.intensity)
		spec = (struct sup_spec){strategy, 3, 10000, 100, 1000, children, N_CHILDREN};
	ck_assert_int_eq(worker_spawn(workers[0], &what, &pid), OK);
	run_ms(1);
	return pid;
}

static void setup(void)
{
	static const char *const names[] = {"a", "b", "c"};

	catalog_add_core();
	catalog_add_sup();
	world_new(1);
	story[0] = '\0';
	memset(&spec, 0, sizeof(spec));
	for (int i = 0; i < N_CHILDREN; i++) {
		fail_next[i] = 0;
		args[i] = (struct child_args){.who = names[i][0]};
		children[i] = (struct child_spec){.name = names[i],
			.behaviour = &child_behaviour,
			.args = &args[i],
			.args_size = sizeof(args[i]),
			.worker = WORKER_SAME};
	}
}

static void end(const char *name, enum status why)
{
	struct pid p = worker_whereis(workers[0], name);

	ck_assert(!pid_is_none(p));
	worker_exit(workers[pid_worker(p)], p, why);
}

static bool alive(const char *name)
{
	struct pid p = worker_whereis(workers[0], name);

	return !pid_is_none(p) && worker_alive(workers[pid_worker(p)], p);
}

static void expect(const char *so_far)
{
	ck_assert_str_eq(story, so_far);
	story[0] = '\0';
}

/* ---- tests -------------------------------------------------------------------------------------------------------- */

START_TEST(children_start_in_order_and_end_in_reverse)
{
	struct pid sup = start(ONE_FOR_ONE);

	expect("+a +b +c ");
	worker_exit(workers[0], sup, E_SHUTDOWN);
	run_ms(10);
	expect("-c -b -a ");
	ck_assert(!worker_alive(workers[0], sup));
}
END_TEST

static const struct {
	enum sup_strategy strategy;
	const char *story;
} strategies[] = {
	{ONE_FOR_ONE, "-b +b "},
	{REST_FOR_ONE, "-b -c +b +c "},
	{ONE_FOR_ALL, "-b -c -a +a +b +c "},
};

START_TEST(a_death_restarts_what_the_strategy_says)
{
	struct pid sup = start(strategies[_i].strategy);

	expect("+a +b +c ");
	end("b", E_CRASHED);
	run_ms(10);
	expect(strategies[_i].story);
	ck_assert(worker_alive(workers[0], sup) && alive("a") && alive("b") && alive("c"));
}
END_TEST

START_TEST(transient_and_temporary_children_may_stay_down)
{
	children[0].restart = TRANSIENT;
	children[1].restart = TEMPORARY;
	start(ONE_FOR_ONE);
	end("a", E_NORMAL);
	end("b", E_CRASHED);
	end("c", E_NORMAL);
	run_ms(2000);
	ck_assert(!alive("a") && !alive("b") && alive("c"));
}
END_TEST

START_TEST(a_transient_child_comes_back_after_a_failure)
{
	children[0].restart = TRANSIENT;
	start(ONE_FOR_ONE);
	end("a", E_CRASHED);
	run_ms(10);
	ck_assert(alive("a"));
}
END_TEST

START_TEST(restarts_after_the_first_wait_longer_each_time)
{
	start(ONE_FOR_ONE);
	end("a", E_CRASHED);
	run_ms(1);
	ck_assert(alive("a")); /* the first at once */
	end("a", E_CRASHED);
	run_ms(95);
	ck_assert(!alive("a"));
	run_ms(10);
	ck_assert(alive("a")); /* then 100 ms */
	end("a", E_CRASHED);
	run_ms(190);
	ck_assert(!alive("a"));
	run_ms(15);
	ck_assert(alive("a")); /* then 200 ms */
	ck_assert(alive("b") && alive("c"));
}
END_TEST

START_TEST(a_quiet_time_resets_the_back_off)
{
	start(ONE_FOR_ONE);
	for (int i = 0; i < 6; i++) {
		end("a", E_CRASHED);
		run_ms(1);
		ck_assert(alive("a"));
		run_ms(11000);
	}
}
END_TEST

START_TEST(too_many_restarts_end_the_supervisor_and_all_its_children)
{
	struct pid sup;

	args[1].dies_after_ms = 5;
	sup = start(ONE_FOR_ONE);
	run_ms(5000);
	ck_assert(!worker_alive(workers[0], sup));
	ck_assert(!alive("a") && !alive("b") && !alive("c"));
	expect("+a +b +c -b +b -b +b -b +b -b -c -a "); /* 3 restarts are allowed */
}
END_TEST

START_TEST(a_child_that_cannot_start_ends_the_start_in_order)
{
	struct pid sup;

	fail_next[2] = 1;
	sup = start(ONE_FOR_ONE);
	run_ms(10);
	ck_assert(!worker_alive(workers[0], sup));
	ck_assert_ptr_nonnull(strstr(story, "+a +b !c "));
	ck_assert_ptr_nonnull(strstr(story, "-b -a "));
}
END_TEST

START_TEST(a_restart_that_fails_is_tried_again)
{
	struct pid sup = start(REST_FOR_ONE);

	fail_next[1] = 2;
	end("b", E_CRASHED);
	run_ms(1000);
	ck_assert(worker_alive(workers[0], sup) && alive("b") && alive("c"));
}
END_TEST

START_TEST(a_child_that_does_not_end_is_killed)
{
	struct pid sup;

	args[1].stubborn = true;
	children[1].shutdown_ms = 300;
	sup = start(ONE_FOR_ONE);
	worker_exit(workers[0], sup, E_SHUTDOWN);
	run_ms(250);
	ck_assert(worker_alive(workers[0], sup) && alive("a") && !alive("c"));
	run_ms(100);
	ck_assert(!worker_alive(workers[0], sup) && !alive("a") && !alive("b"));
}
END_TEST

START_TEST(a_death_during_a_sweep_widens_it)
{
	args[2].stubborn = true;
	children[2].shutdown_ms = 300;
	start(REST_FOR_ONE);
	end("b", E_CRASHED); /* c is asked to end, and takes its time */
	run_ms(10);
	end("a", E_CRASHED);
	run_ms(1000);
	expect("+a +b +c -b -a -c +a +b +c ");
}
END_TEST

START_TEST(supervisors_nest_and_failures_climb)
{
	static const struct sup_spec *inner = &spec;
	struct sup_spec outer;
	const struct sup_spec *outer_pointer = &outer;
	struct child_spec sub = {
		.name = "inner", .behaviour = &supervisor_behaviour, .subtree = inner, .worker = WORKER_SAME};
	struct spawn what = {.behaviour = &supervisor_behaviour,
		.args = &outer_pointer,
		.args_size = sizeof(outer_pointer)};
	struct pid root;

	spec = (struct sup_spec){ONE_FOR_ONE, 1, 10000, 0, 0, children, N_CHILDREN};
	outer = (struct sup_spec){ONE_FOR_ONE, 5, 10000, 10, 10, &sub, 1};
	ck_assert_int_eq(worker_spawn(workers[0], &what, &root), OK);
	run_ms(1);
	expect("+a +b +c ");
	end("a", E_CRASHED);
	run_ms(1);
	expect("-a +a ");
	end("a", E_CRASHED); /* one too many: inner gives up, outer starts it again */
	run_ms(50);
	expect("-a -c -b +a +b +c ");
	ck_assert(worker_alive(workers[0], root));
	worker_exit(workers[0], worker_whereis(workers[0], "inner"), E_KILLED);
	run_ms(100);
	ck_assert(alive("inner") && alive("a") && alive("c"));
	worker_exit(workers[0], root, E_SHUTDOWN);
	run_ms(100);
	ck_assert(!worker_alive(workers[0], root) && !alive("a") && !alive("inner"));
}
END_TEST

START_TEST(a_child_on_another_worker_starts_restarts_and_ends)
{
	struct pid sup, b;

	world_free();
	world_new(2);
	children[1].worker = 1;
	sup = start(REST_FOR_ONE);
	run_ms(10);
	expect("+a +b +c ");
	b = worker_whereis(workers[0], "b");
	ck_assert_uint_eq(pid_worker(b), 1);
	worker_exit(workers[1], b, E_CRASHED);
	run_ms(10);
	expect("-b -c +b +c ");
	worker_exit(workers[0], sup, E_SHUTDOWN);
	run_ms(100);
	expect("-c -b -a ");
	ck_assert(!worker_alive(workers[0], sup));
}
END_TEST

/* Whatever the order of deaths, a supervisor that hasn't given up has all its children up once it is quiet. */
START_TEST(any_storm_of_deaths_ends_with_all_up_or_all_down)
{
	uint64_t seed = (uint64_t)_i * 0x9e3779b97f4a7c15u + 1;
	struct pid sup;

	spec = (struct sup_spec){ONE_FOR_ONE, 1000, 100000, 5, 50, children, N_CHILDREN};
	children[_i % N_CHILDREN].shutdown_ms = 20;
	args[_i % N_CHILDREN].stubborn = _i % 2;
	sup = start((enum sup_strategy)(_i % 3));
	for (int i = 0; i < 100; i++) {
		char name[2] = "a";

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		name[0] = (char)('a' + seed % 3);
		if (seed >> 8 & 1)
			fail_next[seed % 3] += 1;
		if (alive(name))
			end(name, seed >> 9 & 1 ? E_KILLED : E_CRASHED);
		run_ms(seed >> 10 & 31);
	}
	run_ms(5000);
	ck_assert(worker_alive(workers[0], sup));
	ck_assert(alive("a") && alive("b") && alive("c"));
	worker_exit(workers[0], sup, E_SHUTDOWN);
	run_ms(1000);
	ck_assert(!worker_alive(workers[0], sup) && !alive("a") && !alive("b") && !alive("c"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("supervise");
	TCase *t = tcase_create("supervise");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, world_free);
	tcase_add_test(t, children_start_in_order_and_end_in_reverse);
	tcase_add_loop_test(t, a_death_restarts_what_the_strategy_says, 0, (int)ARRAY_LEN(strategies));
	tcase_add_test(t, transient_and_temporary_children_may_stay_down);
	tcase_add_test(t, a_transient_child_comes_back_after_a_failure);
	tcase_add_test(t, restarts_after_the_first_wait_longer_each_time);
	tcase_add_test(t, a_quiet_time_resets_the_back_off);
	tcase_add_test(t, too_many_restarts_end_the_supervisor_and_all_its_children);
	tcase_add_test(t, a_child_that_cannot_start_ends_the_start_in_order);
	tcase_add_test(t, a_restart_that_fails_is_tried_again);
	tcase_add_test(t, a_child_that_does_not_end_is_killed);
	tcase_add_test(t, a_death_during_a_sweep_widens_it);
	tcase_add_test(t, supervisors_nest_and_failures_climb);
	tcase_add_test(t, a_child_on_another_worker_starts_restarts_and_ends);
	tcase_add_loop_test(t, any_storm_of_deaths_ends_with_all_up_or_all_down, 0, 30);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
