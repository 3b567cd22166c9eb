/*
 * One running workflow. States:
 *
 *	SAVING   its record is on the way to the store; nothing acts until it is there
 *	ACTING   a step (or an undo) is under way
 *	PAUSED   waits to look again, or to try again
 *
 * All progress goes SAVING -> ACTING -> (next record) SAVING, so a step never recurses into the next.
 */
#include <stdarg.h>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/flow/internal.h"
#include "runtime/store/batch.h"

MSG_FOLDER_DEFINE(flow, FLOW_MESSAGES);

enum { KEY_TIMEOUT = 0xf10a0001, KEY_POLL, KEY_RETRY, KEY_SAVE };
enum { SAVE_TRIES_MAX = 40, SAVE_RETRY_MS = 250 };

#define FLOW_STATES(S) S(SAVING) S(ACTING) S(PAUSED)
STATES(run, FLOW_STATES);

struct run {
	const struct flow_kind *kind;
	struct flow_record rec;
	struct pid manager;
	uint64_t save_corr;
	uint32_t save_tries;
	bool cancelled;
	_Alignas(16) uint8_t local[];
};

const struct msg_desc *flow_record_desc(void)
{
	return &FLOW_RECORD_desc;
}

bool flow_ended(uint8_t status)
{
	return status == FLOW_DONE || status == FLOW_FAILED;
}

const char *flow_status_name(uint8_t status)
{
	static const char *const names[] = {"running", "done", "undoing", "failed"};

	return status < ARRAY_LEN(names) ? names[status] : "?";
}

const struct flow_record *flow_self(const struct actor *self)
{
	const struct run *r = actor_state(self);

	return &r->rec;
}

void *flow_local(struct actor *self)
{
	return ((struct run *)actor_state(self))->local;
}

void flow_result_set(struct actor *self, struct slice *result)
{
	struct run *r = actor_state(self);

	slice_release(&r->rec.result);
	r->rec.result = slice_take(result);
}

static const struct flow_step *step_of(const struct run *r)
{
	return &r->kind->steps[r->rec.step];
}

/* ---- saving ------------------------------------------------------------------------------------------------ */

static void save(struct actor *self, struct run *r)
{
	struct store_batch b;

	r->rec.changed_us = actor_wall_us(self);
	store_batch_begin(&b);
	store_batch_put_body(&b, "flow", r->rec.id, (uint32_t)strlen(r->rec.id), &FLOW_RECORD_desc, &r->rec);
	r->save_corr = store_ask_commit(self, &b, FLOW_STORE_TIMEOUT_MS);
	actor_become(self, SAVING);
}

static void tell_manager(struct actor *self, struct run *r)
{
	struct msg *m;
	struct flow_changed *c = flow_changed_new(self, &m);

	str_copy(c->id, sizeof(c->id), r->rec.id);
	c->status = r->rec.status;
	c->step = r->rec.step;
	str_copy(c->step_name, sizeof(c->step_name), step_of(r)->name);
	c->attempt = r->rec.attempt;
	str_copy(c->error, sizeof(c->error), r->rec.error);
	c->result = slice_sub(&r->rec.result, 0, r->rec.result.len);
	actor_send(self, r->manager, &m);
}

/* ---- moving ------------------------------------------------------------------------------------------------ */

static void act(struct actor *self, struct run *r)
{
	flow_step_fn *fn = r->rec.status == FLOW_UNDOING ? step_of(r)->undo : step_of(r)->run;

	actor_become(self, ACTING);
	log_debug("flow", "%s: %s %s, attempt %u", r->rec.id, r->rec.status == FLOW_UNDOING ? "undo" : "step",
		step_of(r)->name, r->rec.attempt);
	fn(self);
}

static void end(struct actor *self, struct run *r, enum flow_status status)
{
	r->rec.status = (uint8_t)status;
	if (status == FLOW_DONE)
		r->rec.error[0] = '\0';
	save(self, r);
}

