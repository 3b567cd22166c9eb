#!/usr/bin/python3
"""The protocol, message by message. Every script is played to Postgres itself and through the gate, whole, byte by byte
and in seeded pieces; what comes back must be equal, but for pids, keys and table oids. What Postgres 15 can't speak
(protocol 3.2) and what the gate answers itself (cancel, pids) has checks of its own at the end."""
import os
import random
import re
import struct
import time

import harness
from harness import (COPY_DONE, FLUSH, HOST, SYNC, TERMINATE, Cluster, Closed, Fail, Refused, Wire, bind, case, close, copy_data,
                     copy_fail, cstr, describe, errors, execute, expect, expect_equal, main, message, parse, query, rows, startup)

SCRIPTS = []


def script(name, **kw):
    def add(f):
        SCRIPTS.append((name, f, kw))
        return f
    return add


class Pieces(Wire):
    """Sends in pieces; `size` gives the length of the next."""
    size = None

    def send(self, *parts):
        data = b"".join(parts)
        if not self.size:
            return super().send(data)
        at = 0
        while at < len(data):
            n = self.size()
            super().send(data[at:at + n])
            at += n
        return self


def plain(m):
    """The message without what may differ between two servers."""
    if m.kind == "K":
        return ("K", len(m.body))
    if m.kind == "T":
        n, at, out = struct.unpack_from("!H", m.body)[0], 2, []
        for _ in range(n):
            end = m.body.index(b"\0", at)
            _oid, *rest = struct.unpack_from("!IhIhih", m.body, end + 1)
            out.append((m.body[at:end].decode(), *rest))
            at = end + 19
        return ("T", out)
    if m.kind == "A":
        return ("A", m.body[4:])
    if m.kind in "EN":
        return (m.kind, {k: re.sub(r"pg_temp_\d+", "pg_temp_N", v) for k, v in m.fields().items()})
    if m.kind == "D" and len(m.body) < 2000:
        return ("D", m.row())
    return (m.kind, bytes(m.body) if len(m.body) < 200 else (len(m.body), hash(m.body)))


def play(run, host, port, user, db, size=None, **kw):
    w = Pieces(host, port, 12)
    try:
        w.size = size
        w.login(user, db, **kw)
        start = sorted(plain(m) for m in w.log if m.kind in "SK")
        del w.log[:]
        try:
            run(w)
        except Refused:
            pass
        except Closed:
            w.log.append(harness.Message(("!", b"closed")))
        except Fail as e:
            w.log.append(harness.Message(("!", f"{e}"[:40].encode())))
        return start + [plain(m) for m in w.log]
    finally:
        w.cut()


def compare(direct, gate, how):
    for i in range(max(len(direct), len(gate))):
        d, g = (x[i] if i < len(x) else "nothing" for x in (direct, gate))
        if d != g:
            raise Fail(f"{how}: message {i} of {len(direct)} was {str(d)[:300]} from Postgres, {str(g)[:300]} through the gate")


# ---- simple queries ---------------------------------------------------------------------------------------------------

@script("a simple query with rows, without rows and without a statement")
def _(w):
    for sql in ("select 1, 'two', null, 3.5", "select 1 where false", "", " ; ;-- x", "select", "set local work_mem = '1MB'"):
        w.query(sql)


@script("several statements in one Query, with an error among them")
def _(w):
    w.query("select 1; select 2; select 3")
    w.query("create temp table t (i int); insert into t values (1), (2); select * from t; drop table t")
    w.query("select 1; select 1/0; select 3")
    w.query("begin; select 1; commit; select 2")
    w.query("begin; select 1/0; select 2")
    w.query("select 3")
    w.query("rollback")
    w.query("create temp table u (i int); insert into u values (1); select 1/0")
    w.query("select * from u")


@script("errors with every field a client may ask for")
def _(w):
    w.query("selec 1")
    w.query("select nosuch from pg_class")
    w.query("create temp table c (i int primary key check (i > 0), d date not null)")
    w.query("insert into c values (0, now())")
    w.query("insert into c values (1, null)")
    w.query("insert into c values (1, now()), (1, now())")
    w.query("do $$ begin raise exception 'text' using detail = 'd', hint = 'h', errcode = 'XX123', column = 'c', table = 't'; end $$")
    w.query("select 'é' || nosuch")
    w.query("drop table c")


