/* Helper threads and the driver's `work` on top of them. Contracts in work.h and runtime/core/io.h. */
#include "runtime/drive/work.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/drive/internal.h"

enum { POOL_THREADS_MAX = 8 };

struct work_pool {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list queue;
	uint32_t n_queued, n_threads;
	uint64_t busy_lanes[POOL_THREADS_MAX]; /* 0: that thread runs no lane */
	bool stopping;
	pthread_t threads[POOL_THREADS_MAX];
};

static bool lane_is_busy(const struct work_pool *p, uint64_t lane)
{
	for (uint32_t i = 0; lane && i < p->n_threads; i++)
		if (p->busy_lanes[i] == lane)
			return true;
	return false;
}

/* The oldest job whose lane is free. Called with the lock held. */
static struct job *pool_next(struct work_pool *p)
{
	list_each(it, &p->queue)
	{
		struct job *j = LIST_ITEM(it, struct job, link);

		if (lane_is_busy(p, j->lane))
			continue;
		list_remove(it);
		p->n_queued--;
		return j;
	}
	return NULL;
}

struct helper {
	struct work_pool *pool;
	uint32_t index;
};

static void *helper_main(void *arg)
{
	struct helper h = *(struct helper *)arg;
	struct work_pool *p = h.pool;
	void *stack = drive_crash_stack_install();

	free(arg);
	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct job *j = pool_next(p);

		if (j) {
			p->busy_lanes[h.index] = j->lane;
			pthread_mutex_unlock(&p->lock);
			j->run(j);
			pthread_mutex_lock(&p->lock);
			if (p->busy_lanes[h.index]) /* somebody may have waited for the lane */
				pthread_cond_broadcast(&p->more);
			p->busy_lanes[h.index] = 0;
		} else if (p->stopping && list_empty(&p->queue)) {
			break;
		} else {
			pthread_cond_wait(&p->more, &p->lock);
		}
	}
	pthread_mutex_unlock(&p->lock);
	drive_crash_stack_remove(stack);
	return NULL;
}

struct work_pool *work_pool_new(uint32_t n_threads, size_t stack_bytes)
{
	struct work_pool *p = calloc(1, sizeof(*p));
	pthread_attr_t attr;

	check(p && n_threads <= POOL_THREADS_MAX);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	list_init(&p->queue);
	p->n_threads = n_threads;
	pthread_attr_init(&attr);
	check(pthread_attr_setstacksize(&attr, stack_bytes) == 0);
	for (uint32_t i = 0; i < n_threads; i++) {
		struct helper *h = malloc(sizeof(*h));

		check(h != NULL);
		*h = (struct helper){p, i};
		check(pthread_create(&p->threads[i], &attr, helper_main, h) == 0);
	}
	pthread_attr_destroy(&attr);
	return p;
}

bool work_pool_submit(struct work_pool *p, struct job *j)
{
	bool fits;

	pthread_mutex_lock(&p->lock);
	fits = p->n_queued < WORK_QUEUE_MAX;
	if (fits) {
		list_push_back(&p->queue, &j->link);
		p->n_queued++;
		pthread_cond_signal(&p->more);
	}
	pthread_mutex_unlock(&p->lock);
	return fits;
}

void work_pool_free(struct work_pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (uint32_t i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* ---- work of actors ---------------------------------------------------------------------------------------- */

struct actor_work {
	struct job job;
	struct drive *drive;
	struct pid owner;
	uint64_t id;
	work_fn *fn;
	size_t args_size;
	_Alignas(16) uint8_t args[];
};

static void actor_work_done(
	struct drive *d, struct pid owner, uint64_t id, enum status st, struct slice result)
{
	_Alignas(struct msg) uint8_t space[sizeof(struct msg) + sizeof(struct work_done)] = {0};
	struct msg *m = (struct msg *)(void *)space;
	struct work_done *done = msg_body(m);

	m->tag = WORK_DONE;
	m->to = owner;
	done->work = id;
	done->status = (uint8_t)st;
	done->result = result;
	drive_post_message(d, pid_worker(owner), m);
}

static void actor_work_run(struct job *j)
{
	struct actor_work *aw = CONTAINER_OF(j, struct actor_work, job);
	struct writer out;
	enum status st;

	writer_init(&out, WORK_RESULT_MAX);
	st = aw->fn(aw->args, aw->args_size, &out);
	if (out.failed && st == OK)
		st = E_LIMIT;
	actor_work_done(aw->drive, aw->owner, aw->id, st, writer_take(&out));
	writer_release(&out);
	free(aw);
}

uint64_t drive_work(struct driver *d, struct actor *a, const struct work *what)
{
	struct loop *l = loop_of(d);
	uint64_t id = ++l->work_id;
	struct actor_work *aw;

	if (what->args_size > WORK_ARGS_MAX) {
		actor_work_done(l->drive, actor_pid(a), id, E_LIMIT, (struct slice){0});
		return id;
	}
	aw = malloc(sizeof(*aw) + what->args_size);
	check(aw != NULL);
	*aw = (struct actor_work){.job = {.run = actor_work_run, .lane = what->lane},
		.drive = l->drive,
		.owner = actor_pid(a),
		.id = id,
		.fn = what->fn,
		.args_size = what->args_size};
	if (what->args_size)
		memcpy(aw->args, what->args, what->args_size);
	if (!work_pool_submit(l->drive->helpers, &aw->job)) {
		free(aw);
		actor_work_done(l->drive, actor_pid(a), id, E_FULL, (struct slice){0});
	}
	return id;
}
