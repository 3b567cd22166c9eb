/* A lexer for Postgres's SQL. See sqlscan.h. Pure. */
#include "actors/pg/sqlscan.h"

#include <string.h>

#include "runtime/base/check.h"

enum { BLANK = 1, START = 2, DIGIT = 4, OPERATOR = 8 };

/* What a byte may be: blank, the start of a name, a digit, part of an operator. Bytes from 128 up start names. */
static const uint8_t classes[256] = {
	[' '] = BLANK,
	['\t'] = BLANK,
	['\n'] = BLANK,
	['\r'] = BLANK,
	['\f'] = BLANK,
	['\v'] = BLANK,
	['a' ... 'z'] = START,
	['A' ... 'Z'] = START,
	['_'] = START,
	[128 ... 255] = START,
	['0' ... '9'] = DIGIT,
	['~'] = OPERATOR,
	['!'] = OPERATOR,
	['@'] = OPERATOR,
	['#'] = OPERATOR,
	['^'] = OPERATOR,
	['&'] = OPERATOR,
	['|'] = OPERATOR,
	['`'] = OPERATOR,
	['?'] = OPERATOR,
	['+'] = OPERATOR,
	['-'] = OPERATOR,
	['*'] = OPERATOR,
	['/'] = OPERATOR,
	['%'] = OPERATOR,
	['<'] = OPERATOR,
	['>'] = OPERATOR,
	['='] = OPERATOR,
};

static bool is(const struct sqlscan *s, const char *p, uint8_t mask)
{
	return p < s->end && classes[(uint8_t)*p] & mask;
}

static bool at(const struct sqlscan *s, const char *p, char ch)
{
	return p < s->end && *p == ch;
}

static const char *find(const struct sqlscan *s, const char *p, char ch)
{
	return p < s->end ? memchr(p, ch, (size_t)(s->end - p)) : NULL;
}

/* Where the line of a `--` comment ends. */
static const char *skip_line(const struct sqlscan *s, const char *p)
{
	while (p < s->end && *p != '\n' && *p != '\r')
		p++;
	return p;
}

/* p is behind the opening of a comment; these nest. NULL when it doesn't end. */
static const char *skip_comment(const struct sqlscan *s, const char *p)
{
	uint32_t depth = 1;

	for (; p < s->end; p++) {
		if (*p == '*' && at(s, p + 1, '/')) {
			p++;
			if (--depth == 0)
				return p + 1;
		} else if (*p == '/' && at(s, p + 1, '*')) {
			p++;
			depth++;
		}
	}
	return NULL;
}

/* Blanks and comments; NULL when a comment doesn't end. */
static const char *skip_space(const struct sqlscan *s, const char *p)
{
	for (;;) {
		while (is(s, p, BLANK))
			p++;
		if (at(s, p, '-') && at(s, p + 1, '-')) {
			p = skip_line(s, p + 2);
		} else if (at(s, p, '/') && at(s, p + 1, '*')) {
			p = skip_comment(s, p + 2);
			if (!p)
				return NULL;
		} else {
			return p;
		}
	}
}

/*
 * Behind a literal's closing quote: a quote after blanks (and `--` comments) with a line's end among them goes on with
 * the same literal, under the same escape rules. Gives where it goes on, or NULL.
 */
static const char *continuation(const struct sqlscan *s, const char *p)
{
	bool new_line = false;

	for (;;) {
		for (; is(s, p, BLANK); p++)
			new_line |= *p == '\n' || *p == '\r';
		if (at(s, p, '-') && at(s, p + 1, '-'))
			p = skip_line(s, p + 2);
		else
			return new_line && at(s, p, '\'') ? p + 1 : NULL;
	}
}

/* p is behind the opening quote. NULL when the literal doesn't end. */
static const char *skip_string(const struct sqlscan *s, const char *p, bool backslashes)
{
	while (p < s->end) {
		const char *more;

		if (*p == '\\' && backslashes) {
			p += 2;
			continue;
		}
		if (*p++ != '\'')
			continue;
		if (at(s, p, '\'')) {
			p++;
			continue;
		}
		more = continuation(s, p);
		if (!more)
			return p;
		p = more;
	}
	return NULL;
}

static const char *skip_quoted(const struct sqlscan *s, const char *p)
{
	for (;;) {
		p = find(s, p, '"');
		if (!p)
			return NULL;
		if (!at(s, p + 1, '"'))
			return p + 1;
		p += 2;
	}
}

/* p is at a `$`. Behind the `$` that ends the opening delimiter, or NULL when it is none. */
static const char *dollar_body(const struct sqlscan *s, const char *p)
{
	p++;
	if (is(s, p, START))
		while (is(s, p, START | DIGIT))
			p++;
	return at(s, p, '$') ? p + 1 : NULL;
}

