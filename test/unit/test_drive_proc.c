/* Processes, foreign descriptors and helper threads of the drive. */
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "test/unit/test_drive.h"

struct proc_args {
	struct proc_start spec;
	const char *const *argv;
	uint64_t id;
	enum status st;
	struct error err;
	int32_t os_pid;
	int sig, fd;
	uint8_t events;
};

static void do_start(struct actor *self, struct probe *p, void *arg)
{
	struct proc_args *a = arg;

	(void)p;
	a->st = proc_start(self, &a->spec, &a->id, &a->err);
	if (a->st == OK)
		a->os_pid = proc_os_pid(self, a->id);
}

static void do_adopt(struct actor *self, struct probe *p, void *arg)
{
	struct proc_args *a = arg;

	(void)p;
	a->st = proc_adopt(self, a->os_pid, &a->id);
}

static void do_signal(struct actor *self, struct probe *p, void *arg)
{
	struct proc_args *a = arg;

	(void)p;
	a->st = proc_signal(self, a->id, a->sig);
}

#define SHELL(text) ((const char *const[]){"/bin/sh", "-c", (text), NULL})

static struct proc_args start(struct probe *p, struct proc_start spec)
{
	struct proc_args a = {.spec = spec};

	probe_do(p, do_start, &a);
	return a;
}

/* All output of one stream until the end of the process. */
static void output_is(struct probe *p, const char *out, const char *err, int64_t code)
{
	char got[2][4096] = {"", ""};
	struct event e = probe_wait(p, PROC_EXITED);

	ck_assert_int_eq((int64_t)e.other, code);
	while ((e = probe_wait_ms(p, PROC_OUTPUT, 0)).tag == PROC_OUTPUT) {
		char *to = got[e.other];

		snprintf(to + strlen(to), sizeof(got[0]) - strlen(to), "%s", (char *)e.bytes);
	}
	ck_assert_str_eq(got[0], out);
	ck_assert_str_eq(got[1], err);
}

START_TEST(output_comes_by_stream_before_the_exit_code)
{
	struct probe *p = drive_up(1);
	struct proc_args a =
		start(p, (struct proc_start){.argv = SHELL("read x; echo out $x; echo err >&2; exit 7"),
				 .input = "in\n",
				 .uid = -1,
				 .gid = -1});

	ck_assert_msg(a.st == OK, "%s", a.err.text);
	output_is(p, "out in\n", "err\n", 7);
	drive_down();
}
END_TEST

START_TEST(environment_and_directory_are_those_given)
{
	struct probe *p = drive_up(1);
	const char *env[] = {"A=1", NULL};

	start(p,
		(struct proc_start){
			.argv = SHELL("echo $A$HOME; pwd"), .env = env, .cwd = "/usr", .uid = -1, .gid = -1});
	output_is(p, "1\n/usr\n", "", 0);
	drive_down();
}
END_TEST

START_TEST(a_child_inherits_nothing_of_ours)
{
	struct probe *p = drive_up(1);
	int leak = open("/dev/null", O_RDONLY); /* not close-on-exec, as a library might have it */

	ck_assert_int_ge(leak, 3);
	start(p, (struct proc_start){
			 .argv = SHELL("ls /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign)' /proc/self/status"),
			 .uid = -1,
			 .gid = -1});
	output_is(p, "4\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", "",
		0); /* 0 1 2 and ls's own */
	close(leak);
	drive_down();
}
END_TEST

START_TEST(a_program_that_is_not_there_is_an_error_with_its_name)
{
	struct probe *p = drive_up(1);
	const char *argv[] = {"/no/such/program", NULL};
	struct proc_args a = start(p, (struct proc_start){.argv = argv, .uid = -1, .gid = -1});

	ck_assert_int_eq(a.st, E_NOT_FOUND);
	ck_assert_str_eq(a.err.text,
		"could not start \"/no/such/program\": could not execute it: no such file or directory");
	a = start(p, (struct proc_start){.argv = SHELL("true"), .cwd = "/no/dir", .uid = -1, .gid = -1});
	ck_assert_str_eq(a.err.text,
		"could not start \"/bin/sh\": could not change to its directory: no such file or directory");
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
	drive_down();
}
END_TEST

