/*
 * The watchdog parent: no threads, no libuv, no LMDB, almost no memory; it outlives whatever its child does wrong.
 *
 *	         exit 0, 1 (never served), 2                     SIGTERM SIGINT SIGHUP
 *	end <────────────────────────────── child running ──────────────────────────────> SIGTERM, wait, SIGKILL
 *	                                     │      ^
 *	                     anything else   v      │ at once if it had served, else after a back-off
 *	                                     crashed ──> too many in a minute: end with 1
 *
 * It is the subreaper of its descendants: a Postgres whose node crashed becomes its child, is reaped here when it
 * ends, and is taken over by the next node. The child is killed by the kernel should the parent die first.
 * The child has a process group of its own, so that a terminal's Ctrl-C reaches only us, and not Postgres.
 */
#include "supervisor/parent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/log.h"

enum {
	CRASHES_MAX = 20, /* more in CRASH_WINDOW_MS: give up */
	CRASH_WINDOW_MS = 60000,
	BACKOFF_MIN_MS = 100,
	BACKOFF_MAX_MS = 5000,
	LEFTOVERS_MS = 10000, /* for what a killed node left running */
	LINE_MAX_BYTES = 2048,
};

struct parent {
	const struct parent_spec *spec;
	pid_t child; /* 0: none now */
	int signals;
	bool stopping, killed;
	bool served, announced; /* this child has; any child has */
	uint64_t stop_by_ms, start_at_ms;
	uint64_t crashes[CRASHES_MAX]; /* times, a ring */
	uint32_t n_crashes, backoff_ms;
	sigset_t old_mask;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool start_child(struct parent *p)
{
	pid_t us = getpid(), pid = fork();

	if (pid < 0) {
		log_error("parent", "could not start the node: fork: %s", strerror(errno));
		return false;
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != us)
			_exit(NODE_FAILED); /* it died before we asked to be told */
		setpgid(0, 0);
		sigprocmask(SIG_SETMASK, &p->old_mask, NULL);
		execv("/proc/self/exe", p->spec->argv);
		log_error("parent", "could not start the node: exec: %s", strerror(errno));
		_exit(NODE_FAILED);
	}
	p->child = pid;
	p->served = false;
	return true;
}

/* From now on the child's end is ours; `tell` it, unless it knows already. */
static void stop(struct parent *p, bool tell)
{
	if (p->stopping)
		return;
	p->stopping = true;
	p->stop_by_ms = now_ms() + p->spec->stop_ms;
	if (p->child && tell)
		kill(p->child, SIGTERM);
}

/* The line "ready ..." is shown once in the parent's life; another node's is only logged. */
static void on_ready(struct parent *p, const char *line)
{
	p->served = true;
	p->backoff_ms = 0;
	if (p->announced) {
		log_info("parent", "serving again");
		return;
	}
	p->announced = true;
	printf("%s\n", line);
	fflush(stdout);
}

/* What the child says: "ready URL" when it serves, "stopping" when it was told to stop by others than us. */
static void on_notify(struct parent *p)
{
	char lines[LINE_MAX_BYTES], *line = lines, *end;
	ssize_t n = read(p->spec->notify_fd, lines, sizeof(lines) - 1);

	lines[n > 0 ? n : 0] = '\0';
	for (; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		if (strcmp(line, "stopping") == 0)
			stop(p, false);
		else
			on_ready(p, line);
	}
}

/* True when it crashed so often that another start is pointless. */
static bool crashed_too_often(struct parent *p)
{
	uint64_t now = now_ms();

	p->crashes[p->n_crashes++ % CRASHES_MAX] = now;
	return p->n_crashes >= CRASHES_MAX && now - p->crashes[p->n_crashes % CRASHES_MAX] < CRASH_WINDOW_MS;
}

