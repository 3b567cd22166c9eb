#!/usr/bin/python3
"""psycopg 3 against one URL: prints what it saw, the same lines for the same server, however it is reached.

The runner compares the lines of a direct run with those through the gate, section by section ("== name").
Nothing printed may depend on the route, the time or earlier runs: no OIDs of our own, pids, ports or durations.
"""
import hashlib
import os
import sys
import threading
import time
from datetime import date, datetime, time as time_of_day, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

URL = sys.argv[1]
SCHEMA = "clients_psycopg"
HERE = os.path.dirname(os.path.abspath(__file__))
SECTIONS = []


def section(function):
    SECTIONS.append(function)
    return function


def say(*parts):
    print(*parts, flush=True)


def connect(**options):
    conn = psycopg.connect(URL, connect_timeout=10, **options)
    conn.add_notice_handler(lambda d: say("notice:", d.severity, d.sqlstate, d.message_primary, d.message_detail))
    old = conn.autocommit
    conn.autocommit = True
    conn.execute(f"SET search_path TO {SCHEMA}, public")
    conn.autocommit = old
    return conn


FIELDS = ("severity", "severity_nonlocalized", "sqlstate", "message_primary", "message_detail", "message_hint",
          "statement_position", "internal_position", "internal_query", "context", "schema_name", "table_name",
          "column_name", "datatype_name", "constraint_name", "source_file", "source_line", "source_function")


def say_error(error, every_field=False):
    diag = error.diag
    if not every_field:
        return say("error:", type(error).__name__, diag.sqlstate, diag.message_primary)
    say("error:", type(error).__name__)
    for field in FIELDS:
        if getattr(diag, field) is not None:
            say(" ", field, "=", repr(getattr(diag, field)))


def attempt(function, *args, every_field=False, **kwargs):
    try:
        return function(*args, **kwargs)
    except psycopg.Error as error:
        say_error(error, every_field)
        return None


def show(value):
    if isinstance(value, (str, bytes)) and len(value) > 200:
        data = value.encode() if isinstance(value, str) else value
        return f"<{type(value).__name__} {len(value)} {hashlib.md5(data).hexdigest()}>"
    return repr(value)


@section
def startup():
    with psycopg.connect(URL, application_name="suite app", options="-c work_mem=1234kB -c datestyle=german",
                         autocommit=True) as conn:
        for name in ("application_name", "work_mem", "datestyle", "client_encoding", "standard_conforming_strings"):
            say(name, conn.execute(f"SHOW {name}").fetchone())
        for name in ("server_version", "server_encoding", "DateStyle", "TimeZone", "integer_datetimes",
                     "application_name", "is_superuser", "IntervalStyle", "in_hot_standby"):
            say("status", name, conn.pgconn.parameter_status(name.encode()))
        conn.execute("SET application_name TO 'another'")
        say("status after set", conn.pgconn.parameter_status(b"application_name"))
        say("protocol", conn.pgconn.protocol_version, "server", conn.info.server_version)
    with psycopg.connect(URL, client_encoding="latin1", autocommit=True) as conn:
        say("latin1", conn.execute("SELECT 'é'::text, length('é')").fetchone(), conn.info.encoding)
        attempt(conn.execute, "SELECT chr(8364)")
    for wrong in ({"dbname": "no_such_database"}, {"options": "-c no_such_setting=1"}, {"options": "-c work_mem=x"}):
        try:
            psycopg.connect(URL, connect_timeout=10, **wrong)
            say("connected, though it shouldn't")
        except psycopg.Error as error:
            say("refused:", wrong, str(error).split("FATAL:")[-1].strip())


