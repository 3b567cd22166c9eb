/*
 * The store's actor: gathers commits, sends them to the disk as a group, answers.
 *
 *	STORE_COMMIT -> waiting (ring) -> [one group at a time: work lane "store"] -> STORE_COMMITTED each
 *	STORE_GET, STORE_SCAN, ... -> [work lane "store.read"] -> answer
 *
 * Reads have their own lane, so that they don't wait for a sync; they see all that was acknowledged before them. They
 * go to a helper thread too: LMDB reads through a memory map, and a page that isn't in memory is a disk read.
 * Worker-local, but for the work functions, which touch only their arguments and the backend.
 */
#include "runtime/store/store.h"

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/base/metrics.h"
#include "runtime/core/io.h"
#include "runtime/core/table.h"
#include "runtime/store/print.h"

enum { LANE_COMMIT = 0x53544f52, LANE_READ = 0x53545245, TEXT_MAX = 240, TABLE_BYTES_MAX = 4 << 20 };

#define STORE_STATES(S) S(IDLE) S(COMMITTING)
STATES(store, STORE_STATES);

struct reading {
	uint64_t work;
	struct msg *request; /* kept */
};

struct group_job;

struct store {
	struct store_backend *be;
	struct msg **waiting; /* ring of STORE_WAITING_MAX kept requests */
	uint32_t first, n_waiting;
	struct msg **flying; /* those of the group at the disk, in its order */
	uint32_t n_flying;
	uint64_t work; /* of that group */
	struct group_job *job; /* the work's; ours again only when it never ran */
	struct reading *readings;
	uint32_t n_readings;
	uint64_t since_us; /* when the group was sent */
	uint64_t commits, groups, records, failed, reads;
};

static bool metrics_declared;
static uint32_t metric_commits, metric_records, metric_groups, metric_failed, metric_commit_us;

void store_declare_metrics(void)
{
	if (metrics_declared)
		return;
	metric_commits =
		metric_declare("multigres_store_commits_total", "Commits answered.", METRIC_COUNTER, NULL);
	metric_records = metric_declare(
		"multigres_store_operations_total", "Operations in commits answered.", METRIC_COUNTER, NULL);
	metric_groups = metric_declare(
		"multigres_store_groups_total", "Group commits, one sync each.", METRIC_COUNTER, NULL);
	metric_failed = metric_declare("multigres_store_failed_total",
		"Commits that failed, unmet expectations too.", METRIC_COUNTER, NULL);
	metric_commit_us = metric_declare("multigres_store_group_microseconds",
		"Time of a group commit, helper thread's queue included.", METRIC_HISTOGRAM, NULL);
	metrics_declared = true;
}

/* ---- commits ----------------------------------------------------------------------------------------------- */

/* Owned by the work: freed at its end, whether or not the actor still lives. */
struct group_job {
	struct store_backend *be;
	uint32_t n;
	struct store_unit units[];
};

static enum status run_group_job(const void *args, size_t size, struct writer *result)
{
	struct group_job *job;

	check(size == sizeof(struct group_job *));
	memcpy(&job, args, sizeof(job));
	store_run_units(job->be, job->units, job->n);
	for (uint32_t i = 0; i < job->n; i++) {
		struct store_unit *unit = &job->units[i];

		writer_u8(result, (uint8_t)unit->status);
		writer_u64(result, unit->version);
		writer_u8(result, (uint8_t)strlen(unit->text));
		writer_text(result, unit->text);
		slice_release(&unit->ops);
	}
	free(job);
	return result->failed ? E_LIMIT : OK;
}

static uint32_t ops_in(struct msg *m)
{
	struct unpack u;
	uint32_t n;

	return store_batch_open(&store_commit_of(m)->ops, &u, &n) ? 0 : n;
}

/* How many of the waiting go into the next group: at least one, at most STORE_BATCH_OPS_MAX operations. */
static uint32_t group_size(struct store *s, uint32_t *n_ops)
{
	uint32_t n = 0, ops = 0;
	uint64_t bytes = 0;

	for (; n < s->n_waiting && n < STORE_BATCH_OPS_MAX; n++) {
		struct msg *m = s->waiting[(s->first + n) % STORE_WAITING_MAX];
		uint32_t more = ops_in(m);

		bytes += store_commit_of(m)->ops.len;
		if (n > 0 && (ops + more > STORE_BATCH_OPS_MAX || bytes > STORE_GROUP_BYTES_MAX))
			break;
		ops += more;
	}
	*n_ops = ops;
	return n;
}

