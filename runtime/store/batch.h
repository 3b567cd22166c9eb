/*
 * Batches: what a STORE_COMMIT carries, built by whoever commits and read by the store on a helper thread.
 *
 *	ops = [[op, table, key, value], ...]	msgpack; op as in enum store_op, table str, key bin,
 *						value bin, or the version expected as an unsigned integer
 *
 * All expectations are looked at before anything is written. Of two writes to a key in one batch the last stays.
 */
#ifndef RUNTIME_STORE_BATCH_H
#define RUNTIME_STORE_BATCH_H

#include "runtime/core/actor.h"
#include "runtime/core/codec.h"
#include "runtime/store/messages.h"

enum store_op { STORE_OP_PUT, STORE_OP_DELETE, STORE_OP_EXPECT_ABSENT, STORE_OP_EXPECT_VERSION };

struct store_batch {
	struct writer out;
	uint32_t n;
};

/* Builders. What doesn't fit the limits makes the whole batch invalid: the commit is then answered with E_LIMIT. */
void store_batch_begin(struct store_batch *b);
void store_batch_put(struct store_batch *b, const char *table, const void *key, uint32_t key_len,
	const void *value, uint32_t value_len);
/* The value is the catalog's encoding of a message body. */
void store_batch_put_body(struct store_batch *b, const char *table, const void *key, uint32_t key_len,
	const struct msg_desc *desc, const void *body);
void store_batch_delete(struct store_batch *b, const char *table, const void *key, uint32_t key_len);
void store_batch_expect_absent(struct store_batch *b, const char *table, const void *key, uint32_t key_len);
void store_batch_expect_version(
	struct store_batch *b, const char *table, const void *key, uint32_t key_len, uint64_t version);
/* Gives the bytes and resets the batch; the empty slice when it was over a limit. */
struct slice store_batch_take(struct store_batch *b);
void store_batch_release(struct store_batch *b);

/* Asks the node's store to commit; takes what is in the batch. The answer is STORE_COMMITTED or ASK_FAILED. */
uint64_t store_ask_commit(struct actor *self, struct store_batch *b, uint32_t timeout_ms);
/* Asks for one record: STORE_VALUE, DONE or ASK_FAILED. */
uint64_t store_ask_get(
	struct actor *self, const char *table, const void *key, uint32_t key_len, uint32_t timeout_ms);
uint64_t store_ask_scan(struct actor *self, const char *table, const void *from, uint32_t from_len,
	uint32_t limit, uint32_t timeout_ms);

/* One operation as read; all pointers go into the batch's bytes. */
struct store_op_view {
	enum store_op op;
	const char *table;
	const uint8_t *key, *value;
	uint32_t table_len, key_len, value_len;
	uint64_t version;
};

/* Reads a batch from its head (how many operations) to its end. E_INVALID malformed, E_LIMIT a maximum exceeded. */
enum status store_batch_open(const struct slice *ops, struct unpack *u, uint32_t *n) MUST_CHECK;
enum status store_batch_next(struct unpack *u, struct store_op_view *op) MUST_CHECK;

/* Rows of a STORE_ROWS: [[key, version, value], ...] without the outer array. */
struct store_row_view {
	const uint8_t *key, *value;
	uint32_t key_len, value_len;
	uint64_t version;
};

void store_rows_put(struct writer *w, const struct store_row_view *row);
struct unpack store_rows_open(const struct slice *rows);
/* E_AGAIN at the end; E_INVALID malformed. */
enum status store_rows_next(struct unpack *u, struct store_row_view *row) MUST_CHECK;

#endif
