/*
 * The core, actor by actor, on one simulated node. A `probe` is an actor that notes all it sees; `act` runs a
 * function inside a probe; what a probe does with a PING is set by its mode.
 */
#include "runtime/base/bytes.h"
#include "test/sim/world.h"

enum { PROBES = 6, SEEN_MAX = 64 };
enum ping_mode { REPLY, KEEP, LEAVE, FORWARD, DEFER, FAIL, DROP, REPLY_TWICE };

struct seen {
	uint16_t tag;
	uint8_t status, state;
	uint64_t n, corr;
	struct pid from;
	char text[161];
};

static struct probe {
	struct pid pid;
	enum ping_mode mode;
	struct pid forward_to;
	struct msg *kept[8];
	uint32_t n_kept, n, exits;
	enum status why, init_fails;
	struct pid tell_at_exit;
	bool arena_at_init;
	struct seen seen[SEEN_MAX];
	uint64_t corr, ref;
} probes[PROBES];

static struct sim *s;
static struct worker *w;

#define PROBE_STATES(X) X(FIRST) X(SECOND)
STATES(probe, PROBE_STATES);

static struct probe *probe_of(const struct actor *self)
{
	return &probes[*(uint32_t *)actor_state(self)];
}

static enum status note(struct actor *self, struct msg *m)
{
	struct probe *p = probe_of(self);
	struct seen *x = &p->seen[p->n++];

	ck_assert(p->n < SEEN_MAX);
	*x = (struct seen){.tag = m->tag, .corr = m->corr, .from = m->from, .state = actor_current(self)};
	switch (m->tag) {
	case TIMER:
		x->n = timer_of(m)->key;
		if (x->n == 50) { /* 51 and 52 are due as well, their TIMERs in the mailbox */
			actor_timer_cancel(self, 51);
			actor_timer(self, 52, 500);
		}
		break;
	case DOWN:
		x->status = down_of(m)->status;
		x->n = down_of(m)->ref;
		str_copy(x->text, sizeof(x->text), down_of(m)->text);
		break;
	case EXIT:
		x->status = exit_signal_of(m)->status;
		break;
	case ASK_FAILED:
		x->status = ask_failed_of(m)->status;
		x->n = ask_failed_of(m)->tag;
		break;
	case DONE:
		x->status = done_of(m)->status;
		str_copy(x->text, sizeof(x->text), done_of(m)->text);
		break;
	case PONG:
		x->n = pong_of(m)->n;
		break;
	case PING:
		x->n = ping_of(m)->n;
		break;
	case LATEST:
		x->n = latest_of(m)->n;
		break;
	default:
		break;
	}
	return OK;
}

static enum status on_ping(struct actor *self, struct msg *m)
{
	struct probe *p = probe_of(self);
	struct msg *out;

	note(self, m);
	switch (p->mode) {
	case REPLY_TWICE:
		pong_new(self, &out)->n = ping_of(m)->n;
		actor_reply(self, m, &out);
		/* fallthrough */
	case REPLY:
		pong_new(self, &out)->n = ping_of(m)->n;
		actor_reply(self, m, &out);
		return OK;
	case KEEP:
		p->kept[p->n_kept++] = actor_keep(self, m);
		return OK;
	case FORWARD:
		actor_forward(self, p->forward_to, m);
		return OK;
	case DEFER:
		if (actor_current(self) == FIRST)
			return actor_defer(self, m);
		return OK;
	case FAIL:
		return actor_fail(self, E_INTERNAL, "failed at %d", 7);
	case DROP:
		actor_drop(self, m, E_DENIED);
		return OK;
	case LEAVE:
	default:
		return OK;
	}
}

/* TELL carries a function to run inside the probe. */
typedef enum status act_fn(struct actor *self);

static enum status on_act(struct actor *self, struct msg *m)
{
	act_fn *fn = (act_fn *)(uintptr_t)tell_of(m)->n;

	return fn(self);
}

static enum status probe_init(struct actor *self, const void *args, size_t size)
{
	struct probe *p;

	ck_assert_uint_eq(size, sizeof(uint32_t));
	memcpy(actor_state(self), args, size);
	p = probe_of(self);
	p->pid = actor_pid(self);
	if (p->arena_at_init)
		ck_assert(arena_alloc(actor_arena(self), 100000) != NULL);
	return p->init_fails;
}

static void probe_exit(struct actor *self, enum status why)
{
	struct probe *p = probe_of(self);
	struct msg *out;

	p->exits++;
	p->why = why;
	if (!pid_is_none(p->tell_at_exit)) {
		latest_new(self, &out)->n = 99;
		actor_send(self, p->tell_at_exit, &out);
	}
}

