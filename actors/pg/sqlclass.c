/*
 * The conservative classifier of SQL text. See sqlclass.h. Pure.
 *
 * One statement is read token by token with a little memory: the word before, the depth of parentheses, what the
 * statement began with. A name before "(" is a call unless the place says otherwise; the places known are listed at
 * is_name_place. Where Postgres's grammar leaves doubt, it counts as a call.
 */
#include "actors/pg/sqlclass.h"

#include <string.h>

#include "runtime/base/check.h"

/* Keywords that matter, sorted. Everything else is WORD_OTHER. */
/* clang-format off */
#define WORD_LIST(W)                                                                                         \
	W(ABORT) W(AGGREGATE) W(ALTER) W(ANALYSE) W(ANALYZE) W(AS) W(ATOMIC)                                 \
	W(BEGIN) W(BY)                                                                                       \
	W(CALL) W(CASE) W(CAST) W(CHECKPOINT) W(CLOSE) W(CLUSTER) W(COMMENT) W(COMMIT) W(CONCURRENTLY)       \
	W(CONFLICT) W(CONSTRAINTS) W(COPY) W(CREATE)                                                         \
	W(DATABASE) W(DEALLOCATE) W(DECLARE) W(DELETE) W(DISCARD) W(DISTINCT) W(DO) W(DOMAIN) W(DROP)        \
	W(END) W(EXECUTE) W(EXISTS) W(EXPLAIN)                                                               \
	W(FETCH) W(FOR) W(FOREIGN) W(FUNCTION)                                                               \
	W(GLOBAL) W(GRANT) W(GROUPING)                                                                       \
	W(HASH) W(HOLD)                                                                                      \
	W(IF) W(IMPORT) W(INDEX) W(INSERT) W(INTO)                                                           \
	W(KEY)                                                                                               \
	W(LIST) W(LISTEN) W(LOAD) W(LOCAL) W(LOCK)                                                           \
	W(MATERIALIZED) W(MERGE) W(MOVE)                                                                     \
	W(NO) W(NOT) W(NOTIFY)                                                                               \
	W(ON) W(ONLY) W(OPERATOR)                                                                            \
	W(PG_CATALOG) W(POLICY) W(PREPARE) W(PREPARED) W(PRIMARY) W(PROCEDURE)                               \
	W(RANGE) W(REASSIGN) W(RECURSIVE) W(REFERENCES) W(REFRESH) W(REINDEX) W(RELEASE) W(REPLACE) W(RESET) \
	W(REVOKE) W(ROLLBACK) W(ROUTINE) W(RULE)                                                             \
	W(SAVEPOINT) W(SECURITY) W(SELECT) W(SET) W(SETS) W(SHARE) W(SHOW) W(START)                          \
	W(TABLE) W(TEMP) W(TEMPORARY) W(TO) W(TRANSACTION) W(TRIGGER) W(TRUNCATE) W(TYPE)                    \
	W(UNIQUE) W(UNLISTEN) W(UPDATE) W(USING)                                                             \
	W(VACUUM) W(VALUES) W(VERBOSE) W(VIEW)                                                               \
	W(WITH)
/* clang-format on */

#define WORD_ENUM(name) WORD_##name,
enum word {
	WORD_LIST(WORD_ENUM) WORD_OTHER, /* any other word, and quoted names */
	MARK_OTHER, /* no word: literals, operators, ... */
	MARK_COMMA,
	MARK_CLOSE, /* `)` */
	MARK_COLON2, /* `::` */
};
#undef WORD_ENUM

enum { NAME_MAX_LEN = 64 };

struct name {
	char text[NAME_MAX_LEN]; /* lower case unless quoted; not ended by NUL */
	uint32_t len; /* 0: too long to be any name of ours, or it holds a NUL */
	enum word word; /* WORD_OTHER for quoted names */
	bool is_odd; /* U&"...": could spell anything */
};

