/*
 * Histograms of u64 in fixed memory (4.6 kB), in the manner of HdrHistogram: 32 linear buckets to each power of two,
 * so that a percentile is wrong by at most 1.6 %. Values of 2^40 and more share the last bucket; minimum, maximum,
 * count and sum are exact. Worker-local.
 */
#ifndef RUNTIME_BASE_HIST_H
#define RUNTIME_BASE_HIST_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/buf.h"

enum {
	HIST_SUB_BITS = 5,
	HIST_TOP_BITS = 40,
	HIST_BUCKETS = (HIST_TOP_BITS - HIST_SUB_BITS + 1) << HIST_SUB_BITS
};

struct hist {
	uint64_t count, sum, min, max; /* min and max are meaningless while count is 0 */
	uint32_t buckets[HIST_BUCKETS]; /* saturating */
};

void hist_reset(struct hist *h); /* an all-zero struct is an empty histogram too */
void hist_record(struct hist *h, uint64_t v);
void hist_merge(struct hist *into, const struct hist *from);
/* The value below or at which `per_10000` of ten thousand lie: 5000 the median, 9990 p99.9. 0 when empty. */
uint64_t hist_percentile(const struct hist *h, uint32_t per_10000);
/* How many are at most v, to a bucket's precision. */
uint64_t hist_count_le(const struct hist *h, uint64_t v);
/* Only the buckets in use. Decoding adds to `into` and gives the bytes it read; E_INVALID leaves it untouched. */
void hist_encode(const struct hist *h, struct writer *out);
enum status hist_decode(const uint8_t *p, size_t n, struct hist *into, size_t *used) MUST_CHECK;

#endif
