/* The embedded topology: racing changes, watchers and crashes agree with what is on disk. */
#include "runtime/base/bytes.h"
#include "runtime/store/store.h"
#include "test/sim/world.h"
#include "topo/embedded.h"

enum { CHANGERS = 4 };

static struct {
	struct sim *s;
	struct store_backend *be;
	struct rand_stream rand;
	uint64_t acked, tried, seen_version;
} world;

/* Each changer reads the one record, adds one, puts it back on the version read: acked counts what worked. */
struct changer {
	uint64_t value;
};

static void again(struct actor *self)
{
	struct msg *m;
	struct topo_get *g = topo_get_new(self, &m);

	g->kind = TOPO_KIND_CELL;
	str_copy(g->name, sizeof(g->name), "counter");
	actor_ask(self, actor_whereis(self, "topo"), &m, 1000);
}

static enum status changer_start(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	actor_timer(self, 1, 5);
	return OK;
}

static enum status changer_record(struct actor *self, struct msg *m)
{
	struct topo_record *r = topo_record_of(m);
	struct topo_put *p;
	struct msg *out;
	uint64_t n = 0;

	if (r->version)
		memcpy(&n, slice_data(&r->value), sizeof(n));
	n++;
	p = topo_put_new(self, &out);
	p->kind = TOPO_KIND_CELL;
	str_copy(p->name, sizeof(p->name), "counter");
	p->expect = r->version;
	p->value = slice_copy(&n, sizeof(n));
	world.tried++;
	actor_ask(self, actor_whereis(self, "topo"), &out, 1000);
	return OK;
}

static enum status changer_stored(struct actor *self, struct msg *m)
{
	enum status st = (enum status)topo_stored_of(m)->status;

	sim_assert(world.s, st == OK || st == E_STALE);
	world.acked += st == OK;
	again(self);
	return OK;
}

static enum status changer_retry(struct actor *self, struct msg *m)
{
	if (m->tag == TIMER)
		again(self);
	else
		actor_timer(self, 1, 10);
	return OK;
}

static const struct rule changer_rules[] = {
	{STATE_ANY, TOPO_RECORD, changer_record},
	{STATE_ANY, TOPO_STORED, changer_stored},
	{STATE_ANY, ASK_FAILED, changer_retry},
	{STATE_ANY, TIMER, changer_retry},
};
BEHAVIOUR(changer, sizeof(struct changer), changer_rules, .init = changer_start);

static enum status watcher_start(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	actor_timer(self, 1, 1);
	return OK;
}

static enum status watcher_timer(struct actor *self, struct msg *m)
{
	struct msg *out;

	(void)m;
	topo_watch_new(self, &out)->kind = TOPO_KIND_CELL;
	actor_ask(self, actor_whereis(self, "topo"), &out, 1000);
	return OK;
}

static enum status watcher_record(struct actor *self, struct msg *m)
{
	struct topo_record *r = topo_record_of(m);

	(void)self;
	sim_assert(world.s, r->version >= world.seen_version); /* never goes back, over crashes too */
	world.seen_version = r->version;
	return OK;
}

static enum status watcher_failed(struct actor *self, struct msg *m)
{
	(void)m;
	actor_timer(self, 1, 10);
	return OK;
}

static enum status watcher_done(struct actor *self, struct msg *m)
{
	(void)self;
	sim_assert(world.s, done_of(m)->status == OK);
	return OK;
}

static const struct rule watcher_rules[] = {
	{STATE_ANY, TOPO_RECORD, watcher_record},
	{STATE_ANY, TIMER, watcher_timer},
	{STATE_ANY, ASK_FAILED, watcher_failed},
	{STATE_ANY, DONE, watcher_done},
};
BEHAVIOUR(watcher, 0, watcher_rules, .init = watcher_start);

static void boot(struct sim *s, uint16_t node, void *arg)
{
	struct store_args args = {world.be};

	(void)arg;
	sim_spawn(s, node, 0,
		&(struct spawn){.behaviour = &store_behaviour,
			.args = &args,
			.args_size = sizeof(args),
			.name = "store"});
	sim_spawn(s, node, 0, &(struct spawn){.behaviour = &topo_embedded_behaviour, .name = "topo"});
	sim_spawn(s, node, 0, &(struct spawn){.behaviour = &watcher_behaviour});
	for (int i = 0; i < CHANGERS; i++)
		sim_spawn(s, node, 0, &(struct spawn){.behaviour = &changer_behaviour});
}

START_TEST(racing_changes_and_crashes_lose_no_acknowledged_change)
{
	struct error err = {0};
	uint64_t n = 0, version;
	struct writer w;

	memset(&world, 0, sizeof(world));
	world.be = store_open_memory();
	world.s =
		sim_new(&(struct sim_spec){.seed = (uint64_t)_i, .n_nodes = 1, .n_workers = 1, .boot = boot});
	world.rand = sim_stream(world.s, "test");
	for (int i = 0; i < 5; i++) {
		sim_run_for(world.s, 20000 + rand_below(&world.rand, 30000));
		sim_crash_node(world.s, 1);
		world.be = store_memory_crash(world.be,
			(uint32_t)rand_below(&world.rand, store_memory_unacknowledged(world.be) + 1));
		sim_restart_node(world.s, 1);
	}
	sim_run_for(world.s, 50000);
	sim_crash_node(world.s, 1);
	writer_init(&w, 64);
	sim_assert(world.s, store_read(world.be, "topo", "\1counter", 8, &w, &version, &err) == OK);
	memcpy(&n, w.buf->data, sizeof(n));
	writer_release(&w);
	sim_assert(
		world.s, n >= world.acked && n <= world.acked + 6); /* at most one unacknowledged a crash */
	sim_assert(world.s, world.acked > 20 && world.tried > world.acked);
	sim_free(world.s);
	store_close(world.be);
}
END_TEST

int main(void)
{
	const struct world_test tests[] = {{racing_changes_and_crashes_lose_no_acknowledged_change, 40}};

	catalog_add_store();
	catalog_add_topo();
	return world_main("sim store topo", tests, ARRAY_LEN(tests));
}
