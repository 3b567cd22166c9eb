/*
 * The node's data directory: made on first use, marked as ours, locked by one node at a time.
 *
 *	DIR/MULTIGRES		format of the directory, one line
 *	DIR/node.lock		held with flock by the parent and its child; the holder's pid
 *	DIR/store DIR/pg ...	what the actors keep
 */
#ifndef SUPERVISOR_DATADIR_H
#define SUPERVISOR_DATADIR_H

#include "runtime/base/status.h"

/*
 * Gives the lock's descriptor (inherited by children on purpose: the directory is in use until the last has ended).
 * Errors, each with its reason: not ours (not empty and unmarked, another user's, newer format), in use, no access.
 */
enum status datadir_open(const char *path, int *lock_fd, struct error *err) MUST_CHECK;

#endif
