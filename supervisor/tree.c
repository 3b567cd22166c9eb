/* The tree of a node, filled in from its configuration. */
#include "supervisor/tree.h"

#include "actors/gate/messages.h"
#include "actors/tablet/messages.h"
#include "runtime/flow/flow.h"
#include "supervisor/registrar.h"
#include "topo/embedded.h"

enum {
	TABLET_SHUTDOWN_MS = 30000, /* Postgres's own shutdown is in it */
	GROUP_SHUTDOWN_MS = 8000,
	/*
	 * More restarts than this and the process starts afresh. With the longest back-off a child that fails at once stays
	 * below it; what exceeds it is many parts failing together.
	 */
	INTENSITY = 100,
	PERIOD_MS = 10000,
	BACKOFF_MIN_MS = 20,
	BACKOFF_MAX_MS = 1000,
};

static void sup_fill(struct sup_spec *s, const struct child_spec *children, uint32_t n)
{
	*s = (struct sup_spec){
		ONE_FOR_ONE, INTENSITY, PERIOD_MS, BACKOFF_MIN_MS, BACKOFF_MAX_MS, children, n};
}

/* One child a worker: name.0, name.1, ... */
static void spread(struct child_spec *children, char names[][16], const char *name,
	const struct child_spec *what, uint8_t n)
{
	for (uint8_t i = 0; i < n; i++) {
		snprintf(names[i], 16, "%s.%u", name, i);
		children[i] = *what;
		children[i].name = names[i];
		children[i].worker = i;
	}
}

void tree_build(struct tree *t, struct tree_config *config)
{
	struct child_spec pool = {
		.behaviour = &pool_behaviour, .args = &t->pool, .args_size = sizeof(t->pool)};
	struct child_spec gate = {
		.behaviour = &listener_behaviour, .args = &t->gate, .args_size = sizeof(t->gate)};
	const struct child_spec top[] = {
		{.name = "admin",
			.behaviour = &admin_behaviour,
			.args = &config->admin,
			.args_size = sizeof(config->admin),
			.worker = WORKER_SAME},
		{.name = "store",
			.behaviour = &store_behaviour,
			.args = &config->store,
			.args_size = sizeof(config->store),
			.worker = WORKER_SAME},
		{.name = "flow", .behaviour = &flow_behaviour, .worker = WORKER_SAME},
		{.name = "topo", .behaviour = &topo_embedded_behaviour, .worker = WORKER_SAME},
		{.name = "tablet",
			.behaviour = &tablet_behaviour,
			.args = &t->tablet,
			.args_size = sizeof(t->tablet),
			.shutdown_ms = TABLET_SHUTDOWN_MS,
			.worker = WORKER_SAME},
		{.name = "registrar", .behaviour = &registrar_behaviour, .worker = WORKER_SAME},
		{.name = "pools",
			.behaviour = &supervisor_behaviour,
			.subtree = &t->pools_sup,
			.shutdown_ms = GROUP_SHUTDOWN_MS,
			.worker = WORKER_SAME},
		{.name = "gates",
			.behaviour = &supervisor_behaviour,
			.subtree = &t->gates_sup,
			.shutdown_ms = GROUP_SHUTDOWN_MS,
			.worker = WORKER_SAME},
		{.name = "ready",
			.behaviour = &ready_behaviour,
			.args = &t->ready,
			.args_size = sizeof(t->ready),
			.worker = WORKER_SAME},
	};

	_Static_assert(sizeof(top) == sizeof(t->top), "struct tree has room for the root's children");
	memset(t, 0, sizeof(*t));
	t->config = config;
	t->tablet = &config->tablet;
	t->pool = &config->pool;
	t->gate = &config->gate;
	t->ready = &config->ready;
	memcpy(t->top, top, sizeof(top));
	spread(t->pools, t->names[0], "pool", &pool, config->n_workers);
	spread(t->gates, t->names[1], "gate", &gate, config->n_workers);
	sup_fill(&t->pools_sup, t->pools, config->n_workers);
	sup_fill(&t->gates_sup, t->gates, config->n_workers);
	sup_fill(&t->root_sup, t->top, ARRAY_LEN(t->top));
	t->root_args = &t->root_sup;
}

enum status tree_boot(struct worker *w, void *arg, struct pid *root)
{
	struct tree *t = arg;
	struct spawn what = {.behaviour = &supervisor_behaviour,
		.args = &t->root_args,
		.args_size = sizeof(t->root_args),
		.name = "root",
		.orphan = true};

	return worker_spawn(w, &what, root);
}

void tree_prepare(void)
{
	catalog_add_core();
	catalog_add_sup();
	catalog_add_admin();
	catalog_add_store();
	catalog_add_flow();
	catalog_add_topo();
	catalog_add_tablet();
	catalog_add_gate();
	tablet_setup();
	store_declare_metrics();
	pool_metrics_declare();
	gate_metrics_declare();
	admin_prepare();
}
