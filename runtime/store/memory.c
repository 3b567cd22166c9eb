/*
 * The store in memory: a sorted array, for the simulator and for tests. Each committed transaction keeps what it
 * replaced until it is acknowledged; a crash takes a suffix of the unacknowledged ones back, newest first. So the
 * simulator sees what a disk may do between write and sync, and never the loss of what was promised.
 */
#include <pthread.h>

#include "runtime/store/backend.h"

struct entry {
	uint8_t *key, *value;
	size_t key_n, value_n;
};

struct undo {
	struct undo *next; /* older */
	struct entry was; /* value NULL: the key didn't exist */
	uint64_t txn;
};

struct memory_backend {
	pthread_mutex_t lock; /* held from begin to end: one transaction at a time */
	struct entry *entries; /* by key */
	uint32_t n, cap, fail_next;
	struct undo *undo; /* newest first, of transactions not yet acknowledged and the running one */
	uint64_t txn, acknowledged; /* the last begun; the last acknowledged */
	uint64_t bytes;
};

/* What one life of a node holds. After its crash work of that life may still run: it finds its handle dead. */
struct memory_handle {
	struct store_backend base;
	struct memory_backend *data;
	struct memory_handle *older; /* dead ones, freed with the last */
	bool dead;
};

static struct memory_handle *handle_of(struct store_backend *be)
{
	return CONTAINER_OF(be, struct memory_handle, base);
}

static struct memory_backend *memory_of(struct store_backend *be)
{
	return handle_of(be)->data;
}

static uint8_t *copy_of(const uint8_t *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	if (!copy)
		panic("out of memory");
	if (n)
		memcpy(copy, p, n);
	return copy;
}

static int key_compare(const struct entry *e, struct store_bytes key)
{
	size_t n = e->key_n < key.n ? e->key_n : key.n;
	int c = memcmp(e->key, key.p, n);

	return c ? c : (e->key_n > key.n) - (e->key_n < key.n);
}

