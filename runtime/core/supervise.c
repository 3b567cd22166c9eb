/*
 * The supervisor behaviour. Each child is a small state machine; a `sweep` ends a range of children in reverse order.
 *
 *	         spawned              told to end            gone
 *	DOWN ───────────────> UP ───────────────> ENDING ──────────> DOWN
 *	  │  ask another    ^  │ died by itself                       ^
 *	  ├─ worker ─> ASKED┘  └──────────────────> back-off ─────────┤
 *	  └────────────────────────────────────── (or left down) ─────┘
 *
 * one_for_one lets each child wait for its own back-off; rest_for_one and one_for_all sweep the range that depends on
 * the dead child, wait once, and start it again in order. SUP_RESTART is the same without a count. Whatever happens,
 * the same function (start_missing) brings up, in order, all that should be up and is not.
 */
#include "runtime/core/supervise.h"

#include "runtime/base/log.h"
#include "runtime/core/table.h"

enum {
	SHUTDOWN_DEFAULT_MS = 5000,
	KILL_WAIT_MS = 2000, /* for a killed child's DOWN; after it we go on without */
	SPAWN_TIMEOUT_MS = 10000,
	NAME_TAKEN_MS = 20, /* between tries while the last life still holds the name */
	INTENSITY_MAX = 1000,
	KEY_GROUP = SUP_CHILDREN_MAX, /* timers: below it, a child's index */
	TABLE_BYTES = 1 << 20,
};

#define SUP_STATES(X) X(STARTING) X(RUNNING) X(SWEEPING) X(WAITING) X(ENDING)
STATES(sup, SUP_STATES);

enum child_life { CHILD_DOWN, CHILD_ASKED, CHILD_UP, CHILD_ENDING };

struct child {
	struct pid pid;
	enum child_life life;
	bool wanted; /* start_missing brings it up */
	bool delayed; /* its own back-off timer runs */
	bool killed; /* its shutdown time was up */
	uint32_t restarts, streak; /* in all; since it was last quiet */
	uint64_t up_at_us, ask, taken_until_us;
};

struct sup {
	const struct sup_spec *spec;
	struct child *children;
	uint64_t *times; /* the last intensity + 1 restarts, a ring */
	uint32_t n_times;
	uint32_t sweep_from, sweep_to; /* [from, to): to be ended, from the last on */
	uint32_t delay_ms; /* after the sweep */
	enum status why; /* ENDING: what we end with */
	struct msg *asked; /* a kept SUP_RESTART */
	uint32_t asked_child;
	char text[160];
};

static enum status start_missing(struct actor *self);
static enum status sweep_on(struct actor *self);

/* ---- starting ---------------------------------------------------------------------------------------------- */

static void child_is_up(struct actor *self, struct child *c, struct pid pid)
{
	struct sup *s = actor_state(self);

	c->pid = pid;
	c->life = CHILD_UP;
	c->ask = 0;
	c->killed = false;
	c->taken_until_us = 0;
	c->up_at_us = actor_now_us(self);
	if (s->asked && &s->children[s->asked_child] == c) {
		actor_reply_status(self, s->asked, OK, NULL);
		actor_drop(self, s->asked, OK);
		s->asked = NULL;
	}
}

static enum status child_start(struct actor *self, uint32_t i)
{
	struct sup *s = actor_state(self);
	const struct child_spec *spec = &s->spec->children[i];
	struct child *c = &s->children[i];
	struct spawn what = {.behaviour = spec->behaviour,
		.args = spec->args,
		.args_size = spec->args_size,
		.name = spec->name};
	struct pid pid;
	enum status st;

	if (spec->subtree) {
		what.args = &spec->subtree;
		what.args_size = sizeof(spec->subtree);
	}
	if (spec->worker != WORKER_SAME && spec->worker != actor_worker_index(self)) {
		c->ask = actor_spawn_on(self, spec->worker, &what, SPAWN_TIMEOUT_MS);
		c->life = CHILD_ASKED;
		return OK;
	}
	st = actor_spawn(self, &what, &pid);
	if (!st)
		child_is_up(self, c, pid);
	return st;
}

