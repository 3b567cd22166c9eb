"""What the tests of a whole server share: cases and their deadlines, a cluster of our own, a plain Postgres, raw clients.

A test file is a program. It declares its checks with @case("a sentence") and ends in main(); each prints `ok NAME` or
`not ok NAME - why`, followed by the ends of the logs concerned, indented. Nothing here waits without a deadline, and
whatever was started is ended at exit, however that comes about. Only processes started here are ever signalled.
"""
import atexit
import base64
import glob
import hashlib
import hmac
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

try:
    import psycopg  # noqa: F401
except ImportError:  # another Python than Debian's, which has it
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3"] + sys.argv)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MULTIGRES = os.environ.get("MULTIGRES") or os.path.join(ROOT, "build", "multigres")
MGCTL = os.environ.get("MGCTL") or os.path.join(os.path.dirname(MULTIGRES), "mgctl")
PGBIN = os.environ.get("PGBIN") or "/usr/lib/postgresql/15/bin"
HOST = "127.0.0.1"
START_S, STOP_S, WAIT_S = 90, 30, 15  # to serve, to stop, for one answer

for _name in list(os.environ):  # the tests say what they mean
    if _name.startswith(("MULTIGRES_", "PG")) and _name not in ("PGBIN",):
        del os.environ[_name]
os.environ["MULTIGRES"], os.environ["MGCTL"] = MULTIGRES, MGCTL
sys.dont_write_bytecode = True


class Fail(Exception):
    """What a check found wrong."""


def expect(true, why):
    if not true:
        raise Fail(why() if callable(why) else why)


def expect_equal(got, want, what):
    if got != want:
        raise Fail(f"{what}: {got!r} instead of {want!r}")


def wait_until(find, seconds, what, every=0.02):
    """The first true value of find(), which may raise while it isn't there."""
    end, last = time.monotonic() + seconds, None
    while True:
        try:
            found = find()
            if found:
                return found
        except (OSError, Fail, ValueError) as e:
            last = e
        if time.monotonic() > end:
            raise Fail(f"{what} didn't happen within {seconds} s" + (f" ({last})" if last else ""))
        time.sleep(every)


# ---- cases ------------------------------------------------------------------------------------------------------------

_cases, _notes = [], []


def case(name, seconds=60):
    def add(run):
        _cases.append((name, seconds, run))
        return run
    return add


def note(text):
    """Something worth reading next to the results, on stderr."""
    print(f"# {text}", file=sys.stderr, flush=True)


class Skip(Exception):
    pass


def _alarm(_sig, _frame):
    raise Fail("the case didn't end before its deadline")


def main(setup=None, teardown=None):
    """Runs the cases named in argv (part of a name is enough), or all. setup's result is the argument of each."""
    signal.signal(signal.SIGALRM, _alarm)
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, lambda s, _f: sys.exit(128 + s))
    words = [w for w in sys.argv[1:] if not w.startswith("-")]
    failed, given = 0, ()
    if not os.access(MULTIGRES, os.X_OK):
        print(f"not ok {os.path.basename(sys.argv[0])} - {MULTIGRES} isn't built (make)")
        sys.exit(1)
    try:
        if setup:
            signal.alarm(START_S + 60)
            given = (setup(),)
            signal.alarm(0)
    except Exception as e:
        signal.alarm(0)
        print(f"not ok {os.path.basename(sys.argv[0])} starts what it needs - {_line(e)}")
        _tails()
        sys.exit(1)
    for name, seconds, run in _cases:
        if words and not any(w in name for w in words):
            continue
        began = time.monotonic()
        for log in _logs:
            log.mark()
        try:
            signal.alarm(seconds)
            run(*given)
            signal.alarm(0)
            print(f"ok {name}", flush=True)
        except Skip as e:
            signal.alarm(0)
            print(f"skip {name} - {e}", flush=True)
        except Exception as e:
            signal.alarm(0)
            failed += 1
            print(f"not ok {name} - {_line(e)}", flush=True)
            at = traceback.extract_tb(e.__traceback__)
            for f in at[-5:]:
                print(f"    {os.path.basename(f.filename)}:{f.lineno} {f.line}")
            _tails()
        if os.environ.get("HARNESS_TIMES"):
            note(f"{time.monotonic() - began:.1f} s {name}")
    signal.alarm(60)
    if teardown:
        try:
            teardown(*given)
        except Exception as e:
            failed += 1
            print(f"not ok {os.path.basename(sys.argv[0])} stops what it started - {_line(e)}")
            _tails()
    cleanup()
    sys.exit(1 if failed else 0)


