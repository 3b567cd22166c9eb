/*
 * Pids: 16 bytes that name one life of one actor on one life of one node.
 *
 *	node  = node id (16 bits) | incarnation (48 bits): a restarted node is another node, so that a pid of the
 *	        old process never names an actor of the new one
 *	local = worker (8 bits) | slot (24 bits) | generation (32 bits)
 *
 * Slot 0 of each worker is its kernel, with generation 1.
 */
#ifndef RUNTIME_CORE_PID_H
#define RUNTIME_CORE_PID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PID_TEXT_MAX = 64, WORKERS_MAX = 64, SLOTS_MAX = 1 << 24 };

struct pid {
	uint64_t node, local;
};

#define PID_NONE ((struct pid){0, 0})

static inline struct pid pid_make(uint64_t node, uint8_t worker, uint32_t slot, uint32_t generation)
{
	return (struct pid){node, (uint64_t)worker << 56 | (uint64_t)slot << 32 | generation};
}

static inline uint8_t pid_worker(struct pid p)
{
	return (uint8_t)(p.local >> 56);
}

static inline uint32_t pid_slot(struct pid p)
{
	return (uint32_t)(p.local >> 32) & 0xffffffu;
}

static inline uint32_t pid_generation(struct pid p)
{
	return (uint32_t)p.local;
}

static inline bool pid_equal(struct pid a, struct pid b)
{
	return a.local == b.local && a.node == b.node;
}

static inline bool pid_is_none(struct pid p)
{
	return p.node == 0 && p.local == 0;
}

static inline uint64_t node_make(uint16_t id, uint64_t incarnation)
{
	return (uint64_t)id << 48 | (incarnation & 0xffffffffffffull);
}

/* Writes "<node.worker.slot.generation>" (node id without its incarnation) and gives `text`. */
const char *pid_format(struct pid p, char text[PID_TEXT_MAX]);

/* Reads that form; the node part is completed from `node` when the ids agree. E_INVALID on anything else. */
enum status pid_parse(const char *text, uint64_t node, struct pid *out) MUST_CHECK;

#endif
