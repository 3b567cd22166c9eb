/* Following a backend's answer: see answers.h. Pure. */
#include "actors/gate/answers.h"

#include <string.h>

#include "actors/pg/wire.h"
#include "runtime/base/bytes.h"

void answers_begin(struct answers *a, uint8_t swallow)
{
	*a = (struct answers){.swallow = swallow, .on = true};
}

/* True when the message is to be taken out. */
static bool on_header(struct answers *a)
{
	uint8_t type = a->head[0];
	uint32_t len = load_be32(a->head + 1);
	bool swallowed = a->swallow && type == a->swallow;

	a->n_head = 0;
	a->skip = len > 4 ? len - 4 : 0;
	if (type == BE_PARSE_COMPLETE)
		a->parsed++;
	if (a->copy && (type == BE_COPY_IN || type == BE_COPY_OUT || type == BE_ERROR || type == BE_READY)) {
		a->copy = false;
		a->copy_in = type == BE_COPY_IN;
	}
	if (swallowed || type == BE_ERROR) /* an error: ours failed, and the client hears it */
		a->swallow = 0;
	return swallowed;
}

void answers_scan(struct answers *a, const uint8_t *p, uint32_t n, struct answers_cut *out)
{
	uint32_t pos = 0, start = 0, held = a->swallow ? a->n_head : 0;

	*out = (struct answers_cut){.from = n, .to = n, .before = n};
	memcpy(out->head, a->head, held);
	out->n_head = (uint8_t)held;
	while (pos < n) {
		uint32_t step = n - pos;
		bool swallowing;

		if (a->skip) {
			step = a->skip < step ? a->skip : step;
			a->skip -= step;
			pos += step;
			continue;
		}
		if (!a->n_head)
			start = pos;
		swallowing = a->swallow != 0;
		a->head[a->n_head++] = p[pos++];
		if (a->n_head < WIRE_HEADER) {
			if (pos == n && swallowing) { /* hold the part back */
				if (held)
					out->n_head = 0;
				out->before = held ? 0 : start;
			}
			continue;
		}
		if (on_header(a)) {
			out->before = held ? 0 : start;
			out->from = pos;
			if (held)
				out->n_head = 0;
		}
		held = 0;
	}
}
