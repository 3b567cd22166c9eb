/* The lexer against Postgres's rules, and the classifier: what pins, what doesn't, what is told of a text. */
#include <check.h>
#include <stdlib.h>

#include "actors/pg/sqlclass.h"
#include "runtime/base/check.h"

/* Tokens as letters: W word, Q "", U U&"", S string, N number, P $1, O operator, ! broken; punctuation as it is. */
static const char letters[] = {[SQL_WORD] = 'W',
	[SQL_QUOTED] = 'Q',
	[SQL_UQUOTED] = 'U',
	[SQL_STRING] = 'S',
	[SQL_NUMBER] = 'N',
	[SQL_PARAM] = 'P',
	[SQL_OP] = 'O',
	[SQL_BROKEN] = '!'};

static const struct {
	const char *sql, *standard, *old; /* old: standard_conforming_strings off; NULL: the same */
} lexed[] = {
	{"select a.b, c", "WW.W,W", NULL},
	{"\"a\"\"b\" U&\"c\" u & \"d\"", "QUWOQ", NULL},
	{"'it''s' N'x' B'01' X'1f' U&'x' e'a\\'b'", "SWSSSSS", NULL},
	{"'a\\'", "S", "!"},
	{"'a\\'' || 'b'", "S!", "SOS"},
	{"'a\\';'", "S;!", "S"},
	{"E'a\\\\' 'b'", "SS", NULL},
	{"E'a'\n'b\\'c'", "S", NULL}, /* continued under the rules of its first part */
	{"E'a' -- x\n 'b\\'c'", "S", NULL},
	{"E'a' 'b\\'", "SS", "S!"}, /* no line's end between: another literal */
	{"E'a' /* \n */ 'b'", "SS", NULL},
	{"$$a;'b$$ $t$ $$ $T$ $t$ x$y$z", "SSW", NULL},
	{"$1+$22", "POP", NULL},
	{"$a b", "$WW", NULL},
	{"$1$a$b$a$", "PS", NULL},
	{"1 1.5 .5 1. 1e10 1.5E-3 1..2", "NNNNNNN.N", NULL},
	{"1E'a\\'b'", "NS", NULL},
	{"a::int := b[1:2]", "WOWOW[N:N]", NULL},
	{"a<=b-- c\n*d/* e /* f */ ; */;", "WOWOW;", NULL},
	{"a+--b\nc", "WOW", NULL},
	{"a */* x */ b", "WOW", NULL},
	{"/* /* */ ;", "!", NULL},
	{"'a", "!", NULL},
	{"\"a", "!", NULL},
	{"$$a", "!", NULL},
	{"E'a\\", "!", NULL},
	{"\303\251t\303\251 x", "WW", NULL},
	{"", "", NULL},
};

static void lex(const char *sql, bool standard, char *out)
{
	struct sqlscan s = sqlscan(sql, (uint32_t)strlen(sql), standard);
	struct sqlscan_token t;

	while ((t = sqlscan_next(&s)).type != SQL_END)
		*out++ = t.type == SQL_PUNCT ? t.punct : letters[t.type];
	*out = '\0';
}

START_TEST(text_is_cut_where_postgres_cuts_it)
{
	char got[100];

	lex(lexed[_i].sql, true, got);
	ck_assert_str_eq(got, lexed[_i].standard);
	lex(lexed[_i].sql, false, got);
	if (lexed[_i].old)
		ck_assert_str_eq(got, lexed[_i].old);
}
END_TEST

