/* Threads of the drive: messages and asks between workers, calls from outside, start and stop, watchdog, crash files. */
#include <glob.h>
#include <signal.h>
#include <sys/wait.h>

#include "runtime/drive/inbox.h"
#include "runtime/drive/parcel.h"
#include "test/unit/test_drive.h"

/* ---- a counting pair ---------------------------------------------------------------------------------------------- */

enum { FLOOD = 200000, BURST = 500 };

struct sink {
	uint64_t next, wrong, bytes;
	atomic_ulong seen;
};

static struct sink sink;

/* Receives numbered pings and answers those that are asks. */
static enum status sink_on_ping(struct actor *self, struct msg *m)
{
	struct probe_ping *g = probe_ping_of(m);

	if (g->n != sink.next++)
		sink.wrong++;
	for (uint32_t i = 0; i < g->bytes.len; i++)
		if (slice_data(&g->bytes)[i] != (uint8_t)(g->n + i))
			sink.wrong++;
	sink.bytes += g->bytes.len;
	atomic_fetch_add(&sink.seen, 1);
	if (m->bits & MSG_IS_REQUEST) {
		struct msg *r;
		struct probe_ping *answer = probe_ping_new(self, &r);

		answer->n = g->n * 2;
		answer->bytes = slice_take(&g->bytes);
		actor_reply(self, m, &r);
	}
	return OK;
}

static const struct rule sink_rules[] = {{STATE_ANY, PROBE_PING, sink_on_ping}};
static const struct behaviour sink_behaviour = {.name = "test.sink",
	.rules = sink_rules,
	.n_rules = 1,
	.states = probe_states,
	.n_states = 1,
	.mailbox_cap = UINT32_MAX};

struct spawned {
	struct pid pid;
	const struct behaviour *behaviour;
	const char *name;
	atomic_bool done;
};

static void spawn_fn(struct worker *w, void *arg)
{
	struct spawned *s = arg;

	ck_assert_int_eq(
		worker_spawn(w, &(struct spawn){.behaviour = s->behaviour, .name = s->name}, &s->pid), OK);
	atomic_store(&s->done, true);
}

static struct pid spawn_on(uint8_t worker, const struct behaviour *b, const char *name)
{
	struct spawned s = {.behaviour = b, .name = name};

	ck_assert(drive_post(the, worker, spawn_fn, &s));
	while (!atomic_load(&s.done))
		usleep(100);
	usleep(5000); /* names travel */
	return s.pid;
}

struct flood {
	struct pid to;
	uint64_t from;
	uint32_t n, bytes;
};

static void do_flood(struct actor *self, struct probe *p, void *arg)
{
	struct flood *f = arg;
	uint8_t block[4096];

	(void)p;
	for (uint64_t i = f->from; i < f->from + f->n; i++) {
		struct msg *m;
		struct probe_ping *g = probe_ping_new(self, &m);

		g->n = i;
		for (uint32_t k = 0; k < f->bytes; k++)
			block[k] = (uint8_t)(i + k);
		g->bytes = slice_copy(block, f->bytes);
		actor_send(self, f->to, &m);
	}
}

static void wait_seen(uint64_t n)
{
	for (int i = 0; i < 20000 && atomic_load(&sink.seen) < n; i++)
		usleep(500);
	ck_assert_uint_eq(atomic_load(&sink.seen), n);
}

START_TEST(messages_between_workers_arrive_once_in_order_with_their_bytes)
{
	struct probe *p = drive_up(2);
	struct pid to = spawn_on(1, &sink_behaviour, NULL);

	for (uint64_t i = 0; i < FLOOD; i += BURST)
		probe_do(p, do_flood, &(struct flood){.to = to, .from = i, .n = BURST});
	wait_seen(FLOOD);
	for (uint64_t i = 0; i < 1000; i += 10)
		probe_do(p, do_flood, &(struct flood){.to = to, .from = FLOOD + i, .n = 10, .bytes = 4096});
	wait_seen(FLOOD + 1000);
	ck_assert_uint_eq(sink.wrong, 0);
	ck_assert_uint_eq(sink.bytes, 1000 * 4096);
	drive_down();
}
END_TEST

static void do_shared_slice(struct actor *self, struct probe *p, void *arg)
{
	struct slice one = slice_copy("abcdef", 6);

	(void)p;
	for (int i = 0; i < 2; i++) { /* both messages hold the same chunk: privatised on the way */
		struct msg *m;
		struct probe_ping *g = probe_ping_new(self, &m);

		g->n = 'a' + (uint64_t)i;
		g->bytes = slice_sub(&one, (uint32_t)i, 3);
		actor_send(self, *(struct pid *)arg, &m);
	}
	ck_assert_uint_eq(one.buf->refs, 1);
	slice_release(&one);
}

