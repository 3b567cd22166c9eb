/*
 * Command lines and environment from a table. Each option `name` is --name VALUE (or --name=VALUE) and, when the set
 * has a prefix, the variable PREFIX_NAME; the command line wins, then the environment, then the default.
 *
 * Values go straight into the program's own config struct at `offset`:
 *	OPTION_TEXT PATH ADDRESS    char[OPTION_TEXT_MAX]; a PATH's leading ~/ becomes $HOME; an ADDRESS is HOST:PORT
 *	OPTION_BOOL                 bool; --name, --no-name, --name=yes|no
 *	OPTION_NUMBER               int64_t, from min to max
 *	OPTION_DURATION             int64_t milliseconds; 250ms 10s 5min 1h; min and max in milliseconds
 *	OPTION_CHOICE               int64_t: index into choices, -1 when there is neither value nor default
 *
 * Errors are E_INVALID with a text that names the option, the value and what is allowed; programs exit with 2.
 */
#ifndef RUNTIME_BASE_OPTIONS_H
#define RUNTIME_BASE_OPTIONS_H

#include "runtime/base/buf.h"

enum { OPTION_TEXT_MAX = 1024, OPTION_ARGS_MAX = 16, OPTION_HELP_MAX = 64 << 10 };

enum option_type {
	OPTION_TEXT,
	OPTION_PATH,
	OPTION_ADDRESS,
	OPTION_BOOL,
	OPTION_NUMBER,
	OPTION_DURATION,
	OPTION_CHOICE,
};

struct option {
	const char *name;
	enum option_type type;
	size_t offset; /* offsetof(struct config, member) */
	const char *value; /* how help calls the value: "HOST:PORT"; NULL: by type */
	const char *initial; /* the default, as one would type it; NULL: empty, 0, false, -1 */
	const char *help; /* one line; no full stop */
	int64_t min, max; /* numbers, durations, an address's port; both 0: unbounded */
	const char *unit; /* of a number, for people: "clients" */
	const char *const *choices; /* NULL-terminated */
	bool hidden; /* not in --help; not read from the environment */
};

struct option_set {
	const char *usage; /* "multigres dev [OPTION]..." */
	const char *about; /* a paragraph for --help */
	const char *env_prefix; /* "MULTIGRES"; NULL: environment not read */
	const struct option *options;
	size_t n;
};

/* What was on the command line besides options. Borrows argv's strings. */
struct option_rest {
	const char *args[OPTION_ARGS_MAX];
	size_t n;
	bool help; /* --help or -h was given: nothing after it was looked at */
};

/* Fills config with defaults, then the environment. */
enum status options_defaults(const struct option_set *set, void *config, struct error *err) MUST_CHECK;
/* Reads argv[0..argc), without the program's name. first_only: stops at the first word that is no option. */
enum status options_parse(const struct option_set *set, int argc, char *const *argv, bool first_only,
	void *config, struct option_rest *rest, struct error *err) MUST_CHECK;
/* Usage, about, and the options in aligned columns with their defaults and variables. */
void options_help(const struct option_set *set, struct writer *out);
/* The word of `words` (NULL-terminated) that was probably meant, or NULL. Also for verbs. */
const char *options_nearest(const char *typed, const char *const *words);

/* Reads 250ms, 10s, 5min, 1h into milliseconds. */
enum status options_duration(const char *text, int64_t *ms) MUST_CHECK;
/* Splits HOST:PORT or [HOST]:PORT; host may be NULL. E_INVALID unless the port is from 1 to 65535. */
enum status options_address(const char *text, char *host, size_t host_cap, uint16_t *port) MUST_CHECK;

#endif