@script("notices, warnings and infos come where they were raised")
def _(w):
    w.query("do $$ begin raise notice 'one'; raise warning 'two'; raise info 'three'; end $$")
    w.query("select 1; do $$ begin raise notice 'between'; end $$; select 2")
    w.query("commit")
    w.query("drop table if exists no_such_table")


@script("queries sent without waiting are answered in order")
def _(w):
    w.send(*[query(f"select {i}") for i in range(30)])
    w.until("Z", 30)
    w.send(query("begin"), query("select 1/0"), query("select 2"), query("rollback"), query("select 3"))
    w.until("Z", 5)


@script("a result of several megabytes and one of many rows")
def _(w):
    w.query("select repeat('x', 3000000), repeat('y', 2000000)")
    w.query("select i, md5(i::text) from generate_series(1, 20000) i")


# ---- transactions -----------------------------------------------------------------------------------------------------

@script("a transaction over many messages, failed, rolled back, with savepoints")
def _(w):
    for sql in ("begin", "create table tx (i int)", "insert into tx values (1)", "savepoint s", "insert into tx values ('x')",
                "select 1", "rollback to s", "select * from tx", "release s", "rollback", "select * from tx", "begin read only",
                "create table tx (i int)", "commit", "begin isolation level serializable", "show transaction_isolation", "end",
                "start transaction", "abort and chain", "commit", "rollback", "begin", "begin", "commit"):
        w.query(sql)


@script("a transaction of extended messages keeps what it has")
def _(w):
    w.send(parse("begin"), bind(), execute(), SYNC)
    w.until()
    w.send(parse("create temp table x on commit drop as select 1 as i"), bind(), execute(), SYNC)
    w.until()
    w.send(parse("select * from x"), bind(), describe(), execute(), SYNC)
    w.until()
    w.send(parse("commit"), bind(), execute(), SYNC)
    w.until()


@script("an implicit transaction of a batch ends at its Sync")
def _(w):
    w.send(parse("create table b (i int)"), bind(), execute(), parse("insert into b values (1)"), bind(), execute(),
           parse("select 1/0"), bind(), execute(), SYNC)
    w.until()
    w.query("select * from b")
    w.send(parse("create table b (i int)"), bind(), execute(), parse("insert into b values (1)"), bind(), execute(), SYNC)
    w.until()
    w.query("select * from b")
    w.query("drop table b")


# ---- extended queries -------------------------------------------------------------------------------------------------

@script("parse, bind, describe and execute, in text and binary")
def _(w):
    w.send(parse("select $1::int + $2::int, $3::text", types=(23,)), bind(["1", "2", None]), describe(), execute(), SYNC)
    w.until()
    w.send(parse("select $1::int8, $2::bytea", types=(20, 17)), describe("S"), bind([struct.pack("!q", 7), b"\0\1\2"],
           formats=[1], results=[1, 0]), describe(), execute(), SYNC)
    w.until()
    w.send(parse("insert into pg_temp.nosuch values (1)"), SYNC)
    w.until()
    w.send(parse("create temp table e (i int)"), describe("S"), bind(), describe(), execute(), SYNC)
    w.until()
    w.send(parse(""), bind(), describe(), execute(), SYNC)
    w.until()


@script("errors in the middle of a batch skip everything until its Sync")
def _(w):
    w.send(parse("select 1"), bind(), execute(), parse("selec"), bind(), execute(), parse("select 2"), bind(), execute(), SYNC)
    w.until()
    w.send(parse("select $1::int"), bind(["x"]), execute(), SYNC, parse("select 3"), bind(), execute(), SYNC)
    w.until("Z", 2)
    w.send(parse("select 1/$1::int"), bind(["0"]), describe(), execute(), parse("select 4"), SYNC)
    w.until()
    w.send(bind(name="nosuch"), execute(), describe("S", "nosuch"), SYNC)
    w.until()
    w.send(parse("select 1/0"), bind(), execute(), query("select 'skipped too'"), SYNC)
    w.until()
    w.send(execute("nosuch"), SYNC, describe("P", "nosuch"), SYNC, close("P", "nosuch"), close("S", "nosuch"), SYNC)
    w.until("Z", 3)


