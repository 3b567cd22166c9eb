#!/usr/bin/python3
"""kill -9 of each process, of all of them, and stops: what must be back is back, what was promised is there."""
import os
import signal
import subprocess
import time

from load import ALLOWED, Load, arguments, harness
from harness import Cluster, Closed, Fail, Refused, Wire, alive, case, errors, expect, expect_equal, kill, main, query, wait_until

ARGS = arguments(3)


def gone(pids, seconds=15):
    wait_until(lambda: not [p for p in pids if alive(p)], seconds, f"the end of processes {pids}")


def began_again(c, node, seconds=15):
    wait_until(lambda: c.node not in (None, node), seconds, "a new node process")
    c.wait_serving(seconds)


@case("kill -9 of the node: its parent starts another, which adopts the same Postgres", 60)
def node(c):
    for n in range(3):
        before, pg = c.node, c.postmaster()[0]
        with c.wire() as w, c.wire() as t:
            w.ask("select 1")
            t.ask("begin")
            t.ask("create table half (i int)")
            killed = time.monotonic()
            kill(before)
            began_again(c, before)
            took = time.monotonic() - killed
            harness.note(f"serving again {took:.2f} s after kill -9 of the node")
            expect(took < 10, f"it took {took:.1f} s")
            for x in (w, t):
                try:
                    x.to_end(5)
                except Fail as e:
                    raise Fail(f"a client of the killed node: {e}")
        expect_equal(c.postmaster()[0], pg, "the postmaster")
        with c.direct() as db:
            expect_equal(db.execute("select to_regclass('half')").fetchone(), (None,), "what a client of the killed node had open")
    code, _, err = c.mgctl("status")
    expect_equal(code, 0, f"mgctl status ({err})")
    wait_until(lambda: c.get("/readyz")[0] == 200, 10, "readyz")


@case("kill -9 of the node under load loses no acknowledged commit", 90)
def node_loaded(c):
    load = Load(c, 8, ARGS.seed)
    load.progress(15)
    for _ in range(2):
        before = c.node
        kill(before)
        began_again(c, before)
        load.progress(20)
    load.stop()
    harness.note(load.summary())


@case("kill -9 of Postgres: it recovers, the node stays, clients hear of it and go on", 90)
def postgres(c):
    load = Load(c, 8, ARGS.seed)
    load.progress(15)
    for n in range(2):
        node, pg = c.node, c.postmaster()[0]
        with c.wire() as idle, c.wire() as t:
            idle.ask("select 1")
            t.ask("begin")
            t.ask("select 1")
            kill(pg)
            time.sleep(0.1)
            try:
                t.send(query("select 2"))
            except Closed:
                pass
            last = t.to_end(10)
            e = errors(last)
            expect(e and e[0]["C"] in ALLOWED, f"one in a transaction was told {last}")
            wait_until(lambda: (c.postmaster() or [pg])[0] != pg, 30, "another postmaster")
            c.wait_serving(30)
            expect_equal(c.node, node, "the node's pid")
            expect_equal(idle.ask("select 3"), [("3",)], "an idle client goes on")
        load.progress(20)
    load.stop()
    harness.note(load.summary())


@case("kill -9 of one Postgres backend makes Postgres restart, and the tablet sees it through", 90)
def one_backend(c):
    with c.wire() as w:
        w.ask("begin")
        pid = int(w.ask("select pg_backend_pid()")[0][0])
        node, pg = c.node, c.postmaster()[0]
        kill(pid)
        try:
            w.send(query("select 1"))
        except Closed:
            pass
        e = errors(w.to_end(10))
        expect(e and e[0]["C"] in ALLOWED, f"its client was told {e}")
    time.sleep(0.3)
    c.wait_serving(30)
    expect_equal(c.node, node, "the node's pid")
    expect(c.postmaster(), "no Postgres")


@case("a stopped Postgres, by its own tools, is started again", 60)
def stopped(c):
    node, pg = c.node, c.postmaster()[0]
    os.kill(pg, signal.SIGINT)
    gone([pg])
    wait_until(lambda: c.postmaster(), 20, "another postmaster")
    c.wait_serving(20)
    expect_equal(c.node, node, "the node's pid")


@case("a node that hangs is found by its watchdog and replaced", 60)
def hang(c):
    node = c.node
    os.kill(node, signal.SIGSTOP)
    try:
        time.sleep(0.5)
    finally:
        os.kill(node, signal.SIGCONT)
    c.wait_serving(15)
    expect(c.node, "no node")


@case("kill -9 of the parent takes the node with it; the next start adopts Postgres", 90)
def parent(_c):
    c = Cluster("parent").start()
    with c.connect() as db:
        db.execute("create table kept as select 42 as i")
    node, pg = c.node, c.postmaster()[0]
    c.process.kill()
    c.process.wait()
    gone([node])
    expect(alive(pg), "Postgres died with the parent")
    c.start()
    expect_equal(c.postmaster()[0], pg, "the postmaster, which should have been adopted,")
    with c.connect() as db:
        expect_equal(db.execute("select i from kept").fetchall(), [(42,)], "its rows")
    c.stop()
    expect(not alive(pg), "the adopted Postgres wasn't stopped")


