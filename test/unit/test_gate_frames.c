/* What a client's bytes mean, in every chunking: actors/gate/frames.h. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "actors/gate/frames.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "actors/tablet/messages.h"
#include "runtime/base/bytes.h"

enum { STREAM_MAX = 8 << 20, CHUNKS = 400 };

/* Everything a stream comes to, whatever its chunks were. */
struct sum {
	uint8_t *out;
	uint32_t n_out, units, pins, parses;
	uint8_t flags;
	bool writes, in_batch, has_unnamed, needs_unnamed;
	uint32_t unnamed_len;
	uint8_t unnamed[FRAMES_UNNAMED_MAX];
	enum frames_end end;
};

static void sum_add(struct sum *s, const struct frames_cut *c, const uint8_t *p)
{
	memcpy(s->out + s->n_out, p + c->skip, c->len);
	s->n_out += c->len;
	s->units += c->units;
	s->pins |= c->pins;
	s->parses += c->parses;
	s->flags |= c->flags;
	s->writes |= c->writes;
	s->needs_unnamed |= c->needs_unnamed;
	if (c->parse_len) {
		s->has_unnamed = true;
		s->unnamed_len = c->parse_len;
		memcpy(s->unnamed, p + c->parse_off, c->parse_len);
	} else if (c->unnamed_dropped) {
		s->has_unnamed = false;
		s->unnamed_len = 0;
	}
}

/* As session_feed does it: chunks of at most `max` bytes, the rest of one in front of the next. */
static void run(struct sum *s, const uint8_t *p, uint32_t n, uint32_t max)
{
	struct frames f = {0};
	uint8_t *input = malloc(STREAM_MAX);
	uint32_t have = 0, at = 0;
	unsigned how = FRAMES_MAY_BEGIN;

	s->out = malloc(n + 1);
	while (at < n) {
		uint32_t step = 1 + (uint32_t)rand_r(&(unsigned){at * 7 + max}) % max;

		step = step < n - at ? step : n - at;
		memcpy(input + have, p + at, step);
		have += step;
		at += step;
		while (have) {
			struct frames_cut c;

			frames_scan(&f, how, input, have < FRAMES_SCAN_MAX ? have : FRAMES_SCAN_MAX, &c);
			sum_add(s, &c, input);
			s->end = c.end;
			if (c.len)
				how |= FRAMES_LEASED;
			if (c.skip + c.len == 0)
				break;
			memmove(input, input + c.skip + c.len, have - c.skip - c.len);
			have -= c.skip + c.len;
		}
	}
	s->in_batch = f.in_batch;
	free(input);
}

static void put_bind_of(struct writer *w, const char *statement, uint32_t size)
{
	uint32_t at = wire_begin(w, FE_BIND);

	writer_str(w, "");
	writer_str(w, statement);
	writer_u16(w, 0);
	writer_u16(w, 1);
	writer_u32(w, size);
	memset(writer_reserve(w, size), 'v', size);
	writer_u16(w, 0);
	wire_end(w, at);
}

static void put_random(struct writer *w, unsigned *seed, bool *batch)
{
	static const char *const texts[] = {"select 1", "begin", "commit", "insert into t values (1)",
		"set x = 1", "", "update t set a = 'x;y' where b = $1", "copy t from stdin"};
	const char *text = texts[(unsigned)rand_r(seed) % ARRAY_LEN(texts)];

	switch (rand_r(seed) % 10) {
	case 0:
		if (rand_r(seed) % 25 == 0) {
			uint32_t n = 200000 + (uint32_t)rand_r(seed) % 200000, at = wire_begin(w, FE_QUERY);

			memset(writer_reserve(w, n), ' ', n);
			writer_u8(w, 0);
			wire_end(w, at);
			return;
		}
		if (*batch)
			wire_put_sync(w);
		*batch = false;
		wire_put_query(w, text, (uint32_t)strlen(text));
		return;
	case 1:
		wire_put_parse(w, "", text, (uint32_t)strlen(text), NULL, 0);
		break;
	case 2:
		put_bind_of(w, "", (uint32_t)rand_r(seed) % 5000);
		break;
	case 3:
		put_bind_of(w, "name", rand_r(seed) % 20 ? 10 : 900000);
		break;
	case 4:
		wire_put_execute(w, "", 0);
		break;
	case 5:
		wire_put_describe(w, 'S', "");
		break;
	case 6:
		wire_put_close(w, 'S', rand_r(seed) % 2 ? "" : "name");
		break;
	case 7:
		wire_put_flush(w);
		return;
	case 8:
		wire_put_parse(w, "name", text, (uint32_t)strlen(text), NULL, 0);
		break;
	default:
		wire_put_sync(w);
		*batch = false;
		return;
	}
	*batch = true;
}

