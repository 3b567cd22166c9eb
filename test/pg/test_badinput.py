#!/usr/bin/python3
"""Bytes that no good client sends. Each is told what is wrong, or cut off; nobody else notices."""
import os
import random
import socket
import struct
import time

import harness
from harness import (HOST, SSL_REQUEST, SYNC, Cluster, Closed, Fail, Wire, bind, case, cstr, errors, execute, expect, expect_equal,
                     main, message, parse, query, rows, rss_kb, startup)

S = {}


def setup():
    c = Cluster("bad").start()
    S["good"] = c.wire()
    S["held"] = c.wire()
    S["held"].ask("begin")
    S["held"].ask("create temp table mine as select 5 as i")
    S["node"] = c.node
    return c


def undisturbed(c):
    """The bystanders, one in a transaction, are served as before, by the same process."""
    expect_equal(S["good"].ask("select 'fine'"), [("fine",)], "a bystander")
    expect_equal(S["held"].ask("select i from mine"), [("5",)], "a bystander in a transaction")
    expect_equal(c.node, S["node"], "the node's pid")


def first(c, data, seconds=8):
    """Sends data as the first bytes; gives what came until the server closed."""
    with Wire(HOST, c.port, seconds) as w:
        try:
            w.send(data)
            return w.to_end()
        except Closed:
            return w.log
        except struct.error:
            return []


def told(messages, code, what):
    e = errors(messages)
    expect(e, f"{what}: closed without a word")
    expect_equal((e[0]["C"], e[0]["S"]), (code, "FATAL"), f"{what} ({e[0].get('M')})")


@case("startup packets of a wrong length are cut off")
def lengths(c):
    for n in (0, 1, 4, 7, 10005, 1 << 20, 0x7fffffff, 0x80000000, 0xffffffff):
        end = first(c, struct.pack("!I", n) + b"\0\3\0\0" + b"x" * 20)
        expect(all(m.kind == "E" for m in end), f"length {n}: {end}")
    undisturbed(c)


@case("startup packets of nonsense are refused as in Postgres")
def nonsense(c):
    def packet(body):
        return struct.pack("!I", len(body) + 4) + body
    v3 = struct.pack("!I", 0x30000)
    for body, code in ((struct.pack("!I", 0x20000) + cstr("user") + cstr("x") + b"\0", "0A000"),
                       (struct.pack("!I", 0x40000) + b"\0", "0A000"), (struct.pack("!I", 0) + b"\0", "0A000"),
                       (v3 + cstr("user") + b"postgres", "08P01"), (v3 + b"\0", "28000"), (v3, "08P01"),
                       (v3 + cstr("user") + cstr("") + b"\0", "28000"), (v3 + cstr("user") + cstr("postgres") + b"\0\0\0", "08P01"),
                       (v3 + cstr("user") + cstr("postgres") + cstr("replication") + cstr("maybe") + b"\0", "22023"),
                       (v3 + cstr("user") + cstr(c.user) + cstr("nosuchsetting") + cstr("1") + b"\0", "42704"),
                       (v3 + cstr("user") + cstr(c.user) + cstr("work_mem") + cstr("tiny") + b"\0", "22023"),
                       (v3 + cstr("user") + cstr(c.user) + cstr("options") + cstr("-Z") + b"\0", "42601")):
        told(first(c, packet(body)), code, f"{body[:40]!r}")
    with Wire(HOST, c.port) as w:  # very long but allowed
        w.login(c.user, c.db, application_name="a" * 9000)
        expect_equal(w.params["application_name"], "a" * 63, "a long name is cut")
    undisturbed(c)


@case("what isn't Postgres's protocol at all is cut off")
def foreign(c):
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n", b"\0" * 64,
                 b"\xff" * 64, b"*1\r\n$4\r\nPING\r\n", SSL_REQUEST[:4] + b"\0\0\0\1"):
        first(c, data)
    undisturbed(c)


@case("a client that sends half a startup packet holds up nobody")
def half(c):
    held = []
    for n in (0, 1, 3, 4, 7, 8, 12):
        w = Wire(HOST, c.port)
        w.send(startup(c.user, c.db)[:n])
        held.append(w)
    undisturbed(c)
    c.serving()
    for w in held:
        w.cut()


@case("bad cancel requests do nothing and are answered with nothing")
def cancels(c):
    for data in (struct.pack("!III", 12, 80877102, 1), struct.pack("!IIII", 16, 80877102, S["good"].pid, 12345),
                 struct.pack("!II", 8, 80877102), struct.pack("!III", 12 + 300, 80877102, 1) + b"x" * 300,
                 struct.pack("!IIII", 16, 80877102, 0xffffffff, 0)):
        expect_equal([m for m in first(c, data) if m.kind != "E"], [], "an answer")
    undisturbed(c)


@case("messages of impossible lengths are protocol violations")
def messages(c):
    for kind, n, code in (("Q", 0, "08P01"), ("Q", 3, "08P01"), ("Q", 0xffffffff, "08P01"), ("Q", 0x80000000, "08P01"),
                          ("Q", 0x40000001, "08P01"), ("P", 2, "08P01"), ("S", 0x7fffffff, "08P01"), ("C", 0x100000, "08P01"),
                          ("E", 20000, "08P01"), ("H", 0xfffffffe, "08P01"), ("d", 1, "08P01")):
        with c.wire() as w:
            at = len(w.log)
            w.send(kind.encode() + struct.pack("!I", n) + b"xxxx")
            end = w.to_end(8)
            del end[:max(0, at - len(w.log))]
            told(end, code, f"{kind} of length {n}")
    undisturbed(c)