/* What is remembered while a statement is read. */
struct reader {
	const char *text;
	struct sqlclass *out;
	enum word head; /* what the statement begins with; MARK_OTHER until known */
	enum word prev; /* the token before */
	enum word prev2; /* the one before that */
	enum word before; /* the token before the chain a.b.c that is being read, or was last */
	uint32_t n_tokens; /* so far */
	uint32_t depth; /* of parentheses */
	uint32_t atomic; /* open BEGIN ATOMIC and CASE of a SQL-standard function body */
	uint32_t with_depth; /* the depth of an open list of CTEs + 1; 0: none */
	uint64_t neutral; /* bit d: a call may follow the `)` that closes depth d */
	bool naming; /* a relation's or routine's name follows (INTO, TABLE, FUNCTION ...) */
	bool chain_naming; /* the chain is such a name */
	bool after_dot;
	bool after_open; /* after `(` */
	bool in_catalog; /* the chain is pg_catalog.x */
	bool is_index; /* CREATE INDEX */
	bool inert; /* calls in this statement aren't executed (GRANT, CREATE VIEW ...) */
	bool explains; /* EXPLAIN, whose statement is yet to come */
	bool settings; /* pg_settings is named */
};

static const char *const words[] = {
#define WORD_TEXT(name) #name,
	WORD_LIST(WORD_TEXT)
#undef WORD_TEXT
};

/* Where in `words` each letter begins; a letter without words points at one of another letter. */
static const uint8_t first_word[26] = {
	['A' - 'A'] = WORD_ABORT,
	['B' - 'A'] = WORD_BEGIN,
	['C' - 'A'] = WORD_CALL,
	['D' - 'A'] = WORD_DATABASE,
	['E' - 'A'] = WORD_END,
	['F' - 'A'] = WORD_FETCH,
	['G' - 'A'] = WORD_GLOBAL,
	['H' - 'A'] = WORD_HASH,
	['I' - 'A'] = WORD_IF,
	['K' - 'A'] = WORD_KEY,
	['L' - 'A'] = WORD_LIST,
	['M' - 'A'] = WORD_MATERIALIZED,
	['N' - 'A'] = WORD_NO,
	['O' - 'A'] = WORD_ON,
	['P' - 'A'] = WORD_PG_CATALOG,
	['R' - 'A'] = WORD_RANGE,
	['S' - 'A'] = WORD_SAVEPOINT,
	['T' - 'A'] = WORD_TABLE,
	['U' - 'A'] = WORD_UNIQUE,
	['V' - 'A'] = WORD_VACUUM,
	['W' - 'A'] = WORD_WITH,
};

static enum word find_word(const char *upper, uint32_t len)
{
	if (upper[0] < 'A' || upper[0] > 'Z')
		return WORD_OTHER;
	for (uint32_t i = first_word[upper[0] - 'A']; i < ARRAY_LEN(words) && words[i][0] == upper[0]; i++)
		if (strncmp(words[i], upper, len) == 0 && words[i][len] == '\0')
			return (enum word)i;
	return WORD_OTHER;
}

static void read_name(const struct reader *r, const struct sqlscan_token *t, struct name *out)
{
	const char *p = r->text + t->off;
	uint32_t len = t->len;

	out->word = WORD_OTHER;
	out->is_odd = t->type == SQL_UQUOTED;
	if (t->type == SQL_QUOTED) {
		p++;
		len -= 2;
	}
	out->len = len < NAME_MAX_LEN && !memchr(p, 0, len) ? len : 0;
	if (t->type == SQL_QUOTED) {
		memcpy(out->text, p, out->len);
		return;
	}
	for (uint32_t i = 0; i < out->len; i++) /* upper case: keywords first, they are most */
		out->text[i] = p[i] >= 'a' && p[i] <= 'z' ? (char)(p[i] - 32) : p[i];
	if (out->len > 1)
		out->word = find_word(out->text, out->len);
	for (uint32_t i = 0; i < out->len; i++)
		out->text[i] = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] + 32) : p[i];
}

static bool has_prefix(const struct name *n, const char *prefix)
{
	size_t len = strlen(prefix);

	return n->len >= len && memcmp(n->text, prefix, len) == 0;
}

static bool is_named(const struct name *n, const char *text)
{
	return n->len == strlen(text) && memcmp(n->text, text, n->len) == 0;
}

