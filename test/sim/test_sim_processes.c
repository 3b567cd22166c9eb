/* Processes of the model: exits, signals, adoption after a crash. Work: lanes in order, results, crashes. */
#include <signal.h>

#include "test/sim/world.h"

enum { PIECES = 30, LANES = 3 };

static struct {
	struct sim *s;
	struct sim_run run;
	bool die_with_node;
	const char *path;
	enum status started;
	char text[ERROR_TEXT_MAX], output[64];
	int32_t os_pid, adopt;
	uint32_t exits;
	int64_t code, signal;
	uint64_t ended_us;
	/* work */
	uint32_t runs, done, failed, next[LANES];
} world;

static void program(
	struct sim *s, uint16_t node, const struct proc_start *what, struct sim_run *run, void *arg)
{
	(void)s, (void)node, (void)what, (void)arg;
	*run = world.run;
}

static enum status keeper_init(struct actor *self, const void *args, size_t size)
{
	const char *const argv[] = {world.path, "-D", "x", NULL};
	struct proc_start what = {.argv = argv, .uid = -1, .gid = -1, .die_with_node = world.die_with_node};
	uint64_t *proc = actor_state(self);
	struct error err = {0};

	(void)args, (void)size;
	if (world.adopt)
		world.started = proc_adopt(self, world.adopt, proc);
	else
		world.started = proc_start(self, &what, proc, &err);
	snprintf(world.text, sizeof(world.text), "%s", err.text);
	if (world.started == OK)
		world.os_pid = proc_os_pid(self, *proc);
	return OK;
}

static enum status keeper_told(struct actor *self, struct msg *m)
{
	uint64_t *proc = actor_state(self);

	(void)proc_signal(self, *proc, (int)tell_of(m)->n);
	return OK;
}

static enum status keeper_exited(struct actor *self, struct msg *m)
{
	uint64_t *proc = actor_state(self);

	sim_assert(world.s, proc_exited_of(m)->proc == *proc);
	sim_assert(world.s, proc_os_pid(self, *proc) == 0);
	sim_assert(world.s, proc_signal(self, *proc, SIGTERM) == E_CLOSED);
	world.exits++;
	world.code = proc_exited_of(m)->code;
	world.signal = proc_exited_of(m)->signal;
	world.ended_us = sim_now_us(world.s);
	return OK;
}

static enum status keeper_output(struct actor *self, struct msg *m)
{
	const struct slice *b = &proc_output_of(m)->bytes;

	(void)self;
	memcpy(world.output, slice_data(b), b->len < 63 ? b->len : 63);
	return OK;
}

static const struct rule keeper_rules[] = {{STATE_ANY, TELL, keeper_told},
	{STATE_ANY, PROC_EXITED, keeper_exited}, {STATE_ANY, PROC_OUTPUT, keeper_output}};
BEHAVIOUR(keeper, sizeof(uint64_t), keeper_rules, .init = keeper_init);

static struct sim *start(int seed)
{
	struct sim_spec spec = {.seed = (uint64_t)seed, .n_nodes = 2, .n_workers = 1};

	memset(&world, 0, sizeof(world));
	world.path = "/bin/postgres";
	world.run = (struct sim_run){.run_us = UINT64_MAX, .stop_code = -1};
	world.s = sim_new(&spec);
	sim_program(world.s, "/bin/postgres", program, NULL);
	return world.s;
}

static struct pid keep(struct sim *s)
{
	struct pid p = sim_spawn(s, 1, 0, &(struct spawn){.behaviour = &keeper_behaviour});

	sim_run_for(s, 1000);
	return p;
}

static void send_signal(struct sim *s, struct pid keeper, int signal)
{
	struct worker *w = sim_worker(s, 1, 0);
	struct msg *m = worker_msg_new(w, TELL);

	tell_of(m)->n = (uint64_t)signal;
	m->to = keeper;
	worker_deliver(w, m);
}

