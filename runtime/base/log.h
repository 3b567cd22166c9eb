/*
 * Logging: one line an event to stderr: time, level, area, text. Any thread. Lines are bounded and written at once.
 */
#ifndef RUNTIME_BASE_LOG_H
#define RUNTIME_BASE_LOG_H

#include "runtime/base/status.h"

enum log_level { LOG_ERROR_LEVEL, LOG_WARN_LEVEL, LOG_INFO_LEVEL, LOG_DEBUG_LEVEL };

enum { LOG_LINE_MAX = 2048 };

void log_set_level(enum log_level level);
bool log_level_parse(const char *text, enum log_level *out); /* error warn info debug */
/* Where lines go besides stderr's default; for tests and the simulator. NULL: stderr. */
void log_set_sink(void (*sink)(enum log_level level, const char *line));
void log_write(enum log_level level, const char *area, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_error(area, ...) log_write(LOG_ERROR_LEVEL, area, __VA_ARGS__)
#define log_warn(area, ...) log_write(LOG_WARN_LEVEL, area, __VA_ARGS__)
#define log_info(area, ...) log_write(LOG_INFO_LEVEL, area, __VA_ARGS__)
#define log_debug(area, ...) log_write(LOG_DEBUG_LEVEL, area, __VA_ARGS__)

#endif
