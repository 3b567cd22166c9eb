/*
 * Pipelines as no polite client writes them, over libpq against one server: errors at every place, an aborted
 * pipeline, many Syncs and none, Flush, single-row mode, COPY and a cancel inside a pipeline, prepared statements and
 * portals that appear and vanish on the way.
 *
 * Usage: pipeline_abuse CONNINFO. Prints what the server answered, one line a result, the same lines for the same
 * server however it is reached; `== name` starts a section. test/clients/run compares a direct run with one through
 * the gate. Single-threaded; every wait has a deadline; ends with 1 when the connection can't be made.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define WAIT_S 30
#define SCHEMA "clients_pipeline"

static PGconn *conn;

/* The one way out when the transport itself fails: nothing after it would mean anything. */
static void broken(const char *what)
{
	printf("!! broken: %s: %s\n", what, PQerrorMessage(conn));
	PQfinish(conn);
	exit(0);
}

static void must(int done, const char *what)
{
	if (!done)
		broken(what);
}

static void on_notice(void *unused, const PGresult *res)
{
	(void)unused;
	printf("  notice %s %s\n", PQresultErrorField(res, PG_DIAG_SQLSTATE),
		PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
}

/* Waits for input while output may still be stuck, so that neither side can starve the other. */
static void wait_input(void)
{
	struct pollfd fd = {.fd = PQsocket(conn)};
	int flushed = PQflush(conn);

	if (flushed < 0)
		broken("flush");
	fd.events = (short)(POLLIN | (flushed ? POLLOUT : 0));
	int ready = poll(&fd, 1, WAIT_S * 1000);

	if (ready == 0)
		broken("no answer in time");
	if (ready < 0 && errno != EINTR)
		broken("poll");
	if (!PQconsumeInput(conn))
		broken("read");
}

/* Next result, or NULL at the end of a query's results. */
static PGresult *next_result(void)
{
	while (PQisBusy(conn))
		wait_input();
	return PQgetResult(conn);
}

static void print_result(PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);

	printf("  %s", PQresStatus(status));
	if (status == PGRES_FATAL_ERROR || status == PGRES_NONFATAL_ERROR) {
		const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
		const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
		const char *position = PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION);

		printf(" %s %s at %s", state ? state : "-", text ? text : PQresultErrorMessage(res),
			position ? position : "-");
	}
	if (status == PGRES_TUPLES_OK || status == PGRES_SINGLE_TUPLE || status == PGRES_COMMAND_OK) {
		printf(" [%s] %d x %d", PQcmdStatus(res), PQntuples(res), PQnfields(res));
		if (PQntuples(res) > 0 && PQnfields(res) > 0)
			printf(" first %s", PQgetisnull(res, 0, 0) ? "NULL" : PQgetvalue(res, 0, 0));
		if (PQnparams(res) > 0)
			printf(" params %d type %u", PQnparams(res), PQparamtype(res, 0));
	}
	printf("\n");
}

/* Prints results until `syncs` Sync answers came; single rows are counted, not printed each. */
static void drain(int syncs)
{
	int seen = 0, empty = 0;
	long rows = 0;

	while (seen < syncs) {
		PGresult *res = next_result();

		if (!res) {
			must(++empty < 10000, "results without end");
			continue;
		}
		empty = 0;
		if (PQresultStatus(res) == PGRES_SINGLE_TUPLE) {
			rows++;
		} else {
			if (rows > 0)
				printf("  %ld single rows\n", rows);
			rows = 0;
			print_result(res);
		}
		if (PQresultStatus(res) == PGRES_PIPELINE_SYNC)
			seen++;
		PQclear(res);
	}
	printf("  status %d transaction %d\n", (int)PQpipelineStatus(conn), (int)PQtransactionStatus(conn));
}

static void send_params(const char *query, int count, const char *const *values)
{
	must(PQsendQueryParams(conn, query, count, NULL, values, NULL, NULL, 0), query);
}

