/* Log-linear histograms. Encoded: count, sum, min, max (u64 each), n (u16), n times [bucket u16, hits u32]. */
#include "runtime/base/hist.h"

#include <string.h>

#include "runtime/base/bytes.h"

enum { HIST_SUBS = 1 << HIST_SUB_BITS, HIST_HEAD_BYTES = 4 * 8 + 2, HIST_ENTRY_BYTES = 6 };

/* Values below 32 have a bucket each; above, the top six bits decide. */
static uint32_t hist_bucket(uint64_t v)
{
	uint32_t octave;

	if (v < HIST_SUBS)
		return (uint32_t)v;
	if (v >> HIST_TOP_BITS)
		return HIST_BUCKETS - 1;
	octave = 63u - (uint32_t)__builtin_clzll(v) - HIST_SUB_BITS;
	return (octave << HIST_SUB_BITS) + (uint32_t)(v >> octave);
}

/* The largest value that falls into the bucket. */
static uint64_t hist_bucket_high(uint32_t b)
{
	uint32_t octave;
	uint64_t low;

	if (b < 2 * HIST_SUBS)
		return b;
	octave = (b >> HIST_SUB_BITS) - 1;
	low = (uint64_t)(b - (octave << HIST_SUB_BITS)) << octave;
	return low + (1ull << octave) - 1;
}

void hist_reset(struct hist *h)
{
	memset(h, 0, sizeof(*h));
}

static void hist_bounds(struct hist *h, uint64_t min, uint64_t max)
{
	if (h->count == 0 || min < h->min)
		h->min = min;
	if (h->count == 0 || max > h->max)
		h->max = max;
}

static void hist_bucket_add(struct hist *h, uint32_t b, uint32_t n)
{
	if (__builtin_add_overflow(h->buckets[b], n, &h->buckets[b]))
		h->buckets[b] = UINT32_MAX;
}

void hist_record(struct hist *h, uint64_t v)
{
	hist_bounds(h, v, v);
	h->count++;
	h->sum += v;
	hist_bucket_add(h, hist_bucket(v), 1);
}

void hist_merge(struct hist *into, const struct hist *from)
{
	if (from->count == 0)
		return;
	hist_bounds(into, from->min, from->max);
	into->count += from->count;
	into->sum += from->sum;
	for (uint32_t b = 0; b < HIST_BUCKETS; b++)
		hist_bucket_add(into, b, from->buckets[b]);
}

uint64_t hist_percentile(const struct hist *h, uint32_t per_10000)
{
	uint64_t rank, seen = 0;

	if (h->count == 0)
		return 0;
	rank = (uint64_t)(((unsigned __int128)h->count * per_10000 + 9999) / 10000);
	if (rank == 0)
		return h->min;
	for (uint32_t b = 0; b < HIST_BUCKETS; b++) {
		seen += h->buckets[b];
		if (seen >= rank) {
			uint64_t high = b == HIST_BUCKETS - 1 ? h->max : hist_bucket_high(b);
			uint64_t middle = high - ((high - hist_bucket_high(b ? b - 1 : 0)) >> 1);

			if (high < 2 * HIST_SUBS || b == HIST_BUCKETS - 1)
				middle = high;
			return middle < h->min ? h->min : middle > h->max ? h->max : middle;
		}
	}
	return h->max;
}

uint64_t hist_count_le(const struct hist *h, uint64_t v)
{
	uint64_t seen = 0;
	uint32_t last = hist_bucket(v);

	if (v >= h->max)
		return h->count;
	for (uint32_t b = 0; b <= last; b++)
		seen += h->buckets[b];
	return seen;
}

void hist_encode(const struct hist *h, struct writer *out)
{
	uint16_t n = 0;

	for (uint32_t b = 0; b < HIST_BUCKETS; b++)
		n = (uint16_t)(n + (h->buckets[b] != 0));
	writer_u64(out, h->count);
	writer_u64(out, h->sum);
	writer_u64(out, h->min);
	writer_u64(out, h->max);
	writer_u16(out, n);
	for (uint32_t b = 0; b < HIST_BUCKETS; b++)
		if (h->buckets[b]) {
			writer_u16(out, (uint16_t)b);
			writer_u32(out, h->buckets[b]);
		}
}

enum status hist_decode(const uint8_t *p, size_t n, struct hist *into, size_t *used)
{
	uint64_t count, sum, min, max;
	uint32_t entries, before = 0;
	const uint8_t *at;

	if (n < HIST_HEAD_BYTES)
		return E_INVALID;
	count = load_be64(p);
	sum = load_be64(p + 8);
	min = load_be64(p + 16);
	max = load_be64(p + 24);
	entries = load_be16(p + 32);
	if (entries > HIST_BUCKETS || n - HIST_HEAD_BYTES < (size_t)entries * HIST_ENTRY_BYTES || min > max ||
		(count == 0) != (entries == 0))
		return E_INVALID;
	at = p + HIST_HEAD_BYTES;
	for (uint32_t i = 0; i < entries; i++, at += HIST_ENTRY_BYTES) {
		uint32_t b = load_be16(at);

		if (b >= HIST_BUCKETS || (i > 0 && b <= before) || load_be32(at + 2) == 0)
			return E_INVALID;
		before = b;
	}
	*used = (size_t)(at - p);
	if (count == 0)
		return OK;
	hist_bounds(into, min, max);
	into->count += count;
	into->sum += sum;
	at = p + HIST_HEAD_BYTES;
	for (uint32_t i = 0; i < entries; i++, at += HIST_ENTRY_BYTES)
		hist_bucket_add(into, load_be16(at), load_be32(at + 2));
	return OK;
}
