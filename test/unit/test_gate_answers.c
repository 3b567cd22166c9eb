/* Following a backend's answers, and what is said when there are none: answers.h, lost.h. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "actors/gate/answers.h"
#include "actors/gate/lost.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "runtime/base/check.h"

static void put_message(struct writer *w, uint8_t type, uint32_t n)
{
	uint32_t at = wire_begin(w, type);

	if (n)
		memset(writer_reserve(w, n), '1', n);
	wire_end(w, at);
}

/* Passes the stream through in chunks of `step` bytes; gives what came out. */
static uint32_t follow(struct answers *a, const struct writer *in, uint32_t step, uint8_t *out)
{
	uint32_t n = 0;

	for (uint32_t at = 0; at < in->len; at += step) {
		const uint8_t *p = in->buf->data + at;
		uint32_t len = in->len - at < step ? in->len - at : step;
		struct answers_cut c;

		answers_scan(a, p, len, &c);
		ck_assert_uint_le(c.before, len);
		ck_assert_uint_le(c.to, len);
		memcpy(out + n, c.head, c.n_head);
		n += c.n_head;
		memcpy(out + n, p, c.before);
		n += c.before;
		if (c.to > c.from) {
			memcpy(out + n, p + c.from, c.to - c.from);
			n += c.to - c.from;
		}
	}
	return n;
}

START_TEST(one_answer_is_taken_out_in_any_chunking)
{
	struct writer in, want;
	uint8_t out[512];

	writer_init(&in, 512);
	writer_init(&want, 512);
	put_message(&in, BE_NOTICE, 20);
	put_message(&in, BE_PARSE_COMPLETE, 0);
	put_message(&in, BE_BIND_COMPLETE, 0);
	put_message(&in, BE_DATA_ROW, 33);
	put_message(&in, BE_PARSE_COMPLETE, 0);
	put_message(&in, BE_READY, 1);
	put_message(&want, BE_NOTICE, 20);
	put_message(&want, BE_BIND_COMPLETE, 0);
	put_message(&want, BE_DATA_ROW, 33);
	put_message(&want, BE_PARSE_COMPLETE, 0);
	put_message(&want, BE_READY, 1);
	for (uint32_t step = 1; step <= in.len; step++) {
		struct answers a;

		answers_begin(&a, BE_PARSE_COMPLETE);
		ck_assert_uint_eq(follow(&a, &in, step, out), want.len);
		ck_assert_int_eq(memcmp(out, want.buf->data, want.len), 0);
		ck_assert_uint_eq(a.parsed, 2);
		ck_assert_uint_eq(a.swallow, 0);
	}
	writer_release(&in);
	writer_release(&want);
}
END_TEST

START_TEST(an_error_comes_through_instead_of_it)
{
	struct writer in;
	uint8_t out[512];

	writer_init(&in, 512);
	put_message(&in, BE_ERROR, 40);
	put_message(&in, BE_READY, 1);
	for (uint32_t step = 1; step <= in.len; step++) {
		struct answers a;

		answers_begin(&a, BE_CLOSE_COMPLETE);
		ck_assert_uint_eq(follow(&a, &in, step, out), in.len);
		ck_assert_int_eq(memcmp(out, in.buf->data, in.len), 0);
		ck_assert_uint_eq(a.parsed, 0);
	}
	writer_release(&in);
}
END_TEST

START_TEST(nothing_is_taken_out_when_nothing_was_put_in)
{
	struct writer in;
	uint8_t out[512];

	writer_init(&in, 512);
	put_message(&in, BE_PARSE_COMPLETE, 0);
	put_message(&in, BE_CLOSE_COMPLETE, 0);
	put_message(&in, BE_DATA_ROW, 70);
	for (uint32_t step = 1; step <= in.len; step++) {
		struct answers a;

		answers_begin(&a, 0);
		ck_assert_uint_eq(follow(&a, &in, step, out), in.len);
		ck_assert_int_eq(memcmp(out, in.buf->data, in.len), 0);
		ck_assert_uint_eq(a.parsed, 1);
	}
	writer_release(&in);
}
END_TEST

START_TEST(a_lost_backend_closes_only_where_going_on_would_mislead)
{
	static const struct {
		struct lost_facts facts;
		bool close, unknown;
	} cases[] = {
		{{.outstanding = 1}, false, false},
		{{.outstanding = 1, .sent = true}, false, false},
		{{.outstanding = 1, .sent = true, .may_commit = true}, false, true},
		{{.outstanding = 1, .may_commit = true}, false, false},
		{{.outstanding = 1, .sent = true, .answering = true}, true, false},
		{{.outstanding = 1, .in_batch = true}, true, false},
		{{.outstanding = 1, .sent = true, .in_transaction = true, .may_commit = true}, true, true},
		{{.outstanding = 1, .pinned = true}, true, false},
		{{.outstanding = 0, .in_transaction = true, .sent = true, .may_commit = true}, true, false},
		{{.outstanding = 0}, true, false},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct lost_verdict v = lost_decide(&cases[i].facts);

		ck_assert_msg(v.close == cases[i].close && v.unknown == cases[i].unknown, "case %u", i);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gate answers");
	TCase *c = tcase_create("answers");
	SRunner *r;
	int failed;

	tcase_add_test(c, one_answer_is_taken_out_in_any_chunking);
	tcase_add_test(c, an_error_comes_through_instead_of_it);
	tcase_add_test(c, nothing_is_taken_out_when_nothing_was_put_in);
	tcase_add_test(c, a_lost_backend_closes_only_where_going_on_would_mislead);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