/* ---- when and whether to restart ---------------------------------------------------------------------------- */

static bool too_often(struct actor *self)
{
	struct sup *s = actor_state(self);
	uint32_t cap = s->spec->intensity + 1;
	uint64_t now = actor_now_us(self), oldest;

	s->times[s->n_times++ % cap] = now;
	if (s->n_times < cap)
		return false;
	oldest = s->times[s->n_times % cap];
	return now - oldest <= (uint64_t)s->spec->period_ms * 1000;
}

/* The first restart is at once, then min, 2 min, ... max, with a fifth of jitter; quiet for long enough: anew. */
static uint32_t back_off_ms(struct actor *self, struct child *c)
{
	const struct sup_spec *spec = ((struct sup *)actor_state(self))->spec;
	uint64_t quiet_ms =
		spec->period_ms > 2ull * spec->backoff_max_ms ? spec->period_ms : 2ull * spec->backoff_max_ms;
	uint64_t delay;

	if (c->up_at_us && actor_now_us(self) - c->up_at_us > quiet_ms * 1000)
		c->streak = 0;
	if (c->streak++ == 0 || spec->backoff_min_ms == 0)
		return 0;
	delay = (uint64_t)spec->backoff_min_ms << (c->streak - 2 < 20 ? c->streak - 2 : 20);
	if (spec->backoff_max_ms && delay > spec->backoff_max_ms)
		delay = spec->backoff_max_ms;
	return (uint32_t)(delay + actor_random(self) % (delay / 5 + 1));
}

static enum status give_up(struct actor *self, enum status why, const char *text)
{
	struct sup *s = actor_state(self);

	snprintf(s->text, sizeof(s->text), "%s", text);
	s->why = why;
	s->sweep_from = 0;
	s->sweep_to = s->spec->n_children;
	for (uint32_t i = 0; i < s->spec->n_children; i++) {
		s->children[i].wanted = false;
		if (s->children[i].delayed)
			actor_timer_cancel(self, i);
		s->children[i].delayed = false;
	}
	actor_timer_cancel(self, KEY_GROUP);
	actor_become(self, ENDING);
	return sweep_on(self);
}

/* Ends [from, n) or what the strategy says depends on child i, then waits delay_ms and starts it again. */
static enum status restart_group(struct actor *self, uint32_t i, uint32_t delay_ms)
{
	struct sup *s = actor_state(self);
	uint32_t from = s->spec->strategy == ONE_FOR_ALL ? 0 : i;
	uint32_t to = s->spec->strategy == ONE_FOR_ONE ? i + 1 : s->spec->n_children;

	if (actor_current(self) == SWEEPING) { /* one more died meanwhile */
		s->sweep_from = from < s->sweep_from ? from : s->sweep_from;
		s->sweep_to = to > s->sweep_to ? to : s->sweep_to;
	} else {
		s->sweep_from = from;
		s->sweep_to = to;
		s->delay_ms = 0;
	}
	s->delay_ms = delay_ms > s->delay_ms ? delay_ms : s->delay_ms;
	actor_timer_cancel(self, KEY_GROUP);
	actor_become(self, SWEEPING);
	return sweep_on(self);
}

/* A child ended by itself, or couldn't be started again. */
static enum status child_failed(struct actor *self, uint32_t i, enum status why, const char *text)
{
	struct sup *s = actor_state(self);
	const struct child_spec *spec = &s->spec->children[i];
	struct child *c = &s->children[i];
	char told[160];
	uint32_t delay;

	c->wanted = spec->restart == PERMANENT ||
		    (spec->restart == TRANSIENT && why != E_NORMAL && why != E_SHUTDOWN);
	if (!c->wanted) {
		log_info("supervisor", "%s ended (%s), stays down", spec->name, status_name(why));
		return OK;
	}
	if (too_often(self)) {
		snprintf(told, sizeof(told), "%.40s failed more than %u times in %u ms, last: %s%s%.60s",
			spec->name, s->spec->intensity, s->spec->period_ms, status_name(why),
			text[0] ? ": " : "", text);
		log_error("supervisor", "giving up: %s", told);
		return give_up(self, E_INTENSITY, told);
	}
	delay = back_off_ms(self, c);
	c->restarts++;
	log_warn("supervisor", "%s ended (%s%s%s), restart %u in %u ms", spec->name, status_name(why),
		text[0] ? ": " : "", text, c->restarts, delay);
	if (s->spec->strategy != ONE_FOR_ONE)
		return restart_group(self, i, delay);
	if (delay) {
		c->delayed = true;
		actor_timer(self, i, delay);
		return OK;
	}
	return start_missing(self);
}

