/*
 * Metrics: families are declared once at start, values live in each worker (no atomics) and are summed when read.
 * Names follow Prometheus: multigres_<part>_<what>_<unit>[_total].
 */
#ifndef RUNTIME_BASE_METRICS_H
#define RUNTIME_BASE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/buf.h"

enum { METRICS_MAX = 256, HISTOGRAMS_MAX = 32 };
enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_info {
	const char *name, *help;
	enum metric_kind kind;
	const char *label; /* `key="value"` or NULL: families share name and help */
};

/* Declares one; gives its id. Before workers start, from one thread. Histograms are of microseconds. */
uint32_t metric_declare(const char *name, const char *help, enum metric_kind kind, const char *label);
uint32_t metric_n(void);
const struct metric_info *metric_info(uint32_t id);

/* A worker's values. */
struct metric_values {
	int64_t values[METRICS_MAX];
	struct hist *hists[METRICS_MAX]; /* of histogram metrics, made on first use */
};

void metric_values_release(struct metric_values *v);
void metric_add(struct metric_values *v, uint32_t id, int64_t n);
void metric_observe(struct metric_values *v, uint32_t id, uint64_t us);
/* Adds `from` into `into`. */
void metric_merge(struct metric_values *into, const struct metric_values *from);
/* A snapshot as bytes and back (same build): for sending a worker's values to whoever sums them. E_INVALID. */
void metric_encode(const struct metric_values *v, struct writer *out);
enum status metric_decode(const uint8_t *p, size_t n, struct metric_values *into) MUST_CHECK; /* adds */
/* Prometheus text exposition format 0.0.4. */
void metric_render(const struct metric_values *v, struct writer *out);

#endif
