/* The first packet: what is asked for, Postgres's refusals word for word, options split as Postgres does. */
#include <check.h>
#include <stdlib.h>

#include "actors/pg/startup.h"
#include "actors/pg/wire_build.h"
#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

static struct writer w;
static struct startup s;
static struct error err;

/* Reads a packet made of a version or code and a body. */
static enum status read_packet(uint32_t code, const char *body, uint32_t n)
{
	writer_release(&w);
	writer_init(&w, 20000);
	writer_u32(&w, n + 8);
	writer_u32(&w, code);
	writer_put(&w, body, n);
	return startup_read(w.buf->data, w.len, &s, &err);
}

#define READ(code, body) read_packet((code), (body), (uint32_t)(sizeof(body) - 1))
#define V(major, minor) ((uint32_t)(major) << 16 | (minor))

START_TEST(requests_without_a_body_are_told_apart)
{
	ck_assert_int_eq(READ(WIRE_SSL_CODE, ""), OK);
	ck_assert_int_eq(s.kind, STARTUP_SSL);
	ck_assert_int_eq(READ(WIRE_GSSENC_CODE, ""), OK);
	ck_assert_int_eq(s.kind, STARTUP_GSSENC);
}
END_TEST

static const struct {
	uint32_t secret_len;
	enum status want;
} cancels[] = {{0, E_PROTOCOL}, {3, E_PROTOCOL}, {4, OK}, {32, OK}, {256, OK}, {257, E_PROTOCOL}};

START_TEST(a_cancel_has_a_secret_of_4_to_256_bytes)
{
	char body[4 + 257] = {0, 0, 0, 9};

	ck_assert_int_eq(read_packet(WIRE_CANCEL_CODE, body, 4 + cancels[_i].secret_len), cancels[_i].want);
	if (cancels[_i].want)
		return;
	ck_assert_int_eq(s.kind, STARTUP_CANCEL);
	ck_assert_uint_eq(s.pid, 9);
	ck_assert_uint_eq(s.secret_len, cancels[_i].secret_len);
}
END_TEST

START_TEST(a_session_gives_user_database_and_settings_in_order)
{
	const char *name, *value;
	uint32_t pos = 0;

	ck_assert_int_eq(
		READ(V(3, 0),
			"user\0u\0DateStyle\0ISO\0database\0d\0options\0-c a=b\0application_name\0psql\0\0"),
		OK);
	ck_assert_int_eq(s.kind, STARTUP_SESSION);
	ck_assert_str_eq(s.user, "u");
	ck_assert_str_eq(s.database, "d");
	ck_assert_str_eq(s.options, "-c a=b");
	ck_assert_str_eq(s.application_name, "psql");
	ck_assert(!s.negotiate);
	ck_assert(startup_next(&s, false, &pos, &name, &value));
	ck_assert_str_eq(name, "DateStyle");
	ck_assert_str_eq(value, "ISO");
	ck_assert(startup_next(&s, false, &pos, &name, &value));
	ck_assert_str_eq(name, "application_name");
	ck_assert(!startup_next(&s, false, &pos, &name, &value));
}
END_TEST

START_TEST(the_database_is_the_user_s_name_by_default)
{
	ck_assert_int_eq(READ(V(3, 0), "user\0u\0\0"), OK);
	ck_assert_str_eq(s.database, "u");
}
END_TEST

START_TEST(long_names_are_cut_to_63_bytes)
{
	char body[200] = "user";

	memset(body + 5, 'x', 100);
	ck_assert_int_eq(read_packet(V(3, 0), body, 5 + 101 + 1), OK);
	ck_assert_uint_eq(strlen(s.user), 63);
}
END_TEST

static const struct {
	uint32_t version;
	bool option;
	uint32_t minor;
	bool negotiate;
} minors[] = {
	{V(3, 0), false, 0, false},
	{V(3, 2), false, 2, false},
	{V(3, 3), false, 2, true},
	{V(3, 9999), false, 2, true},
	{V(3, 0), true, 0, true},
};

START_TEST(newer_minors_and_unknown_options_are_negotiated)
{
	const char *name, *value;
	uint32_t pos = 0;

	if (minors[_i].option)
		ck_assert_int_eq(READ(minors[_i].version, "user\0u\0_pq_.x\0y\0\0"), OK);
	else
		ck_assert_int_eq(READ(minors[_i].version, "user\0u\0\0"), OK);
	ck_assert_uint_eq(s.minor, minors[_i].minor);
	ck_assert_int_eq(s.negotiate, minors[_i].negotiate);
	ck_assert_int_eq(startup_next(&s, true, &pos, &name, &value), minors[_i].option);
	if (minors[_i].option)
		ck_assert_str_eq(name, "_pq_.x");
	pos = 0;
	ck_assert(!startup_next(&s, false, &pos, &name, &value));
}
END_TEST

#define LAYOUT "invalid startup packet layout: expected terminator as last byte"
#define NO_USER "no PostgreSQL user name specified in startup packet"

