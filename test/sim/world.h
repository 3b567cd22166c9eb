/*
 * What the simulator's tests share: a few messages, and Check loops over seeds. SIM_SEED=n runs that seed only,
 * SIM_SEEDS=n the first n. One test file is one program, so everything here is static.
 */
#ifndef TEST_SIM_WORLD_H
#define TEST_SIM_WORLD_H

#include <check.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/core/supervise.h"
#include "runtime/sim/sim.h"

#define PING_FIELDS(F, S)                                                                                    \
	F(S, u64, n, 0)                                                                                      \
	F(S, str, text, 40)                                                                                  \
	F(S, bin, blob, 65536)
#define PONG_FIELDS(F, S) F(S, u64, n, 0)
#define TELL_FIELDS(F, S) F(S, u64, n, 0)
#define LATEST_FIELDS(F, S) F(S, u64, n, 0)
#define ALL_TYPES_FIELDS(F, S)                                                                               \
	F(S, u8, a, 0)                                                                                       \
	F(S, u16, b, 0)                                                                                      \
	F(S, u32, c, 0)                                                                                      \
	F(S, u64, d, 0)                                                                                      \
	F(S, i64, e, 0)                                                                                      \
	F(S, pid, f, 0)                                                                                      \
	F(S, str, g, 20)                                                                                     \
	F(S, bin, h, 300)                                                                                    \
	F(S, bin, i, 70000)
#define WORLD_MESSAGES(M)                                                                                    \
	M(PING, ping, 0x7f01, MSG_ASK)                                                                       \
	M(PONG, pong, 0x7f02, MSG_PLAIN)                                                                     \
	M(TELL, tell, 0x7f03, MSG_PLAIN)                                                                     \
	M(LATEST, latest, 0x7f04, MSG_STATE)                                                                 \
	M(ALL_TYPES, all_types, 0x7f05, MSG_PLAIN)

MSG_FOLDER(world, WORLD_MESSAGES);
MSG_FOLDER_DEFINE(world, WORLD_MESSAGES);

#define ONE_STATE(X) X(ALIVE)
STATES(one, ONE_STATE);

#define BEHAVIOUR(name_, state_, rules_, ...)                                                                \
	static const struct behaviour name_##_behaviour = {.name = #name_,                                   \
		.state_size = (state_),                                                                      \
		.rules = rules_,                                                                             \
		.n_rules = ARRAY_LEN(rules_),                                                                \
		.states = one_state_names,                                                                   \
		.n_states = 1,                                                                               \
		__VA_ARGS__}

/* An assertion whose failure says how to see it again. */
#define sim_assert(s, cond)                                                                                  \
	do {                                                                                                 \
		if (!(cond)) /* ck_assert makes a system call even when it holds */                          \
			ck_abort_msg("%s; replay: %s", #cond, sim_replay(s));                                \
	} while (0)

__attribute__((unused)) static int world_env(const char *name, int otherwise)
{
	const char *text = getenv(name);

	return text && text[0] ? (int)strtol(text, NULL, 10) : otherwise;
}

__attribute__((unused)) static uint64_t world_value(const void *args)
{
	uint64_t v;

	memcpy(&v, args, sizeof(v));
	return v;
}

struct world_test {
	const TTest *test;
	int seeds; /* 0: once, without a seed */
};

__attribute__((unused)) static int world_main(const char *name, const struct world_test *tests, size_t n)
{
	Suite *suite = suite_create(name);
	SRunner *runner;
	int failed, one = world_env("SIM_SEED", -1), cap = world_env("SIM_SEEDS", 0);

	log_set_level(world_env("SIM_LOG", 0) ? LOG_DEBUG_LEVEL : LOG_ERROR_LEVEL);
	if (!world_env("SIM_LOG", 0))
		log_set_level((enum log_level) - 1);
	catalog_add_core();
	catalog_add_sup();
	catalog_add_world();
	for (size_t i = 0; i < n; i++) {
		TCase *tc = tcase_create(tests[i].test->name);
		int seeds = cap && tests[i].seeds ? cap : tests[i].seeds;

		tcase_set_timeout(tc, 120);
		if (!seeds)
			tcase_add_test(tc, tests[i].test);
		else if (one >= 0)
			tcase_add_loop_test(tc, tests[i].test, one, one + 1);
		else
			tcase_add_loop_test(tc, tests[i].test, 1, seeds + 1);
		suite_add_tcase(suite, tc);
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
