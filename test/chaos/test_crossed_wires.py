#!/usr/bin/python3
"""Hundreds of clients on a pool much smaller than they are, with cancels, cuts and killed backends: each knows what it
must see, nobody ever sees another's, nobody gets stuck."""
import random
import threading
import time

from load import ALLOWED, arguments, harness
from harness import (FLUSH, HOST, SYNC, Cluster, Closed, Fail, Refused, Wire, bind, case, errors, execute,
                     expect, main, parse, query, rows, wait_until)

ARGS = arguments(10)
CLIENTS, POOL = 200, 5


class Client(threading.Thread):
    """Everything it asks for bears its own mark."""

    def __init__(self, c, n, settings):
        super().__init__(daemon=True)
        self.settings = settings
        self.c, self.n, self.r = c, n, random.Random(f"{ARGS.seed} {n}")
        self.wire, self.done, self.count, self.cancelled, self.codes, self.wrong = None, 0, 0, 0, {}, []
        self.wanted = self.kind = None  # wanted is set by a canceller before it cancels
        self.stopping, self.last = threading.Event(), time.monotonic()

    def mark(self):
        self.count += 1
        return f"m{self.n}.{self.count}.{self.r.randrange(1 << 30)}"

    def run(self):
        while not self.stopping.is_set():
            try:
                if not self.wire:
                    w = Wire(HOST, self.c.port, 25)
                    w.login(self.c.user, self.c.db, **self.settings)
                    self.wire = w
                    self.named = False
                self.kind = self.r.choice(self.KINDS)
                self.kind(self)
                self.done += 1
                self.last = time.monotonic()
            except Refused as e:
                self.told(e.fields)
                self.drop()
            except Closed:
                self.drop()
            except Fail as e:
                self.wrong.append(f"{self.n}: {e}")
                self.drop()
            except OSError:
                self.drop()
            except Exception as e:
                self.wrong.append(f"{self.n}: {type(e).__name__} {e}")
                self.drop()
        self.drop()

    def drop(self):
        w, self.wire = self.wire, None
        if w:
            w.cut(hard=self.r.random() < 0.5)

    def told(self, e):
        self.codes[e["C"]] = self.codes.get(e["C"], 0) + 1
        if e["C"] == "57014":
            if self.wanted is None:
                self.wrong.append(f"{self.n} was cancelled though nobody meant it")
        elif e["C"] not in ALLOWED | {"25P02"}:
            self.wrong.append(f"{self.n} was told {e['C']} {e['M']}")

    def finish(self, n=1):
        """Reads n answers. An error ends it with Refused, unless it is only the statement's."""
        del self.wire.log[:]
        found = []
        while n:
            m = self.wire.read()
            found.append(m)
            if m.kind == "E" and m.fields()["S"] == "FATAL":
                raise Refused(m.fields())
            n -= m.kind == "Z"
        for e in errors(found):
            self.told(e)
        return found

    def must(self, want, found):
        """The rows are ours; or there was an error and they are the beginning of ours."""
        got = rows(found)
        if got != want and not (errors(found) and got == want[:len(got)]):
            raise Fail(f"got {str(got)[:160]} instead of {str(want)[:160]}")

    def simple(self):
        m = self.mark()
        self.wire.send(query(f"select '{m}'"))
        self.must([(m,)], self.finish())

    def many_rows(self):
        m = self.mark()
        self.wire.send(query(f"select i, '{m}' from generate_series(1, 300) i"))
        self.must([(str(i), m) for i in range(1, 301)], self.finish())

    def extended(self):
        m = self.mark()
        self.wire.send(parse("select $1::text, $2::int"), bind([m, str(self.n)]), execute(), SYNC)
        self.must([(m, str(self.n))], self.finish())

    def pipeline(self):
        marks = [self.mark() for _ in range(self.r.randrange(2, 12))]
        self.wire.send(*[parse("select $1::text") + bind([m]) + execute() + SYNC for m in marks])
        found = self.finish(len(marks))
        if not errors(found):
            self.must([(m,) for m in marks], found)
        elif not set(rows(found)) <= {(m,) for m in marks}:
            raise Fail(f"another's among {rows(found)}")

    def unnamed_kept(self):
        """Parse and Bind in different batches: others may have used the backend between."""
        m = self.mark()
        self.wire.send(parse(f"select '{m}' || $1::text"), SYNC)
        if errors(self.finish()):
            return
        time.sleep(self.r.random() * 0.01)
        self.wire.send(bind(["!"]), execute(), SYNC)
        self.must([(m + "!",)], self.finish())

    def transaction(self):
        m = self.mark()
        self.wire.send(query("begin"))
        if errors(self.finish()):
            return
        self.wire.send(query(f"set local application_name = '{m}'"))
        self.finish()
        time.sleep(self.r.random() * 0.005)
        self.wire.send(query("select current_setting('application_name')"))
        self.must([(m,)], self.finish())
        self.wire.send(query(self.r.choice(("commit", "rollback"))))
        self.finish()

    def setting(self):
        """A session setting is seen by its session, and by it alone."""
        m = self.mark()
        self.wire.send(query(f"set my.mark = '{m}'"))
        if errors(self.finish()):
            return
        self.wire.send(query("show my.mark"))
        self.must([(m,)], self.finish())
        self.wire.send(query("discard all"))
        self.finish()
        self.drop()  # gives its backend back

    def no_setting(self):
        self.wire.send(query("select current_setting('my.mark', true) is null or current_setting('my.mark', true) = ''"))
        self.must([("t",)], self.finish())

    def temp(self):
        m = self.mark()
        self.wire.send(query(f"create temp table mine as select '{m}' as m"))
        if errors(self.finish()):
            return
        self.wire.send(query("select m from mine"))
        self.must([(m,)], self.finish())
        self.drop()

    def copy_out(self):
        m = self.mark()
        self.wire.send(query(f"copy (select '{m}' from generate_series(1, 50)) to stdout"))
        found = self.finish()
        got = b"".join(x.body for x in found if x.kind == "d").decode()
        if not errors(found) and got != (m + "\n") * 50:
            raise Fail(f"COPY brought {got[:100]}")

    def error(self):
        m = self.mark()
        self.wire.send(query(f"select '{m}'::int"))
        e = errors(self.wire.until("Z"))
        if e and e[0]["C"] == "22P02" and m not in e[0]["M"]:
            raise Fail(f"another's error: {e[0]['M']}")
        if not e:
            raise Fail("no error")
        if e[0]["C"] != "22P02":
            self.told(e[0])

    def slow(self):
        """Long enough to be cancelled."""
        m = self.mark()
        self.wire.send(query(f"select '{m}', pg_sleep({0.01 + self.r.random() * 0.03:.3f})"))
        self.must([(m, "")], self.finish())

    def cut(self):
        """Leaves in the middle."""
        m = self.mark()
        self.wire.send(self.r.choice((query(f"select '{m}', pg_sleep(0.01)"), query("begin") + query(f"select '{m}'"), parse(f"select '{m}'"),
                                      parse(f"select '{m}'") + bind() + execute() + FLUSH, query(f"select '{m}' from generate_series(1, 5000)"),
                                      query(f"select '{m}'")[:9])))
        if self.r.random() < 0.5:
            time.sleep(self.r.random() * 0.02)
        self.drop()

    KINDS = [simple] * 5 + [extended] * 4 + [pipeline] * 3 + [unnamed_kept] * 3 + [transaction] * 3 + [many_rows] * 2 + [setting, no_setting, no_setting,
             temp, copy_out, error, slow, slow, cut]


