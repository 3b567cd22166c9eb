"""serve: the same queries to Postgres directly, through PgBouncer and through Multigres.

The three take turns in every round, so that a noisy neighbour hits all alike; figures are medians over the rounds, ratios are
medians of each round's ratio. A proxy's CPU per transaction is what its processes used between start and end of a
pgbench run, log-ins included. Syscalls and instructions come from a short run of their own, as counting costs.
"""
import collections
import glob
import os
import re
import statistics

import proc
import report
import servers
from report import Figure, at_least, at_most

SCALE = 10
TPS_RATIO, CPU_RATIO = 0.9, 1.3  # against PgBouncer of the same round
Cell = collections.namedtuple("Cell", "mode clients rows")
Sample = collections.namedtuple("Sample", "tps p50_us p99_us cpu_us transactions")
FULL = [Cell(m, c, r) for r in (1, 1000) for m in ("simple", "extended", "prepared") for c in (1, 16, 64)]
QUICK = [Cell("simple", 1, 1), Cell("simple", 16, 1), Cell("simple", 64, 1), Cell("extended", 16, 1),
         Cell("prepared", 1, 1), Cell("prepared", 16, 1), Cell("simple", 16, 1000)]


def run(scratch, opt):
    cells = QUICK if opt.quick else FULL
    rounds = opt.rounds or (1 if opt.quick else 3)
    seconds = opt.seconds or (2 if opt.quick else 3)
    report.progress("serve: starting the servers")
    targets = start(scratch, opt)
    counters = proc.Counters()
    script = scratch.write("wide.sql", "select * from wide;\n")
    for target in targets:
        for cell in [Cell("simple", 64, 1), Cell("prepared", 64, 1), Cell("simple", 16, 1000)]:
            pgbench(scratch, pick(target, cell), cell, 1, script)  # opens the pools, warms the caches

    samples = {(cell, t[0].name): [] for cell in cells for t in targets}
    for n in range(rounds):
        order = targets[n % len(targets):] + targets[:n % len(targets)]
        for i, cell in enumerate(cells):
            for target in order:
                name = target[0].name
                report.progress(f"serve: round {n + 1}/{rounds}, {i + 1}/{len(cells)} {label(cell)} {name}")
                samples[cell, name].append(pgbench(scratch, pick(target, cell), cell, seconds, script))
    counts = {}
    for cell in cells:
        for target in targets[1:]:
            report.progress(f"serve: counting {label(cell)} {target[0].name}")
            counts[cell, target[0].name] = count(scratch, counters, pick(target, cell), cell, script)
    report.clear_progress()
    return show(opt, cells, [t[0].name for t in targets], samples, counts, f"{rounds} x {seconds} s")


def start(scratch, opt):
    """Pairs of servers: with the pool of --pool-size, and with a backend for each client."""
    pg = servers.postgres(scratch)
    servers.fill(pg, SCALE)
    targets = [(pg, pg), servers.pgbouncer(scratch, pg, opt.pool_size)]
    if missing := servers.multigres_missing():
        report.clear_progress()
        print(missing)
    else:
        targets.append([servers.attached(scratch, name, pg, size, opt.workers)
                        for name, size in (("multigres", opt.pool_size), ("multigres-wide", servers.WIDE))])
    return targets


def pick(target, cell):
    """PgBouncer 1.18 knows prepared statements only in session mode, so there both have a backend for each client."""
    return target[cell.mode == "prepared"]


def label(cell):
    return f"{cell.mode}.{cell.clients}c.{cell.rows}row"


def pgbench(scratch, server, cell, seconds, script):
    prefix = os.path.join(scratch.dir, "latency")
    argv = ["pgbench", "-n", "-M", cell.mode, "-c", str(cell.clients), "-j", str(min(cell.clients, 2)), "-T", str(seconds),
            "-l", "--log-prefix", prefix, "--sampling-rate", "0.25" if cell.rows == 1 else "1",
            *(["-S"] if cell.rows == 1 else ["-f", script]),
            "-h", servers.HOST, "-p", str(server.port), "-U", servers.USER, server.database]
    before = proc.cpu_us(server.pids)
    out = proc.command(argv, deadline_s=seconds + 60)
    cpu = proc.cpu_us(server.pids) - before
    failed = re.search(r"number of failed transactions: (\d+)", out)
    if failed and int(failed.group(1)) or "aborted" in out:
        raise proc.BenchError(f"{server.name}, {label(cell)}: failed transactions:\n{out}")
    transactions = int(re.search(r"actually processed: (\d+)", out).group(1))
    if not transactions:
        raise proc.BenchError(f"{server.name}, {label(cell)}: no transaction ended within {seconds} s")
    tps = float(re.search(r"^tps = ([\d.]+)", out, re.M).group(1))
    p50, p99 = percentiles(prefix)
    return Sample(tps, p50, p99, cpu / transactions, transactions)


