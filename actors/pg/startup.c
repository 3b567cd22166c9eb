/* The first packet of a connection. See startup.h. Pure. */
#include "actors/pg/startup.h"

#include <string.h>
#include <strings.h>

#include "actors/pg/pgerror.h"
#include "actors/pg/wire.h"
#include "actors/pg/wire_build.h"
#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

enum { FIRST_HEADER = 8 };

enum status startup_peek(const uint8_t *p, uint32_t n, uint32_t *len)
{
	if (n < 4)
		return E_AGAIN;
	*len = load_be32(p);
	return *len < FIRST_HEADER || *len > STARTUP_PACKET_MAX ? E_PROTOCOL : OK;
}

static enum status read_cancel(struct wire_cursor *c, struct startup *out, struct error *err)
{
	out->kind = STARTUP_CANCEL;
	out->pid = (uint32_t)wire_get_i32(c);
	out->secret_len = wire_left(c);
	out->secret = wire_get_bytes(c, out->secret_len);
	if (c->failed || out->secret_len < WIRE_SECRET_MIN || out->secret_len > WIRE_SECRET_MAX)
		return error_set(err, E_PROTOCOL, SQLSTATE_PROTOCOL_VIOLATION,
			"invalid length of query cancel packet");
	return OK;
}

static bool is_prefix_of(const char *text, const char *word, size_t at_least)
{
	size_t n = strlen(text);

	return n >= at_least && strncasecmp(text, word, n) == 0;
}

bool startup_parse_bool(const char *text, bool *out)
{
	*out = is_prefix_of(text, "true", 1) || is_prefix_of(text, "yes", 1) || is_prefix_of(text, "on", 2) ||
	       strcmp(text, "1") == 0;
	return *out || is_prefix_of(text, "false", 1) || is_prefix_of(text, "no", 1) ||
	       is_prefix_of(text, "off", 2) || strcmp(text, "0") == 0;
}

static enum status read_replication(const char *value, struct startup *out, struct error *err)
{
	bool on;

	if (strcmp(value, "database") == 0) {
		out->replication = STARTUP_LOGICAL;
		return OK;
	}
	if (startup_parse_bool(value, &on)) {
		out->replication = on ? STARTUP_PHYSICAL : STARTUP_NO_REPLICATION;
		return OK;
	}
	error_set(err, E_INVALID, SQLSTATE_INVALID_PARAMETER_VALUE,
		"invalid value for parameter \"%s\": \"%s\"", "replication", value);
	error_hint(err, "Valid values are: \"false\", 0, \"true\", 1, \"database\".");
	return E_INVALID;
}

static bool is_pq_option(const char *name)
{
	return strncmp(name, "_pq_.", 5) == 0;
}

/* All names and values up to the empty name, which must be the packet's last byte. A name given twice: the last. */
static enum status read_parameters(struct wire_cursor *c, struct startup *out, struct error *err)
{
	enum status st;

	out->pairs = (const char *)c->p;
	for (;;) {
		const char *name = wire_get_cstring(c), *value;

		if (!*name)
			break;
		value = wire_get_cstring(c);
		if (c->failed)
			break;
		if (strcmp(name, "user") == 0) {
			str_copy(out->user, sizeof(out->user), value);
		} else if (strcmp(name, "database") == 0) {
			str_copy(out->database, sizeof(out->database), value);
		} else if (strcmp(name, "options") == 0) {
			out->options = value;
		} else if (strcmp(name, "replication") == 0) {
			st = read_replication(value, out, err);
			if (st)
				return st;
		} else if (is_pq_option(name)) {
			out->n_pq_options++;
		} else if (strcmp(name, "application_name") == 0) {
			out->application_name = value;
		}
	}
	if (wire_cursor_end(c))
		return error_set(err, E_PROTOCOL, SQLSTATE_PROTOCOL_VIOLATION,
			"invalid startup packet layout: expected terminator as last byte");
	out->pairs_end = (const char *)c->p - 1;
	return OK;
}

static enum status read_session(struct wire_cursor *c, struct startup *out, struct error *err)
{
	uint32_t major = out->version >> 16, minor = out->version & 0xffff;
	enum status st;