/* Goes to the nearest step at or below `from` that has something to undo. */
static void undo_from(struct actor *self, struct run *r, uint32_t from)
{
	r->rec.status = FLOW_UNDOING;
	r->rec.attempt = 1;
	for (uint32_t i = from + 1; i > 0; i--) {
		if (!r->kind->steps[i - 1].undo)
			continue;
		r->rec.step = i - 1;
		save(self, r);
		return;
	}
	end(self, r, FLOW_FAILED);
}

static void succeed(struct actor *self, struct run *r)
{
	if (r->rec.status == FLOW_UNDOING) {
		if (r->rec.step == 0)
			end(self, r, FLOW_FAILED);
		else
			undo_from(self, r, r->rec.step - 1);
		return;
	}
	if (r->rec.step + 1 == r->kind->n_steps) {
		end(self, r, FLOW_DONE);
		return;
	}
	r->rec.step++;
	r->rec.attempt = 1;
	save(self, r);
}

static uint32_t backoff_ms(struct actor *self, uint32_t attempt)
{
	uint32_t shift = attempt > 10 ? 10 : attempt - 1, ms = (uint32_t)FLOW_BACKOFF_MIN_MS << shift;

	if (ms > FLOW_BACKOFF_MAX_MS)
		ms = FLOW_BACKOFF_MAX_MS;
	return ms / 2 + (uint32_t)(actor_random(self) % (ms / 2 + 1));
}

static void fail(struct actor *self, struct run *r, enum status st, bool permanent, const char *text)
{
	snprintf(r->rec.error, sizeof(r->rec.error), "%s: %s", step_of(r)->name,
		text[0] ? text : status_name(st));
	log_warn("flow", "%s: step %s failed (attempt %u): %s", r->rec.id, step_of(r)->name, r->rec.attempt,
		text[0] ? text : status_name(st));
	if (!permanent && r->rec.attempt <= step_of(r)->retries) {
		actor_become(self, PAUSED);
		actor_timer(self, KEY_RETRY, backoff_ms(self, r->rec.attempt));
	} else if (r->rec.status == FLOW_UNDOING) {
		end(self, r, FLOW_FAILED);
	} else {
		undo_from(self, r, r->rec.step);
	}
}

static void step_ended(struct actor *self, enum status st, bool permanent, const char *text)
{
	struct run *r = actor_state(self);

	if (actor_current(self) != ACTING)
		return; /* a late answer of an attempt that was given up */
	if (st == E_AGAIN) {
		actor_become(self, PAUSED);
		actor_timer(self, KEY_POLL, step_of(r)->poll_ms ? step_of(r)->poll_ms : FLOW_POLL_MS);
		return;
	}
	actor_timer_cancel(self, KEY_TIMEOUT);
	if (st)
		fail(self, r, st, permanent, text);
	else
		succeed(self, r);
}

void flow_step_done(struct actor *self, enum status st, const char *fmt, ...)
{
	char text[240] = "";
	va_list args;

	va_start(args, fmt);
	if (fmt)
		vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	step_ended(self, st, false, text);
}

void flow_step_fail(struct actor *self, enum status st, const char *fmt, ...)
{
	char text[240] = "";
	va_list args;

	check(st != OK);
	va_start(args, fmt);
	if (fmt)
		vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	step_ended(self, st == E_AGAIN ? E_STATE : st, true, text);
}

/* ---- messages ---------------------------------------------------------------------------------------------- */

/* A message of a tag that the engine uses too, but not its own: the kind's, if it has a rule. */
static enum status pass_on(struct actor *self, struct msg *m)
{
	struct run *r = actor_state(self);

	for (uint32_t i = 0; i < r->kind->n_rules; i++) {
		if (r->kind->rules[i].tag == m->tag)
			return r->kind->rules[i].handle(self, m);
	}
	return OK;
}