def _line(e):
    text = str(e) or type(e).__name__
    if not isinstance(e, Fail):
        text = f"{type(e).__name__}: {text}"
    return " | ".join(text.strip().splitlines())[:600]


class Log:
    def __init__(self, path):
        self.path, self.at = path, 0
        _logs.append(self)

    def mark(self):
        self.at = os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def text(self, since=0):
        try:
            with open(self.path, errors="replace") as f:
                f.seek(since)
                return f.read()
        except OSError:
            return ""


_logs = []


def _tails():
    for log in _logs:
        lines = log.text(log.at).splitlines()[-12:]
        if lines:
            print(f"    {os.path.basename(log.path)}:")
            for line in lines:
                print(f"      {line[:240]}")
    sys.stdout.flush()


# ---- things that are ended at exit ------------------------------------------------------------------------------------

_things, _dirs = [], []


def cleanup():
    while _things:
        thing = _things.pop()
        try:
            thing.end()
        except Exception as e:
            note(f"clean-up: {_line(e)}")
    while _dirs:
        if os.environ.get("KEEP_TMP"):
            note(f"kept {_dirs.pop()}")
        else:
            shutil.rmtree(_dirs.pop(), ignore_errors=True)


atexit.register(cleanup)


def scratch(name="test"):
    """A directory that Postgres's unprivileged user can reach, removed at exit."""
    path = tempfile.mkdtemp(prefix=f"multigres-{name}.")
    os.chmod(path, 0o755)
    _dirs.append(path)
    return path


_ports = set()


def free_port():
    for _ in range(500):
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((HOST, port))
                s.listen(1)
            except OSError:
                continue
        if port not in _ports:
            _ports.add(port)
            return port
    raise Fail("no free port between 20000 and 32000")


# ---- processes --------------------------------------------------------------------------------------------------------

def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def children(pid):
    found = []
    for task in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(task) as f:
                found += [int(x) for x in f.read().split()]
        except OSError:
            pass
    return found


def is_multigres(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe").split(" (deleted)")[0] == os.path.realpath(MULTIGRES)
    except OSError:
        return False


def rss_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


def kill(pid, sig=signal.SIGKILL):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def postgres_user():
    """As whom Postgres runs: ourselves, or `postgres` when we are root."""
    if os.getuid():
        return None
    return pwd.getpwnam("postgres")


def as_postgres(argv, **kw):
    user = postgres_user()
    if user:
        argv = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"] + argv
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=90, cwd="/", **kw)


def postmaster(directory):
    """The postmaster working under a directory: (pid, port, socket directory), or nothing."""
    for path in glob.glob(os.path.join(directory, "**", "postmaster.pid"), recursive=True):
        try:
            with open(path) as f:
                lines = f.read().splitlines()
            pid = int(lines[0])
            if os.readlink(f"/proc/{pid}/cwd") == os.path.dirname(os.path.realpath(path)) and alive(pid):
                return pid, int(lines[3]), lines[4]
        except (OSError, IndexError, ValueError):
            pass
    return None