@section
def types_text_and_binary():
    with open(os.path.join(HERE, "types.tsv"), encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    with connect(autocommit=True) as conn:
        conn.execute("SET TimeZone TO 'Europe/Warsaw'")
        for name, text in rows:
            for binary in (False, True):
                cur = conn.cursor(binary=binary)
                query = sql.SQL("SELECT {}::" + name).format(sql.Literal(text))
                if attempt(cur.execute, query) is None:
                    continue
                column = cur.description[0]
                raw = cur.pgresult.get_value(0, 0)
                try:
                    value = show(cur.fetchone()[0])
                except Exception as error:  # Python can't hold every Postgres value: the bytes still count
                    value = type(error).__name__
                say(name, "binary" if binary else "text", show(raw), value, column.type_code, cur.pgresult.fmod(0))


@section
def parameters():
    values = [True, 5, 2 ** 40, 2 ** 70, 1.25, Decimal("1.10"), "żółw", b"\x00\xff", date(2024, 2, 29),
              time_of_day(1, 2, 3), datetime(2024, 2, 29, 1, 2, 3, tzinfo=timezone.utc), timedelta(days=1, seconds=2),
              UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), [1, 2, None], ["a", None, 'q"'], Jsonb({"a": [1]}),
              Range(1, 5), None]
    with connect(autocommit=True) as conn:
        conn.execute("SET TimeZone TO UTC")
        for value in values:
            for marker in ("%s", "%t", "%b"):
                row = attempt(lambda: conn.execute(f"SELECT {marker}, pg_typeof({marker})::text", (value, value)))
                say(marker, type(value).__name__, row and [show(v) for v in row.fetchone()])
        many = conn.execute("SELECT " + ",".join(["%s::int"] * 1500), list(range(1500))).fetchone()
        say("1500 parameters", sum(many))


@section
def prepared():
    with connect(autocommit=True) as conn:
        conn.prepare_threshold = 0
        conn.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
        for number in range(20):
            conn.execute("INSERT INTO item VALUES (%s, %s)", (number, f"n{number}"), prepare=True)
        say(conn.execute("SELECT count(*), max(name) FROM item WHERE id > %s", (3,)).fetchone())
        say("dates", conn.execute("SELECT '01/02/2003'::date + %s::int", (1,)).fetchone())
        conn.execute("SET datestyle TO dmy")
        say("dates", conn.execute("SELECT '01/02/2003'::date + %s::int", (1,)).fetchone())
        conn.execute("ALTER TABLE item ALTER name TYPE varchar(50)")
        attempt(conn.execute, "SELECT * FROM item WHERE id = %s", (1,))
        conn.execute("ALTER TABLE item ADD extra int DEFAULT 7")
        attempt(conn.execute, "SELECT * FROM item WHERE id = %s", (1,), every_field=True)
        conn.execute("PREPARE by_hand (int) AS SELECT name FROM item WHERE id = $1")
        say(conn.execute("EXECUTE by_hand(5)").fetchone())
        say(conn.execute("SELECT name, parameter_types::text FROM pg_prepared_statements WHERE from_sql").fetchall())
        attempt(conn.execute, "PREPARE by_hand AS SELECT 1")
        conn.execute("DEALLOCATE by_hand")
        attempt(conn.execute, "EXECUTE by_hand(5)")
        for number in range(250):
            conn.execute(f"SELECT {number} + %s", (1,), prepare=True)
        say("after 250 statements", conn.execute("SELECT %s", ("still here",)).fetchone())
        with connect(autocommit=True) as other:
            other.prepare_threshold = 0
            say("same name elsewhere", other.execute("SELECT %s::text", ("other",)).fetchone(),
                conn.execute("SELECT %s::int", (1,)).fetchone())
        pgconn = conn.pgconn
        result = pgconn.prepare(b"raw", b"SELECT $1::int AS a, $2 || 'x' AS b")
        result = pgconn.describe_prepared(b"raw")
        say("described", result.nparams, [result.param_type(i) for i in range(result.nparams)],
            [(result.fname(i), result.ftype(i)) for i in range(result.nfields)])
        result = pgconn.exec_prepared(b"raw", [b"4", None])
        say("executed", result.get_value(0, 0), result.get_value(0, 1))
        say("missing", pgconn.exec_prepared(b"nosuch", []).error_field(psycopg.pq.DiagnosticField.SQLSTATE))
        conn.prepare_threshold = None
        pgconn.exec_(b"DEALLOCATE ALL")
        say("gone", pgconn.exec_prepared(b"raw", [b"4", None]).error_field(psycopg.pq.DiagnosticField.SQLSTATE))