/* Names that tell wherever they stand, before "(" or not: Postgres's own relations, schemas, functions. True if so. */
static bool note_pg_name(struct reader *r, const struct name *n)
{
	static const struct {
		const char *prefix;
		uint32_t reason;
	} marks[] = {
		{"pg_temp", PIN_TEMP},
		{"pg_toast_temp", PIN_TEMP},
		{"pg_my_temp_schema", PIN_BACKEND_MEMORY},
		{"pg_is_other_temp_schema", PIN_BACKEND_MEMORY},
		{"pg_advisory_lock", PIN_ADVISORY_LOCK},
		{"pg_advisory_unlock", PIN_ADVISORY_LOCK},
		{"pg_try_advisory_lock", PIN_ADVISORY_LOCK},
		{"pg_backend_pid", PIN_BACKEND_MEMORY},
		{"pg_backend_memory", PIN_BACKEND_MEMORY},
		{"pg_get_backend_memory", PIN_BACKEND_MEMORY},
		{"pg_prepared_statement", PIN_BACKEND_MEMORY},
		{"pg_cursor", PIN_BACKEND_MEMORY},
		{"pg_listening_channels", PIN_BACKEND_MEMORY},
		{"pg_stat_get_backend", PIN_BACKEND_MEMORY},
		{"pg_stat_get_xact", PIN_BACKEND_MEMORY},
		{"pg_stat_xact", PIN_BACKEND_MEMORY},
		{"pg_stat_clear_snapshot", PIN_BACKEND_MEMORY},
		{"pg_stat_force_next_flush", PIN_BACKEND_MEMORY},
		{"pg_current_", PIN_BACKEND_MEMORY},
		{"pg_replication_origin_session", PIN_BACKEND_MEMORY},
	};

	uint32_t reasons = 0;

	if (n->len < 4 || memcmp(n->text, "pg_", 3) != 0)
		return false;
	for (uint32_t i = 0; i < ARRAY_LEN(marks); i++)
		if (has_prefix(n, marks[i].prefix))
			reasons |= marks[i].reason;
	r->out->reasons |= reasons;
	r->settings |= is_named(n, "pg_settings");
	return reasons != 0;
}

/* A call of a function. */
static void note_call(struct reader *r, const struct name *n, bool qualified)
{
	static const struct {
		const char *name;
		uint32_t reason;
	} marks[] = {
		{"nextval", PIN_SEQUENCE_STATE},
		{"setval", PIN_SEQUENCE_STATE},
		{"currval", PIN_SEQUENCE_STATE},
		{"lastval", PIN_SEQUENCE_STATE},
		{"setseed", PIN_SEED},
		{"set_config", PIN_SET_CONFIG},
	};

	if (r->inert)
		return;
	if (!n->is_odd && n->len > 0 && (!qualified || r->in_catalog)) {
		if (sqlclass_safe_name(n->text, n->len))
			return;
		for (uint32_t i = 0; i < ARRAY_LEN(marks); i++)
			if (is_named(n, marks[i].name)) {
				r->out->reasons |= marks[i].reason;
				return;
			}
	}
	r->out->reasons |= PIN_FUNCTION;
}

static bool is_cte_name(const struct reader *r, enum word before)
{
	return r->with_depth == r->depth + 1 &&
	       (before == WORD_WITH || before == WORD_RECURSIVE || before == MARK_COMMA);
}

/*
 * Where a name before "(" is no call. `before` is the token before the name (before its schema, when qualified).
 *
 *	) x(a, b)		an alias, OVER (, FILTER (, IN (, AND (: a call never follows ")" directly
 *	AS x(a, b)		an alias with columns, or a type
 *	::numeric(10, 2)	a type
 *	INTO t (a)		also TABLE, REFERENCES, FUNCTION ...: `naming`
 *	PRIMARY KEY (a)		FOREIGN KEY; GROUPING SETS (; ON CONFLICT (; OPERATOR(
 *	USING btree (a)		in CREATE, outside all parentheses; there also PARTITION BY RANGE (a)
 *	WITH q(a) AS (...), r(b) AS
 */
static bool is_name_place(const struct reader *r, const struct name *n, enum word before)
{
	bool in_create = r->head == WORD_CREATE && r->depth == 0;

	if (before == MARK_CLOSE || before == WORD_AS || before == MARK_COLON2 || r->chain_naming)
		return true;
	switch (n->word) {
	case WORD_KEY:
		return before == WORD_PRIMARY || before == WORD_FOREIGN;
	case WORD_SETS:
		return before == WORD_GROUPING;
	case WORD_CONFLICT:
		return before == WORD_ON;
	case WORD_OPERATOR:
		return true;
	case WORD_RANGE:
	case WORD_LIST:
	case WORD_HASH:
		if (in_create && before == WORD_BY)
			return true;
		break;
	default:
		break;
	}
	if (in_create && before == WORD_USING)
		return true;
	return is_cte_name(r, before);
}