class Cluster:
    """`multigres dev` in a directory of its own."""

    def __init__(self, name="dev", *options, workers=2, pool=10, auth="trust", attach=None, data=None, env=None):
        self.dir = scratch(name)
        self.data = data or os.path.join(self.dir, "data")
        self.port, self.http, self.control, self.pg_port = (free_port() for _ in range(4))
        self.options = ["--workers", str(workers), "--pool-size", str(pool), "--auth", auth, *options]
        if attach:
            self.options += ["--attach", attach]
        self.env, self.process, self.url, self.user, self.db = env, None, "", "postgres", "postgres"
        self.log = Log(os.path.join(self.dir, f"{name}.log"))
        self.out = os.path.join(self.dir, f"{name}.out")
        _things.append(self)

    def argv(self):
        return [MULTIGRES, "dev", "--data", self.data, "--listen", f"{HOST}:{self.port}", "--http",
                f"{HOST}:{self.http}", "--control", f"{HOST}:{self.control}", "--pg-port", str(self.pg_port),
                *self.options]

    def spawn(self):
        with open(self.out, "ab") as out, open(self.log.path, "ab") as log:
            self.out_at = out.tell()
            self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                                            cwd=self.dir, env={**os.environ, **(self.env or {})})
        return self

    def start(self, seconds=START_S):
        self.spawn()

        def ready():
            with open(self.out) as f:
                f.seek(self.out_at)
                found = re.search(r"^ready (\S+)", f.read(), re.M)
            if not found and self.process.poll() is not None:
                raise SystemError(f"multigres dev ended with {self.process.returncode} before it served")
            return found and found.group(1)
        try:
            self.url = wait_until(ready, seconds, "the ready line")
        except SystemError as e:
            raise Fail(str(e))
        found = re.match(r"postgres(?:ql)?://(?:([^:@/]+)(?::[^@]*)?@)?([^:/]+):(\d+)/([^?\s]*)", self.url)
        expect(found, f"not a URL: {self.url}")
        self.user, self.db = found.group(1) or self.user, found.group(4) or self.user
        return self

    @property
    def parent(self):
        return self.process.pid

    @property
    def node(self):
        for _ in range(5):  # the kernel's list of children may leave one out while another ends
            for pid in children(self.process.pid):
                if is_multigres(pid):
                    return pid
            time.sleep(0.01)
        return None

    def postmaster(self):
        return postmaster(self.data)

    def stop(self, sig=signal.SIGTERM, seconds=STOP_S):
        """In order; fails when it doesn't end, or not with 0."""
        process, self.process = self.process, None
        if not process:
            return
        process.send_signal(sig)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process = process
            raise Fail(f"signal {int(sig)} didn't stop it within {seconds} s")
        expect_equal(code, 0, "its exit code")

    def end(self):
        """At any price."""
        process, self.process = self.process, None
        if process and process.poll() is None:
            node = [p for p in children(process.pid) if is_multigres(p)]
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                note("multigres dev didn't stop, killed")
                process.kill()
                for pid in node:
                    kill(pid)
                process.wait(10)
        left = self.postmaster()
        if left:
            kill(left[0], signal.SIGQUIT)
            for _ in range(250):
                if not alive(left[0]):
                    break
                time.sleep(0.02)
            else:
                kill(left[0])

    def mgctl(self, *words, seconds=30, node=None):
        return mgctl(*words, node=node or f"{HOST}:{self.control}", seconds=seconds)

    def ask(self, *words):
        """mgctl --json, read. The actor that answers may have been killed by the test: it is given a moment."""
        for _ in range(40):
            code, out, err = self.mgctl("--json", *words)
            if "admin actor did not answer" not in err:
                break
            time.sleep(0.1)
        expect(code == 0, f"mgctl {' '.join(words)}: {code}, {err.strip()}")
        return json.loads(out)

    def actors(self):
        return self.ask("actors")

    def conninfo(self, **more):
        words = dict(host=HOST, port=self.port, user=self.user, dbname=self.db, connect_timeout=WAIT_S)
        words.update(more)
        return " ".join(f"{k}={v}" for k, v in words.items())

    def connect(self, autocommit=True, **more):
        import psycopg
        return psycopg.connect(self.conninfo(**more), autocommit=autocommit)

    def direct(self, autocommit=True, **more):
        """A connection past the gate, through Postgres's private socket (root and ourselves may enter it)."""
        import psycopg
        found = self.postmaster()
        expect(found, "Postgres isn't running")
        _pid, port, sockets = found
        words = dict(host=sockets, port=port, user=self.user, dbname=self.db, connect_timeout=WAIT_S)
        words.update(more)
        return psycopg.connect(" ".join(f"{k}={v}" for k, v in words.items()), autocommit=autocommit)

    def wire(self, **more):
        return Wire(HOST, self.port).login(more.pop("user", self.user), more.pop("database", self.db), **more)

    def direct_address(self):
        """Of Postgres's private socket, for Wire."""
        found = self.postmaster()
        expect(found, "Postgres isn't running")
        return found[2], found[1]

    def get(self, path, seconds=10):
        return http_get(f"http://{HOST}:{self.http}{path}", seconds)

    def serving(self):
        """One query through the gate, by a new client."""
        with Wire(HOST, self.port, seconds=5) as w:
            w.login(self.user, self.db)
            expect_equal(rows(w.query("select 41 + 1")), [("42",)], "select 41 + 1")
        return True

    def wait_serving(self, seconds=20):
        wait_until(self.serving, seconds, "serving", every=0.05)

    def pools_settled(self, seconds=10):
        """No backend is leased and nobody waits: nothing leaked. Gives pools' rows."""
        def settled():
            found = self.ask("pools")
            busy = [r for r in found if str(r.get("state", "")).upper() not in ("IDLE", "FREE", "")
                    or r.get("waiting") not in (None, 0, "", "0")]
            expect(not busy, lambda: f"{len(busy)} of {len(found)} backends aren't idle: {busy[:3]}")
            return (found,)
        return wait_until(settled, seconds, "every backend idle again", every=0.1)[0]


