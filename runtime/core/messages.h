/* The core's own messages: what the runtime tells actors, and what kernels tell each other. */
#ifndef RUNTIME_CORE_MESSAGES_H
#define RUNTIME_CORE_MESSAGES_H

#include "runtime/core/catalog.h"

/* A timer set with actor_timer came due. */
#define TIMER_FIELDS(F, S)                                                                                   \
	F(S, u64, key, 0)                                                                                    \
	F(S, u64, seq, 0)
/* A monitored actor, or a child, ended. text: what it said of the reason. */
#define DOWN_FIELDS(F, S)                                                                                    \
	F(S, pid, who, 0)                                                                                    \
	F(S, u64, ref, 0)                                                                                    \
	F(S, u8, status, 0)                                                                                  \
	F(S, str, text, 160)
/* Told to end; only actors that trap exits see it as a message. */
#define EXIT_FIELDS(F, S)                                                                                    \
	F(S, pid, who, 0)                                                                                    \
	F(S, u8, status, 0)
/* An ask that got no answer: E_TIMEOUT, E_NOPROC, E_FULL, E_NODE_DOWN. corr names it. */
#define ASK_FAILED_FIELDS(F, S)                                                                              \
	F(S, u8, status, 0)                                                                                  \
	F(S, u16, tag, 0)
/* The plain answer: a status and, when it isn't ok, why. */
#define DONE_FIELDS(F, S)                                                                                    \
	F(S, u8, status, 0)                                                                                  \
	F(S, str, text, 240)
/* An answer for people and programs: msgpack {columns: [..], rows: [[..], ..]} (see runtime/core/table.h). */
#define TABLE_FIELDS(F, S) F(S, bin, rows, 8388608)

#define KERNEL_SPAWN_FIELDS(F, S)                                                                            \
	F(S, u64, behaviour, 0)                                                                              \
	F(S, str, name, 63)                                                                                  \
	F(S, pid, parent, 0)                                                                                 \
	F(S, bin, args, 65536)
#define KERNEL_SPAWNED_FIELDS(F, S) F(S, pid, pid, 0)
#define KERNEL_MONITOR_FIELDS(F, S)                                                                          \
	F(S, pid, target, 0)                                                                                 \
	F(S, pid, source, 0)                                                                                 \
	F(S, u64, ref, 0)                                                                                    \
	F(S, u8, kind, 0)
#define KERNEL_DEMONITOR_FIELDS(F, S)                                                                        \
	F(S, pid, target, 0)                                                                                 \
	F(S, u64, ref, 0)
#define KERNEL_NAME_FIELDS(F, S)                                                                             \
	F(S, str, name, 63)                                                                                  \
	F(S, pid, pid, 0)
#define KERNEL_GROUP_FIELDS(F, S)                                                                            \
	F(S, str, name, 63)                                                                                  \
	F(S, pid, pid, 0)                                                                                    \
	F(S, u8, join, 0)
/* Asks of a worker's kernel; each is answered with TABLE. */
#define KERNEL_ACTORS_FIELDS(F, S)
#define KERNEL_DEAD_LETTERS_FIELDS(F, S)
#define KERNEL_METRICS_FIELDS(F, S)
/* A raw snapshot: the worker's counters as an array of u64, in metric order, then its histograms. */
#define KERNEL_SNAPSHOT_FIELDS(F, S) F(S, bin, values, 1048576)
/* Sends TRACED for everything `who` handles to `tracer` (none: stop). Answered with DONE. */
#define KERNEL_TRACE_FIELDS(F, S)                                                                            \
	F(S, pid, who, 0)                                                                                    \
	F(S, pid, tracer, 0)
#define TRACED_FIELDS(F, S)                                                                                  \
	F(S, pid, who, 0)                                                                                    \
	F(S, pid, from, 0)                                                                                   \
	F(S, u64, at_us, 0)                                                                                  \
	F(S, u16, tag, 0)                                                                                    \
	F(S, str, state, 31)                                                                                 \
	F(S, str, next_state, 31)                                                                            \
	F(S, str, message, 500)

/* io: see io.h */
#define IO_ACCEPTED_FIELDS(F, S)                                                                             \
	F(S, u64, listener, 0)                                                                               \
	F(S, u64, io, 0)                                                                                     \
	F(S, str, peer, 63)
#define IO_CONNECTED_FIELDS(F, S)                                                                            \
	F(S, u64, io, 0)                                                                                     \
	F(S, u8, status, 0)                                                                                  \
	F(S, str, text, 160)
#define IO_BYTES_FIELDS(F, S)                                                                                \
	F(S, u64, io, 0)                                                                                     \
	F(S, bin, bytes, 1048576)
