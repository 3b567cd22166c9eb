/*
 * Options from tables: defaults, environment, command line, help. Pure but for getenv; used before any thread starts.
 * Every failure is written here, where it is born: option, value, what is allowed, what was probably meant.
 */
#include "runtime/base/options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

enum { NAME_MAX_BYTES = 64, HELP_COLUMN = 26, NEAREST_MAX = 3 };

/* ---- values ------------------------------------------------------------------------------------------------ */

enum status options_duration(const char *text, int64_t *ms)
{
	static const struct {
		const char *unit;
		int64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}};
	char *end;
	long long n;

	if (!isdigit((unsigned char)text[0]))
		return E_INVALID;
	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno || n > INT64_MAX / 3600000)
		return E_INVALID;
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (strcmp(end, units[i].unit) == 0) {
			*ms = n * units[i].ms;
			return OK;
		}
	return E_INVALID;
}

enum status options_address(const char *text, char *host, size_t host_cap, uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	size_t n;
	char *end;
	unsigned long v;

	if (!colon || colon == text || !isdigit((unsigned char)colon[1]))
		return E_INVALID;
	v = strtoul(colon + 1, &end, 10);
	if (*end || v < 1 || v > 65535)
		return E_INVALID;
	n = (size_t)(colon - text);
	if (text[0] == '[') {
		if (n < 3 || text[n - 1] != ']')
			return E_INVALID;
		text++;
		n -= 2;
	} else if (memchr(text, ':', n)) {
		return E_INVALID; /* a bare IPv6 address: where does the port begin? */
	}
	*port = (uint16_t)v;
	if (!host)
		return OK;
	if (n >= host_cap)
		return E_INVALID;
	memcpy(host, text, n);
	host[n] = '\0';
	return OK;
}

static bool parse_bool(const char *text, bool *out)
{
	static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {
									     "no", "false", "off", "0"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
			*out = strcasecmp(text, yes[i]) == 0;
			return true;
		}
	}
	return false;
}

static bool parse_number(const char *text, int64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)text[0]) && text[0] != '-')
		return false;
	errno = 0;
	*out = strtoll(text, &end, 10);
	return !errno && !*end && end != text;
}

static bool in_range(const struct option *o, int64_t v)
{
	return (o->min == 0 && o->max == 0) || (v >= o->min && v <= o->max);
}

static const char *duration_text(int64_t ms, char *text, size_t cap)
{
	if (ms % 3600000 == 0 && ms)
		snprintf(text, cap, "%lldh", (long long)(ms / 3600000));
	else if (ms % 60000 == 0 && ms)
		snprintf(text, cap, "%lldmin", (long long)(ms / 60000));
	else if (ms % 1000 == 0)
		snprintf(text, cap, "%llds", (long long)(ms / 1000));
	else
		snprintf(text, cap, "%lldms", (long long)ms);
	return text;
}

/* What a value of the option may be, for error texts. */
static const char *allowed(const struct option *o, char *text, size_t cap)
{
	bool bounded = o->min || o->max;
	char a[32], b[32];
	size_t n;

	switch (o->type) {
	case OPTION_BOOL:
		return "yes or no";
	case OPTION_NUMBER:
		if (bounded)
			snprintf(text, cap, "a number%s%s from %lld to %lld", o->unit ? " of " : "",
				o->unit ? o->unit : "", (long long)o->min, (long long)o->max);
		else
			snprintf(text, cap, "a whole number");
		return text;
	case OPTION_DURATION:
		if (bounded)
			snprintf(text, cap, "a duration from %s to %s, such as 500ms, 10s, 5min or 1h",
				duration_text(o->min, a, sizeof(a)), duration_text(o->max, b, sizeof(b)));
		else
			snprintf(text, cap, "a duration such as 500ms, 10s, 5min or 1h");
		return text;
	case OPTION_ADDRESS:
		snprintf(text, cap, "HOST:PORT or [IPV6]:PORT with a port from %lld to %lld",
			(long long)(bounded ? o->min : 1), (long long)(bounded ? o->max : 65535));
		return text;
	case OPTION_CHOICE:
		n = (size_t)snprintf(text, cap, "one of");
		for (size_t i = 0; o->choices[i] && n < cap; i++)
			n += (size_t)snprintf(text + n, cap - n, "%s %s", i ? "," : "", o->choices[i]);
		return text;
	case OPTION_TEXT:
	case OPTION_PATH:
		break;
	}
	snprintf(text, cap, "at most %d bytes", OPTION_TEXT_MAX - 1);
	return text;
}

