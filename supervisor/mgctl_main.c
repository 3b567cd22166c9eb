/*
 * mgctl: asks a node and shows the answer. Each verb is a row of `verbs`: its words, its help, how it asks. Exit codes:
 * 0 done, 1 refused or failed (why on stderr), 2 usage, 3 no node answered.
 */
#include <inttypes.h>
#include <msgpack.h>
#include <signal.h>
#include <unistd.h>

#include "runtime/base/bytes.h"
#include "runtime/base/options.h"
#include "supervisor/control.h"
#include "supervisor/reader.h"
#include "supervisor/show.h"
#include "supervisor/version.h"

enum { EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, EXIT_NO_NODE };
enum { VERB_WORDS_MAX = 4, TRACE_POLL_MS = 150 };

struct settings {
	char node[OPTION_TEXT_MAX], reason[OPTION_TEXT_MAX];
	bool json, flat;
	int64_t seconds;
};

struct call {
	const struct settings *set;
	const char *const *words; /* after the verb */
	size_t n_words;
	struct control_client *client;
	struct writer args;
	msgpack_packer pk;
};

struct verb {
	const char *name, *words, *about;
	size_t min_words, max_words;
	const struct option *options; /* its own, besides the common ones */
	size_t n_options;
	int (*run)(struct call *c);
};

static volatile sig_atomic_t interrupted;

/* ---- asking ---------------------------------------------------------------------------------------------------- */

static int pack_write(void *data, const char *bytes, size_t n)
{
	writer_put(data, bytes, (uint32_t)n);
	return 0;
}

static void pack_text(struct call *c, const char *s)
{
	msgpack_pack_str(&c->pk, strlen(s));
	msgpack_pack_str_body(&c->pk, s, strlen(s));
}

static void args_begin(struct call *c, uint32_t n)
{
	c->args.len = 0;
	msgpack_packer_init(&c->pk, &c->args, pack_write);
	msgpack_pack_map(&c->pk, n);
}

static void args_add(struct call *c, const char *name, const char *value)
{
	pack_text(c, name);
	pack_text(c, value);
}

static int complain(const struct error *err, int code)
{
	fprintf(stderr, "mgctl: %s\n", err->text);
	if (err->hint[0])
		fprintf(stderr, "hint: %s\n", err->hint);
	return code;
}

/* Asks; on success the answer is the caller's to release. */
static int ask(struct call *c, const char *verb, struct admin_answer *answer)
{
	struct error err = {0};

	if (c->args.failed)
		return complain(&(struct error){.text = "the request is too large"}, EXIT_USAGE);
	if (!c->client && control_client_open(c->set->node, &c->client, &err))
		return complain(&err, EXIT_NO_NODE);
	if (control_client_call(
		    c->client, verb, c->args.buf ? c->args.buf->data : NULL, c->args.len, answer, &err))
		return complain(&err, err.status == E_NODE_DOWN ? EXIT_NO_NODE : EXIT_REFUSED);
	if (answer->status == OK)
		return EXIT_DONE;
	snprintf(err.text, sizeof(err.text), "%s%s", answer->text[0] ? answer->text : "refused: ",
		answer->text[0] ? "" : status_name((enum status)answer->status));
	slice_release(&answer->body);
	return complain(&err, EXIT_REFUSED);
}

static int shown(enum status st)
{
	if (!st)
		return EXIT_DONE;
	return complain(
		&(struct error){.text = "the node's answer makes no sense: it may be of another version"},
		EXIT_REFUSED);
}

static int ask_and_show(struct call *c, const char *verb)
{
	struct admin_answer answer;
	int code = ask(c, verb, &answer);

	if (code)
		return code;
	if (answer.kind == ADMIN_TABLE)
		code = shown(show_table(slice_data(&answer.body), answer.body.len, c->set->json));
	else if (answer.kind == ADMIN_TEXT)
		fwrite(slice_data(&answer.body), 1, answer.body.len, stdout);
	else
		show_text((enum status)answer.status, answer.text, c->set->json);
	slice_release(&answer.body);
	return code;
}

/* ---- verbs ----------------------------------------------------------------------------------------------------- */

static int run_status(struct call *c)
{
	return ask_and_show(c, "status");
}

static int run_actors(struct call *c)
{
	struct admin_answer answer;
	int code;

	if (c->set->json || c->set->flat)
		return ask_and_show(c, "actors");
	code = ask(c, "actors", &answer);
	if (code)
		return code;
	code = shown(show_tree(slice_data(&answer.body), answer.body.len));
	slice_release(&answer.body);
	return code;
}

