/* What `multigres dev` was told, and the node made of it. */
#ifndef SUPERVISOR_DEV_H
#define SUPERVISOR_DEV_H

#include "runtime/base/options.h"

enum { PORT_MAX = 32767, PORT_MIN = 1024, STOP_MS = 20000 };

struct dev_settings {
	char data[OPTION_TEXT_MAX], listen[OPTION_TEXT_MAX], http[OPTION_TEXT_MAX], control[OPTION_TEXT_MAX];
	char attach[OPTION_TEXT_MAX], pg_bin[OPTION_TEXT_MAX];
	char tls_cert[OPTION_TEXT_MAX], tls_key[OPTION_TEXT_MAX], tls_ca[OPTION_TEXT_MAX];
	int64_t pg_port, workers, auth, pool_size, max_clients, wait_timeout_ms, log_level;
	int64_t child_fd; /* --foreground-child: the parent's pipe; -1: we are the parent */
};

enum dev_auth { DEV_TRUST, DEV_SCRAM };

extern const struct option_set dev_options;

/* What the table can't say: what depends on more than one option. Fills in the defaults that depend on others. */
enum status dev_settings_check(struct dev_settings *s, struct error *err) MUST_CHECK;
/* The parent's side: locks the data directory, sees that the ports are free, keeps the child alive. Gives the code. */
int dev_parent(const struct dev_settings *s, int argc, char *const *argv);
/* The child's side: the node itself. Gives an enum node_exit. */
int dev_node(struct dev_settings *s);

#endif