@script("pipelines of many batches, some of which fail")
def _(w):
    out = []
    for i in range(40):
        out += [parse("select 10/($1::int % 5)"), bind([str(i)]), execute(), SYNC]
    w.send(*out)
    w.until("Z", 40)
    w.send(SYNC, SYNC, SYNC)
    w.until("Z", 3)


@script("Flush brings the answers so far without a Sync")
def _(w):
    w.send(parse("select generate_series(1, 3)"), FLUSH)
    w.until("1")
    w.send(bind(), describe(), FLUSH)
    w.until("T")
    w.send(execute(limit=2), FLUSH)
    w.until("s")
    w.send(execute(), FLUSH)
    w.until("C")
    w.send(SYNC)
    w.until()
    w.send(parse("select 1/0"), bind(), execute(), FLUSH)
    w.until("E")
    w.send(parse("select 1"), FLUSH)
    w.send(SYNC)
    w.until()
    w.send(FLUSH, FLUSH)
    w.query("select 1")


@script("portals with row limits, several at once, in a transaction")
def _(w):
    w.query("begin")
    w.send(parse("select i, $1::text from generate_series(1, 7) i", "g"), bind(["a"], "g", "p1"), bind(["b"], "g", "p2"), SYNC)
    w.until()
    for portal, n in (("p1", 2), ("p2", 3), ("p1", 2), ("p1", 100), ("p2", 0), ("p2", 1), ("p1", 1)):
        w.send(execute(portal, n), SYNC)
        w.until()
    w.send(bind(["c"], "g", "p1"), SYNC)
    w.until()
    w.query("rollback")
    w.send(bind(["c"], "g", "p3"), SYNC, execute("p3"), SYNC)
    w.until("Z", 2)
    w.send(bind(["d"], "g", "p4"), execute("p4", 2), execute("p4", 2), close("P", "p4"), execute("p4"), SYNC)
    w.until()


@script("the unnamed statement is kept from batch to batch until something replaces it")
def _(w):
    w.send(parse("select $1::int * 2"), SYNC)
    w.until()
    for i in range(5):
        w.send(bind([str(i)]), execute(), SYNC)
        w.until()
    w.send(describe("S"), SYNC)
    w.until()
    w.query("select 'a Query drops it'")
    w.send(bind(["1"]), execute(), SYNC)
    w.until()
    w.send(parse("select 1"), SYNC, parse("selec"), SYNC, bind(), execute(), SYNC)
    w.until("Z", 3)
    w.send(parse("select 2"), SYNC, close("S", ""), SYNC, bind(), execute(), SYNC)
    w.until("Z", 3)


@script("the unnamed statement is kept while others use the pool", crowd=True)
def _(w):
    w.send(parse("select $1::text || '!'"), SYNC)
    w.until()
    for i in range(5):
        w.crowd()
        w.send(bind([f"v{i}"]), describe(), execute(), SYNC)
        w.until()


@script("named statements live as long as the session", crowd=True)
def _(w):
    w.send(parse("select $1::int + 1", "one"), parse("select 'two'", "two"), SYNC)
    w.until()
    for i in range(4):
        w.crowd()
        w.send(bind([str(i)], "one"), execute(), bind(name="two"), execute(), SYNC)
        w.until()
    w.send(parse("select 1", "one"), SYNC)
    w.until()
    w.send(close("S", "one"), SYNC, bind(["1"], "one"), execute(), SYNC, parse("select 'again'", "one"), bind(name="one"), execute(), SYNC)
    w.until("Z", 3)
    w.query("deallocate two")
    w.send(bind(name="two"), SYNC)
    w.until()
    w.query("prepare three as select $1::int * 3")
    w.query("execute three(4)")
    w.send(bind(["5"], "three"), execute(), SYNC)
    w.until()
    w.query("select name, statement, from_sql from pg_prepared_statements order by name")
    w.query("discard all")
    w.send(describe("S", "three"), SYNC)
    w.until()


@script("a Query in an open batch, and messages after it")
def _(w):
    w.send(parse("select 1", "m"), query("select 2"), bind(name="m"), execute(), SYNC)
    w.until("Z", 2)
    w.query("select 3")


@script("a batch left open while time goes by")
def _(w):
    w.send(parse("select 1"), bind(), execute())
    time.sleep(0.1)
    w.send(parse("select 2"), bind(), execute())
    time.sleep(0.1)
    w.send(SYNC)
    w.until()


