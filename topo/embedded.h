/*
 * The embedded topology: the cluster's records in the node's own store, for a cluster of one node (`multigres dev`).
 * Named "topo"; needs "store". No args. The messages are those of any topology backend.
 */
#ifndef TOPO_EMBEDDED_H
#define TOPO_EMBEDDED_H

#include "topo/messages.h"
#include "runtime/core/actor.h"

enum { TOPO_RECORDS_MAX = 4096, TOPO_WATCHERS_MAX = 64, TOPO_PENDING_MAX = 256 };

extern const struct behaviour topo_embedded_behaviour;

/* The message whose encoding a record's value is; NULL for no kind. */
const struct msg_desc *topo_kind_desc(uint8_t kind);
const char *topo_kind_name(uint8_t kind);

#endif
