/*
 * Postgres's files, on helper threads: may block, touch nothing but their arguments. All are idempotent: the bring-up
 * workflow may repeat any of them after a crash. Nothing that may hold data is ever overwritten or deleted.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/tablet/postgres.h"
#include "runtime/base/bytes.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"

enum { FULL_PATH_MAX = POSTGRES_PATH_MAX + 64, FILE_MAX = 1 << 20, ASIDE_MAX = 1000 };

static const char MARK[] = "multigres.mark", CONF[] = "multigres.conf", HBA[] = "multigres_hba.conf";

static enum status io_error(struct error *err, const char *what, const char *path)
{
	return error_set(err, E_IO, "58030", "could not %s \"%s\": %s", what, path, strerror(errno));
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* Reads a small file whole, NUL-terminated; gives bytes read or -1. */
static ssize_t read_file(const char *path, char *out, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t got = 0;

	if (fd < 0)
		return -1;
	while (n < cap - 1 && (got = read(fd, out + n, cap - 1 - n)) > 0)
		n += (size_t)got;
	close(fd);
	out[n] = '\0';
	return got < 0 ? -1 : (ssize_t)n;
}

static enum status sync_dir(const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 && fsync(fd) == 0;
	enum status st = ok ? OK : io_error(err, "sync directory", path);

	if (fd >= 0)
		close(fd);
	return st;
}

static enum status give_to(const struct postgres_place *p, const char *path, struct error *err)
{
	if (p->uid < 0 || chown(path, (uid_t)p->uid, (gid_t)p->gid) == 0)
		return OK;
	return io_error(err, "change the owner of", path);
}

/* Writes DIR/NAME by way of a temporary file, so that a crash leaves the old or the new one. */
static enum status write_file(const struct postgres_place *p, const char *dir, const char *name,
	const struct writer *w, struct error *err)
{
	char path[FULL_PATH_MAX], temp[FULL_PATH_MAX + 8];
	enum status st = OK;
	int fd;

	check(!w->failed);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(temp, sizeof(temp), "%s.tmp", path);
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return io_error(err, "write", temp);
	if (write(fd, w->buf->data, w->len) != (ssize_t)w->len || fsync(fd) != 0)
		st = io_error(err, "write", temp);
	close(fd);
	if (!st)
		st = give_to(p, temp, err);
	if (!st && rename(temp, path) != 0)
		st = io_error(err, "write", path);
	return st ? st : sync_dir(dir, err);
}

/* ---- who and with what ------------------------------------------------------------------------------------- */

static bool has_binaries(const char *dir)
{
	char path[FULL_PATH_MAX];

	snprintf(path, sizeof(path), "%s/postgres", dir);
	if (access(path, X_OK) != 0)
		return false;
	snprintf(path, sizeof(path), "%s/initdb", dir);
	return access(path, X_OK) == 0;
}

static bool find_in_debian(char out[POSTGRES_PATH_MAX + 1])
{
	long best = 0;
	DIR *d = opendir("/usr/lib/postgresql");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char dir[POSTGRES_PATH_MAX + 1], *end;
		long major = strtol(e->d_name, &end, 10);

		if (*end || major < POSTGRES_OLDEST_MAJOR || major <= best || major > 999)
			continue;
		snprintf(dir, sizeof(dir), "/usr/lib/postgresql/%ld/bin", major);
		if (!has_binaries(dir))
			continue;
		best = major;
		str_copy(out, POSTGRES_PATH_MAX + 1, dir);
	}
	if (d)
		closedir(d);
	return best > 0;
}

static bool find_in_path(char out[POSTGRES_PATH_MAX + 1])
{
	const char *p = getenv("PATH");

	while (p && *p) {
		size_t n = strcspn(p, ":");

		if (n > 0 && n <= POSTGRES_PATH_MAX) {
			memcpy(out, p, n);
			out[n] = '\0';
			if (has_binaries(out))
				return true;
		}
		p += n + (p[n] == ':');
	}
	return false;
}