static void send_group(struct actor *self, struct store *s)
{
	struct group_job *job;
	uint32_t ops, n = group_size(s, &ops);

	if (n == 0) {
		actor_become(self, IDLE);
		return;
	}
	job = calloc(1, sizeof(*job) + n * sizeof(job->units[0]));
	if (!job)
		panic("out of memory");
	job->be = s->be;
	job->n = n;
	s->job = job;
	for (uint32_t i = 0; i < n; i++) {
		struct msg *m = s->waiting[s->first];

		s->first = (s->first + 1) % STORE_WAITING_MAX;
		s->n_waiting--;
		s->flying[i] = m;
		job->units[i].ops = slice_take(&store_commit_of(m)->ops);
		slice_privatise(&job->units[i].ops);
	}
	s->n_flying = n;
	s->groups++;
	s->records += ops;
	s->since_us = actor_now_us(self);
	if (metrics_declared) {
		actor_count(self, metric_groups, 1);
		actor_count(self, metric_records, ops);
	}
	s->work = work_run(self,
		&(struct work){
			.fn = run_group_job, .args = &job, .args_size = sizeof(job), .lane = LANE_COMMIT});
	actor_become(self, COMMITTING);
}

static void answer_commit(struct actor *self, struct store *s, struct msg *request, enum status st,
	uint64_t version, const char *text)
{
	struct msg *m;
	struct store_committed *c = store_committed_new(self, &m);

	c->status = m->status = (uint8_t)st;
	c->version = st ? 0 : version;
	str_copy(c->text, sizeof(c->text), text);
	actor_reply(self, request, &m);
	actor_drop(self, request, OK);
	s->commits++;
	s->failed += st != OK;
	if (metrics_declared) {
		actor_count(self, metric_commits, 1);
		actor_count(self, metric_failed, st != OK);
	}
}

static enum status on_commit(struct actor *self, struct msg *m)
{
	struct store *s = actor_state(self);

	if (s->n_waiting == STORE_WAITING_MAX) {
		answer_commit(
			self, s, actor_keep(self, m), E_FULL, 0, "too many commits are waiting for the disk");
		return OK;
	}
	s->waiting[(s->first + s->n_waiting) % STORE_WAITING_MAX] = actor_keep(self, m);
	s->n_waiting++;
	if (actor_current(self) == IDLE)
		send_group(self, s);
	return OK;
}

struct group_cursor {
	const uint8_t *p, *end;
};

/* One unit's outcome; false when the result is short, which is a failed work. */
static bool next_outcome(struct group_cursor *c, enum status *st, uint64_t *version, char text[TEXT_MAX])
{
	size_t n;

	if (c->end - c->p < 10 || c->end - c->p - 10 < c->p[9])
		return false;
	*st = (enum status)c->p[0];
	*version = load_be64(c->p + 1);
	n = c->p[9];
	memcpy(text, c->p + 10, n < TEXT_MAX - 1 ? n : TEXT_MAX - 1);
	text[n < TEXT_MAX - 1 ? n : TEXT_MAX - 1] = '\0';
	c->p += 10 + n;
	return true;
}

static void on_group_done(struct actor *self, struct store *s, struct work_done *w)
{
	struct group_cursor c = {slice_data(&w->result), slice_data(&w->result) + w->result.len};
	uint32_t n = s->n_flying;

	if (w->status && w->status != E_LIMIT) { /* it never ran: no room among the helpers' work */
		for (uint32_t i = 0; i < n; i++)
			slice_release(&s->job->units[i].ops);
		free(s->job);
	}
	s->job = NULL;
	if (!w->status && s->be->ops->acknowledged)
		s->be->ops->acknowledged(s->be);
	if (metrics_declared)
		actor_observe_us(self, metric_commit_us, actor_now_us(self) - s->since_us);
	s->n_flying = 0;
	s->work = 0;
	for (uint32_t i = 0; i < n; i++) {
		char text[TEXT_MAX] = "the store's helper failed; the outcome is unknown";
		uint64_t version = 0;
		enum status st = (enum status)w->status;

		if (st || !next_outcome(&c, &st, &version, text))
			st = st ? st : E_INTERNAL;
		answer_commit(self, s, s->flying[i], st, version, text);
	}
	send_group(self, s);
}

/* ---- reads ------------------------------------------------------------------------------------------------- */

struct read_job {
	struct store_backend *be;
	uint16_t tag; /* of the request */
	uint32_t limit, key_len;
	char table[STORE_TABLE_MAX + 1];
	uint8_t key[STORE_KEY_MAX];
};

static enum status read_scan(const struct read_job *job, struct writer *rows, struct error *err)
{
	uint32_t at = rows->len;
	struct writer w;
	struct store_read_rows q = {.table = job->table,
		.from = job->key,
		.from_len = job->key_len,
		.limit = job->limit,
		.rows = &w};
	enum status st;

