#!/usr/bin/python3
"""mgctl: each verb on a living node, tables and JSON, exit codes, and the errors of those who mistype."""
import json
import re
import subprocess
import time

from harness import HOST, MGCTL, Cluster, Fail, alive, case, expect, expect_equal, free_port, main, mgctl, wait_until


def code(c, want, *words, **kw):
    got, out, err = c.mgctl(*words, **kw)
    expect_equal(got, want, f"mgctl {' '.join(words)} ({(err or out).strip()[-300:]})")
    return out, err


def actor(c, name):
    for a in c.actors():
        if a["name"] == name:
            return a
    raise Fail(f"there is no actor {name}")


@case("status says what runs where")
def status(c):
    facts = {r["what"]: r["value"] for r in c.ask("status")}
    expect_equal(facts["process"], str(c.node), "process")
    expect_equal(facts["workers"], "2", "workers")
    expect_equal(facts["data"], c.data, "data")
    expect(f"{HOST}:{c.port}" in facts["gate"] and "2 of 2" in facts["gate"], facts["gate"])
    expect("does not answer" not in facts["tablet"], facts["tablet"])
    out, _ = code(c, 0, "status")
    expect(str(c.node) in out and str(c.port) in out, out)


@case("actors shows the tree: every kind, with its state and figures")
def actors(c):
    with c.wire() as w:
        w.ask("begin")
        found = c.actors()
        for column in ("pid", "name", "behaviour", "parent", "state", "mailbox", "handled", "busy_us", "restarts"):
            expect(all(column in a for a in found), f"no column {column}")
        kinds = {a["behaviour"] for a in found}
        names = {a["name"] for a in found}
        for kind in ("gate.session", "tablet.backend"):
            expect(kind in kinds, f"no {kind} among {sorted(kinds)}")
        for name in ("gate.0", "gate.1", "pool.0", "pool.1", "tablet", "store", "flow", "admin", "ready"):
            expect(name in names, f"no {name} among {sorted(n for n in names if n)}")
        pids = [a["pid"] for a in found]
        expect_equal(len(set(pids)), len(pids), "pids that differ")
        known = set(pids)
        for a in found:
            expect(not a["parent"] or a["parent"] in known, f"{a['name'] or a['pid']} has a parent that isn't there: {a['parent']}")
        expect(all(isinstance(a["handled"], int) and a["handled"] >= 0 for a in found), "handled isn't a number")
        expect(any("tx T" in (a.get("detail") or "") for a in found if a["behaviour"] == "gate.session"), "the session's transaction isn't shown")
    out, _ = code(c, 0, "actors")
    expect(re.search(r"^\s+\S*pool\.0", out, re.M), f"no tree: {out[:500]}")
    out, _ = code(c, 0, "actors", "--flat")
    expect("pool.0" in out, out[:300])


@case("kill ends an actor and its supervisor brings another back")
def kill(c):
    for name in ("pool.0", "gate.1", "tablet", "store", "flow", "admin"):
        before = actor(c, name)["pid"]
        out, _ = code(c, 0, "kill", name)
        after = wait_until(lambda: actor(c, name), 5, f"{name} coming back")
        expect(after["pid"] != before, f"{name} is the same as before")
        wait_until(c.serving, 10, f"serving after {name} was killed")
    before = actor(c, "pool.0")["pid"]
    code(c, 0, "kill", before, "--reason", "crashed")
    wait_until(lambda: actor(c, "pool.0")["pid"] != before, 5, "pool.0 coming back")
    wait_until(c.serving, 10, "serving")
    expect_equal(c.node, int({r["what"]: r["value"] for r in c.ask("status")}["process"]), "the node's process")
    _, err = code(c, 1, "kill", "no.such.actor")
    expect("no.such.actor" in err, err)
    _, err = code(c, 1, "kill", "pool.0", "--reason", "whim")
    expect("whim" in err, err)
    for nonsense in ("<999.999.999>", "<>", "<1.2", ""):
        code(c, 1, "kill", nonsense)


@case("restart ends an actor in order and counts")
def restart(c):
    for name in ("pool.1", "gate.0", "flow"):
        before = actor(c, name)
        code(c, 0, "restart", name)
        after = wait_until(lambda: actor(c, name), 5, f"{name} coming back")
        expect(after["pid"] != before["pid"], f"{name} is the same as before")
        expect(after["restarts"] is not None, f"{name}'s restarts aren't counted")
        wait_until(c.serving, 10, f"serving after {name} was restarted")
    code(c, 1, "restart", "no.such.actor")
    with c.wire() as w:
        session = [a["pid"] for a in c.actors() if a["behaviour"] == "gate.session"][0]
        _, err = code(c, 1, "restart", session)
        expect("supervisor" in err, err)
        expect_equal(w.ask("select 1"), [("1",)], "the session")


