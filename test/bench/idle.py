"""idle: what an idle client costs a pooler, and whether thousands of them and 200 active ones all get answers.

The load (idle_clients.c) is a process of its own. Memory is measured once the pool is open, so that pools and
caches are in the base; it is the growth of the pooler's resident bytes by the number of clients that have logged in, run
one query and gone quiet.
"""
import json
import os
import subprocess
import threading

import proc
import report
import servers
from proc import BenchError
from report import Figure, at_most

ACTIVE = 200
CLIENT_BYTES = 4096  # target, without TLS
SETTLE_S = 0.5


class Load:
    """The load program: a line in, a line of JSON out."""

    def __init__(self, scratch, server):
        argv = [os.path.abspath(proc.make("test/bench/idle_clients")), servers.HOST, str(server.port), servers.USER,
                server.database]
        self.p = scratch.start(f"idle-{server.name}", argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, text, deadline_s=60):
        watchdog = threading.Timer(deadline_s, self.p.kill)
        watchdog.start()
        try:
            self.p.stdin.write(text.encode() + b"\n")
            self.p.stdin.flush()
            line = self.p.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            watchdog.cancel()
        if not line:
            raise BenchError(f"the load program ended in '{text}' (deadline {deadline_s} s):\n{proc.tail(self.p.log)}")
        return json.loads(line)


def run(scratch, opt):
    steps = [1000] if opt.quick else [1000, 5000]
    report.progress("idle: starting the servers")
    pg = servers.postgres(scratch)
    servers.fill(pg, 1)
    poolers = [servers.pgbouncer(scratch, pg, opt.pool_size)[0]]
    if missing := servers.multigres_missing():
        report.clear_progress()
        print(missing)
    else:
        poolers.append(servers.attached(scratch, "multigres", pg, opt.pool_size, opt.workers))
    found = {p.name: measure(scratch, p, steps, opt.pool_size, 2 if opt.quick else 5) for p in poolers}
    report.clear_progress()
    return show(opt, steps, found)


def measure(scratch, server, steps, pool_size, seconds):
    """{figure: value} of one pooler."""
    load, found = Load(scratch, server), {}
    expect(load.ask(f"active {pool_size} 1"), server)  # opens the pool, with few clients: what they leave would hide the cost
    threading.Event().wait(SETTLE_S)
    base = proc.memory(server.pids)
    for n in steps:
        report.progress(f"idle: {n} clients of {server.name}")
        logins = load.ask(f"open {n}")
        expect(logins, server)
        threading.Event().wait(SETTLE_S)
        for key, now, before in zip(("rss_bytes", "anon_bytes"), proc.memory(server.pids), base):
            found[f"{n}.{key}"] = (now - before) / n
        found[f"{n}.logins_per_s"] = logins["per_s"]
    report.progress(f"idle: {steps[-1]} idle and {ACTIVE} active clients of {server.name}")
    active = load.ask(f"active {ACTIVE} {seconds}")
    check = load.ask("check")
    key = f"{steps[-1]}+{ACTIVE}"
    found[f"{key}.queries_per_s"], found[f"{key}.p50_us"], found[f"{key}.p99_us"] = (
        active["per_s"], active["p50_us"], active["p99_us"])
    found[f"{key}.unanswered"] = active["failed"] + check["failed"] + (active["answered"] == 0)
    return found


def expect(reply, server):
    if reply["failed"]:
        raise BenchError(f"{server.name}: {reply['failed']} clients got no answer: {reply['error']}")


def show(opt, steps, found):
    ours = "multigres" if "multigres" in found else "pgbouncer"
    units = {"bytes": "B/client", "per_s": "1/s", "us": "us", "unanswered": "clients"}
    shown, figures = [], []
    for name, values in found.items():
        for key, value in values.items():
            f = Figure(f"idle.{key}.{name}", round(value, 1), next(u for k, u in units.items() if key.endswith(k)))
            if name == "multigres" and key.endswith(".rss_bytes"):
                f = at_most(f.name, f.value, f.unit, CLIENT_BYTES)
            if key.endswith("unanswered"):
                f = at_most(f.name, f.value, f.unit, 0)
            figures.append(f)
            if name == ours:
                f.reference = report.number(found["pgbouncer"][key]) if ours != "pgbouncer" else ""
                shown.append(f)
    report.figures(f"idle: {' and '.join(f'{n:,}' for n in steps)} clients, then {ACTIVE} active ones beside them; "
                   f"pool {opt.pool_size}", shown, "PgBouncer")
    return figures