static const struct rule probe_rules[] = {
	{STATE_ANY, TELL, on_act},
	{STATE_ANY, PING, on_ping},
	{STATE_ANY, PONG, note},
	{STATE_ANY, DONE, note},
	{STATE_ANY, TIMER, note},
	{STATE_ANY, DOWN, note},
	{STATE_ANY, ASK_FAILED, note},
	{STATE_ANY, LATEST, note},
};
static const struct rule trap_rules[] = {
	{STATE_ANY, TELL, on_act},
	{STATE_ANY, DOWN, note},
	{STATE_ANY, EXIT, note},
};

#define PROBE(name_, rules_, ...)                                                                            \
	static const struct behaviour name_ = {.name = #name_,                                               \
		.state_size = sizeof(uint32_t),                                                              \
		.rules = rules_,                                                                             \
		.n_rules = ARRAY_LEN(rules_),                                                                \
		.states = probe_state_names,                                                                 \
		.n_states = ARRAY_LEN(probe_state_names),                                                    \
		.init = probe_init,                                                                          \
		.exit = probe_exit,                                                                          \
		__VA_ARGS__}
PROBE(plain, probe_rules, .mailbox_cap = 5);
PROBE(trapping, trap_rules, .trap_exit = true);

static void set_up(void)
{
	memset(probes, 0, sizeof(probes));
	s = sim_new(&(struct sim_spec){.seed = 1, .n_nodes = 1, .n_workers = 1});
	w = sim_worker(s, 1, 0);
}

static void tear_down(void)
{
	sim_free(s);
}

static struct pid make(uint32_t i, const struct behaviour *b)
{
	return sim_spawn(s, 1, 0, &(struct spawn){.behaviour = b, .args = &i, .args_size = sizeof(i)});
}

static void settle(void)
{
	sim_run_for(s, 1000);
}

static void act_later(uint32_t i, act_fn *fn)
{
	struct msg *m = worker_msg_new(w, TELL);

	tell_of(m)->n = (uint64_t)(uintptr_t)fn;
	m->to = probes[i].pid;
	worker_deliver(w, m);
}

static void act(uint32_t i, act_fn *fn)
{
	act_later(i, fn);
	settle();
}

static const struct seen *last(uint32_t i)
{
	ck_assert(probes[i].n > 0);
	return &probes[i].seen[probes[i].n - 1];
}

static uint64_t dead_letters(void)
{
	struct worker_stats stats;

	worker_stats(w, &stats);
	return stats.dead_letters;
}

static uint64_t live_messages(void)
{
	struct worker_stats stats;

	worker_stats(w, &stats);
	return stats.live_messages;
}

/* What many tests do: probe 0 asks probe 1. */
static enum status ask_1(struct actor *self)
{
	struct msg *out;

	ping_new(self, &out)->n = 5;
	ping_of(out)->blob = slice_copy("bytes", 5);
	probe_of(self)->corr = actor_ask(self, probes[1].pid, &out, 100);
	return OK;
}

static enum status end_normally(struct actor *self)
{
	(void)self;
	return E_NORMAL;
}

static enum status end_badly(struct actor *self)
{
	return actor_fail(self, E_IO, "disk on fire");
}

static void two_plain(enum ping_mode mode)
{
	make(0, &plain);
	make(1, &plain);
	probes[1].mode = mode;
}

/* Probe 0 got exactly one answer to its one ask: ASK_FAILED with this status. */
static void expect_failed(enum status st)
{
	ck_assert_uint_eq(probes[0].n, 1);
	ck_assert_uint_eq(last(0)->tag, ASK_FAILED);
	ck_assert_str_eq(status_name(last(0)->status), status_name(st));
	ck_assert_uint_eq(last(0)->n, PING);
	ck_assert_uint_eq(last(0)->corr, probes[0].corr);
}

/* ---- life ---- */

static enum status spawn_children(struct actor *self)
{
	for (uint32_t i = 1; i < 4; i++)
		ck_assert(actor_spawn(self,
				  &(struct spawn){.behaviour = &plain,
					  .args = &i,
					  .args_size = sizeof(i),
					  .quiet = i == 2,
					  .orphan = i == 3},
				  NULL) == OK);
	return OK;
}

START_TEST(a_parent_hears_of_its_childs_end_unless_it_is_quiet)
{
	make(0, &plain);
	act(0, spawn_children);
	act(2, end_badly);
	ck_assert_uint_eq(probes[0].n, 0);
	act(1, end_badly);
	ck_assert(probes[0].n == 1 && last(0)->tag == DOWN && last(0)->status == E_IO && last(0)->n == 0);
	ck_assert_str_eq(last(0)->text, "disk on fire");
	act(3, end_badly);
	ck_assert_uint_eq(probes[0].n, 1);
	ck_assert_uint_eq(sim_actors(s), 1);
}
END_TEST