enum status postgres_find_binaries(const char *hint, char out[POSTGRES_PATH_MAX + 1], struct error *err)
{
	if (hint[0]) {
		str_copy(out, POSTGRES_PATH_MAX + 1, hint);
		if (has_binaries(hint))
			return OK;
		error_set(err, E_NOT_FOUND, "58P01", "there are no Postgres server programs in \"%s\"", hint);
	} else {
		if (find_in_debian(out) || find_in_path(out))
			return OK;
		error_set(err, E_NOT_FOUND, "58P01",
			"no Postgres server of version %d or later found in /usr/lib/postgresql or PATH",
			POSTGRES_OLDEST_MAJOR);
	}
	error_hint(err, "Install the package postgresql-%d, or name the directory of postgres and initdb.",
		POSTGRES_OLDEST_MAJOR);
	return E_NOT_FOUND;
}

enum status postgres_find_user(const char *run_as, int64_t *uid, int64_t *gid, struct error *err)
{
	const char *names[] = {run_as, "postgres", "nobody"};
	struct passwd pw, *found = NULL;
	char buffer[4096];

	*uid = *gid = -1;
	if (geteuid() != 0)
		return OK;
	for (size_t i = run_as[0] ? 0 : 1; i < (run_as[0] ? 1 : ARRAY_LEN(names)) && !found; i++)
		getpwnam_r(names[i], &pw, buffer, sizeof(buffer), &found);
	if (!found)
		return error_set(err, E_NOT_FOUND, "58P01", "there is no user \"%s\" to run Postgres as",
			run_as[0] ? run_as : "postgres");
	if (found->pw_uid == 0)
		return error_set(err, E_DENIED, "42501", "Postgres must not be run as root");
	*uid = found->pw_uid;
	*gid = found->pw_gid;
	return OK;
}

/* ---- directories ------------------------------------------------------------------------------------------- */

static bool may_enter(const struct stat *st, const struct postgres_place *p)
{
	if (p->uid < 0)
		return true;
	if (st->st_uid == (uid_t)p->uid)
		return st->st_mode & S_IXUSR;
	return st->st_gid == (gid_t)p->gid ? (st->st_mode & S_IXGRP) != 0 : (st->st_mode & S_IXOTH) != 0;
}

/* Postgres's user must be able to walk down to `path`. */
static enum status check_reachable(const struct postgres_place *p, const char *path, struct error *err)
{
	char part[FULL_PATH_MAX];
	struct stat st;

	for (size_t i = 1; path[i]; i++) {
		if (path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (stat(part, &st) != 0)
			return io_error(err, "look at", part);
		if (may_enter(&st, p))
			continue;
		error_set(err, E_DENIED, "42501",
			"the user that runs Postgres (uid %lld) may not enter \"%s\", which leads to the "
			"data directory",
			(long long)p->uid, part);
		error_hint(err, "Choose a data directory elsewhere, for example under /var/lib or /tmp.");
		return E_DENIED;
	}
	return OK;
}

static enum status make_dir(const struct postgres_place *p, const char *path, struct error *err)
{
	uid_t owner = p->uid >= 0 ? (uid_t)p->uid : geteuid();
	struct stat st;

	if (mkdir(path, 0700) == 0)
		return give_to(p, path, err);
	if (errno != EEXIST)
		return io_error(err, "create directory", path);
	if (lstat(path, &st) != 0)
		return io_error(err, "look at", path);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, E_DENIED, "42501", "\"%s\" is not a directory", path);
	if (st.st_uid == owner)
		return chmod(path, 0700) == 0 ? OK : io_error(err, "set permissions of", path);
	if (p->uid >= 0 && st.st_uid == 0 && rmdir(path) == 0 && mkdir(path, 0700) == 0)
		return give_to(p, path, err); /* a crash before the chown: it was still empty */
	return error_set(err, E_DENIED, "42501", "directory \"%s\" belongs to uid %u, not to uid %u", path,
		(unsigned)st.st_uid, (unsigned)owner);
}

