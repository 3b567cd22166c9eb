/* Records of workflows: read from the store's bytes, and shown as tables for people. Pure. */
#include "runtime/base/bytes.h"
#include "runtime/core/table.h"
#include "runtime/flow/internal.h"
#include "runtime/store/batch.h"

enum { TABLE_BYTES_MAX = 1 << 20 };

enum status flow_record_read(const void *p, size_t n, struct flow_record *rec)
{
	memset(rec, 0, sizeof(*rec));
	return msg_decode_body(flow_record_desc(), p, n, rec);
}

static void put_time(struct table_writer *t, uint64_t us)
{
	time_t seconds = (time_t)(us / 1000000);
	struct tm tm;
	char text[32];

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%SZ", &tm);
	table_str(t, text);
}

static const char *step_name(const struct flow_record *rec, uint32_t i)
{
	const struct flow_kind *kind = flow_kind_find(rec->kind);

	return kind && i < kind->n_steps ? kind->steps[i].name : "?";
}

const char *flow_step_name(const struct flow_record *rec)
{
	return step_name(rec, rec->step);
}

struct slice flow_table_of_list(const struct slice *rows)
{
	static const char *const columns[] = {
		"id", "kind", "status", "step", "attempt", "started", "changed", "error"};
	struct unpack u = store_rows_open(rows);
	struct store_row_view row;
	struct table_writer t;

	table_begin(&t, columns, ARRAY_LEN(columns), TABLE_BYTES_MAX);
	while (store_rows_next(&u, &row) == OK) {
		struct flow_record rec;

		if (flow_record_read(row.value, row.value_len, &rec))
			continue;
		table_str(&t, rec.id);
		table_str(&t, rec.kind);
		table_str(&t, flow_status_name(rec.status));
		table_str(&t, step_name(&rec, rec.step));
		table_u64(&t, rec.attempt);
		put_time(&t, rec.started_us);
		put_time(&t, rec.changed_us);
		table_str(&t, rec.error);
		msg_release_body(flow_record_desc(), &rec);
	}
	return table_end(&t);
}

static const char *step_state(const struct flow_record *rec, uint32_t i)
{
	if (rec->status == FLOW_DONE || (rec->status == FLOW_RUNNING && i < rec->step))
		return "done";
	if (i == rec->step)
		return rec->status == FLOW_UNDOING  ? "undoing"
		       : rec->status == FLOW_FAILED ? "failed"
						    : "now";
	return i > rec->step && rec->status != FLOW_RUNNING ? "undone" : i > rec->step ? "" : "done";
}

struct slice flow_table_of_record(const struct flow_record *rec)
{
	static const char *const columns[] = {"what", "value"};
	const struct flow_kind *kind = flow_kind_find(rec->kind);
	struct table_writer t;

	table_begin(&t, columns, ARRAY_LEN(columns), TABLE_BYTES_MAX);
	table_str(&t, "id");
	table_str(&t, rec->id);
	table_str(&t, "kind");
	table_str(&t, rec->kind);
	table_str(&t, "status");
	table_str(&t, flow_status_name(rec->status));
	table_str(&t, "attempt");
	table_u64(&t, rec->attempt);
	table_str(&t, "started");
	put_time(&t, rec->started_us);
	table_str(&t, "changed");
	put_time(&t, rec->changed_us);
	table_str(&t, "error");
	table_str(&t, rec->error);
	for (uint32_t i = 0; kind && i < kind->n_steps; i++) {
		char name[48];

		snprintf(name, sizeof(name), "step %u %s", i + 1, kind->steps[i].name);
		table_str(&t, name);
		table_str(&t, step_state(rec, i));
	}
	return table_end(&t);
}
