/* Timers on the real drive: an idle worker must wake for each, whatever the moment at which it comes due. */
#include <check.h>
#include <stdlib.h>
#include <time.h>

#include "runtime/drive/drive.h"

enum { TIMERS = 3000, DEADLINE_S = 30, STOP_MS = 5000 };

#define TICKER_STATES(S) S(TICKING)
STATES(ticker, TICKER_STATES);

struct ticker {
	uint32_t fired;
};

static enum status ticker_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	actor_timer(self, 1, 1);
	return OK;
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	struct ticker *t = actor_state(self);

	(void)m;
	if (++t->fired == TIMERS)
		return E_NORMAL;
	actor_timer(self, 1, 1);
	return OK;
}

static const struct rule ticker_rules[] = {{STATE_ANY, TIMER, on_timer}};
static const struct behaviour ticker = {.name = "test.ticker",
	.state_size = sizeof(struct ticker),
	.rules = ticker_rules,
	.n_rules = ARRAY_LEN(ticker_rules),
	.states = ticker_state_names,
	.n_states = 1,
	.init = ticker_init};

static enum status boot(struct worker *w, void *arg, struct pid *root)
{
	(void)arg;
	return worker_spawn(w, &(struct spawn){.behaviour = &ticker}, root);
}

/* libuv runs due timers before it polls; a worker that then polled without a timer slept for ever. */
START_TEST(a_timer_always_wakes_a_worker_that_has_nothing_else)
{
	struct drive_spec spec = {.node = node_make(1, 1), .n_workers = 1, .boot = boot};
	struct drive *d = drive_new(&spec);
	enum status why = OK;
	struct error err;

	ck_assert_int_eq(drive_start(d, &err), OK);
	ck_assert_int_eq(drive_wait(d, &why), 0);
	ck_assert_int_eq(why, E_NORMAL);
	drive_stop(d, STOP_MS);
	drive_free(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("drive timer");
	TCase *c = tcase_create("timer");
	SRunner *r;
	int failed;

	tcase_set_timeout(c, DEADLINE_S);
	tcase_add_test(c, a_timer_always_wakes_a_worker_that_has_nothing_else);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