@script("FunctionCall")
def _(w):
    w.send(message("F", struct.pack("!I", 177) + struct.pack("!HHH", 1, 1, 2) + struct.pack("!ii", 4, 2) + struct.pack("!ii", 4, 40)
                   + struct.pack("!H", 1)))
    w.until()
    w.send(message("F", struct.pack("!IHHH", 99999999, 0, 0, 0)))
    w.until()
    w.query("select 1")


# ---- COPY -------------------------------------------------------------------------------------------------------------

@script("COPY out, as a Query and extended, and several in one Query")
def _(w):
    w.query("copy (select i, 'row' from generate_series(1, 100) i) to stdout")
    w.query("copy (select 1) to stdout (format binary)")
    w.query("select 1; copy (select 2) to stdout; select 3; copy (select 4) to stdout with csv header")
    w.query("copy (select 1/(i - 50) from generate_series(1, 100) i) to stdout")
    w.send(parse("copy (select 5) to stdout"), bind(), describe(), execute(), SYNC)
    w.until()
    w.query("select 'after'")


@script("COPY in, with data in any pieces, done, failed and with bad data")
def _(w):
    w.query("create temp table c (i int, t text)")
    w.send(query("copy c from stdin"))
    w.until("G")
    w.send(copy_data(b"1\tone\n2\ttw"), copy_data(b"o\n"), copy_data(b""), COPY_DONE)
    w.until()
    w.send(query("copy c from stdin"))
    w.until("G")
    w.send(copy_data(b"3\tthree\n"), copy_fail("changed my mind"))
    w.until()
    w.send(query("copy c from stdin"))
    w.until("G")
    w.send(copy_data(b"x\tbad\n"), COPY_DONE)
    w.until()
    w.send(query("copy c from stdin"), copy_data(b"4\tfour\n"), COPY_DONE, query("select 'pipelined'"))
    w.until("Z", 2)
    w.send(query("copy c from stdin"), COPY_DONE)
    w.until()
    w.send(query("copy c from stdin; select 'between'; copy c from stdin"))
    w.until("G")
    w.send(copy_data(b"5\tfive\n"), COPY_DONE)
    w.until("G")
    w.send(copy_data(b"6\tsix\n"), COPY_DONE)
    w.until()
    w.query("select * from c order by i")


@script("COPY in with bad data early and much more to come")
def _(w):
    w.query("create temp table c (i int)")
    w.send(query("copy c from stdin"))
    w.until("G")
    w.send(copy_data(b"x\n"))
    for _ in range(100):
        w.send(copy_data(b"1\n" * 500))
    w.send(COPY_DONE)
    w.until()
    w.query("select count(*) from c")


@script("COPY in with Flush and Sync among the data, and with a Query, which is an error")
def _(w):
    w.query("create temp table c (i int)")
    w.send(query("copy c from stdin"))
    w.until("G")
    w.send(copy_data(b"1\n"), FLUSH, SYNC, copy_data(b"2\n"), COPY_DONE)
    w.until()
    w.query("select count(*) from c")
    w.send(query("copy c from stdin"))
    w.until("G")
    w.send(copy_data(b"3\n"), query("select 'not now'"))
    w.until("E")
    try:
        w.until("Z", seconds=3)
    except Fail:
        pass
    w.send(query("select 'later'"))
    w.until("Z")


@script("COPY in, extended")
def _(w):
    w.query("create temp table c (i int)")
    w.send(parse("copy c from stdin"), bind(), execute(), FLUSH)
    w.until("G")
    w.send(copy_data(b"1\n2\n"), COPY_DONE, SYNC)
    w.until()
    w.send(parse("copy c from stdin"), bind(), execute(), FLUSH)
    w.until("G")
    w.send(copy_data(b"bad\n"), COPY_DONE, SYNC)
    w.until()
    w.send(parse("copy c from stdin"), bind(), execute(), FLUSH)
    w.until("G")
    w.send(copy_fail("no"), SYNC)
    w.until()
    w.send(parse("select count(*) from c"), bind(), execute(), SYNC)
    w.until()


@script("copy messages outside of COPY are ignored")
def _(w):
    w.send(copy_data(b"stray"), COPY_DONE, copy_fail("stray"))
    w.query("select 1")
    w.send(copy_data(b"stray"), parse("select 2"), copy_data(b"stray"), bind(), execute(), SYNC)
    w.until()