@case("killing a session ends that client with 57P01 only")
def session(c):
    a, b = c.wire(application_name="victim"), c.wire()
    mine = {s["pid"] for s in c.actors() if s["behaviour"] == "gate.session"}
    expect(len(mine) >= 2, "two sessions aren't shown")
    b.ask("select 1")
    extra = c.wire()
    target = [s["pid"] for s in c.actors() if s["behaviour"] == "gate.session" and s["pid"] not in mine][0]
    code(c, 0, "kill", target)
    last = extra.to_end(5)
    expect(last and last[-1].kind == "E" and last[-1].fields()["C"] == "57P01", f"its last words: {last}")
    for w in (a, b):
        expect_equal(w.ask("select 2"), [("2",)], "another session")
        w.cut()


@case("send delivers any message of the catalog")
def send(c):
    out, _ = code(c, 0, "send", "pool.0", "POOL_SHOW")
    code(c, 0, "send", "tablet", '{"type": "TABLET_WHERE"}')
    out = c.ask("send", "pool.0", "POOL_SHOW")
    expect(isinstance(out, list), f"JSON of a table: {out}")
    code(c, 0, "send", "pool.0", "CANCEL", '{"lease": 99999}')
    code(c, 0, "send", "gate.0", "FLOW", '{"lease": 1, "stop": 1}')
    _, err = code(c, 1, "send", "pool.0", "NO_SUCH_MESSAGE")
    expect("NO_SUCH_MESSAGE" in err, err)
    _, err = code(c, 1, "send", "pool.0", "CANCEL", '{"nosuchfield": 1}')
    expect("nosuchfield" in err, err)
    _, err = code(c, 1, "send", "pool.0", "CANCEL", '{"lease": "text"}')
    expect("lease" in err, err)
    code(c, 2, "send", "pool.0", "CANCEL", '{"lease": ')
    code(c, 2, "send", "pool.0", '{"lease": 1}')
    code(c, 1, "send", "nobody", "CANCEL", "{}")
    code(c, 1, "send", "pool.0", "KERNEL_SPAWN", "{}")
    c.serving()


@case("no message sent by hand, right or wrong, takes the node down", 60)
def hostile(c):
    """Every actor gets messages meant for others, with fields empty; actors may die of it, the node may not."""
    node = c.node
    types = ["POOL_OPEN", "EXECUTE", "LEASED", "REQUEST", "ROWS", "LEASE_LOST", "FLOW", "CANCEL", "RELEASE", "BACKEND_READY",
             "BACKEND_FAILED", "BACKEND_IDLE", "POOL_FORGET", "TABLET_WHERE", "TABLET_SERVING", "AUTH_LOOKUP", "AUTH_ENTRY", "TIMER",
             "DOWN", "IO_BYTES", "IO_CLOSED", "GATE_CANCEL", "GATE_CLIENT", "DONE", "ASK_FAILED"]
    with c.wire() as w:
        w.ask("select 1")
        session = [a["pid"] for a in c.actors() if a["behaviour"] == "gate.session"][0]
        backend = [a["pid"] for a in c.actors() if a["behaviour"] == "tablet.backend"][0]
        for target in (session, backend, "pool.0", "gate.0", "tablet", "store", "flow", "admin", "ready"):
            for t in types:
                if t == "TABLET_SERVING" and target.startswith("pool"):
                    continue  # believes that Postgres is gone, and waits for better news
                got, out, err = c.mgctl("send", target, t, "{}")
                expect(got in (0, 1), f"send {target} {t}: {got} {err}")
                expect_equal(c.node, node, f"the node's pid after send {target} {t}")
    c.wait_serving(20)


