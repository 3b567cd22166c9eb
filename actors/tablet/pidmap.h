/*
 * Who used a Postgres backend last: from the pid Postgres gave it to the pid that the client of its latest lease knows
 * as its own. Clients see it in notifications (NotificationResponse names the sender's backend).
 *
 * The one thing that workers share besides configuration: a fixed table of atomics, set when a lease begins, read when a
 * notification passes. It is advice: a backend that was leased again before a listener's notification came by is told
 * under its new client's pid.
 */
#ifndef ACTORS_TABLET_PIDMAP_H
#define ACTORS_TABLET_PIDMAP_H

#include <stdint.h>

void pidmap_set(uint32_t os_pid, uint32_t client_pid);
/* 0: unknown. */
uint32_t pidmap_get(uint32_t os_pid);

#endif