@script("a large COPY in and back out")
def _(w):
    w.query("create temp table c (t text)")
    w.send(query("copy c from stdin"))
    w.until("G")
    for n in range(60):
        w.send(copy_data((f"{n:04}" + "z" * 40000 + "\n").encode()))
    w.send(COPY_DONE)
    w.until()
    w.query("select count(*), sum(length(t)) from c")
    w.query("copy (select * from c order by t) to stdout")


# ---- session ----------------------------------------------------------------------------------------------------------

@script("ParameterStatus is sent when a reported setting changes, also back by rollback", crowd=True)
def _(w):
    for sql in ("set timezone = 'Asia/Tokyo'", "show timezone", "set application_name = 'renamed'", "set client_encoding = 'LATIN1'",
                "select 'ä'", "reset client_encoding", "begin", "set local datestyle = 'German'", "set intervalstyle = 'iso_8601'",
                "rollback", "show datestyle", "set work_mem = '8MB'", "show work_mem", "set standard_conforming_strings = off",
                "select 'a\\nb'", "select set_config('timezone', 'UTC', false)", "reset all", "show timezone", "set role pg_monitor",
                "select current_user", "reset role", "set session characteristics as transaction read only", "create temp table x ()",
                "create table nope ()", "discard all"):
        w.crowd()
        w.query(sql)


@script("what a session has made is there until it makes it go", crowd=True)
def _(w):
    for sql in ("create temp table mine as select 1 as i", "select * from mine", "declare h cursor with hold for select generate_series(1, 5)",
                "fetch 2 from h", "fetch 2 from h", "close h", "select pg_try_advisory_lock(77)", "select pg_advisory_unlock(77)",
                "select pg_advisory_unlock(77)", "create temp sequence sq", "select nextval('sq')", "select currval('sq'), lastval()",
                "select setseed(0.5)", "select round(random()::numeric, 6)", "set my.own = 'value'", "show my.own", "select current_setting('my.own')",
                "load 'plpgsql'", "do $$ begin perform set_config('my.other', 'x', false); end $$", "show my.other", "drop table mine"):
        w.crowd()
        w.query(sql)


@script("LISTEN hears its own NOTIFY, and payloads")
def _(w):
    for sql in ("listen ch", "notify ch, 'one'", "begin", "notify ch, 'two'", "notify ch, 'three'", "commit", "select pg_notify('ch', 'four')",
                "begin", "notify ch, 'never'", "rollback", "unlisten ch", "notify ch, 'unheard'", "select 1"):
        w.query(sql)


@script("timeouts of statements and of idle transactions are Postgres's")
def _(w):
    w.query("set statement_timeout = '100ms'")
    w.query("select pg_sleep(5)")
    w.query("reset statement_timeout")
    w.query("begin")
    w.query("set local idle_in_transaction_session_timeout = '200ms'")
    time.sleep(0.6)
    w.to_end(5)
    raise Closed("")


@script("settings in the startup packet, also through options", start=dict(
    application_name="start-up", options="-c statement_timeout=12345 -c search_path=pg_catalog,public", DateStyle="SQL, DMY",
    extra_float_digits="2", client_encoding="UTF8", work_mem="5MB"))
def _(w):
    for name in ("application_name", "statement_timeout", "search_path", "datestyle", "extra_float_digits", "work_mem"):
        w.query(f"show {name}")
    w.query("set work_mem = '9MB'")
    w.query("reset work_mem")
    w.query("show work_mem")


@script("Terminate after a query that wasn't waited for")
def _(w):
    w.query("set client_min_messages = error")
    w.query("create table if not exists goodbye (i int)")
    w.send(query("insert into goodbye values (1)"), TERMINATE)
    w.to_end(5)


@script("Terminate is answered with nothing, wherever it comes")
def _(w):
    w.send(parse("select 1"), bind(), TERMINATE)
    w.to_end(5)


@script("identifiers, comments and strings that a scanner may stumble over")
def _(w):
    for sql in ("select 1 as \"semi;colon\"; select ';'", "select $$a;b$$, $x$;$$;$x$", "select E'\\';'; select 2", "/* ; /* ; */ ; */ select 3",
                "select 4 -- ;\n; select 5", "select U&'\\0061;'", "select '", "select $$", "/* never", "select 'commit'; -- commit",
                "select 1 \"commit\"", "select b'1', x'F'", "sel\0ect".replace("\0", " "), "select 'ü;ß'", "(((select 1)))", "values (1), (2)", "table pg_am limit 0"):
        w.query(sql)


