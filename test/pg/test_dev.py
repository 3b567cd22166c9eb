#!/usr/bin/python3
"""`multigres dev` as a program: how it starts, what it refuses and with which words, how it stops, what HTTP says."""
import os
import re
import socket
import subprocess

import harness
from harness import HOST, Cluster, Fail, case, expect, expect_equal, free_port, main, scratch


def refused(*words, seconds=30, code=None, data=None, options=()):
    """Runs dev, which must end by itself with an error; gives (code, stderr)."""
    c = Cluster("refused", data=data) if not words else None
    argv = [harness.MULTIGRES, *words] if words else c.argv() + list(options)
    try:
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           timeout=seconds, cwd="/")
    except subprocess.TimeoutExpired as e:
        raise Fail(f"it went on for {seconds} s; it said: {(e.stderr or b'').decode()[-400:]}")
    expect(p.returncode != 0, f"it was accepted: {p.stdout}")
    expect(p.returncode > 0, f"it died of signal {-p.returncode}: {p.stderr[-500:]}")
    expect("ready " not in p.stdout, "it said it was ready")
    expect(p.stderr.strip(), "nothing was said on stderr")
    if code is not None:
        expect_equal(p.returncode, code, f"exit code ({p.stderr.strip()[-300:]})")
    return p.returncode, p.stderr


def says(text, *words):
    for w in words:
        expect(re.search(w, text), f"{w!r} isn't in: {text.strip()[-600:]}")


@case("dev prints one ready line with a URL and serves it")
def ready(c):
    with open(c.out) as f:
        lines = f.read().splitlines()
    expect_equal(len(lines), 1, "lines on stdout")
    expect(re.fullmatch(rf"ready postgresql://\w+@127\.0\.0\.1:{c.port}/\w+\S*", lines[0]), lines[0])
    c.serving()
    expect(c.postmaster(), "its Postgres has no postmaster.pid")
    expect_equal(c.postmaster()[1], c.pg_port, "Postgres's port")
    p = subprocess.run(["psql", "-XAtc", "select 7 * 6", c.url], capture_output=True, text=True, timeout=20)
    expect_equal(p.stdout.strip(), "42", f"psql with the URL ({p.stderr})")


@case("readyz, healthz and the page answer over HTTP")
def health(c):
    expect_equal(c.get("/readyz")[0], 200, "/readyz")
    expect_equal(c.get("/healthz")[0], 200, "/healthz")
    code, page = c.get("/")
    expect_equal(code, 200, "/")
    expect("html" in page.lower(), "/ is no page")
    expect_equal(c.get("/nothing-here")[0], 404, "an unknown path")
    with socket.create_connection((HOST, c.http), 5) as s:
        s.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        s.settimeout(5)
        expect(re.match(rb"HTTP/1.\d 4\d\d", s.recv(200)), "a POST wasn't refused")


@case("every metric has HELP, TYPE, our prefix and a number")
def metrics(c):
    c.serving()
    code, text = c.get("/metrics")
    expect_equal(code, 200, "/metrics")
    helps, types, seen = set(), {}, set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, about = line[7:].partition(" ")
            expect(name not in helps, f"HELP twice: {name}")
            expect(len(about) > 8, f"no help worth its name: {line}")
            helps.add(name)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            expect(kind in ("counter", "gauge", "histogram", "summary"), line)
            expect(name not in types, f"TYPE twice: {name}")
            types[name] = kind
        elif line and not line.startswith("#"):
            found = re.fullmatch(r'([a-zA-Z_:][\w:]*)(\{(?:\w+="(?:[^"\\]|\\.)*",?)*\})? (\S+)', line)
            expect(found, f"not a sample: {line}")
            float(found.group(3))
            name = re.sub(r"_(bucket|sum|count)$", "", found.group(1)) if found.group(1) not in types else found.group(1)
            expect(name in types and name in helps, f"no HELP or TYPE for {found.group(1)}")
            expect(name.startswith("multigres_"), f"a foreign name: {name}")
            if types[name] == "counter":
                expect(name.endswith("_total"), f"a counter that isn't _total: {name}")
            seen.add(name)
    expect(len(seen) > 10, f"only {len(seen)} metrics")
    expect(seen == set(types), f"declared but never shown: {sorted(set(types) - seen)[:5]}")
    for w in ("gate", "pool"):
        expect(any(w in n for n in seen), f"no metric of the {w}")


