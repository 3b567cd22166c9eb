"""The servers under test: a Postgres of our own, PgBouncer and Multigres in front of it, all on 127.0.0.1 with trust."""
import os
import re
import shutil
import time

import pgwire
import proc
from proc import BenchError

USER = "bench"
HOST = "127.0.0.1"
WIDE = 100  # backends of the pools that have one for each client
MAX_CLIENTS = 6000


class Server:
    """Something to connect to. `pids` are the processes whose cost is the proxy's, none for Postgres itself."""

    def __init__(self, name, process, port, database=USER, pids=()):
        self.name, self.process, self.port, self.database, self.pids = name, process, port, database, list(pids)

    def wait(self, deadline_s=30):
        proc.wait_until(lambda: pgwire.answers(HOST, self.port, USER, self.database), self.process, deadline_s)
        return self

    def conninfo(self):
        return f"host={HOST} port={self.port} user={USER} dbname={self.database}"


def bindir():
    command = shutil.which("pg_config")
    found = [proc.command([command, "--bindir"]).strip()] if command else []
    base = "/usr/lib/postgresql"
    versions = sorted(filter(str.isdigit, os.listdir(base)), key=int, reverse=True) if os.path.isdir(base) else []
    for path in found + [f"{base}/{v}/bin" for v in versions]:
        if os.access(f"{path}/initdb", os.X_OK):
            return path
    raise BenchError("no Postgres server is installed (scripts/setup test)")


def postgres(scratch):
    """A fresh cluster made for reading: nothing is flushed, nothing runs in the background."""
    data, port = scratch.mkdir("pg"), scratch.port()
    proc.command(scratch.drop([f"{bindir()}/initdb", "-D", data, "-U", USER, "-A", "trust", "-N", "--locale=C",
                               "-E", "UTF8"]), cwd=scratch.dir)
    settings = {"listen_addresses": HOST, "port": port, "unix_socket_directories": data, "max_connections": 4 * WIDE,
                "shared_buffers": "256MB", "fsync": "off", "autovacuum": "off", "jit": "off",
                "checkpoint_timeout": "1h", "max_wal_size": "4GB", "max_wal_senders": 0}
    argv = [f"{bindir()}/postgres", "-D", data, *(x for k, v in settings.items() for x in ("-c", f"{k}={v}"))]
    p = scratch.start("postgres", argv, unprivileged=True)
    server = Server("direct", p, port, "postgres").wait()
    sql(server, f"create database {USER}")
    server.database = USER
    return server


def fill(server, scale):
    """pgbench's tables, and a table of 1,000 rows of about 100 bytes."""
    proc.command(["pgbench", "-i", "-q", "-s", str(scale), "-h", HOST, "-p", str(server.port), "-U", USER, USER])
    sql(server, "create table wide as select i, repeat(md5(i::text), 3) as filler from generate_series(1, 1000) i")
    sql(server, "vacuum analyze")
    sql(server, "checkpoint")


def sql(server, text):
    proc.command(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", server.conninfo(), "-c", text])


def pgbouncer(scratch, postgres_, pool_size):
    """Returns two databases of one PgBouncer: in transaction mode, and in session mode with a wide pool."""
    program = pgbouncer_program()
    port = scratch.port()
    target = f"host={HOST} port={postgres_.port} dbname={USER} user={USER}"
    users = scratch.write("users.txt", f'"{USER}" ""\n')
    config = scratch.write("pgbouncer.ini", f"""\
[databases]
{USER} = {target} pool_mode=transaction pool_size={pool_size}
session = {target} pool_mode=session pool_size={WIDE}
[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
max_client_conn = {MAX_CLIENTS}
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
server_lifetime = 86400
server_idle_timeout = 86400
""")
    p = scratch.start("pgbouncer", [program, "-q", config], unprivileged=True)
    return [Server("pgbouncer", p, port, database, [p.pid]).wait() for database in (USER, "session")]


def pgbouncer_program():
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")  # sbin isn't in a user's path
    if not program:
        raise BenchError("pgbouncer isn't installed (scripts/setup test)")
    return program


def multigres_missing():
    """Why Multigres can't be measured yet, or nothing."""
    if not os.path.exists("supervisor/multigres_main.c"):
        return "Multigres isn't built yet (no supervisor/multigres_main.c): its column is left out"
    return ""


def multigres(scratch, name, *options, workers=None, deadline_s=60):
    """`multigres dev` as a user starts it; waits for its line `ready URL`. Processes: the parent and its node."""
    program = os.path.abspath(proc.make("multigres"))
    port = scratch.port()
    argv = [program, "dev", "--data", os.path.join(scratch.dir, name), "--listen", f"{HOST}:{port}",
            "--http", f"{HOST}:{scratch.port()}", "--control", f"{HOST}:{scratch.port()}", *options]
    if workers:
        argv += ["--workers", str(workers)]
    p = scratch.start(name, argv)
    url = proc.wait_until(lambda: re.search(r"^ready (.*)$", proc.tail(p.log, 1000), re.M), p, deadline_s).group(1)
    user, database = credentials(url)
    return Server("multigres", p, port, database, proc.tree(p.pid)), user


def credentials(url):
    """User and database of the URL in the ready line; ours where it names none."""
    found = re.search(r"postgres(?:ql)?://(?:([^:@/\s]+)(?::[^@\s]*)?@)?[^/\s]+(?:/([^?\s]+))?", url)
    user, database = found.groups() if found else (None, None)
    return user or USER, database or user or USER


def attached(scratch, name, postgres_, pool_size, workers):
    """Multigres in front of our Postgres, like PgBouncer."""
    server, _ = multigres(scratch, name, "--attach", postgres_.conninfo(), "--pool-size", str(pool_size), workers=workers)
    server.database = USER
    return server.wait()


def versions():
    """What the figures were measured on."""
    pg = proc.command([f"{bindir()}/postgres", "--version"]).strip()
    bouncer = proc.command([pgbouncer_program(), "-V"]).splitlines()[0]
    return f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {pg}, {bouncer}, {time.strftime('%Y-%m-%d')}"
