/*
 * The supervision tree of a node, as data:
 *
 *	root  one_for_one ─┬─ admin
 *	                   ├─ store      LMDB's actor
 *	                   ├─ flow       durable workflows, each its child
 *	                   ├─ topo       the topology, embedded: in the store
 *	                   ├─ tablet     Postgres's keeper
 *	                   ├─ registrar  writes what this node is into the topology
 *	                   ├─ pools      one_for_one: pool.0 .. pool.N, each on its worker; backends are their children
 *	                   ├─ gates      one_for_one: gate.0 .. gate.N, each on its worker; sessions are their children
 *	                   └─ ready      says when all of it serves
 *
 * They start in this order and end in the reverse one. The strategy is one_for_one at the root, since the parts know
 * each other by name only and bear each other's absence: the death of the store must not cost clients their sessions.
 */
#ifndef SUPERVISOR_TREE_H
#define SUPERVISOR_TREE_H

#include "actors/gate/gate.h"
#include "actors/tablet/lifecycle.h"
#include "actors/tablet/pool.h"
#include "runtime/core/supervise.h"
#include "runtime/store/store.h"
#include "supervisor/admin.h"
#include "supervisor/ready.h"

/* What the actors are told; all of it outlives them. */
struct tree_config {
	uint8_t n_workers;
	struct admin_config admin;
	struct store_args store;
	struct tablet_config tablet;
	struct pool_config pool;
	struct gate_config gate;
	struct ready_state ready;
};

struct tree {
	const struct tree_config *config;
	const struct tablet_config *tablet;
	const struct pool_config *pool;
	const struct gate_config *gate;
	struct ready_state *ready;
	char names[2][SUP_CHILDREN_MAX][16];
	struct child_spec top[9], pools[SUP_CHILDREN_MAX], gates[SUP_CHILDREN_MAX];
	struct sup_spec root_sup, pools_sup, gates_sup;
	const struct sup_spec *root_args;
};

/* Fills the tree; borrows config and itself from then on. */
void tree_build(struct tree *t, struct tree_config *config);
/* A drive_spec.boot function; arg is a struct tree. */
enum status tree_boot(struct worker *w, void *tree, struct pid *root);
/* Adds all messages and metrics that the tree's actors use; once, before tree_boot. */
void tree_prepare(void);

#endif
