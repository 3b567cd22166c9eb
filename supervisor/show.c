/* Tables to columns, trees or JSON; JSON to msgpack. */
#include "supervisor/show.h"

#include <inttypes.h>
#include <jansson.h>
#include <msgpack.h>

#include "runtime/base/bytes.h"
#include "supervisor/reader.h"

enum { WIDTH_MAX = 80, JSON_DEPTH_MAX = 8, TREE_DEPTH_MAX = 16, NONE = -1 };

static int write_out(void *data, const char *bytes, size_t n)
{
	writer_put(data, bytes, (uint32_t)n);
	return 0;
}

/* ---- text ---------------------------------------------------------------------------------------------------- */

/* A table read whole: rows of cells that point into the input. */
struct grid {
	uint32_t n_columns, n_rows, cap;
	struct cell columns[TABLE_COLUMNS_MAX];
	struct cell *cells;
};

static enum status grid_read(struct grid *g, const void *bytes, size_t n)
{
	struct cell row[TABLE_COLUMNS_MAX];
	struct table_reader r;

	*g = (struct grid){0};
	if (table_read(&r, bytes, n))
		return E_INVALID;
	g->n_columns = r.n_columns;
	memcpy(g->columns, r.columns, sizeof(g->columns));
	while (table_next(&r, row)) {
		if (g->n_rows == g->cap) {
			g->cap = g->cap ? g->cap * 2 : 64;
			g->cells = realloc(g->cells, (size_t)g->cap * g->n_columns * sizeof(struct cell));
			check(g->cells != NULL);
		}
		memcpy(g->cells + (size_t)g->n_rows++ * g->n_columns, row,
			g->n_columns * sizeof(struct cell));
	}
	return OK;
}

static const struct cell *grid_at(const struct grid *g, uint32_t row, uint32_t column)
{
	return &g->cells[(size_t)row * g->n_columns + column];
}

