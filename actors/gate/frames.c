/* What a client's bytes mean: see frames.h. Pure. */
#include "actors/gate/frames.h"

#include <string.h>

#include "actors/pg/wire.h"
#include "actors/tablet/messages.h"

enum kind {
	BAD,
	UNIT, /* is a unit by itself */
	EXTENDED, /* belongs to a batch, begins one if none is open */
	SYNC,
	SIDE, /* copy data and Flush: belongs to whatever runs */
	TERMINATE,
};

struct scan {
	struct frames *f;
	struct frames_cut *out;
	const uint8_t *base, *body;
	struct wire_frame frame;
	uint32_t pos, n_body; /* n_body: of the body, what has come */
	bool whole;
};

static enum kind kind_of(uint8_t type)
{
	switch (type) {
	case FE_QUERY:
	case FE_FUNCTION_CALL:
		return UNIT;
	case FE_PARSE:
	case FE_BIND:
	case FE_DESCRIBE:
	case FE_EXECUTE:
	case FE_CLOSE:
		return EXTENDED;
	case FE_SYNC:
		return SYNC;
	case FE_COPY_DATA:
	case FE_COPY_DONE:
	case FE_COPY_FAIL:
	case FE_FLUSH:
		return SIDE;
	case FE_TERMINATE:
		return TERMINATE;
	default:
		return BAD;
	}
}

static uint32_t max_of(uint8_t type)
{
	switch (type) {
	case FE_QUERY:
	case FE_FUNCTION_CALL:
	case FE_PARSE:
	case FE_BIND:
	case FE_COPY_DATA:
		return FRAMES_MESSAGE_MAX;
	default:
		return FRAMES_SMALL_MAX;
	}
}

static uint32_t hash_name(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return h;
}

static void classify(struct frames_cut *out, const char *text, uint32_t len, struct sqlclass *class)
{
	const uint32_t harmless = SQL_READS | SQL_EMPTY | SQL_BEGINS | SQL_ROLLS_BACK;

	sqlclass_text(text, len, class);
	out->pins |= class->reasons;
	if (class->reasons || !(class->facts & harmless))
		out->writes = true;
	if (class->facts & SQL_MULTIPLE && !(class->facts & SQL_READS))
		out->writes = true;
	if (class->facts & SQL_ROLLS_BACK)
		out->rolls_back = true;
}

static uint8_t flags_of(const struct sqlclass *class)
{
	return (uint8_t)((class->facts & SQL_COPIES ? EXECUTE_COPY : 0) |
			 (class->facts & SQL_MAY_COMMIT ? EXECUTE_COMMIT : 0));
}

/* Whether it happens to have come in one piece mustn't matter. */
static bool is_large(const struct scan *s)
{
	return s->frame.len > FRAMES_KEEP_MAX;
}

/* A text too large to be looked at: anything may be in it. */
static void on_large(struct scan *s)
{
	s->out->pins |= PIN_LARGE;
	s->out->flags |= EXECUTE_COPY | EXECUTE_COMMIT;
	s->out->writes = true;
}

static void drop_unnamed(struct scan *s)
{
	s->f->here = true;
	s->f->unnamed_flags = 0;
	s->f->unnamed_writes = false;
	s->out->unnamed_dropped = true;
	s->out->parse_len = 0;
}

/* A Query also ends the life of the unnamed statement (exec_simple_query: drop_unnamed_stmt). */
static void on_query(struct scan *s)
{
	const char *text;
	uint32_t len;
	struct sqlclass class;

	drop_unnamed(s);
	s->f->copy_ended = false;
	if (s->f->in_batch)
		s->out->pins |= PIN_MIXED;
	if (is_large(s)) {
		on_large(s);
	} else if (wire_read_query(s->body, s->n_body, &text, &len)) {
		s->out->pins |= PIN_UNKNOWN; /* Postgres will say what is wrong with it */
	} else {
		classify(s->out, text, len, &class);
		s->out->flags |= flags_of(&class);
	}
}

