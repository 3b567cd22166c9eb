/*
 * Metrics: one table of families, declared at start and read-only afterwards; values by worker.
 *
 * A snapshot: n (u32), n values (u64, two's complement), then for each histogram in use its id (u32) and
 * hist_encode's bytes, ended by UINT32_MAX.
 */
#include "runtime/base/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/base/check.h"
#include "runtime/base/hist.h"

enum { LABEL_MAX = 128 };
#define SNAPSHOT_END UINT32_MAX

static struct metric_info infos[METRICS_MAX];
static uint32_t n_infos, n_histograms;

static bool label_equal(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

uint32_t metric_declare(const char *name, const char *help, enum metric_kind kind, const char *label)
{
	for (uint32_t i = 0; i < n_infos; i++)
		if (strcmp(infos[i].name, name) == 0) {
			check(infos[i].kind == kind); /* a family has one type */
			if (label_equal(infos[i].label, label))
				return i;
		}
	check(n_infos < METRICS_MAX);
	check(kind != METRIC_HISTOGRAM || n_histograms < HISTOGRAMS_MAX);
	check(!label || strlen(label) <= LABEL_MAX);
	n_histograms += kind == METRIC_HISTOGRAM;
	infos[n_infos] = (struct metric_info){.name = name, .help = help, .kind = kind, .label = label};
	return n_infos++;
}

uint32_t metric_n(void)
{
	return n_infos;
}

const struct metric_info *metric_info(uint32_t id)
{
	check(id < n_infos);
	return &infos[id];
}

void metric_values_release(struct metric_values *v)
{
	for (uint32_t i = 0; i < METRICS_MAX; i++)
		free(v->hists[i]);
	memset(v, 0, sizeof(*v));
}

void metric_add(struct metric_values *v, uint32_t id, int64_t n)
{
	check(id < n_infos && infos[id].kind != METRIC_HISTOGRAM);
	v->values[id] = (int64_t)((uint64_t)v->values[id] + (uint64_t)n);
}

static struct hist *hist_of(struct metric_values *v, uint32_t id)
{
	if (!v->hists[id]) {
		v->hists[id] = calloc(1, sizeof(struct hist));
		check(v->hists[id] != NULL);
	}
	return v->hists[id];
}

void metric_observe(struct metric_values *v, uint32_t id, uint64_t us)
{
	check(id < n_infos && infos[id].kind == METRIC_HISTOGRAM);
	hist_record(hist_of(v, id), us);
}

void metric_merge(struct metric_values *into, const struct metric_values *from)
{
	for (uint32_t i = 0; i < n_infos; i++) {
		if (infos[i].kind != METRIC_HISTOGRAM)
			metric_add(into, i, from->values[i]);
		else if (from->hists[i])
			hist_merge(hist_of(into, i), from->hists[i]);
	}
}

/* ---- snapshots --------------------------------------------------------------------------------------------- */

void metric_encode(const struct metric_values *v, struct writer *out)
{
	writer_u32(out, n_infos);
	for (uint32_t i = 0; i < n_infos; i++)
		writer_u64(out, (uint64_t)v->values[i]);
	for (uint32_t i = 0; i < n_infos; i++)
		if (v->hists[i]) {
			writer_u32(out, i);
			hist_encode(v->hists[i], out);
		}
	writer_u32(out, SNAPSHOT_END);
}

/* Reads the histograms behind the values; into a scratch first, so that bad input changes nothing. */
static enum status hists_decode(const uint8_t *p, size_t n, struct metric_values *scratch)
{
	uint32_t next = 0;
	size_t used;

	for (;;) {
		uint32_t id;

		if (n < 4)
			return E_INVALID;
		id = load_be32(p);
		p += 4;
		n -= 4;
		if (id == SNAPSHOT_END)
			return n == 0 ? OK : E_INVALID;
		if (id < next || id >= n_infos || infos[id].kind != METRIC_HISTOGRAM)
			return E_INVALID;
		next = id + 1;
		if (hist_decode(p, n, hist_of(scratch, id), &used))
			return E_INVALID;
		p += used;
		n -= used;
	}
}

enum status metric_decode(const uint8_t *p, size_t n, struct metric_values *into)
{
	struct metric_values *scratch;
	enum status st;

	if (n < 4 || load_be32(p) != n_infos || (n - 4) / 8 < n_infos)
		return E_INVALID;
	scratch = calloc(1, sizeof(*scratch));
	check(scratch != NULL);
	for (uint32_t i = 0; i < n_infos; i++)
		scratch->values[i] = (int64_t)load_be64(p + 4 + (size_t)i * 8);
	st = hists_decode(p + 4 + (size_t)n_infos * 8, n - 4 - (size_t)n_infos * 8, scratch);
	if (!st)
		metric_merge(into, scratch);
	metric_values_release(scratch);
	free(scratch);
	return st;
}

/* ---- Prometheus -------------------------------------------------------------------------------------------- */

static const uint64_t le_us[] = {100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000,
	1000000, 2500000, 5000000, 10000000, 30000000, 60000000};
static const char *const kind_names[] = {"counter", "gauge", "histogram"};

/* Families named ..._seconds are shown in seconds, all others as they are recorded: in microseconds. */
static bool in_seconds(const char *name)
{
	size_t n = strlen(name);

	return n > 8 && strcmp(name + n - 8, "_seconds") == 0;
}

static void render_us(uint64_t us, bool seconds, struct writer *out)
{
	char text[32];
	size_t n;

	if (!seconds) {
		writer_printf(out, "%llu", (unsigned long long)us);
		return;
	}
	n = (size_t)snprintf(text, sizeof(text), "%llu.%06llu", (unsigned long long)(us / 1000000),
		(unsigned long long)(us % 1000000));
	while (text[n - 1] == '0')
		n--;
	writer_put(out, text, (uint32_t)(text[n - 1] == '.' ? n - 1 : n));
}

static void render_hist(const struct metric_info *info, const struct hist *h, struct writer *out)
{
	static const struct hist none;
	bool seconds = in_seconds(info->name);
	const char *label = info->label ? info->label : "", *comma = info->label ? "," : "";
	const char *open = info->label ? "{" : "", *close = info->label ? "}" : "";

	if (!h)
		h = &none;
	for (size_t i = 0; i < ARRAY_LEN(le_us); i++) {
		writer_printf(out, "%s_bucket{%s%sle=\"", info->name, label, comma);
		render_us(le_us[i], seconds, out);
		writer_printf(out, "\"} %llu\n", (unsigned long long)hist_count_le(h, le_us[i]));
	}
	writer_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", info->name, label, comma,
		(unsigned long long)h->count);
	writer_printf(out, "%s_sum%s%s%s ", info->name, open, label, close);
	render_us(h->sum, seconds, out);
	writer_printf(
		out, "\n%s_count%s%s%s %llu\n", info->name, open, label, close, (unsigned long long)h->count);
}

static void render_one(
	const struct metric_info *info, const struct metric_values *v, uint32_t id, struct writer *out)
{
	if (info->kind == METRIC_HISTOGRAM)
		render_hist(info, v->hists[id], out);
	else if (info->label)
		writer_printf(out, "%s{%s} %lld\n", info->name, info->label, (long long)v->values[id]);
	else
		writer_printf(out, "%s %lld\n", info->name, (long long)v->values[id]);
}

static bool first_of_family(uint32_t id)
{
	for (uint32_t i = 0; i < id; i++)
		if (strcmp(infos[i].name, infos[id].name) == 0)
			return false;
	return true;
}

/* The lines of a family stand together under one HELP and TYPE, in order of first declaration. */
void metric_render(const struct metric_values *v, struct writer *out)
{
	for (uint32_t i = 0; i < n_infos; i++) {
		if (!first_of_family(i))
			continue;
		writer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", infos[i].name, infos[i].help,
			infos[i].name, kind_names[infos[i].kind]);
		for (uint32_t k = i; k < n_infos; k++)
			if (strcmp(infos[k].name, infos[i].name) == 0)
				render_one(&infos[k], v, k, out);
	}
}