START_TEST(slices_that_share_a_chunk_part_on_the_way)
{
	struct probe *p = drive_up(2);
	struct pid to = spawn_on(1, &sink_behaviour, NULL);

	sink.next = 'a';
	probe_do(p, do_shared_slice, &to);
	wait_seen(2);
	ck_assert_uint_eq(sink.wrong, 0);
	drive_down();
}
END_TEST

struct asks {
	struct pid to;
	uint32_t n, timeout_ms;
	uint64_t corr;
};

static void do_ask(struct actor *self, struct probe *p, void *arg)
{
	struct asks *a = arg;

	(void)p;
	for (uint32_t i = 0; i < a->n; i++) {
		struct msg *m;

		probe_ping_new(self, &m)->n = i;
		a->corr = actor_ask(self, a->to, &m, a->timeout_ms ? a->timeout_ms : 2000);
	}
}

START_TEST(an_ask_across_workers_is_answered_or_fails_once)
{
	struct probe *p = drive_up(3), *q;
	struct asks a = {.to = spawn_on(2, &sink_behaviour, NULL), .n = 1000};
	struct event e;

	probe_do(p, do_ask, &a);
	for (int i = 0; i < 1000; i++)
		probe_wait(p, PROBE_PING);
	probe_wait_none(p, ASK_FAILED, 50);
	ck_assert_uint_eq(sink.wrong, 0);
	a = (struct asks){.to = pid_make(a.to.node, 1, 77, 1), .n = 1}; /* nobody */
	probe_do(p, do_ask, &a);
	e = probe_wait(p, ASK_FAILED);
	ck_assert_int_eq(e.status, E_NOPROC);
	ck_assert_uint_eq(e.io, a.corr);
	a.to = pid_make(a.to.node, 9, 1, 1); /* no such worker */
	probe_do(p, do_ask, &a);
	ck_assert_int_eq(probe_wait(p, ASK_FAILED).status, E_NOPROC);
	a.to = pid_make(node_make(2, 1), 0, 1, 1); /* another node */
	probe_do(p, do_ask, &a);
	ck_assert_int_eq(probe_wait(p, ASK_FAILED).status, E_NODE_DOWN);
	q = probe_add(1); /* hears pings, answers none: the runtime does when the handler returns */
	a.to = q->pid;
	probe_do(p, do_ask, &a);
	ck_assert_int_eq(probe_wait(p, ASK_FAILED).status, E_INTERNAL);
	probe_wait_none(p, ASK_FAILED, 50);
	drive_down();
}
END_TEST

/* ---- calls from outside --------------------------------------------------------------------------------------------- */

static enum status mute_on_ping(struct actor *self, struct msg *m)
{
	if (probe_ping_of(m)->n == 1)
		return actor_fail(self, E_INVALID, "told to");
	actor_keep(self, m);
	return OK;
}

static const struct rule mute_rules[] = {{STATE_ANY, PROBE_PING, mute_on_ping}};
static const struct behaviour mute_behaviour = {
	.name = "test.mute", .rules = mute_rules, .n_rules = 1, .states = probe_states, .n_states = 1};

struct answer {
	int calls;
	uint16_t tag;
	uint64_t n;
	char text[16];
	enum status st;
};

static void on_answer(void *arg, uint16_t tag, void *body, enum status st)
{
	struct answer *a = arg;
	struct probe_ping *g = body;

	a->calls++;
	a->tag = tag;
	a->st = st;
	a->n = g->n;
	memcpy(a->text, slice_data(&g->bytes), g->bytes.len < 15 ? g->bytes.len : 15);
}

START_TEST(a_call_from_outside_gets_the_answer_of_an_actor_on_any_worker)
{
	struct answer a = {0};
	struct probe_ping ask = {.n = 0, .bytes = slice_copy("\0\1\2", 3)};

	drive_up(2);
	spawn_on(1, &sink_behaviour, "sink");
	for (uint64_t i = 0; i < 100; i++) {
		sink.next = ask.n = 0;
		ck_assert_int_eq(drive_call(the, "sink", PROBE_PING, &ask, 1000, on_answer, &a), OK);
	}
	ck_assert_int_eq(a.calls, 100);
	ck_assert_uint_eq(a.tag, PROBE_PING);
	ck_assert_mem_eq(a.text, "\0\1\2", 3);
	ck_assert_uint_eq(sink.wrong, 0);
	slice_release(&ask.bytes);
	drive_down();
}
END_TEST

