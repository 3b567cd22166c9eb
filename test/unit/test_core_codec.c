/* The codec: every message of the catalog, whatever is in it; truncations, mutations; the cursor, pids, the printer. */
#include "runtime/base/bytes.h"
#include "runtime/core/codec.h"
#include "runtime/core/table.h"
#include "test/sim/world.h"

enum {
	ROUNDS = 20,
	MUTATIONS = 100000,
	WIRE_MAX = 24 << 20,
	BIN_MAX = 3000,
	TABLE_BYTES = 100000,
	TABLE_ROWS = 20000
};

static struct sim *s;
static struct worker *w;
static struct rand_stream r;

static void set_up(void)
{
	s = sim_new(&(struct sim_spec){.seed = 1, .n_nodes = 1, .n_workers = 1});
	w = sim_worker(s, 1, 0);
	r = rand_init(99);
}

static void tear_down(void)
{
	struct worker_stats stats;

	worker_stats(w, &stats);
	ck_assert_uint_eq(stats.live_messages, 0);
	sim_free(s);
}

/* A number of any magnitude. */
static uint64_t any_u64(void)
{
	return rand_chance(&r, 100000) ? UINT64_MAX : rand_u64(&r) >> rand_below(&r, 64);
}

static void fill_field(const struct msg_field *f, void *p)
{
	uint32_t n;
	uint8_t bytes[BIN_MAX];
	char *text = p;

	switch (f->type) {
	case FIELD_u8:
		*(uint8_t *)p = (uint8_t)any_u64();
		break;
	case FIELD_u16:
		*(uint16_t *)p = (uint16_t)any_u64();
		break;
	case FIELD_u32:
		*(uint32_t *)p = (uint32_t)any_u64();
		break;
	case FIELD_u64:
		*(uint64_t *)p = any_u64();
		break;
	case FIELD_i64:
		*(int64_t *)p = (int64_t)(rand_below(&r, 2) ? any_u64() : -any_u64());
		break;
	case FIELD_pid:
		*(struct pid *)p = (struct pid){rand_u64(&r), rand_u64(&r)};
		break;
	case FIELD_str:
		n = rand_chance(&r, 200000) ? f->max : (uint32_t)rand_below(&r, f->max + 1);
		for (uint32_t i = 0; i < n; i++)
			text[i] = (char)rand_between(&r, 1, 255);
		break;
	case FIELD_bin:
		n = (uint32_t)rand_below(&r, (f->max < BIN_MAX ? f->max : BIN_MAX) + 1);
		rand_bytes(&r, bytes, n);
		*(struct slice *)p = slice_copy(bytes, n);
		break;
	}
}

static struct msg *random_msg(const struct msg_desc *d)
{
	struct msg *m = worker_msg_new(w, d->tag);

	for (uint32_t i = 0; i < d->n_fields; i++)
		fill_field(&d->fields[i], m->body + d->fields[i].offset);
	m->from = (struct pid){rand_u64(&r), rand_u64(&r)};
	m->to = (struct pid){rand_u64(&r), rand_u64(&r)};
	m->corr = any_u64();
	m->status = (uint8_t)rand_below(&r, STATUS_COUNT);
	m->trace = (uint32_t)any_u64();
	m->deadline_us = rand_below(&r, 2) ? 5000000 + rand_below(&r, 1000000) : 0;
	m->bits |= MSG_IS_REPLY; /* not a request: freeing would settle it with a random pid */
	return m;
}

static void expect_equal(const struct msg_desc *d, const struct msg *a, const struct msg *b)
{
	ck_assert(a->tag == b->tag && a->corr == b->corr && a->status == b->status && a->trace == b->trace);
	ck_assert(pid_equal(a->from, b->from) && pid_equal(a->to, b->to));
	ck_assert_uint_eq(a->bits & MSG_IS_REPLY, b->bits & MSG_IS_REPLY);
	for (uint32_t i = 0; i < d->n_fields; i++) {
		const struct msg_field *f = &d->fields[i];
		const uint8_t *x = a->body + f->offset, *y = b->body + f->offset;
		static const size_t sizes[] = {[FIELD_u8] = 1,
			[FIELD_u16] = 2,
			[FIELD_u32] = 4,
			[FIELD_u64] = 8,
			[FIELD_i64] = 8,
			[FIELD_pid] = 16};

		if (f->type == FIELD_str) {
			ck_assert_str_eq((const char *)x, (const char *)y);
		} else if (f->type == FIELD_bin) {
			const struct slice *p = (const void *)x, *q = (const void *)y;

			ck_assert_uint_eq(p->len, q->len);
			ck_assert(memcmp(slice_data(p), slice_data(q), p->len) == 0);
		} else {
			ck_assert(memcmp(x, y, sizes[f->type]) == 0);
		}
	}
}

