/* Postgres's texts: versions, postmaster.pid, configuration. Pure. */
#include "actors/tablet/postgres.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

enum status postgres_version_parse(const char *text, uint32_t *major, uint32_t *number)
{
	const char *p = strstr(text, "(PostgreSQL) ");
	unsigned long a, b = 0;
	char *end;

	if (!p)
		return E_INVALID;
	p += strlen("(PostgreSQL) ");
	if (!isdigit((unsigned char)*p))
		return E_INVALID;
	a = strtoul(p, &end, 10);
	if (*end == '.' && isdigit((unsigned char)end[1]))
		b = strtoul(end + 1, NULL, 10);
	if (a == 0 || a > 999 || b > 9999)
		return E_INVALID;
	*major = (uint32_t)a;
	*number = (uint32_t)(a * 10000 + b);
	return OK;
}

/* Copies the next line; false at the end of the text. *cut: it didn't fit. */
static bool next_line(const char **p, const char *end, char *out, size_t cap, bool *cut)
{
	const char *nl;
	size_t n;

	if (*p >= end)
		return false;
	nl = memchr(*p, '\n', (size_t)(end - *p));
	n = (size_t)((nl ? nl : end) - *p);
	*cut = n >= cap;
	memcpy(out, *p, *cut ? cap - 1 : n);
	out[*cut ? cap - 1 : n] = '\0';
	*p = nl ? nl + 1 : end;
	return true;
}

static bool parse_int(const char *text, int64_t min, int64_t max, int64_t *out)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	while (*end == ' ')
		end++;
	if (end == text || *end || errno || v < min || v > max)
		return false;
	*out = v;
	return true;
}

static enum postmaster_status status_of(const char *text)
{
	static const struct {
		const char *text;
		enum postmaster_status status;
	} names[] = {{"starting", POSTMASTER_STARTING}, {"stopping", POSTMASTER_STOPPING},
		{"ready", POSTMASTER_READY}, {"standby", POSTMASTER_STANDBY}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strncmp(text, names[i].text, strlen(names[i].text)) == 0)
			return names[i].status;
	}
	return POSTMASTER_UNKNOWN;
}

enum status postmaster_pid_parse(const char *text, size_t n, struct postmaster_pid *out)
{
	const char *p = text, *end = text + n;
	char line[POSTGRES_PATH_MAX + 1];
	int64_t v;
	bool cut;

	*out = (struct postmaster_pid){0};
	if (n == 0)
		return E_AGAIN;
	for (int i = 1; i <= 8 && next_line(&p, end, line, sizeof(line), &cut); i++) {
		if (cut)
			return E_INVALID;
		if (i == 1) {
			if (!parse_int(line, 1, INT32_MAX, &v))
				return E_INVALID;
			out->pid = (int32_t)v;
		} else if (i == 2) {
			str_copy(out->data_dir, sizeof(out->data_dir), line);
		} else if (i == 3) {
			if (!parse_int(line, 0, INT64_MAX, &out->started))
				return E_INVALID;
		} else if (i == 4) {
			if (!parse_int(line, 0, 65535, &v))
				return E_INVALID;
			out->port = (uint32_t)v;
		} else if (i == 5) {
			str_copy(out->socket_dir, sizeof(out->socket_dir), line);
		} else if (i == 8) {
			out->status = status_of(line);
		}
	}
	return out->data_dir[0] ? OK : E_AGAIN;
}

enum status proc_stat_parse(const char *text, char *state, uint64_t *start_ticks)
{
	const char *p = strrchr(text, ')'); /* the name, field 2, may hold anything */
	char *end;

	if (!p || p[1] != ' ' || !p[2])
		return E_INVALID;
	p += 2;
	*state = *p;
	for (int field = 3; field < 22; field++) {
		p = strchr(p, ' ');
		if (!p)
			return E_INVALID;
		p++;
	}
	*start_ticks = strtoull(p, &end, 10);
	return end == p ? E_INVALID : OK;
}

void postgres_write_quoted(struct writer *w, const char *text)
{
	writer_u8(w, '\'');
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			writer_u8(w, (uint8_t)*text);
		writer_u8(w, (uint8_t)*text);
	}
	writer_u8(w, '\'');
}

void postgres_write_conf(struct writer *w, const struct postgres_settings *s)
{
	writer_text(w,
		"# Written by Multigres at each start of the tablet; changes here are lost.\n"
		"# Put your own settings into postgresql.conf after the line that includes this file.\n");
	writer_printf(w, "port = %u\n", s->port);
	writer_text(w, "listen_addresses = '127.0.0.1'\nunix_socket_directories = ");
	postgres_write_quoted(w, s->socket_dir);
	writer_text(w, "\nunix_socket_permissions = 0700\n");
	writer_printf(w, "max_connections = %u\n", s->max_connections);
	writer_text(w, "hba_file = 'multigres_hba.conf'\n"
		       "password_encryption = 'scram-sha-256'\n"
		       "wal_level = 'replica'\n"
		       "hot_standby = on\n"
		       "max_wal_senders = 10\n"
		       "max_replication_slots = 10\n"
		       "wal_log_hints = on\n"
		       "restart_after_crash = off\n" /* the tablet restarts it, and tells who watches */
		       "logging_collector = off\n" /* stderr goes to the tablet's postgres.log */
		       "log_line_prefix = '%m [%p] '\n");
}

void postgres_write_hba(struct writer *w)
{
	writer_text(w, "# Written by Multigres. The local socket lies in a directory that only Multigres may "
		       "enter.\n"
		       "local all all trust\n"
		       "local replication all trust\n"
		       "host all all 127.0.0.1/32 scram-sha-256\n"
		       "host all all ::1/128 scram-sha-256\n"
		       "host replication all 127.0.0.1/32 scram-sha-256\n"
		       "host replication all ::1/128 scram-sha-256\n");
}

bool postgres_conf_includes(const char *text, const char *file)
{
	const char *p = text, *end = text + strlen(text);
	char line[POSTGRES_PATH_MAX + 1];
	bool cut;

	while (next_line(&p, end, line, sizeof(line), &cut)) {
		const char *q = line + strspn(line, " \t");

		if (strncmp(q, "include", 7) == 0 && strstr(q, file))
			return true;
	}
	return false;
}

static uint32_t path_hash(const char *path)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *path; path++)
		h = (h ^ (uint8_t)*path) * 16777619u;
	return h;
}

void postgres_socket_dir(const char *base, uid_t uid, char out[POSTGRES_SOCKET_MAX + 1])
{
	if (strlen(base) + strlen("/sock/.s.PGSQL.65535.lock") <= POSTGRES_SOCKET_MAX)
		snprintf(out, POSTGRES_SOCKET_MAX + 1, "%.90s/sock", base);
	else
		snprintf(out, POSTGRES_SOCKET_MAX + 1, "/tmp/multigres-%u-%08x", (unsigned)uid,
			path_hash(base));
}
