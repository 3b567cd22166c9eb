"""The command line of scripts/bench: which benchmark, how long, and where its figures go.

Exit status: 0 it measured (a missed target is shown, it is not a failure), 1 it could not measure, 2 usage.
"""
import argparse
import os
import signal
import sys

import idle
import programs
import report
import restart
import serve
from proc import BenchError, Scratch

BENCHMARKS = {
    "runtime": (programs.runtime, "actors, messages, timers and the store; Erlang beside each figure"),
    "sim": (programs.sim, "simulated time against real time, same seed same trace"),
    "restart": (restart.run, "kill -9 of the node to the next answered query"),
    "serve": (serve.run, "throughput, latency, CPU and syscalls per transaction; PgBouncer beside it"),
    "idle": (idle.run, "memory per idle client, and many idle clients beside active ones"),
}


def parse(argv):
    names = "\n".join(f"  {name:<9}{what}" for name, (_, what) in BENCHMARKS.items())
    ap = argparse.ArgumentParser(
        prog="scripts/bench", description="Benchmarks:\n" + names + "\n  all      each of them",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("name", choices=[*BENCHMARKS, "all"], metavar="NAME")
    ap.add_argument("--quick", action="store_true", help="one short round and fewer cases: a smoke test, noisy")
    ap.add_argument("--json", metavar="FILE", help="write the figures as a list of {name,value,unit,target,met}")
    ap.add_argument("--pool-size", type=positive, default=20, metavar="N",
                    help="backends of each pooler in serve and idle (default %(default)s)")
    ap.add_argument("--workers", type=positive, default=1, metavar="N",
                    help="Multigres's workers in serve and idle (default %(default)s, as PgBouncer has one thread)")
    ap.add_argument("--rounds", type=positive, metavar="N", help="rounds of serve, runs of restart")
    ap.add_argument("--seconds", type=positive, metavar="N", help="length of each run of serve")
    return ap.parse_args(argv)


def positive(text):
    n = int(text)
    if n < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return n


def terminated(signum, _frame):
    raise SystemExit(128 + signum)


def main(argv):
    opt = parse(argv)
    for name in [n for n in os.environ if n.startswith("PG")]:
        del os.environ[name]  # nobody's defaults for psql and pgbench
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell's & has it ignored
    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGHUP, terminated)
    figures, failed = [], False
    for name in BENCHMARKS if opt.name == "all" else [opt.name]:
        try:
            with Scratch() as scratch:
                figures += BENCHMARKS[name][0](scratch, opt)
        except BenchError as e:
            report.clear_progress()
            print(f"bench {name}: {e}", file=sys.stderr)
            failed = True
        except KeyboardInterrupt:
            report.clear_progress()
            print("bench: interrupted", file=sys.stderr)
            return 130
    if opt.json:
        report.write_json(opt.json, figures)
    missed = [f for f in figures if f.met is False]
    print(f"{len(figures)} figures, {sum(f.met is True for f in figures)} targets met, {len(missed)} missed")
    return 1 if failed else 0