static enum status cancel(struct actor *self, struct run *r)
{
	if (r->kind->abandon)
		r->kind->abandon(self);
	actor_timer_cancel(self, KEY_TIMEOUT);
	actor_timer_cancel(self, KEY_POLL);
	actor_timer_cancel(self, KEY_RETRY);
	snprintf(r->rec.error, sizeof(r->rec.error), "%s: cancelled", step_of(r)->name);
	r->cancelled = false;
	undo_from(self, r, r->rec.step);
	return OK;
}

static enum status saved(struct actor *self, struct run *r)
{
	r->save_tries = 0;
	tell_manager(self, r);
	if (flow_ended(r->rec.status)) {
		log_info("flow", "%s: %s%s%s", r->rec.id, flow_status_name(r->rec.status),
			r->rec.error[0] ? ": " : "", r->rec.error);
		return E_NORMAL;
	}
	if (r->cancelled && r->rec.status == FLOW_RUNNING)
		return cancel(self, r);
	actor_timer(self, KEY_TIMEOUT, step_of(r)->timeout_ms ? step_of(r)->timeout_ms : FLOW_TIMEOUT_MS);
	act(self, r);
	return OK;
}

static enum status save_failed(struct actor *self, struct run *r, const char *why)
{
	r->save_corr = 0;
	if (++r->save_tries > SAVE_TRIES_MAX)
		return actor_fail(self, E_IO, "workflow %s could not be saved: %s", r->rec.id, why);
	actor_timer(self, KEY_SAVE, SAVE_RETRY_MS);
	return OK;
}

static enum status on_committed(struct actor *self, struct msg *m)
{
	struct run *r = actor_state(self);
	struct store_committed *c = store_committed_of(m);

	if (m->corr != r->save_corr || !r->save_corr)
		return pass_on(self, m);
	if (c->status)
		return save_failed(self, r, c->text);
	r->save_corr = 0;
	return saved(self, r);
}

static enum status on_ask_failed(struct actor *self, struct msg *m)
{
	struct run *r = actor_state(self);

	if (m->corr != r->save_corr || !r->save_corr)
		return pass_on(self, m);
	return save_failed(self, r, status_name((enum status)ask_failed_of(m)->status));
}

static enum status on_timer(struct actor *self, struct msg *m)
{
	struct run *r = actor_state(self);

	switch (timer_of(m)->key) {
	case KEY_TIMEOUT:
		if (actor_current(self) == SAVING)
			return OK;
		actor_timer_cancel(self, KEY_POLL);
		if (r->kind->abandon)
			r->kind->abandon(self);
		actor_become(self, ACTING);
		flow_step_done(self, E_TIMEOUT, "no end after %u ms",
			step_of(r)->timeout_ms ? step_of(r)->timeout_ms : FLOW_TIMEOUT_MS);
		return OK;
	case KEY_POLL:
		act(self, r);
		return OK;
	case KEY_RETRY:
		r->rec.attempt++;
		save(self, r);
		return OK;
	case KEY_SAVE:
		save(self, r);
		return OK;
	default:
		return pass_on(self, m);
	}
}

static enum status on_cancel(struct actor *self, struct msg *m)
{
	struct run *r = actor_state(self);

	if (r->rec.status != FLOW_RUNNING) {
		actor_reply_status(
			self, m, E_STATE, "workflow %s is %s", r->rec.id, flow_status_name(r->rec.status));
		return OK;
	}
	actor_reply_status(self, m, OK, NULL);
	r->cancelled = true;
	return actor_current(self) == SAVING ? OK : cancel(self, r);
}

static enum status run_init(struct actor *self, const void *args, size_t size)
{
	const struct flow_spawn *spawn = args;
	struct run *r = actor_state(self);

