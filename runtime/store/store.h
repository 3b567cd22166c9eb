/*
 * The store's actor, one a node, registered as "store" by its supervisor's child_spec. It puts what has gathered
 * while one commit is at the disk into the next one (group commit), so that no worker ever waits for a disk.
 *
 *	struct store_args args = { backend };
 *	{ .name = "store", .behaviour = &store_behaviour, .args = &args, .args_size = sizeof(args) }
 *
 * The backend outlives the actor: the program opens it before workers start and closes it when they have ended.
 */
#ifndef RUNTIME_STORE_STORE_H
#define RUNTIME_STORE_STORE_H

#include "runtime/core/actor.h"
#include "runtime/store/backend.h"

enum {
	STORE_WAITING_MAX = 4096, /* commits waiting for the next group; over it E_FULL */
	STORE_GROUP_BYTES_MAX = 8 << 20,
	STORE_READS_MAX = 256, /* reads at helper threads; over it E_FULL */
};

struct store_args {
	struct store_backend *backend;
};

extern const struct behaviour store_behaviour;

/* Declares the store's metrics; once, before workers start. Without it the store counts nothing. */
void store_declare_metrics(void);

#endif
