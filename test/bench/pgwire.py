"""Just enough of the Postgres protocol (v3, trust) to ask one question on one connection."""
import socket
import struct


class WireError(Exception):
    pass


class Client:
    def __init__(self, host, port, user, database, timeout_s):
        self.s = socket.create_connection((host, port), timeout_s)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = struct.pack("!i", 196608) + b"".join(
            x.encode() + b"\0" for x in ("user", user, "database", database)) + b"\0"
        self.s.sendall(struct.pack("!i", len(body) + 4) + body)
        self.until_ready()

    def query(self, sql):
        body = sql.encode() + b"\0"
        self.s.sendall(b"Q" + struct.pack("!i", len(body) + 4) + body)
        return self.until_ready()

    def until_ready(self):
        """The DataRow bodies up to ReadyForQuery."""
        rows = []
        while True:
            kind, size = struct.unpack("!ci", self.exactly(5))
            body = self.exactly(size - 4)
            if kind == b"E":
                raise WireError(body.replace(b"\0", b" ").decode(errors="replace"))
            if kind == b"R" and body[:4] != b"\0\0\0\0":
                raise WireError("the server wants a password; benchmarks use trust")
            if kind == b"D":
                rows.append(body)
            if kind == b"Z":
                return rows

    def exactly(self, n):
        got = b""
        while len(got) < n:
            if not (more := self.s.recv(n - len(got))):
                raise WireError("connection closed")
            got += more
        return got

    def close(self):
        self.s.close()


def answers(host, port, user, database, timeout_s=2):
    """Whether a query is answered now."""
    try:
        c = Client(host, port, user, database, timeout_s)
    except (OSError, WireError):
        return False
    try:
        return bool(c.query("select 1"))
    except (OSError, WireError):
        return False
    finally:
        c.close()