@case("kill -9 of everything, and the next start recovers; also when a Postgres died that was adopted", 120)
def everything(_c):
    c = Cluster("everything").start()
    load = Load(c, 4, ARGS.seed)
    load.progress(15)
    for n in range(2):
        pids = [c.process.pid, c.node, c.postmaster()[0]]
        for p in pids:
            kill(p)
        c.process.wait()
        gone(pids)
        c.start()
        load.progress(20)
    load.stop()
    pg = c.postmaster()[0]
    kill(c.process.pid)
    c.process.wait()
    time.sleep(0.2)
    kill(pg)
    c.start()
    c.serving()
    c.stop()


@case("a stale postmaster.pid is no obstacle, whoever has that pid now", 120)
def stale(_c):
    c = Cluster("stale").start()
    pg = c.postmaster()[0]
    path = os.path.join(os.readlink(f"/proc/{pg}/cwd"), "postmaster.pid")
    with open(path) as f:
        text = f.read()
    c.stop()
    expect(not os.path.exists(path), "postmaster.pid was left by a clean stop")
    owner = os.stat(os.path.dirname(path))
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        for pid in (999999, sleeper.pid, 1, os.getpid()):
            with open(path, "w") as f:
                f.write(text.replace(text.splitlines()[0], str(pid), 1))
            os.chown(path, owner.st_uid, owner.st_gid)
            c.start()
            c.serving()
            c.stop()
        for junk in ("", "junk\n"):
            with open(path, "w") as f:
                f.write(junk)
            os.chown(path, owner.st_uid, owner.st_gid)
            try:
                c.start(25)
                c.serving()
                c.stop()
            except Fail as e:  # Postgres itself refuses an empty or odd lock file: then we must say so
                expect("postmaster.pid" in c.log.text()[-3000:], f"postmaster.pid of {junk!r}: {e}")
                c.end()
                if os.path.exists(path):
                    os.unlink(path)
        expect(sleeper.poll() is None, "an innocent process was ended")
    finally:
        sleeper.kill()
        sleeper.wait()


@case("a second start refuses naming the pid, also just after kill -9 of the parent", 60)
def second(_c):
    c = Cluster("second").start()
    other = subprocess.run(c.argv(), capture_output=True, text=True, timeout=30)
    expect_equal(other.returncode, 1, f"exit code ({other.stderr})")
    expect(str(c.parent) in other.stderr or str(c.node) in other.stderr, f"no pid in {other.stderr}")
    c.process.kill()
    c.process.wait()
    c.start()  # at once: the old node may be going still
    c.serving()
    c.stop()


@case("SIGTERM under load is clean: exit code 0, Postgres shut down in order, no process left", 90)
def term(_c):
    c = Cluster("term").start()
    load = Load(c, 8, ARGS.seed, allowed=ALLOWED)
    load.progress(15)
    pids = [c.process.pid, c.node, c.postmaster()[0]]
    waiting = c.wire()
    waiting.send(query("select pg_sleep(60)"))
    time.sleep(0.2)
    began = time.monotonic()
    c.stop()
    took = time.monotonic() - began
    expect(not [p for p in pids if alive(p)], "processes were left")
    expect(took < 15, f"it took {took:.1f} s with a query running")
    e = errors(waiting.to_end(5))
    expect(e and e[0]["C"] in ALLOWED, f"a client with a query running was told {e}")
    c.start()
    with open(os.path.join(c.data, "pg", "postgres.log")) as f:
        log = f.read()
    expect("database system is shut down" in log and "not properly shut down" not in log, f"Postgres's log: {log[-800:]}")
    load.progress(20)
    load.stop()
    c.stop()


@case("a node that crashes again and again is given up with an exit code", 90)
def crashes(_c):
    c = Cluster("crashes").start()
    end = time.monotonic() + 60
    while c.process.poll() is None and time.monotonic() < end:
        node = c.node
        try:
            if node and c.serving():
                kill(node)
        except (OSError, Fail):
            pass
        time.sleep(0.02)
    code = c.process.poll()
    expect(code is not None, "it was never given up")
    expect(code == 1, f"exit code {code}")
    c.process = None
    left = c.postmaster()
    c.start()
    c.serving()
    if left:
        expect_equal(c.postmaster()[0], left[0], "the postmaster, which should have been adopted,")
    c.stop()


@case("the cluster of all these still stands")
def stands(c):
    c.serving()
    c.pools_settled()


if __name__ == "__main__":
    main(lambda: Cluster("processes").start(), lambda c: c.stop())
