/*
 * The watchdog: a thread that looks at what each worker is doing. A handler never blocks; one that runs for 100 ms is
 * logged once, one that runs for 10 s is a panic, for its worker's thousands of actors are as good as dead.
 */
#include <errno.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/drive/internal.h"

enum { WARN_MS = 100, PANIC_MS = 10000, LOOKS_A_WARNING = 2 };

struct watchdog {
	struct drive *drive;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping;
	uint64_t warned[WORKERS_MAX]; /* since_us of the episode that was logged */
};

/* Reads another thread's notes without any order: they are for people, and may be a mixture. */
__attribute__((no_sanitize("thread"))) static struct worker_watch watch_read(const struct worker *w)
{
	const struct worker_watch *from = worker_watch(w);
	struct worker_watch to = {.since_us = from->since_us,
		.actor_local = from->actor_local,
		.tag = from->tag,
		.behaviour = from->behaviour};

	return to;
}

static void look(struct watchdog *g, uint8_t i)
{
	const struct drive_spec *spec = &g->drive->spec;
	uint64_t warn = spec->stuck_warn_ms ? spec->stuck_warn_ms : WARN_MS;
	uint64_t fatal = spec->stuck_panic_ms ? spec->stuck_panic_ms : PANIC_MS;
	struct worker_watch now = {0};
	const char *who;
	uint64_t clock = drive_now_us(), ms;

	pthread_mutex_lock(&g->drive->lock); /* the worker stays while we look */
	if (g->drive->loops[i]->watched)
		now = watch_read(g->drive->loops[i]->watched);
	pthread_mutex_unlock(&g->drive->lock);
	who = now.behaviour ? now.behaviour : "?";
	if (!now.since_us || clock <= now.since_us)
		return;
	ms = (clock - now.since_us) / 1000;
	if (ms >= fatal)
		panic("worker %u: %s has been handling %s for %llu ms", (unsigned)i, who,
			catalog_name(now.tag), (unsigned long long)ms);
	if (ms < warn || g->warned[i] == now.since_us)
		return;
	g->warned[i] = now.since_us;
	log_warn("drive", "worker %u: %s has been handling %s for %llu ms", (unsigned)i, who,
		catalog_name(now.tag), (unsigned long long)ms);
}

static void *watchdog_main(void *arg)
{
	struct watchdog *g = arg;
	uint32_t warn = g->drive->spec.stuck_warn_ms ? g->drive->spec.stuck_warn_ms : WARN_MS;

	pthread_setname_np(pthread_self(), "watchdog");
	pthread_mutex_lock(&g->lock);
	while (!g->stopping) {
		struct timespec next = drive_after_ms(warn / LOOKS_A_WARNING + 1);

		pthread_cond_timedwait(&g->changed, &g->lock, &next);
		for (uint8_t i = 0; !g->stopping && i < g->drive->n_loops; i++)
			look(g, i);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

struct watchdog *drive_watchdog_start(struct drive *d)
{
	struct watchdog *g = calloc(1, sizeof(*g));

	check(g != NULL);
	g->drive = d;
	pthread_mutex_init(&g->lock, NULL);
	drive_cond_init(&g->changed);
	check(pthread_create(&g->thread, NULL, watchdog_main, g) == 0);
	return g;
}

void drive_watchdog_stop(struct watchdog *g)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->stopping = true;
	pthread_cond_signal(&g->changed);
	pthread_mutex_unlock(&g->lock);
	pthread_join(g->thread, NULL);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g);
}