static int run_kill(struct call *c)
{
	args_begin(c, 2);
	args_add(c, "actor", c->words[0]);
	args_add(c, "reason", c->set->reason);
	return ask_and_show(c, "kill");
}

static int run_restart(struct call *c)
{
	args_begin(c, 1);
	args_add(c, "actor", c->words[0]);
	return ask_and_show(c, "restart");
}

static int run_send(struct call *c)
{
	bool typed = c->n_words == 3 || (c->n_words == 2 && c->words[1][0] != '{');
	const char *text = c->n_words == 3 ? c->words[2] : typed ? "{}" : c->words[1];
	struct writer fields;
	struct error err = {0};
	char type[64] = "";
	int code;

	writer_init(&fields, ADMIN_ARGS_MAX);
	if (pack_json(text, typed ? NULL : type, sizeof(type), &fields, &err)) {
		writer_release(&fields);
		return complain(&err, EXIT_USAGE);
	}
	args_begin(c, 3);
	args_add(c, "actor", c->words[0]);
	args_add(c, "type", typed ? c->words[1] : type);
	pack_text(c, "fields");
	if (fields.buf)
		writer_put(&c->args, fields.buf->data, fields.len);
	c->args.failed |= fields.failed;
	writer_release(&fields);
	code = ask_and_show(c, "send");
	return code;
}

static int run_dead_letters(struct call *c)
{
	return ask_and_show(c, "dead-letters");
}

static int run_pools(struct call *c)
{
	return ask_and_show(c, "pools");
}

static int run_topo(struct call *c)
{
	return ask_and_show(c, "topo");
}

static int run_workflows(struct call *c)
{
	if (strcmp(c->words[0], "list") == 0 && c->n_words == 1)
		return ask_and_show(c, "workflows");
	if (strcmp(c->words[0], "show") == 0 && c->n_words == 2) {
		args_begin(c, 1);
		args_add(c, "id", c->words[1]);
		return ask_and_show(c, "workflows");
	}
	return complain(&(struct error){.text = "workflows list, or workflows show ID"}, EXIT_USAGE);
}

static int run_store(struct call *c)
{
	if (strcmp(c->words[0], "list") == 0 && c->n_words <= 2) {
		args_begin(c, 1);
		args_add(c, "table", c->n_words == 2 ? c->words[1] : "");
		return ask_and_show(c, "store");
	}
	if (strcmp(c->words[0], "get") == 0 && c->n_words == 3) {
		args_begin(c, 2);
		args_add(c, "table", c->words[1]);
		args_add(c, "key", c->words[2]);
		return ask_and_show(c, "store");
	}
	return complain(&(struct error){.text = "store list [TABLE], or store get TABLE KEY"}, EXIT_USAGE);
}

static int run_stop(struct call *c)
{
	return ask_and_show(c, "stop");
}

static int run_version(struct call *c)
{
	return ask_and_show(c, "version");
}

/* ---- trace ------------------------------------------------------------------------------------------------------ */

static void on_interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

/* Prints the events of one poll; gives the number of the last. */
static uint64_t trace_print(const struct admin_answer *answer, bool json, uint64_t after)
{
	struct cell cells[TABLE_COLUMNS_MAX];
	struct table_reader r;
	int seq, at, state, next, from, message;

	if (table_read(&r, slice_data(&answer->body), answer->body.len))
		return after;
	seq = table_column(&r, "seq");
	at = table_column(&r, "at_us");
	state = table_column(&r, "state");
	next = table_column(&r, "next_state");
	from = table_column(&r, "from");
	message = table_column(&r, "message");
	if (seq < 0 || at < 0 || state < 0 || next < 0 || from < 0 || message < 0)
		return after;
	if (json && show_lines(slice_data(&answer->body), answer->body.len))
		return after;
	while (table_next(&r, cells)) {
		after = cells[seq].u;
		if (json)
			continue;
		printf("%10" PRIu64 ".%06" PRIu64 "  %.*s", cells[at].u / 1000000, cells[at].u % 1000000,
			(int)cells[state].n, cells[state].s);
		if (cells[next].n != cells[state].n ||
			memcmp(cells[next].s, cells[state].s, cells[next].n) != 0)
			printf(" -> %.*s", (int)cells[next].n, cells[next].s);
		printf("  from %.*s  %.*s\n", (int)cells[from].n, cells[from].s, (int)cells[message].n,
			cells[message].s);
	}
	fflush(stdout);
	return after;
}