@section
def transactions():
    with connect() as conn:
        conn.execute("CREATE TABLE account (id int PRIMARY KEY, amount int CHECK (amount >= 0))")
        conn.commit()
        conn.execute("INSERT INTO account VALUES (1, 10), (2, 20)")
        conn.rollback()
        say("rolled back", conn.execute("SELECT count(*) FROM account").fetchone(), conn.info.transaction_status.name)
        conn.execute("INSERT INTO account VALUES (1, 10), (2, 20)")
        conn.commit()
        attempt(conn.execute, "INSERT INTO account VALUES (1, 5)")
        say("after the error", conn.info.transaction_status.name)
        attempt(conn.execute, "SELECT 1")
        conn.rollback()
        say("after rollback", conn.info.transaction_status.name, conn.execute("SELECT 1").fetchone())
        conn.commit()
        with conn.transaction():
            conn.execute("UPDATE account SET amount = amount + 1 WHERE id = 1")
            try:
                with conn.transaction("inner"):
                    conn.execute("UPDATE account SET amount = amount - 100 WHERE id = 2")
            except psycopg.Error as error:
                say_error(error)
            conn.execute("UPDATE account SET amount = amount + 2 WHERE id = 2")
        say(conn.execute("SELECT id, amount FROM account ORDER BY id").fetchall())
        conn.commit()
        for level in psycopg.IsolationLevel:
            conn.isolation_level = level
            say(level.name, conn.execute("SHOW transaction_isolation").fetchone())
            conn.commit()
        conn.isolation_level = None
        conn.read_only = True
        attempt(conn.execute, "DELETE FROM account")
        conn.rollback()
        conn.read_only = None
        conn.execute("COMMIT")
        conn.execute("SAVEPOINT a")
        conn.execute("SET LOCAL work_mem TO '3MB'")
        conn.execute("ROLLBACK TO a")
        say("set undone", conn.execute("SHOW work_mem").fetchone() != ("3MB",))
        conn.commit()
        conn.tpc_begin(conn.xid(1, "clients-psycopg", "branch"))
        conn.execute("UPDATE account SET amount = 77 WHERE id = 1")
        conn.tpc_prepare()
        with connect() as other:
            found = [xid for xid in other.tpc_recover() if xid.gtrid == "clients-psycopg"]
            other.rollback()
            say("prepared", len(found), found[0].bqual, other.info.transaction_status.name)
            other.rollback()
        conn.tpc_commit()
        say(conn.execute("SELECT id, amount FROM account ORDER BY id").fetchall())
    with connect(autocommit=True) as conn:
        conn.execute("BEGIN; INSERT INTO account VALUES (3, 3); COMMIT; BEGIN")
        say("open block", conn.info.transaction_status.name)
        conn.execute("ROLLBACK")
        attempt(conn.execute, "INSERT INTO account VALUES (4, 4); SELECT 1/0; INSERT INTO account VALUES (5, 5)")
        say("all or nothing", conn.execute("SELECT array_agg(id ORDER BY id) FROM account").fetchone())
        cur = conn.execute("SELECT 1 AS a; SELECT 'two' AS b, 3; CREATE TABLE made (); UPDATE account SET amount = 1")
        while True:
            say("result", cur.statusmessage, cur.fetchall() if cur.description else None)
            if not cur.nextset():
                break