/* Statements that run no expression: what looks like a call in them is a name, or is kept for later. */
static bool is_inert_head(enum word w)
{
	switch (w) {
	case WORD_GRANT:
	case WORD_REVOKE:
	case WORD_COMMENT:
	case WORD_DROP:
	case WORD_SECURITY:
	case WORD_REASSIGN:
	case WORD_LOCK:
	case WORD_TRUNCATE:
	case WORD_NOTIFY:
	case WORD_SET: /* takes constants only; SET itself pins */
		return true;
	default:
		return false;
	}
}

/* What statements begin with, and what that alone says. Others are unknown. */
static const struct {
	enum word word;
	uint32_t reasons, facts;
} heads[] = {
	{WORD_ABORT, 0, SQL_ROLLS_BACK},
	{WORD_ALTER, 0, 0},
	{WORD_ANALYSE, 0, 0},
	{WORD_ANALYZE, 0, 0},
	{WORD_BEGIN, 0, SQL_BEGINS},
	{WORD_CALL, PIN_CALL, 0},
	{WORD_CHECKPOINT, 0, 0},
	{WORD_CLOSE, 0, 0},
	{WORD_CLUSTER, 0, 0},
	{WORD_COMMENT, 0, 0},
	{WORD_COMMIT, 0, SQL_MAY_COMMIT},
	{WORD_COPY, 0, SQL_COPIES},
	{WORD_CREATE, 0, 0},
	{WORD_DEALLOCATE, PIN_PREPARE, 0},
	{WORD_DECLARE, 0, 0},
	{WORD_DELETE, 0, 0},
	{WORD_DISCARD, PIN_DISCARD, 0},
	{WORD_DO, PIN_DO, 0},
	{WORD_DROP, 0, 0},
	{WORD_END, 0, SQL_MAY_COMMIT},
	{WORD_EXECUTE, PIN_PREPARE, 0},
	{WORD_EXPLAIN, 0, 0},
	{WORD_FETCH, 0, 0},
	{WORD_GRANT, 0, 0},
	{WORD_IMPORT, 0, 0},
	{WORD_INSERT, 0, 0},
	{WORD_LISTEN, PIN_LISTEN, 0},
	{WORD_LOAD, PIN_LOAD, 0},
	{WORD_LOCK, 0, 0},
	{WORD_MERGE, 0, 0},
	{WORD_MOVE, 0, 0},
	{WORD_NOTIFY, 0, 0},
	{WORD_PREPARE, PIN_PREPARE, 0},
	{WORD_REASSIGN, 0, 0},
	{WORD_REFRESH, 0, 0},
	{WORD_REINDEX, 0, 0},
	{WORD_RELEASE, 0, 0},
	{WORD_RESET, PIN_SET, 0},
	{WORD_REVOKE, 0, 0},
	{WORD_ROLLBACK, 0, SQL_ROLLS_BACK},
	{WORD_SAVEPOINT, 0, 0},
	{WORD_SECURITY, 0, 0},
	{WORD_SELECT, 0, SQL_READS},
	{WORD_SET, PIN_SET, 0},
	{WORD_SHOW, 0, SQL_READS},
	{WORD_START, 0, SQL_BEGINS},
	{WORD_TABLE, 0, SQL_READS},
	{WORD_TRUNCATE, 0, 0},
	{WORD_UNLISTEN, PIN_LISTEN, 0},
	{WORD_UPDATE, 0, 0},
	{WORD_VACUUM, 0, 0},
	{WORD_VALUES, 0, SQL_READS},
	{WORD_WITH, 0, 0},
};