# ---- each of them, in three ways --------------------------------------------------------------------------------------

class Crowd:
    """Others on the same pool: each call lets all its backends serve somebody else."""

    def __init__(self, c):
        self.all = [c.wire() for _ in range(4)]

    def __call__(self):
        for w in self.all:
            w.send(query("select pg_sleep(0.005), 'another session'"))
        for w in self.all:
            w.until("Z")

    def leave(self):
        for w in self.all:
            w.cut()


def setup():
    c = Cluster("protocol", pool=4, workers=1).start()
    with c.direct() as db:
        db.execute("create database one")
        db.execute("create database two")
    return c


def add_case(name, run, crowd=False, start=None):
    @case(name, 90)
    def both(c):
        host, port = c.direct_address()
        seed = int(os.environ.get("SEED", "1"))
        r = random.Random(f"{seed} {name}")
        others = Crowd(c) if crowd else None
        Pieces.crowd = lambda self: None
        try:
            every_way(c, host, port, r, seed, others)
        finally:
            if others:
                others.leave()

    def every_way(c, host, port, r, seed, others):
        direct = play(run, host, port, c.user, "one", **(start or {}))
        expect(len(direct) > 3, "the script brought nothing from Postgres")
        if others:
            Pieces.crowd = lambda self: others()
        for how, size in (("whole", None), ("byte by byte", lambda: 1), (f"in pieces, seed {seed}", lambda: r.choice((1, 2, 3, 5, 8, 40, 300)))):
            if size and ("large" in name or "much more" in name):
                continue  # too many pieces
            compare(direct, play(run, HOST, c.port, c.user, "two", size, **(start or {})), how)


for _name, _run, _kw in SCRIPTS:
    add_case(_name, _run, **_kw)


# ---- what Postgres 15 isn't asked ------------------------------------------------------------------------------------

def negotiate(c, version, **settings):
    with Wire(HOST, c.port) as w:
        w.login(c.user, c.db, version=version, **settings)
        found = [m for m in w.log if m.kind == "v"]
        expect(len(found) <= 1, f"NegotiateProtocolVersion {len(found)} times")
        expect_equal(w.ask("select 'served'"), [("served",)], "a query")
        if not found:
            return None, [], len(w.secret)
        newest, n = struct.unpack_from("!II", found[0].body)
        names = [x.decode() for x in found[0].body[8:].split(b"\0")[:-1]]
        expect_equal(len(names), n, "names in NegotiateProtocolVersion")
        expect(w.log[0].kind == "v" or w.log[1].kind == "v" and w.log[0].kind == "R", "it came late")
        return newest & 0xffff, names, len(w.secret)


@case("protocol 3.0 and 3.2 are spoken, newer ones and unknown options are negotiated down")
def versions(c):
    expect_equal(negotiate(c, 0x30000), (None, [], 4), "3.0")
    newest, names, secret = negotiate(c, 0x30002)
    expect(newest in (None, 0, 2) and not names, f"3.2: {newest} {names}")
    expect(4 <= secret <= 256 and (newest == 0 or secret > 4), f"3.2: a key of {secret} bytes")
    newest, names, _ = negotiate(c, 0x30009)
    expect(newest == 2 and not names, f"3.9 is negotiated to {newest}, {names}")
    newest, names, _ = negotiate(c, 0x30000, __fancy="1", __other="2")
    expect_equal((newest in (0, 2), names), (True, ["_pq_.fancy", "_pq_.other"]), "unknown options")
    with Wire(HOST, c.port) as w:
        w.send(startup(c.user, c.db, 0x40000))
        e = errors(w.to_end())
        expect(e and e[0]["C"] == "0A000", f"4.0: {e}")


