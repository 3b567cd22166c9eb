#!/usr/bin/python3
"""Kills every kind of actor, first one by one among clients that stand still, then all kinds at random under load."""

import random
import time

from load import ALLOWED, Load, arguments, harness
from harness import Cluster, Closed, Fail, Wire, case, errors, expect, expect_equal, main, query, wait_until

ARGS = arguments(12)
NAMED = ["admin", "store", "flow", "ready", "tablet", "gate.0", "gate.1", "pool.0", "pool.1", "pools", "gates"]
HARMLESS = ["admin", "store", "flow", "ready", "gate.0", "gate.1", "tablet"]


def pid_of(c, name):
    for a in c.actors():
        if a["name"] == name:
            return a["pid"]
    raise Fail(f"there is no actor {name}")


def kill(c, who, reason="killed"):
    code, _, err = c.mgctl("kill", who, "--reason", reason)
    expect(code in (0, 1), f"mgctl kill {who}: {code} {err}")


def kill_named(c, name, reason="killed"):
    """Gives the pid before; afterwards its supervisor has brought back another."""
    node = c.node
    before = pid_of(c, name)
    kill(c, name, reason)
    wait_until(lambda: pid_of(c, name) != before, 8, f"{name} being brought back")
    expect_equal(c.node, node, f"the node's pid after {name} was killed")
    return before


class Still:
    """Clients that stand still, one in each state."""

    def __init__(self, c):
        self.c = c
        self.idle, self.open, self.failed = c.wire(), c.wire(), c.wire()
        self.idle.ask("select 1")
        self.open.ask("begin")
        self.open.ask("select 1")
        self.failed.ask("begin")
        self.failed.query("select 1/0")
        self.named = c.wire()
        self.named.send(harness.parse("select 'named'", "s"), harness.SYNC)
        self.named.until()
        self.running = c.wire()
        self.running.send(query("select pg_sleep(0.8), 'slept'"))
        time.sleep(0.1)

    def all(self):
        return {"an idle client": self.idle, "one in a transaction": self.open, "one in a failed transaction": self.failed,
                "one with a named statement": self.named, "one with a query running": self.running}

    def check_served(self, name):
        """Everybody goes on as if nothing had happened."""
        for who, w in self.all().items():
            try:
                if w is self.running:
                    w.until("Z", seconds=8)
                    w.ask("select 2")
                elif w is self.failed:
                    expect_equal(errors(w.query("select 2"))[0]["C"], "25P02", "its answer")
                    w.ask("rollback")
                elif w is self.named:
                    w.send(harness.bind(name="s"), harness.execute(), harness.SYNC)
                    expect_equal(harness.rows(w.until()), [("named",)], "its answer")
                elif w is self.open:
                    w.ask("select 2")
                    w.ask("commit")
                else:
                    w.ask("select 2")
            except Fail as e:
                raise Fail(f"killing {name} disturbed {who}: {e}")

    def leave(self):
        for w in self.all().values():
            w.cut()


for _name in HARMLESS:
    def _harmless(c, name=_name):
        for reason in ("killed", "crashed"):
            still = Still(c)
            kill_named(c, name, reason)
            still.check_served(f"{name} ({reason})")
            still.leave()
            c.wait_serving(8)
        c.pools_settled()
    case(f"killing {_name} disturbs no client")(_harmless)


@case("killing a session ends its client with 57P01, in any state, and no other")
def sessions(c):
    def sessions_now():
        return {a["pid"] for a in c.actors() if a["behaviour"] == "gate.session"}
    for state in ("idle", "in a transaction", "running", "waiting for an answer's rest", "in a batch"):
        still = Still(c)
        known = sessions_now()
        w = c.wire(application_name="victim")
        w.ask("select 1")
        if state == "in a transaction":
            w.ask("begin")
            w.ask("create table half (i int)")
        elif state == "running":
            w.send(query("select pg_sleep(20)"))
            time.sleep(0.1)
        elif state == "waiting for an answer's rest":
            w.send(query("select 1; select pg_sleep(20)"))
            time.sleep(0.1)
        elif state == "in a batch":
            w.send(harness.parse("select 1"), harness.bind(), harness.execute(), harness.FLUSH)
            w.until("C")
        new = sessions_now() - known
        expect_equal(len(new), 1, "new sessions")
        kill(c, new.pop())
        last = w.to_end(8)
        e = errors(last)
        if state in ("idle", "in a transaction", "running"):
            expect(e and e[0]["C"] in ("57P01", "08007") and e[0]["S"] == "FATAL", f"{state}: its last words: {last}")
        still.check_served(f"a session that was {state}")
        still.leave()
        with c.direct() as db:
            wait_until(lambda: not db.execute("select 1 from pg_stat_activity where application_name = 'victim' and "
                                              "(state like 'idle in%' or (state = 'active' and query like '%pg_sleep(20)%'))").fetchall(),
                       8, f"the end of what a session that was {state} had begun")
            expect_equal(db.execute("select to_regclass('half')").fetchone(), (None,), "a half transaction")
        c.pools_settled()


