#!/usr/bin/python3
"""Logging in: SCRAM-SHA-256 with the verifiers of Postgres, as our own tablet and with --attach; trust."""
import struct
import time

import psycopg

from harness import (HOST, Cluster, Fail, Postgres, Refused, Scram, Wire, case, cstr, errors, expect, expect_equal, main,
                     message, rows, startup)

STATE = {}


def setup():
    c = Cluster("scram", auth="scram").start()
    with c.direct() as db:
        for sql in ("create role alice login password 'correct horse'", "create role bob login",
                    "create role nologin password 'x'", "create role odd login password 'pä ß=,n=\u00a0x'",
                    "set password_encryption = md5", "create role old login password 'md5'", "reset password_encryption",
                    "create role super superuser login password 'super'", "create role pooled login password 'one'"):
            db.execute(sql)
    return c


def login(c, user, password, database=None, **settings):
    return Wire(HOST, c.port).login(user, database or c.db, password, **settings)


def refused(c, user, password, code="28P01", database=None):
    try:
        login(c, user, password, database).cut()
    except Refused as e:
        expect_equal((e.fields["C"], e.fields["V"]), (code, "FATAL"), f"the refusal of {user} ({e})")
        return e.fields
    raise Fail(f"{user} was let in")


@case("the right password is let in, with SCRAM, as that user")
def right(c):
    with login(c, "alice", "correct horse") as w:
        expect("SCRAM-SHA-256" in w.mechanisms, w.mechanisms)
        expect_equal(w.ask("select session_user, current_user"), [("alice", "alice")], "who we are")
    with psycopg.connect(c.conninfo(user="alice", password="'correct horse'")) as db:
        expect_equal(db.execute("select current_user").fetchone(), ("alice",), "psycopg's user")


@case("a password that SASLprep changes works as in Postgres")
def prep(c):
    with psycopg.connect(c.conninfo(user="odd"), password="pä ß=,n= x") as db:
        expect_equal(db.execute("select current_user").fetchone(), ("odd",), "who we are")


@case("a wrong password, an unknown user and a user without a password are told the same")
def wrong(c):
    said = [refused(c, "alice", "wrong"), refused(c, "nobody_here", "x"), refused(c, "bob", "x"), refused(c, "old", "md5"),
            refused(c, "alice", "")]
    words = {f["M"].replace(u, "USER") for f, u in zip(said, ("alice", "nobody_here", "bob", "old", "alice"))}
    expect_equal(words, {'password authentication failed for user "USER"'}, "what was said")
    expect(all("D" not in f and "H" not in f for f in said), "a detail gives something away")


@case("a user that may not log in is refused after his password was right, as Postgres does")
def nologin(c):
    f = refused(c, "nologin", "x", "28000")
    expect_equal(f["M"], 'role "nologin" is not permitted to log in', "what was said")


