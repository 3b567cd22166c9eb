/* Options: values by type, precedence, errors that name what is wrong and what was meant, help. */
#include <check.h>
#include <stdlib.h>

#include "runtime/base/check.h"
#include "runtime/base/options.h"

static const char *const modes[] = {"trust", "scram", NULL};

struct config {
	char data[OPTION_TEXT_MAX], listen[OPTION_TEXT_MAX], name[OPTION_TEXT_MAX];
	bool fast;
	int64_t workers, timeout_ms, mode, depth;
};

static const struct option table[] = {
	{.name = "data",
		.type = OPTION_PATH,
		.offset = offsetof(struct config, data),
		.initial = "~/d",
		.help = "where"},
	{.name = "listen",
		.type = OPTION_ADDRESS,
		.offset = offsetof(struct config, listen),
		.initial = "127.0.0.1:15432",
		.min = 1,
		.max = 32767,
		.help = "address of the gate"},
	{.name = "name", .type = OPTION_TEXT, .offset = offsetof(struct config, name), .help = "a name"},
	{.name = "fast", .type = OPTION_BOOL, .offset = offsetof(struct config, fast), .help = "hurry"},
	{.name = "workers",
		.type = OPTION_NUMBER,
		.offset = offsetof(struct config, workers),
		.initial = "1",
		.min = 1,
		.max = 64,
		.unit = "threads",
		.help = "threads"},
	{.name = "wait-timeout",
		.type = OPTION_DURATION,
		.offset = offsetof(struct config, timeout_ms),
		.initial = "30s",
		.min = 1,
		.max = 3600000,
		.help = "how long"},
	{.name = "auth",
		.type = OPTION_CHOICE,
		.offset = offsetof(struct config, mode),
		.choices = modes,
		.help = "how"},
	{.name = "depth",
		.type = OPTION_NUMBER,
		.offset = offsetof(struct config, depth),
		.hidden = true,
		.help = "internal"},
};
static const struct option_set set = {"prog [OPTION]...", "About.", "OPTTEST", table, ARRAY_LEN(table)};

static enum status parse(struct config *c, struct option_rest *rest, struct error *err, const char *a,
	const char *b, const char *d)
{
	const char *const words[] = {a, b, d};
	static char copies[3][256], *argv[3]; /* rest points into them */
	int n = 0;

	memset(c, 0, sizeof(*c));
	memset(rest, 0, sizeof(*rest));
	memset(err, 0, sizeof(*err));
	for (; n < 3 && words[n]; n++) {
		snprintf(copies[n], sizeof(copies[n]), "%s", words[n]);
		argv[n] = copies[n];
	}
	if (options_defaults(&set, c, err))
		return E_INVALID;
	return options_parse(&set, n, argv, false, c, rest, err);
}

START_TEST(defaults_apply_and_a_tilde_is_home)
{
	struct config c;
	struct option_rest rest;
	struct error err;

	setenv("HOME", "/home/me", 1);
	ck_assert_int_eq(parse(&c, &rest, &err, NULL, NULL, NULL), OK);
	ck_assert_str_eq(c.data, "/home/me/d");
	ck_assert_str_eq(c.listen, "127.0.0.1:15432");
	ck_assert_int_eq(c.workers, 1);
	ck_assert_int_eq(c.timeout_ms, 30000);
	ck_assert_int_eq(c.mode, -1);
	ck_assert(!c.fast);
}
END_TEST

START_TEST(the_command_line_wins_over_the_environment)
{
	struct config c;
	struct option_rest rest;
	struct error err;

	setenv("OPTTEST_WORKERS", "3", 1);
	setenv("OPTTEST_WAIT_TIMEOUT", "250ms", 1);
	ck_assert_int_eq(parse(&c, &rest, &err, "--workers", "5", NULL), OK);
	ck_assert_int_eq(c.workers, 5);
	ck_assert_int_eq(c.timeout_ms, 250);
	setenv("OPTTEST_WORKERS", "many", 1);
	ck_assert_int_eq(parse(&c, &rest, &err, NULL, NULL, NULL), E_INVALID);
	ck_assert_ptr_nonnull(strstr(err.text, "OPTTEST_WORKERS"));
	unsetenv("OPTTEST_WORKERS");
	unsetenv("OPTTEST_WAIT_TIMEOUT");
}
END_TEST

