/* Frames, the cursor, readers and builders of the protocol: what one writes the other reads; what is broken is refused. */
#include <check.h>
#include <stdlib.h>

#include "actors/pg/pgerror.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "runtime/base/check.h"

#define BODY(w) ((w).buf->data + WIRE_HEADER), ((w).len - WIRE_HEADER)
#define B(text) ((const uint8_t *)(text)), (uint32_t)(sizeof(text) - 1)

static const struct {
	const char *bytes;
	uint32_t n, max_len;
	enum status want;
	uint32_t len;
} frames[] = {
	{"Q\0\0\0", 4, 100, E_AGAIN, 0},
	{"Q\0\0\0\3", 5, 100, E_PROTOCOL, 0},
	{"Q\0\0\0\4", 5, 100, OK, 5},
	{"Q\0\0\0\143", 5, 100, OK, 100},
	{"Q\0\0\0\144", 5, 100, E_LIMIT, 101},
	{"Q\177\377\377\377", 5, UINT32_MAX, OK, 1U << 31},
	{"Q\200\0\0\0", 5, UINT32_MAX, E_PROTOCOL, 0},
	{"Q\377\377\377\377", 5, UINT32_MAX, E_PROTOCOL, 0},
};

START_TEST(a_frame_header_gives_its_length_or_why_not)
{
	struct wire_frame f = {0};

	ck_assert_int_eq(
		wire_frame_peek((const uint8_t *)frames[_i].bytes, frames[_i].n, frames[_i].max_len, &f),
		frames[_i].want);
	ck_assert_uint_eq(f.len, frames[_i].len);
}
END_TEST

START_TEST(a_cursor_that_failed_gives_nothing_more)
{
	struct wire_cursor c = wire_cursor("ab", 2);

	ck_assert_int_eq(wire_get_i32(&c), 0);
	ck_assert_uint_eq(wire_get_u8(&c), 0);
	ck_assert_str_eq(wire_get_cstring(&c), "");
	ck_assert_int_eq(wire_cursor_end(&c), E_PROTOCOL);
}
END_TEST

START_TEST(a_cursor_with_bytes_left_is_no_end)
{
	struct wire_cursor c = wire_cursor("ab", 2);

	ck_assert_uint_eq(wire_get_u8(&c), 'a');
	ck_assert_int_eq(wire_cursor_end(&c), E_PROTOCOL);
	ck_assert_uint_eq(wire_get_u8(&c), 'b');
	ck_assert_int_eq(wire_cursor_end(&c), OK);
}
END_TEST

START_TEST(what_a_client_sends_is_read_back)
{
	static const uint32_t types[] = {23, 25};
	static const char *const values[] = {"1", NULL};
	struct wire_parse parse;
	struct wire_bind bind;
	struct wire_target target;
	struct wire_execute execute;
	struct writer w;

	writer_init(&w, 1000);
	wire_put_parse(&w, "s", "select $1", 9, types, 2);
	ck_assert_int_eq(wire_read_parse(BODY(w), &parse), OK);
	ck_assert_str_eq(parse.name, "s");
	ck_assert_str_eq(parse.query, "select $1");
	ck_assert_uint_eq(parse.query_len, 9);
	ck_assert_uint_eq(parse.n_types, 2);
	ck_assert_uint_eq(parse.types[7], 25);
	writer_release(&w);
	wire_put_bind(&w, "p", "s", values, 2);
	ck_assert_int_eq(wire_read_bind(BODY(w), &bind), OK);
	ck_assert_int_eq(wire_check_bind(BODY(w)), OK);
	ck_assert_str_eq(bind.portal, "p");
	ck_assert_str_eq(bind.statement, "s");
	ck_assert_uint_eq(bind.rest_off, 4);
	ck_assert_int_eq(wire_check_bind(w.buf->data + WIRE_HEADER, w.len - WIRE_HEADER - 1), E_PROTOCOL);
	writer_release(&w);
	wire_put_describe(&w, 'S', "s");
	ck_assert_int_eq(wire_read_target(BODY(w), &target), OK);
	ck_assert_int_eq(target.kind, 'S');
	writer_release(&w);
	wire_put_execute(&w, "p", 7);
	ck_assert_int_eq(wire_read_execute(BODY(w), &execute), OK);
	ck_assert_int_eq(execute.max_rows, 7);
	writer_release(&w);
}
END_TEST

