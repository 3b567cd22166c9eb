/* What the files of runtime/sim share. Nobody else's business. */
#ifndef RUNTIME_SIM_INTERNAL_H
#define RUNTIME_SIM_INTERNAL_H

#include <uthash.h>

#include "runtime/core/codec.h"
#include "runtime/sim/sim.h"

enum {
	LIVELOCK_STEPS = 20000000, /* steps without time moving on: somebody spins */
	STEP_MESSAGES_MAX = 64,
	READ_MAX = 65536,
	PROGRAMS_MAX = 64,
};

/* ---- events: what happens later, in order of (time, sequence) ------------------------------------------------ */

enum event_kind {
	EV_CALL,
	EV_FRAME,
	EV_LINK_CHECK,
	EV_LINK_UP,
	EV_LINK_GONE,
	EV_LINK_FLUSH,
	EV_CONN,
	EV_PROC,
	EV_WORK
};

struct event {
	uint64_t at_us, seq;
	enum event_kind kind;
	uint32_t what; /* by kind */
	uint64_t a, b;
	void *p; /* owned by the event for EV_FRAME and EV_WORK */
	void (*call)(struct sim *s, void *arg);
};

struct events {
	struct event *heap;
	uint32_t n, cap;
	uint64_t seq;
};

void events_add(struct sim *s, uint64_t after_us, struct event e);
bool events_take(struct events *q, uint64_t up_to_us, struct event *out);
uint64_t events_next_us(const struct events *q); /* UINT64_MAX when empty */

/* ---- messages between workers: encoded, as on a wire ---------------------------------------------------------- */

struct frame {
	struct frame *next;
	uint64_t session;
	uint16_t from, to; /* node ids */
	uint8_t worker; /* of the receiver */
	uint32_t len;
	uint8_t bytes[];
};

struct frames {
	struct frame *first, *last;
};

struct sim_worker {
	struct driver driver; /* first: the core's pointer to it is ours */
	struct sim_node *node;
	struct worker *worker; /* NULL while the node is down */
	struct rand_stream random;
	uint8_t index;
	bool ticked; /* a timer came due since its last step */
	uint32_t inbox_n;
	struct frames inbox[SIM_WORKERS_MAX]; /* by sending worker of the same node */
};

struct sim_node {
	struct sim *sim;
	uint16_t id;
	bool up, going; /* going: being crashed or stopped; what it does reaches nobody */
	uint64_t node; /* with incarnation */
	uint64_t incarnation, clock_us; /* clock_us: its clock's lead */
	struct sim_worker workers[SIM_WORKERS_MAX];
};

/* One direction of a link. */
struct way {
	bool blocked;
	uint64_t clogged_until_us, last_us;
	struct frames held;
};

/* Both directions share a session. lives: the nodes it connects. */
struct pair {
	bool up;
	uint64_t session;
	uint64_t lives[2]; /* of the lower id, of the higher */
};

/* ---- sockets, processes, work --------------------------------------------------------------------------------- */

struct bytes {
	uint8_t *p;
	uint32_t off, len, cap;
};

enum sock_state { SOCK_CONNECTING, SOCK_OPEN, SOCK_CLOSING, SOCK_GONE };
enum sock_tls { TLS_NONE, TLS_STARTED, TLS_UP };

/* What an io id names: a listener or one end of a connection. */
struct sim_io {
	struct handle h;
	uint64_t id;
	struct sim_worker *sw;
	bool is_listener;
	UT_hash_handle hh;
};

struct listener {
	struct sim_io io;
	uint16_t node;
	bool reuse_port;
	char key[IO_ADDRESS_MAX];
	struct list link;
};

struct sock {
	struct sim_io io;
	struct conn *conn;
	enum sock_state state;
	enum sock_tls tls;
	bool tls_server, eof, arriving, had_queue;
	uint16_t node;
	uint32_t credit, window, plain; /* plain: bytes of `out` from before TLS */
	struct bytes out, wire, in; /* accepted; on their way to the other end; arrived here */
	char alpn[32];
};

struct conn {
	uint64_t id;
	struct sock ends[2]; /* 0 connected, 1 accepted */
	char key[IO_ADDRESS_MAX];
	uint64_t deadline_us;
	UT_hash_handle hh;
};

struct program {
	char path[IO_ADDRESS_MAX];
	sim_program_fn *fn;
	void *arg;
};