static void send_plain(const char *query)
{
	send_params(query, 0, NULL);
}

static void sync_pipeline(void)
{
	must(PQpipelineSync(conn), "sync");
}

static void enter(void)
{
	must(PQenterPipelineMode(conn), "enter pipeline");
}

static void leave(void)
{
	PGresult *res;

	while ((res = next_result()) != NULL) {
		printf("  left over: ");
		print_result(res);
		PQclear(res);
	}
	must(PQexitPipelineMode(conn), "leave pipeline");
}

/* A whole simple query outside any pipeline. */
static void simple(const char *query)
{
	PGresult *res;

	must(PQsendQuery(conn, query), query);
	while ((res = next_result()) != NULL) {
		print_result(res);
		PQclear(res);
	}
}

static void quiet(const char *query)
{
	PGresult *res = PQexec(conn, query);

	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		print_result(res);
	PQclear(res);
}

static void one_of_everything(void)
{
	const char *two[] = {"21", "2"};

	enter();
	send_params("SELECT $1::int * $2::int", 2, two);
	must(PQsendPrepare(conn, "kept", "SELECT $1::text || '!'", 0, NULL), "prepare");
	must(PQsendDescribePrepared(conn, "kept"), "describe");
	must(PQsendQueryPrepared(conn, "kept", 1, two, NULL, NULL, 0), "execute");
	send_plain("CREATE TABLE piped (id int PRIMARY KEY)");
	send_plain("INSERT INTO piped SELECT generate_series(1, 10)");
	send_plain("SELECT count(*) FROM piped");
	send_plain("");
	sync_pipeline();
	drain(1);
	must(PQsendQueryPrepared(conn, "kept", 1, two, NULL, NULL, 0), "execute later");
	sync_pipeline();
	drain(1);
	leave();
}

/* The same five steps with an error put at each place: what comes before it counts, what comes after is aborted. */
static void error_at_every_place(void)
{
	static const char *const bad[] = {
		"SELEC 1", "SELECT nope", "SELECT 1/0", "INSERT INTO piped VALUES (1)", "SELECT 'x'::int"};

	for (int place = 0; place < 5; place++) {
		for (size_t kind = 0; kind < sizeof(bad) / sizeof(bad[0]); kind++) {
			printf(" place %d, %s\n", place, bad[kind]);
			enter();
			for (int step = 0; step < 5; step++) {
				char query[64];

				snprintf(query, sizeof(query), "INSERT INTO piped VALUES (%d)", 100 + step);
				send_plain(step == place ? bad[kind] : query);
			}
			sync_pipeline();
			send_plain("SELECT count(*) FROM piped WHERE id >= 100");
			sync_pipeline();
			drain(2);
			leave();
		}
	}
}

static void explicit_transactions(void)
{
	enter();
	send_plain("BEGIN");
	send_plain("INSERT INTO piped VALUES (200)");
	send_plain("SELECT 1/0");
	sync_pipeline();
	send_plain("SELECT 'in the failed transaction'");
	sync_pipeline();
	send_plain("ROLLBACK");
	sync_pipeline();
	send_plain("BEGIN");
	send_plain("SAVEPOINT a");
	send_plain("SELECT 1/0");
	sync_pipeline();
	send_plain("ROLLBACK TO a");
	send_plain("INSERT INTO piped VALUES (201)");
	sync_pipeline();
	send_plain("COMMIT");
	send_plain("INSERT INTO piped VALUES (202)");
	send_plain("SELECT 1/0");
	sync_pipeline();
	drain(6);
	send_plain("BEGIN");
	sync_pipeline();
	drain(1);
	leave();
	simple("SELECT max(id) FROM piped");
	simple("ROLLBACK");
}

