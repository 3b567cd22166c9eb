#!/usr/bin/python3
"""Clients' sockets: cut in every state of the protocol, slow, silent, babbling. Nothing leaks, nobody else notices."""
import os
import random
import socket
import struct
import time

from load import arguments, harness
from harness import (FLUSH, HOST, SSL_REQUEST, Cluster, Fail, Refused, Wire, Workers, bind, case, copy_data,
                     execute, expect, expect_equal, main, parse, query, rss_kb, startup, wait_until)

ARGS = arguments(4)
POOL = 10  # of all workers together
TIMES = 12
ASAN = "asan" in harness.MULTIGRES


def setup():
    c = Cluster("sockets", workers=2, pool=POOL).start()
    with c.direct() as db:
        db.execute("create table kept (i int)")
        db.execute("create table copied (i int, t text)")
        db.execute("create table rolled (i int)")
    return c


def clean(c, seconds=15):
    """No backend is held, no transaction open, nothing half done is there; and it serves."""
    c.pools_settled(seconds)
    with c.direct() as db:
        wait_until(lambda: not db.execute("select pid, state, query from pg_stat_activity where backend_type = 'client backend' and "
                                          "pid <> pg_backend_pid() and state <> 'idle'").fetchall(), seconds, "idle Postgres backends")
        n = db.execute("select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()").fetchone()[0]
        expect(n <= POOL + 4, f"{n} connections to Postgres")
        expect_equal(db.execute("select count(*) from rolled").fetchone(), (0,), "rows of transactions that were cut")
        expect_equal(db.execute("select count(*) from copied").fetchone(), (0,), "rows of COPYs that were cut")
    for _ in range(3):
        c.serving()
    wait_until(lambda: sum(a["behaviour"] == "gate.session" for a in c.actors()) == 0, seconds, "no session left", every=0.1)


def at_startup(c, w, r):
    data = startup(c.user, c.db)
    w.send(data[:r.randrange(len(data))])


def after_ssl_request(c, w, r):
    w.send(SSL_REQUEST)
    w.read_bytes(1)


def after_startup(c, w, r):
    w.send(startup(c.user, c.db))


def logged_in(c, w, r):
    w.login(c.user, c.db)


def mid_message(c, w, r):
    logged_in(c, w, r)
    data = query("select '" + "x" * r.randrange(1, 200000) + "'")
    w.send(data[:r.randrange(1, len(data))])


def mid_batch(c, w, r):
    logged_in(c, w, r)
    w.send(parse("insert into rolled values (1)"), bind(), execute())
    if r.random() < 0.5:
        w.send(FLUSH)
        w.until("C")


def in_transaction(c, w, r):
    logged_in(c, w, r)
    w.ask("begin")
    w.ask("insert into rolled values (1)")
    if r.random() < 0.5:
        w.send(query("select 1"))


def in_failed_transaction(c, w, r):
    logged_in(c, w, r)
    w.ask("begin")
    w.query("select 1/0")


def query_running(c, w, r):
    logged_in(c, w, r)
    w.send(query("begin"), query("insert into rolled values (1)"), query("select pg_sleep(0.4)"))
    time.sleep(r.random() * 0.05)


def mid_result(c, w, r):
    logged_in(c, w, r)
    w.send(query("select i, repeat('x', 1000) from generate_series(1, 20000) i"))
    for _ in range(r.randrange(1, 2000)):
        w.read()


def mid_copy_out(c, w, r):
    logged_in(c, w, r)
    w.send(query("copy (select i, repeat('x', 1000) from generate_series(1, 20000) i) to stdout"))
    for _ in range(r.randrange(1, 2000)):
        w.read()


def mid_copy_in(c, w, r):
    logged_in(c, w, r)
    w.send(query("copy copied from stdin"))
    w.until("G")
    for n in range(r.randrange(0, 200)):
        w.send(copy_data(b"1\t" + b"y" * 2000 + b"\n"))
    if r.random() < 0.5:
        w.send(b"d" + struct.pack("!I", 100000) + b"1\tcut")