START_TEST(values_take_both_forms_and_words_are_kept)
{
	struct config c;
	struct option_rest rest;
	struct error err;

	ck_assert_int_eq(parse(&c, &rest, &err, "--fast", "one", "--auth=scram"), OK);
	ck_assert(c.fast);
	ck_assert_int_eq(c.mode, 1);
	ck_assert_uint_eq(rest.n, 1);
	ck_assert_str_eq(rest.args[0], "one");
	ck_assert_int_eq(parse(&c, &rest, &err, "--no-fast", "--listen", "[::1]:5"), OK);
	ck_assert(!c.fast);
	ck_assert_int_eq(parse(&c, &rest, &err, "--", "--fast", NULL), OK);
	ck_assert_str_eq(rest.args[0], "--fast");
	ck_assert_int_eq(parse(&c, &rest, &err, "--help", "--bogus", NULL), OK);
	ck_assert(rest.help);
}
END_TEST

static const struct {
	const char *a, *b, *says;
} wrong[] = {
	{"--lisen", "x", "did you mean --listen?"},
	{"--workrs=2", NULL, "did you mean --workers?"},
	{"--frobnicate", NULL, "unknown option --frobnicate"},
	{"--workers", "0", "a number of threads from 1 to 64"},
	{"--workers", "2x", "\"2x\" for --workers"},
	{"--workers", "99999999999999999999", "--workers"},
	{"--workers", NULL, "needs a value"},
	{"--wait-timeout", "10", "10s"},
	{"--wait-timeout", "2h", "from 1ms to 1h"},
	{"--listen", "15432", "HOST:PORT"},
	{"--listen", "::1:15432", "HOST:PORT"},
	{"--listen", "localhost:40000", "from 1 to 32767"},
	{"--auth", "md5", "one of trust, scram"},
	{"--fast=perhaps", NULL, "yes or no"},
	{"-x", NULL, "unknown option -x"},
};

START_TEST(errors_name_option_value_and_what_is_allowed)
{
	struct config c;
	struct option_rest rest;
	struct error err;

	ck_assert_int_eq(parse(&c, &rest, &err, wrong[_i].a, wrong[_i].b, NULL), E_INVALID);
	ck_assert_msg(strstr(err.text, wrong[_i].says), "%s %s: %s", wrong[_i].a, wrong[_i].b, err.text);
}
END_TEST

START_TEST(a_text_that_is_too_long_is_refused)
{
	static char value[OPTION_TEXT_MAX + 20] = "--name=";
	char *argv[] = {value};
	struct config c = {0};
	struct option_rest rest = {0};
	struct error err = {0};

	memset(value + 7, 'x', OPTION_TEXT_MAX);
	ck_assert_int_eq(options_parse(&set, 1, argv, false, &c, &rest, &err), E_INVALID);
}
END_TEST

START_TEST(help_shows_every_option_with_its_default)
{
	struct writer out;

	writer_init(&out, OPTION_HELP_MAX);
	options_help(&set, &out);
	writer_u8(&out, 0);
	ck_assert(!out.failed);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		char flag[64];

		snprintf(flag, sizeof(flag), "--%s ", table[i].name);
		ck_assert_int_eq(strstr((char *)out.buf->data, flag) != NULL, !table[i].hidden);
	}
	ck_assert_ptr_nonnull(strstr((char *)out.buf->data, "(127.0.0.1:15432)"));
	ck_assert_ptr_nonnull(strstr((char *)out.buf->data, "trust|scram"));
	ck_assert_ptr_nonnull(strstr((char *)out.buf->data, "OPTTEST_NAME"));
	writer_release(&out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("options");
	TCase *t = tcase_create("options");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, defaults_apply_and_a_tilde_is_home);
	tcase_add_test(t, the_command_line_wins_over_the_environment);
	tcase_add_test(t, values_take_both_forms_and_words_are_kept);
	tcase_add_loop_test(t, errors_name_option_value_and_what_is_allowed, 0, (int)ARRAY_LEN(wrong));
	tcase_add_test(t, a_text_that_is_too_long_is_refused);
	tcase_add_test(t, help_shows_every_option_with_its_default);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
