/* SCRAM: RFC 7677's own exchange, verifiers made by Postgres 15, both sides against each other, and what is refused. */
#include <check.h>
#include <stdlib.h>

#include "actors/pg/scram.h"
#include "runtime/base/bytes.h"
#include "runtime/base/check.h"

/* RFC 7677, section 3: user "user", password "pencil". */
#define RFC_NONCE "rOprNGfwEbeRWgbNEkqO"
#define RFC_SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_FIRST "r=" RFC_NONCE RFC_SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define RFC_FINAL "c=biws,r=" RFC_NONCE RFC_SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_VERIFY "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

/* pg_authid.rolpassword after create role u1 password 'pencil', Postgres 15. */
#define PG_VERIFIER                                                                                          \
	"SCRAM-SHA-256$4096:JJeFZ9fGWok5TO0AEUsf+g==$NM21wW6zk7JE2bjfP/4OX42opGDeu0hNoiU9YNCzCH8="           \
	":R/t+OhyOlXnFu+w6d9kKNfanDr+C6S2OSyIdIjmycGI="

static const uint8_t server_nonce[SCRAM_NONCE] = "server nonce 0123",
		     client_nonce[SCRAM_NONCE] = "client nonce 0123";

static struct writer w;
static struct error err;

/* Gives what was written since the last call, as a string. */
static const char *taken(void)
{
	static char text[4096];

	memcpy(text, w.buf->data, w.len);
	text[w.len] = '\0';
	w.len = 0;
	return text;
}

static void setup(void)
{
	writer_init(&w, 4000);
}

static void teardown(void)
{
	writer_release(&w);
}

static struct scram_keys keys_of(const char *password, const struct scram_verifier *v)
{
	struct scram_keys keys;
	uint8_t salted[SCRAM_KEY];

	ck_assert_int_eq(scram_salt_password(password, v->salt, v->salt_len, v->iterations, salted), OK);
	scram_keys_from_salted(salted, &keys);
	return keys;
}

START_TEST(the_client_speaks_rfc_7677_s_exchange)
{
	struct scram_client c;
	struct scram_keys keys;
	uint8_t salted[SCRAM_KEY];

	scram_client_init(&c, client_nonce, NULL, false);
	str_copy(c.nonce, sizeof(c.nonce), RFC_NONCE);
	str_copy(c.client_first, sizeof(c.client_first), "n=user,r=" RFC_NONCE);
	ck_assert_int_eq(scram_client_challenge(&c, RFC_FIRST, sizeof(RFC_FIRST) - 1, &err), OK);
	ck_assert_int_eq(scram_salt_password("pencil", c.salt, c.salt_len, c.iterations, salted), OK);
	scram_keys_from_salted(salted, &keys);
	ck_assert_int_eq(scram_client_final(&c, &keys, &w, &err), OK);
	ck_assert_str_eq(taken(), RFC_FINAL);
	ck_assert_int_eq(scram_client_verify(&c, RFC_VERIFY, sizeof(RFC_VERIFY) - 1, &err), OK);
}
END_TEST

START_TEST(the_server_speaks_rfc_7677_s_exchange)
{
	static const char first[] = "n,,n=user,r=" RFC_NONCE;
	struct scram_verifier v;
	struct scram_server s;
	char text[SCRAM_VERIFIER_MAX];
	uint8_t salt[16] = {0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12,
		0x36, 0xfa, 0x81};

	ck_assert_int_eq(scram_verifier_build("pencil", salt, 16, 4096, text), OK);
	ck_assert_int_eq(scram_verifier_parse(text, &v), OK);
	scram_server_init(&s, &v, server_nonce, NULL, false);
	str_copy(s.server_nonce, sizeof(s.server_nonce), RFC_SERVER_NONCE);
	ck_assert_int_eq(scram_server_first(&s, first, sizeof(first) - 1, &w, &err), OK);
	ck_assert_str_eq(taken(), RFC_FIRST);
	ck_assert_int_eq(scram_server_final(&s, RFC_FINAL, sizeof(RFC_FINAL) - 1, &w, &err), OK);
	ck_assert_str_eq(taken(), RFC_VERIFY);
}
END_TEST