@case("a second start on the same data directory refuses and names the pid")
def second(c):
    _, err = refused(data=c.data, code=1)
    says(err, "in use", rf"\b({c.parent}|{c.node})\b")
    c.serving()


@case("a taken port is an error that names the flag to change", 90)
def taken(c):
    for option, port in (("--listen", c.port), ("--http", c.http), ("--control", c.control)):
        _, err = refused(options=[option, f"{HOST}:{port}"], code=1)
        says(err, str(port), option)
    _, err = refused(options=["--pg-port", str(c.pg_port)], seconds=25, code=1)
    says(err, str(c.pg_port), "--pg-port")
    c.serving()


@case("unknown and senseless flags are usage errors")
def flags(_c):
    for words in (["dev", "--nonsense"], ["dev", "--lisen", "127.0.0.1:20000"], ["dev", "extra"], ["dev", "-x"],
                  ["dev", "--workers", "0"], ["dev", "--workers", "many"], ["dev", "--workers"], ["dev", "--pool-size", "-3"],
                  ["dev", "--auth", "maybe"], ["dev", "--listen", "nowhere"], ["dev", "--listen", "127.0.0.1:99999"],
                  ["dev", "--listen", "127.0.0.1:20000", "--http", "127.0.0.1:20000"], ["dev", "--tls-cert", "/etc/hostname"],
                  ["dev", "--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"], ["deev"], [],
                  ["dev", "--wait-timeout", "3 parsecs"], ["dev", "--log-level", "loud"]):
        p = subprocess.run([harness.MULTIGRES, *words, *(["--data", "/nonexistent/x"] if words[:1] == ["dev"] else [])],
                           capture_output=True, text=True, timeout=20, cwd="/")
        expect(p.returncode == 2 and p.stderr.strip(), f"{words}: {p.returncode} {p.stderr}")
    says(refused("dev", "--lisen", "x")[1], "--listen")
    expect(not os.path.exists("/nonexistent"), "a directory was made for a usage error")


@case("ports from 32768 on are refused")
def high(_c):
    for option, value in (("--listen", f"{HOST}:40000"), ("--http", f"{HOST}:32768"), ("--control", f"{HOST}:65535"),
                          ("--pg-port", "32768")):
        _, err = refused(options=[option, value], code=2)
        says(err, option)


@case("--help and version say what there is")
def helps(_c):
    for words, wanted in ((["dev", "--help"], ["--listen", "--attach", "--pool-size"]), (["--help"], ["dev"]),
                          (["version"], [r"\d+\.\d+"]), (["help"], ["dev"])):
        p = subprocess.run([harness.MULTIGRES, *words], capture_output=True, text=True, timeout=20)
        expect_equal(p.returncode, 0, f"{words}")
        says(p.stdout, *wanted)


@case("an option may come from the environment, and a bad one there is named")
def environment(_c):
    env = {**os.environ, "MULTIGRES_WORKERS": "none"}
    p = subprocess.run([harness.MULTIGRES, "dev", "--data", "/nonexistent/x"], capture_output=True, text=True, timeout=20, env=env)
    expect_equal(p.returncode, 2, f"exit code ({p.stderr})")
    says(p.stderr, "MULTIGRES_WORKERS")


@case("a data directory with foreign files is refused and untouched")
def foreign(_c):
    d = scratch("foreign")
    for name in ("precious.txt", "PG_VERSION"):
        with open(os.path.join(d, name), "w") as f:
            f.write("15\n")
    before = sorted((n, os.stat(os.path.join(d, n)).st_mtime_ns) for n in os.listdir(d))
    _, err = refused(data=d, code=1)
    says(err, re.escape(d))
    expect_equal(sorted((n, os.stat(os.path.join(d, n)).st_mtime_ns) for n in os.listdir(d)), before, "its files")
    with open(os.path.join(d, "file"), "w"):
        pass
    _, err = refused(data=os.path.join(d, "file"), code=1)
    says(err, re.escape(d))