/* Exactly the message's bytes in memory of their own, so that a read past them is found. */
static uint8_t *encode(struct msg *m, uint32_t *n)
{
	struct writer out;
	uint8_t *p;

	writer_init(&out, WIRE_MAX);
	msg_encode(m, 4000000, &out);
	ck_assert(!out.failed);
	p = malloc(out.len);
	memcpy(p, out.buf->data, out.len);
	*n = out.len;
	writer_release(&out);
	return p;
}

static void roundtrip(const struct msg_desc *d, void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		struct msg *m = random_msg(d), *back = NULL;
		uint32_t n;
		uint8_t *p = encode(m, &n);

		ck_assert_int_eq(msg_decode(w, p, n, 1000, &back), OK);
		expect_equal(d, m, back);
		if (m->deadline_us)
			ck_assert_uint_eq(back->deadline_us, m->deadline_us - 4000000 + 1000);
		else
			ck_assert_uint_eq(back->deadline_us, 0);
		worker_msg_free(w, m);
		worker_msg_free(w, back);
		free(p);
	}
}

START_TEST(every_message_comes_back_as_it_went)
{
	catalog_each(roundtrip, NULL);
}
END_TEST

static void truncate_all(const struct msg_desc *d, void *arg)
{
	struct msg *m = random_msg(d), *back = NULL;
	uint32_t n;
	uint8_t *p = encode(m, &n);

	(void)arg;
	for (uint32_t cut = 0; cut < n; cut++) {
		uint8_t *part = malloc(cut + 1);

		memcpy(part, p, cut);
		part[cut] = 0xc1;
		ck_assert_int_ne(msg_decode(w, part, cut, 0, &back), OK);
		free(part);
		if (cut > 300)
			cut += 97; /* long bins: a sample */
	}
	worker_msg_free(w, m);
	free(p);
}

START_TEST(every_truncation_is_refused)
{
	catalog_each(truncate_all, NULL);
}
END_TEST

static void expect_in_range(const struct msg *m)
{
	const struct msg_desc *d = catalog_find(m->tag);

	ck_assert(d != NULL);
	for (uint32_t i = 0; i < d->n_fields; i++) {
		const struct msg_field *f = &d->fields[i];
		const void *p = m->body + f->offset;

		if (f->type == FIELD_str)
			ck_assert(memchr(p, 0, f->max + 1) != NULL);
		if (f->type == FIELD_bin)
			ck_assert(((const struct slice *)p)->len <= f->max);
	}
}

static void decode_any(const uint8_t *p, uint32_t n, uint64_t *taken)
{
	struct msg *back = NULL;

	if (msg_decode(w, p, n, 0, &back))
		return;
	expect_in_range(back);
	++*taken;
	back->bits &= (uint8_t)~MSG_IS_REQUEST; /* settling it would send to a pid out of the noise */
	worker_msg_free(w, back);
}

struct catalog_list {
	const struct msg_desc *descs[512];
	uint32_t n;
};

static void collect(const struct msg_desc *d, void *arg)
{
	struct catalog_list *list = arg;

	list->descs[list->n++] = d;
}

START_TEST(mutations_are_refused_or_decoded_in_range)
{
	struct catalog_list list = {.n = 0};
	uint64_t taken = 0;

	catalog_each(collect, &list);
	for (int i = 0; i < MUTATIONS;) {
		struct msg *m = random_msg(list.descs[rand_below(&r, list.n)]);
		uint32_t n;
		uint8_t *p = encode(m, &n);

		for (int k = 0; k < 50; k++, i++) {
			uint64_t flips = rand_between(&r, 1, 4);
			uint8_t was[4];
			uint32_t at[4];

			for (uint64_t x = 0; x < flips; x++) {
				at[x] = (uint32_t)rand_below(&r, n < 90 || rand_below(&r, 2) ? n : 90);
				was[x] = p[at[x]];
				p[at[x]] =
					(uint8_t)(rand_below(&r, 2) ? rand_u64(&r)
								    : p[at[x]] ^ 1ull << rand_below(&r, 8));
			}
			decode_any(p, n, &taken);
			for (uint64_t x = flips; x-- > 0;)
				p[at[x]] = was[x];
		}
		worker_msg_free(w, m);
		free(p);
	}
	ck_assert(taken > MUTATIONS / 50 && taken < MUTATIONS);
}
END_TEST