START_TEST(any_chunking_of_a_stream_gives_the_same_sums)
{
	for (unsigned seed = 1; seed <= 60; seed++) {
		static const uint32_t sizes[] = {1 << 30, 65536, 4096, 100, 7, 1};
		struct writer w;
		struct sum whole = {0};
		unsigned r = seed;
		bool batch = false;

		writer_init(&w, STREAM_MAX);
		wire_put_query(&w, "select 1", 8);
		for (int i = 0; i < 60; i++)
			put_random(&w, &r, &batch);
		ck_assert(!w.failed);
		run(&whole, w.buf->data, w.len, 1 << 30);
		ck_assert_uint_eq(whole.n_out, w.len);
		for (unsigned i = 1; i < ARRAY_LEN(sizes); i++) {
			struct sum cut = {0};

			if (sizes[i] < 100 && w.len > 200000)
				continue;
			run(&cut, w.buf->data, w.len, sizes[i]);
			ck_assert_uint_eq(cut.n_out, w.len);
			ck_assert_int_eq(memcmp(cut.out, w.buf->data, w.len), 0);
			ck_assert_uint_eq(cut.units, whole.units);
			ck_assert_uint_eq(cut.pins, whole.pins);
			ck_assert_uint_eq(cut.parses, whole.parses);
			ck_assert_uint_eq(cut.flags, whole.flags);
			ck_assert_int_eq(cut.writes, whole.writes);
			ck_assert_int_eq(cut.in_batch, whole.in_batch);
			ck_assert_int_eq(cut.has_unnamed, whole.has_unnamed);
			ck_assert_uint_eq(cut.unnamed_len, whole.unnamed_len);
			ck_assert_int_eq(memcmp(cut.unnamed, whole.unnamed, whole.unnamed_len), 0);
			free(cut.out);
		}
		free(whole.out);
		writer_release(&w);
	}
}
END_TEST

/* One scan of what `w` holds. */
static struct frames_cut scan(struct frames *f, unsigned how, struct writer *w)
{
	struct frames_cut c;

	frames_scan(f, how, w->buf->data, w->len, &c);
	return c;
}

START_TEST(a_batch_is_owed_a_ready_from_its_first_message_on)
{
	struct frames f = {0};
	struct writer w;
	struct frames_cut c;

	writer_init(&w, 10000);
	wire_put_parse(&w, "", "select 1", 8, NULL, 0);
	c = scan(&f, FRAMES_MAY_BEGIN, &w);
	ck_assert_uint_eq(c.units, 1);
	ck_assert(f.in_batch);
	writer_release(&w);
	wire_put_bind(&w, "", "", NULL, 0);
	wire_put_execute(&w, "", 0);
	wire_put_sync(&w);
	wire_put_sync(&w);
	wire_put_query(&w, "select 1", 8);
	c = scan(&f, FRAMES_MAY_BEGIN | FRAMES_LEASED, &w);
	ck_assert_uint_eq(c.units, 2);
	ck_assert(!f.in_batch);
	ck_assert(!c.needs_unnamed);
	writer_release(&w);
}
END_TEST

START_TEST(no_unit_begins_where_none_may)
{
	struct frames f = {0};
	struct writer w;
	struct frames_cut c;
	uint32_t first;

	writer_init(&w, 10000);
	wire_put_parse(&w, "", "select 1", 8, NULL, 0);
	c = scan(&f, FRAMES_MAY_BEGIN, &w);
	writer_release(&w);
	wire_put_execute(&w, "", 0);
	wire_put_sync(&w);
	first = w.len;
	wire_put_query(&w, "select 2", 8);
	c = scan(&f, FRAMES_LEASED, &w);
	ck_assert_uint_eq(c.len, first);
	ck_assert_int_eq(c.end, FRAMES_HOLD);
	writer_release(&w);
}
END_TEST

