/* Buffers, slices, writers, arenas, slabs, lists, status. */
#include <check.h>
#include <stdlib.h>

#include "runtime/base/arena.h"
#include "runtime/base/buf.h"
#include "runtime/base/bytes.h"
#include "runtime/base/list.h"
#include "runtime/base/slab.h"

/* ---- buf ---- */

START_TEST(a_slice_of_a_slice_shares_and_counts_the_chunk)
{
	struct slice whole = slice_copy("hello world", 11), part = slice_sub(&whole, 6, 5),
		     none = slice_sub(&whole, 3, 0);

	ck_assert_uint_eq(whole.buf->refs, 2);
	ck_assert(none.buf == NULL && none.len == 0);
	ck_assert_mem_eq(slice_data(&part), "world", 5);
	slice_release(&whole);
	slice_release(&whole);
	ck_assert_uint_eq(part.buf->refs, 1);
	ck_assert_mem_eq(slice_data(&part), "world", 5);
	slice_release(&part);
	ck_assert(slice_data(&part) != NULL);
}
END_TEST

START_TEST(compacting_lets_go_of_a_much_larger_chunk)
{
	struct slice whole = {.buf = buf_new(4096), .len = 4096}, part, most;

	memset(whole.buf->data, 'x', 4096);
	part = slice_sub(&whole, 10, 20);
	most = slice_sub(&whole, 0, 3000);
	slice_compact(&part);
	slice_compact(&most);
	ck_assert(part.buf != whole.buf && part.buf->cap == 20);
	ck_assert(most.buf == whole.buf);
	slice_release(&part);
	slice_release(&most);
	ck_assert_uint_eq(whole.buf->refs, 1);
	slice_release(&whole);
}
END_TEST

static unsigned given_back;
static void give_back(struct buf_pool *pool, struct buf *b)
{
	(void)pool;
	given_back++;
	buf_free(b);
}

START_TEST(a_pooled_chunk_goes_back_to_its_pool_once)
{
	struct buf_pool pool = {give_back};
	struct slice s = {.buf = buf_new(100), .len = 50}, other;

	s.buf->pool = &pool;
	other = slice_sub(&s, 0, 50);
	slice_privatise(&other);
	ck_assert(other.buf != s.buf && !other.buf->pool);
	slice_release(&s);
	ck_assert_uint_eq(given_back, 1);
	slice_privatise(&other); /* already private: stays */
	slice_release(&other);
	ck_assert_uint_eq(given_back, 1);
}
END_TEST

START_TEST(a_writer_grows_to_its_maximum_and_remembers_failure)
{
	struct writer w;
	struct slice s;

	writer_init(&w, 1000);
	for (int i = 0; i < 250; i++)
		writer_u32(&w, (uint32_t)i);
	ck_assert(!w.failed && w.len == 1000);
	ck_assert_uint_eq(load_be32(w.buf->data + 4 * 77), 77);
	writer_u8(&w, 1);
	ck_assert(w.failed && w.len == 1000);
	writer_u8(&w, 1);
	s = writer_take(&w);
	ck_assert(s.buf == NULL);
}
END_TEST

START_TEST(a_writer_puts_all_kinds_and_patches_a_length)
{
	static const uint8_t expected[] = {
		0, 0, 0, 9, 7, 1, 2, 'a', 0, 'b', '4', '2', 0, 0, 0, 0, 0, 0, 0, 5};
	struct writer w;
	struct slice s;

	writer_init(&w, 100);
	writer_u32(&w, 0);
	writer_u8(&w, 7);
	writer_u16(&w, 0x0102);
	writer_str(&w, "a");
	writer_text(&w, "b");
	writer_printf(&w, "%d", 42);
	writer_u64(&w, 5);
	writer_set_u32(&w, 0, 9);
	writer_put(&w, NULL, 0);
	s = writer_take(&w);
	ck_assert_uint_eq(s.len, sizeof(expected));
	ck_assert_mem_eq(slice_data(&s), expected, sizeof(expected));
	ck_assert(w.buf == NULL && w.len == 0);
	slice_release(&s);
	writer_init(&w, 10);
	writer_printf(&w, "%s", "");
	ck_assert(!w.failed && w.len == 0);
	writer_printf(&w, "%s", "too long for this");
	ck_assert(w.failed);
	writer_release(&w);
}
END_TEST

