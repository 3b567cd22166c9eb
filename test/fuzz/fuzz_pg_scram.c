/*
 * Both sides of SCRAM on any messages: the input is cut at bytes 0xff, first byte choosing the set-up. No input may be
 * accepted as a proof: the verifier's keys are zero bytes that hash to nothing known.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actors/pg/scram.h"
#include "runtime/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next piece, as a heap copy of exact size, so that ASan sees a read beyond it. */
static uint8_t *piece(const uint8_t **p, const uint8_t *end, uint32_t *n)
{
	const uint8_t *cut = *p < end ? memchr(*p, 0xff, (size_t)(end - *p)) : NULL;
	uint8_t *copy;

	if (!cut)
		cut = end;
	*n = (uint32_t)(cut - *p);
	copy = malloc(*n + 1);
	memcpy(copy, *p, *n);
	copy[*n] = '\0';
	*p = cut < end ? cut + 1 : end;
	return copy;
}

static void serve(const uint8_t *p, const uint8_t *end, unsigned flags)
{
	static const uint8_t nonce[SCRAM_NONCE] = "0123456789abcdefg";
	struct scram_verifier v = {.iterations = 1, .salt_len = 16, .is_mock = flags & 4};
	struct scram_binding binding = {.len = flags & 2 ? 32 : 0};
	struct scram_server s;
	struct error err;
	struct writer w;
	uint32_t n;
	uint8_t *first = piece(&p, end, &n), *final;

	writer_init(&w, 1 << 16);
	scram_server_init(&s, &v, nonce, &binding, flags & 1);
	if (scram_server_first(&s, first, n, &w, &err) == OK) {
		final = piece(&p, end, &n);
		check(scram_server_final(&s, final, n, &w, &err) != OK);
		free(final);
	}
	free(first);
	writer_release(&w);
}

static void ask(const uint8_t *p, const uint8_t *end, unsigned flags)
{
	static const uint8_t nonce[SCRAM_NONCE] = "0123456789abcdefg";
	struct scram_binding binding = {.len = flags & 2 ? 32 : 0};
	struct scram_keys keys = {0};
	struct scram_client c;
	struct error err;
	struct writer w;
	uint32_t n;
	uint8_t *first = piece(&p, end, &n), *final;

	writer_init(&w, 1 << 16);
	scram_client_init(&c, nonce, &binding, flags & 1);
	scram_client_first(&c, &w);
	if (scram_client_challenge(&c, first, n, &err) == OK) {
		check(c.salt_len >= 1 && c.salt_len <= SCRAM_SALT_MAX &&
			c.iterations <= SCRAM_ITERATIONS_MAX);
		check(scram_client_final(&c, &keys, &w, &err) == OK);
		final = piece(&p, end, &n);
		(void)!scram_client_verify(&c, final, n, &err);
		free(final);
	}
	free(first);
	writer_release(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scram_verifier v;
	const uint8_t *p = data + 1, *end = data + size;
	uint8_t *text;
	uint32_t n;

	if (size < 2)
		return 0;
	serve(p, end, data[0] & 7);
	ask(p, end, data[0] & 7);
	text = piece(&p, end, &n);
	if (scram_verifier_parse((const char *)text, &v) == OK)
		check(v.salt_len >= 1 && v.iterations >= 1);
	free(text);
	return 0;
}
