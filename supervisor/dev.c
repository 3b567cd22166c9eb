/* `multigres dev`: options, their agreement with each other, and the parent's side. */
#include "supervisor/dev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/bytes.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "supervisor/datadir.h"
#include "supervisor/parent.h"

enum { PARENT_PATIENCE_MS = STOP_MS + 4000, ARGV_MAX = 80 };

static const char *const auth_names[] = {"trust", "scram", NULL};
static const char *const log_names[] = {"error", "warn", "info", "debug", NULL};

#define AT(member) offsetof(struct dev_settings, member)
static const struct option options[] = {
	{.name = "data",
		.type = OPTION_PATH,
		.offset = AT(data),
		.value = "DIR",
		.help = "where all is kept (~/.local/share/multigres/dev; as root /var/lib/multigres/dev)"},
	{.name = "listen",
		.type = OPTION_ADDRESS,
		.offset = AT(listen),
		.initial = "127.0.0.1:15432",
		.min = 1,
		.max = PORT_MAX,
		.help = "where clients connect"},
	{.name = "http",
		.type = OPTION_ADDRESS,
		.offset = AT(http),
		.initial = "127.0.0.1:15480",
		.min = 1,
		.max = PORT_MAX,
		.help = "status page, /metrics, /healthz, /readyz"},
	{.name = "control",
		.type = OPTION_ADDRESS,
		.offset = AT(control),
		.initial = "127.0.0.1:15500",
		.min = 1,
		.max = PORT_MAX,
		.help = "where mgctl connects; whoever can reach it controls the node"},
	{.name = "pg-port",
		.type = OPTION_NUMBER,
		.offset = AT(pg_port),
		.initial = "15600",
		.min = PORT_MIN,
		.max = PORT_MAX,
		.help = "port of the Postgres it runs"},
	{.name = "attach",
		.type = OPTION_TEXT,
		.offset = AT(attach),
		.value = "CONNINFO",
		.help = "serve this Postgres instead of making one: 'host=... port=... user=...' or a URL"},
	{.name = "workers",
		.type = OPTION_NUMBER,
		.offset = AT(workers),
		.initial = "1",
		.min = 1,
		.max = 64,
		.help = "threads that serve"},
	{.name = "auth",
		.type = OPTION_CHOICE,
		.offset = AT(auth),
		.choices = auth_names,
		.help = "how clients log in; trust when --listen is a loopback address, else scram"},
	{.name = "tls-cert",
		.type = OPTION_PATH,
		.offset = AT(tls_cert),
		.help = "certificate shown to clients, PEM"},
	{.name = "tls-key", .type = OPTION_PATH, .offset = AT(tls_key), .help = "its private key, PEM"},
	{.name = "tls-ca",
		.type = OPTION_PATH,
		.offset = AT(tls_ca),
		.help = "ask clients for certificates of this CA, PEM"},
	{.name = "pool-size",
		.type = OPTION_NUMBER,
		.offset = AT(pool_size),
		.initial = "20",
		.min = 1,
		.max = 10000,
		.unit = "connections",
		.help = "connections to Postgres per database and user"},
	{.name = "max-clients",
		.type = OPTION_NUMBER,
		.offset = AT(max_clients),
		.initial = "10000",
		.min = 1,
		.max = 1000000,
		.unit = "clients",
		.help = "clients at once"},
	{.name = "wait-timeout",
		.type = OPTION_DURATION,
		.offset = AT(wait_timeout_ms),
		.initial = "30s",
		.min = 1,
		.max = 3600000,
		.help = "how long a query may wait for a connection to Postgres"},
	{.name = "pg-bin",
		.type = OPTION_PATH,
		.offset = AT(pg_bin),
		.value = "DIR",
		.help = "where initdb and postgres are; found by itself otherwise"},
	{.name = "log-level",
		.type = OPTION_CHOICE,
		.offset = AT(log_level),
		.choices = log_names,
		.initial = "info",
		.help = "what is logged"},
	{.name = "foreground-child",
		.type = OPTION_NUMBER,
		.offset = AT(child_fd),
		.initial = "-1",
		.hidden = true,
		.help = "internal: run as the parent's child"},
};

