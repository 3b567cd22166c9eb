/* The tablet as a table for people (mgctl, the console). */
#include "actors/tablet/lifecycle_internal.h"
#include "runtime/base/check.h"
#include "runtime/core/io.h"
#include "runtime/core/table.h"

const char *tablet_mode_name(const struct tablet *t)
{
	return tablet_is_own(t) ? (t->adopted ? "own, adopted" : "own") : "attach";
}

struct slice tablet_table(struct actor *self, const struct tablet *t, const char *state)
{
	static const char *const columns[] = {"what", "value"};
	struct tablet_serving s;
	struct table_writer w;
	const struct {
		const char *what, *text;
	} texts[] = {{"state", state}, {"mode", tablet_mode_name(t)}, {"address", s.address},
		{"login", s.login}, {"data", tablet_is_own(t) ? t->plan.base : ""},
		{"programs", t->found.bin_dir}, {"why", s.why}};
	uint64_t up = t->serving_since_us ? (actor_now_us(self) - t->serving_since_us) / 1000000 : 0;
	const struct {
		const char *what;
		uint64_t value;
	} numbers[] = {{"serving", 0}, {"pid", t->proc ? (uint64_t)proc_os_pid(self, t->proc) : 0},
		{"port", t->plan.port}, {"server_version", t->info.server_version},
		{"max_connections", t->info.max_connections}, {"verifiers", t->info.verifiers},
		{"serving_seconds", up}, {"restarts", t->restarts}};

	tablet_serving_make(self, t, &s);
	table_begin(&w, columns, ARRAY_LEN(columns), 65536);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		table_str(&w, texts[i].what);
		table_str(&w, texts[i].text);
	}
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		table_str(&w, numbers[i].what);
		table_u64(&w, i == 0 ? s.serving : numbers[i].value);
	}
	return table_end(&w);
}