START_TEST(children_end_with_their_parent_and_orphans_stay)
{
	make(0, &plain);
	act(0, spawn_children);
	act(0, end_normally);
	ck_assert(probes[1].exits == 1 && probes[1].why == E_SHUTDOWN);
	ck_assert(probes[2].exits == 1 && probes[2].why == E_SHUTDOWN);
	ck_assert(probes[3].exits == 0 && worker_alive(w, probes[3].pid));
	ck_assert(!worker_alive(w, probes[0].pid));
}
END_TEST

static enum status spawn_failing(struct actor *self)
{
	uint32_t i = 1;
	struct pid pid = actor_pid(self);
	struct msg *out;

	probes[1].init_fails = E_DENIED;
	ck_assert(actor_spawn(self, &(struct spawn){.behaviour = &plain, .args = &i, .args_size = sizeof(i)},
			  &pid) == E_DENIED);
	ck_assert(pid_is_none(pid));
	ck_assert(pid_equal(actor_pid(self), probes[0].pid)); /* we are still ourselves */
	latest_new(self, &out)->n = 1;
	actor_send(self, actor_pid(self), &out);
	return OK;
}

START_TEST(an_actor_whose_init_fails_is_not_and_tells_only_its_spawner)
{
	make(0, &plain);
	act(0, spawn_failing);
	ck_assert(probes[0].n == 1 && last(0)->tag == LATEST);
	ck_assert_uint_eq(sim_actors(s), 1);
}
END_TEST

START_TEST(a_slot_is_used_again_but_an_old_pid_names_nobody)
{
	struct pid first = make(0, &plain), second;

	act(0, end_normally);
	second = make(1, &plain);
	ck_assert_uint_eq(pid_slot(first), pid_slot(second));
	ck_assert(!pid_equal(first, second) && !worker_alive(w, first) && worker_alive(w, second));
}
END_TEST

START_TEST(a_failing_handler_ends_its_actor_with_its_status_and_reason)
{
	two_plain(FAIL);
	act(0, ask_1);
	ck_assert(probes[1].exits == 1 && probes[1].why == E_INTERNAL);
	expect_failed(E_NOPROC);
}
END_TEST

START_TEST(an_exit_hook_may_send_and_the_arena_goes)
{
	make(0, &plain);
	probes[1].arena_at_init = true;
	probes[1].tell_at_exit = probes[0].pid;
	make(1, &plain);
	act(1, end_badly);
	ck_assert(probes[0].n == 1 && last(0)->tag == LATEST && last(0)->n == 99);
}
END_TEST

static enum status kill_1(struct actor *self)
{
	actor_exit(self, probes[1].pid, E_KILLED);
	return OK;
}

static enum status shut_1(struct actor *self)
{
	actor_exit(self, probes[1].pid, E_SHUTDOWN);
	return OK;
}

START_TEST(an_exit_ends_and_only_killing_can_not_be_trapped)
{
	make(0, &plain);
	make(1, &plain);
	act(0, shut_1);
	ck_assert(probes[1].exits == 1 && probes[1].why == E_SHUTDOWN);
	make(1, &trapping);
	act(0, shut_1);
	ck_assert(probes[1].exits == 1 && last(1)->tag == EXIT && last(1)->status == E_SHUTDOWN);
	act(0, kill_1);
	ck_assert(probes[1].exits == 2 && probes[1].why == E_KILLED);
}
END_TEST

/* ---- asks ---- */

START_TEST(an_answer_comes_with_the_asks_correlation)
{
	two_plain(REPLY);
	act(0, ask_1);
	ck_assert(probes[0].n == 1 && last(0)->tag == PONG && last(0)->n == 5);
	ck_assert_uint_eq(last(0)->corr, probes[0].corr);
	ck_assert(pid_equal(last(0)->from, probes[1].pid));
	sim_run_for(s, 1000000);
	ck_assert_uint_eq(probes[0].n, 1); /* no timeout after it */
	ck_assert_uint_eq(live_messages(), 0);
}
END_TEST

START_TEST(a_second_reply_is_dropped)
{
	two_plain(REPLY_TWICE);
	act(0, ask_1);
	ck_assert_uint_eq(probes[0].n, 1);
	ck_assert_uint_eq(dead_letters(), 0);
	ck_assert_uint_eq(live_messages(), 0);
}
END_TEST