@section
def errors():
    with connect(autocommit=True) as conn:
        conn.execute("""
            CREATE TABLE parent (id int PRIMARY KEY);
            CREATE DOMAIN positive AS int CONSTRAINT above_zero CHECK (VALUE > 0);
            CREATE TABLE child (id int NOT NULL, p int CONSTRAINT to_parent REFERENCES parent,
                                n int CONSTRAINT small CHECK (n < 10), w positive, CONSTRAINT one UNIQUE (id));
            INSERT INTO child VALUES (1);
            CREATE FUNCTION fails(int) RETURNS int LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'own %', $1 USING DETAIL = 'a detail', HINT = 'a hint', ERRCODE = 'MG001',
                    COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 'd', TABLE = 't', SCHEMA = 's';
            END $$;
            CREATE FUNCTION bad_query() RETURNS int LANGUAGE plpgsql AS $$
            BEGIN EXECUTE 'SELECT nothing_like_it'; RETURN 1; END $$;
        """)
        for query in ("INSERT INTO child VALUES (1)", "INSERT INTO child VALUES (NULL)",
                      "INSERT INTO child VALUES (2, 5)", "INSERT INTO child VALUES (2, NULL, 50)",
                      "INSERT INTO child VALUES (2, NULL, 5, -1)", "SELECT fails(3)", "SELECT bad_query()",
                      "SELECT * FROM nowhere", "SELEC 1", "SELECT 'żółw' || nic", "SELECT 1/0", "SELECT 'x'::int",
                      "SELECT 9999999999::int", "DROP TABLE nowhere", "SET nonsense TO 1", "SELECT E'\\x'::jsonb",
                      "DO $$ BEGIN PERFORM fails(1); END $$", "ROLLBACK TO nothing", "VACUUM nowhere",
                      "SELECT pg_sleep(1) FROM (SELECT set_config('statement_timeout', '50', false)) x"):
            attempt(conn.execute, query, every_field=True)
        conn.execute("SET statement_timeout TO 50")
        attempt(conn.execute, "SELECT pg_sleep(5)")
        conn.execute("RESET statement_timeout")
        say("alive", conn.execute("SELECT 1").fetchone())


@section
def notices():
    with connect(autocommit=True) as conn:
        for level in ("DEBUG", "LOG", "INFO", "NOTICE", "WARNING"):
            conn.execute(f"DO $$ BEGIN RAISE {level} 'a {level}' USING DETAIL = 'more'; END $$")
        conn.execute("SET client_min_messages TO debug1")
        conn.execute("DO $$ BEGIN RAISE DEBUG 'now a debug'; END $$")
        conn.execute("RESET client_min_messages")
        conn.execute("DROP TABLE IF EXISTS never_was")
        conn.execute("ROLLBACK")


@section
def copy():
    with connect(autocommit=True) as conn:
        conn.execute("CREATE TABLE copied (id int, name text, at timestamptz)")
        cur = conn.cursor()
        with cur.copy("COPY copied FROM STDIN") as out:
            out.write("1\tone\t2024-01-01 00:00:00+00\n2\t\\N\t")
            out.write("infinity\n")
            out.write_row((3, "tab\tand\nline", None))
        say(cur.statusmessage)
        with cur.copy("COPY copied FROM STDIN (FORMAT binary)") as out:
            out.set_types(["int4", "text", "timestamptz"])
            for number in range(4, 2000):
                out.write_row((number, f"row {number}", datetime(2024, 1, 1, tzinfo=timezone.utc)))
        say(cur.statusmessage)
        conn.execute("SET TimeZone TO UTC")
        for options in ("", "(FORMAT csv, HEADER)", "(FORMAT binary)"):
            with cur.copy(f"COPY (SELECT * FROM copied ORDER BY id) TO STDOUT {options}") as rows:
                data = b"".join(bytes(block) for block in rows)
            say(options or "(text)", cur.statusmessage, len(data), hashlib.md5(data).hexdigest())
        with cur.copy("COPY (SELECT id, name FROM copied WHERE id < 4 ORDER BY id) TO STDOUT") as rows:
            for row in rows.rows():
                say(row)

        def broken(text):
            with cur.copy("COPY copied FROM STDIN") as out:
                out.write(text)
        attempt(broken, "x\ty\tz\n", every_field=True)
        attempt(broken, "1\n")
        try:
            with cur.copy("COPY copied FROM STDIN") as out:
                out.write("1\tone\t")
                raise RuntimeError("given up")
        except RuntimeError as error:
            say("client gave up:", error)
        except psycopg.Error as error:
            say_error(error)
        with connect(autocommit=True) as leaver:
            leaver.pgconn.send_query(b"COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT")
            leaver.pgconn.get_result()
            leaver.pgconn.finish()
        say(conn.info.transaction_status.name, conn.execute("SELECT count(*) FROM copied").fetchone())