/* ---- arena ---- */

START_TEST(an_arena_gives_zeroed_aligned_memory_up_to_its_budget)
{
	struct arena a;
	char *p;

	arena_init(&a, 100000);
	for (int round = 0; round < 2; round++) {
		for (size_t n = 1; n < 300; n++) {
			p = arena_alloc(&a, n);
			ck_assert(p && ((uintptr_t)p & 15) == 0);
			for (size_t i = 0; i < n; i++)
				ck_assert_int_eq(p[i], 0);
			memset(p, 0xff, n);
		}
		ck_assert(arena_alloc(&a, 100001) == NULL);
		ck_assert(arena_alloc(&a, SIZE_MAX) == NULL);
		ck_assert(arena_alloc(&a, SIZE_MAX - 7) == NULL);
		ck_assert(arena_alloc(&a, 60000) == NULL);
		arena_release(&a);
		ck_assert_uint_eq(a.used_bytes, 0);
	}
}
END_TEST

START_TEST(an_arena_copies_and_formats_text)
{
	struct arena a;

	arena_init(&a, 1024);
	ck_assert_str_eq(arena_strdup(&a, "one"), "one");
	ck_assert_str_eq(arena_strndup(&a, "twofold", 3), "two");
	ck_assert_str_eq(arena_printf(&a, "%d-%s", 3, "three"), "3-three");
	ck_assert(arena_printf(&a, "%2000d", 3) == NULL);
	arena_release(&a);
}
END_TEST

/* ---- slab ---- */

START_TEST(a_slab_hands_out_distinct_aligned_objects_and_takes_them_again)
{
	enum { N = 3000 };
	static void *objects[N];
	struct slab s;

	for (uint32_t size = 1; size < 10000; size = size * 3 + 5) {
		slab_init(&s, size);
		for (int i = 0; i < N; i++) {
			objects[i] = slab_alloc(&s);
			ck_assert(((uintptr_t)objects[i] & 15) == 0);
			memset(objects[i], i, size);
		}
		ck_assert_uint_eq(s.live, N);
		for (int i = 0; i < N; i++) {
			ck_assert_int_eq(*(uint8_t *)objects[i], (uint8_t)i);
			slab_free(&s, objects[i]);
		}
		ck_assert_uint_eq(s.live, 0);
		ck_assert_ptr_eq(slab_alloc(&s), objects[N - 1]);
		slab_release(&s);
	}
}
END_TEST

/* ---- list ---- */

struct item {
	int n;
	struct list link;
	struct hnode hash;
};

START_TEST(a_list_keeps_order_and_bears_removal_of_the_current_item)
{
	struct item items[5];
	struct list l;
	int seen = 0;

	list_init(&l);
	ck_assert(list_empty(&l) && !list_first(&l) && !list_pop_front(&l));
	for (int i = 0; i < 5; i++) {
		items[i].n = i;
		if (i < 4)
			list_push_back(&l, &items[i].link);
		else
			list_push_front(&l, &items[i].link);
	}
	list_each(it, &l)
	{
		ck_assert_int_eq(LIST_ITEM(it, struct item, link)->n, seen == 0 ? 4 : seen - 1);
		seen++;
		list_remove(it);
		list_remove(it); /* harmless */
	}
	ck_assert_int_eq(seen, 5);
	ck_assert(list_empty(&l));
}
END_TEST