	writer_init(&w, STORE_ROWS_BYTES_MAX);
	st = store_read_many(job->be, &q, err);
	writer_u32(rows, q.n);
	writer_u8(rows, q.more);
	if (w.len)
		writer_put(rows, w.buf->data, w.len);
	writer_release(&w);
	if (st)
		rows->len = at;
	return st;
}

/* result = text of the failure, or what on_read_done expects of the tag */
static enum status run_read_job(const void *args, size_t size, struct writer *result)
{
	const struct read_job *job = args;
	struct error err = {0};
	uint64_t version;
	enum status st;

	check(size == sizeof(*job));
	if (job->tag == STORE_GET || job->tag == STORE_PRINT) {
		writer_u64(result, 0);
		st = store_read(job->be, job->table, job->key, job->key_len, result, &version, &err);
		if (!st) {
			writer_set_u32(result, 0, (uint32_t)(version >> 32));
			writer_set_u32(result, 4, (uint32_t)version);
		}
	} else if (job->tag == STORE_SHOW) {
		struct store_usage usage;

		job->be->ops->usage(job->be, &usage);
		writer_u64(result, usage.records);
		writer_u64(result, usage.used_bytes);
		writer_u64(result, usage.max_bytes);
		st = OK;
	} else {
		st = read_scan(job, result, &err);
	}
	if (!st && result->failed)
		st = error_set(&err, E_LIMIT, "54000", "answer is too large");
	if (st) {
		result->len = 0;
		result->failed = false;
		writer_text(result, err.text);
	}
	return st;
}

static enum status start_read(struct actor *self, struct msg *m, struct read_job *job)
{
	struct store *s = actor_state(self);
	uint64_t work;

	if (s->n_readings == STORE_READS_MAX) {
		actor_reply_status(self, m, E_FULL, "too many reads are waiting for the disk");
		return OK;
	}
	job->be = s->be;
	job->tag = m->tag;
	if (job->limit == 0 || job->limit > STORE_SCAN_MAX)
		job->limit = STORE_SCAN_MAX;
	s->reads++;
	work = work_run(
		self, &(struct work){
			      .fn = run_read_job, .args = job, .args_size = sizeof(*job), .lane = LANE_READ});
	s->readings[s->n_readings++] = (struct reading){work, actor_keep(self, m)};
	return OK;
}

static enum status set_key(struct actor *self, struct msg *m, struct read_job *job, const void *key, size_t n)
{
	if (n > STORE_KEY_MAX) {
		actor_reply_status(self, m, E_LIMIT, "key is longer than %d bytes", STORE_KEY_MAX);
		return E_LIMIT;
	}
	memcpy(job->key, key, n);
	job->key_len = (uint32_t)n;
	return OK;
}

static enum status on_get(struct actor *self, struct msg *m)
{
	struct read_job job = {0};
	struct store_get *get = store_get_of(m);

	str_copy(job.table, sizeof(job.table), get->table);
	return set_key(self, m, &job, slice_data(&get->key), get->key.len) ? OK : start_read(self, m, &job);
}

static enum status on_scan(struct actor *self, struct msg *m)
{
	struct store_scan *scan = store_scan_of(m);
	struct read_job job = {.limit = scan->limit};

	str_copy(job.table, sizeof(job.table), scan->table);
	return set_key(self, m, &job, slice_data(&scan->from), scan->from.len) ? OK
									       : start_read(self, m, &job);
}

static enum status on_list(struct actor *self, struct msg *m)
{
	struct store_list *list = store_list_of(m);
	struct read_job job = {.limit = list->limit};

	str_copy(job.table, sizeof(job.table), list->table);
	return set_key(self, m, &job, list->from, strlen(list->from)) ? OK : start_read(self, m, &job);
}

static enum status on_print(struct actor *self, struct msg *m)
{
	struct store_print *print = store_print_of(m);
	struct read_job job = {0};

	str_copy(job.table, sizeof(job.table), print->table);
	return set_key(self, m, &job, print->key, strlen(print->key)) ? OK : start_read(self, m, &job);
}

static enum status on_show(struct actor *self, struct msg *m)
{
	struct read_job job = {0};

	return start_read(self, m, &job);
}

static struct slice rest_of(const struct slice *s, uint32_t from)
{
	return slice_sub(s, from, s->len - from);
}

static void answer_value(struct actor *self, struct msg *request, const struct work_done *w)
{
	struct msg *m;
	struct store_value *v = store_value_new(self, &m);

	v->found = w->status == OK;
	if (v->found) {
		v->version = load_be64(slice_data(&w->result));
		v->value = rest_of(&w->result, 8);
	}
	actor_reply(self, request, &m);
}

static void answer_rows(struct actor *self, struct msg *request, const struct work_done *w)
{
	struct msg *m;
	struct store_rows *rows = store_rows_new(self, &m);

	rows->n = load_be32(slice_data(&w->result));
	rows->more = slice_data(&w->result)[4];
	rows->rows = rest_of(&w->result, 5);
	actor_reply(self, request, &m);
}

