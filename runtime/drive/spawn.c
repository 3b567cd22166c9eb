/*
 * Starting a process: vfork, a few calls, exec.
 *
 * Why not posix_spawn or uv_spawn: neither can drop supplementary groups, set PR_SET_PDEATHSIG or start a session
 * between fork and exec. Why not fork: it copies the page tables of a large node, milliseconds with every thread's
 * page faults behind it. With vfork the child borrows our memory until it execs, so it may only make system calls and
 * write to its own frame. It calls no libc set*id(), which would ask the *other threads of the parent* to follow.
 *
 * PR_SET_PDEATHSIG fires when the *thread* that started the child ends, not the process. Ours is a worker's thread,
 * which lives until drive_stop or the end of the process: just what die_with_node asks for. It is set after the change
 * of user, which clears it.
 *
 * The child reports a failure as {step, errno} through a pipe that its exec closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/drive/proc.h"
#include "runtime/drive/socket.h"

extern char **environ;

enum step {
	STEP_NONE,
	STEP_SIGNALS,
	STEP_GROUP,
	STEP_USER,
	STEP_PARENT,
	STEP_OUTPUT,
	STEP_CWD,
	STEP_FILES,
	STEP_EXEC
};

static const char *const step_texts[] = {"", "reset its signals", "change its group", "change its user",
	"tie it to this process", "open its output file", "change to its directory", "set up its files",
	"execute it"};

struct failure {
	int step, number;
};

struct child {
	const struct proc_start *spec;
	int in, out[2], report;
	pid_t parent;
};

/* ---- in the child: system calls only ------------------------------------------------------------------------- */

static int child_signals(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < 32; i++)
		if (i != SIGKILL && i != SIGSTOP && sigaction(i, &dfl, NULL))
			return -1;
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

static int child_identity(const struct proc_start *spec, enum step *step)
{
	*step = STEP_GROUP;
	if ((spec->uid >= 0 || spec->gid >= 0) && geteuid() == 0 && syscall(SYS_setgroups, 0, NULL))
		return -1;
	if (spec->gid >= 0 && syscall(SYS_setresgid, spec->gid, spec->gid, spec->gid))
		return -1;
	*step = STEP_USER;
	return spec->uid >= 0 ? (int)syscall(SYS_setresuid, spec->uid, spec->uid, spec->uid) : 0;
}

/* Descriptors 0, 1, 2; all others are closed by the exec. */
static int child_files(struct child *c, enum step *step)
{
	const char *file = c->spec->output_file;

	*step = STEP_OUTPUT;
	if (file) {
		c->out[0] = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600); /* as its new user */
		c->out[1] = c->out[0];
		if (c->out[0] < 0)
			return -1;
	}
	*step = STEP_CWD;
	if (c->spec->cwd && chdir(c->spec->cwd))
		return -1;
	*step = STEP_FILES;
	if (dup2(c->in, 0) < 0 || dup2(c->out[0], 1) < 0 || dup2(c->out[1], 2) < 0)
		return -1;
	return (int)syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
}

static enum step child_prepare(struct child *c)
{
	const struct proc_start *spec = c->spec;
	enum step step;

	setsid(); /* a terminal's Ctrl-C is for the node, which shuts its children down in order */
	if (child_signals())
		return STEP_SIGNALS;
	if (child_identity(spec, &step))
		return step;
	if (spec->die_with_node && (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != c->parent))
		return STEP_PARENT;
	if (child_files(c, &step))
		return step;
	execve(spec->argv[0], (char *const *)(uintptr_t)spec->argv,
		spec->env ? (char *const *)(uintptr_t)spec->env : environ);
	return STEP_EXEC;
}

static _Noreturn void child_main(struct child *c)
{
	struct failure f = {.step = (int)child_prepare(c)};

	f.number = errno;
	_exit(write(c->report, &f, sizeof(f)) == (ssize_t)sizeof(f) ? 126 : 127);
}

/* In a frame of its own, so that nothing the parent still needs is in the child's reach. */
static __attribute__((noinline)) pid_t child_start(struct child *c)
{
	pid_t pid = vfork();

	if (pid == 0)
		child_main(c);
	return pid;
}

/* ---- in the parent ------------------------------------------------------------------------------------------- */

/* What goes to stdin: the text in an anonymous file, or /dev/null. Never below 3, lest dup2 overwrite another. */
static int open_input(const char *text)
{
	int fd, high;

	if (!text) {
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	} else {
		size_t n = strlen(text);

		fd = memfd_create("stdin", MFD_CLOEXEC);
		if (fd >= 0 && (write(fd, text, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET))) {
			close(fd);
			return -1;
		}
	}
	if (fd < 0 || fd > 2)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	close(fd);
	return high;
}

static void close_both(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static enum status spawn_failed(
	struct error *err, const struct proc_start *spec, const char *step, int number)
{
	char why[128];

	return error_set(err, number == ENOENT ? E_NOT_FOUND : E_IO, "58000",
		"could not start \"%.200s\": could not %s: %s", spec->argv[0], step, errno_text(number, why));
}

/* Forks with all signals blocked: a handler of ours must not run in the child. */
static pid_t fork_blocked(struct child *c)
{
	sigset_t all, old;
	pid_t pid;
	int number;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = child_start(c);
	number = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = number;
	return pid;
}

enum status drive_spawn(const struct proc_start *spec, pid_t *pid, int out[2], struct error *err)
{
	int report[2] = {-1, -1}, stdout_pipe[2] = {-1, -1}, stderr_pipe[2] = {-1, -1};
	struct child c = {.spec = spec, .parent = getpid()};
	struct failure f = {0};
	enum status st = OK;

	out[0] = out[1] = -1;
	c.in = open_input(spec->input);
	if (c.in < 0 || pipe2(report, O_CLOEXEC) ||
		(!spec->output_file && (pipe2(stdout_pipe, O_CLOEXEC) || pipe2(stderr_pipe, O_CLOEXEC)))) {
		st = spawn_failed(err, spec, "open its pipes", errno);
		goto done;
	}
	c.out[0] = stdout_pipe[1];
	c.out[1] = stderr_pipe[1];
	c.report = report[1];
	*pid = fork_blocked(&c);
	if (*pid < 0) {
		st = spawn_failed(err, spec, "fork", errno);
		goto done;
	}
	close(report[1]);
	report[1] = -1;
	if (read(report[0], &f, sizeof(f)) == (ssize_t)sizeof(f)) { /* the end of file: it has executed */
		waitpid(*pid, NULL, 0);
		st = spawn_failed(err, spec, step_texts[f.step], f.number);
		goto done;
	}
	out[0] = stdout_pipe[0];
	out[1] = stderr_pipe[0];
	stdout_pipe[0] = stderr_pipe[0] = -1;
done:
	if (c.in >= 0)
		close(c.in);
	close_both(report);
	close_both(stdout_pipe);
	close_both(stderr_pipe);
	return st;
}