START_TEST(an_hlist_removes_from_anywhere_and_twice)
{
	struct item items[3] = {0};
	struct hlist l = {0};

	for (int i = 0; i < 3; i++)
		hlist_push(&l, &items[i].hash);
	hlist_remove(&items[1].hash);
	hlist_remove(&items[1].hash);
	ck_assert_ptr_eq(l.first, &items[2].hash);
	ck_assert_ptr_eq(l.first->next, &items[0].hash);
	hlist_remove(&items[2].hash);
	hlist_remove(&items[0].hash);
	ck_assert(!l.first);
}
END_TEST

/* ---- status, bytes ---- */

START_TEST(every_status_has_a_name_and_numbers_out_of_range_too)
{
	for (int i = 0; i < STATUS_COUNT; i++)
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(status_name((enum status)i), status_name((enum status)k));
	ck_assert_str_eq(status_name(OK), "ok");
	ck_assert_str_eq(status_name(E_NODE_DOWN), "node_down");
	ck_assert(status_name((enum status)STATUS_COUNT) != NULL);
	ck_assert(status_name((enum status) - 1) != NULL);
}
END_TEST

START_TEST(an_error_is_filled_cut_and_optional)
{
	struct error err;
	static char longer[2000];

	memset(longer, 'x', sizeof(longer) - 1);
	ck_assert_int_eq(error_set(&err, E_DENIED, "42501", "no %s", "way"), E_DENIED);
	ck_assert_str_eq(err.text, "no way");
	ck_assert_str_eq(err.sqlstate, "42501");
	ck_assert_str_eq(err.hint, "");
	error_hint(&err, "try %d", 2);
	ck_assert_str_eq(err.hint, "try 2");
	error_set(&err, E_IO, "58030", "%s", longer);
	ck_assert_uint_eq(strlen(err.text), ERROR_TEXT_MAX - 1);
	ck_assert_str_eq(err.hint, "");
	ck_assert_int_eq(error_set(NULL, E_IO, "58030", "x"), E_IO);
	error_hint(NULL, "x");
}
END_TEST

START_TEST(big_endian_numbers_and_bounded_copies)
{
	uint8_t b[8];
	char text[4];

	store_be64(b, 0x0102030405060708ull);
	ck_assert(b[0] == 1 && b[7] == 8 && load_be64(b) == 0x0102030405060708ull);
	ck_assert(load_be32(b + 4) == 0x05060708 && load_be16(b + 1) == 0x0203);
	store_be16(b, 0xfffe);
	store_be32(b + 2, 0xfffefdfc);
	ck_assert(load_be16(b) == 0xfffe && load_be32(b + 2) == 0xfffefdfc);
	ck_assert(str_copy(text, sizeof(text), "abc") && strcmp(text, "abc") == 0);
	ck_assert(!str_copy(text, sizeof(text), "abcd") && strcmp(text, "abc") == 0);
	ck_assert(!str_copy(text, 1, "a") && text[0] == '\0');
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("base memory");
	TCase *tc = tcase_create("memory");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tc, a_slice_of_a_slice_shares_and_counts_the_chunk);
	tcase_add_test(tc, compacting_lets_go_of_a_much_larger_chunk);
	tcase_add_test(tc, a_pooled_chunk_goes_back_to_its_pool_once);
	tcase_add_test(tc, a_writer_grows_to_its_maximum_and_remembers_failure);
	tcase_add_test(tc, a_writer_puts_all_kinds_and_patches_a_length);
	tcase_add_test(tc, an_arena_gives_zeroed_aligned_memory_up_to_its_budget);
	tcase_add_test(tc, an_arena_copies_and_formats_text);
	tcase_add_test(tc, a_slab_hands_out_distinct_aligned_objects_and_takes_them_again);
	tcase_add_test(tc, a_list_keeps_order_and_bears_removal_of_the_current_item);
	tcase_add_test(tc, an_hlist_removes_from_anywhere_and_twice);
	tcase_add_test(tc, every_status_has_a_name_and_numbers_out_of_range_too);
	tcase_add_test(tc, an_error_is_filled_cut_and_optional);
	tcase_add_test(tc, big_endian_numbers_and_bounded_copies);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
