/* A lock on a data directory, so that two nodes never serve the same one. Held until released or the process ends. */
#ifndef RUNTIME_STORE_DIRLOCK_H
#define RUNTIME_STORE_DIRLOCK_H

#include "runtime/base/status.h"

/*
 * Takes DIR/multigres.lock (flock, so it can't be left behind by a dead process) and writes our pid into it. DIR must
 * exist. E_EXISTS names the pid that holds it. The descriptor isn't inherited by programs we start.
 */
enum status dirlock_take(const char *dir, int *fd, struct error *err) MUST_CHECK;
void dirlock_release(int fd);

#endif