@section
def cancel():
    with connect(autocommit=True) as conn:
        for _ in range(3):
            timer = threading.Timer(0.3, conn.cancel)
            started = time.monotonic()
            timer.start()
            attempt(conn.execute, "SELECT pg_sleep(20)", every_field=True)
            timer.join()
            say("in time", time.monotonic() - started < 10, conn.execute("SELECT 'usable'").fetchone())
        conn.cancel()
        time.sleep(0.2)
        say("an idle cancel harms nothing", conn.execute("SELECT 1").fetchone())
    with connect() as conn:
        conn.execute("SELECT 1")
        timer = threading.Timer(0.3, conn.cancel)
        timer.start()
        attempt(conn.execute, "SELECT pg_sleep(20)")
        timer.join()
        say("in a transaction", conn.info.transaction_status.name)
        conn.rollback()


@section
def large():
    with connect(autocommit=True) as conn:
        big = conn.execute("SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) i").fetchone()[0]
        say("1 MB from the server", show(big))
        say("1 MB there and back", conn.execute("SELECT %s::text", (big,)).fetchone()[0] == big)
        blob = bytes(range(256)) * 4096 * 8
        say("8 MB there and back", conn.execute("SELECT %b::bytea", (blob,)).fetchone()[0] == blob)
        say("16 MB simple query", conn.execute(f"SELECT length('{'x' * (16 << 20)}')").fetchone())
        for binary in (False, True):
            digest, count = hashlib.md5(), 0
            for row in conn.cursor(binary=binary).execute("SELECT i, md5(i::text) FROM generate_series(1, 100000) i"):
                digest.update(repr(row).encode())
                count += 1
            say("100k rows", binary, count, digest.hexdigest())
        cur = conn.cursor()
        total = sum(row[0] for row in cur.stream("SELECT i FROM generate_series(1, 50000) i"))
        say("row by row", total)
        wide = conn.execute("SELECT " + ",".join(f"{i} AS c{i}" for i in range(1600))).fetchone()
        say("1600 columns", len(wide), sum(wide))
        say("no columns", conn.execute("SELECT FROM generate_series(1, 3)").rowcount)
        say("empty query", conn.execute("").statusmessage)


@section
def pipelines():
    with connect(autocommit=True) as conn:
        conn.execute("CREATE TABLE piped (id int PRIMARY KEY)")
        with conn.pipeline():
            cursors = [conn.execute("INSERT INTO piped VALUES (%s) RETURNING id", (i,)) for i in range(300)]
        say("300 in one pipeline", sum(cur.fetchone()[0] for cur in cursors))

        def broken():
            with conn.pipeline() as pipe:
                conn.execute("INSERT INTO piped VALUES (1000)")
                pipe.sync()
                conn.execute("INSERT INTO piped VALUES (1)")
                conn.execute("INSERT INTO piped VALUES (1001)")
                pipe.sync()
                conn.execute("INSERT INTO piped VALUES (1002)")
        attempt(broken)
        say(conn.execute("SELECT array_agg(id ORDER BY id) FROM piped WHERE id >= 1000").fetchone())
        with conn.pipeline() as pipe:
            with conn.transaction():
                first = conn.execute("SELECT %s::int", (1,))
                try:
                    with conn.transaction():
                        conn.execute("SELECT 1/%s", (0,))
                        pipe.sync()
                except psycopg.Error as error:
                    say_error(error)
                second = conn.execute("SELECT count(*) FROM piped")
            say(first.fetchone(), second.fetchone())


