/* flock, not fcntl: fcntl locks vanish when any descriptor of the file is closed by the process. */
#include "runtime/store/dirlock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static enum status held_by_another(int fd, const char *dir, struct error *err)
{
	char text[32] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	error_set(err, E_EXISTS, "55006", "data directory \"%s\" is in use by another node (pid %s)", dir,
		text[0] ? text : "unknown");
	error_hint(err, "Stop that process first, or give another directory with --data.");
	return E_EXISTS;
}

enum status dirlock_take(const char *dir, int *fd, struct error *err)
{
	char path[4096];
	char text[32];
	int n;

	if (snprintf(path, sizeof(path), "%s/multigres.lock", dir) >= (int)sizeof(path))
		return error_set(err, E_LIMIT, "22023", "path of the data directory is too long");
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*fd < 0)
		return error_set(err, E_IO, "58030", "could not open \"%s\": %s", path, strerror(errno));
	if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
		enum status st = errno == EWOULDBLOCK
					 ? held_by_another(*fd, dir, err)
					 : error_set(err, E_IO, "58030", "could not lock \"%s\": %s", path,
						   strerror(errno));

		close(*fd);
		*fd = -1;
		return st;
	}
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(*fd, 0) != 0 || pwrite(*fd, text, (size_t)n, 0) != n) {
		enum status st =
			error_set(err, E_IO, "58030", "could not write \"%s\": %s", path, strerror(errno));

		close(*fd);
		*fd = -1;
		return st;
	}
	return OK;
}

void dirlock_release(int fd)
{
	if (fd >= 0)
		close(fd);
}