static bool set_path(const char *value, char *out)
{
	const char *home = getenv("HOME");
	int n;

	if (value[0] == '~' && (value[1] == '/' || !value[1]) && home)
		n = snprintf(out, OPTION_TEXT_MAX, "%s%s", home, value + 1);
	else
		n = snprintf(out, OPTION_TEXT_MAX, "%s", value);
	return n >= 0 && n < OPTION_TEXT_MAX;
}

static bool set_value(const struct option *o, const char *value, void *config)
{
	void *at = (char *)config + o->offset;
	int64_t v = 0;
	uint16_t port;

	switch (o->type) {
	case OPTION_TEXT:
		return str_copy(at, OPTION_TEXT_MAX, value);
	case OPTION_PATH:
		return set_path(value, at);
	case OPTION_ADDRESS:
		return !options_address(value, NULL, 0, &port) && in_range(o, port) &&
		       str_copy(at, OPTION_TEXT_MAX, value);
	case OPTION_BOOL:
		return parse_bool(value, at);
	case OPTION_NUMBER:
		if (!parse_number(value, &v) || !in_range(o, v))
			return false;
		break;
	case OPTION_DURATION:
		if (options_duration(value, &v) || !in_range(o, v))
			return false;
		break;
	case OPTION_CHOICE:
		for (v = 0; o->choices[v] && strcmp(o->choices[v], value) != 0; v++)
			;
		if (!o->choices[v])
			return false;
		break;
	}
	*(int64_t *)at = v;
	return true;
}

static enum status bad_value(const struct option *o, const char *called, const char *value, struct error *err)
{
	char text[256];

	return error_set(err, E_INVALID, "22023", "invalid value \"%.200s\" for %s: expected %s", value,
		called, allowed(o, text, sizeof(text)));
}

/* ---- environment and defaults ------------------------------------------------------------------------------- */

static void env_name(const struct option_set *set, const struct option *o, char name[NAME_MAX_BYTES * 2])
{
	size_t n = (size_t)snprintf(name, NAME_MAX_BYTES * 2, "%s_%s", set->env_prefix, o->name);

	for (size_t i = 0; i < n && name[i]; i++)
		name[i] = name[i] == '-' ? '_' : (char)toupper((unsigned char)name[i]);
}

enum status options_defaults(const struct option_set *set, void *config, struct error *err)
{
	for (size_t i = 0; i < set->n; i++) {
		const struct option *o = &set->options[i];
		char variable[NAME_MAX_BYTES * 2];
		const char *value;

		if (o->initial)
			check(set_value(o, o->initial, config));
		else if (o->type == OPTION_CHOICE)
			*(int64_t *)(void *)((char *)config + o->offset) = -1;
		if (!set->env_prefix || o->hidden)
			continue;
		env_name(set, o, variable);
		value = getenv(variable);
		if (value && *value && !set_value(o, value, config))
			return bad_value(o, variable, value, err);
	}
	return OK;
}

/* ---- nearest ------------------------------------------------------------------------------------------------ */

/* Edit distance with neighbour swaps (optimal string alignment); words are short, so rows on the stack do. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][NAME_MAX_BYTES + 1];
	size_t na = strnlen(a, NAME_MAX_BYTES), nb = strnlen(b, NAME_MAX_BYTES);

	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *now = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				above2[j - 2] + 1 < best)
				best = above2[j - 2] + 1;
			now[j] = best;
		}
	}
	return rows[na % 3][nb];
}

const char *options_nearest(const char *typed, const char *const *words)
{
	const char *best = NULL;
	unsigned least = NEAREST_MAX + 1;

	for (size_t i = 0; words[i]; i++) {
		unsigned d = distance(typed, words[i]);

		if (strlen(typed) >= 3 && strncmp(typed, words[i], strlen(typed)) == 0)
			d = 1; /* a beginning of it */
		if (d < least && d < strlen(words[i])) {
			least = d;
			best = words[i];
		}
	}
	return best;
}

/* ---- command line ------------------------------------------------------------------------------------------- */

static const struct option *find(const struct option_set *set, const char *name, size_t len)
{
	for (size_t i = 0; i < set->n; i++)
		if (strlen(set->options[i].name) == len && memcmp(set->options[i].name, name, len) == 0)
			return &set->options[i];
	return NULL;
}

static enum status unknown(const struct option_set *set, const char *name, size_t len, struct error *err)
{
	const char *words[128], *meant;
	char typed[NAME_MAX_BYTES];
	size_t n = 0;

	for (size_t i = 0; i < set->n && n + 2 < ARRAY_LEN(words); i++)
		if (!set->options[i].hidden)
			words[n++] = set->options[i].name;
	words[n++] = "help";
	words[n] = NULL;
	snprintf(typed, sizeof(typed), "%.*s", (int)len, name);
	meant = options_nearest(typed, words);
	error_set(err, E_INVALID, "22023", "unknown option --%s%s%s%s", typed,
		meant ? ": did you mean --" : "", meant ? meant : "", meant ? "?" : "");
	error_hint(err, "--help lists all options");
	return E_INVALID;
}