START_TEST(noise_is_refused)
{
	uint64_t taken = 0;

	for (int i = 0; i < MUTATIONS; i++) {
		uint8_t bytes[64];
		uint32_t n = (uint32_t)rand_below(&r, sizeof(bytes) + 1);

		rand_bytes(&r, bytes, n);
		bytes[0] = rand_below(&r, 2) ? 0x99 : bytes[0];
		decode_any(bytes, n, &taken);
	}
	ck_assert_uint_eq(taken, 0);
}
END_TEST

static void encode_tell(struct writer *out, const struct msg_desc *d, uint32_t extra)
{
	uint64_t body = 7;
	uint8_t *p;

	writer_init(out, 1000);
	msg_encode_body(d, &body, out);
	p = out->buf->data;
	ck_assert_uint_eq(p[0], 0x91);
	p[0] = (uint8_t)(0x91 + extra);
}

START_TEST(missing_fields_are_zero_and_extra_ones_are_skipped)
{
	static const uint8_t extras[] = {0x92, 0x01, 0x81, 0xa1, 'k', 0xc0, 0xc4, 0x02, 0xff, 0xff, 0xcb, 1,
		2, 3, 4, 5, 6, 7, 8, 0xd6, 1, 2, 3, 4, 5};
	const struct msg_desc *d = catalog_find(TELL);
	struct writer out;
	struct tell body = {.n = 1};

	ck_assert_int_eq(msg_decode_body(d, (const uint8_t *)"\x90", 1, &body), OK);
	ck_assert_uint_eq(body.n, 0);
	encode_tell(&out, d, 4);
	writer_put(&out, extras, sizeof(extras));
	ck_assert_int_eq(msg_decode_body(d, out.buf->data, out.len, &body), OK);
	ck_assert_uint_eq(body.n, 7);
	writer_release(&out);
	encode_tell(&out, d, 1); /* an extra one that isn't there */
	ck_assert_int_eq(msg_decode_body(d, out.buf->data, out.len, &body), E_INVALID);
	writer_release(&out);
}
END_TEST

START_TEST(a_field_over_its_maximum_is_refused)
{
	const struct msg_desc *d = catalog_find(ALL_TYPES);
	struct all_types body;
	static const uint8_t a_256[] = {0x91, 0xcd, 1, 0};
	static uint8_t g_21[] = {0x97, 0, 0, 0, 0, 0, 0xc4, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0xb5, 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a',
		'a', 'a', 'a', 'a'};

	ck_assert_int_eq(msg_decode_body(d, a_256, sizeof(a_256), &body), E_LIMIT);
	ck_assert_int_eq(msg_decode_body(d, g_21, sizeof(g_21), &body), E_LIMIT);
	g_21[0x18] = 0xb4;
	ck_assert_int_eq(msg_decode_body(d, g_21, sizeof(g_21) - 1, &body), OK);
	ck_assert_str_eq(body.g, "aaaaaaaaaaaaaaaaaaaa");
	g_21[0x20] = 0; /* a NUL inside a str */
	ck_assert_int_eq(msg_decode_body(d, g_21, sizeof(g_21) - 1, &body), E_INVALID);
	for (uint32_t n = 300; n <= 301; n++) {
		uint8_t long_bin[] = {0x98, 0, 0, 0, 0, 0, 0xc4, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
			0, 0, 0xa0, 0xc5, 1, (uint8_t)n};
		struct writer out;

		writer_init(&out, 1000);
		writer_put(&out, long_bin, sizeof(long_bin));
		for (uint32_t i = 0; i < n; i++)
			writer_u8(&out, 1);
		ck_assert_int_eq(msg_decode_body(d, out.buf->data, out.len, &body), n == 300 ? OK : E_LIMIT);
		if (n == 300)
			msg_release_body(d, &body);
		writer_release(&out);
	}
}
END_TEST