def percentiles(prefix):
    """p50 and p99 in microseconds, of pgbench's logs, which are removed."""
    times = []
    for path in glob.glob(prefix + ".*"):
        with open(path) as f:
            times += [int(line.split()[2]) for line in f]
        os.unlink(path)
    times.sort()
    return (times[len(times) // 2], times[len(times) * 99 // 100]) if times else (None, None)


def count(scratch, counters, server, cell, script):
    counts, sample = counters.count(server.pids, lambda: pgbench(scratch, server, cell, 1, script))
    return {key: n / sample.transactions for key, n in counts.items()}


def show(opt, cells, names, samples, counts, length):
    """Prints the table; returns the figures."""
    def median(cell, name, field):
        values = [getattr(s, field) for s in samples[cell, name] if getattr(s, field) is not None]
        return statistics.median(values) if values else None

    def ratio(cell, name, field):
        pairs = zip(samples[cell, name], samples[cell, "pgbouncer"])
        values = [getattr(a, field) / getattr(b, field) for a, b in pairs if getattr(b, field)]
        return statistics.median(values) if values else None

    print(f"\nserve: pgbench -S at scale {SCALE} and 1,000 rows of 100 bytes; {length}, pool {opt.pool_size} "
          f"({servers.WIDE} for prepared), {opt.workers} worker(s)\n{servers.versions()}")
    head = ["mode", "clients", "rows", "server", "tps", "+-%", "p50 us", "p99 us", "CPU us/tx", "syscalls/tx"]
    instructions = [k for k in ("insn_user", "insn_kernel") if any(k in c for c in counts.values())]
    rows, figures = [], []
    for cell in cells:
        for name in names:
            tps = [s.tps for s in samples[cell, name]]
            proxied = name != "direct"
            extra = counts.get((cell, name), {})
            met = ["", ""]
            for field, unit in (("tps", "1/s"), ("p50_us", "us"), ("p99_us", "us"), *([("cpu_us", "us")] if proxied else [])):
                if (value := median(cell, name, field)) is not None:
                    figures.append(Figure(f"serve.{label(cell)}.{name}.{field}", round(value, 2), unit))
            figures += [Figure(f"serve.{label(cell)}.{name}.{k}", round(v, 2), "1/tx") for k, v in extra.items()]
            if name == "multigres":
                verdicts = targets(cell, ratio(cell, name, "tps"), ratio(cell, name, "cpu_us"))
                figures += verdicts
                met = [report.number(f.value) + {True: "", False: " NO", None: ""}[f.met] for f in verdicts]
            rows.append([cell.mode, cell.clients, cell.rows, name, median(cell, name, "tps"),
                         50 * (max(tps) - min(tps)) / statistics.median(tps), median(cell, name, "p50_us"),
                         median(cell, name, "p99_us"), median(cell, name, "cpu_us") if proxied else None,
                         extra.get("syscalls"), *(extra.get(k) for k in instructions), *met])
    report.table(rows, head + instructions + [f"tps ratio (>= {TPS_RATIO})", f"CPU ratio (<= {CPU_RATIO})"], left=4)
    return figures


def targets(cell, tps, cpu):
    name = f"serve.{label(cell)}"
    return [at_least(f"{name}.tps_ratio", round(tps, 3), "of PgBouncer", TPS_RATIO) if cell.clients > 1
            else Figure(f"{name}.tps_ratio", round(tps, 3), "of PgBouncer"),
            at_most(f"{name}.cpu_ratio", round(cpu, 3), "of PgBouncer", CPU_RATIO)]
