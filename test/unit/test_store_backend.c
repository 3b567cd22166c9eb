/*
 * The store's backends below the actor: commits and expectations on both, and what LMDB must survive: SIGKILL at any
 * instant, flipped bits, a second node, a full map.
 */
#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/store/backend.h"
#include "runtime/store/crc32c.h"

static char dir[64];

static void make_dir(void)
{
	str_copy(dir, sizeof(dir), "/tmp/test-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	log_set_level(LOG_ERROR_LEVEL);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

static void remove_dir(void)
{
	ck_assert_int_eq(nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static struct store_backend *open_lmdb(size_t map)
{
	struct store_backend *be;
	struct error err = {0};

	ck_assert_msg(store_open_lmdb(dir, map, &be, &err) == OK, "%s", err.text);
	return be;
}

static struct store_backend *open_kind(int kind)
{
	return kind == 0 ? open_lmdb(0) : store_open_memory();
}

/* Runs one batch as a unit of its own. */
static struct store_unit run(struct store_backend *be, struct store_batch *b)
{
	struct store_unit unit = {.ops = store_batch_take(b)};

	store_run_units(be, &unit, 1);
	slice_release(&unit.ops);
	store_batch_release(b);
	return unit;
}

static struct store_unit put(struct store_backend *be, const char *key, const char *value)
{
	struct store_batch b;

	store_batch_begin(&b);
	store_batch_put(&b, "t", key, (uint32_t)strlen(key), value, (uint32_t)strlen(value));
	return run(be, &b);
}

static enum status get(struct store_backend *be, const char *key, char *out, size_t cap, struct error *err)
{
	struct writer w;
	uint64_t version;
	enum status st;

	writer_init(&w, STORE_VALUE_MAX);
	st = store_read(be, "t", key, (uint32_t)strlen(key), &w, &version, err);
	if (!st)
		snprintf(out, cap, "%.*s", (int)w.len, w.len ? (const char *)w.buf->data : "");
	writer_release(&w);
	return st;
}

static void assert_value(struct store_backend *be, const char *key, const char *value)
{
	char text[64] = "";
	struct error err = {0};
	enum status st = get(be, key, text, sizeof(text), &err);

	ck_assert_int_eq(st, value ? OK : E_NOT_FOUND);
	if (value)
		ck_assert_str_eq(text, value);
}

START_TEST(crc32c_agrees_with_rfc_3720)
{
	uint8_t zeros[32] = {0};

	ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283u);
	ck_assert_uint_eq(crc32c(0, zeros, 32), 0x8a9136aau);
	ck_assert_uint_eq(crc32c(crc32c(0, "12345", 5), "6789", 4), 0xe3069283u);
}
END_TEST

START_TEST(what_was_put_is_read_until_deleted)
{
	struct store_backend *be = open_kind(_i);
	struct store_batch b;

	ck_assert_int_eq(put(be, "a", "1").status, OK);
	ck_assert_int_eq(put(be, "b", "").status, OK);
	assert_value(be, "a", "1");
	assert_value(be, "b", "");
	store_batch_begin(&b);
	store_batch_delete(&b, "t", "a", 1);
	store_batch_delete(&b, "t", "nothing", 7);
	ck_assert_int_eq(run(be, &b).status, OK);
	assert_value(be, "a", NULL);
	store_close(be);
}
END_TEST

START_TEST(expectations_decide_over_the_whole_batch)
{
	struct store_backend *be = open_kind(_i);
	uint64_t version = put(be, "a", "1").version;
	struct store_unit unit;
	struct store_batch b;

	store_batch_begin(&b);
	store_batch_put(&b, "t", "b", 1, "2", 1);
	store_batch_expect_absent(&b, "t", "a", 1);
	unit = run(be, &b);
	ck_assert_int_eq(unit.status, E_STALE);
	ck_assert_ptr_nonnull(strstr(unit.text, "t/a"));
	assert_value(be, "b", NULL);

	store_batch_begin(&b);
	store_batch_expect_version(&b, "t", "a", 1, version);
	store_batch_put(&b, "t", "a", 1, "3", 1);
	unit = run(be, &b);
	ck_assert_int_eq(unit.status, OK);
	ck_assert(unit.version > version);

	store_batch_begin(&b);
	store_batch_expect_version(&b, "t", "a", 1, version);
	store_batch_put(&b, "t", "a", 1, "4", 1);
	ck_assert_int_eq(run(be, &b).status, E_STALE);
	assert_value(be, "a", "3");
	store_close(be);
}
END_TEST

START_TEST(units_of_a_group_fail_alone)
{
	struct store_backend *be = open_kind(_i);
	struct store_unit units[3] = {0};
	struct store_batch b;

	for (int i = 0; i < 3; i++) {
		store_batch_begin(&b);
		if (i == 1)
			store_batch_expect_absent(&b, "t", "k0", 2); /* the first unit just put it */
		store_batch_put(&b, "t", i == 0 ? "k0" : i == 1 ? "k1" : "k2", 2, "x", 1);
		units[i].ops = store_batch_take(&b);
		store_batch_release(&b);
	}
	store_run_units(be, units, 3);
	ck_assert_int_eq(units[0].status, OK);
	ck_assert_int_eq(units[1].status, E_STALE);
	ck_assert_int_eq(units[2].status, OK);
	ck_assert(units[2].version > units[0].version);
	assert_value(be, "k1", NULL);
	assert_value(be, "k2", "x");
	for (int i = 0; i < 3; i++)
		slice_release(&units[i].ops);
	store_close(be);
}
END_TEST

START_TEST(malformed_and_oversized_batches_are_refused)
{
	static const char *const bad[] = {"\xc0", "\xdd\xff\xff\xff\xff", "\xdd\x00\x00\x00\x01\x90",
		"\xdd\x00\x00\x00\x01\x94\x09\xd9\x01t\xc4\x01k\xc4\x01v"};
	static const size_t lengths[] = {1, 5, 6, 15};
	struct store_backend *be = open_kind(_i);
	char key[STORE_KEY_MAX + 1] = {0};
	struct store_batch b;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct store_unit unit = {.ops = slice_copy(bad[i], (uint32_t)lengths[i])};

		store_run_units(be, &unit, 1);
		ck_assert_msg(unit.status == E_INVALID || unit.status == E_LIMIT, "case %zu: %s", i,
			status_name(unit.status));
		slice_release(&unit.ops);
	}
	store_batch_begin(&b);
	store_batch_put(&b, "t", key, sizeof(key), "v", 1);
	ck_assert_int_eq(run(be, &b).status, E_LIMIT);
	store_batch_begin(&b);
	for (int i = 0; i <= STORE_BATCH_OPS_MAX; i++)
		store_batch_put(&b, "t", &i, sizeof(i), "v", 1);
	ck_assert_int_eq(run(be, &b).status, E_LIMIT);
	store_close(be);
}
END_TEST

START_TEST(a_scan_stays_in_its_table_and_its_limits)
{
	struct store_backend *be = open_kind(_i);
	struct store_read_rows q = {.table = "t", .from = "b", .from_len = 1, .limit = 2};
	struct writer w;
	struct error err = {0};
	struct store_batch b;
	struct slice rows;
	struct store_row_view row;
	struct unpack u;

	store_batch_begin(&b);
	for (const char *k = "abcd"; *k; k++)
		store_batch_put(&b, "t", k, 1, k, 1);
	store_batch_put(&b, "s", "x", 1, "", 0);
	store_batch_put(&b, "u", "x", 1, "", 0);
	ck_assert_int_eq(run(be, &b).status, OK);
	writer_init(&w, 65536);
	q.rows = &w;
	ck_assert_int_eq(store_read_many(be, &q, &err), OK);
	ck_assert_uint_eq(q.n, 2);
	ck_assert(q.more);
	rows = writer_take(&w);
	u = store_rows_open(&rows);
	ck_assert_int_eq(store_rows_next(&u, &row), OK);
	ck_assert_uint_eq(row.key_len, 1);
	ck_assert_int_eq(row.key[0], 'b');
	ck_assert_int_eq(row.value[0], 'b');
	ck_assert_int_eq(store_rows_next(&u, &row), OK);
	ck_assert_int_eq(store_rows_next(&u, &row), E_AGAIN);
	slice_release(&rows);
	q.from = "d";
	ck_assert_int_eq(store_read_many(be, &q, &err), OK);
	ck_assert_uint_eq(q.n, 1);
	ck_assert(!q.more);
	writer_release(&w);
	store_close(be);
}
END_TEST

/* The child commits numbered keys and says each number that was acknowledged; the parent kills it at some instant. */
static _Noreturn void commit_forever(int fd)
{
	struct store_backend *be = open_lmdb(0);

	for (uint32_t i = 0;; i++) {
		struct store_batch b;
		struct store_unit unit;

		store_batch_begin(&b);
		store_batch_put(&b, "t", &i, sizeof(i), &i, sizeof(i));
		store_batch_put(&b, "u", &i, sizeof(i), &i, sizeof(i));
		unit = run(be, &b);
		if (unit.status || write(fd, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

START_TEST(nothing_acknowledged_is_lost_by_sigkill)
{
	uint32_t i, acked = 0;

	for (int round = 0; round < 10; round++) {
		struct store_backend *be;
		struct error err = {0};
		int fds[2], status;
		pid_t pid;
		bool any = false;

		ck_assert_int_eq(pipe(fds), 0);
		pid = fork();
		if (pid == 0) {
			close(fds[0]);
			commit_forever(fds[1]);
		}
		close(fds[1]);
		while (!any && read(fds[0], &i, sizeof(i)) == sizeof(i))
			any = true;
		usleep((useconds_t)(round * 3000 + 1000));
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		acked = i;
		while (read(fds[0], &i, sizeof(i)) == sizeof(i))
			acked = i;
		close(fds[0]);
		ck_assert(any);
		be = open_lmdb(0);
		for (i = 0; i <= acked + 1; i++) {
			struct writer w;
			uint64_t version;
			enum status in_t, in_u;

			writer_init(&w, 64);
			in_t = store_read(be, "t", &i, sizeof(i), &w, &version, &err);
			in_u = store_read(be, "u", &i, sizeof(i), &w, &version, &err);
			writer_release(&w);
			ck_assert_int_eq(in_t, in_u); /* both of a batch or none */
			ck_assert_msg(i > acked || in_t == OK,
				"round %d: record %u was acknowledged and is gone", round, i);
		}
		store_close(be);
	}
}
END_TEST

/* Flips the first occurrence of the value in the data file. */
static void damage(const char *value)
{
	char path[128];
	uint8_t *data;
	struct stat st;
	int fd, found = 0;

	snprintf(path, sizeof(path), "%s/store/data.mdb", dir);
	fd = open(path, O_RDWR);
	ck_assert(fd >= 0 && fstat(fd, &st) == 0);
	data = malloc((size_t)st.st_size);
	ck_assert_int_eq(pread(fd, data, (size_t)st.st_size, 0), st.st_size);
	for (off_t at = 0; at + (off_t)strlen(value) <= st.st_size; at++) {
		if (memcmp(data + at, value, strlen(value)) != 0)
			continue;
		found++;
		ck_assert_int_eq(pwrite(fd, "#", 1, at), 1);
	}
	free(data);
	close(fd);
	ck_assert_int_gt(found, 0);
}

START_TEST(a_flipped_bit_is_found_and_harms_nothing_else)
{
	struct store_backend *be = open_lmdb(0);
	struct error err = {0};
	char text[64];

	put(be, "good", "still here");
	put(be, "bad", "needle in a haystack");
	store_close(be);
	damage("needle in a haystack");
	be = open_lmdb(0);
	ck_assert_int_eq(get(be, "bad", text, sizeof(text), &err), E_IO);
	ck_assert_str_eq(err.sqlstate, "XX001");
	ck_assert_ptr_nonnull(strstr(err.text, "t/bad is damaged: checksum mismatch"));
	assert_value(be, "good", "still here");
	store_close(be);
}
END_TEST

START_TEST(a_second_node_is_refused_with_the_pid_of_the_first)
{
	struct store_backend *be = open_lmdb(0), *second;
	struct error err = {0};
	char pid[16];

	snprintf(pid, sizeof(pid), "pid %d", (int)getpid());
	ck_assert_int_eq(store_open_lmdb(dir, 0, &second, &err), E_EXISTS);
	ck_assert_ptr_nonnull(strstr(err.text, pid));
	ck_assert_str_ne(err.hint, "");
	store_close(be);
	store_close(open_lmdb(0));
}
END_TEST

START_TEST(a_full_map_is_an_error_of_the_commit_that_does_not_fit)
{
	struct store_backend *be = open_lmdb(256 * 1024);
	struct store_unit units[2] = {0};
	struct store_batch b;
	char *big = calloc(1, 300 * 1024);

	for (int i = 0; i < 2; i++) {
		store_batch_begin(&b);
		store_batch_put(&b, "t", i ? "big" : "small", i ? 3 : 5, big, i ? 300 * 1024 : 10);
		units[i].ops = store_batch_take(&b);
		store_batch_release(&b);
	}
	store_run_units(be, units, 2);
	ck_assert_int_eq(units[0].status, OK);
	ck_assert_int_eq(units[1].status, E_FULL);
	ck_assert_int_eq(put(be, "after", "1").status, OK);
	for (int i = 0; i < 2; i++)
		slice_release(&units[i].ops);
	free(big);
	store_close(be);
}
END_TEST

START_TEST(a_crash_of_the_memory_backend_takes_a_suffix_of_what_was_not_acknowledged)
{
	struct store_backend *be = store_open_memory(), *old;

	put(be, "a", "1");
	be->ops->acknowledged(be);
	put(be, "a", "2");
	put(be, "b", "1");
	put(be, "c", "1");
	ck_assert_uint_eq(store_memory_unacknowledged(be), 3);
	old = be;
	be = store_memory_crash(be, 1);
	ck_assert_int_eq(put(old, "a", "late").status, E_IO);
	assert_value(be, "a", "2");
	assert_value(be, "b", NULL);
	assert_value(be, "c", NULL);
	put(be, "a", "3");
	be = store_memory_crash(be, 0);
	assert_value(be, "a", "2");
	store_close(be);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store backend");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, make_dir, remove_dir);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, crc32c_agrees_with_rfc_3720);
	tcase_add_loop_test(t, what_was_put_is_read_until_deleted, 0, 2);
	tcase_add_loop_test(t, expectations_decide_over_the_whole_batch, 0, 2);
	tcase_add_loop_test(t, units_of_a_group_fail_alone, 0, 2);
	tcase_add_loop_test(t, malformed_and_oversized_batches_are_refused, 0, 2);
	tcase_add_loop_test(t, a_scan_stays_in_its_table_and_its_limits, 0, 2);
	tcase_add_test(t, nothing_acknowledged_is_lost_by_sigkill);
	tcase_add_test(t, a_flipped_bit_is_found_and_harms_nothing_else);
	tcase_add_test(t, a_second_node_is_refused_with_the_pid_of_the_first);
	tcase_add_test(t, a_full_map_is_an_error_of_the_commit_that_does_not_fit);
	tcase_add_test(t, a_crash_of_the_memory_backend_takes_a_suffix_of_what_was_not_acknowledged);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
