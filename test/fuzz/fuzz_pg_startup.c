/* The first packet: any bytes, with a length made right in half of the cases; and options split. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actors/pg/startup.h"
#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink;

static void split(const char *options)
{
	struct startup_setting *settings;
	struct error err = {0};
	struct arena a;
	uint32_t n;

	arena_init(&a, 1 << 20);
	if (startup_split_options(options, &a, &settings, &n, &err) == OK)
		for (uint32_t i = 0; i < n; i++)
			sink += strlen(settings[i].name) + strlen(settings[i].value);
	else
		check(err.text[0]);
	arena_release(&a);
}

static void walk(const struct startup *s)
{
	const char *name, *value;

	for (int pq = 0; pq < 2; pq++) {
		uint32_t pos = 0, n = 0;

		for (; startup_next(s, pq, &pos, &name, &value); n++)
			sink += strlen(name) + strlen(value);
		check(!pq || n == s->n_pq_options);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = {0};
	struct startup s;
	uint8_t *packet;
	uint32_t len;

	if (size < 1)
		return 0;
	packet = malloc(size);
	memcpy(packet, data + 1, size - 1);
	size--;
	if (data[0] & 1 && size >= 4)
		store_be32(packet, (uint32_t)size);
	if (data[0] & 2 && size >= 8)
		store_be32(packet + 4, 3 << 16 | data[0] >> 4);
	if (startup_peek(packet, (uint32_t)size, &len) == OK)
		check(len >= 8 && len <= STARTUP_PACKET_MAX);
	if (startup_read(packet, (uint32_t)size, &s, &err)) {
		check(err.text[0] && strlen(err.sqlstate) == 5);
	} else if (s.kind == STARTUP_SESSION) {
		walk(&s);
		check(s.user[0]);
		if (s.options)
			split(s.options);
	}
	packet[size] = '\0';
	split((const char *)packet);
	free(packet);
	return 0;
}