static const struct {
	const char *sql;
	uint32_t reasons;
} pins[] = {
	/* pgbench, ORMs, psql */
	{"UPDATE pgbench_accounts SET abalance = abalance + 1234 WHERE aid = 54321;", 0},
	{"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);",
		0},
	{"create table pgbench_history(tid int,bid int,aid int,delta int,mtime timestamp,filler char(22))",
		0},
	{"alter table pgbench_branches add primary key (bid)", 0},
	{"vacuum analyze pgbench_branches", 0},
	{"copy pgbench_accounts (aid, bid) from stdin with (freeze on)", 0},
	{"SELECT count(*), max(x) FROM s.t AS q(a, b) WHERE lower(name) LIKE $1 AND id IN (1, 2)", 0},
	{"INSERT INTO \"s\".\"t\" (\"a\") VALUES ($1) ON CONFLICT (\"a\") DO UPDATE SET b = coalesce($2, 1) "
	 "RETURNING id",
		0},
	{"WITH q(a) AS (SELECT 1), r (b) AS MATERIALIZED (SELECT 2) SELECT sum(a) FILTER (WHERE a > 1) OVER "
	 "(ORDER BY b) FROM q, r",
		0},
	{"SELECT x::numeric(10, 2), CAST(y AS varchar(3)), z::mytype(3), '1'::character varying(2) FROM t",
		0},
	{"CREATE INDEX CONCURRENTLY i ON s.t USING btree (lower(a), b) INCLUDE (c) WHERE abs(a) > 1", 0},
	{"CREATE TABLE IF NOT EXISTS s.t (a int PRIMARY KEY, b int REFERENCES u(id), FOREIGN KEY (b) "
	 "REFERENCES s.v (c)) PARTITION BY RANGE (a)",
		0},
	{"SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a", 0},
	{"SELECT n.nspname FROM pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE "
	 "pg_catalog.default",
		0},
	{"SELECT a, rank() OVER w FROM t GROUP BY GROUPING SETS ((a), (b)) WINDOW w AS (PARTITION BY a)", 0},
	{"BEGIN; SAVEPOINT a; ROLLBACK TO a; COMMIT", 0},
	{"CREATE VIEW v (a) AS SELECT myfunc(b) FROM t", 0},
	{"CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS $$ select setval('s', 1) $$", 0},
	{"CREATE TRIGGER t BEFORE UPDATE OF a ON s.t FOR EACH ROW EXECUTE FUNCTION s.f('x')", 0},
	{"GRANT SELECT (a), UPDATE (b) ON t TO r; GRANT EXECUTE ON FUNCTION f(int) TO r", 0},
	{"SELECT 'LISTEN x; nextval(1)' AS listen -- SET x = 1\n /* pg_temp */", 0},
	{"NOTIFY a, 'b'; SHOW x; EXPLAIN (ANALYZE, COSTS off) SELECT 1", 0},
	{"DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1; FETCH 1 FROM c", 0},
	{"SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2)", 0},
	{"WITH a AS (SELECT 1) INSERT INTO t(x) SELECT 1", 0},
	{"SET LOCAL a = 1; SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED", 0},
	{"PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'; ROLLBACK PREPARED 'x'", 0},
	/* each reason */
	{"SET a = 1", PIN_SET},
	{"set session a to 1", PIN_SET},
	{"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", PIN_SET},
	{"SET local.x = 1", PIN_SET},
	{"SELECT 1; /* */ RESET ALL", PIN_SET},
	{"PREPARE p (int) AS SELECT $1", PIN_PREPARE},
	{"PREPARE transaction AS SELECT 'x'", PIN_PREPARE},
	{"EXECUTE p(1)", PIN_PREPARE},
	{"CREATE TABLE t AS EXECUTE p", PIN_PREPARE},
	{"DEALLOCATE ALL", PIN_PREPARE},
	{"LISTEN a", PIN_LISTEN},
	{"UNLISTEN *", PIN_LISTEN},
	{"CREATE TEMP TABLE t (a int)", PIN_TEMP},
	{"create or replace local temporary view v as select 1", PIN_TEMP},
	{"EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", PIN_TEMP},
	{"SELECT 1 INTO TEMP t", PIN_TEMP},
	{"SELECT 1 INTO LOCAL TEMPORARY TABLE t", PIN_TEMP},
	{"CREATE TABLE \"pg_temp\".t ()", PIN_TEMP},
	{"CREATE FUNCTION PG_TEMP.f() RETURNS int LANGUAGE sql AS 'select 1'", PIN_TEMP},
	{"DECLARE c CURSOR WITH HOLD FOR SELECT 1", PIN_HOLD_CURSOR},
	{"DISCARD TEMP", PIN_DISCARD},
	{"LOAD 'x'", PIN_LOAD},
	{"DO $$ begin end $$", PIN_DO},
	{"CALL s.p(1, abs(2))", PIN_CALL},
	{"SELECT pg_advisory_lock (1)", PIN_ADVISORY_LOCK},
	{"SELECT PG_CATALOG.pg_try_advisory_lock_shared(1)", PIN_ADVISORY_LOCK},
	{"SELECT nextval('s')", PIN_SEQUENCE_STATE},
	{"SELECT pg_catalog . setval /* */ ('s', 1)", PIN_SEQUENCE_STATE},
	{"INSERT INTO t (a) VALUES (\"currval\"('s'), lastval())", PIN_SEQUENCE_STATE},
	{"SELECT setseed(0.5)", PIN_SEED},
	{"SELECT pg_catalog.set_config('search_path', '', false)", PIN_SET_CONFIG},
	{"UPDATE pg_settings SET setting = 'a' WHERE name = 'b'", PIN_SET_CONFIG},
	{"SELECT pg_backend_pid()", PIN_BACKEND_MEMORY},
	{"TABLE pg_prepared_statements", PIN_BACKEND_MEMORY},
	{"SELECT * FROM pg_listening_channels()", PIN_BACKEND_MEMORY},
	{"SELECT myfunc(1)", PIN_FUNCTION},
	{"SELECT s.lower(1)", PIN_FUNCTION},
	{"SELECT \"LOWER\"('a')", PIN_FUNCTION},
	{"SELECT query_to_xml('select setval(1)', true, true, '')", PIN_FUNCTION},
	{"SELECT DISTINCT ON (a) f(b) FROM t", PIN_FUNCTION},
	{"SELECT a OPERATOR(pg_catalog.+) f(b)", PIN_FUNCTION},
	{"WITH x AS (SELECT 1) (SELECT 1) ORDER BY 1, g(2)", PIN_FUNCTION},
	{"WITH x AS (SELECT f(1)) SELECT 1", PIN_FUNCTION},
	{"(WITH x AS (SELECT 1) SELECT 1, g(3))", PIN_FUNCTION},
	{"SELECT a[1:f(1)]", PIN_FUNCTION},
	{"DELETE FROM t USING f(1)", PIN_FUNCTION},
	{"CREATE MATERIALIZED VIEW v AS SELECT f(1)", PIN_FUNCTION},
	{"CREATE TABLE view AS SELECT f(1)", PIN_FUNCTION},
	{"CREATE TABLE t AS SELECT f(1)", PIN_FUNCTION},
	{"FLY TO moon", PIN_UNKNOWN},
	{"SELECT 'a", PIN_UNKNOWN},
	{"SELECT U&\"x\"", PIN_UNKNOWN},
	{"START_REPLICATION 0/0", PIN_UNKNOWN},
};

