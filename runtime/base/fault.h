/*
 * Fault points: places where the simulator may make something go wrong that the world rarely does. Off by default
 * and in every real drive: the test is one load of a pointer that is NULL there, or nothing with -DRUNTIME_NO_FAULTS.
 *
 *	if (fault(F_PROC_START_FAILS))
 *		return error_set(err, E_IO, "58030", "could not start %s: injected", path);
 *
 * A folder adds its points here, a line each, named after what goes wrong.
 */
#ifndef RUNTIME_BASE_FAULT_H
#define RUNTIME_BASE_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#define FAULT_LIST(F)                                                                                        \
	F(F_LINK_BREAKS) /* a node link loses its session and all in flight */                               \
	F(F_LINK_CLOGS) /* a node link stands still for a while */                                           \
	F(F_IO_CONNECT_REFUSED)                                                                              \
	F(F_IO_CONNECT_HANGS) /* until its timeout */                                                        \
	F(F_IO_RESET) /* a connection is reset instead of carrying bytes */                                  \
	F(F_IO_LISTEN_FAILS)                                                                                 \
	F(F_TLS_FAILS)                                                                                       \
	F(F_PROC_START_FAILS)                                                                                \
	F(F_PROC_DIES_EARLY) /* killed by a signal soon after its start */                                   \
	F(F_WORK_SLOW) /* takes a hundred times as long */                                                   \
	F(F_WORK_FAILS) /* E_IO without having run */                                                        \
	F(F_STORE_COMMIT_SLOW)                                                                               \
	F(F_STORE_COMMIT_FAILS)                                                                              \
	F(F_STORE_DISK_FULL)                                                                                 \
	F(F_TOPO_CAS_LOST) /* somebody else was first */                                                     \
	F(F_TOPO_WATCH_LAGS)

#define FAULT_ENUM(name) name,
enum fault_point { FAULT_LIST(FAULT_ENUM) FAULT_COUNT };
#undef FAULT_ENUM

/* Set by the simulator only, before any worker runs and from its one thread. */
extern bool (*fault_hook)(enum fault_point point);

/* "F_IO_RESET"; NULL out of range. */
const char *fault_name(enum fault_point point);
/* FAULT_COUNT when unknown. */
enum fault_point fault_parse(const char *name);

#ifdef RUNTIME_NO_FAULTS
#define fault(point) false
#else
static inline bool fault(enum fault_point point)
{
	return __builtin_expect(fault_hook != NULL, 0) && fault_hook(point);
}
#endif

#endif