static uint64_t seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int run_trace(struct call *c)
{
	uint64_t end = seconds_now() + (uint64_t)c->set->seconds * 1000, after = 0;
	struct admin_answer answer;
	char session[64], number[24];
	int code;

	args_begin(c, 1);
	args_add(c, "actor", c->words[0]);
	code = ask(c, "trace", &answer);
	if (code)
		return code;
	str_copy(session, sizeof(session), answer.text);
	slice_release(&answer.body);
	signal(SIGINT, on_interrupt);
	while (!interrupted && seconds_now() < end) {
		nanosleep(&(struct timespec){.tv_nsec = TRACE_POLL_MS * 1000000L}, NULL);
		snprintf(number, sizeof(number), "%" PRIu64, after);
		args_begin(c, 2);
		args_add(c, "session", session);
		args_add(c, "after", number);
		code = ask(c, "trace-poll", &answer);
		if (code)
			return code;
		after = trace_print(&answer, c->set->json, after);
		slice_release(&answer.body);
	}
	args_begin(c, 1);
	args_add(c, "session", session);
	code = ask(c, "trace-stop", &answer);
	if (!code)
		slice_release(&answer.body);
	return code;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

#define COMMON_OPTIONS                                                                                       \
	{.name = "node",                                                                                     \
		.type = OPTION_ADDRESS,                                                                      \
		.offset = offsetof(struct settings, node),                                                   \
		.initial = "127.0.0.1:15500",                                                                \
		.help = "control address of the node to ask"},                                               \
	{                                                                                                    \
		.name = "json", .type = OPTION_BOOL, .offset = offsetof(struct settings, json),              \
		.help = "answer as JSON, for programs"                                                       \
	}

static const struct option common[] = {COMMON_OPTIONS};
static const struct option with_reason[] = {
	COMMON_OPTIONS, {.name = "reason",
				.type = OPTION_TEXT,
				.offset = offsetof(struct settings, reason),
				.value = "REASON",
				.initial = "killed",
				.help = "killed (at once), shutdown (in order), crashed, ..."}};
static const struct option with_seconds[] = {
	COMMON_OPTIONS, {.name = "seconds",
				.type = OPTION_NUMBER,
				.offset = offsetof(struct settings, seconds),
				.initial = "10",
				.min = 1,
				.max = 86400,
				.unit = "seconds",
				.help = "how long to watch"}};
static const struct option with_flat[] = {COMMON_OPTIONS, {.name = "flat",
								  .type = OPTION_BOOL,
								  .offset = offsetof(struct settings, flat),
								  .help = "as a list, not a tree"}};

#define OPTIONS(o) (o), ARRAY_LEN(o)
static const struct verb verbs[] = {
	{"status", "", "What runs here, where, and how it does", 0, 0, OPTIONS(common), run_status},
	{"actors", "", "The tree of actors: state, mailbox, messages handled, time used, restarts", 0, 0,
		OPTIONS(with_flat), run_actors},
	{"kill", "ACTOR", "End an actor, by name or <pid>; its supervisor brings it back", 1, 1,
		OPTIONS(with_reason), run_kill},
	{"restart", "ACTOR", "Have an actor's supervisor end it in order and start it again", 1, 1,
		OPTIONS(common), run_restart},
	{"send", "ACTOR [TYPE] [JSON]",
		"Send an actor any message of the catalog, e.g. send pool.0 POOL_SHOW, or send x '{\"type\": "
		"\"CANCEL\", \"lease\": 1}'",
		2, 3, OPTIONS(common), run_send},
	{"trace", "ACTOR", "Print every message an actor handles, as they come", 1, 1, OPTIONS(with_seconds),
		run_trace},
	{"dead-letters", "", "The last messages that reached nobody", 0, 0, OPTIONS(common),
		run_dead_letters},
	{"workflows", "list | show ID", "Durable procedures: all, or the steps of one", 1, 2, OPTIONS(common),
		run_workflows},
	{"store", "list [TABLE] | get TABLE KEY", "What the node keeps on disk", 1, 3, OPTIONS(common),
		run_store},
	{"pools", "", "Groups of Postgres connections and who waits for them", 0, 0, OPTIONS(common),
		run_pools},
	{"topo", "", "What the topology knows: cells, databases, shards, tablets", 0, 0, OPTIONS(common),
		run_topo},
	{"stop", "", "Stop the node, and the Postgres it runs", 0, 0, OPTIONS(common), run_stop},
	{"version", "", "The version of the node", 0, 0, OPTIONS(common), run_version},
};

static void print_help(void (*fill)(struct writer *out, const void *arg), const void *arg)
{
	struct writer out;

	writer_init(&out, OPTION_HELP_MAX);
	fill(&out, arg);
	fwrite(out.buf->data, 1, out.len, stdout);
	writer_release(&out);
}

static const struct option_set all_set = {"mgctl [OPTION]... VERB ...",
	"Asks a Multigres node and shows the answer.", "MULTIGRES", OPTIONS(common)};

static void fill_help(struct writer *out, const void *arg)
{
	(void)arg;
	options_help(&all_set, out);
	writer_text(out, "\nverbs (mgctl VERB --help says more):\n");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		char left[64];

		snprintf(left, sizeof(left), "  %s %s", verbs[i].name, verbs[i].words);
		writer_printf(out, "%-38s%s\n", left, verbs[i].about);
	}
	writer_text(out, "\nexit status: 0 done, 1 refused or failed, 2 usage, 3 no node answered\n");
}

