"""runtime and sim: C programs of ours that print a figure a line, and the same programs in Erlang beside them."""
import json
import os
import shutil

import proc
import report
from proc import BenchError
from report import Figure

DEADLINE_S = 300


def runtime(scratch, opt):
    ours, erlang = {}, {}
    if os.path.exists("test/bench/bench_runtime.c"):
        report.progress("runtime: our runtime")
        ours = program("bench_runtime", opt)
    else:
        print("test/bench/bench_runtime.c isn't there yet: only Erlang is measured")
    if shutil.which("erlc"):
        report.progress("runtime: Erlang")
        erlang = lines(proc.command(["test/bench/erlang/run", scratch.mkdir("erlang"), *quick(opt)], DEADLINE_S))
    else:
        print("erlang-base isn't installed (scripts/setup test): its column is left out")
    report.clear_progress()
    for name, f in erlang.items():
        if name in ours:
            ours[name].reference = report.number(f.value)
    shown = list(ours.values()) or list(erlang.values())
    report.figures("runtime: CPU time per operation unless the name says otherwise", shown, "Erlang")
    return [*ours.values(), *(Figure(f"erlang.{f.name}", f.value, f.unit) for f in erlang.values())]


def sim(scratch, opt):
    if not os.path.exists("test/bench/bench_sim.c"):
        print("test/bench/bench_sim.c isn't there yet: nothing to measure")
        return []
    figures = list(program("bench_sim", opt).values())
    report.figures("sim: nine nodes of fifty actors", figures)
    return figures


def quick(opt):
    return ["--quick"] if opt.quick else []


def program(name, opt):
    return lines(proc.command([proc.make(f"test/bench/{name}"), *quick(opt)], DEADLINE_S))


def lines(text):
    """{name: Figure} of the lines of JSON in a program's output."""
    found = {}
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                d = json.loads(line)
                found[d["name"]] = Figure(d["name"], d["value"], d["unit"], d.get("target"), d.get("met"))
            except (ValueError, KeyError) as e:
                raise BenchError(f"not a figure ({e}): {line}") from None
    if not found:
        raise BenchError("the program printed no figures")
    return found