@section
def listen_notify():
    with connect(autocommit=True) as hears, connect(autocommit=True) as speaks:
        heard = []
        sender = speaks.info.backend_pid
        hears.add_notify_handler(lambda n: heard.append((n.channel, n.payload, n.pid == sender)))
        hears.execute("LISTEN news; LISTEN \"Other News\"")
        speaks.execute("NOTIFY news, 'first'")
        speaks.execute("SELECT pg_notify('Other News', %s)", ("ż" * 100,))
        with speaks.transaction():
            speaks.execute("NOTIFY news, 'in a transaction'")
        with speaks.transaction(force_rollback=True):
            speaks.execute("NOTIFY news, 'never'")
        speaks.execute("NOTIFY unheard, 'x'")
        deadline = time.monotonic() + 5
        while len(heard) < 3 and time.monotonic() < deadline:
            hears.execute("SELECT 1")
            time.sleep(0.02)
        for item in heard:
            say(item)
        heard.clear()
        generator = hears.notifies()
        threading.Timer(0.2, lambda: speaks.execute("NOTIFY news, 'while it waits'")).start()
        note = next(generator)
        say("waited", note.channel, note.payload, note.pid == sender)
        generator.close()
        heard.clear()
        own = hears.info.backend_pid
        hears.add_notify_handler(lambda n: say("own", n.channel, n.payload, n.pid == own))
        hears.execute("NOTIFY news, 'to myself'")
        say("listening to", sorted(row[0] for row in hears.execute("SELECT pg_listening_channels()")))
        hears.execute("UNLISTEN *")
        say("listening to", hears.execute("SELECT pg_listening_channels()").fetchall())


@section
def settings():
    with connect(autocommit=True) as one, connect(autocommit=True) as two:
        one.execute("SET work_mem TO '7MB'; SET app.tenant TO 'blue'; SET TimeZone TO 'Asia/Tokyo'")
        two.execute("SET app.tenant TO 'red'")
        for _ in range(3):
            say(one.execute("SELECT current_setting('work_mem'), current_setting('app.tenant')").fetchone(),
                two.execute("SELECT current_setting('app.tenant')").fetchone(),
                one.execute("SELECT '2024-01-01 00:00:00+00'::timestamptz::text").fetchone())
        with one.transaction(force_rollback=True):
            one.execute("SET work_mem TO '9MB'")
            one.execute("SET LOCAL app.tenant TO 'green'")
            say(one.execute("SELECT current_setting('work_mem'), current_setting('app.tenant')").fetchone())
        say(one.execute("SELECT current_setting('work_mem'), current_setting('app.tenant')").fetchone())
        one.execute("SELECT set_config('app.other', 'set by function', false)")
        say(one.execute("SHOW app.other").fetchone())
        one.execute("CREATE FUNCTION hidden() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET app.hid TO 'yes'; END $$")
        one.execute("SELECT hidden()")
        say(one.execute("SELECT current_setting('app.hid', true)").fetchone())
        one.execute("DROP ROLE IF EXISTS clients_psycopg_role; CREATE ROLE clients_psycopg_role")
        one.execute("SET ROLE clients_psycopg_role")
        say(one.execute("SELECT current_user, session_user").fetchone(), two.execute("SELECT current_user").fetchone())
        one.execute("RESET ROLE; DROP ROLE clients_psycopg_role")
        one.execute("RESET ALL")
        one.execute(f"SET search_path TO {SCHEMA}")
        say(one.execute("SELECT current_setting('work_mem') = '7MB', current_setting('app.tenant')").fetchone())
        one.execute("SELECT setseed(0.5)")
        say("seeded", one.execute("SELECT random()::text").fetchone(), one.execute("SELECT random()::text").fetchone())
        one.execute("CREATE SEQUENCE numbers")
        attempt(one.execute, "SELECT currval('clients_psycopg.numbers')")
        one.execute("SELECT nextval('clients_psycopg.numbers')")
        say(one.execute("SELECT currval('clients_psycopg.numbers'), lastval()").fetchone())
        attempt(two.execute, "SELECT lastval()")
        one.execute("DISCARD ALL")
        attempt(one.execute, "SELECT lastval()")
        say(one.execute("SHOW search_path").fetchone())