START_TEST(a_handler_that_forgets_to_answer_is_found_out)
{
	two_plain(LEAVE);
	act(0, ask_1);
	expect_failed(E_INTERNAL);
}
END_TEST

START_TEST(a_dropped_request_is_settled_with_the_status_given)
{
	two_plain(DROP);
	act(0, ask_1);
	expect_failed(E_DENIED);
}
END_TEST

START_TEST(a_kept_request_is_settled_when_its_holder_dies)
{
	two_plain(KEEP);
	act(0, ask_1);
	ck_assert_uint_eq(probes[0].n, 0);
	act(1, end_normally);
	expect_failed(E_NOPROC);
	ck_assert_uint_eq(live_messages(), 0);
}
END_TEST

static enum status answer_kept(struct actor *self)
{
	struct probe *p = probe_of(self);

	for (uint32_t i = 0; i < p->n_kept; i++) {
		uint32_t k = (i + 1) % p->n_kept; /* not in order */

		actor_reply_status(self, p->kept[k], E_EXISTS, "number %u", (unsigned)ping_of(p->kept[k])->n);
		actor_drop(self, p->kept[k], OK);
	}
	return OK;
}

START_TEST(kept_requests_can_be_answered_later_in_any_order)
{
	two_plain(KEEP);
	act(0, ask_1);
	act(0, ask_1);
	act(0, ask_1);
	act(1, answer_kept);
	ck_assert(probes[0].n == 3 && last(0)->tag == DONE && last(0)->status == E_EXISTS);
	ck_assert_str_eq(last(0)->text, "number 5");
	ck_assert_uint_eq(live_messages(), 0);
}
END_TEST

START_TEST(an_unanswered_ask_times_out_and_a_late_answer_is_dropped)
{
	two_plain(KEEP);
	act(0, ask_1);
	sim_run_for(s, 98000);
	ck_assert_uint_eq(probes[0].n, 0);
	sim_run_for(s, 4000);
	expect_failed(E_TIMEOUT);
	act(1, answer_kept);
	ck_assert_uint_eq(probes[0].n, 1);
	ck_assert_uint_eq(dead_letters(), 1);
}
END_TEST

static enum status cancel(struct actor *self)
{
	actor_ask_cancel(self, probe_of(self)->corr);
	actor_ask_cancel(self, probe_of(self)->corr);
	actor_ask_cancel(self, 12345);
	return OK;
}

START_TEST(a_cancelled_ask_hears_nothing_more)
{
	two_plain(KEEP);
	act(0, ask_1);
	act(0, cancel);
	act(1, answer_kept);
	sim_run_for(s, 1000000);
	ck_assert_uint_eq(probes[0].n, 0);
	ck_assert_uint_eq(dead_letters(), 1);
}
END_TEST

static enum status ask_stranger(struct actor *self)
{
	struct msg *out;

	ping_new(self, &out);
	probe_of(self)->corr = actor_ask(self, pid_make(actor_pid(self).node, 0, 1000, 77), &out, 100);
	return OK;
}

static enum status ask_nobody(struct actor *self)
{
	struct msg *out;

	ping_new(self, &out);
	probe_of(self)->corr = actor_ask(self, PID_NONE, &out, 100);
	return OK;
}

static enum status ask_other_node(struct actor *self)
{
	struct msg *out;

	ping_new(self, &out);
	probe_of(self)->corr = actor_ask(self, pid_make(node_make(9, 1), 0, 1, 1), &out, 100);
	return OK;
}

START_TEST(asks_of_nobody_fail_at_once)
{
	static act_fn *const fns[] = {ask_stranger, ask_nobody, ask_other_node};
	static const enum status why[] = {E_NOPROC, E_NOPROC, E_NODE_DOWN};

	make(0, &plain);
	for (int i = 0; i < 3; i++) {
		probes[0].n = 0;
		act(0, fns[i]);
		expect_failed(why[i]);
	}
	sim_run_for(s, 1000000);
	ck_assert_uint_eq(probes[0].n, 1);
}
END_TEST

START_TEST(forwarding_keeps_sender_and_obligation)
{
	two_plain(FORWARD);
	probes[1].forward_to = make(2, &plain);
	act(0, ask_1);
	ck_assert(probes[0].n == 1 && last(0)->tag == PONG && pid_equal(last(0)->from, probes[2].pid));
	ck_assert(pid_equal(last(2)->from, probes[0].pid));
	act(2, end_normally);
	probes[0].n = 0;
	act(0, ask_1); /* forwarded to the dead */
	expect_failed(E_NOPROC);
}
END_TEST