START_TEST(a_process_runs_its_time_and_tells_its_code)
{
	struct sim *s = start(_i);

	world.run = (struct sim_run){.run_us = 5000000, .code = 3, .output = "ready\n"};
	keep(s);
	sim_assert(s, world.started == OK && world.os_pid > 0);
	sim_run_for(s, 10000000);
	sim_assert(s, world.exits == 1 && world.code == 3 && world.signal == 0);
	sim_assert(s, world.ended_us >= 5000000 && world.ended_us < 5001000);
	sim_assert(s, strcmp(world.output, "ready\n") == 0);
	sim_free(s);
}
END_TEST

START_TEST(a_program_nobody_registered_does_not_start)
{
	struct sim *s = start(_i);

	world.path = "/bin/nothing";
	keep(s);
	sim_assert(s, world.started == E_NOT_FOUND && strstr(world.text, "/bin/nothing"));
	world.path = "/bin/postgres";
	sim_fault_nth(s, F_PROC_START_FAILS, 1);
	keep(s);
	sim_assert(s, world.started == E_IO && sim_fault_hits(s, F_PROC_START_FAILS) == 1);
	keep(s);
	sim_assert(s, world.started == OK);
	sim_free(s);
}
END_TEST

START_TEST(signals_end_a_process_as_its_program_says)
{
	struct sim *s = start(_i);
	struct pid k;

	world.run = (struct sim_run){.run_us = UINT64_MAX, .stop_us = 2000000, .stop_code = 0};
	k = keep(s);
	send_signal(s, k, SIGHUP);
	send_signal(s, k, SIGTERM);
	sim_run_for(s, 1900000);
	sim_assert(s, world.exits == 0);
	sim_run_for(s, 1000000);
	sim_assert(s, world.exits == 1 && world.code == 0 && world.signal == 0);

	world.run = (struct sim_run){.run_us = UINT64_MAX, .ignores_term = true};
	k = keep(s);
	send_signal(s, k, SIGTERM);
	sim_run_for(s, 10000000);
	sim_assert(s, world.exits == 1);
	send_signal(s, k, SIGKILL);
	sim_run_for(s, 1000000);
	sim_assert(s, world.exits == 2 && world.signal == SIGKILL);
	sim_free(s);
}
END_TEST

START_TEST(a_stopped_process_stands_still_until_it_continues)
{
	struct sim *s = start(_i);
	struct pid k;

	world.run = (struct sim_run){.run_us = 1000000};
	k = keep(s);
	send_signal(s, k, SIGSTOP);
	sim_run_for(s, 60000000);
	sim_assert(s, world.exits == 0);
	send_signal(s, k, SIGCONT);
	sim_run_for(s, 900000);
	sim_assert(s, world.exits == 0);
	sim_run_for(s, 200000);
	sim_assert(s, world.exits == 1);
	sim_free(s);
}
END_TEST

START_TEST(a_process_that_outlives_its_node_can_be_adopted)
{
	struct sim *s = start(_i);
	int32_t os_pid;

	keep(s);
	os_pid = world.os_pid;
	sim_crash_node(s, 1);
	sim_run_for(s, 1000000);
	sim_assert(s, sim_process_alive(s, os_pid));
	sim_restart_node(s, 1);
	world.adopt = os_pid;
	keep(s);
	sim_assert(s, world.started == OK);
	sim_assert(s, sim_kill(s, os_pid, SIGKILL));
	sim_run_for(s, 1000000);
	sim_assert(s, world.exits == 1 && world.code == -1);
	world.adopt = os_pid;
	keep(s);
	sim_assert(s, world.started == E_NOT_FOUND);
	sim_free(s);
}
END_TEST