static void many_syncs(void)
{
	enter();
	for (int n = 0; n < 500; n++)
		sync_pipeline();
	long syncs = 0;

	while (syncs < 500) {
		PGresult *res = next_result();

		if (res && PQresultStatus(res) != PGRES_PIPELINE_SYNC)
			print_result(res);
		syncs += res && PQresultStatus(res) == PGRES_PIPELINE_SYNC;
		PQclear(res);
	}
	printf("  %ld syncs\n", syncs);
	for (int n = 0; n < 200; n++) {
		send_plain(n % 7 == 3 ? "SELECT 1/0" : "SELECT 1");
		sync_pipeline();
		if (n % 5 == 0)
			sync_pipeline();
	}
	drain(240);
	leave();
}

static void flush_without_sync(void)
{
	enter();
	send_plain("SELECT 'first'");
	must(PQsendFlushRequest(conn), "flush request");
	for (int n = 0; n < 2; n++) {
		PGresult *res = next_result();

		if (res)
			print_result(res);
		PQclear(res);
	}
	send_plain("SELECT 1/0");
	send_plain("SELECT 'aborted'");
	must(PQsendFlushRequest(conn), "flush request");
	PGresult *res = next_result();

	if (res)
		print_result(res);
	PQclear(res);
	sync_pipeline();
	drain(1);
	send_plain("INSERT INTO piped VALUES (300)");
	must(PQsendFlushRequest(conn), "flush request");
	res = next_result();
	if (res)
		print_result(res);
	PQclear(res);
	send_plain("SELECT 1/0");
	sync_pipeline();
	drain(1);
	send_plain("SELECT count(*) FROM piped WHERE id = 300");
	sync_pipeline();
	drain(1);
	leave();
}

static void single_rows(void)
{
	enter();
	for (int n = 0; n < 3; n++)
		send_plain("SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i");
	send_plain("SELECT 10 / (5 - i) FROM generate_series(1, 10) i");
	send_plain("SELECT 'aborted'");
	sync_pipeline();
	long rows = 0;

	for (bool ended = false; !ended;) {
		PQsetSingleRowMode(conn);
		PGresult *res = next_result();

		if (!res)
			continue;
		if (PQresultStatus(res) == PGRES_SINGLE_TUPLE) {
			rows++;
		} else {
			printf("  %ld single rows then", rows);
			print_result(res);
			rows = 0;
		}
		ended = PQresultStatus(res) == PGRES_PIPELINE_SYNC;
		PQclear(res);
	}
	leave();
}

static void statements_and_portals(void)
{
	enter();
	must(PQsendPrepare(conn, "s1", "SELECT 1", 0, NULL), "prepare");
	must(PQsendPrepare(conn, "s1", "SELECT 2", 0, NULL), "prepare twice");
	must(PQsendQueryPrepared(conn, "s1", 0, NULL, NULL, NULL, 0), "execute");
	sync_pipeline();
	must(PQsendQueryPrepared(conn, "s1", 0, NULL, NULL, NULL, 0), "execute");
	must(PQsendQueryPrepared(conn, "never", 0, NULL, NULL, NULL, 0), "execute");
	sync_pipeline();
	must(PQsendPrepare(conn, "s2", "SELECT nope", 0, NULL), "prepare");
	must(PQsendDescribePrepared(conn, "s2"), "describe");
	sync_pipeline();
	must(PQsendDescribePrepared(conn, "s2"), "describe");
	sync_pipeline();
	send_plain("DEALLOCATE s1");
	must(PQsendPrepare(conn, "s1", "SELECT 'anew'", 0, NULL), "prepare");
	must(PQsendQueryPrepared(conn, "s1", 0, NULL, NULL, NULL, 0), "execute");
	sync_pipeline();
	send_plain("BEGIN");
	send_plain("DECLARE walk CURSOR FOR SELECT i FROM generate_series(1, 10) i");
	must(PQsendDescribePortal(conn, "walk"), "describe portal");
	send_plain("FETCH 3 FROM walk");
	send_plain("CLOSE walk");
	must(PQsendDescribePortal(conn, "walk"), "describe portal");
	sync_pipeline();
	send_plain("ROLLBACK");
	send_plain("DEALLOCATE ALL");
	sync_pipeline();
	must(PQsendQueryPrepared(conn, "s1", 0, NULL, NULL, NULL, 0), "execute");
	sync_pipeline();
	drain(8);
	for (int n = 0; n < 300; n++) {
		char name[16];

		snprintf(name, sizeof(name), "m%d", n);
		must(PQsendPrepare(conn, name, "SELECT $1::int", 0, NULL), "prepare");
	}
	send_plain("SELECT count(*) FROM pg_prepared_statements");
	sync_pipeline();
	long commands = 0;

	for (bool ended = false; !ended;) {
		PGresult *res = next_result();

		if (!res)
			continue;
		ended = PQresultStatus(res) == PGRES_PIPELINE_SYNC;
		if (PQresultStatus(res) == PGRES_COMMAND_OK)
			commands++;
		else
			print_result(res);
		PQclear(res);
	}
	printf("  %ld prepared\n", commands);
	send_plain("DEALLOCATE ALL");
	sync_pipeline();
	drain(1);
	leave();
}