static void on_named_parse(struct scan *s, const char *name, uint8_t flags)
{
	struct frames *f = s->f;

	s->out->pins |= PIN_NAMED_STATEMENT;
	if (!(flags & EXECUTE_COMMIT))
		return;
	if (f->n_committers < FRAMES_COMMITTERS)
		f->committers[f->n_committers] = hash_name(name);
	if (f->n_committers <= FRAMES_COMMITTERS)
		f->n_committers++;
}

static void on_unnamed_parse(struct scan *s, uint8_t flags, bool writes)
{
	struct frames_cut *out = s->out;

	drop_unnamed(s);
	s->f->unnamed_flags = flags;
	s->f->unnamed_writes = writes;
	out->parses++;
	if (s->frame.len > FRAMES_UNNAMED_MAX) {
		out->pins |= PIN_UNNAMED_STATEMENT;
		return;
	}
	out->parse_off = s->pos;
	out->parse_len = s->frame.len;
}

static void on_parse(struct scan *s)
{
	struct wire_parse parse;
	struct sqlclass class;
	bool wrote = s->out->writes;
	uint8_t flags;

	if (is_large(s)) {
		on_large(s);
		drop_unnamed(s);
		return;
	}
	if (wire_read_parse(s->body, s->n_body, &parse)) {
		s->out->pins |= PIN_UNKNOWN;
		return;
	}
	s->out->writes = false;
	classify(s->out, parse.query, parse.query_len, &class);
	flags = flags_of(&class);
	s->out->flags |= flags;
	if (flags & EXECUTE_COPY)
		s->out->pins |= PIN_COPY_EXTENDED;
	if (*parse.name)
		on_named_parse(s, parse.name, flags);
	else
		on_unnamed_parse(s, flags, s->out->writes);
	s->out->writes |= wrote;
}

static void use_unnamed(struct scan *s)
{
	if (!s->f->here)
		s->out->needs_unnamed = true;
	s->f->here = true;
	s->out->flags |= s->f->unnamed_flags;
	s->out->writes |= s->f->unnamed_writes;
}

static bool may_commit(const struct frames *f, const char *name)
{
	uint32_t h = hash_name(name);

	if (f->n_committers > FRAMES_COMMITTERS)
		return true;
	for (unsigned i = 0; i < f->n_committers; i++)
		if (f->committers[i] == h)
			return true;
	return false;
}

static void on_bind(struct scan *s)
{
	struct wire_bind bind;

	if (wire_read_bind(s->body, s->n_body, &bind)) {
		s->out->pins |= s->whole ? PIN_UNKNOWN : PIN_LARGE;
		return;
	}
	if (!*bind.statement) {
		use_unnamed(s);
		return;
	}
	s->out->writes = true;
	if (!may_commit(s->f, bind.statement))
		return;
	s->out->flags |= EXECUTE_COMMIT;
	if (*bind.portal) /* executed in who knows which batch */
		s->f->n_committers = FRAMES_COMMITTERS + 1;
}

static void on_target(struct scan *s)
{
	struct wire_target target;

	if (wire_read_target(s->body, s->n_body, &target) || target.kind != 'S' || *target.name)
		return;
	if (s->frame.type == FE_CLOSE)
		drop_unnamed(s);
	else
		use_unnamed(s);
}

