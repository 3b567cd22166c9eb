#!/usr/bin/python3
"""asyncpg against one URL: everything binary, everything prepared. See psycopg_suite.py for the form of the output."""
import asyncio
import hashlib
import io
import os
import sys
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import asyncpg

URL = sys.argv[1]
SCHEMA = "clients_asyncpg"
HERE = os.path.dirname(os.path.abspath(__file__))
SECTIONS = []
FIELDS = ("severity", "severity_en", "sqlstate", "message", "detail", "hint", "position", "internal_position",
          "internal_query", "context", "schema_name", "table_name", "column_name", "data_type_name",
          "constraint_name", "server_source_filename", "server_source_line", "server_source_function")


def section(function):
    SECTIONS.append(function)
    return function


def say(*parts):
    print(*parts, flush=True)


class Session:
    """A connection as a context; its notices are printed in order."""

    def __init__(self, **options):
        self.options = options

    async def __aenter__(self):
        self.conn = await asyncpg.connect(URL, timeout=10, **self.options)
        self.conn.add_log_listener(lambda _, m: say("notice:", m.severity, m.sqlstate, m.message, m.detail))
        await self.conn.execute(f"SET search_path TO {SCHEMA}, public")
        return self.conn

    async def __aexit__(self, *_):
        await self.conn.close(timeout=10)


async def attempt(awaitable, every_field=False):
    try:
        return await awaitable
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if not every_field or not isinstance(error, asyncpg.PostgresError):
            say("error:", type(error).__name__, getattr(error, "sqlstate", None), error)
            return None
        say("error:", type(error).__name__)
        for field in FIELDS:
            if getattr(error, field, None) is not None:
                say(" ", field, "=", repr(getattr(error, field)))
        return None


def show(value):
    if isinstance(value, (str, bytes)) and len(value) > 200:
        data = value.encode() if isinstance(value, str) else value
        return f"<{type(value).__name__} {len(value)} {hashlib.md5(data).hexdigest()}>"
    if isinstance(value, asyncpg.Path):
        return repr((value.is_closed, value.points))
    return repr(value)


@section
async def startup():
    async with Session(server_settings={"application_name": "suite app", "work_mem": "1234kB"}) as conn:
        say(await conn.fetchval("SHOW application_name"), await conn.fetchval("SHOW work_mem"))
        settings = conn.get_settings()
        for name in ("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone",
                     "application_name", "is_superuser", "standard_conforming_strings", "in_hot_standby"):
            say(name, getattr(settings, name))
        say(tuple(conn.get_server_version()))
        await conn.execute("SET application_name TO 'another'")
        say(settings.application_name)
        await conn.execute("RESET ALL")
        say(settings.application_name, await conn.fetchval("SHOW work_mem"))
    try:
        await asyncpg.connect(URL, database="no_such_database", timeout=10)
    except asyncpg.PostgresError as error:
        say("refused:", error.sqlstate, error)