def mid_copy_in_extended(c, w, r):
    logged_in(c, w, r)
    w.send(parse("copy copied from stdin"), bind(), execute(), FLUSH)
    w.until("G")
    w.send(copy_data(b"1\tz\n"))


def pipelining(c, w, r):
    logged_in(c, w, r)
    w.send(*[query(f"select {i}, pg_sleep(0.001)") for i in range(100)])


def pinned(c, w, r):
    logged_in(c, w, r)
    w.ask("create temp table mine (i int)")
    w.ask("select pg_advisory_lock(1) where false")
    w.ask("set timezone = 'Asia/Tokyo'")


def portal_open(c, w, r):
    logged_in(c, w, r)
    w.ask("begin")
    w.send(parse("insert into rolled select i from generate_series(1, 100) i returning i"), bind(portal="p"), execute("p", 5), FLUSH)
    w.until("s")


STATES = [at_startup, after_ssl_request, after_startup, logged_in, mid_message, mid_batch, in_transaction, in_failed_transaction, query_running,
          mid_result, mid_copy_out, mid_copy_in, mid_copy_in_extended, pipelining, pinned, portal_open]

for _run in STATES:
    def _cut(c, run=_run):
        r = random.Random(f"{ARGS.seed} {run.__name__}")
        for n in range(TIMES):
            w = Wire(HOST, c.port)
            try:
                run(c, w, r)
            finally:
                w.cut(hard=r.random() < 0.5)
        clean(c)
    case(f"sockets cut {_run.__name__.replace('_', ' ')} leave nothing behind", 60)(_cut)


@case("sockets cut while they wait for the pool leave nothing behind")
def waiting(c):
    r = random.Random(ARGS.seed)
    holders = [c.wire() for _ in range(4 * POOL)]
    held = []
    for w in holders:
        w.send(query("begin"), query("select 1"))
    time.sleep(0.5)
    for _ in range(3 * TIMES):
        w = Wire(HOST, c.port)
        try:
            w.login(c.user, c.db)
            w.send(query("begin"), query("insert into rolled values (1)"))
        finally:
            held.append(w)
    for w in held:
        w.cut(hard=r.random() < 0.5)
    for w in holders:
        w.cut()
    clean(c)


@case("clients cut while a long query runs don't pile up connections at Postgres", 60)
def abandoned(c):
    for n in range(5 * POOL):
        w = c.wire()
        w.send(query("select pg_sleep(25), 'abandoned'"))
        time.sleep(0.02)
        w.cut(hard=n % 2 == 0)
    time.sleep(0.5)
    with c.direct() as db:
        n = db.execute("select count(*) from pg_stat_activity where state = 'active' and query like '%abandoned%' and pid <> pg_backend_pid()").fetchone()[0]
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()")
        expect(n <= POOL, f"{n} abandoned queries run in Postgres, with a pool of {POOL}: nobody cancelled them, and nobody counts them")
    clean(c)


@case("a half-open client, who has closed its sending side, is let go in order", 30)
def half_open(c):
    with c.wire() as w:
        w.send(query("select pg_sleep(0.2)"), query("select 'last'"))
        w.sock.shutdown(socket.SHUT_WR)
        try:
            got = w.to_end(10)
        except Fail as e:
            raise Fail(f"not closed: {e}")
        harness.note(f"half-open: {[m.kind for m in got]}")
    clean(c)


