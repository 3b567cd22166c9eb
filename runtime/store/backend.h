/*
 * Backends: where the store's records are kept. LMDB in a node, memory in the simulator; both are only ordered maps
 * with transactions. What a record and a commit are is said once, in backend.c, above them.
 *
 *	key   = table NUL key
 *	value = format (1 byte, 1) | version (8, big-endian) | body | CRC32C of key and all before it (4, big-endian)
 *
 * Calls come from helper threads, never from a handler: write transactions one at a time (the store's lane), reads at
 * any time. A backend belongs to the node, not to the actor: the actor may die and come back while a commit runs.
 */
#ifndef RUNTIME_STORE_BACKEND_H
#define RUNTIME_STORE_BACKEND_H

#include "runtime/base/buf.h"
#include "runtime/store/batch.h"

struct store_backend;
struct store_txn;

struct store_bytes {
	const uint8_t *p;
	size_t n;
};

struct store_usage {
	uint64_t records, used_bytes, max_bytes;
};

/* False: no more. Pointers are valid during the call only. */
typedef bool store_each_fn(void *arg, struct store_bytes key, struct store_bytes value);

struct store_backend_ops {
	enum status (*begin)(struct store_backend *be, bool write, struct store_txn **txn, struct error *err);
	/* Makes it durable. The transaction is gone afterwards, whatever the status. E_FULL: no room. */
	enum status (*commit)(struct store_backend *be, struct store_txn *txn, struct error *err);
	void (*abort)(struct store_backend *be, struct store_txn *txn);
	/* E_NOT_FOUND without an error text. Values are valid until the next write or the transaction's end. */
	enum status (*get)(struct store_backend *be, struct store_txn *txn, struct store_bytes key,
		struct store_bytes *value, struct error *err);
	enum status (*put)(struct store_backend *be, struct store_txn *txn, struct store_bytes key,
		struct store_bytes value, struct error *err);
	enum status (*del)(
		struct store_backend *be, struct store_txn *txn, struct store_bytes key, struct error *err);
	/* Records with keys at or after `from`, in order. */
	enum status (*scan)(struct store_backend *be, struct store_txn *txn, struct store_bytes from,
		store_each_fn *each, void *arg, struct error *err);
	void (*usage)(struct store_backend *be, struct store_usage *out);
	/* All commits so far have been told to their askers. May be NULL. */
	void (*acknowledged)(struct store_backend *be);
	void (*close)(struct store_backend *be);
};

struct store_backend {
	const struct store_backend_ops *ops;
};

/* One STORE_COMMIT of a group: ops in, the rest out. */
struct store_unit {
	struct slice ops;
	enum status status;
	uint64_t version;
	char text[240];
};

/*
 * Carries out a group in one transaction with one sync. A unit whose expectations aren't met, or that is malformed,
 * fails alone; when the transaction itself fails, each unit is tried again in its own, so that only the one too big fails.
 */
void store_run_units(struct store_backend *be, struct store_unit *units, uint32_t n);

/* Appends the value. E_NOT_FOUND (no text), E_IO with a text: damaged on disk. */
enum status store_read(struct store_backend *be, const char *table, const void *key, uint32_t key_len,
	struct writer *value, uint64_t *version, struct error *err) MUST_CHECK;

/* What a scan gives to its caller: stops at `limit` rows or when the writer is full. */
struct store_read_rows {
	const char *table; /* "": all tables; keys then are table NUL key */
	const void *from;
	uint32_t from_len, limit;
	struct writer *rows; /* store_rows_put */
	uint32_t n;
	bool more;
};

enum status store_read_many(
	struct store_backend *be, struct store_read_rows *q, struct error *err) MUST_CHECK;

/* ---- the two backends -------------------------------------------------------------------------------------- */

enum { STORE_MAP_BYTES = 1 << 30 };

/*
 * Opens LMDB in DIR/store, making it if need be; blocks (disk), so a program calls it before workers start, once a
 * process. map_bytes 0: STORE_MAP_BYTES, sparse.
 */
enum status store_open_lmdb(
	const char *dir, size_t map_bytes, struct store_backend **out, struct error *err) MUST_CHECK;

/* In memory. */
struct store_backend *store_open_memory(void);
/* Transactions that were committed but not yet acknowledged. */
uint32_t store_memory_unacknowledged(struct store_backend *be);
/*
 * The node crashes: of the unacknowledged transactions the first `keep` stay, the rest is lost. Gives the backend of
 * the next life; the old one fails from now on, and is freed with the new one.
 */
struct store_backend *store_memory_crash(struct store_backend *be, uint32_t keep) MUST_CHECK;
/* The next n commits fail with E_FULL, as a full map does. */
void store_memory_fail(struct store_backend *be, uint32_t n);

static inline void store_close(struct store_backend *be)
{
	be->ops->close(be);
}

#endif