def canceller(clients, stopping, r):
    while not stopping.is_set():
        x = r.choice(clients)
        w = x.wire
        if w and w.pid:
            x.wanted = time.monotonic()
            try:
                w.cancel()
            except (OSError, Fail):
                pass
        time.sleep(0.01)


def killer(c, stopping, r, killed):
    """From a connection past the gate; those at work rather than those that idle."""
    with c.direct() as db:
        while not stopping.is_set():
            killed += db.execute("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and "
                                 "pid <> pg_backend_pid() order by state = 'idle', random() limit 1").fetchall()
            time.sleep(0.05 + r.random() * 0.1)


def run(c, cancels, kills, seconds, n=CLIENTS, settings=lambda i: {}):
    clients = [Client(c, i, settings(i)) for i in range(n)]
    stopping, others, killed, r = threading.Event(), [], [], random.Random(ARGS.seed)
    for x in clients:
        x.start()
    if cancels:
        others.append(threading.Thread(target=canceller, args=(clients, stopping, r), daemon=True))
    if kills:
        others.append(threading.Thread(target=killer, args=(c, stopping, r, killed), daemon=True))
    for t in others:
        t.start()
    time.sleep(seconds)
    stopping.set()
    for t in others:
        t.join(30)
    began = [x.done for x in clients]
    try:
        wait_until(lambda: all(x.done > b for x, b in zip(clients, began)), 25, "every client getting on once it was quiet", every=0.1)
    except Fail as e:
        stuck = [f"{x.n} in {x.kind.__name__ if x.kind else 'its login'}" for x, b in zip(clients, began) if x.done <= b]
        raise Fail(f"{e}: {len(stuck)} stuck: {', '.join(stuck[:8])}; {[w for x in clients for w in x.wrong][:3]}")
    finally:
        for x in clients:
            x.stopping.set()
        for x in clients:
            x.join(30)
    codes = {}
    for x in clients:
        for k, v in x.codes.items():
            codes[k] = codes.get(k, 0) + v
    harness.note(f"{sum(x.done for x in clients)} done by {n} clients on {POOL} backends, told {codes}, {len(killed)} backends killed")
    wrong = [w for x in clients for w in x.wrong]
    expect(not kills or len(killed) > 5, f"only {len(killed)} backends were killed")
    expect(not wrong, lambda: f"{len(wrong)} wrong: {'; '.join(wrong[:4])}")
    expect(not [x for x in clients if x.is_alive()], "clients are stuck")
    c.pools_settled(20)
    return codes


@case("many clients on a small pool: each sees its own", ARGS.seconds + 90)
def quiet(c):
    codes = run(c, False, False, ARGS.seconds / 3)
    expect(not codes, f"clients were told {codes} though nothing was done to them")


@case("many clients, each with a name of its own: none starves", ARGS.seconds + 90)
def named(c):
    codes = run(c, False, False, ARGS.seconds / 3, 80, lambda i: {"application_name": f"app-{i}"})
    expect(not codes, f"clients were told {codes} though nothing was done to them")


@case("with cancels: only who was meant is cancelled, and each sees its own", ARGS.seconds + 90)
def cancels(c):
    run(c, True, False, ARGS.seconds / 3)


@case("with cancels, and backends killed from behind: each sees its own, and nobody is stuck", ARGS.seconds + 90)
def kills(c):
    run(c, True, True, ARGS.seconds / 3)


if __name__ == "__main__":
    main(lambda: Cluster("crossed", workers=2, pool=POOL).start(), lambda c: c.stop())