struct process {
	int32_t os_pid;
	uint16_t node;
	bool die_with_node, stopped;
	uint64_t generation; /* of its end event: a newer plan makes an older one void */
	uint64_t ends_us, left_us;
	int64_t code, signal;
	struct sim_run run;
	struct list watches;
	UT_hash_handle hh;
};

/* An actor's hold on a process: started by it, or adopted. */
struct watch {
	struct handle h;
	uint64_t id;
	struct process *process;
	struct sim_worker *sw;
	bool started;
	struct list link;
	UT_hash_handle hh;
};

struct lane {
	struct lane *next;
	uint64_t id, node, free_us;
};

struct fault_state {
	uint32_t ppm;
	uint64_t nth, asked, hits;
	struct rand_stream stream;
};

struct sim {
	struct sim_spec spec;
	struct rand_stream root, schedule, net, io, proc, work;
	uint64_t now_us, steps, steps_at_now, hash, dead_messages;
	struct events events;
	struct writer scratch;
	struct sim_node *nodes; /* [id], 0 unused */
	struct way *ways; /* [from * (n + 1) + to] */
	struct pair *pairs; /* [lower * (n + 1) + higher] */
	uint64_t next_id; /* of io, connections, processes' watches, work */
	struct sim_io *ios;
	struct list listeners;
	struct conn *conns;
	struct program programs[PROGRAMS_MAX];
	uint32_t n_programs;
	int32_t next_os_pid;
	struct process *processes;
	struct watch *watches;
	struct lane *lanes;
	uint64_t works; /* submitted, not done */
	struct fault_state faults[FAULT_COUNT];
	char replay[256];
};

static inline struct sim_worker *worker_of_driver(struct driver *d)
{
	return (struct sim_worker *)d;
}

static inline uint64_t node_now_us(const struct sim_node *n)
{
	return n->sim->now_us + n->clock_us;
}

void sim_hash(struct sim *s, uint64_t v);
struct sim_worker *sim_worker_at(struct sim *s, struct pid p); /* NULL: not up, or another life */

/* link.c */
void link_forward(struct driver *d, struct msg *m);
void link_event(struct sim *s, const struct event *e);
void link_node_crashed(struct sim *s, uint16_t node);
void link_init(struct sim *s);
void link_node_started(struct sim *s, uint16_t node);
bool link_blocked(const struct sim *s, uint16_t from, uint16_t to);
uint64_t link_delay_us(struct sim *s, struct rand_stream *r, uint16_t from, uint16_t to);
void inbox_drain(struct sim *s, struct sim_worker *sw);
void inbox_clear(struct sim_worker *sw);
void frames_free(struct frames *q);

/* socket.c */
enum status sock_listen(
	struct driver *d, struct actor *a, const struct io_listen *spec, uint64_t *io, struct error *err);
enum status sock_connect(
	struct driver *d, struct actor *a, const char *address, uint32_t timeout_ms, uint64_t *io);
enum status sock_give(struct driver *d, struct actor *a, uint64_t io, struct pid to);
void sock_credit(struct driver *d, struct actor *a, uint64_t io, uint32_t n);
enum status sock_write(struct driver *d, struct actor *a, uint64_t io, struct slice *bytes);
uint32_t sock_queued(struct driver *d, struct actor *a, uint64_t io);
void sock_close(struct driver *d, struct actor *a, uint64_t io, bool abort);
enum status sock_tls(
	struct driver *d, struct actor *a, uint64_t io, const struct io_tls *spec, struct error *err);
void sock_event(struct sim *s, const struct event *e);
void sock_node_crashed(struct sim *s, uint16_t node);
void sock_release(struct sim *s);

/* proc.c */
enum status process_start(
	struct driver *d, struct actor *a, const struct proc_start *spec, uint64_t *proc, struct error *err);
enum status process_adopt(struct driver *d, struct actor *a, int32_t os_pid, uint64_t *proc);
enum status process_signal(struct driver *d, struct actor *a, uint64_t proc, int signal);
int32_t process_os_pid(struct driver *d, struct actor *a, uint64_t proc);
void process_event(struct sim *s, const struct event *e);
void process_node_crashed(struct sim *s, uint16_t node);
void process_release(struct sim *s);

/* work.c */
uint64_t work_submit(struct driver *d, struct actor *a, const struct work *what);
void work_event(struct sim *s, const struct event *e);
void work_discard(struct event *e);

#endif