const struct option_set dev_options = {"multigres dev [OPTION]...",
	"Runs a whole cluster in the foreground: a gate for clients, a tablet with its own Postgres,\n"
	"and what keeps them alive. Ends with SIGTERM, SIGINT (Ctrl-C) or `mgctl stop`.",
	"MULTIGRES", options, ARRAY_LEN(options)};

/* ---- agreement ------------------------------------------------------------------------------------------------- */

static bool is_loopback(const char *address)
{
	char host[256];
	struct in6_addr six;
	struct in_addr four;
	uint16_t port;

	if (options_address(address, host, sizeof(host), &port))
		return false;
	if (strcmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &four) == 1)
		return ntohl(four.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

static uint16_t port_of(const char *address)
{
	uint16_t port = 0;

	return options_address(address, NULL, 0, &port) ? 0 : port;
}

static enum status check_ports(const struct dev_settings *s, struct error *err)
{
	const struct {
		const char *option;
		uint16_t port;
	} all[] = {{"--listen", port_of(s->listen)}, {"--http", port_of(s->http)},
		{"--control", port_of(s->control)}, {"--pg-port", s->attach[0] ? 0 : (uint16_t)s->pg_port}};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		for (size_t j = 0; all[i].port && j < i; j++)
			if (all[i].port == all[j].port)
				return error_set(err, E_INVALID, "22023", "%s and %s both name port %u",
					all[j].option, all[i].option, all[i].port);
	return OK;
}

static enum status check_file(const char *option, const char *path, struct error *err)
{
	if (path[0] && access(path, R_OK))
		return error_set(err, E_INVALID, "22023", "could not read %s \"%s\": %s", option, path,
			strerror(errno));
	return OK;
}

enum status dev_settings_check(struct dev_settings *s, struct error *err)
{
	enum status st = check_ports(s, err);

	if (st)
		return st;
	if (!s->data[0] && geteuid() == 0)
		str_copy(s->data, sizeof(s->data),
			"/var/lib/multigres/dev"); /* /root is closed to Postgres's user */
	else if (!s->data[0] && !getenv("HOME"))
		return error_set(err, E_INVALID, "22023",
			"there is no HOME to keep data in: name a directory with --data");
	else if (!s->data[0])
		snprintf(s->data, sizeof(s->data), "%s/.local/share/multigres/dev", getenv("HOME"));
	if (s->data[0] != '/') {
		char full[OPTION_TEXT_MAX * 2];
		size_t n;

		if (!getcwd(full, OPTION_TEXT_MAX))
			return error_set(err, E_INVALID, "22023",
				"--data \"%.200s\": the current directory is not reachable", s->data);
		n = strlen(full);
		snprintf(full + n, sizeof(full) - n, "/%s", s->data);
		if (!str_copy(s->data, sizeof(s->data), full))
			return error_set(err, E_INVALID, "22023", "--data \"%.200s\" is too long", full);
	}
	if (!s->tls_cert[0] != !s->tls_key[0])
		return error_set(err, E_INVALID, "22023", "--tls-cert and --tls-key are needed together");
	if (s->tls_ca[0] && !s->tls_cert[0])
		return error_set(err, E_INVALID, "22023", "--tls-ca needs --tls-cert and --tls-key");
	if ((st = check_file("--tls-cert", s->tls_cert, err)) ||
		(st = check_file("--tls-key", s->tls_key, err)) ||
		(st = check_file("--tls-ca", s->tls_ca, err)))
		return st;
	if (s->auth < 0)
		s->auth = is_loopback(s->listen) ? DEV_TRUST : DEV_SCRAM;
	else if (s->auth == DEV_TRUST && !is_loopback(s->listen))
		log_warn("dev", "--auth trust on %s: whoever can reach it may log in as anybody", s->listen);
	if (!is_loopback(s->control))
		log_warn("dev", "--control %s: whoever can reach it controls the node", s->control);
	return OK;
}

/* ---- the parent's side -------------------------------------------------------------------------------------------- */

/* Binds and lets go, so that a taken port is told before anything is started. */
static enum status port_is_free(const char *address, const char *option, struct error *err)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE},
			*found;
	char host[256], service[8];
	uint16_t port;
	int fd, one = 1, failed;

	if (options_address(address, host, sizeof(host), &port))
		return error_set(err, E_INVALID, "22023", "\"%s\" is not HOST:PORT", address);
	snprintf(service, sizeof(service), "%u", port);
	failed = getaddrinfo(host, service, &hints, &found);
	if (failed)
		return error_set(err, E_IO, "58000", "could not resolve %s: %s; choose another with %s",
			address, gai_strerror(failed), option);
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	failed = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
				 bind(fd, found->ai_addr, found->ai_addrlen) || listen(fd, 1)
			 ? errno
			 : 0;
	freeaddrinfo(found);
	if (fd >= 0)
		close(fd);
	if (failed)
		return error_set(err, E_IO, "58000", "could not bind %s: %s; choose another with %s", address,
			failed == EADDRINUSE ? "address already in use" : strerror(failed), option);
	return OK;
}

