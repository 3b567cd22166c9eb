/*
 * Writing the node's records, one after the other, each by compare-and-swap:
 *
 *	SEEKING ── topo found ──> READING ── differs ──> WRITING ── stored, or somebody was first ──> READING the next or again
 *	                             └── all there ──> DONE ── the tablet has moved ──> READING from the first
 */
#include "supervisor/registrar.h"

#include <string.h>

#include "actors/tablet/messages.h"
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/core/codec.h"
#include "topo/embedded.h"

enum { SEEK_MS = 100, ASK_MS = 10000, RETRY_MS = 1000, KEY_SEEK = 1, VALUE_BYTES = 4096 };

#define DEV_CELL "dev"
#define DEV_DATABASE "postgres"
#define DEV_GROUP "default"
#define DEV_SHARD DEV_DATABASE "/" DEV_GROUP "/-"
#define DEV_TABLET "dev-1"

#define REGISTRAR_STATES(S) S(SEEKING) S(READING) S(WRITING) S(DONE_ALL)
STATES(registrar, REGISTRAR_STATES);

struct registrar {
	struct pid topo;
	uint32_t at; /* of the records below */
	char address[160];
};

static const struct {
	uint8_t kind;
	const char *name;
} records[] = {
	{TOPO_KIND_CELL, DEV_CELL},
	{TOPO_KIND_DATABASE, DEV_DATABASE},
	{TOPO_KIND_SHARD, DEV_SHARD},
	{TOPO_KIND_TABLET, DEV_TABLET},
};

/* The encoding of what the record at `at` should be. */
static struct slice wanted(const struct registrar *r)
{
	union {
		struct topo_cell cell;
		struct topo_database database;
		struct topo_shard shard;
		struct topo_tablet tablet;
	} body = {0};
	struct writer out;

	switch (records[r->at].kind) {
	case TOPO_KIND_CELL:
		str_copy(body.cell.name, sizeof(body.cell.name), DEV_CELL);
		break;
	case TOPO_KIND_DATABASE:
		str_copy(body.database.name, sizeof(body.database.name), DEV_DATABASE);
		str_copy(body.database.table_group, sizeof(body.database.table_group), DEV_GROUP);
		break;
	case TOPO_KIND_SHARD:
		str_copy(body.shard.name, sizeof(body.shard.name), DEV_SHARD);
		str_copy(body.shard.primary, sizeof(body.shard.primary), DEV_TABLET);
		body.shard.term = 1;
		break;
	default:
		str_copy(body.tablet.name, sizeof(body.tablet.name), DEV_TABLET);
		str_copy(body.tablet.cell, sizeof(body.tablet.cell), DEV_CELL);
		str_copy(body.tablet.shard, sizeof(body.tablet.shard), DEV_SHARD);
		str_copy(body.tablet.address, sizeof(body.tablet.address), r->address);
	}
	writer_init(&out, VALUE_BYTES);
	msg_encode_body(topo_kind_desc(records[r->at].kind), &body, &out);
	return writer_take(&out);
}

static enum status read_record(struct actor *self)
{
	struct registrar *r = actor_state(self);
	struct msg *m;
	struct topo_get *g;

	if (r->at == ARRAY_LEN(records)) {
		actor_become(self, DONE_ALL);
		return OK;
	}
	g = topo_get_new(self, &m);
	g->kind = records[r->at].kind;
	str_copy(g->name, sizeof(g->name), records[r->at].name);
	actor_become(self, READING);
	actor_ask(self, r->topo, &m, ASK_MS);
	return OK;
}

static void ask_where(struct actor *self)
{
	struct pid tablet = actor_whereis(self, "tablet");
	struct msg *m;

	if (pid_is_none(tablet))
		return;
	tablet_where_new(self, &m);
	actor_ask(self, tablet, &m, ASK_MS);
}

static enum status on_seek(struct actor *self, struct msg *m)
{
	struct registrar *r = actor_state(self);

	(void)m;
	r->topo = actor_whereis(self, "topo");
	if (!r->address[0])
		ask_where(self);
	if (pid_is_none(r->topo) || !r->address[0]) {
		actor_timer(self, KEY_SEEK, SEEK_MS);
		return OK;
	}
	r->at = 0;
	return read_record(self);
}

static enum status on_record(struct actor *self, struct msg *m)
{
	struct registrar *r = actor_state(self);
	struct topo_record *have = topo_record_of(m);
	struct slice value = wanted(r);
	struct msg *out;
	struct topo_put *p;

	if (have->version && have->value.len == value.len &&
		memcmp(slice_data(&have->value), slice_data(&value), value.len) == 0) {
		slice_release(&value);
		r->at++;
		return read_record(self);
	}
	p = topo_put_new(self, &out);
	p->kind = records[r->at].kind;
	str_copy(p->name, sizeof(p->name), records[r->at].name);
	p->expect = have->version;
	p->value = value;
	actor_become(self, WRITING);
	actor_ask(self, r->topo, &out, ASK_MS);
	return OK;
}

/* Stored or not, reading again tells. */
static enum status on_stored(struct actor *self, struct msg *m)
{
	struct topo_stored *s = topo_stored_of(m);

	if (s->status != OK && s->status != E_STALE)
		return actor_fail(self, (enum status)s->status, "the topology refused a record: %s", s->text);
	return read_record(self);
}

static enum status on_no_answer(struct actor *self, struct msg *m)
{
	(void)m;
	actor_become(self, SEEKING);
	actor_timer(self, KEY_SEEK, RETRY_MS);
	return OK;
}

static enum status on_serving(struct actor *self, struct msg *m)
{
	struct registrar *r = actor_state(self);
	struct tablet_serving *t = tablet_serving_of(m);

	if (!t->address[0] || strcmp(r->address, t->address) == 0)
		return OK;
	str_copy(r->address, sizeof(r->address), t->address);
	if (actor_current(self) != DONE_ALL)
		return OK; /* what is under way meets the new address when it comes to the tablet, or the timer does */
	actor_become(self, SEEKING);
	actor_timer(self, KEY_SEEK, 0);
	return OK;
}

static enum status registrar_init(struct actor *self, const void *args, size_t size)
{
	(void)args;
	(void)size;
	actor_group_join(self, "tablet.watchers");
	actor_timer(self, KEY_SEEK, SEEK_MS);
	return OK;
}

static const struct rule registrar_rules[] = {
	{SEEKING, TIMER, on_seek},
	{READING, TOPO_RECORD, on_record},
	{WRITING, TOPO_STORED, on_stored},
	{STATE_ANY, DONE, on_no_answer},
	{STATE_ANY, ASK_FAILED, on_no_answer},
	{STATE_ANY, TABLET_SERVING, on_serving},
};

const struct behaviour registrar_behaviour = {.name = "registrar",
	.state_size = sizeof(struct registrar),
	.rules = registrar_rules,
	.n_rules = ARRAY_LEN(registrar_rules),
	.states = registrar_state_names,
	.n_states = ARRAY_LEN(registrar_state_names),
	.init = registrar_init};
