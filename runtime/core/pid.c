/* Pids as text. */
#include "runtime/core/pid.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *pid_format(struct pid p, char text[PID_TEXT_MAX])
{
	snprintf(text, PID_TEXT_MAX, "<%u.%u.%u.%u>", (unsigned)(p.node >> 48), pid_worker(p), pid_slot(p),
		pid_generation(p));
	return text;
}

enum status pid_parse(const char *text, uint64_t node, struct pid *out)
{
	unsigned id, worker, slot, generation;
	char again[PID_TEXT_MAX];
	int end = 0;

	if (sscanf(text, "<%5u.%3u.%8u.%10u>%n", &id, &worker, &slot, &generation, &end) != 4 || end == 0 ||
		text[end] != '\0')
		return E_INVALID;
	if (id != (unsigned)(node >> 48) || worker >= WORKERS_MAX || slot >= SLOTS_MAX)
		return E_INVALID;
	*out = pid_make(node, (uint8_t)worker, slot, generation);
	/* sscanf takes signs, spaces and numbers that overflow: only what we would write is a pid */
	return strcmp(pid_format(*out, again), text) == 0 ? OK : E_INVALID;
}
