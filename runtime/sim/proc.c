/*
 * Processes as a model: a program is a C function that says how long a run takes, how it ends and how it takes
 * signals. The process table is the machine's, not the node's: what isn't die_with_node outlives a crash, and may be
 * adopted by the node's next life.
 */
#include <signal.h>
#include <stdlib.h>

#include "runtime/base/bytes.h"
#include "runtime/sim/internal.h"

enum { KILL_US = 500, EARLY_DEATH_MEAN_US = 200000 };

void sim_program(struct sim *s, const char *path, sim_program_fn *fn, void *arg)
{
	struct program *p = &s->programs[s->n_programs++];

	check(s->n_programs <= PROGRAMS_MAX);
	str_copy(p->path, sizeof(p->path), path);
	p->fn = fn;
	p->arg = arg;
}

static struct process *process_find(const struct sim *s, int32_t os_pid)
{
	struct process *p = NULL;

	HASH_FIND(hh, s->processes, &os_pid, sizeof(os_pid), p);
	return p;
}

/* It will end then, like this; an earlier plan is void. */
static void process_plan(struct sim *s, struct process *p, uint64_t after_us, int64_t code, int64_t signal)
{
	p->generation++;
	p->code = code;
	p->signal = signal;
	p->ends_us = after_us == UINT64_MAX ? UINT64_MAX : s->now_us + after_us;
	if (after_us != UINT64_MAX)
		events_add(s, after_us,
			(struct event){.kind = EV_PROC, .what = (uint32_t)p->os_pid, .a = p->generation});
}

/* ---- watches ---------------------------------------------------------------------------------------------------- */

static void watch_free(struct sim *s, struct watch *w)
{
	list_remove(&w->link);
	HASH_DEL(s->watches, w);
	free(w);
}

static void watch_drop(struct handle *h)
{
	struct watch *w = CONTAINER_OF(h, struct watch, h);
	struct sim *s = w->sw->node->sim;
	struct process *p = w->process;
	bool kills = w->started && p->die_with_node;

	watch_free(s, w);
	if (kills)
		process_plan(s, p, KILL_US, 0, SIGKILL);
}

static uint64_t watch_add(struct sim_worker *sw, struct actor *a, struct process *p, bool started)
{
	struct sim *s = sw->node->sim;
	struct watch *w = calloc(1, sizeof(*w));

	check(w != NULL);
	w->h = (struct handle){.kind = "process", .drop = watch_drop};
	w->id = ++s->next_id;
	w->process = p;
	w->sw = sw;
	w->started = started;
	list_push_back(&p->watches, &w->link);
	HASH_ADD(hh, s->watches, id, sizeof(w->id), w);
	actor_handle_add(a, &w->h);
	return w->id;
}

static struct watch *watch_find(struct driver *d, struct actor *a, uint64_t id)
{
	struct watch *w = NULL;

	HASH_FIND(hh, worker_of_driver(d)->node->sim->watches, &id, sizeof(id), w);
	return w && pid_equal(w->h.owner, actor_pid(a)) ? w : NULL;
}