/* Where the key is, or would be. */
static uint32_t find(const struct memory_backend *m, struct store_bytes key, bool *found)
{
	uint32_t low = 0, high = m->n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (key_compare(&m->entries[mid], key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*found = low < m->n && key_compare(&m->entries[low], key) == 0;
	return low;
}

/* Sets a key (value NULL: removes it) and gives what was there, which the caller then owns, with a copy of the key. */
static struct entry replace(struct memory_backend *m, struct store_bytes key, const struct store_bytes *value)
{
	struct entry was = {.key = copy_of(key.p, key.n), .key_n = key.n};
	bool found;
	uint32_t at = find(m, key, &found);
	struct entry *e = &m->entries[at];

	if (found) {
		was.value = e->value;
		was.value_n = e->value_n;
		m->bytes -= e->key_n + e->value_n;
	}
	if (found && !value) {
		free(e->key);
		m->n--;
		memmove(e, e + 1, (m->n - at) * sizeof(*e));
	}
	if (!value)
		return was;
	if (!found && m->n == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 64;
		m->entries = realloc(m->entries, m->cap * sizeof(*m->entries));
		if (!m->entries)
			panic("out of memory");
		e = &m->entries[at];
	}
	if (!found) {
		memmove(e + 1, e, (m->n - at) * sizeof(*e));
		m->n++;
		*e = (struct entry){.key = copy_of(key.p, key.n), .key_n = key.n};
	}
	e->value = copy_of(value->p, value->n);
	e->value_n = value->n;
	m->bytes += e->key_n + e->value_n;
	return was;
}

static void undo_push(struct memory_backend *m, struct entry was)
{
	struct undo *u = malloc(sizeof(*u));

	if (!u)
		panic("out of memory");
	*u = (struct undo){.next = m->undo, .was = was, .txn = m->txn};
	m->undo = u;
}

static void undo_free(struct undo *u)
{
	free(u->was.key);
	free(u->was.value);
	free(u);
}

/* Takes back all transactions after `txn`. */
static void undo_to(struct memory_backend *m, uint64_t txn)
{
	while (m->undo && m->undo->txn > txn) {
		struct undo *u = m->undo;
		struct store_bytes key = {u->was.key, u->was.key_n}, value = {u->was.value, u->was.value_n};
		struct entry now = replace(m, key, u->was.value ? &value : NULL);

		free(now.key);
		free(now.value);
		m->undo = u->next;
		undo_free(u);
	}
}

static enum status memory_begin(
	struct store_backend *be, bool write, struct store_txn **txn, struct error *err)
{
	struct memory_backend *m = memory_of(be);

	pthread_mutex_lock(&m->lock);
	if (handle_of(be)->dead) {
		pthread_mutex_unlock(&m->lock);
		return error_set(err, E_IO, "58030", "this life of the node is over");
	}
	if (write)
		m->txn++;
	*txn = write ? (struct store_txn *)(void *)m : NULL;
	return OK;
}

static void memory_abort(struct store_backend *be, struct store_txn *txn)
{
	struct memory_backend *m = memory_of(be);

	if (txn) {
		undo_to(m, m->txn - 1);
		m->txn--;
	}
	pthread_mutex_unlock(&m->lock);
}

static enum status memory_commit(struct store_backend *be, struct store_txn *txn, struct error *err)
{
	struct memory_backend *m = memory_of(be);

	if (m->fail_next > 0) {
		m->fail_next--;
		memory_abort(be, txn);
		return error_set(err, E_FULL, "53100", "could not commit to the store: the store is full");
	}
	pthread_mutex_unlock(&m->lock);
	return OK;
}

static enum status memory_get(struct store_backend *be, struct store_txn *txn, struct store_bytes key,
	struct store_bytes *value, struct error *err)
{
	struct memory_backend *m = memory_of(be);
	bool found;
	uint32_t at = find(m, key, &found);

	(void)txn;
	(void)err;
	if (!found)
		return E_NOT_FOUND;
	*value = (struct store_bytes){m->entries[at].value, m->entries[at].value_n};
	return OK;
}

static enum status memory_put(struct store_backend *be, struct store_txn *txn, struct store_bytes key,
	struct store_bytes value, struct error *err)
{
	struct memory_backend *m = memory_of(be);

	(void)txn;
	(void)err;
	undo_push(m, replace(m, key, &value));
	return OK;
}

static enum status memory_del(
	struct store_backend *be, struct store_txn *txn, struct store_bytes key, struct error *err)
{
	struct memory_backend *m = memory_of(be);
	bool found;

	(void)txn;
	(void)err;
	find(m, key, &found);
	if (!found)
		return E_NOT_FOUND;
	undo_push(m, replace(m, key, NULL));
	return OK;
}

static enum status memory_scan(struct store_backend *be, struct store_txn *txn, struct store_bytes from,
	store_each_fn *each, void *arg, struct error *err)
{
	struct memory_backend *m = memory_of(be);
	bool found;

	(void)txn;
	(void)err;
	for (uint32_t at = find(m, from, &found); at < m->n; at++) {
		const struct entry *e = &m->entries[at];

		if (!each(arg, (struct store_bytes){e->key, e->key_n},
			    (struct store_bytes){e->value, e->value_n}))
			break;
	}
	return OK;
}

static void memory_usage(struct store_backend *be, struct store_usage *out)
{
	struct memory_backend *m = memory_of(be);

	pthread_mutex_lock(&m->lock);
	*out = (struct store_usage){.records = m->n, .used_bytes = m->bytes, .max_bytes = STORE_MAP_BYTES};
	pthread_mutex_unlock(&m->lock);
}

static void memory_acknowledged(struct store_backend *be)
{
	struct memory_backend *m = memory_of(be);

	pthread_mutex_lock(&m->lock);
	if (!handle_of(be)->dead)
		m->acknowledged = m->txn;
	while (m->undo && m->undo->txn <= m->acknowledged && !handle_of(be)->dead) {
		struct undo *u = m->undo;

		m->undo = u->next;
		undo_free(u);
	}
	pthread_mutex_unlock(&m->lock);
}

static void memory_close(struct store_backend *be)
{
	struct memory_backend *m = memory_of(be);

	memory_acknowledged(be);
	for (uint32_t i = 0; i < m->n; i++) {
		free(m->entries[i].key);
		free(m->entries[i].value);
	}
	free(m->entries);
	pthread_mutex_destroy(&m->lock);
	free(m);
	for (struct memory_handle *h = handle_of(be), *older; h; h = older) {
		older = h->older;
		free(h);
	}
}

static const struct store_backend_ops memory_ops = {
	.begin = memory_begin,
	.commit = memory_commit,
	.abort = memory_abort,
	.get = memory_get,
	.put = memory_put,
	.del = memory_del,
	.scan = memory_scan,
	.usage = memory_usage,
	.acknowledged = memory_acknowledged,
	.close = memory_close,
};

static struct store_backend *handle_new(struct memory_backend *m, struct memory_handle *older)
{
	struct memory_handle *h = calloc(1, sizeof(*h));

	if (!h)
		panic("out of memory");
	*h = (struct memory_handle){.base.ops = &memory_ops, .data = m, .older = older};
	return &h->base;
}

uint32_t store_memory_unacknowledged(struct store_backend *be)
{
	return (uint32_t)(memory_of(be)->txn - memory_of(be)->acknowledged);
}

struct store_backend *store_memory_crash(struct store_backend *be, uint32_t keep)
{
	struct memory_backend *m = memory_of(be);

	pthread_mutex_lock(&m->lock);
	if (keep < m->txn - m->acknowledged) {
		undo_to(m, m->acknowledged + keep);
		m->txn = m->acknowledged + keep;
	}
	pthread_mutex_unlock(&m->lock);
	memory_acknowledged(be);
	handle_of(be)->dead = true;
	return handle_new(m, handle_of(be));
}

void store_memory_fail(struct store_backend *be, uint32_t n)
{
	memory_of(be)->fail_next = n;
}

struct store_backend *store_open_memory(void)
{
	struct memory_backend *m = calloc(1, sizeof(*m));

	if (!m)
		panic("out of memory");
	pthread_mutex_init(&m->lock, NULL);
	return handle_new(m, NULL);
}
