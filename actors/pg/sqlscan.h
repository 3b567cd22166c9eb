/*
 * A lexer for Postgres's SQL: the rules of scan.l (Postgres manual, "Lexical Structure"), of all versions from 13 to 18
 * where they differ in a way that matters here. One pass, O(n), no allocation, no recursion; any bytes are accepted, and
 * no byte outside the text is read.
 *
 * It finds where tokens begin and end, no more: nothing is unescaped or checked. It must agree with Postgres on where
 * strings, comments and quoted names end, for the classifier and the router trust it there. Two things it must be told
 * or spared: standard_conforming_strings, and client encodings in which a byte of a longer character may be a backslash
 * (SJIS, BIG5, GBK, UHC, GB18030, JOHAB, SHIFT_JIS_2004): sessions with these are not to be scanned.
 */
#ifndef ACTORS_PG_SQLSCAN_H
#define ACTORS_PG_SQLSCAN_H

#include <stdbool.h>
#include <stdint.h>

#define SQLSCAN_TOKEN_LIST(T)                                                                                \
	T(SQL_END) /* the end of the text */                                                                 \
	T(SQL_WORD) /* a keyword or unquoted name */                                                         \
	T(SQL_QUOTED) /* "..." */                                                                            \
	T(SQL_UQUOTED) /* U&"..." */                                                                         \
	T(SQL_STRING) /* any literal in quotes or dollars, with its prefix and continuation lines */         \
	T(SQL_NUMBER)                                                                                        \
	T(SQL_PARAM) /* $1 */                                                                                \
	T(SQL_PUNCT) /* one of ( ) [ ] , ; . : or a byte that begins nothing */                              \
	T(SQL_OP) /* an operator, also :: := and => */                                                       \
	T(SQL_BROKEN) /* a string, name or comment that doesn't end: goes to the end of the text */

#define SQLSCAN_ENUM(name) name,
enum sqlscan_type { SQLSCAN_TOKEN_LIST(SQLSCAN_ENUM) };
#undef SQLSCAN_ENUM

struct sqlscan_token {
	enum sqlscan_type type;
	char punct; /* SQL_PUNCT: the byte; else 0 */
	uint32_t off, len; /* bytes, in the text */
};

struct sqlscan {
	const char *text, *p, *end;
	bool standard_strings; /* standard_conforming_strings */
};

static inline struct sqlscan sqlscan(const char *text, uint32_t len, bool standard_strings)
{
	return (struct sqlscan){
		.text = text, .p = text, .end = text + len, .standard_strings = standard_strings};
}

/* The next token, after blanks and comments. At the end it gives SQL_END, as often as asked. */
struct sqlscan_token sqlscan_next(struct sqlscan *s);

/* The token's type in text, for tests and traces. */
const char *sqlscan_type_name(enum sqlscan_type type);

#endif
