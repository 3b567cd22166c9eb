/*
 * The simulator: the second implementation of driver.h. N nodes of W workers in one thread; one seed decides
 * everything: which worker runs next and for how many messages, how long each message, byte, process and piece of
 * work takes, what is lost and what fails. Virtual time stands still while anything is runnable and then jumps to the
 * next event. Same seed and same program: same trace hash, in any process on any machine.
 *
 * Node ids are 1 .. n_nodes. A node's clock has its own offset, so that no actor gets away with comparing clocks.
 * One simulation at a time in a process. Times are microseconds of virtual time since sim_new.
 */
#ifndef RUNTIME_SIM_SIM_H
#define RUNTIME_SIM_SIM_H

#include "runtime/base/fault.h"
#include "runtime/base/rand.h"
#include "runtime/core/worker.h"

struct sim;

enum { SIM_NODES_MAX = 64, SIM_WORKERS_MAX = 16 };

struct sim_net { /* between nodes; inside a node delays are a tenth and nothing is lost */
	uint32_t delay_min_us; /* 0: 50 */
	uint32_t delay_mean_us; /* on top, exponential; 0: 500 */
	uint32_t loss_ppm; /* of user messages, one by one. The system lane is lost with its session only */
	uint32_t timeout_us; /* silence after which a link's session ends; 0: 3 s */
};

struct sim_spec {
	uint64_t seed;
	uint16_t n_nodes;
	uint8_t n_workers; /* of each node */
	/* Starts a node's actors (sim_spawn), at the beginning and after each restart. */
	void (*boot)(struct sim *s, uint16_t node, void *arg);
	void *arg;
	void *context; /* actor_node_context of every node */
	struct sim_net net;
};

/* Gives a simulation whose nodes have booted but not run. */
struct sim *sim_new(const struct sim_spec *spec);
/* Stops what is up; panics with the replaying command when a socket, process or watch is left behind. */
void sim_free(struct sim *s);

/* ---- running ----------------------------------------------------------------------------------------------- */

typedef bool sim_done_fn(struct sim *s, void *arg);

/* Runs until done (asked after each step; may be NULL) or until limit_us of virtual time have passed. */
bool sim_run_until(struct sim *s, sim_done_fn *done, void *arg, uint64_t limit_us);
void sim_run_for(struct sim *s, uint64_t us);
uint64_t sim_now_us(const struct sim *s);
/* Events and worker steps so far. */
uint64_t sim_steps(const struct sim *s);
/* Messages handled by actors so far, on all nodes and lives. */
uint64_t sim_messages(const struct sim *s);
uint64_t sim_trace_hash(const struct sim *s);
/* Calls fn once, after_us from now, between steps: for scripts of faults. */
void sim_after(struct sim *s, uint64_t after_us, void (*fn)(struct sim *s, void *arg), void *arg);
/* A stream of its own for the test: drawing from it shifts nothing else. */
struct rand_stream sim_stream(const struct sim *s, const char *label);
/* "SIM_SEED=12 build/release/test/sim/test_sim_asks": what to put into a failed assertion. */
const char *sim_replay(const struct sim *s);
/* Panics with text and the replaying command. */
_Noreturn void sim_fail(const struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- nodes ------------------------------------------------------------------------------------------------- */

/* A root actor on a node that is up; panics when it can't be started. */
struct pid sim_spawn(struct sim *s, uint16_t node, uint8_t worker, const struct spawn *what);
void sim_exit(struct sim *s, struct pid who, enum status why);
/* NULL while the node is down. */
struct worker *sim_worker(struct sim *s, uint16_t node, uint8_t worker);
bool sim_node_up(const struct sim *s, uint16_t node);
/* The node at once: actors end with hooks that reach nobody, its links and sockets break, others hear it later. */
void sim_crash_node(struct sim *s, uint16_t node);
/* A new incarnation, booted. The node must be down. */
void sim_restart_node(struct sim *s, uint16_t node);
/* Actors on all nodes that are up, kernels not counted. */
uint64_t sim_actors(const struct sim *s);
/* Sockets and listeners, processes and watches of them, pieces of work: owned by actors right now. */
uint64_t sim_handles(const struct sim *s);

/* ---- links ------------------------------------------------------------------------------------------------- */

/* Nothing passes between a and b; after net.timeout_us both see the other as down. Sockets stand still too. */
void sim_partition(struct sim *s, uint16_t a, uint16_t b);
/* Half-open: nothing passes from a to b. */
void sim_block(struct sim *s, uint16_t from, uint16_t to);
/* Nothing passes from a to b for so long, then all of it: shorter than net.timeout_us it is only slow. */
void sim_clog(struct sim *s, uint16_t from, uint16_t to, uint64_t us);
/* Cuts a node off from all others. */
void sim_isolate(struct sim *s, uint16_t node);
void sim_heal(struct sim *s); /* all links; sessions that ended come back soon */
void sim_net_set(struct sim *s, const struct sim_net *net);

/* ---- faults ------------------------------------------------------------------------------------------------ */

/* Lets a fault point fail in ppm of a million cases (0: off, as at first). Each point has its own random stream. */
void sim_fault(struct sim *s, enum fault_point point, uint32_t ppm);
/* Lets it fail exactly once, the nth time it is asked (from 1). */
void sim_fault_nth(struct sim *s, enum fault_point point, uint64_t nth);
uint64_t sim_fault_hits(const struct sim *s, enum fault_point point);

/* ---- processes --------------------------------------------------------------------------------------------- */

/* How one run of a program goes; decided by its function at the start. */
struct sim_run {
	uint64_t run_us; /* until it ends by itself; UINT64_MAX: only when told */
	int64_t code; /* with which it then ends */
	uint64_t stop_us; /* from SIGTERM, SIGINT or SIGQUIT to its end */
	int64_t stop_code; /* -1: it dies of that signal */
	bool ignores_term; /* only SIGKILL ends it */
	const char *output; /* on stdout at the start; borrowed for the call; NULL: none */
};

typedef void sim_program_fn(
	struct sim *s, uint16_t node, const struct proc_start *what, struct sim_run *run, void *arg);
/* Makes argv[0] `path` startable on every node. `run` comes as {UINT64_MAX, 0, 0, 0}. At most 64 programs. */
void sim_program(struct sim *s, const char *path, sim_program_fn *fn, void *arg);
/* From outside any actor, as the kernel's out-of-memory killer would; false when there is no such process. */
bool sim_kill(struct sim *s, int32_t os_pid, int signal);
bool sim_process_alive(const struct sim *s, int32_t os_pid);

/*
 * Addresses: 127.0.0.1, localhost, [::1], 0.0.0.0 and paths mean the caller's own node; 10.0.0.N and nodeN mean
 * node N.
 */

#endif