enum status postgres_prepare(const struct postgres_place *p, struct error *err)
{
	enum status st;
	char log[FULL_PATH_MAX];
	int fd;

	if (p->base[0] != '/')
		return error_set(
			err, E_INVALID, "22023", "data directory \"%s\" is not an absolute path", p->base);
	st = check_reachable(p, p->base, err);
	if (!st)
		st = make_dir(p, p->base, err);
	if (!st)
		st = make_dir(p, p->socket_dir, err);
	if (st)
		return st;
	snprintf(log, sizeof(log), "%s/postgres.log", p->base);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return io_error(err, "write", log);
	close(fd);
	return give_to(p, log, err);
}

static enum status dir_is_empty(const char *path, bool *empty, struct error *err)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		return io_error(err, "open directory", path);
	*empty = true;
	while (*empty && (e = readdir(d)))
		*empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(d);
	return OK;
}

/* Gives `path` another name, PATH.aside.N. */
static enum status move_aside(const char *path, struct error *err)
{
	char aside[FULL_PATH_MAX + 32];

	for (int i = 1; i <= ASIDE_MAX; i++) {
		snprintf(aside, sizeof(aside), "%s.aside.%d", path, i);
		if (exists(aside))
			continue;
		return rename(path, aside) == 0 ? OK : io_error(err, "move aside", path);
	}
	return error_set(
		err, E_LIMIT, "54000", "too many directories like \"%s.aside.N\"; remove some", path);
}

static enum status inspect_cluster(const struct postgres_place *p, const char *pgdata, struct error *err)
{
	char path[FULL_PATH_MAX + 32], text[32];
	uid_t owner = p->uid >= 0 ? (uid_t)p->uid : geteuid();
	struct stat st;

	if (stat(pgdata, &st) != 0)
		return io_error(err, "look at", pgdata);
	if (st.st_uid != owner)
		return error_set(err, E_DENIED, "42501",
			"directory \"%s\" belongs to uid %u, but Postgres would run as uid %u", pgdata,
			(unsigned)st.st_uid, (unsigned)owner);
	snprintf(path, sizeof(path), "%s/PG_VERSION", pgdata);
	if (read_file(path, text, sizeof(text)) <= 0)
		return error_set(err, E_DENIED, "55000",
			"directory \"%s\" is not empty and is not a Postgres cluster", pgdata);
	if (strtoul(text, NULL, 10) != p->major)
		return error_set(err, E_UNSUPPORTED, "55000",
			"the cluster in \"%s\" is of Postgres %lu, the server programs are of %u", pgdata,
			strtoul(text, NULL, 10), p->major);
	snprintf(path, sizeof(path), "%s/%s", pgdata, MARK);
	if (!exists(path)) {
		error_set(err, E_DENIED, "55000", "the cluster in \"%s\" was not made by Multigres", pgdata);
		error_hint(err, "To put Multigres in front of it, start it yourself and use --attach.");
		return E_DENIED;
	}
	return OK;
}

enum status postgres_inspect(const struct postgres_place *p, bool *found, struct error *err)
{
	char pgdata[FULL_PATH_MAX], fresh[FULL_PATH_MAX];
	bool empty = true;
	enum status st = OK;

	*found = false;
	snprintf(pgdata, sizeof(pgdata), "%s/pgdata", p->base);
	snprintf(fresh, sizeof(fresh), "%s/pgdata.new", p->base);
	if (exists(pgdata))
		st = dir_is_empty(pgdata, &empty, err);
	if (st)
		return st;
	if (!empty) {
		st = inspect_cluster(p, pgdata, err);
		*found = st == OK;
		return st;
	}
	return exists(fresh) ? move_aside(fresh, err) : OK;
}