@case("slow clients with large results don't make the node grow, nor wait others", 120)
def slow(c):
    quick = c.wire()
    c.serving()
    before = rss_kb(c.node)
    held = []
    for n in range(POOL // 2 - 1):  # all of them may be on one worker, with half the pool
        w = Wire(HOST, c.port, buffer=4096)
        w.login(c.user, c.db)
        w.send(query("select repeat(md5(i::text), 100) from generate_series(1, 60000) i"))  # 190 MB
        held.append(w)
    end, most, waits = time.monotonic() + 4, 0, 0
    while time.monotonic() < end:
        began = time.monotonic()
        expect_equal(quick.ask("select 5"), [("5",)], "a quick client")
        waits = max(waits, time.monotonic() - began)
        most = max(most, rss_kb(c.node) - before)
        for w in held:
            w.read_bytes(2000)
        time.sleep(0.05)
    harness.note(f"{len(held)} slow clients of 190 MB results: the node grew by {most} kB, a quick one waited {waits * 1000:.0f} ms at most")
    expect(most < (200_000 if ASAN else 40_000), f"the node grew by {most} kB")
    expect(waits < 2, f"a quick client waited {waits:.1f} s")
    held[0].read_bytes(1_000_000)  # and a slow one gets on
    for w in held:
        w.cut()
    quick.cut()
    clean(c)


@case("a client that sends a large COPY to a slow Postgres doesn't make the node grow", 60)
def slow_server(c):
    before = rss_kb(c.node)
    with c.direct(autocommit=False) as db, c.wire() as w:
        db.execute("lock table copied in access exclusive mode")
        w.seconds = 2
        w.sock.settimeout(2)
        w.send(query("copy copied from stdin"))
        sent, block = 0, copy_data(b"1\t" + b"q" * 60000 + b"\n")
        try:
            for _ in range(2000):
                w.send(block)
                sent += len(block)
        except Fail:
            pass
        grown = rss_kb(c.node) - before
        harness.note(f"{sent >> 20} MB were taken from a client whose server waits; the node grew by {grown} kB")
        expect(sent < 60 << 20, "120 MB were taken though Postgres reads nothing")
        expect(grown < (200_000 if ASAN else 40_000), f"the node grew by {grown} kB")
        w.cut()
        db.rollback()
    clean(c)


@case("garbage at the gate's port, seeded", 60)
def garbage(c):
    r = random.Random(ARGS.seed)
    good = c.wire()
    for n in range(400):
        w = Wire(HOST, c.port, 5)
        try:
            w.sock.sendall(r.randbytes(r.choice((1, 3, 7, 8, 20, 100, 5000, 70000))))
            if r.random() < 0.3:
                w.sock.settimeout(0.02)
                w.sock.recv(100)
        except OSError:
            pass
        w.cut(hard=r.random() < 0.3)
    expect_equal(good.ask("select 1"), [("1",)], "a bystander")
    good.cut()
    clean(c)


@case("thousands of connections made and closed leave no memory and no descriptor behind", 120)
def churn(c):
    def some(n):
        for _ in range(n):
            with Wire(HOST, c.port) as w:
                pass

    def logins(n):
        for i in range(n):
            w = c.wire()
            if i % 2:
                w.ask("select 1")
            (w.bye if i % 3 else w.cut)()
    def round_():
        load = Workers()
        for _ in range(4):
            load.add(some, 500)
            load.add(logins, 150)
        load.stop(50)
        clean(c)
    round_()  # as much at once as there will be
    before, fds = rss_kb(c.node), len(os.listdir(f"/proc/{c.node}/fd"))
    round_()
    wait_until(lambda: len(os.listdir(f"/proc/{c.node}/fd")) <= fds + 2 * POOL, 10, f"file descriptors back to about {fds}")
    grown = rss_kb(c.node) - before
    expect(grown < (150_000 if ASAN else 8_000), f"the node grew by {grown} kB over 2,600 connections")


@case("a storm of all these at once, under clients that verify what they read", ARGS.seconds + 60)
def storm(c):
    from load import Load
    load = Load(c, 8, ARGS.seed)
    others = Workers()
    end = time.monotonic() + ARGS.seconds

    def one(n):
        r = random.Random(f"{ARGS.seed} storm {n}")
        while time.monotonic() < end:
            w = Wire(HOST, c.port, 30)
            try:
                r.choice(STATES)(c, w, r)
            except Refused as e:
                expect(e.fields["C"] == "53300", str(e))
            finally:
                w.cut(hard=r.random() < 0.5)
    for n in range(6):
        others.add(one, n)
    time.sleep(ARGS.seconds)
    others.stop(40)
    load.progress(15)
    load.stop()
    told = {k: v for x in load.clients for k, v in x.codes.items()}
    expect(not told, f"clients that weren't cut were told {told}")
    expect(not sum(x.lost for x in load.clients), "clients that weren't cut lost their connections")
    clean(c, 30)


if __name__ == "__main__":
    main(setup, lambda c: c.stop())