START_TEST(user_group_and_output_file_are_its_own)
{
	struct probe *p;
	char file[64];
	struct stat st;
	char text[64] = "";
	int fd;

	if (geteuid() != 0)
		return;
	p = drive_up(1);
	snprintf(file, sizeof(file), "/tmp/test_drive_proc.%d", (int)getpid());
	for (int i = 0; i < 2; i++) { /* the second appends */
		start(p, (struct proc_start){.argv = SHELL("id -u; id -G; echo e >&2"),
				 .uid = 65534,
				 .gid = 65534,
				 .output_file = file});
		probe_wait(p, PROC_EXITED);
	}
	ck_assert_int_eq(stat(file, &st), 0);
	ck_assert_uint_eq(st.st_uid, 65534);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	fd = open(file, O_RDONLY);
	ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
	ck_assert_str_eq(text, "65534\n65534\ne\n65534\n65534\ne\n");
	close(fd);
	unlink(file);
	drive_down();
}
END_TEST

START_TEST(a_signal_reaches_it_and_is_told)
{
	struct probe *p = drive_up(1);
	struct proc_args a =
		start(p, (struct proc_start){.argv = SHELL("exec sleep 60"), .uid = -1, .gid = -1});
	struct event e;

	a.sig = SIGTERM;
	probe_do(p, do_signal, &a);
	ck_assert_int_eq(a.st, OK);
	e = probe_wait(p, PROC_EXITED);
	ck_assert_int_eq(e.sig, SIGTERM);
	ck_assert_int_eq((int64_t)e.other, -1);
	probe_do(p, do_signal, &a);
	ck_assert_int_eq(a.st, E_CLOSED);
	drive_down();
}
END_TEST

static void do_kill(struct actor *self, struct probe *p, void *arg)
{
	(void)p;
	actor_exit(self, ((struct probe *)arg)->pid, E_KILLED);
}

static bool gone(pid_t pid)
{
	for (int i = 0; i < 300; i++, usleep(10000))
		if (kill(pid, 0) && errno == ESRCH)
			return true;
	return false;
}

START_TEST(die_with_node_dies_with_its_owner_and_the_other_lives_on)
{
	struct probe *p = drive_up(1), *q = probe_add(0);
	struct proc_start spec = {
		.argv = SHELL("sleep 60 & wait"), .uid = -1, .gid = -1, .output_file = "/dev/null"};
	struct proc_args lives = start(q, spec), dies;

	spec.die_with_node = true;
	dies = start(q, spec);
	ck_assert_int_eq(dies.st, OK);
	probe_do(p, do_kill, q);
	ck_assert(gone(dies.os_pid));
	ck_assert(gone(-dies.os_pid)); /* and what it had started */
	ck_assert_int_eq(kill(lives.os_pid, 0), 0);
	kill(-lives.os_pid, SIGKILL);
	ck_assert(gone(lives.os_pid)); /* reaped, though nobody asks any more */
	drive_down();
}
END_TEST

START_TEST(die_with_node_dies_when_the_drive_stops)
{
	struct probe *p = drive_up(1);
	struct proc_args a = start(
		p, (struct proc_start){
			   .argv = SHELL("exec sleep 60"), .uid = -1, .gid = -1, .die_with_node = true});

	drive_down();
	ck_assert_int_eq(kill(a.os_pid, 0), -1);
}
END_TEST

