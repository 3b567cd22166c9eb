/* `multigres dev`, the child's side: opens what the actors need, runs the tree, and ends in order. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/drive/drive.h"
#include "supervisor/control.h"
#include "supervisor/dev.h"
#include "supervisor/http.h"
#include "supervisor/parent.h"
#include "supervisor/tree.h"

enum { NODE_ID = 1, POOL_CONNECT_MS = 10000, POOL_IDLE_MS = 600000, POOL_SPARE = 3 };

struct node {
	struct tree_config config;
	struct tree tree;
	struct drive *drive;
	struct control *control;
	struct http *http;
	struct store_backend *store;
	char database[OPTION_TEXT_MAX];
	char pg_dir[OPTION_TEXT_MAX + 16], crash[OPTION_TEXT_MAX + 32];
};

static const char start_hint[] =
	"hint: --pg-bin says where Postgres's programs are, --pg-port where it listens, "
	"--data where it is kept";

static const char *or_null(const char *s)
{
	return s[0] ? s : NULL;
}

/*
 * The database that --attach names, for the URL shown: dbname=... or the path of a URL; libpq's default is left to
 * psql, which has the same. Only what is plain is understood; the tablet reads the whole with libpq.
 */
static const char *attach_database(const char *conninfo, char out[OPTION_TEXT_MAX])
{
	const char *at = strstr(conninfo, "://"), *name = NULL, *until = "?";
	size_t n;

	if (at) {
		at = strchr(at + 3, '/');
		name = at ? at + 1 : "";
	} else {
		for (at = conninfo; (at = strstr(at, "dbname")); at += 6)
			if ((at == conninfo || at[-1] == ' ') && at[6 + strspn(at + 6, " ")] == '=')
				name = at + 6 + strspn(at + 6, " =");
		until = name && *name == '\'' ? "'" : " ";
		name = name ? name + (*until == '\'') : "";
	}
	n = strcspn(name, until);
	snprintf(out, OPTION_TEXT_MAX, "%.*s", (int)n, name);
	return n ? out : "postgres";
}

static uint32_t share(int64_t whole, int64_t n)
{
	return (uint32_t)((whole + n - 1) / n);
}

static void configure(struct node *n, const struct dev_settings *s)
{
	struct tree_config *c = &n->config;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	c->n_workers = (uint8_t)s->workers;
	c->admin = (struct admin_config){.listen = s->listen,
		.data = s->data,
		.attach = s->attach,
		.started_wall_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000};
	c->store.backend = n->store;
	c->tablet = (struct tablet_config){.mode = s->attach[0] ? TABLET_ATTACH : TABLET_OWN,
		.data_dir = n->pg_dir,
		.pg_bin_dir = or_null(s->pg_bin),
		.pg_port = (uint16_t)s->pg_port,
		.max_connections = 0,
		.attach = or_null(s->attach)};
	c->pool = (struct pool_config){.group_size = share(s->pool_size, s->workers),
		.total_size = share(TABLET_MAX_CONNECTIONS - POOL_SPARE, s->workers),
		.connect_timeout_ms = POOL_CONNECT_MS,
		.idle_timeout_ms = POOL_IDLE_MS};
	c->gate = (struct gate_config){.listen = s->listen,
		.reuse_port = s->workers > 1,
		.auth = s->auth == DEV_SCRAM ? GATE_SCRAM : GATE_TRUST,
		.tls_cert = or_null(s->tls_cert),
		.tls_key = or_null(s->tls_key),
		.tls_ca = or_null(s->tls_ca),
		.max_clients = (uint32_t)s->max_clients,
		.queue_timeout_ms = (uint32_t)s->wait_timeout_ms};
	check(getrandom(c->gate.mock_secret, sizeof(c->gate.mock_secret), 0) ==
		(ssize_t)sizeof(c->gate.mock_secret));
	c->ready = (struct ready_state){.listen = s->listen,
		.database = attach_database(s->attach, n->database),
		.pool_password = &c->pool.password,
		.own = !s->attach[0],
		.notify_fd = (int)s->child_fd};
}