	check(size == sizeof(*spawn));
	r->kind = spawn->kind;
	r->manager = spawn->manager;
	r->rec = *spawn->record;
	r->rec.inputs = slice_copy(slice_data(&spawn->record->inputs), spawn->record->inputs.len);
	r->rec.result = slice_copy(slice_data(&spawn->record->result), spawn->record->result.len);
	if (r->rec.step >= r->kind->n_steps)
		r->rec.step = 0; /* saved by a build with more steps: they are idempotent */
	if (spawn->resumed)
		r->rec.attempt++;
	if (spawn->resumed && r->rec.attempt > step_of(r)->retries + 1 + FLOW_CRASHES_MAX) {
		snprintf(r->rec.error, sizeof(r->rec.error), "%s: interrupted %u times", step_of(r)->name,
			r->rec.attempt - 1);
		if (r->rec.status == FLOW_UNDOING)
			end(self, r, FLOW_FAILED);
		else
			undo_from(self, r, r->rec.step);
		return OK;
	}
	save(self, r);
	return OK;
}

static void run_exit(struct actor *self, enum status why)
{
	struct run *r = actor_state(self);

	(void)why;
	msg_release_body(&FLOW_RECORD_desc, &r->rec);
}

static void run_show(const struct actor *self, struct writer *text)
{
	const struct run *r = actor_state(self);

	writer_printf(text, "%s: %s, step %s, attempt %u", r->rec.id, flow_status_name(r->rec.status),
		step_of(r)->name, r->rec.attempt);
}

/* ---- kinds ------------------------------------------------------------------------------------------------- */

static const struct rule engine_rules[] = {
	{STATE_ANY, STORE_COMMITTED, on_committed},
	{STATE_ANY, ASK_FAILED, on_ask_failed},
	{STATE_ANY, TIMER, on_timer},
	{STATE_ANY, FLOW_CANCEL, on_cancel},
};

struct kind_slot {
	const struct flow_kind *kind;
	struct behaviour behaviour;
	struct rule rules[ARRAY_LEN(engine_rules) + FLOW_RULES_MAX];
};

static struct kind_slot kinds[FLOW_KINDS_MAX];
static uint32_t n_kinds;

static bool is_engine_tag(uint16_t tag)
{
	for (size_t i = 0; i < ARRAY_LEN(engine_rules); i++) {
		if (engine_rules[i].tag == tag)
			return true;
	}
	return false;
}

void flow_kind_register(const struct flow_kind *kind)
{
	struct kind_slot *k = &kinds[n_kinds];
	uint32_t n = ARRAY_LEN(engine_rules);

	check(n_kinds < FLOW_KINDS_MAX && kind->n_rules <= FLOW_RULES_MAX && kind->n_steps > 0);
	check(!flow_kind_find(kind->name));
	k->kind = kind;
	memcpy(k->rules, engine_rules, sizeof(engine_rules));
	for (uint32_t i = 0; i < kind->n_rules; i++) {
		if (!is_engine_tag(kind->rules[i].tag))
			k->rules[n++] = (struct rule){STATE_ANY, kind->rules[i].tag, kind->rules[i].handle};
	}
	k->behaviour = (struct behaviour){
		.name = kind->name,
		.state_size = (uint32_t)sizeof(struct run) + kind->local_size,
		.rules = k->rules,
		.n_rules = n,
		.states = run_state_names,
		.n_states = ARRAY_LEN(run_state_names),
		.init = run_init,
		.exit = run_exit,
		.show = run_show,
	};
	n_kinds++;
}

const struct flow_kind *flow_kind_find(const char *name)
{
	for (uint32_t i = 0; i < n_kinds; i++) {
		if (strcmp(kinds[i].kind->name, name) == 0)
			return kinds[i].kind;
	}
	return NULL;
}

const struct behaviour *flow_behaviour_of(const struct flow_kind *kind)
{
	for (uint32_t i = 0; i < n_kinds; i++) {
		if (kinds[i].kind == kind)
			return &kinds[i].behaviour;
	}
	return NULL;
}