static enum status forward_kept(struct actor *self)
{
	struct probe *p = probe_of(self);

	for (uint32_t i = 0; i < p->n_kept; i++)
		actor_forward(self, probes[2].pid, p->kept[i]);
	p->n_kept = 0;
	return OK;
}

START_TEST(a_kept_request_can_be_forwarded)
{
	two_plain(KEEP);
	make(2, &plain);
	act(0, ask_1);
	act(0, ask_1);
	act(1, forward_kept);
	ck_assert(probes[0].n == 2 && last(0)->tag == PONG && probes[2].n == 2);
	ck_assert_mem_eq(&probes[2].seen[0].from, &probes[0].pid, sizeof(struct pid));
}
END_TEST

static enum status ask_1_and_die(struct actor *self)
{
	ask_1(self);
	return E_NORMAL;
}

START_TEST(an_answer_to_the_dead_is_a_dead_letter)
{
	two_plain(REPLY);
	act(0, ask_1_and_die);
	ck_assert_uint_eq(dead_letters(), 1);
	ck_assert_uint_eq(live_messages(), 0);
}
END_TEST

static enum status hog(struct actor *self)
{
	struct msg *out;

	for (uint64_t i = 0; i < 3; i++) {
		ping_new(self, &out)->n = i;
		(void)actor_ask(self, probes[1].pid, &out, 50);
	}
	return OK;
}

START_TEST(a_request_whose_deadline_passed_in_the_mailbox_is_not_handled)
{
	struct msg *m;

	two_plain(REPLY);
	settle();
	m = worker_msg_new(w, PING);
	m->to = probes[1].pid;
	m->from = probes[0].pid;
	m->deadline_us = 1; /* long ago on any clock here */
	worker_deliver(w, m);
	settle();
	ck_assert(probes[1].n == 0 && dead_letters() == 1);
	act(0, hog);
	ck_assert_uint_eq(probes[0].n, 3);
}
END_TEST

/* ---- mailboxes ---- */

static enum status flood(struct actor *self)
{
	struct msg *out;

	for (uint64_t i = 0; i < 8; i++) {
		ping_new(self, &out)->n = i;
		(void)actor_ask(self, probes[1].pid, &out, 100);
	}
	return OK;
}

START_TEST(asks_over_the_mailbox_cap_are_refused)
{
	two_plain(REPLY);
	act(0, flood);
	ck_assert_uint_eq(probes[0].n, 8);
	ck_assert_uint_eq(probes[1].n, 5);
	for (int i = 0, full = 0; i < 8; i++) {
		full += probes[0].seen[i].tag == ASK_FAILED && probes[0].seen[i].status == E_FULL;
		ck_assert(i < 7 || full == 3);
	}
}
END_TEST

static enum status flood_state(struct actor *self)
{
	struct msg *out;

	for (uint64_t i = 0; i < 8; i++) {
		latest_new(self, &out)->n = i;
		actor_send(self, probes[1].pid, &out);
	}
	return OK;
}

START_TEST(state_messages_replace_the_oldest_on_a_full_mailbox)
{
	two_plain(REPLY);
	act(0, flood_state);
	ck_assert_uint_eq(probes[1].n, 5);
	ck_assert(probes[1].seen[0].n == 3 && last(1)->n == 7);
	ck_assert_uint_eq(dead_letters(), 3);
}
END_TEST

static enum status send_unknown(struct actor *self)
{
	struct msg *out;

	(void)all_types_new(self, &out);
	all_types_of(out)->h = slice_copy("xyz", 3);
	actor_send(self, probes[1].pid, &out);
	return OK;
}

START_TEST(a_message_without_a_rule_is_a_dead_letter)
{
	two_plain(REPLY);
	act(0, send_unknown);
	ck_assert(dead_letters() == 1 && live_messages() == 0 && worker_alive(w, probes[1].pid));
}
END_TEST

static enum status to_second(struct actor *self)
{
	actor_become(self, SECOND);
	return OK;
}

static enum status two_pings(struct actor *self)
{
	struct msg *out;

	for (uint64_t i = 1; i <= 2; i++) {
		ping_new(self, &out)->n = i;
		actor_send(self, probes[1].pid, &out);
	}
	return OK;
}

START_TEST(deferred_messages_come_back_first_and_in_order_when_the_state_changes)
{
	two_plain(DEFER);
	act(0, two_pings);
	ck_assert_uint_eq(probes[1].n, 2);
	settle();
	ck_assert_uint_eq(probes[1].n, 2); /* not again before the change */
	act_later(1, to_second);
	act_later(0, flood_state); /* newer ones wait behind */
	settle();
	ck_assert(probes[1].seen[2].tag == PING && probes[1].seen[2].n == 1 &&
		  probes[1].seen[2].state == SECOND);
	ck_assert(probes[1].seen[3].tag == PING && probes[1].seen[3].n == 2);
	ck_assert_uint_eq(probes[1].seen[4].tag, LATEST);
}
END_TEST