@case("unknown message types are protocol violations")
def types(c):
    for kind in ("z", "a", "\0", "\x7f", "R", "T", "p", "1", "\xff"):
        with c.wire() as w:
            w.send(kind.encode("latin-1") + struct.pack("!I", 8) + b"abcd")
            told(w.to_end(8), "08P01", f"type {kind!r}")
    undisturbed(c)


@case("messages with a nonsense body get Postgres's error, and the connection goes on")
def bodies(c):
    many = struct.pack("!H", 65535)
    for m in (message("B", b""), message("B", b"\0\0" + many), message("P", b"x"),
              message("P", b"\0select 1\0" + many), message("D", b""), message("D", b"X\0"), message("E", b""), message("E", b"\0\0"),
              message("C", b"Q\0"), message("B", b"\0\0\0\0\0\1\x7f\xff\xff\xff\0\0"), message("B", b"\0" * 7 + b"xxxxx"),
              message("P", cstr("") + cstr("select $1 +") + b"\0\0"), message("B", b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0")):
        with c.wire() as w:
            w.send(parse("select 1"), SYNC)
            w.until()
            w.send(m, SYNC)
            got = w.until("Z")
            e = errors(got)
            expect(e and len(e) == 1 and e[0]["S"] == "ERROR", f"{m[:30]!r}: {got}")
            expect_equal(w.ask("select 2"), [("2",)], "afterwards")
    undisturbed(c)


@case("a Query without its zero, with zeros inside, and with invalid UTF-8, as in Postgres")
def texts(c):
    with c.wire() as w:
        w.send(message("Q", b"select 1"))
        e = errors(w.until("ZE"))
        expect(e and e[0]["C"] == "08P01", f"no zero: {e}")
    with c.wire() as w:
        w.send(message("Q", b"select 1\0select 2\0"))
        e = errors(w.until("ZE"))
        expect(e and e[0]["C"] == "08P01", f"a zero inside: {e}")
    with c.wire() as w:
        w.send(query(b"select '\xff\xfe'"))
        expect_equal([e["C"] for e in errors(w.until())], ["22021"], "invalid UTF-8")
        w.send(parse("select $1::text"), bind([b"\xff"]), execute(), SYNC)
        expect_equal([e["C"] for e in errors(w.until())], ["22021"], "an invalid parameter")
        w.send(query(b""))
        expect_equal([m.kind for m in w.until()], ["I", "Z"], "an empty query")
    undisturbed(c)


@case("a huge statement works; one too huge is refused; memory comes back", 120)
def huge(c):
    with c.wire() as w:
        for size in (100_000, 262_140, 262_150, 1_048_570, 1_048_580, 5_000_000):
            text = "x" * size
            expect_equal(w.ask(f"select length('{text}')", 60), [(str(size),)], f"a text of {size}")
            w.send(parse("select length($1)"), bind([text]), execute(), SYNC)
            expect_equal(rows(w.until("Z", seconds=60)), [(str(size),)], f"a parameter of {size}")
            w.send(parse(f"select length('{text}')"), bind(), execute(), SYNC)
            expect_equal(rows(w.until("Z", seconds=60)), [(str(size),)], f"a parsed text of {size}")
    before = rss_kb(c.node)
    held = [c.wire() for _ in range(40)]
    for w in held:  # a gigabyte announced by each, 100 kB sent
        w.send(b"Q" + struct.pack("!I", 0x3ffffff0) + b"select '" + b"x" * 100_000)
    time.sleep(1)
    grown = rss_kb(c.node) - before
    expect(grown < 60_000, f"announcing is enough to make the node grow by {grown} kB")
    for w in held:
        w.cut()
    undisturbed(c)


@case("garbage in the middle of good traffic, seeded, only ends its own connection", 120)
def fuzz(c):
    seed = int(os.environ.get("SEED", "1"))
    r = random.Random(seed)
    good = [query("select 1"), parse("select $1::int") + bind(["7"]) + execute() + SYNC, query("copy (select 1) to stdout"),
            query("begin") + query("rollback"), parse("select 1", "s") + SYNC, message("X")]
    for n in range(250):
        w = Wire(HOST, c.port, 5)
        try:
            data = bytearray(startup(c.user, c.db) + b"".join(r.choice(good) for _ in range(r.randrange(1, 4))))
            for _ in range(r.randrange(1, 6)):
                at = r.randrange(len(data))
                how = r.randrange(4)
                if how == 0:
                    data[at] ^= 1 << r.randrange(8)
                elif how == 1:
                    del data[at:at + r.randrange(1, 9)]
                elif how == 2:
                    data[at:at] = r.randbytes(r.randrange(1, 9))
                else:
                    data[at:at + 4] = struct.pack("!I", r.choice((0, 1, 4, 5, 255, 0x7fffffff, 0xffffffff)))
                if not data:
                    data = bytearray(b"\0")
            w.sock.sendall(bytes(data))
            w.sock.shutdown(socket.SHUT_WR)
            w.sock.settimeout(5)
            while w.sock.recv(65536):
                pass
        except (ConnectionError, BrokenPipeError):
            pass
        except socket.timeout:
            raise Fail(f"seed {seed}, number {n}: not closed though the client had closed its side: {bytes(data)!r}")
        finally:
            w.cut()
    undisturbed(c)


@case("nothing was left behind")
def end(c):
    undisturbed(c)
    S["held"].ask("rollback")
    S["held"].cut()
    S["good"].cut()
    c.pools_settled()


if __name__ == "__main__":
    main(setup, lambda c: c.stop())
