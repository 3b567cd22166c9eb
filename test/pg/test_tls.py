#!/usr/bin/python3
"""TLS on both sides: clients to the gate with every sslmode, channel binding, injection; the gate to Postgres."""
import os
import shutil
import ssl
import subprocess

import psycopg

import harness
from harness import (GSS_REQUEST, HOST, SSL_REQUEST, Cluster, Closed, Fail, Postgres, Refused, Wire, case, errors, expect,
                     expect_equal, main, query, rows, scratch, startup)

S = {}


def certificate(d, name, host):
    cert, key = os.path.join(d, f"{name}.crt"), os.path.join(d, f"{name}.key")
    p = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host},IP:{HOST}", "-keyout",
                        key, "-out", cert], capture_output=True, text=True, timeout=60)
    expect(p.returncode == 0, p.stderr)
    return cert, key


def setup():
    d = S["dir"] = scratch("certs")
    S["cert"], S["key"] = certificate(d, "gate", "localhost")
    S["other"], _ = certificate(d, "other", "localhost")
    c = Cluster("tls", "--tls-cert", S["cert"], "--tls-key", S["key"], auth="scram").start()
    with c.direct() as db:
        db.execute("create role alice login password 'pw'")
    return c


def connect(c, host="localhost", password="pw", **more):
    words = dict(hostaddr=HOST, port=c.port, user="alice", password=password, dbname=c.db, connect_timeout=10, host=host)
    words.update(more)
    return psycopg.connect(" ".join(f"{k}={v}" for k, v in words.items()), autocommit=True)


def refused(c, *parts, **words):
    try:
        connect(c, **words).close()
    except psycopg.OperationalError as e:
        for p in parts:
            expect(p in str(e), f"{p!r} isn't in: {e}")
        return
    raise Fail(f"let in with {words}")


@case("sslmode=require and verify-full are let in and encrypted")
def modes(c):
    for words in (dict(sslmode="require"), dict(sslmode="verify-full", sslrootcert=S["cert"]), dict(sslmode="prefer")):
        with connect(c, **words) as db:
            expect(db.pgconn.ssl_in_use, f"not encrypted with {words}")
            expect_equal(db.execute("select current_user").fetchone(), ("alice",), "who we are")
            expect_equal(db.execute("select repeat('x', 3000000)").fetchone()[0], "x" * 3000000, "a large value")


@case("sslmode=verify-full refuses another's certificate and another's name")
def verify(c):
    refused(c, "certificate verify failed", sslmode="verify-full", sslrootcert=S["other"])
    refused(c, "does not match", sslmode="verify-full", sslrootcert=S["cert"], host="db.example.org")


@case("sslmode=disable works beside it, unencrypted")
def plain(c):
    with connect(c, sslmode="disable") as db:
        expect(not db.pgconn.ssl_in_use, "encrypted")
        expect_equal(db.execute("select 1").fetchone(), (1,), "select 1")


@case("SCRAM-SHA-256-PLUS is offered under TLS only, and channel binding works")
def binding(c):
    with connect(c, sslmode="require", channel_binding="require") as db:
        expect_equal(db.execute("select 1").fetchone(), (1,), "select 1")
    refused(c, "password", sslmode="require", channel_binding="require", password="wrong")
    refused(c, sslmode="disable", channel_binding="require")
    with Wire(HOST, c.port) as w:
        w.login("alice", c.db, "pw")
        expect_equal(w.mechanisms, ["SCRAM-SHA-256"], "what is offered without TLS")
    with Wire(HOST, c.port) as w:
        w.tls().login("alice", c.db, "pw")
        expect_equal(w.mechanisms, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], "what is offered with TLS")


@case("bytes sent before the handshake are refused, not taken for the client's")
def injection(c):
    for stuffed in (startup("alice", c.db), b"\x16", query("select 1")):
        with Wire(HOST, c.port) as w:
            w.send(SSL_REQUEST + stuffed)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            try:
                answer = w.read_bytes(1)
                if answer == b"E":  # Postgres's words: "received unencrypted data after SSL request"
                    continue
                expect_equal(answer, b"S", "the answer to SSLRequest")
                w.sock = context.wrap_socket(w.sock)
                w.login("alice", c.db, "pw")
            except (Closed, OSError, ssl.SSLError):
                continue
            raise Fail("let in with bytes stuffed before the handshake")