@case("killing a backend ends only who was on it, with a proper error")
def backends(c):
    for how in ("mgctl", "pg_terminate_backend"):
        for state in ("in a transaction", "running", "pinned"):
            still = Still(c)
            w = c.wire()
            if state == "pinned":
                w.ask("create temp table mine (i int)")
            else:
                w.ask("begin")
            backend = int(w.ask("select pg_backend_pid()")[0][0])
            if state == "running":
                w.send(query("select pg_sleep(20)"))
                time.sleep(0.1)
            if how == "mgctl":
                mine = [a for a in c.actors() if a["behaviour"] == "tablet.backend" and str(backend) in (a.get("detail") or "")]
                expect(len(mine) == 1, lambda: f"the backend with Postgres's pid {backend} isn't among "
                       f"{[a.get('detail') for a in c.actors() if a['behaviour'] == 'tablet.backend'][:4]}")
                kill(c, mine[0]["pid"])
            else:
                with c.direct() as db:
                    db.execute("select pg_terminate_backend(%s)", (backend,))
            time.sleep(0.2)
            try:
                if state != "running":
                    w.send(query("select 2"))
            except Closed:
                pass
            last = w.to_end(8)
            e = errors(last)
            expect(e and e[0]["C"] in ALLOWED and e[0]["S"] == "FATAL", f"{state}, {how}: its last words: {last}")
            still.check_served(f"a backend {state} with {how}")
            still.leave()
    c.pools_settled()


@case("killing an idle backend is noticed by nobody")
def idle_backends(c):
    still = Still(c)
    c.serving()
    idle = [r["backend"] for r in c.ask("pools") if str(r["state"]).upper() in ("IDLE", "FREE")]
    expect(idle, f"no idle backend: {c.ask('pools')}")
    for pid in idle:
        kill(c, pid)
    for _ in range(5):
        c.serving()
    still.check_served("an idle backend")
    still.leave()


for _name in ("pool.0", "pool.1", "pools"):
    def _pool(c, name=_name):
        """Who has a request or a transaction there is told; who is idle goes on."""
        hurt = 0
        for _ in range(2):
            still = Still(c)
            kill_named(c, name)
            for who, w in still.all().items():
                try:
                    if w is still.running:
                        m = w.until("ZE", seconds=8)
                    elif w is still.named:
                        w.send(harness.bind(name="s"), harness.execute(), harness.SYNC)
                        m = w.until("ZE", seconds=8)
                    else:
                        w.send(query("select 2"))
                        m = w.until("ZE", seconds=8)
                except Closed as e:
                    raise Fail(f"{who} was cut off without a word: {e}")
                for e in errors(m):
                    expect(e["C"] in ALLOWED | {"25P02"}, f"{who} was told {e}")
                    hurt += e["C"] != "25P02"
                if w is still.idle:
                    expect(not errors(m), f"the idle client was told {errors(m)}")
            still.leave()
            c.wait_serving(8)
        expect(hurt or name != "pools", "the pools died and nobody noticed, not even who was in a transaction")
        c.pools_settled()
    case(f"killing {_name} is told to whom it concerns, and idle clients go on")(_pool)


@case("killing the supervisor of the gates is told to its clients, if they can't stay, and new ones are served")
def gates(c):
    still = Still(c)
    kill_named(c, "gates")
    for who, w in still.all().items():
        try:
            w.send(query("select 2"))
            m = w.until("ZE", seconds=8)
        except Closed:
            m = w.log
        e = [x for x in errors(m) if x["C"] not in ("22012", "25P02")]
        expect(not e or e[0]["C"] in ALLOWED and e[0]["S"] == "FATAL", f"{who} was told {e}")
    still.leave()
    c.wait_serving(8)
    c.pools_settled()