	out->kind = STARTUP_SESSION;
	if (major != 3)
		return error_set(err, E_UNSUPPORTED, SQLSTATE_FEATURE_NOT_SUPPORTED,
			"unsupported frontend protocol %u.%u: server supports 3.0 to 3.%u", major, minor,
			(unsigned)STARTUP_NEWEST_MINOR);
	out->minor = minor < STARTUP_NEWEST_MINOR ? minor : STARTUP_NEWEST_MINOR;
	st = read_parameters(c, out, err);
	if (st)
		return st;
	out->negotiate = minor > STARTUP_NEWEST_MINOR || out->n_pq_options > 0;
	if (!out->user[0])
		return error_set(err, E_INVALID, SQLSTATE_INVALID_AUTHORIZATION_SPECIFICATION,
			"no PostgreSQL user name specified in startup packet");
	if (!out->database[0])
		str_copy(out->database, sizeof(out->database), out->user);
	if (out->replication == STARTUP_PHYSICAL)
		out->database[0] = '\0';
	return OK;
}

enum status startup_read(const uint8_t *packet, uint32_t n, struct startup *out, struct error *err)
{
	struct wire_cursor c = wire_cursor(packet, n);
	uint32_t len = (uint32_t)wire_get_i32(&c);

	*out = (struct startup){.version = (uint32_t)wire_get_i32(&c)};
	if (c.failed || len != n || n > STARTUP_PACKET_MAX)
		return error_set(
			err, E_PROTOCOL, SQLSTATE_PROTOCOL_VIOLATION, "invalid length of startup packet");
	switch (out->version) {
	case WIRE_CANCEL_CODE:
		return read_cancel(&c, out, err);
	case WIRE_SSL_CODE: /* a body is ignored, as in Postgres */
		out->kind = STARTUP_SSL;
		return OK;
	case WIRE_GSSENC_CODE:
		out->kind = STARTUP_GSSENC;
		return OK;
	default:
		return read_session(&c, out, err);
	}
}

bool startup_next(
	const struct startup *s, bool pq_options, uint32_t *pos, const char **name, const char **value)
{
	static const char *const own[] = {"user", "database", "options", "replication"};
	const char *p = s->pairs + *pos;

	while (p < s->pairs_end) { /* read_parameters saw that it is whole pairs */
		bool wanted = is_pq_option(p) == pq_options;

		*name = p;
		*value = p + strlen(p) + 1;
		p = *value + strlen(*value) + 1;
		for (uint32_t i = 0; i < ARRAY_LEN(own); i++)
			wanted = wanted && strcmp(*name, own[i]) != 0;
		if (wanted) {
			*pos = (uint32_t)(p - s->pairs);
			return true;
		}
	}
	*pos = (uint32_t)(p - s->pairs);
	return false;
}