@case("a data directory of somebody else is refused and untouched")
def others(_c):
    if os.getuid():
        raise harness.Skip("needs root")
    d = scratch("others")
    os.chown(d, 65534, 65534)
    _, err = refused(data=d, code=1)
    says(err, "another user|uid")
    expect_equal(os.listdir(d), [], "its files")


@case("a data directory of a newer format is refused")
def newer(_c):
    d = scratch("newer")
    with open(os.path.join(d, "MULTIGRES"), "w") as f:
        f.write("multigres data directory, format 99\n")
    _, err = refused(data=d, code=1)
    says(err, "format")
    expect_equal(os.listdir(d), ["MULTIGRES"], "its files")


@case("a cluster that isn't ours where Postgres's should be is left alone", 90)
def not_ours(_c):
    d = scratch("notours")
    c = Cluster("notours", data=d).start()
    pgdata = os.readlink(f"/proc/{c.postmaster()[0]}/cwd")
    c.stop()
    expect(not c.postmaster(), "Postgres still runs")
    os.rename(os.path.join(pgdata, "multigres.mark"), os.path.join(pgdata, "mark.gone"))
    before = sorted(os.listdir(pgdata))
    _, err = refused(data=d, seconds=25, code=1)
    says(err, "not made by Multigres")
    expect_equal(sorted(os.listdir(pgdata)), before, "its files")


@case("missing Postgres binaries are named", 90)
def missing(_c):
    _, err = refused(options=["--pg-bin", "/nonexistent"], seconds=25, code=1)
    says(err, "/nonexistent", "--pg-bin")


@case("a Postgres of another version is refused", 90)
def version(_c):
    d = scratch("pgbin")
    for name, text in (("postgres", "postgres (PostgreSQL) 9.6.24"), ("initdb", "initdb (PostgreSQL) 9.6.24")):
        path = os.path.join(d, name)
        with open(path, "w") as f:
            f.write(f"#!/bin/sh\necho '{text}'\n")
        os.chmod(path, 0o755)
    _, err = refused(options=["--pg-bin", d], seconds=25, code=1)
    says(err, r"Postgres 9")


@case("a Postgres that fails to start shows the last lines of its log", 120)
def fails(_c):
    c = Cluster("broken").start()
    pgdata = os.readlink(f"/proc/{c.postmaster()[0]}/cwd")
    c.stop()
    with open(os.path.join(pgdata, "postgresql.conf"), "a") as f:
        f.write("\nshared_preload_libraries = 'no_such_library_xyz'\n")
    _, err = refused(data=c.data, seconds=40, code=1)
    says(err, "no_such_library_xyz")
    expect(not c.postmaster(), "a Postgres was left running")


@case("SIGTERM and SIGINT stop it and its Postgres, and a restart keeps the data", 120)
def restart(_c):
    c = Cluster("restart").start()
    with c.connect() as db:
        db.execute("create table kept (i int)")
    for n, sig in enumerate((harness.signal.SIGTERM, harness.signal.SIGINT), 1):
        with c.connect() as db:
            db.execute("insert into kept values (1)")
            pids = [c.node, c.postmaster()[0]]
            c.stop(sig)
        expect(not [p for p in pids if harness.alive(p)], "processes were left")
        expect(not c.postmaster(), "Postgres was left running")
        c.start()
        with c.connect() as db:
            expect_equal(db.execute("select count(*) from kept").fetchone()[0], n, "rows kept")
    c.stop()


@case("SIGTERM while it starts ends it, leaving nothing behind, and the next start serves", 120)
def early(_c):
    import time
    c = Cluster("early")
    for pause in (0.05, 0.5, 1.2):
        c.spawn()
        time.sleep(pause)
        process, c.process = c.process, None
        process.terminate()
        code = process.wait(harness.STOP_S)
        expect(code in (0, 1), f"exit code {code} after {pause} s")
        expect(not c.postmaster(), "Postgres was left running")
    c.start()
    c.serving()
    c.stop()


@case("stopping ends idle clients with 57P01 and answers nobody half", 60)
def goodbye(_c):
    c = Cluster("goodbye").start()
    idle = c.wire()
    c.stop()
    last = idle.to_end()
    expect(last and last[-1].kind == "E" and last[-1].fields()["C"] == "57P01", f"the last words: {last}")


if __name__ == "__main__":
    main(lambda: Cluster("dev").start(), lambda c: c.stop())
