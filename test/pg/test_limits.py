#!/usr/bin/python3
"""Where things end: clients, backends, patience. Each limit is an error with a number, and gives way again."""
import glob
import json
import os
import subprocess
import time

import harness
from harness import (HOST, Cluster, Closed, Fail, Refused, Wire, Workers, case, errors, expect, expect_equal, main, query, rows,
                     rss_kb, wait_until)


@case("one client too many is told 53300, and let in once another has left")
def clients(_c):
    c = Cluster("few", "--max-clients", "12", workers=1).start()
    held = [c.wire() for _ in range(12)]
    for _ in range(5):
        try:
            c.wire().cut()
            raise Fail("a thirteenth client was let in")
        except Refused as e:
            expect_equal((e.fields["C"], e.fields["S"]), ("53300", "FATAL"), f"the refusal ({e})")
    for w in held:
        expect_equal(w.ask("select 1"), [("1",)], "a client who is in")
    held.pop().bye()
    wait_until(lambda: held.append(c.wire()) or True, 5, "being let in after one left")
    for w in held:
        w.cut(hard=True)
    wait_until(lambda: c.serving(), 5, "being let in after all were cut")
    c.stop()


@case("with the pool in use requests wait in order, then are told 53300", 60)
def waiting(_c):
    c = Cluster("narrow", "--wait-timeout", "2s", workers=1, pool=2).start()
    a, b = c.wire(), c.wire()
    for w in (a, b):
        w.ask("begin")
        w.ask("select 1")
    line = []
    for n in range(4):
        line.append(c.wire())
        line[-1].send(query(f"select {n}, clock_timestamp()"))
        time.sleep(0.05)
    time.sleep(0.3)
    for w in line:
        w.silent(0.01)
    expect(any(r["waiting"] not in (0, "0") for r in c.ask("pools")), "mgctl pools shows nobody waiting")
    a.ask("commit")
    got = [rows(w.until("Z", seconds=5))[0] for w in line]
    expect_equal([g[0] for g in got], ["0", "1", "2", "3"], "answers")
    expect_equal(sorted(g[1] for g in got), [g[1] for g in got], "the order in which they ran")
    a.ask("begin")
    began = time.monotonic()
    line[0].send(query("select 'too late'"))
    m = line[0].until("Z", seconds=8)
    took = time.monotonic() - began
    e = errors(m)
    expect(e and e[0]["C"] == "53300" and e[0]["S"] == "ERROR", f"after waiting: {m}")
    expect(1.5 < took < 4, f"waited {took:.1f} s instead of 2")
    for w in (a, b):
        w.ask("commit")
    expect_equal(line[0].ask("select 'again'"), [("again",)], "the same connection, later")
    expect_equal(line[1].ask("select 'too'"), [("too",)], "another")
    for w in (a, b, *line):
        w.cut()
    c.pools_settled()
    c.stop()


@case("a backend whose last client was slow to read serves the next one", 60)
def slow_then_quick(_c):
    c = Cluster("slow", workers=1, pool=1).start()
    quick = c.wire()
    for kb in range(100, 2600, 50):  # some end while the client is full
        with Wire(HOST, c.port, 10, buffer=4096) as slow:
            slow.login(c.user, c.db)
            slow.send(query(f"select repeat('x', 1000) from generate_series(1, {kb})"))
            time.sleep(0.05)
            slow.until("Z")
        try:
            expect_equal(quick.ask("select 1"), [("1",)], "the next client's answer")
        except Exception as e:
            raise Fail(f"after a slow result of {kb} kB: {e}")
    quick.cut()
    c.stop()


@case("a login waits for a full pool too, and goes on when there is room", 60)
def login(_c):
    c = Cluster("logins", "--wait-timeout", "5s", workers=1, pool=1).start()
    a = c.wire()
    a.ask("begin")
    with Wire(HOST, c.port, 10) as w:
        w.send(harness.startup(c.user, c.db))
        time.sleep(0.3)
        a.ask("commit")
        w.login_rest(c.user)
        expect_equal(w.ask("select 1"), [("1",)], "a query")
    a.cut()
    c.stop()


@case("many databases and users share the node's connections, none starves", 90)
def groups(_c):
    c = Cluster("groups", "--wait-timeout", "20s", workers=1, pool=4).start()
    with c.direct() as db:
        top = int(db.execute("show max_connections").fetchone()[0])
        for n in range(8):
            db.execute(f"create role u{n} login")
            db.execute(f"create database d{n}")
    load = Workers()

    def client(n):
        with Wire(HOST, c.port, 25) as w:
            w.login(f"u{n % 8}", f"d{n // 8 % 8}")
            for i in range(5):
                expect_equal(w.ask(f"select current_user, current_database(), {n * 10 + i}"), [(f"u{n % 8}", f"d{n // 8 % 8}", str(n * 10 + i))], "own")
    for n in range(64):
        load.add(client, n)
    load.stop(60)
    with c.direct() as db:
        n = db.execute("select count(*) from pg_stat_activity where backend_type = 'client backend'").fetchone()[0]
        expect(n <= top, f"{n} connections of {top}")
    c.pools_settled()
    c.stop()


def idle_clients():
    near = os.path.join(os.path.dirname(harness.MULTIGRES), "test", "bench", "idle_clients")
    found = [near] if os.path.exists(near) else glob.glob(os.path.join(harness.ROOT, "build", "*", "test", "bench", "idle_clients"))
    if found:
        return found[0]
    p = subprocess.run(["make", "-s", "build/release/test/bench/idle_clients"], cwd=harness.ROOT, capture_output=True, text=True)
    path = os.path.join(harness.ROOT, "build", "release", "test", "bench", "idle_clients")
    if p.returncode or not os.path.exists(path):
        raise Fail(f"test/bench/idle_clients can't be built (make benches): {p.stderr[-200:]}")
    return path


@case("5,000 idle clients are held and 200 active ones served at once", 150)
def many(_c):
    c = Cluster("many", workers=2, pool=10).start()
    before = rss_kb(c.node)
    p = subprocess.Popen([idle_clients(), HOST, str(c.port), c.user, c.db], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(line):
        p.stdin.write(line + "\n")
        p.stdin.flush()
        return json.loads(p.stdout.readline())
    try:
        got = tell("open 5000")
        expect(got["failed"] == 0 and got["answered"] >= 5000, f"5,000 log in: {got}")
        held = rss_kb(c.node)
        got = tell("active 200 4")
        expect(got["failed"] == 0 and got["answered"] > 400, f"200 active: {got}")
        harness.note(f"5,000 idle clients: {(held - before) * 1024 // 5000} B each; 200 active: {got['per_s']}/s, p99 {got['p99_us']} us")
        got = tell("check")
        expect(got["failed"] == 0 and got["answered"] >= 5000, f"the idle ones ask again: {got}")
        code, text = c.get("/metrics")
        expect_equal(code, 200, "/metrics")
        expect(len(c.actors()) > 5000, "mgctl actors doesn't show them")
    finally:
        p.kill()
        p.wait()
    wait_until(lambda: len(c.actors()) < 200, 20, "the sessions gone once their clients were killed", every=0.2)
    c.serving()
    c.pools_settled()
    c.stop()


if __name__ == "__main__":
    main(lambda: None)
