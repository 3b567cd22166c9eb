/*
 * The store on LMDB (lmdb.h; the only file that knows it). Full sync on each commit, no WRITEMAP (a wild pointer of
 * ours must not reach the disk), NOTLS (any helper thread may read). One environment a process and a directory.
 *
 * After a commit whose sync failed nothing is known of what the disk holds, so the backend refuses all later ones
 * (Postgres panics for the same reason); a restart of the node reads what is really there.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "runtime/base/log.h"
#include "runtime/store/backend.h"
#include "runtime/store/dirlock.h"

enum { READERS_MAX = 64 };

struct lmdb_backend {
	struct store_backend base;
	MDB_env *env;
	MDB_dbi dbi;
	int lock_fd;
	atomic_bool broken;
};

static struct lmdb_backend *lmdb_of(struct store_backend *be)
{
	return CONTAINER_OF(be, struct lmdb_backend, base);
}

static MDB_txn *txn_of(struct store_txn *txn)
{
	return (MDB_txn *)(void *)txn;
}

static MDB_val val_of(struct store_bytes b)
{
	return (MDB_val){b.n, (void *)(uintptr_t)b.p};
}

static struct store_bytes bytes_of(const MDB_val *v)
{
	return (struct store_bytes){v->mv_data, v->mv_size};
}

static enum status lmdb_error(int rc, const char *what, struct error *err)
{
	if (rc == MDB_MAP_FULL || rc == ENOSPC)
		return error_set(err, E_FULL, "53100", "could not %s: the store is full", what);
	return error_set(err, E_IO, "58030", "could not %s: %s", what, mdb_strerror(rc));
}

static enum status lmdb_begin(struct store_backend *be, bool write, struct store_txn **txn, struct error *err)
{
	struct lmdb_backend *l = lmdb_of(be);
	MDB_txn *t = NULL;
	int rc;

	if (write && atomic_load(&l->broken))
		return error_set(
			err, E_IO, "58030", "the store takes no commits since one could not be synced");
	rc = mdb_txn_begin(l->env, NULL, write ? 0 : MDB_RDONLY, &t);
	*txn = (struct store_txn *)(void *)t;
	return rc ? lmdb_error(rc, "begin a store transaction", err) : OK;
}

static enum status lmdb_commit(struct store_backend *be, struct store_txn *txn, struct error *err)
{
	struct lmdb_backend *l = lmdb_of(be);
	int rc = mdb_txn_commit(txn_of(txn));

	if (!rc)
		return OK;
	if (rc != MDB_MAP_FULL && rc != ENOSPC) {
		atomic_store(&l->broken, true);
		log_error("store", "commit failed, no more are taken until the node restarts: %s",
			mdb_strerror(rc));
	}
	return lmdb_error(rc, "commit to the store", err);
}

static void lmdb_abort(struct store_backend *be, struct store_txn *txn)
{
	(void)be;
	mdb_txn_abort(txn_of(txn));
}

static enum status lmdb_get(struct store_backend *be, struct store_txn *txn, struct store_bytes key,
	struct store_bytes *value, struct error *err)
{
	MDB_val k = val_of(key), v;
	int rc = mdb_get(txn_of(txn), lmdb_of(be)->dbi, &k, &v);

	if (rc == MDB_NOTFOUND)
		return E_NOT_FOUND;
	if (rc)
		return lmdb_error(rc, "read from the store", err);
	*value = bytes_of(&v);
	return OK;
}

static enum status lmdb_put(struct store_backend *be, struct store_txn *txn, struct store_bytes key,
	struct store_bytes value, struct error *err)
{
	MDB_val k = val_of(key), v = val_of(value);
	int rc = mdb_put(txn_of(txn), lmdb_of(be)->dbi, &k, &v, 0);

	return rc ? lmdb_error(rc, "write to the store", err) : OK;
}

static enum status lmdb_del(
	struct store_backend *be, struct store_txn *txn, struct store_bytes key, struct error *err)
{
	MDB_val k = val_of(key);
	int rc = mdb_del(txn_of(txn), lmdb_of(be)->dbi, &k, NULL);

	if (rc == MDB_NOTFOUND)
		return E_NOT_FOUND;
	return rc ? lmdb_error(rc, "delete from the store", err) : OK;
}

static enum status lmdb_scan(struct store_backend *be, struct store_txn *txn, struct store_bytes from,
	store_each_fn *each, void *arg, struct error *err)
{
	MDB_val k = val_of(from), v;
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(txn_of(txn), lmdb_of(be)->dbi, &cursor);

	if (rc)
		return lmdb_error(rc, "scan the store", err);
	rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
	while (!rc && each(arg, bytes_of(&k), bytes_of(&v)))
		rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	mdb_cursor_close(cursor);
	return rc && rc != MDB_NOTFOUND ? lmdb_error(rc, "scan the store", err) : OK;
}

static void lmdb_usage(struct store_backend *be, struct store_usage *out)
{
	struct lmdb_backend *l = lmdb_of(be);
	MDB_envinfo info;
	MDB_stat stat;

	*out = (struct store_usage){0};
	if (mdb_env_info(l->env, &info) || mdb_env_stat(l->env, &stat))
		return;
	out->records = stat.ms_entries;
	out->used_bytes = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
	out->max_bytes = info.me_mapsize;
}

static void lmdb_close(struct store_backend *be)
{
	struct lmdb_backend *l = lmdb_of(be);

	if (l->env)
		mdb_env_close(l->env);
	dirlock_release(l->lock_fd);
	free(l);
}

static const struct store_backend_ops lmdb_ops = {
	.begin = lmdb_begin,
	.commit = lmdb_commit,
	.abort = lmdb_abort,
	.get = lmdb_get,
	.put = lmdb_put,
	.del = lmdb_del,
	.scan = lmdb_scan,
	.usage = lmdb_usage,
	.close = lmdb_close,
};

static int open_env(struct lmdb_backend *l, const char *path, size_t map_bytes)
{
	MDB_txn *txn;
	int dead, rc;

	rc = mdb_env_create(&l->env);
	if (!rc)
		rc = mdb_env_set_mapsize(l->env, map_bytes ? map_bytes : STORE_MAP_BYTES);
	if (!rc)
		rc = mdb_env_set_maxreaders(l->env, READERS_MAX);
	if (!rc)
		rc = mdb_env_open(l->env, path, MDB_NOTLS, 0600);
	if (!rc)
		rc = mdb_reader_check(l->env, &dead);
	if (!rc)
		rc = mdb_txn_begin(l->env, NULL, 0, &txn);
	if (rc)
		return rc;
	rc = mdb_dbi_open(txn, NULL, 0, &l->dbi);
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

enum status store_open_lmdb(const char *dir, size_t map_bytes, struct store_backend **out, struct error *err)
{
	struct lmdb_backend *l = calloc(1, sizeof(*l));
	char path[4096];
	enum status st;
	int rc;

	if (!l)
		panic("out of memory");
	l->base.ops = &lmdb_ops;
	l->lock_fd = -1;
	*out = NULL;
	if (snprintf(path, sizeof(path), "%s/store", dir) >= (int)sizeof(path)) {
		st = error_set(err, E_LIMIT, "22023", "path of the data directory is too long");
		goto fail;
	}
	if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
		st = error_set(
			err, E_IO, "58030", "could not create directory \"%s\": %s", dir, strerror(errno));
		goto fail;
	}
	st = dirlock_take(dir, &l->lock_fd, err);
	if (st)
		goto fail;
	if (mkdir(path, 0700) != 0 && errno != EEXIST) {
		st = error_set(
			err, E_IO, "58030", "could not create directory \"%s\": %s", path, strerror(errno));
		goto fail;
	}
	rc = open_env(l, path, map_bytes);
	if (rc) {
		st = error_set(
			err, E_IO, "58030", "could not open the store in \"%s\": %s", path, mdb_strerror(rc));
		goto fail;
	}
	*out = &l->base;
	return OK;
fail:
	lmdb_close(&l->base);
	return st;
}