static void watch_tell(struct sim *s, struct watch *w)
{
	struct msg *m = worker_msg_new(w->sw->worker, PROC_EXITED);
	struct proc_exited *e = proc_exited_of(m);

	m->from = m->to = w->h.owner;
	e->proc = w->id;
	e->code = w->started ? w->process->code : -1;
	e->signal = w->started ? w->process->signal : 0;
	handle_remove(&w->h);
	worker_deliver(w->sw->worker, m);
	watch_free(s, w);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void process_end(struct sim *s, struct process *p)
{
	list_each(it, &p->watches) watch_tell(s, LIST_ITEM(it, struct watch, link));
	HASH_DEL(s->processes, p);
	free(p);
}

void process_event(struct sim *s, const struct event *e)
{
	struct process *p = process_find(s, (int32_t)e->what);

	if (p && p->generation == e->a)
		process_end(s, p);
}

static void process_output(struct sim_worker *sw, struct actor *a, uint64_t id, const char *text)
{
	struct msg *m = worker_msg_new(sw->worker, PROC_OUTPUT);
	struct proc_output *o = proc_output_of(m);

	m->from = m->to = actor_pid(a);
	o->proc = id;
	o->bytes = slice_copy(text, (uint32_t)strlen(text));
	worker_deliver(sw->worker, m);
}

enum status process_start(
	struct driver *d, struct actor *a, const struct proc_start *spec, uint64_t *proc, struct error *err)
{
	struct sim_worker *sw = worker_of_driver(d);
	struct sim *s = sw->node->sim;
	struct program *program = NULL;
	struct process *p;

	for (uint32_t i = 0; i < s->n_programs; i++)
		if (strcmp(s->programs[i].path, spec->argv[0]) == 0)
			program = &s->programs[i];
	if (!program)
		return error_set(err, E_NOT_FOUND, "58000",
			"could not start \"%.200s\": no such file or directory", spec->argv[0]);
	if (sw->node->going || fault(F_PROC_START_FAILS))
		return error_set(err, E_IO, "58000", "could not start \"%.200s\": injected", spec->argv[0]);
	p = calloc(1, sizeof(*p));
	check(p != NULL);
	p->os_pid = s->next_os_pid++;
	p->node = sw->node->id;
	p->die_with_node = spec->die_with_node;
	p->run = (struct sim_run){.run_us = UINT64_MAX};
	list_init(&p->watches);
	HASH_ADD(hh, s->processes, os_pid, sizeof(p->os_pid), p);
	program->fn(s, p->node, spec, &p->run, program->arg);
	*proc = watch_add(sw, a, p, true);
	process_plan(s, p, p->run.run_us, p->run.code, 0);
	if (fault(F_PROC_DIES_EARLY))
		process_plan(s, p, rand_exponential(&s->proc, EARLY_DEATH_MEAN_US), 0, SIGSEGV);
	if (p->run.output && !spec->output_file)
		process_output(sw, a, *proc, p->run.output);
	p->run.output = NULL;
	return OK;
}

enum status process_adopt(struct driver *d, struct actor *a, int32_t os_pid, uint64_t *proc)
{
	struct sim_worker *sw = worker_of_driver(d);
	struct process *p = process_find(sw->node->sim, os_pid);

	if (!p || p->node != sw->node->id)
		return E_NOT_FOUND;
	*proc = watch_add(sw, a, p, false);
	return OK;
}

/* ---- signals ----------------------------------------------------------------------------------------------------- */

static void process_signalled(struct sim *s, struct process *p, int signal)
{
	switch (signal) {
	case SIGKILL:
		p->stopped = false;
		process_plan(s, p, rand_exponential(&s->proc, KILL_US), 0, SIGKILL);
		break;
	case SIGSTOP:
		if (p->stopped)
			break;
		p->stopped = true;
		p->left_us = p->ends_us == UINT64_MAX ? UINT64_MAX : p->ends_us - s->now_us;
		process_plan(s, p, UINT64_MAX, p->code, p->signal);
		break;
	case SIGCONT:
		if (p->stopped)
			process_plan(s, p, p->left_us, p->code, p->signal);
		p->stopped = false;
		break;
	case SIGTERM:
	case SIGINT:
	case SIGQUIT:
		if (p->run.ignores_term)
			break;
		if (p->stopped) /* taken when it continues */
			p->left_us = p->run.stop_us;
		else if (p->ends_us - s->now_us > p->run.stop_us)
			process_plan(s, p, p->run.stop_us, 0, 0);
		p->code = p->run.stop_code >= 0 ? p->run.stop_code : 0;
		p->signal = p->run.stop_code >= 0 ? 0 : signal;
		break;
	default:
		break; /* 0 asks whether it is there; others (SIGHUP) don't end it */
	}
}

enum status process_signal(struct driver *d, struct actor *a, uint64_t proc, int signal)
{
	struct watch *w = watch_find(d, a, proc);

	if (!w)
		return E_CLOSED;
	process_signalled(w->sw->node->sim, w->process, signal);
	return OK;
}

int32_t process_os_pid(struct driver *d, struct actor *a, uint64_t proc)
{
	struct watch *w = watch_find(d, a, proc);

	return w ? w->process->os_pid : 0;
}

bool sim_kill(struct sim *s, int32_t os_pid, int signal)
{
	struct process *p = process_find(s, os_pid);

	if (p)
		process_signalled(s, p, signal);
	return p != NULL;
}

bool sim_process_alive(const struct sim *s, int32_t os_pid)
{
	return process_find(s, os_pid) != NULL;
}

/* PR_SET_PDEATHSIG: what should die with the node does, the rest stays. Its watches went with their actors. */
void process_node_crashed(struct sim *s, uint16_t node)
{
	for (struct process *p = s->processes; p; p = p->hh.next)
		if (p->node == node && p->die_with_node)
			process_plan(s, p, KILL_US, 0, SIGKILL);
}

void process_release(struct sim *s)
{
	struct process *p, *next;

	if (s->watches)
		sim_fail(s, "%u watches of processes are left without their owner", HASH_COUNT(s->watches));
	HASH_ITER(hh, s->processes, p, next)
	{
		HASH_DEL(s->processes, p);
		free(p);
	}
}
