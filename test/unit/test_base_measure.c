/* Random streams, histograms, metrics, fault points. */
#include <check.h>
#include <stdlib.h>

#include "runtime/base/check.h"
#include "runtime/base/fault.h"
#include "runtime/base/hist.h"
#include "runtime/base/metrics.h"
#include "runtime/base/rand.h"

/* ---- rand ---- */

START_TEST(a_stream_is_xoshiro256pp_seeded_by_splitmix64)
{
	/* splitmix64(0) gives e220a8397b1dcdaf, 6e789e6aa1b965f4, ...: the published test vector */
	struct rand_stream r = rand_init(0);

	ck_assert(r.s[0] == 0xe220a8397b1dcdafull && r.s[1] == 0x6e789e6aa1b965f4ull);
	r = (struct rand_stream){.s = {1, 2, 3, 4}};
	ck_assert_uint_eq(rand_u64(&r), 41943041u); /* xoshiro256++ of state 1, 2, 3, 4 */
	ck_assert_uint_eq(rand_u64(&r), 58720359u);
}
END_TEST

START_TEST(a_fork_depends_on_seed_and_label_and_not_on_draws)
{
	struct rand_stream a = rand_init(7), b = rand_init(7), net, again, other;

	for (int i = 0; i < 100; i++)
		rand_u64(&a);
	net = rand_fork(&a, "net");
	again = rand_fork(&b, "net");
	other = rand_fork(&b, "io");
	ck_assert_uint_eq(rand_u64(&net), rand_u64(&again));
	ck_assert_uint_ne(rand_u64(&net), rand_u64(&other));
	b = rand_init(8);
	other = rand_fork(&b, "net");
	ck_assert_uint_ne(rand_u64(&net), rand_u64(&other));
}
END_TEST

START_TEST(draws_stay_in_range_and_are_even)
{
	struct rand_stream r = rand_init((uint64_t)_i);
	uint32_t hits[10] = {0}, chances = 0, bad = 0;
	uint64_t sum = 0;

	ck_assert_uint_eq(rand_below(&r, 0), 0);
	ck_assert_uint_eq(rand_below(&r, 1), 0);
	for (int i = 0; i < 100000; i++) {
		uint64_t e = rand_exponential(&r, 1000), v = rand_between(&r, 5, 14);

		bad += v < 5 || v > 14 || e > 16000;
		hits[v - 5]++;
		chances += rand_chance(&r, 250000);
		sum += e;
	}
	ck_assert_uint_eq(bad, 0);
	for (int i = 0; i < 10; i++)
		ck_assert(hits[i] > 9500 && hits[i] < 10500);
	ck_assert(chances > 24000 && chances < 26000);
	ck_assert(sum > 95000000 && sum < 107000000);
	ck_assert(!rand_chance(&r, 0) && rand_chance(&r, RAND_MILLION));
	ck_assert(rand_between(&r, 0, UINT64_MAX) != rand_between(&r, 0, UINT64_MAX));
}
END_TEST