/*
 * libpq forbids COPY in a pipeline because the protocol has no way to abort it; the server's side of that is tried
 * here: COPY with an error before it, and COPY right after a pipeline has been left.
 */
static void copy_around_pipelines(void)
{
	enter();
	send_plain("SELECT 1/0");
	send_plain("COPY piped FROM STDIN");
	send_plain("COPY piped TO STDOUT");
	sync_pipeline();
	drain(1);
	leave();
	PGresult *res = PQexec(conn, "COPY piped FROM STDIN");

	print_result(res);
	PQclear(res);
	must(PQputCopyData(conn, "x\n", 2) == 1, "copy data");
	must(PQputCopyEnd(conn, NULL) == 1, "copy end");
	while ((res = next_result()) != NULL) {
		print_result(res);
		PQclear(res);
	}
	res = PQexec(conn, "COPY piped FROM STDIN");
	PQclear(res);
	must(PQputCopyEnd(conn, "given up") == 1, "copy fail");
	while ((res = next_result()) != NULL) {
		print_result(res);
		PQclear(res);
	}
	simple("COPY (SELECT 1 UNION ALL SELECT 1/0) TO STDOUT");
	simple("SELECT 'usable'");
}

static void cancel_in_pipeline(void)
{
	enter();
	send_plain("INSERT INTO piped VALUES (400)");
	send_plain("SELECT pg_sleep(20)");
	send_plain("SELECT 'aborted'");
	sync_pipeline();
	send_plain("SELECT 'after the sync'");
	sync_pipeline();
	must(PQflush(conn) == 0, "flush");
	nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
	PGcancel *cancel = PQgetCancel(conn);
	char error[256];

	must(cancel && PQcancel(cancel, error, sizeof(error)), "cancel");
	PQfreeCancel(cancel);
	drain(2);
	leave();
	simple("SELECT count(*) FROM piped WHERE id = 400");
}

/* More in flight, both ways, than any buffer holds: a relay that stops reading while it writes would hang here. */
static void full_both_ways(void)
{
	enum { queries = 400, size = 50000 };
	char *big = malloc(size + 1);
	const char *values[1];
	long bytes = 0, answers = 0;

	must(big != NULL, "memory");
	memset(big, 'x', size);
	big[size] = '\0';
	values[0] = big;
	must(PQsetnonblocking(conn, 1) == 0, "non-blocking");
	enter();
	for (int n = 0; n < queries; n++)
		send_params("SELECT $1::text", 1, values);
	sync_pipeline();
	for (bool ended = false; !ended;) {
		PGresult *res = next_result();

		if (!res)
			continue;
		ended = PQresultStatus(res) == PGRES_PIPELINE_SYNC;
		if (PQresultStatus(res) == PGRES_TUPLES_OK) {
			answers++;
			bytes += PQgetlength(res, 0, 0);
		} else {
			print_result(res);
		}
		PQclear(res);
	}
	printf("  %ld answers, %ld bytes\n", answers, bytes);
	leave();
	must(PQsetnonblocking(conn, 0) == 0, "blocking");
	free(big);
}