/* The statement's first word. */
static void read_head(struct reader *r, enum word w)
{
	uint32_t i;

	for (i = 0; i < ARRAY_LEN(heads) && heads[i].word != w; i++)
		;
	r->head = w;
	if (i == ARRAY_LEN(heads)) {
		r->out->reasons |= PIN_UNKNOWN;
		return;
	}
	r->out->reasons |= heads[i].reasons;
	r->out->facts |= heads[i].facts;
	r->inert = is_inert_head(w);
	r->explains = w == WORD_EXPLAIN;
	r->naming = w == WORD_COPY || w == WORD_VACUUM || w == WORD_ANALYZE || w == WORD_ANALYSE ||
		    w == WORD_TABLE || w == WORD_EXECUTE || w == WORD_PREPARE || w == WORD_CALL;
	if (w == WORD_WITH)
		r->with_depth = r->depth + 1;
}

/* The second word of statements whose first doesn't say it all. */
static void read_second(struct reader *r, enum word w)
{
	struct sqlclass *out = r->out;

	switch (r->head) {
	case WORD_SET:
		if (w == WORD_LOCAL || w == WORD_TRANSACTION || w == WORD_CONSTRAINTS)
			out->reasons &= ~(uint32_t)PIN_SET;
		break;
	case WORD_DROP:
	case WORD_CREATE:
		if (w == WORD_DATABASE)
			out->facts |= SQL_CREATES_DATABASE;
		break;
	case WORD_ROLLBACK: /* another session's, prepared */
		if (w == WORD_PREPARED)
			out->facts &= ~(uint32_t)SQL_ROLLS_BACK;
		break;
	default:
		break;
	}
}

/* Words that begin a query or a data change end a list of CTEs, unless they are inside one of its parentheses. */
static bool is_query_head(enum word w)
{
	return w == WORD_SELECT || w == WORD_INSERT || w == WORD_UPDATE || w == WORD_DELETE ||
	       w == WORD_VALUES || w == WORD_TABLE || w == WORD_MERGE;
}

/* What CREATE makes, told by the words before its name. */
static void read_create_word(struct reader *r, enum word w)
{
	switch (w) {
	case WORD_TEMP:
	case WORD_TEMPORARY:
		if (r->depth == 0)
			r->out->reasons |= PIN_TEMP;
		break;
	case WORD_INDEX:
		if (r->prev == WORD_CREATE || r->prev == WORD_UNIQUE)
			r->is_index = true;
		break;
	case WORD_VIEW:
		if (r->prev == WORD_CREATE || r->prev == WORD_REPLACE || r->prev == WORD_RECURSIVE)
			r->inert = true;
		break;
	case WORD_FUNCTION:
	case WORD_PROCEDURE:
	case WORD_AGGREGATE:
	case WORD_OPERATOR:
	case WORD_TRIGGER:
	case WORD_RULE:
	case WORD_POLICY:
	case WORD_TYPE:
	case WORD_CAST:
	case WORD_DOMAIN:
		if (r->prev == WORD_CREATE || r->prev == WORD_REPLACE)
			r->inert = true;
		break;
	case WORD_EXECUTE: /* CREATE TABLE t AS EXECUTE p */
		if (r->prev == WORD_AS)
			r->out->reasons |= PIN_PREPARE;
		break;
	case WORD_ATOMIC:
		/* its END is found by counting CASE and END, which can be fooled by labels of columns: so say "may" */
		if (r->prev == WORD_BEGIN && r->depth == 0 && r->atomic == 0) {
			r->atomic = 1;
			r->out->facts |= SQL_MAY_COMMIT;
		}
		break;
	case WORD_CASE:
		if (r->atomic > 0 && r->prev != WORD_AS)
			r->atomic++;
		break;
	case WORD_END:
		if (r->atomic > 0 && r->prev != WORD_AS)
			r->atomic--;
		break;
	default:
		break;
	}
}