START_TEST(a_deferred_request_is_settled_when_its_holder_dies)
{
	two_plain(DEFER);
	act(0, ask_1);
	act(1, end_normally);
	expect_failed(E_NOPROC);
}
END_TEST

/* ---- timers ---- */

static enum status set_timers(struct actor *self)
{
	actor_timer(self, 1, 30);
	actor_timer(self, 2, 10);
	actor_timer(self, 3, 20);
	actor_timer(self, 2, 25); /* replaces */
	actor_timer(self, 4, 0);
	return OK;
}

START_TEST(timers_fire_once_in_order_and_setting_replaces)
{
	static const uint64_t order[] = {4, 3, 2, 1};

	make(0, &plain);
	act(0, set_timers);
	sim_run_for(s, 1000000);
	ck_assert_uint_eq(probes[0].n, 4);
	for (int i = 0; i < 4; i++)
		ck_assert_uint_eq(probes[0].seen[i].n, order[i]);
}
END_TEST

static enum status cancel_timers(struct actor *self)
{
	for (uint64_t key = 0; key < 10; key++)
		actor_timer_cancel(self, key);
	return OK;
}

static enum status set_rivals(struct actor *self)
{
	for (uint64_t key = 50; key <= 52; key++)
		actor_timer(self, key, 10);
	return OK;
}

START_TEST(a_timer_in_the_mailbox_can_still_be_cancelled_or_set_again)
{
	make(0, &plain);
	act(0, set_rivals);
	sim_run_for(s, 400000);
	ck_assert(probes[0].n == 1 && last(0)->n == 50);
	sim_run_for(s, 400000);
	ck_assert(probes[0].n == 2 && last(0)->n == 52);
	ck_assert_uint_eq(dead_letters(), 0);
}
END_TEST

static enum status reset_timers(struct actor *self)
{
	for (uint64_t key = 1; key <= 4; key++)
		actor_timer(self, key, 500);
	return OK;
}

START_TEST(no_timer_is_seen_after_it_was_cancelled_even_when_it_was_already_due)
{
	make(0, &plain);
	act(0, set_timers);
	sim_run_for(s, 15000); /* 4 fired; 3, 2 and 1 are to come */
	probes[0].n = 0;
	act(0, cancel_timers);
	sim_run_for(s, 1000000);
	ck_assert_uint_eq(probes[0].n, 0);

	act(0, set_timers);
	probes[0].n = 0;
	act_later(0, cancel_timers); /* in the mailbox, while the timers come due in the system lane */
	sim_run_for(s, 1000000);
	ck_assert_uint_eq(probes[0].n, 0);
}
END_TEST

START_TEST(a_timer_set_again_when_it_was_due_fires_once_at_its_new_time)
{
	make(0, &plain);
	act(0, set_timers);
	sim_run_for(s, 1);
	probes[0].n = 0;
	act(0, reset_timers);
	sim_run_for(s, 400000);
	ck_assert_uint_eq(probes[0].n, 0);
	sim_run_for(s, 400000);
	ck_assert_uint_eq(probes[0].n, 4);
}
END_TEST

static enum status set_and_end(struct actor *self)
{
	set_timers(self);
	return E_NORMAL;
}

START_TEST(timers_go_with_their_actor)
{
	make(0, &plain);
	act(0, set_and_end);
	sim_run_for(s, 1000000);
	ck_assert_uint_eq(dead_letters(), 0);
	ck_assert_uint_eq(worker_next_due_us(w), UINT64_MAX);
}
END_TEST

/* ---- monitors and links ---- */

static enum status monitor_1(struct actor *self)
{
	probe_of(self)->ref = actor_monitor(self, probes[1].pid);
	ck_assert(probe_of(self)->ref != 0);
	return OK;
}

static enum status demonitor_1(struct actor *self)
{
	actor_demonitor(self, probe_of(self)->ref);
	actor_demonitor(self, probe_of(self)->ref);
	return OK;
}

START_TEST(a_monitor_hears_the_end_and_why)
{
	two_plain(REPLY);
	act(0, monitor_1);
	act(1, end_badly);
	ck_assert(probes[0].n == 1 && last(0)->tag == DOWN && last(0)->status == E_IO);
	ck_assert(last(0)->n == probes[0].ref && strcmp(last(0)->text, "disk on fire") == 0);
	act(0, monitor_1); /* of a dead pid */
	ck_assert(probes[0].n == 2 && last(0)->status == E_NOPROC && last(0)->n == probes[0].ref);
}
END_TEST

