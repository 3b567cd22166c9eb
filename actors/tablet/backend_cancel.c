/*
 * The canceller: one connection that carries one CancelRequest. It ends when Postgres has closed it, for then the
 * signal has been sent (postmaster: processCancelRequest signals before it closes); its parent, the backend, gives the
 * lease's end away only after that, so that a late cancel never hits another session's query.
 */
#include <string.h>

#include "actors/pg/wire_build.h"
#include "actors/tablet/backend_internal.h"
#include "runtime/base/bytes.h"

enum { CANCEL_DEADLINE_MS = 5000, CANCEL_BYTES = 512 };

#define CANCEL_STATES(S) S(CANCELLING)
STATES(cancel, CANCEL_STATES);

struct canceller_args {
	char address[IO_ADDRESS_MAX];
	uint32_t os_pid, secret_len;
	uint8_t secret[BACKEND_SECRET_MAX];
};

struct canceller {
	uint64_t io;
	struct canceller_args args;
};

static enum status canceller_init(struct actor *self, const void *args, size_t size)
{
	struct canceller *c = actor_state(self);

	check(size == sizeof(c->args));
	memcpy(&c->args, args, size);
	return io_connect(self, c->args.address, CANCEL_DEADLINE_MS, &c->io);
}

static enum status on_connected(struct actor *self, struct msg *m)
{
	struct canceller *c = actor_state(self);
	struct writer w;
	struct slice bytes;

	if (io_connected_of(m)->status != OK)
		return E_NORMAL;
	writer_init(&w, CANCEL_BYTES);
	wire_put_cancel_request(&w, c->args.os_pid, c->args.secret, c->args.secret_len);
	bytes = writer_take(&w);
	actor_timer(self, 1, CANCEL_DEADLINE_MS);
	io_credit(self, c->io, 1);
	return io_write(self, c->io, &bytes);
}

static enum status on_end(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return E_NORMAL;
}

static const struct rule canceller_rules[] = {
	{STATE_ANY, IO_CONNECTED, on_connected},
	{STATE_ANY, IO_CLOSED, on_end},
	{STATE_ANY, IO_BYTES, on_end},
	{STATE_ANY, TIMER, on_end},
};

static const struct behaviour canceller_behaviour = {.name = "tablet.canceller",
	.state_size = sizeof(struct canceller),
	.rules = canceller_rules,
	.n_rules = ARRAY_LEN(canceller_rules),
	.states = cancel_state_names,
	.n_states = ARRAY_LEN(cancel_state_names),
	.init = canceller_init};

enum status backend_cancel_start(struct actor *self)
{
	struct backend *b = actor_state(self);
	struct canceller_args a = {.os_pid = b->os_pid, .secret_len = b->secret_len};
	struct pid pid;

	str_copy(a.address, sizeof(a.address), b->address);
	memcpy(a.secret, b->secret, b->secret_len);
	return actor_spawn(self,
		&(struct spawn){.behaviour = &canceller_behaviour, .args = &a, .args_size = sizeof(a)}, &pid);
}