static const struct {
	uint32_t version;
	const char *body;
	uint32_t n;
	const char *sqlstate, *text;
} refusals[] = {
	{V(2, 0), "", 0, "0A000", "unsupported frontend protocol 2.0: server supports 3.0 to 3.2"},
	{V(4, 7), "", 0, "0A000", "unsupported frontend protocol 4.7: server supports 3.0 to 3.2"},
	{V(3, 0), "", 0, "08P01", LAYOUT},
	{V(3, 0), "\0", 1, "28000", NO_USER},
	{V(3, 0), "user\0\0\0", 7, "28000", NO_USER},
	{V(3, 0), "user\0u\0", 7, "08P01", LAYOUT},
	{V(3, 0), "user\0u", 6, "08P01", LAYOUT},
	{V(3, 0), "user\0u\0\0x", 9, "08P01", LAYOUT},
	{V(3, 0), "user\0", 5, "08P01", LAYOUT},
	{V(3, 0), "user\0u\0replication\0maybe\0\0", 26, "22023",
		"invalid value for parameter \"replication\": \"maybe\""},
};

START_TEST(refusals_are_postgres_s_word_for_word)
{
	ck_assert_int_ne(read_packet(refusals[_i].version, refusals[_i].body, refusals[_i].n), OK);
	ck_assert_str_eq(err.sqlstate, refusals[_i].sqlstate);
	ck_assert_str_eq(err.text, refusals[_i].text);
}
END_TEST

START_TEST(replication_is_off_physical_or_logical)
{
	ck_assert_int_eq(READ(V(3, 0), "user\0u\0replication\0database\0\0"), OK);
	ck_assert_int_eq(s.replication, STARTUP_LOGICAL);
	ck_assert_str_eq(s.database, "u");
	ck_assert_int_eq(READ(V(3, 0), "user\0u\0replication\0ON\0\0"), OK);
	ck_assert_int_eq(s.replication, STARTUP_PHYSICAL);
	ck_assert_str_eq(s.database, "");
	ck_assert_int_eq(READ(V(3, 0), "user\0u\0replication\0of\0\0"), OK);
	ck_assert_int_eq(s.replication, STARTUP_NO_REPLICATION);
}
END_TEST

START_TEST(a_packet_is_at_least_8_and_at_most_10004_bytes)
{
	uint8_t p[4];
	uint32_t len;

	store_be32(p, 8);
	ck_assert_int_eq(startup_peek(p, 3, &len), E_AGAIN);
	ck_assert_int_eq(startup_peek(p, 4, &len), OK);
	store_be32(p, 7);
	ck_assert_int_eq(startup_peek(p, 4, &len), E_PROTOCOL);
	store_be32(p, 10004);
	ck_assert_int_eq(startup_peek(p, 4, &len), OK);
	store_be32(p, 10005);
	ck_assert_int_eq(startup_peek(p, 4, &len), E_PROTOCOL);
}
END_TEST

static const struct {
	const char *options, *want; /* name=value; for each */
} splits[] = {
	{"", ""},
	{"  ", ""},
	{"-c a=b", "a=b;"},
	{"-ca=b --c-d=e=f", "a=b;c_d=e=f;"},
	{"-c a=b\\ c\\\\d", "a=b c\\d;"},
	{"-fs -f i -e -S 10", "enable_seqscan=false;enable_indexscan=false;datestyle=euro;work_mem=10;"},
	{"-OP", "allow_system_table_mods=true;ignore_system_indexes=true;"},
	{"\t-c\na=", "a=;"},
	{"-c a", "!-c a requires a value"},
	{"--a", "!--a requires a value"},
	{"-c", "!invalid command-line argument for server process: -c"},
	{"x", "!invalid command-line argument for server process: x"},
	{"-fz", "!invalid command-line argument for server process: -fz"},
	{"-\\", "!invalid command-line argument for server process: -"},
};

START_TEST(options_are_split_as_postgres_does)
{
	struct startup_setting *settings;
	char got[ERROR_TEXT_MAX + 2] = "";
	struct arena a;
	uint32_t n;

	arena_init(&a, 1 << 20);
	if (startup_split_options(splits[_i].options, &a, &settings, &n, &err)) {
		snprintf(got, sizeof(got), "!%s", err.text);
	} else {
		for (uint32_t i = 0, at = 0; i < n; i++)
			at += (uint32_t)snprintf(
				got + at, sizeof(got) - at, "%s=%s;", settings[i].name, settings[i].value);
	}
	ck_assert_str_eq(got, splits[_i].want);
	arena_release(&a);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pg_startup");
	TCase *t = tcase_create("pg_startup");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_test(t, requests_without_a_body_are_told_apart);
	tcase_add_loop_test(t, a_cancel_has_a_secret_of_4_to_256_bytes, 0, (int)ARRAY_LEN(cancels));
	tcase_add_test(t, a_session_gives_user_database_and_settings_in_order);
	tcase_add_test(t, the_database_is_the_user_s_name_by_default);
	tcase_add_test(t, long_names_are_cut_to_63_bytes);
	tcase_add_loop_test(t, newer_minors_and_unknown_options_are_negotiated, 0, (int)ARRAY_LEN(minors));
	tcase_add_loop_test(t, refusals_are_postgres_s_word_for_word, 0, (int)ARRAY_LEN(refusals));
	tcase_add_test(t, replication_is_off_physical_or_logical);
	tcase_add_test(t, a_packet_is_at_least_8_and_at_most_10004_bytes);
	tcase_add_loop_test(t, options_are_split_as_postgres_does, 0, (int)ARRAY_LEN(splits));
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	writer_release(&w);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