def mgctl(*words, node=None, seconds=30):
    p = subprocess.run([MGCTL, *(["--node", node] if node else []), *words], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=seconds)
    return p.returncode, p.stdout, p.stderr


def http_get(url, seconds=10):
    try:
        with urllib.request.urlopen(url, timeout=seconds) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode(errors="replace")


class Postgres:
    """A plain Postgres 15, for comparing and for --attach."""

    def __init__(self, name="plain", hba=None, **settings):
        self.dir = scratch(name)
        self.data, self.port = os.path.join(self.dir, "data"), free_port()
        self.user = self.db = "postgres"
        self.log = Log(os.path.join(self.dir, "log"))
        user = postgres_user()
        if user:
            os.chown(self.dir, user.pw_uid, user.pw_gid)
        _things.append(self)
        p = as_postgres([f"{PGBIN}/initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                         "--locale=C.UTF-8", "-N"])
        expect(p.returncode == 0, p.stdout)
        settings = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": self.dir, "fsync": "off",
                    "max_connections": 100, **settings}
        with open(f"{self.data}/postgresql.conf", "a") as f:
            f.writelines(f"{k} = '{v}'\n" for k, v in settings.items())
        if hba:
            with open(f"{self.data}/pg_hba.conf", "w") as f:
                f.write(hba)
        self.start()

    def start(self):
        p = as_postgres([f"{PGBIN}/pg_ctl", "-D", self.data, "-l", self.log.path, "-w", "-t", "60", "start"])
        expect(p.returncode == 0, lambda: p.stdout + self.log.text()[-500:])

    def stop(self, mode="fast"):
        as_postgres([f"{PGBIN}/pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "30", "stop"])

    def end(self):
        if postmaster(self.data):
            self.stop("immediate")

    def conninfo(self, **more):
        words = dict(host=HOST, port=self.port, user=self.user, dbname=self.db, connect_timeout=WAIT_S)
        words.update(more)
        return " ".join(f"{k}={v}" for k, v in words.items())

    def connect(self, autocommit=True, **more):
        import psycopg
        return psycopg.connect(self.conninfo(**more), autocommit=autocommit)

    def wire(self, **more):
        return Wire(HOST, self.port).login(more.pop("user", self.user), more.pop("database", self.db), **more)


# ---- the protocol, byte by byte ---------------------------------------------------------------------------------------

def message(kind, body=b""):
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def cstr(text):
    return (text if isinstance(text, bytes) else text.encode()) + b"\0"


def startup(user, database, version=0x30000, **settings):
    body = struct.pack("!I", version)
    for k, v in {"user": user, "database": database, **settings}.items():
        body += cstr(k.replace("__", "_pq_.", 1) if k.startswith("__") else k) + cstr(v)
    body += b"\0"
    return struct.pack("!I", len(body) + 4) + body


SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)


def cancel_request(pid, secret):
    return struct.pack("!III", 12 + len(secret), 80877102, pid) + secret


def query(sql):
    return message("Q", cstr(sql))


def parse(sql, name="", types=()):
    return message("P", cstr(name) + cstr(sql) + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(values=(), name="", portal="", formats=(), results=()):
    body = cstr(portal) + cstr(name) + struct.pack(f"!H{len(formats)}H", len(formats), *formats)
    body += struct.pack("!H", len(values))
    for v in values:
        v = v.encode() if isinstance(v, str) else v
        body += struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v
    return message("B", body + struct.pack(f"!H{len(results)}H", len(results), *results))


def describe(kind="P", name=""):
    return message("D", kind.encode() + cstr(name))


def execute(portal="", limit=0):
    return message("E", cstr(portal) + struct.pack("!I", limit))


def close(kind, name):
    return message("C", kind.encode() + cstr(name))


SYNC, FLUSH, TERMINATE = message("S"), message("H"), message("X")
COPY_DONE = message("c")


def copy_data(data):
    return message("d", data)


def copy_fail(why):
    return message("f", cstr(why))


class Message(tuple):
    """(type, body)"""

    @property
    def kind(self):
        return self[0]

    @property
    def body(self):
        return self[1]

    def fields(self):
        """Of an error or a notice."""
        return {p[:1].decode(): p[1:].decode(errors="replace") for p in self.body.split(b"\0") if p}

    def row(self):
        n, at, out = struct.unpack_from("!H", self.body)[0], 2, []
        for _ in range(n):
            size = struct.unpack_from("!i", self.body, at)[0]
            at += 4
            out.append(None if size < 0 else self.body[at:at + size].decode(errors="replace"))
            at += max(size, 0)
        return tuple(out)

    def tag(self):
        return self.body.rstrip(b"\0").decode()

    def __repr__(self):
        if self.kind in "EN" and self.body:
            return f"{self.kind}{self.fields()}"
        if self.kind == "D":
            return f"D{self.row()}"
        return f"{self.kind}{self.body[:80]!r}"


def rows(messages):
    return [m.row() for m in messages if m.kind == "D"]


def errors(messages):
    return [m.fields() for m in messages if m.kind == "E"]


class Closed(Fail):
    """The server closed the connection."""


class Refused(Fail):
    """The login failed; fields are the error's."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('S')} {fields.get('C')}: {fields.get('M')} {fields.get('D', '')}")
        self.fields = fields


class Wire:
    """A client that sends exactly the bytes it is told to, and keeps every message it gets in `log`."""

    def __init__(self, host, port, seconds=WAIT_S, buffer=None):
        """host may be a directory with Postgres's socket."""
        self.sock = socket.socket(socket.AF_UNIX if host.startswith("/") else socket.AF_INET)
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(seconds)
        self.seconds, self.buf, self.log, self.pid, self.secret, self.params = seconds, bytearray(), [], 0, b"", {}
        try:
            self.address = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
            self.sock.connect(self.address)
        except OSError:
            self.sock.close()
            raise
        if not host.startswith("/"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()

    def send(self, *parts):
        try:
            self.sock.sendall(b"".join(parts))
        except socket.timeout:
            raise Fail(f"sending got stuck for {self.seconds} s")
        except OSError as e:
            raise Closed(f"sending: {e}")
        return self

    def _more(self, end):
        left = end - time.monotonic()
        if left <= 0:
            raise Fail(f"no answer within {self.seconds} s")
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(262144)
        except socket.timeout:
            raise Fail(f"no answer within {self.seconds} s; so far {self.log[-4:]}")
        except OSError as e:
            raise Closed(f"reading: {e}")
        finally:
            self.sock.settimeout(self.seconds)
        if not data:
            raise Closed(f"the server closed; so far {self.log[-4:]}")
        self.buf += data

    def read_bytes(self, n, seconds=None):
        end = time.monotonic() + (seconds or self.seconds)
        while len(self.buf) < n:
            self._more(end)
        out = bytes(self.buf[:n])
        del self.buf[:n]
        return out

    def read(self, seconds=None):
        end = time.monotonic() + (seconds or self.seconds)
        while len(self.buf) < 5 or len(self.buf) < 1 + struct.unpack_from("!I", self.buf, 1)[0]:
            if len(self.buf) >= 5 and struct.unpack_from("!I", self.buf, 1)[0] < 4:
                raise Fail(f"a message that is none came: {bytes(self.buf[:20])!r}")
            self._more(end)
        n = 1 + struct.unpack_from("!I", self.buf, 1)[0]
        m = Message((chr(self.buf[0]), bytes(self.buf[5:n])))
        del self.buf[:n]
        self.log.append(m)
        return m

    def until(self, kinds="Z", count=1, seconds=None):
        """Messages up to and with the count-th of one of the kinds."""
        out, end = [], time.monotonic() + (seconds or self.seconds)
        while count:
            out.append(self.read(max(0.001, end - time.monotonic())))
            count -= out[-1].kind in kinds
        return out

    def to_end(self, seconds=None):
        """Everything up to the server's closing."""
        out, end = [], time.monotonic() + (seconds or self.seconds)
        while True:
            try:
                out.append(self.read(max(0.001, end - time.monotonic())))
            except Closed:
                return out

    def silent(self, seconds):
        """Nothing comes for so long."""
        self.sock.settimeout(seconds)
        try:
            if not self.buf:
                data = self.sock.recv(4096)
                self.buf += data
                expect(data, "the server closed")
            raise Fail(f"something came: {bytes(self.buf[:60])!r}")
        except socket.timeout:
            pass
        finally:
            self.sock.settimeout(self.seconds)

    def query(self, sql, seconds=None):
        self.send(query(sql))
        return self.until("Z", seconds=seconds)

    def ask(self, sql, seconds=None):
        """Rows, or Fail with the error."""
        found = self.query(sql, seconds)
        if errors(found):
            raise Refused(errors(found)[0])
        return rows(found)

    def tls(self, context=None, name=None):
        import ssl
        self.send(SSL_REQUEST)
        answer = self.read_bytes(1)
        expect(answer == b"S", f"SSLRequest was answered with {answer!r}")
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
        return self

    def login(self, user, database, password=None, version=0x30000, **settings):
        self.send(startup(user, database, version, **settings))
        return self.login_rest(user, password)

    def login_rest(self, user, password=None):
        scram = None
        while True:
            m = self.read()
            if m.kind == "E":
                raise Refused(m.fields())
            if m.kind == "K":
                self.pid, self.secret = struct.unpack_from("!I", m.body)[0], m.body[4:]
            elif m.kind == "S":
                name, value = m.body.split(b"\0")[:2]
                self.params[name.decode()] = value.decode()
            elif m.kind == "Z":
                return self
            elif m.kind == "R":
                how = struct.unpack_from("!I", m.body)[0]
                if how == 10:
                    self.mechanisms = [x.decode() for x in m.body[4:].split(b"\0") if x]
                    expect(password is not None, "a password was asked for")
                    scram = Scram(password)
                    first = scram.first()
                    self.send(message("p", cstr("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
                elif how == 11:
                    self.send(message("p", scram.final(m.body[4:])))
                elif how == 12:
                    scram.verify(m.body[4:])
                else:
                    expect(how == 0, f"authentication request {how}")

    def cancel(self, secret=None, pid=None):
        with socket.socket(self.sock.family) as s:
            s.settimeout(WAIT_S)
            s.connect(self.address)
            s.sendall(cancel_request(self.pid if pid is None else pid, self.secret if secret is None else secret))
            return s.recv(100)

    def cut(self, hard=False):
        """Closes without a word; hard: with a reset."""
        try:
            if hard:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        except OSError:
            pass

    def bye(self):
        self.send(TERMINATE)
        self.sock.close()


class Scram:
    """The client of RFC 5802 with SHA-256, without channel binding."""

    def __init__(self, password):
        self.password, self.nonce = password.encode(), base64.b64encode(os.urandom(18)).decode()

    def first(self):
        self.bare = f"n=,r={self.nonce}"
        return f"n,,{self.bare}".encode()

    def final(self, server_first):
        text = server_first.decode()
        got = dict(p.split("=", 1) for p in text.split(","))
        expect(got["r"].startswith(self.nonce), "the server's nonce doesn't begin with ours")
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(got["s"]), int(got["i"]))
        client = hmac.new(salted, b"Client Key", "sha256").digest()
        without = f"c=biws,r={got['r']}"
        auth = f"{self.bare},{text},{without}".encode()
        signature = hmac.new(hashlib.sha256(client).digest(), auth, "sha256").digest()
        self.server = hmac.new(hmac.new(salted, b"Server Key", "sha256").digest(), auth, "sha256").digest()
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client, signature))).decode()
        return f"{without},p={proof}".encode()

    def verify(self, server_final):
        expect_equal(server_final.decode(), "v=" + base64.b64encode(self.server).decode(), "the server's signature")


# ---- load -------------------------------------------------------------------------------------------------------------

class Workers:
    """Threads that run until told to stop; what one raises is what `stop` raises."""

    def __init__(self):
        self.threads, self.stopping, self.failures, self.lock = [], threading.Event(), [], threading.Lock()

    def add(self, run, *args):
        def body():
            try:
                run(*args)
            except Exception as e:
                with self.lock:
                    self.failures.append(f"{_line(e)} [{traceback.extract_tb(e.__traceback__)[-1].lineno}]")
        t = threading.Thread(target=body, daemon=True)
        self.threads.append(t)
        t.start()

    def stop(self, seconds=30):
        self.stopping.set()
        end = time.monotonic() + seconds
        for t in self.threads:
            t.join(max(0.01, end - time.monotonic()))
        stuck = sum(t.is_alive() for t in self.threads)
        expect(not self.failures, lambda: f"{len(self.failures)} clients failed: {'; '.join(self.failures[:4])}")
        expect(not stuck, f"{stuck} of {len(self.threads)} clients are stuck")