/* ---- bringing up, in order; taking down, in reverse ---------------------------------------------------------- */

static enum status start_failed(struct actor *self, uint32_t i, enum status st, const char *text)
{
	struct sup *s = actor_state(self);
	struct child *c = &s->children[i];
	const struct child_spec *spec = &s->spec->children[i];
	uint32_t patience_ms = (spec->shutdown_ms ? spec->shutdown_ms : SHUTDOWN_DEFAULT_MS) + KILL_WAIT_MS;
	char told[160];

	c->life = CHILD_DOWN;
	c->ask = 0;
	if (st == E_EXISTS && !c->taken_until_us)
		c->taken_until_us = actor_now_us(self) + patience_ms * 1000ull;
	if (st == E_EXISTS && actor_now_us(self) < c->taken_until_us) {
		c->delayed = true;
		actor_timer(self, i, NAME_TAKEN_MS);
		return OK;
	}
	if (s->asked && s->asked_child == i) {
		actor_reply_status(self, s->asked, st, "%s could not be started%s%s", spec->name,
			text[0] ? ": " : "", text);
		actor_drop(self, s->asked, st);
		s->asked = NULL;
	}
	if (actor_current(self) != STARTING)
		return child_failed(self, i, st, text[0] ? text : "could not start");
	snprintf(told, sizeof(told), "%.50s did not start: %s%s%.80s", spec->name, status_name(st),
		text[0] ? ": " : "", text);
	return give_up(self, st, told);
}

/* Starts what is wanted and down, in order; a strategy with order waits for each, and so does the first start. */
static enum status start_missing(struct actor *self)
{
	struct sup *s = actor_state(self);
	uint8_t state = actor_current(self);
	bool ordered = s->spec->strategy != ONE_FOR_ONE || state == STARTING, waiting = false;

	if (state == ENDING || (ordered && (state == SWEEPING || state == WAITING)))
		return OK; /* the sweep comes back here when it is done */
	for (uint32_t i = 0; i < s->spec->n_children; i++) {
		struct child *c = &s->children[i];

		if (c->wanted && c->life == CHILD_DOWN && !c->delayed) {
			enum status st = child_start(self, i);

			if (st)
				return start_failed(self, i, st, "");
		}
		waiting |= c->life == CHILD_ASKED || (c->wanted && c->delayed);
		if (waiting && ordered)
			return OK;
	}
	if (!waiting && actor_current(self) == STARTING)
		actor_become(self, RUNNING);
	return OK;
}

static enum status sweep_done(struct actor *self)
{
	struct sup *s = actor_state(self);

	if (actor_current(self) == ENDING)
		return actor_fail(self, s->why, "%s", s->text);
	if (s->delay_ms) {
		actor_become(self, WAITING);
		actor_timer(self, KEY_GROUP, s->delay_ms);
		return OK;
	}
	actor_become(self, RUNNING);
	return start_missing(self);
}

/* Ends the last child of the range that is up; called again when it is gone. */
static enum status sweep_on(struct actor *self)
{
	struct sup *s = actor_state(self);

	for (uint32_t i = s->sweep_to; i-- > s->sweep_from;) {
		struct child *c = &s->children[i];
		uint32_t ms = s->spec->children[i].shutdown_ms;

		if (c->life == CHILD_ENDING || c->life == CHILD_ASKED)
			return OK; /* its DOWN, or its pid, brings us back */
		if (c->life == CHILD_UP) {
			c->life = CHILD_ENDING;
			actor_exit(self, c->pid, E_SHUTDOWN);
			actor_timer(self, i, ms ? ms : SHUTDOWN_DEFAULT_MS);
			return OK;
		}
	}
	return sweep_done(self);
}