@case("trace prints what an actor handles")
def trace(c):
    p = subprocess.Popen([MGCTL, "--node", f"{HOST}:{c.control}", "trace", "pool.0", "--seconds", "2"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    j = subprocess.Popen([MGCTL, "--node", f"{HOST}:{c.control}", "--json", "trace", "pool.1", "--seconds", "2"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.4)
    for _ in range(12):
        c.serving()
    out, err = p.communicate(timeout=15)
    jout, jerr = j.communicate(timeout=15)
    expect_equal((p.returncode, j.returncode), (0, 0), f"exit codes ({err} {jerr})")
    expect("EXECUTE" in out or "EXECUTE" in jout, f"no EXECUTE in {out[:300]!r} nor {jout[:300]!r}")
    decoder, rest, n = json.JSONDecoder(), jout.strip(), 0
    while rest:
        _, at = decoder.raw_decode(rest)
        rest, n = rest[at:].lstrip(), n + 1
    code(c, 1, "trace", "no.such.actor")


@case("dead-letters, workflows, store and pools answer, as JSON too")
def looks(c):
    for words in (("dead-letters",), ("workflows", "list"), ("store", "list"), ("pools",), ("status",), ("actors",)):
        found = c.ask(*words)
        expect(isinstance(found, list), f"{words}: {found}")
        code(c, 0, *words)
    flows = c.ask("workflows", "list")
    expect(any("tablet" in json.dumps(f) for f in flows), f"the tablet's bring-up isn't among {flows}")
    name = next(v for f in flows for k, v in f.items() if k in ("id", "name", "workflow"))
    expect(c.ask("workflows", "show", name), "its steps")
    code(c, 1, "workflows", "show", "no-such-workflow")
    tables = c.ask("store", "list")
    expect(tables, "the store has no tables")
    table = next(v for k, v in tables[0].items() if k in ("table", "name"))
    keys = c.ask("store", "list", table)
    expect(keys, f"table {table} is empty")
    key = next(v for k, v in keys[0].items() if k == "key")
    code(c, 0, "store", "get", table, key)
    code(c, 1, "store", "get", table, "no such key")
    with c.wire() as w:
        w.ask("begin")
        found = c.ask("pools")
        expect(any(r["session"] for r in found), f"no busy backend in {found}")
        raw = c.mgctl("--json", "pools")[1]
        expect(len(json.loads(raw, object_pairs_hook=lambda p: p)[0]) == len(found[0]), "a column twice in pools")


@case("usage errors exit with 2 and say what would be right")
def usage(c):
    for words in (["nonsense"], ["kill"], ["kill", "a", "b"], ["status", "extra"], ["workflows"], ["workflows", "shaw", "x"], ["store", "get", "x"],
                  ["--nonsense", "status"], ["trace", "x", "--seconds", "0"], ["trace", "x", "--seconds", "soon"], ["--node", "nowhere", "status"], []):
        got, out, err = mgctl(*words)
        expect(got == 2 and (err.strip() or not words), f"mgctl {words}: {got} {err}")
    expect("status" in mgctl("statsu")[2], "no suggestion for statsu")
    for words in (["--help"], ["kill", "--help"], ["help"]):
        got, out, err = mgctl(*words)
        expect(got == 0 and "usage" in out.lower() or "mgctl" in out, f"mgctl {words}: {got} {out} {err}")


@case("no node: exit code 3 and a message that names the address, quickly")
def nobody(_c):
    port = free_port()
    began = time.monotonic()
    got, out, err = mgctl("status", node=f"{HOST}:{port}")
    expect_equal(got, 3, f"exit code ({err})")
    expect(str(port) in err, err)
    expect(time.monotonic() - began < 10, "it took over 10 s")
    import socket
    with socket.socket() as s:  # somebody who isn't a node
        s.bind((HOST, free_port()))
        s.listen(5)
        got, out, err = mgctl("status", node=f"{HOST}:{s.getsockname()[1]}", seconds=60)
        expect_equal(got, 3, f"exit code with a listener that says nothing ({err})")


@case("garbage at the control port disturbs nobody")
def garbage(c):
    import os
    import socket
    for data in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(300), b"\0SP\0\0\x31\0\0" + b"\x7f" * 100, b"\0SP\0\0\x30\0\0" + b"\xff" * 8,
                 b"\0SP\0\0\x30\0\0" + b"\0" * 7 + b"\x10" + os.urandom(16), b"\0SP\0\0\x30\0\0\0\0\0\0\0\0\0\x08\x80\0\0\x01\x92\xd9\xff\xc4"):
        with socket.create_connection((HOST, c.control), 5) as s:
            s.sendall(data)
            s.settimeout(0.2)
            try:
                s.recv(1000)
            except OSError:
                pass
    code(c, 0, "status")
    c.serving()


@case("stop stops the node and its Postgres, with exit code 0", 60)
def stop(_c):
    c = Cluster("stopped").start()
    pids = [c.node, c.postmaster()[0]]
    code(c, 0, "stop")
    expect_equal(c.process.wait(30), 0, "its exit code")
    c.process = None
    expect(not [p for p in pids if alive(p)], "processes were left")


if __name__ == "__main__":
    main(lambda: Cluster("mgctl").start(), lambda c: c.stop())