START_TEST(a_session_is_pinned_for_the_reasons_listed)
{
	struct sqlclass c;

	sqlclass_text(pins[_i].sql, (uint32_t)strlen(pins[_i].sql), &c);
	ck_assert_msg(c.reasons == pins[_i].reasons, "%s: %x", pins[_i].sql, c.reasons);
}
END_TEST

static const struct {
	const char *sql;
	uint32_t facts, n;
} facts[] = {
	{"", SQL_EMPTY, 0},
	{" ; -- x\n ;", SQL_EMPTY, 0},
	{"SELECT 1;", SQL_READS, 1},
	{"SELECT 1; VALUES (2); TABLE t", SQL_READS | SQL_MULTIPLE, 3},
	{"SELECT 1; INSERT INTO t VALUES (1)", SQL_MULTIPLE, 2},
	{"(SELECT 1)", SQL_READS, 1},
	{"SELECT 1 INTO x", 0, 1},
	{"SELECT 1 FROM t FOR NO KEY UPDATE", 0, 1},
	{"BEGIN", SQL_BEGINS, 1},
	{"START TRANSACTION; COMMIT", SQL_BEGINS | SQL_MAY_COMMIT | SQL_MULTIPLE, 2},
	{"end", SQL_MAY_COMMIT, 1},
	{"PREPARE TRANSACTION 'a'", SQL_MAY_COMMIT, 1},
	{"COMMIT PREPARED 'a'", SQL_MAY_COMMIT, 1},
	{"ROLLBACK", SQL_ROLLS_BACK, 1},
	{"ABORT WORK", SQL_ROLLS_BACK, 1},
	{"ROLLBACK WORK TO SAVEPOINT a", 0, 1},
	{"ROLLBACK PREPARED 'a'", 0, 1},
	{"COPY t TO stdout", SQL_COPIES, 1},
	{"CREATE DATABASE a", SQL_CREATES_DATABASE, 1},
	{"DROP DATABASE a", SQL_CREATES_DATABASE, 1},
	{"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); COMMIT", SQL_MAY_COMMIT | SQL_MULTIPLE, 2},
	{"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END; BEGIN",
		SQL_MAY_COMMIT | SQL_BEGINS | SQL_MULTIPLE, 2},
	{"SELECT 'a;b', \"c;d\", $$;$$; SELECT 2", SQL_READS | SQL_MULTIPLE, 2},
};