START_TEST(hostile_lengths_and_depths_allocate_nothing)
{
	static const char *const hostile[] = {"\xdd\xff\xff\xff\xff", "\xdf\x7f\xff\xff\xff",
		"\xc6\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff", "\xc1"};
	uint8_t deep[100000];

	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		struct unpack u = {.p = (const uint8_t *)hostile[i],
			.end = (const uint8_t *)hostile[i] + strlen(hostile[i])};
		struct msg *m = NULL;

		ck_assert_int_eq(msg_decode(w, u.p, (size_t)(u.end - u.p), 0, &m), E_INVALID);
		ck_assert_int_eq(unpack_skip(&u), E_INVALID);
	}
	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		struct unpack u = {.p = deep, .end = deep + sizeof(deep)};

		memset(deep, i % 2 ? 0x91 : 0x81, sizeof(deep));
		ck_assert_int_eq(unpack_skip(&u), E_INVALID);
	}
}
END_TEST

START_TEST(the_cursor_reads_all_widths_of_integers)
{
	static const struct {
		const char *bytes;
		uint32_t n;
		int64_t v;
	} cases[] = {{"\x00", 1, 0}, {"\x7f", 1, 127}, {"\xff", 1, -1}, {"\xe0", 1, -32},
		{"\xcc\xff", 2, 255}, {"\xcd\x01\x02", 3, 258}, {"\xce\xff\xff\xff\xff", 5, 4294967295},
		{"\xd0\x80", 2, -128}, {"\xd1\x80\x00", 3, -32768}, {"\xd2\x80\x00\x00\x00", 5, INT32_MIN},
		{"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", 9, INT64_MIN},
		{"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", 9, INT64_MAX}};
	struct unpack u;
	int64_t v;
	uint64_t n;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const uint8_t *p = (const uint8_t *)cases[i].bytes;

		u = (struct unpack){.p = p, .end = p + cases[i].n};
		ck_assert(unpack_i64(&u, &v) == OK && v == cases[i].v && u.p == u.end);
		u = (struct unpack){.p = p, .end = p + cases[i].n};
		ck_assert_int_eq(unpack_u64(&u, &n), cases[i].v < 0 ? E_INVALID : OK);
		u = (struct unpack){.p = p, .end = p + cases[i].n - 1};
		ck_assert_int_eq(unpack_i64(&u, &v), E_INVALID);
	}
	u = (struct unpack){.p = (const uint8_t *)"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", .end = NULL};
	u.end = u.p + 9;
	ck_assert(unpack_u64(&u, &n) == OK && n == UINT64_MAX);
	u.p -= 9;
	ck_assert_int_eq(unpack_i64(&u, &v), E_INVALID);
}
END_TEST

/* ---- pids ---- */

START_TEST(a_pid_is_read_back_from_its_text)
{
	uint64_t node = node_make(12, 345);
	char text[PID_TEXT_MAX];
	struct pid p;

	for (int i = 0; i < 1000; i++) {
		struct pid q = pid_make(node, (uint8_t)rand_below(&r, WORKERS_MAX),
			(uint32_t)rand_below(&r, SLOTS_MAX), (uint32_t)rand_u64(&r));

		ck_assert(pid_parse(pid_format(q, text), node, &p) == OK && pid_equal(p, q));
	}
	ck_assert_str_eq(pid_format(pid_make(node, 3, 70000, 9), text), "<12.3.70000.9>");
}
END_TEST

START_TEST(bad_pid_texts_are_refused)
{
	static const char *const bad[] = {"", "<", "<1.2.3>", "<12.0.1.1", "12.0.1.1", "<13.0.1.1>",
		"<12.64.1.1>", "<12.0.16777216.1>", "<12.0.1.1> ", "<12.0.1.1>x", "<12.0.1.99999999999>",
		"<12.0.1.4294967296>", "<12.0.-1.1>", "<12.-1.1.1>", "<a.b.c.d>", "< 12.0.1.1>",
		"<12. 0.1.1>", "<+12.0.1.1>"};
	struct pid p;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(pid_parse(bad[i], node_make(12, 1), &p) == E_INVALID, "%s", bad[i]);
}
END_TEST

/* ---- the printer, the catalog, tables ---- */

