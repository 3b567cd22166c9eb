/*
 * libFuzzer over what comes from a wire: msg_decode, and the cursor. What is taken must be in range, print, and come
 * back the same when it is encoded again. Build: make FLAVOUR=fuzz CC=clang B=build/fuzz fuzzers
 */
#include "runtime/base/log.h"
#include "runtime/core/codec.h"
#include "runtime/core/supervise.h"
#include "runtime/sim/sim.h"

enum { OUT_MAX = 32 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct worker *worker_of_one_node(void)
{
	static struct sim *s;

	if (!s) {
		log_set_level((enum log_level) - 1);
		catalog_add_core();
		catalog_add_sup();
		s = sim_new(&(struct sim_spec){.seed = 1, .n_nodes = 1, .n_workers = 1});
	}
	return sim_worker(s, 1, 0);
}

static void again(struct worker *w, struct msg *m)
{
	struct writer first, second;
	struct msg *back;

	writer_init(&first, OUT_MAX);
	writer_init(&second, OUT_MAX);
	msg_encode(m, 0, &first);
	check(!first.failed && msg_decode(w, first.buf->data, first.len, 0, &back) == OK);
	msg_encode(back, 0, &second);
	check(first.len == second.len && memcmp(first.buf->data, second.buf->data, first.len) == 0);
	writer_release(&first);
	writer_release(&second);
	back->bits &= (uint8_t)~MSG_IS_REQUEST;
	worker_msg_free(w, back);
}

static void fuzz_message(struct worker *w, const uint8_t *data, size_t size)
{
	struct writer text;
	struct msg *m;

	if (msg_decode(w, data, size, 0, &m))
		return;
	again(w, m);
	writer_init(&text, OUT_MAX);
	msg_print(m, &text);
	check(!text.failed);
	writer_release(&text);
	m->bits &= (uint8_t)~MSG_IS_REQUEST; /* settling it would send to a pid out of the input */
	worker_msg_free(w, m);
}

/* Reads the input as a sequence of whatever the first byte of each value says, by all getters in turn. */
static void fuzz_cursor(const uint8_t *data, size_t size)
{
	struct unpack u = {.p = data, .end = data + size};
	const uint8_t *bytes;
	const char *text;
	uint32_t n;
	uint64_t v;
	int64_t i;

	while (u.p < u.end) {
		struct unpack before = u;

		if (unpack_u64(&u, &v) == OK || (u = before, unpack_i64(&u, &i)) == OK ||
			(u = before, unpack_str(&u, &text, &n)) == OK ||
			(u = before, unpack_bin(&u, &bytes, &n)) == OK ||
			(u = before, unpack_array(&u, &n)) == OK || (u = before, unpack_map(&u, &n)) == OK ||
			(u = before, unpack_skip(&u)) == OK) {
			check(u.p > before.p && u.p <= u.end);
			continue;
		}
		u = before;
		u.p++;
		u.depth = 0;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct worker *w = worker_of_one_node();

	fuzz_message(w, data, size);
	fuzz_cursor(data, size);
	return 0;
}