@section
def temp_tables():
    with connect(autocommit=True) as one, connect(autocommit=True) as two:
        one.execute("CREATE TEMP TABLE scratch AS SELECT 1 AS a")
        two.execute("CREATE TEMP TABLE scratch AS SELECT 'b'::text AS a")
        say(one.execute("SELECT a FROM scratch").fetchall(), two.execute("SELECT a FROM scratch").fetchall())
        one.execute("CREATE TEMP TABLE gone (x int) ON COMMIT DROP")
        attempt(one.execute, "SELECT * FROM gone")
        with one.transaction():
            one.execute("CREATE TEMP TABLE kept (x int) ON COMMIT DELETE ROWS")
            one.execute("INSERT INTO kept VALUES (1)")
            say("inside", one.execute("SELECT count(*) FROM kept").fetchone())
        say("outside", one.execute("SELECT count(*) FROM kept").fetchone())
        one.execute("DISCARD TEMP")
        attempt(one.execute, "SELECT a FROM scratch")
        say(two.execute("SELECT a FROM scratch").fetchall())


@section
def advisory_locks():
    key = 7310001
    with connect(autocommit=True) as one, connect(autocommit=True) as two:
        say(one.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone(),
            two.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone())
        for _ in range(3):
            say("held", two.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone())
        say(two.execute("SELECT pg_advisory_unlock(%s)", (key,)).fetchone())
        say(one.execute("SELECT pg_advisory_unlock(%s)", (key,)).fetchone())
        say(two.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone())
        with one.transaction():
            say(one.execute("SELECT pg_try_advisory_xact_lock(%s)", (key + 1,)).fetchone(),
                two.execute("SELECT pg_try_advisory_xact_lock(%s)", (key + 1,)).fetchone())
        say(two.execute("SELECT pg_try_advisory_xact_lock(%s)", (key + 1,)).fetchone())
        two.close()
        free = None
        for _ in range(100):
            free = one.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
            if free == (True,):
                break
            time.sleep(0.05)
        say("free after its owner left", free)


@section
def cursors():
    with connect() as conn:
        with conn.cursor("named", scrollable=True) as cur:
            cur.itersize = 1000
            cur.execute("SELECT i FROM generate_series(1, 10000) i")
            say(cur.fetchmany(3), cur.fetchone(), sum(row[0] for row in cur))
            cur.scroll(-5)
            say("scrolled back", cur.fetchall())
            cur.scroll(10, mode="absolute")
            say("absolute", cur.fetchone())
        conn.commit()
        attempt(conn.execute, "FETCH 1 FROM named")
        conn.rollback()
        hold = conn.cursor("held", withhold=True)
        hold.execute("SELECT i FROM generate_series(1, 100) i")
        conn.commit()
        say("held over a commit", hold.fetchmany(2), conn.execute("SELECT 1").fetchone())
        conn.commit()
        say("and again", hold.fetchmany(2))
        hold.close()
        conn.execute("CREATE TABLE walked AS SELECT i FROM generate_series(1, 5) i")
        walk = conn.cursor("walk")
        walk.execute("SELECT i FROM walked ORDER BY i FOR UPDATE")
        walk.fetchmany(3)
        conn.execute("UPDATE walked SET i = 33 WHERE CURRENT OF walk")
        conn.execute("CLOSE walk")
        say(conn.execute("SELECT array_agg(i ORDER BY i) FROM walked").fetchone())
        conn.commit()
        rows = conn.cursor(row_factory=dict_row).execute("SELECT 1 AS a, 'b' AS b").fetchall()
        say(rows)


def main():
    with psycopg.connect(URL, autocommit=True, connect_timeout=10) as conn:
        conn.execute("SET client_min_messages TO warning; SET lock_timeout TO '10s'")
        for (gid,) in conn.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()").fetchall():
            conn.execute(sql.SQL("ROLLBACK PREPARED {}").format(gid))
        conn.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        conn.execute(f"CREATE SCHEMA {SCHEMA}")
    for function in SECTIONS:
        say("==", function.__name__)
        try:
            function()
        except Exception as error:  # one broken section must not hide the others
            say("!! broken:", type(error).__name__, error)
    say("== end")


main()