START_TEST(a_process_that_should_die_with_its_node_or_actor_does)
{
	struct sim *s = start(_i);
	struct pid k;

	world.die_with_node = true;
	k = keep(s);
	sim_exit(s, k, E_SHUTDOWN);
	sim_run_for(s, 1000000);
	sim_assert(s, !sim_process_alive(s, world.os_pid));
	keep(s);
	sim_crash_node(s, 1);
	sim_run_for(s, 1000000);
	sim_assert(s, !sim_process_alive(s, world.os_pid));
	sim_assert(s, world.exits == 0);
	sim_free(s);
}
END_TEST

/* ---- work ---- */

struct job {
	uint32_t lane, number;
};

static enum status job_run(const void *args, size_t size, struct writer *result)
{
	struct job j;

	ck_assert_uint_eq(size, sizeof(j));
	memcpy(&j, args, sizeof(j));
	world.runs++;
	if (j.lane) {
		sim_assert(world.s, world.next[j.lane] <= j.number); /* in order; failed ones are left out */
		world.next[j.lane] = j.number + 1;
	}
	writer_put(result, &j, sizeof(j));
	return OK;
}

static enum status worker_init(struct actor *self, const void *args, size_t size)
{
	(void)args, (void)size;
	for (uint32_t i = 0; i < PIECES; i++) {
		struct job j = {.lane = i % LANES, .number = i};

		work_run(self,
			&(struct work){.fn = job_run, .args = &j, .args_size = sizeof(j), .lane = j.lane});
	}
	return OK;
}

static enum status worker_done(struct actor *self, struct msg *m)
{
	struct work_done *w = work_done_of(m);

	(void)self;
	world.done++;
	world.failed += w->status != OK;
	sim_assert(world.s, w->status != OK || w->result.len == sizeof(struct job));
	return OK;
}

static const struct rule labourer_rules[] = {{STATE_ANY, WORK_DONE, worker_done}};
BEHAVIOUR(labourer, 0, labourer_rules, .init = worker_init);

START_TEST(work_is_done_once_and_in_order_within_its_lane)
{
	struct sim *s = start(_i);

	sim_fault(s, F_WORK_SLOW, 100000);
	sim_fault(s, F_WORK_FAILS, _i % 2 ? 100000 : 0);
	sim_spawn(s, 1, 0, &(struct spawn){.behaviour = &labourer_behaviour});
	sim_assert(s, world.done == 0);
	sim_run_for(s, 10000000);
	sim_assert(s, world.done == PIECES && world.runs + world.failed == PIECES);
	sim_assert(s, world.failed == sim_fault_hits(s, F_WORK_FAILS));
	sim_assert(s, sim_handles(s) == 0);
	sim_free(s);
}
END_TEST

START_TEST(work_whose_actor_is_gone_still_runs_and_tells_nobody)
{
	struct sim *s = start(_i);

	sim_exit(s, sim_spawn(s, 1, 0, &(struct spawn){.behaviour = &labourer_behaviour}), E_SHUTDOWN);
	sim_run_for(s, 10000000);
	sim_assert(s, world.runs == PIECES && world.done == 0);
	sim_spawn(s, 1, 0, &(struct spawn){.behaviour = &labourer_behaviour});
	memset(world.next, 0, sizeof(world.next));
	sim_crash_node(s, 1);
	sim_run_for(s, 10000000);
	sim_assert(s, world.runs == 2 * PIECES && world.done == 0);
	sim_free(s);
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {
		{a_process_runs_its_time_and_tells_its_code, 5},
		{a_program_nobody_registered_does_not_start, 5},
		{signals_end_a_process_as_its_program_says, 5},
		{a_stopped_process_stands_still_until_it_continues, 5},
		{a_process_that_outlives_its_node_can_be_adopted, 5},
		{a_process_that_should_die_with_its_node_or_actor_does, 5},
		{work_is_done_once_and_in_order_within_its_lane, 20},
		{work_whose_actor_is_gone_still_runs_and_tells_nobody, 20},
	};

	return world_main("sim processes", tests, ARRAY_LEN(tests));
}