START_TEST(a_call_that_gets_no_answer_says_why)
{
	struct probe_ping ask = {.n = 0};
	struct answer a = {0};

	drive_up(2);
	spawn_on(1, &mute_behaviour, "mute");
	ck_assert_int_eq(drive_call(the, "nobody", PROBE_PING, &ask, 1000, on_answer, &a), E_NOT_FOUND);
	ck_assert_int_eq(drive_call(the, "mute", PROBE_PING, &ask, 100, on_answer, &a), E_TIMEOUT);
	ask.n = 1; /* it dies of it, and what it kept is settled */
	ck_assert_int_eq(drive_call(the, "mute", PROBE_PING, &ask, 1000, on_answer, &a), E_NOPROC);
	ck_assert_int_eq(drive_call(the, "mute", 0x7eee, &ask, 1000, on_answer, &a), E_INVALID);
	ck_assert_int_eq(a.calls, 0);
	ck_assert_int_eq(drive_stop(the, 5000), OK);
	ck_assert_int_eq(drive_call(the, "mute", PROBE_PING, &ask, 1000, on_answer, &a), E_STATE);
	drive_free(the);
}
END_TEST

/* ---- start and stop --------------------------------------------------------------------------------------------------- */

static enum status boot_fails(struct worker *w, void *arg, struct pid *root)
{
	(void)w;
	(void)arg;
	(void)root;
	return E_DENIED;
}

START_TEST(a_boot_that_fails_leaves_nothing_running)
{
	struct error err;

	catalog_add_probe();
	the = drive_new(&(struct drive_spec){.node = node_make(1, 1), .n_workers = 2, .boot = boot_fails});
	ck_assert_int_eq(drive_start(the, &err), E_DENIED);
	ck_assert_str_eq(err.text, "could not start the node: denied");
	ck_assert_int_eq(drive_stop(the, 10), E_STATE);
	drive_free(the);
}
END_TEST

static void do_end(struct actor *self, struct probe *p, void *arg)
{
	(void)p;
	(void)arg;
	actor_exit(self, actor_pid(self), E_INTENSITY);
}

START_TEST(the_end_of_the_root_and_a_signal_are_waited_for)
{
	enum status why = OK;
	struct probe *p = drive_up(1);

	kill(getpid(), SIGTERM);
	ck_assert_int_eq(drive_wait(the, &why), SIGTERM);
	probe_do(p, do_end, NULL);
	ck_assert_int_eq(drive_wait(the, &why), 0);
	ck_assert_int_eq(why, E_INTENSITY);
	drive_down();
}
END_TEST

static enum status stubborn_on_exit(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return OK;
}

static const struct rule stubborn_rules[] = {{STATE_ANY, EXIT, stubborn_on_exit}};
static const struct behaviour stubborn_behaviour = {.name = "test.stubborn",
	.rules = stubborn_rules,
	.n_rules = 1,
	.states = probe_states,
	.n_states = 1,
	.trap_exit = true};

static enum status boot_stubborn(struct worker *w, void *arg, struct pid *root)
{
	(void)arg;
	return worker_spawn(w, &(struct spawn){.behaviour = &stubborn_behaviour}, root);
}

START_TEST(a_root_that_does_not_end_is_killed)
{
	struct error err;

	the = drive_new(&(struct drive_spec){.node = node_make(1, 1), .n_workers = 1, .boot = boot_stubborn});
	ck_assert_int_eq(drive_start(the, &err), OK);
	ck_assert_int_eq(drive_stop(the, 50), E_TIMEOUT);
	drive_free(the);
}
END_TEST

/* ---- the last words ----------------------------------------------------------------------------------------------------- */

static void do_hang(struct actor *self, struct probe *p, void *arg)
{
	(void)self;
	(void)p;
	(void)arg;
	for (;;)
		usleep(1000);
}

static void do_panic(struct actor *self, struct probe *p, void *arg)
{
	(void)self;
	(void)p;
	(void)arg;
	panic("the test wants it");
}

static void do_segv(struct actor *self, struct probe *p, void *arg)
{
	volatile int *nowhere = arg;

	(void)self;
	(void)p;
	*nowhere = 1;
}

/* Runs fn in a node of its own, which must die of `sig` and leave a crash file with all of `texts`. */
static void dies_with(probe_fn *fn, int sig, const char *const *texts)
{
	static char content[1 << 20];
	char pattern[64];
	int status = 0, fd;
	size_t used = 0;
	ssize_t n;
	glob_t found;
	pid_t node;

	snprintf(pattern, sizeof(pattern), "/tmp/test_crash_%d", (int)getpid());
	node = fork();
	if (node == 0) {
		struct probe_do_msg d = {.fn = (uintptr_t)fn};
		struct error err;

		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		catalog_add_probe();
		the = drive_new(&(struct drive_spec){.node = node_make(1, 1),
			.n_workers = 2,
			.boot = probe_boot,
			.crash_prefix = pattern,
			.stuck_warn_ms = 50,
			.stuck_panic_ms = 300});
		if (drive_start(the, &err))
			_exit(1);
		drive_call(the, "probe", PROBE_DO, &d, 5000, NULL, NULL);
		_exit(1);
	}
	waitpid(node, &status, 0);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == sig, "status %x", (unsigned)status);
	snprintf(pattern + strlen(pattern), sizeof(pattern) - strlen(pattern), "-%d-*.txt", (int)node);
	ck_assert_int_eq(glob(pattern, 0, NULL, &found), 0);
	fd = open(found.gl_pathv[0], O_RDONLY);
	while ((n = read(fd, content + used, sizeof(content) - 1 - used)) > 0)
		used += (size_t)n;
	content[used] = '\0';
	close(fd);
	unlink(found.gl_pathv[0]);
	globfree(&found);
	for (; *texts; texts++)
		ck_assert_msg(strstr(content, *texts), "no \"%s\" in the crash file:\n%s", *texts, content);
}

