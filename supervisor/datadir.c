/* The data directory: made, marked, locked. Called by the parent before anything else runs. */
#include "supervisor/datadir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MARK "multigres data directory, format 1\n"

enum { LOCK_TRIES = 20, LOCK_PAUSE_MS = 100 }; /* a killed parent's child may take a moment to go */

/* mkdir -p; Postgres runs as another user when we are root, so others may pass through. */
static enum status make_path(const char *path, struct error *err)
{
	char part[PATH_MAX];
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(part))
		return error_set(err, E_INVALID, "22023", "the data directory's path is empty or too long");
	for (size_t i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0755) && errno != EEXIST)
			return error_set(err, E_IO, "58030", "could not create directory \"%s\": %s", part,
				strerror(errno));
	}
	return OK;
}

static bool is_empty(int dir)
{
	DIR *d = fdopendir(dup(dir));
	struct dirent *e;
	bool empty = true;

	if (!d)
		return false;
	while (empty && (e = readdir(d)))
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			strcmp(e->d_name, "lost+found") == 0;
	closedir(d);
	return empty;
}

static enum status mark(const char *path, int dir, struct error *err)
{
	int fd = openat(dir, "MULTIGRES", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	bool written;

	if (fd < 0)
		return error_set(err, E_IO, "58030", "could not write into data directory \"%s\": %s", path,
			strerror(errno));
	written = write(fd, MARK, sizeof(MARK) - 1) == (ssize_t)sizeof(MARK) - 1 && fsync(fd) == 0;
	close(fd);
	if (!written || fsync(dir))
		return error_set(err, E_IO, "58030", "could not write into data directory \"%s\": %s", path,
			strerror(errno));
	return OK;
}

/* Ours: marked with a format we know, or empty and marked now. */
static enum status check_mark(const char *path, int dir, struct error *err)
{
	char text[sizeof(MARK) + 16] = "";
	int fd = openat(dir, "MULTIGRES", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0 && errno == ENOENT) {
		if (is_empty(dir))
			return mark(path, dir, err);
		error_set(err, E_DENIED, "55000",
			"directory \"%s\" is not empty and was not made by multigres", path);
		error_hint(err, "name an empty or new directory with --data");
		return E_DENIED;
	}
	if (fd < 0)
		return error_set(err, E_IO, "58030", "could not read data directory \"%s\": %s", path,
			strerror(errno));
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n == 0)
		return OK; /* we died between creating and writing it */
	if (n < 0 || strcmp(text, MARK) != 0)
		return error_set(err, E_DENIED, "55000",
			"data directory \"%s\" has a format this program doesn't know (see %s/MULTIGRES)",
			path, path);
	return OK;
}

static enum status lock(const char *path, int dir, int *lock_fd, struct error *err)
{
	struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
	int fd = openat(dir, "node.lock", O_RDWR | O_CREAT, 0644); /* no CLOEXEC: see datadir.h */
	char text[32] = "";
	ssize_t n;

	if (fd < 0)
		return error_set(
			err, E_IO, "58030", "could not open \"%s/node.lock\": %s", path, strerror(errno));
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (errno != EWOULDBLOCK && errno != EINTR) {
			close(fd);
			return error_set(err, E_IO, "58030", "could not lock \"%s/node.lock\": %s", path,
				strerror(errno));
		}
		n = pread(fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? n : 0] = '\0';
		text[strcspn(text, "\n")] = '\0';
		if (i < LOCK_TRIES && text[0] && access("/proc/self", F_OK) == 0) {
			char proc[64];

			snprintf(proc, sizeof(proc), "/proc/%.20s", text);
			if (access(proc, F_OK) != 0) { /* the holder is gone, its child is going */
				nanosleep(&pause, NULL);
				continue;
			}
		}
		close(fd);
		return error_set(err, E_EXISTS, "55006",
			"data directory \"%s\" is in use by multigres process %s", path,
			text[0] ? text : "(unknown)");
	}
	snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) || pwrite(fd, text, strlen(text), 0) < 0) {
		close(fd);
		return error_set(
			err, E_IO, "58030", "could not write \"%s/node.lock\": %s", path, strerror(errno));
	}
	*lock_fd = fd;
	return OK;
}

enum status datadir_open(const char *path, int *lock_fd, struct error *err)
{
	enum status st = make_path(path, err);
	struct stat sb;
	int dir;

	if (st)
		return st;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &sb)) {
		error_set(err, E_IO, "58030", "could not open data directory \"%s\": %s", path,
			strerror(errno));
		if (dir >= 0)
			close(dir);
		return E_IO;
	}
	if (sb.st_uid != geteuid())
		st = error_set(err, E_DENIED, "42501",
			"data directory \"%s\" belongs to another user (uid %u)", path, (unsigned)sb.st_uid);
	if (!st)
		st = check_mark(path, dir, err);
	if (!st)
		st = lock(path, dir, lock_fd, err);
	close(dir);
	return st;
}