/* Words that tell something in the middle of a statement. */
static void read_inner(struct reader *r, enum word w)
{
	struct sqlclass *out = r->out;

	if (r->head == WORD_CREATE)
		read_create_word(r, w);
	if (r->with_depth == r->depth + 1 && is_query_head(w))
		r->with_depth = 0;
	switch (w) {
	case WORD_WITH:
		if (r->after_open)
			r->with_depth = r->depth + 1;
		break;
	case WORD_TEMP:
	case WORD_TEMPORARY:
		if (r->prev == WORD_INTO ||
			((r->prev == WORD_LOCAL || r->prev == WORD_GLOBAL) && r->prev2 == WORD_INTO))
			out->reasons |= PIN_TEMP;
		break;
	case WORD_HOLD:
		if (r->head == WORD_DECLARE && r->prev == WORD_WITH)
			out->reasons |= PIN_HOLD_CURSOR;
		break;
	case WORD_UPDATE:
	case WORD_SHARE:
	case WORD_NO:
	case WORD_KEY:
		if (r->prev == WORD_FOR)
			out->facts &= ~(uint32_t)SQL_READS;
		break;
	case WORD_TO: /* ROLLBACK [WORK | TRANSACTION] TO savepoint */
		if (r->head == WORD_ROLLBACK || r->head == WORD_ABORT)
			out->facts &= ~(uint32_t)SQL_ROLLS_BACK;
		break;
	case WORD_INTO:
		out->facts &= ~(uint32_t)SQL_READS;
		break;
	default:
		break;
	}
}

/* Does a name follow this word, which "(" after it doesn't make a call? */
static bool begins_naming(const struct reader *r, enum word w)
{
	switch (w) {
	case WORD_INTO:
	case WORD_TABLE:
	case WORD_REFERENCES:
	case WORD_FUNCTION:
	case WORD_PROCEDURE:
	case WORD_ROUTINE:
	case WORD_AGGREGATE:
	case WORD_VIEW:
	case WORD_TYPE:
		return true;
	case WORD_ON:
		return r->is_index && r->depth == 0;
	default:
		return false;
	}
}

static bool keeps_naming(enum word w)
{
	return w == WORD_IF || w == WORD_NOT || w == WORD_EXISTS || w == WORD_ONLY ||
	       w == WORD_CONCURRENTLY || w == WORD_VERBOSE;
}

static bool is_explain_option(enum word w)
{
	return w == WORD_ANALYZE || w == WORD_ANALYSE || w == WORD_VERBOSE;
}

/* A word or quoted name; `next` is the token after it. */
static void read_word(struct reader *r, const struct sqlscan_token *t, const struct sqlscan_token *next)
{
	bool qualified = r->after_dot, paren_follows = next->punct == '(', noted;
	struct name n;
	enum word w;

	read_name(r, t, &n);
	w = qualified ? WORD_OTHER : n.word; /* after a dot, keywords are names */
	if (n.is_odd)
		r->out->reasons |= PIN_UNKNOWN;
	if (!qualified) {
		r->before = r->prev;
		r->chain_naming = r->naming;
	}
	noted = note_pg_name(r, &n);
	if (r->head == MARK_OTHER || (r->explains && r->depth == 0 && !is_explain_option(w))) {
		read_head(r, w);
	} else {
		if (r->n_tokens == 1 && next->punct != '.') /* SET local.x is a setting's name */
			read_second(r, w);
		read_inner(r, w);
		if (paren_follows && !noted && !is_name_place(r, &n, r->before))
			note_call(r, &n, qualified);
		r->naming = begins_naming(r, w) || (r->naming && keeps_naming(w));
	}
	r->in_catalog = !qualified && n.word == WORD_PG_CATALOG;
	r->prev2 = r->prev;
	r->prev = w;
}

/*
 * A call may follow the `)` of DISTINCT ON (...) and OPERATOR(...) directly; no other. A parenthesis in a list of CTEs
 * that isn't a CTE's own begins the query: the list has ended.
 */
static void open_paren(struct reader *r)
{
	bool neutral = r->prev == WORD_OPERATOR || (r->prev == WORD_ON && r->prev2 == WORD_DISTINCT);
	bool of_cte = r->prev == WORD_AS || r->prev == WORD_MATERIALIZED ||
		      (r->prev <= WORD_OTHER && is_cte_name(r, r->before));

	if (r->depth < 64)
		r->neutral = (r->neutral & ~(1ULL << r->depth)) | (uint64_t)neutral << r->depth;
	if (r->with_depth == r->depth + 1 && !of_cte)
		r->with_depth = 0;
	r->depth++;
}

/* Deeper than 64, a call is taken to be possible after each. A list of CTEs ends with the parentheses around it. */
static enum word close_paren(struct reader *r)
{
	if (r->depth > 0)
		r->depth--;
	if (r->with_depth > r->depth + 1)
		r->with_depth = 0;
	return r->depth >= 64 || r->neutral >> r->depth & 1 ? MARK_OTHER : MARK_CLOSE;
}