START_TEST(copy_data_without_a_backend_is_dropped)
{
	struct frames f = {0};
	struct writer w;
	struct frames_cut c;
	uint32_t at;

	writer_init(&w, 100000);
	at = wire_begin(&w, FE_COPY_DATA);
	writer_text(&w, "1\t2\n");
	wire_end(&w, at);
	wire_put_empty(&w, FE_COPY_DONE);
	at = w.len;
	wire_put_query(&w, "select 2", 8);
	c = scan(&f, FRAMES_MAY_BEGIN, &w);
	ck_assert_uint_eq(c.skip, at);
	ck_assert_uint_eq(c.len, w.len - at);
	ck_assert_uint_eq(c.units, 1);
	writer_release(&w);
}
END_TEST

START_TEST(a_large_message_is_passed_on_as_it_comes)
{
	struct frames f = {0};
	uint8_t head[] = {'d', 0x06, 0, 0, 0, 'a', 'b', 'c'}; /* 96 MiB announced */
	struct frames_cut c;

	frames_scan(&f, FRAMES_LEASED, head, sizeof(head), &c);
	ck_assert_uint_eq(c.len, sizeof(head));
	ck_assert_int_eq(c.end, FRAMES_ALL);
	ck_assert(c.pins & PIN_LARGE);
	ck_assert_uint_eq(f.remain, 0x06000000 + 1 - sizeof(head));
}
END_TEST

START_TEST(copy_data_of_ordinary_size_goes_on_whole)
{
	struct frames f = {0};
	uint8_t head[] = {'Q', 0, 0, 0, 5, 0, 'd', 0, 0, 1, 0, 'a', 'b', 'c'};
	struct frames_cut c;

	frames_scan(&f, FRAMES_MAY_BEGIN, head, sizeof(head), &c);
	ck_assert_uint_eq(c.len, 6);
	ck_assert_int_eq(c.end, FRAMES_MORE);
	ck_assert_uint_eq(f.remain, 0);
}
END_TEST

START_TEST(a_query_inside_an_open_batch_is_not_held)
{
	struct frames f = {.in_batch = true};
	struct writer w;
	struct frames_cut c;

	writer_init(&w, 1000);
	wire_put_query(&w, "select 1", 8);
	c = scan(&f, FRAMES_LEASED, &w);
	ck_assert_uint_eq(c.len, w.len);
	ck_assert(c.pins & PIN_MIXED);
	writer_release(&w);
}
END_TEST

START_TEST(a_text_too_large_to_read_pins)
{
	struct frames f = {0};
	uint8_t head[32] = {'Q', 0x00, 0x10, 0, 0, 'a'};
	struct frames_cut c;

	frames_scan(&f, FRAMES_MAY_BEGIN, head, sizeof(head), &c);
	ck_assert_uint_eq(c.len, sizeof(head));
	ck_assert(c.pins & PIN_LARGE);
	ck_assert(c.flags & EXECUTE_COMMIT);
}
END_TEST

START_TEST(reasons_to_pin_are_found)
{
	static const struct {
		const char *name, *text;
		uint32_t pins;
		uint8_t flags;
	} cases[] = {
		{"", "select a from t", 0, 0},
		{"", "commit", 0, EXECUTE_COMMIT},
		{"", "set work_mem = 1", PIN_SET, 0},
		{"s1", "select a from t", PIN_NAMED_STATEMENT, 0},
		{"", "copy t from stdin", PIN_COPY_EXTENDED, EXECUTE_COPY},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct frames f = {0};
		struct writer w;
		struct frames_cut c;

		writer_init(&w, 10000);
		wire_put_parse(&w, cases[i].name, cases[i].text, (uint32_t)strlen(cases[i].text), NULL, 0);
		c = scan(&f, FRAMES_MAY_BEGIN, &w);
		ck_assert_uint_eq(c.pins, cases[i].pins);
		ck_assert_uint_eq(c.flags, cases[i].flags);
		writer_release(&w);
	}
}
END_TEST

START_TEST(a_later_use_of_the_unnamed_statement_asks_for_it)
{
	struct frames f = {0};
	struct writer w;
	struct frames_cut c;

	writer_init(&w, 10000);
	wire_put_parse(&w, "", "commit", 6, NULL, 0);
	wire_put_sync(&w);
	c = scan(&f, FRAMES_MAY_BEGIN, &w);
	ck_assert_uint_gt(c.parse_len, 0);
	ck_assert(!c.needs_unnamed);
	f.here = false; /* the lease has ended */
	writer_release(&w);
	wire_put_bind(&w, "", "", NULL, 0);
	wire_put_execute(&w, "", 0);
	wire_put_sync(&w);
	c = scan(&f, FRAMES_MAY_BEGIN, &w);
	ck_assert(c.needs_unnamed);
	ck_assert(c.flags & EXECUTE_COMMIT);
	ck_assert_uint_eq(c.parse_len, 0);
	writer_release(&w);
}
END_TEST

