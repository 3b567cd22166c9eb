/* Names of status codes, and filling errors. */
#include "runtime/base/status.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/bytes.h"

const char *status_name(enum status st)
{
#define STATUS_TEXT(name, text) [name] = text,
	static const char *const names[STATUS_COUNT] = {STATUS_LIST(STATUS_TEXT)};
#undef STATUS_TEXT
	return (unsigned)st < STATUS_COUNT ? names[st] : "unknown";
}

enum status error_set(struct error *err, enum status st, const char *sqlstate, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return st;
	err->status = st;
	str_copy(err->sqlstate, sizeof(err->sqlstate), sqlstate);
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	err->hint[0] = '\0';
	return st;
}

void error_hint(struct error *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return;
	va_start(ap, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
}