/* Blanks as isspace knows them in the C locale. */
static bool is_blank(char ch)
{
	return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

/* Copies the next argument, without its backslashes, to `out`, which has room for all of it. False at the end. */
static bool next_argument(const char **options, char *out)
{
	const char *p = *options;
	bool escaped = false;

	while (is_blank(*p))
		p++;
	if (!*p)
		return false;
	for (; *p && (escaped || !is_blank(*p)); p++) {
		if (!escaped && *p == '\\') {
			escaped = true;
		} else {
			escaped = false;
			*out++ = *p;
		}
	}
	*out = '\0';
	*options = p;
	return true;
}

/* Switches of `postgres` that stand for one setting (process_postgres_switches). */
static const struct letter {
	char letter;
	bool has_value;
	const char *name, *value; /* value NULL: the switch's own */
} letters[] = {
	{'B', true, "shared_buffers", NULL},
	{'e', false, "datestyle", "euro"},
	{'F', false, "fsync", "false"},
	{'h', true, "listen_addresses", NULL},
	{'i', false, "listen_addresses", "*"},
	{'k', true, "unix_socket_directories", NULL},
	{'l', false, "ssl", "true"},
	{'N', true, "max_connections", NULL},
	{'O', false, "allow_system_table_mods", "true"},
	{'p', true, "port", NULL},
	{'P', false, "ignore_system_indexes", "true"},
	{'S', true, "work_mem", NULL},
	{'s', false, "log_statement_stats", "true"},
	{'W', true, "post_auth_delay", NULL},
};

static const struct plan_switch {
	char letter;
	const char *name;
} plan_switches[] = {
	{'s', "enable_seqscan"},
	{'i', "enable_indexscan"},
	{'o', "enable_indexonlyscan"},
	{'b', "enable_bitmapscan"},
	{'t', "enable_tidscan"},
	{'n', "enable_nestloop"},
	{'m', "enable_mergejoin"},
	{'h', "enable_hashjoin"},
};

static const char *plan_switch_name(char letter)
{
	for (uint32_t i = 0; i < ARRAY_LEN(plan_switches); i++)
		if (plan_switches[i].letter == letter)
			return plan_switches[i].name;
	return NULL;
}

/* `name=value`, in place: `text` is ours. */
static enum status read_assignment(char *text, bool is_long, struct startup_setting *out, struct error *err)
{
	char *eq = strchr(text, '=');

	if (!eq)
		return error_set(err, E_INVALID, SQLSTATE_SYNTAX_ERROR, "%s%s requires a value",
			is_long ? "--" : "-c ", text);
	*eq = '\0';
	for (char *p = text; *p; p++)
		if (*p == '-')
			*p = '_';
	*out = (struct startup_setting){.name = text, .value = eq + 1};
	return OK;
}

static enum status bad_argument(const char *argument, struct error *err)
{
	return error_set(err, E_INVALID, SQLSTATE_SYNTAX_ERROR,
		"invalid command-line argument for server process: %s", argument);
}

/* The value of a one-letter switch: the rest of its argument, or the whole next one. */
static char *switch_value(char *rest, const char **options, char **spare)
{
	char *value = *spare;

	if (*rest)
		return rest;
	if (!next_argument(options, value))
		return NULL;
	*spare = value + strlen(value) + 1;
	return value;
}

/* One argument such as "-ec" may hold several switches: at most one setting for each character. */
static enum status read_switches(char *argument, const char **options, char **spare,
	struct startup_setting *out, uint32_t *n, struct error *err)
{
	for (char *p = argument + 1; *p; p++) {
		const struct letter *l = NULL;
		char *value;

		if (*p == 'c' || *p == 'f') {
			value = switch_value(p + 1, options, spare);
			if (!value)
				return bad_argument(argument, err);
			if (*p == 'c')
				return read_assignment(value, false, &out[(*n)++], err);
			if (strlen(value) != 1 || !plan_switch_name(*value))
				return bad_argument(argument, err);
			out[(*n)++] = (struct startup_setting){plan_switch_name(*value), "false"};
			return OK;
		}
		for (uint32_t i = 0; i < ARRAY_LEN(letters); i++)
			if (letters[i].letter == *p)
				l = &letters[i];
		if (!l)
			return bad_argument(argument, err);
		if (l->has_value) {
			value = switch_value(p + 1, options, spare);
			if (!value)
				return bad_argument(argument, err);
			out[(*n)++] = (struct startup_setting){l->name, value};
			return OK;
		}
		out[(*n)++] = (struct startup_setting){l->name, l->value};
	}
	return OK;
}

enum status startup_split_options(const char *options, struct arena *a, struct startup_setting **out,
	uint32_t *n_out, struct error *err)
{
	size_t len = strlen(options);
	char *spare; /* where the next argument is unescaped to: all of them fit in len + 1, NULs taking blanks' place */
	struct startup_setting *settings;
	uint32_t n = 0;

	*n_out = 0;
	if (len > STARTUP_PACKET_MAX)
		return error_set(err, E_LIMIT, SQLSTATE_PROGRAM_LIMIT_EXCEEDED, "options are too long");
	spare = arena_alloc(a, len + 1);
	settings = arena_alloc(a, (len + 1) * sizeof(*settings)); /* a setting takes at least one character */
	if (!spare || !settings)
		return error_set(err, E_NOMEM, SQLSTATE_OUT_OF_MEMORY, "out of memory");
	for (;;) {
		char *argument = spare;
		enum status st;

		if (!next_argument(&options, argument))
			break;
		spare += strlen(argument) + 1;
		if (argument[0] != '-' || !argument[1])
			return bad_argument(argument, err);
		if (argument[1] == '-')
			st = read_assignment(argument + 2, true, &settings[n++], err);
		else
			st = read_switches(argument, &options, &spare, settings, &n, err);
		if (st)
			return st;
	}
	*out = settings;
	*n_out = n;
	return OK;
}