START_TEST(a_stuck_handler_ends_the_process_and_is_named)
{
	dies_with(do_hang, SIGABRT,
		(const char *const[]){"test.probe has been handling PROBE_DO for", "== stack of worker 0",
			"PROBE_DO", "== worker 1", NULL});
}
END_TEST

START_TEST(a_panic_leaves_a_crash_file)
{
	dies_with(do_panic, SIGABRT,
		(const char *const[]){
			"the test wants it", "== stack of worker 1", "== worker 0: in test.probe", NULL});
}
END_TEST

START_TEST(a_deadly_signal_leaves_a_crash_file)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	dies_with(do_segv, SIGSEGV, (const char *const[]){"SEGV", "PROBE_DO", NULL});
#else
	(void)do_segv;
#endif
}
END_TEST

/* ---- the inbox under fire --------------------------------------------------------------------------------------------- */

enum { PRODUCERS = 4, BATCHES = 3000, BATCH = 5 };

struct stress {
	struct inbox inbox;
	struct sleeper sleeper;
	uint8_t me;
};

static void *produce(void *arg)
{
	struct stress *s = arg;
	static atomic_uchar ids;
	uint8_t me = atomic_fetch_add(&ids, 1);
	uint64_t n = 0;

	for (int b = 0; b < BATCHES; b++) {
		struct parcel *newest = NULL, *oldest = NULL;

		for (int i = 0; i < BATCH; i++) {
			struct parcel *p = parcel_new(0, me);

			p->weight = n++;
			p->next = newest;
			newest = p;
			if (!oldest)
				oldest = p;
		}
		inbox_push(&s->inbox, newest, oldest);
		sleeper_wake(&s->sleeper);
		if (b % 64 == 0)
			usleep(100); /* lets the consumer fall asleep */
	}
	return NULL;
}

START_TEST(no_parcel_is_lost_and_no_wake_up_either)
{
	static struct stress s;
	int pipefd[2];
	pthread_t t[PRODUCERS];
	uint64_t next[PRODUCERS] = {0}, total = 0, count;

	ck_assert_int_eq(pipe(pipefd), 0);
	s.sleeper.event_fd = pipefd[1];
	for (int i = 0; i < PRODUCERS; i++)
		pthread_create(&t[i], NULL, produce, &s);
	while (total < PRODUCERS * BATCHES * BATCH) {
		struct parcel *p = inbox_take(&s.inbox), *after;

		for (; p; p = after) {
			after = p->next;
			ck_assert_uint_eq(p->weight, next[p->origin]++);
			total++;
			parcel_free(p);
		}
		if (total == PRODUCERS * BATCHES * BATCH)
			break;
		sleeper_announce(&s.sleeper);
		if (inbox_empty(&s.inbox))
			ck_assert_int_eq(read(pipefd[0], &count, sizeof(count)),
				sizeof(count)); /* lost: the test hangs */
		sleeper_awake(&s.sleeper);
	}
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(t[i], NULL);
	close(pipefd[0]);
	close(pipefd[1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("drive cross");
	TCase *t = tcase_create("cross");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, messages_between_workers_arrive_once_in_order_with_their_bytes);
	tcase_add_test(t, slices_that_share_a_chunk_part_on_the_way);
	tcase_add_test(t, an_ask_across_workers_is_answered_or_fails_once);
	tcase_add_test(t, a_call_from_outside_gets_the_answer_of_an_actor_on_any_worker);
	tcase_add_test(t, a_call_that_gets_no_answer_says_why);
	tcase_add_test(t, a_boot_that_fails_leaves_nothing_running);
	tcase_add_test(t, the_end_of_the_root_and_a_signal_are_waited_for);
	tcase_add_test(t, a_root_that_does_not_end_is_killed);
	tcase_add_test(t, a_stuck_handler_ends_the_process_and_is_named);
	tcase_add_test(t, a_panic_leaves_a_crash_file);
	tcase_add_test(t, a_deadly_signal_leaves_a_crash_file);
	tcase_add_test(t, no_parcel_is_lost_and_no_wake_up_either);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