@case("an unknown user's exchange looks like a known one's")
def mock(c):
    def salt(user):
        with Wire(HOST, c.port) as w:
            w.send(startup(user, c.db))
            m = w.read()
            expect_equal(struct.unpack_from("!I", m.body)[0], 10, "authentication request")
            first = Scram("x").first()
            w.send(message("p", cstr("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
            m = w.read()
            return dict(p.split("=", 1) for p in m.body[4:].decode().split(","))
    one, two, known = salt("nobody_here"), salt("nobody_here"), salt("alice")
    expect_equal(one["s"], two["s"], "the salt of an unknown user, asked twice")
    expect(one["r"] != two["r"], "the nonce was used twice")
    expect(salt("somebody_else")["s"] != one["s"], "all unknown users have one salt")
    expect_equal((one["i"], len(one["s"])), (known["i"], len(known["s"])), "iterations and length of the salt")


@case("a changed password counts at once, also for a user with pooled backends")
def changed(c):
    with login(c, "pooled", "one") as w:
        w.ask("select 1")
        with c.direct() as db:
            db.execute("alter role pooled password 'two'")
        refused(c, "pooled", "one")
        with login(c, "pooled", "two") as w2:
            expect_equal(w2.ask("select current_user"), [("pooled",)], "who we are")
        expect_equal(w.ask("select 2"), [("2",)], "a session from before")
    with c.direct() as db:
        db.execute("alter role pooled nologin")
    refused(c, "pooled", "two", "28000")


@case("a password that expired is refused")
def expired(c):
    with c.direct() as db:
        db.execute("create role late login password 'x' valid until '2001-01-01'")
    refused(c, "late", "x")


@case("a database that doesn't exist gets Postgres's own words")
def database(c):
    f = refused(c, "alice", "correct horse", "3D000", "no_such_db")
    expect_equal(f["M"], 'database "no_such_db" does not exist', "what was said")


@case("a database without CONNECT for the user is refused")
def privilege(c):
    with c.direct() as db:
        db.execute("create database closed")
        db.execute("revoke connect on database closed from public")
    refused(c, "alice", "correct horse", "42501", "closed")
    login(c, "super", "super", "closed").cut()


@case("no client answers for another: users don't share backends")
def separate(c):
    with login(c, "super", "super") as s, login(c, "alice", "correct horse") as a:
        for _ in range(10):
            expect_equal(s.ask("select current_user, session_user"), [("super", "super")], "super")
            expect_equal(a.ask("select current_user, session_user"), [("alice", "alice")], "alice")
        e = errors(a.query("select * from pg_authid"))
        expect(e and e[0]["C"] == "42501", f"alice reads pg_authid: {e}")


@case("a client that breaks off or talks nonsense in the exchange disturbs nobody")
def nonsense(c):
    good = login(c, "alice", "correct horse")
    for answer in (message("p", b""), message("p", cstr("SCRAM-SHA-1") + struct.pack("!i", -1)),
                   message("p", cstr("SCRAM-SHA-256") + struct.pack("!I", 1 << 30)), message("Q", cstr("select 1")),
                   message("p", cstr("SCRAM-SHA-256") + struct.pack("!I", 3) + b"n,,"),
                   message("p", cstr("SCRAM-SHA-256-PLUS") + struct.pack("!I", 9) + b"p=tls,,n="),

                   b"p\0\0\0\1", b"p\x7f\xff\xff\xff", b"\0" * 50, message("p", b"x" * 9000)):
        with Wire(HOST, c.port) as w:
            w.send(startup("alice", c.db))
            expect_equal(w.read().kind, "R", "the first answer")
            w.send(answer)
            end = w.to_end(10)
            expect(all(m.kind == "E" and m.fields()["S"] == "FATAL" for m in end), f"{answer[:40]!r}: {end}")
    with Wire(HOST, c.port) as w:  # a proof for another nonce
        w.send(startup("alice", c.db))
        w.read()
        s = Scram("correct horse")
        first = s.first()
        w.send(message("p", cstr("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
        m = w.read()
        w.send(message("p", s.final(m.body[4:]).replace(b"r=", b"r=x")))
        expect(errors(w.to_end()), "a changed nonce was accepted")
    expect_equal(good.ask("select 1"), [("1",)], "the bystander")
    good.cut()


@case("a client that never answers doesn't keep others waiting")
def silent(c):
    held = [Wire(HOST, c.port).send(startup("alice", c.db)) for _ in range(50)]
    began = time.monotonic()
    login(c, "alice", "correct horse").cut()
    expect(time.monotonic() - began < 5, "logging in took over 5 s")
    for w in held:
        w.cut()


@case("with --attach as a role that can't read verifiers, SCRAM says what is missing", 90)
def attach_lesser(_c):
    pg = Postgres("lesser")
    with pg.connect() as db:
        db.execute("create role gate login")
        db.execute("create role alice login password 'pw'")
    c = Cluster("lesser-gate", auth="scram", attach=pg.conninfo(user="gate")).start()
    try:
        login(c, "alice", "pw").cut()
        raise Fail("alice was let in without a verifier to check against")
    except Refused as e:
        text = " ".join(e.fields.get(k, "") for k in "MDH")
        expect("pg_authid" in text, f"what is missing isn't said: {text}")
    with pg.connect() as db:
        db.execute("grant select on pg_authid to gate")

    def lets_in():
        with login(c, "alice", "pw") as w:
            return w.ask("select current_user") == [("alice",)]
    from harness import wait_until
    wait_until(lambda: lets_in() or True, 10, "the grant counting", every=0.5)
    refused(c, "alice", "wrong")
    c.stop()


@case("the role of --attach logs in by SCRAM with its password, also when it can't read verifiers", 90)
def attach_own_role(_c):
    pg = Postgres("own-role", password_encryption="scram-sha-256",
                  hba="local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n")
    with pg.connect() as db:
        db.execute("create role gate login password 'sec'")
    c = Cluster("own-role-gate", auth="scram", attach=pg.conninfo(user="gate", password="sec")).start()
    with login(c, "gate", "sec") as w:
        expect_equal(w.ask("select current_user"), [("gate",)], "the role of the backend")
    refused(c, "gate", "wrong")
    c.stop()


@case("SCRAM with --attach passes the client's own keys to a Postgres that asks for them", 90)
def attach_scram(_c):
    pg = Postgres("keys", password_encryption="scram-sha-256",
                  hba="local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n")
    with pg.connect() as db:
        db.execute("create role alice login password 'pw'")
    c = Cluster("keys-gate", auth="scram", attach=pg.conninfo()).start()
    with login(c, "alice", "pw") as w:
        expect_equal(w.ask("select current_user, session_user"), [("alice", "alice")], "who we are")
    refused(c, "alice", "wrong")
    c.stop()


@case("with trust whoever comes is let in as whom he says, if Postgres knows him", 60)
def trust(_c):
    c = Cluster("trust").start()
    with c.direct() as db:
        db.execute("create role carl login")
    with Wire(HOST, c.port).login("carl", c.db) as w:
        expect_equal(rows(w.query("select current_user")), [("carl",)], "who we are")
    try:
        Wire(HOST, c.port).login("nobody_here", c.db)
        raise Fail("nobody_here was let in")
    except Refused as e:
        expect_equal(e.fields["C"], "28000", f"the refusal ({e})")
    c.stop()


if __name__ == "__main__":
    main(setup, lambda c: c.stop())