enum status postgres_install(const struct postgres_place *p, struct error *err)
{
	char pgdata[FULL_PATH_MAX], fresh[FULL_PATH_MAX];
	struct writer w;
	enum status st;

	snprintf(pgdata, sizeof(pgdata), "%s/pgdata", p->base);
	snprintf(fresh, sizeof(fresh), "%s/pgdata.new", p->base);
	writer_init(&w, 256);
	writer_printf(&w, "made by Multigres, Postgres %u\n", p->major);
	st = write_file(p, fresh, MARK, &w, err);
	writer_release(&w);
	if (st)
		return st;
	if (rename(fresh, pgdata) != 0) /* refused by the kernel when pgdata has content */
		return io_error(err, "rename to", pgdata);
	return sync_dir(p->base, err);
}

enum status postgres_configure(const struct postgres_place *p, struct error *err)
{
	struct postgres_settings s = {
		.port = p->port, .max_connections = p->max_connections, .socket_dir = p->socket_dir};
	char pgdata[FULL_PATH_MAX], path[FULL_PATH_MAX + 32];
	char *text = malloc(FILE_MAX);
	struct writer w;
	enum status st;

	if (!text)
		panic("out of memory");
	snprintf(pgdata, sizeof(pgdata), "%s/pgdata", p->base);
	snprintf(path, sizeof(path), "%s/postgresql.conf", pgdata);
	writer_init(&w, FILE_MAX);
	postgres_write_conf(&w, &s);
	st = write_file(p, pgdata, CONF, &w, err);
	w.len = 0;
	postgres_write_hba(&w);
	if (!st)
		st = write_file(p, pgdata, HBA, &w, err);
	if (!st && read_file(path, text, FILE_MAX) < 0)
		st = io_error(err, "read", path);
	if (!st && !postgres_conf_includes(text, CONF)) {
		w.len = 0;
		writer_text(&w, text);
		writer_printf(&w, "\ninclude '%s'\n", CONF);
		st = w.failed ? error_set(err, E_LIMIT, "54000", "\"%s\" is too large", path)
			      : write_file(p, pgdata, "postgresql.conf", &w, err);
	}
	writer_release(&w);
	free(text);
	return st;
}

/* ---- a running postmaster ---------------------------------------------------------------------------------- */

static int64_t boot_time(void)
{
	struct timespec now, up;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	return now.tv_sec - up.tv_sec;
}

/* The process is alive, works in this data directory, and began before it wrote the file (the clock may have moved). */
static bool is_postmaster(const struct postmaster_pid *pm, const char *pgdata)
{
	char path[64], text[1024], cwd[FULL_PATH_MAX], real[4096], state;
	uint64_t ticks;
	int64_t started;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pm->pid);
	if (read_file(path, text, sizeof(text)) <= 0 || proc_stat_parse(text, &state, &ticks) ||
		state == 'Z' || state == 'X')
		return false;
	snprintf(path, sizeof(path), "/proc/%d/cwd", pm->pid);
	n = readlink(path, cwd, sizeof(cwd) - 1);
	if (n > 0) {
		cwd[n] = '\0';
		if (!realpath(pgdata, real) || strcmp(cwd, real) != 0)
			return false;
	}
	snprintf(path, sizeof(path), "/proc/%d/comm", pm->pid);
	if (read_file(path, text, sizeof(text)) <= 0 || strncmp(text, "postgres", 8) != 0)
		return false;
	started = boot_time() + (int64_t)(ticks / (uint64_t)sysconf(_SC_CLK_TCK));
	return n > 0 || llabs(started - pm->started) <= 60;
}

