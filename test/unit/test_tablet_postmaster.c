/* The tablet's knowledge of Postgres's texts and files, without a Postgres. */
#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/tablet/postgres.h"
#include "runtime/base/bytes.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"

START_TEST(versions_are_read)
{
	static const struct {
		const char *text;
		enum status st;
		uint32_t major, number;
	} cases[] = {
		{"postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", OK, 15, 150020},
		{"postgres (PostgreSQL) 16beta1", OK, 16, 160000},
		{"postgres (PostgreSQL) 17devel", OK, 17, 170000},
		{"postgres (PostgreSQL) 9.6.24", OK, 9, 90006},
		{"postgres (PostgreSQL) x", E_INVALID, 0, 0},
		{"postgres 15.1", E_INVALID, 0, 0},
		{"", E_INVALID, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint32_t major = 0, number = 0;

		ck_assert_int_eq(postgres_version_parse(cases[i].text, &major, &number), cases[i].st);
		ck_assert_uint_eq(major, cases[i].major);
		ck_assert_uint_eq(number, cases[i].number);
	}
}
END_TEST

START_TEST(postmaster_pid_is_read_however_far_it_is_written)
{
	static const char full[] =
		"4242\n/data/pg\n1700000000\n5432\n/run/pg\nlocalhost\n  1234567   0\nready   \n";
	struct postmaster_pid p;

	ck_assert_int_eq(postmaster_pid_parse(full, strlen(full), &p), OK);
	ck_assert_int_eq(p.pid, 4242);
	ck_assert_str_eq(p.data_dir, "/data/pg");
	ck_assert_int_eq(p.started, 1700000000);
	ck_assert_uint_eq(p.port, 5432);
	ck_assert_str_eq(p.socket_dir, "/run/pg");
	ck_assert_int_eq(p.status, POSTMASTER_READY);
	for (size_t n = 0; n <= strlen(full); n++) {
		char *copy = malloc(n + 1); /* its own, so that ASan sees a read past the end */

		memcpy(copy, full, n);
		(void)!postmaster_pid_parse(copy, n, &p);
		free(copy);
	}
	ck_assert_int_eq(postmaster_pid_parse("", 0, &p), E_AGAIN);
	ck_assert_int_eq(postmaster_pid_parse("4242\n", 5, &p), E_AGAIN);
	ck_assert_int_eq(postmaster_pid_parse("garbage\n/x\n", 11, &p), E_INVALID);
	ck_assert_int_eq(postmaster_pid_parse("0\n/x\n", 5, &p), E_INVALID);
	ck_assert_int_eq(postmaster_pid_parse("99999999999\n/x\n", 15, &p), E_INVALID);
}
END_TEST

START_TEST(proc_stat_is_read_also_with_odd_names)
{
	static const char tail[] = " S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 9 9";
	char text[200], state;
	uint64_t ticks;

	snprintf(text, sizeof(text), "42 (a) b (c))%s", tail);
	ck_assert_int_eq(proc_stat_parse(text, &state, &ticks), OK);
	ck_assert_int_eq(state, 'S');
	ck_assert_uint_eq(ticks, 987654);
	ck_assert_int_eq(proc_stat_parse("42 (x) S 1", &state, &ticks), E_INVALID);
	ck_assert_int_eq(proc_stat_parse("", &state, &ticks), E_INVALID);
}
END_TEST

START_TEST(configuration_keeps_the_socket_private_and_quotes)
{
	struct postgres_settings s = {
		.port = 15600, .max_connections = 77, .socket_dir = "/tmp/it's \\ here"};
	struct writer w;

	writer_init(&w, 65536);
	postgres_write_conf(&w, &s);
	writer_u8(&w, '\0');
	ck_assert_ptr_nonnull(
		strstr((char *)w.buf->data, "unix_socket_directories = '/tmp/it''s \\\\ here'\n"));
	ck_assert_ptr_nonnull(strstr((char *)w.buf->data, "port = 15600\n"));
	ck_assert_ptr_nonnull(strstr((char *)w.buf->data, "max_connections = 77\n"));
	ck_assert_ptr_nonnull(strstr((char *)w.buf->data, "listen_addresses = '127.0.0.1'\n"));
	w.len = 0;
	postgres_write_hba(&w);
	writer_u8(&w, '\0');
	ck_assert_ptr_null(strstr((char *)w.buf->data, "0.0.0.0"));
	ck_assert_ptr_null(strstr(strstr((char *)w.buf->data, "host "), "trust"));
	writer_release(&w);
	ck_assert(postgres_conf_includes("a = 1\n  include 'multigres.conf'\n", "multigres.conf"));
	ck_assert(!postgres_conf_includes("# include 'multigres.conf'\n", "multigres.conf"));
}
END_TEST

START_TEST(a_socket_path_never_gets_too_long)
{
	char base[400], out[POSTGRES_SOCKET_MAX + 1];

	postgres_socket_dir("/var/lib/x", 1000, out);
	ck_assert_str_eq(out, "/var/lib/x/sock");
	for (size_t n = 1; n < sizeof(base); n++) {
		memset(base, 'd', n);
		base[0] = '/';
		base[n] = '\0';
		postgres_socket_dir(base, 4294967294u, out);
		ck_assert_uint_le(strlen(out) + strlen("/.s.PGSQL.65535"), POSTGRES_SOCKET_MAX);
	}
	ck_assert_ptr_nonnull(strstr(out, "/tmp/multigres-4294967294-"));
}
END_TEST

/* ---- files --------------------------------------------------------------------------------------------------- */

static struct postgres_place place;

static void make_place(void)
{
	char base[] = "/tmp/test-tablet-XXXXXX";

	log_set_level(LOG_ERROR_LEVEL);
	ck_assert_ptr_nonnull(mkdtemp(base));
	place = (struct postgres_place){
		.uid = -1, .gid = -1, .major = 15, .port = 15999, .max_connections = 10};
	str_copy(place.base, sizeof(place.base), base);
	snprintf(place.socket_dir, sizeof(place.socket_dir), "%s/sock", base);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

static void remove_place(void)
{
	ck_assert_int_eq(nftw(place.base, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void write_text(const char *name, const char *text)
{
	char path[600];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", place.base, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void make_subdir(const char *name)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", place.base, name);
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

static bool is_there(const char *name)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", place.base, name);
	return access(path, F_OK) == 0;
}

START_TEST(only_an_empty_place_is_free_for_initdb)
{
	struct error err = {0};
	bool found = true;

	ck_assert_int_eq(postgres_prepare(&place, &err), OK);
	ck_assert_int_eq(postgres_prepare(&place, &err), OK);
	ck_assert_int_eq(postgres_inspect(&place, &found, &err), OK);
	ck_assert(!found);
	make_subdir("pgdata");
	ck_assert_int_eq(postgres_inspect(&place, &found, &err), OK);
	ck_assert(!found);
	write_text("pgdata/somebody's", "precious");
	ck_assert_int_eq(postgres_inspect(&place, &found, &err), E_DENIED);
	write_text("pgdata/PG_VERSION", "14\n");
	ck_assert_int_eq(postgres_inspect(&place, &found, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.text, "Postgres 14"));
	write_text("pgdata/PG_VERSION", "15\n");
	ck_assert_int_eq(postgres_inspect(&place, &found, &err), E_DENIED);
	ck_assert_ptr_nonnull(strstr(err.hint, "--attach"));
	ck_assert(is_there("pgdata/somebody's"));
}
END_TEST

START_TEST(an_interrupted_initdb_is_moved_aside_and_a_whole_one_gets_its_name)
{
	struct error err = {0};
	bool found;

	make_subdir("pgdata.new");
	write_text("pgdata.new/half", "done");
	ck_assert_int_eq(postgres_inspect(&place, &found, &err), OK);
	ck_assert(!found && is_there("pgdata.new.aside.1/half"));
	make_subdir("pgdata.new");
	write_text("pgdata.new/PG_VERSION", "15\n");
	write_text("pgdata.new/postgresql.conf", "# theirs\n");
	ck_assert_int_eq(postgres_install(&place, &err), OK);
	ck_assert_int_eq(postgres_inspect(&place, &found, &err), OK);
	ck_assert(found);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(postgres_configure(&place, &err), OK);
	ck_assert(is_there("pgdata/multigres.conf") && is_there("pgdata/multigres_hba.conf"));
	make_subdir("pgdata.new");
	ck_assert_int_eq(postgres_install(&place, &err), E_IO); /* a cluster stands there already */
}
END_TEST

START_TEST(a_pid_of_another_program_is_no_postmaster)
{
	struct error err = {0};
	char text[1000];
	int32_t pid = -1;

	make_subdir("pgdata");
	make_subdir("sock");
	ck_assert_int_eq(postgres_find_running(&place, &pid, &err), OK);
	ck_assert_int_eq(pid, 0);
	snprintf(text, sizeof(text), "%d\n%s/pgdata\n%ld\n15999\n%s\n", (int)getpid(), place.base,
		(long)time(NULL), place.socket_dir);
	write_text("pgdata/postmaster.pid", text);
	write_text("sock/.s.PGSQL.15999.lock", text);
	ck_assert_int_eq(postgres_find_running(&place, &pid, &err), OK);
	ck_assert_int_eq(pid, 0);
	ck_assert(!is_there("pgdata/postmaster.pid") && !is_there("sock/.s.PGSQL.15999.lock"));
	write_text("pgdata/postmaster.pid", "4194303\n/x\n1\n");
	ck_assert_int_eq(postgres_find_running(&place, &pid, &err), OK);
	ck_assert_int_eq(pid, 0);
	ck_assert(
		is_there("pgdata/postmaster.pid")); /* dead: Postgres itself decides, by its shared memory */
}
END_TEST

START_TEST(the_last_lines_of_the_log_are_shown_on_one)
{
	char out[100];

	for (int i = 0; i < 50; i++)
		write_text("postgres.log", "one\ntwo\tthree\nFATAL:  out of luck\n");
	postgres_log_tail(&place, out, sizeof(out));
	ck_assert_str_eq(out, "one|two three|FATAL:  out of luck");
	postgres_log_tail(&place, out, 25);
	ck_assert_str_eq(out, "FATAL:  out of luck");
}
END_TEST

START_TEST(a_directory_that_postgres_may_not_enter_is_refused_with_its_name)
{
	struct error err = {0};

	if (geteuid() != 0)
		return;
	place.uid = place.gid = 65534;
	make_subdir("private");
	str_copy(place.base + strlen(place.base), 20, "/private/base");
	ck_assert_int_eq(postgres_prepare(&place, &err), E_DENIED);
	ck_assert_ptr_nonnull(strstr(err.text, "/test-tablet-"));
	place.base[strlen(place.base) - strlen("/private/base")] = '\0';
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tablet postmaster");
	TCase *texts = tcase_create("texts"), *files = tcase_create("files");
	SRunner *r;
	int failed;

	tcase_add_test(texts, versions_are_read);
	tcase_add_test(texts, postmaster_pid_is_read_however_far_it_is_written);
	tcase_add_test(texts, proc_stat_is_read_also_with_odd_names);
	tcase_add_test(texts, configuration_keeps_the_socket_private_and_quotes);
	tcase_add_test(texts, a_socket_path_never_gets_too_long);
	tcase_add_checked_fixture(files, make_place, remove_place);
	tcase_add_test(files, only_an_empty_place_is_free_for_initdb);
	tcase_add_test(files, an_interrupted_initdb_is_moved_aside_and_a_whole_one_gets_its_name);
	tcase_add_test(files, a_pid_of_another_program_is_no_postmaster);
	tcase_add_test(files, the_last_lines_of_the_log_are_shown_on_one);
	tcase_add_test(files, a_directory_that_postgres_may_not_enter_is_refused_with_its_name);
	suite_add_tcase(s, texts);
	suite_add_tcase(s, files);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