static void note(struct scan *s)
{
	switch (s->frame.type) {
	case FE_QUERY:
		on_query(s);
		break;
	case FE_FUNCTION_CALL:
		s->out->pins |= PIN_FUNCTION_CALL | (s->f->in_batch ? PIN_MIXED : 0);
		s->out->writes = true;
		break;
	case FE_PARSE:
		on_parse(s);
		break;
	case FE_BIND:
		on_bind(s);
		break;
	case FE_DESCRIBE:
	case FE_CLOSE:
		on_target(s);
		break;
	case FE_COPY_DATA: /* in part: its COPY may end meanwhile, but the backend must not go to another */
		s->out->pins |= is_large(s) ? PIN_LARGE : 0;
		break;
	case FE_COPY_DONE:
	case FE_COPY_FAIL:
		s->f->copy_ended = true;
		break;
	default:
		if (s->frame.type == FE_EXECUTE && s->f->n_committers > FRAMES_COMMITTERS)
			s->out->flags |= EXECUTE_COMMIT;
		break;
	}
}

/* Must the message have wholly come before it goes on? */
static bool must_be_whole(const struct scan *s)
{
	struct wire_bind bind;

	switch (s->frame.type) {
	case FE_FUNCTION_CALL:
		return false;
	case FE_BIND: /* its names are enough, but they must be there */
		return s->n_body < FRAMES_KEEP_MAX && wire_read_bind(s->body, s->n_body, &bind) != OK;
	default:
		return s->frame.len <= FRAMES_KEEP_MAX;
	}
}

static void take_remain(struct scan *s, unsigned how, uint32_t n)
{
	struct frames *f = s->f;
	uint32_t take = f->remain < n ? f->remain : n;

	f->remain -= take;
	s->pos = take;
	if (f->discard || !(how & FRAMES_LEASED)) /* no lease ends inside a message that matters */
		s->out->skip = take;
	else
		s->out->len = take;
	if (!f->remain)
		f->discard = false;
}

static void take_message(struct scan *s, enum kind kind, bool drop)
{
	struct frames *f = s->f;
	uint32_t have = WIRE_HEADER + s->n_body;

	if (drop) {
		s->out->skip += have;
	} else {
		s->out->len += have;
		s->out->units += kind == UNIT || ((kind == EXTENDED || kind == SYNC) && !f->in_batch);
		note(s);
		if (kind == EXTENDED)
			f->in_batch = true;
		else if (kind == SYNC)
			f->in_batch = false;
	}
	if (!s->whole) {
		f->remain = s->frame.len - have;
		f->discard = drop;
	}
	s->pos += have;
}

static enum frames_end peek(struct scan *s, uint32_t n, enum kind *kind)
{
	const uint8_t *p = s->base + s->pos;
	uint32_t left = n - s->pos;
	enum status st;

	*kind = kind_of(*p);
	s->out->bad_type = *p;
	if (*kind == BAD)
		return FRAMES_BAD_TYPE;
	st = wire_frame_peek(p, left, max_of(*p), &s->frame);
	if (st)
		return st == E_AGAIN ? FRAMES_MORE : FRAMES_BAD_LENGTH;
	s->whole = s->frame.len <= left;
	s->body = p + WIRE_HEADER;
	s->n_body = (s->whole ? s->frame.len : left) - WIRE_HEADER;
	return FRAMES_ALL;
}

void frames_scan(struct frames *f, unsigned how, const uint8_t *p, uint32_t n, struct frames_cut *out)
{
	struct scan s = {.f = f, .out = out, .base = p};
	enum kind kind;

	*out = (struct frames_cut){.end = FRAMES_ALL};
	take_remain(&s, how, n);
	while (s.pos < n) {
		bool begins, drop;

		out->end = peek(&s, n, &kind);
		if (out->end != FRAMES_ALL)
			return;
		begins = !f->in_batch && (kind == UNIT || kind == EXTENDED || kind == SYNC);
		if (begins && !(how & FRAMES_MAY_BEGIN))
			out->end = FRAMES_HOLD;
		else if (!s.whole && must_be_whole(&s))
			out->end = FRAMES_MORE;
		else if (kind == TERMINATE)
			out->end = FRAMES_TERMINATE;
		if (out->end != FRAMES_ALL)
			return;
		drop = kind == SIDE && !(how & FRAMES_LEASED) && out->len == 0;
		take_message(&s, kind, drop);
	}
}