static void fill_verb_help(struct writer *out, const void *arg)
{
	const struct verb *v = arg;
	char usage[128];
	struct option_set set = {usage, v->about, "MULTIGRES", v->options, v->n_options};

	snprintf(usage, sizeof(usage), "mgctl %s%s%s [OPTION]...", v->name, v->words[0] ? " " : "", v->words);
	options_help(&set, out);
}

static const struct verb *find_verb(const char *name)
{
	const char *names[ARRAY_LEN(verbs) + 2], *meant;

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
		names[i] = verbs[i].name;
	}
	names[ARRAY_LEN(verbs)] = "help";
	names[ARRAY_LEN(verbs) + 1] = NULL;
	meant = options_nearest(name, names);
	fprintf(stderr, "mgctl: unknown verb \"%s\"%s%s%s\nhint: mgctl --help lists all verbs\n", name,
		meant ? ": did you mean " : "", meant ? meant : "", meant ? "?" : "");
	return NULL;
}

static int run_verb(const struct verb *v, struct settings *set, const struct option_rest *words)
{
	struct option_set own = {v->name, v->about, "MULTIGRES", v->options, v->n_options};
	struct call c = {.set = set};
	struct option_rest rest = {0};
	struct error err = {0};
	struct settings given = *set;
	char *argv[OPTION_ARGS_MAX];
	int argc = 0, code;

	for (size_t i = 1; i < words->n; i++)
		argv[argc++] = (char *)(uintptr_t)words->args[i];
	if (options_defaults(&own, set, &err))
		return complain(&err, EXIT_USAGE);
	memcpy(set->node, given.node, sizeof(set->node)); /* --node before the verb */
	set->json = given.json;
	if (options_parse(&own, argc, argv, false, set, &rest, &err))
		return complain(&err, EXIT_USAGE);
	if (rest.help) {
		print_help(fill_verb_help, v);
		return EXIT_DONE;
	}
	if (rest.n < v->min_words || rest.n > v->max_words) {
		fprintf(stderr, "usage: mgctl %s%s%s [OPTION]...\n", v->name, v->words[0] ? " " : "",
			v->words);
		return EXIT_USAGE;
	}
	c.words = rest.args;
	c.n_words = rest.n;
	writer_init(&c.args, ADMIN_ARGS_MAX);
	code = v->run(&c);
	writer_release(&c.args);
	control_client_close(c.client);
	if (fflush(stdout) || ferror(stdout))
		return complain(&(struct error){.text = "could not write the answer"}, EXIT_REFUSED);
	return code;
}

int main(int argc, char **argv)
{
	static struct settings set;
	struct option_rest rest = {0};
	struct error err = {0};
	const struct verb *v;

	catalog_add_core();
	catalog_add_admin();
	if (options_defaults(&all_set, &set, &err) ||
		options_parse(&all_set, argc - 1, argv + 1, true, &set, &rest, &err))
		return complain(&err, EXIT_USAGE);
	if (rest.help || (rest.n && strcmp(rest.args[0], "help") == 0 && rest.n == 1)) {
		print_help(fill_help, NULL);
		return EXIT_DONE;
	}
	if (rest.n == 0) {
		fprintf(stderr, "usage: %s\nhint: mgctl --help lists the verbs\n", all_set.usage);
		return EXIT_USAGE;
	}
	if (strcmp(rest.args[0], "help") == 0) {
		v = find_verb(rest.args[1]);
		if (v)
			print_help(fill_verb_help, v);
		return v ? EXIT_DONE : EXIT_USAGE;
	}
	v = find_verb(rest.args[0]);
	return v ? run_verb(v, &set, &rest) : EXIT_USAGE;
}