START_TEST(a_verifier_is_the_one_postgres_makes)
{
	struct scram_verifier v;
	struct scram_keys keys;
	char text[SCRAM_VERIFIER_MAX];

	ck_assert_int_eq(scram_verifier_parse(PG_VERIFIER, &v), OK);
	ck_assert_int_eq(scram_verifier_build("pencil", v.salt, v.salt_len, v.iterations, text), OK);
	ck_assert_str_eq(text, PG_VERIFIER);
	keys = keys_of("pencil", &v);
	ck_assert(scram_key_matches(keys.client, &v));
	keys.client[31] ^= 1;
	ck_assert(!scram_key_matches(keys.client, &v));
}
END_TEST

static const char *const bad_verifiers[] = {
	"",
	"md5a8ad8877b94482a9bb41bc7445a935f0",
	"SCRAM-SHA-256$",
	"SCRAM-SHA-256$4096:AAAA",
	"SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
	"SCRAM-SHA-256$0:JJeFZ9fGWok5TO0AEUsf+g==$NM21wW6zk7JE2bjfP/4OX42opGDeu0hNoiU9YNCzCH8="
	":R/t+OhyOlXnFu+w6d9kKNfanDr+C6S2OSyIdIjmycGI=",
	"SCRAM-SHA-256$-1:JJeFZ9fGWok5TO0AEUsf+g==$NM21wW6zk7JE2bjfP/4OX42opGDeu0hNoiU9YNCzCH8="
	":R/t+OhyOlXnFu+w6d9kKNfanDr+C6S2OSyIdIjmycGI=",
	"SCRAM-SHA-256$99999999999:JJeFZ9fGWok5TO0AEUsf+g==$NM21wW6zk7JE2bjfP/4OX42opGDeu0hNoiU9YNCzCH8="
	":R/t+OhyOlXnFu+w6d9kKNfanDr+C6S2OSyIdIjmycGI=",
	PG_VERIFIER "=",
	PG_VERIFIER "AAAA",
	"SCRAM-SHA-256$4096:JJeFZ9fGWok5TO0AEUsf+g=$NM21wW6zk7JE2bjfP/4OX42opGDeu0hNoiU9YNCzCH8="
	":R/t+OhyOlXnFu+w6d9kKNfanDr+C6S2OSyIdIjmycGI=",
};

START_TEST(broken_verifiers_are_refused)
{
	struct scram_verifier v;

	ck_assert_int_eq(scram_verifier_parse(bad_verifiers[_i], &v), E_INVALID);
}
END_TEST

/* Runs a whole exchange; gives what the server said at its end. */
static enum status run_exchange(const struct scram_verifier *v, const struct scram_keys *keys,
	const struct scram_binding *server_binding, const struct scram_binding *client_binding,
	struct scram_server *s)
{
	struct scram_client c;
	const char *msg;
	enum status st;

	scram_client_init(&c, client_nonce, client_binding, false);
	scram_server_init(s, v, server_nonce, server_binding, client_binding && client_binding->len);
	scram_client_first(&c, &w);
	msg = taken();
	st = scram_server_first(s, msg, (uint32_t)strlen(msg), &w, &err);
	if (st)
		return st;
	msg = taken();
	ck_assert_int_eq(scram_client_challenge(&c, msg, (uint32_t)strlen(msg), &err), OK);
	ck_assert_int_eq(scram_client_final(&c, keys, &w, &err), OK);
	msg = taken();
	st = scram_server_final(s, msg, (uint32_t)strlen(msg), &w, &err);
	if (st)
		return st;
	msg = taken();
	ck_assert_int_eq(scram_client_verify(&c, msg, (uint32_t)strlen(msg), &err), OK);
	return OK;
}