START_TEST(a_text_tells_the_router_what_it_is)
{
	struct sqlclass c;

	sqlclass_text(facts[_i].sql, (uint32_t)strlen(facts[_i].sql), &c);
	ck_assert_msg(c.facts == facts[_i].facts, "%s: %x", facts[_i].sql, c.facts);
	ck_assert_uint_eq(c.n_statements, facts[_i].n);
}
END_TEST

START_TEST(statements_are_given_with_their_place)
{
	static const char sql[] = " SELECT 1 ; -- x\n BEGIN";
	struct sqlscan s = sqlscan(sql, sizeof(sql) - 1, true);
	struct sqlclass c;
	uint32_t off, len;

	ck_assert(sqlclass_statement(&s, &c, &off, &len));
	ck_assert_int_eq(strncmp(sql + off, "SELECT 1", len), 0);
	ck_assert_uint_eq(len, 8);
	ck_assert(sqlclass_statement(&s, &c, &off, &len));
	ck_assert_int_eq(strncmp(sql + off, "BEGIN", len), 0);
	ck_assert(!sqlclass_statement(&s, &c, &off, &len));
}
END_TEST

START_TEST(no_function_with_effects_on_the_session_is_in_the_list)
{
	static const char *const effects[] = {"nextval", "setval", "currval", "lastval", "set_config",
		"setseed", "pg_advisory_lock", "pg_try_advisory_lock", "pg_backend_pid", "pg_backup_start",
		"query_to_xml", "pg_create_physical_replication_slot", "pg_create_logical_replication_slot",
		"ts_stat", "pg_replication_origin_session_setup", "dblink", "lo", "lowe", "lower2", ""};

	for (uint32_t i = 0; i < ARRAY_LEN(effects); i++)
		ck_assert_msg(
			!sqlclass_safe_name(effects[i], (uint32_t)strlen(effects[i])), "%s", effects[i]);
	ck_assert(sqlclass_safe_name("lower", 5));
	ck_assert(sqlclass_safe_name("abs", 3));
	ck_assert(sqlclass_safe_name("xpath", 5));
	ck_assert(!sqlclass_safe_name("abs\0xyz", 7));
}
END_TEST

START_TEST(reasons_and_facts_have_names)
{
	ck_assert_str_eq(sqlclass_reason_name(PIN_TEMP_BIT), "temp");
	ck_assert_str_eq(sqlclass_fact_name(SQL_MAY_COMMIT_BIT), "may_commit");
	ck_assert_str_eq(sqlclass_reason_name(99), "unknown");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pg_sql");
	TCase *t = tcase_create("pg_sql");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_loop_test(t, text_is_cut_where_postgres_cuts_it, 0, (int)ARRAY_LEN(lexed));
	tcase_add_loop_test(t, a_session_is_pinned_for_the_reasons_listed, 0, (int)ARRAY_LEN(pins));
	tcase_add_loop_test(t, a_text_tells_the_router_what_it_is, 0, (int)ARRAY_LEN(facts));
	tcase_add_test(t, statements_are_given_with_their_place);
	tcase_add_test(t, no_function_with_effects_on_the_session_is_in_the_list);
	tcase_add_test(t, reasons_and_facts_have_names);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