#define IO_DRAINED_FIELDS(F, S) F(S, u64, io, 0)
#define IO_CLOSED_FIELDS(F, S)                                                                               \
	F(S, u64, io, 0)                                                                                     \
	F(S, u8, status, 0)                                                                                  \
	F(S, str, text, 160)
#define IO_TLS_UP_FIELDS(F, S)                                                                               \
	F(S, u64, io, 0)                                                                                     \
	F(S, u8, status, 0)                                                                                  \
	F(S, str, text, 160)                                                                                 \
	F(S, str, version, 15)                                                                               \
	F(S, str, cipher, 63)                                                                                \
	F(S, str, alpn, 31)                                                                                  \
	F(S, str, peer_cn, 127)                                                                              \
	F(S, bin, end_point, 64)
#define PROC_EXITED_FIELDS(F, S)                                                                             \
	F(S, u64, proc, 0)                                                                                   \
	F(S, i64, code, 0)                                                                                   \
	F(S, i64, signal, 0)
#define PROC_OUTPUT_FIELDS(F, S)                                                                             \
	F(S, u64, proc, 0)                                                                                   \
	F(S, u8, is_stderr, 0)                                                                               \
	F(S, bin, bytes, 1048576)
#define FD_READY_FIELDS(F, S)                                                                                \
	F(S, u64, fd, 0)                                                                                     \
	F(S, u8, events, 0)
#define WORK_DONE_FIELDS(F, S)                                                                               \
	F(S, u64, work, 0)                                                                                   \
	F(S, u8, status, 0)                                                                                  \
	F(S, bin, result, 16777216)

#define CORE_MESSAGES(M)                                                                                     \
	M(TIMER, timer, 0x0001, MSG_SYSTEM | MSG_LOCAL)                                                      \
	M(DOWN, down, 0x0002, MSG_SYSTEM)                                                                    \
	M(EXIT, exit_signal, 0x0003, MSG_SYSTEM)                                                             \
	M(ASK_FAILED, ask_failed, 0x0004, MSG_SYSTEM)                                                        \
	M(DONE, done, 0x0005, MSG_PLAIN)                                                                     \
	M(TABLE, table, 0x0006, MSG_PLAIN)                                                                   \
	M(KERNEL_SPAWN, kernel_spawn, 0x0010, MSG_SYSTEM | MSG_LOCAL | MSG_ASK)                              \
	M(KERNEL_SPAWNED, kernel_spawned, 0x0011, MSG_SYSTEM | MSG_LOCAL)                                    \
	M(KERNEL_MONITOR, kernel_monitor, 0x0012, MSG_SYSTEM)                                                \
	M(KERNEL_DEMONITOR, kernel_demonitor, 0x0013, MSG_SYSTEM)                                            \
	M(KERNEL_NAME, kernel_name, 0x0014, MSG_SYSTEM | MSG_LOCAL)                                          \
	M(KERNEL_GROUP, kernel_group, 0x0015, MSG_SYSTEM | MSG_LOCAL)                                        \
	M(KERNEL_ACTORS, kernel_actors, 0x0016, MSG_SYSTEM | MSG_ASK)                                        \
	M(KERNEL_DEAD_LETTERS, kernel_dead_letters, 0x0017, MSG_SYSTEM | MSG_ASK)                            \
	M(KERNEL_METRICS, kernel_metrics, 0x0018, MSG_SYSTEM | MSG_ASK)                                      \
	M(KERNEL_SNAPSHOT, kernel_snapshot, 0x0019, MSG_PLAIN)                                               \
	M(KERNEL_TRACE, kernel_trace, 0x001a, MSG_SYSTEM | MSG_ASK)                                          \
	M(TRACED, traced, 0x001b, MSG_STATE)                                                                 \
	M(IO_ACCEPTED, io_accepted, 0x0101, MSG_LOCAL)                                                       \
	M(IO_CONNECTED, io_connected, 0x0102, MSG_LOCAL)                                                     \
	M(IO_BYTES, io_bytes, 0x0103, MSG_LOCAL)                                                             \
	M(IO_DRAINED, io_drained, 0x0104, MSG_LOCAL)                                                         \
	M(IO_CLOSED, io_closed, 0x0105, MSG_LOCAL)                                                           \
	M(IO_TLS_UP, io_tls_up, 0x0106, MSG_LOCAL)                                                           \
	M(PROC_EXITED, proc_exited, 0x0110, MSG_LOCAL)                                                       \
	M(PROC_OUTPUT, proc_output, 0x0111, MSG_LOCAL)                                                       \
	M(FD_READY, fd_ready, 0x0112, MSG_LOCAL)                                                             \
	M(WORK_DONE, work_done, 0x0113, MSG_LOCAL)

MSG_FOLDER(core, CORE_MESSAGES);

#endif