@case("what comes after SSLRequest is checked: no second one, GSS is declined, cancel works")
def order(c):
    with Wire(HOST, c.port) as w:
        w.send(GSS_REQUEST)
        expect_equal(w.read_bytes(1), b"N", "the answer to GSSENCRequest")
        w.tls().login("alice", c.db, "pw")
        expect_equal(w.ask("select 1"), [("1",)], "select 1")
    with Wire(HOST, c.port) as w:
        w.tls()
        w.send(SSL_REQUEST)
        try:
            answer = w.read_bytes(1, 5)
        except Closed:
            answer = b""
        expect(answer != b"S", "a second SSLRequest within TLS was granted")
    with Wire(HOST, c.port) as w, Wire(HOST, c.port) as k:
        w.tls().login("alice", c.db, "pw")
        w.send(query("select pg_sleep(20)"))
        harness.time.sleep(0.3)
        k.tls().send(harness.cancel_request(w.pid, w.secret))
        expect_equal([e["C"] for e in errors(w.until("Z", seconds=10))], ["57014"], "a cancel sent under TLS")


@case("broken handshakes disturb nobody", 60)
def broken(c):
    good = Wire(HOST, c.port).tls().login("alice", c.db, "pw")
    for n in range(60):
        w = Wire(HOST, c.port)
        w.send(SSL_REQUEST)
        expect_equal(w.read_bytes(1), b"S", "the answer to SSLRequest")
        w.sock.sendall((b"\x16\x03\x01\x02\x00" + os.urandom(200), os.urandom(100), b"", b"\x16\x03\x01", b"\x15\x03\x03\0\2\2\50")[n % 5])
        w.cut(hard=n % 2 == 0)
    expect_equal(good.ask("select 1"), [("1",)], "the bystander")
    good.cut()


@case("a client byte by byte through TLS, and many at once", 60)
def dribble(c):
    with Wire(HOST, c.port) as w:
        w.tls().login("alice", c.db, "pw")
        for b in query("select 'dribbled'"):
            w.send(bytes([b]))
        expect_equal(rows(w.until()), [("dribbled",)], "the answer")
    load = harness.Workers()

    def one(n):
        for i in range(5):
            with connect(c, sslmode="require") as db:
                expect_equal(db.execute("select %s", (f"{n}.{i}",)).fetchone(), (f"{n}.{i}",), "own marker")
    for n in range(16):
        load.add(one, n)
    load.stop(40)


@case("without a certificate SSLRequest is answered with N, and sslmode=require fails", 60)
def without(_c):
    c = Cluster("notls").start()
    with Wire(HOST, c.port) as w:
        w.send(SSL_REQUEST)
        expect_equal(w.read_bytes(1), b"N", "the answer to SSLRequest")
        w.login(c.user, c.db)
        expect_equal(w.ask("select 1"), [("1",)], "the same connection, unencrypted")
    try:
        c.connect(sslmode="require").close()
        raise Fail("sslmode=require was let in")
    except psycopg.OperationalError as e:
        expect("does not support SSL" in str(e), str(e))
    c.stop()


@case("a key that doesn't fit the certificate is an error at start", 60)
def misfit(_c):
    _, key = certificate(S["dir"], "misfit", "localhost")
    c = Cluster("misfit", "--tls-cert", S["cert"], "--tls-key", key)
    try:
        c.start(30)
    except Fail:
        expect(c.process and c.process.poll() not in (None, 0), "it neither served nor ended with an error")
        text = c.log.text()
        expect("key" in text and ("tls" in text.lower() or "cert" in text), f"what it said: {text[-300:]}")
        return
    raise Fail("it serves with a key that doesn't fit")


@case("the gate speaks TLS to Postgres with --attach, as sslmode says", 90)
def backend(_c):
    for name in ("gate.crt", "gate.key"):
        shutil.copy(os.path.join(S["dir"], name), os.path.join(S["dir"], f"pg-{name}"))
        path = os.path.join(S["dir"], f"pg-{name}")
        if harness.postgres_user():
            os.chown(path, harness.postgres_user().pw_uid, harness.postgres_user().pw_gid)
        os.chmod(path, 0o600)
    pg = Postgres("tlspg", hba="local all all trust\nhostssl all all all trust\n", ssl="on",
                  ssl_cert_file=os.path.join(S["dir"], "pg-gate.crt"), ssl_key_file=os.path.join(S["dir"], "pg-gate.key"))
    c = Cluster("tlspg-gate", attach=pg.conninfo(sslmode="require")).start()
    with c.wire() as w:
        w.ask("begin")
        expect_equal(w.ask("select ssl from pg_stat_ssl where pid = pg_backend_pid()"), [("t",)], "the backend's ssl")
        w.ask("commit")
    c.stop()
    bad = Cluster("tlspg-bad", attach=pg.conninfo(sslmode="verify-full", sslrootcert=S["other"]))
    try:
        bad.start(6)
        bad.wire().cut()
        raise Fail("verify-full took another's certificate")
    except (Fail, Refused) as e:
        expect("took another" not in str(e), str(e))


if __name__ == "__main__":
    main(setup, lambda c: c.stop())