/* ---- hist ---- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

START_TEST(percentiles_are_within_two_percent)
{
	enum { N = 5000 };
	static uint64_t values[N];
	static struct hist h;
	struct rand_stream r = rand_init((uint64_t)_i);
	static const uint32_t asked[] = {1, 100, 1000, 5000, 9000, 9900, 9990, 10000};
	uint64_t sum = 0;

	hist_reset(&h);
	for (int i = 0; i < N; i++) {
		values[i] = rand_u64(&r) >> rand_between(&r, 25, 63);
		sum += values[i];
		hist_record(&h, values[i]);
	}
	qsort(values, N, sizeof(values[0]), by_value);
	for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
		uint64_t rank = ((uint64_t)N * asked[i] + 9999) / 10000, exact = values[rank - 1];
		uint64_t got = hist_percentile(&h, asked[i]), off = got > exact ? got - exact : exact - got;

		ck_assert_msg(off * 60 <= exact, "p%u: %llu for %llu", asked[i], (unsigned long long)got,
			(unsigned long long)exact);
	}
	ck_assert(h.count == N && h.sum == sum && h.min == values[0] && h.max == values[N - 1]);
	ck_assert_uint_eq(hist_percentile(&h, 0), values[0]);
	ck_assert_uint_eq(hist_count_le(&h, UINT64_MAX), N);
}
END_TEST

START_TEST(small_values_are_exact_and_huge_ones_are_kept)
{
	struct hist h = {0};

	ck_assert_uint_eq(hist_percentile(&h, 5000), 0);
	ck_assert_uint_eq(hist_count_le(&h, 10), 0);
	for (uint64_t v = 0; v < 64; v++)
		hist_record(&h, v);
	for (uint64_t v = 0; v < 64; v++)
		ck_assert_uint_eq(hist_count_le(&h, v), v + 1);
	hist_record(&h, UINT64_MAX);
	ck_assert_uint_eq(hist_percentile(&h, 10000), UINT64_MAX);
}
END_TEST

START_TEST(merging_and_coding_keep_everything)
{
	static struct hist a, b, merged, decoded;
	struct rand_stream r = rand_init((uint64_t)_i);
	struct writer w;
	size_t used;

	hist_reset(&a);
	hist_reset(&b);
	for (int i = 0; i < 1000; i++)
		hist_record(i % 3 ? &a : &b, rand_u64(&r) >> rand_between(&r, 0, 63));
	merged = a;
	hist_merge(&merged, &b);
	ck_assert(merged.count == 1000 && merged.sum == a.sum + b.sum);
	writer_init(&w, 1 << 20);
	hist_encode(&b, &w);
	decoded = a;
	ck_assert_int_eq(hist_decode(w.buf->data, w.len, &decoded, &used), OK);
	ck_assert_uint_eq(used, w.len);
	ck_assert_mem_eq(&decoded, &merged, sizeof(merged));
	for (uint32_t n = 0; n < w.len; n++) {
		struct hist before = decoded;

		ck_assert_int_eq(hist_decode(w.buf->data, n, &decoded, &used), E_INVALID);
		ck_assert_mem_eq(&decoded, &before, sizeof(before));
	}
	for (int i = 0; i < 20000; i++) { /* any bytes are refused or taken in range */
		uint8_t bytes[200];

		rand_bytes(&r, bytes, sizeof(bytes));
		if (i % 2)
			memcpy(bytes, w.buf->data, 34);
		(void)!hist_decode(bytes, sizeof(bytes), &decoded, &used);
	}
	writer_release(&w);
}
END_TEST

/* ---- metrics ---- */

static uint32_t requests, by_a, by_b, open_now, took, took_s;

static void declare(void)
{
	requests = metric_declare("t_requests_total", "requests", METRIC_COUNTER, NULL);
	by_a = metric_declare("t_kinds_total", "by kind", METRIC_COUNTER, "kind=\"a\"");
	open_now = metric_declare("t_open", "open now", METRIC_GAUGE, NULL);
	by_b = metric_declare("t_kinds_total", "by kind", METRIC_COUNTER, "kind=\"b\"");
	took = metric_declare("t_took_us", "how long", METRIC_HISTOGRAM, "op=\"x\"");
	took_s = metric_declare("t_took_seconds", "how long", METRIC_HISTOGRAM, NULL);
}

START_TEST(a_metric_declared_twice_is_one)
{
	uint32_t n;

	declare();
	n = metric_n();
	declare();
	ck_assert_uint_eq(metric_n(), n);
	ck_assert_uint_ne(by_a, by_b);
	ck_assert_str_eq(metric_info(by_b)->label, "kind=\"b\"");
}
END_TEST

static const char expected[] = "# HELP t_requests_total requests\n"
			       "# TYPE t_requests_total counter\n"
			       "t_requests_total 7\n"
			       "# HELP t_kinds_total by kind\n"
			       "# TYPE t_kinds_total counter\n"
			       "t_kinds_total{kind=\"a\"} 1\n"
			       "t_kinds_total{kind=\"b\"} 2\n"
			       "# HELP t_open open now\n"
			       "# TYPE t_open gauge\n"
			       "t_open -3\n"
			       "# HELP t_took_us how long\n"
			       "# TYPE t_took_us histogram\n"
			       "t_took_us_bucket{op=\"x\",le=\"100\"} 1\n"
			       "t_took_us_bucket{op=\"x\",le=\"250\"} 1\n";

