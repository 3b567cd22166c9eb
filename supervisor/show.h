/* How mgctl shows answers: tables aligned for people, or as JSON for programs. jansson lives here and in mgctl. */
#ifndef SUPERVISOR_SHOW_H
#define SUPERVISOR_SHOW_H

#include "supervisor/messages.h"

/* Prints a table's bytes to stdout. Columns that are all empty are left out for people, kept in JSON. */
enum status show_table(const void *bytes, size_t n, bool json) MUST_CHECK;
/* Prints a table as JSON, an object a line, for what goes on. */
enum status show_lines(const void *bytes, size_t n) MUST_CHECK;
/* Prints the answer of `actors` as a tree by parents, children under their supervisor. */
enum status show_tree(const void *bytes, size_t n) MUST_CHECK;
/* Prints {"status": ..., "text": ...}, or the text. */
void show_text(enum status st, const char *text, bool json);
/*
 * A JSON object as a msgpack map in `out`: numbers, booleans (1, 0), texts, {"hex": "..."} as bin. With `type` (not
 * NULL) the member "type" is taken out and given there; it must be present.
 */
enum status pack_json(
	const char *text, char *type, size_t cap, struct writer *out, struct error *err) MUST_CHECK;

#endif