START_TEST(the_keys_recovered_from_a_proof_log_in_elsewhere)
{
	struct scram_verifier v;
	struct scram_server first, second;
	struct scram_keys keys;

	ck_assert_int_eq(scram_verifier_parse(PG_VERIFIER, &v), OK);
	keys = keys_of("pencil", &v);
	ck_assert_int_eq(run_exchange(&v, &keys, NULL, NULL, &first), OK);
	ck_assert_mem_eq(&first.keys, &keys, sizeof(keys));
	ck_assert_int_eq(run_exchange(&v, &first.keys, NULL, NULL, &second), OK);
}
END_TEST

START_TEST(a_wrong_password_is_denied)
{
	struct scram_verifier v;
	struct scram_server s;
	struct scram_keys keys;

	ck_assert_int_eq(scram_verifier_parse(PG_VERIFIER, &v), OK);
	keys = keys_of("pencils", &v);
	ck_assert_int_eq(run_exchange(&v, &keys, NULL, NULL, &s), E_DENIED);
	ck_assert_int_eq(s.state, SCRAM_FAILED);
}
END_TEST

START_TEST(an_unknown_user_gets_the_same_salt_each_time_and_never_in)
{
	static const uint8_t secret[32] = "secret", other[32] = "other";
	struct scram_verifier a, b, c, d;
	struct scram_server s;
	struct scram_keys keys = {0};

	scram_verifier_mock("nobody", secret, sizeof(secret), &a);
	scram_verifier_mock("nobody", secret, sizeof(secret), &b);
	scram_verifier_mock("nobody2", secret, sizeof(secret), &c);
	scram_verifier_mock("nobody", other, sizeof(other), &d);
	ck_assert_mem_eq(a.salt, b.salt, 16);
	ck_assert_mem_ne(a.salt, c.salt, 16);
	ck_assert_mem_ne(a.salt, d.salt, 16);
	ck_assert_uint_eq(a.iterations, SCRAM_ITERATIONS);
	ck_assert_int_eq(run_exchange(&a, &keys, NULL, NULL, &s), E_DENIED);
}
END_TEST

START_TEST(channel_binding_holds_only_with_the_same_certificate)
{
	struct scram_binding one = {.len = 32, .data = "certificate one"},
			     two = {.len = 32, .data = "another"};
	struct scram_verifier v;
	struct scram_server s;
	struct scram_keys keys;

	ck_assert_int_eq(scram_verifier_parse(PG_VERIFIER, &v), OK);
	keys = keys_of("pencil", &v);
	ck_assert_int_eq(run_exchange(&v, &keys, &one, &one, &s), OK);
	ck_assert_int_eq(run_exchange(&v, &keys, &one, &two, &s), E_PROTOCOL);
	ck_assert_str_eq(err.text, "SCRAM channel binding check failed");
	ck_assert_int_eq(run_exchange(&v, &keys, &one, NULL, &s), OK); /* the client may choose not to bind */
	ck_assert_int_eq(run_exchange(&v, &keys, NULL, &one, &s), E_PROTOCOL);
}
END_TEST

static const struct {
	const char *first;
	bool offered, plus;
	enum status want;
} firsts[] = {
	{"n,,n=,r=abc", false, false, OK},
	{"y,,n=,r=abc", false, false, OK},
	{"n,,n=,r=abc,x=1", false, false, OK},
	{"y,,n=,r=abc", true, false, E_PROTOCOL}, /* somebody took our offer of -PLUS away */
	{"n,,n=,r=abc", true, true, E_PROTOCOL},
	{"p=tls-unique,,n=,r=abc", true, true, E_UNSUPPORTED},
	{"p=tls-server-end-point,,n=,r=abc", false, false, E_PROTOCOL},
	{"n,a=other,n=,r=abc", false, false, E_UNSUPPORTED},
	{"n,,m=1,n=,r=abc", false, false, E_UNSUPPORTED},
	{"n,,r=abc", false, false, E_PROTOCOL},
	{"n,,n=", false, false, E_PROTOCOL},
	{"n,,n=,r=", false, false, E_PROTOCOL},
	{"n,,n=,r=a b", false, false, E_PROTOCOL},
	{"x,,n=,r=abc", false, false, E_PROTOCOL},
	{"n", false, false, E_PROTOCOL},
	{"", false, false, E_PROTOCOL},
};