START_TEST(metrics_render_as_prometheus_reads_them)
{
	static struct metric_values v, sum;
	struct writer w;
	char *text;

	declare();
	metric_add(&v, requests, 5);
	metric_add(&sum, requests, 2);
	metric_add(&v, by_a, 1);
	metric_add(&v, by_b, 2);
	metric_add(&v, open_now, -3);
	metric_observe(&v, took, 50);
	metric_observe(&v, took, 3000000);
	metric_observe(&v, took_s, 1500);
	metric_merge(&sum, &v);
	writer_init(&w, 1 << 20);
	metric_render(&sum, &w);
	writer_u8(&w, 0);
	text = (char *)w.buf->data;
	ck_assert_msg(strncmp(text, expected, strlen(expected)) == 0, "%s", text);
	ck_assert(strstr(text, "t_took_us_bucket{op=\"x\",le=\"2500000\"} 1\n"));
	ck_assert(strstr(text, "t_took_us_bucket{op=\"x\",le=\"5000000\"} 2\n"));
	ck_assert(strstr(text, "t_took_us_bucket{op=\"x\",le=\"+Inf\"} 2\n"));
	ck_assert(strstr(text, "t_took_us_sum{op=\"x\"} 3000050\nt_took_us_count{op=\"x\"} 2\n"));
	ck_assert(strstr(
		text, "t_took_seconds_bucket{le=\"0.001\"} 0\nt_took_seconds_bucket{le=\"0.0025\"} 1\n"));
	ck_assert(strstr(text, "t_took_seconds_bucket{le=\"60\"} 1\n"));
	ck_assert(strstr(text, "t_took_seconds_sum 0.0015\nt_took_seconds_count 1\n"));
	writer_release(&w);
	metric_values_release(&v);
	metric_values_release(&sum);
}
END_TEST

START_TEST(a_snapshot_travels_and_broken_ones_change_nothing)
{
	static struct metric_values v, sum;
	struct rand_stream r = rand_init(1);
	struct writer w;

	declare();
	metric_add(&v, requests, 5);
	metric_add(&v, open_now, -5);
	metric_observe(&v, took, 50);
	writer_init(&w, 1 << 20);
	metric_encode(&v, &w);
	ck_assert_int_eq(metric_decode(w.buf->data, w.len, &sum), OK);
	ck_assert_int_eq(metric_decode(w.buf->data, w.len, &sum), OK);
	ck_assert(sum.values[requests] == 10 && sum.values[open_now] == -10 && sum.hists[took]->count == 2);
	for (uint32_t n = 0; n < w.len; n++)
		ck_assert_int_eq(metric_decode(w.buf->data, n, &sum), E_INVALID);
	ck_assert(sum.values[requests] == 10 && sum.hists[took]->count == 2);
	for (int i = 0; i < 20000; i++) {
		uint32_t at = (uint32_t)rand_below(&r, w.len);
		uint8_t was = w.buf->data[at];

		w.buf->data[at] = (uint8_t)rand_u64(&r);
		(void)!metric_decode(w.buf->data, w.len, &sum);
		w.buf->data[at] = was;
	}
	writer_release(&w);
	metric_values_release(&v);
	metric_values_release(&sum);
}
END_TEST

/* ---- faults ---- */

static bool always(enum fault_point point)
{
	return point == F_IO_RESET;
}

START_TEST(fault_points_are_off_unless_somebody_hooks_them)
{
	ck_assert(!fault(F_IO_RESET));
	fault_hook = always;
	ck_assert(fault(F_IO_RESET) && !fault(F_TLS_FAILS));
	fault_hook = NULL;
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		ck_assert_uint_eq(fault_parse(fault_name((enum fault_point)i)), i);
	ck_assert(fault_parse("nonsense") == FAULT_COUNT && fault_name(FAULT_COUNT) == NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("base measure");
	TCase *tc = tcase_create("measure");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tc, a_stream_is_xoshiro256pp_seeded_by_splitmix64);
	tcase_add_test(tc, a_fork_depends_on_seed_and_label_and_not_on_draws);
	tcase_add_loop_test(tc, draws_stay_in_range_and_are_even, 0, 5);
	tcase_add_loop_test(tc, percentiles_are_within_two_percent, 0, 20);
	tcase_add_test(tc, small_values_are_exact_and_huge_ones_are_kept);
	tcase_add_loop_test(tc, merging_and_coding_keep_everything, 0, 5);
	tcase_add_test(tc, a_metric_declared_twice_is_one);
	tcase_add_test(tc, metrics_render_as_prometheus_reads_them);
	tcase_add_test(tc, a_snapshot_travels_and_broken_ones_change_nothing);
	tcase_add_test(tc, fault_points_are_off_unless_somebody_hooks_them);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
