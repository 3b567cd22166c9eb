/* Child processes: the driver's operations. Contracts in runtime/core/io.h; how in proc.c and spawn.c. */
#ifndef RUNTIME_DRIVE_PROC_H
#define RUNTIME_DRIVE_PROC_H

#include "runtime/drive/internal.h"

enum status drive_proc_start(
	struct driver *d, struct actor *a, const struct proc_start *spec, uint64_t *proc, struct error *err);
enum status drive_proc_adopt(struct driver *d, struct actor *a, int32_t os_pid, uint64_t *proc);
enum status drive_proc_signal(struct driver *d, struct actor *a, uint64_t proc, int signal);
int32_t drive_proc_os_pid(struct driver *d, struct actor *a, uint64_t proc);
/* At the end of the loop: who is to die with the node is dead afterwards, and reaped. */
void drive_processes_abort(struct loop *l);

/*
 * Starts a process of the calling thread (spawn.c); out[2]: read ends of its stdout and stderr, -1 with output_file.
 * E_IO and err when anything fails, up to the exec.
 */
enum status drive_spawn(const struct proc_start *spec, pid_t *pid, int out[2], struct error *err) MUST_CHECK;

#endif