START_TEST(a_monitor_taken_off_hears_nothing)
{
	two_plain(REPLY);
	act(0, monitor_1);
	act(0, demonitor_1);
	act(1, end_badly);
	ck_assert_uint_eq(probes[0].n, 0);
	act(0, demonitor_1);
}
END_TEST

static enum status link_1(struct actor *self)
{
	actor_link(self, probes[1].pid);
	return OK;
}

START_TEST(links_carry_abnormal_ends_both_ways_and_no_others)
{
	for (int way = 0; way < 2; way++) {
		memset(probes, 0, sizeof(probes));
		two_plain(REPLY);
		act(0, link_1);
		act(way ? 0 : 1, end_normally);
		ck_assert(worker_alive(w, probes[way].pid));
		memset(probes, 0, sizeof(probes));
		two_plain(REPLY);
		act(0, link_1);
		act(way ? 0 : 1, end_badly);
		ck_assert(probes[way].exits == 1 && probes[way].why == E_IO);
	}
}
END_TEST

START_TEST(a_linked_actor_that_traps_hears_exit_and_a_link_to_the_dead_is_told)
{
	make(0, &trapping);
	make(1, &plain);
	act(0, link_1);
	act(1, end_badly);
	ck_assert(
		probes[0].n == 1 && last(0)->tag == EXIT && last(0)->status == E_IO && probes[0].exits == 0);
	act(0, link_1);
	ck_assert(probes[0].n == 2 && last(0)->tag == EXIT && last(0)->status == E_NOPROC);
}
END_TEST

/* ---- names and groups ---- */

static enum status take_name(struct actor *self)
{
	probe_of(self)->why = actor_register(self, "the name");
	return OK;
}

static enum status groups(struct actor *self)
{
	struct pid out[2];

	actor_group_join(self, "g");
	actor_group_join(self, "g");
	actor_group_join(self, "h");
	actor_group_leave(self, "h");
	ck_assert_uint_eq(actor_group_members(self, "h", out, 2), 0);
	ck_assert_uint_eq(actor_group_members(self, "none", out, 2), 0);
	probe_of(self)->ref = actor_group_members(self, "g", out, 2);
	return OK;
}

START_TEST(a_name_has_one_holder_and_is_free_after_its_end)
{
	two_plain(REPLY);
	act(0, take_name);
	act(1, take_name);
	ck_assert(probes[0].why == OK && probes[1].why == E_EXISTS);
	ck_assert(pid_equal(worker_whereis(w, "the name"), probes[0].pid));
	act(0, take_name);
	ck_assert_int_eq(probes[0].why, E_INVALID); /* one name an actor */
	act(0, end_normally);
	ck_assert(pid_is_none(worker_whereis(w, "the name")));
	act(1, take_name);
	ck_assert(probes[1].why == OK && pid_equal(worker_whereis(w, "the name"), probes[1].pid));
}
END_TEST

START_TEST(groups_count_members_once_and_forget_the_dead)
{
	two_plain(REPLY);
	make(2, &plain);
	act(0, groups);
	act(1, groups);
	act(2, groups);
	ck_assert(probes[0].ref == 1 && probes[1].ref == 2 && probes[2].ref == 3);
	act(1, end_normally);
	act(0, end_badly);
	act(2, groups);
	ck_assert_uint_eq(probes[2].ref, 1);
}
END_TEST

/* ---- order, and looking in ---- */

static enum status count_to_4(struct actor *self)
{
	struct msg *out;

	for (uint64_t i = 0; i < 4; i++) {
		latest_new(self, &out)->n = i;
		actor_send(self, probes[1].pid, &out);
	}
	return OK;
}

START_TEST(messages_between_two_actors_keep_their_order)
{
	two_plain(REPLY);
	for (int round = 0; round < 5; round++)
		act(0, count_to_4);
	for (uint32_t i = 0; i < 20; i++)
		ck_assert_uint_eq(probes[1].seen[i].n, i % 4);
}
END_TEST

static enum status ask_kernel(struct actor *self)
{
	static const uint16_t tags[] = {KERNEL_ACTORS, KERNEL_DEAD_LETTERS, KERNEL_METRICS};

	for (int i = 0; i < 3; i++) {
		struct msg *out = actor_msg_new(self, tags[i]);

		(void)actor_ask(self, actor_kernel(self, 0), &out, 100);
	}
	return OK;
}

