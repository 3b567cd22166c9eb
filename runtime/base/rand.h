/*
 * Random streams: xoshiro256++ (Blackman and Vigna, 2018), seeded by splitmix64. A stream is forked by label, from
 * its parent's seed and not from its state, so that an extra draw in one part shifts nothing in another.
 *
 * For simulation, jitter and tests. Never for secrets. Whoever holds the stream owns it; no globals.
 */
#ifndef RUNTIME_BASE_RAND_H
#define RUNTIME_BASE_RAND_H

#include <stdbool.h>
#include <stdint.h>

struct rand_stream {
	uint64_t s[4];
	uint64_t seed;
};

enum { RAND_MILLION = 1000000 };

struct rand_stream rand_init(uint64_t seed);
struct rand_stream rand_fork(const struct rand_stream *parent, const char *label);
uint64_t rand_u64(struct rand_stream *r);
/* 0 .. n - 1, unbiased (Lemire, 2019); 0 when n is 0. */
uint64_t rand_below(struct rand_stream *r, uint64_t n);
/* low .. high, both possible. */
uint64_t rand_between(struct rand_stream *r, uint64_t low, uint64_t high);
/* True in ppm of a million cases. No draw is made for 0. */
bool rand_chance(struct rand_stream *r, uint32_t ppm);
/* Roughly exponential with that mean, at most 16 times the mean; integers only, so equal on every machine. */
uint64_t rand_exponential(struct rand_stream *r, uint64_t mean);
void rand_bytes(struct rand_stream *r, void *p, uint32_t n);

#endif
