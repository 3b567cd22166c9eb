"""restart: kill -9 of the node's process to the first query answered through its parent's new one.

The Postgres of the dev cluster goes on running and is adopted, so no recovery of Postgres is in the figure. A client
tries to connect and ask as fast as it can, from before the kill on.
"""
import os
import signal
import statistics
import time

import pgwire
import proc
import report
import servers
from proc import BenchError
from report import Figure, at_most

TARGET_MS = 500
DEADLINE_S = 30
REST_S = 3.0  # between two kills: fewer than would make the parent back off


def run(scratch, opt):
    if missing := servers.multigres_missing():
        print(missing)
        return []
    runs = opt.rounds or (3 if opt.quick else 10)
    report.progress("restart: starting a dev cluster")
    server, user = servers.multigres(scratch, "dev", deadline_s=120)
    times = []
    for n in range(runs):
        report.progress(f"restart: {n + 1}/{runs}")
        if not pgwire.answers(servers.HOST, server.port, user, server.database, DEADLINE_S):
            raise BenchError(f"the dev cluster doesn't answer {user}@{server.database}:\n{proc.tail(server.process.log)}")
        times.append(once(server, user))
        time.sleep(REST_S)
    report.clear_progress()
    figures = [at_most("restart.median_ms", round(statistics.median(times), 1), "ms", TARGET_MS),
               Figure("restart.worst_ms", round(max(times), 1), "ms"), Figure("restart.best_ms", round(min(times), 1), "ms")]
    report.figures(f"restart: kill -9 of the node to serving again, {runs} runs", figures)
    return figures


def once(server, user):
    """Milliseconds from one kill to the next answer."""
    node = node_of(server.process.pid)
    start = time.monotonic()
    os.kill(node, signal.SIGKILL)
    while not pgwire.answers(servers.HOST, server.port, user, server.database, DEADLINE_S):
        if time.monotonic() - start > DEADLINE_S:
            raise BenchError(f"no answer {DEADLINE_S} s after the kill:\n{proc.tail(server.process.log)}")
        time.sleep(0.0005)
    took = (time.monotonic() - start) * 1000
    if node_of(server.process.pid) == node:
        raise BenchError("the answer came from the process that was killed")
    return took


def node_of(parent):
    """The parent's child that runs its own program; Postgres may be another child."""
    program = os.readlink(f"/proc/{parent}/exe")
    nodes = [p for p in proc.tree(parent)[1:] if os.path.exists(f"/proc/{p}/exe") and os.readlink(f"/proc/{p}/exe") == program]
    if not nodes:
        raise BenchError("multigres dev has no child process to kill")
    return nodes[0]
