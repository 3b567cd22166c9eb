"""Clients under chaos: each knows what it must see, says what it was told, and remembers what it was promised."""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pg"))
import harness  # noqa: E402
from harness import HOST, Closed, Fail, Refused, Wire, expect, query  # noqa: E402

# What a client may be told when something between it and its rows has died: Postgres's own words for that, and
# "connection failure" and "resources" for what a gate adds. 57014 comes only to who is cancelled.
ALLOWED = {"57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006", "08007", "53300"}


class Client(threading.Thread):
    """Increments its own counter and reads what only it can have asked for, over and over, connecting again as needed."""

    def __init__(self, cluster, n, seed, transactions=True, allowed=ALLOWED):
        super().__init__(daemon=True)
        self.cluster, self.n, self.random = cluster, n, random.Random(f"{seed} client {n}")
        self.transactions, self.allowed = transactions, allowed
        self.wire, self.acked, self.unknown, self.done, self.last = None, 0, 0, 0, time.monotonic()
        self.codes, self.wrong, self.silent, self.lost = {}, [], 0, 0
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            try:
                if not self.wire:
                    self.wire = Wire(HOST, self.cluster.port, 20)
                    self.wire.login(self.cluster.user, self.cluster.db, application_name=f"client-{self.n}")
                self.step()
                self.done += 1
                self.last = time.monotonic()
            except Refused as e:
                self.told(e.fields)
                if e.fields.get("S") == "FATAL":
                    self.drop()
                time.sleep(0.02)
            except Closed:
                if self.wire and self.wire.pid and not self.wire.buf and not self.answering():
                    self.silent += 1
                self.lost += 1
                self.drop()
                time.sleep(0.02)
            except Fail as e:
                self.wrong.append(f"client {self.n}: {e}")
                self.drop()
            except OSError:
                self.lost += 1
                self.drop()
                time.sleep(0.05)
            except Exception as e:
                self.wrong.append(f"client {self.n}: {type(e).__name__} {e}")
                self.drop()
        self.drop()

    def answering(self):
        """Whether a part of an answer had come, after which nothing can be said any more."""
        return bool(self.wire.log) and self.wire.log[-1].kind not in "ZE"

    def drop(self):
        if self.wire:
            self.wire.cut()
        self.wire = None

    def told(self, fields):
        code = fields.get("C", "")
        self.codes[code] = self.codes.get(code, 0) + 1
        if code not in self.allowed:
            self.wrong.append(f"client {self.n} was told {fields.get('S')} {code}: {fields.get('M')} ({fields.get('D', '')})")

    def ask(self, sql):
        """Rows; an error is raised, after the ReadyForQuery that follows it."""
        del self.wire.log[:]
        self.wire.send(query(sql))
        rows, error = [], None
        while True:
            m = self.wire.read()
            if m.kind == "D":
                rows.append(m.row())
            elif m.kind == "E":
                error = m.fields()
                if error["S"] == "FATAL":
                    raise Refused(error)
            elif m.kind == "Z":
                if error:
                    raise Refused(error)
                return rows

    def step(self):
        how = self.random.randrange(4 if self.transactions else 2)
        if how == 0:
            marker = f"{self.n}-{self.random.randrange(1 << 40)}"
            self.must([(marker,)], self.ask(f"select '{marker}'"))
        elif how == 1:
            self.increment(lambda: self.ask(f"update counters set n = n + 1 where id = {self.n} returning n"))
        elif how == 2:
            marker = f"{self.n}-{self.random.randrange(1 << 40)}"
            rows = self.ask(f"select i, '{marker}' from generate_series(1, 200) i")
            self.must([(str(i), marker) for i in range(1, 201)], rows)
        else:
            self.in_transaction()

    def in_transaction(self):
        try:
            self.ask("begin")
            got = self.ask(f"update counters set n = n + 1 where id = {self.n} returning n")
        except Refused as e:
            if e.fields.get("S") != "FATAL":
                self.ask("rollback")
            raise
        self.increment(lambda: self.ask("commit") and None or got)

    def increment(self, commit):
        """One more, if it is acknowledged; perhaps one more, if not. Told plainly "not sent", it is none."""
        try:
            got = commit()
        except Refused as e:
            if e.fields.get("C") not in ("53300", "57P03"):
                self.unknown += 1
            raise
        except Exception:
            self.unknown += 1
            raise
        self.acked += 1
        n = int(got[0][0])
        if not self.acked <= n <= self.acked + self.unknown:
            self.wrong.append(f"client {self.n} read {n} after {self.acked} acknowledged and {self.unknown} unknown increments")

    def must(self, want, got):
        if want != got:
            self.wrong.append(f"client {self.n} was given {str(got)[:120]} instead of {str(want)[:120]}")