static enum status on_table(struct actor *self, struct msg *m)
{
	struct slice *t = m->tag == TABLE ? &table_of(m)->rows : &kernel_snapshot_of(m)->values;

	ck_assert(t->len > 10);
	return note(self, m);
}

static const struct rule looker_rules[] = {{STATE_ANY, TELL, on_act}, {STATE_ANY, TABLE, on_table},
	{STATE_ANY, KERNEL_SNAPSHOT, on_table}, {STATE_ANY, ASK_FAILED, note}};
PROBE(looker, looker_rules, .trap_exit = false);

START_TEST(the_kernel_answers_who_looks_in)
{
	make(0, &looker);
	act(0, ask_kernel);
	ck_assert_uint_eq(probes[0].n, 3);
	ck_assert(probes[0].seen[0].tag == TABLE && probes[0].seen[1].tag == TABLE);
	ck_assert(last(0)->tag == KERNEL_SNAPSHOT);
	ck_assert_uint_eq(live_messages(), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("core actors");
	TCase *tc = tcase_create("actors");
	SRunner *runner;
	int failed;

	log_set_level((enum log_level) - 1);
	catalog_add_core();
	catalog_add_world();
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, a_parent_hears_of_its_childs_end_unless_it_is_quiet);
	tcase_add_test(tc, children_end_with_their_parent_and_orphans_stay);
	tcase_add_test(tc, an_actor_whose_init_fails_is_not_and_tells_only_its_spawner);
	tcase_add_test(tc, a_slot_is_used_again_but_an_old_pid_names_nobody);
	tcase_add_test(tc, a_failing_handler_ends_its_actor_with_its_status_and_reason);
	tcase_add_test(tc, an_exit_hook_may_send_and_the_arena_goes);
	tcase_add_test(tc, an_exit_ends_and_only_killing_can_not_be_trapped);
	tcase_add_test(tc, an_answer_comes_with_the_asks_correlation);
	tcase_add_test(tc, a_second_reply_is_dropped);
	tcase_add_test(tc, a_handler_that_forgets_to_answer_is_found_out);
	tcase_add_test(tc, a_dropped_request_is_settled_with_the_status_given);
	tcase_add_test(tc, a_kept_request_is_settled_when_its_holder_dies);
	tcase_add_test(tc, kept_requests_can_be_answered_later_in_any_order);
	tcase_add_test(tc, an_unanswered_ask_times_out_and_a_late_answer_is_dropped);
	tcase_add_test(tc, a_cancelled_ask_hears_nothing_more);
	tcase_add_test(tc, asks_of_nobody_fail_at_once);
	tcase_add_test(tc, forwarding_keeps_sender_and_obligation);
	tcase_add_test(tc, a_kept_request_can_be_forwarded);
	tcase_add_test(tc, an_answer_to_the_dead_is_a_dead_letter);
	tcase_add_test(tc, a_request_whose_deadline_passed_in_the_mailbox_is_not_handled);
	tcase_add_test(tc, asks_over_the_mailbox_cap_are_refused);
	tcase_add_test(tc, state_messages_replace_the_oldest_on_a_full_mailbox);
	tcase_add_test(tc, a_message_without_a_rule_is_a_dead_letter);
	tcase_add_test(tc, deferred_messages_come_back_first_and_in_order_when_the_state_changes);
	tcase_add_test(tc, a_deferred_request_is_settled_when_its_holder_dies);
	tcase_add_test(tc, timers_fire_once_in_order_and_setting_replaces);
	tcase_add_test(tc, no_timer_is_seen_after_it_was_cancelled_even_when_it_was_already_due);
	tcase_add_test(tc, a_timer_in_the_mailbox_can_still_be_cancelled_or_set_again);
	tcase_add_test(tc, a_timer_set_again_when_it_was_due_fires_once_at_its_new_time);
	tcase_add_test(tc, timers_go_with_their_actor);
	tcase_add_test(tc, a_monitor_hears_the_end_and_why);
	tcase_add_test(tc, a_monitor_taken_off_hears_nothing);
	tcase_add_test(tc, links_carry_abnormal_ends_both_ways_and_no_others);
	tcase_add_test(tc, a_linked_actor_that_traps_hears_exit_and_a_link_to_the_dead_is_told);
	tcase_add_test(tc, a_name_has_one_holder_and_is_free_after_its_end);
	tcase_add_test(tc, groups_count_members_once_and_forget_the_dead);
	tcase_add_test(tc, messages_between_two_actors_keep_their_order);
	tcase_add_test(tc, the_kernel_answers_who_looks_in);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
