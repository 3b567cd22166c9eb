/*
 * The registrar: writes into the topology what this node is: its cell, its database with one unsharded shard, its
 * tablet and where its Postgres is. For a cluster of one node (`multigres dev`); named "registrar".
 */
#ifndef SUPERVISOR_REGISTRAR_H
#define SUPERVISOR_REGISTRAR_H

#include "runtime/core/actor.h"

extern const struct behaviour registrar_behaviour;

#endif