class Load:
    def __init__(self, cluster, n, seed, **kw):
        with cluster.direct() as db:
            db.execute("drop table if exists counters")
            db.execute("create table counters (id int primary key, n bigint not null)")
            db.execute("insert into counters select i, 0 from generate_series(0, %s) i", (n - 1,))
        self.cluster = cluster
        self.clients = [Client(cluster, i, seed, **kw) for i in range(n)]
        for c in self.clients:
            c.start()

    def done(self):
        return sum(c.done for c in self.clients)

    def errors(self):
        """How many errors and lost connections each client has seen."""
        return [sum(c.codes.values()) + c.lost for c in self.clients]

    def progress(self, seconds):
        """Each client gets something done within so long."""
        before = [c.done for c in self.clients]
        try:
            harness.wait_until(lambda: all(c.done > b for c, b in zip(self.clients, before)), seconds, "every client getting on", every=0.05)
        except Fail as e:
            late = [c.n for c, b in zip(self.clients, before) if c.done <= b]
            raise Fail(f"{e}: clients {late[:10]} are stuck")

    def stop(self, seconds=30):
        """Ends it, and sees that nothing wrong was seen and nothing acknowledged was lost."""
        for c in self.clients:
            c.stopping.set()
        end = time.monotonic() + seconds
        for c in self.clients:
            c.join(max(0.01, end - time.monotonic()))
        stuck = [c.n for c in self.clients if c.is_alive()]
        expect(not stuck, f"clients {stuck[:10]} are stuck")
        wrong = [w for c in self.clients for w in c.wrong]
        expect(not wrong, lambda: f"{len(wrong)} wrong things: {'; '.join(wrong[:3])}")
        with self.cluster.direct() as db:
            n = dict(db.execute("select id, n from counters").fetchall())
        for c in self.clients:
            expect(c.acked <= n[c.n], f"client {c.n}: {c.acked} increments were acknowledged, {n[c.n]} are there")
            expect(n[c.n] <= c.acked + c.unknown, f"client {c.n}: {n[c.n]} increments, of which only {c.acked} + {c.unknown} were asked for")

    def summary(self):
        codes = {}
        for c in self.clients:
            for k, v in c.codes.items():
                codes[k] = codes.get(k, 0) + v
        return (f"{self.done()} done, {sum(c.acked for c in self.clients)} increments acknowledged, "
                f"{sum(c.unknown for c in self.clients)} unknown, told {codes}, connections lost without a word "
                f"{sum(c.silent for c in self.clients)}")


def arguments(seconds):
    """--seconds and --seed, taken out of argv; the seed is said, so that a failure can be played again."""
    import argparse
    p = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    p.add_argument("--seconds", type=float, default=seconds, help="how long each storm lasts")
    p.add_argument("--seed", type=int, default=int(os.environ.get("SEED", "1")))
    p.add_argument("words", nargs="*", help="parts of the names of the checks to run")
    args = p.parse_args()
    sys.argv[1:] = args.words
    harness.note(f"{os.path.basename(sys.argv[0])} --seconds {args.seconds:g} --seed {args.seed}")
    return args
