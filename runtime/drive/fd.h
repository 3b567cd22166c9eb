/* Foreign descriptors (libpq, curl): the driver's operations. Contracts in runtime/core/io.h. */
#ifndef RUNTIME_DRIVE_FD_H
#define RUNTIME_DRIVE_FD_H

#include "runtime/drive/internal.h"

enum status drive_fd_watch(struct driver *d, struct actor *a, int fd, uint8_t events, uint64_t *id);
void drive_fd_arm(struct driver *d, struct actor *a, uint64_t id, uint8_t events);
void drive_fd_unwatch(struct driver *d, struct actor *a, uint64_t id);
void drive_fds_abort(struct loop *l);

#endif
