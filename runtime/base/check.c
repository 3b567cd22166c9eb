/* Panic: say where and why, let the drive write its flight recorder, abort. */
#include "runtime/base/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void (*panic_hook)(const char *text);

_Noreturn void panic_at(const char *file, int line, const char *fmt, ...)
{
	static _Thread_local bool panicking;
	char text[1024];
	int n = snprintf(text, sizeof(text), "%s:%d: ", file, line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	fprintf(stderr, "PANIC %s\n", text);
	if (!panicking && panic_hook) {
		panicking = true;
		panic_hook(text);
	}
	abort();
}
