/* The catalog of all folders' messages: filled once at start, read-only afterwards. */
#include "runtime/core/catalog.h"

#include <string.h>

#include "runtime/core/messages.h"

enum { FOLDERS = 128, PER_FOLDER = 256 };

static const struct msg_desc *by_tag[FOLDERS][PER_FOLDER];

const struct msg_desc *catalog_find(uint16_t tag)
{
	return (tag >> 8) < FOLDERS ? by_tag[tag >> 8][tag & 0xff] : NULL;
}

const struct msg_desc *catalog_find_name(const char *name)
{
	for (int f = 0; f < FOLDERS; f++)
		for (int i = 0; i < PER_FOLDER; i++)
			if (by_tag[f][i] && strcmp(by_tag[f][i]->name, name) == 0)
				return by_tag[f][i];
	return NULL;
}

const char *catalog_name(uint16_t tag)
{
	const struct msg_desc *d = catalog_find(tag);

	return d ? d->name : "?";
}

void catalog_add(const struct msg_desc *const *descs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct msg_desc **place = &by_tag[descs[i]->tag >> 8][descs[i]->tag & 0xff];

		check(descs[i]->tag >> 8 < FOLDERS);
		check(*place == NULL || *place == descs[i]);
		*place = descs[i];
	}
}

void catalog_each(void (*fn)(const struct msg_desc *d, void *arg), void *arg)
{
	for (int f = 0; f < FOLDERS; f++)
		for (int i = 0; i < PER_FOLDER; i++)
			if (by_tag[f][i])
				fn(by_tag[f][i], arg);
}

/* FNV-1a. */
static void hash_bytes_into(uint64_t *h, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*h = (*h ^ ((const uint8_t *)p)[i]) * 0x100000001b3ull;
}

static void hash_desc(const struct msg_desc *d, void *arg)
{
	hash_bytes_into(arg, d->name, strlen(d->name) + 1);
	hash_bytes_into(arg, &d->tag, sizeof(d->tag));
	for (uint32_t i = 0; i < d->n_fields; i++) {
		const struct msg_field *f = &d->fields[i];

		hash_bytes_into(arg, f->name, strlen(f->name) + 1);
		hash_bytes_into(arg, &f->type, sizeof(f->type));
		hash_bytes_into(arg, &f->max, sizeof(f->max));
	}
}

uint64_t catalog_hash(void)
{
	uint64_t h = 0xcbf29ce484222325ull;

	catalog_each(hash_desc, &h);
	return h;
}

MSG_FOLDER_DEFINE(core, CORE_MESSAGES);