static enum word read_punct(struct reader *r, char punct)
{
	switch (punct) {
	case '(':
		open_paren(r);
		return MARK_OTHER;
	case ')':
		return close_paren(r);
	case ',':
		return MARK_COMMA;
	default:
		return MARK_OTHER;
	}
}

/* Anything that is no name. */
static void read_other(struct reader *r, const struct sqlscan_token *t)
{
	enum word mark = MARK_OTHER;

	if (t->type == SQL_BROKEN || (r->head == MARK_OTHER && t->punct != '('))
		r->out->reasons |= PIN_UNKNOWN;
	if (t->type == SQL_STRING && r->head == WORD_PREPARE && r->prev == WORD_TRANSACTION &&
		r->n_tokens == 2) {
		r->out->reasons &= ~(uint32_t)PIN_PREPARE;
		r->out->facts |= SQL_MAY_COMMIT;
	}
	if (t->punct == '.') /* the chain goes on */
		return;
	if (t->type == SQL_PUNCT)
		mark = read_punct(r, t->punct);
	else if (t->type == SQL_OP && t->len == 2 && memcmp(r->text + t->off, "::", 2) == 0)
		mark = MARK_COLON2;
	r->naming = false;
	r->prev2 = r->prev;
	r->prev = mark;
}

/* What the whole statement says once it is known. */
static void finish(struct reader *r)
{
	struct sqlclass *out = r->out;

	if (r->head == MARK_OTHER)
		out->reasons |= PIN_UNKNOWN;
	if (r->settings && !(out->facts & SQL_READS))
		out->reasons |= PIN_SET_CONFIG;
	if (r->atomic > 0) /* its END wasn't found: anything may hide behind it */
		out->reasons |= PIN_UNKNOWN;
}

bool sqlclass_statement(struct sqlscan *scan, struct sqlclass *out, uint32_t *off, uint32_t *len)
{
	struct reader r = {
		.text = scan->text,
		.out = out,
		.head = MARK_OTHER,
		.prev = MARK_OTHER,
		.prev2 = MARK_OTHER,
		.before = MARK_OTHER,
	};
	struct sqlscan_token t = sqlscan_next(scan), next;

	*out = (struct sqlclass){.n_statements = 1};
	while (t.punct == ';')
		t = sqlscan_next(scan);
	if (t.type == SQL_END)
		return false;
	*off = t.off;
	for (; t.type != SQL_END; t = next) {
		if (t.punct == ';' && r.depth == 0 && r.atomic == 0)
			break;
		*len = t.off + t.len - *off;
		next = sqlscan_next(scan);
		if (t.type == SQL_WORD || t.type == SQL_QUOTED || t.type == SQL_UQUOTED)
			read_word(&r, &t, &next);
		else
			read_other(&r, &t);
		r.after_dot = t.punct == '.';
		r.after_open = t.punct == '(';
		r.n_tokens++;
	}
	finish(&r);
	return true;
}

void sqlclass_text(const char *sql, uint32_t len, struct sqlclass *out)
{
	struct sqlscan scan = sqlscan(sql, len, true);
	uint32_t reads = SQL_READS, at, n;
	struct sqlclass one;

	*out = (struct sqlclass){0};
	while (sqlclass_statement(&scan, &one, &at, &n)) {
		out->n_statements++;
		out->reasons |= one.reasons;
		out->facts |= one.facts;
		reads &= one.facts;
	}
	if (out->n_statements == 0)
		out->facts |= SQL_EMPTY;
	if (out->n_statements > 1)
		out->facts |= SQL_MULTIPLE;
	if (!reads)
		out->facts &= ~(uint32_t)SQL_READS;
}

const char *sqlclass_reason_name(unsigned bit)
{
#define SQLCLASS_NAME(name, text) text,
	static const char *const names[] = {SQLCLASS_REASON_LIST(SQLCLASS_NAME)};

	return bit < ARRAY_LEN(names) ? names[bit] : "unknown";
}

const char *sqlclass_fact_name(unsigned bit)
{
	static const char *const names[] = {SQLCLASS_FACT_LIST(SQLCLASS_NAME)};
#undef SQLCLASS_NAME

	return bit < ARRAY_LEN(names) ? names[bit] : "unknown";
}
