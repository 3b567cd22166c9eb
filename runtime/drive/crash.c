/*
 * The last words of a process: on a panic or a deadly signal, a file with the reason, the stack of each worker, and the
 * flight recorder of each worker. Written by the dying thread with nothing but system calls, snprintf and backtrace on
 * addresses; what it reads of other workers may be half-written, and is never dereferenced beyond their own memory.
 *
 * Under a sanitizer the deadly signals are left to it; the panic hook works all the same.
 */
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/drive/internal.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SIGNALS_ARE_OURS 0
#else
#define SIGNALS_ARE_OURS 1
#endif

enum { FRAMES_MAX = 64, SIGNAL_STACK_BYTES = 256 << 10, STACK_WAIT_US = 100000, STACK_POLL_US = 1000 };

static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static struct drive *the_drive;
static atomic_int crash_fd = -1;
static atomic_flag crashing = ATOMIC_FLAG_INIT;
static atomic_uint stacks_written;

static void say(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0)
		return; /* there is nobody to tell */
}

static void say_stack(int fd)
{
	void *frames[FRAMES_MAX];
	int n = backtrace(frames, FRAMES_MAX);

	backtrace_symbols_fd(frames, n, fd);
}

/* On every worker's thread, sent by the dying one. */
static void on_stack_wanted(int sig)
{
	int fd = atomic_load(&crash_fd);

	(void)sig;
	if (fd >= 0)
		say_stack(fd);
	atomic_fetch_add(&stacks_written, 1);
}

static void stacks_of_others(struct drive *d, int fd)
{
	char line[128];

	for (uint8_t i = 0; i < d->n_loops; i++) {
		struct loop *l = d->loops[i];
		unsigned before = atomic_load(&stacks_written);

		if (!l || !atomic_load(&l->started) || pthread_equal(l->thread, pthread_self()))
			continue;
		snprintf(line, sizeof(line), "\n== stack of worker %u\n", (unsigned)i);
		say(fd, line);
		if (pthread_kill(l->thread, SIGRTMIN + 4))
			continue;
		for (int us = 0; us < STACK_WAIT_US && atomic_load(&stacks_written) == before;
			us += STACK_POLL_US)
			usleep(STACK_POLL_US);
	}
}

static void flight_recorders(struct drive *d, int fd)
{
	char line[256];

	for (uint8_t i = 0; i < d->n_loops; i++) {
		const struct loop *l = d->loops[i];
		const struct worker_watch *watch;

		if (!l || !l->worker)
			continue;
		watch = worker_watch(l->worker);
		snprintf(line, sizeof(line),
			"\n== worker %u: %s %s, message %s; last messages, newest last\n", (unsigned)i,
			watch->since_us ? "in" : "idle, last", watch->behaviour ? watch->behaviour : "none",
			catalog_name(watch->tag));
		say(fd, line);
		worker_flight_dump(l->worker, fd);
	}
}

static void crash_write(const char *text)
{
	struct drive *d = the_drive;
	char path[512], line[256];
	int fd;

	if (!d || atomic_flag_test_and_set(&crashing))
		return;
	snprintf(path, sizeof(path), "%s-%d-%lld.txt", d->spec.crash_prefix ? d->spec.crash_prefix : "crash",
		(int)getpid(), (long long)time(NULL));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0) {
		say(2, "could not write a crash file\n");
		fd = 2;
	}
	atomic_store(&crash_fd, fd);
	snprintf(line, sizeof(line), "%.200s\n\n== stack of the dying thread\n", text);
	say(fd, line);
	say_stack(fd);
	stacks_of_others(d, fd);
	flight_recorders(d, fd);
	snprintf(line, sizeof(line), "crash file: %.200s\n", path);
	say(2, line);
}

static void on_deadly(int sig, siginfo_t *info, void *context)
{
	char text[128];

	(void)context;
	snprintf(text, sizeof(text), "PANIC signal %d (%s) at address %p", sig, sigabbrev_np(sig),
		info->si_addr);
	say(2, text);
	say(2, "\n");
	crash_write(text);
	raise(sig); /* SA_RESETHAND: the default now, with its core dump */
}

void drive_crash_install(struct drive *d)
{
	struct sigaction wanted = {.sa_handler = on_stack_wanted, .sa_flags = SA_RESTART | SA_ONSTACK};
	struct sigaction die = {
		.sa_sigaction = on_deadly, .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND)};
	void *frame;

	the_drive = d;
	backtrace(&frame, 1); /* loads libgcc now: it can't be loaded in a signal handler */
	panic_hook = crash_write;
	sigaction(SIGRTMIN + 4, &wanted, NULL);
	for (unsigned i = 0; SIGNALS_ARE_OURS && i < ARRAY_LEN(deadly); i++)
		sigaction(deadly[i], &die, NULL);
}

void drive_crash_remove(void)
{
	panic_hook = NULL;
	the_drive = NULL;
	for (unsigned i = 0; SIGNALS_ARE_OURS && i < ARRAY_LEN(deadly); i++)
		signal(deadly[i], SIG_DFL);
	signal(SIGRTMIN + 4, SIG_IGN);
}

void *drive_crash_stack_install(void)
{
	stack_t stack = {.ss_size = SIGNAL_STACK_BYTES};

	if (!SIGNALS_ARE_OURS)
		return NULL;
	stack.ss_sp = malloc(SIGNAL_STACK_BYTES);
	check(stack.ss_sp && sigaltstack(&stack, NULL) == 0);
	return stack.ss_sp;
}

void drive_crash_stack_remove(void *stack)
{
	stack_t none = {.ss_flags = SS_DISABLE};

	if (!stack)
		return;
	sigaltstack(&none, NULL);
	free(stack);
}
