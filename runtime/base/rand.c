/* xoshiro256++ and splitmix64 after their public-domain reference code, prng.di.unimi.it. */
#include "runtime/base/rand.h"

static uint64_t splitmix64(uint64_t *x)
{
	uint64_t z = (*x += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

struct rand_stream rand_init(uint64_t seed)
{
	struct rand_stream r = {.seed = seed};
	uint64_t x = seed;

	for (int i = 0; i < 4; i++)
		r.s[i] = splitmix64(&x);
	return r;
}

struct rand_stream rand_fork(const struct rand_stream *parent, const char *label)
{
	uint64_t h = 0xcbf29ce484222325ull ^ parent->seed;

	for (const char *c = label; *c; c++)
		h = (h ^ (uint8_t)*c) * 0x100000001b3ull;
	return rand_init(splitmix64(&h));
}

uint64_t rand_u64(struct rand_stream *r)
{
	uint64_t *s = r->s, result = rotl(s[0] + s[3], 23) + s[0], t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

uint64_t rand_below(struct rand_stream *r, uint64_t n)
{
	unsigned __int128 m;

	if (n == 0)
		return 0;
	m = (unsigned __int128)rand_u64(r) * n;
	if ((uint64_t)m < n) {
		uint64_t threshold = -n % n;

		while ((uint64_t)m < threshold)
			m = (unsigned __int128)rand_u64(r) * n;
	}
	return (uint64_t)(m >> 64);
}

uint64_t rand_between(struct rand_stream *r, uint64_t low, uint64_t high)
{
	uint64_t span = high - low + 1;

	return span == 0 ? rand_u64(r) : low + rand_below(r, span);
}

bool rand_chance(struct rand_stream *r, uint32_t ppm)
{
	return ppm != 0 && rand_below(r, RAND_MILLION) < ppm;
}

/* Halvings until a coin shows tails, and a uniform rest: -log2(u) in 16 bits of fraction, times ln 2. */
uint64_t rand_exponential(struct rand_stream *r, uint64_t mean)
{
	uint64_t u = rand_u64(r) | 1, whole = (uint64_t)__builtin_clzll(u), fraction, steps;

	if (whole > 22)
		whole = 22;
	fraction = 0xffff - (u << whole << 1 >> 48);
	steps = (whole << 16 | fraction) * 45426 >> 16; /* 45426 / 65536 is ln 2 */
	return (uint64_t)((unsigned __int128)steps * mean >> 16);
}

void rand_bytes(struct rand_stream *r, void *p, uint32_t n)
{
	uint8_t *out = p;
	uint64_t v = 0;

	for (uint32_t i = 0; i < n; i++, v >>= 8) {
		if (i % 8 == 0)
			v = rand_u64(r);
		out[i] = (uint8_t)v;
	}
}
