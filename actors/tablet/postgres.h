/*
 * What we know of Postgres's files and texts (manual, chapters "Server Configuration" and "Database File Layout";
 * src/include/utils/pidfile.h). Pure functions first; those of postgres_files.c touch the disk and are called on
 * helper threads only.
 *
 *	BASE/pgdata		the cluster; holds `multigres.mark`, written before it got this name
 *	BASE/pgdata.new		a cluster that initdb is making; never started, never taken for a cluster
 *	BASE/postgres.log	stdout and stderr of Postgres and initdb
 *	BASE/sock		0700: the private socket (or a short path under /tmp when that is too long)
 */
#ifndef ACTORS_TABLET_POSTGRES_H
#define ACTORS_TABLET_POSTGRES_H

#include <sys/types.h>

#include "runtime/base/buf.h"
#include "runtime/base/status.h"

enum {
	POSTGRES_OLDEST_MAJOR = 15,
	POSTGRES_PATH_MAX = 511, /* bytes of a path of ours */
	POSTGRES_SOCKET_MAX = 100, /* bytes of a socket's path; the kernel takes 107 */
	POSTGRES_LOG_TAIL = 600, /* bytes of the log shown with an error */
};

/* ---- pure -------------------------------------------------------------------------------------------------- */

/* "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)" or "16beta1": major, and server_version_num (0 minor if none). */
enum status postgres_version_parse(const char *text, uint32_t *major, uint32_t *number) MUST_CHECK;

enum postmaster_status {
	POSTMASTER_UNKNOWN,
	POSTMASTER_STARTING,
	POSTMASTER_STOPPING,
	POSTMASTER_READY,
	POSTMASTER_STANDBY
};

/* postmaster.pid, line by line; Postgres writes the later lines as it gets there. */
struct postmaster_pid {
	int32_t pid;
	char data_dir[POSTGRES_PATH_MAX + 1];
	int64_t started; /* seconds since 1970 */
	uint32_t port; /* 0: not written yet */
	char socket_dir[POSTGRES_PATH_MAX + 1];
	enum postmaster_status status;
};

/* E_AGAIN: empty, being written; E_INVALID: not such a file. */
enum status postmaster_pid_parse(const char *text, size_t n, struct postmaster_pid *out) MUST_CHECK;

/* /proc/PID/stat: the state letter and field 22, clock ticks since boot at which it started. */
enum status proc_stat_parse(const char *text, char *state, uint64_t *start_ticks) MUST_CHECK;

struct postgres_settings {
	uint32_t port, max_connections;
	const char *socket_dir;
};

/* The text of multigres.conf, included from postgresql.conf, and of multigres_hba.conf. */
void postgres_write_conf(struct writer *w, const struct postgres_settings *s);
void postgres_write_hba(struct writer *w);
/* A string in a configuration file: in quotes, quotes and backslashes doubled. */
void postgres_write_quoted(struct writer *w, const char *text);
/* True when the text has a line that includes `file`. */
bool postgres_conf_includes(const char *text, const char *file);
/* BASE/sock if a socket in it has a path short enough; else /tmp/multigres-UID-HASH. */
void postgres_socket_dir(const char *base, uid_t uid, char out[POSTGRES_SOCKET_MAX + 1]);

/* ---- on helper threads ------------------------------------------------------------------------------------- */

struct postgres_place {
	char base[POSTGRES_PATH_MAX + 1];
	char socket_dir[POSTGRES_SOCKET_MAX + 1];
	int64_t uid, gid; /* who Postgres runs as; -1: as we do */
	uint32_t major, port, max_connections;
};

/* hint: the only directory looked at; "": the newest of /usr/lib/postgresql/N/bin from 15 on, then PATH. */
enum status postgres_find_binaries(
	const char *hint, char out[POSTGRES_PATH_MAX + 1], struct error *err) MUST_CHECK;
/* Who Postgres runs as: run_as, or for root "postgres", or "nobody"; uid -1 when we aren't root. */
enum status postgres_find_user(const char *run_as, int64_t *uid, int64_t *gid, struct error *err) MUST_CHECK;
/* Makes base and socket directories with the right owner; refuses what isn't ours or can't be reached. */
enum status postgres_prepare(const struct postgres_place *p, struct error *err) MUST_CHECK;
/* *exists: BASE/pgdata is a cluster of ours and of this version. Otherwise the way is free for initdb, else an error. */
enum status postgres_inspect(const struct postgres_place *p, bool *exists, struct error *err) MUST_CHECK;
/* Marks what initdb made as ours and gives it its name. Never replaces anything. */
enum status postgres_install(const struct postgres_place *p, struct error *err) MUST_CHECK;
enum status postgres_configure(const struct postgres_place *p, struct error *err) MUST_CHECK;
/* The postmaster of this cluster that runs now; 0: none. A pid that was reused by another program is none. */
enum status postgres_find_running(const struct postgres_place *p, int32_t *pid, struct error *err) MUST_CHECK;
/* The log's last lines, on one line. */
void postgres_log_tail(const struct postgres_place *p, char *out, size_t cap);

#endif