/* Our Postgres may have outlived the last node: then its port is taken by right. */
static bool postgres_runs(const struct dev_settings *s)
{
	char path[OPTION_TEXT_MAX + 64], text[32] = "";
	ssize_t n;
	pid_t pid;
	int fd;

	snprintf(path, sizeof(path), "%s/pg/pgdata/postmaster.pid", s->data);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	pid = n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
	return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM);
}

static enum status ports_are_free(const struct dev_settings *s, struct error *err)
{
	char postgres[32];
	enum status st;

	snprintf(postgres, sizeof(postgres), "127.0.0.1:%d", (int)s->pg_port);
	if ((st = port_is_free(s->listen, "--listen", err)) || (st = port_is_free(s->http, "--http", err)) ||
		(st = port_is_free(s->control, "--control", err)))
		return st;
	return s->attach[0] || postgres_runs(s) ? OK : port_is_free(postgres, "--pg-port", err);
}

int dev_parent(const struct dev_settings *s, int argc, char *const *argv)
{
	char flag[48], crash_dir[OPTION_TEXT_MAX + 16], *child_argv[ARGV_MAX];
	struct error err = {0};
	struct parent_spec spec = {.argv = child_argv, .crash_dir = crash_dir, .stop_ms = PARENT_PATIENCE_MS};
	int lock_fd, pipe_fds[2];

	if (argc + 2 > ARGV_MAX) {
		log_error("dev", "too many words on the command line");
		return NODE_USAGE;
	}
	if (datadir_open(s->data, &lock_fd, &err) || ports_are_free(s, &err)) {
		fprintf(stderr, "multigres: %s\n%s%s%s", err.text, err.hint[0] ? "hint: " : "", err.hint,
			err.hint[0] ? "\n" : "");
		return NODE_FAILED;
	}
	if (pipe(pipe_fds)) {
		log_error("dev", "pipe: %s", strerror(errno));
		return NODE_FAILED;
	}
	fcntl(pipe_fds[0], F_SETFD, FD_CLOEXEC);
	memcpy(child_argv, argv, (size_t)argc * sizeof(*argv));
	snprintf(flag, sizeof(flag), "--foreground-child=%d", pipe_fds[1]);
	child_argv[argc] = flag;
	child_argv[argc + 1] = NULL;
	snprintf(crash_dir, sizeof(crash_dir), "%s/crash", s->data);
	spec.notify_fd = pipe_fds[0];
	spec.child_fd = pipe_fds[1];
	return parent_run(&spec);
}