@section
async def types_binary():
    with open(os.path.join(HERE, "types.tsv"), encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    async with Session() as conn:
        await conn.execute("SET TimeZone TO 'Europe/Warsaw'")
        for name, text in rows:
            quoted = text.replace("'", "''")
            statement = await attempt(conn.prepare(f"SELECT '{quoted}'::{name} AS v"))
            if statement is None:
                continue
            attribute = statement.get_attributes()[0]
            try:
                value = await statement.fetchval()
                back = await conn.fetchval(f"SELECT $1::{name} IS NOT DISTINCT FROM '{quoted}'::{name}", value)
                say(name, attribute.type.name, show(value), back)
            except asyncpg.PostgresError as error:
                say(name, attribute.type.name, error.sqlstate, error)
            except Exception as error:  # a value Python can't hold
                say(name, attribute.type.name, type(error).__name__)


@section
async def parameters():
    async with Session() as conn:
        values = [("bool", True), ("int2", -5), ("int8", 2 ** 60), ("numeric", Decimal("1.10")), ("text", "żółw"),
                  ("bytea", b"\x00\xff" * 300), ("date", date(2024, 2, 29)), ("interval", timedelta(1, 2, 3)),
                  ("timestamptz", datetime(2024, 2, 29, tzinfo=timezone.utc)), ("int[]", [1, None, [2]][:2]),
                  ("uuid", UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")), ("text[]", [["a", "b"], ["c", None]]),
                  ("int4range", asyncpg.Range(1, 5)), ("jsonb", '{"a": 1}'), ("text", None)]
        for name, value in values:
            say(name, await conn.fetchval(f"SELECT md5(($1::{name})::text)", value),
                show(await conn.fetchval(f"SELECT $1::{name}", value)))
        say(await conn.fetchrow("SELECT row(1, 'a', NULL::int) AS r, ARRAY[row(1, 2), row(3, 4)] AS rs"))
        await conn.execute("CREATE TYPE pair AS (a int, b text); CREATE TYPE mood AS ENUM ('sad', 'happy')")
        say(await conn.fetchval("SELECT $1::pair", (1, "x")), await conn.fetchval("SELECT $1::mood", "happy"),
            await conn.fetchval("SELECT $1::mood[]", ["sad", "happy"]))
        await attempt(conn.fetchval("SELECT $1::mood", "angry"))
        await attempt(conn.fetchval("SELECT $1::int", "text"))
        await attempt(conn.fetchval("SELECT $1::int, $2::int", 1))
        many = ",".join(f"${n}::int" for n in range(1, 1501))
        say("1500 parameters", sum(await conn.fetchrow("SELECT " + many, *range(1500))))


@section
async def prepared():
    async with Session(statement_cache_size=20) as conn:
        await conn.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
        insert = await conn.prepare("INSERT INTO item VALUES ($1, $2) RETURNING id")
        say([p.name for p in insert.get_parameters()], [a.name for a in insert.get_attributes()])
        for number in range(20):
            await insert.fetchval(number, f"n{number}")
        say(insert.get_statusmsg())
        await conn.executemany("INSERT INTO item VALUES ($1, $2)", [(n, str(n)) for n in range(100, 1100)])
        say(await conn.fetchval("SELECT count(*) FROM item"))
        await attempt(conn.executemany("INSERT INTO item VALUES ($1, $2)", [(5000, "a"), (1, "dup"), (5001, "b")]))
        say("all or nothing", await conn.fetchval("SELECT count(*) FROM item WHERE id >= 5000"))
        for number in range(60):
            await conn.fetchval(f"SELECT {number} + $1::int", 1)
        say("the cache turns over", await conn.fetchval("SELECT 1"))
        select = await conn.prepare("SELECT * FROM item WHERE id = $1")
        say(tuple(await select.fetchrow(1)))
        await conn.execute("ALTER TABLE item ADD extra int DEFAULT 7")
        row = await attempt(conn.fetchrow("SELECT * FROM item WHERE id = $1", 1))
        say(row and tuple(row))
        say(await select.explain(1) is not None, select.get_query())
        async with Session() as other:
            first = await conn.prepare("SELECT 'one'::text", name="same_name")
            second = await other.prepare("SELECT 'two'::text", name="same_name")
            say(await first.fetchval(), await second.fetchval(), await first.fetchval())


@section
async def transactions():
    async with Session() as conn:
        await conn.execute("CREATE TABLE account (id int PRIMARY KEY, amount int CHECK (amount >= 0))")
        async with conn.transaction():
            await conn.execute("INSERT INTO account VALUES (1, 10), (2, 20)")
        say("in transaction", conn.is_in_transaction())
        for level in ("read_committed", "repeatable_read", "serializable"):
            async with conn.transaction(isolation=level, readonly=True):
                say(await conn.fetchval("SHOW transaction_isolation"), await conn.fetchval("SHOW transaction_read_only"))

        async def fails():
            async with conn.transaction():
                await conn.execute("UPDATE account SET amount = 99 WHERE id = 1")
                await conn.execute("INSERT INTO account VALUES (1, 1)")
        await attempt(fails())
        say([tuple(row) for row in await conn.fetch("SELECT * FROM account ORDER BY id")])
        async with conn.transaction():
            await conn.execute("UPDATE account SET amount = 11 WHERE id = 1")
            await attempt(fails())
            say("in the outer", conn.is_in_transaction(), await conn.fetchval("SELECT amount FROM account WHERE id = 1"))
        outer = conn.transaction()
        await outer.start()
        await attempt(conn.execute("SELECT 1/0"))
        await attempt(conn.execute("SELECT 1"))
        await outer.rollback()
        say(await conn.fetchval("SELECT sum(amount) FROM account"))
        await attempt(conn.execute("INSERT INTO account VALUES (3, 3); SELECT 1/0"))
        say(await conn.execute("BEGIN; INSERT INTO account VALUES (4, 4); SAVEPOINT a; SELECT 1; ROLLBACK TO a; COMMIT"))
        say([tuple(row) for row in await conn.fetch("SELECT * FROM account ORDER BY id")])


@section
async def errors():
    async with Session() as conn:
        await conn.execute("""
            CREATE TABLE parent (id int PRIMARY KEY);
            CREATE TABLE child (id int NOT NULL, p int CONSTRAINT to_parent REFERENCES parent DEFERRABLE,
                                n int CONSTRAINT small CHECK (n < 10), CONSTRAINT one UNIQUE (id));
            INSERT INTO child VALUES (1)""")
        for query in ("INSERT INTO child VALUES (1)", "INSERT INTO child VALUES (NULL)", "SELEC 1",
                      "INSERT INTO child VALUES (2, 5)", "INSERT INTO child VALUES (2, NULL, 50)", "SELECT 1/0",
                      "SELECT nic FROM child", "SELECT 'x'::int", "SELECT ''::xml IS DOCUMENT, nope(1)"):
            await attempt(conn.execute(query), every_field=True)
            await attempt(conn.fetch(query), every_field=True)
        await attempt(conn.fetch("SELECT 1; SELECT 2"), every_field=True)
        await attempt(conn.fetch("SELECT * FROM generate_series(1, 10) i WHERE 10 / (5 - i) > -100"))
        await conn.execute("BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO child VALUES (7, 7)")
        await attempt(conn.execute("COMMIT"), every_field=True)
        say(conn.is_in_transaction(), await conn.fetchval("SELECT count(*) FROM child"))


@section
async def notices():
    async with Session() as conn:
        for level in ("INFO", "NOTICE", "WARNING"):
            await conn.execute(f"DO $$ BEGIN RAISE {level} 'a {level}' USING DETAIL = 'more'; END $$")
        await conn.execute("DROP TABLE IF EXISTS never_was")
        await conn.fetch("DROP TABLE IF EXISTS never_was_either")
        await asyncio.sleep(0.1)


@section
async def copy():
    async with Session() as conn:
        await conn.execute("CREATE TABLE copied (id int, name text)")
        say(await conn.copy_records_to_table("copied", schema_name=SCHEMA,
                                             records=((n, f"row {n}") for n in range(5000))))
        say(await conn.copy_to_table("copied", source=io.BytesIO(b"-1,minus\n-2,\n"), schema_name=SCHEMA, format="csv"))
        for options in ({"format": "csv", "header": True}, {"format": "binary"}, {}):
            out = io.BytesIO()
            status = await conn.copy_from_query("SELECT * FROM copied WHERE id < $1 ORDER BY id", 3000, output=out,
                                                **options)
            say(status, len(out.getvalue()), hashlib.md5(out.getvalue()).hexdigest())
        await attempt(conn.copy_to_table("copied", source=io.BytesIO(b"x\ty\n"), schema_name=SCHEMA), every_field=True)

        def gives_up():
            yield 1, "one"
            raise ValueError("given up")
        try:
            await conn.copy_records_to_table("copied", schema_name=SCHEMA, records=gives_up())
        except ValueError as error:
            say("client gave up:", error)
        say(await conn.fetchval("SELECT count(*) FROM copied"))


@section
async def cancel():
    async with Session() as conn:
        for _ in range(3):
            try:
                await conn.execute("SELECT pg_sleep(20)", timeout=0.3)
            except asyncio.TimeoutError:
                say("timed out")
            say(await conn.fetchval("SELECT 'usable'"))
        task = asyncio.ensure_future(conn.fetch("SELECT pg_sleep(20)"))
        await asyncio.sleep(0.2)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            say("cancelled")
        say(await conn.fetchval("SELECT 'usable'"))


@section
async def large():
    async with Session() as conn:
        big = await conn.fetchval("SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) i")
        say(show(big), await conn.fetchval("SELECT $1::text", big) == big)
        blob = bytes(range(256)) * 32768
        say("8 MB", await conn.fetchval("SELECT $1::bytea", blob) == blob)
        rows = await conn.fetch("SELECT i, md5(i::text) m FROM generate_series(1, 100000) i")
        say(len(rows), hashlib.md5(repr([tuple(row) for row in rows]).encode()).hexdigest())
        say(await conn.execute("SELECT FROM generate_series(1, 3)"), await conn.fetch(""))


@section
async def listen_notify():
    async with Session() as hears, Session() as speaks:
        heard = asyncio.Queue()
        sender = speaks.get_server_pid()
        await hears.add_listener("news", lambda _, pid, channel, payload: heard.put_nowait((channel, payload, pid == sender)))
        await speaks.execute("NOTIFY news, 'first'")
        await speaks.execute("SELECT pg_notify('news', $1)", "ż" * 50)
        async with speaks.transaction():
            await speaks.execute("NOTIFY news, 'in a transaction'")
        for _ in range(3):
            say(await asyncio.wait_for(heard.get(), 5))
        await hears.execute("BEGIN")
        await speaks.execute("NOTIFY news, 'while in a transaction'")
        await asyncio.sleep(0.2)
        say("nothing yet", heard.empty())
        await hears.execute("COMMIT")
        say(await asyncio.wait_for(heard.get(), 5))


@section
async def settings():
    async with Session() as one, Session() as two:
        await one.execute("SET work_mem TO '7MB'; SET app.tenant TO 'blue'")
        await two.execute("SET app.tenant TO 'red'")
        for _ in range(5):
            say(await one.fetchval("SHOW work_mem"), await one.fetchval("SELECT current_setting('app.tenant')"),
                await two.fetchval("SELECT current_setting('app.tenant')"))
        async with one.transaction():
            await one.execute("SET LOCAL work_mem TO '9MB'")
            say(await one.fetchval("SHOW work_mem"))
        say(await one.fetchval("SHOW work_mem"))
        await one.reset()
        say(await one.fetchval("SELECT current_setting('app.tenant')"), await one.fetchval("SHOW work_mem") != "7MB")


@section
async def temp_tables_and_locks():
    async with Session() as one, Session() as two:
        await one.execute("CREATE TEMP TABLE scratch AS SELECT 1 AS a")
        await two.execute("CREATE TEMP TABLE scratch AS SELECT 'b'::text AS a")
        say(await one.fetchval("SELECT a FROM scratch"), await two.fetchval("SELECT a FROM scratch"))
        say(await one.fetchval("SELECT pg_try_advisory_lock(7310011)"), await two.fetchval("SELECT pg_try_advisory_lock(7310011)"))
        say(await one.fetchval("SELECT pg_advisory_unlock(7310011)"), await two.fetchval("SELECT pg_try_advisory_lock(7310011)"))
        await two.reset()
        say("freed by reset", await one.fetchval("SELECT pg_try_advisory_lock(7310011)"))


@section
async def cursors():
    async with Session() as conn:
        async with conn.transaction():
            total = 0
            async for row in conn.cursor("SELECT i FROM generate_series(1, 5000) i", prefetch=100):
                total += row[0]
            say(total)
            cur = await conn.cursor("SELECT i FROM generate_series(1, $1::int) i", 100)
            say(await cur.forward(10), [tuple(row) for row in await cur.fetch(3)], tuple(await cur.fetchrow()))
            other = await conn.cursor("SELECT 'interleaved' AS w FROM generate_series(1, 3)")
            say(tuple(await other.fetchrow()), tuple(await cur.fetchrow()), tuple(await other.fetchrow()))


@section
async def many_at_once():
    pool = await asyncpg.create_pool(URL, min_size=5, max_size=20, timeout=10)
    async def work(number):
        async with pool.acquire() as conn:
            async with conn.transaction():
                await conn.execute(f"SET LOCAL app.me TO '{number}'")
                await asyncio.sleep(0.001)
                return int(await conn.fetchval("SELECT current_setting('app.me')")) == number
    results = await asyncio.gather(*(work(number) for number in range(500)))
    say(len(results), all(results))
    await pool.close()


async def main():
    conn = await asyncpg.connect(URL, timeout=10)
    await conn.execute(f"SET client_min_messages TO warning; DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}")
    await conn.close()
    for function in SECTIONS:
        say("==", function.__name__)
        try:
            await asyncio.wait_for(function(), 120)
        except Exception as error:  # one broken section must not hide the others
            say("!! broken:", type(error).__name__, error)
    say("== end")


asyncio.run(main())