@case("a tablet killed in the middle of coming up comes up all the same", 120)
def tablet_again(c):
    node, pg = c.node, c.postmaster()[0]
    for n in range(16):
        kill(c, "tablet")
        time.sleep(0.01 * n)
        kill(c, "tablet")
        began = time.monotonic()
        wait_until(lambda: next((a for a in c.actors() if a["name"] == "tablet" and a["state"] == "SERVING"), None), 15,
                   f"a tablet that serves, killed twice within {10 * n} ms,")
        c.wait_serving(5)
        expect(time.monotonic() - began < 10, "it took over 10 s")
    expect_equal((c.node, c.postmaster()[0]), (node, pg), "node and postmaster")


@case("the root's end starts the process afresh, and it serves again", 60)
def root(_c):
    c = Cluster("root").start()
    node, pg = c.node, c.postmaster()[0]
    try:
        kill(c, "root")
    except Fail as e:
        expect("3" in str(e), str(e))  # it may die before it answers
    wait_until(lambda: c.node not in (None, node), 20, "a new node process")
    c.wait_serving(30)
    if c.postmaster()[0] != pg:
        harness.note("Postgres was restarted though only our own tree had ended")
    c.stop()


@case("a storm of kills under load: the node stays, clients hear proper errors, no acknowledged commit is lost", ARGS.seconds + 90)
def storm(c):
    r = random.Random(f"{ARGS.seed} storm")
    node, postmaster = c.node, c.postmaster()[0]
    load = Load(c, 16, ARGS.seed)
    load.progress(15)
    kills, end = {}, time.monotonic() + ARGS.seconds
    while time.monotonic() < end:
        kind = r.choice(NAMED + ["gate.session"] * 4 + ["tablet.backend"] * 4)
        if kind in NAMED:
            who = kind
        else:
            found = [a["pid"] for a in c.actors() if a["behaviour"] == kind]
            if not found:
                continue
            who = r.choice(found)
        try:
            # a session that crashed says XX000, and a tablet that is told to shut down stops Postgres: not asked for here
            kill(c, who, r.choice({"gate.session": ("killed", "shutdown"), "tablet": ("killed", "crashed")}.get(kind, (
                "killed", "crashed", "shutdown"))))
        except Fail as e:  # mgctl's own connection dies with admin
            if "admin" not in (who, kind) and "no node" in str(e):
                raise
        kills[kind] = kills.get(kind, 0) + 1
        expect_equal(c.node, node, f"the node's pid after {kills}")
        time.sleep(r.random() * 0.3)
    load.progress(15)
    c.wait_serving(10)
    load.stop()
    harness.note(f"kills {kills}; {load.summary()}")
    silent = sum(x.silent for x in load.clients)
    expect(not silent, f"{silent} clients were cut off without a word")
    expect_equal((c.node, c.postmaster()[0]), (node, postmaster), "node and postmaster")
    c.pools_settled()
    wait_until(lambda: not set(NAMED) - {a["name"] for a in c.actors()}, 10, "everybody's return (back-off included)")


@case("pgbench under kills loses clients at most, and its totals agree", 90)
def pgbench(c):
    import subprocess
    base = ["-h", harness.HOST, "-p", str(c.port), "-U", c.user]
    subprocess.run(["pgbench", "-i", "-q", "-s", "1", *base, c.db], check=True, capture_output=True, timeout=60)
    r = random.Random(f"{ARGS.seed} pgbench")
    p = subprocess.Popen(["pgbench", "-n", "-c", "8", "-j", "2", "-T", "5", "--failures-detailed", *base, c.db], text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    while p.poll() is None:
        kill(c, r.choice(["store", "flow", "ready", "gate.0", "gate.1", "tablet"]))
        time.sleep(0.2)
    out, err = p.communicate(timeout=30)
    expect("number of failed transactions: 0 " in out, f"killing what no client is on failed transactions: {out} {err}")
    c.wait_serving(10)
    with c.connect() as db:
        total, = db.execute("select sum(abalance) = (select sum(delta) from pgbench_history) and sum(abalance) = "
                            "(select sum(bbalance) from pgbench_branches) from pgbench_accounts").fetchone()
    expect(total, "pgbench's totals don't agree")


if __name__ == "__main__":
    main(lambda: Cluster("actors", workers=2, pool=12).start(), lambda c: c.stop())