static bool in_sweep(struct actor *self, uint32_t i)
{
	const struct sup *s = actor_state(self);
	uint8_t state = actor_current(self);

	return (state == SWEEPING || state == ENDING) && i >= s->sweep_from && i < s->sweep_to;
}

/* ---- messages ---------------------------------------------------------------------------------------------- */

static enum status on_down(struct actor *self, struct msg *m)
{
	struct sup *s = actor_state(self);
	const struct down *d = down_of(m);

	for (uint32_t i = 0; i < s->spec->n_children; i++) {
		struct child *c = &s->children[i];
		enum child_life was = c->life;

		if ((was != CHILD_UP && was != CHILD_ENDING) || !pid_equal(c->pid, d->who))
			continue;
		c->life = CHILD_DOWN;
		c->pid = PID_NONE;
		if (was == CHILD_ENDING)
			actor_timer_cancel(self, i);
		if (in_sweep(self, i))
			return sweep_on(self);
		return child_failed(self, i, (enum status)d->status, d->text);
	}
	return OK;
}

static enum status on_spawned(struct actor *self, struct msg *m)
{
	struct sup *s = actor_state(self);

	for (uint32_t i = 0; i < s->spec->n_children; i++) {
		struct child *c = &s->children[i];
		const char *text = m->tag == DONE ? done_of(m)->text : "";

		if (c->life != CHILD_ASKED || c->ask != m->corr)
			continue;
		if (m->tag == KERNEL_SPAWNED)
			child_is_up(self, c, kernel_spawned_of(m)->pid);
		else
			c->life = CHILD_DOWN;
		if (in_sweep(self, i))
			return sweep_on(self);
		if (m->tag == KERNEL_SPAWNED)
			return start_missing(self);
		return start_failed(self, i,
			(enum status)(m->tag == DONE ? done_of(m)->status : ask_failed_of(m)->status), text);
	}
	return OK;
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	struct sup *s = actor_state(self);
	uint64_t key = timer_of(m)->key;
	struct child *c;

	if (key == KEY_GROUP) {
		actor_become(self, RUNNING);
		return start_missing(self);
	}
	if (key >= s->spec->n_children)
		return OK;
	c = &s->children[key];
	if (c->life == CHILD_DOWN && c->delayed) {
		c->delayed = false;
		return start_missing(self);
	}
	if (c->life != CHILD_ENDING)
		return OK;
	if (!c->killed) {
		c->killed = true;
		log_warn("supervisor", "%s did not end in time, killing it", s->spec->children[key].name);
		actor_exit(self, c->pid, E_KILLED);
		actor_timer(self, key, KILL_WAIT_MS);
		return OK;
	}
	c->life = CHILD_DOWN; /* its worker hangs: the watchdog will see to that */
	c->pid = PID_NONE;
	return in_sweep(self, (uint32_t)key) ? sweep_on(self) : OK;
}

static enum status on_told_to_end(struct actor *self, struct msg *m)
{
	return give_up(self, (enum status)exit_signal_of(m)->status, "told to end");
}

static enum status on_told_again(struct actor *self, struct msg *m)
{
	(void)self;
	(void)m;
	return OK; /* already ending; E_KILLED doesn't come here */
}

static enum status on_restart(struct actor *self, struct msg *m)
{
	struct sup *s = actor_state(self);
	const char *name = sup_restart_child_of(m)->name;
	uint32_t i = 0;

	while (i < s->spec->n_children && strcmp(s->spec->children[i].name, name) != 0)
		i++;
	if (i == s->spec->n_children) {
		actor_reply_status(self, m, E_NOT_FOUND, "no child \"%s\" here", name);
		return OK;
	}
	if (s->asked || (actor_current(self) != RUNNING && actor_current(self) != WAITING)) {
		actor_reply_status(self, m, E_STATE, "the supervisor is busy (%s), try again",
			sup_state_names[actor_current(self)]);
		return OK;
	}
	s->asked = actor_keep(self, m);
	s->asked_child = i;
	s->children[i].restarts++;
	s->children[i].streak = 0;
	s->children[i].wanted = true;
	if (s->children[i].delayed)
		actor_timer_cancel(self, i);
	s->children[i].delayed = false;
	return restart_group(self, i, 0);
}