/* A body that doesn't hold its delimiter is searched once: O(n), for a failure ends the scan. */
static const char *skip_dollar(const struct sqlscan *s, const char *open, const char *body)
{
	size_t len = (size_t)(body - open);

	for (const char *p = find(s, body, '$'); p && (size_t)(s->end - p) >= len; p = find(s, p + 1, '$'))
		if (memcmp(p, open, len) == 0)
			return p + len;
	return NULL;
}

static const char *skip_digits(const struct sqlscan *s, const char *p)
{
	while (is(s, p, DIGIT))
		p++;
	return p;
}

/* 1  1.5  .5  1.  1e10. Of `1..2` only the 1 (as in PL/pgSQL). 0x1f and 1_000 (16 and later) give a number and a word. */
static const char *skip_number(const struct sqlscan *s, const char *p)
{
	const char *exponent;

	p = skip_digits(s, p);
	if (at(s, p, '.') && !at(s, p + 1, '.'))
		p = skip_digits(s, p + 1);
	if (at(s, p, 'e') || at(s, p, 'E')) {
		exponent = p + 1;
		if (at(s, exponent, '+') || at(s, exponent, '-'))
			exponent++;
		if (is(s, exponent, DIGIT))
			p = skip_digits(s, exponent);
	}
	return p;
}

/* Operators end where a comment begins. */
static const char *skip_operator(const struct sqlscan *s, const char *p)
{
	while (is(s, p, OPERATOR) && !(*p == '-' && at(s, p + 1, '-')) && !(*p == '/' && at(s, p + 1, '*')))
		p++;
	return p;
}

static struct sqlscan_token token(struct sqlscan *s, enum sqlscan_type type, const char *from, const char *to)
{
	if (!to || to > s->end) { /* a backslash at the very end goes one beyond it */
		type = SQL_BROKEN;
		to = s->end;
	}
	s->p = to;
	return (struct sqlscan_token){
		.type = type, .off = (uint32_t)(from - s->text), .len = (uint32_t)(to - from)};
}

static struct sqlscan_token punct(struct sqlscan *s, const char *p)
{
	struct sqlscan_token t = token(s, SQL_PUNCT, p, p + 1);

	t.punct = *p;
	return t;
}

/* A name, or a literal or quoted name with a prefix: E'' B'' X'' U&'' U&"". N'' is the word N and a literal. */
static struct sqlscan_token scan_word(struct sqlscan *s, const char *p)
{
	const char *from = p;

	if (at(s, p + 1, '\'')) {
		char prefix = (char)(*p | 0x20);

		if (prefix == 'e')
			return token(s, SQL_STRING, p, skip_string(s, p + 2, true));
		if (prefix == 'b' || prefix == 'x')
			return token(s, SQL_STRING, p, skip_string(s, p + 2, false));
	} else if (at(s, p + 1, '&') && (*p == 'u' || *p == 'U')) {
		if (at(s, p + 2, '\''))
			return token(s, SQL_STRING, p, skip_string(s, p + 3, false));
		if (at(s, p + 2, '"'))
			return token(s, SQL_UQUOTED, p, skip_quoted(s, p + 3));
	}
	while (is(s, p, START | DIGIT) || at(s, p, '$'))
		p++;
	return token(s, SQL_WORD, from, p);
}

static struct sqlscan_token scan_dollar(struct sqlscan *s, const char *p)
{
	const char *body;

	if (is(s, p + 1, DIGIT))
		return token(s, SQL_PARAM, p, skip_digits(s, p + 1));
	body = dollar_body(s, p);
	if (body)
		return token(s, SQL_STRING, p, skip_dollar(s, p, body));
	return punct(s, p);
}

struct sqlscan_token sqlscan_next(struct sqlscan *s)
{
	const char *p = skip_space(s, s->p);
	uint8_t class;

	if (!p)
		return token(s, SQL_BROKEN, s->p, NULL);
	if (p == s->end)
		return token(s, SQL_END, p, p);
	class = classes[(uint8_t)*p];
	if (class == START)
		return scan_word(s, p);
	if (class == DIGIT || (*p == '.' && is(s, p + 1, DIGIT)))
		return token(s, SQL_NUMBER, p, skip_number(s, p));
	if (class == OPERATOR)
		return token(s, SQL_OP, p, skip_operator(s, p));
	if (*p == '\'')
		return token(s, SQL_STRING, p, skip_string(s, p + 1, !s->standard_strings));
	if (*p == '"')
		return token(s, SQL_QUOTED, p, skip_quoted(s, p + 1));
	if (*p == '$')
		return scan_dollar(s, p);
	if (*p == ':' && (at(s, p + 1, ':') || at(s, p + 1, '=')))
		return token(s, SQL_OP, p, p + 2);
	return punct(s, p);
}

const char *sqlscan_type_name(enum sqlscan_type type)
{
#define SQLSCAN_NAME(name) #name,
	static const char *const names[] = {SQLSCAN_TOKEN_LIST(SQLSCAN_NAME)};
#undef SQLSCAN_NAME
	return (unsigned)type < ARRAY_LEN(names) ? names[type] : "unknown";
}
