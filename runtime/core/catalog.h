/*
 * The message catalog: one X-macro list a folder gives each message its struct, tag, bounded codec, printer and
 * schema hash. A folder's list is its public face (messages.h).
 *
 *	#define TIMER_FIELDS(F, S)	\
 *		F(S, u64, key, 0)	\
 *		F(S, u64, seq, 0)
 *	#define CORE_MESSAGES(M)				\
 *		M(TIMER, timer, 0x0001, MSG_SYSTEM)
 *
 *	MSG_FOLDER(core, CORE_MESSAGES);
 *
 * gives `enum { TIMER = 0x0001 }`, `struct timer`, `timer_of(m)` and `timer_new(self, &m)`; one .c file of the
 * folder says MSG_FOLDER_DEFINE(core, CORE_MESSAGES); and the program calls catalog_add_core() once at start.
 * Tags by folder: 0x00 core, 0x01 io, 0x02 store, 0x03 flow, 0x04 supervision and admin, 0x10 pg, 0x11 tablet,
 * 0x12 gate, 0x13 orc, 0x14 vstream, 0x15 topo, 0x7f tests.
 *
 * Field types: u8 u16 u32 u64 i64 pid; str (char[max + 1], NUL-terminated; max in bytes); bin (struct slice, owned
 * by the message; max in bytes). On the wire and in the store a message is a msgpack array of its fields by
 * position. New fields are appended and default to zero; extra ones from a newer build are skipped.
 */
#ifndef RUNTIME_CORE_CATALOG_H
#define RUNTIME_CORE_CATALOG_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/buf.h"
#include "runtime/base/check.h"
#include "runtime/core/msg.h"
#include "runtime/core/pid.h"

enum msg_field_type { FIELD_u8, FIELD_u16, FIELD_u32, FIELD_u64, FIELD_i64, FIELD_pid, FIELD_str, FIELD_bin };

enum msg_flags {
	MSG_PLAIN = 0,
	MSG_SYSTEM = 1, /* travels in the system lane, ahead of user messages, and ignores mailbox caps */
	MSG_LOCAL = 2, /* never leaves its node */
	MSG_ASK = 4, /* wants a reply */
	MSG_STATE = 8, /* a newer one replaces an older: on a full mailbox the oldest is dropped */
};

struct msg_field {
	const char *name;
	enum msg_field_type type;
	uint32_t offset, max;
};

struct msg_desc {
	const char *name; /* "TIMER" */
	uint16_t tag, n_fields;
	uint32_t size; /* of the struct, bytes */
	uint32_t flags;
	uint32_t n_bins; /* fields of type bin */
	const struct msg_field *fields;
};

/* NULL for a tag that no folder has. */
const struct msg_desc *catalog_find(uint16_t tag);
const struct msg_desc *catalog_find_name(const char *name);
const char *catalog_name(uint16_t tag); /* "?" when unknown */
/* Adds a folder's table; checks that no tag is taken. Once, before any worker starts. */
void catalog_add(const struct msg_desc *const *descs, size_t n);
/* A hash of all names, tags, field names, types and maxima: equal on nodes that agree on every message. */
uint64_t catalog_hash(void);
/* Calls fn for every message known, in tag order. */
void catalog_each(void (*fn)(const struct msg_desc *d, void *arg), void *arg);

/* ---- the machinery ---------------------------------------------------------------------------------------- */

#define MSG_MEMBER_u8(name, max) uint8_t name
#define MSG_MEMBER_u16(name, max) uint16_t name
#define MSG_MEMBER_u32(name, max) uint32_t name
#define MSG_MEMBER_u64(name, max) uint64_t name
#define MSG_MEMBER_i64(name, max) int64_t name
#define MSG_MEMBER_pid(name, max) struct pid name
#define MSG_MEMBER_str(name, max) char name[(max) + 1]
#define MSG_MEMBER_bin(name, max) struct slice name
#define MSG_MEMBER(S, type, name, max) MSG_MEMBER_##type(name, max);

#define MSG_TAG(NAME, name_, tag_, flags_) NAME = (tag_),
#define MSG_STRUCT(NAME, name, tag_, flags_)                                                                 \
	struct name {                                                                                        \
		NAME##_FIELDS(MSG_MEMBER, name)                                                              \
	};                                                                                                   \
	static inline struct name *name##_of(struct msg *m)                                                  \
	{                                                                                                    \
		check(m->tag == NAME);                                                                       \
		return msg_body(m);                                                                          \
	}                                                                                                    \
	__attribute__((unused)) static inline struct name *name##_new(struct actor *self, struct msg **m)    \
	{                                                                                                    \
		*m = actor_msg_new(self, NAME);                                                              \
		return msg_body(*m);                                                                         \
	}

/* In a folder's messages.h. */
#define MSG_FOLDER(folder, LIST)                                                                             \
	enum folder##_tag{LIST(MSG_TAG)};                                                                    \
	LIST(MSG_STRUCT)                                                                                     \
	void catalog_add_##folder(void)

#define MSG_FIELD_DESC(S, type_, name_, max_)                                                                \
	{.name = #name_, .type = FIELD_##type_, .offset = offsetof(struct S, name_), .max = (max_)},
#define MSG_BIN_COUNT(S, type, name, max) +(FIELD_##type == FIELD_bin)
#define MSG_DESC(NAME, name_, tag_, flags_)                                                                  \
	static const struct msg_field NAME##_fields[] = {NAME##_FIELDS(MSG_FIELD_DESC, name_){0}};           \
	static const struct msg_desc NAME##_desc = {.name = #NAME,                                           \
		.tag = NAME,                                                                                 \
		.n_fields = ARRAY_LEN(NAME##_fields) - 1,                                                    \
		.size = sizeof(struct name_),                                                                \
		.flags = (flags_),                                                                           \
		.n_bins = 0 NAME##_FIELDS(MSG_BIN_COUNT, name_),                                             \
		.fields = NAME##_fields};
#define MSG_DESC_REF(NAME, name_, tag_, flags_) &NAME##_desc,

/* In one .c file of the folder. */
#define MSG_FOLDER_DEFINE(folder, LIST)                                                                      \
	LIST(MSG_DESC)                                                                                       \
	void catalog_add_##folder(void)                                                                      \
	{                                                                                                    \
		static const struct msg_desc *const descs[] = {LIST(MSG_DESC_REF)};                          \
		catalog_add(descs, ARRAY_LEN(descs));                                                        \
	}                                                                                                    \
	struct catalog_##folder##_end

#endif
