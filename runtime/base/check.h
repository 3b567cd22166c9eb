/*
 * Assertions that stay on in release. They guard against our own mistakes only: input from outside is never
 * checked with these, it gets an error. A failed check panics: the process writes what it knows and dies, its
 * parent restarts it (DESIGN: failure, honestly).
 */
#ifndef RUNTIME_BASE_CHECK_H
#define RUNTIME_BASE_CHECK_H

#include <stdbool.h>

/* Called once by a panicking thread before abort(); the drive points it at the flight recorder. May be NULL. */
extern void (*panic_hook)(const char *text);

/* Writes file, line and text to stderr, runs panic_hook and aborts. Never returns. */
_Noreturn void panic_at(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), cold));

#define panic(...) panic_at(__FILE__, __LINE__, __VA_ARGS__)
#define check(cond)                                                                                          \
	do {                                                                                                 \
		if (__builtin_expect(!(cond), 0))                                                            \
			panic("check failed: %s", #cond);                                                    \
	} while (0)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#endif