START_TEST(executing_a_named_commit_is_noticed)
{
	struct frames f = {0};
	struct writer w;
	struct frames_cut c;

	writer_init(&w, 10000);
	wire_put_parse(&w, "c", "commit", 6, NULL, 0);
	wire_put_parse(&w, "s", "select 1", 8, NULL, 0);
	wire_put_sync(&w);
	c = scan(&f, FRAMES_MAY_BEGIN, &w);
	writer_release(&w);
	wire_put_bind(&w, "", "s", NULL, 0);
	wire_put_sync(&w);
	c = scan(&f, FRAMES_MAY_BEGIN, &w);
	ck_assert(!(c.flags & EXECUTE_COMMIT));
	writer_release(&w);
	wire_put_bind(&w, "", "c", NULL, 0);
	wire_put_sync(&w);
	c = scan(&f, FRAMES_MAY_BEGIN, &w);
	ck_assert(c.flags & EXECUTE_COMMIT);
	writer_release(&w);
}
END_TEST

START_TEST(nonsense_stops_the_scan_where_it_begins)
{
	static const struct {
		uint8_t bytes[8];
		uint32_t n;
		enum frames_end end;
	} cases[] = {
		{{'Z'}, 1, FRAMES_BAD_TYPE},
		{{0}, 1, FRAMES_BAD_TYPE},
		{{'Q', 0, 0, 0, 3}, 5, FRAMES_BAD_LENGTH},
		{{'Q', 0xff, 0, 0, 3}, 5, FRAMES_BAD_LENGTH},
		{{'S', 0, 1, 0, 0}, 5, FRAMES_BAD_LENGTH},
		{{'Q', 0, 0}, 3, FRAMES_MORE},
		{{'X', 0, 0, 0, 4}, 5, FRAMES_TERMINATE},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct frames f = {0};
		struct frames_cut c;

		frames_scan(&f, FRAMES_MAY_BEGIN, cases[i].bytes, cases[i].n, &c);
		ck_assert_int_eq(c.end, cases[i].end);
		ck_assert_uint_eq(c.len + c.skip, 0);
	}
}
END_TEST

START_TEST(any_bytes_at_all_are_survived)
{
	unsigned seed = 5;

	for (int round = 0; round < 20000; round++) {
		struct frames f = {0};
		struct frames_cut c;
		uint32_t n = 1 + (uint32_t)rand_r(&seed) % 64;
		uint8_t *p = malloc(n);

		for (uint32_t i = 0; i < n; i++)
			p[i] = rand_r(&seed) % 3 ? (uint8_t) "QPBDECSHFXdcf\0\0\0\4\5\6"[rand_r(&seed) % 19]
						 : (uint8_t)rand_r(&seed);
		frames_scan(&f, (unsigned)rand_r(&seed) % 4, p, n, &c);
		ck_assert_uint_le(c.skip + c.len, n);
		free(p);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gate frames");
	TCase *c = tcase_create("frames");
	SRunner *r;
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_test(c, any_chunking_of_a_stream_gives_the_same_sums);
	tcase_add_test(c, a_batch_is_owed_a_ready_from_its_first_message_on);
	tcase_add_test(c, no_unit_begins_where_none_may);
	tcase_add_test(c, copy_data_without_a_backend_is_dropped);
	tcase_add_test(c, a_large_message_is_passed_on_as_it_comes);
	tcase_add_test(c, copy_data_of_ordinary_size_goes_on_whole);
	tcase_add_test(c, a_query_inside_an_open_batch_is_not_held);
	tcase_add_test(c, a_text_too_large_to_read_pins);
	tcase_add_test(c, reasons_to_pin_are_found);
	tcase_add_test(c, a_later_use_of_the_unnamed_statement_asks_for_it);
	tcase_add_test(c, executing_a_named_commit_is_noticed);
	tcase_add_test(c, nonsense_stops_the_scan_where_it_begins);
	tcase_add_test(c, any_bytes_at_all_are_survived);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