static const char *printed(const struct msg *m, char text[2048])
{
	struct writer out;

	writer_init(&out, 2000);
	msg_print(m, &out);
	writer_u8(&out, 0);
	ck_assert(!out.failed);
	str_copy(text, 2048, (const char *)out.buf->data);
	writer_release(&out);
	return text;
}

static void print_any(const struct msg_desc *d, void *arg)
{
	struct msg *m = random_msg(d);
	struct writer out;

	(void)arg;
	writer_init(&out, 1 << 20);
	msg_print(m, &out);
	ck_assert(!out.failed && out.len < 8192);
	for (uint32_t i = 0; i < out.len; i++)
		ck_assert_msg(out.buf->data[i] >= 0x20 && out.buf->data[i] != 0x7f,
			"%s prints a control character", d->name);
	writer_release(&out);
	worker_msg_free(w, m);
}

START_TEST(messages_print_on_one_line_for_people)
{
	char text[2048];
	struct msg *m = worker_msg_new(w, TIMER);

	timer_of(m)->key = 1;
	timer_of(m)->seq = 2;
	ck_assert_str_eq(printed(m, text), "TIMER{key: 1, seq: 2}");
	worker_msg_free(w, m);
	catalog_each(print_any, NULL);
}
END_TEST

START_TEST(the_catalog_finds_by_tag_and_name_and_its_hash_stands)
{
	uint64_t before = catalog_hash();

	ck_assert_ptr_eq(catalog_find(TIMER), catalog_find_name("TIMER"));
	ck_assert(catalog_find(0x0999) == NULL && catalog_find(0xffff) == NULL &&
		  catalog_find_name("NOPE") == NULL);
	ck_assert_str_eq(catalog_name(0x0999), "?");
	ck_assert_uint_eq(catalog_find(ALL_TYPES)->n_bins, 2);
	catalog_add_world(); /* again: harmless */
	ck_assert_uint_eq(catalog_hash(), before);
}
END_TEST

START_TEST(a_table_is_msgpack_and_leaves_out_what_does_not_fit)
{
	static const char *const columns[] = {"a", "b"};
	struct table_writer t;
	struct slice out;
	struct unpack u;
	const char *key;
	uint32_t n, len;

	table_begin(&t, columns, 2, TABLE_BYTES);
	for (uint64_t i = 0; i < TABLE_ROWS; i++) {
		table_u64(&t, i);
		table_str(&t, "some text");
	}
	out = table_end(&t);
	ck_assert(out.len > 0 && out.len <= TABLE_BYTES);
	u = (struct unpack){.p = slice_data(&out), .end = slice_data(&out) + out.len};
	ck_assert(unpack_map(&u, &n) == OK && n >= 2);
	ck_assert(unpack_str(&u, &key, &len) == OK && len == 7 && memcmp(key, "columns", 7) == 0);
	ck_assert(unpack_skip(&u) == OK);
	ck_assert(unpack_str(&u, &key, &len) == OK && len == 4 && memcmp(key, "rows", 4) == 0);
	ck_assert(unpack_array(&u, &n) == OK && n > 1000 && n < TABLE_ROWS);
	for (; n > 0; n--)
		ck_assert(unpack_skip(&u) == OK);
	slice_release(&out);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("core codec");
	TCase *tc = tcase_create("codec");
	SRunner *runner;
	int failed;

	log_set_level((enum log_level) - 1);
	catalog_add_core();
	catalog_add_sup();
	catalog_add_world();
	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, every_message_comes_back_as_it_went);
	tcase_add_test(tc, every_truncation_is_refused);
	tcase_add_test(tc, mutations_are_refused_or_decoded_in_range);
	tcase_add_test(tc, noise_is_refused);
	tcase_add_test(tc, missing_fields_are_zero_and_extra_ones_are_skipped);
	tcase_add_test(tc, a_field_over_its_maximum_is_refused);
	tcase_add_test(tc, hostile_lengths_and_depths_allocate_nothing);
	tcase_add_test(tc, the_cursor_reads_all_widths_of_integers);
	tcase_add_test(tc, a_pid_is_read_back_from_its_text);
	tcase_add_test(tc, bad_pid_texts_are_refused);
	tcase_add_test(tc, messages_print_on_one_line_for_people);
	tcase_add_test(tc, the_catalog_finds_by_tag_and_name_and_its_hash_stands);
	tcase_add_test(tc, a_table_is_msgpack_and_leaves_out_what_does_not_fit);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