/* Columns a terminal shows, by code points of UTF-8. */
static int text_width(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void print_cell(const struct cell *c, int width, bool number, bool last)
{
	char text[4096];
	int pad;

	cell_text(c, text, sizeof(text));
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' '; /* what came from elsewhere doesn't steer the terminal */
	pad = width - text_width(text);
	if (number && pad > 0)
		printf("%*s", pad, "");
	fputs(text, stdout);
	if (!last)
		printf("%*s  ", !number && pad > 0 ? pad : 0, "");
}

static void print_grid(const struct grid *g)
{
	int widths[TABLE_COLUMNS_MAX];
	bool numbers[TABLE_COLUMNS_MAX];
	uint32_t last = 0;
	char text[4096];

	for (uint32_t c = 0; c < g->n_columns; c++) {
		bool empty = true;

		numbers[c] = g->n_rows > 0;
		widths[c] = text_width(cell_text(&g->columns[c], text, sizeof(text)));
		for (uint32_t r = 0; r < g->n_rows; r++) {
			int w = text_width(cell_text(grid_at(g, r, c), text, sizeof(text)));

			empty &= w == 0;
			numbers[c] &= grid_at(g, r, c)->kind != CELL_STR;
			if (w > widths[c])
				widths[c] = w < WIDTH_MAX ? w : WIDTH_MAX;
		}
		if (empty && g->n_rows)
			widths[c] = NONE;
		else
			last = c;
	}
	for (uint32_t r = 0; r <= g->n_rows; r++) {
		for (uint32_t c = 0; c <= last; c++)
			if (widths[c] != NONE)
				print_cell(r ? grid_at(g, r - 1, c) : &g->columns[c], widths[c], numbers[c],
					c == last);
		putchar('\n');
	}
}

static void print_json(json_t *v)
{
	json_dumpf(v, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(v);
}

static json_t *cell_json(const struct cell *c)
{
	json_t *v = NULL;

	switch (c->kind) {
	case CELL_NIL:
		break;
	case CELL_STR:
		v = json_stringn(c->s, c->n);
		break;
	case CELL_U64:
		v = json_integer((json_int_t)c->u);
		break;
	case CELL_I64:
		v = json_integer((json_int_t)c->i);
		break;
	}
	return v ? v : json_null(); /* also for bytes that are no UTF-8 */
}

static json_t *row_json(const struct grid *g, uint32_t r)
{
	json_t *row = json_object();
	char name[64];

	for (uint32_t c = 0; c < g->n_columns; c++)
		json_object_set_new(
			row, cell_text(&g->columns[c], name, sizeof(name)), cell_json(grid_at(g, r, c)));
	return row;
}

enum status show_table(const void *bytes, size_t n, bool json)
{
	struct grid g;
	json_t *list;

	if (grid_read(&g, bytes, n))
		return E_INVALID;
	if (json) {
		list = json_array();
		for (uint32_t r = 0; r < g.n_rows; r++)
			json_array_append_new(list, row_json(&g, r));
		print_json(list);
	} else if (g.n_rows) {
		print_grid(&g);
	} else {
		puts("(none)");
	}
	free(g.cells);
	return OK;
}

enum status show_lines(const void *bytes, size_t n)
{
	struct grid g;

	if (grid_read(&g, bytes, n))
		return E_INVALID;
	for (uint32_t r = 0; r < g.n_rows; r++) {
		json_t *row = row_json(&g, r);

		json_dumpf(row, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
		putchar('\n');
		json_decref(row);
	}
	free(g.cells);
	return OK;
}

/* ---- the tree -------------------------------------------------------------------------------------------------- */

static int column_of(const struct grid *g, const char *name)
{
	for (uint32_t c = 0; c < g->n_columns; c++)
		if (cell_is(&g->columns[c], name))
			return (int)c;
	return NONE;
}

struct tree {
	struct grid g;
	int pid, name, behaviour, parent;
	uint32_t *order, n; /* rows in the order shown */
	uint8_t *depth; /* 0: not placed yet; else depth + 1 */
	char (*labels)[128];
};

/* Places the children of a pid under it, depth first. Rows come by slot, parents before children mostly. */
static void tree_place(struct tree *t, const struct cell *parent, uint8_t depth)
{
	for (uint32_t r = 0; depth < TREE_DEPTH_MAX && r < t->g.n_rows; r++) {
		const struct cell *p = grid_at(&t->g, r, (uint32_t)t->parent);
		bool under =
			parent ? p->n == parent->n && p->n && memcmp(p->s, parent->s, p->n) == 0 : p->n == 0;

		if (t->depth[r] || !under)
			continue;
		t->depth[r] = (uint8_t)(depth + 1);
		t->order[t->n++] = r;
		tree_place(t, grid_at(&t->g, r, (uint32_t)t->pid), (uint8_t)(depth + 1));
	}
}

enum status show_tree(const void *bytes, size_t n)
{
	struct tree t = {0};
	struct grid out;
	uint32_t rows;

	if (grid_read(&t.g, bytes, n))
		return E_INVALID;
	t.pid = column_of(&t.g, "pid");
	t.name = column_of(&t.g, "name");
	t.parent = column_of(&t.g, "parent");
	rows = t.g.n_rows;
	if (t.pid < 0 || t.name < 0 || t.parent < 0) {
		free(t.g.cells);
		return E_INVALID;
	}
	t.order = calloc(rows + 1, sizeof(*t.order));
	t.depth = calloc(rows + 1, 1);
	t.labels = calloc(rows + 1, sizeof(*t.labels));
	out = (struct grid){.n_columns = t.g.n_columns,
		.cells = calloc((size_t)rows * t.g.n_columns + 1, sizeof(struct cell))};
	check(t.order && t.depth && t.labels && out.cells);
	tree_place(&t, NULL, 0);
	for (uint32_t r = 0; r < rows; r++) /* whose parent is gone or elsewhere */
		if (!t.depth[r]) {
			t.depth[r] = 1;
			t.order[t.n++] = r;
		}
	memcpy(out.columns, t.g.columns, sizeof(out.columns));
	for (uint32_t i = 0; i < t.n; i++) {
		uint32_t r = t.order[i], name = (uint32_t)t.name;
		struct cell *row = out.cells + (size_t)out.n_rows++ * out.n_columns;

		memcpy(row, t.g.cells + (size_t)r * t.g.n_columns, sizeof(struct cell) * t.g.n_columns);
		snprintf(t.labels[i], sizeof(t.labels[i]), "%*s%.*s", 2 * (t.depth[r] - 1), "",
			row[name].n ? (int)row[name].n : 1, row[name].n ? row[name].s : "-");
		row[name] =
			(struct cell){.kind = CELL_STR, .s = t.labels[i], .n = (uint32_t)strlen(t.labels[i])};
		row[t.parent] = (struct cell){0};
		if (name != 0) { /* the tree goes in front */
			struct cell first = row[0];

			row[0] = row[name];
			row[name] = first;
		}
	}
	if (t.name != 0) {
		struct cell first = out.columns[0];

		out.columns[0] = out.columns[t.name];
		out.columns[t.name] = first;
	}
	print_grid(&out);
	free(out.cells);
	free(t.labels);
	free(t.order);
	free(t.depth);
	free(t.g.cells);
	return OK;
}

/* ---- text, JSON in ---------------------------------------------------------------------------------------------- */

void show_text(enum status st, const char *text, bool json)
{
	json_t *v;

	if (!json) {
		if (text[0])
			puts(text);
		return;
	}
	v = json_object();
	json_object_set_new(v, "status", json_string(status_name(st)));
	json_object_set_new(v, "text", json_string(text));
	print_json(v);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum status pack_hex(msgpack_packer *pk, const char *hex)
{
	size_t n = strlen(hex) / 2;

	if (strlen(hex) % 2)
		return E_INVALID;
	msgpack_pack_bin(pk, n);
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
		char byte = (char)(high << 4 | low);

		if (high < 0 || low < 0)
			return E_INVALID;
		msgpack_pack_bin_body(pk, &byte, 1);
	}
	return OK;
}

static enum status pack_value(msgpack_packer *pk, const json_t *v)
{
	if (json_is_string(v)) {
		msgpack_pack_str(pk, json_string_length(v));
		msgpack_pack_str_body(pk, json_string_value(v), json_string_length(v));
		return OK;
	}
	if (json_is_integer(v)) {
		msgpack_pack_int64(pk, json_integer_value(v));
		return OK;
	}
	if (json_is_boolean(v)) {
		msgpack_pack_int64(pk, json_is_true(v));
		return OK;
	}
	if (json_is_object(v) && json_object_size(v) == 1 && json_is_string(json_object_get(v, "hex")))
		return pack_hex(pk, json_string_value(json_object_get(v, "hex")));
	return E_INVALID;
}

enum status pack_json(const char *text, char *type, size_t cap, struct writer *out, struct error *err)
{
	json_error_t where;
	json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, &where), *item;
	msgpack_packer pk;
	const char *key;
	enum status st = OK;

	if (!v)
		return error_set(
			err, E_INVALID, "22023", "not JSON: %s (at column %d)", where.text, where.column);
	if (!json_is_object(v)) {
		json_decref(v);
		return error_set(
			err, E_INVALID, "22023", "expected a JSON object of fields, such as {\"key\": 1}");
	}
	if (type) {
		item = json_object_get(v, "type");
		if (!json_is_string(item) || !str_copy(type, cap, json_string_value(item))) {
			json_decref(v);
			return error_set(err, E_INVALID, "22023",
				"name the message: \"type\" in the object, or before it");
		}
		json_object_del(v, "type");
	}
	msgpack_packer_init(&pk, out, write_out);
	msgpack_pack_map(&pk, json_object_size(v));
	json_object_foreach(v, key, item)
	{
		msgpack_pack_str(&pk, strlen(key));
		msgpack_pack_str_body(&pk, key, strlen(key));
		if (pack_value(&pk, item)) {
			st = error_set(err, E_INVALID, "22023",
				"field \"%s\": expected a text, a whole number, true, false or {\"hex\": "
				"\"...\"}",
				key);
			break;
		}
	}
	json_decref(v);
	return st;
}