/* Reads the option at argv[*i]; moves *i on when its value is the next word. */
static enum status parse_one(
	const struct option_set *set, int argc, char *const *argv, int *i, void *config, struct error *err)
{
	const char *name = argv[*i] + 2, *equals = strchr(name, '='), *value = equals ? equals + 1 : NULL;
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct option *o = find(set, name, len);
	char called[NAME_MAX_BYTES + 3];

	if (!o && len > 3 && strncmp(name, "no-", 3) == 0 && !value) {
		o = find(set, name + 3, len - 3);
		if (o && o->type == OPTION_BOOL)
			value = "no";
		else
			o = NULL;
	}
	if (!o)
		return unknown(set, name, len, err);
	if (o->type == OPTION_BOOL && !value)
		value = "yes";
	snprintf(called, sizeof(called), "--%s", o->name);
	if (!value && *i + 1 < argc)
		value = argv[++*i];
	if (!value) {
		char text[256];

		return error_set(err, E_INVALID, "22023", "option %s needs a value: %s", called,
			allowed(o, text, sizeof(text)));
	}
	if (!set_value(o, value, config))
		return bad_value(o, called, value, err);
	return OK;
}

enum status options_parse(const struct option_set *set, int argc, char *const *argv, bool first_only,
	void *config, struct option_rest *rest, struct error *err)
{
	bool only_words = false;

	for (int i = 0; i < argc; i++) {
		const char *word = argv[i];

		if (!only_words && strcmp(word, "--") == 0) {
			only_words = true;
		} else if (!only_words && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
			rest->help = true;
			return OK;
		} else if (!only_words && strncmp(word, "--", 2) == 0) {
			enum status st = parse_one(set, argc, argv, &i, config, err);

			if (st)
				return st;
		} else if (!only_words && word[0] == '-' && word[1]) {
			error_set(err, E_INVALID, "22023", "unknown option %.60s", word);
			error_hint(err, "options have long names; --help lists them");
			return E_INVALID;
		} else if (rest->n == OPTION_ARGS_MAX) {
			return error_set(err, E_INVALID, "22023", "too many words: \"%.100s\"", word);
		} else {
			rest->args[rest->n++] = word;
			if (first_only) { /* the rest is for whom the word names */
				while (++i < argc && rest->n < OPTION_ARGS_MAX)
					rest->args[rest->n++] = argv[i];
				if (i < argc)
					return error_set(err, E_INVALID, "22023", "too many words");
				return OK;
			}
		}
	}
	return OK;
}

/* ---- help --------------------------------------------------------------------------------------------------- */

static const char *value_word(const struct option *o)
{
	static const char *const words[] = {"TEXT", "PATH", "HOST:PORT", "", "N", "DURATION", ""};

	return o->value ? o->value : words[o->type];
}

static void help_option(const struct option *o, struct writer *out)
{
	char left[256];
	size_t n = (size_t)snprintf(left, sizeof(left), "  --%s %s", o->name, value_word(o));

	if (o->type == OPTION_CHOICE && !o->value)
		for (size_t i = 0; o->choices[i] && n < sizeof(left); i++)
			n += (size_t)snprintf(
				left + n, sizeof(left) - n, "%s%s", i ? "|" : "", o->choices[i]);
	writer_printf(out, "%-*s", HELP_COLUMN, left);
	if (strlen(left) >= HELP_COLUMN)
		writer_printf(out, "\n%*s", HELP_COLUMN, "");
	writer_printf(out, "%s", o->help);
	if (o->type == OPTION_NUMBER && (o->min || o->max) && o->max < INT32_MAX)
		writer_printf(out, ", %lld to %lld", (long long)o->min, (long long)o->max);
	if (o->initial && o->type != OPTION_BOOL)
		writer_printf(out, " (%s)", o->initial);
	writer_text(out, "\n");
}

void options_help(const struct option_set *set, struct writer *out)
{
	writer_printf(out, "usage: %s\n\n%s\n\noptions (default in brackets):\n", set->usage, set->about);
	for (size_t i = 0; i < set->n; i++)
		if (!set->options[i].hidden)
			help_option(&set->options[i], out);
	writer_printf(out, "%-*s%s\n", HELP_COLUMN, "  --help", "this text");
	if (set->env_prefix)
		writer_printf(out,
			"\nEach option can be set in the environment as %s_NAME, with _ for -; the command "
			"line wins.\n",
			set->env_prefix);
}
