#!/usr/bin/python3
"""--attach: a gate in front of a Postgres that was there before, as its superuser and as a lesser role."""
import threading
import time

import psycopg

from harness import (HOST, Cluster, Fail, Postgres, Refused, Wire, case, errors, expect, expect_equal, main, mgctl, rows,
                     wait_until)

S = {}


def setup():
    pg = S["pg"] = Postgres("attached", hba="local all all trust\nhost all postgres all trust\nhost all gate all trust\n"
                            "host all all all scram-sha-256\n")
    with pg.connect() as db:
        db.execute("create role gate login")
        db.execute("create role alice login password 'pw'")
        db.execute("create database shop")
    return Cluster("attach", attach=pg.conninfo(dbname="shop")).start()


@case("it serves that Postgres and runs none of its own")
def serves(c):
    with c.wire(database="shop") as w, S["pg"].connect(dbname="shop") as db:
        w.ask("create table seen (i int)")
        w.ask("insert into seen values (7)")
        expect_equal(db.execute("select i from seen").fetchall(), [(7,)], "seen on the other side")
    expect(not c.postmaster(), "a Postgres runs in our data directory")
    expect_equal(c.get("/readyz")[0], 200, "/readyz")
    expect("shop" in c.url, f"the URL names the database: {c.url}")


@case("users and databases are Postgres's own")
def users(c):
    with c.wire(user="gate", database="postgres") as w:
        expect_equal(w.ask("select current_user, current_database()"), [("gate", "postgres")], "who and where")
    for user, database, code in (("nobody_here", "shop", "28000"), ("gate", "nowhere", "3D000")):
        try:
            c.wire(user=user, database=database).cut()
            raise Fail(f"{user} was let in to {database}")
        except Refused as e:
            expect(e.fields["C"] in (code, "28P01"), f"{user} in {database}: {e}")


@case("with trust, a user whose password Postgres wants is told so, as Postgres would")
def password(c):
    try:
        c.wire(user="alice", database="shop").cut()
        raise Fail("alice was let in")
    except Refused as e:
        expect(e.fields["C"] in ("28P01", "28000", "08001", "08006"), f"the refusal: {e}")
        expect_equal(e.fields["S"], "FATAL", "severity")
    c.wire(database="shop").cut()


@case("settings of the startup packet reach Postgres, and the label of its users is right")
def settings(c):
    with c.wire(database="shop", application_name="attached-app", options="-c search_path=pg_catalog", DateStyle="German") as w:
        expect_equal(w.ask("show application_name"), [("attached-app",)], "application_name")
        expect_equal(w.ask("show search_path"), [("pg_catalog",)], "search_path")
        expect_equal(w.ask("select date '2020-02-01'::text"), [("01.02.2020",)], "DateStyle")
        expect_equal(w.params["application_name"], "attached-app", "as reported")


@case("a Postgres that is restarted is found again, and who waits is served", 90)
def restarted(c):
    pg = S["pg"]
    with c.wire(database="shop") as before:
        before.ask("select 1")
        pg.stop("immediate")
        got = []

        def client():
            try:
                with Wire(HOST, c.port, seconds=40) as w:
                    w.login(c.user, "shop")
                    got.append(w.ask("select 3"))
            except Exception as e:
                got.append(e)
        expect(wait_until(lambda: c.get("/readyz")[0] == 503, 10, "readyz saying no"), "")
        t = threading.Thread(target=client, daemon=True)
        t.start()
        time.sleep(0.5)
        pg.start()
        t.join(45)
        ok = got and (got[0] == [("3",)] or isinstance(got[0], Refused) and got[0].fields["C"] in ("57P03", "08006", "08001"))
        expect(ok, f"a client who came while it was down: {got}")
        wait_until(lambda: c.get("/readyz")[0] == 200, 20, "readyz saying yes")
        after = before.query("select 4")
        expect(rows(after) == [("4",)] or errors(after), f"the session from before: {after}")
    with c.wire(database="shop") as w:
        expect_equal(w.ask("select 5"), [("5",)], "a new client")


@case("stopping leaves the attached Postgres and its connections clean", 60)
def leaves(_c):
    pg = S["pg"]
    c = Cluster("leaving", attach=pg.conninfo(dbname="shop")).start()
    with c.wire(database="shop", application_name="leaver") as w:
        w.ask("begin")
        w.ask("create table half (i int)")
        c.stop()
    with pg.connect(dbname="shop") as db:
        expect_equal(db.execute("select to_regclass('half')").fetchone(), (None,), "the transaction rolled back")
        wait_until(lambda: db.execute("select count(*) from pg_stat_activity where application_name = 'leaver'").fetchone() == (0,),
                   10, "its connections gone")


@case("a lesser role serves whoever Postgres trusts, and status works", 60)
def lesser(_c):
    c = Cluster("lesser", attach=S["pg"].conninfo(user="gate", dbname="shop")).start()
    with c.wire(user="gate", database="shop") as w:
        expect_equal(w.ask("select current_user"), [("gate",)], "who we are")
    code, _, err = mgctl("status", node=f"{HOST}:{c.control}")
    expect_equal(code, 0, f"mgctl status ({err})")
    c.stop()


@case("a wrong CONNINFO is an error at start that names what is wrong", 60)
def wrong(_c):
    for conninfo, word in (("host=127.0.0.1 nonsense=1", "nonsense"), ("host='unfinished", ""), ("postgresql://[", "")):
        c = Cluster("wrong", attach=conninfo)
        try:
            c.start(20)
            raise SystemError(f"it serves {conninfo}")
        except Fail:
            expect(c.process and c.process.poll() not in (None, 0), f"{conninfo}: it goes on without serving")
            expect(word in c.log.text() and c.log.text().strip(), f"{conninfo}: it said {c.log.text()[-300:]}")


@case("a Postgres that can't be reached: an error that says why, or readyz that does", 60)
def unreachable(_c):
    from harness import free_port
    port = free_port()
    c = Cluster("unreachable", attach=f"host={HOST} port={port} user=postgres dbname=postgres")
    c.spawn()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if c.process.poll() is not None:
            expect(c.process.returncode > 0, "it ended with 0")
            break
        try:
            code, text = c.get("/readyz")
            expect(code == 503, f"readyz says {code}")
            expect("refused" in text.lower() or str(port) in text or "tablet" in text, f"readyz doesn't say why: {text}")
            if str(port) in c.log.text() or "refused" in c.log.text():
                break
        except OSError:
            pass
        time.sleep(0.2)
    text = c.log.text()
    expect(str(port) in text or "refused" in text, f"the log doesn't say why: {text[-400:]}")
    with open(c.out) as f:
        expect("ready " not in f.read(), "it said it was ready")


if __name__ == "__main__":
    main(setup, lambda c: c.stop())
