/* Bounded reading of tables and maps. Every failure is "no more rows" or "not there"; nothing here can overrun. */
#include "supervisor/reader.h"

#include <inttypes.h>

enum { MSGPACK_NIL = 0xc0 };

static enum status read_cell(struct unpack *u, struct cell *c)
{
	struct unpack at = *u;

	*c = (struct cell){0};
	if (u->p < u->end && *u->p == MSGPACK_NIL) {
		u->p++;
		return OK;
	}
	if (unpack_str(&at, &c->s, &c->n) == OK) {
		c->kind = CELL_STR;
	} else if (at = *u, unpack_u64(&at, &c->u) == OK) {
		c->kind = CELL_U64;
	} else if (at = *u, unpack_i64(&at, &c->i) == OK) {
		c->kind = CELL_I64;
	} else {
		return E_INVALID;
	}
	*u = at;
	return OK;
}

enum status table_read(struct table_reader *r, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	struct cell key;
	uint32_t entries;

	*r = (struct table_reader){.u = {.p = p, .end = p + n}};
	if (unpack_map(&r->u, &entries) || entries != 2 || read_cell(&r->u, &key) ||
		!cell_is(&key, "columns") || unpack_array(&r->u, &r->n_columns) || r->n_columns == 0 ||
		r->n_columns > TABLE_COLUMNS_MAX)
		return E_INVALID;
	for (uint32_t i = 0; i < r->n_columns; i++)
		if (read_cell(&r->u, &r->columns[i]) || r->columns[i].kind != CELL_STR)
			return E_INVALID;
	if (read_cell(&r->u, &key) || !cell_is(&key, "rows") || unpack_array(&r->u, &r->rows_left))
		return E_INVALID;
	return OK;
}

bool table_next(struct table_reader *r, struct cell cells[TABLE_COLUMNS_MAX])
{
	uint32_t n;

	if (r->rows_left == 0 || unpack_array(&r->u, &n) || n != r->n_columns)
		return false;
	r->rows_left--;
	for (uint32_t i = 0; i < n; i++)
		if (read_cell(&r->u, &cells[i]))
			return false;
	return true;
}

int table_column(const struct table_reader *r, const char *name)
{
	for (uint32_t i = 0; i < r->n_columns; i++)
		if (cell_is(&r->columns[i], name))
			return (int)i;
	return -1;
}

bool cell_is(const struct cell *c, const char *text)
{
	return c->kind == CELL_STR && c->n == strlen(text) && memcmp(c->s, text, c->n) == 0;
}

const char *cell_text(const struct cell *c, char *out, size_t cap)
{
	switch (c->kind) {
	case CELL_NIL:
		out[0] = '\0';
		break;
	case CELL_STR:
		snprintf(out, cap, "%.*s", (int)c->n, c->s);
		break;
	case CELL_U64:
		snprintf(out, cap, "%" PRIu64, c->u);
		break;
	case CELL_I64:
		snprintf(out, cap, "%" PRId64, c->i);
		break;
	}
	return out;
}

void cell_copy(struct table_writer *t, const struct cell *c)
{
	char text[2048], *copy = text;

	switch (c->kind) {
	case CELL_NIL:
		table_nil(t);
		break;
	case CELL_STR:
		if (c->n >= sizeof(text))
			copy = malloc(c->n + 1);
		check(copy != NULL);
		memcpy(copy, c->s, c->n);
		copy[c->n] = '\0';
		table_str(t, copy);
		if (copy != text)
			free(copy);
		break;
	case CELL_U64:
		table_u64(t, c->u);
		break;
	case CELL_I64:
		table_i64(t, c->i);
		break;
	}
}

bool map_find(const void *bytes, size_t n, const char *key, struct unpack *at)
{
	const uint8_t *p = bytes;
	struct unpack u = {.p = p, .end = p + n};
	uint32_t entries;

	if (n == 0 || unpack_map(&u, &entries))
		return false;
	for (uint32_t i = 0; i < entries; i++) {
		struct cell name;

		if (read_cell(&u, &name))
			return false;
		if (cell_is(&name, key)) {
			*at = u;
			return true;
		}
		if (unpack_skip(&u))
			return false;
	}
	return false;
}

bool map_str(const void *bytes, size_t n, const char *key, char *out, size_t cap)
{
	struct unpack at;
	struct cell c;

	out[0] = '\0';
	if (!map_find(bytes, n, key, &at) || read_cell(&at, &c) || c.kind == CELL_NIL)
		return false;
	if (c.kind == CELL_STR && (c.n >= cap || memchr(c.s, '\0', c.n)))
		return false;
	cell_text(&c, out, cap);
	return true;
}