/* The child ended. Gives the code to end with, or -1: go on. */
static int on_child_end(struct parent *p, int status)
{
	bool exited = WIFEXITED(status);
	int code = exited ? WEXITSTATUS(status) : -1;
	pid_t pid = p->child;

	on_notify(p); /* it may have spoken just before it died */
	p->child = 0;
	if (p->stopping) {
		if (exited && code == NODE_STOPPED)
			return 0;
		log_error("parent", "node process %d did not stop cleanly (%s %d)", (int)pid,
			exited ? "exit" : "signal", exited ? code : WTERMSIG(status));
		return 1;
	}
	if (code == NODE_STOPPED || code == NODE_USAGE || (code == NODE_FAILED && !p->announced))
		return code;
	if (crashed_too_often(p)) {
		log_error("parent", "the node crashed %d times within %d s, giving up; reports are in %s",
			CRASHES_MAX, CRASH_WINDOW_MS / 1000, p->spec->crash_dir);
		return 1;
	}
	log_error("parent", "node process %d %s %d%s, restart in %u ms", (int)pid,
		exited ? "ended with code" : "died of signal", exited ? code : WTERMSIG(status),
		!exited && WCOREDUMP(status) ? " (core dumped)" : "", p->backoff_ms);
	p->start_at_ms = now_ms() + p->backoff_ms;
	p->backoff_ms = p->backoff_ms ? p->backoff_ms * 2 : BACKOFF_MIN_MS;
	if (p->backoff_ms > BACKOFF_MAX_MS)
		p->backoff_ms = BACKOFF_MAX_MS;
	return -1;
}

/* Reaps whoever ended; gives a code when the child's end is ours too, else -1. */
static int reap(struct parent *p)
{
	int status, code = -1;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == p->child)
			code = on_child_end(p, status);
	return code;
}

static int on_signals(struct parent *p)
{
	struct signalfd_siginfo info;

	while (read(p->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			stop(p, true);
	return reap(p);
}

/* How long poll may sleep: to the next start, or to the end of our patience. */
static int sleep_ms(const struct parent *p)
{
	uint64_t at = p->stopping ? p->stop_by_ms : p->child ? UINT64_MAX : p->start_at_ms, now = now_ms();

	if (at == UINT64_MAX)
		return -1;
	return at > now ? (int)(at - now) : 0;
}

static int run(struct parent *p)
{
	for (;;) {
		struct pollfd fds[2] = {
			{.fd = p->signals, .events = POLLIN}, {.fd = p->spec->notify_fd, .events = POLLIN}};
		int code = -1;

		if (!p->child && p->stopping)
			return p->announced ? 0 : 1;
		if (!p->child && now_ms() >= p->start_at_ms && !start_child(p))
			return 1;
		if (poll(fds, 2, sleep_ms(p)) < 0 && errno != EINTR)
			return 1;
		if (fds[1].revents & POLLIN)
			on_notify(p);
		if (fds[0].revents & POLLIN)
			code = on_signals(p);
		if (code >= 0)
			return code;
		if (p->stopping && p->child && !p->killed && now_ms() >= p->stop_by_ms) {
			log_error("parent", "the node did not stop within %u s, killing it",
				p->spec->stop_ms / 1000);
			kill(p->child, SIGKILL);
			p->killed = true;
			p->stop_by_ms = now_ms() + LEFTOVERS_MS;
		} else if (p->killed && now_ms() >= p->stop_by_ms) {
			return 1;
		}
	}
}

/* A node that was told to stop but died instead may leave Postgres running: SIGINT is its fast shutdown. */
static void end_leftovers(void)
{
	char path[64], text[1024], *at = text, *end;
	uint64_t by = now_ms() + LEFTOVERS_MS;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (long pid; (pid = strtol(at, &end, 10)) > 0 && end != at; at = end)
		kill((pid_t)pid, SIGINT);
	while (waitpid(-1, NULL, WNOHANG) >= 0 && now_ms() < by)
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

int parent_run(const struct parent_spec *spec)
{
	struct parent p = {.spec = spec};
	sigset_t mask;
	int code;

	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, &p.old_mask);
	signal(SIGPIPE, SIG_IGN);
	p.signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (p.signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1)) {
		log_error("parent", "could not set up the parent process: %s", strerror(errno));
		return 1;
	}
	fcntl(spec->notify_fd, F_SETFL, O_NONBLOCK);
	code = run(&p);
	if (p.stopping && code)
		end_leftovers();
	close(p.signals);
	return code;
}