static void notices_and_settings(void)
{
	enter();
	send_plain("DO $$ BEGIN RAISE NOTICE 'in a pipeline'; END $$");
	send_plain("SET work_mem TO '7MB'");
	send_plain("SHOW work_mem");
	send_plain("SET LOCAL work_mem TO '8MB'");
	send_plain("SHOW work_mem");
	sync_pipeline();
	send_plain("SHOW work_mem");
	send_plain("SET work_mem TO '9MB'");
	send_plain("SELECT 1/0");
	sync_pipeline();
	send_plain("SHOW work_mem");
	send_plain("SET application_name TO 'piped'");
	send_plain("LISTEN news");
	send_plain("NOTIFY news, 'to myself'");
	sync_pipeline();
	drain(3);
	leave();
	PGnotify *note = PQnotifies(conn);

	printf("  notified %s %s, by us %d\n", note ? note->relname : "-", note ? note->extra : "-",
		note && note->be_pid == PQbackendPID(conn));
	PQfreemem(note);
	printf("  application_name %s\n", PQparameterStatus(conn, "application_name"));
}

/* Leaves the connection in the middle of things; the next one must find nothing of it. */
static void left_in_the_middle(const char *conninfo)
{
	for (int way = 0; way < 3; way++) {
		enter();
		send_plain("BEGIN");
		send_plain("INSERT INTO piped VALUES (500)");
		if (way == 1)
			must(PQsendFlushRequest(conn), "flush request");
		if (way == 2)
			sync_pipeline();
		must(PQflush(conn) == 0, "flush");
		if (way > 0)
			nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
		PQfinish(conn);
		conn = PQconnectdb(conninfo);
		must(PQstatus(conn) == CONNECTION_OK, "connect again");
		PQsetNoticeReceiver(conn, on_notice, NULL);
		quiet("SET search_path TO " SCHEMA);
		simple("SELECT count(*) FROM piped WHERE id = 500");
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} sections[] = {
		{"one_of_everything", one_of_everything},
		{"error_at_every_place", error_at_every_place},
		{"explicit_transactions", explicit_transactions},
		{"many_syncs", many_syncs},
		{"flush_without_sync", flush_without_sync},
		{"single_rows", single_rows},
		{"statements_and_portals", statements_and_portals},
		{"copy_around_pipelines", copy_around_pipelines},
		{"cancel_in_pipeline", cancel_in_pipeline},
		{"full_both_ways", full_both_ways},
		{"notices_and_settings", notices_and_settings},
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s CONNINFO\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(120);
	conn = PQconnectdb(argv[1]);
	if (PQstatus(conn) != CONNECTION_OK) {
		fprintf(stderr, "%s", PQerrorMessage(conn));
		PQfinish(conn);
		return 1;
	}
	PQsetNoticeReceiver(conn, on_notice, NULL);
	quiet("SET client_min_messages TO warning");
	quiet("DROP SCHEMA IF EXISTS " SCHEMA " CASCADE");
	quiet("CREATE SCHEMA " SCHEMA);
	quiet("SET search_path TO " SCHEMA);
	quiet("RESET client_min_messages");
	for (size_t n = 0; n < sizeof(sections) / sizeof(sections[0]); n++) {
		printf("== %s\n", sections[n].name);
		sections[n].run();
	}
	printf("== left_in_the_middle\n");
	left_in_the_middle(argv[1]);
	printf("== end\n");
	PQfinish(conn);
	return 0;
}