static const char *const restart_names[] = {"permanent", "transient", "temporary"};
static const char *const life_names[] = {"down", "starting", "up", "ending"};

static enum status on_children(struct actor *self, struct msg *m)
{
	static const char *const columns[] = {
		"name", "pid", "behaviour", "life", "restarts", "restart", "worker"};
	const struct sup *s = actor_state(self);
	struct table_writer t;
	struct msg *reply;

	table_begin(&t, columns, ARRAY_LEN(columns), TABLE_BYTES);
	for (uint32_t i = 0; i < s->spec->n_children; i++) {
		const struct child_spec *spec = &s->spec->children[i];
		const struct child *c = &s->children[i];
		char text[PID_TEXT_MAX];

		table_str(&t, spec->name);
		if (c->life == CHILD_UP || c->life == CHILD_ENDING)
			table_str(&t, pid_format(c->pid, text));
		else
			table_nil(&t);
		table_str(&t, spec->behaviour->name);
		table_str(&t, c->delayed ? "waiting" : life_names[c->life]);
		table_u64(&t, c->restarts);
		table_str(&t, restart_names[spec->restart]);
		table_u64(&t, spec->worker == WORKER_SAME ? actor_worker_index(self) : spec->worker);
	}
	table_new(self, &reply)->rows = table_end(&t);
	actor_reply(self, m, &reply);
	return OK;
}

/* ---- life -------------------------------------------------------------------------------------------------- */

static enum status sup_init(struct actor *self, const void *args, size_t size)
{
	struct sup *s = actor_state(self);
	const struct sup_spec *spec;

	check(size == sizeof(const struct sup_spec *));
	memcpy(&spec, args, sizeof(const struct sup_spec *));
	check(spec->n_children <= SUP_CHILDREN_MAX && spec->intensity <= INTENSITY_MAX);
	s->spec = spec;
	s->children = arena_alloc(actor_arena(self), sizeof(struct child) * (spec->n_children + 1));
	s->times = arena_alloc(actor_arena(self), sizeof(uint64_t) * (spec->intensity + 1));
	if (!s->children || !s->times)
		return E_NOMEM;
	for (uint32_t i = 0; i < spec->n_children; i++)
		s->children[i].wanted = true;
	return start_missing(self);
}

static void sup_show(const struct actor *self, struct writer *text)
{
	static const char *const strategies[] = {"one_for_one", "rest_for_one", "one_for_all"};
	const struct sup *s = actor_state(self);
	uint32_t up = 0;

	for (uint32_t i = 0; i < s->spec->n_children; i++)
		up += s->children[i].life == CHILD_UP;
	writer_printf(
		text, "%s, %u of %u children up", strategies[s->spec->strategy], up, s->spec->n_children);
}

static const struct rule sup_rules[] = {
	{STATE_ANY, DOWN, on_down},
	{STATE_ANY, KERNEL_SPAWNED, on_spawned},
	{STATE_ANY, DONE, on_spawned},
	{STATE_ANY, ASK_FAILED, on_spawned},
	{STATE_ANY, TIMER, on_timer},
	{STATE_ANY, EXIT, on_told_to_end},
	{ENDING, EXIT, on_told_again},
	{STATE_ANY, SUP_CHILDREN, on_children},
	{STATE_ANY, SUP_RESTART, on_restart},
};

const struct behaviour supervisor_behaviour = {
	.name = "supervisor",
	.state_size = sizeof(struct sup),
	.rules = sup_rules,
	.n_rules = ARRAY_LEN(sup_rules),
	.states = sup_state_names,
	.n_states = ARRAY_LEN(sup_state_names),
	.init = sup_init,
	.show = sup_show,
	.trap_exit = true,
};

MSG_FOLDER_DEFINE(sup, SUP_MESSAGES);