static void answer_table(struct actor *self, struct msg *request, struct slice rows)
{
	struct msg *m;

	table_new(self, &m)->rows = rows;
	actor_reply(self, request, &m);
}

static struct slice table_of_store(const struct store *s, const struct work_done *w)
{
	static const char *const columns[] = {"what", "value"};
	const uint8_t *p = slice_data(&w->result);
	const struct {
		const char *what;
		uint64_t value;
	} lines[] = {{"records", load_be64(p)}, {"used_bytes", load_be64(p + 8)},
		{"max_bytes", load_be64(p + 16)}, {"commits", s->commits}, {"group_commits", s->groups},
		{"operations", s->records}, {"failed", s->failed}, {"reads", s->reads},
		{"waiting", s->n_waiting}};
	struct table_writer t;

	table_begin(&t, columns, ARRAY_LEN(columns), TABLE_BYTES_MAX);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		table_str(&t, lines[i].what);
		table_u64(&t, lines[i].value);
	}
	return table_end(&t);
}

static void answer_read(struct actor *self, struct store *s, struct msg *request, const struct work_done *w)
{
	if (request->tag == STORE_GET && (w->status == OK || w->status == E_NOT_FOUND)) {
		answer_value(self, request, w);
	} else if (w->status) {
		actor_reply_status(self, request, (enum status)w->status, "%.*s",
			w->status == E_NOT_FOUND ? 14 : (int)w->result.len,
			w->status == E_NOT_FOUND ? "no such record" : (const char *)slice_data(&w->result));
	} else if (request->tag == STORE_SCAN) {
		answer_rows(self, request, w);
	} else if (request->tag == STORE_SHOW) {
		answer_table(self, request, table_of_store(s, w));
	} else if (request->tag == STORE_PRINT) {
		struct slice value = rest_of(&w->result, 8);

		answer_table(self, request, store_table_of_value(load_be64(slice_data(&w->result)), &value));
		slice_release(&value);
	} else {
		struct slice rows = rest_of(&w->result, 5);

		answer_table(self, request, store_table_of_rows(store_list_of(request)->table, &rows));
		slice_release(&rows);
	}
}

static enum status on_work_done(struct actor *self, struct msg *m)
{
	struct store *s = actor_state(self);
	struct work_done *w = work_done_of(m);

	if (w->work == s->work && s->n_flying > 0) {
		on_group_done(self, s, w);
		return OK;
	}
	for (uint32_t i = 0; i < s->n_readings; i++) {
		struct msg *request = s->readings[i].request;

		if (s->readings[i].work != w->work)
			continue;
		s->readings[i] = s->readings[--s->n_readings];
		answer_read(self, s, request, w);
		actor_drop(self, request, E_INTERNAL);
		return OK;
	}
	return OK;
}

/* ---- the behaviour ----------------------------------------------------------------------------------------- */

static enum status store_init(struct actor *self, const void *args, size_t size)
{
	struct store *s = actor_state(self);
	struct arena *a = actor_arena(self);

	check(size == sizeof(struct store_args));
	s->be = ((const struct store_args *)args)->backend;
	s->waiting = arena_alloc(a, STORE_WAITING_MAX * sizeof(*s->waiting));
	s->flying = arena_alloc(a, STORE_BATCH_OPS_MAX * sizeof(*s->flying));
	s->readings = arena_alloc(a, STORE_READS_MAX * sizeof(*s->readings));
	return s->waiting && s->flying && s->readings ? OK : E_NOMEM;
}

static void store_show_line(const struct actor *self, struct writer *text)
{
	const struct store *s = actor_state(self);

	writer_printf(text, "%llu commits in %llu groups, %u waiting, %u at the disk",
		(unsigned long long)s->commits, (unsigned long long)s->groups, s->n_waiting, s->n_flying);
}

static const struct rule store_rules[] = {
	{STATE_ANY, STORE_COMMIT, on_commit},
	{STATE_ANY, STORE_GET, on_get},
	{STATE_ANY, STORE_SCAN, on_scan},
	{STATE_ANY, STORE_LIST, on_list},
	{STATE_ANY, STORE_PRINT, on_print},
	{STATE_ANY, STORE_SHOW, on_show},
	{STATE_ANY, WORK_DONE, on_work_done},
};

const struct behaviour store_behaviour = {
	.name = "store",
	.state_size = sizeof(struct store),
	.rules = store_rules,
	.n_rules = ARRAY_LEN(store_rules),
	.states = store_state_names,
	.n_states = ARRAY_LEN(store_state_names),
	.init = store_init,
	.show = store_show_line,
};