START_TEST(what_a_server_sends_is_read_back)
{
	static const char *const mechanisms[] = {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"};
	struct wire_auth auth;
	struct wire_key key;
	struct wire_parameter parameter;
	struct writer w;
	char ready;

	writer_init(&w, 1000);
	wire_put_auth_sasl(&w, mechanisms, 2);
	ck_assert_int_eq(wire_read_auth(BODY(w), &auth), OK);
	ck_assert(wire_auth_offers(&auth, "SCRAM-SHA-256"));
	ck_assert(!wire_auth_offers(&auth, "SCRAM"));
	writer_release(&w);
	wire_put_backend_key(&w, 42, (const uint8_t *)"12345678", 8);
	ck_assert_int_eq(wire_read_key(BODY(w), &key), OK);
	ck_assert_uint_eq(key.pid, 42);
	ck_assert_uint_eq(key.secret_len, 8);
	writer_release(&w);
	wire_put_parameter_status(&w, "a", "b");
	ck_assert_int_eq(wire_read_parameter(BODY(w), &parameter), OK);
	ck_assert_str_eq(parameter.value, "b");
	writer_release(&w);
	wire_put_ready(&w, 'T');
	ck_assert_int_eq(wire_read_ready(BODY(w), &ready), OK);
	ck_assert_int_eq(ready, 'T');
	writer_release(&w);
}
END_TEST

START_TEST(bytes_of_a_message_are_those_of_the_manual)
{
	static const char *const pairs[] = {"user", "a", NULL};
	static const char *const row[] = {"x", NULL};
	static const char want[] = "Z\0\0\0\5I"
				   "C\0\0\0\13SELECT\0"
				   "D\0\0\0\17\0\2\0\0\0\1x\377\377\377\377"
				   "\0\0\0\20\0\3\0\0user\0a\0\0"
				   "\0\0\0\10\4\322\26\57"
				   "1\0\0\0\4";
	struct writer w;

	writer_init(&w, 1000);
	wire_put_ready(&w, 'I');
	wire_put_command_complete(&w, "SELECT");
	wire_put_data_row(&w, row, 2);
	wire_put_startup(&w, WIRE_VERSION_3_0, pairs);
	wire_put_ssl_request(&w);
	wire_put_empty(&w, BE_PARSE_COMPLETE);
	ck_assert_uint_eq(w.len, sizeof(want) - 1);
	ck_assert_mem_eq(w.buf->data, want, w.len);
	writer_release(&w);
}
END_TEST

static const struct {
	const char *text;
	bool has_rows;
	uint64_t rows;
} tags[] = {
	{"SELECT 5", true, 5},
	{"INSERT 0 12", true, 12},
	{"BEGIN", false, 0},
	{"CREATE TABLE", false, 0},
	{"COPY 18446744073709551615", false, 0}, /* more rows than we count */
	{"SELECT ", false, 0},
};

START_TEST(a_tag_gives_its_rows)
{
	struct wire_tag tag;

	ck_assert_int_eq(
		wire_read_tag((const uint8_t *)tags[_i].text, (uint32_t)strlen(tags[_i].text) + 1, &tag), OK);
	ck_assert_int_eq(tag.has_rows, tags[_i].has_rows);
	ck_assert_uint_eq(tag.rows, tags[_i].rows);
}
END_TEST

START_TEST(broken_bodies_are_refused)
{
	struct wire_parse parse;
	struct wire_target target;
	struct wire_key key;
	struct wire_auth auth;
	struct wire_copy copy;
	struct wire_sasl_initial sasl;
	const char *text;
	char ready;
	uint32_t len;

	ck_assert_int_eq(wire_read_query(B("select"), &text, &len), E_PROTOCOL);
	ck_assert_int_eq(wire_read_query(B("a\0b\0"), &text, &len), E_PROTOCOL);
	ck_assert_int_eq(wire_read_parse(B("s\0q\0\377\377\0\0\0\1"), &parse), E_PROTOCOL);
	ck_assert_int_eq(wire_read_target(B("Xs\0"), &target), E_PROTOCOL);
	ck_assert_int_eq(wire_read_key(B("\0\0\0\1abc"), &key), E_PROTOCOL);
	ck_assert_int_eq(wire_read_ready(B("X"), &ready), E_PROTOCOL);
	ck_assert_int_eq(wire_read_ready(B("II"), &ready), E_PROTOCOL);
	ck_assert_int_eq(wire_read_auth(B("\0\0\0\5abc"), &auth), E_PROTOCOL);
	ck_assert_int_eq(wire_read_auth(B("\0\0\0\12SCRAM\0"), &auth), E_PROTOCOL);
	ck_assert_int_eq(wire_read_copy(B("\2\0\0"), &copy), E_PROTOCOL);
	ck_assert_int_eq(wire_read_copy(B("\0\0\2\0\0"), &copy), E_PROTOCOL);
	ck_assert_int_eq(wire_read_sasl_initial(B("M\0\377\377\377\376"), &sasl), E_PROTOCOL);
	ck_assert_int_eq(wire_read_sasl_initial(B("M\0\0\0\0\5abc"), &sasl), E_PROTOCOL);
}
END_TEST

START_TEST(a_secret_longer_than_256_bytes_is_over_the_limit)
{
	uint8_t body[4 + 257] = {0};
	struct wire_key key;

	ck_assert_int_eq(wire_read_key(body, 4 + 256, &key), OK);
	ck_assert_int_eq(wire_read_key(body, 4 + 257, &key), E_LIMIT);
}
END_TEST

START_TEST(an_error_keeps_all_its_fields)
{
	struct pgerror e, out;
	struct writer w;

	e = (struct pgerror){"ERREUR", "ERROR", "42601", "m", "d", "h", "1", "2", "q", "w", "s", "t", "c",
		"dt", "n", "f", "3", "r"};
	writer_init(&w, 1000);
	pgerror_put_error(&w, &e);
	ck_assert_int_eq(pgerror_read(BODY(w), &out), OK);
#define PGERROR_SAME(code, member) ck_assert_str_eq(e.member, out.member);
	PGERROR_FIELD_LIST(PGERROR_SAME)
	writer_release(&w);
}
END_TEST

START_TEST(an_error_of_ours_becomes_postgres_s)
{
	struct error err = {0}, back = {0};
	struct pgerror e, out;
	struct writer w;

	error_set(&err, E_LIMIT, SQLSTATE_TOO_MANY_CONNECTIONS, "sorry, too many clients already");
	e = pgerror_from(&err, "FATAL");
	writer_init(&w, 1000);
	pgerror_put_error(&w, &e);
	ck_assert_int_eq(pgerror_read(BODY(w), &out), OK);
	ck_assert(pgerror_is_fatal(&out));
	ck_assert_ptr_null(out.hint);
	ck_assert_int_eq(pgerror_to_error(&out, E_DENIED, &back), E_DENIED);
	ck_assert_str_eq(back.sqlstate, "53300");
	ck_assert_str_eq(back.text, err.text);
	ck_assert_str_eq(pgerror_state_name("53300"), "TOO_MANY_CONNECTIONS");
	writer_release(&w);
}
END_TEST

START_TEST(broken_errors_are_refused_and_unknown_fields_skipped)
{
	struct pgerror e;

	ck_assert_int_eq(pgerror_read(B("SERROR\0C42601\0Mx\0"), &e), E_PROTOCOL); /* no end */
	ck_assert_int_eq(pgerror_read(B("SERROR\0C42601\0Mx"), &e), E_PROTOCOL);
	ck_assert_int_eq(pgerror_read(B("SERROR\0C426\0Mx\0\0"), &e), E_PROTOCOL);
	ck_assert_int_eq(pgerror_read(B("SERROR\0C42601\0\0"), &e), E_PROTOCOL); /* no text */
	ck_assert_int_eq(pgerror_read(B("SERROR\0C42601\0Mx\0\0more"), &e), E_PROTOCOL);
	ck_assert_int_eq(pgerror_read(B("zfuture\0C42601\0Mx\0\0"), &e), OK);
	ck_assert_str_eq(e.message, "x");
}
END_TEST

START_TEST(a_commit_that_was_not_replicated_is_known_in_any_language)
{
	struct pgerror e = {
		.severity_raw = "WARNING", .routine = "SyncRepWaitForLSN", .message = "annulation"};

	ck_assert(pgerror_is_unreplicated_commit(&e));
	e.severity_raw = "ERROR";
	ck_assert(!pgerror_is_unreplicated_commit(&e));
}
END_TEST

START_TEST(columns_of_ours_are_text)
{
	static const char *const names[] = {"a"};
	static const char want[] = "T\0\0\0\32\0\1a\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0\0";
	struct writer w;

	writer_init(&w, 1000);
	wire_put_row_description(&w, names, 1);
	ck_assert_uint_eq(w.len, sizeof(want) - 1);
	ck_assert_mem_eq(w.buf->data, want, w.len);
	writer_release(&w);
}
END_TEST

START_TEST(message_types_have_names)
{
	ck_assert_str_eq(wire_fe_name('D'), "Describe");
	ck_assert_str_eq(wire_be_name('D'), "DataRow");
	ck_assert_str_eq(wire_be_name(0), "unknown");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pg_wire");
	TCase *t = tcase_create("pg_wire");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, a_frame_header_gives_its_length_or_why_not, 0, (int)ARRAY_LEN(frames));
	tcase_add_test(t, a_cursor_that_failed_gives_nothing_more);
	tcase_add_test(t, a_cursor_with_bytes_left_is_no_end);
	tcase_add_test(t, what_a_client_sends_is_read_back);
	tcase_add_test(t, what_a_server_sends_is_read_back);
	tcase_add_test(t, bytes_of_a_message_are_those_of_the_manual);
	tcase_add_loop_test(t, a_tag_gives_its_rows, 0, (int)ARRAY_LEN(tags));
	tcase_add_test(t, broken_bodies_are_refused);
	tcase_add_test(t, a_secret_longer_than_256_bytes_is_over_the_limit);
	tcase_add_test(t, an_error_keeps_all_its_fields);
	tcase_add_test(t, an_error_of_ours_becomes_postgres_s);
	tcase_add_test(t, broken_errors_are_refused_and_unknown_fields_skipped);
	tcase_add_test(t, a_commit_that_was_not_replicated_is_known_in_any_language);
	tcase_add_test(t, columns_of_ours_are_text);
	tcase_add_test(t, message_types_have_names);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
