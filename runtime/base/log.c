/* Log lines: formatted on the stack, one write each. */
#include "runtime/base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int level_now = LOG_INFO_LEVEL;
static void (*sink_now)(enum log_level level, const char *line);
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_set_level(enum log_level level)
{
	level_now = (int)level;
}

bool log_level_parse(const char *text, enum log_level *out)
{
	for (int i = 0; i < 4; i++)
		if (strcmp(text, level_names[i]) == 0) {
			*out = (enum log_level)i;
			return true;
		}
	return false;
}

void log_set_sink(void (*sink)(enum log_level level, const char *line))
{
	sink_now = sink;
}

void log_write(enum log_level level, const char *area, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	struct timespec now;
	struct tm tm;
	size_t n;
	va_list ap;

	if ((int)level > level_now)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(line, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(
		line + n, 64, ".%03ldZ %-5s %s: ", now.tv_nsec / 1000000, level_names[level], area);
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (sink_now) {
		sink_now(level, line);
		return;
	}
	n = strlen(line);
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* nobody to tell */
}