/* A process that works in this directory: a backend that outlived its postmaster. 0: none. */
static int32_t find_orphan(const char *pgdata)
{
	char path[64], cwd[FULL_PATH_MAX], real[4096];
	int32_t found = 0;
	struct dirent *e;
	DIR *d;

	if (!realpath(pgdata, real))
		return 0;
	d = opendir("/proc");
	while (d && !found && (e = readdir(d))) {
		long pid = strtol(e->d_name, NULL, 10);
		ssize_t n;

		if (pid <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%ld/cwd", pid);
		n = readlink(path, cwd, sizeof(cwd) - 1);
		cwd[n > 0 ? n : 0] = '\0';
		if (strcmp(cwd, real) == 0)
			found = (int32_t)pid;
	}
	if (d)
		closedir(d);
	return found;
}

/*
 * The pid in the file now belongs to another program, or to a dead postmaster that nobody has waited for: Postgres
 * would refuse to start. The file also leads to the shared memory of backends that a killed postmaster left behind:
 * only without any does it go, and with it the lock of the private socket, which names the same pid.
 */
static enum status remove_reused(const struct postgres_place *p, const char *path, const char *pgdata,
	const struct postmaster_pid *pm, struct error *err)
{
	int32_t orphan = find_orphan(pgdata);
	char lock[POSTGRES_SOCKET_MAX + 32];

	if (orphan)
		return error_set(err, E_AGAIN, "55006",
			"process %d of an earlier Postgres still works in \"%s\"", orphan, pgdata);
	if (unlink(path) != 0 && errno != ENOENT)
		return io_error(err, "remove", path);
	snprintf(lock, sizeof(lock), "%s/.s.PGSQL.%u.lock", p->socket_dir, pm->port);
	if (pm->port && unlink(lock) != 0 && errno != ENOENT)
		return io_error(err, "remove", lock);
	log_warn("tablet", "removed a stale postmaster.pid: process %d is no postmaster of this cluster",
		pm->pid);
	return OK;
}

enum status postgres_find_running(const struct postgres_place *p, int32_t *pid, struct error *err)
{
	char pgdata[FULL_PATH_MAX], path[FULL_PATH_MAX + 32], text[4096];
	struct postmaster_pid pm;
	ssize_t n;

	*pid = 0;
	snprintf(pgdata, sizeof(pgdata), "%s/pgdata", p->base);
	snprintf(path, sizeof(path), "%s/postmaster.pid", pgdata);
	n = read_file(path, text, sizeof(text));
	if (n < 0)
		return errno == ENOENT ? OK : io_error(err, "read", path);
	if (postmaster_pid_parse(text, (size_t)n, &pm) != OK)
		return OK; /* empty or damaged: Postgres itself knows what to do with it */
	if (is_postmaster(&pm, pgdata)) {
		*pid = pm.pid;
		return OK;
	}
	if (kill(pm.pid, 0) != 0)
		return OK; /* dead, or another user's: Postgres itself sees that the file is stale, and checks its memory */
	return remove_reused(p, path, pgdata, &pm, err);
}

void postgres_log_tail(const struct postgres_place *p, char *out, size_t cap)
{
	char path[FULL_PATH_MAX], text[POSTGRES_LOG_TAIL + 1];
	struct stat st;
	ssize_t n = 0;
	int fd;
	char *q = text;

	snprintf(path, sizeof(path), "%s/postgres.log", p->base);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0)
		n = pread(fd, text, POSTGRES_LOG_TAIL,
			st.st_size > POSTGRES_LOG_TAIL ? st.st_size - POSTGRES_LOG_TAIL : 0);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	if (n == POSTGRES_LOG_TAIL && strchr(text, '\n'))
		q = strchr(text, '\n') + 1;
	while (strlen(q) >= cap && strchr(q, '\n'))
		q = strchr(q, '\n') + 1; /* the last lines matter most */
	str_copy(out, cap, q);
	for (size_t len = strlen(out); len > 0 && out[len - 1] == '\n'; len--)
		out[len - 1] = '\0';
	for (char *c = out; *c; c++) {
		if (*c == '\n')
			*c = '|';
		else if (*c == '\t' || (unsigned char)*c < 0x20)
			*c = ' ';
	}
}