@case("cancel with the right key cancels, with a wrong one does nothing")
def cancel(c):
    for version in (0x30000, 0x30002):
        with Wire(HOST, c.port) as w:
            w.login(c.user, c.db, version=version)
            w.send(query("select pg_sleep(1.2)"))
            time.sleep(0.2)
            for secret, pid in ((bytes(len(w.secret)), None), (w.secret[:-1] + bytes([w.secret[-1] ^ 1]), None), (w.secret, w.pid ^ 1)):
                expect_equal(w.cancel(secret, pid), b"", "the answer to a cancel")
            expect_equal(errors(w.until()), [], "a wrong key cancelled")
            began = time.monotonic()
            w.send(query("select pg_sleep(30)"))
            time.sleep(0.2)
            expect_equal(w.cancel(), b"", "the answer to a cancel")
            expect_equal([e["C"] for e in errors(w.until())], ["57014"], "the cancelled query's error")
            expect(time.monotonic() - began < 5, "cancelling took over 5 s")
            expect_equal(w.ask("select 1"), [("1",)], "afterwards")
            w.cancel()
            time.sleep(0.1)
            expect_equal(w.ask("select 2"), [("2",)], "a cancel while idle")


@case("cancel works in a transaction, in COPY, in a pipeline and while waiting for the pool", 90)
def cancels(c):
    with c.wire() as w:
        w.ask("begin")
        w.send(query("select pg_sleep(30)"))
        time.sleep(0.2)
        w.cancel()
        m = w.until()
        expect_equal(([e["C"] for e in errors(m)], m[-1].body), (["57014"], b"E"), "in a transaction")
        w.query("rollback")
        w.ask("create temp table c (i int)")
        w.send(query("copy c from stdin"))
        w.until("G")
        w.cancel()
        time.sleep(0.1)
        w.send(copy_data(b"1\n"), COPY_DONE)
        m = w.until()
        expect(errors(m) in ([], ) or errors(m)[0]["C"] == "57014", f"in COPY: {m}")
        w.send(query("select pg_sleep(30)"), query("select 'next'"))
        time.sleep(0.2)
        w.cancel()
        m = w.until("Z", 2)
        expect_equal(([e["C"] for e in errors(m)], rows(m)), (["57014"], [("next",)]), "in a pipeline")
    holders = [c.wire() for _ in range(4)]
    for h in holders:
        h.ask("begin")
    with c.wire() as w:
        w.send(query("select pg_sleep(30)"))
        time.sleep(0.2)
        w.cancel()
        time.sleep(0.1)
        for h in holders:
            h.bye()
        m = w.until("Z", seconds=8)
        expect_equal([e["C"] for e in errors(m)], ["57014"], "while waiting for the pool")


@case("two sessions never get each other's pid and key, and pg_backend_pid is true")
def pids(c):
    all_ = [c.wire() for _ in range(20)]
    expect_equal(len({(w.pid, w.secret) for w in all_}), 20, "different keys")
    expect_equal(len({w.pid for w in all_}), 20, "different pids")
    w = all_[0]
    w.ask("begin")
    pid = int(w.ask("select pg_backend_pid()")[0][0])
    with c.direct() as db:
        expect_equal(db.execute("select state from pg_stat_activity where pid = %s", (pid,)).fetchone(), ("idle in transaction",), "its state")
    for w in all_:
        w.cut()


@case("a backend that is terminated: its client hears 57P01 or 08007 and no other does")
def terminated(c):
    with c.wire() as a, c.wire() as b:
        a.ask("begin")
        a.ask("create temp table t (i int)")
        pid = int(a.ask("select pg_backend_pid()")[0][0])
        b.ask("begin")
        with c.direct() as db:
            db.execute("select pg_terminate_backend(%s)", (pid,))
        time.sleep(0.3)
        try:
            a.send(query("select 1"))
        except Closed:
            pass
        e = errors(a.to_end(8))
        expect(e and e[0]["C"] in ("57P01", "08006", "08007") and e[0]["S"] == "FATAL", f"in a transaction: {e}")
        expect_equal(b.ask("select 2"), [("2",)], "the bystander")
        b.ask("commit")
        expect_equal(b.ask("select 3"), [("3",)], "the bystander")
    with c.wire() as a:
        a.ask("select 1")
        with c.direct() as db:
            db.execute("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")
        time.sleep(0.3)
        expect_equal(a.ask("select 2"), [("2",)], "an idle session whose backend went away")


@case("nothing was left behind")
def end(c):
    c.pools_settled()
    c.serving()


if __name__ == "__main__":
    main(setup, lambda c: c.stop())
