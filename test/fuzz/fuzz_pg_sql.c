/*
 * Lexer and classifier on any bytes. Tokens are in order, inside the text, and leave only blanks and comments between
 * them; a statement taken out of its text and classified alone gives the same answer.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actors/pg/sqlclass.h"
#include "runtime/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void scan_all(const char *text, uint32_t len, bool standard)
{
	struct sqlscan s = sqlscan(text, len, standard);
	struct sqlscan_token t;
	uint32_t at = 0;

	while ((t = sqlscan_next(&s)).type != SQL_END) {
		check(t.off >= at && t.len > 0 && t.off + t.len <= len);
		check((t.type == SQL_PUNCT) == (t.punct != 0) || text[t.off] == '\0');
		at = t.off + t.len;
	}
	check(sqlscan_next(&s).type == SQL_END);
}

static void classify(const char *text, uint32_t len)
{
	struct sqlscan s = sqlscan(text, len, true);
	struct sqlclass whole, one, alone;
	uint32_t off, n, reasons = 0, statements = 0;

	sqlclass_text(text, len, &whole);
	while (sqlclass_statement(&s, &one, &off, &n)) {
		char *copy = malloc(n);

		check(off + n <= len);
		memcpy(copy, text + off, n);
		sqlclass_text(copy, n, &alone);
		check(alone.n_statements == 1 && alone.reasons == one.reasons);
		check((alone.facts & ~(uint32_t)SQL_READS) == (one.facts & ~(uint32_t)SQL_READS));
		free(copy);
		reasons |= one.reasons;
		statements++;
	}
	check(reasons == whole.reasons && statements == whole.n_statements);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text = realloc(text, size ? size : 1);
	scan_all(text, (uint32_t)size, true);
	scan_all(text, (uint32_t)size, false);
	classify(text, (uint32_t)size);
	free(text);
	return 0;
}