START_TEST(die_with_node_dies_when_the_process_is_killed)
{
	int pipefd[2];
	pid_t pid, node, child = 0;

	ck_assert_int_eq(pipe(pipefd), 0);
	node = fork();
	if (node == 0) {
		struct probe *p = drive_up(1);
		struct proc_args a = start(p,
			(struct proc_start){
				.argv = SHELL("exec sleep 60"), .uid = -1, .gid = -1, .die_with_node = true});

		pid = a.os_pid;
		if (write(pipefd[1], &pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		pause();
	}
	ck_assert_int_eq(read(pipefd[0], &child, sizeof(child)), sizeof(child));
	ck_assert_int_eq(kill(child, 0), 0);
	kill(node, SIGKILL);
	waitpid(node, NULL, 0);
	for (int i = 0; i < 300; i++, usleep(10000)) { /* the zombie is init's, who may be slow */
		char path[64], line[256] = "";
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/stat", (int)child);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			break;
		if (read(fd, line, sizeof(line) - 1) > 0 && strstr(line, ") Z"))
			i = 1000;
		close(fd);
		ck_assert_int_ne(i, 299);
	}
	close(pipefd[0]);
	close(pipefd[1]);
}
END_TEST

START_TEST(an_adopted_process_is_watched_though_it_is_no_child)
{
	struct probe *p = drive_up(1);
	struct proc_args a = {.os_pid = 0};
	int pipefd[2];
	pid_t middle;

	ck_assert_int_eq(pipe(pipefd), 0);
	middle = fork();
	if (middle == 0) { /* its child becomes init's */
		pid_t sleeper = fork();

		if (sleeper == 0) {
			execl("/bin/sleep", "sleep", "60", (char *)NULL);
			_exit(127);
		}
		_exit(write(pipefd[1], &sleeper, sizeof(sleeper)) == sizeof(sleeper) ? 0 : 1);
	}
	waitpid(middle, NULL, 0);
	ck_assert_int_eq(read(pipefd[0], &a.os_pid, sizeof(a.os_pid)), sizeof(a.os_pid));
	probe_do(p, do_adopt, &a);
	ck_assert_int_eq(a.st, OK);
	probe_wait_none(p, PROC_EXITED, 50);
	kill(a.os_pid, SIGKILL);
	ck_assert_int_eq((int64_t)probe_wait(p, PROC_EXITED).other, -1);
	a.os_pid = 0x3ffffff;
	probe_do(p, do_adopt, &a);
	ck_assert_int_eq(a.st, E_NOT_FOUND);
	close(pipefd[0]);
	close(pipefd[1]);
	drive_down();
}
END_TEST

/* ---- foreign descriptors ---------------------------------------------------------------------------------------- */

static void do_watch(struct actor *self, struct probe *p, void *arg)
{
	struct proc_args *a = arg;

	(void)p;
	a->st = fd_watch(self, a->fd, a->events, &a->id);
}

static void do_arm(struct actor *self, struct probe *p, void *arg)
{
	struct proc_args *a = arg;

	(void)p;
	fd_arm(self, a->id, a->events);
}

static void do_unwatch(struct actor *self, struct probe *p, void *arg)
{
	(void)p;
	fd_unwatch(self, ((struct proc_args *)arg)->id);
}

START_TEST(a_descriptor_is_told_once_an_arming)
{
	struct probe *p = drive_up(1);
	struct proc_args a = {.events = FD_READABLE};
	char byte;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	a.fd = fds[0];
	probe_do(p, do_watch, &a);
	ck_assert_int_eq(a.st, OK);
	probe_wait_none(p, FD_READY, 50);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	ck_assert_uint_eq(probe_wait(p, FD_READY).other, FD_READABLE);
	probe_wait_none(p, FD_READY, 50); /* still readable, but not armed */
	probe_do(p, do_arm, &a);
	ck_assert_uint_eq(probe_wait(p, FD_READY).other, FD_READABLE);
	ck_assert_int_eq(read(fds[0], &byte, 1), 1);
	probe_do(p, do_arm, &a);
	probe_wait_none(p, FD_READY, 50);
	probe_do(p, do_unwatch, &a);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	probe_wait_none(p, FD_READY, 50);
	close(fds[0]);
	a.fd = fds[1];
	a.events = FD_WRITABLE; /* an error, for nobody reads: it is told as what was asked */
	probe_do(p, do_watch, &a);
	ck_assert_uint_eq(probe_wait(p, FD_READY).other, FD_WRITABLE);
	close(fds[1]);
	drive_down();
}
END_TEST

/* ---- helper threads ---------------------------------------------------------------------------------------------- */

static enum status work_reverse(const void *args, size_t size, struct writer *result)
{
	const char *s = args;

	for (size_t i = size; i-- > 0;)
		writer_u8(result, (uint8_t)s[i]);
	return OK;
}

static atomic_int running, most;

static enum status work_lane(const void *args, size_t size, struct writer *result)
{
	int now = atomic_fetch_add(&running, 1) + 1;

	(void)result;
	ck_assert_uint_eq(size, sizeof(int));
	if (now > atomic_load(&most))
		atomic_store(&most, now);
	usleep(1000);
	atomic_fetch_sub(&running, 1);
	writer_put(result, args, (uint32_t)size);
	return OK;
}

static __attribute__((noinline)) int deep(volatile char *above, int n)
{
	volatile char frame[4096];

	frame[0] = above ? above[0] : 1;
	return n ? deep(frame, n - 1) + frame[0] : frame[0];
}

static enum status work_deep(const void *args, size_t size, struct writer *result)
{
	(void)args;
	(void)size;
	writer_u32(result, (uint32_t)deep(NULL, 10000)); /* 40 MB of stack */
	return E_NOT_FOUND;
}

struct work_args {
	struct work work;
	uint64_t ids[16];
	uint32_t n;
};

static void do_work(struct actor *self, struct probe *p, void *arg)
{
	struct work_args *a = arg;

	(void)p;
	for (int i = 0; i < (int)a->n; i++) {
		if (a->work.fn == work_lane) {
			a->work.args = &i;
			a->work.args_size = sizeof(i);
		}
		a->ids[i] = work_run(self, &a->work);
	}
}

START_TEST(work_gives_its_result_and_its_status)
{
	struct probe *p = drive_up(1);
	struct work_args a = {.work = {.fn = work_reverse, .args = "abc", .args_size = 3}, .n = 1};
	struct event e;

	probe_do(p, do_work, &a);
	e = probe_wait(p, WORK_DONE);
	ck_assert_uint_eq(e.io, a.ids[0]);
	ck_assert_int_eq(e.status, OK);
	ck_assert_mem_eq(e.bytes, "cba", 3);
	a.work = (struct work){.fn = work_deep};
	probe_do(p, do_work, &a);
	ck_assert_int_eq(probe_wait(p, WORK_DONE).status, E_NOT_FOUND);
	a.work = (struct work){.fn = work_reverse, .args = "", .args_size = 1 << 20};
	probe_do(p, do_work, &a);
	ck_assert_int_eq(probe_wait(p, WORK_DONE).status, E_LIMIT);
	drive_down();
}
END_TEST

START_TEST(work_of_a_lane_runs_in_order_one_at_a_time)
{
	struct probe *p = drive_up(1);
	struct work_args a = {.work = {.fn = work_lane, .lane = 9}, .n = 16};

	probe_do(p, do_work, &a);
	for (int i = 0; i < 16; i++) {
		struct event e = probe_wait(p, WORK_DONE);

		ck_assert_uint_eq(e.io, a.ids[i]);
		ck_assert_mem_eq(e.bytes, &i, sizeof(i));
	}
	ck_assert_int_eq(most, 1);
	a.work.lane = 0;
	probe_do(p, do_work, &a);
	for (int i = 0; i < 16; i++)
		probe_wait(p, WORK_DONE);
	ck_assert_int_eq(most, 2);
	drive_down();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("drive proc");
	TCase *t = tcase_create("proc");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, output_comes_by_stream_before_the_exit_code);
	tcase_add_test(t, environment_and_directory_are_those_given);
	tcase_add_test(t, a_child_inherits_nothing_of_ours);
	tcase_add_test(t, a_program_that_is_not_there_is_an_error_with_its_name);
	tcase_add_test(t, user_group_and_output_file_are_its_own);
	tcase_add_test(t, a_signal_reaches_it_and_is_told);
	tcase_add_test(t, die_with_node_dies_with_its_owner_and_the_other_lives_on);
	tcase_add_test(t, die_with_node_dies_when_the_drive_stops);
	tcase_add_test(t, die_with_node_dies_when_the_process_is_killed);
	tcase_add_test(t, an_adopted_process_is_watched_though_it_is_no_child);
	tcase_add_test(t, a_descriptor_is_told_once_an_arming);
	tcase_add_test(t, work_gives_its_result_and_its_status);
	tcase_add_test(t, work_of_a_lane_runs_in_order_one_at_a_time);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