START_TEST(client_first_is_read_as_postgres_reads_it)
{
	struct scram_binding binding = {.len = firsts[_i].offered ? 32 : 0};
	struct scram_verifier v;
	struct scram_server s;

	ck_assert_int_eq(scram_verifier_parse(PG_VERIFIER, &v), OK);
	scram_server_init(&s, &v, server_nonce, &binding, firsts[_i].plus);
	ck_assert_int_eq(
		scram_server_first(&s, firsts[_i].first, (uint32_t)strlen(firsts[_i].first), &w, &err),
		firsts[_i].want);
}
END_TEST

static const char *const bad_challenges[] = {
	"r=other,s=QUFB,i=1",
	"r=Y2xpZW50IG5vbmNlIDAxMjMA,s=QUFB,i=1", /* nothing of the server's */
	"r=Y2xpZW50IG5vbmNlIDAxMjMAx,s=,i=1",
	"r=Y2xpZW50IG5vbmNlIDAxMjMAx,s=QUFB,i=0",
	"r=Y2xpZW50IG5vbmNlIDAxMjMAx,s=QUFB,i=10000001",
	"r=Y2xpZW50IG5vbmNlIDAxMjMAx,s=QUFB,i=1,x=1",
	"e=other-error",
};

START_TEST(the_client_refuses_a_server_that_cheats)
{
	const char *msg = bad_challenges[_i];
	struct scram_client c;

	scram_client_init(&c, client_nonce, NULL, false);
	ck_assert_int_eq(scram_client_challenge(&c, msg, (uint32_t)strlen(msg), &err), E_PROTOCOL);
}
END_TEST

START_TEST(the_client_notices_a_server_without_the_secret)
{
	static const char first[] = "r=Y2xpZW50IG5vbmNlIDAxMjMAx,s=QUFB,i=1";
	struct scram_keys keys = {0};
	struct scram_client c;

	scram_client_init(&c, client_nonce, NULL, false);
	ck_assert_int_eq(scram_client_challenge(&c, first, sizeof(first) - 1, &err), OK);
	ck_assert_int_eq(scram_client_final(&c, &keys, &w, &err), OK);
	ck_assert_int_eq(scram_client_verify(&c, RFC_VERIFY, sizeof(RFC_VERIFY) - 1, &err), E_DENIED);
}
END_TEST

START_TEST(md5_answers_hash_what_postgres_stores_with_the_salt)
{
	char out[SCRAM_MD5_MAX];

	/* md5("a8ad8877b94482a9bb41bc7445a935f0" || "abcd"); the stored hash of 'pencil' for u2 in Postgres 15 */
	ck_assert_int_eq(scram_md5_answer("pencil", "u2", (const uint8_t *)"abcd", out), OK);
	ck_assert_str_eq(out, "md5c2e080571cc811855e2cc6315424143e");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pg_scram");
	TCase *t = tcase_create("pg_scram");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_client_speaks_rfc_7677_s_exchange);
	tcase_add_test(t, the_server_speaks_rfc_7677_s_exchange);
	tcase_add_test(t, a_verifier_is_the_one_postgres_makes);
	tcase_add_loop_test(t, broken_verifiers_are_refused, 0, (int)ARRAY_LEN(bad_verifiers));
	tcase_add_test(t, the_keys_recovered_from_a_proof_log_in_elsewhere);
	tcase_add_test(t, a_wrong_password_is_denied);
	tcase_add_test(t, an_unknown_user_gets_the_same_salt_each_time_and_never_in);
	tcase_add_test(t, channel_binding_holds_only_with_the_same_certificate);
	tcase_add_loop_test(t, client_first_is_read_as_postgres_reads_it, 0, (int)ARRAY_LEN(firsts));
	tcase_add_loop_test(t, the_client_refuses_a_server_that_cheats, 0, (int)ARRAY_LEN(bad_challenges));
	tcase_add_test(t, the_client_notices_a_server_without_the_secret);
	tcase_add_test(t, md5_answers_hash_what_postgres_stores_with_the_salt);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