/* A certificate that can't be used is better told now than to each client. */
static enum status tls_check(const struct gate_config *g, struct error *err)
{
	struct io_tls spec = {.server = true,
		.cert_file = g->tls_cert,
		.key_file = g->tls_key,
		.ca_file = g->tls_ca,
		.require_peer_cert = g->tls_ca != NULL};

	return g->tls_cert || g->tls_key ? drive_tls_check(&spec, err) : OK;
}

static enum status open_all(struct node *n, const struct dev_settings *s, struct error *err)
{
	enum status st;

	snprintf(n->pg_dir, sizeof(n->pg_dir), "%s/pg", s->data);
	snprintf(n->crash, sizeof(n->crash), "%s/crash", s->data);
	if (mkdir(n->crash, 0700) && errno != EEXIST)
		return error_set(err, E_IO, "58030", "could not create directory \"%s\": %s", n->crash,
			strerror(errno));
	snprintf(n->crash, sizeof(n->crash), "%s/crash/node", s->data);
	st = store_open_lmdb(s->data, 0, &n->store, err);
	if (st)
		return st;
	configure(n, s);
	st = tls_check(&n->config.gate, err);
	return st ? st : tablet_config_check(&n->config.tablet, err);
}

static enum status start(struct node *n, const struct dev_settings *s, struct error *err)
{
	uint64_t incarnation;
	struct drive_spec spec = {.n_workers = (uint8_t)s->workers,
		.context = n,
		.boot = tree_boot,
		.boot_arg = &n->tree,
		.crash_prefix = n->crash};
	enum status st;

	check(getrandom(&incarnation, sizeof(incarnation), 0) == (ssize_t)sizeof(incarnation));
	spec.node = node_make(NODE_ID, incarnation);
	tree_prepare();
	tree_build(&n->tree, &n->config);
	n->drive = drive_new(&spec);
	st = drive_start(n->drive, err);
	if (!st)
		st = control_start(s->control, n->drive, &n->control, err);
	if (!st)
		st = http_start(s->http, n->drive, &n->http, err);
	return st;
}

static void stop(struct node *n)
{
	http_stop(n->http);
	control_stop(n->control);
	if (n->drive) {
		if (drive_stop(n->drive, STOP_MS) == E_TIMEOUT)
			log_warn("node", "not everything ended in time");
		drive_free(n->drive);
	}
	if (n->store)
		store_close(n->store);
}

int dev_node(struct dev_settings *s)
{
	static struct node node; /* too large for the stack */
	struct error err = {0};
	enum status why = OK;
	int code = NODE_FAILED, signal;
	sigset_t stops;

	sigemptyset(&stops);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGINT);
	sigprocmask(SIG_BLOCK, &stops, NULL); /* a second one, after the drive is gone, ends nothing early */
	fcntl((int)s->child_fd, F_SETFD, FD_CLOEXEC);
	if (open_all(&node, s, &err) || start(&node, s, &err)) {
		fprintf(stderr, "multigres: %s\n%s%s%s", err.text, err.hint[0] ? "hint: " : "", err.hint,
			err.hint[0] ? "\n" : "");
		stop(&node);
		return NODE_FAILED;
	}
	signal = drive_wait(node.drive, &why);
	if (signal) {
		if (node.config.ready.failed)
			fprintf(stderr, "multigres: could not start: %s\n%s\n", node.config.ready.why,
				start_hint);
		else
			log_info("node", "stopping");
		code = node.config.ready.failed ? NODE_FAILED : NODE_STOPPED;
		if (code == NODE_STOPPED && write((int)s->child_fd, "stopping\n", 9) != 9)
			log_warn("node", "could not tell the parent that we stop");
	} else {
		log_error("node", "the supervision tree ended (%s)", status_name(why));
		code = node.config.ready.announced ? NODE_RESTART : NODE_FAILED;
	}
	stop(&node);
	return code;
}
